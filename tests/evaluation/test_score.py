"""evaluation.score: official figures in any container; corrected ones and pairs by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.ndimage import gaussian_filter

from data.command import InputError
from evaluation.metrics.lits import pool_cases, score_case
from evaluation.score import find_volumes, pair_files, score_labels
from tests.conftest import Command
from tests.evaluation.metrics.test_lits import CONTENT, VOLUMES, scene

SET = "set-043"
Folders = tuple[Path, Path]


def save(path: Path, labels: np.ndarray, spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)) -> None:
    """Write labels under an affine of this spacing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), np.diag([*spacing_mm, 1.0])), path)


def write_set(folder: Path, name: str = SET, suffix: str = ".nii.gz") -> Folders:
    """Write a data set as two folders of files; return (reference, prediction)."""
    for case in CONTENT["sets"][name]["cases"]:
        for kind in ("ref", "pred"):
            labels = VOLUMES[f"{name}/{case['key']}/{kind}"]
            save(folder / kind / f"{case['key']}{suffix}", labels, case["spacing"])
    return folder / "ref", folder / "pred"


def score(run_module: Command, folders: Folders, out: Path, *flags: object) -> Any:
    """Call the command."""
    paths = ("--reference", folders[0], "--prediction", folders[1], "--out", out)
    return run_module("evaluation.score", *paths, *flags)


