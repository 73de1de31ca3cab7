"""Volumes: orientation against a hand-made array, scaling, every refusal, writing."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data.command import InputError
from data.volumes import (
    Volume,
    check_label,
    check_pair,
    check_same_spacing,
    check_spacing,
    open_volume,
    read_image,
    write_labels,
)
from tests.data.conftest import refuses

CODES = [
    codes for pick in itertools.product("LR", "PA", "SI") for codes in itertools.permutations(pick)
]
RAS_AXIS = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}
SPACING_LPS = {0: 0.5, 1: 0.75, 2: 2.0}  # mm along left-right, front-back, feet-head


def oriented(canonical: np.ndarray, codes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Store a canonical (feet->head, front->back, right->left) array with axes `codes`.

    By hand: world axis 0 (left-right) is canonical axis 2, 1 is 1, 2 is 0; canonical: S, P, L.
    """
    canonical_axis = {0: 2, 1: 1, 2: 0}
    array = canonical.transpose([canonical_axis[RAS_AXIS[code][0]] for code in codes])
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        world, sign = RAS_AXIS[code]
        affine[world, axis] = sign * SPACING_LPS[world]
        if code not in "LPS":
            array = np.flip(array, axis)
    return array, affine


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(
        nib.Nifti1Image(array, np.diag([-0.5, 0.5, 2.0, 1.0]) if affine is None else affine), path
    )
    return path


def ct(shape: tuple[int, int, int] = (4, 5, 3)) -> np.ndarray:
    array = np.full(shape, -1000, dtype=np.int16)
    array[1:3, 1:4] = 60
    return array


def read_label(path: Path) -> Volume:
    check_label(volume := open_volume(path))
    return volume


def test_there_are_48_orientations() -> None:
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("codes", CODES, ids="".join)
def test_every_orientation_gives_the_canonical_array_and_back(
    tmp_path: Path, codes: tuple[str, ...]
) -> None:
    canonical = np.random.default_rng(0).integers(-1000, 1000, (3, 4, 5), dtype=np.int16)
    array, affine = oriented(canonical, codes)
    volume = read_image(save(tmp_path / "volume-0.nii.gz", array, affine))
    assert volume.orientation == "".join(codes)
    assert (volume.n_slices, volume.rows, volume.columns) == (3, 4, 5)
    assert volume.spacing_mm == (2.0, 0.75, 0.5)
    np.testing.assert_array_equal(volume.slices(0, 3), canonical)
    assert volume.slices(1, 3).dtype == np.float32
    np.testing.assert_array_equal(volume.slices(1, 2), canonical[1:2])
    np.testing.assert_array_equal(volume.to_native(canonical), array)


@pytest.mark.parametrize("codes", [("L", "A", "S"), ("I", "R", "P")], ids="".join)
def test_written_labels_lie_on_the_grid_of_the_volume(
    tmp_path: Path, codes: tuple[str, ...]
) -> None:
    labels = np.random.default_rng(1).integers(0, 3, (3, 4, 5))
    array, affine = oriented(labels.astype(np.uint8), codes)
    affine[:3, 3] = [10.5, -20, 30]
    image = nib.Nifti1Image(np.where(array > 0, 50, -1000).astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=4)
    nib.save(image, tmp_path / "volume-0.nii.gz")
    like = read_image(tmp_path / "volume-0.nii.gz")
    write_labels(tmp_path / "out" / "labels.nii.gz", labels, like)
    written = nib.load(tmp_path / "out" / "labels.nii.gz")
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), array)
    np.testing.assert_array_equal(written.affine, image.affine)
    assert written.header.get_zooms() == image.header.get_zooms()
    assert written.header.get_xyzt_units()[0] == "mm"
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (1, 4)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels.nii.gz"]
    check_pair(like, read_label(tmp_path / "out" / "labels.nii.gz"))


