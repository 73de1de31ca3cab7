"""The figure of the joint loss: IoU by beta / alpha, from both starts, beside the sequential and the one-step model."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from evaluation.drawing.style import BLACK, GREY, MODEL_COLOURS, SMALL, new_figure
from evaluation.names import TARGETS

LOOKS: dict[str, dict[str, Any]] = {
    "pair": {"color": MODEL_COLOURS["joint"], "marker": "o", "linestyle": "-"},
    "scratch": {"color": MODEL_COLOURS["joint"], "marker": "^", "linestyle": (0, (4, 1.5)), "markerfacecolor": "white"},
    "control": {"color": BLACK, "marker": "s", "linestyle": ":"},
}
NAMES = {
    "pair": "joint, from the pair",
    "scratch": "joint, from scratch",
    "control": "control: the pair trained for longer (hard mask)",
}

Row = dict[str, Any]


def draw(rows: Sequence[Row], caption: str) -> Figure:
    """Draw a panel per cohort and target.

    Args:
        rows: of `evaluation.joint_answer.answers`.
        caption: data, seeds and rule, written below.
    """
    cohorts = list(dict.fromkeys(row["cohort"] for row in rows))
    figure = new_figure(5.0, width=7.2 if len(cohorts) > 1 else 4.6)
    grid = figure.subplots(len(TARGETS), len(cohorts), squeeze=False, sharex=True)
    lines = textwrap.wrap(caption.replace("`", ""), 130 if len(cohorts) > 1 else 82)
    below = 0.015 + 0.037 * len(lines)  # what the caption takes; the legend stands above it
    left = 0.09 if len(cohorts) > 1 else 0.14
    figure.subplots_adjust(left=left, right=0.985, top=0.95, bottom=below + 0.205, hspace=0.16)
    for column, cohort in enumerate(cohorts):
        for line, target in enumerate(TARGETS):
            mine = [row for row in rows if (row["cohort"], row["target"]) == (cohort, target)]
            _panel(grid[line][column], [row for row in mine if row["iou"] is not None])
        grid[0][column].set_title(cohort)
        grid[-1][column].set_xlabel(r"$\beta / \alpha$")
    for line, target in enumerate(TARGETS):
        grid[line][0].set_ylabel(f"{target} IoU")
    figure.legend(handles=_legend(rows), loc="lower center", ncols=2, bbox_to_anchor=(0.5, below))
    figure.text(0.01, 0.01, "\n".join(lines), fontsize=SMALL, color=GREY)
    return figure


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    for model in ("one_step", "sequential"):
        for row in (row for row in rows if row["name"] == model):
            axes.axhline(row["iou"], color=MODEL_COLOURS[model], linewidth=1.2)
    for start, look in LOOKS.items():
        mine = sorted((row for row in rows if _kind(row) == start), key=lambda row: row["ratio"])
        axes.plot([row["ratio"] for row in mine], [row["iou"] for row in mine], markersize=5, **look)
        for row in mine:
            _seeds(axes, row, look["color"])
            if row["n_seeds"] < row["n_sweeps"]:
                said = f"{row['n_seeds']} of {row['n_sweeps']} seeds"
                place: dict[str, Any] = {
                    "xytext": (-6, 0),
                    "textcoords": "offset points",
                    "ha": "right",
                    "va": "center",
                }
                axes.annotate(said, (row["ratio"], row["iou"]), fontsize=SMALL, color=look["color"], **place)
    axes.set_xscale("log")
    ratios = sorted({row["ratio"] for row in rows if row["ratio"] is not None})
    axes.set_xticks(ratios, [f"{ratio:.3g}" for ratio in ratios])
    axes.xaxis.set_minor_locator(NullLocator())


def _kind(row: Row) -> str | None:
    """Return which of `LOOKS` a row has; None for the models beside joint training."""
    return "control" if row["mask"] == "hard" else row["start"]


def _seeds(axes: Axes, row: Row, colour: str) -> None:
    if len(row["iou_by_seed"]) > 1:
        axes.plot([row["ratio"]] * len(row["iou_by_seed"]), row["iou_by_seed"], ".", color=colour, markersize=2.5)


def _legend(rows: Sequence[Row]) -> list[Line2D]:
    kinds = {_kind(row) for row in rows}
    entries = [Line2D([], [], markersize=5, label=NAMES[k], **look) for k, look in LOOKS.items() if k in kinds]
    present = [model for model in ("sequential", "one_step") if any(row["name"] == model for row in rows)]
    entries += [Line2D([], [], color=MODEL_COLOURS[model], label=model.replace("_", "-")) for model in present]
    if any(len(row["iou_by_seed"]) > 1 for row in rows):
        entries.append(Line2D([], [], color=GREY, marker=".", linestyle="", label="small dots: each seed"))
    return entries
