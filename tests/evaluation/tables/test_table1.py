"""Tables from a made-up OUT: every row in every format, failed systems, labels, one-line errors."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from data.command import InputError
from evaluation.metrics.statistics import SIMULATED
from evaluation.results import read_results
from evaluation.tables.__main__ import (
    PAGES,
    main,
    table1_csv,
    table1_markdown,
    table1_tex,
    tex_escape,
)
from evaluation.tables.text import interval_of, readable, sample
from evaluation.tables.training import readable_threshold, scaling_line, training_markdown
from tests.evaluation.fake_out import FAILURE, write_out

NAMES = {"ce": "cross-entropy", "one_step": "one-step"}
METRICS = ("pixel_accuracy", "iou", "rand_index", "dice", "auc", "rauc")


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
    scores = [
        f"{row[name]:.4f}" if 0.9995 <= row[name] < 1 else f"{row[name]:.3f}" for name in METRICS
    ]
    # the first rule of a system alone has the scores that need no threshold
    if row["threshold_rule"] != ("argmax" if row["model"] == "one_step" else "0.5"):
        scores[-2:] = ["", ""]
    interval = f"{row['iou'] - 0.05:.3f} to {min(1, row['iou'] + 0.04):.3f}"
    if row["cohort"] == "validation":  # 4 patients, 3 of them with tumor
        interval = f"{4 if row['target'] == 'liver' else 3} patients"
    return [*names, threshold, *scores, interval]


def test_csv_holds_every_row_with_all_digits(out):
    found = {
        tuple(row[key] for key in ("cohort", "target", "loss", "model", "threshold_rule")): row
        for row in csv_rows(table1_csv(read_results(out)))
    }
    rows = recorded(out)
    assert (
        len(found) == len(rows) == 3 * 6 * 2 * 3 + 3 * 2 * 2
    )  # rules of all systems, and argmax of one-step
    for row in rows:
        line = found[
            tuple(row[key] for key in ("cohort", "target", "loss", "model", "threshold_rule"))
        ]
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
    orders = (
        ("liver", "tumor"),
        ("cross-entropy", "balanced"),
        ("one-step", "sequential", "joint"),
    )
    rules = ("argmax", "0.5", "roc", "iou")
    keys = [
        tuple(o.index(v) for o, v in zip((*orders, rules), head, strict=True)) for head in heads
    ]
    assert keys == sorted(keys)
    best = max(
        row["iou"] for row in recorded(out) if (row["cohort"], row["target"]) == ("test", "tumor")
    )
    bold = [line for line in lines if line.startswith("| tumor") and "**" in line.split("|")[7]]
    assert {cells(line, "|")[6] for line in bold} == {f"{best:.3f}"}
    assert all(
        "**" in line.split("|")[7]
        for line in lines
        if f"| {best:.3f} |" in line and line.startswith("| tumor")
    )


def test_an_empty_mask_is_never_best(tmp_path):
    out = write_out(tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    for row in summary["rows"]:
        if (row["model"], row["loss"]) == ("one_step", "ce"):
            row.update(iou=0.0, pixel_accuracy=0.9999)
    (out / "summary.json").write_text(json.dumps(summary))
    lines = table1_markdown(read_results(out)).splitlines()
    # the areas under the curve need no mask
    at_a_threshold = [
        line.split("|")[6:10] for line in lines if "cross-entropy | one-step |" in line
    ]
    assert at_a_threshold
    assert not any("**" in cell for line in at_a_threshold for cell in line)
    assert sum("**" in line for line in lines if line.startswith("| tumor")) >= 3


def test_scores_equal_at_the_decimals_shown_are_all_bold(tmp_path):
    out = write_out(tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    mine = [row for row in summary["rows"] if (row["cohort"], row["target"]) == ("test", "tumor")]
    for row, value in zip(mine, (0.81234, 0.81196, 0.8114), strict=False):
        row["iou"] = value
    (out / "summary.json").write_text(json.dumps(summary))
    block = table1_markdown(read_results(out)).split("## Test")[1].split("## External")[0]
    shown = [
        line.split("|")[7].strip() for line in block.splitlines() if line.startswith("| tumor")
    ]
    assert shown.count("**0.812**") == 2
    assert "0.811" in shown


def test_areas_are_bold_by_system_and_stand_once(out):
    """The best area is that of a system, whatever the IoU of its rules."""
    results = read_results(out)
    for number, row in enumerate(results.rows):
        row["auc"] = 0.9 + number / 10000
        row["iou"] = 0.0
    block = table1_markdown(results).split("## Test")[1].split("## External")[0]
    areas = [
        line.split("|")[10].strip() for line in block.splitlines() if line.startswith("| tumor")
    ]
    assert [cell != "" for cell in areas] == 2 * ([True, *[False] * 3] + 2 * [True, False, False])
    assert [cell for cell in areas if "**" in cell] == [[cell for cell in areas if cell][-1]]


POOLED, PAPER = (
    "Scores pooled over all pixels of a cohort",
    "paper's own Table 1 numbers are not available",
)
CHOSEN, INTERVALS = "hosen on validation data", "simulated coverage 83 % at 5, 88 % at 10"
CHOSEN_BEFORE = (
    "its mean IoU of liver and tumor rose by each of them alone, and further by each that was added"
)
SAYS = {
    "table1.md": (
        POOLED,
        PAPER,
        CHOSEN,
        INTERVALS,
        "give no interval",
        "Bold:",
        "n/a: undefined",
        "argmax: most",
    ),
    "table1.tex": (
        "cores pooled over all pixels",
        PAPER,
        CHOSEN,
        "Bold:",
        "n/a: undefined",
        "argmax: most",
        "Youden",
    ),
    "claims.md": (PAPER, INTERVALS, "about its two models"),
    "comparisons.md": (
        INTERVALS,
        "by patient",
        "not corrected",
        "may differ in sign",
        "2 / 2^n",
        "give no interval",
    ),
    "ablation.md": (POOLED, CHOSEN, INTERVALS, "-: not a rule of that model", "give no interval"),
    "lits.md": (
        "Whole cases",
        "Thresholds by rule roc",
        CHOSEN,
        "signed",
        "at most once",
        "9001: infinite",
    ),
    "postprocessing.md": (CHOSEN_BEFORE, "counted are the slices of Table 1", "whole case"),
    "whole_cases.md": (
        "Means over cases",
        "n counts the cases behind a mean",
        "Every slice of a case",
    ),
    "calibration.md": (
        "Expected calibration error (ECE)",
        "lower is better",
        "before",
        "n/a: no pixel",
    ),
    "cost.md": (
        "GFLOPs: convolutions",
        "n/a: not recorded",
        "slices of the test and external cases",
    ),
    "training.md": (CHOSEN, "n/a: not recorded"),
}
SAYS_NOT = {
    "claims.md": (POOLED,),
    "comparisons.md": (POOLED, PAPER),
    "ablation.md": (PAPER,),
    "lits.md": (POOLED, PAPER, "pooled", "scored slices"),
    "calibration.md": (POOLED, PAPER),
    "cost.md": (POOLED, PAPER, "pooled", "threshold"),
    "training.md": (POOLED, PAPER, "pooled"),
}


@pytest.fixture(scope="module")
def tables(out):
    main(["--out", str(out)])
    return out / "tables"


@pytest.mark.parametrize("name", SAYS)
def test_every_table_says_what_it_stands_on(tables, name):
    text = (tables / name).read_text()
    assert "SYNTHETIC PHANTOM" in text
    assert "reset demo, seed 0" in text
    # LaTeX has its own way to write some characters
    plain = text.replace("\\%", "%")
    for words in SAYS[name]:
        assert words in plain
    for words in SAYS_NOT.get(name, ()):
        assert words not in plain


def test_the_pages_are_the_files(tables, capsys):
    assert {name for name, _, _ in PAGES} == {path.name for path in tables.glob("*.md")}
    assert {path.name for path in tables.iterdir()} == SAYS.keys() | {"table1.csv", "claims.json"}
    assert {f"{100 * share:.0f} % at {n}" for n, share in SIMULATED.items()} == {
        "83 % at 5",
        "88 % at 10",
    }
    main(["--out", str(tables.parent)])
    assert capsys.readouterr().out == (tables / "table1.md").read_text()


def test_a_run_without_the_joint_model_has_no_trace_of_it(tmp_path):
    out = write_out(tmp_path / "out", joint=False)
    main(["--out", str(out)])
    for path in (out / "tables").iterdir():
        assert "joint" not in path.read_text().lower(), path.name


def test_only_the_synthetic_cohort_is_called_synthetic(tmp_path):
    out = write_out(tmp_path / "out", synthetic=False)
    text = table1_markdown(read_results(out))
    assert "## Test: LiTS, 60 slices of 7 cases, 7 patients (tumor in 6)\n" in text
    assert (
        "## External: phantom-external, SYNTHETIC PHANTOM, 80 slices of 8 cases, 8 patients (tumor in 8)\n"
        in text
    )
    assert "SYNTHETIC" not in table1_markdown(
        read_results(write_out(tmp_path / "b", 0, None, False, False))
    )


def test_failed_system_is_marked_and_has_no_score(failed):
    results = read_results(failed)
    lines = [
        row
        for row in csv_rows(table1_csv(results))
        if (row["model"], row["loss"]) == next(iter(FAILURE))
    ]
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
    assert table1_markdown(results).count("| n/a |") == 3 * 6 * 2  # cohorts, systems, targets
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
    scaling = {
        "epochs": 2,
        "validation_iou": {"window": 0.4, "liver_median": 0.1},
        "chosen": "liver_median",
    }
    status = {"window": "collapsed", "liver_median": "ok"}
    assert "window 0.400 (collapsed, no result), liver_median 0.100;" in scaling_line(
        {**scaling, "status": status}
    )
    assert "window 0.400, liver_median 0.100;" in scaling_line(scaling)


def test_training_table(out):
    main(["--out", str(out)])
    text = (out / "tables" / "training.md").read_text()
    # 14 epochs of 11.5 s; parameters of the U-Net with 16 to 256 filters.
    assert (
        "| liver | cross-entropy | ok | 1, 1 | 1,940,817 | 14 | 13 | 161.0 | 11.5 | 1,234 |" in text
    )
    assert "| tumor | balanced | tumor | 0.500 | 0.137 | 0.420 |" in text
    assert "| stage | phase | target | rule 0.5 | rule roc | rule iou |" in text
    # twice the parameters; weights by target
    weights = "liver 0.4, 3.1; tumor 3.1, 0.4"
    assert (
        f"| joint | balanced | ok | {weights} | 3,881,634 | 4 | 3 | 46.0 | 11.5 | 1,001 |" in text
    )
    assert (
        "Joint: alpha 1 (liver), beta 2 (tumor), mask in training probability, from the sequential pair"
        in text
    )
    assert "| 120 | **collapsed** | - | - | - | - | - |" in text
    assert "window 0.510, liver_median 0.490; chosen: window" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (1.0, "1.000"),
        (0.99951, "0.9995"),
        (0.99998, ">0.9999"),
        (0.0, "0.000"),
        (0.0001, "<0.001"),
    ],
)
def test_readable(value, text):
    assert readable(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.5, "0.500"),
        (0.00012, "0.00012"),
        (0.99996, "0.999960"),
        (0.0, "0"),
        (1, "1"),
    ],
)
def test_readable_threshold(value, text):
    assert readable_threshold(value) == text


def test_tex_escape():
    assert tex_escape("a_b & 5% <1 #2 {x} \\") == (
        "a\\_b \\& 5\\% \\textless{}1 \\#2 \\{x\\} \\textbackslash{}"
    )


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


def test_interval_of_a_row():
    assert interval_of({"iou_low": 0.41049, "iou_high": 0.63}) == "0.410 to 0.630"
    assert (
        interval_of({"iou_low": None, "iou_high": None, "n_patients": 7, "n_counted": 1})
        == "1 patient"
    )
    assert interval_of({"iou_low": None, "iou_high": None, "n_patients": 2}) == "2 patients"
    assert interval_of({}) == "n/a"


def test_the_sample_of_a_cohort(out):
    results = read_results(out)
    assert sample(results, "validation") == "60 slices of 4 cases, 4 patients (tumor in 3)"
    results.summary["data"]["test_cases"] = 1
    results.rows[:] = []
    assert sample(results, "test") == "60 slices of 1 case"


def test_skipped_draws_are_reported(out):
    results = read_results(out)
    assert "were skipped" not in table1_markdown(results)
    results.rows[0]["draws_skipped"] = 13
    for text in (table1_markdown(results), table1_tex(results)):
        assert "Up to 13 of 2000 draws, without any patient that counts, were skipped." in text
