"""The table of all systems: means over cases and pooled scores by hand, order, published columns, refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.command import InputError
from data.files import write_json
from evaluation import by_seed
from evaluation.by_seed import block, page, publish, read
from evaluation.comparison import (
    COMPARISON,
    SCHEMA,
    answers,
    caption,
    mean_of,
    order,
    summary,
    tables,
)
from evaluation.comparison_notes import blind, blind_dice, in_words
from evaluation.figures.systems import draw
from evaluation.metrics.statistics import bound_mean
from evaluation.publish import PUBLISHED, ROOT
from evaluation.published_numbers import NUMBERS, published_of
from training.systems import SYSTEMS

COST: dict[str, Any] = {
    "begins": "random",
    "trained_with": "320 slices",
    "parameters": 1000,
    "train_s": 60.0,
}
COST |= {"predicting_parameters": 900, "epochs": {"liver": [7, 10], "tumor": [1, 13]}}
COST |= {"peak_memory_mib": 900.0, "ms_per_slice": 5.0}
DATA = {"cohort": "phantom", "synthetic": True, "size": 64, "external": None, "split_sha256": "a"}
DATA |= {"nominal_spacing": False}
DATA |= {f"{name}_cases": 6 for name in ("train", "validation", "test")}
NAMES = ("segnet", "cdnn_alexnet_skips", "cdnn_alexnet", "one_step_ce")
Row = dict[str, Any]


def row(system: str, case: int, target: str, tp: int, fp: int, fn: int, assd: float | None) -> Row:
    head = {
        "system": system,
        "cohort": "test",
        "case": f"c{case}",
        "patient": f"p{case}",
        "n_slices": 1,
    }
    counts = {"target": target, "tp": tp, "fp": fp, "fn": fn, "tn": 100 - tp - fp - fn}
    return {**head, **counts, "dice": 2 * tp / max(2 * tp + fp + fn, 1), "assd_mm": assd}


def made(seed: int) -> Row:
    """Six cases; the last has no tumor; seed 1 finds a little more. SegNet gave no result in seed 1."""
    cases = []
    for name in NAMES:
        if (name, seed) == ("segnet", 1):
            continue
        for case in range(6):
            cases.append(row(name, case, "liver", 40 + seed, 10, 10, 2.0 + case))
            held = case < 5
            cases.append(
                row(name, case, "tumor", 6 * held, 4, 4 * held, 3.0 if held and case else None)
            )
    machine = {"trained_on": {"cores": 2, "processor": "EPYC"}, "document": "x", "settings": None}
    why = {("segnet", 1): "tumor collapsed: why"}
    weak = {"cdnn_alexnet": "tumor: background everywhere at a threshold of 0.5"}
    said = [{"why": why.get((name, seed), ""), "weak": weak.get(name, "")} for name in NAMES]
    systems = [
        {"system": name, **one, **COST, **machine} for name, one in zip(NAMES, said, strict=True)
    ]
    return {
        "schema": SCHEMA,
        "preset": "demo",
        "seed": seed,
        "data": DATA,
        "systems": systems,
        "cases": cases,
    }


FOUND = [made(0), made(1)]


def answer(target: str, system: str) -> Row:
    return next(one for one in answers(FOUND) if (one["target"], one["system"]) == (target, system))


def test_means_are_over_the_cases_that_hold_the_target() -> None:
    liver, tumor = answer("liver", "cdnn_alexnet"), answer("tumor", "cdnn_alexnet")
    assert liver["by_seed"] == pytest.approx([80 / 100, 82 / 102])
    assert liver["dice"].value == pytest.approx((80 / 100 + 82 / 102) / 2)
    assert liver["dice"].n_patients == 6
    assert liver["assd_mm"].value == pytest.approx(4.5)
    assert tumor["dice"].value == pytest.approx(12 / 20)
    assert tumor["dice"].n_patients == 5
    assert (tumor["n_valued"], tumor["n_cases"]) == (8, 10)
    assert tumor["assd_mm"].low is None  # four patients


def test_a_patient_with_several_cases_counts_once() -> None:
    """Patient a: three cases at 0.9; b: one at 0.1. The mean over patients is 0.5, that over cases 0.7."""
    rows = [{"patient": "a", "dice": 0.9}] * 3 + [
        {"patient": "b", "dice": 0.1},
        {"patient": "c", "dice": None},
    ]
    found = mean_of([rows], "dice")
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert found.n_patients == 2


def test_pooled_scores_count_every_case() -> None:
    """30 of 50 tumor voxels found, 24 found where none is, 520 of neither among 600."""
    pooled = answer("tumor", "cdnn_alexnet")["pooled"]
    assert pooled["sensitivity"].value == pytest.approx(30 / 50)
    assert pooled["dice"].value == pytest.approx(60 / (60 + 24 + 20))
    assert pooled["iou"].value == pytest.approx(30 / 74)
    assert pooled["accuracy"].value == pytest.approx((30 + 600 - 74) / 600)
    # Every patient has an accuracy, five of six have a tumor to be found; these are all alike.
    assert (pooled["accuracy"].n_counted, pooled["sensitivity"].n_counted) == (6, 5)
    assert pooled["accuracy"].low < pooled["accuracy"].value < pooled["accuracy"].high
    assert pooled["sensitivity"].low == pytest.approx(30 / 50)


def test_a_system_without_result_in_a_seed_says_so() -> None:
    found = answer("liver", "segnet")
    assert (found["n_seeds"], found["n_comparisons"]) == (1, 2)
    text = tables(FOUND)
    assert "0.800 (1 of 2 seeds)" in text
    lines = [line for line in text.splitlines() if line.startswith("| `segnet` | ")]
    assert all("(1 of 2 seeds)" in line for line in lines[:2]), "means and pooled scores"
    for shown in (text, summary(FOUND)):
        assert "Not a result:\n\n- tumor collapsed: why: `segnet` (seed 1)\n" in shown
        weak = "Weak on validation data:\n\n- tumor: background everywhere at a threshold of 0.5: `cdnn_alexnet` (s"
        assert weak in shown


def test_the_time_of_a_system_without_tumors_is_said_to_be_the_liver_s() -> None:
    assert "of the liver alone" not in tables(FOUND), "SegNet has no result at all in seed 1"
    short, failed = made(0), made(0)
    short["systems"][0]["why"] = "external: c9 has 8 slices, the 3D window takes 16"
    assert "of the liver alone" not in tables([short])
    failed["systems"][0]["why"] = "tumor collapsed: why"
    failed["cases"] = [
        one for one in failed["cases"] if (one["system"], one["target"]) != ("segnet", "tumor")
    ]
    for text in (tables([failed]), summary([failed])):
        assert "Prediction of `segnet`: of the liver alone." in text


def test_who_marks_the_whole_liver_has_this_dice() -> None:
    """Five cases: 50 voxels of liver, 10 of them tumor: 20 / 60; a patient's two cases count as one."""
    assert (
        blind(FOUND)
        == "Marking the whole reference liver as tumor gives a tumor DSC of: test 0.333. "
    )
    assert blind(FOUND) in summary(FOUND)
    assert blind(FOUND) in tables(FOUND)
    large = copy.deepcopy(FOUND[:1])
    for row in large[0]["cases"]:
        row["patient"] = "a" if row["case"] in ("c0", "c1") else "b"
        if row["target"] == "tumor" and row["case"] in ("c0", "c1"):
            row["tp"], row["fn"] = 20, 30  # the whole liver
    assert "test 0.667" in blind(large)  # 1 and 1/3


