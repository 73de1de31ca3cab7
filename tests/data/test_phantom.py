"""The synthetic cohort: layout, repeatability, geometry and attenuation, on small matrices."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from data.command import run_command
from data.files import hash_file
from data.phantom import cohort as phantom
from data.phantom.__main__ import main
from data.phantom.paint import paint_patient
from data.phantom.patient import shape_liver
from data.phantom.scan import ORIENTATIONS, draw_noise, turn_as_stored
from data.phantom.shapes import Ellipsoid, Field, Grid, Segment, coverage
from tests.conftest import Command
from tests.data.conftest import refuses

SIZE, CASES, SEED = 64, 8, 3


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("phantom") / "main"
    return out, phantom.write_cohort(out, phantom.MAIN, CASES, SIZE, SEED)


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("phantom") / "external"
    return out, phantom.write_cohort(out, phantom.EXTERNAL, 4, SIZE, SEED)


def load(out: Path, case: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return the image and, in RAS order, its HU and labels."""
    image = nib.load(out / f"{case}.nii.gz")
    labels = nib.load(out / f"{case.replace('volume', 'segmentation')}.nii.gz")
    hu = np.asarray(nib.as_closest_canonical(image).dataobj)
    return image, hu, np.asarray(nib.as_closest_canonical(labels).dataobj)


def inner_liver(labels: np.ndarray) -> np.ndarray:
    """Return the liver without tumors and a border of two voxels in-plane, one through slices."""
    in_plane = np.zeros((3, 3, 3), dtype=bool)
    in_plane[:, 1, 1] = in_plane[1, :, 1] = True
    return ndimage.binary_erosion(
        ndimage.binary_erosion(labels == 1, in_plane, 2), np.ones((1, 1, 3))
    )


def noise_of(hu: np.ndarray, labels: np.ndarray) -> float:
    """Estimate the noise in the liver by the median absolute deviation: vessels hardly move it."""
    values = hu[inner_liver(labels)]
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def test_layout_is_that_of_lits(cohort: tuple[Path, dict[str, Any]]) -> None:
    out, record = cohort
    kinds = ("volume", "segmentation")
    expected = {f"{kind}-{k}.nii.gz" for kind in kinds for k in range(CASES)} | {
        "cohort.json",
        "clinical.csv",
    }
    assert {path.name for path in out.iterdir()} == expected
    assert json.loads((out / "cohort.json").read_text()) == record
    assert (record["schema"], record["cohort"], record["synthetic"]) == (2, "phantom", True)
    assert (record["seed"], record["size"], record["n_cases"]) == (SEED, SIZE, CASES)
    assert "ynthetic" in record["note"]
    assert [entry["case"] for entry in record["cases"]] == [f"volume-{k}" for k in range(CASES)]


def test_files_agree_with_the_record(cohort: tuple[Path, dict[str, Any]]) -> None:
    out, record = cohort
    for entry in record["cases"]:
        volume = nib.load(out / f"{entry['case']}.nii.gz")
        labels = nib.load(out / f"{entry['case'].replace('volume', 'segmentation')}.nii.gz")
        assert volume.get_data_dtype() == np.int16
        assert labels.get_data_dtype() == np.uint8
        assert volume.shape == labels.shape
        np.testing.assert_array_equal(volume.affine, labels.affine)
        assert "".join(nib.aff2axcodes(volume.affine)) == entry["orientation"]
        np.testing.assert_allclose(volume.header.get_zooms(), entry["spacing_mm"], rtol=1e-5)
        assert sorted(volume.shape) == sorted([SIZE, SIZE, entry["n_slices"]])
        values = set(np.unique(np.asarray(labels.dataobj)))
        assert values <= {0, 1, 2}
        assert 1 in values
        assert (2 in values) <= bool(entry["tumors"])
        assert b"synthetic" in volume.header["descrip"].tobytes()


def test_scan_parameters_are_in_range(cohort: tuple[Path, dict[str, Any]]) -> None:
    for entry in cohort[1]["cases"]:
        spacing = nib.orientations.axcodes2ornt(entry["orientation"])[:, 0]
        by_axis = dict(zip(spacing.astype(int), entry["spacing_mm"], strict=True))
        assert by_axis[0] == by_axis[1]
        assert 320 <= by_axis[0] * SIZE <= 420.001
        assert 0.7 <= by_axis[2] <= 5
        assert entry["thickness_mm"] <= 5.001
        assert 35 <= entry["n_slices"] <= 250


