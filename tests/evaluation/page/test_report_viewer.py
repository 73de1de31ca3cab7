"""The report's viewer in headless Chromium: no network, exact values, every control."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.fake_viewer import ROWS, SIZE, WRONG
from tests.evaluation.page.browser import INDEX, Browser, wait_for_slice

LABELS = ("label", "one_step", "sequential", "joint")


def read_picture(browser: Browser) -> np.ndarray:
    """Return what the image shows, int16 (rows, columns, 3)."""
    address = browser.run("return document.getElementById('image').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as picture:
        return np.asarray(picture.convert("RGB"), np.int16)


def is_same(first: np.ndarray, second: np.ndarray) -> bool:
    """Say whether two pictures are the same; a line drawn again may round differently."""
    return int(np.abs(first - second).max()) <= 16


def find_most_tumor(out: Path, start: int, stop: int) -> int:
    with np.load(out / "viewer.npz") as file:
        return int((file["label"][start:stop] == 2).sum(axis=(1, 2)).argmax())


def test_opens_from_the_file_system_without_network_or_errors(
    viewer: Browser, report_out: Path
) -> None:
    assert viewer.run(INDEX) == str(find_most_tumor(report_out, 0, 5))
    assert viewer.requests() == [(report_out / "report.html").resolve().as_uri()]
    assert viewer.console() == []
    script = "return fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"
    assert viewer.run(script) == "refused"
    assert any("Content Security Policy" in line for line in viewer.console())


def test_decoded_values_are_the_recorded_ones(viewer: Browser, report_out: Path) -> None:
    with np.load(report_out / "viewer.npz") as file:
        arrays = {name: file[name] for name in ("hu", *LABELS)}
    for case, start, stop in ((0, 0, 5), (1, 5, 8)):
        script = "const e = document.getElementById('case'); e.value = arguments[0];"
        viewer.run(script + "e.dispatchEvent(new Event('change'))", case)
        script = "return document.getElementById('image').ariaLabel.includes(arguments[0])"
        viewer.wait(script, list(ROWS)[case])
        for index in range(stop - start):
            decoded = viewer.run("return sliceViewer.decoded(arguments[0])", index)
            assert decoded["exact"]
            np.testing.assert_array_equal(decoded["hu"], arrays["hu"][start + index].ravel())
            for name, label in zip(LABELS, decoded["labels"], strict=True):
                np.testing.assert_array_equal(label, arrays[name][start + index].ravel())


def test_keys_slider_wheel_and_buttons_change_the_slice(viewer: Browser) -> None:
    viewer.run("document.getElementById('image').focus()")
    steps = {"Home": 0, "ArrowUp": 1, "ArrowRight": 2, "ArrowDown": 1, "ArrowLeft": 0}
    ends = {"ArrowDown": 0, "PageUp": 4, "PageDown": 0, "End": 4}
    for key, index in (*steps.items(), *ends.items()):
        viewer.press(key)
        wait_for_slice(viewer, index)
    assert viewer.run("return document.getElementById('place').textContent") == "slice 16, 5 of 5"
    viewer.run("document.getElementById('slice').focus()")
    viewer.press("ArrowLeft", "ArrowLeft")
    wait_for_slice(viewer, 2)
    viewer.wheel("#image", -100)  # away from the hand: upwards, to the head
    wait_for_slice(viewer, 3)
    viewer.wheel("#image", 100)
    wait_for_slice(viewer, 2)
    viewer.click("#up")
    wait_for_slice(viewer, 3)
    viewer.click("#down")
    wait_for_slice(viewer, 2)
    viewer.click("#strip span:first-child")
    wait_for_slice(viewer, 0)
    assert viewer.run("return document.getElementById('slice').value") == "0"
    assert viewer.run("return scrollY") == 0
    assert viewer.console() == []


def test_toggles_windows_and_enlarging_change_the_picture(viewer: Browser) -> None:
    viewer.click("#liver")
    at_first = read_picture(viewer)
    for control in (*(f"show-{name}" for name in LABELS), "tumor", "liver", "zoom"):
        viewer.click(f"#{control}")
        assert not is_same(read_picture(viewer), at_first), control
        viewer.click(f"#{control}")
        assert is_same(read_picture(viewer), at_first), control
    viewer.run("document.getElementById('image').focus()")
    for key, name in (("2", "liver"), ("3", "wide"), ("4", "network")):
        before = read_picture(viewer)
        viewer.press(key)
        assert viewer.run(f"return document.getElementById('window-{name}').checked")
        assert not is_same(read_picture(viewer), before)
    viewer.click("#window-abdomen")
    assert is_same(read_picture(viewer), at_first)
    viewer.run("document.getElementById('image').focus()")
    for key in "rosjtlz":
        viewer.press(key)
        assert not is_same(read_picture(viewer), at_first), key
        viewer.press(key)
        assert is_same(read_picture(viewer), at_first), key


# A test of a pixel's red, green and blue, and the least share of the inner border that has it:
# dashes leave gaps.
COLOURS = {
    "label": ("r > 200 && g > 190 && b < 110", 0.8),
    "one_step": ("r > 200 && g < 140 && b < 90", 0.4),
    "sequential": ("r < 110 && g > 150 && b > 200", 0.5),
    "joint": ("r < 60 && g > 170 && b > 110 && b < 180", 0.5),
}


@pytest.mark.parametrize("source", LABELS)
def test_outlines_lie_around_the_labels_in_their_colours(
    viewer: Browser, report_out: Path, source: str
) -> None:
    """The colour of a source shown alone is on the border of its tumor, nowhere else."""
    for name in LABELS:
        if name != source:
            viewer.click(f"#show-{name}")
    index = find_most_tumor(report_out, 0, 5)
    colour, least = COLOURS[source]
    script = """
        const canvas = document.getElementById('image'), side = canvas.width / sliceViewer.size;
        const places = [];
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.width);
        for (let i = 0; i < data.length; i += 4) {
          const [r, g, b] = data.slice(i, i + 3);
          if (COLOUR)
            places.push([Math.floor(i / 4 / canvas.width) / side, ((i / 4) % canvas.width) / side]);
        }
        return places;"""
    places = np.array(viewer.run(script.replace("COLOUR", colour)))
    with np.load(report_out / "viewer.npz") as file:
        tumor = file[source][index] == 2
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
    assert (marked & inner).sum() > least * inner.sum()


def test_the_gaps_of_a_dashed_outline_show_the_one_below(viewer: Browser, report_out: Path) -> None:
    """Sequential has all of the reference's tumor: both outlines are seen."""
    for name in ("one_step", "joint"):
        viewer.click(f"#show-{name}")

    def count_reference() -> int:
        red, green, blue = np.moveaxis(read_picture(viewer), -1, 0)
        return int(((red > 200) & (green > 190) & (blue < 110)).sum())

    both = count_reference()
    viewer.click("#show-sequential")
    alone = count_reference()
    assert 0.15 * alone < both < 0.6 * alone


