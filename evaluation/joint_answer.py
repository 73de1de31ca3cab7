"""Does joint training beat the sequential model? Table and figure of the sweep, over seeds (paper 2.1, 2.4).

    python -m evaluation.joint_answer --out DIR SWEEP [SWEEP ...]
    python -m evaluation.joint_answer --publish NAME SWEEP [SWEEP ...]

Each SWEEP is a joint_sweep.json of `evaluation.joint_sweep`, one a seed. `--out` writes joint.md and fig_joint there;
`--publish` copies the sweeps to evaluation/published/NAME, writes both beside them and rewrites the README's block of
that name (without a SWEEP: from those that lie there). Scores are means over the seeds; intervals and tests are by
patient, of these means. Which point is best is read from validation data (`best_on_validation`), not from the scores.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.command import InputError, run_command
from evaluation import by_seed
from evaluation.figures.joint import draw
from evaluation.metrics.counts import Counts, dice, iou
from evaluation.metrics.statistics import (
    LEAST_PATIENTS,
    Comparison,
    bound_mean_score,
    by_patient,
    compare_over_seeds,
)
from evaluation.names import TARGETS, UNSEEN, origin
from evaluation.tables.text import (
    COVERAGE,
    compared_in_words,
    machines,
    markdown_table,
    patients,
    readable,
)

AGAINST = {
    "against_pair": "sequential",
    "against_control": "control of that ratio",
    "against_preferred": "control that validation prefers",
}
"""What a point is held against: key of `answers`, and how the tables name it."""
DIFFERENCES = [
    f"{target} IoU - {other}" for target in ("tumor", "liver") for other in AGAINST.values()
]
FEW = f"{COVERAGE}, none with fewer than {LEAST_PATIENTS} whose reference holds the target"
TESTS = (
    "Intervals and p are over patients, for the mean of the seeds. p: Wilcoxon, of 5 patients at least 0.062, of 6 at "
    "least 0.031, not corrected for their number: read none as significant."
)
CONTROL = (
    "Control: the pair trained for as many epochs more at the same weights of the terms, behind the thresholded mask, "
    "through which no gradient passes"
)
"""What the notes below both tables say."""

Row = dict[str, Any]
SCHEMA = 1
"""Form of joint_sweep.json."""


def main() -> None:
    """Write table and figure of the sweeps, or publish them."""
    by_seed.run(SWEEP, "joint_answer", "Table and figure of the joint loss's sweep.")


def check(first: Row, sweep: Row, path: Path) -> None:
    """Check that a sweep has the points and patients of the first one.

    Raises:
        InputError: it has others.
    """
    if [point["name"] for point in sweep["points"]] != [point["name"] for point in first["points"]]:
        raise InputError(f"{path}: other points than the first sweep")
    if {row["patient"] for row in sweep["counts"]} != {row["patient"] for row in first["counts"]}:
        raise InputError(f"{path}: other patients than the first sweep")


def answers(sweeps: Sequence[Row]) -> list[Row]:
    """Return a row for each cohort, target and point.

    Returns:
        {"cohort", "target", "name", "start", "ratio", "mask", "n_seeds" (of "n_sweeps"), "iou" and "dice" (mean over
        the seeds), "iou_sd" and "dice_sd" (None for one seed), "iou_by_seed", "iou_interval" and "dice_interval" (by
        patient, an `evaluation.metrics.statistics.Interval`), "n_counted" (patients that have the target), and for
        each key of `AGAINST` the difference in IoU with interval and test (None where there is none), and under
        "<key>_seeds" the number of seeds that have both}.
        A seed in which the point or what it is held against failed does not count; without any seed scores are None.
        Times and memory in the records are no measure of a point: a sweep shares a process, and often a machine;
        `tests.benchmarks.joint` measures both.
    """
    cohorts = [
        cohort for cohort in UNSEEN if any(row["cohort"] == cohort for row in sweeps[0]["counts"])
    ]
    return [
        answer(sweeps, cohort, target, point["name"])
        for cohort in cohorts
        for target in TARGETS
        for point in sweeps[0]["points"]
    ]


def answer(sweeps: Sequence[Row], cohort: str, target: str, name: str) -> Row:
    """Return one row of `answers`."""
    point = point_of(sweeps[0], name)
    ratio = point["beta"] / point["alpha"] if point["alpha"] else None
    row: Row = {
        "cohort": cohort,
        "target": target,
        "name": name,
        "start": point["start"],
        "ratio": ratio,
    }
    row |= {"mask": point["mask"]}
    scored = [(sweep, counts_of(sweep, cohort, target, name)) for sweep in sweeps]
    scored = [(sweep, counts) for sweep, counts in scored if counts]
    row |= {"n_seeds": len(scored), "n_sweeps": len(sweeps), "iou_by_seed": [], "n_counted": None}
    for score in (iou, dice):
        values = [score(sum(counts.values(), Counts())) for _, counts in scored]
        kind = score.__name__
        row |= {kind: statistics.fmean(values) if values else None, f"{kind}_interval": None}
        row[f"{kind}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        if score is iou:
            row["iou_by_seed"] = values
        if scored:
            row[f"{kind}_interval"] = bound_mean_score([counts for _, counts in scored], score)
            row["n_counted"] = row[f"{kind}_interval"].n_counted
    preferred = "" if is_reference(point) else best_of(sweeps, controls_of(sweeps[0]))
    for key, other in zip(
        AGAINST, ("sequential", control_of(sweeps[0], name), preferred or ""), strict=True
    ):
        row |= {key: None, f"{key}_seeds": 0}
        both = [(counts, counts_of(sweep, cohort, target, other)) for sweep, counts in scored]
        both = [(one, held) for one, held in both if held]
        if both and other != name:
            row[key] = compare_over_seeds([one for one, _ in both], [held for _, held in both], iou)
            row[f"{key}_seeds"] = len(both)
    return row


def control_of(sweep: Row, name: str) -> str:
    """Return the name of the control of a point: the same start and ratio with the hard mask; "" where none is."""
    point = point_of(sweep, name)
    if is_reference(point):
        return ""
    same = ("start", "alpha", "beta")
    alike = [
        one
        for one in sweep["points"]
        if one["mask"] == "hard" and all(one[key] == point[key] for key in same)
    ]
    return alike[0]["name"] if alike else ""


def controls_of(sweep: Row) -> list[str]:
    """Return the names of the controls: the points behind the hard mask."""
    return [point["name"] for point in sweep["points"] if point["mask"] == "hard"]


def point_of(sweep: Row, name: str) -> Row:
    """Return a point of a sweep by its name."""
    found: Row = next(point for point in sweep["points"] if point["name"] == name)
    return found


def is_reference(point: Row) -> bool:
    """Whether a point is one that joint training is held against: a model without it, or the control."""
    return point["start"] is None or point["mask"] == "hard"


def counts_of(sweep: Row, cohort: str, target: str, name: str) -> dict[str, Counts]:
    """Return the counts of a point by patient; empty where it gave no result."""
    wanted = (cohort, target, name)
    return by_patient(
        row for row in sweep["counts"] if (row["cohort"], row["target"], row["point"]) == wanted
    )


def in_words(row: Row) -> str:
    """Name a point for readers."""
    if row["name"] in ("one_step", "sequential"):
        return row["name"].replace("_", "-")
    start = "from the pair" if row["start"] == "pair" else "from scratch"
    control = ", hard mask (control)" if row["mask"] == "hard" else ""
    return f"joint {start}, beta / alpha {row['ratio']:.3g}{control}"


def caption(sweeps: Sequence[Row]) -> str:
    """Return the lines above the table: data, seeds, rule, machine."""
    first, data = sweeps[0], sweeps[0]["data"]
    sets = ", ".join(
        f"{data[f'{name}_slices']} {name} slices of {data[f'{name}_cases']} cases" for name in SETS
    )
    external = f"; external: {origin(data['external'])}" if data["external"] else ""
    trained = machines(point["environment"] for sweep in sweeps for point in sweep["points"])
    seeds = ", ".join(str(sweep["seed"]) for sweep in sweeps)
    commits = {point["environment"]["git_commit"] for sweep in sweeps for point in sweep["points"]}
    trained.append(
        "trained at commit " + ", ".join(sorted(commit[:10] for commit in commits if commit))
    )
    return (
        f"Data: {origin(data)}, {data['size']} px; {sets}{external}. Preset `{first['preset']}`, seed {seeds}; "
        f"cross-entropy, threshold rule {first['rule']}, found on validation data; {'; '.join(trained)}."
    )


SETS = ("train", "validation", "test")


def tables(sweeps: Sequence[Row]) -> str:
    """Return a table per cohort: every point with its scores, and its differences from pair and control."""
    rows = answers(sweeps)
    headings = [
        "model",
        "validation",
        *(f"{target} {score}" for target in TARGETS for score in ("IoU", "Dice")),
    ]
    headings += DIFFERENCES
    text = ""
    for cohort in dict.fromkeys(row["cohort"] for row in rows):
        mine = {(row["target"], row["name"]): row for row in rows if row["cohort"] == cohort}
        lines = []
        for name in dict.fromkeys(row["name"] for row in rows):
            liver, tumor = mine["liver", name], mine["tumor", name]
            cells = [in_words(tumor), validation(sweeps, name)]
            cells += [cell(row, score) for row in (liver, tumor) for score in ("iou", "dice")]
            lines.append([*cells, *differences(liver, tumor)])
        counted = mine["tumor", "sequential"]["n_counted"]
        text += f"\n{cohort.capitalize()}{'' if counted is None else f', {patients(counted)} with tumor'}:\n\n"
        text += markdown_table(*without_empty(headings, lines), left=1)
    return text.lstrip() + (
        "\nMean ± SD over the seeds; below it the interval by patient of that mean. Differences: IoU less that of the "
        f"sequential model or of a control, with interval and p by patient. {TESTS} "
        f"Intervals: percentile bootstrap of the pooled score, patients drawn with replacement, {FEW}. {CONTROL}. "
        "Validation: mean IoU of liver and tumor on validation data; **bold**: the "
        "best joint point, the one to be read against the sequential model.\n"
    )


def summary(sweeps: Sequence[Row]) -> str:
    """Return one table: the models beside joint training, of each start the best point on validation data, controls."""
    rows = answers(sweeps)
    best = [best_on_validation(sweeps, start) for start in ("pair", "scratch")]
    names = list(dict.fromkeys(row["name"] for row in rows))
    wanted = {
        *best,
        best_of(sweeps, controls_of(sweeps[0])),
        *(control_of(sweeps[0], name) for name in best if name),
    }
    shown = [name for name in names if name in wanted or point_of(sweeps[0], name)["start"] is None]
    headings = ["cohort", "model", "validation", "liver IoU", "tumor IoU", *DIFFERENCES]
    lines = []
    for cohort in dict.fromkeys(row["cohort"] for row in rows):
        mine = {(row["target"], row["name"]): row for row in rows if row["cohort"] == cohort}
        counted = mine["tumor", "sequential"]["n_counted"]
        said = cohort if counted is None else f"{cohort}, {patients(counted)} with tumor"
        for name in shown:
            liver, tumor = mine["liver", name], mine["tumor", name]
            cells = [
                said,
                in_words(tumor),
                validation(sweeps, name),
                cell(liver, "iou"),
                cell(tumor, "iou"),
            ]
            lines.append([*cells, *differences(liver, tumor)])
    return markdown_table(*without_empty(headings, lines), left=2) + (
        "\nOf each start the beta / alpha that validation data prefers (mean IoU of liver and tumor there); **bold**: "
        f"the better start. {CONTROL}: the one of the same weights, and the one that validation data prefers. Mean ± "
        f"SD over the seeds; below it, and in brackets, intervals by patient, {FEW}. {TESTS}\n"
    )


def on_validation(sweeps: Sequence[Row], name: str) -> float | None:
    """Return the mean over seeds and targets of a point's validation IoU; None where a seed gave no result."""
    found = [point_of(sweep, name) for sweep in sweeps]
    if any(point["why"] for point in found):
        return None
    return statistics.fmean(value for point in found for value in point["validation_iou"].values())


