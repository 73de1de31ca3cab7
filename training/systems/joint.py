"""Both networks of the paper nested and trained with the joint loss (paper 2.1).

A phase's `settings.json` lies in its folder before its first epoch: an interrupted phase goes on
with what it was begun with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from data.command import InputError
from data.files import hash_file, read_json, write_json
from training.run import Run
from training.systems.base import NetworkData, Step, System, of_preset
from training.systems.gruber import (
    PAIR,
    GruberSystem,
    Pair,
    Sequential,
    read_scaling,
    write_liver_masks,
)

if TYPE_CHECKING:
    from data.backend import keras
    from data.batches import FindLiver
    from data.store import Store
    from training.validation import Validation

FILE = "settings.json"
FLAGS = ("alpha", "beta", "mask")


@dataclass(frozen=True)
class Joint(Pair):
    """Both networks trained together, and afterwards used as a sequential pair.

    The loss is alpha * loss(A, L(X)) + beta * loss(B, T(M * w(X))) over the nested network
    (`models.cascade`), from fresh weights or from a sequential pair.

    Attributes:
        pair_path: run directory of the pair to start from; None: fresh weights.
    """

    TITLE: ClassVar[str] = "joint"
    EPOCHS: ClassVar[str] = "joint"
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
        """Return joint training as the preset starts it: from the run's pair, or none."""
        return replace(self, pair_path=run.path if self.joint_start == "pair" else None)

    def settings(self) -> dict[str, Any]:
        """Return every field with its value, but not the pair's path on a machine."""
        return {key: value for key, value in super().settings().items() if key != "pair_path"}

    def describe_inputs(self, network: str, begun: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return X, and w(X) everywhere: the nested network masks by itself."""
        first = super().describe_inputs("liver", begun)
        return {**first, "tumor": self.describe_second_input("scaled", begun)}

    def begin(self, step: Step) -> dict[str, Any]:
        """Return a phase's settings from `settings.json`, or write that file.

        Returns:
            {"alpha", "beta", "mask", "start", "pair" (what tells it from others; None from fresh
            weights), "scaling" (of the second input), "begun_s1" (of the mask while training)}.

        Raises:
            InputError: the phase was begun with other settings; the pair, or `ce` before
                `balanced`, is missing or unfit.
        """
        run, path, start = step.run, step.folder / FILE, self.pair_path
        if path.is_file():
            self.check_done(step)
            begun: dict[str, Any] = read_json(path)
            if start is not None and step.phase == "ce" and identify_pair(start) != begun["pair"]:
                raise InputError(
                    f"{path.parent}: begun from another pair than {start}; take another --run"
                )
        else:
            begun = {**list_settings(self), "pair": None}
            if step.phase == "balanced":
                self.check_done(step._replace(name="ce"))
                run.check_weights(step.label, step.network, "ce")
                ce = run.read_record(step.label, step.network, "ce")
                begun |= {"pair": ce["pair"], "scaling": ce["scaling"], "begun_s1": ce["mask_s1"]}
            elif start is None:
                begun |= {"scaling": find_scaling(run, self), "begun_s1": 0.5}
            else:
                tumor = check_pair(run, start)["inputs"]["tumor"]
                begun |= {"scaling": tumor["scaling"], "begun_s1": tumor["mask_s1"]}
                begun |= {"pair": identify_pair(start)}
            write_json(path, begun)
        origin = "joint/nested/ce" if step.phase == "balanced" else start or "fresh weights"
        print(f"{step.title}: alpha {begun['alpha']:g}, beta {begun['beta']:g}, from {origin}")
        return {**begun, "mask_s1": None}  # chosen when it is trained, if it does not diverge

    def check_done(self, step: Step) -> None:
        """Raise an InputError where a phase was begun with other settings."""
        if not (step.folder / FILE).is_file():
            return
        settings = list_settings(self)
        begun = read_json(step.folder / FILE, settings)
        for key, value in settings.items():
            if begun[key] != value:
                flag = "--init with the pair" if key == "start" else f"--{key} {begun[key]}"
                how = "give no --init" if (key, value) == ("start", "pair") else f"repeat {flag}"
                raise InputError(
                    f"{step.folder}: begun with {key} {begun[key]}, not {value}; {how}, "
                    "or take another --run"
                )

    def build(self, network: str, size: int, begun: Mapping[str, Any]) -> keras.Model:
        """Build the nested network, both of its networks drawn from Keras's seed.

        Args:
            network, size, begun: as of `System.build`.
        """
        from models.cascade import build_cascade

        liver, tumor = (GruberSystem.build(self, part, size, begun) for part in PAIR)
        return build_cascade(liver, tumor, begun.get("begun_s1", 0.5), self.joint_mask)

    def load_start(self, model: keras.Model, step: Step) -> None:
        """Load the weights that a phase starts from: of `ce`, of the pair, or none."""
        from models.cascade import split_cascade

        super().load_start(model, step)
        if step.phase == "ce" and self.pair_path is not None:
            for part, network in zip(PAIR, split_cascade(model), strict=True):
                network.load_weights(find_weights(self.pair_path, part))

    def find_livers(self, step: Step, begun: Mapping[str, Any]) -> FindLiver:
        """Return the function that gives the reference liver of a slice, with its median.

        In training it stands for the median of the liver found, which changes with every step
        (assumed); where thresholds are chosen it is that of the mask M.
        """
        from data.inputs import Liver

        store, medians = step.run.store, {}
        if begun["scaling"] == "liver_median":
            medians = find_reference_medians(store)

        def find_liver(chosen: tuple[str, int]) -> Liver:
            case, row = chosen
            return Liver(np.asarray(store.label(case)[row]) >= 1, medians.get(case))

        return find_liver

    def validate(self, model: keras.Model, step: Step, data: NetworkData) -> Validation:
        """Return what both networks reach, the second on M of the first; write M.

        The saved network gets the threshold s1 that it is used with, and the record the input that
        its second network is given at prediction.

        Args:
            model, step, data: as of `System.validate`.
        """
        from data.batches import make_loader
        from data.files import replace_file
        from data.masks import LiverMasks
        from evaluation.metrics.thresholds import choose_thresholds
        from models.cascade import build_cascade, split_cascade
        from training.validation import validate_slices

        store, inputs = step.run.store, data.record["inputs"]
        liver, tumor = split_cascade(model)
        load = make_loader(store, "liver", {"liver": inputs["liver"]})
        livers = validate_slices(liver, store, load, "liver")
        # The mask of the first network needs its threshold before the second is judged.
        s1 = choose_thresholds(livers.everywhere["liver"])[self.mask_threshold_rule]
        write_liver_masks(step, liver, inputs["liver"], s1, store.cases_of("validation"))

        masks = LiverMasks(step.folder / "masks")
        inputs = {**inputs, "tumor": {**inputs["tumor"], "name": "masked", "mask_s1": s1}}
        load = make_loader(store, "tumor", {"tumor": inputs["tumor"]}, masks.find_liver)
        tumors = validate_slices(tumor, store, load, "tumor", masks.find_liver)
        # The saved network masks with the threshold that was just chosen.
        with replace_file(step.folder / "best.keras") as temporary:
            build_cascade(liver, tumor, s1, self.joint_mask).save(temporary)
        everywhere = livers.everywhere | tumors.everywhere
        possible = livers.possible | tumors.possible
        return replace(
            livers,
            everywhere=everywhere,
            possible=possible,
            record={"mask_s1": s1, "inputs": inputs},
        )


def list_settings(system: Joint) -> dict[str, Any]:
    """Return the settings of joint training as its files hold them."""
    start = "scratch" if system.pair_path is None else "pair"
    return {**{key: getattr(system, f"joint_{key}") for key in FLAGS}, "start": start}


def find_reference_medians(store: Store) -> dict[str, float | None]:
    """Return the reference liver's median HU of training and validation cases."""
    from data.masks import find_median

    return {
        case: find_median(
            (np.asarray(hu), np.asarray(label) >= 1)
            for hu, label in zip(store.image(case), store.label(case), strict=True)
        )
        for case in store.cases_of("train") + store.cases_of("validation")
    }


def find_own_start(run: Run) -> Path | None:
    """Return the run itself where its joint training was begun from its own pair."""
    path = run.find_folder("joint", "nested", "ce") / FILE
    if path.is_file() and all(run.is_done("sequential", part, "ce") for part in PAIR):
        begun = read_json(path, ("start", "pair"))
        if begun["start"] == "pair" and begun["pair"] == identify_pair(run.path):
            return run.path
    return None


def find_scaling(run: Run, system: Joint) -> str:
    """Return the scaling of the second input where no pair says it.

    It is the preset's, or what its trial chose; without a trial in the run it is "window", as the
    paper writes.
    """
    if system.tumor_scaling != "choose":
        return system.tumor_scaling
    return read_scaling(run.path) or "window"


def check_pair(run: Run, start: Path) -> dict[str, Any]:
    """Return the record of a pair's second network after cross-entropy.

    Raises:
        InputError: `start` holds no finished pair, or one of another split, size, window or
            architecture than the run.
    """
    if not (start / "run.json").is_file():
        raise InputError(f"{start}: not a run directory (no run.json in it)")

    # The pair's networks must fit these slices and these networks.
    content = read_json(start / "run.json", ("size", "split_sha256", "store_sha256", "settings"))
    store, system = run.store, Sequential().under(run.preset)
    needed = {
        "size": store.size,
        "split_sha256": store.split["sha256"],
        "store_sha256": store.sha256,
    }
    for key, value in needed.items():
        if content[key] != value:
            raise InputError(f"{start}: a pair of another {key}: {content[key]}, not {value}")
    for key in ("filters", "poolings", "batch_normalization"):
        if content["settings"].get(key) != getattr(system, key):
            raise InputError(
                f"{start}: a pair of other {key}: "
                f"{content['settings'].get(key)}, not {getattr(system, key)}"
            )

    # Both must be finished, with weights, on inputs made in these windows.
    pair = Run(start, store, run.preset, run.seed)
    for part in PAIR:
        record = pair.read_record("sequential", part, "ce")
        window_hu = record["inputs"][part]["window_hu"]
        needed_hu = system.describe_inputs(part, {})[part]["window_hu"]
        if window_hu != needed_hu:
            raise InputError(
                f"{start}: a pair of another window: {part} {window_hu} HU, not {needed_hu} HU"
            )
        pair.check_weights("sequential", part, "ce")
        if not find_weights(start, part).is_file():
            raise InputError(
                f"{find_weights(start, part)}: no such file; train the {part} network again"
            )
        if record["status"] != "ok":
            print(
                f"joint: starts from a pair whose {part} network is {record['status']}: "
                f"{record['why']}"
            )
    return pair.read_record("sequential", "tumor", "ce")


def find_weights(start: Path, part: str) -> Path:
    """Return the file of a network of a pair after cross-entropy."""
    return start / "sequential" / part / "ce" / "best.keras"


def identify_pair(start: Path) -> dict[str, Any]:
    """Return a pair's identity: preset and seed of its run, hashes of its networks."""
    content = read_json(start / "run.json", ("preset", "seed"))
    hashes = {f"{part}_sha256": hash_file(find_weights(start, part)) for part in PAIR}
    return {"preset": content["preset"], "seed": content["seed"], **hashes}
