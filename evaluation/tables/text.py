"""What all tables are written with: a score in words, the lines that head a table, a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evaluation.metrics.statistics import LEAST_PATIENTS, SIMULATED, Comparison
from evaluation.names import SYNTHETIC
from evaluation.results import Results
from evaluation.tables.evidence import number

NO_PAPER_NUMBERS = "The paper's own Table 1 numbers are not available; none are shown."
HOW_SCORED = "Scores pooled over all pixels of a cohort; thresholds chosen on validation data."
RULES_IN_WORDS = (
    "Threshold rules: argmax: most probable of three classes, which the one-step model alone has; 0.5; roc: Youden's J "
    "on the restricted ROC curve; iou: best validation IoU."
)
_SIMULATED = ", ".join(f"{100 * share:.0f} % at {n}" for n, share in SIMULATED.items())
COVERAGE = f"nominal 95 %, too narrow below about 10 patients (simulated coverage {_SIMULATED})"
FEW = (
    f"Patients count whose reference holds the target; fewer than {LEAST_PATIENTS} give no interval, and their number "
    "stands in its place."
)
INTERVALS = f"Intervals: percentile bootstrap of the pooled score, patients drawn with replacement, {COVERAGE}. {FEW}"


def readable(value: float | None) -> str:
    """Write a score for readers: three decimals, `n/a` for None, and never 1.000 for less than 1."""
    return "n/a" if value is None else number(value)


def compared_in_words(compared: Comparison) -> str:
    """Write a difference with its interval and the p of its test: `+0.031 (-0.010 to +0.070), p 0.12`."""
    found = compared.difference
    text = f"{found.value:+.3f}"
    if found.low is not None:
        text += f" ({found.low:+.3f} to {found.high:+.3f})"
    return text if compared.p_value is None else f"{text}, p {compared.p_value:.2g}"


def patients(n: int) -> str:
    """Write how many there are: `1 patient`, `4 patients`."""
    return f"{n} patient{'' if n == 1 else 's'}"


def machines(environments: Iterable[dict[str, Any]]) -> list[str]:
    """Write the machines of these environments ("cores", "processor"), each once, in order of their text."""
    return sorted(
        {
            f"{one['cores']} core{'s'[: one['cores'] != 1]} of {one['processor']}"
            for one in environments
        }
    )


def interval_of(
    row: dict[str, Any], low: str = "iou_low", high: str = "iou_high", form: str = ".3f"
) -> str:
    """Return the 95 % interval by patient that a row holds, `0.410 to 0.630`; without one the number of patients."""
    if row.get(low) is not None:
        return f"{row[low]:{form}} to {row[high]:{form}}"
    n = row.get("n_counted", row.get("n_patients"))
    return "n/a" if n is None else patients(n)


def sample(results: Results, cohort: str) -> str:
    """Say what a cohort's scores stand on: `60 slices of 5 cases, 4 patients (tumor in 3)`."""
    slices, cases = results.sample(cohort)
    words = f"{slices} slices of {cases} case{'' if cases == 1 else 's'}"
    counts = {
        row["target"]: row
        for row in results.rows
        if row["cohort"] == cohort and "n_patients" in row
    }
    if "tumor" in counts:
        words += f", {patients(counts['tumor']['n_patients'])}"
        words += (
            f" (tumor in {counts['tumor']['n_counted']})" if "n_counted" in counts["tumor"] else ""
        )
    return words


def caption(results: Results) -> list[str]:
    """Return the lines that head every table of a run: its data, and that they are synthetic where they are."""
    lines = [f"Data: {results.label}."]
    if SYNTHETIC in results.label:
        lines.append(
            f"{SYNTHETIC}: computer-made images; scores on them say nothing about real CT."
        )
    return lines


def joint_note(results: Results) -> str:
    """Say that a joint model that began with the pair has been trained for longer than it ("": it did not)."""
    if all(phase.get("start") != "pair" for phase in results.training["phases"]):
        return ""
    return (
        "The joint model is the sequential model's pair trained on: part of their difference is training for longer "
        "(the sweep of beta / alpha has a control).\n"
    )


def page(results: Results, title: str, *how: str) -> str:
    """Return the head of a page: title, caption, and a paragraph on `how` its numbers came to be."""
    return (
        f"# {title}\n\n"
        + "  \n".join(caption(results))
        + "\n\n"
        + (" ".join(how) + "\n" if how else "")
    )


def markdown_table(headings: Iterable[str], lines: Iterable[Iterable[str]], left: int) -> str:
    """Return a Markdown table; the first `left` columns are text, the others numbers."""
    headings = list(headings)
    rule = [":--" if index < left else "--:" for index in range(len(headings))]
    # A bar or a line break in a cell would end it.
    body = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in [headings, rule, *body])
