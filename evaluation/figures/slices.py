"""Figures with CT slices: the networks' inputs and the overlays of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from data.files import read_json
from evaluation.figures.style import GREEN, LIVER, SMALL, TUMOR, WIDTH, footer, new_figure
from evaluation.names import NAMES
from evaluation.results import Results
from evaluation.tables.text import readable

NO_EXAMPLES = "no examples.json and examples.npz in this run"
INPUTS = ("input_liver", "input_mask", "input_tumor")
REFERENCE, DASHES = GREEN, (0, (2, 1))
KINDS = ("best", "median", "worst")


@dataclass(frozen=True)
class Examples:
    """Recorded example slices: `about` is examples.json, `arrays` the arrays of examples.npz by name."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def index(self, kind: str) -> int | None:
        """Return which of the examples is the "best", "median" or "worst", or None."""
        kinds = [example["kind"] for example in self.about["examples"]]
        return kinds.index(kind) if kind in kinds else None

    @property
    def with_input(self) -> bool:
        """Say whether the networks' inputs are there; a run without sequential model has none."""
        return "input" in self.about and all(name in self.arrays for name in INPUTS)

    def at_input(self) -> int | None:
        """Return which of the examples is the slice of the networks' inputs, or None."""
        wanted = (self.about["input"]["case"], self.about["input"]["row"])
        places = [(example["case"], example["row"]) for example in self.about["examples"]]
        return places.index(wanted) if wanted in places else None

    def has(self, model: str, index: int) -> bool:
        """Say whether that model has a result on that example; an absent one is stored as zeros."""
        return self.about["examples"][index]["tumor_iou"].get(model) is not None

    @property
    def tumor_scale(self) -> str:
        """Say how the second network's input was scaled."""
        if self.about["tumor_scaling"] == "window":
            return window_text(self.about["tumor_window_hu"])
        return "scaled by the liver's median"

    @property
    def liver_scale(self) -> str:
        """Say how the first network's input was scaled."""
        return window_text(self.about["liver_window_hu"])


def window_text(window_hu: tuple[float, float]) -> str:
    """Return a window as text, with a minus sign that is one."""
    return "window [{:g}, {:g}] HU".format(*window_hu).replace("-", "\N{MINUS SIGN}")


def read_examples(results: Results) -> Examples | None:
    """Read the example slices of a run; None where they are missing or incomplete."""
    out = results.path
    if not ((out / "examples.json").is_file() and (out / "examples.npz").is_file()):
        return None
    about = {
        "liver_window_hu": results.training["settings"]["liver_window_hu"],
        **read_json(out / "examples.json"),
    }
    with np.load(out / "examples.npz") as file:
        arrays = {name: file[name] for name in file}
    needed = ("hu", "label", *results.models)
    if any(name not in arrays or len(arrays[name]) != len(about["examples"]) for name in needed):
        return None
    return Examples(about, arrays)


def windowed(hu: np.ndarray, window_hu: tuple[float, float]) -> np.ndarray:
    """Return HU mapped to [0, 1] for display."""
    low, high = window_hu
    return np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1)


def outline(axes: Axes, mask: np.ndarray, colour: str, **more: Any) -> None:
    """Draw the border of a mask; an empty mask has none."""
    if mask.any() and not mask.all():
        style = {"linewidths": 1.0, **more}
        axes.contour(mask.astype(float), levels=[0.5], colors=[colour], **style)


def fill(axes: Axes, mask: np.ndarray, colour: str, alpha: float = 0.3) -> None:
    """Lay a translucent colour over a mask."""
    layer = np.zeros((*mask.shape, 4))
    layer[mask] = to_rgba(colour, alpha)
    axes.imshow(layer, interpolation="nearest")


def label_image(label: np.ndarray) -> np.ndarray:
    """Return a label map (0, 1, 2) as an RGB image: black, liver colour, tumor colour."""
    colours = np.array([to_rgba(name)[:3] for name in ("black", LIVER, TUMOR)])
    return colours[np.minimum(label, 2)]


def bare(axes: Axes) -> None:
    """Take ticks and frame from image axes."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def sides(axes: Axes) -> None:
    """Mark the patient's right and left: radiological view, right at the left border."""
    style: dict[str, Any] = {
        "color": "white",
        "fontsize": SMALL,
        "va": "center",
        "transform": axes.transAxes,
    }
    axes.text(0.02, 0.5, "R", ha="left", **style)
    axes.text(0.98, 0.5, "L", ha="right", **style)


def network_inputs(results: Results) -> Figure | str:
    """Draw the input of the first network and of the second (the paper's Figure 3.1 and section 2.3)."""
    examples = read_examples(results)
    if examples is None:
        return NO_EXAMPLES
    if not examples.with_input:
        return "no input of the sequential networks was recorded"
    arrays, where = examples.arrays, examples.about["input"]
    mask = arrays["input_mask"] > 0
    if not mask.any():
        return "the recorded liver mask M is empty"
    figure = new_figure(4.0)
    titles = (
        f"(a) Input of the first network, $X$\n{examples.liver_scale}",
        f"(b) Input of the second network, $M \\cdot w(X)$\n{examples.tumor_scale}",
    )
    for index, (name, title) in enumerate(zip(("input_liver", "input_tumor"), titles, strict=True)):
        axes = figure.add_axes((0.01 + 0.5 * index, 0.14, 0.415, 0.72))
        array = arrays[name]
        scale: dict[str, Any] = {
            "vmin": min(0.0, float(array.min())),
            "vmax": max(1.0, float(array.max())),
        }
        image = axes.imshow(array, cmap="gray", interpolation="nearest", **scale)
        outline(axes, mask, LIVER)
        bare(axes)
        sides(axes)
        axes.set_title(title)
        bar = figure.colorbar(image, cax=figure.add_axes((0.432 + 0.5 * index, 0.2, 0.012, 0.6)))
        bar.outline.set_linewidth(0.5)
        bar.ax.tick_params(labelsize=SMALL)
    note = f"Case {where['case']}, slice {where['row']}. Outline: liver mask $M = [L(X) > s_1]$ of the first network."
    footer(figure, results, note, ["test"])
    return figure


