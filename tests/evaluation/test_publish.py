"""The README's results are exactly what the published records give."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import evaluation.publish as published
from data.command import InputError
from evaluation.figures import main as make_figures
from evaluation.publish import ROOT, block, publish, read_published, rewritten
from evaluation.tables import main as make_tables
from tests.evaluation.fake_out import write_out

NAMES = sorted(path.name for path in published.PUBLISHED.glob("*"))


@pytest.mark.parametrize("name", NAMES)
def test_readme_shows_the_published_records(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert rewritten(readme, name, block(name, read_published(published.PUBLISHED / name))) == readme


def test_no_block_of_the_readme_is_without_records() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert sorted(line[14:-4] for line in readme.splitlines() if line.startswith("<!-- results: ")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_published_list_of_slices_is_that_of_the_records(name: str) -> None:
    split = json.loads((published.PUBLISHED / name / "split.json").read_text())
    canonical = json.dumps(split["slices"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == split["sha256"]
    for record in read_published(published.PUBLISHED / name):
        assert record["summary"]["data"]["split_sha256"] == split["sha256"]


def test_block_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert {path.stem for path in (tmp_path / "published" / "x").glob("*.png")} == set(published.FIGURES)
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
    (line,) = [line for line in text.splitlines() if line.startswith("| test | tumor | balanced | sequential")]
    assert f"{mean:.3f} ± {sd:.3f}" in line.split("|")[6]


def test_nothing_is_lost_where_a_figure_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("<!-- results: x -->\n<!-- end of results: x -->\n")
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    old = tmp_path / "published" / "x" / "summary-seed7.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    with pytest.raises(InputError, match=r"fig_.*\.png: no such figure"):
        publish("x", [write_out(tmp_path / "run")])
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def test_missing_block_is_refused() -> None:
    with pytest.raises(InputError, match="no block"):
        rewritten("nothing here", "x", "")


def test_no_picture_of_a_real_cohort_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("<!-- results: x -->\n<!-- end of results: x -->\n")
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    folder = write_out(tmp_path / "real", synthetic=False)
    make_figures(["--out", str(folder)])
    publish("x", [folder])
    assert [path.name for path in (tmp_path / "published" / "x").iterdir() if path.suffix != ".json"] == []
