"""Score every finished system of a run, the paper's and the others, on the label maps of whole cases.

    python -m evaluation.compare --run DIR --store DIR --out DIR [--external STORE]

Every system decides by its own rule: the paper's models by the thresholds that validation data gave (rule roc), the
others as `evaluation.other_systems` says. Nothing is chosen here. Writes OUT/comparison.json: what each system is and
took, and its scores for each test and external case, every slice of it; `evaluation.comparison` makes table and figure.
A call goes on where an earlier one stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data.backend import keras
from data.command import InputError, run_command
from data.environment import describe_environment
from data.files import read_json, sha256_of_file, sha256_of_json, write_json
from data.store import Store
from data.volume_batches import check_depth
from evaluation.evaluate import SCORING_VERSION, Cohorts, described_data, open_from_command_line
from evaluation.names import LOSSES, STAGES, TARGETS, trainings_behind
from evaluation.other_systems import finished_labels, load_other
from evaluation.scoring import SLICE_RULE
from evaluation.systems import System, check_numbers, load_system, read_run, slices_of, those_finished
from evaluation.whole_cases import case_counts, spacing_of, whole_case_rows
from models.sequential import label_map

SCHEMA = 1
COHORTS = ("test", "external")
KEPT = ("dice", "iou", "sensitivity", "specificity", "precision", "assd_mm", "hausdorff95_mm")
"""Scores of `evaluation.whole_cases` that are kept of each case."""
PAPER = "Gruber et al."


class Labels(Protocol):
    """Anything that segments a case: (n_slices, rows, columns) HU and its spacing in mm -> labels 0/1/2."""

    def labels(self, hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
        """Return the label map."""


@dataclass(frozen=True)
class PaperLabels:
    """A model of the paper at threshold rule `SLICE_RULE`."""

    system: System

    def labels(self, hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
        """Return the label map of a case."""
        thresholds = [self.system.thresholds(target)[SLICE_RULE] for target in TARGETS]
        found = []
        for row, (liver, tumor) in enumerate(self.system.of_whole_case(slices_of(hu))):
            check_numbers(self.system, f"slice {row}", liver, tumor)
            found.append(label_map(liver, tumor, *thresholds))
        return np.stack(found)


def main() -> None:
    """Score what is trained and was not scored into OUT already."""
    run, cohorts, out = open_from_command_line("compare", "Score the paper's models and the other systems.")
    compare(run, cohorts, out / "comparison.json")


def compare(run: Path, cohorts: Cohorts, path: Path) -> None:
    """Score the systems of a run one by one; the file holds what is scored so far, and an interrupted call goes on.

    Raises:
        InputError: nothing is finished; the split is by slice, so that no case is unseen; a case with fewer slices
            than a system's window.
    """
    store = cohorts["test"]
    if store.split.get("by") == "slice":
        raise InputError(f"{store.path}: split by slice, other slices of its test cases trained the run")
    names: list[tuple[str, str] | str] = [*those_finished(run), *finished_labels(run)]
    if not names:
        raise InputError(f"{run}: nothing is finished (python -m training.system, or reproduce.sh)")
    check_windows(run, cohorts)
    content = read_run(run)
    head = {"schema": SCHEMA, "preset": content["preset"], "seed": content["seed"], "data": described_data(cohorts)}
    before = read_json(path, ("data", "systems", "cases")) if path.is_file() else {"systems": [], "cases": []}
    kept = {system.get("fingerprint"): system for system in before["systems"]}
    systems: list[dict[str, Any]] = []
    cases: list[dict[str, Any]] = []
    for name in names:
        key = fingerprint(run, name, cohorts)
        if key in kept:
            described = kept[key]
            rows = [row for row in before["cases"] if row["system"] == described["system"]]
            print(f"{described['system']}: already done")
        else:
            described, rows = score_one(run, name, cohorts)
            print(f"{described['system']}: {described['why'] or 'scored'}")
        systems.append({**described, "fingerprint": key})
        cases += rows
        write_json(path, {**head, "environment": describe_environment(), "systems": systems, "cases": cases})
    print(f"comparison: {path}")


def check_windows(run: Path, cohorts: Cohorts) -> None:
    """Check that every case to be scored has as many slices as the windows of the systems in 3D take.

    Raises:
        InputError: one has fewer.
    """
    for label in finished_labels(run):
        depth = read_json(run / "systems" / label / "system.json", ("settings",))["settings"].get("depth", 0)
        for cohort in (name for name in COHORTS if name in cohorts):
            check_depth(cohorts[cohort], cohorts[cohort].cases_of(cohort), depth)


def score_one(run: Path, name: tuple[str, str] | str, cohorts: Cohorts) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a system's description, with its cost, and its scores by case; none where it gave no result."""
    keras.backend.clear_session()
    found, described = load(run, name)
    if described["why"]:
        return described, []
    rows, timing = score(found, cohorts)
    return {**described, **timing}, [{"system": described["system"], **row} for row in rows]


