"""The exact ROC curve of pixels that fit into memory, by one sort without bins.

`evaluation.metrics.roc` streams any number of pixels; the tests hold it to this, up to some ten
million. Pixels are sorted as whole numbers: probabilities are not negative, so their bits have
their order, and the reference takes the free bit of the sign.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.roc import Roc, check_pixels, check_range

UNSIGNED = {4: np.uint32, 8: np.uint64}  # by bytes


def compute_exact_roc(
    probability: np.ndarray, reference: np.ndarray, low: float = 0.0, high: float = 1.0
) -> Roc:
    """Compute the exact ROC curve of the pixels with ``low < p <= high``.

    From low = 0 on, pixels with p = 0 are among them.

    Args:
        probability: any shape, floating dtype, in [0, 1]. float16 is taken as float32, longer than
            float32 as float64.
        reference: the same shape, bool.
        low, high: of the restricted curve (paper 3.2.1: 0.01, 0.99); 0 and 1 take all.

    Returns:
        The curve's corners and ends; `area()` is the AUC, ties counted as a half. Point i is ``p >
        threshold[i]``, the largest probability left out. The last takes every pixel: `low`, or
        minus infinity for low = 0, as ``p > 0`` would leave out p = 0.

    Raises:
        ValueError: wrong dtype, unequal shapes, a NaN, a value outside [0, 1], not 0 <= low < high
            <= 1, or no pixel inside, or none outside, the reference in this range.

    Example:
        >>> probability = np.array([0.2, 0.4, 0.6, 0.8])
        >>> compute_exact_roc(probability, np.array([False, True, False, True])).area()
        0.75
    """
    key, dtype = _sort_pixels(*_take_range(probability, reference, low, high))
    cuts = _find_corners(key)
    # Pixels inside the reference between the cuts, then above each.
    within = np.add.reduceat((key & 1).astype(np.uint8), cuts[:-1], dtype=np.int64)
    tp = np.append(np.cumsum(within[::-1])[::-1], 0)
    fp = len(key) - cuts - tp
    left_out = (key[cuts[1:] - 1] >> 1).view(dtype).astype(np.float64)
    threshold = np.concatenate([[low if low > 0 else -np.inf], left_out])
    return Roc(fp[::-1] / fp[0], tp[::-1] / tp[0], threshold[::-1])


def _take_range(
    probability: np.ndarray, reference: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels with ``low < p <= high``, in a row; with p = 0 for low = 0."""
    check_pixels(probability, reference)
    check_range(low, high)
    dtype = np.dtype(np.float32 if probability.dtype.itemsize <= 4 else np.float64)
    p, inside = probability.reshape(-1).astype(dtype, copy=False), reference.reshape(-1)
    if (low, high) != (0.0, 1.0):
        is_within = ((p > float(low)) | (low == 0)) & (p <= float(high))
        p, inside = p[is_within], inside[is_within]
    n_inside = int(np.count_nonzero(inside))
    if n_inside in (0, len(p)):
        raise ValueError(
            "A ROC curve needs pixels inside and outside the reference. "
            f"Received: {n_inside} inside, {len(p) - n_inside} outside with low={low}, high={high}"
        )
    return p, inside


def _sort_pixels(p: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.dtype]:
    """Return 2 x (bits of p) + (1 inside the reference), rising, and its dtype."""
    key = p.view(UNSIGNED[p.itemsize]) << 1
    key |= inside
    key.sort()
    return key, p.dtype


def _find_corners(key: np.ndarray) -> np.ndarray:
    """Find where the curve turns: rising places in `key`, from 0 to its length."""
    cut = np.ones(len(key) + 1, bool)
    np.greater(key[1:] ^ key[:-1], 1, out=cut[1:-1])
    places = np.flatnonzero(cut)
    # Between two cuts p is one, and pixels outside come first: the curve goes up, right or both.
    inside = (key & 1).astype(bool)
    up, right = inside[places[1:] - 1], ~inside[places[:-1]]
    turns = (up[1:] | up[:-1]) & (right[1:] | right[:-1])
    return np.concatenate([places[:1], places[1:-1][turns], places[-1:]])
