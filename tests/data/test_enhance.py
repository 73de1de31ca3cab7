"""What the other systems do to a slice: against figures derived by hand."""

from __future__ import annotations

import numpy as np
import pytest

from data.enhance import INPUTS, equalised, standardised

WINDOW = (-100.0, 400.0)


def test_equalisation_gives_the_share_of_darker_pixels() -> None:
    """Four stripes of equal width, too wide for the median to change: the cumulated histogram is 1/4, 1/2, 3/4, 1."""
    hu = np.repeat(np.array([-50.0, 0.0, 3.0, 300.0]), 4)[np.newaxis].repeat(16, axis=0)
    found = equalised(hu, WINDOW)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[8, [1, 5, 9, 13]], [0.25, 0.5, 0.75, 1.0])


def test_neighbouring_hu_are_not_merged_and_a_shift_of_contrast_changes_nothing() -> None:
    hu = np.repeat(np.array([60.0, 61.0]), 8)[np.newaxis].repeat(16, axis=0)
    found = equalised(hu, WINDOW)
    assert found[8, 12] - found[8, 3] == 0.5
    np.testing.assert_allclose(equalised(hu + 40, WINDOW), found, atol=1e-6)


def test_the_median_removes_a_single_pixel() -> None:
    hu = np.zeros((9, 9))
    hu[:, 5:] = 100
    spotted = hu.copy()
    spotted[4, 2] = 300
    assert equalised(spotted, WINDOW)[4, 2] == equalised(spotted, WINDOW)[4, 1]


def test_every_slice_has_zero_mean_and_unit_variance() -> None:
    rng = np.random.default_rng(0)
    for shift, scale in ((0, 30), (150, 5)):
        found = standardised(rng.normal(shift, scale, (32, 32)), WINDOW)
        assert abs(found.mean()) < 1e-5
        assert abs(found.std() - 1) < 1e-5
    assert not standardised(np.full((4, 4), 70.0), WINDOW).any()


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_finite_and_keep_the_shape(name: str) -> None:
    for hu in (
        np.full((8, 6), -1000, np.int16),
        np.random.default_rng(1).integers(-1024, 3071, (8, 6)),
    ):
        found = INPUTS[name](hu, WINDOW)
        assert found.shape == (8, 6)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
