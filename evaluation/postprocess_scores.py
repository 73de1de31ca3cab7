"""What each post-processing option does to the scores, and which of them validation data chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data.batches import target_of
from evaluation.metrics import Counts, dice, iou
from evaluation.names import TARGETS
from evaluation.postprocess import CHOSEN, NONE, OPTIONS, Spacing, choose, postprocess

OptionCounts = dict[str, dict[str, Counts]]
"""Counts by option ("none", each of `OPTIONS`, "chosen") and target."""


def option_counts(
    labels: np.ndarray,
    liver: np.ndarray,
    hu: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Spacing,
    rows: Sequence[int],
    chosen: Iterable[str] | None = None,
) -> OptionCounts:
    """Count the pixels of a case after each option alone, and after the chosen ones together.

    Options see the whole case; counted are the slices `rows`, those of Table 1.

    Args:
        labels, liver, hu, spacing_mm: as `evaluation.postprocess.postprocess` takes them.
        reference: labels 0/1/2, the same shape.
        rows: the slices that are counted.
        chosen: options that validation data chose; None: not known yet.
    """
    wanted: dict[str, Iterable[str]] = {NONE: (), **{name: (name,) for name in OPTIONS}}
    if chosen is not None:
        wanted[CHOSEN] = chosen
    found = {}
    for name, options in wanted.items():
        after = postprocess(labels, liver, hu, spacing_mm, options)[rows]
        found[name] = {
            target: Counts.of(target_of(after, target) > 0, target_of(reference[rows], target) > 0)
            for target in TARGETS
        }
    return found


def chosen_options(cases: Sequence[OptionCounts]) -> tuple[str, ...]:
    """Return what `evaluation.postprocess.choose` takes by the pooled IoU of the validation cases."""
    ious = {}
    for name in (NONE, *OPTIONS):
        pooled = [sum((case[name][target] for case in cases), Counts()) for target in TARGETS]
        ious[name] = [iou(counts) if counts.n_pixels > counts.tn else None for counts in pooled]
    return choose(ious)


def option_rows(head: Mapping[str, Any], counts: OptionCounts, chosen: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of `postprocess.csv` of one case.

    Args:
        head: {"cohort", "case", "patient", "model", "loss"}.
        counts: of `option_counts`.
        chosen: what "chosen" stands for.
    """
    return [
        {**head, "option": name, "options": " ".join(chosen) if name == CHOSEN else name, "target": target}
        | {"tp": found.tp, "fp": found.fp, "fn": found.fn, "tn": found.tn, "iou": iou(found), "dice": dice(found)}
        for name, by_target in counts.items()
        for target, found in by_target.items()
    ]
