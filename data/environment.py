"""Versions, machine, git commit and peak memory, as a run records them."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "tensorflow", "keras", "jax", "torch", "numpy", "scipy", "nibabel", "pydicom", "highdicom",
    "joblib", "scikit-image", "scikit-learn",
)  # fmt: skip


def list_packages() -> dict[str, str]:
    """Return the versions of the installed packages that can change a result."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def describe_commit() -> str | None:
    """Return the commit of the code, with `+changes`, or None without git."""
    root = Path(__file__).resolve().parent.parent
    call = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        answer = subprocess.run(call, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def read_processor_name() -> str:
    """Return the processor's model name as the system gives it."""
    names = _read_cpuinfo("model name")
    return names[0] if names else platform.processor() or platform.machine()


def read_processor_flags() -> set[str]:
    """Return the processor's features as Linux lists them ("avx2", ...)."""
    return set(" ".join(_read_cpuinfo("flags")).split())


def _read_cpuinfo(key: str) -> list[str]:
    """Return what Linux says of each core under a key; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]


def count_cores() -> int:
    """Count the cores this process may use, which may be few of all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reset_peak_memory() -> None:
    """Let `read_peak_memory` begin anew; only Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def read_peak_memory() -> float:
    """Return the largest resident memory in MiB since `reset_peak_memory`.

    Where the system cannot reset it, since the process began. GPU memory does not count.
    """
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        peak_line = next(line for line in lines if line.startswith("VmHWM"))
        return round(int(peak_line.split()[1]) / 2**10, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def describe_environment() -> dict[str, Any]:
    """Return what is recorded of the surroundings, ready for JSON."""
    return {
        "python": platform.python_version(),
        "packages": list_packages(),
        "keras_backend": sys.modules["keras"].backend.backend() if "keras" in sys.modules else None,
        "git_commit": describe_commit(),
        "system": platform.system(),
        "processor": read_processor_name(),
        "cores": count_cores(),
    }
