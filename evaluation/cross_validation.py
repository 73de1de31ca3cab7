"""Tables of cross-validated systems: DSC and ASSD per fold and in all.

    python -m evaluation.cross_validation --publish NAME [RECORD ...]

Each RECORD is a cross_validation-<label>.json of `evaluation.cross_validate`, one a system. `--publish` copies them to
evaluation/published/NAME, beside those of other systems, and rewrites the README's block of that name (without a
RECORD: from those that lie there).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.command import InputError, Parser, run_command
from data.files import read_json, write_json, write_text
from evaluation.names import TARGETS, origin
from evaluation.publish import PUBLISHED, ROOT, rewritten
from evaluation.published_numbers import ELMENABAWY, UNCLEAR, heading_of_published, published_of
from evaluation.statistics import LEAST_PATIENTS, interval_of_mean, means_by_patient
from evaluation.text import COVERAGE, machines, markdown_table

ELMENABAWY_NOTE = "its networks began with ImageNet weights, and the unit of its ASSD is not stated"
HOW_TO_READ = (
    "Means over the patients whose reference holds the target; a case in which nothing was found has DSC 0 and no "
    f"ASSD. Below: interval of the mean, patients drawn with replacement, {COVERAGE}; none with fewer than "
    f"{LEAST_PATIENTS}."
)
SCORES = {"dice": ("DSC", ".3f"), "assd_mm": ("ASSD (mm)", ".2f")}
Row = dict[str, Any]
SCHEMA = 3


def main() -> None:
    """Publish records."""
    parser = Parser(prog="evaluation.cross_validation", description="Tables of cross-validated systems.")
    parser.add_argument("--publish", required=True, metavar="NAME", help="block of the README")
    parser.add_argument("records", type=Path, nargs="*", metavar="RECORD", help="cross_validation-<label>.json")
    flags = parser.parse_args()
    publish(flags.publish, flags.records)


def publish(name: str, paths: Sequence[Path]) -> None:
    """Copy the records to evaluation/published/NAME, beside those of other systems, and rewrite the README's block.

    Raises:
        InputError: no such block, no record, a damaged one, records of other folds; then nothing is written.
    """
    folder, readme = PUBLISHED / name, ROOT / "README.md"
    rewritten(readme.read_text(encoding="utf-8"), name, "")
    new = {f"cross_validation-{record['system']}.json": record for record in map(read, paths)}
    old = {path.name: read(path) for path in folder.glob("cross_validation-*.json") if path.name not in new}
    records = [record for _, record in sorted({**old, **new}.items())]
    if not records:
        raise InputError("RECORD: at least one cross_validation-<label>.json is needed")
    for record in records:
        if said_of(record) != said_of(records[0]):
            both = f"{record['system']} and {records[0]['system']}"
            raise InputError(f"RECORD: {both} are not of the same folds, data, preset and seed")
    for file, record in new.items():
        write_json(folder / file, record)
    write_text(readme, rewritten(readme.read_text(encoding="utf-8"), name, block(name, records)))
    print(f"README.md: block {name} rewritten, {', '.join(record['system'] for record in records)}")


def read(path: Path) -> Row:
    """Return a record of `evaluation.cross_validate`.

    Raises:
        InputError: damaged, something else, or of an earlier form.
    """
    record = read_json(path, ("schema", "system", "settings", "preset", "seed", "data", "environment", "folds"))
    if record["schema"] != SCHEMA:
        raise InputError(f"{path}: of form {record['schema']}, not {SCHEMA}; evaluation.cross_validate makes it anew")
    return dict(record)


def said_of(record: Row) -> list[Any]:
    """Return what the records of a block must share."""
    return [*(record[key] for key in ("data", "preset", "seed")), [fold["store_sha256"] for fold in record["folds"]]]


def block(name: str, records: Sequence[Row]) -> str:
    """Return the README's block of a name."""
    parts = [f"<!-- results: {name} -->"]
    parts += [f"`{record['system']}`. {caption(record)}\n\n{table(record).rstrip()}" for record in records]
    return "\n\n".join([*parts, HOW_TO_READ, f"<!-- end of results: {name} -->"])


def page(record: Row) -> str:
    """Return caption and table as a page of Markdown."""
    return f"# {record['system']}, cross-validated\n\n{caption(record)}\n\n{table(record)}\n{HOW_TO_READ}\n"


