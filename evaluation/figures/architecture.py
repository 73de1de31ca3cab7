"""Figures of the models: one-step and sequential, with real slices at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Patch, Rectangle

from evaluation.figures.examples import Examples, colour_labels, read_examples, window_image
from evaluation.figures.style import (
    BLACK,
    GREY,
    LIVER,
    SMALL,
    TUMOR,
    WIDTH,
    Style,
    add_legend,
    make_figure,
    write_footer,
)
from evaluation.figures.unet import Frame, Point, draw_arrow, draw_unet, make_entries
from evaluation.results import Results
from evaluation.tables.text import write_threshold

SIDE = 1.0  # inches of an example image
LEFT, RIGHT = 0.1, WIDTH - SIDE - 0.1
"""Left edge of the images beside the networks, in inches."""
HOW_TO_READ = "Numbers above the boxes: channels; at the left: rows and columns."
CENTRED: Style = {"ha": "center", "va": "bottom", "fontsize": 9}
BELOW: Style = {"ha": "center", "va": "top", "fontsize": SMALL, "color": GREY}
"""How text stands above an image or an arrow, and below an image."""


def _make_canvas(figure: Figure) -> Axes:
    """Return axes over the whole figure whose units are inches."""
    axes = figure.add_axes((0, 0, 1, 1))
    width, height = figure.get_size_inches()
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def _draw_picture(
    axes: Axes,
    image: np.ndarray | None,
    corner: Point,
    above: str,
    below: str = "",
    missing: str = "no result",
) -> None:
    """Put an image, or an empty frame with `missing`, with text above and below."""
    x, y = corner
    if image is not None:
        grey: Style = {"cmap": "gray", "vmin": 0, "vmax": 1} if image.ndim == 2 else {}
        place: Style = {"extent": (x, x + SIDE, y, y + SIDE), "aspect": "auto"}
        axes.imshow(image, interpolation="nearest", **place, **grey)
    else:
        middle: Style = {"ha": "center", "va": "center", "fontsize": SMALL, "color": GREY}
        axes.text(x + SIDE / 2, y + SIDE / 2, missing, **middle)
    frame: Style = {"fill": False, "linewidth": 0.6, "edgecolor": BLACK, "zorder": 3}
    axes.add_patch(Rectangle(corner, SIDE, SIDE, **frame))
    axes.text(x + SIDE / 2, y + SIDE + 0.05, above, **CENTRED)
    if below:
        axes.text(x + SIDE / 2, y - 0.05, below, **BELOW)


def _draw_network(
    axes: Axes, network: dict[str, Any], frame: Frame, title: str
) -> tuple[Point, Point]:
    """Draw a recorded U-Net in a frame; return where it is entered and left."""
    pad = 0.06
    corner = (frame.left - pad, frame.bottom - pad)
    size = (frame.right - frame.left + 2 * pad, frame.top - frame.bottom + 2 * pad)
    look: Style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": "#F7F7F7"}
    axes.add_patch(FancyBboxPatch(corner, *size, edgecolor="#BBBBBB", lw=0.6, **look))
    middle = (frame.left + frame.right) / 2
    text = f"{title}, {network['parameters']:,} parameters"
    axes.text(middle, frame.top + pad + 0.04, text, **CENTRED)
    return draw_unet(axes, network["layers"], frame)


def _write_legend(figure: Figure, results: Results, network: dict[str, Any]) -> None:
    """Explain the drawing of a network and the colours of a label map."""
    dropout = results.training.get("settings", {}).get("dropout")
    entries = make_entries(network["layers"], dropout)
    edge: Style = {"edgecolor": BLACK, "linewidth": 0.5}
    entries.append(Patch(facecolor=LIVER, label="label 1, liver", **edge))
    entries.append(Patch(facecolor=TUMOR, label="label 2, tumor", **edge))
    spacing: Style = {"columnspacing": 1.6, "handletextpad": 0.6, "labelspacing": 0.35}
    add_legend(figure, entries, 0.42 / figure.get_size_inches()[1], columns=3, **spacing)


def _describe_images(examples: Examples, place: dict[str, Any]) -> str:
    """Say of which loss, rule, case and slice the images are."""
    return (
        f" Images: loss {examples.loss}, threshold rule {examples.about['rule']}; "
        f"case {place['case']}, slice {place['row']}."
    )


def draw_one_step(results: Results) -> Figure | str:
    """Draw the one-step workflow: slice, U-Net, label map (the paper's Figure 2.1)."""
    network = results.training["architectures"].get("one_step", {}).get("classes")
    if not network:
        return "no one-step architecture was recorded"
    figure = make_figure(4.25)
    axes = _make_canvas(figure)
    # The median example stands at the ends of the network.
    examples = read_examples(results.path, results.training["settings"], results.system_names)
    index = None if examples is None else examples.find("median")
    image = label = None
    note, window = HOW_TO_READ, ""
    if examples is not None:
        window = examples.liver_scale.replace("window ", "")
    if examples is not None and index is not None:
        image = window_image(examples.arrays["hu"][index], examples.about["liver_window_hu"])
        if examples.has("one_step", index):
            label = colour_labels(examples.arrays["one_step"][index])
        note += _describe_images(examples, examples.about["examples"][index])
    try:
        enter, leave = _draw_network(axes, network, Frame(1.42, 1.2, 5.72, 3.92), "U-Net")
    except ValueError as error:
        return f"the one-step network cannot be drawn: {error}"
    # Slice and label map, each joined to the network by an arrow.
    y = enter[1] - SIDE / 2
    classes = network["layers"][-1]["output"][-1]
    _draw_picture(axes, image, (LEFT, y), "slice $X$", window)
    _draw_picture(axes, label, (RIGHT, y), "label map", f"{classes} classes: other,\nliver, tumor")
    draw_arrow(axes, [(LEFT + SIDE, enter[1]), (enter[0], enter[1])], BLACK)
    draw_arrow(axes, [leave, (RIGHT, leave[1])], BLACK)
    _write_legend(figure, results, network)
    write_footer(figure, results.summary, [results.describe_origin("test")], note)
    return figure


def draw_sequential(results: Results) -> Figure | str:
    """Draw the sequential model: X, L, s1, M, M w(X), T, s2 (the paper's Figure 1.1)."""
    networks = results.training["architectures"].get("sequential", {})
    if not (networks.get("liver") and networks.get("tumor")):
        return "no liver and tumor architectures were recorded"
    figure = make_figure(6.95)
    axes = _make_canvas(figure)
    frames = {"liver": Frame(1.48, 4.32, 5.5, 6.54), "tumor": Frame(1.48, 1.24, 5.5, 3.46)}
    titles = {"liver": "liver network $L$", "tumor": "tumor network $T$"}
    try:
        ends = [_draw_network(axes, networks[n], frames[n], title) for n, title in titles.items()]
    except ValueError as error:
        return f"the sequential networks cannot be drawn: {error}"
    # Real images of one slice at the ends of the networks.
    examples = read_examples(results.path, results.training["settings"], results.system_names)
    images: list[np.ndarray | None] = [None] * 4
    note, place = HOW_TO_READ, None
    if examples is not None:
        images, place = choose_images(examples)
        note += _describe_images(examples, place) if place else ""
    high, low = (enter[1] for enter, _ in ends)
    _draw_pictures(axes, images, (high, low), _explain_missing(examples))
    # Arrows through both networks, with the threshold of each.
    for number, ((enter, leave), target) in enumerate(zip(ends, titles, strict=True), start=1):
        draw_arrow(axes, [(LEFT + SIDE, enter[1]), enter], BLACK)
        draw_arrow(axes, [leave, (RIGHT, leave[1])], BLACK)
        axes.text((5.56 + RIGHT) / 2, leave[1] + 0.05, f"$> s_{number}$", **CENTRED)
        threshold = find_threshold(results, target, examples)
        below = f"$s_{number}${threshold}" if threshold else ""
        if number == 2:
            below = f"label map: 1 in $M$,\n2 where also $T > s_2$\n{below}"
        axes.text(RIGHT + SIDE / 2, leave[1] - SIDE / 2 - 0.05, below, **BELOW)
    is_window = examples is None or examples.about.get("tumor_scaling", "window") == "window"
    _draw_product(axes, high, low, "windowing" if is_window else "scaling")
    _write_legend(figure, results, networks["liver"])
    write_footer(figure, results.summary, [results.describe_origin("test")], note)
    return figure


def find_threshold(results: Results, target: str, examples: Examples | None) -> str:
    """Return the threshold behind the shown label map, ` = 0.137`; "" without one.

    Args:
        results: the run.
        target: "liver" (that of the tumor network's training) or "tumor".
        examples: label maps that are shown.
    """
    if examples is None:
        return ""
    phases = {
        phase["network"]: phase
        for phase in results.training["phases"]
        if (phase["system"], phase["phase"]) == ("sequential", examples.about["phase"])
    }
    # The mask of the tumor network's training, else what validation data chose.
    value = phases.get("tumor", {}).get("mask_s1") if target == "liver" else None
    if value is None:
        thresholds = phases.get(target, {}).get("thresholds") or {}
        value = (thresholds.get(target) or {}).get(examples.about["rule"])
    return "" if value is None else f" = {write_threshold(value)}"


def _explain_missing(examples: Examples | None) -> str:
    """Say why no label map is there: the system failed, or this slice has none."""
    is_scored = examples is not None and any(
        examples.has("sequential", index) for index in range(len(examples.about["examples"]))
    )
    return "not recorded" if is_scored else "no result"


def choose_images(
    examples: Examples,
) -> tuple[list[np.ndarray | None], dict[str, Any] | None]:
    """Return X, M, M w(X) and the label map of one slice, and its case and row.

    The slice of the networks' input is taken if its label map is there. Else an example's label map
    gives M, and with a window for w the product. Else what there is.
    """
    arrays, about = examples.arrays, examples.about
    if not examples.has_input:
        return [None] * 4, None
    # The label map of the slice that is recorded as input.
    label = arrays.get("input_sequential")
    index = examples.find_input()
    if label is None and index is not None and examples.has("sequential", index):
        label = arrays["sequential"][index]
    # Else the median example, whose product follows from its mask and the window.
    index = examples.find("median")
    is_window = about["tumor_scaling"] == "window"
    if label is None and index is not None and is_window and examples.has("sequential", index):
        label, hu = arrays["sequential"][index], arrays["hu"][index]
        product = np.where(label > 0, window_image(hu, about["tumor_window_hu"]), 0)
        first, mask = window_image(hu, about["liver_window_hu"]), (label > 0).astype(float)
        return [first, mask, product, colour_labels(label)], about["examples"][index]
    first, product = (_stretch_image(arrays[name]) for name in ("input_liver", "input_tumor"))
    mask = (arrays["input_mask"] > 0).astype(float)
    return [first, mask, product, None if label is None else colour_labels(label)], about["input"]


def _stretch_image(image: np.ndarray) -> np.ndarray:
    """Return an image mapped to [0, 1], whatever scale the network reads."""
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def _draw_pictures(
    axes: Axes, images: Sequence[np.ndarray | None], heights: tuple[float, float], missing: str
) -> None:
    """Draw X, M, M w(X) and the label map, at the middles of the two networks."""
    first, mask, product, label = images
    high, low = (height - SIDE / 2 for height in heights)
    _draw_picture(axes, first, (LEFT, high), "slice $X$")
    _draw_picture(axes, mask, (RIGHT, high), "liver mask $M$")
    _draw_picture(axes, product, (LEFT, low), "")
    axes.text(LEFT + SIDE / 2, low - 0.05, "$M \\cdot w(X)$", ha="center", va="top", fontsize=9)
    _draw_picture(axes, label, (RIGHT, low), "", missing=missing)


def _draw_product(axes: Axes, high: float, low: float, scaling: str) -> None:
    """Draw the second input: the mask times the scaled slice."""
    x, y, radius = LEFT + SIDE / 2, 3.9, 0.11
    right = WIDTH - 0.1 - SIDE / 2
    # From the slice through w into the product, and from the product down.
    draw_arrow(axes, [(x, high - SIDE / 2), (x, y + radius)], BLACK)
    axes.text(x + 0.06, y + 0.5, f"{scaling} $w$", ha="left", va="center", fontsize=9)
    look: Style = {"facecolor": "white", "edgecolor": BLACK, "linewidth": 0.8, "zorder": 3}
    axes.add_patch(Circle((x, y), radius, **look))
    axes.plot([x], [y], ".", color=BLACK, markersize=4, zorder=4)
    draw_arrow(axes, [(x, y - radius), (x, low + SIDE / 2)], BLACK)
    # From the mask into the product, and down to the label map.
    draw_arrow(axes, [(right, high - SIDE / 2 - 0.22), (right, y), (x + radius, y)], BLACK)
    text = "pixel by pixel product with $M = [L(X) > s_1]$"
    axes.text(3.5, y + 0.05, text, **CENTRED)
    draw_arrow(axes, [(right, y), (right, low + SIDE / 2)], BLACK)
