"""Boxes and connected regions of masks, and measures of a label volume.

A tumor is a 6-connected component of label 2, as in the scoring of LiTS. By hand: scikit-image
would copy the whole volume as int64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

DIGITS = 6  # of a volume in ml: a thousandth of a mm3


@dataclass(frozen=True)
class Measures:
    """What was measured in a label volume; without a tumor search, the liver alone.

    Attributes:
        liver_ml: tumors included.
        tumor_count, tumor_ml: number and volume of all tumors.
        largest_tumor_ml: None without a tumor.
        tumor_volumes_ml: of each, largest first.
        tumor_burden_percent: 100 tumor_ml / liver_ml; None without a liver.
    """

    liver_ml: float
    tumor_count: int | None = None
    tumor_ml: float | None = None
    largest_tumor_ml: float | None = None
    tumor_volumes_ml: list[float] | None = None
    tumor_burden_percent: float | None = None


def measure_labels(labels: np.ndarray, voxel_ml: float, liver_only: bool = False) -> Measures:
    """Return the measures of liver and tumors, rounded to a thousandth of a mm3.

    Args:
        labels: (n_slices, rows, columns), 0 other, 1 liver, 2 tumor.
        voxel_ml: volume of one voxel in ml.
        liver_only: whether no tumor was looked for.

    Example:
        >>> labels = np.zeros((2, 3, 5), np.uint8)
        >>> labels[0] = 1
        >>> labels[0, 0, :3] = 2
        >>> measure_labels(labels, voxel_ml=0.5)  # doctest: +NORMALIZE_WHITESPACE
        Measures(liver_ml=7.5, tumor_count=1, tumor_ml=1.5, largest_tumor_ml=1.5,
                 tumor_volumes_ml=[1.5], tumor_burden_percent=20.0)
    """
    n_liver = int(np.count_nonzero(labels))
    liver_ml = round(n_liver * voxel_ml, DIGITS)
    if liver_only:
        return Measures(liver_ml)
    _, _, sizes = find_components(labels == 2)
    volumes = [round(int(size) * voxel_ml, DIGITS) for size in sorted(sizes, reverse=True)]
    n_tumor = int(sizes.sum())
    return Measures(
        liver_ml=liver_ml,
        tumor_count=len(volumes),
        tumor_ml=round(n_tumor * voxel_ml, DIGITS),
        largest_tumor_ml=volumes[0] if volumes else None,
        tumor_volumes_ml=volumes,
        tumor_burden_percent=round(100 * n_tumor / n_liver, DIGITS) if n_liver else None,
    )


def find_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Return the smallest box that holds a mask, bool; None for an empty one.

    >>> find_box(np.array([[False, True, True], [False, True, False]]))
    (slice(0, 2, None), slice(1, 3, None))
    """
    boxes = ndimage.find_objects(mask.view(np.uint8))
    return boxes[0] if boxes else None


def number_components(mask: np.ndarray) -> np.ndarray:
    """Number the connected regions of a mask from 1; 0 is what lies around them.

    Neighbours share an edge in two axes, a face in three.

    >>> number_components(np.array([True, True, False, True])).tolist()
    [1, 1, 0, 2]
    """
    return np.asarray(ndimage.label(mask)[0])


def find_components(
    mask: np.ndarray, corners: bool = False
) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """Return the box of a 3D mask's components, their numbers in it, voxels of each.

    Numbers are 1, 2, ...; 0 outside. `corners` joins across edges and corners, too (26-connected).
    """
    box = find_box(mask) or (slice(0, 0),) * mask.ndim
    numbers, n = ndimage.label(mask[box], np.ones((3,) * mask.ndim) if corners else None)
    sizes = np.zeros(n + 1, np.int64)
    for slice_numbers in numbers:  # slice by slice: bincount takes 8 bytes a voxel
        sizes += np.bincount(slice_numbers.ravel(), minlength=n + 1)
    return box, numbers, sizes[1:]


def keep_largest(labels: np.ndarray) -> np.ndarray:
    """Keep the largest piece of liver with its tumors, 26-connected.

    Of equal pieces the one further to the feet. Without a liver, nothing changes.

    Example:
        >>> keep_largest(np.array([[[1, 1, 2, 0, 1]]])).tolist()
        [[[1, 1, 2, 0, 0]]]
    """
    box, numbers, sizes = find_components(labels > 0, corners=True)
    if len(sizes) < 2:
        return labels
    largest = np.zeros_like(labels)
    largest[box] = np.where(numbers == int(sizes.argmax()) + 1, labels[box], 0)
    return largest
