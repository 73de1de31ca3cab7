"""The tables beside Table 1 that show one score from several sides: the LiTS figures, the ablation."""

from __future__ import annotations

from evaluation.evidence import system
from evaluation.lits_scoring import INFINITE, MODES
from evaluation.names import LOSSES, MODELS, NAMES, RULES
from evaluation.results import Results
from evaluation.text import caption, markdown_table, readable


def lits_markdown(results: Results) -> str:
    """Return the 24 LiTS figures of every system, a table per cohort and mode."""
    text = "# LiTS figures\n\n" + "  \n".join(caption(results)) + "\n\n"
    text += (
        "Of the scored slices on the store's grid, rule roc: not of whole volumes at their own resolution, so no entry "
        "of the challenge's list compares (predict and `python -m evaluation.score` give those). official: as the "
        f"published script, faults included; corrected: each lesion matched at most once. {INFINITE:g}: infinite.\n"
    )
    rows = results.summary.get("lits", ())
    systems = [(model, loss) for model in MODELS for loss in LOSSES]
    for cohort in results.cohorts:
        for mode in MODES:
            found = {(r["model"], r["loss"]): r["figures"] for r in rows if (r["cohort"], r["mode"]) == (cohort, mode)}
            found = {key: figures for key, figures in found.items() if key not in results.failures}
            if found:
                shown = [pair for pair in systems if pair in found]
                lines = [[name, *(f"{found[pair][name]:.3f}" for pair in shown)] for name in found[shown[0]]]
                text += f"\n## {cohort.capitalize()}, {mode}\n\n"
                text += markdown_table(["figure", *(system(*pair) for pair in shown)], lines, left=1)
    return text


def ablation_markdown(results: Results) -> str:
    """Return tumor and liver IoU by loss, threshold rule and model: what each choice does with the others fixed."""
    text = "# Ablation: loss, threshold rule, model\n\n" + "  \n".join(caption(results)) + "\n\nIoU, pooled.\n"
    for cohort in results.cohorts:
        lines = []
        for target in ("tumor", "liver"):
            for model in MODELS:
                for loss in LOSSES:
                    scores = {
                        row["threshold_rule"]: row["iou"]
                        for row in results.rows
                        if (row["cohort"], row["target"], row["model"], row["loss"]) == (cohort, target, model, loss)
                    }
                    cells = [readable(scores[rule]) if rule in scores else "" for rule in RULES]
                    lines.append([target, NAMES[model], NAMES[loss], *cells])
        text += f"\n## {cohort.capitalize()}: {results.origin(cohort)}\n\n"
        text += markdown_table(("target", "model", "loss", *RULES), lines, left=3)
    return text
