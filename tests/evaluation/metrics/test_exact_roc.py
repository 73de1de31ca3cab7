"""The sorted ROC curve against scikit-learn, against the histogram, and by its own rule."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from evaluation.metrics.exact_roc import compute_exact_roc
from evaluation.metrics.roc import ProbabilityHistogram, Roc


def pixels(seed: int, n: int = 5000, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.05
    p = rng.beta(1 + 3 * truth, 4, n).astype(np.float32)
    return (p if steps is None else np.round(p * steps).astype(np.float32) / steps), truth


def check_rule(curve: Roc, p: np.ndarray, truth: np.ndarray) -> None:
    """Point i is ``p > threshold[i]``; thresholds fall; both ends are there; none comes twice."""
    for x, y, threshold in zip(
        curve.false_positive_rate, curve.true_positive_rate, curve.threshold.tolist(), strict=True
    ):
        found = p > threshold
        assert x == np.count_nonzero(found & ~truth) / np.count_nonzero(~truth)
        assert y == np.count_nonzero(found & truth) / np.count_nonzero(truth)
    assert (np.diff(curve.threshold) < 0).all()
    assert (
        curve.false_positive_rate[[0, -1]].tolist(),
        curve.true_positive_rate[[0, -1]].tolist(),
    ) == ([0, 1], [0, 1])
    assert (np.diff(curve.false_positive_rate) + np.diff(curve.true_positive_rate) > 0).all()


@pytest.mark.parametrize("steps", [None, 7, 100])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn(seed: int, steps: int | None) -> None:
    p, truth = pixels(seed, steps=steps)
    curve = compute_exact_roc(p, truth)
    assert curve.area() == pytest.approx(roc_auc_score(truth, p), abs=1e-12)
    fpr, tpr, _ = roc_curve(truth, p, drop_intermediate=False)
    theirs = set(zip(fpr.tolist(), tpr.tolist(), strict=True))
    ours = set(
        zip(curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist(), strict=True)
    )
    assert ours <= theirs
    for x, y in theirs - ours:  # lies where the curve goes straight up or to the right
        before = np.flatnonzero((curve.false_positive_rate <= x) & (curve.true_positive_rate <= y))[
            -1
        ]
        assert x == curve.false_positive_rate[before] or y == curve.true_positive_rate[before]


def test_every_point_follows_the_rule() -> None:
    for seed, steps in ((0, None), (1, 7), (2, 100)):
        p, truth = pixels(seed, 500, steps)
        truth[:2] = [False, True]
        check_rule(compute_exact_roc(p, truth), p, truth)
        check_rule(compute_exact_roc(p.astype(np.float64), truth), p, truth)
        inside = (p > 0.1) & (p <= 0.9)
        check_rule(compute_exact_roc(p, truth, 0.1, 0.9), p[inside], truth[inside])


def test_by_hand() -> None:
    """Probabilities 0 and 1 of both kinds, 0.5 outside: over ties the curve goes straight."""
    p = np.array([0.0, -0.0, 0.5, 1.0, 1.0])
    truth = np.array([False, True, False, True, False])
    curve = compute_exact_roc(p, truth)
    assert curve.false_positive_rate.tolist() == [0, 1 / 3, 2 / 3, 1]
    assert curve.true_positive_rate.tolist() == [0, 1 / 2, 1 / 2, 1]
    assert curve.threshold.tolist() == [1.0, 0.5, 0.0, -np.inf]
    check_rule(curve, p, truth)
    # of 3 x 2 pairs: 1 over 0.5 and 0 won, 1 with 1 and 0 with 0 tied, 0 under 0.5 and 1 lost
    assert curve.area() == pytest.approx((2 + 2 / 2) / 6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.longdouble])
def test_any_floating_dtype_and_shape(dtype: type) -> None:
    p = np.array([[0.25, 0.5], [0.5, 0.75]]).astype(dtype)[:, ::-1]
    truth = np.array([[False, True], [False, True]])[:, ::-1]
    # 0.5 over 0.25, tied with 0.5; 0.75 over both
    assert compute_exact_roc(p, truth).area() == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_are_those_of_the_histogram(dtype: type) -> None:
    """low < p <= high, and p = 0 with low = 0."""
    p, truth = np.array([0.01, 0.02, 0.99, 1.0], dtype), np.array([True, False, True, False])
    histogram = ProbabilityHistogram()
    histogram.add(p, truth)
    # 0.02 and 0.99 are left: one pair, won
    assert compute_exact_roc(p, truth, 0.01, 0.99).area() == 1
    assert histogram.rauc() == 1
    assert histogram.inside().n_pixels == 2
    # of all four pairs only 0.99 over 0.02 is won
    assert compute_exact_roc(p, truth).area() == pytest.approx(1 / 4)
    assert histogram.auc() == pytest.approx(1 / 4)
    # (0, 0.99] takes in p = 0: 0 and 0.01 inside, 0.02 outside
    p = np.array([0.0, 0.01, 0.02, 1.0], dtype)
    truth = np.array([True, True, False, False])
    other = ProbabilityHistogram()
    other.add(p, truth)
    assert compute_exact_roc(p, truth, 0.0, 0.99).area() == other.rauc(0.0, 0.99) == 0
    assert compute_exact_roc(p, truth, 0.0, 0.99).true_positive_rate.tolist() == [0, 0, 1]


def test_the_histogram_is_close_and_the_restricted_curve_too() -> None:
    p, truth = pixels(0, n=200_000)
    histogram = ProbabilityHistogram()
    histogram.add(p, truth)
    assert histogram.auc() == pytest.approx(compute_exact_roc(p, truth).area(), abs=1e-6)
    inside = (p > 0.01) & (p <= 0.99)
    expected = roc_auc_score(truth[inside], p[inside])
    assert compute_exact_roc(p, truth, 0.01, 0.99).area() == pytest.approx(expected, abs=1e-12)
    assert histogram.rauc() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("p", "truth", "bounds", "rule"),
    [
        (np.zeros(3), np.zeros(2, bool), (), "shape of `reference`"),
        (
            np.zeros(3),
            np.zeros(3, bool),
            (),
            "inside and outside the reference. Received: 0 inside, 3 outside",
        ),
        (np.zeros(3), np.ones(3, bool), (), "3 inside, 0 outside"),
        (np.zeros(0), np.zeros(0, bool), (), "0 inside, 0 outside"),
        (np.array([0.1, np.nan]), np.array([True, False]), (), "without NaN"),
        (np.array([0.1, 1.1]), np.array([True, False]), (), r"must be in \[0, 1\]"),
        (np.array([-0.1, 1.0]), np.array([True, False]), (), r"must be in \[0, 1\]"),
        (np.array([0.1, 0.2]), np.array([1, 0]), (), "boolean"),
        (np.array([0, 1]), np.array([True, False]), (), "floating dtype"),
        (np.array([0.1, 0.2]), np.array([True, False]), (0.5, 0.5), "low < high"),
        (
            np.array([0.1, 0.2]),
            np.array([True, False]),
            (0.5, 0.9),
            "0 inside, 0 outside with low=0.5, high=0.9",
        ),
    ],
)
def test_refusals(p: np.ndarray, truth: np.ndarray, bounds: tuple[float, ...], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        compute_exact_roc(p, truth, *bounds)
