"""Define a system: networks, inputs, losses, phases and how it decides.

A system of a document is a frozen dataclass of its values, each with its source, registered in
`training.systems`. `System.under` gives it as it is trained under a preset; what is trained reads
the preset no more. TensorFlow is imported inside the methods that need it, so that listing systems
does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from data.command import InputError
from training.presets import PRECISIONS, PRESETS, Demo, Preset, Smoke, assumed

if TYPE_CHECKING:
    from pathlib import Path

    from data.backend import keras
    from data.batches import FindLiver, SliceBatches
    from data.store import Store
    from training.run import Run
    from training.validation import Validation

TARGETS = {"classes": "classes", "liver": "liver", "tumor": "tumor", "nested": "joint"}
"""What a network learns, by its name."""
SMOKE: Mapping[str, Any] = {
    "filters": 8,
    "epochs": 1,
    "tumor_epochs": 1,
    "latent": 16,
    "crops_per_case": 1,
}
"""What `smoke` takes on top of a system's own `SMALL`, where the system has the field."""


def stated(value: Any, where: str) -> Any:
    """Make a field of a value that a document states, with the place."""
    return field(default=value, metadata={"source": where})


def reported(value: Any, what: str) -> Any:
    """Make a field of a value that the pipeline's figures and code report.

    Its text lacks the value.
    """
    source = f"reported of its figures and code, not in its text: {what}"
    return field(default=value, metadata={"source": source})


def of_preset(name: str) -> Any:
    """Make a field whose value, and its source, are those of a field of the preset."""
    paper = PRESETS["paper"]
    source = next(entry for entry in fields(paper) if entry.name == name).metadata["source"]
    return field(default=getattr(paper, name), metadata={"source": source, "preset": name})


class NetworkData(NamedTuple):
    """What a network learns from.

    Attributes:
        train, validation: batches of the two sets.
        record: what the record says of them: "inputs", "unit", ...
        find_liver: the liver of a slice (case, row), for the inputs that need one.
    """

    train: SliceBatches
    validation: SliceBatches
    record: dict[str, Any]
    find_liver: FindLiver | None = None


class Step(NamedTuple):
    """A network of a system in a phase, and where in a run it lies.

    Attributes:
        run: the run.
        label: name of the system's folder.
        network: one of the system's networks.
        phase: one of its phases.
        name: name of the phase's folder; another than `phase` for trials and sweeps.
    """

    run: Run
    label: str
    network: str
    phase: str
    name: str

    @property
    def folder(self) -> Path:
        """The folder that training writes into."""
        return self.run.find_folder(self.label, self.network, self.name)

    @property
    def title(self) -> str:
        """What a line of the log calls it, as "sequential liver ce"."""
        network = self.network if self.network in ("liver", "tumor") else ""
        name = "" if self.name == "train" else self.name
        return " ".join(filter(None, (self.label, network, name)))


