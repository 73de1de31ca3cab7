"""Score any label volumes by the 24 figures of LiTS, or two arrays.

    python -m evaluation.score --reference DIR --prediction DIR --out FILE.json

Files hold 0 other, 1 liver, 2 lesion, `.nii` or `.nii.gz`, and pair by name. The prediction for
`segmentation-4` of LiTS may be called `volume-4`, as `evaluation.predict` names it. References
beside `segmentation-N` that are called `volume-N` are CT and left out. A prediction without a
reference is noted and left out; a reference without a prediction, or with two, is an error.

FILE.json gets {"schema", "mode", "total": the 24 figures by the names of the official scores.txt,
"beside": lesion F1, "cases": [{"case", "figures": the 24 of a set of this case alone, "beside", its
counts, every match}]}. FILE.csv has a row of counts, figures and F1 for each case, and a last row
`total`. A figure that does not exist is null, an empty cell: in mode `corrected`, lesion distances
without any lesion (`evaluation.metrics.counts` has the rule for empty masks).

It needs no TensorFlow: evaluation/requirements.txt is enough.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.command import InputError, Parser, parse_count, run_command
from data.files import format_json, write_texts
from data.parallel import MOST_NAMED, Failures, run_cases
from data.progress import track
from data.volumes import (
    Volume,
    check_label_values,
    check_pair,
    check_same_spacing,
    check_spacing,
    open_volume,
)
from evaluation.metrics.counts import Counts, dice, iou, precision, sensitivity, share
from evaluation.metrics.lesions import find_lesions, match_once
from evaluation.metrics.lits import (
    ANY,
    HALF,
    MODES,
    CaseFigures,
    compute_lesion_f1,
    pool_cases,
    score_case,
)
from evaluation.metrics.surfaces import measure_distances

COMMAND = "evaluation.score"
SCHEMA = 2
COUNTS = ("n_reference", "n_prediction", "hits", "hits_any")
TOTAL = "total"
NIFTI = (".nii.gz", ".nii")
MM3_PER_ML = 1000.0

_LITS_IMAGE, _LITS_LABELS = (re.compile(rf"{kind}-(\d+)") for kind in ("volume", "segmentation"))
_REFERENCE_HELP = (
    "label volumes of the reference; where it holds segmentation-N, volume-N is taken for CT, and "
    "a prediction may be called volume-N as well"
)


def main() -> None:
    """Score two folders and print the figures."""
    arguments = parse_flags()
    # Everything that can be refused is refused before the work.
    table = arguments.out.with_suffix(".csv")
    for path in (table, arguments.out):
        check_target(path)
    pairs, surplus = pair_files(arguments.reference, arguments.prediction)
    settings = {"mode": arguments.mode, "ignore_affine": arguments.ignore_affine}
    work = {case: partial(score_files, *pair, **settings) for case, pair in pairs.items()}
    # A bad case does not stop the others, so that one call names them all.
    failures = Failures(skip=False, order=list(pairs), can_skip=False)
    scored = run_cases(work, min(arguments.jobs, len(work)), "loky", failures)
    figures = dict(track(scored, "scoring", total=len(work)))
    failures.stop()
    cases = {case: figures[case] for case in pairs}
    content = make_json(cases, arguments.mode)
    write_texts({table: make_csv(cases), arguments.out: format_json(content)})
    for name, value in (content[TOTAL] | content["beside"]).items():
        print(f"{name:32} {'none' if value is None else f'{value:.3f}':>10}")
    print(f"{arguments.out}: {len(cases)} cases, {arguments.mode}")
    if surplus:
        why = f"left out, as no reference has its name: {list_names(surplus)}"
        print(f"{COMMAND}: {arguments.prediction}: {why}", file=sys.stderr)


def parse_flags() -> argparse.Namespace:
    """Parse the command line.

    Raises:
        InputError: `--out` does not end in .json.
    """
    parser = Parser(
        prog=COMMAND,
        description="Score a folder of label volumes by the figures of the LiTS challenge.",
        example="python -m evaluation.score --reference labels --prediction predicted "
        "--out scores.json --mode corrected",
    )
    add = parser.add_argument_group("files").add_argument
    add("--reference", type=Path, required=True, metavar="DIR", help=_REFERENCE_HELP)
    named = "label volumes of these names; see --reference"
    add("--prediction", type=Path, required=True, metavar="DIR", help=named)
    table = "JSON to write, named .json; a .csv comes beside it"
    add("--out", type=Path, required=True, metavar="FILE", help=table)
    add = parser.add_argument_group("scoring").add_argument
    faults = "default official: as the published script, faults included"
    add("--mode", choices=MODES, default="official", help=faults)
    voxels = "compare voxel for voxel where the affines differ"
    add("--ignore-affine", action="store_true", help=voxels)
    add("--jobs", type=parse_count, default=1, metavar="N", help="cases at once (default 1)")
    arguments = parser.parse_args()
    if arguments.out.suffix != ".json":
        raise InputError(f"--out {arguments.out}: must end in .json; the .csv gets the same name")
    return arguments


def check_target(path: Path) -> None:
    """Check that a file could be written, before the work.

    Raises:
        InputError: it is a folder, or its folder is a file.
    """
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder, not a file")
    if not next(folder for folder in path.absolute().parents if folder.exists()).is_dir():
        raise InputError(f"--out {path}: lies in what is a file, not a folder")


def find_volumes(folder: Path) -> dict[str, Path]:
    """Find the NIfTI files of a folder by name without .nii or .nii.gz, in order.

    Raises:
        InputError: no such folder, no NIfTI file in it, or a name twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    volumes: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((end for end in NIFTI if path.name.endswith(end)), None)
        if suffix is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name.removesuffix(suffix)
        if name in volumes:
            raise InputError(f"{path}: {volumes[name].name} is there too; keep one of them")
        volumes[name] = path
    if not volumes:
        raise InputError(f"{folder}: no .nii or .nii.gz file in it")
    return volumes


