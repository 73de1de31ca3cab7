"""A network from a recipe to a record: what it writes, how it resumes, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import training.network
import training.train
from data.batches import make_loader
from data.command import InputError
from data.masks import LiverMasks, find_median, finish_masks, write_masks
from data.store import Store
from evaluation.metrics.counts import iou
from evaluation.metrics.roc import ProbabilityHistogram
from tests.conftest import Command
from tests.training.conftest import TINY, open_tiny
from training.callbacks import Checkpoint, read_log
from training.metrics import AT_HALF, BEST
from training.run import Run
from training.sweeps import choose_scaling
from training.systems import SYSTEMS
from training.systems.gruber import Sequential
from training.train import train_network
from training.validation import compute_blind_ious, judge, validate_slices


def sequential(run: Run, **changes: Any) -> Sequential:
    system = SYSTEMS["sequential"].under(run.preset)
    assert isinstance(system, Sequential)
    return replace(system, **changes)


def train_liver(run: Run, phase: str = "ce", **changes: Any) -> dict[str, Any]:
    return train_network(run, sequential(run, **changes), "sequential", "liver", phase)


def train_tumor(run: Run, name: str, scaling: str = "window", epochs: int = 2) -> dict[str, Any]:
    system = sequential(run, tumor_scaling=scaling, tumor_epochs=(epochs, 1))
    return train_network(run, system, "sequential", "tumor", "ce", name)


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with both liver phases and their masks."""
    run = open_tiny(tmp_path_factory.mktemp("run") / "run", store)
    for phase in ("ce", "balanced"):
        train_liver(run, phase)
    return run


def test_a_phase_learns_and_writes_what_it_says(finished: Run) -> None:
    folder, record = (
        finished.find_folder("sequential", "liver", "ce"),
        finished.read_record("sequential", "liver", "ce"),
    )
    assert record["status"] == "ok"
    assert record["validation"]["liver"]["best_iou"] > 0.5
    log = read_log(folder / "log.csv")
    assert [row["epoch"] for row in log] == [1, 2, 3, 4]
    best = max(log, key=lambda row: row["val_iou"])
    assert record["fit"]["best_epoch"] == best["epoch"]
    assert record["fit"]["best_validation_iou"] == pytest.approx(best["val_iou"], rel=1e-5)
    assert (folder / "curves.png").stat().st_size > 1000
    assert list((folder / "tensorboard").rglob("events*"))
    assert not (folder / "state.json").exists()
    assert not list(folder.glob("last-*"))


def test_the_kept_model_is_that_of_the_best_epoch(finished: Run) -> None:
    model = keras.saving.load_model(
        finished.find_folder("sequential", "liver", "ce") / "best.keras", compile=False
    )
    load = make_loader(
        finished.store, "liver", finished.read_record("sequential", "liver", "ce")["inputs"]
    )
    histogram = ProbabilityHistogram()
    for chosen in finished.store.slices("validation"):
        inputs, truth = load(chosen)
        histogram.add(np.asarray(model(inputs[None, ..., None]))[0, ..., 0], truth == 1)
    found = iou(histogram.counts(0.5))
    assert finished.read_record("sequential", "liver", "ce")["validation"]["liver"][
        "iou_at_half"
    ] == pytest.approx(found, abs=2e-3)


def test_class_weights_come_from_the_training_set(finished: Run) -> None:
    pixels = [0, 0, 0]
    for case, row in finished.store.slices("train"):
        for value in range(3):
            pixels[value] += int(np.count_nonzero(finished.store.label(case)[row] == value))
    ce, balanced = (
        finished.read_record("sequential", "liver", "ce"),
        finished.read_record("sequential", "liver", "balanced"),
    )
    assert list(ce["class_pixels"].values()) == pixels
    assert ce["class_weights"] == [1, 1]
    total, liver = sum(pixels), pixels[1] + pixels[2]
    assert balanced["class_weights"] == pytest.approx(
        [total / (2 * (total - liver)), total / (2 * liver)]
    )
    assert (ce["learning_rate"], balanced["learning_rate"]) == (
        finished.preset.learning_rate_ce,
        0.0001,
    )


