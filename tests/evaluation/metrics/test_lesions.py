"""Lesions matched at most once: by hand, and by trying every matching."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from evaluation.metrics.lesions import LESION, Lesions, find_lesions, match_once


def row(length: int, *lesions: tuple[int, int]) -> np.ndarray:
    """Labels in a row of voxels: lesions from the first to the last voxel given, liver between."""
    labels = np.ones((1, 1, length), np.uint8)
    for first, last in lesions:
        labels[0, 0, first : last + 1] = LESION
    return labels


def test_a_pair_above_the_threshold_is_never_given_up_for_two_below_it() -> None:
    """IoU: A with 1: 60 / 118, A with 2: 39 / 101, B with 1: 17 / 78. B 1 and A 2 sum to more."""
    lesions = find_lesions(row(120, (0, 16), (18, 117)), row(120, (0, 77), (79, 118)))
    assert lesions.iou[1:, 1:] == pytest.approx(np.array([[17 / 78, 0], [60 / 118, 39 / 101]]))
    matching = match_once(lesions, 0.5)
    assert (matching.hits, matching.numbers) == (1, [1])
    assert (matching.prediction == 1).sum() == 100  # all of A
    assert match_once(lesions, 0.0).hits == 2


def with_iou(iou: list[list[float]]) -> Lesions:
    """Lesions of which only the IoU is known: rows predictions, columns references."""
    n_prediction, n_reference = np.shape(iou)
    none = np.zeros(0, np.int64)
    lesions = Lesions(np.zeros((0, 3), np.int64), none, none, n_reference, n_prediction)
    vars(lesions)["iou"] = np.pad(
        np.asarray(iou, float), ((1, 0), (1, 0))
    )  # in place of the cached property
    return lesions


def test_more_pairs_win_over_a_larger_sum() -> None:
    assert match_once(with_iou([[0.9, 0.05], [0.05, 0]]), 0.0).hits == 2
    assert (
        match_once(with_iou([[0.9, 0.05], [0.05, 0]]), 0.05).hits == 1
    )  # above the threshold, not at it
    assert match_once(with_iou([[0, 0], [0, 0]]), 0.0).hits == 0
    assert match_once(with_iou([[]]), 0.0).hits == 0


def best(iou: np.ndarray, threshold: float) -> tuple[int, float]:
    """Most pairs, then the largest sum of IoU, of all matchings; iou of shape (n, m), n <= m."""
    found = []
    for columns in permutations(range(iou.shape[1]), iou.shape[0]):
        values = [iou[pair] for pair in enumerate(columns) if iou[pair] > threshold]
        found.append((len(values), sum(values)))
    return max(found)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5])
def test_agrees_with_trying_every_matching(threshold: float) -> None:
    rng = np.random.default_rng(0)
    tried = 0
    for _ in range(60):
        prediction, reference = (
            rng.choice(3, (1, 5, 6), p=(0.2, 0.3, 0.5)).astype(np.uint8) for _ in range(2)
        )
        lesions = find_lesions(prediction, reference)
        iou = lesions.iou[1:, 1:]
        if min(iou.shape) > 5 or max(iou.shape) > 7:
            continue  # too many matchings
        tried += 1
        matching = match_once(lesions, threshold)
        pairs = {
            (p, r)
            for p, r in zip(lesions.prediction.tolist(), matching.prediction.tolist(), strict=True)
            if p and r  # `matching.prediction` holds the number of the reference
        }
        total = sum(lesions.iou[pair] for pair in pairs)
        assert (matching.hits, total) == pytest.approx(
            best(iou if iou.shape[0] <= iou.shape[1] else iou.T, threshold)
        )
        assert len(pairs) == matching.hits
        assert len({p for p, _ in pairs}) == len({r for _, r in pairs}) == matching.hits
        if threshold == 0.5:
            assert matching.hits == np.count_nonzero(iou > 0.5)
    assert tried > 30