def read_scores(run_module: Command, folders: Folders, out: Path, *flags: object) -> Any:
    """Call the command, which must say nothing of a fault; return what it wrote as JSON."""
    done = score(run_module, folders, out, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(out.read_text())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_files_give_the_figures_of_the_script(
    tmp_path: Path, run_module: Command, suffix: str
) -> None:
    out = tmp_path / "new" / "scores.json"
    content = read_scores(run_module, write_set(tmp_path, suffix=suffix), out)
    figures = {name: f"{value:.3f}" for name, value in content["total"].items()}
    assert figures == CONTENT["sets"][SET]["text"]
    assert (content["schema"], content["mode"]) == (2, "official")
    cases = [case["key"] for case in CONTENT["sets"][SET]["cases"]]
    assert [case["case"] for case in content["cases"]] == cases
    table = pd.read_csv(out.with_suffix(".csv"), index_col="case")
    assert list(table.index) == [*cases, "total"]
    assert [name for name in table if name in content["total"]] == CONTENT["metrics"]
    expected = [*(case["figures"] for case in content["cases"]), content["total"]]
    assert table[CONTENT["metrics"]].to_dict("records") == expected


SHAPE = ("dice", "jaccard", "voe", "rvd", "assd", "rmsd", "msd")
NOT_FOUND = dict(zip(SHAPE, (0, 0, 1, 9001, 9001, 9001, 9001), strict=True))
RATES = [
    f"lesion_{name}{which}" for which in ("", "_greater_zero") for name in ("precision", "recall")
]


def write_by_hand(folder: Path) -> Folders:
    """Three cases of 1 x 2 x 3 mm: lesions of every outcome; no lesion; no liver found."""
    without, reference = scene()  # a liver of 1 x 4 x 10; three lesions of 2 voxels
    prediction = without.copy()
    prediction[0, 1:3, 1] = 2  # exact
    prediction[0, 1:4, 4] = 2  # a voxel too many, at 2 mm
    prediction[0, 2:4, 9] = 2  # nothing there
    nothing = np.zeros_like(without)
    cases = {"a": (reference, prediction), "b": (without, without), "c": (without, nothing)}
    for name, pair in cases.items():
        for kind, labels in zip(("ref", "pred"), pair, strict=True):
            save(folder / kind / f"{name}.nii.gz", labels, (1.0, 2.0, 3.0))
    return folder / "ref", folder / "pred"


# 3 lesions, 3 predicted, 2 of them right; two matches, one exact, one of 3 voxels on 2: 0, 0, 2
# and 0, 0 mm
LESIONS_OF_A = {
    **dict.fromkeys(RATES, 2 / 3),
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
    **dict.fromkeys(RATES, 1),
    **{"lesion_dice": 1, "lesion_jaccard": 1, "lesion_voe": 0, "lesion_rvd": 0},
    **{"lesion_assd": None, "lesion_rmsd": None, "lesion_msd": None},
    **{"lesion_dice_per_case": 1, "lesion_dice_global": 1},
}


def test_corrected_figures_by_hand(tmp_path: Path, run_module: Command) -> None:
    out = tmp_path / "a.json"
    flags = ("--mode", "corrected", "--jobs", "2")
    content = read_scores(run_module, write_by_hand(tmp_path), out, *flags)
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
    # As text: a count has no decimals, and what does not exist is an empty cell.
    table = pd.read_csv(out.with_suffix(".csv"), dtype=str, keep_default_na=False)
    assert list(table["case"]) == ["a", "b", "c", "total"]
    for name in ("n_reference", "n_prediction", "hits"):
        assert list(table[name]) == ["2" if name == "hits" else "3", "0", "0", table[name][0]]
    cells = table.loc[1, ["lesion_assd", "lesion_dice", "lesion_f1"]]
    assert list(cells) == ["", "1.0", "1.0"]
    for name in ("lesion_recall", "liver_dice"):
        assert float(table[name][3]) == pytest.approx(2 / 3)


def test_a_figure_that_does_not_exist(tmp_path: Path, run_module: Command) -> None:
    """No lesion in any case: null, an empty cell, `none`; in mode official the script's 9001."""
    without, _ = scene()
    folders, out = (tmp_path / "ref", tmp_path / "pred"), tmp_path / "b.json"
    for folder in folders:
        save(folder / "b.nii", without)
    done = score(run_module, folders, out, "--mode", "corrected")
    assert done.returncode == 0, done.stderr
    assert ["lesion_assd", "none"] in [line.split() for line in done.stdout.splitlines()]
    figures = json.loads(out.read_text())["total"]
    assert {name: figures[name] for name in NO_LESION} == NO_LESION
    assert pd.read_csv(out.with_suffix(".csv"))["lesion_msd"].isna().all()
    assert read_scores(run_module, folders, out)["total"]["lesion_assd"] == 9001


@pytest.mark.parametrize("name", [SET, "set-005"])
def test_the_same_anatomy_in_other_axes_scores_the_same(
    tmp_path: Path, run_module: Command, name: str
) -> None:
    """Axes permuted and flipped with their affine: every corrected figure stays."""
    folders = write_set(tmp_path / "as it was", name)
    for path in [path for folder in folders for path in folder.iterdir()]:
        image = nib.load(path)
        turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(("I", "R", "P")))
        turned = image.as_reoriented(turn)
        assert turned.shape == (image.shape[2], *image.shape[:2])
        target = tmp_path / "turned" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nib.save(turned, target)
    before, after = (
        read_scores(
            run_module,
            (tmp_path / which / "ref", tmp_path / which / "pred"),
            tmp_path / "s.json",
            "--mode=corrected",
        )
        for which in ("as it was", "turned")
    )
    assert after["total"] == pytest.approx(before["total"])


def test_a_surplus_prediction_is_noted_and_left_out(tmp_path: Path, run_module: Command) -> None:
    folders = write_set(tmp_path)
    score(run_module, folders, tmp_path / "a.json")
    (folders[1] / "case-9.nii.gz").write_text("no volume at all")
    done = score(run_module, folders, tmp_path / "b.json")
    assert done.returncode == 0
    note = f"{folders[1]}: left out, as no reference has its name: case-9.nii.gz"
    assert done.stderr == f"evaluation.score: {note}\n"
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_from_predict_to_score(tmp_path: Path, run_module: Command) -> None:
    """LiTS' folder as reference, CT beside the labels; predictions named by evaluation.predict."""
    _, reference = scene()
    for number in (4, 11):
        save(tmp_path / "lits" / f"segmentation-{number}.nii", reference)
        save(tmp_path / "lits" / f"volume-{number}.nii", np.full_like(reference, 60))  # a CT
        save(tmp_path / "predicted" / f"volume-{number}.nii.gz", reference)
    folders = tmp_path / "lits", tmp_path / "predicted"
    content = read_scores(run_module, folders, tmp_path / "s.json")
    assert [case["case"] for case in content["cases"]] == ["segmentation-11", "segmentation-4"]
    assert content["total"]["lesion_recall"] == 1


