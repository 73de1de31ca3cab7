"""DICOM series: the same voxels and geometry as NIfTI of the same CT, in any zip; every refusal."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine
from pydicom.uid import RLELossless

from data.dicom import open_series
from data.volumes import open_image, read_image
from tests.data.conftest import refuses
from tests.data.dicom_writers import SPACING, write_series

SHAPE = (5, 6, 7)
HU = np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.int16)


def as_nifti(path: Path, hu: np.ndarray) -> Path:
    """By hand: DICOM's x and y are minus NIfTI's; the first pixel is at (-100, -120, 50) there."""
    slice_mm, row_mm, column_mm = SPACING
    affine = np.diag([-column_mm, -row_mm, slice_mm, 1.0])
    affine[:3, 3] = [100.0, 120.0, 50.0]
    nib.save(nib.Nifti1Image(hu.T, affine), path)
    return path


def test_a_series_is_the_same_volume_as_its_nifti(tmp_path: Path) -> None:
    uid = write_series(tmp_path / "Müller, CT 1", HU)
    series, nifti = (
        open_series(tmp_path / "Müller, CT 1"),
        open_image(as_nifti(tmp_path / "ct.nii.gz", HU)),
    )
    np.testing.assert_allclose(series.affine, nifti.affine, atol=1e-6)  # NIfTI keeps float32
    assert series.spacing_mm == pytest.approx(SPACING)
    assert (series.shape, series.native_shape, series.orientation) == (
        SHAPE,
        SHAPE[::-1],
        nifti.orientation,
    )
    assert series.uid == uid
    np.testing.assert_array_equal(series.slices(0, 5), HU)
    np.testing.assert_array_equal(nifti.slices(0, 5), HU)
    np.testing.assert_array_equal(series.to_native(HU), HU.T)


def test_affine_and_voxels_are_those_of_highdicom(tmp_path: Path) -> None:
    """Its axes are (slice, row, column), its millimetres DICOM's."""

    def turn(index: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient = [0, 0.6, 0.8, 0, -0.8, 0.6]
        dataset.ImagePositionPatient = [1.0 + 2.5 * index, -7.0, 5.0]

    write_series(tmp_path / "ct", HU, change=turn)
    series = open_series(tmp_path / "ct")
    datasets = [pydicom.dcmread(path) for path in (tmp_path / "ct").iterdir()]
    volume = hd.get_volume_from_series(datasets, apply_modality_transform=True)
    shape = np.array(series.native_shape)
    corners = np.array([*np.ndindex(2, 2, 2)]) * (shape - 1)
    ours = apply_affine(series.affine, corners) * [-1, -1, 1]
    stacked = volume.map_indices_to_reference(corners[:, ::-1])
    flipped = np.abs(ours - stacked).max() > 1e-6  # highdicom stacks from the other end
    if flipped:
        volume = volume.flip_spatial(0)
        stacked = volume.map_indices_to_reference(corners[:, ::-1])
    np.testing.assert_allclose(ours, stacked, atol=1e-6)
    np.testing.assert_array_equal(
        series.to_native(series.slices(0, series.n_slices)).T, volume.array
    )


def test_slope_and_fractions_of_hu(tmp_path: Path) -> None:
    def half(_: int, dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope = 0.5

    write_series(tmp_path / "ct", HU, change=half)
    expected = (HU.astype(float) + 1024) * 0.5 - 1024
    np.testing.assert_array_equal(open_series(tmp_path / "ct").slices(0, 5), expected)


def test_a_series_without_rescale_is_taken_as_it_is_and_checked_as_hu(tmp_path: Path) -> None:
    def without(_: int, dataset: pydicom.Dataset) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept

    write_series(tmp_path / "ct", HU, change=without)
    with refuses("no value below 0"):
        read_image(tmp_path / "ct")


def test_run_length_encoding_is_read(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", HU, change=lambda _, dataset: dataset.compress(RLELossless))
    np.testing.assert_array_equal(open_series(tmp_path / "ct").slices(0, 5), HU)


def test_other_files_and_one_folder_around_do_not_matter(tmp_path: Path) -> None:
    write_series(tmp_path / "ct" / "inner", HU, name="image_{}")
    for name in ("DICOMDIR", ".DS_Store", "notes.txt"):
        (tmp_path / "ct" / "inner" / name).write_bytes(b"x")
    np.testing.assert_array_equal(open_series(tmp_path / "ct").slices(0, 5), HU)


@pytest.mark.parametrize("nested", [False, True])
def test_a_zip_is_read_in_place(tmp_path: Path, nested: bool) -> None:
    write_series(tmp_path / "patient" / "ct", HU)
    archive = Path(shutil.make_archive(str(tmp_path / "patient"), "zip", tmp_path / "patient"))
    place = archive
    if nested:
        with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
            outer.write(archive, "all/patient.zip")
        place = tmp_path / "outer.zip" / "all" / "patient.zip" / "ct"
    series = open_series(place)
    np.testing.assert_array_equal(series.slices(0, 5), HU)
    if nested:
        assert str(series.headers[0].path).startswith(
            str(tmp_path / "outer.zip/all/patient.zip/ct/slice-")
        )


@pytest.mark.parametrize("axis", [(0, 1, 0, 1, 0, 0), (0, 0, 1, 1, 0, 0), (-1, 0, 0, 0, 1, 0)])
def test_other_orientations_are_presented_alike(tmp_path: Path, axis: tuple[int, ...]) -> None:
    """The affine and the voxels agree: one bright voxel is found where its header puts it."""

    def turned(index: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient = list(axis)
        normal = np.cross(axis[:3], axis[3:])
        dataset.ImagePositionPatient = [
            float(mm) for mm in np.array([-10.0, 20.0, 30.0]) + normal * 2.5 * index
        ]

    bright = np.full(SHAPE, -1000, np.int16)
    bright[3, 2, 4] = 1000
    write_series(tmp_path / "ct", bright, change=turned)
    series = open_series(tmp_path / "ct")
    row_way, column_way = np.array(axis[:3]), np.array(axis[3:])
    normal = np.cross(row_way, column_way)
    lps = (
        np.array([-10.0, 20.0, 30.0]) + 4 * 0.7 * row_way + 2 * 0.8 * column_way + 3 * 2.5 * normal
    )
    places = np.argwhere(series.to_native(series.slices(0, series.n_slices)) == 1000)
    assert len(places) == 1
    ras = series.affine @ [*places[0], 1]
    np.testing.assert_allclose(ras[:3], lps * [-1, -1, 1], atol=1e-6)


def _set(
    name: str, value: object, only: int | None = None
) -> Callable[[int, pydicom.Dataset], None]:
    def change(index: int, dataset: pydicom.Dataset) -> None:
        if only is None or index == only:
            setattr(dataset, name, value)

    return change


def _tilted(index: int, dataset: pydicom.Dataset) -> None:
    dataset.ImagePositionPatient = [-100.0, -120.0 + 0.5 * index, 50.0 + 2.5 * index]


def _uneven(index: int, dataset: pydicom.Dataset) -> None:
    dataset.ImagePositionPatient = [-100.0, -120.0, 50.0 + 2.5 * index - (0.5 if index == 3 else 0)]


def _without(name: str) -> Callable[[int, pydicom.Dataset], None]:
    return lambda _, dataset: dataset.__delattr__(name)


def _undecodable(_: int, dataset: pydicom.Dataset) -> None:
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless


CHANGES: dict[str, tuple[Callable[[int, pydicom.Dataset], None], str]] = {
    "tilt": (
        _tilted,
        "ct: its slices move sideways by 2 mm over the stack, a gantry tilt of 11.3 degrees",
    ),
    "uneven": (_uneven, "the slices are not evenly spaced"),
    "modality": (_set("Modality", "MR"), r"slice-001\.dcm: its modality is MR, not CT"),
    "two series": (_set("SeriesInstanceUID", "1.2.3", only=2), "ct: 2 series in it"),
    "size": (_set("Rows", 5, only=2), r"slice-003\.dcm: its size is not that of slice-001"),
    "spacing": (
        _set("PixelSpacing", [0.9, 0.9], only=2),
        r"slice-003\.dcm: its pixel spacing is not that of",
    ),
    "zero spacing": (_set("PixelSpacing", [0.0, 0.9]), "pixel spacing must be positive"),
    "orientation": (
        _set("ImageOrientationPatient", [0, 1, 0, 1, 0, 0], only=2),
        "its orientation is not that of",
    ),
    "no unit vectors": (
        _set("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        "unit vectors at a right angle",
    ),
    "no position": (_without("ImagePositionPatient"), "has no ImagePositionPatient"),
    "one rescale": (_without("RescaleSlope"), "has only one of RescaleSlope and RescaleIntercept"),
    "colour": (
        _set("PhotometricInterpretation", "RGB"),
        r"must be grey values \(MONOCHROME2\), they are RGB",
    ),
    "frames": (_set("NumberOfFrames", 3), "holds 3 frames"),
}


@pytest.mark.parametrize("fault", CHANGES)
def test_refusals_name_file_and_rule(tmp_path: Path, fault: str) -> None:
    change, message = CHANGES[fault]
    write_series(tmp_path / "ct", HU, change=change)
    with refuses(message) as caught:
        open_series(tmp_path / "ct")
    assert "\n" not in str(caught.value)


def _missing(folder: Path) -> None:
    (folder / "slice-003.dcm").unlink()


def _duplicate(folder: Path) -> None:
    shutil.copy(folder / "slice-003.dcm", folder / "again.dcm")


def _text(folder: Path) -> None:
    (folder / "slice-003.dcm").write_bytes(b"this is no DICOM file")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _one(folder: Path) -> None:
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()


FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing slice": (
        _missing,
        r"ct: 5 mm from slice-004\.dcm to slice-002\.dcm, elsewhere 2\.5 mm: a slice is missing",
    ),
    "duplicate slice": (_duplicate, r"lies at the same place as .*a duplicate slice"),
    "no DICOM": (_text, r"slice-003\.dcm: not a DICOM file"),
    "empty": (_empty, "ct: no DICOM file in it"),
    "one slice": (_one, "ct: a volume needs at least 2 slices, it holds 1"),
    "no folder": (shutil.rmtree, "ct: no such f"),
}


@pytest.mark.parametrize("fault", FOLDERS)
def test_refusals_of_folders(tmp_path: Path, fault: str) -> None:
    damage, message = FOLDERS[fault]
    write_series(tmp_path / "ct", HU)
    damage(tmp_path / "ct")
    with refuses(message):
        open_series(tmp_path / "ct")


def test_a_file_cut_short_and_a_missing_decoder_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "cut", HU)
    path = tmp_path / "cut" / "slice-002.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    with refuses(r"slice-002\.dcm: its pixels cannot be read; truncated"):
        open_series(tmp_path / "cut").slices(0, 5)
    write_series(tmp_path / "compressed", HU, change=_undecodable)
    with refuses(r"slice-005\.dcm: compressed as .*no decoder for that is installed"):
        open_series(tmp_path / "compressed").slices(0, 5)


def test_a_damaged_zip_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ct.zip").write_bytes(b"PK and nothing else")
    with refuses(r"ct\.zip: not a readable zip file"):
        open_image(tmp_path / "ct.zip")
