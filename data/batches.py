"""Batches for Keras: the slices of a store as a network's input and target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data.augment import augment_slice
from data.backend import keras
from data.inputs import INPUTS, Liver, Options, make_input, read_slices, target_of
from data.store import Store

Slice = tuple[str, int]
Load = Callable[[Slice], tuple[np.ndarray, np.ndarray]]
FindLiver = Callable[[Slice], Liver]


class SliceBatches(keras.utils.PyDataset):
    """Batches of (input, target), read from disk when asked for.

    An item is input (batch, rows, columns, channels) and target (batch, rows, columns, 1), float32.

    Args:
        slices: (case, row) of each slice.
        load: (case, row) -> input (rows, columns) or (rows, columns, channels), float32, and target
            (rows, columns), uint8.
        batch_size: slices a batch; the last one may be smaller.
        seed: order of the slices, another one each epoch; None keeps the order as given.
        augment: change each slice at random (`data.augment`), another way each epoch.

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

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        inputs, targets = self._stack(index)
        if inputs.ndim == targets.ndim:
            inputs = inputs[..., np.newaxis]
        return inputs, targets[..., np.newaxis].astype(np.float32)

    def _stack(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        positions = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        pairs = [self._load_pair(position) for position in positions]
        return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])

    def _load_pair(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        inputs, target = self.load(self.slices[position])
        if not self.augment:
            return inputs, target
        rng = np.random.default_rng([self.seed or 0, self._epoch, position])
        return augment_slice(inputs, target, rng)

    def go_to_epoch(self, epoch: int) -> None:
        """Take the order of an epoch (from 0), so that a resumed run repeats it."""
        self._epoch = epoch
        self._order = np.arange(len(self.slices))
        if self.seed is not None:
            np.random.default_rng([self.seed, self._epoch]).shuffle(self._order)

    def on_epoch_end(self) -> None:
        """Go to the next epoch's order (called by Keras)."""
        self.go_to_epoch(self._epoch + 1)


class NestedBatches(SliceBatches):
    """Batches for the nested network (`models.cascade`).

    `load` gives X and w(X), (rows, columns, 2), and the label 0/1/2. Each item is {"slice",
    "scaled"} and {"liver", "tumor"}: A and B; every array (batch, rows, columns, 1) float32.
    """

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        inputs, labels = self._stack(index)
        targets = {
            name: target_of(labels, name)[..., np.newaxis].astype(np.float32)
            for name in ("liver", "tumor")
        }
        return {"slice": inputs[..., :1], "scaled": inputs[..., 1:]}, targets


def make_loader(
    store: Store,
    target: str,
    inputs: Mapping[str, Options],
    find_liver: FindLiver | None = None,
) -> Load:
    """Return the function that loads a slice as a network sees it, with its target.

    Args:
        store: holds the cases.
        target: "liver", "tumor", "classes", or "joint": the label, for `NestedBatches`.
        inputs: options of `data.inputs.make_input` by network; those of several networks become
            the channels of one array.
        find_liver: the liver of a slice, for the inputs that need one.

    Returns:
        (case, row) -> input (rows, columns) or (rows, columns, channels), float32, and target
        (rows, columns), uint8.
    """
    kinds = [(options, INPUTS[options["name"]].needs_liver) for options in inputs.values()]

    def load(chosen: Slice) -> tuple[np.ndarray, np.ndarray]:
        case, row = chosen
        made = []
        for options, needs_liver in kinds:
            liver = find_liver(chosen) if find_liver is not None and needs_liver else None
            made.append(make_input(read_slices(store.image(case), row, options), options, liver))
        label = target_of(store.label(case)[row], "classes" if target == "joint" else target)
        return made[0] if len(made) == 1 else np.stack(made, -1), label

    return load


def count_class_pixels(store: Store, slices: Sequence[Slice]) -> list[int]:
    """Count the pixels of each class (other, liver, tumor) over the slices."""
    counts = np.zeros(3, np.int64)
    for case, row in slices:
        counts += np.bincount(np.asarray(store.label(case)[row]).ravel(), minlength=3)
    return [int(count) for count in counts]
