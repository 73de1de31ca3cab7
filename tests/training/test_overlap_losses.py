"""Dice, focal and the penalty on the ratio: against figures derived by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from training.overlap_losses import DiceFocalRatio, DiceLoss


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_dice_loss_by_hand() -> None:
    """Truth 1, 1, 0, 0 and probabilities 0.8, 0.4, 0.4, 0.1: overlap 1.2, sizes 2 + 1.7."""
    truth = np.array([1, 1, 0, 0], np.float32).reshape(1, 2, 2, 1)
    logits = np.array([logit(p) for p in (0.8, 0.4, 0.4, 0.1)], np.float32).reshape(1, 2, 2, 1)
    assert float(DiceLoss(smooth=0)(truth, logits)) == pytest.approx(1 - 2.4 / 3.7, abs=1e-6)
    assert float(DiceLoss()(truth, logits)) == pytest.approx(1 - 3.4 / 4.7, abs=1e-6)


def test_dice_of_nothing_in_nothing_is_no_loss() -> None:
    empty = np.zeros((2, 4, 4, 1), np.float32)
    assert float(DiceLoss()(empty, empty - 30)) == pytest.approx(0, abs=1e-6)


def volume(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, 2, 2, 1)


def gradient(ratio_weight: float, truth: np.ndarray, values: list[float]) -> np.ndarray:
    """Return the loss's gradient at the logits of four voxels."""
    import tensorflow as tf

    logits = keras.Variable(volume(values))
    with tf.GradientTape() as tape:
        loss = DiceFocalRatio(ratio_weight)(truth, logits)
    return np.ravel(tape.gradient(loss, logits.value))


def test_dice_and_focal_by_hand() -> None:
    truth, probability = [1.0, 1.0, 0.0, 0.0], [0.8, 0.4, 0.4, 0.1]
    of_truth = np.array([0.8, 0.4, 0.6, 0.9])
    focal = ((1 - of_truth) ** 2 * -np.log(of_truth)).mean()
    logits = volume([logit(p) for p in probability])
    found = float(DiceFocalRatio()(volume(truth), logits))
    assert found == pytest.approx(1 - 3.4 / 4.7 + focal, abs=1e-6)


def test_the_penalty_is_on_the_patient_s_ratio() -> None:
    """Liver in three of the crop's four voxels and in two elsewhere, one of them tumor; weak label 0.3.

    Tumor probability 0.8 + 0.4 + 0.4 in the crop's liver: with the reference elsewhere a ratio of (1.6 + 1) / 5.
    """
    share, left = volume([0.2, 0.2, 0.2, 0]), volume([0.3 - 1 / 5] * 4)
    truth = np.concatenate([volume([1, 1, 0, 0]), share, left], -1)
    logits = volume([logit(p) for p in (0.8, 0.4, 0.4, 0.1)])
    without, penalised = (float(DiceFocalRatio(weight)(truth, logits)) for weight in (0.0, 0.5))
    assert penalised - without == pytest.approx(0.5 * (2.6 / 5 - 0.3) ** 2, abs=1e-6)


def test_the_penalty_pulls_each_voxel_of_the_liver_by_its_share_of_the_ratio() -> None:
    """d/dz of 0.5 (r - w)^2 is (r - w) p (1 - p) / liver: here (2.6 / 5 - 0.3) * p (1 - p) / 5; outside the liver 0."""
    probability = np.array([0.8, 0.4, 0.4, 0.1])
    truth = np.concatenate(
        [volume([1, 1, 0, 0]), volume([0.2, 0.2, 0.2, 0]), volume([0.1] * 4)], -1
    )
    logits = [logit(p) for p in probability]
    expected = (2.6 / 5 - 0.3) * probability * (1 - probability) / 5 * [1, 1, 1, 0]
    np.testing.assert_allclose(
        gradient(0.5, truth, logits) - gradient(0.0, truth, logits), expected, atol=1e-6
    )


def test_a_crop_without_liver_is_not_pulled() -> None:
    truth = np.concatenate([volume([0] * 4), volume([0] * 4), volume([0.2] * 4)], -1)
    logits = [-1.0, 0.0, 1.0, 2.0]
    np.testing.assert_array_equal(gradient(0.5, truth, logits), gradient(0.0, truth, logits))


def test_losses_come_back_from_their_configuration() -> None:
    for loss in (DiceLoss(0.5), DiceFocalRatio(0.5, 1.0, 0.25)):
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert again.get_config() == loss.get_config()


def test_saturated_logits_keep_a_gradient() -> None:
    """All background with certainty: the focal part still pulls the missed voxel up."""
    assert gradient(0.0, volume([1, 0, 0, 0]), [-20.0] * 4)[0] < -0.1
