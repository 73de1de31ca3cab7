"""Cross-validated systems: DSC and ASSD per fold and in all, compared by patient.

A record of `evaluation.cross_validate` is of one system: a score row for each fold and whole test
case, and an entry for each fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import pandas as pd

from data.command import InputError
from evaluation.metrics.statistics import LEAST_PATIENTS, compare_means
from evaluation.names import TARGETS, WHOLE
from evaluation.results import Results
from evaluation.score_table import add_metrics, bound_column, mean_by_patient, select
from evaluation.tables.published_numbers import (
    ELMENABAWY,
    UNCLEAR,
    Published,
    find_published,
    write_published_heading,
)
from evaluation.tables.text import (
    COVERAGE,
    describe_data,
    list_machines,
    make_markdown,
    write_bounds,
    write_count,
    write_difference,
)

ELMENABAWY_NOTE = "its networks began with ImageNet weights, and the unit of its ASSD is not stated"
HOW_TO_READ = (
    "Means over the patients whose reference holds the target; a case in which nothing was found "
    "has DSC 0 and no ASSD. Below: interval of the mean, patients drawn with replacement, "
    f"{COVERAGE}; none with fewer than {LEAST_PATIENTS}."
)
HOW_COMPARED = (
    "Differences: of the mean DSC over the patients of all folds, with its interval, and p of "
    "Wilcoxon's test over patients, not corrected for the number of comparisons. Both take "
    "patients for independent; but all patients of a fold were segmented by one network, so both "
    "are too optimistic: see whether the folds agree."
)
FAULTS = ("no better than chance", "background everywhere")
WEAK = (
    "On a fold's validation data the network ranks pixels of the liver no better than chance, or, "
    "where it ranks them better, is nowhere decided for tumor."
)
SCORES = {"dice": ("DSC", ".3f"), "assd_mm": ("ASSD (mm)", ".2f")}
"""Name and format of the scores of whole cases."""
SETTINGS = ("filters", "epochs", "tumor_epochs", "batch_size", "learning_rate")
"""Settings of a system that its caption names."""


def name_record(results: Results) -> str:
    """Return the system that a record is of."""
    return str(results.summary["systems"][0]["system"])


def _get_settings(results: Results) -> Mapping[str, Any]:
    return dict(results.summary["systems"][0]["settings"])


class FoldScores:
    """The whole test cases of a system, by fold."""

    def __init__(self, results: Results) -> None:
        """Take the rows of whole cases, with their Dice."""
        self.results = results
        self.name = name_record(results)
        self.folds: list[dict[str, Any]] = results.summary["systems"]
        self.rows = add_metrics(select(results.scores, unit=WHOLE, postprocess=""), ["dice"])

    @property
    def numbers(self) -> list[int]:
        """Numbers of the folds."""
        return [fold["fold"] for fold in self.folds]

    def select_held(self, target: str, folds: Sequence[int]) -> pd.DataFrame:
        """Return the rows of the cases whose reference holds a target."""
        rows = select(self.rows, target=target, fold=list(folds))
        return rows[rows["tp"] + rows["fn"] > 0]

    def write_scores(self, target: str, folds: Sequence[int]) -> list[str]:
        """Return the cells of `SCORES`, over the folds that gave a result."""
        given = select(self.rows, target=target, fold=list(folds))["fold"].nunique()
        if not given:
            return ["no result"] * len(SCORES)
        missing = f" ({given} of {len(folds)} folds)" if given < len(folds) else ""
        held, cells = self.select_held(target, folds), []
        for score, (_, form) in SCORES.items():
            interval = bound_column(held, score)
            text = "n/a" if interval is None else f"{interval.value:{form}}"
            bounds = "" if interval is None else write_bounds(interval, form)
            cells.append(f"{text}{missing}{bounds}")
        return cells

    def count_cases(self, folds: Sequence[int]) -> list[str]:
        """Write how many cases and patients were tested, and how many have tumor."""
        rows = select(self.rows, fold=list(folds))
        tumors = self.select_held("tumor", folds)["case"].nunique()
        tested = sum(fold["test_cases"] for fold in self.folds if fold["fold"] in folds)
        has_tumors = bool(len(select(rows, target="tumor")))
        patients = str(rows["patient"].nunique()) if len(rows) else ""
        return [str(tested), patients, str(tumors) if has_tumors else ""]

    def name_folds(self, key: str, heading: str) -> str:
        """Return a line naming the folds of which `key` says something, or ""."""
        named = "; ".join(f"fold {fold['fold']}: {fold[key]}" for fold in self.folds if fold[key])
        return f"\n{heading}: {named}.\n" if named else ""

    @property
    def published(self) -> Published | None:
        """What is published of the system."""
        return find_published(self.name, _get_settings(self.results))

    def write_published(self) -> dict[tuple[str, str], str]:
        """Return published numbers by target and score ("": none, or not said)."""
        published = None if self.name in UNCLEAR else self.published
        numbers = {
            (target, score): getattr(published, target, {}).get(score)
            for target in TARGETS
            for score in SCORES
        }
        return {key: "" if number is None else f"{number:g}" for key, number in numbers.items()}

    def explain_published(self) -> str:
        """Say where the published numbers are from; "" where there are none."""
        published = self.published
        if published is None:
            return ""
        unclear = f"DSC of `{self.name}` {published.liver['dice']:g}; "
        more = f"; {ELMENABAWY_NOTE}" if published.where == ELMENABAWY else ""
        where = published.where + more
        return f"\nPublished: {unclear if self.name in UNCLEAR else ''}{where}.\n"


def check_folds(first: Results, other: Results) -> None:
    """Check that a record is of the folds of the first one.

    Raises:
        InputError: it is no record of a cross-validation, was interrupted, or is of other folds.
    """
    folds = []
    for results in (first, other):
        if any("fold" not in entry for entry in results.summary["systems"]):
            raise InputError(f"{results.path}: no record of evaluation.cross_validate")
        if left := results.summary.get("left"):
            rule = "not scored yet; call evaluation.cross_validate again"
            raise InputError(f"{results.path}: {', '.join(left)} {rule}")
        folds.append([fold["store_sha256"] for fold in results.summary["systems"]])
    if folds[0] != folds[1]:
        raise InputError(f"{other.path}: other folds than {first.path}")


def summarise_folds(records: Sequence[Results]) -> list[str]:
    """Return the paragraphs of the README's block: systems and differences."""
    systems = [FoldScores(results) for results in records]
    parts = [caption_all(records), make_summary(systems), HOW_TO_READ]
    return parts + ([make_differences(systems), HOW_COMPARED] if len(records) > 1 else [])


