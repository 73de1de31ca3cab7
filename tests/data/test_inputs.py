"""What networks see of HU: against figures derived by hand, by the one function of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from data.inputs import (
    INPUTS,
    Input,
    Liver,
    find_liver_box,
    make_input,
    read_slices,
    register_input,
    stream_slices,
    target_of,
)

WINDOW = {"window_hu": [-100.0, 400.0]}
HU = np.array([[-1024, -100, 150], [400, 3071, 25]], np.int16)
MASK = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
SECOND = {"name": "masked", "window_hu": [0.0, 200.0]}


def equalise(hu: np.ndarray) -> np.ndarray:
    return make_input(hu, {"name": "equalised", **WINDOW})


@pytest.mark.parametrize(
    ("options", "liver", "expected"),
    [
        ({"name": "windowed", **WINDOW}, None, [[0, 0, 0.5], [1, 1, 0.25]]),
        ({"name": "global", **WINDOW}, None, [[0, 0, 0.5], [1, 1, 0.25]]),
        ({**SECOND, "scaling": "window"}, Liver(MASK), [[0, 0, 0.75], [1, 0, 0.125]]),
        ({**SECOND, "scaling": "window"}, Liver(MASK == 1), [[0, 0, 0.75], [1, 0, 0.125]]),
        (
            {**SECOND, "scaling": "liver_median"},
            Liver(MASK, 110.0),
            [[0, -5.25, 1], [7.25, 0, -2.125]],
        ),
        ({**SECOND, "scaling": "liver_median"}, Liver(MASK), [[0, 0, 0], [0, 0, 0]]),
        # Everywhere: HU are clipped to [0, 200] first, so (0 - 110) / 40 and (200 - 110) / 40.
        (
            {**SECOND, "name": "scaled", "scaling": "liver_median"},
            Liver(MASK, 110.0),
            [[-2.75, -2.75, 1], [2.25, 2.25, -2.125]],
        ),
        (
            {**SECOND, "name": "scaled", "scaling": "window"},
            Liver(MASK, 110.0),
            [[0, 0, 0.75], [1, 1, 0.125]],
        ),
        # Outside the liver -1000 HU: 1000 / 2000 of a window that reaches as far.
        (
            {"name": "local", "window_hu": [-2000.0, 0.0]},
            Liver(MASK == 1),
            [[0.5, 0.95, 1], [1, 0.5, 1]],
        ),
    ],
)
def test_an_input_by_hand(options: dict[str, Any], liver: Liver | None, expected: Any) -> None:
    made = make_input(HU, options, liver)
    np.testing.assert_allclose(made, expected, rtol=1e-6)
    assert made.dtype == np.float32


def test_equalisation_gives_the_share_of_darker_pixels() -> None:
    """Four stripes too wide for the median to change: the cumulated histogram in quarters."""
    hu = np.repeat(np.array([-50.0, 0.0, 3.0, 300.0]), 4)[np.newaxis].repeat(16, axis=0)
    np.testing.assert_allclose(equalise(hu)[8, [1, 5, 9, 13]], [0.25, 0.5, 0.75, 1.0])


def test_neighbouring_hu_are_not_merged_and_a_shift_of_contrast_changes_nothing() -> None:
    hu = np.repeat(np.array([60.0, 61.0]), 8)[np.newaxis].repeat(16, axis=0)
    picture = equalise(hu)
    assert picture[8, 12] - picture[8, 3] == 0.5
    np.testing.assert_allclose(equalise(hu + 40), picture, atol=1e-6)


def test_the_median_removes_a_single_pixel() -> None:
    hu = np.zeros((9, 9))
    hu[:, 5:] = 100
    spotted = hu.copy()
    spotted[4, 2] = 300
    assert equalise(spotted)[4, 2] == equalise(spotted)[4, 1]


def test_every_slice_has_zero_mean_and_unit_variance() -> None:
    options = {"name": "standardised", **WINDOW}
    rng = np.random.default_rng(0)
    for shift, scale in ((0, 30), (150, 5)):
        picture = make_input(rng.normal(shift, scale, (32, 32)), options)
        assert abs(picture.mean()) < 1e-5
        assert abs(picture.std() - 1) < 1e-5
    assert not make_input(np.full((4, 4), 70.0), options).any()


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_finite_and_keep_the_shape(name: str) -> None:
    rng = np.random.default_rng(1)
    options = {"name": name, "scaling": "liver_median", **WINDOW}
    for hu in (np.full((8, 6), -1000, np.int16), rng.integers(-1024, 3071, (8, 6))):
        made = make_input(hu, options, Liver(rng.random((8, 6)) < 0.5, 90.0))
        assert made.shape == (8, 6)
        assert made.dtype == np.float32
        assert np.isfinite(made).all()


def test_wrong_arguments_are_named() -> None:
    masked = {**SECOND, "scaling": "window"}
    with pytest.raises(ValueError, match=r"input must be one of windowed, .*, got 'z-score'"):
        make_input(HU, {"name": "z-score"})
    with pytest.raises(ValueError, match="input masked needs a liver, got None"):
        make_input(HU, masked)
    with pytest.raises(ValueError, match=r"scaling must be .* got 'z-score'"):
        make_input(HU, {**SECOND, "scaling": "z-score"}, Liver(MASK, 1.0))
    for options in (masked, {"name": "local", **WINDOW}):
        with pytest.raises(ValueError, match=r"the shape of hu \(2, 3\), got \(3,\)"):
            make_input(HU, options, Liver(np.ones(3)))
    with pytest.raises(ValueError, match="target must be 'liver', 'tumor' or 'classes'"):
        target_of(MASK, "spleen")


@pytest.mark.parametrize("n_slices", [1, 2, 3, 6])
@pytest.mark.parametrize("context", [0, 1, 2])
def test_an_input_with_its_neighbours_is_registered_in_one_place(
    context: int, n_slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read at once or as a stream, a slice comes with its neighbours; the ends are repeated."""
    monkeypatch.setattr("data.inputs.INPUTS", {})
    register_input(Input("stack", lambda hu, options, liver: hu, context=context))
    options = {"name": "stack"}
    volume = np.arange(n_slices, dtype=np.int16)[:, None, None] * np.ones((1, 2, 2), np.int16)
    streamed = list(stream_slices(iter(volume), options))
    assert len(streamed) == n_slices
    for row, stack in enumerate(streamed):
        np.testing.assert_array_equal(read_slices(volume, row, options), stack)
        shifts = range(row - context, row + context + 1)
        rows = [min(max(shift, 0), n_slices - 1) for shift in shifts]
        np.testing.assert_array_equal(np.reshape(stack, (-1, 2, 2))[:, 0, 0], rows)


def test_the_box_is_that_of_the_liver_or_grows_to_the_window() -> None:
    liver = np.zeros((10, 16, 16), bool)
    liver[2:8, 3:13, 5:11] = True
    # 6 columns grow to 8
    assert find_liver_box(liver, (4, 8, 8)) == (slice(2, 8), slice(3, 13), slice(4, 12))
    whole = find_liver_box(liver, (10, 16, 16))
    assert whole == (slice(0, 10), slice(0, 16), slice(0, 16))
    corner = np.zeros((10, 16, 16), bool)
    corner[9, 15, 0] = True
    assert find_liver_box(corner, (4, 8, 8)) == (slice(6, 10), slice(8, 16), slice(0, 8))
    assert find_liver_box(np.zeros((10, 16, 16), bool), (4, 8, 8)) is None
