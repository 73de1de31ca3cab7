"""Figures of how far to trust the scores: reliability of the probabilities, spread over cases, lesions found."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.legend import System, entries, look, system_table, systems_of, table_height
from evaluation.figures.style import BLACK, GREY, SMALL, footer, new_figure, note_top
from evaluation.metrics.lesion_recall import BINS_MM, count_found
from evaluation.metrics.statistics import bound_share
from evaluation.names import TARGETS
from evaluation.results import Results
from evaluation.tables.text import readable

LEAST_PIXELS = 100  # in a bin; fewer make a point that jumps


def _cases(n: int) -> str:
    return f"{n} case{'' if n == 1 else 's'}"


def reliability(results: Results) -> Figure | str:
    """Draw the tumor probability against the share of tumor pixels, before and after the balanced phase."""
    curves = {
        (c["cohort"], c["model"], c["loss"]): c
        for c in results.curves
        if c["target"] == "tumor" and c.get("reliability")
    }
    cohorts = [cohort for cohort in results.cohorts if any(key[0] == cohort for key in curves)]
    if not cohorts:
        return "no reliability of the tumor's probabilities was recorded"
    note = (
        f"15 bins; those of fewer than {LEAST_PIXELS} pixels are left out. Below the diagonal: too sure of tumor. ECE: "
        "expected calibration error,\nthe mean distance from the diagonal, here over the pixels with a probability in "
        "(0.01, 0.99); lower is better."
    )
    table = note_top(note) + 0.03
    low = table + table_height(results)
    height = low + 2.65
    figure = new_figure(height)
    row = figure.subplots(1, len(cohorts), squeeze=False, sharey="row")[0]
    bottom = (low + 0.38) / height
    figure.subplots_adjust(
        left=0.075, right=0.985, top=1 - 0.47 / height, bottom=bottom, wspace=0.1
    )
    columns = []
    for axes, cohort in zip(row, cohorts, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=":")
        mine = {
            one: curves[cohort, *one] for one in systems_of(results) if (cohort, *one) in curves
        }
        for curve in mine.values():
            _reliability_line(axes, curve)
        n = max(sum(curve["reliability"]["n_pixels"]) for curve in mine.values())
        title = f"{cohort}\nn = {n:,} pixels, {_cases(results.sample(cohort)[1])}"
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="tumor probability", title=title)
        columns.append(
            (
                f"ECE\n{cohort}",
                {one: readable(curve["ece_restricted"]) for one, curve in mine.items()},
            )
        )
    row[0].set_ylabel("share of tumor pixels")
    system_table(figure, results, table, columns)
    footer(figure, results, note, cohorts)
    return figure


def _reliability_line(axes: Axes, curve: dict[str, Any]) -> None:
    found = curve["reliability"]
    points = [
        (predicted, observed)
        for n, predicted, observed in zip(
            found["n_pixels"], found["predicted"], found["observed"], strict=True
        )
        if n >= LEAST_PIXELS
    ]
    if points:
        axes.plot(*zip(*points, strict=True), **look(curve["model"], curve["loss"]))


def dice_by_case(results: Results) -> Figure | str:
    """Draw the Dice score of every case, liver and tumor, rule roc: a point per case, a line at the median."""
    cases = [case for case in results.cases if case["threshold_rule"] == "roc"]
    cohorts = [
        cohort for cohort in results.cohorts if any(case["cohort"] == cohort for case in cases)
    ]
    if not cohorts:
        return "no case was scored"
    figure = new_figure(5.1)
    grid = figure.subplots(2, len(cohorts), squeeze=False, sharey=True)
    figure.subplots_adjust(
        left=0.075, right=0.985, top=0.94, bottom=0.215, hspace=0.26, wspace=0.08
    )
    for column, cohort in enumerate(cohorts):
        for line, target in enumerate(TARGETS):
            mine = [case for case in cases if (case["cohort"], case["target"]) == (cohort, target)]
            with_target = [case for case in mine if int(case["tp"]) + int(case["fn"])]
            _dice_panel(grid[line][column], with_target, systems_of(results))
            shown, known = (len({case["case"] for case in some}) for some in (with_target, mine))
            grid[line][column].set_title(f"{cohort}, {target}: {shown} of {_cases(known)}")
    for line in grid:
        line[0].set_ylabel("Dice of a case")
    note = (
        "Threshold rule roc. A point is a case, its scored slices together; bar: median. Cases whose reference does "
        "not hold the target are\nleft out, as the numbers above the panels say."
    )
    handles = entries(results, line=False)
    handles.append(Line2D([], [], color=BLACK, linewidth=1.2, label="median"))
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.105)}
    figure.legend(handles=handles, ncols=len(results.models) + 1, **place)
    footer(figure, results, note, cohorts)
    return figure


def _dice_panel(axes: Axes, cases: Sequence[dict[str, Any]], systems: Sequence[System]) -> None:
    for place, (model, loss) in enumerate(systems):
        mine = [case for case in cases if (case["model"], case["loss"]) == (model, loss)]
        values = np.array([float(case["dice"]) for case in mine])
        if not len(values):
            axes.text(place, 0.5, "none", ha="center", rotation=90, fontsize=SMALL, color=GREY)
            continue
        aside = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        across = place + aside[np.argsort(np.argsort(values))]
        axes.plot(across, values, alpha=0.75, **look(model, loss, line=False))
        axes.plot([place - 0.28, place + 0.28], [np.median(values)] * 2, color=BLACK, linewidth=1.2)
    axes.set_xticks([])
    axes.set(xlim=(-0.5, len(systems) - 0.5), ylim=(-0.02, 1.02))


def lesion_recall(results: Results) -> Figure | str:
    """Draw the share of lesions that were found, by diameter, for each system: any voxel of it, rule roc."""
    lesions = [row for row in results.lesions if row["kind"] == "lesion"]
    cohorts = [
        cohort for cohort in results.cohorts if any(row["cohort"] == cohort for row in lesions)
    ]
    if not cohorts:
        return "no lesion was recorded"
    figure = new_figure(4.1)
    row = figure.subplots(1, len(cohorts), squeeze=False, sharey="row")[0]
    figure.subplots_adjust(left=0.075, right=0.985, top=0.92, bottom=0.435, wspace=0.08)
    for axes, cohort in zip(row, cohorts, strict=True):
        mine = [one for one in lesions if one["cohort"] == cohort]
        numbers = _recall_panel(axes, mine, systems_of(results))
        axes.set_title(
            f"{cohort}: {sum(numbers)} lesions of {_cases(len({one['case'] for one in mine}))}"
        )
    row[0].set_ylabel("share of lesions touched")
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.205)}
    figure.legend(handles=entries(results, line=False), ncols=len(results.models), **place)
    absent = [cohort for cohort in results.cohorts if cohort not in cohorts]
    note = (
        "Whole cases, threshold rule roc. Diameter of a sphere of the same volume; n: lesions of the reference; bars: "
        "Wilson 95 % intervals, as if\nlesions were independent. One voxel touches a lesion, so a model that marks the "
        "whole liver touches all; what it marks beside lesions is\nin lesions.csv. "
        + (f"Not drawn, no lesion recorded: {', '.join(absent)}." if absent else "")
    )
    footer(figure, results, note, cohorts)
    return figure


def _recall_panel(axes: Axes, rows: list[dict[str, Any]], systems: Sequence[System]) -> list[int]:
    """Draw the shares of a cohort; return the lesions of each bin."""
    numbers = [0] * (len(BINS_MM) - 1)
    for place, (model, loss) in enumerate(systems):
        lesions = [
            row
            for row in rows
            if (row["kind"], row["model"], row["loss"]) == ("lesion", model, loss)
        ]
        counts = count_found(
            [float(row["diameter_mm"]) for row in lesions],
            [str(row["touched"]) == "True" for row in lesions],
        )
        if any(n for _, n in counts):
            numbers = [n for _, n in counts]
        bins = [index for index, (_, n) in enumerate(counts) if n]
        shares = np.array([counts[index][0] / counts[index][1] for index in bins])
        bounds = np.array([bound_share(*counts[index]) for index in bins]).reshape(-1, 2)
        across = np.array(bins) + (place - (len(systems) - 1) / 2) * 0.12
        style = {**look(model, loss, line=False), "markersize": 3.5}
        # A share of 0 or 1 is a bound of its own interval, but for the last bit.
        around = np.maximum([shares - bounds[:, 0], bounds[:, 1] - shares], 0)
        axes.errorbar(across, shares, yerr=around, elinewidth=0.8, **style)
    names = [
        f"< {high:g} mm" if not low else f"{low:g}-{high:g}"
        for low, high in itertools.pairwise(BINS_MM)
    ]
    names[-1] = f"> {BINS_MM[-2]:g}"
    axes.set_xticks(
        range(len(names)), [f"{name}\nn = {n}" for name, n in zip(names, numbers, strict=True)]
    )
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(-0.02, 1.02))
    return numbers
