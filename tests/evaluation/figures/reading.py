"""Reading a figure again: its texts, titles, lines, and the table below its panels."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from evaluation.figures.registry import FIGURES
from evaluation.figures.style import use_style
from evaluation.results import Results

PAIRS = [
    (system, phase)
    for system in ("one_step", "sequential", "joint")
    for phase in ("ce", "balanced")
]
COLOURS = {"one_step": "#D55E00", "sequential": "#0072B2", "joint": "#009E73"}
MARKERS = {"ce": "o", "balanced": "s"}
NAMES = [
    "one-step, cross-entropy",
    "one-step, balanced",
    "sequential, cross-entropy",
    "sequential, balanced",
    "joint, cross-entropy",
    "joint, balanced",
]


def draw(name: str, results: Results) -> Figure:
    """Draw a figure that the results have data for."""
    with use_style():
        drawn = FIGURES[name].draw(results)
    assert isinstance(drawn, Figure), drawn
    return drawn


def list_skipped(results: Results) -> dict[str, str]:
    """Return why figures are not drawn, by name."""
    with use_style():
        drawn = {name: drawing.draw(results) for name, drawing in FIGURES.items()}
    return {name: figure for name, figure in drawn.items() if isinstance(figure, str)}


def read_texts(figure: Figure) -> str:
    """Return every text, each artist once."""
    return "\n".join(text.get_text() for text in set(figure.findobj(Text)))


def read_titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def read_legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def read_table(figure: Figure) -> dict[str, list[str]]:
    """Return the table below the panels: by system its values from left to right."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for text in figure.texts:
        x, y = text.get_position()
        rows.setdefault(round(y, 4), []).append((x, text.get_text()))
    lines = [[text for _, text in sorted(row)] for row in rows.values()]
    return {line[0]: line[1:] for line in lines if line[0] in NAMES}


def find_line(axes: Axes, system: str, phase: str) -> Line2D:
    """Return the one line of more than two points in the look of a system."""
    (line,) = (
        line
        for line in axes.lines
        if len(line.get_xdata()) > 2
        and same_color(line.get_color(), COLOURS[system])
        and line.is_dashed() == (phase == "ce")
    )
    return line


def check_marker(line: Line2D, system: str, phase: str) -> None:
    """Check that the points of a line have the look of a system."""
    assert line.get_marker() == MARKERS[phase]
    assert same_color(line.get_color(), COLOURS[system])
