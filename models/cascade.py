"""The sequential model's two U-Nets nested in one graph (paper 2.1, 2.4).

It maps a slice X to L(X) and T(M * w(X)), for the joint loss alpha * loss(A, L(X)) + beta * loss(B,
T(M * w(X))) (paper eq. 2.1). The hard mask M = [L(X) > s1] has no gradient, so the tumor term would
never reach L. In training the mask is therefore L's probability (assumed; `MASKS` lists the
alternatives). At prediction it is the hard mask, as in the sequential model: a pair of networks
goes in and comes out unchanged.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from models.checks import require
from models.head import trim_to_logits

MASKS = ("probability", "hard", "straight_through")
"""What multiplies the second input in training: L(X); [L(X) > s1], without gradient; its value with
L(X)'s gradient."""


@keras.saving.register_keras_serializable("joint_liver_tumor")
class LiverMask(layers.Layer):
    """The mask M made of L(X).

    At prediction it is [L(X) > s1]; in training `training_mask` decides (`MASKS`).

    Args:
        s1: threshold of the first network.
        training_mask: one of `MASKS`.

    Raises:
        ValueError: s1 outside [0, 1], or no such mask.
    """

    def __init__(self, s1: float = 0.5, training_mask: str = "probability", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(0 <= s1 <= 1, "s1 must lie in [0, 1]", s1)
        known = f"training_mask must be one of {', '.join(MASKS)}"
        require(training_mask in MASKS, known, repr(training_mask))
        self.s1, self.training_mask = s1, training_mask

    def call(self, probability: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Map L(X), (batch, rows, columns, 1) float32, to the mask of the same shape."""
        if training and self.training_mask == "probability":
            return probability
        hard = keras.ops.cast(probability > self.s1, probability.dtype)
        if training and self.training_mask == "straight_through":
            return probability + keras.ops.stop_gradient(hard - probability)
        return keras.ops.stop_gradient(hard)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the layer again."""
        return {**super().get_config(), "s1": self.s1, "training_mask": self.training_mask}


def build_cascade(
    liver: keras.Model,
    tumor: keras.Model,
    s1: float = 0.5,
    training_mask: str = "probability",
    name: str = "joint",
) -> keras.Model:
    """Nest the two networks of the sequential model, which share their weights.

    Args:
        liver: L, (batch, rows, columns, 1) -> (batch, rows, columns, 1), named "liver".
        tumor: T, of the same shapes, named "tumor".
        s1: threshold of L.
        training_mask: what stands for the mask M in training, one of `MASKS`.
        name: the model's name.

    Returns:
        A model from {"slice": X, "scaled": w(X)}, each (batch, rows, columns, 1) float32, to
        {"liver": L(X), "tumor": T(M * w(X))}, probabilities of the same shape. T is not masked: a
        tumor pixel lies inside M (`models.sequential.mask_tumor`).

    Raises:
        ValueError: the networks differ in their input's shape, or are not named "liver" and
            "tumor"; s1 or the mask out of its range.
    """
    shape = liver.input_shape
    require(
        tumor.input_shape == shape,
        f"tumor must take the input of liver, {shape}",
        tumor.input_shape,
    )
    for network, expected in ((liver, "liver"), (tumor, "tumor")):
        is_named = network.name == expected
        require(is_named, f"{expected} must be named {expected!r}", repr(network.name))
    return _nest(liver, tumor, LiverMask(s1, training_mask, name="mask", dtype="float32"), name)


def split_cascade(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return the networks (L, T) of a cascade, with their weights."""
    return model.get_layer("liver"), model.get_layer("tumor")


def trim_cascade_to_logits(model: keras.Model) -> keras.Model:
    """Return a cascade that gives logits for a loss; it shares every weight."""
    liver, tumor = map(trim_to_logits, split_cascade(model))
    return _nest(liver, tumor, model.get_layer("mask"), f"{model.name}_logits", logits=True)


def _nest(
    liver: keras.Model, tumor: keras.Model, mask: LiverMask, name: str, logits: bool = False
) -> keras.Model:
    inputs = {key: layers.Input(liver.input_shape[1:], name=key) for key in ("slice", "scaled")}
    liver_output = probability = liver(inputs["slice"])
    if logits:
        sigmoid = layers.Activation("sigmoid", dtype="float32", name="probability")
        probability = sigmoid(liver_output)
    masked = layers.Multiply(dtype="float32", name="masked")([inputs["scaled"], mask(probability)])
    return keras.Model(inputs, {"liver": liver_output, "tumor": tumor(masked)}, name=name)
