"""Score every finished system of a run, and the points of the joint sweep.

    python -m evaluation.evaluate --run DIR --store DIR --out DIR [--external STORE]

Thresholds come from the run's records: training chose them on validation data. Only post-processing
is chosen here, on validation data too. Writes into OUT

scores.csv      the score table (`evaluation.score_table`)
curves.json     ROC curves and calibration; lesions.csv: every lesion of every whole case
summary.json    data, what each system is and took, LiTS figures; no scores
training.json   logs, trials, architectures of the systems of Table 1 (`evaluation.figures.history`)
examples.*, viewer.npz    slices to show (`evaluation.page.recording`)

A second call resumes, system by system; what has changed is scored anew. `evaluation.tables`,
`evaluation.figures` and `evaluation.report` read these files alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from data.command import InputError, Parser, parse_count, run_command
from data.environment import describe_environment
from data.files import hash_file, hash_json, read_json, write_json, write_text
from data.runs import (
    list_finished_systems,
    list_sweep_points,
    list_systems,
    read_run,
    read_system,
)
from data.store import Store
from evaluation.names import PHASES, SLICE, TARGETS
from evaluation.results import SCHEMA
from evaluation.score_table import make_table, read_table, select, write_table
from evaluation.segmenter import THRESHOLDS, Segmenter, load_segmenter

if TYPE_CHECKING:
    from evaluation.scoring import Cohorts, SystemScores

Name = tuple[str, str]
"""System and phase."""

SCORING_VERSION = 7  # raise it when a change of the code changes a score
OUTPUTS = ("summary.json", "scores.csv", "curves.json", "lesions.csv")
SHOWN = ("training.json", "examples.json", "examples.npz", "viewer.npz")
"""Files for figures and page; those of slices are missing where no slice can be shown."""
LESION_COLUMNS = ["cohort", "case", "patient", "system", "phase"]
LESION_COLUMNS += ["kind", "diameter_mm", "voxels", "touched", "iou"]
VIEWER_CASES, MOST_VIEWER_CASES = 3, 5
NOMINAL = "the volumes' headers do not give the scanner's spacing: leave distances in mm out"
MACHINE = ("git_commit", "processor", "cores", "keras_backend")
"""What is said of the machine that trained a network."""


def main() -> None:
    """Score what is finished and was not scored into OUT already."""
    parser = Parser(
        prog="evaluation.evaluate",
        description="Score every finished system of a run.",
        example="python -m evaluation.evaluate --run OUT/run --store OUT/store --out OUT",
    )
    add = parser.add_argument_group("folders").add_argument
    add("--run", type=Path, required=True, metavar="DIR", help="run directory of training")
    add("--store", type=Path, required=True, metavar="DIR", help="store the run was trained on")
    add("--external", type=Path, metavar="STORE", help="store of another cohort, as a further test")
    add("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    add = parser.add_argument_group("scoring").add_argument
    add("--nominal-spacing", action="store_true", help=NOMINAL)
    text = (
        f"cases for the report's slice viewer, at most {MOST_VIEWER_CASES}; default {VIEWER_CASES}"
    )
    add("--viewer-cases", type=parse_count, metavar="N", help=text)
    flags = parser.parse_args()
    if flags.viewer_cases and flags.viewer_cases > MOST_VIEWER_CASES:
        parser.error(f"--viewer-cases {flags.viewer_cases}: at most {MOST_VIEWER_CASES}")
    cohorts = open_cohorts(flags.run, flags.store, flags.external)
    evaluate(flags.run, cohorts, flags.out, flags.nominal_spacing, flags.viewer_cases)


def open_cohorts(run: Path, store_path: Path, external_path: Path | None) -> Cohorts:
    """Return the stores to score: "validation", "test" and, if given, "external".

    Args:
        run: run directory.
        store_path: store that it was trained on.
        external_path: store of another cohort, or None.

    Raises:
        InputError: the run was trained on another split or size, or the external store is none.
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
    """Check that no external patient trained the run or chose its thresholds.

    Returns:
        Cases of such a patient, if the store was prepared to allow them for this external store.

    Raises:
        InputError: a case shows such a patient, or has the voxels of such a volume.
    """
    from data.cohorts.patients import find_shared_patients

    trained = [case for name in ("train", "validation") for case in store.cases_of(name)]
    identities = {case: store.cases[case]["identity"] for case in trained}
    external_identities = [entry["identity"] for entry in external.cases.values()]
    voxels = {entry["sha256_image"] for entry in external.cases.values()}
    shared = set(find_shared_patients(identities, external_identities, external.layout))
    patients = {store.patient(case) for case in shared}
    seen = [
        case
        for case in trained
        if store.patient(case) in patients or store.cases[case]["sha256_image"] in voxels
    ]
    choice = store.info["shared_patients"]
    allowed = choice["policy"] == "allow" and choice["external_sha256"] == external.sha256
    if seen and not allowed:
        raise InputError(
            f"{external.path}: its patients trained the run, or may have: {', '.join(seen)} "
            "(data.prepare --external-store with --shared-patients drop leaves them out)"
        )
    return seen


