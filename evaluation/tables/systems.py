"""All systems over seeds: whole cases, cost, and what the documents published.

Dice and ASSD are means over patients and seeds, with intervals by patient. Published numbers have
columns of their own: other data, other splits.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from data.command import InputError
from data.runs import NO_CONTOUR
from evaluation.metrics.counts import Counts, dice, iou, pixel_accuracy, sensitivity
from evaluation.metrics.statistics import Interval, bound_mean_score
from evaluation.names import (
    NAMES,
    PHASES,
    SYSTEMS,
    TARGETS,
    UNSEEN,
    WHOLE,
    describe_origin,
    spell_system,
)
from evaluation.results import Results
from evaluation.score_table import (
    add_metrics,
    bound_column,
    count_patients,
    mean_by_patient,
    select,
)
from evaluation.tables.published_numbers import (
    NUMBERS,
    UNCLEAR,
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
    write_score,
    write_seeds,
)

TITLE = "All systems"
POOLED: dict[str, Callable[[Counts], float]] = {
    "accuracy": pixel_accuracy,
    "sensitivity": sensitivity,
    "dice": dice,
    "iou": iou,
}
"""Scores of all voxels of a cohort together; F1 of voxels is their Dice."""
SCORE_NAMES = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "dice": "Dice = F1",
    "iou": "IoU",
    "assd_mm": "ASSD",
}
COSTS = {
    "document": "document",
    "begins": "begins",
    "trained_with": "trained with",
    "epochs": "epoch kept",
    "parameters": "parameters",
    "along": "parameters trained along",
    "train_s": "training (s)",
    "peak_memory_mib": "host memory of training (MiB)",
    "ms_per_slice": "prediction (ms a slice)",
}
"""Columns of the cost table."""

System = tuple[str, str]
"""System and phase."""
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class SystemScore:
    """The scores of a system on a cohort and target.

    Attributes:
        cohort, target, system, phase: what was scored.
        n_seeds: how many of `n_records` gave a result.
        dice, assd_mm: mean over patients that hold the target; None without a value.
        by_seed: mean Dice of each seed.
        n_valued: cases with an ASSD, over all seeds, of `n_cases`.
        pooled: by score of `POOLED`; {} without a result.
        published: by score, for the target.
    """

    cohort: str
    target: str
    system: str
    phase: str
    n_seeds: int
    n_records: int
    published: Mapping[str, float]
    dice: Interval | None = None
    assd_mm: Interval | None = None
    by_seed: list[float] = field(default_factory=list)
    n_valued: int = 0
    n_cases: int = 0
    pooled: Mapping[str, Interval] = field(default_factory=dict)

    def write_mean(self, score: str, form: str = ".3f") -> str:
        """Write the mean of "dice" or "assd_mm", and below it its interval."""
        interval: Interval | None = getattr(self, score)
        if interval is None:
            return "n/a" if self.n_seeds else "no result"
        text = format(interval.value, form)
        if score == "dice" and len(self.by_seed) > 1:
            text += f" ± {statistics.stdev(self.by_seed):.3f}"
        if score == "assd_mm" and self.n_valued < self.n_cases:
            text += f" (of {self.n_valued} of {self.n_cases})"
        return text + write_seeds(self.n_seeds, self.n_records) + write_bounds(interval, form)

    def write_pooled(self, score: str) -> str:
        """Write a pooled score, and below it its interval."""
        if score not in self.pooled:
            return "no result"
        interval = self.pooled[score]
        text = write_score(interval.value)
        if interval.low is not None:
            text += f"<br>{write_score(interval.low)} to {write_score(interval.high)}"
        return text + write_seeds(self.n_seeds, self.n_records)

    def write_published(self, with_distance: bool) -> str:
        """Write the published Dice, and ASSD in brackets; "" where there is none."""
        if "dice" not in self.published:
            return ""
        text = f"{self.published['dice']:.3f}"
        if self.system in UNCLEAR:
            text = f"{self.published['dice']:.2f}, of which target is not said"
        distance = self.published.get("assd_mm") if with_distance else None
        return text if distance is None else f"{text} ({distance:.2f})"


def name_system(system: System) -> str:
    """Name a system for readers; the label of another document's system is code."""
    if system[0] in NAMES:
        return spell_system(*system)
    return f"`{system[0]}`" + spell_system("", system[1])  # a phase "train" is not named


