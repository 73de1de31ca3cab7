"""The 24 figures of the LiTS challenge (Bilic et al., 2023).

By hand: no library has them, and the published script is no package.

`official` equals that script (PatrickChrist/lits-challenge-scoring, branch miccai) to its three
decimals, faults included; `corrected` differs in four points and no other:

- a lesion is matched at most once (`evaluation.metrics.lesions.match_once`), as many pairs above
  the threshold as possible. So hits are never negative, and do not depend on numbering;
- lesion scores are of all matches of all cases, not only of cases with more hits than misses;
- the liver is label >= 1, also where no voxel has label 1;
- nothing to find, or nothing drawn, follows the rule for empty masks in
  `evaluation.metrics.counts`, with the exceptions there. In a set without any lesion lesion
  precision, recall and overlaps are 1, VOE and RVD 0, and distances None (`official`: 0, but
  lesion_dice_per_case 1; VOE 1; RVD and distances 9001).

9001 stands for "infinite": in one mask only, or without a match. A figure is None (null in JSON) in
`corrected` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.counts import Counts, dice, iou, rvd, share, voe
from evaluation.metrics.lesions import Lesions, Matching, find_lesions, match_official, match_once
from evaluation.metrics.regions import find_box
from evaluation.metrics.surfaces import measure_distances

Figures = dict[str, float | None]

MODES = ("official", "corrected")
INFINITE = 9001.0
HALF, ANY = 0.5, 0.0
SHAPE_SCORES = ("dice", "jaccard", "voe", "rvd", "assd", "rmsd", "msd")
NOTHING: Figures = dict(zip(SHAPE_SCORES, (0.0, 0.0, 1.0, *[INFINITE] * 4), strict=True))
"""Scores of what was not found."""
EMPTY: Figures = dict(zip(SHAPE_SCORES, (1.0, 1.0, 0.0, 0.0, None, None, None), strict=True))
"""Scores where there was nothing to find and nothing was found."""

_MATCH: dict[str, Callable[[Lesions, float], Matching]] = {
    "official": match_official,
    "corrected": match_once,
}


@dataclass(frozen=True)
class CaseFigures:
    """What one case adds to the figures of its set.

    Attributes:
        n_reference, n_prediction: lesions of each.
        hits, hits_any: lesions found at IoU > 0.5, at IoU > 0.
        lesions, liver: `SHAPE_SCORES` of each scored match at IoU > 0.5, of the liver.
        lesion_counts, liver_counts: voxels of all lesions; of the liver, in a box around it.
        burden_difference: tumor burden of the reference less that of the prediction.
        mode: how it was scored.
    """

    n_reference: int
    n_prediction: int
    hits: int
    hits_any: int
    lesions: tuple[Figures, ...]
    liver: Figures
    lesion_counts: Counts
    liver_counts: Counts
    burden_difference: float
    mode: str = "official"

    @property
    def lesion_dice(self) -> float:
        """Dice of the lesions over all voxels of the case."""
        return dice(self.lesion_counts)

    @property
    def liver_dice(self) -> float:
        """Dice of the liver over all voxels of the case."""
        return dice(self.liver_counts)


def score_case(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: tuple[float, ...],
    mode: str = "official",
) -> CaseFigures:
    """Score one case.

    Args:
        prediction: ndarray with 3 axes, 0 other, 1 liver, 2 lesion.
        reference: ndarray of the same shape.
        spacing_mm: of each axis.
        mode: "official" or "corrected".

    Raises:
        ValueError: the shapes differ; the reference has no liver, of which the figures are shares;
            unknown mode.

    Example:
        >>> reference = np.ones((1, 3, 4), np.uint8)
        >>> reference[0, 1, 1:3] = 2
        >>> figures = score_case(reference, reference, (1.0, 1.0, 1.0))
        >>> figures.hits, figures.liver_dice
        (1, 1.0)
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if prediction.shape != reference.shape:
        raise ValueError(
            "prediction and reference must have one shape, "
            f"got {prediction.shape} and {reference.shape}"
        )
    box = find_box((prediction > 0) | (reference > 0))
    if box is None or not reference[box].any():
        raise ValueError("the reference must hold liver, it has none")
    prediction, reference = prediction[box], reference[box]
    # Lesions: the script scores the matches of a case only where hits outweigh misses.
    lesions = find_lesions(prediction, reference)
    match = _MATCH[mode]
    at_half = match(lesions, HALF)
    scored = at_half.numbers if mode == "corrected" or at_half.hits > 0 else []
    lesion_counts = Counts.of(lesions.prediction > 0, lesions.reference > 0)
    # Liver: to the script there is none where no voxel has label 1.
    has_liver = bool((prediction == 1).any()) if mode == "official" else bool(prediction.any())
    liver = (prediction > 0 if has_liver else np.zeros_like(prediction, bool), reference > 0)
    liver_counts = Counts.of(*liver)
    burden = INFINITE
    if has_liver:
        n_predicted = lesion_counts.tp + lesion_counts.fp
        burden = n_predicted / (liver_counts.tp + liver_counts.fp)
    n_lesion, n_liver = (part.tp + part.fn for part in (lesion_counts, liver_counts))
    return CaseFigures(
        n_reference=lesions.n_reference,
        n_prediction=lesions.n_prediction,
        hits=at_half.hits,
        hits_any=match(lesions, ANY).hits,
        lesions=tuple(_score_match(lesions, at_half, number, spacing_mm) for number in scored),
        liver=score_shape(*liver, spacing_mm) if has_liver else dict(NOTHING),
        lesion_counts=lesion_counts,
        liver_counts=liver_counts,
        burden_difference=n_lesion / n_liver - burden,
        mode=mode,
    )


