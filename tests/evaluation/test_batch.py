"""predict on a folder of many: bad volumes do not stop the others, a batch goes on; its table."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from data.command import InputError
from data.files import read_json, write_json
from data.seg import Segments
from data.volumes import open_volume, read_image
from evaluation import batch
from evaluation.batch import COLUMNS, Case, Row, measure_voxel_ml, note_geometry, write_table
from tests.conftest import Command
from tests.data.dicom_writers import write_series
from tests.data.test_volumes import with_field
from tests.evaluation.conftest import Predict
from tests.evaluation.known_networks import SIZE, make_run, make_scene, read, save

HU, LABELS = make_scene(4)
NAMES = ["Müller CT", "a ñ.1"]
TABLES = ["volumes.csv", "volumes.json"]
Segment = Callable[..., None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), "window")


@pytest.fixture
def segment(run: Path, predict: Predict) -> Segment:
    """The command with this run: segment(input, output, *flags)."""
    return lambda source, output, *flags: predict(run, source, output, *flags)


def make_good(folder: Path) -> None:
    """Make a folder with two volumes, `NAMES`."""
    folder.mkdir(parents=True)
    save(folder / "a ñ.1.nii.gz", HU, "LSA")
    write_series(folder / "Müller CT", HU)


def make_bad(folder: Path) -> dict[str, str]:
    """Add one volume of each fault to a folder; return the rule that each breaks."""
    noise = np.random.default_rng(0).integers(-200, 200, HU.shape, np.int16)
    save(folder / "cut.nii.gz", noise)
    (folder / "cut.nii.gz").write_bytes((folder / "cut.nii.gz").read_bytes()[:-500])
    (folder / "text.nii").write_text("this is no NIfTI file\n")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), folder / "four.nii")
    for name in ("mixed/one-{}.dcm", "mixed/two-{}.dcm", "apart/1/{}.dcm", "apart/2/{}.dcm"):
        place = folder / name
        write_series(place.parent, HU, name=place.name)
    (folder / "patient 7").mkdir()
    save(folder / "patient 7" / "ct.nii", HU)
    (folder / "broken zip.zip").write_bytes(b"PK and nothing else")
    (folder / "dangling.nii.gz").symlink_to(folder / "nowhere.nii.gz")
    rules = {
        "cut.nii.gz": "truncated?",
        "text.nii": "not a NIfTI file",
        "four.nii": "a volume must have 3 axes, this one has 4",
        "mixed": "2 series in it",
        "apart": "DICOM files in several folders of it",
        "patient 7": "NIfTI files in a folder of --input",
        "broken zip.zip": "not a readable zip file",
        "dangling.nii.gz": "no such file or folder",
    }
    if os.geteuid():  # root may read it
        shutil.copy(folder / "a ñ.1.nii.gz", folder / "closed.nii.gz")
        (folder / "closed.nii.gz").chmod(0)
        rules["closed.nii.gz"] = "Permission denied"
    return rules


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bad_volumes_are_named_at_the_end_and_the_good_ones_are_there(
    run: Path, tmp_path: Path, run_module: Command
) -> None:
    source, out = tmp_path / "in ü", tmp_path / "out" / "new ö"
    make_good(source)
    rules = make_bad(source)
    (source / "notes.txt").write_text("not a volume")
    (source / "empty").mkdir()
    done = run_module("evaluation.predict", "--run", run, "--input", source, "--output", out)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("evaluation.predict: ")]
    note, *failures, summary = lines
    assert note.endswith("empty: no DICOM file in it, passed over")
    n, n_bad = len(rules) + 2, len(rules)
    assert f"{n_bad} of {n} volumes failed; {out / 'volumes.json'} lists them" in summary
    assert len(failures) == n_bad
    for name, rule in rules.items():
        named = [line for line in failures if f"{source / name}" in line and rule in line]
        assert len(named) == 1, (name, failures)
    assert list_files(out) == [*(f"{name}.nii.gz" for name in NAMES), *TABLES]
    np.testing.assert_array_equal(read(out / "Müller CT.nii.gz"), LABELS.T)
    content = read_json(out / "volumes.json")
    assert [row["case"] for row in content["cases"]] == NAMES
    assert {Path(failure["input"]).name for failure in content["failed"]} == set(rules)
    table = pd.read_csv(out / "volumes.csv")
    assert table[["case", "tumor_count"]].values.tolist() == [[name, 1] for name in NAMES]
    assert f"[2/{n}] a ñ.1: liver 0.2 ml, 1 tumor of 0.01 ml in all" in done.stdout


def test_a_batch_keeps_what_is_still_true(
    tmp_path: Path, segment: Segment, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "in" / "out"  # passed over as an input
    make_good(source)

    def segmented(*flags: str) -> list[str]:
        """Return which volumes are segmented (not kept)."""
        segment(source, out, *flags)
        text = capsys.readouterr().out
        return [name for name in NAMES if f"{name}: liver" in text]

    assert segmented() == NAMES
    assert segmented() == []
    os.utime(source / "a ñ.1.nii.gz", (1, 1))
    assert segmented() == ["a ñ.1"]
    (out / "Müller CT.nii.gz").unlink()
    assert segmented() == ["Müller CT"]
    assert segmented("--keep-largest") == NAMES
    assert segmented("--keep-largest", "--model", "sequential") == []
    assert segmented() == NAMES
    content = read_json(out / "volumes.json")
    write_json(out / "volumes.json", {**content, "networks": {}})  # as of another training
    assert segmented() == NAMES
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), out / "Müller CT.nii.gz")
    assert segmented() == ["Müller CT"]  # an output that was changed
    np.testing.assert_array_equal(read(out / "Müller CT.nii.gz"), LABELS.T)


def test_an_interrupted_batch_goes_on(
    tmp_path: Path, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_good(tmp_path / "in")
    opened: list[str] = []

    def read_or_stop(path: Path, allow_non_hu: bool = False) -> object:
        opened.append(path.name)
        if len(opened) == 2:
            raise KeyboardInterrupt
        return read_image(path, allow_non_hu)

    monkeypatch.setattr(batch, "read_image", read_or_stop)
    with pytest.raises(KeyboardInterrupt):
        segment(tmp_path / "in", tmp_path / "out")
    assert list_files(tmp_path / "out") == ["Müller CT.nii.gz", *TABLES]
    segment(tmp_path / "in", tmp_path / "out")
    assert opened == ["Müller CT", "a ñ.1.nii.gz", "a ñ.1.nii.gz"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "a ñ.1.nii.gz: needs more memory than there is"),
        (RuntimeError("of some\nlibrary"), "a ñ.1.nii.gz: RuntimeError: of some library"),
        (PermissionError(13, "No permission", "x/a ñ.1.nii.gz"), "x/a ñ.1.nii.gz: No permission"),
    ],
)
def test_no_error_of_one_volume_ends_a_batch(
    tmp_path: Path,
    segment: Segment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    words: str,
) -> None:
    make_good(tmp_path / "in")
    save(tmp_path / "in" / "z.nii", HU)

    def fail(path: Path, allow_non_hu: bool = False) -> object:
        if path.name == "a ñ.1.nii.gz":
            raise error
        return read_image(path, allow_non_hu)

    monkeypatch.setattr(batch, "read_image", fail)
    with pytest.raises(InputError, match="1 of 3 volumes failed"):
        segment(tmp_path / "in", tmp_path / "out")
    assert words in capsys.readouterr().err
    assert list_files(tmp_path / "out") == ["Müller CT.nii.gz", *TABLES, "z.nii.gz"]


def test_the_files_of_a_failed_volume_are_taken_back(
    tmp_path: Path, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_good(tmp_path / "in")

    def fail(path: Path, labels: np.ndarray, like: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(batch, "write_labels", fail)
    with pytest.raises(InputError, match="2 of 2 volumes failed"):
        segment(tmp_path / "in", tmp_path / "out", "--probabilities")
    assert list_files(tmp_path / "out") == TABLES


def test_all_that_can_be_written_beside_each_volume(tmp_path: Path, segment: Segment) -> None:
    for name in ("one", "two"):
        write_series(tmp_path / "in" / name / "inner", HU)
    segment(tmp_path / "in", tmp_path / "out", "--dicom-seg", "--probabilities")
    for name in ("one", "two"):
        assert Segments(tmp_path / "out" / f"{name}.dcm").names == {1: "liver", 2: "tumor"}
        for target in ("liver", "tumor"):
            probabilities = read(tmp_path / "out" / f"{name}_{target}_probability.nii.gz")
            assert probabilities.shape == LABELS.T.shape


def test_networks_are_traced_once(
    tmp_path: Path, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[int] = []
    call = keras.layers.Conv2D.call

    def count_and_call(self: keras.layers.Conv2D, inputs: object) -> object:
        traced[-1] += 1
        return call(self, inputs)

    monkeypatch.setattr(keras.layers.Conv2D, "call", count_and_call)
    (tmp_path / "in").mkdir()
    for number, n_slices in enumerate((4, 9, 30)):
        hu, _ = make_scene(n_slices, SIZE + 2 * number)
        save(tmp_path / "in" / f"{number}.nii.gz", hu)
        traced.append(0)
        segment(tmp_path / "in", tmp_path / f"out {number}")
    assert traced[0] == traced[1] == traced[2] > 0


def empty(folder: Path) -> None:
    """Leave one file in a folder that is no volume."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "README").write_text("none")


