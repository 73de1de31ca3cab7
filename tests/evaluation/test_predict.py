"""predict on volumes of any orientation and size, with hand-made networks whose answer is known."""

from __future__ import annotations

import itertools
import shutil
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from data.command import InputError
from data.dicom import open_series
from data.files import read_json, write_json
from data.seg import Segments
from data.volumes import read_image
from evaluation.segmenter import Segmenter, load_segmenter
from tests.conftest import Command
from tests.data.dicom_writers import SPACING, write_series
from tests.evaluation.conftest import Predict
from tests.evaluation.known_networks import (
    SIZE,
    make_one_step_run,
    make_run,
    make_scene,
    read,
    save,
)


def test_the_phase_with_the_better_validation_tumors_is_taken(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "window")
    for network in ("liver", "tumor"):
        folder = run / "sequential" / network
        shutil.copytree(folder / "ce", folder / "balanced")
    path = run / "sequential" / "tumor" / "balanced" / "record.json"
    record = read_json(path)
    for change, expected in (
        ({}, "ce"),  # a tie
        ({"validation": {"tumor": {"iou_at_roc": 0.6}}}, "balanced"),
        ({"validation": {"tumor": {"iou_at_roc": 0.6}}, "status": "collapsed"}, "ce"),
    ):
        write_json(path, {**record, **change})
        assert load_segmenter(run, "sequential").phase == expected
    write_json(path, record)
    assert load_segmenter(run, "sequential", "balanced").phase == "balanced"


@pytest.fixture(scope="module", params=["window", "liver_median"])
def segmenter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Segmenter:
    run = make_run(tmp_path_factory.mktemp(request.param), request.param)
    return load_segmenter(run, "sequential", "ce")


ALL_AXES = [
    "".join(codes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]


@pytest.mark.parametrize("axes", ALL_AXES)
def test_every_orientation_gives_the_same_physical_labels(
    segmenter: Segmenter, tmp_path: Path, axes: str
) -> None:
    hu, labels = make_scene(6)
    volume = read_image(save(tmp_path / "ct.nii", hu, axes))
    expected = read(save(tmp_path / "expected.nii", labels, axes))
    np.testing.assert_array_equal(volume.to_native(segmenter.segment(volume)), expected)


def test_command_writes_labels_on_the_grid_of_the_input(
    known_run: Path, tmp_path: Path, run_module: Command
) -> None:
    hu, labels = make_scene(5)
    source = save(tmp_path / "a scan é.nii.gz", hu, "LSA")
    out = tmp_path / "new folder" / "labels.nii.gz"
    flags = ("--run", known_run, "--input", source, "--output", out)
    done = run_module("evaluation.predict", *flags)
    assert done.returncode == 0, done.stderr
    written, given = nib.load(out), nib.load(source)
    assert written.shape == given.shape
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, given.affine)
    assert written.header.get_zooms() == given.header.get_zooms()
    assert int((read(out) == 2).sum()) == int((labels == 2).sum())
    ml = (labels > 0).sum() * 0.7 * 0.8 * 2.5 / 1000
    assert f"liver {ml:.1f} ml" in done.stdout


