"""Write Table 1, the paper's claims and the cost of training from a run's recorded scores.

    python -m evaluation.tables --out OUT

Reads OUT/summary.json, training.json, curves.json and cases.csv (as `evaluation.evaluate` wrote them); writes
OUT/tables/table1.csv, .md and .tex, claims.md and .json, and training.md; prints Table 1. Nothing is computed
again, and no column stands for the paper's own numbers: they are not available.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from data.command import Parser, run_command
from data.files import write_json, write_text
from evaluation.claims import judge
from evaluation.cost import cost_markdown
from evaluation.evidence import Row, system
from evaluation.more_tables import ablation_markdown, lits_markdown
from evaluation.names import KEYS, METRICS, NAMES, RULES
from evaluation.results import SCHEMA, Results, notes_lines, read_results
from evaluation.text import HOW_SCORED, NO_PAPER_NUMBERS, caption, markdown_table, readable


def readable_threshold(value: float | None) -> str:
    """Write a threshold with enough digits to tell it from 0 and 1; `-` for None (argmax)."""
    if value is None:
        return "-"
    distance = min(value, 1 - value)
    if distance <= 0:
        return f"{value:.3g}"
    return f"{value:.{max(3, 1 - math.floor(math.log10(distance)))}f}"


def best_of(rows: Iterable[Row]) -> dict[tuple[str, str, str], float]:
    """Return the best value by (cohort, target, metric), among the rows that find anything.

    With few foreground pixels an empty mask has a pixel accuracy near 1: that is no best result.
    """
    best: dict[tuple[str, str, str], float] = {}
    for row in rows:
        for metric in METRICS if row["iou"] else ():
            key = (row["cohort"], row["target"], metric)
            if row[metric] is not None:
                best[key] = max(best.get(key, row[metric]), row[metric])
    return best


def table1_csv(results: Results) -> str:
    """Return Table 1 in long form with all digits; the column `data` names the cohort, synthetic or not."""
    text = io.StringIO()
    columns = ["preset", "seed", "data", *KEYS, "threshold", "n_cases", "n_slices", *METRICS]
    columns += ["iou_low", "iou_high", "n_patients", "status", "why"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n", restval="")
    writer.writeheader()
    run = {key: results.summary[key] for key in ("preset", "seed")}
    for row in results.rows:
        writer.writerow({**row, **run, "data": results.origin(row["cohort"]), "status": "ok"})
    for cohort in results.cohorts:
        for (model, loss), why in results.failures.items():
            status, _, reason = why.partition(": ")
            failed = {"cohort": cohort, "model": model, "loss": loss, "status": status, "why": reason}
            writer.writerow({**failed, **run, "data": results.origin(cohort)})
    return text.getvalue()


def _blocks(results: Results) -> Iterable[tuple[str, str, list[Row]]]:
    for cohort in results.cohorts:
        slices, cases = results.sample(cohort)
        heading = f"{cohort.capitalize()}: {results.origin(cohort)}, {slices} slices of {cases} cases"
        yield cohort, heading, [row for row in results.rows if row["cohort"] == cohort]


def _lines(rows: list[Row], plain: Callable[[str], str], bold: str) -> list[list[str]]:
    """Return the cells of `rows`, each through `plain`, the best of a target and score put into `bold`."""
    best, lines = best_of(rows), []
    for row in rows:
        names = [row["target"], NAMES[row["loss"]], NAMES[row["model"]], row["threshold_rule"]]
        scores = [plain(readable(row[metric])) for metric in METRICS]
        for index, metric in enumerate(METRICS):
            if row["iou"] and row[metric] is not None and row[metric] == best[row["cohort"], row["target"], metric]:
                scores[index] = bold % scores[index]
        lines.append([*map(plain, names), readable_threshold(row["threshold"]), *scores, plain(interval_of(row))])
    return lines


HEADINGS = ("target", "loss", "model", "rule", "threshold", *(NAMES[metric] for metric in METRICS), "IoU, 95 %")


def interval_of(row: Row) -> str:
    """Return the 95 % interval of a row's IoU, by patient: `0.41 to 0.63`; few patients have none."""
    if row.get("iou_low") is None:
        return "n/a"
    return f"{row['iou_low']:.2f} to {row['iou_high']:.2f}"