def test_same_seed_same_bytes_whatever_the_number_of_cases(
    cohort: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    again = phantom.write_cohort(tmp_path / "again", phantom.MAIN, 2, SIZE, SEED)
    assert again["cases"] == cohort[1]["cases"][:2]
    checksum = again["cases"][1]["sha256"]["volume"]
    assert hash_file(tmp_path / "again" / "volume-1.nii.gz") == checksum
    reseeded = phantom.write_cohort(tmp_path / "other", phantom.MAIN, 1, SIZE, SEED + 1)
    assert reseeded["cases"][0]["sha256"] != again["cases"][0]["sha256"]


def test_attenuation_in_the_files(cohort: tuple[Path, dict[str, Any]]) -> None:
    out, record = cohort
    for entry in record["cases"]:
        _, hu, labels = load(out, entry["case"])
        assert 58 <= hu[inner_liver(labels)].mean() <= 134
        assert abs(np.median(hu[inner_liver(labels)]) - entry["liver_hu"]) < 8
        assert hu[:3, :3].mean() < -970
        fat = hu[(hu > -150) & (hu < -50)]
        assert -120 < np.median(fat) < -80
        assert hu.max() > 250


@pytest.mark.parametrize(
    ("cohort_", "organ", "low", "high"),
    [
        (phantom.MAIN, "aorta", 140, 185),
        (phantom.EXTERNAL, "aorta", 230, 320),
        (phantom.MAIN, "vertebra", 95, 215),
        (phantom.MAIN, "spleen", 75, 154),
        (phantom.MAIN, "gallbladder", 0, 22),
        (phantom.MAIN, "heart", 120, 180),
    ],
)
def test_attenuation_of_organs_without_noise(
    cohort_: Any, organ: str, low: float, high: float
) -> None:
    patient, _, _ = phantom.draw_case(cohort_, SEED, SIZE, 0)
    center = (
        patient.organs[organ].center if organ in patient.organs else patient.columns[organ].path[3]
    )
    if organ == "heart":
        center = (center[0] + 10, *center[1:])
    hu, labels = paint_patient(patient, Grid.of(*(c + np.arange(-2, 3) for c in center)))
    assert low <= np.median(hu) <= high
    assert not labels.any()


def test_tumors(cohort: tuple[Path, dict[str, Any]]) -> None:
    out, record = cohort
    with_tumor = [entry for entry in record["cases"] if entry["tumors"]]
    assert len(with_tumor) >= 0.75 * CASES
    tumors = [tumor for entry in record["cases"] for tumor in entry["tumors"]]
    assert all(5 <= tumor["diameter_mm"] <= 80 for tumor in tumors)
    assert all(len(entry["tumors"]) <= 8 for entry in record["cases"])
    assert {tumor["kind"] for tumor in tumors} <= {"dark", "bright", "rim"}
    assert all((tumor["contrast_hu"] > 0) == (tumor["kind"] == "bright") for tumor in tumors)
    checked = 0
    for entry in with_tumor:
        if all(t["kind"] == "dark" for t in entry["tumors"]):
            _, hu, labels = load(out, entry["case"])
            # Fewer voxels than this are all edge.
            if (labels == 2).sum() > 20:
                assert hu[labels == 2].mean() < hu[inner_liver(labels)].mean() - 8
                checked += 1
    assert checked


def test_tumor_share_and_sizes_over_many_cases() -> None:
    counts, diameters = [], []
    for case in range(16):
        patient, _, _ = phantom.draw_case(phantom.MAIN, SEED, SIZE, case)
        counts.append(len(patient.tumors))
        diameters += [tumor.diameter_mm for tumor in patient.tumors]
        for tumor in patient.tumors:
            point = Grid.of(*(np.array([c]) for c in tumor.shape.center))
            assert shape_liver(patient.frame, patient.organs, patient.columns, point).item() < 0
    assert counts.count(0) == 2
    assert max(counts) <= 8
    # The median of a log-uniform draw from 5 to 80 mm is sqrt(5 * 80) = 20 mm.
    assert 12 < np.median(diameters) < 33


def test_one_tumor_has_the_stated_volume_and_contrast() -> None:
    """Labelled volume against pi d^3 / 6, for a tumor that lies whole in the liver."""
    for case in range(20):
        patient, _, _ = phantom.draw_case(phantom.MAIN, SEED, SIZE, case)
        for tumor in patient.tumors:
            if tumor.kind != "dark" or not 10 < tumor.diameter_mm < 35:
                continue
            alone = dataclasses.replace(patient, tumors=(tumor,))
            reach = np.arange(-1.0, 1.0, 0.08) * tumor.diameter_mm
            grid = Grid.of(*(c + reach for c in tumor.shape.center))
            hu, labels = paint_patient(alone, grid)
            if not (labels > 0).all():
                continue
            volume = (labels == 2).sum() * (0.08 * tumor.diameter_mm) ** 3
            assert volume == pytest.approx(np.pi / 6 * tumor.diameter_mm**3, rel=0.35)
            core = hu[12:14, 12:14, 12:14].mean()
            assert core - patient.hu["liver"] == pytest.approx(tumor.contrast_hu, abs=10)
            return
    pytest.fail("no tumor lay whole in the liver")


def test_patient_lies_as_the_affine_says(cohort: tuple[Path, dict[str, Any]]) -> None:
    """In RAS mm x grows to the right, z to the head: liver right, lungs above, spine behind."""
    out, record = cohort
    for entry in record["cases"]:
        image, hu, labels = load(out, entry["case"])
        affine = nib.as_closest_canonical(image).affine

        def center(mask: np.ndarray, affine: np.ndarray = affine) -> np.ndarray:
            return affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]

        shadow = ndimage.binary_erosion((hu > -200).any(axis=2), iterations=3)
        body, liver, bone = center(hu > -200), center(labels > 0), center(hu > 230)
        lung = center((hu < -650) & shadow[:, :, None])
        assert liver[0] > body[0] + 20
        assert bone[1] < body[1] - 5
        assert lung[2] > liver[2] + 40


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_orientations_store_the_same_patient(code: str) -> None:
    _, scan, _ = phantom.draw_case(phantom.MAIN, SEED, 32, 0)
    array = np.random.default_rng(0).integers(-1000, 1000, (scan.n_slices, 32, 32)).astype(np.int16)
    plain = turn_as_stored(array, dataclasses.replace(scan, orientation="RAS"))
    turned = turn_as_stored(array, dataclasses.replace(scan, orientation=code))
    assert "".join(nib.aff2axcodes(turned.affine)) == code
    back = nib.as_closest_canonical(turned)
    np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(plain.dataobj))
    np.testing.assert_allclose(back.affine, plain.affine, atol=1e-9)


