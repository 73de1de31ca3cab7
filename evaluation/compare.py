"""Score every finished system of a run, the paper's and the others, on the label maps of whole cases.

    python -m evaluation.compare --run DIR --store DIR --out DIR [--external STORE] [--nominal-spacing]

Every system decides by its own rule: the paper's models by the thresholds that validation data gave (rule roc), the
others as `evaluation.other_systems` says. Nothing is chosen here. Writes OUT/comparison.json: what each system is and
took, and its scores for each test and external case, every slice of it; `evaluation.comparison` makes table and figure.
A call goes on where an earlier one stopped. `--nominal-spacing` leaves distances out: for volumes whose headers do not
give the scanner's spacing.
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
from data.files import hash_file, hash_json, read_json, write_json
from data.store import Store
from data.volume_batches import check_depth
from evaluation.comparison import SCHEMA
from evaluation.evaluate import (
    SCORING_VERSION,
    Cohorts,
    described_data,
    open_as_asked,
    scoring_parser,
)
from evaluation.names import LOSSES, STAGES, TARGETS, UNSEEN, trainings_behind
from evaluation.other_systems import finished_names, folder_of, load_other, unfinished_names
from evaluation.scoring import SLICE_RULE
from evaluation.systems import (
    System,
    check_numbers,
    load_system,
    read_run,
    slices_of,
    those_finished,
)
from evaluation.whole_cases import case_counts, spacing_of, whole_case_rows
from models.sequential import label_map

DISTANCES = ("assd_mm", "hausdorff95_mm")
NOMINAL = "the volumes' headers do not give the scanner's spacing: leave distances in mm out"
KEPT = ("dice", "iou", "sensitivity", "specificity", "precision", *DISTANCES)
"""Scores of `evaluation.whole_cases` that are kept of each case."""
PAPER = "Gruber et al."


class Labels(Protocol):
    """Anything that segments a case: (n_slices, rows, columns) HU -> labels 0/1/2."""

    @property
    def targets(self) -> tuple[str, ...]:
        """What it gives results for."""

    def labels(self, hu: np.ndarray) -> np.ndarray:
        """Return the label map."""


@dataclass(frozen=True)
class PaperLabels:
    """A model of the paper at threshold rule `SLICE_RULE`."""

    system: System

    @property
    def targets(self) -> tuple[str, ...]:
        """Both, or none where a network of it failed."""
        return () if self.system.failure else TARGETS

    def labels(self, hu: np.ndarray) -> np.ndarray:
        """Return the label map of a case."""
        thresholds = [self.system.thresholds(target)[SLICE_RULE] for target in TARGETS]
        found = []
        for row, (liver, tumor) in enumerate(self.system.of_whole_case(slices_of(hu))):
            check_numbers(self.system.name, f"slice {row}", liver, tumor)
            found.append(label_map(liver, tumor, *thresholds))
        return np.stack(found)


def main() -> None:
    """Score what is trained and was not scored into OUT already."""
    parser = scoring_parser("compare", "Score the paper's models and the other systems.")
    parser.add_argument("--nominal-spacing", action="store_true", help=NOMINAL)
    flags = parser.parse_args()
    run, cohorts, out = open_as_asked(flags)
    compare(run, cohorts, out / "comparison.json", flags.nominal_spacing)


def compare(run: Path, cohorts: Cohorts, path: Path, nominal_spacing: bool = False) -> None:
    """Score the systems of a run one by one; the file holds what is scored, names what is left; a second call goes on.

    Raises:
        InputError: nothing is finished; the split is by slice, so that no case is unseen.
    """
    store = cohorts["test"]
    if store.split.get("by") == "slice":
        raise InputError(
            f"{store.path}: split by slice, other slices of its test cases trained the run"
        )
    names: list[tuple[str, str] | str] = [*those_finished(run), *finished_names(run)]
    for label in unfinished_names(run):
        print(f"{label}: training begun, not finished, so not scored")
    if not names:
        raise InputError(f"{run}: nothing is finished (python -m training.system, or reproduce.sh)")
    content, data = read_run(run), {**described_data(cohorts), "nominal_spacing": nominal_spacing}
    head = {"schema": SCHEMA, "preset": content["preset"], "seed": content["seed"], "data": data}
    before = (
        read_json(path, ("data", "systems", "cases"))
        if path.is_file()
        else {"systems": [], "cases": []}
    )
    kept = {system.get("fingerprint"): system for system in before["systems"]}
    systems: list[dict[str, Any]] = []
    cases: list[dict[str, Any]] = []
    for name in names:
        key = fingerprint(run, name, cohorts, nominal_spacing)
        if key in kept:
            described = kept[key]
            rows = [row for row in before["cases"] if row["system"] == described["system"]]
            print(f"{described['system']}: already done")
        else:
            described, rows = score_one(run, name, cohorts, nominal_spacing)
            print(f"{described['system']}: {described['why'] or 'scored'}")
        systems.append({**described, "fingerprint": key})
        cases += rows
        left = [of if isinstance(of, str) else "_".join(of) for of in names[len(systems) :]]
        found = {
            **head,
            "environment": describe_environment(),
            "left": left,
            "systems": systems,
            "cases": cases,
        }
        write_json(path, found)
    print(f"comparison: {path}")


def score_one(
    run: Path, name: tuple[str, str] | str, cohorts: Cohorts, nominal_spacing: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a system's description, with its cost, and its scores by unseen case, where it gave a result."""
    keras.backend.clear_session()
    found, described = load(run, name)
    if not found.targets:
        return described, []
    unseen = {cohort: cohorts[cohort] for cohort in UNSEEN if cohort in cohorts}
    short = {
        cohort: too_small(described["settings"], store, cohort) for cohort, store in unseen.items()
    }
    described["why"] = "; ".join(filter(None, (described["why"], *short.values())))
    rows, timing = score(
        found, {name: store for name, store in unseen.items() if not short[name]}, nominal_spacing
    )
    return {**described, **timing}, [
        {"system": described["system"], **r} for r in rows if r["target"] in found.targets
    ]


