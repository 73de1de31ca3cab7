"""The spacing of a header against its affine and against another volume's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.command import InputError
from data.volumes import Volume, check_same_spacing, check_spacing, open_volume
from tests.data.test_volumes import ct, save, with_field


def with_pixdim(path: Path, axis: int, mm: float) -> Volume:
    """A volume of 0.5 x 0.5 x 2 mm by its affine, with another spacing of one axis in the header's pixdim."""
    return open_volume(with_field(save(path, ct()), "pixdim", axis, mm))


def test_pixdim_and_affine_must_agree(tmp_path: Path) -> None:
    check_spacing(open_volume(save(tmp_path / "good.nii", ct())))
    check_spacing(with_pixdim(tmp_path / "rounded.nii", 1, 0.504))
    with pytest.raises(InputError) as caught:
        check_spacing(with_pixdim(tmp_path / "false.nii", 1, 5.0))
    assert str(caught.value) == (
        f"{tmp_path / 'false.nii'}: its spacing must be that of its affine, pixdim says 2 x 0.5 x 5 mm and the affine "
        "2 x 0.5 x 0.5 mm (slices x rows x columns)"
    )


def test_of_an_oblique_affine_the_columns_count(tmp_path: Path) -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.diag([0.5, 0.75, 2.0])
    affine = np.eye(4)
    affine[:3, :3] = turn
    check_spacing(open_volume(save(tmp_path / "oblique.nii", ct(), affine)))


def test_a_pair_must_have_one_spacing(tmp_path: Path) -> None:
    image = open_volume(save(tmp_path / "image.nii", ct()))
    check_same_spacing(image, with_pixdim(tmp_path / "rounded.nii", 3, 2.01))
    with pytest.raises(
        InputError,
        match=r"label\.nii: its spacing of 2\.5 x 0\.5 x 0\.5 mm is not that of image\.nii",
    ):
        check_same_spacing(image, with_pixdim(tmp_path / "label.nii", 3, 2.5))
