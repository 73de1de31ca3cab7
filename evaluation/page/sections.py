"""The sections of the report that are tables: the test scores in short, every table of the run, the run's record.

All of them are made from the results, none is read from OUT/tables: a table there may be of an earlier evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from evaluation.names import LOSSES, NAMES, TARGETS
from evaluation.page.markdown import LONG, to_html
from evaluation.results import Results
from evaluation.tables.__main__ import PAGES, blind_line
from evaluation.tables.evidence import Row
from evaluation.tables.text import (
    HOW_SCORED,
    INTERVALS,
    caption,
    interval_of,
    markdown_table,
    page,
    readable,
    sample,
)

SHORT = {
    "claims": "Claims",
    "comparisons": "Compared",
    "ablation": "Ablation",
    "postprocessing": "Post-processing",
    "lits": "LiTS",
}
"""The name in the navigation of a page whose title is longer."""
BY_COHORT = ("table1", "ablation", "postprocessing", "whole_cases", "lits", "calibration")
"""The pages with a table per cohort, which are folded but those of the test set."""
ALL_FOLDED = ("lits", "calibration")
"""Of these also those of the test set."""


@dataclass(frozen=True)
class Section:
    """A section that is Markdown.

    Attributes:
        short, title: in the navigation, and above the section.
        markdown: what is in it, with a title and the caption of the run's tables, which the page leaves out.
        opened, long, fold_all: see `evaluation.page.markdown.to_html`.
    """

    short: str
    title: str
    markdown: Callable[[Results], str]
    opened: str = ""
    long: int = LONG
    fold_all: bool = False

    def html(self, results: Results, label: str) -> str:
        """Return the section's body, `label` above each of its tables."""
        text = (
            self.markdown(results)
            .partition("\n")[2]
            .replace("  \n".join(caption(results)) + "\n", "", 1)
        )
        return to_html(text, label, self.opened, self.long, self.fold_all)


def sections() -> dict[str, Section]:
    """Return all of them by the name of their anchor: test scores, the pages of `evaluation.tables`, record."""
    found = {"scores": Section("Scores", "Test scores", scores_markdown)}
    for file, title, markdown in PAGES:
        name = PurePath(file).stem
        opened, long = (
            ("" if name in ALL_FOLDED else "Test", 0) if name in BY_COHORT else ("", LONG)
        )
        found[name] = Section(
            SHORT.get(name, title), title, markdown, opened, long, fold_all=name == "claims"
        )
    return {**found, "record": Section("Record", "Record of the run", record_markdown)}


def scores_markdown(results: Results) -> str:
    """Return the IoU of every system on the test set, rule roc, with its interval by patient: the short answer."""
    rows = {
        (row["model"], row["loss"], row["target"]): row
        for row in results.rows
        if (row["cohort"], row["threshold_rule"]) == ("test", "roc")
    }
    lines = []
    for model in results.models:
        for loss in LOSSES:
            found = [rows.get((model, loss, target)) for target in TARGETS]
            lines.append([NAMES[model], NAMES[loss], *map(_with_interval, found)])
    how = f"IoU, below it its 95 % interval; threshold rule roc; {sample(results, 'test')}. {HOW_SCORED}"
    text = page(results, "Test scores", how) + "\n" + blind_line(results.summary["data"], ["test"])
    text += markdown_table(("model", "loss", "liver IoU", "tumor IoU"), lines, left=2)
    return f"{text}\n{INTERVALS}\n"


def _with_interval(row: Row | None) -> str:
    return f"{readable(row['iou'])}<br>{interval_of(row)}" if row else "no result"


def record_markdown(results: Results) -> str:
    """Return the run's record: seed, data with the hash of its split, settings as resolved, machines and versions."""
    summary, data = results.summary, results.summary["data"]
    run = {"preset": summary["preset"], "seed": summary["seed"]}
    run |= {key: value for key, value in data.items() if key not in ("external", "blind_tumor_iou")}
    run |= {f"external {key}": value for key, value in (data["external"] or {}).items()}
    parts = [
        ("Run and data", run),
        ("Settings of the preset, as resolved", results.training["settings"]),
    ]
    trained_on = summary.get("trained_on", [])
    for number, environment in enumerate(trained_on, start=1):
        parts.append((f"Trained on{f', {number}' if len(trained_on) > 1 else ''}", environment))
    parts.append(("Evaluated on", summary.get("environment") or {}))
    text = "# Record\n\n"
    for title, content in parts:
        lines = [[key.replace("_", " "), in_words(value)] for key, value in content.items()]
        text += f"## {title}\n\n" + markdown_table(("what", "value"), lines, left=2) + "\n"
    return text + "Times of each step: see Training.\n"


def in_words(value: Any) -> str:
    """Write a recorded value: names and numbers as they are, several with commas."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_words(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(in_words, value)) or "none"
    return (
        {None: "none", True: "yes", False: "no"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )
