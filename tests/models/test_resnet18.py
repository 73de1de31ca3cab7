"""CDNN-ResNet18: its size by hand, and a decoder that is the encoder's mirror image."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from models.resnet18 import _convolve, _deconvolve, build_resnet18
from tests.models.conftest import draw_images


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
    transposed = [
        layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2DTranspose)
    ]
    main = [name for name in transposed if "shortcut" not in name]
    assert len(main) == 18
    blocks = [f"stage_{stage}_block_{block}" for stage in (4, 3, 2, 1) for block in (2, 1)]
    assert main == [
        f"decoder_{name}_{conv}" for name in blocks for conv in ("conv_2", "conv_1")
    ] + ["decoder_pool", "decoder_conv_1"]
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
    x, y = draw_images(1, 12, 12, 3), draw_images(1, *down.output_shape[1:])
    scale = np.sqrt(1 + 1e-5)  # fresh batch normalisation
    np.testing.assert_allclose(np.sum(down(x) * y) * scale, np.sum(x * up(y)) * scale, rtol=1e-5)
