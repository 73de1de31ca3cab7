"""predict on volumes of any orientation and size, with hand-made networks whose answer is known."""

from __future__ import annotations

import itertools
import shutil
import tracemalloc
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from data.files import read_json, write_json
from data.volumes import read_image
from evaluation.predict import choose_system, segment
from evaluation.systems import System, load_system
from tests.conftest import Command

SIZE = 16


def threshold_network(scale: float, offset: float) -> keras.Model:
    """A network whose logit is scale * input + offset at every pixel."""
    inputs = keras.layers.Input((SIZE, SIZE, 1), name="slice")
    logits = keras.layers.Conv2D(1, 1, name="logits")(inputs)
    model = keras.Model(inputs, keras.layers.Activation("sigmoid", name="probability")(logits))
    model.get_layer("logits").set_weights([np.full((1, 1, 1, 1), scale), np.array([offset])])
    return model


def make_run(path: Path, scaling: str) -> Path:
    """Make a run whose L answers HU > 0 and whose T answers HU < 50 (of a liver with median 100), inside M."""
    write_json(path / "run.json", {"schema": 1, "size": SIZE, "split_sha256": "", "synthetic": True})
    # L sees (HU + 100) / 500: HU 0 is 0.2. T sees HU / 200 (50 is 0.25), or (HU - 100) / 40 (50 is -1.25).
    networks = {
        "liver": (threshold_network(100, -20), {"window_hu": [-100, 400]}),
        "tumor": (
            threshold_network(-100, 25) if scaling == "window" else threshold_network(-10, -12.5),
            {"window_hu": [0, 200], "scaling": scaling, "mask_s1": 0.5},
        ),
    }
    for stage, (model, inputs) in networks.items():
        thresholds = {stage: {"0.5": 0.5, "roc": 0.5, "iou": 0.5}}
        record = {"status": "ok", "why": "", "thresholds": thresholds, **inputs}
        record["validation"] = {stage: {"iou_at_roc": 0.5}}
        (path / stage / "ce").mkdir(parents=True)
        model.save(path / stage / "ce" / "best.keras")
        write_json(path / stage / "ce" / "record.json", record)
    return path


def test_the_phase_with_the_better_validation_tumors_is_taken(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", "window")
    for stage in ("liver", "tumor"):
        shutil.copytree(path / stage / "ce", path / stage / "balanced")
    record_path = path / "tumor" / "balanced" / "record.json"
    record = read_json(record_path)
    for change, expected in (
        ({}, "ce"),  # a tie
        ({"validation": {"tumor": {"iou_at_roc": 0.6}}}, "balanced"),
        ({"validation": {"tumor": {"iou_at_roc": 0.6}}, "status": "collapsed"}, "ce"),
    ):
        write_json(record_path, {**record, **change})
        assert choose_system(path, "sequential", None).loss == expected
    write_json(record_path, record)
    assert choose_system(path, "sequential", "balanced").loss == "balanced"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), "liver_median")