def load(run: Path, name: tuple[str, str] | str) -> tuple[Labels, dict[str, Any]]:
    """Load a system and describe it: {"system", "document", "why" (it gave no result), cost of its training}."""
    described: dict[str, Any]
    if isinstance(name, tuple):
        system = load_system(run, *name)
        described = {"system": system.name, "document": PAPER, "settings": None, "why": system.failure}
        fits = fits_of(run, *name)
        trained = [read_json(run / stage / name[1] / "record.json", ("fit",))["fit"] for stage in STAGES[name[0]]]
        return PaperLabels(system), {
            **described,
            "begins": "random",
            **cost_of(fits, trained),
            **slices_of_fit(fits[0]),
        }
    other = load_other(run, name)
    described = {"system": name, "document": other.settings["document"], "settings": other.settings}
    weak = other.records.get("tumor", {}).get("weak_label")
    if weak:
        described["weak_label"] = {key: weak[key] for key in ("columns", "r2_training", "r2_left_out")}
    described["begins"] = "ImageNet, from a file" if other.settings.get("weights_sha256") else "random"
    fits = [record["fit"] for record in other.records.values()]
    described |= {"why": other.failure, **cost_of(fits, fits), **slices_of_fit(fits[0])}
    if "crop" in next(iter(other.records.values())):
        described["trained_with"] = f"every slice of the training cases, {fits[0]['train_slices']} crops an epoch"
    return other, described


def fits_of(run: Path, model: str, loss: str) -> list[dict[str, Any]]:
    """Return the records of the trainings behind a model of the paper."""
    from_pair = read_json(run / STAGES[model][0] / LOSSES[0] / "record.json", ("fit",)).get("start") == "pair"
    trainings = trainings_behind(model, loss, from_pair)
    return [read_json(run / stage / phase / "record.json", ("fit",))["fit"] for stage, phase in trainings]


def cost_of(fits: list[dict[str, Any]], networks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a system has and took.

    Args:
        fits: of all trainings behind it.
        networks: of the last training of each of its networks.

    Returns:
        {"parameters" (trained; a VAE branch counts), "train_s" in all, "peak_memory_mib" (the largest), "trained_on"}.
    """
    machine = {key: fits[0]["environment"][key] for key in ("git_commit", "processor", "cores", "keras_backend")}
    return {
        "parameters": sum(fit["parameters"] for fit in networks),
        "train_s": round(sum(fit["train_s"] for fit in fits), 1),
        "peak_memory_mib": max(fit["peak_memory_mib"] for fit in fits),
        "trained_on": machine,
    }


def slices_of_fit(fit: dict[str, Any]) -> dict[str, Any]:
    """Return what a slice-wise network trained with, in words."""
    return {"trained_with": f"{fit['train_slices']} slices"}


def score(system: Labels, cohorts: Cohorts) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Score a system on every test and external case; the time is that of prediction, the first case's left out."""
    rows: list[dict[str, Any]] = []
    seconds, slices = [], []
    for cohort in (name for name in COHORTS if name in cohorts):
        for case, labels, took in predicted(system, cohorts[cohort], cohort):
            rows += case_scores(cohorts[cohort], cohort, case, labels)
            seconds.append(took)
            slices.append(len(labels))
    timed = sum(slices[1:])
    return rows, {"ms_per_slice": round(1000 * sum(seconds[1:]) / timed, 2) if timed else None}


def predicted(system: Labels, store: Store, set_name: str) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield the case, the label map and the seconds it took, for each case of a set."""
    for case in store.cases_of(set_name):
        hu, spacing_mm = np.asarray(store.image(case)), spacing_of(store, case)
        started = time.perf_counter()
        labels = system.labels(hu, spacing_mm)
        yield case, labels, time.perf_counter() - started


def case_scores(store: Store, cohort: str, case: str, labels: np.ndarray) -> list[dict[str, Any]]:
    """Return a row per target: counts of the case's voxels, whether its reference holds the target, `KEPT` scores."""
    reference = np.asarray(store.label(case))
    head = {"cohort": cohort, "case": case, "patient": store.patient(case), "n_slices": len(labels)}
    rows = []
    for row in whole_case_rows(labels, reference, spacing_of(store, case)):
        counts = case_counts(labels, reference, row["target"])
        numbers = {name: getattr(counts, name) for name in ("tp", "fp", "fn", "tn")}
        rows.append({**head, "target": row["target"], **numbers, **{name: row[name] for name in KEPT}})
    return rows


def fingerprint(run: Path, name: tuple[str, str] | str, cohorts: Cohorts) -> str:
    """Return a hash of what a system's scores depend on: its records, the stores, the code."""
    if isinstance(name, tuple):
        records = [run / stage / loss / "record.json" for stage in STAGES[name[0]] for loss in LOSSES]
        records = [path for path in records if path.is_file()]
    else:
        records = [*run.glob(f"systems/{name}/*/record.json"), run / "systems" / name / "system.json"]
    hashes = {str(path.relative_to(run)): sha256_of_file(path) for path in records}
    stores = {cohort: store.sha256 for cohort, store in cohorts.items()}
    return sha256_of_json({"version": SCORING_VERSION, "name": name, "records": hashes, "stores": stores})


if __name__ == "__main__":
    run_command(main, "evaluation.compare")
