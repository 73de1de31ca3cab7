"""The tables beside Table 1: compared systems, LiTS figures, ablation, calibration, whole cases."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.metrics.lits import pool_cases, score_case
from evaluation.metrics.thresholds import RULES, Rule
from evaluation.results import Results, read_results
from evaluation.tables.ablation import make_ablation
from evaluation.tables.calibration import make_calibration
from evaluation.tables.claims import make_claims
from evaluation.tables.comparisons import make_comparisons
from evaluation.tables.lits import describe_figure, make_lits
from evaluation.tables.postprocessing import make_postprocessing
from evaluation.tables.registry import TABLES
from evaluation.tables.seeds import make_scores
from evaluation.tables.table1 import make_table1
from evaluation.tables.training import make_training
from evaluation.tables.whole_cases import make_whole_cases
from tests.evaluation.tables.test_table1 import add_up, split_cells


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    """Results of a run of three systems; not to be changed."""
    return read_results(out)


def split_lines(text: str) -> list[list[str]]:
    return [split_cells(line) for line in text.splitlines()]


def find_cells(text: str, heading: str, start: str) -> list[str]:
    """Return the cells of the row that begins with `start`, in the section `heading`."""
    section = text.partition(f"## {heading}")[2].partition("\n## ")[0]
    line = next(line for line in section.splitlines() if line.startswith(f"| {start} |"))
    return split_cells(line)


def test_systems_are_compared_by_patient(results: Results) -> None:
    """Each patient differs by 102 of 1020 pixels between systems, by 20 between the rules."""
    lines = split_lines(make_comparisons(results))
    systems = "sequential, balanced - one-step, balanced"
    tests = ["+0.100 to +0.100", "0.031", "0.031", "6", "0", "6 (7)"]
    assert ["test", "tumor", systems, "+0.100", *tests] in lines
    few = ["3 patients", "3 patients", "0.25", "3", "0", "3 (4)"]
    assert ["validation", "tumor", systems, "+0.100", *few] in lines
    rules = "sequential, balanced, rule roc - rule 0.5"
    tests[0] = "+0.020 to +0.020"
    assert ["test", "tumor", rules, "+0.020", *tests] in lines
    # Livers are alike.
    equal = [line for line in lines if line[:3] == ["test", "liver", systems]]
    assert [line[5:9] for line in equal] == [["no difference", "0.016", "0", "0"]]
    text = make_claims(results)
    sure = "95 % interval by patient +0.100 to +0.100, Wilcoxon p = 0.031"
    assert f"{sure}, n = 6 of 7 patients with it in the reference; liver IoU" in text
    assert "no interval by patient, n = 3 of 4 patients" in text


def test_a_joint_model_that_began_with_the_pair_is_named(results: Results) -> None:
    note = "The joint model is the sequential model's pair trained on"
    training = copy.deepcopy(results.training)
    for phase in training["phases"]:
        phase.pop("start", None)
    recorded = {"table1": results.table1.to_dict("records"), "comparisons": []}
    scratch = replace(results, training=training, recorded=recorded)
    for make in (make_comparisons, make_table1):
        assert note in make(results)
        assert note not in make(scratch)


def test_lits_figures(results: Results) -> None:
    text = make_lits(results)
    assert "## Test, official: 6 of 7 cases\n\nLeft out, no liver in the reference: 7.\n" in text
    assert "## External, corrected: 8 of 8 cases\n\n| figure |" in text
    assert "## Validation" not in text
    lines = split_lines(text)
    meaning = "average symmetric surface distance, liver, mean over cases"
    # Of the made-up run: 1.5 mm, 0.01 more for each further system, cross-entropy of all first.
    values = ["1.500", "1.530", "1.510", "1.540", "1.520", "1.550"]
    assert lines.count(["liver_assd", meaning, "mm", "lower", *values]) == 4
    (head, *_) = [line for line in lines if line[0] == "figure"]
    assert head[4:6] == ["one-step, cross-entropy", "one-step, balanced"]
    entries = copy.deepcopy(results.summary["lits"])
    entries[0]["figures"]["liver_assd"] = None
    changed = replace(results, summary={**results.summary, "lits": entries})
    assert "| mm | lower | n/a | 1.530 |" in make_lits(changed)
    for entry in entries:
        del entry["n_cases"]
    assert "Recorded before whole cases were scored" in make_lits(changed)


def test_a_split_by_slice_has_no_lits_figures_of_the_test_set(results: Results) -> None:
    entries = [entry for entry in results.summary["lits"] if entry["cohort"] == "external"]
    summary = {**results.summary, "lits": entries}
    text = make_lits(replace(results, summary=summary))
    assert "## Test\n\nNo LiTS figures: no case with liver" in text
    summary["data"] = {**results.data, "split_by": "slice"}
    text = make_lits(replace(results, summary=summary))
    assert "## Test\n\nNo LiTS figures: the split is by slice" in text
    assert "## External, official: 8 of 8 cases" in text


def test_every_lits_figure_is_described() -> None:
    """By hand: which are distances in mm, which are better lower, which are signed."""
    label = np.ones((2, 3, 3), np.uint8)
    names = list(pool_cases([score_case(label, label, (1.0, 1.0, 1.0))]))
    assert len(names) == 24
    figures = {name: describe_figure(name) for name in names}

    def name_parts(*scores: str) -> set[str]:
        return {f"{part}_{score}" for part in ("lesion", "liver") for score in scores}

    distances = name_parts("assd", "rmsd", "msd")
    assert {name for name, (unit, _, _) in figures.items() if unit == "mm"} == distances
    signed = name_parts("rvd") | {"MAXERROR_Tumorburden"}
    assert {name for name, (_, better, _) in figures.items() if better == "nearer 0"} == signed
    lower = distances | name_parts("voe") | {"RMSE_Tumorburden"}
    assert {name for name, (_, better, _) in figures.items() if better == "lower"} == lower
    assert all(meaning for _, _, meaning in figures.values())
    assert describe_figure("something_else") == ("", "", "")


def test_ablation(out: Path, results: Results) -> None:
    lines = split_lines(make_ablation(results))
    for system, name in (("sequential",) * 2, ("joint",) * 2, ("one_step", "one-step")):
        key = ("test", "tumor", system, "ce")
        cells = {
            row["rule"]: f"{row['iou']:.3f} ({row['iou_low']:.3f} to {row['iou_high']:.3f})"
            for row in add_up(out)
            if (row["cohort"], row["target"], row["system"], row["phase"]) == key
        }
        values = [cells.get(rule, "-") for rule in ("argmax", "0.5", "roc", "iou")]
        assert values.count("-") == (system != "one_step")
        assert ["tumor", name, "cross-entropy", *values] in lines
    assert ["target", "model", "loss", "rule argmax", "rule 0.5", "rule roc", "rule iou"] in lines


def test_ablation_of_a_failed_system(failed: Path) -> None:
    lines = split_lines(make_ablation(read_results(failed)))
    assert lines.count(["tumor", "sequential", "balanced", *["no result"] * 4]) == 3


def test_calibration(results: Results) -> None:
    """ECE 0.01 of 983,040 pixels; in the range 0.1, and 0.02 and a pixel more a further system."""
    lines = split_lines(make_calibration(results))
    cells = ["0.010", "983,040", "0.100", "13,000"]
    assert ["tumor", "one-step", "cross-entropy", *cells] in lines
    assert ["tumor", "joint", "balanced", "0.010", "983,040", "0.200", "13,005"] in lines
    curves = [c for c in results.curves if (c["system"], c["phase"]) != ("joint", "ce")]
    curves[0] = {**curves[0], "ece_restricted": None}
    lines = split_lines(make_calibration(replace(results, curves=curves)))
    assert lines.count(["tumor", "joint", "cross-entropy", *["no result"] * 4]) == 3
    assert sum("n/a" in line for line in lines) == 1


def test_whole_cases_are_means_over_the_cases_that_hold_the_target(results: Results) -> None:
    text = make_whole_cases(results)
    assert find_cells(text, "Test, liver", "joint, balanced")[1:3] == ["2", "0.600"]
    assert find_cells(text, "Test, tumor", "joint, balanced")[1:3] == ["1", "0.500"]
    assert "SYNTHETIC PHANTOM" in text
    scores = results.scores.copy()
    scores.loc[scores.query("unit == 'whole' and target == 'liver'").index[0], "assd_mm"] = None
    text = make_whole_cases(replace(results, scores=scores))
    assert find_cells(text, "Test, liver", "one-step, cross-entropy")[7] == "0.700 (n = 1)"


def test_postprocessing_shows_changes_of_the_pooled_iou(results: Results) -> None:
    """Without any option 100 of 200 pixels; with holes filled 120 of 200."""
    text = make_postprocessing(results)
    cells = find_cells(text, "Test, liver", "one-step, cross-entropy")[1:]
    assert cells == ["0.500", "+0.000", "+0.000", "+0.100", "+0.000", "+0.000", "0.600"]
    assert "- sequential, balanced: holes filled\n" in text


def test_a_split_by_slice_has_no_whole_cases(results: Results) -> None:
    scores = results.scores.query("unit == 'slices' and postprocess == ''")
    for make in (make_whole_cases, make_postprocessing):
        assert "the split is by slice" in make(replace(results, scores=scores))


def test_a_further_system_of_table_1_appears_in_every_table(results: Results) -> None:
    """A copy of the one-step model under another name; no table names the systems by itself."""

    def copy_entries(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        copies = [{**e, "system": "another"} for e in entries if e["system"] == "one_step"]
        return [*entries, *copies]

    rows = results.scores.query("system == 'one_step'").assign(system="another")
    summary = {key: results.summary[key] for key in ("preset", "seed", "data")}
    summary |= {key: copy_entries(results.summary[key]) for key in ("systems", "lits")}
    training = results.training | {"phases": copy_entries(results.training["phases"])}
    curves = copy_entries(results.curves)
    scores = pd.concat([results.scores, rows], ignore_index=True)
    wider = replace(results, summary=summary, training=training, scores=scores, curves=curves)
    for name in TABLES.keys() - {"claims", "joint"}:
        text = TABLES[name].make(wider).replace("`", "")
        assert "another, balanced" in text or "| another |" in text, name
    assert TABLES["claims"].make(wider) == TABLES["claims"].make(results)


def test_a_registered_rule_appears_in_the_tables(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "strict", Rule("strict", lambda histogram: 0.9, "nearly sure"))
    rows = results.scores.query("rule == 'iou'").assign(rule="strict", threshold=0.9)
    phases = copy.deepcopy(results.training["phases"])
    for phase in phases:
        for thresholds in phase["thresholds"].values():
            thresholds["strict"] = 0.9
    scores = pd.concat([results.scores, rows], ignore_index=True)
    wider = replace(results, scores=scores, training={**results.training, "phases": phases})
    assert "| joint | strict | 0.900 |" in make_table1(wider)
    assert "iou: best validation IoU; strict: nearly sure." in make_table1(wider)
    assert "| rule iou | rule strict |" in make_ablation(wider)
    assert "| 0.420 | 0.900 |" in make_training(wider)
    assert "| IoU, rule iou | IoU, rule strict |" in make_scores([wider])
