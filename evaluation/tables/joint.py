"""The sweep of beta / alpha: joint training beside the sequential model.

Paper 2.1, 2.4. Scores are means over seeds; intervals and tests of them are by patient. The best
point is read from validation data (`Sweeps.find_best`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from data.command import InputError
from evaluation.metrics.counts import Counts, dice, iou
from evaluation.metrics.statistics import (
    LEAST_PATIENTS,
    Comparison,
    Interval,
    bound_mean_score,
    compare_over_seeds,
)
from evaluation.names import (
    PAPER_SYSTEMS,
    PHASES,
    SLICES,
    SYSTEMS,
    TARGETS,
    UNSEEN,
    describe_origin,
    spell_system,
)
from evaluation.results import Results
from evaluation.score_table import MAIN_RULE, count_patients, select
from evaluation.tables.text import (
    COVERAGE,
    describe_data,
    list_commits,
    list_machines,
    make_markdown,
    write_count,
    write_difference,
    write_mean,
    write_score,
    write_seeds,
)

TITLE = "Joint loss"
SWEEP = "sweep_"
"""Beginning of the phase of a sweep's point."""
PAIR = ("sequential", PHASES[0])
AGAINST = {
    "pair": "sequential",
    "control": "control of that ratio",
    "preferred": "control that validation prefers",
}
"""What a point is held against, and how the tables name it."""
DIFFERENCES = [
    f"{target} IoU - {name}" for target in ("tumor", "liver") for name in AGAINST.values()
]
BY_PATIENT = f"{COVERAGE}, none with fewer than {LEAST_PATIENTS} whose reference holds the target"
TESTS = (
    "Intervals and p are over patients, for the mean of the seeds. p: Wilcoxon, of 5 patients at "
    "least 0.062, of 6 at least 0.031, not corrected for their number: read none as significant."
)
CONTROL = (
    "Control: the pair trained for as many epochs more at the same weights of the terms, behind "
    "the thresholded mask, through which no gradient passes"
)

System = tuple[str, str]
"""System and phase."""
Patients = dict[str, Counts]


@dataclass(frozen=True)
class Point:
    """A point of the sweep, or a system beside it.

    Attributes:
        key: system and phase.
        start: "pair" or "scratch"; None of a system beside joint training.
        alpha, beta: weights of the terms.
        mask: "hard" of a control.
    """

    key: System
    start: str | None = None
    alpha: float | None = None
    beta: float | None = None
    mask: str | None = None

    @property
    def ratio(self) -> float | None:
        """beta / alpha."""
        return None if not self.alpha or self.beta is None else self.beta / self.alpha

    @property
    def is_control(self) -> bool:
        """Whether it is a control, behind the hard mask."""
        return self.mask == "hard"

    @property
    def is_joint(self) -> bool:
        """Whether it is joint training itself: neither a control nor a system beside it."""
        return self.start is not None and not self.is_control

    @property
    def name(self) -> str:
        """Name for readers."""
        if self.start is None:
            return spell_system(self.key[0])
        start = "from the pair" if self.start == "pair" else "from scratch"
        control = ", hard mask (control)" if self.is_control else ""
        return f"joint {start}, beta / alpha {self.ratio:.3g}{control}"


@dataclass(frozen=True)
class MeanScore:
    """A score over seeds: mean with interval by patient, and each seed's."""

    interval: Interval
    by_seed: list[float]


@dataclass(frozen=True)
class PointScore:
    """The scores of a point on a cohort and target.

    Attributes:
        cohort, target, point: what was scored.
        n_seeds: how many of `n_records` gave a result.
        iou, dice: None without any seed.
        against: IoU differences by key of `AGAINST`, and in how many seeds both gave a result.
    """

    cohort: str
    target: str
    point: Point
    n_seeds: int
    n_records: int
    iou: MeanScore | None = None
    dice: MeanScore | None = None
    against: Mapping[str, tuple[Comparison, int]] = field(default_factory=dict)

    @property
    def n_counted(self) -> int | None:
        """Patients whose reference holds the target."""
        return None if self.iou is None else self.iou.interval.n_counted


