"""Pooled scores of a binary segmentation, from its four counts.

`METRICS` holds them by name; `register_metric` adds one. By hand, because scikit-learn's take
arrays of pixels, which a cohort does not fit, and none of them add up. The tests compare the two.

All scores are *pooled*: add the counts of slices or cases first, then score the sum once.

The rule for empty masks, of every module of `evaluation`: a share ``part / whole`` of an empty
whole is 1.0, because there was nothing to get wrong, and its error, ``1 - share``, is 0. A distance
needs two surfaces. What does not exist is None: null in JSON, an empty cell in CSV; a mean leaves
it out, and the mean of nothing does not exist either.

=============================  =====  =========  =========
reference                      empty  empty      not empty
prediction                     empty  not empty  empty
=============================  =====  =========  =========
IoU (Jaccard), Dice (= F1)     1      0          0
sensitivity (recall)           1      1          0
precision                      1      0          1
VOE = 1 - IoU                  0      1          1
RVD = (P - R) / R              0      None       -1
ASSD, RMSD, Hausdorff, HD95    None   None       None
=============================  =====  =========  =========

Pixel accuracy, specificity and Rand index are shares of pixels and pairs: their whole is empty only
without pixels. Of lesions that are counted, precision is a share of those predicted, recall of
those of the reference. The tumor burden of a mask without liver is None; so are AUC and rAUC
without a pixel inside, or outside, the reference, where there is no ROC curve
(`evaluation.metrics.roc`).

Exceptions, in `evaluation.metrics.lits` alone. `official` is the published LiTS script's:
precision, recall and dice_global of an empty whole are 0, and without any match lesion overlaps are
0, VOE 1, RVD and distances 9001, even where there was nothing to find; without a liver in the
prediction its overlaps are 0, VOE 1, RVD, distances and burden 9001. `corrected` follows the table,
but for one thing: where one of the two masks is empty, or no lesion of a set is matched though
there are some, RVD, distances and burden are 9001, the script's "infinite", so that a liver or the
lesions that were missed weigh on a mean instead of vanishing from it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Pixels of a binary segmentation by outcome; ``Counts()`` is neutral to ``+``.

    Args:
        tp: true positives, predicted and in the reference.
        fp: false positives, predicted and not in the reference.
        fn: false negatives, not predicted and in the reference.
        tn: true negatives, neither.

    Raises:
        ValueError: a count is negative.
        TypeError: a count is no integer.

    Example:
        >>> Counts(tp=2, fp=1, fn=1, tn=0) + Counts(tp=1, fp=0, fn=0, tn=9)
        Counts(tp=3, fp=1, fn=1, tn=9)
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            # Python's ints, because products of NumPy's overflow in the Rand index.
            value = operator.index(getattr(self, field.name))
            if value < 0:
                raise ValueError(
                    f"`{field.name}` must not be negative. Received: {field.name}={value}"
                )
            object.__setattr__(self, field.name, value)

    @classmethod
    def of(cls, prediction: np.ndarray, reference: np.ndarray) -> Counts:
        """Count the outcomes of one bool mask against another of the same shape.

        Raises:
            ValueError: a mask is not boolean, or the shapes differ.
        """
        for name, mask in (("prediction", prediction), ("reference", reference)):
            if mask.dtype != np.bool_:
                raise ValueError(f"`{name}` must be a boolean array. Received: dtype={mask.dtype}")
        _check_shapes(prediction, reference)
        tp = int(np.count_nonzero(prediction & reference))
        fp = int(np.count_nonzero(prediction)) - tp
        fn = int(np.count_nonzero(reference)) - tp
        return cls(tp=tp, fp=fp, fn=fn, tn=prediction.size - tp - fp - fn)

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )

    @property
    def n_pixels(self) -> int:
        """How many pixels were counted."""
        return self.tp + self.fp + self.fn + self.tn


def share(part: int, whole: int) -> float:
    """Return ``part / whole``; 1.0 of an empty whole, by the rule for empty masks."""
    return part / whole if whole else 1.0


def pixel_accuracy(counts: Counts) -> float:
    """Return the share of right pixels, ``(TP + TN) / n`` (paper 3.2.2).

    In [0, 1], 1 is best. Without any pixel: 1.0.

    >>> pixel_accuracy(Counts(tp=2, fp=2, fn=1, tn=5))
    0.7
    """
    return share(counts.tp + counts.tn, counts.n_pixels)


def iou(counts: Counts) -> float:
    """Return the IoU (Jaccard index), ``TP / (TP + FP + FN)`` (paper 3.2.2).

    In [0, 1], 1 is best. Both masks empty: 1.0; exactly one empty: 0.0.

    >>> iou(Counts(tp=2, fp=2, fn=1, tn=5))
    0.4
    """
    return share(counts.tp, counts.tp + counts.fp + counts.fn)


def dice(counts: Counts) -> float:
    """Return the Dice coefficient (F1), ``2 TP / (2 TP + FP + FN)``.

    LiTS reports it, the paper IoU. In [0, 1], 1 is best. Both masks empty: 1.0; exactly one: 0.0.

    >>> dice(Counts(tp=3, fp=2, fn=2, tn=5))
    0.6
    """
    return share(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def sensitivity(counts: Counts) -> float:
    """Return the share of the reference that is found (recall), ``TP / (TP + FN)``.

    In [0, 1], 1 is best. Empty reference: 1.0.

    >>> sensitivity(Counts(tp=3, fn=1))
    0.75
    """
    return share(counts.tp, counts.tp + counts.fn)


def specificity(counts: Counts) -> float:
    """Return the share of the background left alone, ``TN / (TN + FP)``.

    In [0, 1], 1 is best. No background: 1.0.

    >>> specificity(Counts(tn=3, fp=1))
    0.75
    """
    return share(counts.tn, counts.tn + counts.fp)


def precision(counts: Counts) -> float:
    """Return the share of the prediction that is right, ``TP / (TP + FP)``.

    In [0, 1], 1 is best. Empty prediction: 1.0, as scikit-learn with ``zero_division=1``.

    >>> precision(Counts(tp=3, fp=1))
    0.75
    """
    return share(counts.tp, counts.tp + counts.fp)


def voe(counts: Counts) -> float:
    """Return the volumetric overlap error, ``1 - IoU``.

    In [0, 1], 0 is best. Both masks empty: 0.0; exactly one empty: 1.0.

    >>> voe(Counts(tp=2, fp=1, fn=1))
    0.5
    """
    return 1 - iou(counts)


def rvd(counts: Counts) -> float | None:
    """Return the relative volume difference, ``(P - R) / R`` of the two sizes.

    Signed, 0 is best, -1 the least (empty prediction). Both empty: 0.0; only the reference: None.

    >>> rvd(Counts(tp=3, fp=2, fn=1))
    0.25
    """
    if not counts.tp + counts.fn:
        return None if counts.fp else 0.0
    return (counts.fp - counts.fn) / (counts.tp + counts.fn)


def rand_index(counts: Counts) -> float:
    """Return the share of pixel pairs on which both masks agree (paper 3.2.2).

    A pair agrees if both masks put its pixels in one class, or both in two. It disagrees exactly
    when one pixel is classified correctly and the other not; so with n pixels

        RI = 1 - (TP + TN) (FP + FN) / (n (n - 1) / 2),

    over all pairs, also between slices and cases, in integers of any size. A mask and its
    complement agree fully. In [0, 1], 1 is best. Fewer than two pixels: 1.0.

    >>> rand_index(Counts(tp=1, tn=4))
    1.0
    """
    n_pairs = counts.n_pixels * (counts.n_pixels - 1) // 2
    n_disagreeing = (counts.tp + counts.tn) * (counts.fp + counts.fn)
    return share(n_pairs - n_disagreeing, n_pairs)


@dataclass(frozen=True)
class Metric:
    """A score of a segmentation that its counts alone decide.

    Args:
        name: key in `METRICS` and name of the column.
        title: as tables and figures spell it.
        compute: the score from the pooled counts; None where it does not exist.
        best: "high", "low", or "zero" for a signed score.
        table1: whether Table 1 has a column for it.
    """

    name: str
    title: str
    compute: Callable[[Counts], float | None]
    best: Literal["high", "low", "zero"] = "high"
    table1: bool = False


METRICS: dict[str, Metric] = {}
"""Metrics by name; those of Table 1 in the order of its columns. AUC and rAUC come from curves."""


def register_metric(metric: Metric) -> Metric:
    """Add a metric to `METRICS`; with `table1` it becomes a column of Table 1.

    Raises:
        ValueError: the name is taken.
    """
    if metric.name in METRICS:
        raise ValueError(f"`metric.name` must be new. Received: {metric.name!r}")
    METRICS[metric.name] = metric
    return metric


register_metric(Metric("pixel_accuracy", "pixel accuracy", pixel_accuracy, table1=True))
register_metric(Metric("iou", "IoU", iou, table1=True))
register_metric(Metric("rand_index", "Rand index", rand_index, table1=True))
register_metric(Metric("dice", "Dice", dice, table1=True))
register_metric(Metric("voe", "VOE", voe, best="low"))
register_metric(Metric("rvd", "RVD", rvd, best="zero"))
register_metric(Metric("sensitivity", "sensitivity", sensitivity))
register_metric(Metric("specificity", "specificity", specificity))
register_metric(Metric("precision", "precision", precision))


def compute_scores(counts: Counts) -> dict[str, float | None]:
    """Compute the metrics of Table 1, by name.

    >>> compute_scores(Counts(tp=2, fp=2, fn=1, tn=5))["iou"]
    0.4
    """
    return {name: metric.compute(counts) for name, metric in METRICS.items() if metric.table1}


def partition_rand_index(prediction: np.ndarray, reference: np.ndarray, outside: int = 0) -> float:
    """Return the Rand index of two partitions into any number of parts.

    With n_ij pixels in part i of one and j of the other, sums a_i and b_j, n in all,

        RI = 1 - (sum a_i^2 + sum b_j^2 - 2 sum n_ij^2) / (n (n - 1)),

    in integers of any size. Of two binary masks it is `rand_index`; of numbered components
    (`evaluation.metrics.regions`) the paper's index of connected regions (3.2.2). In [0, 1], 1 is
    best. Fewer than two pixels: 1.0.

    Args:
        prediction: ndarray of any shape, integers that name the parts.
        reference: ndarray of the same shape.
        outside: pixels beside these that are part 0 in both, as around a box.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> partition_rand_index(np.array([0, 1, 1, 2]), np.array([0, 1, 1, 1]))
        0.6666666666666666
    """
    from scipy.stats.contingency import crosstab  # here, because it takes half a second

    _check_shapes(prediction, reference)
    # One pixel more of part 0 in both, so that there is such a part to which `outside` is added.
    flat = [np.append(partition.ravel(), 0) for partition in (prediction, reference)]
    parts, table = crosstab(*flat)
    table = table.astype(object)  # Python's integers: squares of pixel counts may pass 2^63
    table[tuple(np.searchsorted(names, 0) for names in parts)] += outside - 1
    squares = (table.sum(axis=0) ** 2).sum() + (table.sum(axis=1) ** 2).sum()
    n = prediction.size + outside
    n_pairs_twice = n * (n - 1)
    return share(n_pairs_twice - (squares - 2 * (table**2).sum()), n_pairs_twice)


def _check_shapes(prediction: np.ndarray, reference: np.ndarray) -> None:
    if prediction.shape != reference.shape:
        raise ValueError(
            "`prediction` must have the shape of `reference`. "
            f"Received: prediction.shape={prediction.shape}, reference.shape={reference.shape}"
        )
