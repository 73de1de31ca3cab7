"""Intervals of scores and comparisons by patient, never by slice or pixel.

A patient's slices resemble each other, so a pooled score has as many independent parts as patients.
They are drawn with replacement, and each draw is pooled again (percentile bootstrap). By hand:
SciPy's `bootstrap` knows no pooled counts and skips no draw; tests and intervals of shares are
SciPy's.

An empty reference has no score here, though `evaluation.metrics.counts` calls it 1: such draws are
skipped, such patients left out of the test; both are counted. With few patients the interval is too
narrow: `tests.benchmarks.interval_coverage` simulates by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, wilcoxon

from evaluation.metrics.counts import Counts

DRAWS = 2000
LEVEL = 0.95
LEAST_PATIENTS = 5  # fewer give no interval and no test
SEED = 0
SIMULATED = {5: 0.83, 10: 0.88}
"""Coverage of the interval by number of patients, as `python -m tests.benchmarks.interval_coverage`
prints it; a test holds it to the simulation."""

Score = Callable[[Counts], float]
ByPatient = Mapping[str, Counts]


@dataclass(frozen=True)
class Interval:
    """A score with its interval: nominally 95 %, less with few (`SIMULATED`).

    Attributes:
        value: of all patients.
        low, high: bounds; None with fewer than 5 patients that count.
        n_patients: how many there are.
        n_counted: patients with something to score, a reference that is not empty.
        skipped: draws left out, because none of their patients has.
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

    Pooled scores weigh large structures more; the test weighs each patient the same. So the two may
    differ in sign.

    Attributes:
        difference: of the pooled scores, with its bootstrap interval.
        p_value: Wilcoxon signed rank test of scores per patient, two-sided, over those that count
            (`Interval.n_counted`). Equal scores are dropped (Wilcoxon's own rule). Exact up to 50
            others, or 13 where differences are of one size; else normal approximation. None with
            fewer than 5 patients or without any difference.
        better, worse: patients where the first scores higher, lower.
    """

    difference: Interval
    p_value: float | None
    better: int
    worse: int

    @property
    def least_p(self) -> float:
        """Smallest two-sided p of this number of patients: all differences of one sign."""
        return compute_least_p(self.difference.n_counted)


def compute_least_p(n: int) -> float:
    """Compute the smallest two-sided p of a Wilcoxon test, 2 / 2^n; 1 for none.

    >>> compute_least_p(5)
    0.0625
    """
    return min(1.0, 2.0 / 2.0**n)


def bound_score(
    patients: ByPatient, score: Score, draws: int = DRAWS, of_reference: bool = True
) -> Interval:
    """Return a pooled score with its bootstrap interval by patient.

    Args:
        patients: counts of each. Their order decides which are drawn together.
        score: of `evaluation.metrics.counts`, of the counts of all patients together.
        draws: how often patients are drawn.
        of_reference: whether an empty reference leaves nothing to score, as for IoU, Dice and
            sensitivity. False for a score that all pixels make, as pixel accuracy.

    Raises:
        ValueError: no patient.

    Example:
        >>> patients = {str(n): Counts(tp=5 + n, fn=5 - n) for n in range(5)}
        >>> from evaluation.metrics.counts import iou
        >>> interval = bound_score(patients, iou)
        >>> interval.value, interval.low, interval.high
        (0.7, 0.58, 0.82)
    """
    table = _make_table(patients)
    return _bootstrap([table], lambda seeds: score(seeds[0]), draws, of_reference)


def bound_mean_score(
    seeds: Sequence[ByPatient], score: Score, draws: int = DRAWS, of_reference: bool = True
) -> Interval:
    """Return the mean over seeds of a pooled score; patients are drawn, not seeds.

    Args:
        seeds: counts by patient, one a seed. Patients are drawn in the order of their names.
        score, draws, of_reference: as for `bound_score`.

    Raises:
        ValueError: no seed, no patient, or seeds that were scored on other patients.
    """
    return _bootstrap(
        _align_tables(seeds), lambda counts: _average(score, counts), draws, of_reference
    )


def bound_mean(values: Iterable[float], draws: int = DRAWS) -> Interval:
    """Return the mean of one value a patient with its bootstrap interval by patient.

    Raises:
        ValueError: no value.
    """
    table = np.fromiter(values, float)
    if not len(table):
        raise ValueError("values must hold at least one value, got none")
    n, mean = len(table), float(table.mean())
    if n < LEAST_PATIENTS:
        return Interval(mean, None, None, n, n)
    return Interval(mean, *_take_bounds(table[_draw_patients(n, draws)].mean(axis=1)), n, n)


def compare(
    first: ByPatient, second: ByPatient, score: Score, draws: int = DRAWS, of_reference: bool = True
) -> Comparison:
    """Return the difference of two systems on the same patients, drawn together.

    Args:
        first, second: counts by patient.
        score, draws, of_reference: as for `bound_score`.

    Raises:
        ValueError: they were scored on other patients.
    """
    return compare_over_seeds([first], [second], score, draws, of_reference)


def compare_over_seeds(
    first: Sequence[ByPatient],
    second: Sequence[ByPatient],
    score: Score,
    draws: int = DRAWS,
    of_reference: bool = True,
) -> Comparison:
    """Return the difference of two systems over seeds, patients drawn together.

    Args:
        first, second: counts by patient, one entry a seed.
        score, draws, of_reference: as for `bound_score`.

    Raises:
        ValueError: no seed, no patient, or they were scored on other patients.
    """
    tables, n = _align_tables([*first, *second]), len(first)

    def subtract(seeds: list[Counts]) -> float:
        return _average(score, seeds[:n]) - _average(score, seeds[n:])

    difference = _bootstrap(tables, subtract, draws, of_reference)
    counted = np.flatnonzero(_has_score(tables[0], of_reference))
    differences = [subtract([Counts(*table[row]) for table in tables]) for row in counted]
    return Comparison(difference, *_rank_signs(np.array(differences)))


def compare_means(first: Mapping[str, float], second: Mapping[str, float]) -> Comparison:
    """Compare two systems' means of one value a patient, over patients both have.

    Raises:
        ValueError: no patient has both.
    """
    shared = [patient for patient in first if patient in second]
    differences = np.array([first[patient] - second[patient] for patient in shared])
    return Comparison(bound_mean(differences), *_rank_signs(differences))


def bound_share(part: int, whole: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of independent things (Wilson 1927).

    Raises:
        ValueError: `whole` is 0.

    Example:
        >>> [round(bound, 3) for bound in bound_share(5, 10)]
        [0.237, 0.763]
    """
    bounds = binomtest(part, whole).proportion_ci(LEVEL, "wilson")
    return float(bounds.low), float(bounds.high)


def _bootstrap(
    tables: Sequence[np.ndarray],
    score: Callable[[list[Counts]], float],
    draws: int,
    of_reference: bool,
) -> Interval:
    """Score all patients of the tables, (patients, 4) each, and every draw of them."""
    counted = _has_score(tables[0], of_reference)
    n, n_counted = len(counted), int(np.count_nonzero(counted))
    value = score([Counts(*table.sum(axis=0)) for table in tables])
    if n_counted < LEAST_PATIENTS:
        return Interval(value, None, None, n, n_counted)
    drawn = _draw_patients(n, draws)
    drawn = drawn[counted[drawn].any(axis=1)]
    sums = np.concatenate([table[drawn].sum(axis=1) for table in tables], axis=1)
    # Few patients have few different draws; each is scored once.
    different, which = np.unique(sums, axis=0, return_inverse=True)
    values = np.array([score([Counts(*row) for row in rows.reshape(-1, 4)]) for rows in different])
    return Interval(value, *_take_bounds(values[which]), n, n_counted, draws - len(drawn))


def _draw_patients(n: int, draws: int) -> np.ndarray:
    """Draw n of n patients with replacement: ndarray of shape (draws, n)."""
    return np.random.default_rng(SEED).integers(0, n, (draws, n))


def _take_bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _rank_signs(differences: np.ndarray) -> tuple[float | None, int, int]:
    """Return p of the Wilcoxon test, and how many differences are above, below 0."""
    # The same difference of other counts is a tie, whatever its last bit.
    differences = np.round(differences, 12)
    # Zeros are dropped here, because SciPy gives up exactness where they are left to it.
    moved = differences[differences != 0]
    is_tested = len(differences) >= LEAST_PATIENTS and len(moved)
    p_value = float(wilcoxon(moved).pvalue) if is_tested else None
    return p_value, int(np.count_nonzero(moved > 0)), int(np.count_nonzero(moved < 0))


def _average(score: Score, seeds: Sequence[Counts]) -> float:
    return sum(score(counts) for counts in seeds) / len(seeds)


def _align_tables(seeds: Sequence[ByPatient]) -> list[np.ndarray]:
    """Return the counts of each seed as arrays, their patients in one order."""
    names = sorted(seeds[0]) if seeds else []
    for patients in seeds:
        if sorted(patients) != names:
            raise ValueError(
                f"first and second must hold the same patients, got {names} and {sorted(patients)}"
            )
    return [_make_table({name: patients[name] for name in names}) for patients in seeds or [{}]]


def _make_table(patients: ByPatient) -> np.ndarray:
    """Return counts as an array (patients, 4), int64."""
    if not patients:
        raise ValueError("patients must hold at least one patient, got none")
    rows = [[counts.tp, counts.fp, counts.fn, counts.tn] for counts in patients.values()]
    return np.array(rows, np.int64)


def _has_score(table: np.ndarray, of_reference: bool) -> np.ndarray:
    """Say which patients have something to score, bool (patients,)."""
    return table[:, 0] + table[:, 2] > 0 if of_reference else np.ones(len(table), bool)
