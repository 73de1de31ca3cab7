"""Resample slices to a store's square size, and probabilities back.

A slice that is not square is first padded to a square, centred (the odd pixel goes to the end).
Shrinking averages areas, enlarging is bilinear; both keep the image's edges on the edges.
scikit-image resamples. By hand is the mean over whole blocks of pixels: the same, many times
faster.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from data.scaling import HIGHEST_HU, LOWEST_HU

AIR_HU = -1024.0
_HALF = 0.5 - 1e-6  # area weights that do not divide evenly round in float32


def resize_image(slices: np.ndarray, size: int) -> np.ndarray:
    """Pad with air (-1024 HU) to a square and resample to `size` x `size`.

    From HU (n, rows, columns) to float32 (n, size, size).

    Raises:
        ValueError: `slices` is not a stack of slices, or size < 1.
    """
    return _resample(_pad_to_square(slices, AIR_HU), size)


def resize_hu(slices: np.ndarray, size: int) -> np.ndarray:
    """Return HU as a store holds them: clipped to [-1024, 3071], resampled, rounded.

    From float32 (n, rows, columns) to float32 (n, size, size), whole numbers.
    """
    # Clipped before averaging: padding at -3024 HU must not bleed into its neighbours.
    return np.rint(resize_image(np.clip(slices, LOWEST_HU, HIGHEST_HU), size))


def resize_label(slices: np.ndarray, size: int) -> np.ndarray:
    """Pad labels with 0 to a square and resample to `size` x `size`.

    From labels (n, rows, columns) to uint8 (n, size, size). A pixel is tumor where at least half of
    its area is tumor, else liver where at least half is liver or tumor.

    Raises:
        ValueError: as `resize_image`.
    """
    square = _pad_to_square(slices, 0)
    if square.shape[1] == size:
        return square.astype(np.uint8)
    liver = _resample(square > 0, size) >= _HALF
    tumor = _resample(square == 2, size) >= _HALF
    return np.where(tumor, 2, liver).astype(np.uint8)


def restore_probability(p: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Bring probabilities back to the slices' own size: resample, crop the padding.

    Args:
        p: ndarray of shape (n, size, size), in [0, 1].
        rows, columns: the slices' own shape.

    Returns:
        ndarray of shape (n, rows, columns), float32: bilinear where this enlarges (the usual case),
        area averages where the store is larger than the slices.

    Raises:
        ValueError: `p` is not a stack of square slices.
    """
    if p.ndim != 3 or p.shape[1] != p.shape[2]:
        raise ValueError(f"p must have shape (n, size, size), got {p.shape}")
    top, left = _count_padding(rows, columns)
    square = _resample(p, max(rows, columns))
    return square[:, top : top + rows, left : left + columns]


def _count_padding(rows: int, columns: int) -> tuple[int, int]:
    """Return the pixels of padding before the first row and the first column."""
    side = max(rows, columns)
    return (side - rows) // 2, (side - columns) // 2


def _pad_to_square(slices: np.ndarray, fill: float) -> np.ndarray:
    if slices.ndim != 3:
        raise ValueError(f"slices must have shape (n, rows, columns), got {slices.shape}")
    n, rows, columns = slices.shape
    if rows == columns:
        return slices
    side = max(rows, columns)
    top, left = _count_padding(rows, columns)
    square = np.full((n, side, side), fill, dtype=slices.dtype)
    square[:, top : top + rows, left : left + columns] = slices
    return square


def _resample(square: np.ndarray, size: int) -> np.ndarray:
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    n, side, _ = square.shape
    square = square.astype(np.float32, copy=False)
    if side == size:
        return square
    if side % size == 0:
        factor = side // size
        return square.reshape(n, size, factor, size, factor).mean((2, 4))
    from skimage.transform import resize, resize_local_mean

    bilinear = partial(resize, order=1, mode="edge", anti_aliasing=False)
    resample = resize_local_mean if side > size else bilinear
    return np.stack([resample(plane, (size, size), preserve_range=True) for plane in square])
