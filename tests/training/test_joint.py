"""The joint loss on a small store: both starts, both phases, resume, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from data.backend import load_network
from data.batches import NestedBatches, make_loader
from data.command import InputError, run_command
from data.files import write_json
from data.store import Store
from models.cascade import MASKS, split_cascade
from tests.conftest import Command
from tests.training.conftest import TINY, open_tiny
from training import joint, sweeps
from training.callbacks import Checkpoint, read_log
from training.joint import find_joint
from training.network import make_recipe
from training.presets import JOINT_MASKS
from training.run import Run
from training.systems import SYSTEMS
from training.systems.base import Step
from training.systems.joint import (
    Joint,
    check_pair,
    find_own_start,
    find_reference_medians,
    find_scaling,
    list_settings,
)
from training.train import train_network, train_system

JOINT = ("joint_epochs=(2,1)", "tumor_scaling='window'")


def open_joint(path: Path, store: Store, *changes: str) -> Run:
    return open_tiny(path, store, *JOINT, *changes)


def make_joint(
    run: Run, start: Path | None = None, epochs: int | None = None, **given: Any
) -> Joint:
    """Return joint training from a pair or from scratch; alpha, beta and mask are the preset's."""
    system = find_joint(run, start, **given)
    return system if epochs is None else replace(system, joint_epochs=(epochs, epochs))


def train_joint(run: Run, phase: str, system: Joint, name: str = "") -> dict[str, Any]:
    return train_network(run, system, "joint", "nested", phase, name)


def nested(run: Run, phase: str) -> Step:
    return Step(run, "joint", "nested", phase, phase)