def copy_slices(folder: Path) -> None:
    """Put the slices of a series into the folder itself."""
    shutil.copytree(folder / "Müller CT", folder, dirs_exist_ok=True)


# What changes the folder, its output, the message, further flags.
REFUSALS: dict[str, tuple[Callable[[Path], object], str, str, tuple[str, ...]]] = {
    "two of one name": (
        lambda source: save(source / "a ñ.1.nii", HU),
        "out",
        r"a ñ\.1\.nii\.gz: would be written to a ñ\.1\.nii\.gz, as a ñ\.1\.nii is; rename one",
        (),
    ),
    "the name of a map": (
        lambda source: save(source / "a ñ.1_liver_probability.nii", HU),
        "out",
        r"would be written to a ñ\.1_liver_probability\.nii\.gz, as a ñ\.1\.nii\.gz is",
        ("--probabilities",),
    ),
    "not UTF-8": (
        lambda source: save(Path(os.fsdecode(os.fsencode(source) + b"/\xff.nii")), HU),
        "out",
        r"in/\\udcff\.nii': its name is not UTF-8; rename it",
        (),
    ),
    "nothing in it": (
        empty,
        "out",
        "in: no NIfTI file, folder with a DICOM series or zip of one in it",
        (),
    ),
    "one output for many": (
        list_files,
        "out.nii.gz",
        "must be a folder, --input is a folder of many volumes",
        (),
    ),
    "the input": (list_files, "in", "in: is the input", ()),
    "among slices": (list_files, "in/Müller CT/out", "lies in .*Müller CT, among the slices", ()),
    "a table": (list_files, "out", "a batch writes volumes.csv and volumes.json", ("--table", "t")),
    "a SEG of NIfTI": (
        list_files,
        "out",
        r"a ñ\.1\.nii\.gz: --dicom-seg needs a DICOM series",
        ("--dicom-seg",),
    ),
    "one series": (copy_slices, "out", "must end in .nii or .nii.gz, --input is one volume", ()),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_refusals_before_any_work(tmp_path: Path, segment: Segment, fault: str) -> None:
    change, output, message, flags = REFUSALS[fault]
    make_good(tmp_path / "in")
    change(tmp_path / "in")
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(InputError, match=message):
        segment(tmp_path / "in", tmp_path / output, *flags)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_a_folder_around_one_series_is_one_volume_or_a_batch_by_the_output(
    tmp_path: Path, segment: Segment
) -> None:
    write_series(tmp_path / "in" / "patient", HU)
    segment(tmp_path / "in", tmp_path / "one.nii.gz")
    segment(tmp_path / "in", tmp_path / "many")
    one, many = read(tmp_path / "one.nii.gz"), read(tmp_path / "many" / "patient.nii.gz")
    np.testing.assert_array_equal(one, many)


def test_no_file_of_other_flags_stays(tmp_path: Path, segment: Segment) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_series(source / "ct", HU)
    segment(source, out, "--dicom-seg", "--probabilities")
    assert (out / "ct.dcm").is_file()
    segment(source, out, "--liver-only")
    assert list_files(out) == ["ct.nii.gz", *TABLES]
    next((source / "ct").iterdir()).write_bytes(b"damaged")
    with pytest.raises(InputError, match="1 of 1 volumes failed"):
        segment(source, out)
    assert list_files(out) == TABLES


def test_a_linked_series_that_is_relinked_is_made_again(tmp_path: Path, segment: Segment) -> None:
    link = tmp_path / "in" / "p" / "ct"
    link.parent.mkdir(parents=True)
    for name, hu, labels in (("1", HU, LABELS), ("2", HU[:, ::-1].copy(), LABELS[:, ::-1])):
        write_series(tmp_path / name, hu)
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        segment(tmp_path / "in", tmp_path / "out")
        np.testing.assert_array_equal(read(tmp_path / "out" / "p.nii.gz"), labels.T)


def test_volumes_of_another_folder_keep_their_rows(tmp_path: Path, segment: Segment) -> None:
    out = tmp_path / "out"
    make_good(tmp_path / "in")
    (tmp_path / "more").mkdir()
    save(tmp_path / "more" / "b.nii", HU)
    segment(tmp_path / "in", out)
    segment(tmp_path / "more", out)
    assert [row["case"] for row in read_json(out / "volumes.json")["cases"]] == ["b", *NAMES]
    message = "which is not in --input, made with other networks or flags"
    with pytest.raises(InputError, match=message):
        segment(tmp_path / "more", out, "--keep-largest")
    assert (out / "b.nii.gz").is_file()


ROW = Row(
    case="Müller, A",
    liver_ml=35.5,
    tumor_count=3,
    tumor_ml=3.0,
    largest_tumor_ml=1.5,
    tumor_volumes_ml=[1.5, 1.0, 0.5],
    tumor_burden_percent=8.450704,
    spacing_mm=[2.5, 0.75, 0.75],
    model="one_step",
    loss="ce",
    threshold_rule="roc",
    run="r",
    input="ct.nii",
    read_from=["ct.nii", 5, "a"],
    outputs=[["labels.nii", 7, "b"]],
    notes=["its affine is the identity"],
)
NOT_LOOKED_FOR = replace(ROW, case="none", **dict.fromkeys(COLUMNS[2:7]))


def test_the_table_as_csv_and_json(tmp_path: Path) -> None:
    write_table(tmp_path / "new" / "v1.2", {"schema": 1}, [ROW, NOT_LOOKED_FOR])
    assert list_files(tmp_path / "new") == ["v1.2.csv", "v1.2.json"]
    content = read_json(tmp_path / "new" / "v1.2.json")
    assert [Row(**row) for row in content.pop("cases")] == [ROW, NOT_LOOKED_FOR]
    assert content == {"schema": 1, "failed": []}
    # Every cell as text: a count has no decimals, and what was not measured is empty.
    table = pd.read_csv(tmp_path / "new" / "v1.2.csv", dtype=str, keep_default_na=False)
    about = ["2.5 0.75 0.75", "one_step", "ce", "roc", "r"]
    assert table.values.tolist() == [
        ["Müller, A", "35.5", "3", "3.0", "1.5", "1.5 1.0 0.5", "8.450704", *about],
        ["none", "35.5", "", "", "", "", "", *about],
    ]
    assert list(table) == [
        *("case", "liver_ml", "tumor_count", "tumor_ml", "largest_tumor_ml", "tumor_volumes_ml"),
        *("tumor_burden_percent", "spacing_mm", "model", "loss", "threshold_rule", "run"),
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW, "liver 35.5 ml, 3 tumors of 3.00 ml in all"),
        (replace(ROW, tumor_count=1, tumor_ml=0.004), "liver 35.5 ml, 1 tumor of 0.00 ml in all"),
        (replace(ROW, tumor_count=0, tumor_ml=0.0), "liver 35.5 ml, no tumor"),
        (NOT_LOOKED_FOR, "liver 35.5 ml"),
    ],
)
def test_a_row_in_words(row: Row, words: str) -> None:
    assert str(row) == words


