"""Scaling steps by hand; the streamed median against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from data.scaling import HuMedian, masked_window, standardise_by_liver, tumor_input, window

HU = np.array([[[-1024, -100, 150], [400, 3071, 25]]], dtype=np.int16)
MASK = np.array([[[0, 1, 1], [1, 0, 1]]], dtype=np.uint8)


def test_window_by_hand() -> None:
    result = window(HU, -100, 400)
    np.testing.assert_allclose(result, [[[0, 0, 0.5], [1, 1, 0.25]]])
    assert result.dtype == np.float32


def test_masked_window_by_hand() -> None:
    result = masked_window(HU, MASK.astype(bool), 0, 200)
    np.testing.assert_allclose(result, [[[0, 0, 0.75], [1, 0, 0.125]]])
    assert result.dtype == np.float32


def test_standardise_by_hand() -> None:
    result = standardise_by_liver(HU, MASK, 110)
    np.testing.assert_allclose(result, [[[0, -5.25, 1], [7.25, 0, -2.125]]])
    assert result.dtype == np.float32


def test_tumor_input_dispatches() -> None:
    np.testing.assert_array_equal(
        tumor_input(HU, MASK, "window", (0, 200), None), masked_window(HU, MASK, 0, 200)
    )
    np.testing.assert_array_equal(
        tumor_input(HU, MASK, "liver_median", (0, 200), 110), standardise_by_liver(HU, MASK, 110)
    )
    nothing = tumor_input(HU, MASK, "liver_median", (0, 200), None)
    np.testing.assert_array_equal(nothing, np.zeros((1, 2, 3)))
    assert nothing.dtype == np.float32


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
    with pytest.raises(ValueError, match=r"scaling must be .* got 'z-score'"):
        tumor_input(HU, MASK, "z-score", (0, 200), 1.0)
    with pytest.raises(ValueError, match="scale_hu must be positive, got 0"):
        standardise_by_liver(HU, MASK, 110, 0)
    with pytest.raises(ValueError, match=r"mask must have the shape of hu \(1, 2, 3\), got \(3,\)"):
        masked_window(HU, np.ones(3), 0, 200)
    with pytest.raises(ValueError, match="mask must have the shape"):
        HuMedian().add(HU, np.ones(3))
