"""The score table: a row for each case, system, rule and unit.

Every score is a group-by of it. Counts of pixels or voxels add up; distances of whole cases do not.
Dice, IoU and the other `evaluation.metrics.counts.METRICS` are derived, so a new metric needs no
new scoring. OUT/scores.csv and published records hold this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.command import InputError
from data.files import write_text
from evaluation.metrics.counts import METRICS, Counts, iou
from evaluation.metrics.statistics import Comparison, Interval, bound_mean, bound_score, compare
from evaluation.names import ARGMAX, COHORTS, PHASES, SLICES, SYSTEMS, TARGETS

KEYS = ["cohort", "target", "phase", "system", "rule"]
"""What names a row of Table 1, in the order by which it is sorted."""
COUNTS = ["tp", "fp", "fn", "tn"]
DISTANCES = ["assd_mm", "rmsd_mm", "hausdorff_mm", "hausdorff95_mm"]
MAIN_RULE = "roc"
"""The rule of whole cases, comparisons and claims: ROC analysis (paper 3.2.1)."""
HALF = "0.5"


@dataclass(frozen=True)
class ScoreRow:
    """A row of the score table.

    Attributes:
        seed: of the training.
        fold: of a cross-validation, from 1; 0 where there is none.
        system, phase: what was scored.
        rule: how probabilities became labels: "argmax", or a name in
            `evaluation.metrics.thresholds.RULES`.
        postprocess: options applied to the label map, joined by "+"; "none" for the label map
            itself; "" for the probabilities of each target at the rule, as in Table 1.
        chosen: whether validation data chose these options.
        cohort: "validation", "test" or "external".
        target: "liver" (tumor included) or "tumor".
        unit: "slices" (the split's slices of the case), "slice" (one of them) or "whole".
        case, patient: which case, and whose.
        slice: index of the slice in its case, for unit "slice"; else -1.
        n_slices: how many slices the counts are of.
        threshold: of the rule; None for "argmax".
        tp, fp, fn, tn: pixels or voxels.
        voxel_ml: volume of a voxel in ml, for unit "whole".
        assd_mm, rmsd_mm, hausdorff_mm, hausdorff95_mm: surface distances, for unit "whole"; None
            where a mask is empty or the spacing is nominal.
        components_rand_index: Rand index of the connected regions (paper 3.2.2), for unit "whole".
        experiment: name of the published experiment; "" for a run.
    """

    seed: int
    system: str
    phase: str
    rule: str
    cohort: str
    target: str
    unit: str
    case: str
    patient: str
    n_slices: int
    tp: int
    fp: int
    fn: int
    tn: int
    threshold: float | None = None
    postprocess: str = ""
    chosen: bool = False
    slice: int = -1
    fold: int = 0
    voxel_ml: float | None = None
    assd_mm: float | None = None
    rmsd_mm: float | None = None
    hausdorff_mm: float | None = None
    hausdorff95_mm: float | None = None
    components_rand_index: float | None = None
    experiment: str = ""


_KINDS = {"int": "int64", "str": "str", "bool": "bool", "float | None": "float64"}
COLUMNS: dict[str, str] = {field.name: _KINDS[str(field.type)] for field in fields(ScoreRow)}
"""Columns of the table and their pandas dtypes."""


def make_table(rows: Iterable[ScoreRow]) -> pd.DataFrame:
    """Return score rows as a DataFrame of `COLUMNS`."""
    table = pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS))
    return table.astype(COLUMNS)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a score table as CSV, whole or not at all; floats keep all digits."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_table(path: Path) -> pd.DataFrame:
    """Read a score table.

    Raises:
        InputError: the file is missing, damaged, or lacks a column.
    """
    texts = {name: "str" for name, kind in COLUMNS.items() if kind == "str"}
    numbers = {name: [""] for name in COLUMNS if name not in texts}
    try:
        # "NA" may be the name of a case, so only an empty number is missing.
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=numbers)
        missing = [name for name in COLUMNS if name not in table]
        if missing:
            raise InputError(f"{path}: has no column {missing[0]}; score again")
        return table[list(COLUMNS)].astype(COLUMNS)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run python -m evaluation.evaluate") from None
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged score table ({str(error).splitlines()[0]})") from None


def select(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Return rows whose columns have these values; a tuple or list is any of them."""
    chosen = np.ones(len(table), bool)
    for column, value in values.items():
        is_any = isinstance(value, list | tuple)
        chosen &= table[column].isin(value) if is_any else table[column] == value
    return table[chosen]


def counts_of(row: Any) -> Counts:
    """Return the counts of a row: a Series, a named tuple or a mapping."""
    if isinstance(row, Mapping | pd.Series):
        return Counts(*(int(row[name]) for name in COUNTS))
    return Counts(*(int(getattr(row, name)) for name in COUNTS))


def sum_counts(table: pd.DataFrame) -> Counts:
    """Return the counts of all rows together."""
    return Counts(*(int(table[name].sum()) for name in COUNTS))


def count_patients(table: pd.DataFrame) -> dict[str, Counts]:
    """Return the counts of each patient, in the order in which they come."""
    return {str(name): sum_counts(rows) for name, rows in table.groupby("patient", sort=False)}


def mean_by_patient(table: pd.DataFrame, column: str) -> dict[str, float]:
    """Return the mean of a column for each patient, over rows that have a value."""
    means = table.dropna(subset=[column]).groupby("patient", sort=False)[column].mean()
    return {str(patient): float(value) for patient, value in means.items()}


def add_metrics(table: pd.DataFrame, names: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the table with a column for each of `names`, or those of Table 1."""
    names = [name for name, metric in METRICS.items() if metric.table1] if names is None else names
    counts = [counts_of(row) for row in table[COUNTS].itertuples(index=False)]
    columns = {name: [METRICS[name].compute(count) for count in counts] for name in names}
    return table.assign(**columns)


def sort_rows(table: pd.DataFrame, by: Sequence[str] = KEYS) -> pd.DataFrame:
    """Sort rows in table order: the paper's cohorts, targets, phases, systems, rules."""
    orders = {
        "cohort": COHORTS,
        "target": TARGETS,
        "phase": PHASES,
        "system": SYSTEMS,
        # Rows are scored in the order of the registry of rules, so they come in it.
        "rule": tuple(dict.fromkeys([ARGMAX, *table.get("rule", ())])),
    }

    def rank(column: pd.Series) -> pd.Series:
        order = orders.get(str(column.name), ())
        known = {name: (index, "") for index, name in enumerate(order)}
        return column.map(lambda name: known.get(name, (len(order), name)))

    return table.sort_values(list(by), key=rank, kind="stable", ignore_index=True)


def pool(table: pd.DataFrame, by: Sequence[str] = KEYS) -> pd.DataFrame:
    """Add up the counts of the rows that share `by`, and score them as Table 1."""
    summed = table.groupby(list(by), sort=False, as_index=False, dropna=False).agg(
        threshold=("threshold", "first"),
        n_cases=("case", "nunique"),
        n_slices=("n_slices", "sum"),
        **{name: (name, "sum") for name in COUNTS},
    )
    return add_metrics(sort_rows(summed, by))


def make_table1(scores: pd.DataFrame, curves: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return Table 1: scores pooled over a cohort's pixels, and the IoU's interval.

    Args:
        scores: score table; rows of unit "slices" without post-processing count.
        curves: entries of `curves.json`, for `auc` and `rauc`.

    Returns:
        `KEYS`, what `pool` gives, `auc`, `rauc`, `iou_low`, `iou_high` (NaN without an interval),
        `n_patients`, `n_counted` (patients whose reference holds the target), `draws_skipped`.
    """
    rows = select(scores, unit=SLICES, postprocess="", fold=0)
    table = pool(rows)
    areas = {
        (curve["cohort"], curve["target"], curve["phase"], curve["system"]): curve
        for curve in curves
    }
    of_rows = [areas.get(key, {}) for key in table[KEYS[:-1]].itertuples(index=False, name=None)]
    groups = dict(iter(rows.groupby(KEYS, sort=False)))
    intervals = [
        bound_score(count_patients(groups[key]), iou)
        for key in table[KEYS].itertuples(index=False, name=None)
    ]
    return table.assign(
        auc=_numbers(curve.get("auc") for curve in of_rows),
        rauc=_numbers(curve.get("rauc") for curve in of_rows),
        iou_low=_numbers(score.low for score in intervals),
        iou_high=_numbers(score.high for score in intervals),
        n_patients=[score.n_patients for score in intervals],
        n_counted=[score.n_counted for score in intervals],
        draws_skipped=[score.skipped for score in intervals],
    )


def _numbers(values: Iterable[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], float)


Side = tuple[str, str, str]
"""System, phase and rule."""


def list_pairs(
    systems: Iterable[tuple[str, str]], rule: str = MAIN_RULE
) -> list[tuple[Side, Side]]:
    """Return what is compared by patient, under one rule, of the paper's systems.

    Each system with the one before it in each phase; balanced with cross-entropy of each system;
    the rule with a threshold of 0.5.
    """
    scored = set(systems)
    order = [name for name in SYSTEMS if any(name == system for system, _ in scored)]
    order += sorted({system for system, _ in scored} - set(SYSTEMS))
    before = {"sequential": "one_step", "joint": "sequential"}
    pairs: list[tuple[Side, Side]] = [
        ((system, phase, rule), (before.get(system, "one_step"), phase, rule))
        for system in [*before, *(name for name in order if name not in SYSTEMS)]
        for phase in PHASES
    ]
    pairs += [((system, PHASES[1], rule), (system, PHASES[0], rule)) for system in order]
    pairs += [((s, phase, rule), (s, phase, HALF)) for s in order for phase in PHASES]
    return [pair for pair in pairs if all(side[:2] in scored for side in pair)]


@dataclass(frozen=True)
class PairComparison:
    """Two systems, or two rules of one, compared by patient on a cohort and target.

    Attributes:
        first, second: the sides; the difference is first less second, of the pooled IoU.
        comparison: difference with interval, test by patient.
    """

    cohort: str
    target: str
    first: Side
    second: Side
    comparison: Comparison


def compare_pairs(scores: pd.DataFrame, rule: str = MAIN_RULE) -> list[PairComparison]:
    """Compare the IoU of `list_pairs` by patient, on every cohort and target."""
    rows = select(scores, unit=SLICES, postprocess="", fold=0)
    patients = {
        key: count_patients(group)
        for key, group in rows.groupby(["cohort", "target", "system", "phase", "rule"], sort=False)
    }
    systems = dict.fromkeys(zip(rows["system"], rows["phase"], strict=True))
    comparisons = []
    for cohort in COHORTS:
        for target in TARGETS:
            for first, second in list_pairs(systems, rule):
                sides = [patients.get((cohort, target, *side)) for side in (first, second)]
                if sides[0] and sides[1]:
                    comparison = compare(sides[0], sides[1], iou)
                    comparisons.append(PairComparison(cohort, target, first, second, comparison))
    return comparisons


def score_blind_tumor(scores: pd.DataFrame) -> dict[str, float]:
    """Return the tumor IoU of marking all reference liver, by cohort with liver."""
    rows = select(scores, unit=SLICES, postprocess="", rule=HALF, fold=0)
    blind = {}
    for cohort, group in rows.groupby("cohort", sort=False):
        first = group[["system", "phase"]].iloc[0]
        same = select(group, system=first["system"], phase=first["phase"])
        sizes = {target: _count_reference(select(same, target=target)) for target in TARGETS}
        if sizes["liver"]:
            blind[str(cohort)] = sizes["tumor"] / sizes["liver"]
    return blind


def _count_reference(table: pd.DataFrame) -> int:
    return int(table["tp"].sum() + table["fn"].sum())


def bound_column(table: pd.DataFrame, column: str) -> Interval | None:
    """Return the patients' mean of a column with its interval; None without a value."""
    values = mean_by_patient(table, column)
    return bound_mean(values.values()) if values else None
