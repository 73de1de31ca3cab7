"""Train a system of `training.systems` on a run's store.

    python -m training.system --name NAME --store DIR --run DIR [--preset NAME] [--seed N]
                              [--weights FILE] [--set FIELD=VALUE] [--label NAME]

NAME is a system or a variant, which `python -m training.systems` lists; `all` is every system of
the other documents, `variants` every variant. `--set` changes one of the system's values, and
`--label` then keeps the changed system beside the documented one.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from data.command import InputError, run_command
from data.runs import NO_CONTOUR
from data.runs import SYSTEMS as PAPER
from training.run import Run, change_field, make_parser, open_from_flags
from training.systems import SYSTEMS, VARIANTS, find_system
from training.systems.base import System, check_by_patient

SEVERAL = ("all", "variants")
"""Names that stand for several systems."""


def main(arguments: list[str] | None = None) -> None:
    """Train the networks of a system, or of several, that are not finished yet."""
    flags = parse(arguments)
    if flags.name in SEVERAL:
        run = open_from_flags(flags, check=lambda run: check_by_patient(run.store))
        train_several(run, flags.name)
        return
    documented, changes = find_system(flags.name)
    label = flags.label or flags.name

    def check(run: Run) -> None:
        system = change_system(documented, run, [*changes, *flags.set])
        check_before_training(run, system, label, flags.weights)

    run = open_from_flags(flags, check=check)
    from training.train import train_system

    system = change_system(documented, run, [*changes, *flags.set])
    train_system(run, system, label, weights=flags.weights)


def train_several(run: Run, name: str) -> None:
    """Train every system of the other documents, or every variant of theirs.

    `name` is "all" or "variants".

    One that this cohort does not allow, or that was begun with a file of weights, is left out, with
    the reason.

    Raises:
        InputError: one was begun with other settings; the others are trained before.
    """
    from training.train import check_begun, check_system, read_settings, train_system

    labels = VARIANTS if name == "variants" else [k for k, s in SYSTEMS.items() if not s.TABLE1]
    # One that cannot be trained does not keep the others from it.
    stale = []
    for label in labels:
        documented, changes = find_system(label)
        system = change_system(documented, run, changes)
        try:
            if (read_settings(run, label) or {}).get("weights_sha256"):
                raise InputError(f"{run.path / label}: begun with a file of weights")
            system.check_store(run.store)
            check_system(run, system, label)
        except InputError as error:
            print(f"{label}: left out: {error}")
            continue
        try:
            check_begun(run, system, label, None)
        except InputError as error:
            stale.append(str(error))
        else:
            train_system(run, system, label)
    if stale:
        raise InputError("; ".join(stale))


def change_system(documented: System, run: Run, changes: Sequence[str]) -> System:
    """Return a system as it is trained in a run.

    Args:
        documented: as its document describes it.
        run: the run, whose preset it is trained under.
        changes: `FIELD=VALUE` on top of that.
    """
    system = documented.under(run.preset).inside(run)
    for change in changes:
        system = change_field(system, change, system.FIXED)
    return system


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        InputError: flags that do not go together; a label that is no folder's name, or another
            system's.
    """
    parser = make_parser(
        "system",
        "Train a system of the source documents.",
        phases=False,
        changes="system",
        example="python -m training.system --name segnet --store out/demo/store --run out/demo/run",
    )
    add = parser.add_argument_group("system").add_argument
    listed = ", ".join([*SYSTEMS, *VARIANTS])
    add("--name", required=True, help=f"one of {listed}; or {' or '.join(SEVERAL)}")
    add(
        "--label",
        help="name of its folder and of its rows in the tables; default NAME; --set needs one",
    )
    add(
        "--weights",
        type=Path,
        metavar="FILE",
        help="for cdnn_* and korabelnikov, a file of training.convert_weights",
    )
    add(
        "--set-preset",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change one value of the preset",
    )
    flags = parser.parse_args(arguments)
    if flags.name in SEVERAL:
        if flags.label or flags.weights or flags.set:
            raise InputError(
                f"--name {flags.name}: takes no --label, --weights or --set, "
                "which are for one system"
            )
        return flags
    find_system(flags.name)
    # A changed system must not lie where the documented one is looked for.
    if flags.set and not flags.label:
        raise InputError(
            f"--set {flags.set[0]}: needs --label, a name for {flags.name} with other values"
        )
    if flags.label is not None:
        check_label(flags.label)
    return flags


def check_label(label: str) -> None:
    """Raise an InputError unless a label is a folder's name and no other system's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", label):
        raise InputError(f"--label {label}: must be letters, digits, '_', '.', '+' or '-'")
    another = label in {*SYSTEMS, *VARIANTS} or label.endswith(NO_CONTOUR)
    if another or label.startswith(PAPER):
        raise InputError(f"--label {label}: is, or could be, another system's name")


def check_before_training(run: Run, system: System, label: str, weights: Path | None) -> None:
    """Check all that can be checked before the run directory is made.

    Args:
        run: the run.
        system: as it is trained.
        label: name of its folder.
        weights: file that its encoder begins with.

    Raises:
        InputError: a file of weights that is missing or has no place; the label was begun with
            other settings; the cases do not allow the system; its networks cannot be built.
    """
    if weights is not None and not system.PRETRAINED:
        raise InputError(
            f"--weights {weights}: {system.name} has no ImageNet weights, "
            "only cdnn_* and korabelnikov"
        )
    if weights is not None and not weights.is_file():
        raise InputError(f"--weights {weights}: no such file")
    if not system.TABLE1:
        check_by_patient(run.store)
    system.check_store(run.store)
    from training.train import check_begun, check_system

    check_begun(run, system, label, weights)
    check_system(run, system, label, weights)


if __name__ == "__main__":
    run_command(main, "training.system")
