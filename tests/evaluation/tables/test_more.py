"""The tables beside Table 1: compared systems, LiTS figures, ablation, calibration, from a made-up OUT."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.lits import pool_cases, score_case
from evaluation.results import read_results
from evaluation.tables.__main__ import claims_markdown, table1_markdown
from evaluation.tables.claims import judge
from evaluation.tables.more import (
    ablation_markdown,
    calibration_markdown,
    comparisons_markdown,
    described,
    lits_markdown,
)
from tests.evaluation.tables.test_table1 import cells, recorded


def test_systems_are_compared_by_patient(out):
    lines = [cells(line, "|") for line in comparisons_markdown(read_results(out)).splitlines()]
    systems = "sequential, balanced - one-step, balanced"
    assert [
        "test",
        "tumor",
        systems,
        "+0.120",
        "+0.040 to +0.200",
        "0.031",
        "0.031",
        "5",
        "1",
        "6 (7)",
    ] in lines
    few = [
        "validation",
        "tumor",
        systems,
        "+0.120",
        "3 patients",
        "3 patients",
        "0.25",
        "5",
        "1",
        "3 (4)",
    ]
    assert few in lines
    rules = "sequential, balanced, rule roc - rule 0.5"
    assert [
        "test",
        "tumor",
        rules,
        "-0.020",
        "-0.050 to +0.010",
        "0.031",
        "0.031",
        "5",
        "1",
        "6 (7)",
    ] in lines
    equal = [line for line in lines if line[2:3] == ["joint, balanced - sequential, balanced"]]
    assert [line[5] for line in equal] == ["no difference"]
    claims = claims_markdown(read_results(out), judge(read_results(out).evidence))
    words = "95 % interval by patient +0.040 to +0.200, Wilcoxon p = 0.031, n = 6 of 7 patients with it in the reference"
    assert f"{words}; liver IoU" in claims
    assert "no interval by patient, n = 3 of 4 patients" in claims


def test_a_joint_model_that_began_with_the_pair_is_named(out):
    results = read_results(out)
    note = "The joint model is the sequential model's pair trained on"
    assert note in comparisons_markdown(results)
    assert note in table1_markdown(results)
    for phase in results.training["phases"]:
        phase.pop("start", None)
    assert note not in comparisons_markdown(results)
    assert note not in table1_markdown(results)


def test_comparisons_recorded_before_the_counts_are_shown(out):
    results = read_results(out)
    old = [found for found in results.summary["comparisons"] if found["second_rule"] == "roc"]
    results.summary["comparisons"] = old
    for found in old:
        for key in ("n_counted", "least_p", "second_rule", "draws_skipped"):
            found.pop(key, None)
    lines = [cells(line, "|") for line in comparisons_markdown(results).splitlines()]
    systems = "sequential, balanced - one-step, balanced"
    assert [
        "test",
        "tumor",
        systems,
        "+0.120",
        "+0.040 to +0.200",
        "0.031",
        "n/a",
        "5",
        "1",
        "7",
    ] in lines


def test_lits_figures(out):
    results = read_results(out)
    text = lits_markdown(results)
    assert "## Test, official: 6 of 7 cases\n\nLeft out, no liver in the reference: 7.\n" in text
    assert "## External, corrected: 8 of 8 cases\n\n| figure |" in text
    assert "## Validation" not in text
    lines = [cells(line, "|") for line in text.splitlines()]
    assd = [
        "liver_assd",
        "average symmetric surface distance, liver, mean over cases",
        "mm",
        "lower",
    ]
    # fake_out: 1.5 mm, and 0.01 more for each further system, cross-entropy of all models first
    assert lines.count([*assd, "1.500", "1.530", "1.510", "1.540", "1.520", "1.550"]) == 4
    (head, *_) = [line for line in lines if line[0] == "figure"]
    assert head[4:6] == ["one-step, cross-entropy", "one-step, balanced"]
    results.summary["lits"][0]["figures"]["liver_assd"] = None
    assert "| mm | lower | n/a | 1.530 |" in lits_markdown(results)
    for row in results.summary["lits"]:
        del row["n_cases"]
    assert "Recorded before whole cases were scored" in lits_markdown(results)


def test_a_split_by_slice_has_no_lits_figures_of_the_test_set(out):
    results = read_results(out)
    results.summary["lits"] = [
        row for row in results.summary["lits"] if row["cohort"] == "external"
    ]
    assert "## Test\n\nNo LiTS figures: no case with liver" in lits_markdown(results)
    results.summary["data"]["split_by"] = "slice"
    text = lits_markdown(results)
    assert "## Test\n\nNo LiTS figures: the split is by slice" in text
    assert "## External, official: 8 of 8 cases" in text


def test_every_lits_figure_is_described():
    """By hand: which are distances in mm, which are better lower, which are signed."""
    label = np.ones((2, 3, 3), np.uint8)
    names = list(pool_cases([score_case(label, label, (1.0, 1.0, 1.0))]))
    assert len(names) == 24
    found = {name: described(name) for name in names}

    def of_parts(*scores):
        return {f"{part}_{score}" for part in ("lesion", "liver") for score in scores}

    assert {name for name, (unit, _, _) in found.items() if unit == "mm"} == of_parts(
        "assd", "rmsd", "msd"
    )
    signed = of_parts("rvd") | {"MAXERROR_Tumorburden"}
    assert {name for name, (_, better, _) in found.items() if better == "nearer 0"} == signed
    lower = of_parts("assd", "rmsd", "msd", "voe") | {"RMSE_Tumorburden"}
    assert {name for name, (_, better, _) in found.items() if better == "lower"} == lower
    assert all(meaning for _, _, meaning in found.values())
    assert described("something_else") == ("", "", "")


def test_ablation(out):
    lines = [cells(line, "|") for line in ablation_markdown(read_results(out)).splitlines()]
    for system in (("sequential", "sequential"), ("joint", "joint"), ("one_step", "one-step")):
        scored = {
            row[
                "threshold_rule"
            ]: f"{row['iou']:.3f} ({row['iou_low']:.3f} to {row['iou_high']:.3f})"
            for row in recorded(out)
            if (row["cohort"], row["target"], row["model"], row["loss"])
            == ("test", "tumor", system[0], "ce")
        }
        values = [scored.get(rule, "-") for rule in ("argmax", "0.5", "roc", "iou")]
        assert values.count("-") == (system[0] != "one_step")
        assert ["tumor", system[1], "cross-entropy", *values] in lines
    assert ["target", "model", "loss", "rule argmax", "rule 0.5", "rule roc", "rule iou"] in lines


def test_ablation_of_a_failed_system(failed):
    lines = [cells(line, "|") for line in ablation_markdown(read_results(failed)).splitlines()]
    assert lines.count(["tumor", "sequential", "balanced", *["no result"] * 4]) == 3


def test_calibration(out):
    lines = [cells(line, "|") for line in calibration_markdown(read_results(out)).splitlines()]
    # fake_out: ECE 0.01 of 983,040 pixels; inside the range 0.1, and 0.02 and a pixel more for each further system
    assert ["tumor", "one-step", "cross-entropy", "0.010", "983,040", "0.100", "13,000"] in lines
    assert ["tumor", "joint", "balanced", "0.010", "983,040", "0.200", "13,005"] in lines
    results = read_results(out)
    results.curves[:] = [
        curve for curve in results.curves if (curve["model"], curve["loss"]) != ("joint", "ce")
    ]
    results.curves[0]["ece_restricted"] = None
    lines = [cells(line, "|") for line in calibration_markdown(results).splitlines()]
    assert lines.count(["tumor", "joint", "cross-entropy", *["no result"] * 4]) == 3
    assert sum("n/a" in line for line in lines) == 1
