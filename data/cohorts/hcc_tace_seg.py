"""HCC-TACE-Seg (TCIA, CC BY 4.0): CT before and after TACE, with DICOM SEG.

The SEG names its CT series, which must be of the patient's earliest study: the one before the
procedure. Where that series holds several contrast phases, the acquisition of the SEG's instances
is taken. Of its segments (liver, mass, portal vein, abdominal aorta), liver and mass become the
labels.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from data.cohorts.base import Case, Cohort, Options, check_folder
from data.cohorts.spreadsheet import read_by_key
from data.command import InputError
from data.dicom import Series, is_dicom_file, open_series, read_dataset
from data.folders import list_files
from data.seg import Segments
from data.volumes import Volume, make_labels

NAME = "hcc-tace-seg"
LIVER, TUMOR = "liver", ("mass", "tumor", "tumour", "lesion")
UNUSED = ("portal", "aorta", "abdominal aorta", "abdominal_aorta")
"""Segments by how their names begin."""

_PATIENT = re.compile(r"HCC_\d{3}")
_KEY = "TCIA_ID"


def recognise(source: Path) -> bool:
    """Return whether there are patients HCC_NNN, up to two folders below."""
    return bool(_find_patients(source))


def _find_patients(source: Path) -> list[Path]:
    for depth in range(3):
        paths = sorted(source.glob("*/" * depth + "HCC_*"))
        if patients := [path for path in paths if _PATIENT.fullmatch(path.name)]:
            return [path for path in patients if path.is_dir()]
    return []


def find_cases(source: Path, options: Options) -> list[Case]:
    """List the patients; their series are looked up when they are opened.

    Raises:
        InputError: no such folder, no patient, a spreadsheet without its column of patients.
    """
    check_folder(source)
    folders = _find_patients(source)
    if not folders:
        raise InputError(f"{source}: no patient HCC_NNN in it")
    clinical = read_clinical(source)
    return [
        Case(folder.name, folder, (folder,), clinical.get(folder.name, {})) for folder in folders
    ]


@dataclass(frozen=True)
class FoundSeries:
    """A series among the files of a patient.

    Attributes:
        paths: its files.
        modality, study_date, study_uid: of its first file; the date is "" where it says none.
    """

    paths: tuple[Path, ...]
    modality: str
    study_date: str
    study_uid: str


def sort_series(folder: Path) -> dict[str, FoundSeries]:
    """Sort the DICOM files below a folder by their Series Instance UID."""
    tags = ("Modality", "StudyDate", "StudyInstanceUID")
    paths: dict[str, list[Path]] = {}
    values: dict[str, list[str]] = {}
    for path in filter(is_dicom_file, list_files(folder)):
        header = read_dataset(path, only=("SeriesInstanceUID", *tags))
        uid = str(header.get("SeriesInstanceUID", ""))
        paths.setdefault(uid, []).append(path)
        values.setdefault(uid, [str(header.get(tag) or "") for tag in tags])
    return {uid: FoundSeries(tuple(paths[uid]), *values[uid]) for uid in paths}


@lru_cache(maxsize=2)  # image and labels of a case ask for the same
def find_segmented(folder: Path) -> tuple[FoundSeries, Segments]:
    """Find a patient's series that was segmented before the procedure.

    Raises:
        InputError: no SEG, two SEGs of one series, or a SEG whose series is missing or cannot be
            told to be of the earliest study.
    """
    every = sort_series(folder)
    seg_paths = [series.paths for series in every.values() if series.modality == "SEG"]
    segmentations = [Segments(path) for paths in seg_paths for path in paths]
    if not segmentations:
        raise InputError(f"{folder}: no DICOM SEG in it")
    scans = {uid: series for uid, series in every.items() if series.modality == "CT"}
    for segments in segmentations:
        if segments.series_uid not in scans:
            raise InputError(
                f"{segments.path}: references series {segments.series_uid}, "
                f"which is not in {folder}"
            )
    # Only a date tells which study came first.
    dates = [scan.study_date for scan in scans.values()]
    if len({scan.study_uid for scan in scans.values()}) > 1 and not all(dates):
        raise InputError(
            f"{folder}: several studies and one without a date, so which was first cannot be told"
        )
    earliest = min(dates)
    first = [
        segments for segments in segmentations if scans[segments.series_uid].study_date == earliest
    ]
    if not first:
        raise InputError(
            f"{segmentations[0].path}: drawn on a later study than the first, of {earliest}"
        )
    if len(first) > 1:
        raise InputError(
            f"{first[1].path}: {first[0].path.name} segments the same study; keep one of them"
        )
    return scans[first[0].series_uid], first[0]


def open_ct(case: Case) -> Volume:
    """Open the CT series that `find_segmented` finds; both may raise an InputError."""
    scan, segments = find_segmented(case.image)
    return open_series(scan.paths[0].parent, paths=scan.paths, instances=segments.instances)


def open_label(case: Case, image: Volume, ignore_affine: bool, options: Options) -> Volume:
    """Bring the segments to the CT's grid: 1 in the liver, 2 in the mass.

    Args:
        case, image: the patient and the CT.
        ignore_affine, options: unused: a SEG knows its grid.

    Returns:
        The labels 0, 1, 2.

    Raises:
        InputError: the SEG has no liver, or a segment that is neither used nor known.
    """
    assert isinstance(image, Series)
    _, segments = find_segmented(case.image)
    names = sorted(set(segments.names.values()))
    unknown = [name for name in names if name != LIVER and not name.startswith((*TUMOR, *UNUSED))]
    if LIVER not in names or unknown:
        what = (
            f"a segment {unknown[0]!r} that is not known" if LIVER in names else "no segment liver"
        )
        raise InputError(f"{segments.path}: has {what}, its segments are {', '.join(names)}")
    return make_labels(image, segments.path, partial(_join, segments, image))


def _join(segments: Segments, image: Series) -> np.ndarray:
    labels = segments.mask([LIVER], image).astype(np.uint8)
    if not labels.any():
        raise InputError(f"{segments.path}: the segment liver is empty")
    tumor = [name for name in segments.names.values() if name.startswith(TUMOR)]
    labels[segments.mask(tumor, image)] = 2
    return labels


def read_clinical(source: Path) -> dict[str, dict[str, Any]]:
    """Read the cohort's spreadsheet (.xlsx or .csv), if there is one.

    Returns:
        {"HCC_001": {column: value}}; empty without a spreadsheet.

    Raises:
        InputError: it has no column TCIA_ID.
    """
    places = dict.fromkeys([source, *(folder.parent for folder in _find_patients(source))])
    for end, place in itertools.product(("xlsx", "csv"), places):
        for path in sorted(place.glob(f"*clinical*.{end}")):
            if not path.name.startswith((".", "~")):
                return read_by_key(path, _KEY)
    return {}


COHORT = Cohort(NAME, recognise, find_cases, open_image=open_ct, open_label=open_label)
