"""Files written whole or not at all, and errors that name the user's file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data.files import read_json, replace_file, write_json, write_text


def test_what_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"x": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert read_json(path) == {"x": 1}
    assert os.listdir(path.parent) == ["a.json"]


def test_a_folder_in_its_place_is_found_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "a.json", "x")
    assert caught.value.filename == str(tmp_path / "a.json")
    assert os.listdir(tmp_path) == ["a.json"]


def test_an_error_names_the_file_and_not_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError) as caught, replace_file(path) as temporary:
        temporary.read_text()
    assert caught.value.filename == str(path)

    def refused(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(source), None, str(target))

    monkeypatch.setattr("data.files.os.replace", refused)
    with pytest.raises(PermissionError) as denied:
        write_text(path, "x")
    assert (denied.value.filename, denied.value.errno) == (str(path), 13)
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError, match="other") as caught, replace_file(path):
        raise OSError(5, "other", "other.nii")
    assert caught.value.filename == "other.nii"
