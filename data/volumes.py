"""Read, check and write CT volumes and their labels, in one orientation.

Every volume is presented as (slices, rows, columns): slices from feet to head, rows from anterior
to posterior, columns from the patient's right to left, as a radiologist sees them. In nibabel's
words the file's axes are turned to ('L', 'P', 'S') and then reversed.

By hand is what nibabel repairs or leaves out without a word: a zero or negative spacing, the
checksum at the end of a .gz.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel import orientations
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from data.command import InputError
from data.files import replace_file
from data.folders import Folder

CHUNK_SLICES = 16
NO_TISSUE_HU = -200.0
LEAST_RANGE_HU = 50.0  # water and liver differ by as much; a standardised picture spans less
SAME_PLACE = 0.25  # of the smallest voxel edge; headers written with few digits stay below it
SAME_SPACING = 0.01  # as share; headers hold few digits
LABEL_ATOL = 1e-3  # float label files carry rounding of their scale factor

_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_CANONICAL = orientations.axcodes2ornt(("L", "P", "S"))
_READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)


class Volume:
    """A 3-D volume in canonical order; its voxels are read at first use.

    Scale slope and intercept are applied per call of `slices`, so that memory stays at the raw
    voxels.

    Attributes:
        path: the file, or the folder of a DICOM series.
        affine: ndarray of shape (4, 4), float64, from voxel of the file's own axes to mm (RAS+).
        orientation: the file's own axis codes, as "LAS".
        native_shape: shape in the file's own axis order.
        n_slices, rows, columns: canonical shape.
        spacing_mm: (slice, row, column) spacing, canonical order: the header's pixdim, or that of
            another affine.
        file_axis: which axis of the file holds the "slices", "rows" and "columns".
        notes: what a user should know of its header.
        orientation_is_false: whether the affine's directions are known to say nothing.
    """

    def __init__(
        self, path: Folder, image: nib.Nifti1Image, affine: np.ndarray | None = None
    ) -> None:
        self.path = path
        self.affine = np.asarray(image.affine if affine is None else affine, dtype=np.float64)
        first, second, third = (int(n) for n in image.shape)
        self.native_shape = first, second, third
        self.orientation = "".join(nib.aff2axcodes(self.affine))
        self.notes: list[str] = []
        self.orientation_is_false = False
        self._image = image
        self._native = orientations.io_orientation(self.affine)
        axes = [int(np.flatnonzero(self._native[:, 0] == axis)[0]) for axis in (2, 1, 0)]
        self.file_axis = dict(zip(("slices", "rows", "columns"), axes, strict=True))
        self.n_slices, self.rows, self.columns = (self.native_shape[axis] for axis in axes)
        zooms = image.header.get_zooms() if affine is None else voxel_sizes(self.affine)
        slice_mm, row_mm, column_mm = (float(zooms[axis]) for axis in axes)
        self.spacing_mm = slice_mm, row_mm, column_mm

    def under(self, affine: np.ndarray) -> Volume:
        """Return the same voxels under another affine, for a wrong header."""
        return Volume(self.path, self._image, affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Canonical shape (n_slices, rows, columns)."""
        return self.n_slices, self.rows, self.columns

    @cached_property
    def _voxels(self) -> np.ndarray:
        """The unscaled voxels, a canonical view (n_slices, rows, columns) of the file's."""
        path = self.path
        try:
            raw = _read_unscaled(path, self._image.dataobj)
        except InputError:
            raise
        except MemoryError:
            raise InputError(
                f"{path}: its header announces more voxels than memory holds"
            ) from None
        except _READ_ERRORS as error:
            raise InputError(f"{path}: the voxels cannot be read; truncated? ({error})") from None
        transform = orientations.ornt_transform(self._native, _CANONICAL)
        return np.asarray(orientations.apply_orientation(raw, transform)).transpose(2, 1, 0)

    def slices(self, start: int, stop: int) -> np.ndarray:
        """Return scaled slices [start, stop): (n, rows, columns), float32.

        Raises:
            InputError: the voxels cannot be read (truncated file).
        """
        raw = self._voxels[start:stop]
        slope, inter = self._image.dataobj.slope, self._image.dataobj.inter
        with np.errstate(over="ignore", invalid="ignore"):  # an infinity is found by check_hu
            if (slope, inter) == (1, 0):
                return raw.astype(np.float32)
            return (raw.astype(np.float64) * slope + inter).astype(np.float32)

    def labels(self, start: int, stop: int) -> np.ndarray:
        """Return slices [start, stop) of checked labels: (n, rows, columns), uint8."""
        if self.holds_integers:
            return self._voxels[start:stop].astype(np.uint8)
        return np.rint(self.slices(start, stop)).astype(np.uint8)

    def chunks(self, size: int = CHUNK_SLICES) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first slice, float32 slices) over the whole volume."""
        for start in range(0, self.n_slices, size):
            yield start, self.slices(start, min(start + size, self.n_slices))

    @property
    def holds_integers(self) -> bool:
        """Whether the stored voxels are whole numbers that no scale factor changes."""
        stored = self._image.dataobj
        is_integer = bool(np.issubdtype(stored.dtype, np.integer))
        return (stored.slope, stored.inter) == (1, 0) and is_integer

    @cached_property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest scaled value; NaN when a voxel is NaN."""
        if self.holds_integers:
            return float(self._voxels.min()), float(self._voxels.max())
        with np.errstate(invalid="ignore"):
            ranges = np.array([(chunk.min(), chunk.max()) for _, chunk in self.chunks()])
            return float(ranges[:, 0].min()), float(ranges[:, 1].max())

    def to_native(self, labels: np.ndarray) -> np.ndarray:
        """Turn a canonical array of any dtype into the file's own axis order.

        Raises:
            ValueError: `labels` is not of shape (n_slices, rows, columns).
        """
        if labels.shape != self.shape:
            raise ValueError(
                f"labels must have the volume's shape {self.shape}, got {labels.shape}"
            )
        back = orientations.ornt_transform(_CANONICAL, self._native)
        return np.ascontiguousarray(orientations.apply_orientation(labels.transpose(2, 1, 0), back))

    @property
    def image_class(self) -> type[nib.Nifti1Image]:
        """NIfTI-1 or NIfTI-2."""
        return type(self._image)

    def copy_header(self) -> Any:
        """Copy the NIfTI header for writing on the same grid.

        What else it says of the CT, which may be the patient's name, is left out.
        """
        header = self._image.header.copy()
        header.extensions.clear()
        header["intent_code"] = 0
        for name in ("intent_name", "descrip", "aux_file", "db_name"):
            if name in header:
                header[name] = b""
        return header


