"""Read a DICOM CT series as a volume, checked slice by slice.

Positions and directions are DICOM's (PS3.3 C.7.6.2: mm, x to the patient's left, y to the back, z
to the head). The volume's affine is nibabel's (RAS+). Rescale slope and intercept make the voxels
HU.

By hand, because highdicom.get_volume_from_series holds every pixel while it looks at the geometry,
and does not name the wrong slice. The tests compare the two.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from data.command import InputError
from data.folders import Folder, list_children, open_folder
from data.volumes import SAME_PLACE, LazyVoxels, Volume

if TYPE_CHECKING:  # pydicom is imported where a file is read: most commands never see DICOM
    import pydicom
    from pydicom.uid import UID

NOT_DICOM = (
    ".txt", ".xml", ".csv", ".json", ".html", ".pdf", ".md", ".xlsx", ".zip", ".nii", ".nii.gz",
    ".db", ".ini",
)  # fmt: skip
"""Endings of files beside the slices; DICOMDIR, LICENSE and hidden files are passed over, too."""

SAME_DIRECTION = 1e-3  # of a unit vector, and of a pixel spacing in mm
SAME_GAP = 0.1  # of the distance between slices
STRAIGHT = 0.5  # of a pixel, over the whole stack: what remains is gantry tilt
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's x and y point the other way

_GEOMETRY = ("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


@dataclass(frozen=True)
class SliceHeader:
    """What a volume needs of one slice.

    Attributes:
        path: the file, on disk or in a zip.
        series_uid, sop_uid: its series and itself.
        modality: "CT", or what a mask is written as.
        acquisition: number of the acquisition in its series, "" where it says none.
        shape: (rows, columns).
        position: of the first pixel's centre, mm, ndarray of shape (3,).
        directions: unit vectors along a row (columns grow) and a column (rows grow), shape (2, 3).
        pixel_spacing_mm: between rows, between columns.
        rescale: (slope, intercept) to HU; (1, 0) where the file has neither.
    """

    path: Folder
    series_uid: str
    sop_uid: str
    modality: str
    acquisition: str
    shape: tuple[int, int]
    position: np.ndarray
    directions: np.ndarray
    pixel_spacing_mm: tuple[float, float]
    rescale: tuple[float, float]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector of the stack's direction."""
        return np.cross(self.directions[0], self.directions[1])


class Series(Volume):
    """A DICOM series as a volume, axes (columns, rows, slices)."""

    def __init__(self, folder: Folder, slices: Sequence[SliceHeader]) -> None:
        self.headers = tuple(slices)
        rows, columns = slices[0].shape
        factors = [float(number) for header in slices for number in header.rescale]
        dtype = np.dtype(np.int16 if all(map(float.is_integer, factors)) else np.float32)
        shape = (columns, rows, len(slices))
        voxels = LazyVoxels(shape, dtype, partial(read_stack, slices, dtype))
        try:
            image = nib.Nifti1Image(voxels, compute_affine(slices))
        except HeaderDataError as error:
            raise InputError(
                f"{folder}: a volume of {shape} voxels cannot be made ({error})"
            ) from None
        image.header.set_xyzt_units("mm")
        image.set_sform(image.affine, code=1)  # scanner coordinates
        image.set_qform(image.affine, code=1)
        super().__init__(folder, image)

    @property
    def uid(self) -> str:
        """The Series Instance UID."""
        return self.headers[0].series_uid


def open_series(
    folder: Folder,
    modality: str | None = "CT",
    paths: Sequence[Folder] | None = None,
    instances: Collection[str] = (),
) -> Series:
    """Open the one series of a folder and check its headers; no pixel is read.

    Args:
        folder: of single-slice files, or of one folder that holds them; may lie in a zip.
        modality: the only one taken; None takes any, for masks.
        paths: the files of the series, where the folder holds others too.
        instances: SOP Instance UIDs; of several acquisitions (contrast phases) only theirs is
            taken.

    Returns:
        The series.

    Raises:
        InputError: no DICOM file, a file that is none, another modality, two series, slices of
            different size, spacing or direction, two at one place, one missing, or a stack that is
            not straight (gantry tilt).
    """
    if paths is None:
        folder = find_series_folder(open_folder(folder))
        paths = list_dicom_files(folder)
    if not paths:
        raise InputError(f"{folder}: no DICOM file in it")
    slices = [read_header(path) for path in paths]
    if acquisitions := {header.acquisition for header in slices if header.sop_uid in instances}:
        slices = [header for header in slices if header.acquisition in acquisitions]
    for header in slices:
        if modality is not None and header.modality != modality:
            raise InputError(f"{header.path}: its modality is {header.modality}, not {modality}")
    _check_one_series(folder, slices)
    return Series(folder, sort_slices(folder, slices))


