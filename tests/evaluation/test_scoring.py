"""From what a system answers to rows of the score table, with systems whose answer is known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.command import InputError
from data.store import Store
from evaluation import scoring
from evaluation.metrics import counts as metrics
from evaluation.postprocess import NONE, OPTIONS
from evaluation.score_table import counts_of, make_table, select
from evaluation.scoring import (
    Scorer,
    score_case,
    score_components,
    score_volumes,
)
from evaluation.segmenter import Segmenter
from tests.evaluation.oracle import Oracle
from tests.evaluation.test_segmenter import Network, make_segmenter


@pytest.fixture
def case(store: Store) -> str:
    """The test case."""
    return store.cases_of("test")[0]


def test_a_perfect_system_has_perfect_scores_of_every_kind(store: Store, case: str) -> None:
    rows = store.cases[case]["liver_rows"]
    scores = score_case(Oracle(store), store, case, rows, whole=True)
    assert scores.n_predicted == len(store.label(case)) > len(rows)
    for target in ("liver", "tumor"):
        assert scores.histograms[target].auc() == 1
        assert [counts.fp + counts.fn for counts in scores.slices[target]] == [0] * len(rows)
        volume = scores.volumes[target]
        assert (metrics.dice(volume.counts), metrics.rvd(volume.counts)) == (1, 0)
        assert set(volume.distances.values()) == {0}
        assert volume.components_rand_index == 1
    assert {row["kind"] for row in scores.lesions} == {"lesion"}
    assert all(row["iou"] == 1 for row in scores.lesions)
    for figures in scores.lits.values():
        assert (figures.lesion_dice, figures.liver_dice, figures.burden_difference) == (1, 1, 0)
        assert figures.hits == figures.n_reference == figures.n_prediction == len(scores.lesions)
    # by hand: 3 slices with tumor, apart, of 29 pixels of 0.8 x 0.8 x 2.5 mm (46.4 mm3, 4.46 mm)
    assert [row["voxels"] for row in scores.lesions] == [29] * 3
    assert [row["diameter_mm"] for row in scores.lesions] == [4.46] * 3


def test_table_1_counts_its_slices_and_volumes_count_them_all(store: Store, case: str) -> None:
    """A system that finds nothing but one voxel of tumor, in a slice that Table 1 is not about."""
    label = np.asarray(store.label(case))
    rows, beyond = store.cases[case]["liver_rows"][:2], store.cases[case]["tumor_rows"][-1]
    assert beyond not in rows

    def find_a_voxel(name: str, row: int, labels: np.ndarray) -> np.ndarray:
        found = np.zeros_like(labels)
        if (name, row) == (case, beyond):
            found[tuple(np.argwhere(labels == 2)[0])] = 2
        return found

    oracle = Oracle(store, find_a_voxel)
    scores = score_case(oracle, store, case, rows, whole=True)
    tumor = scores.histograms["tumor"]
    assert int(tumor.positive.sum() + tumor.negative.sum()) == label[rows].size
    assert all(counts.tp + counts.fp == 0 for counts in scores.slices["tumor"])
    n_tumor = int((label == 2).sum())
    volume = scores.volumes["tumor"].counts
    assert metrics.dice(volume) == pytest.approx(2 / (1 + n_tumor))
    assert metrics.rvd(volume) == pytest.approx(1 / n_tumor - 1)
    assert [row["touched"] for row in scores.lesions].count(True) == 1
    in_part = score_case(oracle, store, case, rows)
    assert (in_part.volumes, in_part.lesions, in_part.lits, in_part.options) == ({}, [], {}, {})
    assert (in_part.slices, in_part.n_predicted) == (scores.slices, 2)


def test_volumes_by_hand() -> None:
    """The reference's liver has 8 voxels, 4 of them tumor; the prediction 6 and 2. 1 x 2 x 3 mm."""
    reference = np.zeros((2, 4, 4), np.uint8)
    reference[0, :2, :2], reference[0, :2, 2:] = 1, 2
    prediction = reference.copy()
    prediction[0, 1, :2] = 0
    prediction[0, 1, 2:] = 1
    liver, tumor = score_volumes(prediction, reference, (1.0, 2.0, 3.0)).values()
    assert liver.voxel_ml == 0.006
    assert liver.counts == metrics.Counts(tp=6, fp=0, fn=2, tn=24)
    assert tumor.counts == metrics.Counts(tp=2, fp=0, fn=2, tn=28)
    # Both masks are all surface; the reference's second row lies one row, 2 mm, from the first.
    assert (tumor.distances["hausdorff_mm"], tumor.distances["assd_mm"]) == (2, round(2 * 2 / 6, 4))
    # 32 voxels: 30 stay in their part (24 others, the 6 found), 2 change from liver to others.
    assert liver.components_rand_index == pytest.approx(1 - 2 * 30 / (32 * 31 / 2))
    nothing = score_volumes(np.zeros_like(reference), reference, (1.0, 1.0, 1.0))
    assert [score.distances["assd_mm"] for score in nothing.values()] == [None, None]
    nominal = score_volumes(prediction, reference, (1.0, 2.0, 3.0), nominal_spacing=True)
    assert nominal["tumor"].counts == tumor.counts
    assert set(nominal["tumor"].distances.values()) == {None}


