"""The benchmark's case is what it says, and MedPy computes the same figures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from data.command import InputError
from evaluation.metrics.lits import SHAPE_SCORES, score_case, score_shape
from tests.benchmarks.scores import SPACING_MM, make_case, place_lesions, score_by_medpy
from tests.conftest import Command


def test_the_case_has_as_many_lesions_as_asked_for() -> None:
    for lesions, found in ((1, 1), (5, 4), (12, 10)):
        prediction, reference = make_case(100, lesions)
        assert reference.shape == (512, 512, 100)
        assert label(reference == 2)[1] == lesions
        assert label(prediction == 2)[1] == found + -(-lesions // 5)
        case = score_case(prediction, reference, SPACING_MM, "corrected")
        assert (case.n_reference, case.hits, case.hits_any) == (lesions, found, found)


def test_no_room_for_more() -> None:
    with pytest.raises(
        InputError, match=r"--lesions: a liver of 40 slices has no room for so many, \d+ found"
    ):
        place_lesions(np.random.default_rng(0), 40, 500)


def test_medpy_computes_the_same_figures() -> None:
    prediction, reference = np.zeros((2, 9, 9, 9), bool)
    prediction[1:5, 2:6, 2:7] = reference[2:7, 1:6, 3:8] = True
    theirs = score_by_medpy(prediction, reference)
    assert tuple(theirs) == SHAPE_SCORES
    assert theirs == pytest.approx(score_shape(prediction, reference, SPACING_MM))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--lesions", "0"), "argument --lesions: must be a whole number of at least 1"),
        (("--slices", "0"), "argument --slices: must be a whole number of at least 1"),
        (("--slices", "3"), "--lesions: a liver of 3 slices has no room for so many"),
        (("--medpy-lesions", "-1"), "--medpy-lesions -1: must be 0 or more"),
    ],
)
def test_refusals(run_module: Command, flags: tuple[str, ...], message: str) -> None:
    done = run_module("tests.benchmarks.scores", *flags)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert message in done.stderr
