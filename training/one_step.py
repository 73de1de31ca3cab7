"""Train the one-step U-Net: other, liver and tumor in one network (paper 2.1).

python -m training.one_step --store DIR --run DIR [--preset NAME] [--phase ce|balanced] [--seed N]
"""

from __future__ import annotations

from data.command import run_command
from training.run import train_from_flags


def main(arguments: list[str] | None = None) -> None:
    """Train the phases that are not finished yet."""
    train_from_flags("one_step", "Train the one-step U-Net (paper 2.1).", "one_step", arguments)


if __name__ == "__main__":
    run_command(main, "training.one_step")
