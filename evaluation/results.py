"""Read what `evaluation.evaluate` recorded, for tables, figures and pages.

A published record (`evaluation.publish`) is read into the same class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.command import InputError
from data.files import read_json
from evaluation.metrics.statistics import Comparison, Interval
from evaluation.names import COHORTS, PHASES, SYSTEMS, describe_origin, spell_system
from evaluation.score_table import (
    PairComparison,
    compare_pairs,
    make_table,
    make_table1,
    read_table,
    score_blind_tumor,
    select,
    sort_rows,
)

SCHEMA = 2
"""Form of summary.json, training.json, curves.json and of published records."""


@dataclass(frozen=True)
class Results:
    """The results of one run; scores of failed systems are left out.

    Attributes:
        path: the folder OUT, or the file of a published record.
        summary: content of summary.json: preset, seed, data, systems, lits, environment, timing_s.
        training: content of training.json: phases, sweep, scaling, architectures.
        scores: the score table (`evaluation.score_table`).
        curves: entries of curves.json.
        lesions: a row for each lesion of a case, and for each drawn where none is.
        recorded: of a published record: "claims"; and of one from before the score table "table1"
            (rows), "comparisons", "postprocessing" and "blind_tumor_iou" as they were recorded.
    """

    path: Path
    summary: dict[str, Any]
    training: dict[str, Any]
    scores: pd.DataFrame
    curves: list[dict[str, Any]] = field(default_factory=list)
    lesions: pd.DataFrame = field(default_factory=pd.DataFrame)
    recorded: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """What was trained and scored on."""
        return dict(self.summary["data"])

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.summary["seed"])

    @cached_property
    def systems(self) -> list[tuple[str, str]]:
        """Return (system, phase) of Table 1, scored or failed, in table order."""
        pairs = [(e["system"], e["phase"]) for e in self.summary["systems"] if e["table1"]]
        table = pd.DataFrame(pairs, columns=["system", "phase"])
        return list(sort_rows(table, ["phase", "system"]).itertuples(index=False, name=None))

    @property
    def system_names(self) -> list[str]:
        """Return the systems of Table 1, each once, in the order of the tables."""
        names = {system for system, _ in self.systems}
        return [name for name in SYSTEMS if name in names] + sorted(names - set(SYSTEMS))

    @property
    def failures(self) -> dict[tuple[str, str], str]:
        """Return `failed: why` of systems of Table 1, by (system, phase)."""
        table1 = (entry for entry in self.summary["systems"] if entry["table1"])
        failed = (entry for entry in table1 if entry["status"] != "ok")
        return {
            (e["system"], e["phase"]): f"{e['status']}: {e['why']}".rstrip(": ") for e in failed
        }

    @property
    def cohorts(self) -> list[str]:
        """Return the cohorts of the run, in the order of the tables."""
        external = self.data.get("external")
        return [cohort for cohort in COHORTS if cohort != "external" or external is not None]

    def describe_origin(self, cohort: str) -> str:
        """Name the data of a cohort: `phantom, SYNTHETIC PHANTOM` or `lits`."""
        return describe_origin(self.data["external"] if cohort == "external" else self.data)

    def count_sample(self, cohort: str) -> tuple[int, int]:
        """Return (slices, cases) of a cohort."""
        if cohort == "external":
            return self.data["external"]["slices"], self.data["external"]["cases"]
        return self.data[f"{cohort}_slices"], self.data[f"{cohort}_cases"]

    def list_systems(self) -> list[tuple[str, str]]:
        """Return (system, phase) of Table 1, the phases of a system together."""
        order = {name: index for index, name in enumerate(self.system_names)}
        return sorted(self.systems, key=lambda pair: order[pair[0]])

    def find_entry(self, system: str, phase: str) -> dict[str, Any]:
        """Return the entry of a system in summary.json."""
        entries = self.summary["systems"]
        return next(e for e in entries if (e["system"], e["phase"]) == (system, phase))

    def describe_sample(self, cohort: str) -> str:
        """Say what scores stand on: `60 slices of 5 cases, 4 patients (tumor in 3)`."""
        slices, cases = self.count_sample(cohort)
        words = f"{slices} slices of {cases} case{'s'[: cases != 1]}"
        tumors = select(self.table1, cohort=cohort, target="tumor")
        if len(tumors) and "n_counted" in tumors and pd.notna(tumors["n_counted"].iloc[-1]):
            n_patients, n_counted = (int(tumors[k].iloc[-1]) for k in ("n_patients", "n_counted"))
            words += f", {n_patients} patient{'s'[: n_patients != 1]} (tumor in {n_counted})"
        return words

    def write_heading(self, cohort: str) -> str:
        """Return the heading of a cohort: its name, its data, its sample."""
        origin, sample = self.describe_origin(cohort), self.describe_sample(cohort)
        return f"{cohort.capitalize()}: {origin}, {sample}"

    @property
    def label(self) -> str:
        """Name the run in one line: data of every cohort, preset, seed."""
        origins: dict[str, list[str]] = {}
        for cohort in self.cohorts:
            origins.setdefault(self.describe_origin(cohort), []).append(cohort)
        data = "; ".join(f"{name} ({' and '.join(cohorts)})" for name, cohorts in origins.items())
        return f"{data}; preset {self.summary['preset']}, seed {self.seed}"

    @cached_property
    def table1(self) -> pd.DataFrame:
        """Return `evaluation.score_table.make_table1`, a row per system and rule."""
        if "table1" in self.recorded:
            rows = [
                {name: np.nan if value is None else value for name, value in row.items()}
                for row in self.recorded["table1"]
            ]
            return sort_rows(pd.DataFrame(rows))
        return make_table1(select_systems(self.scores, self.systems), self.curves)

    @cached_property
    def comparisons(self) -> list[PairComparison]:
        """Return the systems of Table 1 compared by patient (`compare_pairs`)."""
        if "comparisons" in self.recorded:
            return [read_comparison(entry) for entry in self.recorded["comparisons"]]
        scored = set(self.systems) - set(self.failures)
        return compare_pairs(select_systems(self.scores, scored))

    @cached_property
    def blind_tumor_iou(self) -> dict[str, float]:
        """Return by cohort the tumor IoU of marking the whole reference liver as tumor."""
        recorded = self.recorded.get("blind_tumor_iou")
        return dict(recorded) if recorded is not None else score_blind_tumor(self.scores)

    def find(self, **values: Any) -> Any | None:
        """Return the row of Table 1 with these values, a named tuple, or None.

        Example: `results.find(cohort="test", target="tumor", system="joint", rule="roc")`.
        """
        rows = select(self.table1, **values)
        return next(rows.itertuples(index=False), None)


def select_systems(table: pd.DataFrame, systems: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Return the rows of these (system, phase)."""
    wanted = set(systems)
    pairs = zip(table["system"], table["phase"], strict=True)
    return table[np.array([pair in wanted for pair in pairs], bool)]


