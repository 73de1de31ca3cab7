"""What the stage scripts share: a phase of a stage, from its starting weights to its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.backend import keras, usable_precision
from data.batches import Load, Slice, SliceBatches, class_pixels, target_of
from data.command import InputError
from data.files import write_json
from evaluation.metrics.counts import iou
from evaluation.metrics.roc import BIN_WIDTH, ProbabilityHistogram
from evaluation.metrics.thresholds import choose_thresholds, find_best_iou
from models.inference import BATCH_SIZE, predict_slices
from models.sequential import split_classes
from models.unet import build_unet
from training.callbacks import discard_resume_files
from training.fit import Recipe, fit_phase
from training.losses import (
    BalancedBinaryCrossentropy,
    BalancedCategoricalCrossentropy,
    inverse_frequency_weights,
    weights_of_ratio,
)
from training.run import Run

STAGE_TARGET = {"one_step": "classes", "liver": "liver", "tumor": "tumor", "joint": "joint"}
BOTH = ("classes", "joint")
"""Targets of the stages that learn liver and tumor at once."""
Histograms = dict[str, ProbabilityHistogram]
Mask = Callable[[Slice], np.ndarray]

CHANCE_AUC = 0.55  # assumed: chance is 0.5, and a validation set of few patients is uneven
SAME_LOGIT = 0.05  # assumed: probabilities that differ by about a hundredth of p (1 - p) at most


def start_anew(run: Run, precision: str | None = None) -> None:
    """Forget the phase before; set the run's seed, and a precision (None: the preset's) where the machine has it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(run.seed)
    keras.config.set_dtype_policy(usable_precision(precision or run.preset.precision))


def build_network(run: Run, stage: str) -> keras.Model:
    """Build the stage's U-Net, with weights drawn from the seed (`start_anew` first)."""
    classes = 3 if STAGE_TARGET[stage] == "classes" else 1
    return build_unet(run.store.size, 1, classes, run.preset.widths, run.preset.dropout, name=stage)


def foreground_pixels(pixels: Sequence[int], target: str) -> dict[str, int]:
    """Return the number of foreground pixels by target, from the pixels of (other, liver, tumor)."""
    counts = {"liver": pixels[1] + pixels[2], "tumor": pixels[2]}
    return counts if target in BOTH else {target: counts[target]}


def class_weights(
    run: Run, target: str, phase: str, pixels: Sequence[int], ratio: float | None
) -> list[float]:
    """Return the loss's weight of each class: ones for `ce`, else by inverse frequency.

    `ratio`, where given, replaces the inverse frequency for the second network (target "tumor") only.

    Raises:
        InputError: a class is missing from the training set.
    """
    names = ["other", "liver", "tumor"] if target == "classes" else ["rest", target]
    foreground = sum(foreground_pixels(pixels, target).values())
    counts = list(pixels) if target == "classes" else [sum(pixels) - foreground, foreground]
    for name, count in zip(names, counts, strict=True):
        if count == 0:
            raise InputError(f"{run.store.path}: the training set holds no pixel of class {name}")
    if phase == "ce":
        return [1.0] * len(counts)
    if ratio is not None and target == "tumor":
        return list(weights_of_ratio(counts[0], counts[1], ratio))
    return inverse_frequency_weights(counts)


def loss_of(weights: Sequence[float]) -> keras.losses.Loss:
    """Return the loss on logits for one weight a class (two: sigmoid; three: softmax)."""
    if len(weights) == 2:
        return BalancedBinaryCrossentropy(*weights)
    return BalancedCategoricalCrossentropy(weights)


