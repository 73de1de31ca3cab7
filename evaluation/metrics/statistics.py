"""How sure a score is: intervals and comparisons by patient, never by slice or pixel.

Slices of a patient resemble each other, and a score pooled over pixels has as many independent parts as patients. So
patients are drawn, with replacement, and the pooled score is taken again of each draw (percentile bootstrap).

What holds nothing to score has no score here, though `evaluation.metrics.counts` calls it 1: a draw of patients whose
reference is empty is skipped, and such a patient is left out of the test by patient; both are counted.

With few patients a percentile interval is too narrow: `tests.benchmarks.interval_coverage` simulates by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import binomtest, wilcoxon

from evaluation.metrics.counts import Counts, iou
from evaluation.names import COHORTS, KEYS, LOSSES, MODELS, TARGETS

DRAWS = 2000
LEVEL = 0.95
LEAST_PATIENTS = 5  # fewer give no interval and no test
SEED = 0
SIMULATED = {5: 0.83, 10: 0.88}
"""Coverage of the interval by number of patients, as `python -m tests.benchmarks.interval_coverage`
prints it; a test holds it to the simulation."""
HALF = "0.5"  # the threshold rule that the others are compared with

Score = Callable[[Counts], float]
ByPatient = Mapping[str, Counts]
Side = tuple[str, str, str]
"""Model, loss and threshold rule."""


@dataclass(frozen=True)
class Interval:
    """A score with its interval; nominally 95 %, less with few patients (`tests.benchmarks.interval_coverage`).

    Attributes:
        value: of all patients.
        low, high: bounds of the interval; None with fewer than 5 patients that count.
        n_patients: how many there are.
        n_counted: how many have something to score, a reference that is not empty.
        skipped: draws that were left out, because none of their patients has.
    """

    value: float
    low: float | None
    high: float | None
    n_patients: int
    n_counted: int
    skipped: int = 0


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same patients, first less second.

    The difference is of pooled scores, where a patient with a large structure weighs more; the test is of the scores
    per patient, where each weighs the same. So the two may differ in sign.

    Attributes:
        difference: of the pooled scores, with its bootstrap interval.
        p_value: Wilcoxon signed rank test of the scores per patient, two-sided, over the patients that count
            (`Interval.n_counted`). Patients with equal scores are dropped (Wilcoxon's own rule). Of the others, exact
            up to 50, or up to 13 where differences are of one size; beyond, the normal approximation. None with fewer
            than 5 patients or without any difference.
        better, worse: patients where the first scores higher, or lower.
    """

    difference: Interval
    p_value: float | None
    better: int
    worse: int

    @property
    def least_p(self) -> float:
        """Smallest two-sided p that this number of patients can give, 2 / 2^n: all differences of one sign."""
        return least_p(self.difference.n_counted)


def least_p(n: int) -> float:
    """Return the smallest two-sided p of a Wilcoxon signed rank test of n patients, 2 / 2^n; 1 for none."""
    return min(1.0, 2.0 / 2.0**n)


def by_patient(rows: Iterable[Mapping[str, Any]]) -> dict[str, Counts]:
    """Sum the counts of `cases.csv`'s rows of one system, target and rule by patient."""
    found: dict[str, Counts] = {}
    for row in rows:
        counts = Counts(*(int(row[name]) for name in ("tp", "fp", "fn", "tn")))
        found[row["patient"]] = found.get(row["patient"], Counts()) + counts
    return found


def interval(
    patients: ByPatient, score: Score, draws: int = DRAWS, of_reference: bool = True
) -> Interval:
    """Return a pooled score with its bootstrap interval by patient.

    Args:
        patients: counts of each.
        score: of `evaluation.metrics.counts`, of the counts of all patients together.
        draws: how often patients are drawn.
        of_reference: whether an empty reference leaves nothing to score, as for IoU, Dice and sensitivity. False for
            a score that all pixels make, as pixel accuracy.

    Raises:
        ValueError: no patient.
    """
    table = _table(patients)
    return _bootstrap([table], lambda sides: score(sides[0]), draws, _counted(table, of_reference))


def compare(
    first: ByPatient, second: ByPatient, score: Score, draws: int = DRAWS, of_reference: bool = True
) -> Comparison:
    """Compare two systems on the same patients, drawn together. Arguments as for `interval`.

    Raises:
        ValueError: they were scored on other patients.
    """
    return compare_over_seeds([first], [second], score, draws, of_reference)


