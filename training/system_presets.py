"""The systems of the other source documents, as presets: every value once, with what the document states.

`python -m training.system_presets [NAME] [--preset PRESET]` lists them. A document's own values are the default;
`in_small` replaces what no small machine can do (filters, epochs, rates of few steps) under the presets `demo`, `mini*`
and `smoke`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

from data.command import InputError, Parser, run_command
from training.presets import Demo, Preset, Smoke, assumed, preset_named

ELMENABAWY, DHANUSH, PIPELINE = "Elmenabawy et al.", "Dhanush et al.", "global and local pipeline"


def said(value: Any, where: str) -> Any:
    """A value that a source document states, with the section, table or figure."""
    return field(default=value, metadata={"source": where})


def reported(value: Any, what: str) -> Any:
    """A value that the text at hand of the pipeline lacks, and a summary of its figures and code gives."""
    return field(
        default=value,
        metadata={"source": f"reported of its figures and code, not in its text: {what}"},
    )


@dataclass(frozen=True)
class System:
    """What every system has.

    Attributes:
        name: of `--name`.
        document: where it is described.
        architecture: of `training.system_networks`.
        targets: of its networks: one of three "classes", or "liver" and "tumor".
    """

    LOSSES: ClassVar[tuple[str, ...]] = ("cross_entropy",)
    """The losses that its networks can be trained with."""

    name: str = ""
    document: str = ""
    architecture: str = ""
    targets: tuple[str, ...] = ("classes",)
    window_hu: tuple[float, float] | None = assumed(
        None, "no window is named; None: the preset's for the liver"
    )
    loss: str = assumed("cross_entropy", "not named")
    optimizer: str = assumed("sgd", "not named; or adam")
    learning_rate: float = assumed(1e-4, "not given")
    momentum: float = assumed(0.9, "not given; adam takes none")
    epochs: int = assumed(40, "not given")
    batch_size: int = assumed(8, "not given")
    precision: str | None = assumed(None, "not given; None: the preset's")
    filters: int = assumed(
        64, "the architecture's own widths, of which 64 is the first or, of AlexNet, stands for all"
    )

    def __post_init__(self) -> None:
        """Refuse values that no training can use.

        Raises:
            ValueError: names the field, the rule and the value.
        """
        rules = {
            "window_hu": self.window_hu is None or _is_window(self.window_hu),
            "loss": self.loss in self.LOSSES,
            "optimizer": self.optimizer in ("sgd", "adam"),
            "learning_rate": self.learning_rate > 0 and math.isfinite(self.learning_rate),
            "momentum": 0 <= self.momentum < 1,
            "epochs": self.epochs > 0,
            "batch_size": self.batch_size > 0,
            "filters": self.filters > 0,
            "precision": self.precision in (None, "float32", "mixed_bfloat16", "mixed_float16"),
        }
        for name, holds in {**rules, **self.further_rules()}.items():
            if not holds:
                raise ValueError(f"{name} is out of its range: {getattr(self, name)!r}")

    def further_rules(self) -> dict[str, bool]:
        """Return which of the fields of a kind of system hold what they may."""
        return {}

    def epochs_of(self, target: str) -> int:
        """Return for how many epochs the network of a target trains."""
        return self.epochs


@dataclass(frozen=True)
class SliceSystem(System):
    """A system whose networks see single slices."""

    input: str = assumed("windowed", "one of data.enhance.INPUTS")

    def further_rules(self) -> dict[str, bool]:
        """An input that `data.enhance` knows."""
        return {"input": self.input in ("windowed", "equalised", "standardised")}


@dataclass(frozen=True)
class Cdnn(SliceSystem):
    """A convolutional-deconvolutional network over three classes, after Elmenabawy et al."""

    document: str = ELMENABAWY
    targets: tuple[str, ...] = said(("classes",), "I: liver and tumor simultaneously, in one stage")
    input: str = said("equalised", "II.A: histogram equalization and median filter")
    loss: str = said("cross_entropy", "III.B")
    optimizer: str = said("sgd", "III.B")
    learning_rate: float = said(1e-4, "III.B")
    momentum: float = said(0.9, "III.B")
    epochs: int = said(40, "III.B: at most")
    batch_size: int = assumed(
        8, "III.B says 1000, which no memory holds at 512 px; the rate stays the stated one"
    )
    smoothing_variance: float = said(
        0.0, "I: no post-processing; else of a Gaussian over the probabilities, pixels"
    )

    def further_rules(self) -> dict[str, bool]:
        """A variance, too."""
        return {
            **super().further_rules(),
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

    def further_rules(self) -> dict[str, bool]:
        """`models.alexnet` says what they mean."""
        return {
            **super().further_rules(),
            "upsampling": self.upsampling in ("dilated", "stride_32", "skips"),
            "variant": self.variant in ("krizhevsky", "torchvision"),
            "dropout": 0 <= self.dropout < 1,
        }


@dataclass(frozen=True)
class CdnnAlexnetPlain(CdnnAlexnet):
    """CDNN-Alex without preprocessing."""

    name: str = "cdnn_alexnet_plain"
    input: str = said("windowed", "Table 1: without preprocessing")


@dataclass(frozen=True)
class CdnnResnet18(Cdnn):
    """The encoder-decoder on ResNet18."""

    name: str = "cdnn_resnet18"
    architecture: str = "resnet18"


@dataclass(frozen=True)
class CdnnResnet18Plain(CdnnResnet18):
    """The encoder-decoder on ResNet18 without preprocessing."""

    name: str = "cdnn_resnet18_plain"
    input: str = said("windowed", "Table 1: without preprocessing")


@dataclass(frozen=True)
class Korabelnikov(CdnnAlexnet):
    """Elmenabawy et al.'s baseline: the same AlexNet, a range of HU, Gaussian smoothing after it."""

    name: str = "korabelnikov"
    input: str = said("windowed", "I: a Hounsfield range as pre-processing")
    window_hu: tuple[float, float] | None = said(
        (-2000.0, 2000.0), "I: a Hounsfield range; a store holds [-1024, 3071] of it"
    )
    smoothing_variance: float = said(
        0.25, "III.E: variance; that it smooths the probabilities, in pixels, is assumed"
    )