def test_next_error_goes_to_the_next_slice_with_wrong_tumor_pixels(
    viewer: Browser, report_out: Path
) -> None:
    viewer.run("document.getElementById('image').focus()")
    viewer.press("Home")
    wait_for_slice(viewer, 0)
    status = "return document.getElementById('status').textContent"
    for index in (1, 3, 4, 1):  # 2 wrong pixels are none; round the end at last
        viewer.click("#next-error")
        wait_for_slice(viewer, index)
        assert f"{WRONG[index]} wrong tumor pixels of sequential." in viewer.run(status)
    assert viewer.run(status).startswith("Round the end.")
    viewer.click("#previous-error")
    wait_for_slice(viewer, 4)
    change = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
    change += "e.dispatchEvent(new Event('input'))"
    viewer.run(change, "few", 20)
    viewer.run("document.getElementById('image').focus()")
    viewer.press("p")
    wait_for_slice(viewer, 3)
    viewer.press("n")
    viewer.wait(status + ".startsWith('No other error')")
    wait_for_slice(viewer, 3)
    viewer.run(change, "few", 0)
    viewer.run(change, "judged", "one_step")
    with np.load(report_out / "viewer.npz") as file:
        wrong = int(((file["one_step"] == 2) != (file["label"] == 2))[3].sum())
    assert f"{wrong} wrong tumor pixels of one-step." in viewer.run(status)