def interval_over_seeds(
    seeds: Sequence[ByPatient], score: Score, draws: int = DRAWS, of_reference: bool = True
) -> Interval:
    """Return the mean over seeds of a pooled score, with its interval by patient: patients are drawn, not seeds.

    Args:
        seeds: counts by patient, one a seed.
        score: of counts.
        draws: of the bootstrap.
        of_reference: as for `interval`; False for scores that every patient has, such as the pixel accuracy.

    Raises:
        ValueError: no seed, no patient, or seeds that were scored on other patients.
    """
    tables = _tables(seeds)
    return _bootstrap(
        tables, lambda sides: _mean(score, sides), draws, _counted(tables[0], of_reference)
    )


def means_by_patient(rows: Iterable[Mapping[str, Any]], score: str) -> dict[str, float]:
    """Return one value a patient, for `interval_of_mean`: the mean of a score over his rows in which it is not None."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row[score] is not None:
            values.setdefault(row["patient"], []).append(row[score])
    return {patient: fmean(found) for patient, found in values.items()}


def interval_of_mean(values: Iterable[float], draws: int = DRAWS) -> Interval:
    """Return the mean of one value a patient with its percentile bootstrap interval by patient.

    Raises:
        ValueError: no value.
    """
    table = np.fromiter(values, float)
    if not len(table):
        raise ValueError("values must hold at least one value, got none")
    n = len(table)
    if n < LEAST_PATIENTS:
        return Interval(float(table.mean()), None, None, n, n)
    drawn = table[np.random.default_rng(SEED).integers(0, n, (draws, n))].mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(table.mean()), float(low), float(high), n, n)


def compare_means(first: Mapping[str, float], second: Mapping[str, float]) -> Comparison:
    """Compare the means of one value a patient of two systems, over the patients that both have.

    The difference, too, is here one in which each patient weighs the same.

    Raises:
        ValueError: no patient has both.
    """
    shared = [patient for patient in first if patient in second]
    each = np.array([first[patient] - second[patient] for patient in shared])
    return Comparison(interval_of_mean(each), *_signed_ranks(each))


def compare_over_seeds(
    first: Sequence[ByPatient],
    second: Sequence[ByPatient],
    score: Score,
    draws: int = DRAWS,
    of_reference: bool = True,
) -> Comparison:
    """Compare the mean scores over seeds of two systems on the same patients, drawn together.

    Args:
        first, second: counts by patient, one entry a seed.
        score, draws, of_reference: as for `interval`.

    Raises:
        ValueError: no seed, no patient, or they were scored on other patients.
    """
    tables, n = _tables([*first, *second]), len(first)
    counted = _counted(tables[0], of_reference)

    def less(sides: list[Counts]) -> float:
        return _mean(score, sides[:n]) - _mean(score, sides[n:])

    difference = _bootstrap(tables, less, draws, counted)
    each = np.array(
        [less([Counts(*table[k]) for table in tables]) for k in np.flatnonzero(counted)]
    )
    return Comparison(difference, *_signed_ranks(each))


def _signed_ranks(each: np.ndarray) -> tuple[float | None, int, int]:
    """Return p of the Wilcoxon test of one difference a patient, how many are above 0, and how many below."""
    each = np.round(each, 12)  # the same difference of other counts is a tie, whatever its last bit
    moved = each[
        each != 0
    ]  # dropped here, because SciPy gives up exactness where zeros are left to it
    p_value = float(wilcoxon(moved).pvalue) if len(each) >= LEAST_PATIENTS and len(moved) else None
    return p_value, int(np.count_nonzero(each > 0)), int(np.count_nonzero(each < 0))


def _mean(score: Score, sides: Sequence[Counts]) -> float:
    return sum(score(counts) for counts in sides) / len(sides)


def _tables(seeds: Sequence[ByPatient]) -> list[np.ndarray]:
    """Counts of each seed as arrays, their patients in one order."""
    names = sorted(seeds[0]) if seeds else []
    for patients in seeds:
        if sorted(patients) != names:
            raise ValueError(
                f"first and second must hold the same patients, got {names} and {sorted(patients)}"
            )
    return (
        [_table({name: patients[name] for name in names}) for patients in seeds]
        if seeds
        else [_table({})]
    )


def _bootstrap(
    tables: Sequence[np.ndarray],
    score: Callable[[list[Counts]], float],
    draws: int,
    counted: np.ndarray,
) -> Interval:
    n, n_counted = len(counted), int(np.count_nonzero(counted))
    value = score([Counts(*table.sum(axis=0)) for table in tables])
    if n_counted < LEAST_PATIENTS:
        return Interval(value, None, None, n, n_counted)
    chosen = np.random.default_rng(SEED).integers(0, n, (draws, n))
    kept = chosen[counted[chosen].any(axis=1)]
    sums = np.concatenate([table[kept].sum(axis=1) for table in tables], axis=1)
    # Few patients have few different draws; each is scored once.
    different, which = np.unique(sums, axis=0, return_inverse=True)
    values = np.array([score([Counts(*side) for side in row.reshape(-1, 4)]) for row in different])
    low, high = np.quantile(values[which], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), n, n_counted, draws - len(kept))


def _table(patients: ByPatient) -> np.ndarray:
    """Counts as an array (patients, 4), int64."""
    if not patients:
        raise ValueError("patients must hold at least one patient, got none")
    return np.array(
        [[counts.tp, counts.fp, counts.fn, counts.tn] for counts in patients.values()], np.int64
    )


def _counted(table: np.ndarray, of_reference: bool) -> np.ndarray:
    """Say which patients have something to score, bool (patients,)."""
    return table[:, 0] + table[:, 2] > 0 if of_reference else np.ones(len(table), bool)


def wilson(found: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of n independent things (Wilson 1927).

    Raises:
        ValueError: n is 0.
    """
    bounds = binomtest(found, n).proportion_ci(LEVEL, "wilson")
    return float(bounds.low), float(bounds.high)


