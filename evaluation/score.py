"""The 24 figures of the LiTS challenge for any folder of predictions.

    python -m evaluation.score --reference DIR --prediction DIR --out FILE.json [--mode official|corrected] [--jobs N]

Files pair by name, `.nii` or `.nii.gz`; each holds 0 other, 1 liver, 2 lesion. FILE gets {"schema", "mode", "total":
the 24 figures by the names of the official scores.txt, "beside": lesion F1, "cases": [...]}, FILE.csv the cases.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.command import InputError, Parser, run_command
from data.files import write_json, write_text
from data.parallel import Failures, each_case
from data.volumes import Volume, check_label_values, check_pair, open_volume
from evaluation.lits_scoring import MODES, CaseFigures, lesion_f1, score_case, total

SCHEMA = 1
SUFFIXES = (".nii.gz", ".nii")


def volumes_by_name(folder: Path) -> dict[str, Path]:
    """Return the NIfTI files of a folder by their names without .nii or .nii.gz, in order.

    Raises:
        InputError: no such folder, no NIfTI file in it, or a name twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((end for end in SUFFIXES if path.name.endswith(end)), None)
        if suffix is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name.removesuffix(suffix)
        if name in found:
            raise InputError(f"{path}: {found[name].name} is there too; keep one of them")
        found[name] = path
    if not found:
        raise InputError(f"{folder}: no .nii or .nii.gz file in it")
    return found


def paired(reference: Path, prediction: Path) -> dict[str, tuple[Path, Path]]:
    """Return (reference, prediction) of each case by name; a prediction without a reference is left out.

    Raises:
        InputError: a reference without a prediction, or what `volumes_by_name` refuses.
    """
    references, predictions = volumes_by_name(reference), volumes_by_name(prediction)
    missing = [name for name in references if name not in predictions]
    if missing:
        more = f" (nor for {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(f"{prediction}: no prediction {missing[0]}.nii[.gz] for {references[missing[0]]}{more}")
    return {name: (path, predictions[name]) for name, path in references.items()}


def score_files(reference: Path, prediction: Path, mode: str, ignore_affine: bool = False) -> CaseFigures:
    """Score one pair of files, in the axes of the files: the official matching depends on them.

    Raises:
        InputError: a file that is no label volume, another shape, spacing or affine, no liver in the reference.
    """
    given = open_volume(reference)
    predicted = open_volume(prediction, on=given if ignore_affine else None)
    check_pair(given, predicted)
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
    pairs = paired(arguments.reference, arguments.prediction)
    work = {
        name: partial(score_files, *pair, mode=arguments.mode, ignore_affine=arguments.ignore_affine)
        for name, pair in pairs.items()
    }
    failures = Failures(skip=False)
    found = dict(each_case(work, arguments.jobs, "loky", failures))
    failures.stop()
    cases = {name: found[name] for name in pairs}
    figures = total(list(cases.values()))
    rows = [{"case": name, **asdict(case)} for name, case in cases.items()]
    beside = lesion_f1(list(cases.values()))
    content = {"schema": SCHEMA, "mode": arguments.mode, "total": figures, "beside": beside, "cases": rows}
    write_text(arguments.out.with_suffix(".csv"), cases_csv(cases))
    write_json(arguments.out, content)
    for name, value in (figures | beside).items():
        print(f"{name:32} {value:10.3f}")
    print(f"{arguments.out}: {len(cases)} cases, {arguments.mode}")


def cases_csv(cases: dict[str, CaseFigures]) -> str:
    """Return a line per case: counts, overlaps, the liver's figures, the mean of the lesions' figures."""
    rows: list[dict[str, Any]] = []
    for name, case in cases.items():
        row: dict[str, Any] = {"case": name}
        row |= {key: getattr(case, key) for key in ("n_reference", "n_prediction", "hits", "hits_any")}
        row |= {key: getattr(case, key) for key in ("lesion_dice", "liver_dice", "burden_difference")}
        row |= {f"liver_{key}": value for key, value in case.liver.items()}
        row |= {f"lesion_{key}_matched": _mean(case.lesions, key) for key in case.liver}
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _mean(scores: Sequence[dict[str, float]], key: str) -> float | None:
    return float(np.mean([one[key] for one in scores])) if scores else None


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(prog="evaluation.score", description="The figures of the LiTS challenge for a folder.")
    add = parser.add_argument
    add("--reference", type=Path, required=True, metavar="DIR", help="label volumes of the reference")
    add("--prediction", type=Path, required=True, metavar="DIR", help="label volumes with the same names")
    add("--out", type=Path, required=True, metavar="FILE", help="JSON to write; a .csv comes beside it")
    add("--mode", choices=MODES, default="official", help="default official: as the published script, faults included")
    add("--jobs", type=int, default=1, help="cases at once (default 1)")
    add("--ignore-affine", action="store_true", help="compare voxel for voxel where the affines differ")
    arguments = parser.parse_args()
    if arguments.out.suffix != ".json":
        raise InputError(f"--out {arguments.out}: must end in .json")
    return arguments


if __name__ == "__main__":
    run_command(main, "evaluation.score")
