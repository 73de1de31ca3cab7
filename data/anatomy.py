"""Does a volume lie as its header says? Spine, liver and lungs tell.

Headers of public cohorts are not all true: some volumes of LiTS are mirrored or turned against
their affine.
"""

from __future__ import annotations

import numpy as np

AIR_HU, BODY_HU, BONE_HU = -500, -200, 250
# In an 8-bit rendering that ends below BONE_HU; vessels and kidneys are as bright.
LEAST_BONE_HU = 150
LEAST_BONE = 200  # pixels; fewer tell nothing
AWAY = 0.05  # of the picture's side: how clearly the spine must lie in front
LIVER_AWAY = 0.03  # and the liver on its side
ASIDE = 0.08  # and how clearly to one side; a full stomach weighs less
LUNG_SHARE = 0.2  # of the body's box: air in the chest; gas in the bowel is less
STEP = 4  # every fourth pixel and slice will do

FLIPS = {
    "columns": "the liver is on the patient's left",
    "rows": "the spine lies in front",
    "slices": "the lungs lie below",
}


def find_flips(hu: np.ndarray, labels: np.ndarray) -> tuple[list[str], bool]:
    """Find the axes along which a volume seems mirrored.

    Mirroring one of two mirrored axes would make a mirror image of the patient. So it can be acted
    on only where spine and liver both tell clearly on which side they lie.

    Args:
        hu: ndarray (n_slices, size, size), HU, canonical order (head up, front and right first).
        labels: of the same shape, 0 other, 1 liver, 2 tumor.

    Returns:
        Keys of `FLIPS`, and whether they can be acted on.
    """
    rows = _find_liver_rows(labels)
    behind, _ = _locate_spine(hu, rows)
    left = _locate_liver(hu, labels, rows)
    seems_mirrored = {
        "columns": left > 0,
        "rows": behind < -AWAY,
        "slices": _has_lungs_below(hu),
    }
    is_clear = abs(behind) > AWAY and abs(left) > LIVER_AWAY
    return [axis for axis, is_mirrored in seems_mirrored.items() if is_mirrored], is_clear


def seems_turned(hu: np.ndarray, labels: np.ndarray) -> bool:
    """Return whether the spine lies to one side, a quarter turn."""
    behind, left = _locate_spine(hu, _find_liver_rows(labels))
    return abs(left) > ASIDE and abs(left) > 2 * abs(behind)


def mirror_affine(affine: np.ndarray, shape: tuple[int, ...], file_axes: list[int]) -> np.ndarray:
    """Return the affine that presents a volume mirrored along some axes of its file.

    Args:
        affine: of the volume, (4, 4).
        shape: of the file.
        file_axes: the axes to mirror, 0 to 2.
    """
    flip = np.eye(4)
    for axis in file_axes:
        flip[axis, axis], flip[axis, 3] = -1, shape[axis] - 1
    return affine @ flip


def _find_liver_rows(labels: np.ndarray) -> np.ndarray:
    return np.flatnonzero([labels[row].any() for row in range(len(labels))])


def _find_center(counts: np.ndarray) -> float:
    """Return the mean place of counts along an axis, as a share of its length."""
    return float(counts @ (np.arange(len(counts)) / len(counts)) / counts.sum())


def _locate_liver(hu: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> float:
    """Return how far left of the body's centre the liver lies, by the width."""
    liver, body = np.zeros(hu.shape[2]), np.zeros(hu.shape[2])
    for row in rows[::STEP]:
        liver += np.count_nonzero(labels[row], axis=0)
        body += np.count_nonzero(hu[row] > BODY_HU, axis=0)
    return _find_center(liver) - _find_center(body) if liver.any() and body.any() else 0.0


def _locate_spine(hu: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
    """Return how far behind and left of the body's centre the bone lies, by the side.

    In the slices that hold liver; (0, 0) where there is too little bone to tell.
    """
    bone, body = np.zeros(hu.shape[1:]), np.zeros(hu.shape[1:])
    bone_hu = BONE_HU if hu.max() >= BONE_HU else LEAST_BONE_HU
    for row in rows[::STEP]:
        bone += hu[row] >= bone_hu
        body += hu[row] > BODY_HU
    if bone.sum() < LEAST_BONE:
        return 0.0, 0.0
    behind, left = (_find_center(bone.sum(axis)) - _find_center(body.sum(axis)) for axis in (1, 0))
    return behind, left


def _has_lungs_below(hu: np.ndarray) -> bool:
    """Return whether the lowest quarter holds far more air than the highest."""
    quarter = max(1, len(hu) // 4)
    below, above = (_measure_air(part) for part in (hu[:quarter], hu[-quarter:]))
    return below > LUNG_SHARE and below > 3 * above


def _measure_air(hu: np.ndarray) -> float:
    """Return the share of air in the box that holds nine tenths of the body."""
    small = hu[:: max(1, len(hu) // STEP), ::STEP, ::STEP]
    body = small > BODY_HU
    box = []
    for axes in ((0, 2), (0, 1)):
        counts = np.count_nonzero(body, axis=axes)
        share = np.cumsum(counts) / max(1, counts.sum())
        low, high = np.searchsorted(share, (0.05, 0.95))
        box.append(slice(low, high + 1))
    inside = small[:, box[0], box[1]]
    return float(np.mean(inside < AIR_HU)) if inside.size else 0.0
