"""Presets: every hyperparameter once, as the paper states it or as assumed.

    python -m training.presets [NAME] [--field FIELD]

lists them with their sources, or prints one value, which is how `reproduce.sh` reads them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from data.command import InputError, Parser, run_command

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16")
JOINT_MASKS = ("probability", "hard", "straight_through")
"""What stands for the liver mask in joint training, as `models.cascade.MASKS`."""


def stated(value: Any, where: str) -> Any:
    """Make a field of a value that the paper states, with the section."""
    return field(default=value, metadata={"source": f"paper {where}"})


def assumed(value: Any, why: str) -> Any:
    """Make a field of a value that the text does not settle, with the reason."""
    return field(default=value, metadata={"source": f"assumed: {why}"})


@dataclass(frozen=True)
class Preset:
    """The paper's recipe (`paper`): 512 px, 64 filters, all epochs that it states.

    These are 50 + 30, 300 + 30 and 600 + 30 epochs. Reproduces Table 1 and all figures: `bash
    reproduce.sh --preset paper --data LITS --external DIR`. Time: the paper says about 70 s per
    epoch of 765 slices on its GPU, so about 25 h for 1,280 epochs of one network, trial, sweep and
    joint training (two networks at once) included. Hardware: one GPU with 16 GiB. Expected numbers:
    not measured here (no GPU).
    """

    name: str = "paper"
    size: int = assumed(512, "3.1: the number is lost; LiTS slices are 512 x 512")
    subset: tuple[int, int, int] | None = stated(
        (765, 50, 50), "3.1: slices for training, validation, test"
    )
    filters: int = assumed(64, "Ronneberger's widths, doubled at each level")
    poolings: int = assumed(4, "Ronneberger's depth")
    dropout: float = assumed(0.5, "2.4 states dropout in the upsampling path, its rate is lost")
    batch_normalization: bool = assumed(False, "2.2 mentions none")
    loss: str = stated("cross_entropy", "2.4: balanced by class weights in the second optimisation")
    momentum: float = assumed(0.99, "2.4 states SGD with momentum; 0.99 is the U-Net paper's value")
    batch_size: int = assumed(1, "the U-Net paper's value; converges in few epochs at 0.001")
    learning_rate_ce: float = stated(0.001, "2.4: both U-Nets, cross-entropy")
    learning_rate_balanced: float = stated(0.0001, "2.4: reduced for the second optimisation")
    one_step_epochs: tuple[int, int] = stated((50, 30), "2.4: cross-entropy, then balanced")
    liver_epochs: tuple[int, int] = assumed(
        (300, 30), "2.4 states 300; the balanced phase as in one-step"
    )
    tumor_epochs: tuple[int, int] = assumed(
        (600, 30), "2.4 states 600; the balanced phase as in one-step"
    )
    joint_start: str = assumed(
        "scratch", "2.1 names no other start; pair: the trained sequential pair"
    )
    joint_epochs: tuple[int, int] = assumed(
        (50, 30), "the paper leaves the joint loss as future work; as in one-step"
    )
    joint_alpha: float = assumed(1.0, "2.1: the weights' values are not given")
    joint_beta: float = assumed(1.0, "2.1: the weights' values are not given")
    joint_mask: str = assumed(
        "probability", "the hard mask has no gradient; or hard, straight_through"
    )
    joint_sweep_ratios: tuple[float, ...] = assumed(
        (0.1, 0.316, 1.0, 3.16, 10.0), "beta / alpha, over two decades"
    )
    joint_sweep_epochs: tuple[int, int] = assumed((10, 50), "from the pair, from scratch")
    augment: bool = assumed(False, "the paper mentions none; True: data.augment")
    liver_window_hu: tuple[float, float] = assumed(
        (-100.0, 400.0), "3.1: 'intensity values between' is cut off"
    )
    tumor_window_hu: tuple[float, float] = assumed(
        (0.0, 200.0), "2.3 windows pointwise; a liver window"
    )
    tumor_scaling: str = assumed(
        "choose", "the scaling is lost: window or liver_median, by validation IoU"
    )
    trial_epochs: int = assumed(10, "epochs each scaling gets before the choice")
    mask_threshold_rule: str = assumed("roc", "3.2.1 finds thresholds by ROC analysis; s1 likewise")
    balanced_ratio: float | None = assumed(
        None, "None: inverse class frequency; a number: tumor to rest, network T"
    )
    sweep_weights: int = assumed(
        6, "class weights from 1 to the inverse frequency, evenly in the logarithm"
    )
    sweep_epochs: int = assumed(10, "epochs of each weight, from the cross-entropy weights")
    precision: str = assumed("float32", "the paper mentions none")
    phantom_cases: tuple[int, int] = assumed(
        (40, 10), "cases of the synthetic cohorts, main and external"
    )

    def __post_init__(self) -> None:
        """Raise a ValueError for a value that no training can use, with its field."""
        rules = {
            "size": self.size > 0,
            "filters": self.filters > 0,
            "poolings": self.poolings > 0,
            "dropout": 0 <= self.dropout < 1,
            "momentum": 0 <= self.momentum < 1,
            "batch_size": self.batch_size > 0,
            "learning_rate_ce": self.learning_rate_ce > 0,
            "learning_rate_balanced": self.learning_rate_balanced > 0,
            "liver_window_hu": len(self.liver_window_hu) == 2
            and self.liver_window_hu[0] < self.liver_window_hu[1],
            "tumor_window_hu": len(self.tumor_window_hu) == 2
            and self.tumor_window_hu[0] < self.tumor_window_hu[1],
            "tumor_scaling": self.tumor_scaling in ("choose", "window", "liver_median"),
            "trial_epochs": self.trial_epochs > 0,
            "mask_threshold_rule": bool(self.mask_threshold_rule),
            "balanced_ratio": self.balanced_ratio is None
            or (isinstance(self.balanced_ratio, int | float) and self.balanced_ratio > 0),
            "joint_start": self.joint_start in ("scratch", "pair"),
            "joint_alpha": self.joint_alpha >= 0,
            "joint_beta": self.joint_beta >= 0 and self.joint_alpha + self.joint_beta > 0,
            "joint_mask": self.joint_mask in JOINT_MASKS,
            "joint_sweep_ratios": min(self.joint_sweep_ratios, default=0) > 0,
            "joint_sweep_epochs": len(self.joint_sweep_epochs) == 2
            and min(self.joint_sweep_epochs) > 0,
            "sweep_weights": self.sweep_weights > 1,
            "sweep_epochs": self.sweep_epochs > 0,
            "precision": self.precision in PRECISIONS,
        }
        # Every network has two phases (paper 2.4), so two numbers of epochs.
        for network in ("one_step", "liver", "tumor", "joint"):
            epochs = getattr(self, f"{network}_epochs")
            rules[f"{network}_epochs"] = len(epochs) == 2 and min(epochs) > 0
        for name, holds in rules.items():
            if not holds:
                raise ValueError(f"{name} is out of its range: {getattr(self, name)!r}")


@dataclass(frozen=True)
class PaperShort(Preset):
    """The paper's recipe with its other reading of the epochs: always 50 + 30.

    Command: `bash reproduce.sh --preset paper-short --data LITS --external DIR`. Time: 480 epochs
    of one network, trial, sweep and joint training included, about 9 h at the paper's 70 s.
    Hardware: one GPU with 16 GiB. Expected numbers: not measured here.
    """

    name: str = "paper-short"
    liver_epochs: tuple[int, int] = assumed(
        (50, 30), "2.4 states it for one-step; here for every network"
    )
    tumor_epochs: tuple[int, int] = assumed(
        (50, 30), "2.4 states it for one-step; here for every network"
    )


@dataclass(frozen=True)
class Demo(Preset):
    """The whole paper in small on the phantom: 128 px, 16 filters. Synthetic results.

    Command: `bash reproduce.sh --preset demo`. Time: about 25 minutes on 2 CPU cores. Expected
    numbers: README, "Results on the phantom".
    """

    name: str = "demo"
    size: int = assumed(128, "small enough for 2 CPU cores")
    subset: tuple[int, int, int] | None = assumed((320, 60, 60), "small enough for 2 CPU cores")
    filters: int = assumed(16, "small enough for 2 CPU cores")
    dropout: float = assumed(
        0.2, "few filters learn slowly with 0.5: one-step tumor IoU 0.19 against 0.12 (validation)"
    )
    batch_size: int = assumed(2, "1.6 times faster than 1 on 2 CPU cores, converges as well")
    one_step_epochs: tuple[int, int] = assumed((13, 2), "minutes on 2 CPU cores")
    liver_epochs: tuple[int, int] = assumed((10, 2), "minutes on 2 CPU cores")
    tumor_epochs: tuple[int, int] = assumed((13, 2), "minutes on 2 CPU cores")
    joint_start: str = assumed(
        "pair", "minutes on 2 CPU cores; README, Joint loss, compares both starts"
    )
    joint_epochs: tuple[int, int] = assumed((3, 1), "minutes on 2 CPU cores")
    joint_sweep_epochs: tuple[int, int] = assumed(
        (3, 12), "12 of both networks are as many steps as the pair's 10 + 13"
    )
    trial_epochs: int = assumed(2, "minutes on 2 CPU cores")
    sweep_weights: int = assumed(5, "minutes on 2 CPU cores")
    sweep_epochs: int = assumed(1, "minutes on 2 CPU cores")
    precision: str = assumed(
        "mixed_bfloat16", "1.2 to 2.9 times faster on CPUs with AMX or AVX512_BF16"
    )
    phantom_cases: tuple[int, int] = assumed((30, 6), "seconds a case at 128 px")


@dataclass(frozen=True)
class Mini(Demo):
    """Real CT in an hour: 18 LiTS volumes at 128 px, 16 filters.

    The preset of the README's table. Command: README, "Results on real CT". Time: about 60 minutes
    on 2 CPU cores. Expected numbers: there.
    """

    name: str = "mini"
    subset: tuple[int, int, int] | None = assumed(None, "every slice that holds liver")
    dropout: float = assumed(
        0.2,
        "three validation patients, 10 epochs: liver IoU 0.853, with 0.5 it is 0.778 (rule 0.5)",
    )
    liver_window_hu: tuple[float, float] = assumed(
        (-40.0, 160.0), "these slices were stored in this window"
    )
    one_step_epochs: tuple[int, int] = assumed((28, 4), "an hour on 2 CPU cores in all")
    liver_epochs: tuple[int, int] = assumed((26, 3), "an hour on 2 CPU cores in all")
    tumor_epochs: tuple[int, int] = assumed((22, 3), "an hour on 2 CPU cores in all")
    trial_epochs: int = assumed(4, "long enough for the scalings to part")
    sweep_epochs: int = assumed(2, "an hour on 2 CPU cores in all")


@dataclass(frozen=True)
class MiniAugmented(Mini):
    """`mini` with augmented training slices and more epochs for the liver.

    The paper does not mention augmentation. Command: README, "Results on real CT". Time: about 80
    minutes on 2 CPU cores. Expected numbers: test liver IoU 0.88 to 0.90 after cross-entropy, tumor
    IoU 0.61 (sequential) and 0.31 (one-step) at rule roc.
    """

    name: str = "mini-augmented"
    augment: bool = assumed(
        True, "the training volumes differ in field of view by 1.6, in liver HU by 50"
    )
    liver_epochs: tuple[int, int] = assumed(
        (34, 3), "augmented slices are learnt more slowly; an hour in all"
    )
    trial_epochs: int = assumed(3, "an hour on 2 CPU cores in all")
    sweep_epochs: int = assumed(1, "an hour on 2 CPU cores in all")


@dataclass(frozen=True)
class MiniShort(Mini):
    """`mini` with the slices and epochs of `demo`, for what is trained many times.

    That is the joint sweep, other systems, seeds. Command: README, "Joint loss". Time: about 25
    minutes on 2 CPU cores, an hour more with the joint sweep. Expected numbers: there.
    """

    name: str = "mini-short"
    subset: tuple[int, int, int] | None = assumed(
        (320, 80, 338), "training as in demo; all test slices of volumes 11, 16, 18, 48, 50"
    )
    one_step_epochs: tuple[int, int] = assumed((13, 2), "as in demo")
    liver_epochs: tuple[int, int] = assumed((10, 2), "as in demo")
    tumor_epochs: tuple[int, int] = assumed((13, 2), "as in demo")
    trial_epochs: int = assumed(2, "as in demo")
    sweep_epochs: int = assumed(1, "as in demo")


@dataclass(frozen=True)
class Smoke(Demo):
    """Every row, table and figure in about 3 minutes on 2 CPU cores.

    64 px, 8 filters, few steps. Command: `bash reproduce.sh --preset smoke`. It shows that
    everything runs; its scores mean nothing.
    """

    name: str = "smoke"
    size: int = assumed(64, "seconds on 2 CPU cores")
    subset: tuple[int, int, int] | None = assumed((96, 24, 24), "seconds on 2 CPU cores")
    filters: int = assumed(8, "seconds on 2 CPU cores")
    poolings: int = assumed(3, "seconds on 2 CPU cores")
    momentum: float = assumed(0.9, "with 0.99 so few steps overshoot to background everywhere")
    learning_rate_ce: float = assumed(0.03, "some hundred steps must lead away from the background")
    one_step_epochs: tuple[int, int] = assumed((6, 1), "seconds on 2 CPU cores")
    liver_epochs: tuple[int, int] = assumed((4, 1), "seconds on 2 CPU cores")
    tumor_epochs: tuple[int, int] = assumed((5, 1), "seconds on 2 CPU cores")
    joint_epochs: tuple[int, int] = assumed((1, 1), "seconds on 2 CPU cores")
    joint_sweep_epochs: tuple[int, int] = assumed((1, 1), "seconds on 2 CPU cores")
    trial_epochs: int = assumed(2, "seconds on 2 CPU cores")
    sweep_epochs: int = assumed(1, "seconds on 2 CPU cores")
    precision: str = assumed("float32", "as fast where the networks are so small")
    phantom_cases: tuple[int, int] = assumed((10, 2), "seconds on 2 CPU cores")


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (Preset(), PaperShort(), Demo(), Mini(), MiniAugmented(), MiniShort(), Smoke())
}


def find_preset(name: str) -> Preset:
    """Return the preset of that name; an unknown one raises an InputError."""
    if name not in PRESETS:
        raise InputError(f"--preset {name}: unknown preset; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def list_settings(preset: Preset) -> dict[str, Any]:
    """Return every field of the preset with its value, ready for JSON."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(preset).items()
    }


