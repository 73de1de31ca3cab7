"""Which prediction belongs to which reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.command import InputError
from evaluation.pairs import paired, volumes_by_name


def folders(tmp_path: Path, references: str, predictions: str) -> tuple[Path, Path]:
    """Make two folders with empty files of these names, separated by spaces."""
    for kind, names in (("ref", references), ("pred", predictions)):
        (tmp_path / kind).mkdir()
        for name in names.split():
            (tmp_path / kind / name).touch()
    return tmp_path / "ref", tmp_path / "pred"


@pytest.mark.parametrize(
    ("references", "predictions", "expected", "surplus"),
    [
        (
            "a.nii b.nii.gz",
            "b.nii a.nii.gz",
            {"a": ("a.nii", "a.nii.gz"), "b": ("b.nii.gz", "b.nii")},
            [],
        ),
        ("a.nii", "a.nii b.nii notes.txt .a.nii", {"a": ("a.nii", "a.nii")}, ["b.nii"]),
        # what evaluation.predict writes for volume-4 of LiTS
        (
            "segmentation-4.nii",
            "volume-4.nii.gz",
            {"segmentation-4": ("segmentation-4.nii", "volume-4.nii.gz")},
            [],
        ),
        (
            "segmentation-4.nii",
            "segmentation-4.nii",
            {"segmentation-4": ("segmentation-4.nii",) * 2},
            [],
        ),
        # LiTS' folder itself as reference: the CT are no references
        (
            "segmentation-4.nii volume-4.nii volume-5.nii",
            "volume-4.nii volume-5.nii",
            {"segmentation-4": ("segmentation-4.nii", "volume-4.nii")},
            ["volume-5.nii"],
        ),
        # other names are as they are
        ("volume-4.nii", "volume-4.nii", {"volume-4": ("volume-4.nii",) * 2}, []),
        (
            "segmentation-4.nii volume-x.nii",
            "volume-4.nii volume-x.nii",
            {
                "segmentation-4": ("segmentation-4.nii", "volume-4.nii"),
                "volume-x": ("volume-x.nii",) * 2,
            },
            [],
        ),
    ],
)
def test_pairs_by_name(
    tmp_path: Path,
    references: str,
    predictions: str,
    expected: dict[str, tuple[str, str]],
    surplus: list[str],
) -> None:
    pairs, left = paired(*folders(tmp_path, references, predictions))
    assert {name: (given.name, found.name) for name, (given, found) in pairs.items()} == expected
    assert all(
        given.parent.name == "ref" and found.parent.name == "pred"
        for given, found in pairs.values()
    )
    assert [path.name for path in left] == surplus


@pytest.mark.parametrize(
    ("references", "predictions", "rule"),
    [
        ("", "a.nii", "ref: no .nii or .nii.gz file in it"),
        ("a.nii", "", "pred: no .nii or .nii.gz file in it"),
        ("a.nii", "a.nii a.nii.gz", r"pred/a\.nii\.gz: a\.nii is there too; keep one of them"),
        ("a.nii a.nii.gz", "a.nii", r"ref/a\.nii\.gz: a\.nii is there too"),
        (
            "segmentation-4.nii",
            "segmentation-4.nii volume-4.nii.gz",
            r"pred/volume-4\.nii\.gz: segmentation-4\.nii is there too, both for segmentation-4\.nii; keep one",
        ),
        ("a.nii b.nii", "a.nii", r"pred: no prediction b\.nii\[\.gz\] for .*ref/b\.nii$"),
        (
            "a.nii b.nii c.nii",
            "c.nii",
            r"no prediction a\.nii\[\.gz\] for .*ref/a\.nii \(nor for 1 more\)$",
        ),
        ("case-0.nii", "case-O.nii", r"for .*ref/case-0\.nii; case-O\.nii without a reference$"),
        (
            "a.nii",
            " ".join(f"{n}.nii" for n in range(7)),
            r"; 0\.nii, 1\.nii, 2\.nii, 3\.nii, 4\.nii, \.\.\. without",
        ),
        (
            "segmentation-4.nii",
            "volume-5.nii",
            r"no prediction segmentation-4\.nii\[\.gz\] or volume-4\.nii\[\.gz\] for .*; volume-5\.nii without",
        ),
        ("volume-4.nii", "segmentation-4.nii", r"no prediction volume-4\.nii\[\.gz\] for"),
    ],
)
def test_what_does_not_pair(tmp_path: Path, references: str, predictions: str, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        paired(*folders(tmp_path, references, predictions))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        volumes_by_name(tmp_path / "nowhere")
