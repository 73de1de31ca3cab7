"""Batches for Keras: slices of a store, prepared as one network's input and target, shuffled by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data.augment import augmented
from data.backend import keras
from data.masks import LiverMasks
from data.scaling import tumor_input, window
from data.store import Store

Slice = tuple[str, int]
Load = Callable[[Slice], tuple[np.ndarray, np.ndarray]]


class SliceBatches(keras.utils.PyDataset):
    """Batches of (input, target), read from disk when asked for; the store is never loaded whole.

    Args:
        slices: (case, row) of each slice.
        load: (case, row) -> input (rows, columns) float32 and target (rows, columns) uint8.
        batch_size: slices a batch; the last one may be smaller.
        seed: order of the slices, another one each epoch; None keeps the order as given.
        augment: change each slice at random (`data.augment`), another way each epoch; needs a seed.

    Each item is input (batch, rows, columns, 1) float32 and target of the same shape.

    Raises:
        ValueError: `slices` is empty, or `augment` comes without a seed.
    """

    def __init__(
        self,
        slices: Sequence[Slice],
        load: Load,
        batch_size: int,
        seed: int | None = None,
        augment: bool = False,
    ) -> None:
        super().__init__()
        if not slices:
            raise ValueError("slices must hold at least one slice, got none")
        if augment and seed is None:
            raise ValueError("augment needs a seed")
        self.slices, self.load, self.batch_size, self.seed = list(slices), load, batch_size, seed
        self.augment = augment
        self.go_to_epoch(0)

    def __len__(self) -> int:
        return math.ceil(len(self.slices) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = self._stacked(index)
        return inputs[..., np.newaxis], targets[..., np.newaxis].astype(np.float32)

    def _stacked(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        pairs = [self._pair(position) for position in chosen]
        return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])

    def _pair(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        inputs, target = self.load(self.slices[position])
        if self.augment:
            return augmented(
                inputs, target, np.random.default_rng([self.seed or 0, self._epoch, position])
            )
        return inputs, target

    def go_to_epoch(self, epoch: int) -> None:
        """Take the order of that epoch (from 0), so that a resumed run sees what it would have seen."""
        self._epoch = epoch
        self._order = np.arange(len(self.slices))
        if self.seed is not None:
            np.random.default_rng([self.seed, self._epoch]).shuffle(self._order)

    def on_epoch_end(self) -> None:
        """Go to the next epoch's order (called by Keras)."""
        self.go_to_epoch(self._epoch + 1)


class NestedBatches(SliceBatches):
    """Batches for the nested network (`models.cascade`).

    `load` gives inputs (rows, columns, 2), X and w(X), and the label 0/1/2. Each item is {"slice", "scaled"} and
    {"liver", "tumor"}: A and B; every array (batch, rows, columns, 1) float32.
    """

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        inputs, labels = self._stacked(index)
        targets = {
            name: target_of(labels, name)[..., np.newaxis].astype(np.float32)
            for name in ("liver", "tumor")
        }
        return {"slice": inputs[..., :1], "scaled": inputs[..., 1:]}, targets


def target_of(label: np.ndarray, target: str) -> np.ndarray:
    """Return a network's target from labels 0/1/2: the paper's A ("liver"), B ("tumor") or the "classes".

    A is 1 where liver or tumor, B is 1 where tumor; "classes" is the label itself (one-step model).

    Raises:
        ValueError: another target.
    """
    if target == "liver":
        return (label >= 1).astype(np.uint8)
    if target == "tumor":
        return (label == 2).astype(np.uint8)
    if target == "classes":
        return np.asarray(label)
    raise ValueError(f"target must be 'liver', 'tumor' or 'classes', got {target!r}")


def whole_slice_loader(store: Store, target: str, window_hu: tuple[float, float]) -> Load:
    """Load the windowed slice X, for the first network ("liver") and the one-step model ("classes")."""

    def load(chosen: Slice) -> tuple[np.ndarray, np.ndarray]:
        case, row = chosen
        hu = np.asarray(store.image(case)[row], np.float32)
        return window(hu, *window_hu), target_of(store.label(case)[row], target)

    return load


def masked_slice_loader(
    store: Store, masks: LiverMasks, scaling: str, window_hu: tuple[float, float]
) -> Load:
    """Load M * w(X), the second network's input, with M the first network's mask, and B (paper 2.3)."""

    def load(chosen: Slice) -> tuple[np.ndarray, np.ndarray]:
        case, row = chosen
        hu = np.asarray(store.image(case)[row], np.float32)
        mask = masks.mask(case)[row].astype(bool)
        inputs = tumor_input(hu, mask, scaling, window_hu, masks.median_hu(case))
        return inputs, target_of(store.label(case)[row], "tumor")

    return load


def nested_loader(
    store: Store,
    liver_window_hu: tuple[float, float],
    scaling: str,
    tumor_window_hu: tuple[float, float],
    medians_hu: Mapping[str, float | None],
) -> Load:
    """Load X and w(X), not masked, as two channels, and the label: the nested network masks by itself.

    HU are clipped to the second window first, also for scaling "liver_median": a soft mask lets a little of everything
    through, and air at -1000 HU would outweigh the liver. `medians_hu` gives the liver's median HU of each case, which
    scaling "liver_median" needs.
    """

    def load(chosen: Slice) -> tuple[np.ndarray, np.ndarray]:
        case, row = chosen
        hu = np.asarray(store.image(case)[row], np.float32)
        clipped = np.clip(hu, *tumor_window_hu)
        scaled = tumor_input(
            clipped, np.ones(hu.shape, bool), scaling, tumor_window_hu, medians_hu.get(case)
        )
        return np.stack([window(hu, *liver_window_hu), scaled], -1), np.asarray(
            store.label(case)[row]
        )

    return load


def class_pixels(store: Store, slices: Sequence[Slice]) -> list[int]:
    """Count the pixels of each class (other, liver, tumor) over the slices."""
    counts = np.zeros(3, np.int64)
    for case, row in slices:
        counts += np.bincount(np.asarray(store.label(case)[row]).ravel(), minlength=3)
    return [int(count) for count in counts]
