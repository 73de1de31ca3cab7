"""Train every system of Table 1 in one process, so TensorFlow starts once.

    python -m training.all_stages --store DIR --run DIR [--preset NAME] [--phase ce|balanced]
                                  [--seed N] [--joint-sweep] [--all-systems]

The same as `training.one_step`, `training.liver`, `training.tumor`, `training.joint` (from the pair
just trained where the preset's `joint_start` is "pair"), other registered systems of Table 1 and,
without `--phase`, `training.sweeps class_weight`. `--joint-sweep` adds `training.sweeps
joint_loss`, `--all-systems` what `training.system --name all` and `--name variants` train.
"""

from __future__ import annotations

from data.command import InputError, run_command
from training.run import Run, make_parser, open_from_flags
from training.systems import SYSTEMS
from training.systems.base import check_by_patient


def main(arguments: list[str] | None = None) -> None:
    """Train what is not finished yet."""
    parser = make_parser("all_stages", "Train every system of Table 1, one after the other.")
    more = parser.add_argument_group("more systems")
    more.add_argument("--joint-sweep", action="store_true", help="sweep beta / alpha, too")
    more.add_argument(
        "--all-systems", action="store_true", help="train the other documents' systems, too"
    )
    flags = parser.parse_args(arguments)
    if flags.phase and (flags.joint_sweep or flags.all_systems):
        raise InputError(
            "--phase: is of the paper's systems; leave out --joint-sweep and --all-systems"
        )

    # Hours of training must not end at a flag that could be refused at once.
    def check(run: Run) -> None:
        if flags.joint_sweep:
            from training.sweeps import list_joint_points

            list_joint_points(run)
        if flags.all_systems:
            check_by_patient(run.store)
        from training.train import check_loss

        for system in SYSTEMS.values():
            if system.TABLE1:
                check_loss(run, system.under(run.preset))

    run = open_from_flags(flags, check=check)
    # Heavy imports wait until the flags are known to be good.
    from training import sweeps
    from training.system import train_several
    from training.train import train_system

    for documented in SYSTEMS.values():
        if documented.TABLE1:
            system = documented.under(run.preset).inside(run)
            train_system(run, system, phases=[flags.phase] if flags.phase else ())
    if not flags.phase:
        sweeps.sweep_class_weight(run)
    if flags.joint_sweep:
        sweeps.sweep_joint_loss(run)
    if flags.all_systems:
        for several in ("all", "variants"):
            train_several(run, several)


if __name__ == "__main__":
    run_command(main, "training.all_stages")
