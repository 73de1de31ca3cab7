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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from data.command import InputError, Parser, run_command
from data.dicom import Series
from data.environment import git_commit, package_versions
from data.files import read_json, sha256_of_file
from data.folders import signature
from data.images import read_image
from data.resize import hu_for_network, probability_to_native
from data.seg import check_holds_seg, write_seg
from data.volumes import Volume
from data.writing import write_labels, write_map
from evaluation import batch
from evaluation.batch import COMMAND, TABLE, Case
from evaluation.names import ARGMAX, LOSSES, MODELS, TARGETS
from evaluation.postprocess import OPTIONS as POSTPROCESSING
from evaluation.postprocess import check_options, postprocess
from evaluation.scoring import most_probable
from evaluation.systems import System, check_numbers, finished_systems, load_system, read_run, stages_of
from evaluation.volumetry import anatomy_notes, geometry_notes, in_words, measure, voxel_ml, write_table
from models.sequential import label_map, liver_mask

SCHEMA = 1
Item = TypeVar("Item")

_INPUT_HELP = "CT in HU: a .nii or .nii.gz, a folder or .zip with one DICOM series, or a folder of many of these"
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
    system = choose_system(arguments.run, arguments.model, arguments.loss, options.liver_only)
    predictor = Predictor(arguments.run, read_run(arguments.run), system, options)
    failed = []
    if one:
        predict_one(predictor, cases[0], arguments.table)
    else:
        failed = batch.predict_all(predictor.predict, cases, predictor.about())
    if predictor.record["synthetic"]:
        print("the model was trained on the SYNTHETIC phantom and has never seen a patient")
    if failed:
        print(*(f"{COMMAND}: {failure['error']}" for failure in failed), sep="\n", file=sys.stderr)
        raise InputError(f"{len(failed)} of {len(cases)} volumes failed; {arguments.output / TABLE}.json lists them")


def parse() -> argparse.Namespace:
    """Parse the command line.

    Raises:
        InputError: a threshold rule that the model does not have.
    """
    parser = Parser(prog=COMMAND, description="Segment liver and tumor in CT volumes.")
    add = parser.add_argument
    add("--run", type=Path, required=True, metavar="DIR", help="run directory of the training scripts")
    add("--input", type=Path, required=True, metavar="PATH", help=_INPUT_HELP)
    add("--output", type=Path, required=True, metavar="PATH", help=_OUTPUT_HELP)
    add("--model", choices=MODELS, default="sequential", help="default sequential")
    add("--loss", choices=LOSSES, help="default: the one with the better tumors (or livers) on validation data")
    add("--threshold-rule", choices=("roc", "0.5", "iou", ARGMAX), default="roc", help="default roc; argmax: one_step")
    add("--liver-only", action="store_true", help="labels 0 and 1; the sequential model needs no tumor network")
    add("--postprocess", default="", metavar="NAME,NAME", help=f"one or several of {', '.join(POSTPROCESSING)}")
    add("--keep-largest", action="store_true", help="the same as --postprocess largest_liver")
    add("--dicom-seg", action="store_true", help="write a DICOM SEG beside the output, NAME.dcm; for DICOM input")
    add("--probabilities", action="store_true", help=_PROBABILITIES_HELP)
    add("--table", type=Path, metavar="NAME", help="of one volume, write volumes and counts to NAME.csv and NAME.json")
    add("--allow-non-hu", action="store_true", help="take values that are not HU")
    arguments = parser.parse_args()
    if arguments.threshold_rule == ARGMAX and arguments.model != "one_step":
        raise InputError("--threshold-rule argmax: only the one_step model has classes to choose from")
    names = [name for name in arguments.postprocess.split(",") if name] + ["largest_liver"] * arguments.keep_largest
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
            raise InputError(f"--table {arguments.table}: must be a file name, as volumes for volumes.csv and .json")
        arguments.table = arguments.table.with_name(name)
    if arguments.table and not one:
        raise InputError(f"--table {arguments.table}: is for one volume; a batch writes {TABLE}.csv and {TABLE}.json")
    batch.check_names(cases, options.targets if options.probabilities else ())
    for case in cases:
        if options.dicom_seg and not case.is_dicom:
            raise InputError(f"{case.path}: --dicom-seg needs a DICOM series as input, this is NIfTI")
    return one, cases


