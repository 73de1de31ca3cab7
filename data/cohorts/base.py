"""A cohort is a folder of cases, each a CT with labels of liver and tumor.

The labels are 0 other, 1 liver, 2 tumor.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.command import InputError
from data.volumes import Volume, open_image, open_volume


@dataclass(frozen=True)
class Case:
    """One CT with its labels.

    Attributes:
        name: in its cohort and in the store, as "volume-3".
        image: NIfTI file, or the patient's folder.
        labels: the files or folders that its labels are made from.
        clinical: the patient's row in the cohort's spreadsheet.
        problem: why the case cannot be opened, as that its labels are missing.
    """

    name: str
    image: Path
    labels: tuple[Path, ...]
    clinical: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def number(self) -> int | None:
        """The number at the end of the name, or None."""
        match = re.search(r"(\d+)$", self.name)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class Options:
    """The choices of a user that some cohorts have.

    Attributes:
        lesions: which lesions count as tumor ("tumors", "cysts", "metastases"); 3D-IRCADb.
        images, label_files: patterns with {case}, as "images/{case}.nii.gz"; generic folders.
    """

    lesions: tuple[str, ...] = ("tumors",)
    images: str = "images/{case}.nii.gz"
    label_files: str = "labels/{case}.nii.gz"


def open_case_image(case: Case) -> Volume:
    """Open the CT of a case; no voxel is read."""
    return open_image(case.image)


def open_nifti_label(case: Case, image: Volume, ignore_affine: bool, options: Options) -> Volume:
    """Open the one NIfTI label file of a case.

    Args:
        case: whose it is.
        image: its CT.
        ignore_affine: lay the labels on the image voxel for voxel.
        options: of the user; unused here.

    Returns:
        The labels 0, 1, 2.
    """
    return open_volume(case.labels[0], on=image if ignore_affine else None)


@dataclass(frozen=True)
class Cohort:
    """How one cohort's folder is read.

    Attributes:
        name: as in `--cohort`.
        recognise: returns whether a folder looks like this cohort.
        find_cases: the cases of a folder, in order; raises InputError where it is not whole.
        open_image: the CT of a case, with what is known to be wrong in its header set right.
        open_label: (case, image, ignore_affine, options) -> labels 0/1/2 on the grid of `image`.
    """

    name: str
    recognise: Callable[[Path], bool]
    find_cases: Callable[[Path, Options], list[Case]]
    open_image: Callable[[Case], Volume] = open_case_image
    open_label: Callable[[Case, Volume, bool, Options], Volume] = open_nifti_label


def pair_files(
    name: str, image: Path | None, label: Path | None, image_name: str, label_name: str
) -> Case:
    """Pair an image with its labels; opening the case reports a missing file.

    Args:
        name: of the case.
        image, label: the files; at least one is there.
        image_name, label_name: what they should be called.

    Returns:
        The case.
    """
    path, missing = (image, label_name) if image else (label, image_name)
    assert path is not None
    problem = "" if image and label else f"{path}: no {missing} for it"
    return Case(name, image or path, (label or path,), problem=problem)


def check_folder(source: Path) -> None:
    """Raise an InputError unless a source exists."""
    if source.is_file():
        raise InputError(f"{source}: is a file; --source is the folder that it lies in")
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")


def split_digits(name: str) -> list[int | str]:
    """Return a key to sort names by, "liver_2" before "liver_10"."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
