"""Milliseconds of a training step per slice, by precision and batch size, on the machine at hand.

python -m tests.benchmarks.training [--size 128] [--filters 16] [--slices 64] [--xla]
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from data.backend import keras
from data.command import Parser, run_command
from data.environment import read_processor_name
from models.unet import build_unet
from training.fit import Recipe, compile_for_training
from training.losses import BalancedBinaryCrossentropy
from training.presets import find_preset
from training.systems import SYSTEMS

REPEATS = 3


def main() -> None:
    """Print a line per precision and batch size."""
    parser = Parser(
        prog="tests.benchmarks.training", description="Time training steps of the U-Net."
    )
    parser.add_argument("--size", type=int, default=128, help="rows and columns of a slice")
    parser.add_argument("--filters", type=int, default=16, help="filters of the first level")
    parser.add_argument("--slices", type=int, default=64, help="slices per timed repeat")
    parser.add_argument(
        "--xla", action="store_true", help="compile with XLA, which training does not on a CPU"
    )
    flags = parser.parse_args()
    print(
        f"{read_processor_name()}, backend {keras.backend.backend()}, {flags.size} px, "
        f"{flags.filters} filters{', XLA' if flags.xla else ''}"
    )
    for precision in ("float32", "mixed_bfloat16"):
        for batch_size in (1, 2, 4):
            best, median = time_steps(
                flags.size, flags.filters, flags.slices, precision, batch_size, flags.xla
            )
            times = f"best {best:6.1f}, median {median:6.1f} ms per slice"
            print(f"{precision:15} batch {batch_size}: {times}", flush=True)


def time_steps(
    size: int, filters: int, slices: int, precision: str, batch_size: int, xla: bool = False
) -> tuple[float, float]:
    """Time training steps of the U-Net on noise, over `REPEATS` epochs after one to warm up.

    Args:
        size: rows and columns of a slice.
        filters: of the first level.
        slices: an epoch.
        precision: of the network.
        batch_size: slices a step.
        xla: compile with XLA.

    Returns:
        Best and median milliseconds per slice.
    """
    keras.config.set_dtype_policy(precision)
    preset = dataclasses.replace(find_preset("paper"), filters=filters)
    widths = SYSTEMS["one_step"].under(preset).list_options("classes")["widths"]
    recipe = Recipe("liver", BalancedBinaryCrossentropy(), 0.001, preset.momentum, 1, {})
    trained = compile_for_training(build_unet(size, widths=widths), recipe)
    trained.jit_compile = trained.jit_compile or xla
    inputs = np.random.default_rng(0).random((slices, size, size, 1), np.float32)
    return time_epochs(trained, inputs, (inputs > 0.5).astype(np.float32), batch_size, slices)


def time_epochs(
    trained: keras.Model, inputs: Any, truth: Any, batch_size: int, slices: int
) -> tuple[float, float]:
    """Time a compiled model over `REPEATS` epochs after one to warm up.

    Args:
        trained: the model.
        inputs: of an epoch.
        truth: likewise.
        batch_size: slices a step.
        slices: of an epoch.

    Returns:
        Best and median milliseconds per slice.
    """
    seconds = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        trained.fit(inputs, truth, batch_size=batch_size, verbose=0)
        seconds.append(time.perf_counter() - started)
    timed = np.sort(seconds[1:]) * 1000 / slices
    return float(timed[0]), float(np.median(timed))


if __name__ == "__main__":
    run_command(main, "tests.benchmarks.training")
