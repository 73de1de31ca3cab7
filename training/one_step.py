"""Train the one-step U-Net: other, liver and tumor in one network (paper 2.1).

python -m training.one_step --store DIR --run DIR [--preset NAME] [--phase ce|balanced] [--seed N]
"""

from __future__ import annotations

from collections.abc import Sequence

from data.batches import whole_slice_loader
from data.command import run_command
from training.run import Run, open_from_command_line
from training.stages import train_phase


def main() -> None:
    """Train the phases that are not finished yet."""
    train(*open_from_command_line("one_step", "Train the one-step U-Net (paper 2.1)."))


def train(run: Run, phases: Sequence[str]) -> None:
    """Train those of the phases that are not finished yet."""
    load = whole_slice_loader(run.store, "classes", run.preset.liver_window_hu)
    for phase in phases:
        train_phase(
            run, "one_step", phase, load, extra={"window_hu": list(run.preset.liver_window_hu)}
        )


if __name__ == "__main__":
    run_command(main, "training.one_step")
