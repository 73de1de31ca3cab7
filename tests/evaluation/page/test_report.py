"""The report of a made-up OUT: the same numbers as the tables, nothing from outside."""

from __future__ import annotations

import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from data.command import InputError
from evaluation import report
from evaluation.figures.__main__ import draw_all
from evaluation.page.markdown import split_cells
from evaluation.page.sections import make_scores
from evaluation.results import read_results
from evaluation.tables.registry import TABLES
from tests.conftest import Command
from tests.evaluation.fake_out import write_out
from tests.evaluation.fake_viewer import write_viewer

Table = list[list[str]]
BADGE = '<span class="badge synthetic">SYNTHETIC PHANTOM</span>'


class Page(HTMLParser):
    """The cells of every table, the pictures, and the addresses that a page names.

    The heading of a group of lines stands before the cells of each of them, as in a table without
    groups.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self._in_cell = self._in_heading = False
        self._group = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attributes}
        self.links += [values[key] for key in ("src", "href") if key in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            self.images.append(values)
        elif tag == "table":
            self.tables.append([])
            self._group = ""
        elif tag == "tr":
            self._in_heading = values.get("class") == "group"
            if self._in_heading:
                self._group = ""
            else:
                self.tables[-1].append(self._group.split(" · ") if self._group else [])
        elif self._in_heading:
            self._in_cell = True
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell and self._in_heading:
            self._group += data
        elif self._in_cell:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def whole_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder OUT with every figure, the viewer's slices, and the report."""
    out = write_out(tmp_path_factory.mktemp("report") / "out")
    draw_all(read_results(out))
    write_viewer(out, joint=True)
    report.main(["--out", str(out)])
    return out


@pytest.fixture(scope="module")
def page(whole_out: Path) -> str:
    return (whole_out / "report.html").read_text(encoding="utf-8")


def write_report(out: Path) -> str:
    report.main(["--out", str(out)])
    return (out / "report.html").read_text(encoding="utf-8")


def find_scores(page: str) -> Table:
    """Return the table of test scores."""
    tables = Page(page).tables
    return next(table for table in tables if table[0][:3] == ["model", "loss", "liver IoU"])


def cut_section(page: str, name: str, following: str) -> str:
    return page[page.index(f'<section id="{name}"') : page.index(f'<section id="{following}"')]


def read_markdown(text: str) -> list[Table]:
    """Return the tables of a Markdown text, without marks and rules."""
    tables: list[Table] = [[]]
    for line in text.split("\n"):
        if line.startswith("|"):
            tables[-1].append([re.sub(r"\*\*|`|<br>", "", cell) for cell in split_cells(line)])
        elif tables[-1]:
            tables.append([])
    return [[table[0], *table[2:]] for table in tables if table]


def test_every_table_is_that_of_the_results(whole_out: Path, page: str) -> None:
    results = read_results(whole_out)
    shown = {(tuple(table[0]), *map(tuple, table[1:])) for table in Page(page).tables}
    for name, entry in TABLES.items():
        text = entry.make(results)
        assert (f'<h2 id="{name}-title">{entry.title}</h2>' in page) == bool(text)
        for head, *lines in read_markdown(text):
            if lines:  # headings alone: no entries
                # Columns that became headings of groups have no heading of their own.
                heads = [tuple(head[leading:]) for leading in range(4)]
                assert shown.intersection((head, *map(tuple, lines)) for head in heads), name
    assert page.count('<section id="') > 10


def test_the_scores_at_the_top_have_intervals_patients_and_no_bold(
    whole_out: Path, page: str
) -> None:
    results = read_results(whole_out)
    scores = find_scores(page)
    assert [line[:2] for line in scores[1:]] == [
        [model, loss]
        for model in ("one-step", "sequential", "joint")
        for loss in ("cross-entropy", "balanced")
    ]
    key = {"system": "sequential", "phase": "balanced", "cohort": "test", "rule": "roc"}
    rows = [results.find(**key, target=target) for target in ("liver", "tumor")]
    bounds = [f"{row.iou_low:.3f} to {row.iou_high:.3f}" for row in rows]
    # fake_out: 0.92 and 0.55, rule roc 0.02 more, the tumor of sequential, balanced 0.15 more.
    assert scores[4][2:] == [f"0.940{bounds[0]}", f"0.720{bounds[1]}"]
    section = cut_section(page, "scores", "table1")
    assert "7 patients (tumor in 6)" in section
    assert "<strong>" not in section
    none = dict.fromkeys(("iou_low", "iou_high"), None)
    few = [{**row, **none, "n_counted": 2} for row in results.table1.to_dict("records")]
    text = make_scores(dataclasses.replace(results, recorded={"table1": few}))
    assert text.count("<br>2 patients |") == 12
    assert "n/a" not in text


def test_a_run_without_joint_model_shows_no_trace_of_it(tmp_path: Path, page: str) -> None:
    out = write_out(tmp_path / "out", joint=False)
    write_viewer(out)
    for html, is_there in ((page, True), (write_report(out), False)):
        shown = re.sub(r"<(style|script)\b.*?</\1>", "", html, flags=re.DOTALL)
        assert ("joint" in shown) is is_there
        assert ("<kbd>J</kbd>" in shown) is is_there


