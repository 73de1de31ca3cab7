"""Figures of the models: the one-step workflow and the sequential architecture, with real slices at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Patch, Rectangle

from evaluation.figures.slices import Examples, label_image, read_examples, windowed
from evaluation.figures.style import BLACK, GREY, LIVER, SMALL, TUMOR, WIDTH, footer, new_figure
from evaluation.figures.unet import Frame, arrow, draw_unet, legend_entries
from evaluation.names import NAMES
from evaluation.results import Results
from evaluation.tables.training import readable_threshold

SIDE = 1.0  # inches of an example image
Point = tuple[float, float]


def _canvas(figure: Figure) -> Axes:
    """Return axes over the whole figure whose units are inches."""
    axes = figure.add_axes((0, 0, 1, 1))
    width, height = figure.get_size_inches()
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def _missing(examples: Examples | None) -> str:
    """Say why there is no label map: the system failed, or only its map of this slice is not there."""
    scored = examples is not None and any(
        examples.has("sequential", i) for i in range(len(examples.about["examples"]))
    )
    return "not recorded" if scored else "no result"


def _picture(
    axes: Axes,
    image: np.ndarray | None,
    corner: Point,
    above: str,
    below: str = "",
    missing: str = "no result",
) -> None:
    """Put an image (or an empty frame) with its lower left corner at `corner`, with text above and below."""
    x, y = corner
    if image is not None:
        grey: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1} if image.ndim == 2 else {}
        axes.imshow(
            image, extent=(x, x + SIDE, y, y + SIDE), interpolation="nearest", aspect="auto", **grey
        )
    else:
        axes.text(
            x + SIDE / 2,
            y + SIDE / 2,
            missing,
            ha="center",
            va="center",
            fontsize=SMALL,
            color=GREY,
        )
    axes.add_patch(
        Rectangle(corner, SIDE, SIDE, fill=False, linewidth=0.6, edgecolor=BLACK, zorder=3)
    )
    axes.text(x + SIDE / 2, y + SIDE + 0.05, above, ha="center", va="bottom", fontsize=9)
    if below:
        axes.text(x + SIDE / 2, y - 0.05, below, ha="center", va="top", fontsize=SMALL, color=GREY)


def _network(axes: Axes, network: dict[str, Any], frame: Frame, title: str) -> tuple[Point, Point]:
    """Draw a U-Net in a rounded frame, titled with its parameters; return where it is entered and left."""
    pad = 0.06
    corner = (frame.left - pad, frame.bottom - pad)
    size = (frame.right - frame.left + 2 * pad, frame.top - frame.bottom + 2 * pad)
    rounded = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch(
            corner, *size, boxstyle=rounded, facecolor="#F7F7F7", edgecolor="#BBBBBB", lw=0.6
        )
    )
    middle = (frame.left + frame.right) / 2
    text = f"{title}, {network['parameters']:,} parameters"
    axes.text(middle, frame.top + pad + 0.04, text, ha="center", va="bottom", fontsize=9)
    return draw_unet(axes, network["layers"], frame)


def _legend(
    figure: Figure, layers: list[dict[str, Any]], results: Results, y: float, labels: bool
) -> None:
    entries = legend_entries(layers, results.training.get("settings", {}).get("dropout"))
    if labels:
        edge: dict[str, Any] = {"edgecolor": BLACK, "linewidth": 0.5}
        entries.append(Patch(facecolor=LIVER, label="label 1, liver", **edge))
        entries.append(Patch(facecolor=TUMOR, label="label 2, tumor", **edge))
    height = figure.get_size_inches()[1]
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, y / height)}
    figure.legend(
        handles=entries, ncols=3, columnspacing=1.6, handletextpad=0.6, labelspacing=0.35, **place
    )


def _threshold(results: Results, stage: str, target: str, examples: Examples | None) -> str:
    """Return the threshold behind the shown result, as ` = 0.137`; "" where it is not recorded."""
    if examples is None:
        return ""
    if stage == "liver":  # what the tumor network was trained with
        for phase in results.training["phases"]:
            if (phase["stage"], phase["phase"]) == ("tumor", examples.about["loss"]) and phase.get(
                "mask_s1"
            ) is not None:
                return f" = {readable_threshold(phase['mask_s1'])}"
    for phase in results.training["phases"]:
        if (phase["stage"], phase["phase"]) == (stage, examples.about["loss"]):
            value = ((phase["thresholds"] or {}).get(target) or {}).get(examples.about["rule"])
            return "" if value is None else f" = {readable_threshold(value)}"
    return ""


def _shown(examples: Examples | None) -> str:
    if examples is None:
        return ""
    loss, rule = NAMES[examples.about["loss"]], examples.about["rule"]
    return f" Images: loss {loss}, threshold rule {rule}"


def one_step_workflow(results: Results) -> Figure | str:
    """Draw the one-step workflow: slice, U-Net, class probabilities, label map (the paper's Figure 2.1)."""
    network = results.training["architectures"].get("one_step")
    if not network:
        return "no one-step architecture was recorded"
    figure = new_figure(4.25)
    axes = _canvas(figure)
    examples = read_examples(results)
    index = None if examples is None else examples.index("median")
    image = label = None
    note = "Numbers above the boxes: channels; at the left: rows and columns."
    if examples is not None and index is not None:
        about = examples.about["examples"][index]
        image = windowed(examples.arrays["hu"][index], examples.about["liver_window_hu"])
        if examples.has("one_step", index):
            label = label_image(examples.arrays["one_step"][index])
        note += f"{_shown(examples)}; case {about['case']}, slice {about['row']}."
    try:
        enter, leave = _network(axes, network, Frame(1.42, 1.2, 5.72, 3.92), "U-Net")
    except ValueError as error:
        return f"the one-step network cannot be drawn: {error}"
    y = enter[1] - SIDE / 2
    window = "" if examples is None else examples.liver_scale.replace("window ", "")
    _picture(axes, image, (0.1, y), "slice $X$", window)
    classes = network["layers"][-1]["output"][-1]
    _picture(axes, label, (6.1, y), "label map", f"{classes} classes: other,\nliver, tumor")
    arrow(axes, [(0.1 + SIDE, enter[1]), (enter[0], enter[1])], BLACK)
    arrow(axes, [leave, (6.1, leave[1])], BLACK)
    _legend(figure, network["layers"], results, 0.42, labels=True)
    footer(figure, results, note, ["test"])
    return figure


def sequential_architecture(results: Results) -> Figure | str:
    """Draw the sequential model: X, L, s1, M, w(X), M w(X), T, s2, label map (the paper's Figure 1.1)."""
    networks = [results.training["architectures"].get(stage) for stage in ("liver", "tumor")]
    if not all(networks):
        return "no liver and tumor architectures were recorded"
    liver, tumor = networks
    figure = new_figure(6.95)
    axes = _canvas(figure)
    try:
        enter_1, leave_1 = _network(axes, liver, Frame(1.48, 4.32, 5.5, 6.54), "liver network $L$")
        enter_2, leave_2 = _network(axes, tumor, Frame(1.48, 1.24, 5.5, 3.46), "tumor network $T$")
    except ValueError as error:
        return f"the sequential networks cannot be drawn: {error}"
    examples = read_examples(results)
    note = "Numbers above the boxes: channels; at the left: rows and columns."
    images, where = sequential_images(examples) if examples is not None else ([None] * 4, None)
    if where is not None:
        note += f"{_shown(examples)}; case {where['case']}, slice {where['row']}."
    _sequential_pictures(axes, images, (enter_1[1], enter_2[1]), _missing(examples))
    right = WIDTH - SIDE - 0.1
    windowing = examples is None or examples.about.get("tumor_scaling", "window") == "window"
    thresholds = [_threshold(results, stage, stage, examples) for stage in ("liver", "tumor")]
    for number, (enter, leave) in enumerate(((enter_1, leave_1), (enter_2, leave_2)), start=1):
        arrow(axes, [(0.1 + SIDE, enter[1]), enter], BLACK)
        arrow(axes, [leave, (right, leave[1])], BLACK)
        text = f"$> s_{number}$"
        axes.text((5.56 + right) / 2, leave[1] + 0.05, text, ha="center", va="bottom", fontsize=9)
        below = f"$s_{number}${thresholds[number - 1]}" if thresholds[number - 1] else ""
        if number == 2:
            below = f"label map: 1 in $M$,\n2 where also $T > s_2$\n{below}"
        axes.text(
            right + SIDE / 2,
            leave[1] - SIDE / 2 - 0.05,
            below,
            ha="center",
            va="top",
            fontsize=SMALL,
            color=GREY,
        )
    _product(axes, enter_1[1], enter_2[1], "windowing" if windowing else "scaling")
    _legend(figure, liver["layers"], results, 0.42, labels=True)
    footer(figure, results, note, ["test"])
    return figure


def sequential_images(examples: Examples) -> tuple[list[np.ndarray | None], dict[str, Any] | None]:
    """Return X, M, M w(X) and the label map as images, and their slice (case, row).

    The slice recorded as the networks' input is taken if its label map is there. Else an example serves: its
    label map says what M is, and with a window for w the product follows. Without either, what there is.
    """
    arrays, about = examples.arrays, examples.about
    if not examples.with_input:
        return [None] * 4, None
    index = examples.at_input()
    label = arrays.get("input_sequential")
    if label is None and index is not None and examples.has("sequential", index):
        label = arrays["sequential"][index]
    index = examples.index("median")
    if (
        label is None
        and index is not None
        and examples.has("sequential", index)
        and about["tumor_scaling"] == "window"
    ):
        label, hu = arrays["sequential"][index], arrays["hu"][index]
        product = np.where(label > 0, windowed(hu, about["tumor_window_hu"]), 0)
        first = windowed(hu, about["liver_window_hu"])
        return [first, (label > 0).astype(float), product, label_image(label)], about["examples"][
            index
        ]
    first, product = (_stretched(arrays[name]) for name in ("input_liver", "input_tumor"))
    mask = (arrays["input_mask"] > 0).astype(float)
    return [first, mask, product, None if label is None else label_image(label)], about["input"]


def _sequential_pictures(
    axes: Axes, images: Sequence[np.ndarray | None], heights: tuple[float, float], missing: str
) -> None:
    first, mask, product, label = images
    right = WIDTH - SIDE - 0.1
    low, high = heights[1] - SIDE / 2, heights[0] - SIDE / 2
    _picture(axes, first, (0.1, high), "slice $X$")
    _picture(axes, mask, (right, high), "liver mask $M$")
    _picture(axes, product, (0.1, low), "")
    axes.text(0.1 + SIDE / 2, low - 0.05, "$M \\cdot w(X)$", ha="center", va="top", fontsize=9)
    _picture(axes, label, (right, low), "", missing=missing)


def _stretched(image: np.ndarray) -> np.ndarray:
    """Return an image mapped to [0, 1], whatever scale the network reads."""
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def _product(axes: Axes, high: float, low: float, w: str) -> None:
    """Draw how the second input is made: the mask times the windowed (or otherwise scaled, `w`) slice."""
    x, y, radius = 0.1 + SIDE / 2, 3.9, 0.11
    right = WIDTH - 0.1 - SIDE / 2
    arrow(axes, [(x, high - SIDE / 2), (x, y + radius)], BLACK)
    axes.text(x + 0.06, y + 0.5, f"{w} $w$", ha="left", va="center", fontsize=9)
    axes.add_patch(
        Circle((x, y), radius, facecolor="white", edgecolor=BLACK, linewidth=0.8, zorder=3)
    )
    axes.plot([x], [y], ".", color=BLACK, markersize=4, zorder=4)
    arrow(axes, [(x, y - radius), (x, low + SIDE / 2)], BLACK)
    arrow(axes, [(right, high - SIDE / 2 - 0.22), (right, y), (x + radius, y)], BLACK)
    axes.text(
        3.5,
        y + 0.05,
        "pixel by pixel product with $M = [L(X) > s_1]$",
        ha="center",
        va="bottom",
        fontsize=9,
    )
    arrow(axes, [(right, y), (right, low + SIDE / 2)], BLACK)
