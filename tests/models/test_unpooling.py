"""Pooling with indices and unpooling: by hand, against PyTorch, and on Keras's other backends."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.unpooling import MaxPoolingWithIndices2D, MaxUnpooling2D
from tests.conftest import ROOT, TorchReference

NAMES = ("pooled", "indices", "unpooled", "gradient")


def make_arrays() -> dict[str, np.ndarray]:
    """Slices of random values, of small integers (ties) and of zeros; gradients of both outputs."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 8, 12, 5))
    x[1] = rng.integers(0, 3, x[1].shape)
    x[2] = 0
    of_pooled, of_unpooled = rng.normal(size=(3, 4, 6, 5)), rng.normal(size=x.shape)
    arrays = {"x": x, "of_pooled": of_pooled, "of_unpooled": of_unpooled}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def run_layers(
    x: np.ndarray, of_pooled: np.ndarray, of_unpooled: np.ndarray
) -> dict[str, np.ndarray]:
    """The layers' outputs of x, with unpooled values that are not the maxima; the gradient."""
    source = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(source)
        pooled, indices = MaxPoolingWithIndices2D()(source)
        unpooled = MaxUnpooling2D()(3 * pooled + 1, indices)
        total = tf.reduce_sum(pooled * of_pooled) + tf.reduce_sum(unpooled * of_unpooled)
    results = (pooled, indices, unpooled, tape.gradient(total, source))
    return dict(zip(NAMES, map(np.asarray, results), strict=True))


def test_an_example_by_hand() -> None:
    x = np.array([[1, 2, 5, 5], [4, 3, 5, 5], [0, 0, -4, -1], [0, 7, -3, -1]], np.float32)[
        None, :, :, None
    ]
    pooled, indices = MaxPoolingWithIndices2D()(x)
    assert np.asarray(pooled)[0, :, :, 0].tolist() == [[4, 5], [7, -1]]
    assert np.asarray(indices)[0, :, :, 0].tolist() == [[2, 0], [3, 1]]
    values = np.array([[10, 20], [30, 40]], np.float32)[None, :, :, None]
    unpooled = np.asarray(MaxUnpooling2D()(values, indices))[0, :, :, 0]
    assert unpooled.tolist() == [[0, 0, 20, 0], [10, 0, 0, 0], [0, 0, 0, 40], [0, 30, 0, 0]]


def test_of_equal_values_the_first_by_rows_gets_the_index_and_the_gradient() -> None:
    windows = [[1, 1, 1, 1], [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1], [-2, -2, -1, -1]]
    x = np.array(windows, np.float32).reshape(5, 2, 2, 1)
    got = run_layers(x, np.ones((5, 1, 1, 1), np.float32), np.zeros_like(x))
    assert got["indices"].ravel().tolist() == [0, 1, 1, 2, 2]
    np.testing.assert_array_equal(got["gradient"].reshape(5, 4), np.eye(4)[[0, 1, 1, 2, 2]])


def test_outputs_and_gradient_are_those_of_pytorch(torch_reference: TorchReference) -> None:
    expected = torch_reference(
        """
        from torch.nn.functional import max_pool2d, max_unpool2d

        first = lambda array: torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()
        last = lambda tensor: tensor.detach().permute(0, 2, 3, 1).numpy()
        source = first(x).requires_grad_()
        pooled, flat = max_pool2d(source, 2, return_indices=True)
        unpooled = max_unpool2d(3 * pooled + 1, flat, 2)
        ((pooled * first(of_pooled)).sum() + (unpooled * first(of_unpooled)).sum()).backward()
        columns = source.shape[3]
        indices = 2 * (flat // columns % 2) + flat % columns % 2
        outputs = (pooled, indices, unpooled, source.grad)
        names = ("pooled", "indices", "unpooled", "gradient")
        results.update(zip(names, map(last, outputs)))
        """,
        **make_arrays(),
    )
    got = run_layers(**make_arrays())
    for name in NAMES:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-6, err_msg=name)


