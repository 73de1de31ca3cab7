"""DICOM SEG: segments brought onto the grid of the CT series that they were drawn on, and written for viewers.

Both directions go through highdicom (https://github.com/ImagingDataCommons/highdicom); it is imported when needed,
because most commands never see DICOM.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from data.command import InputError
from data.dicom import TO_RAS, Series, read_dataset
from data.files import replacing
from data.folders import Folder

SAME_PLACE_MM = 0.01  # TCIA writes positions with few digits


class Segments:
    """The segments of a DICOM SEG file.

    Attributes:
        path: the file.
        series_uid: the CT series they were drawn on.
        study_date: of the segmentation's study, YYYYMMDD or "".
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
            raise InputError(f"{path}: not a DICOM SEG, its modality is {header.get('Modality', 'none')}")
        referenced = [str(one.SeriesInstanceUID) for one in header.get("ReferencedSeriesSequence", [])]
        if len(referenced) != 1:
            raise InputError(f"{path}: must reference one series, it references {len(referenced)}")
        self.series_uid = referenced[0]
        self.study_date = str(header.get("StudyDate", "") or "")
        self.names = {int(one.SegmentNumber): str(one.SegmentLabel).lower() for one in header.SegmentSequence}
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
        import highdicom as hd

        try:
            if self._read is None:
                with self.path.open("rb") as file:
                    self._read = hd.seg.segread(cast(BinaryIO, file))
            volume = self._read.get_volume(segment_numbers=[number], dtype=np.uint8)
        except (RuntimeError, ValueError, AttributeError, KeyError, NotImplementedError) as error:
            raise InputError(f"{self.path}: its frames cannot be read ({error})") from None
        try:
            on_grid = volume.match_geometry(_geometry(series), tol=SAME_PLACE_MM)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{self.path}: not on the grid of {series.path} ({error})") from None
        return np.asarray(on_grid.array)[..., 0].transpose(2, 1, 0)


def _geometry(series: Series) -> Any:
    """The grid of a series as highdicom has it: axes (slice, row, column), positions in LPS mm."""
    import highdicom as hd

    affine = (TO_RAS @ series.affine)[:, [2, 1, 0, 3]]
    return hd.VolumeGeometry(affine, series.native_shape[::-1], coordinate_system="PATIENT")


def write_seg(path: Path, labels: np.ndarray, series: Series, algorithm: str, version: str) -> None:
    """Write liver (with its tumors) and tumors as segments 1 and 2 of a DICOM SEG, whole or not at all.

    Args:
        path: the file to write.
        labels: ndarray of shape (n_slices, rows, columns), canonical order, 0 other, 1 liver, 2 tumor.
        series: the CT series that was segmented.
        algorithm, version: name and version of what segmented.

    Raises:
        InputError: nothing was found, so there is no segment to write; the series lacks what a SEG needs.
    """
    import highdicom as hd

    native = series.to_native(labels).transpose(2, 1, 0)  # (slices, rows, columns) in the series' own order
    masks = np.stack([native >= 1, native == 2], axis=-1)
    if not masks.any():
        raise InputError(f"{path}: no liver was found, and a DICOM SEG cannot be empty; it is not written")
    try:
        segmentation = hd.seg.Segmentation(
            source_images=[read_dataset(one.path) for one in series.headers],
            pixel_array=masks,
            segmentation_type="BINARY",
            segment_descriptions=_descriptions(algorithm, version),
            series_instance_uid=hd.UID(),
            series_number=100,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=algorithm,
            manufacturer_model_name=algorithm,
            software_versions=version,
            device_serial_number="1",
            content_label="LIVER_TUMOR",
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the series lacks what a DICOM SEG needs ({error})") from None
    with replacing(path) as temporary:
        segmentation.save_as(temporary)


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
