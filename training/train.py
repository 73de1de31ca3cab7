"""What is left to train of a system, in order: each network in each phase.

Used for every system, and for trials and sweeps, which are phases of other names. What is finished
is left alone, without TensorFlow; `training.network` trains the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.command import InputError
from data.files import hash_file, read_json, write_json
from training.run import Run
from training.systems.base import Step, System


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
        phases, networks: default all of the system's.
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
    """Return the content of `system.json`.

    Args:
        system, label, weights: as of `write_system`.
    """
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
    """Raise an InputError where a label was begun with other settings.

    Args:
        run, system, label, weights: as of `write_system`.
    """
    settings = describe_system(system, label, weights)["settings"]
    if read_settings(run, label) not in (None, settings):
        raise InputError(
            f"{run.path / label}: begun with other settings; another --label keeps both"
        )


def is_finished(run: Run, system: System, label: str = "") -> bool:
    """Return whether every network of a system is trained in every phase.

    Args:
        run, system, label: as of `write_system`.
    """
    return all(
        run.is_done(label or system.name, network, phase)
        for network in system.networks
        for phase in system.PHASES
    )


def check_loss(run: Run, system: System, label: str = "") -> None:
    """Check that what is left to train of a system can be trained with its loss.

    Args:
        run, system, label: as of `write_system`.

    Raises:
        InputError: the loss is unknown, or not for such networks.
    """
    if not is_finished(run, system, label):
        from training.network import check_losses

        check_losses(system)


def check_system(run: Run, system: System, label: str, weights: Path | None = None) -> None:
    """Check that what is left to train of a system can be built and trained.

    Args:
        run, system, label, weights: as of `write_system`.

    Raises:
        InputError: what `training.network.check_networks` refuses.
    """
    if not is_finished(run, system, label):
        from training.network import check_networks

        check_networks(system, run.store.size, weights)


def train_network(
    run: Run,
    system: System,
    label: str,
    network: str,
    phase: str,
    name: str = "",
    weights: Path | None = None,
) -> dict[str, Any]:
    """Train a network in a phase and write its record, unless it is finished.

    Args:
        run: the run.
        system: as it is trained; trials and sweeps change its values.
        label: name of the system's folder.
        network, phase: of the system.
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
        from training.network import fit_network  # TensorFlow, which what is done need not wait for

        record = fit_network(step, system, weights)
    system.finish(step, record)
    return record


def find_alike(step: Step, system: System, weights: Path | None) -> Path | None:
    """Return the folder of a finished network that would be the same, if any.

    It is RUN/<label>/<network>. The fields that `System.UNREAD` names may differ.

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
