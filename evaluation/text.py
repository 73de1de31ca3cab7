"""What all tables are written with: a score in words, the lines that head a table, a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from evaluation.evidence import number
from evaluation.names import SYNTHETIC
from evaluation.results import Results

NO_PAPER_NUMBERS = "The paper's own Table 1 numbers are not available; none are shown."
HOW_SCORED = "Scores pooled over all pixels of a cohort; thresholds chosen on validation data."


def readable(value: float | None) -> str:
    """Write a score for readers: three decimals, `n/a` for None, and never 1.000 for less than 1."""
    return "n/a" if value is None else number(value)


def caption(results: Results) -> list[str]:
    """Return the lines that head every table of a run."""
    lines = [f"Data: {results.label}.", HOW_SCORED, NO_PAPER_NUMBERS]
    if SYNTHETIC in results.label:
        lines.insert(1, f"{SYNTHETIC}: computer-made images; scores on them say nothing about real CT.")
    return lines


def markdown_table(headings: Iterable[str], lines: Iterable[Iterable[str]], left: int) -> str:
    """Return a Markdown table; the first `left` columns are text, the others numbers."""
    headings = list(headings)
    rule = [":--" if index < left else "--:" for index in range(len(headings))]
    # A bar or a line break in a cell would end it.
    body = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in [headings, rule, *body])