def find_references(folder: Path) -> dict[str, Path]:
    """Find the label volumes of a folder; `volume-N` beside a `segmentation-N` is CT."""
    volumes = find_volumes(folder)
    if any(map(_LITS_LABELS.fullmatch, volumes)):
        return {name: path for name, path in volumes.items() if not _LITS_IMAGE.fullmatch(name)}
    return volumes


def pair_files(
    reference: Path, prediction: Path
) -> tuple[dict[str, tuple[Path, Path]], list[Path]]:
    """Pair the files of two folders by name, or `segmentation-N` with `volume-N`.

    Returns:
        (reference, prediction) by the name of the reference, in order; and the predictions that
        belong to no reference.

    Raises:
        InputError: a reference without a prediction or with two, or what `find_volumes` refuses.
    """
    references, predictions = find_references(reference), find_volumes(prediction)
    pairs, missing = {}, []
    for name, path in references.items():
        candidates = [
            predictions[allowed] for allowed in list_allowed_names(name) if allowed in predictions
        ]
        if len(candidates) > 1:
            first, second = candidates
            raise InputError(
                f"{second}: {first.name} is there too, both for {path.name}; keep one of them"
            )
        if candidates:
            pairs[name] = path, candidates[0]
        else:
            missing.append(name)
    surplus = sorted(set(predictions.values()) - {path for _, path in pairs.values()})
    if missing:
        expected = " or ".join(f"{name}.nii[.gz]" for name in list_allowed_names(missing[0]))
        more = f" (nor for {len(missing) - 1} more)" if len(missing) > 1 else ""
        unused = f"; {list_names(surplus)} without a reference" if surplus else ""
        raise InputError(
            f"{prediction}: no prediction {expected} for {references[missing[0]]}{more}{unused}"
        )
    return pairs, surplus


def list_allowed_names(reference: str) -> tuple[str, ...]:
    """Return the names that the prediction for a reference may have."""
    match = _LITS_LABELS.fullmatch(reference)
    return (reference, f"volume-{match[1]}") if match else (reference,)


def list_names(paths: list[Path]) -> str:
    """List the names of files, the first few, in one line."""
    names = ", ".join(path.name for path in paths[:MOST_NAMED])
    return names + (", ..." if len(paths) > MOST_NAMED else "")


def score_files(
    reference: Path, prediction: Path, mode: str, ignore_affine: bool = False
) -> CaseFigures:
    """Score a pair of files in their own axes: official matching depends on them.

    Args:
        reference, prediction: NIfTI files.
        mode: "official" or "corrected".
        ignore_affine: take the prediction voxel for voxel, whatever its affine.

    Raises:
        InputError: a file that is no label volume; another shape, spacing or affine; a reference
            whose spacing is not that of its affine; no liver in the reference.
    """
    truth = open_volume(reference)
    predicted = open_volume(prediction, on=truth if ignore_affine else None)
    check_spacing(truth)
    check_pair(truth, predicted, "--ignore-affine")
    check_same_spacing(truth, predicted)
    for volume in (truth, predicted):
        check_label_values(volume)
    # The spacing is canonical (slices, rows, columns); the voxels are in the file's own order.
    by_axis = dict(zip(("slices", "rows", "columns"), truth.spacing_mm, strict=True))
    spacing_mm = tuple(by_axis[name] for name in sorted(by_axis, key=truth.file_axis.__getitem__))
    try:
        return score_case(_read_native(predicted), _read_native(truth), spacing_mm, mode)
    except ValueError as error:
        raise InputError(f"{reference}: {error}") from None


