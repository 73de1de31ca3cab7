"""What the claims of the paper are judged on: the recorded scores of a run, and how they are written in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.names import COHORTS, MODELS, NAMES

FEW_CASES = 10
BLIND_MARGIN = 1.1  # a tumor IoU up to this times that of marking the whole liver comes from seeing nothing

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
        comparisons: of pairs of systems by patient, as `evaluation.statistics.comparisons` gives them.
    """

    rows: Sequence[Row]
    cases: Sequence[Row] = ()
    curves: Sequence[Row] = ()
    training: dict[str, Any] = field(default_factory=dict)
    cohorts: Sequence[str] = COHORTS
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    blind_tumor_iou: dict[str, float] = field(default_factory=dict)
    comparisons: Sequence[Row] = ()

    def value(self, metric: str, cohort: str, model: str, loss: str, target: str, rule: str = "roc") -> float | None:
        """Return one score, or None where it is missing or undefined."""
        key = (cohort, model, loss, target, rule)
        for row in self.rows:
            if key == tuple(row[name] for name in ("cohort", "model", "loss", "target", "threshold_rule")):
                found: float | None = row[metric]
                return found
        return None

    def pixels(self, cohort: str, model: str, loss: str, target: str) -> dict[str, int]:
        """Return {"tp", "fp", "fn"} over all cases of a cohort, rule roc; all 0 where there is none."""
        key, total = (cohort, model, loss, target, "roc"), dict.fromkeys(("tp", "fp", "fn"), 0)
        for case in self.cases:
            if key == tuple(case[name] for name in ("cohort", "model", "loss", "target", "threshold_rule")):
                total = {name: count + int(case[name]) for name, count in total.items()}
        return total

    def absent(self, model: str, loss: str) -> str:
        """Say why a score of that system is missing."""
        why = self.failures.get((model, loss))
        return f"{system(model, loss)}: " + (f"no result ({why})" if why else "no score")

    def against_blind(self, cohort: str) -> str:
        """Say what marking the whole liver as tumor would score, and which model, balanced, is not above it."""
        blind = self.blind_tumor_iou.get(cohort)
        if blind is None:
            return ""
        sides = {model: self.value("iou", cohort, model, "balanced", "tumor") for model in MODELS}
        below = [NAMES[model] for model, side in sides.items() if side is not None and side <= blind]
        text = f"; marking the whole liver as tumor would give IoU {number(blind)}"
        return text + (f", {' and '.join(below)} is not above that" if below else "")

    def unless_blind(self, outcome: bool, text: str, cohort: str, model: str, loss: str) -> Part:
        """Return the part of a claim; what would hold by a network that sees nothing is not tested."""
        blind, reached = self.blind_tumor_iou.get(cohort), self.value("iou", cohort, model, loss, "tumor")
        if outcome and blind is not None and reached is not None and reached <= BLIND_MARGIN * blind:
            text += f" [{system(model, loss)} sees nothing: tumor IoU {number(reached)}, whole liver {number(blind)}]"
            return None, text
        return outcome, text

    def sureness(self, cohort: str, target: str, first: tuple[str, str], second: tuple[str, str]) -> str:
        """Say how sure the difference in IoU of two systems is: interval and test by patient ("": not compared).

        Args:
            cohort, target: of the scores.
            first, second: (model, loss); the difference is first less second.
        """
        for found in self.comparisons:
            systems = tuple(found["first"]), tuple(found["second"])
            if (found["cohort"], found["target"], *systems) == (cohort, target, first, second):
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


def in_words(compared: Row) -> str:
    """Return the interval and the test of a comparison by patient in words."""
    if compared["low"] is None:
        return f"{compared['n_patients']} patients: no interval"
    words = f"95 % interval by patient {compared['low']:+.3f} to {compared['high']:+.3f}"
    if compared["p_value"] is not None:
        words += f", Wilcoxon p = {compared['p_value']:.2g}"
    return f"{words}, n = {compared['n_patients']}"


def number(value: float) -> str:
    """Write a score with three decimals, four near 1, and never 1.000 for less than 1."""
    if 0.9995 <= value < 1:
        return f"{value:.4f}" if value < 0.99995 else ">0.9999"
    if 0 < value < 0.0005:
        return "<0.001"
    return f"{value:.3f}"
