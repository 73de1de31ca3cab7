"""What `predict` is given, one volume or a folder of many, where their outputs go, and the way through many.

A batch keeps its state in `volumes.json`: what it was made from, a row for each volume done and why others failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.command import InputError
from data.dicom import find_series_folder, is_dicom_file, list_dicom_files
from data.files import read_json
from data.folders import Folder, list_children, list_files, sign_files
from evaluation.volumetry import beside, in_words, write_table

COMMAND = "evaluation.predict"
TABLE = "volumes"
NIFTI = (".nii", ".nii.gz")
_ENDINGS = (".nii.gz", ".nii", ".zip")


@dataclass(frozen=True)
class Case:
    """One volume to segment.

    Attributes:
        path: a NIfTI file, a folder with a DICOM series, or a zip of one.
        labels: the label volume to write; all else is written beside it.
    """

    path: Path
    labels: Path

    @property
    def name(self) -> str:
        """What tables call it."""
        return base_name(self.path)

    @property
    def is_dicom(self) -> bool:
        """Whether it is read as DICOM."""
        return self.path.is_dir() or self.path.suffix.lower() == ".zip"

    @property
    def seg(self) -> Path:
        """The DICOM SEG."""
        return beside(self.labels, ".dcm")

    def probability(self, target: str) -> Path:
        """The probability map of "liver" or "tumor"."""
        return beside(self.labels, f"_{target}_probability.nii.gz")


def base_name(path: Path) -> str:
    """Return the name of a file without .nii, .nii.gz or .zip; of a folder, its name."""
    if path.is_dir():
        return path.name if path.name not in ("", "..") else path.resolve().name
    ending = next((end for end in _ENDINGS if path.name.lower().endswith(end)), "")
    return path.name[: len(path.name) - len(ending)]


def is_one_volume(source: Path, output: Path) -> bool:
    """Tell one volume from a folder of many, by what lies in the folder.

    A folder with DICOM files of its own is one series. One that holds nothing but another folder, and so on down to a
    series, is one volume where `output` is named as a NIfTI file.

    Raises:
        InputError: no such file or folder.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    own = sum(map(is_dicom_file, list_dicom_files(source))) if source.is_dir() else 0
    if not source.is_dir() or own > 1 or (own and not _holds_volumes(source)):
        return True
    others = any(_ends_as_volume(entry) for entry in list_children(source))
    return not others and output.name.endswith(NIFTI) and any(map(is_dicom_file, slices_in(source)))


def _holds_volumes(source: Path) -> bool:
    """Whether folders with series, or NIfTI files, lie in a folder: one stray DICOM file beside them is no series."""
    inner = [entry for entry in list_children(source) if entry.is_dir()]
    return any(map(_ends_as_volume, list_children(source))) or any(
        any(map(is_dicom_file, slices_in(one))) for one in inner
    )


def one_case(source: Path, output: Path) -> Case:
    """Return one volume with its output.

    Raises:
        InputError: an output that is not named as a NIfTI file, is a folder, is the input or lies in its folder.
    """
    if not output.name.endswith(NIFTI):
        raise InputError(f"--output {output}: must end in .nii or .nii.gz, --input is one volume")
    if output.is_dir():
        raise InputError(f"--output {output}: is a folder")
    _check_apart(source, output)
    return Case(source, output)


def many_cases(source: Path, output: Path) -> list[Case]:
    """List the volumes of a folder, by name: NIfTI files, zips, and sub-folders with DICOM files.

    Another sub-folder is passed over with a note on standard error; hidden entries, other files and `output` without.

    Raises:
        InputError: no volume in it; two of one name; an output that is a file, the input folder or in one of its cases.
    """
    if output.name.endswith(NIFTI) or output.is_file():
        raise InputError(
            f"--output {output}: must be a folder, --input is a folder of many volumes"
        )
    if output.resolve() == source.resolve():
        raise InputError(f"--output {output}: is the input")
    cases, passed_over = [], []
    for entry in list_children(source):
        assert isinstance(entry, Path)  # of a folder on disk
        if output.resolve().is_relative_to(entry.resolve()) and not list_dicom_files(entry):
            continue
        if _is_volume(entry):
            _check_apart(entry, output)
            cases.append(Case(entry, output / f"{base_name(entry)}.nii.gz"))
        elif entry.is_dir():
            passed_over.append(entry)
    if not cases:
        raise InputError(f"{source}: no NIfTI file, folder with a DICOM series or zip of one in it")
    for folder in passed_over:
        say_note(folder, "no DICOM file in it, passed over")
    return cases


def check_names(cases: Sequence[Case], targets: tuple[str, ...]) -> None:
    """Check that no two cases write one file; `targets` are those of the probability maps.

    Raises:
        InputError: two do, or a name cannot be written into a table.
    """
    owner: dict[Path, Case] = {}
    for case in cases:
        if any("\ud800" <= letter <= "\udfff" for letter in str(case.path)):
            raise InputError(f"{str(case.path)!a}: its name is not UTF-8; rename it")
        for path in (case.labels, *(case.probability(target) for target in targets)):
            other = owner.setdefault(path, case)
            if other is not case:
                raise InputError(
                    f"{case.path}: would be written to {path.name}, as {other.path.name} is; rename one"
                )


