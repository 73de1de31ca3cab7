"""Volumes and counts against numbers derived by hand."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data.command import InputError
from data.files import read_json
from data.volumes import open_volume
from evaluation.volumetry import (
    COLUMNS,
    beside,
    components,
    geometry_notes,
    in_words,
    keep_largest,
    measure,
    voxel_ml,
    write_table,
)
from tests.data.test_volumes import with_field


def save(path: Path, affine: np.ndarray, spacing: tuple[float, float, float] | None = None) -> Path:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    if spacing:
        image.header.set_zooms(spacing)
        image.header.set_sform(affine, code=1)
    nib.save(image, path)
    return path


def scene() -> np.ndarray:
    """Liver of 4 x 4 x 4 with a tumor of 3 voxels, one of 2, one that touches it by an edge only; 7 voxels aside."""
    labels = np.zeros((6, 10, 10), np.uint8)
    labels[1:5, 1:5, 1:5] = 1
    labels[1, 1, 1:4] = 2
    labels[3, 1, 1:3] = 2
    labels[4, 2, 1] = 2  # beside (3, 1, 1) by an edge
    labels[0, 7, 1:8] = 1
    return labels


def test_volumes_are_counted_by_hand() -> None:
    found = measure(scene(), 0.5)
    # 64 + 7 voxels of liver, of these 3 + 2 + 1 of tumor; 600 / 71 percent.
    assert found == {
        "liver_ml": 35.5,
        "tumor_count": 3,
        "tumor_ml": 3.0,
        "largest_tumor_ml": 1.5,
        "tumor_volumes_ml": [1.5, 1.0, 0.5],
        "tumor_burden_percent": 8.450704,
    }


def test_no_tumor_no_liver_and_no_tumor_looked_for() -> None:
    none = {"tumor_count": 0, "tumor_ml": 0.0, "largest_tumor_ml": None, "tumor_volumes_ml": []}
    liver = np.ones((2, 2, 2), np.uint8)
    assert measure(liver, 0.25) == {"liver_ml": 2.0, **none, "tumor_burden_percent": 0.0}
    assert measure(0 * liver, 0.25) == {"liver_ml": 0.0, **none, "tumor_burden_percent": None}
    unknown = measure(liver, 0.25, liver_only=True)
    assert unknown.pop("liver_ml") == 2.0
    assert set(unknown) == set(none) | {"tumor_burden_percent"}
    assert set(unknown.values()) == {None}
    assert in_words(measure(liver, 0.25)) == "liver 2.0 ml, no tumor"
    assert in_words(measure(liver, 0.25, liver_only=True)) == "liver 2.0 ml"


def test_the_largest_piece_of_liver_is_kept_with_its_tumors() -> None:
    labels = scene()
    labels[5, 5, 5] = 1  # joined to (4, 4, 4) by a corner: kept
    labels[0, 9, 9] = 2  # a tumor apart
    kept = keep_largest(labels)
    expected = labels.copy()
    expected[0] = 0
    np.testing.assert_array_equal(kept, expected)
    assert labels[0, 9, 9] == 2


def test_a_piece_of_tumor_counts_as_liver_and_ties_go_to_the_feet() -> None:
    labels = np.zeros((3, 1, 8), np.uint8)
    labels[0, 0, :2], labels[2, 0, :3] = 1, 2
    np.testing.assert_array_equal(keep_largest(labels)[:, 0, 0], [0, 0, 2])
    labels[0, 0, :3] = 1
    np.testing.assert_array_equal(keep_largest(labels)[:, 0, 0], [1, 0, 0])
    empty = np.zeros((2, 2, 2), np.uint8)
    np.testing.assert_array_equal(keep_largest(empty), empty)


def test_faces_join_and_corners_only_where_asked() -> None:
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[1, 1, 2] = True
    assert sorted(components(mask)[2]) == [1, 2]
    assert list(components(mask, corners=True)[2]) == [3]


@pytest.mark.parametrize(
    ("affine", "mm3"),
    [
        (np.diag([-0.5, 0.5, 2.0, 1.0]), 0.5),
        (np.array([[0, 0.5, 0, 9], [0.25, 0, 0, 9], [0, 0, -4, 9], [0, 0, 0, 1.0]]), 0.5),
        (
            np.array([[0.6, -0.8, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]]),
            3.0,
        ),  # turned
    ],
)
def test_a_voxel_is_as_large_as_its_affine_says(
    tmp_path: Path, affine: np.ndarray, mm3: float
) -> None:
    volume = open_volume(save(tmp_path / "ct.nii", affine))
    assert voxel_ml(volume) == pytest.approx(mm3 / 1000, rel=1e-6)
    assert geometry_notes(volume) == []


def test_a_header_that_contradicts_itself_is_noted(tmp_path: Path) -> None:
    volume = open_volume(
        save(tmp_path / "ct.nii", np.diag([1.0, 1.0, 2.0, 1.0]), spacing=(1.0, 1.0, 5.0))
    )
    assert voxel_ml(volume) == pytest.approx(0.002)
    (note,) = geometry_notes(volume)
    assert "5 mm3 by the header's spacing and 2 mm3 by its affine" in note


def test_the_table_as_csv_and_json(tmp_path: Path) -> None:
    about = {
        "spacing_mm": [2.5, 0.75, 0.75],
        "model": "one_step",
        "loss": "ce",
        "threshold_rule": "roc",
        "run": "r",
    }
    rows = [
        {"case": "Müller, A", **measure(scene(), 0.5), **about},
        {"case": "none", **measure(scene(), 0.5, liver_only=True), **about},
    ]
    write_table(tmp_path / "new" / "v1.2", {"cases": rows, "failed": []})
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["v1.2.csv", "v1.2.json"]
    assert read_json(tmp_path / "new" / "v1.2.json") == {"cases": rows, "failed": []}
    with (tmp_path / "new" / "v1.2.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert first["case"] == "Müller, A"
    assert first["tumor_volumes_ml"] == "1.5 1.0 0.5"
    assert first["spacing_mm"] == "2.5 0.75 0.75"
    assert (first["liver_ml"], first["tumor_count"]) == ("35.5", "3")
    assert (second["liver_ml"], second["tumor_count"], second["tumor_volumes_ml"]) == (
        "35.5",
        "",
        "",
    )


@pytest.mark.parametrize("name", ["a.b.nii.gz", "a.b.nii"])
def test_names_beside_the_output(name: str) -> None:
    assert beside(Path("x") / name, "_y.nii.gz") == Path("x/a.b_y.nii.gz")


def test_headers_that_are_hardly_true_are_noted(tmp_path: Path) -> None:
    def notes(
        affine: np.ndarray, change: Callable[[nib.Nifti1Image], object] = lambda image: None
    ) -> str:
        image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine)
        image.set_qform(affine, code=1)
        change(image)
        nib.save(image, tmp_path / "ct.nii")
        return "; ".join(geometry_notes(open_volume(tmp_path / "ct.nii")))

    usual, tiny = np.diag([-0.7, -0.7, 2.0, 1.0]), np.diag([-0.0007, -0.0007, 0.002, 1.0])
    assert notes(usual) == ""
    assert "its affine is the identity" in notes(np.eye(4))
    assert "a spacing of 0.002 x 0.0007 x 0.0007 mm is hardly that of a CT" in notes(tiny)

    def mirrored(image: nib.Nifti1Image) -> None:
        image.set_sform(np.diag([0.7, -0.7, 2.0, 1.0]), code=1)

    assert "qform and sform of its header differ" in notes(usual, mirrored)

    notes(usual)
    for code in ("qform_code", "sform_code"):  # nibabel would write one again
        with_field(tmp_path / "ct.nii", code, None, 0)
    (note,) = geometry_notes(open_volume(tmp_path / "ct.nii"))
    assert note.startswith("its header says nothing of its orientation")


def test_lengths_in_metres_are_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([0.001, 0.001, 0.002, 1.0]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "ct.nii")
    with pytest.raises(InputError, match=r"ct\.nii: lengths must be in mm, its header says meter"):
        open_volume(tmp_path / "ct.nii")
