"""What the two one-stage networks of Elmenabawy et al. share: the input that ImageNet weights expect, the last layers.

The paper starts both encoders from ImageNet weights, which expect three channels with ImageNet's mean and deviation.
How a CT slice becomes that is not said; assumed: the slice in [0, 1] stands for all three channels, which is what a
grey photograph is.
"""

from __future__ import annotations

import keras
from keras import layers

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue in [0, 1], as torchvision's published networks were trained with."""

FACTOR = 32
"""Both encoders halve the resolution five times."""


def imagenet_input(
    input_size: int | None, input_channels: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the network's input and what its encoder sees: three channels, normalised; no layer has parameters."""
    x = inputs = layers.Input((input_size, input_size, input_channels), name="slice")
    if input_channels == 1:
        x = layers.Concatenate(name="three_channels")([x, x, x])
    scale = [1 / deviation for deviation in DEVIATION]
    offset = [-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)]
    return inputs, layers.Rescaling(scale, offset, name="normalise")(x)


def softmax_model(inputs: keras.KerasTensor, logits: keras.KerasTensor, name: str) -> keras.Model:
    """Return the network from `inputs` to the softmax of `logits`, the output of its layer of that name."""
    outputs = layers.Activation("softmax", dtype="float32", name="probability")(logits)
    return keras.Model(inputs, outputs, name=name)


def check_arguments(input_size: int | None, input_channels: int, classes: int) -> None:
    """Raise a ValueError that names the argument that is out of range."""
    if input_size is not None and (input_size < FACTOR or input_size % FACTOR):
        raise ValueError(f"input_size must be a multiple of {FACTOR}, got {input_size}")
    if input_channels not in (1, 3):
        raise ValueError(f"input_channels must be 1 or 3, got {input_channels}")
    if classes < 2:
        raise ValueError(f"classes must be at least 2 for a softmax, got {classes}")
