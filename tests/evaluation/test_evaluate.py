"""One evaluation of a run: what is scored, what is taken over from an earlier call."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.command import InputError
from data.files import read_json, write_json
from data.store import Store
from evaluation import evaluate as command
from evaluation.evaluate import evaluate, list_scored, list_trainings, sum_phase_seconds
from evaluation.results import read_results
from evaluation.score_table import read_table, select
from tests.conftest import ROOT, SIZE
from tests.evaluation.known_networks import write_system
from tests.evaluation.page.test_recording import make_network

MACHINE = {"git_commit": "abc", "processor": "x", "cores": 2, "keras_backend": "tensorflow"}
FIT = {"epochs": 6, "best_epoch": 5, "train_s": 10.0, "train_slices": 96, "parameters": 2}
FIT |= {"peak_memory_mib": 700.0, "environment": MACHINE}
LIVER = {"name": "windowed", "window_hu": [-100, 400]}
TUMOR = {"name": "masked", "window_hu": [0, 200], "scaling": "window", "mask_s1": 0.5}


def make_record(target: str, options: dict[str, Any], **values: Any) -> dict[str, Any]:
    thresholds = {"0.5": 0.5, "roc": 0.5, "iou": 0.5}
    record = {"inputs": {target: options}, "thresholds": {target: thresholds}, "fit": FIT}
    return {**record, "validation": {target: {"iou_at_roc": 0.5}}, **values}


def write_logs(run: Path) -> None:
    for path in run.glob("*/*/*/record.json"):
        path.with_name("log.csv").write_text("epoch,loss,val_loss\n0,0.5,nan\n")


@pytest.fixture(scope="module")
def made_run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a pair after cross-entropy and a pair of another document.

    L answers HU > -15; T answers HU < 65 inside that.
    """
    path = tmp_path_factory.mktemp("evaluated") / "run"
    liver, tumor = make_network(1000, -170), make_network(-1000, 325)
    pair = {"liver": make_record("liver", LIVER), "tumor": make_record("tumor", TUMOR, note="weak")}
    networks = {"liver": (liver, pair["liver"]), "tumor": (tumor, pair["tumor"])}
    write_system(path, "sequential", networks)
    both = {name: (liver, make_record(name, LIVER)) for name in ("liver", "tumor")}
    values: dict[str, Any] = {"phases": ["ce"], "decision": "half", "table1": False}
    write_system(path, "another", both, **values)
    content = {"preset": "tiny", "seed": 3, "size": SIZE, "synthetic": False, "settings": {}}
    write_json(path / "run.json", {**content, "store_sha256": store.sha256})
    write_logs(path)
    return path


@pytest.fixture
def run(made_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(made_run, tmp_path / "run"))


@pytest.fixture
def cohorts(store: Store) -> dict[str, Store]:
    """The validation and the test set."""
    return {"validation": store, "test": store}


def change_record(run: Path, name: str, **values: Any) -> None:
    path = run / name / "record.json"
    write_json(path, {**read_json(path), **values})


