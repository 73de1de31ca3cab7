"""The systems of other documents after an epoch: scored, compared, cross-validated, used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.store import Store
from data.volumes import open_volume
from evaluation.compare import score_one, too_small
from evaluation.comparison import tables
from evaluation.cross_validate import run_of_project
from evaluation.names import NO_CONTOUR
from evaluation.other_systems import load_other
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
    system = load_other(deep_run, label)
    hu = deep.image("volume-107")
    labels = system.labels(hu)
    assert labels.shape == hu.shape
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2}
    np.testing.assert_array_equal(system.labels(hu), labels)


def test_all_are_compared_in_one_table(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    flags = ("--run", deep_run, "--store", deep.path, "--out", tmp_path)
    done = run_module("evaluation.compare", *flags)
    assert done.returncode == 0, done.stderr
    assert run_module("evaluation.compare", *flags).stdout.count("already done") == len(NAMES)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["left"] == []
    assert {system["system"] for system in content["systems"]} == NAMES
    scored = {system["system"] for system in content["systems"] if not system["why"]}
    voxels = len(deep.image("volume-107")) * SIZE**2
    for row in content["cases"]:
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == voxels
    assert len(content["cases"]) == len(scored) * 2 * 2  # cases and targets
    made = run_module("evaluation.comparison", "--out", tmp_path, tmp_path / "comparison.json")
    assert made.returncode == 0, made.stderr
    table = (tmp_path / "comparison.md").read_text()
    assert all(f"| `{name}` |" in table for name in NAMES)
    costs = {system["system"]: system for system in content["systems"]}
    pipeline, unet = costs["global_local"], costs["unet_dhanush"]
    assert pipeline["predicting_parameters"] < pipeline["parameters"]
    assert unet["predicting_parameters"] == unet["parameters"]
    assert (
        costs["global_local" + NO_CONTOUR]["settings"]["postprocess"]
        == pipeline["settings"]["postprocess"][:-1]
    )
    assert "published, other split" in table
    assert (tmp_path / "fig_comparison.png").stat().st_size > 10_000


def test_a_system_that_is_not_finished_is_named(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    few = tmp_path / "run"
    for label in ("segnet", "cdnn_resnet18"):
        shutil.copytree(deep_run / label, few / label)
    shutil.copy(deep_run / "run.json", few)
    (few / "segnet" / "tumor" / "record.json").unlink()
    done = run_module("evaluation.compare", "--run", few, "--store", deep.path, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "segnet: training begun, not finished, so not scored\n" in done.stdout
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [system["system"] for system in content["systems"]] == ["cdnn_resnet18"]


def test_distances_are_left_out_at_nominal_spacing(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    few = tmp_path / "run"
    shutil.copytree(deep_run / "unet_dhanush", few / "unet_dhanush")
    shutil.copy(deep_run / "run.json", few)
    flags = ("--run", few, "--store", deep.path, "--out", tmp_path, "--nominal-spacing")
    assert run_module("evaluation.compare", *flags).returncode == 0
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert all(row["assd_mm"] is None and row["hausdorff95_mm"] is None for row in content["cases"])
    text = tables([content])
    assert "the spacing in the headers of these volumes is nominal" in text
    assert (
        "Not trained on these data: `global_local`; published, other split: liver accuracy 0.994"
        in text
    )


def test_a_case_smaller_than_the_window_costs_one_system_its_result() -> None:
    store: Any = SimpleNamespace(
        path="STORE", image=lambda case: np.zeros((12, 8, 8)), cases_of=lambda name: ["volume-1"]
    )
    assert (
        too_small({"depth": 16}, store, "test")
        == "test: volume-1 has 12 slices, the 3D window takes 16"
    )
    assert too_small({"depth": 12}, store, "test") == too_small({}, store, "test") == ""
    assert too_small(None, store, "test") == ""


def test_a_short_external_case_leaves_the_result_on_the_test_set(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    (tmp_path / "source").mkdir()
    flags = (
        "--source",
        write_cohort(tmp_path / "source", 2),
        "--size",
        SIZE,
        "--external",
        "--cohort",
        "lits-layout",
    )
    done = run_module("data.prepare", *flags, "--store", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    cohorts = {"test": deep, "external": Store.open(tmp_path / "store")}
    for name, found in (("global_local", {"test"}), ("segnet", {"test", "external"})):
        described, rows = score_one(deep_run, name, cohorts, nominal_spacing=False)
        assert {row["cohort"] for row in rows} == found
        short = "external: volume-100 has 8 slices, the 3D window takes 16"
        assert described["why"] == (short if name == "global_local" else "")
        assert all(kept <= epochs for kept, epochs in described["epochs"].values())


def test_cross_validation_tests_every_patient_once(
    deep: Store, tmp_path: Path, run_module: Command
) -> None:
    flags = (
        "--name",
        "unet_dhanush",
        "--folds",
        2,
        "--store",
        deep.path,
        "--out",
        tmp_path,
        *DEEP,
    )
    done = run_module("evaluation.cross_validate", *flags)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "cross_validation-unet_dhanush.json").read_text())
    assert content["settings"]["loss"] == "dice"
    assert content["preset"] == f"smoke+size={SIZE}"
    tested = [
        row["case"]
        for fold in content["folds"]
        for row in fold["cases"]
        if row["target"] == "liver"
    ]
    assert sorted(tested) == sorted(deep.cases)
    for number in (1, 2):
        fold = Store.open(tmp_path / f"fold-{number}")
        patients = [
            {fold.patient(case) for case in fold.cases_of(name)}
            for name in ("train", "validation", "test")
        ]
        assert sum(map(len, patients)) == len(set.union(*patients)) == DEEP_CASES
    table = (tmp_path / "cross_validation-unet_dhanush.md").read_text()
    assert "| **all** | 9 |" in table
    again = run_module("evaluation.cross_validate", *flags)
    assert again.stdout.count("already done") == 4


def test_a_training_that_breaks_is_no_mistake_of_the_user_s(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = subprocess.run
    for code, ends, status in (
        (
            "raise RuntimeError('ours')",
            "training.system failed, exit code 1; the same command goes on from here",
            1,
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            "training.system ended by signal 9; the same command goes on",
            137,
        ),
    ):

        def broken(command: list[str], code: str = code, **options: Any) -> Any:
            return real([sys.executable, "-c", code], **options)

        monkeypatch.setattr(subprocess, "run", broken)
        with pytest.raises(SystemExit) as ended:
            run_of_project("training.system", "--name", "segnet")
        assert ended.value.code == status
        said = capfd.readouterr().err
        assert ends in said.splitlines()[-1]
        assert ("RuntimeError: ours" in said) == (status == 1)


def test_cross_validation_of_no_system_makes_no_fold(
    deep: Store, tmp_path: Path, run_module: Command
) -> None:
    flags = ("--store", deep.path, "--out", tmp_path / "out", *DEEP)
    done = run_module("evaluation.cross_validate", "--name", "nope", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("evaluation.cross_validate: --name nope: unknown system")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["cdnn_resnet18", "segnet", "global_local", f"global_local{NO_CONTOUR}"]
)
def test_a_system_segments_a_volume(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command, name: str
) -> None:
    """The volumes of the store have the networks' size, so that predict gives what the comparison scores."""
    case = deep.cases_of("test")[0]
    volume = write_cohort(tmp_path, DEEP_CASES, DEEP_SLICES) / f"{case}.nii.gz"
    flags = (
        "--run",
        deep_run,
        "--input",
        volume,
        "--model",
        name,
        "--output",
        tmp_path / "labels.nii.gz",
    )
    done = run_module("evaluation.predict", *flags, "--table", tmp_path / "table")
    assert done.returncode == 0, done.stderr
    assert f"({name})" in done.stdout
    system = load_other(deep_run, name)
    assert ("on its validation data: " in done.stdout) == bool(system.weakness)
    wanted = system.labels(np.asarray(deep.image(case)))
    np.testing.assert_array_equal(
        open_volume(tmp_path / "labels.nii.gz").slices(0, DEEP_SLICES), wanted
    )
    table = json.loads((tmp_path / "table.json").read_text())
    rule = "argmax" if name == "cdnn_resnet18" else "0.5"
    assert [table["cases"][0][key] for key in ("model", "loss", "threshold_rule")] == [
        name,
        "",
        rule,
    ]
    assert set(table["networks"]) == {"system", *system.records}


