"""What evaluation.score refuses: one line on standard error, exit code 2, nothing written."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from data.command import run_command
from evaluation.score import main
from tests.conftest import Command
from tests.data.test_volumes import with_field
from tests.evaluation.test_score import Folders, score, write_set

CASE = "case-0.nii.gz"


def _change(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)


def _set_value(value: float) -> Callable[[Path], None]:
    def change(labels: np.ndarray) -> np.ndarray:
        labels = labels.astype(np.float32)
        labels[0, 0, 0] = value
        return labels

    return lambda path: _change(path, change)


def _scale(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine * 1.5), path)


def _set_pixdim(path: Path) -> None:
    """Another spacing in the header, under the same affine."""
    image = nib.load(path)
    plain = path.with_name("plain.nii")
    nib.save(image, plain)
    with_field(plain, "pixdim", 1, 5.0)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _empty_folder(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def _write_twice(path: Path) -> None:
    nib.save(nib.load(path), path.with_name("case-0.nii"))


def _spoil_two(path: Path) -> None:
    _set_value(3)(path)
    path.with_name("case-1.nii.gz").write_text("x")


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "infinity": (_set_value(np.inf), f"{CASE}: labels must be 0, 1 or 2, it holds inf"),
    "minus infinity": (_set_value(-np.inf), f"{CASE}: labels must be 0, 1 or 2, it holds -inf"),
    "NaN": (_set_value(np.nan), f"{CASE}: labels must be 0, 1 or 2, it holds nan"),
    "half a label": (_set_value(0.5), f"{CASE}: labels must be 0, 1 or 2, it holds 0.5"),
    "label": (_set_value(3), f"{CASE}: labels must be 0, 1 or 2, it holds 3"),
    "negative": (_set_value(-1), f"{CASE}: labels must be 0, 1 or 2, it holds -1"),
    "4-D": (
        lambda path: _change(path, lambda labels: labels[..., None]),
        f"{CASE}: a volume must have 3 axes",
    ),
    "text": (lambda path: path.write_text("x"), f"{CASE}: not a NIfTI file"),
    "truncated": (_truncate, f"{CASE}: the voxels cannot be read; truncated?"),
    "twice": (_write_twice, f"{CASE}: case-0.nii is there too"),
    "empty folder": (_empty_folder, ": no .nii or .nii.gz file in it"),
    "two bad cases": (
        _spoil_two,
        f"{CASE}: labels must be 0, 1 or 2, it holds 3 (and 1 more cannot be used: case-1)",
    ),
}
OF_A_PAIR: dict[str, tuple[Callable[[Path], Any], str]] = {
    "shape": (lambda path: _change(path, lambda labels: labels[1:]), f"{CASE}: its shape"),
    "affine": (_scale, "(--ignore-affine takes it voxel for voxel)"),
}
OF_THE_PREDICTION: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: path.unlink(), "pred: no prediction case-0.nii[.gz] for"),
    "misnamed": (
        lambda path: path.rename(path.with_name("case-O.nii.gz")),
        "; case-O.nii.gz without a reference",
    ),
    "spacing": (_set_pixdim, f"{CASE}: its spacing of"),
}
OF_THE_REFERENCE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "spacing": (_set_pixdim, f"{CASE}: its spacing must be that of its affine, pixdim says"),
    "no liver": (
        lambda path: _change(path, np.zeros_like),
        f"{CASE}: the reference must hold liver",
    ),
}
CASES = [
    pytest.param(kind, damage, message, id=f"{kind}: {name}")
    for kind, faults in (
        ("pred", [*FAULTS.items(), *OF_A_PAIR.items(), *OF_THE_PREDICTION.items()]),
        ("ref", [*FAULTS.items(), *OF_A_PAIR.items(), *OF_THE_REFERENCE.items()]),
    )
    for name, (damage, message) in faults
]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command as `run_module` does, in this process: no start of Python for each fault."""

    def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr("sys.argv", [module, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command(main, module)
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(str(ended.value.code)), out, err)

    return run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_set(tmp_path_factory.mktemp("set"))


def check_refused(done: Any, message: str, tmp_path: Path) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("evaluation.score: ")
    assert not [path for path in tmp_path.rglob("*") if "scores" in path.name and path.is_file()]


@pytest.mark.parametrize(("kind", "damage", "message"), CASES)
def test_bad_files(
    run_here: Command, tmp_path: Path, kind: str, damage: Callable[[Path], Any], message: str
) -> None:
    folders = write_set(tmp_path)
    damage(tmp_path / kind / CASE)
    check_refused(score(run_here, folders, tmp_path / "scores.json"), message, tmp_path)


def test_infinity_is_one_line_of_the_command_itself(tmp_path: Path, run_module: Command) -> None:
    """In this process a warning of NumPy's would be an error; there it would be printed."""
    folders = write_set(tmp_path)
    _set_value(np.inf)(folders[1] / CASE)
    check_refused(score(run_module, folders, tmp_path / "scores.json"), "it holds inf", tmp_path)


def test_bad_cases_in_parallel(tmp_path: Path, run_module: Command) -> None:
    reference, prediction = write_set(tmp_path)
    _spoil_two(prediction / CASE)
    done = score(run_module, (reference, prediction), tmp_path / "scores.json", "--jobs", "2")
    check_refused(done, "it holds 3 (and 1 more cannot be used: case-1)", tmp_path)


@pytest.mark.parametrize("jobs", ["0", "-5", "-1", "two", "1.5"])
def test_jobs(tmp_path: Path, run_here: Command, folders: Folders, jobs: str) -> None:
    done = score(run_here, folders, tmp_path / "scores.json", "--jobs", jobs)
    check_refused(
        done, f"argument --jobs: must be a whole number of at least 1, got '{jobs}'", tmp_path
    )


def test_where_to_write(tmp_path: Path, run_here: Command, folders: Folders) -> None:
    for name, rule in (("scores.txt", "must end in .json"), ("scores", "must end in .json")):
        check_refused(score(run_here, folders, tmp_path / name), rule, tmp_path)
    for taken in ("scores.json", "scores.csv"):
        (tmp_path / taken).mkdir()
        done = score(run_here, folders, tmp_path / "scores.json")
        check_refused(done, f"{tmp_path / taken}: is a folder, not a file", tmp_path)
        (tmp_path / taken).rmdir()
    (tmp_path / "file").touch()
    done = score(run_here, folders, tmp_path / "file" / "new" / "scores.json")
    check_refused(done, "lies in what is a file", tmp_path)


def test_other_refusals(tmp_path: Path, run_here: Command, folders: Folders) -> None:
    done = score(run_here, (tmp_path / "nowhere", folders[1]), tmp_path / "scores.json")
    check_refused(done, "nowhere: no such folder", tmp_path)
    done = score(run_here, folders, tmp_path / "scores.json", "--mode", "other")
    check_refused(done, "argument --mode: invalid choice: 'other'", tmp_path)
