"""Figures of scores: learning curves, the sweep of the class weight, bars of Table 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from evaluation.figures.legend import label, systems_of
from evaluation.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    VERMILLION,
    footer,
    new_figure,
)
from evaluation.metrics.statistics import LEAST_PATIENTS
from evaluation.names import LOSSES
from evaluation.results import Results
from evaluation.tables.text import patients

BAR_COLOURS = {
    ("one_step", "ce"): "#F2B58A",
    ("one_step", "balanced"): VERMILLION,
    ("sequential", "ce"): "#9CCBE8",
    ("sequential", "balanced"): BLUE,
    ("joint", "ce"): "#8FD3BD",
    ("joint", "balanced"): GREEN,
}
STAGES = {
    "one_step": "one-step network",
    "liver": "liver network $L$",
    "tumor": "tumor network $T$",
    "joint": "joint: $L$ and $T$",
}


def _numbers(values: Iterable[Any]) -> list[float]:
    """Return values for drawing: a missing one is a gap."""
    return [math.nan if value is None else float(value) for value in values]


def learning_curves(results: Results) -> Figure | str:
    """Draw loss and validation IoU by epoch of every network, cross-entropy first, then the balanced phase."""
    phases = {
        (phase["stage"], phase["phase"]): phase
        for phase in results.training["phases"]
        if phase["rows"]
    }
    stages = [stage for stage in STAGES if any(key[0] == stage for key in phases)]
    if not stages:
        return "no epoch was recorded"
    figure = new_figure(4.9)
    grid = figure.subplots(2, len(stages), squeeze=False, sharex="col", sharey="row")
    figure.subplots_adjust(left=0.075, right=0.99, top=0.93, bottom=0.275, hspace=0.12, wspace=0.08)
    for column, stage in enumerate(stages):
        mine = [phases[stage, loss] for loss in LOSSES if (stage, loss) in phases]
        _learning_column(grid[0][column], grid[1][column], mine)
        grid[0][column].set_title(STAGES[stage])
        grid[1][column].set_xlabel("epoch")
    grid[0][0].set_ylabel("loss")
    grid[0][0].set_yscale("log")
    grid[0][0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    grid[0][0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
    grid[0][0].yaxis.set_minor_locator(NullLocator())
    grid[1][0].set_ylabel("IoU")
    grid[1][0].set_ylim(0, 1)
    entries = [
        Line2D([], [], color=BLACK, label="loss, training"),
        Line2D([], [], color=PURPLE, label="loss, validation"),
        Line2D([], [], color=SKY, label="liver IoU, validation"),
        Line2D([], [], color=ORANGE, label="tumor IoU, validation"),
        Line2D([], [], color=GREY, linestyle=":", label="the same at threshold 0.5"),
        Line2D(
            [],
            [],
            color=GREY,
            linewidth=0.8,
            linestyle=(0, (4, 2)),
            label="change to the balanced loss",
        ),
        Line2D(
            [],
            [],
            color=BLACK,
            linestyle="",
            marker="v",
            markersize=4,
            label="best epoch of a phase",
        ),
    ]
    figure.legend(handles=entries, loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.09))
    note = "The balanced loss weights its terms, so its size does not compare with that of cross-entropy."
    footer(figure, results, note, ["validation"])
    return figure


def _learning_column(above: Axes, below: Axes, phases: Sequence[dict[str, Any]]) -> None:
    start = 0
    colours = {"liver": SKY, "tumor": ORANGE}
    for number, phase in enumerate(phases):
        rows = phase["rows"]
        epochs = [start + index + 1 for index in range(len(rows))]
        # One epoch alone is no line.
        style: dict[str, Any] = {"marker": "o" if len(rows) == 1 else "", "markersize": 3}
        for key, colour in (("loss", BLACK), ("val_loss", PURPLE)):
            above.plot(epochs, _numbers(row.get(key) for row in rows), color=colour, **style)
        for target, colour in colours.items():
            for key, line in ((f"val_{target}_iou", "-"), (f"val_{target}_iou_at_half", ":")):
                if any(row.get(key) is not None for row in rows):
                    values = _numbers(row.get(key) for row in rows)
                    face = colour if line == "-" else "white"
                    below.plot(
                        epochs, values, color=colour, linestyle=line, markerfacecolor=face, **style
                    )
        numbers = [row["epoch"] for row in rows]
        if phase["best_epoch"] in numbers and phase["status"] == "ok":
            x = start + numbers.index(phase["best_epoch"]) + 1
            below.plot(
                [x],
                [0.02],
                "v",
                color=BLACK,
                markersize=4,
                transform=below.get_xaxis_transform(),
                clip_on=False,
            )
        if phase["status"] != "ok":
            style = {"ha": "right", "va": "center", "fontsize": SMALL, "color": VERMILLION}
            below.text(epochs[-1], 0.3, f"{phase['status']}:\nno result", **style)
        if number:
            for axes in (above, below):
                axes.axvline(start + 0.5, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
        start += len(rows)
    below.set_xlim(0.5, start + 0.5)
    below.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def class_weight(results: Results) -> Figure | str:
    """Draw rAUC, IoU and the chosen threshold against the class weight of the sweep (the paper's Figure 3.4)."""
    sweep = results.training["sweep"]
    points = sorted((sweep or {}).get("points", ()), key=lambda point: point["ratio"])
    if len(points) < 2:
        return "no sweep of the class weight was recorded"
    fine = [point for point in points if point["status"] == "ok"]
    failed = [point["ratio"] for point in points if point["status"] != "ok"]
    figure = new_figure(3.3)
    panels = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.08, right=0.985, top=0.91, bottom=0.365, wspace=0.38)
    ratios = [point["ratio"] for point in fine]
    _series(panels[0], ratios, [("rAUC", [p["rauc"] for p in fine], BLUE, "o-")])
    names = (
        ("at the threshold found by ROC analysis", "iou_at_roc", GREEN, "o-"),
        ("at the threshold with the best IoU", "best_iou", BLACK, "s--"),
        ("at threshold 0.5", "iou_at_half", VERMILLION, "^:"),
    )
    _series(
        panels[1],
        ratios,
        [(text, [p[key] for p in fine], colour, line) for text, key, colour, line in names],
    )
    rules = (("", "roc", GREEN, "o-"), ("", "iou", BLACK, "s--"))
    _series(
        panels[2],
        ratios,
        [
            (text, [p["thresholds"].get(key) for p in fine], colour, line)
            for text, key, colour, line in rules
        ],
    )
    figure.legend(
        *panels[1].get_legend_handles_labels(),
        loc="lower center",
        ncols=3,
        bbox_to_anchor=(0.5, 0.125),
    )
    for axes, title, what in zip(
        panels, "abc", ("rAUC", "tumor IoU", "threshold $s_2$"), strict=True
    ):
        axes.set_title(f"({title})", loc="left")
        axes.set(ylabel=what, xlabel="class weight, tumor to rest")
        _mark_failed(axes, failed)
        axes.set_xscale("log")
    panels[2].set_ylim(-0.05, 1.05)
    best = max((p for p in fine if p["rauc"] is not None), key=lambda p: p["rauc"], default=None)
    if best:
        panels[0].plot(
            [best["ratio"]], [best["rauc"]], "o", color=BLUE, markersize=9, markerfacecolor="none"
        )
    note = f"Tumor network on validation data, epochs per weight: {sweep['epochs']}. Circle: best rAUC."
    note += f" Cross: run failed ({len(failed)}), no result." if failed else ""
    footer(figure, results, note, ["validation"])
    return figure


