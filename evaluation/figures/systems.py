"""The figure of all systems, a line each: Dice of liver and tumor as means over patients, with their interval."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.style import BLACK, GREY, LIGHT, MODEL_COLOURS, SMALL, new_figure
from evaluation.names import TARGETS, spelled
from evaluation.published_numbers import HEADING, UNCLEAR

Row = dict[str, Any]
LINE_HEIGHT = 0.21  # inches a system
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}


def draw(
    rows: Sequence[Row], caption: str, synthetic: bool, blind: Mapping[str, float] | None = None
) -> Figure:
    """Draw a panel per cohort and target.

    Args:
        rows: of `evaluation.comparison.answers`.
        caption: data, seeds and rule, written below.
        synthetic: name the cohort so, and leave the published numbers out, which would say nothing beside it.
        blind: tumor Dice of marking the whole liver, by cohort, drawn as a line.
    """
    cohorts = list(dict.fromkeys(row["cohort"] for row in rows))
    names = list(dict.fromkeys(row["system"] for row in rows))
    lines = textwrap.wrap(caption.replace("`", ""), 130)
    below, above = 0.95 + 0.14 * len(lines), 0.35
    panel = LINE_HEIGHT * (len(names) + 1)
    height = above + below + len(cohorts) * panel + 0.45 * (len(cohorts) - 1)
    figure = new_figure(height)
    grid = figure.subplots(len(cohorts), len(TARGETS), squeeze=False, sharey=True, sharex=True)
    left = max(0.24, 0.008 * max(len(spelled(name)) for name in names))
    figure.subplots_adjust(
        left=left,
        right=0.985,
        top=1 - above / height,
        bottom=below / height,
        wspace=0.1,
        hspace=0.45 / panel,
    )
    for line, cohort in enumerate(cohorts):
        for column, target in enumerate(TARGETS):
            mine = [row for row in rows if (row["cohort"], row["target"]) == (cohort, target)]
            _panel(grid[line][column], mine, names, not synthetic)
            grid[line][column].set_title(f"{'SYNTHETIC ' if synthetic else ''}{cohort}, {target}")
            grid[line][column].tick_params(labelbottom=True)
            if target == "tumor" and cohort in (blind or {}):
                grid[line][column].axvline(
                    (blind or {})[cohort], color=GREY, linewidth=0.8, linestyle=":"
                )
    for axes in grid[-1]:
        axes.set_xlabel("Dice, mean over patients")
    figure.legend(
        handles=_legend(rows, not synthetic, bool(blind)),
        loc="lower center",
        ncols=4,
        bbox_to_anchor=(0.55, (below - 0.72) / height),
    )
    figure.text(0.01, 0.06 / height, "\n".join(lines), fontsize=SMALL, color=GREY, va="bottom")
    return figure


def _panel(axes: Axes, rows: Sequence[Row], names: Sequence[str], published: bool) -> None:
    for row in rows:
        y, colour = names.index(row["system"]), _colour(row["system"])
        axes.axhline(y, color=LIGHT, linewidth=0.5, zorder=0)
        if row["dice"] is None:
            axes.text(0.03, y, "no result", fontsize=SMALL, color=GREY, va="center", bbox=BEHIND)
            continue
        if row["dice"].low is not None:
            axes.plot([row["dice"].low, row["dice"].high], [y, y], color=colour, linewidth=1.2)
        axes.plot([row["dice"].value], [y], "o", color=colour, markersize=4, clip_on=False)
        if len(row["by_seed"]) > 1:
            axes.plot(row["by_seed"], [y] * len(row["by_seed"]), "|", color=colour, markersize=6)
        if published and "dice" in row["published"] and row["system"] not in UNCLEAR:
            axes.plot(
                [row["published"]["dice"]],
                [y],
                "D",
                color=GREY,
                markersize=4,
                markerfacecolor="white",
            )
    axes.set_yticks(range(len(names)), [spelled(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)


def _colour(system: str) -> str:
    return next(
        (colour for model, colour in MODEL_COLOURS.items() if system.startswith(f"{model}_")), BLACK
    )


def _legend(rows: Sequence[Row], with_published: bool, with_blind: bool) -> list[Line2D]:
    label = "mean, nominal 95 % interval by patient (5 or more)"
    entries = [Line2D([], [], color=BLACK, marker="o", markersize=4, label=label)]
    if with_blind:
        entries.append(
            Line2D(
                [],
                [],
                color=GREY,
                linewidth=0.8,
                linestyle=":",
                label="whole liver marked as tumor",
            )
        )
    if any(len(row["by_seed"]) > 1 for row in rows):
        entries.append(Line2D([], [], color=BLACK, marker="|", linestyle="", label="each seed"))
    published: dict[str, Any] = {
        "color": GREY,
        "marker": "D",
        "markerfacecolor": "white",
        "linestyle": "",
    }
    if with_published and any("dice" in row["published"] for row in rows):
        entries.append(Line2D([], [], markersize=4, label=HEADING, **published))
    return entries
