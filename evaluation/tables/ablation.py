"""The ablation of loss, threshold rule and model, each with the others fixed."""

from __future__ import annotations

from typing import Any

from evaluation.metrics.thresholds import RULES
from evaluation.names import ARGMAX, NAMES, spell_system
from evaluation.results import Results
from evaluation.tables.text import (
    HOW_SCORED,
    INTERVALS,
    explain_rules,
    make_head,
    make_markdown,
    write_iou_interval,
    write_score,
)


def make_ablation(results: Results) -> str:
    """Return tumor and liver IoU by system, phase and threshold rule."""
    how = "IoU, in brackets its 95 % interval by patient."
    text = make_head(results.label, "Ablation: loss, threshold rule, model", HOW_SCORED, how)
    rules = [ARGMAX, *RULES]
    rows = {
        (row.cohort, row.target, row.system, row.phase, row.rule): row
        for row in results.table1.itertuples(index=False)
    }
    for cohort in results.cohorts:
        lines = []
        for target in ("tumor", "liver"):
            for system, phase in results.list_systems():
                of_rules = [rows.get((cohort, target, system, phase, rule)) for rule in rules]
                is_scored = any(of_rules)
                cells = [
                    _write_cell(row, rule, is_scored)
                    for row, rule in zip(of_rules, rules, strict=True)
                ]
                lines.append([target, spell_system(system), NAMES.get(phase, phase), *cells])
        headings = ["target", "model", "loss", *(f"rule {rule}" for rule in rules)]
        text += f"\n## {results.write_heading(cohort)}\n\n" + make_markdown(headings, lines, 3)
    return text + f"\n{explain_rules()} -: not a rule of that model. {INTERVALS}\n"


def _write_cell(row: Any, rule: str, is_scored: bool) -> str:
    if row is None:
        return "-" if is_scored and rule == ARGMAX else "no result"
    return f"{write_score(row.iou)} ({write_iou_interval(row)})"