def test_affines_that_differ_may_be_ignored(tmp_path: Path, run_module: Command) -> None:
    """The reference's spacing is taken."""
    folders, out = write_by_hand(tmp_path), tmp_path / "a.json"
    for path in folders[1].iterdir():
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([-9.0, 9.0, 9.0, 1.0])), path)
    assert score(run_module, folders, out).returncode == 2
    content = read_scores(run_module, folders, out, "--ignore-affine", "--mode", "corrected")
    assert content["total"] == pytest.approx(TOTAL_BY_HAND)


def make_folders(tmp_path: Path, references: str, predictions: str) -> Folders:
    """Make two folders with empty files of these names, separated by spaces."""
    for kind, names in (("ref", references), ("pred", predictions)):
        (tmp_path / kind).mkdir()
        for name in names.split():
            (tmp_path / kind / name).touch()
    return tmp_path / "ref", tmp_path / "pred"


@pytest.mark.parametrize(
    ("references", "predictions", "expected", "surplus"),
    [
        ("a.nii b.nii.gz", "b.nii a.nii.gz", "a: a.nii a.nii.gz, b: b.nii.gz b.nii", []),
        ("a.nii", "a.nii b.nii notes.txt .a.nii", "a: a.nii a.nii", ["b.nii"]),
        # what evaluation.predict writes for volume-4 of LiTS
        (
            "segmentation-4.nii",
            "volume-4.nii.gz",
            "segmentation-4: segmentation-4.nii volume-4.nii.gz",
            [],
        ),
        (
            "segmentation-4.nii",
            "segmentation-4.nii",
            "segmentation-4: segmentation-4.nii segmentation-4.nii",
            [],
        ),
        # LiTS' folder itself as reference: the CT are no references
        (
            "segmentation-4.nii volume-4.nii volume-5.nii",
            "volume-4.nii volume-5.nii",
            "segmentation-4: segmentation-4.nii volume-4.nii",
            ["volume-5.nii"],
        ),
        # other names are as they are
        ("volume-4.nii", "volume-4.nii", "volume-4: volume-4.nii volume-4.nii", []),
        (
            "segmentation-4.nii volume-x.nii",
            "volume-4.nii volume-x.nii",
            "segmentation-4: segmentation-4.nii volume-4.nii, volume-x: volume-x.nii volume-x.nii",
            [],
        ),
    ],
)
def test_files_pair_by_name(
    tmp_path: Path, references: str, predictions: str, expected: str, surplus: list[str]
) -> None:
    pairs, left = pair_files(*make_folders(tmp_path, references, predictions))
    names = [f"{name}: {first.name} {second.name}" for name, (first, second) in pairs.items()]
    assert ", ".join(names) == expected
    assert {(first.parent.name, second.parent.name) for first, second in pairs.values()} == {
        ("ref", "pred")
    }
    assert [path.name for path in left] == surplus


