"""Convert one case of a cohort: its voxels checked, its slices made square."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.anatomy import FLIPS, find_flips, mirror_affine, seems_turned
from data.cohorts import COHORTS, Case, Options
from data.command import InputError
from data.files import hash_file
from data.resize import resize_hu, resize_label
from data.volumes import Volume, check_hu, check_label, check_pair


@dataclass(frozen=True)
class Conversion:
    """How cases are converted: the cohort they come from and the user's choices.

    Attributes:
        cohort: its name in `data.cohorts.COHORTS`.
        size: pixels per side.
        options: what the cohort itself can be told.
        allow_non_hu: take values that are not HU.
        ignore_label_affine: lay labels on their volume voxel for voxel.
        orient: "affine" believes the header; "anatomy" mirrors a volume that contradicts it.
    """

    cohort: str
    size: int
    options: Options
    allow_non_hu: bool = False
    ignore_label_affine: bool = False
    orient: str = "affine"

    def open(self, case: Case) -> tuple[Volume, Volume]:
        """Open image and labels and check their geometry; no voxel is read.

        Raises:
            InputError: what opening them refuses, or two grids.
        """
        if case.problem:
            raise InputError(case.problem)
        cohort = COHORTS[self.cohort]
        image = cohort.open_image(case)
        label = cohort.open_label(case, image, self.ignore_label_affine, self.options)
        check_pair(image, label)
        return image, label


def fill_case(
    folder: Path, case: Case, patient: str, identity: str, how: Conversion
) -> dict[str, Any]:
    """Check one case's voxels and write image.npy and label.npy.

    Args:
        folder: of the case in the store.
        case, how: what is converted, and how.
        patient: of the split.
        identity: of the patient in all cohorts.

    Returns:
        The case's entry in store.json.

    Raises:
        InputError: what `Conversion.open`, `check_hu` and `check_label` refuse.
    """
    image, label = how.open(case)
    check_hu(image, how.allow_non_hu)
    check_label(label)
    _check_whole_numbers(image)
    hu, labels = _write_arrays(folder, image, label, how.size)
    # Where the anatomy contradicts the header, the slices are written again or it is remarked.
    notes = list(image.notes)
    axes, is_clear = find_flips(hu, labels)
    contradictions = [FLIPS[axis] for axis in axes]
    if axes and is_clear and (image.orientation_is_false or how.orient == "anatomy"):
        file_axes = [image.file_axis[axis] for axis in axes]
        affine = mirror_affine(image.affine, image.native_shape, file_axes)
        hu, labels = _write_arrays(folder, image.under(affine), label.under(affine), how.size)
        notes.append(f"mirrored along {', '.join(axes)}: {', '.join(contradictions)}")
    elif axes:
        remedy = "--orient anatomy mirrors it"
        remedy = remedy if is_clear else "too little to tell whether to mirror it"
        notes.append(f"{' and '.join(contradictions)}: is the affine right? ({remedy})")
    if seems_turned(hu, labels):
        notes.append("the spine lies to one side, a quarter turn: is the affine right?")
    return {
        "patient": patient,
        "identity": identity,
        "n_slices": image.n_slices,
        "liver_rows": _find_rows(labels, 1),
        "tumor_rows": _find_rows(labels, 2),
        "spacing_mm": list(image.spacing_mm),
        "native_shape": [image.rows, image.columns],
        "orientation": image.orientation,
        "notes": notes,
        **({"clinical": case.clinical} if case.clinical else {}),
        "sha256_image": hash_file(folder / "image.npy"),
        "sha256_label": hash_file(folder / "label.npy"),
    }


def _write_arrays(
    folder: Path, image: Volume, label: Volume, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Write image.npy and label.npy a few slices at a time; return them mapped."""
    paths = folder / "image.npy", folder / "label.npy"
    shape = image.n_slices, size, size
    # Written, not mapped: a full disk is then an error, not the end of the process.
    with paths[0].open("wb") as images, paths[1].open("wb") as labels:
        for file, dtype in ((images, np.int16), (labels, np.uint8)):
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        for start, chunk in image.chunks():
            images.write(resize_hu(chunk, size).astype(np.int16).tobytes())
            labels.write(resize_label(label.labels(start, start + len(chunk)), size).tobytes())
    return np.load(paths[0], mmap_mode="r"), np.load(paths[1], mmap_mode="r")


def _check_whole_numbers(image: Volume) -> None:
    low, high = image.value_range
    if high - low <= 1:
        raise InputError(
            f"{image.path}: values from {low:g} to {high:g} would be lost, a store holds whole HU"
        )


def _find_rows(labels: np.ndarray, at_least: int) -> list[int]:
    return [row for row in range(len(labels)) if labels[row].max() >= at_least]


def describe_case(entry: dict[str, Any]) -> str:
    """Return the line that is printed of a finished case."""
    n_liver, n_tumor = len(entry["liver_rows"]), len(entry["tumor_rows"])
    text = f"{entry['n_slices']} slices, {n_liver} with liver, {n_tumor} with tumor"
    return "; ".join([text, *entry["notes"]])
