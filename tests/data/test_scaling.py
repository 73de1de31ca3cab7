"""The window by hand; the streamed median against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from data.scaling import HuMedian, window

HU = np.array([[[-1024, -100, 150], [400, 3071, 25]]], dtype=np.int16)
MASK = np.array([[[0, 1, 1], [1, 0, 1]]], dtype=np.uint8)


def test_window_by_hand() -> None:
    result = window(HU, -100, 400)
    np.testing.assert_allclose(result, [[[0, 0, 0.5], [1, 1, 0.25]]])
    assert result.dtype == np.float32


@pytest.mark.parametrize("n", [1, 2, 7, 8, 1000, 1001])
def test_median_is_numpys(n: int) -> None:
    rng = np.random.default_rng(n)
    hu = rng.integers(-1024, 3072, (4, n)).astype(np.int16)
    mask = np.zeros((4, n), bool)
    mask[rng.integers(0, 4, n), np.arange(n)] = True  # n voxels in all
    median = HuMedian()
    for row in range(4):
        median.add(hu[row : row + 1], mask[row : row + 1])
    assert median.value() == np.median(hu[mask])


def test_median_of_two_far_apart_values() -> None:
    median = HuMedian()
    median.add(np.array([[-50.4, 101.0]]), np.array([[1, 1]]))
    assert median.value() == 25.5  # (-50 + 101) / 2


def test_median_clips_and_knows_the_empty_mask() -> None:
    median = HuMedian()
    assert median.value() is None
    median.add(HU, np.zeros_like(MASK))
    assert median.value() is None
    median.add(np.array([[-3024.0]]), np.array([[True]]))
    assert median.value() == -1024
    top = HuMedian()
    top.add(np.array([[9000.0]]), np.array([[True]]))
    assert top.value() == 3071


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="low_hu must be below high_hu, got 5 and 5"):
        window(HU, 5, 5)
    with pytest.raises(ValueError, match=r"mask must have the shape of hu \(1, 2, 3\), got \(3,\)"):
        HuMedian().add(HU, np.ones(3))
