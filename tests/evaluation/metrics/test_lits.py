"""The LiTS figures: equal to the published script's on its own outputs, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.metrics.lesions import find_lesions, match_official
from evaluation.metrics.lits import (
    HALF,
    INFINITE,
    MODES,
    SHAPE_SCORES,
    compute_lesion_f1,
    pool_cases,
    score_case,
    score_shape,
)
from tests.benchmarks.official_lits import compare

SETS = (
    Path(__file__).parent / "lits_sets"
)  # a part of the published script's outcomes on random shapes
CONTENT: dict[str, Any] = json.loads((SETS / "public.json").read_text())
VOLUMES = np.load(SETS / "public.npz")
ONES = (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", CONTENT["sets"])
def test_all_figures_equal_those_of_the_published_script(name: str) -> None:
    (outcome,) = compare({name: CONTENT["sets"][name]}, VOLUMES)
    assert outcome.different == []
    assert outcome.agrees


@pytest.mark.parametrize(
    "name", [name for name, content in CONTENT["sets"].items() if "text" in content]
)
def test_every_case_equals_what_the_script_found(name: str) -> None:
    for case in CONTENT["sets"][name]["cases"]:
        reference, prediction = (
            VOLUMES[f"{name}/{case['key']}/{kind}"] for kind in ("ref", "pred")
        )
        found, figures = case["found"], score_case(prediction, reference, tuple(case["spacing"]))
        counts = [figures.n_reference, figures.n_prediction, figures.hits, figures.hits_any]
        assert counts == [found[key] for key in ("n_ref", "n_pred", "tp", "tp_greater_zero")]
        assert match_official(find_lesions(prediction, reference), HALF).numbers == found["kept"]
        if found["lesion"] is not None:
            for key in SHAPE_SCORES:
                assert [one[key] for one in figures.lesions] == pytest.approx(
                    found["lesion"][key], rel=1e-12
                )
        assert figures.lesion_dice == pytest.approx(found["lesion_dice_per_case"], rel=1e-12)
        assert figures.burden_difference == pytest.approx(found["burden_difference"], rel=1e-12)


def test_the_names_are_those_of_scores_txt() -> None:
    case = score_case(np.ones((2, 2, 2), np.uint8), np.ones((2, 2, 2), np.uint8), ONES)
    assert list(pool_cases([case])) == CONTENT["metrics"]
    with pytest.raises(ValueError, match="at least one case"):
        pool_cases([])


def scene() -> tuple[np.ndarray, np.ndarray]:
    """(prediction, reference): a liver of 1 x 4 x 10, lesions of 2 voxels in columns 1, 4, 7."""
    reference = np.ones((1, 4, 10), np.uint8)
    prediction = reference.copy()
    for column in (1, 4, 7):
        reference[0, 1:3, column] = 2
    return prediction, reference


def test_lesions_by_hand() -> None:
    prediction, reference = scene()
    prediction[0, 1:3, 1] = 2  # exact
    prediction[0, 1:4, 4] = 2  # IoU 2 / 3
    prediction[0, 2:4, 9] = 2  # nothing there
    for mode in ("official", "corrected"):
        figures = score_case(prediction, reference, (1.0, 2.0, 3.0), mode)
        assert (figures.n_reference, figures.n_prediction, figures.hits, figures.hits_any) == (
            3,
            3,
            2,
            2,
        )
        assert sorted(one["dice"] for one in figures.lesions) == pytest.approx([4 / 5, 1])
        assert sorted(one["rvd"] for one in figures.lesions) == pytest.approx([0, 0.5])
        # the third voxel of one lesion lies 2 mm from the reference, the five others at 0
        assert sorted(one["assd"] for one in figures.lesions) == pytest.approx([0, 2 / 5])
        assert figures.lesion_dice == pytest.approx(2 * 4 / (7 + 6))
        assert figures.burden_difference == pytest.approx(6 / 40 - 7 / 40)
        assert pool_cases([figures])["lesion_recall"] == pytest.approx(2 / 3)
        assert compute_lesion_f1([figures]) == {"lesion_f1": 4 / 6, "lesion_f1_greater_zero": 4 / 6}


def test_one_prediction_across_three_lesions() -> None:
    """The script subtracts a hit for each merged reference: -2. Matched once: a hit at IoU > 0."""
    prediction, reference = scene()
    prediction[0, 1:3, 1:8] = 2  # 14 voxels, 6 of them right
    official = score_case(prediction, reference, ONES, "official")
    corrected = score_case(prediction, reference, ONES, "corrected")
    assert (official.hits, official.hits_any) == (-2, 1)
    assert (corrected.hits, corrected.hits_any) == (0, 1)
    assert pool_cases([corrected])["lesion_precision"] == 0


def test_mirroring_changes_only_the_official_figures() -> None:
    """The script's matching depends on the numbers of the lesions; the corrected one does not."""
    changed = 0
    for name, content in CONTENT["sets"].items():
        if "error" in content:
            continue
        for case in content["cases"]:
            pair = [VOLUMES[f"{name}/{case['key']}/{kind}"] for kind in ("pred", "ref")]
            spacing = tuple(case["spacing"])
            mirrored = [volume[::-1, :, ::-1] for volume in pair]
            official = [
                score_case(*volumes, spacing, "official").hits for volumes in (pair, mirrored)
            ]
            changed += official[0] != official[1]
            figures = [score_case(*volumes, spacing, "corrected") for volumes in (pair, mirrored)]
            assert figures[0].hits == figures[1].hits
            for key in SHAPE_SCORES:
                values = [sorted(one[key] for one in figure.lesions) for figure in figures]
                assert values[0] == pytest.approx(values[1])
    assert changed > 0


