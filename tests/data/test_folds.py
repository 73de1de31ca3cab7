"""Folds by patient: everybody is tested once, patients stay whole, voxels are the store's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.folds import deal_out, make_folds
from data.store import Store
from tests.data.conftest import refuses


def test_every_patient_is_tested_once(store: Store, tmp_path: Path) -> None:
    folds = make_folds(store, 3, tmp_path)
    tested = [case for fold in folds for case in fold.cases_of("test")]
    assert sorted(tested) == sorted(store.cases)
    for fold in folds:
        sets = {name: set(fold.cases_of(name)) for name in ("train", "validation", "test")}
        assert all(sets.values())
        assert sum(map(len, sets.values())) == len(store.cases)
        assert fold.sha256 != store.sha256
        case = fold.cases_of("test")[0]
        np.testing.assert_array_equal(fold.image(case), store.image(case))
    assert [fold.split["sha256"] for fold in make_folds(store, 3, tmp_path)] == [
        f.split["sha256"] for f in folds
    ]


def test_patients_with_several_cases_stay_together_and_tumors_are_deal_out() -> None:
    """Eight patients of two cases; four hold tumor: each of four folds tests one of these."""
    cases: dict[str, Any] = {
        f"{p}{k}": {"tumor_rows": [1, 2] if p < "e" else []} for p in "abcdefgh" for k in (1, 2)
    }

    class Fake:
        path = Path("STORE")

        def __init__(self) -> None:
            self.cases = cases

        def patient(self, case: str) -> str:
            return case[0]

    for seed in range(5):
        dealt = deal_out(Fake(), 4, seed)  # type: ignore[arg-type]
        for test, validation in dealt:
            assert len(test) == 4
            assert {case[0] for case in test}.isdisjoint(case[0] for case in validation)
            assert sum(case[0] < "e" for case in test) == 2
            assert all(case[0] < "e" for case in validation)
            assert len(validation) == 2
    assert deal_out(Fake(), 4, 0) != deal_out(Fake(), 4, 1)  # type: ignore[arg-type]


def test_with_a_subset_every_patient_is_tested_whole(store: Store, tmp_path: Path) -> None:
    folds = make_folds(store, 3, tmp_path, subset=(5, 2))
    for fold in folds:
        drawn = {
            name: sum(map(len, fold.split["slices"][name].values()))
            for name in ("train", "validation")
        }
        assert drawn == {"train": 5, "validation": 2}
        for case, rows in fold.split["slices"]["test"].items():
            assert list(rows) == list(store.cases[case]["liver_rows"])
    assert sorted(case for fold in folds for case in fold.cases_of("test")) == sorted(store.cases)
    with refuses(r"--subset: two numbers \(train, validation\), got \[5, 2, 9\]"):
        make_folds(store, 3, tmp_path / "other", subset=(5, 2, 9))


@pytest.mark.parametrize("folds", [1, 7])
def test_a_number_of_folds_that_cannot_be_is_refused(
    folds: int, store: Store, tmp_path: Path
) -> None:
    with refuses(f"--folds {folds}: must be from 2 to the 6 patients"):
        make_folds(store, folds, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_seed_out_of_range_is_refused(store: Store, tmp_path: Path) -> None:
    for seed in (-1, 2**32):
        with refuses(f"--seed {seed}: must be from 0 to"):
            make_folds(store, 2, tmp_path, seed)
    assert not list(tmp_path.iterdir())


def test_folds_of_another_seed_are_not_taken_over(store: Store, tmp_path: Path) -> None:
    make_folds(store, 2, tmp_path)
    with refuses("fold-1: a fold of another store, seed or number of folds"):
        make_folds(store, 3, tmp_path)
