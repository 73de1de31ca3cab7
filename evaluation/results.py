"""What `evaluation.evaluate` recorded in a folder, read again for tables, figures and the README."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.command import InputError
from data.files import read_json
from evaluation.names import COHORTS, KEYS, LOSSES, METRICS, MODELS, RULES, STAGES, TARGETS, origin
from evaluation.tables.evidence import Evidence, Row, system

SCHEMA = 1


@dataclass(frozen=True)
class Results:
    """What `evaluation.evaluate` recorded in one folder; scores of failed systems are left out.

    Attributes:
        path: the folder OUT.
        summary, training: content of the files of that name.
        rows: scores, sorted by cohort, target, loss, model and rule.
        curves, cases, lesions: entries of `curves.json`, `cases.csv` and `lesions.csv`.
        volumes, options: rows of `whole_cases.csv` and `postprocess.csv`; none where the split is by slice.
    """

    path: Path
    summary: dict[str, Any]
    training: dict[str, Any]
    rows: list[Row]
    curves: list[Row]
    cases: list[Row]
    lesions: list[Row]
    volumes: list[Row] = field(default_factory=list)
    options: list[Row] = field(default_factory=list)

    @property
    def failures(self) -> dict[tuple[str, str], str]:
        """Why a system's scores are no result, by (model, loss): `collapsed: why`."""
        failed = (entry for entry in self.summary["systems"] if entry["status"] != "ok")
        return {(e["model"], e["loss"]): f"{e['status']}: {e['why']}".rstrip(": ") for e in failed}

    @property
    def cohorts(self) -> list[str]:
        """The cohorts of the run, in the order of the tables."""
        external = self.summary["data"]["external"]
        return [cohort for cohort in COHORTS if cohort != "external" or external is not None]

    def origin(self, cohort: str) -> str:
        """Name the data of a cohort: `phantom, SYNTHETIC PHANTOM` or `LiTS`."""
        data = self.summary["data"]
        return origin(data["external"] if cohort == "external" else data)

    def sample(self, cohort: str) -> tuple[int, int]:
        """Return (slices, cases) of a cohort."""
        data = self.summary["data"]
        if cohort == "external":
            return data["external"]["slices"], data["external"]["cases"]
        return data[f"{cohort}_slices"], data[f"{cohort}_cases"]

    @property
    def models(self) -> tuple[str, ...]:
        """The models that were scored or gave no result; one that was not trained is in no table or figure."""
        known = {entry["model"] for entry in self.summary["systems"]}
        return tuple(model for model in MODELS if model in known)

    @property
    def label(self) -> str:
        """Name the run in one line: data of every cohort, preset, seed."""
        origins: dict[str, list[str]] = {}
        for cohort in self.cohorts:
            origins.setdefault(self.origin(cohort), []).append(cohort)
        data = "; ".join(
            f"{origin} ({' and '.join(cohorts)})" for origin, cohorts in origins.items()
        )
        return f"{data}; preset {self.summary['preset']}, seed {self.summary['seed']}"

    @property
    def evidence(self) -> Evidence:
        """What the claims are judged on."""
        blind = self.summary["data"].get("blind_tumor_iou", {})
        compared = self.summary.get("comparisons", ())
        return Evidence(
            self.rows,
            self.cases,
            self.curves,
            self.training,
            self.cohorts,
            self.failures,
            blind,
            compared,
        )


def system_notes(training: dict[str, Any]) -> dict[str, str]:
    """Return what validation data said of systems that have scores and yet see little: {"one-step, balanced": ...}.

    Args:
        training: content of `training.json`.
    """
    notes: dict[str, str] = {}
    for phase in training["phases"]:
        for model, stages in STAGES.items():
            if (
                phase["stage"] in stages
                and phase["phase"] in LOSSES
                and phase["status"] == "ok"
                and phase["note"]
            ):
                name = system(model, phase["phase"])
                notes[name] = "; ".join(filter(None, [notes.get(name), phase["note"]]))
    return notes


def notes_lines(training: dict[str, Any]) -> list[str]:
    """Return `system_notes` as sentences."""
    return [f"On validation data, {name}: {note}." for name, note in system_notes(training).items()]


def order(row: Row) -> tuple[int, ...]:
    """Sort key of a row: cohort, target, loss, model, rule, each in the order of the tables."""
    orders = (COHORTS, TARGETS, LOSSES, MODELS, RULES)
    return tuple(
        choices.index(row[key]) if row[key] in choices else len(choices)
        for key, choices in zip(KEYS, orders, strict=True)
    )


def _read(path: Path, needed: Iterable[str]) -> Any:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{path}: expected schema {SCHEMA}, got {found!r}")
    for key in needed:
        if key not in content:
            raise InputError(f"{path}: has no {key!r}; run python -m evaluation.evaluate again")
    return content


def _read_csv(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run python -m evaluation.evaluate again") from None


def read_results(path: Path) -> Results:
    """Read what `evaluation.evaluate` wrote into `path`.

    Raises:
        InputError: a file is missing, is not what it should be, or has another schema.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; it is written by python -m evaluation.evaluate")
    summary = _read(path / "summary.json", ("preset", "seed", "data", "systems", "rows"))
    training = _read(path / "training.json", ("phases", "sweep", "scaling", "architectures"))
    curves = _read(path / "curves.json", ("curves",))["curves"]
    cases, lesions = (_read_csv(path / name) for name in ("cases.csv", "lesions.csv"))
    new = [
        path / name for name in ("whole_cases.csv", "postprocess.csv")
    ]  # evaluations before version 4 lack them
    volumes, options = (_read_csv(file) if file.is_file() else [] for file in new)
    wanted = {*KEYS, *METRICS, "threshold", "n_cases", "n_slices"}
    for row in summary["rows"]:
        if not wanted <= row.keys():
            raise InputError(f"{path / 'summary.json'}: a row has no {min(wanted - row.keys())!r}")
    failed = {
        (entry["model"], entry["loss"]) for entry in summary["systems"] if entry["status"] != "ok"
    }
    # The writer leaves them out already; a score of a collapsed network must not slip through.
    rows, *others = (
        [row for row in entries if (row["model"], row["loss"]) not in failed]
        for entries in (summary["rows"], curves, cases, lesions, volumes, options)
    )
    return Results(path, summary, training, sorted(rows, key=order), *others)
