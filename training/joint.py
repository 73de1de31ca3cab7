"""Train both networks of the sequential model together with the joint loss (paper 2.1, left there as future work).

    python -m training.joint --store DIR --run DIR [--init RUN] [--alpha A] [--beta B] [--mask NAME] [--balanced]
                             [--preset NAME] [--phase ce|balanced] [--seed N]

The loss is alpha * loss(A, L(X)) + beta * loss(B, T(M * w(X))) over the nested network (`models.cascade`). It starts
from fresh weights, or with `--init RUN` from the sequential pair of a finished run; the balanced phase follows, with
class weights and learning rate as for the pair (paper 2.4). Then thresholds are chosen on validation data as in the
sequential model, and the networks are used like its pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.backend import keras
from data.batches import NestedBatches, class_pixels, masked_slice_loader, nested_loader, whole_slice_loader
from data.command import InputError, run_command
from data.files import read_json, write_json
from data.masks import LiverMasks
from data.scaling import HuMedian
from data.store import Store
from evaluation.roc import choose_thresholds
from models.cascade import MASKS, cascade, split_cascade
from models.inference import BATCH_SIZE
from training.fit import fit_phase
from training.liver import find_livers
from training.run import PHASES, Run, open_run, stage_parser
from training.stages import (
    Histograms,
    build_network,
    check_starts,
    class_weights,
    conclude,
    in_words,
    loss_of,
    recipe_of,
    start_anew,
    validation_histograms,
)


@dataclass(frozen=True)
class Joint:
    """How the nested network is trained.

    Attributes:
        alpha, beta: weights of the liver's and the tumor's term; not negative, not both zero.
        mask: what stands for M in training, one of `models.cascade.MASKS`.
        start: run directory of the sequential pair to start from; None: fresh weights.

    Raises:
        ValueError: weights or mask of another kind.
    """

    alpha: float
    beta: float
    mask: str
    start: Path | None = None

    def __post_init__(self) -> None:
        for name, weight in (("alpha", self.alpha), ("beta", self.beta)):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"--{name} {weight}: must be a number from 0 up")
        if not self.alpha + self.beta:
            raise ValueError("--alpha 0 --beta 0: one of them must be above 0")
        if self.mask not in MASKS:
            raise ValueError(f"--mask {self.mask}: must be one of {', '.join(MASKS)}")

    def as_record(self) -> dict[str, Any]:
        """Return the settings as `record.json` holds them."""
        start = "scratch" if self.start is None else "pair"
        return {"alpha": self.alpha, "beta": self.beta, "mask": self.mask, "start": start}


def main() -> None:
    """Train the phases that are not finished yet."""
    parser = stage_parser("joint", "Train both networks together with the joint loss (paper 2.1).")
    add = parser.add_argument
    add("--init", type=Path, metavar="RUN", help="start from this run's sequential pair; default: fresh weights")
    add("--alpha", type=float, help="weight of the liver's term; default the preset's, 1")
    add("--beta", type=float, help="weight of the tumor's term; default the preset's, 1")
    add("--mask", choices=MASKS, help="what stands for the liver mask in training; default the preset's, probability")
    add("--balanced", dest="phase", action="store_const", const="balanced", help="the same as --phase balanced")
    flags = parser.parse_args()
    run = open_run(flags.run, flags.store, flags.preset, flags.seed, flags.set, "joint")
    given = {name: getattr(flags, name) for name in ("alpha", "beta", "mask")}
    settings = settings_of(run, flags.init, **given)
    train(run, [flags.phase] if flags.phase else PHASES, settings)


def settings_of(run: Run, start: Path | None, **given: Any) -> Joint:
    """Return the preset's settings with those that are `given` (not None) in their place.

    Raises:
        InputError: they cannot be used.
    """
    preset = {name: getattr(run.preset, f"joint_{name}") for name in ("alpha", "beta", "mask")}
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return Joint(**{**preset, **chosen}, start=start)
    except ValueError as error:
        raise InputError(str(error)) from None


def of_preset(run: Run) -> Joint:
    """Return the settings that `training.all_stages` trains with: the preset's."""
    return settings_of(run, run.path if run.preset.joint_start == "pair" else None)


