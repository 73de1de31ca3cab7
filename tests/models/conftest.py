"""What the tests of all networks share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np


def draw_images(*shape: int) -> np.ndarray:
    """Return float32 values in [0, 1), the same for the same shape."""
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


@contextmanager
def half_precision() -> Iterator[None]:
    """Build networks in bfloat16 with weights in float32."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def randomise(model: keras.Model) -> None:
    """Move every weight a little, so that none is at what it begins with."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(weight + rng.uniform(-0.02, 0.02, weight.shape))
