"""The nested network: a pair comes out unchanged, the tumor's loss reaches the liver's network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from data.backend import convert_to_single_precision, load_network
from models.cascade import MASKS, LiverMask, build_cascade, split_cascade, trim_cascade_to_logits
from models.head import trim_to_logits
from models.sequential import mask_liver
from models.unet import build_unet
from tests.models.conftest import half_precision

SIZE = 16


def build_network(name: str, seed: int, size: int = SIZE) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return build_unet(size, widths=(4, 8), dropout=0, name=name)


def draw_slices(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, SIZE, SIZE, 1)).astype(np.float32)


def build_pair() -> tuple[keras.Model, keras.Model, float]:
    """L, T and a threshold that about half of L's pixels exceed."""
    liver, tumor = build_network("liver", 1), build_network("tumor", 2)
    return liver, tumor, float(np.median(liver.predict_on_batch(draw_slices(0))))


@pytest.mark.parametrize("training_mask", MASKS)
def test_a_pair_gives_the_same_outputs_nested_saved_and_split_again(
    training_mask: str, tmp_path: Path
) -> None:
    liver, tumor, s1 = build_pair()
    x, scaled = draw_slices(0), draw_slices(3)
    probability = liver.predict_on_batch(x)
    mask = mask_liver(probability, s1)
    assert 0.4 < mask.mean() < 0.6
    expected = {"liver": probability, "tumor": tumor.predict_on_batch(mask * scaled)}
    nested = build_cascade(liver, tumor, s1, training_mask)
    nested.save(tmp_path / "nested.keras")
    for model in (
        nested,
        load_network(tmp_path / "nested.keras"),
        convert_to_single_precision(nested),
    ):
        found = model.predict_on_batch({"slice": x, "scaled": scaled})
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])
        for part, given in zip(split_cascade(model), (x, mask * scaled), strict=True):
            np.testing.assert_array_equal(part.predict_on_batch(given), expected[part.name])


def test_a_pair_in_half_precision_gives_the_same_outputs_nested_close_ones_in_single() -> None:
    with half_precision():
        liver, tumor, s1 = build_pair()
        nested = build_cascade(liver, tumor, s1)
    assert split_cascade(nested)[0].get_layer("bottom_conv_1").compute_dtype == "bfloat16"
    assert nested.get_layer("mask").compute_dtype == "float32"
    x, scaled = draw_slices(0), draw_slices(3)
    probability = liver.predict_on_batch(x)
    outputs = nested.predict_on_batch({"slice": x, "scaled": scaled})
    np.testing.assert_array_equal(outputs["liver"], probability)
    np.testing.assert_array_equal(
        outputs["tumor"], tumor.predict_on_batch(mask_liver(probability, s1) * scaled)
    )
    single = convert_to_single_precision(nested).predict_on_batch({"slice": x, "scaled": scaled})
    np.testing.assert_allclose(single["liver"], probability, atol=0.02)


def test_the_logits_are_those_of_the_probabilities() -> None:
    liver, tumor, s1 = build_pair()
    given = {"slice": draw_slices(0), "scaled": draw_slices(3)}
    nested = build_cascade(liver, tumor, s1)
    logits, found = (
        trim_cascade_to_logits(nested).predict_on_batch(given),
        nested.predict_on_batch(given),
    )
    for name in found:
        np.testing.assert_allclose(1 / (1 + np.exp(-logits[name])), found[name], atol=1e-6)


def test_it_has_the_parameters_of_both() -> None:
    liver, tumor, s1 = build_pair()
    assert build_cascade(liver, tumor, s1).count_params() == 2 * liver.count_params()


def make_mask(probability: Any, training_mask: str, training: bool) -> np.ndarray:
    layer = LiverMask(0.5, training_mask)
    return np.asarray(layer(keras.ops.convert_to_tensor(probability, "float32"), training=training))


@pytest.mark.parametrize("training_mask", MASKS)
def test_the_mask_is_hard_at_prediction(training_mask: str) -> None:
    assert make_mask([0.2, 0.5, 0.7], training_mask, training=False).tolist() == [0, 0, 1]


def test_the_mask_in_training() -> None:
    p = [0.25, 0.5, 0.75]
    assert make_mask(p, "probability", training=True).tolist() == p
    assert make_mask(p, "hard", training=True).tolist() == [0, 0, 1]
    assert make_mask(p, "straight_through", training=True).tolist() == [0, 0, 1]