def with_intervals(
    rows: Sequence[dict[str, Any]], cases: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of Table 1 with the interval of their IoU.

    Args:
        rows: as `evaluation.scoring.table_rows` gives them.
        cases: rows of `cases.csv`.

    Returns:
        The rows with `iou_low`, `iou_high` (None without an interval), `n_patients`, `n_counted` (patients whose
        reference holds the target) and `draws_skipped`.
    """
    grouped = _grouped(cases)
    found = []
    for row in rows:
        scored = interval(by_patient(grouped[tuple(row[name] for name in KEYS)]), iou)
        found.append(
            {
                **row,
                "iou_low": scored.low,
                "iou_high": scored.high,
                "n_patients": scored.n_patients,
                "n_counted": scored.n_counted,
                "draws_skipped": scored.skipped,
            }
        )
    return found


def pairs(rule: str = "roc") -> list[tuple[Side, Side]]:
    """Return what is compared: each model with the one before it after each loss, balanced with cross-entropy for
    each model, and the rule with a threshold of 0.5 for each system."""
    found: list[tuple[Side, Side]] = [
        ((model, loss, rule), (other, loss, rule))
        for model, other in (("sequential", "one_step"), ("joint", "sequential"))
        for loss in LOSSES
    ]
    found += [((model, "balanced", rule), (model, "ce", rule)) for model in MODELS]
    return found + [
        ((model, loss, rule), (model, loss, HALF)) for model in MODELS for loss in LOSSES
    ]


def comparisons(cases: Sequence[Mapping[str, Any]], rule: str = "roc") -> list[dict[str, Any]]:
    """Compare IoU by patient, for the `pairs` that were both scored.

    Args:
        cases: rows of `cases.csv`.
        rule: the threshold rule compared.

    Returns:
        {"cohort", "target", "first", "second" ([model, loss]), "threshold_rule", "second_rule", and what `as_row`
        gives} for each.
    """
    grouped = _grouped(cases)
    found = []
    for cohort in COHORTS:
        for target in TARGETS:
            for first, second in pairs(rule):
                sides = [
                    grouped.get((cohort, target, loss, model, at))
                    for model, loss, at in (first, second)
                ]
                if sides[0] and sides[1]:
                    compared = compare(by_patient(sides[0]), by_patient(sides[1]), iou)
                    head = {
                        "cohort": cohort,
                        "target": target,
                        "threshold_rule": rule,
                        "second_rule": second[2],
                    }
                    names = {"first": list(first[:2]), "second": list(second[:2])}
                    found.append({**head, **names, **as_row(compared)})
    return found


def as_row(compared: Comparison) -> dict[str, Any]:
    """Return a comparison as it is recorded: {"difference", "low", "high", "p_value", "least_p", "better", "worse",
    "n_patients", "n_counted", "draws_skipped"}."""
    difference = compared.difference
    return {
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p_value": compared.p_value,
        "least_p": compared.least_p,
        "better": compared.better,
        "worse": compared.worse,
        "n_patients": difference.n_patients,
        "n_counted": difference.n_counted,
        "draws_skipped": difference.skipped,
    }


def _grouped(cases: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
    grouped: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for case in cases:
        grouped.setdefault(tuple(case[name] for name in KEYS), []).append(case)
    return grouped
