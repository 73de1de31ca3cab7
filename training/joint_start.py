"""Where joint training starts, and with what: fresh weights or a pair, and `settings.json`.

The file lies in a phase's folder before its first epoch: an interrupted phase goes on with what it
was begun with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.command import InputError
from data.files import hash_file, read_json, write_json
from training.run import Run
from training.systems.base import Step
from training.systems.gruber import PAIR, Joint, Sequential, chosen_scaling

FILE = "settings.json"
FLAGS = ("alpha", "beta", "mask")


def list_settings(system: Joint) -> dict[str, Any]:
    """Return the settings of joint training as `settings.json` and `record.json` hold them."""
    start = "scratch" if system.pair_path is None else "pair"
    return {**{key: getattr(system, f"joint_{key}") for key in FLAGS}, "start": start}


def begin(step: Step, system: Joint) -> dict[str, Any]:
    """Return what a phase is trained with, from its `settings.json`, or write that file.

    Returns:
        {"alpha", "beta", "mask", "start", "pair" (what tells it from others; None from fresh
        weights), "scaling" (of the second input), "begun_s1" (of the mask while training)}.

    Raises:
        InputError: the phase was begun with other settings; the pair, or `ce` before `balanced`, is
            missing or unfit.
    """
    run, path, start = step.run, step.folder / FILE, system.pair_path
    if path.is_file():
        check_settings(step, system)
        begun: dict[str, Any] = read_json(path)
        if start is not None and step.phase == "ce" and identify_pair(start) != begun["pair"]:
            raise InputError(
                f"{path.parent}: begun from another pair than {start}; take another --run"
            )
    else:
        begun = {**list_settings(system), "pair": None}
        if step.phase == "balanced":
            check_settings(step._replace(name="ce"), system)
            run.check_weights(step.label, step.network, "ce")
            ce = run.record(step.label, step.network, "ce")
            begun |= {"pair": ce["pair"], "scaling": ce["scaling"], "begun_s1": ce["mask_s1"]}
        elif start is None:
            begun |= {"scaling": find_scaling(run, system), "begun_s1": 0.5}
        else:
            tumor = check_pair(run, start)["inputs"]["tumor"]
            begun |= {"scaling": tumor["scaling"], "begun_s1": tumor["mask_s1"]}
            begun |= {"pair": identify_pair(start)}
        write_json(path, begun)
    origin = "joint/nested/ce" if step.phase == "balanced" else start or "fresh weights"
    print(f"{step.title}: alpha {begun['alpha']:g}, beta {begun['beta']:g}, from {origin}")
    return begun


def check_settings(step: Step, system: Joint) -> None:
    """Check that a phase that was begun has these settings; one that was not has none yet.

    Raises:
        InputError: it has others.
    """
    if not (step.folder / FILE).is_file():
        return
    settings = list_settings(system)
    begun = read_json(step.folder / FILE, settings)
    for key, value in settings.items():
        if begun[key] != value:
            flag = "--init with the pair" if key == "start" else f"--{key} {begun[key]}"
            how = "give no --init" if (key, value) == ("start", "pair") else f"repeat {flag}"
            raise InputError(
                f"{step.folder}: begun with {key} {begun[key]}, not {value}; {how}, "
                "or take another --run"
            )


def find_own_start(run: Run) -> Path | None:
    """Return the run itself where its joint training was begun from its own pair."""
    path = run.folder("joint", "nested", "ce") / FILE
    if path.is_file() and all(run.is_done("sequential", part, "ce") for part in PAIR):
        begun = read_json(path, ("start", "pair"))
        if begun["start"] == "pair" and begun["pair"] == identify_pair(run.path):
            return run.path
    return None


def find_scaling(run: Run, system: Joint) -> str:
    """Return the scaling of the second input where no pair says it.

    It is the preset's, or what its trial chose; without a trial in the run it is "window", as the
    paper writes.
    """
    if system.tumor_scaling != "choose":
        return system.tumor_scaling
    return chosen_scaling(run.path / "sequential" / "tumor" / "scaling.json") or "window"


def check_pair(run: Run, start: Path) -> dict[str, Any]:
    """Return the record of a pair's second network after cross-entropy.

    Args:
        run: the run that starts from it.
        start: the run directory that holds it.

    Raises:
        InputError: `start` holds no finished pair, or one of another split, size, window or
            architecture.
    """
    if not (start / "run.json").is_file():
        raise InputError(f"{start}: not a run directory (no run.json in it)")

    # The pair's networks must fit these slices and these networks.
    content = read_json(start / "run.json", ("size", "split_sha256", "store_sha256", "settings"))
    store, system = run.store, Sequential().under(run.preset)
    needed = {
        "size": store.size,
        "split_sha256": store.split["sha256"],
        "store_sha256": store.sha256,
    }
    for key, value in needed.items():
        if content[key] != value:
            raise InputError(f"{start}: a pair of another {key}: {content[key]}, not {value}")
    for key in ("filters", "poolings", "batch_normalization"):
        if content["settings"].get(key) != getattr(system, key):
            raise InputError(
                f"{start}: a pair of other {key}: "
                f"{content['settings'].get(key)}, not {getattr(system, key)}"
            )

    # Both must be finished, with weights, on inputs made in these windows.
    pair = Run(start, store, run.preset, run.seed)
    for part in PAIR:
        record = pair.record("sequential", part, "ce")
        window_hu = record["inputs"][part]["window_hu"]
        needed_hu = system.inputs_of(part)[part]["window_hu"]
        if window_hu != needed_hu:
            raise InputError(
                f"{start}: a pair of another window: {part} {window_hu} HU, not {needed_hu} HU"
            )
        pair.check_weights("sequential", part, "ce")
        if not weights_of(start, part).is_file():
            raise InputError(
                f"{weights_of(start, part)}: no such file; train the {part} network again"
            )
        if record["status"] != "ok":
            print(
                f"joint: starts from a pair whose {part} network is {record['status']}: "
                f"{record['why']}"
            )
    return pair.record("sequential", "tumor", "ce")


def weights_of(start: Path, part: str) -> Path:
    """Return the file of a network of a pair after cross-entropy."""
    return start / "sequential" / part / "ce" / "best.keras"


def identify_pair(start: Path) -> dict[str, Any]:
    """Return what tells a pair from others: preset and seed of its run, hashes of its networks."""
    content = read_json(start / "run.json", ("preset", "seed"))
    hashes = {f"{part}_sha256": hash_file(weights_of(start, part)) for part in PAIR}
    return {"preset": content["preset"], "seed": content["seed"], **hashes}