def test_balanced_phase_continues_from_the_cross_entropy_weights(
    store: Store, tmp_path: Path
) -> None:
    run = open_tiny(tmp_path / "run", store, "learning_rate_balanced=1e-12")
    with pytest.raises(InputError, match=r"phase ce of liver is not finished"):
        train_liver(run, "balanced")
    train_liver(run, liver_epochs=(1, 1))
    train_liver(run, "balanced", liver_epochs=(1, 1))
    before, after = (
        keras.saving.load_model(
            run.find_folder("sequential", "liver", phase) / "best.keras", compile=False
        ).get_weights()
        for phase in ("ce", "balanced")
    )
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old, atol=1e-6)


def test_an_interrupted_phase_resumes_to_the_same_weights(
    finished: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_tiny(tmp_path / "run", store)
    write_state = Checkpoint._write_state

    def stop_after_two(checkpoint: Checkpoint) -> None:
        write_state(checkpoint)
        if checkpoint.epochs_done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "_write_state", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train_liver(run)
    assert not run.is_done("sequential", "liver", "ce")
    monkeypatch.undo()
    keras.utils.set_random_seed(99)  # what a new process would not share
    record = train_liver(run)
    expected = finished.read_record("sequential", "liver", "ce")
    assert record["fit"]["epochs"] == 4
    assert record["thresholds"] == expected["thresholds"]
    logs = [
        read_log(each.find_folder("sequential", "liver", "ce") / "log.csv")
        for each in (run, finished)
    ]
    for resumed, straight in zip(*logs, strict=True):
        assert resumed == pytest.approx(straight, rel=1e-4)


@pytest.mark.parametrize(("best_by", "kept"), [(AT_HALF, 3), (BEST, 2)])
def test_of_epochs_that_find_nothing_at_half_the_best_ranking_one_is_kept(
    tmp_path: Path, best_by: str, kept: int
) -> None:
    """IoU at 0.5 and at the best threshold, by epoch; a resumed fit knows the tie."""
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    reached = [(0.0, 0.05), (0.0, 0.2), (0.01, 0.1), (0.01, 0.1), (0.0, 0.15)]
    for epoch, (half, best) in enumerate(reached):
        checkpoint = Checkpoint(tmp_path, model, best_by)  # as after an interruption
        checkpoint.set_model(model)
        checkpoint.restore(model)
        checkpoint.on_epoch_end(
            epoch, {"loss": 1.0, "val_tumor_iou_at_half": half, "val_tumor_iou": best}
        )
        if epoch == 1:
            assert checkpoint.best_epoch == 2
    assert checkpoint.best_epoch == kept


def test_a_finished_phase_is_left_as_it_is(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.network, "fit_phase", lambda *_: pytest.fail("trained again"))
    assert train_liver(finished) == finished.read_record("sequential", "liver", "ce")


def test_second_network_trains_on_the_first_ones_mask(finished: Run) -> None:
    record = train_tumor(finished, "ce")
    masks = LiverMasks(finished.find_folder("sequential", "liver", "ce") / "masks")
    threshold = finished.read_record("sequential", "liver", "ce")["thresholds"]["liver"]["roc"]
    assert record["mask_s1"] == record["inputs"]["tumor"]["mask_s1"] == masks.s1 == threshold
    # What a slice becomes: nothing outside the mask; the reference mask plays no part.
    case, row = finished.store.slices("train")[0]
    load = make_loader(finished.store, "tumor", record["inputs"], masks.find_liver)
    inputs, truth = load((case, row))
    outside = np.asarray(masks.read_mask(case)[row]) == 0
    assert np.all(inputs[outside] == 0)
    assert outside.any()
    hu = np.asarray(finished.store.image(case)[row], np.float32)
    low, high = finished.preset.tumor_window_hu
    expected = np.clip((hu[~outside] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(inputs[~outside], expected, atol=1e-6)
    np.testing.assert_array_equal(truth == 1, finished.store.label(case)[row] == 2)


def test_second_input_is_cut_by_the_mask_that_lies_in_the_run(
    finished: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the image is the mask: liver outside it is unseen, what is no liver in it is seen."""
    run = open_tiny(tmp_path / "run", store)
    train_liver(run, liver_epochs=(1, 1))
    case, row = store.slices("train")[0]
    hu, label = np.asarray(store.image(case)[row], np.float32), store.label(case)[row]
    half = np.zeros(store.image(case).shape, np.uint8)
    half[:, :, : half.shape[2] // 2] = 1
    np.save(run.find_folder("sequential", "liver", "ce") / "masks" / f"{case}.npy", half)
    batches = []

    def take_batches(model: Any, train: Any, *others: Any) -> Any:
        batches.append(train)
        raise KeyboardInterrupt

    monkeypatch.setattr(training.network, "fit_phase", take_batches)
    with pytest.raises(KeyboardInterrupt):
        train_tumor(run, "ce")
    inputs, _ = batches[0].load((case, row))
    inside = half[row] == 1
    np.testing.assert_allclose(inputs[inside], np.clip(hu[inside] / 200, 0, 1), atol=1e-6)
    assert np.all(inputs[~inside] == 0)
    assert (label[~inside] > 0).any()
    assert hu[inside & (label == 0)].max() < 0 < hu[inside & (label == 1)].min()


def test_masks_that_do_not_fit_are_named(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "volume-1.npy").write_bytes(b"\x93NUMPY cut")
    finish_masks(tmp_path, 0.5, {})
    masks = LiverMasks(tmp_path)
    with pytest.raises(InputError, match=r"volume-1\.npy: damaged"):
        masks.read_mask("volume-1")
    with pytest.raises(InputError, match=r"volume-2\.npy: no liver mask"):
        masks.read_mask("volume-2")
    with pytest.raises(InputError, match=r"masks\.json: no volume-2"):
        masks.find_median_hu("volume-2")


def test_scaling_is_chosen_by_validation_iou_once(finished: Run) -> None:
    system = sequential(finished)
    chosen = choose_scaling(finished, system, "sequential")
    content = json.loads((finished.path / "sequential" / "tumor" / "scaling.json").read_text())
    assert content["validation_iou"][chosen] == max(content["validation_iou"].values())
    for scaling, reached in content["validation_iou"].items():
        record = finished.read_record("sequential", "tumor", f"trial_{scaling}")
        assert record["scaling"] == scaling
        assert record["validation"]["tumor"]["best_iou"] == reached
    assert content["status"] == {"window": "ok", "liver_median": "ok"}
    assert choose_scaling(finished, system, "sequential") == chosen


def test_a_scaling_whose_trial_collapsed_does_not_win(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(run: Run, system: Sequential, *where: str) -> dict[str, Any]:
        results = {"window": (0.4, "collapsed"), "liver_median": (0.1, "ok")}
        best_iou, status = results[system.tumor_scaling]
        return {"validation": {"tumor": {"best_iou": best_iou}}, "status": status}

    monkeypatch.setattr(training.train, "train_network", trial)
    path = finished.path / "sequential" / "tumor" / "scaling.json"
    before = path.read_text() if path.exists() else None
    path.unlink(missing_ok=True)
    try:
        assert choose_scaling(finished, sequential(finished), "sequential") == "liver_median"
        assert json.loads(path.read_text())["status"] == {
            "window": "collapsed",
            "liver_median": "ok",
        }
    finally:
        path.unlink()
        if before is not None:
            path.write_text(before)


def test_tumor_needs_the_liver_first(store: Store, tmp_path: Path) -> None:
    run = open_tiny(tmp_path / "run", store)
    with pytest.raises(InputError, match=r"training\.liver --phase ce"):
        train_tumor(run, "ce")


def test_masks_of_another_split_are_refused(tmp_path: Path) -> None:
    masked = [
        (np.full((4, 4), 90.0), np.ones((4, 4), bool)),
        (np.full((4, 4), 110.0), np.ones((4, 4), bool)),
    ]
    assert find_median(write_masks(tmp_path, "volume-1", 2, masked)) == 100.0
    with pytest.raises(InputError, match="no such file"):
        LiverMasks(tmp_path)
    finish_masks(tmp_path, 0.4, {"volume-1": 100.0})
    assert LiverMasks(tmp_path).read_mask("volume-1").sum() == 32
    with pytest.raises(InputError, match="volume-2"):
        LiverMasks(tmp_path).read_mask("volume-2")


def test_collapse_is_found_and_never_ok() -> None:
    rng = np.random.default_rng(0)
    tumor = rng.random(100_000) < 0.04  # the pixels of the reference liver
    in_mask = rng.random(100_000) < 0.9
    collapsed = {
        "background everywhere": np.zeros(tumor.shape),
        "the same everywhere": np.full(tumor.shape, 0.3),
        "the same in the mask": 0.3 * in_mask,
        "right, but below 0.01": 0.002 + 0.005 * tumor,
    }
    for name, probability in collapsed.items():
        verdict = judge({"tumor": histogram_of(probability, tumor)}, diverged=False)
        assert verdict["status"] == "collapsed", name
        assert verdict["why"].startswith("tumor: "), name
    good = histogram_of(np.clip(0.5 + 0.1 * tumor + rng.normal(0, 0.1, tumor.shape), 0, 1), tumor)
    assert judge({"tumor": good}, diverged=False) == {"status": "ok", "why": "", "note": ""}
    assert judge({"tumor": good}, diverged=True)["status"] == "diverged"
    noise = judge({"tumor": histogram_of(rng.random(tumor.shape), tumor)}, diverged=False)
    assert noise["status"] == "ok"
    assert noise["note"].startswith("tumor: no better than chance, AUC 0.")
    timid = judge(
        {"tumor": histogram_of(0.1 + 0.3 * tumor * rng.random(tumor.shape), tumor)}, diverged=False
    )
    assert timid == {
        "status": "ok",
        "why": "",
        "note": "tumor: background everywhere at a threshold of 0.5",
    }
    assert (
        judge({"tumor": good}, False, ["tumor"])["note"]
        == "tumor: background everywhere by the most probable class"
    )
    assert judge({"tumor": good}, False, ["liver"])["note"] == ""


def histogram_of(probability: np.ndarray, truth: np.ndarray) -> ProbabilityHistogram:
    histogram = ProbabilityHistogram()
    histogram.add(probability, truth)
    return histogram


def test_blind_networks_by_hand() -> None:
    assert compute_blind_ious([80, 15, 5], "classes") == {"liver": 0.2, "tumor": 0.25}
    assert compute_blind_ious([80, 15, 5], "tumor") == {"tumor": 0.25}


def test_tumor_is_judged_inside_the_liver(store: Store, tmp_path: Path) -> None:
    """A network that answers with the reference liver finds liver perfectly, tumor not at all."""
    run = open_tiny(tmp_path / "run", store)
    inputs = keras.layers.Input((run.store.size, run.store.size, 1))
    liver = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))
    for target, expected in (("liver", 1.0), ("tumor", 0.5)):

        def load(chosen: tuple[str, int]) -> tuple[np.ndarray, np.ndarray]:
            label = np.asarray(run.store.label(chosen[0])[chosen[1]])
            return 0.9 * (label >= 1).astype(np.float32), label

        validation = validate_slices(liver, run.store, load, target)
        assert validation.possible[target].auc() == expected
        assert validation.everywhere[target].auc() > 0.8


def test_a_diverging_phase_is_recorded_and_gives_no_mask(
    store: Store, tmp_path: Path, run_module: Command
) -> None:
    sets = [part for change in (*TINY, "learning_rate_ce=1e30") for part in ("--set", change)]
    flags = (
        "--store",
        store.path,
        "--run",
        tmp_path / "run",
        "--preset",
        "smoke",
        "--phase",
        "ce",
        *sets,
    )
    done = run_module("training.liver", *flags)
    assert done.returncode == 2
    assert "diverged" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "DIVERGED, not a result" in done.stdout
    record = json.loads(
        (tmp_path / "run" / "sequential" / "liver" / "ce" / "record.json").read_text()
    )
    assert record["status"] == "diverged"
    assert record["thresholds"] == {}


def test_saturated_start_is_found_to_have_collapsed(store: Store, tmp_path: Path) -> None:
    """A network of p = 0 everywhere stays so at a rate of nearly 0; the record says it."""
    run = open_tiny(tmp_path / "run", store, "learning_rate_ce=1e-12", "liver_epochs=(1,1)")

    class Saturated(Sequential):
        def load_start(self, model: keras.Model, step: Any) -> None:
            layer = model.get_layer("logits")
            layer.set_weights([np.zeros_like(layer.kernel), np.full(layer.bias.shape, -40.0)])

    system = Saturated().under(run.preset)
    assert train_network(run, system, "x", "liver", "ce")["status"] == "collapsed"
