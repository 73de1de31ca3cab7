"""What the other systems do to a slice before their networks see it: equalised and filtered, or standardised.

Each function maps a slice of HU, ndarray of shape (rows, columns), to float32 of the same shape; `INPUTS` names them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage.exposure import equalize_hist
from skimage.filters import median

from data.scaling import window

MEDIAN_SIZE = 3  # assumed: Elmenabawy et al. do not give the size of their median filter
Window = tuple[float, float]


def equalised(hu: np.ndarray, window_hu: Window) -> np.ndarray:
    """Equalise the histogram of the windowed slice, then filter it with a 3 x 3 median: in [0, 1].

    Elmenabawy et al., II.A: "histogram equalization and median filter smoothing". One bin a HU of the window, so that
    the equalisation merges no HU; the slice's own histogram (assumed: neither is said).
    """
    picture = equalize_hist(np.rint(np.clip(hu, *window_hu)).astype(np.int16))
    return np.asarray(median(picture, np.ones((MEDIAN_SIZE, MEDIAN_SIZE))), np.float32)


def standardised(hu: np.ndarray, window_hu: Window) -> np.ndarray:
    """Shift and scale the windowed slice to zero mean and unit variance; a slice of one value becomes 0.

    Dhanush et al., 3.2: "a zero mean and unit variance for every image". The window before is assumed: over the full
    range of HU, air and couch would set the scale.
    """
    picture = window(hu, *window_hu)
    deviation = float(picture.std())
    return np.asarray(
        (picture - picture.mean()) / deviation if deviation > 0 else picture * 0, np.float32
    )


def windowed(hu: np.ndarray, window_hu: Window) -> np.ndarray:
    """Clip the slice to the window and scale it to [0, 1] (`data.scaling.window`)."""
    return window(hu, *window_hu)


INPUTS: dict[str, Callable[[np.ndarray, Window], np.ndarray]] = {
    "equalised": equalised,
    "standardised": standardised,
    "windowed": windowed,
}
"""By the name that a system's record gives its input."""
