"""Sweep the joint loss: the ratio beta / alpha, from fresh weights and from a sequential pair.

    python -m training.joint_sweep --store DIR --run DIR [--preset NAME] [--seed N]

Trains the sequential pair of the run with cross-entropy, where it is not there yet, then the nested network once for
every ratio and start (cross-entropy; the preset's `joint_sweep_epochs`). alpha + beta is 2 throughout (assumed), so
that a ratio moves the weight between the terms and not the size of the step. Each point from the pair has a control:
the same ratio with the hard mask. Nothing passes from T to L there: it is the pair trained for longer, each network at
its term's weight, but for three things that it shares with the other points (the mask comes from L as it learns,
dropout included; the second input is scaled by the median of the reference liver; one epoch is kept for both networks).
What a point has more than its control is what the soft mask and its gradient from T to L give. Each point is a phase
RUN/joint/sweep_<start>_<ratio>, a control ..._hard; `python -m evaluation.joint_sweep` scores them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from data.command import InputError, run_command
from training import liver, tumor
from training.joint import train_joint
from training.joint_start import Joint
from training.run import Run, open_from_command_line

STARTS = ("pair", "scratch")


@dataclass(frozen=True)
class Point:
    """One point of the sweep.

    Attributes:
        start: "pair" or "scratch".
        ratio: beta / alpha, above 0.
        mask: of `models.cascade.MASKS`.
    """

    start: str
    ratio: float
    mask: str

    @property
    def name(self) -> str:
        """Name of its folder in RUN/joint."""
        return f"sweep_{self.start}_{self.ratio:.3g}" + ("_hard" if self.mask == "hard" else "")

    def settings(self, run: Run) -> Joint:
        """Return the weights (alpha + beta = 2) and the start."""
        alpha = 2 / (1 + self.ratio)
        return Joint(alpha, 2 - alpha, self.mask, run.path if self.start == "pair" else None)


def points(run: Run) -> list[Point]:
    """Return the points of the sweep: the controls first, then every ratio from the pair, then from scratch.

    Raises:
        InputError: the preset's mask is the controls'.
    """
    mask, ratios = run.preset.joint_mask, run.preset.joint_sweep_ratios
    if mask == "hard":
        raise InputError(
            "joint_mask hard: that is the control of the sweep; take probability or straight_through"
        )
    controls = [Point("pair", ratio, "hard") for ratio in ratios]
    return controls + [Point(start, ratio, mask) for start in STARTS for ratio in ratios]


def main() -> None:
    """Train every point that is not finished yet."""
    run, _ = open_from_command_line(
        "joint_sweep", "Sweep beta / alpha of the joint loss, from both starts."
    )
    wanted = points(run)
    liver.train(run, ["ce"])
    tumor.train(run, ["ce"])
    for point in wanted:
        epochs = run.preset.joint_sweep_epochs[STARTS.index(point.start)]
        train_joint(run, "ce", point.settings(run), point.name, epochs)
        shutil.rmtree(run.folder("joint", point.name) / "tensorboard", ignore_errors=True)


if __name__ == "__main__":
    run_command(main, "training.joint_sweep")
