"""The report's sections of tables: test scores, every table of the run, record.

All are made from the results: OUT/tables may be of an earlier evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evaluation.names import NAMES, TARGETS
from evaluation.page.markdown import LONG, write_html
from evaluation.results import Results
from evaluation.score_table import MAIN_RULE
from evaluation.tables.registry import TABLES
from evaluation.tables.text import (
    HOW_SCORED,
    INTERVALS,
    explain_blind,
    make_caption,
    make_head,
    make_markdown,
    write_iou_interval,
    write_score,
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
        short, title: in the navigation, above the section.
        make: its Markdown; the page leaves out title and the run's caption.
        opened, long, fold_all: see `evaluation.page.markdown.write_html`.
    """

    short: str
    title: str
    make: Callable[[Results], str]
    opened: str = ""
    long: int = LONG
    fold_all: bool = False

    def write_html(self, results: Results, label: str) -> str:
        """Return the section's body, `label` above each table; "" for none."""
        caption = "  \n".join(make_caption(results.label)) + "\n"
        text = self.make(results).partition("\n")[2].replace(caption, "", 1)
        return write_html(text, label, self.opened, self.long, self.fold_all)


def list_sections() -> dict[str, Section]:
    """Return every section by its anchor: test scores, tables, record."""
    sections = {"scores": Section("Scores", "Test scores", make_scores)}
    for name, table in TABLES.items():
        opened, long = "", LONG
        if name in BY_COHORT:
            opened, long = "" if name in ALL_FOLDED else "Test", 0
        short = SHORT.get(name, table.title)
        sections[name] = Section(short, table.title, table.make, opened, long, name == "claims")
    return {**sections, "record": Section("Record", "Record of the run", make_record)}


def make_scores(results: Results) -> str:
    """Return the IoU of every system on the test set, rule roc, with its interval."""
    lines = []
    for system, phase in results.list_systems():
        cells = [NAMES.get(system, system), NAMES.get(phase, phase)]
        key = {"cohort": "test", "system": system, "phase": phase, "rule": MAIN_RULE}
        for row in (results.find(target=target, **key) for target in TARGETS):
            known = row and f"{write_score(row.iou)}<br>{write_iou_interval(row)}"
            cells.append(known or "no result")
        lines.append(cells)
    how = (
        "IoU, below it its 95 % interval; threshold rule roc; "
        f"{results.describe_sample('test')}. {HOW_SCORED}"
    )
    text = make_head(results.label, "Test scores", how) + "\n"
    text += explain_blind(results.blind_tumor_iou, ["test"])
    text += make_markdown(("model", "loss", "liver IoU", "tumor IoU"), lines, left=2)
    return f"{text}\n{INTERVALS}\n"


def make_record(results: Results) -> str:
    """Return the run's record: seed, data, split, settings, machines, versions."""
    summary, data = results.summary, results.data
    run = {"preset": summary["preset"], "seed": summary["seed"]}
    run |= {key: value for key, value in data.items() if key not in ("external", "blind_tumor_iou")}
    run |= {f"external {key}": value for key, value in (data["external"] or {}).items()}
    parts = [("Run and data", run)]
    parts.append(("Settings of the preset, as resolved", results.training["settings"]))
    machines = summary.get("trained_on", [])
    for number, environment in enumerate(machines, start=1):
        parts.append((f"Trained on{f', {number}' * (len(machines) > 1)}", environment))
    parts.append(("Evaluated on", summary.get("environment") or {}))
    text = "# Record\n\n"
    for title, content in parts:
        lines = [[key.replace("_", " "), write_value(value)] for key, value in content.items()]
        text += f"## {title}\n\n" + make_markdown(("what", "value"), lines, left=2) + "\n"
    return text + "Times of each step: see Training.\n"


def write_value(value: Any) -> str:
    """Write a recorded value: names and numbers as they are, several with commas."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {write_value(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(write_value, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