@dataclass(frozen=True)
class Dhanush(SliceSystem):
    """A network each for liver and tumor, on standardised slices, with a Dice loss, after Dhanush et al.

    Assumed: each sees the whole slice, and a tumor counts inside the liver found alone.
    """

    LOSSES: ClassVar[tuple[str, ...]] = ("dice", "cross_entropy")

    document: str = DHANUSH
    targets: tuple[str, ...] = assumed(
        ("liver", "tumor"), "the text says segmented livers here and lesions there"
    )
    input: str = said("standardised", "3.2: zero mean and unit variance for every image")
    loss: str = assumed(
        "dice", "the abstract lists Dice loss among the measures and names no other loss"
    )
    optimizer: str = said("sgd", "3.3: stochastic gradient descent, in the description of U-Net")
    learning_rate: float = assumed(0.01, "not given; usual with SGD and a Dice loss")
    momentum: float = assumed(0.9, "not given; usual with SGD")
    epochs: int = assumed(40, "not given; as Elmenabawy et al.")


@dataclass(frozen=True)
class UnetDhanush(Dhanush):
    """U-Net on standardised slices with a Dice loss, a network each for liver and tumor."""

    name: str = "unet_dhanush"
    architecture: str = "unet"
    dropout: float = assumed(0.0, "of the U-Net; not mentioned")

    def further_rules(self) -> dict[str, bool]:
        """A rate, too."""
        return {**super().further_rules(), "dropout": 0 <= self.dropout < 1}


@dataclass(frozen=True)
class Segnet(Dhanush):
    """SegNet in the place of the U-Net."""

    name: str = "segnet"
    architecture: str = "segnet"


