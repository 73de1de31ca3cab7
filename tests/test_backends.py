"""Models, losses, batches and the fit loop on Keras's other backends, where they are installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from data.store import Store
from tests.conftest import Command

CHANGES = ("size=32", "filters=4", "poolings=2", "liver_epochs=(2,1)", "one_step_epochs=(1,1)")
SMALL = ("--preset", "smoke", *(part for change in CHANGES for part in ("--set", change)))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_smoke_training_runs_on_another_backend(
    backend: str, store: Store, tmp_path: Path, run_module: Command
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed (it is no requirement)")
    arguments = (
        "--store",
        store.path,
        "--run",
        tmp_path / "run",
        *SMALL,
        "--set",
        "tumor_epochs=(1,1)",
    )
    for stage, phases in (
        ("one_step", ()),
        ("liver", ("--phase", "ce")),
        ("tumor", ("--phase", "ce")),
    ):
        # JAX compiles each fit anew, so it trains one network; a third of the time without
        # its optimizations.
        flags = (*arguments, *phases, "--set", "tumor_scaling='window'")
        done = run_module(
            f"training.{stage}", *flags, KERAS_BACKEND=backend, JAX_DISABLE_MOST_OPTIMIZATIONS="1"
        )
        assert done.returncode == 0, done.stderr
    for phase in ("one_step/classes/balanced", "sequential/tumor/ce"):
        record = json.loads((tmp_path / "run" / phase / "record.json").read_text())
        assert record["fit"]["environment"]["keras_backend"] == backend
