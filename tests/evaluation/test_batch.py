"""predict on a folder of many volumes: bad ones are named and do not stop the others, and a batch goes on."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest

from data.command import InputError
from data.files import read_json, write_json
from data.seg import Segments
from data.volumes import read_image
from evaluation import predict as module
from tests.conftest import Command
from tests.data.dicom_writers import write_series
from tests.evaluation.test_predict import SIZE, make_run, read, save, scene

HU, LABEL = scene(4, SIZE, SIZE)
Predict = Callable[..., None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), "window")


@pytest.fixture
def predict(run: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    def call(source: Path, output: Path, *flags: str) -> None:
        arguments = [
            "evaluation.predict",
            "--run",
            run,
            "--input",
            source,
            "--output",
            output,
            *flags,
        ]
        monkeypatch.setattr("sys.argv", list(map(str, arguments)))
        module.main()

    return call


def make_good(folder: Path) -> None:
    folder.mkdir(parents=True)
    save(folder / "a ñ.1.nii.gz", HU, "LSA")
    write_series(folder / "Müller CT", HU)


def make_bad(folder: Path) -> dict[str, str]:
    """Add one volume of each fault to a folder; return the rule that each breaks."""
    save(
        folder / "cut.nii.gz",
        np.random.default_rng(0).integers(-200, 200, (4, SIZE, SIZE), np.int16),
        "RAS",
    )
    (folder / "cut.nii.gz").write_bytes((folder / "cut.nii.gz").read_bytes()[:-500])
    (folder / "text.nii").write_text("this is no NIfTI file\n")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), folder / "four.nii")
    write_series(folder / "mixed", HU, name="one-{}.dcm")
    write_series(folder / "mixed", HU, name="two-{}.dcm")
    write_series(folder / "apart" / "1", HU)
    write_series(folder / "apart" / "2", HU)
    (folder / "patient 7").mkdir()
    save(folder / "patient 7" / "ct.nii", HU, "RAS")
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
    notes, *failures, summary = [
        line for line in done.stderr.splitlines() if line.startswith("evaluation.predict: ")
    ]
    assert "Traceback" not in done.stderr
    assert notes.endswith("empty: no DICOM file in it, passed over")
    assert (
        f"{len(rules)} of {len(rules) + 2} volumes failed; {out / 'volumes.json'} lists them"
        in summary
    )
    assert len(failures) == len(rules)
    for name, rule in rules.items():
        assert sum(f"{source / name}" in line and rule in line for line in failures) == 1, (
            name,
            failures,
        )
    assert sorted(path.name for path in out.iterdir()) == [
        *("Müller CT.nii.gz", "a ñ.1.nii.gz", "volumes.csv", "volumes.json")
    ]
    np.testing.assert_array_equal(read(out / "Müller CT.nii.gz"), LABEL.T)
    content = read_json(out / "volumes.json")
    assert [row["case"] for row in content["cases"]] == ["Müller CT", "a ñ.1"]
    assert {Path(one["input"]).name for one in content["failed"]} == set(rules)
    with (out / "volumes.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["case"], row["tumor_count"]) for row in csv.DictReader(file)] == [
            ("Müller CT", "1"),
            ("a ñ.1", "1"),
        ]
    assert f"[2/{len(rules) + 2}] a ñ.1: liver 0.2 ml, 1 tumor of 0.01 ml in all" in done.stdout


def test_a_batch_keeps_what_is_still_true(
    tmp_path: Path, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "in" / "out"  # passed over as an input
    make_good(source)
    names = ["Müller CT", "a ñ.1"]

    def work(*flags: str) -> list[str]:
        """Return which volumes are segmented (not kept)."""
        predict(source, out, *flags)
        said = capsys.readouterr().out
        return [name for name in names if f"{name}: liver" in said]

    assert work() == names
    assert work() == []
    os.utime(source / "a ñ.1.nii.gz", (1, 1))
    assert work() == ["a ñ.1"]
    (out / "Müller CT.nii.gz").unlink()
    assert work() == ["Müller CT"]
    assert work("--keep-largest") == names
    assert work("--keep-largest", "--model", "sequential") == []
    assert work() == names
    content = read_json(out / "volumes.json")
    write_json(out / "volumes.json", {**content, "networks": {}})  # as of another training
    assert work() == names


def test_an_interrupted_batch_goes_on(
    tmp_path: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_good(tmp_path / "in")
    done: list[str] = []

    def interrupted(path: Path, allow_non_hu: bool = False) -> object:
        done.append(path.name)
        if len(done) == 2:
            raise KeyboardInterrupt
        return read_image(path, allow_non_hu)

    monkeypatch.setattr(module, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("Müller CT.nii.gz", "volumes.csv", "volumes.json")
    ]
    predict(tmp_path / "in", tmp_path / "out")
    assert done == ["Müller CT", "a ñ.1.nii.gz", "a ñ.1.nii.gz"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "a ñ.1.nii.gz: needs more memory than there is"),
        (RuntimeError("of some\nlibrary"), "a ñ.1.nii.gz: RuntimeError: of some library"),
        (
            PermissionError(13, "Permission denied", "x/a ñ.1.nii.gz"),
            "x/a ñ.1.nii.gz: Permission denied",
        ),
    ],
)
def test_no_error_of_one_volume_ends_a_batch(
    tmp_path: Path,
    predict: Predict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    words: str,
) -> None:
    make_good(tmp_path / "in")
    save(tmp_path / "in" / "z.nii", HU, "RAS")

    def failing(path: Path, allow_non_hu: bool = False) -> object:
        if path.name == "a ñ.1.nii.gz":
            raise error
        return read_image(path, allow_non_hu)

    monkeypatch.setattr(module, "read_image", failing)
    with pytest.raises(InputError, match="1 of 3 volumes failed"):
        predict(tmp_path / "in", tmp_path / "out")
    assert words in capsys.readouterr().err
    assert (tmp_path / "out" / "z.nii.gz").exists()
    assert (tmp_path / "out" / "Müller CT.nii.gz").exists()


def test_the_files_of_a_failed_volume_are_taken_back(
    tmp_path: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_good(tmp_path / "in")

    def full(path: Path, labels: np.ndarray, like: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "write_labels", full)
    with pytest.raises(InputError, match="2 of 2 volumes failed"):
        predict(tmp_path / "in", tmp_path / "out", "--probabilities")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "volumes.csv",
        "volumes.json",
    ]


def test_all_that_can_be_written_beside_each_volume(tmp_path: Path, predict: Predict) -> None:
    for name in ("one", "two"):
        write_series(tmp_path / "in" / name / "inner", HU)
    predict(tmp_path / "in", tmp_path / "out", "--dicom-seg", "--probabilities")
    for name in ("one", "two"):
        assert Segments(tmp_path / "out" / f"{name}.dcm").names == {1: "liver", 2: "tumor"}
        for target in ("liver", "tumor"):
            assert (
                read(tmp_path / "out" / f"{name}_{target}_probability.nii.gz").shape
                == LABEL.T.shape
            )


def test_networks_are_traced_once(
    tmp_path: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[int] = []
    call = keras.layers.Conv2D.call

    def counting(self: keras.layers.Conv2D, inputs: object) -> object:
        traced[-1] += 1
        return call(self, inputs)

    monkeypatch.setattr(keras.layers.Conv2D, "call", counting)
    for number, n_slices in enumerate((4, 9, 30)):
        (tmp_path / "in").mkdir(exist_ok=True)
        save(
            tmp_path / "in" / f"{number}.nii.gz", scene(n_slices, SIZE + 2 * number, SIZE)[0], "RAS"
        )
        traced.append(0)
        predict(tmp_path / "in", tmp_path / f"out {number}")
    assert traced[0] == traced[1] == traced[2] > 0


REFUSALS: dict[str, tuple[Callable[[Path], object], str, str, tuple[str, ...]]] = {
    "two of one name": (
        lambda source: save(source / "a ñ.1.nii", HU, "RAS"),
        "out",
        r"a ñ\.1\.nii\.gz: would be written to a ñ\.1\.nii\.gz, as a ñ\.1\.nii is; rename one",
        (),
    ),
    "the name of a map": (
        lambda source: save(source / "a ñ.1_liver_probability.nii", HU, "RAS"),
        "out",
        r"would be written to a ñ\.1_liver_probability\.nii\.gz, as a ñ\.1\.nii\.gz is",
        ("--probabilities",),
    ),
    "not UTF-8": (
        lambda source: save(Path(os.fsdecode(os.fsencode(source) + b"/\xff.nii")), HU, "RAS"),
        "out",
        r"in/\\udcff\.nii': its name is not UTF-8; rename it",
        (),
    ),
    "nothing in it": (
        lambda source: (
            shutil.rmtree(source),
            source.mkdir(),
            (source / "README").write_text("none"),
        ),
        "out",
        "in: no NIfTI file, folder with a DICOM series or zip of one in it",
        (),
    ),
    "one output for many": (
        lambda _: None,
        "out.nii.gz",
        "must be a folder, --input is a folder of many volumes",
        (),
    ),
    "the input": (lambda _: None, "in", "in: is the input", ()),
    "among slices": (
        lambda _: None,
        "in/Müller CT/out",
        "lies in .*Müller CT, among the slices",
        (),
    ),
    "a table": (
        lambda _: None,
        "out",
        "a batch writes volumes.csv and volumes.json",
        ("--table", "t"),
    ),
    "a SEG of NIfTI": (
        lambda _: None,
        "out",
        r"a ñ\.1\.nii\.gz: --dicom-seg needs a DICOM series",
        ("--dicom-seg",),
    ),
    "one series": (
        lambda source: shutil.copytree(source / "Müller CT", source, dirs_exist_ok=True),
        "out",
        "must end in .nii or .nii.gz, --input is one volume",
        (),
    ),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_refusals_before_any_work(tmp_path: Path, predict: Predict, fault: str) -> None:
    make, output, message, flags = REFUSALS[fault]
    make_good(tmp_path / "in")
    make(tmp_path / "in")
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(InputError, match=message):
        predict(tmp_path / "in", tmp_path / output, *flags)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_a_folder_around_one_series_is_one_volume_or_a_batch_by_the_output(
    tmp_path: Path, predict: Predict
) -> None:
    write_series(tmp_path / "in" / "patient", HU)
    predict(tmp_path / "in", tmp_path / "one.nii.gz")
    predict(tmp_path / "in", tmp_path / "many")
    np.testing.assert_array_equal(
        read(tmp_path / "one.nii.gz"), read(tmp_path / "many" / "patient.nii.gz")
    )


def test_no_file_of_other_flags_stays(tmp_path: Path, predict: Predict) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_series(source / "ct", HU)
    predict(source, out, "--dicom-seg", "--probabilities")
    assert (out / "ct.dcm").is_file()
    predict(source, out, "--liver-only")
    assert sorted(path.name for path in out.iterdir()) == [
        "ct.nii.gz",
        "volumes.csv",
        "volumes.json",
    ]
    next((source / "ct").iterdir()).write_bytes(b"damaged")
    with pytest.raises(InputError, match="1 of 1 volumes failed"):
        predict(source, out)
    assert sorted(path.name for path in out.iterdir()) == ["volumes.csv", "volumes.json"]


def test_an_output_that_was_changed_is_made_again(tmp_path: Path, predict: Predict) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    make_good(source)
    predict(source, out)
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), out / "Müller CT.nii.gz")
    predict(source, out)
    np.testing.assert_array_equal(read(out / "Müller CT.nii.gz"), LABEL.T)


def test_a_linked_series_that_is_relinked_is_made_again(tmp_path: Path, predict: Predict) -> None:
    write_series(tmp_path / "one", HU)
    write_series(tmp_path / "other", HU[:, ::-1].copy())
    (tmp_path / "in" / "p").mkdir(parents=True)
    (tmp_path / "in" / "p" / "ct").symlink_to(tmp_path / "one")
    predict(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "p" / "ct").unlink()
    (tmp_path / "in" / "p" / "ct").symlink_to(tmp_path / "other")
    predict(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out" / "p.nii.gz"), LABEL[:, ::-1].T)


def test_volumes_of_another_folder_keep_their_rows(tmp_path: Path, predict: Predict) -> None:
    out = tmp_path / "out"
    make_good(tmp_path / "in")
    (tmp_path / "more").mkdir()
    save(tmp_path / "more" / "b.nii", HU, "RAS")
    predict(tmp_path / "in", out)
    predict(tmp_path / "more", out)
    assert [row["case"] for row in read_json(out / "volumes.json")["cases"]] == [
        "b",
        "Müller CT",
        "a ñ.1",
    ]
    with pytest.raises(
        InputError, match="which is not in --input, made with other networks or flags"
    ):
        predict(tmp_path / "more", out, "--keep-largest")
    assert (out / "b.nii.gz").is_file()
