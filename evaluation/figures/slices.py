"""Figures with CT slices: the networks' inputs and the overlays of the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from evaluation.figures.examples import Examples, name_ranking, read_examples, window_image
from evaluation.figures.style import (
    GREEN,
    LIVER,
    SMALL,
    TUMOR,
    WIDTH,
    Style,
    add_legend,
    make_figure,
    write_footer,
)
from evaluation.names import NAMES
from evaluation.results import Results
from evaluation.tables.text import write_score

NO_EXAMPLES = "no examples.json and examples.npz in this run"
REFERENCE, DASHES = GREEN, (0, (2, 1))
KINDS = ("best", "median", "worst")
GAP, LEFT, TOP, BOTTOM, BETWEEN = 0.05, 0.3, 0.27, 0.97, 0.22
"""Inches around the overlays: between columns, at the borders, between lines."""


def draw_outline(axes: Axes, mask: np.ndarray, colour: str, **style: Any) -> None:
    """Draw the border of a mask; an empty mask has none.

    Args:
        axes: with the slice.
        mask: bool (rows, columns).
        colour: of the line.
        **style: keywords of `Axes.contour`.
    """
    if mask.any() and not mask.all():
        style = {"linewidths": 1.0, **style}
        axes.contour(mask.astype(float), levels=[0.5], colors=[colour], **style)


def fill_mask(axes: Axes, mask: np.ndarray, colour: str, alpha: float = 0.3) -> None:
    """Lay a translucent colour over a mask.

    Args:
        axes: with the slice.
        mask: bool (rows, columns).
        colour, alpha: colour and opacity.
    """
    layer = np.zeros((*mask.shape, 4))
    layer[mask] = to_rgba(colour, alpha)
    axes.imshow(layer, interpolation="nearest")


def clear_axes(axes: Axes) -> None:
    """Take ticks and frame from image axes."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def mark_sides(axes: Axes) -> None:
    """Mark the patient's right and left: radiological view, right at the left border."""
    style: Style = {
        "color": "white",
        "fontsize": SMALL,
        "va": "center",
        "transform": axes.transAxes,
    }
    axes.text(0.02, 0.5, "R", ha="left", **style)
    axes.text(0.98, 0.5, "L", ha="right", **style)


def draw_network_inputs(results: Results) -> Figure | str:
    """Draw the inputs of the first and the second network (paper 2.3, Figure 3.1)."""
    examples = read_examples(results.path, results.training["settings"], results.system_names)
    if examples is None:
        return NO_EXAMPLES
    if not examples.has_input:
        return "no input of the sequential networks was recorded"
    mask = examples.arrays["input_mask"] > 0
    if not mask.any():
        return "the recorded liver mask M is empty"
    # Each input with its outline and the bar of its grey scale.
    figure = make_figure(4.0)
    titles = (
        f"(a) Input of the first network, $X$\n{examples.liver_scale}",
        f"(b) Input of the second network, $M \\cdot w(X)$\n{examples.tumor_scale}",
    )
    for index, (name, title) in enumerate(zip(("input_liver", "input_tumor"), titles, strict=True)):
        axes = figure.add_axes((0.01 + 0.5 * index, 0.14, 0.415, 0.72))
        array = examples.arrays[name]
        low, high = min(0.0, float(array.min())), max(1.0, float(array.max()))
        image = axes.imshow(array, cmap="gray", interpolation="nearest", vmin=low, vmax=high)
        draw_outline(axes, mask, LIVER)
        clear_axes(axes)
        mark_sides(axes)
        axes.set_title(title)
        bar = figure.colorbar(image, cax=figure.add_axes((0.432 + 0.5 * index, 0.2, 0.012, 0.6)))
        bar.outline.set_linewidth(0.5)
        bar.ax.tick_params(labelsize=SMALL)
    place = examples.about["input"]
    note = (
        f"Case {place['case']}, slice {place['row']}. "
        "Outline: liver mask $M = [L(X) > s_1]$ of the first network."
    )
    write_footer(figure, results.summary, [results.describe_origin("test")], note)
    return figure


