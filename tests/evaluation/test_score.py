"""evaluation.score on folders of files: the official figures again, in any container; the corrected ones by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from tests.conftest import Command
from tests.evaluation.metrics.test_lits import CONTENT, VOLUMES, scene

SET = "set-043"


def save(path: Path, labels: np.ndarray, spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)) -> None:
    """Write labels under an affine of this spacing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), np.diag([*spacing_mm, 1.0])), path)


def write_set(folder: Path, name: str = SET, suffix: str = ".nii.gz") -> tuple[Path, Path]:
    """Write a data set as two folders of files; return (reference, prediction)."""
    for case in CONTENT["sets"][name]["cases"]:
        for kind in ("ref", "pred"):
            labels = VOLUMES[f"{name}/{case['key']}/{kind}"]
            save(folder / kind / f"{case['key']}{suffix}", labels, case["spacing"])
    return folder / "ref", folder / "pred"


def score(run_module: Command, folders: tuple[Path, Path], out: Path, *flags: object) -> Any:
    return run_module(
        "evaluation.score",
        "--reference",
        folders[0],
        "--prediction",
        folders[1],
        "--out",
        out,
        *flags,
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_files_give_the_figures_of_the_script(
    tmp_path: Path, run_module: Command, suffix: str
) -> None:
    out = tmp_path / "new" / "scores.json"
    done = score(run_module, write_set(tmp_path, suffix=suffix), out)
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads(out.read_text())
    assert {name: f"{value:.3f}" for name, value in content["total"].items()} == CONTENT["sets"][
        SET
    ]["text"]
    assert (content["schema"], content["mode"]) == (2, "official")
    cases = [case["key"] for case in CONTENT["sets"][SET]["cases"]]
    assert [case["case"] for case in content["cases"]] == cases
    rows = read_rows(out.with_suffix(".csv"))
    assert [row["case"] for row in rows] == [*cases, "total"]
    for row, figures in zip(
        rows, [*(case["figures"] for case in content["cases"]), content["total"]], strict=True
    ):
        assert [name for name in row if name in figures] == CONTENT["metrics"]
        assert {name: float(row[name]) for name in figures} == figures


NOT_FOUND = {
    "dice": 0,
    "jaccard": 0,
    "voe": 1,
    "rvd": 9001,
    "assd": 9001,
    "rmsd": 9001,
    "msd": 9001,
}


def write_by_hand(folder: Path) -> tuple[Path, Path]:
    """Three cases of 1 x 2 x 3 mm: lesions found, missed and false; no lesion anywhere; no liver predicted."""
    without, reference = scene()  # a liver of 1 x 4 x 10; three lesions of 2 voxels
    prediction = without.copy()
    prediction[0, 1:3, 1] = 2  # exact
    prediction[0, 1:4, 4] = 2  # a voxel too many, at 2 mm
    prediction[0, 2:4, 9] = 2  # nothing there
    cases = {
        "a": (reference, prediction),
        "b": (without, without),
        "c": (without, np.zeros_like(without)),
    }
    for name, pair in cases.items():
        for kind, labels in zip(("ref", "pred"), pair, strict=True):
            save(folder / kind / f"{name}.nii.gz", labels, (1.0, 2.0, 3.0))
    return folder / "ref", folder / "pred"


# 3 lesions, 3 predicted, 2 of them right; two matches, one exact, one of 3 voxels on 2: 0, 0, 2 and 0, 0 mm
LESIONS_OF_A = {
    **{
        f"lesion_{name}{which}": 2 / 3
        for which in ("", "_greater_zero")
        for name in ("precision", "recall")
    },
    "lesion_dice": (1 + 4 / 5) / 2,
    "lesion_jaccard": (1 + 2 / 3) / 2,
    "lesion_voe": (0 + 1 / 3) / 2,
    "lesion_rvd": (0 + 1 / 2) / 2,
    "lesion_assd": (0 + 2 / 5) / 2,
    "lesion_rmsd": (0 + (4 / 5) ** 0.5) / 2,
    "lesion_msd": (0 + 2) / 2,
    "lesion_dice_global": 8 / 13,
}
BURDENS = np.array([6 / 40 - 7 / 40, 0, -9001])
TOTAL_BY_HAND = {
    **LESIONS_OF_A,
    "lesion_dice_per_case": (8 / 13 + 1 + 1) / 3,
    "liver_dice": 2 / 3,
    "liver_jaccard": 2 / 3,
    "liver_voe": 1 / 3,
    **{f"liver_{name}": 9001 / 3 for name in ("rvd", "assd", "rmsd", "msd")},
    "liver_dice_per_case": 2 / 3,
    "liver_dice_global": 2 * 80 / (80 + 120),
    "RMSE_Tumorburden": (np.sum(BURDENS**2) / 3) ** 0.5,
    "MAXERROR_Tumorburden": 0,
}
NO_LESION = {
    **{
        f"lesion_{name}{which}": 1
        for which in ("", "_greater_zero")
        for name in ("precision", "recall")
    },
    **{"lesion_dice": 1, "lesion_jaccard": 1, "lesion_voe": 0, "lesion_rvd": 0},
    **{"lesion_assd": None, "lesion_rmsd": None, "lesion_msd": None},
    **{"lesion_dice_per_case": 1, "lesion_dice_global": 1},
}


def test_corrected_figures_by_hand(tmp_path: Path, run_module: Command) -> None:
    folders = write_by_hand(tmp_path)
    done = score(run_module, folders, tmp_path / "a.json", "--mode", "corrected", "--jobs", "2")
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["mode"] == "corrected"
    assert content["total"] == pytest.approx(TOTAL_BY_HAND)
    assert list(content["total"]) == CONTENT["metrics"]
    assert content["beside"] == pytest.approx({"lesion_f1": 2 / 3, "lesion_f1_greater_zero": 2 / 3})
    a, b, c = (case["figures"] for case in content["cases"])
    assert {name: a[name] for name in LESIONS_OF_A} == pytest.approx(LESIONS_OF_A)
    assert {name: b[name] for name in NO_LESION} == NO_LESION
    assert {name: c[name] for name in NO_LESION} == NO_LESION  # no lesion there either
    assert {name: c[f"liver_{name}"] for name in NOT_FOUND} == NOT_FOUND
    assert [case["hits"] for case in content["cases"]] == [2, 0, 0]
    rows = read_rows(tmp_path / "a.csv")
    assert [row["case"] for row in rows] == ["a", "b", "c", "total"]
    assert [(row["n_reference"], row["n_prediction"], row["hits"]) for row in rows] == [
        ("3", "3", "2"),
        ("0", "0", "0"),
        ("0", "0", "0"),
        ("3", "3", "2"),
    ]
    assert (rows[1]["lesion_assd"], rows[1]["lesion_dice"], rows[1]["lesion_f1"]) == (
        "",
        "1.0",
        "1.0",
    )
    assert float(rows[3]["lesion_recall"]) == pytest.approx(2 / 3)
    assert float(rows[3]["liver_dice"]) == pytest.approx(2 / 3)


def test_a_figure_that_does_not_exist(tmp_path: Path, run_module: Command) -> None:
    """No lesion in any case: null, an empty cell, `none`; in mode official the script's 9001."""
    without, _ = scene()
    for kind in ("ref", "pred"):
        save(tmp_path / kind / "b.nii", without)
    done = score(
        run_module,
        (tmp_path / "ref", tmp_path / "pred"),
        tmp_path / "b.json",
        "--mode",
        "corrected",
    )
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines() if "lesion_assd" in line] == [
        ["lesion_assd", "none"]
    ]
    content = json.loads((tmp_path / "b.json").read_text())
    assert {name: content["total"][name] for name in NO_LESION} == NO_LESION
    assert [row["lesion_msd"] for row in read_rows(tmp_path / "b.csv")] == ["", ""]
    score(run_module, (tmp_path / "ref", tmp_path / "pred"), tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text())["total"]["lesion_assd"] == 9001


