"""Folds for cross-validation by patient: stores that share one store's voxels and differ in their split.

    python -m data.folds --store DIR --folds 4 --out DIR [--seed N] [--subset N,N]

Makes DIR/fold-1 to DIR/fold-N. Each patient is in the test set of one fold; of a fold's other patients a tenth (at
least one) validates and the rest trains. Patients are dealt out by falling number of slices with tumor, so that the
folds hold about as many. A subset is of the slices that train and validate; the test cases are whole, so that each
patient with a liver is tested. The arrays are hard links where the file system has them, else copies.
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
    parser = Parser(prog="data.folds", description="Stores for cross-validation by patient.")
    parser.add_argument(
        "--store", type=Path, required=True, metavar="DIR", help="store whose cases are dealt out"
    )
    parser.add_argument(
        "--folds", type=int, required=True, metavar="N", help="number of folds, 2 or more"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for fold-1, fold-2, ..."
    )
    parser.add_argument("--seed", type=int, default=0, help="deals out the patients; default 0")
    parser.add_argument(
        "--subset",
        type=parse_integers,
        metavar="N,N",
        help="slices to train and validate each fold",
    )
    flags = parser.parse_args()
    for store in make_folds(
        Store.open(flags.store), flags.folds, flags.out, flags.seed, flags.subset
    ):
        print(f"{store.path}: test {', '.join(store.cases_of('test'))}")


def make_folds(
    store: Store, folds: int, out: Path, seed: int = 0, subset: Sequence[int] | None = None
) -> list[Store]:
    """Return the stores of the folds, made where they are missing.

    Raises:
        InputError: fewer than 2 folds, fewer patients than folds, an external store, a seed out of range, not two
            numbers in `subset`, a folder of another origin, or what `data.splits.make_split` refuses.
    """
    if "train" not in store.split["slices"]:
        raise InputError(f"{store.path}: an external store, there is nothing to train on")
    check_seed(seed)
    if subset is not None and len(subset) != 2:
        raise InputError(
            f"--subset: two numbers (train, validation), got {list(subset)}; the test cases are whole"
        )
    patient_of = {case: store.patient(case) for case in store.cases}
    splits = []
    for test, validation in dealt_out(store, folds, seed):
        sets: dict[str, Any] = {
            "seed": seed,
            "test": test,
            "validation": validation,
            "source": str(store.path),
        }
        split = make_split(store.cases, patient_of, **sets)
        if subset is not None:
            tested = sum(map(len, split["slices"]["test"].values()))
            split = make_split(store.cases, patient_of, **sets, subset=(*subset, tested))
        splits.append(split)
    return [
        _fold_store(store, out / f"fold-{number}", split)
        for number, split in enumerate(splits, start=1)
    ]


def dealt_out(store: Store, folds: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Return the test cases and the validation cases of each fold.

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
        p: sum(len(store.cases[case]["tumor_rows"]) for case in cases)
        for p, cases in cases_of.items()
    }
    rng = np.random.default_rng([seed, 5])
    drawn = [str(patient) for patient in rng.permutation(sorted(cases_of))]
    ordered = sorted(drawn, key=lambda patient: -load[patient])
    tests: list[list[str]] = [[] for _ in range(folds)]
    for first in range(0, len(ordered), folds):
        for place, patient in zip(
            rng.permutation(folds), ordered[first : first + folds], strict=False
        ):
            tests[place].append(patient)
    dealt = []
    for test in tests:
        others = [patient for patient in drawn if patient not in test]
        # Somebody with tumor, where there is one: a threshold and an epoch are chosen on these patients.
        others.sort(key=lambda patient: load[patient] == 0)
        validation = others[: max(1, round(VALIDATION_SHARE * len(others)))]
        dealt.append(
            (
                [case for p in test for case in cases_of[p]],
                [case for p in validation for case in cases_of[p]],
            )
        )
    return dealt


def _fold_store(store: Store, path: Path, split: dict[str, Any]) -> Store:
    if (path / "split.json").is_file():
        found = Store.open(path)
        if found.split["sha256"] != split["sha256"] or found.info != store.info:
            raise InputError(f"{path}: a fold of another store, seed or number of folds")
        return found
    if path.exists():
        raise InputError(f"{path}: already exists")
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
