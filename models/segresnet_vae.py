"""MONAI's SegResNetVAE: the 3D backbone of the global and local pipeline.

Myronenko 2018: a residual encoder with group normalisation, a light decoder and, at the encoder's
endpoint, a variational autoencoder (VAE) that reconstructs the input through the same decoder
without its skip connections. Its loss regularises the encoder in training. With the same weights,
outputs and loss are MONAI's (tested).

The branch hangs on the layer `vae_loss`, which hands the decoder's features on unchanged. At
prediction nothing depends on it, so a compiled graph (`fit`, `predict`) leaves it out;
`take_segmentation` is the model without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

import keras
from keras import layers, ops

from models.checks import require, require_positive, require_rate
from models.head import end_network

PACKAGE = "joint_liver_tumor"
GROUPS = 8  # of every normalisation; MONAI's default
VAE_CHANNELS = 16  # MONAI's `smallest_filters`, between endpoint and latent variables
# PyTorch's start of a kernel, uniform within 1 / sqrt(inputs). A description, since one initializer
# draws one set.
UNIFORM = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}


@keras.saving.register_keras_serializable(PACKAGE)
class GroupNorm(layers.GroupNormalization):
    """Keras's group normalisation, with moments by channel that are joined by group.

    On a CPU it takes half the time of Keras's reduction over the grouped array and is more exact:
    with windows of 32 x 128 x 128 in TensorFlow off by less than 1e-4, Keras's by 1e-3.
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
        x = x * ops.reshape(scale, spread) + ops.reshape(shift, spread)
        return ops.cast(x, self.compute_dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class TrilinearUpsampling(layers.Layer):
    """Double depth, rows and columns by linear interpolation between voxel centres.

    As PyTorch's with align_corners=False; Keras has none in 3D. Outside the array its border goes
    on. A product with a matrix along each axis takes a seventh of the time of sums of shifted
    arrays on a CPU.
    """

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Map (batch, depth, rows, columns, channels) to twice the three lengths."""
        shape = list(ops.shape(x))
        for axis in (2, 3, 1):  # the order that measured fastest
            size, inner = shape[axis], 1
            for length in shape[axis + 1 :]:
                inner = inner * length
            x = ops.matmul(
                ops.cast(_make_doubling(size), x.dtype), ops.reshape(x, (-1, size, inner))
            )
            shape[axis] = 2 * size
        return ops.reshape(x, shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape with the three lengths doubled."""
        batch, *lengths, channels = input_shape
        return (batch, *(None if length is None else 2 * length for length in lengths), channels)


def _make_doubling(size: int) -> keras.KerasTensor:
    """Return the matrix (2 size, size) that interpolates, of 0, 1/4, 3/4 and 1."""
    centre = ops.clip((ops.arange(2 * size, dtype="float32") - 0.5) / 2, 0, size - 1)
    distance = ops.abs(ops.expand_dims(centre, 1) - ops.arange(size, dtype="float32"))
    return ops.maximum(1 - distance, 0)


@keras.saving.register_keras_serializable(PACKAGE)
class LatentDraw(layers.Layer):
    """The latent variables: a random draw in training, at prediction their mean.

    The draw is mean + deviation * noise.

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
        """Map mean and deviation, (batch, latent) float32, to latent variables."""
        mean, deviation = inputs
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator)
        return mean + (deviation if self.estimate_std else self.default_std) * noise

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the layer again."""
        names = ("estimate_std", "default_std", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def compute_vae_loss(
    image: keras.KerasTensor,
    reconstruction: keras.KerasTensor,
    mean: keras.KerasTensor,
    deviation: keras.KerasTensor | None = None,
) -> keras.KerasTensor:
    """Compute MONAI's loss of the branch: reconstruction error plus a prior.

    The first is the mean squared error. The second is the mean over batch and latent variables of
    (m^2 + s^2 - log(1e-8 + s^2) - 1) / 2 (mean m, deviation s), the divergence from a standard
    normal, or of m^2 without `deviation`.

    Args:
        image: the window.
        reconstruction: of the same shape.
        mean: of the latent variables, (batch, latent).
        deviation: of the same shape, or None.

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
    """Adds `weight` times the branch's loss in training; features pass unchanged.

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
            known = deviation if self.estimate_std else None
            self.add_loss(self.weight * compute_vae_loss(image, reconstruction, mean, known))
        return features

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the layer again."""
        return {**super().get_config(), "weight": self.weight, "estimate_std": self.estimate_std}


def build_segresnet_vae(
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

    Level 1 has the input's resolution and `filters` channels; each level below halves the one and
    doubles the other. Kernels start as PyTorch's do; biases start at 0 (assumed: five of the six
    stand in the VAE branch). Parts of the branch that no loss reaches are there, as in MONAI, but
    not trainable: all of it where `vae_weight` is 0, `vae_deviation` where `estimate_std` is false.

    Args:
        input_shape: (depth, rows, columns) of the window, multiples of 2 ** len(blocks_down), so 16
            for four levels: the encoder halves them three times, the branch once more.
        input_channels: channels of the window.
        classes: 1 gives a sigmoid, more a softmax over that many classes.
        filters: of level 1, a multiple of 8, the groups of the normalisation.
        blocks_down: residual blocks a level, from the finest to the bottom.
        blocks_up: residual blocks a level of the decoder, from the coarsest to the finest.
        dropout: rate of the dropout of whole channels after the first convolution; 0 for none.
        latent: variables of the VAE.
        vae_weight: of the branch's loss (0.1: Myronenko 2018). 0 discards the branch's output, as
            the pipeline's published code does.
        estimate_std: estimate the deviation of the latent variables; else it is `default_std`.
        default_std: their deviation.
        name: the model's name.

    Returns:
        A model from (batch, depth, rows, columns, input_channels) float32 to (batch, depth, rows,
        columns, classes) float32 in (0, 1). Layers `logits` and `probability` are its last two; a
        model that ends at `logits` (`models.head`) adds the loss of the branch in training too.

    Raises:
        ValueError: an argument out of its range.
    """
    require_positive(input_channels=input_channels, classes=classes, latent=latent)
    is_grouped = filters >= 1 and filters % GROUPS == 0
    require(is_grouped, f"filters must be a positive multiple of {GROUPS}", filters)
    for key, blocks, least in (("blocks_down", blocks_down, 2), ("blocks_up", blocks_up, 1)):
        has_blocks = len(blocks) >= least and min(blocks) >= 1
        require(has_blocks, f"{key} must hold at least {least} positive numbers", tuple(blocks))
    fits = len(blocks_up) == len(blocks_down) - 1
    rule = f"blocks_up must be one level shorter than {tuple(blocks_down)}"
    require(fits, rule, tuple(blocks_up))
    require_rate(dropout)
    for key, value in (("vae_weight", vae_weight), ("default_std", default_std)):
        require(value >= 0, f"{key} must not be negative", value)
    levels = len(blocks_down)
    _check_shape(input_shape, 2**levels, f"{levels} levels and the VAE branch", is_fixed=True)
    # The segmentation, then the branch, which uses the same decoder.
    graph = _Graph()
    inputs = layers.Input((*input_shape, input_channels), name="window")
    skips = graph.encode(inputs, filters, blocks_down, dropout)
    features = graph.decode(skips[-1], blocks_up, skips)
    segmentation = set(graph)
    mean, deviation = graph.estimate_latents(skips[-1], latent)
    draw = {"estimate_std": estimate_std, "default_std": default_std, "dtype": "float32"}
    latents = graph.apply(LatentDraw, "vae_draw", [mean, deviation], **draw)
    image = graph.reconstruct(latents, skips[-1], blocks_up, input_channels)
    branch = {"weight": vae_weight, "estimate_std": estimate_std}
    features = graph.apply(
        VAELoss, "vae_loss", [features, inputs, image, mean, deviation], **branch
    )
    # An optimizer would warn of weights without gradient.
    if vae_weight == 0:
        for key in graph.keys() - segmentation:
            graph[key].trainable = False
    graph["vae_deviation"].trainable = bool(vae_weight and estimate_std)
    return end_network(inputs, graph.score(features, classes), name)


def take_segmentation(
    model: keras.Model, input_shape: Sequence[int | None] | None = None
) -> keras.Model:
    """Return the network without its VAE branch; it shares every weight with `model`.

    Its name is `<model>_segmentation`. `input_shape` is (depth, rows, columns), each a multiple of
    2 ** (levels - 1) or None for any such length; by default the model's own. Only the branch is
    bound to its size.

    Raises:
        ValueError: `input_shape` is not three such lengths.
    """
    graph = _Graph({layer.name: layer for layer in model.layers})
    *own_shape, channels = model.input_shape[1:]
    down, up = graph.count_blocks("encoder"), graph.count_blocks("decoder")[::-1]
    shape = own_shape if input_shape is None else input_shape
    _check_shape(shape, 2 ** (len(down) - 1), f"{len(down)} levels")
    inputs = layers.Input((*shape, channels), name="window")
    # Widths and rates are those of the layers there.
    skips = graph.encode(inputs, 0, down, "dropout" in graph)
    logits = graph.score(graph.decode(skips[-1], up, skips), 0)
    outputs = graph["probability"](logits)
    return keras.Model(inputs, outputs, name=f"{model.name}_segmentation")


class _Graph(dict[str, Any]):
    """Layers by name, so that a second pass shares the weights."""

    def apply(self, kind: type, name: str, x: Any, **arguments: Any) -> keras.KerasTensor:
        if name not in self:
            self[name] = kind(name=name, **arguments)
        return self[name](x)

    def count_blocks(self, path: str) -> list[int]:
        """Return the residual blocks of each level, finest first, by the layers' names."""
        sums = [key for key in self if key.startswith(f"{path}_") and key.endswith("_sum")]
        count = Counter(key.split("_")[1] for key in sums)
        return [count[str(level)] for level in range(1, len(count) + 1)]

    def normalise(self, name: str, x: keras.KerasTensor) -> keras.KerasTensor:
        """Apply group normalisation and ReLU."""
        x = self.apply(GroupNorm, f"{name}_norm", x, groups=GROUPS, epsilon=1e-5)
        return self.apply(layers.ReLU, f"{name}_relu", x)

    def convolve(
        self, name: str, x: keras.KerasTensor, filters: int, size: int = 3, **arguments: Any
    ) -> keras.KerasTensor:
        """Apply a convolution without bias; one with strides of 2 pads as PyTorch does."""
        is_strided = arguments.get("strides") == 2
        if is_strided:  # PyTorch pads in front; Keras's "same" would pad behind even lengths
            x = self.apply(layers.ZeroPadding3D, f"{name}_pad", x, padding=((1, 0),) * 3)
        arguments = {"use_bias": False, "kernel_initializer": UNIFORM, **arguments}
        arguments |= {"filters": filters, "kernel_size": size}
        padding = "valid" if is_strided else "same"
        return self.apply(layers.Conv3D, name, x, padding=padding, **arguments)

    def add_block(self, name: str, x: keras.KerasTensor) -> keras.KerasTensor:
        """Apply normalisation and a 3 x 3 x 3 convolution twice; add the input."""
        y = x
        for index in (1, 2):
            y = self.normalise(f"{name}_{index}", y)
            y = self.convolve(f"{name}_{index}_conv", y, x.shape[-1])
        return self.apply(layers.Add, f"{name}_sum", [y, x])

    def encode(
        self, x: keras.KerasTensor, filters: int, blocks: Sequence[int], dropout: float
    ) -> list[keras.KerasTensor]:
        """Return the features of every level, finest first; the last is the endpoint."""
        skips: list[keras.KerasTensor] = []
        for level, count in enumerate(blocks, start=1):
            strides, width = 1 if level == 1 else 2, filters * 2 ** (level - 1)
            x = self.convolve(f"encoder_{level}_conv", x, width, strides=strides)
            if level == 1 and dropout:
                x = self.apply(layers.SpatialDropout3D, "dropout", x, rate=dropout)
            for index in range(1, count + 1):
                x = self.add_block(f"encoder_{level}_block_{index}", x)
            skips.append(x)
        return skips

    def decode(
        self, x: keras.KerasTensor, blocks: Sequence[int], skips: Sequence[keras.KerasTensor] = ()
    ) -> keras.KerasTensor:
        """Return features of the input's resolution; the VAE branch has no `skips`."""
        for level, count in zip(range(len(blocks), 0, -1), blocks, strict=True):
            x = self.convolve(f"decoder_{level}_conv", x, x.shape[-1] // 2, size=1)
            x = self.apply(TrilinearUpsampling, f"decoder_{level}_up", x)
            if skips:
                x = self.apply(layers.Add, f"decoder_{level}_skip", [x, skips[level - 1]])
            for index in range(1, count + 1):
                x = self.add_block(f"decoder_{level}_block_{index}", x)
        return x

    def score(self, x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
        """Return the logits."""
        x = self.normalise("final", x)
        return self.convolve("logits", x, classes, size=1, use_bias=True, dtype="float32")

    def estimate_latents(
        self, endpoint: keras.KerasTensor, latent: int
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return mean and deviation of the latent variables, each (batch, latent)."""
        x = self.normalise("vae_down_1", endpoint)
        x = self.convolve("vae_down_conv", x, VAE_CHANNELS, strides=2, use_bias=True)
        x = self.apply(layers.Flatten, "vae_flat", self.normalise("vae_down_2", x))
        dense = {"units": latent, "kernel_initializer": UNIFORM, "dtype": "float32"}
        mean = self.apply(layers.Dense, "vae_mean", x, **dense)
        return mean, self.apply(layers.Dense, "vae_deviation", x, activation="softplus", **dense)

    def reconstruct(
        self,
        latents: keras.KerasTensor,
        endpoint: keras.KerasTensor,
        blocks: Sequence[int],
        channels: int,
    ) -> keras.KerasTensor:
        """Return the input as the latent variables and the decoder without skips give it."""
        shape = self["vae_down_conv"].output.shape[1:]
        dense = {"units": prod(shape), "activation": "relu", "kernel_initializer": UNIFORM}
        x = self.apply(layers.Dense, "vae_up_dense", latents, **dense)
        x = self.apply(layers.Reshape, "vae_volume", x, target_shape=shape)
        x = self.convolve("vae_up_conv", x, endpoint.shape[-1], size=1)
        x = self.apply(TrilinearUpsampling, "vae_up", x)
        x = self.normalise("vae_final", self.decode(self.normalise("vae_up", x), blocks))
        end = {"use_bias": True, "dtype": "float32"}
        return self.convolve("vae_reconstruction", x, channels, 1, **end)


def _check_shape(
    shape: Sequence[int | None], factor: int, why: str, is_fixed: bool = False
) -> None:
    sizes = [factor if size is None and not is_fixed else size or 0 for size in shape]
    fits = len(sizes) == 3 and all(size >= factor and size % factor == 0 for size in sizes)
    require(fits, f"input_shape must be three multiples of {factor} ({why})", tuple(shape))
