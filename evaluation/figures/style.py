"""How every figure looks: fonts, colours, footer, and how it is written. No pyplot, so no global state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data.files import replace_file
from evaluation.results import Results

WIDTH = 7.2  # inches: two columns of a journal
DPI = 200
SMALL = 8  # points; the smallest text of any figure

# Okabe and Ito: told apart with any colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, LIGHT = "#666666", "#D9D9D9"

MODEL_COLOURS = {"one_step": VERMILLION, "sequential": BLUE, "joint": GREEN}
LOSS_LINES = {"ce": (0, (4, 1.5)), "balanced": "-"}
MARKERS = {"ce": "o", "balanced": "s"}
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


@contextmanager
def style() -> Iterator[None]:
    """Draw and save figures within this context."""
    with matplotlib.rc_context(STYLE):
        yield


def new_figure(height: float, width: float = WIDTH, **settings: Any) -> Figure:
    """Return an empty figure of that size in inches, on the Agg canvas."""
    figure = Figure(figsize=(width, height), **settings)
    FigureCanvasAgg(figure)
    return figure


def note_top(note: str) -> float:
    """Return the height in inches at which `footer` with that note ends."""
    return 0.27 + LINE * (note.count("\n") + 1 if note else 0)


def footer(
    figure: Figure, results: Results, note: str = "", cohorts: list[str] | None = None
) -> None:
    """Write below a figure which data it shows (SYNTHETIC PHANTOM where it is), preset and seed; `note` above it."""
    origins = dict.fromkeys(results.origin(cohort) for cohort in cohorts or results.cohorts)
    line = f"Data: {'; '.join(origins)}. Preset {results.summary['preset']}, seed {results.summary['seed']}."
    height = figure.get_size_inches()[1]
    figure.text(0.01, 0.06 / height, line, fontsize=SMALL, color=GREY, ha="left", va="bottom")
    if note:
        figure.text(0.01, 0.22 / height, note, fontsize=SMALL, color=BLACK, ha="left", va="bottom")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `figure` as `stem`.png and `stem`.pdf without dates, so that the same figure gives the same bytes."""
    nothing = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", nothing)):
        path = stem.with_name(stem.name + suffix)
        with replace_file(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=metadata)
        written.append(path)
    return written
