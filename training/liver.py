"""Train the sequential model's first network L: the liver (paper 2.2).

    python -m training.liver --store DIR --run DIR [--preset NAME] [--phase ce|balanced] [--seed N]

Each phase ends by writing the liver masks M = [L(X) > s1] of the training and validation cases,
which the second network trains on (paper 2.3), and the median HU inside each case's mask.
"""

from __future__ import annotations

from data.command import run_command
from training.run import train_from_flags


def main(arguments: list[str] | None = None) -> None:
    """Train the phases that are not finished yet, and write their masks."""
    what = "Train the first network of the sequential model (paper 2.2)."
    train_from_flags("liver", what, "sequential", arguments, network="liver")


if __name__ == "__main__":
    run_command(main, "training.liver")
