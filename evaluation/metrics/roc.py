"""ROC curves and areas, from histograms of probabilities filled in one pass.

A test set has 10^7 to 10^10 pixels, too many to sort. `ProbabilityHistogram` counts pixels inside
and outside the reference in 65,536 bins; histograms of slices, cases or cohorts add up.

Bins are uniform in the logit, ``ln(p / (1 - p))``, of width ``BIN_WIDTH = logit(0.99) / 9411``,
from about -16 to 16. So 0.01, 0.5 and 0.99 are edges, and bins are finest near 0 and 1, where
probabilities crowd. Bin ``k`` holds ``EDGES[k] < p <= EDGES[k + 1]``, the first also p = 0. So ``p
> EDGES[j]`` selects the bins from ``j`` on, exactly, as NumPy decides it in float32 or float64.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from evaluation.metrics.counts import Counts

N_BINS = 65_536
CENTRE = N_BINS // 2  # the edge at p = 0.5
BINS_TO_99 = 9_411
BIN_WIDTH = math.log(99.0) / BINS_TO_99  # logit(0.99) = ln 99
LOWEST_DRAWN_FPR = 1e-5  # left border of a ROC curve on a logarithmic axis
CHUNK = 1 << 18  # pixels; keeps the temporary arrays of `add` in a few MiB


def _make_edges() -> np.ndarray:
    edges = 1.0 / (1.0 + np.exp(-BIN_WIDTH * (np.arange(N_BINS + 1) - CENTRE)))
    edges[[CENTRE - BINS_TO_99, CENTRE, CENTRE + BINS_TO_99]] = 0.01, 0.5, 0.99  # free of rounding
    edges[[0, -1]] = 0.0, 1.0  # the outer bins hold what lies beyond the inner edges
    edges.flags.writeable = False
    return edges


EDGES = _make_edges()
"""Edges of the bins as probabilities: ndarray (65537,), float64, from 0.0 to 1.0, read-only."""


@cache
def _round_edges(dtype: np.dtype) -> np.ndarray:
    # NumPy compares float32 with a Python float in float32: the edges are rounded likewise.
    return EDGES.astype(dtype)


def find_edge(threshold: float) -> int:
    """Return the index of the edge nearest, in the logit, to a threshold in [0, 1].

    Bins from this index on lie above it. At 1 nothing does (index 65536). Any other is taken at an
    inner edge: 0 means all but the first bin, from p = 0 to about 1.1e-7.

    Raises:
        ValueError: the threshold is not in [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"`threshold` must be in [0, 1]. Received: threshold={threshold}")
    if threshold == 1.0:
        return N_BINS
    if threshold == 0.0:
        return 1
    nearest = CENTRE + round((math.log(threshold) - math.log1p(-threshold)) / BIN_WIDTH)
    return min(max(nearest, 1), N_BINS - 1)


def _bin_inner(probability: np.ndarray) -> np.ndarray:
    """Return the bins, int32, of probabilities from first to last inner edge."""
    logit = np.log(probability)
    logit -= np.log1p(-probability)
    logit /= probability.dtype.type(BIN_WIDTH)
    bins = np.ceil(logit, out=logit).astype(np.int32)
    bins += CENTRE - 1
    # The logarithms are right to a small part of a bin; the comparison with the edges decides.
    edges = _round_edges(probability.dtype)
    wrong = np.flatnonzero((probability <= edges[bins]) | (probability > edges[bins + 1]))
    bins[wrong] = np.searchsorted(edges, probability[wrong], side="left") - 1
    return bins


@dataclass(frozen=True)
class Roc:
    """A ROC curve from (0, 0) to (1, 1), by falling threshold.

    Point i is the prediction ``p > threshold[i]``. Repeated points are left out.

    Args:
        false_positive_rate: FP / (FP + TN), float64 (n_points,), not decreasing.
        true_positive_rate: TP / (TP + FN), likewise.
        threshold: probability, likewise, falling. An end at 0.0 takes in p = 0; a curve that tells
            p = 0 apart (`evaluation.metrics.exact_roc`) ends at minus infinity.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    threshold: np.ndarray

    def area(self) -> float:
        """Area under the curve by the trapezoid rule, in [0, 1]."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))