def test_noise_has_the_stated_deviation_and_is_correlated() -> None:
    _, scan, rng = phantom.draw_case(phantom.MAIN, SEED, 128, 0)
    planes = draw_noise(rng, scan)
    noise = np.stack([next(planes) for _ in range(30)])
    assert noise.std() == pytest.approx(scan.noise_sd_hu, rel=0.02)
    beside = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
    above = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    assert beside > 0.2
    assert above > 0.1


def test_external_cohort_states_its_shift_and_has_it(
    cohort: tuple[Path, dict[str, Any]], external: tuple[Path, dict[str, Any]]
) -> None:
    noise = {}
    for out, record in (cohort, external):
        measured = []
        for entry in record["cases"][:4]:
            _, hu, labels = load(out, entry["case"])
            measured.append(noise_of(hu, labels))
            assert measured[-1] == pytest.approx(entry["noise_sd_hu"], rel=0.35)
        noise[record["cohort"]] = float(np.mean(measured))
    assert noise["phantom-external"] > 1.3 * noise["phantom"]
    assert [entry["case"] for entry in external[1]["cases"]] == [
        f"volume-{1000 + k}" for k in range(4)
    ]
    assert external[1]["synthetic"] is True
    for word in ("ynthetic", "noise", "kernel", "larger tumors", "timing"):
        assert word in external[1]["note"]


def test_second_call_does_nothing_and_a_damaged_case_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    arguments = ["--out", str(out), "--cases", "2", "--size", "32"]
    main(arguments)
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    main(arguments)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == times
    record = (out / "cohort.json").read_bytes()
    (out / "segmentation-1.nii.gz").write_bytes(b"cut off")
    main(arguments)
    assert (out / "cohort.json").read_bytes() == record
    assert (out / "volume-0.nii.gz").stat().st_mtime_ns == times["volume-0.nii.gz"]
    assert nib.load(out / "segmentation-1.nii.gz").shape


