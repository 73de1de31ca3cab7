"""What is measured in a segmentation: volumes of liver and tumors in ml, number of tumors, tumor burden.

The volume of a voxel is |det| of the affine, so it holds for oblique and sheared grids as well. A tumor is a connected
component of label 2 in three dimensions, voxels joined by their faces (6-connected, as the scoring of LiTS has it).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from data.anatomy import FLIPS, find_flips
from data.files import write_json, write_text
from data.volumes import Volume

MM3_PER_ML = 1000.0
DIGITS = 6  # of a volume in ml: a thousandth of a mm3
SAME_VOLUME = 0.01
SAME_MM = 0.05  # between the two affines of a header
LEAST_MM, MOST_MM = 0.1, 20.0  # spacings of CT lie between
EVERY = 2  # pixels: enough to see where liver and spine lie

COLUMNS = (
    *(
        "case",
        "liver_ml",
        "tumor_count",
        "tumor_ml",
        "largest_tumor_ml",
        "tumor_volumes_ml",
        "tumor_burden_percent",
    ),
    *("spacing_mm", "model", "loss", "threshold_rule", "run"),
)
"""Of the CSV. `liver_ml` includes the tumors, which are 100 tumor_ml / liver_ml percent of it; lists are separated by
spaces; `spacing_mm` is between slices, rows and columns; what was not measured is empty."""


def voxel_ml(volume: Volume) -> float:
    """Return the volume of one voxel in ml."""
    return abs(float(np.linalg.det(volume.affine[:3, :3]))) / MM3_PER_ML


def measure(labels: np.ndarray, ml: float, liver_only: bool = False) -> dict[str, Any]:
    """Measure a label volume.

    Args:
        labels: ndarray of shape (n_slices, rows, columns), 0 other, 1 liver, 2 tumor.
        ml: volume of one voxel.
        liver_only: no tumor was looked for.

    Returns:
        `liver_ml` (tumors included), `tumor_count`, `tumor_ml`, `largest_tumor_ml` (None without a tumor),
        `tumor_volumes_ml` (largest first), `tumor_burden_percent` (None without a liver); all of the tumor's are None
        where none was looked for.
    """
    n_liver = int(np.count_nonzero(labels))
    found: dict[str, Any] = {"liver_ml": round(n_liver * ml, DIGITS)}
    if liver_only:
        return found | dict.fromkeys(COLUMNS[2:7])
    _, _, sizes = components(labels == 2)
    volumes = [round(int(size) * ml, DIGITS) for size in sorted(sizes, reverse=True)]
    n_tumor = int(sizes.sum())
    return found | {
        "tumor_count": len(volumes),
        "tumor_ml": round(n_tumor * ml, DIGITS),
        "largest_tumor_ml": volumes[0] if volumes else None,
        "tumor_volumes_ml": volumes,
        "tumor_burden_percent": round(100 * n_tumor / n_liver, DIGITS) if n_liver else None,
    }


def components(
    mask: np.ndarray, corners: bool = False
) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """Find the connected components of a mask.

    Args:
        mask: bool, 3-D.
        corners: join voxels that share an edge or a corner, too (26-connected).

    Returns:
        The box that holds them all, their numbers (1, 2, ... and 0 outside) in that box, the voxels of each.
    """
    boxes = ndimage.find_objects(mask.view(np.uint8))
    box = boxes[0] if boxes else (slice(0, 0),) * mask.ndim
    numbers, n = ndimage.label(mask[box], np.ones((3,) * mask.ndim) if corners else None)
    sizes = np.zeros(n + 1, np.int64)
    for part in numbers:  # slice by slice: bincount takes 8 bytes a voxel
        sizes += np.bincount(part.ravel(), minlength=n + 1)
    return box, numbers, sizes[1:]


def keep_largest(labels: np.ndarray) -> np.ndarray:
    """Return the labels of the largest piece of liver (with its tumors, 26-connected) and 0 elsewhere.

    Of two that are equally large the one further to the feet is kept. No liver: nothing changes.
    """
    box, numbers, sizes = components(labels > 0, corners=True)
    if len(sizes) < 2:
        return labels
    kept = np.zeros_like(labels)
    kept[box] = np.where(numbers == int(sizes.argmax()) + 1, labels[box], 0)
    return kept


def in_words(row: dict[str, Any]) -> str:
    """Say what was measured: `liver 1523.4 ml, 2 tumors of 12.00 ml in all`."""
    liver = f"liver {row['liver_ml']:.1f} ml"
    if row["tumor_ml"] is None:
        return liver
    n = row["tumor_count"]
    if not n:
        return f"{liver}, no tumor"
    return f"{liver}, {n} tumor{'' if n == 1 else 's'} of {row['tumor_ml']:.2f} ml in all"


def geometry_notes(volume: Volume) -> list[str]:
    """Say so where a header contradicts itself, or says what is hardly true."""
    notes = []
    by_spacing, by_affine = float(np.prod(volume.spacing_mm)), voxel_ml(volume) * MM3_PER_ML
    if abs(by_spacing - by_affine) > SAME_VOLUME * by_affine:
        notes.append(
            f"a voxel has {by_spacing:.4g} mm3 by the header's spacing and {by_affine:.4g} mm3 by its affine; "
            "volumes are by the affine"
        )
    if volume.spacing_mm == (1.0, 1.0, 1.0) and (volume.affine[:3, :3] == np.eye(3)).all():
        notes.append(
            "its affine is the identity, hardly true: volumes in ml, left and right, front and back may be wrong"
        )
    elif not all(LEAST_MM <= mm <= MOST_MM for mm in volume.spacing_mm):
        spacing = " x ".join(f"{mm:.4g}" for mm in volume.spacing_mm)
        notes.append(
            f"a spacing of {spacing} mm is hardly that of a CT: volumes in ml may be wrong"
        )
    return notes + _code_notes(volume)


def _code_notes(volume: Volume) -> list[str]:
    """Say so where the two affines of a NIfTI header are both missing, or differ."""
    header = volume.header_copy()
    codes = int(header["qform_code"]), int(header["sform_code"])
    if not any(codes):
        return [
            "its header says nothing of its orientation (qform and sform code 0): left and right may be wrong"
        ]
    if all(codes) and not np.allclose(header.get_qform(), header.get_sform(), atol=SAME_MM):
        return ["qform and sform of its header differ; sform was taken"]
    return []


def anatomy_notes(volume: Volume, labels: np.ndarray) -> list[str]:
    """Say so where what was found contradicts the affine (see `data.anatomy`).

    Args:
        volume: the CT.
        labels: found in it, ndarray of shape (n_slices, rows, columns), canonical order.
    """
    hu = np.concatenate([chunk[:, ::EVERY, ::EVERY] for _, chunk in volume.chunks()])
    small = labels[:, ::EVERY, ::EVERY]
    if not small.any():
        return []
    found, _ = find_flips(hu, small)
    return [f"{FLIPS[axis]}: is the affine right?" for axis in found]


def beside(path: Path, suffix: str) -> Path:
    """Return the name of a file beside a NIfTI file: its own without .nii or .nii.gz, and `suffix`."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + suffix)


def write_table(stem: Path, content: dict[str, Any]) -> None:
    """Write `content` as STEM.json and its `cases` as STEM.csv (see COLUMNS), each whole or not at all."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row[column]) for column in COLUMNS] for row in content["cases"])
    write_text(stem.with_name(f"{stem.name}.csv"), text.getvalue())
    write_json(stem.with_name(f"{stem.name}.json"), content)


def _cell(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value))
    return "" if value is None else value
