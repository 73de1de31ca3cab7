"""Score the sweep of the joint loss: every ratio beta / alpha and start, beside the pair and one-step.

    python -m evaluation.joint_sweep --run DIR --store DIR --out DIR [--external STORE]

Threshold rule roc, found on validation data by training; cross-entropy. Writes OUT/joint_sweep.json: the points with
their cost, and the counts of each by cohort, target and patient, from which `evaluation.joint_answer` makes table and
figure of one or several seeds. A later call scores what is new.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.backend import keras
from data.command import InputError, run_command
from data.files import hash_file, hash_json, read_json, write_json
from evaluation.evaluate import SCORING_VERSION, Cohorts, described_data, open_from_command_line
from evaluation.joint_answer import SCHEMA
from evaluation.metrics.statistics import by_patient
from evaluation.names import LOSSES, STAGES, TARGETS
from evaluation.scoring import SLICE_RULE, case_rows, score_cohort
from evaluation.systems import System, check_finished, load_system, read_run

CE = LOSSES[0]


def main() -> None:
    """Score what is trained of the sweep."""
    run, cohorts, out = open_from_command_line("joint_sweep", "Score the sweep of the joint loss.")
    path = out / "joint_sweep.json"
    score_sweep(run, cohorts, path)
    print(f"sweep: {path}")


def fingerprint(run: Path, model: str, loss: str, cohorts: Cohorts) -> str:
    """Return a hash of what the scores of a point depend on: its records, stores, code."""
    records = [run / stage / loss / "record.json" for stage in STAGES[model]]
    hashes = {str(path.relative_to(run)): hash_file(path) for path in records}
    stores = {name: store.sha256 for name, store in cohorts.items()}
    return hash_json({"version": SCORING_VERSION, "records": hashes, "stores": stores})


def score_sweep(run: Path, cohorts: Cohorts, path: Path) -> None:
    """Write joint_sweep.json, point by point; those that it held before, and that are as they were, are kept.

    Raises:
        InputError: no point of the sweep is finished, or the pair is not.
    """
    folders = [path.parent for path in run.glob("joint/sweep_*/record.json")]
    folders.sort(key=order)
    if not folders:
        raise InputError(
            f"{run}: no point of the sweep is finished (python -m training.joint_sweep)"
        )
    systems = [
        ("sequential", "sequential", CE),
        *((folder.name, "joint", folder.name) for folder in folders),
    ]
    if (run / "one_step" / CE / "record.json").is_file():
        systems.insert(0, ("one_step", "one_step", CE))
    check_finished(run, "sequential", CE)
    before = (
        read_json(path, ("points", "counts")) if path.is_file() else {"points": [], "counts": []}
    )
    keys = {name: fingerprint(run, model, loss, cohorts) for name, model, loss in systems}
    points = {
        point["name"]: point
        for point in before["points"]
        if point.get("fingerprint") == keys.get(point["name"])
    }
    counts = {name: [row for row in before["counts"] if row["point"] == name] for name in points}
    content = read_run(run)
    head = {
        "schema": SCHEMA,
        "preset": content["preset"],
        "seed": content["seed"],
        "data": described_data(cohorts),
    }
    head["rule"] = SLICE_RULE
    for name, model, loss in systems:
        if name in points:
            print(f"{name}: already scored")
        else:
            keras.backend.clear_session()
            system = load_system(run, model, loss)
            why = system.failure
            points[name] = {
                "name": name,
                "why": why,
                **described(run, model, loss),
                "fingerprint": keys[name],
            }
            counts[name] = [] if why else count(system, name, cohorts)
            print(f"{name}: {why or 'scored'}")
        known = [one for one in keys if one in points]
        rows = [row for one in known for row in counts[one]]
        write_json(path, {**head, "points": [points[one] for one in known], "counts": rows})


def order(folder: Path) -> tuple[bool, str, float]:
    """Sort key of a point: the controls first, then from the pair and from scratch, by ratio."""
    record = read_json(folder / "record.json", ("mask", "start", "alpha", "beta"))
    return record["mask"] != "hard", record["start"], record["beta"] / max(record["alpha"], 1e-12)


def described(run: Path, model: str, loss: str) -> dict[str, Any]:
    """Return how a system was trained and at what cost, from its records; sums over the networks of a pair."""
    records = [read_json(run / stage / loss / "record.json", ("fit",)) for stage in STAGES[model]]
    fits = [record["fit"] for record in records]
    settings = {key: records[0].get(key) for key in ("start", "alpha", "beta", "mask")}
    return {
        **settings,
        "epochs": [fit["epochs"] for fit in fits],
        "train_s": round(sum(fit["train_s"] for fit in fits), 1),
        "peak_memory_mib": max(fit["peak_memory_mib"] for fit in fits),
        "parameters": sum(fit["parameters"] for fit in fits),
        "validation_iou": {
            target: found["iou_at_roc"]
            for record in records
            for target, found in record["validation"].items()
        },
        "environment": {
            key: fits[0]["environment"][key] for key in ("git_commit", "processor", "cores")
        },
    }


def count(system: System, name: str, cohorts: Cohorts) -> list[dict[str, Any]]:
    """Return the pixel counts of a system by cohort, target and patient at the threshold rule."""
    rows = []
    for cohort, store in cohorts.items():
        cases = case_rows(system, store, cohort, list(score_cohort(system, store, cohort)))
        for target in TARGETS:
            mine = [
                row
                for row in cases
                if (row["target"], row["threshold_rule"]) == (target, SLICE_RULE)
            ]
            for patient, found in by_patient(mine).items():
                head = {"point": name, "cohort": cohort, "target": target, "patient": patient}
                rows.append(
                    {**head, "tp": found.tp, "fp": found.fp, "fn": found.fn, "tn": found.tn}
                )
    return rows


if __name__ == "__main__":
    run_command(main, "evaluation.joint_sweep")
