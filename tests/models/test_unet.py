"""The U-Net: its size by hand, its layers, its two heads."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from models.head import trim_to_logits
from models.unet import build_unet


def by_hand(widths: tuple[int, ...], channels: int, classes: int) -> int:
    """Weights and biases of every convolution, level by level, as on paper."""
    *encoder, bottom = widths
    total, width_in = 0, channels
    for width in encoder:
        total += (9 * width_in * width + width) + (9 * width * width + width)
        width_in = width
    total += (9 * width_in * bottom + bottom) + (9 * bottom * bottom + bottom)
    width_in = bottom
    for width in reversed(encoder):
        total += 4 * width_in * width + width  # 2 x 2 transposed convolution
        total += (9 * 2 * width * width + width) + (
            9 * width * width + width
        )  # after the skip connection
        width_in = width
    return total + encoder[0] * classes + classes


def test_paper_network_has_31030593_parameters() -> None:
    # Worked out level by level: encoder 37,568 + 221,440 + 885,248 + 3,539,968; bottom 14,157,824; decoder
    # 9,176,576 + 2,294,528 + 573,824 + 143,552; classifier 65.
    assert build_unet(None).count_params() == 31_030_593


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("widths", [(8, 16), (4, 8, 16, 32), (16, 32, 64, 128, 256)])
def test_parameters_by_hand(widths: tuple[int, ...], classes: int) -> None:
    assert build_unet(64, 1, classes, widths).count_params() == by_hand(widths, 1, classes)


def test_layers_are_named_by_level_and_dropout_is_only_in_the_expanding_path() -> None:
    model = build_unet(32, widths=(4, 8, 16), dropout=0.3)
    names = [layer.name for layer in model.layers]
    for level in (1, 2):
        assert {f"encoder_{level}_conv_1", f"encoder_{level}_pool", f"decoder_{level}_up"} <= set(
            names
        )
    dropped = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.name for layer in dropped] == ["decoder_2_dropout", "decoder_1_dropout"]
    assert all(layer.rate == 0.3 for layer in dropped)
    assert names[-2:] == ["logits", "probability"]


def test_outputs_are_probabilities_of_the_slice_size() -> None:
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    one = np.asarray(build_unet(16, widths=(4, 8), classes=1)(x))
    three = np.asarray(build_unet(16, widths=(4, 8), classes=3)(x))
    assert one.shape == (2, 16, 16, 1)
    assert three.shape == (2, 16, 16, 3)
    assert np.all((one > 0) & (one < 1))
    np.testing.assert_allclose(three.sum(-1), 1, atol=1e-6)


def test_logits_model_shares_the_weights() -> None:
    model = build_unet(16, widths=(4, 8))
    trained = trim_to_logits(model)
    x = np.random.default_rng(0).normal(size=(1, 16, 16, 1)).astype(np.float32)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-np.asarray(trained(x)))), np.asarray(model(x)), atol=1e-6
    )
    trained.get_layer("logits").bias.assign([5.0])
    assert float(np.asarray(model(x)).mean()) > 0.9


def test_half_precision_keeps_the_logits_in_single() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_unet(16, widths=(4, 8))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("encoder_1_conv_1").compute_dtype == "bfloat16"
    assert model.get_layer("logits").compute_dtype == "float32"


def test_save_and_load_give_the_same_outputs(tmp_path: Path) -> None:
    model = build_unet(16, classes=3, widths=(4, 8), batch_normalization=True)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(1, 16, 16, 1)).astype(np.float32)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"input_size": 20, "widths": (4, 8, 16, 32)}, "input_size"),
        ({"input_size": 0}, "input_size"),
        ({"widths": ()}, "widths"),
        ({"classes": 0}, "classes"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_unet(**arguments)