def test_systems_with_the_same_weakness_are_named_together() -> None:
    found = copy.deepcopy(FOUND)
    for value, one in zip(("0.421", "0.380"), found, strict=True):
        one["systems"][0]["weak"] = (
            f"tumor: no better than chance, AUC {value} among the pixels that could be tumor"
        )
        one["systems"][3]["weak"] = one["systems"][0]["weak"].replace(value, "0.5")
    words = "tumor: no better than chance, AUC among the pixels that could be tumor: "
    one, other = (
        in_words(found[0]["systems"][0]["system"]),
        in_words(found[0]["systems"][3]["system"]),
    )
    assert (
        f"{words}{one} 0.421 (seed 0), 0.380 (seed 1); {other} 0.5 (seed 0), 0.5 (seed 1)"
        in summary(found)
    )
    assert f"{words}{one} 0.421; {other} 0.5" in summary(found[:1])


def test_two_faults_of_a_system_are_named_apart() -> None:
    found = copy.deepcopy(FOUND[:1])
    chance = "no better than chance, AUC {} among the pixels that could be {}"
    both = [
        f"{target}: {chance.format(value, target)}"
        for target, value in (("liver", "0.4"), ("tumor", "0.3"))
    ]
    found[0]["systems"][0]["weak"] = "; ".join(both)
    found[0]["systems"][3]["weak"] = both[1]
    text = summary(found)
    assert (
        "liver: no better than chance, AUC among the pixels that could be liver: `segnet` 0.4\n"
        in text
    )
    assert (
        "AUC among the pixels that could be tumor: `segnet` 0.3; one-step, cross-entropy 0.3"
        in text
    )


