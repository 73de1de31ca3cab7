"""HCC-TACE-Seg (TCIA, CC BY 4.0): CT series of patients with HCC before and after TACE, with a DICOM SEG.

The SEG of a patient names the series it was drawn on; of several, that of the earliest study is taken, which is the
one before the procedure. Segments: liver, mass, portal vein, abdominal aorta; "liver" and "mass" become the labels.
"""

from __future__ import annotations

import csv
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.cohorts.base import Case, Cohort, Options, check_folder
from data.command import InputError
from data.dicom import Series, dicom_files, open_series, read_dataset
from data.seg import Segments
from data.volumes import Volume, labels_on

NAME = "hcc-tace-seg"
LIVER, TUMOR = ("liver",), ("mass", "tumor", "tumour")
_PATIENT = re.compile(r"HCC_\d{3}")
_KEY = "TCIA_ID"


def recognise(source: Path) -> bool:
    """Whether the folder, or one up to two folders below, holds patients HCC_NNN."""
    return bool(_patient_folders(source))


def _patient_folders(source: Path) -> list[Path]:
    for depth in range(3):
        found = [path for path in sorted(source.glob("*/" * depth + "HCC_*")) if _PATIENT.fullmatch(path.name)]
        if found:
            return [path for path in found if path.is_dir()]
    return []


def find_cases(source: Path, options: Options) -> list[Case]:
    """List the patients; their series are looked up when they are opened.

    Raises:
        InputError: no such folder, no patient, a spreadsheet without its column of patients.
    """
    check_folder(source)
    folders = _patient_folders(source)
    if not folders:
        raise InputError(f"{source}: no patient HCC_NNN in it")
    clinical = read_clinical(source)
    return [Case(folder.name, folder, (folder,), clinical.get(folder.name, {})) for folder in folders]


def _segmented(folder: Path) -> tuple[Path, Segments]:
    """Return the folder of the CT series that was segmented first, and its segments.

    Raises:
        InputError: no SEG, or not the series that it names.
    """
    series: dict[str, Path] = {}
    segmentations: list[Segments] = []
    for place in sorted({path.parent for path in folder.rglob("*") if path.is_file()}):
        files = dicom_files(place)
        if not files:
            continue
        header = read_dataset(files[0])
        if header.get("Modality") == "SEG":
            segmentations += [Segments(file) for file in files]
        elif header.get("Modality") == "CT":
            series[str(header.get("SeriesInstanceUID"))] = place
    if not segmentations:
        raise InputError(f"{folder}: no DICOM SEG in it")
    first = min(segmentations, key=lambda one: (one.study_date, str(one.path)))
    if first.series_uid not in series:
        raise InputError(f"{first.path}: references series {first.series_uid}, which is not in {folder}")
    return series[first.series_uid], first


def open_ct(case: Case) -> Volume:
    """Open the CT series that was segmented.

    Raises:
        InputError: the patient has no SEG, or not the series that it names.
    """
    return open_series(_segmented(case.image)[0])


def open_label(case: Case, image: Volume, ignore_affine: bool, options: Options) -> Volume:
    """Bring the segments to the CT's grid: 1 in the liver, 2 in the mass.

    Raises:
        InputError: the SEG has no liver.
    """
    assert isinstance(image, Series)
    _, segments = _segmented(case.image)
    if not set(LIVER) & set(segments.names.values()):
        raise InputError(f"{segments.path}: has no segment liver, only {', '.join(sorted(segments.names.values()))}")
    return labels_on(image, segments.path, partial(_join, segments, image))


def _join(segments: Segments, image: Series) -> np.ndarray:
    labels = segments.mask(LIVER, image).astype(np.uint8)
    labels[segments.mask(TUMOR, image)] = 2
    return labels


def read_clinical(source: Path) -> dict[str, dict[str, Any]]:
    """Read the cohort's spreadsheet (.xlsx or .csv with a column TCIA_ID), where the source holds one.

    Returns:
        {"HCC_001": {column: value}}; empty without a spreadsheet.

    Raises:
        InputError: it has no column TCIA_ID.
    """
    found = [path for end in ("xlsx", "csv") for path in sorted(source.glob(f"*clinical*.{end}"))]
    if not found:
        return {}
    rows = _xlsx_rows(found[0]) if found[0].suffix == ".xlsx" else _csv_rows(found[0])
    if not rows or _KEY not in rows[0]:
        raise InputError(f"{found[0]}: no column {_KEY} in its first row")
    return {str(row[_KEY]): {key: value for key, value in row.items() if key != _KEY} for row in rows if row[_KEY]}


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _xlsx_rows(path: Path) -> list[dict[str, Any]]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        sheet = load_workbook(path, read_only=True, data_only=True).worksheets[0]
        lines = list(sheet.iter_rows(values_only=True))
    except (InvalidFileException, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a readable spreadsheet ({error})") from None
    if not lines:
        return []
    names = [str(name) for name in lines[0]]
    return [dict(zip(names, (_plain(value) for value in line), strict=False)) for line in lines[1:]]


def _plain(value: Any) -> Any:
    """A cell as JSON takes it."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


COHORT = Cohort(NAME, recognise, find_cases, open_image=open_ct, open_label=open_label)
