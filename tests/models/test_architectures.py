"""The door to the architectures, and what holds for each of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import models
from models.head import end_network, trim_to_logits
from models.unet import build_unet
from tests.conftest import ROOT
from tests.models.conftest import draw_images, half_precision, randomise

TINY_VAE = {"filters": 8, "blocks_down": (1, 1), "blocks_up": (1,), "latent": 5}
SMALL: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "unet": ("unet", 32, {"widths": (4, 8, 16)}),
    "unet_normalised": ("unet", 32, {"widths": (4, 8), "batch_normalization": True}),
    "alexnet_dilated": ("alexnet", 64, {"width": 1 / 16}),
    "alexnet_stride_32": ("alexnet", 64, {"width": 1 / 16, "upsampling": "stride_32"}),
    "alexnet_skips": ("alexnet", 64, {"width": 1 / 16, "upsampling": "skips"}),
    "resnet18": ("resnet18", 32, {"filters": 2}),
    "segnet": ("segnet", 32, {"filters": 2}),
    "segresnet_vae": ("segresnet_vae", (8, 12, 16), TINY_VAE),
}
"""Small networks by name: architecture, size, options."""
CLASSES = [(name, 3) for name in SMALL] + [
    (name, 1) for name in SMALL if not name.startswith(("alexnet", "resnet18"))
]


def build_small(name: str, classes: int = 3, **changes: Any) -> keras.Model:
    architecture, size, options = SMALL[name]
    keras.utils.set_random_seed(0)
    return models.build(architecture, size, classes, **options | changes)


def draw_input(model: keras.Model, batch: int = 2) -> np.ndarray:
    return draw_images(batch, *model.input_shape[1:])


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


@pytest.mark.parametrize(("name", "classes"), CLASSES)
def test_outputs_are_probabilities_of_the_input_size(name: str, classes: int) -> None:
    model = build_small(name, classes)
    randomise(model)
    x = draw_input(model)
    probability = np.asarray(model(x))
    assert probability.shape == (*x.shape[:-1], classes)
    assert probability.dtype == np.float32
    assert np.all((probability >= 0) & (probability <= 1))
    # The deep networks without normalisation may come to 0 or 1 in float32; these do not.
    if name.startswith(("unet", "segnet")):
        assert np.all((probability > 0) & (probability < 1))
    assert [layer.name for layer in model.layers][-2:] == ["logits", "probability"]
    # The network that a loss reads: the same weights, up to the logits.
    trained = trim_to_logits(model)
    logits = np.asarray(trained(x))
    expected = 1 / (1 + np.exp(-logits)) if classes == 1 else keras.ops.softmax(logits)
    np.testing.assert_allclose(probability, np.asarray(expected), atol=1e-6)
    last = trained.get_layer("logits")
    last.set_weights([0 * weight for weight in last.get_weights()])
    np.testing.assert_allclose(np.asarray(model(x)), 1 / max(classes, 2), atol=1e-6)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "segresnet_vae"])
def test_a_network_in_2d_takes_any_size_that_its_depth_divides(name: str) -> None:
    architecture, _, options = SMALL[name]
    model = models.build(architecture, None, 4, **options)
    for rows, columns in ((32, 32), (64, 160)):
        assert model(draw_images(2, rows, columns, 1)).shape == (2, rows, columns, 4)


@pytest.mark.parametrize("name", SMALL)
def test_half_precision_keeps_the_last_layers_in_single(name: str) -> None:
    with half_precision():
        model = build_small(name)
    convolutions = [layer for layer in model.layers if "Conv" in type(layer).__name__]
    assert convolutions[0].compute_dtype == "bfloat16"
    assert model.get_layer("logits").compute_dtype == "float32"
    assert model.get_layer("probability").compute_dtype == "float32"


@pytest.mark.parametrize("name", SMALL)
def test_save_and_load_give_the_same_outputs(name: str, tmp_path: Path) -> None:
    model = build_small(name)
    if SMALL[name][0] not in ("segnet", "segresnet_vae"):  # loaded without code of this project
        assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    randomise(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = draw_input(model)
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))
    assert loaded.count_params() == model.count_params()


@pytest.mark.parametrize("name", [name for name in SMALL if name != "segresnet_vae"])
def test_training_reaches_every_weight(name: str) -> None:
    model = build_small(name)
    before = model.get_weights()
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    x = draw_input(model)
    for _ in range(2):  # AlexNet's scores begin at zero and pass no gradient on at first
        model.train_on_batch(x, (x > 0.5).astype(np.int32))
    for weight, old in zip(model.weights, before, strict=True):
        assert "seed" in weight.path or not np.array_equal(np.asarray(weight), old), weight.path


WRONG = [
    ("x", {}, "architecture must be one of unet, alexnet, .*, got 'x'"),
    ("unet", {"size": 20, "widths": (4, 8, 16, 32)}, "input_size must be a multiple of 8, got 20"),
    ("unet", {"size": 0}, "input_size must be a multiple of 16, got 0"),
    ("unet", {"widths": ()}, r"widths must hold at least one positive number, got \(\)"),
    ("unet", {"widths": (4, 0)}, r"widths must hold at least one positive number, got \(4, 0\)"),
    ("unet", {"classes": 0}, "classes must be at least 1, got 0"),
    ("unet", {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ("alexnet", {"size": 40}, "input_size must be a multiple of 32, got 40"),
    ("alexnet", {"size": 0}, "input_size must be a multiple of 32, got 0"),
    ("alexnet", {"channels": 2}, "input_channels must be 1 or 3, got 2"),
    ("alexnet", {"classes": 1}, "classes must be at least 2 for a softmax, got 1"),
    ("alexnet", {"width": 0}, "width must be a number above 0, got 0"),
    ("alexnet", {"upsampling": "x"}, "upsampling must be one of dilated, .*, got 'x'"),
    ("alexnet", {"variant": "caffe"}, "variant must be one of krizhevsky, .*, got 'caffe'"),
    ("alexnet", {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ("resnet18", {"size": 48}, "input_size must be a multiple of 32, got 48"),
    ("resnet18", {"channels": 0}, "input_channels must be 1 or 3, got 0"),
    ("resnet18", {"classes": 1}, "classes must be at least 2 for a softmax, got 1"),
    ("resnet18", {"filters": 0}, "filters must be at least 1, got 0"),
    ("segnet", {"size": 48}, "input_size must be a multiple of 32, got 48"),
    ("segnet", {"size": 0}, "input_size must be a multiple of 32, got 0"),
    ("segnet", {"classes": 0}, "classes must be at least 1, got 0"),
    ("segnet", {"filters": 0}, "filters must be at least 1, got 0"),
    ("segresnet_vae", {"size": (16, 24, 32)}, "input_shape must be three multiples of 16"),
    ("segresnet_vae", {"size": (16, 16)}, "input_shape must be three multiples of 16"),
    ("segresnet_vae", {"size": (16, None, 16)}, "input_shape must be three multiples of 16"),
    ("segresnet_vae", {"size": (0, 16, 16)}, "input_shape must be three multiples of 16"),
    ("segresnet_vae", {"filters": 12}, "filters must be a positive multiple of 8, got 12"),
    ("segresnet_vae", {"classes": 0}, "classes must be at least 1, got 0"),
    ("segresnet_vae", {"channels": 0}, "input_channels must be at least 1, got 0"),
    ("segresnet_vae", {"blocks_down": (1, 0, 2, 4)}, "blocks_down must hold at least 2 positive"),
    ("segresnet_vae", {"blocks_up": (1, 1)}, "blocks_up must be one level shorter than"),
    ("segresnet_vae", {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ("segresnet_vae", {"latent": 0}, "latent must be at least 1, got 0"),
    ("segresnet_vae", {"vae_weight": -0.1}, "vae_weight must not be negative, got -0.1"),
    ("segresnet_vae", {"default_std": -1}, "default_std must not be negative, got -1"),
]


@pytest.mark.parametrize(("architecture", "arguments", "message"), WRONG)
def test_wrong_arguments_are_named(
    architecture: str, arguments: dict[str, Any], message: str
) -> None:
    size = (16, 16, 16) if architecture == "segresnet_vae" else 64
    with pytest.raises(ValueError, match=message):
        models.build(architecture, **{"size": size, "classes": 3} | arguments)