def best_on_validation(sweeps: Sequence[Row], start: str | None = None) -> str | None:
    """Return the joint point with the best validation IoU: what a user would take, with no look at the test set.

    Args:
        sweeps: one a seed.
        start: "pair" or "scratch"; None: of both.
    """
    joint = [point for point in sweeps[0]["points"] if not is_reference(point)]
    names = [point["name"] for point in joint if start in (None, point["start"])]
    return best_of(sweeps, names)


def best_of(sweeps: Sequence[Row], names: Sequence[str]) -> str | None:
    """Return which of these points has the best validation IoU; None where none has one in every seed."""
    scored = {name: value for name in names if (value := on_validation(sweeps, name)) is not None}
    return max(scored, key=lambda name: scored[name], default=None)


def validation(sweeps: Sequence[Row], name: str) -> str:
    """Return the validation IoU of a point, bold for the best joint one."""
    text = readable(on_validation(sweeps, name))
    return f"**{text}**" if name == best_on_validation(sweeps) else text


def cell(row: Row, score: str) -> str:
    """Return mean ± SD of a score ("iou" or "dice") and below it its interval by patient."""
    if row[score] is None:
        return "no result"
    text = readable(row[score]) + (
        f" ± {row[f'{score}_sd']:.3f}" if row[f"{score}_sd"] is not None else ""
    )
    text += (
        f" ({row['n_seeds']} of {row['n_sweeps']} seeds)"
        if row["n_seeds"] < row["n_sweeps"]
        else ""
    )
    found = row[f"{score}_interval"]
    return text if found.low is None else f"{text}<br>{found.low:.3f} to {found.high:.3f}"