def score_shape(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]
) -> Figures:
    """Return `SHAPE_SCORES` of two masks that are not empty, distances in mm.

    dice = 2I / (P + R), jaccard = I / (P + R - I), voe = 1 - jaccard, rvd = (P - R) / R, signed.

    Args:
        prediction, reference: bool, one shape with 3 axes.
        spacing_mm: of each axis.

    Raises:
        ValueError: an empty mask (see `evaluation.metrics.counts`), not boolean, or another shape;
            a spacing is not positive.

    Example:
        >>> prediction, reference = np.ones((2, 1, 1, 2), bool)
        >>> prediction[0, 0, 1] = False
        >>> score_shape(prediction, reference, (1.0, 1.0, 3.0))["msd"]
        3.0
    """
    distances = measure_distances(prediction, reference, spacing_mm)
    if distances is None:
        masks = {"prediction": prediction, "reference": reference}
        empty = ", ".join(name for name, mask in masks.items() if not mask.any())
        raise ValueError(f"`prediction` and `reference` must not be empty. Empty: {empty}")
    counts = Counts.of(prediction, reference)
    return {
        "dice": dice(counts),
        "jaccard": iou(counts),
        "voe": voe(counts),
        "rvd": rvd(counts),
        "assd": distances.assd_mm,
        "rmsd": distances.rmsd_mm,
        "msd": distances.hausdorff_mm,
    }


def _score_match(
    lesions: Lesions, matching: Matching, number: int, spacing_mm: tuple[float, ...]
) -> Figures:
    """Score a match on the smallest box that holds its voxels."""
    masks = matching.prediction == number, matching.reference == number
    either = masks[0] | masks[1]
    voxels = lesions.voxels[either]
    low = voxels.min(axis=0)
    volumes = []
    for mask in masks:
        volume = np.zeros(voxels.max(axis=0) - low + 1, bool)
        volume[tuple((lesions.voxels[mask] - low).T)] = True
        volumes.append(volume)
    return score_shape(volumes[0], volumes[1], spacing_mm)


def pool_cases(cases: Sequence[CaseFigures]) -> Figures:
    """Compute the 24 figures of a data set, by the names of the script's scores.txt.

    Raises:
        ValueError: no case, or cases of both modes.
    """
    modes = {case.mode for case in cases}
    if len(modes) != 1:
        raise ValueError(
            f"cases must hold at least one case, all of one mode, got {sorted(modes) or 'none'}"
        )
    # What a share of an empty whole is, and the lesions' scores where none was matched.
    is_official = modes == {"official"}
    has_lesion = any(case.n_reference or case.n_prediction for case in cases)
    rate = 0.0 if is_official else share(0, 0)
    nothing = NOTHING if is_official or has_lesion else EMPTY
    # Lesions found, of those predicted and of those of the reference.
    figures: Figures = {}
    for suffix, name in (("", "hits"), ("_greater_zero", "hits_any")):
        for figure, whole in (("precision", "n_prediction"), ("recall", "n_reference")):
            hits, n = (sum(getattr(case, key) for case in cases) for key in (name, whole))
            figures[f"lesion_{figure}{suffix}"] = hits / n if n else rate
    # Shapes, over the matches and over the cases.
    matches = [shape for case in cases for shape in case.lesions] or [nothing]
    for part, shapes in (("lesion", matches), ("liver", [case.liver for case in cases])):
        figures |= {f"{part}_{name}": _average(shapes, name) for name in SHAPE_SCORES}
        of_cases = [getattr(case, f"{part}_dice") for case in cases]
        figures[f"{part}_dice_per_case"] = float(np.mean(of_cases))
        counts = sum((getattr(case, f"{part}_counts") for case in cases), Counts())
        has_voxels = counts.tp + counts.fp + counts.fn > 0
        figures[f"{part}_dice_global"] = dice(counts) if has_voxels else rate
    differences = np.array([case.burden_difference for case in cases])
    figures["RMSE_Tumorburden"] = float(np.sqrt(np.mean(differences**2)))
    figures["MAXERROR_Tumorburden"] = float(differences.max())
    return figures


def compute_lesion_f1(cases: Sequence[CaseFigures]) -> dict[str, float]:
    """Compute F1 = 2 hits / (all lesions of both sides); not among the 24.

    At IoU > 0.5 and, as `lesion_f1_greater_zero`, > 0. No lesion: 1.0. "official" hits may make it
    negative.
    """
    lesions = sum(case.n_reference + case.n_prediction for case in cases)
    return {
        "lesion_f1": share(2 * sum(case.hits for case in cases), lesions),
        "lesion_f1_greater_zero": share(2 * sum(case.hits_any for case in cases), lesions),
    }


def _average(shapes: Sequence[Figures], name: str) -> float | None:
    values = [value for shape in shapes if (value := shape[name]) is not None]
    return float(np.mean(values)) if values else None
