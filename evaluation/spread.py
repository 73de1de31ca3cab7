"""Put runs of different seeds side by side: mean and spread of the scores, and in how many seeds each claim holds.

    python -m evaluation.spread --out DIR RUN_OUT RUN_OUT RUN_OUT

Each RUN_OUT is a folder that `evaluation.evaluate` wrote; preset, data and split must be the same, so that only the
seed differs. Writes DIR/spread.csv and DIR/spread.md and prints the latter.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.command import InputError, Parser, run_command
from data.files import write_text
from evaluation.names import KEYS, NAMES, SYNTHETIC
from evaluation.results import Results, order, read_results
from evaluation.tables.claims import FAILS, HOLDS, UNTESTED, judge
from evaluation.tables.text import HOW_SCORED, NO_PAPER_NUMBERS, markdown_table, readable

METRICS = ("iou", "dice", "rauc")
COLUMNS = ("mean", "sd", "min", "max")
SAME_DATA = ("cohort", "synthetic", "size", "split_sha256", "external")


def check_comparable(runs: Sequence[Results]) -> None:
    """Check that `runs` differ in nothing but the seed.

    Raises:
        InputError: preset, data or split differ from the first run's, or a seed comes twice.
    """
    first = runs[0]
    seeds: dict[int, Path] = {}
    for run in runs:
        if run.summary["preset"] != first.summary["preset"]:
            raise InputError(
                _difference("preset", first, run, first.summary["preset"], run.summary["preset"])
            )
        for name in SAME_DATA:
            ours, theirs = first.summary["data"][name], run.summary["data"][name]
            if ours != theirs:
                raise InputError(_difference(name, first, run, ours, theirs))
        seed = run.summary["seed"]
        if seed in seeds:
            raise InputError(
                f"{run.path}: has seed {seed}, as {seeds[seed]}; runs of different seeds are needed"
            )
        seeds[seed] = run.path


def _difference(name: str, first: Results, run: Results, ours: Any, theirs: Any) -> str:
    return f"{run.path}: {name} is {theirs}, but {first.path} has {ours}; only the seed may differ"


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean, sd (ddof 1; None for one value), min and max; all None for no value."""
    if not values:
        return dict.fromkeys(COLUMNS)
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "min": min(values), "max": max(values)}


def spread_rows(runs: Sequence[Results]) -> list[dict[str, Any]]:
    """Return one entry per row key and score: the key, `metric`, mean, sd, min, max and `n_seeds`.

    A seed whose system failed, or whose score is undefined, does not count; `n_seeds` says how many do.
    """
    keys = {tuple(row[key] for key in KEYS): row for run in runs for row in run.rows}
    values: dict[tuple[Any, ...], list[float]] = {}
    for run in runs:
        for row in run.rows:
            for metric in METRICS:
                found = values.setdefault((*(row[key] for key in KEYS), metric), [])
                if row[metric] is not None:
                    found.append(row[metric])
    entries = []
    for row in sorted(keys.values(), key=order):
        key = tuple(row[name] for name in KEYS)
        for metric in METRICS:
            numbers = values[*key, metric]
            names = dict(zip(KEYS, key, strict=True))
            entries.append({**names, "metric": metric, **spread(numbers), "n_seeds": len(numbers)})
    return entries


def caption(runs: Sequence[Results]) -> list[str]:
    """Return the lines that head the tables of several runs."""
    data = runs[0].label.rpartition("; preset ")[0]
    seeds = ", ".join(str(run.summary["seed"]) for run in runs)
    lines = [f"Data: {data}; preset {runs[0].summary['preset']}, {len(runs)} seeds: {seeds}."]
    if SYNTHETIC in data:
        lines.append(
            f"{SYNTHETIC}: computer-made images; scores on them say nothing about real CT."
        )
    return [*lines, "Every seed on the same split. " + HOW_SCORED, NO_PAPER_NUMBERS]


