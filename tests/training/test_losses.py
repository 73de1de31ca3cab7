"""The losses against scikit-learn and Keras, and where they must not fail: at saturation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss

from training.losses import (
    BalancedBinaryCrossentropy,
    BalancedCategoricalCrossentropy,
    inverse_frequency_weights,
    weights_of_ratio,
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
    """A clipped probability would give the same loss for every such logit: no gradient, the network stuck."""
    truth = np.full((1, 1, 1, 1), logit < 0, np.float32)
    loss = BalancedBinaryCrossentropy()
    near, far = (
        float(loss(truth, np.full((1, 1, 1, 1), z, np.float32))) for z in (logit, 2 * logit)
    )
    assert near == pytest.approx(80, rel=1e-6)
    assert far == pytest.approx(160, rel=1e-6)


def test_inverse_frequency_by_hand() -> None:
    # 1000 pixels in 2 classes: 1000 / (2 * 990) and 1000 / (2 * 10)
    assert inverse_frequency_weights([990, 10]) == pytest.approx([0.505050505, 50.0])
    assert inverse_frequency_weights([80, 15, 5]) == pytest.approx([100 / 240, 100 / 45, 100 / 15])
    with pytest.raises(ValueError, match="pixels"):
        inverse_frequency_weights([5, 0])


@pytest.mark.parametrize("ratio", [1.0, 10.0, 99.0])
def test_weights_of_a_ratio_average_to_one(ratio: float) -> None:
    background, foreground = weights_of_ratio(990, 10, ratio)
    assert foreground / background == pytest.approx(ratio)
    assert (990 * background + 10 * foreground) / 1000 == pytest.approx(1)


def test_ratio_family_runs_from_plain_to_inverse_frequency() -> None:
    assert weights_of_ratio(990, 10, 1.0) == pytest.approx((1, 1))
    assert weights_of_ratio(990, 10, 99.0) == pytest.approx(
        tuple(inverse_frequency_weights([990, 10]))
    )
    with pytest.raises(ValueError, match="ratio"):
        weights_of_ratio(990, 10, 0.0)


@pytest.mark.parametrize(
    "loss", [BalancedBinaryCrossentropy(0.5, 7.0), BalancedCategoricalCrossentropy((0.5, 2.0, 9.0))]
)
def test_losses_survive_serialization(loss: keras.losses.Loss) -> None:
    copied = keras.losses.deserialize(keras.losses.serialize(loss))
    assert copied.get_config() == loss.get_config()
