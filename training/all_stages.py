"""Train every stage that is not finished, one after the other in one process: starting TensorFlow takes seconds.

    python -m training.all_stages --store DIR --run DIR [--preset NAME] [--phase ce|balanced] [--seed N]

The same as `training.one_step`, `training.liver`, `training.tumor`, `training.joint` (from the pair just trained where
the preset's `joint_start` is "pair") and, without `--phase`, `training.sweep`.
"""

from __future__ import annotations

from data.command import run_command
from training import joint, liver, one_step, tumor
from training.joint_start import of_preset
from training.run import PHASES, open_from_command_line
from training.sweep import sweep


def main() -> None:
    """Train one-step, the first network, the second, both jointly, and the sweep of the second one's class weight."""
    run, phases = open_from_command_line("all_stages", "Train every stage, one after the other.")
    one_step.train(run, phases)
    liver.train(run, phases)
    tumor.train(run, phases)
    joint.train(run, phases, of_preset(run))
    if phases == list(PHASES):
        sweep(run)


if __name__ == "__main__":
    run_command(main, "training.all_stages")
