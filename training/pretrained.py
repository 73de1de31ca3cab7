"""Read published ImageNet weights for AlexNet's and ResNet18's encoders.

    python -m training.convert_weights FILE OUT.npz

turns a published file into an .npz whose keys are this project's layer and weight names, as in
`encoder_conv_1/kernel`; `load_encoder` puts it into a network. Nothing is downloaded. FILE is

*.pth, *.pt     a PyTorch state dict with torchvision's keys: its `alexnet` (which fits the variant
                "torchvision") or `resnet18`. Needs PyTorch, which cannot share a process with
                TensorFlow: nothing here imports Keras.
*.h5, *.hdf5    what Keras saves: a whole model or weights with a `layer_names` attribute (Keras 2,
                and Keras 3's `save("model.h5")`), or Keras 3's `.weights.h5`. Layers are told apart
                by order and shape; names differ from file to file. AlexNet: five Conv2D with bias
                and two or three Dense with bias (ungrouped, valid or same paddings, channels last
                before the flatten). ResNet18 version 1: 20 Conv2D without bias, 20
                BatchNormalization, a Dense or none, in torchvision's order, a block's shortcut
                before or after the rest (so KerasHub's `resnet_18_imagenet`, by its code; not
                tried). Nested models and anything else are refused.

The last fully connected layer is left out. FC6's and FC7's matrices become 6 x 6 and 1 x 1 kernels:
torchvision flattens (256, 6, 6), Keras (6, 6, 256); torchvision's average pooling to 6 x 6 before
is the identity for 224 x 224 images. A file does not say what images its network saw; the encoders
give it RGB in [0, 1] with ImageNet's mean and deviation (assumed: as torchvision and KerasHub
train). By hand, because Keras Applications and KerasHub hold no AlexNet, and no ResNet18 with the
project's layers.
"""

from __future__ import annotations

import importlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data.command import InputError
from data.files import replace_file

if TYPE_CHECKING:
    from data.backend import keras

Arrays = dict[str, np.ndarray]

ALEXNET = {
    "encoder_conv_1": "features.0",
    "encoder_conv_2": "features.3",
    "encoder_conv_3": "features.6",
    "encoder_conv_4": "features.8",
    "encoder_conv_5": "features.10",
    "encoder_fc_6": "classifier.1",
    "encoder_fc_7": "classifier.4",
}
"""torchvision's names by ours, in the order of the layers."""
ALEXNET_SIDES = (11, 5, 3, 3, 3, 6, 1)


class Row(NamedTuple):
    """A convolution of ResNet18.

    Attributes:
        torch: torchvision's name of it.
        torch_norm: torchvision's name of its normalisation.
        side: of its kernel.
        before: its input channels, a multiple of the first convolution's; 0: the image's three.
        after: its output channels, a multiple of the first convolution's.
    """

    torch: str
    torch_norm: str
    side: int
    before: int
    after: int


def _list_resnet18() -> dict[str, Row]:
    table = {"encoder_conv_1": Row("conv1", "bn1", 7, 0, 1)}
    for stage in (1, 2, 3, 4):
        for block in (1, 2):
            ours, theirs = f"encoder_stage_{stage}_block_{block}", f"layer{stage}.{block - 1}"
            after = 2 ** (stage - 1)
            before = after // 2 if stage > 1 and block == 1 else after
            table[f"{ours}_conv_1"] = Row(f"{theirs}.conv1", f"{theirs}.bn1", 3, before, after)
            table[f"{ours}_conv_2"] = Row(f"{theirs}.conv2", f"{theirs}.bn2", 3, after, after)
            if before < after:
                table[f"{ours}_shortcut"] = Row(
                    f"{theirs}.downsample.0", f"{theirs}.downsample.1", 1, before, after
                )
    return table


RESNET18 = _list_resnet18()
"""By our name, in torchvision's order."""
NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""PyTorch's names of a batch normalisation's weights by Keras's."""


