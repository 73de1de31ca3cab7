"""Make folds for cross-validation by patient: stores that differ in their split.

Makes DIR/fold-1 to DIR/fold-N of the same voxels: hard links where the file system has them, else
copies. Each patient is in the test set of one fold; of a fold's other patients a tenth (at least
one) validates and the rest trains. Patients are dealt out by falling number of slices with tumor,
so that folds hold about as many. A subset limits the slices that train and validate; test cases are
whole, so that each patient with a liver is tested.

By hand, because scikit-learn's StratifiedGroupKFold balances classes, not numbers of slices, and
draws no validation patients.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.command import InputError, Parser, check_seed, parse_integers, run_command
from data.files import write_json
from data.splits import make_split
from data.store import Store

VALIDATION_SHARE = 0.1  # assumed


def main() -> None:
    """Make the folds that are not there yet."""
    parser = Parser(
        prog="data.folds",
        description="Make stores for cross-validation by patient.",
        example="python -m data.folds --store out/store --folds 4 --out out/folds",
    )
    add = parser.add_argument
    dealt = "store whose cases are dealt out"
    add("--store", type=Path, required=True, metavar="DIR", help=dealt)
    add("--folds", type=int, required=True, metavar="N", help="number of folds, 2 or more")
    place = "folder for fold-1, fold-2, ..."
    add("--out", type=Path, required=True, metavar="DIR", help=place)
    add("--seed", type=int, default=0, metavar="N", help="deals out the patients (default 0)")
    slices = "slices to train and validate each fold"
    add("--subset", type=parse_integers, metavar="N,N", help=slices)
    flags = parser.parse_args()
    store = Store.open(flags.store)
    for fold in make_folds(store, flags.folds, flags.out, flags.seed, flags.subset):
        print(f"{fold.path}: test {', '.join(fold.cases_of('test'))}")


def make_folds(
    store: Store, folds: int, out: Path, seed: int = 0, subset: Sequence[int] | None = None
) -> list[Store]:
    """Make the stores of the folds that are missing; return those of all folds.

    Args:
        store: whose cases are dealt out.
        folds: number of folds.
        out: folder for fold-1, fold-2, ...
        seed: deals out the patients.
        subset: slices to train and to validate each fold; None: all.

    Raises:
        InputError: fewer than 2 folds, fewer patients than folds, an external store, a seed out of
            range, not two numbers in `subset`, a folder of another origin, or what
            `data.splits.make_split` refuses.
    """
    if "train" not in store.split["slices"]:
        raise InputError(f"{store.path}: an external store, there is nothing to train on")
    check_seed(seed)
    if subset is not None and len(subset) != 2:
        raise InputError(
            f"--subset: two numbers (train, validation), got {list(subset)}; "
            "the test cases are whole"
        )
    patient_of = {case: store.patient(case) for case in store.cases}
    splits = []
    for test, validation in deal_out(store, folds, seed):
        sets: dict[str, Any] = {"seed": seed, "test": test, "validation": validation}
        sets["source"] = str(store.path)
        split = make_split(store.cases, patient_of, **sets)
        # A subset needs the number of test slices, which stay whole.
        if subset is not None:
            tested = sum(map(len, split["slices"]["test"].values()))
            split = make_split(store.cases, patient_of, **sets, subset=(*subset, tested))
        splits.append(split)
    return [
        _make_store(store, out / f"fold-{number}", split)
        for number, split in enumerate(splits, start=1)
    ]


def deal_out(store: Store, folds: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Draw the (test cases, validation cases) of each fold.

    Args:
        store: whose cases are dealt out.
        folds: number of folds.
        seed: of the draw.

    Raises:
        InputError: fewer than 2 folds, or fewer patients than folds.
    """
    cases_of: dict[str, list[str]] = {}
    for case in store.cases:
        cases_of.setdefault(store.patient(case), []).append(case)
    if not 2 <= folds <= len(cases_of):
        raise InputError(
            f"--folds {folds}: must be from 2 to the {len(cases_of)} patients of {store.path}"
        )
    load = {
        patient: sum(len(store.cases[case]["tumor_rows"]) for case in cases)
        for patient, cases in cases_of.items()
    }
    rng = np.random.default_rng([seed, 5])
    drawn = [str(patient) for patient in rng.permutation(sorted(cases_of))]
    ordered = sorted(drawn, key=lambda patient: -load[patient])
    tests: list[list[str]] = [[] for _ in range(folds)]
    for first in range(0, len(ordered), folds):
        group = ordered[first : first + folds]
        for place, patient in zip(rng.permutation(folds), group, strict=False):
            tests[place].append(patient)
    dealt = []
    for test in tests:
        rest = [patient for patient in drawn if patient not in test]
        # Patients with tumor first: a threshold and an epoch are chosen on these.
        rest.sort(key=lambda patient: load[patient] == 0)
        validation = rest[: max(1, round(VALIDATION_SHARE * len(rest)))]
        sides = (
            [case for patient in side for case in cases_of[patient]] for side in (test, validation)
        )
        dealt.append((next(sides), next(sides)))
    return dealt


def _make_store(store: Store, path: Path, split: dict[str, Any]) -> Store:
    # A finished fold is taken only where it is what would be made now.
    if (path / "split.json").is_file():
        fold = Store.open(path)
        if fold.split["sha256"] != split["sha256"] or fold.info != store.info:
            raise InputError(f"{path}: a fold of another store, seed or number of folds")
        return fold
    if path.exists():
        raise InputError(f"{path}: already exists")
    # Under another name until it is whole, so that no half fold is trained on.
    partial = path.with_name(f"{path.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    for case in store.cases:
        folder = partial / "cases" / case
        folder.mkdir(parents=True)
        for file in (store.path / "cases" / case).iterdir():
            _link(file, folder / file.name)
    write_json(partial / "store.json", store.info)
    write_json(partial / "split.json", split)
    partial.rename(path)
    return Store.open(path)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


if __name__ == "__main__":
    run_command(main, "data.folds")
