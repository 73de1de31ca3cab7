"""Overlaps and LiTS figures whatever the shapes: against MedPy, and by their properties."""

from __future__ import annotations

import numpy as np
import pytest
from medpy.metric import binary as medpy
from scipy.ndimage import gaussian_filter

from evaluation.metrics.counts import Counts, rvd, voe
from evaluation.metrics.lits import (
    MODES,
    SHAPE_SCORES,
    Figures,
    pool_cases,
    score_case,
    score_shape,
)

SPACING = (2.5, 0.8, 0.7)
OVERLAPS = ("dice", "jaccard", "voe", "rvd")
IN_MM = ("assd", "rmsd", "msd")
SEEDS = pytest.mark.parametrize("seed", range(6))


def make_masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = (gaussian_filter(rng.normal(size=(14, 16, 15)), 1.5) > 0.03 * n for n in (1, 2))
    return first, second


def make_labels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(prediction, reference): a liver with some 10 lesions, the same moved, with others."""
    rng = np.random.default_rng(seed)
    reference, other = (
        np.where(gaussian_filter(rng.normal(size=(14, 20, 18)), 1.2) > 0.13, 2, 1) for _ in range(2)
    )
    prediction = np.roll(reference, 1, axis=0)
    prediction[:, 10:] = other[:, 10:]
    for volume in (prediction, reference):
        volume[:2] = 0
    return prediction.astype(np.uint8), reference.astype(np.uint8)


def score_lits(
    prediction: np.ndarray, reference: np.ndarray, mode: str, spacing: tuple[float, ...] = SPACING
) -> Figures:
    return pool_cases([score_case(prediction, reference, spacing, mode)])


def is_mm(name: str) -> bool:
    return name.endswith(IN_MM)


@SEEDS
def test_overlaps_agree_with_medpy(seed: int) -> None:
    prediction, reference = make_masks(seed)
    scores, counts = score_shape(prediction, reference, SPACING), Counts.of(prediction, reference)
    assert scores["dice"] == pytest.approx(medpy.dc(prediction, reference))
    assert scores["jaccard"] == pytest.approx(medpy.jc(prediction, reference))
    assert scores["voe"] == voe(counts) == pytest.approx(1 - medpy.jc(prediction, reference))
    assert scores["rvd"] == rvd(counts) == pytest.approx(medpy.ravd(prediction, reference))
    assert scores["assd"] == pytest.approx(
        medpy.assd(prediction, reference, SPACING, connectivity=2)
    )
    assert scores["msd"] == pytest.approx(medpy.hd(prediction, reference, SPACING, connectivity=2))


@SEEDS
def test_symmetry(seed: int) -> None:
    prediction, reference = make_masks(seed)
    forward = score_shape(prediction, reference, SPACING)
    backward = score_shape(reference, prediction, SPACING)
    for name in SHAPE_SCORES:
        if name != "rvd":
            assert forward[name] == pytest.approx(backward[name])
    # sizes P and R: (P / R) (R / P) = 1
    counts = Counts.of(prediction, reference), Counts.of(reference, prediction)
    assert (1 + (rvd(counts[0]) or 0)) * (1 + (rvd(counts[1]) or 0)) == pytest.approx(1)


@SEEDS
def test_axes_places_and_spacing(seed: int) -> None:
    prediction, reference = make_masks(seed)
    expected = score_shape(prediction, reference, SPACING)
    turned = [np.flip(mask.transpose(2, 0, 1), 1) for mask in (prediction, reference)]
    assert score_shape(*turned, (0.7, 2.5, 0.8)) == pytest.approx(expected)
    inside = [np.pad(mask, 1) for mask in (prediction, reference)]
    moved = [np.pad(mask, ((4, 1), (1, 3), (2, 5))) for mask in (prediction, reference)]
    assert score_shape(*moved, SPACING) == pytest.approx(score_shape(*inside, SPACING))
    wider = score_shape(prediction, reference, tuple(3 * mm for mm in SPACING))
    for name in SHAPE_SCORES:
        assert wider[name] == pytest.approx((3 if name in IN_MM else 1) * (expected[name] or 0))


@SEEDS
def test_bounds(seed: int) -> None:
    scores = {name: value or 0.0 for name, value in score_shape(*make_masks(seed), SPACING).items()}
    assert 0 < scores["jaccard"] <= scores["dice"] < 1
    assert scores["dice"] == pytest.approx(2 * scores["jaccard"] / (1 + scores["jaccard"]))
    assert scores["voe"] == pytest.approx(1 - scores["jaccard"])
    assert scores["rvd"] > -1
    assert 0 < scores["assd"] <= scores["rmsd"] <= scores["msd"]


def test_perfect_and_disjoint_masks() -> None:
    mask, other = np.zeros((2, 4, 5, 6), bool)
    mask[0, 0:2, 0] = True
    other[0, 0:4, 3] = True  # 3 columns of 0.7 mm away, and two rows of 0.8 mm more
    perfect = dict.fromkeys(SHAPE_SCORES, 0) | {"dice": 1, "jaccard": 1}
    assert score_shape(mask, mask, SPACING) == perfect
    found = score_shape(mask, other, SPACING)
    assert {name: found[name] for name in OVERLAPS} == {
        "dice": 0,
        "jaccard": 0,
        "voe": 1,
        "rvd": -0.5,
    }
    far = [(2.1**2 + (0.8 * n) ** 2) ** 0.5 for n in (1, 2)]
    assert [found[name] for name in IN_MM] == pytest.approx(
        [(4 * 2.1 + sum(far)) / 6, ((4 * 2.1**2 + far[0] ** 2 + far[1] ** 2) / 6) ** 0.5, far[1]]
    )


@SEEDS
@pytest.mark.parametrize("mode", MODES)
def test_spacing_changes_the_lits_figures_in_mm_alone(seed: int, mode: str) -> None:
    prediction, reference = make_labels(seed)
    once, thrice = (
        score_lits(prediction, reference, mode, tuple(n * mm for mm in SPACING)) for n in (1, 3)
    )
    for name, value in once.items():
        factor = 3 if is_mm(name) and value != 9001 else 1
        assert thrice[name] == pytest.approx(factor * (value or 0)), name


@SEEDS
def test_axes_and_mirrors_do_not_change_the_corrected_figures(seed: int) -> None:
    prediction, reference = make_labels(seed)
    turned = [np.flip(volume.transpose(2, 0, 1), (0, 2)) for volume in (prediction, reference)]
    expected = score_lits(prediction, reference, "corrected")
    assert expected["lesion_recall"] not in (0, 1)  # there is something to match
    assert score_lits(*turned, "corrected", (0.7, 2.5, 0.8)) == pytest.approx(expected)


@SEEDS
def test_exchanging_the_two_exchanges_precision_and_recall(seed: int) -> None:
    prediction, reference = make_labels(seed)
    forward = score_lits(prediction, reference, "corrected")
    backward = score_lits(reference, prediction, "corrected")
    for which in ("", "_greater_zero"):
        assert forward[f"lesion_precision{which}"] == backward[f"lesion_recall{which}"]
    for name in forward:
        if not name.endswith(
            ("rvd", "precision", "recall", "greater_zero", "MAXERROR_Tumorburden")
        ):
            assert forward[name] == pytest.approx(backward[name]), name
    assert forward["MAXERROR_Tumorburden"] == pytest.approx(
        -(backward["MAXERROR_Tumorburden"] or 0)
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_perfect_and_a_disjoint_prediction(mode: str) -> None:
    _, reference = make_labels(0)
    perfect = score_lits(reference, reference, mode)
    for name, value in perfect.items():
        best = 0 if is_mm(name) or name.endswith(("voe", "rvd", "Tumorburden")) else 1
        assert value == best, name
    disjoint = np.where(reference == 2, 1, reference)
    disjoint[reference == 0] = 2
    found = score_lits(disjoint, reference, mode)
    for name in (
        "lesion_precision",
        "lesion_recall",
        "lesion_dice",
        "lesion_dice_per_case",
        "lesion_dice_global",
    ):
        assert found[name] == 0
    assert (found["lesion_voe"], found["lesion_assd"]) == (1, 9001)
