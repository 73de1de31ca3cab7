"""CDNN-AlexNet of Elmenabawy et al. (II.B): a fully convolutional AlexNet.

AlexNet: Krizhevsky et al. 2012; fully convolutional: Long et al. 2015. The encoder is AlexNet's
five convolutions and, as convolutions, its fully connected layers FC6 and FC7; FC8 is dropped. A 1
x 1 convolution scores the classes. One transposed convolution brings the scores to the input's
size.

The text upsamples "8 times in size", but AlexNet divides the resolution by 32. `upsampling` chooses
how that is resolved:

dilated    Assumed, because it keeps every number of the text: the second and third pooling lose
           their stride and what follows is dilated. The encoder then divides by 8 only. Its weights
           are the same (pretrained ones fit); at every fourth position it computes exactly what it
           does with strides (tested). On a 512 x 512 slice FC6 and FC7 run at 64 x 64 positions:
           239 billion multiplications instead of 20.
stride_32  Strides stay, one transposed convolution by 32 (FCN-32s of Long et al., the text's
           reference).
skips      Strides stay, FCN-8s of Long et al.: scores of the second and the first pooling (strides
           16 and 8) are added on the way, the last transposed convolution is the text's by 8.

Paddings are assumed. The original's first convolution and poolings have none (227 x 227 pixels
become 55, 27, 13, 6); here all are padded, so that a map is the input's size divided by a stride.
Only within reach of a border do values differ from the original's. Where padding cannot be
symmetric, its side brings receptive fields over the pixels that their scores are upsampled to:
centres are off by half a pixel (dilated) and by 4.5 pixels (strides). Torchvision's paddings, with
FC6 padded by 2 and 3, would put them off by 31.5 pixels at stride 32.

There is no local response normalisation (assumed: torchvision's network has none, and Simonyan and
Zisserman, 2015, found no gain from it). It has no parameters: weights trained with it fit, but were
trained to see other values.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from models.checks import require, require_rate
from models.head import end_network
from models.imagenet import make_input

FILTERS = {
    "krizhevsky": (96, 256, 384, 384, 256, 4096, 4096),
    "torchvision": (64, 192, 384, 256, 256, 4096, 4096),
}
"""Filters of the five convolutions, FC6 and FC7, by variant.

