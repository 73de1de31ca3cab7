"""Segment many CT volumes, and write a label file for each.

`volumes.json` keeps the state of a batch: its origin, a row for each volume done, and why others
failed. `evaluation.predict` is the command.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from data.anatomy import FLIPS, find_flips
from data.command import InputError
from data.dicom import Series, find_series_folder, is_dicom_file, list_dicom_files
from data.environment import describe_commit, list_packages
from data.files import hash_file, read_json, write_json, write_text
from data.folders import Folder, list_children, list_files, sign_files
from data.seg import check_holds_seg, write_seg
from data.volumes import Volume, read_image, write_labels, write_map
from evaluation.metrics.regions import measure_labels
from evaluation.names import TARGETS
from evaluation.postprocess import postprocess

if TYPE_CHECKING:
    from evaluation.segmenter import Segmenter

COMMAND = "evaluation.predict"
SCHEMA = 1
TABLE = "volumes"
NIFTI = (".nii", ".nii.gz")
MM3_PER_ML = 1000.0
SAME_VOLUME = 0.01  # as a share
SAME_MM = 0.05  # between the two affines of a header
LEAST_MM, MOST_MM = 0.1, 20.0  # spacings of CT lie between
EVERY = 2  # pixels: enough to see where liver and spine lie

_ENDINGS = (".nii.gz", ".nii", ".zip")


@dataclass(frozen=True)
class Case:
    """One volume to segment.

    Attributes:
        path: NIfTI file, folder with a DICOM series, or zip of one.
        labels: label volume to write; all else is written beside it.
    """

    path: Path
    labels: Path

    @property
    def name(self) -> str:
        """What tables call it."""
        return strip_ending(self.path)

    @property
    def is_dicom(self) -> bool:
        """Whether it is read as DICOM."""
        return self.path.is_dir() or self.path.suffix.lower() == ".zip"

    @property
    def seg(self) -> Path:
        """The DICOM SEG."""
        return self.beside(".dcm")

    def probability(self, target: str) -> Path:
        """The probability map of "liver" or "tumor"."""
        return self.beside(f"_{target}_probability.nii.gz")

    def beside(self, suffix: str) -> Path:
        """A file beside the labels: their name without .nii or .nii.gz, and `suffix`."""
        return self.labels.with_name(strip_ending(self.labels) + suffix)


@dataclass(frozen=True)
class Row:
    """What tables say of a volume.

    Attributes:
        case: its name.
        liver_ml to tumor_burden_percent: see `evaluation.metrics.regions.Measures`.
        spacing_mm: between slices, rows and columns.
        model, loss, threshold_rule, run: what segmented it, and the run directory.
        input, read_from: its place; its signature, which shows a change.
        outputs: signature of each file written.
        notes: what a user should know of it.
    """

    case: str
    liver_ml: float
    tumor_count: int | None
    tumor_ml: float | None
    largest_tumor_ml: float | None
    tumor_volumes_ml: list[float] | None
    tumor_burden_percent: float | None
    spacing_mm: list[float]
    model: str
    loss: str
    threshold_rule: str
    run: str
    input: str
    read_from: list[str | int]
    outputs: list[list[str | int]]
    notes: list[str]

    def __str__(self) -> str:
        liver = f"liver {self.liver_ml:.1f} ml"
        if self.tumor_count is None:
            return liver
        if not self.tumor_count:
            return f"{liver}, no tumor"
        tumors = "1 tumor" if self.tumor_count == 1 else f"{self.tumor_count} tumors"
        return f"{liver}, {tumors} of {self.tumor_ml:.2f} ml in all"


COLUMNS = [field.name for field in fields(Row)][:12]
"""Of the CSV. Lists are separated by spaces; what was not measured is empty."""


@dataclass(frozen=True)
class Options:
    """How a volume is segmented and what is written: the flags of the same names.

    `postprocess` holds names separated by commas; no `threshold_rule` is the system's own rule.
    """

    threshold_rule: str | None
    liver_only: bool
    postprocess: str
    dicom_seg: bool
    probabilities: bool
    allow_non_hu: bool

    @property
    def targets(self) -> tuple[str, ...]:
        """What is looked for."""
        return TARGETS[:1] if self.liver_only else TARGETS


def strip_ending(path: Path) -> str:
    """Return the name of a file without .nii, .nii.gz or .zip; of a folder, its name."""
    if path.is_dir():
        return path.name if path.name not in ("", "..") else path.resolve().name
    ending = next((end for end in _ENDINGS if path.name.lower().endswith(end)), "")
    return path.name[: len(path.name) - len(ending)]


def find_cases(source: Path, output: Path) -> tuple[bool, list[Case]]:
    """Find the volumes to segment, and whether it is one volume.

    Raises:
        InputError: no volume there, or an output that does not fit it.
    """
    if not is_one_volume(source, output):
        return False, list_cases(source, output)
    if not output.name.endswith(NIFTI):
        raise InputError(f"--output {output}: must end in .nii or .nii.gz, --input is one volume")
    if output.is_dir():
        raise InputError(f"--output {output}: is a folder")
    _check_apart(source, output)
    return True, [Case(source, output)]


def is_one_volume(source: Path, output: Path) -> bool:
    """Tell one volume from a folder of many.

    A folder with DICOM files of its own is one series. A folder that holds only another folder,
    down to a series, is one volume if `output` is named as a NIfTI file.

    Raises:
        InputError: no such file or folder.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    n_dicom = sum(map(is_dicom_file, list_dicom_files(source))) if source.is_dir() else 0
    # One stray DICOM file beside folders with series, or NIfTI files, is no series.
    if not source.is_dir() or n_dicom > 1 or (n_dicom and not _holds_volumes(source)):
        return True
    has_files = any(_ends_as_volume(entry) for entry in list_children(source))
    return not has_files and output.name.endswith(NIFTI) and _holds_series(source)


