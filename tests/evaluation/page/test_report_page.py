"""The report in headless Chromium: what fits a screen, folds, enlarges, prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from data.command import InputError
from evaluation import report
from tests.evaluation.fake_out import write_out
from tests.evaluation.fake_viewer import write_viewer
from tests.evaluation.page import first_screen
from tests.evaluation.page.browser import INDEX, Browser, wait_for_slice

UNSEEN = """return arguments[0].filter((id) => {
    const box = document.getElementById(id).getBoundingClientRect();
    const { top, bottom, left, right, height } = box;
    return !(height > 0 && top >= 0 && left >= 0 && right <= innerWidth && bottom <= innerHeight);
})"""
STEERING = ["image", "strip", "slice", "down", "up", "previous-error", "next-error"]


@pytest.mark.parametrize("real", [False, True])
def test_the_first_screen_of_a_laptop_holds_image_slider_buttons_and_status(
    viewer: Browser, tmp_path: Path, real: bool
) -> None:
    if real:  # with the notice on patients' slices, and that the external cohort is synthetic
        out = write_out(tmp_path / "out", synthetic=False)
        write_viewer(out, joint=True, synthetic=False, cohort="LiTS")
        report.main(["--out", str(out)])
        viewer.open(out / "report.html")
        viewer.wait(INDEX)
    viewer.size(1280, 800)
    controls = [*STEERING, "status", "readout", "case", "counts", "show-joint", "window-network"]
    assert viewer.run(UNSEEN, controls) == []
    assert viewer.run("return document.getElementById('image').clientWidth") >= 560
    viewer.run("document.getElementById('image').focus()")
    viewer.press("Home", "n")
    wait_for_slice(viewer, 1)
    viewer.press("p", "p")
    wait_for_slice(viewer, 3)
    status = viewer.run("return document.getElementById('status').textContent")
    assert status.startswith("Slice 15, 4 of 5: 30 wrong")
    assert viewer.run(UNSEEN, controls) == []


def test_the_first_screen_of_a_phone_holds_image_slider_and_buttons(viewer: Browser) -> None:
    viewer.size(390, 844)
    assert viewer.run(UNSEEN, STEERING) == []
    assert viewer.run("return document.getElementById('image').clientWidth") > 350


@pytest.mark.parametrize("width", [360, 768])
def test_fits_a_narrow_screen(viewer: Browser, width: int) -> None:
    viewer.size(width, 780)
    viewer.run("for (const one of document.querySelectorAll('details')) one.open = true")
    assert viewer.wait("return document.documentElement.scrollWidth") <= width
    assert viewer.run("return document.getElementById('image').clientWidth") > 0.4 * width


def test_every_table_shows_numbers_at_phone_width(viewer: Browser) -> None:
    """A line's first number is seen without scrolling sideways; much is folded."""
    viewer.size(390, 844)
    height = "return document.documentElement.scrollHeight"
    folded = viewer.run(height)
    viewer.run("for (const one of document.querySelectorAll('details')) one.open = true")
    assert folded < 0.7 * viewer.run(height)
    script = """return [...document.querySelectorAll('.scroll > .numbers')].filter((table) => {
        const cell = table.querySelector('td.number');
        const right = (element) => element.getBoundingClientRect().right;
        return cell && right(cell) > right(table.parentElement);
    }).map((table) => table.innerText.slice(0, 60))"""
    assert viewer.run("return document.querySelectorAll('.scroll > .numbers').length") > 10
    assert viewer.run(script) == []


def test_figures_fit_the_page_and_open_at_full_size(viewer: Browser) -> None:
    viewer.size(390, 844)
    widths = "return [...document.querySelectorAll('figure img')].map((image) => image.clientWidth)"
    assert all(300 < width <= 390 for width in viewer.run(widths))
    state = """const full = document.getElementById('full'), image = full.querySelector('img');
        const isSynthetic = full.innerText.includes('SYNTHETIC PHANTOM');
        return [full.open, image && image.clientWidth, isSynthetic]"""
    viewer.click("figure:nth-of-type(2) .enlarge")
    assert viewer.run(state) == [True, 960, True]  # 8 points of 7.2 inches: 14.8 CSS pixels
    viewer.press("Escape")
    # Events of a dialog come a little later.
    viewer.wait("return !document.querySelector('#full img')")
    assert viewer.run(state) == [False, None, False]
    assert viewer.run("return document.activeElement.ariaLabel") == "Enlarge: Table 1 as bars"
    viewer.press("Enter")
    assert viewer.run(state)[0] is True
    viewer.click("#close-full")
    assert viewer.run(state)[0] is False
    assert viewer.console() == []


def test_folded_tables_are_open_in_print_and_folded_again(viewer: Browser) -> None:
    folded = "return document.querySelectorAll('main details:not([open])').length"
    before = viewer.run(folded)
    assert before > 10
    count = f"window.left = {folded.removeprefix('return ')}"
    viewer.run(f"addEventListener('beforeprint', () => {{ {count} }})")
    assert viewer.print().startswith(b"%PDF")
    assert viewer.wait("return typeof window.left === 'number' ? [window.left] : null") == [0]
    assert viewer.run(folded) == before


def test_synthetic_is_said_in_the_viewer(viewer: Browser) -> None:
    image = viewer.run("return document.getElementById('image').ariaLabel")
    assert image.startswith("SYNTHETIC PHANTOM, case ")
    caption = viewer.run("return document.querySelector('#counts caption').textContent")
    assert "SYNTHETIC PHANTOM" in caption
    assert "SYNTHETIC PHANTOM" in viewer.run("return document.title")
    ranking = viewer.run("return document.querySelector('.choose .about').innerText")
    assert ranking.startswith(
        "SYNTHETIC PHANTOM Test cases: best, worst of 2 by tumor IoU of the sequential"
    )


def test_the_picture_of_the_first_screen(
    report_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], window: Browser
) -> None:
    path = tmp_path / "first.png"
    first_screen.main(["--out", str(report_out), "--to", str(path)])
    assert capsys.readouterr().out == f"{path}: {path.stat().st_size // 1000} kB\n"
    assert path.stat().st_size < 300_000
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (1280, 800))
        assert len(picture.getcolors(maxcolors=1280 * 800) or ()) > 100  # drawn, not blank


def test_no_picture_is_taken_of_patients_or_without_slices(tmp_path: Path) -> None:
    real = write_out(tmp_path / "real", synthetic=False)
    with pytest.raises(InputError, match="validation and test not synthetic"):
        first_screen.take_picture(real, tmp_path / "first.png")
    empty = write_out(tmp_path / "empty")
    report.main(["--out", str(empty)])
    with pytest.raises(InputError, match="no report with slices"):
        first_screen.take_picture(empty, tmp_path / "first.png")
    assert not (tmp_path / "first.png").exists()


def test_a_report_without_slices_opens_without_errors(window: Browser, tmp_path: Path) -> None:
    out = write_out(tmp_path / "out")
    report.main(["--out", str(out)])
    window.size(360, 780)
    window.open(out / "report.html")
    assert window.run("return document.querySelectorAll('table').length") > 10
    assert window.run("return document.documentElement.scrollWidth") <= 360
    assert window.console() == []
