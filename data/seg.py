"""DICOM SEG: segments brought onto the grid of the CT series that they were drawn on, and written for viewers.

Both directions go through highdicom (https://github.com/ImagingDataCommons/highdicom); it is imported when needed,
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
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
)
"""What a series may leave empty (DICOM's type 2), and highdicom wants to copy: anonymised series lack some of them."""


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
                warnings.simplefilter(
                    "ignore"
                )  # values are decoded here; what is wrong with them is refused
                referenced = [
                    str(one.SeriesInstanceUID) for one in header.get("ReferencedSeriesSequence", [])
                ]
                self.instances = frozenset(_instances(header))
                self.names = {
                    int(one.SegmentNumber): str(one.SegmentLabel).lower()
                    for one in header.SegmentSequence
                }
        except _READ_ERRORS as error:
            raise InputError(f"{path}: a damaged DICOM SEG ({error})") from None
        if len(referenced) != 1:
            raise InputError(f"{path}: must reference one series, it references {len(referenced)}")
        self.series_uid = referenced[0]
        self._read: Any = None

    def mask(self, names: Sequence[str], series: Series) -> np.ndarray:
        """Return the union of the named segments on the grid of `series`: bool, (columns, rows, slices).

        Args:
            names: labels in lower case; one that the file lacks gives nothing.
            series: the CT series.

        Raises:
            InputError: the file references another series, or lies on another grid.
        """
        if self.series_uid != series.uid:
            raise InputError(
                f"{self.path}: references series {self.series_uid}, the CT in {series.path} is {series.uid}"
            )
        found = np.zeros(series.native_shape, bool)
        for number, name in self.names.items():
            if name in names:
                found |= self._segment(number, series) > 0
        return found

    def _segment(self, number: int, series: Series) -> np.ndarray:
        try:
            if self._read is None:
                self._read = self._whole(series)
            volume = self._read.get_volume(segment_numbers=[number], dtype=np.uint8)
        except InputError:
            raise
        except _READ_ERRORS as error:
            raise InputError(f"{self.path}: its frames cannot be read ({error})") from None
        return _on_grid(self.path, volume, series).transpose(2, 1, 0)

    def _whole(self, series: Series) -> Any:
        """Read the file to its end; one without a distance between slices takes that of its series."""
        import highdicom as hd

        dataset = read_dataset(self.path, pixels=True)
        n_bits = (
            int(dataset.NumberOfFrames) * dataset.Rows * dataset.Columns * dataset.BitsAllocated
        )
        if (
            not dataset.file_meta.TransferSyntaxUID.is_compressed
            and 8 * len(dataset.PixelData) < n_bits
        ):
            raise InputError(
                f"{self.path}: cut short, it holds {len(dataset.PixelData):,} bytes of {-(-n_bits // 8):,}"
            )
        for shared in dataset.get("SharedFunctionalGroupsSequence", []):
            for measures in shared.get("PixelMeasuresSequence", []):
                if "SpacingBetweenSlices" not in measures:
                    measures.SpacingBetweenSlices = float(np.linalg.norm(series.affine[:3, 2]))
        return hd.seg.Segmentation.from_dataset(dataset, copy=False)


def _instances(header: Any) -> Iterator[str]:
    for series in header.get("ReferencedSeriesSequence", []):
        yield from (
            str(one.ReferencedSOPInstanceUID)
            for one in series.get("ReferencedInstanceSequence", [])
        )
    for frame in header.get("PerFrameFunctionalGroupsSequence", []):
        for derivation in frame.get("DerivationImageSequence", []):
            yield from (
                str(one.ReferencedSOPInstanceUID)
                for one in derivation.get("SourceImageSequence", [])
            )


def _on_grid(path: Folder, volume: Any, series: Series) -> np.ndarray:
    """Bring a segment to the grid of a series, (slices, rows, columns); no voxel is resampled and none is lost."""
    target = _geometry(series)
    try:
        turned = volume.match_geometry(target, tol=SAME_PLACE)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: not on the grid of {series.path} ({error})") from None
    # match_geometry takes directions for the same that differ by some degrees, a voxel out of two from a finer grid,
    # and cuts off what is marked outside.
    n_slices, rows, columns = target.spatial_shape
    array = np.asarray(turned.array)[:n_slices, :rows, :columns, 0]
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(target.spatial_shape) - 1)
    apart = np.linalg.norm(
        apply_affine(turned.affine, corners) - apply_affine(target.affine, corners), axis=1
    ).max()
    of_one_size = np.allclose(sorted(volume.spacing), sorted(target.spacing), rtol=SAME_PLACE)
    if (
        array.shape != tuple(target.spatial_shape)
        or not of_one_size
        or apart > SAME_PLACE * min(target.spacing)
    ):
        raise InputError(
            f"{path}: not on the grid of {series.path}, voxels lie up to {apart:.3g} mm apart"
        )
    lost = np.count_nonzero(volume.array) - np.count_nonzero(array)
    if lost:
        raise InputError(f"{path}: marks {lost:,} voxels outside of {series.path}")
    return array


