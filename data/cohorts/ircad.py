"""3D-IRCADb-01: per patient `PATIENT_DICOM` and one folder per structure in `MASKS_DICOM`. CC BY-NC-ND.

As downloaded these are zip files in a zip file; they are read as they are.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from data.cohorts.base import Case, Cohort, Options, split_digits
from data.command import InputError
from data.dicom import Series, open_series, read_pixels
from data.folders import Folder, list_children, open_folder
from data.volumes import Volume, check_pair, make_labels

NAME = "ircad"
LESIONS = {
    "tumors": ("livertumor", "livertumour"),
    "cysts": ("livercyst", "liverkyst"),
    "metastases": ("livermetastas",),
}
"""What `--lesions` names, by how the names of the mask folders begin.

`metastasectomie` of patient 14 is no lesion: it is the cavity that a resection left.
"""

_PATIENT = re.compile(r"3Dircadb1\.(\d+)(?:\.zip)?", re.IGNORECASE)


def recognise(source: Path) -> bool:
    """Whether the folder holds patients 3Dircadb1.N, or an archive of them."""
    paths = [*source.glob("*"), *source.glob("*/*")]
    return any(
        _PATIENT.fullmatch(path.name) or path.name.lower() == "3dircadb1.zip" for path in paths
    )


def find_cases(source: Path, options: Options) -> list[Case]:
    """List the patients, in numeric order; what they hold is looked up when they are opened.

    Raises:
        InputError: no such folder, no patient, a patient twice.
    """
    found: dict[int, Path] = {}
    for path in _patients(source, source, depth=3):
        match = _PATIENT.fullmatch(path.name)
        assert match
        if int(match[1]) in found:
            raise InputError(
                f"{path}: patient {match[1]} is there twice, {found[int(match[1])]} too"
            )
        found[int(match[1])] = path
    if not found:
        raise InputError(f"{source}: no patient 3Dircadb1.N in it")
    return [
        Case(f"3Dircadb1.{number}", found[number], (found[number],)) for number in sorted(found)
    ]


def _patients(source: Path, place: Path, depth: int) -> list[Path]:
    """Paths of patients in a folder, in `3Dircadb1` below it and in the archives of them, through zip files."""
    found = []
    for entry in list_children(open_folder(place)):
        path = place / entry.name
        if _PATIENT.fullmatch(entry.name):
            found.append(path)
        elif depth > 1 and (entry.is_dir() or entry.name.lower() == "3dircadb1.zip"):
            found += _patients(source, path, depth - 1)
    return found


def _inside(case: Case, name: str) -> Path:
    """Return the path of `PATIENT_DICOM` or `MASKS_DICOM` of a patient, zipped or not.

    Raises:
        InputError: it is not there.
    """
    path, patient = case.image, open_folder(case.image)
    if (
        inner := _named(patient, case.name)
    ) is not None:  # 3Dircadb1.1.zip holds a folder 3Dircadb1.1
        path, patient = path / inner.name, inner
    found = _named(patient, name) or _named(patient, f"{name}.zip")
    if found is None:
        raise InputError(f"{path}: no {name} or {name}.zip in it")
    path = path / found.name
    inner = _named(open_folder(path), name)
    return path if inner is None else path / inner.name


def _named(folder: Folder, name: str) -> Folder | None:
    return next(
        (entry for entry in list_children(folder) if entry.name.lower() == name.lower()), None
    )


def choose_lesions(names: list[str], lesions: tuple[str, ...]) -> list[str]:
    """Return the mask folders of the lesions asked for, in numeric order."""
    starts = tuple(start for lesion in lesions for start in LESIONS[lesion])
    return sorted((name for name in names if name.lower().startswith(starts)), key=split_digits)


def open_ct(case: Case) -> Volume:
    """Open the CT, on disk or in its zip.

    Raises:
        InputError: no PATIENT_DICOM, or what `open_series` refuses.
    """
    return open_series(_inside(case, "PATIENT_DICOM"))


def open_label(case: Case, image: Volume, ignore_affine: bool, options: Options) -> Volume:
    """Join the masks of a patient: 1 in the liver, 2 in a lesion, inside the liver's mask or not.

    Raises:
        InputError: no mask of the liver; a mask that does not lie on the grid of the CT, slice for slice.
    """
    path = _inside(case, "MASKS_DICOM")
    structures = open_folder(path)
    names = [entry.name for entry in list_children(structures) if entry.is_dir()]
    liver = [name for name in names if name.lower() == "liver"]
    if not liver:
        raise InputError(f"{path}: no mask of the liver in it")
    lesions = choose_lesions(names, options.lesions)
    masks = [open_series(structures / name, modality=None) for name in [*liver, *lesions]]
    for mask in masks:
        if not (ignore_affine and mask.native_shape == image.native_shape):
            check_pair(image, mask)
    return make_labels(image, structures, partial(_join, masks))


def _join(masks: list[Series]) -> np.ndarray:
    labels = np.zeros(masks[0].native_shape, np.uint8)
    for value, mask in zip([1] + [2] * (len(masks) - 1), masks, strict=True):
        for index, one in enumerate(mask.headers):
            labels[:, :, index][read_pixels(one).T != 0] = value  # as stored: a mask has no HU
        if value == 1 and not labels.any():
            raise InputError(f"{mask.path}: the mask of the liver is empty")
    return labels


COHORT = Cohort(NAME, recognise, find_cases, open_image=open_ct, open_label=open_label)
