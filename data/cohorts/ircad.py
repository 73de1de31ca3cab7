"""3D-IRCADb-01 (CC BY-NC-ND): a CT and a mask a structure for each patient.

A patient has the folders PATIENT_DICOM and MASKS_DICOM. As downloaded these are zip files in a zip
file; they are read as they are.
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
    """Return whether the folder holds patients 3Dircadb1.N, or an archive of them."""
    paths = [*source.glob("*"), *source.glob("*/*")]
    return any(
        _PATIENT.fullmatch(path.name) or path.name.lower() == "3dircadb1.zip" for path in paths
    )


def find_cases(source: Path, options: Options) -> list[Case]:
    """List the patients, in numeric order; they are looked into when opened.

    Raises:
        InputError: no such folder, no patient, a patient twice.
    """
    patients: dict[int, Path] = {}
    for path in _find_patients(source, depth=3):
        match = _PATIENT.fullmatch(path.name)
        assert match
        number = int(match[1])
        if number in patients:
            raise InputError(f"{path}: patient {number} is there twice, {patients[number]} too")
        patients[number] = path
    if not patients:
        raise InputError(f"{source}: no patient 3Dircadb1.N in it")
    return [Case(f"3Dircadb1.{number}", path, (path,)) for number, path in sorted(patients.items())]


def _find_patients(place: Path, depth: int) -> list[Path]:
    """List the patients in a folder, in `3Dircadb1` below it, and in zips."""
    patients = []
    for entry in list_children(open_folder(place)):
        path = place / entry.name
        if _PATIENT.fullmatch(entry.name):
            patients.append(path)
        elif depth > 1 and (entry.is_dir() or entry.name.lower() == "3dircadb1.zip"):
            patients += _find_patients(path, depth - 1)
    return patients


def _find_inside(case: Case, name: str) -> Path:
    """Return the path of a patient's PATIENT_DICOM or MASKS_DICOM, zipped or not."""
    path, patient = case.image, open_folder(case.image)
    inner = _find_entry(patient, case.name)
    if inner is not None:  # 3Dircadb1.1.zip holds a folder 3Dircadb1.1
        path, patient = path / inner.name, inner
    entry = _find_entry(patient, name) or _find_entry(patient, f"{name}.zip")
    if entry is None:
        raise InputError(f"{path}: no {name} or {name}.zip in it")
    path = path / entry.name
    inner = _find_entry(open_folder(path), name)
    return path if inner is None else path / inner.name


def _find_entry(folder: Folder, name: str) -> Folder | None:
    entries = list_children(folder)
    return next((entry for entry in entries if entry.name.lower() == name.lower()), None)


def choose_lesions(names: list[str], lesions: tuple[str, ...]) -> list[str]:
    """Return the mask folders of the lesions asked for, in numeric order."""
    starts = tuple(start for lesion in lesions for start in LESIONS[lesion])
    return sorted((name for name in names if name.lower().startswith(starts)), key=split_digits)


def open_ct(case: Case) -> Volume:
    """Open the CT, on disk or in its zip.

    Raises:
        InputError: no PATIENT_DICOM, or what `open_series` refuses.
    """
    return open_series(_find_inside(case, "PATIENT_DICOM"))


def open_label(case: Case, image: Volume, ignore_affine: bool, options: Options) -> Volume:
    """Join the masks of a patient: 1 in the liver, 2 in a lesion, wherever it lies.

    Args:
        case, image: the patient and the CT.
        ignore_affine: lay the masks on the CT voxel for voxel.
        options: which lesions count as tumor.

    Returns:
        The labels 0, 1, 2.

    Raises:
        InputError: no mask of the liver; a mask that is not on the grid of the CT, slice for slice.
    """
    path = _find_inside(case, "MASKS_DICOM")
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
        for index, header in enumerate(mask.headers):
            labels[:, :, index][read_pixels(header).T != 0] = value  # as stored: a mask has no HU
        if value == 1 and not labels.any():
            raise InputError(f"{mask.path}: the mask of the liver is empty")
    return labels


COHORT = Cohort(NAME, recognise, find_cases, open_image=open_ct, open_label=open_label)
