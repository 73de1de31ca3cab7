"""Table 1 as bars: each system's IoU at the ROC threshold, with its interval."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from evaluation.figures.legend import Look, list_looks
from evaluation.figures.style import (
    BLACK,
    GREY,
    SMALL,
    Style,
    add_legend,
    make_figure,
    write_footer,
)
from evaluation.metrics.statistics import LEAST_PATIENTS
from evaluation.names import TARGETS
from evaluation.results import Results
from evaluation.score_table import MAIN_RULE, select
from evaluation.tables.text import is_known, write_count


def draw_table1_bars(results: Results) -> Figure | str:
    """Draw the liver and tumor IoU of Table 1, rule roc, by cohort, system and phase."""
    table, looks = (
        select(results.table1, rule=MAIN_RULE),
        list_looks(results.list_systems(), results.failures),
    )
    if table.empty:
        return "no score at the ROC threshold was recorded"
    rows = {(r.target, r.cohort, r.system, r.phase): r for r in table.itertuples(index=False)}
    figure = make_figure(4.3)
    panels = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(0.07, 0.415, 0.99, 0.93, wspace=0.06)
    # A group of bars is a cohort, a bar in it a system.
    width = 0.84 / len(looks)
    for axes, target in zip(panels, TARGETS, strict=True):
        for group, cohort in enumerate(results.cohorts):
            for index, (key, look) in enumerate(looks.items()):
                x = group + (index - (len(looks) - 1) / 2) * width
                _draw_bar(axes, (x, 0.9 * width), rows.get((target, cohort, *key)), look)
        ticks = [describe_cohort(results, cohort) for cohort in results.cohorts]
        axes.set_xticks(range(len(ticks)), ticks)
        axes.tick_params(axis="x", length=0)
        axes.set(title=target, ylim=(0, 1.24), xlim=(-0.55, len(results.cohorts) - 0.45))
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.spines["left"].set_bounds(0, 1)
    panels[0].set_ylabel("IoU")
    handles = [Patch(facecolor=look.bar_colour, label=look.label) for look in looks.values()]
    add_legend(figure, handles, 0.125, columns=len(results.system_names))
    note = (
        "Pooled over all pixels of a cohort; threshold chosen on validation data (rule roc). "
        "Whiskers: nominal 95 % interval by patient;\n"
        f"fewer than {LEAST_PATIENTS} patients with the target give none."
    )
    write_footer(figure, results.summary, map(results.describe_origin, results.cohorts), note)
    return figure


def describe_cohort(results: Results, cohort: str) -> str:
    """Return what stands below a group of bars: cohort, slices, cases, patients."""
    slices, cases = results.count_sample(cohort)
    words = [cohort, f"{slices} slices", write_count(cases, "case")]
    rows = select(results.table1, cohort=cohort)
    if "n_patients" in rows:
        words += [write_count(int(n)) for n in rows["n_patients"].dropna().unique()]
    return "\n".join(words)


def _draw_bar(axes: Axes, place: tuple[float, float], row: Any, look: Look) -> None:
    """Draw a bar at (middle, width) with whisker and value; without a row, say so."""
    x, width = place
    words: Style = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": SMALL}
    if row is None:
        axes.text(x, 0.02, "no result", color=GREY, **words)
        return
    top = row.iou
    axes.bar([x], [row.iou], width=width, color=look.bar_colour)
    if is_known(row.iou_low):
        top = max(row.iou, row.iou_high)  # a percentile interval need not hold the value
        whisker: Style = {"color": BLACK, "linewidth": 0.9, "solid_capstyle": "butt"}
        axes.plot([x, x], [row.iou_low, row.iou_high], **whisker)
    axes.text(x, top + 0.02, f"{row.iou:.2f}", **words)
