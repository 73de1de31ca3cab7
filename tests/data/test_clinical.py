"""The weak label: a regression on clinical columns against a line drawn by hand, and the tables."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.clinical import (
    compute_tumor_ratios,
    find_columns,
    fit_weak_labels,
    make_table,
    read_clinical_rows,
)
from data.cohorts import lits
from data.cohorts.base import Options
from data.cohorts.spreadsheet import read_by_key
from data.phantom.cohort import draw_clinical
from tests.data.conftest import refuses


def rows(n: int = 12) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "AFP": str(round(float(value), 3)),
            "nodules": "many" if k % 2 else "one",
            "name": f"patient {k}",
            "OS": str(k),
            "Death_1_StillAliveorLostToFU_0": k % 2,
            "Censored_0_progressed_1": (k // 2) % 2,
            "Interval_FU": k,
            "RECIST_FU": k % 3,
            "written": "1" if k % 2 else "1.0",
            "same": "yes",
            "rare": "1" if k < 3 else "",
        }
        for k, value in enumerate(rng.normal(3, 2, n))
    ]


def test_the_columns_are_numbers_and_short_categories_known_at_the_scan() -> None:
    assert [column.name for column in find_columns(make_table(rows()))] == ["AFP", "nodules"]


def test_a_linear_ratio_is_found_exactly() -> None:
    table = rows(40)
    ratios = np.array(
        [0.1 + 0.02 * float(row["AFP"]) + (0.05 if row["nodules"] == "one" else 0) for row in table]
    )
    labels = fit_weak_labels(table, ratios)
    assert labels.predict({"AFP": 4.0, "nodules": "one"}) == pytest.approx(0.1 + 0.08 + 0.05)
    assert labels.predict({"AFP": 4.0, "nodules": "many"}) == pytest.approx(0.18)
    assert labels.predict({"AFP": 1e6, "nodules": "many"}) == 1
    assert labels.predict({"AFP": "-1e6", "nodules": "many"}) == 0
    mean = np.mean([float(row["AFP"]) for row in table])
    assert labels.predict({"AFP": "NA", "nodules": "many"}) == pytest.approx(0.1 + 0.02 * mean)
    half = 0.5 * 0.05  # every other training row has one nodule
    assert labels.predict({"AFP": 4.0, "nodules": ""}) == pytest.approx(0.18 + half)
    assert labels.predict({"AFP": 4.0, "nodules": "seldom"}) == pytest.approx(0.18 + half)
    record = labels.describe()
    assert record["r2_training"] == record["r2_left_out"] == 1
    assert record["coefficients"].keys() == {"AFP", "nodules=one"}


def test_few_rows_leave_room_for_the_best_column_only() -> None:
    """Nine rows: one feature. The ratio follows the second column; the first is noise."""
    table = [{"noise": float(k % 4), "load": float(k)} for k in range(9)]
    labels = fit_weak_labels(table, np.arange(9) / 20)
    assert labels.describe()["columns"] == ["load"]
    assert labels.predict({"load": 4}) == pytest.approx(0.2)


def test_unrelated_columns_explain_nothing_of_a_patient_left_out() -> None:
    table = rows(30)
    labels = fit_weak_labels(table, np.random.default_rng(1).uniform(0, 0.3, 30))
    assert labels.r2_left_out < labels.r2_training < 0.3
    assert labels.r2_left_out < 0.1


def test_a_patient_s_other_scan_does_not_predict_him() -> None:
    """Two scans of each patient; the column tells patients apart, not the ratio of a new one."""
    rng = np.random.default_rng(4)
    ratios, marks = rng.uniform(0, 0.3, 3), rng.permutation(3)
    table = [{"mark": "abc"[mark]} for mark in marks for _ in range(6)]
    twice = np.repeat(ratios, 6)
    alone = fit_weak_labels(table, twice)
    by_patient = fit_weak_labels(table, twice, [str(k // 6) for k in range(18)])
    assert alone.r2_left_out > 0.99
    assert by_patient.r2_left_out < 0


def test_a_patient_without_whom_no_column_is_left_is_predicted_by_the_mean_of_the_others() -> None:
    """One "no" among eight rows: without its patient the column says nothing."""
    ratios = np.array([0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.8])
    labels = fit_weak_labels([{"cirrhosis": "no" if k == 7 else "yes"} for k in range(8)], ratios)
    assert labels.predict({"cirrhosis": "no"}) == pytest.approx(0.8)
    assert labels.r2_left_out < 0 < labels.r2_training


def test_a_column_is_left_out_where_more_than_a_third_lack_it() -> None:
    """At any number of rows: exactly a third is not more."""
    for n in (6, 9, 12, 15, 18, 21, 24):
        third = n // 3
        for lacking, usable in ((third, ["load"]), (third + 1, [])):
            table = [{"load": "" if k < lacking else float(k)} for k in range(n)]
            assert [column.name for column in find_columns(make_table(table))] == usable


def test_too_few_rows_are_refused() -> None:
    with refuses("5 training rows, a weak label needs 6"):
        fit_weak_labels(rows(5), np.zeros(5))
    with refuses("no column of the 6 training rows is usable"):
        fit_weak_labels([{"a": "x"}] * 6, np.zeros(6))


def test_a_case_without_a_row_is_named() -> None:
    store: Any = SimpleNamespace(path="STORE", cases={"a": {"clinical": {"x": 1}}, "b": {}})
    assert read_clinical_rows(store, ["a"]) == [{"x": 1}]
    with refuses("STORE: no clinical row for b;"):
        read_clinical_rows(store, ["a", "b"])


def test_the_ratio_is_tumor_in_liver_and_tumor() -> None:
    labels = {"a": np.array([0, 1, 1, 1, 2]), "b": np.zeros(4, int)}
    store: Any = SimpleNamespace(label=labels.__getitem__)
    assert compute_tumor_ratios(store, ["a", "b"]).tolist() == [0.25, 0]


def test_the_phantom_s_table_tells_the_tumor_load_imperfectly() -> None:
    """R2 of patients left out: above chance, far from 1 (120 patients of log-uniform load)."""
    rng = np.random.default_rng(0)
    loads = 10 ** rng.uniform(-3, -0.4, 120)
    table = [
        draw_clinical(np.random.default_rng([1, k]), load, 1 + (load > 0.05))
        for k, load in enumerate(loads)
    ]
    labels = fit_weak_labels(table, loads)
    assert 0.15 < labels.r2_left_out < 0.8
    unrelated = [
        {name: row[name] for name in ("age_years", "sex", "bilirubin_mg_dl", "cirrhosis")}
        for row in table
    ]
    assert fit_weak_labels(unrelated, loads).r2_left_out < 0.05


def test_a_table_beside_volumes_in_the_lits_layout_is_read(tmp_path: Path) -> None:
    for name in ("volume-1.nii", "segmentation-1.nii", "volume-2.nii", "segmentation-2.nii"):
        (tmp_path / name).touch()
    (tmp_path / "clinical.csv").write_text("case,age\nvolume-1,60\n")
    cases = lits.find_cases(tmp_path, Options())
    assert [case.clinical for case in cases] == [{"age": "60"}, {}]


@pytest.mark.parametrize(
    ("text", "words"),
    [("patient,age\n1,2\n", "no column case"), ("case,age\nx,2\nx,3\n", "case x has two rows")],
)
def test_a_table_that_is_none_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "clinical.csv").write_text(text)
    with refuses(words):
        read_by_key(tmp_path / "clinical.csv", "case")
