"""Every command: help and mistakes are answered at once, without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_layout import FILES, name_module

COMMANDS = [
    name_module(path).removesuffix(".__main__")
    for path in FILES
    if path.name == "__main__.py" or 'if __name__ == "__main__":' in path.read_text("utf-8")
]
# pydicom is not among them, because nibabel loads it.
HEAVY = ("tensorflow", "keras", "skimage", "sklearn", "matplotlib", "highdicom")
MOST_CPU_S = 1.5
RUN = f"""
import atexit, runpy, sys, time

def report():
    loaded = [name for name in {HEAVY} if name in sys.modules]
    print(f"loaded: {{loaded}}, {{time.process_time():.2f}} s", file=sys.stderr)

atexit.register(report)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
# What is missing, and the flags that name it.
MISSING_FOLDERS = {
    "data.prepare": "--source {0} --store {0}/store",
    "training.one_step": "--store {0} --run {0}/run",
    "training.liver": "--store {0} --run {0}/run",
    "training.tumor": "--store {0} --run {0}/run",
    "training.joint": "--store {0} --run {0}/run",
    "training.system": "--store {0} --run {0}/run --name segnet",
    "evaluation.predict": "--run {0} --input {0} --output {0}/labels",
    "evaluation.evaluate": "--store {0} --run {0} --out {0}/out",
    "evaluation.tables": "--out {0}",
    "evaluation.figures": "--out {0}",
    "evaluation.report": "--out {0}",
    "evaluation.score": "--reference {0} --prediction {0} --out {0}/scores.json",
}


def run_command(module: str, *flags: str) -> tuple[int, str, str]:
    """Run a command, which must load nothing heavy; return its exit code, output and errors."""
    call = [sys.executable, "-c", RUN, module, *flags]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    *errors, loaded = done.stderr.splitlines(keepends=True)
    assert loaded.startswith("loaded: [], "), f"{module}: {loaded}"
    assert float(loaded.split()[-2]) < MOST_CPU_S, f"{module}: {loaded}"
    return done.returncode, done.stdout, "".join(errors)


@pytest.mark.parametrize("module", COMMANDS)
def test_help_ends_with_an_example(module: str) -> None:
    code, output, errors = run_command(module, "--help")
    assert (code, errors) == (0, "")
    _, example = output.split("\nexample:\n")
    assert f"python -m {module} " in example + " "


@pytest.mark.parametrize("module", [name for name in COMMANDS if name != "data.stages"])
def test_a_misspelt_flag_is_named(module: str) -> None:
    code, output, errors = run_command(module, "--no-such-flagg", "1")
    assert (code, output) == (2, "")
    assert "--no-such-flagg: no such flag" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("module", MISSING_FOLDERS)
def test_a_missing_folder_is_named(module: str, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    code, output, errors = run_command(module, *MISSING_FOLDERS[module].format(missing).split())
    assert (code, output) == (2, "")
    assert str(missing) in errors
    assert errors.count("\n") == 1
    assert not missing.exists()
