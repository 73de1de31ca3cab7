"""Each kind of network of the other documents, with its own loss, can learn a tumor by heart.

On the published data several of them find none; this holds that it is not their wiring.
"""

from __future__ import annotations

import numpy as np
import pytest

from data.backend import keras
from data.inputs import Liver, make_input
from training.fit import Recipe, compile_for_training
from training.presets import PRESETS
from training.run import change_field
from training.systems import find_system
from training.systems.base import TARGETS, System

SIDE = 64
STEPS = 800
LEARNED = 0.7


def draw_slices() -> tuple[np.ndarray, np.ndarray]:
    """Return two slices in HU, liver of 110 HU and tumor of 50 HU, and their labels 0/1/2."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((2, SIDE, SIDE), np.uint8)
    for label, (x, y) in zip(labels, ((28, 24), (36, 40)), strict=True):
        label[np.hypot(rows - 32, columns - 32) < 22] = 1
        label[np.hypot(rows - y, columns - x) < 7] = 2
    noise = np.random.default_rng(0).normal(0, 10, labels.shape)
    return (np.choose(labels, (0.0, 110.0, 50.0)) + noise).astype(np.float32), labels


def score_tumor(network: keras.Model, inputs: np.ndarray, tumor: np.ndarray) -> float:
    output = np.asarray(network.predict_on_batch(inputs))
    mask = output.argmax(-1) == 2 if output.shape[-1] == 3 else output[..., 0] > 0.5
    return float((mask & tumor).sum() / (mask | tumor).sum())


def learn(
    system: System, network: str, inputs: np.ndarray, truth: np.ndarray
) -> tuple[float, float]:
    """Return the tumor IoU on what a network trains on, before, and when it is LEARNED.

    That is at the latest after STEPS.
    """
    keras.utils.set_random_seed(0)
    model = system.build(network, SIDE, {})
    tumor = truth[..., 0] == truth[..., 0].max()
    before = after = score_tumor(model, inputs, tumor)
    target = TARGETS[network]
    loss = system.make_loss(network, [1.0] * (3 if target == "classes" else 2))
    recipe = Recipe(target, loss, 1e-3, 0.0, 1, {}, optimizer="adam")
    trained = compile_for_training(model, recipe)
    for step in range(STEPS):
        trained.train_on_batch(inputs, truth)
        if step % 25 == 24 and (after := score_tumor(model, inputs, tumor)) > LEARNED:
            break
    return before, after


@pytest.mark.parametrize(
    "name", ["cdnn_alexnet", "cdnn_alexnet_skips", "cdnn_resnet18", "unet_dhanush", "segnet"]
)
def test_a_network_of_slices_learns_a_tumor(name: str) -> None:
    known, changes = find_system(name)
    system = known.under(PRESETS["demo"])
    for change in (*changes, "filters=8"):
        system = change_field(system, change)
    hu, labels = draw_slices()
    network = system.networks[-1]
    options = system.describe_inputs(network, {})[network]
    inputs = np.stack([make_input(slice_, options) for slice_ in hu])
    truth = labels if network == "classes" else (labels == 2).astype(np.uint8)
    before, after = learn(system, network, inputs, truth[..., np.newaxis])
    assert before < 0.3
    assert after > LEARNED


def test_the_network_in_3d_learns_a_tumor() -> None:
    system = change_field(find_system("global_local")[0].under(PRESETS["demo"]), "weak_label=none")
    hu, labels = draw_slices()
    middle, depth = slice(SIDE // 4, 3 * SIDE // 4), system.settings()["depth"]
    crop, label = (np.repeat(slices[:1, middle, middle], depth, axis=0) for slices in (hu, labels))
    options = system.describe_inputs("tumor", {})["tumor"]
    view = make_input(crop, options, Liver(np.ones(crop.shape, bool)))
    tumor = (label == 2).astype(np.uint8)
    before, after = learn(system, "tumor", view[None, ..., None], tumor[None, ..., None])
    assert before < 0.3
    assert after > LEARNED