def caption(record: Row) -> str:
    """Return the lines above the table: data, folds, training, machine."""
    settings, data, folds = record["settings"], record["data"], record["folds"]
    keys = ("filters", "epochs", "tumor_epochs", "batch_size", "learning_rate")
    trained = ", ".join(f"{key} {settings[key]}" for key in keys if settings.get(key) is not None)
    begins = "a file's" if settings["weights_sha256"] else "random"
    with_slices = " or ".join(dict.fromkeys(fold["trained_with"] for fold in folds))
    return (
        f"Data: {origin(data)}, {data['size']} px; {len(folds)} folds by patient, each trained with {with_slices}, "
        f"{begins} weights at the beginning. Preset `{record['preset']}`, seed {record['seed']}; {trained}; every "
        f"slice of the test cases; {' and '.join(machines([record['environment']]))}."
    )


def table(record: Row) -> str:
    """Return the table in Markdown: a line per fold, all cases together with intervals by patient, and its notes."""
    folds = record["folds"]
    headings = ["", "test cases", "of patients", "cases with tumor"]
    headings += [f"{target} {name}" for target in TARGETS for name, _ in SCORES.values()]
    lines = [[f"fold {fold['fold']}", *_counted([fold]), *_cells([fold])] for fold in folds]
    lines.append(["**all**", *_counted(folds), *_cells(folds)])
    published, note = published_of(record["system"], record["settings"]), ""
    if published and record["system"] in UNCLEAR:
        note = f"\nPublished: DSC {published.liver['dice']:g}; {published.where}.\n"
    elif published:
        numbers = [getattr(published, target).get(score) for target in TARGETS for score in SCORES]
        cells = ["" if number is None else f"{number:g}" for number in numbers]
        lines.append([heading_of_published(record["data"]["synthetic"]), "", "", "", *cells])
        more = f"; {ELMENABAWY_NOTE}" if published.where == ELMENABAWY else ""
        note = f"\nPublished: {published.where}{more}.\n"
    return (
        markdown_table(headings, lines, left=1)
        + note
        + _named(folds, "why", "Not a result")
        + _named(folds, "weak", "Weak on validation data")
        + ("\nNo distances: the spacing in the headers is nominal.\n" if record["data"]["nominal_spacing"] else "")
    )


def _counted(folds: Sequence[Row]) -> list[str]:
    """Return how many cases were tested, of how many patients, and how many have tumor ("": no fold with a result)."""
    rows = [row for fold in folds for row in fold["cases"]]
    tumors = [row for row in rows if row["target"] == "tumor"]
    held = {row["case"] for row in tumors if row["tp"] + row["fn"] > 0}
    of_patients = len({row["patient"] for row in rows})
    cells = [str(of_patients) if rows else "", str(len(held)) if tumors else ""]
    return [str(sum(fold["test_cases"] for fold in folds)), *cells]


def _named(folds: Sequence[Row], key: str, heading: str) -> str:
    """Return a line that names the folds of which `key` says something; "" where none is."""
    found = "; ".join(f"fold {fold['fold']}: {fold[key]}" for fold in folds if fold[key])
    return f"\n{heading}: {found}.\n" if found else ""


def _cells(folds: Sequence[Row]) -> list[str]:
    """Return the scores of each target, over the folds that gave a result for it."""
    cells = []
    for target in TARGETS:
        given = [rows for fold in folds if (rows := [row for row in fold["cases"] if row["target"] == target])]
        held = [row for rows in given for row in rows if row["tp"] + row["fn"] > 0]
        of_folds = f" ({len(given)} of {len(folds)} folds)" if len(given) < len(folds) else ""
        for score, (_, form) in SCORES.items():
            text = _in_words(means_by_patient(held, score), form, of_folds)
            cells.append(text if given else "no result")
    return cells


def _in_words(values: Sequence[float], form: str, of_folds: str) -> str:
    if not values:
        return f"n/a{of_folds}"
    found = interval_of_mean(values)
    text = f"{found.value:{form}}{of_folds}"
    return text if found.low is None else f"{text}<br>{found.low:{form}} to {found.high:{form}}"


if __name__ == "__main__":
    run_command(main, "evaluation.cross_validation")
