"""ROC curves from histograms, against scikit-learn and brute force on the pixels."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from evaluation.metrics.counts import Counts
from evaluation.metrics.roc import (
    CENTRE,
    EDGES,
    N_BINS,
    ProbabilityHistogram,
    Roc,
    find_edge,
    reduce_curve,
)

SEEDS = range(8)
LOGIT_WIDTH = np.log(99) / 9411


def expit(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def histogram_of(probability, reference) -> ProbabilityHistogram:
    histogram = ProbabilityHistogram()
    histogram.add(np.asarray(probability), np.asarray(reference, dtype=bool))
    return histogram


def pixels(seed: int, n: int = 3000, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a fair classifier, some saturated at exactly 0 and 1; their reference."""
    rng = np.random.default_rng(seed)
    reference = rng.random(n) < 0.3
    probability = expit(rng.normal(np.where(reference, 1.5, -2.0), 2.5))
    probability[rng.random(n) < 0.1] = 0.0
    probability[rng.random(n) < 0.02] = 1.0
    return probability.astype(dtype), reference


def pixels_in_distinct_bins(seed: int, n: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """The same in the middles of bins, float64: only equal probabilities share a bin."""
    rng = np.random.default_rng(seed)
    reference = rng.random(n) < 0.3
    logit = rng.normal(np.where(reference, 1.0, -2.0), 3.0).clip(-15.9, 15.9)
    logit[: n // 10] = logit[n // 10 : 2 * (n // 10)]
    return expit((np.floor(logit / LOGIT_WIDTH) + 0.5) * LOGIT_WIDTH), reference


def inside(probability: np.ndarray, low: float = 0.01, high: float = 0.99) -> np.ndarray:
    return (probability > low) & (probability <= high)


def share_of_binned_ties(probability: np.ndarray, reference: np.ndarray) -> float:
    """Share of the (positive, negative) pairs that fall into one bin, counted by NumPy."""
    edges = np.concatenate([[-1.0], EDGES[1:-1].astype(probability.dtype), [2.0]])
    bins = np.searchsorted(edges, probability, side="left")
    positive = np.bincount(bins[reference], minlength=N_BINS + 2)
    negative = np.bincount(bins[~reference], minlength=N_BINS + 2)
    return float(positive @ negative / (positive.sum() * negative.sum()))


def test_edges_are_uniform_in_the_logit_and_exact_where_it_matters():
    assert EDGES.shape == (65_537,)
    assert (np.diff(EDGES) > 0).all()
    assert (EDGES[0], EDGES[-1]) == (0.0, 1.0)
    assert [float(EDGES[find_edge(p)]) for p in (0.01, 0.5, 0.99)] == [0.01, 0.5, 0.99]
    logit = np.log(EDGES[1:-1] / (1 - EDGES[1:-1]))
    np.testing.assert_allclose(np.diff(logit), LOGIT_WIDTH, atol=1e-8)
    assert logit[0] == pytest.approx(-16, abs=2e-3)
    assert logit[-1] == pytest.approx(16, abs=2e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_zero_half_and_one(dtype):
    histogram = histogram_of(np.array([0, 0.5, 1], dtype), [True, True, True])
    assert np.flatnonzero(histogram.positive).tolist() == [0, CENTRE - 1, N_BINS - 1]
    assert histogram.counts(0.0) == Counts(tp=2, fn=1)
    assert histogram.counts(0.49) == Counts(tp=2, fn=1)
    assert histogram.counts(0.5) == Counts(tp=1, fn=2)  # 0.5 is not above 0.5
    assert histogram.counts(0.9999999999) == Counts(tp=1, fn=2)  # taken at the last inner edge
    assert histogram.counts(1.0) == Counts(fn=3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_edge_is_decided_as_numpy_decides_it(dtype):
    """At each edge and its neighbours in the dtype, `p > edge` of NumPy and histogram agree."""
    at = EDGES[1:-1].astype(dtype)
    probability = np.unique(
        np.concatenate([at, np.nextafter(at, dtype(0)), np.nextafter(at, dtype(1))])
    )
    histogram = histogram_of(probability, np.ones(probability.size, bool))
    above = np.cumsum(histogram.positive[::-1])[::-1]
    expected = probability.size - np.searchsorted(probability, at, side="right")
    np.testing.assert_array_equal(above[1:], expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.99, float(EDGES[20_000]), float(EDGES[60_000])])
def test_counts_at_edges_are_those_of_the_masks(dtype, threshold):
    probability, reference = pixels(1, dtype=dtype)
    probability[:50] = threshold
    received = histogram_of(probability, reference).counts(threshold)
    assert received == Counts.of(probability > threshold, reference)


@pytest.mark.parametrize("threshold", [0.003, 0.123, 0.7, 0.9876])
def test_a_threshold_is_taken_at_the_nearest_edge(threshold):
    edge = EDGES[find_edge(threshold)]
    logit, logit_of_edge = np.log(threshold / (1 - threshold)), np.log(edge / (1 - edge))
    assert abs(logit - logit_of_edge) <= LOGIT_WIDTH / 2 * (1 + 1e-9)


def test_addition_is_pooling_whatever_the_shape():
    first, second = pixels(1), pixels(2)
    pooled = histogram_of(*(np.concatenate(both) for both in zip(first, second, strict=True)))
    shaped = histogram_of(first[0].reshape(10, 20, 15), first[1].reshape(10, 20, 15))
    total = shaped + histogram_of(*second)
    np.testing.assert_array_equal(total.positive, pooled.positive)
    np.testing.assert_array_equal(total.negative, pooled.negative)
    assert total.positive.dtype == total.negative.dtype == np.int64
    assert total.n_pixels == 6000
    assert shaped.n_pixels == 3000  # the summands are unchanged


def test_many_chunks_and_strided_arrays_count_every_pixel_once():
    rng = np.random.default_rng(3)
    probability = rng.random((3, 700, 800), dtype=np.float32).transpose(2, 0, 1)
    reference = rng.random(probability.shape) < 0.2
    histogram = histogram_of(probability, reference)
    assert histogram.n_pixels == probability.size
    for threshold in (0.01, 0.5, 0.99):
        assert histogram.counts(threshold) == Counts.of(probability > threshold, reference)


def test_no_pixels():
    histogram = histogram_of(np.zeros((0, 4), np.float32), np.zeros((0, 4), bool))
    assert histogram.n_pixels == 0
    assert histogram.auc() is None
    assert histogram.rauc() is None


@pytest.mark.parametrize(
    ("probability", "reference", "message"),
    [
        (np.array([0.1, np.nan]), np.zeros(2, bool), r"`probability` must be in \[0, 1\].*nan"),
        (np.array([0.1, 1.0000001]), np.zeros(2, bool), "maximum 1.0000001"),
        (np.array([-1e-30, 0.2], np.float32), np.zeros(2, bool), r"\[0, 1\].*minimum -1"),
        (np.array([0, 1]), np.zeros(2, bool), "floating dtype.*int64"),
        (np.array([0.1, 0.2]), np.zeros(2, np.uint8), "`reference` must be a boolean array.*uint8"),
        (np.array([0.1, 0.2]), np.zeros((2, 1), bool), r"\(2,\).*\(2, 1\)"),
    ],
)
def test_other_pixels_are_refused_and_nothing_is_added(probability, reference, message):
    histogram = ProbabilityHistogram()
    with pytest.raises(ValueError, match=message):
        histogram.add(probability, reference)
    assert histogram.n_pixels == 0


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_impossible_thresholds_are_refused(threshold):
    with pytest.raises(
        ValueError, match=f"`threshold` must be in .* Received: threshold={threshold}"
    ):
        ProbabilityHistogram().counts(threshold)


@pytest.mark.parametrize(
    ("low", "high"), [(0.5, 0.5), (0.9, 0.1), (-0.1, 0.5), (0.5, 1.5), (0.1, float("nan"))]
)
def test_impossible_ranges_are_refused(low, high):
    for function in (ProbabilityHistogram().roc, ProbabilityHistogram().rauc):
        with pytest.raises(ValueError, match=f"0 <= low < high <= 1.*low={low}, high={high}"):
            function(low, high)


def test_ten_slices_are_added_within_seconds():
    rng = np.random.default_rng(0)
    probability = expit(rng.normal(0, 6, (10, 512, 512)).astype(np.float32))
    start = time.perf_counter()
    histogram_of(probability, probability > 0.3)
    assert time.perf_counter() - start < 5.0  # about 0.1 s on an idle core


def test_curve_by_hand():
    # Falling probability: positive 0.9, negative 0.7, positive 0.6, negative 0.2. Of 4 pairs 3 are
    # in order.
    histogram = histogram_of([0.2, 0.9, 0.6, 0.7], [False, True, True, False])
    curve = histogram.roc()
    assert curve.false_positive_rate.tolist() == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert curve.true_positive_rate.tolist() == [0.0, 0.5, 0.5, 1.0, 1.0]
    np.testing.assert_allclose(curve.threshold, [1.0, 0.9, 0.7, 0.6, 0.2], rtol=LOGIT_WIDTH)
    assert curve.area() == histogram.auc() == 0.75
    # Without the pixel at 0.9, as above 0.8: one positive at 0.6 between negatives at 0.7 and 0.2.
    assert histogram.rauc(0.01, 0.8) == 0.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("limits", [(0.0, 1.0), (0.01, 0.99)])
def test_points_are_those_of_the_pixels_at_their_thresholds(seed, limits):
    probability, reference = pixels(seed)
    curve = histogram_of(probability, reference).roc(*limits)
    if limits != (0.0, 1.0):
        kept = inside(probability, *limits)
        probability, reference = probability[kept], reference[kept]
    x, y, threshold = curve.false_positive_rate, curve.true_positive_rate, curve.threshold
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(threshold) < 0).all()
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    for i in range(0, threshold.size - 1, 37):  # without the end, which at 0.0 takes in p = 0
        above = probability > float(threshold[i])
        assert x[i] == np.mean(above[~reference])
        assert y[i] == np.mean(above[reference])


@pytest.mark.parametrize("seed", SEEDS)
def test_curve_and_areas_of_distinct_bins_are_scikit_learns(seed):
    probability, reference = pixels_in_distinct_bins(seed)
    histogram = histogram_of(probability, reference)
    curve = histogram.roc()
    x, y, _ = roc_curve(reference, probability, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, x, rtol=0, atol=1e-15)
    np.testing.assert_allclose(curve.true_positive_rate, y, rtol=0, atol=1e-15)
    assert histogram.auc() == pytest.approx(roc_auc_score(reference, probability), abs=1e-12)
    kept = inside(probability)
    expected = roc_auc_score(reference[kept], probability[kept])
    assert histogram.rauc() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_areas_are_scikit_learns_up_to_ties_within_bins(seed, dtype):
    """A pair in one bin counts 1/2, not 0 or 1: half the share of such pairs bounds the error."""
    probability, reference = pixels(seed, dtype=dtype)
    histogram = histogram_of(probability, reference)
    kept = inside(probability)
    for area, p, r in (
        (histogram.auc(), probability, reference),
        (histogram.rauc(), probability[kept], reference[kept]),
    ):
        assert area == pytest.approx(
            roc_auc_score(r, p), abs=share_of_binned_ties(p, r) / 2 + 1e-12
        )
    # Of pairs inside (0.01, 0.99) fewer than 1 in 1,000 meet in one bin: rAUC is right to three
    # decimals.
    assert share_of_binned_ties(probability[kept], reference[kept]) < 1e-3


def test_restricted_range_is_above_low_and_up_to_high():
    # 0.01 and 1.0 are out, 0.99 and 0.02 are in. If 0.01 were in, the area would not be 1.
    histogram = histogram_of([0.01, 0.02, 0.99, 1.0], [True, False, True, False])
    assert histogram.rauc() == 1.0
    assert histogram.auc() == 0.25


@pytest.mark.parametrize(
    "reference", [[True, True, True, False], [False, False, False, True], [True] * 4, [False] * 4]
)
def test_without_both_classes_in_the_range_there_is_no_area(reference):
    histogram = histogram_of([0.2, 0.5, 0.7, 0.999], reference)
    assert histogram.rauc() is None
    with pytest.raises(
        ValueError, match=r"inside and outside the reference\. Received: .* low=0.01, high=0.99"
    ):
        histogram.roc(0.01, 0.99)


def test_reduced_curve_keeps_ends_and_shape():
    probability, reference = pixels(7, n=40_000)
    curve = histogram_of(probability, reference).roc()
    thin = reduce_curve(curve, 200)
    assert curve.threshold.size > 5000
    assert thin.threshold.size == 200
    points = set(zip(*(a.tolist() for a in vars(curve).values()), strict=True))
    assert set(zip(*(a.tolist() for a in vars(thin).values()), strict=True)) <= points
    assert (thin.false_positive_rate[0], thin.true_positive_rate[0]) == (0, 0)
    assert (thin.false_positive_rate[-1], thin.true_positive_rate[-1]) == (1, 1)
    # Along the anti-diagonal both curves are functions, and their distance is that of the drawn
    # lines.
    along = curve.false_positive_rate + curve.true_positive_rate
    across = curve.true_positive_rate - curve.false_positive_rate
    drawn = np.interp(
        along,
        thin.false_positive_rate + thin.true_positive_rate,
        thin.true_positive_rate - thin.false_positive_rate,
    )
    assert np.max(np.abs(drawn - across)) < 2e-3  # a line in a figure is about 3e-3 wide
    assert thin.area() == pytest.approx(curve.area(), abs=1e-3)


def test_reduced_curve_keeps_its_shape_on_a_logarithmic_axis():
    rng = np.random.default_rng(3)
    reference = rng.random(400_000) < 0.02
    curve = histogram_of(expit(rng.normal(np.where(reference, 1.0, -5.0), 2.0)), reference).roc()
    lowest = 1e-4
    thin = reduce_curve(curve, 200, lowest)
    # The left end of what is drawn: everything up to the lowest FPR lies on the border.
    left = curve.true_positive_rate[curve.false_positive_rate <= lowest][-1]
    assert left > 0.05
    assert left in thin.true_positive_rate
    at = np.geomspace(lowest, 1, 500)
    drawn = np.interp(
        np.log(at), np.log(np.maximum(thin.false_positive_rate, lowest)), thin.true_positive_rate
    )
    true = np.interp(at, curve.false_positive_rate, curve.true_positive_rate)
    assert np.max(np.abs(drawn - true)) < 0.01
    linear = reduce_curve(curve, 200)
    ramp = np.interp(
        np.log(at),
        np.log(np.maximum(linear.false_positive_rate, lowest)),
        linear.true_positive_rate,
    )
    assert np.max(np.abs(ramp - true)) > 0.02  # why the axis must be known


def test_reduced_curve_leaves_out_only_points_on_the_line():
    corner = Roc(
        np.array([0, 0, 0, 0.5, 1.0]),
        np.array([0, 0.25, 1.0, 1.0, 1.0]),
        np.array([1, 0.8, 0.6, 0.4, 0.2]),
    )
    thin = reduce_curve(corner)
    assert thin.threshold.tolist() == [1.0, 0.6, 0.2]
    assert reduce_curve(corner, 2).threshold.tolist() == [1.0, 0.2]
    with pytest.raises(ValueError, match=r"`n` must be at least 2\. Received: n=1"):
        reduce_curve(corner, 1)
