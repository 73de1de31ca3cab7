"""The paper's systems (Gruber et al.): one-step and sequential.

Their values are the preset's, so `--set` of their commands changes the preset. Two phases:
cross-entropy, then the same loss with class weights (paper 2.4). `joint.py` holds the joint loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from data.command import InputError
from data.files import read_json
from data.runs import PHASES
from training.systems.base import Step, System, of_preset, stated

if TYPE_CHECKING:
    from data.backend import keras
    from data.batches import FindLiver

PAIR = ("liver", "tumor")
SCALINGS = ("window", "liver_median")
"""Of the second network's input (`data.inputs`)."""


@dataclass(frozen=True)
class GruberSystem(System):
    """What the paper's systems share: U-Nets, two phases, chosen thresholds."""

    PHASES: ClassVar[tuple[str, ...]] = PHASES
    DECISION: ClassVar[str] = "thresholds"
    TABLE1: ClassVar[bool] = True

    document: str = "Gruber et al."
    architecture: str = "unet"
    loss: str = of_preset("loss")
    optimizer: str = stated("sgd", "paper 2.4")
    momentum: float = of_preset("momentum")
    batch_size: int = of_preset("batch_size")
    filters: int = of_preset("filters")
    poolings: int = of_preset("poolings")
    dropout: float = of_preset("dropout")
    batch_normalization: bool = of_preset("batch_normalization")
    learning_rate_ce: float = of_preset("learning_rate_ce")
    learning_rate_balanced: float = of_preset("learning_rate_balanced")
    augment: bool = of_preset("augment")
    liver_window_hu: tuple[float, float] = of_preset("liver_window_hu")
    balanced_ratio: float | None = of_preset("balanced_ratio")

    def find_epochs(self, network: str, phase: str) -> int:
        """Return for how many epochs a network trains: of its field, or of the system's."""
        field = network if self.networks == PAIR else self.EPOCHS
        return int(getattr(self, f"{field}_epochs")[PHASES.index(phase)])

    EPOCHS: ClassVar[str] = "one_step"
    """Whose epochs of the preset a system of one network takes."""

    def find_learning_rate(self, phase: str) -> float:
        """Return the learning rate of a phase."""
        return self.learning_rate_ce if phase == "ce" else self.learning_rate_balanced

    def list_options(self, network: str) -> dict[str, Any]:
        """Return widths, dropout and normalisation of the U-Net."""
        return {
            "widths": [self.filters * 2**level for level in range(self.poolings + 1)],
            "dropout": self.dropout,
            "batch_normalization": self.batch_normalization,
        }

    def describe_inputs(self, network: str, begun: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the input X of a network: the windowed slice."""
        return {network: {"name": "windowed", "window_hu": list(self.liver_window_hu)}}


@dataclass(frozen=True)
class OneStep(GruberSystem):
    """One U-Net over three classes: other, liver, tumor (paper 2.1)."""

    TITLE: ClassVar[str] = "one-step"

    name: str = "one_step"
    one_step_epochs: tuple[int, int] = of_preset("one_step_epochs")


@dataclass(frozen=True)
class Pair(GruberSystem):
    """What systems of two networks share: the second input and its mask."""

    tumor_window_hu: tuple[float, float] = of_preset("tumor_window_hu")
    tumor_scaling: str = of_preset("tumor_scaling")
    mask_threshold_rule: str = of_preset("mask_threshold_rule")

    def describe_second_input(self, name: str, begun: Mapping[str, Any]) -> dict[str, Any]:
        """Return how the second network's input is made.

        `name` is "masked", or "scaled" everywhere; `begun` is what `begin` settled.
        """
        options: dict[str, Any] = {
            "name": name,
            "scaling": begun.get("scaling", self.tumor_scaling),
        }
        options["window_hu"] = list(self.tumor_window_hu)
        return options if begun.get("mask_s1") is None else {**options, "mask_s1": begun["mask_s1"]}


@dataclass(frozen=True)
class Sequential(Pair):
    """A U-Net for the liver, then one for the tumor on M * w(X) (paper 2.2, 2.3).

    M is the first network's thresholded prediction, never the reference mask. A phase of the second
    network uses the masks of the same phase of the first.
    """

    TITLE: ClassVar[str] = "sequential"

    name: str = "sequential"
    networks: tuple[str, ...] = PAIR
    liver_epochs: tuple[int, int] = of_preset("liver_epochs")
    tumor_epochs: tuple[int, int] = of_preset("tumor_epochs")
    trial_epochs: int = of_preset("trial_epochs")

    def describe_inputs(self, network: str, begun: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the input of a network: X, or M * w(X)."""
        if network == "liver":
            return super().describe_inputs(network, begun)
        return {network: self.describe_second_input("masked", begun)}

    def begin(self, step: Step) -> dict[str, Any]:
        """Choose the scaling of the second network's input, from the first's masks.

        An unfinished first network raises an InputError.
        """
        if step.network == "liver":
            return {}
        from data.masks import LiverMasks
        from training.sweeps import choose_scaling

        step.run.read_record(step.label, "liver", step.phase)
        s1 = LiverMasks(find_mask_folder(step)).s1
        scaling = self.tumor_scaling
        if scaling == "choose":
            scaling = choose_scaling(step.run, self, step.label)
        return {"scaling": scaling, "mask_s1": s1}

    def find_livers(self, step: Step, begun: Mapping[str, Any]) -> FindLiver | None:
        """Return the function that gives the mask of a slice that the first network made."""
        from data.masks import LiverMasks

        return None if step.network == "liver" else LiverMasks(find_mask_folder(step)).find_liver

    def finish(self, step: Step, record: Mapping[str, Any]) -> None:
        """Write the masks M of training and validation cases for the second network.

        A first network that diverged raises an InputError.
        """
        if step.network != "liver" or (step.folder / "masks" / "masks.json").is_file():
            return
        if record["status"] == "diverged":
            raise InputError(
                f"{step.folder}: diverged, it has no mask to give to the second network"
            )
        from data.backend import load_network

        s1 = record["thresholds"]["liver"][self.mask_threshold_rule]
        cases = step.run.store.cases_of("train") + step.run.store.cases_of("validation")
        network = load_network(step.folder / "best.keras")
        write_liver_masks(step, network, record["inputs"]["liver"], s1, cases)


def find_mask_folder(step: Step) -> Path:
    """Return where the first network left its masks in a phase."""
    return step.run.find_folder(step.label, "liver", step.phase) / "masks"


def write_liver_masks(
    step: Step,
    network: keras.Model,
    options: Mapping[str, Any],
    s1: float,
    cases: Sequence[str],
) -> None:
    """Write the masks [L(X) > s1] of these cases into the phase's folder.

    Args:
        step: the phase.
        network: L.
        options: of its input.
        s1: its threshold.
        cases: of the store.
    """
    from data.masks import find_masks, find_median, finish_masks, write_masks
    from data.progress import track
    from models.inference import predict_slices

    folder, predict = step.folder / "masks", partial(predict_slices, network)
    medians: dict[str, float | None] = {}
    for case in track(cases, f"{step.title}, masks"):
        image = step.run.store.image(case)
        masked = find_masks(image, predict, s1, options)
        medians[case] = find_median(write_masks(folder, case, len(image), masked))
    finish_masks(folder, s1, medians)
    print(f"{step.title}: masks of {len(medians)} cases at s1 = {s1:.3f}")


def read_scaling(run_path: Path, label: str = "sequential") -> str | None:
    """Return the scaling that a trial chose; None without a trial."""
    path = run_path / label / "tumor" / "scaling.json"
    return str(read_json(path, ("chosen",))["chosen"]) if path.is_file() else None
