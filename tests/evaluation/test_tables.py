"""Tables from a made-up OUT: every row in every format, failed systems, labels, one-line errors."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from data.command import InputError
from evaluation.claims import judge
from evaluation.more_tables import ablation_markdown, lits_markdown
from evaluation.results import read_results
from evaluation.tables import (
    claims_markdown,
    comparisons_markdown,
    main,
    readable,
    readable_threshold,
    scaling_line,
    table1_csv,
    table1_markdown,
    table1_tex,
    tex_escape,
    training_markdown,
)
from tests.evaluation.fake_out import write_out

FAILURE = {("sequential", "balanced"): "no tumor pixel | 100 % background"}
NAMES = {"ce": "cross-entropy", "one_step": "one-step"}
METRICS = ("pixel_accuracy", "iou", "rand_index", "dice", "auc", "rauc")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return write_out(tmp_path_factory.mktemp("whole") / "out")


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    return write_out(tmp_path_factory.mktemp("failed") / "out", failures=FAILURE)


def recorded(out: Path) -> list[dict]:
    return json.loads((out / "summary.json").read_text())["rows"]


def csv_rows(text: str) -> list[dict]:
    return list(csv.DictReader(text.splitlines()))


def cells(line: str, separator: str) -> list[str]:
    line = line.strip("| \\\n").replace("**", "").replace("\\textbf{", "").replace("}", "")
    return [cell.strip() for cell in line.split(separator)]


def expected_cells(row: dict) -> list[str]:
    names = [NAMES.get(row[key], row[key]) for key in ("target", "loss", "model", "threshold_rule")]
    threshold = "-" if row["threshold"] is None else f"{row['threshold']:.3f}"
    # 0.9997 would be 1.000 with three decimals.
    scores = [f"{row[name]:.4f}" if 0.9995 <= row[name] < 1 else f"{row[name]:.3f}" for name in METRICS]
    interval = f"{row['iou'] - 0.05:.2f} to {row['iou'] + 0.04:.2f}" if "iou_low" in row else "n/a"
    return [*names, threshold, *scores, interval]


def test_csv_holds_every_row_with_all_digits(out):
    found = {
        tuple(row[key] for key in ("cohort", "target", "loss", "model", "threshold_rule")): row
        for row in csv_rows(table1_csv(read_results(out)))
    }
    rows = recorded(out)
    assert len(found) == len(rows) == 3 * 4 * 2 * 3 + 3 * 2 * 2  # rules of all systems, and argmax of one-step
    for row in rows:
        line = found[tuple(row[key] for key in ("cohort", "target", "loss", "model", "threshold_rule"))]
        assert [float(line[name]) for name in METRICS] == [row[name] for name in METRICS]
        assert (line["n_cases"], line["n_slices"]) == (str(row["n_cases"]), str(row["n_slices"]))
        assert line["threshold"] == ("" if row["threshold"] is None else str(row["threshold"]))
        assert (line["preset"], line["seed"], line["status"]) == ("demo", "0", "ok")


@pytest.mark.parametrize(("make", "separator"), [(table1_markdown, "|"), (table1_tex, "&")])
def test_readable_tables_hold_every_row(out, make, separator):
    text = make(read_results(out))
    lines = [cells(line, separator) for line in text.splitlines()]
    wanted = [expected_cells(row) for row in recorded(out)]
    assert all(row in lines for row in wanted)
    assert sum(line[0] in ("liver", "tumor") for line in lines) == len(wanted)


def test_markdown_rows_are_sorted_and_the_best_is_bold(out):
    text = table1_markdown(read_results(out))
    block = text.split("## Test")[1].split("## External")[0]
    lines = [line for line in block.splitlines() if line.startswith(("| liver", "| tumor"))]
    heads = [cells(line, "|")[:4] for line in lines]
    orders = (("liver", "tumor"), ("cross-entropy", "balanced"), ("one-step", "sequential"))
    rules = ("argmax", "0.5", "roc", "iou")
    keys = [tuple(o.index(v) for o, v in zip((*orders, rules), head, strict=True)) for head in heads]
    assert keys == sorted(keys)
    best = max(row["iou"] for row in recorded(out) if (row["cohort"], row["target"]) == ("test", "tumor"))
    bold = [line for line in lines if line.startswith("| tumor") and "**" in line.split("|")[7]]
    assert [cells(line, "|")[6] for line in bold] == [f"{best:.3f}"]


def test_an_empty_mask_is_never_best(tmp_path):
    out = write_out(tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    for row in summary["rows"]:
        if (row["model"], row["loss"]) == ("one_step", "ce"):
            row.update(iou=0.0, pixel_accuracy=0.9999)
    (out / "summary.json").write_text(json.dumps(summary))
    lines = table1_markdown(read_results(out)).splitlines()
    assert not any("**" in line for line in lines if "cross-entropy | one-step |" in line)
    assert sum("**" in line for line in lines if line.startswith("| tumor")) >= 3


@pytest.mark.parametrize("name", ["table1.md", "table1.tex", "claims.md", "training.md"])
def test_every_table_says_what_it_stands_on(out, name, capsys):
    main(["--out", str(out)])
    assert capsys.readouterr().out == (out / "tables" / "table1.md").read_text()
    text = (out / "tables" / name).read_text()
    assert "SYNTHETIC PHANTOM" in text
    assert "preset demo, seed 0" in text
    lowered = text.lower()
    assert "scores pooled over all pixels" in lowered
    assert "thresholds chosen on validation data" in lowered
    assert "paper's own table 1 numbers are not available" in lowered


def test_only_the_synthetic_cohort_is_called_synthetic(tmp_path):
    out = write_out(tmp_path / "out", synthetic=False)
    text = table1_markdown(read_results(out))
    assert "## Test: LiTS, 60 slices of 4 cases" in text
    assert "## External: phantom-external, SYNTHETIC PHANTOM, 80 slices of 8 cases" in text
    assert "SYNTHETIC" not in table1_markdown(read_results(write_out(tmp_path / "b", 0, None, False, False)))


def test_failed_system_is_marked_and_has_no_score(failed):
    results = read_results(failed)
    lines = [row for row in csv_rows(table1_csv(results)) if (row["model"], row["loss"]) == next(iter(FAILURE))]
    assert [(line["cohort"], line["status"], line["iou"]) for line in lines] == [
        (cohort, "failed", "") for cohort in ("validation", "test", "external")
    ]
    for text in (table1_markdown(results), table1_tex(results)):
        assert text.count("NOT A RESULT") == 3
        rows = ("| tumor | balanced | sequential", "tumor & balanced & sequential")
        assert not any(line.startswith(rows) for line in text.splitlines())
    assert "100 \\% background" in table1_tex(results)


def test_a_score_of_a_failed_system_does_not_slip_through(tmp_path):
    out = write_out(tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    summary["systems"][0].update(status="collapsed", why="all background")
    (out / "summary.json").write_text(json.dumps(summary))
    results = read_results(out)
    for entries in (results.rows, results.curves, results.cases):
        assert not any((entry["model"], entry["loss"]) == ("one_step", "ce") for entry in entries)


def test_missing_scores_read_na(tmp_path):
    out = write_out(tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    for row in summary["rows"]:
        row["rauc"] = None
    (out / "summary.json").write_text(json.dumps(summary))
    results = read_results(out)
    assert table1_markdown(results).count("| n/a |") == len(summary["rows"])
    assert all(row["rauc"] == "" for row in csv_rows(table1_csv(results)))


def test_training_table_shows_the_note_of_a_phase(tmp_path):
    out = write_out(tmp_path / "out")
    training = json.loads((out / "training.json").read_text())
    training["phases"][4]["note"] = "tumor: no better than chance"
    (out / "training.json").write_text(json.dumps(training))
    noted = [line for line in training_markdown(read_results(out)).splitlines() if "chance" in line]
    assert len(noted) == 1
    assert noted[0].startswith("| tumor | cross-entropy | ok; tumor: no better than chance |")
    noted = [line for line in table1_markdown(read_results(out)).splitlines() if "chance" in line]
    assert noted == ["On validation data, sequential, cross-entropy: tumor: no better than chance."]


def test_a_scaling_that_failed_its_trial_is_called_so():
    scaling = {"epochs": 2, "validation_iou": {"window": 0.4, "liver_median": 0.1}, "chosen": "liver_median"}
    status = {"window": "collapsed", "liver_median": "ok"}
    assert "window 0.400 (collapsed, no result), liver_median 0.100;" in scaling_line({**scaling, "status": status})
    assert "window 0.400, liver_median 0.100;" in scaling_line(scaling)


def test_training_table(out):
    main(["--out", str(out)])
    text = (out / "tables" / "training.md").read_text()
    # 14 epochs of 11.5 s; parameters of the U-Net with 16 to 256 filters.
    assert "| liver | cross-entropy | ok | 1, 1 | 1,940,817 | 14 | 13 | 161.0 | 11.5 | 1,234 |" in text
    assert "| tumor | balanced | tumor | 0.500 | 0.137 | 0.420 |" in text
    assert "| 120 | **collapsed** | - | - | - | - | - |" in text
    assert "window 0.510, liver_median 0.490; chosen: window" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "n/a"), (1.0, "1.000"), (0.99951, "0.9995"), (0.99998, ">0.9999"), (0.0, "0.000"), (0.0001, "<0.001")],
)
def test_readable(value, text):
    assert readable(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.5, "0.500"), (0.00012, "0.00012"), (0.99996, "0.999960"), (0.0, "0"), (1, "1")]
)
def test_readable_threshold(value, text):
    assert readable_threshold(value) == text


def test_tex_escape():
    assert tex_escape("a_b & 5% <1 #2 {x} \\") == ("a\\_b \\& 5\\% \\textless{}1 \\#2 \\{x\\} \\textbackslash{}")


@pytest.mark.parametrize("name", ["summary.json", "training.json", "curves.json", "cases.csv"])
def test_missing_file_is_one_line(tmp_path, name):
    out = write_out(tmp_path / "out")
    (out / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        main(["--out", str(out)])
    assert not (out / "tables").exists()


def test_other_schema_and_broken_rows_are_refused(tmp_path):
    out = write_out(tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    (out / "summary.json").write_text(json.dumps({**summary, "schema": 2}))
    with pytest.raises(InputError, match="expected schema 1, got 2"):
        read_results(out)
    del summary["rows"][0]["iou"]
    (out / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match="a row has no 'iou'"):
        read_results(out)


def test_command_without_out_folder_exits_2(tmp_path):
    command = [sys.executable, "-m", "evaluation.tables", "--out", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no such folder" in done.stderr


def test_systems_are_compared_by_patient(out):
    lines = [cells(line, "|") for line in comparisons_markdown(read_results(out)).splitlines()]
    systems = "sequential, balanced - one-step, balanced"
    assert ["test", "tumor", systems, "+0.120", "+0.040", "+0.200", "0.031", "5", "1", "6"] in lines
    assert ["validation", "tumor", systems, "+0.120", "n/a", "+0.200", "n/a", "5", "1", "6"] in lines
    claims = claims_markdown(read_results(out), judge(read_results(out).evidence))
    assert "95 % interval by patient +0.040 to +0.200, Wilcoxon p = 0.031, n = 6; liver IoU" in claims
    assert "6 patients: no interval" in claims


def test_lits_figures_and_ablation(out):
    summary = json.loads((out / "summary.json").read_text())
    figures = {"lesion_precision": 0.25, "MAXERROR_Tumorburden": -0.5}
    head = {"cohort": "test", "model": "sequential", "loss": "ce", "threshold_rule": "roc", "mode": "official"}
    results = read_results(out)
    results.summary["lits"] = [{**head, "figures": figures}]
    text = lits_markdown(results)
    assert "## Test, official" in text
    assert "## Test, corrected" not in text
    assert "| MAXERROR_Tumorburden | -0.500 |" in text
    lines = [cells(line, "|") for line in ablation_markdown(results).splitlines()]
    scored = {
        row["threshold_rule"]: f"{row['iou']:.3f}"
        for row in summary["rows"]
        if (row["cohort"], row["target"], row["model"], row["loss"]) == ("test", "tumor", "sequential", "ce")
    }
    assert ["tumor", "sequential", "cross-entropy", "", scored["0.5"], scored["roc"], scored["iou"]] in lines
