"""The recorded example slices of a run: OUT/examples.json and OUT/examples.npz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from data.files import read_json
from evaluation.figures.style import LIVER, TUMOR
from evaluation.names import NAMES, SYSTEMS

INPUTS = ("input_liver", "input_mask", "input_tumor")
"""The slice as the networks of the sequential model read it, and the mask between them."""


@dataclass(frozen=True)
class Examples:
    """Recorded example slices.

    Attributes:
        about, arrays: content of examples.json and examples.npz.
        systems: those with label maps, in table order.
    """

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]
    systems: tuple[str, ...]

    def find(self, kind: str) -> int | None:
        """Return which of the examples is the "best", "median" or "worst", or None."""
        kinds = [example["kind"] for example in self.about["examples"]]
        return kinds.index(kind) if kind in kinds else None

    @property
    def has_input(self) -> bool:
        """Whether the networks' inputs are there: not without sequential model."""
        return "input" in self.about and all(name in self.arrays for name in INPUTS)

    def find_input(self) -> int | None:
        """Return which of the examples is the slice of the networks' inputs, or None."""
        place = (self.about["input"]["case"], self.about["input"]["row"])
        places = [(example["case"], example["row"]) for example in self.about["examples"]]
        return places.index(place) if place in places else None

    def has(self, system: str, index: int) -> bool:
        """Say whether a system has a result on an example; none is stored as zeros."""
        return self.about["examples"][index]["tumor_iou"].get(system) is not None

    @property
    def tumor_scale(self) -> str:
        """How the second network's input was scaled."""
        if self.about["tumor_scaling"] == "window":
            return spell_window(self.about["tumor_window_hu"])
        return "scaled by the liver's median"

    @property
    def liver_scale(self) -> str:
        """How the first network's input was scaled."""
        return spell_window(self.about["liver_window_hu"])

    @property
    def loss(self) -> str:
        """Loss of the phase that the label maps are of, for readers."""
        return NAMES.get(self.about["phase"], self.about["phase"])


def read_examples(out: Path, settings: Mapping[str, Any], names: Sequence[str]) -> Examples | None:
    """Read the example slices of a run; None where they are missing or incomplete.

    Args:
        out: folder of the results.
        settings: of training.json.
        names: systems of Table 1.
    """
    if not ((out / "examples.json").is_file() and (out / "examples.npz").is_file()):
        return None
    about = {"liver_window_hu": settings["liver_window_hu"], **read_json(out / "examples.json")}
    with np.load(out / "examples.npz") as file:
        arrays = {name: file[name] for name in file}
    needed = ("hu", "label", *(name for name in names if name in SYSTEMS))
    if any(name not in arrays or len(arrays[name]) != len(about["examples"]) for name in needed):
        return None
    return Examples(about, arrays, tuple(name for name in names if name in arrays))


def name_ranking(examples: Sequence[dict[str, Any]]) -> str:
    """Name the system that ranked the slices: one-step where sequential has none."""
    has_sequential = all(entry["tumor_iou"].get("sequential") is not None for entry in examples)
    return NAMES["sequential" if has_sequential else "one_step"]


def spell_window(window_hu: Sequence[float]) -> str:
    """Return a window as text, with a minus sign that is one."""
    return "window [{:g}, {:g}] HU".format(*window_hu).replace("-", "\N{MINUS SIGN}")


def window_image(hu: np.ndarray, window_hu: Sequence[float]) -> np.ndarray:
    """Return HU mapped to [0, 1] for display."""
    low, high = window_hu
    return np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1)


def colour_labels(label: np.ndarray) -> np.ndarray:
    """Return a label map (0, 1, 2) as RGB: black, liver colour, tumor colour."""
    colours = np.array([to_rgb(name) for name in ("black", LIVER, TUMOR)])
    return colours[np.minimum(label, 2)]
