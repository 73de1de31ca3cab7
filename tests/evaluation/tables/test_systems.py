"""The table of all systems: means and pooled scores by hand, order, published columns, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.command import InputError
from evaluation.figures.systems import draw_systems
from evaluation.metrics.statistics import bound_mean
from evaluation.results import Results
from evaluation.score_table import ScoreRow, make_table
from evaluation.tables.published_numbers import NUMBERS, find_published
from evaluation.tables.systems import (
    SystemComparison,
    SystemScore,
    check_systems,
    describe_systems,
    explain_guess,
    make_systems,
    make_systems_page,
    rank_system,
    summarise_systems,
)
from training.systems import SYSTEMS as TRAINED

Row = dict[str, Any]
COST: Row = {"begins": "random", "trained_with": "320 slices", "parameters": 1000, "train_s": 60.0}
COST |= {"predicting_parameters": 900, "epochs": {"liver": [7, 10], "tumor": [1, 13]}}
COST |= {"peak_memory_mib": 900.0, "ms_per_slice": 5.0, "document": "x", "settings": {}}
COST |= {"trained_on": {"cores": 2, "processor": "EPYC"}, "status": "ok", "table1": False}
DATA: Row = {"cohort": "phantom", "synthetic": True, "size": 64, "external": None}
DATA |= {"split_sha256": "a", "nominal_spacing": False}
DATA |= {f"{name}_cases": 6 for name in ("train", "validation", "test")}
SEGNET, SKIPS, ALEXNET, ONE_STEP = (
    ("segnet", "train"),
    ("cdnn_alexnet_skips", "train"),
    ("cdnn_alexnet", "train"),
    ("one_step", "ce"),
)
SYSTEMS = (SEGNET, SKIPS, ALEXNET, ONE_STEP)
BACKGROUND = "tumor: background everywhere at a threshold of 0.5"
CHANCE = "no better than chance, AUC {} among the pixels that could be {}"


def make_rows(seed: int) -> list[ScoreRow]:
    """Six cases; the last has no tumor; seed 1 finds a little more. SegNet failed in seed 1."""
    rows = []
    for system, phase in SYSTEMS:
        for case in range(6) if ((system, phase), seed) != (SEGNET, 1) else ():
            head: Row = {"seed": seed, "system": system, "phase": phase, "rule": "0.5"}
            head |= {"cohort": "test", "unit": "whole", "case": f"c{case}", "patient": f"p{case}"}
            held = case < 5
            liver = {"tp": 40 + seed, "fp": 10, "fn": 10, "tn": 40 - seed}
            tumor = {"tp": 6 * held, "fp": 4, "fn": 4 * held, "tn": 96 - 10 * held}
            distance = 3.0 if held and case else None
            rows.append(ScoreRow(**head, **liver, target="liver", n_slices=1, assd_mm=2.0 + case))
            rows.append(ScoreRow(**head, **tumor, target="tumor", n_slices=1, assd_mm=distance))
    return rows


def make_results(seed: int) -> Results:
    why, note = {(SEGNET, 1): "tumor collapsed: why"}, {ALEXNET: BACKGROUND}
    entries = [
        {"system": pair[0], "phase": pair[1], **COST, "why": why.get((pair, seed), "")}
        | {"note": note.get(pair, "")}
        for pair in SYSTEMS
    ]
    summary = {"preset": "demo", "seed": seed, "data": DATA, "systems": entries}
    return Results(Path(f"{seed}"), summary, {"phases": []}, make_table(make_rows(seed)))


RECORDS = [make_results(0), make_results(1)]


def change(results: Results, systems: dict[tuple[str, str], Row] | None = None, **data: Any) -> Any:
    """Return results whose systems, or whose data, have other values."""
    entries = [
        entry | (systems or {}).get((entry["system"], entry["phase"]), {})
        for entry in results.summary["systems"]
    ]
    summary = {**results.summary, "systems": entries, "data": results.data | data}
    return replace(results, summary=summary)


def find_score(target: str, system: str) -> SystemScore:
    scores = SystemComparison(RECORDS).scores
    return next(score for score in scores if (score.target, score.system) == (target, system))


def summarise(records: list[Results]) -> str:
    return "\n\n".join(summarise_systems(records))


def test_means_are_over_the_cases_that_hold_the_target() -> None:
    liver, tumor = find_score("liver", "cdnn_alexnet"), find_score("tumor", "cdnn_alexnet")
    assert liver.by_seed == pytest.approx([80 / 100, 82 / 102])
    assert liver.dice.value == pytest.approx((80 / 100 + 82 / 102) / 2)
    assert liver.dice.n_patients == 6
    assert liver.assd_mm.value == pytest.approx(4.5)
    assert tumor.dice.value == pytest.approx(12 / 20)
    assert tumor.dice.n_patients == 5
    assert (tumor.n_valued, tumor.n_cases) == (8, 10)
    assert tumor.assd_mm.low is None  # four patients


def test_a_patient_with_several_cases_counts_once() -> None:
    """Patient a: five cases of Dice 0.8; b: one with nothing found: 0.4, and 2 / 3 over cases."""
    rows = [row for row in make_rows(0) if row.target == "liver" and row.system == "segnet"]
    rows = [replace(row, patient="b" if row.case == "c5" else "a") for row in rows]
    rows[-1] = replace(rows[-1], tp=0, fn=50)
    (score,) = [
        score
        for score in SystemComparison([replace(RECORDS[0], scores=make_table(rows))]).scores
        if (score.system, score.target) == ("segnet", "liver")
    ]
    assert score.dice.value == pytest.approx(0.4)
    assert score.dice.n_patients == 2


def test_pooled_scores_count_every_case() -> None:
    """30 of 50 tumor voxels found, 24 found where none is, 520 of neither among 600."""
    pooled = find_score("tumor", "cdnn_alexnet").pooled
    assert pooled["sensitivity"].value == pytest.approx(30 / 50)
    assert pooled["dice"].value == pytest.approx(60 / (60 + 24 + 20))
    assert pooled["iou"].value == pytest.approx(30 / 74)
    assert pooled["accuracy"].value == pytest.approx((30 + 600 - 74) / 600)
    # Every patient has an accuracy, five of six have a tumor to be found; these are all alike.
    assert (pooled["accuracy"].n_counted, pooled["sensitivity"].n_counted) == (6, 5)
    assert pooled["accuracy"].low < pooled["accuracy"].value < pooled["accuracy"].high
    assert pooled["sensitivity"].low == pytest.approx(30 / 50)


def test_a_system_without_result_in_a_seed_says_so() -> None:
    score = find_score("liver", "segnet")
    assert (score.n_seeds, score.n_records) == (1, 2)
    text = make_systems_page(RECORDS)
    assert "0.800 (1 of 2 seeds)" in text
    lines = [line for line in text.splitlines() if line.startswith("| `segnet` | ")]
    assert all("(1 of 2 seeds)" in line for line in lines[:2]), "means and pooled scores"
    for shown in (text, summarise(RECORDS)):
        assert "Not a result:\n\n- tumor collapsed: why: `segnet` (seed 1)\n" in shown
        weak = f"Weak on validation data:\n\n- {BACKGROUND}: `cdnn_alexnet` (seed 0), (seed 1)\n"
        assert weak in shown


def test_the_time_of_a_system_without_tumors_is_said_to_be_the_liver_s() -> None:
    words = "of the liver alone"
    assert words not in make_systems_page(RECORDS), "SegNet has no result at all in seed 1"
    short = "external: c9 has 8 slices, the 3D window takes 16"
    assert words not in make_systems_page([change(RECORDS[0], {SEGNET: {"why": short}})])
    failed = change(RECORDS[0], {SEGNET: {"why": "tumor collapsed: why", "status": "partial"}})
    rows = [row for row in make_rows(0) if (row.system, row.target) != ("segnet", "tumor")]
    failed = replace(failed, scores=make_table(rows))
    for text in (make_systems_page([failed]), summarise([failed])):
        assert "Prediction of `segnet`: of the liver alone." in text


def test_who_marks_the_whole_liver_has_this_dice() -> None:
    """Five cases: 50 voxels of liver, 10 of them tumor: 20 / 60; two cases of a patient are one."""
    guess = explain_guess(SystemComparison(RECORDS))
    assert guess == "Marking the whole reference liver as tumor gives a tumor DSC of: test 0.333. "
    assert guess in summarise(RECORDS)
    assert guess in make_systems_page(RECORDS)
    rows = []
    for row in make_rows(0):
        is_large = row.case in ("c0", "c1")
        row = replace(row, patient="a" if is_large else "b")
        whole = is_large and row.target == "tumor"
        rows.append(replace(row, tp=20, fn=30) if whole else row)
    large = replace(RECORDS[0], scores=make_table(rows))
    assert "test 0.667" in explain_guess(SystemComparison([large]))  # 1 and 1/3


def test_systems_with_the_same_weakness_are_named_together() -> None:
    records = [
        change(
            results,
            {
                SEGNET: {"note": f"tumor: {CHANCE.format(auc, 'tumor')}"},
                ONE_STEP: {"note": f"tumor: {CHANCE.format('0.5', 'tumor')}"},
            },
        )
        for auc, results in zip(("0.421", "0.380"), RECORDS, strict=True)
    ]
    words = "tumor: no better than chance, AUC among the pixels that could be tumor: "
    first, last = "`segnet` 0.421", "one-step, cross-entropy 0.5"
    both = f"{first} (seed 0), 0.380 (seed 1); {last} (seed 0), 0.5 (seed 1)"
    assert f"{words}{both}" in summarise(records)
    assert f"{words}{first}; {last}" in summarise(records[:1])


def test_two_faults_of_a_system_are_named_apart() -> None:
    faults = [f"{t}: {CHANCE.format(auc, t)}" for t, auc in (("liver", "0.4"), ("tumor", "0.3"))]
    notes = {SEGNET: {"note": "; ".join(faults)}, ONE_STEP: {"note": faults[1]}}
    text = summarise([change(RECORDS[0], notes)])
    words = "no better than chance, AUC among the pixels that could be"
    assert f"liver: {words} liver: `segnet` 0.4\n" in text
    assert f"{words} tumor: `segnet` 0.3; one-step, cross-entropy 0.3" in text


def test_where_networks_begin_and_what_is_trained_along_is_said() -> None:
    begins = "Networks begin: all here at random; those of Elmenabawy et al. with ImageNet weights."
    assert begins in summarise(RECORDS)
    loaded = change(RECORDS[0], {ALEXNET: {"begins": "weights of a file"}})
    begins = "Networks begin: `cdnn_alexnet` with the weights of a file, all others at random;"
    assert begins in make_systems_page([loaded])
    assert "| 900 |  | 60 |" in make_systems_page(RECORDS)
    vae = change(RECORDS[0], {SEGNET: {"settings": {"vae_weight": 0.1}}})
    assert "| 900 | 100 | 60 |" in make_systems_page([vae])


def test_the_order_is_the_paper_then_the_documents_with_their_variants() -> None:
    assert sorted(SYSTEMS, key=rank_system) == [ONE_STEP, ALEXNET, SKIPS, SEGNET]
    names = [("joint", "balanced"), ("global_local_vae", "train"), ("sequential", "balanced")]
    names += [("global_local", "train"), ("sequential", "ce")]
    places = [sorted(names, key=rank_system).index(name) for name in names]
    assert places == [2, 4, 1, 3, 0]


def test_published_numbers_stand_beside_the_documented_system_alone() -> None:
    text = make_systems_page(RECORDS)
    block = text.split("Test, means over patients:")[1].split("\n\n")[1]
    lines = {line.split("|")[1].strip(): line for line in block.splitlines()}
    assert "0.904 (2.65)" in lines["`cdnn_alexnet`"]
    assert "0.624 (4.98)" in lines["`cdnn_alexnet`"]
    assert "0.904" not in lines["`cdnn_alexnet_skips`"]
    assert "published, other split, real CT |" in text
    assert "0.89, of which target is not said" in lines["`segnet`"]
    assert "SYNTHETIC PHANTOM" in describe_systems(RECORDS)


def test_the_readme_shows_dice_and_cost_of_every_system_in_one_table() -> None:
    text = summarise(RECORDS)
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line[:1] == "|"}
    names = [name for name in lines if name.startswith("`")]
    assert names == ["`cdnn_alexnet`", "`cdnn_alexnet_skips`", "`segnet`"]
    cells = [cell.strip() for cell in lines["`cdnn_alexnet`"].strip("|").split("|")]
    mean = (80 / 100 + 82 / 102) / 2
    assert cells[1].startswith(f"{mean:.3f} ± 0.003<br>")
    assert cells[2:] == ["0.600 ± 0.000<br>0.600 to 0.600", "0.904", "0.624", "900", "60", "5.0"]
    assert "test: 5 patients with tumor" in text


def test_the_cost_table_says_which_epoch_was_kept() -> None:
    assert "| liver 7 of 10, tumor 1 of 13 |" in make_systems_page(RECORDS)
    alone = {pair: {"epochs": {"classes": [12, 13]}} for pair in SYSTEMS}
    assert "| 12 of 13 |" in make_systems_page([change(RECORDS[0], alone)])


def test_a_run_has_the_table_where_it_has_another_document_s_system() -> None:
    assert make_systems(RECORDS[0]).startswith("# All systems\n")
    papers = [entry for entry in RECORDS[0].summary["systems"] if entry["system"] == "one_step"]
    summary = {**RECORDS[0].summary, "systems": papers}
    assert make_systems(replace(RECORDS[0], summary=summary)) == ""


def test_published_numbers_are_the_documents() -> None:
    """Elmenabawy et al., tables 1 and 2 (in percent there); Dhanush et al.; the pipeline's."""
    cdnn = {
        "cdnn_alexnet": (0.904, 2.65, 0.624, 4.98),
        "cdnn_alexnet_plain": (0.885, 3.87, 0.597, 5.32),
        "cdnn_resnet18": (0.842, 3.65, 0.614, 4.77),
        "cdnn_resnet18_plain": (0.823, 4.21, 0.577, 5.76),
    }
    for name, numbers in cdnn.items():
        liver, tumor = NUMBERS[name].liver, NUMBERS[name].tumor
        assert (*liver.values(), *tumor.values()) == numbers
        assert list(liver) == list(tumor) == ["dice", "assd_mm"]
    others = {name: (NUMBERS[name].liver, NUMBERS[name].tumor) for name in NUMBERS.keys() - cdnn}
    pipeline = {"accuracy": 0.994, "dice": 0.942, "sensitivity": 0.955, "iou": 0.895}
    assert others == {
        "korabelnikov": ({"dice": 0.887}, {"dice": 0.599}),
        "unet_dhanush": ({"accuracy": 0.96, "sensitivity": 0.94, "dice": 0.76}, {}),
        "segnet": ({"accuracy": 0.98, "sensitivity": 0.97, "dice": 0.89}, {}),
        "global_local": (
            pipeline,
            {"accuracy": 0.995, "dice": 0.570, "sensitivity": 0.801, "iou": 0.460},
        ),
    }


