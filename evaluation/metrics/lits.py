"""The 24 figures of the LiTS challenge, for one case and for a data set (PAPER: Bilic et al., 2023).

`official` equals the published script (PatrickChrist/lits-challenge-scoring, branch miccai) to its three decimals,
faults included; `corrected` differs in four points and no other:

- a lesion is matched at most once (`evaluation.metrics.lesions.match_once`), by pairs above the threshold alone: as many pairs
  as possible, among those the largest sum of IoU. So hits are never negative, and do not depend on how the lesions are
  numbered;
- lesion scores are taken from all matches of all cases, not only from cases with more hits than misses;
- the liver is label >= 1 in every case, also where no voxel has label 1;
- where there was nothing to find, or nothing was drawn, the rule for empty masks holds that stands in
  `evaluation.metrics.counts`, with the exceptions of the script beside it. In a set without a lesion in any reference or
  prediction lesion precision, recall and overlaps are 1, VOE and RVD 0, and distances None, since there are no surfaces
  (`official`: 0, but lesion_dice_per_case 1; VOE 1; RVD and distances 9001).

9001 stands for "infinite" throughout: what is in one mask only, or has no match. A figure is None (null in JSON) in
`corrected` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.counts import Counts, dice, iou, rvd, share, voe
from evaluation.metrics.lesions import Lesions, Matching, find_lesions, match_official, match_once
from evaluation.metrics.surfaces import bounding_box, surface_distances

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
        n_reference, n_prediction: lesions.
        hits, hits_any: lesions found at IoU > 0.5 and > 0.
        lesions: `SHAPE_SCORES` of each match at IoU > 0.5 that is scored.
        liver: `SHAPE_SCORES` of the liver.
        lesion_dice, liver_dice: over all voxels of the case.
        lesion_sizes, liver_sizes: (voxels in common, in both masks together).
        burden_difference: tumor burden of the reference less that of the prediction.
        mode: how it was scored.
    """

    n_reference: int
    n_prediction: int
    hits: int
    hits_any: int
    lesions: tuple[Figures, ...]
    liver: Figures
    lesion_dice: float
    liver_dice: float
    lesion_sizes: tuple[int, int]
    liver_sizes: tuple[int, int]
    burden_difference: float
    mode: str = "official"


