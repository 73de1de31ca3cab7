"""CDNN-AlexNet of Elmenabawy et al. (II.B): a fully convolutional AlexNet (Krizhevsky et al. 2012; Long et al. 2015).

The encoder is AlexNet's five convolutions and, as convolutions, its fully connected layers FC6 and FC7; FC8 is
dropped. A 1 x 1 convolution scores the classes, one transposed convolution brings the scores to the input's size.

The text upsamples "8 times in size", AlexNet divides the resolution by 32. `upsampling` says how that is resolved:
    dilated    assumed, because it keeps every number of the text: the second and third pooling lose their stride and
               what follows is dilated. The encoder then divides by 8 only, has the same weights (pretrained ones fit)
               and computes at every fourth position exactly what it computes with strides (tested). FC6 and FC7 run at
               64 x 64 positions of a 512 x 512 slice: 239 billion multiplications instead of 20.
    stride_32  strides kept, one transposed convolution by 32 (FCN-32s of Long et al., the text's reference).
    skips      strides kept, FCN-8s of Long et al.: scores of the second and the first pooling (strides 16 and 8) are
               added on the way, the last transposed convolution is the text's by 8.

Paddings (assumed). The original's first convolution and poolings have none (227 x 227 pixels become 55, 27, 13, 6), so
that its maps are not the input's size divided by a stride; here all are padded to be. Inside, values are those of the
original's geometry; within reach of a border they differ, since there is padding where the original stops. Where
padding cannot be symmetric its side is chosen such that receptive fields lie over the pixels that their scores are
upsampled to: centres are off by half a pixel (dilated) and by 4.5 pixels (strides). Torchvision's paddings, and FC6
padded by 2 before and 3 after, would put them off by 31.5 pixels at stride 32; Long et al. crop for the same reason.

Without local response normalisation (assumed: torchvision's network has none, and Simonyan and Zisserman, 2015, found
no gain from it). It has no parameters: weights of a network with it fit, but were trained to see other values.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from models.imagenet import check_arguments, imagenet_input, softmax_model

FILTERS = {
    "krizhevsky": (96, 256, 384, 384, 256, 4096, 4096),
    "torchvision": (64, 192, 384, 256, 256, 4096, 4096),
}
"""Filters of the five convolutions, FC6 and FC7, by variant.

