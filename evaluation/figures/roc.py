"""Figures of ROC curves, over all pixels and restricted to probabilities in (0.01, 0.99)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.legend import Columns, look, system_table, systems_of, table_height
from evaluation.figures.style import BLACK, GREY, MODEL_COLOURS, footer, new_figure, note_top
from evaluation.metrics.roc import LOWEST_DRAWN_FPR
from evaluation.results import Results
from evaluation.tables.text import readable

PANELS = 4.9  # inches, both rows with titles and axis labels


def roc(results: Results) -> Figure | str:
    """Draw the tumor's ROC curves: over all pixels and restricted to (0.01, 0.99) (the paper's Figure 3.4)."""
    return roc_of(results, "tumor")


def roc_liver(results: Results) -> Figure | str:
    """Draw the liver's ROC curves, as `roc` does the tumor's."""
    return roc_of(results, "liver")


def roc_of(results: Results, target: str) -> Figure | str:
    """Draw the ROC curves of a target, a column per cohort: above all pixels, below the restricted ones."""
    curves = {
        (c["cohort"], c["model"], c["loss"]): c for c in results.curves if c["target"] == target
    }
    cohorts = [cohort for cohort in results.cohorts if any(key[0] == cohort for key in curves)]
    if not cohorts:
        return f"no ROC curve of the {target} was recorded"
    note = (
        f"Above: all pixels, false positive rate on a logarithmic axis. Below: only pixels whose {target} probability "
        "lies in (0.01, 0.99);\nthe area under these curves is rAUC. A threshold outside that range has no place below."
    )
    legend = note_top(note)
    table = legend + 0.2
    low = table + table_height(results)
    height = low + PANELS
    figure = new_figure(height)
    grid = figure.subplots(2, len(cohorts), squeeze=False, sharey="row")
    bottom, top = (low + 0.4) / height, 1 - 0.47 / height
    figure.subplots_adjust(
        left=0.075, right=0.975, top=top, bottom=bottom, hspace=0.66, wspace=0.13
    )
    columns: dict[str, Columns] = {}
    for column, cohort in enumerate(cohorts):
        mine = [curves[cohort, *one] for one in systems_of(results) if (cohort, *one) in curves]
        _roc_panel(grid[0][column], mine, "full")
        _roc_panel(grid[1][column], mine, "restricted")
        grid[0][column].set_title(f"{cohort}, all pixels\n{_sample(results, cohort, mine, '')}")
        grid[1][column].set_title(
            f"{cohort}, in (0.01, 0.99)\n{_sample(results, cohort, mine, 'restricted_')}"
        )
        for area, name in (("auc", "AUC"), ("rauc", "rAUC")):
            values = {(curve["model"], curve["loss"]): readable(curve[area]) for curve in mine}
            columns[area] = [*columns.get(area, ()), (f"{name}\n{cohort}", values)]
    for row in grid:
        row[0].set_ylabel(f"true positive rate ({target})")
    system_table(figure, results, table, [*columns["auc"], *columns["rauc"]], marker=False)
    dot: dict[str, Any] = {
        "linestyle": "",
        "marker": "o",
        "markersize": 4.5,
        "markerfacecolor": "white",
    }
    entries = [
        Line2D([], [], color=BLACK, label="threshold chosen on validation data (rule roc)", **dot),
        Line2D([], [], color=GREY, linewidth=0.7, linestyle=":", label="chance"),
    ]
    figure.legend(
        handles=entries, loc="lower center", ncols=2, bbox_to_anchor=(0.5, (legend - 0.04) / height)
    )
    footer(figure, results, note, cohorts)
    return figure


def _sample(results: Results, cohort: str, curves: Sequence[dict[str, Any]], prefix: str) -> str:
    """Say how many pixels the curves are of; in the restricted range each system has its own number."""
    numbers = sorted(
        {curve[f"n_{prefix}positive"] + curve[f"n_{prefix}negative"] for curve in curves}
    )
    shown = f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
    cases = results.sample(cohort)[1]
    return f"n = {shown}" + ("" if prefix else f", {cases} case{'' if cases == 1 else 's'}")


def _roc_panel(axes: Axes, curves: Sequence[dict[str, Any]], which: str) -> None:
    """Draw one cohort's curves, "full" or "restricted", with the chosen threshold on each."""
    full = which == "full"
    chance = (
        [10**exponent for exponent in _steps(math.log10(LOWEST_DRAWN_FPR), 0, 60)]
        if full
        else [0.0, 1.0]
    )
    axes.plot(chance, chance, color=GREY, linewidth=0.7, linestyle=":")
    for curve in curves:
        if curve[which] is None:
            continue
        xs, ys = (
            _visible(curve[which]["fpr"], curve[which]["tpr"])
            if full
            else (curve[which]["fpr"], curve[which]["tpr"])
        )
        axes.plot(xs, ys, **look(curve["model"], curve["loss"], marker=False))
        point = curve["points"].get("roc") or {}
        prefix = "" if full else "restricted_"
        x, y = point.get(f"{prefix}fpr"), point.get(f"{prefix}tpr")
        if x is not None and y is not None:
            x = max(x, LOWEST_DRAWN_FPR) if full else x
            dot: dict[str, Any] = {
                "markersize": 4.5,
                "markerfacecolor": "white",
                "zorder": 4,
                "clip_on": False,
            }
            axes.plot([x], [y], "o", color=MODEL_COLOURS[curve["model"]], **dot)
    if full:
        axes.set_xscale("log")
        axes.set_xticks([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1], minor=False)
        axes.tick_params(axis="x", which="minor", length=0)
    axes.set(
        xlim=(LOWEST_DRAWN_FPR if full else 0, 1), ylim=(0, 1.01), xlabel="false positive rate"
    )


def _steps(low: float, high: float, count: int) -> list[float]:
    return [low + (high - low) * index / (count - 1) for index in range(count)]


def _visible(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return a curve for a logarithmic axis: what lies left of it is drawn on its border, as a vertical line."""
    return [max(x, LOWEST_DRAWN_FPR) for x in xs], list(ys)
