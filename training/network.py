"""A network of a system in a phase, from its recipe to its record.

What is trained again and again stands here; `training.train` decides what is left to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.backend import choose_precision, keras
from data.batches import count_class_pixels
from data.command import InputError
from data.files import write_json
from evaluation.metrics.thresholds import choose_thresholds
from training.callbacks import discard_resume_files
from training.fit import Recipe, fit_phase
from training.losses import weigh_by_inverse_frequency, weigh_by_ratio
from training.metrics import AT_HALF, BEST, MOST_PROBABLE
from training.pretrained import load_encoder
from training.systems.base import TARGETS, Step, System
from training.systems.joint import Joint
from training.validation import (
    Validation,
    compute_blind_ious,
    count_foreground,
    judge,
    summarise,
)

CLASSES = ("other", "liver", "tumor")
BEST_BY = {"thresholds": BEST, "argmax": MOST_PROBABLE, "half": AT_HALF}
"""What the best epoch is chosen by: the IoU of the rule that the system decides by."""


def fit_network(step: Step, system: System, weights: Path | None) -> dict[str, Any]:
    """Train a network from its starting weights; return its record.

    Args:
        step, system: the network in its phase, and its system.
        weights: file of `training.convert_weights` that the encoder begins with.
    """
    # The seed comes before the network is built: its weights are the first that is drawn.
    begun = system.begin(step)
    start_anew(step.run.seed, system.precision)
    model = system.build(step.network, step.run.store.size, begun)
    system.load_start(model, step)
    if weights is not None:
        load_encoder(model, weights)

    # What it learns from, and what its loss weighs.
    data = system.load_data(step, begun)
    pixels = count_class_pixels(step.run.store, step.run.store.slices("train"))
    class_weights = weigh_classes(step, system, pixels)
    recipe = make_recipe(step, system, class_weights)
    print(
        f"{step.title}: {recipe.epochs} epochs of {len(data.train.slices)} {data.record['unit']}"
        f"{describe_weights(class_weights)}"
    )
    fit = fit_phase(model, data.train, data.validation, recipe, step.folder)

    # A first epoch that diverged leaves no weights to validate.
    validation = system.validate(model, step, data) if fit["best_epoch"] > 0 else Validation()
    record = {**begun, **data.record, **validation.record, "class_weights": class_weights}
    return conclude(step, system, pixels, validation, fit, record)


def start_anew(seed: int, precision: str) -> None:
    """Forget the phase before; set the seed, and a precision that the machine has."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(choose_precision(precision))


def weigh_classes(
    step: Step, system: System, pixels: Sequence[int]
) -> list[float] | dict[str, list[float]]:
    """Return the loss's weight of each class, for the nested network by its networks.

    Ones but for the phase "balanced", which weighs by inverse frequency or by the system's ratio.

    Args:
        step: the network and its phase.
        system: as it is trained.
        pixels: of (other, liver, tumor) in the training set.

    Raises:
        InputError: a class is missing from the training set.
    """
    target = TARGETS[step.network]
    if target == "joint":
        return {part: _weigh(step, system, part, pixels) for part in ("liver", "tumor")}
    return _weigh(step, system, target, pixels)


def _weigh(step: Step, system: System, target: str, pixels: Sequence[int]) -> list[float]:
    names, counts = list(CLASSES), list(pixels)
    if target != "classes":
        foreground = count_foreground(pixels, target)[target]
        names, counts = ["rest", target], [sum(pixels) - foreground, foreground]
    for name, count in zip(names, counts, strict=True):
        if count == 0:
            raise InputError(
                f"{step.run.store.path}: the training set holds no pixel of class {name}"
            )
    if step.phase != "balanced":
        return [1.0] * len(counts)
    ratio = getattr(system, "balanced_ratio", None)
    if ratio and target == "tumor":
        return list(weigh_by_ratio(counts[0], counts[1], ratio))
    return weigh_by_inverse_frequency(counts)


