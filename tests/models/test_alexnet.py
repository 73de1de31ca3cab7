"""CDNN-AlexNet: its size by hand, its upsamplings, where its receptive fields lie."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from models.alexnet import FILTERS, UPSAMPLING, build_alexnet, make_bilinear
from models.head import trim_to_logits

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


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def test_encoder_and_fc8_have_the_published_number_of_parameters() -> None:
    model = build_alexnet(None)
    encoder = sum(
        layer.count_params() for layer in model.layers if layer.name.startswith("encoder_")
    )
    # The text's 62.4 million: 34,944 + 614,656 + 885,120 + 1,327,488 + 884,992 of the convolutions, 37,752,832 of FC6,
    # 16,781,312 of FC7 and 4,097,000 of FC8.
    assert encoder == encoder_by_hand(FILTERS["krizhevsky"]) == 62_378_344 - FC8
    assert encoder_by_hand(FILTERS["torchvision"]) == 61_100_840 - FC8  # torchvision's count
    # the scores of three classes, and a kernel of 16 x 16 without bias
    assert model.count_params() == encoder + (4096 * 3 + 3) + 16 * 16 * 3 * 3


@pytest.mark.parametrize(
    ("upsampling", "kernels"),
    [
        ("dilated", 16 * 16),
        ("stride_32", 64 * 64),
        ("skips", 4 * 4 + 4 * 4 + 16 * 16),
    ],
)
def test_parameters_by_hand(upsampling: str, kernels: int) -> None:
    skips = (16 * 3 + 3) + (6 * 3 + 3) if upsampling == "skips" else 0  # second and first pooling
    encoder = encoder_by_hand((6, 16, 24, 24, 16, 256, 256))
    assert small(upsampling).count_params() == encoder + (256 * 3 + 3) + skips + kernels * 3 * 3


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_output_has_the_size_of_the_slice(upsampling: str) -> None:
    model = small(upsampling, None, classes=4)
    strides = {"dilated": 8, "stride_32": 32, "skips": 32}[upsampling]
    for rows, columns in ((32, 32), (64, 160)):
        x = images(2, rows, columns, 1)
        assert model(x).shape == (2, rows, columns, 4)
        features = part(model, "encoder_fc_7")(x)
        assert features.shape == (2, rows // strides, columns // strides, 256)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_last_layers_are_logits_and_probability(upsampling: str) -> None:
    model = small(upsampling)
    assert [layer.name for layer in model.layers][-2:] == ["logits", "probability"]
    transposed = [
        layer for layer in model.layers if isinstance(layer, keras.layers.Conv2DTranspose)
    ]
    strides = {"dilated": [8], "stride_32": [32], "skips": [2, 2, 8]}
    assert [layer.strides[0] for layer in transposed] == strides[upsampling]
    x = images(1, 64, 64, 1)
    np.testing.assert_allclose(
        np.asarray(model(x)), 1 / 3, atol=1e-6
    )  # scores begin at zero, as in Long et al.
    model.get_layer("score").bias.assign([0.0, 1.0, 3.0])
    logits = np.asarray(trim_to_logits(model)(x))
    np.testing.assert_allclose(
        np.asarray(model(x)), np.asarray(keras.ops.softmax(logits)), atol=1e-6
    )
    np.testing.assert_allclose(logits[0, 32, 32], [0, 1, 3], atol=1e-5)  # interpolated


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
    x = images(1, 192, 192, 1)
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
    x = images(1, 64, 64, 1)
    seen = np.asarray(part(small("dilated"), "normalise")(x))
    expected = (x - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    np.testing.assert_allclose(seen, expected, atol=1e-5)
    colour = part(small("dilated", input_channels=3), "normalise")
    np.testing.assert_allclose(np.asarray(colour(np.repeat(x, 3, -1))), expected, atol=1e-5)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_training_reaches_every_weight(upsampling: str) -> None:
    model = small(upsampling, 64)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy())
    x = images(2, 64, 64, 1)
    model.fit(
        x, (x > 0.5).astype(np.int32), epochs=2, verbose=0
    )  # scores begin at zero and pass no gradient on at first
    for weight, old in zip(model.weights, before, strict=True):
        assert not np.array_equal(np.asarray(weight), old), weight.path


def test_half_precision_keeps_the_scores_in_single() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small("skips")
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("encoder_conv_1").compute_dtype == "bfloat16"
    for name in (
        "score",
        "score_pool_1",
        "upsample_to_pool_2",
        "fuse_pool_1",
        "logits",
        "probability",
    ):
        assert model.get_layer(name).compute_dtype == "float32"


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_save_and_load_give_the_same_outputs_with_keras_own_layers_only(
    upsampling: str, tmp_path: Path
) -> None:
    model = small(upsampling)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.startswith("score"):
            layer.kernel.assign(rng.normal(size=layer.kernel.shape))
    model.save(tmp_path / "model.keras")
    x = images(1, 64, 64, 1)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"input_size": 40}, "input_size"),
        ({"input_size": 0}, "input_size"),
        ({"input_channels": 2}, "input_channels"),
        ({"classes": 1}, "classes"),
        ({"width": 0}, "width"),
        ({"upsampling": "stride_8"}, "upsampling"),
        ({"variant": "caffe"}, "variant"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_alexnet(**arguments)
