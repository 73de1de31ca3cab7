"""The IoU followed per epoch, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from training.metrics import BEST, MOST_PROBABLE, make_metrics


def updated(
    target: str, truth: np.ndarray, logits: np.ndarray, best_by: str = BEST
) -> dict[str, float]:
    metrics = make_metrics(target, best_by)
    for metric in metrics:
        for part in range(len(truth)):  # batch by batch, as in an epoch
            metric.update_state(truth[part : part + 1], logits[part : part + 1])
    return {metric.name: float(metric.result()) for metric in metrics}


def test_binary_iou_at_half_and_at_the_best_threshold() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((3, 8, 8, 1)) < 0.3
    logits = (rng.normal(0, 1, truth.shape) + 2 * truth).astype(np.float32)
    found = updated("tumor", truth.astype(np.float32), logits)
    probability = 1 / (1 + np.exp(-logits))
    at = [jaccard_score(truth.ravel(), (probability >= k / 200).ravel()) for k in range(200)]
    assert found["tumor_iou_at_half"] == pytest.approx(at[100], abs=1e-6)
    assert found["tumor_iou"] == pytest.approx(max(at), abs=1e-6)


def test_one_step_iou_of_liver_and_tumor() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, (2, 8, 8, 1))
    logits = rng.normal(0, 1, (2, 8, 8, 3)).astype(np.float32)
    found = updated("classes", truth.astype(np.float32), logits)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    liver = jaccard_score(truth.ravel() >= 1, (1 - probability[..., 0] >= 0.5).ravel())
    tumor = jaccard_score(truth.ravel() == 2, (probability[..., 2] >= 0.5).ravel())
    assert found["liver_iou_at_half"] == pytest.approx(liver, abs=1e-6)
    assert found["tumor_iou_at_half"] == pytest.approx(tumor, abs=1e-6)


def test_three_classes_are_followed_by_the_most_probable_one() -> None:
    """Where liver and tumor reach 0.5 and background is the most probable, nothing is found."""
    truth = np.array([0, 1, 1, 2, 2, 2]).reshape(1, 1, 6, 1)
    shares = [
        [0.4, 0.3, 0.3],
        [0.3, 0.4, 0.3],
        [0.45, 0.3, 0.25],
        [0.3, 0.3, 0.4],
        [0.2, 0.41, 0.39],
        [0.4, 0.25, 0.35],
    ]
    logits = np.log(np.array(shares, np.float32)).reshape(1, 1, 6, 3)
    found = updated("classes", truth.astype(np.float32), logits, MOST_PROBABLE)
    assert found["liver_iou_at_half"] == pytest.approx(5 / 6)
    assert found["liver_iou_most_probable"] == pytest.approx(3 / 5)
    assert found["tumor_iou_most_probable"] == pytest.approx(1 / 3)
    assert "liver_iou_most_probable" not in updated("classes", truth.astype(np.float32), logits)


def test_nothing_to_find_gives_zero_and_state_is_reset() -> None:
    metric = make_metrics("liver")[0]
    metric.update_state(np.zeros((1, 4, 4, 1), np.float32), np.full((1, 4, 4, 1), -9, np.float32))
    assert float(metric.result()) == 0
    metric.update_state(np.ones((1, 4, 4, 1), np.float32), np.full((1, 4, 4, 1), 9, np.float32))
    assert float(metric.result()) == pytest.approx(1)
    metric.reset_state()
    assert float(metric.result()) == 0