def test_keys_work_after_a_click_anywhere_in_the_viewer(viewer: Browser) -> None:
    at_rest = viewer.run("return scrollY")
    controls = ("window-liver", "next-error", "up", "show-label", "place", "status", "image")
    for selector in (*(f"#{name}" for name in controls), "summary"):
        viewer.click(selector)
        viewer.press("Home")
        wait_for_slice(viewer, 0)
        viewer.press("ArrowUp")
        wait_for_slice(viewer, 1)
        viewer.press("n")
        wait_for_slice(viewer, 3)
    assert viewer.run("return document.getElementById('window-liver').checked")
    assert viewer.run("return scrollY") == at_rest


def test_fields_lists_slider_and_radios_keep_their_own_keys(viewer: Browser) -> None:
    value = "return document.getElementById(arguments[0]).value"
    viewer.run("document.getElementById('image').focus()")
    viewer.press("Home")
    wait_for_slice(viewer, 0)
    viewer.run("document.getElementById('few').focus()")
    viewer.press("ArrowUp", "n")
    assert viewer.run(value, "few") == "3"
    viewer.run("document.getElementById('judged').focus()")
    viewer.press("ArrowDown")
    assert viewer.run(value, "judged") == "one_step"  # the ranking model comes first
    viewer.press("s")
    assert (viewer.run(value, "judged"), viewer.run(INDEX)) == ("sequential", "0")
    assert viewer.run("return document.getElementById('show-sequential').checked")
    viewer.run("document.getElementById('slice').focus()")
    viewer.press("ArrowUp")
    wait_for_slice(viewer, 1)
    viewer.press("n")  # letters mean nothing to a slider, so they are the viewer's
    wait_for_slice(viewer, 3)
    viewer.run("document.getElementById('window-abdomen').focus()")
    viewer.press("ArrowDown")
    assert viewer.run("return document.getElementById('window-liver').checked")
    assert viewer.run(INDEX) == "3"
    viewer.press("p")
    wait_for_slice(viewer, 1)


def test_counts_and_hu_under_the_pointer(viewer: Browser, report_out: Path) -> None:
    viewer.run("document.getElementById('image').focus()")
    viewer.press("Home", "ArrowUp")
    wait_for_slice(viewer, 1)
    cells = "return [...document.querySelectorAll('tr[data-model=sequential] td')]"
    cells += ".map((cell) => cell.textContent)"
    with np.load(report_out / "viewer.npz") as file:
        tumor, hu = int((file["label"][1] == 2).sum()), file["hu"][1]
    assert viewer.run(cells) == [str(tumor), "0", "9", f"{tumor / (tumor + 9):.3f}"]
    width = viewer.run("return document.getElementById('image').clientWidth")
    pixel = width / SIZE
    viewer.point("#image", round(-20.5 * pixel), round(3.5 * pixel))
    row, column = SIZE // 2 + 3, SIZE // 2 - 21
    words = f"{hu[row, column]} HU at row {row}, column {column}: reference "
    readout = "return document.getElementById('readout').textContent.startsWith(arguments[0])"
    viewer.wait(readout, words)


def test_every_control_is_reached_by_tab_and_shows_it(viewer: Browser) -> None:
    viewer.run("document.activeElement.blur(); scrollTo(0, 0)")
    reached: dict[str, str] = {}
    for _ in range(40):
        viewer.press("Tab")
        script = "const e = document.activeElement;"
        script += "return [e.id || e.tagName, getComputedStyle(e).outlineStyle]"
        name, outline = viewer.run(script)
        reached[name] = outline
    controls = {"case", "image", "slice", "down", "up", "previous-error", "next-error", "tumor"}
    controls |= {"liver", "window-abdomen", "zoom", "judged", "few", "SUMMARY"}
    controls |= {f"show-{name}" for name in LABELS}
    assert controls <= reached.keys()
    assert all(reached[name] != "none" for name in controls)


def test_every_control_has_a_name(viewer: Browser) -> None:
    script = """const selector = 'input, select, button, canvas, img, [role=region]';
        const label = (e) => e.labels?.length && e.labels[0].textContent.trim();
        return [...document.querySelectorAll(selector)].filter((e) =>
            !(e.ariaLabel || e.alt || label(e) || e.textContent.trim()))
            .map((e) => e.outerHTML.slice(0, 80))"""
    assert viewer.run(script) == []
