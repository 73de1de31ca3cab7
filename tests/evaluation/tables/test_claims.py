"""Each claim on rows made by hand, both ways, and with a side missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.results import Results, read_results
from evaluation.score_table import ScoreRow, make_table
from evaluation.tables.claims import CLAIMS, FAILS, HOLDS, UNTESTED, join_parts, judge_claims
from tests.evaluation.fake_out import sweep, write_out

SYSTEMS = [(system, phase) for system in ("one_step", "sequential") for phase in ("ce", "balanced")]
BALANCED = [("one_step", "balanced"), ("sequential", "balanced")]
DATA = {"external": None, "cohort": "x", "synthetic": False}
Row = dict[str, Any]


def make_row(pair: tuple[str, str], target: str = "tumor", rule: str = "roc", **scores: Any) -> Row:
    """Return a row of Table 1."""
    key = {"cohort": "test", "system": pair[0], "phase": pair[1], "target": target, "rule": rule}
    scores = {"iou": 0.5, "pixel_accuracy": 0.95, "rand_index": 0.95} | scores
    return {**key, "n_cases": 3, "n_slices": 20, **scores}


def make_case(
    pair: tuple[str, str], patient: str, target: str = "tumor", **counts: int
) -> ScoreRow:
    """Return the counts of a patient, rule roc."""
    counts = {"tp": 6, "fp": 2, "fn": 2, "tn": 90} | counts
    head: Row = {"seed": 0, "system": pair[0], "phase": pair[1], "rule": "roc", "cohort": "test"}
    head |= {"target": target, "unit": "slices", "case": patient, "patient": patient}
    return ScoreRow(**head, n_slices=1, **counts)


def make_results(
    rows: Sequence[Row] = (),
    cases: Iterable[ScoreRow] = (),
    curves: Sequence[Row] = (),
    training: Row | None = None,
    failures: dict[tuple[str, str], str] | None = None,
    blind: dict[str, float] | None = None,
    comparisons: Sequence[Row] = (),
) -> Results:
    """Return results of a run with a validation and a test cohort."""
    entries = [
        {"system": pair[0], "phase": pair[1], "table1": True, "status": "ok", "why": ""}
        for pair in SYSTEMS
    ]
    for entry in entries:
        if why := (failures or {}).get((entry["system"], entry["phase"])):
            entry |= {"status": "failed", "why": why}
    recorded: Row = {"comparisons": list(comparisons), "blind_tumor_iou": blind or {}}
    recorded |= {"table1": list(rows)} if rows else {}
    summary = {"preset": "demo", "seed": 0, "data": DATA, "systems": entries}
    scores = make_table(cases)
    where = Path("out")
    return Results(where, summary, training or {}, scores, list(curves), recorded=recorded)


def judge(claim: str, results: Results, where: str = "test") -> tuple[str, str]:
    """Return verdict and numbers of a claim."""
    judged = CLAIMS[claim].judge(results)[where]
    return judged["verdict"], judged["how_much"]


def test_liver_close_to_one() -> None:
    rows = [make_row(pair, "liver", iou=0.9) for pair in SYSTEMS]
    verdict, text = judge("liver_close_to_one", make_results(rows))
    assert verdict == HOLDS
    assert "one-step, balanced: pixel accuracy 0.950, IoU 0.900, Rand index 0.950" in text
    assert "n = 3 cases, 20 slices; few cases" in text
    none = judge("liver_close_to_one", make_results(rows), "external")
    assert none == (UNTESTED, "no such cohort in this run")
    rows[2]["iou"] = 0.899
    assert judge("liver_close_to_one", make_results(rows))[0] == FAILS
    # One score below refutes, whatever is missing; a missing one alone leaves it open.
    assert judge("liver_close_to_one", make_results(rows[1:]))[0] == FAILS
    good = [row for row in rows if row["iou"] == 0.9]
    assert judge("liver_close_to_one", make_results(good))[0] == UNTESTED


@pytest.mark.parametrize(
    ("tumor", "liver", "outcome"),
    [
        ((0.5, 0.6), (0.9, 0.95), HOLDS),
        ((0.5, 0.54), (0.9, 0.95), FAILS),
        ((0.5, 0.49), (0.95, 0.9), FAILS),
    ],
)
def test_sequential_better_on_tumors(
    tumor: tuple[float, float], liver: tuple[float, float], outcome: str
) -> None:
    rows = [make_row(pair, "tumor", iou=v) for pair, v in zip(BALANCED, tumor, strict=True)]
    rows += [make_row(pair, "liver", iou=v) for pair, v in zip(BALANCED, liver, strict=True)]
    verdict, text = judge("sequential_better_on_tumors", make_results(rows))
    assert verdict == outcome
    gain = f"sequential {tumor[1]:.3f} - one-step {tumor[0]:.3f} = {tumor[1] - tumor[0]:+.3f}"
    assert f"tumor IoU {gain}" in text


@pytest.mark.parametrize(
    ("blind", "words", "outcome"),
    [
        # A win over a network that sees nothing: not above the guess, or less than 1.1 times it.
        (0.05, "IoU 0.050, one-step is not above that", UNTESTED),
        (0.04, "IoU 0.040 (", HOLDS),
        (0.046, "[one-step, balanced sees nothing: tumor IoU 0.050, whole liver 0.046]", UNTESTED),
    ],
)
def test_what_marking_the_whole_liver_would_score_is_named(
    blind: float, words: str, outcome: str
) -> None:
    rows = [make_row(pair, iou=v) for pair, v in zip(BALANCED, (0.05, 0.3), strict=True)]
    rows += [make_row(pair, "liver") for pair in BALANCED]
    results = make_results(rows, blind={"test": blind})
    verdict, text = judge("sequential_better_on_tumors", results)
    assert words in text
    assert verdict == outcome


@pytest.mark.parametrize(
    ("claim", "half", "outcome"),
    [
        ("roc_threshold_improves", 0.01, UNTESTED),
        ("roc_threshold_improves", 0.06, FAILS),
        ("balanced_loss_best", 0.01, UNTESTED),
    ],
)
def test_a_gain_of_a_network_that_sees_nothing_counts_for_nothing_a_loss_does(
    claim: str, half: float, outcome: str
) -> None:
    rows = [
        make_row(pair, rule=rule, iou=iou, rand_index=iou)
        for pair in SYSTEMS
        for rule, iou in (("roc", 0.03 if pair[1] == "ce" else 0.05), ("0.5", half))
    ]
    assert judge(claim, make_results(rows, blind={"test": 0.05}))[0] == outcome


@pytest.mark.parametrize(("balanced", "outcome"), [(7, HOLDS), (6, FAILS), (5, FAILS)])
def test_balanced_loss_detects(balanced: int, outcome: str) -> None:
    cases = [
        make_case(pair, patient, tp=tp, fn=10 - tp, fp=3)
        for pair in SYSTEMS
        for tp in [6 if pair[1] == "ce" else balanced]
        for patient in "ab"  # pooled
    ]
    verdict, text = judge("balanced_loss_detects", make_results(cases=cases))
    assert verdict == outcome
    gain = f"{(balanced - 6) / 10:+.3f}, no interval by patient, n = 2"
    shares = f"one-step sensitivity balanced 0.{balanced}00, cross-entropy 0.600 ({gain})"
    assert f"{shares}; false positive pixels 6, 6" in text
    half = judge("balanced_loss_detects", make_results(cases=cases[2:]))[0]
    assert half == (FAILS if outcome == FAILS else UNTESTED)
    healthy = [replace(case, tp=0, fn=0) for case in cases]
    assert judge("balanced_loss_detects", make_results(cases=healthy))[0] == UNTESTED


@pytest.mark.parametrize("claim", ["sequential_better_on_tumors", "one_step_misclassifies"])
def test_missing_side_is_not_tested_and_says_why(claim: str) -> None:
    rows = [make_row(("one_step", "balanced"), target) for target in ("tumor", "liver")]
    failures = {("sequential", "balanced"): "all background"}
    verdict, text = judge(claim, make_results(rows, failures=failures))
    assert verdict == UNTESTED
    assert "no result (failed: all background)" in text


@pytest.mark.parametrize(
    ("rand", "n_rows", "outcome"),
    # A tie is not best.
    [(0.91, 4, HOLDS), (0.89, 4, FAILS), (0.9, 4, FAILS), (0.91, 3, UNTESTED)],
)
def test_balanced_loss_best(rand: float, n_rows: int, outcome: str) -> None:
    ce = [make_row((name, "ce"), iou=0.5, rand_index=0.9) for name in ("one_step", "sequential")]
    balanced = [
        make_row(pair, iou=0.6, rand_index=value)
        for pair, value in zip(BALANCED, (0.95, rand), strict=True)
    ]
    rows = [*ce, *balanced][:n_rows]
    assert judge("balanced_loss_best", make_results(rows))[0] == outcome


def test_roc_threshold_improves() -> None:
    half = [make_row(pair, rule="0.5", iou=0.5) for pair in SYSTEMS]
    roc = [make_row(pair, iou=0.55) for pair in SYSTEMS]
    verdict, text = judge("roc_threshold_improves", make_results(half + roc))
    assert verdict == HOLDS
    assert "0.550 against 0.500 at 0.5 (+0.050)" in text
    lower = [*half, *roc[1:], make_row(SYSTEMS[0], iou=0.4)]
    assert judge("roc_threshold_improves", make_results(lower))[0] == FAILS
    assert judge("roc_threshold_improves", make_results(half + roc[1:]))[0] == UNTESTED


@pytest.mark.parametrize(("inside", "outcome"), [(499, HOLDS), (500, FAILS)])
def test_most_pixels_decided(inside: int, outcome: str) -> None:
    counts = {"n_positive": 100, "n_negative": 900}
    counts |= {"n_restricted_positive": 20, "n_restricted_negative": inside - 20}
    curves = [
        {"cohort": "test", "system": system, "phase": phase, "target": "tumor", **counts}
        for system, phase in SYSTEMS
    ]
    assert judge("most_pixels_decided", make_results(curves=curves))[0] == outcome
    without = judge("most_pixels_decided", make_results(curves=curves[1:]))[0]
    assert without == (UNTESTED if outcome == HOLDS else FAILS)


def test_small_weight_best_rauc() -> None:
    made = sweep()
    results = make_results(training={"sweep": made})
    verdict, text = judge("small_weight_best_rauc", results, "validation")
    assert verdict == HOLDS
    assert text.startswith("best at ratio 1 (rAUC by ratio: 1: 0.900, 3.3: 0.870")
    assert text.endswith("1 failed")
    made["points"][2]["rauc"] = 0.95
    verdict, text = judge("small_weight_best_rauc", results, "validation")
    assert verdict == FAILS
    assert "0.0500 above the best small one" in text
    for nothing in ({}, {"sweep": None}, {"sweep": {"epochs": 1, "points": made["points"][:2]}}):
        results = make_results(training=nothing)
        assert judge("small_weight_best_rauc", results, "validation")[0] == UNTESTED


@pytest.mark.parametrize(
    ("wrong", "outcome"), [((60, 40), HOLDS), ((40, 60), FAILS), ((50, 50), FAILS)]
)
def test_one_step_misclassifies(wrong: tuple[int, int], outcome: str) -> None:
    cases = [
        make_case(pair, patient, tp=9, fp=total // 4, fn=total // 4)
        for pair, total in zip(BALANCED, wrong, strict=True)
        for patient in "ab"  # pooled
    ]
    verdict, text = judge("one_step_misclassifies", make_results(cases=cases))
    assert verdict == outcome
    half = wrong[0] // 4 * 2
    kinds = f"({half} false positive, {half} false negative)"
    assert f"one-step {2 * half} wrong tumor pixels {kinds}" in text
    difference = wrong[0] // 4 * 4 - wrong[1] // 4 * 4
    assert f"one-step less sequential {difference:+,}, no interval by patient, n = 2" in text


def make_patients(**counts: int) -> list[ScoreRow]:
    """Return the cases of six patients alike; those of sequential, balanced, have these counts."""
    return [
        make_case(pair, patient, target, **(counts if pair == ("sequential", "balanced") else {}))
        for pair in SYSTEMS
        for target in ("liver", "tumor")
        for patient in "abcdef"
    ]


def test_claims_carry_intervals_by_patient() -> None:
    """Six patients alike: whatever is drawn, the score is the same; all differences have one sign.

    IoU 6 / 10, pixel accuracy 96 / 100, sensitivity 6 / 8 against 7 / 8; 6 x 4 wrong pixels
    against 6 x 3.
    """
    text = judge("liver_close_to_one", make_results(cases=make_patients()))[1]
    scores = "pixel accuracy 0.960 (0.960 to 0.960), IoU 0.600 (0.600 to 0.600)"
    assert f"one-step, cross-entropy: {scores}" in text
    better = make_results(cases=make_patients(tp=7, fn=1))
    text = judge("balanced_loss_detects", better)[1]
    sure = "95 % interval by patient +0.125 to +0.125, Wilcoxon p = 0.031, n = 6"
    assert f"sequential sensitivity balanced 0.875, cross-entropy 0.750 (+0.125, {sure})" in text
    same = "(+0.000, 95 % interval by patient +0.000"
    assert f"one-step sensitivity balanced 0.750, cross-entropy 0.750 {same}" in text
    text = judge("one_step_misclassifies", better)[1]
    sure = "95 % interval by patient +6 to +6, Wilcoxon p = 0.031, n = 6"
    assert f"one-step less sequential +6, {sure}" in text


def test_patients_without_tumor_are_not_counted_in_a_sensitivity() -> None:
    """In pixels each draw of seven holds k of six that differ, by 1: its 2.5 % quantile is 4."""
    cases = make_patients(tp=7, fn=1)
    healthy = {"case": "healthy", "patient": "healthy", "tp": 0, "fn": 0}
    cases += [replace(case, **healthy) for case in cases if case.patient == "a"]
    text = judge("balanced_loss_detects", make_results(cases=cases))[1]
    assert "Wilcoxon p = 0.031, n = 6 of 7 patients with it in the reference" in text
    text = judge("one_step_misclassifies", make_results(cases=cases))[1]
    sure = "95 % interval by patient +4 to +7, Wilcoxon p = 0.031, n = 7"
    assert f"one-step less sequential +6, {sure}" in text


def test_the_gain_by_the_roc_threshold_has_its_comparison() -> None:
    rows = [
        make_row(pair, rule=rule, iou=iou)
        for pair in SYSTEMS
        for rule, iou in (("roc", 0.6), ("0.5", 0.5))
    ]
    compared: Row = {"cohort": "test", "target": "tumor", "first": ["one_step", "ce"]}
    compared |= {"second": ["one_step", "ce"], "threshold_rule": "roc", "second_rule": "0.5"}
    compared |= {"difference": 0.1, "low": 0.02, "high": 0.3, "p_value": 0.0625}
    compared |= {"better": 5, "worse": 0, "n_patients": 5, "n_counted": 5}
    other = {**compared, "second": ["one_step", "balanced"], "second_rule": "roc"}
    other |= {"low": 0.7, "high": 0.8}
    results = make_results(rows, comparisons=[other, compared])
    text = judge("roc_threshold_improves", results)[1]
    sure = "95 % interval by patient +0.020 to +0.300, Wilcoxon p = 0.062 (least possible 0.062)"
    half = "0.600 against 0.500 at 0.5 (+0.100"
    assert f"one-step, cross-entropy: {half}, {sure}, n = 5)" in text
    assert f"one-step, balanced: {half});" in text


def test_the_joint_model_is_no_part_of_the_claims(tmp_path: Path) -> None:
    """The paper's claims are about its two models: the same with the joint model and without."""
    with_joint, without = (
        judge_claims(read_results(write_out(tmp_path / str(joint), joint=joint)))
        for joint in (True, False)
    )
    assert with_joint == without
    assert "joint" not in str(with_joint)


