"""Augmentation: input and target move together, by the generator alone."""

from __future__ import annotations

import numpy as np
import pytest

import data.augment
from data.augment import augment_slice
from data.batches import SliceBatches


def blob(size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return ((x - 20) ** 2 + 2 * (y - 36) ** 2 < 150).astype(np.uint8)


def test_input_and_target_move_together_and_differ_from_before() -> None:
    label = blob()
    for seed in range(10):
        image, target = augment_slice(
            label.astype(np.float32), label * 2, np.random.default_rng(seed)
        )
        assert (image.dtype, target.dtype, image.shape) == (np.float32, np.uint8, label.shape)
        assert set(np.unique(target)) == {0, 2}
        gain = image.max()
        assert abs(gain - 1) <= data.augment.GAIN + 1e-6
        # Half of the blob's height is its border, up to the rounding of the nearest pixel. Its
        # perimeter is about 60 pixels: a target moved otherwise by one pixel would differ in 40.
        assert np.count_nonzero((image > gain / 2) != (target == 2)) < 20
        assert np.any(target // 2 != label)


def test_change_is_that_of_rotation_scale_and_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.augment, "GAIN", 0.0)
    monkeypatch.setattr(data.augment, "ROTATION_DEG", 0.0)
    monkeypatch.setattr(data.augment, "SCALE", 1.0)
    label = blob()
    image = label.astype(np.float32)
    monkeypatch.setattr(data.augment, "SHIFT", 0.0)
    same = augment_slice(image, label, np.random.default_rng(0))
    np.testing.assert_allclose(same[0], image, atol=1e-6)
    np.testing.assert_array_equal(same[1], label)
    monkeypatch.setattr(data.augment, "SHIFT", 0.08)
    rows, columns = np.nonzero(augment_slice(image, label, np.random.default_rng(0))[1])
    moved = np.array([columns.mean(), rows.mean()]) - [
        np.nonzero(label)[1].mean(),
        np.nonzero(label)[0].mean(),
    ]
    assert np.all(np.abs(moved) <= 0.08 * 64 + 0.5)
    assert np.any(np.abs(moved) > 0.5)
    monkeypatch.setattr(data.augment, "SHIFT", 0.0)
    monkeypatch.setattr(data.augment, "SCALE", 1.15)
    areas = [
        augment_slice(image, label, np.random.default_rng(seed))[1].sum() / label.sum()
        for seed in range(20)
    ]
    assert 1 / 1.15**2 - 0.03 < min(areas) < 0.95
    assert 1.05 < max(areas) < 1.15**2 + 0.03


def test_what_is_zero_stays_zero_where_a_constant_moves() -> None:
    image, _ = augment_slice(np.zeros((32, 32), np.float32), blob(32), np.random.default_rng(1))
    assert not image.any()


def test_batches_change_by_seed_and_epoch_only() -> None:
    label = blob(32)

    def load(chosen: tuple[str, int]) -> tuple[np.ndarray, np.ndarray]:
        return label * np.float32(chosen[1] + 1), label

    def epoch(number: int, seed: int = 0, augment: bool = True) -> np.ndarray:
        batches = SliceBatches([("volume-1", row) for row in range(4)], load, 2, seed, augment)
        batches.go_to_epoch(number)
        return np.concatenate([batches[index][0] for index in range(2)])

    np.testing.assert_array_equal(epoch(3), epoch(3))
    assert not np.array_equal(epoch(3), epoch(4))
    assert not np.array_equal(epoch(3), epoch(3, seed=1))
    assert np.array_equal(np.unique(epoch(3, augment=False)), np.arange(5))
    with pytest.raises(ValueError, match="needs a seed"):
        SliceBatches([("volume-1", 0)], load, 2, augment=True)
