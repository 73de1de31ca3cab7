"""Which lesions were found, by size: one row for each lesion of a case, and for each that was drawn where none is.

A lesion is a 6-connected component (`evaluation.metrics.lesions`) among the slices that were scored; where a split takes single
slices, pieces of lesions are counted. Diameters are those of a sphere of the same volume. Empty masks give no row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.metrics.lesions import LESION, find_lesions

BINS_MM = (0.0, 10.0, 20.0, 30.0, float("inf"))


def diameter_mm(volume_mm3: float) -> float:
    """Return the diameter of a sphere of that volume, in mm."""
    return float((6 * volume_mm3 / np.pi) ** (1 / 3))


def lesion_rows(
    prediction: np.ndarray, reference: np.ndarray, voxel_mm3: float
) -> list[dict[str, Any]]:
    """Return the lesions of a case.

    Args:
        prediction, reference: tumor masks, ndarrays of shape (n_slices, rows, columns), bool; slices that were not
            scored are empty in both.
        voxel_mm3: volume of a voxel.

    Returns:
        For each lesion of the reference {"kind": "lesion", "diameter_mm", "voxels", "touched" (a voxel of it was
        found), "iou" (of the best prediction)}; for each prediction that touches none one of kind "false positive".
    """
    lesions = find_lesions(prediction * np.uint8(LESION), reference * np.uint8(LESION))
    best = lesions.iou.max(axis=0, initial=0)
    touched = lesions.overlap.sum(axis=0) > 0
    sizes = np.bincount(lesions.reference, minlength=lesions.n_reference + 1)
    rows = [
        _row("lesion", int(sizes[n]), voxel_mm3, bool(touched[n]), float(best[n]))
        for n in range(1, lesions.n_reference + 1)
    ]
    sizes = np.bincount(lesions.prediction, minlength=lesions.n_prediction + 1)
    wrong = [n for n in range(1, lesions.n_prediction + 1) if not lesions.overlap[n].any()]
    return rows + [_row("false positive", int(sizes[n]), voxel_mm3, False, 0.0) for n in wrong]


def _row(kind: str, voxels: int, voxel_mm3: float, touched: bool, iou: float) -> dict[str, Any]:
    diameter = round(diameter_mm(voxels * voxel_mm3), 2)
    return {"kind": kind, "diameter_mm": diameter, "voxels": voxels, "touched": touched, "iou": iou}


def recall_by_diameter(rows: list[dict[str, Any]], threshold: float = 0.0) -> list[tuple[int, int]]:
    """Return (found, all) lesions in each of `BINS_MM`.

    Args:
        rows: of `lesions.csv`, values may be text.
        threshold: found means an IoU above it; 0: a voxel in common.
    """
    lesions = [row for row in rows if row["kind"] == "lesion"]
    sizes = np.digitize([float(row["diameter_mm"]) for row in lesions], BINS_MM) - 1
    found = np.array([_is_found(row, threshold) for row in lesions], bool)
    return [
        (int(found[sizes == n].sum()), int((sizes == n).sum())) for n in range(len(BINS_MM) - 1)
    ]


def _is_found(row: dict[str, Any], threshold: float) -> bool:
    if (
        threshold == 0
    ):  # tables of earlier versions rounded the IoU, that of a voxel in a large prediction to 0
        return str(row["touched"]) == "True"
    return float(row["iou"]) > threshold
