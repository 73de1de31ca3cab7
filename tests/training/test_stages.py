"""Phases of training on a small store: what they write, resume, refuse, and how failure is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import nibabel as nib
import numpy as np
import pytest

import training.stages
from data.backend import load_network
from data.batches import SliceBatches, masked_slice_loader, whole_slice_loader
from data.command import InputError
from data.masks import LiverMasks, finish_masks, median_of_liver, write_masks
from data.store import Store
from evaluation.metrics.roc import ProbabilityHistogram
from tests.conftest import Command
from training.callbacks import Checkpoint, read_log
from training.liver import find_livers
from training.metrics import AT_HALF, BEST
from training.presets import PRESETS
from training.run import Run, open_run
from training.stages import blind_ious, judge, train_phase, validation_histograms
from training.tumor import choose_scaling, train_tumor

TINY = (
    "size=32",
    "precision=float32",
    "filters=4",
    "poolings=2",
    "liver_epochs=(4,2)",
    "tumor_epochs=(2,1)",
    "one_step_epochs=(2,1)",
    "trial_epochs=1",
    "dropout=0.2",
    "batch_size=1",
    "learning_rate_ce=0.02",
    "momentum=0.9",
)


def open_tiny(path: Path, store: Store, *changes: str) -> Run:
    return open_run(path, store.path, "smoke", 0, (*TINY, *changes), "liver")


def train_liver(run: Run, phase: str = "ce", **options: Any) -> dict[str, Any]:
    load = whole_slice_loader(run.store, "liver", run.preset.liver_window_hu)
    return train_phase(run, "liver", phase, load, **options)


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with both liver phases and their masks."""
    run = open_tiny(tmp_path_factory.mktemp("run") / "run", store)
    for phase in ("ce", "balanced"):
        record = train_liver(run, phase)
        folder = run.folder("liver", phase)
        s1, cases = (
            record["thresholds"]["liver"]["roc"],
            store.cases_of("train") + store.cases_of("validation"),
        )
        find_livers(run, load_network(folder / "best.keras"), folder / "masks", s1, cases)
    return run


def test_a_phase_learns_and_writes_what_it_says(finished: Run) -> None:
    folder, record = finished.folder("liver", "ce"), finished.record("liver", "ce")
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
    model = keras.saving.load_model(finished.folder("liver", "ce") / "best.keras", compile=False)
    load = whole_slice_loader(finished.store, "liver", finished.preset.liver_window_hu)
    histogram = ProbabilityHistogram()
    for chosen in finished.store.slices("validation"):
        inputs, truth = load(chosen)
        histogram.add(np.asarray(model(inputs[None, ..., None]))[0, ..., 0], truth == 1)
    found = training.stages.iou(histogram.counts(0.5))
    assert finished.record("liver", "ce")["validation"]["liver"]["iou_at_half"] == pytest.approx(
        found, abs=2e-3
    )


