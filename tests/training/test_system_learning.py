"""Each kind of network of the other systems, with its own loss, can learn a tumor by heart.

On the published data several of them find none (README, "Other systems"); this holds that it is not their wiring.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from data.backend import keras
from data.enhance import INPUTS
from data.scaling import window
from training.fit import Recipe, compile_for_training
from training.presets import PRESETS
from training.run import with_change
from training.system_networks import build, loss_of
from training.system_presets import GlobalLocal, SliceSystem, in_small, system_named

SIDE = 64
STEPS = 800
LEARNED = 0.7


def slices_with_tumors() -> tuple[np.ndarray, np.ndarray]:
    """Two slices in HU with a liver of 110 HU and a tumor of 50 HU, and their labels 0/1/2."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((2, SIDE, SIDE), np.uint8)
    for label, (x, y) in zip(labels, ((28, 24), (36, 40)), strict=True):
        label[np.hypot(rows - 32, columns - 32) < 22] = 1
        label[np.hypot(rows - y, columns - x) < 7] = 2
    hu = np.choose(labels, (0.0, 110.0, 50.0)) + np.random.default_rng(0).normal(
        0, 10, labels.shape
    )
    return hu.astype(np.float32), labels


def tumor_iou(network: keras.Model, inputs: np.ndarray, tumor: np.ndarray) -> float:
    found = np.asarray(network.predict_on_batch(inputs))
    found = found.argmax(-1) == 2 if found.shape[-1] == 3 else found[..., 0] > 0.5
    return float((found & tumor).sum() / (found | tumor).sum())


def learned_iou(
    system: Any, target: str, inputs: np.ndarray, truth: np.ndarray
) -> tuple[float, float]:
    """Return the tumor IoU on what a network trains on, before it and when it is LEARNED, at the latest after STEPS."""
    keras.utils.set_random_seed(0)
    network = build(system, target, SIDE, PRESETS["smoke"])
    tumor = truth[..., 0] == truth[..., 0].max()
    before = after = tumor_iou(network, inputs, tumor)
    trained = compile_for_training(
        network, Recipe(target, loss_of(system, target), 1e-3, 0.0, 1, {}, optimizer="adam")
    )
    for step in range(STEPS):
        trained.train_on_batch(inputs, truth)
        if step % 25 == 24 and (after := tumor_iou(network, inputs, tumor)) > LEARNED:
            break
    return before, after


@pytest.mark.parametrize(
    "name", ["cdnn_alexnet", "cdnn_alexnet_skips", "cdnn_resnet18", "unet_dhanush", "segnet"]
)
def test_a_network_of_slices_learns_a_tumor(name: str) -> None:
    known, changes = system_named(name)
    assert isinstance(known, SliceSystem)
    system = in_small(known, PRESETS["demo"])
    for change in (*changes, "filters=8"):
        system = with_change(system, change)
    hu, labels = slices_with_tumors()
    inputs = np.stack([INPUTS[system.input](slice_, (-100.0, 400.0)) for slice_ in hu])
    target = system.targets[-1]
    truth = (
        labels[..., np.newaxis]
        if target == "classes"
        else (labels[..., np.newaxis] == 2).astype(np.uint8)
    )
    before, after = learned_iou(system, target, inputs, truth)
    assert before < 0.3
    assert after > LEARNED


def test_the_network_in_3d_learns_a_tumor() -> None:
    known = in_small(system_named("global_local")[0], PRESETS["demo"])
    assert isinstance(known, GlobalLocal)
    system = with_change(known, "weak_label=none")
    hu, labels = slices_with_tumors()
    middle = slice(SIDE // 4, 3 * SIDE // 4)
    crop, tumor = (
        np.repeat(found[:1, middle, middle], system.depth, axis=0) for found in (hu, labels == 2)
    )
    inputs = window(crop, *system.tumor_window_hu)[np.newaxis, ..., np.newaxis]
    before, after = learned_iou(
        system, "tumor", inputs, tumor[np.newaxis, ..., np.newaxis].astype(np.uint8)
    )
    assert before < 0.3
    assert after > LEARNED