def test_every_finished_system_is_scored_once(
    run: Path, cohorts: dict[str, Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    evaluate(run, cohorts, out)
    said = capsys.readouterr().out.splitlines()
    assert "sequential_balanced: not trained yet, so not scored" in said
    assert {"sequential_ce: scored", "another: scored", f"scores: {out / 'scores.csv'}"} <= set(
        said
    )
    results = read_results(out)
    pair, other = results.summary["systems"]
    assert (pair["system"], pair["status"], pair["table1"]) == ("sequential", "ok", True)
    assert (pair["note"], pair["epochs"]) == ("weak", {"liver": [5, 6], "tumor": [5, 6]})
    assert (pair["train_s"], pair["peak_memory_mib"], pair["parameters"]) == (20.0, 700.0, 4)
    assert (pair["trained_with"], pair["begins"]) == ("96 slices", "random")
    assert pair["validation_iou"] == {"liver": 0.5, "tumor": 0.5}
    assert (other["system"], other["table1"]) == ("another", False)
    assert results.summary["trained_on"] == [MACHINE]
    assert results.summary["timing_s"].keys() == {"liver_ce", "tumor_ce", "evaluate"}
    label = np.asarray(cohorts["test"].label("volume-105"))
    whole = select(results.scores, unit="whole", target="liver")
    assert [(row.system, row.rule) for row in whole.itertuples()] == [
        ("sequential", "roc"),
        ("another", "0.5"),
    ]
    assert set(whole["tp"]) == {(label > 0).sum()}
    assert set(select(results.scores, unit="slices")["system"]) == {"sequential"}
    (network,) = results.training["architectures"]["sequential"]["liver"]["layers"][1:2]
    assert (network["name"], network["inputs"]) == ("logits", ["slice"])
    assert results.training["phases"][0]["rows"] == [{"epoch": 0, "loss": 0.5, "val_loss": None}]
    assert (out / "viewer.npz").is_file()
    # Nothing is done twice, and nothing heavy is loaded to find that out.
    call = ["evaluate", "--run", run, "--store", cohorts["test"].path, "--out", out]
    code = (
        f"import sys; sys.argv = {[str(part) for part in call]!r}\n"
        "from evaluation.evaluate import main; main()\n"
        "assert not {'tensorflow', 'keras', 'skimage'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "evaluation: already done"


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The systems that were scored, in order; "another" is interrupted while it is listed here."""
    names: list[str] = []
    score = command.score_system

    def record(run: Path, name: tuple[str, str], *rest: Any) -> Any:
        if names[:1] == ["stop at another"] and name[0] == "another":
            raise KeyboardInterrupt
        names.append(name[0])
        return score(run, name, *rest)

    monkeypatch.setattr(command, "score_system", record)
    return names


def test_a_call_goes_on_where_an_earlier_one_stopped(
    run: Path, cohorts: dict[str, Store], tmp_path: Path, scored: list[str]
) -> None:
    out = tmp_path / "out"
    scored.append("stop at another")
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, cohorts, out)
    summary = read_json(out / "summary.json")
    assert [entry["system"] for entry in summary["systems"]] == ["sequential"]
    assert summary["left"] == ["another_ce"]
    before = read_table(out / "scores.csv")
    scored.clear()
    evaluate(run, cohorts, out)
    assert scored == ["another"]
    assert select(read_table(out / "scores.csv"), system="sequential").equals(before)
    assert read_json(out / "summary.json")["left"] == []

    # What has changed since is scored anew, and that alone; a failed system keeps no scores.
    change_record(run, "another/tumor/ce", status="collapsed", why="all of it")
    scored.clear()
    evaluate(run, cohorts, out)
    assert scored == ["another"]
    entry = read_json(out / "summary.json")["systems"][1]
    assert (entry["status"], entry["why"]) == ("partial", "tumor collapsed: all of it")
    rows = select(read_table(out / "scores.csv"), system="another")
    assert list(rows["target"]) == ["liver"]
    change_record(run, "another/liver/ce", status="diverged", why="NaN")
    evaluate(run, cohorts, out)
    entry = read_json(out / "summary.json")["systems"][1]
    assert (entry["status"], entry["targets"]) == ("failed", [])
    assert select(read_table(out / "scores.csv"), system="another").empty

    # Distances are left out of all scores, or of none.
    scored.clear()
    evaluate(run, cohorts, out, nominal_spacing=True)
    assert scored == ["sequential", "another"]
    assert select(read_table(out / "scores.csv"), unit="whole")["assd_mm"].isna().all()
    assert read_json(out / "summary.json")["data"]["nominal_spacing"]

    # Another number of cases in the viewer asks for nothing to be scored, and stays.
    scored.clear()
    evaluate(run, cohorts, out, nominal_spacing=True, viewer_cases=1)
    evaluate(run, cohorts, out, nominal_spacing=True)
    assert scored == []
    assert read_json(out / "summary.json")["shown"]["viewer_cases"] == 1


def test_a_split_by_slice_leaves_no_unseen_case(
    run: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    by_slice = Store(store.path, store.info, {**store.split, "by": "slice"})
    assert list_scored(run, by_slice) == [("sequential", "ce")]
    assert "another: not scored, the split is by slice" in capsys.readouterr().out
    shutil.rmtree(run / "sequential")
    with pytest.raises(InputError, match=r"split by slice; no system of .* is scored on slices"):
        list_scored(run, by_slice)


def test_the_cost_of_a_system_is_that_of_all_trainings_behind_it(run: Path) -> None:
    """The balanced phase follows cross-entropy; a joint model that began as the pair, the pair."""
    content = read_json(run / "sequential" / "system.json")
    write_json(run / "joint" / "system.json", {**content, "name": "joint", "networks": ["nested"]})
    record = {"fit": FIT, "start": "pair"}
    for phase in ("ce", "balanced", "sweep_pair_1"):
        write_json(run / "joint" / "nested" / phase / "record.json", record)
    pair = ["sequential/liver/ce", "sequential/tumor/ce"]

    def list_names(name: str, phase: str) -> list[str]:
        paths = list_trainings(run, name, phase)
        return [str(path.parent.relative_to(run)) for path in paths]

    own = ["joint/nested/ce", "joint/nested/balanced"]
    assert list_names("sequential", "ce") == pair
    assert list_names("joint", "ce") == [*own[:1], *pair]
    assert list_names("joint", "balanced") == [*own, *pair]
    assert list_names("joint", "sweep_pair_1") == ["joint/nested/sweep_pair_1"]
    write_json(run / "sequential" / "tumor" / "sweep_3" / "record.json", record)
    write_json(run / "sequential" / "tumor" / "sweep_9" / "record.json", record)
    assert sum_phase_seconds(run) == {
        "joint_ce": 10.0,
        "joint_balanced": 10.0,
        "liver_ce": 10.0,
        "tumor_ce": 10.0,
        "sweep": 20.0,
    }


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"--run": "nowhere"}, "nowhere: not a run directory"),
        ({"--viewer-cases": "6"}, "--viewer-cases 6: at most 5"),
        ({"--viewer-cases": "two"}, "must be a whole number of at least 1"),
        ({"--stor": "x"}, "--stor: no such flag; did you mean --store?"),
    ],
)
def test_bad_flags_are_one_line(
    made_run: Path,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: dict[str, str],
    words: str,
) -> None:
    paths = {"--run": str(made_run), "--store": str(store.path), "--out": str(tmp_path / "out")}
    arguments = [part for flag, value in {**paths, **flags}.items() for part in (flag, value)]
    monkeypatch.setattr("sys.argv", ["evaluation.evaluate", *arguments])
    with pytest.raises((InputError, SystemExit)) as error:
        command.main()
    assert words in str(error.value) + capsys.readouterr().err
    assert not (tmp_path / "out").exists()