def move_weights(
    training_mask: str, alpha: float, beta: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """By how much a step of plain gradient descent, rate 1, moves the weights of L and of T."""
    liver, tumor, s1 = build_pair()
    before = [[np.copy(w) for w in model.get_weights()] for model in (liver, tumor)]
    trained = trim_cascade_to_logits(build_cascade(liver, tumor, s1, training_mask))
    loss = {name: keras.losses.BinaryCrossentropy(from_logits=True) for name in ("liver", "tumor")}
    weights = {"liver": alpha, "tumor": beta}
    trained.compile(keras.optimizers.SGD(1.0), loss=loss, loss_weights=weights, jit_compile=False)
    truth = {
        "liver": (draw_slices(4) > 0).astype(np.float32),
        "tumor": (draw_slices(5) > 1).astype(np.float32),
    }
    trained.train_on_batch({"slice": draw_slices(0), "scaled": draw_slices(3)}, truth)
    moved = [
        [now - old for now, old in zip(model.get_weights(), olds, strict=True)]
        for model, olds in zip((liver, tumor), before, strict=True)
    ]
    return moved[0], moved[1]


def measure_length(moved: list[np.ndarray]) -> float:
    return float(np.sqrt(sum((part.astype(np.float64) ** 2).sum() for part in moved)))


@pytest.mark.parametrize("training_mask", ["probability", "straight_through"])
def test_the_tumor_term_moves_the_liver_network(training_mask: str) -> None:
    liver, tumor = move_weights(training_mask, alpha=0, beta=1)
    assert measure_length(liver) > 1e-6
    assert measure_length(tumor) > 1e-6


def train_alone(network: keras.Model, x: np.ndarray, truth: np.ndarray) -> list[np.ndarray]:
    """By how much the same step moves the weights of a network by itself."""
    before = [np.copy(weight) for weight in network.get_weights()]
    logits = trim_to_logits(network)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    logits.compile(keras.optimizers.SGD(1.0), loss=loss, jit_compile=False)
    logits.train_on_batch(x, truth.astype(np.float32))
    return [now - old for now, old in zip(network.get_weights(), before, strict=True)]


@pytest.mark.parametrize("training_mask", MASKS)
def test_without_beta_only_the_liver_network_learns_as_if_alone(training_mask: str) -> None:
    liver, tumor = move_weights(training_mask, alpha=1, beta=0)
    assert measure_length(tumor) == 0
    alone = train_alone(build_pair()[0], draw_slices(0), draw_slices(4) > 0)
    for moved, expected in zip(liver, alone, strict=True):
        np.testing.assert_allclose(moved, expected, atol=1e-7)


def test_behind_the_hard_mask_without_alpha_only_the_tumor_network_learns_as_if_alone() -> None:
    liver, tumor = move_weights("hard", alpha=0, beta=1)
    assert measure_length(liver) == 0
    assert measure_length(tumor) > 1e-6
    first, second, s1 = build_pair()
    masked = mask_liver(first.predict_on_batch(draw_slices(0)), s1) * draw_slices(3)
    for moved, expected in zip(tumor, train_alone(second, masked, draw_slices(5) > 1), strict=True):
        np.testing.assert_allclose(moved, expected, atol=1e-7)


def test_the_two_terms_add_up() -> None:
    """A step of plain gradient descent is linear in alpha and beta."""
    both = move_weights("probability", 2, 3)
    liver_only, tumor_only = (
        move_weights("probability", 1, 0),
        move_weights("probability", 0, 1),
    )
    for found, first, second in zip(both, liver_only, tumor_only, strict=True):
        for moved, one, other in zip(found, first, second, strict=True):
            np.testing.assert_allclose(moved, 2 * one + 3 * other, atol=1e-5)


def test_networks_that_do_not_fit_are_refused() -> None:
    liver, tumor, s1 = build_pair()
    with pytest.raises(
        ValueError, match=r"tumor must take the input of liver, \(None, 16, 16, 1\), got \(None, 32"
    ):
        build_cascade(liver, build_network("tumor", 0, size=32))
    with pytest.raises(ValueError, match="tumor must be named 'tumor', got 'liver'"):
        build_cascade(liver, liver)
    with pytest.raises(ValueError, match=r"s1 must lie in \[0, 1\], got 1.5"):
        build_cascade(liver, tumor, 1.5)
    with pytest.raises(
        ValueError,
        match="training_mask must be one of probability, hard, straight_through, got 'x'",
    ):
        build_cascade(liver, tumor, s1, "x")
