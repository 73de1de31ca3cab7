"""whole_cases.csv and postprocess.csv with numbers that can be checked by hand."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evaluation.postprocess import CHOSEN, NONE, OPTIONS
from evaluation.tables.whole_cases import SCORES


def write_whole_cases(out: Path, systems: Iterable[tuple[str, str]]) -> None:
    """Two test cases, Dice 0.5 and 0.7; the second has no tumor. Filling holes finds 10 pixels more in each case."""
    volumes: list[dict[str, Any]] = []
    options: list[dict[str, Any]] = []
    for model, loss in systems:
        for target in ("liver", "tumor"):
            for case, dice in (("1", 0.5), ("2", 0.7)):
                head = {
                    "cohort": "test",
                    "case": case,
                    "patient": case,
                    "model": model,
                    "loss": loss,
                    "target": target,
                }
                empty = (target, case) == ("tumor", "2")
                scores = dict.fromkeys(SCORES, dice) | {"assd_mm": "" if empty else dice}
                volumes.append({**head, "reference_ml": 0 if empty else 20, **scores})
                for option in (NONE, *OPTIONS, CHOSEN):
                    tp = 60 if option in ("fill_holes", CHOSEN) else 50
                    named = {
                        "option": option,
                        "options": "fill_holes" if option == CHOSEN else option,
                    }
                    options.append({**head, **named, "tp": tp, "fp": 0, "fn": 100 - tp, "tn": 1000})
    for name, rows in (("whole_cases", volumes), ("postprocess", options)):
        with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)
