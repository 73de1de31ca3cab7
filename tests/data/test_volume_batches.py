"""Crops of volumes: where they lie, what is in them, that they cover a case and change."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.command import InputError
from data.inputs import Liver, find_liver_box, make_input
from data.volume_batches import (
    CropBatches,
    check_depth,
    list_global_crops,
    list_local_crops,
    make_global_loader,
    make_local_loader,
    make_ratio_channels,
    place_windows,
)

WINDOW_HU = [-200.0, 250.0]
GLOBAL = {"name": "global", "window_hu": WINDOW_HU}
LOCAL = {"name": "local", "window_hu": WINDOW_HU}
SHAPE = (4, 8, 8)


@pytest.fixture
def store() -> Any:
    """One case of 10 slices of 16 x 16: 6 x 10 x 6 voxels of liver at 100 HU, one tumor at 40."""
    label = np.zeros((10, 16, 16), np.uint8)
    label[2:8, 3:13, 5:11] = 1
    label[6, 4, 9] = 2
    image = np.where(label == 2, 40, np.where(label == 1, 100, -60)).astype(np.int16)
    image += np.arange(10, dtype=np.int16)[:, None, None]
    return SimpleNamespace(path=Path("STORE"), image=lambda case: image, label=lambda case: label)


def test_windows_side_by_side_cover_a_length() -> None:
    assert place_windows(10, 4) == [0, 4, 6]
    assert place_windows(8, 4) == [0, 4]
    assert place_windows(4, 4) == [0]


def test_outside_the_liver_the_local_view_is_at_minus_1000_hu(store: Any) -> None:
    """-1000 HU lies below the window, so it is 0; 102 HU is 302 / 450 of it."""
    liver = store.label("a") > 0
    box = find_liver_box(liver, SHAPE)
    assert box is not None
    view = make_input(store.image("a")[box], LOCAL, Liver(liver[box]))
    assert view.shape == (6, 10, 8)
    assert not view[:, :, 0].any()
    assert view[0, 0, 1] == pytest.approx(302 / 450)
    wide_window = {**LOCAL, "window_hu": [-2000.0, 0.0]}
    wide = make_input(store.image("a")[box], wide_window, Liver(liver[box]))
    assert wide[0, 0, 0] == pytest.approx(0.5)


def test_global_crops_cover_the_case_and_are_drawn_anew_every_epoch(store: Any) -> None:
    load, crops = make_global_loader(store, GLOBAL, 4), list_global_crops(store, ["a"], 4)
    covering = CropBatches(crops, load, 2)
    inputs, targets = covering[0]
    assert inputs.shape == (2, 4, 16, 16, 1)
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets[1, ..., 0], store.label("a")[4:8] > 0)
    np.testing.assert_allclose(
        covering[1][0][0, :, 0, 0, 0], (np.arange(6, 10) + 140) / 450, rtol=1e-5
    )
    drawn = CropBatches([("a", 0)] * 8, load, 8, seed=0)
    first = drawn[0][0][:, 0, 0, 0, 0]
    assert len(set(first.tolist())) > 2
    drawn.on_epoch_end()
    assert drawn[0][0][:, 0, 0, 0, 0].tolist() != first.tolist()
    drawn.go_to_epoch(0)
    np.testing.assert_array_equal(drawn[0][0][:, 0, 0, 0, 0], first)


def test_local_crops_carry_tumor_liver_and_weak_label(store: Any) -> None:
    crops = list_local_crops(store, ["a"], SHAPE)
    assert len(crops) == 2 * 2  # 6 slices, 10 rows and 8 columns by 4, 8 and 8
    batches = CropBatches(crops, make_local_loader(store, LOCAL, SHAPE, 0.5, {"a": 0.25}), 4)
    inputs, targets = batches[0]
    assert inputs.shape == (4, *SHAPE, 1)
    assert targets.shape == (4, *SHAPE, 3)
    # 6 x 10 x 6 liver voxels, one of them tumor, at slice 4 and row 1 of the box: in the third crop
    # (slice 2, row 0), which so has all of the weak label for itself.
    holds = targets[..., 0].any(axis=(1, 2, 3))
    assert holds.tolist() == [False, False, True, False]
    for target, left in zip(targets, np.where(holds, 0.25, 0.25 - 1 / 360), strict=True):
        np.testing.assert_allclose(target[..., 2], left, rtol=1e-6)
    np.testing.assert_allclose(targets[..., 1], (inputs[..., 0] > 0) / 360, rtol=1e-6)
    assert ((targets[..., 0] > 0) <= (targets[..., 1] > 0)).all()
    without = CropBatches(crops, make_local_loader(store, LOCAL, SHAPE, 0.5), 4)
    np.testing.assert_array_equal(without[0][1][..., 0], targets[..., 0])


def test_half_of_the_local_crops_are_drawn_around_tumor(store: Any) -> None:
    """The tumor voxel lies at slice 4 of 6 and row 1 of 10: a crop anywhere holds 2/3 x 2/3."""
    drawn = CropBatches([("a", 0)] * 400, make_local_loader(store, LOCAL, SHAPE, 0.5), 400, seed=3)
    share = drawn[0][1][..., 0].any(axis=(1, 2, 3)).mean()
    assert share == pytest.approx(0.5 + 0.5 * (2 / 3) * (2 / 3), abs=0.08)


def test_the_reference_s_tumor_leaves_the_difference_of_weak_label_and_ratio_in_every_crop(
    store: Any,
) -> None:
    """The part of the ratio in any crop, less what is left for it, is ratio less label."""
    label = np.asarray(store.label("a")).copy()
    label[3:6, 4:8, 6:9] = 2
    ratio = np.count_nonzero(label == 2) / np.count_nonzero(label)
    for crop in (np.s_[0:4, 0:8, 0:8], np.s_[4:8, 6:14, 4:12], np.s_[0:10, 0:16, 0:16]):
        share, left = make_ratio_channels(label, crop, 0.25)
        assert share[label[crop] == 2].sum() - left.flat[0] == pytest.approx(ratio - 0.25)
    assert share.sum() == pytest.approx(1)
    assert left.flat[0] == 0.25  # the whole liver has all of it


def test_training_and_prediction_see_the_same_local_view(store: Any) -> None:
    liver = np.asarray(store.label("a")) > 0
    box = find_liver_box(liver, SHAPE)
    assert box is not None
    whole = make_input(store.image("a")[box], LOCAL, Liver(liver[box]))
    inputs, _ = CropBatches(
        list_local_crops(store, ["a"], SHAPE), make_local_loader(store, LOCAL, SHAPE, 0.5), 4
    )[0]
    np.testing.assert_array_equal(inputs[0, ..., 0], whole[:4, :8, :8])
    np.testing.assert_array_equal(inputs[-1, ..., 0], whole[-4:, -8:, -8:])


def test_a_volume_smaller_than_the_window_is_refused(store: Any) -> None:
    check_depth(store, ["a"], 10)
    with pytest.raises(InputError, match="STORE: a has 10 slices, the 3D window takes 16"):
        check_depth(store, ["a"], 16)