def table1_markdown(results: Results) -> str:
    """Return Table 1 as Markdown, a block per cohort, the best value per target and score in bold."""
    text = "# Table 1\n\n" + "  \n".join(caption(results)) + "\n"
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
    rules = "argmax: most probable class; 0.5; roc: Youden's J on the restricted ROC curve; iou: best validation IoU"
    text += f"\nThreshold rules: {rules}. AUC and rAUC (pixels with probability in (0.01, 0.99)) need no threshold.\n"
    return (
        text + "Bold: best value of a target and score within its cohort (rows with IoU 0 left out). n/a: undefined.\n"
        "IoU, 95 %: bootstrap interval of the pooled IoU, patients drawn with replacement (none with fewer than 3).\n"
    )


def blind_line(data: dict[str, Any], cohorts: Iterable[str]) -> str:
    """Return the sentence on what marking the whole liver as tumor would score, by cohort ("": not recorded)."""
    blind = data.get("blind_tumor_iou", {})
    known = [f"{cohort} {readable(blind[cohort])}" for cohort in cohorts if cohort in blind]
    return f"Tumor IoU of marking the whole reference liver as tumor: {', '.join(known)}.\n\n" if known else ""


def tex_escape(text: str) -> str:
    """Return `text` with the characters that LaTeX reads as commands escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(character, character) for character in text)


def table1_tex(results: Results) -> str:
    """Return Table 1 for LaTeX (package booktabs), a `table` per cohort, ready for `\\input`."""
    run = f"Preset {results.summary['preset']}, seed {results.summary['seed']}"
    text = "% Needs \\usepackage{booktabs}. " + " ".join(caption(results)) + "\n"
    for cohort, heading, rows in _blocks(results):
        blind = blind_line(results.summary["data"], [cohort]).strip()
        words = tex_escape(" ".join(filter(None, [f"{heading}. {run}. {HOW_SCORED}", blind, NO_PAPER_NUMBERS])))
        columns = " & ".join(tex_escape(heading) for heading in HEADINGS)
        text += f"\\begin{{table}}[p]\n\\centering\\scriptsize\n\\caption{{{words}}}\n\\label{{tab:{cohort}}}\n"
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
    text = "# The paper's claims on this run\n\n" + "  \n".join(caption(results)) + "\n\n"
    columns = [*results.cohorts, "training"]
    verdicts = [
        [claim["title"], *(claim["cohorts"].get(column, {"verdict": ""})["verdict"] for column in columns)]
        for claim in claims
    ]
    text += markdown_table(["claim", *columns], verdicts, left=len(columns) + 1)
    for index, claim in enumerate(claims, start=1):
        text += f"\n## {index}. {claim['title']}\n\nPaper: {claim['claim']}\n\nMeasure: {claim['measure']}\n\n"
        lines = [[where, f"**{found['verdict']}**", found["how_much"]] for where, found in claim["cohorts"].items()]
        text += markdown_table(("where", "verdict", "numbers"), lines, left=3)
    return text


def write_tables(results: Results) -> str:
    """Write every table of `results` into OUT/tables and return Table 1 as Markdown."""
    claims = judge(results.evidence)
    table1 = table1_markdown(results)
    texts = {
        "ablation.md": ablation_markdown(results),
        "comparisons.md": comparisons_markdown(results),
        "cost.md": cost_markdown(results),
        "lits.md": lits_markdown(results),
        "table1.csv": table1_csv(results),
        "table1.md": table1,
        "table1.tex": table1_tex(results),
        "claims.md": claims_markdown(results, claims),
        "training.md": training_markdown(results),
    }
    folder = results.path / "tables"
    for name, text in texts.items():
        write_text(folder / name, text)
    data = results.summary["data"]
    head = {"preset": results.summary["preset"], "seed": results.summary["seed"], "synthetic": data["synthetic"]}
    write_json(folder / "claims.json", {"schema": SCHEMA, **head, "label": results.label, "claims": claims})
    return table1


def comparisons_markdown(results: Results) -> str:
    """Return the systems compared by patient: difference in IoU, its interval, the Wilcoxon signed rank test."""
    lines = []
    for found in results.summary.get("comparisons", ()):
        names = [f"{system(*found['first'])} - {system(*found['second'])}"]
        bounds = [f"{found[bound]:+.3f}" if found[bound] is not None else "n/a" for bound in ("low", "high")]
        p_value = "n/a" if found["p_value"] is None else f"{found['p_value']:.2g}"
        ranks = [str(found["better"]), str(found["worse"]), str(found["n_patients"])]
        lines.append(
            [found["cohort"], found["target"], *names, f"{found['difference']:+.3f}", *bounds, p_value, *ranks]
        )
    headings = (
        "cohort",
        "target",
        "systems",
        "difference in IoU",
        "2.5 %",
        "97.5 %",
        "p",
        "better",
        "worse",
        "patients",
    )
    text = "# Systems compared by patient\n\n" + "  \n".join(caption(results)) + "\n\n"
    text += markdown_table(headings, lines, left=3)
    return text + (
        "\nThreshold rule roc. Interval: percentile bootstrap of the difference of the pooled IoU, patients drawn with "
        "replacement, both systems on the same draw. p: Wilcoxon signed rank test of the IoU per patient, two-sided, "
        "not corrected for the number of comparisons. better, worse: patients.\n"
    )


def training_markdown(results: Results) -> str:
    """Return what training cost and chose: parameters, epochs, time, memory, class weights, thresholds."""
    cost, chosen = [], []
    for phase in results.training["phases"]:
        where = [phase["stage"], NAMES[phase["phase"]]]
        if phase["status"] == "ok":
            status = f"ok; {phase['note']}" if phase["note"] else "ok"
        else:
            status = f"**{phase['status']}: {phase['why']}: NOT A RESULT**"
        weights = ", ".join(f"{weight:.4g}" for weight in phase["class_weights"] or ()) or "-"
        counts = [_count(phase[key]) for key in ("parameters", "epochs", "best_epoch")]
        seconds = phase["train_s"] or 0.0
        each = f"{seconds / phase['epochs']:.1f}" if phase["epochs"] else "-"
        memory = "n/a" if phase["peak_memory_mib"] is None else f"{phase['peak_memory_mib']:,.0f}"
        cost.append([*where, status, weights, *counts, f"{seconds:,.1f}", each, memory])
        for target, rules in (phase["thresholds"] or {}).items():
            chosen.append([*where, target, *(readable_threshold(rules.get(rule)) for rule in RULES[1:])])
    text = "# Training\n\n" + "  \n".join(caption(results)) + "\n\n"
    headings = ("stage", "phase", "status", "class weights", "parameters", "epochs", "best epoch", "seconds")
    text += markdown_table([*headings, "s / epoch", "peak memory (MiB)"], cost, left=4)
    text += "\nPeak memory is that of the training process up to the end of the phase.\n"
    text += "\n## Thresholds (chosen on validation data)\n\n"
    text += markdown_table(("stage", "phase", "target", *RULES[1:]), chosen, left=3)
    return text + _trials(results) + _machine(results)


def _count(value: int | None) -> str:
    return "n/a" if value is None else f"{value:,}"


def _trials(results: Results) -> str:
    text, sweep = "", results.training["sweep"]
    if results.training["scaling"]:
        text += f"\n{scaling_line(results.training['scaling'])}\n"
    if sweep:
        text += f"\n## Class weights swept (tumor network, validation data, epochs each: {sweep['epochs']})\n\n"
        names = ("rauc", "auc", "best_iou", "iou_at_half", "iou_at_roc")
        lines = []
        for point in sweep["points"]:
            ok = point["status"] == "ok"
            scores = [readable(point[name]) if ok else "-" for name in names]
            lines.append([f"{point['ratio']:.4g}", point["status"] if ok else f"**{point['status']}**", *scores])
        headings = ("tumor to rest", "status", "rAUC", "AUC", "best IoU", "IoU at 0.5", "IoU at roc")
        text += markdown_table(headings, lines, left=2)
    return text


def scaling_line(scaling: dict[str, Any]) -> str:
    """Return the sentence on the trial that chose the scaling of the second input."""
    status = scaling.get("status", {})
    failed = {name: f" ({found}, no result)" for name, found in status.items() if found != "ok"}
    tried = ", ".join(
        f"{name} {readable(iou)}{failed.get(name, '')}" for name, iou in scaling["validation_iou"].items()
    )
    return (
        f"Scaling of the second network's input, by validation IoU after {scaling['epochs']} epochs: "
        f"{tried}; chosen: {scaling['chosen']}."
    )


def _machine(results: Results) -> str:
    summary = results.summary
    text = ""
    if summary.get("timing_s"):
        lines = [[name, f"{s:,.1f}"] for name, s in summary["timing_s"].items() if s is not None]
        text += "\n## Seconds of each step\n\n" + markdown_table(("step", "seconds"), lines, left=1)
    environment = summary.get("environment") or {}
    facts = [f"{key} {value}" for key, value in environment.items() if isinstance(value, str | int) and value]
    facts += [f"{name} {version}" for name, version in (environment.get("packages") or {}).items()]
    if facts:
        text += f"\nMachine and software: {', '.join(facts)}.\n"
    return text


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m evaluation.tables`."""
    parser = Parser(prog="python -m evaluation.tables", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that evaluation.evaluate wrote")
    print(write_tables(read_results(parser.parse_args(arguments).out)), end="")


if __name__ == "__main__":
    run_command(main, "python -m evaluation.tables")
