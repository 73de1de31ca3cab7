"""Lesions by size, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.lesion_recall import diameter_mm, lesion_rows, recall_by_diameter


def test_lesions_by_hand() -> None:
    reference, prediction = np.zeros((2, 3, 8, 20), bool)
    reference[0:2, 1:4, 1:4] = True  # 18 voxels
    prediction[0:2, 1:4, 1:3] = True  # 12 of them: IoU 12 / 18
    reference[1, 5, 10] = True  # missed
    prediction[2, 0:2, 15:17] = True  # 4 voxels where nothing is
    rows = lesion_rows(prediction, reference, voxel_mm3=500.0)
    assert [(row["kind"], row["voxels"], row["touched"]) for row in rows] == [
        ("lesion", 18, True),
        ("lesion", 1, False),
        ("false positive", 4, False),
    ]
    assert [row["iou"] for row in rows] == pytest.approx([12 / 18, 0, 0], abs=1e-6)
    # spheres of 9000, 500 and 2000 mm3: 25.8, 9.8 and 15.6 mm
    assert [row["diameter_mm"] for row in rows] == pytest.approx([25.81, 9.85, 15.63], abs=0.01)
    assert recall_by_diameter(rows) == [(0, 1), (0, 0), (1, 1), (0, 0)]
    assert recall_by_diameter(rows, 0.7) == [(0, 1), (0, 0), (0, 1), (0, 0)]


def test_a_voxel_in_a_huge_prediction_is_found() -> None:
    """IoU 1 / 2,000,000: rounded to six digits it would be 0."""
    reference, prediction = np.zeros((2, 125, 125, 128), bool)
    prediction[:] = reference[60, 60, 60] = True
    rows = lesion_rows(prediction, reference, voxel_mm3=1.0)
    assert rows[0]["iou"] == 1 / 2_000_000
    assert recall_by_diameter(rows) == [(1, 1), (0, 0), (0, 0), (0, 0)]
    assert recall_by_diameter(rows, 0.5) == [(0, 1), (0, 0), (0, 0), (0, 0)]
    as_text = [{name: str(value) for name, value in row.items()} for row in rows]
    earlier = [{**row, "iou": "0.0"} for row in as_text]  # a table of a version that rounded
    assert recall_by_diameter(as_text) == recall_by_diameter(earlier) == recall_by_diameter(rows)


def test_a_sphere_has_its_own_diameter() -> None:
    assert diameter_mm(4 / 3 * np.pi * 5**3) == pytest.approx(10)
    assert diameter_mm(0) == 0


def test_nothing_there() -> None:
    empty = np.zeros((2, 4, 4), bool)
    assert lesion_rows(empty, empty, 1.0) == []
    assert recall_by_diameter([]) == [(0, 0)] * 4
