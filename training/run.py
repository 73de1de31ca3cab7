"""A run directory: one preset, one seed and one split, shared by all stages.

RUN/run.json                        preset as resolved, seed, store and split, written by the first stage
RUN/<stage>/<phase>/                one finished phase: `training.fit` says what it holds
RUN/<stage>/<phase>/record.json     status, thresholds, weights, times; written last
RUN/liver/<phase>/masks/            the first network's masks of the training and validation cases
RUN/joint/<phase>/settings.json     what the phase was begun with; masks/ as above, of the validation cases
RUN/tumor/scaling.json              which scaling of the second input was chosen, and on what grounds

Stages are `one_step`, `liver`, `tumor` and `joint`; phases are `ce` and `balanced` (paper 2.4).
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from data.command import InputError, Parser, check_seed
from data.files import hash_json, read_json, write_json
from data.store import Store
from training.presets import PRESETS, Preset, preset_named, resolved

PHASES = ("ce", "balanced")
MADE_BEFORE = {"subset": "data.prepare --subset", "phantom_cases": "data.phantom --cases"}
"""Fields of a preset that decide what the store holds; `reproduce.sh` reads them."""


ANY_LENGTH = {"joint_sweep_ratios": 1.0, "postprocess": ""}
"""Fields of a preset that hold any number of values, with one of their kind."""

Settings = TypeVar("Settings", bound=Any)


@dataclass(frozen=True)
class Run:
    """An open run directory with the store it trains on."""

    path: Path
    store: Store
    preset: Preset
    seed: int

    def folder(self, stage: str, phase: str) -> Path:
        """Return the folder of a phase of a stage."""
        return self.path / stage / phase

    def is_done(self, stage: str, phase: str) -> bool:
        """Whether that phase is finished."""
        return (self.folder(stage, phase) / "record.json").is_file()

    def record(self, stage: str, phase: str) -> dict[str, Any]:
        """Read the record of a finished phase.

        Raises:
            InputError: it is not finished.
        """
        if not self.is_done(stage, phase):
            command = f"python -m training.{stage} --phase {phase}"
            raise InputError(
                f"{self.path}: phase {phase} of {stage} is not finished; run {command} first"
            )
        content: dict[str, Any] = read_json(
            self.folder(stage, phase) / "record.json", ("status", "fit", "thresholds")
        )
        return content


def stage_parser(stage: str, description: str, phases: bool = True) -> Parser:
    """Return the parser that every stage script shares; `phases` leaves out --phase for what has none."""
    parser = Parser(prog=f"training.{stage}", description=description)
    parser.add_argument(
        "--store", type=Path, required=True, metavar="DIR", help="slice store of data.prepare"
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="run directory, made if missing"
    )
    parser.add_argument(
        "--preset",
        default="demo",
        metavar="NAME",
        help=f"one of {', '.join(PRESETS)}; default demo",
    )
    if phases:
        parser.add_argument(
            "--phase", choices=PHASES, help="only this phase; default: ce, then balanced"
        )
    parser.add_argument(
        "--seed", type=int, default=0, help="initialisation, order and dropout; default 0"
    )
    what = "system" if stage == "system" else "preset"
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"change one value of the {what} (repeatable)",
    )
    return parser


def open_from_command_line(stage: str, description: str) -> tuple[Run, list[str]]:
    """Parse a stage script's flags and return the open run and the phases asked for."""
    arguments = stage_parser(stage, description).parse_args()
    run = open_run(
        arguments.run, arguments.store, arguments.preset, arguments.seed, arguments.set, stage
    )
    return run, [arguments.phase] if arguments.phase else list(PHASES)


