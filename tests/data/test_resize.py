"""Resizing against values worked out by hand, and what must be conserved."""

from __future__ import annotations

import numpy as np
import pytest

from data.resize import resize_image, resize_label, restore_probability


def test_shrinking_by_a_whole_factor_is_the_block_mean() -> None:
    slices = np.array(
        [[[0, 2, 10, 10], [4, 6, 10, 30], [1, 1, -8, 0], [1, 1, 0, 0]]], dtype=np.float32
    )
    result = resize_image(slices, 2)
    np.testing.assert_array_equal(result, [[[3, 15], [1, -2]]])
    assert result.dtype == np.float32


def test_shrinking_three_to_two_weighs_by_area() -> None:
    # a new pixel covers 1.5 x 1.5 old ones: weights (1, 0.5) / 1.5 per axis
    slices = np.array([[[9, 0, 0], [0, 0, 0], [0, 0, 18]]], dtype=np.float32)
    np.testing.assert_allclose(resize_image(slices, 2), [[[4, 0], [0, 8]]], atol=1e-6)


def test_enlarging_is_bilinear_on_pixel_areas() -> None:
    # new centres at -0.25, 0.25, 0.75, 1.25 old pixels, the edge held
    slices = np.array([[[0, 4], [0, 4]]], dtype=np.float32)
    np.testing.assert_allclose(resize_image(slices, 4), np.tile([0, 1, 3, 4], (1, 4, 1)), atol=1e-6)


@pytest.mark.parametrize("size", [4, 5, 7, 8])
def test_shrinking_conserves_the_mean(size: int) -> None:
    slices = np.random.default_rng(0).normal(0, 100, (2, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(
        resize_image(slices, size).mean((1, 2)), slices.mean((1, 2)), atol=1e-3
    )


def test_padding_is_centred_air_and_zero() -> None:
    slices = np.full((1, 2, 5), 40, dtype=np.float32)  # three rows of padding: one above, two below
    expected = np.full((1, 5, 5), -1024.0)
    expected[0, 1:3] = 40
    np.testing.assert_array_equal(resize_image(slices, 5), expected)
    np.testing.assert_array_equal(resize_label(np.ones((1, 2, 5), np.uint8), 5), expected > 0)


def test_equal_size_changes_nothing() -> None:
    slices = np.random.default_rng(0).normal(size=(2, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(resize_image(slices, 6), slices)
    np.testing.assert_array_equal(restore_probability(slices, 6, 6), slices)
    labels = np.random.default_rng(0).integers(0, 3, (2, 6, 6))
    np.testing.assert_array_equal(resize_label(labels, 6), labels)


@pytest.mark.parametrize(
    ("block", "label"),
    [
        ([[0, 0], [0, 1]], 0),  # a quarter liver
        ([[0, 0], [1, 1]], 1),  # half liver
        ([[0, 0], [1, 2]], 1),  # half liver or tumor, a quarter tumor
        ([[0, 0], [2, 2]], 2),  # half tumor
        ([[1, 1], [2, 2]], 2),  # tumor wins over liver
        ([[1, 1], [1, 2]], 1),
    ],
)
def test_the_label_rule(block: list[list[int]], label: int) -> None:
    result = resize_label(np.array([block]), 1)
    assert result.dtype == np.uint8
    assert result.item() == label


def test_the_label_rule_where_areas_do_not_divide() -> None:
    # 3 -> 2: a new pixel holds (1 + 0.25) / 2.25 = 0.56 of the diagonal, 0.11 to its right
    checker = np.array([[[2, 0, 0], [0, 2, 0], [0, 0, 0]]])
    np.testing.assert_array_equal(resize_label(checker, 2), [[[2, 0], [0, 0]]])
    # 4 -> 3: the middle third is columns 1 and 2 by halves; the first has a quarter of column 1
    column = np.array([[[0, 2, 0, 0]] * 4])
    np.testing.assert_array_equal(resize_label(column, 3), [[[0, 2, 0]] * 3])


def test_a_plane_survives_the_way_there_and_back() -> None:
    # block means and bilinear interpolation both keep a plane, away from the held edge
    plane = np.add.outer(np.arange(8), 2.0 * np.arange(8))[None].astype(np.float32) / 32
    back = restore_probability(resize_image(plane, 4), 8, 8)
    np.testing.assert_allclose(back[:, 1:7, 1:7], plane[:, 1:7, 1:7], atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (6, 8), (8, 5)])
def test_probabilities_come_back_where_they_were(rows: int, columns: int) -> None:
    p = np.zeros((1, 4, 4), np.float32)
    p[0, 2, 1] = 1  # its centre is (4.5, 2.5) of the padded 8 x 8
    native = restore_probability(p, rows, columns)[0]
    assert native.shape == (rows, columns)
    top, left = (8 - rows) // 2, (8 - columns) // 2
    centre = [(native.sum(1) * np.arange(rows)).sum(), (native.sum(0) * np.arange(columns)).sum()]
    np.testing.assert_allclose(np.array(centre) / native.sum(), [4.5 - top, 2.5 - left], atol=1e-5)


def test_a_larger_store_is_averaged_back() -> None:
    p = np.kron(np.array([[0.0, 1.0], [0.5, 0.25]]), np.ones((2, 2)))[None].astype(np.float32)
    np.testing.assert_array_equal(restore_probability(p, 2, 2), [[[0, 1], [0.5, 0.25]]])


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"slices must have shape .* got \(4, 4\)"):
        resize_image(np.zeros((4, 4), np.float32), 2)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        resize_label(np.zeros((1, 4, 4), np.uint8), 0)
    with pytest.raises(ValueError, match=r"p must have shape .* got \(1, 4, 5\)"):
        restore_probability(np.zeros((1, 4, 5), np.float32), 4, 4)
