"""Train the sequential model's first network L: liver against the rest (paper 2.2).

    python -m training.liver --store DIR --run DIR [--preset NAME] [--phase ce|balanced] [--seed N]

Each phase ends by writing the liver masks M = [L(X) > s1] of the training and validation cases, which the
second network trains on (paper 2.3), and the median HU inside each case's mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data.backend import keras, load_network
from data.batches import whole_slice_loader
from data.command import InputError, run_command
from data.masks import finish_masks, liver_masks, median_of_liver, write_masks
from models.inference import predict_slices
from training.run import Run, open_from_command_line
from training.stages import train_phase


def main() -> None:
    """Train the phases that are not finished yet, and write their masks."""
    train(
        *open_from_command_line(
            "liver", "Train the first network of the sequential model (paper 2.2)."
        )
    )


def train(run: Run, phases: Sequence[str]) -> None:
    """Train those of the phases that are not finished yet, and write their masks.

    Raises:
        InputError: a phase diverged.
    """
    load = whole_slice_loader(run.store, "liver", run.preset.liver_window_hu)
    for phase in phases:
        record = train_phase(
            run, "liver", phase, load, extra={"window_hu": list(run.preset.liver_window_hu)}
        )
        if not (run.folder("liver", phase) / "masks" / "masks.json").is_file():
            if record["status"] == "diverged":
                raise InputError(
                    f"{run.folder('liver', phase)}: diverged, it has no mask to give to the second network"
                )
            folder = run.folder("liver", phase)
            s1 = record["thresholds"]["liver"][run.preset.mask_threshold_rule]
            cases = run.store.cases_of("train") + run.store.cases_of("validation")
            find_livers(run, load_network(folder / "best.keras"), folder / "masks", s1, cases)


def find_livers(
    run: Run, model: keras.Model, folder: Path, s1: float, cases: Sequence[str]
) -> None:
    """Write the masks [L(X) > s1] of every slice of these cases into `folder`."""
    predict = partial(predict_slices, model)
    medians: dict[str, float | None] = {}
    for case in cases:
        image = run.store.image(case)
        masked = liver_masks(image, predict, s1, run.preset.liver_window_hu)
        medians[case] = median_of_liver(write_masks(folder, case, len(image), masked))
    finish_masks(folder, s1, medians)
    print(
        f"{folder.parent.parent.name} {folder.parent.name}: masks of {len(medians)} cases at s1 = {s1:.3f}"
    )


if __name__ == "__main__":
    run_command(main, "training.liver")
