"""What becomes of probabilities: the argmax rule, curves, the blind score, the choice of slices to show."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from data.command import InputError
from data.store import Store
from evaluation import evaluate
from evaluation.evaluate import blind_tumor_iou
from evaluation.examples import rank
from evaluation.metrics.roc import ProbabilityHistogram
from evaluation.postprocess import NONE, OPTIONS
from evaluation.scoring import CaseScores, curve, most_probable, score_case
from evaluation.systems import System
from evaluation.whole_cases import components_rand_index, whole_case_rows

THRESHOLDS = {"0.5": 0.5, "roc": 0.3, "iou": 0.6}


def test_most_probable_class_by_hand() -> None:
    classes = np.array(
        [[0.5, 0.3, 0.2], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3], [0.375, 0.25, 0.375]]
    )
    liver, tumor = 1 - classes[:, 0], classes[:, 2]
    # The last is a tie of other and tumor: the first class wins, as np.argmax does.
    np.testing.assert_array_equal(most_probable(liver, tumor), [0, 1, 2, 0, 0])


@pytest.mark.parametrize("positive", [False, True])
def test_a_cohort_of_one_class_has_no_curve_and_no_area(positive: bool) -> None:
    histogram = ProbabilityHistogram()
    histogram.add(np.array([0.1, 0.4, 0.9]), np.full(3, positive))
    system = System("one_step", "ce", {"one_step": {"thresholds": {"tumor": THRESHOLDS}}}, {})
    made = curve(system, "external", "tumor", histogram)
    assert (made["full"], made["restricted"], made["auc"], made["rauc"]) == (None, None, None, None)
    assert made["points"]["roc"]["tpr"] == (pytest.approx(2 / 3) if positive else None)


def case(
    cohort: str, target: str, tp: int, fn: int, model: str = "one_step", rule: str = "0.5"
) -> dict[str, Any]:
    key = {"cohort": cohort, "model": model, "loss": "ce", "target": target, "threshold_rule": rule}
    return {**key, "tp": tp, "fn": fn}


def test_blind_tumor_iou_by_hand() -> None:
    rows = [
        case("test", "liver", 60, 20),
        case("test", "tumor", 1, 3),
        case("test", "liver", 20, 0),
    ]
    rows += [
        case("test", "tumor", 0, 1),
        case("external", "liver", 0, 0),
        case("external", "tumor", 0, 0),
    ]
    other = [{**row, "model": "sequential"} for row in rows] + [
        {**row, "threshold_rule": "roc"} for row in rows
    ]
    assert blind_tumor_iou([*rows, *other]) == {"test": 5 / 100}


def test_slices_are_ranked_by_tumor_iou_among_those_that_hold_tumor() -> None:
    def one(row: int, iou: float, tp: int, fn: int, **change: Any) -> dict[str, Any]:
        key = {
            "cohort": "test",
            "target": "tumor",
            "model": "sequential",
            "loss": "ce",
            "case": "volume-1",
        }
        return {**key, "row": row, "iou": iou, "tp": tp, "fn": fn, **change}

    slices = [
        one(0, 0.2, 1, 4),
        one(1, 0.9, 9, 1),
        one(2, 1.0, 0, 0),
        one(3, 0.0, 0, 5),
        one(4, 0.5, 3, 1),
    ]
    slices += [
        one(5, 0.95, 9, 1, **change)
        for change in ({"target": "liver"}, {"cohort": "external"}, {"loss": "x"})
    ]
    slices += [one(6, 0.99, 9, 1, model="one_step")]
    assert [row["row"] for row in rank(slices, "sequential", "ce")] == [1, 4, 0, 3]
    assert rank(slices, "one_step", "balanced") == []


class Oracle(System):
    """A one-step model that answers the reference, or NaN."""

    def __init__(self, answer: np.ndarray) -> None:
        thresholds = dict.fromkeys(("liver", "tumor"), THRESHOLDS)
        record = {"one_step": {"status": "ok", "why": "", "thresholds": thresholds}}
        super().__init__("one_step", "ce", record, {})
        object.__setattr__(self, "answer", answer)

    def probabilities(self, all_slices: Any, wanted: Any) -> Any:
        for labels in self.answer:
            yield (labels > 0).astype(np.float32), (labels == 2).astype(np.float32)


def test_a_perfect_model_has_perfect_scores_of_every_kind(store: Store) -> None:
    case = store.cases_of("test")[0]
    rows = store.cases[case]["liver_rows"]
    kept = score_case(Oracle(np.asarray(store.label(case))), store, case, rows, whole=True)
    assert kept.n_predicted == len(store.label(case)) > len(rows)
    for target in ("liver", "tumor"):
        assert kept.histograms[target].auc() == 1
        assert [counts.fp + counts.fn for counts in kept.slices[target]] == [0] * len(rows)
    assert {row["kind"] for row in kept.lesions} == {"lesion"}
    assert all(row["iou"] == 1 for row in kept.lesions)
    for volume in kept.volumes:
        assert (volume["dice"], volume["voe"], volume["rvd"], volume["hausdorff95_mm"]) == (
            1,
            0,
            0,
            0,
        )
        assert volume["burden_percent"] == volume["reference_burden_percent"]
    for figures in kept.lits.values():
        assert (figures.lesion_dice, figures.liver_dice, figures.burden_difference) == (1, 1, 0)
        assert figures.hits == figures.n_reference == figures.n_prediction == len(kept.lesions)
    # by hand: 3 slices with tumor, apart, of pi 10 pixels of 0.8 x 0.8 x 2.5 mm (29 pixels: 46.4 mm3, 4.46 mm)
    assert [row["voxels"] for row in kept.lesions] == [29] * 3
    assert [row["diameter_mm"] for row in kept.lesions] == [4.46] * 3


def test_table_1_counts_its_slices_and_volumes_count_them_all(store: Store) -> None:
    """A model that finds nothing but one voxel of tumor, in a slice that Table 1 is not about."""
    case = store.cases_of("test")[0]
    label = np.asarray(store.label(case))
    rows = store.cases[case]["liver_rows"][:2]
    other = store.cases[case]["tumor_rows"][-1]
    assert other not in rows
    answer = np.zeros_like(label)
    place = (other, *np.argwhere(label[other] == 2)[0])
    answer[place] = 2
    kept = score_case(Oracle(answer), store, case, rows, whole=True)
    scored = kept.histograms["tumor"]
    assert int(scored.positive.sum() + scored.negative.sum()) == label[rows].size
    assert all(counts.tp + counts.fp == 0 for counts in kept.slices["tumor"])
    tumors = int((label == 2).sum())
    assert kept.volumes[1]["dice"] == pytest.approx(2 / (1 + tumors))
    assert kept.volumes[1]["rvd"] == pytest.approx(1 / tumors - 1)
    assert [row["touched"] for row in kept.lesions].count(True) == 1
    in_part = score_case(Oracle(answer[rows]), store, case, rows)
    assert (in_part.volumes, in_part.lesions, in_part.lits) == ([], [], {})
    assert in_part.slices == kept.slices


def test_volumes_by_hand() -> None:
    """Liver of 8 voxels in the reference, 4 of them tumor; the prediction has 6 and 2. A voxel has 1 x 2 x 3 mm."""
    reference = np.zeros((2, 4, 4), np.uint8)
    reference[0, :2, :2], reference[0, :2, 2:] = 1, 2
    prediction = reference.copy()
    prediction[0, 1, :2] = 0
    prediction[0, 1, 2:] = 1
    liver, tumor = whole_case_rows(prediction, reference, (1.0, 2.0, 3.0))
    assert (liver["target"], tumor["target"]) == ("liver", "tumor")
    assert (liver["prediction_ml"], liver["reference_ml"]) == (0.036, 0.048)
    assert (liver["iou"], liver["voe"], liver["rvd"]) == (6 / 8, 2 / 8, 6 / 8 - 1)
    assert (tumor["dice"], tumor["sensitivity"], tumor["precision"]) == (4 / 6, 0.5, 1)
    assert (liver["specificity"], tumor["specificity"]) == (1, 1)
    assert (tumor["burden_percent"], tumor["reference_burden_percent"]) == (100 * 2 / 6, 50)
    # Both masks are all surface; the second row of the reference lies one row, 2 mm, away from the first.
    assert (tumor["hausdorff_mm"], tumor["assd_mm"]) == (2, round(2 * 2 / 6, 4))
    nothing = whole_case_rows(np.zeros_like(reference), reference, (1.0, 1.0, 1.0))
    assert [row["assd_mm"] for row in nothing] == [None, None]
    assert (nothing[0]["rvd"], nothing[0]["burden_percent"]) == (-1, None)
    assert whole_case_rows(reference, np.zeros_like(reference), (1.0, 1.0, 1.0))[1]["rvd"] is None
    # 32 voxels; 30 stay in their part (24 others and the 6 found), 2 change from the liver to the others.
    assert liver["components_rand_index"] == pytest.approx(1 - 2 * 30 / (32 * 31 / 2))
    assert components_rand_index(np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2), bool)) == 1


def test_the_rand_index_of_regions_falls_when_two_are_merged() -> None:
    two = np.array([[[1, 1, 0, 1, 1, 0, 0, 0]]], bool)
    merged = np.array([[[1, 1, 1, 1, 1, 0, 0, 0]]], bool)
    # Pairs that disagree: 4 between the two regions, the pixel between them with these 4 and with the 3 outside.
    assert components_rand_index(merged, two) == pytest.approx(1 - 11 / 28)


def test_a_probability_that_is_nan_is_one_line(store: Store) -> None:
    case = store.cases_of("test")[0]

    class Broken(Oracle):
        def probabilities(self, all_slices: Any, wanted: Any) -> Any:
            yield np.full((2, 2), np.nan), np.zeros((2, 2))

    with pytest.raises(InputError, match=rf"one_step_ce: a probability of {case}, slice 1 is NaN"):
        score_case(Broken(np.zeros(0)), store, case, [1])


def test_post_processing_is_chosen_on_validation_data_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was split by slice with an external cohort by patient: nothing was chosen, so nothing is applied."""
    by_slice = copy.copy(store)
    object.__setattr__(by_slice, "split", {**store.split, "by": "slice"})
    seen: list[tuple[str, bool, Any]] = []

    def scored(
        system: System, of: Store, name: str, whole: bool, chosen: Any, keep: Any
    ) -> list[CaseScores]:
        seen.append((name, whole, chosen))
        case = of.cases_of("test")[0]
        answer = np.asarray(of.label(case))
        rows = of.cases[case]["liver_rows"]
        return [
            score_case(
                Oracle(answer if whole else answer[rows]), of, case, rows, whole, chosen, keep
            )
        ]

    monkeypatch.setattr(evaluate, "score_cohort", scored)
    monkeypatch.setattr(evaluate, "prediction_memory", lambda *_: 300.0)
    for cohorts, wanted in (
        ({"validation": by_slice, "test": by_slice, "external": store}, [False, False, True]),
        ({"validation": store, "test": store}, [True, True]),
    ):
        tables: dict[str, list[Any]] = {
            name: [] for name in ("rows", *evaluate.CSV_FILES, "lits", "curves", "systems")
        }
        evaluate.score_system(Oracle(np.zeros(0)), cohorts, tables)
        assert [whole for _, whole, _ in seen] == wanted
        assert tables["systems"][-1]["postprocess"] == []
        assert {row["option"] for row in tables["postprocess"] if row["cohort"] == "external"} <= {
            NONE,
            *OPTIONS,
        }
        assert seen[-1][2] == (None if len(wanted) == 3 else ())
        seen.clear()
