"""What joint training costs a step beside the pair: time per slice and host memory.

    python -m tests.benchmarks.joint [--size 128] [--filters 16] [--batch 2] [--precision NAME]
    [--slices 64]

Both networks of the pair are the same U-Net, so one is timed. Every measurement has a process of
its own, whose memory nothing else has raised; it is that of the host, not of a GPU. Slices and
masks are noise.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from data.backend import choose_precision, keras
from data.command import InputError, Parser, run_command
from data.environment import count_cores, read_peak_memory, read_processor_name, reset_peak_memory
from models.cascade import build_cascade
from models.unet import build_unet
from tests.benchmarks.training import time_epochs
from training.fit import Recipe, compile_for_training
from training.losses import BalancedBinaryCrossentropy
from training.presets import find_preset
from training.systems import SYSTEMS

WHAT = ("liver", "joint")


def main() -> None:
    """Print time and memory of one network, of the pair, and of both networks in one."""
    parser = Parser(
        prog="tests.benchmarks.joint",
        description="Time and memory of joint training beside the pair.",
    )
    parser.add_argument("--size", type=int, default=128, help="rows and columns of a slice")
    parser.add_argument("--filters", type=int, default=16, help="filters of the first level")
    parser.add_argument("--batch", type=int, default=2, help="slices a step")
    parser.add_argument(
        "--precision", choices=("float32", "mixed_bfloat16"), default="mixed_bfloat16"
    )
    parser.add_argument("--slices", type=int, default=64, help="slices per timed repeat")
    flags = parser.parse_args()
    for name in ("size", "filters", "batch", "slices"):
        if getattr(flags, name) < 1:
            raise InputError(f"--{name} {getattr(flags, name)}: must be at least 1")
    if flags.size % 16:
        raise InputError(f"--size {flags.size}: must be a multiple of 16")
    precision = choose_precision(flags.precision)
    print(
        f"{count_cores()} cores of {read_processor_name()}, backend {keras.backend.backend()}, "
        f"{flags.size} px, {flags.filters} filters, batch {flags.batch}, {precision}"
    )
    settings = (flags.size, flags.filters, flags.batch, precision, flags.slices)
    measures = {what: run_in_own_process(what, *settings) for what in WHAT}
    for name, what, times in (
        ("one network", "liver", 1),
        ("the pair, one after the other", "liver", 2),
        ("joint", "joint", 1),
    ):
        best, median, before, peak = measures[what]
        print(
            f"{name:30} best {best * times:7.1f}, median {median * times:7.1f} ms a slice; "
            f"host memory {before:,.0f} MiB before the first step, {peak:,.0f} MiB at most"
        )


def run_in_own_process(what: str, *settings: Any) -> tuple[float, float, float, float]:
    """Return what `measure_training` finds in a new process.

    Raises:
        InputError: the system ended that process, as it does where memory is short.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure_training, what, *settings).result()
    except BrokenProcessPool:
        raise InputError(
            f"{what}: its process was ended, probably for want of memory; take less of --size"
        ) from None


def measure_training(
    what: str, size: int, filters: int, batch_size: int, precision: str, slices: int
) -> tuple[float, float, float, float]:
    """Measure the training of one network or of both.

    Args:
        what: "liver" or "joint".
        size: rows and columns of a slice.
        filters: of the first level.
        batch_size: slices a step.
        precision: of the networks.
        slices: how many are timed.

    Returns:
        Best and median milliseconds per slice (`time_epochs`), MiB before the first step and at
        most.
    """
    keras.config.set_dtype_policy(precision)
    trained = compile_networks(what, size, filters)
    noise = np.random.default_rng(0).random((slices, size, size, 1), np.float32)
    inputs: Any = noise
    truth: Any = (noise > 0.5).astype(np.float32)
    if what == "joint":
        inputs, truth = {"slice": noise, "scaled": noise}, {"liver": truth, "tumor": truth}
    reset_peak_memory()
    before = read_peak_memory()
    best, median = time_epochs(trained, inputs, truth, batch_size, slices)
    return best, median, before, read_peak_memory()


def compile_networks(what: str, size: int, filters: int) -> keras.Model:
    """Return the U-Net, or the nested pair, compiled as training does.

    Args:
        what: "liver" or "joint".
        size: rows and columns of a slice.
        filters: of the first level.
    """
    preset = dataclasses.replace(find_preset("paper"), filters=filters)
    widths = SYSTEMS["one_step"].under(preset).list_options("classes")["widths"]
    target, loss, weights = what, BalancedBinaryCrossentropy(), None
    model = build_unet(size, widths=widths, name="liver")
    if what == "joint":
        model = build_cascade(model, build_unet(size, widths=widths, name="tumor"))
        loss = {"liver": loss, "tumor": loss}  # type: ignore[assignment]
        weights = {"liver": 1.0, "tumor": 1.0}
    recipe = Recipe(
        target, loss, preset.learning_rate_ce, preset.momentum, 1, {}, loss_weights=weights
    )
    return compile_for_training(model, recipe)


if __name__ == "__main__":
    run_command(main, "tests.benchmarks.joint")
