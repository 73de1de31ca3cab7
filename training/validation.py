"""What a network reaches on validation data, and whether it is a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.backend import keras
from data.batches import FindLiver, Load, SliceBatches
from data.inputs import target_of
from data.store import Store
from evaluation.metrics.counts import iou
from evaluation.metrics.roc import BIN_WIDTH, ProbabilityHistogram
from evaluation.metrics.thresholds import find_best_iou
from models.inference import predict_slices
from models.sequential import split_classes

Histograms = dict[str, ProbabilityHistogram]

CHANCE_AUC = 0.55  # assumed: chance is 0.5, and a validation set of few patients is uneven
SAME_LOGIT = 0.05  # assumed: probabilities that differ by about a hundredth of p (1 - p) at most
BOTH = ("classes", "joint")
"""Targets of the networks that learn liver and tumor at once."""


@dataclass(frozen=True)
class Validation:
    """Probabilities of the validation set, by target ("liver", "tumor").

    Attributes:
        everywhere: of all pixels, as the scores count them.
        possible: of the pixels that could be of the target: all for the liver, those of the
            reference liver for the tumor. It tells a network that finds tumors in the liver from
            one that finds the liver only.
        never: targets that are nowhere the most probable of three classes.
        record: what the record says besides.
    """

    everywhere: Histograms = field(default_factory=dict)
    possible: Histograms = field(default_factory=dict)
    never: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)


def count_foreground(pixels: Sequence[int], target: str) -> dict[str, int]:
    """Return the foreground pixels by target, from those of each class."""
    counts = {"liver": pixels[1] + pixels[2], "tumor": pixels[2]}
    return counts if target in BOTH else {target: counts[target]}


def validate_slices(
    model: keras.Model,
    store: Store,
    load: Load,
    target: str,
    find_liver: FindLiver | None = None,
) -> Validation:
    """Predict the slices of the validation set.

    Args:
        model: of one channel, or of three classes.
        store: holds the slices.
        load: (case, row) -> input and target.
        target: "liver", "tumor" or "classes".
        find_liver: of a slice; outside its mask the probability is 0.
    """
    slices = store.slices("validation")
    everywhere = {key: ProbabilityHistogram() for key in count_foreground((0, 0, 0), target)}
    possible = {key: ProbabilityHistogram() for key in everywhere}
    never = set(everywhere)
    # Histograms, because the probabilities of all slices may not fit into memory.
    predictions = predict_slices(model, (load(chosen)[0] for chosen in slices))
    for chosen, output in zip(slices, predictions, strict=True):
        label = np.asarray(store.label(chosen[0])[chosen[1]])
        if target == "classes":
            pair = zip(("liver", "tumor"), split_classes(output), strict=True)
            probabilities = dict(pair)
            decided = np.argmax(output, axis=-1)
            never -= {key for key in never if target_of(decided, key).any()}
        else:
            mask = 1 if find_liver is None else find_liver(chosen).mask
            probabilities = {target: output[..., 0] * mask}
        for key, probability in probabilities.items():
            truth = target_of(label, key) == 1
            everywhere[key].add(probability, truth)
            # Only pixels that could be tumor tell whether tumors are found.
            where = np.ones_like(truth) if key == "liver" else label >= 1
            possible[key].add(probability[where], truth[where])
    return Validation(everywhere, possible, tuple(sorted(never)) if target == "classes" else ())


def validate_crops(model: keras.Model, batches: SliceBatches, target: str) -> Validation:
    """Predict the crops that cover the validation cases.

    Args:
        model: in 3D, of one channel.
        batches: of the crops.
        target: "liver", or "tumor", which can be only where the local view is not 0.
    """
    possible = ProbabilityHistogram()
    for index in range(len(batches)):
        inputs, truth = batches[index]
        # Outside the liver the local view is 0, as is nothing in it that lies above the window.
        where = inputs[..., 0] > 0 if target == "tumor" else np.ones(inputs.shape[:-1], bool)
        probability = np.asarray(model.predict_on_batch(inputs))[..., 0]
        possible.add(probability[where], truth[..., 0][where] > 0)
    return Validation(possible={target: possible})


def compute_blind_ious(pixels: Sequence[int], target: str) -> dict[str, float]:
    """Return, by target, the IoU of a network that sees nothing.

    For the liver it calls every pixel liver; for the tumor it calls the whole liver tumor, since
    the liver is easily found, or given by the first network's mask. `pixels` are of (other, liver,
    tumor).
    """
    _, liver, tumor = pixels
    everywhere = {"liver": (liver + tumor) / sum(pixels), "tumor": tumor / max(liver + tumor, 1)}
    return everywhere if target in BOTH else {target: everywhere[target]}


def judge(
    possible: Histograms, diverged: bool, never: Sequence[str] | None = None
) -> dict[str, str]:
    """Return the status of a trained network, why, and a note.

    The status is "ok", "collapsed" or "diverged"; the keys are "status", "why" and "note".

    Collapsed: for some target no pixel of it has a probability above 0.01 (all is background), or
    all pixels that could be of it have about the same one. Diverged: the loss became not finite.
    The note says where a network that has not collapsed ranks those pixels no better than chance,
    or finds nothing, although it ranks them: at a threshold of 0.5, or by the most probable class.

    Args:
        possible: of `Validation`.
        diverged: whether the loss became not finite.
        never: for networks that decide by the most probable class, the targets that never are.
    """
    reasons, notes = ["the loss became not finite"] if diverged else [], []
    for target, histogram in possible.items():
        auc, at_half = histogram.auc(), histogram.counts(0.5)
        nothing = at_half.tp + at_half.fp == 0 if never is None else target in never
        if histogram.counts(0.01).tp == 0:
            reasons.append(
                f"{target}: no {target} pixel of the validation set has a probability above 0.01"
            )
        elif measure_logit_spread(histogram) < SAME_LOGIT:
            reasons.append(f"{target}: the same probability for every pixel that could be {target}")
        elif auc is not None and auc <= CHANCE_AUC:
            notes.append(
                f"{target}: no better than chance, AUC {auc:.3f} "
                f"among the pixels that could be {target}"
            )
        elif nothing:
            how = "at a threshold of 0.5" if never is None else "by the most probable class"
            notes.append(f"{target}: background everywhere {how}")
    status = "diverged" if diverged else "collapsed" if reasons else "ok"
    return {"status": status, "why": "; ".join(reasons), "note": "; ".join(notes)}


def measure_logit_spread(histogram: ProbabilityHistogram) -> float:
    """Return the distance in the logit between the 1 % and 99 % quantiles.

    They are of the probabilities above 0.
    """
    cumulative = np.cumsum((histogram.positive + histogram.negative)[1:])
    low, high = np.searchsorted(cumulative, [0.01 * cumulative[-1], 0.99 * cumulative[-1]])
    return float(high - low) * BIN_WIDTH


def summarise(
    histogram: ProbabilityHistogram, thresholds: dict[str, float]
) -> dict[str, float | None]:
    """Return the validation figures of a target, as `record.json` holds them."""
    return {
        "best_iou": find_best_iou(histogram),
        "iou_at_half": iou(histogram.counts(thresholds["0.5"])),
        "iou_at_roc": iou(histogram.counts(thresholds["roc"])),
        "auc": histogram.auc(),
        "rauc": histogram.rauc(),
    }
