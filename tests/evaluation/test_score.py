"""evaluation.score on folders of files: the official figures again, in any container; every refusal."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import Command
from tests.evaluation.test_lits_scoring import CONTENT, VOLUMES

SET = "set-043"


def write_set(folder: Path, name: str = SET, suffix: str = ".nii.gz") -> tuple[Path, Path]:
    """Write a data set as two folders of files; return (reference, prediction)."""
    for case in CONTENT["sets"][name]["cases"]:
        for kind in ("ref", "pred"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            affine = np.diag([*case["spacing"], 1.0])
            image = nib.Nifti1Image(VOLUMES[f"{name}/{case['key']}/{kind}"], affine)
            nib.save(image, folder / kind / f"{case['key']}{suffix}")
    return folder / "ref", folder / "pred"


def score(run_module: Command, folders: tuple[Path, Path], out: Path, *flags: object) -> Any:
    return run_module("evaluation.score", "--reference", folders[0], "--prediction", folders[1], "--out", out, *flags)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_files_give_the_figures_of_the_script(tmp_path: Path, run_module: Command, suffix: str) -> None:
    out = tmp_path / "scores.json"
    done = score(run_module, write_set(tmp_path, suffix=suffix), out)
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    assert {name: f"{value:.3f}" for name, value in content["total"].items()} == CONTENT["sets"][SET]["text"]
    assert content["mode"] == "official"
    cases = [case["key"] for case in CONTENT["sets"][SET]["cases"]]
    assert [case["case"] for case in content["cases"]] == cases
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == cases
    assert float(rows[0]["liver_dice"]) == pytest.approx(content["cases"][0]["liver_dice"])


def test_parallel_and_corrected(tmp_path: Path, run_module: Command) -> None:
    folders = write_set(tmp_path)
    (folders[1] / "surplus.nii.gz").write_bytes(
        (folders[1] / "case-0.nii.gz").read_bytes()
    )  # ignored, as by the script
    done = score(run_module, folders, tmp_path / "a.json", "--mode", "corrected", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["mode"] == "corrected"
    assert all(case["hits"] >= 0 for case in content["cases"])


def _spacing(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine * 1.5), path)


def _value(path: Path, value: float) -> None:
    image = nib.load(path)
    array = np.asarray(image.dataobj).astype(np.float32)
    array[0, 0, 0] = value
    nib.save(nib.Nifti1Image(array, image.affine), path)


def _shape(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[1:], image.affine), path)


def _empty(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def _twice(path: Path) -> None:
    nib.save(nib.load(path), path.with_name("case-0.nii"))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "pred: no prediction case-0.nii[.gz] for"),
    "shape": (_shape, "case-0.nii.gz: its shape"),
    "spacing": (_spacing, "case-0.nii.gz: its affine is not that of case-0.nii.gz"),
    "label": (lambda path: _value(path, 3), "case-0.nii.gz: labels must be 0, 1 or 2, it holds 3"),
    "NaN": (lambda path: _value(path, np.nan), "case-0.nii.gz: labels must be 0, 1 or 2, it holds nan"),
    "text": (lambda path: path.write_text("x"), "case-0.nii.gz: not a NIfTI file"),
    "empty folder": (_empty, "pred: no .nii or .nii.gz file in it"),
    "twice": (_twice, "case-0.nii is there too"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_line(tmp_path: Path, run_module: Command, fault: str) -> None:
    folders = write_set(tmp_path)
    damage, message = FAULTS[fault]
    damage(folders[1] / "case-0.nii.gz")
    done = score(run_module, folders, tmp_path / "scores.json")
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("scores*"))


def test_other_refusals(tmp_path: Path, run_module: Command) -> None:
    folders = write_set(tmp_path, "set-014")
    done = score(run_module, folders, tmp_path / "scores.json")
    assert (done.returncode, "ref/" in done.stderr, "must hold liver" in done.stderr) == (2, True, True)
    done = score(run_module, folders, tmp_path / "scores.txt")
    assert "must end in .json" in done.stderr
    done = score(run_module, (tmp_path / "nowhere", folders[1]), tmp_path / "scores.json")
    assert "nowhere: no such folder" in done.stderr
