"""The recorded slices as the page holds them: refusals, and the encoding by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.command import InputError
from evaluation.page.viewer import (
    WINDOWS,
    Recording,
    count_few_pixels,
    describe_recording,
    encode_slice,
    find_liver_box,
    read_recording,
)
from evaluation.results import read_results
from tests.evaluation.fake_out import write_out
from tests.evaluation.fake_viewer import SIZE, write_viewer


@pytest.fixture
def recorded_out(tmp_path: Path) -> Path:
    """A folder OUT with viewer.npz, without joint model."""
    out = write_out(tmp_path / "out")
    write_viewer(out)
    return out


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    out = write_out(tmp_path / "joint")
    write_viewer(out, joint=True)
    recording = read_recording(read_results(out))
    assert recording is not None
    return recording


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 1}, "expected schema 2, got 1"),
        ({"seed": 1}, "of another run than summary.json"),
        ({"size": 32}, "has shape"),
        ({"cases": []}, "has shape"),
    ],
)
def test_a_recording_that_does_not_fit_is_refused(
    recorded_out: Path, change: dict[str, Any], words: str
) -> None:
    write_viewer(recorded_out, **change)
    with pytest.raises(InputError, match=words):
        read_recording(read_results(recorded_out))


def test_a_recording_with_other_arrays_is_refused(recorded_out: Path) -> None:
    path, results = recorded_out / "viewer.npz", read_results(recorded_out)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file}
    for change, words in (
        ({"hu": arrays["hu"] + np.int16(2000)}, "hu must hold whole numbers from -1024 to 3071"),
        ({"label": arrays["label"] + 1}, "label must hold whole numbers from 0 to 2"),
        ({"sequential": arrays["sequential"].astype(float)}, "sequential must hold whole numbers"),
        ({"about": np.array("{")}, "damaged"),
    ):
        np.savez(path, **{**arrays, **change})
        with pytest.raises(InputError, match=words):
            read_recording(results)
    np.savez(path, **{name: array for name, array in arrays.items() if name != "label"})
    with pytest.raises(InputError, match="it lacks 'label'"):
        read_recording(results)
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match="damaged"):
        read_recording(results)


def test_a_slice_as_bytes() -> None:
    hu = np.array([[-1024, -1, 0, 3071]], np.int16)
    values = ([0, 1, 2, 2], [0, 2, 1, 2], [1, 0, 2, 2], [2, 1, 0, 2])
    labels = [np.array([value], np.uint8) for value in values]
    # HU + 1024 = 0, 1023, 1024, 4095;
    # labels = reference + 4 * one-step + 16 * sequential + 64 * joint, at most 170.
    expected = [[[0, 0, 144], [3, 255, 73], [4, 0, 38], [15, 255, 170]]]
    np.testing.assert_array_equal(encode_slice(hu, labels), expected)
    with pytest.raises(ValueError, match="at most 4 maps of two bits each, got 5"):
        encode_slice(hu, [*labels, labels[0]])


def test_the_liver_window_shows_tumors_as_grey() -> None:
    """Portal venous, the liver has 100 to 120 HU, its tumors 40 to 60: all grey."""
    centre, width = WINDOWS["liver"]
    grey = [(hu - centre + width / 2) / width for hu in (40, 60, 100, 120)]
    assert 0.15 < min(grey) < max(grey) < 0.85
    assert grey[2] - grey[1] > 0.25
    assert (WINDOWS["abdomen"], WINDOWS["wide"]) == ((40, 400), (0, 2000))


def test_the_viewer_says_which_phase_of_which_model_it_shows(recording: Recording) -> None:
    assert describe_recording(recording) == (
        "2 of 4 test cases, with every slice that was scored. Of each model the phase with the "
        "better tumors on validation data: one-step after cross-entropy, sequential after "
        "balanced, joint after balanced; threshold rule roc."
    )


def test_an_error_is_ten_pixels_at_128_and_the_same_area_elsewhere() -> None:
    assert [count_few_pixels(size) for size in (16, 64, 128, 256, 512)] == [1, 2, 10, 40, 160]


def test_the_enlarged_part_holds_the_liver(recording: Recording) -> None:
    row, column, side = find_liver_box(recording, 0, 5)
    marked = recording.arrays["label"][:5] > 0
    assert marked.sum() == marked[:, row : row + side, column : column + side].sum()
    assert side < SIZE
    recording.arrays["label"][:5] = 0
    assert find_liver_box(recording, 0, 5) == [0, 0, SIZE]