krizhevsky is the original in one group: with FC8 it has 62,378,344 parameters, the text's 62.4 million; the original's
two groups make 61.0 million. torchvision is Krizhevsky's later version ("one weird trick", 2014): 61.1 million.
"""
UPSAMPLING = ("dilated", "stride_32", "skips")


def cdnn_alexnet(
    input_size: int | None = 512,
    input_channels: int = 1,
    classes: int = 3,
    width: float = 1.0,
    upsampling: str = "dilated",
    variant: str = "krizhevsky",
    dropout: float = 0.5,
    name: str = "cdnn_alexnet",
) -> keras.Model:
    """Build a CDNN-AlexNet that maps slices to per-pixel probabilities.

    Initialisation: He for the encoder (assumed; the paper's is pretrained, `training.pretrained`); zero for the 1 x 1
    scores and bilinear for the transposed convolutions, both trainable (assumed: Long et al.).

    Args:
        input_size: rows and columns of the slice, a multiple of 32; None accepts any such size.
        input_channels: 1, a slice in [0, 1], or 3.
        classes: at least 2.
        width: factor of every number of filters, for small experiments; published weights fit 1 only.
        upsampling: one of `UPSAMPLING`, see above.
        variant: one of `FILTERS`.
        dropout: rate after FC6 and FC7 (assumed: Krizhevsky et al.). 0 leaves it out.
        name: the model's name.

    Returns:
        A `keras.Model`: (batch, rows, columns, input_channels) float32 -> (batch, rows, columns, classes)
        float32 in (0, 1). Layers `logits` (the transposed convolution) and `probability` are its last two; the
        encoder's names begin with `encoder_`.

    Raises:
        ValueError: an argument out of range.
    """
    check_arguments(input_size, input_channels, classes)
    _check(width, upsampling, variant, dropout)
    filters = [max(1, round(width * number)) for number in FILTERS[variant]]
    inputs, x = imagenet_input(input_size, input_channels)
    x, pools = _encoder(x, filters, dropout, dilated=upsampling == "dilated")
    x = _score(x, classes, "score")
    if upsampling == "skips":
        for pool, level in ((pools[1], 2), (pools[0], 1)):
            x = _upsample(x, classes, 2, f"upsample_to_pool_{level}")
            score = _score(pool, classes, f"score_pool_{level}")
            x = layers.Add(dtype="float32", name=f"fuse_pool_{level}")([x, score])
    model = softmax_model(
        inputs, _upsample(x, classes, 32 if upsampling == "stride_32" else 8, "logits"), name
    )
    for layer in model.layers:
        # Assigned, not an initializer's class: a saved network is loaded without any code of this project.
        if isinstance(layer, layers.Conv2DTranspose):
            layer.set_weights([bilinear(layer.kernel_size[0], classes)])
    return model


def _encoder(
    x: keras.KerasTensor, filters: Sequence[int], dropout: float, dilated: bool
) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """Return FC7's output and the outputs of the first two poolings."""
    *five, fc_6, fc_7 = filters
    pools = []
    # 2 before as in torchvision and 4, one stride, more: that centres what the first pooling sees.
    x = layers.ZeroPadding2D(((6, 1), (6, 1)), name="encoder_conv_1_pad")(x)
    x = _convolution(x, five[0], 11, "encoder_conv_1", strides=4, padding="valid")
    for index, (number, side) in enumerate(zip(five[1:], (5, 3, 3, 3), strict=True), start=2):
        fine = dilated and index > 2
        if index < 4:
            x = layers.MaxPooling2D(
                3, 1 if fine else 2, padding="same", name=f"encoder_pool_{index - 1}"
            )(x)
            pools.append(x)
        x = _convolution(
            x, number, side, f"encoder_conv_{index}", dilation_rate=2 if fine else 1, padding="same"
        )
    if dilated:
        x = _dilated_max_pooling(x, 2, "encoder_pool_3")
    else:
        x = layers.MaxPooling2D(3, 2, padding="same", name="encoder_pool_3")(x)
    around = (10, 10) if dilated else (3, 2)
    x = layers.ZeroPadding2D((around, around), name="encoder_fc_6_pad")(x)
    x = _convolution(x, fc_6, 6, "encoder_fc_6", dilation_rate=4 if dilated else 1, padding="valid")
    x = layers.Dropout(dropout, name="encoder_fc_6_dropout")(x) if dropout else x
    x = _convolution(x, fc_7, 1, "encoder_fc_7")
    return layers.Dropout(dropout, name="encoder_fc_7_dropout")(x) if dropout else x, pools


def _convolution(
    x: keras.KerasTensor, filters: int, side: int, name: str, **options: object
) -> keras.KerasTensor:
    return layers.Conv2D(
        filters, side, activation="relu", kernel_initializer="he_normal", name=name, **options
    )(x)


def _dilated_max_pooling(x: keras.KerasTensor, rate: int, name: str) -> keras.KerasTensor:
    """Maximum over 3 x 3 positions `rate` apart, at every position: (batch, rows, columns, filters) keeps its shape.

    Of Keras's own layers, which have no dilated pooling: rows first, then columns. Padding is zero, the least value
    after a ReLU.
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
    # Half precision would round logits near 0 and saturate the probabilities.
    return layers.Conv2DTranspose(
        classes,
        2 * factor,
        strides=factor,
        padding="same",
        use_bias=False,
        dtype="float32",
        name=name,
    )(x)


def bilinear(side: int, classes: int) -> np.ndarray:
    """Return the kernel of a transposed convolution with stride side / 2 that interpolates each class bilinearly.

    Args:
        side: rows and columns of the kernel, even.
        classes: channels in and out.

    Returns:
        ndarray of shape (side, side, classes, classes), float32.
    """
    factor = side / 2
    line = 1 - np.abs(np.arange(side) - (factor - 0.5)) / factor
    return np.multiply.outer(np.outer(line, line), np.eye(classes)).astype(np.float32)


def _check(width: float, upsampling: str, variant: str, dropout: float) -> None:
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be a number above 0, got {width}")
    if upsampling not in UPSAMPLING:
        raise ValueError(f"upsampling must be one of {', '.join(UPSAMPLING)}, got {upsampling!r}")
    if variant not in FILTERS:
        raise ValueError(f"variant must be one of {', '.join(FILTERS)}, got {variant!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