class ProbabilityHistogram:
    """Counts of pixels by probability, inside and outside the reference.

    Attributes:
        positive, negative: pixels inside and outside per bin, int64 (65536,).

    Example:
        >>> histogram = ProbabilityHistogram()
        >>> histogram.add(np.array([0.2, 0.4, 0.6, 0.8]), np.array([False, True, False, True]))
        >>> histogram.auc()
        0.75
    """

    def __init__(self) -> None:
        self.positive = np.zeros(N_BINS, np.int64)
        self.negative = np.zeros(N_BINS, np.int64)

    def add(self, probability: np.ndarray, reference: np.ndarray) -> None:
        """Add pixels: probabilities and a bool mask of one shape, all or none.

        Raises:
            ValueError: wrong dtype, unequal shapes, a NaN, or a value outside [0, 1].
        """
        check_pixels(probability, reference)
        dtype = np.dtype(np.float32 if probability.dtype.itemsize <= 4 else np.float64)
        flat_probability, flat_reference = probability.reshape(-1), reference.reshape(-1)
        for start in range(0, probability.size, CHUNK):
            chunk = slice(start, start + CHUNK)
            self._add_chunk(
                flat_probability[chunk].astype(dtype, copy=False), flat_reference[chunk]
            )

    def _add_chunk(self, probability: np.ndarray, reference: np.ndarray) -> None:
        edges = _round_edges(probability.dtype)
        # Most pixels of a slice lie far from the organ, at p = 0 or nearly so: they need no
        # logarithm.
        lowest, highest = probability <= edges[1], probability > edges[-2]
        for outer, mask in ((0, lowest), (-1, highest)):
            n_positive = np.count_nonzero(mask & reference)
            self.positive[outer] += n_positive
            self.negative[outer] += np.count_nonzero(mask) - n_positive
        inner = np.flatnonzero(~(lowest | highest))
        if inner.size:
            bins = _bin_inner(probability[inner])
            bins += N_BINS * reference[inner].astype(np.int32)
            both = np.bincount(bins, minlength=2 * N_BINS)
            self.negative += both[:N_BINS]
            self.positive += both[N_BINS:]

    def __add__(self, other: ProbabilityHistogram) -> ProbabilityHistogram:
        if not isinstance(other, ProbabilityHistogram):
            return NotImplemented
        pooled = ProbabilityHistogram()
        pooled.positive = self.positive + other.positive
        pooled.negative = self.negative + other.negative
        return pooled

    @property
    def n_pixels(self) -> int:
        """Number of pixels added."""
        return int(self.positive.sum() + self.negative.sum())

    def counts(self, threshold: float) -> Counts:
        """Return the pooled outcomes of ``p > threshold``, taken at the nearest edge.

        Exact at 0.01, 0.5 and 0.99 and at each threshold this module returns.

        Raises:
            ValueError: the threshold is not in [0, 1].
        """
        edge = find_edge(threshold)
        return Counts(
            tp=int(self.positive[edge:].sum()),
            fp=int(self.negative[edge:].sum()),
            fn=int(self.positive[:edge].sum()),
            tn=int(self.negative[:edge].sum()),
        )

    def inside(self, low: float = 0.01, high: float = 0.99) -> ProbabilityHistogram:
        """Return the histogram of ``low < p <= high`` alone, at the nearest edges.

        Raises:
            ValueError: not 0 <= low < high <= 1.
        """
        first, last = find_edges(low, high)
        chosen = ProbabilityHistogram()
        chosen.positive[first:last] = self.positive[first:last]
        chosen.negative[first:last] = self.negative[first:last]
        return chosen

    def roc(self, low: float = 0.0, high: float = 1.0) -> Roc:
        """Return the ROC curve of ``low < p <= high``, bounds at the nearest edges.

        The paper's range is (0.01, 0.99), both exact. The defaults take p = 0, too.

        Raises:
            ValueError: not 0 <= low < high <= 1, or the range lacks pixels inside or outside.
        """
        first, last = find_edges(low, high)
        tp, fp = (
            count_above(self.positive, first, last)[::-1],
            count_above(self.negative, first, last)[::-1],
        )
        if tp[-1] == 0 or fp[-1] == 0:
            raise ValueError(
                "A ROC curve needs pixels inside and outside the reference. "
                f"Received: {tp[-1]} inside, {fp[-1]} outside with low={low}, high={high}"
            )
        moves = np.flatnonzero(np.diff(tp + fp, prepend=-1))
        return Roc(fp[moves] / fp[-1], tp[moves] / tp[-1], EDGES[last - moves])

    def auc(self) -> float | None:
        """Return the area under the ROC curve; None without pixels of both kinds."""
        return self.rauc(0.0, 1.0)

    def rauc(self, low: float = 0.01, high: float = 0.99) -> float | None:
        """Return the area under the curve of ``low < p <= high`` (paper 3.2.1).

        In [0, 1]; ties within a bin count as a half. None without pixels of both kinds.

        Raises:
            ValueError: not 0 <= low < high <= 1.
        """
        first, last = find_edges(low, high)
        if not (self.positive[first:last].any() and self.negative[first:last].any()):
            return None
        return self.roc(low, high).area()