def _geometry(series: Series) -> Any:
    """The grid of a series as highdicom has it: axes (slice, row, column), positions in LPS mm."""
    import highdicom as hd

    affine = (TO_RAS @ series.affine)[:, [2, 1, 0, 3]]
    return hd.VolumeGeometry(affine, series.native_shape[::-1], coordinate_system="PATIENT")


def check_holds_seg(series: Series) -> None:
    """Check, before a long computation, that a DICOM SEG can be made for a series.

    Raises:
        InputError: its slices lack what places them in the study.
    """
    first = series.headers[0].path
    header = read_dataset(first, only=("FrameOfReferenceUID", "StudyInstanceUID", "SOPClassUID"))
    for name in ("FrameOfReferenceUID", "StudyInstanceUID", "SOPClassUID"):
        if not header.get(name):
            raise InputError(
                f"{first}: has no {name}, which a DICOM SEG needs (without --dicom-seg it can be segmented)"
            )


def write_seg(
    path: Path,
    labels: np.ndarray,
    series: Series,
    algorithm: str,
    version: str,
    liver_only: bool = False,
) -> None:
    """Write liver (with its tumors) and tumors as segments 1 and 2 of a DICOM SEG, whole or not at all.

    Args:
        path: the file to write.
        labels: ndarray of shape (n_slices, rows, columns), canonical order, 0 other, 1 liver, 2 tumor.
        series: the CT series that was segmented.
        algorithm, version: name and version of what segmented.
        liver_only: no tumor was looked for, so write no segment for it.

    Raises:
        InputError: nothing was found, so there is no segment to write; the series lacks what a SEG needs.
    """
    native = series.to_native(labels).transpose(
        2, 1, 0
    )  # (slices, rows, columns) in the series' own order
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
            descriptions = _descriptions(algorithm, version)[: 1 if liver_only else 2]
            segmentation = _segmentation(native, series, descriptions)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the series lacks what a DICOM SEG needs ({error})") from None
    with replace_file(path) as temporary:
        segmentation.save_as(temporary)


def _segmentation(native: np.ndarray, series: Series, descriptions: Sequence[Any]) -> Any:
    import highdicom as hd

    by = descriptions[0].algorithm_identification
    return hd.seg.Segmentation(
        source_images=[
            _source(one.path, float(np.linalg.norm(series.affine[:3, 2]))) for one in series.headers
        ],
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


def _source(path: Folder, gap_mm: float) -> Any:
    """Read the header of a slice for the SEG to copy; a missing thickness is the distance between slices."""
    dataset = read_dataset(path)
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, "")
    if dataset.get("SliceThickness") is None:
        dataset.SliceThickness = gap_mm
    return dataset


def _descriptions(algorithm: str, version: str) -> list[Any]:
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
