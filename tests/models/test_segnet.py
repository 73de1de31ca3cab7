"""SegNet: its size by hand, its outputs against PyTorch, precision and a step of training."""

from __future__ import annotations

import keras
import numpy as np

from data.backend import choose_precision, convert_to_single_precision
from models.head import trim_to_logits
from models.segnet import build_segnet
from tests.conftest import TorchReference
from tests.models.conftest import half_precision

SIZE, FILTERS = 32, 2

VGG16 = [(64, 64), (64, 128), (128, 128), (128, 256)] + 2 * [(256, 256)]
VGG16 += [(256, 512)] + 5 * [(512, 512)]
"""Channels in and out of VGG16's 3 x 3 convolutions after the first."""


def small(classes: int = 1, input_channels: int = 1, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return build_segnet(SIZE, input_channels, classes, FILTERS)


def slices(channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, SIZE, SIZE, channels)).astype(np.float32)


def by_hand(channels: int, classes: int) -> int:
    """3 x 3 kernels, biases, four numbers a channel of a normalisation; the decoder mirrors."""
    encoder = [(channels, 64), *VGG16]
    decoder = [(after, before) for before, after in reversed(VGG16)]
    normalised = sum(
        9 * width_in * width + width + 4 * width for width_in, width in encoder + decoder
    )
    return normalised + 9 * 64 * classes + classes


def test_network_of_the_paper_has_29458305_parameters() -> None:
    # Kernels: encoder 9 * 1,634,368 = 14,709,312 (VGG16's 14,710,464 less 9 * 2 * 64 for one
    # channel instead of three), decoder as many; biases 4,224 + 3,713; 4 * (4,224 + 3,712) = 31,744
    # in the batch normalisations.
    model = build_segnet(None)
    assert (
        model.count_params()
        == by_hand(1, 1)
        == 2 * 14_709_312 + 4_224 + 3_713 + 31_744
        == 29_458_305
    )
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 29_458_305 - 2 * (
        4_224 + 3_712
    )
    assert model.output_shape == (None, None, None, 1)


def test_layers_are_named_by_level_and_indices_go_to_the_same_level() -> None:
    model = small(classes=3, input_channels=2)
    names = [layer.name for layer in model.layers]
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 26
    assert [layer.filters // FILTERS for layer in convolutions[:13]] == [
        1,
        1,
        2,
        2,
        4,
        4,
        4,
        8,
        8,
        8,
        8,
        8,
        8,
    ]
    assert [layer.filters // FILTERS for layer in convolutions[13:25]] == [
        8,
        8,
        8,
        8,
        8,
        4,
        4,
        4,
        2,
        2,
        1,
        1,
    ]
    for level, count in enumerate((2, 2, 3, 3, 3), start=1):
        block = [
            f"conv_{index}{part}"
            for index in range(1, count + 1)
            for part in ("", "_norm", "_relu")
        ]
        assert {f"encoder_{level}_{name}" for name in block} <= set(names)
        assert (f"decoder_{level}_conv_{count}" in names) == (level > 1)
        pool, unpool = (
            model.get_layer(f"encoder_{level}_pool"),
            model.get_layer(f"decoder_{level}_unpool"),
        )
        assert unpool.input[1] is pool.output[1]
        assert unpool.output.shape == pool.input.shape
    assert convolutions[-1].name == "logits"


def test_logits_are_those_of_pytorch(torch_reference: TorchReference) -> None:
    model, rng = small(classes=3, input_channels=2), np.random.default_rng(1)
    for layer in model.layers:  # variances between 0.5 and 1.5; all others around what they are
        shift = 0.5 if "norm" in layer.name else 0.1
        layer.set_weights([w + rng.uniform(-shift, shift, w.shape) for w in layer.get_weights()])
    weights = [w for layer in model.layers for w in layer.get_weights()]
    expected = torch_reference(
        """
        from torch.nn import functional as F

        weights = (torch.from_numpy(globals()[f"w{number}"]) for number in range(int(count)))

        def plain(x):
            return F.conv2d(x, next(weights).permute(3, 2, 0, 1), next(weights), padding=1)

        def block(x, convolutions):
            for _ in range(convolutions):
                x = plain(x)
                gamma, beta, mean, variance = (next(weights) for _ in range(4))
                x = F.relu(F.batch_norm(x, mean, variance, gamma, beta, eps=1e-3))
            return x

        x, indices = torch.from_numpy(given).permute(0, 3, 1, 2), []
        for convolutions in (2, 2, 3, 3, 3):
            x, maxima = F.max_pool2d(block(x, convolutions), 2, return_indices=True)
            indices.append(maxima)
        for convolutions in (3, 3, 3, 2, 1):
            x = block(F.max_unpool2d(x, indices.pop(), 2), convolutions)
        results["logits"] = plain(x).permute(0, 2, 3, 1).numpy()
        """,
        given=slices(2),
        count=len(weights),
        **{f"w{number}": w for number, w in enumerate(weights)},
    )["logits"]
    found = np.asarray(trim_to_logits(model)(slices(2)))
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_half_precision_reaches_the_indices_and_can_be_undone() -> None:
    with half_precision():
        model = small()
    assert [part.dtype for part in model.get_layer("encoder_1_pool").output] == ["bfloat16"] * 2
    # the copy that a CPU without units for half precision computes with; such a CPU cannot run the
    # original
    single = convert_to_single_precision(model)
    assert single.get_layer("decoder_1_unpool").output.dtype == "float32"
    runs = choose_precision("mixed_bfloat16") == "mixed_bfloat16"
    for network in (single, model) if runs else (single,):
        outputs = np.asarray(network(slices()))
        assert outputs.shape == (2, SIZE, SIZE, 1)
        assert outputs.dtype == np.float32
        assert np.all((outputs > 0) & (outputs < 1))


def test_steps_of_gradient_descent_lower_the_loss_and_move_every_convolution() -> None:
    trained, truth = trim_to_logits(small()), (slices() > 0).astype(np.float32)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    trained.compile(
        keras.optimizers.SGD(0.1), loss, run_eagerly=True
    )  # three steps are not worth a trace
    convolutions = [layer for layer in trained.layers if isinstance(layer, keras.layers.Conv2D)]
    before = [np.copy(layer.get_weights()[0]) for layer in convolutions]
    losses = trained.fit(slices(), truth, batch_size=2, epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[1] < losses[0]
    for layer, kernel in zip(convolutions, before, strict=True):
        assert np.abs(layer.get_weights()[0] - kernel).max() > 1e-6, layer.name
