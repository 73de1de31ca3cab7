"""Probabilities of a volume from overlapping windows, blended by Gaussian weights.

Windows, weights and result are those of MONAI's `sliding_window_inference` with mode="gaussian".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Return where the windows along one axis of length `size` >= `window` start; the last one ends with the axis."""
    step = max(int(window * (1 - overlap)), 1)
    last = size - window
    return [min(index * step, last) for index in range(-(-last // step) + 1)]


def gaussian_weights(window: Sequence[int], sigma_scale: float = 0.125) -> np.ndarray:
    """Return what a window's voxels count where windows overlap: exp(-x^2 / (2 sigma^2)) along each axis, multiplied.

    x is the distance to the window's centre in voxels, sigma = `sigma_scale` * length of the axis. No weight is
    below 1e-3, so that a sum of weights is never near 0.

    Returns:
        ndarray of shape `window`, float32.
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
    """Return the mean of the windows' probabilities at each voxel, weighted by `gaussian_weights`.

    Args:
        predict: maps (batch, *window, 1) float32 to (batch, *window, classes), as a network's `predict_on_batch`. The
            last batch is filled up with zeros, so that the backend compiles one shape only.
        volume: (depth, rows, columns) float32, nowhere shorter than the window; it is not padded.
        window: (depth, rows, columns).
        overlap: share of a window that the next one covers, at least; in [0, 1).
        sigma_scale: width of the Gaussian as a share of the window's length.
        batch_size: windows predicted at once.

    Returns:
        ndarray of shape (depth, rows, columns, classes), float32.

    Raises:
        ValueError: the volume is shorter than the window along an axis, or an argument is out of its range.
    """
    _check(volume, window, overlap, sigma_scale, batch_size)
    starts = [
        window_starts(size, length, overlap)
        for size, length in zip(volume.shape, window, strict=True)
    ]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = gaussian_weights(window, sigma_scale)[..., None]
    inputs = np.zeros((min(batch_size, len(corners)), *window, 1), np.float32)
    total, weight = np.zeros((), np.float32), np.zeros((*volume.shape, 1), np.float32)
    for first in range(0, len(corners), len(inputs)):
        batch = corners[first : first + len(inputs)]
        places = [
            tuple(slice(at, at + size) for at, size in zip(corner, window, strict=True))
            for corner in batch
        ]
        inputs[:] = 0
        for index, place in enumerate(places):
            inputs[index, ..., 0] = volume[place]
        outputs = np.asarray(predict(inputs))
        if outputs.ndim != 5 or outputs.shape[:4] != inputs.shape[:4]:
            raise ValueError(
                f"predict must map {inputs.shape} to {inputs.shape[:4]} and classes, got {outputs.shape}"
            )
        if not total.ndim:
            total = np.zeros((*volume.shape, outputs.shape[-1]), np.float32)
        for place, output in zip(places, outputs, strict=False):
            total[place] += weights * output
            weight[place] += weights
    total /= weight
    return total


def _check(
    volume: np.ndarray, window: Sequence[int], overlap: float, sigma_scale: float, batch_size: int
) -> None:
    if volume.ndim != 3:
        raise ValueError(
            f"volume must have three axes (depth, rows, columns), got shape {volume.shape}"
        )
    if len(window) != 3 or min(window) < 1:
        raise ValueError(f"window must hold three positive lengths, got {tuple(window)}")
    if any(size < length for size, length in zip(volume.shape, window, strict=True)):
        raise ValueError(
            f"volume must be at least as long as the window {tuple(window)}, got {volume.shape}"
        )
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must lie in [0, 1), got {overlap}")
    if sigma_scale <= 0:
        raise ValueError(f"sigma_scale must be positive, got {sigma_scale}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
