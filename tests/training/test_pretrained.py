"""Published weights: encoders compute what their source networks do, in PyTorch and in Keras."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.backend import keras
from data.command import InputError
from models.alexnet import build_alexnet
from models.resnet18 import build_resnet18
from tests.conftest import ROOT, Command, TorchReference
from training.pretrained import convert, load_encoder

layers = keras.layers
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
WIDTH, FILTERS = 1 / 16, (6, 16, 24, 24, 16, 256, 256)
FORMATS = (".h5", ".weights.h5")


def images(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(1, size, size, 3)).astype(np.float32)


def seen(x: np.ndarray) -> np.ndarray:
    """What a source network of ImageNet is given."""
    return (x - MEAN) / DEVIATION


def outputs(model: keras.Model, *names: str) -> keras.Model:
    return keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])


def randomise(model: keras.Model) -> keras.Model:
    """Give it biases and statistics of a trained one; fresh ones, 0 and 1, would hide mistakes."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.name == "moving_variance":
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        elif weight.name != "kernel":
            weight.assign(rng.normal(1 if weight.name == "gamma" else 0, 0.2, weight.shape))
    return model


def keras_alexnet(fc8: bool = True, dense: bool = True) -> keras.Model:
    """AlexNet with valid paddings; 6 x 6 of its 8 x 8 features see no border but the first."""
    one, two, three, four, five, fc_6, fc_7 = FILTERS
    model = keras.Sequential(
        [
            layers.Input((295, 295, 3)),
            layers.Conv2D(one, 11, strides=4, activation="relu"),
            layers.MaxPooling2D(3, 2),
            layers.Conv2D(two, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(3, 2),
            layers.Conv2D(three, 3, padding="same", activation="relu"),
            layers.Conv2D(four, 3, padding="same", activation="relu"),
            layers.Conv2D(five, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(3, 2),
            layers.Cropping2D(((0, 2), (0, 2))),
            layers.Flatten(),
            layers.Dense(fc_6, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(fc_7, activation="relu", name="fc7"),
            *([layers.Dropout(0.5), layers.Dense(10)] if fc8 else []),
        ]
    )
    return randomise(model)


def keras_resnet18(shortcut_first: bool, filters: int = 3, fc: bool = True) -> keras.Model:
    """ResNet18 version 1 as KerasHub (the shortcut first) or torchvision (last) writes it down."""

    def convolution(x: keras.KerasTensor, width: int, side: int, strides: int) -> keras.KerasTensor:
        if strides > 1:
            x = layers.ZeroPadding2D(side // 2)(x)
        x = layers.Conv2D(width, side, strides, "valid" if strides > 1 else "same", use_bias=False)(
            x
        )
        return layers.BatchNormalization(epsilon=1e-5)(x)

    inputs = layers.Input((64, 64, 3))
    x = layers.ReLU()(convolution(inputs, filters, 7, 2))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage in range(4):
        for block in range(2):
            strides, width = (2 if stage and not block else 1), filters * 2**stage
            shortcut = x
            if strides > 1 and shortcut_first:
                shortcut = convolution(shortcut, width, 1, 2)
            branch = layers.ReLU()(convolution(x, width, 3, strides))
            branch = convolution(branch, width, 3, 1)
            if strides > 1 and not shortcut_first:
                shortcut = convolution(shortcut, width, 1, 2)
            x = layers.ReLU(name="last" if (stage, block) == (3, 1) else None)(
                layers.Add()([branch, shortcut])
            )
    if fc:
        x = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    return randomise(keras.Model(inputs, x))


def save(model: keras.Model, folder: Path, suffix: str) -> Path:
    path = folder / f"source{suffix}"
    model.save_weights(path) if suffix == ".weights.h5" else model.save(path)
    return path


def test_torchvision_alexnet(
    torch_reference: TorchReference, run_module: Command, tmp_path: Path
) -> None:
    x = images(288)
    code = """
        from torchvision.models import alexnet

        torch.manual_seed(0)
        network = alexnet().eval()
        for weight in network.parameters():
            if weight.ndim == 1:
                torch.nn.init.normal_(weight, std=0.05)
        torch.save(network.state_dict(), str(path))
        with torch.no_grad():
            # four rows and columns of zeros before the image: where our first convolution begins
            image = torch.nn.functional.pad(torch.from_numpy(x).permute(0, 3, 1, 2), (4, 0, 4, 0))
            results["conv_5"] = network.features[:12](image).permute(0, 2, 3, 1).numpy()
            features = network.features(image)[:, :, :6, :6]
            results["pool_3"] = features.permute(0, 2, 3, 1).numpy()
            flat = torch.flatten(network.avgpool(features), 1)
            results["fc_6"] = network.classifier[:3](flat).numpy()
            results["fc_7"] = network.classifier[:6](flat).numpy()
        """
    source = torch_reference(code, x=seen(x), path=str(tmp_path / "alexnet.pth"))
    done = run_module(
        "training.convert_weights", tmp_path / "alexnet.pth", tmp_path / "alexnet.npz"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "AlexNet, filters 64-192-384-256-256-4096-4096" in done.stdout

    model = build_alexnet(288, 3, upsampling="stride_32", variant="torchvision")
    load_encoder(model, tmp_path / "alexnet.npz")
    names = ("encoder_conv_5", "encoder_pool_3", "encoder_fc_6", "encoder_fc_7")
    conv_5, pool_3, fc_6, fc_7 = map(np.asarray, outputs(model, *names)(x))
    assert conv_5.std() > 0.01
    # further down and right the border is within reach, where same and valid paddings differ
    np.testing.assert_allclose(conv_5[:, :13, :13], source["conv_5"][:, :13, :13], atol=1e-5)
    np.testing.assert_allclose(pool_3[:, :6, :6], source["pool_3"], atol=1e-5)
    # the 6 x 6 window of this position is exactly the first 6 x 6 features
    np.testing.assert_allclose(fc_6[:, 3, 3], source["fc_6"], atol=1e-5)
    np.testing.assert_allclose(fc_7[:, 3, 3], source["fc_7"], atol=1e-5)
    assert fc_7[:, 3, 3].std() > 0.01


def test_torchvision_resnet18(torch_reference: TorchReference, tmp_path: Path) -> None:
    x = images(64)
    code = """
        import sys; sys.path.insert(0, str(root))
        from pathlib import Path
        from torchvision.models import resnet18
        from training.pretrained import convert

        torch.manual_seed(0)
        network = resnet18().eval()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for name, weight in (("running_mean", 0.0), ("bias", 0.0), ("weight", 1.0)):
                    torch.nn.init.normal_(getattr(module, name), mean=weight, std=0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 2)
        torch.save(network.state_dict(), str(path))
        with torch.no_grad():
            image = torch.from_numpy(x).permute(0, 3, 1, 2)
            image = network.maxpool(network.relu(network.bn1(network.conv1(image))))
            for stage in (1, 2, 3, 4):
                image = getattr(network, f"layer{stage}")(image)
                results[str(stage)] = image.permute(0, 2, 3, 1).numpy()
        results["recognised"] = convert(Path(str(path)), Path(str(out)))
        """
    given = {
        "path": str(tmp_path / "resnet18.pt"),
        "out": str(tmp_path / "resnet18.npz"),
        "root": str(ROOT),
    }
    source = torch_reference(code, x=seen(x), **given)
    assert source["recognised"] == "ResNet18, filters 64"
    model = build_resnet18(64, 3)
    load_encoder(model, tmp_path / "resnet18.npz")
    found = outputs(model, *(f"encoder_stage_{stage}_block_2_relu" for stage in (1, 2, 3, 4)))(x)
    for stage, features in enumerate(found, start=1):
        expected = source[str(stage)]
        assert expected.std() > 0.1
        np.testing.assert_allclose(np.asarray(features), expected, atol=1e-4 * expected.max())


@pytest.mark.parametrize(
    ("suffix", "fc8"), [(".h5", True), (".weights.h5", True), (".weights.h5", False)]
)
def test_alexnet_of_keras(suffix: str, fc8: bool, tmp_path: Path) -> None:
    source = keras_alexnet(fc8)
    assert (
        convert(save(source, tmp_path, suffix), tmp_path / "out.npz")
        == "AlexNet, filters 6-16-24-24-16-256-256"
    )
    model = build_alexnet(288, 3, width=WIDTH, upsampling="stride_32")
    load_encoder(model, tmp_path / "out.npz")
    x = images(288)
    fc_7 = np.asarray(outputs(model, "encoder_fc_7")(x))
    begun = np.pad(seen(x), ((0, 0), (6, 1), (6, 1), (0, 0)))  # as our first convolution pads
    expected = np.asarray(outputs(source, "fc7")(begun))
    assert expected.std() > 0.01
    np.testing.assert_allclose(fc_7[:, 3, 3], expected, atol=1e-5)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("shortcut_first", [True, False])
def test_resnet18_of_keras(suffix: str, shortcut_first: bool, tmp_path: Path) -> None:
    source = keras_resnet18(shortcut_first)
    assert convert(save(source, tmp_path, suffix), tmp_path / "out.npz") == "ResNet18, filters 3"
    model = build_resnet18(64, 3, filters=3)
    load_encoder(model, tmp_path / "out.npz")
    x = images(64)
    expected = np.asarray(outputs(source, "last")(seen(x)))
    assert expected.std() > 0.1
    features = np.asarray(outputs(model, "encoder_stage_4_block_2_relu")(x))
    np.testing.assert_allclose(features, expected, atol=1e-4 * expected.max())


def test_loading_changes_the_encoder_only(tmp_path: Path) -> None:
    convert(save(keras_alexnet(), tmp_path, ".weights.h5"), tmp_path / "out.npz")
    for upsampling in ("dilated", "skips"):
        model = build_alexnet(64, width=WIDTH, upsampling=upsampling)
        before = {weight.path: np.asarray(weight) for weight in model.weights}
        load_encoder(model, tmp_path / "out.npz")
        for weight in model.weights:
            same = np.array_equal(np.asarray(weight), before[weight.path])
            assert same != weight.path.startswith("encoder_"), weight.path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good file of the small AlexNet."""
    folder = tmp_path_factory.mktemp("converted")
    convert(save(keras_alexnet(), folder, ".weights.h5"), folder / "good.npz")
    return folder / "good.npz"


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: build_alexnet(32, width=1 / 32), "encoder_conv_1/kernel is .* not "),
        (
            lambda: build_alexnet(32, width=WIDTH, variant="torchvision"),
            "encoder_conv_1/kernel is .* not ",
        ),
        (lambda: build_resnet18(32, filters=1), "encoder_.*: "),
    ],
)
def test_weights_of_another_architecture_are_refused_and_nothing_changes(
    model: Callable[[], keras.Model], why: str, converted: Path
) -> None:
    network = model()
    before = network.get_weights()
    with pytest.raises(
        InputError, match=f"good.npz: weights of another architecture than {network.name}.*{why}"
    ):
        load_encoder(network, converted)
    for weight, old in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_files_that_are_not_converted_weights_are_refused(converted: Path, tmp_path: Path) -> None:
    model = build_alexnet(32, width=WIDTH)
    whole = converted.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    bad = {
        "short.npz": whole[: len(whole) // 2],
        "flipped.npz": whole[:5000] + bytes(5000) + whole[10000:],
        "text.npz": b"weights",
        "empty.npz": b"",
        "array.npz": (tmp_path / "array.npy").read_bytes(),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            InputError, match=f"{name}: truncated, or not a file of training.convert_weights"
        ):
            load_encoder(model, tmp_path / name)
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        load_encoder(model, tmp_path / "none.npz")


def vgg_like() -> keras.Model:
    return keras.Sequential(
        [layers.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)]
    )


def grouped_alexnet() -> keras.Model:
    model = keras_alexnet()
    return keras.Sequential(
        [layers.Input((295, 295, 3))]
        + [
            layers.Conv2D(16, 5, padding="same", groups=2) if index == 2 else layer
            for index, layer in enumerate(model.layers)
        ]
    )


def with_normalisation() -> keras.Model:
    model = keras_alexnet()
    image = layers.Input((295, 295, 3))
    return keras.Sequential(
        [image, *model.layers[:2], layers.BatchNormalization(), *model.layers[2:]]
    )


def nested() -> keras.Model:
    return keras.Sequential([layers.Input((8, 8, 3)), vgg_like(), layers.Dense(2)])


def with_another_kind() -> keras.Model:
    return keras.Sequential(
        [layers.Input((295, 295, 3)), *keras_alexnet().layers, layers.LayerNormalization()]
    )


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "network", [vgg_like, grouped_alexnet, with_normalisation, nested, with_another_kind]
)
def test_other_networks_of_keras_are_refused(
    network: Callable[[], keras.Model], suffix: str, tmp_path: Path
) -> None:
    path = save(network(), tmp_path, suffix)
    with pytest.raises(
        InputError, match=r"source.*: weights of another architecture than AlexNet and ResNet18 \("
    ):
        convert(path, tmp_path / "out.npz")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # nothing was written


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = keras_alexnet()
    model.layers[0].bias.assign([np.nan] * FILTERS[0])
    with pytest.raises(
        InputError,
        match=r"source\.h5: damaged, encoder_conv_1/bias holds numbers that are not finite",
    ):
        convert(save(model, tmp_path, ".h5"), tmp_path / "out.npz")


def test_files_that_cannot_be_read_end_in_one_line(tmp_path: Path, run_module: Command) -> None:
    whole = save(vgg_like(), tmp_path, ".h5").read_bytes()
    (tmp_path / "short.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5").write_text("weights", encoding="utf-8")
    (tmp_path / "text.ckpt").write_text("weights", encoding="utf-8")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    with h5py.File(tmp_path / "layers.h5", "w") as file:
        file["layers"] = np.zeros(3)
    with h5py.File(tmp_path / "text_layers.h5", "w") as file:
        file["layers/conv2d/vars/0"] = "weights"
    out = tmp_path / "out.npz"
    for name, why in {
        "short.h5": "not an HDF5 file of Keras, or truncated",
        "text.h5": "not an HDF5 file of Keras, or truncated",
        "other.h5": "weights of another architecture .*without Keras's layer_names",
        "text_layers.h5": "not an HDF5 file of Keras",
        "layers.h5": "not an HDF5 file of Keras",
        "none.h5": "no such file",
        "text.ckpt": "must end in one of .pth, .pt, .h5, .hdf5",
    }.items():
        with pytest.raises(InputError, match=f"{name}: {why}"):
            convert(tmp_path / name, out)
    with pytest.raises(InputError, match=r"must end in \.npz"):
        convert(tmp_path / "source.h5", tmp_path / "out.h5")
    done = run_module("training.convert_weights", tmp_path / "short.h5", out)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not out.exists()


def test_pytorch_files_that_cannot_be_used_are_refused_in_one_line(
    torch_reference: TorchReference, tmp_path: Path
) -> None:
    other = "weights of another architecture than AlexNet and ResNet18"
    unread = "not a PyTorch state dict, or truncated"
    expected = dict.fromkeys(("layer", "grouped", "flat"), other)
    expected |= dict.fromkeys(("module", "list", "short", "text"), unread)
    code = """
        import sys; sys.path.insert(0, str(root))
        from pathlib import Path
        from training.pretrained import InputError, convert

        layer = torch.nn.Linear(3, 2)
        torch.save(layer.state_dict(), f"{folder}/layer.pth")
        torch.save(layer, f"{folder}/module.pth")
        torch.save([1, 2], f"{folder}/list.pth")
        # AlexNet as it was first, in two groups: the second convolution sees half of the output.
        shapes = {"features.0": (4, 3, 11, 11), "features.3": (4, 2, 5, 5)}
        shapes |= {"features.6": (4, 4, 3, 3), "features.8": (4, 2, 3, 3)}
        shapes |= {"features.10": (4, 2, 3, 3), "classifier.1": (8, 144)}
        state = {}
        for name, shape in (shapes | {"classifier.4": (8, 8)}).items():
            state |= {f"{name}.weight": torch.zeros(shape), f"{name}.bias": torch.zeros(shape[0])}
        torch.save(state, f"{folder}/grouped.pth")
        state["classifier.1.weight"] = torch.zeros(8, 140)
        torch.save(state, f"{folder}/flat.pth")
        whole = open(f"{folder}/layer.pth", "rb").read()
        open(f"{folder}/short.pth", "wb").write(whole[: len(whole) // 2])
        open(f"{folder}/text.pth", "w").write("weights")
        for name in names:
            try:
                convert(Path(f"{folder}/{name}.pth"), Path(f"{folder}/out.npz"))
            except InputError as error:
                results[str(name)] = str(error)
        """
    refused = torch_reference(code, folder=str(tmp_path), root=str(ROOT), names=list(expected))
    for name, why in expected.items():
        assert str(refused[name]).split(" (")[0] == f"{tmp_path / name}.pth: {why}"
        assert "\n" not in str(refused[name])
    assert not (tmp_path / "out.npz").exists()


def test_missing_pytorch_is_said_in_one_line(run_module: Command, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no PyTorch here')", encoding="utf-8")
    (tmp_path / "weights.pth").write_bytes(b"weights")
    out = tmp_path / "out.npz"
    done = run_module(
        "training.convert_weights", tmp_path / "weights.pth", out, PYTHONPATH=str(tmp_path)
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "weights.pth: reading it needs PyTorch, which is not installed" in done.stderr


def test_converting_imports_no_keras() -> None:
    heavy = "{'keras', 'tensorflow', 'torch'}"
    script = f"import sys, training.convert_weights; print(*{heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
