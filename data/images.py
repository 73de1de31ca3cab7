"""One CT, whatever it comes as: a NIfTI file, or a folder (or zip) with a DICOM series."""

from __future__ import annotations

from pathlib import Path

from data.command import InputError
from data.dicom import is_dicom_file, open_series
from data.volumes import Volume, check_hu, check_label, open_volume


def open_image(path: Path) -> Volume:
    """Open a CT and check its header; see `open_volume` and `open_series` for what is refused."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir() or path.suffix.lower() == ".zip":
        return open_series(path)
    if is_dicom_file(path):
        raise InputError(f"{path}: one DICOM file; give the folder that holds its whole series")
    return open_volume(path)


def read_image(path: Path, allow_non_hu: bool = False) -> Volume:
    """Open a CT and check its values; see `open_image` and `check_hu` for what is refused."""
    volume = open_image(path)
    check_hu(volume, allow_non_hu)
    return volume


def read_label(path: Path, on: Volume | None = None) -> Volume:
    """Read and check a NIfTI label volume; see `open_volume` (also for `on`) and `check_label` for the refusals."""
    volume = open_volume(path, on)
    check_label(volume)
    return volume
