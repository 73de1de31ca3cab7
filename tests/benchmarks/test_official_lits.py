"""tests.benchmarks.official_lits: its count, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.official_lits import FIGURES
from tests.conftest import Command
from tests.evaluation.metrics.test_lits import CONTENT, SETS, VOLUMES

NAMES = ("set-043", "set-014")  # one that the script scored, one on which it raises


def write_sets(
    folder: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], object]
) -> Path:
    """Write two of the sets, changed."""
    sets = {name: json.loads(json.dumps(CONTENT["sets"][name])) for name in NAMES}
    arrays = {key: VOLUMES[key] for key in VOLUMES.files if key.split("/")[0] in NAMES}
    change(sets, arrays)
    (folder / "public.json").write_text(json.dumps({"sets": sets}))
    np.savez(folder / "public.npz", **arrays)
    return folder


def test_the_names_are_the_24_of_the_script() -> None:
    assert list(FIGURES) == CONTENT["metrics"]


def test_all_sets_agree(run_module: Command) -> None:
    done = run_module("tests.benchmarks.official_lits", "--sets", SETS)
    assert done.returncode == 0, done.stderr
    assert "43 of 43 sets equal in all 24 figures; 3 that it cannot score" in done.stdout


def _other_figure(sets: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    sets["set-043"]["text"]["liver_dice"] = "0.000"


def _scored_in_fact(sets: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    del sets["set-043"]["text"]
    sets["set-043"]["error"] = "ValueError"


@pytest.mark.parametrize("change", [_other_figure, _scored_in_fact])
def test_a_difference_is_exit_code_1(
    run_module: Command, tmp_path: Path, change: Callable[..., object]
) -> None:
    done = run_module("tests.benchmarks.official_lits", "--sets", write_sets(tmp_path, change))
    assert done.returncode == 1, done.stderr
    if change is _other_figure:
        assert "set-043: differs in liver_dice" in done.stdout
        assert "0 of 1 sets equal" in done.stdout


DAMAGED: dict[str, tuple[Callable[[dict[str, Any], dict[str, np.ndarray]], object], str]] = {
    "no figures": (
        lambda sets, arrays: sets["set-043"]["text"].clear(),
        "set-043: its text must hold the 24 figures",
    ),
    "a figure less": (
        lambda sets, arrays: sets["set-043"]["text"].pop("liver_voe"),
        "missing or unknown: liver_voe",
    ),
    "a figure more": (
        lambda sets, arrays: sets["set-043"]["text"].update(x="1"),
        "missing or unknown: x",
    ),
    "no text": (
        lambda sets, arrays: sets["set-043"].pop("text"),
        "set-043: damaged, it lacks 'text'",
    ),
    "no case": (lambda sets, arrays: sets["set-043"]["cases"].clear(), "set-043: needs cases"),
    "no spacing": (
        lambda sets, arrays: sets["set-043"]["cases"][0].pop("spacing"),
        "it lacks 'spacing'",
    ),
    "two axes": (
        lambda sets, arrays: sets["set-043"]["cases"][0]["spacing"].pop(),
        "a spacing of 3 axes",
    ),
    "no array": (
        lambda sets, arrays: arrays.pop("set-043/case-0/pred"),
        "public.npz: no array set-043/case-0/pred",
    ),
    "no set": (lambda sets, arrays: sets.clear(), "public.json: damaged, it holds no set"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_is_damaged_is_one_line(run_module: Command, tmp_path: Path, damage: str) -> None:
    change, message = DAMAGED[damage]
    done = run_module("tests.benchmarks.official_lits", "--sets", write_sets(tmp_path, change))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("keep", [0, 1000, -1000])
def test_files_that_cannot_be_read_are_one_line(
    run_module: Command, tmp_path: Path, keep: int
) -> None:
    if keep:
        shutil.copy(SETS / "public.json", tmp_path)
        (tmp_path / "public.npz").write_bytes((SETS / "public.npz").read_bytes()[:keep])
    done = run_module("tests.benchmarks.official_lits", "--sets", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