def train_phase(
    run: Run,
    stage: str,
    phase: str,
    load: Load,
    *,
    folder_name: str | None = None,
    epochs: int | None = None,
    ratio: float | None = None,
    mask: Mask | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train one phase and write its record; a finished one is left as it is.

    Args:
        run: the run.
        stage: "one_step", "liver" or "tumor".
        phase: "ce" from fresh weights, or "balanced" from the best weights of "ce" (paper 2.4).
        load: input and target of a slice.
        folder_name: where in the stage's folder; default the phase.
        epochs: default the preset's.
        ratio: class weight of tumor to the rest in the balanced phase; default the preset's.
        mask: liver mask of a slice; outside it the tumor probability is 0 (second network only).
        extra: further content of the record (how inputs were made).

    Returns:
        The content of `record.json`.
    """
    name = folder_name or phase
    if run.is_done(stage, name):
        print(f"{stage} {name}: already done")
        return run.record(stage, name)
    start_anew(run)
    model = build_network(run, stage)
    if phase == "balanced":
        check_starts(run, stage)
        model.load_weights(run.folder(stage, "ce") / "best.keras")
    target = STAGE_TARGET[stage]
    train_slices = run.store.slices("train")
    pixels = class_pixels(run.store, train_slices)
    weights = class_weights(run, target, phase, pixels, ratio or run.preset.balanced_ratio)
    recipe = recipe_of(run, stage, phase, loss_of(weights), epochs)
    print(
        f"{stage} {name}: {recipe.epochs} epochs of {len(train_slices)} slices, class weights {in_words(weights)}"
    )
    fitted = fit_phase(
        model,
        SliceBatches(
            train_slices, load, run.preset.batch_size, seed=run.seed, augment=run.preset.augment
        ),
        SliceBatches(run.store.slices("validation"), load, BATCH_SIZE),
        recipe,
        run.folder(stage, name),
    )
    kept = fitted["best_epoch"] > 0
    found = validation_histograms(model, run, load, mask, target) if kept else ({}, {})
    return conclude(
        run, stage, name, phase, found, fitted, {"class_weights": weights, **(extra or {})}
    )


def recipe_of(
    run: Run, stage: str, phase: str, loss: Any, epochs: int | None = None, **options: Any
) -> Recipe:
    """Return how a phase of a stage is trained; `options` are further fields of `Recipe`."""
    target = STAGE_TARGET[stage]
    return Recipe(
        target=target,
        loss=loss,
        learning_rate=run.preset.learning_rate(phase),
        momentum=run.preset.momentum,
        epochs=run.preset.epochs(stage, phase) if epochs is None else epochs,
        blind_iou=blind_ious(class_pixels(run.store, run.store.slices("validation")), target),
        data=f"{run.store.cohort}, SYNTHETIC" if run.store.synthetic else run.store.cohort,
        **options,
    )


def check_starts(run: Run, stage: str) -> None:
    """Check that a stage's `ce` phase left weights that `balanced` can start from.

    Raises:
        InputError: it is not finished, or diverged in its first epoch.
    """
    if run.record(stage, "ce")["fit"]["best_epoch"] < 1:
        raise InputError(
            f"{run.folder(stage, 'ce')}: diverged, there are no weights to continue from"
        )


def in_words(weights: Sequence[float]) -> str:
    """Return the class weights for a line of the log."""
    return ", ".join(f"{weight:.3g}" for weight in weights)


def conclude(
    run: Run,
    stage: str,
    name: str,
    phase: str,
    found: tuple[Histograms, Histograms],
    fitted: dict[str, Any],
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Choose the thresholds of a trained phase on validation data, judge it, and write its record.

    Args:
        run, stage, name: where the phase lies.
        phase: "ce" or "balanced".
        found: what `validation_histograms` returns; two empty ones where no weights were kept.
        fitted: what `fit_phase` returned.
        extra: further content of the record: class weights, and how the inputs were made.

    Returns:
        The content of `record.json`.
    """
    histograms, possible = found
    thresholds = {key: choose_thresholds(histogram) for key, histogram in histograms.items()}
    pixels = class_pixels(run.store, run.store.slices("train"))
    record = {
        "schema": 1,
        "stage": stage,
        "phase": phase,
        "target": STAGE_TARGET[stage],
        **judge(possible, fitted["diverged"]),
        "thresholds": thresholds,
        "validation": {
            key: _validation_summary(histograms[key], thresholds[key]) for key in histograms
        },
        "class_pixels": dict(zip(("other", "liver", "tumor"), pixels, strict=True)),
        "learning_rate": run.preset.learning_rate(phase),
        "precision": keras.config.dtype_policy().name,
        **extra,
        "fit": fitted,
    }
    if record["status"] != "ok":
        print(f"{stage} {name}: {record['status'].upper()}, not a result: {record['why']}")
    elif record["note"]:
        print(f"{stage} {name}: {record['note']}")
    write_json(run.folder(stage, name) / "record.json", record)
    discard_resume_files(run.folder(stage, name))
    return record


def validation_histograms(
    model: keras.Model, run: Run, load: Load, mask: Mask | None, target: str
) -> tuple[Histograms, Histograms]:
    """Return two histograms of probabilities by target ("liver", "tumor") over the validation slices.

    The first holds all pixels, as the scores do. The second holds those that could be of the target: all for
    the liver, those of the reference liver for the tumor. It tells a network that finds tumors in the liver
    from one that finds the liver only.
    """
    slices = run.store.slices("validation")
    everywhere = {key: ProbabilityHistogram() for key in foreground_pixels((0, 0, 0), target)}
    possible = {key: ProbabilityHistogram() for key in everywhere}
    predictions = predict_slices(model, (load(chosen)[0] for chosen in slices))
    for (case, row), output in zip(slices, predictions, strict=True):
        label = np.asarray(run.store.label(case)[row])
        if target == "classes":
            found = dict(zip(("liver", "tumor"), split_classes(output), strict=True))
        else:
            found = {target: output[..., 0] * (1 if mask is None else mask((case, row)))}
        for key, probability in found.items():
            truth = target_of(label, key) == 1
            everywhere[key].add(probability, truth)
            where = np.ones_like(truth) if key == "liver" else label >= 1
            possible[key].add(probability[where], truth[where])
    return everywhere, possible


def blind_ious(pixels: Sequence[int], target: str) -> dict[str, float]:
    """Return, by target, the IoU of a network that sees nothing, from the pixels of (other, liver, tumor).

    For the liver that is one that calls every pixel liver; for the tumor, one that calls the whole liver tumor:
    the liver is easily found, or given by the first network's mask.
    """
    _, liver, tumor = pixels
    everywhere = {"liver": (liver + tumor) / sum(pixels), "tumor": tumor / max(liver + tumor, 1)}
    return everywhere if target in BOTH else {target: everywhere[target]}


def judge(
    possible: dict[str, ProbabilityHistogram], diverged: bool, never: Sequence[str] | None = None
) -> dict[str, str]:
    """Return {"status": "ok" | "collapsed" | "diverged", "why", "note"} from the validation set.

    Collapsed: for some target no pixel of it has a probability above 0.01 (all is background), or all pixels that
    could be of it (the second result of `validation_histograms`) have about the same one. Diverged: the loss became
    not finite. The note says where a network that has not collapsed ranks those pixels no better than chance, or
    finds nothing at a threshold of 0.5, although it ranks them. With `never`, it says where it finds nothing by that
    list instead: the targets that are nowhere the most probable class.
    """
    reasons, notes = ["the loss became not finite"] if diverged else [], []
    for target, histogram in possible.items():
        auc, at_half = histogram.auc(), histogram.counts(0.5)
        nothing = at_half.tp + at_half.fp == 0 if never is None else target in never
        if histogram.counts(0.01).tp == 0:
            reasons.append(
                f"{target}: no {target} pixel of the validation set has a probability above 0.01"
            )
        elif logit_spread(histogram) < SAME_LOGIT:
            reasons.append(f"{target}: the same probability for every pixel that could be {target}")
        elif auc is not None and auc <= CHANCE_AUC:
            notes.append(
                f"{target}: no better than chance, AUC {auc:.3f} among the pixels that could be {target}"
            )
        elif nothing:
            how = "at a threshold of 0.5" if never is None else "by the most probable class"
            notes.append(f"{target}: background everywhere {how}")
    status = "diverged" if diverged else "collapsed" if reasons else "ok"
    return {"status": status, "why": "; ".join(reasons), "note": "; ".join(notes)}


def logit_spread(histogram: ProbabilityHistogram) -> float:
    """Return the distance in the logit between the 1 % and 99 % quantiles of the probabilities above 0."""
    cumulative = np.cumsum((histogram.positive + histogram.negative)[1:])
    low, high = np.searchsorted(cumulative, [0.01 * cumulative[-1], 0.99 * cumulative[-1]])
    return float(high - low) * BIN_WIDTH


def _validation_summary(
    histogram: ProbabilityHistogram, thresholds: dict[str, float]
) -> dict[str, float | None]:
    return {
        "best_iou": find_best_iou(histogram),
        "iou_at_half": iou(histogram.counts(thresholds["0.5"])),
        "iou_at_roc": iou(histogram.counts(thresholds["roc"])),
        "auc": histogram.auc(),
        "rauc": histogram.rauc(),
    }
