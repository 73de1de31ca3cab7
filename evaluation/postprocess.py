"""Named options that clean a label map, alone or several in one order.

None is in the paper. Validation data chooses those of a system (`choose_options`); the ablation
table shows each alone. The global and local pipeline has its own and ends with a contour
(`move_tumor_contour`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data.inputs import target_of
from data.scaling import window
from evaluation.metrics.counts import Counts, iou
from evaluation.metrics.regions import find_components, keep_largest
from evaluation.names import TARGETS

# Assumed.
LEAST_DIAMETER_MM = 5.0
"""Diameter of a sphere as large as the smallest lesion that `min_lesion` keeps."""
CONTOUR_STEPS = 2
CONTOUR_WINDOW_HU = (-100.0, 400.0)
CONTOUR_MARGIN = 4
"""Voxels around the liver that the contour sees; it moves by one a step."""

Spacing = tuple[float, float, float]


def drop_outer_tumor(labels: np.ndarray, liver: np.ndarray) -> np.ndarray:
    """Drop tumor outside the liver, which one-step does not ask for."""
    return np.where((labels == 2) & ~liver, 0, labels).astype(np.uint8)


def fill_holes(labels: np.ndarray) -> np.ndarray:
    """Call liver what liver surrounds in its slice."""
    filled = np.stack([ndimage.binary_fill_holes(slice_ > 0) for slice_ in labels])
    return np.where(filled & (labels == 0), 1, labels).astype(np.uint8)


def drop_small_lesions(labels: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Call small lesions liver: 6-connected, below a sphere of `LEAST_DIAMETER_MM`."""
    least = np.pi / 6 * LEAST_DIAMETER_MM**3 / float(np.prod(spacing_mm))
    box, numbers, sizes = find_components(labels == 2)
    is_small = np.concatenate([[False], sizes < least])
    cleaned = labels.copy()
    cleaned[box][is_small[numbers]] = 1
    return cleaned