def _holds_volumes(source: Path) -> bool:
    entries = list_children(source)
    folders = [entry for entry in entries if entry.is_dir()]
    return any(map(_ends_as_volume, entries)) or any(map(_holds_series, folders))


def _holds_series(folder: Folder) -> bool:
    return any(map(is_dicom_file, list_slices(folder)))


def list_slices(folder: Folder) -> list[Folder]:
    """List what should be a DICOM series, in a folder or the only folder in it."""
    return list_dicom_files(find_series_folder(folder))


def list_cases(source: Path, output: Path) -> list[Case]:
    """List the volumes of a folder by name: NIfTI, zips, folders with DICOM files.

    Any other sub-folder is noted on standard error. Hidden entries, other files and `output` are
    passed over silently.

    Raises:
        InputError: no volume; two of one name; `output` is a file, the input or inside a case.
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
            cases.append(Case(entry, output / f"{strip_ending(entry)}.nii.gz"))
        elif entry.is_dir():
            passed_over.append(entry)
    if not cases:
        raise InputError(f"{source}: no NIfTI file, folder with a DICOM series or zip of one in it")
    for folder in passed_over:
        print_note(folder, "no DICOM file in it, passed over")
    return cases


def check_names(cases: Sequence[Case], targets: tuple[str, ...]) -> None:
    """Check that no two cases write one file, probability maps of `targets` included.

    Raises:
        InputError: two do, or a name cannot be written into a table.
    """
    owners: dict[Path, Case] = {}
    for case in cases:
        if any("\ud800" <= letter <= "\udfff" for letter in str(case.path)):
            raise InputError(f"{str(case.path)!a}: its name is not UTF-8; rename it")
        for path in (case.labels, *(case.probability(target) for target in targets)):
            owner = owners.setdefault(path, case)
            if owner is not case:
                clash = f"would be written to {path.name}, as {owner.path.name} is"
                raise InputError(f"{case.path}: {clash}; rename one")


def _ends_as_volume(entry: Folder) -> bool:
    return entry.name.lower().endswith(_ENDINGS) and not entry.is_dir()


def _is_volume(entry: Path) -> bool:
    """Tell generously: what cannot be read or is several series will fail as a case."""
    if not entry.is_dir():
        return _ends_as_volume(entry)
    try:
        return bool(list_slices(entry)) or any(
            is_dicom_file(path) or path.name.endswith(NIFTI) for path in list_files(entry)
        )
    except OSError:
        return True


def _check_one_place(case: Case) -> None:
    if case.path.is_dir() and not list_slices(case.path):
        if any(path.name.endswith(NIFTI) for path in list_files(case.path)):
            fault = "NIfTI files in a folder of --input; give that folder itself as --input"
        else:
            fault = "DICOM files in several folders of it; give each series its own in --input"
        raise InputError(f"{case.path}: {fault}")


def _check_apart(source: Path, output: Path) -> None:
    if output.resolve() == source.resolve():
        raise InputError(f"--output {output}: is the input")
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise InputError(f"--output {output}: lies in {source}, among the slices")


@dataclass(frozen=True)
class Predictor:
    """A loaded system and its flags; networks are traced once for all volumes.

    Attributes:
        run, record: run directory and its `run.json`.
    """

    run: Path
    record: dict[str, Any]
    segmenter: Segmenter
    options: Options

    def predict(self, case: Case) -> Row:
        """Segment one volume and write all of its files, or none.

        Raises:
            InputError: the volume cannot be used, or not by this machine.
        """
        try:
            return self._predict(case)
        except MemoryError:
            raise InputError(f"{case.path}: needs more memory than there is") from None
        except (zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{case.path}: a damaged zip file ({error})") from None

    def _predict(self, case: Case) -> Row:
        options = self.options
        read_from = sign_files(case.path)  # before it is read, so that a later change is noticed
        volume = read_image(case.path, options.allow_non_hu)
        if options.dicom_seg:
            check_holds_seg(cast(Series, volume))
        # Maps and the liver by itself take memory, so they are made only where they are used.
        targets = options.targets if options.probabilities else ()
        maps = {target: np.empty(volume.shape, np.float32) for target in targets}
        steps = options.postprocess.split(",") if options.postprocess else []
        livers = np.zeros(volume.shape, bool) if "inside_liver" in steps else None
        labels = self.segmenter.segment(
            volume,
            options.threshold_rule,
            options.liver_only,
            maps=list(maps.values()),
            livers=livers,
            progress=case.name,
        )
        if steps:
            hu = volume.slices(0, volume.n_slices) if "active_contour" in steps else labels
            liver = labels > 0 if livers is None else livers
            labels = postprocess(labels, liver, hu, volume.spacing_mm, steps)
        measures = measure_labels(labels, measure_voxel_ml(volume), options.liver_only)
        outputs, notes = self._write(case, volume, labels, maps)
        return Row(
            case=case.name,
            **asdict(measures),
            spacing_mm=[round(mm, 6) for mm in volume.spacing_mm],
            **self.described,
            run=str(self.run),
            input=str(case.path),
            read_from=read_from,
            outputs=[sign_files(path) for path in outputs],
            notes=[*volume.notes, *note_geometry(volume), *note_anatomy(volume, labels), *notes],
        )

    def _write(
        self, case: Case, volume: Volume, labels: np.ndarray, maps: dict[str, np.ndarray]
    ) -> tuple[list[Path], list[str]]:
        """Write the files of a case, labels last; return paths and notes."""
        writers: dict[Path, Callable[[Path], None]] = {}
        notes = []
        if self.options.dicom_seg and labels.any():
            writers[case.seg] = partial(self._write_seg, labels=labels, series=cast(Series, volume))
        elif self.options.dicom_seg:
            case.seg.unlink(missing_ok=True)  # of an earlier run: it would contradict the labels
            notes.append(
                "no liver was found, and a DICOM SEG cannot be empty; only the NIfTI is written"
            )
        for target, values in maps.items():
            writers[case.probability(target)] = partial(write_map, values=values, like=volume)
        writers[case.labels] = partial(write_labels, labels=labels, like=volume)
        written: list[Path] = []
        try:
            for path, write in writers.items():
                write(path)
                written.append(path)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        return written, notes

    def _write_seg(self, path: Path, labels: np.ndarray, series: Series) -> None:
        algorithm = f"joint-liver-tumor {self.segmenter.name}"
        version = describe_commit() or "unknown"
        write_seg(path, labels, series, algorithm, version, self.options.liver_only)

    @property
    def described(self) -> dict[str, Any]:
        """Return the columns system, phase ("" if it has only one) and rule."""
        has_phases = len(self.segmenter.about.phases) > 1
        return {
            "model": self.segmenter.system,
            "loss": self.segmenter.phase if has_phases else "",
            "threshold_rule": self.options.threshold_rule or self.segmenter.rule,
        }

    def describe(self) -> dict[str, Any]:
        """Return a table's origin: equal only for the same networks and flags."""
        return {
            "schema": SCHEMA,
            "purpose": "research, not diagnosis",
            "synthetic": self.record["synthetic"],
            "run": str(self.run.resolve()),
            "networks": {
                network: {path.name: hash_file(path) for path in paths}
                for network, paths in self.segmenter.files.items()
            },
            "made_by": {"git_commit": describe_commit(), "packages": list_packages()},
            "options": {**asdict(self.options), **self.described},
        }


