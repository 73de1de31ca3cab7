"""What the figures show is what was recorded: drawn values, looks, numbers and sizes of samples, each by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from evaluation.figures import cases as draw_cases
from evaluation.figures import roc as draw_roc
from evaluation.figures import scores as draw_scores
from evaluation.figures import slices as draw_slices
from evaluation.figures.__main__ import FIGURES
from evaluation.figures.style import style
from evaluation.results import Results, read_results
from tests.evaluation.fake_out import write_out

SYSTEMS = [
    (model, loss) for model in ("one_step", "sequential", "joint") for loss in ("ce", "balanced")
]
COLOURS = {"one_step": "#D55E00", "sequential": "#0072B2", "joint": "#009E73"}
MARKERS = {"ce": "o", "balanced": "s"}
NAMES = [
    "one-step, cross-entropy",
    "one-step, balanced",
    "sequential, cross-entropy",
    "sequential, balanced",
    "joint, cross-entropy",
    "joint, balanced",
]


@pytest.fixture
def results(tmp_path) -> Results:
    return read_results(write_out(tmp_path / "out"))


@pytest.fixture
def two(tmp_path) -> Results:
    return read_results(write_out(tmp_path / "two", joint=False))


def drawn(draw: Any, results: Results) -> Figure:
    with style():
        figure = draw(results)
    assert isinstance(figure, Figure), figure
    return figure


def looks_like(line: Line2D, model: str, loss: str) -> bool:
    dashed = line.is_dashed()
    return same_color(line.get_color(), COLOURS[model]) and dashed == (loss == "ce")


def lines_of(axes: Axes, model: str, loss: str) -> list[Line2D]:
    return [
        line for line in axes.lines if len(line.get_xdata()) > 2 and looks_like(line, model, loss)
    ]


def table_of(figure: Figure) -> dict[str, list[str]]:
    """Return the table below the panels: by system its values from left to right."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for text in figure.texts:
        x, y = text.get_position()
        rows.setdefault(round(y, 4), []).append((x, text.get_text()))
    found = [[text for _, text in sorted(row)] for row in rows.values()]
    return {row[0]: row[1:] for row in found if row[0] in NAMES}


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def everything(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def wilson(found: int, n: int) -> tuple[float, float]:
    z = 1.959964
    middle, p = (found + z**2 / 2) / (n + z**2), found / n
    half = z / (n + z**2) * (n * p * (1 - p) + z**2 / 4) ** 0.5
    return middle - half, middle + half


def test_lesion_recall_of_each_system(results):
    """System i of six found i of ten lesions below 10 mm, and 5 - i of five above 30 mm."""
    results.lesions[:] = [
        {
            "cohort": "test",
            "case": "1",
            "model": model,
            "loss": loss,
            "kind": "lesion",
            "diameter_mm": str(mm),
        }
        | {"iou": "0.5" if n < found else "0.0", "touched": str(n < found)}
        for index, (model, loss) in enumerate(SYSTEMS)
        for mm, found, total in ((5, index, 10), (40, 5 - index, 5))
        for n in range(total)
    ]
    figure = drawn(draw_cases.lesion_recall, results)
    (axes,) = figure.axes
    assert len(axes.containers) == 6
    for index, ((model, loss), container) in enumerate(zip(SYSTEMS, axes.containers, strict=True)):
        points, _, (bars,) = container
        np.testing.assert_allclose(points.get_ydata(), [index / 10, (5 - index) / 5])
        assert [round(x) for x in points.get_xdata()] == [0, 3]
        assert points.get_linestyle() == "None"
        assert (points.get_marker(), same_color(points.get_color(), COLOURS[model])) == (
            MARKERS[loss],
            True,
        )
        wanted = [wilson(index, 10), wilson(5 - index, 5)]
        np.testing.assert_allclose(
            [[low, high] for (_, low), (_, high) in bars.get_segments()], wanted, atol=1e-6
        )
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "< 10 mm\nn = 10",
        "10-20\nn = 0",
        "20-30\nn = 0",
        "> 30\nn = 5",
    ]
    assert titles(figure) == ["test: 15 lesions of 1 case"]
    assert legend_of(figure) == NAMES
    assert "Wilson 95 % intervals" in everything(figure)
    assert "Not drawn, no lesion recorded: validation, external." in everything(figure)


def test_cohorts_with_lesions_alone_are_drawn(results):
    kept = [
        row for row in results.lesions if row["cohort"] == "external" or row["kind"] != "lesion"
    ]
    results.lesions[:] = kept
    figure = drawn(draw_cases.lesion_recall, results)
    assert titles(figure) == ["external: 16 lesions of 2 cases"]
    results.lesions[:] = [row for row in kept if row["kind"] != "lesion"]
    assert draw_cases.lesion_recall(results) == "no lesion was recorded"