def read_comparison(entry: Mapping[str, Any]) -> PairComparison:
    """Return a comparison that a record from before the score table holds."""
    difference = Interval(
        entry["difference"],
        entry["low"],
        entry["high"],
        entry["n_patients"],
        entry.get("n_counted", entry["n_patients"]),
        entry.get("draws_skipped", 0),
    )
    comparison = Comparison(difference, entry["p_value"], entry["better"], entry["worse"])
    first, second = (
        (*entry[side], entry.get(rule) or "roc")
        for side, rule in (("first", "threshold_rule"), ("second", "second_rule"))
    )
    return PairComparison(entry["cohort"], entry["target"], first, second, comparison)


def list_notes(training: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each scored system that sees little on validation data."""
    notes: dict[str, list[str]] = {}
    for phase in training["phases"]:
        if phase["phase"] in PHASES and phase["status"] == "ok" and phase["note"]:
            name = spell_system(phase["system"], phase["phase"])
            notes.setdefault(name, []).append(phase["note"])
    return [f"On validation data, {name}: {'; '.join(texts)}." for name, texts in notes.items()]


def read_record(path: Path, needed: Iterable[str]) -> dict[str, Any]:
    """Read a JSON file of `SCHEMA` that must hold these keys.

    Raises:
        InputError: it is missing, damaged, of another form, or lacks a key.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        form = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{path}: expected schema {SCHEMA}, got {form!r}; score the run again")
    for key in needed:
        if key not in content:
            raise InputError(f"{path}: has no {key!r}; run python -m evaluation.evaluate again")
    return content


def read_split(results: Results) -> dict[str, Any]:
    """Return the split of a run, from OUT/store or beside its record.

    Raises:
        InputError: it is not there, or is another one.
    """
    folder = results.path / "store" if results.path.is_dir() else results.path.parent
    split: dict[str, Any] = read_json(folder / "split.json", ("sha256", "slices"))
    if split["sha256"] != results.data["split_sha256"]:
        raise InputError(f"{folder / 'split.json'}: not the split of {results.path}")
    return split


def read_published(path: Path) -> Results:
    """Read a published record, KEY.json, and KEY.scores.csv where counts are known.

    Raises:
        InputError: it is missing, damaged, or of another form.
    """
    record = read_record(path, ("summary", "training"))
    table = path.with_name(f"{path.stem}.scores.csv")
    scores = read_table(table) if table.is_file() else make_table([])
    recorded = dict(record.get("recorded", {}))
    if record.get("claims"):
        recorded["claims"] = record["claims"]
    training: dict[str, Any] = {"phases": [], "sweep": None, "scaling": None}
    training |= {"architectures": {}, **record["training"]}
    curves = record.get("curves", [])
    return Results(path, record["summary"], training, scores, curves, recorded=recorded)


def read_results(path: Path) -> Results:
    """Read what `evaluation.evaluate` wrote into `path`, or a published record.

    Raises:
        InputError: a file is missing, is not what it should be, or has another schema.
    """
    if path.suffix == ".json":
        return read_published(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; it is written by python -m evaluation.evaluate")
    summary = read_record(path / "summary.json", ("preset", "seed", "data", "systems", "lits"))
    training = read_record(path / "training.json", ("phases", "sweep", "scaling", "architectures"))
    curves = read_record(path / "curves.json", ("curves",))["curves"]
    scores = read_table(path / "scores.csv")
    try:
        lesions = pd.read_csv(path / "lesions.csv", dtype={"case": "str", "patient": "str"})
    except pd.errors.EmptyDataError:
        lesions = pd.DataFrame()
    except FileNotFoundError:
        raise InputError(f"{path / 'lesions.csv'}: no such file; score the run again") from None
    # The writer leaves failed systems out; a score of a collapsed network must not slip through.
    failed = {(e["system"], e["phase"]) for e in summary["systems"] if e["status"] == "failed"}
    scores, lesions = (
        table[[pair not in failed for pair in zip(table["system"], table["phase"], strict=True)]]
        if len(table)
        else table
        for table in (scores, lesions)
    )
    curves = [curve for curve in curves if (curve["system"], curve["phase"]) not in failed]
    return Results(path, summary, training, scores, curves, lesions)
