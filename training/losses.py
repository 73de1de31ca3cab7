"""Losses on logits: the paper's cross-entropy and its class-balanced version (Gruber et al. 2.4).

All losses read logits. Where a clipped probability saturates it has no gradient; on tumor slices (0.4 %
tumor pixels) a network with momentum then reaches p = 0 everywhere and never comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.backend import keras

PACKAGE = "joint_liver_tumor"


def balanced_binary_crossentropy(
    truth: keras.KerasTensor,
    logits: keras.KerasTensor,
    background_weight: float,
    foreground_weight: float,
) -> keras.KerasTensor:
    """Return the weighted cross-entropy of every pixel, w(b) * (softplus(z) - b * z).

    Args:
        truth: (batch, rows, columns, 1), 1 in the foreground, 0 elsewhere.
        logits: same shape, z with p = sigmoid(z).
        background_weight: w(0).
        foreground_weight: w(1).

    Returns:
        (batch, rows, columns) float32; the loss of paper 2.4 is its mean.
    """
    truth = keras.ops.cast(truth, logits.dtype)
    weight = background_weight + (foreground_weight - background_weight) * truth
    return keras.ops.squeeze(weight * (keras.ops.softplus(logits) - truth * logits), -1)


def balanced_categorical_crossentropy(
    truth: keras.KerasTensor, logits: keras.KerasTensor, class_weights: Sequence[float]
) -> keras.KerasTensor:
    """Return the weighted cross-entropy of every pixel, -w(c) * log softmax(z)_c with c the pixel's class.

    Args:
        truth: (batch, rows, columns, 1), the class of each pixel: 0 other, 1 liver, 2 tumor.
        logits: (batch, rows, columns, classes).
        class_weights: one weight a class, in the order of the classes.

    Returns:
        (batch, rows, columns) float32; the loss of paper 2.4 is its mean.
    """
    one_hot = keras.ops.one_hot(
        keras.ops.squeeze(keras.ops.cast(truth, "int32"), -1),
        len(class_weights),
        dtype=logits.dtype,
    )
    weights = keras.ops.convert_to_tensor(class_weights, dtype=logits.dtype)
    return -keras.ops.sum(one_hot * weights * keras.ops.log_softmax(logits, axis=-1), axis=-1)


@keras.saving.register_keras_serializable(PACKAGE)
class BalancedBinaryCrossentropy(keras.losses.Loss):
    """Mean over the pixels of `balanced_binary_crossentropy`; weights (1, 1) give the cross-entropy."""

    def __init__(
        self, background_weight: float = 1.0, foreground_weight: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.background_weight, self.foreground_weight = background_weight, foreground_weight

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        return balanced_binary_crossentropy(
            y_true, y_pred, self.background_weight, self.foreground_weight
        )

    def get_config(self) -> dict[str, Any]:
        weights = {
            "background_weight": self.background_weight,
            "foreground_weight": self.foreground_weight,
        }
        return {**super().get_config(), **weights}


@keras.saving.register_keras_serializable(PACKAGE)
class BalancedCategoricalCrossentropy(keras.losses.Loss):
    """Mean over the pixels of `balanced_categorical_crossentropy`; equal weights 1 give the cross-entropy."""

    def __init__(self, class_weights: Sequence[float] = (1.0, 1.0, 1.0), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.class_weights = tuple(class_weights)

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        return balanced_categorical_crossentropy(y_true, y_pred, self.class_weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "class_weights": list(self.class_weights)}


def inverse_frequency_weights(pixels: Sequence[int]) -> list[float]:
    """Return w_c = all pixels / (classes * pixels of c), so that the mean weight over the pixels is 1.

    The paper's formula is lost; this is the assumed one (PAPER.md, balanced loss).

    Args:
        pixels: number of pixels of each class over the training set.

    Raises:
        ValueError: a class has no pixel: its weight would be infinite.
    """
    if min(pixels) < 1:
        raise ValueError(f"pixels must be at least 1 for every class, got {list(pixels)}")
    return [sum(pixels) / (len(pixels) * count) for count in pixels]


def weights_of_ratio(
    background_pixels: int, foreground_pixels: int, ratio: float
) -> tuple[float, float]:
    """Return (background, foreground) weights in the given ratio whose mean over the pixels is 1.

    `ratio` 1 is the plain cross-entropy; `background_pixels / foreground_pixels` is the inverse class
    frequency. Between them lies the one-parameter family that the sweep over the class weight follows.
    """
    if ratio <= 0:
        raise ValueError(f"ratio must be positive, got {ratio}")
    total = background_pixels + foreground_pixels
    background = total / (background_pixels + ratio * foreground_pixels)
    return background, ratio * background