NOT_FOUND = (0, 0, 1, *[INFINITE] * 4)
# (lesions in the reference, in the prediction): precision, recall, dice per case, dice global, F1,
# scores of the shapes
RULE: dict[str, dict[tuple[bool, bool], Any]] = {
    "official": {
        (False, False): (0, 0, 1, 0, 1, NOT_FOUND),
        (False, True): (0, 0, 0, 0, 0, NOT_FOUND),
        (True, False): (0, 0, 0, 0, 0, NOT_FOUND),
        (True, True): (1, 1, 1, 1, 1, (1, 1, 0, 0, 0, 0, 0)),
    },
    "corrected": {
        (False, False): (1, 1, 1, 1, 1, (1, 1, 0, 0, None, None, None)),
        (False, True): (0, 1, 0, 0, 0, NOT_FOUND),
        (True, False): (1, 0, 0, 0, 0, NOT_FOUND),
        (True, True): (1, 1, 1, 1, 1, (1, 1, 0, 0, 0, 0, 0)),
    },
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_the_rule_for_empty_masks(mode: str, there: bool, drawn: bool) -> None:
    """The table of evaluation.metrics.counts, and what the script says instead."""
    without, lesions = scene()
    case = score_case(lesions if drawn else without, lesions if there else without, ONES, mode)
    precision, recall, per_case, whole, f1, shapes = RULE[mode][there, drawn]
    figures = pool_cases([case])
    for which in ("", "_greater_zero"):
        assert figures[f"lesion_precision{which}"] == precision
        assert figures[f"lesion_recall{which}"] == recall
        assert compute_lesion_f1([case])[f"lesion_f1{which}"] == f1
    assert (figures["lesion_dice_per_case"], figures["lesion_dice_global"]) == (per_case, whole)
    assert tuple(figures[f"lesion_{name}"] for name in SHAPE_SCORES) == shapes
    assert list(figures) == CONTENT["metrics"]


def test_nothing_to_find_beside_a_case_with_lesions() -> None:
    """A mean is over what is there: the case without lesions adds no match."""
    without, lesions = scene()
    cases = [
        score_case(*pair, ONES, "corrected") for pair in ((without, without), (lesions, lesions))
    ]
    figures = pool_cases(cases)
    assert (figures["lesion_assd"], figures["lesion_dice"], figures["lesion_precision"]) == (
        0,
        1,
        1,
    )
    missed = pool_cases([cases[0], score_case(without, lesions, ONES, "corrected")])
    assert (missed["lesion_assd"], missed["lesion_dice"], missed["lesion_dice_per_case"]) == (
        INFINITE,
        0,
        0.5,
    )


def test_without_a_liver() -> None:
    _, reference = scene()
    for mode in MODES:
        nothing = score_case(np.zeros_like(reference), reference, ONES, mode)
        assert nothing.liver == dict(zip(SHAPE_SCORES, NOT_FOUND, strict=True))
        assert (nothing.liver_dice, nothing.burden_difference) == (
            0,
            pytest.approx(6 / 40 - INFINITE),
        )
        with pytest.raises(ValueError, match="must hold liver"):
            score_case(reference, np.zeros_like(reference), ONES, mode)
        with pytest.raises(ValueError, match="must hold liver"):
            score_case(np.zeros_like(reference), np.zeros_like(reference), ONES, mode)
    only_lesion = np.where(
        reference == 2, 2, 0
    )  # label 1 nowhere: no liver to the script, a small one in fact
    assert score_case(only_lesion, reference, ONES, "official").liver["dice"] == 0
    assert score_case(only_lesion, reference, ONES, "corrected").liver["dice"] == pytest.approx(
        12 / 46
    )


def test_refusals() -> None:
    prediction, reference = scene()
    with pytest.raises(ValueError, match="one shape"):
        score_case(prediction, reference[:, :2], ONES)
    with pytest.raises(ValueError, match="official, corrected"):
        score_case(prediction, reference, ONES, "other")
    with pytest.raises(ValueError, match=r"all of one mode, got \['corrected', 'official'\]"):
        pool_cases([score_case(prediction, reference, ONES, mode) for mode in MODES])
    full, empty = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    for pair, which in (
        ((empty, full), "prediction"),
        ((full, empty), "reference"),
        ((empty, empty), "prediction, reference"),
    ):
        with pytest.raises(ValueError, match=f"must not be empty. Empty: {which}$"):
            score_shape(*pair, ONES)