def _crop(maps: list[np.ndarray]) -> tuple[slice, slice]:
    """Return a square around all that any map labels, with a margin, inside the slice."""
    marked = np.any([label > 0 for label in maps], axis=0)
    height, width = marked.shape
    if not marked.any():
        return slice(0, height), slice(0, width)
    found = [np.flatnonzero(marked.any(axis=axis)) for axis in (1, 0)]
    side = int(1.16 * max(f[-1] - f[0] + 1 for f in found)) + 2
    side = min(side, height, width)
    starts = []
    for f, length in zip(found, (height, width), strict=True):
        start = (f[0] + f[-1] + 1 - side) // 2
        starts.append(int(min(max(start, 0), length - side)))
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _whole(axes: Axes, image: np.ndarray, rows: slice, columns: slice) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    side = rows.stop - rows.start
    corner = (columns.start - 0.5, rows.start - 0.5)
    axes.add_patch(
        Rectangle(corner, side, side, fill=False, edgecolor="white", linewidth=0.8, linestyle=":")
    )
    sides(axes)


def _overlay(axes: Axes, image: np.ndarray, label: np.ndarray | None, why: str = "") -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    sides(axes)
    if label is None:
        axes.text(
            0.5,
            0.5,
            why,
            color="white",
            ha="center",
            va="center",
            transform=axes.transAxes,
            fontsize=SMALL,
        )
        return
    fill(axes, label == 2, TUMOR)
    outline(axes, label > 0, LIVER)
    outline(axes, label == 2, TUMOR, linewidths=0.9)


def overlays(results: Results) -> Figure | str:
    """Draw image, reference and every model's result for the best, the median and the worst slice by tumor IoU."""
    examples = read_examples(results)
    if examples is None:
        return NO_EXAMPLES
    chosen = [index for index in map(examples.index, KINDS) if index is not None]
    if not chosen:
        return "no best, median or worst slice was recorded"
    gap, left, top, low, columns = 0.05, 0.3, 0.27, 0.97, 2 + len(results.models)
    side = min(1.68, (WIDTH - left - 0.03) / columns - gap)
    height = low + top + len(chosen) * (side + 0.22) - 0.22
    figure = new_figure(height)
    for line, index in enumerate(chosen):
        about = examples.about["examples"][index]
        y = height - top - side - line * (side + 0.22)
        figure.text(
            0.012, (y + side / 2) / height, about["kind"], rotation=90, va="center", ha="left"
        )
        panels = []
        for column in range(columns):
            box = ((left + column * (side + gap)) / WIDTH, y / height, side / WIDTH, side / height)
            panels.append(figure.add_axes(box))
            bare(panels[-1])
        _draw_line(panels, examples, index, results.models)
    entries = [
        Line2D([], [], color=LIVER, label="liver, outline"),
        Patch(facecolor=to_rgba(TUMOR, 0.4), edgecolor=TUMOR, label="tumor"),
        Line2D(
            [], [], color=REFERENCE, linewidth=1, linestyle=DASHES, label="tumor in the reference"
        ),
        Line2D([], [], color="#888888", linestyle=":", label="part enlarged at the right"),
    ]
    figure.legend(handles=entries, loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.58 / height))
    loss, rule = NAMES[examples.about["loss"]], examples.about["rule"]
    # examples.json does not say who ranked; only the sequential model goes before the one-step model.
    ranked = "sequential" if examples.has("sequential", chosen[0]) else "one-step"
    note = (
        f"Best, median and worst by the tumor IoU of the {ranked} model, among the test slices with tumor. IoU: of the "
        f"tumor in the slice.\nLoss: {loss}; threshold rule: {rule}; shown in the {examples.liver_scale}. R, L: the "
        "patient's right and left."
    )
    footer(figure, results, note, ["test"])
    return figure


def _draw_line(panels: list[Axes], examples: Examples, index: int, models: Sequence[str]) -> None:
    """Draw one slice: whole, then enlarged with the reference and each result."""
    about, arrays = examples.about["examples"][index], examples.arrays
    image = windowed(arrays["hu"][index], examples.about["liver_window_hu"])
    present = [model for model in models if examples.has(model, index)]
    rows, columns = _crop([arrays[name][index] for name in ("label", *present)])
    zoom = image[rows, columns]
    _whole(panels[0], image, rows, columns)
    _overlay(panels[1], zoom, arrays["label"][index][rows, columns])
    titles = [f"case {about['case']}, slice {about['row']}", "reference"]
    for model, axes in zip(models, panels[2:], strict=True):
        here = model in present
        _overlay(axes, zoom, arrays[model][index][rows, columns] if here else None, "no result")
        if here:
            outline(
                axes,
                arrays["label"][index][rows, columns] == 2,
                REFERENCE,
                linewidths=1.2,
                linestyles=[DASHES],
            )
        titles.append(
            f"{NAMES[model]}: IoU {readable(about['tumor_iou'][model])}" if here else NAMES[model]
        )
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, pad=3, fontsize=8.5 if len(models) > 2 else 9)
