"""A run directory: one preset, seed and split, shared by all its systems.

RUN/run.json                            preset as resolved, seed, store and split, written first
RUN/<system>/system.json                what prediction and scoring need to know of the system
RUN/<system>/<network>/<phase>/         a finished phase: `training.fit` says what it holds
RUN/<system>/<network>/<phase>/record.json    status, inputs, thresholds, times; written last
RUN/sequential/liver/<phase>/masks/     the first network's masks of training and validation cases
RUN/sequential/tumor/trial_<scaling>/   what scaling.json chose the second input's scaling by
RUN/sequential/tumor/sweep_<ratio>/     points of the class weight's sweep, summed up in sweep.json
RUN/joint/nested/<phase>/               also settings.json, what it was begun with, and masks/
RUN/joint/nested/sweep_<start>_<ratio>[_hard]/    points of the joint loss's sweep

A system is a label of `training.system`, by default a name of `training.systems`. Phases are "ce"
and "balanced" (paper 2.4); the systems of other documents have the one phase "train".
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from data.command import InputError, Parser, check_seed
from data.files import hash_json, read_json, write_json
from data.runs import PHASES
from data.store import Store
from evaluation.metrics.thresholds import RULES
from training.presets import PRESETS, Preset, find_preset, list_settings

MADE_BEFORE = {"subset": "data.prepare --subset", "phantom_cases": "data.phantom --cases"}
"""Fields of a preset that decide what the store holds; `reproduce.sh` reads them."""
ANY_LENGTH = {"joint_sweep_ratios": 1.0, "postprocess": ""}
"""Fields that hold any number of values, with one of their kind."""
FITTING = {64: ("smoke", "smoke"), 128: ("mini", "demo"), 512: ("paper", "paper")}
"""The preset that fits a store of real CT and of a phantom, by the size of its slices."""

Settings = TypeVar("Settings", bound=Any)


@dataclass(frozen=True)
class Run:
    """An open run directory with the store it trains on.

    Its methods take a phase by `label` (name of the system's folder), `network` and `phase` (name
    of the phase's folder).
    """

    path: Path
    store: Store
    preset: Preset
    seed: int

    def find_folder(self, label: str, network: str, phase: str) -> Path:
        """Return the folder of a phase of a system's network.

        Args:
            label, network, phase: see the class.
        """
        return self.path / label / network / phase

    def is_done(self, label: str, network: str, phase: str) -> bool:
        """Return whether that phase is finished.

        Args:
            label, network, phase: see the class.
        """
        return (self.find_folder(label, network, phase) / "record.json").is_file()

    def read_record(self, label: str, network: str, phase: str) -> dict[str, Any]:
        """Read the record of a phase; an unfinished one raises an InputError.

        Args:
            label, network, phase: see the class.
        """
        if not self.is_done(label, network, phase):
            command = {"sequential": network, "one_step": label, "joint": label}.get(label)
            of = network if label == "sequential" else label
            module = f"{command} --phase {phase}" if command else f"system --label {label}"
            raise InputError(
                f"{self.path}: phase {phase} of {of} is not finished; "
                f"run python -m training.{module} first"
            )
        path = self.find_folder(label, network, phase) / "record.json"
        content: dict[str, Any] = read_json(path, ("status", "fit", "inputs", "thresholds"))
        return content

    def check_weights(self, label: str, network: str, phase: str) -> None:
        """Check that a phase left weights that another one can start from.

        Args:
            label, network, phase: see the class.

        Raises:
            InputError: it is not finished, or diverged in its first epoch.
        """
        if self.read_record(label, network, phase)["fit"]["best_epoch"] < 1:
            folder = self.find_folder(label, network, phase)
            raise InputError(f"{folder}: diverged, there are no weights to continue from")


def make_parser(
    name: str, description: str, phases: bool = True, changes: str = "preset", example: str = ""
) -> Parser:
    """Return the parser that every training command shares.

    Args:
        name: of the command, as in training.NAME.
        description: what it does.
        phases: whether it has --phase.
        changes: what --set changes, "preset" or "system".
        example: a command line.
    """
    example = example or f"python -m training.{name} --store out/demo/store --run out/demo/run"
    parser = Parser(prog=f"training.{name}", description=description, example=example)
    add = parser.add_argument_group("paths").add_argument
    add("--store", type=Path, required=True, metavar="DIR", help="slice store of data.prepare")
    add("--run", type=Path, required=True, metavar="DIR", help="run directory, made if missing")
    add = parser.add_argument_group("training").add_argument
    known = f"one of {', '.join(PRESETS)}; default: the run's, else the one that fits the store"
    add("--preset", metavar="NAME", help=known)
    if phases:
        add("--phase", choices=PHASES, help="only this phase; default: ce, then balanced")
    add("--seed", type=int, default=0, help="initialisation, order and dropout; default 0")
    what = f"change one value of the {changes} (repeatable)"
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help=what)
    return parser


def train_from_flags(
    name: str, description: str, system: str, arguments: list[str] | None, network: str = ""
) -> None:
    """Run the command of a system of the paper: the phases that are not finished yet.

    Args:
        name, description: of the command, as for `make_parser`.
        system: a name of `training.systems`.
        arguments: of the command line; None: this process's.
        network: only this one of the system.
    """
    from training.systems import SYSTEMS

    def check(run: Run) -> None:
        from training.train import check_loss

        check_loss(run, SYSTEMS[system].under(run.preset))

    flags = make_parser(name, description).parse_args(arguments)
    run = open_from_flags(flags, network != "liver", check)
    from training.train import train_system

    phases, networks = [flags.phase] if flags.phase else [], [network] if network else []
    train_system(run, SYSTEMS[system].under(run.preset), phases=phases, networks=networks)


def open_from_flags(
    flags: argparse.Namespace, needs_tumor: bool = True, check: Callable[[Run], None] | None = None
) -> Run:
    """Open the run directory that a command's flags name; see `open_run`.

    Args:
        flags: of `make_parser`; --set changes the preset unless there is --set-preset.
        needs_tumor: whether training and validation slices must hold tumor.
        check: sees the run before anything is written.
    """
    paths, changed = (flags.run, flags.store), "set_preset" if "set_preset" in flags else "set"
    flag = f"--{changed.replace('_', '-')}"
    changes = getattr(flags, changed)
    return open_run(*paths, flags.preset, flags.seed, changes, needs_tumor, flag, check)


def open_run(
    path: Path,
    store_path: Path,
    preset_name: str | None,
    seed: int,
    changes: Sequence[str] = (),
    needs_tumor: bool = True,
    flag: str = "--set",
    check: Callable[[Run], None] | None = None,
) -> Run:
    """Open a run directory, or make it.

    Args:
        path, store_path: the run directory and the slice store.
        preset_name: of the preset; None: the run's own, else the one that fits the store.
        seed: of the training.
        changes: `FIELD=VALUE` of the preset.
        needs_tumor, flag: as of `check_store`.
        check: sees the run before anything is written.

    Raises:
        InputError: no store, no such preset or field, a size that is not the preset's or that the
            network cannot take, no tumor to train on or to choose by, or the directory belongs to
            another preset, seed or split.
    """
    # A misspelt preset is reported before the store is read.
    preset = None if preset_name is None else change_preset(preset_name, changes, flag)
    store = Store.open(store_path)
    check_seed(seed)
    preset = preset or change_preset(find_fitting_preset(path, store), changes, flag)
    check_store(store, preset, needs_tumor, flag)
    record_path, run = path / "run.json", Run(path, store, preset, seed)
    description = describe_run(run)
    if record_path.is_file():
        _check_same(path, read_json(record_path), description)
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: not a run directory, and not empty")
    # Nothing is written until every check has passed.
    if check is not None:
        check(run)
    if not record_path.is_file():
        write_json(record_path, description)
    return run


def find_fitting_preset(path: Path, store: Store) -> str:
    """Return the preset's name of a run directory, or of the one that fits a store.

    It says which. The directory may not be there yet. Where none fits it raises an InputError.
    """
    if (path / "run.json").is_file():
        name = str(read_json(path / "run.json", ("preset",))["preset"]).partition("+")[0]
        if name in PRESETS:
            print(f"preset {name}: that of {path}")
            return name
    kind = "a phantom" if store.synthetic else "real CT"
    if store.size not in FITTING:
        raise InputError(
            f"{store.path}: no preset fits slices of {store.size} px; "
            f"--preset smoke --set size={store.size} trains on them"
        )
    name = FITTING[store.size][store.synthetic]
    print(f"preset {name}: it fits slices of {store.size} px of {kind}; --preset takes another")
    return name


def check_store(store: Store, preset: Preset, needs_tumor: bool, flag: str) -> None:
    """Check that a store can be trained on under a preset.

    Args:
        store, preset: the slice store and the preset.
        needs_tumor: whether training and validation slices must hold tumor.
        flag: that changes the preset, for the remedy.

    Raises:
        InputError: its size is not the preset's or does not suit the network, it is external, or it
            lacks tumor.
    """
    if store.size != preset.size:
        raise InputError(
            f"{store.path}: its slices of {store.size} px are not those of preset {preset.name}, "
            f"{preset.size} px ({flag} size={store.size} trains on them)"
        )
    if store.size % 2**preset.poolings:
        raise InputError(
            f"{store.path}: its slices of {store.size} px do not suit preset {preset.name}, "
            f"which needs a multiple of {2**preset.poolings}"
        )
    if "train" not in store.split["slices"]:
        raise InputError(f"{store.path}: an external store, its split holds no training set")
    for name in ("train", "validation") if needs_tumor else ():
        if not any(row in store.cases[case]["tumor_rows"] for case, row in store.slices(name)):
            raise InputError(
                f"{store.path}: no {name} slice holds tumor; prepare another split "
                "(--test, --validation, --stratify)"
            )


def describe_run(run: Run) -> dict[str, Any]:
    """Return the content of `run.json`."""
    store, settings = run.store, list_settings(run.preset)
    return {
        "schema": 1,
        "preset": run.preset.name,
        "settings": settings,
        "seed": run.seed,
        "size": store.size,
        "cohort": store.cohort,
        "synthetic": store.synthetic,
        "split_sha256": store.split["sha256"],
        "store_sha256": store.sha256,
        "settings_sha256": hash_json(settings),
    }


def change_preset(name: str, changes: Sequence[str], flag: str = "--set") -> Preset:
    """Return a preset with `FIELD=VALUE` changes; its name then lists them.

    Args:
        name: of the preset.
        changes: as the flag gives them.
        flag: its name.

    Raises:
        InputError: no such preset or field, or a value of another type or out of range.
    """
    preset = find_preset(name)
    for change in changes:
        key = change.partition("=")[0]
        if key in MADE_BEFORE:
            raise InputError(
                f"{flag} {change}: training does not read {key}; {MADE_BEFORE[key]} decides it"
            )
        changed = change_field(preset, change, flag=flag)
        preset = dataclasses.replace(changed, name=f"{preset.name}+{change}")
    if preset.mask_threshold_rule not in RULES:
        raise InputError(
            f"{flag} mask_threshold_rule={preset.mask_threshold_rule}: mask_threshold_rule is out "
            f"of its range; there are {', '.join(RULES)}"
        )
    return preset


def change_field(
    settings: Settings, change: str, fixed: Collection[str] = ("name",), flag: str = "--set"
) -> Settings:
    """Return a preset or a system with one `FIELD=VALUE` change.

    Args:
        settings: a frozen dataclass that refuses values out of range.
        change: as the flag gives it.
        fixed: fields that cannot be changed.
        flag: its name.

    Raises:
        InputError: not of that form, no such field, or a value of another type or out of range.
    """
    key, _, text = change.partition("=")
    if key in fixed or key not in {entry.name for entry in dataclasses.fields(settings)}:
        lister = "training.presets" if isinstance(settings, Preset) else "training.systems"
        raise InputError(
            f"{flag} {change}: no field {key} that can be changed; python -m {lister} lists them"
        )
    value, old = _parse_value(text), getattr(settings, key)
    try:
        if key in ANY_LENGTH and isinstance(value, tuple) and value:
            old = (ANY_LENGTH[key],) * len(value)
        value = value if old is None else _match_kind(value, old)
    except TypeError:
        raise InputError(f"{flag} {change}: {key} must be of the kind of {old!r}") from None
    try:
        return dataclasses.replace(settings, **{key: value})
    except (ValueError, TypeError) as error:
        raise InputError(f"{flag} {change}: {error}") from None


def _match_kind(value: Any, old: Any) -> Any:
    """Return `value` if it is of the kind of `old`, else raise a TypeError.

    A whole number is also a float.
    """
    if isinstance(old, tuple):
        if not isinstance(value, tuple) or len(value) != len(old):
            raise TypeError
        return tuple(_match_kind(*pair) for pair in zip(value, old, strict=True))
    if isinstance(old, float) and type(value) is int:
        return float(value)
    if type(value) is not type(old):
        raise TypeError
    return value


def _parse_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _check_same(path: Path, written: dict[str, Any], described: dict[str, Any]) -> None:
    for key in ("preset", "seed", "size", "split_sha256", "store_sha256", "settings_sha256"):
        if written.get(key) != described[key]:
            raise InputError(
                f"{path}: a run directory of another {key}: "
                f"{written.get(key)}, not {described[key]}"
            )