@pytest.mark.parametrize("name", [SET, "set-005"])
def test_the_same_anatomy_in_other_axes_scores_the_same(
    tmp_path: Path, run_module: Command, name: str
) -> None:
    """Axes permuted and flipped with their affine: every corrected figure stays; distances follow the spacing."""
    folders = write_set(tmp_path / "as it was", name)
    for path in [path for folder in folders for path in folder.iterdir()]:
        image = nib.load(path)
        turned = image.as_reoriented(
            ornt_transform(io_orientation(image.affine), axcodes2ornt(("I", "R", "P")))
        )
        assert turned.shape == (image.shape[2], *image.shape[:2])
        target = tmp_path / "turned" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nib.save(turned, target)
    totals = []
    for which in ("as it was", "turned"):
        done = score(
            run_module,
            (tmp_path / which / "ref", tmp_path / which / "pred"),
            tmp_path / "s.json",
            "--mode=corrected",
        )
        assert done.returncode == 0, done.stderr
        totals.append(json.loads((tmp_path / "s.json").read_text())["total"])
    assert totals[1] == pytest.approx(totals[0])


def test_a_surplus_prediction_is_noted_and_left_out(tmp_path: Path, run_module: Command) -> None:
    folders = write_set(tmp_path)
    score(run_module, folders, tmp_path / "a.json")
    (folders[1] / "case-9.nii.gz").write_text("no volume at all")
    done = score(run_module, folders, tmp_path / "b.json")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert (
        line
        == f"evaluation.score: {folders[1]}: left out, as no reference has its name: case-9.nii.gz"
    )
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_from_predict_to_score(tmp_path: Path, run_module: Command) -> None:
    """LiTS' folder as reference, CT beside the labels; predictions by the names that evaluation.predict gives."""
    _, reference = scene()
    for number in (4, 11):
        save(tmp_path / "lits" / f"segmentation-{number}.nii", reference)
        save(tmp_path / "lits" / f"volume-{number}.nii", np.full_like(reference, 60))  # a CT
        save(tmp_path / "predicted" / f"volume-{number}.nii.gz", reference)
    done = score(run_module, (tmp_path / "lits", tmp_path / "predicted"), tmp_path / "s.json")
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads((tmp_path / "s.json").read_text())
    assert [case["case"] for case in content["cases"]] == ["segmentation-11", "segmentation-4"]
    assert content["total"]["lesion_recall"] == 1


def test_affines_that_differ_may_be_ignored(tmp_path: Path, run_module: Command) -> None:
    """The reference's spacing is taken."""
    folders = write_by_hand(tmp_path)
    for path in folders[1].iterdir():
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([-9.0, 9.0, 9.0, 1.0])), path)
    assert score(run_module, folders, tmp_path / "a.json").returncode == 2
    done = score(run_module, folders, tmp_path / "a.json", "--ignore-affine", "--mode", "corrected")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "a.json").read_text())["total"] == pytest.approx(TOTAL_BY_HAND)