def train(run: Run, phases: Sequence[str], settings: Joint) -> None:
    """Train those of the phases that are not finished yet."""
    for phase in phases:
        train_joint(run, phase, settings)


def train_joint(
    run: Run, phase: str, settings: Joint, folder_name: str | None = None, epochs: int | None = None
) -> dict[str, Any]:
    """Train one phase of the nested network and write its record; a finished one is left as it is.

    The folder then also holds `masks/`, as `training.liver` writes it.

    Args:
        run: the run.
        phase: "ce", or "balanced" from the best weights of "ce".
        settings: weights of the two terms, mask, start.
        folder_name: where in RUN/joint; default the phase.
        epochs: default the preset's.

    Raises:
        InputError: the phase, or `ce` before it, was trained with other settings; the pair does not fit this run.
    """
    name = folder_name or phase
    pair = None if settings.start is None else pair_of(run, settings.start)
    content = settings.as_record() | {"pair": None if settings.start is None else identity_of(settings.start)}
    for earlier in ("ce", name) if phase == "balanced" else (name,):
        check_settings(run.folder("joint", earlier), content)
    if run.is_done("joint", name):
        print(f"joint {name}: already done")
        return run.record("joint", name)
    start_anew(run)
    liver, tumor = build_network(run, "liver"), build_network(run, "tumor")
    s1, scaling = (0.5, scaling_of(run)) if pair is None else (pair["mask_s1"], pair["scaling"])
    if phase == "balanced":
        check_starts(run, "joint")
        s1, scaling = (run.record("joint", "ce")[key] for key in ("mask_s1", "scaling"))
    model = cascade(liver, tumor, s1, settings.mask)
    if phase == "balanced":
        model.load_weights(run.folder("joint", "ce") / "best.keras")
    elif settings.start is not None:
        for stage, network in (("liver", liver), ("tumor", tumor)):
            network.load_weights(settings.start / stage / "ce" / "best.keras")
    folder = run.folder("joint", name)
    write_json(folder / "settings.json", content)
    windows = {"window_hu": list(run.preset.liver_window_hu), "tumor_window_hu": list(run.preset.tumor_window_hu)}
    weights = _class_weights(run, phase)
    recipe = recipe_of(
        run,
        "joint",
        phase,
        {target: loss_of(found) for target, found in weights.items()},
        epochs,
        loss_weights={"liver": settings.alpha, "tumor": settings.beta},
    )
    print(
        f"joint {name}: {recipe.epochs} epochs of {len(run.store.slices('train'))} slices, alpha {settings.alpha:g}, "
        f"beta {settings.beta:g}, from {settings.start or 'fresh weights'}, class weights "
        + "; ".join(f"{target} {in_words(found)}" for target, found in weights.items())
    )
    load = nested_loader(
        run.store, run.preset.liver_window_hu, scaling, run.preset.tumor_window_hu, reference_medians(run.store)
    )
    fitted = fit_phase(
        model,
        NestedBatches(
            run.store.slices("train"), load, run.preset.batch_size, seed=run.seed, augment=run.preset.augment
        ),
        NestedBatches(run.store.slices("validation"), load, BATCH_SIZE),
        recipe,
        folder,
    )
    found, s1 = _validate(run, model, folder, scaling) if fitted["best_epoch"] > 0 else (({}, {}), None)
    extra = {"class_weights": weights, **content, **windows, "scaling": scaling, "mask_s1": s1}
    return conclude(run, "joint", name, phase, found, fitted, extra)


def scaling_of(run: Run) -> str:
    """Return the scaling of the second input where no pair says it: the preset's, or what its trial chose.

    Without a trial in the run it is "window", as the paper writes.
    """
    if run.preset.tumor_scaling != "choose":
        return run.preset.tumor_scaling
    path = run.path / "tumor" / "scaling.json"
    return str(read_json(path, ("chosen",))["chosen"]) if path.is_file() else "window"