def list_points(results: Results) -> dict[Point, dict[str, Any]]:
    """Return a run's sweep points and the systems beside, with their entries."""
    points = {}
    for entry in results.summary["systems"]:
        key = entry["system"], entry["phase"]
        is_beside = key[0] in PAPER_SYSTEMS and key[1] == PHASES[0]
        if is_beside or key[1].startswith(SWEEP):
            settings = (
                {} if is_beside else {k: entry[k] for k in ("start", "alpha", "beta", "mask")}
            )
            points[Point(key, **settings)] = entry
    return dict(sorted(points.items(), key=lambda item: _rank(item[0])))


def _rank(point: Point) -> tuple[Any, ...]:
    """Return a point's place: controls, from the pair, from scratch, by ratio."""
    is_late = point.start is not None and not point.is_control
    return SYSTEMS.index(point.key[0]), is_late, point.start or "", point.ratio or 0.0


class Sweeps:
    """The sweeps of several seeds."""

    def __init__(self, records: Sequence[Results]) -> None:
        """Index the points and the counts by patient of each seed."""
        self.records = records
        self.entries = [list_points(results) for results in records]
        self.points = list(self.entries[0])
        self.patients: list[dict[tuple[str, ...], Patients]] = []
        for results in records:
            rows = select(results.scores, unit=SLICES, postprocess="", rule=MAIN_RULE)
            groups = rows.groupby(["cohort", "target", "system", "phase"], sort=False)
            self.patients.append({key: count_patients(group) for key, group in groups})

    @property
    def cohorts(self) -> list[str]:
        """Test and external, where they were scored."""
        return [name for name in UNSEEN if any(key[0] == name for key in self.patients[0])]

    @cached_property
    def scores(self) -> list[PointScore]:
        """A score for each cohort, target and point."""
        return [
            self.score(cohort, target, point)
            for cohort in self.cohorts
            for target in TARGETS
            for point in self.points
        ]

    def score(self, cohort: str, target: str, point: Point) -> PointScore:
        """Return a point's scores over the seeds.

        Recorded times and memory are no measure of a point, as a sweep shares a process;
        `tests.benchmarks.joint` measures both.

        Args:
            cohort, target, point: what is scored.
        """

        def list_counts(other: Point) -> list[Patients]:
            return [seed.get((cohort, target, *other.key), {}) for seed in self.patients]

        counts = list_counts(point)
        scored = [patients for patients in counts if patients]
        head = cohort, target, point, len(scored), len(self.records)
        if not scored:
            return PointScore(*head)
        against = {}
        for name, other in self._list_against(point).items():
            if other is None or other == point:
                continue
            sides = zip(counts, list_counts(other), strict=True)
            both = [side for side in sides if all(side)]
            if both:
                first, second = zip(*both, strict=True)
                against[name] = compare_over_seeds(first, second, iou), len(both)
        return PointScore(*head, _average(scored, iou), _average(scored, dice), against)

    def _list_against(self, point: Point) -> dict[str, Point | None]:
        """Return what a point is held against, by key of `AGAINST`."""
        pair = next(other for other in self.points if other.key == PAIR)
        preferred = self.find_preferred(other for other in self.points if other.is_control)
        control = self.find_control(point)
        others = pair, control, preferred if point.is_joint else None
        return dict(zip(AGAINST, others, strict=True))

    def find_control(self, point: Point) -> Point | None:
        """Return the control of a point: the same start and ratio behind the hard mask."""
        if not point.is_joint:
            return None
        same = (point.start, point.alpha, point.beta)
        controls = [other for other in self.points if other.is_control]
        return next((c for c in controls if (c.start, c.alpha, c.beta) == same), None)

    def measure_validation(self, point: Point) -> float | None:
        """Return the mean validation IoU over seeds, targets; None if a seed failed."""
        entries = [entries[point] for entries in self.entries]
        if any(entry["status"] != "ok" for entry in entries):
            return None
        return statistics.fmean(v for entry in entries for v in entry["validation_iou"].values())

    def find_best(self, start: str | None = None) -> Point | None:
        """Return the joint point of the best validation IoU, of one start or of both."""
        joint = [point for point in self.points if point.is_joint]
        return self.find_preferred(point for point in joint if start in (None, point.start))

    def find_preferred(self, points: Iterable[Point]) -> Point | None:
        """Return the point validation data prefers; None if none has every seed."""
        values = {point: self.measure_validation(point) for point in points}
        known = {point: value for point, value in values.items() if value is not None}
        return max(known, key=lambda point: known[point], default=None)

    def write_validation(self, point: Point) -> str:
        """Write the validation IoU of a point, bold for the best joint one."""
        text = write_score(self.measure_validation(point))
        return f"**{text}**" if point == self.find_best() else text


