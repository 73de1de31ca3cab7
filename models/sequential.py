"""Turn probabilities into labels by the paper's rule (paper 2.1, 2.3).

Notation: X slice, L first network, T second network, s1 and s2 thresholds, M = [L(X) > s1] the
liver mask, M * w(X) the second network's input. Arrays are of any backend and shape, where nothing
else is said.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # ndarray or backend tensor

BACKGROUND, LIVER, TUMOR = 0, 1, 2


def mask_liver(liver_probability: Array, s1: float) -> Array:
    """Return M = [L(X) > s1], boolean."""
    return liver_probability > s1


def mask_tumor(tumor_probability: Array, mask: Array) -> Array:
    """Return T inside M and zero outside: a tumor lies in the liver (paper 2.3)."""
    return tumor_probability * mask


def label_map(liver_probability: Array, tumor_probability: Array, s1: float, s2: float) -> Array:
    """Return 2 where T > s2, else 1 where L > s1, else 0 (paper 2.3).

    Pixels with T > s2 and L <= s1 are tumor here, so liver too; the liver of Table 1 is L > s1
    alone. The sequential model has none where s1 is the threshold M was made with (rule `roc`, by
    default).

    Args:
        liver_probability: L; for the one-step model the probability of liver or tumor.
        tumor_probability: T inside M and zero outside (`mask_tumor`); for the one-step model the
            probability of tumor.
        s1, s2: thresholds of the liver and of the tumor.

    Returns:
        ndarray of the same shape, uint8.
    """
    tumor = tumor_probability > s2
    return (tumor | mask_liver(liver_probability, s1)).astype("uint8") + tumor.astype("uint8")


def split_classes(classes: Array) -> tuple[Array, Array]:
    """Return (liver or tumor, tumor) probabilities of (..., 3): other, liver, tumor."""
    # 1 - p(other) rather than p(liver) + p(tumor): the sum can exceed 1 by rounding.
    return 1 - classes[..., BACKGROUND], classes[..., TUMOR]


def find_most_probable(liver: Array, tumor: Array) -> Array:
    """Return the label 0/1/2 of the most probable of other, liver and tumor.

    From ndarrays with the probability of liver or tumor, and of tumor, to int64 of the same shape.
    Of equal probabilities the first class counts.
    """
    return np.argmax(np.stack([1 - liver, liver - tumor, tumor]), axis=0)