def test_tables_are_made_anew_and_none_is_missing(
    tmp_path: Path, whole_out: Path, page: str
) -> None:
    """What lies in OUT/tables, of an earlier evaluation perhaps, is not read."""
    again = tmp_path / "out"
    shutil.copytree(whole_out, again)
    (again / "tables").mkdir()
    for name in ("cost.md", "lits.md", "other.md"):
        (again / "tables" / name).write_text("# Cost\n\nof an earlier evaluation\n")
    assert write_report(again) == page
    order = re.findall(r'<section id="([^"]+)"', page)
    assert order[:3] == ["slices", "scores", "table1"]
    assert order[-3:] == ["figures", "training", "record"]


def test_every_figure_is_in_the_page_with_words(whole_out: Path, page: str) -> None:
    images = Page(page).images
    assert len(images) == len(list((whole_out / "figures").glob("*.png")))
    for image in images:
        assert len(image["alt"]) > 20
        assert image["alt"].endswith("(SYNTHETIC PHANTOM)")
        assert image["width"] == "1440"
        assert image["src"].startswith("data:image/png;base64,")
    assert "slice by tumor IoU of the sequential model, with" in page


def test_the_record_has_settings_split_and_environment(page: str) -> None:
    facts = {line[0]: line[1] for table in Page(page).tables for line in table if len(line) == 2}
    assert facts["split sha256"] == "ab" * 32
    assert facts["liver window hu"] == "-100, 400"
    assert (facts["seed"], facts["synthetic"], facts["git commit"]) == ("0", "yes", "0" * 40)
    assert facts["packages"] == "numpy 2.4"


def test_nothing_comes_from_outside(page: str) -> None:
    parsed = Page(page)
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert "://" not in page
    assert " style=" not in page  # the policy forbids it
    assert "default-src 'none'" in page


def test_synthetic_is_said_at_every_table_and_picture(page: str) -> None:
    assert page.count("<caption>" + BADGE) == page.count("<table ")
    ranking = "Test cases: best, worst of 2 by tumor IoU of the sequential model."
    assert f'<p class="about">{BADGE} {ranking}' in page
    captions = re.findall(rf"<figcaption>[^<]*<strong>.*?{BADGE}</figcaption>", page)
    assert len(captions) == page.count("<figure>")
    assert "For research, not for diagnosis" in page
    assert "slices of patients" not in page


def test_real_data_is_not_called_synthetic_but_patients(tmp_path: Path) -> None:
    real = {"synthetic": False, "cohort": "LiTS"}
    out = write_out(tmp_path / "out", synthetic=False, external=False)
    write_viewer(out, **real)
    page = write_report(out)
    assert "SYNTHETIC" not in page
    assert "This page holds CT slices of patients." in page
    mixed = write_out(tmp_path / "mixed", synthetic=False)
    write_viewer(mixed, **real)
    page = write_report(mixed)
    # Its cases are the real ones.
    assert "SYNTHETIC" not in cut_section(page, "slices", "scores")
    assert '<span class="badge synthetic">SYNTHETIC PHANTOM: external</span>' in page
    assert "This page holds CT slices of patients." in page


def test_without_slices_and_figures_the_report_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_out(tmp_path / "out")
    page = write_report(out)
    assert "no slices recorded" in capsys.readouterr().out
    assert "python -m evaluation.evaluate" in page
    assert "Not drawn: Overlays" in page
    assert "<canvas" not in page
    assert write_report(out) == page


def test_table_1_of_the_test_set_is_open_and_the_other_cohorts_are_folded(page: str) -> None:
    section = cut_section(page, "table1", "claims")
    details = re.findall(r"<h3>(\w+):.*?<details( open)?>", section, flags=re.DOTALL)
    assert details == [("Validation", ""), ("Test", " open"), ("External", "")]


def test_a_failed_system_is_no_result_and_its_reason_no_markup(tmp_path: Path) -> None:
    why = "<script>alert(1)</script> | 2 * 3"
    page = write_report(write_out(tmp_path / "out", failures={("sequential", "balanced"): why}))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | 2 * 3" in page
    assert find_scores(page)[4] == ["sequential", "balanced", "no result", "no result"]


def test_what_cannot_be_read_is_one_line(tmp_path: Path, run_module: Command) -> None:
    out = write_out(tmp_path / "out")
    write_viewer(out)

    def check_refusal(folder: Path, words: str) -> None:
        done = run_module("evaluation.report", "--out", folder)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr

    check_refusal(tmp_path / "none", "no such folder")
    content = (out / "viewer.npz").read_bytes()
    (out / "viewer.npz").write_bytes(content[: len(content) // 2])
    check_refusal(out, "viewer.npz: damaged")
    assert not (out / "report.html").exists()
    (out / "summary.json").unlink()
    check_refusal(out, "summary.json: no such file")


def test_a_figure_that_is_no_png_is_refused(tmp_path: Path) -> None:
    out = write_out(tmp_path / "out")
    (out / "figures").mkdir()
    (out / "figures" / "fig_roc.png").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"fig_roc\.png: not a PNG file"):
        report.main(["--out", str(out)])