@dataclass(frozen=True)
class GlobalLocal(System):
    """The global and local pipeline in 3D: SegResNetVAE for the liver, then for the tumor in the liver's box.

    Assumed: the tumor's network trains, and keeps its best epoch, in the reference liver, since each network trains by
    itself; at prediction it sees the liver that the first one found.
    """

    LOSSES: ClassVar[tuple[str, ...]] = ("dice_focal",)

    name: str = "global_local"
    document: str = PIPELINE
    architecture: str = "segresnet_vae"
    targets: tuple[str, ...] = said(
        ("liver", "tumor"), "text: global-view liver model, then local-view tumor model"
    )
    window_hu: tuple[float, float] | None = reported((-150.0, 250.0), "window of the liver model")
    tumor_window_hu: tuple[float, float] = reported((-200.0, 250.0), "window of the tumor model")
    loss: str = reported("dice_focal", "Dice and focal loss, gamma 2")
    optimizer: str = reported("adam", "the optimizer")
    learning_rate: float = assumed(1e-4, "not given; as in the paper of SegResNetVAE")
    epochs: int = assumed(300, "not given; as in the paper of SegResNetVAE")
    tumor_epochs: int | None = assumed(
        None, "of the tumor network; not given; None: as many as of the liver's"
    )
    batch_size: int = assumed(1, "not given; as in the paper of SegResNetVAE")
    precision: str | None = assumed(
        "float32", "in bfloat16 TensorFlow 2.21 gave 3D convolutions gradients of NaN, CPU"
    )
    filters: int = reported(16, "initial filters of SegResNetVAE")
    dropout: float = reported(0.2, "dropout of SegResNetVAE")
    latent: int = reported(256, "latent variables of the VAE branch")
    vae_weight: float = assumed(
        0.0, "the reported code discards the branch's output; 0.1 uses it, as its paper does"
    )
    weak_label: str = said(
        "clinical", "text: an indicator of tumor severity from clinical data; none: no penalty"
    )
    ratio_weight: float = reported(0.5, "lambda of the penalty on the tumor-to-liver ratio")
    depth: int = assumed(32, "slices of a crop; not given, a multiple of 16")
    local_share: float = assumed(
        0.5, "rows and columns of a local crop, as a share of the slice's; not given"
    )
    crops_per_case: int = assumed(4, "crops of each case in an epoch; not given")
    tumor_share: float = assumed(
        0.5, "of the local crops, drawn around a tumor voxel; not given, as is common"
    )
    overlap: float = assumed(0.5, "of the windows at prediction, blended by a Gaussian; not given")
    postprocess: tuple[str, ...] = reported(
        ("largest_liver", "fill_holes", "inside_liver", "tumor_contour"),
        "in this order; the text names the contour",
    )

    def further_rules(self) -> dict[str, bool]:
        """A depth that network and VAE branch can halve four times, weights of at least 0."""
        return {
            "tumor_window_hu": _is_window(self.tumor_window_hu),
            "dropout": 0 <= self.dropout < 1,
            "latent": self.latent > 0,
            "tumor_epochs": self.tumor_epochs is None
            or (isinstance(self.tumor_epochs, int) and self.tumor_epochs > 0),
            "vae_weight": 0 <= self.vae_weight < math.inf,
            "weak_label": self.weak_label in ("clinical", "none"),
            "ratio_weight": 0 <= self.ratio_weight < math.inf,
            "depth": self.depth > 0 and self.depth % 16 == 0,
            "local_share": 0 < self.local_share <= 1,
            "crops_per_case": self.crops_per_case > 0,
            "tumor_share": 0 <= self.tumor_share <= 1,
            "overlap": 0 <= self.overlap < 1,
            "postprocess": set(self.postprocess)
            <= {"largest_liver", "fill_holes", "inside_liver", "tumor_contour"},
        }

    def epochs_of(self, target: str) -> int:
        """Return `tumor_epochs` for the tumor, where it is given."""
        return self.epochs if target == "liver" or self.tumor_epochs is None else self.tumor_epochs


def _is_window(value: Any) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return (
        all(isinstance(one, int | float) and math.isfinite(one) for one in value)
        and value[0] < value[1]
    )


SYSTEMS: dict[str, System] = {
    kind.name: kind()
    for kind in (
        CdnnAlexnet,
        CdnnAlexnetPlain,
        CdnnResnet18,
        CdnnResnet18Plain,
        Korabelnikov,
        UnetDhanush,
        Segnet,
        GlobalLocal,
    )
}

VARIANTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "cdnn_alexnet_skips": ("cdnn_alexnet", ("upsampling=skips",)),
    "cdnn_alexnet_stride_32": ("cdnn_alexnet", ("upsampling=stride_32",)),
    "global_local_vae": ("global_local", ("vae_weight=0.1",)),
    "global_local_no_weak_label": ("global_local", ("weak_label=none",)),
    "global_local_vae_no_weak_label": ("global_local", ("vae_weight=0.1", "weak_label=none")),
}
"""Options of the systems that are measured beside them: label, and the system with its changes."""

SMALL: Mapping[str, Mapping[str, Any]] = {
    "alexnet": {"filters": 16, "epochs": 13, "batch_size": 4, "learning_rate": 0.01},
    "resnet18": {"filters": 16, "epochs": 13, "batch_size": 4, "learning_rate": 0.01},
    "unet": {"filters": 16, "epochs": 10, "batch_size": 2},
    "segnet": {"filters": 16, "epochs": 10, "batch_size": 2},
    "segresnet_vae": {
        "filters": 8,
        "latent": 64,
        "depth": 16,
        "epochs": 30,
        "tumor_epochs": 60,
        "batch_size": 1,
        "crops_per_case": 2,
        "learning_rate": 1e-3,
    },
}
"""By architecture, what `demo` and the presets on real slices at 128 px take instead: 2 CPU cores, few steps."""

SMOKE: Mapping[str, Any] = {
    "filters": 8,
    "epochs": 1,
    "tumor_epochs": 1,
    "latent": 16,
    "crops_per_case": 1,
}
"""What `smoke` takes on top of that, where a system has the field."""


def system_named(name: str) -> tuple[System, tuple[str, ...]]:
    """Return the preset of a system, or of a variant, with the changes that make the variant.

    Raises:
        InputError: there is none.
    """
    known, changes = VARIANTS.get(name, (name, ()))
    if known not in SYSTEMS:
        raise InputError(
            f"--name {name}: unknown system; there are {', '.join([*SYSTEMS, *VARIANTS])}"
        )
    return SYSTEMS[known], changes


def in_small(system: System, preset: Preset) -> System:
    """Return the system as it is trained under a preset: as documented, or with what `SMALL` and `SMOKE` replace."""
    if not isinstance(preset, Demo):
        return system
    changes = {**SMALL[system.architecture], **(SMOKE if isinstance(preset, Smoke) else {})}
    known = {entry.name for entry in fields(system)}
    return replace(system, **{key: value for key, value in changes.items() if key in known})


def settings_of(system: System) -> dict[str, Any]:
    """Return every field with its value, ready for JSON."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(system).items()
    }


def describe(documented: System, preset: Preset) -> str:
    """Return a system as text: a line per field with its value under a preset, and its source."""
    system = in_small(documented, preset)
    lines = [f"{system.name}: {' '.join((type(system).__doc__ or '').split())} ({system.document})"]
    for entry in fields(system):
        if "source" in entry.metadata:
            value, stated = getattr(system, entry.name), getattr(documented, entry.name)
            small = (
                ""
                if value == stated
                else f"under {preset.name}, where steps are few and cores two; documented {stated}: "
            )
            lines.append(f"  {entry.name} = {value}    [{small}{entry.metadata['source']}]")
    return "\n".join(lines)


def main() -> None:
    """Print every system, or one."""
    parser = Parser(
        prog="training.system_presets",
        description="The other systems with the source of every value.",
    )
    parser.add_argument("name", nargs="?", help=f"one of {', '.join([*SYSTEMS, *VARIANTS])}")
    parser.add_argument(
        "--preset", default="paper", help="as trained under this preset of training.presets"
    )
    flags = parser.parse_args()
    preset = preset_named(flags.preset)
    if flags.name:
        system, changes = system_named(flags.name)
        print(describe(system, preset) + (f"\nchanged: {', '.join(changes)}" if changes else ""))
        return
    print("\n\n".join(describe(system, preset) for system in SYSTEMS.values()))
    print(
        "\nVariants: "
        + "; ".join(f"{label}: {name} with {', '.join(c)}" for label, (name, c) in VARIANTS.items())
    )


if __name__ == "__main__":
    run_command(main, "training.system_presets")
