"""Does a volume lie as its header says? Spine, liver and lungs tell, where a header is known or feared to be wrong.

Headers of public cohorts are not all true: some volumes of LiTS are mirrored or turned against their affine.
"""

from __future__ import annotations

import numpy as np

AIR_HU, BODY_HU, BONE_HU = -500, -200, 250
LEAST_BONE_HU = (
    150  # in an 8-bit rendering that ends below BONE_HU; vessels and kidneys are as bright
)
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
    """Return the axes along which a volume seems mirrored, keys of `FLIPS`, and whether that can be acted on.

    Mirroring one of two mirrored axes would make a mirror image of the patient. So it can be acted on only where spine
    and liver both tell clearly on which side they lie.

    Args:
        hu: ndarray of shape (n_slices, size, size), canonical order (head up, front first, right first), HU.
        labels: of the same shape, 0 other, 1 liver, 2 tumor.
    """
    with_liver = _rows_with_liver(labels)
    behind, _ = _spine(hu, with_liver)
    left = _liver_to_the_left(hu, labels, with_liver)
    found = [
        axis for axis, is_wrong in (("columns", left > 0), ("rows", behind < -AWAY)) if is_wrong
    ]
    if _lungs_below(hu):
        found.append("slices")
    return found, abs(behind) > AWAY and abs(left) > LIVER_AWAY


def _liver_to_the_left(hu: np.ndarray, labels: np.ndarray, with_liver: np.ndarray) -> float:
    """How far the liver's centre lies to the left of the body's, as a share of the picture's width."""
    liver, body = np.zeros(hu.shape[2]), np.zeros(hu.shape[2])
    for row in with_liver[::STEP]:
        liver += np.count_nonzero(labels[row], axis=0)
        body += np.count_nonzero(hu[row] > BODY_HU, axis=0)
    if not liver.any() or not body.any():
        return 0.0
    places = np.arange(len(liver)) / len(liver)
    return float(liver @ places / liver.sum() - body @ places / body.sum())


def _spine(hu: np.ndarray, with_liver: np.ndarray) -> tuple[float, float]:
    """How far the bone's centre lies behind and to the left of the body's, as shares of the picture's side.

    In the slices that hold liver; (0, 0) where there is too little bone to tell.
    """
    bone, body = np.zeros(hu.shape[1:]), np.zeros(hu.shape[1:])
    bone_hu = BONE_HU if hu.max() >= BONE_HU else LEAST_BONE_HU
    for row in with_liver[::STEP]:
        bone += hu[row] >= bone_hu
        body += hu[row] > BODY_HU
    if bone.sum() < LEAST_BONE:
        return 0.0, 0.0
    places = np.arange(len(bone)) / len(bone)
    behind, left = (
        (bone.sum(axis) @ places) / bone.sum() - (body.sum(axis) @ places) / body.sum()
        for axis in (1, 0)
    )
    return float(behind), float(left)


def seems_turned(hu: np.ndarray, labels: np.ndarray) -> bool:
    """Whether the spine lies to one side: a quarter turn about the body's axis, which no mirroring sets right."""
    behind, left = _spine(hu, _rows_with_liver(labels))
    return abs(left) > ASIDE and abs(left) > 2 * abs(behind)


def _rows_with_liver(labels: np.ndarray) -> np.ndarray:
    return np.flatnonzero([labels[row].any() for row in range(len(labels))])


def _lungs_below(hu: np.ndarray) -> bool:
    """Whether the lowest quarter of the slices holds much air inside the body, and the highest far less."""
    quarter = max(1, len(hu) // 4)
    below, above = (_air_inside(part) for part in (hu[:quarter], hu[-quarter:]))
    return below > LUNG_SHARE and below > 3 * above


def _air_inside(hu: np.ndarray) -> float:
    """Share of air in the box that holds nine tenths of the body."""
    small = hu[:: max(1, len(hu) // STEP), ::STEP, ::STEP]
    body = small > BODY_HU
    box = [_nine_tenths(np.count_nonzero(body, axis=axes)) for axes in ((0, 2), (0, 1))]
    inside = small[:, box[0], box[1]]
    return float(np.mean(inside < AIR_HU)) if inside.size else 0.0


def _nine_tenths(counts: np.ndarray) -> slice:
    share = np.cumsum(counts) / max(1, counts.sum())
    return slice(int(np.searchsorted(share, 0.05)), int(np.searchsorted(share, 0.95)) + 1)


def mirror_affine(affine: np.ndarray, shape: tuple[int, ...], file_axes: list[int]) -> np.ndarray:
    """Return the affine that presents a volume mirrored along some axes of its file, (4, 4).

    Args:
        affine: of the volume.
        shape: of the file.
        file_axes: the axes to mirror, 0 to 2.
    """
    flip = np.eye(4)
    for axis in file_axes:
        flip[axis, axis], flip[axis, 3] = -1, shape[axis] - 1
    return affine @ flip
