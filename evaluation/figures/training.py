"""Figures of the training: learning curves, and the sweep of the class weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from evaluation.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    VERMILLION,
    Style,
    add_legend,
    make_figure,
    write_footer,
)
from evaluation.results import Results

Phase = dict[str, Any]
"""An entry of "phases" of `training.json`."""

NETWORKS = {
    ("one_step", "classes"): "one-step network",
    ("sequential", "liver"): "liver network $L$",
    ("sequential", "tumor"): "tumor network $T$",
    ("joint", "nested"): "joint: $L$ and $T$",
}
"""How the paper's networks are called, by (system, network), in the order of the panels."""
CHANGE: Style = {"color": GREY, "linewidth": 0.8, "linestyle": (0, (4, 2))}
"""The line between two phases."""
SWEPT = (
    ("at the threshold found by ROC analysis", "iou_at_roc", GREEN, "o-"),
    ("at the threshold with the best IoU", "best_iou", BLACK, "s--"),
    ("at threshold 0.5", "iou_at_half", VERMILLION, "^:"),
)
"""The IoU of a swept class weight: label, key, colour, line."""


def _fill_gaps(values: Iterable[float | None]) -> list[float]:
    """Return values for drawing: a missing one is a gap."""
    return [math.nan if value is None else float(value) for value in values]


def group_phases(results: Results) -> dict[tuple[str, str], list[Phase]]:
    """Return the phases of each trained network, the paper's networks first."""
    groups: dict[tuple[str, str], list[Phase]] = {network: [] for network in NETWORKS}
    for phase in results.training["phases"]:
        groups.setdefault((phase["system"], phase["network"]), []).append(phase)
    trained = {key: [phase for phase in group if phase["rows"]] for key, group in groups.items()}
    return {key: group for key, group in trained.items() if group}