def _series(
    axes: Axes, xs: Sequence[float], lines: Iterable[tuple[str, list[Any], str, str]]
) -> None:
    for text, values, colour, line in lines:
        # Hollow squares leave the circles below them to be seen where two thresholds agree.
        style: dict[str, Any] = (
            {"markerfacecolor": "none", "markersize": 7} if "s" in line else {"markersize": 4}
        )
        axes.plot(xs, _numbers(values), line, color=colour, label=text, **style)


def _mark_failed(axes: Axes, ratios: Sequence[float]) -> None:
    for ratio in ratios:
        axes.plot(
            [ratio],
            [0.04],
            "x",
            color=VERMILLION,
            markersize=6,
            transform=axes.get_xaxis_transform(),
        )


def table1_bars(results: Results) -> Figure | str:
    """Draw the tumor and liver IoU of Table 1 at the ROC threshold with its interval, by cohort, model and loss."""
    rows = {
        (row["target"], row["cohort"], row["model"], row["loss"]): row
        for row in results.rows
        if row["threshold_rule"] == "roc"
    }
    if not rows:
        return "no score at the ROC threshold was recorded"
    figure = new_figure(4.3)
    panels = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.07, right=0.99, top=0.93, bottom=0.415, wspace=0.06)
    systems = systems_of(results)
    step = 0.84 / len(systems)
    for axes, target in zip(panels, ("liver", "tumor"), strict=True):
        for group, cohort in enumerate(results.cohorts):
            for index, one in enumerate(systems):
                x = group + (index - (len(systems) - 1) / 2) * step
                _bar(axes, x, 0.9 * step, rows.get((target, cohort, *one)), BAR_COLOURS[one])
        axes.set_xticks(
            range(len(results.cohorts)), [_group(results, cohort) for cohort in results.cohorts]
        )
        axes.tick_params(axis="x", length=0)
        axes.set(title=target, ylim=(0, 1.24), xlim=(-0.55, len(results.cohorts) - 0.45))
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.spines["left"].set_bounds(0, 1)
    panels[0].set_ylabel("IoU")
    handles = [Patch(facecolor=BAR_COLOURS[one], label=label(results, *one)) for one in systems]
    figure.legend(
        handles=handles, loc="lower center", ncols=len(results.models), bbox_to_anchor=(0.5, 0.125)
    )
    note = (
        "Pooled over all pixels of a cohort; threshold chosen on validation data (rule roc). Whiskers: nominal 95 % "
        f"interval by patient;\nfewer than {LEAST_PATIENTS} patients with the target give none."
    )
    footer(figure, results, note)
    return figure


def _group(results: Results, cohort: str) -> str:
    slices, cases = results.sample(cohort)
    found = {
        int(row["n_patients"])
        for row in results.rows
        if row["cohort"] == cohort and "n_patients" in row
    }
    words = [cohort, f"{slices} slices", f"{cases} case{'' if cases == 1 else 's'}"]
    return "\n".join([*words, *map(patients, found)])


def _bar(axes: Axes, x: float, width: float, row: dict[str, Any] | None, colour: str) -> None:
    if row is None:
        axes.text(
            x, 0.02, "no result", rotation=90, ha="center", va="bottom", fontsize=SMALL, color=GREY
        )
        return
    value, top = row["iou"], row["iou"]
    axes.bar([x], [value], width=width, color=colour)
    if row.get("iou_low") is not None:
        # A percentile interval need not hold the value.
        top = max(value, row["iou_high"])
        axes.plot(
            [x, x],
            [row["iou_low"], row["iou_high"]],
            color=BLACK,
            linewidth=0.9,
            solid_capstyle="butt",
        )
    axes.text(x, top + 0.02, f"{value:.2f}", rotation=90, ha="center", va="bottom", fontsize=SMALL)
