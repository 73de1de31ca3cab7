"""The U-Net of the paper as a Keras functional graph (Gruber et al. 2.2; Ronneberger et al. 2015).

One builder serves the one-step network (three classes, softmax) and each network of the sequential
model (one channel, sigmoid). The last convolution gives logits; a parameter-free layer named
`probability` follows it. Training reads the logits (`logits_model`), because the gradient of a loss on
clipped probabilities vanishes where they saturate; everything else reads the probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers


def convolution_block(
    x: keras.KerasTensor, filters: int, level: str, batch_normalization: bool
) -> keras.KerasTensor:
    """Two 3 x 3 convolutions with ReLU (He initialisation, same padding), named `<level>_conv_1` and `_2`."""
    for index in (1, 2):
        name = f"{level}_conv_{index}"
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            activation=None if batch_normalization else "relu",
            kernel_initializer="he_normal",
            name=name,
        )(x)
        if batch_normalization:
            x = layers.BatchNormalization(name=f"{name}_norm")(x)
            x = layers.Activation("relu", name=f"{name}_relu")(x)
    return x


def unet(
    input_size: int | None = 512,
    input_channels: int = 1,
    classes: int = 1,
    widths: Sequence[int] = (64, 128, 256, 512, 1024),
    dropout: float = 0.5,
    batch_normalization: bool = False,
    name: str = "unet",
) -> keras.Model:
    """Build a U-Net that maps slices to per-pixel probabilities.

    The contracting path halves the resolution `len(widths) - 1` times by 2 x 2 max pooling; the expanding
    path mirrors it with 2 x 2 transposed convolutions, the skip connection of the same level, dropout
    (expanding path only, paper 2.4; where in the level is assumed: on the concatenation) and two
    convolutions. A 1 x 1 convolution is the linear classifier.

    Args:
        input_size: rows and columns of the slice, a multiple of 2 ** (len(widths) - 1); None accepts any
            such size.
        input_channels: channels of the slice.
        classes: 1 gives a sigmoid, more a softmax over that many classes.
        widths: filters per level, from the finest to the bottom (assumed: Ronneberger's 64 to 1024).
        dropout: rate in the expanding path (stated, its value is lost; assumed 0.5). 0 leaves it out.
        batch_normalization: between each convolution and its ReLU. The paper mentions none.
        name: the model's name.

    Returns:
        A `keras.Model`: (batch, rows, columns, input_channels) float32 -> (batch, rows, columns, classes)
        float32 in (0, 1). Layers `logits` and `probability` are its last two.

    Raises:
        ValueError: no level, a size that the depth does not divide, `classes` or `dropout` out of range.
    """
    _check(input_size, classes, widths, dropout)
    *encoder_widths, bottom_width = widths
    inputs = layers.Input((input_size, input_size, input_channels), name="slice")
    x, skips = inputs, []
    for level, width in enumerate(encoder_widths, start=1):
        x = convolution_block(x, width, f"encoder_{level}", batch_normalization)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder_{level}_pool")(x)
    x = convolution_block(x, bottom_width, "bottom", batch_normalization)
    for level, width in reversed(list(enumerate(encoder_widths, start=1))):
        x = layers.Conv2DTranspose(
            width, 2, strides=2, kernel_initializer="he_normal", name=f"decoder_{level}_up"
        )(x)
        x = layers.Concatenate(name=f"decoder_{level}_concat")([skips[level - 1], x])
        if dropout:
            x = layers.Dropout(dropout, name=f"decoder_{level}_dropout")(x)
        x = convolution_block(x, width, f"decoder_{level}", batch_normalization)
    # Half precision would round logits near 0 and saturate the probabilities.
    logits = layers.Conv2D(classes, 1, dtype="float32", name="logits")(x)
    activation = "sigmoid" if classes == 1 else "softmax"
    outputs = layers.Activation(activation, dtype="float32", name="probability")(logits)
    return keras.Model(inputs, outputs, name=name)


def logits_model(model: keras.Model) -> keras.Model:
    """Return the part of `model` up to its `logits` layer; it shares every weight with `model`."""
    return keras.Model(model.input, model.get_layer("logits").output, name=f"{model.name}_logits")


def _check(input_size: int | None, classes: int, widths: Sequence[int], dropout: float) -> None:
    if len(widths) < 1 or min(widths) < 1:
        raise ValueError(f"widths must hold at least one positive number, got {tuple(widths)}")
    factor = 2 ** (len(widths) - 1)
    if input_size is not None and (input_size < factor or input_size % factor):
        raise ValueError(
            f"input_size must be a multiple of {factor} for {len(widths)} levels, got {input_size}"
        )
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