def find_crop(maps: Sequence[np.ndarray]) -> tuple[slice, slice]:
    """Return a square in the slice around all that label maps mark, plus margin."""
    marked = np.any([label > 0 for label in maps], axis=0)
    if not marked.any():
        return slice(0, marked.shape[0]), slice(0, marked.shape[1])
    extents = [np.flatnonzero(marked.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    side = int(1.16 * max(last - first + 1 for first, last in extents)) + 2
    side = min(side, *marked.shape)
    starts = [
        int(min(max((first + last + 1 - side) // 2, 0), length - side))
        for (first, last), length in zip(extents, marked.shape, strict=True)
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def draw_overlays(results: Results) -> Figure | str:
    """Draw image, reference, results of best, median, worst slice by tumor IoU."""
    examples = read_examples(results.path, results.training["settings"], results.system_names)
    if examples is None:
        return NO_EXAMPLES
    indices = [index for index in map(examples.find, KINDS) if index is not None]
    if not indices:
        return "no best, median or worst slice was recorded"
    # A line is a slice; a column is the image, the reference, or a system.
    n_columns = 2 + len(examples.systems)
    side = min(1.68, (WIDTH - LEFT - 0.03) / n_columns - GAP)
    height = BOTTOM + TOP + len(indices) * (side + BETWEEN) - BETWEEN
    figure = make_figure(height)
    for line, index in enumerate(indices):
        y = height - TOP - side - line * (side + BETWEEN)
        kind = examples.about["examples"][index]["kind"]
        figure.text(0.012, (y + side / 2) / height, kind, rotation=90, va="center", ha="left")
        panels = []
        for column in range(n_columns):
            x = LEFT + column * (side + GAP)
            panels.append(figure.add_axes((x / WIDTH, y / height, side / WIDTH, side / height)))
            clear_axes(panels[-1])
        _draw_line(panels, examples, index)
    dashed: Style = {"color": REFERENCE, "linewidth": 1, "linestyle": DASHES}
    entries = [
        Line2D([], [], color=LIVER, label="liver, outline"),
        Patch(facecolor=to_rgba(TUMOR, 0.4), edgecolor=TUMOR, label="tumor"),
        Line2D([], [], label="tumor in the reference", **dashed),
        Line2D([], [], color="#888888", linestyle=":", label="part enlarged at the right"),
    ]
    add_legend(figure, entries, 0.58 / height, columns=4)
    ranking = name_ranking(examples.about["examples"])
    note = (
        f"Best, median and worst by the tumor IoU of the {ranking} model, among the test slices "
        "with tumor. IoU: of the tumor in the slice.\n"
        f"Loss: {examples.loss}; threshold rule: {examples.about['rule']}; "
        f"shown in the {examples.liver_scale}. R, L: the patient's right and left."
    )
    write_footer(figure, results.summary, [results.describe_origin("test")], note)
    return figure


def _draw_line(panels: Sequence[Axes], examples: Examples, index: int) -> None:
    """Draw one slice: whole, then enlarged with the reference and each result."""
    about, arrays, systems = examples.about["examples"][index], examples.arrays, examples.systems
    image = window_image(arrays["hu"][index], examples.about["liver_window_hu"])
    present = [system for system in systems if examples.has(system, index)]
    rows, columns = find_crop([arrays[name][index] for name in ("label", *present)])
    reference = arrays["label"][index][rows, columns]

    # The whole slice, with the part that is enlarged.
    draw_image(panels[0], image)
    side, corner = rows.stop - rows.start, (columns.start - 0.5, rows.start - 0.5)
    dotted: Style = {"fill": False, "edgecolor": "white", "linewidth": 0.8, "linestyle": ":"}
    panels[0].add_patch(Rectangle(corner, side, side, **dotted))
    # The enlarged part with the reference, then with each result.
    draw_image(panels[1], image[rows, columns])
    draw_labels(panels[1], reference)
    titles = [f"case {about['case']}, slice {about['row']}", "reference"]
    for system, axes in zip(systems, panels[2:], strict=True):
        title = NAMES.get(system, system)
        draw_image(axes, image[rows, columns])
        if system in present:
            draw_labels(axes, arrays[system][index][rows, columns])
            draw_outline(axes, reference == 2, REFERENCE, linewidths=1.2, linestyles=[DASHES])
            title += f": IoU {write_score(about['tumor_iou'][system])}"
        else:
            middle: Style = {"ha": "center", "va": "center", "transform": axes.transAxes}
            axes.text(0.5, 0.5, "no result", color="white", fontsize=SMALL, **middle)
        titles.append(title)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, pad=3, fontsize=8.5 if len(systems) > 2 else 9)


def draw_image(axes: Axes, image: np.ndarray) -> None:
    """Draw a windowed slice and mark the patient's sides."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    mark_sides(axes)


def draw_labels(axes: Axes, label: np.ndarray) -> None:
    """Draw a label map over a slice: tumor filled, liver and tumor outlined."""
    fill_mask(axes, label == 2, TUMOR)
    draw_outline(axes, label > 0, LIVER)
    draw_outline(axes, label == 2, TUMOR, linewidths=0.9)
