"""Losses on logits, by name: weighted cross-entropy, Dice, Dice with focal loss.

All read logits. A clipped probability that saturates has no gradient; on tumor slices (0.4 % tumor
pixels) a network with momentum then reaches p = 0 everywhere and never comes back. Keras's own
losses do not serve: its cross-entropies take no weight a class, and its Dice and focal losses read
probabilities that they clip.

`LOSSES` maps a name to maker(target, class_weights, settings) -> keras.losses.Loss. A maker given
to `register_loss` is a new loss; `make_loss` says what makers are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.backend import keras

PACKAGE = "joint_liver_tumor"

Tensor = Any  # a tensor of the backend
Maker = Callable[[str, Sequence[float], Mapping[str, Any]], keras.losses.Loss]

LOSSES: dict[str, Maker] = {}
"""The maker of every loss by its name."""


def register_loss(name: str) -> Callable[[Maker], Maker]:
    """Return the decorator that adds a maker to `LOSSES`."""

    def add(maker: Maker) -> Maker:
        LOSSES[name] = maker
        return maker

    return add


def make_loss(
    name: str, target: str, class_weights: Sequence[float], settings: Mapping[str, Any]
) -> keras.losses.Loss:
    """Make a loss of the registry for a network.

    Args:
        name: a key of `LOSSES`.
        target: "classes" (three channels), "liver" or "tumor" (one).
        class_weights: one a class, of three or two; ones in the phases "ce" and "train".
        settings: the system's values.

    Raises:
        ValueError: there is no such loss, or it is not for this target.
    """
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {name!r}")
    return LOSSES[name](target, class_weights, settings)


class ConfiguredLoss(keras.losses.Loss):
    """A loss whose configuration is its constructor's arguments, `OPTIONS`."""

    OPTIONS: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        """Return what makes the loss again."""
        return {**super().get_config(), **{name: getattr(self, name) for name in self.OPTIONS}}


