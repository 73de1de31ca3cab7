"""Random changes of training slices, an option that the paper does not mention."""

from __future__ import annotations

import numpy as np
from skimage.transform import AffineTransform, warp

# Assumed, about what patients and scanners differ by.
ROTATION_DEG = 15.0
SCALE = 1.3  # from 1 / SCALE to SCALE; the field of view of LiTS volumes differs by 1.6
SHIFT = 0.1  # of the side
GAIN = 0.2  # of the input's values: contrast


def augment_slice(
    inputs: np.ndarray, target: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate, scale and shift input and target alike; vary the input's gain.

    What comes in from beyond the border is 0, as is what a mask leaves out. Nothing is mirrored:
    the liver lies on the right.

    Args:
        inputs: a network's input, float32 (rows, columns) or (rows, columns, channels).
        target: classes, unsigned 8-bit (rows, columns).
        rng: draws the change; the same state gives the same change.

    Returns:
        Arrays of the same shapes and types.
    """
    # Draw the change: how far it turns, by how much it zooms, where it moves.
    rows, columns = target.shape
    centre = np.array([columns - 1, rows - 1]) / 2
    turn, zoom = np.deg2rad(rng.uniform(-ROTATION_DEG, ROTATION_DEG)), SCALE ** rng.uniform(-1, 1)
    shift = rng.uniform(-SHIFT, SHIFT, 2) * (columns, rows)
    # warp asks where each pixel of the result comes from, so the steps run backwards.
    back = (
        AffineTransform(translation=-centre)
        + AffineTransform(scale=(zoom, zoom), rotation=turn)
        + AffineTransform(translation=centre + shift)
    )
    gain = np.float32(1 + rng.uniform(-GAIN, GAIN))
    moved = warp(inputs, back, order=1, preserve_range=True).astype(np.float32) * gain
    return moved, warp(target, back, order=0, preserve_range=True).astype(np.uint8)
