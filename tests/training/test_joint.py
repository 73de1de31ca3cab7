"""The joint loss on a small store: both starts, both phases, resume, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from data.backend import load_network
from data.batches import NestedBatches, nested_loader
from data.command import InputError, run_command
from data.files import write_json
from data.store import Store
from models.cascade import split_cascade
from tests.conftest import Command
from tests.training.test_stages import TINY, open_tiny
from training import joint, liver, tumor
from training.callbacks import Checkpoint, read_log
from training.joint import reference_medians, train_joint
from training.joint_start import (
    Joint,
    begin,
    of_preset,
    own_start,
    pair_of,
    scaling_of,
    settings_of,
)
from training.run import Run

JOINT = ("joint_epochs=(2,1)", "tumor_scaling='window'")
ONES = Joint(1.0, 1.0, "probability")


def open_joint(path: Path, store: Store, *changes: str) -> Run:
    return open_tiny(path, store, *JOINT, *changes)


@pytest.fixture(scope="module")
def pair(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a sequential pair, after cross-entropy."""
    run = open_joint(tmp_path_factory.mktemp("pair") / "run", store)
    liver.train(run, ["ce"])
    tumor.train(run, ["ce"])
    return run


def weights(path: Path) -> list[np.ndarray]:
    found: list[np.ndarray] = load_network(path).get_weights()
    return found


def test_both_phases_from_scratch(store: Store, tmp_path: Path) -> None:
    run = open_joint(tmp_path / "run", store, "joint_epochs=(6,1)")
    records = [train_joint(run, phase, ONES) for phase in ("ce", "balanced")]
    for phase, record in zip(("ce", "balanced"), records, strict=True):
        folder = run.folder("joint", phase)
        assert (record["stage"], record["phase"], record["start"]) == ("joint", phase, "scratch")
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
    log = read_log(run.folder("joint", "ce") / "log.csv")
    assert {"val_liver_iou", "val_tumor_iou", "val_liver_iou_at_half", "val_iou"} <= log[0].keys()
    assert log[0]["val_iou"] == pytest.approx(
        (log[0]["val_liver_iou"] + log[0]["val_tumor_iou"]) / 2, rel=1e-4
    )
    assert train_joint(run, "ce", ONES) == ce, "a finished phase is left as it is"


def test_from_a_pair_it_starts_with_the_weights_and_mask_of_the_pair(
    pair: Run, store: Store, tmp_path: Path
) -> None:
    run = open_joint(tmp_path / "run", store, "learning_rate_ce=1e-12")
    record = train_joint(run, "ce", Joint(1, 1, "probability", pair.path), epochs=1)
    nested = load_network(run.folder("joint", "ce") / "best.keras")
    assert record["start"] == "pair"
    assert record["pair"]["preset"] == pair.preset.name
    assert record["begun_s1"] == pair.record("tumor", "ce")["mask_s1"]
    for stage, network in zip(("liver", "tumor"), split_cascade(nested), strict=True):
        for found, wanted in zip(
            network.get_weights(), weights(pair.folder(stage, "ce") / "best.keras"), strict=True
        ):
            np.testing.assert_allclose(found, wanted, atol=1e-6)
        before = pair.record(stage, "ce")
        assert record["thresholds"][stage] == pytest.approx(before["thresholds"][stage], abs=1e-3)
        assert record["validation"][stage]["best_iou"] == pytest.approx(
            before["validation"][stage]["best_iou"], abs=0.01
        )