@pytest.mark.parametrize("name", ["unet_dhanush", "global_local"])
def test_livers_alone_need_no_tumor_network(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command, name: str
) -> None:
    """As of one that diverged in its first epoch; nothing of it is read."""
    case = deep.cases_of("test")[0]
    volume = write_cohort(tmp_path, DEEP_CASES, DEEP_SLICES) / f"{case}.nii.gz"
    few = tmp_path / "run"
    shutil.copytree(deep_run / name, few / name)
    shutil.copy(deep_run / "run.json", few)
    record = few / name / "tumor" / "record.json"
    record.write_text(
        json.dumps({**json.loads(record.read_text()), "status": "diverged", "why": "the loss"})
    )
    (record.parent / "best.keras").unlink()
    flags = (
        "--run",
        few,
        "--input",
        volume,
        "--model",
        name,
        "--output",
        tmp_path / "l.nii.gz",
        "--liver-only",
    )
    done = run_module("evaluation.predict", *flags, "--table", tmp_path / "table")
    assert done.returncode == 0, done.stderr
    wanted = load_other(deep_run, name, liver_only=True).found(np.asarray(deep.image(case)))[1]
    np.testing.assert_array_equal(open_volume(tmp_path / "l.nii.gz").slices(0, DEEP_SLICES), wanted)
    assert set(json.loads((tmp_path / "table.json").read_text())["networks"]) == {"system", "liver"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("--model", "nope"),
            "--model nope: none of one_step, sequential, joint, nor a system of ",
        ),
        (("--model", "nope", "--loss", "ce"), "--model nope: none of"),
        (
            ("--model", "segnet", "--loss", "ce"),
            "--loss: for one_step, sequential, joint only, not --model segnet",
        ),
        (("--model", "segnet", "--threshold-rule", "roc"), "--threshold-rule: for one_step"),
        (("--model", "segnet", "--probabilities"), "--probabilities: for one_step"),
    ],
)
def test_predict_refuses_what_a_system_has_not(
    deep_run: Path, tmp_path: Path, run_module: Command, flags: tuple[str, ...], words: str
) -> None:
    volume = write_cohort(tmp_path, 1) / "volume-100.nii.gz"
    done = run_module(
        "evaluation.predict",
        "--run",
        deep_run,
        "--input",
        volume,
        "--output",
        tmp_path / "l.nii",
        *flags,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"evaluation.predict: {words}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "l.nii").exists()