class LazyVoxels:
    """Voxels made when first asked for, as nibabel takes them."""

    slope, inter = 1.0, 0.0

    def __init__(
        self, shape: tuple[int, int, int], dtype: np.dtype, make: Callable[[], np.ndarray]
    ) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self.get_unscaled = make

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.get_unscaled(), dtype)


def _read_unscaled(path: Folder, voxels: Any) -> np.ndarray:
    """Read the voxels as stored; a .gz to its very end, where its checksum stands."""
    if not isinstance(voxels, ArrayProxy) or not path.name.endswith(".gz"):
        return np.asarray(voxels.get_unscaled())
    with gzip.open(str(path)) as file:
        file.read(voxels.offset)
        raw = np.empty(voxels.shape, voxels.dtype, order="F")
        unread = raw.reshape(-1, order="F").view(np.uint8).data
        while unread and (n_bytes := file.readinto(unread)):
            unread = unread[n_bytes:]
        if unread:
            raise EOFError(f"{len(unread):,} bytes of its voxels are missing")
        while file.read(2**20):
            pass
    return raw


def open_volume(path: Path, on: Volume | None = None) -> Volume:
    """Open a 3-D NIfTI file and check its header; no voxel is read.

    The affine of the volume `on` replaces the file's own: for labels that match their image voxel
    for voxel under another header, as some copies of LiTS have them.

    Raises:
        InputError: missing, not NIfTI, not 3-D or not scalar, an empty axis, an affine that is not
            finite or singular, a spacing that is not positive and finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    _check_header(path, _read_raw_header(path))
    try:
        image = nib.load(path, mmap="r")
    except _READ_ERRORS as error:
        raise InputError(f"{path}: not a readable NIfTI file ({error})") from None
    if not isinstance(image, nib.Nifti1Image):
        raise InputError(f"{path}: not a single-file NIfTI (.nii or .nii.gz)")
    if on is None:
        _check_affine(path, np.asarray(image.affine))
    return Volume(path, image, None if on is None else on.affine)


def wrap_image(image: Any) -> Volume:
    """Take an image of nibabel for a volume, as `open_volume` does a file."""
    path = Path(image.get_filename() or "image")
    nifti = image if isinstance(image, nib.Nifti1Image) else nib.Nifti1Image.from_image(image)
    _check_header(path, nifti.header)
    _check_affine(path, np.asarray(nifti.affine))
    if not nib.is_proxy(
        nifti.dataobj
    ):  # an array: no scaling, and the header's type is not its own
        array = np.asarray(nifti.dataobj)
        voxels = LazyVoxels(array.shape, array.dtype, lambda: array)
        nifti = type(nifti)(voxels, nifti.affine, nifti.header)
    return Volume(path, nifti)


def _check_affine(path: Path, affine: np.ndarray) -> None:
    if not np.isfinite(affine).all():
        raise InputError(f"{path}: the affine must be finite")
    if np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputError(f"{path}: the affine must be invertible, it is singular")


def open_image(path: Path) -> Volume:
    """Open a CT, NIfTI or DICOM (`open_volume`, `open_series`); check its header."""
    from data.dicom import is_dicom_file, open_series  # which builds on this module

    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir() or path.suffix.lower() == ".zip":
        return open_series(path)
    if is_dicom_file(path):
        raise InputError(f"{path}: one DICOM file; give the folder that holds its whole series")
    return open_volume(path)


def read_image(path: Path, allow_non_hu: bool = False) -> Volume:
    """Open a CT and check its values, too (`open_image`, `check_hu`)."""
    volume = open_image(path)
    check_hu(volume, allow_non_hu)
    return volume


def _read_raw_header(path: Path) -> Any:
    """Read the header as it stands, without nibabel's repairs."""
    kinds = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
    try:
        with ImageOpener(path) as file:
            start = file.read(540)
    except PermissionError:
        raise InputError(f"{path}: may not be read, permission denied") from None
    except _READ_ERRORS as error:
        raise InputError(f"{path}: not a NIfTI file ({error})") from None
    sizes = {int.from_bytes(start[:4], order) for order in _ORDERS} & kinds.keys()
    if not sizes or len(start) < max(sizes):
        raise InputError(f"{path}: not a NIfTI file (no header of 348 or 540 bytes)")
    header = kinds[max(sizes)].from_fileobj(BytesIO(start), check=False)
    if bytes(header["magic"])[:3] not in (b"n+1", b"n+2"):
        raise InputError(
            f"{path}: not a single-file NIfTI, its magic is {bytes(header['magic'])!r}"
        )
    return header


