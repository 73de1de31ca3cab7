"""The report from a made-up OUT: the same numbers as the tables, nothing from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.command import InputError
from evaluation import figures, report
from evaluation.figures import draw_all
from evaluation.report_markdown import cells, to_html
from evaluation.report_viewer import encode_slice, few_pixels, liver_box, read_recording
from evaluation.results import read_results
from evaluation.tables import claims_markdown, comparisons_markdown, judge, table1_markdown, training_markdown
from tests.conftest import Command
from tests.evaluation.fake_out import write_out
from tests.evaluation.fake_viewer import SIZE, write_viewer


class Texts(HTMLParser):
    """The cells of every table, the pictures, and the addresses that the page names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attributes}
        self.links += [found[key] for key in ("src", "href") if key in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img":
            self.images.append(found)
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_out(tmp_path_factory.mktemp("report") / "out")
    draw_all(read_results(made))
    write_viewer(made)
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
            tables[-1].append([re.sub(r"\*\*|`", "", cell) for cell in cells(line)])
        elif tables[-1]:
            tables.append([])
    return [[table[0], *table[2:]] for table in tables if table]


def test_the_tables_are_those_of_the_results(out: Path, page: str) -> None:
    results = read_results(out)
    made = Texts(page).tables
    claims = claims_markdown(results, judge(results.evidence))
    for text in (table1_markdown(results), claims, comparisons_markdown(results), training_markdown(results)):
        wanted = in_markdown(text)
        assert wanted
        for table in wanted:
            assert table in made
    (scores,) = [table for table in made if table[0][:3] == ["model", "loss", "liver IoU"]]
    rows = {(r["model"], r["loss"], r["target"], r["cohort"], r["threshold_rule"]): r["iou"] for r in results.rows}
    assert scores[4][:2] == ["sequential", "balanced"]
    assert scores[4][2] == f"{rows['sequential', 'balanced', 'liver', 'test', 'roc']:.3f}"
    assert scores[4][4] == f"{rows['sequential', 'balanced', 'tumor', 'test', 'roc']:.3f}"


def test_every_figure_is_in_the_page_with_words(out: Path, page: str) -> None:
    assert figures.FIGURES.keys() <= report.FIGURES.keys()
    images = Texts(page).images
    assert len(images) == len(list((out / "figures").glob("*.png")))
    assert all(len(image["alt"]) > 20 and image["width"] == "1440" for image in images)
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
    assert page.count("<caption>" + badge) == page.count('<table class="')
    assert len(re.findall(rf"<figcaption>[^<]*<strong>.*?{badge}</figcaption>", page)) == page.count("<figure>")
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
    report.main(["--out", str(mixed)])
    page = (mixed / "report.html").read_text()
    assert '<span class="badge synthetic">SYNTHETIC PHANTOM: external</span>' in page
    assert "This page holds CT slices of patients." in page


def test_without_slices_and_figures_the_report_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_out(tmp_path / "out")
    report.main(["--out", str(out)])
    assert "no slices recorded" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert "python -m evaluation.viewer" in page
    assert "Not drawn: Overlays" in page
    assert "<canvas" not in page
    before = (out / "report.html").read_bytes()
    report.main(["--out", str(out)])
    assert (out / "report.html").read_bytes() == before


def test_further_tables_get_their_section(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out")
    (out / "tables").mkdir()
    (out / "tables" / "table1.md").write_text("# Table 1\n\nold\n")
    (out / "tables" / "lesions.md").write_text("# Lesions by size\n\n| mm | found |\n| :-- | --: |\n| 10 | 3 |\n")
    report.main(["--out", str(out)])
    page = (out / "report.html").read_text()
    assert [["mm", "found"], ["10", "3"]] in Texts(page).tables
    assert '<a href="#table-lesions">Lesions by size</a>' in page
    assert "<p>old</p>" not in page


def test_a_failed_system_is_no_result_and_its_reason_no_markup(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out", failures={("sequential", "balanced"): "<script>alert(1)</script> | 2 * 3"})
    report.main(["--out", str(out)])
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | 2 * 3" in page
    (scores,) = [table for table in Texts(page).tables if table[0][:3] == ["model", "loss", "liver IoU"]]
    assert scores[4] == ["sequential", "balanced", "no result", "", "no result", ""]


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
        ({"schema": 2}, "expected schema 1, got 2"),
        ({"seed": 1}, "of another run than summary.json"),
        ({"size": 32}, "has shape"),
        ({"cases": []}, "has shape"),
    ],
)
def test_a_recording_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
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
    np.savez(out / "viewer.npz", **{name: array for name, array in arrays.items() if name != "label"})
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
    text = "# A & B\n\nOne **bold** `x<y`  \nline two\n\n| a | b |\n| :-- | --: |\n| 1 \\| 2 | **3** |\n"
    assert to_html(text, "<b>label</b>") == (
        "<h2>A &amp; B</h2>\n<p>One <strong>bold</strong> <code>x&lt;y</code><br>line two</p>\n"
        '<div class="scroll" role="region" tabindex="0" aria-label="Table: A &amp; B"><table class="numbers">'
        '<caption><b>label</b></caption><thead><tr><th scope="col">a</th><th scope="col" class="number">b</th></tr>'
        '</thead>\n<tbody><tr><td>1 | 2</td><td class="number"><strong>3</strong></td></tr></tbody></table></div>\n'
    )


def test_a_slice_as_bytes_by_hand() -> None:
    hu = np.array([[-1024, -1, 0, 3071]], np.int16)
    label, one_step, sequential = (
        np.array([values], np.uint8) for values in ([0, 1, 2, 2], [0, 2, 1, 2], [1, 0, 2, 2])
    )
    # HU + 1024 = 0, 1023, 1024, 4095; labels = reference + 4 * one-step + 16 * sequential.
    expected = [[[0, 0, 16], [3, 255, 9], [4, 0, 38], [15, 255, 42]]]
    np.testing.assert_array_equal(encode_slice(hu, [label, one_step, sequential]), expected)


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
