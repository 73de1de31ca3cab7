"""Train one of the other documents' systems on the store and split of the paper's models.

    python -m training.system --name NAME --store DIR --run DIR [--preset NAME] [--seed N] [--weights FILE]
                              [--set FIELD=VALUE] [--label NAME]

NAME is a preset of `training.system_presets`, which lists them and their variants; `all` is every system, `variants`
every variant. `--set` changes one of its values, and `--label` then keeps the changed system beside the documented one.
RUN is a run directory of the stage scripts, or becomes one:

RUN/systems/<label>/system.json          settings; written first
RUN/systems/<label>/<target>/            a finished network: `training.fit` says what it holds
RUN/systems/<label>/<target>/record.json status, how its input is made, times; written last

`python -m evaluation.compare` scores what is finished beside the paper's models.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.backend import keras
from data.batches import class_pixels
from data.command import InputError, run_command
from data.files import read_json, sha256_of_file, write_json
from data.store import Store
from data.volume_batches import check_depth
from training.callbacks import discard_resume_files
from training.fit import Recipe, fit_phase
from training.pretrained import load_encoder
from training.run import Run, open_run, stage_parser, with_change
from training.stages import Histograms, blind_ious, judge, start_anew, validation_histograms
from training.system_networks import build, crop_batches, crop_shape, loss_of, slice_batches, slice_loader
from training.system_presets import SYSTEMS, VARIANTS, GlobalLocal, System, in_small, settings_of, system_named

SEVERAL = {"all": SYSTEMS, "variants": VARIANTS}
"""Names that stand for several systems."""
PRETRAINED = ("alexnet", "resnet18")
FIXED = ("name", "document", "architecture", "targets")
"""Fields of a system that make it what it is."""


def main() -> None:
    """Train the networks of a system, or of several, that are not finished yet."""
    flags = parse()
    if flags.name in SEVERAL:
        train_several(flags)
        return
    documented, changes = system_named(flags.name)
    label = flags.label or flags.name

    def wanted(run: Run) -> System:
        return changed_system(documented, run, [*changes, *flags.set])

    run = open_from(flags, lambda run: check_system(run, wanted(run), label, flags.weights))
    train_system(run, wanted(run), label, flags.weights)


def train_several(flags: argparse.Namespace) -> None:
    """Train every system, or every variant; one that this cohort does not allow is left out, with the reason.

    Raises:
        InputError: with flags that are for one system.
    """
    if flags.label or flags.weights or flags.set:
        raise InputError(f"--name {flags.name}: takes no --label, --weights or --set, which are for one system")
    run = open_from(flags, None)
    for label in SEVERAL[flags.name]:
        documented, changes = system_named(label)
        system = changed_system(documented, run, changes)
        try:
            check_system(run, system, label, None)
        except InputError as error:
            print(f"{label}: left out: {error}")
        else:
            train_system(run, system, label)


def open_from(flags: argparse.Namespace, check: Callable[[Run], None] | None) -> Run:
    """Open the run directory that the flags name."""
    return open_run(flags.run, flags.store, flags.preset, flags.seed, flags.set_preset, "system", check)


def changed_system(documented: System, run: Run, changes: Sequence[str]) -> System:
    """Return a system as it is trained under the run's preset, with changes `FIELD=VALUE`."""
    system = in_small(documented, run.preset)
    for change in changes:
        system = with_change(system, change, FIXED)
    return system


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = stage_parser("system", "Train a system of the other source documents.")
    add = parser.add_argument
    add("--name", required=True, help=f"one of {', '.join([*SYSTEMS, *VARIANTS])}; or {' or '.join(SEVERAL)}")
    add("--label", help="name of its folder and of its rows in the tables; default NAME")
    add("--weights", type=Path, metavar="FILE", help="ImageNet weights of training.convert_weights, for cdnn_*")
    add("--set-preset", action="append", default=[], metavar="FIELD=VALUE", help="change one value of the preset")
    return parser.parse_args()