ON_ANOTHER_BACKEND = """
import sys
import numpy as np
from data.backend import keras
from models.unpooling import MaxPoolingWithIndices2D, MaxUnpooling2D

given, written, network = np.load(sys.argv[1]), sys.argv[2], sys.argv[3]

def total(x):
    pooled, indices = MaxPoolingWithIndices2D()(x)
    unpooled = MaxUnpooling2D()(3 * pooled + 1, indices)
    weighted = keras.ops.sum(pooled * tensor("of_pooled"))
    weighted += keras.ops.sum(unpooled * tensor("of_unpooled"))
    return weighted, (pooled, indices, unpooled)

def tensor(name):
    return keras.ops.convert_to_tensor(given[name])

if keras.backend.backend() == "jax":
    import jax
    gradient, parts = jax.jit(jax.grad(total, has_aux=True))(tensor("x"))
else:
    x = tensor("x").requires_grad_()
    weighted, parts = total(x)
    weighted.backward()
    gradient = x.grad
results = dict(zip(("pooled", "indices", "unpooled", "gradient"), (*parts, gradient)))
results["predicted"] = keras.saving.load_model(network)(given["x"])
np.savez(written, **{name: keras.ops.convert_to_numpy(value) for name, value in results.items()})
"""


def small_network() -> keras.Model:
    """Both layers in a graph of free batch and slice size; doubles each maximum in its place."""
    inputs = keras.Input((None, None, 5))
    pooled, indices = MaxPoolingWithIndices2D(name="pool")(inputs)
    return keras.Model(
        inputs, MaxUnpooling2D(name="unpool")(keras.layers.Add()([pooled, pooled]), indices)
    )


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_gives_the_same(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed (it is no requirement)")
    model, paths = (
        small_network(),
        [tmp_path / name for name in ("given.npz", "results.npz", "model.keras")],
    )
    np.savez(paths[0], **make_arrays())
    model.save(paths[2])
    done = subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_BACKEND, *map(str, paths)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = {**run_layers(**make_arrays()), "predicted": np.asarray(model(make_arrays()["x"]))}
    with np.load(paths[1]) as results:
        assert set(results) == set(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(results[name], array, atol=1e-6, err_msg=name)


def test_the_shapes_of_a_graph_and_its_outputs_at_other_sizes() -> None:
    model = small_network()
    assert model.output_shape == (None, None, None, 5)
    assert [spec.shape for spec in model.get_layer("pool").output] == [(None, None, None, 5)] * 2
    sized = MaxPoolingWithIndices2D()(keras.Input((8, 12, 5)))
    assert [spec.shape for spec in sized] == [(None, 4, 6, 5)] * 2
    assert MaxUnpooling2D()(*sized).shape == (None, 8, 12, 5)
    # in a traced function of unknown sizes too
    traced = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 5), tf.float32)])
    for x in (make_arrays()["x"], make_arrays()["x"][:1, :4, :6]):
        largest = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, 5).max((2, 4))
        for outputs in (model(x), traced(x)):
            assert outputs.shape == x.shape
            assert np.asarray(outputs).sum() == pytest.approx(2 * largest.sum(), rel=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_the_indices(policy: str) -> None:
    x = (
        np.random.default_rng(0).permutation(256).reshape(1, 16, 16, 1).astype(np.float32)
    )  # exact in 8 bits
    expected_values, expected_indices = MaxPoolingWithIndices2D()(x)
    pooled, indices = MaxPoolingWithIndices2D(dtype=policy)(x)
    assert pooled.dtype == indices.dtype == policy.removeprefix("mixed_")
    np.testing.assert_array_equal(np.asarray(pooled, np.float32), expected_values)
    np.testing.assert_array_equal(np.asarray(indices, np.float32), expected_indices)
    unpooled = MaxUnpooling2D(dtype=policy)(pooled, indices)
    assert unpooled.dtype == pooled.dtype
    assert np.asarray(unpooled, np.float32).sum() == np.asarray(expected_values).sum()
    spec = MaxPoolingWithIndices2D(dtype=policy)(keras.Input((8, 8, 1)))
    assert {part.dtype for part in (*spec, MaxUnpooling2D(dtype=policy)(*spec))} == {
        pooled.dtype.name
    }


def test_wrong_inputs_are_named() -> None:
    pool, unpool = MaxPoolingWithIndices2D(), MaxUnpooling2D()
    for odd in (np.zeros((1, 4, 5, 1)), keras.Input((4, 5, 1))):
        with pytest.raises(ValueError, match="rows and columns must be even, got 4 x 5"):
            pool(odd)
    with pytest.raises(ValueError, match=r"the input must have the axes .*, got shape \(2, 4, 4\)"):
        pool(np.zeros((2, 4, 4)))
    for sizes in ((4, 2), (2, 4)):
        values, indices = (keras.Input((size, size, 1)) for size in sizes)
        with pytest.raises(ValueError, match="indices must have the shape of values"):
            unpool(values, indices)
