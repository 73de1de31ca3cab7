"""The 24 figures of the LiTS challenge for any folder of predictions.

    python -m evaluation.score --reference DIR --prediction DIR --out FILE.json [--mode official|corrected] [--jobs N]

Each file holds 0 other, 1 liver, 2 lesion, `.nii` or `.nii.gz`; files pair by name. For `segmentation-4` of LiTS the
prediction may also be called `volume-4`, as `evaluation.predict` names what it makes of LiTS' `volume-4`; in a folder
of references that holds `segmentation-N` the `volume-N` beside them are CT and left out. A prediction without a
reference is noted and left out; a reference without a prediction, or with two, is an error.

FILE.json gets {"schema", "mode", "total": the 24 figures by the names of the official scores.txt, "beside": lesion F1,
"cases": [{"case", "figures": the 24 of a set of this case alone, "beside", its counts, every match}]}. FILE.csv has a
row of counts, figures and F1 for each case, and a last row `total`. A figure that does not exist is null, an empty
cell: in mode `corrected`, lesion distances where no lesion was to be found and none was drawn (`evaluation.metrics.counts` has
the rule for empty masks).
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.command import InputError, Parser, parse_count, run_command
from data.files import json_text, write_texts
from data.parallel import Failures, each_case
from data.spacing import check_same_spacing, check_spacing
from data.volumes import Volume, check_label_values, check_pair, open_volume
from evaluation.metrics.lits import MODES, CaseFigures, lesion_f1, score_case, total
from evaluation.pairs import named, paired

SCHEMA = 2
COUNTS = ("n_reference", "n_prediction", "hits", "hits_any")
TOTAL = "total"


def score_files(
    reference: Path, prediction: Path, mode: str, ignore_affine: bool = False
) -> CaseFigures:
    """Score one pair of files, in the axes of the files: the official matching depends on them.

    Raises:
        InputError: a file that is no label volume, another shape, spacing or affine, a reference whose spacing is not
            that of its affine, no liver in the reference.
    """
    given = open_volume(reference)
    predicted = open_volume(prediction, on=given if ignore_affine else None)
    check_spacing(given)
    check_pair(given, predicted, "--ignore-affine")
    check_same_spacing(given, predicted)
    for volume in (given, predicted):
        check_label_values(volume)
    slice_mm, row_mm, column_mm = given.spacing_mm
    by_name = {"slices": slice_mm, "rows": row_mm, "columns": column_mm}
    spacing_mm = tuple(by_name[name] for name in sorted(by_name, key=given.file_axis.__getitem__))
    try:
        return score_case(_labels(predicted), _labels(given), spacing_mm, mode)
    except ValueError as error:
        raise InputError(f"{reference}: {error}") from None


def _labels(volume: Volume) -> np.ndarray:
    return volume.to_native(volume.labels(0, volume.n_slices))


def main() -> None:
    """Score two folders and print the figures."""
    arguments = parse()
    table = arguments.out.with_suffix(".csv")
    for path in (table, arguments.out):
        check_target(path)
    pairs, surplus = paired(arguments.reference, arguments.prediction)
    work = {
        name: partial(
            score_files, *pair, mode=arguments.mode, ignore_affine=arguments.ignore_affine
        )
        for name, pair in pairs.items()
    }
    failures = Failures(skip=False, order=list(pairs), can_skip=False)
    found = dict(each_case(work, min(arguments.jobs, len(work)), "loky", failures))
    failures.stop()
    cases = {name: found[name] for name in pairs}
    content = scores_json(cases, arguments.mode)
    write_texts({table: scores_csv(cases), arguments.out: json_text(content)})
    for name, value in (content[TOTAL] | content["beside"]).items():
        print(f"{name:32} {'none' if value is None else f'{value:.3f}':>10}")
    print(f"{arguments.out}: {len(cases)} cases, {arguments.mode}")
    if surplus:
        noted = f"{arguments.prediction}: left out, as no reference has its name: {named(surplus)}"
        print(f"evaluation.score: {noted}", file=sys.stderr)


def check_target(path: Path) -> None:
    """Check that a file could be written, before the work.

    Raises:
        InputError: it is a folder, or its folder is a file.
    """
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder, not a file")
    if not next(folder for folder in path.absolute().parents if folder.exists()).is_dir():
        raise InputError(f"--out {path}: lies in what is a file, not a folder")


def scores_json(cases: Mapping[str, CaseFigures], mode: str) -> dict[str, Any]:
    """Return the content of the JSON file (see the module)."""
    rows = []
    for name, case in cases.items():
        row = asdict(case)
        del row["mode"]
        rows.append({"case": name, "figures": total([case]), "beside": lesion_f1([case]), **row})
    whole = list(cases.values())
    return {
        "schema": SCHEMA,
        "mode": mode,
        TOTAL: total(whole),
        "beside": lesion_f1(whole),
        "cases": rows,
    }


def scores_csv(cases: Mapping[str, CaseFigures]) -> str:
    """Return the content of the CSV file: a row for each case, a last row for all (see the module)."""
    rows = [_row(name, [case]) for name, case in cases.items()]
    rows.append(_row(TOTAL, list(cases.values())))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(name: str, cases: Sequence[CaseFigures]) -> dict[str, Any]:
    counts = {key: sum(getattr(case, key) for case in cases) for key in COUNTS}
    return {"case": name, **counts, **total(cases), **lesion_f1(cases)}


_REFERENCE_HELP = (
    "label volumes of the reference; where it holds segmentation-N, volume-N is taken for CT, and a prediction may be "
    "called volume-N as well"
)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog="evaluation.score", description="The figures of the LiTS challenge for a folder."
    )
    add = parser.add_argument
    add("--reference", type=Path, required=True, metavar="DIR", help=_REFERENCE_HELP)
    add(
        "--prediction",
        type=Path,
        required=True,
        metavar="DIR",
        help="label volumes of these names; see --reference",
    )
    add(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="JSON to write, named .json; a .csv comes beside it",
    )
    add(
        "--mode",
        choices=MODES,
        default="official",
        help="default official: as the published script, faults included",
    )
    add("--jobs", type=parse_count, default=1, metavar="N", help="cases at once (default 1)")
    add(
        "--ignore-affine",
        action="store_true",
        help="compare voxel for voxel where the affines differ",
    )
    arguments = parser.parse_args()
    if arguments.out.suffix != ".json":
        raise InputError(f"--out {arguments.out}: must end in .json; the .csv gets the same name")
    return arguments


if __name__ == "__main__":
    run_command(main, "evaluation.score")
