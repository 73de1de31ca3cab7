"""Which lesions were found, by size, and what was drawn where none is.

A lesion is a 6-connected component (`evaluation.metrics.lesions`) among the scored slices; where a
split takes single slices, pieces are counted. Diameters are of a sphere of the same volume. Empty
masks give no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.lesions import LESION, find_lesions

BINS_MM = (0.0, 10.0, 20.0, 30.0, float("inf"))


@dataclass(frozen=True)
class Lesion:
    """A lesion of the reference, or a prediction that touches none.

    Attributes:
        kind: "lesion" or "false positive".
        diameter_mm: of a sphere of the same volume.
        touched: whether a voxel of it was found.
        iou: with the best prediction; 0 for a false positive.
    """

    kind: str
    diameter_mm: float
    voxels: int
    touched: bool = False
    iou: float = 0.0


def compute_diameter_mm(volume_mm3: float) -> float:
    """Compute the diameter of a sphere in mm.

    >>> round(compute_diameter_mm(1000 * np.pi / 6), 3)
    10.0
    """
    return float((6 * volume_mm3 / np.pi) ** (1 / 3))


def list_lesions(prediction: np.ndarray, reference: np.ndarray, voxel_mm3: float) -> list[Lesion]:
    """List the lesions of a case, then the predictions that touch none.

    Args:
        prediction, reference: tumor masks, bool (n_slices, rows, columns); slices that were not
            scored are empty in both.
        voxel_mm3: volume of a voxel.
    """
    lesions = find_lesions(prediction * np.uint8(LESION), reference * np.uint8(LESION))
    best = lesions.iou.max(axis=0, initial=0)
    is_touched, touches = (lesions.overlap.sum(axis=axis) > 0 for axis in (0, 1))

    def measure(numbers: np.ndarray, number: int) -> tuple[float, int]:
        voxels = int(np.count_nonzero(numbers == number))
        return round(compute_diameter_mm(voxels * voxel_mm3), 2), voxels

    return [
        Lesion("lesion", *measure(lesions.reference, n), bool(is_touched[n]), float(best[n]))
        for n in range(1, lesions.n_reference + 1)
    ] + [
        Lesion("false positive", *measure(lesions.prediction, n))
        for n in range(1, lesions.n_prediction + 1)
        if not touches[n]
    ]


def count_found(diameters_mm: Sequence[float], is_found: Sequence[bool]) -> list[tuple[int, int]]:
    """Return (found, all) lesions in each of `BINS_MM`.

    >>> count_found([4.0, 12.0, 15.0], [False, True, False])
    [(0, 1), (1, 2), (0, 0), (0, 0)]
    """
    sizes = np.digitize(diameters_mm, BINS_MM) - 1
    found = np.asarray(is_found, bool)
    return [
        (int(found[sizes == n].sum()), int((sizes == n).sum())) for n in range(len(BINS_MM) - 1)
    ]
