"""The score table: what is read is what was written, and sums and scores are those made by hand."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.command import InputError
from evaluation import score_table
from evaluation.metrics.counts import Counts, iou
from evaluation.metrics.statistics import bound_score
from evaluation.names import PHASES, SYSTEMS
from evaluation.score_table import ScoreRow
from tests.evaluation.metrics.test_statistics import draw_patients


def make_row(**changes: Any) -> ScoreRow:
    values: dict[str, Any] = {"seed": 0, "system": "one_step", "phase": "ce", "rule": "roc"}
    values |= {"cohort": "test", "target": "tumor", "unit": "slices", "case": "1", "patient": "01"}
    values |= {"n_slices": 3, "tp": 6, "fp": 2, "fn": 2, "tn": 90, "threshold": 0.1}
    return ScoreRow(**values | changes)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    rows = [
        make_row(threshold=1 / 3),
        make_row(rule="argmax", threshold=None, experiment="NA", case="007"),
        make_row(unit="whole", assd_mm=0.1 + 0.2, voxel_ml=1e-3, chosen=True, slice=4),
    ]
    table = score_table.make_table(rows)
    score_table.write_table(tmp_path / "scores.csv", table)
    pd.testing.assert_frame_equal(score_table.read_table(tmp_path / "scores.csv"), table)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "no such file"),
        ("", "damaged"),
        ("seed,system\n0,a\n", "has no column phase"),
        ("tp\n1,2\n", "has no column|damaged"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(
    tmp_path: Path, content: str | None, rule: str
) -> None:
    path = tmp_path / "scores.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rule) as error:
        score_table.read_table(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_text_where_a_count_belongs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    score_table.write_table(path, score_table.make_table([make_row()]))
    path.write_text(path.read_text().replace(",6,2,2,90,", ",six,2,2,90,"))
    with pytest.raises(InputError, match="damaged"):
        score_table.read_table(path)


def test_pooled_scores_are_those_of_the_sums() -> None:
    rows = [make_row(), make_row(case="2", patient="02", tp=0, fp=4, fn=6, tn=90, n_slices=5)]
    pooled = score_table.pool(score_table.make_table(rows))
    row = next(pooled.itertuples(index=False))
    assert (row.n_cases, row.n_slices, row.tp, row.fp, row.fn, row.tn) == (2, 8, 6, 6, 8, 180)
    assert row.iou == pytest.approx(6 / 20)
    assert row.dice == pytest.approx(12 / 26)
    assert row.pixel_accuracy == pytest.approx(186 / 200)


def test_rows_are_in_the_order_of_the_tables() -> None:
    systems = ["zz", "joint", "aa", "one_step"]
    rows = [make_row(system=name, rule=rule) for name in systems for rule in ("roc", "argmax")]
    table = score_table.sort_rows(score_table.make_table(rows))
    assert list(table["system"].unique()) == ["one_step", "joint", "aa", "zz"]
    assert list(table["rule"][:2]) == ["argmax", "roc"]


def test_patients_are_counted_together_and_averaged_apart() -> None:
    rows = [make_row(unit="whole", assd_mm=1.0), make_row(unit="whole", case="2", assd_mm=4.0)]
    rows += [make_row(unit="whole", case="3", patient="02", assd_mm=None)]
    table = score_table.make_table(rows)
    patients = score_table.count_patients(table)
    assert patients == {"01": Counts(12, 4, 4, 180), "02": Counts(6, 2, 2, 90)}
    assert score_table.mean_by_patient(table, "assd_mm") == {"01": 2.5}


def test_a_blind_network_gets_the_tumors_share_of_the_liver() -> None:
    rows = [
        make_row(rule="0.5", system=system, target=target, tp=tp, fn=10)
        for system in ("one_step", "joint")
        for target, tp in (("liver", 190), ("tumor", 30))
    ]
    blind = score_table.score_blind_tumor(score_table.make_table(rows))
    assert blind == {"test": pytest.approx(40 / 200)}


def test_table1_has_the_areas_of_the_curves_and_no_interval_of_few_patients() -> None:
    rows = [make_row(), make_row(unit="whole", tp=0), make_row(postprocess="fill_holes", tp=0)]
    curve = {"cohort": "test", "target": "tumor", "phase": "ce", "system": "one_step"}
    curve |= {"auc": 0.75, "rauc": None}
    table = score_table.make_table1(score_table.make_table(rows), [curve])
    assert len(table) == 1
    assert (table["tp"][0], table["auc"][0], table["n_counted"][0]) == (6, 0.75, 1)
    assert np.isnan(table[["rauc", "iou_low", "iou_high"]].iloc[0]).all()


def test_pairs_that_were_scored_are_compared_with_the_same_patients() -> None:
    rows = [
        make_row(system=system, case=case, patient=case, tp=tp, rule=rule)
        for system, tp in (("one_step", 2), ("sequential", 6))
        for case in ("1", "2")
        for rule in ("roc", "0.5")
    ]
    pairs = score_table.compare_pairs(score_table.make_table(rows))
    sides = [(pair.first, pair.second) for pair in pairs]
    assert sides == [
        (("sequential", "ce", "roc"), ("one_step", "ce", "roc")),
        (("one_step", "ce", "roc"), ("one_step", "ce", "0.5")),
        (("sequential", "ce", "roc"), ("sequential", "ce", "0.5")),
    ]
    assert pairs[0].comparison.difference.value == pytest.approx(0.6 - 2 / 6)
    assert pairs[0].comparison.better == 2


def make_system(system: str, phase: str, found: float, **changes: Any) -> list[ScoreRow]:
    """Return a row for each of twelve patients, of whose tumor a share is found."""
    return [
        make_row(system=system, phase=phase, case=name, patient=name, **asdict(counts) | changes)
        for name, counts in draw_patients(found=found).items()
    ]


def test_table1_has_the_interval_by_patient() -> None:
    table = score_table.make_table1(score_table.make_table(make_system("joint", "ce", 0.8)), [])
    expected = bound_score(draw_patients(found=0.8), iou)
    assert (table["iou_low"][0], table["iou_high"][0]) == (expected.low, expected.high)
    assert (table["n_patients"][0], table["n_counted"][0], table["draws_skipped"][0]) == (12, 12, 0)


def test_better_systems_and_rules_win_by_patient() -> None:
    shares = {
        ("one_step", "ce"): 0.4,
        ("sequential", "ce"): 0.8,
        ("sequential", "balanced"): 0.6,
        ("joint", "ce"): 0.9,
    }
    rows = [row for system, found in shares.items() for row in make_system(*system, found)]
    half = make_system("joint", "ce", 0.9, rule="0.5")
    rows += [replace(row, fp=2 * row.fp) for row in half]
    pairs = score_table.compare_pairs(score_table.make_table(rows))
    compared = {(pair.first[:2], pair.second[:2]): pair for pair in pairs}
    assert set(compared) == {
        (("sequential", "ce"), ("one_step", "ce")),
        (("sequential", "balanced"), ("sequential", "ce")),
        (("joint", "ce"), ("sequential", "ce")),
        (("joint", "ce"), ("joint", "ce")),
    }
    better = compared[("sequential", "ce"), ("one_step", "ce")].comparison
    assert (better.better, better.worse) == (12, 0)
    assert (better.difference.n_patients, better.difference.n_counted) == (12, 12)
    assert better.least_p == 2 / 2**12
    worse = compared[("sequential", "balanced"), ("sequential", "ce")].comparison
    assert better.difference.value > 0 > worse.difference.value
    rules = compared[("joint", "ce"), ("joint", "ce")]
    assert (rules.first[2], rules.second[2]) == ("roc", "0.5")
    tp, fp, fn = (
        sum(getattr(counts, name) for counts in draw_patients(found=0.9).values())
        for name in ("tp", "fp", "fn")
    )
    expected = tp / (tp + fp + fn) - tp / (tp + 2 * fp + fn)
    assert rules.comparison.difference.value == pytest.approx(expected)


def test_what_is_compared() -> None:
    """2 phases of 2 pairs of systems, 3 systems by phase, 6 of both by rule; each side once."""
    systems = [(system, phase) for system in SYSTEMS for phase in PHASES]
    pairs = score_table.list_pairs(systems)
    assert len(pairs) == len(set(pairs)) == 2 * 2 + 3 + 6
    assert (("joint", "balanced", "roc"), ("sequential", "balanced", "roc")) in pairs
    assert (("one_step", "ce", "roc"), ("one_step", "ce", "0.5")) in pairs
    assert all(first[0] != second[0] or first[1:] != second[1:] for first, second in pairs)
