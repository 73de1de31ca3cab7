"""Crops in 3D for the global and local pipeline, as batches for Keras.

The global view is every pixel of some neighbouring slices. The local view is the liver's bounding
box, in which everything outside the liver is at -1000 HU (`data.inputs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from data.batches import Slice, SliceBatches
from data.command import InputError
from data.inputs import Box, Liver, Options, find_liver_box, make_input, target_of
from data.store import Store

Shape = tuple[int, int, int]
LoadCrop = Callable[[Slice, np.random.Generator | None], tuple[np.ndarray, np.ndarray]]


class CropBatches(SliceBatches):
    """Batches of crops.

    Each item is input (batch, depth, rows, columns, 1) and target (batch, depth, rows, columns,
    channels), float32.

    Args:
        crops: (case, number) of each crop of an epoch.
        load: (case, number), generator -> input (depth, rows, columns) and target (depth, rows,
            columns, channels), float32. The generator places the crop at random, another way each
            epoch; None asks for crop `number` of those that cover the case.
        batch_size: crops a batch.
        seed: order and places; None keeps the order and takes the covering crops.
    """

    def __init__(
        self, crops: Sequence[Slice], load: LoadCrop, batch_size: int, seed: int | None = None
    ) -> None:
        self.load_crop = load
        super().__init__(crops, self._refuse, batch_size, seed)

    @staticmethod
    def _refuse(chosen: Slice) -> Any:
        raise NotImplementedError("crops are loaded by load_crop")

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = self._stack(index)
        return inputs[..., np.newaxis], targets.astype(np.float32)

    def _load_pair(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = self.seed is not None
        rng = np.random.default_rng([self.seed or 0, self._epoch, position]) if drawn else None
        return self.load_crop(self.slices[position], rng)


def check_depth(store: Store, cases: Sequence[str], depth: int) -> None:
    """Check that every case has as many slices as the window.

    Args:
        store: holds the cases.
        cases: their names.
        depth: slices of the window.

    Raises:
        InputError: one has fewer.
    """
    for case in cases:
        slices = len(store.image(case))
        if slices < depth:
            raise InputError(
                f"{store.path}: {case} has {slices} slices, the 3D window takes {depth}"
            )


def place_windows(length: int, size: int) -> list[int]:
    """Return where windows of `size` begin that cover `length`, the last flush."""
    return [*range(0, length - size, size), length - size]


def make_global_loader(store: Store, options: Options, depth: int) -> LoadCrop:
    """Return the function that loads `depth` slices, with the liver as target.

    Args:
        store: holds the cases.
        options: of the input "global".
        depth: slices of a crop.
    """

    def load(chosen: Slice, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        case, number = chosen
        image, label = store.image(case), store.label(case)
        if rng is None:
            first = place_windows(len(image), depth)[number]
        else:
            first = int(rng.integers(len(image) - depth + 1))
        rows = slice(first, first + depth)
        target = target_of(np.asarray(label[rows]), "liver").astype(np.float32)
        return make_input(image[rows], options), target[..., np.newaxis]

    return load


def list_global_crops(store: Store, cases: Sequence[str], depth: int) -> list[Slice]:
    """Return the crops that cover these cases.

    Args:
        store, cases, depth: as `check_depth` takes them.
    """
    return [
        (case, number)
        for case in cases
        for number in range(len(place_windows(len(store.image(case)), depth)))
    ]


def make_local_loader(
    store: Store,
    options: Options,
    shape: Shape,
    tumor_share: float,
    weak_labels: Mapping[str, float] | None = None,
) -> LoadCrop:
    """Return the function that loads crops of the liver's box, with tumor targets.

    Args:
        store: holds the cases and the reference liver.
        options: of the input "local".
        shape: (depth, rows, columns) of a crop.
        tumor_share: share of the drawn crops that lie around a tumor voxel, where there is one; the
            rest lie anywhere.
        weak_labels: by case, of the patient's tumor-to-liver ratio; adds to the target the two
            channels of `make_ratio_channels`.
    """

    # A box needs the whole label, so each case's is found once.
    @lru_cache(maxsize=1024)
    def find_box(case: str) -> Box:
        box = find_liver_box(np.asarray(store.label(case)) > 0, shape)
        assert box is not None, "list_local_crops leaves out cases without liver"
        return box

    def load(chosen: Slice, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        case, number = chosen
        box = find_box(case)
        whole = np.asarray(store.label(case)[box])
        if rng is None:
            first = _place_crops(whole.shape, shape)[number]
        else:
            first = _draw_corner(whole, shape, tumor_share, rng)
        crop = _make_box(first, shape)
        label = whole[crop]
        view = make_input(store.image(case)[box][crop], options, Liver(label > 0))
        channels = [target_of(label, "tumor")]
        if weak_labels is not None:
            channels += make_ratio_channels(whole, crop, weak_labels[case])
        return view, np.stack([channel.astype(np.float32) for channel in channels], -1)

    return load


def make_ratio_channels(label: np.ndarray, crop: Box, weak_label: float) -> list[np.ndarray]:
    """Return what the penalty on the tumor-to-liver ratio reads (`training.losses`).

    Args:
        label: 0/1/2, the whole liver in it.
        crop: of it.
        weak_label: the patient's, tumor voxels over liver voxels (tumor included).

    Returns:
        Two arrays of the crop's shape. The first is 1 / L inside the liver, else 0, with L the
        patient's liver voxels: summed over tumor, it gives the crop's part of the ratio. The second
        is weak label - T / L everywhere, with T the tumor voxels outside the crop: what of the weak
        label is left for the crop (below 0 where T / L is more).
    """
    liver = np.count_nonzero(label)
    outside = np.count_nonzero(label == 2) - np.count_nonzero(label[crop] == 2)
    inside = label[crop] > 0
    return [inside / liver, np.full(inside.shape, weak_label - outside / liver)]


def list_local_crops(store: Store, cases: Sequence[str], shape: Shape) -> list[Slice]:
    """Return the crops that cover these local views; a case without liver has none.

    Args:
        store, cases: as `check_depth` takes them.
        shape: (depth, rows, columns) of a crop.
    """
    crops: list[Slice] = []
    for case in cases:
        box = find_liver_box(np.asarray(store.label(case)) > 0, shape)
        if box is not None:
            sizes = tuple(axis.stop - axis.start for axis in box)
            crops += [(case, number) for number in range(len(_place_crops(sizes, shape)))]
    return crops


def _place_crops(sizes: Sequence[int], shape: Shape) -> list[tuple[int, ...]]:
    axes = [place_windows(length, size) for length, size in zip(sizes, shape, strict=True)]
    return [(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]


def _make_box(first: Sequence[int], shape: Shape) -> Box:
    z, y, x = (slice(low, low + size) for low, size in zip(first, shape, strict=True))
    return z, y, x


def _draw_corner(
    label: np.ndarray, shape: Shape, tumor_share: float, rng: np.random.Generator
) -> tuple[int, ...]:
    """Return the first corner of a crop, drawn around a tumor voxel or anywhere."""
    room = [length - size for length, size in zip(label.shape, shape, strict=True)]
    tumor = np.flatnonzero(label == 2)
    if len(tumor) and rng.random() < tumor_share:
        centre = np.unravel_index(int(rng.choice(tumor)), label.shape)
        shifted = (
            int(rng.integers(at - size + 1, at + 1)) for at, size in zip(centre, shape, strict=True)
        )
        return tuple(int(np.clip(low, 0, most)) for low, most in zip(shifted, room, strict=True))
    return tuple(int(rng.integers(most + 1)) for most in room)
