"""The whole paper on files: `bash reproduce.sh --preset smoke`, and what it must leave behind."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

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
    assert str(folder / "results" / "summary.json") in done.stdout
    assert done.stderr == ""
    return folder / "results"


def test_summary_holds_every_row(out: Path) -> None:
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["schema"], summary["preset"], summary["seed"]) == (1, "smoke", 0)
    assert summary["data"]["synthetic"] is True
    assert summary["data"]["cohort"] == "phantom"
    assert [entry["status"] for entry in summary["systems"]] == ["ok"] * 6
    keys = ("cohort", "model", "loss", "target", "threshold_rule")
    found = {tuple(row[key] for key in keys) for row in summary["rows"]}
    cohorts, losses, targets = (
        ("validation", "test", "external"),
        ("ce", "balanced"),
        ("liver", "tumor"),
    )
    rules = [("one_step", rule) for rule in ("argmax", "0.5", "roc", "iou")]
    rules += [(model, rule) for model in ("sequential", "joint") for rule in ("0.5", "roc", "iou")]
    wanted = {
        (cohort, model, loss, target, rule)
        for cohort, loss, target, (model, rule) in itertools.product(
            cohorts, losses, targets, rules
        )
    }
    assert found == wanted
    assert len(summary["rows"]) == len(wanted) == 120
    for row in summary["rows"]:
        assert row["n_cases"] >= 2
        assert row["n_slices"] >= 24
        assert all(row[score] is None or 0 <= row[score] <= 1 for score in SCORES)


def test_pooled_scores_follow_from_the_cases(out: Path) -> None:
    """The pooled rows are the sums of cases.csv."""
    with (out / "cases.csv").open(newline="") as file:
        cases = list(csv.DictReader(file))
    keys = ("cohort", "model", "loss", "target", "threshold_rule")
    for row in json.loads((out / "summary.json").read_text())["rows"]:
        mine = [case for case in cases if all(case[key] == row[key] for key in keys)]
        tp, fp, fn, tn = (
            sum(int(case[cell]) for case in mine) for cell in ("tp", "fp", "fn", "tn")
        )
        assert len(mine) == row["n_cases"]
        assert row["iou"] == pytest.approx(tp / (tp + fp + fn))
        assert row["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
        assert row["pixel_accuracy"] == pytest.approx((tp + tn) / (tp + fp + fn + tn))
        pixels = row["n_slices"] * 64 * 64
        assert tp + fp + fn + tn == pixels


def test_slices_counted_one_by_one_give_the_pooled_scores(out: Path) -> None:
    """slices.csv counts thresholded masks, summary.json comes from histograms of probabilities."""
    with (out / "slices.csv").open(newline="") as file:
        slices = list(csv.DictReader(file))
    rows = [
        row
        for row in json.loads((out / "summary.json").read_text())["rows"]
        if row["threshold_rule"] == "roc"
    ]
    keys = ("cohort", "model", "loss", "target")
    checked = 0
    for row in rows:
        mine = [one for one in slices if all(one[key] == row[key] for key in keys)]
        if row["cohort"] == "validation":
            assert not mine
            continue
        tp, fp, fn = (sum(int(one[cell]) for one in mine) for cell in ("tp", "fp", "fn"))
        assert len(mine) == row["n_slices"]
        assert row["iou"] == pytest.approx(tp / (tp + fp + fn), rel=1e-4)
        checked += 1
    assert checked == 24  # test and external, three models, two losses, two targets


def test_the_lesions_are_those_of_whole_cases(out: Path) -> None:
    """lesions.csv counts components of label maps: the voxels of all labels of the test and external cases."""
    with (out / "lesions.csv").open(newline="") as file:
        lesions = [row for row in csv.DictReader(file) if row["kind"] == "lesion"]
    with (out / "whole_cases.csv").open(newline="") as file:
        volumes = [row for row in csv.DictReader(file) if row["target"] == "tumor"]
    stores = {"test": out / "store", "external": out / "store-external"}
    assert len(volumes) == 6 * len({(row["cohort"], row["case"]) for row in volumes})
    for volume in volumes:
        label = np.load(stores[volume["cohort"]] / "cases" / volume["case"] / "label.npy")
        keys = ("cohort", "case", "model", "loss")
        mine = [row for row in lesions if all(row[key] == volume[key] for key in keys)]
        assert int(volume["n_slices"]) == len(label)
        assert sum(int(row["voxels"]) for row in mine) == int((label == 2).sum())


def test_postprocessing_is_shown_for_every_system(out: Path) -> None:
    """Without any option the counts are those of the label map; the chosen options were not chosen on these cases."""
    with (out / "postprocess.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (out / "slices.csv").open(newline="") as file:
        slices = list(csv.DictReader(file))
    options = {
        "none",
        "inside_liver",
        "largest_liver",
        "fill_holes",
        "min_lesion",
        "active_contour",
    }
    for cohort in ("validation", "test", "external"):
        mine = {row["option"] for row in rows if row["cohort"] == cohort}
        assert mine == options | ({"chosen"} if cohort != "validation" else set())
    for row in rows:
        if row["option"] == "none" and row["target"] == "tumor" and row["cohort"] != "validation":
            keys = ("cohort", "case", "model", "loss", "target")
            counted = [one for one in slices if all(one[key] == row[key] for key in keys)]
            assert int(row["tp"]) == sum(int(one["tp"]) for one in counted)
            assert int(row["fp"]) == sum(int(one["fp"]) for one in counted)


def test_scores_come_with_intervals_and_costs(out: Path) -> None:
    summary = json.loads((out / "summary.json").read_text())
    for row in summary["rows"]:
        if row["n_counted"] >= 5:
            assert 0 <= row["iou_low"] <= row["iou_high"] <= 1
        else:
            assert row["iou_low"] is None
    assert all(system["ms_per_slice"] > 0 for system in summary["systems"])
    assert len(summary["comparisons"]) == 3 * 2 * (
        2 * 2 + 3 + 6
    )  # cohorts, targets, pairs of systems
    assert len(summary["lits"]) == 2 * 6 * 2  # test and external, systems, modes
    assert all(len(row["figures"]) == 24 for row in summary["lits"])


def test_all_systems_are_compared_by_the_scores_of_whole_cases(
    out: Path, tmp_path: Path, run_module: Command
) -> None:
    """The paper's models in comparison.json score as in whole_cases.csv, on test and external cases."""
    stores = ("--store", out / "store", "--external", out / "store-external")
    done = run_module("evaluation.compare", "--run", out / "run", *stores, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "comparison.json").read_text())
    with (out / "whole_cases.csv").open(newline="") as file:
        wanted = {
            (f"{row['model']}_{row['loss']}", row["cohort"], row["case"], row["target"]): row
            for row in csv.DictReader(file)
        }
    assert {
        (r["system"], r["cohort"], r["case"], r["target"]) for r in content["cases"]
    } == wanted.keys()
    for row in content["cases"]:
        other = wanted[row["system"], row["cohort"], row["case"], row["target"]]
        assert row["dice"] == pytest.approx(float(other["dice"]))
        assert row["assd_mm"] == (float(other["assd_mm"]) if other["assd_mm"] else None)
    cost = {system["system"]: system for system in content["systems"]}
    summary = json.loads((out / "summary.json").read_text())
    seconds = summary["timing_s"]
    pair = seconds["liver_ce"] + seconds["tumor_ce"]
    assert cost["sequential_ce"]["train_s"] == pytest.approx(pair, abs=0.2)
    both = pair + seconds["liver_balanced"] + seconds["tumor_balanced"]
    assert cost["sequential_balanced"]["train_s"] == pytest.approx(both, abs=0.2)
    assert cost["joint_ce"]["train_s"] == pytest.approx(
        seconds["joint_ce"] + pair, abs=0.2
    )  # began as the pair
    assert cost["sequential_ce"]["parameters"] == 2 * cost["one_step_ce"]["parameters"] - 2 * (
        2 * 8 + 2
    )


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
    record = json.loads((out / "run" / "tumor" / "balanced" / "record.json").read_text())
    environment = record["fit"]["environment"]
    assert {"python", "packages", "git_commit", "processor"} <= environment.keys()
    assert record["fit"]["train_s"] > 0
    assert record["fit"]["peak_memory_mib"] > 0
    sweep = json.loads((out / "run" / "tumor" / "sweep.json").read_text())
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
    for stage in ("one_step", "liver", "tumor", "sweep", "joint"):
        start = ("--init", out / "run") if stage == "joint" else ()
        done = run_module(f"training.{stage}", "--run", out / "run", *flags, *start)
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.split("\n")) <= {
            f"{stage} ce: already done",
            f"{stage} balanced: already done",
            "sweep: already done",
            "",
        }
    own = ("--run", tmp_path / "run", *flags, "--set", "one_step_epochs=(1,1)")
    assert run_module("training.one_step", *own, "--phase", "ce").returncode == 0
    assert (
        json.loads((tmp_path / "run" / "one_step" / "ce" / "record.json").read_text())["fit"][
            "epochs"
        ]
        == 1
    )
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
        (("--nominal-spacing",), "--nominal-spacing: is for --all-systems"),
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
