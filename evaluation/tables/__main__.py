"""Write Table 1, the paper's claims and the tables beside them from a run's recorded scores.

    python -m evaluation.tables --out OUT

Reads OUT/summary.json, training.json, curves.json and cases.csv (as `evaluation.evaluate` wrote them); writes into
OUT/tables the `PAGES`, and further table1.csv, table1.tex and claims.json; prints Table 1. Nothing is computed again
but the intervals of the claims, and no column stands for the paper's own numbers: they are not available.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from data.command import Parser, run_command
from data.files import write_json, write_text
from evaluation.metrics.statistics import DRAWS, LEAST_PATIENTS
from evaluation.names import KEYS, METRICS, NAMES
from evaluation.results import SCHEMA, Results, notes_lines, read_results
from evaluation.tables.claims import judge
from evaluation.tables.cost import cost_markdown
from evaluation.tables.evidence import Row, system
from evaluation.tables.more import (
    ablation_markdown,
    calibration_markdown,
    comparisons_markdown,
    lits_markdown,
)
from evaluation.tables.text import (
    COVERAGE,
    HOW_SCORED,
    INTERVALS,
    NO_PAPER_NUMBERS,
    RULES_IN_WORDS,
    caption,
    interval_of,
    joint_note,
    markdown_table,
    page,
    readable,
    sample,
)
from evaluation.tables.training import readable_threshold, training_markdown
from evaluation.tables.whole_cases import postprocessing_markdown, volumes_markdown

OF_PROBABILITIES = ("auc", "rauc")
"""Scores that need no threshold: one a system, whatever the rule."""
HEADINGS = (
    "target",
    "loss",
    "model",
    "rule",
    "threshold",
    *(NAMES[metric] for metric in METRICS),
    "IoU, 95 %",
)
ONCE = "AUC and rAUC (pixels with probability in (0.01, 0.99)) need no threshold: they stand once for each system."
BOLD = (
    "Bold: best value of a target and score within its cohort, at the decimals shown (of the scores at a threshold, "
    "rows with IoU 0 left out)."
)
UNDEFINED = "n/a: undefined, for want of pixels of both kinds. -: no threshold."


def best_of(rows: Iterable[Row]) -> dict[tuple[str, str, str], float]:
    """Return the best value by (cohort, target, metric); of the scores at a threshold among rows that find anything.

    With few foreground pixels an empty mask has a pixel accuracy near 1: that is no best result.
    """
    best: dict[tuple[str, str, str], float] = {}
    for row in rows:
        for metric in METRICS if row["iou"] else OF_PROBABILITIES:
            key = (row["cohort"], row["target"], metric)
            if row[metric] is not None:
                best[key] = max(best.get(key, row[metric]), row[metric])
    return best


def table1_csv(results: Results) -> str:
    """Return Table 1 in long form with all digits; the column `data` names the cohort, synthetic or not."""
    text = io.StringIO()
    columns = ["preset", "seed", "data", *KEYS, "threshold", "n_cases", "n_slices", *METRICS]
    columns += ["iou_low", "iou_high", "n_patients", "n_counted", "draws_skipped", "status", "why"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n", restval="")
    writer.writeheader()
    run = {key: results.summary[key] for key in ("preset", "seed")}
    for row in results.rows:
        writer.writerow({**row, **run, "data": results.origin(row["cohort"]), "status": "ok"})
    for cohort in results.cohorts:
        for (model, loss), why in results.failures.items():
            status, _, reason = why.partition(": ")
            failed = {
                "cohort": cohort,
                "model": model,
                "loss": loss,
                "status": status,
                "why": reason,
            }
            writer.writerow({**failed, **run, "data": results.origin(cohort)})
    return text.getvalue()


def _blocks(results: Results) -> Iterable[tuple[str, str, list[Row]]]:
    for cohort in results.cohorts:
        heading = f"{cohort.capitalize()}: {results.origin(cohort)}, {sample(results, cohort)}"
        yield cohort, heading, [row for row in results.rows if row["cohort"] == cohort]


def _lines(rows: list[Row], plain: Callable[[str], str], bold: str) -> list[list[str]]:
    """Return the cells of `rows`, each through `plain`, the best of a target and score put into `bold`.

    Scores of probabilities stand in the first row of a system alone.
    """
    best, lines, seen = best_of(rows), [], set()
    for row in rows:
        names = [row["target"], NAMES[row["loss"]], NAMES[row["model"]], row["threshold_rule"]]
        again = (row["cohort"], *names[:3]) in seen
        seen.add((row["cohort"], *names[:3]))
        scores = []
        for metric in METRICS:
            shown = readable(row[metric])
            known = row[metric] is not None and (row["iou"] or metric in OF_PROBABILITIES)
            is_best = known and shown == readable(best[row["cohort"], row["target"], metric])
            cell = bold % plain(shown) if is_best else plain(shown)
            scores.append("" if again and metric in OF_PROBABILITIES else cell)
        lines.append(
            [
                *map(plain, names),
                readable_threshold(row["threshold"]),
                *scores,
                plain(interval_of(row)),
            ]
        )
    return lines


def table1_notes(results: Results) -> list[str]:
    """Return what explains the cells of Table 1, in Markdown and in LaTeX."""
    skipped = max((row.get("draws_skipped", 0) for row in results.rows), default=0)
    left_out = (
        f"Up to {skipped} of {DRAWS} draws, without any patient that counts, were skipped."
        if skipped
        else ""
    )
    return [
        note
        for note in (
            RULES_IN_WORDS,
            ONCE,
            BOLD,
            UNDEFINED,
            INTERVALS,
            left_out,
            joint_note(results).strip(),
        )
        if note
    ]


def table1_markdown(results: Results) -> str:
    """Return Table 1 as Markdown, a block per cohort, the best value per target and score in bold."""
    text = page(results, "Table 1", HOW_SCORED, NO_PAPER_NUMBERS)
    for cohort, heading, rows in _blocks(results):
        text += f"\n## {heading}\n\n"
        text += blind_line(results.summary["data"], [cohort])
        if rows:
            text += markdown_table(HEADINGS, _lines(rows, str, "**%s**"), left=4)
        else:
            text += "No scores.\n"
        for (model, loss), why in results.failures.items():
            text += f"\n**{system(model, loss)}: {why}: NOT A RESULT, no scores.**\n"
    text += "".join(f"\n{line}\n" for line in notes_lines(results.training))
    if "external" not in results.cohorts:
        text += "\n## External\n\nThis run has no external cohort.\n"
    return text + "\n" + "\n".join(table1_notes(results)) + "\n"


def blind_line(data: dict[str, Any], cohorts: Iterable[str]) -> str:
    """Return the sentence on what marking the whole liver as tumor would score, by cohort ("": not recorded)."""
    blind = data.get("blind_tumor_iou", {})
    known = [f"{cohort} {readable(blind[cohort])}" for cohort in cohorts if cohort in blind]
    return (
        f"Tumor IoU of marking the whole reference liver as tumor: {', '.join(known)}.\n\n"
        if known
        else ""
    )


def tex_escape(text: str) -> str:
    """Return `text` with the characters that LaTeX reads as commands escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(character, character) for character in text)


