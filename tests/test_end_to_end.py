"""The whole paper on files: `bash reproduce.sh --preset smoke`, and what it must leave behind."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from evaluation.postprocess import OPTIONS
from evaluation.results import Results, read_results
from evaluation.score_table import KEYS, select
from tests.conftest import ROOT, Command

FIGURES = (
    "fig_sequential_architecture",
    "fig_one_step_workflow",
    "fig_network_inputs",
    "fig_overlays",
    "fig_roc",
    "fig_learning_curves",
    "fig_class_weight",
    "fig_reliability",
    "fig_dice_by_case",
    "fig_lesion_recall",
)
SCORES = ("pixel_accuracy", "iou", "dice", "rand_index", "auc", "rauc")


def reproduce(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "reproduce.sh"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("end to end")
    # A relative --out, from another folder, with a space in its path.
    done = reproduce("--preset", "smoke", "--out", "results", cwd=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "# Table 1" in done.stdout
    assert str(folder / "results" / "scores.csv") in done.stdout
    assert done.stderr == ""
    return folder / "results"


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return read_results(out)


def test_table1_holds_every_row(results: Results) -> None:
    assert (results.summary["preset"], results.seed) == ("smoke", 0)
    assert (results.data["synthetic"], results.data["cohort"]) == (True, "phantom")
    assert [entry["status"] for entry in results.summary["systems"]] == ["ok"] * 6
    rules = [("one_step", rule) for rule in ("argmax", "0.5", "roc", "iou")]
    rules += [(name, rule) for name in ("sequential", "joint") for rule in ("0.5", "roc", "iou")]
    keys = itertools.product(
        ("validation", "test", "external"), ("liver", "tumor"), ("ce", "balanced"), rules
    )
    table = results.table1
    assert list(table[KEYS].itertuples(index=False, name=None)) == sorted(
        [(cohort, target, phase, *rule) for cohort, target, phase, rule in keys],
        key=lambda key: ([*"vte"].index(key[0][0]), key[1], key[2] != "ce"),
    )
    assert (table["n_cases"] >= 2).all()
    assert (table["n_slices"] >= 24).all()
    for score in SCORES:
        assert table[score].dropna().between(0, 1).all(), score


def test_pooled_scores_follow_from_the_cases(results: Results) -> None:
    rows = select(results.scores, unit="slices", postprocess="")
    sums = rows.groupby(KEYS)[["tp", "fp", "fn", "tn", "n_slices"]].sum()
    table = results.table1.set_index(KEYS)
    sums = sums.loc[table.index]
    foreground = sums["tp"] + sums["fp"] + sums["fn"]
    np.testing.assert_allclose(table["iou"], sums["tp"] / foreground)
    np.testing.assert_allclose(table["dice"], 2 * sums["tp"] / (foreground + sums["tp"]))
    pixels = sums[["tp", "fp", "fn", "tn"]].sum(axis=1)
    np.testing.assert_allclose(table["pixel_accuracy"], (sums["tp"] + sums["tn"]) / pixels)
    np.testing.assert_array_equal(pixels, sums["n_slices"] * 64 * 64)


def test_slices_counted_one_by_one_give_the_pooled_scores(results: Results) -> None:
    """Slices are counted from masks, Table 1 from histograms of probabilities."""
    slices = select(results.scores, unit="slice")
    assert set(slices["cohort"]) == {"test", "external"}
    sums = slices.groupby(KEYS)[["tp", "fp", "fn", "n_slices"]].sum()
    assert len(sums) == 24  # test and external, three systems, two phases, two targets
    table = results.table1.set_index(KEYS).loc[sums.index]
    assert (table["n_slices"] == sums["n_slices"]).all()
    iou = sums["tp"] / sums[["tp", "fp", "fn"]].sum(axis=1)
    np.testing.assert_allclose(table["iou"], iou, rtol=1e-4)


def test_the_lesions_are_those_of_whole_cases(out: Path, results: Results) -> None:
    """Their voxels are all voxels of label 2 of the test and external cases."""
    lesions = select(results.lesions, kind="lesion")
    whole = select(results.scores, unit="whole", target="tumor")
    stores = {"test": out / "store", "external": out / "store-external"}
    assert len(whole) == 6 * len(whole.groupby(["cohort", "case"]))
    for row in whole.itertuples(index=False):
        label = np.load(stores[row.cohort] / "cases" / row.case / "label.npy")
        keys = {name: getattr(row, name) for name in ("cohort", "case", "system", "phase")}
        assert row.n_slices == len(label)
        assert select(lesions, **keys)["voxels"].sum() == np.count_nonzero(label == 2)


def test_postprocessing_is_shown_for_every_system(results: Results) -> None:
    """Without any option the counts are those of the label map, slice by slice."""
    rows = results.scores[results.scores["postprocess"] != ""]
    for cohort in ("validation", "test", "external"):
        of_cohort = select(rows, cohort=cohort)
        assert set(of_cohort[~of_cohort["chosen"]]["postprocess"]) == {"none", *OPTIONS}
        assert of_cohort["chosen"].any() == (cohort != "validation")  # which chose them
    keys = ["cohort", "case", "system", "phase"]
    none = select(rows, postprocess="none", target="tumor", cohort=("test", "external"))
    slices = select(results.scores, unit="slice", target="tumor").groupby(keys)[["tp", "fp"]].sum()
    none = none.set_index(keys).loc[slices.index]
    assert (none[["tp", "fp"]] == slices).all(axis=None)


def test_scores_come_with_intervals_and_costs(results: Results) -> None:
    table = results.table1
    enough = table["n_counted"] >= 5
    assert table["iou_low"].isna().equals(~enough)
    assert (table["iou_low"] <= table["iou_high"])[enough].all()
    assert all(entry["ms_per_slice"] > 0 for entry in results.summary["systems"])
    # Cohorts, targets; pairs of systems in two phases, phases of systems, rules.
    assert len(results.comparisons) == 3 * 2 * (2 * 2 + 3 + 6)
    assert len(results.summary["lits"]) == 2 * 6 * 2  # test and external, systems, modes
    assert all(len(entry["figures"]) == 24 for entry in results.summary["lits"])


def test_a_system_costs_all_trainings_behind_it(results: Results) -> None:
    seconds = results.summary["timing_s"]
    costs = {(e["system"], e["phase"]): e for e in results.summary["systems"]}
    pair = seconds["liver_ce"] + seconds["tumor_ce"]
    both = pair + seconds["liver_balanced"] + seconds["tumor_balanced"]
    expected = {("sequential", "ce"): pair, ("sequential", "balanced"): both}
    expected["joint", "ce"] = seconds["joint_ce"] + pair  # began as the pair
    for name, train_s in expected.items():
        assert costs[name]["train_s"] == pytest.approx(train_s, abs=0.2)
    one_step, sequential = (costs[name, "ce"]["parameters"] for name in ("one_step", "sequential"))
    # Three classes at the end instead of one: 2 x (8 weights + 1 bias) more.
    assert sequential == 2 * (one_step - 2 * (8 + 1))


def test_the_report_is_one_page(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert "<canvas" in page
    assert "SYNTHETIC PHANTOM" in page
    assert "://" not in page  # nothing is fetched


def test_sets_share_no_patient(out: Path) -> None:
    split = json.loads((out / "store" / "split.json").read_text())
    sets = [set(patients) for patients in split["patients"].values()]
    assert all(not (a & b) for a, b in itertools.combinations(sets, 2))
    assert {name: sum(map(len, cases.values())) for name, cases in split["slices"].items()} == {
        "train": 96,
        "validation": 24,
        "test": 24,
    }


def test_tables_and_figures_are_there_and_called_synthetic(out: Path) -> None:
    for name in (
        "table1.csv",
        "table1.md",
        "table1.tex",
        "claims.md",
        "training.md",
        "comparisons.md",
        "cost.md",
        "lits.md",
        "ablation.md",
        "postprocessing.md",
        "whole_cases.md",
    ):
        assert "SYNTHETIC" in (out / "tables" / name).read_text(), name
    for name in FIGURES:
        for suffix in (".png", ".pdf"):
            assert (out / "figures" / (name + suffix)).stat().st_size > 5000, name + suffix


def test_run_records_what_made_it(out: Path) -> None:
    run = json.loads((out / "run" / "run.json").read_text())
    assert run["split_sha256"] == json.loads((out / "store" / "split.json").read_text())["sha256"]
    record = json.loads(
        (out / "run" / "sequential" / "tumor" / "balanced" / "record.json").read_text()
    )
    environment = record["fit"]["environment"]
    assert {"python", "packages", "git_commit", "processor"} <= environment.keys()
    assert record["fit"]["train_s"] > 0
    assert record["fit"]["peak_memory_mib"] > 0
    sweep = json.loads((out / "run" / "sequential" / "tumor" / "sweep.json").read_text())
    ratios = [point["ratio"] for point in sweep["points"]]
    pixels = record["class_pixels"]
    assert len(ratios) >= 5
    assert ratios[0] == 1
    assert ratios[-1] == pytest.approx((pixels["other"] + pixels["liver"]) / pixels["tumor"])


def test_second_call_does_only_what_is_not_done(out: Path) -> None:
    kept = [out / "summary.json", *(out / "run").rglob("*.keras"), *(out / "phantom").glob("*.gz")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    done = reproduce("--preset", "smoke", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "# Table 1" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_each_stage_has_its_own_command(out: Path, tmp_path: Path, run_module: Command) -> None:
    flags = ("--store", out / "store", "--preset", "smoke")
    for module in ("one_step", "liver", "tumor", "sweeps class_weight", "joint"):
        command, *kind = module.split()
        start = ("--init", out / "run") if command == "joint" else ()
        done = run_module(f"training.{command}", *kind, "--run", out / "run", *flags, *start)
        assert done.returncode == 0, done.stderr
        assert all(line.endswith("already done") for line in done.stdout.splitlines())
    own = ("--run", tmp_path / "run", *flags, "--set", "one_step_epochs=(1,1)")
    assert run_module("training.one_step", *own, "--phase", "ce").returncode == 0
    record = tmp_path / "run" / "one_step" / "classes" / "ce" / "record.json"
    assert json.loads(record.read_text())["fit"]["epochs"] == 1
    assert [path.name for path in (tmp_path / "run").iterdir() if path.is_dir()] == ["one_step"]


def test_predict_segments_a_volume_of_the_cohort(
    out: Path, tmp_path: Path, run_module: Command
) -> None:
    volume = out / "phantom" / "volume-3.nii.gz"
    labels = tmp_path / "labels.nii.gz"
    for model in ("sequential", "one_step", "joint"):
        arguments = ("--run", out / "run", "--input", volume, "--output", labels, "--model", model)
        done = run_module("evaluation.predict", *arguments)
        assert done.returncode == 0, done.stderr
        found, given = nib.load(labels), nib.load(volume)
        assert found.shape == given.shape
        np.testing.assert_array_equal(found.affine, given.affine)
        assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1, 2}
        reference = np.asarray(nib.load(out / "phantom" / "segmentation-3.nii.gz").dataobj) > 0
        liver = np.asarray(found.dataobj) > 0
        assert np.logical_and(liver, reference).sum() / np.logical_or(liver, reference).sum() > 0.2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--preset", "nope"), "unknown preset"),
        (("--data", "missing"), "--data missing: no such folder"),
        (("--external", "missing"), "--external missing: no such folder"),
        (("--seed", "x"), "must be a whole number"),
        (("--epochs", "3"), "unknown flag"),
        (("--preset",), "needs a value"),
        (("--data", ""), "--data: needs a value"),
        (("--seed", "4294967296"), "must be a whole number from 0 to 2**32 - 1"),
        (
            ("--all-systems", "--by-slice"),
            "--all-systems: the other systems are scored on whole cases",
        ),
    ],
)
def test_bad_flags_are_one_line(tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    done = reproduce("--out", tmp_path / "out", *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_evaluation_refuses_what_does_not_belong_to_the_run(
    out: Path, tmp_path: Path, run_module: Command
) -> None:
    external, trained = out / "store-external", tmp_path / "trained"
    made = ("--source", out / "phantom", "--store", trained, "--size", 64, "--external")
    assert run_module("data.prepare", *made).returncode == 0
    for arguments, words in (
        (("--store", external), "not the store that"),
        (("--store", out / "store", "--external", out / "store"), "not an external store"),
        (("--store", tmp_path), "not a slice store"),
        (("--store", out / "store", "--external", trained), "its patients trained the run"),
    ):
        done = run_module(
            "evaluation.evaluate", "--run", out / "run", *arguments, "--out", tmp_path / "new"
        )
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "new").exists()
