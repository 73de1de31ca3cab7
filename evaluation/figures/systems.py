"""The figure of all systems, a line each: mean Dice of liver and tumor."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.legend import SYSTEM_COLOURS
from evaluation.figures.style import BLACK, GREY, LIGHT, SMALL, Style, add_legend, make_figure
from evaluation.names import TARGETS, spell_system
from evaluation.tables.published_numbers import HEADING, UNCLEAR

if TYPE_CHECKING:
    from evaluation.tables.systems import SystemComparison, SystemScore

LINE_HEIGHT = 0.21  # inches a system
BEHIND: Style = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
BLIND: Style = {"color": GREY, "linewidth": 0.8, "linestyle": ":"}
PUBLISHED: Style = {"color": GREY, "markersize": 4, "markerfacecolor": "white"}


def draw_systems(comparison: SystemComparison, caption: str) -> Figure:
    """Draw a panel per cohort and target; published numbers not beside a phantom."""
    scores, systems, blind = comparison.scores, comparison.systems, comparison.blind_dice
    cohorts = list(dict.fromkeys(score.cohort for score in scores))
    lines = textwrap.wrap(caption.replace("`", ""), 130)
    # Inches from above: title, panels, legend, caption.
    below, above = 0.95 + 0.14 * len(lines), 0.35
    panel = LINE_HEIGHT * (len(systems) + 1)
    height = above + below + len(cohorts) * panel + 0.45 * (len(cohorts) - 1)
    figure = make_figure(height)
    grid = figure.subplots(len(cohorts), len(TARGETS), squeeze=False, sharey=True, sharex=True)
    left = max(0.24, 0.008 * max(len(spell_system(*system)) for system in systems))
    top, bottom = 1 - above / height, below / height
    figure.subplots_adjust(
        left=left, right=0.985, top=top, bottom=bottom, wspace=0.1, hspace=0.45 / panel
    )
    for line, cohort in enumerate(cohorts):
        for axes, target in zip(grid[line], TARGETS, strict=True):
            of_panel = [s for s in scores if (s.cohort, s.target) == (cohort, target)]
            _draw_panel(axes, of_panel, not comparison.synthetic)
            axes.set_title(f"{'SYNTHETIC ' * comparison.synthetic}{cohort}, {target}")
            axes.tick_params(labelbottom=True)
            if target == "tumor" and cohort in blind:
                axes.axvline(blind[cohort], **BLIND)
    for axes in grid[-1]:
        axes.set_xlabel("Dice, mean over patients")
    handles = _make_entries(scores, blind, not comparison.synthetic)
    add_legend(figure, handles, 0, columns=4, bbox_to_anchor=(0.55, (below - 0.72) / height))
    figure.text(0.01, 0.06 / height, "\n".join(lines), fontsize=SMALL, color=GREY, va="bottom")
    return figure


def _draw_panel(axes: Axes, scores: Sequence[SystemScore], with_published: bool) -> None:
    """Draw a cohort and target: a system a line, in their order."""
    for y, score in enumerate(scores):
        colour = SYSTEM_COLOURS.get(score.system, BLACK)
        axes.axhline(y, color=LIGHT, linewidth=0.5, zorder=0)
        if score.dice is None:
            axes.text(0.03, y, "no result", fontsize=SMALL, color=GREY, va="center", bbox=BEHIND)
            continue
        # Interval, mean, seeds, and what was published.
        if score.dice.low is not None and score.dice.high is not None:
            axes.plot([score.dice.low, score.dice.high], [y, y], color=colour, linewidth=1.2)
        axes.plot([score.dice.value], [y], "o", color=colour, markersize=4, clip_on=False)
        if len(score.by_seed) > 1:
            axes.plot(score.by_seed, [y] * len(score.by_seed), "|", color=colour, markersize=6)
        if with_published and "dice" in score.published and score.system not in UNCLEAR:
            axes.plot([score.published["dice"]], [y], "D", **PUBLISHED)
    names = [spell_system(score.system, score.phase) for score in scores]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)


def _make_entries(
    scores: Sequence[SystemScore], blind: Mapping[str, float], with_published: bool
) -> list[Line2D]:
    """Return the legend; `blind` is the whole liver's Dice by cohort."""
    label = "mean, nominal 95 % interval by patient (5 or more)"
    entries = [Line2D([], [], color=BLACK, marker="o", markersize=4, label=label)]
    if blind:
        entries.append(Line2D([], [], label="whole liver marked as tumor", **BLIND))
    if any(len(score.by_seed) > 1 for score in scores):
        entries.append(Line2D([], [], color=BLACK, marker="|", linestyle="", label="each seed"))
    if with_published and any("dice" in score.published for score in scores):
        entries.append(Line2D([], [], marker="D", linestyle="", label=HEADING, **PUBLISHED))
    return entries
