"""Streamed prediction gives what one big batch gives."""

from __future__ import annotations

import numpy as np
import pytest

from models.inference import predict_slices
from models.unet import build_unet


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_streamed_slices_equal_one_batch(count: int) -> None:
    model = build_unet(16, widths=(4, 8))
    slices = np.random.default_rng(0).normal(size=(count, 16, 16)).astype(np.float32)
    streamed = list(predict_slices(model, iter(slices), batch_size=4))
    assert len(streamed) == count
    if count:
        np.testing.assert_allclose(
            np.stack(streamed), np.asarray(model(slices[..., None])), atol=1e-6
        )


def test_slices_are_read_only_as_they_are_needed() -> None:
    model, read = build_unet(16, widths=(4, 8)), []

    def slices():
        for index in range(10):
            read.append(index)
            yield np.zeros((16, 16), np.float32)

    next(predict_slices(model, slices(), batch_size=2))
    assert len(read) <= 3
