"""Each claim on rows made by hand, both ways, and with a side missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evaluation.results import read_results
from evaluation.tables import claims
from evaluation.tables.claims import FAILS, HOLDS, UNTESTED, combined, judge
from evaluation.tables.evidence import Evidence, number
from tests.evaluation.fake_out import sweep, write_out

SYSTEMS = [(model, loss) for model in ("one_step", "sequential") for loss in ("ce", "balanced")]


def row(
    model: str, loss: str, target: str, rule: str = "roc", **scores: float | None
) -> dict[str, Any]:
    key = {"cohort": "test", "model": model, "loss": loss, "target": target, "threshold_rule": rule}
    return {
        **key,
        "n_cases": 3,
        "n_slices": 20,
        "iou": 0.5,
        "pixel_accuracy": 0.95,
        "rand_index": 0.95,
        **scores,
    }


def evidence(rows: list[dict[str, Any]], **more: Any) -> Evidence:
    return Evidence(rows, cohorts=("test",), **more)


def verdict(found: dict[str, Any], where: str = "test") -> str:
    return found["cohorts"][where]["verdict"]


def test_liver_close_to_one():
    rows = [row(model, loss, "liver", iou=0.9) for model, loss in SYSTEMS]
    found = claims.liver_close_to_one(evidence(rows))
    assert verdict(found) == HOLDS
    assert (
        "one-step, balanced: pixel accuracy 0.950, IoU 0.900, Rand index 0.950"
        in found["cohorts"]["test"]["how_much"]
    )
    assert "n = 3 cases, 20 slices; few cases" in found["cohorts"]["test"]["how_much"]
    assert found["cohorts"]["external"] == {
        "verdict": UNTESTED,
        "how_much": "no such cohort in this run",
    }
    rows[2]["iou"] = 0.899
    assert verdict(claims.liver_close_to_one(evidence(rows))) == FAILS
    # One score below refutes, whatever is missing; a missing one alone leaves it open.
    assert verdict(claims.liver_close_to_one(evidence(rows[1:]))) == FAILS
    assert (
        verdict(claims.liver_close_to_one(evidence([r for r in rows if r["iou"] == 0.9])))
        == UNTESTED
    )


@pytest.mark.parametrize(
    ("tumor", "liver", "outcome"),
    [
        ((0.5, 0.6), (0.9, 0.95), HOLDS),
        ((0.5, 0.54), (0.9, 0.95), FAILS),
        ((0.5, 0.49), (0.95, 0.9), FAILS),
    ],
)
def test_sequential_better_on_tumors(tumor, liver, outcome):
    rows = [
        row(m, "balanced", "tumor", iou=v)
        for m, v in zip(("one_step", "sequential"), tumor, strict=True)
    ]
    rows += [
        row(m, "balanced", "liver", iou=v)
        for m, v in zip(("one_step", "sequential"), liver, strict=True)
    ]
    found = claims.sequential_better_on_tumors(evidence(rows))
    assert verdict(found) == outcome
    text = found["cohorts"]["test"]["how_much"]
    assert (
        f"tumor IoU sequential {tumor[1]:.3f} - one-step {tumor[0]:.3f} = {tumor[1] - tumor[0]:+.3f}"
        in text
    )


def test_what_marking_the_whole_liver_would_score_is_named():
    rows = [
        row(model, "balanced", "tumor", iou=v)
        for model, v in (("one_step", 0.05), ("sequential", 0.3))
    ]
    rows += [row(model, "balanced", "liver") for model in ("one_step", "sequential")]
    for blind, words, outcome in (
        (
            0.05,
            "IoU 0.050, one-step is not above that",
            UNTESTED,
        ),  # a win over a network that sees nothing
        (0.04, "IoU 0.040 (", HOLDS),
        (
            0.046,
            "[one-step, balanced sees nothing: tumor IoU 0.050, whole liver 0.046]",
            UNTESTED,
        ),  # less than 1.1
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
        | {"tp": str(tp), "fn": str(10 - tp), "fp": "3", "tn": "90", "patient": patient}
        for model in ("one_step", "sequential")
        for loss, tp in (("ce", 6), ("balanced", balanced))
        for patient in "ab"  # pooled
    ]
    found = claims.balanced_loss_detects(evidence([], cases=cases))
    assert verdict(found) == outcome
    text = (
        f"one-step sensitivity balanced 0.{balanced}00, cross-entropy 0.600 ({(balanced - 6) / 10:+.3f}, no interval "
        "by patient, n = 2); false positive pixels 6, 6"
    )
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
        ce = [
            row(model, "ce", "tumor", iou=0.5, rand_index=0.9)
            for model in ("one_step", "sequential")
        ]
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
        verdict(
            claims.roc_threshold_improves(
                evidence([*half, *roc[1:], row("one_step", "ce", "tumor", iou=0.4)])
            )
        )
        == FAILS
    )
    assert verdict(claims.roc_threshold_improves(evidence(half + roc[1:]))) == UNTESTED


@pytest.mark.parametrize(("inside", "outcome"), [(499, HOLDS), (500, FAILS)])
def test_most_pixels_decided(inside, outcome):
    counts = {
        "n_positive": 100,
        "n_negative": 900,
        "n_restricted_positive": 20,
        "n_restricted_negative": inside - 20,
    }
    curves = [
        {"cohort": "test", "model": m, "loss": loss, "target": "tumor", **counts}
        for m, loss in SYSTEMS
    ]
    assert verdict(claims.most_pixels_decided(evidence([], curves=curves))) == outcome
    assert verdict(claims.most_pixels_decided(evidence([], curves=curves[1:]))) == (
        UNTESTED if outcome == HOLDS else FAILS
    )


def test_small_weight_best_rauc():
    made = sweep()
    found = claims.small_weight_best_rauc(evidence([], training={"sweep": made}))
    assert verdict(found, "validation") == HOLDS
    assert found["cohorts"]["validation"]["how_much"].startswith(
        "best at ratio 1 (rAUC by ratio: 1: 0.900, 3.3: 0.870"
    )
    assert found["cohorts"]["validation"]["how_much"].endswith("1 failed")
    made["points"][2]["rauc"] = 0.95
    refuted = claims.small_weight_best_rauc(evidence([], training={"sweep": made}))
    assert verdict(refuted, "validation") == FAILS
    assert "0.0500 above the best small one" in refuted["cohorts"]["validation"]["how_much"]
    for nothing in ({}, {"sweep": None}, {"sweep": {"epochs": 1, "points": made["points"][:2]}}):
        assert (
            verdict(claims.small_weight_best_rauc(evidence([], training=nothing)), "validation")
            == UNTESTED
        )


@pytest.mark.parametrize(
    ("wrong", "outcome"), [((60, 40), HOLDS), ((40, 60), FAILS), ((50, 50), FAILS)]
)
def test_one_step_misclassifies(wrong, outcome):
    cases = [
        {
            "cohort": "test",
            "model": model,
            "loss": "balanced",
            "target": "tumor",
            "threshold_rule": "roc",
        }
        | {"tp": "9", "fp": str(total // 4), "fn": str(total // 4), "tn": "90", "patient": patient}
        for model, total in zip(("one_step", "sequential"), wrong, strict=True)
        for patient in "ab"  # pooled
    ]
    found = claims.one_step_misclassifies(evidence([], cases=cases))
    assert verdict(found) == outcome
    half = wrong[0] // 4 * 2
    text = f"one-step {2 * half} wrong tumor pixels ({half} false positive, {half} false negative)"
    assert text in found["cohorts"]["test"]["how_much"]
    gain = f"one-step less sequential {wrong[0] // 4 * 4 - wrong[1] // 4 * 4:+,}, no interval by patient, n = 2"
    assert gain in found["cohorts"]["test"]["how_much"]


def six_patients(**counts: int) -> list[dict[str, Any]]:
    """Return the cases of six patients alike, all systems, both targets, rule roc."""
    return [
        {
            "cohort": "test",
            "model": model,
            "loss": loss,
            "target": target,
            "threshold_rule": "roc",
            "patient": patient,
        }
        | {
            "tp": 6,
            "fp": 2,
            "fn": 2,
            "tn": 90,
            **(counts if (model, loss) == ("sequential", "balanced") else {}),
        }
        for model, loss in SYSTEMS
        for target in ("liver", "tumor")
        for patient in "abcdef"
    ]


def test_claims_carry_intervals_by_patient():
    """Six patients alike: whatever is drawn, the score is the same, and all six differences have one sign.

    IoU 6 / 10, pixel accuracy 96 / 100, sensitivity 6 / 8 against 7 / 8; 6 x 4 wrong pixels against 6 x 3.
    """
    rows = [row(model, loss, "liver", iou=0.6, pixel_accuracy=0.96) for model, loss in SYSTEMS]
    found = claims.liver_close_to_one(evidence(rows, cases=six_patients()))["cohorts"]["test"][
        "how_much"
    ]
    assert (
        "one-step, cross-entropy: pixel accuracy 0.960 (0.960 to 0.960), IoU 0.600 (0.600 to 0.600)"
        in found
    )
    better = evidence([], cases=six_patients(tp=7, fn=1))
    found = claims.balanced_loss_detects(better)["cohorts"]["test"]["how_much"]
    sure = "95 % interval by patient +0.125 to +0.125, Wilcoxon p = 0.031, n = 6"
    assert f"sequential sensitivity balanced 0.875, cross-entropy 0.750 (+0.125, {sure})" in found
    assert (
        "one-step sensitivity balanced 0.750, cross-entropy 0.750 (+0.000, 95 % interval by patient +0.000"
        in found
    )
    found = claims.one_step_misclassifies(better)["cohorts"]["test"]["how_much"]
    assert (
        "one-step less sequential +6, 95 % interval by patient +6 to +6, Wilcoxon p = 0.031, n = 6"
        in found
    )


def test_patients_without_tumor_are_not_counted_in_a_sensitivity():
    """In pixels each draw of seven holds k of the six that differ, by 1 pixel: the 2.5 % quantile of k is 4."""
    cases = six_patients(tp=7, fn=1)
    cases += [
        {**case, "patient": "healthy", "tp": 0, "fn": 0} for case in cases if case["patient"] == "a"
    ]
    found = claims.balanced_loss_detects(evidence([], cases=cases))["cohorts"]["test"]["how_much"]
    assert "Wilcoxon p = 0.031, n = 6 of 7 patients with it in the reference" in found
    found = claims.one_step_misclassifies(evidence([], cases=cases))["cohorts"]["test"]["how_much"]
    assert (
        "one-step less sequential +6, 95 % interval by patient +4 to +7, Wilcoxon p = 0.031, n = 7"
        in found
    )


def test_the_gain_by_the_roc_threshold_has_its_comparison():
    rows = [
        row(model, loss, "tumor", rule, iou=iou)
        for model, loss in SYSTEMS
        for rule, iou in (("roc", 0.6), ("0.5", 0.5))
    ]
    compared = {
        "cohort": "test",
        "target": "tumor",
        "first": ["one_step", "ce"],
        "second": ["one_step", "ce"],
    }
    compared |= {
        "threshold_rule": "roc",
        "second_rule": "0.5",
        "low": 0.02,
        "high": 0.3,
        "p_value": 0.0625,
    }
    compared |= {"least_p": 0.0625, "n_patients": 5, "n_counted": 5}
    other = {
        **compared,
        "second": ["one_step", "balanced"],
        "second_rule": "roc",
        "low": 0.7,
        "high": 0.8,
    }
    found = claims.roc_threshold_improves(evidence(rows, comparisons=[other, compared]))["cohorts"][
        "test"
    ]["how_much"]
    assert (
        "one-step, cross-entropy: 0.600 against 0.500 at 0.5 (+0.100, 95 % interval by patient +0.020 to +0.300, "
        "Wilcoxon p = 0.062 (least possible 0.062), n = 5); one-step, balanced: 0.600 against 0.500 at 0.5 (+0.100);"
    ) in found


def test_the_joint_model_is_no_part_of_the_claims(tmp_path):
    """The paper's claims are about its two models: the same with the joint model trained, and without."""
    with_joint, without = (
        judge(read_results(write_out(tmp_path / str(joint), joint=joint)).evidence)
        for joint in (True, False)
    )
    assert with_joint == without
    assert "joint" not in str(with_joint)


