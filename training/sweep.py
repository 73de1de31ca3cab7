"""Sweep the balanced loss's class weight of the second network, from 1 to the inverse frequency (paper 3.2.1).

    python -m training.sweep --store DIR --run DIR [--preset NAME] [--seed N]

Every weight starts from the cross-entropy weights of `training.tumor` and trains at the balanced phase's
learning rate for the preset's `sweep_epochs`. The result, on validation data only, is RUN/tumor/sweep.json.
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from data.command import run_command
from data.files import write_json
from training.run import Run, open_from_command_line
from training.tumor import train_tumor


def main() -> None:
    """Train every weight that is not finished yet, and write the result."""
    run, _ = open_from_command_line(
        "sweep", "Sweep the class weight of the balanced loss (second network)."
    )
    sweep(run)


def sweep(run: Run) -> None:
    """Train every weight that is not finished yet, and write RUN/tumor/sweep.json."""
    path = run.path / "tumor" / "sweep.json"
    if path.is_file():
        print("sweep: already done")
        return
    points = [sweep_point(run, ratio) for ratio in sweep_ratios(run)]
    write_json(path, {"schema": 1, "epochs": run.preset.sweep_epochs, "points": points})


def sweep_ratios(run: Run) -> list[float]:
    """Return the class weights of tumor to the rest, evenly in the logarithm from 1 to the inverse frequency."""
    pixels = run.record("tumor", "ce")["class_pixels"]
    inverse_frequency = (pixels["other"] + pixels["liver"]) / pixels["tumor"]
    return [float(ratio) for ratio in np.geomspace(1, inverse_frequency, run.preset.sweep_weights)]


def sweep_point(run: Run, ratio: float) -> dict[str, Any]:
    """Train one weight and return its validation figures and thresholds."""
    name = f"sweep_{ratio:.4g}"
    record = train_tumor(run, "balanced", name, epochs=run.preset.sweep_epochs, ratio=ratio)
    # Dozens of optimizers and TensorBoard logs say nothing more; the model and its record stay.
    shutil.rmtree(run.folder("tumor", name) / "tensorboard", ignore_errors=True)
    return {
        "ratio": ratio,
        "class_weights": record["class_weights"],
        "status": record["status"],
        "thresholds": record["thresholds"].get("tumor", dict.fromkeys(("0.5", "roc", "iou"))),
        **dict.fromkeys(("best_iou", "iou_at_half", "iou_at_roc", "auc", "rauc")),
        **record["validation"].get("tumor", {}),
    }


if __name__ == "__main__":
    run_command(main, "training.sweep")
