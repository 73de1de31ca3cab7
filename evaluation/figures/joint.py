"""The figure of the joint loss: IoU by beta / alpha, from both starts, beside the sequential and the one-step model."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from evaluation.figures.style import BLACK, GREY, MODEL_COLOURS, SMALL, new_figure
from evaluation.names import TARGETS

LOOKS: dict[str, dict[str, Any]] = {
    "pair": {"color": MODEL_COLOURS["joint"], "marker": "o", "linestyle": "-"},
    "scratch": {
        "color": MODEL_COLOURS["joint"],
        "marker": "^",
        "linestyle": (0, (4, 1.5)),
        "markerfacecolor": "white",
    },
    "control": {"color": BLACK, "marker": "s", "linestyle": ":"},
}
SHIFT = {"pair": 1.0, "scratch": 1.07, "control": 0.935}
"""Factor of the ratio at which the seeds are drawn, so that those of two lines do not hide one another."""
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
            _panel(
                grid[line][column],
                [row for row in rows if (row["cohort"], row["target"]) == (cohort, target)],
            )
        grid[0][column].set_title(cohort)
        grid[-1][column].set_xlabel(r"$\beta / \alpha$")
    for line, target in enumerate(TARGETS):
        grid[line][0].set_ylabel(f"{target} IoU")
    figure.legend(handles=_legend(rows), loc="lower center", ncols=2, bbox_to_anchor=(0.5, below))
    figure.text(0.01, 0.01, "\n".join(lines), fontsize=SMALL, color=GREY)
    return figure


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    failed = [row for row in rows if row["iou"] is None and row["ratio"] is not None]
    rows = [row for row in rows if row["iou"] is not None]
    for model in ("one_step", "sequential"):
        for row in (row for row in rows if row["name"] == model):
            axes.axhline(row["iou"], color=MODEL_COLOURS[model], linewidth=1.2)
    for start, look in LOOKS.items():
        mine = sorted((row for row in rows if _kind(row) == start), key=lambda row: row["ratio"])
        axes.plot(
            [row["ratio"] for row in mine], [row["iou"] for row in mine], markersize=5, **look
        )
        for row in mine:
            _seeds(axes, row, look)
            if row["n_seeds"] < row["n_sweeps"]:
                said = f"{row['n_seeds']} of {row['n_sweeps']} seeds"
                place: dict[str, Any] = {
                    "xytext": (-6, 0),
                    "textcoords": "offset points",
                    "ha": "right",
                    "va": "center",
                }
                axes.annotate(
                    said, (row["ratio"], row["iou"]), fontsize=SMALL, color=look["color"], **place
                )
    axes.set_xscale("log")
    for row in failed:
        where: dict[str, Any] = {
            "transform": axes.get_xaxis_transform(),
            "ha": "right",
            "va": "bottom",
        }
        axes.text(
            row["ratio"] * 1.2,
            0.07,
            "no result",
            fontsize=SMALL,
            color=LOOKS[_kind(row) or ""]["color"],
            **where,
        )
    ratios = sorted({row["ratio"] for row in [*rows, *failed] if row["ratio"] is not None})
    axes.set_xticks(ratios, [f"{ratio:.3g}" for ratio in ratios])
    axes.xaxis.set_minor_locator(NullLocator())


def _kind(row: Row) -> str | None:
    """Return which of `LOOKS` a row has; None for the models beside joint training."""
    return "control" if row["mask"] == "hard" else row["start"]


def _seeds(axes: Axes, row: Row, look: dict[str, Any]) -> None:
    """Draw each seed small, in the look of its line, a little beside the mean."""
    if len(row["iou_by_seed"]) > 1:
        place = [row["ratio"] * SHIFT[_kind(row) or ""]] * len(row["iou_by_seed"])
        axes.plot(
            place,
            row["iou_by_seed"],
            **{**look, "linestyle": "", "markersize": 2, "markeredgewidth": 0.6},
        )


def _legend(rows: Sequence[Row]) -> list[Line2D]:
    kinds = {_kind(row) for row in rows}
    entries = [
        Line2D([], [], markersize=5, label=NAMES[k], **look)
        for k, look in LOOKS.items()
        if k in kinds
    ]
    present = [
        model for model in ("sequential", "one_step") if any(row["name"] == model for row in rows)
    ]
    entries += [
        Line2D([], [], color=MODEL_COLOURS[model], label=model.replace("_", "-"))
        for model in present
    ]
    if any(len(row["iou_by_seed"]) > 1 for row in rows):
        entries.append(
            Line2D([], [], color=GREY, marker=".", linestyle="", label="small: each seed")
        )
    return entries
