"""Volumes, counts and connected regions against numbers derived by hand."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from evaluation.metrics.regions import Measures, find_components, keep_largest, measure_labels


def make_scene() -> np.ndarray:
    """Liver of 4 x 4 x 4, tumors of 3, 2 and 1 voxels, the last two at an edge; 7 voxels aside."""
    labels = np.zeros((6, 10, 10), np.uint8)
    labels[1:5, 1:5, 1:5] = 1
    labels[1, 1, 1:4] = 2
    labels[3, 1, 1:3] = 2
    labels[4, 2, 1] = 2  # beside (3, 1, 1) by an edge
    labels[0, 7, 1:8] = 1
    return labels


def test_volumes_are_counted_by_hand() -> None:
    # 64 + 7 voxels of liver, of these 3 + 2 + 1 of tumor; 600 / 71 percent.
    assert measure_labels(make_scene(), 0.5) == Measures(
        liver_ml=35.5,
        tumor_count=3,
        tumor_ml=3.0,
        largest_tumor_ml=1.5,
        tumor_volumes_ml=[1.5, 1.0, 0.5],
        tumor_burden_percent=8.450704,
    )


def test_no_tumor_no_liver_and_no_tumor_looked_for() -> None:
    liver = np.ones((2, 2, 2), np.uint8)
    assert measure_labels(liver, 0.25) == Measures(2.0, 0, 0.0, None, [], 0.0)
    assert measure_labels(0 * liver, 0.25) == Measures(0.0, 0, 0.0, None, [], None)
    unknown = asdict(measure_labels(liver, 0.25, liver_only=True))
    assert unknown.pop("liver_ml") == 2.0
    assert set(unknown.values()) == {None}


def test_the_largest_piece_of_liver_is_kept_with_its_tumors() -> None:
    labels = make_scene()
    labels[5, 5, 5] = 1  # joined to (4, 4, 4) by a corner: kept
    labels[0, 9, 9] = 2  # a tumor apart
    expected = labels.copy()
    expected[0] = 0
    np.testing.assert_array_equal(keep_largest(labels), expected)
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
    assert sorted(find_components(mask)[2]) == [1, 2]
    assert list(find_components(mask, corners=True)[2]) == [3]