def measure_voxel_ml(volume: Volume) -> float:
    """Return the ml of a voxel: |det| of the affine, sheared grids included."""
    return abs(float(np.linalg.det(volume.affine[:3, :3]))) / MM3_PER_ML


def note_geometry(volume: Volume) -> list[str]:
    """Note where a header contradicts itself, or says what is hardly true."""
    notes = []
    by_spacing = float(np.prod(volume.spacing_mm))
    by_affine = measure_voxel_ml(volume) * MM3_PER_ML
    if abs(by_spacing - by_affine) > SAME_VOLUME * by_affine:
        notes.append(
            f"a voxel has {by_spacing:.4g} mm3 by the header's spacing and {by_affine:.4g} mm3 by "
            "its affine; volumes are by the affine"
        )
    if volume.spacing_mm == (1.0, 1.0, 1.0) and (volume.affine[:3, :3] == np.eye(3)).all():
        notes.append(
            "its affine is the identity, hardly true: volumes in ml, left and right, front and "
            "back may be wrong"
        )
    elif not all(LEAST_MM <= mm <= MOST_MM for mm in volume.spacing_mm):
        spacing = " x ".join(f"{mm:.4g}" for mm in volume.spacing_mm)
        notes.append(
            f"a spacing of {spacing} mm is hardly that of a CT: volumes in ml may be wrong"
        )
    # The two affines of a NIfTI header may both be missing, or differ.
    header = volume.copy_header()
    codes = int(header["qform_code"]), int(header["sform_code"])
    if not any(codes):
        notes.append(
            "its header says nothing of its orientation (qform and sform code 0): left and right "
            "may be wrong"
        )
    elif all(codes) and not np.allclose(header.get_qform(), header.get_sform(), atol=SAME_MM):
        notes.append("qform and sform of its header differ; sform was taken")
    return notes


