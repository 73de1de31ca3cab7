"""Train the sequential model's second network T: the tumor (paper 2.3).

    python -m training.tumor --store DIR --run DIR [--preset NAME] [--phase ce|balanced] [--seed N]

Its input is M * w(X) with M the first network's thresholded prediction, never the reference mask. A
phase uses the masks of the same phase of `training.liver`, which must be finished. Where the preset
asks for it, a trial chooses the scaling of the input first.
"""

from __future__ import annotations

from data.command import run_command
from training.run import train_from_flags


def main(arguments: list[str] | None = None) -> None:
    """Train the phases that are not finished yet."""
    what = "Train the second network of the sequential model (paper 2.2)."
    train_from_flags("tumor", what, "sequential", arguments, network="tumor")


if __name__ == "__main__":
    run_command(main, "training.tumor")
