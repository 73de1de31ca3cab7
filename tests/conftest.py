"""A small cohort with an easy task: discs of liver (100 HU) with tumors (30 HU) inside."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data.store import Store

ROOT = Path(__file__).resolve().parent.parent
SIZE, SLICES, CASES = 32, 8, 6

Command = Callable[..., subprocess.CompletedProcess[str]]
TorchReference = Callable[..., dict[str, np.ndarray]]

DEEP_CASES, DEEP_SLICES = 9, 20
DEEP = ("--preset", "smoke", "--set-preset", f"size={SIZE}")
"""How the systems of other documents are trained in the tests."""
DEEP_VARIANT = "global_local_vae"

# As data.backend has it; JAX, which Keras imports where it is, would set a lower level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def draw_case(number: int, slices: int = SLICES) -> tuple[np.ndarray, np.ndarray]:
    """Return HU int16 and labels uint8, (x, y, z) in RAS+ order."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:SIZE, :SIZE]
    hu = rng.normal(-60, 10, (slices, SIZE, SIZE))
    label = np.zeros((slices, SIZE, SIZE), np.uint8)
    liver = (x - 11 - number % 3) ** 2 + (y - 16) ** 2 < 81
    tumor = (x - 10) ** 2 + (y - 15) ** 2 < 10
    for z in range(1, slices - 1):
        label[z][liver] = 1
        hu[z][liver] += 160
        if z % 2:
            label[z][liver & tumor] = 2
            hu[z][liver & tumor] -= 70
    return np.rint(hu).astype(np.int16).T, label.T


def write_cohort(folder: Path, cases: int, slices: int = SLICES) -> Path:
    """Write cases 100 and up into a folder in the LiTS layout."""
    affine = np.diag([-0.8, -0.8, 2.5, 1.0])
    for number in range(100, 100 + cases):
        hu, label = draw_case(number, slices)
        nib.save(nib.Nifti1Image(hu, affine), folder / f"volume-{number}.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), folder / f"segmentation-{number}.nii.gz")
    return folder


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the LiTS layout with `CASES` cases, numbers 100 and up."""
    return write_cohort(tmp_path_factory.mktemp("cohort"), CASES)


@pytest.fixture(scope="session")
def run_module() -> Command:
    """Run `python -m MODULE ARGUMENTS...` in the project's root and return what it did."""

    def run(
        module: str, *arguments: object, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def store(cohort: Path, run_module: Command, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The cohort as a store: four cases to train on, one to validate, one to test."""
    path = tmp_path_factory.mktemp("stores") / "store"
    arguments = (
        "--source",
        cohort,
        "--store",
        path,
        "--size",
        SIZE,
        "--test",
        105,
        "--validation",
        104,
    )
    done = run_module("data.prepare", *arguments)
    assert done.returncode == 0, done.stderr
    return Store.open(path)


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory, run_module: Command) -> Store:
    """Nine cases of 20 slices with clinical data: six train, one validates, two test."""
    source = write_cohort(tmp_path_factory.mktemp("deep"), DEEP_CASES, DEEP_SLICES)
    rows = [f"volume-{100 + k},{50 + k},{'yes' if k % 2 else 'no'}" for k in range(DEEP_CASES)]
    (source / "clinical.csv").write_text("\n".join(["case,age,cirrhosis", *rows, ""]))
    path = tmp_path_factory.mktemp("stores") / "store"
    sets = ("--test", "107,108", "--validation", 106)
    done = run_module("data.prepare", "--source", source, "--store", path, "--size", SIZE, *sets)
    assert done.returncode == 0, done.stderr
    return Store.open(path)


@pytest.fixture(scope="session")
def deep_run(deep: Store, tmp_path_factory: pytest.TempPathFactory, run_module: Command) -> Path:
    """A run directory with every system of the other documents and a variant."""
    path = tmp_path_factory.mktemp("runs") / "run"
    for name in ("all", DEEP_VARIANT):
        flags = ("--name", name, "--store", deep.path, "--run", path, *DEEP)
        done = run_module("training.system", *flags)
        assert done.returncode == 0, done.stderr
        assert "left out" not in done.stdout
    for record in path.glob("*/*/train/record.json"):
        content = json.loads(record.read_text())
        assert content["status"] in ("ok", "collapsed")
        # Whether a network finds anything after one epoch is a matter of the machine's arithmetic.
        record.write_text(json.dumps({**content, "status": "ok", "why": ""}))
    return path


@pytest.fixture
def torch_reference(tmp_path: Path) -> TorchReference:
    """Run Python code with PyTorch and return the arrays that it puts into its dict `results`.

    In a process of its own, since PyTorch and TensorFlow do not live in one; `given` are arrays (or
    paths) that the code finds under their names. Skips where PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed (tests/requirements-torch.txt)")

    def run(code: str, **given: object) -> dict[str, np.ndarray]:
        np.savez(
            tmp_path / "given.npz", **{name: np.asarray(value) for name, value in given.items()}
        )
        given_path = str(tmp_path / "given.npz")
        read = f"import numpy as np; globals().update(np.load({given_path!r})); results = {{}}"
        write = f"np.savez({str(tmp_path / 'results.npz')!r}, **results)"
        script = "\n".join([read, "import torch", textwrap.dedent(code), write])
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "results.npz") as results:
            return dict(results)

    return run