def test_one_step_fast():
    seconds = {"one_step": 10.0, "liver": 8.0, "tumor": 7.0, "joint": 100.0}
    phases = [
        {"stage": stage, "phase": phase, "train_s": total / 2, "epochs": 5}
        for stage, total in seconds.items()
        for phase in ("ce", "balanced")
    ]
    found = claims.one_step_fast(evidence([], training={"phases": phases}))
    assert verdict(found, "training") == HOLDS
    assert (
        "one-step: 1 network, 10 s for 10 epochs (1.0 s an epoch)"
        in found["cohorts"]["training"]["how_much"]
    )
    assert "sequential: 2 networks, 15 s for 20 epochs" in found["cohorts"]["training"]["how_much"]
    slow = [
        {**phase, "train_s": 20.0} if phase["stage"] == "one_step" else phase for phase in phases
    ]
    assert (
        verdict(claims.one_step_fast(evidence([], training={"phases": slow})), "training") == FAILS
    )
    assert (
        verdict(claims.one_step_fast(evidence([], training={"phases": phases[1:]})), "training")
        == UNTESTED
    )


def test_combined():
    assert combined([(True, "a"), (None, "b")]) == {"verdict": UNTESTED, "how_much": "a; b"}
    assert combined([(True, "a"), (None, "b"), (False, "c")])["verdict"] == FAILS
    assert combined([(None, "b"), (None, "b")])["how_much"] == "b"
    assert combined([])["verdict"] == UNTESTED


def test_number_never_rounds_to_one():
    assert [number(v) for v in (1.0, 0.9996, 0.99999, 0.4444)] == [
        "1.000",
        "0.9996",
        ">0.9999",
        "0.444",
    ]


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
    assert {judged["verdict"] for claim in nothing for judged in claim["cohorts"].values()} == {
        UNTESTED
    }