def test_the_tumor_term_alone_moves_the_liver_network(
    pair: Run, store: Store, tmp_path: Path
) -> None:
    """With alpha = 0 and a soft mask L moves; behind a hard mask it stays as it was, and so does T with beta = 0."""
    moved = {}
    for name, settings in (
        ("soft", Joint(0, 1, "probability", pair.path)),
        ("hard", Joint(0, 1, "hard", pair.path)),
        ("liver", Joint(1, 0, "probability", pair.path)),
    ):
        run = open_joint(tmp_path / name, store)
        train_joint(run, "ce", settings, epochs=1)
        for stage, network in zip(
            ("liver", "tumor"),
            split_cascade(load_network(run.folder("joint", "ce") / "best.keras")),
            strict=True,
        ):
            before = weights(pair.folder(stage, "ce") / "best.keras")
            moved[name, stage] = max(
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
    settings = Joint(1, 1, "probability", pair.path)
    straight = train_joint(open_joint(tmp_path / "straight", store), "ce", settings)
    run = open_joint(tmp_path / "run", store)
    write_state = Checkpoint._write_state

    def stop_after_one(checkpoint: Checkpoint) -> None:
        write_state(checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "_write_state", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        train_joint(run, "ce", settings)
    monkeypatch.undo()
    (run.folder("joint", "ce") / ".partial-1-last-1.weights.h5").write_bytes(
        b"of a process that was killed"
    )
    with pytest.raises(
        InputError,
        match=r"joint.ce: begun with alpha 1, not 2; repeat --alpha 1, or take another --run",
    ):
        train_joint(run, "ce", Joint(2, 1, "probability", pair.path))
    keras.utils.set_random_seed(99)
    record = train_joint(run, "ce", settings)
    assert not list(run.folder("joint", "ce").glob(".partial-*"))
    assert record["thresholds"] == straight["thresholds"]
    logs = [read_log(tmp_path / name / "joint" / "ce" / "log.csv") for name in ("run", "straight")]
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_what_the_nested_network_is_given(store: Store) -> None:
    """Channel 0 is X in the first window, channel 1 w(X) without a mask, by the median of the reference liver."""
    medians = reference_medians(store)
    case, row = store.slices("train")[0]
    hu, label = np.asarray(store.image(case), np.float32), np.asarray(store.label(case))
    assert medians[case] == np.median(hu[label >= 1])
    assert medians.keys() == set(store.cases_of("train") + store.cases_of("validation"))
    load = nested_loader(store, (-100.0, 400.0), "liver_median", (0.0, 200.0), medians)
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


def test_augmented_channels_move_alike(store: Store) -> None:
    load = nested_loader(store, (-100.0, 400.0), "window", (-100.0, 400.0), {})
    inputs, _ = NestedBatches(store.slices("train")[:2], load, 2, seed=0, augment=True)[0]
    np.testing.assert_allclose(inputs["slice"], inputs["scaled"], atol=1e-6)
    assert inputs["slice"].max() > 0


def test_the_preset_says_weights_mask_and_start(store: Store, tmp_path: Path) -> None:
    run = open_joint(
        tmp_path / "run", store, "joint_alpha=2.0", "joint_mask='hard'", "joint_start='scratch'"
    )
    assert of_preset(run) == Joint(2.0, 1.0, "hard")
    assert settings_of(run, tmp_path, beta=0.5, mask=None) == Joint(2.0, 0.5, "hard", tmp_path)


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
    run_module: Command,
    flags: tuple[Any, ...],
    message: str,
) -> None:
    tiny = [part for change in (*TINY, *JOINT) for part in ("--set", change)]
    given = (
        "--store",
        store.path,
        "--run",
        tmp_path / "run",
        "--preset",
        "smoke",
        *tiny,
        "--init",
        pair.path,
    )
    done = run_module("training.joint", *given, *flags)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "run").exists(), "nothing half-written"


def test_balanced_needs_cross_entropy_first(pair: Run, store: Store, tmp_path: Path) -> None:
    run = open_joint(tmp_path / "run", store)
    with pytest.raises(InputError, match="phase ce of joint is not finished"):
        train_joint(run, "balanced", Joint(1, 1, "probability", pair.path))
    assert not run.folder("joint", "balanced").exists()