def too_small(settings: dict[str, Any] | None, store: Store, cohort: str) -> str:
    """Return which case has fewer slices than the window of a system in 3D, which then has no result on that cohort.

    "": none.
    """
    try:
        check_depth(store, store.cases_of(cohort), (settings or {}).get("depth", 0))
    except InputError as error:
        return f"{cohort}: {str(error).removeprefix(f'{store.path}: ')}"
    return ""


def load(run: Path, name: tuple[str, str] | str) -> tuple[Labels, dict[str, Any]]:
    """Load a system and describe it.

    Returns:
        The system, and {"system", "document", "settings", "why" (it gave no result), "weak" (what its networks cannot
        do on validation data), "begins", "trained_with", what `cost_of` returns}.
    """
    described: dict[str, Any]
    if isinstance(name, tuple):
        system = load_system(run, *name)
        described = {
            "system": system.name,
            "document": PAPER,
            "settings": None,
            "why": system.failure,
        }
        described["weak"] = system.weakness
        fits = fits_of(run, *name)
        stages = {stage: run / stage / name[1] / "record.json" for stage in STAGES[name[0]]}
        trained = {stage: read_json(path, ("fit",))["fit"] for stage, path in stages.items()}
        described |= {"begins": "random", "trained_with": f"{fits[0]['train_slices']} slices"}
        return PaperLabels(system), {**described, **cost_of(fits, trained)}
    other = load_other(run, name)
    described = {"system": name, "document": other.settings["document"], "settings": other.settings}
    weak = other.records.get("tumor", {}).get("weak_label")
    if weak:
        described["weak_label"] = {
            key: weak[key] for key in ("columns", "r2_training", "r2_left_out")
        }
    described["begins"] = "weights of a file" if other.settings.get("weights_sha256") else "random"
    networks = {target: record["fit"] for target, record in other.records.items()}
    described |= {
        "why": other.failure,
        "weak": other.weakness,
        **cost_of(list(networks.values()), networks),
    }
    described["predicting_parameters"] = sum(
        network.count_params() for network in other.networks.values()
    )
    return other, {**described, "trained_with": other.trained_with}


