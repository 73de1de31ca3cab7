"""The recorded slices as the report holds them: PNG with HU and labels, and JSON.

Red and green are the high and low byte of HU + 1024 (12 bits). Blue holds labels, two bits each:
reference, one-step, sequential, joint. The opaque PNG names no colour space, so a canvas gives the
same bytes back; a CRC-32 goes along, because some browsers alter them.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image  # comes with matplotlib

from data.command import InputError
from data.scaling import HIGHEST_HU, LOWEST_HU
from evaluation.names import NAMES, SYNTHETIC, SYSTEMS, spell_system
from evaluation.results import SCHEMA, Results
from evaluation.tables.text import write_score

OFFSET = -int(LOWEST_HU)
SOURCES = ("label", *SYSTEMS)
"""Whose labels a slice has, in the order of their bits."""
MOST_SOURCES = 4
KEYS = {"label": "R", "one_step": "O", "sequential": "S", "joint": "J"}
"""The key that shows or hides the outlines of a source."""
# Liver: portal venous, as tumors are read. Of the volumes of 18 LiTS cases (8-bit window [-40, 160]
# HU) the median is 64 to 125 HU in the liver and 29 to 96 HU in its tumors: 80 lies between.
# [5, 155] leaves 2 % of those tumors' pixels black and less than 0.1 % of the liver white;
# [40, 200] would leave 60 % black.
WINDOWS = {"abdomen": (40, 400), "liver": (80, 150), "wide": (0, 2000)}
"""Centre and width in HU; the first one is shown at the start."""
FEW_PIXELS_AT_128 = 10
ASSETS = Path(__file__).resolve().parent / "assets"
RUN = ("preset", "seed", "split_sha256")
ABOUT = [
    *RUN,
    *("cohort", "synthetic", "size", "rule", "phase"),
    *("ranked_by", "n_ranked", "n_test_cases", "left_out", "cases"),
]
"""What a recording says of itself."""
AGAIN = "remove it and call python -m evaluation.evaluate again"
# What NumPy, zipfile and json raise on a damaged file, a lone array, another archive.
DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, AttributeError, TypeError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class Recording:
    """Content of OUT/viewer.npz: what it says of itself, and its arrays by name."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def systems(self) -> list[str]:
        """The systems that have labels; the page has room for the paper's."""
        return [system for system in SYSTEMS if system in self.arrays]


def read_recording(results: Results) -> Recording | None:
    """Read OUT/viewer.npz; None where there is none.

    Raises:
        InputError: damaged, of another schema, or of another run than the results.
    """
    path = results.path / "viewer.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file}
        about = json.loads(str(arrays.pop("about")))
    except DAMAGED as error:
        raise InputError(f"{path}: damaged, {AGAIN} ({error})") from None
    _check_recording(path, about, arrays)
    summary = results.summary
    run = (summary["preset"], summary["seed"], summary["data"]["split_sha256"])
    if tuple(about[name] for name in RUN) != run:
        raise InputError(f"{path}: of another run than summary.json, {AGAIN}")
    return Recording(about, arrays)


def _check_recording(path: Path, about: Any, arrays: dict[str, np.ndarray]) -> None:
    """Check schema, keys, shapes and values; InputError where one is wrong."""
    schema = about.get("schema") if isinstance(about, dict) else type(about).__name__
    if schema != SCHEMA:
        raise InputError(f"{path}: expected schema {SCHEMA}, got {schema!r}; {AGAIN}")
    missing = [name for name in ABOUT if name not in about]
    missing += [name for name in ("hu", "label") if name not in arrays]
    if missing:
        raise InputError(f"{path}: damaged, it lacks {', '.join(map(repr, missing))}")
    shape = (sum(len(case["rows"]) for case in about["cases"]), about["size"], about["size"])
    for name, array in arrays.items():
        if array.shape != shape:
            raise InputError(f"{path}: {name} has shape {array.shape}, expected {shape}")
        low, high = (int(LOWEST_HU), int(HIGHEST_HU)) if name == "hu" else (0, 2)
        in_range = array.size == 0 or low <= array.min() <= array.max() <= high
        if array.dtype.kind not in "iu" or not in_range:
            raise InputError(f"{path}: {name} must hold whole numbers from {low} to {high}")


