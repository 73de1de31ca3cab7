"""SegResNetVAE: parameters, outputs, loss of MONAI's own network; the VAE branch in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from models.head import trim_to_logits
from models.segresnet_vae import (
    GroupNorm,
    TrilinearUpsampling,
    build_segresnet_vae,
    compute_vae_loss,
    take_segmentation,
)
from tests.conftest import TorchReference
from tests.models.conftest import half_precision

TINY = {
    "input_shape": (8, 12, 16),
    "filters": 8,
    "blocks_down": (1, 1),
    "blocks_up": (1,),
    "dropout": 0,
    "latent": 5,
}
FOUR_LEVELS = {"input_shape": (16, 32, 48), "filters": 8, "dropout": 0, "latent": 6, "classes": 2}
# MONAI comes after PyTorch. It would load these two, for seconds and for nothing.
IMPORT = """import sys; sys.modules |= {"tensorflow": None, "torchvision": None}
        from monai.networks.nets.segresnet import SegResNetVAE"""
SETS = [
    {"input_shape": (32, 128, 128)},
    {"input_shape": (16, 64, 64), "filters": 8, "latent": 32, "classes": 3, "input_channels": 2},
    {
        "input_shape": (16, 32, 16),
        "filters": 24,
        "blocks_down": (2, 1, 3),
        "blocks_up": (2, 1),
        "dropout": 0,
    },
]


DEFAULTS = {
    "input_channels": 1, "classes": 1, "filters": 16, "blocks_down": (1, 2, 2, 4),
    "blocks_up": (1, 1, 1), "dropout": 0.2, "latent": 256,
}  # fmt: skip


def count_by_hand(**chosen: Any) -> int:
    """Weights of every convolution, normalisation and dense layer, level by level, as on paper."""
    given = SimpleNamespace(**DEFAULTS | chosen)
    filters, latent, channels = given.filters, given.latent, given.input_channels

    def block(width: int) -> int:
        return 2 * (2 * width + 27 * width * width)

    total = 27 * channels * filters + given.blocks_down[0] * block(filters)
    for level, blocks in enumerate(given.blocks_down[1:], start=1):
        width = filters * 2**level
        total += 27 * (width // 2) * width + blocks * block(width)
    bottom = filters * 2 ** (len(given.blocks_down) - 1)
    for level, blocks in enumerate(given.blocks_up, start=1):
        width = bottom // 2**level
        total += 2 * width * width + blocks * block(width)
    total += 2 * filters + filters * given.classes + given.classes
    features = 16 * int(np.prod(given.input_shape)) // 8 ** len(given.blocks_down)
    total += 2 * bottom + (27 * bottom * 16 + 16) + 2 * 16  # down to the features
    total += 2 * (features * latent + latent) + (latent * features + features)  # there and back
    return total + 16 * bottom + 2 * bottom + 2 * filters + filters * channels + channels


def write_monais(**chosen: Any) -> str:
    """The same network in MONAI's words."""
    given = SimpleNamespace(**DEFAULTS | chosen)
    return (
        f"SegResNetVAE({given.input_shape}, vae_nz={given.latent}, init_filters={given.filters}, "
        f"in_channels={given.input_channels}, out_channels={given.classes}, "
        f"dropout_prob={given.dropout or None}, blocks_down={given.blocks_down}, "
        f"blocks_up={given.blocks_up})"
    )


def name_in_monais_order(blocks_down: Sequence[int], blocks_up: Sequence[int]) -> list[str]:
    """Names of the layers with weights in the order of MONAI's state_dict."""

    def blocks(path: str, count: int) -> list[str]:
        parts = ("1_norm", "2_norm", "1_conv", "2_conv")
        return [f"{path}_block_{index}_{part}" for index in range(1, count + 1) for part in parts]

    names = []
    for level, count in enumerate(blocks_down, start=1):
        names += [f"encoder_{level}_conv", *blocks(f"encoder_{level}", count)]
    levels = range(len(blocks_up), 0, -1)
    for level, count in zip(levels, blocks_up, strict=True):
        names += blocks(f"decoder_{level}", count)
    names += [f"decoder_{level}_conv" for level in levels]
    names += ["final_norm", "logits", "vae_down_1_norm", "vae_down_conv", "vae_down_2_norm"]
    names += ["vae_mean", "vae_deviation", "vae_up_dense", "vae_up_conv", "vae_up_norm"]
    return [*names, "vae_final_norm", "vae_reconstruction"]


