"""What is drawn of a cohort's probabilities: ROC curves, thresholds, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.metrics.calibration import measure_reliability
from evaluation.metrics.counts import Counts
from evaluation.metrics.roc import LOWEST_DRAWN_FPR, ProbabilityHistogram, reduce_curve


def describe_curves(
    histogram: ProbabilityHistogram, thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Return the ROC curves of all pixels of a cohort, with thresholds on them.

    Curves are of all pixels and of p in (0.01, 0.99), thinned for drawing. `auc` and `rauc` are
    not. A curve is None without a pixel inside, or outside, the reference.

    Example:
        >>> histogram = ProbabilityHistogram()
        >>> histogram.add(np.array([0.2, 0.4, 0.6, 0.8]), np.array([False, True, False, True]))
        >>> curves = describe_curves(histogram, {"0.5": 0.5})
        >>> curves["auc"], curves["points"]["0.5"]["tpr"]
        (0.75, 0.5)
    """
    # Areas are of every bin; only the curves are thinned, as they are drawn and published.
    inside = histogram.inside(0.01, 0.99)
    auc, rauc = histogram.auc(), histogram.rauc()
    full = None if auc is None else reduce_curve(histogram.roc(), lowest_fpr=LOWEST_DRAWN_FPR)
    restricted = None if rauc is None else reduce_curve(histogram.roc(0.01, 0.99))
    return {
        "auc": auc,
        "rauc": rauc,
        **_describe_calibration(histogram, inside),
        "n_positive": int(histogram.positive.sum()),
        "n_negative": int(histogram.negative.sum()),
        "n_restricted_positive": int(inside.positive.sum()),
        "n_restricted_negative": int(inside.negative.sum()),
        "full": full
        and {"fpr": _list(full.false_positive_rate), "tpr": _list(full.true_positive_rate)},
        "restricted": restricted
        and {
            "fpr": _list(restricted.false_positive_rate),
            "tpr": _list(restricted.true_positive_rate),
            "threshold": _list(restricted.threshold),
        },
        "thresholds": dict(thresholds),
        "points": {
            rule: _find_point(histogram, inside, threshold)
            for rule, threshold in thresholds.items()
        },
    }


def _describe_calibration(
    histogram: ProbabilityHistogram, inside: ProbabilityHistogram
) -> dict[str, Any]:
    diagram = measure_reliability(histogram)
    drawn: dict[str, Any] = {"n_pixels": diagram.n_pixels.tolist()}
    for name in ("predicted", "observed"):
        values = zip(diagram.n_pixels, getattr(diagram, name), strict=True)
        drawn[name] = [float(value) if n else None for n, value in values]
    return {
        "reliability": drawn,
        "ece": diagram.ece,
        "ece_restricted": measure_reliability(inside).ece,
    }


def _find_point(
    histogram: ProbabilityHistogram, inside: ProbabilityHistogram, threshold: float
) -> dict[str, float | None]:
    fpr, tpr = _find_rates(histogram.counts(threshold))
    is_inside = 0.01 <= threshold <= 0.99
    restricted = _find_rates(inside.counts(threshold)) if is_inside else (None, None)
    return {
        "fpr": fpr,
        "tpr": tpr,
        "restricted_fpr": restricted[0],
        "restricted_tpr": restricted[1],
    }


def _find_rates(counts: Counts) -> tuple[float | None, float | None]:
    negative, positive = counts.fp + counts.tn, counts.tp + counts.fn
    return counts.fp / negative if negative else None, counts.tp / positive if positive else None


def _list(values: np.ndarray) -> list[float]:
    return [float(f"{value:.7g}") for value in np.nan_to_num(values, posinf=1.0)]
