"""Figures of single cases: Dice of each, and lesions found by diameter."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.legend import Look, System, list_looks, make_entries
from evaluation.figures.style import (
    BLACK,
    GREY,
    SMALL,
    Style,
    add_legend,
    make_figure,
    write_footer,
)
from evaluation.metrics.lesion_recall import BINS_MM, count_found
from evaluation.metrics.statistics import bound_share
from evaluation.names import SLICES, TARGETS
from evaluation.results import Results
from evaluation.score_table import MAIN_RULE, add_metrics, select
from evaluation.tables.text import write_count

MEDIAN: Style = {"color": BLACK, "linewidth": 1.2}


def draw_dice_by_case(results: Results) -> Figure | str:
    """Draw the Dice of every case, rule roc: a point a case, a line at the median."""
    rows = select(results.scores, unit=SLICES, postprocess="", rule=MAIN_RULE, fold=0)
    rows = add_metrics(rows, ["dice"])
    cohorts = [cohort for cohort in results.cohorts if (rows["cohort"] == cohort).any()]
    if not cohorts:
        return "no case was scored"
    figure, looks = make_figure(5.1), list_looks(results.list_systems(), results.failures)
    grid = figure.subplots(2, len(cohorts), squeeze=False, sharey=True)
    figure.subplots_adjust(0.075, 0.215, 0.985, 0.94, wspace=0.08, hspace=0.26)
    # A row is a target, a column a cohort.
    for axes, (target, cohort) in zip(grid.flat, itertools.product(TARGETS, cohorts), strict=True):
        cases = select(rows, cohort=cohort, target=target)
        with_target = cases[cases["tp"] + cases["fn"] > 0]
        _draw_dice_panel(axes, with_target, looks)
        n_shown, n_cases = with_target["case"].nunique(), cases["case"].nunique()
        axes.set_title(f"{cohort}, {target}: {n_shown} of {write_count(n_cases, 'case')}")
    for axes in grid[:, 0]:
        axes.set_ylabel("Dice of a case")
    note = (
        "Threshold rule roc. A point is a case, its scored slices together; bar: median. Cases "
        "whose reference does not hold the target are\nleft out, as the numbers above the panels "
        "say."
    )
    handles = [*make_entries(looks.values()), Line2D([], [], label="median", **MEDIAN)]
    add_legend(figure, handles, 0.105, columns=len(results.system_names) + 1)
    write_footer(figure, results.summary, map(results.describe_origin, cohorts), note)
    return figure


def _draw_dice_panel(axes: Axes, cases: pd.DataFrame, looks: Mapping[System, Look]) -> None:
    """Draw a cohort's and target's cases, score rows with "dice", a column a system."""
    for place, ((system, phase), look) in enumerate(looks.items()):
        values = select(cases, system=system, phase=phase)["dice"].to_numpy()
        if not len(values):
            axes.text(place, 0.5, "none", ha="center", rotation=90, fontsize=SMALL, color=GREY)
            continue
        # Points stand beside each other in the order of their Dice, so that none hides another.
        aside = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        across = place + aside[np.argsort(np.argsort(values))]
        axes.plot(across, values, alpha=0.75, **look.style_points())
        axes.plot([place - 0.28, place + 0.28], [np.median(values)] * 2, **MEDIAN)
    axes.set_xticks([])
    axes.set(xlim=(-0.5, len(looks) - 0.5), ylim=(-0.02, 1.02))


def draw_lesion_recall(results: Results) -> Figure | str:
    """Draw the share of lesions found (any voxel, rule roc) by diameter and system."""
    lesions = select(results.lesions, kind="lesion") if len(results.lesions) else results.lesions
    cohorts = [name for name in results.cohorts if len(lesions) and name in set(lesions["cohort"])]
    if not cohorts:
        return "no lesion was recorded"
    figure, looks = make_figure(4.1), list_looks(results.list_systems(), results.failures)
    row = figure.subplots(1, len(cohorts), squeeze=False, sharey="row")[0]
    figure.subplots_adjust(0.075, 0.435, 0.985, 0.92, wspace=0.08)
    for axes, cohort in zip(row, cohorts, strict=True):
        of_cohort = select(lesions, cohort=cohort)
        n_lesions = sum(_draw_recall_panel(axes, of_cohort, looks))
        cases = write_count(of_cohort["case"].nunique(), "case")
        axes.set_title(f"{cohort}: {n_lesions} lesions of {cases}")
    row[0].set_ylabel("share of lesions touched")
    add_legend(figure, make_entries(looks.values()), 0.205, columns=len(results.system_names))
    # What the bars mean, and what is not drawn.
    absent = [cohort for cohort in results.cohorts if cohort not in cohorts]
    note = (
        "Whole cases, threshold rule roc. Diameter of a sphere of the same volume; n: lesions of "
        "the reference; bars: Wilson 95 % intervals, as if\nlesions were independent. One voxel "
        "touches a lesion, so a model that marks the whole liver touches all; what it marks "
        "beside lesions is\nin lesions.csv. "
        + (f"Not drawn, no lesion recorded: {', '.join(absent)}." if absent else "")
    )
    write_footer(figure, results.summary, map(results.describe_origin, cohorts), note)
    return figure


def _draw_recall_panel(
    axes: Axes, lesions: pd.DataFrame, looks: Mapping[System, Look]
) -> list[int]:
    """Draw a cohort's shares; return the lesions of each bin of diameters."""
    numbers = [0] * (len(BINS_MM) - 1)
    for place, ((system, phase), look) in enumerate(looks.items()):
        of_system = select(lesions, system=system, phase=phase)
        counts = np.array(count_found(of_system["diameter_mm"], of_system["touched"]))
        numbers = counts[:, 1].tolist() if counts[:, 1].any() else numbers
        bins = np.flatnonzero(counts[:, 1])
        shares = counts[bins, 0] / counts[bins, 1]
        bounds = np.array([bound_share(*counts[index].tolist()) for index in bins]).reshape(-1, 2)
        # A share of 0 or 1 is a bound of its own interval, but for the last bit.
        around = np.maximum([shares - bounds[:, 0], bounds[:, 1] - shares], 0)
        across = bins + (place - (len(looks) - 1) / 2) * 0.12
        style = look.style_points() | {"markersize": 3.5}
        axes.errorbar(across, shares, yerr=around, elinewidth=0.8, **style)
    names = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(BINS_MM)]
    names[0], names[-1] = f"< {BINS_MM[1]:g} mm", f"> {BINS_MM[-2]:g}"
    ticks = [f"{name}\nn = {n}" for name, n in zip(names, numbers, strict=True)]
    axes.set_xticks(range(len(names)), ticks)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(-0.02, 1.02))
    return numbers
