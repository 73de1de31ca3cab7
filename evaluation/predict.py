"""Segment one CT volume with the models of a run: liver and tumor, on the volume's own grid.

    python -m evaluation.predict --run DIR --input VOLUME.nii.gz --output SEGMENTATION.nii.gz

The output has the input's shape, affine and orientation, with 0 other, 1 liver, 2 tumor. For research, not for
diagnosis.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from data.command import InputError, Parser, run_command
from data.files import read_json
from data.resize import hu_for_network, probability_to_native
from data.volumes import Volume, read_image, write_labels
from evaluation.names import ARGMAX, LOSSES, MODELS, STAGES, TARGETS
from evaluation.scoring import most_probable
from evaluation.systems import System, finished_systems, load_system, read_run
from models.sequential import label_map

MM3_PER_ML = 1000.0


def main() -> None:
    """Segment `--input` and write `--output`."""
    arguments = parse()
    volume = read_image(arguments.input, arguments.allow_non_hu)
    system = choose_system(arguments.run, arguments.model, arguments.loss)
    labels = segment(system, volume, read_run(arguments.run)["size"], arguments.threshold_rule)
    write_labels(arguments.output, labels, volume)
    ml = float(np.prod(volume.spacing_mm)) / MM3_PER_ML
    liver, tumor = np.count_nonzero(labels), np.count_nonzero(labels == 2)
    print(f"{arguments.output}: liver {liver * ml:.1f} ml, of it tumor {tumor * ml:.1f} ml ({system.name})")
    if read_run(arguments.run)["synthetic"]:
        print("the model was trained on the SYNTHETIC phantom and has never seen a patient")


def parse() -> argparse.Namespace:
    """Parse the command line.

    Raises:
        InputError: an output that is not a NIfTI name, or is the input.
    """
    parser = Parser(prog="evaluation.predict", description="Segment liver and tumor in one CT volume.")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run directory of the training scripts")
    parser.add_argument("--input", type=Path, required=True, metavar="FILE", help="CT volume in HU, .nii or .nii.gz")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="label volume to write")
    parser.add_argument("--model", choices=MODELS, default="sequential", help="default sequential")
    parser.add_argument("--loss", choices=LOSSES, help="default: the one with the better tumors on validation data")
    parser.add_argument(
        "--threshold-rule", choices=("roc", "0.5", "iou", ARGMAX), default="roc", help="default roc; argmax: one_step"
    )
    parser.add_argument("--allow-non-hu", action="store_true", help="take values that are not HU")
    arguments = parser.parse_args()
    if not arguments.output.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"--output {arguments.output}: must end in .nii or .nii.gz")
    if arguments.output.resolve() == arguments.input.resolve():
        raise InputError(f"--output {arguments.output}: is the input")
    if arguments.threshold_rule == ARGMAX and arguments.model != "one_step":
        raise InputError("--threshold-rule argmax: only the one_step model has classes to choose from")
    return arguments


def choose_system(run: Path, model: str, loss: str | None) -> System:
    """Load the model after the phase asked for; by default the phase of the higher validation tumor IoU (rule roc).

    Raises:
        InputError: it is not trained, or its training failed.
    """
    if loss is None:
        finished = [found for found_model, found in finished_systems(run) if found_model == model]
        loss = max(finished, key=lambda found: validation_tumor_iou(run, model, found), default=LOSSES[0])
    system = load_system(run, model, loss)
    if system.failure:
        raise InputError(f"{run}: {system.name} is not usable: {system.failure}")
    return system


def validation_tumor_iou(run: Path, model: str, loss: str) -> float:
    """Return what the record of the phase says of its tumors on validation data; -1 where it is no result."""
    records = [read_json(run / stage / loss / "record.json", ("status", "validation")) for stage in STAGES[model]]
    if any(record["status"] != "ok" for record in records):
        return -1.0
    return float(records[-1]["validation"]["tumor"]["iou_at_roc"])


def segment(system: System, volume: Volume, size: int, rule: str = "roc") -> np.ndarray:
    """Return the label map of a volume, slice by slice.

    Beyond the raw voxels and the labels, memory holds some slices at a time.

    Args:
        system: the trained model.
        volume: CT in HU.
        size: rows and columns of the networks' slices.
        rule: which of the thresholds chosen on validation data; "argmax" for the one-step model.

    Returns:
        uint8 (n_slices, rows, columns), canonical order, 0 other, 1 liver, 2 tumor.
    """
    slices = partial(_network_slices, volume, size)
    labels = np.zeros(volume.shape, np.uint8)
    for index, probabilities in enumerate(system.probabilities(slices, slices)):
        liver, tumor = (probability_to_native(p[np.newaxis], volume.rows, volume.columns)[0] for p in probabilities)
        if rule == ARGMAX:
            labels[index] = most_probable(liver, tumor)
        else:
            labels[index] = label_map(liver, tumor, *(system.thresholds(target)[rule] for target in TARGETS))
    return labels


def _network_slices(volume: Volume, size: int) -> Iterator[np.ndarray]:
    for _, chunk in volume.chunks():
        yield from hu_for_network(chunk, size)


if __name__ == "__main__":
    run_command(main, "evaluation.predict")
