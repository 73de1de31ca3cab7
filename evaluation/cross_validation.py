"""Tables of cross-validated systems: DSC and ASSD per fold and in all, and differences between systems by patient.

    python -m evaluation.cross_validation --out DIR RECORD ...
    python -m evaluation.cross_validation --publish NAME [RECORD ...]

Each RECORD is a cross_validation-<label>.json of `evaluation.cross_validate`, one a system. `--out` writes
cross_validation.md there: a line per system, differences, every fold. `--publish` copies the records to
evaluation/published/NAME, beside those of other systems, writes that page beside them and rewrites the README's block
of that name, without the folds (without a RECORD: from those that lie there).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from data.command import InputError, Parser, run_command
from data.files import read_json, write_json, write_text
from evaluation.metrics.statistics import (
    LEAST_PATIENTS,
    bound_mean,
    compare_means,
    means_by_patient,
)
from evaluation.names import TARGETS, origin
from evaluation.publish import PUBLISHED, ROOT, rewritten
from evaluation.published_numbers import ELMENABAWY, UNCLEAR, heading_of_published, published_of
from evaluation.tables.text import COVERAGE, compared_in_words, machines, markdown_table

ELMENABAWY_NOTE = "its networks began with ImageNet weights, and the unit of its ASSD is not stated"
HOW_TO_READ = (
    "Means over the patients whose reference holds the target; a case in which nothing was found has DSC 0 and no "
    f"ASSD. Below: interval of the mean, patients drawn with replacement, {COVERAGE}; none with fewer than "
    f"{LEAST_PATIENTS}."
)
HOW_COMPARED = (
    "Differences: of the mean DSC over the patients of all folds, with its interval, and p of Wilcoxon's test over "
    "patients, not corrected for the number of comparisons. Both take patients for independent; but all patients of a "
    "fold were segmented by one network, so both are too optimistic: see whether the folds agree."
)
FAULTS = ("no better than chance", "background everywhere")
WEAK = (
    "On a fold's validation data the network ranks pixels of the liver no better than chance, or, where it ranks them "
    "better, is nowhere decided for tumor."
)
PAGE = "cross_validation.md"
SCORES = {"dice": ("DSC", ".3f"), "assd_mm": ("ASSD (mm)", ".2f")}
Row = dict[str, Any]
SCHEMA = 3


def main() -> None:
    """Write the page of some records, or publish them."""
    parser = Parser(
        prog="evaluation.cross_validation", description="Tables of cross-validated systems."
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="DIR", help="folder for cross_validation.md")
    where.add_argument("--publish", metavar="NAME", help="block of the README, which is rewritten")
    parser.add_argument(
        "records", type=Path, nargs="*", metavar="RECORD", help="cross_validation-<label>.json"
    )
    flags = parser.parse_args()
    if flags.publish is not None:
        publish(flags.publish, flags.records)
        return
    write_text(flags.out / PAGE, page(together(map(read, flags.records))))
    print(flags.out / PAGE)


def publish(name: str, paths: Sequence[Path]) -> None:
    """Copy the records to evaluation/published/NAME, beside those of other systems, and rewrite the README's block.

    Raises:
        InputError: no such block, no record, a damaged one, records of other folds; then nothing is written.
    """
    folder, readme = PUBLISHED / name, ROOT / "README.md"
    rewritten(readme.read_text(encoding="utf-8"), name, "")
    new = {f"cross_validation-{record['system']}.json": record for record in map(read, paths)}
    old = {
        path.name: read(path)
        for path in folder.glob("cross_validation-*.json")
        if path.name not in new
    }
    records = together({**old, **new}.values())
    for file, record in new.items():
        write_json(folder / file, record)
    write_text(folder / PAGE, page(records))
    write_text(readme, rewritten(readme.read_text(encoding="utf-8"), name, block(name, records)))
    print(f"README.md: block {name} rewritten, {', '.join(record['system'] for record in records)}")


def read(path: Path) -> Row:
    """Return a record of `evaluation.cross_validate`.

    Raises:
        InputError: damaged, something else, or of an earlier form.
    """
    record = read_json(
        path, ("schema", "system", "settings", "preset", "seed", "data", "environment", "folds")
    )
    if record["schema"] != SCHEMA:
        raise InputError(
            f"{path}: of form {record['schema']}, not {SCHEMA}; evaluation.cross_validate makes it anew"
        )
    return dict(record)


def together(records: Iterable[Row]) -> list[Row]:
    """Return records that one page can show, in the order of their systems' names.

    Raises:
        InputError: none, a system twice, or other folds, data, preset or seed.
    """
    found = sorted(records, key=lambda record: record["system"])
    if not found:
        raise InputError("RECORD: at least one cross_validation-<label>.json is needed")
    for record, other in pairwise(found):
        both = f"{record['system']} and {other['system']}"
        if record["system"] == other["system"]:
            raise InputError(f"RECORD: {both} are one system")
        if said_of(record) != said_of(other):
            raise InputError(f"RECORD: {both} are not of the same folds, data, preset and seed")
    return found


def said_of(record: Row) -> list[Any]:
    """Return what the records of a block must share."""
    return [
        *(record[key] for key in ("data", "preset", "seed")),
        [fold["store_sha256"] for fold in record["folds"]],
    ]


def block(name: str, records: Sequence[Row]) -> str:
    """Return the README's block of a name: a line per system, differences, and where every fold stands."""
    whole = f"evaluation/published/{name}/{PAGE}"
    parts = [f"<!-- results: {name} -->", captions(records), summary(records).rstrip(), HOW_TO_READ]
    parts += [differences(records).rstrip(), HOW_COMPARED] if len(records) > 1 else []
    parts += [f"Every fold: [{whole}]({whole}).", f"<!-- end of results: {name} -->"]
    return "\n\n".join(parts)