def _check_header(path: Path, header: Any) -> None:
    # Shape, unit, spacing, voxel type, in the order in which a reader would look.
    n_axes = int(header["dim"][0])
    if n_axes != 3:
        raise InputError(f"{path}: a volume must have 3 axes, this one has {n_axes}")
    shape = [int(n) for n in header["dim"][1:4]]
    if min(shape) < 1:
        raise InputError(f"{path}: an axis is empty, its shape is {shape}")
    is_known = int(header["xyzt_units"]) & 7 in (0, 1, 2, 3)
    unit = header.get_xyzt_units()[0] if is_known else "of an unknown code"
    if unit not in ("mm", "unknown"):
        raise InputError(f"{path}: lengths must be in mm, its header says {unit}")
    spacing = [float(mm) for mm in header["pixdim"][1:4]]
    if not all(np.isfinite(mm) and mm > 0 for mm in spacing):
        raise InputError(
            f"{path}: spacing must be positive and finite, its header says {spacing} mm"
        )
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        raise InputError(f"{path}: unknown voxel type, code {int(header['datatype'])}") from None
    if dtype.kind not in "iuf":
        raise InputError(f"{path}: voxels must be single numbers, not RGB or complex ({dtype})")


def check_hu(volume: Volume, allow_non_hu: bool = False) -> None:
    """Check that the values of a CT volume can be Hounsfield units.

    Raises:
        InputError: NaN or infinity; no value above -200 HU (no tissue); unless `allow_non_hu`, all
            values within 0..1 or 0..255 (a rescaled picture), none below 0 (no rescale intercept),
            or all within 50 of another (standardised).
    """
    path, (low, high) = volume.path, volume.value_range
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{path}: voxels must be finite, it holds NaN or infinity")
    if high <= NO_TISSUE_HU:
        raise InputError(f"{path}: no value above {NO_TISSUE_HU:g} HU, so no tissue in it")
    # What follows is doubt only, which a user may overrule.
    if allow_non_hu:
        return
    doubt = ""
    if low >= 0:
        doubt = "no value below 0, so not HU: is the rescale intercept missing?"
        for top in (255, 1):
            doubt = f"all values lie within 0..{top}, so not HU" if high <= top else doubt
    elif high - low < LEAST_RANGE_HU:
        doubt = f"values from {low:g} to {high:g}, so not HU: a standardised picture?"
    if doubt:
        raise InputError(f"{path}: {doubt} (--allow-non-hu takes them)")


