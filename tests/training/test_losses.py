"""The losses against scikit-learn, Keras and figures by hand, and where they saturate."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss

from training.losses import (
    LOSSES,
    BalancedBinaryCrossentropy,
    BalancedCategoricalCrossentropy,
    DiceFocalRatio,
    DiceLoss,
    make_loss,
    weigh_by_inverse_frequency,
    weigh_by_ratio,
)


@pytest.fixture
def pixels() -> tuple[np.ndarray, np.ndarray]:
    """Classes (2, 5, 5, 1) in 0, 1, 2 and logits (2, 5, 5, 3)."""
    rng = np.random.default_rng(3)
    return rng.integers(0, 3, (2, 5, 5, 1)).astype(np.float32), rng.normal(
        0, 2, (2, 5, 5, 3)
    ).astype(np.float32)


def test_weights_of_one_give_keras_cross_entropy(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    classes, logits = pixels
    binary, channel = (classes == 2).astype(np.float32), logits[..., :1]
    expected = keras.losses.BinaryCrossentropy(from_logits=True)(binary, channel)
    assert float(BalancedBinaryCrossentropy()(binary, channel)) == pytest.approx(
        float(expected), rel=1e-5
    )
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(classes, logits)
    assert float(BalancedCategoricalCrossentropy()(classes, logits)) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_weighted_losses_against_scikit_learn(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    classes, logits = pixels
    weights = np.array([0.5, 2.0, 40.0])
    probability = np.exp(logits.astype(np.float64))
    probability /= probability.sum(-1, keepdims=True)
    weight = weights[classes.astype(int).ravel()]
    # scikit-learn divides by the sum of the weights, the paper's loss by the number of pixels
    expected = (
        log_loss(classes.ravel(), probability.reshape(-1, 3), sample_weight=weight) * weight.mean()
    )
    assert float(BalancedCategoricalCrossentropy(weights)(classes, logits)) == pytest.approx(
        expected, rel=1e-5
    )

    truth, channel = classes[..., 0] == 2, logits[..., 0].astype(np.float64)
    weight = np.where(truth, 40.0, 0.5).ravel()
    sigmoid = 1 / (1 + np.exp(-channel.ravel()))
    expected = log_loss(truth.ravel(), sigmoid, sample_weight=weight) * weight.mean()
    loss = BalancedBinaryCrossentropy(0.5, 40.0)(
        truth[..., None].astype(np.float32), logits[..., :1]
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("logit", [-80.0, 80.0])
def test_loss_grows_linearly_where_probabilities_saturate(logit: float) -> None:
    """A clipped probability would give one loss for all such logits: a network without gradient."""
    truth = np.full((1, 1, 1, 1), logit < 0, np.float32)
    loss = BalancedBinaryCrossentropy()
    near, far = (
        float(loss(truth, np.full((1, 1, 1, 1), z, np.float32))) for z in (logit, 2 * logit)
    )
    assert near == pytest.approx(80, rel=1e-6)
    assert far == pytest.approx(160, rel=1e-6)


def test_inverse_frequency_by_hand() -> None:
    # 1000 pixels in 2 classes: 1000 / (2 * 990) and 1000 / (2 * 10)
    assert weigh_by_inverse_frequency([990, 10]) == pytest.approx([0.505050505, 50.0])
    assert weigh_by_inverse_frequency([80, 15, 5]) == pytest.approx([100 / 240, 100 / 45, 100 / 15])
    with pytest.raises(ValueError, match="pixels"):
        weigh_by_inverse_frequency([5, 0])


@pytest.mark.parametrize("ratio", [1.0, 10.0, 99.0])
def test_weights_of_a_ratio_average_to_one(ratio: float) -> None:
    background, foreground = weigh_by_ratio(990, 10, ratio)
    assert foreground / background == pytest.approx(ratio)
    assert (990 * background + 10 * foreground) / 1000 == pytest.approx(1)


def test_ratio_family_runs_from_plain_to_inverse_frequency() -> None:
    assert weigh_by_ratio(990, 10, 1.0) == pytest.approx((1, 1))
    assert weigh_by_ratio(990, 10, 99.0) == pytest.approx(
        tuple(weigh_by_inverse_frequency([990, 10]))
    )
    with pytest.raises(ValueError, match="ratio"):
        weigh_by_ratio(990, 10, 0.0)


@pytest.mark.parametrize(
    "loss",
    [
        BalancedBinaryCrossentropy(0.5, 7.0),
        BalancedCategoricalCrossentropy((0.5, 2.0, 9.0)),
        DiceLoss(0.5),
        DiceFocalRatio(0.5, 1.0, 0.25),
    ],
)
def test_losses_survive_serialization(loss: keras.losses.Loss) -> None:
    copied = keras.losses.deserialize(keras.losses.serialize(loss))
    assert copied.get_config() == loss.get_config()


def test_every_loss_names_the_networks_that_it_is_not_for() -> None:
    settings = {"ratio_weight": 0.5}
    made = {(name, target): make_loss(name, target, [1.0, 2.0], settings)
            for name in LOSSES for target in ("liver", "tumor")}  # fmt: skip
    assert isinstance(made["dice", "liver"], DiceLoss)
    assert made["dice_focal", "tumor"].ratio_weight == 0.5
    assert made["cross_entropy", "liver"].foreground_weight == 2.0
    weighted = make_loss("cross_entropy", "classes", [1.0, 2.0, 3.0], settings)
    assert weighted.class_weights == (1.0, 2.0, 3.0)
    for name in ("dice", "dice_focal"):
        with pytest.raises(ValueError, match=f"loss {name} is for networks of one channel"):
            make_loss(name, "classes", [1.0, 1.0, 1.0], settings)
    with pytest.raises(ValueError, match=r"loss must be one of cross_entropy, .*, got 'hinge'"):
        make_loss("hinge", "liver", [1.0, 1.0], settings)


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 3, 4, 4)])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_one_channel_falls_with_the_error_in_2d_and_3d(
    name: str, shape: tuple[int, ...]
) -> None:
    """Further channels of the truth, which the penalty reads, change nothing without it."""
    truth = np.random.default_rng(0).random((*shape, 1)) < 0.3
    loss = make_loss(name, "tumor", [1.0, 1.0], {})
    values = [float(loss(truth.astype(np.float32), 9.0 * sign * (truth - 0.5))) for sign in (-1, 1)]
    assert values[1] < 0.1 < values[0]
    further = np.repeat(truth, 3, axis=-1).astype(np.float32)
    assert float(loss(further, 9.0 * (truth - 0.5))) == pytest.approx(values[1])


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
    loss = float(DiceFocalRatio()(volume(truth), logits))
    assert loss == pytest.approx(1 - 3.4 / 4.7 + focal, abs=1e-6)


def test_the_penalty_is_on_the_patient_s_ratio() -> None:
    """Liver in three of the crop's four voxels and in two elsewhere, one of them tumor.

    The weak label is 0.3. Tumor probability 0.8 + 0.4 + 0.4 in the crop's liver: with the reference
    elsewhere a ratio of (1.6 + 1) / 5.
    """
    share, left = volume([0.2, 0.2, 0.2, 0]), volume([0.3 - 1 / 5] * 4)
    truth = np.concatenate([volume([1, 1, 0, 0]), share, left], -1)
    logits = volume([logit(p) for p in (0.8, 0.4, 0.4, 0.1)])
    without, penalised = (float(DiceFocalRatio(weight)(truth, logits)) for weight in (0.0, 0.5))
    assert penalised - without == pytest.approx(0.5 * (2.6 / 5 - 0.3) ** 2, abs=1e-6)


def test_the_penalty_pulls_each_voxel_of_the_liver_by_its_share_of_the_ratio() -> None:
    """d/dz of 0.5 (r - w)^2 is (r - w) p (1 - p) / liver: (2.6 / 5 - 0.3) p (1 - p) / 5; else 0."""
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


def test_saturated_logits_keep_a_gradient() -> None:
    """All background with certainty: the focal part still pulls the missed voxel up."""
    assert gradient(0.0, volume([1, 0, 0, 0]), [-20.0] * 4)[0] < -0.1
