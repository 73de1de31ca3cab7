"""Label volumes and maps written as NIfTI on the grid of the CT they belong to, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from data.files import replacing
from data.volumes import Volume


def write_labels(path: Path, labels: np.ndarray, like: Volume) -> None:
    """Write labels as a uint8 NIfTI on the grid of `like`, whole or not at all.

    Shape, affine, qform and sform with their codes, orientation, spacing and units are those of `like`.

    Args:
        path: `.nii` or `.nii.gz`.
        labels: ndarray of shape (n_slices, rows, columns), canonical order, integers 0..255.
        like: the volume that was segmented.

    Raises:
        ValueError: `labels` has another shape or values outside 0..255.
    """
    native = like.to_native(labels)
    if native.min() < 0 or native.max() > 255:
        raise ValueError(f"labels must lie in 0..255, got {native.min()}..{native.max()}")
    _write(path, native.astype(np.uint8), like)


def write_map(path: Path, values: np.ndarray, like: Volume) -> None:
    """Write probabilities as a float32 NIfTI on the grid of `like`, as `write_labels` does.

    Args:
        path: `.nii` or `.nii.gz`.
        values: ndarray of shape (n_slices, rows, columns), canonical order, float32.
        like: the volume that was segmented.

    Raises:
        ValueError: `values` has another shape.
    """
    _write(path, like.to_native(values).astype(np.float32, copy=False), like)


def _write(path: Path, native: np.ndarray, like: Volume) -> None:
    header = like.header_copy()
    header.set_data_dtype(native.dtype)
    header["cal_min"] = header["cal_max"] = 0  # the CT's display window means nothing here
    image = like.image_class(native, like.affine, header)
    with replacing(Path(path)) as temporary:
        nib.save(image, temporary)
