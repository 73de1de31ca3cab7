"""What the claims of the paper are judged on: the recorded scores of a run, and how they are written in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.metrics.counts import Counts
from evaluation.metrics.statistics import Score, as_row, bound_score, by_patient, compare
from evaluation.names import COHORTS, NAMES, PAPER_MODELS

FEW_CASES = 10
BLIND_MARGIN = (
    1.1  # a tumor IoU up to this times that of marking the whole liver comes from seeing nothing
)

Row = dict[str, Any]
Part = tuple[bool | None, str]
"""Of a claim: whether it holds (None: not tested), with its numbers in words."""


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged on.

    Attributes:
        rows: scores of `summary.json`; a failed system has none.
        cases: rows of `cases.csv` (values may be text).
        curves: entries of `curves.json`.
        training: content of `training.json`.
        cohorts: the cohorts that were scored.
        failures: why a system has no rows, by (model, loss).
        blind_tumor_iou: by cohort, the tumor IoU of marking the whole reference liver as tumor.
        comparisons: of pairs of systems by patient, as `evaluation.metrics.statistics.comparisons` gives them.
    """

    rows: Sequence[Row]
    cases: Sequence[Row] = ()
    curves: Sequence[Row] = ()
    training: dict[str, Any] = field(default_factory=dict)
    cohorts: Sequence[str] = COHORTS
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    blind_tumor_iou: dict[str, float] = field(default_factory=dict)
    comparisons: Sequence[Row] = ()

    def value(
        self, metric: str, cohort: str, model: str, loss: str, target: str, rule: str = "roc"
    ) -> float | None:
        """Return one score, or None where it is missing or undefined."""
        key = (cohort, model, loss, target, rule)
        for row in self.rows:
            if key == tuple(
                row[name] for name in ("cohort", "model", "loss", "target", "threshold_rule")
            ):
                found: float | None = row[metric]
                return found
        return None

    def pixels(self, cohort: str, model: str, loss: str, target: str) -> dict[str, int]:
        """Return {"tp", "fp", "fn"} over all cases of a cohort, rule roc; all 0 where there is none."""
        key, total = (cohort, model, loss, target, "roc"), dict.fromkeys(("tp", "fp", "fn"), 0)
        for case in self.cases:
            if key == tuple(
                case[name] for name in ("cohort", "model", "loss", "target", "threshold_rule")
            ):
                total = {name: count + int(case[name]) for name, count in total.items()}
        return total

    def patients(
        self, cohort: str, model: str, loss: str, target: str, rule: str = "roc"
    ) -> dict[str, Counts]:
        """Return the counts of each patient of a cohort; {} where there is none."""
        key = (cohort, model, loss, target, rule)
        names = ("cohort", "model", "loss", "target", "threshold_rule")
        return by_patient(case for case in self.cases if key == tuple(case[name] for name in names))

    def spread(
        self,
        score: Score,
        cohort: str,
        system: tuple[str, str],
        target: str,
        of_reference: bool = True,
    ) -> str:
        """Return the interval by patient of a score, rule roc: ` (0.941 to 0.987)`; "" where there is none.

        Args:
            score, of_reference: as for `evaluation.metrics.statistics.interval`.
            cohort, target: of the score.
            system: (model, loss).
        """
        found = self.patients(cohort, *system, target)
        scored = bound_score(found, score, of_reference=of_reference) if found else None
        return (
            ""
            if scored is None or scored.low is None
            else f" ({scored.low:.3f} to {scored.high:.3f})"
        )

    def difference(
        self,
        score: Score,
        cohort: str,
        target: str,
        sides: Sequence[tuple[str, str]],
        pixels: bool = False,
    ) -> str:
        """Say how sure a difference between two systems is, rule roc: `, 95 % interval ...`; "" where one is missing.

        Args:
            score: of the counts of all patients together.
            cohort, target: of the scores.
            sides: first and second (model, loss); the difference is first less second.
            pixels: the score is a number of pixels, of all patients, and not a share of the reference.
        """
        first, second = (self.patients(cohort, *side, target) for side in sides)
        if not first or first.keys() != second.keys():
            return ""
        compared = compare(first, second, score, of_reference=not pixels)
        return f", {in_words(as_row(compared), '+,.0f' if pixels else '+.3f')}"

    def absent(self, model: str, loss: str) -> str:
        """Say why a score of that system is missing."""
        why = self.failures.get((model, loss))
        return f"{system(model, loss)}: " + (f"no result ({why})" if why else "no score")

    def against_blind(self, cohort: str) -> str:
        """Say what marking the whole liver as tumor would score, and which model, balanced, is not above it."""
        blind = self.blind_tumor_iou.get(cohort)
        if blind is None:
            return ""
        sides = {
            model: self.value("iou", cohort, model, "balanced", "tumor") for model in PAPER_MODELS
        }
        below = [
            NAMES[model] for model, side in sides.items() if side is not None and side <= blind
        ]
        text = f"; marking the whole liver as tumor would give IoU {number(blind)}"
        return text + (f", {' and '.join(below)} is not above that" if below else "")

    def unless_blind(self, outcome: bool, text: str, cohort: str, model: str, loss: str) -> Part:
        """Return the part of a claim; what would hold by a network that sees nothing is not tested."""
        blind, reached = (
            self.blind_tumor_iou.get(cohort),
            self.value("iou", cohort, model, loss, "tumor"),
        )
        if (
            outcome
            and blind is not None
            and reached is not None
            and reached <= BLIND_MARGIN * blind
        ):
            text += f" [{system(model, loss)} sees nothing: tumor IoU {number(reached)}, whole liver {number(blind)}]"
            return None, text
        return outcome, text

    def sureness(
        self,
        cohort: str,
        target: str,
        first: tuple[str, str],
        second: tuple[str, str],
        rule: str = "roc",
    ) -> str:
        """Say how sure the difference in IoU of two systems is: interval and test by patient ("": not compared).

        Args:
            cohort, target: of the scores.
            first, second: (model, loss); the difference is first less second.
            rule: the threshold rule of the second; that of the first is roc.
        """
        for found in self.comparisons:
            compared = (
                tuple(found["first"]),
                tuple(found["second"]),
                found.get("second_rule", "roc"),
            )
            if (found["cohort"], found["target"], *compared) == (
                cohort,
                target,
                first,
                second,
                rule,
            ):
                return f", {in_words(found)}"
        return ""

    def sample(self, cohort: str) -> str:
        """Say how many cases and slices a cohort's scores stand on."""
        for row in self.rows:
            if row["cohort"] == cohort:
                few = "; few cases" if row["n_cases"] < FEW_CASES else ""
                return f"n = {row['n_cases']} cases, {row['n_slices']} slices{few}"
        return "n unknown"


def system(model: str, loss: str) -> str:
    """Name a system for readers: `one-step, balanced`."""
    return f"{NAMES[model]}, {NAMES[loss]}"


def in_words(compared: Row, form: str = "+.3f") -> str:
    """Return the interval and the test of a comparison by patient in words, bounds in that format."""
    n = compared["n_patients"]
    counted = compared.get("n_counted", n)
    sample = (
        f"n = {n}" if counted == n else f"n = {counted} of {n} patients with it in the reference"
    )
    if compared["low"] is None:
        return f"no interval by patient, {sample}"
    words = f"95 % interval by patient {compared['low']:{form}} to {compared['high']:{form}}"
    if compared["p_value"] is not None:
        words += f", Wilcoxon p = {compared['p_value']:.2g}"
        words += (
            f" (least possible {compared['least_p']:.2g})"
            if compared.get("least_p", 0) > 0.05
            else ""
        )
    return f"{words}, {sample}"


def number(value: float) -> str:
    """Write a score with three decimals, four near 1, and never 1.000 for less than 1."""
    if 0.9995 <= value < 1:
        return f"{value:.4f}" if value < 0.99995 else ">0.9999"
    if 0 < value < 0.0005:
        return "<0.001"
    return f"{value:.3f}"