def move_contours(labels: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """Move the outline of the liver, then of its tumors, by a contour on the image.

    `morphological_chan_vese` of scikit-image takes `CONTOUR_STEPS` steps from the mask, on the
    windowed CT. The tumors' outline moves on the liver alone; its surroundings get the liver's
    mean.
    """
    from skimage.segmentation import morphological_chan_vese

    boxes = ndimage.find_objects((labels > 0).view(np.uint8))
    if not boxes:
        return labels
    box = tuple(
        slice(max(part.start - CONTOUR_MARGIN, 0), part.stop + CONTOUR_MARGIN) for part in boxes[0]
    )
    inside, image = labels[box], window(np.asarray(hu[box], np.float32), *CONTOUR_WINDOW_HU)
    liver = morphological_chan_vese(image, CONTOUR_STEPS, init_level_set=inside > 0).astype(bool)
    tumor = (inside == 2) & liver
    if tumor.any() and (liver & ~tumor).any():
        image = np.where(liver, image, image[liver & ~tumor].mean())
        moved = morphological_chan_vese(image, CONTOUR_STEPS, init_level_set=tumor)
        tumor = moved.astype(bool) & liver
    contoured = np.zeros_like(labels)
    contoured[box] = liver.astype(np.uint8) + tumor
    return contoured


def move_tumor_contour(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Move the tumors' outline by a contour on the image; the liver's stays.

    `morphological_chan_vese` of scikit-image takes `CONTOUR_STEPS` steps of a voxel. Its outside
    mean is of everything else in the box, other organs too. So it can spoil correct tumors, more so
    with large voxels; systems are scored without it, too (`evaluation.names.NO_CONTOUR`).

    Args:
        labels: (n_slices, rows, columns), 0 other, 1 liver, 2 tumor.
        image: CT windowed to [0, 1], the same shape.

    Returns:
        Labels of the same shape. Former tumor is liver; tumor may leave the liver.
    """
    from skimage.segmentation import morphological_chan_vese

    tumor = labels == 2
    if not tumor.any() or tumor.all():
        return labels
    moved = morphological_chan_vese(image, CONTOUR_STEPS, init_level_set=tumor).astype(bool)
    return np.where(moved, 2, np.minimum(labels, 1)).astype(np.uint8)


OPTIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, Spacing], np.ndarray]] = {
    "inside_liver": lambda labels, liver, hu, spacing_mm: drop_outer_tumor(labels, liver),
    "largest_liver": lambda labels, liver, hu, spacing_mm: keep_largest(labels),
    "fill_holes": lambda labels, liver, hu, spacing_mm: fill_holes(labels),
    "active_contour": lambda labels, liver, hu, spacing_mm: move_contours(labels, hu),
    "min_lesion": lambda labels, liver, hu, spacing_mm: drop_small_lesions(labels, spacing_mm),
}
"""By name, in the order in which they are applied: small lesions last, a contour leaves some."""
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
    """Return a label map after options; `labels` itself where none was asked for.

    Args:
        labels: uint8 (n_slices, rows, columns), 0 other, 1 liver, 2 tumor.
        liver: bool, the same shape: L > s1, before tumor was counted to it.
        hu: CT in HU, the same shape.
        spacing_mm: of each axis.
        names: of `OPTIONS`, in any order.
    """
    for name in check_options(names):
        labels = OPTIONS[name](labels, liver, hu, spacing_mm)
    return labels


TargetCounts = dict[str, Counts]
"""Counts by target."""
OptionCounts = dict[str, TargetCounts]
"""Counts by option: "none", each of `OPTIONS`, and "chosen" once that is known."""


@dataclass(frozen=True)
class CaseMaps:
    """What options are applied to in a case.

    Attributes:
        labels, liver, hu, spacing_mm: as `postprocess` takes them.
        reference: labels 0/1/2, the same shape.
        rows: the slices that are counted, those of Table 1; options see the whole case.
    """

    labels: np.ndarray
    liver: np.ndarray
    hu: np.ndarray
    reference: np.ndarray
    spacing_mm: Spacing
    rows: Sequence[int]

    def count(self, options: Iterable[str]) -> TargetCounts:
        """Count the pixels by target after these options."""
        cleaned = postprocess(self.labels, self.liver, self.hu, self.spacing_mm, options)
        prediction, reference = cleaned[self.rows], self.reference[self.rows]
        return {
            target: Counts.of(target_of(prediction, target) > 0, target_of(reference, target) > 0)
            for target in TARGETS
        }


def count_options(case: CaseMaps, chosen: Iterable[str] | None = None) -> OptionCounts:
    """Count a case's pixels after each option alone, and after the chosen, if known."""
    counts = {NONE: case.count(()), **{name: case.count((name,)) for name in OPTIONS}}
    return counts if chosen is None else {**counts, CHOSEN: case.count(chosen)}


def choose_options(
    counts: Sequence[OptionCounts], maps: Callable[[], Iterable[CaseMaps]]
) -> tuple[str, ...]:
    """Choose options by the pooled IoU, mean of liver and tumor, on validation cases.

    `counts` are of `count_options`; `maps` yields the cases again, one by one.
    """
    alone = {name: score_mean_iou([case[name] for case in counts]) for name in (NONE, *OPTIONS)}
    return combine_options(
        alone, lambda names: score_mean_iou([case.count(names) for case in maps()])
    )


def combine_options(
    alone: Mapping[str, float], together: Callable[[tuple[str, ...]], float]
) -> tuple[str, ...]:
    """Return options that raise the score alone, by falling gain, and then further.

    `alone` scores each option by name, `NONE` without any; `together` scores several.
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


def score_mean_iou(cases: Sequence[Mapping[str, Counts]]) -> float:
    """Return the mean pooled IoU of liver and tumor, over the targets that occur."""
    pooled = [sum((case[target] for case in cases), Counts()) for target in TARGETS]
    known = [iou(counts) for counts in pooled if counts.n_pixels > counts.tn]
    return sum(known) / len(known) if known else 0.0
