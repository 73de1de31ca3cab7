"""Table 1 as Markdown, CSV and LaTeX, a block per cohort.

LaTeX by hand: pandas' `to_latex` needs Jinja and has no rule between targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from evaluation.metrics.counts import METRICS
from evaluation.metrics.statistics import DRAWS
from evaluation.names import NAMES, spell_system
from evaluation.results import Results, list_notes
from evaluation.score_table import KEYS, select
from evaluation.tables.text import (
    HOW_SCORED,
    INTERVALS,
    NO_PAPER_NUMBERS,
    explain_blind,
    explain_joint,
    explain_rules,
    is_known,
    make_caption,
    make_head,
    make_markdown,
    write_iou_interval,
    write_score,
    write_threshold,
)

AREAS = ("auc", "rauc")
"""Scores that need no threshold: one a system, whatever the rule."""
BEST: dict[str, Callable[[pd.Series], float]] = {
    "high": pd.Series.max,
    "low": pd.Series.min,
    "zero": lambda values: min(values, key=abs),
}
ONCE = (
    "AUC and rAUC (pixels with probability in (0.01, 0.99)) need no threshold: "
    "they stand once for each system."
)
BOLD = (
    "Bold: best value of a target and score within its cohort, at the decimals shown "
    "(of the scores at a threshold, rows with IoU 0 left out)."
)
UNDEFINED = "n/a: undefined, for want of pixels of both kinds. -: no threshold."
RUN_COLUMNS = ["preset", "seed", "data"]
SAMPLE_COLUMNS = ["iou_low", "iou_high", "n_patients", "n_counted", "draws_skipped"]


def list_metrics(table: pd.DataFrame) -> list[str]:
    """Return the scores that the table holds: registered ones, then areas."""
    names = [name for name, metric in METRICS.items() if metric.table1 and name in table]
    return names + [name for name in AREAS if name in table]


def spell_metric(name: str) -> str:
    """Name a score for readers."""
    return METRICS[name].title if name in METRICS else NAMES[name]


def find_best(table: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """Return the best value by (cohort, target, metric).

    A score at a threshold counts only where something was found: an empty mask of few foreground
    pixels has a pixel accuracy near 1.
    """
    best = {}
    for metric in list_metrics(table):
        rows = table if metric in AREAS else table[table["iou"] > 0]
        way = METRICS[metric].best if metric in METRICS else "high"
        for (cohort, target), values in rows.groupby(["cohort", "target"])[metric]:
            best[cohort, target, metric] = BEST[way](values)
    return best


def make_csv(results: Results) -> str:
    """Return Table 1 in long form, all digits, failed last; `data` names the cohort."""
    failed = [
        {"cohort": cohort, "system": system, "phase": phase, "status": status, "why": reason}
        for cohort in results.cohorts
        for (system, phase), why in results.failures.items()
        for status, _, reason in [why.partition(": ")]
    ]
    rows = results.table1.astype(object).assign(status="ok")
    table = pd.concat([rows, pd.DataFrame(failed)], ignore_index=True)
    origins = [results.describe_origin(cohort) for cohort in table["cohort"]]
    table = table.assign(preset=results.summary["preset"], seed=results.seed, data=origins)
    columns = [*RUN_COLUMNS, *KEYS, "threshold", "n_cases", "n_slices"]
    columns += [*list_metrics(results.table1), *SAMPLE_COLUMNS, "status", "why"]
    return table.reindex(columns=columns).to_csv(index=False, lineterminator="\n")


def _iterate_blocks(results: Results) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for cohort in results.cohorts:
        yield cohort, results.write_heading(cohort), select(results.table1, cohort=cohort)


def _make_headings(table: pd.DataFrame) -> list[str]:
    metrics = [spell_metric(name) for name in list_metrics(table)]
    return ["target", "loss", "model", "rule", "threshold", *metrics, "IoU, 95 %"]


def _make_lines(table: pd.DataFrame, plain: Callable[[str], str], bold: str) -> list[list[str]]:
    """Return the cells of a cohort's rows, the best of a target and score in bold."""
    best, lines, seen = find_best(table), [], set()
    for row in table.itertuples(index=False):
        names = [row.target, NAMES.get(row.phase, row.phase), spell_system(row.system), row.rule]
        # Areas stand in the first row of a system alone.
        is_again = tuple(names[:3]) in seen
        seen.add(tuple(names[:3]))
        scores = []
        for metric in list_metrics(table):
            value = getattr(row, metric)
            shown = write_score(value)
            counts = is_known(value) and (row.iou or metric in AREAS)
            is_best = counts and shown == write_score(best[row.cohort, row.target, metric])
            cell = bold % plain(shown) if is_best else plain(shown)
            scores.append("" if is_again and metric in AREAS else cell)
        threshold = write_threshold(row.threshold)
        lines.append([*map(plain, names), threshold, *scores, plain(write_iou_interval(row))])
    return lines


