"""Post-processing by hand: what each option changes, and that validation data alone chooses."""

from __future__ import annotations

import numpy as np
import pytest

from data.store import Store
from evaluation.metrics.counts import Counts
from evaluation.postprocess import (
    CHOSEN,
    NONE,
    OPTIONS,
    CaseMaps,
    check_options,
    choose_options,
    combine_options,
    count_options,
    move_contours,
    move_tumor_contour,
    postprocess,
    score_mean_iou,
)
from evaluation.scoring import score_case
from tests.evaluation.oracle import Oracle

MM = (1.0, 1.0, 1.0)


def apply(
    labels: np.ndarray,
    *names: str,
    liver: np.ndarray | None = None,
    spacing_mm: tuple[float, ...] = MM,
) -> np.ndarray:
    given = labels.astype(np.uint8)
    mask = given > 0 if liver is None else liver
    hu = np.zeros(given.shape, np.int16)
    return postprocess(given, mask, hu, spacing_mm, names)  # type: ignore[arg-type]


def test_nothing_asked_for_is_nothing_changed() -> None:
    labels = np.arange(27).reshape(3, 3, 3) % 3
    np.testing.assert_array_equal(apply(labels), labels)


def test_tumor_without_liver_goes() -> None:
    labels = np.array([[[0, 1, 2, 2]]])
    liver = np.array([[[False, True, True, False]]])
    assert apply(labels, "inside_liver", liver=liver).tolist() == [[[0, 1, 2, 0]]]


def test_the_largest_liver_stays_with_its_tumor() -> None:
    assert apply(np.array([[[1, 2, 0, 2, 1, 1]]]), "largest_liver").tolist() == [
        [[0, 0, 0, 2, 1, 1]]
    ]


def test_holes_become_liver_slice_by_slice() -> None:
    ring = np.array([[1, 1, 1, 0], [1, 0, 2, 0], [1, 1, 1, 0]])
    filled = [[1, 1, 1, 0], [1, 1, 2, 0], [1, 1, 1, 0]]
    # The hole is open to the next slice; the liver around it in its own slice is what counts.
    assert apply(np.stack([ring, np.zeros_like(ring)]), "fill_holes").tolist() == [
        filled,
        np.zeros_like(ring).tolist(),
    ]


def test_small_lesions_become_liver() -> None:
    """A sphere of 5 mm has 65.4 mm3: 32 voxels of 2 mm3 are less, 33 are more."""
    labels = np.ones((1, 8, 20), np.uint8)
    labels[0, :4, :8] = 2
    labels[0, 7, 19] = 2
    assert not (apply(labels, "min_lesion", spacing_mm=(2.0, 1.0, 1.0)) == 2).any()
    labels[0, 4, 0] = 2
    kept = apply(labels, "min_lesion", spacing_mm=(2.0, 1.0, 1.0))
    assert int((kept == 2).sum()) == 33
    assert (kept > 0).all()


def test_after_all_options_no_small_lesion_is_left() -> None:
    """The contour grows or shrinks lesions, so the smallest go after it."""
    assert check_options(reversed(OPTIONS)) == tuple(OPTIONS)
    assert tuple(OPTIONS)[-2:] == ("active_contour", "min_lesion")


def test_the_contour_moves_to_the_edge_in_the_image() -> None:
    """A bright liver of radius 12, found 1 voxel too large; its dark tumor, found 1 too small."""
    radius = np.hypot(*(np.indices((9, 40, 40))[1:] - 20))
    radius[[0, 1, 7, 8]] = 99
    truth = (radius < 12).astype(np.uint8) + (radius < 6)
    found = (radius < 13).astype(np.uint8) + (radius < 5)
    hu = np.select([truth == 1, truth == 2], [150.0, 40.0], -80.0)
    moved = move_contours(found, hu)
    for label in (1, 2):
        before, after = ((labels >= label) != (truth >= label) for labels in (found, moved))
        assert before[4].sum() > 30
        assert after[4].sum() == 0, "the slices at both ends are rounded, those between are found"
    assert not move_contours(np.zeros_like(found), hu).any()


def test_options_are_applied_in_one_order_and_unknown_ones_are_refused() -> None:
    assert check_options(["fill_holes", "inside_liver"]) == ("inside_liver", "fill_holes")
    with pytest.raises(
        ValueError, match="unknown post-processing crf; there are inside_liver, largest_liver"
    ):
        check_options(["crf"])


