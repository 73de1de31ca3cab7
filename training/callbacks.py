"""Callbacks of the fit loop: resume, log, progress, watch for collapse."""

from __future__ import annotations

import csv
import math
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data.backend import keras
from data.files import read_json, replace_file, write_json, write_text
from data.progress import open_bar, print_line
from training.metrics import BEST


class Checkpoint(keras.callbacks.Callback):
    """Write the log, the best model and all that a resume needs after each epoch.

    Writes into `folder`: `log.csv` (a row an epoch), `best.keras` (the probability model of the
    epoch with the highest validation IoU), `last-<epoch>.weights.h5` (weights and optimizer) and
    `state.json` (dropout seeds and progress; written last, an epoch counts once it is there).
    Keras's own BackupAndRestore and ModelCheckpoint know neither the dropout's state nor the tie.

    Args:
        folder: where to.
        probability_model: shares its weights with the trained one.
        best_by: which IoU of `training.metrics`; among equal epochs, as those that find nothing,
            the highest IoU at the best threshold decides.
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
        """Load weights, optimizer and log of an unfinished fit into the compiled `model`."""
        state_path = self.folder / "state.json"
        if not state_path.is_file():
            return
        state = read_json(
            state_path,
            ("epochs_done", "best_iou", "best_tie", "best_epoch", "seconds", "dropout_seeds"),
        )
        model.load_weights(self.folder / f"last-{state['epochs_done']}.weights.h5")
        for variable, seed in zip(_list_dropout_seeds(model), state["dropout_seeds"], strict=True):
            variable.assign(seed)
        self.rows = read_log(self.folder / "log.csv")[: state["epochs_done"]]
        self.best_iou, self.best_epoch = state["best_iou"], state["best_epoch"]
        self.best_tie = state["best_tie"]
        self.seconds = state["seconds"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch; keep its weights where it is the best one."""
        row: dict[str, Any] = {"epoch": epoch + 1}
        row.update({key: float(value) for key, value in (logs or {}).items()})
        row["val_iou"] = average_iou(row, self.best_by)
        self.rows.append(row)
        if not math.isfinite(row["loss"]):
            print_line(f"epoch {epoch + 1}: the loss is not finite, training stops")
            self.model.stop_training = True
            self._write_log()
            return  # weights that are not finite are no state to resume from
        tie = average_iou(row)
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
        # Weights carry their epoch in the name: a kill between the writes leaves a matching pair.
        with replace_file(self.folder / f"last-{self.epochs_done}.weights.h5") as temporary:
            self.model.save_weights(temporary)
        # Keras leaves the dropout's random state out of the weights.
        seeds = [
            keras.ops.convert_to_numpy(variable).tolist()
            for variable in _list_dropout_seeds(self.model)
        ]
        state = {
            "epochs_done": self.epochs_done,
            "best_epoch": self.best_epoch,
            "best_iou": self.best_iou,
            "best_tie": self.best_tie,
            "seconds": self.seconds,
            "dropout_seeds": seeds,
        }
        write_json(self.folder / "state.json", state)
        (self.folder / f"last-{self.epochs_done - 1}.weights.h5").unlink(missing_ok=True)


def _list_dropout_seeds(model: keras.Model) -> list[Any]:
    return [
        variable for variable in model.variables if variable.path.endswith("seed_generator_state")
    ]


def average_iou(row: dict[str, Any], which: str = BEST) -> float:
    """Return a log row's validation IoU, averaged over liver and tumor.

    `which` names the IoU of `training.metrics`.
    """
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


class EpochProgress(keras.callbacks.Callback):
    """Show the epoch, its loss, its validation IoU and the time left.

    A bar on a terminal; elsewhere a line an epoch.

    Args:
        checkpoint: what it reads; comes before it in the list of callbacks.
        title: of the phase.
        epochs: in all.
    """

    def __init__(self, checkpoint: Checkpoint, title: str, epochs: int) -> None:
        super().__init__()
        self.checkpoint, self.title, self.epochs = checkpoint, title, epochs
        self.bar: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the bar, which counts steps."""
        self.started, self.epochs_before = time.perf_counter(), self.checkpoint.epochs_done
        if sys.stderr.isatty():
            steps = self.params["steps"] or 1
            done = self.epochs_before * steps
            self.bar = open_bar(self.epochs * steps, self.title, unit="step", n_done=done)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance the bar."""
        if self.bar is not None:
            self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Say what the epoch reached, and how long the rest takes at this pace."""
        row = self.checkpoint.rows[-1]
        text = f"epoch {epoch + 1} of {self.epochs}, loss {row['loss']:.4f}, "
        text += f"validation IoU {row['val_iou']:.4f}"
        if self.bar is not None:
            self.bar.set_description_str(f"{self.title}: {text}")
            return
        done = self.checkpoint.epochs_done - self.epochs_before
        left = (time.perf_counter() - self.started) / done * (self.epochs - epoch - 1)
        print(f"{self.title}: {text}, {tqdm.format_interval(left)} left", flush=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


class CollapseWatch(keras.callbacks.Callback):
    """Say in the log when an epoch ends with a network that sees nothing.

    Args:
        blind_iou: by target, the IoU of a network that sees nothing
            (`training.validation.compute_blind_ious`).
    """

    def __init__(self, blind_iou: dict[str, float]) -> None:
        super().__init__()
        self.blind_iou = blind_iou

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare the epoch's IoU with a blind network's."""
        for target, blind in self.blind_iou.items():
            reached = float((logs or {})[f"val_{target}_iou"])
            if reached <= 1.1 * blind:
                print_line(
                    f"epoch {epoch + 1}: {target} IoU {reached:.4f}, "
                    "no better than a network that sees nothing"
                )


def read_log(path: Path) -> list[dict[str, float]]:
    """Read `log.csv`: a dictionary an epoch."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