def _average(seeds: Sequence[Patients], score: Callable[[Counts], float]) -> MeanScore:
    by_seed = [score(sum(patients.values(), Counts())) for patients in seeds]
    return MeanScore(bound_mean_score(seeds, score), by_seed)


def check_sweep(first: Results, other: Results) -> None:
    """Check that a sweep has the points and patients of the first one.

    Raises:
        InputError: it has others, or none.
    """
    if not any(point.start for point in list_points(other)):
        raise InputError(f"{other.path}: no point of the sweep was scored")
    if list(list_points(other)) != list(list_points(first)):
        raise InputError(f"{other.path}: other points than the first sweep")
    if set(other.scores["patient"]) != set(first.scores["patient"]):
        raise InputError(f"{other.path}: other patients than the first sweep")


def describe_sweep(records: Sequence[Results]) -> str:
    """Return the lines above the table: data, seeds, rule, machine."""
    data = records[0].data
    sets = ", ".join(
        f"{data[f'{name}_slices']} {name} slices of {data[f'{name}_cases']} cases"
        for name in ("train", "validation", "test")
    )
    external = f"; external: {describe_origin(data['external'])}" if data["external"] else ""
    trained = [e["trained_on"] for results in records for e in list_points(results).values()]
    machines = list_machines(trained)
    machines.append(f"trained at commit {list_commits(trained)}")
    seeds = ", ".join(str(results.seed) for results in records)
    return (
        f"Data: {describe_data(data)}; {sets}{external}. Preset `{records[0].summary['preset']}`, "
        f"seed {seeds}; cross-entropy, threshold rule {MAIN_RULE}, found on validation data; "
        f"{'; '.join(machines)}."
    )


def make_joint(results: Results) -> str:
    """Return the page of one run's sweep; "" without one."""
    if not any(point.start for point in list_points(results)):
        return ""
    return make_joint_page([results])


def make_joint_page(records: Sequence[Results]) -> str:
    """Return a table per cohort: every point with its scores and its differences."""
    sweeps = Sweeps(records)
    headings = ["model", "validation"]
    headings += [f"{target} {score}" for target in TARGETS for score in ("IoU", "Dice")]
    blocks = []
    for cohort in sweeps.cohorts:
        lines = []
        for liver, tumor in _iterate_points(sweeps, cohort):
            scores = [
                (row, row_score) for row in (liver, tumor) for row_score in (row.iou, row.dice)
            ]
            cells = [tumor.point.name, sweeps.write_validation(tumor.point)]
            cells += [_write_cell(row, score) for row, score in scores]
            lines.append([*cells, *_list_differences(liver, tumor)])
        head = _name_cohort(sweeps, cohort, cohort.capitalize())
        blocks.append(f"{head}:\n\n{_make_table([*headings, *DIFFERENCES], lines, left=1)}")
    return (
        f"# {TITLE}\n\n{describe_sweep(records)}\n\n"
        + "\n".join(blocks)
        + (
            "\nMean ± SD over the seeds; below it the interval by patient of that mean. "
            "Differences: IoU less that of the sequential model or of a control, with interval and "
            f"p by patient. {TESTS} Intervals: percentile bootstrap of the pooled score, patients "
            f"drawn with replacement, {BY_PATIENT}. {CONTROL}. Validation: mean IoU of liver and "
            "tumor on validation data; **bold**: the best joint point, the one to be read against "
            "the sequential model.\n"
        )
    )


