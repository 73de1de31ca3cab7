"""The ROC curve of pixels that fit into memory, exact: by sorting, without bins.

`evaluation.roc` streams any number of pixels through a histogram; this is its counterpart for some ten million, and
what the tests hold it to. Between two probabilities of positive pixels the curve only runs to the right, so its corners
lie at the distinct probabilities of the positives, which are few.
"""

from __future__ import annotations

import numpy as np

from evaluation.roc import Roc


def exact_roc(probability: np.ndarray, reference: np.ndarray, low: float = 0.0, high: float = 1.0) -> Roc:
    """Return the exact ROC curve, of all pixels or of those with probability in (low, high).

    Args:
        probability: ndarray of any shape, a floating dtype, values in [0, 1].
        reference: ndarray of the same shape, dtype bool.
        low, high: for the restricted curve (paper 3.2.1: 0.01 and 0.99); 0 and 1 take every pixel.

    Returns:
        The curve with its corners; its `area()` is the AUC, ties counted as a half. `threshold[i]` is the probability
        that a pixel must reach, except the first, which nothing reaches.

    Raises:
        ValueError: unequal shapes, no pixel inside or none outside the reference.
    """
    if probability.shape != reference.shape:
        raise ValueError(f"probability and reference must have one shape, got {probability.shape}, {reference.shape}")
    p, positive = probability.reshape(-1), reference.reshape(-1)
    if (low, high) != (0.0, 1.0):
        inside = (p > low) & (p < high)
        p, positive = p[inside], positive[inside]
    of_positive, of_negative = np.sort(p[positive]), np.sort(p[~positive])
    if not len(of_positive) or not len(of_negative):
        raise ValueError("the ROC curve needs pixels inside and outside the reference")
    values = np.unique(of_positive)[::-1]
    found = len(of_positive) - np.searchsorted(of_positive, values, side="left")
    wrong_with, wrong_above = (
        len(of_negative) - np.searchsorted(of_negative, values, side) for side in ("left", "right")
    )
    # a step to the right up to the value, then, over its ties, to the next corner
    before = np.concatenate([[0], found[:-1]])
    tpr = np.stack([before, found], axis=1).ravel() / len(of_positive)
    fpr = np.stack([wrong_above, wrong_with], axis=1).ravel() / len(of_negative)
    threshold = np.repeat(values.astype(np.float64), 2)
    return Roc(
        np.concatenate([[0.0], fpr, [1.0]]),
        np.concatenate([[0.0], tpr, [1.0]]),
        np.concatenate([[np.inf], threshold, [0.0]]),
    )
