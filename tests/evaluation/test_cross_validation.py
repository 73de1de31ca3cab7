"""Tables of cross-validated systems: means by hand, counts, what is named, and the README's blocks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from data.command import InputError
from data.files import write_json
from evaluation import cross_validation
from evaluation.cross_validation import (
    SCHEMA,
    block,
    caption,
    captions,
    differences,
    page,
    publish,
    read,
    summary,
    table,
    together,
)
from evaluation.publish import PUBLISHED, ROOT
from evaluation.published_numbers import NUMBERS

Row = dict[str, Any]


def case(name: str, target: str, dice: float | None, assd: float | None) -> Row:
    return {
        "case": name,
        "patient": name,
        "target": target,
        "tp": int(dice is not None),
        "fn": 0,
        "dice": dice,
    } | {"assd_mm": assd}


def made(system: str = "cdnn_alexnet") -> Row:
    """Two folds of three cases; one case has no tumor, in one nothing was found."""
    folds = []
    for number in (1, 2):
        cases = []
        for place in range(3):
            name = f"c{number}{place}"
            cases.append(case(name, "liver", 0.5 + 0.1 * number, 2.0 * number))
            empty = (number, place) == (1, 0)
            found = (number, place) != (2, 0)
            cases.append(
                case(
                    name,
                    "tumor",
                    None if empty else 0.4 * found,
                    8.0 if found and not empty else None,
                )
            )
        weak = "tumor: background everywhere at 0.5" if number == 2 else ""
        fold = {
            "fold": number,
            "why": "",
            "weak": weak,
            "trained_with": "320 slices",
            "test_cases": 3,
            "cases": cases,
        }
        fold |= {"validation_cases": 1, "train_s": 90.0 * number}
        folds.append({**fold, "store_sha256": f"fold {number}"})
    settings = {
        "weights_sha256": None,
        "filters": 16,
        "epochs": 13,
        "batch_size": 4,
        "learning_rate": 0.01,
    }
    data = {
        "cohort": "phantom",
        "synthetic": True,
        "size": 64,
        "split_by": "patient",
        "nominal_spacing": False,
    }
    environment = {"cores": 2, "processor": "EPYC"}
    record = {
        "schema": SCHEMA,
        "system": system,
        "settings": settings,
        "preset": "demo",
        "seed": 0,
        "data": data,
    }
    return {**record, "environment": environment, "folds": folds}


def line(text: str, start: str) -> list[str]:
    found = next(row for row in text.splitlines() if row.startswith(f"| {start}"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_means_are_per_fold_and_over_all_patients() -> None:
    text = table(made())
    assert line(text, "fold 1") == ["fold 1", "3", "3", "2", "0.600", "2.00", "0.400", "8.00"]
    assert line(text, "fold 2") == ["fold 2", "3", "3", "3", "0.700", "4.00", "0.267", "8.00"]
    every = line(text, "**all**")
    assert every[1:4] == ["6", "6", "5"]
    assert [cell.split("<br>")[0] for cell in every[4:]] == ["0.650", "3.00", "0.320", "8.00"]
    assert ["<br>" in cell for cell in every[4:]] == [
        True,
        True,
        True,
        False,
    ]  # four patients have a tumor's ASSD
    assert "Weak on validation data: fold 2: tumor: background everywhere at 0.5.\n" in text
    assert "Not a result" not in text


def test_a_patient_with_two_cases_counts_once() -> None:
    record = copy.deepcopy(made())
    for row in record["folds"][1]["cases"]:
        if row["target"] == "tumor":
            row["dice"] = {"c20": 0.0, "c21": 0.2, "c22": 0.5}[row["case"]]
        row["patient"] = "c22" if row["case"] == "c22" else "both"
    text = table(record)
    assert line(text, "fold 2")[1:4] == ["3", "2", "3"]
    assert line(text, "fold 2")[6] == "0.300"  # of 0.1 and 0.5


def test_published_numbers_stand_below_the_documented_system_alone() -> None:
    said = NUMBERS["cdnn_alexnet"]
    numbers = [
        f"{score[key]:g}" for score in (said.liver, said.tumor) for key in ("dice", "assd_mm")
    ]
    assert line(table(made()), "published, other split, real CT")[4:] == numbers
    assert "ImageNet" in table(made())
    assert "published" not in table(made("cdnn_alexnet_skips"))
    unclear = table(made("segnet"))
    assert "| published" not in unclear
    assert (
        f"Published: DSC of `segnet` {NUMBERS['segnet'].liver['dice']:g}; {NUMBERS['segnet'].where}.\n"
        in unclear
    )
    assert "ImageNet" not in unclear + table(made("global_local"))
    assert (
        line(table(made("global_local")), "published")[4]
        == f"{NUMBERS['global_local'].liver['dice']:g}"
    )


def test_a_fold_without_a_result_and_nominal_spacing_are_named() -> None:
    record = copy.deepcopy(made())
    record["folds"][0] |= {"why": "tumor diverged", "cases": []}
    record["data"]["nominal_spacing"] = True
    text = table(record)
    assert line(text, "fold 1")[1:] == ["3", "", "", *["no result"] * 4]
    every = line(text, "**all**")
    assert every[:5] == ["**all**", "6", "3", "3", "0.700 (1 of 2 folds)"]
    assert every[7] == "8.00 (1 of 2 folds)"
    assert "Not a result: fold 1: tumor diverged.\n" in text
    assert "No distances" in text


def test_a_fold_whose_tumor_network_failed_keeps_its_livers() -> None:
    record = copy.deepcopy(made("unet_dhanush"))
    kept = [row for row in record["folds"][0]["cases"] if row["target"] == "liver"]
    record["folds"][0] |= {"why": "tumor collapsed", "cases": kept}
    text = table(record)
    assert line(text, "fold 1")[1:] == ["3", "3", "", "0.600", "2.00", "no result", "no result"]
    cells = [cell.split("<br>")[0] for cell in line(text, "**all**")[4:]]
    assert cells == ["0.650", "3.00", "0.267 (1 of 2 folds)", "8.00 (1 of 2 folds)"]
    assert "Not a result: fold 1: tumor collapsed.\n" in text


def test_the_caption_names_the_epochs_of_the_tumor_s_network() -> None:
    assert "filters 16, epochs 13, batch_size 4" in caption(made())
    longer = made("global_local")
    longer["settings"]["tumor_epochs"] = 60
    assert "epochs 13, tumor_epochs 60, batch_size 4" in caption(longer)


def test_a_summary_has_a_line_per_system() -> None:
    text = summary([made(), made("cdnn_alexnet_skips")])
    said = NUMBERS["cdnn_alexnet"]
    cells = [cell.split("<br>")[0] for cell in line(text, "`cdnn_alexnet`")]
    assert cells[1:5] == ["0.650", "0.600, 0.700", "3.00", f"{said.liver['dice']:g}"]
    assert cells[5:9] == ["0.320", "0.400, 0.267", "8.00", f"{said.tumor['dice']:g}"]
    assert cells[9:] == ["0, 1 of 2", "4"]  # minutes: 90 s + 180 s
    skips = line(text, "`cdnn_alexnet_skips`")
    assert [skips[4], skips[8]] == ["", ""]
    assert "6 cases of 6 patients, 5 cases with tumor." in text
    assert text.count("\nPublished: ") == 1
    assert "Not a result" not in text


def test_a_target_that_nobody_finds_has_its_dice_alone() -> None:
    record = made()
    for row in [
        row for fold in record["folds"] for row in fold["cases"] if row["target"] == "tumor"
    ]:
        row |= {
            "tp": 0,
            "fn": row["tp"] + row["fn"],
            "dice": None if row["dice"] is None else 0.0,
            "assd_mm": None,
        }
    head = summary([record]).splitlines()[0]
    assert [cell.strip() for cell in head.split("|") if "tumor DSC" in cell] == [
        "tumor DSC",
        "tumor DSC published, other split, real CT",
    ]
    assert "tumor ASSD" not in head
    assert "liver DSC of each fold" in head


def test_a_summary_names_folds_without_a_result_and_leaves_nominal_distances_out() -> None:
    record = made()
    record["folds"][0] |= {"why": "tumor diverged", "cases": []}
    record["data"]["nominal_spacing"] = True
    text = summary([record])
    assert "ASSD" not in text.splitlines()[0]
    assert line(text, "`cdnn_alexnet`")[1] == "0.700 (1 of 2 folds)"
    assert line(text, "`cdnn_alexnet`")[2] == "no result, 0.700"
    assert "Not a result, `cdnn_alexnet`: fold 1: tumor diverged.\n" in text
    assert "6 cases of 3 patients" in text
    assert "6 cases of 6 patients" in summary([record, made("segnet")])


def test_differences_are_of_the_same_patients() -> None:
    """Livers 0.1 higher in five patients, equal in the sixth: 0.5 / 6; p of five differences of one sign, 2 / 2^5."""
    higher = made("segnet")
    for row in [row for fold in higher["folds"] for row in fold["cases"]]:
        if row["target"] == "liver" and row["case"] != "c10":
            row["dice"] += 0.1
    cells = line(differences([higher, made()]), "`segnet` less `cdnn_alexnet`")
    assert cells[1].startswith("+0.083 (")
    # 0.1 in two of the first fold's three patients, in all of the second's.
    assert cells[1].endswith(
        "), p 0.062<br>of 6 patients 5 higher, 0 lower<br>folds +0.067, +0.100"
    )
    assert cells[2:] == [], "tumors do not differ"
    back = line(differences([made(), higher]), "`cdnn_alexnet` less `segnet`")[1]
    assert back.startswith("-0.083 (")
    assert back.endswith("of 6 patients 0 higher, 5 lower<br>folds -0.067, -0.100")


def test_differences_leave_patients_out_that_one_system_has_no_result_for() -> None:
    none, half = made("segnet"), made("segnet")
    for record, folds in ((none, none["folds"]), (half, half["folds"][:1])):
        for fold in folds:
            fold |= {"why": "liver diverged", "cases": []}
        assert record["folds"][0]["cases"] == []
    assert line(differences([none, made()]), "`segnet`")[1:] == ["no result", "no result"]
    for row in half["folds"][1]["cases"]:
        row["dice"] = None if row["dice"] is None else row["dice"] + 0.1
    cells = line(differences([half, made()]), "`segnet`")[1:]
    assert cells == ["+0.100<br>of 3 patients 3 higher, 0 lower<br>folds no result, +0.100"] * 2


def test_captions_that_differ_name_their_systems() -> None:
    assert captions([made(), made("segnet")]) == caption(made())
    longer = made("segnet")
    longer["settings"]["epochs"] = 40
    assert captions([made(), longer]).startswith("`cdnn_alexnet`: Data: ")
    assert "\n\n`segnet`: Data: " in captions([made(), longer])


def test_publish_rewrites_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: x -->\n<!-- end of results: x -->\n")
    monkeypatch.setattr(cross_validation, "ROOT", tmp_path)
    monkeypatch.setattr(cross_validation, "PUBLISHED", tmp_path / "published")
    with pytest.raises(InputError, match="at least one"):
        publish("x", [])
    for name in ("segnet", "cdnn_alexnet"):
        write_json(tmp_path / f"{name}.json", made(name))
        publish("x", [tmp_path / f"{name}.json"])
    text = readme.read_text()
    assert block("x", [made("cdnn_alexnet"), made("segnet")]) in text
    assert "SYNTHETIC" in text
    publish("x", [])
    assert readme.read_text() == text
    write_json(tmp_path / "other.json", {"system": "segnet"})
    write_json(tmp_path / "old.json", {**made("segnet"), "schema": 1})
    other = made("korabelnikov")
    other["folds"][1]["store_sha256"] = "of another split"
    write_json(tmp_path / "folds.json", other)
    refused = {
        "other.json": "settings",
        "old.json": "of form 1, not 3",
        "folds.json": "are not of the same folds",
    }
    for name, path, words in (
        ("y", "segnet.json", "has no block"),
        *(("x", *pair) for pair in refused.items()),
    ):
        with pytest.raises(InputError, match=words):
            publish(name, [tmp_path / path])
    assert readme.read_text() == text
    pages = (tmp_path / "published" / "x" / "cross_validation.md").read_text()
    assert pages == page([made("cdnn_alexnet"), made("segnet")])
    with pytest.raises(InputError, match="segnet and segnet are one system"):
        together([made("segnet"), made("segnet")])
    assert pages.startswith("# Cross-validated: cdnn_alexnet, segnet\n")
    assert all(f"{table(made(name)).rstrip()}\n" in pages for name in ("cdnn_alexnet", "segnet"))


@pytest.mark.parametrize(
    "name", sorted({path.parent.name for path in PUBLISHED.glob("*/cross_validation-*.json")})
)
def test_readme_shows_the_published_records(name: str) -> None:
    found = [read(path) for path in sorted((PUBLISHED / name).glob("cross_validation-*.json"))]
    assert block(name, found) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert page(found) == (PUBLISHED / name / "cross_validation.md").read_text(encoding="utf-8")