def note_anatomy(volume: Volume, labels: np.ndarray) -> list[str]:
    """Note where the labels of a volume contradict its affine (see `data.anatomy`)."""
    small = labels[:, ::EVERY, ::EVERY]
    if not small.any():
        return []
    hu = np.concatenate([chunk[:, ::EVERY, ::EVERY] for _, chunk in volume.chunks()])
    mirrored_axes, _ = find_flips(hu, small)
    return [f"{FLIPS[axis]}: is the affine right?" for axis in mirrored_axes]


def write_table(
    stem: Path, origin: dict[str, Any], rows: Sequence[Row], failures: Sequence[dict[str, str]] = ()
) -> None:
    """Write STEM.json and STEM.csv (of `COLUMNS`), each whole or not at all.

    Args:
        stem: path without an ending.
        origin: see `Predictor.describe`.
        rows, failures: volumes done; `case`, `input`, `error` of the others.
    """
    cells = [
        [
            " ".join(map(str, value)) if isinstance(value, list) else value
            for value in (getattr(row, column) for column in COLUMNS)
        ]
        for row in rows
    ]
    table = pd.DataFrame(cells, columns=COLUMNS, dtype=object)
    write_text(stem.with_name(f"{stem.name}.csv"), table.to_csv(index=False, lineterminator="\n"))
    content = {**origin, "cases": [asdict(row) for row in rows], "failed": list(failures)}
    write_json(stem.with_name(f"{stem.name}.json"), content)