def load_encoder(model: keras.Model, path: Path) -> None:
    """Put the weights of an .npz of `convert` into the encoder of `model`.

    All or none are put in; layers outside the encoder keep their weights.

    Raises:
        InputError: no such file, truncated, not of that kind, or of another architecture, variant
            or width.
    """
    arrays = _read_npz(path)
    encoder = [each for each in model.layers if each.name.startswith("encoder_") and each.weights]
    shapes = {
        f"{layer.name}/{weight.name}": tuple(weight.shape)
        for layer in encoder
        for weight in layer.weights
    }
    # All is compared before any weight is set: a network is never half loaded.
    if not shapes.keys() & arrays.keys():
        raise InputError(
            f"{path}: holds no weights of {model.name}; training.convert_weights makes such a file"
        )
    if different := sorted(shapes.keys() ^ arrays.keys()):
        lacks = "the file lacks it" if different[0] in shapes else "the network has none"
        raise InputError(
            f"{path}: weights of another architecture than {model.name} ({different[0]}: {lacks})"
        )
    for key, shape in shapes.items():
        if arrays[key].shape != shape:
            raise InputError(
                f"{path}: weights of another architecture than {model.name}, its variant or its "
                f"width ({key} is {arrays[key].shape}, not {shape})"
            )
    for layer in encoder:
        layer.set_weights([arrays[f"{layer.name}/{weight.name}"] for weight in layer.weights])


def convert(source: Path, target: Path) -> str:
    """Read a published file and write the whole .npz for `load_encoder`.

    Returns:
        What was recognised, as "ResNet18, filters 64".

    Raises:
        InputError: a file or a suffix that cannot be used; PyTorch is needed and missing.
    """
    if target.suffix != ".npz":
        raise InputError(f"{target}: the file to write must end in .npz")
    # The suffix decides, so that PyTorch is imported only where it is needed.
    readers = {".pth": _read_torch, ".pt": _read_torch, ".h5": _read_hdf5, ".hdf5": _read_hdf5}
    if source.suffix not in readers:
        raise InputError(f"{source}: must end in one of {', '.join(readers)}")
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    try:
        arrays = readers[source.suffix](source)
        recognised = _check(arrays)
    except _OtherError as error:
        raise InputError(
            f"{source}: weights of another architecture than AlexNet and ResNet18 ({error})"
        ) from None
    # A number that is not finite would spoil a whole training.
    if damaged := [key for key, array in arrays.items() if not np.isfinite(array).all()]:
        raise InputError(f"{source}: damaged, {damaged[0]} holds numbers that are not finite")
    with replace_file(target) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)
    return recognised


