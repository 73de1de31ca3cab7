"""Tables from a made-up OUT: every row in every format, failed systems, labels, one-line errors."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.command import InputError
from evaluation.metrics.counts import METRICS, Counts, Metric, iou, register_metric
from evaluation.metrics.statistics import SIMULATED, bound_score
from evaluation.results import Results, read_results
from evaluation.tables.__main__ import main
from evaluation.tables.registry import TABLES
from evaluation.tables.table1 import escape_tex, make_csv, make_table1, make_tex
from evaluation.tables.text import write_iou_interval, write_score, write_threshold
from evaluation.tables.training import describe_scaling, make_training
from tests.evaluation.fake_out import FAILURE, write_out

NAMES = {"ce": "cross-entropy", "one_step": "one-step"}
SCORES = ("pixel_accuracy", "iou", "rand_index", "dice", "auc", "rauc")
KEYS = ("cohort", "target", "phase", "system", "rule")
Row = dict[str, Any]


def read_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def add_up(out: Path) -> list[Row]:
    """Return Table 1 by plain sums over scores.csv and the formulas of the scores."""
    sums: dict[tuple[str, ...], dict[str, Counts]] = defaultdict(dict)
    totals: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    thresholds = {}
    for line in read_rows((out / "scores.csv").read_text()):
        if (line["unit"], line["postprocess"]) == ("slices", ""):
            key = tuple(line[name] for name in KEYS)
            counts = Counts(*(int(line[name]) for name in ("tp", "fp", "fn", "tn")))
            sums[key][line["patient"]] = counts
            totals[key][0] += 1
            totals[key][1] += int(line["n_slices"])
            thresholds[key] = float(line["threshold"]) if line["threshold"] else None
    curves = {
        (c["cohort"], c["target"], c["phase"], c["system"]): c
        for c in json.loads((out / "curves.json").read_text())["curves"]
    }
    rows = []
    for key, patients in sums.items():
        c = sum(patients.values(), Counts())
        n = c.tp + c.fp + c.fn + c.tn
        row: Row = dict(zip(KEYS, key, strict=True)) | {"threshold": thresholds[key]}
        row |= {"n_cases": totals[key][0], "n_slices": totals[key][1]}
        row |= {"pixel_accuracy": (c.tp + c.tn) / n, "iou": c.tp / (c.tp + c.fp + c.fn)}
        row |= {"dice": 2 * c.tp / (2 * c.tp + c.fp + c.fn)}
        row["rand_index"] = 1 - (c.tp + c.tn) * (c.fp + c.fn) / (n * (n - 1) / 2)
        row |= {area: curves[key[:4]][area] for area in ("auc", "rauc")}
        bounds = bound_score(patients, iou)
        row |= {"iou_low": bounds.low, "iou_high": bounds.high}
        rows.append(row)
    return rows


def split_cells(line: str, separator: str = "|") -> list[str]:
    line = line.strip("| \\\n").replace("**", "").replace("\\textbf{", "").replace("}", "")
    return [cell.strip() for cell in line.split(separator)]


def expect_cells(row: Row) -> list[str]:
    names = [NAMES.get(row[key], row[key]) for key in ("target", "phase", "system", "rule")]
    threshold = "-" if row["threshold"] is None else f"{row['threshold']:.3f}"
    # 0.9997 would be 1.000 with three decimals.
    scores = [
        f"{row[name]:.4f}" if 0.9995 <= row[name] < 1 else f"{row[name]:.3f}" for name in SCORES
    ]
    # The first rule of a system alone has the scores that need no threshold.
    if row["rule"] != ("argmax" if row["system"] == "one_step" else "0.5"):
        scores[-2:] = ["", ""]
    if row["cohort"] == "validation":  # 4 patients, 3 of them with tumor
        return [*names, threshold, *scores, f"{4 if row['target'] == 'liver' else 3} patients"]
    return [*names, threshold, *scores, f"{row['iou_low']:.3f} to {row['iou_high']:.3f}"]


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    """Results of a run of three systems; not to be changed."""
    return read_results(out)


def change(results: Results, **columns: Any) -> Results:
    """Return results whose Table 1 has other values in some columns."""
    rows = results.table1.assign(**columns).to_dict("records")
    return replace(results, recorded={**results.recorded, "table1": rows})


def select_lines(text: str, start: str = "| tumor") -> list[str]:
    """Return the rows of the test set that begin so."""
    block = text.split("## Test")[1].split("## External")[0]
    return [line for line in block.splitlines() if line.startswith(start)]


def test_csv_holds_every_row_with_all_digits(out: Path, results: Results) -> None:
    lines = {tuple(line[k] for k in KEYS): line for line in read_rows(make_csv(results))}
    rows = add_up(out)
    # Rules of all systems, and argmax of one-step.
    assert len(lines) == len(rows) == 3 * 6 * 2 * 3 + 3 * 2 * 2
    for row in rows:
        line = lines[tuple(row[key] for key in KEYS)]
        assert [float(line[name]) for name in SCORES] == pytest.approx(
            [row[name] for name in SCORES], rel=1e-14
        )
        assert (line["n_cases"], line["n_slices"]) == (str(row["n_cases"]), str(row["n_slices"]))
        assert line["threshold"] == ("" if row["threshold"] is None else str(row["threshold"]))
        assert (line["preset"], line["seed"], line["status"]) == ("demo", "0", "ok")


@pytest.mark.parametrize(("make", "separator"), [(make_table1, "|"), (make_tex, "&")])
def test_readable_tables_hold_every_row(
    out: Path, results: Results, make: Any, separator: str
) -> None:
    lines = [split_cells(line, separator) for line in make(results).splitlines()]
    rows = [expect_cells(row) for row in add_up(out)]
    assert all(row in lines for row in rows)
    assert sum(line[0] in ("liver", "tumor") for line in lines) == len(rows)


def test_markdown_rows_are_sorted_and_the_best_is_bold(out: Path, results: Results) -> None:
    text = make_table1(results)
    lines = select_lines(text, ("| liver", "| tumor"))
    orders = (
        ("liver", "tumor"),
        ("cross-entropy", "balanced"),
        ("one-step", "sequential", "joint"),
        ("argmax", "0.5", "roc", "iou"),
    )
    heads = [split_cells(line)[:4] for line in lines]
    keys = [tuple(o.index(v) for o, v in zip(orders, head, strict=True)) for head in heads]
    assert keys == sorted(keys)
    best = max(r["iou"] for r in add_up(out) if (r["cohort"], r["target"]) == ("test", "tumor"))
    for line in select_lines(text):
        is_best = split_cells(line)[6] == f"{best:.3f}"
        assert ("**" in line.split("|")[7]) == is_best
    assert any("**" in line.split("|")[7] for line in select_lines(text))


def test_an_empty_mask_is_never_best(results: Results) -> None:
    is_empty = (results.table1["system"] == "one_step") & (results.table1["phase"] == "ce")
    columns = {"iou": results.table1["iou"].mask(is_empty, 0.0)}
    columns |= {"pixel_accuracy": results.table1["pixel_accuracy"].mask(is_empty, 0.9999)}
    lines = make_table1(change(results, **columns)).splitlines()
    # The areas under the curve need no mask.
    at_threshold = [line.split("|")[6:10] for line in lines if "cross-entropy | one-step |" in line]
    assert at_threshold
    assert not any("**" in cell for line in at_threshold for cell in line)
    assert sum("**" in line for line in lines if line.startswith("| tumor")) >= 3


def test_scores_equal_at_the_decimals_shown_are_all_bold(results: Results) -> None:
    scores = results.table1["iou"].clip(upper=0.5)
    test = results.table1.query("cohort == 'test' and target == 'tumor'").index
    scores[test[:3]] = (0.81234, 0.81196, 0.8114)
    lines = select_lines(make_table1(change(results, iou=scores)))
    shown = [line.split("|")[7].strip() for line in lines]
    assert shown.count("**0.812**") == 2
    assert "0.811" in shown


def test_areas_are_bold_by_system_and_stand_once(results: Results) -> None:
    """The best area is that of a system, whatever the IoU of its rules."""
    areas = [0.9 + number / 10000 for number in range(len(results.table1))]
    lines = select_lines(make_table1(change(results, auc=areas, iou=0.0)))
    cells = [line.split("|")[10].strip() for line in lines]
    assert [cell != "" for cell in cells] == 2 * ([True, *[False] * 3] + 2 * [True, False, False])
    assert [cell for cell in cells if "**" in cell] == [[cell for cell in cells if cell][-1]]


def test_a_registered_metric_is_a_column_of_its_own(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.metrics.counts.METRICS", METRICS)
    metric = Metric("missed", "missed", lambda c: c.fn / (c.tp + c.fn), "low", table1=True)
    register_metric(metric)
    try:
        results = read_results(out)
        text = make_table1(results)
        row = results.find(cohort="test", target="tumor", system="joint", phase="ce", rule="roc")
        assert "missed" in read_rows(make_csv(results))[0]
    finally:
        del METRICS["missed"]
    heading = split_cells(next(line for line in text.splitlines() if line.startswith("| target")))
    place = heading.index("missed")
    line = next(line for line in select_lines(text) if "| cross-entropy | joint | roc |" in line)
    assert split_cells(line)[place] == f"{row.fn / (row.tp + row.fn):.3f}"
    # The least is the best.
    values = {line.split("|")[place + 1].strip() for line in select_lines(text)}
    best = min(values, key=lambda cell: float(cell.strip("*")))
    assert best.startswith("**")


POOLED = "cores pooled over all pixels of a cohort"
PAPER = "paper's own Table 1 numbers are not available"
CHOSEN, INTERVALS = "hosen on validation data", "simulated coverage 83 % at 5, 88 % at 10"
CHOSEN_BEFORE = (
    "its mean IoU of liver and tumor rose by each of them alone, and further by each that was added"
)
CELLS = ("Bold:", "n/a: undefined", "argmax: most", "Youden")
BY_PATIENT = (INTERVALS, "by patient", "not corrected", "may differ in sign", "2 / 2^n")
LITS = ("Whole cases", "Thresholds by rule roc", CHOSEN, "signed", "at most once", "9001: infinite")
SAYS = {
    "table1.md": (POOLED, PAPER, CHOSEN, INTERVALS, "give no interval", *CELLS),
    "table1.tex": (POOLED, PAPER, CHOSEN, *CELLS),
    "claims.md": (PAPER, INTERVALS, "about its two models"),
    "comparisons.md": (*BY_PATIENT, "give no interval"),
    "ablation.md": (POOLED, CHOSEN, INTERVALS, "-: not a rule of that model", "give no interval"),
    "lits.md": LITS,
    "postprocessing.md": (CHOSEN_BEFORE, "counted are the slices of Table 1", "whole case"),
    "whole_cases.md": ("Means over cases", "n counts the cases", "Every slice of a case"),
    "calibration.md": ("Expected calibration error (ECE)", "lower is better", "before", "no pixel"),
    "cost.md": ("GFLOPs: convolutions", "n/a: not recorded", "slices of the test and external"),
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
def tables(out: Path) -> Path:
    main(["--out", str(out)])
    return out / "tables"


@pytest.mark.parametrize("name", SAYS)
def test_every_table_says_what_it_stands_on(tables: Path, name: str) -> None:
    text = (tables / name).read_text()
    assert "SYNTHETIC PHANTOM" in text
    assert "reset demo, seed 0" in text
    # LaTeX has its own way to write some characters.
    plain = text.replace("\\%", "%")
    for words in SAYS[name]:
        assert words in plain
    for words in SAYS_NOT.get(name, ()):
        assert words not in plain


def test_the_tables_are_the_files(
    tables: Path, results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {f"{name}.md" for name, table in TABLES.items() if table.make(results)}
    assert made == {path.name for path in tables.glob("*.md")}
    assert {path.name for path in tables.iterdir()} == SAYS.keys() | {"table1.csv", "claims.json"}
    assert {f"{100 * share:.0f} % at {n}" for n, share in SIMULATED.items()} == {
        "83 % at 5",
        "88 % at 10",
    }
    (tables / "joint.md").write_text("of an earlier run, with a sweep")
    main(["--out", str(tables.parent)])
    assert capsys.readouterr().out == (tables / "table1.md").read_text()
    assert not (tables / "joint.md").exists()


def test_a_run_without_the_joint_model_has_no_trace_of_it(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out", joint=False)
    main(["--out", str(out)])
    for path in (out / "tables").iterdir():
        assert "joint" not in path.read_text().lower(), path.name


def test_only_the_synthetic_cohort_is_called_synthetic(tmp_path: Path) -> None:
    text = make_table1(read_results(write_out(tmp_path / "out", synthetic=False)))
    assert "## Test: LiTS, 60 slices of 7 cases, 7 patients (tumor in 6)\n" in text
    origin = "phantom-external, SYNTHETIC PHANTOM"
    assert f"## External: {origin}, 80 slices of 8 cases, 8 patients (tumor in 8)\n" in text
    real = write_out(tmp_path / "real", external=False, synthetic=False)
    assert "SYNTHETIC" not in make_table1(read_results(real))


def test_failed_system_is_marked_and_has_no_score(failed: Path) -> None:
    results = read_results(failed)
    system = next(iter(FAILURE))
    rows = read_rows(make_csv(results))
    lines = [row for row in rows if (row["system"], row["phase"]) == system]
    assert [(line["cohort"], line["status"], line["iou"]) for line in lines] == [
        (cohort, "failed", "") for cohort in ("validation", "test", "external")
    ]
    for text in (make_table1(results), make_tex(results)):
        assert text.count("NOT A RESULT") == 3
        starts = ("| tumor | balanced | sequential", "tumor & balanced & sequential")
        assert not any(line.startswith(starts) for line in text.splitlines())
    assert "100 \\% background" in make_tex(results)


def test_a_system_beside_table_1_that_failed_is_not_named_in_it(results: Results) -> None:
    entry = {"system": "segnet", "phase": "train", "status": "failed", "why": "x", "table1": False}
    summary = {**results.summary, "systems": [*results.summary["systems"], entry]}
    recorded = {"table1": results.table1.to_dict("records")}
    wider = replace(results, summary=summary, recorded=recorded)
    assert make_table1(wider) == make_table1(results)
    assert "segnet" not in make_csv(wider)


def test_a_score_of_a_failed_system_does_not_slip_through(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    summary["systems"][0].update(status="failed", why="all background")
    (out / "summary.json").write_text(json.dumps(summary))
    results = read_results(out)
    tables = (results.table1, results.scores, pd.DataFrame(results.curves), results.lesions)
    for table in tables:
        assert len(table)
        assert not ((table["system"] == "one_step") & (table["phase"] == "ce")).any()


def test_missing_scores_read_na(results: Results) -> None:
    without = change(results, rauc=None)
    assert make_table1(without).count("| n/a |") == 3 * 6 * 2  # cohorts, systems, targets
    assert all(row["rauc"] == "" for row in read_rows(make_csv(without)))


def test_training_table_shows_the_note_of_a_phase(tmp_path: Path) -> None:
    results = read_results(write_out(tmp_path / "out"))
    (phase,) = [
        p for p in results.training["phases"] if (p["network"], p["phase"]) == ("tumor", "ce")
    ]
    phase["note"] = "tumor: no better than chance"
    noted = [line for line in make_training(results).splitlines() if "chance" in line]
    assert len(noted) == 1
    start = "| sequential | tumor | cross-entropy | ok; tumor: no better than chance |"
    assert noted[0].startswith(start)
    noted = [line for line in make_table1(results).splitlines() if "chance" in line]
    assert noted == ["On validation data, sequential, cross-entropy: tumor: no better than chance."]


def test_a_scaling_that_failed_its_trial_is_called_so() -> None:
    trial = {"window": 0.4, "liver_median": 0.1}
    scaling = {"epochs": 2, "validation_iou": trial, "chosen": "liver_median"}
    status = {"window": "collapsed", "liver_median": "ok"}
    said = describe_scaling({**scaling, "status": status})
    assert "window 0.400 (collapsed, no result), liver_median 0.100;" in said
    assert "window 0.400, liver_median 0.100;" in describe_scaling(scaling)


def test_training_table(results: Results) -> None:
    text = make_training(results)
    # 14 epochs of 11.5 s; parameters of the U-Net with 16 to 256 filters.
    liver = "ok | 1, 1 | 1,940,817 | 14 | 13 | 161.0 | 11.5 | 1,234 |"
    assert f"| sequential | liver | cross-entropy | {liver}" in text
    assert "| sequential | tumor | balanced | tumor | 0.500 | 0.137 | 0.420 |" in text
    assert "| system | network | phase | target | rule 0.5 | rule roc | rule iou |" in text
    # Twice the parameters; weights by target.
    weights = "liver 0.4, 3.1; tumor 3.1, 0.4"
    joint = f"ok | {weights} | 3,881,634 | 4 | 3 | 46.0 | 11.5 | 1,001 |"
    assert f"| joint | nested | balanced | {joint}" in text
    start = "mask in training probability, from the sequential pair"
    assert f"Joint: alpha 1 (liver), beta 2 (tumor), {start}" in text
    assert "| 120 | **collapsed** | - | - | - | - | - |" in text
    assert "window 0.510, liver_median 0.490; chosen: window" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (float("nan"), "n/a"),
        (1.0, "1.000"),
        (0.9996, "0.9996"),
        (0.99951, "0.9995"),
        (0.99998, ">0.9999"),
        (0.4444, "0.444"),
        (0.0, "0.000"),
        (0.0001, "<0.001"),
    ],
)
def test_a_score_never_rounds_to_one(value: float | None, text: str) -> None:
    assert write_score(value) == text


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
def test_threshold_in_words(value: float | None, text: str) -> None:
    assert write_threshold(value) == text


def test_tex_is_escaped() -> None:
    assert escape_tex("a_b & 5% <1 #2 {x} \\") == (
        "a\\_b \\& 5\\% \\textless{}1 \\#2 \\{x\\} \\textbackslash{}"
    )


@pytest.mark.parametrize("name", ["summary.json", "training.json", "curves.json", "scores.csv"])
def test_missing_file_is_one_line(tmp_path: Path, name: str) -> None:
    out = write_out(tmp_path / "out")
    (out / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        main(["--out", str(out)])
    assert not (out / "tables").exists()


def test_other_schema_is_refused(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    (out / "summary.json").write_text(json.dumps({**summary, "schema": 1}))
    with pytest.raises(InputError, match="expected schema 2, got 1"):
        read_results(out)


def test_command_without_out_folder_exits_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evaluation.tables", "--out", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no such folder" in done.stderr


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"iou_low": 0.41049, "iou_high": 0.63}, "0.410 to 0.630"),
        ({"iou_low": None, "n_patients": 7, "n_counted": 1}, "1 patient"),
        ({"iou_low": None, "n_patients": 2}, "2 patients"),
        ({"iou": 0.5}, "n/a"),
    ],
)
def test_interval_of_a_row(row: Row, text: str) -> None:
    assert write_iou_interval(next(pd.DataFrame([row]).itertuples(index=False))) == text


def test_the_sample_of_a_cohort(results: Results) -> None:
    assert results.describe_sample("validation") == "60 slices of 4 cases, 4 patients (tumor in 3)"
    data = {**results.data, "test_cases": 1}
    empty = replace(results, summary={**results.summary, "data": data}, scores=results.scores[:0])
    assert empty.describe_sample("test") == "60 slices of 1 case"


def test_skipped_draws_are_reported(results: Results) -> None:
    assert "were skipped" not in make_table1(change(results, draws_skipped=0))
    for make in (make_table1, make_tex):
        text = make(change(results, draws_skipped=13))
        assert "Up to 13 of 2000 draws, without any patient that counts, were skipped." in text
