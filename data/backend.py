"""Keras for the whole project: its import, its precision, saved networks.

TensorFlow writes start-up notes to standard error that would bury a command's one line about bad
input. `from data.backend import keras` therefore holds standard error back during the import, and
shows it only if the import fails.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.command import InputError
from data.environment import read_processor_flags


@contextmanager
def _hold_back_stderr() -> Iterator[None]:
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(original, held.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# Without its advice on retracing: a run has many models.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
with _hold_back_stderr():
    import keras

__all__ = [
    "choose_precision",
    "convert_to_single_precision",
    "has_accelerator",
    "keras",
    "load_network",
]


def has_accelerator() -> bool:
    """Return whether TensorFlow sees more than the CPU; True on another backend."""
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


def choose_precision(precision: str) -> str:
    """Return the Keras dtype policy to use on this machine.

    It is float32 on a CPU without units for mixed_bfloat16. Measured with oneDNN (`python -m
    tests.benchmarks.training`): mixed_bfloat16 is faster with AMX or AVX-512's bfloat16
    instructions, twice as slow with AVX-512 alone, and does not run on AVX2.
    """
    if precision == "float32" or has_accelerator():
        return precision
    return precision if read_processor_flags() & {"amx_bf16", "avx512_bf16"} else "float32"


def load_network(path: Path) -> keras.Model:
    """Load a saved network, in single precision where the CPU needs it.

    A missing or damaged file raises an InputError.
    """
    try:
        model = keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be loaded, missing or damaged ({str(error).splitlines()[0]})"
        ) from None
    parts = [model, *(layer for layer in model.layers if isinstance(layer, keras.Model))]
    policies = {layer.dtype_policy.name for part in parts for layer in part.layers}
    if all(choose_precision(name) == name for name in policies):
        return model
    return convert_to_single_precision(model)


def convert_to_single_precision(model: keras.Model) -> keras.Model:
    """Return a copy of the model, same weights, that computes in float32."""

    def copy_layer(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            return convert_to_single_precision(layer)
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=copy_layer)
    clone.set_weights(model.get_weights())
    return clone