def fits_of(run: Path, model: str, loss: str) -> list[dict[str, Any]]:
    """Return the records of the trainings behind a model of the paper."""
    from_pair = (
        read_json(run / STAGES[model][0] / LOSSES[0] / "record.json", ("fit",)).get("start")
        == "pair"
    )
    trainings = trainings_behind(model, loss, from_pair)
    return [
        read_json(run / stage / phase / "record.json", ("fit",))["fit"]
        for stage, phase in trainings
    ]


def cost_of(fits: list[dict[str, Any]], networks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what a system has and took.

    Args:
        fits: of all trainings behind it.
        networks: of the last training of each of its networks, by name.

    Returns:
        {"parameters" (of all its networks), "predicting_parameters" (without a VAE branch), "epochs" (kept and trained,
        by network), "train_s" in all, "peak_memory_mib" (the largest), "trained_on"}.
    """
    parameters = sum(fit["parameters"] for fit in networks.values())
    machine = {
        key: fits[0]["environment"][key]
        for key in ("git_commit", "processor", "cores", "keras_backend")
    }
    return {
        "parameters": parameters,
        "predicting_parameters": parameters,
        "epochs": {name: [fit["best_epoch"], fit["epochs"]] for name, fit in networks.items()},
        "train_s": round(sum(fit["train_s"] for fit in fits), 1),
        "peak_memory_mib": max(fit["peak_memory_mib"] for fit in fits),
        "trained_on": machine,
    }


def score(
    system: Labels, cohorts: Cohorts, nominal_spacing: bool = False
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Score a system on the cohorts' sets of their names; the time is that of prediction, but of the first case."""
    rows: list[dict[str, Any]] = []
    seconds, slices = [], []
    for cohort, store in cohorts.items():
        for case, labels, took in predicted(system, store, cohort):
            rows += case_scores(store, cohort, case, labels, nominal_spacing)
            seconds.append(took)
            slices.append(len(labels))
    timed = sum(slices[1:])
    return rows, {"ms_per_slice": round(1000 * sum(seconds[1:]) / timed, 2) if timed else None}


def predicted(
    system: Labels, store: Store, set_name: str
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield the case, the label map and the seconds it took, for each case of a set."""
    for case in store.cases_of(set_name):
        hu = np.asarray(store.image(case))
        started = time.perf_counter()
        labels = system.labels(hu)
        yield case, labels, time.perf_counter() - started


def case_scores(
    store: Store, cohort: str, case: str, labels: np.ndarray, nominal_spacing: bool = False
) -> list[dict[str, Any]]:
    """Return a row per target: counts of the case's voxels and `KEPT` scores, no distances at nominal spacing."""
    reference = np.asarray(store.label(case))
    head = {"cohort": cohort, "case": case, "patient": store.patient(case), "n_slices": len(labels)}
    rows = []
    for row in whole_case_rows(labels, reference, spacing_of(store, case)):
        counts = case_counts(labels, reference, row["target"])
        numbers = {name: getattr(counts, name) for name in ("tp", "fp", "fn", "tn")}
        kept = {name: None if nominal_spacing and name in DISTANCES else row[name] for name in KEPT}
        rows.append({**head, "target": row["target"], **numbers, **kept})
    return rows


def fingerprint(
    run: Path, name: tuple[str, str] | str, cohorts: Cohorts, nominal_spacing: bool
) -> str:
    """Return a hash of what a system's scores depend on: its records, the stores, the code, what is left out."""
    if isinstance(name, tuple):
        records = [
            run / stage / loss / "record.json" for stage in STAGES[name[0]] for loss in LOSSES
        ]
        records = [path for path in records if path.is_file()]
    else:
        folder = folder_of(run, name)
        records = [*folder.glob("*/record.json"), folder / "system.json"]
    hashes = {str(path.relative_to(run)): hash_file(path) for path in records}
    stores = {cohort: store.sha256 for cohort, store in cohorts.items()}
    content = {
        "schema": SCHEMA,
        "version": SCORING_VERSION,
        "name": name,
        "records": hashes,
        "stores": stores,
    }
    return hash_json({**content, "nominal_spacing": nominal_spacing})


if __name__ == "__main__":
    run_command(main, "evaluation.compare")
