"""The README's results are exactly what the published records give."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import evaluation.publish as published
from data.command import InputError
from evaluation.figures.__main__ import main as make_figures
from evaluation.publish import (
    ROOT,
    block,
    claims_page,
    publish,
    published_options,
    read_published,
    rewrite,
    rewritten,
    score_table,
)
from evaluation.publish_options import options_page
from evaluation.tables.__main__ import main as make_tables
from tests.evaluation.fake_out import write_out

FOLDERS = sorted(path.name for path in published.PUBLISHED.glob("*"))
NAMES = sorted({path.parent.name for path in published.PUBLISHED.glob("*/summary-seed*.json")})


@pytest.mark.parametrize("name", NAMES)
def test_readme_shows_the_published_records(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    records = read_published(published.PUBLISHED / name)
    assert rewritten(readme, name, block(name, records)) == readme
    page = published.PUBLISHED / name / "claims.md"
    assert page.read_text(encoding="utf-8") == claims_page(name, records)
    options = page.with_name("postprocessing.md")
    assert (options.read_text(encoding="utf-8") if options.is_file() else "") == published_options(
        name, records
    )


def test_no_block_of_the_readme_is_without_records() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (
        sorted(line[14:-4] for line in readme.splitlines() if line.startswith("<!-- results: "))
        == FOLDERS
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_published_list_of_slices_is_that_of_the_records(name: str) -> None:
    split = json.loads((published.PUBLISHED / name / "split.json").read_text())
    canonical = json.dumps(split["slices"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == split["sha256"]
    for record in read_published(published.PUBLISHED / name):
        assert record["summary"]["data"]["split_sha256"] == split["sha256"]


def test_block_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results: x -->\nSTALE\n<!-- end of results: x -->\nafter\n")
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    folders = [write_out(tmp_path / f"seed{seed}", seed) for seed in (0, 1)]
    for folder in folders:
        make_tables(["--out", str(folder)])
        make_figures(["--out", str(folder)])
    publish("x", folders)
    capsys.readouterr()
    text = readme.read_text()
    assert text.startswith("before\n<!-- results: x -->\n")
    assert text.endswith("<!-- end of results: x -->\nafter\n")
    assert "STALE" not in text
    assert {path.stem for path in (tmp_path / "published" / "x").glob("*.png")} == set(
        published.FIGURES
    )
    assert "95 % interval" not in text  # the seeds have their own spread
    values = []
    for folder in folders:
        rows = json.loads((folder / "summary.json").read_text())["rows"]
        wanted = {
            "cohort": "test",
            "target": "tumor",
            "loss": "balanced",
            "model": "sequential",
            "threshold_rule": "roc",
        }
        (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
        values.append(row["iou"])
    mean = sum(values) / 2
    sd = (sum((value - mean) ** 2 for value in values)) ** 0.5  # n - 1 = 1
    (line,) = [
        line
        for line in text.splitlines()
        if line.startswith("| test | tumor | balanced | sequential")
    ]
    assert f"{mean:.3f} ± {sd:.3f}" in line.split("|")[6]
    assert any(line.startswith("| test | tumor | balanced | joint |") for line in text.splitlines())
    # Verdicts in the README, numbers and words in the page beside the records.
    assert "| claim of the paper | validation | test | external | training |" in text
    assert "| One-step is fast |  |  |  | holds in 2 of 2 seeds |" in text
    assert "[published/x/claims.md](published/x/claims.md)" in text
    assert "wrong tumor pixels" not in text
    page = (tmp_path / "published" / "x" / "claims.md").read_text()
    assert (
        page.count("wrong tumor pixels") == 3 * 2 * 2 + 1
    )  # cohorts, seeds, models, and the measure
    assert "| test | 1 | **holds** |" in page


def test_one_seed_has_intervals_where_they_are_recorded(tmp_path: Path) -> None:
    records = [{"summary": json.loads((write_out(tmp_path / "out") / "summary.json").read_text())}]
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in score_table(records).splitlines()
    ]
    assert lines[0][4:8] == [
        "IoU, rule 0.5",
        "IoU, rule roc",
        "IoU, rule iou",
        "95 % interval, rule roc",
    ]
    wanted = {
        "cohort": "test",
        "target": "tumor",
        "loss": "ce",
        "model": "joint",
        "threshold_rule": "roc",
    }
    (row,) = [
        r
        for r in records[0]["summary"]["rows"]
        if all(r[key] == value for key, value in wanted.items())
    ]
    (line,) = [line for line in lines if line[:4] == ["test", "tumor", "cross-entropy", "joint"]]
    assert line[7] == f"{row['iou'] - 0.05:.3f} to {row['iou'] + 0.04:.3f} (6 patients)"
    row.update(iou_low=None, iou_high=None, n_counted=2)
    assert "| 2 patients |" in score_table(records)
    for row in records[0]["summary"]["rows"]:
        del row["iou_low"]
    assert "interval" not in score_table(records)
    kept = [row for row in records[0]["summary"]["rows"] if row["model"] != "joint"]
    records[0]["summary"]["rows"] = kept
    assert "joint" not in score_table(records)


def test_a_block_is_written_again_from_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    empty = "<!-- results: x -->\n<!-- end of results: x -->\n"
    readme.write_text(empty)
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    with pytest.raises(InputError, match="holds no records"):
        rewrite("x")
    assert readme.read_text() == empty
    publish("x", [write_out(tmp_path / "real", synthetic=False)])
    page = tmp_path / "published" / "x" / "claims.md"
    wanted = readme.read_text(), page.read_text()
    readme.write_text(empty)
    page.unlink()
    rewrite("x")
    assert (readme.read_text(), page.read_text()) == wanted
    assert capsys.readouterr().out.splitlines() == ["README.md: block x rewritten from 1 seed"] * 2


def test_nothing_is_lost_where_a_figure_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text("<!-- results: x -->\n<!-- end of results: x -->\n")
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    old = tmp_path / "published" / "x" / "summary-seed7.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    with pytest.raises(InputError, match=r"fig_.*\.png: no such figure"):
        publish("x", [write_out(tmp_path / "run")])
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def test_what_post_processing_changes_is_a_mean_over_the_seeds() -> None:
    """Two seeds, one option moves the tumor's IoU from 0.4 and 0.6 to 0.5 and 0.8; validation data chose it once."""

    def seed(none: float, filled: float, chosen: str) -> list[dict[str, Any]]:
        head = {
            "cohort": "test",
            "target": "tumor",
            "model": "joint",
            "loss": "ce",
            "chosen": chosen,
        }
        values = {"none": none, "fill_holes": filled, "chosen": filled if chosen else none}
        return [{**head, "option": option, "iou": value} for option, value in values.items()]

    text = options_page("x", "Data.", {0: seed(0.4, 0.5, "fill_holes"), 1: seed(0.6, 0.8, "")})
    line = next(line for line in text.splitlines() if line.startswith("| joint"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == "0.500"
    assert cells.count("+0.150") == 1
    assert cells.count("n/a") == 4
    assert cells[-1] == "0.550 (+0.050)"
    assert (
        "| joint, cross-entropy | 0 | holes filled |\n| joint, cross-entropy | 1 | none |" in text
    )


def test_missing_block_is_refused() -> None:
    with pytest.raises(InputError, match="no block"):
        rewritten("nothing here", "x", "")


def test_no_picture_of_a_real_cohort_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text("<!-- results: x -->\n<!-- end of results: x -->\n")
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    folder = write_out(tmp_path / "real", synthetic=False)
    make_figures(["--out", str(folder)])
    publish("x", [folder])
    names = {
        path.name for path in (tmp_path / "published" / "x").iterdir() if path.suffix != ".json"
    }
    assert names == {"claims.md", "postprocessing.md"}
