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


def test_dice_and_focal_by_hand() -> None:
    truth, probability = [1.0, 1.0, 0.0, 0.0], [0.8, 0.4, 0.4, 0.1]
    of_truth = np.array([0.8, 0.4, 0.6, 0.9])
    focal = ((1 - of_truth) ** 2 * -np.log(of_truth)).mean()
    logits = volume([logit(p) for p in probability])
    found = float(DiceFocalRatio()(volume(truth), logits))
    assert found == pytest.approx(1 - 3.4 / 4.7 + focal, abs=1e-6)


def test_the_penalty_is_on_the_share_of_tumor_in_the_liver() -> None:
    """Liver in three of four voxels; tumor probability 0.8 + 0.4 + 0.4 in it: a ratio of 1.6 / 3."""
    liver, weak = volume([1, 1, 1, 0]), volume([0.2] * 4)
    truth = np.concatenate([volume([1, 1, 0, 0]), liver, weak], -1)
    logits = volume([logit(p) for p in (0.8, 0.4, 0.4, 0.1)])
    without, penalised = (float(DiceFocalRatio(weight)(truth, logits)) for weight in (0.0, 0.5))
    assert penalised - without == pytest.approx(0.5 * (1.6 / 3 - 0.2) ** 2, abs=1e-6)


def test_a_crop_without_weak_label_has_no_penalty() -> None:
    truth = np.concatenate([volume([1, 0, 0, 0]), volume([1] * 4), volume([-1.0] * 4)], -1)
    logits = volume([-1.0, 0.0, 1.0, 2.0])
    assert float(DiceFocalRatio(0.5)(truth, logits)) == pytest.approx(float(DiceFocalRatio(0.0)(truth, logits)))


def test_a_crop_without_liver_has_no_penalty() -> None:
    truth = np.concatenate([volume([0] * 4), volume([0] * 4), volume([0.2] * 4)], -1)
    logits = volume([-1.0, 0.0, 1.0, 2.0])
    assert float(DiceFocalRatio(0.5)(truth, logits)) == pytest.approx(float(DiceFocalRatio(0.0)(truth, logits)))


def test_losses_come_back_from_their_configuration() -> None:
    for loss in (DiceLoss(0.5), DiceFocalRatio(0.5, 1.0, 0.25)):
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert again.get_config() == loss.get_config()


def test_saturated_logits_keep_a_gradient() -> None:
    """All background with certainty: the focal part still pulls the missed voxel up."""
    logits = keras.Variable(volume([-20.0] * 4))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = DiceFocalRatio()(volume([1, 0, 0, 0]), logits)
    assert float(tape.gradient(loss, logits.value)[0, 0, 0, 0, 0]) < -0.1
