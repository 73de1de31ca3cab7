"""How sure a score is: intervals and comparisons by patient, never by slice or pixel.

Slices of a patient resemble each other, and a score pooled over pixels has as many independent parts as patients. So
patients are drawn, with replacement, and the pooled score is taken again of each draw (percentile bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from evaluation.metrics import Counts, iou
from evaluation.names import COHORTS, KEYS, LOSSES, MODELS, TARGETS

DRAWS = 2000
LEVEL = 0.95
LEAST_PATIENTS = 3  # fewer give no interval
SEED = 0

Score = Callable[[Counts], float]
ByPatient = Mapping[str, Counts]


@dataclass(frozen=True)
class Interval:
    """A score with its interval.

    Attributes:
        value: of all patients.
        low, high: bounds of the interval; None with fewer than 3 patients.
        n_patients: how many there are.
    """

    value: float
    low: float | None
    high: float | None
    n_patients: int


@dataclass(frozen=True)
class Comparison:
    """Two models on the same patients, first less second.

    Attributes:
        difference: of the pooled scores, with its bootstrap interval.
        p_value: Wilcoxon signed rank test of the scores per patient, two-sided; None with fewer than 3 patients or
            without any difference.
        better, worse: patients where the first scores higher, or lower.
    """

    difference: Interval
    p_value: float | None
    better: int
    worse: int


def by_patient(rows: Iterable[Mapping[str, Any]]) -> dict[str, Counts]:
    """Sum the counts of `cases.csv`'s rows of one system, target and rule by patient."""
    found: dict[str, Counts] = {}
    for row in rows:
        counts = Counts(*(int(row[name]) for name in ("tp", "fp", "fn", "tn")))
        found[row["patient"]] = found.get(row["patient"], Counts()) + counts
    return found


def interval(patients: ByPatient, score: Score, draws: int = DRAWS) -> Interval:
    """Return a pooled score with its bootstrap interval by patient.

    Args:
        patients: counts of each.
        score: of `evaluation.metrics`, of the counts of all patients together.
        draws: how often patients are drawn.

    Raises:
        ValueError: no patient.
    """
    table = _table(patients)
    value = score(_sum(table))
    if len(table) < LEAST_PATIENTS:
        return Interval(value, None, None, len(table))
    values = [score(_sum(table[chosen])) for chosen in _draw(len(table), draws)]
    return Interval(value, *_bounds(values), len(table))


def compare(first: ByPatient, second: ByPatient, score: Score, draws: int = DRAWS) -> Comparison:
    """Compare two models on the same patients, drawn together.

    Raises:
        ValueError: they were scored on other patients.
    """
    if first.keys() != second.keys():
        raise ValueError(f"first and second must hold the same patients, got {sorted(first)} and {sorted(second)}")
    names = sorted(first)
    tables = [_table({name: patients[name] for name in names}) for patients in (first, second)]
    value = score(_sum(tables[0])) - score(_sum(tables[1]))
    each = np.array([score(first[name]) - score(second[name]) for name in names])
    better, worse = int(np.count_nonzero(each > 0)), int(np.count_nonzero(each < 0))
    if len(names) < LEAST_PATIENTS:
        return Comparison(Interval(value, None, None, len(names)), None, better, worse)
    chosen = _draw(len(names), draws)
    values = [score(_sum(tables[0][draw])) - score(_sum(tables[1][draw])) for draw in chosen]
    p_value = float(wilcoxon(each).pvalue) if each.any() else None
    return Comparison(Interval(value, *_bounds(values), len(names)), p_value, better, worse)


def _table(patients: ByPatient) -> np.ndarray:
    """Counts as an array (patients, 4), int64."""
    if not patients:
        raise ValueError("patients must hold at least one patient, got none")
    return np.array([[counts.tp, counts.fp, counts.fn, counts.tn] for counts in patients.values()], np.int64)


def _sum(table: np.ndarray) -> Counts:
    return Counts(*table.sum(axis=0))


def _draw(n: int, draws: int) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, n, (draws, n))


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def with_intervals(rows: Sequence[dict[str, Any]], cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of Table 1 with `iou_low`, `iou_high` (None without an interval) and `n_patients`.

    Args:
        rows: as `evaluation.scoring.table_rows` gives them.
        cases: rows of `cases.csv`.
    """
    grouped = _grouped(cases)
    found = []
    for row in rows:
        scored = interval(by_patient(grouped[_key(row)]), iou)
        found.append({**row, "iou_low": scored.low, "iou_high": scored.high, "n_patients": scored.n_patients})
    return found


def comparisons(cases: Sequence[Mapping[str, Any]], rule: str = "roc") -> list[dict[str, Any]]:
    """Compare IoU by patient: sequential with one-step after each loss, balanced with cross-entropy for each model.

    Args:
        cases: rows of `cases.csv`.
        rule: the threshold rule compared.

    Returns:
        {"cohort", "target", "threshold_rule", "first", "second" ([model, loss]), "difference", "low", "high",
        "p_value", "better", "worse", "n_patients"} for each pair of systems that were both scored.
    """
    grouped = _grouped(cases)
    pairs = [(("sequential", loss), ("one_step", loss)) for loss in LOSSES]
    pairs += [((model, "balanced"), (model, "ce")) for model in MODELS]
    found = []
    for cohort in COHORTS:
        for target in TARGETS:
            for systems in pairs:
                sides = [grouped.get((cohort, target, loss, model, rule)) for model, loss in systems]
                if sides[0] and sides[1]:
                    compared = compare(by_patient(sides[0]), by_patient(sides[1]), iou)
                    head = {"cohort": cohort, "target": target, "threshold_rule": rule}
                    found.append({**head, "first": list(systems[0]), "second": list(systems[1]), **_flat(compared)})
    return found


def _flat(compared: Comparison) -> dict[str, Any]:
    difference = compared.difference
    return {
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p_value": compared.p_value,
        "better": compared.better,
        "worse": compared.worse,
        "n_patients": difference.n_patients,
    }


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in KEYS)


def _grouped(cases: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
    grouped: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for case in cases:
        grouped.setdefault(_key(case), []).append(case)
    return grouped
