"""How much of a score by slice is memory: one recipe, split by patient and split by slice, side by side.

    python -m evaluation.by_slice --by-patient NAME [--by-slice OUT] [--publish]

The paper does not say by what it split. Where slices are split, a test slice has neighbours of the same patient in the
training set, and its score is partly that of memory. NAME is the published run that was split by patient
(`evaluation.publish`), OUT one of the same preset and size on the same volumes that was split by slice (`data.prepare
--by-slice`); without OUT the published one. Prints the table; `--publish` writes evaluation/published/NAME-by-slice
and the README's block of that name instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.command import InputError, Parser, run_command
from data.files import read_json, write_json, write_text
from evaluation import publish
from evaluation.metrics.counts import Counts, iou
from evaluation.names import KEYS, LOSSES, NAMES, TARGETS
from evaluation.results import Results, read_results
from evaluation.tables.text import interval_of, markdown_table, readable

RULE = "roc"
SUFFIX = "-by-slice"
FILE = "by_slice.json"
SAME = ("size", "cohort", "train_slices", "validation_slices", "test_slices")

Row = dict[str, Any]


def main() -> None:
    """Print the table, or record the run that was split by slice and rewrite the README's block."""
    parser = Parser(
        prog="evaluation.by_slice", description="A split by slice beside the same split by patient."
    )
    parser.add_argument(
        "--by-patient", required=True, metavar="NAME", help="published run, as mini"
    )
    parser.add_argument(
        "--by-slice", type=Path, metavar="OUT", help="folder of reproduce.sh --by-slice"
    )
    parser.add_argument(
        "--publish", action="store_true", help="write it into this repository and its README"
    )
    flags = parser.parse_args()
    name = flags.by_patient + SUFFIX
    path = publish.PUBLISHED / name / FILE
    patient = published(flags.by_patient)
    if flags.by_slice is None:
        record = read_json(path, ("rows", "cases"))
    else:
        results = read_results(flags.by_slice)
        check_same(results, patient)
        record = recorded(results)
    if not flags.publish:
        print(table(patient, record))
        return
    readme = publish.ROOT / "README.md"
    text = publish.rewritten(readme.read_text(encoding="utf-8"), name, block(name, patient, record))
    write_json(path, record)
    write_text(readme, text)
    print(f"README.md: block {name} rewritten")


def published(name: str) -> Row:
    """Return {"summary", "test": names of the test cases} of a published run.

    Raises:
        InputError: there is none of that name.
    """
    records = publish.read_published(publish.PUBLISHED / name)
    if not records:
        raise InputError(f"--by-patient {name}: nothing of that name is published")
    split = read_json(publish.PUBLISHED / name / "split.json", ("slices",))
    return {"summary": records[0]["summary"], "test": list(split["slices"]["test"])}


def check_same(results: Results, patient: Row) -> None:
    """Check that the two runs differ in the split alone.

    Raises:
        InputError: the run was not split by slice, or has another preset, seed or size.
    """
    ours, theirs = results.summary, patient["summary"]
    if ours["data"].get("split_by") != "slice":
        raise InputError(f"{results.path}: its split is by patient (data.prepare --by-slice)")
    missing = [
        name for name in patient["test"] if not any(case["case"] == name for case in results.cases)
    ]
    if missing:
        raise InputError(
            f"{results.path}: {missing[0]}, a test case of the split by patient, has no test slice in it"
        )
    for key, found, wanted in (
        ("preset", ours["preset"], theirs["preset"]),
        ("seed", ours["seed"], theirs["seed"]),
        *((key, ours["data"][key], theirs["data"][key]) for key in SAME),
    ):
        if found != wanted:
            raise InputError(
                f"{results.path}: {key} is {found}, that of the split by patient {wanted}"
            )


def recorded(results: Results) -> Row:
    """Return what is kept of the run: its test scores and the counts of its test cases, threshold rule roc."""
    keys = ("preset", "seed", "data", "trained_on", "timing_s")

    def wanted(row: Mapping[str, Any]) -> bool:
        return (row["cohort"], row["threshold_rule"]) == ("test", RULE)

    names = ("case", *KEYS, "tp", "fp", "fn", "tn")
    cases = [{name: row[name] for name in names} for row in results.cases if wanted(row)]
    rows = [row for row in results.rows if wanted(row)]
    return {
        "schema": 1,
        **{key: results.summary[key] for key in keys},
        "rows": rows,
        "cases": cases,
    }


def table(patient: Row, by_slice: Row) -> str:
    """Return IoU split by patient, by slice, and by slice on the volumes that the split by patient tests on."""
    lines = []
    for target in TARGETS:
        for loss in LOSSES:
            for model in ("one_step", "sequential", "joint"):
                key = ("test", target, loss, model, RULE)
                ours, theirs = find(patient["summary"]["rows"], key), find(by_slice["rows"], key)
                if ours is None or theirs is None:
                    continue
                same = pooled(
                    [c for c in by_slice["cases"] if is_of(c, key) and c["case"] in patient["test"]]
                )
                lines.append(
                    [
                        *(
                            target,
                            NAMES[loss],
                            NAMES[model],
                            readable(ours["iou"]),
                            readable(theirs["iou"]),
                        ),
                        *(interval_of(theirs), readable(same), f"{same - ours['iou']:+.3f}"),
                    ]
                )
    volumes = " and ".join(name.removeprefix("volume-") for name in patient["test"])
    headings = [
        "target",
        "loss",
        "model",
        f"by patient: volumes {volumes}",
        "by slice: all test slices",
    ]
    headings += [
        "95 % interval of those, patients drawn",
        f"by slice: volumes {volumes}",
        "by slice less by patient",
    ]
    return markdown_table(headings, lines, left=3)


def find(rows: list[Row], key: tuple[str, ...]) -> Row | None:
    """Return the row of that key, or None."""
    return next((row for row in rows if is_of(row, key)), None)


def is_of(row: Mapping[str, Any], key: tuple[str, ...]) -> bool:
    """Say whether a row has that cohort, target, loss, model and rule."""
    return tuple(row[name] for name in KEYS) == key


def pooled(cases: list[Row]) -> float:
    """Return the IoU of the counts of all these cases together."""
    return iou(
        sum(
            (Counts(*(int(case[cell]) for cell in ("tp", "fp", "fn", "tn"))) for case in cases),
            Counts(),
        )
    )


def block(name: str, patient: Row, by_slice: Row) -> str:
    """Return the README's block of that name."""
    data = by_slice["data"]
    minutes = sum(by_slice["timing_s"].values()) / 60
    caption = (
        f"IoU at threshold rule {RULE}; preset `{by_slice['preset']}`, seed {by_slice['seed']}, {data['size']} px, "
        f"{data['train_slices']} / {data['validation_slices']} / {data['test_slices']} slices in both splits; the run "
        f"by slice has test slices of {data['test_cases']} volumes, all of whose patients trained it, and took "
        f"{minutes:.0f} minutes. The last column is of the same volumes."
    )
    return f"<!-- results: {name} -->\n\n{caption}\n\n{table(patient, by_slice)}\n<!-- end of results: {name} -->"


if __name__ == "__main__":
    run_command(main, "evaluation.by_slice")