def encode_slice(hu: np.ndarray, labels: Sequence[np.ndarray]) -> np.ndarray:
    """Return one slice as the bytes of a picture, uint8 (rows, columns, 3).

    `hu` are whole HU in [-1024, 3071]; `labels` are maps 0/1/2 in the order of `SOURCES`.

    Raises:
        ValueError: more labels than a byte has room for.
    """
    if len(labels) > MOST_SOURCES:
        raise ValueError(
            f"labels must be at most {MOST_SOURCES} maps of two bits each, got {len(labels)}"
        )
    value = hu.astype(np.int32) + OFFSET
    bits = np.zeros(hu.shape, np.int32)
    for place, label in enumerate(labels):
        bits |= label.astype(np.int32) << 2 * place
    return np.stack([value >> 8, value & 255, bits], axis=-1).astype(np.uint8)


def encode_png(picture: np.ndarray) -> str:
    """Return a picture, uint8 (rows, columns, 3), as PNG in base64."""
    written = io.BytesIO()
    Image.fromarray(picture).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode("ascii")


def count_few_pixels(size: int) -> int:
    """Return how many wrong tumor pixels are no error: 10 at 128 px, by area."""
    return max(1, round(FEW_PIXELS_AT_128 * (size / 128) ** 2))


def make_page_data(recording: Recording, liver_window_hu: Sequence[float]) -> dict[str, Any]:
    """Return what the page's script reads: cases, sources, windows, errors."""
    about, cases, start = recording.about, [], 0
    for case in about["cases"]:
        stop = start + len(case["rows"])
        box = find_liver_box(recording, start, stop)
        cases.append({**case, **_encode_case(recording, start, stop), "box": box})
        start = stop
    low, high = liver_window_hu
    windows = {**WINDOWS, "network": ((low + high) / 2, high - low)}
    return {
        "size": about["size"],
        "label": SYNTHETIC if about["synthetic"] else "",
        "offset": OFFSET,
        "sources": [
            {"key": key, "name": NAMES.get(key, "reference"), "letter": KEYS[key].lower()}
            for key in ("label", *recording.systems)
        ],
        "bits": {key: 2 * place for place, key in enumerate(SOURCES)},
        "windows": {
            name: {"centre": centre, "width": width} for name, (centre, width) in windows.items()
        },
        "few": count_few_pixels(about["size"]),
        "cases": cases,
    }


def _encode_case(recording: Recording, start: int, stop: int) -> dict[str, Any]:
    """Return a case's PNGs with checksums, slice with most tumor, wrong pixels."""
    arrays = {name: array[start:stop] for name, array in recording.arrays.items()}
    empty = np.zeros_like(arrays["label"])
    sources = zip(*(arrays.get(name, empty) for name in SOURCES), strict=True)
    pictures = [encode_slice(hu, labels) for hu, labels in zip(arrays["hu"], sources, strict=True)]
    tumor = arrays["label"] == 2
    return {
        "png": [encode_png(picture) for picture in pictures],
        "crc": [zlib.crc32(picture.tobytes()) for picture in pictures],
        "start": int(np.argmax(tumor.sum(axis=(1, 2)))),
        "wrong": {
            system: ((arrays[system] == 2) != tumor).sum(axis=(1, 2)).tolist()
            for system in recording.systems
        },
    }