def rank_system(system: System) -> tuple[Any, ...]:
    """Return a system's place: the paper's, then documents', before variants."""
    name, phase = system
    place = PHASES.index(phase) if phase in PHASES else len(PHASES)
    if name in SYSTEMS:
        return 0, SYSTEMS.index(name), place
    known = [index for index, label in enumerate(NUMBERS) if name.startswith(label)]
    return 1, max(known, default=len(NUMBERS)), name, place


class SystemComparison:
    """The systems of several seeds, scored on whole cases."""

    def __init__(self, records: Sequence[Results]) -> None:
        """Collect the entries and the rows of whole test and external cases of each seed."""
        self.records = records
        self.entries = [list_entries(results) for results in records]
        self.systems = sorted(self.entries[0], key=rank_system)
        self.rows = [list_rows(results) for results in records]
        self.synthetic = bool(records[0].data["synthetic"])

    @property
    def cohorts(self) -> list[str]:
        """Test and external, where they were scored."""
        scored = {cohort for rows in self.rows for cohort in rows["cohort"]}
        return [cohort for cohort in UNSEEN if cohort in scored]

    @cached_property
    def scores(self) -> list[SystemScore]:
        """A score for each cohort, target and system, in the order of the tables."""
        return [
            self._score(cohort, target, system)
            for cohort in self.cohorts
            for target in TARGETS
            for system in self.systems
        ]

    def index_scores(self, cohort: str) -> dict[tuple[str, System], SystemScore]:
        """Return the scores of a cohort by target and system."""
        of_cohort = [score for score in self.scores if score.cohort == cohort]
        return {(score.target, (score.system, score.phase)): score for score in of_cohort}

    def _score(self, cohort: str, target: str, system: System) -> SystemScore:
        key = {"cohort": cohort, "target": target, "system": system[0], "phase": system[1]}
        seeds = [rows for all_rows in self.rows if len(rows := select(all_rows, **key))]
        published = find_published(system[0], self.entries[0][system]["settings"])
        of_target = getattr(published, target) if published else {}
        head = cohort, target, *system, len(seeds), len(self.records), of_target
        if not seeds:
            return SystemScore(*head)
        # A patient whose reference lacks the target has no Dice and no distance.
        held = [rows[rows["tp"] + rows["fn"] > 0] for rows in seeds]
        together = pd.concat(held)
        by_seed = [mean_by_patient(rows, "dice") for rows in held]
        counts = [count_patients(rows) for rows in seeds]
        return SystemScore(
            *head,
            dice=bound_column(together, "dice"),
            assd_mm=bound_column(together, "assd_mm"),
            by_seed=[statistics.fmean(values.values()) for values in by_seed if values],
            n_valued=int(together["assd_mm"].count()),
            n_cases=len(together),
            pooled={
                name: bound_mean_score(counts, score, of_reference=score is not pixel_accuracy)
                for name, score in POOLED.items()
            },
        )

    @cached_property
    def blind_dice(self) -> dict[str, float]:
        """Tumor Dice of marking the whole liver, mean over patients, by cohort."""
        cases = self.rows[0].drop_duplicates(["cohort", "target", "case"])
        cases = cases.assign(size=cases["tp"] + cases["fn"]).set_index(["cohort", "case"])
        tumors, livers = (cases[cases["target"] == target] for target in ("tumor", "liver"))
        tumors = tumors[tumors["size"] > 0]
        liver_sizes = livers["size"].reindex(tumors.index)
        guesses = [
            dice(Counts(tp=tumor, fp=liver - tumor))
            for tumor, liver in zip(tumors["size"], liver_sizes.astype(int), strict=True)
        ]
        blind = {}
        for cohort, group in tumors.assign(dice=guesses).groupby("cohort", sort=False):
            blind[str(cohort)] = statistics.fmean(mean_by_patient(group, "dice").values())
        return blind


def list_entries(results: Results) -> dict[System, Entry]:
    """Return the entries of a run's systems, without the points of a sweep."""
    entries = results.summary["systems"]
    shown = [e for e in entries if e["phase"] in PHASES or e["phase"] == "train"]
    return {(entry["system"], entry["phase"]): entry for entry in shown}


def list_rows(results: Results) -> pd.DataFrame:
    """Return the rows of whole cases, with their Dice."""
    rows = select(results.scores, unit=WHOLE, postprocess="", cohort=UNSEEN)
    return add_metrics(rows, ["dice"])


