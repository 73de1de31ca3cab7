"""Each claim on rows made by hand, both ways, and with a side missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evaluation import claims
from evaluation.claims import FAILS, HOLDS, UNTESTED, combined, judge
from evaluation.evidence import Evidence, number
from evaluation.results import read_results
from tests.evaluation.fake_out import sweep, write_out

SYSTEMS = [(model, loss) for model in ("one_step", "sequential") for loss in ("ce", "balanced")]


def row(model: str, loss: str, target: str, rule: str = "roc", **scores: float | None) -> dict[str, Any]:
    key = {"cohort": "test", "model": model, "loss": loss, "target": target, "threshold_rule": rule}
    return {**key, "n_cases": 3, "n_slices": 20, "iou": 0.5, "pixel_accuracy": 0.95, "rand_index": 0.95, **scores}


def evidence(rows: list[dict[str, Any]], **more: Any) -> Evidence:
    return Evidence(rows, cohorts=("test",), **more)


def verdict(found: dict[str, Any], where: str = "test") -> str:
    return found["cohorts"][where]["verdict"]


def test_liver_close_to_one():
    rows = [row(model, loss, "liver", iou=0.9) for model, loss in SYSTEMS]
    found = claims.liver_close_to_one(evidence(rows))
    assert verdict(found) == HOLDS
    assert (
        "one-step, balanced: pixel accuracy 0.950, IoU 0.900, Rand index 0.950" in found["cohorts"]["test"]["how_much"]
    )
    assert "n = 3 cases, 20 slices; few cases" in found["cohorts"]["test"]["how_much"]
    assert found["cohorts"]["external"] == {"verdict": UNTESTED, "how_much": "no such cohort in this run"}
    rows[2]["iou"] = 0.899
    assert verdict(claims.liver_close_to_one(evidence(rows))) == FAILS
    # One score below refutes, whatever is missing; a missing one alone leaves it open.
    assert verdict(claims.liver_close_to_one(evidence(rows[1:]))) == FAILS
    assert verdict(claims.liver_close_to_one(evidence([r for r in rows if r["iou"] == 0.9]))) == UNTESTED


@pytest.mark.parametrize(
    ("tumor", "liver", "outcome"),
    [((0.5, 0.6), (0.9, 0.95), HOLDS), ((0.5, 0.54), (0.9, 0.95), FAILS), ((0.5, 0.49), (0.95, 0.9), FAILS)],
)
def test_sequential_better_on_tumors(tumor, liver, outcome):
    rows = [row(m, "balanced", "tumor", iou=v) for m, v in zip(("one_step", "sequential"), tumor, strict=True)]
    rows += [row(m, "balanced", "liver", iou=v) for m, v in zip(("one_step", "sequential"), liver, strict=True)]
    found = claims.sequential_better_on_tumors(evidence(rows))
    assert verdict(found) == outcome
    text = found["cohorts"]["test"]["how_much"]
    assert f"tumor IoU sequential {tumor[1]:.3f} - one-step {tumor[0]:.3f} = {tumor[1] - tumor[0]:+.3f}" in text


def test_what_marking_the_whole_liver_would_score_is_named():
    rows = [row(model, "balanced", "tumor", iou=v) for model, v in (("one_step", 0.05), ("sequential", 0.3))]
    rows += [row(model, "balanced", "liver") for model in ("one_step", "sequential")]
    for blind, words, outcome in (
        (0.05, "IoU 0.050, one-step is not above that", UNTESTED),  # a win over a network that sees nothing
        (0.04, "IoU 0.040 (", HOLDS),
        (0.046, "[one-step, balanced sees nothing: tumor IoU 0.050, whole liver 0.046]", UNTESTED),  # less than 1.1
    ):
        found = claims.sequential_better_on_tumors(evidence(rows, blind_tumor_iou={"test": blind}))
        assert words in found["cohorts"]["test"]["how_much"]
        assert verdict(found) == outcome


def test_a_gain_of_a_network_that_sees_nothing_counts_for_nothing_a_loss_does():
    def judged(claim, half):
        rows = [
            row(model, loss, "tumor", rule, iou=iou, rand_index=iou)
            for model in ("one_step", "sequential")
            for loss, iou_roc in (("ce", 0.03), ("balanced", 0.05))
            for rule, iou in (("roc", iou_roc), ("0.5", half))
        ]
        return verdict(claim(evidence(rows, blind_tumor_iou={"test": 0.05})))

    assert judged(claims.roc_threshold_improves, 0.01) == UNTESTED
    assert judged(claims.roc_threshold_improves, 0.06) == FAILS
    assert judged(claims.balanced_loss_best, 0.01) == UNTESTED


@pytest.mark.parametrize(("balanced", "outcome"), [(7, HOLDS), (6, FAILS), (5, FAILS)])
def test_balanced_loss_detects(balanced, outcome):
    cases = [
        {"cohort": "test", "model": model, "loss": loss, "target": "tumor", "threshold_rule": "roc"}
        | {"tp": str(tp), "fn": str(10 - tp), "fp": "3"}
        for model in ("one_step", "sequential")
        for loss, tp in (("ce", 6), ("balanced", balanced))
        for _ in range(2)  # two cases, pooled
    ]
    found = claims.balanced_loss_detects(evidence([], cases=cases))
    assert verdict(found) == outcome
    text = f"one-step sensitivity balanced 0.{balanced}00, cross-entropy 0.600; false positive pixels 6, 6"
    assert text in found["cohorts"]["test"]["how_much"]
    assert verdict(claims.balanced_loss_detects(evidence([], cases=cases[2:]))) in (UNTESTED, FAILS)
    healthy = [{**case, "tp": "0", "fn": "0"} for case in cases]
    assert verdict(claims.balanced_loss_detects(evidence([], cases=healthy))) == UNTESTED


def test_missing_side_is_not_tested_and_says_why():
    rows = [row("one_step", "balanced", target) for target in ("tumor", "liver")]
    failures = {("sequential", "balanced"): "collapsed: all background"}
    for claim in (claims.sequential_better_on_tumors, claims.one_step_misclassifies):
        found = claim(evidence(rows, failures=failures))["cohorts"]["test"]
        assert found["verdict"] == UNTESTED
        assert "no result (collapsed: all background)" in found["how_much"]


def test_balanced_loss_best():
    def rows(balanced_rand: float) -> list[dict[str, Any]]:
        ce = [row(model, "ce", "tumor", iou=0.5, rand_index=0.9) for model in ("one_step", "sequential")]
        one = row("one_step", "balanced", "tumor", iou=0.6, rand_index=0.95)
        return [*ce, one, row("sequential", "balanced", "tumor", iou=0.6, rand_index=balanced_rand)]

    assert verdict(claims.balanced_loss_best(evidence(rows(0.91)))) == HOLDS
    assert verdict(claims.balanced_loss_best(evidence(rows(0.89)))) == FAILS
    assert verdict(claims.balanced_loss_best(evidence(rows(0.9)))) == FAILS  # a tie is not best
    assert verdict(claims.balanced_loss_best(evidence(rows(0.91)[:3]))) == UNTESTED


def test_roc_threshold_improves():
    half = [row(model, loss, "tumor", "0.5", iou=0.5) for model, loss in SYSTEMS]
    roc = [row(model, loss, "tumor", "roc", iou=0.55) for model, loss in SYSTEMS]
    found = claims.roc_threshold_improves(evidence(half + roc))
    assert verdict(found) == HOLDS
    assert "0.550 against 0.500 at 0.5 (+0.050)" in found["cohorts"]["test"]["how_much"]
    assert (
        verdict(claims.roc_threshold_improves(evidence([*half, *roc[1:], row("one_step", "ce", "tumor", iou=0.4)])))
        == FAILS
    )
    assert verdict(claims.roc_threshold_improves(evidence(half + roc[1:]))) == UNTESTED


@pytest.mark.parametrize(("inside", "outcome"), [(499, HOLDS), (500, FAILS)])
def test_most_pixels_decided(inside, outcome):
    counts = {"n_positive": 100, "n_negative": 900, "n_restricted_positive": 20, "n_restricted_negative": inside - 20}
    curves = [{"cohort": "test", "model": m, "loss": loss, "target": "tumor", **counts} for m, loss in SYSTEMS]
    assert verdict(claims.most_pixels_decided(evidence([], curves=curves))) == outcome
    assert verdict(claims.most_pixels_decided(evidence([], curves=curves[1:]))) == (
        UNTESTED if outcome == HOLDS else FAILS
    )


def test_small_weight_best_rauc():
    made = sweep()
    found = claims.small_weight_best_rauc(evidence([], training={"sweep": made}))
    assert verdict(found, "validation") == HOLDS
    assert found["cohorts"]["validation"]["how_much"].startswith("best at ratio 1 (rAUC by ratio: 1: 0.900, 3.3: 0.870")
    assert found["cohorts"]["validation"]["how_much"].endswith("1 failed")
    made["points"][2]["rauc"] = 0.95
    refuted = claims.small_weight_best_rauc(evidence([], training={"sweep": made}))
    assert verdict(refuted, "validation") == FAILS
    assert "0.0500 above the best small one" in refuted["cohorts"]["validation"]["how_much"]
    for nothing in ({}, {"sweep": None}, {"sweep": {"epochs": 1, "points": made["points"][:2]}}):
        assert verdict(claims.small_weight_best_rauc(evidence([], training=nothing)), "validation") == UNTESTED


@pytest.mark.parametrize(("wrong", "outcome"), [((60, 40), HOLDS), ((40, 60), FAILS), ((50, 50), FAILS)])
def test_one_step_misclassifies(wrong, outcome):
    cases = [
        {"cohort": "test", "model": model, "loss": "balanced", "target": "tumor", "threshold_rule": "roc"}
        | {"tp": "9", "fp": str(total // 4), "fn": str(total // 4)}
        for model, total in zip(("one_step", "sequential"), wrong, strict=True)
        for _ in range(2)  # two cases, pooled
    ]
    found = claims.one_step_misclassifies(evidence([], cases=cases))
    assert verdict(found) == outcome
    half = wrong[0] // 4 * 2
    text = f"one-step {2 * half} wrong tumor pixels ({half} false positive, {half} false negative)"
    assert text in found["cohorts"]["test"]["how_much"]


def test_one_step_fast():
    seconds = {"one_step": 10.0, "liver": 8.0, "tumor": 7.0}
    phases = [
        {"stage": stage, "phase": phase, "train_s": total / 2, "epochs": 5}
        for stage, total in seconds.items()
        for phase in ("ce", "balanced")
    ]
    found = claims.one_step_fast(evidence([], training={"phases": phases}))
    assert verdict(found, "training") == HOLDS
    assert "one-step: 1 network, 10 s for 10 epochs (1.0 s an epoch)" in found["cohorts"]["training"]["how_much"]
    assert "sequential: 2 networks, 15 s for 20 epochs" in found["cohorts"]["training"]["how_much"]
    slow = [{**phase, "train_s": 20.0} if phase["stage"] == "one_step" else phase for phase in phases]
    assert verdict(claims.one_step_fast(evidence([], training={"phases": slow})), "training") == FAILS
    assert verdict(claims.one_step_fast(evidence([], training={"phases": phases[1:]})), "training") == UNTESTED


def test_combined():
    assert combined([(True, "a"), (None, "b")]) == {"verdict": UNTESTED, "how_much": "a; b"}
    assert combined([(True, "a"), (None, "b"), (False, "c")])["verdict"] == FAILS
    assert combined([(None, "b"), (None, "b")])["how_much"] == "b"
    assert combined([])["verdict"] == UNTESTED


def test_number_never_rounds_to_one():
    assert [number(v) for v in (1.0, 0.9996, 0.99999, 0.4444)] == ["1.000", "0.9996", ">0.9999", "0.444"]


def test_judge_names_claim_and_measure(tmp_path):
    results = read_results(write_out(tmp_path / "out"))
    found = judge(results.evidence)
    assert len(found) == len({claim["id"] for claim in found}) == 9
    for claim in found:
        assert claim["claim"].startswith("Section ")
        assert claim["measure"]
        for judged in claim["cohorts"].values():
            assert judged["verdict"] in (HOLDS, FAILS, UNTESTED)
            assert judged["how_much"]
    nothing = judge(replace(results.evidence, rows=[], curves=[], cases=[], training={}))
    assert {judged["verdict"] for claim in nothing for judged in claim["cohorts"].values()} == {UNTESTED}
