"""Probabilities of many slices, streamed in batches of one shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import keras
import numpy as np

BATCH_SIZE = 8  # slices a network predicts at once; more are no faster on a CPU


def predict_slices(
    model: keras.Model, inputs: Iterable[np.ndarray], batch_size: int = BATCH_SIZE
) -> Iterator[np.ndarray]:
    """Yield the probabilities of one slice after another.

    The last batch is filled up with zeros, so that the backend compiles one shape only. By hand,
    because Keras's `predict` returns only when all slices are in memory.

    Args:
        model: (batch, rows, columns, channels) -> (batch, rows, columns, classes).
        inputs: slices of shape (rows, columns), or (rows, columns, channels), float32; read as they
            are needed.
        batch_size: how many slices the model gets at once.

    Yields:
        ndarray of shape (rows, columns, classes), float32, in the order of `inputs`.
    """
    slices = iter(inputs)
    while batch := list(islice(slices, batch_size)):
        stacked = np.stack(batch)
        stacked = stacked[..., np.newaxis] if stacked.ndim == 3 else stacked
        filled = np.zeros((batch_size, *stacked.shape[1:]), np.float32)
        filled[: len(batch)] = stacked
        yield from np.asarray(model.predict_on_batch(filled))[: len(batch)]
