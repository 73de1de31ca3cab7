"""What is drawn of a cohort's probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.curves import describe_curves
from evaluation.metrics.roc import ProbabilityHistogram


@pytest.mark.parametrize("positive", [False, True])
def test_a_cohort_of_one_class_has_no_curve_and_no_area(positive: bool) -> None:
    histogram = ProbabilityHistogram()
    histogram.add(np.array([0.1, 0.4, 0.9]), np.full(3, positive))
    made = describe_curves(histogram, {"0.5": 0.5, "roc": 0.3})
    assert (made["full"], made["restricted"], made["auc"], made["rauc"]) == (None, None, None, None)
    assert made["points"]["roc"]["tpr"] == (pytest.approx(2 / 3) if positive else None)
