"""DICOM files as scanners and annotators write them: by pydicom and highdicom alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SPACING = (2.5, 0.8, 0.7)  # slice, row, column, mm
INTERCEPT = -1024

Change = Callable[[int, pydicom.Dataset], None]


def write_series(
    folder: Path,
    hu: np.ndarray,
    *,
    change: Change | None = None,
    uid: str | None = None,
    name: str = "slice-{:03d}.dcm",
    modality: str = "CT",
    study_date: str = "20200101",
    stored: np.ndarray | None = None,
) -> str:
    """Write HU (z, y, x), z to the head, y to the back, x to the left, as a CT series.

    Args:
        folder: made if needed.
        hu: whole numbers, (n_slices, rows, columns).
        change: called as change(index, dataset) before a slice is written; a fault to make.
        uid: of the series.
        name: of the files, written from the head down, so that the names do not give the order.
        modality, study_date: header.
        stored: pixels to store, instead of `hu` - INTERCEPT; for masks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or pydicom.uid.generate_uid()
    study, frame = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    pixels = (hu.astype(np.int32) - INTERCEPT if stored is None else stored).astype(np.uint16)
    for index in range(len(hu)):
        dataset = _slice(pixels[index], index, uid, study, frame)
        dataset.Modality, dataset.StudyDate = modality, study_date
        if stored is not None:
            dataset.RescaleIntercept = 0
        if change:
            change(index, dataset)
        dataset.save_as(folder / name.format(len(hu) - index), enforce_file_format=True)
    return uid


def _slice(pixels: np.ndarray, index: int, series: str, study: str, frame: str) -> pydicom.Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = (
        series,
        study,
        frame,
    )
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = (
        "Phantom^",
        "P1",
        "",
        "O",
    )
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
    dataset.StudyTime, dataset.PositionReferenceIndicator, dataset.SeriesNumber = "120000", "", 1
    dataset.InstanceNumber = index + 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
        16,
        16,
        15,
        0,
    )
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, INTERCEPT
    slice_mm, row_mm, column_mm = SPACING
    dataset.PixelSpacing, dataset.SliceThickness = [row_mm, column_mm], slice_mm
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-100.0, -120.0, 50.0 + slice_mm * index]
    dataset.PixelData = pixels.tobytes()
    return dataset


def write_seg(
    path: Path, folder: Path, masks: dict[str, np.ndarray], empty_frames: bool = False
) -> None:
    """Write masks (n_slices, rows, columns), from feet to head, on a series as DICOM SEG."""
    slices = sorted(
        (pydicom.dcmread(file) for file in folder.iterdir()),
        key=lambda header: float(header.ImagePositionPatient[2]),
    )
    segments = [
        hd.seg.SegmentDescription(
            number,
            label,
            codes.SCT.AnatomicalStructure,
            codes.SCT.Liver if label.lower() == "liver" else codes.SCT.Mass,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(masks, start=1)
    ]
    segmentation = hd.seg.Segmentation(
        slices,
        np.stack([mask.astype(bool) for mask in masks.values()], axis=-1),
        hd.seg.SegmentationTypeValues.BINARY,
        segments,
        series_instance_uid=hd.UID(),
        series_number=300,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=not empty_frames,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)