def make_folds_page(records: Sequence[Results]) -> str:
    """Return the captions and tables of systems, and their differences."""
    systems = [FoldScores(results) for results in records]
    parts = [f"# Cross-validated: {', '.join(system.name for system in systems)}"]
    if len(records) > 1:
        differences = make_differences(systems).rstrip()
        parts += [caption_all(records), make_summary(systems).rstrip(), differences, HOW_COMPARED]
    for system in systems:
        caption = describe_folds(system.results)
        parts += [f"## {system.name}", caption, make_fold_table(system).rstrip()]
    return "\n\n".join([*parts, HOW_TO_READ]) + "\n"


def caption_all(records: Sequence[Results]) -> str:
    """Return the caption of all systems, or of each where they differ."""
    captions = [describe_folds(results) for results in records]
    if len(set(captions)) == 1:
        return captions[0]
    named = zip(records, captions, strict=True)
    return "\n\n".join(f"`{name_record(results)}`: {caption}" for results, caption in named)


def describe_folds(results: Results) -> str:
    """Return the lines above the table: data, folds, training, machine."""
    settings, folds = _get_settings(results), results.summary["systems"]
    trained = [f"{k} {settings[k]}" for k in SETTINGS if settings.get(k) is not None]
    begins = "a file's" if settings.get("weights_sha256") else "random"
    with_slices = " or ".join(dict.fromkeys(fold["trained_with"] for fold in folds))
    validation = " or ".join(dict.fromkeys(str(fold["validation_cases"]) for fold in folds))
    plural = "" if validation == "1" else "s"
    machine = " and ".join(list_machines([results.summary["environment"]]))
    return (
        f"Data: {describe_data(results.data)}; {len(folds)} folds by patient, each trained with "
        f"{with_slices}, its epoch chosen on {validation} validation case{plural}, {begins} "
        f"weights at the beginning. Preset `{results.summary['preset']}`, seed {results.seed}; "
        f"{', '.join(trained)}; every slice of the test cases; {machine}."
    )