def transfer(model: keras.Model, tensors: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Give the model MONAI's weights: axes turned from channels first to channels last."""
    _, *lengths, channels = model.get_layer("vae_down_conv").output.shape
    left = list(tensors)
    for name in names:
        values = [left.pop(0) for _ in model.get_layer(name).weights]
        if values[0].ndim == 5:
            values[0] = values[0].transpose(2, 3, 4, 1, 0)
        elif name in ("vae_mean", "vae_deviation"):
            turned = values[0].reshape(-1, channels, *lengths).transpose(2, 3, 4, 1, 0)
            values[0] = turned.reshape(-1, turned.shape[-1])
        elif name == "vae_up_dense":
            values = [
                np.moveaxis(x.reshape(channels, *lengths, -1), 0, 3).reshape(x.shape)
                for x in values
            ]
            values[0] = values[0].T
        model.get_layer(name).set_weights(values)
    assert not left, "MONAI has more weights"


def windows(shape: Sequence[int], batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, *shape, 1)).astype(np.float32)


def train(model: keras.Model, steps: int = 1, eagerly: bool = True) -> None:
    x = windows(model.input_shape[1:4])
    model.compile(
        keras.optimizers.SGD(0.1), "binary_crossentropy", jit_compile=False, run_eagerly=eagerly
    )
    model.fit(x, (x > 0).astype(np.float32), epochs=steps, batch_size=1, verbose=0)


def test_published_network_has_6334274_parameters() -> None:
    # Encoder 432 + 13,888; 13,824 + 110,848; 55,296 + 442,880; 221,184 + 3,540,992. Decoder 229,632
    # + 57,472 + 14,400. Classifier 49. VAE: down 55,600, mean and deviation 524,544 each, back
    # 526,336, up 2,304, end 49.
    assert (
        build_segresnet_vae((32, 128, 128)).count_params()
        == count_by_hand(input_shape=(32, 128, 128))
        == 6_334_274
    )


@pytest.mark.parametrize("arguments", SETS[1:])
def test_parameters_by_hand(arguments: dict) -> None:
    assert build_segresnet_vae(**arguments).count_params() == count_by_hand(**arguments)