@pytest.mark.parametrize("name", ["a.b.nii.gz", "a.b.nii"])
def test_names_beside_the_output(name: str) -> None:
    case = Case(Path("ct.nii"), Path("x") / name)
    assert case.probability("liver") == Path("x/a.b_liver_probability.nii.gz")
    assert case.seg == Path("x/a.b.dcm")


def save_header(
    path: Path, affine: np.ndarray, change: Callable[[nib.Nifti1Image], object] = str
) -> Path:
    """Write an image of this affine, after a change of its header."""
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.set_qform(affine, code=1)
    change(image)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("rotation", "mm3"),
    [
        (np.diag([-0.5, 0.5, 2.0]), 0.5),
        ([[0, 0.5, 0], [0.25, 0, 0], [0, 0, -4]], 0.5),
        ([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 3]], 3.0),  # turned
    ],
)
def test_a_voxel_is_as_large_as_its_affine_says(
    tmp_path: Path, rotation: np.ndarray, mm3: float
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation
    volume = open_volume(save_header(tmp_path / "ct.nii", affine))
    assert measure_voxel_ml(volume) == pytest.approx(mm3 / 1000, rel=1e-6)
    assert note_geometry(volume) == []


def set_spacing(image: nib.Nifti1Image) -> None:
    """Set another spacing than that of the affine."""
    image.set_qform(None)
    image.header.set_zooms((1.0, 1.0, 5.0))
    image.header.set_sform(np.diag([1.0, 1.0, 2.0, 1.0]), code=1)


def mirror(image: nib.Nifti1Image) -> None:
    """Let one of the two affines be mirrored."""
    image.set_sform(np.diag([0.7, -0.7, 2.0, 1.0]), code=1)


USUAL = (-0.7, -0.7, 2.0, 1.0)


@pytest.mark.parametrize(
    ("diagonal", "change", "words"),
    [
        (USUAL, str, ""),
        (
            (1.0, 1.0, 2.0, 1.0),
            set_spacing,
            "5 mm3 by the header's spacing and 2 mm3 by its affine",
        ),
        ((1.0, 1.0, 1.0, 1.0), str, "its affine is the identity"),
        (
            (-0.0007, -0.0007, 0.002, 1.0),
            str,
            "a spacing of 0.002 x 0.0007 x 0.0007 mm is hardly that of a CT",
        ),
        (USUAL, mirror, "qform and sform of its header differ; sform was taken"),
    ],
)
def test_headers_that_are_hardly_true_are_noted(
    tmp_path: Path, diagonal: tuple[float, ...], change: Callable[..., object], words: str
) -> None:
    volume = open_volume(save_header(tmp_path / "ct.nii", np.diag(diagonal), change))
    notes = note_geometry(volume)
    assert len(notes) == bool(words)
    assert words in "".join(notes)
    if change is set_spacing:
        assert measure_voxel_ml(volume) == pytest.approx(0.002)


def test_a_header_without_orientation_is_noted(tmp_path: Path) -> None:
    path = save_header(tmp_path / "ct.nii", np.diag(USUAL))
    for code in ("qform_code", "sform_code"):  # nibabel would write one again
        with_field(path, code, None, 0)
    (note,) = note_geometry(open_volume(path))
    assert note.startswith("its header says nothing of its orientation")