def without_empty(
    headings: Sequence[str], lines: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Leave out the columns in which no line has anything, as of the controls that a sweep does without."""
    kept = [place for place in range(len(headings)) if any(line[place] for line in lines)]
    return [headings[place] for place in kept], [[line[place] for place in kept] for line in lines]


def differences(liver: Row, tumor: Row) -> list[str]:
    """Return the cells of `DIFFERENCES` of a point's two rows."""
    return [difference(row, key) for row in (tumor, liver) for key in AGAINST]


def difference(row: Row, key: str) -> str:
    """Return a difference of a row (a key of `AGAINST`) with its interval and test."""
    against: Comparison | None = row[key]
    if against is None:
        return ""
    text = compared_in_words(against)
    n_seeds = row[f"{key}_seeds"]
    return text if n_seeds == row["n_sweeps"] else f"{text} ({n_seeds} of {row['n_sweeps']} seeds)"


SWEEP = by_seed.Kind(
    name="joint_sweep",
    made_by="evaluation.joint_sweep",
    schema=SCHEMA,
    needed=("preset", "seed", "data", "rule", "points", "counts"),
    same=("preset", "data", "rule"),
    check=check,
    title="Joint loss",
    page="joint.md",
    figure_name="fig_joint",
    caption=caption,
    tables=tables,
    summary=summary,
    figure=lambda sweeps: draw(answers(sweeps), caption(sweeps)),
    picture=lambda data: f"IoU by beta / alpha, {origin(data)}",
)


if __name__ == "__main__":
    run_command(main, "evaluation.joint_answer")