def test_the_figure_draws_means_intervals_seeds_and_published_numbers_of_real_ct() -> None:
    for is_real in (False, True):
        records = [change(results, synthetic=not is_real) for results in RECORDS]
        figure = draw_systems(SystemComparison(records), describe_systems(records))
        liver = figure.axes[0]
        assert ("SYNTHETIC" in liver.get_title()) != is_real
        drawn = {(line.get_marker(), *np.round(line.get_xdata(), 6)) for line in liver.lines}
        mean = find_score("liver", "cdnn_alexnet").dice
        assert ("o", round(mean.value, 6)) in drawn
        assert ("None", round(mean.low, 6), round(mean.high, 6)) in drawn
        assert (("D", 0.904) in drawn) == is_real
        assert ("D", NUMBERS["segnet"].liver["dice"]) not in drawn, "of which target is not said"


def test_the_figure_marks_what_guessing_gives() -> None:
    comparison = SystemComparison([change(RECORDS[0], synthetic=False)])
    liver, tumor = draw_systems(comparison, "").axes
    lines = [line for line in tumor.lines if line.get_linestyle() == ":"]
    assert [[*map(float, line.get_xdata())] for line in lines] == [[pytest.approx(1 / 3)] * 2]
    assert not [line for line in liver.lines if line.get_linestyle() == ":"]


