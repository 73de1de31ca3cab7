"""The report in headless Chromium: no network, exact values, and every control does what it says."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import report
from tests.evaluation.browser import Browser, why_missing
from tests.evaluation.fake_out import write_out
from tests.evaluation.fake_viewer import ROWS, SIZE, WRONG, write_viewer


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_out(tmp_path_factory.mktemp("report") / "out")
    write_viewer(made)
    report.main(["--out", str(made)])
    return made


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if why := why_missing():
        pytest.skip(why)
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


INDEX = "return document.getElementById('image').dataset.index"


def at(browser: Browser, index: int) -> None:
    """Wait until the slice of that index is drawn."""
    browser.wait(f"{INDEX} === '{index}'")


def picture(browser: Browser) -> np.ndarray:
    """Return what the image shows, int16 (rows, columns, 3)."""
    address = browser.run("return document.getElementById('image').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as found:
        return np.asarray(found.convert("RGB"), np.int16)


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Say whether two pictures are the same; single pixels of a line may round differently when drawn again."""
    return int(np.abs(first - second).max()) <= 16


@pytest.fixture
def viewer(window: Browser, out: Path) -> Browser:
    """The report, opened at the first case's slice with most tumor."""
    window.size(1200, 900)
    window.open(out / "report.html")
    window.wait(INDEX)
    return window


def most_tumor(out: Path, start: int, stop: int) -> int:
    with np.load(out / "viewer.npz") as file:
        return int((file["label"][start:stop] == 2).sum(axis=(1, 2)).argmax())


def test_opens_from_the_file_system_without_network_or_errors(viewer: Browser, out: Path) -> None:
    assert viewer.run(INDEX) == str(most_tumor(out, 0, 5))
    assert viewer.requests() == [(out / "report.html").resolve().as_uri()]
    assert viewer.console() == []
    script = "return fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"
    assert viewer.run(script) == "refused"
    assert any("Content Security Policy" in line for line in viewer.console())


def test_decoded_values_are_the_recorded_ones(viewer: Browser, out: Path) -> None:
    with np.load(out / "viewer.npz") as file:
        arrays = {name: file[name] for name in ("hu", "label", "one_step", "sequential")}
    for case, start, stop in ((0, 0, 5), (1, 5, 8)):
        viewer.run("const e = document.getElementById('case'); e.value = arguments[0];"
                   "e.dispatchEvent(new Event('change'))", case)  # fmt: skip
        viewer.wait("return document.getElementById('image').ariaLabel.includes(arguments[0])", list(ROWS)[case])
        for index in range(stop - start):
            found = viewer.run("return sliceViewer.decoded(arguments[0])", index)
            assert found["exact"]
            np.testing.assert_array_equal(found["hu"], arrays["hu"][start + index].ravel())
            for name, label in zip(("label", "one_step", "sequential"), found["labels"], strict=True):
                np.testing.assert_array_equal(label, arrays[name][start + index].ravel())


def test_keys_slider_wheel_and_buttons_change_the_slice(viewer: Browser) -> None:
    viewer.run("document.getElementById('image').focus()")
    for key, index in (
        ("Home", 0),
        ("ArrowUp", 1),
        ("ArrowRight", 2),
        ("ArrowDown", 1),
        ("ArrowLeft", 0),
        ("ArrowDown", 0),
        ("PageUp", 4),
        ("PageDown", 0),
        ("End", 4),
    ):
        viewer.press(key)
        at(viewer, index)
    assert viewer.run("return document.getElementById('place').textContent") == "slice 16, 5 of 5"
    viewer.run("document.getElementById('slice').focus()")
    viewer.press("ArrowLeft", "ArrowLeft")
    at(viewer, 2)
    viewer.wheel("#image", -100)  # away from the hand: upwards, to the head
    at(viewer, 3)
    viewer.wheel("#image", 100)
    at(viewer, 2)
    viewer.click("#up")
    at(viewer, 3)
    viewer.click("#down")
    at(viewer, 2)
    viewer.click("#strip span:first-child")
    at(viewer, 0)
    assert viewer.run("return document.getElementById('slice').value") == "0"
    assert viewer.run("return scrollY") == 0
    assert viewer.console() == []


def test_toggles_windows_and_enlarging_change_the_picture(viewer: Browser) -> None:
    viewer.click("#liver")
    at_first = picture(viewer)
    controls = ("show-label", "show-one_step", "show-sequential", "tumor", "liver", "zoom")
    for control in controls:
        viewer.click(f"#{control}")
        assert not same(picture(viewer), at_first), control
        viewer.click(f"#{control}")
        assert same(picture(viewer), at_first), control
    viewer.run("document.getElementById('image').focus()")
    for key, name in (("2", "liver"), ("3", "wide"), ("4", "network")):
        before = picture(viewer)
        viewer.press(key)
        assert viewer.run(f"return document.getElementById('window-{name}').checked")
        assert not same(picture(viewer), before)
    viewer.click("#window-abdomen")
    assert same(picture(viewer), at_first)
    viewer.run("document.getElementById('image').focus()")
    for key in "rostlz":
        viewer.press(key)
        assert not same(picture(viewer), at_first), key
        viewer.press(key)
        assert same(picture(viewer), at_first), key


