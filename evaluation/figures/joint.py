"""The figure of the joint loss: IoU by beta / alpha, beside the paper's systems."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from evaluation.figures.legend import SYSTEM_COLOURS
from evaluation.figures.style import BLACK, GREY, SMALL, Style, add_legend, make_figure
from evaluation.names import NAMES, PAPER_SYSTEMS, TARGETS

if TYPE_CHECKING:
    from evaluation.tables.joint import Point, PointScore

JOINT = SYSTEM_COLOURS["joint"]
DASHED: Style = {"linestyle": (0, (4, 1.5)), "markerfacecolor": "white"}
LOOKS: dict[str, dict[str, Any]] = {
    "pair": {"color": JOINT, "marker": "o", "linestyle": "-"},
    "scratch": {"color": JOINT, "marker": "^", **DASHED},
    "control": {"color": BLACK, "marker": "s", "linestyle": ":"},
}
SHIFT = {"pair": 1.0, "scratch": 1.07, "control": 0.935}
"""Factor of the ratio at which seeds are drawn, so that two lines do not hide one another's."""
LABELS = {
    "pair": "joint, from the pair",
    "scratch": "joint, from scratch",
    "control": "control: the pair trained for longer (hard mask)",
}


def draw_joint(scores: Sequence[PointScore], caption: str) -> Figure:
    """Draw a panel per cohort and target, with a caption below."""
    cohorts = list(dict.fromkeys(score.cohort for score in scores))
    is_wide = len(cohorts) > 1
    figure = make_figure(5.0, width=7.2 if is_wide else 4.6)
    grid = figure.subplots(len(TARGETS), len(cohorts), squeeze=False, sharex=True)
    lines = textwrap.wrap(caption.replace("`", ""), 130 if is_wide else 82)
    below = 0.015 + 0.037 * len(lines)  # what the caption takes; the legend stands above it
    left = 0.09 if is_wide else 0.14
    figure.subplots_adjust(left=left, right=0.985, top=0.95, bottom=below + 0.205, hspace=0.16)
    for line, target in enumerate(TARGETS):
        for column, cohort in enumerate(cohorts):
            panel = [score for score in scores if (score.cohort, score.target) == (cohort, target)]
            _draw_panel(grid[line, column], panel)
        grid[line, 0].set_ylabel(f"{target} IoU")
    for axes, cohort in zip(grid[0], cohorts, strict=True):
        axes.set_title(cohort)
    for axes in grid[-1]:
        axes.set_xlabel(r"$\beta / \alpha$")
    add_legend(figure, _make_entries(scores), below, columns=2)
    figure.text(0.01, 0.01, "\n".join(lines), fontsize=SMALL, color=GREY)
    return figure


def _find_look(point: Point) -> str:
    """Return which of `LOOKS` a point has; "" for the systems beside joint training."""
    return "control" if point.is_control else point.start or ""


def _draw_panel(axes: Axes, scores: Sequence[PointScore]) -> None:
    """Draw a cohort's and target's points as lines, the systems beside as levels."""
    # Levels of the systems beside joint training.
    for system in PAPER_SYSTEMS:
        for score in scores:
            if score.point.start is None and score.point.key[0] == system and score.iou:
                level = score.iou.interval.value
                axes.axhline(level, color=SYSTEM_COLOURS[system], linewidth=1.2)
    # A line for each start and for the control.
    swept = [score for score in scores if score.point.start is not None]
    for name, look in LOOKS.items():
        line = [score for score in swept if _find_look(score.point) == name and score.iou]
        line.sort(key=lambda score: score.point.ratio or 0.0)
        values = [score.iou.interval.value for score in line if score.iou]
        axes.plot([score.point.ratio or 0.0 for score in line], values, markersize=5, **look)
        for score in line:
            _draw_seeds(axes, score, name)
    axes.set_xscale("log")
    # Points that gave no result, at the foot.
    for score in swept:
        if score.iou is None:
            place: Style = {"transform": axes.get_xaxis_transform(), "ha": "right", "va": "bottom"}
            words: Style = {"fontsize": SMALL, "color": LOOKS[_find_look(score.point)]["color"]}
            axes.text((score.point.ratio or 0.0) * 1.2, 0.07, "no result", **words, **place)
    ratios = sorted({score.point.ratio for score in swept if score.point.ratio is not None})
    axes.set_xticks(ratios, [f"{ratio:.3g}" for ratio in ratios])
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_seeds(axes: Axes, score: PointScore, name: str) -> None:
    """Draw each seed small beside the mean, and say of how many seeds it is."""
    ratio, iou = score.point.ratio, score.iou
    if ratio is None or iou is None:
        return
    if len(iou.by_seed) > 1:
        small: Style = {"linestyle": "", "markersize": 2, "markeredgewidth": 0.6}
        xs = [ratio * SHIFT[name]] * len(iou.by_seed)
        axes.plot(xs, iou.by_seed, **LOOKS[name] | small)
    if score.n_seeds < score.n_records:
        text = f"{score.n_seeds} of {score.n_records} seeds"
        place: Style = {
            "xytext": (-6, 0),
            "textcoords": "offset points",
            "ha": "right",
            "va": "center",
        }
        look: Style = {"fontsize": SMALL, "color": LOOKS[name]["color"]}
        axes.annotate(text, (ratio, iou.interval.value), **look, **place)


def _make_entries(scores: Sequence[PointScore]) -> list[Line2D]:
    looks = {_find_look(score.point) for score in scores}
    systems = {score.point.key[0] for score in scores if score.point.start is None}
    entries = [
        Line2D([], [], markersize=5, label=LABELS[name], **look)
        for name, look in LOOKS.items()
        if name in looks
    ]
    entries += [
        Line2D([], [], color=SYSTEM_COLOURS[system], label=NAMES[system])
        for system in reversed(PAPER_SYSTEMS)
        if system in systems
    ]
    if any(score.iou and len(score.iou.by_seed) > 1 for score in scores):
        small: Style = {"color": GREY, "marker": ".", "linestyle": ""}
        entries.append(Line2D([], [], label="small: each seed", **small))
    return entries
