"""Losses of the other systems: Dice, and Dice with focal loss and the penalty on the tumor-to-liver ratio.

All read logits, as `training.losses` does, and one channel.
"""

from __future__ import annotations

from typing import Any

from data.backend import keras
from training.losses import PACKAGE

Tensor = Any  # a tensor of the backend


def soft_dice(
    truth: Tensor, probability: Tensor, smooth: float, axes: tuple[int, ...] | None = None
) -> Tensor:
    """Return (2 sum(t p) + smooth) / (sum(t) + sum(p) + smooth) over `axes` (None: all)."""
    overlap = keras.ops.sum(truth * probability, axes)
    return (2 * overlap + smooth) / (
        keras.ops.sum(truth, axes) + keras.ops.sum(probability, axes) + smooth
    )


def focal(truth: Tensor, logits: Tensor, gamma: float) -> Tensor:
    """Return the mean focal loss (1 - p_t)^gamma * -log p_t (Lin et al. 2017), p_t the probability of the truth.

    From logits z: -log p_t = softplus(-s z) with s = 1 in the foreground, else -1; no clipping.
    """
    signed = (2 * truth - 1) * logits
    return keras.ops.mean(keras.ops.sigmoid(-signed) ** gamma * keras.ops.softplus(-signed))


@keras.saving.register_keras_serializable(PACKAGE)
class DiceLoss(keras.losses.Loss):
    """1 - soft Dice over all pixels of a batch (Dhanush et al.: the abstract lists "Dice-loss" among the measures).

    Args:
        smooth: added above and below, so that an empty batch gives 0 (assumed 1, as is common).
    """

    def __init__(self, smooth: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.smooth = smooth

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Map truth and logits, (batch, ..., 1) each, to a number."""
        truth = keras.ops.cast(y_true, y_pred.dtype)
        return 1 - soft_dice(truth, keras.ops.sigmoid(y_pred), self.smooth)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "smooth": self.smooth}


@keras.saving.register_keras_serializable(PACKAGE)
class DiceFocalRatio(keras.losses.Loss):
    """Dice + focal + weight * (predicted tumor-to-liver ratio - weak label)^2 (global and local pipeline).

    The ratio is the patient's and computed on probabilities p, so that it has a gradient. A crop shows a part of the
    liver only; assumed: the rest counts as the reference has it. So with L the patient's liver voxels, T the
    reference's tumor voxels outside the crop and the sum over the crop's liver,

        ratio = (sum p + T) / L,

    which is the documented ratio where the crop holds the whole liver, and has its gradient where the network is right
    elsewhere. The penalty is small: with ratios of some percent, the reported weight of 0.5 and 1 / L for each voxel,
    it is about a thousandth of the Dice.

    Args:
        ratio_weight: lambda of the penalty; 0 leaves it out, and the truth then needs its first channel only.
        gamma: of the focal loss (reported of the pipeline: 2).
        smooth: of the Dice, averaged over the crops of a batch (assumed 1, as for `DiceLoss`).
    """

    def __init__(
        self, ratio_weight: float = 0.0, gamma: float = 2.0, smooth: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.ratio_weight, self.gamma, self.smooth = ratio_weight, gamma, smooth

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Map truth and logits to a number.

        Args:
            y_true: (batch, depth, rows, columns, 1 or 3): target; 1 / L inside the liver, else 0; weak label - T / L,
                the same in every voxel of the crop (`data.volume_batches.ratio_channels`).
            y_pred: (batch, depth, rows, columns, 1), logits.
        """
        truth = keras.ops.cast(y_true, y_pred.dtype)
        target, probability, axes = truth[..., :1], keras.ops.sigmoid(y_pred), (1, 2, 3, 4)
        loss = keras.ops.mean(1 - soft_dice(target, probability, self.smooth, axes)) + focal(
            target, y_pred, self.gamma
        )
        if not self.ratio_weight:
            return loss
        found = keras.ops.sum(probability * truth[..., 1:2], axes)
        left = keras.ops.mean(truth[..., 2:3], axes)
        return loss + self.ratio_weight * keras.ops.mean((found - left) ** 2)

    def get_config(self) -> dict[str, Any]:
        options = {"ratio_weight": self.ratio_weight, "gamma": self.gamma, "smooth": self.smooth}
        return {**super().get_config(), **options}
