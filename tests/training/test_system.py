"""The other systems in smoke: each is trained, scored, compared and cross-validated; what they refuse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.backend import keras, load_network
from data.command import InputError, run_command
from data.store import Store
from data.volumes import open_volume
from evaluation.compare import score_one, too_small
from evaluation.comparison import tables
from evaluation.cross_validate import run_of_project
from evaluation.names import NO_CONTOUR
from evaluation.other_systems import finished_names, load_other
from tests.conftest import Command, write_cohort
from training import system as system_command
from training.callbacks import Checkpoint, read_log
from training.losses import BalancedBinaryCrossentropy, BalancedCategoricalCrossentropy
from training.overlap_losses import DiceFocalRatio, DiceLoss
from training.presets import PRESETS
from training.run import Run, open_run, with_change
from training.stages import start_anew
from training.system import FIXED, check_cohort, main, never_decided, train_network, trained_alike
from training.system_networks import build, loss_of, weak_label
from training.system_presets import SYSTEMS, VARIANTS, describe, in_small, settings_of, system_named

CASES, SLICES, SIZE = 9, 20, 32
SMALL = ("--preset", "smoke", "--set-preset", f"size={SIZE}")
VARIANT = "global_local_vae"
LABELS = {*SYSTEMS, VARIANT}
NAMES = LABELS | {label + NO_CONTOUR for label in ("global_local", VARIANT)}


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory, run_module: Command) -> Store:
    """Nine cases of 20 slices with clinical data: six train, one validates, two are for the test."""
    source = write_cohort(tmp_path_factory.mktemp("deep"), CASES, SLICES)
    rows = [f"volume-{100 + k},{50 + k},{'yes' if k % 2 else 'no'}" for k in range(CASES)]
    (source / "clinical.csv").write_text("\n".join(["case,age,cirrhosis", *rows, ""]))
    path = tmp_path_factory.mktemp("stores") / "store"
    sets = ("--test", "107,108", "--validation", 106)
    done = run_module("data.prepare", "--source", source, "--store", path, "--size", SIZE, *sets)
    assert done.returncode == 0, done.stderr
    return Store.open(path)


@pytest.fixture(scope="module")
def run(deep: Store, tmp_path_factory: pytest.TempPathFactory, run_module: Command) -> Path:
    """A run directory with every system and a variant."""
    path = tmp_path_factory.mktemp("runs") / "run"
    for name in ("all", VARIANT):
        done = run_module(
            "training.system", "--name", name, "--store", deep.path, "--run", path, *SMALL
        )
        assert done.returncode == 0, done.stderr
        assert "left out" not in done.stdout
    for record in path.glob("systems/*/*/record.json"):
        content = json.loads(record.read_text())
        assert content["status"] in ("ok", "collapsed")
        # Whether a network finds anything after one epoch is a matter of the machine's arithmetic.
        record.write_text(json.dumps({**content, "status": "ok", "why": ""}))
    return path


def test_every_system_is_trained(run: Path) -> None:
    assert set(finished_names(run)) == NAMES
    for label in LABELS:
        content = json.loads((run / "systems" / label / "system.json").read_text())
        for target in content["settings"]["targets"]:
            record = json.loads((run / "systems" / label / target / "record.json").read_text())
            assert record["fit"]["epochs"] == 1
            assert record["fit"]["train_s"] > 0
            assert not list((run / "systems" / label / target).glob("last-*"))


def test_a_second_call_does_nothing(run: Path, deep: Store, run_module: Command) -> None:
    done = run_module(
        "training.system", "--name", "segnet", "--store", deep.path, "--run", run, *SMALL
    )
    assert done.stdout == "segnet liver: already done\nsegnet tumor: already done\n"


def test_a_liver_network_that_would_be_the_same_is_not_trained_again(
    run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    few = tmp_path / "run"
    shutil.copytree(run / "systems" / "global_local", few / "systems" / "global_local")
    shutil.copy(run / "run.json", few)
    name, weak = "global_local_no_weak_label", few / "systems" / "global_local"
    done = run_module("training.system", "--name", name, "--store", deep.path, "--run", few, *SMALL)
    assert done.returncode == 0, done.stderr
    assert f"{name} liver: that of global_local, trained with the same settings" in done.stdout
    without = few / "systems" / name
    assert (without / "liver" / "best.keras").read_bytes() == (
        weak / "liver" / "best.keras"
    ).read_bytes()
    assert "weak_label" not in json.loads((without / "tumor" / "record.json").read_text())
    assert not list(without.glob(".*"))
    # The VAE branch changes it.
    smoke = PRESETS["smoke"]
    plain = in_small(SYSTEMS["global_local"], smoke)
    found = {
        change: trained_alike(
            Run(few, deep, smoke, 0), with_change(plain, change, FIXED), "liver", None
        )
        for change in ("ratio_weight=0.1", "vae_weight=0.1")
    }
    assert found["ratio_weight=0.1"] is not None
    assert found["vae_weight=0.1"] is None


def test_options_change_what_they_name(run: Path, deep: Store) -> None:
    """The VAE branch learns only where its loss has a weight."""
    smoke = PRESETS["smoke"]
    for label, learns in (("global_local", False), ("global_local_vae", True)):
        documented, changes = system_named(label)
        plain = in_small(documented, smoke)
        changed = with_change(plain, changes[0], FIXED) if changes else plain
        start_anew(Run(run, deep, smoke, 0), plain.precision)  # as training did
        ends = (
            build(changed, "liver", SIZE, smoke),
            load_network(run / "systems" / label / "liver" / "best.keras"),
        )
        begun, ended = (
            [
                np.array(weight)
                for layer in network.layers
                if layer.name.startswith("vae_")
                for weight in layer.weights
            ]
            for network in ends
        )
        moved = [not np.array_equal(one, other) for one, other in zip(begun, ended, strict=True)]
        assert moved
        assert any(moved) == learns
    tumor = json.loads((run / "systems" / "global_local" / "tumor" / "record.json").read_text())
    assert tumor["weak_label"]["columns"] == ["age"]  # six rows leave room for one feature
    assert tumor["weak_label"]["labels"].keys() == {f"volume-{k}" for k in range(100, 107)}


@pytest.mark.parametrize("label", sorted(SYSTEMS))
def test_a_system_segments_a_case(label: str, run: Path, deep: Store) -> None:
    system = load_other(run, label)
    hu = deep.image("volume-107")
    labels = system.labels(hu)
    assert labels.shape == hu.shape
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2}
    np.testing.assert_array_equal(system.labels(hu), labels)


def test_all_are_compared_in_one_table(
    run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    flags = ("--run", run, "--store", deep.path, "--out", tmp_path)
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
    run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    few = tmp_path / "run"
    for label in ("segnet", "cdnn_resnet18"):
        shutil.copytree(run / "systems" / label, few / "systems" / label)
    shutil.copy(run / "run.json", few)
    (few / "systems" / "segnet" / "tumor" / "record.json").unlink()
    done = run_module("evaluation.compare", "--run", few, "--store", deep.path, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "segnet: training begun, not finished, so not scored\n" in done.stdout
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [system["system"] for system in content["systems"]] == ["cdnn_resnet18"]


def test_distances_are_left_out_at_nominal_spacing(
    run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    few = tmp_path / "run"
    shutil.copytree(run / "systems" / "unet_dhanush", few / "systems" / "unet_dhanush")
    shutil.copy(run / "run.json", few)
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


def test_an_interrupted_training_in_3d_resumes_to_the_same_weights(
    deep: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam's moments, the draws of the latent variables, the places of the crops."""
    documented, changes = system_named("global_local_vae")
    system = with_change(in_small(documented, PRESETS["smoke"]), changes[0], FIXED)
    system = with_change(system, "tumor_epochs=2", FIXED)
    run = Run(tmp_path, deep, PRESETS["smoke"], 0)
    write_state = Checkpoint._write_state

    def stop_after_one(checkpoint: Checkpoint) -> None:
        write_state(checkpoint)
        if checkpoint.epochs_done == 1:
            raise KeyboardInterrupt

    straight, resumed = tmp_path / "straight" / "tumor", tmp_path / "resumed" / "tumor"
    train_network(run, system, "tumor", straight, None)
    monkeypatch.setattr(Checkpoint, "_write_state", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        train_network(run, system, "tumor", resumed, None)
    monkeypatch.undo()
    keras.utils.set_random_seed(99)  # what a new process would not share
    assert train_network(run, system, "tumor", resumed, None)["fit"]["epochs"] == 2
    for one, other in zip(
        *(read_log(folder / "log.csv") for folder in (resumed, straight)), strict=True
    ):
        assert one == pytest.approx(other, rel=1e-4)


def test_slices_smaller_than_the_window_are_refused() -> None:
    store: Any = SimpleNamespace(
        path="STORE", size=16, cases={"volume-1": {}}, image=lambda case: np.zeros((16, 16, 16))
    )
    run: Any = SimpleNamespace(store=store)
    with pytest.raises(
        InputError, match=r"^STORE: slices of 16 px, the tumor's 3D window takes 32$"
    ):
        check_cohort(run, in_small(SYSTEMS["global_local"], PRESETS["smoke"]))


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
    run: Path, deep: Store, tmp_path: Path, run_module: Command
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
        described, rows = score_one(run, name, cohorts, nominal_spacing=False)
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
        *SMALL,
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
        assert sum(map(len, patients)) == len(set.union(*patients)) == CASES
    table = (tmp_path / "cross_validation-unet_dhanush.md").read_text()
    assert "| **all** | 9 |" in table
    again = run_module("evaluation.cross_validate", *flags)
    assert again.stdout.count("already done") == 4


def test_an_encoder_begins_with_the_weights_of_a_file(
    run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    """With a rate so small that nothing moves, the encoder ends as the file has it; another network refuses it."""
    network = load_network(run / "systems" / "cdnn_resnet18" / "classes" / "best.keras")
    encoder = [
        layer for layer in network.layers if layer.name.startswith("encoder_") and layer.weights
    ]
    arrays = {
        f"{layer.name}/{weight.name}": np.array(weight)
        for layer in encoder
        for weight in layer.weights
    }
    kernels = {name: array + 1 for name, array in arrays.items() if name.endswith("kernel")}
    np.savez(tmp_path / "w.npz", **{**arrays, **kernels})
    flags = (
        "--store",
        deep.path,
        "--run",
        tmp_path / "run",
        *SMALL,
        "--weights",
        tmp_path / "w.npz",
    )
    done = run_module("training.system", "--name", "cdnn_alexnet", *flags)
    assert done.returncode == 2
    assert f"{tmp_path / 'w.npz'}: weights of another architecture than cdnn_alexnet" in done.stderr
    assert not (tmp_path / "run").exists()
    slow = ("--label", "pretrained", "--set", "learning_rate=1e-12")
    done = run_module("training.system", "--name", "cdnn_resnet18", *flags, *slow)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "systems" / "pretrained"
    found = load_network(folder / "classes" / "best.keras")
    for name, kernel in kernels.items():
        np.testing.assert_allclose(
            np.array(found.get_layer(name.split("/")[0]).kernel), kernel, atol=1e-6
        )
    assert json.loads((folder / "system.json").read_text())["settings"]["weights_sha256"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--name", "nope"), "--name nope: unknown system"),
        (("--name", "segnet", "--label", "../x"), "--label ../x: must be letters"),
        (("--name", "segnet", "--weights", "w.npz"), "has no ImageNet weights"),
        (("--name", "cdnn_alexnet", "--weights", "w.npz"), "--weights w.npz: no such file"),
        (
            ("--name", "segnet", "--label", "one_step_ce"),
            "--label one_step_ce: is, or could be, another system's name",
        ),
        (
            ("--name", "segnet", "--label", "cdnn_alexnet"),
            "--label cdnn_alexnet: is, or could be, another system's",
        ),
        (
            ("--name", "segnet", "--label", f"segnet{NO_CONTOUR}"),
            f"--label segnet{NO_CONTOUR}: is, or could be",
        ),
        (("--name", "segnet", "--set", "epochs=2"), "--set epochs=2: needs --label"),
        (
            ("--name", "segnet", "--label", "x", "--set", "epochs=0"),
            "--set epochs=0: epochs is out of its range: 0",
        ),
        (
            ("--name", "segnet", "--label", "x", "--set", "upsampling=skips"),
            "no field upsampling that can be changed",
        ),
        (
            ("--name", "segnet", "--label", "x", "--set", "architecture=unet"),
            "no field architecture that can be changed",
        ),
        (
            ("--name", "global_local", "--label", "x", "--set", "filters=12"),
            "global_local: filters must be",
        ),
        (
            ("--name", "segnet", "--set-preset", "x=1"),
            "--set-preset x=1: no field x that can be changed",
        ),
        (("--name", "all", "--label", "x"), "--name all: takes no --label"),
        (
            ("--name", "global_local", "--label", "x", "--set", "depth=48"),
            "volume-100 has 20 slices, the 3D window takes 48",
        ),
    ],
)
def test_bad_flags_are_one_line(
    flags: tuple[str, ...],
    words: str,
    deep: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: starting TensorFlow for each would take a minute and a half."""
    command = ["training.system", *flags, "--store", deep.path, "--run", tmp_path / "run", *SMALL]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    with pytest.raises(SystemExit) as stopped:
        run_command(main, "training.system")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_slices_of_another_size_name_the_flag_that_helps(deep: Store, tmp_path: Path) -> None:
    """`--set` of this command changes the system, that of the stages the preset."""
    for stage, flag in (("system", "--set-preset"), ("liver", "--set")):
        with pytest.raises(InputError, match=rf"\({flag} size=32 trains on them\)"):
            open_run(tmp_path / "run", deep.path, "demo", 0, [], stage)


def test_other_settings_under_the_same_label_are_refused(
    run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    changed = tmp_path / "run"
    shutil.copytree(run, changed)
    systems = changed / "systems"
    for label, now, before in (
        ("segnet", '"filters": 8', '"filters": 4'),
        ("korabelnikov", '"weights_sha256": null', '"weights_sha256": "a"'),
    ):
        path = systems / label / "system.json"
        path.write_text(path.read_text().replace(now, before))
    shutil.rmtree(systems / "unet_dhanush" / "tumor")
    why = f"training.system: {systems / 'segnet'}: begun with other settings; another --label keeps both\n"
    done = run_module(
        "training.system", "--name", "segnet", "--store", deep.path, "--run", changed, *SMALL
    )
    assert (done.returncode, done.stderr) == (2, why)
    every = run_module(
        "training.system", "--name", "all", "--store", deep.path, "--run", changed, *SMALL
    )
    assert (every.returncode, every.stderr) == (2, why)
    assert (
        f"korabelnikov: left out: {systems / 'korabelnikov'}: begun with a file of weights\n"
        in every.stdout
    )
    assert (systems / "unet_dhanush" / "tumor" / "record.json").is_file(), "the others are trained"
    assert not (systems / "segnet" / "liver" / "state.json").exists()


def test_a_cohort_without_clinical_rows_is_refused(
    deep: Store, tmp_path: Path, run_module: Command
) -> None:
    path = tmp_path / "store"
    shutil.copytree(deep.path, path)
    info = json.loads((path / "store.json").read_text())
    del info["cases"]["volume-102"]["clinical"]
    (path / "store.json").write_text(json.dumps(info))
    flags = ("--store", path, "--run", tmp_path / "run", *SMALL)
    done = run_module("training.system", "--name", "global_local", *flags)
    assert done.returncode == 2
    assert (
        f"{path}: no clinical row for volume-102; the cohort needs a clinical table" in done.stderr
    )
    assert not (tmp_path / "run").exists()


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


def test_the_weak_label_is_fitted_on_training_cases_alone() -> None:
    """Training ratios are age / 1000; whatever the ratio of the validation case, its label is that line's, 0.09."""
    ages = [*range(40, 46), 90]
    for wild in (0.001, 0.5):
        cases = {f"c{k}": {"clinical": {"age": age}} for k, age in enumerate(ages)}
        voxels = {
            f"c{k}": round(1000 * (age / 1000 if k < 6 else wild)) for k, age in enumerate(ages)
        }
        labels = {
            case: np.repeat([2, 1], [n, 1000 - n]).astype(np.uint8) for case, n in voxels.items()
        }
        store: Any = SimpleNamespace(
            path="STORE", cases=cases, label=labels.__getitem__, patient=lambda case: case
        )
        said: dict[str, Any] = {}
        weak = weak_label(store, list(cases)[:6], list(cases)[6:], said)
        assert weak == pytest.approx({case: ages[k] / 1000 for k, case in enumerate(cases)})
        assert said["weak_label"]["r2_training"] == pytest.approx(1)
        assert said["weak_label"]["reference_ratios"]["c6"] == pytest.approx(wild)


def test_cross_validation_of_no_system_makes_no_fold(
    deep: Store, tmp_path: Path, run_module: Command
) -> None:
    flags = ("--store", deep.path, "--out", tmp_path / "out", *SMALL)
    done = run_module("evaluation.cross_validate", "--name", "nope", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("evaluation.cross_validate: --name nope: unknown system")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["cdnn_resnet18", "segnet", "global_local", f"global_local{NO_CONTOUR}"]
)
def test_a_system_segments_a_volume(
    run: Path, deep: Store, tmp_path: Path, run_module: Command, name: str
) -> None:
    """The volumes of the store have the networks' size, so that predict gives what the comparison scores."""
    case = deep.cases_of("test")[0]
    volume = write_cohort(tmp_path, CASES, SLICES) / f"{case}.nii.gz"
    flags = (
        "--run",
        run,
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
    system = load_other(run, name)
    assert ("on its validation data: " in done.stdout) == bool(system.weakness)
    wanted = system.labels(np.asarray(deep.image(case)))
    np.testing.assert_array_equal(open_volume(tmp_path / "labels.nii.gz").slices(0, SLICES), wanted)
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
    run: Path, deep: Store, tmp_path: Path, run_module: Command, name: str
) -> None:
    """As of one that diverged in its first epoch; nothing of it is read."""
    case = deep.cases_of("test")[0]
    volume = write_cohort(tmp_path, CASES, SLICES) / f"{case}.nii.gz"
    few = tmp_path / "run"
    shutil.copytree(run / "systems" / name, few / "systems" / name)
    shutil.copy(run / "run.json", few)
    record = few / "systems" / name / "tumor" / "record.json"
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
    wanted = load_other(run, name, liver_only=True).found(np.asarray(deep.image(case)))[1]
    np.testing.assert_array_equal(open_volume(tmp_path / "l.nii.gz").slices(0, SLICES), wanted)
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
    run: Path, tmp_path: Path, run_module: Command, flags: tuple[str, ...], words: str
) -> None:
    volume = write_cohort(tmp_path, 1) / "volume-100.nii.gz"
    done = run_module(
        "evaluation.predict",
        "--run",
        run,
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


def test_a_split_by_slice_is_refused(tmp_path: Path, cohort: Path, run_module: Command) -> None:
    made = ("--source", cohort, "--store", tmp_path / "store", "--size", SIZE, "--by-slice")
    assert run_module("data.prepare", *made).returncode == 0
    flags = ("--name", "all", "--store", tmp_path / "store", "--run", tmp_path / "run", *SMALL)
    done = run_module("training.system", *flags)
    assert done.returncode == 2
    assert "split by slice; the other systems are scored on whole cases, by patient" in done.stderr
    assert not (tmp_path / "run").exists()


def test_every_system_takes_only_the_losses_it_has() -> None:
    """What the record says is what is trained."""
    kinds = {
        "cross_entropy": (BalancedCategoricalCrossentropy, BalancedBinaryCrossentropy),
        "dice": (DiceLoss,),
        "dice_focal": (DiceFocalRatio,),
    }
    taken = set()
    for name, system in SYSTEMS.items():
        for loss, wanted in kinds.items():
            try:
                changed = with_change(system, f"loss={loss}", FIXED)
            except InputError:
                continue
            taken.add((name, loss))
            assert all(isinstance(loss_of(changed, target), wanted) for target in system.targets)
    own = {(name, "cross_entropy") for name in SYSTEMS if name != "global_local"}
    assert taken == own | {
        ("unet_dhanush", "dice"),
        ("segnet", "dice"),
        ("global_local", "dice_focal"),
    }


def test_settings_are_the_documents_unless_the_preset_is_small() -> None:
    alexnet, _ = system_named("cdnn_alexnet")
    assert in_small(alexnet, PRESETS["paper"]) == alexnet
    stated = settings_of(alexnet)
    wanted = {
        "learning_rate": 1e-4,
        "momentum": 0.9,
        "epochs": 40,
        "optimizer": "sgd",
        "input": "equalised",
    }
    assert {name: stated[name] for name in wanted} == wanted
    small = settings_of(in_small(alexnet, PRESETS["demo"]))
    assert {name for name in stated if small[name] != stated[name]} == {
        "filters",
        "epochs",
        "batch_size",
        "learning_rate",
    }
    assert "learning_rate = 0.0001    [III.B]" in describe(alexnet, PRESETS["paper"])
    assert (
        "learning_rate = 0.01    [under demo, where steps are few and cores two; documented 0.0001: III.B]"
        in (describe(alexnet, PRESETS["demo"]))
    )
    pipeline = settings_of(system_named("global_local")[0])
    wanted = {
        "ratio_weight": 0.5,
        "filters": 16,
        "latent": 256,
        "dropout": 0.2,
        "optimizer": "adam",
    }
    wanted |= {"epochs": 300, "tumor_epochs": None}
    assert {name: pipeline[name] for name in wanted} == wanted
    assert pipeline["window_hu"] == [-150, 250]
    assert pipeline["tumor_window_hu"] == [-200, 250]


def test_the_networks_in_3d_train_in_single_precision() -> None:
    """Whatever the preset asks for: in bfloat16 their gradients were not finite."""
    run: Any = SimpleNamespace(seed=0, preset=SimpleNamespace(precision="mixed_bfloat16"))
    assert {name for name, system in SYSTEMS.items() if system.precision} == {"global_local"}
    start_anew(run, SYSTEMS["global_local"].precision)
    assert keras.config.dtype_policy().name == "float32"


def test_targets_that_are_nowhere_the_most_probable_class_are_named() -> None:
    """Each batch gives its own shares back: (batch, rows, columns, classes)."""
    model: Any = SimpleNamespace(predict_on_batch=lambda shares: shares)
    other, liver, tumor = ([[[[float(k == place) for k in range(3)]]]] for place in range(3))
    for batches, wanted in (
        ([other], ["liver", "tumor"]),
        ([other, liver], ["tumor"]),
        ([tumor, other], []),
    ):
        validation: Any = [(np.array(batch), None) for batch in batches]
        assert never_decided(model, validation) == wanted


def test_every_value_names_its_source() -> None:
    """A section or table of the document, what was reported of it, or an assumption with its reason."""
    place = re.compile(
        r"(I{1,3}(\.[A-E])?|Table \d|\d\.\d|text|assumed|reported of [a-z, ]+): \w.*|I{1,3}\.[A-E]"
    )
    for system in SYSTEMS.values():
        for entry in fields(system):
            if entry.name not in ("name", "document", "architecture"):
                assert place.fullmatch(entry.metadata["source"]), f"{system.name} {entry.name}"


def test_every_variant_is_a_system_with_changes() -> None:
    for label, (name, changes) in VARIANTS.items():
        system, found = system_named(label)
        assert (system, found) == (SYSTEMS[name], changes)
        for change in changes:
            assert with_change(system, change, FIXED) != system


def test_all_variants_are_trained_by_one_name(
    deep: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = {}
    monkeypatch.setattr(
        system_command, "check_networks", lambda *given: None
    )  # the runs above check them
    monkeypatch.setattr(
        system_command, "train_system", lambda run, system, label: trained.update({label: system})
    )
    command = [
        "training.system",
        "--name",
        "variants",
        "--store",
        deep.path,
        "--run",
        tmp_path / "run",
        *SMALL,
    ]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    main()
    assert trained.keys() == VARIANTS.keys()
    for label, (name, changes) in VARIANTS.items():
        plain = in_small(SYSTEMS[name], PRESETS["smoke"])
        assert trained[label] != plain
        for change in changes:
            plain = with_change(plain, change, FIXED)
        assert trained[label] == plain


def test_the_ratio_is_penalised_with_a_weak_label_alone() -> None:
    documented, changes = system_named("global_local_no_weak_label")
    without = with_change(documented, changes[0], FIXED)
    weights = {
        (system.weak_label, target): loss_of(system, target).ratio_weight
        for system in (documented, without)
        for target in ("liver", "tumor")
    }
    assert weights == {
        ("clinical", "liver"): 0,
        ("clinical", "tumor"): 0.5,
        ("none", "liver"): 0,
        ("none", "tumor"): 0,
    }


def test_a_value_out_of_range_is_refused() -> None:
    for change in (
        "upsampling=bilinear",
        "variant=x",
        "momentum=1.0",
        "window_hu=('a','b')",
        "learning_rate=1e999",
    ):
        with pytest.raises(InputError, match="is out of its range"):
            with_change(system_named("cdnn_alexnet")[0], change, FIXED)
    for change in (
        "depth=24",
        "weak_label=maybe",
        "local_share=0.0",
        "dropout=1.0",
        "postprocess=('nope',)",
    ):
        with pytest.raises(InputError, match="is out of its range"):
            with_change(system_named("global_local")[0], change, FIXED)
