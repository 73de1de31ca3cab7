"""Train both networks of the sequential model with the joint loss (paper 2.1).

    python -m training.joint --store DIR --run DIR [--init RUN] [--alpha A] [--beta B] [--mask NAME]
                             [--balanced] [--preset NAME] [--phase ce|balanced] [--seed N]

The loss is alpha * loss(A, L(X)) + beta * loss(B, T(M * w(X))) over the nested network
(`models.cascade`). It starts from fresh weights, or with `--init RUN` from the sequential pair of a
finished run. The balanced phase follows, with class weights and learning rate as for the pair
(paper 2.4). Then thresholds are chosen on validation data, and the networks are used like the pair.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.command import InputError, run_command
from data.runs import PHASES
from training.presets import JOINT_MASKS
from training.run import Run, make_parser, open_from_flags
from training.systems.base import Step
from training.systems.joint import FLAGS, Joint, check_pair, find_own_start


def main(arguments: list[str] | None = None) -> None:
    """Train the phases that are not finished yet."""
    flags = parse(arguments)
    phases = [flags.phase] if flags.phase else list(PHASES)
    given = {name: getattr(flags, name) for name in FLAGS if getattr(flags, name) is not None}

    def check(run: Run) -> None:
        from training.train import check_loss

        system = find_joint(run, flags.init or find_own_start(run), **given)
        check_loss(run, system, "joint")
        step = Step(run, "joint", "nested", phases[0], phases[0])
        system.check_done(step)
        if run.is_done("joint", "nested", phases[0]):
            return
        if phases[0] == "balanced":
            run.read_record("joint", "nested", "ce")
        elif system.pair_path is not None:
            check_pair(run, system.pair_path)

    run = open_from_flags(flags, check=check)
    from training.train import train_network, write_system

    write_system(run, Joint().under(run.preset), "joint")
    system = find_joint(run, flags.init or find_own_start(run), **given)
    for phase in phases:
        train_network(run, system, "joint", "nested", phase)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("joint", "Train both networks together with the joint loss (paper 2.1).")
    add = parser.add_argument_group("joint loss").add_argument
    add(
        "--init",
        type=Path,
        metavar="RUN",
        help="start from this run's sequential pair; default: fresh weights",
    )
    add("--alpha", type=float, help="weight of the liver's term; default the preset's, 1")
    add("--beta", type=float, help="weight of the tumor's term; default the preset's, 1")
    add(
        "--mask",
        choices=JOINT_MASKS,
        help="what stands for the liver mask in training; default the preset's, probability",
    )
    add(
        "--balanced",
        dest="phase",
        action="store_const",
        const="balanced",
        help="the same as --phase balanced",
    )
    return parser.parse_args(arguments)


def find_joint(run: Run, start: Path | None, **given: Any) -> Joint:
    """Return joint training under the run's preset, changed by the flags.

    `start` is the run directory of the pair to start from (None: fresh weights); the flags are
    alpha, beta and mask.

    Raises:
        InputError: they cannot be used.
    """
    for name in ("alpha", "beta"):
        if not 0 <= given.get(name, 1) < float("inf"):
            raise InputError(f"--{name} {given[name]}: must be a number from 0 up")
    changes = {f"joint_{name}": value for name, value in given.items()}
    system = Joint().under(run.preset)
    alpha, beta = (changes.get(key, getattr(system, key)) for key in ("joint_alpha", "joint_beta"))
    if not alpha + beta:
        raise InputError("--alpha 0 --beta 0: one of them must be above 0")
    return replace(system, **changes, pair_path=start)


if __name__ == "__main__":
    run_command(main, "training.joint")
