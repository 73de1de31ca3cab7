"""Seconds that scores take: the LiTS figures of a large case beside MedPy's whole-volume way, and an exact ROC curve.

    python -m evaluation.benchmark [--slices 400] [--lesions 30] [--medpy-lesions 2]

The case is SYNTHETIC: 512 x 512 x SLICES voxels, a liver with lesions, and a prediction that is shifted, misses some
and adds some. MedPy (tests/requirements.txt) computes Dice, Jaccard, RAVD, ASSD and Hausdorff of each shape on a whole
volume; because a lesion takes it half a minute, only some are timed, and their mean stands for the others.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from data.command import InputError, Parser, run_command
from data.environment import processor_name
from evaluation.exact_roc import exact_roc
from evaluation.lesions import find_lesions
from evaluation.lits_scoring import MODES, score_case
from evaluation.roc import ProbabilityHistogram

SIDE = 512
SPACING_MM = (0.8, 0.8, 1.0)


def make_case(slices: int, lesions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (prediction, reference), uint8 of shape (512, 512, slices): 0 other, 1 liver, 2 lesion."""
    rng = np.random.default_rng(0)
    x, y, z = np.ogrid[:SIDE, :SIDE, :slices]
    reference, prediction = (
        (((x - 200 - moved) / 110) ** 2 + ((y - 250) / 100) ** 2 + ((z - slices / 2) / (slices * 0.4)) ** 2 < 1).astype(
            np.uint8
        )
        for moved in (0, 3)
    )
    for number in range(lesions):
        centre = np.array([200, 250, slices / 2]) + rng.uniform(-0.5, 0.5, 3) * (110, 100, slices * 0.5)
        radius = rng.uniform(4, 14)
        _paint(reference, centre, radius)
        if number % 5:  # one in five is missed, the others are shifted
            _paint(prediction, centre + rng.uniform(-2, 2, 3), radius)
        else:
            _paint(prediction, np.array([200, 250, slices / 2]) + rng.uniform(-0.5, 0.5, 3) * (110, 100, slices), 5)
    return prediction, reference


def _paint(labels: np.ndarray, centre: np.ndarray, radius: float) -> None:
    low = np.maximum(0, (centre - radius - 1).astype(int))
    box = tuple(slice(a, b) for a, b in zip(low, (centre + radius + 2).astype(int), strict=True))
    grids = np.ogrid[box]
    ball = sum((grid - middle) ** 2 for grid, middle in zip(grids, centre, strict=True)) < radius**2
    inside = labels[box]
    inside[ball[tuple(slice(0, n) for n in inside.shape)] & (inside > 0)] = 2


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def by_medpy(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Compute the scores of one shape on the whole volume, as MedPy does.

    Raises:
        InputError: MedPy is not installed.
    """
    try:
        from medpy.metric import binary
    except ImportError:
        raise InputError("MedPy is not installed: pip install -r tests/requirements.txt") from None
    for overlap in (binary.dc, binary.jc, binary.ravd):
        overlap(prediction, reference)
    for distance in (binary.assd, binary.hd):
        distance(prediction, reference, SPACING_MM, connectivity=2)


def time_medpy(prediction: np.ndarray, reference: np.ndarray, lesions: int) -> tuple[float, float]:
    """Return seconds for the liver, and for one lesion, the mean of `lesions` of them."""
    liver = seconds(lambda: by_medpy(prediction > 0, reference > 0))
    found = find_lesions(prediction, reference)
    pairs = [(int(p), int(g)) for p, g in np.argwhere(found.iou > 0.5)[:lesions]]
    taken = []
    for p, g in pairs:
        masks = []
        for numbers, number in ((found.prediction, p), (found.reference, g)):
            mask = np.zeros(reference.shape, bool)
            mask[tuple(found.voxels[numbers == number].T)] = True
            masks.append(mask)
        taken.append(seconds(lambda pair=masks: by_medpy(*pair)))  # type: ignore[misc]
    return liver, float(np.mean(taken))


def main() -> None:
    """Print the seconds of each."""
    parser = Parser(prog="evaluation.benchmark", description="Time the scores.")
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--lesions", type=int, default=30)
    parser.add_argument("--medpy-lesions", type=int, default=2, help="lesions that MedPy scores, 0: do not time it")
    flags = parser.parse_args()
    prediction, reference = make_case(flags.slices, flags.lesions)
    print(f"{processor_name()}; SYNTHETIC, {SIDE} x {SIDE} x {flags.slices}, {flags.lesions} lesions")
    before = _peak_mib()
    for mode in MODES:
        taken = seconds(lambda mode=mode: score_case(prediction, reference, SPACING_MM, mode))  # type: ignore[misc]
        print(f"all figures of a case, {mode:9} {taken:8.2f} s")
    print(
        f"peak memory {_peak_mib():,.0f} MiB, of that {before:,.0f} before scoring (the two volumes and their making)"
    )
    if flags.medpy_lesions:
        liver, lesion = time_medpy(prediction, reference, flags.medpy_lesions)
        whole = liver + flags.lesions * lesion
        print(
            f"MedPy: liver {liver:.1f} s, a lesion {lesion:.1f} s, so {whole:.0f} s in all: {whole / taken:.0f} times"
        )
    rng = np.random.default_rng(1)
    truth = rng.random((50, SIDE, SIDE)) < 0.004
    p = np.where(truth, rng.beta(4, 2, truth.shape), rng.beta(0.1, 8, truth.shape)).astype(np.float32)
    print(f"ROC of 50 slices, exact (sort)    {seconds(lambda: exact_roc(p, truth)):8.2f} s")
    print(f"ROC of 50 slices, histogram       {seconds(lambda: ProbabilityHistogram().add(p, truth)):8.2f} s")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    run_command(main, "evaluation.benchmark")
