"""A split by slice beside one by patient: the README's table from records made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.command import InputError
from data.files import write_json
from evaluation.results import Results
from evaluation.score_table import ScoreRow, make_table
from evaluation.tables.by_slice import check_splits, summarise_splits

KEY = {"cohort": "test", "target": "tumor", "phase": "ce", "system": "sequential", "rule": "roc"}
DATA = {"size": 128, "cohort": "lits", "train_slices": 1080, "validation_slices": 58}
DATA |= {"test_slices": 177, "test_cases": 18, "split_sha256": "a"}


def make_case(name: str, tp: int, fn: int) -> ScoreRow:
    counts = {"tp": tp, "fp": 0, "fn": fn, "tn": 100}
    head: dict[str, Any] = {**KEY, "seed": 0, "unit": "slices", "case": name, "patient": name}
    return ScoreRow(**head, **counts, n_slices=1)


def make_records(folder: Path) -> list[Results]:
    write_json(
        folder / "split.json", {"sha256": "a", "slices": {"test": ["volume-11", "volume-16"]}}
    )
    summary = {"preset": "mini", "seed": 0, "data": DATA, "timing_s": {"evaluate": 120.0}}
    table = {"table1": [{**KEY, "iou": 0.4}]}
    by_patient = Results(folder / "seed0.json", summary, {}, make_table([]), recorded=table)
    summary = {**summary, "data": {**DATA, "split_by": "slice"}}
    cases = [make_case("volume-11", 6, 4), make_case("volume-16", 9, 1)]
    scores = make_table([*cases, make_case("volume-3", 0, 99)])
    table = {"table1": [{**KEY, "iou": 0.8, "iou_low": 0.7, "iou_high": 0.9}]}
    by_slice = Results(folder / "out", summary, {}, scores, recorded=table)
    return [by_patient, by_slice]


def test_the_table_by_hand(tmp_path: Path) -> None:
    """On volumes 11 and 16 15 of 20 pixels are found; volume 3 is in no test set by patient."""
    caption, table = summarise_splits(make_records(tmp_path))
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells[:3] == ["tumor", "cross-entropy", "sequential"]
    assert cells[3:] == ["0.400", "0.800", "0.700 to 0.900", "0.750", "+0.350"]
    assert "by slice: volumes 11 and 16" in table
    assert "1080 / 58 / 177 slices in both splits" in caption
    assert "took 2 minutes" in caption


def change_data(results: Results, **data: Any) -> Results:
    return replace(results, summary={**results.summary, "data": {**results.data, **data}})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda results: change_data(results, split_by="patient"), "its split is by patient"),
        (
            lambda results: change_data(results, train_slices=1),
            "train_slices is 1, that of the split by patient 1080",
        ),
        (
            lambda results: replace(results, summary={**results.summary, "preset": "demo"}),
            "preset is demo, that of the split by patient mini",
        ),
        (
            lambda results: replace(results, scores=results.scores.query("case != 'volume-16'")),
            "volume-16, a test case of the split by patient, has no test slice in it",
        ),
    ],
)
def test_runs_that_differ_in_more_than_the_split_are_refused(
    tmp_path: Path, spoil: Callable[[Results], Results], words: str
) -> None:
    by_patient, by_slice = make_records(tmp_path)
    check_splits(by_patient, by_slice)
    with pytest.raises(InputError, match=words):
        check_splits(by_patient, spoil(by_slice))


def test_a_split_that_is_not_the_record_s_is_refused(tmp_path: Path) -> None:
    by_patient, by_slice = make_records(tmp_path)
    other = change_data(by_patient, split_sha256="b")
    with pytest.raises(InputError, match=r"split\.json: not the split of"):
        check_splits(other, by_slice)