def page(records: Sequence[Row]) -> str:
    """Return the captions and tables of systems, and their differences, as a page of Markdown."""
    names = ", ".join(record["system"] for record in records)
    parts = [f"# Cross-validated: {names}"]
    if len(records) > 1:
        parts += [
            captions(records),
            summary(records).rstrip(),
            differences(records).rstrip(),
            HOW_COMPARED,
        ]
    for record in records:
        parts += [f"## {record['system']}", caption(record), table(record).rstrip()]
    return "\n\n".join([*parts, HOW_TO_READ]) + "\n"


def captions(records: Sequence[Row]) -> str:
    """Return the caption of all systems, or of each where they differ."""
    different = dict.fromkeys(map(caption, records))
    if len(different) == 1:
        return next(iter(different))
    return "\n\n".join(f"`{record['system']}`: {caption(record)}" for record in records)


def summary(records: Sequence[Row]) -> str:
    """Return the table with a line per system: scores of all folds, DSC of each, what was published, and notes.

    Of a target that no system finds anywhere, its DSC alone.
    """
    synthetic, nominal = (records[0]["data"][key] for key in ("synthetic", "nominal_spacing"))
    lines = {record["system"]: [f"`{record['system']}`"] for record in records}
    headings = ["system"]
    for target in TARGETS:
        some = any(row["tp"] for record in records for row in _held(record["folds"], target))
        wanted = {"DSC": True, "DSC of each fold": some, "ASSD (mm)": some and not nominal}
        headings += [f"{target} {name}" for name, shown in wanted.items() if shown]
        headings.append(f"{target} DSC {heading_of_published(synthetic)}")
        for record in records:
            dice, assd = _cells_of(record["folds"], target)
            each = ", ".join(
                _cells_of([fold], target)[0].split("<br>")[0] for fold in record["folds"]
            )
            cells = zip((dice, each, assd), wanted.values(), strict=True)
            lines[record["system"]] += [cell for cell, shown in cells if shown]
            lines[record["system"]].append(_published(record)[target, "dice"])
    headings += ["folds where tumors are: no better than chance, found nowhere", "training (min)"]
    for record in records:
        weak = [
            sum(f"tumor: {fault}" in fold["weak"] for fold in record["folds"]) for fault in FAULTS
        ]
        minutes = sum(fold["train_s"] for fold in record["folds"]) / 60
        lines[record["system"]] += [
            f"{', '.join(map(str, weak))} of {len(record['folds'])}",
            f"{minutes:.0f}",
        ]
    tested, patients, with_tumor = _counted(max((one["folds"] for one in records), key=_scored))
    notes = [f"\n{tested} cases of {patients} patients, {with_tumor} cases with tumor. {WEAK}\n"]
    notes += dict.fromkeys(map(_published_note, records))
    notes += [
        _named(record["folds"], "why", f"Not a result, `{record['system']}`") for record in records
    ]
    return markdown_table(headings, lines.values(), left=1) + "".join(notes)


def _scored(folds: Sequence[Row]) -> int:
    return sum(len(fold["cases"]) for fold in folds)


def differences(records: Sequence[Row]) -> str:
    """Return the table of differences in DSC between every two systems, over the patients that both were scored on.

    A target in which no two differ has no column.
    """
    columns = {}
    for target in TARGETS:
        cells = [
            _difference(first["folds"], second["folds"], target)
            for first, second in combinations(records, 2)
        ]
        if any(cells):
            columns[f"{target} DSC"] = [cell or "none" for cell in cells]
    names = [
        f"`{first['system']}` less `{second['system']}`"
        for first, second in combinations(records, 2)
    ]
    return markdown_table(["systems", *columns], zip(names, *columns.values(), strict=True), left=1)


