"""Figures of how far to trust the scores: reliability of the probabilities, spread of the scores over cases."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.draw_style import BLACK, GREY, LOSS_LINES, MODEL_COLOURS, SMALL, footer, new_figure
from evaluation.evidence import system
from evaluation.lesion_recall import BINS_MM, recall_by_diameter
from evaluation.names import LOSSES, MODELS, TARGETS
from evaluation.results import Results
from evaluation.text import readable

LEAST_PIXELS = 100  # in a bin; fewer make a point that jumps
MARKERS = {"ce": "o", "balanced": "s"}


def reliability(results: Results) -> Figure | str:
    """Draw the tumor probability against the share of tumor pixels, before and after the balanced phase."""
    curves = [c for c in results.curves if c["target"] == "tumor" and c.get("reliability")]
    cohorts = [cohort for cohort in results.cohorts if any(curve["cohort"] == cohort for curve in curves)]
    if not cohorts:
        return "no reliability of the tumor's probabilities was recorded"
    figure = new_figure(3.5)
    row = figure.subplots(1, len(cohorts), squeeze=False, sharey="row")[0]
    figure.subplots_adjust(left=0.075, right=0.985, top=0.92, bottom=0.365, wspace=0.1)
    for axes, cohort in zip(row, cohorts, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=":")
        mine = [curve for curve in curves if curve["cohort"] == cohort]
        handles = [_reliability_line(axes, curve) for curve in mine]
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="tumor probability", title=cohort)
        axes.legend(handles=handles, title="ECE in (0.01, 0.99)", title_fontsize=SMALL, loc="upper left")
    row[0].set_ylabel("share of tumor pixels")
    entries = _system_lines()
    entries.append(Line2D([], [], color=GREY, linewidth=0.7, linestyle=":", label="right probabilities"))
    figure.legend(handles=entries, loc="lower center", ncols=3, bbox_to_anchor=(0.5, 0.12))
    note = f"15 bins; bins of fewer than {LEAST_PIXELS} pixels are left out. Below the diagonal: too sure of tumor."
    footer(figure, results, note, cohorts)
    return figure


def _reliability_line(axes: Axes, curve: dict[str, Any]) -> Line2D:
    found = curve["reliability"]
    points = [
        (predicted, observed)
        for n, predicted, observed in zip(found["n_pixels"], found["predicted"], found["observed"], strict=True)
        if n >= LEAST_PIXELS
    ]
    look: dict[str, Any] = {"color": MODEL_COLOURS[curve["model"]], "linestyle": LOSS_LINES[curve["loss"]]}
    look |= {"marker": MARKERS[curve["loss"]], "markersize": 3}
    if points:
        axes.plot(*zip(*points, strict=True), **look)
    return Line2D([], [], label=readable(curve["ece_restricted"]), **look)


def dice_by_case(results: Results) -> Figure | str:
    """Draw the Dice score of every case, liver and tumor, rule roc: a point per case, a line at the median."""
    cases = [case for case in results.cases if case["threshold_rule"] == "roc"]
    cohorts = [cohort for cohort in results.cohorts if any(case["cohort"] == cohort for case in cases)]
    if not cohorts:
        return "no case was scored"
    figure = new_figure(4.9)
    grid = figure.subplots(2, len(cohorts), squeeze=False, sharey=True)
    figure.subplots_adjust(left=0.075, right=0.985, top=0.94, bottom=0.2, hspace=0.3, wspace=0.08)
    for column, cohort in enumerate(cohorts):
        for line, target in enumerate(TARGETS):
            axes = grid[line][column]
            mine = [case for case in cases if (case["cohort"], case["target"]) == (cohort, target)]
            _dice_panel(axes, mine)
            axes.set_title(f"{cohort}, {target}")
    for line in grid:
        line[0].set_ylabel("Dice of a case")
    note = "Threshold rule roc. A point is a case that has tumor (liver) in its reference; bar: median."
    figure.legend(handles=_system_lines(line=False), loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.1))
    footer(figure, results, note, cohorts)
    return figure


def _dice_panel(axes: Axes, cases: list[dict[str, Any]]) -> None:
    systems = [(model, loss) for model in MODELS for loss in LOSSES]
    for place, (model, loss) in enumerate(systems):
        mine = [c for c in cases if (c["model"], c["loss"]) == (model, loss) and int(c["tp"]) + int(c["fn"])]
        values = np.array([float(case["dice"]) for case in mine])
        if not len(values):
            axes.text(place, 0.5, "none", ha="center", fontsize=SMALL, color=GREY)
            continue
        aside = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        look: dict[str, Any] = {
            "color": MODEL_COLOURS[model],
            "marker": MARKERS[loss],
            "linestyle": "",
            "markersize": 3,
        }
        axes.plot(place + aside[np.argsort(np.argsort(values))], values, alpha=0.75, **look)
        axes.plot([place - 0.28, place + 0.28], [np.median(values)] * 2, color=BLACK, linewidth=1.2)
    axes.set_xticks([])
    axes.set(xlim=(-0.5, len(systems) - 0.5), ylim=(-0.02, 1.02))


def lesion_recall(results: Results) -> Figure | str:
    """Draw the share of lesions that were found, by diameter, for each system: any voxel of it, rule roc."""
    cohorts = [cohort for cohort in results.cohorts if any(row["cohort"] == cohort for row in results.lesions)]
    if not cohorts:
        return "no lesion was recorded"
    figure = new_figure(3.75)
    row = figure.subplots(1, len(cohorts), squeeze=False, sharey="row")[0]
    figure.subplots_adjust(left=0.075, right=0.985, top=0.92, bottom=0.41, wspace=0.08)
    for axes, cohort in zip(row, cohorts, strict=True):
        _recall_panel(axes, [one for one in results.lesions if one["cohort"] == cohort])
        axes.set_title(cohort)
    row[0].set_ylabel("share of lesions touched")
    figure.legend(handles=_system_lines(), loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.16))
    note = (
        "Diameter of a sphere of the same volume; n: lesions of the reference. One voxel touches a lesion, so a model "
        "that marks the\nwhole liver touches all; what it marks beside lesions is in lesions.csv."
    )
    footer(figure, results, note, cohorts)
    return figure


def _recall_panel(axes: Axes, rows: list[dict[str, Any]]) -> None:
    systems = [(model, loss) for model in MODELS for loss in LOSSES]
    numbers = [0] * (len(BINS_MM) - 1)
    for place, (model, loss) in enumerate(systems):
        counts = recall_by_diameter([one for one in rows if (one["model"], one["loss"]) == (model, loss)])
        if any(n for _, n in counts):
            numbers = [n for _, n in counts]
        shares = [found / n if n else np.nan for found, n in counts]
        look: dict[str, Any] = {"color": MODEL_COLOURS[model], "linestyle": LOSS_LINES[loss]}
        places = np.arange(len(shares)) + (place - 1.5) * 0.06
        axes.plot(places, shares, marker=MARKERS[loss], markersize=3.5, **look)
    names = [f"< {high:g} mm" if not low else f"{low:g}-{high:g}" for low, high in itertools.pairwise(BINS_MM)]
    names[-1] = f"> {BINS_MM[-2]:g}"
    axes.set_xticks(range(len(names)), [f"{name}\nn = {n}" for name, n in zip(names, numbers, strict=True)])
    axes.set(xlim=(-0.4, len(names) - 0.6), ylim=(-0.02, 1.02))


def _system_lines(line: bool = True) -> list[Line2D]:
    """Legend entries of all systems, as lines with markers or as markers alone."""
    entries = []
    for model in MODELS:
        for loss in LOSSES:
            look: dict[str, Any] = {"color": MODEL_COLOURS[model], "marker": MARKERS[loss], "markersize": 3}
            look["linestyle"] = LOSS_LINES[loss] if line else ""
            entries.append(Line2D([], [], label=system(model, loss), **look))
    return entries
