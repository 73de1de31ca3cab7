"""The tables beside Table 1: systems compared by patient, the ablation, the LiTS figures, calibration."""

from __future__ import annotations

from typing import Any

from evaluation.metrics.calibration import BINS
from evaluation.metrics.lits import INFINITE, MODES
from evaluation.metrics.statistics import LEAST_PATIENTS
from evaluation.names import ARGMAX, LOSSES, NAMES, RULES
from evaluation.results import Results
from evaluation.tables.evidence import Row, system
from evaluation.tables.text import (
    COVERAGE,
    FEW,
    HOW_SCORED,
    INTERVALS,
    RULES_IN_WORDS,
    interval_of,
    joint_note,
    markdown_table,
    page,
    patients,
    readable,
    sample,
)


def comparisons_markdown(results: Results) -> str:
    """Return the systems compared by patient: difference in IoU, its interval, the Wilcoxon signed rank test."""
    text = page(
        results,
        "Systems compared by patient",
        "The same patients under two systems, or under two threshold rules of one: first less second. Without a rule "
        "the row compares at rule roc. The difference is that of the IoU pooled over all pixels of the cohort.",
    )
    headings = (
        "cohort",
        "target",
        "first - second",
        "difference in IoU",
        "95 % interval",
        "p",
        "least p",
        "better",
    )
    lines = [_compared(found) for found in results.summary.get("comparisons", ())]
    text += "\n" + markdown_table([*headings, "worse", "patients"], lines, left=3)
    return text + (
        f"\nInterval: percentile bootstrap, patients drawn with replacement, both sides on the same draw, {COVERAGE}; "
        "draws without a patient that counts are skipped. p: Wilcoxon signed rank test of the IoU per patient, "
        "two-sided, patients with equal scores dropped, not corrected for the number of comparisons; least p: the "
        "smallest that so many patients can give, 2 / 2^n. better, worse: patients where the first scores higher, or "
        "lower. The difference is of pooled IoU, where a patient with a large structure weighs more, p of the IoU per "
        f"patient: the two may differ in sign. patients: those that count (and all). {FEW}\n\n{joint_note(results)}"
    )


def _compared(found: Row) -> list[str]:
    n: int = found["n_counted"] if "n_counted" in found else found["n_patients"]
    names = [f"{system(*found[side])}" for side in ("first", "second")]
    if names[0] == names[1]:
        names = [f"{names[0]}, rule {found['threshold_rule']}", f"rule {found['second_rule']}"]
    p_value = patients(n) if n < LEAST_PATIENTS else "no difference"
    if found["p_value"] is not None:
        p_value = f"{found['p_value']:.2g}"
    least = f"{found['least_p']:.2g}" if "least_p" in found else "n/a"
    all_of_them = f"{n} ({found['n_patients']})" if n < found["n_patients"] else str(n)
    interval = interval_of(found, "low", "high", "+.3f")
    values = [
        f"{found['difference']:+.3f}",
        interval,
        p_value,
        least,
        str(found["better"]),
        str(found["worse"]),
    ]
    return [found["cohort"], found["target"], " - ".join(names), *values, all_of_them]


def ablation_markdown(results: Results) -> str:
    """Return tumor and liver IoU by loss, threshold rule and model: what each choice does with the others fixed."""
    text = page(
        results,
        "Ablation: loss, threshold rule, model",
        HOW_SCORED,
        "IoU, in brackets its 95 % interval by patient.",
    )
    rows = {
        (row["cohort"], row["target"], row["model"], row["loss"], row["threshold_rule"]): row
        for row in results.rows
    }
    for cohort in results.cohorts:
        lines = []
        for target in ("tumor", "liver"):
            for model in results.models:
                for loss in LOSSES:
                    found = {rule: rows.get((cohort, target, model, loss, rule)) for rule in RULES}
                    cells = [_ablated(found[rule], rule, any(found.values())) for rule in RULES]
                    lines.append([target, NAMES[model], NAMES[loss], *cells])
        text += (
            f"\n## {cohort.capitalize()}: {results.origin(cohort)}, {sample(results, cohort)}\n\n"
        )
        text += markdown_table(
            ("target", "model", "loss", *(f"rule {rule}" for rule in RULES)), lines, left=3
        )
    return text + f"\n{RULES_IN_WORDS} -: not a rule of that model. {INTERVALS}\n"