def test_outlines_lie_around_the_labels_in_their_colours(viewer: Browser, out: Path) -> None:
    """Where the reference alone is shown, yellow is found on the border of its tumor and nowhere else."""
    for control in ("show-one_step", "show-sequential"):
        viewer.click(f"#{control}")
    index = most_tumor(out, 0, 5)
    script = """
        const canvas = document.getElementById('image'), side = canvas.width / sliceViewer.size, found = [];
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.width);
        for (let i = 0; i < data.length; i += 4)
          if (data[i] > 200 && data[i + 1] > 190 && data[i + 2] < 110)
            found.push([Math.floor(i / 4 / canvas.width) / side, ((i / 4) % canvas.width) / side]);
        return found;"""
    places = np.array(viewer.run(script))
    with np.load(out / "viewer.npz") as file:
        tumor = file["label"][index] == 2
    neighbours = np.zeros((*tumor.shape, 9), bool)
    around = np.pad(tumor, 1)
    for shift in range(9):
        row, column = divmod(shift, 3)
        neighbours[..., shift] = around[row : row + SIZE, column : column + SIZE]
    border = neighbours.any(axis=-1) & ~neighbours.all(axis=-1)
    marked = np.zeros_like(tumor)
    rows, columns = places.astype(int).T
    marked[rows, columns] = True
    assert not (marked & ~border).any()
    inner = tumor & border
    assert (marked & inner).sum() > 0.8 * inner.sum()


def test_next_error_goes_to_the_next_slice_with_wrong_tumor_pixels(viewer: Browser, out: Path) -> None:
    viewer.run("document.getElementById('image').focus()")
    viewer.press("Home")
    at(viewer, 0)
    status = "return document.getElementById('status').textContent"
    for index in (1, 3, 4, 1):  # 2 wrong pixels are none; round the end at last
        viewer.click("#next-error")
        at(viewer, index)
        assert f"{WRONG[index]} wrong tumor pixels of sequential." in viewer.run(status)
    assert viewer.run(status).startswith("Round the end.")
    viewer.press("n")  # the focus is on the button: the letter is for the image alone
    viewer.click("#previous-error")
    at(viewer, 4)
    viewer.run("const e = document.getElementById('few'); e.value = 20; e.dispatchEvent(new Event('input'))")
    viewer.run("document.getElementById('image').focus()")
    viewer.press("p")
    at(viewer, 3)
    viewer.press("n")
    viewer.wait(status + ".startsWith('No other error')")
    at(viewer, 3)
    viewer.run("const e = document.getElementById('few'); e.value = 0; e.dispatchEvent(new Event('input'))")
    viewer.run("const e = document.getElementById('judged'); e.value = 'one_step'; e.dispatchEvent(new Event('input'))")
    with np.load(out / "viewer.npz") as file:
        wrong = int(((file["one_step"] == 2) != (file["label"] == 2))[3].sum())
    assert f"{wrong} wrong tumor pixels of one-step." in viewer.run(status)


def test_counts_and_hu_under_the_pointer(viewer: Browser, out: Path) -> None:
    viewer.run("document.getElementById('image').focus()")
    viewer.press("Home", "ArrowUp")
    at(viewer, 1)
    cells_of = "return [...document.querySelectorAll('tr[data-model=sequential] td')].map((cell) => cell.textContent)"
    with np.load(out / "viewer.npz") as file:
        tumor, hu = int((file["label"][1] == 2).sum()), file["hu"][1]
    assert viewer.run(cells_of) == [str(tumor), "0", "9", f"{tumor / (tumor + 9):.3f}"]
    width = viewer.run("return document.getElementById('image').clientWidth")
    pixel = width / SIZE
    viewer.point("#image", round(-20.5 * pixel), round(3.5 * pixel))
    row, column = SIZE // 2 + 3, SIZE // 2 - 21
    words = f"{hu[row, column]} HU at row {row}, column {column}: reference "
    viewer.wait("return document.getElementById('readout').textContent.startsWith(arguments[0])", words)


def test_every_control_is_reached_by_tab_and_shows_it(viewer: Browser) -> None:
    viewer.run("document.activeElement.blur(); scrollTo(0, 0)")
    reached: dict[str, str] = {}
    for _ in range(40):
        viewer.press("Tab")
        script = "const e = document.activeElement; return [e.id || e.tagName, getComputedStyle(e).outlineStyle]"
        name, outline = viewer.run(script)
        reached[name] = outline
    wanted = {"case", "image", "slice", "down", "up", "previous-error", "next-error", "show-label", "show-one_step"}
    wanted |= {"show-sequential", "tumor", "liver", "window-abdomen", "zoom", "judged", "few", "SUMMARY"}
    assert wanted <= reached.keys()
    assert all(reached[name] != "none" for name in wanted)


def test_every_control_has_a_name(viewer: Browser) -> None:
    script = """return [...document.querySelectorAll('input, select, button, canvas, img, [role=region]')].filter((e) =>
        !(e.ariaLabel || e.alt || e.labels?.length && e.labels[0].textContent.trim() || e.textContent.trim()))
        .map((e) => e.outerHTML.slice(0, 80))"""
    assert viewer.run(script) == []


@pytest.mark.parametrize("width", [360, 768])
def test_fits_a_narrow_screen(viewer: Browser, width: int) -> None:
    viewer.size(width, 780)
    viewer.run("document.querySelector('details').open = true")
    assert viewer.wait("return document.documentElement.scrollWidth") <= width
    assert viewer.run("return document.getElementById('image').clientWidth") > 0.4 * width


def test_a_report_without_slices_opens_without_errors(window: Browser, tmp_path: Path) -> None:
    out = write_out(tmp_path / "out")
    report.main(["--out", str(out)])
    window.size(360, 780)
    window.open(out / "report.html")
    assert window.run("return document.querySelectorAll('table').length") > 10
    assert window.run("return document.documentElement.scrollWidth") <= 360
    assert window.console() == []
