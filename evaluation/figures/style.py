"""How every figure looks and is written; no pyplot, so no global state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data.files import replace_file

WIDTH = 7.2  # inches: two columns of a journal
DPI = 200
SMALL = 8  # points; the smallest text of any figure

# Okabe and Ito: told apart with any colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, LIGHT = "#666666", "#D9D9D9"

Style = dict[str, Any]
"""Keywords of matplotlib."""

LINE = 0.14  # inches from a line of a note to the next
LIVER, TUMOR = SKY, ORANGE

STYLE = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # whole outlines: text in the PDF stays text
    "axes.unicode_minus": True,
}


def use_style() -> AbstractContextManager[None]:
    """Return the context within which figures are drawn and saved."""
    context: AbstractContextManager[None] = matplotlib.rc_context(STYLE)
    return context


def make_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of that size in inches, on the Agg canvas."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def add_legend(
    figure: Figure, handles: Sequence[Any], y: float, columns: int, **style: Any
) -> None:
    """Add a legend in the middle.

    Args:
        figure: to write on.
        handles: its entries.
        y: lower edge, as a share of the figure's height.
        columns: how many.
        **style: keywords of `Figure.legend`.
    """
    style = {"bbox_to_anchor": (0.5, y), **style}
    figure.legend(handles=handles, loc="lower center", ncols=columns, **style)


def find_note_top(note: str) -> float:
    """Return the height in inches at which `write_footer` with that note ends."""
    return 0.27 + LINE * (note.count("\n") + 1 if note else 0)


def write_footer(
    figure: Figure, summary: Mapping[str, Any], origins: Iterable[str], note: str = ""
) -> None:
    """Write below a figure its data (SYNTHETIC PHANTOM), preset and seed.

    Args:
        figure: to write on.
        summary: content of summary.json.
        origins: data of each cohort shown.
        note: lines above the footer.
    """
    data = "; ".join(dict.fromkeys(origins))
    line = f"Data: {data}. Preset {summary['preset']}, seed {summary['seed']}."
    height = figure.get_size_inches()[1]
    place: Style = {"fontsize": SMALL, "ha": "left", "va": "bottom"}
    figure.text(0.01, 0.06 / height, line, color=GREY, **place)
    if note:
        figure.text(0.01, 0.22 / height, note, color=BLACK, **place)


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.png and `stem`.pdf, without dates: always the same bytes."""
    nothing = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", nothing)):
        path = stem.with_name(stem.name + suffix)
        with replace_file(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=metadata)
        written.append(path)
    return written
