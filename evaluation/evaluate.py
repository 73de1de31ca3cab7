"""Score every finished model of a run on validation, test and external slices (paper 3.2, Table 1).

    python -m evaluation.evaluate --run DIR --store DIR --out DIR [--external STORE]

Thresholds come from the run's records, where training chose them on validation data; nothing is chosen here.
Writes OUT/summary.json (all of Table 1), the CSV files of `CSV_FILES`, curves.json, training.json, examples and
viewer.npz; the README describes them. `evaluation.tables` and `evaluation.figures` draw from these files alone. Cases
are predicted whole, for volumes, lesions, LiTS figures and post-processing.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data.backend import keras
from data.cohorts.patients import find_shared_patients
from data.command import InputError, Parser, run_command
from data.environment import describe_environment, read_peak_memory, reset_peak_memory
from data.files import hash_file, hash_json, read_json, write_json, write_text
from data.store import Store
from evaluation.examples import write_examples
from evaluation.history import phase_seconds, record_paths, training_environments, write_training
from evaluation.metrics.statistics import comparisons, with_intervals
from evaluation.names import LOSSES, MODELS, TARGETS
from evaluation.postprocess_scores import chosen_options
from evaluation.results import order
from evaluation.scoring import (
    CaseScores,
    case_rows,
    curve,
    kept_maps,
    lesion_table,
    lits_rows,
    option_table,
    pooled_histogram,
    score_cohort,
    slice_rows,
    table_rows,
    whole_case_table,
)
from evaluation.systems import System, finished_systems, load_system, read_run, slices_of
from evaluation.viewer import write_viewer

Cohorts = dict[str, Store]

SCORING_VERSION = 6  # raise it when a change of the code changes a score
CSV_FILES = ("cases", "slices", "whole_cases", "lesions", "postprocess")
OUTPUTS = ("summary.json", *(f"{name}.csv" for name in CSV_FILES), "curves.json", "training.json")


def main() -> None:
    """Score what is finished, unless the same run and stores were scored into OUT already."""
    evaluate(*open_from_command_line("evaluate", "Score every finished model of a run."))


def open_from_command_line(command: str, description: str) -> tuple[Path, Cohorts, Path]:
    """Parse the flags of a command that scores a run; return the run, its cohorts and the folder for the results."""
    return open_as_asked(scoring_parser(command, description).parse_args())


def scoring_parser(command: str, description: str) -> Parser:
    """Return the parser of a command that scores a run."""
    parser = Parser(prog=f"evaluation.{command}", description=description)
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        help="run directory of the training scripts",
    )
    parser.add_argument(
        "--store",
        type=Path,
        required=True,
        metavar="DIR",
        help="slice store the run was trained on",
    )
    parser.add_argument(
        "--external",
        type=Path,
        metavar="STORE",
        help="store of another cohort (prepare --external)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the results go"
    )
    return parser


def open_as_asked(flags: argparse.Namespace) -> tuple[Path, Cohorts, Path]:
    """Return the run, its cohorts and the folder for the results that the flags of `scoring_parser` name."""
    return flags.run, open_cohorts(flags.run, flags.store, flags.external), flags.out


def open_cohorts(run: Path, store_path: Path, external_path: Path | None) -> Cohorts:
    """Return the store of each cohort that is scored: "validation", "test" and, if given, "external".

    Raises:
        InputError: the run was trained on another split or size, or the external store is not external.
    """
    content = read_run(run)
    store = Store.open(store_path)
    if store.sha256 != content["store_sha256"]:
        raise InputError(
            f"{store_path}: not the store that {run} was trained on; its test set may not be one"
        )
    cohorts = {"validation": store, "test": store}
    if external_path is not None:
        external = Store.open(external_path)
        if "external" not in external.split["slices"]:
            raise InputError(
                f"{external_path}: not an external store (see data.prepare --external)"
            )
        if external.size != content["size"]:
            raise InputError(
                f"{external_path}: slices of {external.size} px, the run has {content['size']} px"
            )
        check_unseen(store, external)
        cohorts["external"] = external
    return cohorts


def check_unseen(store: Store, external: Store) -> list[str]:
    """Check that no external patient is among those that trained the run or chose its thresholds.

    Returns:
        The cases that are, where the store was prepared to allow that for this external store.

    Raises:
        InputError: one shows such a patient, or has the voxels of such a volume.
    """
    trained = [case for name in ("train", "validation") for case in store.cases_of(name)]
    identities = {case: store.cases[case]["identity"] for case in trained}
    others = [entry["identity"] for entry in external.cases.values()]
    voxels = {entry["sha256_image"] for entry in external.cases.values()}
    shared = set(find_shared_patients(identities, others, external.layout))
    patients = {store.patient(case) for case in shared}
    found = [
        case
        for case in trained
        if store.patient(case) in patients or store.cases[case]["sha256_image"] in voxels
    ]
    said = store.info["shared_patients"]
    if found and not (said["policy"] == "allow" and said["external_sha256"] == external.sha256):
        raise InputError(
            f"{external.path}: its patients trained the run, or may have: {', '.join(found)} "
            "(data.prepare --external-store with --shared-patients drop leaves them out)"
        )
    return found


def evaluate(run: Path, cohorts: Cohorts, out: Path) -> None:
    """Score the finished systems of `run` on `cohorts` and write the results into `out`."""
    systems = finished_systems(run)
    key = fingerprint(run, cohorts, systems)
    summary_path = out / "summary.json"
    if (
        all((out / name).is_file() for name in OUTPUTS)
        and read_json(summary_path).get("fingerprint") == key
    ):
        print("evaluation: already done")
        return
    started = time.perf_counter()
    names = ("rows", *CSV_FILES, "lits", "curves", "systems")
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for model, loss in systems:
        keras.backend.clear_session()
        score_system(load_system(run, model, loss), cohorts, tables)
    for model, loss in [
        (model, loss) for loss in LOSSES for model in MODELS if (model, loss) not in systems
    ]:
        print(f"{model} {loss}: not trained yet, so not scored")
    write_training(run, out)
    for name in CSV_FILES:
        write_csv(out / f"{name}.csv", tables[name])
    write_json(out / "curves.json", {"schema": 1, "curves": tables["curves"]})
    write_examples(run, cohorts["test"], tables["slices"], out)
    write_viewer(run, cohorts["test"], tables["rows"], tables["cases"], out)
    seconds = {**phase_seconds(run), "evaluate": round(time.perf_counter() - started, 1)}
    # Written last: with it the evaluation counts as done.
    write_json(summary_path, {**summary(run, cohorts, tables, seconds), "fingerprint": key})
    print(f"scores: {summary_path}")


def score_system(system: System, cohorts: Cohorts, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Score one system on all cohorts and add what comes of it to `tables`.

    The scores of a collapsed or diverged system are no result: only its failure is recorded.
    """
    status = "failed" if system.failure else "ok"
    tables["systems"].append(
        {"model": system.model, "loss": system.loss, "status": status, "why": system.failure}
    )
    if system.failure:
        print(f"{system.name}: not a result, {system.failure}")
        return
    memory = prediction_memory(system, cohorts["test"])
    timed: list[CaseScores] = []
    chosen: tuple[str, ...] | None = None
    for cohort, store in cohorts.items():  # validation comes first: it alone chooses
        # Other slices of a test case trained the run where the split is by slice.
        whole = store.split.get("by") != "slice"
        choosing = cohort == "validation" and whole
        with tempfile.TemporaryDirectory() as folder:
            keep = Path(folder) if choosing else None
            cases: Sequence[CaseScores] = list(
                score_cohort(system, store, cohort, whole, chosen, keep)
            )
            if choosing:
                maps = partial(kept_maps, store, cases, Path(folder))
                chosen = chosen_options([case.options for case in cases], maps)
        timed += [case for case in cases if case.whole]
        if not cases:
            raise InputError(f"{store.path}: no slice in its {cohort} set")
        tables["rows"] += table_rows(system, cohort, cases)
        tables["cases"] += case_rows(system, store, cohort, cases)
        if cohort != "validation":
            tables["slices"] += slice_rows(system, cohort, cases)
            tables["whole_cases"] += whole_case_table(system, store, cohort, cases)
            tables["lesions"] += lesion_table(system, store, cohort, cases)
            tables["lits"] += lits_rows(system, cohort, cases)
        tables["postprocess"] += option_table(system, store, cohort, cases, chosen or ())
        tables["curves"] += [
            curve(system, cohort, target, pooled_histogram(cases, target)) for target in TARGETS
        ]
        print(
            f"{system.name}: {cohort}, {sum(len(case.rows) for case in cases)} slices of {len(cases)} cases"
        )
    slices = sum(case.n_predicted for case in timed)
    per_slice = round(1000 * sum(case.predict_s for case in timed) / slices, 2) if slices else None
    measured = {"ms_per_slice": per_slice, "predict_peak_memory_mib": memory}
    tables["systems"][-1] |= {"postprocess": list(chosen or ()), **measured}


