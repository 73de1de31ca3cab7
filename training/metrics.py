"""The validation IoU that is followed per epoch, as Keras metrics on logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data.backend import keras

BINS = 200  # thresholds 0, 1/200, ..., 199/200
BEST, AT_HALF, MOST_PROBABLE = "iou", "iou_at_half", "iou_most_probable"
"""Ends of the metrics' names: at the best threshold, at 0.5, of the most probable class."""

Tensor = Any  # a tensor of the backend


def score_foreground(logits: Tensor) -> Tensor:
    """Return the probability of the foreground from one-channel logits."""
    return keras.ops.sigmoid(logits)


def score_liver(logits: Tensor) -> Tensor:
    """Return the probability of liver or tumor from three-class logits."""
    return 1 - keras.ops.softmax(logits, axis=-1)[..., 0]


def score_tumor(logits: Tensor) -> Tensor:
    """Return the probability of tumor from three-class logits."""
    return keras.ops.softmax(logits, axis=-1)[..., 2]


def decide_liver(logits: Tensor) -> Tensor:
    """Return 1 where liver or tumor is the most probable of three classes, else 0."""
    return keras.ops.cast(keras.ops.argmax(logits, axis=-1) >= 1, "float32")


def decide_tumor(logits: Tensor) -> Tensor:
    """Return 1 where tumor is the most probable of three classes, else 0."""
    return keras.ops.cast(keras.ops.argmax(logits, axis=-1) == 2, "float32")


class ThresholdedIoU(keras.metrics.Metric):
    """Pooled IoU = TP / (TP + FP + FN) over all pixels of an epoch, from a histogram.

    The balanced loss moves the useful threshold away from 0.5, so the checkpoint is chosen by the
    IoU at the best threshold (`threshold=None`); the IoU at a fixed one is followed beside it.
    Keras's own IoU metrics take one threshold.

    No foreground in truth or prediction gives 0. Counts are float32, as Keras keeps metrics: exact
    to 2**24 pixels of a probability bin, then rounded. The final scores come from exact counts
    (`evaluation.metrics.roc`).

    Args:
        score: logits -> probability of the foreground.
        foreground: the least truth that is foreground: 1 (liver, or the one channel's own) or 2
            (tumor). Further channels of the truth, which a loss may read, are passed over.
        threshold: a multiple of 1/200, or None for the best one.
    """

    def __init__(
        self,
        score: Callable[[Tensor], Tensor],
        foreground: int = 1,
        threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.score, self.foreground, self.threshold = score, foreground, threshold
        self.positive = self.add_weight(shape=(BINS,), initializer="zeros", name="positive")
        self.negative = self.add_weight(shape=(BINS,), initializer="zeros", name="negative")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None) -> None:
        """Count a batch: truth (batch, ..., channels), logits (batch, ..., c)."""
        bins = keras.ops.cast(
            keras.ops.minimum(keras.ops.floor(self.score(y_pred) * BINS), BINS - 1), "int32"
        )
        truth = keras.ops.cast(
            keras.ops.reshape(y_true[..., :1], (-1,)) >= self.foreground, "float32"
        )
        bins = keras.ops.reshape(bins, (-1,))
        self.positive.assign_add(keras.ops.segment_sum(truth, bins, num_segments=BINS))
        self.negative.assign_add(keras.ops.segment_sum(1 - truth, bins, num_segments=BINS))

    def result(self) -> Tensor:
        """Return the IoU of what was counted."""
        true_positive = keras.ops.flip(keras.ops.cumsum(keras.ops.flip(self.positive)))
        false_positive = keras.ops.flip(keras.ops.cumsum(keras.ops.flip(self.negative)))
        union = keras.ops.sum(self.positive) + false_positive
        iou = true_positive / keras.ops.maximum(union, 1.0)
        if self.threshold is None:
            return keras.ops.max(iou)
        return iou[round(self.threshold * BINS)]


def make_metrics(
    target: str, best_by: str = BEST
) -> list[keras.metrics.Metric] | dict[str, list[keras.metrics.Metric]]:
    """Return the metrics of a network: an IoU a target, each also `_at_half`.

    Args:
        target: "liver" or "tumor" (one channel), "classes" (three classes) or "joint" (two outputs,
            whose names Keras puts before their metrics).
        best_by: what the best epoch is chosen by; `MOST_PROBABLE`, of "classes", adds a metric a
            target.
    """
    if target == "joint":
        return {name: _make_ious(score_foreground, 1, "") for name in ("liver", "tumor")}
    if target == "classes":
        metrics = _make_ious(score_liver, 1, "liver_") + _make_ious(score_tumor, 2, "tumor_")
        if best_by == MOST_PROBABLE:
            metrics.append(ThresholdedIoU(decide_liver, 1, 0.5, name=f"liver_{MOST_PROBABLE}"))
            metrics.append(ThresholdedIoU(decide_tumor, 2, 0.5, name=f"tumor_{MOST_PROBABLE}"))
        return metrics
    return _make_ious(score_foreground, 1, f"{target}_")


def _make_ious(
    score: Callable[[Tensor], Tensor], foreground: int, prefix: str
) -> list[keras.metrics.Metric]:
    return [
        ThresholdedIoU(score, foreground, name=f"{prefix}{BEST}"),
        ThresholdedIoU(score, foreground, threshold=0.5, name=f"{prefix}{AT_HALF}"),
    ]
