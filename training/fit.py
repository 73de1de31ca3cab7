"""The one fit loop: network, batches and loss become a trained network's folder.

The folder afterwards holds `best.keras` (probability model, epoch of the highest validation IoU),
`log.csv`, `curves.png`, `tensorboard/`; `training.network` then writes `record.json`, which marks
the phase finished.
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.backend import has_accelerator, keras
from data.batches import SliceBatches
from data.environment import describe_environment, read_peak_memory, reset_peak_memory
from models.cascade import trim_cascade_to_logits
from models.head import trim_to_logits
from training.callbacks import Checkpoint, CollapseWatch, EpochProgress
from training.curves import draw_curves
from training.metrics import BEST, make_metrics


@dataclass(frozen=True)
class Recipe:
    """What a phase is trained with.

    Attributes:
        target: "liver", "tumor", "classes" or "joint" (the nested network, `models.cascade`).
        loss: reads logits; for "joint" one by target.
        learning_rate: of the optimizer.
        momentum: of SGD (paper 2.4).
        epochs: in all, also after a resume.
        blind_iou: validation IoU by target of a network that sees nothing, to watch for collapse.
        data: names what it is trained on, for the title of the curves.
        title: what the log calls the phase.
        loss_weights: by target, for "joint": the paper's alpha and beta.
        optimizer: "sgd", or "adam", which takes no momentum.
        best_by: which IoU of `training.metrics` the best epoch is chosen by: that of the rule a
            system decides by.
    """

    target: str
    loss: keras.losses.Loss | dict[str, keras.losses.Loss]
    learning_rate: float
    momentum: float
    epochs: int
    blind_iou: dict[str, float]
    data: str = ""
    title: str = ""
    loss_weights: dict[str, float] | None = None
    optimizer: str = "sgd"
    best_by: str = BEST


class Timer(keras.callbacks.Callback):
    """Add the wall time of each epoch, validation included, to the checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.checkpoint.seconds += time.perf_counter() - self.started


def compile_for_training(model: keras.Model, recipe: Recipe) -> keras.Model:
    """Return the logits part of `model`, compiled with loss and IoU metrics."""
    trained = trim_cascade_to_logits(model) if recipe.target == "joint" else trim_to_logits(model)
    # XLA is about 10 times slower than oneDNN for these networks on a CPU; elsewhere Keras decides.
    on_cpu = keras.backend.backend() == "tensorflow" and not has_accelerator()
    if recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(recipe.learning_rate)
    else:
        optimizer = keras.optimizers.SGD(recipe.learning_rate, momentum=recipe.momentum)
    trained.compile(
        optimizer=optimizer,
        loss=recipe.loss,
        loss_weights=recipe.loss_weights,
        metrics=make_metrics(recipe.target, recipe.best_by),
        jit_compile=False if on_cpu else "auto",
    )
    # Variables that come up in the first step make TensorFlow trace it twice, a second a phase.
    trained.optimizer.build(trained.trainable_variables)
    return trained


def fit_phase(
    model: keras.Model, train: SliceBatches, validation: SliceBatches, recipe: Recipe, folder: Path
) -> dict[str, Any]:
    """Train `model` until `recipe.epochs`, from where an earlier call stopped.

    The model ends with the weights of its best epoch by validation IoU. Training stops where the
    loss is not finite; a first epoch that ends so leaves no best one (`best_epoch` -1).

    Args:
        model: with probabilities; its weights are trained.
        train, validation: batches of the two sets.
        recipe: how it is trained.
        folder: where to.

    Returns:
        {"epochs", "diverged", "best_epoch", "best_validation_iou", "train_s", "train_slices",
        "validation_slices", "parameters", "peak_memory_mib", "environment"}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reset_peak_memory()
    trained = compile_for_training(model, recipe)
    checkpoint = Checkpoint(folder, model, recipe.best_by)
    checkpoint.restore(trained)
    if checkpoint.epochs_done:
        print(f"goes on after epoch {checkpoint.epochs_done} of {recipe.epochs}")
    train.go_to_epoch(checkpoint.epochs_done)
    if checkpoint.epochs_done < recipe.epochs:
        # The progress reads what the checkpoint logged, so it comes after.
        callbacks = [
            Timer(checkpoint),
            checkpoint,
            EpochProgress(checkpoint, recipe.title, recipe.epochs),
        ]
        trained.fit(
            train,
            validation_data=validation,
            initial_epoch=checkpoint.epochs_done,
            epochs=recipe.epochs,
            callbacks=[*callbacks, CollapseWatch(recipe.blind_iou), *_open_tensorboard(folder)],
            verbose=0,
            shuffle=False,
        )
    if checkpoint.best_epoch > 0:
        model.load_weights(folder / "best.keras")
    draw_curves(folder, recipe.data)
    return {
        "epochs": checkpoint.epochs_done,
        "diverged": checkpoint.diverged,
        "best_epoch": checkpoint.best_epoch,
        "best_validation_iou": checkpoint.best_iou,
        "train_s": round(checkpoint.seconds, 1),
        "train_slices": len(train.slices),
        "validation_slices": len(validation.slices),
        "parameters": model.count_params(),
        "peak_memory_mib": read_peak_memory(),
        "environment": describe_environment(),
    }


def _open_tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    # Keras writes TensorBoard's files through TensorFlow; on another backend that may be missing.
    if all(importlib.util.find_spec(name) for name in ("tensorflow", "tensorboard")):
        return [keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]
    return []