def test_parameters_outputs_and_loss_are_monais(
    torch_reference: TorchReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = windows(FOUR_LEVELS["input_shape"], batch=2)
    noise = np.random.default_rng(1).normal(size=(2, FOUR_LEVELS["latent"])).astype(np.float32)
    expected = torch_reference(
        f"""
        {IMPORT}
        networks = [{", ".join(write_monais(**chosen) for chosen in SETS)}]
        count = lambda network: sum(weight.numel() for weight in network.parameters())
        results["counts"] = [count(network) for network in networks]
        torch.manual_seed(0)
        network = {write_monais(**FOUR_LEVELS)}
        window = torch.from_numpy(x[..., 0])[:, None]
        for index, weight in enumerate(network.state_dict().values()):
            if weight.ndim == 1:
                weight += 0.3 * torch.randn_like(weight)  # norms and biases would all be alike
            results[f"weight_{{index:03}}"] = weight.numpy()
        with torch.no_grad():
            results["logits"] = network.eval()(window)[0].permute(0, 2, 3, 4, 1).numpy()
            for name, values in (("without", 0 * noise), ("with", noise)):
                torch.randn_like = lambda like: torch.from_numpy(values)
                for network.vae_estimate_std in (False, True):
                    key = f"{{name}} {{network.vae_estimate_std}}"
                    results[key] = network.train()(window)[1].numpy()
        """,
        x=x,
        noise=noise,
    )
    assert expected["counts"].tolist() == [count_by_hand(**chosen) for chosen in SETS]
    weights = [values for name, values in sorted(expected.items()) if name.startswith("weight_")]
    names = name_in_monais_order((1, 2, 2, 4), (1, 1, 1))
    for estimate_std in (False, True):
        model = build_segresnet_vae(**FOUR_LEVELS, vae_weight=0.5, estimate_std=estimate_std)
        transfer(model, weights, names)
        np.testing.assert_allclose(
            np.asarray(trim_to_logits(model)(x)), expected["logits"], atol=2e-5
        )
        for name, values in (("without", 0 * noise), ("with", noise)):
            monkeypatch.setattr(
                keras.random, "normal", lambda shape, dtype, seed, values=values: values
            )
            model(x, training=True)
            (loss,) = model.losses
            np.testing.assert_allclose(
                2 * float(loss), expected[f"{name} {estimate_std}"], rtol=1e-5
            )


def test_loss_by_hand() -> None:
    image, reconstruction = np.zeros((2, 1, 1, 1, 1)), np.full((2, 1, 1, 1, 1), 3.0)
    mean, deviation = np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones((2, 2))
    assert float(compute_vae_loss(image, reconstruction, mean)) == pytest.approx(9 + 6 / 4)
    assert float(compute_vae_loss(image, reconstruction, mean, deviation)) == pytest.approx(
        9 + 6 / 8
    )


def test_upsampling_is_pytorchs(torch_reference: TorchReference) -> None:
    x = np.random.default_rng(0).normal(size=(2, 1, 4, 5, 3)).astype(np.float32)
    expected = torch_reference(
        """
        up = torch.nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)
        first = torch.from_numpy(x).permute(0, 4, 1, 2, 3)
        results["up"] = up(first).permute(0, 2, 3, 4, 1).numpy()
        """,
        x=x,
    )
    layer = TrilinearUpsampling()
    np.testing.assert_allclose(np.asarray(layer(x)), expected["up"], atol=1e-6)
    assert layer.compute_output_shape((None, 1, None, 5, 3)) == (None, 2, None, 10, 3)


def test_upsampling_by_hand() -> None:
    x = np.broadcast_to(
        np.array([0.0, 4.0], np.float32)[None, None, :, None, None], (1, 2, 2, 1, 1)
    )
    up = np.asarray(TrilinearUpsampling()(x))
    assert up.shape == (1, 4, 4, 2, 1)
    np.testing.assert_array_equal(up[0, 3, :, 1, 0], [0, 1, 3, 4])


def test_group_norm_is_the_definition() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (2, 3, 4, 5, 16)).astype(np.float32)
    gamma, beta = rng.normal(size=(2, 16)).astype(np.float32)
    layer = GroupNorm(8, epsilon=1e-5)
    layer.build(x.shape)
    layer.set_weights([gamma, beta])
    grouped = x.astype(np.float64).reshape(2, -1, 8, 2)
    mean, variance = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    expected = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape) * gamma + beta
    np.testing.assert_allclose(np.asarray(layer(x)), expected, atol=1e-5)


def test_layers_are_named_and_kernels_start_apart() -> None:
    model = build_segresnet_vae((16, 16, 16), filters=8, latent=4)
    names = [layer.name for layer in model.layers]
    expected = {
        "dropout",
        "encoder_1_conv",
        "encoder_4_block_4_2_conv",
        "decoder_1_up",
        "vae_reconstruction",
        "vae_loss",
    }
    assert expected <= set(names)
    dropout = model.get_layer(
        "dropout"
    )  # of whole channels after the first convolution, as MONAI's Dropout3d
    assert isinstance(dropout, keras.layers.SpatialDropout3D)
    assert dropout.rate == 0.2
    assert dropout.input is model.get_layer("encoder_1_conv").output
    first, second = (model.get_layer(f"encoder_4_block_{index}_1_conv").kernel for index in (1, 2))
    assert not np.allclose(np.asarray(first), np.asarray(second))
    assert np.abs(np.asarray(first)).max() <= 1 / np.sqrt(27 * 64)


def test_loss_is_added_once_a_step_and_only_in_training() -> None:
    model = trim_to_logits(build_segresnet_vae(**TINY))
    x = windows(TINY["input_shape"])
    for _ in range(2):
        model(x, training=True)
        assert len(model.losses) == 1
    model(x)
    assert model.losses == []
    drawn = [np.asarray(model(x, training=training)) for training in (True, False)]
    np.testing.assert_array_equal(*drawn)  # noise and reconstruction do not reach the segmentation


