"""What the figures show is what was recorded: values, looks, samples, each by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.lines import Line2D

from evaluation.figures.registry import FIGURES
from evaluation.results import Results, read_results
from evaluation.score_table import ScoreRow, make_table, select
from tests.evaluation.fake_out import PAIRS as RECORDED
from tests.evaluation.fake_out import write_out
from tests.evaluation.figures.reading import (
    COLOURS,
    NAMES,
    PAIRS,
    check_marker,
    draw,
    find_line,
    read_legend,
    read_table,
    read_texts,
    read_titles,
)

COHORTS = ("validation", "test", "external")


@pytest.fixture
def results(tmp_path) -> Results:
    return read_results(write_out(tmp_path / "out"))


@pytest.fixture
def paper_results(tmp_path) -> Results:
    """Results without the joint model."""
    return read_results(write_out(tmp_path / "paper", joint=False))


def bound_wilson(part: int, n: int) -> tuple[float, float]:
    z = 1.959964
    middle, p = (part + z**2 / 2) / (n + z**2), part / n
    half = z / (n + z**2) * (n * p * (1 - p) + z**2 / 4) ** 0.5
    return middle - half, middle + half


def test_lesion_recall_of_each_system(results):
    """System i touched i of ten lesions below 10 mm, and 5 - i of five above 30 mm."""
    lesions = [
        {"cohort": "test", "case": "1", "system": system, "phase": phase, "kind": "lesion"}
        | {"diameter_mm": mm, "iou": 0.5 * (n < touched), "touched": n < touched}
        for index, (system, phase) in enumerate(PAIRS)
        for mm, touched, total in ((5, index, 10), (40, 5 - index, 5))
        for n in range(total)
    ]
    figure = draw("fig_lesion_recall", dataclasses.replace(results, lesions=pd.DataFrame(lesions)))
    (axes,) = figure.axes
    assert len(axes.containers) == 6
    for index, (pair, container) in enumerate(zip(PAIRS, axes.containers, strict=True)):
        points, _, (bars,) = container
        np.testing.assert_allclose(points.get_ydata(), [index / 10, (5 - index) / 5])
        assert [round(x) for x in points.get_xdata()] == [0, 3]
        assert points.get_linestyle() == "None"
        check_marker(points, *pair)
        bounds = [[low, high] for (_, low), (_, high) in bars.get_segments()]
        expected = [bound_wilson(index, 10), bound_wilson(5 - index, 5)]
        np.testing.assert_allclose(bounds, expected, atol=1e-6)
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["< 10 mm\nn = 10", "10-20\nn = 0", "20-30\nn = 0", "> 30\nn = 5"]
    assert read_titles(figure) == ["test: 15 lesions of 1 case"]
    assert read_legend(figure) == NAMES
    assert "Wilson 95 % intervals" in read_texts(figure)
    assert "Not drawn, no lesion recorded: validation, external." in read_texts(figure)


def test_cohorts_with_lesions_alone_are_drawn(results):
    lesions = results.lesions
    external = lesions[(lesions["cohort"] == "external") | (lesions["kind"] != "lesion")]
    figure = draw("fig_lesion_recall", dataclasses.replace(results, lesions=external))
    assert read_titles(figure) == ["external: 16 lesions of 2 cases"]
    for none in (select(external, kind="false positive"), pd.DataFrame()):
        without = dataclasses.replace(results, lesions=none)
        assert FIGURES["fig_lesion_recall"].draw(without) == "no lesion was recorded"


def test_dice_of_each_case_and_the_median(results):
    """Dice 0.1, 0.2, 0.9 and a case without tumor; each further system 0.01 more."""
    head = {"seed": 0, "rule": "roc", "cohort": "test", "unit": "slices", "patient": "p"}
    rows = [
        ScoreRow(**head, system=system, phase=phase, target=target, case=case, n_slices=1, **counts)
        for index, (system, phase) in enumerate(PAIRS)
        for target in ("liver", "tumor")
        for case, hundredths in (("a", 90), ("b", 10), ("c", 20), ("d", None))
        # 2 tp / (2 tp + fp + fn) of 100 pixels predicted and 100 in the reference.
        for tp in [None if hundredths is None else hundredths + index]
        for counts in [
            {"tp": 0, "fp": 9, "fn": 0, "tn": 99}
            if tp is None
            else {"tp": tp, "fp": 100 - tp, "fn": 100 - tp, "tn": 0}
        ]
    ]
    figure = draw("fig_dice_by_case", dataclasses.replace(results, scores=make_table(rows)))
    assert read_titles(figure) == ["test, liver: 3 of 4 cases", "test, tumor: 3 of 4 cases"]
    for axes in figure.axes:
        points, bars = axes.lines[0::2], axes.lines[1::2]
        assert len(points) == len(bars) == 6
        for index, (pair, point, bar) in enumerate(zip(PAIRS, points, bars, strict=True)):
            expected = np.array([0.1, 0.2, 0.9]) + 0.01 * index
            np.testing.assert_allclose(sorted(point.get_ydata()), expected)
            np.testing.assert_allclose(bar.get_ydata(), [0.2 + 0.01 * index] * 2)
            check_marker(point, *pair)
            assert np.mean(bar.get_xdata()) == index
    assert read_legend(figure) == [*NAMES, "median"]


def test_reliability_of_each_system(results):
    """fake_out: observed = predicted ** (1 + 0.3 i), i of the systems as recorded."""
    predicted = (np.arange(15) + 0.5) / 15
    for curve in results.curves:
        curve["ece"] = 0.777  # that of all pixels must not be shown
    results.curves.reverse()
    figure = draw("fig_reliability", results)
    for axes in figure.axes:
        for pair in PAIRS:
            line = find_line(axes, *pair)
            np.testing.assert_allclose(line.get_xdata(), predicted)
            power = 1 + 0.3 * RECORDED.index(pair)
            np.testing.assert_allclose(line.get_ydata(), predicted**power)
    errors = {
        name: [f"{0.1 + 0.02 * RECORDED.index(pair):.3f}"] * 3
        for name, pair in zip(NAMES, PAIRS, strict=True)
    }
    assert list(read_table(figure).items()) == list(errors.items())
    # 900,000 and 14 times 700
    assert read_titles(figure)[1] == "test\nn = 909,800 pixels, 7 cases"
    assert "expected calibration error" in read_texts(figure)
    assert "0.777" not in read_texts(figure)


def test_reliability_leaves_out_bins_of_few_pixels(results):
    for curve in results.curves:
        curve["reliability"]["n_pixels"][3:] = [99] * 11 + [0]
        curve["reliability"]["observed"][-1] = None  # a bin without pixels
    figure = draw("fig_reliability", results)
    assert len(find_line(figure.axes[0], "joint", "ce").get_xdata()) == 3


@pytest.mark.parametrize(("name", "target"), [("fig_roc", "tumor"), ("fig_roc_liver", "liver")])
def test_roc_curves_and_areas_of_each_system(results, name, target):
    for number, curve in enumerate(results.curves):
        step = number / 1000
        curve |= {"auc": 0.5 + step, "rauc": 0.1 + step}
        curve["points"]["roc"] |= {"fpr": 0.01 + step, "restricted_fpr": 0.2 + step}
    of_target = [curve for curve in results.curves if curve["target"] == target]
    curves = {(curve["cohort"], curve["system"], curve["phase"]): curve for curve in of_target}
    figure = draw(name, results)
    for column, cohort in enumerate(COHORTS):
        for row, (part, key) in enumerate((("full", "fpr"), ("restricted", "restricted_fpr"))):
            axes = figure.axes[3 * row + column]
            for pair in PAIRS:
                line = find_line(axes, *pair)
                np.testing.assert_allclose(line.get_ydata(), curves[cohort, *pair][part]["tpr"])
            dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
            chosen = [curves[cohort, *pair]["points"]["roc"][key] for pair in PAIRS]
            np.testing.assert_allclose(dots, chosen)
            assert axes.get_legend() is None
    areas = {
        label: [
            f"{curves[cohort, *pair][area]:.3f}" for area in ("auc", "rauc") for cohort in COHORTS
        ]
        for label, pair in zip(NAMES, PAIRS, strict=True)
    }
    assert list(read_table(figure).items()) == list(areas.items())
    # 21,000 and 962,040 pixels; inside 4,000 and 9,000 and one more for each further system
    assert read_titles(figure)[1] == "test, all pixels\nn = 983,040, 7 cases"
    assert read_titles(figure)[4] == "test, in (0.01, 0.99)\nn = 13,000 to 13,005"


@pytest.mark.parametrize("name", ["fig_roc", "fig_reliability"])
def test_nothing_lies_over_the_table_or_the_notes(results, name):
    """No two texts below the panels overlap, nor does one leave the figure."""
    figure = draw(name, results)
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    boxes += [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    for index, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1 + 1
        for second in boxes[index + 1 :]:
            across = min(box.x1, second.x1) - max(box.x0, second.x0)
            along = min(box.y1, second.y1) - max(box.y0, second.y0)
            assert across <= 1 or along <= 3, (box, second)  # a pixel or so of antialiasing


def test_bars_and_whiskers(results):
    """The IoU of bar n is 0.3 + n / 100, from 0.07 below to 0.11 above; one has none."""
    keys = [
        {"target": target, "cohort": cohort, "system": system, "phase": phase}
        for target in ("liver", "tumor")
        for cohort in COHORTS
        for system, phase in PAIRS
    ]
    rows = [
        {**key, "rule": "roc", "iou": iou, "iou_low": iou - 0.07, "iou_high": iou + 0.11}
        | {"n_patients": 7}
        for key, iou in zip(keys, 0.3 + np.arange(36) / 100, strict=True)
    ]
    rows[28] |= {"iou_low": None, "iou_high": None}
    figure = draw("fig_table1_bars", dataclasses.replace(results, recorded={"table1": rows}))
    for axes, expected in zip(figure.axes, (rows[:18], rows[18:]), strict=True):
        bars = sorted(axes.patches, key=lambda bar: bar.get_x())
        values = [row["iou"] for row in expected]
        np.testing.assert_allclose([bar.get_height() for bar in bars], values)
        whiskers = {round(float(line.get_xdata()[0]), 6): line for line in axes.lines}
        for bar, row in zip(bars, expected, strict=True):
            whisker = whiskers.get(round(float(bar.get_x() + bar.get_width() / 2), 6))
            bounds = None if row["iou_low"] is None else [row["iou_low"], row["iou_high"]]
            assert (None if whisker is None else list(whisker.get_ydata())) == bounds
        texts = sorted(axes.texts, key=lambda text: text.get_position()[0])
        assert [text.get_text() for text in texts] == [f"{value:.2f}" for value in values]
    assert read_legend(figure) == NAMES
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks[1] == "test\n60 slices\n7 cases\n7 patients"


def test_learning_curves_of_the_joint_model(results):
    figure = draw("fig_learning_curves", results)
    networks = ["one-step network", "liver network $L$", "tumor network $T$", "joint: $L$ and $T$"]
    assert read_titles(figure)[:4] == networks
    (phase,) = (
        phase
        for phase in results.training["phases"]
        if (phase["system"], phase["phase"]) == ("joint", "balanced")
    )
    lines = [*figure.axes[3].lines, *figure.axes[7].lines]
    values = [list(line.get_ydata()) for line in lines]
    for key in ("loss", "val_loss", "val_liver_iou", "val_tumor_iou", "val_tumor_iou_at_half"):
        assert [row[key] for row in phase["rows"]] in values


def test_thresholds_of_0_are_not_cut_off(results):
    for point in results.training["sweep"]["points"]:
        if point["thresholds"]:
            point["thresholds"] = {"0.5": 0.5, "roc": 0.0, "iou": 1.0}
    low, high = draw("fig_class_weight", results).axes[2].get_ylim()
    assert low < -0.03
    assert high > 1.03


def test_overlays_say_which_model_ranks_and_show_each(results):
    figure = draw("fig_overlays", results)
    assert len(figure.axes) == 3 * 5
    systems = ["one-step: IoU 0.478", "sequential: IoU 0.700", "joint: IoU 0.700"]
    assert read_titles(figure)[2:5] == systems
    assert "by the tumor IoU of the sequential model" in read_texts(figure)


def test_overlays_without_a_sequential_result(results):
    path = results.path / "examples.json"
    path.write_text(path.read_text().replace('"sequential": 0', '"sequential": null, "was": 0'))
    figure = draw("fig_overlays", results)
    assert "by the tumor IoU of the one-step model" in read_texts(figure)
    assert read_titles(figure)[3] == "sequential"


@pytest.mark.parametrize("name", FIGURES)
def test_a_run_without_the_joint_model_has_no_trace_of_it(paper_results, name):
    figure = draw(name, paper_results)
    assert "joint" not in read_texts(figure).lower()
    of_other_things = ("fig_class_weight", "fig_sequential_architecture", "fig_one_step_workflow")
    if name not in (*of_other_things, "fig_overlays"):  # where green is not the joint model's
        lines = figure.findobj(Line2D)
        assert not any(same_color(line.get_color(), COLOURS["joint"]) for line in lines)
    for legend in figure.legends:
        assert all(text.get_text() for text in legend.get_texts())


def test_legends_of_two_models(paper_results):
    assert read_legend(draw("fig_table1_bars", paper_results)) == NAMES[:4]
    assert list(read_table(draw("fig_roc", paper_results))) == NAMES[:4]
    assert len(draw("fig_overlays", paper_results).axes) == 3 * 4
    assert len(draw("fig_learning_curves", paper_results).axes) == 6


@pytest.mark.parametrize("name", FIGURES)
def test_a_system_from_outside_has_a_look_of_its_own(paper_results, name):
    """Two registered systems in Table 1, under names that no figure knows."""
    outside = {"attention_unet": "ce", "segnet": "train"}

    def extend(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        known = [e for e in entries if (e["system"], e["phase"]) == ("one_step", "ce")]
        return entries + [
            {**entry, "system": system, "phase": phase}
            for system, phase in outside.items()
            for entry in known
        ]

    summary, training = (
        {**content, key: extend(content[key])}
        for content, key in ((paper_results.summary, "systems"), (paper_results.training, "phases"))
    )
    scores, lesions = (
        pd.DataFrame(extend(table.to_dict("records")))
        for table in (paper_results.scores, paper_results.lesions)
    )
    curves = extend(paper_results.curves)
    results = Results(paper_results.path, summary, training, scores, curves, lesions)
    figure = draw(name, results)
    if name in ("fig_roc", "fig_reliability", "fig_table1_bars", "fig_dice_by_case"):
        texts = read_texts(figure).splitlines()
        assert {"attention_unet, cross-entropy", "segnet"} <= set(texts)
    if name == "fig_learning_curves":
        titles = read_titles(figure)
        assert {"attention_unet, classes", "segnet, classes"} <= set(titles)
