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
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.backend import keras
from data.batches import SliceBatches, class_pixels, target_of
from data.command import InputError, run_command
from data.files import hash_file, read_json, write_json
from data.store import Store
from data.volume_batches import check_depth
from evaluation.metrics.roc import ProbabilityHistogram
from training.callbacks import discard_resume_files
from training.fit import Recipe, fit_phase
from training.metrics import AT_HALF, MOST_PROBABLE
from training.pretrained import load_encoder
from training.run import Run, open_run, stage_parser, with_change
from training.stages import Histograms, blind_ious, judge, start_anew, validation_histograms
from training.system_networks import (
    Batches,
    build,
    crop_batches,
    crop_shape,
    loss_of,
    slice_batches,
    slice_loader,
)
from training.system_presets import (
    SYSTEMS,
    VARIANTS,
    GlobalLocal,
    SliceSystem,
    System,
    in_small,
    settings_of,
    system_named,
)

SEVERAL = {"all": SYSTEMS, "variants": VARIANTS}
"""Names that stand for several systems."""
PRETRAINED = ("alexnet", "resnet18")
TUMOR_ONLY = (
    "tumor_window_hu",
    "tumor_epochs",
    "weak_label",
    "ratio_weight",
    "local_share",
    "tumor_share",
    "overlap",
    "postprocess",
)
"""Fields of `GlobalLocal` that its liver network is trained without."""
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

    def check(run: Run) -> None:
        check_begun(run, wanted(run), label, flags.weights)
        check_cohort(run, wanted(run))
        check_networks(run, wanted(run), flags.weights)

    run = open_from(flags, check)
    train_system(run, wanted(run), label, flags.weights)


def train_several(flags: argparse.Namespace) -> None:
    """Train every system, or every variant.

    One that this cohort does not allow, or that was begun with a file of weights, is left out, with the reason.

    Raises:
        InputError: one was begun with other settings; the others are trained before.
    """
    run = open_from(flags, check_split)
    stale = []
    for label in SEVERAL[flags.name]:
        documented, changes = system_named(label)
        system = changed_system(documented, run, changes)
        try:
            if (of_before := begun_before(run, label)) and of_before["weights_sha256"]:
                raise InputError(f"{run.path / 'systems' / label}: begun with a file of weights")
            check_cohort(run, system)
            check_networks(run, system, None)
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


def open_from(flags: argparse.Namespace, check: Callable[[Run], None]) -> Run:
    """Open the run directory that the flags name."""
    return open_run(
        flags.run, flags.store, flags.preset, flags.seed, flags.set_preset, "system", check
    )


def changed_system(documented: System, run: Run, changes: Sequence[str]) -> System:
    """Return a system as it is trained under the run's preset, with changes `FIELD=VALUE`."""
    system = in_small(documented, run.preset)
    for change in changes:
        system = with_change(system, change, FIXED)
    return system


def parse() -> argparse.Namespace:
    """Parse the command line.

    Raises:
        InputError: flags that do not go together; a label that is no folder's name, or another system's.
    """
    parser = stage_parser("system", "Train a system of the other source documents.", phases=False)
    add = parser.add_argument
    add(
        "--name",
        required=True,
        help=f"one of {', '.join([*SYSTEMS, *VARIANTS])}; or {' or '.join(SEVERAL)}",
    )
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
    flags = parser.parse_args()
    if flags.name in SEVERAL:
        if flags.label or flags.weights or flags.set:
            raise InputError(
                f"--name {flags.name}: takes no --label, --weights or --set, which are for one system"
            )
        return flags
    system_named(flags.name)
    if flags.set and not flags.label:
        raise InputError(
            f"--set {flags.set[0]}: needs --label, a name for {flags.name} with other values"
        )
    if flags.label is None:
        return flags
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", flags.label):
        raise InputError(f"--label {flags.label}: must be letters, digits, '_', '.', '+' or '-'")
    another = flags.label in {*SYSTEMS, *VARIANTS} or flags.label.endswith("_no_contour")
    if another or flags.label.startswith(("one_step", "sequential", "joint")):
        raise InputError(f"--label {flags.label}: is, or could be, another system's name")
    return flags


