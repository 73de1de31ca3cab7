"""Trained models as `evaluation.predict` uses them: a volume of any grid in, its label map on that grid out.

`PaperSegmenter` is a model of the paper with a threshold rule, `OtherSegmenter` a system of another document, which
decides by its own rule.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from data.command import InputError
from data.files import read_json
from data.resize import resize_hu, restore_probability
from data.volumes import Volume
from evaluation.names import ARGMAX, MODELS, TARGETS
from evaluation.other_systems import HALF, OtherSystem, finished_names, folder_of, load_other
from evaluation.scoring import most_probable
from evaluation.systems import System, check_numbers, finished_systems, load_system, stages_of
from models.sequential import label_map, mask_liver

Item = TypeVar("Item")


class Segmenter(Protocol):
    """What `evaluation.predict` asks of a model."""

    @property
    def system(self) -> System | OtherSystem:
        """The trained model; its name, and its weakness on validation data, are shown."""

    @property
    def described(self) -> dict[str, str]:
        """Its columns of a table: "model", "loss", "threshold_rule"."""

    @property
    def files(self) -> dict[str, list[Path]]:
        """What it was loaded from, by network."""

    def segment(
        self, volume: Volume, maps: Sequence[np.ndarray], shown_as: str, livers: np.ndarray | None
    ) -> np.ndarray:
        """Return the label map of a volume; see `segment`."""


@dataclass(frozen=True)
class PaperSegmenter:
    """A model of the paper.

    Attributes:
        run: its run directory.
        system: the trained model.
        size: rows and columns of the networks' slices.
        rule: threshold rule.
        liver_only: whether labels are 0 and 1 alone.
    """

    run: Path
    system: System
    size: int
    rule: str
    liver_only: bool

    @property
    def described(self) -> dict[str, str]:
        """Model, phase and threshold rule."""
        return {"model": self.system.model, "loss": self.system.loss, "threshold_rule": self.rule}

    @property
    def files(self) -> dict[str, list[Path]]:
        """Network and record of each stage."""
        stages = stages_of(self.system.model, self.liver_only)
        folders = {stage: self.run / stage / self.system.loss for stage in stages}
        return {
            stage: [folder / "best.keras", folder / "record.json"]
            for stage, folder in folders.items()
        }

    def segment(
        self, volume: Volume, maps: Sequence[np.ndarray], shown_as: str, livers: np.ndarray | None
    ) -> np.ndarray:
        """Return the label map of a volume, slice by slice."""
        return segment(
            self.system, volume, self.size, self.rule, self.liver_only, maps, shown_as, livers
        )


@dataclass(frozen=True)
class OtherSegmenter:
    """A system of another document.

    Attributes:
        run: its run directory.
        system: the trained system.
        size: rows and columns of the networks' slices.
        liver_only: whether labels are 0 and 1 alone.
    """

    run: Path
    system: OtherSystem
    size: int
    liver_only: bool

    @property
    def described(self) -> dict[str, str]:
        """Label and decision rule; it has no phases."""
        rule = ARGMAX if "classes" in self.system.networks else str(HALF)
        return {"model": self.system.name, "loss": "", "threshold_rule": rule}

    @property
    def files(self) -> dict[str, list[Path]]:
        """Settings, and network and record of each target."""
        folder = folder_of(self.run, self.system.name)
        networks = {
            target: [folder / target / name for name in ("best.keras", "record.json")]
            for target in self.system.records
        }
        return {"system": [folder / "system.json"], **networks}

    def segment(
        self, volume: Volume, maps: Sequence[np.ndarray], shown_as: str, livers: np.ndarray | None
    ) -> np.ndarray:
        """Return the label map of a volume, found at the networks' size and brought to the volume's grid.

        A voxel is what covers at least half of it. All slices at the networks' size are in memory, 4 bytes a pixel.

        Args:
            volume: CT in HU.
            maps: none; such a system has no probability maps of the volume.
            shown_as: not used.
            livers: bool array of the volume's shape, filled with the liver by itself (`OtherSystem.found`).

        Returns:
            uint8 (n_slices, rows, columns), canonical order, 0 other, 1 liver, 2 tumor.

        Raises:
            InputError: fewer slices than the window of a system in 3D.
        """
        depth = self.system.settings.get("depth", 0)
        if volume.n_slices < depth:
            raise InputError(
                f"{volume.path}: has {volume.n_slices} slices, the 3D window takes {depth}"
            )
        hu = np.stack(list(network_slices(volume, self.size)))
        labels = np.zeros(volume.shape, np.uint8)
        for index, (found, liver) in enumerate(zip(*self.system.found(hu), strict=True)):
            areas = np.stack([liver, found > 0, found == 2]).astype(np.float32)
            alone, every, tumor = restore_probability(areas, volume.rows, volume.columns) >= HALF
            labels[index] = alone if self.liver_only else np.where(tumor, 2, every)
            if livers is not None:
                livers[index] = alone
        return labels


def check_finished(run: Path, name: str) -> None:
    """Check that a system of another document is finished under this name (see `finished_names`).

    Raises:
        InputError: none is.
    """
    there = finished_names(run)
    if name not in there:
        found = f"finished there: {', '.join(there)}" if there else "training.system trains them"
        raise InputError(
            f"--model {name}: none of {', '.join(MODELS)}, nor a system of {run} ({found})"
        )


def choose_other(run: Path, name: str, liver_only: bool = False) -> OtherSystem:
    """Load a system of another document by its name (see `finished_names`).

    Raises:
        InputError: a file of it is missing or damaged, or its training failed (`liver_only`: of what finds the liver).
    """
    system = load_other(run, name, liver_only)
    if not set(TARGETS[:1] if liver_only else TARGETS) <= set(system.targets):
        raise InputError(f"{run}: {system.name} is not usable: {system.failure}")
    return system


def choose_system(run: Path, model: str, loss: str | None, liver_only: bool = False) -> System:
    """Load the model after the phase asked for; by default the phase of the higher validation IoU (rule roc).

    The IoU is that of the tumor; that of the liver for `liver_only`, where the second network is not needed.

    Raises:
        InputError: it is not trained, or its training failed.
    """
    if loss is None:
        every = finished_systems(run, liver_only)
        finished = [found for found_model, found in every if found_model == model]
        if not finished:
            there = " or ".join(dict.fromkeys(found_model for found_model, _ in every))
            raise InputError(f"{run}: no {model} model is finished; take another (--model {there})")
        loss = max(finished, key=lambda found: validation_iou(run, model, found, liver_only))
    system = load_system(run, model, loss, liver_only)
    if system.failure:
        raise InputError(f"{run}: {system.name} is not usable: {system.failure}")
    return system


def validation_iou(run: Path, model: str, loss: str, liver_only: bool = False) -> float:
    """Return what the record of the phase says of its tumors (or livers) on validation data; -1 if it is no result."""
    stages = stages_of(model, liver_only)
    records = [
        read_json(run / stage / loss / "record.json", ("status", "validation")) for stage in stages
    ]
    if any(record["status"] != "ok" for record in records):
        return -1.0
    return float(records[-1]["validation"]["liver" if liver_only else "tumor"]["iou_at_roc"])


def segment(
    system: System,
    volume: Volume,
    size: int,
    rule: str = "roc",
    liver_only: bool = False,
    maps: Sequence[np.ndarray] = (),
    shown_as: str = "",
    livers: np.ndarray | None = None,
) -> np.ndarray:
    """Return the label map of a volume, slice by slice.

    Beyond the raw voxels, the labels and `maps`, memory holds some slices at a time.

    Args:
        system: the trained model.
        volume: CT in HU.
        size: rows and columns of the networks' slices.
        rule: which of the thresholds chosen on validation data; "argmax" for the one-step model.
        liver_only: give 1 where L > s1 (or where liver or tumor is the most probable class), else 0.
        maps: float32 arrays of the volume's shape, filled with the probabilities of liver (tumor included) and tumor.
        shown_as: what a terminal shows the percentage of; nothing for "".
        livers: bool array of the volume's shape, filled with L > s1 (rule argmax: with the labels that are not 0).

    Returns:
        uint8 (n_slices, rows, columns), canonical order, 0 other, 1 liver, 2 tumor.
    """
    slices = partial(network_slices, volume, size)
    labels = np.zeros(volume.shape, np.uint8)
    used = 1 if liver_only and rule != ARGMAX else 2
    predicted = _with_percentage(system.probabilities(slices, slices), volume.n_slices, shown_as)
    for index, both in enumerate(predicted):
        check_numbers(system.name, f"slice {index}", *both)
        native = [
            restore_probability(p[np.newaxis], volume.rows, volume.columns)[0] for p in both[:used]
        ]
        for values, probability in zip(maps, native, strict=False):
            values[index] = probability
        labels[index] = _labels(system, rule, liver_only, native)
        if livers is not None:
            found = (
                labels[index]
                if rule == ARGMAX
                else mask_liver(native[0], system.thresholds("liver")[rule])
            )
            livers[index] = found
    return labels


def _labels(
    system: System, rule: str, liver_only: bool, probabilities: Sequence[np.ndarray]
) -> np.ndarray:
    if liver_only and rule != ARGMAX:
        return np.asarray(mask_liver(probabilities[0], system.thresholds("liver")[rule]))
    liver, tumor = probabilities
    if rule == ARGMAX:
        labels = most_probable(liver, tumor)
        return labels > 0 if liver_only else labels
    return np.asarray(
        label_map(liver, tumor, *(system.thresholds(target)[rule] for target in TARGETS))
    )


def _with_percentage(items: Iterable[Item], total: int, shown_as: str) -> Iterator[Item]:
    shown = bool(shown_as) and sys.stderr.isatty()
    for index, item in enumerate(items):
        if shown:
            print(f"\r{shown_as}: {100 * index // total} %", end="", file=sys.stderr, flush=True)
        yield item
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def network_slices(volume: Volume, size: int) -> Iterator[np.ndarray]:
    """Yield the volume's slices as the networks see them: (size, size) float32, in HU."""
    for _, chunk in volume.chunks():
        yield from resize_hu(chunk, size)
