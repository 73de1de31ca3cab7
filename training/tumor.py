"""Train the sequential model's second network T: tumor on the masked, windowed slice (paper 2.2, 2.3).

    python -m training.tumor --store DIR --run DIR [--preset NAME] [--phase ce|balanced] [--seed N]

Its input is M * w(X) with M the first network's thresholded prediction, never the reference mask. A phase
uses the masks of the same phase of `training.liver`, which must be finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.batches import Load, Slice, masked_slice_loader
from data.command import run_command
from data.files import read_json, write_json
from data.masks import LiverMasks
from training.run import Run, open_from_command_line
from training.stages import train_phase

SCALINGS = ("window", "liver_median")


def main() -> None:
    """Choose the scaling of the input if the preset asks for it, then train the phases not finished yet."""
    train(
        *open_from_command_line(
            "tumor", "Train the second network of the sequential model (paper 2.2)."
        )
    )


def train(run: Run, phases: Sequence[str]) -> None:
    """Train those of the phases that are not finished yet."""
    for phase in phases:
        train_tumor(run, phase, phase)


def train_tumor(
    run: Run,
    phase: str,
    folder_name: str,
    scaling: str | None = None,
    epochs: int | None = None,
    ratio: float | None = None,
) -> dict[str, Any]:
    """Train one phase of the second network; the arguments are those of `training.stages.train_phase`."""
    run.record("liver", phase)
    masks = LiverMasks(run.folder("liver", phase) / "masks")
    scaling = scaling or choose_scaling(run)
    window_hu = run.preset.tumor_window_hu
    load: Load = masked_slice_loader(run.store, masks, scaling, window_hu)

    def mask(chosen: Slice) -> np.ndarray:
        return masks.mask(chosen[0])[chosen[1]]

    extra = {"scaling": scaling, "window_hu": list(window_hu), "mask_s1": masks.s1}
    return train_phase(
        run,
        "tumor",
        phase,
        load,
        folder_name=folder_name,
        epochs=epochs,
        ratio=ratio,
        mask=mask,
        extra=extra,
    )


def choose_scaling(run: Run) -> str:
    """Return the scaling of the second input: the preset's, or the better one of a trial on validation data.

    The trial trains the network with each scaling for the preset's `trial_epochs` with cross-entropy, and
    takes the one of higher validation IoU. It is written to RUN/tumor/scaling.json and made once.
    """
    if run.preset.tumor_scaling != "choose":
        return run.preset.tumor_scaling
    path: Path = run.path / "tumor" / "scaling.json"
    if not path.is_file():
        reached, status = {}, {}
        for scaling in SCALINGS:
            record = train_tumor(run, "ce", f"trial_{scaling}", scaling, run.preset.trial_epochs)
            reached[scaling] = record["validation"].get("tumor", {"best_iou": 0.0})["best_iou"]
            status[scaling] = record["status"]
        # A trial that collapsed or diverged wins only over another one that did.
        best = max(SCALINGS, key=lambda scaling: (status[scaling] == "ok", reached[scaling]))
        content = {"schema": 1, "epochs": run.preset.trial_epochs, "validation_iou": reached}
        content |= {"status": status, "chosen": best}
        write_json(path, content)
        print(f"tumor: scaling {best} chosen, validation IoU {reached}")
    return str(read_json(path)["chosen"])


if __name__ == "__main__":
    run_command(main, "training.tumor")