@dataclass(frozen=True)
class System:
    """A trained method of a document; every value names its source.

    Attributes:
        name: its key in `training.systems.SYSTEMS`, the "kind" of `system.json`.
        document: where it is described.
        architecture: of its networks, a key of `models.ARCHITECTURES`.
        networks: "classes" (three classes in one), "liver" and "tumor", or "nested".
    """

    PHASES: ClassVar[tuple[str, ...]] = ("train",)
    DECISION: ClassVar[str] = "half"
    """How probabilities become labels: "thresholds" chosen on validation data, "argmax" (the most
    probable class), or "half" (above 0.5)."""
    TABLE1: ClassVar[bool] = False
    """Whether it stands in Table 1."""
    TITLE: ClassVar[str] = ""
    """How tables call it; its label where it is empty."""
    PRETRAINED: ClassVar[bool] = False
    """Whether its encoder can begin with published weights (`training.pretrained`)."""
    SMALL: ClassVar[Mapping[str, Any]] = {}
    """What `demo` and the presets on real slices at 128 px take instead: 2 CPU cores, few steps."""
    UNREAD: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """By network, the fields that it is trained without: systems that differ in them alone share
    the network."""
    FIXED: ClassVar[tuple[str, ...]] = ("name", "document", "architecture", "networks")
    """Fields that make the system what it is; the command line changes all others."""

    name: str = ""
    document: str = ""
    architecture: str = ""
    networks: tuple[str, ...] = ("classes",)
    loss: str = assumed("cross_entropy", "not named")
    optimizer: str = assumed("sgd", "not named; or adam")
    momentum: float = assumed(0.9, "not given; adam takes none")
    batch_size: int = assumed(8, "not given")
    precision: str = of_preset("precision")
    filters: int = assumed(
        64, "the architecture's own widths, of which 64 is the first or, of AlexNet, stands for all"
    )

    def __post_init__(self) -> None:
        """Raise a ValueError for a value that no training can use, with its field."""
        for name, holds in self.list_rules().items():
            if not holds:
                raise ValueError(f"{name} is out of its range: {getattr(self, name)!r}")

    def list_rules(self) -> dict[str, bool]:
        """Return by field whether its value is one that training can use."""
        return {
            "optimizer": self.optimizer in ("sgd", "adam"),
            "momentum": 0 <= self.momentum < 1,
            "batch_size": self.batch_size > 0,
            "filters": self.filters > 0,
            "precision": self.precision in PRECISIONS,
        }

    def under(self, preset: Preset) -> Self:
        """Return the system as it is trained under a preset.

        The preset gives the fields of `of_preset`; one for small machines replaces what no small
        machine can do (`SMALL`, `SMOKE`).
        """
        small = {**self.SMALL, **(SMOKE if isinstance(preset, Smoke) and self.SMALL else {})}
        changes = {} if not isinstance(preset, Demo) else small
        for entry in fields(self):
            if "preset" in entry.metadata:
                changes[entry.name] = getattr(preset, entry.metadata["preset"])
        known = {entry.name for entry in fields(self)}
        return replace(self, **{key: value for key, value in changes.items() if key in known})

    def inside(self, run: Run) -> Self:
        """Return the system as it is trained in a run, with what the run holds already."""
        return self

    def settings(self) -> dict[str, Any]:
        """Return every field with its value, ready for JSON."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    def describe(self, preset: Preset) -> str:
        """Return the system as text: a line a field, with value and source."""
        trained = self.under(preset)
        sources = {entry.name: entry.metadata["source"] for entry in fields(preset)[1:]}
        lines = [f"{self.name}: {' '.join((type(self).__doc__ or '').split())} ({self.document})"]
        for entry in fields(self):
            if "source" not in entry.metadata:
                continue
            value, documented = getattr(trained, entry.name), getattr(self, entry.name)
            source = sources.get(entry.metadata.get("preset", ""), entry.metadata["source"])
            if value != documented and "preset" not in entry.metadata:
                source = (
                    f"under {preset.name}, where steps are few and cores two; "
                    f"documented {documented}: {source}"
                )
            lines.append(f"  {entry.name} = {value}    [{source}]")
        return "\n".join(lines)

    def find_epochs(self, network: str, phase: str) -> int:
        """Return for how many epochs a network trains in a phase."""
        raise NotImplementedError

    def find_learning_rate(self, phase: str) -> float:
        """Return the learning rate of a phase."""
        raise NotImplementedError

    def describe_inputs(self, network: str, begun: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return how each network's input is made, as `record.json` holds it.

        Args:
            network: one of the system's; the nested one has the inputs of both of its parts.
            begun: what `begin` returned; {} gives what the settings alone say.
        """
        raise NotImplementedError

    def find_shape(self, network: str, size: int) -> int | tuple[int, ...]:
        """Return what a network takes of slices of a size: (rows, columns), or a crop."""
        return size

    def list_options(self, network: str) -> dict[str, Any]:
        """Return what the builder of the architecture is given besides shape and classes."""
        return {"filters": self.filters}

    def check_store(self, store: Store) -> None:
        """Raise an InputError where the cases do not allow the system."""

    def build(self, network: str, size: int, begun: Mapping[str, Any]) -> keras.Model:
        """Build a network, with weights drawn from Keras's seed.

        Args:
            network: one of the system's.
            size: rows and columns of the slices.
            begun: what `begin` returned.
        """
        from data.inputs import INPUTS
        from models import build

        options = next(iter(self.describe_inputs(network, begun).values()))
        return build(
            self.architecture,
            self.find_shape(network, size),
            classes=3 if TARGETS[network] == "classes" else 1,
            channels=INPUTS[options["name"]].channels,
            name=self.name if network == "classes" else network,
            **self.list_options(network),
        )

    def begin(self, step: Step) -> dict[str, Any]:
        """Settle what a phase begins with, which the record takes over.

        Raises:
            InputError: what it needs is missing, or it was begun otherwise.
        """
        return {}

    def check_done(self, step: Step) -> None:
        """Raise an InputError where a finished phase was trained with other settings."""

    def load_start(self, model: keras.Model, step: Step) -> None:
        """Load the weights a phase starts from: for "balanced" the best of "ce"."""
        if step.phase == "balanced":
            step.run.check_weights(step.label, step.network, "ce")
            model.load_weights(step.run.find_folder(step.label, step.network, "ce") / "best.keras")

    def find_livers(self, step: Step, begun: Mapping[str, Any]) -> FindLiver | None:
        """Return the function that gives the liver of a slice, where the input needs one."""
        return None

    def load_data(self, step: Step, begun: Mapping[str, Any]) -> NetworkData:
        """Return what a network trains and validates on: the slices of the split."""
        from data.batches import NestedBatches, SliceBatches, make_loader
        from models.inference import BATCH_SIZE

        store, target = step.run.store, TARGETS[step.network]
        inputs, find_liver = (
            self.describe_inputs(step.network, begun),
            self.find_livers(step, begun),
        )
        load = make_loader(store, target, inputs, find_liver)
        batches = NestedBatches if target == "joint" else SliceBatches
        augment = getattr(self, "augment", False)
        train, validation = store.slices("train"), store.slices("validation")
        return NetworkData(
            batches(train, load, self.batch_size, step.run.seed, augment),
            batches(validation, load, BATCH_SIZE),
            {"inputs": inputs, "unit": "slices"},
            find_liver,
        )

    def make_loss(
        self, network: str, weights: Any
    ) -> keras.losses.Loss | dict[str, keras.losses.Loss]:
        """Return the loss on logits of a network; of the nested one by its parts.

        Raises:
            ValueError: the loss is unknown, or not for such a network.
        """
        from training.losses import make_loss

        settings = self.list_loss_settings(network)
        if isinstance(weights, dict):
            return {k: make_loss(self.loss, k, part, settings) for k, part in weights.items()}
        return make_loss(self.loss, TARGETS[network], weights, settings)

    def list_loss_settings(self, network: str) -> dict[str, Any]:
        """Return what the maker of the loss is given: every setting."""
        return self.settings()

    def validate(self, model: keras.Model, step: Step, data: NetworkData) -> Validation:
        """Return what the best weights reach on the validation set.

        Args:
            model: with these weights.
            step, data: the network in its phase, and what it was trained on.
        """
        from training.validation import validate_slices

        load, target = data.validation.load, TARGETS[step.network]
        return validate_slices(model, step.run.store, load, target, data.find_liver)

    def finish(self, step: Step, record: Mapping[str, Any]) -> None:
        """Do what follows a finished phase; does nothing where it is done.

        Raises:
            InputError: the phase is of no use to the next network.
        """


