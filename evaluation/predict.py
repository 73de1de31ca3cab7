"""Segment liver and tumor in CT volumes, on each volume's own grid.

    python -m evaluation.predict --run DIR --input VOLUME.nii.gz --output SEGMENTATION.nii.gz
    python -m evaluation.predict --run DIR --input FOLDER --output FOLDER

A volume is a NIfTI file, a folder with one DICOM series, or a zip of one. The output has its shape,
affine and orientation: 0 other, 1 liver, 2 tumor. A folder of many is a batch: NAME.nii.gz for
each, volumes.csv and volumes.json; one that fails does not stop the others. For research, not for
diagnosis.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.command import InputError, Parser, run_command
from data.runs import list_finished_systems, read_run, read_system
from evaluation.metrics.thresholds import RULES
from evaluation.names import ARGMAX, PHASES, TARGETS
from evaluation.postprocess import OPTIONS as POSTPROCESSING
from evaluation.postprocess import check_options
from evaluation.segmenter import THRESHOLDS, load_segmenter

if TYPE_CHECKING:
    import nibabel as nib

    from evaluation.batch import Options
    from evaluation.segmenter import Segmenter

COMMAND = "evaluation.predict"

_INPUT_HELP = (
    "CT in HU: a .nii or .nii.gz, a folder or .zip with one DICOM series, or a folder of many"
)
_MODEL_HELP = (
    "a finished system of the run, as one_step or joint; default sequential. One that decides by "
    "a rule of its own has no --threshold-rule and no --probabilities"
)
_OUTPUT_HELP = (
    "label volume to write, .nii or .nii.gz; for many, a folder: it gets NAME.nii.gz, volumes.csv "
    "and volumes.json, and keeps what is there from the same input, networks and flags"
)
_PROBABILITIES_HELP = (
    "write NAME_liver_probability.nii.gz and NAME_tumor_probability.nii.gz beside the output, "
    "float32, before thresholds and --postprocess; takes 12 bytes of memory a voxel more"
)


def main() -> None:
    """Segment `--input` and write `--output`."""
    arguments = parse_flags()
    # Mistakes are told before TensorFlow is loaded, which takes seconds.
    from evaluation import batch

    options = batch.Options(
        **{field.name: getattr(arguments, field.name) for field in fields(batch.Options)}
    )
    record = read_run(arguments.run)
    is_one, cases = batch.find_cases(arguments.input, arguments.output)
    table = check_table(arguments.table, is_one)
    batch.check_names(cases, options.targets if options.probabilities else ())
    for case in cases:
        if options.dicom_seg and not case.is_dicom:
            raise InputError(
                f"{case.path}: --dicom-seg needs a DICOM series as input, this is NIfTI"
            )
    segmenter = load_system(arguments, options)
    predictor = batch.Predictor(arguments.run, record, segmenter, options)
    failures = []
    if is_one:
        row = predictor.predict(cases[0])
        if table is not None:
            batch.write_table(table, predictor.describe(), [row])
        print(f"{cases[0].labels}: {row} ({segmenter.name})")
        batch.print_notes(cases[0], row)
    else:
        failures = batch.predict_all(predictor.predict, cases, predictor.describe())
    if record["synthetic"]:
        print("the model was trained on the SYNTHETIC phantom and has never seen a patient")
    if segmenter.weakness:
        print(f"on its validation data: {segmenter.weakness}")
    if failures:
        lines = (f"{COMMAND}: {failure['error']}" for failure in failures)
        print(*lines, sep="\n", file=sys.stderr)
        listed = f"{arguments.output / batch.TABLE}.json lists them"
        raise InputError(f"{len(failures)} of {len(cases)} volumes failed; {listed}")


def parse_flags() -> argparse.Namespace:
    """Parse the command line.

    Raises:
        InputError: a flag that the system does not have, or unknown post-processing.
    """
    parser = Parser(
        prog=COMMAND,
        description="Segment liver and tumor in CT volumes. For research, not for diagnosis.",
        example="python -m evaluation.predict --run out/run --input ct.nii.gz --output seg.nii.gz",
    )
    add = parser.add_argument_group("files").add_argument
    add("--run", type=Path, required=True, metavar="DIR", help="run directory of the training")
    add("--input", type=Path, required=True, metavar="PATH", help=_INPUT_HELP)
    add("--output", type=Path, required=True, metavar="PATH", help=_OUTPUT_HELP)
    add = parser.add_argument_group("system").add_argument
    add("--model", default="sequential", metavar="NAME", help=_MODEL_HELP)
    better = "default: the one with the better tumors (or livers) on validation data"
    add("--loss", choices=PHASES, help=better)
    rules = "default roc; argmax: of a system with one network of three classes"
    add("--threshold-rule", choices=(*RULES, ARGMAX), help=rules)
    only = "labels 0 and 1; the sequential model needs no tumor network"
    add("--liver-only", action="store_true", help=only)
    options = f"one or several of {', '.join(POSTPROCESSING)}"
    add("--postprocess", default="", metavar="NAME,NAME", help=options)
    largest = "the same as --postprocess largest_liver"
    add("--keep-largest", action="store_true", help=largest)
    add("--allow-non-hu", action="store_true", help="take values that are not HU")
    add = parser.add_argument_group("further results").add_argument
    seg = "write a DICOM SEG beside the output, NAME.dcm; for DICOM input"
    add("--dicom-seg", action="store_true", help=seg)
    add("--probabilities", action="store_true", help=_PROBABILITIES_HELP)
    table = "of one volume, write volumes and counts to NAME.csv and NAME.json"
    add("--table", type=Path, metavar="NAME", help=table)
    arguments = parser.parse_args()
    names = [name for name in arguments.postprocess.split(",") if name]
    try:
        steps = check_options(names + ["largest_liver"] * arguments.keep_largest)
    except ValueError as error:
        raise InputError(f"--postprocess: {error}") from None
    arguments.postprocess = ",".join(steps)
    return arguments


def check_table(table: Path | None, is_one: bool) -> Path | None:
    """Return the value of `--table` without .csv or .json.

    Raises:
        InputError: it is no file name, or `--input` is a batch.
    """
    if table is None:
        return None
    if not is_one:
        raise InputError(
            f"--table {table}: is for one volume; a batch writes volumes.csv and volumes.json"
        )
    name = table.name.removesuffix(".csv").removesuffix(".json")
    if name in ("", "..") or table.is_dir():
        raise InputError(
            f"--table {table}: must be a file name, as volumes for volumes.csv and .json"
        )
    return table.with_name(name)


def load_system(arguments: argparse.Namespace, options: Options) -> Segmenter:
    """Load the system asked for; TensorFlow is imported after all checks.

    Raises:
        InputError: it is not trained, its training failed, or it does not have a flag.
    """
    run, name, rule = arguments.run, arguments.model, options.threshold_rule
    finished = list_finished_systems(run, options.liver_only)
    phases = [phase for system, phase in finished if system == name]
    if not phases:
        names = ", ".join(dict.fromkeys(system for system, _ in finished))
        raise InputError(f"--model {name}: no finished system of {run}; finished there: {names}")
    if arguments.loss not in (None, *phases):
        there = ", ".join(phases)
        raise InputError(f"--loss {arguments.loss}: {name} has not finished it; finished: {there}")
    system = read_system(run, name)
    if system.decision != THRESHOLDS:
        for flag, value in (("threshold-rule", rule), ("probabilities", options.probabilities)):
            if value:
                raise InputError(
                    f"--{flag}: {name} decides by a rule of its own, {system.decision}"
                )
    if rule == ARGMAX and system.networks != ("classes",):
        raise InputError(f"--threshold-rule argmax: {name} has no three classes to choose from")
    segmenter = load_segmenter(run, name, arguments.loss, options.liver_only)
    segmenter.check_usable(options.liver_only)
    if rule and rule not in segmenter.list_rules(TARGETS[0]):
        raise InputError(f"--threshold-rule {rule}: {segmenter.name} was trained without it")
    return segmenter


@dataclass(frozen=True)
class Segmentation:
    """What was found in a CT, on its own grid.

    Attributes:
        labels: uint8 image, 0 other, 1 liver, 2 tumor.
        probabilities: float32 images by target, "liver" (tumor included) and "tumor"; none unless
            they were asked for.
    """

    labels: nib.Nifti1Image
    probabilities: dict[str, nib.Nifti1Image]


def segment_image(
    image: Any, run: Path | str, system: str, phase: str | None, probabilities: bool
) -> Segmentation:
    """Segment one CT; see `evaluation.segment`.

    Args:
        image, run, system, phase, probabilities: as given there.
    """
    import numpy as np

    from data.volumes import check_hu, make_image, read_image, wrap_image

    if isinstance(image, str | Path):
        volume = read_image(Path(image))
    else:
        volume = wrap_image(image)
        check_hu(volume)
    segmenter = load_segmenter(Path(run), system, phase)
    segmenter.check_usable()
    if probabilities and segmenter.decision != THRESHOLDS:
        raise InputError(f"{system}: decides by {segmenter.decision}, so it has no probabilities")
    maps = {target: np.empty(volume.shape, np.float32) for target in TARGETS if probabilities}
    labels = segmenter.segment(volume, maps=list(maps.values()))
    images = {target: make_image(values, volume) for target, values in maps.items()}
    return Segmentation(make_image(labels, volume), images)


if __name__ == "__main__":
    run_command(main, COMMAND)
