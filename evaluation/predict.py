"""Segment CT volumes with a trained system: liver and tumor, on each volume's own grid.

    python -m evaluation.predict --run DIR --input VOLUME.nii.gz --output SEGMENTATION.nii.gz
    python -m evaluation.predict --run DIR --input FOLDER --output FOLDER

A volume is a NIfTI file, a folder with one DICOM series, or a zip of one. The output has the
input's shape, affine and orientation, with 0 other, 1 liver, 2 tumor. A folder of many volumes is a
batch: NAME.nii.gz for each, volumes.csv and volumes.json; a volume that fails does not stop the
others. For research, not for diagnosis.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from data.command import InputError, Parser, run_command
from data.files import read_json
from evaluation.names import ARGMAX, PHASES, SYSTEMS
from evaluation.postprocess import OPTIONS as POSTPROCESSING
from evaluation.postprocess import check_options

if TYPE_CHECKING:
    from evaluation.batch import Options
    from evaluation.segmenters import Segmenter

COMMAND = "evaluation.predict"
DEFAULT_RULE = "roc"

_INPUT_HELP = (
    "CT in HU: a .nii or .nii.gz, a folder or .zip with one DICOM series, or a folder of many"
)
_MODEL_HELP = (
    f"{', '.join(SYSTEMS)}, or a finished system of the other documents, which decides by its own "
    "rule (no --loss, --threshold-rule, --probabilities); default sequential"
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
    if not (arguments.run / "run.json").is_file():
        raise InputError(f"{arguments.run}: not a run directory (no run.json in it)")
    is_one, cases = batch.find_cases(arguments.input, arguments.output)
    table = check_table(arguments.table, is_one)
    batch.check_names(cases, options.targets if options.probabilities else ())
    for case in cases:
        if options.dicom_seg and not case.is_dicom:
            raise InputError(
                f"{case.path}: --dicom-seg needs a DICOM series as input, this is NIfTI"
            )
    record = read_json(arguments.run / "run.json", ("size", "synthetic"))
    segmenter = load_segmenter(arguments.run, arguments.model, arguments.loss, options)
    predictor = batch.Predictor(arguments.run, record, segmenter, options)
    failures = []
    if is_one:
        row = predictor.predict(cases[0])
        if table is not None:
            batch.write_table(table, predictor.describe(), [row])
        print(f"{cases[0].labels}: {row} ({segmenter.system.name})")
        batch.print_notes(cases[0], row)
    else:
        failures = batch.predict_all(predictor.predict, cases, predictor.describe())
    if predictor.record["synthetic"]:
        print("the model was trained on the SYNTHETIC phantom and has never seen a patient")
    if segmenter.system.weakness:
        print(f"on its validation data: {segmenter.system.weakness}")
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
        example="python -m evaluation.predict --run out/run --input scan.nii.gz --output labels.nii.gz",
    )
    add = parser.add_argument_group("files").add_argument
    add("--run", type=Path, required=True, metavar="DIR", help="run directory of the training")
    add("--input", type=Path, required=True, metavar="PATH", help=_INPUT_HELP)
    add("--output", type=Path, required=True, metavar="PATH", help=_OUTPUT_HELP)
    add = parser.add_argument_group("system").add_argument
    add("--model", default="sequential", metavar="NAME", help=_MODEL_HELP)
    better = "default: the one with the better tumors (or livers) on validation data"
    add("--loss", choices=PHASES, help=better)
    rules = ("roc", "0.5", "iou", ARGMAX)
    add("--threshold-rule", choices=rules, help=f"default {DEFAULT_RULE}; argmax: one_step")
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
    check_system(arguments)
    arguments.threshold_rule = arguments.threshold_rule or DEFAULT_RULE
    names = [name for name in arguments.postprocess.split(",") if name]
    try:
        steps = check_options(names + ["largest_liver"] * arguments.keep_largest)
    except ValueError as error:
        raise InputError(f"--postprocess: {error}") from None
    arguments.postprocess = ",".join(steps)
    return arguments


def check_system(arguments: argparse.Namespace) -> None:
    """Check that the run has the system, and the system the flags.

    Raises:
        InputError: it does not.
    """
    if arguments.model not in SYSTEMS:
        from evaluation.segmenters import check_finished

        check_finished(arguments.run, arguments.model)
        for name in ("loss", "threshold_rule", "probabilities"):
            if getattr(arguments, name):
                flag = f"--{name.replace('_', '-')}"
                raise InputError(
                    f"{flag}: for {', '.join(SYSTEMS)} only, not --model {arguments.model}"
                )
    if arguments.threshold_rule == ARGMAX and arguments.model != "one_step":
        raise InputError(
            "--threshold-rule argmax: only the one_step model has classes to choose from"
        )


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


def load_segmenter(run: Path, model: str, loss: str | None, options: Options) -> Segmenter:
    """Load the system that is asked for; TensorFlow is imported here.

    Args:
        run: run directory of the training.
        model: name of the system.
        loss: its phase; None: the better one on validation data.
        options: flags.

    Raises:
        InputError: it is not trained, or its training failed.
    """
    from evaluation import segmenters
    from evaluation.systems import read_run

    size, liver_only = read_run(run)["size"], options.liver_only
    if model not in SYSTEMS:
        system = segmenters.choose_other(run, model, liver_only)
        return segmenters.OtherSegmenter(run, system, size, liver_only)
    chosen = segmenters.choose_system(run, model, loss, liver_only)
    return segmenters.PaperSegmenter(run, chosen, size, options.threshold_rule, liver_only)


if __name__ == "__main__":
    run_command(main, COMMAND)