krizhevsky is the original in one group: with FC8 it has 62,378,344 parameters, the text's 62.4
million; the original's two groups make 61.0 million. torchvision is Krizhevsky's later version
("one weird trick", 2014): 61.1 million.
"""
UPSAMPLING = ("dilated", "stride_32", "skips")


def build_alexnet(
    input_size: int | None = 512,
    input_channels: int = 1,
    classes: int = 3,
    width: float = 1.0,
    upsampling: str = "dilated",
    variant: str = "krizhevsky",
    dropout: float = 0.5,
    name: str = "cdnn_alexnet",
) -> keras.Model:
    """Build a CDNN-AlexNet that maps slices to probabilities of their pixels.

    Initialisation: He for the encoder (assumed; the paper's is pretrained, `training.pretrained`);
    zero for the 1 x 1 scores and bilinear for the transposed convolutions, both trainable (assumed:
    Long et al.).

    Args:
        input_size: rows and columns of the slice, a multiple of 32; None accepts any such size.
        input_channels: 1, a slice in [0, 1], or 3.
        classes: at least 2.
        width: factor of every number of filters, for small experiments; published weights fit 1.
        upsampling: one of `UPSAMPLING`, see above.
        variant: one of `FILTERS`.
        dropout: rate after FC6 and FC7 (assumed: Krizhevsky et al.). 0 leaves it out.
        name: the model's name.

    Returns:
        A model from (batch, rows, columns, input_channels) float32 to (batch, rows, columns,
        classes) float32 in (0, 1). Layers `logits` (the transposed convolution) and `probability`
        are its last two; the encoder's names begin with `encoder_`.

    Raises:
        ValueError: an argument out of its range.
    """
    require(0 < width < float("inf"), "width must be a number above 0", width)
    for key, value, known in (
        ("upsampling", upsampling, UPSAMPLING),
        ("variant", variant, FILTERS),
    ):
        require(value in known, f"{key} must be one of {', '.join(known)}", repr(value))
    require_rate(dropout)
    inputs, x = make_input(input_size, input_channels, classes)
    filters = [max(1, round(width * number)) for number in FILTERS[variant]]
    x, pools = _encode(x, filters, dropout, dilated=upsampling == "dilated")
    x = _score(x, classes, "score")
    # FCN-8s: scores of the finer poolings are added on the way up.
    if upsampling == "skips":
        for level in (2, 1):
            x = _upsample(x, classes, 2, f"upsample_to_pool_{level}")
            score = _score(pools[level - 1], classes, f"score_pool_{level}")
            x = layers.Add(dtype="float32", name=f"fuse_pool_{level}")([x, score])
    logits = _upsample(x, classes, 32 if upsampling == "stride_32" else 8, "logits")
    model = end_network(inputs, logits, name)
    # Assigned, not an initializer's class: a saved network is loaded without code of this project.
    for layer in model.layers:
        if isinstance(layer, layers.Conv2DTranspose):
            layer.set_weights([make_bilinear(layer.kernel_size[0], classes)])
    return model


def _encode(
    x: keras.KerasTensor, filters: Sequence[int], dropout: float, dilated: bool
) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """Return FC7's output and the outputs of the first two poolings."""
    *convolutions, fc_6, fc_7 = filters
    pools = []
    # 2 before as in torchvision and 4, one stride, more: that centres what the first pooling sees.
    x = layers.ZeroPadding2D(((6, 1), (6, 1)), name="encoder_conv_1_pad")(x)
    x = _convolve(x, convolutions[0], 11, "encoder_conv_1", strides=4, padding="valid")
    for index, (number, side) in enumerate(zip(convolutions[1:], (5, 3, 3, 3), strict=True), 2):
        is_fine = dilated and index > 2
        if index < 4:
            strides, pool = 1 if is_fine else 2, f"encoder_pool_{index - 1}"
            x = layers.MaxPooling2D(3, strides, "same", name=pool)(x)
            pools.append(x)
        rate = 2 if is_fine else 1
        x = _convolve(x, number, side, f"encoder_conv_{index}", dilation_rate=rate, padding="same")
    if dilated:
        x = _pool_dilated(x, 2, "encoder_pool_3")
    else:
        x = layers.MaxPooling2D(3, 2, "same", name="encoder_pool_3")(x)
    # The fully connected layers, as convolutions.
    around = (10, 10) if dilated else (3, 2)
    x = layers.ZeroPadding2D((around, around), name="encoder_fc_6_pad")(x)
    x = _convolve(x, fc_6, 6, "encoder_fc_6", dilation_rate=4 if dilated else 1, padding="valid")
    x = layers.Dropout(dropout, name="encoder_fc_6_dropout")(x) if dropout else x
    x = _convolve(x, fc_7, 1, "encoder_fc_7")
    return layers.Dropout(dropout, name="encoder_fc_7_dropout")(x) if dropout else x, pools


def _convolve(
    x: keras.KerasTensor, filters: int, side: int, name: str, **options: object
) -> keras.KerasTensor:
    return layers.Conv2D(
        filters, side, activation="relu", kernel_initializer="he_normal", name=name, **options
    )(x)


def _pool_dilated(x: keras.KerasTensor, rate: int, name: str) -> keras.KerasTensor:
    """Take the maximum over 3 x 3 positions `rate` apart, at every position.

    Keras has no dilated pooling: rows first, then columns. Padding is zero, the least value after a
    ReLU.
    """
    x = layers.ZeroPadding2D(rate, name=f"{name}_pad")(x)
    for axis in ("rows", "columns"):
        shifted = []
        for step in range(3):
            crop = (step * rate, (2 - step) * rate)
            crops = (crop, (0, 0)) if axis == "rows" else ((0, 0), crop)
            shifted.append(layers.Cropping2D(crops, name=f"{name}_{axis}_{step}")(x))
        x = layers.Maximum(name=f"{name}_{axis}")(shifted)
    return x


def _score(x: keras.KerasTensor, classes: int, name: str) -> keras.KerasTensor:
    return layers.Conv2D(classes, 1, kernel_initializer="zeros", dtype="float32", name=name)(x)


def _upsample(x: keras.KerasTensor, classes: int, factor: int, name: str) -> keras.KerasTensor:
    options = {"strides": factor, "padding": "same", "use_bias": False, "dtype": "float32"}
    return layers.Conv2DTranspose(classes, 2 * factor, name=name, **options)(x)


def make_bilinear(side: int, classes: int) -> np.ndarray:
    """Return the kernel that interpolates each class bilinearly, for stride side / 2.

    Its shape is (side, side, classes, classes), float32; `side` is even.
    """
    factor = side / 2
    line = 1 - np.abs(np.arange(side) - (factor - 0.5)) / factor
    return np.multiply.outer(np.outer(line, line), np.eye(classes)).astype(np.float32)
