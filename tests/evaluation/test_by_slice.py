"""A split by slice beside one by patient: the README's table from records made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.command import InputError
from data.files import read_json, write_json
from evaluation import by_slice, publish
from evaluation.by_slice import block, check_same, published, recorded, table
from evaluation.results import read_results
from tests.evaluation.fake_out import write_out

KEY = {
    "cohort": "test",
    "target": "tumor",
    "loss": "ce",
    "model": "sequential",
    "threshold_rule": "roc",
}
PATIENT = {"summary": {"rows": [{**KEY, "iou": 0.4}]}, "test": ["volume-11", "volume-16"]}


def case(name: str, tp: int, fn: int) -> dict[str, Any]:
    return {**KEY, "case": name, "tp": tp, "fp": 0, "fn": fn, "tn": 100}


DATA = {
    "size": 128,
    "train_slices": 1080,
    "validation_slices": 58,
    "test_slices": 177,
    "test_cases": 18,
}
RECORD = {
    "preset": "mini",
    "seed": 0,
    "data": DATA,
    "timing_s": {"evaluate": 120.0},
    "rows": [{**KEY, "iou": 0.8, "iou_low": 0.7, "iou_high": 0.9}],
    "cases": [case("volume-11", 6, 4), case("volume-16", 9, 1), case("volume-3", 0, 99)],
}


def test_the_table_by_hand() -> None:
    line = table(PATIENT, RECORD).splitlines()[2]
    # On volumes 11 and 16 15 of 20 pixels are found; volume 3 is in no test set by patient.
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "tumor", "cross-entropy", "sequential", "0.400", "0.800", "0.700 to 0.900", "0.750", "+0.350",
    ]  # fmt: skip
    text = block("mini-by-slice", PATIENT, RECORD)
    assert "1080 / 58 / 177 slices in both splits" in text
    assert "took 2 minutes" in text


def test_what_is_recorded_and_what_is_refused(tmp_path: Path) -> None:
    results = read_results(write_out(tmp_path / "out"))
    patient = {"summary": {**results.summary, "data": {**results.summary["data"]}}, "test": []}
    with pytest.raises(InputError, match="its split is by patient"):
        check_same(results, patient)
    results.summary["data"]["split_by"] = "slice"
    with pytest.raises(
        InputError, match="volume-99, a test case of the split by patient, has no test slice in it"
    ):
        check_same(results, {**patient, "test": ["volume-99"]})
    check_same(results, patient)
    patient["summary"]["data"]["train_slices"] = 1
    with pytest.raises(InputError, match="train_slices is 360, that of the split by patient 1"):
        check_same(results, patient)
    kept = recorded(results)
    assert {row["cohort"] for row in kept["rows"] + kept["cases"]} == {"test"}
    assert {row["threshold_rule"] for row in kept["rows"] + kept["cases"]} == {"roc"}
    with pytest.raises(InputError, match="--by-patient nope: nothing of that name is published"):
        published("nope")


def test_the_command_prints_and_with_publish_writes_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.setattr(by_slice, "published", lambda name: PATIENT)
    monkeypatch.setattr(publish, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr("sys.argv", ["evaluation.by_slice", "--by-patient", "mini"])
    marks = "<!-- results: mini-by-slice -->\n<!-- end of results: mini-by-slice -->"
    (tmp_path / "README.md").write_text(f"before\n{marks}\nafter")
    write_json(tmp_path / "published" / "mini-by-slice" / "by_slice.json", RECORD)
    by_slice.main()
    assert capsys.readouterr().out.strip() == table(PATIENT, RECORD).strip()
    assert marks in (tmp_path / "README.md").read_text()
    monkeypatch.setattr("sys.argv", ["evaluation.by_slice", "--by-patient", "mini", "--publish"])
    by_slice.main()
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n<!-- results: mini-by-slice -->\n\nIoU at threshold rule roc")
    assert text.endswith("<!-- end of results: mini-by-slice -->\nafter")


NAMES = sorted(
    path.parent.name.removesuffix("-by-slice") for path in publish.PUBLISHED.glob("*/by_slice.json")
)


@pytest.mark.parametrize("name", NAMES)
def test_readme_shows_the_published_record(name: str) -> None:
    record = read_json(publish.PUBLISHED / f"{name}-by-slice" / "by_slice.json")
    readme = (publish.ROOT / "README.md").read_text(encoding="utf-8")
    assert block(f"{name}-by-slice", published(name), record) in readme
