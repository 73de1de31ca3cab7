"""Thresholds from histograms, against scikit-learn and brute force; the registry of rules."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import jaccard_score, roc_curve

from evaluation.metrics import thresholds
from evaluation.metrics.counts import Counts, iou
from evaluation.metrics.roc import EDGES, ProbabilityHistogram
from evaluation.metrics.thresholds import (
    Rule,
    choose_thresholds,
    find_best_iou,
    find_iou_threshold,
    find_youden_threshold,
    register_rule,
)
from tests.evaluation.metrics.test_roc import (
    LOGIT_WIDTH,
    SEEDS,
    histogram_of,
    inside,
    pixels,
    pixels_in_distinct_bins,
)


def test_thresholds_by_name() -> None:
    histogram = histogram_of(*pixels(5))
    roc, overlap = find_youden_threshold(histogram), find_iou_threshold(histogram)
    assert list(choose_thresholds(histogram).items()) == [
        ("0.5", 0.5),
        ("roc", roc),
        ("iou", overlap),
    ]


def test_a_rule_is_added_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "RULES", dict(thresholds.RULES))
    rule = register_rule(
        Rule("prevalence", lambda histogram: 1 - histogram.positive.sum() / histogram.n_pixels)
    )
    histogram = histogram_of([0.1, 0.2, 0.3, 0.9], [False, False, False, True])
    assert list(choose_thresholds(histogram)) == ["0.5", "roc", "iou", "prevalence"]
    assert choose_thresholds(histogram)["prevalence"] == 0.75
    with pytest.raises(ValueError, match=r"`rule.name` must be new. Received: 'prevalence'"):
        register_rule(rule)


@pytest.mark.parametrize(
    "reference",
    [[], [True, True, True, False], [False, False, False, True], [True] * 4, [False] * 4],
)
def test_without_both_classes_in_the_range_roc_falls_back_to_half(reference: list[bool]) -> None:
    histogram = histogram_of(np.array([0.2, 0.5, 0.7, 0.999][: len(reference)]), reference)
    assert find_youden_threshold(histogram) is None
    assert choose_thresholds(histogram)["roc"] == 0.5


def test_without_a_pixel_every_threshold_is_half() -> None:
    histogram = ProbabilityHistogram()
    assert choose_thresholds(histogram) == {"0.5": 0.5, "roc": 0.5, "iou": 0.5}
    assert find_best_iou(histogram) == 1.0


def test_youden_threshold_by_hand():
    # J is 1 for every threshold in [0.1, 0.3), and the last edge below 0.3 is the nearest to 0.5.
    threshold = find_youden_threshold(
        histogram_of([0.05, 0.1, 0.3, 0.6], [False, False, True, True])
    )
    assert 0.3 * (1 - LOGIT_WIDTH) < threshold < 0.3
    # J is 1 on [0.2, 0.8): 0.5 itself.
    assert find_youden_threshold(histogram_of([0.2, 0.8], [False, True])) == 0.5
    # In the wrong order J is at most 0: below 0.2, and from 0.8 on. The edges just below 0.2 and
    # just above 0.8 are equally far from 0.5, and the lower is taken.
    threshold = find_youden_threshold(histogram_of([0.2, 0.8], [True, False]))
    assert 0.2 * (1 - LOGIT_WIDTH) < threshold < 0.2


def exact_youden(probability: np.ndarray, reference: np.ndarray, threshold: float) -> Fraction:
    above = probability > threshold
    n_positive, n_negative = int(reference.sum()), int((~reference).sum())
    return Fraction(int((above & reference).sum()), n_positive) - Fraction(
        int((above & ~reference).sum()), n_negative
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_youden_threshold_has_scikit_learns_greatest_youden_index(seed):
    probability, reference = pixels_in_distinct_bins(seed)
    threshold = find_youden_threshold(histogram_of(probability, reference))
    kept = inside(probability)
    probability, reference = probability[kept], reference[kept]
    x, y, _ = roc_curve(reference, probability, drop_intermediate=False)
    assert threshold is not None
    assert 0.01 <= threshold <= 0.99
    assert float(exact_youden(probability, reference, threshold)) == pytest.approx(
        np.max(y - x), abs=1e-12
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_youden_threshold_is_the_edge_nearest_to_half_among_all_the_best(seed):
    rng = np.random.default_rng(seed)
    probability = rng.random(12).astype(np.float32)  # few pixels, so that many edges tie
    reference = np.arange(12) % 2 == 0
    kept = inside(probability)
    edges = EDGES[inside(EDGES, 0.0099, 0.99)]
    youden = [exact_youden(probability[kept], reference[kept], float(edge)) for edge in edges]
    greatest = max(youden)
    best = edges[[value == greatest for value in youden]]
    expected = best[np.argmin(np.abs(best - 0.5))]
    assert find_youden_threshold(histogram_of(probability, reference)) == expected


def test_youden_threshold_of_huge_counts_is_exact():
    # 6 * 10^9 pixels of each class: J times both totals passes 2^63.
    histogram = histogram_of([0.2, 0.4, 0.6, 0.8], [False, True, False, True])
    histogram.positive *= 3_000_000_000
    histogram.negative *= 3_000_000_000
    # J is 1/2 on [0.2, 0.4) and on [0.6, 0.8), where the edges nearest to 0.5 are just below 0.4
    # and just above 0.6; one positive pixel more at 0.8 makes the second the only best.
    histogram.positive[histogram.positive.nonzero()[0][-1]] += 1
    assert find_youden_threshold(histogram) == pytest.approx(0.6, abs=LOGIT_WIDTH)


@pytest.mark.parametrize("seed", SEEDS)
def test_iou_threshold_against_brute_force(seed):
    probability, reference = pixels(seed, n=400)
    histogram = histogram_of(probability, reference)
    edges = EDGES[(EDGES >= 0.001) & (EDGES <= 0.999)]
    n_positive = np.count_nonzero(reference)
    order = np.sort(probability[reference]), np.sort(probability)
    # Pixels above each edge, by sorting; float32 edges, as NumPy compares float32 with a Python
    # float.
    tp, predicted = (
        p.size - np.searchsorted(p, edges.astype(np.float32), side="right") for p in order
    )
    overlap = tp / (predicted + n_positive - tp)
    best = edges[overlap == overlap.max()]
    threshold = find_iou_threshold(histogram)
    assert threshold == best[np.argmin(np.abs(best - 0.5))]
    achieved = jaccard_score(reference, probability > threshold)
    assert find_best_iou(histogram) == pytest.approx(achieved, abs=1e-15)
    assert find_best_iou(histogram) == iou(histogram.counts(threshold))


def test_iou_threshold_without_positives_keeps_the_prediction_empty():
    # Empty reference: IoU is 1 where nothing is predicted, so from 0.7 on; the nearest such edge to
    # 0.5.
    histogram = histogram_of([0.1, 0.7], [False, False])
    assert find_best_iou(histogram) == 1.0
    assert find_iou_threshold(histogram) == pytest.approx(0.7, abs=LOGIT_WIDTH)
    assert histogram.counts(find_iou_threshold(histogram)) == Counts(tn=2)
    # With a negative at p = 1 no threshold in the range helps.
    assert find_best_iou(histogram_of([0.1, 1.0], [False, False])) == 0.0