def describe_weights(weights: list[float] | dict[str, list[float]]) -> str:
    """Return the class weights for a line of the log; nothing where all are 1."""
    named = weights if isinstance(weights, dict) else {"": weights}
    if {weight for values in named.values() for weight in values} == {1.0}:
        return ""
    texts = (
        f"{part} {', '.join(f'{weight:.3g}' for weight in values)}".strip()
        for part, values in named.items()
    )
    return f", class weights {'; '.join(texts)}"


def make_recipe(step: Step, system: System, class_weights: Any) -> Recipe:
    """Return how a phase is trained.

    Args:
        step, system: the network in its phase, and its system.
        class_weights: of `weigh_classes`.
    """
    store, target = step.run.store, TARGETS[step.network]
    weights = None
    if isinstance(system, Joint):
        weights = {"liver": system.joint_alpha, "tumor": system.joint_beta}
    return Recipe(
        target=target,
        loss=system.make_loss(step.network, class_weights),
        learning_rate=system.find_learning_rate(step.phase),
        momentum=system.momentum,
        epochs=system.find_epochs(step.network, step.phase),
        blind_iou=compute_blind_ious(count_class_pixels(store, store.slices("validation")), target),
        data=f"{store.cohort}, SYNTHETIC" if store.synthetic else store.cohort,
        title=step.title,
        loss_weights=weights,
        optimizer=system.optimizer,
        best_by=BEST_BY[system.DECISION],
    )


def conclude(
    step: Step,
    system: System,
    pixels: Sequence[int],
    validation: Validation,
    fit: dict[str, Any],
    further: dict[str, Any],
) -> dict[str, Any]:
    """Choose a trained network's thresholds, judge it and return its written record.

    Args:
        step, system: what was trained, and as what.
        pixels: of (other, liver, tumor) in the training set.
        validation: what the best weights reach; empty where none were kept.
        fit: what `fit_phase` returned.
        further: further content of the record.
    """
    # Only validation data decide, so that test data stay unseen.
    chosen = {target: choose_thresholds(h) for target, h in validation.everywhere.items()}
    never = validation.never if system.DECISION == "argmax" and validation.possible else None
    record = {
        "schema": 2,
        "system": step.label,
        "network": step.network,
        "phase": step.phase,
        "target": TARGETS[step.network],
        **judge(validation.possible, fit["diverged"], never),
        "thresholds": chosen if system.DECISION == "thresholds" else {},
        "validation": {
            target: summarise(histogram, chosen[target])
            for target, histogram in validation.everywhere.items()
        },
        "class_pixels": dict(zip(CLASSES, pixels, strict=True)),
        "learning_rate": system.find_learning_rate(step.phase),
        "precision": keras.config.dtype_policy().name,
        **further,
        "fit": fit,
    }
    # A collapsed network must not pass for a result unnoticed.
    if record["status"] != "ok":
        print(f"{step.title}: {record['status'].upper()}, not a result: {record['why']}")
    elif record["note"]:
        print(f"{step.title}: {record['note']}")
    # The record marks the phase finished, so it comes before the clean-up.
    write_json(step.folder / "record.json", record)
    discard_resume_files(step.folder)
    return record


def check_losses(system: System) -> None:
    """Check that the networks of a system can be trained with its loss.

    Raises:
        InputError: it is unknown, or not for such networks.
    """
    for network in system.networks:
        target = TARGETS[network]
        parts = {part: [1.0, 1.0] for part in ("liver", "tumor")}
        weights = [1.0] * (3 if target == "classes" else 2)
        try:
            system.make_loss(network, parts if target == "joint" else weights)
        except ValueError as error:
            raise InputError(f"{system.name}: {error}") from None


def check_networks(system: System, size: int, weights: Path | None = None) -> None:
    """Check that networks can be built for a size, and take these weights.

    Args:
        system: as it is trained.
        size: rows and columns of the slices.
        weights: file of `training.convert_weights`.

    Raises:
        InputError: a size, a number of filters or a loss that the architecture does not take;
            weights of another architecture.
    """
    check_losses(system)
    for network in system.networks:
        try:
            model = system.build(network, size, {})
        except ValueError as error:
            raise InputError(f"{system.name}: {error}") from None
        if weights is not None:
            load_encoder(model, weights)
    keras.backend.clear_session()
