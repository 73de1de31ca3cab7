"""The rules that choose a threshold of probability from validation pixels.

`choose_thresholds` runs over `RULES`, so a registered rule is trained, scored and tabulated as the
others. "argmax" has no threshold and does not stand here: it takes the most probable of one-step's
three classes.

Thresholds are edges of the histogram's bins (`evaluation.metrics.roc`); ``p > threshold`` is
positive. By hand: scikit-learn's `roc_curve` needs every pixel in memory, and integers compare
exactly. For validation data only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.roc import (
    CENTRE,
    EDGES,
    N_BINS,
    ProbabilityHistogram,
    count_above,
    find_edges,
)

IOU_RANGE = (0.001, 0.999)
"""Thresholds by IoU lie in it: beyond, they would rest on a network's saturation."""


@dataclass(frozen=True)
class Rule:
    """A rule that chooses a threshold.

    Args:
        name: key in `RULES`, and the rule's name in records and tables.
        choose: the threshold in [0, 1], from the histogram of a target's validation pixels.
        title: the rule in a few words, for readers; "" where the name says it.
    """

    name: str
    choose: Callable[[ProbabilityHistogram], float]
    title: str = ""


RULES: dict[str, Rule] = {}
"""Every rule with a threshold by name, in the order of the tables."""


def register_rule(rule: Rule) -> Rule:
    """Add a rule to `RULES`.

    Raises:
        ValueError: the name is taken.
    """
    if rule.name in RULES:
        raise ValueError(f"`rule.name` must be new. Received: {rule.name!r}")
    RULES[rule.name] = rule
    return rule


def choose_thresholds(histogram: ProbabilityHistogram) -> dict[str, float]:
    """Choose the threshold of every rule, by name.

    >>> histogram = ProbabilityHistogram()
    >>> histogram.add(np.array([0.2, 0.8]), np.array([False, True]))
    >>> choose_thresholds(histogram)["roc"]
    0.5
    """
    return {name: rule.choose(histogram) for name, rule in RULES.items()}


def find_youden_threshold(
    histogram: ProbabilityHistogram, low: float = 0.01, high: float = 0.99
) -> float | None:
    """Find the restricted curve's threshold of the greatest ``J = TPR - FPR``.

    The paper (3.2.1) uses ROC analysis; that it is Youden's J is assumed. All edges in [low, high]
    compete, in exact integers; of equals the nearest to 0.5 wins, then the lower. None without a
    positive or a negative pixel in the range.

    Args:
        histogram: of validation pixels.
        low, high: bounds of the restricted curve (paper 3.2.1: 0.01, 0.99).

    Raises:
        ValueError: not 0 <= low < high <= 1.
    """
    first, last = find_edges(low, high)
    tp = count_above(histogram.positive, first, last)
    fp = count_above(histogram.negative, first, last)
    if tp[0] == 0 or fp[0] == 0:
        return None
    # J times both totals. Products of pixel counts may pass 2^63, hence Python's integers.
    j = tp.astype(object) * int(fp[0]) - fp.astype(object) * int(tp[0])
    best = first + np.flatnonzero(j == max(j))
    # At edge 0 the prediction p > 0.0 would not take in p = 0.
    return _nearest_half(best[best > 0])


def find_iou_threshold(histogram: ProbabilityHistogram) -> float:
    """Find the threshold of the greatest pooled IoU among the edges in `IOU_RANGE`.

    Of equals the nearest to 0.5 wins, then the lower. Without any pixel: 0.5.
    """
    edges, iou = _iou_by_edge(histogram)
    return _nearest_half(edges[iou == iou.max()])


def find_best_iou(histogram: ProbabilityHistogram) -> float:
    """Find the greatest pooled IoU, at `find_iou_threshold`; 1.0 without any pixel."""
    return float(_iou_by_edge(histogram)[1].max())


def _iou_by_edge(histogram: ProbabilityHistogram) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges in `IOU_RANGE` by index, and the IoU at each (empty: 1.0)."""
    low, high = IOU_RANGE
    edges = np.flatnonzero((low <= EDGES) & (high >= EDGES))
    tp = count_above(histogram.positive, 0, N_BINS)[edges]
    union = count_above(histogram.negative, 0, N_BINS)[edges] + histogram.positive.sum()
    return edges, np.divide(tp, union, out=np.ones(edges.size), where=union > 0)


def _nearest_half(edges: np.ndarray) -> float:
    """Return the edge nearest to 0.5 of some indices; of equals the lower."""
    return float(EDGES[edges[np.argmin(np.abs(edges - CENTRE))]])


def _choose_by_roc(histogram: ProbabilityHistogram) -> float:
    threshold = find_youden_threshold(histogram)
    return 0.5 if threshold is None else threshold


register_rule(Rule("0.5", lambda histogram: 0.5))
register_rule(Rule("roc", _choose_by_roc, "Youden's J on the restricted ROC curve"))
register_rule(Rule("iou", find_iou_threshold, "best validation IoU"))
