"""Train the one-step U-Net: other, liver and tumor in one network (paper 2.1).

python -m training.one_step --store DIR --run DIR [--preset NAME] [--phase ce|balanced] [--seed N]
"""

from __future__ import annotations

from data.command import run_command
from training.run import make_parser, open_from_flags
from training.systems import SYSTEMS


def main(arguments: list[str] | None = None) -> None:
    """Train the phases that are not finished yet."""
    parser = make_parser("one_step", "Train the one-step U-Net (paper 2.1).")
    flags = parser.parse_args(arguments)
    run = open_from_flags(flags)
    from training.train import train_system

    train_system(
        run,
        SYSTEMS["one_step"].under(run.preset),
        phases=[flags.phase] if flags.phase else (),
    )


if __name__ == "__main__":
    run_command(main, "training.one_step")