@pytest.fixture(scope="module")
def pair(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a sequential pair, after cross-entropy."""
    run = open_joint(tmp_path_factory.mktemp("pair") / "run", store)
    train_system(run, SYSTEMS["sequential"].under(run.preset), phases=["ce"])
    return run


def weights(path: Path) -> list[np.ndarray]:
    values: list[np.ndarray] = load_network(path).get_weights()
    return values


def test_both_phases_from_scratch(store: Store, tmp_path: Path) -> None:
    run = open_joint(tmp_path / "run", store, "joint_epochs=(6,1)")
    records = [train_joint(run, phase, make_joint(run)) for phase in ("ce", "balanced")]
    for phase, record in zip(("ce", "balanced"), records, strict=True):
        folder = run.find_folder("joint", "nested", phase)
        assert (record["system"], record["phase"], record["start"]) == ("joint", phase, "scratch")
        assert record["thresholds"].keys() == record["validation"].keys() == {"liver", "tumor"}
        assert record["mask_s1"] == record["thresholds"]["liver"]["roc"]
        assert (folder / "masks" / "masks.json").is_file()
        model = load_network(folder / "best.keras")
        assert model.get_layer("mask").s1 == record["mask_s1"]
        assert record["fit"]["parameters"] == sum(
            part.count_params() for part in split_cascade(model)
        )
        assert list(folder.glob("last-*")) == []
    ce, balanced = records
    assert ce["class_weights"] == {"liver": [1, 1], "tumor": [1, 1]}
    assert balanced["class_weights"]["tumor"][1] > balanced["class_weights"]["liver"][1] > 1
    assert ce["validation"]["liver"]["best_iou"] > 0.5
    log = read_log(run.find_folder("joint", "nested", "ce") / "log.csv")
    assert {"val_liver_iou", "val_tumor_iou", "val_liver_iou_at_half", "val_iou"} <= log[0].keys()
    assert log[0]["val_iou"] == pytest.approx(
        (log[0]["val_liver_iou"] + log[0]["val_tumor_iou"]) / 2, rel=1e-4
    )
    assert train_joint(run, "ce", make_joint(run)) == ce, "a finished phase is left as it is"


def test_from_a_pair_it_starts_with_the_weights_and_mask_of_the_pair(
    pair: Run, store: Store, tmp_path: Path
) -> None:
    run = open_joint(tmp_path / "run", store, "learning_rate_ce=1e-12")
    record = train_joint(run, "ce", make_joint(run, pair.path, epochs=1))
    nested = load_network(run.find_folder("joint", "nested", "ce") / "best.keras")
    assert record["start"] == "pair"
    assert record["pair"]["preset"] == pair.preset.name
    assert record["begun_s1"] == pair.read_record("sequential", "tumor", "ce")["mask_s1"]
    for part, network in zip(("liver", "tumor"), split_cascade(nested), strict=True):
        for found, wanted in zip(
            network.get_weights(),
            weights(pair.find_folder("sequential", part, "ce") / "best.keras"),
            strict=True,
        ):
            np.testing.assert_allclose(found, wanted, atol=1e-6)
        before = pair.read_record("sequential", part, "ce")
        assert record["thresholds"][part] == pytest.approx(before["thresholds"][part], abs=1e-3)
        assert record["validation"][part]["best_iou"] == pytest.approx(
            before["validation"][part]["best_iou"], abs=0.01
        )


def test_the_tumor_term_alone_moves_the_liver_network(
    pair: Run, store: Store, tmp_path: Path
) -> None:
    """With alpha = 0 and a soft mask L moves; behind a hard mask not, nor does T with beta = 0."""
    settings: dict[str, Any]
    moved = {}
    for name, settings in (
        ("soft", {"alpha": 0, "beta": 1}),
        ("hard", {"alpha": 0, "beta": 1, "mask": "hard"}),
        ("liver", {"alpha": 1, "beta": 0}),
    ):
        run = open_joint(tmp_path / name, store)
        train_joint(run, "ce", make_joint(run, pair.path, epochs=1, **settings))
        for part, network in zip(
            ("liver", "tumor"),
            split_cascade(load_network(run.find_folder("joint", "nested", "ce") / "best.keras")),
            strict=True,
        ):
            before = weights(pair.find_folder("sequential", part, "ce") / "best.keras")
            moved[name, part] = max(
                float(np.abs(now - old).max())
                for now, old in zip(network.get_weights(), before, strict=True)
            )
    assert moved["soft", "liver"] > 1e-4
    assert moved["hard", "liver"] == 0
    assert min(moved["soft", "tumor"], moved["hard", "tumor"], moved["liver", "liver"]) > 1e-4
    assert moved["liver", "tumor"] == 0


def test_an_interrupted_phase_resumes_to_the_same_weights(
    pair: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_joint(tmp_path / "run", store)
    settings = make_joint(run, pair.path)
    straight = train_joint(open_joint(tmp_path / "straight", store), "ce", settings)
    write_state = Checkpoint._write_state

    def stop_after_one(checkpoint: Checkpoint) -> None:
        write_state(checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "_write_state", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        train_joint(run, "ce", settings)
    monkeypatch.undo()
    (run.find_folder("joint", "nested", "ce") / ".partial-1-last-1.weights.h5").write_bytes(
        b"of a process that was killed"
    )
    with pytest.raises(
        InputError,
        match=r"nested.ce: begun with alpha 1.0, not 2; repeat --alpha 1.0, or take another --run",
    ):
        train_joint(run, "ce", make_joint(run, pair.path, alpha=2))
    keras.utils.set_random_seed(99)
    record = train_joint(run, "ce", settings)
    assert not list(run.find_folder("joint", "nested", "ce").glob(".partial-*"))
    assert record["thresholds"] == straight["thresholds"]
    logs = [
        read_log(tmp_path / name / "joint" / "nested" / "ce" / "log.csv")
        for name in ("run", "straight")
    ]
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_what_the_nested_network_is_given(pair: Run, store: Store) -> None:
    """Channel 0 is X, channel 1 w(X) without a mask, by the median of the reference liver."""
    medians = find_reference_medians(store)
    case, row = store.slices("train")[0]
    hu, label = np.asarray(store.image(case), np.float32), np.asarray(store.label(case))
    assert medians[case] == np.median(hu[label >= 1])
    assert medians.keys() == set(store.cases_of("train") + store.cases_of("validation"))
    options = {
        "liver": {"name": "windowed", "window_hu": [-100.0, 400.0]},
        "tumor": {"name": "scaled", "scaling": "liver_median", "window_hu": [0.0, 200.0]},
    }
    load = make_loader(
        store,
        "joint",
        options,
        make_joint(pair).find_livers(nested(pair, "ce"), {"scaling": "liver_median"}),
    )
    inputs, targets = NestedBatches([(case, row)], load, 1)[0]
    np.testing.assert_allclose(
        inputs["slice"][0, ..., 0], np.clip((hu[row] + 100) / 500, 0, 1), atol=1e-6
    )
    clipped = np.clip(hu[row], 0, 200)
    assert (clipped != hu[row]).any()
    np.testing.assert_allclose(
        inputs["scaled"][0, ..., 0], (clipped - medians[case]) / 40, atol=1e-5
    )
    np.testing.assert_array_equal(targets["liver"][0, ..., 0], label[row] >= 1)
    np.testing.assert_array_equal(targets["tumor"][0, ..., 0], label[row] == 2)


def test_augmented_channels_move_alike(pair: Run, store: Store) -> None:
    window_hu = [-100.0, 400.0]
    options = {
        "liver": {"name": "windowed", "window_hu": window_hu},
        "tumor": {"name": "scaled", "scaling": "window", "window_hu": window_hu},
    }
    load = make_loader(
        store,
        "joint",
        options,
        make_joint(pair).find_livers(nested(pair, "ce"), {"scaling": "window"}),
    )
    inputs, _ = NestedBatches(store.slices("train")[:2], load, 2, seed=0, augment=True)[0]
    np.testing.assert_allclose(inputs["slice"], inputs["scaled"], atol=1e-6)
    assert inputs["slice"].max() > 0


def test_the_preset_says_weights_mask_and_start(store: Store, tmp_path: Path) -> None:
    run = open_joint(
        tmp_path / "run", store, "joint_alpha=2.0", "joint_mask='hard'", "joint_start='scratch'"
    )
    system = SYSTEMS["joint"].under(run.preset).inside(run)
    assert isinstance(system, Joint)
    settings = {"alpha": 2.0, "beta": 1.0, "mask": "hard", "start": "scratch"}
    assert list_settings(system) == settings
    changed = make_joint(run, tmp_path, beta=0.5)
    assert list_settings(changed) == {**settings, "beta": 0.5, "start": "pair"}
    recipe = make_recipe(nested(run, "ce"), system, {"liver": [1, 1], "tumor": [1, 1]})
    assert recipe.loss_weights == {"liver": 2.0, "tumor": 1.0}


def test_the_masks_that_flags_name_are_the_layer_s() -> None:
    assert JOINT_MASKS == MASKS


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--alpha", -1), "--alpha -1.0: must be a number from 0 up"),
        (("--beta", "nan"), "--beta nan: must be a number from 0 up"),
        (("--alpha", 0, "--beta", 0), "--alpha 0 --beta 0: one of them must be above 0"),
        (
            ("--set", "tumor_window_hu=(-50,150)"),
            "a pair of another window: tumor [0.0, 200.0] HU, not [-50.0, 150.0]",
        ),
        (("--set", "filters=8"), "a pair of other filters: 4, not 8"),
        (("--init", "nowhere"), "nowhere: not a run directory (no run.json in it)"),
    ],
)
def test_bad_flags_end_in_one_line(
    pair: Run,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[Any, ...],
    message: str,
) -> None:
    tiny = [part for change in (*TINY, *JOINT) for part in ("--set", change)]
    given = ("--store", store.path, "--run", tmp_path / "run", "--preset", "smoke", *tiny)
    arguments = [str(part) for part in (*given, "--init", pair.path, *flags)]
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: joint.main(arguments), "training.joint")
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "run").exists(), "nothing half-written"


def test_a_phase_that_diverges_at_once_is_recorded(store: Store, tmp_path: Path) -> None:
    run = open_joint(tmp_path / "run", store, "learning_rate_ce=1e30")
    record = train_joint(run, "ce", make_joint(run))
    assert (record["status"], record["mask_s1"], record["thresholds"]) == ("diverged", None, {})
    with pytest.raises(InputError, match="diverged, there are no weights to continue from"):
        train_joint(run, "balanced", make_joint(run))


def test_balanced_needs_cross_entropy_first(pair: Run, store: Store, tmp_path: Path) -> None:
    run = open_joint(tmp_path / "run", store)
    with pytest.raises(InputError, match="phase ce of joint is not finished"):
        train_joint(run, "balanced", make_joint(run, pair.path))
    assert not run.find_folder("joint", "nested", "balanced").exists()


def test_balanced_alone_makes_no_run(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ["--store", str(store.path), "--run", str(tmp_path / "run")]
    flags = [*paths, "--preset", "smoke", "--set", "size=32", "--balanced"]
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: joint.main(flags), "training.joint")
    assert stopped.value.code == 2
    assert "phase ce of joint is not finished" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_s_own_pair_is_its_start_only_where_it_was(
    pair: Run, store: Store, tmp_path: Path
) -> None:
    """Begun from another run's pair, without --init it is not told to train one of its own."""
    run = open_joint(tmp_path / "run", store)
    make_joint(run, pair.path).begin(nested(run, "ce"))
    assert find_own_start(run) is None
    with pytest.raises(
        InputError, match="begun with start pair, not scratch; repeat --init with the pair"
    ):
        make_joint(run).begin(nested(run, "ce"))
    own = tmp_path / "own"
    shutil.copytree(pair.path, own)
    begun = open_joint(own, store)
    make_joint(begun, own).begin(nested(begun, "ce"))
    assert find_own_start(begun) == own


def test_an_unfinished_pair_and_another_one_are_refused(
    pair: Run, store: Store, tmp_path: Path
) -> None:
    run, copy = open_joint(tmp_path / "run", store), tmp_path / "copy"
    shutil.copytree(pair.path, copy)
    settings = make_joint(run, copy)
    settings.begin(nested(run, "ce"))
    (copy / "sequential" / "liver" / "ce" / "best.keras").write_bytes(b"another")
    with pytest.raises(
        InputError, match=r"begun from another pair than .*copy; take another --run"
    ):
        train_joint(run, "ce", settings)
    (copy / "sequential" / "liver" / "ce" / "best.keras").unlink()
    with pytest.raises(
        InputError, match=r"best\.keras: no such file; train the liver network again"
    ):
        train_joint(open_joint(tmp_path / "other", store), "ce", settings)
    larger: Any = SimpleNamespace(size=64, split={"sha256": ""}, sha256="")
    with pytest.raises(InputError, match="a pair of another size: 32, not 64"):
        check_pair(Run(pair.path, larger, pair.preset, 0), pair.path)


def test_what_a_phase_was_begun_with_stays(store: Store, tmp_path: Path) -> None:
    """A trial of scalings that ends after joint training has begun from scratch comes too late."""
    run = open_joint(tmp_path / "run", store, "tumor_scaling='choose'")
    assert make_joint(run).begin(nested(run, "ce"))["scaling"] == "window"
    write_json(run.path / "sequential" / "tumor" / "scaling.json", {"chosen": "liver_median"})
    assert find_scaling(run, make_joint(run)) == "liver_median"
    assert make_joint(run).begin(nested(run, "ce"))["scaling"] == "window"
    with pytest.raises(
        InputError,
        match="begun with start scratch, not pair; give no --init, or take another --run",
    ):
        make_joint(run, tmp_path).begin(nested(run, "ce"))


def test_a_pair_of_another_split_is_refused(
    pair: Run, cohort: Path, run_module: Command, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    split = ("--test", 104, "--validation", 105)
    assert (
        run_module(
            "data.prepare", "--source", cohort, "--store", path, "--size", 32, *split
        ).returncode
        == 0
    )
    run = open_joint(tmp_path / "run", Store.open(path))
    with pytest.raises(InputError, match=r"a pair of another split_sha256"):
        train_joint(run, "ce", make_joint(run, pair.path))


def test_the_sweep_trains_every_point(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One ratio: three points with the control; a second call does nothing."""
    ratios = ("joint_sweep_ratios=(0.5,)", "joint_sweep_epochs=(1,2)", "liver_epochs=(2,1)")
    tiny = [part for change in (*TINY, *JOINT, *ratios) for part in ("--set", change)]
    paths = ["--store", str(store.path), "--run", str(tmp_path / "run")]
    flags = ["joint_loss", *paths, "--preset", "smoke", *tiny]
    sweeps.main(flags)
    folders = [path.parent for path in (tmp_path / "run").glob("joint/nested/*/record.json")]
    records = {path.name: json.loads((path / "record.json").read_text()) for path in folders}
    assert records.keys() == {"sweep_pair_0.5_hard", "sweep_pair_0.5", "sweep_scratch_0.5"}
    for name, record in records.items():
        assert record["alpha"] + record["beta"] == pytest.approx(2)
        assert record["beta"] / record["alpha"] == pytest.approx(0.5)
        assert record["fit"]["epochs"] == (2 if "scratch" in name else 1)
        assert (record["mask"] == "hard") == name.endswith("_hard")
        assert (record["start"] == "pair") == name.startswith("sweep_pair")
    assert not any((path / "tensorboard").exists() for path in folders)
    capsys.readouterr()
    sweeps.main(flags)
    assert capsys.readouterr().out.count("already done") == 2 + 3
    flags[flags.index(paths[3])] = str(tmp_path / "hard")
    with pytest.raises(InputError, match="joint_mask hard: that is the control of the sweep"):
        sweeps.main([*flags, "--set", "joint_mask=hard"])
    assert not (tmp_path / "hard").exists()
