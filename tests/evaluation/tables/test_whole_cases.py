"""Whole cases and post-processing as tables, from numbers made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.results import Results, read_results
from evaluation.tables.whole_cases import postprocessing_markdown, volumes_markdown
from tests.evaluation.fake_out import write_out


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_out(tmp_path_factory.mktemp("out") / "out"))


def cells(text: str, heading: str, start: str) -> list[str]:
    """Return the cells of the row that begins with `start`, in the section `heading`."""
    section = text.partition(f"## {heading}")[2].partition("\n## ")[0]
    line = next(line for line in section.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_volumes_are_means_over_the_cases_that_hold_the_target(results: Results) -> None:
    text = volumes_markdown(results)
    assert cells(text, "Test, liver", "joint, balanced")[1:3] == ["2", "0.600"]
    assert cells(text, "Test, tumor", "joint, balanced")[1:3] == ["1", "0.500"]
    results.volumes[0]["assd_mm"] = ""
    assert (
        cells(volumes_markdown(results), "Test, liver", "one-step, cross-entropy")[7]
        == "0.700 (n = 1)"
    )
    assert "SYNTHETIC PHANTOM" in text


def test_postprocessing_shows_changes_of_the_pooled_iou(results: Results) -> None:
    text = postprocessing_markdown(results)
    # none: 100 of 200 pixels; holes filled: 120 of 200
    assert cells(text, "Test, liver", "one-step, cross-entropy")[1:] == [
        "0.500", "+0.000", "+0.000", "+0.100", "+0.000", "+0.000", "0.600",
    ]  # fmt: skip
    assert "- sequential, balanced: holes filled\n" in text


def test_a_split_by_slice_has_no_whole_cases(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out")
    for name in ("whole_cases.csv", "postprocess.csv"):
        (out / name).write_text("")
    for made in (volumes_markdown, postprocessing_markdown):
        assert "the split is by slice" in made(read_results(out))
