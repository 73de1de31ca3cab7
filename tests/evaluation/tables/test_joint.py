"""Table and figure of the joint loss's sweep, from counts made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.command import InputError
from evaluation.figures.joint import draw_joint
from evaluation.results import Results
from evaluation.score_table import ScoreRow, make_table
from evaluation.tables.joint import (
    Point,
    PointScore,
    Sweeps,
    check_sweep,
    describe_sweep,
    make_joint,
    make_joint_page,
    summarise_sweep,
)
from tests.evaluation.tables.test_table1 import split_cells

PATIENTS = [f"lits:volume-{n}" for n in range(6)]
ONE_STEP, SEQUENTIAL = ("one_step", "ce"), ("sequential", "ce")
PAIR, SCRATCH, HARD, HARD_1 = (
    ("joint", f"sweep_{name}")
    for name in ("pair_0.1", "scratch_0.1", "pair_0.1_hard", "pair_1_hard")
)
RATIOS = {SEQUENTIAL: None, ONE_STEP: None, HARD_1: 1.0, HARD: 0.1, PAIR: 0.1, SCRATCH: 0.1}
VALIDATION = {SCRATCH: 0.6, HARD_1: 0.7, PAIR: 0.55}
"""Validation IoU of the tumor; 0.5 of the others. That of the liver is 0.9."""
COST = {"cores": 2, "processor": "EPYC", "git_commit": "0123456789abcdef"}
SETS = {
    f"{name}_{what}": 6 for name in ("train", "validation", "test") for what in ("cases", "slices")
}
DATA = {"cohort": "phantom", "synthetic": True, "size": 64, "external": None, **SETS}
System = tuple[str, str]


def make_entry(system: System, ratio: float | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"system": system[0], "phase": system[1], "status": "ok", "why": ""}
    entry["validation_iou"] = {"liver": 0.9, "tumor": VALIDATION.get(system, 0.5)}
    if ratio is not None:
        alpha = 2 / (1 + ratio)
        entry |= {"start": system[1].split("_")[1], "alpha": alpha, "beta": 2 - alpha}
        entry["mask"] = "hard" if system[1].endswith("hard") else "probability"
    return {**entry, "table1": False, "trained_on": COST}


def make_rows(system: System, found: int, seed: int = 0) -> list[ScoreRow]:
    """Return the counts: of 10 tumor pixels of each patient `found`, of 100 of the liver 90."""
    rows = []
    for patient in PATIENTS:
        head: dict[str, Any] = {"seed": seed, "system": system[0], "phase": system[1]}
        head |= {"rule": "roc", "cohort": "test", "unit": "slices", "case": patient}
        for target, tp, fn in (("tumor", found, 10 - found), ("liver", 90, 10)):
            counts = {"tp": tp, "fp": 0, "fn": fn, "tn": 1000}
            rows.append(ScoreRow(**head, **counts, target=target, patient=patient, n_slices=1))
    return rows


def make_sweep(seed: int, found: dict[System, int], without: tuple[System, ...] = ()) -> Results:
    """Return a sweep in which each point finds 5 pixels of a tumor, or as many as `found` says."""
    scored = [system for system in RATIOS if system not in without]
    rows = [row for system in scored for row in make_rows(system, found.get(system, 5), seed)]
    entries = [make_entry(*item) for item in RATIOS.items()]
    summary = {"preset": "demo", "seed": seed, "data": DATA, "systems": entries}
    return Results(Path(f"{seed}.json"), summary, {"phases": []}, make_table(rows))


CONTROLS = {HARD: 6, HARD_1: 3}
RECORDS = [
    make_sweep(0, {PAIR: 7, SEQUENTIAL: 4, **CONTROLS}),
    make_sweep(1, {PAIR: 9, SEQUENTIAL: 6, **CONTROLS}),
]


def change_entries(results: Results, changed: Callable[[list[Any]], list[Any]]) -> Results:
    entries = changed(results.summary["systems"])
    return replace(results, summary={**results.summary, "systems": entries})


def find_score(records: list[Results], system: System, target: str = "tumor") -> PointScore:
    scores = Sweeps(records).scores
    return next(s for s in scores if (s.target, s.point.key) == (target, system))


def test_scores_are_means_over_seeds_and_tests_are_by_patient() -> None:
    score = find_score(RECORDS, PAIR)
    assert score.iou.by_seed == [0.7, 0.9]
    # All patients alike: the interval is a point.
    assert score.iou.interval.value == pytest.approx(0.8)
    assert (score.iou.interval.low, score.iou.interval.high) == pytest.approx((0.8, 0.8))
    # Dice of 7 of 10 is 14 / 17, of 9 of 10 it is 18 / 19.
    assert score.dice.interval.value == pytest.approx((14 / 17 + 18 / 19) / 2)
    assert score.dice.interval.low == pytest.approx((14 / 17 + 18 / 19) / 2)
    assert (score.n_seeds, score.n_counted, score.point.start) == (2, 6, "pair")
    assert score.point.ratio == pytest.approx(0.1)
    # 16 of 20 against 10 of 20.
    against = score.against["pair"][0]
    assert against.difference.value == pytest.approx(16 / 20 - 10 / 20)
    assert (against.better, against.worse, against.difference.n_patients) == (6, 0, 6)
    assert against.p_value == pytest.approx(2 / 2**6)
    # The control of the same ratio finds 6 of 10 in both seeds.
    assert score.against["control"][0].difference.value == pytest.approx(16 / 20 - 12 / 20)
    # The control that validation data prefers has ratio 1 and finds 3 of 10.
    assert score.against["preferred"][0].difference.value == pytest.approx(16 / 20 - 6 / 20)
    names = {SEQUENTIAL: set(), HARD: {"pair"}, SCRATCH: {"pair", "preferred"}}
    assert {key: set(find_score(RECORDS, key).against) for key in names} == names


def test_a_seed_that_failed_does_not_count() -> None:
    failed = make_sweep(1, {}, without=(SCRATCH,))
    score = find_score([RECORDS[0], failed], SCRATCH)
    assert (score.n_seeds, score.iou.by_seed) == (1, [0.5])
    nothing = find_score([failed], SCRATCH)
    assert (nothing.n_seeds, nothing.iou, nothing.against) == (0, None, {})
    assert "no result" in make_joint_page([failed])
    without = make_sweep(1, CONTROLS, without=(HARD,))
    shown = "+0.100 (+0.100 to +0.100), p 0.031 (1 of 2 seeds)"
    assert shown in make_joint_page([RECORDS[0], without])
    text = make_joint_page([RECORDS[0], failed])
    assert "0.500<br>0.500 to 0.500" not in text
    assert "0.500 (1 of 2 seeds)<br>0.500 to 0.500" in text


def test_the_table_says_what_was_measured() -> None:
    text = make_joint_page(RECORDS)
    assert "Test, 6 patients with tumor:" in text
    name = "joint from the pair, beta / alpha 0.1 "
    cells = split_cells(next(line for line in text.splitlines() if name in line))
    assert cells[1] == "0.725"
    assert cells[2:4] == ["0.900 ± 0.000<br>0.900 to 0.900", "0.947 ± 0.000<br>0.947 to 0.947"]
    # Dice by seed 14 / 17 and 18 / 19.
    assert cells[4:6] == ["0.800 ± 0.141<br>0.800 to 0.800", "0.885 ± 0.088<br>0.885 to 0.885"]
    assert cells[6] == "+0.300 (+0.300 to +0.300), p 0.031"
    assert cells[7] == "+0.200 (+0.200 to +0.200), p 0.031"
    assert cells[8] == "+0.500 (+0.500 to +0.500), p 0.031"
    assert cells[9:] == ["+0.000 (+0.000 to +0.000)"] * 3
    # The best joint point on validation data, not the best on the test set, not the control.
    best = Sweeps(RECORDS).find_best()
    assert best is not None
    assert best.key == SCRATCH
    assert text.count("**0.750**") == 1
    assert "hard mask (control)" in text
    caption = describe_sweep(RECORDS)
    assert "phantom, SYNTHETIC PHANTOM, 64 px" in caption
    assert "seed 0, 1" in caption
    assert "trained at commit 0123456789." in caption


def test_the_readme_shows_what_validation_data_prefers_and_what_it_is_held_against() -> None:
    """A worse point of the same start stands on the page alone."""
    worse = ("joint", "sweep_pair_10")
    entry = make_entry(worse, 10.0) | {"validation_iou": {"liver": 0.9, "tumor": 0.4}}
    records = []
    for results in RECORDS:
        rows = make_table(make_rows(worse, 5, results.seed))
        scores = pd.concat([results.scores, rows], ignore_index=True)
        wider = change_entries(results, lambda entries: [*entries, entry])
        records.append(replace(wider, scores=scores))
    text = "\n\n".join(summarise_sweep(records))
    lines = [line for line in text.splitlines() if line.startswith("| test")]
    assert [line.split("|")[2].strip() for line in lines] == [
        "one-step",
        "sequential",
        "joint from the pair, beta / alpha 0.1, hard mask (control)",
        "joint from the pair, beta / alpha 1, hard mask (control)",
        "joint from the pair, beta / alpha 0.1",
        "joint from scratch, beta / alpha 0.1",
    ]
    assert all(line.startswith("| test, 6 patients with tumor |") for line in lines)
    gain = "+0.300 (+0.300 to +0.300), p 0.031"
    assert f"0.800 ± 0.141<br>0.800 to 0.800 | {gain}" in lines[4]
    assert "**0.750**" in lines[5]
    assert "beta / alpha 10 |" in make_joint_page(records)


def test_a_sweep_without_controls_has_no_columns_for_them() -> None:
    records = []
    for results in RECORDS:
        wider = change_entries(
            results, lambda entries: [e for e in entries if e.get("mask") != "hard"]
        )
        scores = results.scores[~results.scores["phase"].str.endswith("hard")]
        records.append(replace(wider, scores=scores))
    for text in (make_joint_page(records), "\n\n".join(summarise_sweep(records))):
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert "tumor IoU - sequential" in lines[0]
        assert "- control" not in lines[0]
        assert len({line.count("|") for line in lines}) == 1


def test_a_run_has_the_table_where_it_has_a_sweep() -> None:
    assert make_joint(RECORDS[0]).startswith("# Joint loss\n")
    without = change_entries(RECORDS[0], lambda entries: [e for e in entries if "start" not in e])
    assert make_joint(without) == ""


def test_the_figure_draws_the_means() -> None:
    scores = Sweeps(RECORDS).scores
    figure = draw_joint(scores, describe_sweep(RECORDS))
    liver, tumor = figure.axes
    drawn = {(line.get_marker(), *np.round(line.get_ydata(), 6)) for line in tumor.lines}
    assert ("o", 0.8) in drawn, "from the pair"
    assert ("^", 0.5) in drawn, "from scratch"
    assert ("s", 0.6, 0.3) in drawn, "the controls"
    assert ("o", 0.7, 0.9) in drawn, "each seed"
    assert ("None", 0.5, 0.5) in drawn, "sequential, as a line"
    assert len(liver.lines) == len(tumor.lines)
    assert any("SYNTHETIC PHANTOM" in text.get_text() for text in figure.texts)
    kinds = [text.get_text().split(",")[0].split(":")[0] for text in figure.legends[0].get_texts()]
    assert kinds == ["joint", "joint", "control", "sequential", "one-step", "small"]
    scratch = [score for score in scores if score.point.start == "scratch"]
    far = replace(scratch[0].point, alpha=2 / 11, beta=20 / 11)
    failed = PointScore(scratch[0].cohort, "liver", far, n_seeds=0, n_records=2)
    axes = draw_joint([*scores, failed], "").axes[0]
    assert [text.get_text() for text in axes.texts] == ["no result"]
    texts = [text.get_text() for text in draw_joint(scratch, "").legends[0].get_texts()]
    assert texts == ["joint, from scratch", "small: each seed"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda results: change_entries(results, lambda entries: entries[:2]), "no point of the"),
        (lambda results: change_entries(results, lambda entries: entries[:-1]), "other points"),
        (
            lambda results: replace(results, scores=results.scores.assign(patient="x")),
            "other patients",
        ),
    ],
)
def test_sweeps_that_do_not_belong_together_are_named(
    spoil: Callable[[Results], Results], words: str
) -> None:
    with pytest.raises(InputError, match=rf"1\.json: {words}"):
        check_sweep(RECORDS[0], spoil(RECORDS[1]))
    check_sweep(*RECORDS)


def test_names_of_points() -> None:
    assert Point(SEQUENTIAL).name == "sequential"
    assert (
        Point(PAIR, "pair", 0.5, 1.5, "probability").name == "joint from the pair, beta / alpha 3"
    )