def check_pixels(probability: np.ndarray, reference: np.ndarray) -> None:
    """Check the probabilities and the mask that make a ROC curve.

    Raises:
        ValueError: wrong dtype, unequal shapes, a NaN, or a value outside [0, 1].
    """
    if not np.issubdtype(probability.dtype, np.floating):
        raise ValueError(
            f"`probability` must have a floating dtype. Received: dtype={probability.dtype}"
        )
    if reference.dtype != np.bool_:
        raise ValueError(f"`reference` must be a boolean array. Received: dtype={reference.dtype}")
    if probability.shape != reference.shape:
        raise ValueError(
            "`probability` must have the shape of `reference`. "
            f"Received: probability.shape={probability.shape}, reference.shape={reference.shape}"
        )
    if probability.size:
        lowest, highest = probability.min(), probability.max()  # NaN if any value is
        if not (lowest >= 0 and highest <= 1):
            raise ValueError(
                "`probability` must be in [0, 1], without NaN. "
                f"Received: minimum {lowest}, maximum {highest}"
            )


def check_range(low: float, high: float) -> None:
    """Check the bounds of a restricted curve.

    Raises:
        ValueError: not 0 <= low < high <= 1.
    """
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(
            f"`low` and `high` must satisfy 0 <= low < high <= 1. Received: low={low}, high={high}"
        )


def find_edges(low: float, high: float) -> tuple[int, int]:
    """Return the first bin with ``low < p <= high``, and the one after the last."""
    check_range(low, high)
    return (find_edge(low) if low > 0.0 else 0), find_edge(high)


def count_above(counts: np.ndarray, first: int, last: int) -> np.ndarray:
    """Return the number of pixels above each edge from first to last, int64.

    Args:
        counts: pixels per bin.
        first: first edge, and first bin that counts.
        last: last edge; bins from it on do not count.
    """
    above = np.zeros(last - first + 1, np.int64)
    above[:-1] = np.cumsum(counts[first:last][::-1])[::-1]
    return above


def _find_farthest(
    x: np.ndarray, y: np.ndarray, first: int, last: int
) -> tuple[float, int, int, int]:
    """Return (minus the greatest distance to the chord, its point, first, last)."""
    if last - first < 2:
        return 0.0, first, first, last
    dx, dy = x[last] - x[first], y[last] - y[first]
    inner = slice(first + 1, last)
    distance = np.abs(dx * (y[inner] - y[first]) - dy * (x[inner] - x[first])) / math.hypot(dx, dy)
    worst = int(np.argmax(distance))
    return -float(distance[worst]), first + 1 + worst, first, last


def reduce_curve(roc: Roc, n: int = 400, lowest_fpr: float | None = None) -> Roc:
    """Return at most n of a curve's own points for drawing, both ends among them.

    From the chord on, the point farthest from the line is added (Ramer, Douglas and Peucker's rule
    with a fixed number of points). Points on the line are never needed.

    Args:
        roc: the curve.
        n: how many points at most.
        lowest_fpr: where a logarithmic axis of FPR begins; None: linear.

    Raises:
        ValueError: n is below 2.
    """
    if n < 2:
        raise ValueError(f"`n` must be at least 2. Received: n={n}")
    x, y = roc.false_positive_rate, roc.true_positive_rate
    if lowest_fpr is not None:
        x = np.log10(np.maximum(x, lowest_fpr))
    kept = [0, x.size - 1]
    pieces = [_find_farthest(x, y, 0, x.size - 1)]
    while len(kept) < n and pieces:
        negative_distance, point, first, last = heapq.heappop(pieces)
        if negative_distance > -1e-12:  # the rest lies on the line, up to rounding
            break
        kept.append(point)
        heapq.heappush(pieces, _find_farthest(x, y, first, point))
        heapq.heappush(pieces, _find_farthest(x, y, point, last))
    kept.sort()
    return Roc(roc.false_positive_rate[kept], y[kept], roc.threshold[kept])
