"""Where joint training starts, and with what settings: weights of the two terms, mask, fresh weights or a pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.command import InputError
from data.files import hash_file, read_json, write_json
from models.cascade import MASKS
from training.run import Run
from training.stages import check_starts

FILE = "settings.json"
"""Written into a phase's folder before its first epoch: an interrupted phase goes on with what it was begun with."""
PAIR = ("liver", "tumor")


@dataclass(frozen=True)
class Joint:
    """How the nested network is trained.

    Attributes:
        alpha, beta: weights of the liver's and the tumor's term; not negative, not both zero.
        mask: what stands for M in training, one of `models.cascade.MASKS`.
        start: run directory of the sequential pair to start from; None: fresh weights.

    Raises:
        ValueError: weights or mask of another kind.
    """

    alpha: float
    beta: float
    mask: str
    start: Path | None = None

    def __post_init__(self) -> None:
        for name, weight in (("alpha", self.alpha), ("beta", self.beta)):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"--{name} {weight}: must be a number from 0 up")
        if not self.alpha + self.beta:
            raise ValueError("--alpha 0 --beta 0: one of them must be above 0")
        if self.mask not in MASKS:
            raise ValueError(f"--mask {self.mask}: must be one of {', '.join(MASKS)}")

    def as_record(self) -> dict[str, Any]:
        """Return the settings as `record.json` holds them."""
        start = "scratch" if self.start is None else "pair"
        return {"alpha": self.alpha, "beta": self.beta, "mask": self.mask, "start": start}


def settings_of(run: Run, start: Path | None, **given: Any) -> Joint:
    """Return the preset's settings with those that are `given` (not None) in their place.

    Raises:
        InputError: they cannot be used.
    """
    preset = {name: getattr(run.preset, f"joint_{name}") for name in ("alpha", "beta", "mask")}
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return Joint(**{**preset, **chosen}, start=start)
    except ValueError as error:
        raise InputError(str(error)) from None


def of_preset(run: Run) -> Joint:
    """Return the settings that `training.all_stages` trains with: the preset's."""
    return settings_of(run, run.path if run.preset.joint_start == "pair" else None)


def begin(run: Run, name: str, phase: str, settings: Joint) -> dict[str, Any]:
    """Return what a phase is trained with, from its `settings.json`, or write that file.

    Returns:
        {"alpha", "beta", "mask", "start", "pair" (what tells it from others; None from fresh weights), "scaling" (of
        the second input), "begun_s1" (of the mask while training)}.

    Raises:
        InputError: the phase was begun with other settings; the pair, or `ce` before `balanced`, is missing or unfit.
    """
    path = run.folder("joint", name) / FILE
    if path.is_file():
        check_settings(run, name, settings)
        found: dict[str, Any] = read_json(path)
        if (
            settings.start is not None
            and phase == "ce"
            and identity_of(settings.start) != found["pair"]
        ):
            raise InputError(
                f"{path.parent}: begun from another pair than {settings.start}; take another --run"
            )
        return found
    found = {**settings.as_record(), "pair": None}
    if phase == "balanced":
        check_settings(run, "ce", settings)
        check_starts(run, "joint")
        ce = run.record("joint", "ce")
        found |= {"pair": ce["pair"], "scaling": ce["scaling"], "begun_s1": ce["mask_s1"]}
    elif settings.start is None:
        found |= {"scaling": scaling_of(run), "begun_s1": 0.5}
    else:
        record = pair_of(run, settings.start)
        found |= {
            "scaling": record["scaling"],
            "begun_s1": record["mask_s1"],
            "pair": identity_of(settings.start),
        }
    write_json(path, found)
    return found


def check_settings(run: Run, name: str, settings: Joint) -> None:
    """Check that a phase that was begun has these settings; one that was not has none yet.

    Raises:
        InputError: it has others.
    """
    folder = run.folder("joint", name)
    if not (folder / FILE).is_file():
        return
    wanted = settings.as_record()
    begun = read_json(folder / FILE, wanted)
    for key, value in wanted.items():
        if begun[key] != value:
            flag = "--init with the pair" if key == "start" else f"--{key} {begun[key]}"
            how = "give no --init" if (key, value) == ("start", "pair") else f"repeat {flag}"
            raise InputError(
                f"{folder}: begun with {key} {begun[key]}, not {value}; {how}, or take another --run"
            )


def own_start(run: Run) -> Path | None:
    """Return the run itself where its joint training was begun from its own pair (as `training.all_stages` does)."""
    path = run.folder("joint", "ce") / FILE
    if path.is_file() and all(run.is_done(stage, "ce") for stage in PAIR):
        begun = read_json(path, ("start", "pair"))
        if begun["start"] == "pair" and begun["pair"] == identity_of(run.path):
            return run.path
    return None


def scaling_of(run: Run) -> str:
    """Return the scaling of the second input where no pair says it: the preset's, or what its trial chose.

    Without a trial in the run it is "window", as the paper writes.
    """
    if run.preset.tumor_scaling != "choose":
        return run.preset.tumor_scaling
    path = run.path / "tumor" / "scaling.json"
    return str(read_json(path, ("chosen",))["chosen"]) if path.is_file() else "window"


def pair_of(run: Run, start: Path) -> dict[str, Any]:
    """Return the record of the pair's second network after cross-entropy.

    Raises:
        InputError: `start` holds no finished pair, or one of another split, size, window or architecture.
    """
    if not (start / "run.json").is_file():
        raise InputError(f"{start}: not a run directory (no run.json in it)")
    content = read_json(start / "run.json", ("size", "split_sha256", "store_sha256", "settings"))
    preset = run.preset
    wanted = {
        "size": run.store.size,
        "split_sha256": run.store.split["sha256"],
        "store_sha256": run.store.sha256,
    }
    for key, value in wanted.items():
        if content[key] != value:
            raise InputError(f"{start}: a pair of another {key}: {content[key]}, not {value}")
    for key in ("filters", "poolings"):
        if content["settings"][key] != getattr(preset, key):
            raise InputError(
                f"{start}: a pair of other {key}: {content['settings'][key]}, not {getattr(preset, key)}"
            )
    pair = Run(start, run.store, preset, run.seed)
    for stage, window_hu in zip(
        PAIR, (preset.liver_window_hu, preset.tumor_window_hu), strict=True
    ):
        record = pair.record(stage, "ce")
        if record["window_hu"] != list(window_hu):
            raise InputError(
                f"{start}: a pair of another window: {stage} {record['window_hu']} HU, not {list(window_hu)} HU"
            )
        check_starts(pair, stage)
        if not weights_of(start, stage).is_file():
            raise InputError(
                f"{weights_of(start, stage)}: no such file; train the {stage} stage again"
            )
        if record["status"] != "ok":
            print(
                f"joint: starts from a pair whose {stage} network is {record['status']}: {record['why']}"
            )
    return pair.record("tumor", "ce")


def weights_of(start: Path, stage: str) -> Path:
    """Return the file of a network of a pair after cross-entropy."""
    return start / stage / "ce" / "best.keras"


def identity_of(start: Path) -> dict[str, Any]:
    """Return what tells one pair from another: preset and seed of its run, and the hash of both networks' files."""
    content = read_json(start / "run.json", ("preset", "seed"))
    hashes = {f"{stage}_sha256": hash_file(weights_of(start, stage)) for stage in PAIR}
    return {"preset": content["preset"], "seed": content["seed"], **hashes}
