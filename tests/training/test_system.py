"""`training.system`: every system of the other documents is trained; what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import training.train
from data.backend import keras, load_network
from data.command import run_command
from data.inputs import INPUTS
from data.store import Store
from tests.conftest import DEEP, DEEP_VARIANT, SIZE, Command
from training.callbacks import Checkpoint, read_log
from training.network import start_anew
from training.presets import PRESETS
from training.run import Run, change_field
from training.system import main
from training.systems import SYSTEMS, VARIANTS, find_system
from training.systems.base import Step
from training.train import find_alike, train_network


def test_every_system_is_trained_and_says_what_it_is(deep_run: Path) -> None:
    labels = [name for name, system in SYSTEMS.items() if not system.TABLE1]
    for label in (*labels, DEEP_VARIANT):
        content = json.loads((deep_run / label / "system.json").read_text())
        system = find_system(label)[0]
        assert content["name"] == content["title"] == label
        assert (content["kind"], content["phases"]) == (system.name, ["train"])
        assert content["decision"] == ("argmax" if content["networks"] == ["classes"] else "half")
        assert content["table1"] is False
        assert content["settings"]["weights_sha256"] is None
        assert {path.name for path in (deep_run / label).iterdir()} == {
            "system.json",
            *content["networks"],
        }
        for network in content["networks"]:
            folder = deep_run / label / network / "train"
            record = json.loads((folder / "record.json").read_text())
            assert (record["schema"], record["system"], record["network"]) == (2, label, network)
            assert record["inputs"][network]["name"] in INPUTS
            assert record["thresholds"] == {}
            assert record["fit"]["epochs"] == 1
            assert record["fit"]["train_s"] > 0
            assert not list(folder.glob("last-*"))


def test_a_second_call_does_nothing(deep_run: Path, deep: Store, run_module: Command) -> None:
    done = run_module(
        "training.system", "--name", "segnet", "--store", deep.path, "--run", deep_run, *DEEP
    )
    assert done.stdout == "segnet liver: already done\nsegnet tumor: already done\n"


def test_a_liver_network_that_would_be_the_same_is_not_trained_again(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    few = tmp_path / "run"
    shutil.copytree(deep_run / "global_local", few / "global_local")
    shutil.copy(deep_run / "run.json", few)
    name, weak = "global_local_no_weak_label", few / "global_local"
    done = run_module("training.system", "--name", name, "--store", deep.path, "--run", few, *DEEP)
    assert done.returncode == 0, done.stderr
    assert f"{name} liver: that of global_local, trained with the same settings" in done.stdout
    without = few / name
    assert (without / "liver" / "train" / "best.keras").read_bytes() == (
        weak / "liver" / "train" / "best.keras"
    ).read_bytes()
    assert "weak_label" not in json.loads((without / "tumor" / "train" / "record.json").read_text())
    assert not list(without.glob(".*"))
    # The VAE branch changes it.
    run = Run(few, deep, PRESETS["smoke"], 0)
    plain = SYSTEMS["global_local"].under(run.preset)
    for change, alike in (("ratio_weight=0.1", True), ("vae_weight=0.1", False)):
        step = Step(run, "x", "liver", "train", "train")
        assert (find_alike(step, change_field(plain, change), None) is not None) == alike


def test_options_change_what_they_name(deep_run: Path, deep: Store) -> None:
    """The VAE branch learns only where its loss has a weight."""
    for label, learns in (("global_local", False), ("global_local_vae", True)):
        documented, changes = find_system(label)
        system = documented.under(PRESETS["smoke"])
        for change in changes:
            system = change_field(system, change)
        start_anew(0, system.precision)  # as training did
        begun = system.build("liver", SIZE, {})
        ended = load_network(deep_run / label / "liver" / "train" / "best.keras")
        before, after = (
            [
                np.array(weight)
                for layer in network.layers
                if layer.name.startswith("vae_")
                for weight in layer.weights
            ]
            for network in (begun, ended)
        )
        moved = [not np.array_equal(*pair) for pair in zip(before, after, strict=True)]
        assert moved
        assert any(moved) == learns
    tumor = json.loads((deep_run / "global_local" / "tumor" / "train" / "record.json").read_text())
    assert tumor["weak_label"]["columns"] == ["age"]  # six rows leave room for one feature
    assert tumor["weak_label"]["labels"].keys() == {f"volume-{k}" for k in range(100, 107)}


def test_an_interrupted_training_in_3d_resumes_to_the_same_weights(
    deep: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam's moments, the draws of the latent variables, the places of the crops."""
    changes = ("vae_weight=0.1", "tumor_epochs=2")
    system = SYSTEMS["global_local"].under(PRESETS["smoke"])
    for change in changes:
        system = change_field(system, change)
    run = Run(tmp_path, deep, PRESETS["smoke"], 0)
    write_state = Checkpoint._write_state

    def stop_after_one(checkpoint: Checkpoint) -> None:
        write_state(checkpoint)
        if checkpoint.epochs_done == 1:
            raise KeyboardInterrupt

    train_network(run, system, "straight", "tumor", "train")
    monkeypatch.setattr(Checkpoint, "_write_state", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        train_network(run, system, "resumed", "tumor", "train")
    monkeypatch.undo()
    keras.utils.set_random_seed(99)  # what a new process would not share
    assert train_network(run, system, "resumed", "tumor", "train")["fit"]["epochs"] == 2
    logs = (
        read_log(run.find_folder(k, "tumor", "train") / "log.csv") for k in ("resumed", "straight")
    )
    for resumed, straight in zip(*logs, strict=True):
        assert resumed == pytest.approx(straight, rel=1e-4)


def test_an_encoder_begins_with_the_weights_of_a_file(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    """With a rate at which nothing moves, the encoder ends as the file has it; others refuse it."""
    network = load_network(deep_run / "cdnn_resnet18" / "classes" / "train" / "best.keras")
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
        *DEEP,
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
    folder = tmp_path / "run" / "pretrained"
    trained = load_network(folder / "classes" / "train" / "best.keras")
    for name, kernel in kernels.items():
        np.testing.assert_allclose(
            np.array(trained.get_layer(name.split("/")[0]).kernel), kernel, atol=1e-6
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
            ("--name", "segnet", "--label", "segnet_no_contour"),
            "--label segnet_no_contour: is, or could be",
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
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: starting TensorFlow for each would take a minute and a half."""
    paths = ("--store", str(deep.path), "--run", str(tmp_path / "run"))
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: main([*flags, *paths, *DEEP]), "training.system")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_other_settings_under_the_same_label_are_refused(
    deep_run: Path, deep: Store, tmp_path: Path, run_module: Command
) -> None:
    changed = tmp_path / "run"
    shutil.copytree(deep_run, changed)
    for label, now, before in (
        ("segnet", '"filters": 8', '"filters": 4'),
        ("korabelnikov", '"weights_sha256": null', '"weights_sha256": "a"'),
    ):
        path = changed / label / "system.json"
        path.write_text(path.read_text().replace(now, before))
    shutil.rmtree(changed / "unet_dhanush" / "tumor")
    where = changed / "segnet"
    why = f"training.system: {where}: begun with other settings; another --label keeps both\n"
    done = run_module(
        "training.system", "--name", "segnet", "--store", deep.path, "--run", changed, *DEEP
    )
    assert (done.returncode, done.stderr) == (2, why)
    every = run_module(
        "training.system", "--name", "all", "--store", deep.path, "--run", changed, *DEEP
    )
    assert (every.returncode, every.stderr) == (2, why)
    assert (
        f"korabelnikov: left out: {changed / 'korabelnikov'}: begun with a file of weights\n"
        in every.stdout
    )
    assert (changed / "unet_dhanush" / "tumor" / "train" / "record.json").is_file(), (
        "the others are trained"
    )
    assert not (changed / "segnet" / "liver" / "train" / "state.json").exists()


def test_a_cohort_without_clinical_rows_is_refused(
    deep: Store, tmp_path: Path, run_module: Command
) -> None:
    path = tmp_path / "store"
    shutil.copytree(deep.path, path)
    info = json.loads((path / "store.json").read_text())
    del info["cases"]["volume-102"]["clinical"]
    (path / "store.json").write_text(json.dumps(info))
    flags = ("--store", path, "--run", tmp_path / "run", *DEEP)
    done = run_module("training.system", "--name", "global_local", *flags)
    assert done.returncode == 2
    assert (
        f"{path}: no clinical row for volume-102; the cohort needs a clinical table" in done.stderr
    )
    assert not (tmp_path / "run").exists()


def test_a_split_by_slice_is_refused(tmp_path: Path, cohort: Path, run_module: Command) -> None:
    made = ("--source", cohort, "--store", tmp_path / "store", "--size", SIZE, "--by-slice")
    assert run_module("data.prepare", *made).returncode == 0
    flags = ("--name", "all", "--store", tmp_path / "store", "--run", tmp_path / "run", *DEEP)
    done = run_module("training.system", *flags)
    assert done.returncode == 2
    assert "split by slice; the other systems are scored on whole cases, by patient" in done.stderr
    assert not (tmp_path / "run").exists()


def test_all_variants_are_trained_by_one_name(
    deep: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = {}
    # The runs above check them.
    monkeypatch.setattr(training.train, "check_system", lambda *given: None)
    monkeypatch.setattr(
        training.train, "train_system", lambda run, system, label: trained.update({label: system})
    )
    paths = ("--store", str(deep.path), "--run", str(tmp_path / "run"))
    main(["--name", "variants", *paths, *DEEP])
    assert trained.keys() == VARIANTS.keys()
    for label, (name, changes) in VARIANTS.items():
        system = SYSTEMS[name].under(PRESETS["smoke"])
        assert trained[label] != system
        for change in changes:
            system = change_field(system, change)
        assert trained[label] == system
