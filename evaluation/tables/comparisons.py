"""Systems of Table 1 compared by patient: IoU difference, interval, Wilcoxon."""

from __future__ import annotations

from evaluation.metrics.statistics import LEAST_PATIENTS
from evaluation.names import spell_system
from evaluation.results import Results
from evaluation.score_table import PairComparison
from evaluation.tables.text import (
    COVERAGE,
    FEW,
    explain_joint,
    make_head,
    make_markdown,
    write_bounds,
    write_count,
)

HEADINGS = ["cohort", "target", "first - second", "difference in IoU", "95 % interval", "p"]
HEADINGS += ["least p", "better", "worse", "patients"]


def make_comparisons(results: Results) -> str:
    """Return the systems compared by patient."""
    text = make_head(
        results.label,
        "Systems compared by patient",
        "The same patients under two systems, or under two threshold rules of one: first less "
        "second. Without a rule the row compares at rule roc. The difference is that of the IoU "
        "pooled over all pixels of the cohort.",
    )
    lines = [_make_line(pair) for pair in results.comparisons]
    return (
        text
        + "\n"
        + make_markdown(HEADINGS, lines, left=3)
        + (
            "\nInterval: percentile bootstrap, patients drawn with replacement, both sides on the "
            f"same draw, {COVERAGE}; draws without a patient that counts are skipped. p: Wilcoxon "
            "signed rank test of the IoU per patient, two-sided, patients with equal scores "
            "dropped, not corrected for the number of comparisons; least p: the smallest that so "
            "many patients can give, 2 / 2^n. better, worse: patients where the first scores "
            "higher, or lower. The difference is of pooled IoU, where a patient with a large "
            "structure weighs more, p of the IoU per patient: the two may differ in sign. "
            f"patients: those that count (and all). {FEW}\n\n{explain_joint(results.training)}"
        )
    )


def _make_line(pair: PairComparison) -> list[str]:
    comparison, difference = pair.comparison, pair.comparison.difference
    n, n_patients = difference.n_counted, difference.n_patients
    first, second = (spell_system(*side[:2]) for side in (pair.first, pair.second))
    if first == second:
        first, second = f"{first}, rule {pair.first[2]}", f"rule {pair.second[2]}"
    p_value = write_count(n) if n < LEAST_PATIENTS else "no difference"
    if comparison.p_value is not None:
        p_value = f"{comparison.p_value:.2g}"
    bounds = write_bounds(difference, "+.3f", "") or write_count(n)
    cells = [f"{difference.value:+.3f}", bounds, p_value, f"{comparison.least_p:.2g}"]
    cells += [str(comparison.better), str(comparison.worse)]
    counted = f"{n} ({n_patients})" if n < n_patients else str(n)
    return [pair.cohort, pair.target, f"{first} - {second}", *cells, counted]