def test_larger_slices_are_shrunk_for_the_network_and_labelled_in_full(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    hu, labels = make_scene(6, 4 * SIZE, 4 * SIZE)
    volume = read_image(save(tmp_path / "ct.nii", hu))
    prediction, reference = volume.to_native(segmenter.segment(volume)) > 0, labels.T > 0
    assert prediction.shape == (4 * SIZE, 4 * SIZE, 6)
    assert (prediction & reference).sum() / (prediction | reference).sum() > 0.8


def test_memory_does_not_grow_with_the_slices_beyond_volume_and_labels(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    side, peaks = 8 * SIZE, []
    for slices in (40, 160):
        volume = read_image(save(tmp_path / "ct.nii", make_scene(slices, side, side)[0]))
        tracemalloc.start()
        segmenter.segment(volume)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Labels are one byte a voxel, the network's liver masks 1/64 of that; nothing else may grow.
    growth = 120 * side * side
    assert peaks[1] - peaks[0] < 1.25 * growth


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"--input": "missing.nii.gz"}, "missing.nii.gz: no such file or folder"),
        ({"--run": "."}, "not a run directory"),
        ({"--run": "nowhere"}, "not a run directory"),
        ({"--output": "labels.png"}, "must end in .nii or .nii.gz"),
        ({"--output": "ct.nii"}, "is the input"),
        ({"--table": "."}, "must be a file name"),
        ({"--postprocess": "crf"}, "unknown post-processing crf; there are inside_liver, "),
        ({"--model": "one_step"}, "no finished system of"),
        ({"--model": "one_step", "--loss": "ce"}, "; finished there: sequential"),
        ({"--loss": "balanced"}, "sequential has not finished it; finished: ce"),
        ({"--threshold-rule": "argmax"}, "sequential has no three classes to choose from"),
        ({"--treshold-rule": "roc"}, "did you mean --threshold-rule?"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    known_run: Path, tmp_path: Path, run_module: Command, flags: dict[str, str], words: str
) -> None:
    save(tmp_path / "ct.nii", make_scene(5)[0])
    paths = {"--run": str(known_run), "--input": "ct.nii", "--output": "labels.nii.gz"} | flags
    arguments = [
        part
        for flag, value in paths.items()
        for part in (
            flag,
            tmp_path / value if flag in ("--input", "--output", "--run", "--table") else value,
        )
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run_module("evaluation.predict", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_collapsed_model_is_not_used(known_run: Path, tmp_path: Path, predict: Predict) -> None:
    shutil.copytree(known_run, tmp_path / "run")
    record = tmp_path / "run" / "sequential" / "tumor" / "ce" / "record.json"
    write_json(record, {**read_json(record), "status": "collapsed"})
    source = save(tmp_path / "ct.nii", make_scene(5)[0])
    with pytest.raises(InputError, match="tumor collapsed"):
        predict(tmp_path / "run", source, tmp_path / "out.nii")
    assert not (tmp_path / "out.nii").exists()


def write_dicom_and_nifti(folder: Path) -> tuple[Path, Path]:
    """Write one volume both ways: DICOM's x and y are minus NIfTI's."""
    hu = make_scene(6)[0]
    write_series(folder / "Ärzte & CT 1", hu)
    slice_mm, row_mm, column_mm = SPACING
    affine = np.diag([-column_mm, -row_mm, slice_mm, 1.0])
    affine[:3, 3] = [100.0, 120.0, 50.0]
    nib.save(nib.Nifti1Image(hu.T, affine), folder / "as nifti é.nii.gz")
    return folder / "Ärzte & CT 1", folder / "as nifti é.nii.gz"


def test_dicom_folder_zip_and_nifti_of_a_volume_give_the_same_masks(
    known_run: Path, tmp_path: Path, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, nifti = write_dicom_and_nifti(tmp_path)
    archive = shutil.make_archive(str(tmp_path / "zipped ü"), "zip", folder.parent, folder.name)
    expected = make_scene(6)[1].T
    for source in (folder, nifti, Path(archive)):
        output = tmp_path / "out ö" / f"{source.stem}.nii.gz"
        predict(known_run, source, output)
        assert output.name in capsys.readouterr().out
        np.testing.assert_array_equal(read(output), expected)
        np.testing.assert_allclose(nib.load(output).affine, nib.load(nifti).affine, atol=1e-5)


def test_dicom_seg_holds_the_same_voxels(known_run: Path, tmp_path: Path, predict: Predict) -> None:
    folder, nifti = write_dicom_and_nifti(tmp_path)
    predict(known_run, folder, tmp_path / "out.nii.gz", "--dicom-seg")
    series, segments = open_series(folder), Segments(tmp_path / "out.dcm")
    labels = read(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(segments.mask(["liver"], series), labels > 0)
    np.testing.assert_array_equal(segments.mask(["tumor"], series), labels == 2)
    with pytest.raises(InputError, match=r"as nifti é\.nii\.gz: --dicom-seg needs a DICOM series"):
        predict(known_run, nifti, tmp_path / "no.nii.gz", "--dicom-seg")
    with pytest.raises(InputError, match=r"lies in .*Ärzte & CT 1, among the slices"):
        predict(known_run, folder, folder / "out.nii.gz", "--dicom-seg")


def test_nothing_found_is_written_as_nifti_but_not_as_seg(
    known_run: Path, tmp_path: Path, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    hu = np.full((4, SIZE, SIZE), -180, np.int16)
    hu[0, 0, 0] = -100
    write_series(tmp_path / "ct", hu)
    (tmp_path / "out.dcm").write_bytes(b"of an earlier run")
    flags = ("--dicom-seg", "--keep-largest", "--table", tmp_path / "table")
    predict(known_run, tmp_path / "ct", tmp_path / "out.nii.gz", *flags)
    assert not read(tmp_path / "out.nii.gz").any()
    assert not (tmp_path / "out.dcm").exists()
    note = "no liver was found, and a DICOM SEG cannot be empty"
    assert f"note: {tmp_path / 'ct'}: {note}" in capsys.readouterr().err
    (row,) = read_json(tmp_path / "table.json")["cases"]
    assert (row["liver_ml"], row["tumor_count"], row["tumor_burden_percent"]) == (0.0, 0, None)


def test_probability_maps_and_table(known_run: Path, tmp_path: Path, predict: Predict) -> None:
    hu, labels = make_scene(5)
    source = save(tmp_path / "ct.nii", hu, "LSA")
    expected = read(save(tmp_path / "expected.nii", labels, "LSA"))
    flags = ("--probabilities", "--table", tmp_path / "new" / "t.1")
    predict(known_run, source, tmp_path / "seg.nii", *flags)
    # Logits by hand (`make_run`): 100 w - 20 of w = (HU + 100) / 500, 0 below;
    # -10 (HU - 100) / 40 - 12.5 inside M.
    logits = {"liver": {0: -20.0, 1: 20.0, 2: 4.0}, "tumor": {1: -12.5, 2: 7.5}}
    for target, by_label in logits.items():
        image = nib.load(tmp_path / f"seg_{target}_probability.nii.gz")
        assert image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(image.affine, nib.load(source).affine)
        for value, logit in by_label.items():
            probabilities = read(image.get_filename())[expected == value]
            np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logit)), 1e-4)
    assert not read(tmp_path / "seg_tumor_probability.nii.gz")[expected == 0].any()
    (row,) = read_json(tmp_path / "new" / "t.1.json")["cases"]
    # Three slices of 8 x 8 voxels of 0.7 x 0.8 x 2.5 mm3, with 2 x 3 of tumor in one: 192 and 6
    # voxels of 0.0014 ml.
    assert row["liver_ml"] == pytest.approx(0.2688, abs=1e-6)
    assert row["tumor_volumes_ml"] == pytest.approx([0.0084], abs=1e-6)
    assert (row["tumor_count"], row["tumor_burden_percent"]) == (1, 3.125)
    assert (row["case"], row["spacing_mm"], row["model"]) == ("ct", [2.5, 0.8, 0.7], "sequential")
    line = (tmp_path / "new" / "t.1.csv").read_text().splitlines()[1]
    assert line.startswith("ct,0.2688,1,0.0084,0.0084,0.0084,")


def test_liver_only_needs_no_tumor_network(
    known_run: Path, tmp_path: Path, predict: Predict
) -> None:
    hu, labels = make_scene(5)
    source = save(tmp_path / "ct.nii", hu)
    run = shutil.copytree(known_run, tmp_path / "run")
    record = run / "sequential" / "tumor" / "ce" / "record.json"
    flags = ("--liver-only", "--table", tmp_path / "t")
    write_json(record, {**read_json(record), "status": "collapsed"})
    predict(run, source, tmp_path / "1.nii", *flags)
    shutil.rmtree(run / "sequential" / "tumor")
    predict(run, source, tmp_path / "2.nii", *flags, "--probabilities")
    for name in ("1.nii", "2.nii"):
        np.testing.assert_array_equal(read(tmp_path / name), labels.T > 0)
    assert (tmp_path / "2_liver_probability.nii.gz").exists()
    assert not (tmp_path / "2_tumor_probability.nii.gz").exists()
    (row,) = read_json(tmp_path / "t.json")["cases"]
    assert row["liver_ml"] == pytest.approx(0.2688, abs=1e-6)
    assert row["tumor_count"] is row["tumor_ml"] is row["tumor_volumes_ml"] is None


@pytest.mark.parametrize("rule", ["roc", "argmax"])
def test_liver_only_of_the_one_step_model(tmp_path: Path, predict: Predict, rule: str) -> None:
    """At HU 20 liver or tumor is above its threshold, but other is the most probable class."""
    run = make_one_step_run(tmp_path / "run")
    hu, labels = make_scene(5)
    source, out = save(tmp_path / "ct.nii", hu), tmp_path / "out.nii"
    predict(run, source, out, "--model", "one_step", "--threshold-rule", rule, "--liver-only")
    expected = labels.T == 1 if rule == "argmax" else labels.T > 0
    np.testing.assert_array_equal(read(out), expected)


def test_keep_largest_drops_the_smaller_piece_and_its_tumor(
    known_run: Path, tmp_path: Path, predict: Predict
) -> None:
    hu, labels = make_scene(6)
    hu[1:3, 13:15, 13:15] = 100
    hu[1, 13, 13] = 20
    source = save(tmp_path / "ct.nii", hu)
    predict(known_run, source, tmp_path / "all.nii")
    assert read(tmp_path / "all.nii").T[1, 13, 13] == 2
    for flags in (("--keep-largest",), ("--postprocess", "inside_liver,largest_liver")):
        predict(known_run, source, tmp_path / "largest.nii", *flags)
        np.testing.assert_array_equal(read(tmp_path / "largest.nii"), labels.T)


def test_the_contour_sees_the_ct(known_run: Path, tmp_path: Path, predict: Predict) -> None:
    """The contour takes the liver's sharp corners away and nothing that lies deep inside it."""
    source = save(tmp_path / "ct.nii", make_scene(9)[0])
    for name, flags in (("raw.nii", ()), ("moved.nii", ("--postprocess", "active_contour"))):
        predict(known_run, source, tmp_path / name, *flags)
    raw, moved = read(tmp_path / "raw.nii") > 0, read(tmp_path / "moved.nii") > 0
    assert (raw != moved).any()
    assert moved[binary_erosion(raw, iterations=2)].all()
