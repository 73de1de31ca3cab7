"""From a folder in the LiTS layout to a store and back: interruptions, re-runs, refusals."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data import prepare as prepare_module
from data.cohorts import Case
from data.command import InputError
from data.prepare import main
from data.store import Store
from tests.conftest import Command
from tests.data.cohort_folders import prepare
from tests.data.conftest import refuses

AFFINE = np.diag([-0.75, 0.75, 2.0, 1.0])  # axes L, A, S as most of LiTS


def canonical_case(number: int, n_slices: int = 6, rows: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels in canonical order: a liver on the right in slices 1 to 4, tumor in slice 2."""
    hu = np.random.default_rng(number).integers(-1000, 200, (n_slices, rows, 16)).astype(np.int16)
    label = np.zeros(hu.shape, np.uint8)
    label[1:5, 4:12, 2:8] = 1
    label[2, 6:8, 4:6] = 2
    return hu, label


def save_native(path: Path, canonical: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Store a canonical array with axes (L, A, S)."""
    nib.save(nib.Nifti1Image(canonical.transpose(2, 1, 0)[:, ::-1], affine), path)


def make_source(
    folder: Path, numbers: tuple[int, ...] = (0, 1, 2, 10), suffix: str = ".nii.gz"
) -> Path:
    folder.mkdir()
    for number in numbers:
        hu, label = canonical_case(number)
        save_native(folder / f"volume-{number}{suffix}", hu)
        save_native(folder / f"segmentation-{number}{suffix}", label)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "LITS")


def test_a_store_holds_what_the_volumes_hold(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = prepare(source, tmp_path / "store")
    assert list(store.cases) == ["volume-0", "volume-1", "volume-2", "volume-10"]  # numeric order
    assert (store.size, store.cohort, store.synthetic) == (16, "lits", False)
    for number in (0, 10):
        hu, label = canonical_case(number)
        case = f"volume-{number}"
        for stored, expected, dtype in (
            (store.image(case), hu, np.int16),
            (store.label(case), label, np.uint8),
        ):
            assert isinstance(stored, np.memmap)
            assert stored.dtype == dtype
            np.testing.assert_array_equal(stored, expected)
        entry = store.cases[case]
        file = tmp_path / "store" / "cases" / case / "image.npy"
        assert entry["sha256_image"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert entry["liver_rows"] == [1, 2, 3, 4]
        assert entry["tumor_rows"] == [2]
        assert entry["spacing_mm"] == [2.0, 0.75, 0.75]
        assert entry["native_shape"] == [16, 16]
        assert entry["orientation"] == "LAS"
        assert entry["n_slices"] == 6
    train = store.slices("train")
    assert train == [(case, row) for case in store.cases_of("train") for row in (1, 2, 3, 4)]
    assert len(train) == 8
    assert len(store.slices("validation")) == len(store.slices("test")) == 4
    assert store.patient("volume-2") == "lits:volume-2"
    assert (
        store.patient("volume-10") == "lits:volume-7"
    )  # by the list of patients with several volumes
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "volume-0: 6 slices, 4 with liver, 1 with tumor"
    assert (
        out[4]
        == f"{tmp_path / 'store'}: 4 cases, 4 patients; slices: train 8, validation 4, test 4"
    )
    assert out[5] == f"split {store.split['sha256']}"
    assert not (tmp_path / "store.partial").exists()
    assert str(tmp_path) not in (tmp_path / "store" / "store.json").read_text()


def test_slices_are_resized_and_clipped(tmp_path: Path) -> None:
    source = make_source(tmp_path / "LITS", (0, 1, 2), suffix=".nii")
    hu, label = canonical_case(0, rows=8)
    hu[0] = -3024
    hu[1] = 10000
    save_native(source / "volume-0.nii", hu)
    save_native(source / "segmentation-0.nii", label)
    store = prepare(source, tmp_path / "store", "--size 8")
    image = store.image("volume-0")
    assert image.shape == (6, 8, 8)
    assert (image[0] == -1024).all()
    assert (image[1, 2:6] == 3071).all()  # 8 rows of 16 columns: 4 rows of air above and below
    assert (image[1, :2] == -1024).all()
    blocks = hu[3].astype(float).reshape(4, 2, 8, 2).mean((1, 3))
    np.testing.assert_array_equal(image[3, 2:6], np.rint(blocks))
    assert store.cases["volume-0"]["native_shape"] == [8, 16]


def test_opening_reads_no_voxel(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(source, tmp_path / "store")
    monkeypatch.setattr(np, "load", None)
    assert Store.open(tmp_path / "store").cases_of("train")


def test_flags_reach_the_split(tmp_path: Path, source: Path) -> None:
    store = prepare(source, tmp_path / "a", "--test 10 --validation 2 --slices all")
    assert store.slices("test") == [("volume-10", row) for row in range(6)]
    assert store.cases_of("validation") == ["volume-2"]
    store = prepare(source, tmp_path / "b", "--subset 5,2,3 --seed 7")
    assert [len(store.slices(name)) for name in ("train", "validation", "test")] == [5, 2, 3]
    assert store.split["seed"] == 7
    store = prepare(source, tmp_path / "c", "--same-patient 0,10")
    assert store.patient("volume-10") == "lits:volume-0"
    store = prepare(source, tmp_path / "d", "--external")
    assert len(store.slices("external")) == 16
    assert store.cohort == "lits"
    with refuses("no set 'train'"):
        store.slices("train")
    store = prepare(source, tmp_path / "e", "--fractions 0.25,0.5,0.25")
    assert [len(store.cases_of(name)) for name in ("train", "validation", "test")] == [1, 2, 1]


def test_cohort_json_names_the_cohort_and_lifts_the_lits_groups(tmp_path: Path) -> None:
    source = make_source(tmp_path / "LITS", (7, 8, 9))
    with refuses("at least 3 patients"):
        prepare(source, tmp_path / "store")
    (source / "cohort.json").write_text('{"cohort": "phantom", "synthetic": true}')
    store = prepare(source, tmp_path / "store")
    assert (store.cohort, store.synthetic) == ("phantom", True)
    assert len(store.split["patients"]["train"]) == 1


def test_a_mirrored_volume_is_remarked(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hu, label = canonical_case(1)
    save_native(source / "volume-1.nii.gz", hu[..., ::-1])
    save_native(source / "segmentation-1.nii.gz", label[..., ::-1])
    store = prepare(source, tmp_path / "store")
    remark = "the liver is on the patient's left: is the affine right? "
    remark += "(too little to tell whether to mirror it)"
    assert [entry["notes"] for entry in store.cases.values()] == [[], [remark], [], []]
    assert f"volume-1: 6 slices, 4 with liver, 1 with tumor; {remark}\n" in capsys.readouterr().out


def test_labels_under_another_affine_are_laid_on_their_volume_on_request(
    tmp_path: Path, source: Path
) -> None:
    save_native(source / "segmentation-2.nii.gz", canonical_case(2)[1], np.eye(4))
    with refuses(r"segmentation-2\.nii\.gz: its affine .*--ignore-label-affine"):
        prepare(source, tmp_path / "store")
    store = prepare(source, tmp_path / "store", "--ignore-label-affine")
    np.testing.assert_array_equal(store.label("volume-2"), canonical_case(2)[1])


def test_a_run_goes_on_after_an_interruption(
    tmp_path: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[str] = []
    fill_case = prepare_module.fill_case

    def interrupted(folder: Path, case: Case, **rest: object) -> dict:
        if case.number == 2:
            (folder / "image.npy").write_bytes(b"half")
            raise KeyboardInterrupt
        return counted(folder, case, **rest)

    def counted(folder: Path, case: Case, **rest: object) -> dict:
        made.append(case.name)
        return fill_case(folder, case, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare_module, "fill_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    finished = tmp_path / "store.partial" / "cases"
    assert sorted(path.name for path in finished.iterdir()) == ["volume-0", "volume-1"]
    assert made == ["volume-0", "volume-1"]
    # volume-1 changes meanwhile: it is made again, volume-0 is not
    save_native(source / "volume-1.nii.gz", canonical_case(5)[0])
    os.utime(source / "volume-1.nii.gz", ns=(1, 1))
    monkeypatch.setattr(prepare_module, "fill_case", counted)
    made.clear()
    store = prepare(source, tmp_path / "store")
    assert made == ["volume-1", "volume-2", "volume-10"]
    np.testing.assert_array_equal(store.image("volume-1"), canonical_case(5)[0])
    np.testing.assert_array_equal(store.image("volume-0"), canonical_case(0)[0])
    assert "volume-0: 6 slices, 4 with liver, 1 with tumor (kept)" in capsys.readouterr().out
    assert not (tmp_path / "store.partial").exists()


def test_a_kept_case_of_another_size_or_of_a_vanished_volume_is_not_used(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module.StoreWriter, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path / "store")
    for name in ("volume", "segmentation"):
        (source / f"{name}-1.nii.gz").unlink()
    store = prepare(source, tmp_path / "store", "--size 8")
    assert store.image("volume-0").shape == (6, 8, 8)
    assert not (tmp_path / "store" / "cases" / "volume-1").exists()


def test_a_second_run_does_nothing(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(source, tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    shutil.rmtree(source)  # a finished store does not need its source any more
    capsys.readouterr()
    prepare(source, tmp_path / "store")
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'store'}: already done\n")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (["--size 8"], "size 16, now asked for 8"),
        (["--seed 1"], "seed 0, now asked for 1"),
        (["--external"], "external False"),
        (["--test 10"], "test None"),
    ],
)
def test_other_parameters_are_refused(
    tmp_path: Path, source: Path, flags: list[str], difference: str
) -> None:
    prepare(source, tmp_path / "store")
    with refuses(f"store: made with {difference}"):
        prepare(source, tmp_path / "store", *flags)


def test_two_runs_give_the_same_bytes(tmp_path: Path, source: Path) -> None:
    for name in ("a", "b"):
        prepare(source, tmp_path / name)
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            twin = tmp_path / "b" / path.relative_to(tmp_path / "a")
            assert path.read_bytes() == twin.read_bytes()


def save_fraction(source: Path) -> None:
    hu = canonical_case(0)[0].astype(np.float32)
    save_native(source / "volume-0.nii.gz", (hu - hu.min()) / np.ptp(hu))


def truncate(source: Path) -> None:
    path = source / "volume-0.nii.gz"
    path.write_bytes(path.read_bytes()[:-500])


def unlink(pattern: str) -> Callable[[Path], None]:
    return lambda source: [path.unlink() for path in source.glob(pattern)] and None


def replace(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda source: save_native(source / name, array)


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda source: (source / name).write_text(text) and None


FAULTS: dict[str, tuple[Callable[[Path], None] | None, list[str], str]] = {
    "no labels": (unlink("segmentation-1.nii.gz"), [], "volume-1.nii.gz: no segmentation-1.nii"),
    "no volume": (unlink("volume-2.nii.gz"), [], "segmentation-2.nii.gz: no volume-2.nii"),
    "nii and nii.gz": (
        replace("volume-1.nii", canonical_case(1)[0]),
        [],
        "volume-1.nii.gz: volume-1.nii is there too",
    ),
    "no pairs": (unlink("*"), [], "LITS: no pair"),
    "no source": (shutil.rmtree, [], "LITS: no such folder"),
    "another shape": (
        replace("segmentation-10.nii.gz", canonical_case(10, n_slices=7)[1]),
        [],
        "segmentation-10.nii.gz: its shape",
    ),
    "not HU": (save_fraction, [], "volume-0.nii.gz: all values lie within 0..1"),
    "fractions lost": (save_fraction, ["--allow-non-hu"], "values from 0 to 1 would be lost"),
    "no liver": (
        replace("segmentation-0.nii.gz", canonical_case(0)[1] * 0),
        [],
        "segmentation-0.nii.gz: no liver",
    ),
    "truncated": (truncate, [], "volume-0.nii.gz: the voxels cannot be read"),
    "cohort.json": (write("cohort.json", '{"synthetic": "yes"}'), [], "cohort.json: needs"),
    "unfinished phantom": (
        write(".cohort-unfinished.json", "{}"),
        [],
        "LITS: a phantom cohort that is not finished",
    ),
    "subset": (None, ["--subset 765,50,50"], "LITS: --subset wants 765 slices for train"),
    "unknown test": (None, ["--test 3"], "--test: no case 3 in"),
    "unknown group": (None, ["--same-patient 0,3"], "--same-patient: no case 3 in"),
    "too few": (None, ["--same-patient 0,1,2"], "LITS: a split needs at least 3 patients"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refusals_leave_nothing(tmp_path: Path, source: Path, fault: str) -> None:
    damage, flags, message = FAULTS[fault]
    if damage:
        damage(source)
    with pytest.raises(InputError) as caught:
        prepare(source, tmp_path / "store", *flags)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()
    left = tmp_path / "store.partial" / "cases"  # the other cases are not lost
    assert not left.exists() or {path.name for path in left.iterdir()} == {
        "volume-1",
        "volume-2",
        "volume-10",
    }


def test_a_fault_in_a_later_case_keeps_the_finished_ones(tmp_path: Path, source: Path) -> None:
    save_native(source / "segmentation-1.nii.gz", canonical_case(1)[1] * 0)
    with refuses("no liver"):
        prepare(source, tmp_path / "store")
    finished = {path.name for path in (tmp_path / "store.partial" / "cases").iterdir()}
    assert finished == {"volume-0", "volume-2", "volume-10"}
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--size 0", "--size: must be at least 1, got 0"),
        ("--seed -1", "--seed: must not be negative, got -1"),
        ("--jobs 0", "--jobs: must be 1 or more"),
        ("--external --subset 1,1,1", "--subset: not together with --external"),
        ("--external --test 1", "--test: not together with --external"),
        ("--external --external-store x", "--external-store: not together with --external"),
        ("--split a.json --seed 1", "--seed: not together with --split, which says it already"),
        ("--by-slice --stratify", "--stratify: not together with --by-slice"),
        ("--by-slice --external", "--external: not together with --by-slice"),
        ("--shared-patients drop", "--shared-patients: needs --external-store"),
        ("--lesions cysts", "--lesions: needs --cohort ircad"),
        ("--lesions bones", "'bones': choose from tumors"),
        ("--images {case}.nii", "--images: needs --cohort nifti"),
        ("--subset a,b", "expected integers separated by commas, got 'a,b'"),
        ("--fractions a", "expected numbers separated by commas, got 'a'"),
        ("--slices some", "invalid choice: 'some'"),
        ("--sorce a", "--sorce: no such flag; did you mean --source?"),
    ],
)
def test_wrong_flags_end_in_one_line(
    flags: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(f"--source a --store b {flags}".split())
    error = capsys.readouterr().err
    assert (caught.value.code, len(error.splitlines())) == (2, 1)
    assert message in error


def test_the_command_exits_with_2_and_one_line(
    tmp_path: Path, source: Path, run_module: Command
) -> None:
    truncate(source)
    done = run_module("data.prepare", "--source", source, "--store", tmp_path / "store")
    assert done.returncode == 2
    assert done.stderr.startswith(f"python -m data.prepare: {source / 'volume-0.nii.gz'}: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_opening_refuses_what_is_no_store(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "store"
    with refuses("no such store"):
        Store.open(path)
    with refuses("not a slice store"):
        Store.open(source)
    with refuses("LITS: lies in the source"):
        prepare(source, source)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with refuses("not a slice store"):
        prepare(source, tmp_path / "full")  # a folder that holds something else is never built over
    prepare(source, path)
    (path / "cases" / "volume-2" / "image.npy").rename(tmp_path / "image.npy")
    with refuses(r"volume-2.image\.npy: missing"):
        Store.open(path)
    (tmp_path / "image.npy").rename(path / "cases" / "volume-2" / "image.npy")
    split = json.loads((path / "split.json").read_text())
    split["slices"]["test"].popitem()
    (path / "split.json").write_text(json.dumps(split))
    with refuses(r"split\.json: its slices do not match"):
        Store.open(path)
    (path / "split.json").unlink()
    with refuses(r"split\.json: no such file"):
        Store.open(path)
    info = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps({**info, "schema": 3}))
    with refuses("schema 3, this version reads 2"):
        Store.open(path)


def test_another_source_of_the_same_name_is_not_taken_for_done(
    tmp_path: Path, source: Path
) -> None:
    store = prepare(source, tmp_path / "store")
    (tmp_path / "other").mkdir()
    namesake = make_source(tmp_path / "other" / "LITS", numbers=(3, 4, 5, 6))
    with refuses("its source has changed"):
        prepare(namesake, tmp_path / "store")
    hu, _ = canonical_case(99)
    save_native(source / "volume-0.nii.gz", hu)
    with refuses("its source has changed"):
        prepare(source, tmp_path / "store")
    shutil.rmtree(source)
    assert (
        prepare(source, tmp_path / "store").sha256 == store.sha256
    )  # the source may go once the store is made


def test_hash_of_a_store_follows_the_voxels(tmp_path: Path, source: Path) -> None:
    first = prepare(source, tmp_path / "first")
    assert prepare(source, tmp_path / "second").sha256 == first.sha256
    hu, _ = canonical_case(99)
    save_native(source / "volume-0.nii.gz", hu)
    changed = prepare(source, tmp_path / "third")
    assert changed.split["sha256"] == first.split["sha256"]
    assert changed.sha256 != first.sha256


def test_a_copied_volume_cannot_be_two_patients(tmp_path: Path, source: Path) -> None:
    shutil.copy(source / "volume-0.nii.gz", source / "volume-2.nii.gz")
    with refuses("volume-2: the same voxels as volume-0"):
        prepare(source, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert (
        prepare(source, tmp_path / "store", "--same-patient 0,2").patient("volume-2")
        == "lits:volume-0"
    )


def test_a_damaged_array_is_one_line(tmp_path: Path, source: Path) -> None:
    store = prepare(source, tmp_path / "store")
    path = tmp_path / "store" / "cases" / "volume-0" / "image.npy"
    path.write_bytes(path.read_bytes()[:50])
    with refuses(r"image\.npy: damaged"):
        store.image("volume-0")
