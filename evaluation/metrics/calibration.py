"""Reliability of probabilities, and their expected calibration error (ECE).

ECE = sum over bins of n_b / N * |share of positives in b - mean probability in b| (Naeini et al.,
AAAI 2015), with 15 equal bins of [0, 1]. Most pixels of a CT are background at p = 0, so the error
over all is small whatever happens at the lesion: the one over p in (0.01, 0.99) stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.roc import EDGES, ProbabilityHistogram

BINS = 15
_MIDDLES = (EDGES[1:] + EDGES[:-1]) / 2


@dataclass(frozen=True)
class Reliability:
    """Pixels by predicted probability, in equal bins of [0, 1].

    Attributes:
        n_pixels: int64 (n_bins,).
        predicted: mean probability of each bin; NaN for an empty one.
        observed: share inside the reference; NaN likewise.
    """

    n_pixels: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray

    @property
    def ece(self) -> float | None:
        """Expected calibration error, in [0, 1], 0 is best; None without a pixel."""
        total = int(self.n_pixels.sum())
        if not total:
            return None
        gaps = np.abs(np.nan_to_num(self.observed) - np.nan_to_num(self.predicted))
        return float((self.n_pixels * gaps).sum() / total)


def measure_reliability(histogram: ProbabilityHistogram, n_bins: int = BINS) -> Reliability:
    """Gather a histogram's fine bins, each at its middle, into equal bins of [0, 1].

    Example:
        >>> histogram = ProbabilityHistogram()
        >>> histogram.add(np.full(4, 0.5), np.array([True, True, True, False]))
        >>> round(measure_reliability(histogram).ece, 3)
        0.25
    """
    of_bin = np.minimum((_MIDDLES * n_bins).astype(np.int64), n_bins - 1)
    counts = histogram.positive + histogram.negative
    n_pixels = np.bincount(of_bin, counts, n_bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(of_bin, counts * _MIDDLES, n_bins) / n_pixels
        observed = np.bincount(of_bin, histogram.positive, n_bins) / n_pixels
    return Reliability(n_pixels.astype(np.int64), predicted, observed)