def make_summary(systems: Sequence[FoldScores]) -> str:
    """Return a line per system: scores over folds, DSC of each, published, notes.

    Of a target that no system finds anywhere, its DSC alone.
    """
    data = systems[0].results.data
    headings, lines = ["system"], {system.name: [f"`{system.name}`"] for system in systems}
    for target in TARGETS:
        is_found = any(s.select_held(target, s.numbers)["tp"].any() for s in systems)
        has_distance = is_found and not data.get("nominal_spacing")
        shown = {"DSC": True, "DSC of each fold": is_found, "ASSD (mm)": has_distance}
        headings += [f"{target} {name}" for name, is_shown in shown.items() if is_shown]
        headings.append(f"{target} DSC {write_published_heading(data['synthetic'])}")
        for system in systems:
            mean, distance = system.write_scores(target, system.numbers)
            folds = [system.write_scores(target, [number])[0] for number in system.numbers]
            each = ", ".join(cell.split("<br>")[0] for cell in folds)
            cells = zip((mean, each, distance), shown.values(), strict=True)
            lines[system.name] += [cell for cell, is_shown in cells if is_shown]
            lines[system.name].append(system.write_published()[target, "dice"])
    headings += ["folds where tumors are: no better than chance, found nowhere", "training (min)"]
    for system in systems:
        weak = [sum(f"tumor: {f}" in fold["note"] for fold in system.folds) for f in FAULTS]
        minutes = sum(fold["train_s"] for fold in system.folds) / 60
        faults = f"{', '.join(map(str, weak))} of {len(system.folds)}"
        lines[system.name] += [faults, f"{minutes:.0f}"]
    # The cases are those of the system with most results.
    most = max(systems, key=lambda system: len(system.rows))
    tested, patients, with_tumor = most.count_cases(most.numbers)
    notes = [f"\n{tested} cases of {patients} patients, {with_tumor} cases with tumor. {WEAK}\n"]
    notes += dict.fromkeys(system.explain_published() for system in systems)
    notes += [system.name_folds("why", f"Not a result, `{system.name}`") for system in systems]
    return make_markdown(headings, lines.values(), left=1) + "".join(notes)


def make_differences(systems: Sequence[FoldScores]) -> str:
    """Return the DSC differences of every two systems; no column where none differ."""
    pairs = list(combinations(systems, 2))
    columns = {}
    for target in TARGETS:
        cells = [_write_difference(first, second, target) for first, second in pairs]
        if any(cells):
            columns[f"{target} DSC"] = [cell or "none" for cell in cells]
    names = [f"`{first.name}` less `{second.name}`" for first, second in pairs]
    return make_markdown(["systems", *columns], zip(names, *columns.values(), strict=True), left=1)


def _write_difference(first: FoldScores, second: FoldScores, target: str) -> str:
    """Write the difference of means over all folds and of each ("": none)."""
    sides = [
        [mean_by_patient(system.select_held(target, [n]), "dice") for n in system.numbers]
        for system in (first, second)
    ]
    whole = [{patient: v for fold in side for patient, v in fold.items()} for side in sides]
    if not whole[0].keys() & whole[1].keys():
        return "no result"
    comparison = compare_means(*whole)
    if not comparison.better + comparison.worse:
        return ""
    n = write_count(comparison.difference.n_patients)
    moved = f"of {n} {comparison.better} higher, {comparison.worse} lower"
    folds = []
    for values, others in zip(*sides, strict=True):
        shared = sorted(values.keys() & others.keys())
        change = fmean(values[p] - others[p] for p in shared) if shared else None
        folds.append("no result" if change is None else f"{change:+.3f}")
    return f"{write_difference(comparison)}<br>{moved}<br>folds {', '.join(folds)}"


def make_fold_table(system: FoldScores) -> str:
    """Return a line per fold, all cases with intervals by patient, and notes."""
    headings = ["", "test cases", "of patients", "cases with tumor"]
    headings += [f"{target} {name}" for target in TARGETS for name, _ in SCORES.values()]
    rows = [(f"fold {number}", [number]) for number in system.numbers]
    lines = []
    for name, folds in [*rows, ("**all**", system.numbers)]:
        scores = [cell for target in TARGETS for cell in system.write_scores(target, folds)]
        lines.append([name, *system.count_cases(folds), *scores])
    published, data = system.write_published(), system.results.data
    if any(published.values()):
        heading = write_published_heading(data["synthetic"])
        lines.append([heading, "", "", "", *published.values()])
    nominal = "\nNo distances: the spacing in the headers is nominal.\n"
    return (
        make_markdown(headings, lines, left=1)
        + system.explain_published()
        + system.name_folds("why", "Not a result")
        + system.name_folds("note", "Weak on validation data")
        + (nominal if data.get("nominal_spacing") else "")
    )
