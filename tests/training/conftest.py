"""A tiny recipe for the small cohort: 32 px, 4 filters, few epochs."""

from __future__ import annotations

from pathlib import Path

from data.store import Store
from training.run import Run, open_run

TINY = (
    "size=32",
    "precision=float32",
    "filters=4",
    "poolings=2",
    "liver_epochs=(4,2)",
    "tumor_epochs=(2,1)",
    "one_step_epochs=(2,1)",
    "trial_epochs=1",
    "dropout=0.2",
    "batch_size=1",
    "learning_rate_ce=0.02",
    "momentum=0.9",
)


def open_tiny(path: Path, store: Store, *changes: str) -> Run:
    """Open a run directory with the tiny recipe and further changes of the preset."""
    return open_run(path, store.path, "smoke", 0, (*TINY, *changes), needs_tumor=False)
