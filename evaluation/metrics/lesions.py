"""Lesions of a case, found and matched: as LiTS' script does, or at most once.

A lesion is a 6-connected component of label 2 (`scipy.ndimage.label`'s default). After the
labelling only the lesions' voxels are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import label
from scipy.optimize import linear_sum_assignment

from evaluation.metrics.regions import find_box

LESION = 2
WRAP = 256  # the script keeps its labels in 8 bits


@dataclass(frozen=True)
class Lesions:
    """The voxels that are a lesion in the reference or in the prediction.

    Attributes:
        voxels: indices, (n, 3).
        reference, prediction: number of the lesion each belongs to, (n,); 0: none.
        n_reference, n_prediction: lesions, numbered from 1.
    """

    voxels: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    n_reference: int
    n_prediction: int

    @cached_property
    def overlap(self) -> np.ndarray:
        """Voxels in common, (n_prediction + 1, n_reference + 1); row, column 0 empty."""
        both = (self.prediction > 0) & (self.reference > 0)
        shape = (self.n_prediction + 1, self.n_reference + 1)
        pairs = self.prediction[both].astype(np.int64) * shape[1] + self.reference[both]
        return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)

    @cached_property
    def iou(self) -> np.ndarray:
        """Intersection over union of each pair, of the shape of `overlap`."""
        of_prediction = np.bincount(self.prediction, minlength=self.n_prediction + 1)
        of_reference = np.bincount(self.reference, minlength=self.n_reference + 1)
        union = of_prediction[:, np.newaxis] + of_reference - self.overlap
        iou = self.overlap / np.maximum(union, 1)
        iou[0] = iou[:, 0] = 0
        return iou


def find_lesions(prediction: np.ndarray, reference: np.ndarray) -> Lesions:
    """Label the lesions of two label arrays of one shape with 3 axes.

    >>> find_lesions(np.array([[[2, 2, 0, 2]]]), np.array([[[0, 2, 0, 0]]])).iou[1:, 1:].tolist()
    [[0.5], [0.0]]
    """
    masks = [volume == LESION for volume in (prediction, reference)]
    box = find_box(masks[0] | masks[1])
    if box is None:
        none = np.zeros(0, np.int64)
        return Lesions(np.zeros((0, 3), np.int64), none, none, 0, 0)
    (predicted, n_prediction), (given, n_reference) = (label(mask[box]) for mask in masks)
    where = np.nonzero((predicted > 0) | (given > 0))
    voxels = np.stack(where, axis=1) + [part.start for part in box]
    return Lesions(voxels, given[where], predicted[where], n_reference, n_prediction)


@dataclass(frozen=True)
class Matching:
    """Which lesions were found.

    Attributes:
        hits: true positives; negative is possible as the script counts.
        prediction, reference: match of each of `Lesions.voxels` on that side; 0: none. Numbers in
            `prediction` are the matches that count.
    """

    hits: int
    prediction: np.ndarray
    reference: np.ndarray

    @property
    def numbers(self) -> list[int]:
        """The matches that are scored, by number."""
        return [int(number) for number in np.unique(self.prediction) if number]


def match_official(lesions: Lesions, threshold: float) -> Matching:
    """Match as the published script does, its faults included.

    The script is PatrickChrist/lits-challenge-scoring, branch miccai. It merges references that one
    prediction overlaps most, then predictions with the same merged reference. A match needs an IoU
    above the threshold, but the union is taken over the *reference* number of the prediction, which
    names another lesion or none, in 8 bits. Of a dropped match all merged references are subtracted
    from the hits.
    """
    # Merge the references that one prediction overlaps most.
    overlap = lesions.overlap
    group = np.arange(lesions.n_reference + 1)
    first: dict[int, int] = {}
    for number in np.flatnonzero(overlap.any(axis=0)):
        group[number] = first.setdefault(int(overlap[:, number].argmax()), int(number))
    merged = np.zeros_like(overlap)
    np.add.at(merged.T, group, overlap.T)
    # Give each prediction the merged reference that it overlaps most.
    target = np.where(overlap.any(axis=1), merged.argmax(axis=1), 0)
    members = np.bincount(group[1:], minlength=lesions.n_reference + 1)
    reference = group[lesions.reference]
    prediction = (target[lesions.prediction] % WRAP).astype(np.uint8)
    # Merged predictions by their reference, in the order of the predictions.
    matches: dict[int, int] = {}
    for number in np.flatnonzero(target):
        matches.setdefault(int(target[number]), int(number))
    # Drop the matches whose overlap is too small, counted as the script counts.
    hits = len(matches)
    for goal, merged_prediction in matches.items():
        intersection = int(merged[target == goal, goal].sum())
        union = np.count_nonzero((prediction == merged_prediction) | (reference == goal))
        if intersection / union <= threshold:
            prediction[prediction == goal] = 0
            hits -= int(members[goal])
    return Matching(hits, prediction, reference)


def match_once(lesions: Lesions, threshold: float) -> Matching:
    """Match each lesion at most once: most pairs first, then the largest sum of IoU.

    SciPy assigns pairs of an IoU above the threshold. Most pairs first, because finds are counted:
    at a threshold of 0 the largest sum alone would give up a hit for a better overlap. At 0.5 or
    more no lesion has two partners.
    """
    allowed = lesions.iou > threshold
    rows, columns = (np.flatnonzero(allowed.any(axis=axis)) for axis in (1, 0))
    # A pair weighs more than the IoU of all pairs together.
    weight = np.where(allowed, lesions.iou + len(rows), 0.0)[np.ix_(rows, columns)]
    first, second = linear_sum_assignment(weight, maximize=True)
    chosen = weight[first, second] > 0
    partner = np.zeros(lesions.n_prediction + 1, np.int64)
    partner[rows[first[chosen]]] = columns[second[chosen]]
    return Matching(int(chosen.sum()), partner[lesions.prediction], lesions.reference)