def choose_system(run: Path, model: str, loss: str | None, liver_only: bool = False) -> System:
    """Load the model after the phase asked for; by default the phase of the higher validation IoU (rule roc).

    The IoU is that of the tumor; that of the liver for `liver_only`, where the second network is not needed.

    Raises:
        InputError: it is not trained, or its training failed.
    """
    if loss is None:
        every = finished_systems(run, liver_only)
        finished = [found for found_model, found in every if found_model == model]
        if not finished:
            there = " or ".join(dict.fromkeys(found_model for found_model, _ in every))
            raise InputError(f"{run}: no {model} model is finished; take another (--model {there})")
        loss = max(finished, key=lambda found: validation_iou(run, model, found, liver_only))
    system = load_system(run, model, loss, liver_only)
    if system.failure:
        raise InputError(f"{run}: {system.name} is not usable: {system.failure}")
    return system


def validation_iou(run: Path, model: str, loss: str, liver_only: bool = False) -> float:
    """Return what the record of the phase says of its tumors (or livers) on validation data; -1 if it is no result."""
    stages = stages_of(model, liver_only)
    records = [read_json(run / stage / loss / "record.json", ("status", "validation")) for stage in stages]
    if any(record["status"] != "ok" for record in records):
        return -1.0
    return float(records[-1]["validation"]["liver" if liver_only else "tumor"]["iou_at_roc"])


def predict_one(predictor: Predictor, case: Case, table: Path | None) -> None:
    """Segment one volume, write its table where one is asked for, and say what was found."""
    row = predictor.predict(case)
    if table is not None:
        write_table(table, {**predictor.about(), "cases": [row], "failed": []})
    print(f"{case.labels}: {in_words(row)} ({predictor.system.name})")
    batch.say_notes(case, row)


