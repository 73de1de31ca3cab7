"""Is the spacing in a NIfTI header to be trusted? Distances in mm are computed from it."""

from __future__ import annotations

import numpy as np
from nibabel.affines import voxel_sizes

from data.command import InputError
from data.volumes import Volume

SAME_SPACING = 0.01  # as share; headers hold few digits


def check_spacing(volume: Volume) -> None:
    """Check that the spacing in a header (pixdim) is that of its affine: of two that differ neither can be trusted.

    Raises:
        InputError: they differ by more than 1 % along an axis.
    """
    edges = voxel_sizes(volume.affine)
    by_affine = tuple(
        float(edges[volume.file_axis[name]]) for name in ("slices", "rows", "columns")
    )
    if not np.allclose(volume.spacing_mm, by_affine, rtol=SAME_SPACING, atol=0):
        raise InputError(
            f"{volume.path}: its spacing must be that of its affine, pixdim says {_mm(volume.spacing_mm)} mm and the "
            f"affine {_mm(by_affine)} mm (slices x rows x columns)"
        )


def check_same_spacing(image: Volume, label: Volume) -> None:
    """Check that two volumes on one grid have one spacing in their headers (pixdim).

    Raises:
        InputError: they differ by more than 1 % along an axis.
    """
    if not np.allclose(label.spacing_mm, image.spacing_mm, rtol=SAME_SPACING, atol=0):
        raise InputError(
            f"{label.path}: its spacing of {_mm(label.spacing_mm)} mm is not that of {image.path.name}, "
            f"{_mm(image.spacing_mm)} mm (slices x rows x columns)"
        )


def _mm(lengths: tuple[float, ...]) -> str:
    return " x ".join(f"{mm:.4g}" for mm in lengths)
