"""LiTS: pairs of volume-N.nii[.gz] and segmentation-N.nii[.gz].

They lie loose or in their archives' folders. A `clinical.csv` beside them with a column `case`
(volume-N) becomes the clinical data; LiTS itself has none.

Volumes 28 to 47 are the 20 patients of 3D-IRCADb-01. Their headers falsely say 1 x 1 x 1 mm under
an identity affine (https://github.com/PatrickChrist/LITS-CHALLENGE/issues/14), so their spacing
comes from 3D-IRCADb-01's own table.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.cohorts.base import (
    Case,
    Cohort,
    Options,
    check_folder,
    open_case_image,
    open_nifti_label,
    pair_files,
)
from data.cohorts.spreadsheet import read_by_key
from data.command import InputError
from data.folders import list_files
from data.volumes import Volume

NAME = "lits"
LAYOUT = "lits-layout"
"""Another cohort under LiTS' file names: nothing that is known of LiTS holds for it."""

CLINICAL = "clinical.csv"
_FILE = re.compile(r"(volume|segmentation)-(\d+)\.nii(?:\.gz)?")

# 3D-IRCADb-01 patient 1 to 20: (column, row, slice) spacing in mm, number of slices. The numbers of
# slices are those of the files; the spacings are those of the database's page, which rounds to
# 0.01 mm (assumed: not checked on the files).
IRCAD_SPACING = (
    ((0.57, 0.57, 1.6), 129), ((0.78, 0.78, 1.6), 172), ((0.62, 0.62, 1.25), 200),
    ((0.74, 0.74, 2.0), 91), ((0.78, 0.78, 1.6), 139), ((0.78, 0.78, 1.6), 135),
    ((0.78, 0.78, 1.6), 151), ((0.56, 0.56, 1.6), 124), ((0.87, 0.87, 2.0), 111),
    ((0.73, 0.73, 1.6), 122), ((0.72, 0.72, 1.6), 132), ((0.68, 0.68, 1.0), 260),
    ((0.67, 0.67, 1.6), 122), ((0.72, 0.72, 1.6), 113), ((0.78, 0.78, 1.6), 125),
    ((0.70, 0.70, 1.6), 155), ((0.74, 0.74, 1.6), 119), ((0.74, 0.74, 2.5), 74),
    ((0.70, 0.70, 4.0), 124), ((0.81, 0.81, 2.0), 225),
)  # fmt: skip
FIRST_IRCAD = 28


def find_cases(source: Path, options: Options) -> list[Case]:
    """List the volumes in numeric order; one without labels fails when opened.

    Raises:
        InputError: no such folder, no volume, a number twice, a clinical table that is none.
    """
    check_folder(source)
    volumes: dict[int, Path] = {}
    segmentations: dict[int, Path] = {}
    for path in _list_pairs(source):
        match = _FILE.fullmatch(path.name)
        assert match
        paths, number = volumes if match[1] == "volume" else segmentations, int(match[2])
        if number in paths:
            twin = paths[number].relative_to(source)
            raise InputError(f"{path}: {twin} is there too; keep one of them")
        paths[number] = path
    if not volumes:
        raise InputError(f"{source}: no pair volume-N.nii[.gz] and segmentation-N.nii[.gz] in it")
    # A volume without labels, or the reverse, is a case that says so when it is opened.
    table = source / CLINICAL
    clinical = read_by_key(table, "case") if table.is_file() else {}
    cases = []
    for number in sorted(volumes.keys() | segmentations.keys()):
        names = f"volume-{number}.nii[.gz]", f"segmentation-{number}.nii[.gz]"
        files = volumes.get(number), segmentations.get(number)
        case = pair_files(f"volume-{number}", *files, *names)
        cases.append(replace(case, clinical=clinical.get(case.name, {})))
    return cases


def _list_pairs(source: Path) -> list[Path]:
    return [path for path in list_files(source) if _FILE.fullmatch(path.name)]


def recognise(source: Path) -> bool:
    """Return whether there is a volume-N.nii[.gz] in the folder or below."""
    return any(path.name.startswith("volume") for path in _list_pairs(source))


def open_lits_image(case: Case) -> Volume:
    """Open a volume; a false spacing of 3D-IRCADb's is replaced by the true one."""
    image = open_case_image(case)
    if not has_false_spacing(image):
        return image
    spacing = look_up_spacing(case.number, image.native_shape[2])
    if spacing is None:
        image.notes.append(
            "its header says 1 x 1 x 1 mm, hardly true: volumes in ml and distances in mm are wrong"
        )
        return image
    corrected = image.under(image.affine @ np.diag([*spacing, 1.0]))
    corrected.notes.append(
        f"false spacing of 1 mm replaced by {' x '.join(f'{mm:g}' for mm in spacing)} mm"
    )
    corrected.orientation_is_false = True
    return corrected


def open_lits_label(case: Case, image: Volume, ignore_affine: bool, options: Options) -> Volume:
    """Open the labels of a volume, under its true spacing where both are false.

    Args:
        case, image, ignore_affine, options: as of `data.cohorts.base.open_nifti_label`.
    """
    return open_nifti_label(case, image, ignore_affine or image.orientation_is_false, options)


def has_false_spacing(image: Volume) -> bool:
    """Return whether the header is the identity: 1 mm, no direction."""
    return image.spacing_mm == (1.0, 1.0, 1.0) and bool((image.affine[:3, :3] == np.eye(3)).all())


def look_up_spacing(number: int | None, n_slices: int) -> tuple[float, float, float] | None:
    """Return the true spacing in mm (column, row, slice) of a 3D-IRCADb volume.

    None for other volumes, and where the number of slices is not the patient's.
    """
    if number is None or not 0 <= number - FIRST_IRCAD < len(IRCAD_SPACING):
        return None
    spacing, slices = IRCAD_SPACING[number - FIRST_IRCAD]
    return spacing if slices == n_slices else None


PLAIN = Cohort(LAYOUT, lambda source: False, find_cases)
COHORT = Cohort(NAME, recognise, find_cases, open_image=open_lits_image, open_label=open_lits_label)