def spread_csv(runs: Sequence[Results]) -> str:
    """Return the spread in long form with all digits; the column `data` names the cohort, synthetic or not."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, ["data", *KEYS, "metric", *COLUMNS, "n_seeds"], lineterminator="\n"
    )
    writer.writeheader()
    for row in spread_rows(runs):
        writer.writerow({"data": runs[0].origin(row["cohort"]), **row})
    return text.getvalue()


def claim_counts(runs: Sequence[Results]) -> list[dict[str, Any]]:
    """Count, per claim and cohort, the seeds in which it holds, does not hold, and is not tested."""
    judged = [judge(run.evidence) for run in runs]
    counts = []
    for index, claim in enumerate(judged[0]):
        for cohort in claim["cohorts"]:
            if cohort == "external" and cohort not in runs[0].cohorts:
                continue
            verdicts = [claims[index]["cohorts"][cohort]["verdict"] for claims in judged]
            found = {verdict: verdicts.count(verdict) for verdict in (HOLDS, FAILS, UNTESTED)}
            counts.append({"id": claim["id"], "title": claim["title"], "cohort": cohort, **found})
    return counts


def _cell(entry: dict[str, Any], seeds: int) -> str:
    if not entry["n_seeds"]:
        return "n/a"
    text = f"{readable(entry['mean'])} ± {readable(entry['sd'])} ({readable(entry['min'])} to {readable(entry['max'])})"
    return text if entry["n_seeds"] == seeds else f"{text}, n = {entry['n_seeds']}"


def _blocks(runs: Sequence[Results]) -> str:
    entries = spread_rows(runs)
    headings = ("target", "loss", "model", "rule", *(NAMES[metric] for metric in METRICS), "seeds")
    text = ""
    for cohort in runs[0].cohorts:
        slices, cases = runs[0].sample(cohort)
        text += f"\n## {cohort.capitalize()}: {runs[0].origin(cohort)}, {slices} slices of {cases} cases\n\n"
        lines = []
        for start in range(0, len(entries), len(METRICS)):
            group = entries[start : start + len(METRICS)]
            row = group[0]
            if row["cohort"] == cohort:
                names = [
                    row["target"],
                    NAMES[row["loss"]],
                    NAMES[row["model"]],
                    row["threshold_rule"],
                ]
                cells = [_cell(entry, row["n_seeds"]) for entry in group]
                lines.append([*names, *cells, f"{row['n_seeds']} of {len(runs)}"])
        text += markdown_table(headings, lines, left=4) if lines else "No scores.\n"
    return text


def spread_markdown(runs: Sequence[Results]) -> str:
    """Return the spread as Markdown: scores per cohort, failed systems, and the claims per seed."""
    text = "# Spread over seeds\n\n" + "  \n".join(caption(runs)) + "\n\n"
    text += (
        "Cells: mean ± SD (min to max) over seeds; SD with n - 1, n/a with one seed; n/a alone: undefined in each.\n"
        + _blocks(runs)
    )
    for run in runs:
        for (model, loss), why in run.failures.items():
            name = f"{NAMES[model]}, {NAMES[loss]}"
            text += f"\n**Seed {run.summary['seed']}: {name}: {why}: NOT A RESULT, not counted.**\n"
    lines = []
    for found in claim_counts(runs):
        tested = found[HOLDS] + found[FAILS]
        lines.append(
            [found["title"], found["cohort"], f"{found[HOLDS]} of {tested}", str(found[UNTESTED])]
        )
    text += "\n## The paper's claims\n\n"
    return text + markdown_table(
        ("claim", "where", "holds in seeds tested", "seeds not tested"), lines, left=2
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m evaluation.spread`."""
    parser = Parser(
        prog="python -m evaluation.spread", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for spread.csv and spread.md"
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN_OUT",
        help="folders that evaluation.evaluate wrote",
    )
    flags = parser.parse_args(arguments)
    runs = sorted((read_results(path) for path in flags.runs), key=lambda run: run.summary["seed"])
    check_comparable(runs)
    text = spread_markdown(runs)
    write_text(flags.out / "spread.csv", spread_csv(runs))
    write_text(flags.out / "spread.md", text)
    print(text, end="")


if __name__ == "__main__":
    run_command(main, "python -m evaluation.spread")