def _difference(first: Sequence[Row], second: Sequence[Row], target: str) -> str:
    """Return the difference of the means in words, over all folds and of each ("": none in any patient)."""
    sides = [
        [means_by_patient(_held([fold], target), "dice") for fold in folds]
        for folds in (first, second)
    ]
    whole = [{patient: value for fold in side for patient, value in fold.items()} for side in sides]
    if not whole[0].keys() & whole[1].keys():
        return "no result"
    found = compare_means(*whole)
    if not found.better + found.worse:
        return ""
    patients = (
        f"of {found.difference.n_patients} patients {found.better} higher, {found.worse} lower"
    )
    each = [_mean_difference(one, other) for one, other in zip(*sides, strict=True)]
    return f"{compared_in_words(found)}<br>{patients}<br>folds {', '.join(each)}"


def _mean_difference(first: dict[str, float], second: dict[str, float]) -> str:
    shared = first.keys() & second.keys()
    return (
        f"{fmean(first[patient] - second[patient] for patient in sorted(shared)):+.3f}"
        if shared
        else "no result"
    )


def caption(record: Row) -> str:
    """Return the lines above the table: data, folds, training, machine."""
    settings, data, folds = record["settings"], record["data"], record["folds"]
    keys = ("filters", "epochs", "tumor_epochs", "batch_size", "learning_rate")
    trained = ", ".join(f"{key} {settings[key]}" for key in keys if settings.get(key) is not None)
    begins = "a file's" if settings["weights_sha256"] else "random"
    with_slices = " or ".join(dict.fromkeys(fold["trained_with"] for fold in folds))
    by = " or ".join(dict.fromkeys(str(fold["validation_cases"]) for fold in folds))
    return (
        f"Data: {origin(data)}, {data['size']} px; {len(folds)} folds by patient, each trained with {with_slices}, its "
        f"epoch chosen on {by} validation case{'s'[: by != '1']}, {begins} weights at the beginning. Preset "
        f"`{record['preset']}`, seed {record['seed']}; {trained}; every slice of the test cases; "
        f"{' and '.join(machines([record['environment']]))}."
    )


def table(record: Row) -> str:
    """Return the table in Markdown: a line per fold, all cases together with intervals by patient, and its notes."""
    folds = record["folds"]
    headings = ["", "test cases", "of patients", "cases with tumor"]
    headings += [f"{target} {name}" for target in TARGETS for name, _ in SCORES.values()]
    lines = [[f"fold {fold['fold']}", *_counted([fold]), *_cells([fold])] for fold in folds]
    lines.append(["**all**", *_counted(folds), *_cells(folds)])
    published = _published(record)
    if any(published.values()):
        lines.append(
            [heading_of_published(record["data"]["synthetic"]), "", "", "", *published.values()]
        )
    return (
        markdown_table(headings, lines, left=1)
        + _published_note(record)
        + _named(folds, "why", "Not a result")
        + _named(folds, "weak", "Weak on validation data")
        + (
            "\nNo distances: the spacing in the headers is nominal.\n"
            if record["data"]["nominal_spacing"]
            else ""
        )
    )


def _published(record: Row) -> dict[tuple[str, str], str]:
    """Return the published numbers of a system as cells, by target and score ("": none, or of which is not said)."""
    found = (
        None if record["system"] in UNCLEAR else published_of(record["system"], record["settings"])
    )
    numbers = {
        (target, score): getattr(found, target, {}).get(score)
        for target in TARGETS
        for score in SCORES
    }
    return {key: "" if number is None else f"{number:g}" for key, number in numbers.items()}


def _published_note(record: Row) -> str:
    """Return a line that says where a system's published numbers are from; "" where there are none."""
    found = published_of(record["system"], record["settings"])
    if found is None:
        return ""
    unclear = (
        f"DSC of `{record['system']}` {found.liver['dice']:g}; "
        if record["system"] in UNCLEAR
        else ""
    )
    more = f"; {ELMENABAWY_NOTE}" if found.where == ELMENABAWY else ""
    return f"\nPublished: {unclear}{found.where}{more}.\n"


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
    return [cell for target in TARGETS for cell in _cells_of(folds, target)]


def _cells_of(folds: Sequence[Row], target: str) -> list[str]:
    given = [fold for fold in folds if any(row["target"] == target for row in fold["cases"])]
    if not given:
        return ["no result"] * len(SCORES)
    of_folds = f" ({len(given)} of {len(folds)} folds)" if len(given) < len(folds) else ""
    means = (means_by_patient(_held(given, target), score) for score in SCORES)
    return [
        _in_words(found, form, of_folds)
        for found, (_, form) in zip(means, SCORES.values(), strict=True)
    ]


def _held(folds: Sequence[Row], target: str) -> list[Row]:
    """Return the scores of a target in the test cases whose reference holds it."""
    rows = [row for fold in folds for row in fold["cases"]]
    return [row for row in rows if row["target"] == target and row["tp"] + row["fn"] > 0]


def _in_words(values: dict[str, float], form: str, of_folds: str) -> str:
    if not values:
        return f"n/a{of_folds}"
    found = bound_mean(values.values())
    text = f"{found.value:{form}}{of_folds}"
    return text if found.low is None else f"{text}<br>{found.low:{form}} to {found.high:{form}}"


if __name__ == "__main__":
    run_command(main, "evaluation.cross_validation")