def test_where_networks_begin_and_what_is_trained_along_is_said() -> None:
    found = copy.deepcopy(FOUND[:1])
    assert (
        "Networks begin: all here at random; those of Elmenabawy et al. with ImageNet weights."
        in summary(found)
    )
    found[0]["systems"][2]["begins"] = "weights of a file"
    assert (
        "Networks begin: `cdnn_alexnet` with the weights of a file, all others at random;"
        in tables(found)
    )
    assert "| 900 |  | 60 |" in tables(found)
    found[0]["systems"][0]["settings"] = {"vae_weight": 0.1}
    assert "| 900 | 100 | 60 |" in tables(found)


def test_the_order_is_the_paper_then_the_documents_with_their_variants() -> None:
    assert sorted(NAMES, key=order) == [
        "one_step_ce",
        "cdnn_alexnet",
        "cdnn_alexnet_skips",
        "segnet",
    ]
    labels = [
        "joint_balanced",
        "global_local_vae",
        "sequential_ce",
        "global_local",
        "sequential_balanced",
    ]
    assert sorted(labels, key=order) == [
        "sequential_ce",
        "sequential_balanced",
        "joint_balanced",
        "global_local",
        "global_local_vae",
    ]


def test_published_numbers_stand_beside_the_documented_system_alone() -> None:
    lines = {
        line.split("|")[1].strip(): line for line in tables(FOUND).split("\n\n")[1].splitlines()
    }
    assert "0.904 (2.65)" in lines["`cdnn_alexnet`"]
    assert "0.624 (4.98)" in lines["`cdnn_alexnet`"]
    assert "0.904" not in lines["`cdnn_alexnet_skips`"]
    assert "published, other split, real CT |" in tables(FOUND)
    assert "0.89, of which target is not said" in lines["`segnet`"]
    assert "SYNTHETIC PHANTOM" in caption(FOUND)


def test_the_readme_shows_dice_and_cost_of_every_system_in_one_table() -> None:
    lines = {
        line.split("|")[1].strip(): line
        for line in summary(FOUND).splitlines()
        if line.startswith("|")
    }
    assert [name for name in lines if name.startswith("`")] == [
        "`cdnn_alexnet`",
        "`cdnn_alexnet_skips`",
        "`segnet`",
    ]
    cells = [cell.strip() for cell in lines["`cdnn_alexnet`"].strip("|").split("|")]
    mean = (80 / 100 + 82 / 102) / 2
    assert cells[1].startswith(f"{mean:.3f} ± 0.003<br>")
    assert cells[2:] == ["0.600 ± 0.000<br>0.600 to 0.600", "0.904", "0.624", "900", "60", "5.0"]
    assert "test: 5 patients with tumor" in summary(FOUND)


