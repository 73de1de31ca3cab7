"""Keras, imported without the start-up notes of its backend: `from data.backend import keras`.

TensorFlow writes half a dozen lines to standard error before any setting of its log takes effect. They would
bury the one line that a command prints about bad input, so standard error is held back while Keras is
imported, and shown only if that fails.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its advice on retracing: a run has many models
with _held_back_stderr():
    import keras

__all__ = ["keras"]
