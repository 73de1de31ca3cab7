"""Post-processing of label maps: named options, each alone or several in this order, for every model.

None of them is in the paper; the paper's results are those without any. Which of them a system gets is chosen on
validation data (`chosen`), and what each does alone stands in the ablation table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from scipy import ndimage
from skimage.segmentation import morphological_chan_vese

from data.scaling import window
from evaluation.metrics.regions import find_components, keep_largest

# Assumed.
LEAST_DIAMETER_MM = 5.0
"""Diameter of a sphere as large as the smallest lesion that `min_lesion` keeps."""
CONTOUR_STEPS = 2
CONTOUR_WINDOW_HU = (-100.0, 400.0)
CONTOUR_MARGIN = 4
"""Voxels around the liver that the contour sees; it moves by one a step."""

Spacing = tuple[float, float, float]


def inside_liver(labels: np.ndarray, liver: np.ndarray) -> np.ndarray:
    """Drop tumor where the liver was not found: one-step gives each pixel its tumor without asking for a liver."""
    return np.where((labels == 2) & ~liver, 0, labels).astype(np.uint8)


def fill_holes(labels: np.ndarray) -> np.ndarray:
    """Call liver what liver surrounds in its slice."""
    filled = np.stack([ndimage.binary_fill_holes(slice_ > 0) for slice_ in labels])
    return np.where(filled & (labels == 0), 1, labels).astype(np.uint8)


def min_lesion(labels: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Call liver the lesions (6-connected) that are smaller than a sphere of `LEAST_DIAMETER_MM`."""
    least = np.pi / 6 * LEAST_DIAMETER_MM**3 / float(np.prod(spacing_mm))
    box, numbers, sizes = find_components(labels == 2)
    small = np.concatenate([[False], sizes < least])
    kept = labels.copy()
    kept[box][small[numbers]] = 1
    return kept


def active_contour(labels: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """Move the outline of the liver, then that of the tumors in it, by a morphological active contour on the image.

    `skimage.segmentation.morphological_chan_vese`, `CONTOUR_STEPS` steps from the mask as it is, on the windowed CT;
    the tumors' outline moves on the liver alone, whose surroundings are given the liver's mean.
    """
    boxes = ndimage.find_objects((labels > 0).view(np.uint8))
    if not boxes:
        return labels
    box = tuple(
        slice(max(part.start - CONTOUR_MARGIN, 0), part.stop + CONTOUR_MARGIN) for part in boxes[0]
    )
    found, image = labels[box], window(np.asarray(hu[box], np.float32), *CONTOUR_WINDOW_HU)
    liver = morphological_chan_vese(image, CONTOUR_STEPS, init_level_set=found > 0).astype(bool)
    tumor = (found == 2) & liver
    if tumor.any() and (liver & ~tumor).any():
        image = np.where(liver, image, image[liver & ~tumor].mean())
        tumor = (
            morphological_chan_vese(image, CONTOUR_STEPS, init_level_set=tumor).astype(bool) & liver
        )
    moved = np.zeros_like(labels)
    moved[box] = liver.astype(np.uint8) + tumor
    return moved


OPTIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, Spacing], np.ndarray]] = {
    "inside_liver": lambda labels, liver, hu, spacing_mm: inside_liver(labels, liver),
    "largest_liver": lambda labels, liver, hu, spacing_mm: keep_largest(labels),
    "fill_holes": lambda labels, liver, hu, spacing_mm: fill_holes(labels),
    "active_contour": lambda labels, liver, hu, spacing_mm: active_contour(labels, hu),
    "min_lesion": lambda labels, liver, hu, spacing_mm: min_lesion(labels, spacing_mm),
}
"""By name, in the order in which several are applied: the smallest lesions last, since the contour may leave some."""
NONE, CHOSEN = "none", "chosen"


def check_options(names: Iterable[str]) -> tuple[str, ...]:
    """Return the options in the order in which they are applied.

    Raises:
        ValueError: one is unknown.
    """
    names = set(names)
    if unknown := sorted(names - OPTIONS.keys()):
        raise ValueError(
            f"unknown post-processing {', '.join(unknown)}; there are {', '.join(OPTIONS)}"
        )
    return tuple(name for name in OPTIONS if name in names)


def postprocess(
    labels: np.ndarray, liver: np.ndarray, hu: np.ndarray, spacing_mm: Spacing, names: Iterable[str]
) -> np.ndarray:
    """Apply options to a label map.

    Args:
        labels: uint8 (n_slices, rows, columns), 0 other, 1 liver, 2 tumor.
        liver: bool, the same shape: L > s1, before tumor was counted to the liver.
        hu: CT in HU, the same shape.
        spacing_mm: of each axis.
        names: of `OPTIONS`, in any order.

    Returns:
        uint8, the same shape; `labels` itself where nothing was asked for.
    """
    for name in check_options(names):
        labels = OPTIONS[name](labels, liver, hu, spacing_mm)
    return labels


def choose(
    alone: Mapping[str, float], together: Callable[[tuple[str, ...]], float]
) -> tuple[str, ...]:
    """Return the options to use: those that raise the score alone, by falling gain, each kept if it raises it further.

    Args:
        alone: score of each option by name, and without any as `NONE`.
        together: gives the score of several options.
    """
    helpful = sorted(
        (name for name in OPTIONS if alone[name] > alone[NONE]), key=lambda name: -alone[name]
    )
    chosen, best = tuple(helpful[:1]), alone[helpful[0]] if helpful else alone[NONE]
    for name in helpful[1:]:
        more = check_options([*chosen, name])
        score = together(more)
        if score > best:
            chosen, best = more, score
    return chosen
