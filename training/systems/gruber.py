"""The paper's systems (Gruber et al.): one-step, sequential, and both networks with a joint loss.

Their values are the preset's, so `--set` of their commands changes the preset. Two phases: cross-
entropy, then the same loss with class weights (paper 2.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from data.command import InputError
from data.files import read_json
from training.systems.base import (
    PHASES,
    NetworkData,
    Step,
    System,
    of_preset,
    stated,
)

if TYPE_CHECKING:
    from data.backend import keras
    from data.inputs import Liver
    from data.store import Store
    from training.run import Run
    from training.validation import Validation

GRUBER = "Gruber et al."
PAIR = ("liver", "tumor")
SCALINGS = ("window", "liver_median")
"""Of the second network's input (`data.inputs`)."""


@dataclass(frozen=True)
class GruberSystem(System):
    """What the paper's systems share: U-Nets, two phases, thresholds chosen on validation data."""

    PHASES: ClassVar[tuple[str, ...]] = PHASES
    DECISION: ClassVar[str] = "thresholds"
    TABLE1: ClassVar[bool] = True

    document: str = GRUBER
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

    @property
    def is_augmented(self) -> bool:
        """Whether training slices are changed at random."""
        return self.augment

    def class_ratio(self, target: str) -> float | None:
        """Return the preset's class weight of tumor to the rest, for the second network alone."""
        return self.balanced_ratio if target == "tumor" else None

    def learning_rate_of(self, phase: str) -> float:
        """Return the learning rate of a phase."""
        return self.learning_rate_ce if phase == "ce" else self.learning_rate_balanced

    def options_of(self, network: str) -> dict[str, Any]:
        """Return widths, dropout and normalisation of the U-Net."""
        return {
            "widths": [self.filters * 2**level for level in range(self.poolings + 1)],
            "dropout": self.dropout,
            "batch_normalization": self.batch_normalization,
        }

    def inputs_of(self, network: str) -> dict[str, dict[str, Any]]:
        """Return the input X of a network: the windowed slice."""
        return {network: {"name": "windowed", "window_hu": list(self.liver_window_hu)}}


@dataclass(frozen=True)
class OneStep(GruberSystem):
    """One U-Net over three classes: other, liver, tumor (paper 2.1)."""

    TITLE: ClassVar[str] = "one-step"

    name: str = "one_step"
    one_step_epochs: tuple[int, int] = of_preset("one_step_epochs")

    def epochs_of(self, network: str, phase: str) -> int:
        """Return for how many epochs the network trains in a phase."""
        return self.one_step_epochs[PHASES.index(phase)]


@dataclass(frozen=True)
class Pair(GruberSystem):
    """What the systems of two networks share: the scaling of the second input."""

    tumor_window_hu: tuple[float, float] = of_preset("tumor_window_hu")
    tumor_scaling: str = of_preset("tumor_scaling")
    mask_threshold_rule: str = of_preset("mask_threshold_rule")

    def second_input(self, name: str, scaling: str) -> dict[str, Any]:
        """Return how the second network's input is made: "masked", or "scaled" everywhere."""
        return {"name": name, "scaling": scaling, "window_hu": list(self.tumor_window_hu)}


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

    def epochs_of(self, network: str, phase: str) -> int:
        """Return for how many epochs a network trains in a phase."""
        epochs = self.liver_epochs if network == "liver" else self.tumor_epochs
        return epochs[PHASES.index(phase)]

    def inputs_of(self, network: str) -> dict[str, dict[str, Any]]:
        """Return the input of a network; of the second one, as far as the preset settles it."""
        if network == "liver":
            return super().inputs_of(network)
        return {network: self.second_input("masked", self.tumor_scaling)}

    def begin(self, step: Step) -> dict[str, Any]:
        """Choose the scaling of the second network's input, once the first one's masks are there.

        Raises:
            InputError: the first network is not finished.
        """
        if step.network == "liver":
            return {}
        from data.masks import LiverMasks
        from training.sweeps import choose_scaling

        step.run.record(step.label, "liver", step.phase)
        masks = LiverMasks(step.run.folder(step.label, "liver", step.phase) / "masks")
        scaling = self.tumor_scaling
        if scaling == "choose":
            scaling = choose_scaling(step.run, self, step.label)
        return {"scaling": scaling, "mask_s1": masks.s1}

    def load_data(self, step: Step, begun: Mapping[str, Any]) -> NetworkData:
        """Return what a network learns from: slices, for the second one in the first one's mask."""
        if step.network == "liver":
            return super().load_data(step, begun)
        from data.batches import SliceBatches, make_loader
        from data.masks import LiverMasks
        from models.inference import BATCH_SIZE

        store = step.run.store
        masks = LiverMasks(step.run.folder(step.label, "liver", step.phase) / "masks")
        options = {**self.second_input("masked", begun["scaling"]), "mask_s1": masks.s1}
        load = make_loader(store, "tumor", {"tumor": options}, masks.find_liver)
        return NetworkData(
            SliceBatches(store.slices("train"), load, self.batch_size, step.run.seed, self.augment),
            SliceBatches(store.slices("validation"), load, BATCH_SIZE),
            {"inputs": {"tumor": options}, "unit": "slices"},
            lambda chosen: masks.mask(chosen[0])[chosen[1]],
        )

    def finish(self, step: Step, record: Mapping[str, Any]) -> None:
        """Write the masks M of the training and validation cases that the second network needs.

        Raises:
            InputError: the first network diverged.
        """
        folder = step.folder / "masks"
        if step.network != "liver" or (folder / "masks.json").is_file():
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


