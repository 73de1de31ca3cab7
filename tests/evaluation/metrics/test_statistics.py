"""Intervals and comparisons by patient: against scipy's bootstrap and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap, wilcoxon

from evaluation.metrics.counts import Counts, iou, pixel_accuracy, sensitivity
from evaluation.metrics.statistics import (
    LEAST_PATIENTS,
    SIMULATED,
    bound_mean_score,
    bound_score,
    bound_share,
    compare,
    compare_over_seeds,
    compute_least_p,
)
from tests.benchmarks.interval_coverage import main as simulate
from tests.benchmarks.interval_coverage import simulate_coverage


def draw_patients(seed: int = 0, n: int = 12, found: float = 0.6) -> dict[str, Counts]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(50, 500, n)
    return {
        f"p{index}": Counts(tp=int(tp), fp=int(rng.integers(0, 80)), fn=int(size - tp), tn=1000)
        for index, (size, tp) in enumerate(zip(sizes, rng.binomial(sizes, found), strict=True))
    }


def make_healthy(n: int, fp: int = 0) -> dict[str, Counts]:
    return {f"healthy {index}": Counts(fp=fp, tn=1000) for index in range(n)}


def test_the_interval_is_that_of_scipy_over_patients() -> None:
    given = draw_patients()
    interval = bound_score(given, iou, draws=4000)
    table = np.array([[c.tp, c.fp, c.fn] for c in given.values()], float)

    def pooled(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
        return tp.sum(axis) / (tp.sum(axis) + fp.sum(axis) + fn.sum(axis))

    theirs = bootstrap(
        tuple(table.T),
        pooled,
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert interval.value == pytest.approx(pooled(*table.T))
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert interval.low is not None
    assert interval.low < interval.value < interval.high  # type: ignore[operator]
    assert bound_score(given, iou) == bound_score(given, iou)
    assert (interval.n_patients, interval.n_counted, interval.skipped) == (12, 12, 0)


def test_equal_patients_have_no_spread_and_few_have_no_interval() -> None:
    one = Counts(tp=5, fp=3, fn=2, tn=0)
    same = bound_score(dict.fromkeys("abcde", one), iou)
    assert (same.value, same.low, same.high, same.n_patients) == (0.5, 0.5, 0.5, 5)
    assert bound_score(dict.fromkeys("abcd", one), iou).low is None
    with pytest.raises(ValueError, match="at least one patient"):
        bound_score({}, iou)


def test_patients_without_tumor_make_no_score() -> None:
    """One of three with tumor: 8 of the 27 draws hold none; an empty reference would score 1."""
    interval = bound_score({"a": Counts(tp=6, fp=2, fn=2, tn=90), **make_healthy(2)}, iou)
    assert (interval.value, interval.low, interval.n_patients, interval.n_counted) == (
        0.6,
        None,
        3,
        1,
    )
    # Five with the same tumor and five without: whatever is drawn, its IoU is 0.5, but for draws
    # without tumor.
    five = dict.fromkeys("abcde", Counts(tp=5, fp=3, fn=2, tn=90))
    interval = bound_score({**five, **make_healthy(5)}, iou)
    assert (interval.low, interval.high, interval.n_patients, interval.n_counted) == (
        0.5,
        0.5,
        10,
        5,
    )
    # The share of draws of ten that take no one of five: 2^-10, about 2 of 2000.
    assert 0 < interval.skipped < 12
    # A false positive pixel where no tumor is counts in a draw that holds a tumor; alone it would
    # have scored 0.
    interval = bound_score({**five, **make_healthy(5, fp=1)}, iou)
    # With k of ten drawn that have a tumor: 5 k / (10 k + 10 - k).
    assert 5 / 19 <= interval.low <= interval.high <= 50 / 100  # type: ignore[operator]


def test_a_score_of_all_pixels_counts_patients_without_tumor() -> None:
    interval = bound_score(make_healthy(5, fp=1), pixel_accuracy, of_reference=False)
    assert (interval.n_counted, interval.skipped) == (5, 0)
    assert (interval.low, interval.high) == (1000 / 1001, 1000 / 1001)


def test_the_comparison_leaves_out_patients_without_tumor() -> None:
    """Nine healthy patients, whom the second model marks: in each IoU the first wins, 1 to 0."""
    first = {**draw_patients(n=6, found=0.4), **make_healthy(9)}
    second = {**draw_patients(n=6, found=0.9), **make_healthy(9, fp=1)}
    comparison = compare(first, second, iou)
    assert (comparison.better, comparison.worse) == (0, 6)
    assert (comparison.difference.n_patients, comparison.difference.n_counted) == (15, 6)
    assert comparison.p_value == pytest.approx(2 / 2**6) == comparison.least_p
    assert comparison.difference.high < 0  # type: ignore[operator]
    # Draws of fifteen that take none of six: 0.6^15 = 0.0005, about 1 of 2000.
    assert comparison.difference.skipped <= 6
    few = compare(
        {**draw_patients(n=4, found=0.4), **make_healthy(9)},
        {**draw_patients(n=4, found=0.9), **make_healthy(9)},
        iou,
    )
    assert (few.difference.low, few.p_value, few.worse) == (None, None, 4)


def test_patients_with_equal_scores_are_dropped_and_the_rest_is_exact() -> None:
    """Of fifteen patients three differ, to one side: 2 of 2^3 signs are as extreme."""
    second = draw_patients(n=15)
    first = dict(second)
    for name in ("p0", "p1", "p2"):
        counts = second[name]
        first[name] = Counts(tp=counts.tp + 1, fp=counts.fp, fn=counts.fn - 1)
    comparison = compare(first, second, iou)
    assert (comparison.better, comparison.worse, comparison.difference.n_counted) == (3, 0, 15)
    assert comparison.p_value == pytest.approx(2 / 2**3)


def test_pooled_difference_and_test_by_patient_may_disagree() -> None:
    """One large tumor found better, five small ones worse: pool and test follow one side each."""
    first = {
        "large": Counts(tp=9000, fn=1000),
        **{str(n): Counts(tp=20 + n, fn=80 - n) for n in range(5)},
    }
    second = {
        "large": Counts(tp=5000, fn=5000),
        **{str(n): Counts(tp=60 + 2 * n, fn=40 - 2 * n) for n in range(5)},
    }
    comparison = compare(first, second, iou)
    assert comparison.difference.value > 0
    assert (comparison.better, comparison.worse) == (1, 5)


def test_the_smallest_p_is_that_of_all_assignments_of_signs() -> None:
    for n in (1, 3, 5):
        ranks = np.arange(1, n + 1)
        sums = [sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign) for signs in
                itertools.product((0, 1), repeat=n)]  # fmt: skip
        as_extreme = sum(total in (0, ranks.sum()) for total in sums)
        assert compute_least_p(n) == as_extreme / len(sums)
    assert compute_least_p(0) == 1
    assert LEAST_PATIENTS == 5


def test_simulated_coverage_is_as_the_tables_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate_coverage(5, repetitions=600) == pytest.approx(SIMULATED[5], abs=0.035)
    assert simulate_coverage(10, repetitions=300) == pytest.approx(SIMULATED[10], abs=0.05)
    assert 0.75 < SIMULATED[5] < SIMULATED[10] < 0.9
    simulate(["--patients", "5", "--repetitions", "20"])
    assert capsys.readouterr().out.startswith("   5 patients: ")
    for flags in (["--patients", "4"], ["--patients", "x"], ["--repetitions", "0"]):
        with pytest.raises(ValueError, match="--patients"):
            simulate(flags)


def test_wilson_by_its_formula() -> None:
    """(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)."""
    n, p, z = 10, 0.3, 1.959963984540054
    middle, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert bound_share(3, 10) == pytest.approx(
        ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    )
    assert bound_share(0, 4)[0] == 0
    assert bound_share(4, 4)[1] == 1


def test_a_clearly_better_model_is_seen() -> None:
    first, second = draw_patients(found=0.9), draw_patients(found=0.4)
    comparison = compare(first, second, sensitivity)
    assert comparison.difference.low is not None
    assert comparison.difference.low > 0
    assert (comparison.better, comparison.worse) == (12, 0)
    # all 12 differences of one sign: 2 of the 2^12 equally likely assignments of signs
    assert comparison.p_value == pytest.approx(2 / 2**12)
    each = [sensitivity(first[name]) - sensitivity(second[name]) for name in first]
    assert comparison.p_value == wilcoxon(each).pvalue


def test_a_model_against_itself_and_against_other_patients() -> None:
    same = compare(draw_patients(), draw_patients(), iou)
    assert (same.difference.value, same.difference.low, same.difference.high) == (0, 0, 0)
    assert (same.p_value, same.better, same.worse) == (None, 0, 0)
    few = {"a": Counts(tp=1), "b": Counts(fn=1)}
    assert compare(few, few, iou).p_value is None
    with pytest.raises(ValueError, match="same patients"):
        compare(few, {"a": Counts(tp=1)}, iou)


def test_over_seeds_the_mean_is_what_has_the_interval() -> None:
    """Two seeds, five patients alike: IoU 0.5 and 0.7; their mean is not the pooled IoU."""
    names = [f"p{k}" for k in range(5)]
    first = [
        {name: Counts(tp=5, fn=5) for name in names},
        {name: Counts(tp=14, fn=6) for name in names},
    ]
    interval = bound_mean_score(first, iou)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.6, 0.6, 0.6))
    second = [{name: Counts(tp=4, fn=6) for name in names}] * 2
    compared = compare_over_seeds(first, second, iou)
    assert compared.difference.value == pytest.approx(0.2)
    assert (compared.better, compared.worse) == (5, 0)
    assert compared.p_value == pytest.approx(2 / 2**5)
    with pytest.raises(ValueError, match="must hold the same patients"):
        bound_mean_score([first[0], {"other": Counts(tp=1)}], iou)