def test_options_are_chosen_by_falling_gain_while_the_score_rises() -> None:
    alone = {
        NONE: 0.60,
        "inside_liver": 0.60,
        "largest_liver": 0.61,
        "fill_holes": 0.65,
        "min_lesion": 0.64,
    }
    alone["active_contour"] = 0.5
    asked = []

    def together(names: tuple[str, ...]) -> float:
        asked.append(names)
        return {("fill_holes", "min_lesion"): 0.63, ("largest_liver", "fill_holes"): 0.66}[names]

    assert combine_options(alone, together) == ("largest_liver", "fill_holes")
    assert asked == [("fill_holes", "min_lesion"), ("largest_liver", "fill_holes")]
    assert combine_options({**alone, NONE: 0.7}, together) == ()


def test_counts_are_of_the_slices_of_table_1_after_options_on_the_whole_case() -> None:
    """The small piece in slice 0 goes because the larger one, in slices 1 and 2, was seen."""
    reference = np.zeros((3, 2, 6), np.uint8)
    reference[:, :, 3:] = 1
    labels = reference.copy()
    labels[0] = 0
    labels[0, 0, 0] = 1
    case = CaseMaps(labels, labels > 0, np.zeros(labels.shape), reference, MM, [0])
    found = count_options(case, chosen=["largest_liver"])
    assert found.keys() == {NONE, "chosen", *OPTIONS}
    assert found[NONE]["liver"] == Counts(tp=0, fp=1, fn=6, tn=5)
    assert (
        found["largest_liver"]["liver"]
        == found["chosen"]["liver"]
        == Counts(tp=0, fp=0, fn=6, tn=6)
    )


def test_validation_cases_are_pooled_for_the_choice() -> None:
    """Filling costs 1 pixel in one case and wins 3 in the other."""

    def counts(tp: int, fp: int, fn: int) -> dict[str, Counts]:
        return {"liver": Counts(tp, fp, fn, 10), "tumor": Counts(0, 0, 0, 10)}

    same = dict.fromkeys(OPTIONS, counts(5, 0, 5))
    first = {**same, NONE: counts(5, 0, 5), "fill_holes": counts(5, 1, 5)}
    second = {**same, NONE: counts(5, 0, 5), "fill_holes": counts(8, 0, 2)}
    assert choose_options([first, second], lambda: []) == ("fill_holes",)
    assert choose_options([first], lambda: []) == ()
    # liver 5 of 10 pixels; the tumor is neither there nor found
    assert score_mean_iou([counts(5, 0, 5)]) == 0.5


def test_a_scored_case_carries_its_options(store: Store) -> None:
    case = store.cases_of("test")[0]
    rows = store.cases[case]["liver_rows"]
    options = score_case(Oracle(store), store, case, rows, whole=True, chosen=()).options
    assert options[NONE] == options["largest_liver"] == options[CHOSEN]
    assert options[NONE]["tumor"].fn == options[NONE]["tumor"].fp == 0
    # Lesions are discs of 29 pixels of 0.8 x 0.8 x 2.5 mm: 46 mm3, a sphere of 5 mm has 65.
    assert options["min_lesion"]["tumor"].tp == 0


def test_the_tumor_contour_moves_the_tumor_alone_towards_the_image() -> None:
    """A tumor found one voxel too narrow on each side grows towards the darker voxels."""
    labels = np.zeros((16, 32, 32), np.uint8)
    labels[2:14, 3:29, 3:29] = 1
    image = np.where(labels > 0, 0.8, 0.75)
    image[4:12, 9:23, 9:23] = 0.3
    truth = image == 0.3
    labels[5:11, 10:22, 10:22] = 2
    moved = move_tumor_contour(labels, image)
    np.testing.assert_array_equal(moved > 0, labels > 0)
    before, after = labels == 2, moved == 2
    assert not (after & ~truth).any()
    assert (after & truth).sum() > 1.2 * before.sum()
    without = np.ones((4, 8, 8), np.uint8)
    np.testing.assert_array_equal(move_tumor_contour(without, np.zeros((4, 8, 8))), without)


def test_what_lies_around_the_liver_misleads_the_tumor_contour() -> None:
    """A correct tumor grows into the liver where most of the box is darker still."""
    labels = np.zeros((16, 32, 32), np.uint8)
    labels[2:14, 8:24, 8:24] = 1
    labels[5:11, 13:19, 13:19] = 2
    image = np.choose(labels, (0.1, 0.7, 0.5))
    moved = move_tumor_contour(labels, image)
    assert (moved == 2).sum() > 1.5 * (labels == 2).sum()
