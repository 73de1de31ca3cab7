"""The sorted ROC curve against scikit-learn and against the histogram."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from evaluation.exact_roc import exact_roc
from evaluation.roc import ProbabilityHistogram


def pixels(seed: int, n: int = 5000, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.05
    p = rng.beta(1 + 3 * truth, 4, n).astype(np.float32)
    return (p if steps is None else np.round(p * steps).astype(np.float32) / steps), truth


@pytest.mark.parametrize("steps", [None, 7, 100])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn(seed: int, steps: int | None) -> None:
    p, truth = pixels(seed, steps=steps)
    found = exact_roc(p, truth)
    assert found.area() == pytest.approx(roc_auc_score(truth, p), abs=1e-12)
    fpr, tpr, _ = roc_curve(truth, p, drop_intermediate=False)
    # every point of theirs lies on our curve
    for x, y in zip(fpr, tpr, strict=True):
        on_it = (found.false_positive_rate == x) & (found.true_positive_rate == y)
        between = (np.diff(found.true_positive_rate) == 0) & (found.true_positive_rate[1:] == y)
        between &= (found.false_positive_rate[:-1] <= x) & (x <= found.false_positive_rate[1:])
        assert on_it.any() or between.any()
    assert (np.diff(found.false_positive_rate) >= 0).all()
    assert (np.diff(found.true_positive_rate) >= 0).all()


def test_the_histogram_is_close_and_the_restricted_curve_too() -> None:
    p, truth = pixels(0, n=200_000)
    histogram = ProbabilityHistogram()
    histogram.add(p, truth)
    assert histogram.auc() == pytest.approx(exact_roc(p, truth).area(), abs=1e-6)
    inside = (p > 0.01) & (p < 0.99)
    expected = roc_auc_score(truth[inside], p[inside])
    assert exact_roc(p, truth, 0.01, 0.99).area() == pytest.approx(expected, abs=1e-12)
    assert histogram.rauc() == pytest.approx(expected, abs=1e-6)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="one shape"):
        exact_roc(np.zeros(3), np.zeros(2, bool))
    with pytest.raises(ValueError, match="inside and outside"):
        exact_roc(np.zeros(3), np.zeros(3, bool))