def table1_tex(results: Results) -> str:
    """Return Table 1 for LaTeX (package booktabs), a `table` per cohort, ready for `\\input`."""
    run = f"Preset {results.summary['preset']}, seed {results.summary['seed']}"
    text = (
        "% Needs \\usepackage{booktabs}; as wide as two columns. "
        + " ".join(caption(results))
        + "\n"
    )
    for cohort, heading, rows in _blocks(results):
        blind = blind_line(results.summary["data"], [cohort]).strip()
        said = [f"{heading}. {run}. {HOW_SCORED}", blind, *table1_notes(results), NO_PAPER_NUMBERS]
        words = tex_escape(" ".join(filter(None, said)))
        columns = " & ".join(tex_escape(heading) for heading in HEADINGS)
        text += "\\begin{table}[p]\n\\centering\\scriptsize\\setlength{\\tabcolsep}{3pt}\n"
        text += f"\\caption{{{words}}}\n\\label{{tab:{cohort}}}\n"
        text += f"\\begin{{tabular}}{{llll{'r' * (len(HEADINGS) - 4)}}}\n\\toprule\n{columns} \\\\\n\\midrule\n"
        previous = ""
        for row, line in zip(rows, _lines(rows, tex_escape, "\\textbf{%s}"), strict=True):
            if previous not in ("", row["target"]):
                text += "\\midrule\n"
            previous = row["target"]
            text += " & ".join(line) + " \\\\\n"
        for (model, loss), why in results.failures.items():
            words = tex_escape(f"{system(model, loss)}: {why}: NOT A RESULT")
            text += f"\\midrule\n\\multicolumn{{{len(HEADINGS)}}}{{l}}{{{words}}} \\\\\n"
        text += "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    return text