def describe(preset: Preset) -> str:
    """Return the preset as text: a line per field with its value and source."""
    lines = [" ".join((type(preset).__doc__ or "").split())]
    for entry in fields(preset)[1:]:
        lines.append(
            f"  {entry.name} = {getattr(preset, entry.name)}    [{entry.metadata['source']}]"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Print one preset, one field of it, or all presets."""
    parser = Parser(
        prog="training.presets",
        description="List the presets with the source of every value.",
        example="python -m training.presets demo",
    )
    parser.add_argument("name", nargs="?", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument(
        "--field",
        nargs="+",
        metavar="NAME",
        help="print only these fields, a line each; a tuple as numbers separated by commas",
    )
    flags = parser.parse_args(arguments)
    presets = [find_preset(flags.name)] if flags.name else list(PRESETS.values())
    if flags.field is None:
        print("\n\n".join(f"{preset.name}: {describe(preset)}" for preset in presets))
        return
    if unknown := set(flags.field) - {entry.name for entry in fields(Preset)}:
        raise InputError(f"--field {min(unknown)}: a preset has no such field")
    for name in flags.field:
        value = getattr(presets[0], name)
        value = "" if value is None else value
        print(",".join(map(str, value)) if isinstance(value, tuple) else value)


if __name__ == "__main__":
    run_command(main, "training.presets")