def pair_of(run: Run, start: Path) -> dict[str, Any]:
    """Return the record of the pair's second network after cross-entropy.

    Raises:
        InputError: `start` holds no finished pair, or one of another split, size, window or architecture.
    """
    content = read_json(start / "run.json", ("size", "split_sha256", "settings"))
    preset = run.preset
    wanted = {"size": run.store.size, "split_sha256": run.store.split["sha256"]}
    for key, value in wanted.items():
        if content[key] != value:
            raise InputError(f"{start}: a pair of another {key}: {content[key]}, not {value}")
    for key in ("filters", "poolings"):
        if content["settings"][key] != getattr(preset, key):
            raise InputError(f"{start}: a pair of other {key}: {content['settings'][key]}, not {getattr(preset, key)}")
    pair = Run(start, run.store, preset, run.seed)
    for stage, window_hu in (("liver", preset.liver_window_hu), ("tumor", preset.tumor_window_hu)):
        record = pair.record(stage, "ce")
        if record["window_hu"] != list(window_hu):
            raise InputError(
                f"{start}: a pair of another window: {stage} {record['window_hu']} HU, not {list(window_hu)} HU"
            )
        check_starts(pair, stage)
    return pair.record("tumor", "ce")


def reference_medians(store: Store) -> dict[str, float | None]:
    """Return the median HU of the reference liver of each case of the training and validation sets.

    In joint training it stands for the median of the liver found, which changes with every step (assumed); at
    prediction, and where thresholds are chosen, it is that of the mask M, as in the sequential model.
    """
    medians = {}
    for case in store.cases_of("train") + store.cases_of("validation"):
        median = HuMedian()
        for hu, label in zip(store.image(case), store.label(case), strict=True):
            median.add(np.asarray(hu), np.asarray(label) >= 1)
        medians[case] = median.value()
    return medians


def _class_weights(run: Run, phase: str) -> dict[str, list[float]]:
    pixels = class_pixels(run.store, run.store.slices("train"))
    return {
        target: class_weights(run, target, phase, pixels, run.preset.balanced_ratio) for target in ("liver", "tumor")
    }


def _validate(run: Run, model: keras.Model, folder: Path, scaling: str) -> tuple[tuple[Histograms, Histograms], float]:
    """Return what `validation_histograms` finds for both networks, and s1, at which the second one was given M."""
    liver, tumor = split_cascade(model)
    load = whole_slice_loader(run.store, "liver", run.preset.liver_window_hu)
    livers = validation_histograms(liver, run, load, None, "liver")
    s1 = choose_thresholds(livers[0]["liver"])[run.preset.mask_threshold_rule]
    find_livers(run, liver, folder / "masks", s1)
    masks = LiverMasks(folder / "masks")
    load = masked_slice_loader(run.store, masks, scaling, run.preset.tumor_window_hu)
    tumors = validation_histograms(tumor, run, load, lambda chosen: masks.mask(chosen[0])[chosen[1]], "tumor")
    return (livers[0] | tumors[0], livers[1] | tumors[1]), s1


def identity_of(start: Path) -> dict[str, Any]:
    """Return what tells one pair's run from another: its preset, seed and settings."""
    content = read_json(start / "run.json", ("preset", "seed", "settings_sha256"))
    return {key: content[key] for key in ("preset", "seed", "settings_sha256")}


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Check that a phase that was begun has these settings (`settings.json`, written before its first epoch).

    Raises:
        InputError: it has others.
    """
    path = folder / "settings.json"
    begun = read_json(path, settings) if path.is_file() else settings
    for key, value in settings.items():
        if begun[key] != value:
            raise InputError(f"{folder}: trained with {key} {begun[key]}, not {value}; take another --run")


if __name__ == "__main__":
    run_command(main, "training.joint")
