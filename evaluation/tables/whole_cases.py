"""Tables of whole cases: scores of volumes as means over cases, and what post-processing does to the pooled IoU."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from evaluation.metrics.counts import Counts, iou
from evaluation.names import LOSSES, TARGETS
from evaluation.postprocess import CHOSEN, CONTOUR_STEPS, LEAST_DIAMETER_MM, NONE, OPTIONS
from evaluation.results import Results
from evaluation.tables.evidence import Row, system
from evaluation.tables.text import markdown_table, page, readable

SCORES = {
    "dice": "Dice",
    "voe": "VOE",
    "rvd": "RVD",
    "sensitivity": "sensitivity",
    "precision": "precision",
    "assd_mm": "ASSD (mm)",
    "rmsd_mm": "RMSD (mm)",
    "hausdorff_mm": "Hausdorff (mm)",
    "hausdorff95_mm": "Hausdorff 95 % (mm)",
    "components_rand_index": "Rand index of regions",
}
"""Columns of `whole_cases.csv` and their headings."""
NO_WHOLE_CASES = (
    "\nNone: the split is by slice, and other slices of the test cases trained the run.\n"
)
LABELS = {
    NONE: "none",
    "inside_liver": "tumor only inside the liver",
    "largest_liver": "largest piece of liver",
    "fill_holes": "holes filled",
    "min_lesion": f"no lesion under {LEAST_DIAMETER_MM:g} mm",
    "active_contour": f"active contour, {CONTOUR_STEPS} steps",
    CHOSEN: "chosen on validation data",
}


def volumes_markdown(results: Results) -> str:
    """Return the scores of whole cases as volumes: means over cases, not pooled."""
    text = page(
        results,
        "Whole cases",
        "Every slice of a case on the store's grid, rule roc.",
        "Means over cases, each with the same weight. Of the tumor only cases count whose reference holds tumor; a "
        "distance has no value where nothing was found, and n counts the cases behind a mean that not all stand "
        "behind. RVD is signed: above 0, too much was found. Rand index of regions: of the connected regions of liver "
        "or tumor and what lies around them (paper 3.2.2).",
    )
    if not results.volumes:
        return text + NO_WHOLE_CASES
    for cohort in dict.fromkeys(row["cohort"] for row in results.volumes):
        for target in TARGETS:
            lines = []
            for model in results.models:
                for loss in LOSSES:
                    wanted = (cohort, target, model, loss)
                    mine = [
                        r
                        for r in results.volumes
                        if (r["cohort"], r["target"], r["model"], r["loss"]) == wanted
                    ]
                    mine = [row for row in mine if float(row["reference_ml"])]
                    if mine:
                        lines.append(
                            [
                                system(model, loss),
                                str(len(mine)),
                                *(_mean(mine, name) for name in SCORES),
                            ]
                        )
            if lines:
                text += f"\n## {cohort.capitalize()}, {target}: {results.origin(cohort)}\n\n"
                text += markdown_table(["model", "cases", *SCORES.values()], lines, left=1)
    return text


def _mean(rows: Sequence[Row], name: str) -> str:
    known = [float(row[name]) for row in rows if row.get(name) not in ("", None)]
    if not known:
        return "n/a"
    return f"{statistics.fmean(known):.3f}" + (
        f" (n = {len(known)})" if len(known) < len(rows) else ""
    )


def postprocessing_markdown(results: Results) -> str:
    """Return the pooled IoU without post-processing, what each option changes, and what the chosen ones give."""
    text = page(
        results,
        "Ablation: post-processing",
        "Rule roc; options see the whole case, counted are the slices of Table 1.",
        "IoU of the label map without any option; for each option alone the change; and the IoU with those that "
        "validation data chose (its mean IoU of liver and tumor rose by each of them alone, and further by each that "
        "was added). The other tables stand without any. Here liver is what is labelled liver or tumor, so a liver IoU "
        "differs from Table 1's where tumor was found outside the liver, as the one-step model may.",
    )
    if not results.options:
        return text + NO_WHOLE_CASES
    found = pooled(results.options)
    chosen = {
        (row["model"], row["loss"]): row["options"]
        for row in results.options
        if row["option"] == CHOSEN
    }
    for cohort in results.cohorts:
        for target in reversed(TARGETS):
            lines = []
            for model in results.models:
                for loss in LOSSES:
                    key = (cohort, target, model, loss)
                    if (*key, NONE) in found:
                        base = found[*key, NONE]
                        changes = [f"{found[*key, name] - base:+.3f}" for name in OPTIONS]
                        last = [readable(found[*key, CHOSEN])] if (*key, CHOSEN) in found else ["-"]
                        lines.append([system(model, loss), readable(base), *changes, *last])
            if not lines:
                continue
            text += f"\n## {cohort.capitalize()}, {target}: {results.origin(cohort)}\n\n"
            text += markdown_table(
                ["model", *(LABELS[name] for name in (NONE, *OPTIONS, CHOSEN))], lines, left=1
            )
    text += "\nChosen on validation data, so not shown for it:\n\n"
    for (model, loss), names in chosen.items():
        text += f"- {system(model, loss)}: {', '.join(LABELS[name] for name in names.split()) or 'none'}\n"
    return text


def pooled(rows: Sequence[Row]) -> dict[tuple[str, ...], float]:
    """Return the IoU of all cases together by cohort, target, model, loss and option, from `postprocess.csv`."""
    counts: dict[tuple[str, ...], Counts] = {}
    for row in rows:
        key = tuple(row[name] for name in ("cohort", "target", "model", "loss", "option"))
        found = Counts(*(int(row[cell]) for cell in ("tp", "fp", "fn", "tn")))
        counts[key] = counts.get(key, Counts()) + found
    return {key: iou(found) for key, found in counts.items()}
