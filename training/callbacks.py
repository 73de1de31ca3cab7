"""Callbacks of the fit loop: checkpoint and resume, the log, the watch for collapse."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from data.backend import keras
from data.files import read_json, replace_file, write_json, write_text
from training.metrics import BEST


class Checkpoint(keras.callbacks.Callback):
    """After each epoch: the log, the best model so far, and all that is needed to resume.

    Writes into `folder`: `log.csv` (a row an epoch), `best.keras` (the probability model of the epoch with
    the highest validation IoU), `last-<epoch>.weights.h5` (weights and optimizer) and `state.json` (dropout
    seeds and progress; written last, an epoch counts once it is there). `best_by`: which IoU of `training.metrics`; of
    epochs that are equal in it, as those that find nothing are, the one with the highest IoU at the best threshold.
    """

    def __init__(self, folder: Path, probability_model: keras.Model, best_by: str = BEST) -> None:
        super().__init__()
        self.folder, self.probability_model, self.best_by = folder, probability_model, best_by
        self.rows: list[dict[str, Any]] = []
        self.best_iou, self.best_epoch, self.seconds = -1.0, -1, 0.0
        self.best_tie = -1.0

    @property
    def epochs_done(self) -> int:
        """Epochs that have ended."""
        return len(self.rows)

    @property
    def diverged(self) -> bool:
        """Whether the last epoch ended with a loss that is not finite."""
        return bool(self.rows) and not math.isfinite(self.rows[-1]["loss"])

    def restore(self, model: keras.Model) -> None:
        """Load weights, optimizer and log of an unfinished fit into the compiled `model`, if there is one."""
        state_path = self.folder / "state.json"
        if not state_path.is_file():
            return
        state = read_json(
            state_path,
            ("epochs_done", "best_iou", "best_tie", "best_epoch", "seconds", "dropout_seeds"),
        )
        model.load_weights(self.folder / f"last-{state['epochs_done']}.weights.h5")
        for variable, seed in zip(_dropout_seeds(model), state["dropout_seeds"], strict=True):
            variable.assign(seed)
        self.rows = read_log(self.folder / "log.csv")[: state["epochs_done"]]
        self.best_iou, self.best_epoch = state["best_iou"], state["best_epoch"]
        self.best_tie = state["best_tie"]
        self.seconds = state["seconds"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row: dict[str, Any] = {"epoch": epoch + 1}
        row.update({key: float(value) for key, value in (logs or {}).items()})
        row["val_iou"] = validation_iou(row, self.best_by)
        self.rows.append(row)
        if not math.isfinite(row["loss"]):
            print(f"epoch {epoch + 1}: the loss is not finite, training stops")
            self.model.stop_training = True
            self._write_log()
            return  # weights that are not finite are no state to resume from
        tie = validation_iou(row)
        if (row["val_iou"], tie) > (self.best_iou, self.best_tie):
            self.best_iou, self.best_tie, self.best_epoch = row["val_iou"], tie, epoch + 1
            with replace_file(self.folder / "best.keras") as temporary:
                self.probability_model.save(temporary)
        self._write_log()
        self._write_state()

    def _write_log(self) -> None:
        lines = [",".join(self.rows[0])]
        lines += [",".join(f"{value:.6g}" for value in row.values()) for row in self.rows]
        write_text(self.folder / "log.csv", "\n".join(lines) + "\n")

    def _write_state(self) -> None:
        # The weights carry their epoch in the name: a kill between the two writes leaves a matching pair.
        with replace_file(self.folder / f"last-{self.epochs_done}.weights.h5") as temporary:
            self.model.save_weights(temporary)
        state: dict[str, Any] = {"epochs_done": self.epochs_done, "best_epoch": self.best_epoch}
        state |= {"best_iou": self.best_iou, "best_tie": self.best_tie}
        # Keras leaves the dropout's random state out of the weights.
        seeds = [
            keras.ops.convert_to_numpy(variable).tolist() for variable in _dropout_seeds(self.model)
        ]
        write_json(
            self.folder / "state.json", {**state, "seconds": self.seconds, "dropout_seeds": seeds}
        )
        (self.folder / f"last-{self.epochs_done - 1}.weights.h5").unlink(missing_ok=True)


def _dropout_seeds(model: keras.Model) -> list[Any]:
    return [
        variable for variable in model.variables if variable.path.endswith("seed_generator_state")
    ]


def validation_iou(row: dict[str, Any], which: str = BEST) -> float:
    """Return the mean of the row's validation IoU over its targets (liver, tumor); `which` of `training.metrics`."""
    values = [
        value for key, value in row.items() if key.startswith("val_") and key.endswith(f"_{which}")
    ]
    return sum(values) / len(values)


def discard_resume_files(folder: Path) -> None:
    """Remove what only an unfinished fit needs."""
    (folder / "state.json").unlink(missing_ok=True)
    # A process that was killed while it saved leaves a hidden part of a file.
    for path in [*folder.glob("last-*.weights.h5"), *folder.glob(".partial-*")]:
        path.unlink()


class CollapseWatch(keras.callbacks.Callback):
    """Say in the log when an epoch ends with a network that sees nothing.

    Args:
        blind_iou: by target, the IoU of a network that sees nothing (`training.stages.blind_ious`).
    """

    def __init__(self, blind_iou: dict[str, float]) -> None:
        super().__init__()
        self.blind_iou = blind_iou

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for target, blind in self.blind_iou.items():
            reached = float((logs or {})[f"val_{target}_iou"])
            if reached <= 1.1 * blind:
                print(
                    f"epoch {epoch + 1}: {target} IoU {reached:.4f}, no better than a network that sees nothing"
                )


def read_log(path: Path) -> list[dict[str, float]]:
    """Read `log.csv`: a dictionary an epoch."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