def score_case(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: tuple[float, ...],
    mode: str = "official",
) -> CaseFigures:
    """Score one case.

    Args:
        prediction, reference: ndarrays of one shape with 3 axes, 0 other, 1 liver, 2 lesion.
        spacing_mm: of each axis.
        mode: "official" or "corrected".

    Raises:
        ValueError: the shapes differ; the reference has no liver, of which the figures are shares; unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction and reference must have one shape, got {prediction.shape} and {reference.shape}"
        )
    box = bounding_box((prediction > 0) | (reference > 0))
    if box is None or not reference[box].any():
        raise ValueError("the reference must hold liver, it has none")
    prediction, reference = prediction[box], reference[box]
    lesions = find_lesions(prediction, reference)
    match = _MATCH[mode]
    at_half = match(lesions, HALF)
    scored = at_half.kept if mode == "corrected" or at_half.hits > 0 else []
    lesion_sizes = _sizes(lesions.prediction > 0, lesions.reference > 0)
    found = bool((prediction == 1).any()) if mode == "official" else bool(prediction.any())
    liver = (prediction > 0 if found else np.zeros_like(prediction, bool), reference > 0)
    liver_sizes = _sizes(*liver)
    n_lesion = [int(np.count_nonzero(part)) for part in (lesions.prediction, lesions.reference)]
    burden = n_lesion[0] / int(np.count_nonzero(liver[0])) if found else INFINITE
    return CaseFigures(
        n_reference=lesions.n_reference,
        n_prediction=lesions.n_prediction,
        hits=at_half.hits,
        hits_any=match(lesions, ANY).hits,
        lesions=tuple(_score_match(lesions, at_half, number, spacing_mm) for number in scored),
        liver=score_shape(*liver, spacing_mm) if found else dict(NOTHING),
        lesion_dice=share(2 * lesion_sizes[0], lesion_sizes[1]),
        liver_dice=share(2 * liver_sizes[0], liver_sizes[1]),
        lesion_sizes=lesion_sizes,
        liver_sizes=liver_sizes,
        burden_difference=n_lesion[1] / int(np.count_nonzero(liver[1])) - burden,
        mode=mode,
    )


def score_shape(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]
) -> Figures:
    """Return `SHAPE_SCORES` of two masks that are not empty.

    dice = 2I / (P + R), jaccard = I / (P + R - I), voe = 1 - jaccard, rvd = (P - R) / R, signed; distances in mm.

    Args:
        prediction, reference: ndarrays of one shape with 3 axes, bool.
        spacing_mm: of each axis.

    Raises:
        ValueError: a mask is empty (`evaluation.metrics.counts` says what its scores are), is not boolean, or has another
            shape; a spacing is not positive.
    """
    distances = surface_distances(prediction, reference, spacing_mm)
    if distances is None:
        which = [
            name
            for name, mask in (("prediction", prediction), ("reference", reference))
            if not mask.any()
        ]
        raise ValueError(
            f"`prediction` and `reference` must not be empty. Empty: {', '.join(which)}"
        )
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


def _sizes(prediction: np.ndarray, reference: np.ndarray) -> tuple[int, int]:
    both = int(np.count_nonzero(prediction & reference))
    return both, int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))


def total(cases: Sequence[CaseFigures]) -> Figures:
    """Return the 24 figures of a data set, by the names of the script's scores.txt, in the mode of its cases.

    Raises:
        ValueError: no case, or cases of both modes.
    """
    modes = {case.mode for case in cases}
    if len(modes) != 1:
        raise ValueError(
            f"cases must hold at least one case, all of one mode, got {sorted(modes) or 'none'}"
        )
    rate, nothing = _of_nothing(cases, modes.pop())
    n_reference, n_prediction = (
        sum(getattr(case, name) for case in cases) for name in ("n_reference", "n_prediction")
    )
    found = {
        "": sum(case.hits for case in cases),
        "_greater_zero": sum(case.hits_any for case in cases),
    }
    figures: Figures = {}
    for which, hits in found.items():
        figures[f"lesion_precision{which}"] = hits / n_prediction if n_prediction else rate
        figures[f"lesion_recall{which}"] = hits / n_reference if n_reference else rate
    matches = [scores for case in cases for scores in case.lesions] or [nothing]
    for part, scored in (("lesion", matches), ("liver", [case.liver for case in cases])):
        figures |= {f"{part}_{name}": _mean(scored, name) for name in SHAPE_SCORES}
        figures[f"{part}_dice_per_case"] = float(
            np.mean([getattr(case, f"{part}_dice") for case in cases])
        )
        both, together = np.sum([getattr(case, f"{part}_sizes") for case in cases], axis=0).tolist()
        figures[f"{part}_dice_global"] = 2 * both / together if together else rate
    differences = np.array([case.burden_difference for case in cases])
    figures["RMSE_Tumorburden"] = float(np.sqrt(np.mean(differences**2)))
    figures["MAXERROR_Tumorburden"] = float(differences.max())
    return figures


def _of_nothing(cases: Sequence[CaseFigures], mode: str) -> tuple[float, Figures]:
    """Return a share of an empty whole, and the scores of the lesions where none was matched."""
    if mode == "official":
        return 0.0, NOTHING
    return share(0, 0), NOTHING if any(
        case.n_reference or case.n_prediction for case in cases
    ) else EMPTY


def lesion_f1(cases: Sequence[CaseFigures]) -> dict[str, float]:
    """Return F1 = 2 hits / (lesions of the reference + lesions predicted) at IoU > 0.5 and > 0; not among the 24.

    Without any lesion in either, 1.0. In mode "official" it may be negative, as the hits may be.
    """
    lesions = sum(case.n_reference + case.n_prediction for case in cases)
    return {
        "lesion_f1": share(2 * sum(case.hits for case in cases), lesions),
        "lesion_f1_greater_zero": share(2 * sum(case.hits_any for case in cases), lesions),
    }


def _mean(scores: Sequence[Figures], name: str) -> float | None:
    values = [value for one in scores if (value := one[name]) is not None]
    return float(np.mean(values)) if values else None
