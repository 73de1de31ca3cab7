"""Folders to read from, on disk or inside zip files, nested ones too.

A place inside a zip is written as a path through it, as
`3Dircadb1.zip/3Dircadb1.1/PATIENT_DICOM.zip/PATIENT_DICOM`. Nothing is extracted; an inner zip is
held in memory while it is read.
"""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from pathlib import Path

from data.command import InputError
from data.files import hash_json

Folder = Path | zipfile.Path
LARGEST_INNER_ZIP = 2**32  # bytes, unpacked into memory


def open_folder(place: Folder) -> Folder:
    """Return the folder at a place, also where its path leads through a zip.

    Raises:
        InputError: no such folder, a damaged zip, an inner zip of more than 4 GiB.
    """
    if isinstance(place, zipfile.Path):
        folder = _enter(place)
    else:
        path = Path(place)
        on_disk = next((parent for parent in (path, *path.parents) if parent.exists()), path)
        folder = _enter(on_disk)
        for part in path.relative_to(on_disk).parts:
            folder = _enter(folder / part)
    if not folder.is_dir():
        raise InputError(f"{place}: no such folder")
    return folder


def _enter(entry: Folder) -> Folder:
    """Return the root of a zip file, anything else as it is."""
    if not (entry.name.lower().endswith(".zip") and entry.is_file()):
        return entry
    try:
        if isinstance(entry, Path):
            return zipfile.Path(zipfile.ZipFile(entry))
        with entry.open("rb") as file:
            content = file.read(LARGEST_INNER_ZIP + 1)
        if len(content) > LARGEST_INNER_ZIP:
            raise InputError(f"{entry}: an inner zip must be smaller than 4 GiB; extract it")
        inner = zipfile.ZipFile(BytesIO(content))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{entry}: not a readable zip file ({error})") from None
    inner.filename = str(entry)  # what its members are called in messages
    return zipfile.Path(inner)


def list_children(folder: Folder) -> list[Folder]:
    """List what a folder holds, by name, without hidden entries and `__MACOSX`."""
    return sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))),
        key=lambda entry: entry.name,
    )


def list_files(folder: Path) -> list[Path]:
    """List all files below a folder, by path; linked folders are entered, each once."""
    files: list[Path] = []
    entered = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        files += [Path(place) / name for name in names]
    return sorted(path for path in files if path.is_file())


def sign_files(place: Path) -> list[str | int]:
    """Return [name, bytes, hash] of a file, a folder, or the zip that holds it.

    The hash is over names, sizes and times of change; no content is read. Nothing there: 0 bytes.
    """
    on_disk = place
    while not on_disk.exists() and on_disk.parent != on_disk:
        on_disk = on_disk.parent
    if on_disk != place and on_disk.is_dir():
        return [place.name, 0, ""]
    files = list_files(on_disk) if on_disk.is_dir() else [on_disk]
    states = [(str(file.relative_to(on_disk)), file.stat()) for file in files]
    listing = [[name, state.st_size, state.st_mtime_ns] for name, state in states]
    return [place.name, sum(state.st_size for _, state in states), hash_json(listing)]
