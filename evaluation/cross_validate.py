"""Cross-validate another document's system by patient.

    python -m evaluation.cross_validate --name NAME --store DIR --out DIR [--folds 4] ...

Elmenabawy et al. (III.E) use four folds. `data.folds` makes them; `python -m training.system`
trains on each, as a process of its own; the fold's whole test cases are scored. Every patient with
a liver is tested once, by a network that never saw him.

Writes OUT/<label>.json (a record for `evaluation.publish`, an entry per fold),
OUT/<label>.scores.csv (score table) and OUT/<label>.md (page). A second call resumes. Other systems
may share the folds of OUT.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from data.command import REFUSED, InputError, Parser, parse_integers, run_command
from data.environment import describe_environment
from data.files import read_json, write_json, write_text
from data.folds import make_folds
from data.runs import read_run
from data.store import Store
from evaluation.evaluate import (
    NOMINAL,
    SCORING_VERSION,
    Scored,
    describe_system,
    list_trainings,
    make_fingerprint,
)
from evaluation.results import SCHEMA, read_results
from evaluation.score_table import make_table, read_table, select, write_table
from evaluation.segmenter import load_segmenter
from evaluation.tables.folds import make_folds_page

PHASE = "train"
"""The one phase of a system of another document."""


def main() -> None:
    """Train and score every fold that is not finished, and write the record."""
    flags = parse_flags()
    check_name(flags.name)
    store = Store.open(flags.store)
    folds = make_folds(store, flags.folds, flags.out, flags.seed, flags.subset)
    label = flags.label or flags.name
    earlier = read_folds(flags.out, label)
    scored: list[Scored] = []
    for number, fold in enumerate(folds, start=1):
        run = flags.out / f"run-{number}"
        train_fold(flags, fold, run)
        scored.append(score_fold(flags, fold, number, label, earlier))
        write_record(flags, store, label, scored)
        print(f"fold {number} of {len(folds)}: {len(fold.cases_of('test'))} test cases scored")
    record = flags.out / f"{label}.json"
    write_text(record.with_suffix(".md"), make_folds_page([read_results(record)]))
    print(record)


def parse_flags() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog="evaluation.cross_validate",
        description="Cross-validate a system by patient.",
        example="python -m evaluation.cross_validate --name cdnn_alexnet --store S --out folds",
    )
    add = parser.add_argument_group("system and folders").add_argument
    add("--name", required=True, help="system, as for training.system")
    add("--label", help="name of its folder and of the table; default NAME")
    add("--store", type=Path, required=True, metavar="DIR", help="its patients are dealt out")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for folds, runs and record")
    add = parser.add_argument_group("folds and training").add_argument
    add("--folds", type=int, default=4, metavar="N", help="number of folds; default 4")
    add("--preset", default="demo", metavar="NAME", help="as for training.system; default demo")
    add("--seed", type=int, default=0, help="of folds and training; default 0")
    text = "slices to train and validate each fold; default: all"
    add("--subset", type=parse_integers, metavar="N,N", help=text)
    add("--weights", type=Path, metavar="FILE", help="ImageNet weights, as for training.system")
    for flag, whose in (("--set", "system"), ("--set-preset", "preset")):
        text = f"change one value of the {whose} (repeatable)"
        add(flag, action="append", default=[], metavar="FIELD=VALUE", help=text)
    add = parser.add_argument_group("scoring").add_argument
    add("--nominal-spacing", action="store_true", help=NOMINAL)
    return parser.parse_args()


def check_name(name: str) -> None:
    """Check that a system of that name exists, before folds are made.

    Raises:
        InputError: there is none.
    """
    run_module("training.systems", name, stdout=subprocess.DEVNULL)


def train_fold(flags: argparse.Namespace, fold: Store, run: Path) -> None:
    """Train the system on a fold, in a run directory of that fold.

    Args:
        flags: command line.
        fold: its store.
        run: its run directory.

    Raises:
        InputError: training refused, with its own line.
    """
    arguments = ["--name", flags.name, "--store", fold.path, "--run", run, "--preset", flags.preset]
    arguments += ["--seed", flags.seed]
    arguments += ["--label", flags.label] if flags.label else []
    arguments += ["--weights", flags.weights] if flags.weights else []
    for flag, changes in (("--set", flags.set), ("--set-preset", flags.set_preset)):
        arguments += [part for change in changes for part in (flag, change)]
    run_module("training.system", *arguments)


def run_module(module: str, *arguments: Any, stdout: int | None = None) -> None:
    """Run a command of the project: training is started, not imported here.

    Its standard error is held back, and passed on after a fault of its own.

    Args:
        module: to run.
        *arguments: paths are made absolute.
        stdout: as for `subprocess.run`.

    Raises:
        InputError: it refused, with its own line.
        SystemExit: it failed, with its exit code.
    """
    texts = [str(part.resolve()) if isinstance(part, Path) else str(part) for part in arguments]
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", module, *texts]
    done = subprocess.run(
        command, cwd=root, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )
    lines = done.stderr.strip().splitlines()
    if done.returncode == REFUSED and lines:
        raise InputError(lines[-1].removeprefix(f"{module}: "))
    if done.returncode:
        sys.stderr.write(done.stderr)
        by_signal = done.returncode < 0
        how = f"ended by signal {-done.returncode}" if by_signal else "failed"
        how += "" if by_signal else f", exit code {done.returncode}"
        text = f"{module} {how}; the same command goes on from here"
        print(f"evaluation.cross_validate: {text}", file=sys.stderr)
        sys.exit(128 - done.returncode if by_signal else done.returncode)


def score_fold(
    flags: argparse.Namespace, fold: Store, number: int, label: str, earlier: dict[str, Scored]
) -> Scored:
    """Return scores of a fold's test cases, reused if nothing has changed.

    Args:
        flags: command line.
        fold: its store.
        number: of the fold, from 1.
        label: name of the system.
        earlier: scores of an earlier call, by fingerprint.
    """
    run = flags.out / f"run-{number}"
    asked = [SCORING_VERSION, SCHEMA, number, fold.sha256, flags.nominal_spacing]
    key = make_fingerprint(run, label, PHASE, asked)
    if key in earlier:
        return earlier[key]
    from evaluation.scoring import Scorer, SystemScores

    segmenter = load_segmenter(run, label, PHASE)
    scores = SystemScores()
    if segmenter.targets:
        scorer = Scorer(segmenter, flags.seed, flags.nominal_spacing, number)
        for rows, _ in scorer.score_whole_cases(fold, "test"):
            scores.rows += rows
    records = [read_json(path, ("fit",)) for path in list_trainings(run, label, PHASE)]
    entry = {"fold": number, **describe_system(segmenter, records, scores), "fingerprint": key}
    entry["store_sha256"] = fold.sha256
    for name in ("train", "validation", "test"):
        entry[f"{name}_cases"] = len(fold.cases_of(name))
    return Scored(entry, make_table(scores.rows))


def read_folds(out: Path, label: str) -> dict[str, Scored]:
    """Return scores of an earlier call by fingerprint; {} without a record."""
    path, table = out / f"{label}.json", out / f"{label}.scores.csv"
    if not path.is_file() or not table.is_file():
        return {}
    record, scores = read_json(path, ("schema", "summary")), read_table(table)
    if record["schema"] != SCHEMA:
        return {}
    return {
        entry["fingerprint"]: Scored(entry, select(scores, fold=entry["fold"]))
        for entry in record["summary"]["systems"]
    }


def write_record(flags: argparse.Namespace, store: Store, label: str, scored: list[Scored]) -> None:
    """Write the score table of the scored folds, then their record.

    Args:
        flags: command line.
        store: whose patients were dealt out.
        label: name of the system.
        scored: the folds.
    """
    write_table(flags.out / f"{label}.scores.csv", pd.concat([fold.scores for fold in scored]))
    data = {
        "cohort": store.cohort,
        "synthetic": store.synthetic,
        "size": store.size,
        "split_by": "patient",
        "external": None,
        "nominal_spacing": flags.nominal_spacing,
    }
    summary = {
        "schema": SCHEMA,
        "preset": read_run(flags.out / "run-1")["preset"],
        "seed": flags.seed,
        "data": data,
        "systems": [fold.entry for fold in scored],
        "left": [f"fold {number}" for number in range(len(scored) + 1, flags.folds + 1)],
        "lits": [],
        "environment": describe_environment(),
    }
    record = {"schema": SCHEMA, "experiment": "", "key": label, "summary": summary}
    write_json(flags.out / f"{label}.json", {**record, "training": {"phases": []}})


if __name__ == "__main__":
    run_command(main, "evaluation.cross_validate")