def test_dice_of_each_case_and_the_median(results):
    """Three cases of Dice 0.1, 0.2 and 0.9 and one without tumor; each further system 0.01 more."""
    results.cases[:] = [
        {
            "cohort": "test",
            "target": target,
            "threshold_rule": "roc",
            "model": model,
            "loss": loss,
            "case": case,
        }
        | {"tp": tp, "fn": "0", "dice": str(dice + 0.01 * index)}
        for index, (model, loss) in enumerate(SYSTEMS)
        for target in ("liver", "tumor")
        for case, tp, dice in (("a", "1", 0.9), ("b", "1", 0.1), ("c", "1", 0.2), ("d", "0", 0.5))
    ]
    figure = drawn(draw_cases.dice_by_case, results)
    assert titles(figure) == ["test, liver: 3 of 4 cases", "test, tumor: 3 of 4 cases"]
    for axes in figure.axes:
        points, bars = axes.lines[0::2], axes.lines[1::2]
        assert len(points) == len(bars) == 6
        for index, ((model, loss), point, bar) in enumerate(
            zip(SYSTEMS, points, bars, strict=True)
        ):
            np.testing.assert_allclose(
                sorted(point.get_ydata()), np.array([0.1, 0.2, 0.9]) + 0.01 * index
            )
            np.testing.assert_allclose(bar.get_ydata(), [0.2 + 0.01 * index] * 2)
            assert (point.get_marker(), same_color(point.get_color(), COLOURS[model])) == (
                MARKERS[loss],
                True,
            )
            assert np.mean(bar.get_xdata()) == index
    assert legend_of(figure) == [*NAMES, "median"]


def test_reliability_of_each_system(results):
    """fake_out: observed = predicted ** (1 + 0.3 i) in 15 bins, i of the systems by loss, then by model."""
    order = [
        (model, loss)
        for loss in ("ce", "balanced")
        for model in ("one_step", "sequential", "joint")
    ]
    predicted = (np.arange(15) + 0.5) / 15
    for curve in results.curves:
        curve["ece"] = 0.777  # that of all pixels must not be shown
    results.curves.reverse()
    figure = drawn(draw_cases.reliability, results)
    for axes in figure.axes:
        for one in SYSTEMS:
            (line,) = lines_of(axes, *one)
            np.testing.assert_allclose(line.get_xdata(), predicted)
            np.testing.assert_allclose(line.get_ydata(), predicted ** (1 + 0.3 * order.index(one)))
    shown = table_of(figure)
    assert list(shown) == NAMES
    for name, one in zip(NAMES, SYSTEMS, strict=True):
        assert shown[name] == [f"{0.1 + 0.02 * order.index(one):.3f}"] * 3
    assert titles(figure)[1] == "test\nn = 909,800 pixels, 7 cases"  # 900,000 and 14 times 700
    assert "expected calibration error" in everything(figure)
    assert "0.777" not in everything(figure)


def test_reliability_leaves_out_bins_of_few_pixels(results):
    for curve in results.curves:
        curve["reliability"]["n_pixels"][3:] = [99] * 12
    figure = drawn(draw_cases.reliability, results)
    assert len(lines_of(figure.axes[0], "joint", "ce")[0].get_xdata()) == 3


@pytest.mark.parametrize(
    ("draw", "target"), [(draw_roc.roc, "tumor"), (draw_roc.roc_liver, "liver")]
)
def test_roc_curves_and_areas_of_each_system(results, draw, target):
    for number, curve in enumerate(results.curves):
        curve["auc"], curve["rauc"] = 0.5 + number / 1000, 0.1 + number / 1000
        curve["points"]["roc"] |= {
            "fpr": 0.01 + number / 1000,
            "restricted_fpr": 0.2 + number / 1000,
        }
    curves = {
        (c["cohort"], c["model"], c["loss"]): c for c in results.curves if c["target"] == target
    }
    figure = drawn(draw, results)
    for column, cohort in enumerate(("validation", "test", "external")):
        for row, which in enumerate(("full", "restricted")):
            axes = figure.axes[3 * row + column]
            for one in SYSTEMS:
                (line,) = lines_of(axes, *one)
                np.testing.assert_allclose(line.get_ydata(), curves[cohort, *one][which]["tpr"])
            dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
            key = "fpr" if which == "full" else "restricted_fpr"
            np.testing.assert_allclose(
                dots, [curves[cohort, *one]["points"]["roc"][key] for one in SYSTEMS]
            )
            assert axes.get_legend() is None
    shown = table_of(figure)
    assert list(shown) == NAMES
    for name, one in zip(NAMES, SYSTEMS, strict=True):
        mine = [curves[cohort, *one] for cohort in ("validation", "test", "external")]
        assert shown[name] == [f"{c['auc']:.3f}" for c in mine] + [f"{c['rauc']:.3f}" for c in mine]
    # 21,000 and 962,040 pixels; inside 4,000 and 9,000 and one more for each further system
    assert titles(figure)[1] == "test, all pixels\nn = 983,040, 7 cases"
    assert titles(figure)[4] == "test, in (0.01, 0.99)\nn = 13,000 to 13,005"


