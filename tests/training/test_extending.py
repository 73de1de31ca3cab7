"""What a registry adds from outside is trained: a loss, an architecture, an input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from data.backend import keras, load_network
from data.command import InputError
from data.inputs import INPUTS, Input, register_input
from data.scaling import window
from data.store import Store
from models.head import end_network
from models.unet import build_unet
from tests.training.conftest import TINY
from training import all_stages, liver, one_step
from training.losses import LOSSES, register_loss
from training.systems import SYSTEMS, register
from training.systems.gruber import OneStep


@pytest.fixture
def flags(store: Store, tmp_path: Path) -> list[str]:
    tiny = [part for change in TINY for part in ("--set", change)]
    paths = ["--store", str(store.path), "--run", str(tmp_path / "run")]
    return [*paths, "--preset", "smoke", *tiny, "--phase", "ce"]


def read_record(flags: list[str], *where: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(flags[3], *where, "record.json").read_text())
    return content


def restore(registry: dict[str, Any], before: dict[str, Any]) -> None:
    registry.clear()
    registry.update(before)


def test_a_loss_for_any_network(flags: list[str], request: pytest.FixtureRequest) -> None:
    """A Tversky loss, TP / (TP + 0.3 FP + 0.7 FN) of the tumor or of the one channel."""
    before = dict(LOSSES)
    request.addfinalizer(lambda: restore(LOSSES, before))
    refused = [*flags, "--set", "loss=tversky"]
    with pytest.raises(InputError, match=r"one_step: loss must be one of .*, got 'tversky'"):
        one_step.main(refused)
    assert not Path(flags[3]).exists(), "nothing half-written"

    class Tversky(keras.losses.Loss):
        def call(self, truth: Any, logits: Any) -> Any:
            classes = logits.shape[-1] == 3
            share = (keras.ops.softmax if classes else keras.ops.sigmoid)(logits)[..., -1]
            tumor = keras.ops.cast(truth[..., 0] >= (2 if classes else 1), share.dtype)
            hit = keras.ops.sum(tumor * share)
            missed = keras.ops.sum(tumor) - hit
            return 1 - (hit + 1) / (hit + 0.3 * (keras.ops.sum(share) - hit) + 0.7 * missed + 1)

    @register_loss("tversky")
    def make_tversky(target: str, class_weights: Any, settings: Mapping[str, Any]) -> Any:
        calls.append(target)
        return Tversky()

    calls: list[str] = []
    for command in (one_step, liver):
        command.main(refused)
    assert {"classes", "liver"} <= set(calls)
    for where in (("one_step", "classes"), ("sequential", "liver")):
        system = json.loads(Path(flags[3], where[0], "system.json").read_text())
        assert system["settings"]["loss"] == "tversky"
        assert 0 < read_record(flags, *where, "ce")["fit"]["best_validation_iou"] < 1


def test_a_network_with_three_slices_as_a_system_of_table_1(
    flags: list[str], store: Store, request: pytest.FixtureRequest
) -> None:
    """An architecture, an input and a system, each by its registry; training knows them by name."""
    # The registries are as before when the test ends; only the new system is trained.
    architectures, inputs, systems = dict(models.ARCHITECTURES), dict(INPUTS), dict(SYSTEMS)
    request.addfinalizer(lambda: restore(models.ARCHITECTURES, architectures))
    request.addfinalizer(lambda: restore(INPUTS, inputs))
    request.addfinalizer(lambda: restore(SYSTEMS, systems))
    SYSTEMS.clear()

    def build_gated_unet(
        size: int, channels: int, classes: int, name: str, **options: Any
    ) -> keras.Model:
        unet = build_unet(size, channels, classes, name="inner", **options)
        gate = keras.layers.Conv2D(1, 1, activation="sigmoid", name="gate")(unet.input)
        gated = keras.layers.Multiply()([unet.get_layer("logits").input, gate])
        logits = keras.layers.Conv2D(classes, 1, dtype="float32", name="logits")(gated)
        return end_network(unet.input, logits, name)

    models.register_architecture("gated_unet", build_gated_unet)
    make = lambda hu, options, liver: np.moveaxis(window(hu, *options["window_hu"]), 0, -1)  # noqa: E731
    register_input(Input("three_slices", make, context=1, channels=3))

    @dataclass(frozen=True)
    class Gated(OneStep):
        """A gated U-Net on three slices."""

        TITLE = "gated"
        name: str = "gated"
        architecture: str = "gated_unet"

        def describe_inputs(
            self, network: str, begun: Mapping[str, Any]
        ) -> dict[str, dict[str, Any]]:
            return {network: {"name": "three_slices", "window_hu": list(self.liver_window_hu)}}

    register(Gated())
    all_stages.main(flags)
    record = read_record(flags, "gated", "classes", "ce")
    assert record["inputs"]["classes"]["name"] == "three_slices"
    assert record["thresholds"].keys() == {"liver", "tumor"}
    network = load_network(Path(flags[3], "gated", "classes", "ce", "best.keras"))
    assert network.input_shape == (None, store.size, store.size, 3)
    assert "gate" in {layer.name for layer in network.layers}
    system = json.loads(Path(flags[3], "gated", "system.json").read_text())
    assert (system["title"], system["table1"], system["decision"]) == ("gated", True, "thresholds")
    assert system["settings"]["architecture"] == "gated_unet"
    assert SYSTEMS.keys() == {"gated"}