def explain_cells(results: Results) -> list[str]:
    """Return what explains the cells of Table 1, in Markdown and in LaTeX."""
    table = results.table1
    skipped = int(table["draws_skipped"].max()) if len(table) and "draws_skipped" in table else 0
    left_out = (
        f"Up to {skipped} of {DRAWS} draws, without any patient that counts, were skipped."
        if skipped
        else ""
    )
    notes = [explain_rules(), ONCE, BOLD, UNDEFINED, INTERVALS, left_out]
    return list(filter(None, [*notes, explain_joint(results.training).strip()]))


def make_table1(results: Results) -> str:
    """Return Table 1 as Markdown, the best value of a target and score in bold."""
    text = make_head(results.label, "Table 1", HOW_SCORED, NO_PAPER_NUMBERS)
    headings = _make_headings(results.table1)
    for cohort, heading, rows in _iterate_blocks(results):
        text += f"\n## {heading}\n\n{explain_blind(results.blind_tumor_iou, [cohort])}"
        lines = _make_lines(rows, str, "**%s**")
        text += make_markdown(headings, lines, left=4) if lines else "No scores.\n"
        for (system, phase), why in results.failures.items():
            text += f"\n**{spell_system(system, phase)}: {why}: NOT A RESULT, no scores.**\n"
    text += "".join(f"\n{line}\n" for line in list_notes(results.training))
    if "external" not in results.cohorts:
        text += "\n## External\n\nThis run has no external cohort.\n"
    return text + "\n" + "\n".join(explain_cells(results)) + "\n"


def escape_tex(text: str) -> str:
    """Escape the characters that LaTeX reads as commands."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(character, character) for character in text)


def make_tex(results: Results) -> str:
    """Return Table 1 for LaTeX (booktabs), a `table` per cohort, for an `input`."""
    run = f"Preset {results.summary['preset']}, seed {results.seed}"
    caption = " ".join(make_caption(results.label))
    text = f"% Needs \\usepackage{{booktabs}}; as wide as two columns. {caption}\n"
    headings = _make_headings(results.table1)
    columns = " & ".join(map(escape_tex, headings))
    for cohort, heading, rows in _iterate_blocks(results):
        blind = explain_blind(results.blind_tumor_iou, [cohort]).strip()
        notes = [blind, *explain_cells(results), NO_PAPER_NUMBERS]
        words = " ".join([f"{heading}. {run}. {HOW_SCORED}", *filter(None, notes)])
        text += "\\begin{table}[p]\n\\centering\\scriptsize\\setlength{\\tabcolsep}{3pt}\n"
        text += f"\\caption{{{escape_tex(words)}}}\n\\label{{tab:{cohort}}}\n"
        text += f"\\begin{{tabular}}{{llll{'r' * (len(headings) - 4)}}}\n"
        text += f"\\toprule\n{columns} \\\\\n\\midrule\n"
        previous = ""
        for line in _make_lines(rows, escape_tex, "\\textbf{%s}"):
            text += "\\midrule\n" if previous not in ("", line[0]) else ""
            previous = line[0]
            text += " & ".join(line) + " \\\\\n"
        for (system, phase), why in results.failures.items():
            words = escape_tex(f"{spell_system(system, phase)}: {why}: NOT A RESULT")
            text += f"\\midrule\n\\multicolumn{{{len(headings)}}}{{l}}{{{words}}} \\\\\n"
        text += "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    return text