def test_write_labels_refuses_another_shape_or_value(tmp_path: Path) -> None:
    like = read_image(save(tmp_path / "volume-0.nii.gz", ct()))
    with pytest.raises(ValueError, match=r"shape \(3, 5, 4\), got \(3, 4, 5\)"):
        write_labels(tmp_path / "x.nii", np.zeros((3, 4, 5), dtype=int), like)
    with pytest.raises(ValueError, match=r"0\.\.255"):
        write_labels(tmp_path / "x.nii", np.full((3, 5, 4), 256), like)
    assert not (tmp_path / "x.nii").exists()


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(
        np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([-1.0, -1.0, 1.0, 1.0])
    )
    image.header.set_slope_inter(2.5, -1024)
    nib.save(image, tmp_path / "volume-0.nii")
    raw = (tmp_path / "volume-0.nii").read_bytes()[352:]
    expected = np.frombuffer(raw, "<i2").reshape((2, 3, 4), order="F") * 2.5 - 1024
    volume = open_volume(tmp_path / "volume-0.nii")
    np.testing.assert_allclose(volume.slices(0, 4), expected.transpose(2, 1, 0), rtol=1e-6)


def test_big_endian_and_nifti2_are_read(tmp_path: Path) -> None:
    array = ct()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for name, image in (
        ("big", nib.Nifti1Image(array.astype(">i2"), affine, nib.Nifti1Header(endianness=">"))),
        ("two", nib.Nifti2Image(array, affine)),
    ):
        nib.save(image, tmp_path / f"{name}.nii")
        np.testing.assert_array_equal(
            read_image(tmp_path / f"{name}.nii").slices(0, 3), array.transpose(2, 1, 0)
        )


def with_field(path: Path, field: str, index: int | None, value: float | bytes) -> Path:
    """Change one header field in the file's bytes, past nibabel's own repairs."""
    data = bytearray(path.read_bytes())
    header = np.frombuffer(data, dtype=nib.Nifti1Header.template_dtype, count=1)
    if index is None:
        header[field][0] = value
    else:
        header[field][0][index] = value
    path.write_bytes(data)
    return path


def _nan(path: Path, value: float) -> None:
    array = ct().astype(np.float32)
    array[0, 0, 0] = value
    save(path, array)


