"""Keras as the other rooms use it: the import, its precision on this machine, saved networks.

Keras is imported without the start-up notes of its backend, by `from data.backend import keras`:
TensorFlow writes half a dozen lines to standard error before any setting of its log takes effect.
They would bury the one line that a command prints about bad input, so standard error is held back
while Keras is imported, and shown only if that fails.
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
    """Return whether TensorFlow has more than the CPU to compute on; True on another backend."""
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


def choose_precision(precision: str) -> str:
    """Return the Keras dtype policy to use here: float32 on a CPU without units for another one.

    Measured with oneDNN (`python -m tests.benchmarks.training`): on processors with AMX or
    AVX-512's bfloat16 instructions mixed_bfloat16 is faster than float32; with AVX-512 alone it is
    twice as slow, and on AVX2 it does not run.
    """
    if precision == "float32" or has_accelerator():
        return precision
    return precision if read_processor_flags() & {"amx_bf16", "avx512_bf16"} else "float32"


def load_network(path: Path) -> keras.Model:
    """Load a saved network, in single precision where the CPU has no units for its own.

    Raises:
        InputError: the file is missing or damaged.
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
    """Return a copy of the model, same weights, in which every layer computes in float32."""

    def copy_layer(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            return convert_to_single_precision(layer)
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=copy_layer)
    clone.set_weights(model.get_weights())
    return clone