DAMAGED = (
    OSError, RuntimeError, ValueError, EOFError, TypeError, AttributeError, LookupError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and h5py raise for a file that is not theirs, or truncated."""


class _OtherError(Exception):
    """The file is whole, but holds another network."""


def _read_npz(path: Path) -> Arrays:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        try:
            # A bare array, as from .npy, is no context: TypeError.
            with np.load(file, allow_pickle=False) as content:
                return dict(content)
        except DAMAGED:
            raise InputError(
                f"{path}: truncated, or not a file of training.convert_weights"
            ) from None


def _read_torch(path: Path) -> Arrays:
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        raise InputError(
            f"{path}: reading it needs PyTorch, which is not installed (pip install torch)"
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        arrays = {
            key: value.detach().float().numpy()
            for key, value in state.items()
            if not key.endswith("num_batches_tracked")
        }
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise InputError(
            f"{path}: not a PyTorch state dict, or truncated ({type(error).__name__})"
        ) from None
    return _map_torch(arrays)


def _map_torch(state: Mapping[str, np.ndarray]) -> Arrays:
    """Map torchvision's keys to ours.

    Its matrices are (out, in), its kernels (out, in, rows, columns).
    """
    keys = {key for key in state if not key.startswith(("classifier.6.", "fc."))}
    arrays: Arrays = {}
    if keys == {f"{theirs}.{kind}" for theirs in ALEXNET.values() for kind in ("weight", "bias")}:
        for (ours, theirs), side in zip(ALEXNET.items(), ALEXNET_SIDES, strict=True):
            kernel = state[f"{theirs}.weight"]
            if kernel.ndim == 2:
                kernel = kernel.reshape(
                    len(kernel), _count_channels(kernel.shape[1], side, ours), side, side
                )
            arrays |= {
                f"{ours}/kernel": _move_channels_last(kernel, ours),
                f"{ours}/bias": state[f"{theirs}.bias"],
            }
        return arrays
    norms = {f"{row.torch_norm}.{kind}" for row in RESNET18.values() for kind in NORM.values()}
    if keys == norms | {f"{row.torch}.weight" for row in RESNET18.values()}:
        for ours, row in RESNET18.items():
            arrays[f"{ours}/kernel"] = _move_channels_last(state[f"{row.torch}.weight"], ours)
            arrays |= {
                f"{ours}_norm/{kind}": state[f"{row.torch_norm}.{theirs}"]
                for kind, theirs in NORM.items()
            }
        return arrays
    raise _OtherError(f"its {len(state)} keys are neither's")


def _move_channels_last(kernel: np.ndarray, name: str) -> np.ndarray:
    if kernel.ndim != 4:
        raise _OtherError(f"{name} has a kernel of {kernel.ndim} dimensions")
    return kernel.transpose(2, 3, 1, 0)


def _read_hdf5(path: Path) -> Arrays:
    h5py: Any = importlib.import_module("h5py")  # comes with Keras
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            if "layer_names" in root.attrs:
                layers = list(_read_legacy_layers(root))
            elif "layers" in root:
                layers = list(_read_keras_3_layers(root["layers"]))
            else:
                raise _OtherError("without Keras's layer_names or layers")
    except DAMAGED as error:
        raise InputError(
            f"{path}: not an HDF5 file of Keras, or truncated ({type(error).__name__})"
        ) from None
    return _map_keras(layers)


def _read_legacy_layers(root: Any) -> Iterator[Arrays]:
    """Yield each layer's weights by their last name, in the order of `layer_names`."""
    for layer in root.attrs["layer_names"]:
        group = root[layer]
        names = [
            name.decode() if isinstance(name, bytes) else name
            for name in group.attrs["weight_names"]
        ]
        weights = {
            name.split("/")[-1].split(":")[0]: np.asarray(group[name], np.float32) for name in names
        }
        if len(weights) < len(names):
            raise _OtherError("a layer with layers inside")
        if weights:
            yield weights


KERAS_3_WEIGHTS = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": tuple(NORM),
}
"""What `vars/0`, `vars/1`, ... of a layer are, by its class."""


def _read_keras_3_layers(root: Any) -> Iterator[Arrays]:
    """Yield each layer's weights by name: convolutions, matrices, normalisations.

    Groups have the layer's class name and, from the second on, a number: `conv2d`, `conv2d_1`, ...
    """
    groups: dict[str, dict[int, Any]] = {kind: {} for kind in KERAS_3_WEIGHTS}
    for name, group in root.items():
        kind, _, number = name.rpartition("_")
        if not number.isdigit():
            kind, number = name, "0"
        if kind in groups:
            groups[kind][int(number)] = group["vars"]
        elif group.visit(_find_weight):
            raise _OtherError(f"it has a layer {name} with weights")
    for kind, numbered in groups.items():
        for _, group in sorted(numbered.items()):
            if len(group) > len(KERAS_3_WEIGHTS[kind]):
                raise _OtherError(f"a {kind} with {len(group)} weights")
            names = KERAS_3_WEIGHTS[kind][: len(group)]
            yield {
                name: np.asarray(group[str(index)], np.float32) for index, name in enumerate(names)
            }