def check_systems(first: Results, other: Results) -> None:
    """Check that a run is scored and has the systems of the first one.

    Raises:
        InputError: its scoring was interrupted; no system gave a result; it has others, or other
            settings of one.
    """
    if left := other.summary.get("left"):
        raise InputError(
            f"{other.path}: {', '.join(left)} not scored yet; call evaluation.evaluate again"
        )
    if not len(list_rows(other)):
        raise InputError(f"{other.path}: no system gave a result")
    systems = [
        {key: entry["settings"] for key, entry in list_entries(results).items()}
        for results in (first, other)
    ]
    if systems[0] != systems[1]:
        raise InputError(f"{other.path}: other systems, or other settings of one, than the first")


def describe_systems(records: Sequence[Results]) -> str:
    """Return the lines above the table: data, seeds, machines."""
    data, preset = records[0].data, records[0].summary["preset"]
    sets = [f"{data[f'{name}_cases']} {name} cases" for name in ("train", "validation", "test")]
    external = data["external"]
    more = f"; external: {describe_origin(external)}, {external['cases']} cases" if external else ""
    trained = [e["trained_on"] for results in records for e in list_entries(results).values()]
    seeds = ", ".join(str(results.seed) for results in records)
    return (
        f"Data: {describe_data(data)}; {', '.join(sets)}{more}. Preset `{preset}`, seed {seeds}; "
        f"every slice of the {'test and external' if external else 'test'} cases; each system "
        f"with its own decision rule; {' and '.join(list_machines(trained))}."
    )


def make_systems(results: Results) -> str:
    """Return the page of one run's systems; "" without one of another document."""
    if all(system in SYSTEMS for system, _ in list_entries(results)) or not len(list_rows(results)):
        return ""
    return make_systems_page([results])


def make_systems_page(records: Sequence[Results]) -> str:
    """Return the tables of each cohort, the cost, and how to read them."""
    comparison = SystemComparison(records)
    text = f"# {TITLE}\n\n{describe_systems(records)}\n\n"
    for cohort in comparison.cohorts:
        heading = cohort.capitalize()
        text += f"{heading}, means over patients:\n\n{_make_means(comparison, cohort)}\n"
        pooled = _make_pooled(comparison, cohort)
        text += f"{heading}, all voxels of the cohort together:\n\n{pooled}\n"
    costs = list_costs(comparison)
    lines = [[name_system(system), *cells.values()] for system, cells in costs.items()]
    cost = make_markdown(["system", *COSTS.values()], lines, left=5)
    return text + f"Cost:\n\n{cost}\n{_explain_tables(comparison)}"


def summarise_systems(records: Sequence[Results]) -> list[str]:
    """Return the paragraphs of the README's block: Dice and cost in one table."""
    comparison = SystemComparison(records)
    scores = {cohort: comparison.index_scores(cohort) for cohort in comparison.cohorts}
    columns = [(cohort, target) for cohort in scores for target in TARGETS]
    published = write_published_heading(comparison.synthetic)
    headings = ["system", *(f"{cohort} {target} DSC" for cohort, target in columns)]
    headings += [f"{target} DSC {published}" for target in TARGETS]
    shown = ("parameters", "train_s", "ms_per_slice")
    headings += [COSTS[name] for name in shown]
    lines = []
    for system, costs in list_costs(comparison).items():
        first = scores[comparison.cohorts[0]]
        line = [scores[cohort][target, system].write_mean("dice") for cohort, target in columns]
        line += [first[target, system].write_published(with_distance=False) for target in TARGETS]
        lines.append([name_system(system), *line, *(costs[name] for name in shown)])
    counted = [
        f"{cohort}: {n} with tumor"
        for cohort in comparison.cohorts
        if (n := _count_tumors(comparison, cohort))
    ]
    notes = (
        "DSC: mean over the patients whose reference holds the target "
        f"({'; '.join(counted)}), ± SD over seeds; below it the nominal 95 % interval by patient "
        "(none with fewer than 5). Published: other data, other split. "
        f"{explain_guess(comparison)}{explain_beginnings(comparison)} Parameters: of the networks "
        "that predict. Training: for the balanced rows with the cross-entropy before them."
        f"{explain_times(comparison)}\n{list_faults(comparison)}"
    )
    return [describe_systems(records), make_markdown(headings, lines, left=1), notes]


