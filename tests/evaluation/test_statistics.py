"""Intervals and comparisons by patient: against scipy's bootstrap and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, wilcoxon

from evaluation.metrics import Counts, iou, sensitivity
from evaluation.statistics import by_patient, compare, comparisons, interval, with_intervals


def patients(seed: int = 0, n: int = 12, found: float = 0.6) -> dict[str, Counts]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(50, 500, n)
    return {
        f"p{index}": Counts(tp=int(tp), fp=int(rng.integers(0, 80)), fn=int(size - tp), tn=1000)
        for index, (size, tp) in enumerate(zip(sizes, rng.binomial(sizes, found), strict=True))
    }


def test_the_interval_is_that_of_scipy_over_patients() -> None:
    given = patients()
    found = interval(given, iou, draws=4000)
    table = np.array([[c.tp, c.fp, c.fn] for c in given.values()], float)

    def pooled(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
        return tp.sum(axis) / (tp.sum(axis) + fp.sum(axis) + fn.sum(axis))

    theirs = bootstrap(
        tuple(table.T), pooled, paired=True, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(pooled(*table.T))
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert found.low is not None
    assert found.low < found.value < found.high  # type: ignore[operator]
    assert interval(given, iou) == interval(given, iou)


def test_equal_patients_have_no_spread_and_few_have_no_interval() -> None:
    one = Counts(tp=5, fp=3, fn=2, tn=0)
    same = interval({"a": one, "b": one, "c": one}, iou)
    assert (same.value, same.low, same.high, same.n_patients) == (0.5, 0.5, 0.5, 3)
    assert interval({"a": one, "b": one}, iou).low is None
    with pytest.raises(ValueError, match="at least one patient"):
        interval({}, iou)


def test_slices_and_volumes_of_a_patient_count_once() -> None:
    rows = [
        {"patient": "a", "tp": "1", "fp": "2", "fn": "3", "tn": "4"},
        {"patient": "a", "tp": "10", "fp": "20", "fn": "30", "tn": "40"},
        {"patient": "b", "tp": "5", "fp": "0", "fn": "0", "tn": "0"},
    ]
    assert by_patient(rows) == {"a": Counts(11, 22, 33, 44), "b": Counts(5, 0, 0, 0)}


def test_a_clearly_better_model_is_seen() -> None:
    first, second = patients(found=0.9), patients(found=0.4)
    found = compare(first, second, sensitivity)
    assert found.difference.low is not None
    assert found.difference.low > 0
    assert (found.better, found.worse) == (12, 0)
    # all 12 differences of one sign: 2 of the 2^12 equally likely assignments of signs
    assert found.p_value == pytest.approx(2 / 2**12)
    each = [sensitivity(first[name]) - sensitivity(second[name]) for name in first]
    assert found.p_value == wilcoxon(each).pvalue


def test_a_model_against_itself_and_against_other_patients() -> None:
    same = compare(patients(), patients(), iou)
    assert (same.difference.value, same.difference.low, same.difference.high) == (0, 0, 0)
    assert (same.p_value, same.better, same.worse) == (None, 0, 0)
    few = {"a": Counts(tp=1), "b": Counts(fn=1)}
    assert compare(few, few, iou).p_value is None
    with pytest.raises(ValueError, match="same patients"):
        compare(few, {"a": Counts(tp=1)}, iou)


def test_rows_of_table_1_and_pairs_of_systems() -> None:
    head = {"cohort": "test", "target": "tumor", "threshold_rule": "roc"}
    systems = {("one_step", "ce"): 0.4, ("sequential", "ce"): 0.8, ("sequential", "balanced"): 0.6}
    cases = [
        {**head, "model": model, "loss": loss, "patient": name, "tp": c.tp, "fp": c.fp, "fn": c.fn, "tn": c.tn}
        for (model, loss), found in systems.items()
        for name, c in patients(found=found).items()
    ]
    row = {**head, "model": "sequential", "loss": "ce", "iou": 0.5}
    (given,) = with_intervals([row], cases)
    expected = interval(patients(found=0.8), iou)
    assert (given["iou_low"], given["iou_high"], given["n_patients"]) == (expected.low, expected.high, 12)
    assert given["iou"] == 0.5
    found = {(tuple(one["first"]), tuple(one["second"])): one for one in comparisons(cases)}
    assert set(found) == {
        (("sequential", "ce"), ("one_step", "ce")),
        (("sequential", "balanced"), ("sequential", "ce")),
    }
    better = found[("sequential", "ce"), ("one_step", "ce")]
    assert (better["better"], better["worse"], better["n_patients"]) == (12, 0, 12)
    assert better["difference"] > 0 > found[("sequential", "balanced"), ("sequential", "ce")]["difference"]