def check_begun(run: Run, system: System, label: str, weights: Path | None) -> None:
    """Check the weights' file, and that the label was not begun with other settings.

    Raises:
        InputError: weights for a system without, or that are not there; other settings under this label.
    """
    check_split(run)
    if weights is not None and system.architecture not in PRETRAINED:
        raise InputError(
            f"--weights {weights}: {system.name} has no ImageNet weights, only cdnn_* and korabelnikov"
        )
    if weights is not None and not weights.is_file():
        raise InputError(f"--weights {weights}: no such file")
    if begun_before(run, label) not in (None, begun(system, weights)["settings"]):
        raise InputError(
            f"{run.path / 'systems' / label}: begun with other settings; another --label keeps both"
        )


def begun_before(run: Run, label: str) -> dict[str, Any] | None:
    """Return the settings with which a label was begun; None if it was not."""
    path = run.path / "systems" / label / "system.json"
    return dict(read_json(path, ("settings",))["settings"]) if path.is_file() else None


def check_split(run: Run) -> None:
    """Check that the split is by patient: these systems are scored on whole cases.

    Raises:
        InputError: it is by slice.
    """
    if run.store.split.get("by") == "slice":
        raise InputError(
            f"{run.store.path}: split by slice; the other systems are scored on whole cases, by patient"
        )


def check_cohort(run: Run, system: System) -> None:
    """Check that the cases allow the system.

    Raises:
        InputError: volumes smaller than its windows; a case without clinical data.
    """
    if isinstance(system, GlobalLocal):
        check_depth(run.store, list(run.store.cases), system.depth)
        side = crop_shape(system, "tumor", run.store.size)[1]
        if side > run.store.size:
            raise InputError(
                f"{run.store.path}: slices of {run.store.size} px, the tumor's 3D window takes {side}"
            )
        crop_batches(run.store, system, "tumor", 0)


def check_networks(run: Run, system: System, weights: Path | None) -> None:
    """Check that the networks can be built for these slices, and begin with these weights.

    Raises:
        InputError: a size or a number of filters that the architecture does not take; weights of another architecture.
    """
    for target in system.targets:
        try:
            model = build(system, target, run.store.size, run.preset)
        except ValueError as error:
            raise InputError(f"{system.name}: {error}") from None
        if weights is not None:
            load_encoder(model, weights)
    keras.backend.clear_session()


def begun(system: System, weights: Path | None) -> dict[str, Any]:
    """Return the content of `system.json`."""
    settings = settings_of(system)
    settings["weights_sha256"] = None if weights is None else hash_file(weights)
    return {"schema": 1, "name": system.name, "settings": settings}


def train_system(run: Run, system: System, label: str, weights: Path | None = None) -> None:
    """Train those of a system's networks that are not finished yet."""
    folder = run.path / "systems" / label
    write_json(folder / "system.json", begun(system, weights))
    for target in system.targets:
        if (folder / target / "record.json").is_file():
            print(f"{label} {target}: already done")
        elif other := trained_alike(run, system, target, weights):
            shutil.copytree(other / target, folder / f".{target}", dirs_exist_ok=True)
            shutil.rmtree(folder / target, ignore_errors=True)
            (folder / f".{target}").rename(folder / target)
            print(f"{label} {target}: that of {other.name}, trained with the same settings")
        else:
            train_network(run, system, target, folder / target, weights)


def trained_alike(run: Run, system: System, target: str, weights: Path | None) -> Path | None:
    """Return the folder of a system of the run whose network for a target is finished and would be the same.

    The global and local pipeline's liver network knows nothing of what `TUMOR_ONLY` says.
    """
    if not isinstance(system, GlobalLocal) or target != "liver":
        return None
    wanted = begun(system, weights)["settings"]
    for path in sorted(run.path.glob(f"systems/*/{target}/record.json")):
        found = read_json(path.parent.parent / "system.json", ("settings",))["settings"]
        if all(found.get(key) == value for key, value in wanted.items() if key not in TUMOR_ONLY):
            return path.parent.parent
    return None