def slices_in(folder: Folder) -> list[Folder]:
    """List the files in a folder, or in the only folder in it, that should be a DICOM series."""
    return list_dicom_files(find_series_folder(folder))


def _ends_as_volume(entry: Folder) -> bool:
    return entry.name.lower().endswith(_ENDINGS) and not entry.is_dir()


def _is_volume(entry: Path) -> bool:
    """Generously: what cannot be read, or holds several series, is a case that fails, not one that is missed."""
    if not entry.is_dir():
        return _ends_as_volume(entry)
    try:
        files = list_files(entry)
        return bool(slices_in(entry)) or any(
            is_dicom_file(path) or path.name.endswith(NIFTI) for path in files
        )
    except OSError:
        return True


def _check_one_place(case: Case) -> None:
    if case.path.is_dir() and not slices_in(case.path):
        if any(path.name.endswith(NIFTI) for path in list_files(case.path)):
            raise InputError(
                f"{case.path}: NIfTI files in a folder of --input; give that folder itself as --input"
            )
        raise InputError(
            f"{case.path}: DICOM files in several folders of it; give each series its own folder in --input"
        )


def _check_apart(source: Path, output: Path) -> None:
    if output.resolve() == source.resolve():
        raise InputError(f"--output {output}: is the input")
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise InputError(f"--output {output}: lies in {source}, among the slices")


def predict_all(
    predict: Callable[[Case], dict[str, Any]], cases: Sequence[Case], about: dict[str, Any]
) -> list[dict[str, str]]:
    """Segment many volumes into one folder; one that fails does not stop the others.

    After each volume the table is written. Rows of an earlier call stay where input, networks and options are still
    the same, and the files they name are there.

    Args:
        predict: writes the files of a volume and returns its row; see `Predictor.predict`.
        cases: all with their outputs in one folder.
        about: what the table says of its origin; it decides whether rows can stay.

    Returns:
        `case`, `input` and `error`, one line, of each volume that failed.
    """
    stem = cases[0].labels.with_name(TABLE)
    rows, failed = _rows_to_keep(stem, cases, about), list[dict[str, str]]()
    names = {case.name for case in cases}
    shown = [case.name for case in cases] + [name for name in rows if name not in names]

    def save() -> None:
        write_table(
            stem,
            {**about, "cases": [rows[name] for name in shown if name in rows], "failed": failed},
        )

    save()
    for number, case in enumerate(cases, start=1):
        where = f"[{number}/{len(cases)}] {case.name}"
        if case.name in rows:
            print(f"{where}: already there, kept", flush=True)
            continue
        try:
            _check_one_place(case)
            rows[case.name] = predict(case)
        except Exception as error:  # whatever one file brings up, the others go on
            failed.append(
                {"case": case.name, "input": str(case.path), "error": _one_line(case, error)}
            )
            print(f"{where}: failed", flush=True)
        else:
            print(f"{where}: {in_words(rows[case.name])}", flush=True)
            say_notes(case, rows[case.name])
        save()
    return failed


def _rows_to_keep(
    stem: Path, cases: Sequence[Case], about: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the rows of an earlier call that still hold; the files of the others are removed, for they are redone.

    Rows of volumes that are not among `cases` stay if they were made in the same way.

    Raises:
        InputError: the folder holds volumes of another input, made in another way.
    """
    path = stem.with_name(f"{stem.name}.json")
    if not path.exists():
        return {}
    before = read_json(path, ("schema", "cases"))
    rows = {row["case"]: row for row in before["cases"]}
    same = all(before.get(key) == value for key, value in about.items())
    given = {case.name: case for case in cases}
    others = [name for name in rows if name not in given]
    if others and not same:
        raise InputError(
            f"{path}: lists {others[0]}, which is not in --input, made with other networks or flags; "
            "take another --output"
        )
    kept = {}
    for name, row in rows.items():
        if same and (name in others or _still_true(given[name], row)):
            kept[name] = row
        else:
            for output in row["outputs"]:
                stem.with_name(output[0]).unlink(missing_ok=True)
    return kept


def _still_true(case: Case, row: dict[str, Any]) -> bool:
    there = all(output == sign_files(case.labels.with_name(output[0])) for output in row["outputs"])
    return there and case.path.exists() and row["read_from"] == sign_files(case.path)


def _one_line(case: Case, error: Exception) -> str:
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename or case.path}: {error.strerror or error}"
    else:
        text = f"{case.path}: {type(error).__name__}: {error}"
    return " ".join(text.split())


def say_notes(case: Case, row: dict[str, Any]) -> None:
    """Write the notes of a row to standard error."""
    for note in row["notes"]:
        say_note(case.path, note)


def say_note(path: Path, note: str) -> None:
    """Write a note on a file to standard error."""
    print(f"{COMMAND}: note: {path}: {note}", file=sys.stderr)