@pytest.mark.parametrize(
    ("references", "predictions", "rule"),
    [
        ("", "a.nii", "ref: no .nii or .nii.gz file in it"),
        ("a.nii", "", "pred: no .nii or .nii.gz file in it"),
        ("a.nii", "a.nii a.nii.gz", r"pred/a\.nii\.gz: a\.nii is there too; keep one of them"),
        ("a.nii a.nii.gz", "a.nii", r"ref/a\.nii\.gz: a\.nii is there too"),
        (
            "segmentation-4.nii",
            "segmentation-4.nii volume-4.nii.gz",
            r"pred/volume-4\.nii\.gz: segmentation-4\.nii is there too, "
            r"both for segmentation-4\.nii; keep one",
        ),
        ("a.nii b.nii", "a.nii", r"pred: no prediction b\.nii\[\.gz\] for .*ref/b\.nii$"),
        (
            "a.nii b.nii c.nii",
            "c.nii",
            r"no prediction a\.nii\[\.gz\] for .*ref/a\.nii \(nor for 1 more\)$",
        ),
        ("case-0.nii", "case-O.nii", r"for .*ref/case-0\.nii; case-O\.nii without a reference$"),
        (
            "a.nii",
            " ".join(f"{n}.nii" for n in range(7)),
            r"; 0\.nii, 1\.nii, 2\.nii, 3\.nii, 4\.nii, \.\.\. without",
        ),
        (
            "segmentation-4.nii",
            "volume-5.nii",
            r"no prediction segmentation-4\.nii\[\.gz\] or volume-4\.nii\[\.gz\] for .*; "
            r"volume-5\.nii without",
        ),
        ("volume-4.nii", "segmentation-4.nii", r"no prediction volume-4\.nii\[\.gz\] for"),
    ],
)
def test_what_does_not_pair(tmp_path: Path, references: str, predictions: str, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        pair_files(*make_folders(tmp_path, references, predictions))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_volumes(tmp_path / "nowhere")


def test_two_arrays_by_hand() -> None:
    """The first case of `write_by_hand`: 7 voxels predicted, 6 in the reference, 4 in both."""
    without, reference = scene()
    prediction = without.copy()
    prediction[0, 1:3, 1] = prediction[0, 1:4, 4] = prediction[0, 2:4, 9] = 2
    scores = score_labels(prediction, reference, (1.0, 2.0, 3.0))
    tumor, liver = scores.tumor, scores.liver
    assert (tumor.dice, tumor.iou) == (8 / 13, 4 / 9)
    assert (tumor.sensitivity, tumor.precision) == (4 / 6, 4 / 7)
    assert (tumor.prediction_ml, tumor.reference_ml) == pytest.approx((0.042, 0.036))
    assert (liver.dice, liver.assd_mm, liver.hausdorff95_mm) == (1, 0, 0)
    assert liver.reference_ml == pytest.approx(0.240)
    assert (scores.n_reference, scores.n_prediction) == (3, 3)
    rates = scores.lesion_recall, scores.lesion_precision, scores.lesion_recall_any
    assert rates == (2 / 3, 2 / 3, 2 / 3)


def test_two_arrays_agree_with_the_figures_of_the_challenge() -> None:
    rng = np.random.default_rng(3)
    shapes = [gaussian_filter(rng.normal(size=(12, 20, 18)), 1.5) for _ in range(2)]
    prediction, reference = (np.where(shape > 0.1, 2, 1).astype(np.uint8) for shape in shapes)
    prediction[:2], reference[:3] = 0, 0
    spacing_mm = (2.5, 0.8, 0.7)
    scores = score_labels(prediction, reference, spacing_mm)
    figures = pool_cases([score_case(prediction, reference, spacing_mm, "corrected")])
    for name in ("dice", "assd", "rmsd"):
        value = getattr(scores.liver, name if name == "dice" else f"{name}_mm")
        assert value == pytest.approx(figures[f"liver_{name}"])
    assert scores.liver.hausdorff_mm == pytest.approx(figures["liver_msd"])
    assert scores.tumor.dice == pytest.approx(figures["lesion_dice_per_case"])
    assert scores.lesion_recall == figures["lesion_recall"]
    assert scores.lesion_precision_any == figures["lesion_precision_greater_zero"]


def test_two_empty_arrays() -> None:
    """Nothing to find and nothing found: shares are 1, distances do not exist."""
    nothing = np.zeros((2, 3, 4), np.uint8)
    scores = score_labels(nothing, nothing, (1.0, 1.0, 1.0))
    assert (scores.tumor.dice, scores.lesion_recall, scores.lesion_precision) == (1, 1, 1)
    assert scores.liver.assd_mm is scores.tumor.hausdorff95_mm is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((2, 2, 3), np.uint8)}, "must have one shape with 3 axes"),
        ({"reference": np.full((2, 2, 2), 3)}, "`reference` must hold 0, 1 and 2 alone"),
        ({"prediction": np.full((2, 2, 2), np.nan)}, "`prediction` must hold .* Received: nan"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "`spacing_mm` must be 3 positive numbers"),
    ],
)
def test_arrays_that_cannot_be_scored(change: dict[str, Any], message: str) -> None:
    labels = np.ones((2, 2, 2), np.uint8)
    arguments = {"prediction": labels, "reference": labels, "spacing_mm": (1.0, 1.0, 1.0)} | change
    with pytest.raises(ValueError, match=message):
        score_labels(**arguments)
