"""Spread over seeds against numpy and by hand; what must not differ."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from data.command import InputError
from evaluation.results import read_results
from evaluation.spread import claim_counts, main, spread
from tests.evaluation.fake_out import write_out

KEYS = ("cohort", "target", "loss", "model", "threshold_rule")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    failures = {("one_step", "ce"): "loss is not finite"}
    return [
        write_out(folder / f"seed{seed}", seed, failures if seed == 2 else None)
        for seed in (0, 1, 2)
    ]


def changed(run, **data):
    summary = json.loads((run / "summary.json").read_text())
    summary["data"].update(data.pop("data", {}))
    (run / "summary.json").write_text(json.dumps({**summary, **data}))
    return run


def test_spread_by_hand():
    assert spread([1.0, 2.0, 6.0]) == {
        "mean": 3.0,
        "sd": pytest.approx(7**0.5),
        "min": 1.0,
        "max": 6.0,
    }
    assert spread([0.5]) == {"mean": 0.5, "sd": None, "min": 0.5, "max": 0.5}
    assert spread([]) == dict.fromkeys(("mean", "sd", "min", "max"))


def test_csv_against_numpy(runs, tmp_path, capsys):
    main(["--out", str(tmp_path), *map(str, runs)])
    found = list(csv.DictReader((tmp_path / "spread.csv").read_text().splitlines()))
    assert all(
        "SYNTHETIC PHANTOM" in line["data"] for line in found if line["cohort"] == "external"
    )
    summaries = [json.loads((run / "summary.json").read_text())["rows"] for run in runs]
    assert len(found) == 3 * len(summaries[0])
    for line in found:
        key = [line[name] for name in KEYS]
        values = [
            row[line["metric"]]
            for rows in summaries
            for row in rows
            if [row[name] for name in KEYS] == key
        ]
        assert (
            int(line["n_seeds"])
            == len(values)
            == (2 if (line["model"], line["loss"]) == ("one_step", "ce") else 3)
        )
        wanted = [np.mean(values), np.std(values, ddof=1), min(values), max(values)]
        np.testing.assert_allclose(
            [float(line[name]) for name in ("mean", "sd", "min", "max")], wanted, rtol=1e-12
        )
    assert capsys.readouterr().out == (tmp_path / "spread.md").read_text()


def test_markdown(runs, tmp_path, capsys):
    main(["--out", str(tmp_path), *map(str, runs[::-1])])
    text = capsys.readouterr().out
    assert "preset demo, 3 seeds: 0, 1, 2." in text
    assert "SYNTHETIC PHANTOM" in text
    assert "thresholds chosen on validation data" in text
    assert (
        "**Seed 2: one-step, cross-entropy: failed: loss is not finite: NOT A RESULT, not counted.**"
        in text
    )
    values = [
        row["iou"]
        for run in runs
        for row in json.loads((run / "summary.json").read_text())["rows"]
        if tuple(row[name] for name in KEYS) == ("test", "tumor", "balanced", "sequential", "roc")
    ]
    cell = f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} ({min(values):.3f} to {max(values):.3f})"
    block = text.split("## Test")[1].split("##")[0]
    line = next(
        line
        for line in block.splitlines()
        if line.startswith("| tumor | balanced | sequential | roc |")
    )
    assert line.split("|")[5].strip() == cell
    assert line.endswith("| 3 of 3 |")
    assert "| Liver scores close to 1 | test | 2 of 2 | 1 |" in text


def test_one_seed_has_no_sd(runs, tmp_path, capsys):
    main(["--out", str(tmp_path), str(runs[0])])
    assert "± n/a (" in capsys.readouterr().out


def test_claim_counts_add_up(runs):
    counts = claim_counts([read_results(run) for run in runs])
    assert all(c["holds"] + c["does not hold"] + c["not tested"] == 3 for c in counts)
    assert next(c for c in counts if c["id"] == "one_step_fast")["holds"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "paper"}, "preset is paper, but"),
        ({"data": {"split_sha256": "cd"}}, "split_sha256 is cd, but"),
        ({"data": {"synthetic": False}}, "synthetic is False, but"),
        ({"seed": 0}, "has seed 0, as"),
    ],
)
def test_runs_that_differ_are_refused(runs, tmp_path, change, message):
    other = changed(write_out(tmp_path / "other", 5), **change)
    with pytest.raises(InputError, match=message):
        main(["--out", str(tmp_path / "spread"), str(runs[0]), str(other)])
    assert not (tmp_path / "spread").exists()