@dataclass(frozen=True)
class Joint(Pair):
    """Both networks nested and trained together with the joint loss (paper 2.1).

    The loss is alpha * loss(A, L(X)) + beta * loss(B, T(M * w(X))) over the nested network
    (`models.cascade`), from fresh weights or from a sequential pair. Afterwards its networks are
    used as a sequential pair.

    Attributes:
        pair_path: run directory of the pair to start from; None: fresh weights.
    """

    TITLE: ClassVar[str] = "joint"
    FIXED: ClassVar[tuple[str, ...]] = (*System.FIXED, "pair_path")

    name: str = "joint"
    networks: tuple[str, ...] = ("nested",)
    joint_epochs: tuple[int, int] = of_preset("joint_epochs")
    joint_alpha: float = of_preset("joint_alpha")
    joint_beta: float = of_preset("joint_beta")
    joint_mask: str = of_preset("joint_mask")
    joint_start: str = of_preset("joint_start")
    pair_path: Path | None = None

    def inside(self, run: Run) -> Self:
        """Return joint training as the preset starts it: from the run's own pair, or none."""
        return replace(self, pair_path=run.path if self.joint_start == "pair" else None)

    def settings(self) -> dict[str, Any]:
        """Return every field with its value, but for the pair's path, which is a machine's."""
        return {key: value for key, value in super().settings().items() if key != "pair_path"}

    def epochs_of(self, network: str, phase: str) -> int:
        """Return for how many epochs the nested network trains in a phase."""
        return self.joint_epochs[PHASES.index(phase)]

    def inputs_of(self, network: str) -> dict[str, dict[str, Any]]:
        """Return X, and w(X) as far as the preset settles it."""
        return {
            "liver": super().inputs_of("liver")["liver"],
            "tumor": self.second_input("scaled", self.tumor_scaling),
        }

    def begin(self, step: Step) -> dict[str, Any]:
        """Check the settings of a phase that was begun, or settle them; see `training.joint_start`.

        Raises:
            InputError: it was begun with others; the pair, or `ce` before `balanced`, is unfit.
        """
        from training.joint_start import begin

        return begin(step, self)

    def check_done(self, step: Step) -> None:
        """Check that a finished phase has these settings.

        Raises:
            InputError: it has others.
        """
        from training.joint_start import check_settings

        check_settings(step, self)

    def build(self, network: str, size: int, begun: Mapping[str, Any]) -> keras.Model:
        """Build the nested network, both of its networks drawn from Keras's seed."""
        from models.cascade import build_cascade

        liver, tumor = (GruberSystem.build(self, part, size, begun) for part in PAIR)
        return build_cascade(liver, tumor, begun.get("begun_s1", 0.5), self.joint_mask)

    def load_start(self, model: keras.Model, step: Step) -> None:
        """Load the weights that a phase starts from: of `ce`, of the pair, or none."""
        from models.cascade import split_cascade
        from training.joint_start import weights_of

        super().load_start(model, step)
        if step.phase == "ce" and self.pair_path is not None:
            for part, network in zip(PAIR, split_cascade(model), strict=True):
                network.load_weights(weights_of(self.pair_path, part))

    @property
    def loss_weights(self) -> dict[str, float] | None:
        """The paper's alpha and beta."""
        return {"liver": self.joint_alpha, "tumor": self.joint_beta}

    def make_loss(
        self, network: str, weights: Any
    ) -> keras.losses.Loss | dict[str, keras.losses.Loss]:
        """Return the loss on logits of each of both networks, from class weights by network."""
        from training.losses import make_loss

        return {part: make_loss(self.loss, part, weights[part], self.settings()) for part in PAIR}

    def load_data(self, step: Step, begun: Mapping[str, Any]) -> NetworkData:
        """Return what the nested network learns from: X and w(X), A and B.

        In training the reference liver's median stands for that of the liver found, which changes
        with every step (assumed); where thresholds are chosen it is that of the mask M.
        """
        from data.batches import NestedBatches, make_loader
        from models.inference import BATCH_SIZE

        store, scaling = step.run.store, begun["scaling"]
        inputs = {**self.inputs_of("nested"), "tumor": self.second_input("scaled", scaling)}
        load = make_loader(store, "joint", inputs, reference_livers(store, scaling))
        seen = {**inputs, "tumor": self.second_input("masked", scaling)}
        return NetworkData(
            NestedBatches(
                store.slices("train"), load, self.batch_size, step.run.seed, self.augment
            ),
            NestedBatches(store.slices("validation"), load, BATCH_SIZE),
            {"inputs": seen, "unit": "slices"},
        )

    def validate(self, model: keras.Model, step: Step, data: NetworkData) -> Validation:
        """Return what both networks reach, the second on M of the first, and write these masks.

        The saved network gets the threshold s1 that it is used with.
        """
        from data.batches import make_loader
        from data.files import replace_file
        from data.masks import LiverMasks
        from models.cascade import build_cascade, split_cascade
        from training.validation import choose_thresholds, validate_slices

        store, inputs = step.run.store, data.record["inputs"]
        liver, tumor = split_cascade(model)
        load = make_loader(store, "liver", {"liver": inputs["liver"]})
        livers = validate_slices(liver, store, load, "liver")
        s1 = choose_thresholds(livers.everywhere["liver"])[self.mask_threshold_rule]
        write_liver_masks(step, liver, inputs["liver"], s1, store.cases_of("validation"))
        masks = LiverMasks(step.folder / "masks")
        load = make_loader(store, "tumor", {"tumor": inputs["tumor"]}, masks.find_liver)
        tumors = validate_slices(
            tumor, store, load, "tumor", lambda chosen: masks.mask(chosen[0])[chosen[1]]
        )
        with replace_file(step.folder / "best.keras") as temporary:
            build_cascade(liver, tumor, s1, self.joint_mask).save(temporary)
        inputs["tumor"]["mask_s1"] = s1
        return replace(
            livers,
            everywhere=livers.everywhere | tumors.everywhere,
            possible=livers.possible | tumors.possible,
            record={"mask_s1": s1},
        )


