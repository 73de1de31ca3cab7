"""The U-Net of the paper (Gruber et al. 2.2; Ronneberger et al. 2015).

One builder serves the one-step network (three classes, softmax) and each network of the sequential
model (one channel, sigmoid).
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from models.checks import require, require_multiple, require_positive, require_rate
from models.head import end_network


def build_unet(
    input_size: int | None = 512,
    input_channels: int = 1,
    classes: int = 1,
    widths: Sequence[int] = (64, 128, 256, 512, 1024),
    dropout: float = 0.5,
    batch_normalization: bool = False,
    name: str = "unet",
) -> keras.Model:
    """Build a U-Net that maps slices to probabilities of their pixels.

    The contracting path halves the resolution `len(widths) - 1` times by 2 x 2 max pooling. The
    expanding path mirrors it with 2 x 2 transposed convolutions, the skip connection of the same
    level, dropout (expanding path only, paper 2.4; where in the level is assumed: on the
    concatenation) and two convolutions. A 1 x 1 convolution is the linear classifier.

    Args:
        input_size: rows and columns of the slice, a multiple of 2 ** (len(widths) - 1); None
            accepts any such size.
        input_channels: channels of the slice.
        classes: 1 gives a sigmoid, more a softmax over that many classes.
        widths: filters a level, from the finest to the bottom (assumed: Ronneberger's 64 to 1024).
        dropout: rate in the expanding path (stated, its value is lost; assumed 0.5); 0 for none.
        batch_normalization: between each convolution and its ReLU. The paper mentions none.
        name: the model's name.

    Returns:
        A model from (batch, rows, columns, input_channels) float32 to (batch, rows, columns,
        classes) float32 in (0, 1). Layers `logits` and `probability` are its last two.

    Raises:
        ValueError: no level, a size that the depth does not divide, `classes` or `dropout` out of
            its range.
    """
    has_levels = len(widths) > 0 and min(widths) > 0
    require(has_levels, "widths must hold at least one positive number", tuple(widths))
    require_multiple(input_size, 2 ** (len(widths) - 1))
    require_positive(classes=classes)
    require_rate(dropout)
    *encoder_widths, bottom_width = widths
    levels = list(enumerate(encoder_widths, start=1))
    inputs = layers.Input((input_size, input_size, input_channels), name="slice")
    # Down: keep each level's features for the way up.
    x, skips = inputs, []
    for level, width in levels:
        x = _convolve_twice(x, width, f"encoder_{level}", batch_normalization)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder_{level}_pool")(x)
    x = _convolve_twice(x, bottom_width, "bottom", batch_normalization)
    # Up: each level joins the features it had on the way down.
    for level, width in reversed(levels):
        up = f"decoder_{level}_up"
        x = layers.Conv2DTranspose(width, 2, 2, kernel_initializer="he_normal", name=up)(x)
        x = layers.Concatenate(name=f"decoder_{level}_concat")([skips[level - 1], x])
        if dropout:
            x = layers.Dropout(dropout, name=f"decoder_{level}_dropout")(x)
        x = _convolve_twice(x, width, f"decoder_{level}", batch_normalization)
    logits = layers.Conv2D(classes, 1, dtype="float32", name="logits")(x)
    return end_network(inputs, logits, name)


def _convolve_twice(
    x: keras.KerasTensor, filters: int, level: str, batch_normalization: bool
) -> keras.KerasTensor:
    """Apply two 3 x 3 convolutions with ReLU, named `<level>_conv_1` and `_2`."""
    fused = None if batch_normalization else "relu"
    for name in (f"{level}_conv_1", f"{level}_conv_2"):
        x = layers.Conv2D(
            filters, 3, 1, "same", activation=fused, kernel_initializer="he_normal", name=name
        )(x)
        if batch_normalization:
            x = layers.BatchNormalization(name=f"{name}_norm")(x)
            x = layers.Activation("relu", name=f"{name}_relu")(x)
    return x