def train_network(
    run: Run, system: System, target: str, folder: Path, weights: Path | None
) -> dict[str, Any]:
    """Train a network of a system and write its record."""
    start_anew(run, system.precision)
    model = build(system, target, run.store.size, run.preset)
    if weights is not None:
        load_encoder(model, weights)
    (train, validation), said = data_of(run, system, target)
    print(
        f"{folder.parent.name} {target}: {system.epochs_of(target)} epochs of {len(train.slices)} {said['unit']}"
    )
    fitted = fit_phase(model, train, validation, recipe_of(run, system, target), folder)
    possible = (
        possible_pixels(run, system, target, model, validation) if fitted["best_epoch"] > 0 else {}
    )
    never = None if target != "classes" or not possible else never_decided(model, validation)
    record: dict[str, Any] = {"schema": 1, "system": system.name, "target": target, **said}
    record |= {
        **judge(possible, fitted["diverged"], never),
        "precision": keras.config.dtype_policy().name,
        "fit": fitted,
    }
    if record["status"] != "ok":
        print(
            f"{folder.parent.name} {target}: {record['status'].upper()}, not a result: {record['why']}"
        )
    elif record["note"]:
        print(f"{folder.parent.name} {target}: {record['note']}")
    write_json(folder / "record.json", record)
    discard_resume_files(folder)
    return record


def data_of(run: Run, system: System, target: str) -> tuple[Batches, dict[str, Any]]:
    """Return what a network trains and validates on, and what the record says of it."""
    window_hu = system.window_hu or run.preset.liver_window_hu
    if isinstance(system, GlobalLocal):
        batches, said = crop_batches(run.store, system, target, run.seed)
        said |= {"window_hu": list(window_hu if target == "liver" else system.tumor_window_hu)}
        return batches, {
            "unit": "crops",
            "crop": list(crop_shape(system, target, run.store.size)),
            **said,
        }
    assert isinstance(system, SliceSystem)
    load = slice_loader(run.store, system, target, window_hu)
    return slice_batches(run.store, system, load, run.seed), {
        "unit": "slices",
        "window_hu": list(window_hu),
    }


def possible_pixels(
    run: Run, system: System, target: str, model: keras.Model, validation: SliceBatches
) -> Histograms:
    """Return the probabilities of the validation pixels that could be of the target, for `training.stages.judge`."""
    if not isinstance(system, GlobalLocal):
        return validation_histograms(model, run, validation.load, None, target)[1]
    possible = ProbabilityHistogram()
    for index in range(len(validation)):
        inputs, truth = validation[index]
        # Outside the liver the local view is 0, as is nothing in it that lies above the window.
        where = inputs[..., 0] > 0 if target == "tumor" else np.ones(inputs.shape[:-1], bool)
        possible.add(
            np.asarray(model.predict_on_batch(inputs))[..., 0][where], truth[..., 0][where] > 0
        )
    return {target: possible}


def never_decided(model: keras.Model, validation: SliceBatches) -> list[str]:
    """Return which targets are nowhere the most probable class on validation data."""
    never = {"liver", "tumor"}
    for index in range(len(validation)):
        labels = np.argmax(model.predict_on_batch(validation[index][0]), axis=-1)
        never -= {target for target in never if target_of(labels, target).any()}
    return sorted(never)


def recipe_of(run: Run, system: System, target: str) -> Recipe:
    """Return how a network of a system is trained."""
    store: Store = run.store
    return Recipe(
        target=target,
        loss=loss_of(system, target),
        learning_rate=system.learning_rate,
        momentum=system.momentum,
        epochs=system.epochs_of(target),
        blind_iou=blind_ious(class_pixels(store, store.slices("validation")), target),
        data=f"{store.cohort}, SYNTHETIC" if store.synthetic else store.cohort,
        optimizer=system.optimizer,
        best_by=MOST_PROBABLE if target == "classes" else AT_HALF,
    )


if __name__ == "__main__":
    run_command(main, "training.system")