def _ablated(row: Row | None, rule: str, scored: bool) -> str:
    if row is None:
        return "-" if scored and rule == ARGMAX else "no result"
    return f"{readable(row['iou'])} ({interval_of(row)})"


_LESION, _LIVER = "mean over the lesions matched at IoU > 0.5", "liver, mean over cases"
FIGURES: dict[str, tuple[str, str, str]] = {
    "dice": ("ratio", "higher", "Dice, {}"),
    "jaccard": ("ratio", "higher", "IoU, {}"),
    "voe": ("ratio", "lower", "volume overlap error 1 - IoU, {}"),
    "rvd": (
        "ratio",
        "nearer 0",
        "relative volume difference (prediction - reference) / reference, {}",
    ),
    "assd": ("mm", "lower", "average symmetric surface distance, {}"),
    "rmsd": ("mm", "lower", "root mean square symmetric surface distance, {}"),
    "msd": ("mm", "lower", "maximum symmetric surface distance (Hausdorff), {}"),
}
"""Unit, which value is better, and what it is, by the figure's name without `lesion_` or `liver_`."""
OTHER_FIGURES = {
    "lesion_precision": ("ratio", "higher", "lesions found (IoU > 0.5) of those predicted"),
    "lesion_recall": ("ratio", "higher", "lesions found (IoU > 0.5) of those in the reference"),
    "lesion_precision_greater_zero": (
        "ratio",
        "higher",
        "lesions found (IoU > 0) of those predicted",
    ),
    "lesion_recall_greater_zero": (
        "ratio",
        "higher",
        "lesions found (IoU > 0) of those in the reference",
    ),
    "lesion_dice_per_case": (
        "ratio",
        "higher",
        "Dice of all lesion voxels of a case, mean over cases",
    ),
    "lesion_dice_global": ("ratio", "higher", "Dice of all lesion voxels of all cases"),
    "liver_dice_per_case": (
        "ratio",
        "higher",
        "Dice of the liver voxels of a case, mean over cases",
    ),
    "liver_dice_global": ("ratio", "higher", "Dice of the liver voxels of all cases"),
    "RMSE_Tumorburden": (
        "ratio",
        "lower",
        "root mean square over cases of the difference in tumor burden",
    ),
    "MAXERROR_Tumorburden": (
        "ratio",
        "nearer 0",
        "largest difference in tumor burden, reference - prediction, signed",
    ),
}


def described(name: str) -> tuple[str, str, str]:
    """Return unit, which value is better ("lower", "higher", "nearer 0"), and meaning of a LiTS figure.

    What is none of the 24 has empty ones.
    """
    part, _, score = name.partition("_")
    if name in OTHER_FIGURES or score not in FIGURES:
        return OTHER_FIGURES.get(name, ("", "", ""))
    unit, better, meaning = FIGURES[score]
    return unit, better, meaning.format({"lesion": _LESION, "liver": _LIVER}[part])


def lits_markdown(results: Results) -> str:
    """Return the 24 LiTS figures of every system, a table per cohort and mode."""
    rows: list[Row] = [
        r
        for r in results.summary.get("lits", ())
        if (r["model"], r["loss"]) not in results.failures
    ]
    text = page(
        results,
        "LiTS figures",
        "Whole cases of the test and external cohorts, every slice on the store's grid, which is not the volume's own: "
        "so no entry of the challenge's list compares (predict and `python -m evaluation.score` give those). "
        "Thresholds by rule roc, chosen on validation data. official: as the published script, faults included; "
        f"corrected: each lesion matched at most once. {INFINITE:g}: infinite, as where nothing was found; n/a: no "
        "such value. Tumor burden: tumor voxels / liver voxels, tumor included; its largest difference is signed, so a "
        "negative one means more burden than the reference's in every case.",
    )
    if any("n_cases" not in row for row in rows):
        text += (
            "\n**Recorded before whole cases were scored: of the scored slices. Evaluate again.**\n"
        )
    for cohort in results.cohorts:
        if cohort == "validation" and not any(row["cohort"] == cohort for row in rows):
            continue
        mine = [row for row in rows if row["cohort"] == cohort]
        if not mine:
            text += (
                f"\n## {cohort.capitalize()}\n\nNo LiTS figures: {_why_none(results, cohort)}.\n"
            )
        for mode in MODES:
            text += _lits_table(results, cohort, mode, [row for row in mine if row["mode"] == mode])
    return text