def _count_tumors(comparison: SystemComparison, cohort: str) -> str:
    """Write how many patients have tumor; "" without a system that was scored."""
    intervals = [s.dice for s in comparison.scores if (s.cohort, s.target) == (cohort, "tumor")]
    return next((write_count(interval.n_patients) for interval in intervals if interval), "")


def _make_means(comparison: SystemComparison, cohort: str) -> str:
    scores = comparison.index_scores(cohort)
    published = write_published_heading(comparison.synthetic)
    headings = ["system"]
    for target in TARGETS:
        headings += [f"{target} DSC", f"{target} ASSD (mm)"]
    headings += [f"{target} DSC (ASSD) {published}" for target in TARGETS]
    lines = []
    for system in comparison.systems:
        of_targets = [scores[target, system] for target in TARGETS]
        line = [name_system(system)]
        for score in of_targets:
            line += [score.write_mean("dice"), score.write_mean("assd_mm", ".1f")]
        lines.append([*line, *(score.write_published(with_distance=True) for score in of_targets)])
    n = _count_tumors(comparison, cohort)
    return make_markdown(headings, lines, left=1) + (f"\n{n} with tumor.\n" if n else "")


def _make_pooled(comparison: SystemComparison, cohort: str) -> str:
    scores = comparison.index_scores(cohort)
    columns = [(target, score) for target in TARGETS for score in POOLED]
    headings = ["system", *(f"{target} {SCORE_NAMES[score]}" for target, score in columns)]
    headings.append(write_published_heading(comparison.synthetic))
    lines = []
    for system in comparison.systems:
        line = [scores[target, system].write_pooled(score) for target, score in columns]
        shares = [
            f"{'target not said' if system[0] in UNCLEAR else target}: {_list_scores(published)}"
            for target in TARGETS
            if (published := scores[target, system].published).keys()
            & {"accuracy", "sensitivity", "iou"}
        ]
        lines.append([name_system(system), *line, "; ".join(shares)])
    return make_markdown(headings, lines, left=1)


def _list_scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{SCORE_NAMES[score]} {value:g}" for score, value in scores.items())


def list_costs(comparison: SystemComparison) -> dict[System, dict[str, str]]:
    """Return the cells of the cost table (`COSTS`) of each system, over the seeds."""
    costs = {}
    for system in comparison.systems:
        seeds = [entries[system] for entries in comparison.entries]
        entry = seeds[0]
        timed = [seed["ms_per_slice"] for seed in seeds if seed.get("ms_per_slice") is not None]
        has_vae = (entry["settings"] or {}).get("vae_weight")
        along = entry["parameters"] - entry["predicting_parameters"] if has_vae else 0
        memory = max(seed["peak_memory_mib"] for seed in seeds)
        cells = {name: entry[name] for name in ("document", "begins", "trained_with")}
        cells |= {
            "epochs": "; ".join(dict.fromkeys(map(_write_epochs, seeds))),
            "parameters": f"{entry['predicting_parameters']:,}",
            "along": f"{along:,}" if along else "",
            "train_s": f"{statistics.fmean(seed['train_s'] for seed in seeds):,.0f}",
            "peak_memory_mib": f"{memory:,.0f}",
            "ms_per_slice": f"{statistics.fmean(timed):.1f}" if timed else "n/a",
        }
        costs[system] = cells
    return costs


def _write_epochs(entry: Entry) -> str:
    """Say which epoch of each network was kept: `liver 7 of 10, tumor 13 of 13`."""
    epochs = entry["epochs"]
    names = {name: "" if len(epochs) == 1 else f"{name} " for name in epochs}
    return ", ".join(f"{names[name]}{best} of {every}" for name, (best, every) in epochs.items())


# --- What stands below the tables. ---


def explain_beginnings(comparison: SystemComparison) -> str:
    """Say which weights the networks began with, and the published ones did."""
    entries = comparison.entries[0]
    loaded = [name_system(key) for key, e in entries.items() if e["begins"] != "random"]
    here = f"{', '.join(loaded)} with the weights of a file, all others" if loaded else "all here"
    return f"Networks begin: {here} at random; those of Elmenabawy et al. with ImageNet weights."


def explain_times(comparison: SystemComparison) -> str:
    """Say whose prediction time is that of the liver's network alone."""
    alone: dict[str, None] = {}
    for entries, rows in zip(comparison.entries, comparison.rows, strict=True):
        livers, tumors = (
            set(zip(of_target["system"], of_target["phase"], strict=True))
            for of_target in (select(rows, target=target) for target in TARGETS)
        )
        alone |= dict.fromkeys(name_system(key) for key in entries if key in livers - tumors)
    return f" Prediction of {', '.join(alone)}: of the liver alone." if alone else ""


