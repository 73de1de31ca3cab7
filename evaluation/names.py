"""The words of the results: cohorts, targets, phases, systems, in table order."""

from __future__ import annotations

from typing import Any

from data.runs import PHASES as PHASES
from data.runs import SYSTEMS as SYSTEMS

COHORTS = ("validation", "test", "external")
UNSEEN = COHORTS[1:]
"""Cohorts by which nothing is chosen: those whose results are shown."""
TARGETS = ("liver", "tumor")
PAPER_SYSTEMS = ("one_step", "sequential")
"""Those that the paper's claims are about; it leaves the joint loss as future work."""
ARGMAX = "argmax"
"""The rule of a system of three classes: the most probable one."""
SLICES, SLICE, WHOLE = "slices", "slice", "whole"
"""Units of a score: the split's slices of a case, one of them, every slice of the case."""

NAMES = {
    "one_step": "one-step",
    "sequential": "sequential",
    "joint": "joint",
    "ce": "cross-entropy",
    "balanced": "balanced",
    "auc": "AUC",
    "rauc": "rAUC",
}
"""How tables and figures spell them; `evaluation.metrics.counts.METRICS` spells its own."""

SYNTHETIC = "SYNTHETIC PHANTOM"


def spell_system(system: str, phase: str = "") -> str:
    """Name a system for readers: `one-step, balanced`.

    A label without a spelling stays. A system of another document has one phase, not named.
    """
    name = NAMES.get(system, system)
    return name if phase in ("", "train") else f"{name}, {NAMES.get(phase, phase)}"


def describe_origin(source: dict[str, Any]) -> str:
    """Name the data of a cohort: `phantom, SYNTHETIC PHANTOM` or `lits`.

    A split by slice is named, and an external cohort whose patients trained the run.

    Args:
        source: entry of a cohort in `summary.json`.
    """
    name = source["cohort"] + (f", {SYNTHETIC}" if source["synthetic"] else "")
    if source.get("split_by") == "slice":
        name += ", SPLIT BY SLICE: test slices of the patients that trained"
    shared = source.get("trained_on")
    return f"{name}, {len(shared)} VOLUMES OF ITS PATIENTS TRAINED THE MODEL" if shared else name