@dataclass
class Scored:
    """What OUT holds of one system after a phase.

    Attributes:
        entry, lits: of summary.json.
        scores, lesions, curves: of the files of these names.
    """

    entry: dict[str, Any]
    scores: pd.DataFrame = field(default_factory=lambda: make_table([]))
    lesions: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=LESION_COLUMNS))
    curves: list[dict[str, Any]] = field(default_factory=list)
    lits: list[dict[str, Any]] = field(default_factory=list)


def evaluate(
    run: Path,
    cohorts: Cohorts,
    out: Path,
    nominal_spacing: bool = False,
    viewer_cases: int | None = None,
) -> None:
    """Score what is finished of a run and write the results.

    Args:
        run, out: run directory, and folder of the results.
        cohorts: stores by name.
        nominal_spacing: leave distances out.
        viewer_cases: cases for the slice viewer; None: as many as before, or `VIEWER_CASES`.

    Raises:
        InputError: nothing is finished, or nothing can be scored on this split.
    """
    names = list_scored(run, cohorts["test"])
    # A fingerprint covers all that a score depends on, so only what has changed is scored anew.
    stores = [[cohort, store.sha256] for cohort, store in cohorts.items()]
    asked = [SCORING_VERSION, stores, nominal_spacing]
    keys = {name: make_fingerprint(run, *name, asked) for name in names}
    # What is shown depends on all systems together, so it has a key of its own.
    shown_key = hash_json([asked, hash_files(run, list_shown_files(run))])
    summary = _read_summary(out)
    shown = summary.get("shown", {})
    n_cases = viewer_cases or shown.get("viewer_cases", VIEWER_CASES)
    done = {(entry["system"], entry["phase"]): entry for entry in summary.get("systems", [])}
    is_scored = [done.get(name, {}).get("fingerprint") == key for name, key in keys.items()]
    asked_for = {"fingerprint": shown_key, "viewer_cases": n_cases}
    is_shown = shown == {**asked_for, "files": list_shown(out)}
    if all(is_scored) and len(done) == len(names) and is_shown and not summary["left"]:
        print("evaluation: already done")
        return
    started = time.perf_counter()
    seconds = float(summary.get("timing_s", {}).get("evaluate", 0.0)) if any(is_scored) else 0.0
    head = describe_run(run, cohorts, nominal_spacing)
    scored = read_scored(out, summary, keys)

    def save(left: Sequence[Name], **more: Any) -> None:
        spent = round(seconds + time.perf_counter() - started, 1)
        timing_s = {**sum_phase_seconds(run), "evaluate": spent}
        texts = ["_".join(name) for name in left]
        content = {**head, "timing_s": timing_s, "left": texts, **more}
        write_scored(out, content, [scored[name] for name in names if name in scored])

    # Saved after each system, because a long evaluation may be interrupted.
    for number, name in enumerate(names, start=1):
        if name in scored:
            print(f"{'_'.join(name)}: already scored")
            continue
        scored[name] = score_system(run, name, cohorts, nominal_spacing, keys[name])
        save(names[number:], shown=shown if is_shown else {})
    if is_shown:
        save([], shown=shown)
    else:
        show_run(run, cohorts["test"], scored, out, n_cases)
        save([], shown={**asked_for, "files": list_shown(out)})
    print(f"scores: {out / 'scores.csv'}")


