"""2 x 2 max pooling that keeps where each maximum stood, and the unpooling that puts values back there (SegNet).

Channels last. Slices, comparisons and reshapes only: no scatter, which the backends do not share, and no transpose, as
argmax and one_hot over windows brought together need it, which took twice as long on a CPU. The index is a number in
the compute dtype: 0 to 3 are exact in half precision too, and integers were a tenth slower.
"""

from __future__ import annotations

import keras
from keras import layers, ops

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("joint_liver_tumor")
class MaxPoolingWithIndices2D(layers.Layer):
    """Maximum of each 2 x 2 window, and its index: 0 upper left, 1 upper right, 2 lower left, 3 lower right.

    Of equal values the first in this order counts, as in PyTorch; after a ReLU whole windows are 0. The gradient goes
    to that one pixel. (`ops.maximum` would share it among equal values on some backends.)

    Raises:
        ValueError: the input has no four axes, or odd rows or columns. (In a TensorFlow graph of free sizes the odd
            ones appear only when it runs, as an error of its own.)
    """

    def call(self, x: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Map (batch, rows, columns, channels) to two tensors (batch, rows / 2, columns / 2, channels)."""
        _pooled_shape(x.shape)
        upper_left, upper_right, lower_left, lower_right = _corners(x)
        right_above, right_below = upper_right > upper_left, lower_right > lower_left
        above = ops.where(right_above, upper_right, upper_left)
        below = ops.where(right_below, lower_right, lower_left)
        is_below = below > above
        column = ops.cast(ops.where(is_below, right_below, right_above), x.dtype)
        return ops.where(is_below, below, above), column + 2 * ops.cast(is_below, x.dtype)

    def compute_output_spec(
        self, x: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return the specification of the two tensors."""
        spec = keras.KerasTensor(_pooled_shape(x.shape), self.compute_dtype)
        return spec, keras.KerasTensor(spec.shape, self.compute_dtype)


@keras.saving.register_keras_serializable("joint_liver_tumor")
class MaxUnpooling2D(layers.Layer):
    """Each value at its index in a 2 x 2 window and 0 at the other three: the inverse of `MaxPoolingWithIndices2D`.

    Raises:
        ValueError: values and indices differ in shape, or have no four axes.
    """

    def call(self, values: keras.KerasTensor, indices: keras.KerasTensor) -> keras.KerasTensor:
        """Map two tensors (batch, rows, columns, channels) to one, (batch, 2 rows, 2 columns, channels)."""
        _unpooled_shape(values.shape, indices.shape)
        return _joined([ops.where(indices == corner, values, 0) for corner in range(4)])

    def compute_output_spec(
        self, values: keras.KerasTensor, indices: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return the specification of the tensor."""
        return keras.KerasTensor(_unpooled_shape(values.shape, indices.shape), self.compute_dtype)


def _corners(x: keras.KerasTensor) -> list[keras.KerasTensor]:
    """The four pixels of every window, row by row, each (batch, rows / 2, columns / 2, channels)."""
    batch, rows, columns, channels = ops.shape(x)
    pairs = ops.reshape(x, (batch, rows // 2, 2, columns // 2, 2 * channels))
    return [
        corner for row in ops.unstack(pairs, 2, axis=2) for corner in ops.split(row, 2, axis=-1)
    ]


def _joined(corners: list[keras.KerasTensor]) -> keras.KerasTensor:
    """The inverse of `_corners`."""
    batch, rows, columns, channels = ops.shape(corners[0])
    pairs = [ops.concatenate(corners[start : start + 2], axis=-1) for start in (0, 2)]
    return ops.reshape(ops.stack(pairs, axis=2), (batch, 2 * rows, 2 * columns, channels))


def _pooled_shape(shape: Shape) -> Shape:
    _check_axes(shape)
    batch, rows, columns, channels = shape
    if any(size is not None and size % 2 for size in (rows, columns)):
        raise ValueError(f"rows and columns must be even, got {rows} x {columns}")
    return batch, rows and rows // 2, columns and columns // 2, channels


def _unpooled_shape(values: Shape, indices: Shape) -> Shape:
    _check_axes(values)
    if tuple(values) != tuple(indices):
        raise ValueError(
            f"indices must have the shape of values, {tuple(values)}, got {tuple(indices)}"
        )
    batch, rows, columns, channels = values
    return batch, rows and 2 * rows, columns and 2 * columns, channels


def _check_axes(shape: Shape) -> None:
    if len(shape) != 4:
        raise ValueError(
            f"the input must have the axes (batch, rows, columns, channels), got shape {tuple(shape)}"
        )