def test_one_step_fast() -> None:
    networks = {("one_step", "classes"): 10.0, ("sequential", "liver"): 8.0}
    networks |= {("sequential", "tumor"): 7.0, ("joint", "nested"): 100.0}
    phases = [
        {"system": system, "network": network, "phase": phase, "train_s": s / 2, "epochs": 5}
        for (system, network), s in networks.items()
        for phase in ("ce", "balanced")
    ]

    def judge_speed(records: list[Row]) -> tuple[str, str]:
        return judge("one_step_fast", make_results(training={"phases": records}), "training")

    verdict, text = judge_speed(phases)
    assert verdict == HOLDS
    assert "one-step: 1 network, 10 s for 10 epochs (1.0 s an epoch)" in text
    assert "sequential: 2 networks, 15 s for 20 epochs" in text
    slow = [p | ({"train_s": 20.0} if p["system"] == "one_step" else {}) for p in phases]
    assert judge_speed(slow)[0] == FAILS
    assert judge_speed(phases[1:]) == (UNTESTED, "no training time of one_step ce")


def test_parts_are_joined() -> None:
    assert join_parts([(True, "a"), (None, "b")]) == {"verdict": UNTESTED, "how_much": "a; b"}
    assert join_parts([(True, "a"), (None, "b"), (False, "c")])["verdict"] == FAILS
    assert join_parts([(None, "b"), (None, "b")])["how_much"] == "b"
    assert join_parts([])["verdict"] == UNTESTED


def test_every_claim_has_its_words_and_its_measure(out: Path) -> None:
    results = read_results(out)
    claims = judge_claims(results)
    assert [claim["id"] for claim in claims] == list(CLAIMS)
    assert len(claims) == 9
    for claim in claims:
        assert claim["claim"].startswith("Section ")
        assert claim["measure"]
        for judged in claim["cohorts"].values():
            assert judged["verdict"] in (HOLDS, FAILS, UNTESTED)
            assert judged["how_much"]
    nothing = judge_claims(replace(results, scores=results.scores[:0], curves=[], training={}))
    verdicts = {judged["verdict"] for claim in nothing for judged in claim["cohorts"].values()}
    assert verdicts == {UNTESTED}