def draw_learning_curves(results: Results) -> Figure | str:
    """Draw loss and validation IoU by epoch of every network, cross-entropy first."""
    groups = group_phases(results)
    if not groups:
        return "no epoch was recorded"
    figure = make_figure(4.9)
    grid = figure.subplots(2, len(groups), squeeze=False, sharex="col", sharey="row")
    figure.subplots_adjust(left=0.075, right=0.99, top=0.93, bottom=0.275, hspace=0.12, wspace=0.08)
    for (above, below), (network, phases) in zip(grid.T, groups.items(), strict=True):
        _draw_learning_column(above, below, phases)
        above.set_title(NETWORKS.get(network, ", ".join(network)))
        below.set_xlabel("epoch")
    # The axes of a row share their scale.
    loss, iou = grid[:, 0]
    loss.set_ylabel("loss")
    loss.set_yscale("log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    loss.yaxis.set_minor_locator(NullLocator())
    iou.set_ylabel("IoU")
    iou.set_ylim(0, 1)
    best: Style = {"linestyle": "", "marker": "v", "markersize": 4}
    entries = [
        Line2D([], [], color=BLACK, label="loss, training"),
        Line2D([], [], color=PURPLE, label="loss, validation"),
        Line2D([], [], color=SKY, label="liver IoU, validation"),
        Line2D([], [], color=ORANGE, label="tumor IoU, validation"),
        Line2D([], [], color=GREY, linestyle=":", label="the same at threshold 0.5"),
        Line2D([], [], label="change to the balanced loss", **CHANGE),
        Line2D([], [], color=BLACK, label="best epoch of a phase", **best),
    ]
    add_legend(figure, entries, 0.09, columns=4)
    note = (
        "The balanced loss weights its terms, so its size does not compare with that of "
        "cross-entropy."
    )
    write_footer(figure, results.summary, [results.describe_origin("validation")], note)
    return figure


def _draw_learning_column(above: Axes, below: Axes, phases: Sequence[Phase]) -> None:
    """Draw a network's losses above and its IoU below, its phases one after another."""
    start = 0
    for phase in phases:
        rows = phase["rows"]
        epochs = [start + index + 1 for index in range(len(rows))]
        # One epoch alone is no line.
        style: Style = {"marker": "o" if len(rows) == 1 else "", "markersize": 3}
        for key, colour in (("loss", BLACK), ("val_loss", PURPLE)):
            above.plot(epochs, _fill_gaps(row.get(key) for row in rows), color=colour, **style)
        for target, colour in (("liver", SKY), ("tumor", ORANGE)):
            for key, line in ((f"val_{target}_iou", "-"), (f"val_{target}_iou_at_half", ":")):
                if any(row.get(key) is not None for row in rows):
                    look: Style = {
                        "linestyle": line,
                        "markerfacecolor": colour if line == "-" else "white",
                    }
                    values = _fill_gaps(row.get(key) for row in rows)
                    below.plot(epochs, values, color=colour, **look, **style)
        numbers = [row["epoch"] for row in rows]
        if phase["status"] != "ok":
            words: Style = {"ha": "right", "va": "center", "fontsize": SMALL, "color": VERMILLION}
            below.text(epochs[-1], 0.3, f"{phase['status']}:\nno result", **words)
        elif phase["best_epoch"] in numbers:
            x = start + numbers.index(phase["best_epoch"]) + 1
            place: Style = {"transform": below.get_xaxis_transform(), "clip_on": False}
            below.plot([x], [0.02], "v", color=BLACK, markersize=4, **place)
        if start:
            for axes in (above, below):
                axes.axvline(start + 0.5, **CHANGE)
        start += len(rows)
    below.set_xlim(0.5, start + 0.5)
    below.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def draw_class_weight(results: Results) -> Figure | str:
    """Draw rAUC, IoU, threshold by the swept class weight (paper's Figure 3.4)."""
    sweep = results.training["sweep"]
    points = sorted((sweep or {}).get("points", ()), key=lambda point: point["ratio"])
    if len(points) < 2:
        return "no sweep of the class weight was recorded"
    scored = [point for point in points if point["status"] == "ok"]
    failed = [point["ratio"] for point in points if point["status"] != "ok"]
    figure = make_figure(3.3)
    panels = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.08, right=0.985, top=0.91, bottom=0.365, wspace=0.38)
    # Panels: rAUC, IoU at three thresholds, thresholds of two rules.
    ratios = [point["ratio"] for point in scored]
    areas = [point["rauc"] for point in scored]
    _draw_series(panels[0], ratios, [("rAUC", areas, BLUE, "o-")])
    scores = [(text, [p[key] for p in scored], *look) for text, key, *look in SWEPT]
    _draw_series(panels[1], ratios, scores)
    rules = [
        ("", [point["thresholds"].get(rule) for point in scored], *look)
        for rule, *look in (("roc", GREEN, "o-"), ("iou", BLACK, "s--"))
    ]
    _draw_series(panels[2], ratios, rules)
    add_legend(figure, panels[1].get_legend_handles_labels()[0], 0.125, columns=3)
    labels = ("rAUC", "tumor IoU", "threshold $s_2$")
    for axes, letter, label in zip(panels, "abc", labels, strict=True):
        axes.set_title(f"({letter})", loc="left")
        axes.set(ylabel=label, xlabel="class weight, tumor to rest")
        cross: Style = {
            "color": VERMILLION,
            "markersize": 6,
            "transform": axes.get_xaxis_transform(),
        }
        for ratio in failed:
            axes.plot([ratio], [0.04], "x", **cross)
        axes.set_xscale("log")
    panels[2].set_ylim(-0.05, 1.05)
    # The best rAUC chooses the class weight.
    known = [point for point in scored if point["rauc"] is not None]
    if known:
        best = max(known, key=lambda point: point["rauc"])
        circle: Style = {"color": BLUE, "markersize": 9, "markerfacecolor": "none"}
        panels[0].plot([best["ratio"]], [best["rauc"]], "o", **circle)
    note = f"Tumor network on validation data, epochs per weight: {sweep['epochs']}. "
    note += "Circle: best rAUC."
    note += f" Cross: run failed ({len(failed)}), no result." if failed else ""
    write_footer(figure, results.summary, [results.describe_origin("validation")], note)
    return figure


def _draw_series(axes: Axes, xs: Sequence[float], series: Iterable[Sequence[Any]]) -> None:
    """Draw lines over the class weight: label, values, colour and line of each."""
    for label, values, colour, line in series:
        # Hollow squares leave the circles below them to be seen where two thresholds agree.
        is_square = "s" in line
        style: Style = {"markersize": 7 if is_square else 4}
        style |= {"markerfacecolor": "none"} if is_square else {}
        axes.plot(xs, _fill_gaps(values), line, color=colour, label=label, **style)
