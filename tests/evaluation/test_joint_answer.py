"""Table and figure of the joint loss's sweep, from counts made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.command import InputError
from data.files import write_json
from evaluation.by_seed import block, page, read
from evaluation.figures.joint import draw
from evaluation.joint_answer import (
    SCHEMA,
    SWEEP,
    answer,
    answers,
    best_on_validation,
    caption,
    summary,
    tables,
)
from evaluation.publish import PUBLISHED, ROOT

PATIENTS = [f"lits:volume-{n}" for n in range(6)]
POINTS = {
    "sequential": None,
    "one_step": None,
    "sweep_pair_1_hard": 1.0,
    "sweep_pair_0.1_hard": 0.1,
}
POINTS["sweep_pair_0.1"] = 0.1
POINTS["sweep_scratch_0.1"] = 0.1


def point(name: str, ratio: float | None) -> dict[str, Any]:
    alpha = None if ratio is None else 2 / (1 + ratio)
    start = next((start for start in ("pair", "scratch") if start in name), None)
    mask = "hard" if name.endswith("hard") else "probability"
    settings = {
        "start": start,
        "alpha": alpha,
        "beta": None if alpha is None else 2 - alpha,
        "mask": start and mask,
    }
    cost = {
        "train_s": 100.0,
        "environment": {"cores": 2, "processor": "EPYC", "git_commit": "0123456789abcdef"},
    }
    found = {
        "liver": 0.9,
        "tumor": {"sweep_scratch_0.1": 0.6, "sweep_pair_1_hard": 0.7, "sweep_pair_0.1": 0.55}.get(
            name, 0.5
        ),
    }
    return {"name": name, "why": "", "validation_iou": found, **settings, **cost}


def sweep(seed: int, tp: dict[str, int]) -> dict[str, Any]:
    """Tumor: of 10 pixels of each patient `tp` are found and nothing else; liver: 90 of 100, by all."""
    counts = []
    for name in POINTS:
        for patient in PATIENTS:
            head = {"point": name, "cohort": "test", "patient": patient, "fp": 0, "tn": 1000}
            found = tp.get(name, 5)
            counts.append({**head, "target": "tumor", "tp": found, "fn": 10 - found})
            counts.append({**head, "target": "liver", "tp": 90, "fn": 10})
    sets = {
        f"{name}_{what}": 6
        for name in ("train", "validation", "test")
        for what in ("cases", "slices")
    }
    data = {"cohort": "phantom", "synthetic": True, "size": 64, "external": None, **sets}
    points = [point(name, ratio) for name, ratio in POINTS.items()]
    head = {"schema": SCHEMA, "preset": "demo", "seed": seed, "data": data, "rule": "roc"}
    return {**head, "points": points, "counts": counts}


CONTROLS = {"sweep_pair_0.1_hard": 6, "sweep_pair_1_hard": 3}
SWEEPS = [
    sweep(0, {"sweep_pair_0.1": 7, "sequential": 4, **CONTROLS}),
    sweep(1, {"sweep_pair_0.1": 9, "sequential": 6, **CONTROLS}),
]


def test_scores_are_means_over_seeds_and_tests_are_by_patient() -> None:
    row = answer(SWEEPS, "test", "tumor", "sweep_pair_0.1")
    assert row["iou"] == pytest.approx(0.8)
    assert row["iou_sd"] == pytest.approx(np.std([0.7, 0.9], ddof=1))
    # Dice of 7 of 10 is 14 / 17, of 9 of 10 it is 18 / 19.
    assert row["dice"] == pytest.approx((14 / 17 + 18 / 19) / 2)
    assert (row["n_seeds"], row["n_counted"], row["start"]) == (2, 6, "pair")
    assert row["ratio"] == pytest.approx(0.1)
    # All patients alike: the interval is a point; 16 of 20 against 10 of 20.
    assert (row["iou_interval"].low, row["iou_interval"].high) == (
        pytest.approx(0.8),
        pytest.approx(0.8),
    )
    assert row["dice_interval"].low == pytest.approx((14 / 17 + 18 / 19) / 2)
    against = row["against_pair"]
    assert against.difference.value == pytest.approx(16 / 20 - 10 / 20)
    assert (against.better, against.worse, against.difference.n_patients) == (6, 0, 6)
    assert against.p_value == pytest.approx(2 / 2**6)
    # The control of the same ratio, which finds 6 of 10 in both seeds.
    assert row["against_control"].difference.value == pytest.approx(16 / 20 - 12 / 20)
    # The control that validation data prefers has ratio 1 and finds 3 of 10.
    assert row["against_preferred"].difference.value == pytest.approx(16 / 20 - 6 / 20)
    for name in ("sequential", "sweep_pair_0.1_hard", "sweep_scratch_0.1"):
        assert answer(SWEEPS, "test", "tumor", name)["against_control"] is None
        assert (answer(SWEEPS, "test", "tumor", name)["against_preferred"] is None) == (
            name != "sweep_scratch_0.1"
        )
    assert answer(SWEEPS, "test", "tumor", "sequential")["against_pair"] is None


def test_a_seed_that_failed_does_not_count() -> None:
    failed = sweep(1, {})
    failed["counts"] = [row for row in failed["counts"] if row["point"] != "sweep_scratch_0.1"]
    row = answer([SWEEPS[0], failed], "test", "tumor", "sweep_scratch_0.1")
    assert (row["n_seeds"], row["iou"], row["iou_sd"]) == (1, 0.5, None)
    nothing = answer([failed], "test", "tumor", "sweep_scratch_0.1")
    assert (nothing["n_seeds"], nothing["iou"], nothing["against_pair"]) == (0, None, None)
    assert "no result" in tables([failed])
    without = sweep(1, CONTROLS)
    without["counts"] = [row for row in without["counts"] if row["point"] != "sweep_pair_0.1_hard"]
    assert "+0.100 (+0.100 to +0.100), p 0.031 (1 of 2 seeds)" in tables([SWEEPS[0], without])
    assert "0.500<br>0.500 to 0.500" not in tables([SWEEPS[0], failed])
    assert "0.500 (1 of 2 seeds)<br>0.500 to 0.500" in tables([SWEEPS[0], failed])


def test_the_table_says_what_was_measured() -> None:
    text = tables(SWEEPS)
    assert "Test, 6 patients with tumor:" in text
    line = next(
        line for line in text.splitlines() if "joint from the pair, beta / alpha 0.1 " in line
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == "0.725"
    assert cells[2:4] == ["0.900 ± 0.000<br>0.900 to 0.900", "0.947 ± 0.000<br>0.947 to 0.947"]
    # Dice by seed 14 / 17 and 18 / 19
    assert cells[4:6] == ["0.800 ± 0.141<br>0.800 to 0.800", "0.885 ± 0.088<br>0.885 to 0.885"]
    assert cells[6] == "+0.300 (+0.300 to +0.300), p 0.031"
    assert cells[7] == "+0.200 (+0.200 to +0.200), p 0.031"
    assert cells[8] == "+0.500 (+0.500 to +0.500), p 0.031"
    assert cells[9:] == ["+0.000 (+0.000 to +0.000)"] * 3
    # The best on validation data among the joint points, not the best on the test set, and not the control.
    assert best_on_validation(SWEEPS) == "sweep_scratch_0.1"
    assert text.count("**0.750**") == 1
    assert "hard mask (control)" in text
    assert "phantom, SYNTHETIC PHANTOM, 64 px" in caption(SWEEPS)
    assert "seed 0, 1" in caption(SWEEPS)
    assert "trained at commit 0123456789." in caption(SWEEPS)


def test_the_readme_shows_what_validation_data_prefers_and_what_it_is_held_against() -> None:
    """A worse point of the same start stands on the page alone."""
    worse = {**point("sweep_pair_10", 10.0), "validation_iou": {"liver": 0.9, "tumor": 0.4}}
    sweeps = []
    for one in SWEEPS:
        counts = [
            {**row, "point": "sweep_pair_10"} for row in one["counts"] if row["point"] == "one_step"
        ]
        sweeps.append(
            {**one, "points": [*one["points"], worse], "counts": [*one["counts"], *counts]}
        )
    lines = [line for line in summary(sweeps).splitlines() if line.startswith("| test")]
    assert [line.split("|")[2].strip() for line in lines] == [
        "sequential",
        "one-step",
        "joint from the pair, beta / alpha 1, hard mask (control)",
        "joint from the pair, beta / alpha 0.1, hard mask (control)",
        "joint from the pair, beta / alpha 0.1",
        "joint from scratch, beta / alpha 0.1",
    ]
    assert all(line.startswith("| test, 6 patients with tumor |") for line in lines)
    assert "0.800 ± 0.141<br>0.800 to 0.800 | +0.300 (+0.300 to +0.300), p 0.031" in lines[4]
    assert "**0.750**" in lines[5]
    shown = block(SWEEP, "joint-demo", sweeps)
    assert shown.startswith("<!-- results: joint-demo -->")
    assert "(evaluation/published/joint-demo/joint.md)" in shown
    assert "beta / alpha 10 |" in page(SWEEP, sweeps)


def test_a_sweep_without_controls_has_no_columns_for_them() -> None:
    sweeps = []
    for one in SWEEPS:
        points = [point for point in one["points"] if point["mask"] != "hard"]
        counts = [row for row in one["counts"] if not row["point"].endswith("hard")]
        sweeps.append({**one, "points": points, "counts": counts})
    for text in (tables(sweeps), summary(sweeps)):
        heading = next(line for line in text.splitlines() if line.startswith("|"))
        assert "tumor IoU - sequential" in heading
        assert "- control" not in heading
        assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_figure_draws_the_means() -> None:
    figure = draw(answers(SWEEPS), caption(SWEEPS))
    liver, tumor = figure.axes
    drawn = {(line.get_marker(), *np.round(line.get_ydata(), 6)) for line in tumor.lines}
    assert ("o", 0.8) in drawn, "from the pair"
    assert ("^", 0.5) in drawn, "from scratch"
    assert ("s", 0.6, 0.3) in drawn, "the controls"
    assert ("o", 0.7, 0.9) in drawn, "each seed"
    assert ("None", 0.5, 0.5) in drawn, "sequential, as a line"
    assert len(liver.lines) == len(tumor.lines)
    assert any("SYNTHETIC PHANTOM" in text.get_text() for text in figure.texts)
    kinds = [text.get_text().split(",")[0].split(":")[0] for text in figure.legends[0].get_texts()]
    assert kinds == ["joint", "joint", "control", "sequential", "one-step", "small"]
    scratch = [row for row in answers(SWEEPS) if row["start"] == "scratch"]
    failed = draw(
        [*answers(SWEEPS), {**scratch[0], "iou": None, "ratio": 10.0, "iou_by_seed": []}], ""
    )
    assert [text.get_text() for text in failed.axes[0].texts] == ["no result"]
    texts = [text.get_text() for text in draw(scratch, "").legends[0].get_texts()]
    assert texts == ["joint, from scratch", "small: each seed"]


def test_sweeps_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.json" for seed in range(2)]
    for path, content in zip(paths, SWEEPS, strict=True):
        write_json(path, content)
    assert [found["seed"] for found in read(SWEEP, paths[::-1])] == [0, 1]
    with pytest.raises(InputError, match="a seed comes twice"):
        read(SWEEP, [paths[0], paths[0]])
    write_json(paths[1], {**SWEEPS[1], "preset": "mini"})
    with pytest.raises(
        InputError, match=r"1\.json: preset is not that of .*0\.json; only the seed may differ"
    ):
        read(SWEEP, paths)
    write_json(paths[1], {**SWEEPS[1], "points": []})
    with pytest.raises(InputError, match=r"1\.json: other points than"):
        read(SWEEP, paths)
    strangers = [{**row, "patient": f"x{row['patient']}"} for row in SWEEPS[1]["counts"]]
    write_json(paths[1], {**SWEEPS[1], "counts": strangers})
    with pytest.raises(InputError, match=r"1\.json: other patients than"):
        read(SWEEP, paths)
    with pytest.raises(InputError, match=r"at least one joint_sweep\.json"):
        read(SWEEP, [])


@pytest.mark.parametrize(
    "name", sorted({path.parent.name for path in PUBLISHED.glob("*/joint_sweep-seed*.json")})
)
def test_readme_shows_the_published_records(name: str) -> None:
    sweeps = read(SWEEP, sorted((PUBLISHED / name).glob("joint_sweep-seed*.json")))
    assert block(SWEEP, name, sweeps) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (PUBLISHED / name / "joint.md").read_text(encoding="utf-8") == page(SWEEP, sweeps)