def test_nothing_lies_over_the_table_or_the_notes(results):
    """No two texts below the panels overlap, nor does one leave the figure."""
    for draw in (draw_roc.roc, draw_cases.reliability):
        figure = drawn(draw, results)
        renderer = figure.canvas.get_renderer()
        boxes = [text.get_window_extent(renderer) for text in figure.texts]
        panels = [axes.get_tightbbox(renderer) for axes in figure.axes]
        legends = [legend.get_window_extent(renderer) for legend in figure.legends]
        everything = [*boxes, *panels, *legends]
        for index, box in enumerate(everything):
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1 + 1
            for other in everything[index + 1 :]:
                across = min(box.x1, other.x1) - max(box.x0, other.x0)
                along = min(box.y1, other.y1) - max(box.y0, other.y0)
                assert across <= 1 or along <= 3, (box, other)  # a pixel or so of antialiasing


def test_bars_and_whiskers(results):
    rows = {
        (r["target"], r["cohort"], r["model"], r["loss"]): r
        for r in results.rows
        if r["threshold_rule"] == "roc"
    }
    for number, row in enumerate(rows.values()):
        row.update(iou=0.3 + number / 100, n_patients=7)
        row.update(iou_low=row["iou"] - 0.07, iou_high=row["iou"] + 0.11)
    rows["tumor", "test", "joint", "ce"].update(iou_low=None, iou_high=None)
    figure = drawn(draw_scores.table1_bars, results)
    for axes, target in zip(figure.axes, ("liver", "tumor"), strict=True):
        wanted = [
            rows[target, cohort, *one]
            for cohort in ("validation", "test", "external")
            for one in SYSTEMS
        ]
        bars = sorted(axes.patches, key=lambda bar: bar.get_x())
        np.testing.assert_allclose(
            [bar.get_height() for bar in bars], [row["iou"] for row in wanted]
        )
        middles = [bar.get_x() + bar.get_width() / 2 for bar in bars]
        whiskers = {
            round(float(line.get_xdata()[0]), 6): list(line.get_ydata()) for line in axes.lines
        }
        for x, row in zip(middles, wanted, strict=True):
            known = whiskers.get(round(float(x), 6))
            assert known == (None if row["iou_low"] is None else [row["iou_low"], row["iou_high"]])
        values = sorted(axes.texts, key=lambda text: text.get_position()[0])
        assert [text.get_text() for text in values] == [f"{row['iou']:.2f}" for row in wanted]
    assert legend_of(figure) == NAMES
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks[1] == "test\n60 slices\n7 cases\n7 patients"


def test_learning_curves_of_the_joint_model(results):
    figure = drawn(draw_scores.learning_curves, results)
    assert titles(figure)[:4] == [
        "one-step network",
        "liver network $L$",
        "tumor network $T$",
        "joint: $L$ and $T$",
    ]
    (phase,) = [
        p for p in results.training["phases"] if (p["stage"], p["phase"]) == ("joint", "balanced")
    ]
    above, below = figure.axes[3], figure.axes[7]
    drawn_values = [list(line.get_ydata()) for line in (*above.lines, *below.lines)]
    for key in ("loss", "val_loss", "val_liver_iou", "val_tumor_iou", "val_tumor_iou_at_half"):
        assert [row[key] for row in phase["rows"]] in drawn_values


def test_thresholds_of_0_are_not_cut_off(results):
    for point in results.training["sweep"]["points"]:
        if point["thresholds"]:
            point["thresholds"] = {"0.5": 0.5, "roc": 0.0, "iou": 1.0}
    low, high = drawn(draw_scores.class_weight, results).axes[2].get_ylim()
    assert low < -0.03
    assert high > 1.03


def test_overlays_say_which_model_ranks_and_show_each(results):
    figure = drawn(draw_slices.overlays, results)
    assert len(figure.axes) == 3 * 5
    assert titles(figure)[2:5] == [
        "one-step: IoU 0.478",
        "sequential: IoU 0.700",
        "joint: IoU 0.700",
    ]
    assert "by the tumor IoU of the sequential model" in everything(figure)


def test_overlays_without_a_sequential_result(results):
    path = results.path / "examples.json"
    text = path.read_text().replace('"sequential": 0', '"sequential": null, "was": 0')
    path.write_text(text)
    figure = drawn(draw_slices.overlays, results)
    assert "by the tumor IoU of the one-step model" in everything(figure)
    assert titles(figure)[3] == "sequential"


@pytest.mark.parametrize("name", FIGURES)
def test_a_run_without_the_joint_model_has_no_trace_of_it(two, name):
    figure = drawn(FIGURES[name], two)
    assert "joint" not in everything(figure).lower()
    if name not in (
        "fig_class_weight",
        "fig_sequential_architecture",
        "fig_one_step_workflow",
        "fig_overlays",
    ):
        # green is that of the joint model there
        assert not any(
            same_color(line.get_color(), COLOURS["joint"]) for line in figure.findobj(Line2D)
        )
    for legend in figure.legends:
        assert all(text.get_text() for text in legend.get_texts())


def test_legends_of_two_models(two):
    assert legend_of(drawn(draw_scores.table1_bars, two)) == NAMES[:4]
    assert list(table_of(drawn(draw_roc.roc, two))) == NAMES[:4]
    assert len(drawn(draw_slices.overlays, two).axes) == 3 * 4
    assert len(drawn(draw_scores.learning_curves, two).axes) == 6
