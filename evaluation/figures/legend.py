"""How a system looks in a figure of curves, and the lines below the panels that name it and give its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.style import LOSS_LINES, MARKERS, MODEL_COLOURS, SMALL, WIDTH
from evaluation.names import LOSSES
from evaluation.results import Results
from evaluation.tables.evidence import system

System = tuple[str, str]
"""Model and loss."""
Columns = Sequence[tuple[str, Mapping[System, str]]]

ROW = 0.155  # inches
HEAD = 2.3  # rows of the headings
NAMES_IN, VALUES_IN = (0.1, 0.42), 2.5
"""Where the table's line samples begin and end, and where the room of its values begins, in inches."""


def systems_of(results: Results) -> list[System]:
    """Return the systems in the order of every figure: by model, then by loss."""
    return [(model, loss) for model in results.models for loss in LOSSES]


def label(results: Results, model: str, loss: str) -> str:
    """Name a system in a legend, and say so where it gave no result."""
    return system(model, loss) + (": no result" if (model, loss) in results.failures else "")


def look(model: str, loss: str, line: bool = True, marker: bool = True) -> dict[str, Any]:
    """Return the style of a system's line: colour by model, line and marker by loss."""
    style: dict[str, Any] = {
        "color": MODEL_COLOURS[model],
        "linestyle": LOSS_LINES[loss] if line else "",
    }
    return {**style, "marker": MARKERS[loss], "markersize": 3} if marker else style


def entries(results: Results, line: bool = True) -> list[Line2D]:
    """Return legend entries of all systems, as lines with markers or as markers alone."""
    return [
        Line2D([], [], label=label(results, *one), **look(*one, line=line))
        for one in systems_of(results)
    ]


def table_height(results: Results) -> float:
    """Return the height in inches of `system_table`."""
    return (len(systems_of(results)) + HEAD) * ROW + 0.08


def system_table(
    figure: Figure, results: Results, bottom: float, columns: Columns, marker: bool = True
) -> None:
    """Write a line for each system below the panels: how it looks, its name, its value in each column.

    Args:
        figure: as wide as `WIDTH`.
        results: whose systems.
        bottom: of the table, in inches.
        columns: heading (of one or two lines) and the value by system ("" where it has none).
        marker: whether the lines carry markers.
    """
    height = figure.get_size_inches()[1]
    systems = systems_of(results)
    top = bottom + (len(systems) + HEAD) * ROW
    step = (WIDTH - VALUES_IN) / max(1, len(columns))
    places = [VALUES_IN + (index + 0.5) * step for index in range(len(columns))]
    for x, (heading, _) in zip(places, columns, strict=True):
        figure.text(
            x / WIDTH, (top - 0.02) / height, heading, ha="center", va="top", fontsize=SMALL
        )
    for row, one in enumerate(systems):
        y = (top - (row + HEAD + 0.5) * ROW) / height
        xs = [NAMES_IN[0] / WIDTH, sum(NAMES_IN) / 2 / WIDTH, NAMES_IN[1] / WIDTH]
        style = look(*one, marker=marker) | {"markevery": [1]}
        figure.add_artist(Line2D(xs, [y] * 3, transform=figure.transFigure, **style))
        words: dict[str, Any] = {"va": "center", "fontsize": SMALL}
        figure.text((NAMES_IN[1] + 0.08) / WIDTH, y, label(results, *one), **words)
        for x, (_, values) in zip(places, columns, strict=True):
            figure.text(x / WIDTH, y, values.get(one, ""), ha="center", **words)
