"""What all tables are written with: scores in words, head lines, Markdown.

Markdown by hand: pandas' `to_markdown` needs tabulate, pads cells, and lets a bar or a line break
end one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import stdev
from typing import Any

from evaluation.metrics.statistics import LEAST_PATIENTS, SIMULATED, Comparison, Interval
from evaluation.metrics.thresholds import RULES
from evaluation.names import ARGMAX, SYNTHETIC, describe_origin

NO_PAPER_NUMBERS = "The paper's own Table 1 numbers are not available; none are shown."
HOW_SCORED = "Scores pooled over all pixels of a cohort; thresholds chosen on validation data."
_SIMULATED = ", ".join(f"{100 * share:.0f} % at {n}" for n, share in SIMULATED.items())
COVERAGE = f"nominal 95 %, too narrow below about 10 patients (simulated coverage {_SIMULATED})"
FEW = (
    "Patients count whose reference holds the target; "
    f"fewer than {LEAST_PATIENTS} give no interval, and their number stands in its place."
)
INTERVALS = (
    "Intervals: percentile bootstrap of the pooled score, "
    f"patients drawn with replacement, {COVERAGE}. {FEW}"
)

NO_WHOLE_CASES = (
    "\nNone: the split is by slice, and other slices of the test cases trained the run.\n"
)


def explain_rules() -> str:
    """Say what each threshold rule does."""
    rules = "; ".join(
        f"{name}: {rule.title}" if rule.title else name for name, rule in RULES.items()
    )
    argmax = f"{ARGMAX}: most probable of three classes, which the one-step model alone has"
    return f"Threshold rules: {argmax}; {rules}."


def is_known(value: float | None) -> bool:
    """Say whether there is a value: neither None nor NaN."""
    return value is not None and value == value


def write_score(value: float | None) -> str:
    """Write a score: 3 decimals, 4 near 1, never 1.000 below 1, `n/a` for none."""
    if value is None or value != value:
        return "n/a"
    if 0.9995 <= value < 1:
        return f"{value:.4f}" if value < 0.99995 else ">0.9999"
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def write_threshold(value: float | None) -> str:
    """Write a threshold, told from 0 and 1; `-` for none (argmax)."""
    if value is None or not is_known(value):
        return "-"
    distance = min(value, 1 - value)
    if distance <= 0:
        return f"{value:.3g}"
    return f"{value:.{max(3, 1 - math.floor(math.log10(distance)))}f}"


def write_count(n: int, noun: str = "patient") -> str:
    """Write how many there are: `1 patient`, `4 patients`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def write_bounds(interval: Interval, form: str = ".3f", before: str = "<br>") -> str:
    """Write the bounds of an interval; "" where there is none.

    Args:
        interval: with or without bounds.
        form: of a number.
        before: text before them.
    """
    if interval.low is None:
        return ""
    return f"{before}{interval.low:{form}} to {interval.high:{form}}"


def write_mean(interval: Interval, by_seed: Sequence[float], seeds: tuple[int, int]) -> str:
    """Write a mean over seeds with its SD, and below it its interval by patient.

    Args:
        interval: of the mean.
        by_seed: the score of each seed; no SD of one.
        seeds: in how many there is a result, and how many there are.
    """
    text = write_score(interval.value)
    text += f" ± {stdev(by_seed):.3f}" if len(by_seed) > 1 else ""
    return text + write_seeds(*seeds) + write_bounds(interval)


def write_seeds(given: int, total: int) -> str:
    """Say in how many of the seeds there is a result; "" where in all."""
    return "" if given == total else f" ({given} of {total} seeds)"


def write_difference(comparison: Comparison) -> str:
    """Write difference, interval and p: `+0.031 (-0.010 to +0.070), p 0.12`."""
    difference = comparison.difference
    text = f"{difference.value:+.3f}"
    if difference.low is not None:
        text += f" ({difference.low:+.3f} to {difference.high:+.3f})"
    return text if comparison.p_value is None else f"{text}, p {comparison.p_value:.2g}"


def write_iou_interval(row: Any) -> str:
    """Write a row's IoU interval, `0.410 to 0.630`, or the number of patients."""
    if is_known(getattr(row, "iou_low", None)):
        return f"{row.iou_low:.3f} to {row.iou_high:.3f}"
    n = getattr(row, "n_counted", getattr(row, "n_patients", None))
    return "n/a" if n is None or not is_known(n) else write_count(int(n))


def list_machines(environments: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write the machines ("cores", "processor"), each once, in order of their text."""
    return sorted(
        {f"{write_count(env['cores'], 'core')} of {env['processor']}" for env in environments}
    )


def list_commits(environments: Iterable[Mapping[str, Any]]) -> str:
    """Write the commits ("git_commit") in short, each once, sorted."""
    return ", ".join(sorted({str(e["git_commit"])[:10] for e in environments if e["git_commit"]}))


def make_caption(label: str) -> list[str]:
    """Return the lines that head every table: its data, and that they are synthetic."""
    synthetic = f"{SYNTHETIC}: computer-made images; scores on them say nothing about real CT."
    return [f"Data: {label}.", *([synthetic] if SYNTHETIC in label else [])]


def describe_data(data: Mapping[str, Any]) -> str:
    """Name the main cohort and the size of its slices: `lits, 128 px`."""
    return f"{describe_origin(dict(data))}, {data['size']} px"


def explain_joint(training: Mapping[str, Any]) -> str:
    """Say that a joint model begun with the pair trained longer, or ""."""
    if all(phase.get("start") != "pair" for phase in training["phases"]):
        return ""
    return (
        "The joint model is the sequential model's pair trained on: part of their difference is "
        "training for longer (the sweep of beta / alpha has a control).\n"
    )


def explain_blind(blind: Mapping[str, float], cohorts: Iterable[str]) -> str:
    """Say what marking the whole liver as tumor would score ("": not known)."""
    known = [f"{cohort} {write_score(blind[cohort])}" for cohort in cohorts if cohort in blind]
    text = f"Tumor IoU of marking the whole reference liver as tumor: {', '.join(known)}."
    return text + "\n\n" if known else ""


def make_head(label: str, title: str, *how: str) -> str:
    """Return the head of a page: the run, the title, and how the numbers came to be."""
    caption = "  \n".join(make_caption(label))
    return f"# {title}\n\n{caption}\n\n" + (" ".join(how) + "\n" if how else "")


def make_markdown(headings: Iterable[str], lines: Iterable[Iterable[str]], left: int) -> str:
    """Return a Markdown table.

    Args:
        headings, lines: cells as text.
        left: first columns that are text; the others are numbers.
    """
    headings = list(headings)
    rule = [":--" if index < left else "--:" for index in range(len(headings))]
    # A bar or a line break in a cell would end it.
    body = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in [headings, rule, *body])
