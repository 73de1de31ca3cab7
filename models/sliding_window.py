"""Predict a volume from overlapping windows, blended by Gaussian weights.

Windows, weights and result are those of MONAI's `sliding_window_inference` with mode="gaussian". By
hand, because MONAI is built on PyTorch; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from models.checks import require, require_positive

Predict = Callable[[np.ndarray], np.ndarray]


def place_windows(size: int, window: int, overlap: float) -> list[int]:
    """Return where the windows along one axis start; the last one ends with the axis.

    Args:
        size: length of the axis, at least `window`.
        window: length of a window.
        overlap: share of it that the next one covers, at least.
    """
    step = max(int(window * (1 - overlap)), 1)
    last = size - window
    return [min(index * step, last) for index in range(-(-last // step) + 1)]


def weigh_voxels(window: Sequence[int], sigma_scale: float = 0.125) -> np.ndarray:
    """Return the weights of a window's voxels, float32, where windows overlap.

    The product of exp(-x^2 / (2 sigma^2)) along each axis: x is the distance to the window's centre
    in voxels, sigma = `sigma_scale` * length of the axis. No weight is below 1e-3, so that a sum of
    weights is never near 0.
    """
    weights = np.ones((), np.float32)
    for size in window:
        distance = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        weights = weights[..., None] * np.exp(
            distance**2 / np.float32(-2 * (sigma_scale * size) ** 2)
        )
    return np.maximum(weights, np.float32(1e-3))


def predict_volume(
    predict: Predict,
    volume: np.ndarray,
    window: Sequence[int],
    overlap: float = 0.5,
    sigma_scale: float = 0.125,
    batch_size: int = 1,
) -> np.ndarray:
    """Return the weighted mean of the windows' probabilities at each voxel.

    Args:
        predict: maps (batch, *window, 1) float32 to (batch, *window, classes), as a network's
            `predict_on_batch`. The last batch is filled up with zeros, so that the backend compiles
            one shape only.
        volume: (depth, rows, columns) float32, nowhere shorter than the window; it is not padded.
        window: (depth, rows, columns).
        overlap: share of a window that the next one covers, at least; in [0, 1).
        sigma_scale: width of the Gaussian as a share of the window's length.
        batch_size: windows predicted at once.

    Returns:
        ndarray of shape (depth, rows, columns, classes), float32.

    Raises:
        ValueError: the volume is shorter than the window, or an argument is out of its range.
    """
    shape = volume.shape
    require(len(shape) == 3, "volume must have three axes (depth, rows, columns)", f"shape {shape}")
    is_window = len(window) == 3 and min(window) >= 1
    require(is_window, "window must hold three positive lengths", tuple(window))
    fits = all(size >= length for size, length in zip(shape, window, strict=True))
    require(fits, f"volume must be at least as long as the window {tuple(window)}", shape)
    require(0 <= overlap < 1, "overlap must lie in [0, 1)", overlap)
    require(sigma_scale > 0, "sigma_scale must be positive", sigma_scale)
    require_positive(batch_size=batch_size)
    # Where the windows lie and what their voxels count.
    starts = [
        place_windows(size, length, overlap) for size, length in zip(shape, window, strict=True)
    ]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = weigh_voxels(window, sigma_scale)[..., None]
    inputs = np.zeros((min(batch_size, len(corners)), *window, 1), np.float32)
    total, weight = np.zeros((), np.float32), np.zeros((*shape, 1), np.float32)
    for first in range(0, len(corners), len(inputs)):
        # Fill a batch with windows.
        batch = corners[first : first + len(inputs)]
        places = [
            tuple(slice(at, at + size) for at, size in zip(corner, window, strict=True))
            for corner in batch
        ]
        inputs[:] = 0
        for index, place in enumerate(places):
            inputs[index, ..., 0] = volume[place]
        outputs = np.asarray(predict(inputs))
        keeps_shape = outputs.ndim == 5 and outputs.shape[:4] == inputs.shape[:4]
        rule = f"predict must map {inputs.shape} to {inputs.shape[:4]} and classes"
        require(keeps_shape, rule, outputs.shape)
        # The number of classes is known from the first batch on.
        if not total.ndim:
            total = np.zeros((*shape, outputs.shape[-1]), np.float32)
        for place, output in zip(places, outputs, strict=False):
            total[place] += weights * output
            weight[place] += weights
    total /= weight
    return total
