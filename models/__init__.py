"""Networks as Keras functional graphs, and how their outputs become labels.

In the order in which data flows:

checks.py          refuses arguments out of their range
imagenet.py        one grey slice becomes what ImageNet's weights expect (alexnet, resnet18)
unet.py            Gruber et al., the paper: one-step network and both of the sequential model
alexnet.py         Elmenabawy et al.: CDNN-AlexNet
resnet18.py        Elmenabawy et al.: CDNN-ResNet18
segnet.py          Dhanush et al.: SegNet, whose pooling keeps its indices (unpooling.py)
segresnet_vae.py   global and local pipeline: 3D, with a variational autoencoder in training
head.py            ends every network: logits become probabilities, or are read by a loss
cascade.py         nests the two networks of the sequential model for the joint loss
inference.py       probabilities of many slices, in batches
sliding_window.py  probabilities of a volume, window by window
sequential.py      probabilities become masks and labels

`build` is the one door to an architecture, `register_architecture` adds one. Importing this package
imports neither Keras nor an architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

__all__ = ["ARCHITECTURES", "build", "register_architecture"]

Builder = Callable[..., "keras.Model"]
"""Called as (size, channels, classes, **options); ends the graph as `models.head` does."""

ARCHITECTURES: dict[str, Builder | tuple[str, str]] = {
    name: (f"models.{name}", f"build_{name}")
    for name in ("unet", "alexnet", "resnet18", "segnet", "segresnet_vae")
}
"""Builders by name; a pair (module, function) is imported when it is first built."""


def register_architecture(name: str, builder: Builder | tuple[str, str]) -> None:
    """Add an architecture to `ARCHITECTURES`.

    `builder` is (size, channels, classes, **options) -> model, or (module, function) of it.

    Raises:
        ValueError: the name is taken.
    """
    if name in ARCHITECTURES:
        raise ValueError(f"`name` must be new. Received: {name!r}")
    ARCHITECTURES[name] = builder


def build(
    architecture: str,
    size: int | Sequence[int] | None,
    classes: int = 1,
    channels: int = 1,
    **options: Any,
) -> keras.Model:
    """Build a network whose last layers are `logits` and `probability`.

    Args:
        architecture: a name of `ARCHITECTURES`.
        size: rows and columns of the slice, None for any; in 3D (depth, rows, columns).
        classes: 1 gives a sigmoid, more a softmax.
        channels: of the input.
        options: of the architecture's builder, `name` of the model among them.

    Returns:
        A model from (batch, rows, columns, channels) to (batch, rows, columns, classes), float32,
        in 3D with depth.

    Raises:
        ValueError: no such architecture, or an argument out of its range.

    Example:
        >>> build("unet", 32, classes=3, widths=(4, 8)).output_shape
        (None, 32, 32, 3)
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"architecture must be one of {known}, got {architecture!r}")
    builder = ARCHITECTURES[architecture]
    if isinstance(builder, tuple):
        module, function = builder
        builder = getattr(import_module(module), function)
    return builder(size, channels, classes, **options)
