"""The systems of other documents after an epoch: scored, cross-validated, used by predict."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.files import read_json, write_json
from data.runs import NO_CONTOUR
from data.store import Store
from data.volumes import open_volume
from evaluation.cross_validate import run_module as run_of_project
from evaluation.evaluate import score_system
from evaluation.results import read_results
from evaluation.score_table import read_table, select
from evaluation.segmenter import load_segmenter
from tests.conftest import (
    DEEP,
    DEEP_CASES,
    DEEP_SLICES,
    DEEP_VARIANT,
    SIZE,
    Command,
    write_cohort,
)
from training.systems import SYSTEMS

LABELS = {*(name for name, system in SYSTEMS.items() if not system.TABLE1), DEEP_VARIANT}
NAMES = LABELS | {label + NO_CONTOUR for label in ("global_local", DEEP_VARIANT)}


@pytest.mark.parametrize("label", sorted(LABELS - {DEEP_VARIANT}))
def test_a_system_segments_a_case(label: str, deep_run: Path, deep: Store) -> None:
    system = load_segmenter(deep_run, label)
    hu = deep.image("volume-107")
    labels, livers = system.label_case(hu)
    assert labels.shape == livers.shape == hu.shape
    assert (labels.dtype, livers.dtype) == (np.uint8, bool)
    assert set(np.unique(labels)) <= {0, 1, 2}
    np.testing.assert_array_equal(system.label_case(hu)[0], labels)


def test_all_are_scored_by_one_command(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    flags = ("--run", deep_run, "--store", deep.path, "--out", tmp_path)
    done = run_module("evaluation.evaluate", *flags)
    assert done.returncode == 0, done.stderr
    again = run_module("evaluation.evaluate", *flags)
    assert again.stdout == "evaluation: already done\n"
    results = read_results(tmp_path)
    entries = {entry["system"]: entry for entry in results.summary["systems"]}
    assert entries.keys() == NAMES
    assert results.summary["left"] == []
    scored = {name for name, entry in entries.items() if entry["status"] == "ok"}
    cells = results.scores[["tp", "fp", "fn", "tn"]].sum(axis=1)
    assert set(cells) == {len(deep.image("volume-107")) * SIZE**2}
    assert len(select(results.scores, system=list(scored))) == len(scored) * 2 * 2
    pipeline, unet = entries["global_local"], entries["unet_dhanush"]
    assert pipeline["predicting_parameters"] < pipeline["parameters"]
    assert unet["predicting_parameters"] == unet["parameters"]
    assert pipeline["weak_label"]["columns"] == ["age"]
    assert "crops an epoch" in pipeline["trained_with"]
    without = entries["global_local" + NO_CONTOUR]["settings"]["postprocess"]
    assert without == pipeline["settings"]["postprocess"][:-1]


def copy_run(deep_run: Path, run: Path, *labels: str) -> Path:
    """Copy some systems of the run."""
    for label in labels:
        shutil.copytree(deep_run / label, run / label)
    shutil.copy(deep_run / "run.json", run)
    return run


def test_a_system_that_is_not_finished_is_named(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    few = copy_run(deep_run, tmp_path / "run", "segnet", "cdnn_resnet18")
    (few / "segnet" / "tumor" / "train" / "record.json").unlink()
    flags = ("--run", few, "--store", deep.path, "--out", tmp_path, "--nominal-spacing")
    done = run_module("evaluation.evaluate", *flags)
    assert done.returncode == 0, done.stderr
    assert "segnet_train: not trained yet, so not scored\n" in done.stdout
    scores = read_table(tmp_path / "scores.csv")
    assert set(scores["system"]) == {"cdnn_resnet18"}
    assert scores["assd_mm"].isna().all(), "at nominal spacing there are no distances"


def test_a_short_external_case_leaves_the_result_on_the_test_set(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    (tmp_path / "source").mkdir()
    source = write_cohort(tmp_path / "source", 2)
    flags = ("--source", source, "--size", SIZE, "--external", "--cohort", "lits-layout")
    done = run_module("data.prepare", *flags, "--store", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    cohorts = {"test": deep, "external": Store.open(tmp_path / "store")}
    for name, expected in (("global_local", {"test"}), ("segnet", {"test", "external"})):
        scored = score_system(deep_run, (name, "train"), cohorts, False, "key")
        assert set(scored.scores["cohort"]) == expected
        short = "external: volume-100 has 8 slices, the 3D window takes 16"
        assert scored.entry["why"] == (short if name == "global_local" else "")
        assert all(best <= epochs for best, epochs in scored.entry["epochs"].values())


def test_cross_validation_tests_every_patient_once(
    deep: Store, tmp_path: Path, run_module: Command
) -> None:
    flags = ("--name", "unet_dhanush", "--folds", 2, "--store", deep.path, "--out", tmp_path, *DEEP)
    done = run_module("evaluation.cross_validate", *flags)
    assert done.returncode == 0, done.stderr
    summary = read_json(tmp_path / "unet_dhanush.json")["summary"]
    assert [entry["fold"] for entry in summary["systems"]] == [1, 2]
    assert summary["systems"][0]["settings"]["loss"] == "dice"
    assert (summary["preset"], summary["left"]) == (f"smoke+size={SIZE}", [])
    scores = read_table(tmp_path / "unet_dhanush.scores.csv")
    livers = select(scores, target="liver", cohort="test", unit="whole")
    assert sorted(livers["case"]) == sorted(deep.cases)
    for number in (1, 2):
        fold = Store.open(tmp_path / f"fold-{number}")
        patients = [
            {fold.patient(case) for case in fold.cases_of(name)}
            for name in ("train", "validation", "test")
        ]
        assert sum(map(len, patients)) == len(set.union(*patients)) == DEEP_CASES
        assert set(select(livers, fold=number)["case"]) == set(fold.cases_of("test"))
    assert "| **all** | 9 |" in (tmp_path / "unet_dhanush.md").read_text()
    again = run_module("evaluation.cross_validate", *flags)
    assert again.stdout.count("already done") == 4
    assert read_table(tmp_path / "unet_dhanush.scores.csv").equals(scores)
    assert read_json(tmp_path / "unet_dhanush.json")["summary"]["systems"] == summary["systems"]


@pytest.mark.parametrize(
    ("code", "ending", "status"),
    [
        (
            "raise RuntimeError('ours')",
            "failed, exit code 1; the same command goes on from here",
            1,
        ),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9; the same command goes on", 137),
    ],
)
def test_a_training_that_breaks_is_no_mistake_of_the_user_s(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    code: str,
    ending: str,
    status: int,
) -> None:
    run = subprocess.run

    def break_down(command: list[str], **options: Any) -> Any:
        return run([sys.executable, "-c", code], **options)

    monkeypatch.setattr(subprocess, "run", break_down)
    with pytest.raises(SystemExit) as ended:
        run_of_project("training.system", "--name", "segnet")
    assert ended.value.code == status
    errors = capfd.readouterr().err
    assert f"training.system {ending}" in errors.splitlines()[-1]
    assert ("RuntimeError: ours" in errors) == (status == 1)


def test_cross_validation_of_no_system_makes_no_fold(
    deep: Store, tmp_path: Path, run_module: Command
) -> None:
    flags = ("--store", deep.path, "--out", tmp_path / "out", *DEEP)
    done = run_module("evaluation.cross_validate", "--name", "nope", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("evaluation.cross_validate: --name nope: unknown system")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def predict(
    run_module: Command, run: Path, name: str, folder: Path, *flags: object
) -> tuple[np.ndarray, dict[str, Any], str]:
    """Segment the first test case; return labels, table and output of the command."""
    volume = write_cohort(folder, DEEP_CASES, DEEP_SLICES) / "volume-107.nii.gz"
    paths = ("--run", run, "--input", volume, "--output", folder / "labels.nii.gz")
    done = run_module(
        "evaluation.predict", *paths, "--model", name, "--table", folder / "table", *flags
    )
    assert done.returncode == 0, done.stderr
    labels = open_volume(folder / "labels.nii.gz").slices(0, DEEP_SLICES)
    return labels, read_json(folder / "table.json"), done.stdout


@pytest.mark.parametrize(
    "name", ["cdnn_resnet18", "segnet", "global_local", f"global_local{NO_CONTOUR}"]
)
def test_a_system_segments_a_volume(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command, name: str
) -> None:
    """The volumes have the networks' size, so that predict gives what is scored."""
    labels, table, said = predict(run_module, deep_run, name, tmp_path)
    system = load_segmenter(deep_run, name)
    assert f"({name})" in said
    assert ("on its validation data: " in said) == bool(system.weakness)
    expected, _ = system.label_case(np.asarray(deep.image("volume-107")))
    np.testing.assert_array_equal(labels, expected)
    rule = "argmax" if name == "cdnn_resnet18" else "0.5"
    columns = [table["cases"][0][key] for key in ("model", "loss", "threshold_rule")]
    assert columns == [name, "", rule]
    assert set(table["networks"]) == {"system", *system.records}


