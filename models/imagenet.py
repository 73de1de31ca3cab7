"""Make a CT slice the input that ImageNet's weights expect.

Elmenabawy et al. start both encoders from ImageNet weights, which expect three channels with
ImageNet's mean and deviation. The text does not say how; assumed: the slice in [0, 1] stands for
all three channels, as in a grey photograph.
"""

from __future__ import annotations

import keras
from keras import layers

from models.checks import require, require_multiple

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue in [0, 1], as torchvision's published networks were trained."""
FACTOR = 32
"""Both encoders halve the resolution five times."""


def make_input(
    input_size: int | None, input_channels: int, classes: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Check a network's size and return its input and what its encoder sees.

    Args:
        input_size: rows and columns, a multiple of `FACTOR`; None accepts any such size.
        input_channels: 1 or 3.
        classes: at least 2.

    Returns:
        The input, and three normalised channels of it; no layer between has parameters.

    Raises:
        ValueError: an argument out of its range.
    """
    require_multiple(input_size, FACTOR)
    require(input_channels in (1, 3), "input_channels must be 1 or 3", input_channels)
    require(classes >= 2, "classes must be at least 2 for a softmax", classes)
    x = inputs = layers.Input((input_size, input_size, input_channels), name="slice")
    if input_channels == 1:
        x = layers.Concatenate(name="three_channels")([x, x, x])
    scale = [1 / deviation for deviation in DEVIATION]
    offset = [-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)]
    return inputs, layers.Rescaling(scale, offset, name="normalise")(x)