def test_the_rand_index_of_regions_falls_when_two_are_merged() -> None:
    two = np.array([[[1, 1, 0, 1, 1, 0, 0, 0]]], bool)
    merged = np.array([[[1, 1, 1, 1, 1, 0, 0, 0]]], bool)
    # Pairs that disagree: 4 between the regions; the pixel between with these 4 and 3 outside.
    assert score_components(merged, two) == pytest.approx(1 - 11 / 28)
    assert score_components(np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2), bool)) == 1


def test_a_probability_that_is_nan_is_one_line(store: Store, case: str) -> None:
    class Broken(Oracle):
        def predict(self, all_slices: Any, wanted: Any) -> Any:
            yield np.full((2, 2), np.nan), np.zeros((2, 2))

    with pytest.raises(InputError, match=rf"one_step_ce: a probability of {case}, slice 1 is NaN"):
        score_case(Broken(store), store, case, [1])


@pytest.fixture
def quick_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not measure the memory of prediction."""
    monkeypatch.setattr(scoring, "measure_memory", lambda *_: 300.0)


def score(system: Segmenter, cohorts: dict[str, Store], **how: Any) -> pd.DataFrame:
    return make_table(Scorer(system, seed=7, **how).score(cohorts).rows)


@pytest.mark.usefixtures("quick_memory")
def test_the_rows_of_a_system_of_thresholds(store: Store, case: str) -> None:
    """Units, rules and counts of a system that calls every tumor liver."""
    blind = Oracle(store, lambda name, row, labels: np.minimum(labels, 1))
    table = score(blind, {"validation": store, "test": store})
    assert set(table["seed"]) == {7}
    assert set(table["fold"]) == {0}
    assert set(zip(table["system"], table["phase"], strict=True)) == {("one_step", "ce")}
    label, rows = np.asarray(store.label(case)), [row for _, row in store.slices("test")]
    slices = select(table, unit="slices", cohort="test", postprocess="")
    assert list(slices["rule"]) == ["argmax", "0.5", "roc", "iou"] * 2
    assert slices["threshold"].isna().sum() == 2
    assert set(slices["n_slices"]) == {len(rows)}
    tumor, liver = (select(slices, target=target, rule="roc") for target in ("tumor", "liver"))
    assert counts_of(tumor.iloc[0]).fn == (label[rows] == 2).sum() > 0
    assert counts_of(liver.iloc[0]) == counts_of(
        select(slices, target="liver", rule="argmax").iloc[0]
    )
    each = select(table, unit="slice", target="tumor")
    assert list(each["slice"]) == rows
    assert each["fn"].sum() == tumor["fn"].sum()
    (whole,) = select(table, unit="whole", target="tumor").itertuples()
    assert (whole.fn, whole.n_slices, whole.rule) == ((label == 2).sum(), len(label), "roc")
    assert whole.voxel_ml == pytest.approx(0.8 * 0.8 * 2.5 / 1000)
    assert set(select(table, cohort="validation")["unit"]) == {"slices"}
    assert not select(table, cohort="validation", chosen=True).shape[0]
    assert set(select(table, cohort="test", chosen=True)["postprocess"]) == {NONE}


@pytest.mark.usefixtures("quick_memory")
def test_a_point_of_a_sweep_has_its_slices_alone(store: Store) -> None:
    table = make_table(
        Scorer(Oracle(store), 7).score_slices({"validation": store, "test": store}).rows
    )
    assert set(table["unit"]) == {"slices"}
    assert set(table["rule"]) == {"roc"}
    assert set(table["cohort"]) == {"validation", "test"}
    assert set(table["postprocess"]) == {""}


@pytest.mark.usefixtures("quick_memory")
def test_post_processing_is_chosen_on_validation_data_alone(store: Store) -> None:
    """Split by slice, external cohort by patient: nothing was chosen, nothing is applied."""
    by_slice = copy.copy(store)
    object.__setattr__(by_slice, "split", {**store.split, "by": "slice"})
    external = copy.copy(store)
    slices = {**store.split["slices"], "external": store.split["slices"]["test"]}
    object.__setattr__(external, "split", {**store.split, "slices": slices})

    def add_a_piece(name: str, row: int, labels: np.ndarray) -> np.ndarray:
        found = labels.copy()
        found[-2:, -2:] = 1
        return found

    oracle = Oracle(store, add_a_piece)
    cohorts = {"validation": by_slice, "test": by_slice, "external": external}
    scorer = Scorer(oracle, 7).score(cohorts)
    table = make_table(scorer.rows)
    assert scorer.postprocess == ()
    assert set(select(table, unit="whole")["cohort"]) == {"external"}
    assert set(select(table, cohort="external")["postprocess"]) == {"", NONE, *OPTIONS}
    assert not table["chosen"].any()
    scorer = Scorer(oracle, 7).score({"validation": store, "test": store})
    assert scorer.postprocess == ("largest_liver",), "it drops the piece"
    chosen = select(make_table(scorer.rows), cohort="test", chosen=True)
    assert set(chosen["postprocess"]) == {"largest_liver"}
    assert counts_of(select(chosen, target="liver").iloc[0]).fp == 0


@pytest.mark.usefixtures("quick_memory")
def test_another_document_s_system_is_scored_on_whole_unseen_cases(store: Store, case: str) -> None:
    """A pair that takes the brighter half for liver; its tumor's network failed, then both work."""
    bright = Network(lambda batch: (batch > 0.0) * 0.9)
    pair = make_segmenter({"liver": bright, "tumor": bright})
    pair.records["tumor"] |= {"status": "collapsed", "why": "all of it"}
    scores = Scorer(pair, 7, nominal_spacing=True).score({"validation": store, "test": store})
    (row,) = scores.rows
    assert (row.system, row.phase, row.rule, row.threshold) == ("x", "train", "0.5", 0.5)
    assert (row.cohort, row.target, row.unit, row.case) == ("test", "liver", "whole", case)
    assert (row.assd_mm, row.hausdorff95_mm) == (None, None)
    assert row.tp == (np.asarray(store.label(case)) > 0).sum(), "the liver is at 30 HU and more"
    assert scores.ms_per_slice is not None
    pair.records["tumor"] |= {"status": "ok", "why": ""}
    rows = Scorer(pair, 7, fold=3).score({"validation": store, "test": store}).rows
    assert [(row.target, row.fold) for row in rows] == [("liver", 3), ("tumor", 3)]
    assert rows[0].assd_mm is not None


@pytest.mark.usefixtures("quick_memory")
def test_a_case_shorter_than_the_window_leaves_its_cohort_out(store: Store, case: str) -> None:
    bright = Network(lambda batch: (batch > 0.0) * 0.9)
    pair = make_segmenter({"liver": bright, "tumor": bright}, depth=9)
    scores = Scorer(pair, 7).score({"validation": store, "test": store})
    assert scores.rows == []
    assert scores.gaps == {"test": f"test: {case} has 8 slices, the 3D window takes 9"}


def test_a_cohort_without_slices_is_refused(store: Store) -> None:
    empty = copy.copy(store)
    object.__setattr__(empty, "split", {**store.split, "slices": {"validation": {}}})
    with pytest.raises(InputError, match="no slice in its validation set"):
        Scorer(Oracle(store), 7).score_slices({"validation": empty})


def test_kept_label_maps_give_the_same_counts_again(
    store: Store, case: str, tmp_path: Path
) -> None:
    rows = store.cases[case]["liver_rows"]
    scores = score_case(Oracle(store), store, case, rows, whole=True, maps_folder=tmp_path)
    (maps,) = scoring.read_maps(store, [scores], tmp_path)
    assert scoring.count_options(maps) == scores.options
