"""Several seeds: spread against numpy and by hand, the README's scores, claims counted."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.results import Results, read_results
from evaluation.tables.claims import FAILS, HOLDS, UNTESTED
from evaluation.tables.seeds import (
    list_verdicts,
    make_options_page,
    make_scores,
    make_spread,
    make_spread_csv,
    spread_seeds,
)
from tests.evaluation.fake_out import write_out
from tests.evaluation.tables.test_table1 import add_up, read_rows, split_cells

KEYS = ("cohort", "target", "phase", "system", "rule")
FAILURES = {("one_step", "ce"): "loss is not finite"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        write_out(folder / f"seed{seed}", seed, FAILURES if seed == 2 else None)
        for seed in (0, 1, 2)
    ]


@pytest.fixture(scope="module")
def records(folders: list[Path]) -> list[Results]:
    return [read_results(folder) for folder in folders]


def test_spread_by_hand() -> None:
    row = dict(zip(KEYS, ("test", "tumor", "ce", "joint", "roc"), strict=True))
    tables = [
        [{**row, "iou": iou, "dice": dice, "rauc": None}]
        for iou, dice in ((1.0, 0.5), (2.0, None), (6.0, None))
    ]
    empty = pd.DataFrame()
    records = [Results(Path(), {}, {}, empty, recorded={"table1": table}) for table in tables]
    spread = {row.metric: row for row in spread_seeds(records).itertuples(index=False)}
    iou = spread["iou"]
    assert (iou.mean, iou.sd, iou.min, iou.max, iou.n_seeds) == (3, pytest.approx(7**0.5), 1, 6, 3)
    dice = spread["dice"]
    assert (dice.mean, dice.min, dice.max, dice.n_seeds) == (0.5, 0.5, 0.5, 1)
    assert np.isnan(dice.sd)
    assert spread["rauc"].n_seeds == 0
    assert np.isnan(spread["rauc"].mean)


def test_csv_against_numpy(folders: list[Path], records: list[Results]) -> None:
    lines = read_rows(make_spread_csv(records))
    external = [line for line in lines if line["cohort"] == "external"]
    assert all("SYNTHETIC PHANTOM" in line["data"] for line in external)
    runs = [{tuple(row[k] for k in KEYS): row for row in add_up(folder)} for folder in folders]
    assert len(lines) == 3 * len(runs[0])
    for line in lines:
        key = tuple(line[name] for name in KEYS)
        values = [run[key][line["metric"]] for run in runs if key in run]
        is_failed = (line["system"], line["phase"]) in FAILURES
        assert int(line["n_seeds"]) == len(values) == (2 if is_failed else 3)
        expected = [np.mean(values), np.std(values, ddof=1), min(values), max(values)]
        spread = [float(line[name]) for name in ("mean", "sd", "min", "max")]
        np.testing.assert_allclose(spread, expected, rtol=1e-9, atol=1e-12)


def test_markdown(folders: list[Path], records: list[Results]) -> None:
    text = make_spread(records)
    assert "preset demo, 3 seeds: 0, 1, 2." in text
    assert "SYNTHETIC PHANTOM" in text
    assert "thresholds chosen on validation data" in text
    why = "failed: loss is not finite: NOT A RESULT, not counted."
    assert f"**Seed 2: one-step, cross-entropy: {why}**" in text
    key = ("test", "tumor", "balanced", "sequential", "roc")
    rows = [row for folder in folders for row in add_up(folder)]
    values = [row["iou"] for row in rows if tuple(row[k] for k in KEYS) == key]
    low, high, sd = min(values), max(values), np.std(values, ddof=1)
    block = text.split("## Test")[1].split("##")[0]
    start = "| tumor | balanced | sequential | roc |"
    line = next(line for line in block.splitlines() if line.startswith(start))
    assert split_cells(line)[4] == f"{np.mean(values):.3f} ± {sd:.3f} ({low:.3f} to {high:.3f})"
    assert line.endswith("| 3 of 3 |")
    assert "| Liver scores close to 1 | test | 2 of 2 | 1 |" in text
    assert "± n/a (" in make_spread(records[:1])  # one seed has no SD


def test_claim_counts_add_up(records: list[Results]) -> None:
    claims = list_verdicts(records)
    for _, verdicts in claims:
        for of_seeds in verdicts.values():
            assert len(of_seeds) == 3
            assert set(of_seeds) <= {HOLDS, FAILS, UNTESTED}
    fast = next(verdicts for claim, verdicts in claims if claim["id"] == "one_step_fast")
    assert fast["training"] == [HOLDS] * 3


def find_cells(text: str, *start: str) -> list[str]:
    return next(cells for cells in map(split_cells, text.splitlines()) if cells[:4] == [*start])


def test_one_seed_has_intervals_where_they_are_known(records: list[Results]) -> None:
    first = records[0]
    text = make_scores(records[:1])
    headings = ["IoU, rule 0.5", "IoU, rule roc", "IoU, rule iou", "95 % interval, rule roc"]
    assert split_cells(text.splitlines()[0])[4:8] == headings
    row = first.find(cohort="test", target="tumor", system="joint", phase="ce", rule="roc")
    cells = find_cells(text, "test", "tumor", "cross-entropy", "joint")
    assert cells[7] == f"{row.iou_low:.3f} to {row.iou_high:.3f} (6 patients)"
    few = first.table1.assign(iou_low=None, n_counted=2)
    without = first.table1.drop(columns=["iou_low"])
    pair = first.table1.query("system != 'joint'")

    def show(table: pd.DataFrame) -> str:
        return make_scores([replace(first, recorded={"table1": table.to_dict("records")})])

    assert "| 2 patients |" in show(few)
    assert "interval" not in show(without)
    assert "joint" not in show(pair)
    assert "interval" not in make_scores(records), "several seeds have their own spread"
    assert "(n = 2 of 3)" in make_scores(records)


def test_what_post_processing_changes_is_a_mean_over_the_seeds(records: list[Results]) -> None:
    """Holes filled: the tumor's IoU from 0.4 and 0.6 to 0.5 and 0.8; chosen in one seed."""
    head = {"cohort": "test", "target": "tumor", "system": "joint", "phase": "ce"}
    seeds = []
    for results, values, chosen in zip(
        records, ((0.4, 0.5, 0.5), (0.6, 0.8, 0.6)), (["fill_holes"], []), strict=False
    ):
        options = zip(("none", "fill_holes", "chosen"), values, strict=True)
        rows = [{**head, "option": option, "iou": iou} for option, iou in options]
        summary: dict[str, Any] = copy.deepcopy(results.summary)
        for entry in summary["systems"]:
            entry["postprocess"] = chosen
        seeds.append(replace(results, summary=summary, recorded={"postprocessing": rows}))
    text = make_options_page("x", seeds)
    cells = split_cells(next(line for line in text.splitlines() if line.startswith("| joint")))
    assert cells[1] == "0.500"
    assert cells.count("+0.150") == 1
    assert cells.count("n/a") == 4
    assert cells[-1] == "0.550 (+0.050)"
    name = "joint, cross-entropy"
    assert f"| {name} | 0 | holes filled |\n| {name} | 1 | none |" in text
    bare = replace(records[0], scores=records[0].scores[:0])
    assert make_options_page("x", [bare]) == "", "as of earlier versions"
