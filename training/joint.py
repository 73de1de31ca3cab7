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
from pathlib import Path
from typing import Any

import numpy as np

from data.backend import keras
from data.batches import (
    NestedBatches,
    class_pixels,
    masked_slice_loader,
    nested_loader,
    whole_slice_loader,
)
from data.command import run_command
from data.files import replace_file
from data.masks import LiverMasks
from data.scaling import HuMedian
from data.store import Store
from evaluation.metrics.thresholds import choose_thresholds
from models.cascade import MASKS, build_cascade, split_cascade
from models.inference import BATCH_SIZE
from training.fit import fit_phase
from training.joint_start import (
    PAIR,
    Joint,
    begin,
    check_settings,
    own_start,
    pair_of,
    settings_of,
    weights_of,
)
from training.liver import find_livers
from training.run import PHASES, Run, open_run, stage_parser
from training.stages import (
    Histograms,
    build_network,
    class_weights,
    conclude,
    in_words,
    loss_of,
    recipe_of,
    start_anew,
    validation_histograms,
)


def main() -> None:
    """Train the phases that are not finished yet."""
    parser = stage_parser("joint", "Train both networks together with the joint loss (paper 2.1).")
    add = parser.add_argument
    add(
        "--init",
        type=Path,
        metavar="RUN",
        help="start from this run's sequential pair; default: fresh weights",
    )
    add("--alpha", type=float, help="weight of the liver's term; default the preset's, 1")
    add("--beta", type=float, help="weight of the tumor's term; default the preset's, 1")
    add(
        "--mask",
        choices=MASKS,
        help="what stands for the liver mask in training; default the preset's, probability",
    )
    add(
        "--balanced",
        dest="phase",
        action="store_const",
        const="balanced",
        help="the same as --phase balanced",
    )
    flags = parser.parse_args()
    phases = [flags.phase] if flags.phase else list(PHASES)
    given = {name: getattr(flags, name) for name in ("alpha", "beta", "mask")}

    def settings(run: Run) -> Joint:
        return settings_of(run, flags.init or own_start(run), **given)

    def check(run: Run) -> None:
        wanted = settings(run)
        check_settings(run, phases[0], wanted)
        if phases[0] == "balanced" and not run.is_done("joint", "balanced"):
            run.record("joint", "ce")
        if wanted.start is not None and phases[0] == "ce" and not run.is_done("joint", "ce"):
            pair_of(run, wanted.start)

    run = open_run(flags.run, flags.store, flags.preset, flags.seed, flags.set, "joint", check)
    train(run, phases, settings(run))


def train(run: Run, phases: Sequence[str], settings: Joint) -> None:
    """Train those of the phases that are not finished yet."""
    for phase in phases:
        train_joint(run, phase, settings)


def train_joint(
    run: Run, phase: str, settings: Joint, folder_name: str | None = None, epochs: int | None = None
) -> dict[str, Any]:
    """Train one phase of the nested network and write its record; a finished one is left as it is.

    The folder then also holds `masks/` of the validation cases, as `training.liver` writes them.

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
    if run.is_done("joint", name):
        check_settings(run, name, settings)
        print(f"joint {name}: already done")
        return run.record("joint", name)
    begun = begin(run, name, phase, settings)
    model = starting_model(run, phase, settings, begun)
    weights = _class_weights(run, phase)
    recipe = recipe_of(
        run,
        "joint",
        phase,
        {target: loss_of(found) for target, found in weights.items()},
        epochs,
        loss_weights={"liver": settings.alpha, "tumor": settings.beta},
    )
    start = "joint/ce" if phase == "balanced" else settings.start or "fresh weights"
    print(
        f"joint {name}: {recipe.epochs} epochs of {len(run.store.slices('train'))} slices, alpha {settings.alpha:g}, "
        f"beta {settings.beta:g}, from {start}, class weights "
        + "; ".join(f"{target} {in_words(found)}" for target, found in weights.items())
    )
    train_batches, validation_batches = batches(run, begun["scaling"])
    folder = run.folder("joint", name)
    fitted = fit_phase(model, train_batches, validation_batches, recipe, folder)
    extra: dict[str, Any] = {"class_weights": weights, **begun, "mask_s1": None}
    extra |= {
        "window_hu": list(run.preset.liver_window_hu),
        "tumor_window_hu": list(run.preset.tumor_window_hu),
    }
    found: tuple[Histograms, Histograms] = ({}, {})
    if fitted["best_epoch"] > 0:
        found, extra["mask_s1"] = _validate(run, model, folder, begun["scaling"])
        with replace_file(
            folder / "best.keras"
        ) as temporary:  # with the threshold that it is used with
            build_cascade(*split_cascade(model), extra["mask_s1"], settings.mask).save(temporary)
    return conclude(run, "joint", name, phase, found, fitted, extra)


def starting_model(run: Run, phase: str, settings: Joint, begun: dict[str, Any]) -> keras.Model:
    """Return the nested network with the weights that a phase starts from."""
    start_anew(run)
    liver, tumor = build_network(run, "liver"), build_network(run, "tumor")
    model = build_cascade(liver, tumor, begun["begun_s1"], settings.mask)
    if phase == "balanced":
        model.load_weights(run.folder("joint", "ce") / "best.keras")
    elif settings.start is not None:
        for stage, network in zip(PAIR, (liver, tumor), strict=True):
            network.load_weights(weights_of(settings.start, stage))
    return model


def batches(run: Run, scaling: str) -> tuple[NestedBatches, NestedBatches]:
    """Return the batches of the training and of the validation set."""
    preset, medians = run.preset, reference_medians(run.store) if scaling == "liver_median" else {}
    load = nested_loader(
        run.store, preset.liver_window_hu, scaling, preset.tumor_window_hu, medians
    )
    train_slices, validation_slices = run.store.slices("train"), run.store.slices("validation")
    return (
        NestedBatches(train_slices, load, preset.batch_size, seed=run.seed, augment=preset.augment),
        NestedBatches(validation_slices, load, BATCH_SIZE),
    )


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
        target: class_weights(run, target, phase, pixels, run.preset.balanced_ratio)
        for target in ("liver", "tumor")
    }


def _validate(
    run: Run, model: keras.Model, folder: Path, scaling: str
) -> tuple[tuple[Histograms, Histograms], float]:
    """Return what `validation_histograms` finds for both networks, and s1, at which the second one was given M."""
    liver, tumor = split_cascade(model)
    load = whole_slice_loader(run.store, "liver", run.preset.liver_window_hu)
    livers = validation_histograms(liver, run, load, None, "liver")
    s1 = choose_thresholds(livers[0]["liver"])[run.preset.mask_threshold_rule]
    find_livers(run, liver, folder / "masks", s1, run.store.cases_of("validation"))
    masks = LiverMasks(folder / "masks")
    load = masked_slice_loader(run.store, masks, scaling, run.preset.tumor_window_hu)
    tumors = validation_histograms(
        tumor, run, load, lambda chosen: masks.mask(chosen[0])[chosen[1]], "tumor"
    )
    return (livers[0] | tumors[0], livers[1] | tumors[1]), s1


if __name__ == "__main__":
    run_command(main, "training.joint")
