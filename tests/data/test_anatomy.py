"""Mirrored volumes are found by their spine, liver and lungs, on the phantom in all eight ways."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data.anatomy import FLIPS, find_flips, seems_turned
from data.phantom.__main__ import main as make_phantom
from data.prepare import main as prepare
from data.store import Store

AXES = ("slices", "rows", "columns")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("anatomy")
    make_phantom(["--out", str(folder / "phantom"), "--cases", "3", "--size", "64"])
    prepare(["--source", str(folder / "phantom"), "--store", str(folder / "store"), "--size", "64"])
    return Store.open(folder / "store")


@pytest.mark.parametrize(
    "flipped", [f for n in range(4) for f in itertools.combinations(range(3), n)]
)
def test_what_is_mirrored_is_named(phantom: Store, flipped: tuple[int, ...]) -> None:
    for case in phantom.cases:
        hu, labels = (np.flip(array(case), flipped) for array in (phantom.image, phantom.label))
        axes, is_clear = find_flips(hu, labels)
        assert set(axes) == {AXES[axis] for axis in flipped}
        assert is_clear


def test_a_quarter_turn_is_named(phantom: Store) -> None:
    for case in phantom.cases:
        hu, labels = np.asarray(phantom.image(case)), np.asarray(phantom.label(case))
        assert [
            seems_turned(np.rot90(hu, k, (1, 2)), np.rot90(labels, k, (1, 2))) for k in range(4)
        ] == [False, True, False, True]


def test_a_volume_that_tells_nothing_raises_no_doubt() -> None:
    labels = np.zeros((4, 32, 32), np.uint8)
    labels[1:3, 10:20, 4:10] = 1
    assert find_flips(np.full(labels.shape, -1000, np.int16), labels) == ([], False)
    assert set(FLIPS) == set(AXES)


def test_mirrored_files_are_set_right_on_request(phantom: Store, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number, case in enumerate(phantom.cases):
        for kind, array in (("volume", phantom.image(case)), ("segmentation", phantom.label(case))):
            turned = np.asarray(array)[::-1, ::-1]  # upside down and prone
            image = nib.Nifti1Image(turned.T, np.diag([-1.5, -1.5, 3.0, 1.0]))
            nib.save(image, tmp_path / "source" / f"{kind}-{number}.nii")
    flags = [
        "--source",
        str(tmp_path / "source"),
        "--store",
        str(tmp_path / "store"),
        "--size",
        "64",
    ]
    prepare([*flags, "--orient", "anatomy"])
    store = Store.open(tmp_path / "store")
    for number, case in enumerate(phantom.cases):
        np.testing.assert_array_equal(store.image(f"volume-{number}"), phantom.image(case))
        np.testing.assert_array_equal(store.label(f"volume-{number}"), phantom.label(case))
        assert store.cases[f"volume-{number}"]["notes"][0].startswith(
            "mirrored along rows, slices: "
        )


def test_a_volume_under_the_false_identity_is_presented_as_it_lies(
    phantom: Store, tmp_path: Path
) -> None:
    """As in LiTS 28 to 47: the header says nothing, spine and liver decide. 31 has 91 slices."""
    (tmp_path / "source").mkdir()
    sources = {}
    for number, case in zip((31, 60, 61), phantom.cases, strict=True):
        rows = np.linspace(0, phantom.cases[case]["n_slices"] - 1, 91).round().astype(int)
        sources[number] = (
            np.asarray(phantom.image(case))[rows],
            np.asarray(phantom.label(case))[rows],
        )
        affine = np.eye(4) if number == 31 else np.diag([-1.5, -1.5, 3.0, 1.0])
        for kind, array in zip(("volume", "segmentation"), sources[number], strict=True):
            nib.save(nib.Nifti1Image(array.T, affine), tmp_path / "source" / f"{kind}-{number}.nii")
    prepare(
        ["--source", str(tmp_path / "source"), "--store", str(tmp_path / "store"), "--size", "64"]
    )
    store = Store.open(tmp_path / "store")
    for number, (hu, labels) in sources.items():
        np.testing.assert_array_equal(store.image(f"volume-{number}"), hu)
        np.testing.assert_array_equal(store.label(f"volume-{number}"), labels)
    notes = store.cases["volume-31"]["notes"]
    assert notes[0].startswith("false spacing of 1 mm replaced")
    assert notes[1].startswith("mirrored along columns, rows: ")
