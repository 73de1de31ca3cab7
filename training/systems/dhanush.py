"""Dhanush et al.: U-Net against SegNet, a network each for liver and tumor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from training.presets import assumed
from training.systems.base import OnePhaseSystem, of_preset, stated


@dataclass(frozen=True)
class Dhanush(OnePhaseSystem):
    """A network each for liver and tumor, on standardised slices, with a Dice loss.

    Assumed: each sees the whole slice, and a tumor counts inside the liver found alone.
    """

    SMALL: ClassVar[Mapping[str, Any]] = {"filters": 16, "epochs": 10, "batch_size": 2}

    document: str = "Dhanush et al."
    networks: tuple[str, ...] = assumed(
        ("liver", "tumor"), "the text says segmented livers here and lesions there"
    )
    input: str = stated("standardised", "3.2: zero mean and unit variance for every image")
    loss: str = assumed(
        "dice", "the abstract lists Dice loss among the measures and names no other loss"
    )
    optimizer: str = stated("sgd", "3.3: stochastic gradient descent, in the description of U-Net")
    learning_rate: float = assumed(0.01, "not given; usual with SGD and a Dice loss")
    momentum: float = assumed(0.9, "not given; usual with SGD")
    epochs: int = assumed(40, "not given; as Elmenabawy et al.")


@dataclass(frozen=True)
class UnetDhanush(Dhanush):
    """U-Net on standardised slices with a Dice loss, one network a target."""

    name: str = "unet_dhanush"
    architecture: str = "unet"
    dropout: float = assumed(0.0, "of the U-Net; not mentioned")
    poolings: int = of_preset("poolings")
    batch_normalization: bool = of_preset("batch_normalization")

    def list_rules(self) -> dict[str, bool]:
        """Return by field whether its value is one that training can use."""
        return {
            **super().list_rules(),
            "dropout": 0 <= self.dropout < 1,
            "poolings": self.poolings > 0,
        }

    def list_options(self, network: str) -> dict[str, Any]:
        """Return widths, dropout and normalisation of the U-Net."""
        return {
            "widths": [self.filters * 2**level for level in range(self.poolings + 1)],
            "dropout": self.dropout,
            "batch_normalization": self.batch_normalization,
        }


@dataclass(frozen=True)
class Segnet(Dhanush):
    """SegNet in the place of the U-Net."""

    name: str = "segnet"
    architecture: str = "segnet"