def test_balanced_alone_makes_no_run(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = (
        "--store",
        store.path,
        "--run",
        tmp_path / "run",
        "--preset",
        "smoke",
        "--set",
        "size=32",
        "--balanced",
    )
    monkeypatch.setattr(sys, "argv", ["training.joint", *map(str, flags)])
    with pytest.raises(SystemExit) as stopped:
        run_command(joint.main, "training.joint")
    assert stopped.value.code == 2
    assert "phase ce of joint is not finished" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_s_own_pair_is_its_start_only_where_it_was(
    pair: Run, store: Store, tmp_path: Path
) -> None:
    """Begun from another run's pair, and repeated without --init, it is not told to train a pair of its own."""
    run = open_joint(tmp_path / "run", store)
    begin(run, "ce", "ce", Joint(1, 1, "probability", pair.path))
    assert own_start(run) is None
    with pytest.raises(
        InputError, match="begun with start pair, not scratch; repeat --init with the pair"
    ):
        begin(run, "ce", "ce", ONES)
    own = tmp_path / "own"
    shutil.copytree(pair.path, own)
    begun = open_joint(own, store)
    begin(begun, "ce", "ce", Joint(1, 1, "probability", own))
    assert own_start(begun) == own


def test_an_unfinished_pair_and_another_one_are_refused(
    pair: Run, store: Store, tmp_path: Path
) -> None:
    run, copy = open_joint(tmp_path / "run", store), tmp_path / "copy"
    shutil.copytree(pair.path, copy)
    settings = Joint(1, 1, "probability", copy)
    begin(run, "ce", "ce", settings)
    (copy / "liver" / "ce" / "best.keras").write_bytes(b"another")
    with pytest.raises(
        InputError, match=r"begun from another pair than .*copy; take another --run"
    ):
        train_joint(run, "ce", settings)
    (copy / "liver" / "ce" / "best.keras").unlink()
    with pytest.raises(InputError, match=r"best\.keras: no such file; train the liver stage again"):
        train_joint(open_joint(tmp_path / "other", store), "ce", settings)
    with pytest.raises(InputError, match="a pair of another size: 32, not 64"):
        pair_of(
            Run(
                pair.path, SimpleNamespace(size=64, split={"sha256": ""}, sha256=""), pair.preset, 0
            ),
            pair.path,
        )  # type: ignore[arg-type]


def test_what_a_phase_was_begun_with_stays(store: Store, tmp_path: Path) -> None:
    """The trial of scalings may end after joint training has begun from scratch; its choice comes too late."""
    run = open_joint(tmp_path / "run", store, "tumor_scaling='choose'")
    assert begin(run, "ce", "ce", ONES)["scaling"] == "window"
    write_json(run.path / "tumor" / "scaling.json", {"chosen": "liver_median"})
    assert scaling_of(run) == "liver_median"
    assert begin(run, "ce", "ce", ONES)["scaling"] == "window"
    with pytest.raises(
        InputError,
        match="begun with start scratch, not pair; give no --init, or take another --run",
    ):
        begin(run, "ce", "ce", Joint(1, 1, "probability", tmp_path))


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
        train_joint(run, "ce", Joint(1, 1, "probability", pair.path))


def test_the_sweep_trains_every_point_and_is_scored(
    pair: Run, store: Store, tmp_path: Path, run_module: Command
) -> None:
    """One ratio: three points with the control; a second call does nothing; the scores are counts by patient."""
    changes = (
        *TINY,
        *JOINT,
        "joint_sweep_ratios=(0.5,)",
        "joint_sweep_epochs=(1,2)",
        "liver_epochs=(2,1)",
    )
    tiny = [part for change in changes for part in ("--set", change)]
    flags = ("--store", store.path, "--run", tmp_path / "run", "--preset", "smoke", *tiny)
    done = run_module("training.joint_sweep", *flags)
    assert done.returncode == 0, done.stderr
    names = {"sweep_pair_0.5_hard", "sweep_pair_0.5", "sweep_scratch_0.5"}
    folders = {path.name: path for path in (tmp_path / "run" / "joint").iterdir()}
    assert folders.keys() == names
    records = {
        name: json.loads((path / "record.json").read_text()) for name, path in folders.items()
    }
    for name, record in records.items():
        assert record["alpha"] + record["beta"] == pytest.approx(2)
        assert record["fit"]["epochs"] == (2 if "scratch" in name else 1)
    assert records["sweep_pair_0.5"]["beta"] / records["sweep_pair_0.5"]["alpha"] == pytest.approx(
        0.5
    )
    assert records["sweep_pair_0.5_hard"]["mask"] == "hard"
    assert run_module("training.joint_sweep", *flags).stdout.count("already done") == 2 + 3
    score = (
        "evaluation.joint_sweep",
        "--run",
        tmp_path / "run",
        "--store",
        store.path,
        "--out",
        tmp_path / "out",
    )
    scored = run_module(*score)
    assert scored.returncode == 0, scored.stderr
    sweep = json.loads((tmp_path / "out" / "joint_sweep.json").read_text())
    again = run_module(*score)
    assert again.stdout.count("already scored") == 4
    assert json.loads((tmp_path / "out" / "joint_sweep.json").read_text()) == sweep
    # A point whose record is another one is scored anew, and it alone; its counts stand there once.
    path = folders["sweep_pair_0.5"] / "record.json"
    path.write_text(json.dumps({**records["sweep_pair_0.5"], "why": "changed"}))
    again = run_module(*score)
    assert again.stdout.count("already scored") == 3
    assert "sweep_pair_0.5: scored" in again.stdout
    assert (
        json.loads((tmp_path / "out" / "joint_sweep.json").read_text())["counts"] == sweep["counts"]
    )
    (tmp_path / "run" / "liver" / "ce" / "record.json").rename(tmp_path / "record.json")
    refused = run_module(*score)
    assert refused.returncode == 2
    assert refused.stderr.endswith(
        "run: phase ce of liver is not finished (python -m training.liver)\n"
    )
    (tmp_path / "record.json").rename(tmp_path / "run" / "liver" / "ce" / "record.json")
    hard = run_module(
        "training.joint_sweep",
        *flags[:2],
        "--run",
        tmp_path / "hard",
        *flags[4:],
        "--set",
        "joint_mask='hard'",
    )
    assert hard.returncode == 2
    assert "joint_mask hard: that is the control of the sweep" in hard.stderr
    wanted = ["sequential", "sweep_pair_0.5_hard", "sweep_pair_0.5", "sweep_scratch_0.5"]
    assert [found["name"] for found in sweep["points"]] == wanted
    pixels = len(store.slices("test")) * store.size**2
    for row in sweep["counts"]:
        if row["cohort"] == "test":
            assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == pixels
    answered = run_module(
        "evaluation.joint_answer", "--out", tmp_path, tmp_path / "out" / "joint_sweep.json"
    )
    assert answered.returncode == 0, answered.stderr
    assert "joint from scratch, beta / alpha 0.5" in (tmp_path / "joint.md").read_text()
    assert (tmp_path / "fig_joint.png").stat().st_size > 10_000