def list_scored(run: Path, store: Store) -> list[Name]:
    """List finished systems and sweep points; print what is left out, and why.

    Raises:
        InputError: nothing is left to score.
    """
    finished = list_finished_systems(run)
    for system in list_systems(run):
        for phase in system.phases:
            if (system.name, phase) not in finished:
                print(f"{'_'.join((system.name, phase))}: not trained yet, so not scored")
    names = []
    for name, phase in finished:
        # Other slices of a test case trained the run: its whole cases are not unseen.
        by_slice = store.split.get("by") == "slice"
        if by_slice and read_system(run, name).decision != THRESHOLDS:
            print(f"{name}: not scored, the split is by slice and it is scored on whole cases")
        else:
            names.append((name, phase))
    if not names:
        raise InputError(f"{store.path}: split by slice; no system of {run} is scored on slices")
    return names + list_sweep_points(run)


# --- What depends on what ---


def list_trainings(run: Path, name: str, phase: str) -> list[Path]:
    """List the records of the trainings behind a system after a phase.

    The balanced phase follows cross-entropy. A joint model may begin as the sequential pair. A
    point of a sweep counts alone.

    Args:
        run, name, phase: run directory and system.
    """
    system = read_system(run, name)
    if phase not in system.phases:
        return list(system.list_records(phase).values())
    phases = system.phases[: system.phases.index(phase) + 1]
    paths = [
        system.folder / network / earlier / "record.json"
        for network in system.networks
        for earlier in phases
    ]
    if read_json(paths[0]).get("start") == "pair":
        pair = [run / "sequential" / network / PHASES[0] / "record.json" for network in TARGETS]
        paths += [path for path in pair if path.is_file()]
    return paths


def list_shown_files(run: Path) -> list[Path]:
    """List records of Table 1's systems, of trials and of the class weight's sweep."""
    systems = [system for system in list_systems(run) if system.table1]
    records = [
        path
        for system in systems
        for network in system.networks
        for path in sorted((system.folder / network).glob("*/record.json"))
        # The sweep of the joint loss is an experiment of its own.
        if not (network == "nested" and path.parent.name.startswith("sweep_"))
    ]
    return records + sorted(run.glob("sequential/tumor/*.json"))


