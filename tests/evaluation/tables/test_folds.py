"""Tables of cross-validated systems: means by hand, counts, what is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.command import InputError
from evaluation.results import Results
from evaluation.score_table import ScoreRow, make_table
from evaluation.tables import folds
from evaluation.tables.folds import FoldScores, check_folds, describe_folds, make_folds_page
from evaluation.tables.published_numbers import NUMBERS

SETTINGS = {"weights_sha256": None, "filters": 16, "epochs": 13, "batch_size": 4}
SETTINGS |= {"learning_rate": 0.01}
DATA = {"cohort": "phantom", "synthetic": True, "size": 64, "nominal_spacing": False}
BACKGROUND = "tumor: background everywhere at 0.5"


def make_case(
    fold: int, name: str, target: str, tp: int, assd_mm: float | None, held: int = 10
) -> ScoreRow:
    """Return a case whose Dice is tp / 10: as many voxels are marked as the reference has."""
    head: dict[str, Any] = {"seed": 0, "system": "x", "phase": "train", "rule": "argmax"}
    head |= {"cohort": "test", "unit": "whole", "case": name, "patient": name, "n_slices": 1}
    counts = {"tp": tp, "fp": held - tp, "fn": held - tp, "tn": 100}
    return ScoreRow(**head, **counts, fold=fold, target=target, assd_mm=assd_mm)


def make_rows() -> list[ScoreRow]:
    """Two folds of three cases; one case has no tumor, in one nothing was found."""
    rows = []
    for fold in (1, 2):
        for place in range(3):
            name = f"c{fold}{place}"
            held = 0 if (fold, place) == (1, 0) else 10
            found = 4 if held and (fold, place) != (2, 0) else 0
            rows.append(make_case(fold, name, "liver", 5 + fold, 2.0 * fold))
            rows.append(make_case(fold, name, "tumor", found, 8.0 if found else None, held))
    return rows


def make_record(
    system: str = "cdnn_alexnet",
    rows: list[ScoreRow] | None = None,
    data: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    folds: dict[int, dict[str, Any]] | None = None,
) -> Results:
    """Return the record of a system; `folds` changes what is said of one."""
    entries = []
    for number in (1, 2):
        entry: dict[str, Any] = {"system": system, "phase": "train", "fold": number}
        entry |= {"why": "", "note": BACKGROUND if number == 2 else "", "table1": False}
        entry |= {"trained_with": "320 slices", "validation_cases": 1, "test_cases": 3}
        entry |= {"train_s": 90.0 * number, "store_sha256": f"fold {number}", "status": "ok"}
        entry |= {"settings": SETTINGS | (settings or {})}
        entries.append(entry | (folds or {}).get(number, {}))
    summary = {"preset": "demo", "seed": 0, "data": DATA | (data or {}), "systems": entries}
    summary["environment"] = {"cores": 2, "processor": "EPYC"}
    scores = make_table(make_rows() if rows is None else rows)
    return Results(Path(f"{system}.json"), summary, {}, scores)


def change_rows(change: Callable[[ScoreRow], ScoreRow | None]) -> list[ScoreRow]:
    return [row for row in map(change, make_rows()) if row is not None]


def make_table_of(record: Results) -> str:
    return folds.make_fold_table(FoldScores(record))


def summarise(*records: Results) -> str:
    return folds.make_summary([FoldScores(record) for record in records])


def compare(*records: Results) -> str:
    return folds.make_differences([FoldScores(record) for record in records])


def find_line(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


NO_FIRST = {1: {"why": "tumor diverged", "status": "failed"}}
ONLY_SECOND = change_rows(lambda row: row if row.fold == 2 else None)


def test_means_are_per_fold_and_over_all_patients() -> None:
    text = make_table_of(make_record())
    first = ["fold 1", "3", "3", "2", "0.600", "2.00", "0.400", "8.00"]
    assert find_line(text, "fold 1") == first
    second = ["fold 2", "3", "3", "3", "0.700", "4.00", "0.267", "8.00"]
    assert find_line(text, "fold 2") == second
    every = find_line(text, "**all**")
    assert every[1:4] == ["6", "6", "5"]
    assert [cell.split("<br>")[0] for cell in every[4:]] == ["0.650", "3.00", "0.320", "8.00"]
    # Four patients have a tumor's ASSD.
    assert ["<br>" in cell for cell in every[4:]] == [True, True, True, False]
    assert f"Weak on validation data: fold 2: {BACKGROUND}.\n" in text
    assert "Not a result" not in text


def test_a_patient_with_two_cases_counts_once() -> None:
    found = {"c20": 0, "c21": 2, "c22": 5}

    def merge(row: ScoreRow) -> ScoreRow:
        row = replace(row, patient="c22" if row.case == "c22" else "both")
        if (row.target, row.fold) != ("tumor", 2):
            return row
        tp = found[row.case]
        return replace(row, tp=tp, fp=10 - tp, fn=10 - tp)

    line = find_line(make_table_of(make_record(rows=change_rows(merge))), "fold 2")
    assert line[1:4] == ["3", "2", "3"]
    assert line[6] == "0.300"  # of 0.1 and 0.5


def test_published_numbers_stand_below_the_documented_system_alone() -> None:
    numbers = NUMBERS["cdnn_alexnet"]
    cells = [f"{s[key]:g}" for s in (numbers.liver, numbers.tumor) for key in ("dice", "assd_mm")]
    text = make_table_of(make_record())
    assert find_line(text, "published, other split, real CT")[4:] == cells
    assert "ImageNet" in text
    assert "published" not in make_table_of(make_record("cdnn_alexnet_skips"))
    unclear, numbers = make_table_of(make_record("segnet")), NUMBERS["segnet"]
    assert "| published" not in unclear
    assert f"Published: DSC of `segnet` {numbers.liver['dice']:g}; {numbers.where}.\n" in unclear
    pipeline = make_table_of(make_record("global_local"))
    assert "ImageNet" not in unclear + pipeline
    dice = f"{NUMBERS['global_local'].liver['dice']:g}"
    assert find_line(pipeline, "published")[4] == dice


def test_a_fold_without_a_result_and_nominal_spacing_are_named() -> None:
    text = make_table_of(make_record("x", ONLY_SECOND, {"nominal_spacing": True}, folds=NO_FIRST))
    assert find_line(text, "fold 1")[1:] == ["3", "", "", *["no result"] * 4]
    every = find_line(text, "**all**")
    assert every[:5] == ["**all**", "6", "3", "3", "0.700 (1 of 2 folds)"]
    assert every[7] == "8.00 (1 of 2 folds)"
    assert "Not a result: fold 1: tumor diverged.\n" in text
    assert "No distances" in text


def test_a_fold_whose_tumor_network_failed_keeps_its_livers() -> None:
    rows = change_rows(lambda row: None if (row.fold, row.target) == (1, "tumor") else row)
    text = make_table_of(make_record("unet_dhanush", rows, folds=NO_FIRST))
    cells = ["3", "3", "", "0.600", "2.00", "no result", "no result"]
    assert find_line(text, "fold 1")[1:] == cells
    cells = [cell.split("<br>")[0] for cell in find_line(text, "**all**")[4:]]
    assert cells == ["0.650", "3.00", "0.267 (1 of 2 folds)", "8.00 (1 of 2 folds)"]
    assert "Not a result: fold 1: tumor diverged.\n" in text


def test_the_caption_names_the_epochs_of_the_tumor_s_network() -> None:
    assert "filters 16, epochs 13, batch_size 4" in describe_folds(make_record())
    longer = make_record("global_local", settings={"tumor_epochs": 60})
    assert "epochs 13, tumor_epochs 60, batch_size 4" in describe_folds(longer)


def test_a_summary_has_a_line_per_system() -> None:
    text = summarise(make_record(), make_record("cdnn_alexnet_skips"))
    numbers = NUMBERS["cdnn_alexnet"]
    cells = [cell.split("<br>")[0] for cell in find_line(text, "`cdnn_alexnet`")]
    assert cells[1:5] == ["0.650", "0.600, 0.700", "3.00", f"{numbers.liver['dice']:g}"]
    assert cells[5:9] == ["0.320", "0.400, 0.267", "8.00", f"{numbers.tumor['dice']:g}"]
    assert cells[9:] == ["0, 1 of 2", "4"]  # minutes: 90 s + 180 s
    skips = find_line(text, "`cdnn_alexnet_skips`")
    assert [skips[4], skips[8]] == ["", ""]
    assert "6 cases of 6 patients, 5 cases with tumor." in text
    assert text.count("\nPublished: ") == 1
    assert "Not a result" not in text


def test_a_target_that_nobody_finds_has_its_dice_alone() -> None:
    def miss(row: ScoreRow) -> ScoreRow:
        nothing = {"tp": 0, "fp": 0, "fn": row.tp + row.fn, "assd_mm": None}
        return replace(row, **nothing) if row.target == "tumor" else row

    head = summarise(make_record(rows=change_rows(miss))).splitlines()[0]
    cells = [cell.strip() for cell in head.split("|") if "tumor DSC" in cell]
    assert cells == ["tumor DSC", "tumor DSC published, other split, real CT"]
    assert "tumor ASSD" not in head
    assert "liver DSC of each fold" in head


def test_a_summary_names_folds_without_a_result_and_leaves_nominal_distances_out() -> None:
    record = make_record("cdnn_alexnet", ONLY_SECOND, {"nominal_spacing": True}, folds=NO_FIRST)
    text = summarise(record)
    assert "ASSD" not in text.splitlines()[0]
    assert find_line(text, "`cdnn_alexnet`")[1] == "0.700 (1 of 2 folds)"
    assert find_line(text, "`cdnn_alexnet`")[2] == "no result, 0.700"
    assert "Not a result, `cdnn_alexnet`: fold 1: tumor diverged.\n" in text
    assert "6 cases of 3 patients" in text
    assert "6 cases of 6 patients" in summarise(record, make_record("segnet"))


def raise_dice(row: ScoreRow) -> ScoreRow:
    """Return a case whose Dice is 0.1 higher."""
    return replace(row, tp=row.tp + 1, fp=row.fp - 1, fn=row.fn - 1) if row.tp + row.fn else row


def test_differences_are_of_the_same_patients() -> None:
    """Livers 0.1 higher in five of six patients: 0.5 / 6; p of five of one sign, 2 / 2^5."""
    rows = change_rows(
        lambda row: raise_dice(row) if row.target == "liver" and row.case != "c10" else row
    )
    higher, lower = make_record("segnet", rows), make_record()
    cells = find_line(compare(higher, lower), "`segnet` less `cdnn_alexnet`")
    assert cells[1].startswith("+0.083 (")
    # 0.1 in two of the first fold's three patients, in all of the second's.
    end = "), p 0.062<br>of 6 patients 5 higher, 0 lower<br>folds +0.067, +0.100"
    assert cells[1].endswith(end)
    assert cells[2:] == [], "tumors do not differ"
    back = find_line(compare(lower, higher), "`cdnn_alexnet` less `segnet`")[1]
    assert back.startswith("-0.083 (")
    assert back.endswith("of 6 patients 0 higher, 5 lower<br>folds -0.067, -0.100")


def test_differences_leave_patients_out_that_one_system_has_no_result_for() -> None:
    nothing = make_record("segnet", [], folds={1: {"why": "diverged"}, 2: {"why": "diverged"}})
    cells = find_line(compare(nothing, make_record()), "`segnet`")
    assert cells[1:] == ["no result", "no result"]
    half = make_record("segnet", [raise_dice(row) for row in ONLY_SECOND], folds=NO_FIRST)
    cells = find_line(compare(half, make_record()), "`segnet`")[1:]
    assert cells == ["+0.100<br>of 3 patients 3 higher, 0 lower<br>folds no result, +0.100"] * 2


def test_captions_that_differ_name_their_systems() -> None:
    same = [make_record(), make_record("segnet")]
    assert folds.caption_all(same) == describe_folds(make_record())
    longer = make_record("segnet", settings={"epochs": 40})
    text = folds.caption_all([make_record(), longer])
    assert text.startswith("`cdnn_alexnet`: Data: ")
    assert "\n\n`segnet`: Data: " in text


def test_the_page_has_every_fold_of_every_system() -> None:
    records = [make_record(), make_record("segnet")]
    text = make_folds_page(records)
    assert text.startswith("# Cross-validated: cdnn_alexnet, segnet\n")
    assert all(f"{make_table_of(record).rstrip()}\n" in text for record in records)
    assert "SYNTHETIC" in text
    assert "`cdnn_alexnet` less `segnet`" in text
    assert "less" not in make_folds_page(records[:1]).partition("Means over")[0]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({2: {"store_sha256": "of another split"}}, "other folds than cdnn_alexnet.json"),
        ({}, "fold 2 not scored yet; call evaluation.cross_validate again"),
    ],
)
def test_records_of_other_folds_are_refused(entries: dict[int, Any], words: str) -> None:
    record = make_record("segnet", folds=entries)
    summary = {**record.summary, "left": [] if entries else ["fold 2"]}
    with pytest.raises(InputError, match=rf"segnet\.json: {words}"):
        check_folds(make_record(), replace(record, summary=summary))
    for entry in record.summary["systems"]:
        del entry["fold"]
    with pytest.raises(InputError, match=r"no record of evaluation\.cross_validate"):
        check_folds(make_record(), record)
