"""CDNN-AlexNet: its size by hand, its upsamplings, where its receptive fields lie."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from models.alexnet import FILTERS, UPSAMPLING, build_alexnet, make_bilinear
from models.head import trim_to_logits
from tests.models.conftest import draw_images, half_precision

SMALL = 1 / 16
FC8 = 4096 * 1000 + 1000


def encoder_by_hand(filters: tuple[int, ...]) -> int:
    """Weights and biases of five convolutions, FC6 on a 6 x 6 map and FC7, as on paper."""
    one, two, three, four, five, fc_6, fc_7 = filters
    convolutions = (
        11 * 11 * 3 * one + 5 * 5 * one * two + 9 * two * three + 9 * three * four + 9 * four * five
    )
    return convolutions + 6 * 6 * five * fc_6 + fc_6 * fc_7 + sum(filters)


def small(upsampling: str, input_size: int | None = 64, **options: object) -> keras.Model:
    return build_alexnet(input_size, width=SMALL, upsampling=upsampling, **options)


def part(model: keras.Model, name: str) -> keras.Model:
    return keras.Model(model.input, model.get_layer(name).output)


def test_encoder_and_fc8_have_the_published_number_of_parameters() -> None:
    model = build_alexnet(None)
    encoder = sum(
        layer.count_params() for layer in model.layers if layer.name.startswith("encoder_")
    )
    # The text's 62.4 million: 34,944 + 614,656 + 885,120 + 1,327,488 + 884,992 of the convolutions,
    # 37,752,832 of FC6, 16,781,312 of FC7 and 4,097,000 of FC8.
    assert encoder == encoder_by_hand(FILTERS["krizhevsky"]) == 62_378_344 - FC8
    assert encoder_by_hand(FILTERS["torchvision"]) == 61_100_840 - FC8  # torchvision's count
    # the scores of three classes, and a kernel of 16 x 16 without bias
    assert model.count_params() == encoder + (4096 * 3 + 3) + 16 * 16 * 3 * 3


@pytest.mark.parametrize(
    ("upsampling", "kernels"),
    [("dilated", 16 * 16), ("stride_32", 64 * 64), ("skips", 4 * 4 + 4 * 4 + 16 * 16)],
)
def test_parameters_by_hand(upsampling: str, kernels: int) -> None:
    skips = (16 * 3 + 3) + (6 * 3 + 3) if upsampling == "skips" else 0  # second and first pooling
    encoder = encoder_by_hand((6, 16, 24, 24, 16, 256, 256))
    assert small(upsampling).count_params() == encoder + (256 * 3 + 3) + skips + kernels * 3 * 3


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_encoder_divides_the_resolution(upsampling: str) -> None:
    stride = {"dilated": 8, "stride_32": 32, "skips": 32}[upsampling]
    features = part(small(upsampling, None), "encoder_fc_7")(draw_images(2, 64, 160, 1))
    assert features.shape == (2, 64 // stride, 160 // stride, 256)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_scores_begin_at_zero_and_are_interpolated(upsampling: str) -> None:
    model = small(upsampling)
    transposed = [
        layer for layer in model.layers if isinstance(layer, keras.layers.Conv2DTranspose)
    ]
    strides = {"dilated": [8], "stride_32": [32], "skips": [2, 2, 8]}
    assert [layer.strides[0] for layer in transposed] == strides[upsampling]
    x = draw_images(1, 64, 64, 1)
    np.testing.assert_allclose(np.asarray(model(x)), 1 / 3, atol=1e-6)  # as in Long et al.
    model.get_layer("score").bias.assign([0.0, 1.0, 3.0])
    np.testing.assert_allclose(trim_to_logits(model)(x)[0, 32, 32], [0, 1, 3], atol=1e-5)


def test_dropout_follows_fc6_and_fc7_only() -> None:
    dropped = [
        layer
        for layer in small("dilated", dropout=0.3).layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert [(layer.name, layer.rate) for layer in dropped] == [
        ("encoder_fc_6_dropout", 0.3),
        ("encoder_fc_7_dropout", 0.3),
    ]
    assert not any("dropout" in layer.name for layer in small("dilated", dropout=0).layers)


def test_dilated_encoder_computes_what_the_one_with_strides_does_at_every_fourth_position() -> None:
    dilated, strided = small("dilated", 192), small("stride_32", 192)
    for layer in strided.layers:
        if layer.name.startswith("encoder_"):
            dilated.get_layer(layer.name).set_weights(
                layer.get_weights()
            ) if layer.weights else None
    x = draw_images(1, 192, 192, 1)
    fine, coarse = (np.asarray(part(model, "encoder_fc_7")(x)) for model in (dilated, strided))
    assert coarse.shape == (1, 6, 6, 256)
    assert coarse.max() > 0.1
    np.testing.assert_allclose(fine[:, 1::4, 1::4], coarse, atol=1e-5)


@pytest.mark.parametrize(
    ("upsampling", "layer", "stride", "off"),
    [
        ("dilated", "encoder_fc_7", 8, -0.5),
        ("stride_32", "encoder_fc_7", 32, -4.5),
        ("skips", "encoder_pool_2", 16, 3.5),
        ("skips", "encoder_pool_1", 8, -0.5),
    ],
)
def test_receptive_fields_lie_over_the_pixels_they_are_upsampled_to(
    upsampling: str, layer: str, stride: int, off: float
) -> None:
    size = 544  # a whole receptive field of FC7 (355 pixels) in every phase of its stride
    model = build_alexnet(None, width=1e-9, upsampling=upsampling)
    for convolution in model.layers:
        if isinstance(convolution, keras.layers.Conv2D):
            convolution.set_weights([np.ones(weight.shape) for weight in convolution.weights])
            convolution.bias.assign(np.zeros(convolution.bias.shape))
    reach = keras.Model(model.get_layer("normalise").output, model.get_layer(layer).output)
    one_column = np.zeros((size, 32, size, 3), np.float32)
    one_column[np.arange(size), :, np.arange(size)] = 1e-3
    seen = (
        np.concatenate(
            [np.asarray(reach(one_column[i : i + 32])).max(axis=(1, 3)) for i in range(0, size, 32)]
        )
        > 0
    )
    middle = size // stride // 2
    pixels = np.flatnonzero(seen[:, middle])
    assert 0 < pixels[0] < pixels[-1] < size - 1
    assert (pixels[0] + pixels[-1]) / 2 - (stride * middle + (stride - 1) / 2) == off


def test_bilinear_kernel_interpolates_each_class() -> None:
    layer = keras.layers.Conv2DTranspose(2, 8, strides=4, padding="same", use_bias=False)
    layer.build((1, 6, 6, 2))
    layer.set_weights([make_bilinear(8, 2)])
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32)[:, None], (6, 6))
    fine = np.asarray(layer(np.stack([ramp, 7 + 0 * ramp], -1)[None]))[0]
    expected = np.arange(24) / 4 - 3 / 8  # the centres of fine pixels between those of coarse ones
    inside = slice(4, -4)
    np.testing.assert_allclose(fine[inside, 12, 0], expected[inside], atol=1e-5)
    np.testing.assert_allclose(fine[inside, inside, 1], 7, atol=1e-5)


def test_grey_slice_stands_for_three_normalised_channels() -> None:
    x = draw_images(1, 64, 64, 1)
    seen = np.asarray(part(small("dilated"), "normalise")(x))
    expected = (x - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    np.testing.assert_allclose(seen, expected, atol=1e-5)
    colour = part(small("dilated", input_channels=3), "normalise")
    np.testing.assert_allclose(np.asarray(colour(np.repeat(x, 3, -1))), expected, atol=1e-5)


def test_half_precision_keeps_the_scores_in_single() -> None:
    with half_precision():
        model = small("skips")
    for name in ("score", "score_pool_1", "upsample_to_pool_2", "fuse_pool_1"):
        assert model.get_layer(name).compute_dtype == "float32"
