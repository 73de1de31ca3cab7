"""Table and figure of all systems side by side, over seeds.

    python -m evaluation.comparison --out DIR COMPARISON [COMPARISON ...]
    python -m evaluation.comparison --publish NAME [COMPARISON ...]

Each COMPARISON is a comparison.json of `evaluation.compare`, one a seed. `--out` writes comparison.md and
fig_comparison there; `--publish` copies them to evaluation/published/NAME, writes both beside them and rewrites the
README's block of that name (without a COMPARISON: from those that lie there). Dice and ASSD are means over patients
and seeds, with intervals by patient; the published numbers stand in columns of their own: other
data, other splits.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.command import InputError, run_command
from evaluation import by_seed
from evaluation.comparison_notes import (
    SCORE_NAMES,
    beginnings,
    blind,
    blind_dice,
    failings,
    in_words,
    notes,
    timed_alone,
)
from evaluation.figures.systems import draw
from evaluation.metrics.counts import Counts, dice, iou, pixel_accuracy, sensitivity
from evaluation.metrics.statistics import (
    Interval,
    bound_mean,
    bound_mean_score,
    by_patient,
    means_by_patient,
)
from evaluation.names import MODELS, TARGETS, origin
from evaluation.published_numbers import NUMBERS, UNCLEAR, heading_of_published, published_of
from evaluation.tables.text import machines, markdown_table, patients, readable

MEANS = ("dice", "assd_mm")
POOLED: dict[str, Callable[[Counts], float]] = {
    "accuracy": pixel_accuracy,
    "sensitivity": sensitivity,
    "dice": dice,
    "iou": iou,
}
"""Scores of all voxels of a cohort together; F1 of voxels is their Dice."""

Row = dict[str, Any]
SCHEMA = 3
"""Form of comparison.json."""


def main() -> None:
    """Write table and figure, or publish them."""
    by_seed.run(COMPARISON, "comparison", "Table and figure of all systems side by side.")


def check(first: Row, other: Row, path: Path) -> None:
    """Check that a comparison is whole and has the systems of the first one.

    Raises:
        InputError: its command was interrupted; no system gave a result; it has others, or other settings of one.
    """
    if other.get("left"):
        raise InputError(
            f"{path}: {', '.join(other['left'])} not scored yet; call evaluation.compare again"
        )
    if not other["cases"]:
        raise InputError(f"{path}: no system gave a result")
    if [_what(system) for system in other["systems"]] != [
        _what(system) for system in first["systems"]
    ]:
        raise InputError(
            f"{path}: other systems, or other settings of one, than the first comparison"
        )


def _what(system: Row) -> tuple[str, Any]:
    return system["system"], system["settings"]


def answers(comparisons: Sequence[Row]) -> list[Row]:
    """Return a row for each cohort, target and system, in the order of the tables.

    Returns:
        {"cohort", "target", "system", "n_seeds" (of "n_comparisons", where it gave a result), "dice" and "assd_mm"
        (`Interval` of the mean over the patients that hold the target), "by_seed" (that mean of each seed's Dice),
        "n_valued" (cases with an ASSD, over all seeds, of "n_cases"), "pooled" (`Interval` by score of `POOLED`),
        "published"}. Scores are None without a seed that gave a result.
    """
    cohorts = dict.fromkeys(row["cohort"] for one in comparisons for row in one["cases"])
    names = sorted((system["system"] for system in comparisons[0]["systems"]), key=order)
    return [
        _answer(comparisons, cohort, target, name)
        for cohort in cohorts
        for target in TARGETS
        for name in names
    ]


def order(name: str) -> tuple[int, int, str]:
    """Sort key of a system: the paper's models, then the documents' systems, each before its variants."""
    paper = next(
        (index for index, model in enumerate(MODELS) if name.startswith(f"{model}_")), None
    )
    if paper is not None:
        return 0, paper, str(not name.endswith("_ce"))
    known = [index for index, label in enumerate(NUMBERS) if name.startswith(label)]
    return 1, max(known, default=len(NUMBERS)), name


def _answer(comparisons: Sequence[Row], cohort: str, target: str, name: str) -> Row:
    rows = [
        [
            r
            for r in one["cases"]
            if (r["cohort"], r["target"], r["system"]) == (cohort, target, name)
        ]
        for one in comparisons
    ]
    rows = [mine for mine in rows if mine]
    answer: Row = {"cohort": cohort, "target": target, "system": name, "n_seeds": len(rows)}
    answer |= {
        "n_comparisons": len(comparisons),
        "dice": None,
        "assd_mm": None,
        "by_seed": [],
        "pooled": None,
    }
    settings = next(one["settings"] for one in comparisons[0]["systems"] if one["system"] == name)
    published = published_of(name, settings)
    answer["published"] = getattr(published, target) if published else {}
    if not rows:
        return answer
    held = [[row for row in mine if row["tp"] + row["fn"] > 0] for mine in rows]
    for score in MEANS:
        answer[score] = mean_of(held, score)
    answer["by_seed"] = [found.value for mine in held if (found := mean_of([mine], "dice"))]
    answer["n_cases"] = sum(map(len, held))
    answer["n_valued"] = sum(row["assd_mm"] is not None for mine in held for row in mine)
    counts = [by_patient(mine) for mine in rows]
    answer["pooled"] = {
        score: bound_mean_score(counts, how, of_reference=how is not pixel_accuracy)
        for score, how in POOLED.items()
    }
    return answer


def mean_of(seeds: Sequence[Sequence[Row]], score: str) -> Interval | None:
    """Return the mean of a score over patients with its interval; None where no case has a value.

    A patient's value is the mean over its cases and over the seeds that have one.
    """
    values = means_by_patient([row for rows in seeds for row in rows], score)
    return bound_mean(values.values()) if values else None


def caption(comparisons: Sequence[Row]) -> str:
    """Return the lines above the table: data, seeds, machines."""
    first, data = comparisons[0], comparisons[0]["data"]
    sets = ", ".join(
        f"{data[f'{name}_cases']} {name} cases" for name in ("train", "validation", "test")
    )
    external = data["external"]
    more = f"; external: {origin(external)}, {external['cases']} cases" if external else ""
    scored = "test and external" if external else "test"
    trained = machines(system["trained_on"] for one in comparisons for system in one["systems"])
    return (
        f"Data: {origin(data)}, {data['size']} px; {sets}{more}. Preset `{first['preset']}`, seed "
        f"{', '.join(str(one['seed']) for one in comparisons)}; every slice of the {scored} cases; each "
        f"system with its own decision rule; {' and '.join(trained)}."
    )


def tables(comparisons: Sequence[Row]) -> str:
    """Return the tables of each cohort, the cost, and how to read them."""
    rows, published = (
        answers(comparisons),
        heading_of_published(comparisons[0]["data"]["synthetic"]),
    )
    text = ""
    for cohort in dict.fromkeys(row["cohort"] for row in rows):
        mine = {(row["target"], row["system"]): row for row in rows if row["cohort"] == cohort}
        names = list(dict.fromkeys(system for _, system in mine))
        heading, together = cohort.capitalize(), _pooled_table(mine, names, published)
        text += f"{heading}, means over patients:\n\n{_means_table(mine, names, published)}\n"
        text += f"{heading}, all voxels of the cohort together:\n\n{together}\n"
    return text + f"Cost:\n\n{_cost_table(comparisons)}\n{notes(comparisons)}"


def summary(comparisons: Sequence[Row]) -> str:
    """Return one table: Dice of every system in each cohort, the published one, and what the system costs."""
    rows = {(row["cohort"], row["target"], row["system"]): row for row in answers(comparisons)}
    cohorts, names = (list(dict.fromkeys(key[place] for key in rows)) for place in (0, 2))
    columns = [(cohort, target) for cohort in cohorts for target in TARGETS]
    headings = ["system", *(f"{cohort} {target} DSC" for cohort, target in columns)]
    headings += [
        *(
            f"{target} DSC {heading_of_published(comparisons[0]['data']['synthetic'])}"
            for target in TARGETS
        )
    ]
    headings += ["parameters", "training (s)", "prediction (ms a slice)"]
    costs = _costs(comparisons)
    lines = []
    for name in names:
        line = [in_words(name), *(_cell(rows[*column, name], "dice") for column in columns)]
        said = [rows[cohorts[0], target, name]["published"] for target in TARGETS]
        line += [
            _published(name, {key: value for key, value in one.items() if key == "dice"})
            for one in said
        ]
        lines.append(
            [*line, *(costs[name][key] for key in ("parameters", "train_s", "ms_per_slice"))]
        )
    counted = []
    for cohort in cohorts:
        dices = (row["dice"] for key, row in rows.items() if key[:2] == (cohort, "tumor"))
        counted += [f"{cohort}: {patients(dice.n_patients)} with tumor" for dice in dices if dice][
            :1
        ]
    return markdown_table(headings, lines, left=1) + (
        f"\nDSC: mean over the patients whose reference holds the target ({'; '.join(counted)}), ± SD over seeds; "
        "below it the nominal 95 % interval by patient (none with fewer than 5). Published: other data, other split. "
        f"{blind(comparisons)}{beginnings(comparisons)} Parameters: of the networks that predict. "
        f"Training: for the balanced rows with the cross-entropy before them.{timed_alone(comparisons)}\n"
        + failings(comparisons)
    )


def _means_table(rows: dict[tuple[str, str], Row], names: Sequence[str], published: str) -> str:
    headings = ["system"]
    for target in TARGETS:
        headings += [f"{target} DSC", f"{target} ASSD (mm)"]
    headings += [f"{target} DSC (ASSD) {published}" for target in TARGETS]
    lines = []
    for name in names:
        line = [in_words(name)]
        for target in TARGETS:
            row = rows[target, name]
            line += [_cell(row, "dice"), _cell(row, "assd_mm", ".1f")]
        lines.append(
            [*line, *(_published(name, rows[target, name]["published"]) for target in TARGETS)]
        )
    counted = next(
        (rows["tumor", name]["dice"] for name in names if rows["tumor", name]["dice"]), None
    )
    note = f"\n{patients(counted.n_patients)} with tumor.\n" if counted else ""
    return markdown_table(headings, lines, left=1) + note


def _cell(row: Row, score: str, form: str = ".3f") -> str:
    found = row[score]
    if found is None:
        return "no result" if not row["n_seeds"] else "n/a"
    text = format(found.value, form)
    if score == "dice" and len(row["by_seed"]) > 1:
        text += f" ± {statistics.stdev(row['by_seed']):.3f}"
    if score == "assd_mm" and row["n_valued"] < row["n_cases"]:
        text += f" (of {row['n_valued']} of {row['n_cases']})"
    text += _seeds(row)
    return text if found.low is None else f"{text}<br>{found.low:{form}} to {found.high:{form}}"


def _seeds(row: Row) -> str:
    """Say in how many of the seeds a system gave a result; "" where in all."""
    return (
        f" ({row['n_seeds']} of {row['n_comparisons']} seeds)"
        if row["n_seeds"] < row["n_comparisons"]
        else ""
    )


def _published(name: str, scores: dict[str, float]) -> str:
    if "dice" not in scores:
        return ""
    text = (
        f"{scores['dice']:.3f}"
        if name not in UNCLEAR
        else f"{scores['dice']:.2f}, of which target is not said"
    )
    return text + (f" ({scores['assd_mm']:.2f})" if "assd_mm" in scores else "")


def _pooled_table(rows: dict[tuple[str, str], Row], names: Sequence[str], published: str) -> str:
    headings = [
        "system",
        *(f"{target} {SCORE_NAMES[score]}" for target in TARGETS for score in POOLED),
    ]
    headings.append(published)
    lines = []
    for name in names:
        line = [in_words(name)]
        for target in TARGETS:
            row = rows[target, name]
            line += [
                _pooled_cell(row["pooled"][score]) + _seeds(row) if row["pooled"] else "no result"
                for score in POOLED
            ]
        said = [
            f"{target if name not in UNCLEAR else 'target not said'}: "
            + ", ".join(
                f"{SCORE_NAMES[score]} {value:g}"
                for score, value in rows[target, name]["published"].items()
            )
            for target in TARGETS
            if rows[target, name]["published"].keys() & {"accuracy", "sensitivity", "iou"}
        ]
        lines.append([*line, "; ".join(said)])
    return markdown_table(headings, lines, left=1)


def _pooled_cell(found: Interval) -> str:
    text = readable(found.value)
    return (
        f"{text}<br>{readable(found.low)} to {readable(found.high)}"
        if found.low is not None
        else text
    )


def _cost_table(comparisons: Sequence[Row]) -> str:
    headings = [
        "system",
        "document",
        "begins",
        "trained with",
        "epoch kept",
        "parameters",
        "parameters trained along",
    ]
    headings += ["training (s)", "host memory of training (MiB)", "prediction (ms a slice)"]
    lines = [[in_words(name), *cells.values()] for name, cells in _costs(comparisons).items()]
    return markdown_table(headings, lines, left=5)


def _costs(comparisons: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Return the cells of the cost table of each system, in the order of the tables."""
    costs = {}
    for system in sorted(comparisons[0]["systems"], key=lambda one: order(one["system"])):
        same = [
            other
            for one in comparisons
            for other in one["systems"]
            if other["system"] == system["system"]
        ]
        timed = [other["ms_per_slice"] for other in same if other.get("ms_per_slice") is not None]
        costs[system["system"]] = {
            "document": system["document"],
            "begins": system["begins"],
            "trained_with": system["trained_with"],
            "epochs": "; ".join(dict.fromkeys(map(_epochs, same))),
            "parameters": f"{system['predicting_parameters']:,}",
            "along": f"{along:,}" if (along := _trained_along(system)) else "",
            "train_s": f"{statistics.fmean(other['train_s'] for other in same):,.0f}",
            "peak_memory_mib": f"{max(other['peak_memory_mib'] for other in same):,.0f}",
            "ms_per_slice": f"{statistics.fmean(timed):.1f}" if timed else "n/a",
        }
    return costs


def _epochs(system: Row) -> str:
    """Say which epoch of each network was kept: `liver 7 of 10, tumor 13 of 13`; `12 of 13` of a single one."""
    alone = len(system["epochs"]) == 1
    kept = system["epochs"].items()
    return ", ".join(
        f"{'' if alone else f'{name} '}{best} of {epochs}" for name, (best, epochs) in kept
    )


def _trained_along(system: Row) -> int:
    """Return the parameters of a VAE branch that was trained, which prediction does without."""
    if not (system["settings"] or {}).get("vae_weight"):
        return 0
    return int(system["parameters"] - system["predicting_parameters"])


COMPARISON = by_seed.Kind(
    name="comparison",
    made_by="evaluation.compare",
    schema=SCHEMA,
    needed=("preset", "seed", "data", "systems", "cases"),
    same=("preset", "data"),
    check=check,
    title="All systems",
    page="comparison.md",
    figure_name="fig_comparison",
    caption=caption,
    tables=tables,
    summary=summary,
    figure=lambda found: draw(
        answers(found), caption(found), found[0]["data"]["synthetic"], blind_dice(found)
    ),
    picture=lambda data: f"Dice of all systems, {origin(data)}",
)


if __name__ == "__main__":
    run_command(main, "evaluation.comparison")
