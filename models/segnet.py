"""SegNet as a Keras graph (Dhanush et al. 2024, 3.4; Badrinarayanan et al. 2017).

Stated in 3.4: an encoder with the topology of VGG16's 13 convolutions; a decoder that upsamples
"using pooling indices that are calculated during the max-pooling stage of the matching encoder"; a
softmax at the end. The abstract says sigmoid: here one class has a sigmoid, several a softmax.

Assumed: the "skip connections" of 3.4 are these indices alone; no feature map goes from the encoder
to the decoder, as in SegNet's own paper. Assumed from its authors' network (their paper and their
Caffe model `segnet_train`): the widths, the mirrored decoder with its 3 x 3 classifier, batch
normalisation and ReLU after every other convolution, He initialisation. Convolutions have biases as
theirs do, although batch normalisation undoes all but the last; leaving them out saved no time.
"""

from __future__ import annotations

import keras
from keras import layers

from models.checks import require_multiple, require_positive
from models.head import end_network
from models.unpooling import MaxPoolingWithIndices2D, MaxUnpooling2D

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""3 x 3 convolutions in each encoder block, as in VGG16; the decoder mirrors them."""
WIDTHS = (1, 2, 4, 8, 8)
"""Filters in each block, as multiples of those of the first."""


def build_segnet(
    input_size: int | None = 512,
    input_channels: int = 1,
    classes: int = 1,
    filters: int = 64,
    name: str = "segnet",
) -> keras.Model:
    """Build a SegNet that maps slices to probabilities of their pixels.

    Five encoder blocks of (2, 2, 3, 3, 3) convolutions, each followed by 2 x 2 max pooling that
    keeps the indices; five decoder blocks of (3, 3, 3, 2, 2), each after an unpooling by the
    indices of its encoder block. A decoder block ends with the width of the next finer one, the
    last with the logits.

    Args:
        input_size: rows and columns of the slice, a multiple of 32; None accepts any such size.
        input_channels: channels of the slice.
        classes: 1 gives a sigmoid, more a softmax over that many classes.
        filters: of the first block; the blocks have 1, 2, 4, 8 and 8 times as many.
        name: the model's name.

    Returns:
        A model from (batch, rows, columns, input_channels) float32 to (batch, rows, columns,
        classes) float32 in (0, 1). Layers `logits` and `probability` are its last two.

    Raises:
        ValueError: a size that 32 does not divide, or `classes` or `filters` below 1.
    """
    require_multiple(input_size, 2 ** len(WIDTHS))
    require_positive(classes=classes, filters=filters)
    widths = [filters * factor for factor in WIDTHS]
    inputs = layers.Input((input_size, input_size, input_channels), name="slice")
    # Down: each pooling keeps where its maxima stood.
    x, indices = inputs, []
    for level, (width, count) in enumerate(zip(widths, CONVOLUTIONS, strict=True), start=1):
        for index in range(1, count + 1):
            x = _convolve(x, width, f"encoder_{level}_conv_{index}")
        x, maxima = MaxPoolingWithIndices2D(name=f"encoder_{level}_pool")(x)
        indices.append(maxima)
    # Up: values go back to where the maxima stood.
    for level in range(len(widths), 0, -1):
        x = MaxUnpooling2D(name=f"decoder_{level}_unpool")(x, indices[level - 1])
        block = [widths[level - 1]] * (CONVOLUTIONS[level - 1] - 1)
        block += [widths[level - 2]] if level > 1 else []
        for index, width in enumerate(block, start=1):
            x = _convolve(x, width, f"decoder_{level}_conv_{index}")
    logits = layers.Conv2D(
        classes, 3, 1, "same", kernel_initializer="he_normal", dtype="float32", name="logits"
    )(x)
    return end_network(inputs, logits, name)


def _convolve(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, 1, "same", kernel_initializer="he_normal", name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)