def find_series_folder(folder: Folder) -> Folder:
    """Return the folder where DICOM files lie: this one, or the only one in it."""
    # A CD's root holds a viewer and a folder.
    while not any(map(is_dicom_file, list_dicom_files(folder))):
        inner = [entry for entry in list_children(folder) if entry.is_dir()]
        if len(inner) != 1:
            break
        folder = inner[0]
    return folder


def is_dicom_file(path: Folder) -> bool:
    """Return whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def list_dicom_files(folder: Folder) -> list[Folder]:
    """List the files of a folder that should be DICOM, by name."""
    return [
        entry
        for entry in list_children(folder)
        if entry.is_file()
        and entry.name not in ("DICOMDIR", "LICENSE")
        and not entry.name.lower().endswith(NOT_DICOM)
    ]


def read_dataset(path: Folder, pixels: bool = False, only: Sequence[str] = ()) -> pydicom.Dataset:
    """Read a DICOM file.

    Args:
        path: the file.
        pixels: read the pixels, too.
        only: attributes of the header to read; all where it is empty.

    Raises:
        InputError: not DICOM, or damaged.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    tags = list(only) or None
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of values that break a rule of DICOM: ours are checked
            return pydicom.dcmread(file, stop_before_pixels=not pixels, specific_tags=tags)
    except InvalidDicomError:
        raise InputError(f"{path}: not a DICOM file") from None
    except Exception as error:  # pydicom has no list of what a damaged file can bring up
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"{path}: a damaged DICOM file ({error})") from None


def read_header(path: Folder) -> SliceHeader:
    """Read what a volume needs of one slice.

    Raises:
        InputError: not DICOM, more than one frame or sample, an attribute missing or not a number.
    """
    dataset = read_dataset(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values are decoded here
            _check_kind(path, dataset)
            header = _make_header(path, dataset)
    except InputError:
        raise
    except Exception as error:  # an attribute is decoded when it is asked for
        raise InputError(f"{path}: an attribute of its header cannot be read ({error})") from None
    _check_header(header)
    return header


def _check_kind(path: Folder, dataset: pydicom.Dataset) -> None:
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise InputError(
            f"{path}: holds {dataset.NumberOfFrames} frames; a series of single slices is needed"
        )
    photometric = dataset.get("PhotometricInterpretation", "none")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or photometric != "MONOCHROME2":
        raise InputError(
            f"{path}: its pixels must be grey values (MONOCHROME2), they are {photometric}"
        )
    for name in ("SeriesInstanceUID", "SOPInstanceUID", *_GEOMETRY):
        if dataset.get(name) is None:
            raise InputError(f"{path}: has no {name}")
    if ("RescaleSlope" in dataset) != ("RescaleIntercept" in dataset):
        raise InputError(f"{path}: has only one of RescaleSlope and RescaleIntercept")


def _make_header(path: Folder, dataset: pydicom.Dataset) -> SliceHeader:
    rows_mm, columns_mm = (float(mm) for mm in dataset.PixelSpacing)
    directions = np.array([float(part) for part in dataset.ImageOrientationPatient])
    return SliceHeader(
        path=path,
        series_uid=str(dataset.SeriesInstanceUID),
        sop_uid=str(dataset.SOPInstanceUID),
        modality=str(dataset.get("Modality", "none")),
        acquisition=str(dataset.get("AcquisitionNumber") or ""),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position=np.array([float(mm) for mm in dataset.ImagePositionPatient]),
        directions=directions.reshape(2, 3),
        pixel_spacing_mm=(rows_mm, columns_mm),
        rescale=(float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))),
    )


def _check_header(header: SliceHeader) -> None:
    path, directions, spacing_mm = header.path, header.directions, header.pixel_spacing_mm
    numbers = [*header.position, *directions.ravel(), *spacing_mm, *header.rescale]
    if len(header.position) != 3 or not np.isfinite(numbers).all():
        raise InputError(
            f"{path}: position, orientation, spacing and rescale must be finite numbers"
        )
    if min(spacing_mm) <= 0:
        raise InputError(f"{path}: pixel spacing must be positive, it is {spacing_mm} mm")
    if not np.allclose(directions @ directions.T, np.eye(2), atol=SAME_DIRECTION):
        raise InputError(
            f"{path}: its directions must be unit vectors at a right angle: {directions.tolist()}"
        )


