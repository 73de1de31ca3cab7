"""What a run directory holds: systems, their phases and their records.

RUN/run.json                                 preset as resolved, seed, size, store
RUN/<system>/system.json                     what a system is (`System`)
RUN/<system>/<network>/<phase>/record.json   a network after a phase of its training

Training writes them; whoever scores or predicts reads them here, without training's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.command import InputError
from data.files import read_json

SYSTEMS = ("one_step", "sequential", "joint")
"""The paper's systems; every other one stands after them, by name."""
PHASES = ("ce", "balanced")
"""Phases of the paper's systems (2.4); a system of another document has one phase, "train"."""
TUMOR_CONTOUR = "tumor_contour"
"""Post-processing of the global and local pipeline: its last step."""
NO_CONTOUR = "_no_contour"
"""Ending of the name under which a system that ends with an active contour is used without it."""


@dataclass(frozen=True)
class System:
    """What `system.json` says of a system.

    Attributes:
        folder: RUN/<system>.
        name: of its folder; with `NO_CONTOUR` at the end where its contour is left out.
        kind: name under which it is registered for training.
        title: for readers.
        document: where it is described.
        networks: ("classes",), ("liver", "tumor") or ("nested",).
        phases: of its training, in order.
        decision: "thresholds", "argmax" or "half" (`evaluation.segmenter`).
        table1: whether it stands in Table 1.
        settings: as trained.
    """

    folder: Path
    name: str
    kind: str
    title: str
    document: str
    networks: tuple[str, ...]
    phases: tuple[str, ...]
    decision: str
    table1: bool
    settings: dict[str, Any]

    def list_records(self, phase: str, liver_only: bool = False) -> dict[str, Path]:
        """Return where the record of each needed network lies.

        For the liver alone only the first network is needed.
        """
        networks = self.networks[:1] if liver_only else self.networks
        return {name: self.folder / name / phase / "record.json" for name in networks}

    def is_finished(self, phase: str, liver_only: bool = False) -> bool:
        """Return whether the needed networks have finished a phase."""
        return all(path.is_file() for path in self.list_records(phase, liver_only).values())


def read_run(run: Path) -> dict[str, Any]:
    """Read `run.json`; an InputError says that this is no run directory."""
    if not (run / "run.json").is_file():
        raise InputError(f"{run}: not a run directory (no run.json in it)")
    content: dict[str, Any] = read_json(run / "run.json", ("size", "synthetic"))
    return content


def read_system(run: Path, name: str) -> System:
    """Read what a system of a run is.

    A name that ends in `NO_CONTOUR` is the system without its contour.

    Raises:
        InputError: the run has no such system, or its file is damaged.
    """
    folder = run / name
    without_contour = not folder.is_dir() and name.endswith(NO_CONTOUR)
    if without_contour:
        folder = run / name.removesuffix(NO_CONTOUR)
    keys = ("kind", "title", "document", "networks", "phases", "decision", "table1", "settings")
    content = read_json(folder / "system.json", keys)
    values = {key: content[key] for key in keys}
    values |= {key: tuple(content[key]) for key in ("networks", "phases")}
    if without_contour:
        steps = [step for step in values["settings"]["postprocess"] if step != TUMOR_CONTOUR]
        values["settings"] = {**values["settings"], "postprocess": steps}
        values["title"] += NO_CONTOUR
    return System(folder, name, **values)


def list_systems(run: Path) -> list[System]:
    """Return the systems begun in a run, the paper's first, the others by name.

    One that ends with a contour is followed by itself without it.
    """
    names = [path.parent.name for path in run.glob("*/system.json")]
    order = {name: rank for rank, name in enumerate(SYSTEMS)}
    systems = []
    for name in sorted(names, key=lambda name: (order.get(name, len(order)), name)):
        systems.append(read_system(run, name))
        if TUMOR_CONTOUR in systems[-1].settings.get("postprocess", ()):
            systems.append(read_system(run, name + NO_CONTOUR))
    return systems


def list_finished_systems(run: Path, liver_only: bool = False) -> list[tuple[str, str]]:
    """Return (system, phase) of all that is finished, phase by phase, at least one.

    Raises:
        InputError: not a run directory, or nothing is finished.
    """
    read_run(run)
    systems = list_systems(run)
    phases = dict.fromkeys([*PHASES, *(phase for system in systems for phase in system.phases)])
    finished = [
        (system.name, phase)
        for phase in phases
        for system in systems
        if phase in system.phases and system.is_finished(phase, liver_only)
    ]
    if not finished:
        commands = "python -m training.one_step, liver and tumor, or system"
        raise InputError(f"{run}: no system is finished ({commands})")
    return finished


def list_sweep_points(run: Path) -> list[tuple[str, str]]:
    """Return (system, phase) of the finished points of joint sweeps.

    Controls with a hard mask come first, then those from the pair and from scratch, by ratio.
    """

    def rank(folder: Path) -> tuple[bool, str, float]:
        record = read_json(folder / "record.json", ("mask", "start", "alpha", "beta"))
        ratio = record["beta"] / max(record["alpha"], 1e-12)
        return record["mask"] != "hard", record["start"], ratio

    folders = [path.parent for path in run.glob("*/nested/sweep_*/record.json")]
    return [(folder.parent.parent.name, folder.name) for folder in sorted(folders, key=rank)]


def choose_phase(run: Path, name: str, liver_only: bool = False) -> str:
    """Return the finished phase of the higher validation IoU (rule roc).

    Args:
        run: its run directory.
        name: of the system.
        liver_only: take the liver's IoU, not the tumor's.

    Raises:
        InputError: no phase of the system is finished.
    """
    finished = list_finished_systems(run, liver_only)
    phases = [phase for system, phase in finished if system == name]
    if not phases:
        names = ", ".join(dict.fromkeys(system for system, _ in finished))
        raise InputError(f"{run}: {name} is not finished; finished there: {names}")
    system = read_system(run, name)

    def read_iou(phase: str) -> float:
        paths = system.list_records(phase, liver_only).values()
        records = [read_json(path, ("status", "validation")) for path in paths]
        if any(record["status"] != "ok" for record in records):
            return -1.0
        return float(records[-1]["validation"]["liver" if liver_only else "tumor"]["iou_at_roc"])

    return phases[0] if len(phases) == 1 else max(phases, key=read_iou)
