"""How a system looks in every figure: colours, legends, tables below panels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
    WIDTH,
    Style,
)
from evaluation.names import spell_system

System = tuple[str, str]
"""System and phase."""
Columns = Sequence[tuple[str, Mapping[System, str]]]
"""Columns of a table: heading, and the value of each system that has one."""

SYSTEM_COLOURS = {"one_step": VERMILLION, "sequential": BLUE, "joint": GREEN}
MORE_COLOURS = (PURPLE, ORANGE, SKY, BLACK, GREY)
"""Of systems that are not the paper's, in turn."""
PALE_COLOURS = {VERMILLION: "#F2B58A", BLUE: "#9CCBE8", GREEN: "#8FD3BD"}

ROW = 0.155  # inches
HEAD = 2.3  # rows of the headings
NAMES_IN, VALUES_IN = (0.1, 0.42), 2.5
"""Inches where the line samples of the table begin and end, and where its values begin."""


@dataclass(frozen=True)
class Look:
    """How a system looks: colour by system, line and marker by phase.

    Attributes:
        label: name in legends; says where it gave no result.
        colour: of lines and points.
        bar_colour: paler after cross-entropy.
        line, marker: in matplotlib's terms.
    """

    label: str
    colour: str
    bar_colour: str
    line: Any
    marker: str

    def style_line(self, marker: bool = True) -> Style:
        """Return how its line is drawn, with or without markers."""
        style: Style = {"color": self.colour, "linestyle": self.line}
        return style | {"marker": self.marker, "markersize": 3} if marker else style

    def style_points(self) -> Style:
        """Return how its points are drawn, without a line."""
        return self.style_line() | {"linestyle": ""}


def list_looks(systems: Sequence[System], failures: Iterable[System]) -> dict[System, Look]:
    """Return how Table 1's systems look; phases of a system must stand together."""
    names = dict.fromkeys(name for name, _ in systems if name not in SYSTEM_COLOURS)
    more = {name: MORE_COLOURS[i % len(MORE_COLOURS)] for i, name in enumerate(names)}
    looks = {}
    for system, phase in systems:
        label = spell_system(system, phase)
        label += ": no result" if (system, phase) in failures else ""
        colour = bar = (SYSTEM_COLOURS | more)[system]
        line: Any = (0, (4, 1.5)) if phase == "ce" else "-"
        marker = {"ce": "o", "balanced": "s"}.get(phase, "^")
        if phase == "ce":
            bar = PALE_COLOURS.get(colour) or to_hex([0.5 + 0.5 * part for part in to_rgb(colour)])
        looks[system, phase] = Look(label, colour, bar, line, marker)
    return looks


def make_entries(looks: Iterable[Look]) -> list[Line2D]:
    """Return legend entries of systems, as markers without lines."""
    return [Line2D([], [], label=look.label, **look.style_points()) for look in looks]


def find_table_height(looks: Mapping[System, Look]) -> float:
    """Return the height in inches of `write_table`."""
    return (len(looks) + HEAD) * ROW + 0.08


def write_table(
    figure: Figure,
    looks: Mapping[System, Look],
    bottom: float,
    columns: Columns,
    marker: bool = True,
) -> None:
    """Write a line per system below the panels: its look, its name, its values.

    Args:
        figure: as wide as `WIDTH`.
        looks: of the systems.
        bottom: of the table, in inches.
        columns: heading (one or two lines) and values.
        marker: whether the lines carry markers.
    """
    height = figure.get_size_inches()[1]
    top = bottom + (len(looks) + HEAD) * ROW
    step = (WIDTH - VALUES_IN) / max(1, len(columns))
    places = [VALUES_IN + (index + 0.5) * step for index in range(len(columns))]
    words: Style = {"ha": "center", "fontsize": SMALL}
    for x, (heading, _) in zip(places, columns, strict=True):
        figure.text(x / WIDTH, (top - 0.02) / height, heading, va="top", **words)
    for row, (system, look) in enumerate(looks.items()):
        y = (top - (row + HEAD + 0.5) * ROW) / height
        # A sample of the line, with one marker in its middle.
        xs = [NAMES_IN[0] / WIDTH, sum(NAMES_IN) / 2 / WIDTH, NAMES_IN[1] / WIDTH]
        style = look.style_line(marker) | {"markevery": [1]}
        figure.add_artist(Line2D(xs, [y] * 3, transform=figure.transFigure, **style))
        x = (NAMES_IN[1] + 0.08) / WIDTH
        figure.text(x, y, look.label, va="center", fontsize=SMALL)
        for x, (_, values) in zip(places, columns, strict=True):
            figure.text(x / WIDTH, y, values.get(system, ""), va="center", **words)
