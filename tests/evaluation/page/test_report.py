"""The report from a made-up OUT: the same numbers as the tables, nothing from outside."""

from __future__ import annotations

import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.command import InputError
from evaluation import report
from evaluation.figures import __main__ as figures
from evaluation.figures.__main__ import draw_all
from evaluation.page import figures as report_figures
from evaluation.page.markdown import cells, grouped, to_html
from evaluation.page.sections import scores_markdown
from evaluation.page.viewer import (
    WINDOWS,
    encode_slice,
    few_pixels,
    liver_box,
    read_recording,
    viewer_words,
)
from evaluation.results import read_results
from evaluation.tables.__main__ import PAGES
from tests.conftest import Command
from tests.evaluation.fake_out import write_out
from tests.evaluation.fake_viewer import SIZE, write_viewer


class Texts(HTMLParser):
    """The cells of every table, the pictures, and the addresses that the page names.

    The heading of a group of lines stands before the cells of each of them, as in a table without groups.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self._cell = self._heading = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attributes}
        self.links += [found[key] for key in ("src", "href") if key in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img":
            self.images.append(found)
        elif tag == "table":
            self.tables.append([])
            self._group = ""
        elif tag == "tr":
            self._heading = found.get("class") == "group"
            self._group = "" if self._heading else self._group
            self.tables[-1] += (
                [] if self._heading else [self._group.split(" · ") if self._group else []]
            )
        elif self._heading:
            self._cell = True
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell and self._heading:
            self._group += data
        elif self._cell:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_out(tmp_path_factory.mktemp("report") / "out")
    draw_all(read_results(made))
    write_viewer(made, joint=True)
    report.main(["--out", str(made)])
    return made


@pytest.fixture(scope="module")
def page(out: Path) -> str:
    return (out / "report.html").read_text(encoding="utf-8")


def in_markdown(text: str) -> list[list[list[str]]]:
    """Return the tables of a Markdown text, without marks; the second line of each is its rule."""
    tables: list[list[list[str]]] = [[]]
    for line in text.split("\n"):
        if line.startswith("|"):
            tables[-1].append([re.sub(r"\*\*|`|<br>", "", cell) for cell in cells(line)])
        elif tables[-1]:
            tables.append([])
    return [[table[0], *table[2:]] for table in tables if table]


def test_every_table_is_that_of_the_results(out: Path, page: str) -> None:
    results = read_results(out)
    made = {(tuple(table[0]), *map(tuple, table[1:])) for table in Texts(page).tables}
    for file, title, markdown in PAGES:
        assert f'<h2 id="{Path(file).stem}-title">{title}</h2>' in page
        wanted = in_markdown(markdown(results))
        assert wanted
        for table in wanted:
            if len(table) == 1:
                continue  # headings alone: no entries
            # Columns that became headings of groups have no heading of their own.
            shorter = [(tuple(table[0][leading:]), *map(tuple, table[1:])) for leading in range(4)]
            assert made.intersection(shorter), (file, table[0])


def test_the_scores_at_the_top_have_intervals_patients_and_no_bold(out: Path, page: str) -> None:
    results = read_results(out)
    (scores,) = [
        table for table in Texts(page).tables if table[0][:3] == ["model", "loss", "liver IoU"]
    ]
    rows = {
        (r["model"], r["loss"], r["target"], r["cohort"], r["threshold_rule"]): r["iou"]
        for r in results.rows
    }
    assert [line[:2] for line in scores[1:]] == [
        [model, loss]
        for model in ("one-step", "sequential", "joint")
        for loss in ("cross-entropy", "balanced")
    ]
    liver, tumor = (
        rows["sequential", "balanced", target, "test", "roc"] for target in ("liver", "tumor")
    )
    # As `fake_out` makes them: 0.05 below, 0.04 above.
    assert scores[4][2:] == [
        f"{iou:.3f}{iou - 0.05:.3f} to {iou + 0.04:.3f}" for iou in (liver, tumor)
    ]
    section = page[page.index('<section id="scores"') : page.index('<section id="table1"')]
    assert "7 patients (tumor in 6)" in section
    assert "<strong>" not in section
    few = [
        {**row, "iou_low": None, "iou_high": None, "n_patients": 2, "n_counted": 2}
        for row in results.rows
    ]
    text = scores_markdown(dataclasses.replace(results, rows=few))
    assert text.count("<br>2 patients |") == 12
    assert "n/a" not in text


def test_a_run_without_joint_model_shows_no_trace_of_it(
    tmp_path: Path, out: Path, page: str
) -> None:
    without = write_out(tmp_path / "out", joint=False)
    write_viewer(without)
    report.main(["--out", str(without)])
    html = (without / "report.html").read_text()
    for seen, there in ((page, True), (html, False)):
        shown = re.sub(r"<(style|script)\b.*?</\1>", "", seen, flags=re.DOTALL)
        assert ("joint" in shown) is there
        assert ("<kbd>J</kbd>" in shown) is there


def test_tables_are_made_anew_and_none_is_missing(tmp_path: Path, out: Path, page: str) -> None:
    """What lies in OUT/tables, of an earlier evaluation perhaps, is not read."""
    again = tmp_path / "out"
    shutil.copytree(out, again)
    (again / "tables").mkdir()
    for name in ("cost.md", "lits.md", "other.md"):
        (again / "tables" / name).write_text("# Cost\n\nof an earlier evaluation\n")
    report.main(["--out", str(again)])
    assert (again / "report.html").read_text() == page
    order = re.findall(r'<section id="([^"]+)"', page)
    assert order[:3] == ["slices", "scores", "table1"]
    assert order[-3:] == ["figures", "training", "record"]


def test_every_figure_is_in_the_page_with_words(out: Path, page: str) -> None:
    assert figures.FIGURES.keys() <= report_figures.FIGURES.keys()
    images = Texts(page).images
    assert len(images) == len(list((out / "figures").glob("*.png")))
    assert all(len(image["alt"]) > 20 and image["width"] == "1440" for image in images)
    assert all(image["alt"].endswith("(SYNTHETIC PHANTOM)") for image in images)
    assert "slice by tumor IoU of the sequential model, with" in page
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)


def test_the_record_has_settings_split_and_environment(page: str) -> None:
    facts = {row[0]: row[1] for table in Texts(page).tables for row in table if len(row) == 2}
    assert facts["split sha256"] == "ab" * 32
    assert facts["liver window hu"] == "-100, 400"
    assert (facts["seed"], facts["synthetic"], facts["git commit"]) == ("0", "yes", "0" * 40)
    assert facts["packages"] == "numpy 2.4"


def test_nothing_comes_from_outside(page: str) -> None:
    texts = Texts(page)
    assert all(link.startswith(("#", "data:")) for link in texts.links)
    assert {link[1:] for link in texts.links if link.startswith("#")} <= set(texts.ids)
    assert len(set(texts.ids)) == len(texts.ids)
    assert "://" not in page
    assert " style=" not in page  # the policy forbids it
    assert "default-src 'none'" in page


def test_synthetic_is_said_at_every_table_and_picture(page: str) -> None:
    badge = '<span class="badge synthetic">SYNTHETIC PHANTOM</span>'
    assert page.count("<caption>" + badge) == page.count("<table ")
    assert (
        f'<p class="about">{badge} Test cases: best, worst of 2 by tumor IoU of the sequential model.'
        in page
    )
    assert len(
        re.findall(rf"<figcaption>[^<]*<strong>.*?{badge}</figcaption>", page)
    ) == page.count("<figure>")
    assert "For research, not for diagnosis" in page
    assert "slices of patients" not in page


def test_real_data_is_not_called_synthetic_but_patients(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out", synthetic=False, external=False)
    write_viewer(out, synthetic=False, cohort="LiTS")
    report.main(["--out", str(out)])
    page = (out / "report.html").read_text()
    assert "SYNTHETIC" not in page
    assert "This page holds CT slices of patients." in page
    mixed = write_out(tmp_path / "mixed", synthetic=False)
    write_viewer(mixed, synthetic=False, cohort="LiTS")
    report.main(["--out", str(mixed)])
    page = (mixed / "report.html").read_text()
    viewer = page[page.index('<section id="slices"') : page.index('<section id="scores"')]
    assert "SYNTHETIC" not in viewer  # its cases are the real ones
    assert '<span class="badge synthetic">SYNTHETIC PHANTOM: external</span>' in page
    assert "This page holds CT slices of patients." in page


def test_without_slices_and_figures_the_report_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_out(tmp_path / "out")
    report.main(["--out", str(out)])
    assert "no slices recorded" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert "python -m evaluation.evaluate" in page
    assert "Not drawn: Overlays" in page
    assert "<canvas" not in page
    before = (out / "report.html").read_bytes()
    report.main(["--out", str(out)])
    assert (out / "report.html").read_bytes() == before


def test_table_1_of_the_test_set_is_open_and_the_other_cohorts_are_folded(page: str) -> None:
    section = page[page.index('<section id="table1"') : page.index('<section id="claims"')]
    found = re.findall(r"<h3>(\w+):.*?<details( open)?>", section, flags=re.DOTALL)
    assert found == [("Validation", ""), ("Test", " open"), ("External", "")]


def test_a_failed_system_is_no_result_and_its_reason_no_markup(tmp_path: Path) -> None:
    out = write_out(
        tmp_path / "out", failures={("sequential", "balanced"): "<script>alert(1)</script> | 2 * 3"}
    )
    report.main(["--out", str(out)])
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | 2 * 3" in page
    (scores,) = [
        table for table in Texts(page).tables if table[0][:3] == ["model", "loss", "liver IoU"]
    ]
    assert scores[4] == ["sequential", "balanced", "no result", "no result"]


def test_what_cannot_be_read_is_one_line(tmp_path: Path, run_module: Command) -> None:
    done = run_module("evaluation.report", "--out", tmp_path / "none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no such folder" in done.stderr
    out = write_out(tmp_path / "out")
    write_viewer(out)
    content = (out / "viewer.npz").read_bytes()
    (out / "viewer.npz").write_bytes(content[: len(content) // 2])
    done = run_module("evaluation.report", "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "viewer.npz: damaged" in done.stderr
    assert not (out / "report.html").exists()
    (out / "summary.json").unlink()
    done = run_module("evaluation.report", "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "summary.json: no such file" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 1}, "expected schema 2, got 1"),
        ({"seed": 1}, "of another run than summary.json"),
        ({"size": 32}, "has shape"),
        ({"cases": []}, "has shape"),
    ],
)
def test_a_recording_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    out = write_out(tmp_path / "out")
    write_viewer(out, **change)
    with pytest.raises(InputError, match=words):
        report.main(["--out", str(out)])


def test_a_recording_with_other_arrays_is_refused(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out")
    write_viewer(out)
    with np.load(out / "viewer.npz") as file:
        arrays = {name: file[name] for name in file}
    for change, words in (
        ({"hu": arrays["hu"] + np.int16(2000)}, "hu must hold whole numbers from -1024 to 3071"),
        ({"label": arrays["label"] + 1}, "label must hold whole numbers from 0 to 2"),
        ({"sequential": arrays["sequential"].astype(float)}, "sequential must hold whole numbers"),
        ({"about": np.array("{")}, "damaged"),
    ):
        np.savez(out / "viewer.npz", **{**arrays, **change})
        with pytest.raises(InputError, match=words):
            read_recording(read_results(out))
    np.savez(
        out / "viewer.npz", **{name: array for name, array in arrays.items() if name != "label"}
    )
    with pytest.raises(InputError, match="it lacks 'label'"):
        read_recording(read_results(out))
    (out / "viewer.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="damaged"):
        read_recording(read_results(out))


def test_a_figure_that_is_no_png_is_refused(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out")
    (out / "figures").mkdir()
    (out / "figures" / "fig_roc.png").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"fig_roc\.png: not a PNG file"):
        report.main(["--out", str(out)])


def test_markdown_by_hand() -> None:
    text = "# A & B\n\nOne **bold** `x<y`  \nline two\n\n| a_b | b |\n| :-- | --: |\n| 1 \\| 2 | **3** |\n"
    assert to_html(text, "<b>label</b>") == (
        "<h2>A &amp; B</h2>\n<p>One <strong>bold</strong> <code>x&lt;y</code><br>line two</p>\n"
        '<div class="scroll" role="region" tabindex="0" aria-label="Table: A &amp; B"><table class="numbers">'
        '<caption><b>label</b></caption><thead><tr><th scope="col">a_<wbr>b</th><th scope="col" class="number">b</th>'
        '</tr></thead>\n<tbody><tr><td>1 | 2</td><td class="number"><strong>3</strong></td></tr></tbody></table>'
        "</div>\n"
    )


def test_a_list_and_an_empty_table_by_hand() -> None:
    assert to_html("| a | b |\n| :-- | --: |\n") == "<p>No entries.</p>\n"
    assert to_html("Chosen:\n\n- a, **b**\n- c\n\nlast\n") == (
        "<p>Chosen:</p>\n<ul><li>a, <strong>b</strong></li><li>c</li></ul>\n<p>last</p>\n"
    )


def test_columns_that_repeat_become_headings_of_groups() -> None:
    lines = [
        [*names, "1"]
        for names in (["liver", "ce", "roc"], ["liver", "ce", "iou"])
        for _ in range(2)
    ]
    text = "| target | loss | rule | IoU |\n| :-- | :-- | :-- | --: |\n"
    text += "".join(f"| {' | '.join(line)} |\n" for line in lines)
    html = to_html(text)
    assert (
        html.count('<tr class="group"><th scope="rowgroup" colspan="2">liver · ce</th></tr>') == 1
    )
    assert (
        '<thead><tr><th scope="col">rule</th><th scope="col" class="number">IoU</th></tr></thead>'
        in html
    )
    assert html.count("<tr><td>roc</td>") == html.count("<tr><td>iou</td>") == 2
    assert [grouped(lines, texts) for texts in (1, 2, 3, 4)] == [
        0,
        1,
        2,
        2,
    ]  # rules would be groups of two lines
    assert grouped(lines[:3], 3) == 0


def test_long_tables_and_whole_parts_are_folded_but_no_words_beside_them() -> None:
    def page(lines: int) -> str:
        table = "| a | b |\n| :-- | --: |\n" + "| 1 | 2 |\n" * lines
        return f"## Test, one\n\n**no result**\n\n{table}\n## Other\n\nwords\n\n{table}\nlast\n"

    words = '<summary>Table of 10 lines</summary>\n<div class="scroll"'
    html = to_html(page(10), opened="Test")
    assert "<h3>Test, one</h3>\n<p><strong>no result</strong></p>\n<details open>" + words in html
    assert "<h3>Other</h3>\n<p>words</p>\n<details>" + words in html
    assert html.endswith("</details>\n<p>last</p>\n")
    assert "<details" not in to_html(page(9))
    folded = to_html(page(10), fold_all=True)
    assert '<details><summary><h3>Other</h3></summary>\n<p>words</p>\n<div class="scroll"' in folded
    assert (
        to_html(page(1), long=0, opened="Test").count("<details><summary>Table of 1 line</summary>")
        == 1
    )


def test_a_slice_as_bytes_by_hand() -> None:
    hu = np.array([[-1024, -1, 0, 3071]], np.int16)
    values = ([0, 1, 2, 2], [0, 2, 1, 2], [1, 0, 2, 2], [2, 1, 0, 2])
    labels = [np.array([value], np.uint8) for value in values]
    # HU + 1024 = 0, 1023, 1024, 4095; labels = reference + 4 * one-step + 16 * sequential + 64 * joint, at most 170.
    expected = [[[0, 0, 144], [3, 255, 73], [4, 0, 38], [15, 255, 170]]]
    np.testing.assert_array_equal(encode_slice(hu, labels), expected)
    with pytest.raises(ValueError, match="at most 4 maps of two bits each, got 5"):
        encode_slice(hu, [*labels, labels[0]])


def test_the_liver_window_shows_tumors_as_grey() -> None:
    """Liver in the portal venous phase has about 100 to 120 HU, tumors in it 40 to 60: neither white nor black."""
    centre, width = WINDOWS["liver"]
    grey = [(hu - centre + width / 2) / width for hu in (40, 60, 100, 120)]
    assert 0.15 < min(grey) < max(grey) < 0.85
    assert grey[2] - grey[1] > 0.25
    assert (WINDOWS["abdomen"], WINDOWS["wide"]) == ((40, 400), (0, 2000))


def test_the_viewer_says_which_phase_of_which_model_it_shows(out: Path) -> None:
    recording = read_recording(read_results(out))
    assert recording is not None
    assert viewer_words(recording) == (
        "2 of 4 test cases, with every slice that was scored. Of each model the phase with the better tumors on "
        "validation data: one-step after cross-entropy, sequential after balanced, joint after balanced; threshold "
        "rule roc."
    )


def test_an_error_is_ten_pixels_at_128_and_the_same_area_elsewhere() -> None:
    assert [few_pixels(size) for size in (16, 64, 128, 256, 512)] == [1, 2, 10, 40, 160]


def test_the_enlarged_part_holds_the_liver(out: Path) -> None:
    recording = read_recording(read_results(out))
    assert recording is not None
    row, column, side = liver_box(recording, 0, 5)
    label = recording.arrays["label"][:5]
    assert (label > 0).sum() == (label[:, row : row + side, column : column + side] > 0).sum()
    assert side < SIZE
    recording.arrays["label"][:5] = 0
    assert liver_box(recording, 0, 5) == [0, 0, SIZE]