def _rgb(path: Path) -> None:
    save(path, np.zeros((4, 5, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def _truncate(path: Path, keep: int) -> None:
    save(path, ct((20, 20, 9)))
    path.write_bytes(path.read_bytes()[:keep])


def _truncated_gzip(path: Path) -> None:
    save(
        path.with_name("whole.nii"),
        np.random.default_rng(0).integers(-999, 999, (30, 30, 9), dtype=np.int16),
    )
    path.with_name("volume-0.nii.gz").write_bytes(
        gzip.compress(path.with_name("whole.nii").read_bytes())[:-4000]
    )


def _affine(path: Path, value: float) -> None:
    save(path, ct(), np.diag([-1.0, 1.0, 2.0, 1.0]))
    with_field(path, "srow_x", 0, value)


IMAGE_FAULTS = {
    "missing": (lambda path: None, "no such file"),
    "text": (lambda path: path.write_text("hello " * 100), "NIfTI"),
    "empty file": (lambda path: path.write_bytes(b""), "NIfTI"),
    "wrong magic": (lambda path: with_field(save(path, ct()), "magic", None, b"xxx"), "magic"),
    "truncated": (lambda path: _truncate(path, 1000), "truncated"),
    "truncated header": (lambda path: _truncate(path, 200), "NIfTI"),
    "4-D": (lambda path: save(path, np.zeros((4, 5, 3, 2), np.int16)), "3 axes, this one has 4"),
    "4-D of one": (lambda path: save(path, ct()[..., None]), "3 axes, this one has 4"),
    "2-D": (lambda path: save(path, ct()[..., 0]), "3 axes, this one has 2"),
    "RGB": (_rgb, "RGB"),
    "complex": (lambda path: save(path, ct().astype(np.complex64)), "complex"),
    "unknown dtype": (
        lambda path: with_field(save(path, ct()), "datatype", None, 999),
        "voxel type",
    ),
    "empty axis": (lambda path: with_field(save(path, ct()), "dim", 2, 0), "empty"),
    "affine NaN": (lambda path: _affine(path, np.nan), "affine must be finite"),
    "affine singular": (lambda path: _affine(path, 0), "singular"),
    "zero spacing": (lambda path: with_field(save(path, ct()), "pixdim", 1, 0), "spacing"),
    "negative spacing": (lambda path: with_field(save(path, ct()), "pixdim", 3, -2), "spacing"),
    "infinite spacing": (lambda path: with_field(save(path, ct()), "pixdim", 2, np.inf), "spacing"),
    "NaN": (lambda path: _nan(path, np.nan), "NaN"),
    "infinity": (lambda path: _nan(path, -np.inf), "infinity"),
    "beyond float32": (lambda path: save(path, ct().astype(float) * 1e300), "infinity"),
    "0..1": (lambda path: save(path, (ct() > 0).astype(np.float32) / 2), "0..1"),
    "0..255": (lambda path: save(path, (ct() > 0).astype(np.uint8) * 200), "0..255"),
    "no intercept": (
        lambda path: save(path, (ct() - ct().min()).astype(np.uint16) + 300),
        "no value below 0",
    ),
    "standardised": (lambda path: save(path, (ct() / 500).astype(np.float32)), "standardised"),
    "no tissue": (lambda path: save(path, np.full((4, 5, 3), -200, np.int16)), "no tissue"),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_refused_images(tmp_path: Path, fault: str) -> None:
    make, rule = IMAGE_FAULTS[fault]
    path = tmp_path / "volume-0.nii"
    make(path)
    with pytest.raises(InputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert rule in message
    assert message.startswith(str(path))


def test_a_file_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = save(tmp_path / "volume-0.nii", ct())
    monkeypatch.setattr("data.volumes.ImageOpener", denied)  # root may read everything
    with refuses(r"volume-0\.nii: may not be read, permission denied"):
        read_image(path)


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    _truncated_gzip(tmp_path / "volume-0.nii")
    with refuses(r"volume-0\.nii\.gz: the voxels cannot be read"):
        read_image(tmp_path / "volume-0.nii.gz")


def test_a_gzip_whose_checksum_does_not_match_is_refused(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(-999, 999, (30, 20, 9), dtype=np.int16)
    path = save(tmp_path / "volume-0.nii.gz", voxels)
    np.testing.assert_array_equal(read_image(path).to_native(read_image(path).slices(0, 9)), voxels)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of the CRC-32: the voxels themselves are whole
    path.write_bytes(content)
    with refuses(r"volume-0\.nii\.gz: the voxels cannot be read.*CRC"):
        read_image(path)


def test_a_gzip_name_without_gzip_content_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "v.nii", ct()).rename(tmp_path / "v.nii.gz")
    with refuses(r"v\.nii\.gz: not a NIfTI"):
        read_image(tmp_path / "v.nii.gz")


def test_allow_non_hu_takes_a_picture_but_no_nan(tmp_path: Path) -> None:
    picture = save(tmp_path / "a.nii", (ct() > 0).astype(np.uint8) * 200)
    assert read_image(picture, allow_non_hu=True).value_range == (0, 200)
    _nan(tmp_path / "b.nii", np.nan)
    with refuses("NaN"):
        read_image(tmp_path / "b.nii", allow_non_hu=True)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (3, "holds 3"),
        (-1, "holds -1"),
        (0.5, "holds 0.5"),
        (np.nan, "holds nan"),
        (np.inf, "holds inf"),
        (-np.inf, "holds -inf"),
    ],
)
def test_refused_labels(tmp_path: Path, value: float, rule: str) -> None:
    array = (ct() > 0).astype(np.float32)
    array[0, 0, 0] = value
    with refuses(rf"segmentation-0\.nii: .*{rule}"):
        read_label(save(tmp_path / "segmentation-0.nii", array))


def test_a_label_without_liver_is_refused_and_tumor_counts_as_liver(tmp_path: Path) -> None:
    empty = np.zeros((4, 5, 3), np.uint8)
    with refuses("no liver"):
        read_label(save(tmp_path / "segmentation-0.nii", empty))
    empty[0, 0, 0] = 2
    assert read_label(save(tmp_path / "segmentation-0.nii", empty)).value_range == (0, 2)


def test_pairs_must_share_shape_and_affine(tmp_path: Path) -> None:
    image = open_volume(save(tmp_path / "volume-0.nii", ct()))
    longer = open_volume(save(tmp_path / "segmentation-0.nii", ct((4, 5, 4))))
    with refuses(r"segmentation-0\.nii: its shape"):
        check_pair(image, longer)
    affine = image.affine.copy()
    affine[0, 3] += 0.12  # of 0.5 mm
    check_pair(image, open_volume(save(tmp_path / "segmentation-1.nii", ct(), affine)))
    affine[0, 3] += 0.01
    shifted = open_volume(save(tmp_path / "segmentation-2.nii", ct(), affine))
    with refuses(r"segmentation-2\.nii: its affine .* 0\.13 mm apart \(--ignore-label-affine"):
        check_pair(image, shifted)
    with refuses(r"\(--other takes it voxel for voxel\)"):
        check_pair(image, shifted, "--other")


@pytest.mark.parametrize("origin", [0.0, -950.0])
def test_a_label_shifted_by_a_slice_is_refused_wherever_the_origin_is(
    tmp_path: Path, origin: float
) -> None:
    affine = np.diag([-0.7, 0.7, 0.7, 1.0])
    affine[:3, 3] = [200, -200, origin]
    image = open_volume(save(tmp_path / "volume-0.nii", ct(), affine))
    affine[2, 3] += 0.7
    with refuses(r"its affine .* 0\.7 mm apart"):
        check_pair(image, open_volume(save(tmp_path / "segmentation-0.nii", ct(), affine)))
    affine[2, 3] -= 0.7
    affine[2, 2] *= 1.2  # the last of three slices lies 0.28 mm further
    with refuses(r"its affine .* 0\.28 mm apart"):
        check_pair(image, open_volume(save(tmp_path / "segmentation-1.nii", ct(), affine)))


def test_opening_reads_no_voxel(tmp_path: Path) -> None:
    _truncate(tmp_path / "volume-0.nii", 1000)
    assert open_volume(tmp_path / "volume-0.nii").n_slices == 9


def test_lengths_in_metres_are_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([0.001, 0.001, 0.002, 1.0]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "ct.nii")
    with refuses(r"ct\.nii: lengths must be in mm, its header says meter"):
        open_volume(tmp_path / "ct.nii")


def with_pixdim(path: Path, axis: int, mm: float) -> Volume:
    """A volume of 0.5 x 0.5 x 2 mm by its affine, with another pixdim of one axis."""
    return open_volume(with_field(save(path, ct()), "pixdim", axis, mm))


def test_pixdim_and_affine_must_agree(tmp_path: Path) -> None:
    check_spacing(open_volume(save(tmp_path / "good.nii", ct())))
    check_spacing(with_pixdim(tmp_path / "rounded.nii", 1, 0.504))
    with pytest.raises(InputError) as caught:
        check_spacing(with_pixdim(tmp_path / "false.nii", 1, 5.0))
    assert str(caught.value) == (
        f"{tmp_path / 'false.nii'}: its spacing must be that of its affine, pixdim says "
        "2 x 0.5 x 5 mm and the affine 2 x 0.5 x 0.5 mm (slices x rows x columns)"
    )


def test_of_an_oblique_affine_the_columns_count(tmp_path: Path) -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.diag([0.5, 0.75, 2.0])
    affine = np.eye(4)
    affine[:3, :3] = turn
    check_spacing(open_volume(save(tmp_path / "oblique.nii", ct(), affine)))


def test_a_pair_must_have_one_spacing(tmp_path: Path) -> None:
    image = open_volume(save(tmp_path / "image.nii", ct()))
    check_same_spacing(image, with_pixdim(tmp_path / "rounded.nii", 3, 2.01))
    with refuses(r"label\.nii: its spacing of 2\.5 x 0\.5 x 0\.5 mm is not that of image\.nii"):
        check_same_spacing(image, with_pixdim(tmp_path / "label.nii", 3, 2.5))
