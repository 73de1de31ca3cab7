"""Figures of the probabilities: ROC curves, and their reliability.

ROC curves are of all pixels and of p in (0.01, 0.99). A column is a cohort; a table of the systems
below has their areas or errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.legend import (
    Look,
    System,
    find_table_height,
    list_looks,
    write_table,
)
from evaluation.figures.style import (
    BLACK,
    GREY,
    Style,
    add_legend,
    find_note_top,
    make_figure,
    write_footer,
)
from evaluation.metrics.roc import LOWEST_DRAWN_FPR
from evaluation.results import Results
from evaluation.score_table import MAIN_RULE
from evaluation.tables.text import write_count, write_score

Curve = dict[str, Any]
"""An entry of `curves.json`."""

LEAST_PIXELS = 100  # in a bin; fewer make a point that jumps
DOT: Style = {"marker": "o", "markersize": 4.5, "markerfacecolor": "white"}
"""The threshold on a curve."""
CHANCE: Style = {"color": GREY, "linewidth": 0.7, "linestyle": ":"}


def group_curves(
    results: Results, target: str, needed: str = "auc"
) -> dict[str, dict[System, Curve]]:
    """Return the curves of a target by cohort and system, in the order of the tables.

    Args:
        results: whose curves.
        target: "liver" or "tumor".
        needed: key that a curve must have.
    """
    curves = {
        (curve["cohort"], curve["system"], curve["phase"]): curve
        for curve in results.curves
        if curve["target"] == target and needed in curve
    }
    systems = results.list_systems()
    groups = {
        cohort: {key: curves[cohort, *key] for key in systems if (cohort, *key) in curves}
        for cohort in results.cohorts
    }
    return {cohort: group for cohort, group in groups.items() if group}


def draw_tumor_roc(results: Results) -> Figure | str:
    """Draw the tumor's ROC curves, all and restricted (the paper's Figure 3.4)."""
    return draw_roc(results, "tumor")


def draw_liver_roc(results: Results) -> Figure | str:
    """Draw the liver's ROC curves, as `draw_tumor_roc` does the tumor's."""
    return draw_roc(results, "liver")


def draw_roc(results: Results, target: str) -> Figure | str:
    """Draw the ROC curves of a target: above all pixels, below the restricted ones."""
    groups, looks = (
        group_curves(results, target),
        list_looks(results.list_systems(), results.failures),
    )
    if not groups:
        return f"no ROC curve of the {target} was recorded"
    note = (
        "Above: all pixels, false positive rate on a logarithmic axis. Below: only pixels whose "
        f"{target} probability lies in (0.01, 0.99);\nthe area under these curves is rAUC. "
        "A threshold outside that range has no place below."
    )
    # Inches from below: note, legend, table of the systems, panels.
    legend = find_note_top(note)
    low = legend + 0.2 + find_table_height(looks)
    height = low + 4.9
    figure = make_figure(height)
    grid = figure.subplots(2, len(groups), squeeze=False, sharey="row")
    bottom, top = (low + 0.4) / height, 1 - 0.47 / height
    figure.subplots_adjust(0.075, bottom, 0.975, top, wspace=0.13, hspace=0.66)
    for (above, below), (cohort, curves) in zip(grid.T, groups.items(), strict=True):
        _draw_roc_panel(above, curves, looks, prefix="")
        _draw_roc_panel(below, curves, looks, prefix="restricted_")
        cases = write_count(results.count_sample(cohort)[1], "case")
        n_all, n_restricted = (_count_pixels(curves.values(), p) for p in ("", "restricted_"))
        above.set_title(f"{cohort}, all pixels\nn = {n_all}, {cases}")
        below.set_title(f"{cohort}, in (0.01, 0.99)\nn = {n_restricted}")
    for axes in grid[:, 0]:
        axes.set_ylabel(f"true positive rate ({target})")
    columns = [
        (f"{title}\n{cohort}", {key: write_score(curve[area]) for key, curve in curves.items()})
        for area, title in (("auc", "AUC"), ("rauc", "rAUC"))
        for cohort, curves in groups.items()
    ]
    write_table(figure, looks, legend + 0.2, columns, marker=False)
    chosen = "threshold chosen on validation data (rule roc)"
    entries = [
        Line2D([], [], color=BLACK, linestyle="", label=chosen, **DOT),
        Line2D([], [], label="chance", **CHANCE),
    ]
    add_legend(figure, entries, (legend - 0.04) / height, columns=2)
    write_footer(figure, results.summary, map(results.describe_origin, groups), note)
    return figure


def _count_pixels(curves: Iterable[Curve], prefix: str) -> str:
    """Say how many pixels curves are of; restricted ones may differ between systems."""
    counts = [curve[f"n_{prefix}positive"] + curve[f"n_{prefix}negative"] for curve in curves]
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _draw_roc_panel(
    axes: Axes, curves: Mapping[System, Curve], looks: Mapping[System, Look], prefix: str
) -> None:
    """Draw a cohort's ROC curves with the chosen thresholds.

    `prefix` is "" (all pixels, logarithmic axis) or "restricted_" (p in (0.01, 0.99)).
    """
    # What lies left of the logarithmic axis stands on its border.
    part, lowest = ("restricted", 0.0) if prefix else ("full", LOWEST_DRAWN_FPR)
    chance = [0.0, 1.0] if prefix else np.geomspace(lowest, 1, 60)
    axes.plot(chance, chance, **CHANCE)
    for key, curve in curves.items():
        if curve[part] is None:
            continue
        xs = np.maximum(curve[part]["fpr"], lowest)
        axes.plot(xs, curve[part]["tpr"], **looks[key].style_line(marker=False))
        point = curve["points"].get(MAIN_RULE) or {}
        x, y = (point.get(f"{prefix}{rate}") for rate in ("fpr", "tpr"))
        if x is not None and y is not None:
            place: Style = {"color": looks[key].colour, "zorder": 4, "clip_on": False}
            axes.plot([max(x, lowest)], [y], **DOT, **place)
    if not prefix:
        axes.set_xscale("log")
        axes.set_xticks([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1], minor=False)
        axes.tick_params(axis="x", which="minor", length=0)
    axes.set(xlim=(lowest, 1), ylim=(0, 1.01), xlabel="false positive rate")


def draw_reliability(results: Results) -> Figure | str:
    """Draw the tumor probability against the share of tumor pixels, for every phase."""
    groups, looks = (
        group_curves(results, "tumor", needed="reliability"),
        list_looks(results.list_systems(), results.failures),
    )
    if not groups:
        return "no reliability of the tumor's probabilities was recorded"
    note = (
        f"15 bins; those of fewer than {LEAST_PIXELS} pixels are left out. Below the diagonal: too "
        "sure of tumor. ECE: expected calibration error,\nthe mean distance from the diagonal, "
        "here over the pixels with a probability in (0.01, 0.99); lower is better."
    )
    # Inches from below: note, table of the systems, panels.
    table = find_note_top(note) + 0.03
    low = table + find_table_height(looks)
    height = low + 2.65
    figure = make_figure(height)
    row = figure.subplots(1, len(groups), squeeze=False, sharey="row")[0]
    bottom, top = (low + 0.38) / height, 1 - 0.47 / height
    figure.subplots_adjust(0.075, bottom, 0.985, top, wspace=0.1)
    columns = []
    for axes, (cohort, curves) in zip(row, groups.items(), strict=True):
        axes.plot([0, 1], [0, 1], **CHANCE)
        for key, curve in curves.items():
            bins = {name: np.array(values, float) for name, values in curve["reliability"].items()}
            large = bins["n_pixels"] >= LEAST_PIXELS
            if large.any():
                xs, ys = bins["predicted"][large], bins["observed"][large]
                axes.plot(xs, ys, **looks[key].style_line())
        n = max(sum(curve["reliability"]["n_pixels"]) for curve in curves.values())
        cases = write_count(results.count_sample(cohort)[1], "case")
        title = f"{cohort}\nn = {n:,} pixels, {cases}"
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="tumor probability", title=title)
        errors = {key: write_score(curve["ece_restricted"]) for key, curve in curves.items()}
        columns.append((f"ECE\n{cohort}", errors))
    row[0].set_ylabel("share of tumor pixels")
    write_table(figure, looks, table, columns)
    write_footer(figure, results.summary, map(results.describe_origin, groups), note)
    return figure
