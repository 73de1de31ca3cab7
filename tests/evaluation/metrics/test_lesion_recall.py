"""Lesions by size, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.lesion_recall import Lesion, compute_diameter_mm, count_found, list_lesions


def count(lesions: list[Lesion], least_iou: float | None = None) -> list[tuple[int, int]]:
    """Count the lesions that were touched, or found at an IoU above `least_iou`."""
    real = [lesion for lesion in lesions if lesion.kind == "lesion"]
    is_found = [lesion.touched if least_iou is None else lesion.iou > least_iou for lesion in real]
    return count_found([lesion.diameter_mm for lesion in real], is_found)


def test_lesions_by_hand() -> None:
    reference, prediction = np.zeros((2, 3, 8, 20), bool)
    reference[0:2, 1:4, 1:4] = True  # 18 voxels
    prediction[0:2, 1:4, 1:3] = True  # 12 of them: IoU 12 / 18
    reference[1, 5, 10] = True  # missed
    prediction[2, 0:2, 15:17] = True  # 4 voxels where nothing is
    lesions = list_lesions(prediction, reference, voxel_mm3=500.0)
    assert [(lesion.kind, lesion.voxels, lesion.touched) for lesion in lesions] == [
        ("lesion", 18, True),
        ("lesion", 1, False),
        ("false positive", 4, False),
    ]
    assert [lesion.iou for lesion in lesions] == pytest.approx([12 / 18, 0, 0], abs=1e-6)
    # spheres of 9000, 500 and 2000 mm3: 25.8, 9.8 and 15.6 mm
    diameters = [lesion.diameter_mm for lesion in lesions]
    assert diameters == pytest.approx([25.81, 9.85, 15.63], abs=0.01)
    assert count(lesions) == [(0, 1), (0, 0), (1, 1), (0, 0)]
    assert count(lesions, 0.7) == [(0, 1), (0, 0), (0, 1), (0, 0)]


def test_a_voxel_in_a_huge_prediction_is_found() -> None:
    """IoU 1 / 2,000,000: rounded to six digits it would be 0."""
    reference, prediction = np.zeros((2, 125, 125, 128), bool)
    prediction[:] = reference[60, 60, 60] = True
    lesions = list_lesions(prediction, reference, voxel_mm3=1.0)
    assert lesions[0].iou == 1 / 2_000_000
    assert count(lesions) == count(lesions, 0.0) == [(1, 1), (0, 0), (0, 0), (0, 0)]
    assert count(lesions, 0.5) == [(0, 1), (0, 0), (0, 0), (0, 0)]


def test_a_sphere_has_its_own_diameter() -> None:
    assert compute_diameter_mm(4 / 3 * np.pi * 5**3) == pytest.approx(10)
    assert compute_diameter_mm(0) == 0


def test_nothing_there() -> None:
    empty = np.zeros((2, 4, 4), bool)
    assert list_lesions(empty, empty, 1.0) == []
    assert count_found([], []) == [(0, 0)] * 4
