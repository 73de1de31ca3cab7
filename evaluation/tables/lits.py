"""The 24 figures of LiTS for every system, a table per cohort and mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.metrics.lits import INFINITE, MODES
from evaluation.names import spell_system
from evaluation.results import Results
from evaluation.tables.text import make_head, make_markdown, write_count

PARTS = {"lesion": "mean over the lesions matched at IoU > 0.5", "liver": "liver, mean over cases"}
SCORES = {
    "dice": ("ratio", "higher", "Dice"),
    "jaccard": ("ratio", "higher", "IoU"),
    "voe": ("ratio", "lower", "volume overlap error 1 - IoU"),
    "rvd": ("ratio", "nearer 0", "relative volume difference (prediction - reference) / reference"),
    "assd": ("mm", "lower", "average symmetric surface distance"),
    "rmsd": ("mm", "lower", "root mean square symmetric surface distance"),
    "msd": ("mm", "lower", "maximum symmetric surface distance (Hausdorff)"),
}
"""Unit, which value is better, and what it is, by the name after `lesion_` or `liver_`."""
SHARES = {
    "lesion_precision": "lesions found (IoU > 0.5) of those predicted",
    "lesion_recall": "lesions found (IoU > 0.5) of those in the reference",
    "lesion_precision_greater_zero": "lesions found (IoU > 0) of those predicted",
    "lesion_recall_greater_zero": "lesions found (IoU > 0) of those in the reference",
    "lesion_dice_per_case": "Dice of all lesion voxels of a case, mean over cases",
    "lesion_dice_global": "Dice of all lesion voxels of all cases",
    "liver_dice_per_case": "Dice of the liver voxels of a case, mean over cases",
    "liver_dice_global": "Dice of the liver voxels of all cases",
}
"""Shares that are no score of a part; the higher the better."""
LARGEST = "largest difference in tumor burden, reference - prediction, signed"
FIGURES = {name: ("ratio", "higher", meaning) for name, meaning in SHARES.items()} | {
    "RMSE_Tumorburden": (
        "ratio",
        "lower",
        "root mean square over cases of the difference in tumor burden",
    ),
    "MAXERROR_Tumorburden": ("ratio", "nearer 0", LARGEST),
}
"""All figures that are no score of a part."""


def describe_figure(name: str) -> tuple[str, str, str]:
    """Return a LiTS figure's unit, better direction, meaning; else empty."""
    part, _, score = name.partition("_")
    if name in FIGURES or score not in SCORES:
        return FIGURES.get(name, ("", "", ""))
    unit, better, meaning = SCORES[score]
    return unit, better, f"{meaning}, {PARTS[part]}"


def make_lits(results: Results) -> str:
    """Return the 24 LiTS figures of every system."""
    entries = [
        entry
        for entry in results.summary["lits"]
        if (entry["system"], entry["phase"]) not in results.failures
    ]
    text = make_head(
        results.label,
        "LiTS figures",
        "Whole cases of the test and external cohorts, every slice on the store's grid, which is "
        "not the volume's own: so no entry of the challenge's list compares (predict and "
        "`python -m evaluation.score` give those). Thresholds by rule roc, chosen on validation "
        "data. official: as the published script, faults included; corrected: each lesion matched "
        f"at most once. {INFINITE:g}: infinite, as where nothing was found; n/a: no such value. "
        "Tumor burden: tumor voxels / liver voxels, tumor included; its largest difference is "
        "signed, so a negative one means more burden than the reference's in every case.",
    )
    if any("n_cases" not in entry for entry in entries):
        why = "Recorded before whole cases were scored: of the scored slices. Evaluate again."
        text += f"\n**{why}**\n"
    for cohort in results.cohorts:
        of_cohort = [entry for entry in entries if entry["cohort"] == cohort]
        if not of_cohort and cohort != "validation":
            why = _explain_none(results, cohort)
            text += f"\n## {cohort.capitalize()}\n\nNo LiTS figures: {why}.\n"
        for mode in MODES:
            of_mode = [entry for entry in of_cohort if entry["mode"] == mode]
            text += _make_block(results, cohort, mode, of_mode) if of_mode else ""
    return text


def _explain_none(results: Results, cohort: str) -> str:
    if cohort == "test" and results.data.get("split_by") == "slice":
        return (
            "the split is by slice, so the other slices of a test case trained the model, "
            "and no case is whole"
        )
    return "no case with liver in its reference was scored whole"


def _make_block(
    results: Results, cohort: str, mode: str, entries: Sequence[Mapping[str, Any]]
) -> str:
    """Return the figures of a cohort and mode; `entries` are of summary.json."""
    of_system = {(entry["system"], entry["phase"]): entry for entry in entries}
    shown = [pair for pair in results.list_systems() if pair in of_system]
    first, text, heading = of_system[shown[0]], "", f"{cohort.capitalize()}, {mode}"
    if "n_cases" in first:
        cases = write_count(results.count_sample(cohort)[1], "case")
        heading += f": {first['n_cases']} of {cases}"
        if first.get("left_out"):
            names = ", ".join(map(str, first["left_out"]))
            text = f"Left out, no liver in the reference: {names}.\n\n"
    lines = []
    for name in first["figures"]:
        unit, better, meaning = describe_figure(name)
        values = [of_system[pair]["figures"][name] for pair in shown]
        cells = ["n/a" if value is None else f"{value:.3f}" for value in values]
        lines.append([name, meaning, unit, better, *cells])
    headings = ["figure", "what it is", "unit", "better"]
    headings += [spell_system(*pair) for pair in shown]
    return f"\n## {heading}\n\n{text}" + make_markdown(headings, lines, left=4)