def test_published_numbers_stand_beside_a_system_that_began_as_the_documented_one_did() -> None:
    for label, system in SYSTEMS.items():
        if label in NUMBERS:
            assert published_of(label, system.settings()) == NUMBERS[label]
        settings = system.settings()
        assert published_of("mine", {**settings, "weights_sha256": None}) is None
        pretrained = {**settings, "weights_sha256": "a"}
        if system.PRETRAINED:
            assert published_of("mine", pretrained) == NUMBERS[label]
            for other in ({"input": "standardised"}, {"optimizer": "adam"}, {"filters": 16}):
                assert published_of("mine", {**pretrained, **other}) is None
        else:
            assert published_of("mine", pretrained) is None
    alexnet = {**SYSTEMS["cdnn_alexnet"].settings(), "weights_sha256": "a"}
    assert published_of("cdnn_alexnet_skips", {**alexnet, "upsampling": "skips"}) is None
    assert published_of("mine", {**alexnet, "input": "windowed"}) == NUMBERS["cdnn_alexnet_plain"]
    assert published_of("one_step_ce", None) is None


def test_the_cost_table_says_which_epoch_was_kept() -> None:
    assert "| liver 7 of 10, tumor 1 of 13 |" in tables(FOUND)
    alone = copy.deepcopy(FOUND)
    for system in [system for one in alone for system in one["systems"]]:
        system["epochs"] = {"classes": [12, 13]}
    assert "| 12 of 13 |" in tables(alone)


def test_published_numbers_are_the_documents() -> None:
    """Elmenabawy et al., Table 1 and 2 (in percent there); Dhanush et al., Table 1; the pipeline's table."""
    liver, tumor = (
        {name: getattr(one, target) for name, one in NUMBERS.items()}
        for target in ("liver", "tumor")
    )
    assert liver == {
        "cdnn_alexnet": {"dice": 0.904, "assd_mm": 2.65},
        "cdnn_alexnet_plain": {"dice": 0.885, "assd_mm": 3.87},
        "cdnn_resnet18": {"dice": 0.842, "assd_mm": 3.65},
        "cdnn_resnet18_plain": {"dice": 0.823, "assd_mm": 4.21},
        "korabelnikov": {"dice": 0.887},
        "unet_dhanush": {"accuracy": 0.96, "sensitivity": 0.94, "dice": 0.76},
        "segnet": {"accuracy": 0.98, "sensitivity": 0.97, "dice": 0.89},
        "global_local": {"accuracy": 0.994, "dice": 0.942, "sensitivity": 0.955, "iou": 0.895},
    }
    assert tumor == {
        "cdnn_alexnet": {"dice": 0.624, "assd_mm": 4.98},
        "cdnn_alexnet_plain": {"dice": 0.597, "assd_mm": 5.32},
        "cdnn_resnet18": {"dice": 0.614, "assd_mm": 4.77},
        "cdnn_resnet18_plain": {"dice": 0.577, "assd_mm": 5.76},
        "korabelnikov": {"dice": 0.599},
        "unet_dhanush": {},
        "segnet": {},
        "global_local": {"accuracy": 0.995, "dice": 0.570, "sensitivity": 0.801, "iou": 0.460},
    }


def test_the_figure_draws_means_intervals_seeds_and_no_published_number_beside_a_phantom() -> None:
    for published in (False, True):
        figure = draw(answers(FOUND), caption(FOUND), not published)
        liver = figure.axes[0]
        assert ("SYNTHETIC" in liver.get_title()) != published
        drawn = {(line.get_marker(), *np.round(line.get_xdata(), 6)) for line in liver.lines}
        mean = answer("liver", "cdnn_alexnet")["dice"]
        assert ("o", round(mean.value, 6)) in drawn
        assert ("None", round(mean.low, 6), round(mean.high, 6)) in drawn
        assert (("D", 0.904) in drawn) == published
        assert ("D", NUMBERS["segnet"].liver["dice"]) not in drawn, "of which target is not said"


