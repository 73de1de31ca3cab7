"""Elmenabawy et al.: one-stage encoder-decoders, and their baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from training.presets import assumed
from training.systems.base import OnePhaseSystem, stated


@dataclass(frozen=True)
class Cdnn(OnePhaseSystem):
    """A convolutional-deconvolutional network over three classes."""

    DECISION: ClassVar[str] = "argmax"
    PRETRAINED: ClassVar[bool] = True
    SMALL: ClassVar[Mapping[str, Any]] = {
        "filters": 16,
        "epochs": 13,
        "batch_size": 4,
        "learning_rate": 0.01,
    }

    document: str = "Elmenabawy et al."
    networks: tuple[str, ...] = stated(
        ("classes",), "I: liver and tumor simultaneously, in one stage"
    )
    input: str = stated("equalised", "II.A: histogram equalization and median filter")
    loss: str = stated("cross_entropy", "III.B")
    optimizer: str = stated("sgd", "III.B")
    learning_rate: float = stated(1e-4, "III.B")
    momentum: float = stated(0.9, "III.B")
    epochs: int = stated(40, "III.B: at most")
    batch_size: int = assumed(
        8, "III.B says 1000, which no memory holds at 512 px; the rate stays the stated one"
    )
    smoothing_variance: float = stated(
        0.0, "I: no post-processing; else of a Gaussian over the probabilities, pixels"
    )

    def list_rules(self) -> dict[str, bool]:
        """Return by field whether its value is one that training can use."""
        return {
            **super().list_rules(),
            "smoothing_variance": 0 <= self.smoothing_variance < math.inf,
        }


@dataclass(frozen=True)
class CdnnAlexnet(Cdnn):
    """CDNN-Alex: AlexNet, fully convolutional, one transposed convolution by 8."""

    name: str = "cdnn_alexnet"
    architecture: str = "alexnet"
    upsampling: str = assumed(
        "dilated", "II.B upsamples by 8, which a stride of 32 does not allow; models/alexnet.py"
    )
    variant: str = assumed(
        "krizhevsky", "II.B: 62.4 million parameters; torchvision fits the published weights"
    )
    dropout: float = assumed(0.5, "not mentioned; after FC6 and FC7 as in the original AlexNet")

    def list_rules(self) -> dict[str, bool]:
        """Return by field whether its value is one that `models.alexnet` takes."""
        return {
            **super().list_rules(),
            "upsampling": self.upsampling in ("dilated", "stride_32", "skips"),
            "variant": self.variant in ("krizhevsky", "torchvision"),
            "dropout": 0 <= self.dropout < 1,
        }

    def list_options(self, network: str) -> dict[str, Any]:
        """Return the widths as a share of AlexNet's own, and its variants."""
        return {
            "width": self.filters / 64,
            "upsampling": self.upsampling,
            "variant": self.variant,
            "dropout": self.dropout,
        }


@dataclass(frozen=True)
class CdnnAlexnetPlain(CdnnAlexnet):
    """CDNN-Alex without preprocessing."""

    name: str = "cdnn_alexnet_plain"
    input: str = stated("windowed", "Table 1: without preprocessing")


@dataclass(frozen=True)
class CdnnResnet18(Cdnn):
    """The encoder-decoder on ResNet18."""

    name: str = "cdnn_resnet18"
    architecture: str = "resnet18"


@dataclass(frozen=True)
class CdnnResnet18Plain(CdnnResnet18):
    """The encoder-decoder on ResNet18 without preprocessing."""

    name: str = "cdnn_resnet18_plain"
    input: str = stated("windowed", "Table 1: without preprocessing")


@dataclass(frozen=True)
class Korabelnikov(CdnnAlexnet):
    """Elmenabawy et al.'s baseline: AlexNet, a range of HU, smoothing."""

    name: str = "korabelnikov"
    input: str = stated("windowed", "I: a Hounsfield range as pre-processing")
    window_hu: tuple[float, float] = stated(
        (-2000.0, 2000.0), "I: a Hounsfield range; a store holds [-1024, 3071] of it"
    )
    smoothing_variance: float = stated(
        0.25, "III.E: variance; that it smooths the probabilities, in pixels, is assumed"
    )