def _find_weight(name: str) -> bool | None:
    # The state of a dropout's random numbers is stored like a weight.
    return True if re.search(r"(^|/)vars/\d", name) and "seed_generator" not in name else None


def _map_keras(layers: list[Arrays]) -> Arrays:
    kinds = ({"kernel"}, {"kernel", "bias"})
    kernels = [
        layer for layer in layers if layer.keys() in kinds and layer["kernel"].ndim in (2, 4)
    ]
    norms = [layer for layer in layers if layer.keys() == NORM.keys()]
    if len(kernels) + len(norms) != len(layers):
        raise _OtherError("it has other layers than Conv2D, Dense and BatchNormalization")
    if not norms and len(kernels) in (7, 8) and all("bias" in layer for layer in kernels):
        return _map_alexnet(kernels[:7])
    if (
        len(norms) == 20
        and len(kernels) in (20, 21)
        and not any("bias" in layer for layer in kernels[:20])
    ):
        return _map_resnet18(kernels[:20], norms)
    raise _OtherError(f"{len(kernels)} convolutions and matrices, {len(norms)} normalisations")


def _map_alexnet(layers: list[Arrays]) -> Arrays:
    arrays: Arrays = {}
    for ours, side, layer in zip(ALEXNET, ALEXNET_SIDES, layers, strict=True):
        kernel = layer["kernel"]
        if kernel.ndim == 2:
            kernel = kernel.reshape(side, side, _count_channels(len(kernel), side, ours), -1)
        arrays |= {f"{ours}/kernel": kernel, f"{ours}/bias": layer["bias"]}
    return arrays


def _map_resnet18(kernels: list[Arrays], norms: list[Arrays]) -> Arrays:
    """Map a ResNet18: the n-th normalisation follows the n-th convolution.

    A shortcut, 1 x 1, may stand before or after the others of its block.
    """
    shortcuts = [i for i, layer in enumerate(kernels) if layer["kernel"].shape[0] == 1]
    others = [i for i in range(len(kernels)) if i not in shortcuts]
    if len(shortcuts) != 3:
        raise _OtherError(f"{len(shortcuts)} convolutions of 1 x 1")
    arrays: Arrays = {}
    for ours, row in RESNET18.items():
        index = (shortcuts if row.side == 1 else others).pop(0)
        arrays[f"{ours}/kernel"] = kernels[index]["kernel"]
        arrays |= {f"{ours}_norm/{kind}": norms[index][kind] for kind in NORM}
    return arrays


def _count_channels(inputs: int, side: int, name: str) -> int:
    """Return the channels of a side x side map that was flattened to `inputs`."""
    if inputs % side**2:
        raise _OtherError(f"{name} has {inputs} inputs, no multiple of {side} x {side}")
    return inputs // side**2


def _check(arrays: Arrays) -> str:
    """Compare every shape with the architecture's; return what was recognised."""
    widths = {
        key.split("/")[0]: array.shape[-1]
        for key, array in arrays.items()
        if key.endswith("/kernel")
    }
    # Widths are the file's own; what must fit is how the layers follow each other.
    first = widths["encoder_conv_1"]
    shapes: dict[str, tuple[int, ...]] = {}
    if "encoder_fc_6" in widths:
        before = 3
        for (name, width), side in zip(widths.items(), ALEXNET_SIDES, strict=True):
            shapes |= {f"{name}/kernel": (side, side, before, width), f"{name}/bias": (width,)}
            before = width
        recognised = f"AlexNet, filters {'-'.join(map(str, widths.values()))}"
    else:
        for name, row in RESNET18.items():
            shapes[f"{name}/kernel"] = (
                row.side,
                row.side,
                row.before * first or 3,
                row.after * first,
            )
            shapes |= {f"{name}_norm/{kind}": (row.after * first,) for kind in NORM}
        recognised = f"ResNet18, filters {first}"
    for key, shape in shapes.items():
        if arrays[key].shape != shape:
            raise _OtherError(f"{key} is {arrays[key].shape}, not {shape}")
    return recognised