def summarise_sweep(records: Sequence[Results]) -> list[str]:
    """Return the paragraphs of the README's block: best points on validation data."""
    sweeps = Sweeps(records)
    best = [point for start in ("pair", "scratch") if (point := sweeps.find_best(start))]
    shown = {*best, *(sweeps.find_control(point) for point in best)}
    shown.add(sweeps.find_preferred(point for point in sweeps.points if point.is_control))
    lines = []
    for cohort in sweeps.cohorts:
        head = _name_cohort(sweeps, cohort, cohort)
        for liver, tumor in _iterate_points(sweeps, cohort):
            point = tumor.point
            if point.start is None or point in shown:
                cells = [head, point.name, sweeps.write_validation(point)]
                cells += [_write_cell(row, row.iou) for row in (liver, tumor)]
                lines.append([*cells, *_list_differences(liver, tumor)])
    headings = ["cohort", "model", "validation", "liver IoU", "tumor IoU", *DIFFERENCES]
    notes = (
        "Of each start the beta / alpha that validation data prefers (mean IoU of liver and tumor "
        f"there); **bold**: the better start. {CONTROL}: the one of the same weights, and the one "
        "that validation data prefers. Mean ± SD over the seeds; below it, and in brackets, "
        f"intervals by patient, {BY_PATIENT}. {TESTS}"
    )
    return [describe_sweep(records), _make_table(headings, lines, left=2), notes]


def _iterate_points(sweeps: Sweeps, cohort: str) -> Iterable[tuple[PointScore, PointScore]]:
    """Yield the liver's and the tumor's score of each point."""
    liver, tumor = (
        [s for s in sweeps.scores if (s.cohort, s.target) == (cohort, target)] for target in TARGETS
    )
    return zip(liver, tumor, strict=True)


def _name_cohort(sweeps: Sweeps, cohort: str, name: str) -> str:
    """Name a cohort, and its patients with tumor where the pair was scored."""
    pair = next(tumor for _, tumor in _iterate_points(sweeps, cohort) if tumor.point.key == PAIR)
    n = pair.n_counted
    return name if n is None else f"{name}, {write_count(n)} with tumor"


def _write_cell(row: PointScore, score: MeanScore | None) -> str:
    """Write mean ± SD of a score and below it its interval by patient."""
    if score is None:
        return "no result"
    return write_mean(score.interval, score.by_seed, (row.n_seeds, row.n_records))


def _list_differences(liver: PointScore, tumor: PointScore) -> list[str]:
    """Return the cells of `DIFFERENCES` of a point's two scores."""
    cells = []
    for row in (tumor, liver):
        for name in AGAINST:
            comparison, n_seeds = row.against.get(name, (None, 0))
            seeds = write_seeds(n_seeds, row.n_records)
            cells.append(write_difference(comparison) + seeds if comparison else "")
    return cells


def _make_table(headings: Sequence[str], lines: Sequence[Sequence[str]], left: int) -> str:
    """Return a table without the columns that are empty in every line."""
    shown = [place for place in range(len(headings)) if any(line[place] for line in lines)]
    cells = [[line[place] for place in shown] for line in lines]
    return make_markdown([headings[place] for place in shown], cells, left)
