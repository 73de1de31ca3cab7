"""Reliability and calibration error: by hand, against scikit-learn, of right probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from evaluation.metrics.calibration import measure_reliability
from evaluation.metrics.roc import ProbabilityHistogram


def histogram(probability: np.ndarray, truth: np.ndarray) -> ProbabilityHistogram:
    made = ProbabilityHistogram()
    made.add(probability, truth)
    return made


def test_by_hand() -> None:
    """Two bins: at 0.2 one of four is positive, at 0.9 two of two: errors 0.05 and 0.1."""
    reliability = measure_reliability(
        histogram(
            np.array([0.2] * 4 + [0.9] * 2), np.array([True, False, False, False, True, True])
        ),
        2,
    )
    np.testing.assert_array_equal(reliability.n_pixels, [4, 2])
    np.testing.assert_allclose(reliability.predicted, [0.2, 0.9], atol=1e-4)
    np.testing.assert_allclose(reliability.observed, [0.25, 1.0])
    assert reliability.ece == pytest.approx((4 * 0.05 + 2 * 0.1) / 6, abs=1e-4)


def test_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    truth = rng.random(20_000) < probability**2
    reliability = measure_reliability(histogram(probability, truth))
    observed, predicted = calibration_curve(truth, probability, n_bins=15)
    np.testing.assert_allclose(
        reliability.observed, observed, atol=0.002
    )  # pixels at an edge may change bins
    np.testing.assert_allclose(reliability.predicted, predicted, atol=0.001)


def test_right_probabilities_have_no_error_and_overconfident_ones_do() -> None:
    rng = np.random.default_rng(1)
    probability = rng.random(200_000)
    truth = rng.random(probability.size) < probability
    assert measure_reliability(histogram(probability, truth)).ece == pytest.approx(0, abs=0.005)
    always = measure_reliability(histogram(np.ones(10), np.arange(10) < 4)).ece
    assert always == pytest.approx(0.6, abs=1e-3)


def test_empty_bins_and_no_pixel() -> None:
    reliability = measure_reliability(histogram(np.array([0.5]), np.array([True])), 3)
    assert np.isnan(reliability.predicted[[0, 2]]).all()
    assert reliability.ece == pytest.approx(0.5, abs=1e-3)  # the middle of a fine bin
    assert measure_reliability(ProbabilityHistogram()).ece is None
