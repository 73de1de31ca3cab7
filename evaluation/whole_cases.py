"""Scores of whole cases, every slice of them on the store's grid: liver and tumor as volumes (`whole_cases.csv`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from data.batches import target_of
from data.store import Store
from evaluation.metrics.counts import (
    Counts,
    dice,
    iou,
    partition_rand_index,
    precision,
    rvd,
    sensitivity,
    specificity,
    voe,
)
from evaluation.metrics.regions import find_box, number_components
from evaluation.metrics.surfaces import measure_distances
from evaluation.names import TARGETS

DISTANCES = ("assd_mm", "rmsd_mm", "hausdorff_mm", "hausdorff95_mm")


def spacing_of(store: Store, case: str) -> tuple[float, float, float]:
    """Return the spacing of the store's slices in mm: the volume's own slices, padded to a square and resampled."""
    entry = store.cases[case]
    slice_mm, row_mm, column_mm = entry["spacing_mm"]
    factor = max(entry["native_shape"]) / store.size
    return slice_mm, row_mm * factor, column_mm * factor


def whole_case_rows(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> list[dict[str, Any]]:
    """Score a case's label maps as volumes.

    Args:
        prediction, reference: ndarrays of shape (n_slices, rows, columns), 0 other, 1 liver, 2 tumor.
        spacing_mm: of each axis.

    Returns:
        For liver (tumor included) and tumor: {"target", "prediction_ml", "reference_ml", "dice", "iou", "voe"
        (1 - IoU), "rvd" (prediction / reference - 1), "sensitivity", "specificity", "precision", "assd_mm", "rmsd_mm",
        "hausdorff_mm", "hausdorff95_mm", "components_rand_index" (of the connected regions, paper 3.2.2),
        "burden_percent", "reference_burden_percent" (tumor in the liver)}. `evaluation.metrics.counts` has the rule for empty
        masks; what has no value (distances from or to an empty mask, burden without a liver) is None.
    """
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    masks = {
        target: [target_of(labels, target) > 0 for labels in (prediction, reference)]
        for target in TARGETS
    }
    counted = {target: Counts.of(*both) for target, both in masks.items()}
    sizes = {
        target: (counts.tp + counts.fp, counts.tp + counts.fn) for target, counts in counted.items()
    }
    burdens = [
        100 * tumor / liver if liver else None
        for tumor, liver in zip(*(sizes[t] for t in ("tumor", "liver")), strict=True)
    ]
    rows = []
    for target, (found, given) in masks.items():
        counts, distances = counted[target], measure_distances(found, given, spacing_mm)
        n_found, n_given = sizes[target]
        rows.append(
            {
                "target": target,
                "prediction_ml": round(n_found * voxel_ml, 3),
                "reference_ml": round(n_given * voxel_ml, 3),
                "dice": dice(counts),
                "iou": iou(counts),
                "voe": voe(counts),
                "rvd": rvd(counts),
                "sensitivity": sensitivity(counts),
                "specificity": specificity(counts),
                "precision": precision(counts),
                **{name: distances and round(getattr(distances, name), 4) for name in DISTANCES},
                "components_rand_index": components_rand_index(found, given),
                "burden_percent": burdens[0],
                "reference_burden_percent": burdens[1],
            }
        )
    return rows


def case_counts(prediction: np.ndarray, reference: np.ndarray, target: str) -> Counts:
    """Return the counts of a case's voxels for "liver" (tumor included) or "tumor", of two label maps."""
    return Counts.of(target_of(prediction, target) > 0, target_of(reference, target) > 0)


def components_rand_index(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Return the Rand index of the connected regions of two masks, ndarrays of one shape, bool.

    Merged or split regions lower it much, a shifted outline little (paper 3.2.2).
    """
    box = find_box(prediction | reference)
    if box is None:
        return 1.0
    inside = number_components(prediction[box])
    return partition_rand_index(
        inside, number_components(reference[box]), outside=prediction.size - inside.size
    )