@keras.saving.register_keras_serializable(PACKAGE)
class BalancedBinaryCrossentropy(ConfiguredLoss):
    """Cross-entropy of one channel with a weight a class, w(0) and w(1).

    The mean over the pixels of w(b) * (softplus(z) - b * z).
    """

    OPTIONS = ("background_weight", "foreground_weight")

    def __init__(
        self, background_weight: float = 1.0, foreground_weight: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.background_weight, self.foreground_weight = background_weight, foreground_weight

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of every pixel, (batch, ...) of the logits' type.

        Args:
            y_true: (batch, ..., channels), the first 1 in the foreground, 0 elsewhere.
            y_pred: (batch, ..., 1), logits z with p = sigmoid(z).
        """
        truth = keras.ops.cast(y_true[..., :1], y_pred.dtype)
        weight = self.background_weight + (self.foreground_weight - self.background_weight) * truth
        return keras.ops.squeeze(weight * (keras.ops.softplus(y_pred) - truth * y_pred), -1)


@keras.saving.register_keras_serializable(PACKAGE)
class BalancedCategoricalCrossentropy(ConfiguredLoss):
    """Cross-entropy of several channels with a weight a class, in their order.

    The mean over the pixels of -w(c) * log softmax(z)_c.
    """

    OPTIONS = ("class_weights",)

    def __init__(self, class_weights: Sequence[float] = (1.0, 1.0, 1.0), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.class_weights = tuple(class_weights)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of every pixel, (batch, rows, columns) of the logits' type.

        Args:
            y_true: (batch, rows, columns, 1), each pixel's class: 0 other, 1 liver, 2 tumor.
            y_pred: (batch, rows, columns, classes), logits.
        """
        classes = keras.ops.squeeze(keras.ops.cast(y_true, "int32"), -1)
        one_hot = keras.ops.one_hot(classes, len(self.class_weights), dtype=y_pred.dtype)
        weights = keras.ops.convert_to_tensor(self.class_weights, dtype=y_pred.dtype)
        likelihood = keras.ops.log_softmax(y_pred, axis=-1)
        return -keras.ops.sum(one_hot * weights * likelihood, axis=-1)


@register_loss("cross_entropy")
def make_cross_entropy(
    target: str, class_weights: Sequence[float], settings: Mapping[str, Any]
) -> keras.losses.Loss:
    """Make the cross-entropy with a weight a class (paper 2.4).

    Args:
        target, class_weights, settings: as of `make_loss`.
    """
    if target == "classes":
        return BalancedCategoricalCrossentropy(class_weights)
    return BalancedBinaryCrossentropy(*class_weights)


def compute_soft_dice(
    truth: Tensor, probability: Tensor, smooth: float, axes: tuple[int, ...] | None = None
) -> Tensor:
    """Return (2 sum(t p) + smooth) / (sum(t) + sum(p) + smooth).

    Args:
        truth: 0 or 1.
        probability: of the same shape, in [0, 1].
        smooth: added above and below, so that nothing in nothing gives 1.
        axes: what is summed over; None: all.
    """
    overlap = keras.ops.sum(truth * probability, axes)
    sizes = keras.ops.sum(truth, axes) + keras.ops.sum(probability, axes)
    return (2 * overlap + smooth) / (sizes + smooth)


def compute_focal(truth: Tensor, logits: Tensor, gamma: float) -> Tensor:
    """Return the mean focal loss (1 - p_t)^gamma * -log p_t (Lin et al. 2017).

    From logits z: -log p_t = softplus(-s z) with s = 1 in the foreground, else -1; no clipping.

    Args:
        truth: 0 or 1.
        logits: of the same shape.
        gamma: 0 gives the cross-entropy.
    """
    signed = (2 * truth - 1) * logits
    return keras.ops.mean(keras.ops.sigmoid(-signed) ** gamma * keras.ops.softplus(-signed))


@keras.saving.register_keras_serializable(PACKAGE)
class DiceLoss(ConfiguredLoss):
    """1 - soft Dice over all pixels of a batch (Dhanush et al. list "Dice-loss").

    `smooth` is added above and below, so that an empty batch gives 0 (assumed 1, as is common).
    """

    OPTIONS = ("smooth",)

    def __init__(self, smooth: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.smooth = smooth

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Map truth, its first channel, and logits, (batch, ..., 1), to a number."""
        truth = keras.ops.cast(y_true[..., :1], y_pred.dtype)
        return 1 - compute_soft_dice(truth, keras.ops.sigmoid(y_pred), self.smooth)


@register_loss("dice")
def make_dice(
    target: str, class_weights: Sequence[float], settings: Mapping[str, Any]
) -> keras.losses.Loss:
    """Make the Dice loss; it takes no class weights.

    Args:
        target, class_weights, settings: as of `make_loss`.
    """
    check_one_channel("dice", target)
    return DiceLoss()


@keras.saving.register_keras_serializable(PACKAGE)
class DiceFocalRatio(ConfiguredLoss):
    """Dice + focal + weight * (predicted tumor-to-liver ratio - weak label)^2.

    Of the global and local pipeline. The ratio is the patient's, computed on probabilities p so
    that it has a gradient. A crop shows a part of the liver only; assumed: the rest counts as the
    reference has it. With L the patient's liver voxels, T the reference's tumor voxels outside the
    crop and the sum over the crop's liver,

        ratio = (sum p + T) / L,

    the documented ratio where the crop holds the whole liver. The penalty is small: with ratios of
    some percent and the reported weight of 0.5 it is about a thousandth of the Dice.

    Args:
        ratio_weight: lambda of the penalty; 0 leaves it out, and the truth then needs its first
            channel only.
        gamma: of the focal loss (reported of the pipeline: 2).
        smooth: of the Dice, averaged over the crops of a batch (assumed 1, as for `DiceLoss`).
    """

    OPTIONS = ("ratio_weight", "gamma", "smooth")

    def __init__(
        self, ratio_weight: float = 0.0, gamma: float = 2.0, smooth: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.ratio_weight, self.gamma, self.smooth = ratio_weight, gamma, smooth

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Map truth and logits to a number.

        Args:
            y_true: (batch, ..., 1 or 3): target; 1 / L inside the liver, else 0; weak label -
                T / L, the same in every voxel (`data.volume_batches.make_ratio_channels`).
            y_pred: (batch, ..., 1), logits.
        """
        truth = keras.ops.cast(y_true, y_pred.dtype)
        axes = tuple(range(1, len(y_pred.shape)))
        target, probability = truth[..., :1], keras.ops.sigmoid(y_pred)
        overlap = compute_soft_dice(target, probability, self.smooth, axes)
        loss = keras.ops.mean(1 - overlap) + compute_focal(target, y_pred, self.gamma)
        if not self.ratio_weight:
            return loss
        share = keras.ops.sum(probability * truth[..., 1:2], axes)
        left = keras.ops.mean(truth[..., 2:3], axes)
        return loss + self.ratio_weight * keras.ops.mean((share - left) ** 2)


@register_loss("dice_focal")
def make_dice_focal(
    target: str, class_weights: Sequence[float], settings: Mapping[str, Any]
) -> keras.losses.Loss:
    """Make Dice and focal loss, with the penalty where the settings give it a weight.

    Args:
        target, class_weights, settings: as of `make_loss`.
    """
    check_one_channel("dice_focal", target)
    return DiceFocalRatio(settings.get("ratio_weight", 0.0))


def check_one_channel(loss: str, target: str) -> None:
    """Raise a ValueError unless a network has one channel."""
    if target == "classes":
        raise ValueError(f"loss {loss} is for networks of one channel, not of three classes")


def weigh_by_inverse_frequency(pixels: Sequence[int]) -> list[float]:
    """Return w_c = all pixels / (classes * pixels of c), of mean 1 over the pixels.

    The paper's formula is lost; this is the assumed one. `pixels` counts each class over the
    training set.

    Raises:
        ValueError: a class has no pixel: its weight would be infinite.
    """
    if min(pixels) < 1:
        raise ValueError(f"pixels must be at least 1 for every class, got {list(pixels)}")
    return [sum(pixels) / (len(pixels) * count) for count in pixels]


def weigh_by_ratio(
    background_pixels: int, foreground_pixels: int, ratio: float
) -> tuple[float, float]:
    """Return (background, foreground) weights in a ratio, of mean 1 over the pixels.

    Args:
        background_pixels, foreground_pixels: their numbers.
        ratio: foreground to background, as the sweep over the class weight varies it; 1 is the
            plain cross-entropy, `background_pixels / foreground_pixels` the inverse class
            frequency.

    Raises:
        ValueError: the ratio is not positive.
    """
    if ratio <= 0:
        raise ValueError(f"ratio must be positive, got {ratio}")
    total = background_pixels + foreground_pixels
    background = total / (background_pixels + ratio * foreground_pixels)
    return background, ratio * background