def predict_all(
    predict: Callable[[Case], Row], cases: Sequence[Case], origin: dict[str, Any]
) -> list[dict[str, str]]:
    """Segment many volumes into one folder; one that fails does not stop the others.

    The table is written after each volume. Rows of an earlier call stay if input, networks, options
    and files are unchanged.

    Args:
        predict: writes the files of a volume; see `Predictor.predict`.
        cases: all with outputs in one folder.
        origin: of the table; it decides whether rows can stay.

    Returns:
        `case`, `input` and `error`, one line, of each volume that failed.
    """
    stem = cases[0].labels.with_name(TABLE)
    rows, failures = _keep_rows(stem, cases, origin), list[dict[str, str]]()
    names = [case.name for case in cases]
    order = names + [name for name in rows if name not in names]

    def save() -> None:
        write_table(stem, origin, [rows[name] for name in order if name in rows], failures)

    save()
    for number, case in enumerate(cases, start=1):
        place = f"[{number}/{len(cases)}] {case.name}"
        if case.name in rows:
            print(f"{place}: already there, kept", flush=True)
            continue
        try:
            _check_one_place(case)
            rows[case.name] = predict(case)
        except Exception as error:  # whatever one file brings up, the others go on
            text = _describe_error(case, error)
            failures.append({"case": case.name, "input": str(case.path), "error": text})
            print(f"{place}: failed", flush=True)
        else:
            print(f"{place}: {rows[case.name]}", flush=True)
            print_notes(case, rows[case.name])
        save()
    return failures


def _keep_rows(stem: Path, cases: Sequence[Case], origin: dict[str, Any]) -> dict[str, Row]:
    """Return rows of an earlier call that still hold; remove files of the others.

    Rows of volumes outside `cases` stay if they were made in the same way. A folder of volumes of
    another input, made in another way, is refused (InputError).
    """
    path = stem.with_name(f"{stem.name}.json")
    if not path.exists():
        return {}
    before = read_json(path, ("schema", "cases"))
    rows = {row["case"]: Row(**row) for row in before["cases"]}
    is_same = all(before.get(key) == value for key, value in origin.items())
    by_name = {case.name: case for case in cases}
    foreign = [name for name in rows if name not in by_name]
    if foreign and not is_same:
        raise InputError(
            f"{path}: lists {foreign[0]}, which is not in --input, made with other networks or "
            "flags; take another --output"
        )
    valid = {}
    for name, row in rows.items():
        if is_same and (name in foreign or _is_still_true(by_name[name], row)):
            valid[name] = row
        else:
            for output in row.outputs:
                stem.with_name(str(output[0])).unlink(missing_ok=True)
    return valid


def _is_still_true(case: Case, row: Row) -> bool:
    files = [case.labels.with_name(str(output[0])) for output in row.outputs]
    is_there = [sign_files(path) for path in files] == row.outputs
    return is_there and case.path.exists() and row.read_from == sign_files(case.path)


def _describe_error(case: Case, error: Exception) -> str:
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename or case.path}: {error.strerror or error}"
    else:
        text = f"{case.path}: {type(error).__name__}: {error}"
    return " ".join(text.split())


def print_notes(case: Case, row: Row) -> None:
    """Print the notes of a row to standard error."""
    for note in row.notes:
        print_note(case.path, note)


def print_note(path: Path, note: str) -> None:
    """Print a note on a file to standard error."""
    print(f"{COMMAND}: note: {path}: {note}", file=sys.stderr)