def check_label(volume: Volume) -> None:
    """Check that labels are only 0 (other), 1 (liver), 2 (tumor), with some liver.

    A value counts as 0, 1 or 2 when it is within 0.001 of it.

    Raises:
        InputError: another value (NaN included), or no liver at all.
    """
    if not check_label_values(volume):
        raise InputError(f"{volume.path}: no liver in it (no label 1 or 2)")


def check_label_values(volume: Volume) -> bool:
    """Return whether any label is not 0; raise an InputError for others than 0, 1, 2."""
    if volume.holds_integers:
        low, high = volume.value_range
        if low < 0 or high > 2:
            wrong = low if low < 0 else high
            raise InputError(f"{volume.path}: labels must be 0, 1 or 2, it holds {wrong:g}")
        return high > 0
    liver = False
    for _, chunk in volume.chunks():
        nearest = np.rint(chunk)
        with np.errstate(invalid="ignore"):  # infinity less infinity is wrong as well
            wrong = ~((np.abs(chunk - nearest) <= LABEL_ATOL) & (nearest >= 0) & (nearest <= 2))
        if wrong.any():
            raise InputError(
                f"{volume.path}: labels must be 0, 1 or 2, it holds {chunk[wrong][0]:g}"
            )
        liver = liver or bool(nearest.any())
    return liver


def check_pair(image: Volume, label: Volume, flag: str = "--ignore-label-affine") -> None:
    """Check that image and label lie on one grid, to a quarter of a voxel.

    They have one shape, and the voxels at their corners, which bound all others, are no further
    apart than a quarter of the smallest voxel edge.

    Args:
        image, label: the volumes.
        flag: of the command, which takes labels voxel for voxel instead.

    Raises:
        InputError: they do not.
    """
    if image.native_shape != label.native_shape:
        raise InputError(
            f"{label.path}: its shape {label.native_shape} is not that of {image.path.name}, "
            f"{image.native_shape}"
        )
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(image.native_shape) - 1)
    apart = apply_affine(label.affine, corners) - apply_affine(image.affine, corners)
    worst = np.linalg.norm(apart, axis=1).max()
    if not worst <= SAME_PLACE * voxel_sizes(image.affine).min():
        raise InputError(
            f"{label.path}: its affine is not that of {image.path.name}, voxels lie up to "
            f"{worst:.3g} mm apart ({flag} takes it voxel for voxel)"
        )