def _read_native(volume: Volume) -> np.ndarray:
    return volume.to_native(volume.labels(0, volume.n_slices))


def make_json(cases: Mapping[str, CaseFigures], mode: str) -> dict[str, Any]:
    """Return the content of the JSON file (see the module)."""
    rows = []
    for name, case in cases.items():
        row = asdict(case)
        del row["mode"]
        rows.append(
            {
                "case": name,
                "figures": pool_cases([case]),
                "beside": compute_lesion_f1([case]),
                **row,
            }
        )
    figures = list(cases.values())
    return {
        "schema": SCHEMA,
        "mode": mode,
        TOTAL: pool_cases(figures),
        "beside": compute_lesion_f1(figures),
        "cases": rows,
    }


def make_csv(cases: Mapping[str, CaseFigures]) -> str:
    """Return the content of the CSV file: a row per case, then a row for all."""
    import pandas as pd  # only here: --help and mistakes do not wait for it

    sets = {name: [case] for name, case in cases.items()} | {TOTAL: list(cases.values())}
    rows = [
        {"case": name, **{key: sum(getattr(case, key) for case in members) for key in COUNTS}}
        | pool_cases(members)
        | compute_lesion_f1(members)
        for name, members in sets.items()
    ]
    return pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n")


@dataclass(frozen=True)
class TargetScores:
    """Scores of the liver (tumors included) or of all tumors of a volume.

    Attributes:
        dice, iou: overlap of prediction and reference, 1 is best.
        sensitivity: share of the reference that was predicted.
        precision: share of the prediction that is right.
        assd_mm, rmsd_mm, hausdorff_mm, hausdorff95_mm: distances between the two surfaces; None
            where a mask is empty.
        prediction_ml, reference_ml: volumes.
    """

    dice: float
    iou: float
    sensitivity: float
    precision: float
    assd_mm: float | None
    rmsd_mm: float | None
    hausdorff_mm: float | None
    hausdorff95_mm: float | None
    prediction_ml: float
    reference_ml: float


@dataclass(frozen=True)
class LabelScores:
    """Scores of a label volume against its reference.

    Attributes:
        liver, tumor: scores of the voxels.
        n_reference, n_prediction: number of lesions (6-connected tumors).
        lesion_recall, lesion_precision: share of the lesions of the reference, and of those
            predicted, that match one of the other side at an IoU above 0.5; each matches once.
        lesion_recall_any, lesion_precision_any: the same with any voxel in common.
    """

    liver: TargetScores
    tumor: TargetScores
    n_reference: int
    n_prediction: int
    lesion_recall: float
    lesion_precision: float
    lesion_recall_any: float
    lesion_precision_any: float


def score_labels(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> LabelScores:
    """Score one label array against another; see `evaluation.score_labels`.

    Args:
        prediction, reference, spacing_mm: as given there.
    """
    for name, labels in (("prediction", prediction), ("reference", reference)):
        if not np.isin(labels, (0, 1, 2)).all():
            wrong = labels[~np.isin(labels, (0, 1, 2))][0]
            raise ValueError(f"`{name}` must hold 0, 1 and 2 alone. Received: {wrong}")
    liver = _score_target(prediction > 0, reference > 0, spacing_mm)
    tumor = _score_target(prediction == 2, reference == 2, spacing_mm)
    lesions = find_lesions(prediction, reference)
    hits, hits_any = (match_once(lesions, threshold).hits for threshold in (HALF, ANY))
    return LabelScores(
        liver=liver,
        tumor=tumor,
        n_reference=lesions.n_reference,
        n_prediction=lesions.n_prediction,
        lesion_recall=share(hits, lesions.n_reference),
        lesion_precision=share(hits, lesions.n_prediction),
        lesion_recall_any=share(hits_any, lesions.n_reference),
        lesion_precision_any=share(hits_any, lesions.n_prediction),
    )


def _score_target(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> TargetScores:
    """Score one mask; the distances also check shapes and spacing."""
    distances = measure_distances(prediction, reference, spacing_mm)
    counts = Counts.of(prediction, reference)
    voxel_ml = float(np.prod(spacing_mm)) / MM3_PER_ML
    return TargetScores(
        dice=dice(counts),
        iou=iou(counts),
        sensitivity=sensitivity(counts),
        precision=precision(counts),
        assd_mm=distances.assd_mm if distances else None,
        rmsd_mm=distances.rmsd_mm if distances else None,
        hausdorff_mm=distances.hausdorff_mm if distances else None,
        hausdorff95_mm=distances.hausdorff95_mm if distances else None,
        prediction_ml=(counts.tp + counts.fp) * voxel_ml,
        reference_ml=(counts.tp + counts.fn) * voxel_ml,
    )


if __name__ == "__main__":
    run_command(main, COMMAND)
