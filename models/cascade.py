"""The two U-Nets of the sequential model nested in one Keras functional model (paper 2.1, 2.4: the joint loss).

The nested model maps a slice X to L(X) and T(M * w(X)). Trained as one, the loss is
alpha * loss(A, L(X)) + beta * loss(B, T(M * w(X))) (paper eq. 2.1). The hard mask M = [L(X) > s1] has no gradient, so
the tumor term would never reach L; in training the mask is therefore L's probability (assumed; `MASKS` lists the
alternatives). At prediction it is the hard mask, as in the sequential model, whose networks these are: a pair goes in
and comes out unchanged.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from models.unet import logits_model

MASKS = ("probability", "hard", "straight_through")
"""What multiplies the second input in training: L(X); [L(X) > s1], without gradient; its value with L(X)'s gradient."""


@keras.saving.register_keras_serializable("joint_liver_tumor")
class LiverMask(layers.Layer):
    """M from L(X): [L(X) > s1] at prediction; in training what `training_mask` says (`MASKS`).

    Args:
        s1: threshold of the first network.
        training_mask: one of `MASKS`.

    Raises:
        ValueError: s1 outside [0, 1], or no such mask.
    """

    def __init__(self, s1: float = 0.5, training_mask: str = "probability", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= s1 <= 1:
            raise ValueError(f"s1 must lie in [0, 1], got {s1}")
        if training_mask not in MASKS:
            raise ValueError(
                f"training_mask must be one of {', '.join(MASKS)}, got {training_mask!r}"
            )
        self.s1, self.training_mask = s1, training_mask

    def call(self, probability: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Map L(X), (batch, rows, columns, 1) float32, to the mask of the same shape."""
        if training and self.training_mask == "probability":
            return probability
        hard = keras.ops.cast(probability > self.s1, probability.dtype)
        if training and self.training_mask == "straight_through":
            return probability + keras.ops.stop_gradient(hard - probability)
        return keras.ops.stop_gradient(hard)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "s1": self.s1, "training_mask": self.training_mask}


def cascade(
    liver: keras.Model,
    tumor: keras.Model,
    s1: float = 0.5,
    training_mask: str = "probability",
    name: str = "joint",
) -> keras.Model:
    """Nest the two networks of the sequential model; the result shares every weight with them.

    Args:
        liver: L, (batch, rows, columns, 1) -> (batch, rows, columns, 1), a `models.unet.unet` named "liver".
        tumor: T, of the same shapes, named "tumor".
        s1: threshold of L.
        training_mask: what stands for the mask M in training, one of `MASKS`.
        name: the model's name.

    Returns:
        A `keras.Model` from {"slice": X, "scaled": w(X)}, each (batch, rows, columns, 1) float32, to
        {"liver": L(X), "tumor": T(M * w(X))}, probabilities of the same shape. T is not masked: a tumor pixel lies
        inside M (`models.sequential.masked_tumor_probability`).

    Raises:
        ValueError: the networks differ in their input's shape, or are not named "liver" and "tumor".
    """
    _check(liver, tumor)
    return _nested(liver, tumor, LiverMask(s1, training_mask, name="mask", dtype="float32"), name)


def split_cascade(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return the networks (L, T) of a `cascade`, with their weights: the sequential pair again."""
    return model.get_layer("liver"), model.get_layer("tumor")


def cascade_logits(model: keras.Model) -> keras.Model:
    """Return `model` with logits for probabilities, which the losses read; it shares every weight with `model`."""
    liver, tumor = split_cascade(model)
    mask: LiverMask = model.get_layer("mask")
    return _nested(
        logits_model(liver), logits_model(tumor), mask, f"{model.name}_logits", logits=True
    )


def _nested(
    liver: keras.Model, tumor: keras.Model, mask: LiverMask, name: str, logits: bool = False
) -> keras.Model:
    shape = liver.input_shape[1:]
    inputs = {key: layers.Input(shape, name=key) for key in ("slice", "scaled")}
    liver_output = probability = liver(inputs["slice"])
    if logits:
        probability = layers.Activation("sigmoid", dtype="float32", name="probability")(
            liver_output
        )
    masked = layers.Multiply(dtype="float32", name="masked")([inputs["scaled"], mask(probability)])
    return keras.Model(inputs, {"liver": liver_output, "tumor": tumor(masked)}, name=name)


def _check(liver: keras.Model, tumor: keras.Model) -> None:
    if liver.input_shape != tumor.input_shape:
        raise ValueError(
            f"tumor must take the input of liver, {liver.input_shape}, got {tumor.input_shape}"
        )
    for network, wanted in ((liver, "liver"), (tumor, "tumor")):
        if network.name != wanted:
            raise ValueError(f"{wanted} must be named {wanted!r}, got {network.name!r}")