def prediction_memory(system: System, store: Store) -> float:
    """Predict the first test case and return the largest host memory meanwhile, in MiB, with the loaded networks.

    Compilation falls here too, so that it is not in the time of the first case that is scored.
    """
    image = store.image(store.cases_of("test")[0])
    for _ in system.probabilities(slices_of(image, [0]), slices_of(image, [0])):
        pass
    reset_peak_memory()
    for _ in system.of_whole_case(slices_of(image)):
        pass
    return read_peak_memory()


def described_data(cohorts: Cohorts) -> dict[str, Any]:
    """Return what the records of evaluation say of the data that was trained and is scored on."""
    store, external = cohorts["test"], cohorts.get("external")
    described: dict[str, Any] = {
        "cohort": store.cohort,
        "synthetic": store.synthetic,
        "size": store.size,
    }
    for name in ("train", "validation", "test"):
        described[f"{name}_slices"] = len(store.slices(name))
        described[f"{name}_cases"] = len(store.cases_of(name))
    described["external"] = external and {
        "cohort": external.cohort,
        "synthetic": external.synthetic,
        "slices": len(external.slices("external")),
        "cases": len(external.cases_of("external")),
        "store_sha256": external.sha256,
    }
    described.update(split_sha256=store.split["sha256"], split_rule=store.split["rule"])
    described["split_by"] = store.split.get("by", "patient")
    return described


