"""What each post-processing option does to the scores, and which of them validation data chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.batches import target_of
from evaluation.metrics.counts import Counts, dice, iou
from evaluation.names import TARGETS
from evaluation.postprocess import CHOSEN, NONE, OPTIONS, Spacing, choose, postprocess

OptionCounts = dict[str, dict[str, Counts]]
"""Counts by option ("none", each of `OPTIONS`, "chosen") and target."""


@dataclass(frozen=True)
class CaseMaps:
    """What options are applied to in a case.

    Attributes:
        labels, liver, hu, spacing_mm: as `evaluation.postprocess.postprocess` takes them.
        reference: labels 0/1/2, the same shape.
        rows: the slices that are counted, those of Table 1; options see the whole case.
    """

    labels: np.ndarray
    liver: np.ndarray
    hu: np.ndarray
    reference: np.ndarray
    spacing_mm: Spacing
    rows: Sequence[int]

    def counts(self, options: Iterable[str]) -> dict[str, Counts]:
        """Count the pixels by target after these options."""
        after = postprocess(self.labels, self.liver, self.hu, self.spacing_mm, options)[self.rows]
        truth = self.reference[self.rows]
        return {
            target: Counts.of(target_of(after, target) > 0, target_of(truth, target) > 0)
            for target in TARGETS
        }


def option_counts(case: CaseMaps, chosen: Iterable[str] | None = None) -> OptionCounts:
    """Count the pixels of a case after each option alone, and after the chosen ones together (None: not known yet)."""
    found = {NONE: case.counts(()), **{name: case.counts((name,)) for name in OPTIONS}}
    return found if chosen is None else {**found, CHOSEN: case.counts(chosen)}


def chosen_options(
    counts: Sequence[OptionCounts], maps: Callable[[], Iterable[CaseMaps]]
) -> tuple[str, ...]:
    """Return what `evaluation.postprocess.choose` takes by the mean pooled IoU of liver and tumor on validation cases.

    Args:
        counts: of each case, by `option_counts`.
        maps: gives the cases again, for several options together; read one by one.
    """
    alone = {name: mean_iou([case[name] for case in counts]) for name in (NONE, *OPTIONS)}
    return choose(alone, lambda names: mean_iou([case.counts(names) for case in maps()]))


def mean_iou(cases: Sequence[Mapping[str, Counts]]) -> float:
    """Return the mean over liver and tumor of the pooled IoU; what is neither there nor found does not count."""
    pooled = [sum((case[target] for case in cases), Counts()) for target in TARGETS]
    known = [iou(counts) for counts in pooled if counts.n_pixels > counts.tn]
    return sum(known) / len(known) if known else 0.0


def option_rows(
    head: Mapping[str, Any], counts: OptionCounts, chosen: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows of `postprocess.csv` of one case.

    Args:
        head: {"cohort", "case", "patient", "model", "loss"}.
        counts: of `option_counts`.
        chosen: what "chosen" stands for.
    """
    return [
        {
            **head,
            "option": name,
            "options": " ".join(chosen) if name == CHOSEN else name,
            "target": target,
        }
        | {
            "tp": found.tp,
            "fp": found.fp,
            "fn": found.fn,
            "tn": found.tn,
            "iou": iou(found),
            "dice": dice(found),
        }
        for name, by_target in counts.items()
        for target, found in by_target.items()
    ]
