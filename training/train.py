"""The one way from a recipe to a record: train a network of a system in a phase.

Used for every system, and for trials and sweeps, which are phases of other names.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.backend import choose_precision, keras
from data.batches import count_class_pixels
from data.command import InputError
from data.files import hash_file, read_json, write_json
from evaluation.metrics.thresholds import choose_thresholds
from training.callbacks import discard_resume_files
from training.fit import Recipe, fit_phase
from training.losses import weigh_by_inverse_frequency, weigh_by_ratio
from training.metrics import AT_HALF, BEST, MOST_PROBABLE
from training.pretrained import load_encoder
from training.run import Run
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


def train_system(
    run: Run,
    system: System,
    label: str = "",
    phases: Sequence[str] = (),
    networks: Sequence[str] = (),
    weights: Path | None = None,
) -> None:
    """Train those networks of a system that are not finished yet.

    Args:
        run: the run.
        system: as trained under the run's preset.
        label: name of its folder; default the system's.
        phases: default all of the system's.
        networks: default all of the system's.
        weights: file of `training.convert_weights` that the encoder begins with.
    """
    label = label or system.name
    write_system(run, system, label, weights)
    for network in networks or system.networks:
        for phase in phases or system.PHASES:
            train_network(run, system, label, network, phase, weights=weights)


def write_system(run: Run, system: System, label: str, weights: Path | None = None) -> None:
    """Write `system.json`: what prediction and scoring need to know of a system.

    Args:
        run: the run.
        system: as it is trained.
        label: name of its folder.
        weights: file that its encoder begins with.

    Raises:
        InputError: it was begun with other settings.
    """
    path, content = run.path / label / "system.json", describe_system(system, label, weights)
    check_begun(run, system, label, weights)
    if not path.is_file():
        write_json(path, content)


def describe_system(system: System, label: str, weights: Path | None = None) -> dict[str, Any]:
    """Return the content of `system.json`; arguments as `write_system`."""
    settings = system.settings()
    settings["weights_sha256"] = None if weights is None else hash_file(weights)
    return {
        "schema": 1,
        "name": label,
        "kind": system.name,
        "title": system.TITLE if system.TITLE and label == system.name else label,
        "document": system.document,
        "networks": list(system.networks),
        "phases": list(system.PHASES),
        "decision": system.DECISION,
        "table1": system.TABLE1,
        "settings": settings,
    }


def read_settings(run: Run, label: str) -> dict[str, Any] | None:
    """Return the settings with which a system was begun; None if it was not."""
    path = run.path / label / "system.json"
    return dict(read_json(path, ("settings",))["settings"]) if path.is_file() else None


def check_begun(run: Run, system: System, label: str, weights: Path | None) -> None:
    """Check that a label was not begun with other settings; arguments as `write_system`.

    Raises:
        InputError: it was.
    """
    settings = describe_system(system, label, weights)["settings"]
    if read_settings(run, label) not in (None, settings):
        raise InputError(
            f"{run.path / label}: begun with other settings; another --label keeps both"
        )


def train_network(
    run: Run,
    system: System,
    label: str,
    network: str,
    phase: str,
    name: str = "",
    weights: Path | None = None,
) -> dict[str, Any]:
    """Train a network of a system in a phase and write its record; a finished one is left alone.

    Args:
        run: the run.
        system: as it is trained; trials and sweeps change its values.
        label: name of the system's folder.
        network: one of the system's networks.
        phase: one of its phases.
        name: name of the phase's folder; default the phase.
        weights: file of `training.convert_weights` that the encoder begins with.

    Returns:
        The content of `record.json`.

    Raises:
        InputError: what the phase needs is missing or does not fit, or it was begun otherwise.
    """
    step = Step(run, label, network, phase, name or phase)
    if run.is_done(label, network, step.name):
        system.check_done(step)
        print(f"{step.title}: already done")
        record = run.read_record(label, network, step.name)
    elif alike := find_alike(step, system, weights):
        copy_network(alike, step.folder.parent)
        print(f"{step.title}: that of {alike.parent.name}, trained with the same settings")
        record = run.read_record(label, network, step.name)
    else:
        record = fit_network(step, system, weights)
    system.finish(step, record)
    return record


def fit_network(step: Step, system: System, weights: Path | None) -> dict[str, Any]:
    """Train a network from its starting weights to its record; see `train_network`."""
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
    """Forget the phase before; set the seed, and a precision where the machine has it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(choose_precision(precision))


def weigh_classes(
    step: Step, system: System, pixels: Sequence[int]
) -> list[float] | dict[str, list[float]]:
    """Return the loss's weight of each class, for the nested network by its networks.

    Ones but for the phase "balanced", which weighs by inverse frequency, or by the system's own
    ratio.

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
        step: the network and its phase.
        system: as it is trained.
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
    """Choose the thresholds of a trained network on validation data, judge it, write its record.

    Args:
        step: what was trained.
        system: as it was trained.
        pixels: of (other, liver, tumor) in the training set.
        validation: what the best weights reach; empty where none were kept.
        fit: what `fit_phase` returned.
        further: further content of the record.

    Returns:
        The content of `record.json`.
    """
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
    if record["status"] != "ok":
        print(f"{step.title}: {record['status'].upper()}, not a result: {record['why']}")
    elif record["note"]:
        print(f"{step.title}: {record['note']}")
    write_json(step.folder / "record.json", record)
    discard_resume_files(step.folder)
    return record


def find_alike(step: Step, system: System, weights: Path | None) -> Path | None:
    """Return the folder of a finished network of another label that would be the same.

    A network is trained without the fields that `System.UNREAD` names; the folder is that of the
    network, RUN/<label>/<network>.

    Args:
        step: the network and its phase.
        system: as it would be trained.
        weights: file that its encoder would begin with.
    """
    if step.network not in system.UNREAD or step.name != step.phase:
        return None
    unread = system.UNREAD[step.network]
    settings = describe_system(system, step.label, weights)["settings"]
    for path in sorted(step.run.path.glob(f"*/{step.network}/{step.name}/record.json")):
        network = path.parent.parent
        trained = read_settings(step.run, network.parent.name) or {}
        if all(trained.get(key) == value for key, value in settings.items() if key not in unread):
            return network
    return None


def copy_network(source: Path, target: Path) -> None:
    """Copy a network's folder, whole or not at all."""
    partial = target.with_name(f".{target.name}")
    shutil.copytree(source, partial, dirs_exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    # The record says whose it is now.
    for path in target.glob("*/record.json"):
        write_json(path, {**read_json(path), "system": target.parent.name})


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
    """Check that the networks can be built for slices of a size, and begin with these weights.

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
