"""CDNN-ResNet18: its size by hand, and a decoder that is the encoder's mirror image."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from models.head import trim_to_logits
from models.resnet18 import _convolve, _deconvolve, build_resnet18


def encoder_by_hand(f: int) -> int:
    """Kernels and batch normalisations (four numbers a channel), stage by stage, as on paper."""
    total = 49 * 3 * f + 4 * f
    total += 4 * (9 * f * f + 4 * f)
    for before, after in ((f, 2 * f), (2 * f, 4 * f), (4 * f, 8 * f)):
        total += (9 * before * after + 4 * after) + 3 * (9 * after * after + 4 * after)
        total += before * after + 4 * after  # shortcut
    return total


def decoder_by_hand(f: int) -> int:
    total = 0
    for before, after in ((8 * f, 4 * f), (4 * f, 2 * f), (2 * f, f)):
        total += 3 * (9 * before * before + 4 * before) + (9 * before * after + 4 * after)
        total += 4 * before * after + 4 * after  # shortcut, 2 x 2
    total += 4 * (9 * f * f + 4 * f)
    total += 9 * f * f + 4 * f  # in place of the max pooling
    return total + 49 * f * f + 4 * f


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def test_encoder_and_fc_have_the_published_number_of_parameters() -> None:
    model = build_resnet18(None)
    encoder = [layer for layer in model.layers if layer.name.startswith("encoder_")]
    statistics = sum(
        2 * layer.gamma.shape[0]
        for layer in encoder
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    parameters = sum(layer.count_params() for layer in encoder)
    assert statistics == 9600
    assert parameters == encoder_by_hand(64) == 11_186_112
    assert (
        parameters - statistics + (512 * 1000 + 1000) == 11_689_512
    )  # torchvision's count, with FC
    assert model.count_params() == parameters + decoder_by_hand(64) + (64 * 3 + 3)


def test_parameters_by_hand() -> None:
    filters = 4
    by_hand = encoder_by_hand(filters) + decoder_by_hand(filters) + filters * 2 + 2
    assert build_resnet18(64, 3, 2, filters).count_params() == by_hand


def test_decoder_has_as_many_layers_as_resnet18_and_mirrors_its_blocks() -> None:
    model = build_resnet18(64, filters=2)
    names = [layer.name for layer in model.layers]
    assert names[-2:] == ["logits", "probability"]
    transposed = [
        layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2DTranspose)
    ]
    main = [name for name in transposed if "shortcut" not in name]
    assert len(main) == 18
    blocks = [f"stage_{stage}_block_{block}" for stage in (4, 3, 2, 1) for block in (2, 1)]
    assert main == [
        f"decoder_{name}_{conv}" for name in blocks for conv in ("conv_2", "conv_1")
    ] + [
        "decoder_pool",
        "decoder_conv_1",
    ]
    for name in blocks[
        1:
    ]:  # what goes into a block of the encoder has the shape of what its mirror image gives
        into = model.get_layer(f"encoder_{name}_add").output.shape
        assert model.get_layer(f"decoder_{name}_conv_2").output.shape == into


@pytest.mark.parametrize(("side", "strides"), [(3, 1), (3, 2), (7, 2)])
def test_transposed_convolution_is_the_mirror_image_of_the_convolve(
    side: int, strides: int
) -> None:
    # <C x, y> = <x, C' y> for the same kernel and the paddings of both
    fine = keras.layers.Input((12, 12, 3))
    down = keras.Model(fine, _convolve(fine, 5, side, strides, "down"))
    coarse = keras.layers.Input(down.output_shape[1:])
    up = keras.Model(coarse, _deconvolve(coarse, 3, side, strides, "up"))
    up.get_layer("up").set_weights(down.get_layer("down").get_weights())
    x, y = images(1, 12, 12, 3), images(1, *down.output_shape[1:])
    scale = np.sqrt(1 + 1e-5)  # fresh batch normalisation
    np.testing.assert_allclose(np.sum(down(x) * y) * scale, np.sum(x * up(y)) * scale, rtol=1e-5)


def test_outputs_are_probabilities_of_the_slice_size() -> None:
    model = build_resnet18(None, classes=4, filters=2)
    for rows, columns in ((32, 32), (64, 96)):
        x = images(2, rows, columns, 1)
        probability = np.asarray(model(x))
        assert probability.shape == (2, rows, columns, 4)
        np.testing.assert_allclose(probability.sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(
            np.asarray(keras.ops.softmax(trim_to_logits(model)(x))), probability, atol=1e-6
        )


def test_training_reaches_every_weight() -> None:
    model = build_resnet18(64, filters=2)
    before = model.get_weights()
    model.compile(
        keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(), run_eagerly=True
    )
    x = images(2, 64, 64, 1)
    model.train_on_batch(x, (x > 0.5).astype(np.int32))
    for weight, old in zip(model.weights, before, strict=True):
        assert not np.array_equal(np.asarray(weight), old), weight.path


def test_half_precision_keeps_the_logits_in_single() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_resnet18(32, filters=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("decoder_conv_1").compute_dtype == "bfloat16"
    assert model.get_layer("logits").compute_dtype == "float32"


def test_save_and_load_give_the_same_outputs(tmp_path: Path) -> None:
    model = build_resnet18(32, filters=2)
    model.save(tmp_path / "model.keras")
    x = images(1, 32, 32, 1)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"input_size": 48}, "input_size"),
        ({"input_channels": 0}, "input_channels"),
        ({"classes": 1}, "classes"),
        ({"filters": 0}, "filters"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_resnet18(**arguments)
