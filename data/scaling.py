"""From HU to what a network sees: named steps on float32 arrays of shape (..., height, width)."""

from __future__ import annotations

import numpy as np

LOWEST_HU = -1024
HIGHEST_HU = 3071
LIVER_SCALE_HU = 40.0


def window(hu: np.ndarray, low_hu: float, high_hu: float) -> np.ndarray:
    """Clip to [low_hu, high_hu] and scale to [0, 1]: w(X) of paper 2.3.

    Args:
        hu: ndarray of shape (..., height, width), any real dtype, in HU.
        low_hu, high_hu: the window; low_hu < high_hu.

    Returns:
        ndarray of the same shape, float32, in [0, 1].

    Raises:
        ValueError: the window is empty.
    """
    if not low_hu < high_hu:
        raise ValueError(f"low_hu must be below high_hu, got {low_hu} and {high_hu}")
    clipped = np.clip(np.asarray(hu, dtype=np.float32), low_hu, high_hu)
    return ((clipped - np.float32(low_hu)) / np.float32(high_hu - low_hu)).astype(
        np.float32, copy=False
    )


def masked_window(hu: np.ndarray, mask: np.ndarray, low_hu: float, high_hu: float) -> np.ndarray:
    """M * w(X), the second network's input of paper 2.3: float32, zero outside the mask.

    Args:
        hu: ndarray of shape (..., height, width), in HU.
        mask: ndarray of the same shape, bool or 0/1.
        low_hu, high_hu: the window.

    Raises:
        ValueError: the shapes differ, or the window is empty.
    """
    _check_mask(hu, mask)
    return np.asarray(mask, dtype=np.float32) * window(hu, low_hu, high_hu)


class HuMedian:
    """The exact median of whole HU inside a mask, streamed slice by slice through a histogram.

    HU are rounded and clipped to [-1024, 3071], as the store holds them.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(HIGHEST_HU - LOWEST_HU + 1, dtype=np.int64)

    def add(self, hu: np.ndarray, mask: np.ndarray) -> None:
        """Count the HU where `mask` is true; both ndarrays of one shape.

        Raises:
            ValueError: the shapes differ.
        """
        _check_mask(hu, mask)
        inside = np.clip(np.rint(hu[np.asarray(mask, dtype=bool)]), LOWEST_HU, HIGHEST_HU)
        self._counts += np.bincount(
            inside.astype(np.int64) - LOWEST_HU, minlength=self._counts.size
        )

    def value(self) -> float | None:
        """Return the median in HU (mean of the middle two for an even count); None for an empty mask."""
        cumulative = np.cumsum(self._counts)
        total = int(cumulative[-1])
        if total == 0:
            return None
        lower, upper = np.searchsorted(cumulative, [(total - 1) // 2, total // 2], side="right")
        return float(lower + upper) / 2 + LOWEST_HU


def standardise_by_liver(
    hu: np.ndarray, mask: np.ndarray, median_hu: float, scale_hu: float = LIVER_SCALE_HU
) -> np.ndarray:
    """(hu - median_hu) / scale_hu inside the mask, zero outside: float32 of the same shape.

    The median is that of the volume's liver, so that contrast phase and scanner drop out (assumed; the paper
    says "a consistent scale" and no more).

    Raises:
        ValueError: the shapes differ, or scale_hu is not positive.
    """
    _check_mask(hu, mask)
    if not scale_hu > 0:
        raise ValueError(f"scale_hu must be positive, got {scale_hu}")
    centred = (np.asarray(hu, dtype=np.float32) - np.float32(median_hu)) / np.float32(scale_hu)
    return np.where(np.asarray(mask, dtype=bool), centred, np.float32(0))


def tumor_input(
    hu: np.ndarray,
    mask: np.ndarray,
    scaling: str,
    window_hu: tuple[float, float],
    median_hu: float | None,
) -> np.ndarray:
    """The second network's input, float32 of the shape of `hu`.

    Args:
        hu: ndarray of shape (..., height, width), in HU.
        mask: liver mask of the same shape, bool or 0/1.
        scaling: "window" for `masked_window` (paper 2.3) or "liver_median" for `standardise_by_liver`.
        window_hu: (low, high), used by "window".
        median_hu: the volume's liver median, used by "liver_median"; None (no liver found) gives zeros.

    Raises:
        ValueError: unknown scaling, or what the step itself refuses.
    """
    if scaling == "window":
        return masked_window(hu, mask, *window_hu)
    if scaling == "liver_median":
        if median_hu is None:
            return np.zeros(np.shape(hu), dtype=np.float32)
        return standardise_by_liver(hu, mask, median_hu)
    raise ValueError(f'scaling must be "window" or "liver_median", got {scaling!r}')


def _check_mask(hu: np.ndarray, mask: np.ndarray) -> None:
    if np.shape(hu) != np.shape(mask):
        raise ValueError(f"mask must have the shape of hu {np.shape(hu)}, got {np.shape(mask)}")
