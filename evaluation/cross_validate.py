"""Cross-validate a system of the other documents by patient (Elmenabawy et al., III.E: four folds).

    python -m evaluation.cross_validate --name NAME --store DIR --out DIR [--folds 4] [--preset NAME] [--seed N]
                                        [--subset N,N] [--weights FILE] [--set FIELD=VALUE --label NAME]
                                        [--nominal-spacing]

Makes the folds (`data.folds`), trains the system on each (`python -m training.system`, as a process of its own), scores
the whole test cases of each, and writes OUT/cross_validation-<label>.json and .md: DSC and ASSD per fold and in all.
Every patient with a liver is tested once, by a network that never saw him. A second call goes on where the first one
stopped; other systems may share the folds of OUT, which are made before training checks what it is given.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from data.command import REFUSED, InputError, Parser, parse_integers, run_command
from data.environment import describe_environment
from data.files import hash_file, hash_json, read_json, write_json, write_text
from data.folds import make_folds
from data.store import Store
from evaluation.compare import NOMINAL, case_scores, predicted
from evaluation.cross_validation import SCHEMA, page
from evaluation.evaluate import SCORING_VERSION
from evaluation.other_systems import load_other
from evaluation.systems import read_run

Row = dict[str, Any]


def main() -> None:
    """Train and score every fold that is not finished, and write the table."""
    flags = parse()
    check_name(flags.name)
    store = Store.open(flags.store)
    folds = make_folds(store, flags.folds, flags.out, flags.seed, flags.subset)
    label = flags.label or flags.name
    scored = []
    for number, fold in enumerate(folds, start=1):
        run = flags.out / f"run-{number}"
        train(flags, fold, run)
        scored.append({"fold": number, **score(fold, run, label, flags.nominal_spacing)})
        print(f"fold {number} of {len(folds)}: {len(fold.cases_of('test'))} test cases scored")
    data = {
        "cohort": store.cohort,
        "synthetic": store.synthetic,
        "size": store.size,
        "split_by": "patient",
    }
    data["nominal_spacing"] = flags.nominal_spacing
    first = flags.out / "run-1"
    settings = read_json(first / "systems" / label / "system.json", ("settings",))["settings"]
    content: Row = {
        "schema": SCHEMA,
        "system": label,
        "settings": settings,
        "preset": read_run(first)["preset"],
    }
    content["seed"] = flags.seed
    content |= {"data": data, "environment": describe_environment(), "folds": scored}
    write_json(flags.out / f"cross_validation-{label}.json", content)
    write_text(flags.out / f"cross_validation-{label}.md", page([content]))
    print(flags.out / f"cross_validation-{label}.md")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog="evaluation.cross_validate", description="Cross-validate a system by patient."
    )
    add = parser.add_argument
    add("--name", required=True, help="system, as for training.system")
    add("--label", help="name of its folder and of the table; default NAME")
    add(
        "--store",
        type=Path,
        required=True,
        metavar="DIR",
        help="store whose patients are dealt out",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder for folds, runs and table")
    add("--folds", type=int, default=4, metavar="N", help="number of folds; default 4")
    add("--preset", default="demo", metavar="NAME", help="as for training.system; default demo")
    add("--seed", type=int, default=0, help="of folds and training; default 0")
    add(
        "--subset",
        type=parse_integers,
        metavar="N,N",
        help="slices to train and validate each fold; default: all",
    )
    add("--weights", type=Path, metavar="FILE", help="ImageNet weights, as for training.system")
    add(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change one value of the system (repeatable)",
    )
    add(
        "--set-preset",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change one value of the preset",
    )
    add("--nominal-spacing", action="store_true", help=NOMINAL)
    return parser.parse_args()


def check_name(name: str) -> None:
    """Check that there is a system of that name, before folds are made.

    Raises:
        InputError: there is none.
    """
    run_of_project("training.systems", name, stdout=subprocess.DEVNULL)


def train(flags: argparse.Namespace, fold: Store, run: Path) -> None:
    """Train the system on a fold, in a run directory of that fold.

    Raises:
        InputError: training refused, with its own line.
    """
    arguments = ["--name", flags.name, "--store", fold.path, "--run", run, "--preset", flags.preset]
    arguments += ["--seed", flags.seed]
    arguments += ["--label", flags.label] if flags.label else []
    arguments += ["--weights", flags.weights] if flags.weights else []
    for flag, changes in (("--set", flags.set), ("--set-preset", flags.set_preset)):
        arguments += [part for change in changes for part in (flag, change)]
    run_of_project("training.system", *arguments)


def run_of_project(module: str, *arguments: Any, stdout: int | None = None) -> None:
    """Run a command of the project, paths made absolute; this room does not import training, it starts it.

    What it writes on standard error is held back while it runs, and passed on if it failed by a fault of its own.

    Raises:
        InputError: it refused, with its own line.
        SystemExit: it failed, with its exit code.
    """
    given = [str(part.resolve()) if isinstance(part, Path) else str(part) for part in arguments]
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", module, *given]
    done = subprocess.run(
        command, cwd=root, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )
    lines = done.stderr.strip().splitlines()
    if done.returncode == REFUSED and lines:
        raise InputError(lines[-1].removeprefix(f"{module}: "))
    if done.returncode:
        sys.stderr.write(done.stderr)
        how = (
            f"ended by signal {-done.returncode}"
            if done.returncode < 0
            else f"failed, exit code {done.returncode}"
        )
        print(
            f"evaluation.cross_validate: {module} {how}; the same command goes on from here",
            file=sys.stderr,
        )
        sys.exit(128 - done.returncode if done.returncode < 0 else done.returncode)


def score(fold: Store, run: Path, label: str, nominal_spacing: bool) -> Row:
    """Return the scores of a fold's test cases, from the file of an earlier call where the same was scored."""
    path = run / "systems" / label / "scores.json"
    records = sorted(path.parent.glob("*/record.json"))
    key = hash_json(
        [SCHEMA, SCORING_VERSION, fold.sha256, nominal_spacing, *map(hash_file, records)]
    )
    if path.is_file() and (kept := read_json(path, ("fingerprint", "cases")))["fingerprint"] == key:
        return dict(kept)
    system = load_other(run, label)
    rows: list[Row] = []
    if system.targets:
        for case, labels, _ in predicted(system, fold, "test"):
            scored = case_scores(fold, "test", case, labels, nominal_spacing)
            rows += [row for row in scored if row["target"] in system.targets]
    train_s = sum(record["fit"]["train_s"] for record in system.records.values())
    found: Row = {
        "fingerprint": key,
        "store_sha256": fold.sha256,
        "why": system.failure,
        "weak": system.weakness,
        "train_s": round(train_s, 1),
        "trained_with": system.trained_with,
        "cases": rows,
    }
    found |= {f"{name}_cases": len(fold.cases_of(name)) for name in ("train", "validation", "test")}
    write_json(path, found)
    return found


if __name__ == "__main__":
    run_command(main, "evaluation.cross_validate")
