"""Three-dimensional crops for the global and local pipeline (HCC-TACE-Seg), as batches for Keras.

The global view is every pixel of some neighbouring slices; the local view is the liver's bounding box, in which
everything outside the liver is at -1000 HU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from data.batches import Slice, SliceBatches, target_of
from data.command import InputError
from data.scaling import window
from data.store import Store

OUTSIDE_HU = (
    -1000.0
)  # of everything outside the liver in the local view; reported of the pipeline's figures

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Window = tuple[float, float]
LoadCrop = Callable[[Slice, np.random.Generator | None], tuple[np.ndarray, np.ndarray]]


class CropBatches(SliceBatches):
    """Batches of crops: input (batch, depth, rows, columns, 1) and target (batch, depth, rows, columns, channels).

    Args:
        crops: (case, number) of each crop of an epoch.
        load: (case, number), generator -> input (depth, rows, columns) and target (depth, rows, columns, channels),
            float32. The generator places the crop at random, another way each epoch; None asks for crop `number` of
            those that cover the case.
        batch_size: crops a batch.
        seed: order and places; None keeps the order and takes the covering crops.
    """

    def __init__(
        self, crops: Sequence[Slice], load: LoadCrop, batch_size: int, seed: int | None = None
    ) -> None:
        self.load_crop = load
        super().__init__(crops, self._never, batch_size, seed)

    @staticmethod
    def _never(chosen: Slice) -> Any:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = self._stacked(index)
        return inputs[..., np.newaxis], targets.astype(np.float32)

    def _pair(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        rng = (
            None if self.seed is None else np.random.default_rng([self.seed, self._epoch, position])
        )
        return self.load_crop(self.slices[position], rng)


def check_depth(store: Store, cases: Sequence[str], depth: int) -> None:
    """Check that every case has as many slices as the window.

    Raises:
        InputError: one has fewer.
    """
    for case in cases:
        slices = len(store.image(case))
        if slices < depth:
            raise InputError(
                f"{store.path}: {case} has {slices} slices, the 3D window takes {depth}"
            )


def starts(length: int, size: int) -> list[int]:
    """Return where windows of `size` begin that cover `length`, side by side, the last one flush with the end."""
    return [*range(0, length - size, size), length - size]


def global_loader(store: Store, window_hu: Window, depth: int) -> LoadCrop:
    """Load `depth` neighbouring slices, windowed to [0, 1], with the liver (tumor included) as target."""

    def load(chosen: Slice, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        case, number = chosen
        image, label = store.image(case), store.label(case)
        last = len(image) - depth
        first = starts(len(image), depth)[number] if rng is None else int(rng.integers(last + 1))
        rows = slice(first, first + depth)
        target = target_of(np.asarray(label[rows]), "liver").astype(np.float32)
        return window(np.asarray(image[rows]), *window_hu), target[..., np.newaxis]

    return load


def global_crops(store: Store, cases: Sequence[str], depth: int) -> list[Slice]:
    """Return the crops that cover these cases."""
    return [
        (case, number)
        for case in cases
        for number in range(len(starts(len(store.image(case)), depth)))
    ]


def liver_box(liver: np.ndarray, shape: Shape) -> Box | None:
    """Return the bounding box of a mask, grown inside the volume until `shape` fits into it; None for an empty mask.

    Args:
        liver: bool, (n_slices, rows, columns), at least `shape` along every axis.
    """
    box = []
    for axis, size in enumerate(shape):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(liver.any(axis=others))
        if not len(found):
            return None
        low, high = int(found[0]), int(found[-1]) + 1
        low = max(0, min(low - (size - (high - low)) // 2, low)) if high - low < size else low
        high = max(high, low + size)
        low, high = (
            (low, high)
            if high <= liver.shape[axis]
            else (liver.shape[axis] - (high - low), liver.shape[axis])
        )
        box.append(slice(low, high))
    return box[0], box[1], box[2]


def local_view(hu: np.ndarray, liver: np.ndarray, box: Box, window_hu: Window) -> np.ndarray:
    """Return the box of a volume, windowed to [0, 1], with everything outside the liver at `OUTSIDE_HU`: float32."""
    inside = np.where(liver[box], np.asarray(hu[box], np.float32), np.float32(OUTSIDE_HU))
    return window(inside, *window_hu)


def local_loader(
    store: Store,
    window_hu: Window,
    shape: Shape,
    tumor_share: float,
    weak: Mapping[str, float] | None = None,
) -> LoadCrop:
    """Load crops of `shape` from the local view of the reference liver, with the tumor as target.

    Args:
        store: holds the cases.
        window_hu: scaled to [0, 1].
        shape: (depth, rows, columns) of a crop.
        tumor_share: share of the drawn crops that lie around a tumor voxel, where there is one; the rest lie anywhere.
        weak: the patient's weak label by case, of his tumor-to-liver ratio. With it the target has the two channels
            more that `ratio_channels` returns.
    """

    @lru_cache(maxsize=1024)
    def box_of(case: str) -> Box:
        box = liver_box(np.asarray(store.label(case)) > 0, shape)
        assert box is not None, "local_crops leaves out cases without liver"
        return box

    def load(chosen: Slice, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        case, number = chosen
        box = box_of(case)
        whole = np.asarray(store.label(case)[box])
        first = (
            _places(whole.shape, shape)[number]
            if rng is None
            else _drawn(whole, shape, tumor_share, rng)
        )
        crop = _box_at(first, shape)
        view, label = local_view(store.image(case)[box], whole > 0, crop, window_hu), whole[crop]
        channels = [target_of(label, "tumor")]
        if weak is not None:
            channels += ratio_channels(whole, crop, weak[case])
        return view, np.stack([channel.astype(np.float32) for channel in channels], -1)

    return load


def ratio_channels(label: np.ndarray, crop: Box, weak: float) -> list[np.ndarray]:
    """Return what the penalty on a patient's tumor-to-liver ratio reads of a crop (`training.overlap_losses`).

    Args:
        label: 0/1/2, the whole liver in it.
        crop: of it.
        weak: the patient's weak label, tumor voxels over liver voxels (tumor included).

    Returns:
        Two arrays of the crop's shape. 1 / L inside the liver, else 0, with L the patient's liver voxels: summed over
        tumor, it gives the crop's part of the ratio. And weak - T / L, everywhere the same, with T the reference's
        tumor voxels outside the crop: what of the weak label is left for the crop (below 0 where T / L is more).
    """
    liver, outside = (
        np.count_nonzero(label),
        np.count_nonzero(label == 2) - np.count_nonzero(label[crop] == 2),
    )
    inside = label[crop] > 0
    return [inside / liver, np.full(inside.shape, weak - outside / liver)]


def local_crops(store: Store, cases: Sequence[str], shape: Shape) -> list[Slice]:
    """Return the crops that cover the local views of these cases; a case without liver has none."""
    crops: list[Slice] = []
    for case in cases:
        box = liver_box(np.asarray(store.label(case)) > 0, shape)
        if box is not None:
            sizes = tuple(one.stop - one.start for one in box)
            crops += [(case, number) for number in range(len(_places(sizes, shape)))]
    return crops


def _places(sizes: Sequence[int], shape: Shape) -> list[tuple[int, ...]]:
    axes = [starts(length, size) for length, size in zip(sizes, shape, strict=True)]
    return [(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]


def _box_at(first: Sequence[int], shape: Shape) -> Box:
    z, y, x = (slice(low, low + size) for low, size in zip(first, shape, strict=True))
    return z, y, x


def _drawn(
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
