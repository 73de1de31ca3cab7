"""One case of a cohort into the store: its voxels checked, brought to square slices, a few at a time."""

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
        orient: "affine" believes the header; "anatomy" mirrors a volume whose anatomy contradicts it.
    """

    cohort: str
    size: int
    options: Options
    allow_non_hu: bool = False
    ignore_label_affine: bool = False
    orient: str = "affine"

    def open(self, case: Case) -> tuple[Volume, Volume]:
        """Open the image and the labels of a case and check their geometry; no voxel is read.

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
    """Check one case's voxels and write image.npy and label.npy into `folder`.

    Args:
        folder: of the case.
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
    hu, labels = _write(folder, image, label, how.size)
    notes = list(image.notes)
    found, sure = find_flips(hu, labels)
    if found and sure and (image.orientation_is_false or how.orient == "anatomy"):
        affine = mirror_affine(
            image.affine, image.native_shape, [image.file_axis[axis] for axis in found]
        )
        hu, labels = _write(folder, image.under(affine), label.under(affine), how.size)
        notes.append(
            f"mirrored along {', '.join(found)}: {', '.join(FLIPS[axis] for axis in found)}"
        )
    elif found:
        what = "--orient anatomy mirrors it" if sure else "too little to tell whether to mirror it"
        notes.append(
            f"{' and '.join(FLIPS[axis] for axis in found)}: is the affine right? ({what})"
        )
    if seems_turned(hu, labels):
        notes.append("the spine lies to one side, a quarter turn: is the affine right?")
    return {
        "patient": patient,
        "identity": identity,
        "n_slices": image.n_slices,
        "liver_rows": _rows_with(labels, 1),
        "tumor_rows": _rows_with(labels, 2),
        "spacing_mm": list(image.spacing_mm),
        "native_shape": [image.rows, image.columns],
        "orientation": image.orientation,
        "notes": notes,
        **({"clinical": case.clinical} if case.clinical else {}),
        "sha256_image": hash_file(folder / "image.npy"),
        "sha256_label": hash_file(folder / "label.npy"),
    }


def _write(folder: Path, image: Volume, label: Volume, size: int) -> tuple[np.ndarray, np.ndarray]:
    paths = folder / "image.npy", folder / "label.npy"
    with paths[0].open("wb") as images, paths[1].open("wb") as labels:
        for file, dtype in ((images, np.int16), (labels, np.uint8)):
            header = {
                "descr": np.dtype(dtype).str,
                "fortran_order": False,
                "shape": (image.n_slices, size, size),
            }
            np.lib.format.write_array_header_1_0(file, header)
        for (
            start,
            chunk,
        ) in image.chunks():  # written, not mapped: a full disk is then an error, not the end
            images.write(resize_hu(chunk, size).astype(np.int16).tobytes())
            labels.write(resize_label(label.labels(start, start + len(chunk)), size).tobytes())
    return np.load(paths[0], mmap_mode="r"), np.load(paths[1], mmap_mode="r")


def _check_whole_numbers(image: Volume) -> None:
    low, high = image.value_range
    if high - low <= 1:
        raise InputError(
            f"{image.path}: values from {low:g} to {high:g} would be lost, a store holds whole HU"
        )


def _rows_with(labels: np.ndarray, at_least: int) -> list[int]:
    return [row for row in range(len(labels)) if labels[row].max() >= at_least]


def describe_case(entry: dict[str, Any]) -> str:
    """Return what is said of a finished case."""
    text = f"{entry['n_slices']} slices, {len(entry['liver_rows'])} with liver, {len(entry['tumor_rows'])} with tumor"
    return "; ".join([text, *entry["notes"]])
