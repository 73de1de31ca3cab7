"""HU and their scale: a store's range, a window, the median inside a mask."""

from __future__ import annotations

import numpy as np

LOWEST_HU = -1024
HIGHEST_HU = 3071


def window(hu: np.ndarray, low_hu: float, high_hu: float) -> np.ndarray:
    """Clip to [low_hu, high_hu] and scale to float32 in [0, 1]: w(X) of paper 2.3.

    Args:
        hu: ndarray of any shape and real dtype, in HU.
        low_hu, high_hu: the ends of the window, the lower one first.

    Returns:
        ndarray of the same shape.

    Raises:
        ValueError: the window is empty.
    """
    if not low_hu < high_hu:
        raise ValueError(f"low_hu must be below high_hu, got {low_hu} and {high_hu}")
    clipped = np.clip(np.asarray(hu, np.float32), low_hu, high_hu)
    scaled = (clipped - np.float32(low_hu)) / np.float32(high_hu - low_hu)
    return scaled.astype(np.float32, copy=False)


def check_mask(hu: np.ndarray, mask: np.ndarray) -> None:
    """Raise a ValueError unless a mask has the shape of the HU."""
    if np.shape(hu) != np.shape(mask):
        raise ValueError(f"mask must have the shape of hu {np.shape(hu)}, got {np.shape(mask)}")


class HuMedian:
    """The exact median of whole HU inside a mask, streamed through a histogram.

    HU are rounded and clipped to [-1024, 3071], as the store holds them.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(HIGHEST_HU - LOWEST_HU + 1, np.int64)

    def add(self, hu: np.ndarray, mask: np.ndarray) -> None:
        """Count the HU where `mask` is true; another shape raises a ValueError."""
        check_mask(hu, mask)
        inside = np.clip(np.rint(hu[np.asarray(mask, bool)]), LOWEST_HU, HIGHEST_HU)
        counts = np.bincount(inside.astype(np.int64) - LOWEST_HU, minlength=self._counts.size)
        self._counts += counts

    def value(self) -> float | None:
        """Return the median in HU, of an even count the middle two's mean; None if empty."""
        cumulative = np.cumsum(self._counts)
        total = int(cumulative[-1])
        if total == 0:
            return None
        lower, upper = np.searchsorted(cumulative, [(total - 1) // 2, total // 2], side="right")
        return float(lower + upper) / 2 + LOWEST_HU
