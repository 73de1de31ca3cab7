"""predict on volumes of any orientation and size, with hand-made networks whose answer is known."""

from __future__ import annotations

import itertools
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations
from scipy.ndimage import binary_erosion

from data.command import InputError
from data.dicom import open_series
from data.files import read_json, write_json
from data.seg import Segments
from data.volumes import read_image
from evaluation.predict import main
from evaluation.segmenters import choose_system, segment
from evaluation.systems import System, load_system
from tests.conftest import Command
from tests.data.dicom_writers import SPACING, write_series

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
    write_json(
        path / "run.json", {"schema": 1, "size": SIZE, "split_sha256": "", "synthetic": True}
    )
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


Predict = Callable[..., None]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Call the command in this process, which is faster: predict("--run", path, ...)."""

    def call(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["evaluation.predict", *map(str, arguments)])
        main()

    return call


def read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


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
    return load_system(
        make_run(tmp_path_factory.mktemp(request.param), request.param), "sequential", "ce"
    )


def scene(slices: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and expected labels (z, y, x): liver of 100 HU with a tumor of 20 HU, in blocks, nothing around."""
    hu = np.full((slices, rows, columns), -200, np.int16)
    label = np.zeros(hu.shape, np.uint8)
    liver = np.s_[1 : slices - 1, rows // 4 : rows // 2 + 4, columns // 4 : columns // 2 + 4]
    tumor = np.s_[2, rows // 4 + 1 : rows // 4 + 3, columns // 4 + 1 : columns // 4 + 4]
    hu[liver], label[liver] = 100, 1
    hu[tumor], label[tumor] = 20, 2
    return hu, label


def save(
    path: Path, hu: np.ndarray, axes: str, spacing: tuple[float, float, float] = (0.7, 0.8, 2.5)
) -> None:
    """Write (z, y, x) data, x to the right, y to the front, z to the head, in another order of the axes."""
    image = nib.Nifti1Image(hu.T, np.diag([*spacing, 1.0]))
    turned = image.as_reoriented(
        orientations.ornt_transform(
            orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(axes)
        )
    )
    nib.save(turned, path)


ALL_AXES = [
    "".join(codes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]


@pytest.mark.parametrize("axes", ALL_AXES)
def test_every_orientation_gives_the_same_physical_labels(
    system: System, tmp_path: Path, axes: str
) -> None:
    hu, label = scene(6, SIZE, SIZE)
    save(tmp_path / "ct.nii", hu, axes)
    volume = read_image(tmp_path / "ct.nii")
    found = volume.to_native(segment(system, volume, SIZE))
    save(tmp_path / "expected.nii", label, axes)
    np.testing.assert_array_equal(found, np.asarray(nib.load(tmp_path / "expected.nii").dataobj))


def test_command_writes_labels_on_the_grid_of_the_input(
    run: Path, tmp_path: Path, run_module: Command
) -> None:
    hu, label = scene(5, SIZE, SIZE)
    save(tmp_path / "a scan é.nii.gz", hu, "LSA")
    out = tmp_path / "new folder" / "labels.nii.gz"
    done = run_module(
        "evaluation.predict", "--run", run, "--input", tmp_path / "a scan é.nii.gz", "--output", out
    )
    assert done.returncode == 0, done.stderr
    written, given = nib.load(out), nib.load(tmp_path / "a scan é.nii.gz")
    assert written.shape == given.shape
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, given.affine)
    assert written.header.get_zooms() == given.header.get_zooms()
    assert int((np.asarray(written.dataobj) == 2).sum()) == int((label == 2).sum())
    ml = (label > 0).sum() * 0.7 * 0.8 * 2.5 / 1000
    assert f"liver {ml:.1f} ml" in done.stdout


def test_larger_slices_are_shrunk_for_the_network_and_labelled_in_full(
    system: System, tmp_path: Path
) -> None:
    hu, label = scene(6, 4 * SIZE, 4 * SIZE)
    save(tmp_path / "ct.nii", hu, "RAS")
    volume = read_image(tmp_path / "ct.nii")
    found = volume.to_native(segment(system, volume, SIZE))
    expected = label.T
    liver = (
        np.logical_and(found > 0, expected > 0).sum() / np.logical_or(found > 0, expected > 0).sum()
    )
    assert found.shape == (4 * SIZE, 4 * SIZE, 6)
    assert liver > 0.8


def test_memory_does_not_grow_with_the_slices_beyond_volume_and_labels(
    system: System, tmp_path: Path
) -> None:
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
        (
            {"--model": "one_step"},
            "no one_step model is finished; take another (--model sequential)",
        ),
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
        key: str(tmp_path / value) if key in ("--input", "--output", "--run") else value
        for key, value in given.items()
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
            "evaluation.predict",
            "--run",
            run,
            "--input",
            tmp_path / "ct.nii",
            "--output",
            tmp_path / "out.nii",
        )
    finally:
        (run / "tumor" / "ce" / "record.json").write_text(record)
    assert done.returncode == 2
    assert "tumor collapsed" in done.stderr
    assert not (tmp_path / "out.nii").exists()


def dicom_and_nifti(folder: Path) -> tuple[Path, Path]:
    """Write one volume both ways: DICOM's x and y are minus NIfTI's."""
    hu = scene(6, SIZE, SIZE)[0]
    write_series(folder / "Ärzte & CT 1", hu)
    slice_mm, row_mm, column_mm = SPACING
    affine = np.diag([-column_mm, -row_mm, slice_mm, 1.0])
    affine[:3, 3] = [100.0, 120.0, 50.0]
    nib.save(nib.Nifti1Image(hu.T, affine), folder / "as nifti é.nii.gz")
    return folder / "Ärzte & CT 1", folder / "as nifti é.nii.gz"


def test_dicom_folder_zip_and_nifti_of_a_volume_give_the_same_masks(
    run: Path, tmp_path: Path, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, nifti = dicom_and_nifti(tmp_path)
    archive = Path(
        shutil.make_archive(str(tmp_path / "zipped ü"), "zip", folder.parent, folder.name)
    )
    outputs = {}
    for source in (folder, nifti, archive):
        outputs[source] = tmp_path / "out ö" / f"{source.stem}.nii.gz"
        predict("--run", run, "--input", source, "--output", outputs[source])
        assert outputs[source].name in capsys.readouterr().out
    expected = scene(6, SIZE, SIZE)[1].T
    for output in outputs.values():
        np.testing.assert_array_equal(read(output), expected)
        np.testing.assert_allclose(nib.load(output).affine, nib.load(nifti).affine, atol=1e-5)


def test_dicom_seg_holds_the_same_voxels(run: Path, tmp_path: Path, predict: Predict) -> None:
    folder, nifti = dicom_and_nifti(tmp_path)
    predict("--run", run, "--input", folder, "--output", tmp_path / "out.nii.gz", "--dicom-seg")
    series, segments = open_series(folder), Segments(tmp_path / "out.dcm")
    np.testing.assert_array_equal(
        segments.mask(["liver"], series), read(tmp_path / "out.nii.gz") > 0
    )
    np.testing.assert_array_equal(
        segments.mask(["tumor"], series), read(tmp_path / "out.nii.gz") == 2
    )
    with pytest.raises(InputError, match=r"as nifti é\.nii\.gz: --dicom-seg needs a DICOM series"):
        predict("--run", run, "--input", nifti, "--output", tmp_path / "no.nii.gz", "--dicom-seg")
    with pytest.raises(InputError, match=r"lies in .*Ärzte & CT 1, among the slices"):
        predict("--run", run, "--input", folder, "--output", folder / "out.nii.gz", "--dicom-seg")


def test_nothing_found_is_written_as_nifti_but_not_as_seg(
    run: Path, tmp_path: Path, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    hu = np.full((4, SIZE, SIZE), -180, np.int16)
    hu[0, 0, 0] = -100
    write_series(tmp_path / "ct", hu)
    (tmp_path / "out.dcm").write_bytes(b"of an earlier run")
    flags = ("--dicom-seg", "--keep-largest", "--table", tmp_path / "table")
    predict("--run", run, "--input", tmp_path / "ct", "--output", tmp_path / "out.nii.gz", *flags)
    assert not read(tmp_path / "out.nii.gz").any()
    assert not (tmp_path / "out.dcm").exists()
    assert "note: " in (said := capsys.readouterr().err)
    assert "no liver was found, and a DICOM SEG cannot be empty" in said
    (row,) = read_json(tmp_path / "table.json")["cases"]
    assert (row["liver_ml"], row["tumor_count"], row["tumor_burden_percent"]) == (0.0, 0, None)


def test_probability_maps_and_table(run: Path, tmp_path: Path, predict: Predict) -> None:
    hu, label = scene(5, SIZE, SIZE)
    save(tmp_path / "ct.nii", hu, "LSA")
    save(tmp_path / "expected.nii", label, "LSA")
    flags = ("--probabilities", "--table", tmp_path / "new" / "t.1")
    predict("--run", run, "--input", tmp_path / "ct.nii", "--output", tmp_path / "seg.nii", *flags)
    expected = read(tmp_path / "expected.nii")
    # Logits by hand (`make_run`): 100 w - 20 of w = (HU + 100) / 500, 0 below; -10 (HU - 100) / 40 - 12.5 inside M.
    logits = {"liver": {0: -20.0, 1: 20.0, 2: 4.0}, "tumor": {1: -12.5, 2: 7.5}}
    for target, by_label in logits.items():
        image = nib.load(tmp_path / f"seg_{target}_probability.nii.gz")
        assert image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(image.affine, nib.load(tmp_path / "ct.nii").affine)
        for value, logit in by_label.items():
            np.testing.assert_allclose(
                read(image.get_filename())[expected == value], 1 / (1 + np.exp(-logit)), 1e-4
            )
    assert not read(tmp_path / "seg_tumor_probability.nii.gz")[expected == 0].any()
    (row,) = read_json(tmp_path / "new" / "t.1.json")["cases"]
    # Three slices of 8 x 8 voxels of 0.7 x 0.8 x 2.5 mm3, with 2 x 3 of tumor in one: 192 and 6 voxels of 0.0014 ml.
    assert row["liver_ml"] == pytest.approx(0.2688, abs=1e-6)
    assert row["tumor_volumes_ml"] == pytest.approx([0.0084], abs=1e-6)
    assert (row["tumor_count"], row["tumor_burden_percent"]) == (1, 3.125)
    assert (row["case"], row["spacing_mm"], row["model"]) == ("ct", [2.5, 0.8, 0.7], "sequential")
    assert (
        (tmp_path / "new" / "t.1.csv")
        .read_text()
        .splitlines()[1]
        .startswith("ct,0.2688,1,0.0084,0.0084,0.0084,")
    )


def test_liver_only_needs_no_tumor_network(run: Path, tmp_path: Path, predict: Predict) -> None:
    save(tmp_path / "ct.nii", scene(5, SIZE, SIZE)[0], "RAS")
    save(tmp_path / "expected.nii", np.minimum(scene(5, SIZE, SIZE)[1], 1), "RAS")
    shutil.copytree(run, tmp_path / "run")
    record = tmp_path / "run" / "tumor" / "ce" / "record.json"
    flags = (
        "--run",
        tmp_path / "run",
        "--input",
        tmp_path / "ct.nii",
        "--liver-only",
        "--table",
        tmp_path / "t",
    )
    write_json(record, {**read_json(record), "status": "collapsed"})
    predict(*flags, "--output", tmp_path / "1.nii")
    shutil.rmtree(tmp_path / "run" / "tumor")
    predict(*flags, "--output", tmp_path / "2.nii", "--probabilities")
    for name in ("1.nii", "2.nii"):
        np.testing.assert_array_equal(read(tmp_path / name), read(tmp_path / "expected.nii"))
    assert (tmp_path / "2_liver_probability.nii.gz").exists()
    assert not (tmp_path / "2_tumor_probability.nii.gz").exists()
    (row,) = read_json(tmp_path / "t.json")["cases"]
    assert row["liver_ml"] == pytest.approx(0.2688, abs=1e-6)
    assert row["tumor_count"] is row["tumor_ml"] is row["tumor_volumes_ml"] is None


@pytest.mark.parametrize("rule", ["roc", "argmax"])
def test_liver_only_of_the_one_step_model(tmp_path: Path, predict: Predict, rule: str) -> None:
    inputs = keras.layers.Input((SIZE, SIZE, 1))
    model = keras.Model(
        inputs, keras.layers.Conv2D(3, 1, activation="softmax", name="classes")(inputs)
    )
    # Of w = (HU + 100) / 500: other 10, liver 100 w - 20, tumor 30 w + 1; at HU 100 (10, 20, 13), at 20 (10, 4, 8.2).
    weights = [np.array([0.0, 100, 30]).reshape(1, 1, 1, 3), np.array([10.0, -20, 1])]
    model.get_layer("classes").set_weights(weights)
    folder = tmp_path / "run" / "one_step" / "ce"
    folder.mkdir(parents=True)
    model.save(folder / "best.keras")
    thresholds = {
        "liver": {"roc": 0.1},
        "tumor": {"roc": 0.1},
    }  # at HU 20 liver or tumor has 0.142, tumor 0.1415
    record = {"status": "ok", "why": "", "window_hu": [-100, 400], "thresholds": thresholds}
    write_json(folder / "record.json", {**record, "validation": {"liver": {"iou_at_roc": 0.5}}})
    write_json(tmp_path / "run" / "run.json", {"size": SIZE, "synthetic": False})
    hu, label = scene(5, SIZE, SIZE)
    save(tmp_path / "ct.nii", hu, "RAS")
    flags = (
        "--run",
        tmp_path / "run",
        "--input",
        tmp_path / "ct.nii",
        "--model",
        "one_step",
        "--threshold-rule",
        rule,
    )
    predict(*flags, "--output", tmp_path / "out.nii", "--liver-only")
    expected = label.T == 1 if rule == "argmax" else label.T > 0
    np.testing.assert_array_equal(read(tmp_path / "out.nii"), expected)


def test_keep_largest_drops_the_smaller_piece_and_its_tumor(
    run: Path, tmp_path: Path, predict: Predict
) -> None:
    hu, label = scene(6, SIZE, SIZE)
    hu[1:3, 13:15, 13:15] = 100
    hu[1, 13, 13] = 20
    save(tmp_path / "ct.nii", hu, "RAS")
    same = ("--postprocess", "inside_liver,largest_liver")
    for name, flags in (("all.nii", ()), ("largest.nii", ("--keep-largest",)), ("same.nii", same)):
        predict("--run", run, "--input", tmp_path / "ct.nii", "--output", tmp_path / name, *flags)
    for name in ("largest.nii", "same.nii"):
        np.testing.assert_array_equal(read(tmp_path / name), label.T)
    assert read(tmp_path / "all.nii").T[1, 13, 13] == 2


def test_the_contour_sees_the_ct(run: Path, tmp_path: Path, predict: Predict) -> None:
    """On this volume the contour takes the liver's sharp corners away and nothing that lies deep inside it."""
    save(tmp_path / "ct.nii", scene(9, SIZE, SIZE)[0], "RAS")
    for name, flags in (("raw.nii", ()), ("moved.nii", ("--postprocess", "active_contour"))):
        predict("--run", run, "--input", tmp_path / "ct.nii", "--output", tmp_path / name, *flags)
    raw, moved = read(tmp_path / "raw.nii") > 0, read(tmp_path / "moved.nii") > 0
    assert (raw != moved).any()
    assert moved[binary_erosion(raw, iterations=2)].all()


def test_unknown_postprocessing_is_one_line(run: Path, tmp_path: Path, predict: Predict) -> None:
    flags = (
        "--run",
        run,
        "--input",
        tmp_path / "ct.nii",
        "--output",
        tmp_path / "out.nii",
        "--postprocess",
        "crf",
    )
    with pytest.raises(
        InputError, match="--postprocess: unknown post-processing crf; there are inside_liver, "
    ):
        predict(*flags)
