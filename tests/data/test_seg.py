"""DICOM SEG: written, and read back by highdicom; what others write is read, or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from data.dicom import Series, open_series
from data.seg import Segments, write_seg
from tests.data import dicom_writers
from tests.data.conftest import refuses
from tests.data.dicom_writers import Change, write_series

SHAPE = (5, 6, 7)
COS, SIN = np.cos(0.3), np.sin(0.3)
DIRECTIONS = {
    "as usual": (1, 0, 0, 0, 1, 0),
    "head first": (1, 0, 0, 0, -1, 0),  # the normal points to the feet
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (COS, SIN, 0, -SIN * COS, COS * COS, SIN),
}


def turned(directions: tuple[float, ...]) -> Change:
    """Slices 2.5 mm apart along the normal of other directions, in the 16 letters of DICOM."""

    def change(index: int, dataset: pydicom.Dataset) -> None:
        normal = np.cross(directions[:3], directions[3:])
        dataset.ImageOrientationPatient = [f"{part:.12f}" for part in directions]
        dataset.ImagePositionPatient = [
            f"{mm:.9f}" for mm in np.array([-10.0, 20.0, 30.0]) + normal * 2.5 * index
        ]

    return change


def random_labels(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3, shape).astype(np.uint8)


def make_series(
    folder: Path, change: Change | None = None, shape: tuple[int, int, int] = SHAPE
) -> Series:
    write_series(folder, np.zeros(shape, np.int16), change=change)
    return open_series(folder)


def by_highdicom(path: Path, series: Series) -> np.ndarray:
    """Both segments as highdicom finds them for the slices: (slices, rows, columns, 2)."""
    seg = hd.seg.segread(path)
    return seg.get_pixels_by_source_instance(
        [header.sop_uid for header in series.headers],
        segment_numbers=[1, 2],
        assert_missing_frames_are_empty=True,
    )


def both(path: Path, series: Series) -> tuple[np.ndarray, np.ndarray]:
    segments = Segments(path)
    return segments.mask(["liver"], series), segments.mask(["tumor"], series)


@pytest.mark.parametrize("way", DIRECTIONS)
def test_what_is_written_is_read_back_voxel_by_voxel(tmp_path: Path, way: str) -> None:
    series = make_series(tmp_path / "ct é", turned(DIRECTIONS[way]))
    labels = random_labels(series.shape)
    write_seg(tmp_path / "out" / "seg é.dcm", labels, series, "prog", "1")
    native = series.to_native(labels)  # (columns, rows, slices)
    masks = by_highdicom(tmp_path / "out" / "seg é.dcm", series)
    np.testing.assert_array_equal(masks[..., 0].T, native >= 1)
    np.testing.assert_array_equal(masks[..., 1].T, native == 2)
    liver, tumor = both(tmp_path / "out" / "seg é.dcm", series)
    np.testing.assert_array_equal(liver, native >= 1)
    np.testing.assert_array_equal(tumor, native == 2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["seg é.dcm"]


def one_voxel(*slices: int, label: int = 1) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[list(slices), 2, 3] = label
    return labels


SPARSE = {
    "one slice": one_voxel(2),
    "one slice, all of it tumor": one_voxel(2, label=2),
    "every other slice": one_voxel(1, 3),
    "first and last": one_voxel(0, 4),
    "tumor in one slice only": np.maximum(one_voxel(0, 1, 2, 3), one_voxel(2, label=2)),
}


@pytest.mark.parametrize("thickness", [2.5, 5.0, None])
@pytest.mark.parametrize("scene", SPARSE)
def test_frames_of_some_slices_only(tmp_path: Path, scene: str, thickness: float | None) -> None:
    """Empty slices have no frame; the thickness of overlapping slices is not their distance."""

    def change(_: int, dataset: pydicom.Dataset) -> None:
        dataset.SliceThickness = thickness

    series, labels = make_series(tmp_path / "ct", change), SPARSE[scene]
    write_seg(tmp_path / "seg.dcm", labels, series, "prog", "1")
    n_frames = int(pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames)
    assert n_frames == sum(np.any(mask, axis=(1, 2)).sum() for mask in (labels >= 1, labels == 2))
    for with_gap in (True, False):
        if not with_gap:
            without_gap(tmp_path / "seg.dcm")
        liver, tumor = both(tmp_path / "seg.dcm", series)
        np.testing.assert_array_equal(liver.T, labels >= 1)
        np.testing.assert_array_equal(tumor.T, labels == 2)


def without_gap(path: Path) -> None:
    """Some writers leave the distance between slices out."""
    dataset = pydicom.dcmread(path)
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    dataset.save_as(path)


def test_liver_only_has_no_segment_for_tumors(tmp_path: Path) -> None:
    series, labels = make_series(tmp_path / "ct"), one_voxel(1, 2)
    write_seg(tmp_path / "seg.dcm", labels, series, "prog", "1", liver_only=True)
    assert Segments(tmp_path / "seg.dcm").names == {1: "liver"}
    np.testing.assert_array_equal(
        Segments(tmp_path / "seg.dcm").mask(["liver"], series).T, labels == 1
    )


def test_what_the_header_says(tmp_path: Path) -> None:
    series = make_series(tmp_path / "ct")
    write_seg(tmp_path / "seg.dcm", one_voxel(1, label=2), series, "prog", "1.2")
    header, source = (
        pydicom.dcmread(tmp_path / "seg.dcm"),
        pydicom.dcmread(tmp_path / "ct" / "slice-001.dcm"),
    )
    segments = Segments(tmp_path / "seg.dcm")
    assert (segments.names, segments.series_uid) == ({1: "liver", 2: "tumor"}, series.uid)
    assert header.ContentQualification == "RESEARCH"
    assert {segment.SegmentAlgorithmType for segment in header.SegmentSequence} == {"AUTOMATIC"}
    assert {segment.SegmentAlgorithmName for segment in header.SegmentSequence} == {"prog"}
    for name in ("StudyInstanceUID", "PatientID", "PatientName", "FrameOfReferenceUID"):
        assert header[name].value == source[name].value


@pytest.mark.parametrize("name", ["Phantom", "Müller^Jörg", ""])
@pytest.mark.parametrize("letters", ["ISO_IR 100", "ISO_IR 192", ["", "ISO 2022 IR 100"]])
def test_patient_names(tmp_path: Path, name: str, letters: str | list[str]) -> None:
    def change(_: int, dataset: pydicom.Dataset) -> None:
        dataset.SpecificCharacterSet, dataset.PatientName = letters, name

    series = make_series(tmp_path / "ct", change)
    write_seg(tmp_path / "seg.dcm", one_voxel(1), series, "prog", "1")
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").PatientName) == name


def without(*names: str) -> Change:
    def change(_: int, dataset: pydicom.Dataset) -> None:
        for name in names:
            delattr(dataset, name)

    return change


def test_an_anonymised_series_may_lack_what_may_be_empty(tmp_path: Path) -> None:
    lacking = [
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyID",
        "AccessionNumber",
    ]
    series = make_series(
        tmp_path / "ct", without(*lacking, "StudyDate", "StudyTime", "SliceThickness")
    )
    write_seg(tmp_path / "seg.dcm", one_voxel(1), series, "prog", "1")
    np.testing.assert_array_equal(both(tmp_path / "seg.dcm", series)[0].T, one_voxel(1) == 1)


def test_what_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    series = make_series(tmp_path / "ct")
    with refuses(r"seg\.dcm: no liver was found, and a DICOM SEG cannot be empty"):
        write_seg(tmp_path / "out" / "seg.dcm", one_voxel(1) * 0, series, "prog", "1")
    series = make_series(tmp_path / "bare", without("FrameOfReferenceUID"))
    with refuses(r"seg\.dcm: the series lacks what a DICOM SEG needs .*Frame Of Reference"):
        write_seg(tmp_path / "out" / "seg.dcm", one_voxel(1), series, "prog", "1")
    assert not (tmp_path / "out").exists()


def make_seg(
    folder: Path, shape: tuple[int, int, int] = SHAPE, change: Change | None = None
) -> np.ndarray:
    """Write CT and SEG of random voxels by highdicom alone into `folder`; return the mask."""
    write_series(folder / "ct", np.zeros(shape, np.int16), change=change, uid="1.2.3.4")
    mask = np.random.default_rng(2).random(shape) > 0.5
    dicom_writers.write_seg(folder / "seg.dcm", folder / "ct", {"Liver": mask}, empty_frames=True)
    return mask


def cropped(folder: Path, n_slices: int, change: Change | None = None) -> Series:
    """The same series (by its UID) with other slices or geometry than the SEG was drawn on."""
    shutil.rmtree(folder / "ct")
    write_series(
        folder / "ct", np.zeros((n_slices, *SHAPE[1:]), np.int16), change=change, uid="1.2.3.4"
    )
    return open_series(folder / "ct")


def test_more_slices_than_frames_and_the_other_way_round(tmp_path: Path) -> None:
    mask = make_seg(tmp_path)
    longer = Segments(tmp_path / "seg.dcm").mask(["liver"], cropped(tmp_path, 8))
    np.testing.assert_array_equal(longer.T[:5], mask)
    assert longer.shape == (7, 6, 8)
    assert not longer.T[5:].any()
    with refuses(r"seg\.dcm: marks \d+ voxels outside of .*ct"):
        Segments(tmp_path / "seg.dcm").mask(["liver"], cropped(tmp_path, 3))


def test_empty_frames_outside_of_the_series_do_not_matter(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), uid="1.2.3.4")
    dicom_writers.write_seg(
        tmp_path / "seg.dcm", tmp_path / "ct", {"Liver": one_voxel(1) > 0}, empty_frames=True
    )
    mask = Segments(tmp_path / "seg.dcm").mask(["liver"], cropped(tmp_path, 3))
    np.testing.assert_array_equal(mask.T, one_voxel(1)[:3] > 0)


def moved(
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    spacing: float = 0.8,
    gap: float = 2.5,
    up: float = 0,
):
    def change(index: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient, dataset.PixelSpacing = list(direction), [spacing, 0.7]
        dataset.ImagePositionPatient = [-100.0, -120.0, 50.0 + up + gap * index]

    return change


def tipped(index: int, dataset: pydicom.Dataset) -> None:
    """Turned by 5 degrees about the head's axis."""
    cos, sin = round(float(np.cos(np.radians(5))), 9), round(float(np.sin(np.radians(5))), 9)
    moved((cos, sin, 0, -sin, cos, 0))(index, dataset)


