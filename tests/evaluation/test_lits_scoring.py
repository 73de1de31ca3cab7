"""The LiTS figures: equal to the published script's on its own outputs, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.check_official import compare
from evaluation.lesions import find_lesions, match_official, match_once
from evaluation.lits_scoring import HALF, INFINITE, SHAPE_SCORES, lesion_f1, score_case, total
from tests.conftest import Command

SETS = Path(__file__).parent / "lits_sets"  # a part of the published script's outcomes on random shapes
CONTENT: dict[str, Any] = json.loads((SETS / "public.json").read_text())
VOLUMES = np.load(SETS / "public.npz")
ONES = (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", CONTENT["sets"])
def test_all_figures_equal_those_of_the_published_script(name: str) -> None:
    (outcome,) = compare({name: CONTENT["sets"][name]}, VOLUMES)
    assert outcome.different == []
    assert outcome.agrees


@pytest.mark.parametrize("name", [name for name, content in CONTENT["sets"].items() if "text" in content])
def test_every_case_equals_what_the_script_found(name: str) -> None:
    for case in CONTENT["sets"][name]["cases"]:
        reference, prediction = (VOLUMES[f"{name}/{case['key']}/{kind}"] for kind in ("ref", "pred"))
        found, figures = case["found"], score_case(prediction, reference, tuple(case["spacing"]))
        counts = [figures.n_reference, figures.n_prediction, figures.hits, figures.hits_any]
        assert counts == [found[key] for key in ("n_ref", "n_pred", "tp", "tp_greater_zero")]
        assert match_official(find_lesions(prediction, reference), HALF).kept == found["kept"]
        if found["lesion"] is not None:
            for key in SHAPE_SCORES:
                assert [one[key] for one in figures.lesions] == pytest.approx(found["lesion"][key], rel=1e-12)
        assert figures.lesion_dice == pytest.approx(found["lesion_dice_per_case"], rel=1e-12)
        assert figures.burden_difference == pytest.approx(found["burden_difference"], rel=1e-12)


def test_the_names_are_those_of_scores_txt() -> None:
    case = score_case(np.ones((2, 2, 2), np.uint8), np.ones((2, 2, 2), np.uint8), ONES)
    assert list(total([case])) == CONTENT["metrics"]
    with pytest.raises(ValueError, match="at least one case"):
        total([])


def scene() -> tuple[np.ndarray, np.ndarray]:
    """(prediction, reference): a liver of 1 x 4 x 10 with lesions, of 2 voxels each, in columns 1, 4 and 7."""
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
        assert (figures.n_reference, figures.n_prediction, figures.hits, figures.hits_any) == (3, 3, 2, 2)
        assert sorted(one["dice"] for one in figures.lesions) == pytest.approx([4 / 5, 1])
        assert sorted(one["rvd"] for one in figures.lesions) == pytest.approx([0, 0.5])
        # the third voxel of one lesion lies 2 mm from the reference, the five others at 0
        assert sorted(one["assd"] for one in figures.lesions) == pytest.approx([0, 2 / 5])
        assert figures.lesion_dice == pytest.approx(2 * 4 / (7 + 6))
        assert figures.burden_difference == pytest.approx(6 / 40 - 7 / 40)
        assert total([figures])["lesion_recall"] == pytest.approx(2 / 3)
        assert lesion_f1([figures]) == {"lesion_f1": 4 / 6, "lesion_f1_greater_zero": 4 / 6}


def test_one_prediction_across_three_lesions() -> None:
    """The script subtracts a hit for each merged reference: minus two. Matched once: a hit at IoU > 0, none at 0.5."""
    prediction, reference = scene()
    prediction[0, 1:3, 1:8] = 2  # 14 voxels, 6 of them right
    official = score_case(prediction, reference, ONES, "official")
    corrected = score_case(prediction, reference, ONES, "corrected")
    assert (official.hits, official.hits_any) == (-2, 1)
    assert (corrected.hits, corrected.hits_any) == (0, 1)
    assert total([corrected])["lesion_precision"] == 0


def test_each_lesion_is_matched_at_most_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        prediction, reference = (rng.choice(3, (6, 8, 8), p=(0.2, 0.4, 0.4)).astype(np.uint8) for _ in range(2))
        lesions = find_lesions(prediction, reference)
        for threshold in (0.0, 0.5):
            matching = match_once(lesions, threshold)
            assert 0 <= matching.hits <= min(lesions.n_prediction, lesions.n_reference)
            assert matching.hits == len(matching.kept)
        assert match_once(lesions, 0.5).hits == np.count_nonzero(lesions.iou > 0.5)


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
            official = [score_case(*volumes, spacing, "official").hits for volumes in (pair, mirrored)]
            changed += official[0] != official[1]
            figures = [score_case(*volumes, spacing, "corrected") for volumes in (pair, mirrored)]
            assert figures[0].hits == figures[1].hits
            for key in SHAPE_SCORES:
                values = [sorted(one[key] for one in figure.lesions) for figure in figures]
                assert values[0] == pytest.approx(values[1])
    assert changed > 0


def test_what_is_empty() -> None:
    prediction, reference = scene()
    no_lesion = np.ones_like(reference)
    assert score_case(no_lesion, no_lesion, ONES).lesion_dice == 1
    assert lesion_f1([score_case(no_lesion, no_lesion, ONES)])["lesion_f1"] == 1
    assert score_case(no_lesion, reference, ONES).lesion_dice == 0
    assert score_case(reference, no_lesion, ONES).lesion_dice == 0
    nothing = score_case(np.zeros_like(reference), reference, ONES)
    assert nothing.liver == dict(zip(SHAPE_SCORES, (0, 0, 1, *[INFINITE] * 4), strict=True))
    assert nothing.burden_difference == pytest.approx(6 / 40 - INFINITE)
    assert total([nothing])["lesion_assd"] == INFINITE
    only_lesion = np.where(reference == 2, 2, 0)  # label 1 nowhere: no liver to the script, a small one in fact
    assert score_case(only_lesion, reference, ONES, "official").liver["dice"] == 0
    assert score_case(only_lesion, reference, ONES, "corrected").liver["dice"] == pytest.approx(12 / 46)
    for wrong, rule in ((np.zeros_like(reference), "must hold liver"), (reference[:, :2], "one shape")):
        with pytest.raises(ValueError, match=rule):
            score_case(prediction, wrong, ONES)
    with pytest.raises(ValueError, match="official, corrected"):
        score_case(prediction, reference, ONES, "other")


def test_the_script_that_shows_it(run_module: Command, tmp_path: Path) -> None:
    done = run_module("evaluation.check_official", "--sets", SETS)
    assert done.returncode == 0, done.stderr
    assert "43 of 43 sets equal in all 24 figures; 3 that it cannot score" in done.stdout
    assert run_module("evaluation.check_official", "--sets", tmp_path).returncode == 2
