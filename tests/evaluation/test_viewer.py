"""Which cases the viewer gets, and that the labels recorded are those of the networks, on hand-made networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.backend import keras
from data.command import InputError
from data.files import read_json, write_json
from data.store import Store
from evaluation import viewer
from evaluation.page.viewer import read_recording
from evaluation.results import read_results
from tests.conftest import SIZE, Command
from tests.evaluation.fake_out import write_out

L_HU, T_HU = -15, 65  # between background (-60), tumor (30) and liver (100) of the cohort


def network(scale: float, offset: float) -> keras.Model:
    """A network whose logit is scale * input + offset at every pixel."""
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
    write_json(
        path / "run.json",
        {
            "preset": "tiny",
            "seed": 3,
            "size": SIZE,
            "synthetic": False,
            "store_sha256": store.sha256,
        },
    )
    # L sees (HU + 100) / 500, T sees HU / 200.
    networks = {
        "liver": (network(1000, -1000 * (L_HU + 100) / 500), {"window_hu": [-100, 400]}),
        "tumor": (
            network(-1000, 1000 * T_HU / 200),
            {"window_hu": [0, 200], "scaling": "window", "mask_s1": 0.5},
        ),
    }
    for stage, (model, inputs) in networks.items():
        (path / stage / "ce").mkdir(parents=True)
        model.save(path / stage / "ce" / "best.keras")
        thresholds = {stage: {"0.5": 0.5, "roc": 0.5, "iou": 0.5}}
        record = {"status": "ok", "why": "", "thresholds": thresholds, "validation": {}}
        write_json(path / stage / "ce" / "record.json", {**record, **inputs})
    return path


def score(model: str, loss: str, iou: float | str, **change: Any) -> dict[str, Any]:
    key = {
        "cohort": "validation",
        "model": model,
        "loss": loss,
        "target": "tumor",
        "threshold_rule": "roc",
    }
    return {**key, "iou": iou, **change}


ROWS = [score("sequential", "ce", 0.4), score("sequential", "balanced", 0.9, target="liver")]
# As cases.csv gives them: text. Volume 104 is the best, 103 the worst.
CASES = [
    score("sequential", "ce", iou, cohort="test", case=f"volume-{case}", tp="5", fn="2")
    for case, iou in ((103, "0.1"), (104, "0.9"), (105, "0.5"))
]


@pytest.fixture
def out(tmp_path: Path, store: Store) -> Path:
    """A folder of results that belong to the run."""
    made = write_out(tmp_path / "out", external=False, synthetic=False)
    summary = read_json(made / "summary.json")
    summary.update(preset="tiny", seed=3)
    summary["data"].update(split_sha256=store.split["sha256"])
    write_json(made / "summary.json", summary)
    return made


def test_the_labels_are_those_of_the_networks(run: Path, store: Store, out: Path) -> None:
    viewer.write_viewer(run, store, ROWS, CASES, out)
    recording = read_recording(read_results(out))
    assert recording is not None
    about, arrays = recording.about, recording.arrays
    assert [(case["case"], case["kind"]) for case in about["cases"]] == [
        ("volume-104", "best"),
        ("volume-105", "median"),
        ("volume-103", "worst"),
    ]
    assert (about["loss"], about["ranked_by"], about["left_out"]) == (
        {"sequential": "ce"},
        "sequential",
        [],
    )
    assert about["synthetic"] is False
    assert set(arrays) == {"hu", "label", "sequential"}
    start = 0
    for case in about["cases"]:
        # Slices 1 to 6 of 8 hold liver, and those are scored.
        assert (
            case["rows"]
            == [row for name, row in store.slices("test") if name == case["case"]]
            == [*range(1, 7)]
        )
        assert case["pixel_mm"] == pytest.approx([0.8, 0.8])
        hu = store.image(case["case"])[case["rows"]]
        np.testing.assert_array_equal(arrays["hu"][start : start + 6], hu)
        np.testing.assert_array_equal(
            arrays["label"][start : start + 6], store.label(case["case"])[case["rows"]]
        )
        expected = np.where(hu > L_HU, np.where(hu < T_HU, 2, 1), 0)
        np.testing.assert_array_equal(arrays["sequential"][start : start + 6], expected)
        start += 6
    assert start == len(arrays["hu"])


def test_the_command_records_other_numbers_of_cases(
    run: Path, store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = read_results(out)
    monkeypatch.setattr(viewer, "read_results", lambda path: results)
    results.rows[:], results.cases[:] = ROWS, CASES

    def call(*flags: object) -> list[str]:
        common = ("evaluation.viewer", "--run", run, "--store", store.path, "--out", out)
        monkeypatch.setattr("sys.argv", [*map(str, common), *map(str, flags)])
        viewer.main()
        with np.load(out / "viewer.npz") as file:
            return [case["case"] for case in json.loads(str(file["about"]))["cases"]]

    assert call("--cases", 1) == ["volume-105"]
    assert call("--cases", 2) == ["volume-104", "volume-103"]
    assert len(call()) == 3
    results.summary["seed"] = 4
    with pytest.raises(InputError, match="holds the results of another run"):
        call()
    results.summary["seed"] = 3
    write_json(run / "run.json", {**read_json(run / "run.json"), "store_sha256": "other"})
    with pytest.raises(InputError, match="not the store that"):
        call()
    write_json(run / "run.json", {**read_json(run / "run.json"), "store_sha256": store.sha256})
    for count in ("0", "6", "two"):
        with pytest.raises(SystemExit, match="2"):
            call("--cases", count)


def test_without_scores_nothing_is_left_of_an_earlier_recording(
    run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "viewer.npz").write_bytes(b"of an earlier run")
    viewer.write_viewer(run, store, [], [], tmp_path)
    assert capsys.readouterr().out == "viewer: no model was scored, so no case is recorded\n"
    assert not (tmp_path / "viewer.npz").exists()


@pytest.mark.parametrize(
    ("models", "ranks"),
    [
        (("joint",), "joint"),
        (("joint", "one_step"), "one_step"),
        (("joint", "one_step", "sequential"), "sequential"),
    ],
)
def test_the_sequential_model_ranks_the_cases_where_it_has_scores(
    run: Path,
    store: Store,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    models: tuple[str, ...],
    ranks: str,
) -> None:
    monkeypatch.setattr(viewer, "record", lambda *_: {})
    rows = [score(model, "ce", 0.4) for model in models]
    cases = [{**case, "model": model} for case in CASES for model in models]
    viewer.write_viewer(run, store, rows, cases, out)
    with np.load(out / "viewer.npz") as file:
        about = json.loads(str(file["about"]))
    assert (about["ranked_by"], about["loss"]) == (ranks, dict.fromkeys(models, "ce"))


def test_the_phase_with_the_better_validation_tumors() -> None:
    rows = [
        score("one_step", "ce", 0.3),
        score("one_step", "balanced", 0.5),
        score("sequential", "ce", 0.9),
    ]
    rows += [
        score("one_step", "ce", 0.8, **change)
        for change in ({"cohort": "test"}, {"threshold_rule": "iou"})
    ]
    assert viewer.better_phase(rows, "one_step") == "balanced"
    assert viewer.better_phase(rows, "sequential") == "ce"
    assert (
        viewer.better_phase(
            [score("one_step", "ce", 0.3), score("one_step", "balanced", 0.3)], "one_step"
        )
        == "ce"
    )
    assert viewer.better_phase(rows[:2], "sequential") is None


def test_cases_are_ranked_among_those_with_tumor() -> None:
    def case(name: str, iou: float, tp: int, fn: int, **change: Any) -> dict[str, Any]:
        return score("sequential", "ce", iou, cohort="test", case=name, tp=tp, fn=fn, **change)

    cases = [
        case("a", 1.0, 0, 0),
        case("b", 0.2, 1, 1),
        case("c", 0.7, 0, 3),
        case("d", 0.9, 1, 1, target="liver"),
    ]
    assert [row["case"] for row in viewer.rank_cases(cases, "sequential", "ce")] == ["c", "b"]
    assert [row["case"] for row in viewer.rank_cases(cases[:1], "sequential", "ce")] == ["a"]
    assert viewer.rank_cases(cases, "one_step", "ce") == []


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
    assert viewer.choose(n, count) == ranks
    assert [viewer.kind_of(rank, n) for rank in ranks] == kinds


def test_the_median_stays_where_not_all_fit() -> None:
    pixels = [40, 0, 30, 0, 20]
    assert viewer.fitting([0, 2, 4], pixels, 100) == [0, 2, 4]
    assert viewer.fitting([0, 2, 4], pixels, 60) == [2, 4]
    assert viewer.fitting([0, 2, 4], pixels, 45) == [2]
    assert viewer.fitting([0, 2, 4], pixels, 10) == [2]
    assert viewer.fitting([0, 1, 4], pixels, 41) == [1, 4]