@dataclass(frozen=True)
class Predictor:
    """A loaded model and what is asked of it. Its networks are traced at the first volume, for all of them.

    Attributes:
        run, record: the run directory and its `run.json`.
        system: the trained model.
        options: flags.
    """

    run: Path
    record: dict[str, Any]
    system: System
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
        read_from = signature(case.path)  # before it is read, so that a later change is noticed
        volume = read_image(case.path, self.options.allow_non_hu)
        if self.options.dicom_seg:
            check_holds_seg(cast(Series, volume))
        maps = [np.empty(volume.shape, np.float32) for _ in self.options.targets if self.options.probabilities]
        rule, liver_only = self.options.threshold_rule, self.options.liver_only
        names = self.options.postprocess.split(",") if self.options.postprocess else []
        livers = np.zeros(volume.shape, bool) if "inside_liver" in names else None
        labels = segment(self.system, volume, self.record["size"], rule, liver_only, maps, case.name, livers)
        if names:
            hu = volume.slices(0, volume.n_slices) if "active_contour" in names else labels
            labels = postprocess(labels, labels > 0 if livers is None else livers, hu, volume.spacing_mm, names)
        row = {"case": case.name, **measure(labels, voxel_ml(volume), liver_only)}
        outputs, notes = self._write(case, volume, labels, maps)
        return row | {
            "spacing_mm": [round(mm, 6) for mm in volume.spacing_mm],
            "model": self.system.model,
            "loss": self.system.loss,
            "threshold_rule": rule,
            "run": str(self.run),
            "input": str(case.path),
            "read_from": read_from,
            "outputs": [signature(path) for path in outputs],
            "notes": [*volume.notes, *geometry_notes(volume), *anatomy_notes(volume, labels), *notes],
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
            notes.append("no liver was found, and a DICOM SEG cannot be empty; only the NIfTI is written")
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
        by, version = f"joint-liver-tumor {self.system.name}", git_commit() or "unknown"
        write_seg(path, labels, series, by, version, self.options.liver_only)

    def about(self) -> dict[str, Any]:
        """Return what a table says of its origin: equal for the same networks and flags only."""
        stages = stages_of(self.system.model, self.options.liver_only)
        folders = {stage: self.run / stage / self.system.loss for stage in stages}
        return {
            "schema": SCHEMA,
            "purpose": "research, not diagnosis",
            "synthetic": self.record["synthetic"],
            "run": str(self.run.resolve()),
            "networks": {
                stage: {name: sha256_of_file(folder / name) for name in ("best.keras", "record.json")}
                for stage, folder in folders.items()
            },
            "made_by": {"git_commit": git_commit(), "packages": package_versions()},
            "options": {"model": self.system.model, "loss": self.system.loss, **asdict(self.options)},
        }


def segment(
    system: System,
    volume: Volume,
    size: int,
    rule: str = "roc",
    liver_only: bool = False,
    maps: Sequence[np.ndarray] = (),
    shown_as: str = "",
    livers: np.ndarray | None = None,
) -> np.ndarray:
    """Return the label map of a volume, slice by slice.

    Beyond the raw voxels, the labels and `maps`, memory holds some slices at a time.

    Args:
        system: the trained model.
        volume: CT in HU.
        size: rows and columns of the networks' slices.
        rule: which of the thresholds chosen on validation data; "argmax" for the one-step model.
        liver_only: give 1 where L > s1 (or where liver or tumor is the most probable class), else 0.
        maps: float32 arrays of the volume's shape, filled with the probabilities of liver (tumor included) and tumor.
        shown_as: what a terminal shows the percentage of; nothing for "".
        livers: bool array of the volume's shape, filled with L > s1 (rule argmax: with the labels that are not 0).

    Returns:
        uint8 (n_slices, rows, columns), canonical order, 0 other, 1 liver, 2 tumor.
    """
    slices = partial(_network_slices, volume, size)
    labels = np.zeros(volume.shape, np.uint8)
    used = 1 if liver_only and rule != ARGMAX else 2
    predicted = _with_percentage(system.probabilities(slices, slices), volume.n_slices, shown_as)
    for index, both in enumerate(predicted):
        check_numbers(system, f"slice {index}", *both)
        native = [probability_to_native(p[np.newaxis], volume.rows, volume.columns)[0] for p in both[:used]]
        for values, probability in zip(maps, native, strict=False):
            values[index] = probability
        labels[index] = _labels(system, rule, liver_only, native)
        if livers is not None:
            found = labels[index] if rule == ARGMAX else liver_mask(native[0], system.thresholds("liver")[rule])
            livers[index] = found
    return labels


def _labels(system: System, rule: str, liver_only: bool, probabilities: Sequence[np.ndarray]) -> np.ndarray:
    if liver_only and rule != ARGMAX:
        return np.asarray(liver_mask(probabilities[0], system.thresholds("liver")[rule]))
    liver, tumor = probabilities
    if rule == ARGMAX:
        labels = most_probable(liver, tumor)
        return labels > 0 if liver_only else labels
    return np.asarray(label_map(liver, tumor, *(system.thresholds(target)[rule] for target in TARGETS)))


def _with_percentage(items: Iterable[Item], total: int, shown_as: str) -> Iterator[Item]:
    shown = bool(shown_as) and sys.stderr.isatty()
    for index, item in enumerate(items):
        if shown:
            print(f"\r{shown_as}: {100 * index // total} %", end="", file=sys.stderr, flush=True)
        yield item
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _network_slices(volume: Volume, size: int) -> Iterator[np.ndarray]:
    for _, chunk in volume.chunks():
        yield from hu_for_network(chunk, size)


if __name__ == "__main__":
    run_command(main, COMMAND)
