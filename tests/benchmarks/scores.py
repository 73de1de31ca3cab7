"""Seconds that scores take: LiTS figures of a large case beside MedPy's, an exact ROC curve.

    python -m tests.benchmarks.scores [--slices 400] [--lesions 30] [--medpy-lesions 2]

The case is SYNTHETIC: 512 x 512 x SLICES voxels, a liver with LESIONS lesions that lie apart, and a
prediction in which four of five are moved a little and one of five lies where none is. MedPy
(tests/requirements.txt) computes the same figures of a shape, Dice, Jaccard, VOE, RVD, ASSD, RMSD
and Hausdorff distance, on the whole volume; its distances are computed once for all three, though
its own functions would do so for each. As a lesion takes it half a minute, only some are timed:
their mean stands for each of the lesions that are scored, those found at an IoU above 0.5.

The ROC curves are of 50 slices of 512 x 512 with their areas, the best of three times: by
`evaluation.metrics.exact_roc`, which sorts the pixels and is exact, and by the histogram of
`evaluation.metrics.roc`, which is exact to a bin of probability.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from data.command import InputError, Parser, parse_count, run_command
from data.environment import read_processor_name
from evaluation.metrics.exact_roc import compute_exact_roc
from evaluation.metrics.lesions import find_lesions
from evaluation.metrics.lits import HALF, MODES, score_case
from evaluation.metrics.roc import ProbabilityHistogram

SIDE = 512
SPACING_MM = (0.8, 0.8, 1.0)
ROC_SLICES, REPEATS = 50, 3
CENTRE, SEMI_AXES = (200, 250), (110, 100)  # of the liver, voxels in a slice
APART = 6  # voxels between two lesions, more than they are moved
TRIES = 20_000

Lesion = tuple[np.ndarray, float]  # centre and radius in voxels


def make_case(slices: int, lesions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (prediction, reference), uint8 of shape (512, 512, slices).

    Labels are 0 other, 1 liver, 2 lesion.

    Raises:
        InputError: the liver has no room for so many lesions.
    """
    rng = np.random.default_rng(0)
    n_false = -(-lesions // 5)
    places = place_lesions(rng, slices, lesions + n_false)
    reference, prediction = (_liver(slices, moved) for moved in (0, 3))
    for number, (centre, radius) in enumerate(places[:lesions]):
        _paint(reference, centre, radius)
        if number % 5 != 4:
            _paint(prediction, centre + rng.uniform(-0.1, 0.1, 3) * radius, radius)
    for centre, radius in places[lesions:]:
        _paint(prediction, centre, radius)
    return prediction, reference


def place_lesions(rng: np.random.Generator, slices: int, n: int) -> list[Lesion]:
    """Draw balls that lie inside the liver and apart.

    Raises:
        InputError: there is no room.
    """
    middle, axes = np.array([*CENTRE, slices / 2]), np.array([*SEMI_AXES, slices * 0.4])
    lesions: list[Lesion] = []
    for _ in range(TRIES):
        if len(lesions) == n:
            return lesions
        radius = rng.uniform(4, 14)
        room = axes - radius - APART
        at = rng.uniform(-1, 1, 3)
        if min(room) <= 0 or at @ at > 1:
            continue
        centre = middle + at * room
        if all(np.linalg.norm(centre - place) > radius + size + APART for place, size in lesions):
            lesions.append((centre, radius))
    raise InputError(
        f"--lesions: a liver of {slices} slices has no room for so many, "
        f"{len(lesions)} found their place"
    )


def _liver(slices: int, moved: int) -> np.ndarray:
    grids = np.ogrid[:SIDE, :SIDE, :slices]
    middle, axes = (CENTRE[0] + moved, CENTRE[1], slices / 2), (*SEMI_AXES, slices * 0.4)
    inside = (
        sum(((grid - at) / axis) ** 2 for grid, at, axis in zip(grids, middle, axes, strict=True))
        < 1
    )
    return np.asarray(inside, np.uint8)


def _paint(labels: np.ndarray, centre: np.ndarray, radius: float) -> None:
    box = tuple(slice(int(at - radius), int(at + radius) + 2) for at in centre)
    grids = np.ogrid[box]
    ball = sum((grid - at) ** 2 for grid, at in zip(grids, centre, strict=True)) < radius**2
    inside = labels[box]
    inside[ball & (inside > 0)] = 2


def time_call(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def score_by_medpy(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Compute `evaluation.metrics.lits.SHAPE_SCORES` of one shape on the whole volume, by MedPy.

    Raises:
        InputError: MedPy is not installed.
    """
    try:
        from medpy.metric import binary
    except ImportError:
        raise InputError("MedPy is not installed: pip install -r tests/requirements.txt") from None
    distances = vars(binary)["__surface_distances"]  # `assd` and `hd` would each compute them anew
    both = np.concatenate(
        [
            distances(*pair, SPACING_MM, connectivity=2)
            for pair in ((prediction, reference), (reference, prediction))
        ]
    )
    jaccard = binary.jc(prediction, reference)
    return {
        "dice": binary.dc(prediction, reference),
        "jaccard": jaccard,
        "voe": 1 - jaccard,
        "rvd": binary.ravd(prediction, reference),
        "assd": both.mean(),
        "rmsd": np.sqrt((both**2).mean()),
        "msd": both.max(),
    }


def time_medpy(prediction: np.ndarray, reference: np.ndarray, lesions: int) -> tuple[float, float]:
    """Time MedPy on a case.

    Args:
        prediction: labels as `make_case` gives them.
        reference: likewise.
        lesions: how many lesions are timed.

    Returns:
        Seconds for the liver, and for one lesion, the mean of those timed.
    """
    liver = time_call(lambda: score_by_medpy(prediction > 0, reference > 0))
    found = find_lesions(prediction, reference)
    taken = []
    for p, g in np.argwhere(found.iou > HALF)[:lesions]:
        masks = []
        for numbers, number in ((found.prediction, p), (found.reference, g)):
            mask = np.zeros(reference.shape, bool)
            mask[tuple(found.voxels[numbers == number].T)] = True
            masks.append(mask)
        taken.append(time_call(lambda pair=masks: score_by_medpy(*pair)))  # type: ignore[misc]
    return liver, float(np.mean(taken))


def time_case(slices: int, lesions: int, medpy_lesions: int) -> None:
    """Print the seconds of one case, by this project and by MedPy.

    Args:
        slices: of the case.
        lesions: of the reference.
        medpy_lesions: lesions that MedPy scores; 0 leaves it out.
    """
    prediction, reference = make_case(slices, lesions)
    before = _peak_mib()
    taken, figures = {}, {}
    for mode in MODES:
        started = time.perf_counter()
        figures[mode] = score_case(prediction, reference, SPACING_MM, mode)
        taken[mode] = time.perf_counter() - started
    case = figures["corrected"]
    print(
        f"{read_processor_name()}; SYNTHETIC, {SIDE} x {SIDE} x {slices}: "
        f"{case.n_reference} lesions in the reference, {case.n_prediction} predicted, "
        f"{case.hits} found at an IoU above 0.5"
    )
    for mode in MODES:
        print(f"all figures of a case, {mode:9} {taken[mode]:8.2f} s")
    print(
        f"peak memory {_peak_mib():,.0f} MiB, of that {before:,.0f} before scoring "
        "(the two volumes and their making)"
    )
    if medpy_lesions:
        n_scored = len(case.lesions)
        liver, lesion = time_medpy(prediction, reference, medpy_lesions)
        whole = liver + n_scored * lesion
        times = whole / max(taken.values())
        n_timed = min(medpy_lesions, n_scored)
        print(
            f"MedPy: liver {liver:.1f} s, a lesion {lesion:.1f} s (of {n_timed} timed)\n"
            f"so, with {n_scored} lesions that are scored, {whole:.0f} s in all: "
            f"{times:.0f} times as long"
        )


def time_roc(share: float, inside: tuple[float, float], outside: tuple[float, float]) -> None:
    """Print the seconds of a ROC curve and its area.

    Args:
        share: of the pixels inside the reference.
        inside: a and b of the beta distribution that their probabilities are drawn from.
        outside: likewise of the pixels outside.
    """
    rng = np.random.default_rng(1)
    truth = rng.random((ROC_SLICES, SIDE, SIDE)) < share
    p = np.where(truth, rng.beta(*inside, truth.shape), rng.beta(*outside, truth.shape)).astype(
        np.float32
    )
    areas: dict[str, float | None] = {}

    def exact() -> None:
        areas["exact"] = compute_exact_roc(p, truth).area()

    def binned() -> None:
        histogram = ProbabilityHistogram()
        histogram.add(p, truth)
        areas["histogram"] = histogram.auc()

    for name, call in (("exact", exact), ("histogram", binned)):
        taken = min(time_call(call) for _ in range(REPEATS))
        how = "sort" if name == "exact" else "bins"
        print(f"  {f'{name} ({how})':16} {taken:8.2f} s   AUC {areas[name]:.6f}")


def main() -> None:
    """Print the seconds of each."""
    parser = Parser(prog="tests.benchmarks.scores", description="Time the scores.")
    parser.add_argument("--slices", type=parse_count, default=400, help="of the case (default 400)")
    parser.add_argument(
        "--lesions", type=parse_count, default=30, help="of the reference (default 30)"
    )
    parser.add_argument(
        "--medpy-lesions", type=int, default=2, help="lesions that MedPy scores, 0: do not time it"
    )
    flags = parser.parse_args()
    if flags.medpy_lesions < 0:
        raise InputError(f"--medpy-lesions {flags.medpy_lesions}: must be 0 or more")
    time_case(flags.slices, flags.lesions, flags.medpy_lesions)
    curves = {
        "tumor-like, 0.4 % inside": (0.004, (4, 2), (0.1, 8)),
        "liver-like, 10 % inside": (0.1, (4, 2), (1, 4)),
    }
    for name, curve in curves.items():
        print(f"ROC curve and area of {ROC_SLICES} slices of {SIDE} x {SIDE}, {name}:")
        time_roc(*curve)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


if __name__ == "__main__":
    run_command(main, "tests.benchmarks.scores")