def check_system(run: Run, system: System, label: str, weights: Path | None) -> None:
    """Check that a system can be trained here, before anything is written.

    Raises:
        InputError: a label that is no folder's name, or of another system's folder; weights for a system without;
            volumes smaller than its window; a case without clinical data; weights of another architecture.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", label):
        raise InputError(f"--label {label}: must be letters, digits, '_', '.', '+' or '-'")
    if weights is not None and system.architecture not in PRETRAINED:
        raise InputError(f"--weights {weights}: {system.name} has no ImageNet weights, only cdnn_* and korabelnikov")
    if weights is not None and not weights.is_file():
        raise InputError(f"--weights {weights}: no such file")
    path = run.path / "systems" / label / "system.json"
    if path.is_file() and read_json(path, ("settings",))["settings"] != begun(system, weights)["settings"]:
        raise InputError(f"{path}: begun with other settings; another --label keeps both")
    if isinstance(system, GlobalLocal):
        cases = [case for name in ("train", "validation", "test") for case in run.store.cases_of(name)]
        check_depth(run.store, cases, system.depth)
        crop_batches(run.store, system, "tumor", 0)
    if weights is not None:
        load_encoder(build(system, system.targets[0], run.store.size, run.preset), weights)


def begun(system: System, weights: Path | None) -> dict[str, Any]:
    """Return the content of `system.json`."""
    settings = settings_of(system)
    settings["weights_sha256"] = None if weights is None else sha256_of_file(weights)
    return {"schema": 1, "name": system.name, "settings": settings}


def train_system(run: Run, system: System, label: str, weights: Path | None = None) -> None:
    """Train those of a system's networks that are not finished yet."""
    folder = run.path / "systems" / label
    write_json(folder / "system.json", begun(system, weights))
    for target in system.targets:
        if (folder / target / "record.json").is_file():
            print(f"{label} {target}: already done")
        else:
            train_network(run, system, target, folder / target, weights)


def train_network(run: Run, system: System, target: str, folder: Path, weights: Path | None) -> dict[str, Any]:
    """Train a network of a system and write its record."""
    start_anew(run)
    model = build(system, target, run.store.size, run.preset)
    if weights is not None:
        load_encoder(model, weights)
    window_hu = system.window_hu or run.preset.liver_window_hu
    said: dict[str, Any] = {"window_hu": list(window_hu)}
    if isinstance(system, GlobalLocal):
        said["crop"] = list(crop_shape(system, target, run.store.size))
        said["window_hu"] = list(window_hu if target == "liver" else system.tumor_window_hu)
        (train, validation), more = crop_batches(run.store, system, target, run.seed)
        said |= more
    else:
        load = slice_loader(run.store, system, target, window_hu)
        train, validation = slice_batches(run.store, system, load, run.seed)
    print(f"{folder.parent.name} {target}: {system.epochs} epochs of {len(train.slices)} {_unit(system)}")
    fitted = fit_phase(model, train, validation, recipe_of(run, system, target), folder)
    possible: Histograms = {}
    if not isinstance(system, GlobalLocal) and fitted["best_epoch"] > 0:
        possible = validation_histograms(model, run, load, None, target)[1]
    status = judge(possible, fitted["diverged"])
    record = {"schema": 1, "system": system.name, "target": target, **status, **said}
    record |= {"precision": keras.config.dtype_policy().name, "fit": fitted}
    if record["status"] != "ok":
        print(f"{folder.parent.name} {target}: {record['status'].upper()}, not a result: {record['why']}")
    write_json(folder / "record.json", record)
    discard_resume_files(folder)
    return record


def _unit(system: System) -> str:
    return "crops" if isinstance(system, GlobalLocal) else "slices"


def recipe_of(run: Run, system: System, target: str) -> Recipe:
    """Return how a network of a system is trained."""
    store: Store = run.store
    return Recipe(
        target=target,
        loss=loss_of(system, target),
        learning_rate=system.learning_rate,
        momentum=system.momentum,
        epochs=system.epochs,
        blind_iou=blind_ious(class_pixels(store, store.slices("validation")), target),
        data=f"{store.cohort}, SYNTHETIC" if store.synthetic else store.cohort,
        optimizer=system.optimizer,
    )


if __name__ == "__main__":
    run_command(main, "training.system")
