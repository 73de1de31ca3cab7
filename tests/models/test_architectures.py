"""The door to the architectures: lazy, open to others, the same networks as their builders."""

from __future__ import annotations

import subprocess
import sys

import keras
import pytest

import models
from models.head import end_network
from models.unet import build_unet
from tests.conftest import ROOT


def test_importing_the_package_imports_neither_keras_nor_an_architecture() -> None:
    code = (
        "import models, sys; assert not {'keras', 'tensorflow', 'models.unet'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_build_passes_size_channels_classes_and_options_on() -> None:
    model = models.build("unet", 32, classes=3, channels=2, widths=(4, 8), name="classes")
    assert model.name == "classes"
    assert model.input_shape == (None, 32, 32, 2)
    assert model.output_shape == (None, 32, 32, 3)
    assert model.count_params() == build_unet(32, 2, 3, (4, 8)).count_params()


def test_an_architecture_is_added_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    def build_line(size: int, channels: int, classes: int, name: str = "line") -> keras.Model:
        inputs = keras.Input((size, size, channels))
        logits = keras.layers.Conv2D(classes, 1, name="logits")(inputs)
        return end_network(inputs, logits, name)

    monkeypatch.setattr(models, "ARCHITECTURES", dict(models.ARCHITECTURES))
    models.register_architecture("line", build_line)
    model = models.build("line", 8, classes=3)
    assert model.count_params() == 3 + 3
    assert model.get_layer("probability").get_config()["activation"] == "softmax"
    with pytest.raises(ValueError, match=r"`name` must be new. Received: 'line'"):
        models.register_architecture("line", build_line)


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ValueError, match=r"architecture must be one of unet, .*, got 'x'"):
        models.build("x", 32)