def test_interrupted_cohort_goes_on_and_can_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cohort"
    write_case = phantom.write_case

    def interrupted(*arguments: Any) -> dict[str, Any]:
        if arguments[-1] == 1:
            raise KeyboardInterrupt
        return write_case(*arguments)

    monkeypatch.setattr(phantom, "write_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        phantom.write_cohort(out, phantom.MAIN, 2, 32, 0)
    assert not (out / "cohort.json").exists()
    first = (out / "volume-0.nii.gz").stat().st_mtime_ns
    monkeypatch.undo()
    phantom.write_cohort(out, phantom.MAIN, 2, 32, 0)
    phantom.write_cohort(out, phantom.MAIN, 3, 32, 0)
    assert (out / "volume-0.nii.gz").stat().st_mtime_ns == first
    assert len(list(out.glob("volume-*"))) == 3
    assert not list(out.glob(".*"))
    with refuses("more than --cases 1"):
        phantom.write_cohort(out, phantom.MAIN, 1, 32, 0)
    with refuses("has seed 0, not 1"):
        phantom.write_cohort(out, phantom.MAIN, 3, 32, 1)
    with refuses("has cohort 'phantom'"):
        phantom.write_cohort(out, phantom.EXTERNAL, 3, 32, 0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cases", "0"], "--cases: must be a whole number of at least 1, got '0'"),
        (["--cases", "two"], "--cases: must be a whole number of at least 1, got 'two'"),
        (
            ["--cases", "1", "--size", "31"],
            "--size: must be a whole number of at least 32, got '31'",
        ),
        (["--cases", "1", "--seed", "-1"], "--seed"),
        (["--cases", "1", "--size", "32", "--out", "a-file"], "a-file: not a folder"),
        (["--cases", "1", "--size", "32", "--out", "a-file/below"], "a-file/below"),
        (["--cases", "1", "--size", "32", "--out", "strange"], "not from this command"),
        ([], "--cases"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    flags: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("")
    Path("strange").mkdir()
    Path("strange/volume-0.nii.gz").write_text("")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: main(["--out", "new", *flags]), "data.phantom")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("data.phantom: ")
    assert words in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_command_line_prints_a_line_per_case(tmp_path: Path, run_module: Command) -> None:
    flags = ("--out", tmp_path / "x", "--cases", 1, "--external", "--size", 32)
    done = run_module("data.phantom", *flags)
    entry = json.loads((tmp_path / "x" / "cohort.json").read_text())["cases"][0]
    shown = f"volume-1000: {entry['n_slices']} slices, {len(entry['tumors'])} tumors\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")


def test_coverage_is_the_partial_volume() -> None:
    """The covered voxels add up to the volume: 4/3 pi r^3 for a ball, also with thick slices."""
    for step in ((1.0, 1.0, 1.0), (3.0, 0.8, 0.8)):
        grid = Grid.of(*(np.arange(-15, 15.01, s) + 0.2 for s in step))
        covered = coverage(Ellipsoid((0, 0, 0), (9, 9, 9))(grid), grid)
        assert covered.sum() * np.prod(step) == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.03)
    grid = Grid.of(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.arange(5.0))
    plane = np.broadcast_to(grid.x - np.float32(2.25), grid.shape)
    np.testing.assert_allclose(coverage(plane, grid)[0, 0], [1, 1, 0.75, 0, 0], atol=0.01)


def test_segment_and_field() -> None:
    tube = Segment((0, 0, 0), (10, 0, 0), 2, 4)
    grid = Grid.of(np.array([0.0, 5.0, 10.0]), np.array([0.0, 3.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(tube(grid)[:, :, 0], [[-2, 1], [-3, 0], [-4, -1]], atol=1e-5)
    axis = np.arange(-60, 60, 6.0)
    field = Field(np.random.default_rng(0), (-60, -60, -60), (60, 60, 60), 12.0)
    values = field(Grid.of(axis, axis, axis))
    assert abs(values.mean()) < 0.3
    assert values.std() == pytest.approx(1, abs=0.2)