def make_labels(image: Volume, path: Folder, make: Callable[[], np.ndarray]) -> Volume:
    """Return labels on the grid of an image, made when their voxels are first read.

    Args:
        image: the CT.
        path: what errors call the labels.
        make: returns them, uint8 of the image's native shape.
    """
    voxels = LazyVoxels(image.native_shape, np.dtype(np.uint8), make)
    return Volume(path, nib.Nifti1Image(voxels, image.affine), image.affine)


def check_spacing(volume: Volume) -> None:
    """Raise an InputError where a header's spacing is not that of its affine, to 1 %.

    Distances in mm are computed from it, and of two that differ neither can be trusted.
    """
    edges = voxel_sizes(volume.affine)
    by_affine = [float(edges[axis]) for axis in volume.file_axis.values()]
    if not np.allclose(volume.spacing_mm, by_affine, rtol=SAME_SPACING, atol=0):
        raise InputError(
            f"{volume.path}: its spacing must be that of its affine, pixdim says "
            f"{_format_mm(volume.spacing_mm)} mm and the affine {_format_mm(by_affine)} mm "
            "(slices x rows x columns)"
        )


def check_same_spacing(image: Volume, label: Volume) -> None:
    """Raise an InputError where two headers' spacing differs by more than 1 %.

    The volumes lie on one grid; the spacing is pixdim.
    """
    if not np.allclose(label.spacing_mm, image.spacing_mm, rtol=SAME_SPACING, atol=0):
        raise InputError(
            f"{label.path}: its spacing of {_format_mm(label.spacing_mm)} mm is not that of "
            f"{image.path.name}, {_format_mm(image.spacing_mm)} mm (slices x rows x columns)"
        )


def _format_mm(lengths: Sequence[float]) -> str:
    return " x ".join(f"{mm:.4g}" for mm in lengths)


def write_labels(path: Path, labels: np.ndarray, like: Volume) -> None:
    """Write labels as a uint8 NIfTI on the grid of `like`, whole or not at all.

    Shape, affine, qform and sform with their codes, orientation, spacing, units are as of `like`.

    Args:
        path: `.nii` or `.nii.gz`.
        labels: ndarray of shape (n_slices, rows, columns), canonical order, integers 0..255.
        like: the volume that was segmented.

    Raises:
        ValueError: `labels` has another shape or values outside 0..255.
    """
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"labels must lie in 0..255, got {labels.min()}..{labels.max()}")
    _write(path, make_image(labels.astype(np.uint8), like))


def write_map(path: Path, values: np.ndarray, like: Volume) -> None:
    """Write probabilities as float32 NIfTI on a volume's grid.

    Args:
        path, like: as of `write_labels`.
        values: ndarray of shape (n_slices, rows, columns), canonical order, float32.

    Raises:
        ValueError: `values` has another shape.
    """
    _write(path, make_image(values.astype(np.float32, copy=False), like))


def make_image(values: np.ndarray, like: Volume) -> nib.Nifti1Image:
    """Make a NIfTI image on the grid of `like`, as `write_labels` writes it.

    Values are (n_slices, rows, columns) in canonical order; the image has their dtype.

    Raises:
        ValueError: `values` has another shape.
    """
    header = like.copy_header()
    header.set_data_dtype(values.dtype)
    header["cal_min"] = header["cal_max"] = 0  # the CT's display window means nothing here
    return like.image_class(like.to_native(values), like.affine, header)


def _write(path: Path, image: nib.Nifti1Image) -> None:
    with replace_file(Path(path)) as temporary:
        nib.save(image, temporary)