def test_the_figure_marks_what_guessing_gives() -> None:
    liver, tumor = draw(answers(FOUND), caption(FOUND), False, blind_dice(FOUND)).axes
    dotted = [
        [*map(float, line.get_xdata())] for line in tumor.lines if line.get_linestyle() == ":"
    ]
    assert dotted == [[pytest.approx(1 / 3)] * 2]
    assert not [line for line in liver.lines if line.get_linestyle() == ":"]


def test_the_interval_of_a_mean_draws_patients() -> None:
    values = [0.1, 0.4, 0.5, 0.6, 0.9]
    found = bound_mean(values)
    assert found.value == pytest.approx(0.5)
    assert found.low is not None
    assert found.high is not None
    # SD of a mean of five draws: sqrt of the mean square deviation 0.068 over 5, 0.117
    assert found.low == pytest.approx(0.5 - 1.96 * 0.117, abs=0.04)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.117, abs=0.04)
    assert bound_mean(values[:4]).low is None
    with pytest.raises(ValueError, match="at least one value"):
        bound_mean([])


def test_comparisons_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.json" for seed in range(2)]
    for path, content in zip(paths, FOUND, strict=True):
        write_json(path, content)
    assert [found["seed"] for found in read(COMPARISON, paths[::-1])] == [0, 1]
    for changed, words in (
        ({"preset": "mini"}, "preset is not that of"),
        ({"systems": []}, "other systems, or other settings"),
        ({"seed": 0}, "a seed comes twice"),
        (
            {"schema": SCHEMA - 1},
            f"of form {SCHEMA - 1}, not {SCHEMA}; evaluation.compare makes it anew",
        ),
        (
            {"left": ["segnet", "joint_ce"]},
            "segnet, joint_ce not scored yet; call evaluation.compare again",
        ),
        ({"cases": []}, "no system gave a result"),
    ):
        write_json(paths[1], {**FOUND[1], **changed})
        with pytest.raises(InputError, match=words):
            read(COMPARISON, paths)
    with pytest.raises(InputError, match=r"at least one comparison\.json"):
        read(COMPARISON, [])


def test_publish_rewrites_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: x -->\n<!-- end of results: x -->\n")
    monkeypatch.setattr(by_seed, "ROOT", tmp_path)
    monkeypatch.setattr(by_seed, "PUBLISHED", tmp_path / "published")
    for seed in range(2):
        write_json(tmp_path / f"{seed}.json", FOUND[seed])
    publish(COMPARISON, "x", [tmp_path / "0.json", tmp_path / "1.json"])
    assert block(COMPARISON, "x", FOUND) in readme.read_text()
    kept = {path.name for path in (tmp_path / "published" / "x").iterdir()}
    assert kept == {
        "comparison-seed0.json",
        "comparison-seed1.json",
        "comparison.md",
        "fig_comparison.png",
    }
    before = readme.read_text()
    publish(COMPARISON, "x", [])
    assert readme.read_text() == before
    publish(COMPARISON, "x", [tmp_path / "1.json"])  # beside seed 0, which lies there
    assert readme.read_text() == before
    write_json(tmp_path / "2.json", {**FOUND[0], "seed": 2, "preset": "mini"})
    with pytest.raises(InputError, match="preset is not that of"):
        publish(COMPARISON, "x", [tmp_path / "2.json"])
    assert {path.name for path in (tmp_path / "published" / "x").iterdir()} == kept


@pytest.mark.parametrize(
    "name", sorted({path.parent.name for path in PUBLISHED.glob("*/comparison-seed*.json")})
)
def test_readme_shows_the_published_records(name: str) -> None:
    found = read(COMPARISON, sorted((PUBLISHED / name).glob("comparison-seed*.json")))
    assert block(COMPARISON, name, found) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (PUBLISHED / name / "comparison.md").read_text(encoding="utf-8") == page(
        COMPARISON, found
    )