def _why_none(results: Results, cohort: str) -> str:
    if cohort == "test" and results.summary["data"].get("split_by") == "slice":
        return "the split is by slice, so the other slices of a test case trained the model, and no case is whole"
    return "no case with liver in its reference was scored whole"


def _lits_table(results: Results, cohort: str, mode: str, rows: list[Row]) -> str:
    if not rows:
        return ""
    found = {(row["model"], row["loss"]): row for row in rows}
    shown = [(model, loss) for model in results.models for loss in LOSSES if (model, loss) in found]
    first: dict[str, Any] = found[shown[0]]
    heading = f"{cohort.capitalize()}, {mode}"
    text, cases = "", results.sample(cohort)[1]
    if "n_cases" in first:
        heading += f": {first['n_cases']} of {cases} case{'' if cases == 1 else 's'}"
        if first.get("left_out"):
            text = f"Left out, no liver in the reference: {', '.join(map(str, first['left_out']))}.\n\n"
    lines = []
    for name in first["figures"]:
        unit, better, meaning = described(name)
        lines.append(
            [
                name,
                meaning,
                unit,
                better,
                *(_figure(found[pair]["figures"][name]) for pair in shown),
            ]
        )
    headings = ["figure", "what it is", "unit", "better", *(system(*pair) for pair in shown)]
    return f"\n## {heading}\n\n{text}" + markdown_table(headings, lines, left=4)


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def calibration_markdown(results: Results) -> str:
    """Return the expected calibration error before and after the balanced phase, by cohort, target and model."""
    text = page(
        results,
        "Calibration",
        f"Expected calibration error (ECE): how far the probability lies from the share of pixels in the reference, "
        f"mean over pixels, in {BINS} equal bins; 0 is best, lower is better. cross-entropy is before, balanced after "
        "the balanced phase. Nearly all pixels of a CT are background at probability 0, so the error over all pixels "
        "is small whatever happens at the lesion; that over the pixels with a probability in (0.01, 0.99) says more. "
        "Pixels pooled over a cohort; no intervals.",
    )
    curves = {
        (c["cohort"], c["target"], c["model"], c["loss"]): c for c in results.curves if "ece" in c
    }
    headings = (
        "target",
        "model",
        "loss",
        "ECE, all pixels",
        "pixels",
        "ECE in (0.01, 0.99)",
        "pixels in (0.01, 0.99)",
    )
    for cohort in results.cohorts:
        lines = []
        for target in ("tumor", "liver"):
            for model in results.models:
                for loss in LOSSES:
                    names = [target, NAMES[model], NAMES[loss]]
                    curve = curves.get((cohort, target, model, loss))
                    lines.append([*names, *(_calibrated(curve) if curve else ["no result"] * 4)])
        text += (
            f"\n## {cohort.capitalize()}: {results.origin(cohort)}, {sample(results, cohort)}\n\n"
        )
        text += markdown_table(headings, lines, left=3)
    return text + "\nn/a: no pixel in the range.\n"


def _calibrated(curve: Row) -> list[str]:
    inside = curve["n_restricted_positive"] + curve["n_restricted_negative"]
    every = curve["n_positive"] + curve["n_negative"]
    return [readable(curve["ece"]), f"{every:,}", readable(curve["ece_restricted"]), f"{inside:,}"]