@dataclass(frozen=True)
class OnePhaseSystem(System):
    """A system that trains each network once, on single slices."""

    input: str = assumed("windowed", "a name of data.inputs.INPUTS")
    window_hu: tuple[float, float] = of_preset("liver_window_hu")
    learning_rate: float = assumed(1e-4, "not given")
    epochs: int = assumed(40, "not given")

    def list_rules(self) -> dict[str, bool]:
        """Return by field whether its value is one that training can use."""
        from data.inputs import INPUTS

        kind = INPUTS.get(self.input)
        return {
            **super().list_rules(),
            "input": kind is not None and not kind.needs_liver and not kind.volume,
            "window_hu": is_window(self.window_hu),
            "learning_rate": self.learning_rate > 0 and math.isfinite(self.learning_rate),
            "epochs": self.epochs > 0,
        }

    def find_epochs(self, network: str, phase: str) -> int:
        """Return for how many epochs a network trains."""
        return self.epochs

    def find_learning_rate(self, phase: str) -> float:
        """Return the learning rate."""
        return self.learning_rate

    def describe_inputs(self, network: str, begun: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the input of a network: whole slices."""
        return {network: {"name": self.input, "window_hu": list(self.window_hu)}}


def is_window(value: Any) -> bool:
    """Return whether a value is (low, high) in HU."""
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(bound, int | float) and math.isfinite(bound) for bound in value)
        and value[0] < value[1]
    )


def check_by_patient(store: Store) -> None:
    """Raise an InputError unless the split is by patient.

    Scores on whole cases need it.
    """
    if store.split.get("by") == "slice":
        raise InputError(
            f"{store.path}: split by slice; the other systems are scored on whole cases, by patient"
        )
