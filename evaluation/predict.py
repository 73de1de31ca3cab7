"""Segment CT volumes with the models of a run: liver and tumor, on each volume's own grid.

    python -m evaluation.predict --run DIR --input VOLUME.nii.gz --output SEGMENTATION.nii.gz
    python -m evaluation.predict --run DIR --input FOLDER --output FOLDER

A volume is a NIfTI file, a folder with one DICOM series, or a zip of one. The output has the input's shape, affine and
orientation, with 0 other, 1 liver, 2 tumor. A folder of many volumes is a batch: NAME.nii.gz for each, volumes.csv and
volumes.json; a volume that fails does not stop the others. For research, not for diagnosis.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from data.command import InputError, Parser, run_command
from data.dicom import Series
from data.environment import git_commit, package_versions
from data.files import sha256_of_file
from data.folders import sign_files
from data.seg import check_holds_seg, write_seg
from data.volumes import Volume, read_image, write_labels, write_map
from evaluation import batch
from evaluation.batch import COMMAND, TABLE, Case
from evaluation.names import ARGMAX, LOSSES, MODELS, TARGETS
from evaluation.postprocess import OPTIONS as POSTPROCESSING
from evaluation.postprocess import check_options, postprocess
from evaluation.segmenters import (
    OtherSegmenter,
    PaperSegmenter,
    Segmenter,
    check_finished,
    choose_other,
    choose_system,
)
from evaluation.systems import read_run
from evaluation.volumetry import (
    anatomy_notes,
    geometry_notes,
    in_words,
    measure,
    voxel_ml,
    write_table,
)

SCHEMA = 1

_INPUT_HELP = "CT in HU: a .nii or .nii.gz, a folder or .zip with one DICOM series, or a folder of many of these"
_MODEL_HELP = (
    f"{', '.join(MODELS)}, or a finished system of the other documents, which decides by its own rule (no --loss, "
    "--threshold-rule, --probabilities); default sequential"
)
_OUTPUT_HELP = (
    "label volume to write, .nii or .nii.gz; for many, a folder: it gets NAME.nii.gz, volumes.csv and volumes.json, "
    "and keeps what is there from the same input, networks and flags"
)
_PROBABILITIES_HELP = (
    "write NAME_liver_probability.nii.gz and NAME_tumor_probability.nii.gz beside the output, float32, before "
    "thresholds and --postprocess; takes 12 bytes of memory a voxel more"
)


@dataclass(frozen=True)
class Options:
    """The flags of the same names: how a volume is segmented and what is written of it.

    `postprocess` holds names of `evaluation.postprocess.OPTIONS`, separated by commas.
    """

    threshold_rule: str
    liver_only: bool
    postprocess: str
    dicom_seg: bool
    probabilities: bool
    allow_non_hu: bool

    @property
    def targets(self) -> tuple[str, ...]:
        """What is looked for."""
        return TARGETS[:1] if self.liver_only else TARGETS


def main() -> None:
    """Segment `--input` and write `--output`."""
    arguments = parse()
    options = Options(**{field.name: getattr(arguments, field.name) for field in fields(Options)})
    one, cases = find_cases(arguments, options)
    record = read_run(arguments.run)
    segmenter = choose(arguments.run, record["size"], arguments.model, arguments.loss, options)
    predictor = Predictor(arguments.run, record, segmenter, options)
    failed = []
    if one:
        predict_one(predictor, cases[0], arguments.table)
    else:
        failed = batch.predict_all(predictor.predict, cases, predictor.about())
    if predictor.record["synthetic"]:
        print("the model was trained on the SYNTHETIC phantom and has never seen a patient")
    if segmenter.system.weakness:
        print(f"on its validation data: {segmenter.system.weakness}")
    if failed:
        print(*(f"{COMMAND}: {failure['error']}" for failure in failed), sep="\n", file=sys.stderr)
        raise InputError(
            f"{len(failed)} of {len(cases)} volumes failed; {arguments.output / TABLE}.json lists them"
        )


def parse() -> argparse.Namespace:
    """Parse the command line.

    Raises:
        InputError: a flag that the model does not have.
    """
    parser = Parser(prog=COMMAND, description="Segment liver and tumor in CT volumes.")
    add = parser.add_argument
    add(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        help="run directory of the training scripts",
    )
    add("--input", type=Path, required=True, metavar="PATH", help=_INPUT_HELP)
    add("--output", type=Path, required=True, metavar="PATH", help=_OUTPUT_HELP)
    add("--model", default="sequential", metavar="NAME", help=_MODEL_HELP)
    add(
        "--loss",
        choices=LOSSES,
        help="default: the one with the better tumors (or livers) on validation data",
    )
    add(
        "--threshold-rule",
        choices=("roc", "0.5", "iou", ARGMAX),
        help="default roc; argmax: one_step",
    )
    add(
        "--liver-only",
        action="store_true",
        help="labels 0 and 1; the sequential model needs no tumor network",
    )
    add(
        "--postprocess",
        default="",
        metavar="NAME,NAME",
        help=f"one or several of {', '.join(POSTPROCESSING)}",
    )
    add("--keep-largest", action="store_true", help="the same as --postprocess largest_liver")
    add(
        "--dicom-seg",
        action="store_true",
        help="write a DICOM SEG beside the output, NAME.dcm; for DICOM input",
    )
    add("--probabilities", action="store_true", help=_PROBABILITIES_HELP)
    add(
        "--table",
        type=Path,
        metavar="NAME",
        help="of one volume, write volumes and counts to NAME.csv and NAME.json",
    )
    add("--allow-non-hu", action="store_true", help="take values that are not HU")
    arguments = parser.parse_args()
    if arguments.model not in MODELS:
        check_finished(arguments.run, arguments.model)
        given = {"--loss": arguments.loss, "--threshold-rule": arguments.threshold_rule}
        for flag in [
            flag
            for flag, value in {**given, "--probabilities": arguments.probabilities}.items()
            if value
        ]:
            raise InputError(f"{flag}: for {', '.join(MODELS)} only, not --model {arguments.model}")
    if arguments.threshold_rule == ARGMAX and arguments.model != "one_step":
        raise InputError(
            "--threshold-rule argmax: only the one_step model has classes to choose from"
        )
    arguments.threshold_rule = arguments.threshold_rule or "roc"
    names = [name for name in arguments.postprocess.split(",") if name] + [
        "largest_liver"
    ] * arguments.keep_largest
    try:
        arguments.postprocess = ",".join(check_options(names))
    except ValueError as error:
        raise InputError(f"--postprocess: {error}") from None
    return arguments


def find_cases(arguments: argparse.Namespace, options: Options) -> tuple[bool, list[Case]]:
    """Return whether it is one volume rather than a batch, and the cases, checked before any work.

    Raises:
        InputError: see `one_case`, `many_cases`, `check_names`; a DICOM SEG of a volume that is not DICOM; `--table`
            for a batch.
    """
    one = batch.is_one_volume(arguments.input, arguments.output)
    if one:
        cases = [batch.one_case(arguments.input, arguments.output)]
    else:
        cases = batch.many_cases(arguments.input, arguments.output)
    if arguments.table:
        name = arguments.table.name.removesuffix(".csv").removesuffix(".json")
        if name in ("", "..") or arguments.table.is_dir():
            raise InputError(
                f"--table {arguments.table}: must be a file name, as volumes for volumes.csv and .json"
            )
        arguments.table = arguments.table.with_name(name)
    if arguments.table and not one:
        raise InputError(
            f"--table {arguments.table}: is for one volume; a batch writes {TABLE}.csv and {TABLE}.json"
        )
    batch.check_names(cases, options.targets if options.probabilities else ())
    for case in cases:
        if options.dicom_seg and not case.is_dicom:
            raise InputError(
                f"{case.path}: --dicom-seg needs a DICOM series as input, this is NIfTI"
            )
    return one, cases


def choose(run: Path, size: int, model: str, loss: str | None, options: Options) -> Segmenter:
    """Load the model that is asked for.

    Raises:
        InputError: see `choose_system` and `choose_other`.
    """
    if model in MODELS:
        system = choose_system(run, model, loss, options.liver_only)
        return PaperSegmenter(run, system, size, options.threshold_rule, options.liver_only)
    return OtherSegmenter(
        run, choose_other(run, model, options.liver_only), size, options.liver_only
    )


def predict_one(predictor: Predictor, case: Case, table: Path | None) -> None:
    """Segment one volume, write its table where one is asked for, and say what was found."""
    row = predictor.predict(case)
    if table is not None:
        write_table(table, {**predictor.about(), "cases": [row], "failed": []})
    print(f"{case.labels}: {in_words(row)} ({predictor.segmenter.system.name})")
    batch.say_notes(case, row)


@dataclass(frozen=True)
class Predictor:
    """A loaded model and what is asked of it. Its networks are traced at the first volume, for all of them.

    Attributes:
        run, record: the run directory and its `run.json`.
        segmenter: the trained model.
        options: flags.
    """

    run: Path
    record: dict[str, Any]
    segmenter: Segmenter
    options: Options

    def predict(self, case: Case) -> dict[str, Any]:
        """Segment one volume and write all of its files, or none.

        Returns:
            The volume's row of the table.

        Raises:
            InputError: the volume cannot be used, or not by this machine.
        """
        try:
            return self._predict(case)
        except MemoryError:
            raise InputError(f"{case.path}: needs more memory than there is") from None
        except (zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{case.path}: a damaged zip file ({error})") from None

    def _predict(self, case: Case) -> dict[str, Any]:
        read_from = sign_files(case.path)  # before it is read, so that a later change is noticed
        volume = read_image(case.path, self.options.allow_non_hu)
        if self.options.dicom_seg:
            check_holds_seg(cast(Series, volume))
        maps = [
            np.empty(volume.shape, np.float32)
            for _ in self.options.targets
            if self.options.probabilities
        ]
        names = self.options.postprocess.split(",") if self.options.postprocess else []
        livers = np.zeros(volume.shape, bool) if "inside_liver" in names else None
        labels = self.segmenter.segment(volume, maps, case.name, livers)
        if names:
            hu = volume.slices(0, volume.n_slices) if "active_contour" in names else labels
            labels = postprocess(
                labels, labels > 0 if livers is None else livers, hu, volume.spacing_mm, names
            )
        row = {"case": case.name, **measure(labels, voxel_ml(volume), self.options.liver_only)}
        outputs, notes = self._write(case, volume, labels, maps)
        return row | {
            "spacing_mm": [round(mm, 6) for mm in volume.spacing_mm],
            **self.segmenter.described,
            "run": str(self.run),
            "input": str(case.path),
            "read_from": read_from,
            "outputs": [sign_files(path) for path in outputs],
            "notes": [
                *volume.notes,
                *geometry_notes(volume),
                *anatomy_notes(volume, labels),
                *notes,
            ],
        }

    def _write(
        self, case: Case, volume: Volume, labels: np.ndarray, maps: Sequence[np.ndarray]
    ) -> tuple[list[Path], list[str]]:
        """Write the files of a case, the labels last; return their paths and what there is to say of them."""
        writers: dict[Path, Callable[[Path], None]] = {}
        notes = []
        if self.options.dicom_seg and labels.any():
            writers[case.seg] = partial(self._write_seg, labels=labels, series=cast(Series, volume))
        elif self.options.dicom_seg:
            case.seg.unlink(missing_ok=True)  # of an earlier run: it would contradict the labels
            notes.append(
                "no liver was found, and a DICOM SEG cannot be empty; only the NIfTI is written"
            )
        for target, values in zip(self.options.targets, maps, strict=False):
            writers[case.probability(target)] = partial(write_map, values=values, like=volume)
        writers[case.labels] = partial(write_labels, labels=labels, like=volume)
        written: list[Path] = []
        try:
            for path, write in writers.items():
                write(path)
                written.append(path)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        return written, notes

    def _write_seg(self, path: Path, labels: np.ndarray, series: Series) -> None:
        by, version = f"joint-liver-tumor {self.segmenter.system.name}", git_commit() or "unknown"
        write_seg(path, labels, series, by, version, self.options.liver_only)

    def about(self) -> dict[str, Any]:
        """Return what a table says of its origin: equal for the same networks and flags only."""
        return {
            "schema": SCHEMA,
            "purpose": "research, not diagnosis",
            "synthetic": self.record["synthetic"],
            "run": str(self.run.resolve()),
            "networks": {
                network: {path.name: sha256_of_file(path) for path in paths}
                for network, paths in self.segmenter.files.items()
            },
            "made_by": {"git_commit": git_commit(), "packages": package_versions()},
            "options": {**asdict(self.options), **self.segmenter.described},
        }


if __name__ == "__main__":
    run_command(main, COMMAND)
