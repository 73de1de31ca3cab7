"""The 3D backbone of the global and local pipeline as a Keras functional graph (Myronenko 2018; MONAI's SegResNetVAE).

A residual encoder with group normalisation, a light decoder and, at the encoder's endpoint, a variational autoencoder
(VAE) that reconstructs the input through the same decoder without its skip connections. Its loss regularises the
encoder in training. With the same weights, outputs and loss are MONAI's, which the tests compare. Like `models.unet`
the graph ends in the layers `logits` and `probability`.

The branch hangs on the layer `vae_loss`, which hands the decoder's features on as they are. At prediction nothing
depends on the branch, so a compiled graph (`fit`, `predict`) leaves it out; `segmentation_part` is the model without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

PACKAGE = "joint_liver_tumor"
GROUPS = 8  # of every normalisation; MONAI's default
VAE_CHANNELS = (
    16  # MONAI's `smallest_filters`, between the encoder's endpoint and the latent variables
)
# PyTorch's start of a kernel, uniform within 1 / sqrt(inputs). A description, since one initializer draws one set.
UNIFORM = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}

Named = dict[str, Any]
"""Layers by name. `_apply` makes one where the name is new, so a second pass over the same names shares the weights."""


@keras.saving.register_keras_serializable(PACKAGE)
class GroupNorm(layers.GroupNormalization):
    """Keras's group normalisation, with the moments of every channel taken first and then joined by group.

    On a CPU it takes half the time of Keras's own reduction over the grouped array and is more exact: with TensorFlow
    and windows of 32 x 128 x 128 that one is off by 1e-3, this one by less than 1e-4.
    """

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Map (batch, ..., channels) to the same shape; computed in float32."""
        x = ops.cast(inputs, "float32")
        channels, axes = x.shape[-1], tuple(range(1, len(x.shape) - 1))
        grouped = (-1, self.groups, channels // self.groups)
        means, variances = (ops.reshape(moment, grouped) for moment in ops.moments(x, axes=axes))
        mean = ops.mean(means, axis=-1, keepdims=True)
        variance = ops.mean(variances + ops.square(means - mean), axis=-1, keepdims=True)
        scale = ops.reshape(self.gamma, grouped[1:]) * ops.rsqrt(variance + self.epsilon)
        shift = ops.reshape(self.beta, grouped[1:]) - mean * scale
        spread = (-1, *(1 for _ in axes), channels)
        return ops.cast(
            x * ops.reshape(scale, spread) + ops.reshape(shift, spread), self.compute_dtype
        )


@keras.saving.register_keras_serializable(PACKAGE)
class TrilinearUpsampling(layers.Layer):
    """Double depth, rows and columns by linear interpolation between voxel centres (PyTorch: align_corners=False).

    Outside the array its border goes on. Along each axis that is a product with a matrix of a row per output voxel,
    which on a CPU takes a seventh of the time of sums of shifted arrays.
    """

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Map (batch, depth, rows, columns, channels) to (batch, 2 depth, 2 rows, 2 columns, channels)."""
        shape = list(ops.shape(x))
        for axis in (2, 3, 1):  # the order that measured fastest
            size, inner = shape[axis], 1
            for length in shape[axis + 1 :]:
                inner = inner * length
            x = ops.matmul(ops.cast(_doubling(size), x.dtype), ops.reshape(x, (-1, size, inner)))
            shape[axis] = 2 * size
        return ops.reshape(x, shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape with the three lengths doubled."""
        batch, *lengths, channels = input_shape
        return (batch, *(None if length is None else 2 * length for length in lengths), channels)


def _doubling(size: int) -> keras.KerasTensor:
    """Return the matrix (2 size, size) that interpolates linearly; its entries are 0, 1/4, 3/4 and 1."""
    centre = ops.clip((ops.arange(2 * size, dtype="float32") - 0.5) / 2, 0, size - 1)
    distance = ops.abs(ops.expand_dims(centre, 1) - ops.arange(size, dtype="float32"))
    return ops.maximum(1 - distance, 0)


@keras.saving.register_keras_serializable(PACKAGE)
class LatentDraw(layers.Layer):
    """The latent variables: in training mean + deviation * noise, at prediction the mean.

    Args:
        estimate_std: use the estimated deviation; otherwise `default_std` stands for it.
        default_std: deviation of every variable.
        seed: of the noise, standard normal.
    """

    def __init__(
        self,
        estimate_std: bool = False,
        default_std: float = 0.3,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.estimate_std, self.default_std, self.seed = estimate_std, default_std, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(
        self, inputs: Sequence[keras.KerasTensor], training: bool = False
    ) -> keras.KerasTensor:
        """Map mean and deviation, each (batch, latent) float32, to the variables of the same shape."""
        mean, deviation = inputs
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator)
        return mean + (deviation if self.estimate_std else self.default_std) * noise

    def compute_output_shape(
        self, input_shape: Sequence[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Return the shape of the mean."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        own = {
            "estimate_std": self.estimate_std,
            "default_std": self.default_std,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}


def vae_loss(
    image: keras.KerasTensor,
    reconstruction: keras.KerasTensor,
    mean: keras.KerasTensor,
    deviation: keras.KerasTensor | None = None,
) -> keras.KerasTensor:
    """Return MONAI's loss of the branch: mean squared error of the reconstruction plus a prior on the latents.

    With m the mean and s the deviation of a latent variable the prior is the mean over batch and variables of
    (m^2 + s^2 - log(1e-8 + s^2) - 1) / 2, the divergence from a standard normal, or of m^2 without `deviation`.

    Args:
        image, reconstruction: of the same shape.
        mean, deviation: (batch, latent).

    Returns:
        A float32 scalar.
    """
    image, reconstruction, mean = (ops.cast(x, "float32") for x in (image, reconstruction, mean))
    prior = ops.mean(ops.square(mean))
    if deviation is not None:
        variance = ops.square(ops.cast(deviation, "float32"))
        prior = 0.5 * (prior + ops.mean(variance - ops.log(1e-8 + variance) - 1))
    return prior + ops.mean(ops.square(image - reconstruction))


@keras.saving.register_keras_serializable(PACKAGE)
class VAELoss(layers.Layer):
    """Adds `weight` * `vae_loss` to the model's loss in training; the features pass through unchanged.

    Args:
        weight: 0 adds nothing: the branch's output is discarded.
        estimate_std: take the estimated deviation into the prior.
    """

    def __init__(self, weight: float = 0.1, estimate_std: bool = False, **kwargs: Any) -> None:
        # The loss is computed in float32, the features keep the precision they come in.
        super().__init__(autocast=False, **kwargs)
        self.weight, self.estimate_std = weight, estimate_std

    def call(
        self, inputs: Sequence[keras.KerasTensor], training: bool = False
    ) -> keras.KerasTensor:
        """Map [features, image, reconstruction, mean, deviation] to the features."""
        features, image, reconstruction, mean, deviation = inputs
        if training and self.weight:
            loss = vae_loss(image, reconstruction, mean, deviation if self.estimate_std else None)
            self.add_loss(self.weight * loss)
        return features

    def compute_output_shape(
        self, input_shape: Sequence[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Return the shape of the features."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight, "estimate_std": self.estimate_std}


def segresnet_vae(
    input_shape: Sequence[int],
    input_channels: int = 1,
    classes: int = 1,
    filters: int = 16,
    blocks_down: Sequence[int] = (1, 2, 2, 4),
    blocks_up: Sequence[int] = (1, 1, 1),
    dropout: float = 0.2,
    latent: int = 256,
    vae_weight: float = 0.1,
    estimate_std: bool = False,
    default_std: float = 0.3,
    name: str = "segresnet_vae",
) -> keras.Model:
    """Build MONAI's SegResNetVAE in 3D.

    Level 1 has the input's resolution and `filters` channels; each level below halves the one and doubles the other.
    Kernels start as PyTorch's do; biases start at 0 (assumed: five of the six stand in the VAE branch). Parts of the
    branch that no loss reaches are not trainable: all of it where `vae_weight` is 0, `vae_deviation` where
    `estimate_std` is false. They are there, as in MONAI, so the parameters are as many.

    Args:
        input_shape: (depth, rows, columns) of the window, multiples of 2 ** len(blocks_down), that is 16 for four
            levels: the encoder halves them three times, the branch once more (MONAI's branch fails for others).
        input_channels: channels of the window.
        classes: 1 gives a sigmoid, more a softmax over that many classes.
        filters: of level 1, a multiple of 8, the groups of the normalisation.
        blocks_down: residual blocks a level, from the finest to the bottom.
        blocks_up: residual blocks a level of the decoder, from the coarsest to the finest.
        dropout: rate of the dropout of whole channels after the first convolution. 0 leaves it out.
        latent: variables of the VAE.
        vae_weight: of the branch's loss (0.1: Myronenko 2018). 0 discards the branch's output, as the pipeline's
            published code does.
        estimate_std: estimate the deviation of the latent variables instead of taking `default_std`.
        default_std: their deviation.
        name: the model's name.

    Returns:
        A `keras.Model`: (batch, depth, rows, columns, input_channels) float32 -> (batch, depth, rows, columns,
        classes) float32 in (0, 1). Layers `logits` and `probability` are its last two; a model that ends at `logits`
        (`models.unet.logits_model`) adds the loss of the branch in training too.

    Raises:
        ValueError: an argument out of its range.
    """
    _check_counts(input_channels=input_channels, classes=classes, latent=latent)
    _check_blocks(filters, blocks_down, blocks_up)
    _check_rates(dropout, vae_weight, default_std)
    _check_shape(
        input_shape,
        2 ** len(blocks_down),
        f"{len(blocks_down)} levels and the VAE branch",
        fixed=True,
    )
    named: Named = {}
    inputs = layers.Input((*input_shape, input_channels), name="window")
    skips = _encode(named, inputs, filters, blocks_down, dropout)
    features = _decode(named, skips[-1], blocks_up, skips)
    segmentation = set(named)
    vae = _vae(named, inputs, skips[-1], blocks_up, latent, estimate_std, default_std)
    features = _apply(
        named, [features, *vae], VAELoss, "vae_loss", weight=vae_weight, estimate_std=estimate_std
    )
    if vae_weight == 0:  # an optimizer would warn of weights without gradient
        for key in named.keys() - segmentation:
            named[key].trainable = False
    named["vae_deviation"].trainable = bool(vae_weight and estimate_std)
    return keras.Model(inputs, _classify(named, features, classes), name=name)


def segmentation_part(
    model: keras.Model, input_shape: Sequence[int | None] | None = None
) -> keras.Model:
    """Return the network without its VAE branch; it shares every weight with `model`.

    Args:
        model: a `segresnet_vae`.
        input_shape: (depth, rows, columns), each a multiple of 2 ** (levels - 1) or None for any such length; by
            default the model's own. Only the branch is bound to the size it was built for.

    Returns:
        A `keras.Model` of the same input and output, named `<model>_segmentation`.

    Raises:
        ValueError: `input_shape` is not three such lengths.
    """
    named: Named = {layer.name: layer for layer in model.layers}
    *own_shape, channels = model.input_shape[1:]
    down, up = _blocks(named, "encoder"), _blocks(named, "decoder")[::-1]
    shape = own_shape if input_shape is None else input_shape
    _check_shape(shape, 2 ** (len(down) - 1), f"{len(down)} levels")
    inputs = layers.Input((*shape, channels), name="window")
    skips = _encode(
        named, inputs, 0, down, "dropout" in named
    )  # widths and rates are those of the layers there
    outputs = _classify(named, _decode(named, skips[-1], up, skips), 0)
    return keras.Model(inputs, outputs, name=f"{model.name}_segmentation")


def _blocks(named: Mapping[str, Any], path: str) -> list[int]:
    """Return the residual blocks of each level, finest first, read from the layers' names."""
    found = Counter(
        key.split("_")[1] for key in named if key.startswith(f"{path}_") and key.endswith("_sum")
    )
    return [found[str(level)] for level in range(1, len(found) + 1)]


def _encode(
    named: Named, x: keras.KerasTensor, filters: int, blocks: Sequence[int], dropout: float
) -> list[keras.KerasTensor]:
    """Return the features of every level, finest first; the last is the endpoint."""
    skips: list[keras.KerasTensor] = []
    for level, count in enumerate(blocks, start=1):
        x = _convolve(
            named,
            x,
            filters * 2 ** (level - 1),
            f"encoder_{level}_conv",
            strides=1 if level == 1 else 2,
        )
        if level == 1 and dropout:
            x = _apply(named, x, layers.SpatialDropout3D, "dropout", rate=dropout)
        for index in range(1, count + 1):
            x = _residual_block(named, x, f"encoder_{level}_block_{index}")
        skips.append(x)
    return skips


def _decode(
    named: Named,
    x: keras.KerasTensor,
    blocks: Sequence[int],
    skips: Sequence[keras.KerasTensor] | None,
) -> keras.KerasTensor:
    """Return features of the input's resolution; the VAE branch has no `skips`."""
    for level, count in zip(range(len(blocks), 0, -1), blocks, strict=True):
        x = _convolve(named, x, x.shape[-1] // 2, f"decoder_{level}_conv", size=1)
        x = _apply(named, x, TrilinearUpsampling, f"decoder_{level}_up")
        if skips is not None:
            x = _apply(named, [x, skips[level - 1]], layers.Add, f"decoder_{level}_skip")
        for index in range(1, count + 1):
            x = _residual_block(named, x, f"decoder_{level}_block_{index}")
    return x


def _classify(named: Named, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    x = _norm_relu(named, x, "final")
    # Half precision would round logits near 0 and saturate the probabilities.
    logits = _convolve(named, x, classes, "logits", size=1, use_bias=True, dtype="float32")
    activation = "sigmoid" if classes == 1 else "softmax"
    return _apply(
        named, logits, layers.Activation, "probability", activation=activation, dtype="float32"
    )


def _vae(
    named: Named,
    inputs: keras.KerasTensor,
    endpoint: keras.KerasTensor,
    blocks: Sequence[int],
    latent: int,
    estimate_std: bool,
    default_std: float,
) -> list[keras.KerasTensor]:
    """Return [image, reconstruction, mean, deviation]."""
    x = _norm_relu(named, endpoint, "vae_down_1")
    x = _convolve(named, x, VAE_CHANNELS, "vae_down_conv", strides=2, use_bias=True)
    x = _norm_relu(named, x, "vae_down_2")
    shape = x.shape[1:]
    x = _apply(named, x, layers.Flatten, "vae_flat")
    dense = {"kernel_initializer": UNIFORM, "dtype": "float32"}
    mean = _apply(named, x, layers.Dense, "vae_mean", units=latent, **dense)
    deviation = _apply(
        named, x, layers.Dense, "vae_deviation", units=latent, activation="softplus", **dense
    )
    draw = {"estimate_std": estimate_std, "default_std": default_std, "dtype": "float32"}
    z = _apply(named, [mean, deviation], LatentDraw, "vae_draw", **draw)
    units = shape[0] * shape[1] * shape[2] * shape[3]
    x = _apply(
        named,
        z,
        layers.Dense,
        "vae_up_dense",
        units=units,
        activation="relu",
        kernel_initializer=UNIFORM,
    )
    x = _apply(named, x, layers.Reshape, "vae_volume", target_shape=shape)
    x = _convolve(named, x, endpoint.shape[-1], "vae_up_conv", size=1)
    x = _apply(named, x, TrilinearUpsampling, "vae_up")
    x = _decode(named, _norm_relu(named, x, "vae_up"), blocks, None)
    x = _norm_relu(named, x, "vae_final")
    image = _convolve(
        named, x, inputs.shape[-1], "vae_reconstruction", size=1, use_bias=True, dtype="float32"
    )
    return [inputs, image, mean, deviation]


def _residual_block(named: Named, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Twice group normalisation, ReLU and a 3 x 3 x 3 convolution; the input is added to the result."""
    y = x
    for index in (1, 2):
        y = _norm_relu(named, y, f"{name}_{index}")
        y = _convolve(named, y, x.shape[-1], f"{name}_{index}_conv")
    return _apply(named, [y, x], layers.Add, f"{name}_sum")


def _norm_relu(named: Named, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = _apply(named, x, GroupNorm, f"{name}_norm", groups=GROUPS, epsilon=1e-5)
    return _apply(named, x, layers.ReLU, f"{name}_relu")


def _convolve(
    named: Named,
    x: keras.KerasTensor,
    filters: int,
    name: str,
    size: int = 3,
    strides: int = 1,
    **arguments: Any,
) -> keras.KerasTensor:
    if strides == 2:  # PyTorch pads in front; Keras's "same" would pad behind even lengths
        x = _apply(named, x, layers.ZeroPadding3D, f"{name}_pad", padding=((1, 0),) * 3)
    arguments = {"use_bias": False, "kernel_initializer": UNIFORM, **arguments}
    arguments |= {"filters": filters, "kernel_size": size, "strides": strides}
    return _apply(
        named, x, layers.Conv3D, name, padding="valid" if strides == 2 else "same", **arguments
    )


def _apply(named: Named, x: Any, kind: type, name: str, **arguments: Any) -> keras.KerasTensor:
    if name not in named:
        named[name] = kind(name=name, **arguments)
    return named[name](x)


def _check_counts(**counts: int) -> None:
    for key, count in counts.items():
        if count < 1:
            raise ValueError(f"{key} must be at least 1, got {count}")


def _check_blocks(filters: int, blocks_down: Sequence[int], blocks_up: Sequence[int]) -> None:
    if filters < 1 or filters % GROUPS:
        raise ValueError(f"filters must be a positive multiple of {GROUPS}, got {filters}")
    for key, blocks, least in (("blocks_down", blocks_down, 2), ("blocks_up", blocks_up, 1)):
        if len(blocks) < least or min(blocks) < 1:
            raise ValueError(
                f"{key} must hold at least {least} positive numbers, got {tuple(blocks)}"
            )
    if len(blocks_up) != len(blocks_down) - 1:
        raise ValueError(
            f"blocks_up must be one level shorter than {tuple(blocks_down)}, got {tuple(blocks_up)}"
        )


def _check_rates(dropout: float, vae_weight: float, default_std: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    for key, value in (("vae_weight", vae_weight), ("default_std", default_std)):
        if value < 0:
            raise ValueError(f"{key} must not be negative, got {value}")


def _check_shape(shape: Sequence[int | None], factor: int, why: str, fixed: bool = False) -> None:
    sizes = [factor if size is None and not fixed else size or 0 for size in shape]
    if len(sizes) != 3 or any(size < factor or size % factor for size in sizes):
        raise ValueError(
            f"input_shape must be three multiples of {factor} ({why}), got {tuple(shape)}"
        )