def test_class_weights_come_from_the_training_set(finished: Run) -> None:
    pixels = [0, 0, 0]
    for case, row in finished.store.slices("train"):
        for value in range(3):
            pixels[value] += int(np.count_nonzero(finished.store.label(case)[row] == value))
    ce, balanced = finished.record("liver", "ce"), finished.record("liver", "balanced")
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
    train_liver(run, epochs=1)
    train_liver(run, "balanced", epochs=1)
    before, after = (
        keras.saving.load_model(
            run.folder("liver", phase) / "best.keras", compile=False
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
    assert not run.is_done("liver", "ce")
    monkeypatch.undo()
    keras.utils.set_random_seed(99)  # what a new process would not share
    record = train_liver(run)
    expected = finished.record("liver", "ce")
    assert record["fit"]["epochs"] == 4
    assert record["thresholds"] == expected["thresholds"]
    logs = [read_log(each.folder("liver", "ce") / "log.csv") for each in (run, finished)]
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
    monkeypatch.setattr(training.stages, "fit_phase", lambda *_: pytest.fail("trained again"))
    assert train_liver(finished) == finished.record("liver", "ce")


def test_second_network_trains_on_the_first_ones_mask(finished: Run) -> None:
    record = train_tumor(finished, "ce", "ce", scaling="window")
    masks = LiverMasks(finished.folder("liver", "ce") / "masks")
    assert (
        record["mask_s1"]
        == masks.s1
        == finished.record("liver", "ce")["thresholds"]["liver"]["roc"]
    )
    # A wrong mask must change what the network sees; the reference mask plays no part.
    loads = []
    real = training.stages.SliceBatches

    class Spy(SliceBatches):
        def __init__(self, slices: Any, load: Any, *arguments: Any, **options: Any) -> None:
            loads.append(load)
            super().__init__(slices, load, *arguments, **options)

    training.stages.SliceBatches = Spy  # type: ignore[misc]
    try:
        train_tumor(finished, "ce", "again", scaling="window", epochs=1)
    finally:
        training.stages.SliceBatches = real  # type: ignore[misc]
    case, row = finished.store.slices("train")[0]
    inputs, truth = loads[0]((case, row))
    outside = np.asarray(masks.mask(case)[row]) == 0
    assert np.all(inputs[outside] == 0)
    assert outside.any()
    hu = np.asarray(finished.store.image(case)[row], np.float32)
    low, high = finished.preset.tumor_window_hu
    np.testing.assert_allclose(
        inputs[~outside], np.clip((hu[~outside] - low) / (high - low), 0, 1), atol=1e-6
    )
    np.testing.assert_array_equal(truth == 1, finished.store.label(case)[row] == 2)


def test_second_input_is_cut_by_the_mask_and_not_by_the_reference(
    finished: Run, tmp_path: Path
) -> None:
    """The mask is the left half of the image: liver right of it is unseen, and what lies left of the liver is seen."""
    case, row = finished.store.slices("train")[0]
    hu, label = (
        np.asarray(finished.store.image(case)[row], np.float32),
        finished.store.label(case)[row],
    )
    half = np.zeros(finished.store.image(case).shape, np.uint8)
    half[:, :, : half.shape[2] // 2] = 1
    np.save(tmp_path / f"{case}.npy", half)
    finish_masks(tmp_path, 0.5, {case: 100.0})
    inputs, _ = masked_slice_loader(
        finished.store, LiverMasks(tmp_path), "window", (-200.0, 200.0)
    )((case, row))
    inside = half[row] == 1
    np.testing.assert_allclose(inputs[inside], np.clip((hu[inside] + 200) / 400, 0, 1), atol=1e-6)
    assert np.all(inputs[~inside] == 0)
    assert (label[~inside] > 0).any()
    assert inputs[inside & (label == 0)].min() > 0


def test_masks_that_do_not_fit_are_named(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "volume-1.npy").write_bytes(b"\x93NUMPY cut")
    finish_masks(tmp_path, 0.5, {})
    masks = LiverMasks(tmp_path)
    with pytest.raises(InputError, match=r"volume-1\.npy: damaged"):
        masks.mask("volume-1")
    with pytest.raises(InputError, match=r"volume-2\.npy: no liver mask"):
        masks.mask("volume-2")
    with pytest.raises(InputError, match=r"masks\.json: no volume-2"):
        masks.median_hu("volume-2")


def test_scaling_is_chosen_by_validation_iou_once(finished: Run) -> None:
    chosen = choose_scaling(finished)
    content = json.loads((finished.path / "tumor" / "scaling.json").read_text())
    assert content["validation_iou"][chosen] == max(content["validation_iou"].values())
    for scaling, reached in content["validation_iou"].items():
        record = finished.record("tumor", f"trial_{scaling}")
        assert record["scaling"] == scaling
        assert record["validation"]["tumor"]["best_iou"] == reached
    assert content["status"] == {"window": "ok", "liver_median": "ok"}
    assert choose_scaling(finished) == chosen


def test_a_scaling_whose_trial_collapsed_does_not_win(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(run: Run, phase: str, name: str, scaling: str, epochs: int) -> dict[str, Any]:
        found = {"window": (0.4, "collapsed"), "liver_median": (0.1, "ok")}[scaling]
        return {"validation": {"tumor": {"best_iou": found[0]}}, "status": found[1]}

    monkeypatch.setattr("training.tumor.train_tumor", trial)
    path = finished.path / "tumor" / "scaling.json"
    kept = path.read_text() if path.exists() else None
    path.unlink(missing_ok=True)
    try:
        assert choose_scaling(finished) == "liver_median"
        assert json.loads(path.read_text())["status"] == {
            "window": "collapsed",
            "liver_median": "ok",
        }
    finally:
        path.unlink()
        if kept is not None:
            path.write_text(kept)


def test_tumor_needs_the_liver_first(store: Store, tmp_path: Path) -> None:
    run = open_tiny(tmp_path / "run", store)
    with pytest.raises(InputError, match=r"training\.liver --phase ce"):
        train_tumor(run, "ce", "ce", scaling="window")


def test_masks_of_another_split_are_refused(tmp_path: Path) -> None:
    masked = [
        (np.full((4, 4), 90.0), np.ones((4, 4), bool)),
        (np.full((4, 4), 110.0), np.ones((4, 4), bool)),
    ]
    assert median_of_liver(write_masks(tmp_path, "volume-1", 2, masked)) == 100.0
    with pytest.raises(InputError, match="no such file"):
        LiverMasks(tmp_path)
    finish_masks(tmp_path, 0.4, {"volume-1": 100.0})
    assert LiverMasks(tmp_path).mask("volume-1").sum() == 32
    with pytest.raises(InputError, match="volume-2"):
        LiverMasks(tmp_path).mask("volume-2")


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
    assert blind_ious([80, 15, 5], "classes") == {"liver": 0.2, "tumor": 0.25}
    assert blind_ious([80, 15, 5], "tumor") == {"tumor": 0.25}


def test_tumor_is_judged_inside_the_liver(store: Store, tmp_path: Path) -> None:
    """A network that answers with the reference liver finds liver perfectly and tumor not at all."""
    run = open_tiny(tmp_path / "run", store)
    inputs = keras.layers.Input((run.store.size, run.store.size, 1))
    liver = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))
    for target, expected in (("liver", 1.0), ("tumor", 0.5)):

        def load(chosen: tuple[str, int]) -> tuple[np.ndarray, np.ndarray]:
            label = np.asarray(run.store.label(chosen[0])[chosen[1]])
            return 0.9 * (label >= 1).astype(np.float32), label

        everywhere, possible = validation_histograms(liver, run, load, None, target)
        assert possible[target].auc() == expected
        assert everywhere[target].auc() > 0.8


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
    record = json.loads((tmp_path / "run" / "liver" / "ce" / "record.json").read_text())
    assert record["status"] == "diverged"
    assert record["thresholds"] == {}


def test_saturated_start_is_found_to_have_collapsed(store: Store, tmp_path: Path) -> None:
    """A network that gives p = 0 everywhere, trained with a rate of nearly 0, stays there; the record says so."""
    run = open_tiny(tmp_path / "run", store, "learning_rate_ce=1e-12", "liver_epochs=(1,1)")
    build = training.stages.build_network

    def saturated(run: Run, stage: str) -> keras.Model:
        model = build(run, stage)
        layer = model.get_layer("logits")
        layer.set_weights([np.zeros_like(layer.kernel), np.full(layer.bias.shape, -40.0)])
        return model

    training.stages.build_network = saturated
    try:
        record = train_liver(run)
    finally:
        training.stages.build_network = build
    assert record["status"] == "collapsed"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "nope"), "unknown preset"),
        (("--store", "missing"), "no such store"),
        (("--seed", "-1"), "must be from 0 to 2**32 - 1"),
        (("--set", "depth=3"), "no field depth"),
        (("--set", "filters='x'"), "filters must be of the kind of 8"),
        (("--set", "filters=True"), "filters must be of the kind of 8"),
        (
            ("--set", "liver_epochs=(2.5,1)"),
            f"liver_epochs must be of the kind of {PRESETS['smoke'].liver_epochs}",
        ),
        (
            ("--set", "liver_window_hu=(0,)"),
            "liver_window_hu must be of the kind of (-100.0, 400.0)",
        ),
        (("--set", "subset=(1,2,3)"), "data.prepare --subset decides it"),
        (
            ("--set", "size=64"),
            "its slices of 32 px are not those of preset smoke+size=32+size=64, 64 px",
        ),
        (("--seed", str(2**32)), "must be from 0 to 2**32 - 1"),
        (("--set", "poolings=6"), "needs a multiple of 64"),
        (("--set", "dropout=2.0"), "dropout is out of its range"),
        (("--set", "liver_epochs=(0,1)"), "liver_epochs is out of its range"),
        (("--set", "precision=foo"), "precision is out of its range"),
        (("--set", "mask_threshold_rule=foo"), "mask_threshold_rule is out of its range"),
        (("--phase", "late"), "invalid choice"),
    ],
)
def test_bad_flags_end_in_one_line(
    store: Store, tmp_path: Path, run_module: Command, arguments: tuple[str, ...], words: str
) -> None:
    flags = {"--store": str(store.path), "--run": str(tmp_path / "run"), "--preset": "smoke"}
    sets = ("--set", "size=32")
    if arguments[0] == "--set":
        sets += arguments
    else:
        flags.update([arguments])
    done = run_module("training.liver", *[part for pair in flags.items() for part in pair], *sets)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_whole_numbers_are_taken_where_a_preset_holds_fractions(
    store: Store, tmp_path: Path
) -> None:
    run = open_tiny(tmp_path / "run", store, "dropout=0", "liver_window_hu=(-50,200)")
    assert (run.preset.dropout, run.preset.liver_window_hu) == (0.0, (-50.0, 200.0))


