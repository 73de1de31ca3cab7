"""Which slices and cases are shown, and that the labels recorded are those of the networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.backend import keras
from data.files import read_json, write_json
from data.store import Store
from evaluation.page import recording
from evaluation.score_table import ScoreRow, add_metrics, make_table
from tests.conftest import SIZE, Command
from tests.evaluation.known_networks import write_system

L_HU, T_HU = -15, 65  # between background (-60), tumor (30) and liver (100) of the cohort


def make_network(scale: float, offset: float) -> keras.Model:
    """Make a network whose logit is scale * input + offset at every pixel."""
    inputs = keras.layers.Input((SIZE, SIZE, 1), name="slice")
    logits = keras.layers.Conv2D(1, 1, name="logits")(inputs)
    model = keras.Model(inputs, keras.layers.Activation("sigmoid", name="probability")(logits))
    model.get_layer("logits").set_weights([np.full((1, 1, 1, 1), scale), np.array([offset])])
    return model


@pytest.fixture(scope="module")
def store(cohort: Path, run_module: Command, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three cases in the test set, the others in the other two."""
    path = tmp_path_factory.mktemp("viewer") / "store"
    flags = ("--size", SIZE, "--test", "103,104,105", "--validation", 102)
    done = run_module("data.prepare", "--source", cohort, "--store", path, *flags)
    assert done.returncode == 0, done.stderr
    return Store.open(path)


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose L answers HU > -15 and whose T answers HU < 65 inside that."""
    path = tmp_path_factory.mktemp("viewer run")
    # L sees (HU + 100) / 500, T sees HU / 200.
    models = {
        "liver": make_network(1000, -1000 * (L_HU + 100) / 500),
        "tumor": make_network(-1000, 1000 * T_HU / 200),
    }
    inputs = {
        "liver": {"name": "windowed", "window_hu": [-100, 400]},
        "tumor": {"name": "masked", "window_hu": [0, 200], "scaling": "window", "mask_s1": 0.5},
    }
    thresholds = {"0.5": 0.5, "roc": 0.5, "iou": 0.5}
    networks = {
        name: (models[name], {"inputs": {name: inputs[name]}, "thresholds": {name: thresholds}})
        for name in models
    }
    write_system(path, "sequential", networks)
    content = {"preset": "tiny", "seed": 3, "size": SIZE, "synthetic": False}
    write_json(path / "run.json", {**content, "store_sha256": store.sha256})
    return path


def make_row(
    system: str, phase: str, tp: int, fn: int, cohort: str = "validation", **change: Any
) -> ScoreRow:
    """Make a row of tumors; its IoU is tp / (tp + fn)."""
    values: dict[str, Any] = {
        "rule": "roc",
        "unit": "slices",
        "target": "tumor",
        "case": "volume-102",
    }
    values |= {"patient": "p", "n_slices": 6, "fp": 0, "tn": 0, **change}
    return ScoreRow(seed=3, system=system, phase=phase, cohort=cohort, tp=tp, fn=fn, **values)


def make_cases(system: str, phase: str = "ce") -> list[ScoreRow]:
    """Make the rows of the test cases: volume 104 is the best, 103 the worst."""
    values = {"volume-103": 1, "volume-104": 9, "volume-105": 5}
    return [make_row(system, phase, tp, 10 - tp, "test", case=c) for c, tp in values.items()]


SCORES = [
    make_row("sequential", "ce", 4, 6),
    make_row("sequential", "balanced", 9, 1, target="liver"),
]
SCORES += make_cases("sequential")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def write(run: Path, store: Store, rows: list[ScoreRow], out: Path, count: int = 3) -> Any:
    """Write viewer.npz and return what it says of itself."""
    recording.write_viewer(run, store, make_table(rows), out, count)
    return json.loads(str(read_arrays(out / "viewer.npz")["about"]))


def test_the_labels_are_those_of_the_networks(run: Path, store: Store, tmp_path: Path) -> None:
    about = write(run, store, SCORES, tmp_path)
    assert [(case["case"], case["kind"]) for case in about["cases"]] == [
        ("volume-104", "best"),
        ("volume-105", "median"),
        ("volume-103", "worst"),
    ]
    assert (about["phase"], about["ranked_by"]) == ({"sequential": "ce"}, "sequential")
    assert (about["left_out"], about["n_test_cases"], about["n_ranked"]) == ([], 3, 3)
    assert (about["preset"], about["seed"], about["synthetic"]) == ("tiny", 3, False)
    assert about["split_sha256"] == store.split["sha256"]
    arrays = read_arrays(tmp_path / "viewer.npz")
    assert set(arrays) == {"about", "hu", "label", "sequential"}
    start = 0
    for case in about["cases"]:
        # Slices 1 to 6 of 8 hold liver, and those are scored.
        rows = [row for name, row in store.slices("test") if name == case["case"]]
        assert case["rows"] == rows == [*range(1, 7)]
        assert case["pixel_mm"] == pytest.approx([0.8, 0.8])
        shown = slice(start, start + 6)
        hu, label = store.image(case["case"])[rows], store.label(case["case"])[rows]
        np.testing.assert_array_equal(arrays["hu"][shown], hu)
        np.testing.assert_array_equal(arrays["label"][shown], label)
        expected = np.where(hu > L_HU, np.where(hu < T_HU, 2, 1), 0)
        np.testing.assert_array_equal(arrays["sequential"][shown], expected)
        start += 6
    assert start == len(arrays["hu"])


def test_fewer_cases_are_recorded_where_fewer_are_asked_for(
    run: Path, store: Store, tmp_path: Path
) -> None:
    for count, cases in ((1, ["volume-105"]), (2, ["volume-104", "volume-103"])):
        about = write(run, store, SCORES, tmp_path, count)
        assert [case["case"] for case in about["cases"]] == cases


def test_without_scores_nothing_is_left_of_an_earlier_recording(
    run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("viewer.npz", "examples.npz", "examples.json")
    for name in names:
        (tmp_path / name).write_bytes(b"of an earlier run")
    recording.write_viewer(run, store, make_table([]), tmp_path, 3)
    recording.write_examples(run, store, make_table([]), tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "viewer: no system was scored, so no case is recorded",
        "examples: no test slice with tumor was scored",
    ]
    assert not any((tmp_path / name).exists() for name in names)


@pytest.mark.parametrize(
    ("systems", "ranks"),
    [
        (("joint",), "joint"),
        (("joint", "one_step"), "one_step"),
        (("joint", "one_step", "sequential"), "sequential"),
        (("attention", "joint"), "joint"),
        (("attention",), "attention"),
    ],
)
def test_the_sequential_system_ranks_the_cases_where_it_has_scores(
    run: Path,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    systems: tuple[str, ...],
    ranks: str,
) -> None:
    monkeypatch.setattr(recording, "record_cases", lambda *_: {})
    rows = [make_row(system, "ce", 4, 6) for system in systems]
    about = write(run, store, rows + [row for s in systems for row in make_cases(s)], tmp_path)
    assert (about["ranked_by"], about["phase"]) == (ranks, dict.fromkeys(systems, "ce"))


def test_the_phase_with_the_better_validation_tumors() -> None:
    rows = [make_row("one_step", "ce", 3, 7), make_row("one_step", "balanced", 5, 5)]
    rows += [make_row("sequential", "ce", 9, 1), make_row("one_step", "ce", 8, 2, "test")]
    table = make_table(rows)
    assert recording.choose_better_phase(table, "one_step") == "balanced"
    assert recording.choose_better_phase(table, "sequential") == "ce"
    assert recording.choose_better_phase(table, "joint") is None
    tie = [make_row("one_step", "balanced", 3, 7), make_row("one_step", "ce", 3, 7)]
    assert recording.choose_better_phase(make_table(tie), "one_step") == "ce"


def test_cases_are_ranked_among_those_with_tumor() -> None:
    counts = {"a": (0, 0), "b": (1, 4), "c": (7, 3)}
    rows = [make_row("sequential", "ce", *counts[c], "test", case=c) for c in counts]
    table = make_table([*rows, make_row("one_step", "ce", 9, 1, "test", case="d")])
    ranked = recording.rank_cases(table, "sequential", "ce")
    assert list(ranked["case"]) == ["c", "b"]
    without = recording.rank_cases(make_table(rows[:1]), "sequential", "ce")
    assert list(without["case"]) == ["a"]
    assert recording.rank_cases(table, "joint", "ce").empty


@pytest.mark.parametrize(
    ("n", "count", "ranks", "kinds"),
    [
        (9, 3, [0, 4, 8], ["best", "median", "worst"]),
        (6, 3, [0, 3, 5], ["best", "median", "worst"]),
        (9, 5, [0, 2, 4, 6, 8], ["best", "rank 3 of 9", "median", "rank 7 of 9", "worst"]),
        (9, 1, [4], ["median"]),
        (2, 3, [0, 1], ["best", "worst"]),
        (1, 3, [0], ["only"]),
        (0, 3, [], []),
    ],
)
def test_ranks_are_spread_from_best_to_worst(
    n: int, count: int, ranks: list[int], kinds: list[str]
) -> None:
    assert recording.spread_ranks(n, count) == ranks
    assert [recording.name_rank(rank, n) for rank in ranks] == kinds


def test_the_median_stays_where_not_all_fit() -> None:
    pixels = [40, 0, 30, 0, 20]
    assert recording.fit_ranks([0, 2, 4], pixels, 100) == [0, 2, 4]
    assert recording.fit_ranks([0, 2, 4], pixels, 60) == [2, 4]
    assert recording.fit_ranks([0, 2, 4], pixels, 45) == [2]
    assert recording.fit_ranks([0, 2, 4], pixels, 10) == [2]
    assert recording.fit_ranks([0, 1, 4], pixels, 41) == [1, 4]


def make_slices(system: str, phase: str = "ce") -> list[ScoreRow]:
    """Make rows of single slices; slice 2 holds no tumor."""
    counts = {1: (1, 4), 2: (0, 0), 3: (9, 1), 4: (3, 3), 5: (0, 5)}
    values: dict[str, Any] = {"unit": "slice", "case": "volume-104"}
    return [
        make_row(system, phase, tp, fn, "test", slice=row, **values)
        for row, (tp, fn) in counts.items()
    ]


def test_slices_are_ranked_by_tumor_iou_among_those_that_hold_tumor() -> None:
    rows = make_table([*make_slices("sequential"), *make_slices("one_step")[:1]])
    table: pd.DataFrame = add_metrics(rows, ["iou"])
    assert list(recording.rank_slices(table, "sequential")["slice"]) == [3, 4, 1, 5]
    assert list(recording.rank_slices(table, "one_step")["slice"]) == [1]
    assert recording.rank_slices(table, "joint").empty
    assert recording.find_iou(table, "sequential", "volume-104", 4) == 0.5
    assert recording.find_iou(table, "one_step", "volume-104", 4) is None


def test_examples_are_the_best_the_median_and_the_worst_slice(
    run: Path, store: Store, tmp_path: Path
) -> None:
    recording.write_examples(run, store, make_table(make_slices("sequential")), tmp_path)
    about, arrays = read_json(tmp_path / "examples.json"), read_arrays(tmp_path / "examples.npz")
    shown = [(example["kind"], example["row"]) for example in about["examples"]]
    assert shown == [("best", 3), ("median", 1), ("worst", 5)]
    scores = {"one_step": None, "sequential": 0.9, "joint": None}
    assert about["examples"][0]["tumor_iou"] == scores
    assert (about["phase"], about["rule"]) == ("ce", "roc")
    hu = store.image("volume-104")[[3, 1, 5]]
    expected = np.where(hu > L_HU, np.where(hu < T_HU, 2, 1), 0)
    np.testing.assert_array_equal(arrays["sequential"], expected)
    assert not arrays["one_step"].any()
    # The slice with most tumor, as both networks see it.
    assert about["input"] == {"case": "volume-104", "row": 3}
    assert (about["liver_window_hu"], about["tumor_scaling"]) == ([-100, 400], "window")
    hu = np.asarray(store.image("volume-104")[3], np.float32)
    np.testing.assert_array_equal(arrays["input_mask"], hu > L_HU)
    seen = np.where(hu > L_HU, np.clip(hu, 0, 200) / 200, 0)
    np.testing.assert_allclose(arrays["input_tumor"], seen, atol=1e-6)
    np.testing.assert_allclose(arrays["input_liver"], np.clip((hu + 100) / 500, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(arrays["input_sequential"], arrays["sequential"][0])