def claims_markdown(results: Results, claims: list[dict[str, Any]]) -> str:
    """Return the claims as Markdown: the verdicts in one table, then the numbers of each claim."""
    how = (
        "Verdicts on the words of the paper's text, about its two models, by the scores of this run. A verdict is that "
        f"of the scores themselves; how sure it is, the intervals by patient beside them say: {COVERAGE}, none below "
        f"{LEAST_PATIENTS} patients. {NO_PAPER_NUMBERS}"
    )
    text = page(results, "The paper's claims on this run", how) + "\n"
    columns = [*results.cohorts, "training"]
    verdicts = [
        [
            claim["title"],
            *(claim["cohorts"].get(column, {"verdict": ""})["verdict"] for column in columns),
        ]
        for claim in claims
    ]
    text += markdown_table(["claim", *columns], verdicts, left=len(columns) + 1)
    for index, claim in enumerate(claims, start=1):
        text += f"\n## {index}. {claim['title']}\n\nPaper: {claim['claim']}\n\nMeasure: {claim['measure']}\n\n"
        lines = [
            [where, f"**{found['verdict']}**", found["how_much"]]
            for where, found in claim["cohorts"].items()
        ]
        text += markdown_table(("where", "verdict", "numbers"), lines, left=3)
    return text


def _claims_page(results: Results) -> str:
    return claims_markdown(results, judge(results.evidence))


PAGES: Sequence[tuple[str, str, Callable[[Results], str]]] = (
    ("table1.md", "Table 1", table1_markdown),
    ("claims.md", "Claims of the paper", _claims_page),
    ("comparisons.md", "Systems compared by patient", comparisons_markdown),
    ("ablation.md", "Ablation: loss, threshold rule, model", ablation_markdown),
    ("postprocessing.md", "Ablation: post-processing", postprocessing_markdown),
    ("whole_cases.md", "Whole cases", volumes_markdown),
    ("lits.md", "LiTS figures", lits_markdown),
    ("calibration.md", "Calibration", calibration_markdown),
    ("cost.md", "Cost", cost_markdown),
    ("training.md", "Training", training_markdown),
)
"""The tables in Markdown: file in OUT/tables, title, and what makes it."""


def write_tables(results: Results) -> str:
    """Write every table of `results` into OUT/tables and return Table 1 as Markdown."""
    texts = {name: make(results) for name, _, make in PAGES}
    texts |= {"table1.csv": table1_csv(results), "table1.tex": table1_tex(results)}
    folder = results.path / "tables"
    for name, text in texts.items():
        write_text(folder / name, text)
    data = results.summary["data"]
    head = {
        "preset": results.summary["preset"],
        "seed": results.summary["seed"],
        "synthetic": data["synthetic"],
    }
    content = {"schema": SCHEMA, **head, "label": results.label, "claims": judge(results.evidence)}
    write_json(folder / "claims.json", content)
    return texts["table1.md"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m evaluation.tables`."""
    parser = Parser(
        prog="python -m evaluation.tables", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder that evaluation.evaluate wrote"
    )
    print(write_tables(read_results(parser.parse_args(arguments).out)), end="")


if __name__ == "__main__":
    run_command(main, "python -m evaluation.tables")
