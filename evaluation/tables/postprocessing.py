"""What post-processing does to the pooled IoU: each option, and the chosen ones."""

from __future__ import annotations

from evaluation.metrics.counts import iou
from evaluation.names import SLICES, TARGETS, spell_system
from evaluation.postprocess import CHOSEN, CONTOUR_STEPS, LEAST_DIAMETER_MM, NONE, OPTIONS
from evaluation.results import Results
from evaluation.score_table import select, sum_counts
from evaluation.tables.text import NO_WHOLE_CASES, make_head, make_markdown, write_score

LABELS = {
    NONE: "none",
    "inside_liver": "tumor only inside the liver",
    "largest_liver": "largest piece of liver",
    "fill_holes": "holes filled",
    "min_lesion": f"no lesion under {LEAST_DIAMETER_MM:g} mm",
    "active_contour": f"active contour, {CONTOUR_STEPS} steps",
    CHOSEN: "chosen on validation data",
}
KEYS = ["cohort", "target", "system", "phase", "option"]
HEADINGS = ["model", *(LABELS[name] for name in (NONE, *OPTIONS, CHOSEN))]
Pooled = dict[tuple[str, ...], float]
"""IoU of all cases together by `KEYS`."""


def pool_options(results: Results) -> Pooled:
    """Return the pooled IoU by cohort, target, system, phase and option."""
    if "postprocessing" in results.recorded:
        rows = results.recorded["postprocessing"]
        return {tuple(row[name] for name in KEYS): row["iou"] for row in rows}
    rows = select(results.scores, unit=SLICES)
    rows = rows[rows["postprocess"] != ""]
    rows = rows.assign(option=rows["postprocess"].where(~rows["chosen"], CHOSEN))
    return {key: iou(sum_counts(group)) for key, group in rows.groupby(KEYS, sort=False)}


def list_choices(results: Results, between: str = ", ") -> dict[tuple[str, str], str]:
    """Return in words which options validation data chose, by (system, phase)."""
    scored = {key[2:4] for key in pool_options(results) if key[4] == CHOSEN}
    entries = {(e["system"], e["phase"]): e for e in results.summary["systems"]}
    return {
        pair: between.join(LABELS[name] for name in entries[pair]["postprocess"]) or "none"
        for pair in results.systems
        if pair in scored
    }


def make_postprocessing(results: Results) -> str:
    """Return pooled IoU without options, each one's change, IoU with the chosen."""
    text = make_head(
        results.label,
        "Ablation: post-processing",
        "Rule roc; options see the whole case, counted are the slices of Table 1.",
        "IoU of the label map without any option; for each option alone the change; and the IoU "
        "with those that validation data chose (its mean IoU of liver and tumor rose by each of "
        "them alone, and further by each that was added). The other tables stand without any. Here "
        "liver is what is labelled liver or tumor, so a liver IoU differs from Table 1's where "
        "tumor was found outside the liver, as the one-step model may.",
    )
    pooled = pool_options(results)
    if not pooled:
        return text + NO_WHOLE_CASES
    for cohort in results.cohorts:
        for target in reversed(TARGETS):
            lines = []
            for pair in results.list_systems():
                values = {name: pooled.get((cohort, target, *pair, name)) for name in LABELS}
                base, last = values[NONE], values[CHOSEN]
                if base is not None:
                    changes = [write_change(values[name], base) for name in OPTIONS]
                    chosen = "-" if last is None else write_score(last)
                    lines.append([spell_system(*pair), write_score(base), *changes, chosen])
            if lines:
                origin = results.describe_origin(cohort)
                text += f"\n## {cohort.capitalize()}, {target}: {origin}\n\n"
                text += make_markdown(HEADINGS, lines, left=1)
    choices = [f"- {spell_system(*p)}: {words}\n" for p, words in list_choices(results).items()]
    return text + "\nChosen on validation data, so not shown for it:\n\n" + "".join(choices)


def write_change(value: float | None, base: float) -> str:
    return "n/a" if value is None else f"{value - base:+.3f}"
