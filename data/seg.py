"""Read and write DICOM SEG: segments on the grid of their CT series.

highdicom does both (https://github.com/ImagingDataCommons/highdicom). It is imported when needed,
because most commands never see DICOM.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine

from data.command import InputError
from data.dicom import TO_RAS, Series, read_dataset
from data.files import replace_file
from data.folders import Folder
from data.volumes import SAME_PLACE

_READ_ERRORS = (
    AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    struct.error,
)  # fmt: skip
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber",
    "StudyDate", "StudyTime",
)  # fmt: skip
"""What highdicom copies though a series may lack it (DICOM type 2), as anonymised ones do."""


class Segments:
    """The segments of a DICOM SEG file.

    Attributes:
        path: the file.
        series_uid: the CT series they were drawn on.
        instances: SOP Instance UIDs of the slices that it references.
        names: label of each segment, in lower case, by its number.
    """

    def __init__(self, path: Folder) -> None:
        """Open a SEG file.

        Raises:
            InputError: not DICOM, not a SEG, damaged, or it references no series or several.
        """
        self.path = path
        header = read_dataset(path)
        if header.get("Modality") != "SEG":
            raise InputError(
                f"{path}: not a DICOM SEG, its modality is {header.get('Modality', 'none')}"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # values are decoded here; wrong ones are refused
                sequence = header.get("ReferencedSeriesSequence", [])
                referenced = [str(series.SeriesInstanceUID) for series in sequence]
                self.instances = frozenset(_find_instances(header))
                self.names = {
                    int(segment.SegmentNumber): str(segment.SegmentLabel).lower()
                    for segment in header.SegmentSequence
                }
        except _READ_ERRORS as error:
            raise InputError(f"{path}: a damaged DICOM SEG ({error})") from None
        if len(referenced) != 1:
            raise InputError(f"{path}: must reference one series, it references {len(referenced)}")
        self.series_uid = referenced[0]
        self._content: Any = None

    def mask(self, names: Sequence[str], series: Series) -> np.ndarray:
        """Return the union of segments on a series' grid: bool (columns, rows, slices).

        Names are in lower case; one that the file lacks gives nothing.

        Raises:
            InputError: the file references another series, or lies on another grid.
        """
        if self.series_uid != series.uid:
            raise InputError(
                f"{self.path}: references series {self.series_uid}, the CT in {series.path} is "
                f"{series.uid}"
            )
        union = np.zeros(series.native_shape, bool)
        for number, name in self.names.items():
            if name in names:
                union |= self._read_segment(number, series) > 0
        return union

    def _read_segment(self, number: int, series: Series) -> np.ndarray:
        try:
            if self._content is None:
                self._content = self._read_content(series)
            volume = self._content.get_volume(segment_numbers=[number], dtype=np.uint8)
        except InputError:
            raise
        except _READ_ERRORS as error:
            raise InputError(f"{self.path}: its frames cannot be read ({error})") from None
        return _match_grid(self.path, volume, series).transpose(2, 1, 0)

    def _read_content(self, series: Series) -> Any:
        """Read the whole file, the distance between slices filled in."""
        import highdicom as hd

        dataset = read_dataset(self.path, pixels=True)
        n_pixels = int(dataset.NumberOfFrames) * dataset.Rows * dataset.Columns
        n_bits, n_bytes = n_pixels * dataset.BitsAllocated, len(dataset.PixelData)
        if not dataset.file_meta.TransferSyntaxUID.is_compressed and 8 * n_bytes < n_bits:
            raise InputError(
                f"{self.path}: cut short, it holds {n_bytes:,} bytes of {-(-n_bits // 8):,}"
            )
        for shared in dataset.get("SharedFunctionalGroupsSequence", []):
            for measures in shared.get("PixelMeasuresSequence", []):
                if "SpacingBetweenSlices" not in measures:
                    measures.SpacingBetweenSlices = float(np.linalg.norm(series.affine[:3, 2]))
        return hd.seg.Segmentation.from_dataset(dataset, copy=False)


def _find_instances(header: Any) -> Iterator[str]:
    """Yield the SOP Instance UIDs that a SEG references, in the file or in a frame."""
    sources = [
        image
        for series in header.get("ReferencedSeriesSequence", [])
        for image in series.get("ReferencedInstanceSequence", [])
    ]
    sources += [
        image
        for frame in header.get("PerFrameFunctionalGroupsSequence", [])
        for derivation in frame.get("DerivationImageSequence", [])
        for image in derivation.get("SourceImageSequence", [])
    ]
    yield from (str(image.ReferencedSOPInstanceUID) for image in sources)


def _match_grid(path: Folder, volume: Any, series: Series) -> np.ndarray:
    """Bring a segment to a series' grid; no voxel is resampled, none is lost.

    The result is (slices, rows, columns).

    Raises:
        InputError: it lies on another grid, or beyond this one.
    """
    target = _describe_grid(series)
    try:
        turned = volume.match_geometry(target, tol=SAME_PLACE)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: not on the grid of {series.path} ({error})") from None
    # match_geometry takes directions for the same that differ by some degrees, a voxel out of two
    # from a finer grid, and cuts off what is marked outside.
    n_slices, rows, columns = target.spatial_shape
    array = np.asarray(turned.array)[:n_slices, :rows, :columns, 0]
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(target.spatial_shape) - 1)
    moved = apply_affine(turned.affine, corners) - apply_affine(target.affine, corners)
    apart = np.linalg.norm(moved, axis=1).max()
    is_in_place = apart <= SAME_PLACE * min(target.spacing)
    has_size = np.allclose(sorted(volume.spacing), sorted(target.spacing), rtol=SAME_PLACE)
    if not (array.shape == tuple(target.spatial_shape) and has_size and is_in_place):
        raise InputError(
            f"{path}: not on the grid of {series.path}, voxels lie up to {apart:.3g} mm apart"
        )
    lost = np.count_nonzero(volume.array) - np.count_nonzero(array)
    if lost:
        raise InputError(f"{path}: marks {lost:,} voxels outside of {series.path}")
    return array


def _describe_grid(series: Series) -> Any:
    """Return the grid of a series as highdicom has it: (slice, row, column), LPS mm."""
    import highdicom as hd

    affine = (TO_RAS @ series.affine)[:, [2, 1, 0, 3]]
    return hd.VolumeGeometry(affine, series.native_shape[::-1], coordinate_system="PATIENT")


def check_holds_seg(series: Series) -> None:
    """Check, before a long computation, that a DICOM SEG can be made for a series.

    An InputError says that slices lack what places them in the study.
    """
    first = series.headers[0].path
    names = ("FrameOfReferenceUID", "StudyInstanceUID", "SOPClassUID")
    header = read_dataset(first, only=names)
    for name in names:
        if not header.get(name):
            raise InputError(
                f"{first}: has no {name}, which a DICOM SEG needs "
                "(without --dicom-seg it can be segmented)"
            )


def write_seg(
    path: Path,
    labels: np.ndarray,
    series: Series,
    algorithm: str,
    version: str,
    liver_only: bool = False,
) -> None:
    """Write liver (with its tumors) and tumors as segments 1 and 2 of a DICOM SEG.

    Args:
        path: the file, written whole or not at all.
        labels: ndarray of shape (n_slices, rows, columns), canonical order, 0 other, 1 liver, 2
            tumor.
        series: the CT series that was segmented.
        algorithm, version: name and version of what segmented.
        liver_only: no tumor was looked for, so write no segment for it.

    Raises:
        InputError: there is no liver, so no segment to write; the series lacks what a SEG needs.
    """
    # (slices, rows, columns) in the series' own order.
    native = series.to_native(labels).transpose(2, 1, 0)
    if not native.any():
        raise InputError(
            f"{path}: no liver was found, and a DICOM SEG cannot be empty; it is not written"
        )
    try:
        with warnings.catch_warnings():
            # A patient's name of one part is common in anonymised data.
            warnings.filterwarnings(
                "ignore", "The string .* since it contains only a single component", UserWarning
            )
            descriptions = _describe_segments(algorithm, version)[: 1 if liver_only else 2]
            segmentation = _make_segmentation(native, series, descriptions)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the series lacks what a DICOM SEG needs ({error})") from None
    with replace_file(path) as temporary:
        segmentation.save_as(temporary)


def _make_segmentation(native: np.ndarray, series: Series, descriptions: Sequence[Any]) -> Any:
    import highdicom as hd

    by = descriptions[0].algorithm_identification
    gap_mm = float(np.linalg.norm(series.affine[:3, 2]))
    return hd.seg.Segmentation(
        source_images=[_read_source(header.path, gap_mm) for header in series.headers],
        pixel_array=np.stack([native >= 1, native == 2][: len(descriptions)], axis=-1),
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=by.name,
        manufacturer_model_name=by.name,
        software_versions=by.version,
        device_serial_number="1",
        content_label="LIVER_TUMOR",
        content_qualification="RESEARCH",
        series_description="Liver and tumor, automatic, not for diagnosis",
        specific_character_set="ISO_IR 192",  # UTF-8, for names in any alphabet
    )


def _read_source(path: Folder, gap_mm: float) -> Any:
    """Read a slice's header for the SEG to copy, its thickness filled in."""
    dataset = read_dataset(path)
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, "")
    if dataset.get("SliceThickness") is None:
        dataset.SliceThickness = gap_mm
    return dataset


def _describe_segments(algorithm: str, version: str) -> list[Any]:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm, family=codes.DCM.ArtificialIntelligence, version=version
    )
    kinds = (
        ("Liver", codes.SCT.AnatomicalStructure, codes.SCT.Liver),
        ("Tumor", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm),
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification,
        )
        for number, (label, category, kind) in enumerate(kinds, start=1)
    ]