def find_liver_box(recording: Recording, start: int, stop: int) -> list[int]:
    """Return [row, column, side] of the square around a liver, or of the slice.

    Args:
        recording: content of viewer.npz.
        start, stop: the case's slices.
    """
    size = recording.about["size"]
    marked = np.any(recording.arrays["label"][start:stop] > 0, axis=0)
    if not marked.any():
        return [0, 0, size]
    ends = [np.flatnonzero(np.any(marked, axis=axis))[[0, -1]] for axis in (1, 0)]
    side = min(size, int(1.2 * max(last - first + 1 for first, last in ends)) + 2)
    corner = [min(max(int(first + last + 1 - side) // 2, 0), size - side) for first, last in ends]
    return [*corner, side]


def read_asset(name: str) -> str:
    """Return one of the files that the page is made of."""
    return (ASSETS / name).read_text(encoding="utf-8")


def write_viewer(recording: Recording, data: dict[str, Any]) -> str:
    """Return the viewer as HTML, brought to life by viewer.js."""
    about, systems = recording.about, recording.systems
    cases = (
        f'<option value="{index}">{escape(str(case["case"]))}: {escape(case["kind"])}, tumor IoU '
        f"{write_score(case['tumor_iou'])}</option>"
        for index, case in enumerate(about["cases"])
    )
    counts = (
        f'<tr data-model="{system}"><th scope="row">{spell_system(system, about["phase"][system])}'
        f"</th>{'<td></td>' * 4}</tr>"
        for system in systems
    )
    judged = (
        f'<option value="{system}">{NAMES[system]}</option>'
        for system in sorted(systems, key=lambda system: system != about["ranked_by"])
    )
    return Template(read_asset("viewer.html")).substitute(
        ranking=escape(describe_ranking(recording)),
        words=escape(describe_recording(recording)),
        badge=f'<span class="badge synthetic">{SYNTHETIC}</span>' if about["synthetic"] else "",
        cases="".join(cases),
        sources="".join(_write_source(**source) for source in data["sources"]),
        windows="".join(_write_windows(data["windows"])),
        judged="".join(judged),
        counts="".join(counts),
        letters=_explain_letters(data["sources"]),
        few=data["few"],
    )


def _explain_letters(sources: Sequence[dict[str, str]]) -> str:
    keys = " ".join(f"<kbd>{source['letter'].upper()}</kbd>" for source in sources)
    return f"{keys}: outlines of {', '.join(source['name'] for source in sources)}"


def _write_source(key: str, name: str, letter: str) -> str:
    return (
        f'<label title="Key {letter.upper()}"><input type="checkbox" id="show-{key}" checked>'
        '<svg class="line" viewBox="0 0 51 18" aria-hidden="true">'
        f'<line class="{key}" x1="4" y1="9" x2="47" y2="9"/></svg> {escape(name)}</label>\n'
    )


def _write_windows(windows: dict[str, dict[str, float]]) -> Iterator[str]:
    for number, (name, window) in enumerate(windows.items()):
        short = f"C {window['centre']:g} W {window['width']:g}"
        title = "network input" if name == "network" else name
        yield (
            f'<label><input type="radio" name="window" id="window-{name}" data-short="{short}"'
            f"{'' if number else ' checked'}> {title} <span>{short}</span></label>\n"
        )


def describe_ranking(recording: Recording) -> str:
    """Say which cases are shown, by the scores of which system."""
    about = recording.about
    if about["n_ranked"] == 1:
        return "The only test case that can be ranked."
    kinds = ", ".join(case["kind"] for case in about["cases"])
    ranking = f"{about['n_ranked']} by tumor IoU of the {spell_system(about['ranked_by'])} model"
    return f"Test cases: {kinds} of {ranking}."


def describe_recording(recording: Recording) -> str:
    """Say which slices are shown, and with which labels."""
    about = recording.about
    phases = ", ".join(
        f"{NAMES[system]} after {NAMES[about['phase'][system]]}" for system in recording.systems
    )
    words = (
        f"{len(about['cases'])} of {about['n_test_cases']} test cases, with every slice that was "
        "scored. Of each model the phase with the better tumors on validation data: "
        f"{phases}; threshold rule {about['rule']}."
    )
    if about["left_out"]:
        words += f" Left out to keep the page small: {', '.join(map(str, about['left_out']))}."
    return words