def summary(
    run: Path, cohorts: Cohorts, tables: dict[str, list[dict[str, Any]]], seconds: dict[str, float]
) -> dict[str, Any]:
    """Return the content of summary.json."""
    content, described = read_run(run), described_data(cohorts)
    if described["external"]:
        described["external"]["trained_on"] = check_unseen(cohorts["test"], cohorts["external"])
    described["blind_tumor_iou"] = blind_tumor_iou(tables["cases"])
    return {
        "schema": 1,
        "preset": content["preset"],
        "seed": content["seed"],
        "data": described,
        "systems": tables["systems"],
        "rows": sorted(with_intervals(tables["rows"], tables["cases"]), key=order),
        "comparisons": comparisons(tables["cases"]),
        "lits": tables["lits"],
        "environment": describe_environment(),
        "trained_on": training_environments(run),
        "timing_s": seconds,
    }


def blind_tumor_iou(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return, by cohort, the tumor IoU of marking the whole reference liver as tumor: what sees nothing gets.

    Args:
        cases: rows of `cases.csv`; a cohort without a liver pixel is left out.
    """
    pixels: dict[tuple[str, str, str], dict[str, int]] = {}
    for row in cases:
        if row["threshold_rule"] == "0.5":
            reference = pixels.setdefault(
                (row["cohort"], row["model"], row["loss"]), dict.fromkeys(TARGETS, 0)
            )
            reference[row["target"]] += row["tp"] + row["fn"]
    return {
        cohort: found["tumor"] / found["liver"]
        for (cohort, _, _), found in pixels.items()
        if found["liver"]
    }


def fingerprint(run: Path, cohorts: Cohorts, systems: Sequence[tuple[str, str]]) -> str:
    """Return a hash of everything the scores depend on: records of the run, stores, `SCORING_VERSION`."""
    files = record_paths(run) + sorted(run.glob("tumor/*.json")) + [run / "run.json"]
    records = {str(path.relative_to(run)): hash_file(path) for path in files}
    stores = {name: store.sha256 for name, store in cohorts.items()}
    return hash_json(
        {"version": SCORING_VERSION, "systems": systems, "records": records, "stores": stores}
    )


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of equal keys as CSV; None is an empty cell. No rows give an empty file."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(path, text.getvalue())


if __name__ == "__main__":
    run_command(main, "evaluation.evaluate")
