"""Max pooling that keeps where each maximum stood, and its inverse (SegNet).

By hand, because Keras has neither. Slices, comparisons and reshapes only: the backends do not share
a scatter, and transposes, as argmax and one_hot need them, took twice as long on a CPU. The index
is a number in the compute dtype: 0 to 3 are exact in half precision too, and integers were a tenth
slower. Channels last.
"""

from __future__ import annotations

import keras
from keras import layers, ops

from models.checks import require

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("joint_liver_tumor")
class MaxPoolingWithIndices2D(layers.Layer):
    """Maximum of each 2 x 2 window, and its index.

    0 is upper left, 1 upper right, 2 lower left, 3 lower right. Of equal values the first counts,
    as in PyTorch (after a ReLU whole windows are 0), and gets the gradient; `ops.maximum` would
    share it on some backends.

    Raises:
        ValueError: the input has no four axes, or odd rows or columns. (In a TensorFlow graph of
            free sizes the odd ones appear only when it runs, as an error of its own.)
    """

    def call(self, x: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Map (batch, rows, columns, channels) to two of half the rows and columns."""
        _halve(x.shape)
        upper_left, upper_right, lower_left, lower_right = _split_corners(x)
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
        spec = keras.KerasTensor(_halve(x.shape), self.compute_dtype)
        return spec, keras.KerasTensor(spec.shape, self.compute_dtype)


@keras.saving.register_keras_serializable("joint_liver_tumor")
class MaxUnpooling2D(layers.Layer):
    """Each value at its index in a 2 x 2 window, 0 at the other three.

    Raises:
        ValueError: values and indices differ in shape, or have no four axes.
    """

    def call(self, values: keras.KerasTensor, indices: keras.KerasTensor) -> keras.KerasTensor:
        """Map two (batch, rows, columns, channels) to twice the rows and columns."""
        _double(values.shape, indices.shape)
        return _join_corners([ops.where(indices == corner, values, 0) for corner in range(4)])

    def compute_output_spec(
        self, values: keras.KerasTensor, indices: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return the specification of the tensor."""
        return keras.KerasTensor(_double(values.shape, indices.shape), self.compute_dtype)


def _split_corners(x: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Return each window's four pixels, row by row, as four arrays."""
    batch, rows, columns, channels = ops.shape(x)
    pairs = ops.reshape(x, (batch, rows // 2, 2, columns // 2, 2 * channels))
    return [
        corner for row in ops.unstack(pairs, 2, axis=2) for corner in ops.split(row, 2, axis=-1)
    ]


def _join_corners(corners: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Undo `_split_corners`."""
    batch, rows, columns, channels = ops.shape(corners[0])
    pairs = [ops.concatenate(corners[start : start + 2], axis=-1) for start in (0, 2)]
    return ops.reshape(ops.stack(pairs, axis=2), (batch, 2 * rows, 2 * columns, channels))


def _halve(shape: Shape) -> Shape:
    batch, rows, columns, channels = _check_axes(shape)
    is_even = not any(size is not None and size % 2 for size in (rows, columns))
    require(is_even, "rows and columns must be even", f"{rows} x {columns}")
    return batch, rows and rows // 2, columns and columns // 2, channels


def _double(values: Shape, indices: Shape) -> Shape:
    batch, rows, columns, channels = _check_axes(values)
    rule = f"indices must have the shape of values, {tuple(values)}"
    require(tuple(values) == tuple(indices), rule, tuple(indices))
    return batch, rows and 2 * rows, columns and 2 * columns, channels


def _check_axes(shape: Shape) -> Shape:
    rule = "the input must have the axes (batch, rows, columns, channels)"
    require(len(shape) == 4, rule, f"shape {tuple(shape)}")
    return shape
