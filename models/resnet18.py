"""CDNN-ResNet18 of Elmenabawy et al. (II.B): ResNet18 and a mirrored decoder.

The encoder is torchvision's ResNet18 (He et al., "Deep residual learning", version 1) without
average pooling and FC: the same layers, paddings and epsilon, so the same activations from the same
weights. The text cites "Identity mappings" (version 2, normalisation before each convolution). Only
version 1 has published ResNet18 weights, so "the pretrained Resnet18" is taken for it (assumed).

The decoder "has the same number of layers of the encoder, performing deconvolution". The rest is
assumed. 18 transposed convolutions, each with batch normalisation, mirror the 18 weighted layers:
eight residual blocks, then one layer for the max pooling (which has no weights; FC, which has, has
no mirror image) and one for the first convolution. Where a stage begins with stride 2, its mirror
image ends with it. Paddings are mirrored too: position i of a map lies over position 2 i of the
next, so the output lies where the input was. No skip connections (the text names none).
"""

from __future__ import annotations

import keras
from keras import layers

from models.checks import require_positive
from models.head import end_network
from models.imagenet import make_input

STAGES = (1, 2, 3, 4)
"""Of two residual blocks each; stage n has 2 ** (n - 1) times the filters of the first."""
WEIGHTS = {"use_bias": False, "kernel_initializer": "he_normal"}


def build_resnet18(
    input_size: int | None = 512,
    input_channels: int = 1,
    classes: int = 3,
    filters: int = 64,
    name: str = "cdnn_resnet18",
) -> keras.Model:
    """Build a CDNN-ResNet18 that maps slices to probabilities of their pixels.

    Initialisation: He (the encoder's pretrained weights: `training.pretrained`).

    Args:
        input_size: rows and columns of the slice, a multiple of 32; None accepts any such size.
        input_channels: 1, a slice in [0, 1], or 3.
        classes: at least 2.
        filters: of the first stage; published weights fit 64.
        name: the model's name.

    Returns:
        A model from (batch, rows, columns, input_channels) float32 to (batch, rows, columns,
        classes) float32 in (0, 1). Layers `logits` and `probability` are its last two; the
        encoder's names begin with `encoder_`.

    Raises:
        ValueError: an argument out of its range.
    """
    require_positive(filters=filters)
    inputs, x = make_input(input_size, input_channels, classes)
    x = _decode(_encode(x, filters), filters)
    return end_network(inputs, layers.Conv2D(classes, 1, dtype="float32", name="logits")(x), name)


def _encode(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    x = _rectify(_convolve(x, filters, 7, 2, "encoder_conv_1"), "encoder_conv_1")
    x = layers.ZeroPadding2D(1, name="encoder_pool_pad")(x)  # zero is the least value after a ReLU
    x = layers.MaxPooling2D(3, 2, name="encoder_pool")(x)
    for stage in STAGES:
        for block in (1, 2):
            strides = 2 if stage > 1 and block == 1 else 1
            name, width = f"encoder_stage_{stage}_block_{block}", filters * 2 ** (stage - 1)
            shortcut = x if strides == 1 else _convolve(x, width, 1, strides, f"{name}_shortcut")
            x = _rectify(_convolve(x, width, 3, strides, f"{name}_conv_1"), f"{name}_conv_1")
            x = _convolve(x, width, 3, 1, f"{name}_conv_2")
            x = _rectify(layers.Add(name=f"{name}_add")([x, shortcut]), name)
    return x


def _decode(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    for stage in reversed(STAGES):
        for block in (2, 1):
            strides = 2 if stage > 1 and block == 1 else 1
            name, width = f"decoder_stage_{stage}_block_{block}", filters * 2 ** (stage - 1)
            # 2 x 2: the mirror image of the encoder's 1 x 1 would leave three of four pixels out.
            shortcut = x
            if strides == 2:
                shortcut = _deconvolve(x, width // 2, 2, 2, f"{name}_shortcut")
            x = _rectify(_deconvolve(x, width, 3, 1, f"{name}_conv_2"), f"{name}_conv_2")
            x = _deconvolve(x, width // strides, 3, strides, f"{name}_conv_1")
            x = _rectify(layers.Add(name=f"{name}_add")([x, shortcut]), name)
    x = _rectify(_deconvolve(x, filters, 3, 2, "decoder_pool"), "decoder_pool")
    return _rectify(_deconvolve(x, filters, 7, 2, "decoder_conv_1"), "decoder_conv_1")


def _convolve(
    x: keras.KerasTensor, filters: int, side: int, strides: int, name: str
) -> keras.KerasTensor:
    """Convolve with PyTorch's padding of side // 2, then normalise the batch."""
    if side > strides > 1:  # Keras's own "same" would pad less before than after
        x = layers.ZeroPadding2D(side // 2, name=f"{name}_pad")(x)
    padding = "same" if strides == 1 else "valid"
    return _normalise(layers.Conv2D(filters, side, strides, padding, name=name, **WEIGHTS)(x), name)


def _deconvolve(
    x: keras.KerasTensor, filters: int, side: int, strides: int, name: str
) -> keras.KerasTensor:
    """Apply the mirror image of `_convolve`: a transposed convolution."""
    padding = "same" if strides == 1 else "valid"
    x = layers.Conv2DTranspose(filters, side, strides, padding, name=name, **WEIGHTS)(x)
    if side > strides > 1:
        x = layers.Cropping2D(((side // 2, side // 2 - 1),) * 2, name=f"{name}_crop")(x)
    return _normalise(x, name)


def _normalise(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    # PyTorch's values; its momentum of 0.1 is Keras's 0.9.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)


def _rectify(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.Activation("relu", name=f"{name}_relu")(x)