GRIDS = {
    "half a slice up": moved(up=1.2),
    "turned": tipped,
    "other pixels": moved(spacing=0.9),
    "twice the pixels": moved(spacing=1.6),
    "half the pixels": moved(spacing=0.4),
    "twice the gap": moved(gap=5.0),
    "some other gap": moved(gap=3.0),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_another_grid_is_refused(tmp_path: Path, grid: str) -> None:
    make_seg(tmp_path)
    series = cropped(tmp_path, 5, GRIDS[grid])
    with refuses(r"seg\.dcm: not on the grid of .*ct"):
        Segments(tmp_path / "seg.dcm").mask(["liver"], series)


def test_positions_of_few_digits_are_taken(tmp_path: Path) -> None:
    mask = make_seg(tmp_path)
    series = cropped(tmp_path, 5, moved(up=0.04))
    np.testing.assert_array_equal(Segments(tmp_path / "seg.dcm").mask(["liver"], series).T, mask)


def test_another_series_is_refused(tmp_path: Path) -> None:
    make_seg(tmp_path)
    namesake = make_series(tmp_path / "other")
    with refuses(rf"seg\.dcm: references series 1\.2\.3\.4, the CT in .*other is {namesake.uid}"):
        Segments(tmp_path / "seg.dcm").mask(["liver"], namesake)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    make_seg(tmp_path)
    series, whole = open_series(tmp_path / "ct"), (tmp_path / "seg.dcm").read_bytes()
    for size in [*range(0, len(whole), 97), len(whole) - 2]:  # the last byte is padding
        (tmp_path / "cut.dcm").write_bytes(whole[:size])
        with refuses(r"cut\.dcm: ") as caught:
            Segments(tmp_path / "cut.dcm").mask(["liver"], series)
        assert "\n" not in str(caught.value)


def no_segments(dataset: pydicom.Dataset) -> None:
    del dataset.SegmentSequence


def two_series(dataset: pydicom.Dataset) -> None:
    dataset.ReferencedSeriesSequence.append(dataset.ReferencedSeriesSequence[0])


def fewer_positions(dataset: pydicom.Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


DAMAGE: dict[str, tuple[Callable[[pydicom.Dataset], None], str]] = {
    "no segments": (no_segments, "a damaged DICOM SEG"),
    "two series": (two_series, "must reference one series, it references 2"),
    "a frame without position": (fewer_positions, "its frames cannot be read"),
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_damaged_files_are_refused(tmp_path: Path, fault: str) -> None:
    damage, message = DAMAGE[fault]
    make_seg(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    damage(dataset)
    dataset.save_as(tmp_path / "seg.dcm")
    with refuses(rf"seg\.dcm: {message}"):
        Segments(tmp_path / "seg.dcm").mask(["liver"], open_series(tmp_path / "ct"))


def test_a_ct_slice_is_no_seg(tmp_path: Path) -> None:
    make_series(tmp_path / "ct")
    with refuses(r"slice-001\.dcm: not a DICOM SEG, its modality is CT"):
        Segments(tmp_path / "ct" / "slice-001.dcm")