@pytest.fixture(scope="module", params=["window", "liver_median"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> System:
    return load_system(make_run(tmp_path_factory.mktemp(request.param), request.param), "sequential", "ce")


def scene(slices: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and expected labels (z, y, x): liver of 100 HU with a tumor of 20 HU, in blocks, nothing around."""
    hu = np.full((slices, rows, columns), -200, np.int16)
    label = np.zeros(hu.shape, np.uint8)
    liver = np.s_[1 : slices - 1, rows // 4 : rows // 2 + 4, columns // 4 : columns // 2 + 4]
    tumor = np.s_[2, rows // 4 + 1 : rows // 4 + 3, columns // 4 + 1 : columns // 4 + 4]
    hu[liver], label[liver] = 100, 1
    hu[tumor], label[tumor] = 20, 2
    return hu, label


def save(path: Path, hu: np.ndarray, axes: str, spacing: tuple[float, float, float] = (0.7, 0.8, 2.5)) -> None:
    """Write (z, y, x) data, x to the right, y to the front, z to the head, in another order of the axes."""
    image = nib.Nifti1Image(hu.T, np.diag([*spacing, 1.0]))
    turned = image.as_reoriented(
        orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(axes))
    )
    nib.save(turned, path)


ALL_AXES = [
    "".join(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]


@pytest.mark.parametrize("axes", ALL_AXES)
def test_every_orientation_gives_the_same_physical_labels(system: System, tmp_path: Path, axes: str) -> None:
    hu, label = scene(6, SIZE, SIZE)
    save(tmp_path / "ct.nii", hu, axes)
    volume = read_image(tmp_path / "ct.nii")
    found = volume.to_native(segment(system, volume, SIZE))
    save(tmp_path / "expected.nii", label, axes)
    np.testing.assert_array_equal(found, np.asarray(nib.load(tmp_path / "expected.nii").dataobj))


def test_command_writes_labels_on_the_grid_of_the_input(run: Path, tmp_path: Path, run_module: Command) -> None:
    hu, label = scene(5, SIZE, SIZE)
    save(tmp_path / "a scan é.nii.gz", hu, "LSA")
    out = tmp_path / "new folder" / "labels.nii.gz"
    done = run_module("evaluation.predict", "--run", run, "--input", tmp_path / "a scan é.nii.gz", "--output", out)
    assert done.returncode == 0, done.stderr
    written, given = nib.load(out), nib.load(tmp_path / "a scan é.nii.gz")
    assert written.shape == given.shape
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, given.affine)
    assert written.header.get_zooms() == given.header.get_zooms()
    assert int((np.asarray(written.dataobj) == 2).sum()) == int((label == 2).sum())
    ml = (label > 0).sum() * 0.7 * 0.8 * 2.5 / 1000
    assert f"liver {ml:.1f} ml" in done.stdout


def test_larger_slices_are_shrunk_for_the_network_and_labelled_in_full(system: System, tmp_path: Path) -> None:
    hu, label = scene(6, 4 * SIZE, 4 * SIZE)
    save(tmp_path / "ct.nii", hu, "RAS")
    volume = read_image(tmp_path / "ct.nii")
    found = volume.to_native(segment(system, volume, SIZE))
    expected = label.T
    liver = np.logical_and(found > 0, expected > 0).sum() / np.logical_or(found > 0, expected > 0).sum()
    assert found.shape == (4 * SIZE, 4 * SIZE, 6)
    assert liver > 0.8


def test_memory_does_not_grow_with_the_slices_beyond_volume_and_labels(system: System, tmp_path: Path) -> None:
    side, peaks = 8 * SIZE, []
    for slices in (40, 160):
        save(tmp_path / "ct.nii", scene(slices, side, side)[0], "RAS")
        volume = read_image(tmp_path / "ct.nii")
        tracemalloc.start()
        segment(system, volume, SIZE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Labels are one byte a voxel, and the network's liver masks 1/64 of that; nothing else may grow.
    growth = 120 * side * side
    assert peaks[1] - peaks[0] < 1.25 * growth


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"--input": "missing.nii.gz"}, "missing.nii.gz"),
        ({"--run": "."}, "not a run directory"),
        ({"--output": "labels.png"}, "must end in .nii or .nii.gz"),
        ({"--output": "ct.nii"}, "is the input"),
        ({"--model": "one_step"}, "phase ce of one_step is not finished"),
        ({"--loss": "balanced"}, "phase balanced of liver is not finished"),
        ({"--threshold-rule": "argmax"}, "only the one_step model"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    run: Path, tmp_path: Path, run_module: Command, flags: dict[str, str], words: str
) -> None:
    save(tmp_path / "ct.nii", scene(5, SIZE, SIZE)[0], "RAS")
    given = {"--input": "ct.nii", "--output": "labels.nii.gz"} | flags
    paths = {
        key: str(tmp_path / value) if key in ("--input", "--output", "--run") else value for key, value in given.items()
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments = {"--run": str(run)} | paths
    done = run_module("evaluation.predict", *[part for pair in arguments.items() for part in pair])
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_collapsed_model_is_not_used(run: Path, tmp_path: Path, run_module: Command) -> None:
    record = (run / "tumor" / "ce" / "record.json").read_text()
    save(tmp_path / "ct.nii", scene(5, SIZE, SIZE)[0], "RAS")
    try:
        (run / "tumor" / "ce" / "record.json").write_text(record.replace('"ok"', '"collapsed"'))
        done = run_module(
            "evaluation.predict", "--run", run, "--input", tmp_path / "ct.nii", "--output", tmp_path / "out.nii"
        )
    finally:
        (run / "tumor" / "ce" / "record.json").write_text(record)
    assert done.returncode == 2
    assert "tumor collapsed" in done.stderr
    assert not (tmp_path / "out.nii").exists()