def test_a_split_without_tumor_is_refused_before_the_run_exists(
    cohort: Path, store: Store, tmp_path: Path, run_module: Command
) -> None:
    healthy = tmp_path / "healthy"
    shutil.copytree(cohort, healthy)
    path = healthy / "segmentation-104.nii.gz"
    label = nib.load(path)
    nib.save(nib.Nifti1Image(np.minimum(np.asarray(label.dataobj), 1), label.affine), path)
    flags = (
        "--source",
        healthy,
        "--store",
        tmp_path / "store",
        "--size",
        32,
        "--test",
        105,
        "--validation",
        104,
    )
    assert run_module("data.prepare", *flags).returncode == 0
    for stage in ("one_step", "tumor", "sweep"):
        with pytest.raises(InputError, match="no validation slice holds tumor"):
            open_run(tmp_path / "run", tmp_path / "store", "smoke", 0, TINY, stage)
    assert not (tmp_path / "run").exists()
    assert open_run(tmp_path / "run", tmp_path / "store", "smoke", 0, TINY, "liver").seed == 0


def test_run_directory_of_another_preset_seed_or_folder_is_refused(
    finished: Run, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="run directory of another preset: smoke"):
        open_run(finished.path, store.path, "demo", 0, ["size=32"], "liver")
    with pytest.raises(InputError, match="run directory of another seed: 0, not 1"):
        open_run(finished.path, store.path, "smoke", 1, TINY, "liver")
    (tmp_path / "photo.txt").write_text("mine")
    with pytest.raises(InputError, match="not a run directory, and not empty"):
        open_run(tmp_path, store.path, "smoke", 0, TINY, "liver")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.txt"]