def _check_one_series(folder: Folder, slices: Sequence[SliceHeader]) -> None:
    first = slices[0]
    spacing_mm, directions = first.pixel_spacing_mm, first.directions
    # Headers are rounded decimal texts, so equal values may differ a little.
    is_close = partial(np.allclose, atol=SAME_DIRECTION)
    for header in slices[1:]:
        if header.series_uid != first.series_uid:
            n = len({header.series_uid for header in slices})
            raise InputError(
                f"{folder}: {n} series in it, {first.path.name} is of one and {header.path.name} "
                "of another; give each its own folder"
            )
        for what, is_same in {
            "size": header.shape == first.shape,
            "pixel spacing": is_close(header.pixel_spacing_mm, spacing_mm, rtol=0),
            "orientation": is_close(header.directions, directions),
        }.items():
            if not is_same:
                raise InputError(f"{header.path}: its {what} is not that of {first.path.name}")


def sort_slices(folder: Folder, slices: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Sort slices by their place along the stack, which must be straight and even.

    Raises:
        InputError: fewer than two, two at one place, one missing, or a stack that is not straight.
    """
    if len(slices) < 2:
        raise InputError(f"{folder}: a volume needs at least 2 slices, it holds {len(slices)}")
    normal = slices[0].normal
    ordered = sorted(slices, key=lambda header: float(header.position @ normal))
    places = np.array([header.position @ normal for header in ordered])
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    for before, after, gap in zip(ordered, ordered[1:], gaps, strict=False):
        if gap <= SAME_GAP * usual or gap == 0:
            raise InputError(
                f"{after.path}: lies at the same place as {before.path.name}; a duplicate slice?"
            )
        if abs(gap - usual) > SAME_GAP * usual:
            what = "a slice is missing" if gap > usual else "the slices are not evenly spaced"
            raise InputError(
                f"{folder}: {gap:.4g} mm from {before.path.name} to {after.path.name}, "
                f"elsewhere {usual:.4g} mm: {what}"
            )
    # Each gap may be within its tolerance and the stack drift all the same.
    drift = float(np.abs(places - np.linspace(places[0], places[-1], len(places))).max())
    if drift > SAME_PLACE * usual:
        raise InputError(
            f"{folder}: its slices drift by {drift:.4g} mm from an even stack of {usual:.4g} mm"
        )
    _check_straight(folder, ordered, normal)
    return ordered


def _check_straight(folder: Folder, ordered: Sequence[SliceHeader], normal: np.ndarray) -> None:
    moved = np.array([header.position for header in ordered]) - ordered[0].position
    aside = moved - np.outer(moved @ normal, normal)
    worst = float(np.linalg.norm(aside, axis=1).max())
    if worst > STRAIGHT * min(ordered[0].pixel_spacing_mm):
        degrees = np.degrees(np.arctan2(np.linalg.norm(aside[-1]), moved[-1] @ normal))
        raise InputError(
            f"{folder}: its slices move sideways by {worst:.4g} mm over the stack, "
            f"a gantry tilt of {degrees:.1f} degrees; resample it to a straight stack first"
        )


def compute_affine(slices: Sequence[SliceHeader]) -> np.ndarray:
    """Compute the affine from (column, row, slice) to RAS+ mm, (4, 4)."""
    first, last = slices[0], slices[-1]
    rows_mm, columns_mm = first.pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * columns_mm
    affine[:3, 1] = first.directions[1] * rows_mm
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position
    return TO_RAS @ affine


def read_stack(slices: Sequence[SliceHeader], dtype: np.dtype) -> np.ndarray:
    """Read the slices as HU, (columns, rows, slices), clipped where `dtype` is int16."""
    rows, columns = slices[0].shape
    voxels = np.empty((columns, rows, len(slices)), dtype, order="F")
    for index, header in enumerate(slices):
        slope, intercept = header.rescale
        hu = read_pixels(header) * slope + intercept
        voxels[:, :, index] = (np.clip(hu, -32768, 32767) if dtype == np.int16 else hu).T
    return voxels


def read_pixels(header: SliceHeader) -> np.ndarray:
    """Read the stored pixels of a slice, without rescale: (rows, columns), int32.

    Raises:
        InputError: compressed without a decoder at hand, damaged, or of another shape.
    """
    path = header.path
    dataset = read_dataset(path, pixels=True)
    try:
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_compressed and not _has_decoder(syntax):
            raise InputError(
                f"{path}: compressed as {syntax.name}, and no decoder for that is installed "
                "(pip install pylibjpeg[all], or decompress the series first)"
            )
        pixels = dataset.pixel_array
    except InputError:
        raise
    except Exception as error:  # each decoder has its own errors
        raise InputError(f"{path}: its pixels cannot be read; truncated? ({error})") from None
    if pixels.shape != header.shape:
        raise InputError(f"{path}: pixels of shape {pixels.shape}, its header says {header.shape}")
    return pixels.astype(np.int32)


def _has_decoder(syntax: UID) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False
