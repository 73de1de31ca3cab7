"""What stands below the tables of all systems: how to read them, what is weak or no result, what guessing gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from evaluation.metrics.counts import Counts, dice
from evaluation.metrics.statistics import means_by_patient
from evaluation.names import NO_CONTOUR, TARGETS, spelled
from evaluation.published_numbers import NUMBERS, heading_of_published
from evaluation.tables.text import COVERAGE

SCORE_NAMES = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "dice": "Dice = F1",
    "iou": "IoU",
    "assd_mm": "ASSD",
}

Row = dict[str, Any]


def beginnings(comparisons: Sequence[Row]) -> str:
    """Say which weights the networks began with, and the published ones did."""
    pretrained = [one["system"] for one in comparisons[0]["systems"] if one["begins"] != "random"]
    named = ", ".join(map(in_words, pretrained))
    here = f"{named} with the weights of a file, all others" if named else "all here"
    return f"Networks begin: {here} at random; those of Elmenabawy et al. with ImageNet weights."


def timed_alone(comparisons: Sequence[Row]) -> str:
    """Say of which systems the prediction's time is that of the liver's network alone."""
    alone: dict[str, None] = {}
    for one in comparisons:
        livers, tumors = (
            {row["system"] for row in one["cases"] if row["target"] == target} for target in TARGETS
        )
        alone |= dict.fromkeys(
            in_words(of["system"]) for of in one["systems"] if of["system"] in livers - tumors
        )
    named = ", ".join(alone)
    return f" Prediction of {named}: of the liver alone." if named else ""


def _cause(note: str) -> tuple[str, str]:
    """Split a note into its words and the AUC in it, so that systems with the same fault are named together."""
    found = re.search(r"AUC (\d\.\d+) ", note)
    return (note.replace(f"{found[1]} ", ""), found[1]) if found else (note, "")


def failings(comparisons: Sequence[Row]) -> str:
    """Name what is no result, what finds nothing on validation data, and what the documents have and these data not."""
    text = ""
    for key, heading in (("why", "Not a result"), ("weak", "Weak on validation data")):
        causes: dict[str, dict[str, list[str]]] = {}
        for one in comparisons:
            seed = f"(seed {one['seed']})" if comparisons[1:] else ""
            for system in one["systems"]:
                if system["system"].endswith(NO_CONTOUR):
                    continue
                for cause, value in map(_cause, filter(None, system[key].split("; "))):
                    causes.setdefault(cause, {}).setdefault(in_words(system["system"]), []).append(
                        f"{value} {seed}"
                    )
        items = []
        for cause, found in causes.items():
            named = (
                f"{name} {', '.join(map(str.strip, of_seeds))}".strip()
                for name, of_seeds in found.items()
            )
            items.append(f"- {cause}: {'; '.join(named)}\n")
        text += f"\n{heading}:\n\n{''.join(items)}" if items else ""
    missing = [
        name for name in NUMBERS if all(one["system"] != name for one in comparisons[0]["systems"])
    ]
    for name in missing:
        said = "; ".join(
            f"{target} {', '.join(f'{SCORE_NAMES[score]} {value:g}' for score, value in scores.items())}"
            for target, scores in (("liver", NUMBERS[name].liver), ("tumor", NUMBERS[name].tumor))
            if scores
        )
        above = heading_of_published(comparisons[0]["data"]["synthetic"])
        text += f"\nNot trained on these data: {in_words(name)}; {above}: {said}.\n"
    return text


def blind_dice(comparisons: Sequence[Row]) -> dict[str, float]:
    """Return by cohort the tumor DSC, mean over patients, of marking the whole reference liver as tumor."""
    rows = comparisons[0]["cases"]
    livers = {
        (row["cohort"], row["case"]): row["tp"] + row["fn"]
        for row in rows
        if row["target"] == "liver"
    }
    tumors = {
        (row["cohort"], row["case"]): row
        for row in rows
        if row["target"] == "tumor" and row["tp"] + row["fn"]
    }
    found: dict[str, list[Row]] = {}
    for (cohort, case), row in tumors.items():
        tumor = row["tp"] + row["fn"]
        guess = dice(Counts(tp=tumor, fp=livers[cohort, case] - tumor))
        found.setdefault(cohort, []).append({"patient": row["patient"], "dice": guess})
    return {
        cohort: fmean(means_by_patient(guesses, "dice").values())
        for cohort, guesses in found.items()
    }


def blind(comparisons: Sequence[Row]) -> str:
    """Say what `blind_dice` returns."""
    found = ", ".join(f"{cohort} {value:.3f}" for cohort, value in blind_dice(comparisons).items())
    return (
        f"Marking the whole reference liver as tumor gives a tumor DSC of: {found}. "
        if found
        else ""
    )


def notes(comparisons: Sequence[Row]) -> str:
    """Say how the tables are to be read."""
    weak = {
        system["system"]: (system["weak_label"]["r2_training"], system["weak_label"]["r2_left_out"])
        for system in comparisons[0]["systems"]
        if system.get("weak_label") and not system["system"].endswith(NO_CONTOUR)
    }
    text = (
        "DSC and ASSD: means over the patients whose reference holds the target, a patient's cases averaged "
        "first; a case in which nothing was found has DSC 0 and no ASSD (of m of n: cases, over all seeds, that "
        "have one). ± is the SD over seeds; below it the interval of the mean: patients drawn with replacement, "
        f"{COVERAGE}. Accuracy counts every voxel of the slices, most of which are neither. Published: other data, "
        "other split, in part other targets and definitions (the unit of the published ASSD is not stated); not "
        f"to be compared digit by digit. {blind(comparisons)}{beginnings(comparisons)} The paper's models take "
        "thresholds found on validation data, the others the most probable class, or 0.5. Epoch kept: that of the "
        "best validation IoU (by that rule, but for the paper's models); an early one of many says that the later ones "
        "found less there. Parameters: of the networks that predict; trained along: of the VAE branch, where its "
        "loss counts. Training: for the balanced rows with the cross-entropy before them, without the trial of "
        "scalings; a liver network that variants of the pipeline share counts for each of them. Host memory: the "
        "highest of the process, which trained several systems one after the other. "
        "Prediction: inputs, networks, smoothing and post-processing, the first case left out."
        f"{timed_alone(comparisons)}\n"
    )
    if weak:
        found = ", ".join(
            f"{in_words(name)} {fitted:.2f} and {left_out:.2f}"
            for name, (fitted, left_out) in weak.items()
        )
        text += (
            "\nShare of the variance of the tumor-to-liver ratio that the weak label explains, in the training "
            f"patients on whom it is fitted and in each left out of the fit: {found}.\n"
        )
    if comparisons[0]["data"]["nominal_spacing"]:
        text += "\nNo distances: the spacing in the headers of these volumes is nominal.\n"
    return text + failings(comparisons)


def in_words(name: str) -> str:
    """Name a system for readers; the label of another document's system is code."""
    text = spelled(name)
    return f"`{name}`" if text == name else text