def hash_files(run: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the hash of each file by its path in the run."""
    return {str(path.relative_to(run)): hash_file(path) for path in paths}


def make_fingerprint(run: Path, name: str, phase: str, asked: Sequence[Any]) -> str:
    """Return a hash of what the scores of a system depend on.

    Args:
        run: run directory.
        name, phase: the system.
        asked: version of the code, stores, flags.
    """
    files = [read_system(run, name).folder / "system.json", *list_trainings(run, name, phase)]
    return hash_json([*asked, name, phase, hash_files(run, files)])


# --- A system ---


def score_system(
    run: Path, name: Name, cohorts: Cohorts, nominal_spacing: bool, fingerprint: str
) -> Scored:
    """Score one system; of a failed training only the failure is recorded.

    Args:
        run: run directory.
        name: system and phase.
        cohorts: stores by name.
        nominal_spacing: leave distances out.
        fingerprint: of the scores.
    """
    from data.backend import keras
    from evaluation.scoring import Scorer, SystemScores

    keras.backend.clear_session()
    segmenter = load_segmenter(run, *name)
    is_point = name[1] not in segmenter.about.phases
    scores = SystemScores()
    if segmenter.targets:
        scorer = Scorer(segmenter, read_run(run)["seed"], nominal_spacing)
        scores = scorer.score_slices(cohorts) if is_point else scorer.score(cohorts)
    records = [read_json(path, ("fit",)) for path in list_trainings(run, *name)]
    entry = {**describe_system(segmenter, records, scores), "fingerprint": fingerprint}
    print(f"{segmenter.name}: {entry['why'] or 'scored'}")
    lesions = pd.DataFrame(scores.lesions, columns=LESION_COLUMNS)
    return Scored(entry, make_table(scores.rows), lesions, scores.curves, scores.lits)


def describe_system(
    segmenter: Segmenter, trainings: Sequence[dict[str, Any]], scores: SystemScores
) -> dict[str, Any]:
    """Return what summary.json says of a system.

    Args:
        segmenter: the system.
        trainings: records of all trainings behind it.
        scores: of it.
    """
    about, settings = segmenter.about, segmenter.about.settings
    own = {record["network"]: record for record in segmenter.records.values()}
    first = next(iter(own.values()))
    fits = [record["fit"] for record in trainings]
    # A failed tumor network leaves the liver a result, so the status may be "partial".
    why = "; ".join(filter(None, (segmenter.failure, *scores.gaps.values())))
    status = "ok" if not why else "partial" if segmenter.targets else "failed"
    n_slices = first["fit"]["train_slices"]
    entry = {
        "system": segmenter.system,
        "phase": segmenter.phase,
        "title": about.title,
        "kind": about.kind,
        "document": about.document,
        "settings": settings,
        "table1": about.table1 and segmenter.phase in about.phases,
        "status": status,
        "why": why,
        "note": segmenter.weakness,
        "targets": list(segmenter.targets),
        "begins": "weights of a file" if settings.get("weights_sha256") else "random",
        "trained_with": f"every slice of the training cases, {n_slices} crops an epoch"
        if first.get("unit") == "crops"
        else f"{n_slices} slices",
        "parameters": sum(record["fit"]["parameters"] for record in own.values()),
        "predicting_parameters": sum(net.count_params() for net in segmenter.networks.values()),
        "epochs": {
            network: [record["fit"]["best_epoch"], record["fit"]["epochs"]]
            for network, record in own.items()
        },
        "train_s": round(sum(fit["train_s"] for fit in fits), 1),
        "peak_memory_mib": max(fit["peak_memory_mib"] for fit in fits),
        "trained_on": describe_machine(fits[0]),
        "postprocess": list(scores.postprocess),
        "ms_per_slice": scores.ms_per_slice,
        "predict_peak_memory_mib": scores.predict_peak_memory_mib,
    }
    entry |= {key: first[key] for key in ("start", "alpha", "beta", "mask") if key in first}
    # Without thresholds validation data gave no IoU at one.
    if segmenter.decision == THRESHOLDS:
        entry["validation_iou"] = {
            target: of_target["iou_at_roc"]
            for record in own.values()
            for target, of_target in record["validation"].items()
        }
    weak_label = segmenter.records.get("tumor", {}).get("weak_label")
    if weak_label:
        keys = ("columns", "r2_training", "r2_left_out")
        entry["weak_label"] = {key: weak_label[key] for key in keys}
    return entry


def describe_machine(fit: dict[str, Any]) -> dict[str, Any]:
    """Return the machine of a training: commit, processor, cores, backend."""
    return {key: fit["environment"][key] for key in MACHINE}


# --- The run ---


def describe_run(run: Path, cohorts: Cohorts, nominal_spacing: bool) -> dict[str, Any]:
    """Return what summary.json says of the run, without systems and times.

    Args:
        run: run directory.
        cohorts: the stores.
        nominal_spacing: whether distances are left out.
    """
    content, data = read_run(run), describe_data(cohorts)
    data["nominal_spacing"] = nominal_spacing
    machines: list[dict[str, Any]] = []
    for path in list_shown_files(run):
        if path.name == "record.json":
            machine = describe_machine(read_json(path, ("fit",))["fit"])
            machines += [machine] * (machine not in machines)
    return {
        "schema": SCHEMA,
        "preset": content["preset"],
        "seed": content["seed"],
        "data": data,
        "environment": describe_environment(),
        "trained_on": machines,
    }


def describe_data(cohorts: Cohorts) -> dict[str, Any]:
    """Return what the results say of the data that was trained and is scored on."""
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
        "trained_on": check_unseen(store, external),
    }
    described.update(split_sha256=store.split["sha256"], split_rule=store.split["rule"])
    described["split_by"] = store.split.get("by", "patient")
    return described


def sum_phase_seconds(run: Path) -> dict[str, float]:
    """Return the training seconds of each phase, trials and sweep included.

    Of Table 1's systems, by `<network>_<phase>`; a system of one network gives its own name.
    """
    seconds: dict[str, float] = {}
    for path in list_shown_files(run):
        if path.name != "record.json":
            continue
        system, network, phase = path.relative_to(run).parts[:3]
        name = network if system == "sequential" else system
        key = "sweep" if phase.startswith("sweep_") else f"{name}_{phase}"
        seconds[key] = round(seconds.get(key, 0.0) + read_json(path)["fit"]["train_s"], 1)
    return seconds


def show_run(
    run: Path, store: Store, scored: dict[Name, Scored], out: Path, viewer_cases: int
) -> None:
    """Write training.json, examples and viewer.npz of the systems of Table 1.

    Args:
        run, out: run directory, and folder of the results.
        store: with the test cases.
        scored: all that was scored.
        viewer_cases: number of cases for the viewer.
    """
    from evaluation.figures.history import write_training
    from evaluation.page.recording import write_examples, write_viewer

    tables = [entry.scores for entry in scored.values() if entry.entry["table1"]]
    scores = pd.concat([make_table([]), *tables], ignore_index=True)
    write_training(run, out)
    write_examples(run, store, select(scores, unit=SLICE), out)
    write_viewer(run, store, scores, out, viewer_cases)


# --- OUT ---


def list_shown(out: Path) -> list[str]:
    """Return which of the files `SHOWN` there are."""
    return [name for name in SHOWN if (out / name).is_file()]


def _read_summary(out: Path) -> dict[str, Any]:
    """Read OUT/summary.json; {} if it is of another form or a file is missing."""
    if not all((out / name).is_file() for name in OUTPUTS):
        return {}
    content: dict[str, Any] = read_json(out / "summary.json")
    return content if content.get("schema") == SCHEMA and "left" in content else {}


def read_scored(out: Path, summary: dict[str, Any], keys: dict[Name, str]) -> dict[Name, Scored]:
    """Read what an earlier call scored and is as it was.

    Args:
        out: folder of the results.
        summary: of its summary.json.
        keys: fingerprint of each system now.
    """
    if not summary:
        return {}
    scores = read_table(out / "scores.csv")
    texts = {"case": "str", "patient": "str"}
    lesions = pd.read_csv(out / "lesions.csv", dtype=texts)
    curves = read_json(out / "curves.json", ("curves",))["curves"]
    scored: dict[Name, Scored] = {}
    for entry in summary["systems"]:
        name = entry["system"], entry["phase"]
        if keys.get(name) == entry["fingerprint"]:
            same = {"system": name[0], "phase": name[1]}
            scored[name] = Scored(entry, select(scores, **same), select(lesions, **same))
            for part, entries in (("curves", curves), ("lits", summary["lits"])):
                of_system = [row for row in entries if same.items() <= row.items()]
                setattr(scored[name], part, of_system)
    return scored


def write_scored(out: Path, summary: dict[str, Any], scored: Sequence[Scored]) -> None:
    """Write what is scored; the summary last, because it marks the rest as done.

    Args:
        out: folder of the results.
        summary: of the run, without its systems.
        scored: the systems, in order.
    """
    write_table(out / "scores.csv", pd.concat([entry.scores for entry in scored]))
    lesions = pd.concat([entry.lesions for entry in scored])
    write_text(out / "lesions.csv", lesions.to_csv(index=False, lineterminator="\n"))
    curves = [curve for entry in scored for curve in entry.curves]
    write_json(out / "curves.json", {"schema": SCHEMA, "curves": curves})
    lits = [row for entry in scored for row in entry.lits]
    systems = [entry.entry for entry in scored]
    write_json(out / "summary.json", {**summary, "systems": systems, "lits": lits})


if __name__ == "__main__":
    run_command(main, "evaluation.evaluate")