def test_the_interval_of_a_mean_draws_patients() -> None:
    values = [0.1, 0.4, 0.5, 0.6, 0.9]
    interval = bound_mean(values)
    assert interval.value == pytest.approx(0.5)
    # SD of a mean of five draws: root of the mean square deviation 0.068 over 5, 0.117.
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.117, abs=0.04)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.117, abs=0.04)
    assert bound_mean(values[:4]).low is None
    with pytest.raises(ValueError, match="at least one value"):
        bound_mean([])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda r: replace(r, summary={**r.summary, "systems": []}),
            "other systems, or other settings",
        ),
        (lambda r: change(r, {SEGNET: {"settings": {"loss": "dice"}}}), "or other settings of one"),
        (
            lambda r: replace(r, summary={**r.summary, "left": ["segnet", "joint_ce"]}),
            "segnet, joint_ce not scored yet; call evaluation.evaluate again",
        ),
        (lambda r: replace(r, scores=r.scores[:0]), "no system gave a result"),
    ],
)
def test_records_that_do_not_belong_together_are_named(
    spoil: Callable[[Results], Results], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check_systems(RECORDS[0], spoil(RECORDS[1]))
    check_systems(*RECORDS)


def test_published_numbers_stand_beside_a_system_that_began_as_the_documented_one_did() -> None:
    for name, system in TRAINED.items():
        settings = system.settings()
        if name in NUMBERS:
            assert find_published(name, settings) == NUMBERS[name]
        assert find_published("mine", settings) is None
        pretrained = find_published("mine", {**settings, "weights_sha256": "a"})
        assert pretrained == (NUMBERS[name] if system.PRETRAINED else None)
    alexnet = {**NUMBERS["cdnn_alexnet"].of, "weights_sha256": "a", "batch_size": 4}
    assert find_published("mine", alexnet) == NUMBERS["cdnn_alexnet"]
    assert find_published("mine", {**alexnet, "weights_sha256": None}) is None
    for other in ({"input": "standardised"}, {"optimizer": "adam"}, {"filters": 16}):
        assert find_published("mine", {**alexnet, **other}) is None
    assert find_published("cdnn_alexnet_skips", {**alexnet, "upsampling": "skips"}) is None
    plain = find_published("mine", {**alexnet, "input": "windowed"})
    assert plain == NUMBERS["cdnn_alexnet_plain"]
    assert find_published("one_step", None) is None