def explain_guess(comparison: SystemComparison) -> str:
    """Say what marking the whole liver as tumor would score."""
    values = ", ".join(f"{cohort} {value:.3f}" for cohort, value in comparison.blind_dice.items())
    text = f"Marking the whole reference liver as tumor gives a tumor DSC of: {values}. "
    return text if values else ""


def list_faults(comparison: SystemComparison) -> str:
    """Name what is no result, weak on validation data, or not trained."""
    text = ""
    for key, heading in (("why", "Not a result"), ("note", "Weak on validation data")):
        causes: dict[str, dict[str, list[str]]] = {}
        for results, entries in zip(comparison.records, comparison.entries, strict=True):
            seed = f"(seed {results.seed})" if comparison.records[1:] else ""
            for system, entry in entries.items():
                if system[0].endswith(NO_CONTOUR):
                    continue
                for fault in filter(None, entry[key].split("; ")):
                    cause, value = _split_fault(fault)
                    systems = causes.setdefault(cause, {}).setdefault(name_system(system), [])
                    systems.append(f"{value} {seed}".strip())
        items = [
            f"- {cause}: "
            + "; ".join(f"{name} {', '.join(seeds)}".strip() for name, seeds in systems.items())
            for cause, systems in causes.items()
        ]
        text += f"\n{heading}:\n\n" + "\n".join(items) + "\n" if items else ""
    trained = {system for system, _ in comparison.systems}
    for name in (name for name in NUMBERS if name not in trained):
        targets = (("liver", NUMBERS[name].liver), ("tumor", NUMBERS[name].tumor))
        numbers = "; ".join(f"{t} {_list_scores(scores)}" for t, scores in targets if scores)
        above = write_published_heading(comparison.synthetic)
        text += f"\nNot trained on these data: `{name}`; {above}: {numbers}.\n"
    return text


def _split_fault(fault: str) -> tuple[str, str]:
    """Split a fault into words and AUC, so that the same fault is named once."""
    match = re.search(r"AUC (\d\.\d+) ", fault)
    return (fault.replace(f"{match[1]} ", ""), match[1]) if match else (fault, "")


def _explain_tables(comparison: SystemComparison) -> str:
    """Say how the tables are to be read."""
    weak_labels = {
        name_system(system): entry["weak_label"]
        for system, entry in comparison.entries[0].items()
        if entry.get("weak_label") and not system[0].endswith(NO_CONTOUR)
    }
    text = (
        "DSC and ASSD: means over the patients whose reference holds the target, a patient's cases "
        "averaged first; a case in which nothing was found has DSC 0 and no ASSD (of m of n: "
        "cases, over all seeds, that have one). ± is the SD over seeds; below it the interval of "
        f"the mean: patients drawn with replacement, {COVERAGE}. Accuracy counts every voxel of "
        "the slices, most of which are neither. Published: other data, other split, in part other "
        "targets and definitions (the unit of the published ASSD is not stated); not to be "
        f"compared digit by digit. {explain_guess(comparison)}{explain_beginnings(comparison)} The "
        "paper's models take thresholds found on validation data, the others the most probable "
        "class, or 0.5. Epoch kept: that of the best validation IoU (by that rule, but for the "
        "paper's models); an early one of many says that the later ones found less there. "
        "Parameters: of the networks that predict; trained along: of the VAE branch, where its "
        "loss counts. Training: for the balanced rows with the cross-entropy before them, without "
        "the trial of scalings; a liver network that variants of the pipeline share counts for "
        "each of them. Host memory: the highest of the process, which trained several systems one "
        "after the other. Prediction: inputs, networks, smoothing and post-processing, the first "
        f"case left out.{explain_times(comparison)}\n"
    )
    if weak_labels:
        shares = ", ".join(
            f"{name} {label['r2_training']:.2f} and {label['r2_left_out']:.2f}"
            for name, label in weak_labels.items()
        )
        text += (
            "\nShare of the variance of the tumor-to-liver ratio that the weak label explains, in "
            "the training patients on whom it is fitted and in each left out of the fit: "
            f"{shares}.\n"
        )
    if comparison.records[0].data.get("nominal_spacing"):
        text += "\nNo distances: the spacing in the headers of these volumes is nominal.\n"
    return text + list_faults(comparison)