def open_run(
    path: Path,
    store_path: Path,
    preset_name: str,
    seed: int,
    changes: Sequence[str],
    stage: str,
    check: Callable[[Run], None] | None = None,
) -> Run:
    """Open a run directory, or make it; `check` sees the run before anything is written.

    Raises:
        InputError: no store, no such preset or field, a size that is not the preset's or that the network
            cannot take, no tumor to train on or to choose by (all stages but "liver"), or the directory
            belongs to another preset, seed or split.
    """
    preset = changed(preset_named(preset_name), changes, _flag(stage))
    store = Store.open(store_path)
    check_seed(seed)
    if store.size != preset.size:
        raise InputError(
            f"{store_path}: its slices of {store.size} px are not those of preset {preset.name}, {preset.size} px "
            f"({_flag(stage)} size={store.size} trains on them)"
        )
    if store.size % 2**preset.poolings:
        raise InputError(
            f"{store_path}: its slices of {store.size} px do not suit preset {preset.name}, "
            f"which needs a multiple of {2**preset.poolings}"
        )
    if "train" not in store.split["slices"]:
        raise InputError(f"{store_path}: an external store, its split holds no training set")
    if stage != "liver":
        _check_tumor(store)
    description = describe_run(store, preset, seed)
    record_path = path / "run.json"
    run = Run(path, store, preset, seed)
    if record_path.is_file():
        _check_same(path, read_json(record_path), description)
    else:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path}: not a run directory, and not empty")
    if check is not None:
        check(run)
    if not record_path.is_file():
        write_json(record_path, description)
    return run


def _flag(stage: str) -> str:
    """Return the flag that changes the preset; `--set` of training.system changes the system."""
    return "--set-preset" if stage == "system" else "--set"


def _check_tumor(store: Store) -> None:
    for name in ("train", "validation"):
        if not any(row in store.cases[case]["tumor_rows"] for case, row in store.slices(name)):
            raise InputError(
                f"{store.path}: no {name} slice holds tumor; prepare another split (--test, --validation, --stratify)"
            )


def describe_run(store: Store, preset: Preset, seed: int) -> dict[str, Any]:
    """Return the content of `run.json`."""
    return {
        "schema": 1,
        "preset": preset.name,
        "settings": resolved(preset),
        "seed": seed,
        "size": store.size,
        "cohort": store.cohort,
        "synthetic": store.synthetic,
        "split_sha256": store.split["sha256"],
        "store_sha256": store.sha256,
        "settings_sha256": hash_json(resolved(preset)),
    }


def changed(preset: Preset, changes: Sequence[str], flag: str = "--set") -> Preset:
    """Return the preset with `FIELD=VALUE` changes; its name then lists them.

    Raises:
        InputError: not of that form, no such field, or a value of another type.
    """
    for change in changes:
        key = change.partition("=")[0]
        if key in MADE_BEFORE:
            raise InputError(
                f"{flag} {change}: training does not read {key}; {MADE_BEFORE[key]} decides it"
            )
        preset = dataclasses.replace(
            with_change(preset, change, flag=flag), name=f"{preset.name}+{change}"
        )
    return preset


def with_change(
    settings: Settings, change: str, fixed: Collection[str] = ("name",), flag: str = "--set"
) -> Settings:
    """Return a preset, of the stages or of a system, with one `FIELD=VALUE` change.

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
        listed = type(settings).__module__
        raise InputError(
            f"{flag} {change}: no field {key} that can be changed; python -m {listed} lists them"
        )
    value = _value(text)
    old = getattr(settings, key)
    try:
        if key in ANY_LENGTH and isinstance(value, tuple) and value:
            old = (ANY_LENGTH[key],) * len(value)
        value = value if old is None else _like(value, old)
    except TypeError:
        raise InputError(f"{flag} {change}: {key} must be of the kind of {old!r}") from None
    try:
        return dataclasses.replace(settings, **{key: value})
    except (ValueError, TypeError) as error:
        raise InputError(f"{flag} {change}: {error}") from None


def _like(value: Any, old: Any) -> Any:
    """Return `value` if it is of the kind of `old`, a whole number also for a float; else raise TypeError."""
    if isinstance(old, tuple):
        if not isinstance(value, tuple) or len(value) != len(old):
            raise TypeError
        return tuple(_like(item, one) for item, one in zip(value, old, strict=True))
    if isinstance(old, float) and type(value) is int:
        return float(value)
    if type(value) is not type(old):
        raise TypeError
    return value


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _check_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key in ("preset", "seed", "size", "split_sha256", "store_sha256", "settings_sha256"):
        if found.get(key) != wanted[key]:
            raise InputError(
                f"{path}: a run directory of another {key}: {found.get(key)}, not {wanted[key]}"
            )