def reference_livers(store: Store, scaling: str) -> Any:
    """Return the function that gives the reference liver of a slice, with its volume's median.

    The medians are read only where the scaling "liver_median" asks for them.
    """
    from data.inputs import Liver

    medians = reference_medians(store) if scaling == "liver_median" else {}

    def find_liver(chosen: tuple[str, int]) -> Liver:
        case, row = chosen
        return Liver(np.asarray(store.label(case)[row]) >= 1, medians.get(case))

    return find_liver


def reference_medians(store: Store) -> dict[str, float | None]:
    """Return the median HU of the reference liver of each training and validation case."""
    from data.masks import find_median

    return {
        case: find_median(
            (np.asarray(hu), np.asarray(label) >= 1)
            for hu, label in zip(store.image(case), store.label(case), strict=True)
        )
        for case in store.cases_of("train") + store.cases_of("validation")
    }


def write_liver_masks(
    step: Step,
    network: keras.Model,
    options: Mapping[str, Any],
    s1: float,
    cases: Sequence[str],
) -> None:
    """Write the masks [L(X) > s1] of every slice of these cases into the phase's folder.

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


def chosen_scaling(path: Path) -> str | None:
    """Return the scaling that a trial of the second network chose, None without a trial."""
    return str(read_json(path, ("chosen",))["chosen"]) if path.is_file() else None