@pytest.mark.parametrize("name", ["unet_dhanush", "global_local"])
def test_livers_alone_need_no_tumor_network(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command, name: str
) -> None:
    """As of one that diverged in its first epoch; nothing of it is read."""
    few = copy_run(deep_run, tmp_path / "run", name)
    path = few / name / "tumor" / "train" / "record.json"
    write_json(path, {**read_json(path), "status": "diverged", "why": "the loss"})
    path.with_name("best.keras").unlink()
    labels, table, _ = predict(run_module, few, name, tmp_path, "--liver-only")
    system = load_segmenter(deep_run, name, liver_only=True)
    np.testing.assert_array_equal(
        labels, system.label_case(np.asarray(deep.image("volume-107")))[1]
    )
    assert set(table["networks"]) == {"system", "liver"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model", "nope"), "--model nope: no finished system of "),
        (("--model", "segnet", "--loss", "ce"), "--loss ce: segnet has not finished it"),
        (("--model", "segnet", "--threshold-rule", "roc"), "--threshold-rule: segnet decides by a"),
        (("--model", "segnet", "--probabilities"), "--probabilities: segnet decides by a rule of"),
    ],
)
def test_predict_refuses_what_a_system_has_not(
    deep_run: Path, tmp_path: Path, run_module: Command, flags: tuple[str, ...], words: str
) -> None:
    volume = write_cohort(tmp_path, 1) / "volume-100.nii.gz"
    paths = ("--run", deep_run, "--input", volume, "--output", tmp_path / "l.nii")
    done = run_module("evaluation.predict", *paths, *flags)
    assert done.returncode == 2
    assert done.stderr.startswith(f"evaluation.predict: {words}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "l.nii").exists()
