"""Score every finished system of a run, the paper's and the others, on the label maps of whole cases.

    python -m evaluation.compare --run DIR --store DIR --out DIR [--external STORE]

Every system decides by its own rule: the paper's models by the thresholds that validation data gave (rule roc), the
others as `evaluation.other_systems` says. Nothing is chosen here. Writes OUT/comparison.json: what each system is and
took, and its scores for each test and external case, every slice of it; `evaluation.comparison` makes table and figure.
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
from evaluation.evaluate import SCORING_VERSION, Cohorts, open_from_command_line
from evaluation.names import LOSSES, MODELS, STAGES, TARGETS
from evaluation.other_systems import finished_labels, load_other
from evaluation.scoring import SLICE_RULE
from evaluation.systems import System, check_numbers, load_system, read_run, slices_of, stages_of
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
    """Score what is trained, unless the same was scored into OUT already."""
    run, cohorts, out = open_from_command_line("compare", "Score the paper's models and the other systems.")
    path, key = out / "comparison.json", fingerprint(run, cohorts)
    if path.is_file() and read_json(path).get("fingerprint") == key:
        print("comparison: already done")
        return
    write_json(path, {**score_all(run, cohorts), "fingerprint": key})
    print(f"comparison: {path}")


def score_all(run: Path, cohorts: Cohorts) -> dict[str, Any]:
    """Return the content of comparison.json.

    Raises:
        InputError: nothing is finished; the split is by slice, so that no case is unseen.
    """
    store = cohorts["test"]
    if store.split.get("by") == "slice":
        raise InputError(f"{store.path}: split by slice, other slices of its test cases trained the run")
    names: list[tuple[str, str] | str] = [*paper_systems(run), *finished_labels(run)]
    if not names:
        raise InputError(f"{run}: nothing is finished (python -m training.system, or reproduce.sh)")
    systems, cases = [], []
    for name in names:
        keras.backend.clear_session()
        found, described = load(run, name)
        if not described["why"]:
            rows, timing = score(found, cohorts)
            cases += [{"system": described["system"], **row} for row in rows]
            described |= timing
        systems.append(described)
        print(f"{described['system']}: {described['why'] or 'scored'}")
    content = read_run(run)
    head = {"schema": SCHEMA, "preset": content["preset"], "seed": content["seed"], "data": data_of(cohorts)}
    return {**head, "environment": describe_environment(), "systems": systems, "cases": cases}


def paper_systems(run: Path) -> list[tuple[str, str]]:
    """Return (model, loss) of the paper's models that are finished."""
    return [
        (model, loss)
        for model in MODELS
        for loss in LOSSES
        if all((run / stage / loss / "record.json").is_file() for stage in stages_of(model))
    ]


def load(run: Path, name: tuple[str, str] | str) -> tuple[Labels, dict[str, Any]]:
    """Load a system and describe it: {"system", "document", "why" (it gave no result), cost of its training}."""
    described: dict[str, Any]
    if isinstance(name, tuple):
        system = load_system(run, *name)
        described = {"system": system.name, "document": PAPER, "settings": None, "why": system.failure}
        return PaperLabels(system), {**described, **cost_of(fits_of(run, *name), system.networks)}
    other = load_other(run, name)
    described = {"system": name, "document": other.settings["document"], "settings": other.settings}
    weak = other.records.get("tumor", {}).get("weak_label")
    if weak:
        described["weak_label"] = {key: weak[key] for key in ("columns", "r2_training", "r2_left_out")}
    fits = [record["fit"] for record in other.records.values()]
    return other, {**described, "why": other.failure, **cost_of(fits, other.networks)}


def fits_of(run: Path, model: str, loss: str) -> list[dict[str, Any]]:
    """Return the trainings behind a model of the paper: balanced follows cross-entropy, joint may follow the pair."""
    losses = LOSSES[: LOSSES.index(loss) + 1]
    records = [read_json(run / stage / one / "record.json", ("fit",)) for stage in STAGES[model] for one in losses]
    if any(record.get("start") == "pair" for record in records):
        records += [read_json(run / stage / LOSSES[0] / "record.json", ("fit",)) for stage in STAGES["sequential"]]
    return [record["fit"] for record in records]


def cost_of(fits: list[dict[str, Any]], networks: dict[str, keras.Model]) -> dict[str, Any]:
    """Return what a system has and took: parameters, seconds of training, the largest host memory, on which machine."""
    environment = fits[0]["environment"]
    return {
        "parameters": sum(network.count_params() for network in networks.values()),
        "train_s": round(sum(fit["train_s"] for fit in fits), 1),
        "peak_memory_mib": max(fit["peak_memory_mib"] for fit in fits),
        "trained_on": {key: environment[key] for key in ("git_commit", "processor", "cores", "keras_backend")},
    }


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


def data_of(cohorts: Cohorts) -> dict[str, Any]:
    """Describe the data that was trained and is scored on."""
    store, external = cohorts["test"], cohorts.get("external")
    data: dict[str, Any] = {"cohort": store.cohort, "synthetic": store.synthetic, "size": store.size}
    for name in ("train", "validation", "test"):
        data |= {f"{name}_cases": len(store.cases_of(name)), f"{name}_slices": len(store.slices(name))}
    data |= {"split_sha256": store.split["sha256"], "split_by": store.split.get("by", "patient")}
    data["external"] = external and {
        "cohort": external.cohort,
        "synthetic": external.synthetic,
        "cases": len(external.cases_of("external")),
        "store_sha256": external.sha256,
    }
    return data


def fingerprint(run: Path, cohorts: Cohorts) -> str:
    """Return a hash of what the scores depend on: records of the systems, stores, code."""
    records = [*run.glob("systems/*/*/record.json"), *run.glob("systems/*/system.json")]
    for loss in LOSSES:
        records += run.glob(f"*/{loss}/record.json")
    hashes = {str(path.relative_to(run)): sha256_of_file(path) for path in records}
    stores = {name: store.sha256 for name, store in cohorts.items()}
    return sha256_of_json({"version": SCORING_VERSION, "schema": SCHEMA, "records": hashes, "stores": stores})


if __name__ == "__main__":
    run_command(main, "evaluation.compare")