def test_weight_zero_is_the_network_without_branch() -> None:
    model = build_segresnet_vae(**TINY, vae_weight=0)
    before = {
        layer.name: layer.get_weights() for layer in model.layers if layer.name.startswith("vae_")
    }
    alone = keras.models.clone_model(take_segmentation(model))
    alone.set_weights(take_segmentation(model).get_weights())
    train(model, 2)
    train(alone, 2)
    for name, weights in before.items():
        np.testing.assert_equal(model.get_layer(name).get_weights(), weights)
    assert not any(weight.path.startswith("vae_") for weight in model.trainable_weights)
    for ours, expected in zip(
        take_segmentation(model).get_weights(), alone.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("estimate_std", [False, True])
def test_the_loss_moves_encoder_and_branch(estimate_std: bool) -> None:
    model = build_segresnet_vae(**TINY, vae_weight=0.5, estimate_std=estimate_std)
    discarded = build_segresnet_vae(**TINY, vae_weight=0)
    discarded.set_weights(model.get_weights())
    before = {layer.name: layer.get_weights() for layer in model.layers}
    train(model, eagerly=estimate_std)  # once as a graph
    train(discarded)
    first, other = (
        np.asarray(trained.get_layer("encoder_1_conv").kernel) for trained in (model, discarded)
    )
    assert np.abs(first - other).max() > 1e-6
    moved = {
        name
        for name, weights in before.items()
        if weights and np.any(weights[0] != model.get_layer(name).get_weights()[0])
    }
    branch = {
        layer.name for layer in model.layers if layer.name.startswith("vae_") and layer.weights
    }
    assert branch - moved == (set() if estimate_std else {"vae_deviation"})


def test_the_segmentation_shares_weights_and_takes_other_sizes() -> None:
    model = build_segresnet_vae(**TINY | {"dropout": 0.2})
    part, free = take_segmentation(model), take_segmentation(model, (None, None, None))
    assert not any(layer.name.startswith("vae_") for layer in part.layers)
    assert part.input_shape == model.input_shape
    x = windows(TINY["input_shape"])
    for network in (part, free):
        np.testing.assert_allclose(np.asarray(network(x)), np.asarray(model(x)), atol=1e-6)
    x = windows((10, 6, 14))
    other = take_segmentation(model, (10, 6, 14))
    np.testing.assert_allclose(free.predict(x, verbose=0), np.asarray(other(x)), atol=1e-5)
    part.get_layer("logits").bias.assign([5.0])
    assert float(np.asarray(model(windows(TINY["input_shape"]))).mean()) > 0.9


def test_save_and_load_give_the_same_outputs(tmp_path: Path) -> None:
    model = build_segresnet_vae(
        **TINY | {"dropout": 0.3}, vae_weight=0.7, estimate_std=True, default_std=0.1
    )
    x = windows(TINY["input_shape"])
    for network in (model, take_segmentation(model)):
        network.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(network(x)))
        assert loaded.count_params() == network.count_params()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name in ("vae_loss", "vae_draw", "dropout"):
        assert loaded.get_layer(name).get_config() == model.get_layer(name).get_config()
    train(loaded)


def test_half_precision_keeps_logits_and_loss_in_single() -> None:
    single = build_segresnet_vae(**TINY)
    with half_precision():
        model = build_segresnet_vae(**TINY)
        model.set_weights(single.get_weights())
    x = windows(TINY["input_shape"])
    assert (
        model.get_layer("decoder_1_up").output.dtype
        == model.get_layer("vae_loss").output.dtype
        == "bfloat16"
    )
    probability = np.asarray(model(x, training=True))
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, np.asarray(single(x, training=True)), atol=0.05)
    (loss,), (expected,) = model.losses, single.losses
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(loss) == pytest.approx(float(expected), rel=0.1)
    train(model)


def test_the_segmentation_names_a_wrong_size() -> None:
    with pytest.raises(ValueError, match="input_shape must be three multiples of 2"):
        take_segmentation(build_segresnet_vae(**TINY), (8, 9, 16))
