"""The registry of systems: every value with its source, variants, what a preset changes."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.backend import keras
from data.command import InputError
from training.losses import (
    BalancedBinaryCrossentropy,
    BalancedCategoricalCrossentropy,
    DiceFocalRatio,
    DiceLoss,
)
from training.network import check_networks, start_anew
from training.presets import PRESETS
from training.run import change_field
from training.systems import SYSTEMS, VARIANTS, find_system
from training.systems.base import System
from training.systems.global_local import fit_weak_label


def test_slices_smaller_than_the_window_are_refused() -> None:
    store: Any = SimpleNamespace(
        path="STORE", size=16, cases={"volume-1": {}}, image=lambda case: np.zeros((16, 16, 16))
    )
    with pytest.raises(
        InputError, match=r"^STORE: slices of 16 px, the tumor's 3D window takes 32$"
    ):
        SYSTEMS["global_local"].under(PRESETS["smoke"]).check_store(store)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_network_is_built_and_takes_every_loss_of_its_kind(name: str) -> None:
    """One channel takes all of them, three classes the cross-entropy; what is asked is trained."""
    kinds: dict[str, tuple[type, ...]] = {
        "cross_entropy": (BalancedCategoricalCrossentropy, BalancedBinaryCrossentropy),
        "dice": (DiceLoss,),
        "dice_focal": (DiceFocalRatio,),
    }
    system = SYSTEMS[name].under(PRESETS["smoke"])
    check_networks(system, 64)
    for loss, classes in kinds.items():
        changed = change_field(system, f"loss={loss}", System.FIXED)
        if system.networks == ("classes",) and loss != "cross_entropy":
            with pytest.raises(InputError, match=f"{name}: loss {loss} is for networks of one"):
                check_networks(changed, 64)
            continue
        for network in system.networks:
            weights: Any = {"liver": [1, 1], "tumor": [1, 1]}
            if network != "nested":
                weights = [1] * (3 if network == "classes" else 2)
            made = changed.make_loss(network, weights)
            losses = made.values() if isinstance(made, dict) else [made]
            assert all(isinstance(each, classes) for each in losses)
    with pytest.raises(InputError, match=f"{name}: loss must be one of .*, got 'hinge'"):
        check_networks(change_field(system, "loss=hinge", System.FIXED), 64)


def test_settings_are_the_documents_unless_the_preset_is_small() -> None:
    alexnet, _ = find_system("cdnn_alexnet")
    assert alexnet.under(PRESETS["paper"]) == alexnet
    stated = alexnet.settings()
    wanted = {
        "learning_rate": 1e-4,
        "momentum": 0.9,
        "epochs": 40,
        "optimizer": "sgd",
        "input": "equalised",
    }
    assert {name: stated[name] for name in wanted} == wanted
    small = alexnet.under(PRESETS["demo"]).settings()
    changed = {name for name in stated if small[name] != stated[name]}
    assert changed == {"filters", "epochs", "batch_size", "learning_rate", "precision"}
    assert small["precision"] == PRESETS["demo"].precision
    assert "learning_rate = 0.0001    [III.B]" in alexnet.describe(PRESETS["paper"])
    assert (
        "learning_rate = 0.01    "
        "[under demo, where steps are few and cores two; documented 0.0001: III.B]"
        in (alexnet.describe(PRESETS["demo"]))
    )
    pipeline = find_system("global_local")[0].settings()
    wanted = {
        "ratio_weight": 0.5,
        "filters": 16,
        "latent": 256,
        "dropout": 0.2,
        "optimizer": "adam",
    }
    wanted |= {"epochs": 300, "tumor_epochs": None}
    assert {name: pipeline[name] for name in wanted} == wanted
    assert pipeline["window_hu"] == [-150, 250]
    assert pipeline["tumor_window_hu"] == [-200, 250]


def test_the_networks_in_3d_train_in_single_precision() -> None:
    """Whatever the preset asks for: in bfloat16 their gradients were not finite."""
    half = replace(PRESETS["smoke"], precision="mixed_bfloat16")
    single = {name for name, s in SYSTEMS.items() if s.under(half).precision == "float32"}
    assert single == {"global_local"}
    start_anew(0, SYSTEMS["global_local"].under(half).precision)
    assert keras.config.dtype_policy().name == "float32"


def test_every_value_names_its_source() -> None:
    """A section of the document, what was reported of it, or an assumption with its reason."""
    place = re.compile(
        r"(I{1,3}(\.[A-E])?|Table \d|\d\.\d|text|assumed|paper \d\.\d|reported of [a-z, ]+): "
        r"\w.*|I{1,3}\.[A-E]|paper \d\.\d"
    )
    for system in SYSTEMS.values():
        own = (*System.FIXED[:3], "networks", "pair_path")
        for entry in fields(system):
            if entry.name not in own or "source" in entry.metadata:
                assert place.match(entry.metadata["source"]), f"{system.name} {entry.name}"


def test_every_variant_is_a_system_change_fields() -> None:
    for label, (name, changes) in VARIANTS.items():
        system, changes_of = find_system(label)
        assert (system, changes_of) == (SYSTEMS[name], changes)
        for change in changes:
            assert change_field(system, change, System.FIXED) != system


def test_the_ratio_is_penalised_with_a_weak_label_alone() -> None:
    """And by the one loss that has the penalty; then no weak label is asked for."""
    documented, changes = find_system("global_local_no_weak_label")
    systems = {
        "clinical": documented,
        "none": change_field(documented, changes[0]),
        "dice": change_field(documented, "loss=dice"),
    }
    weights = {
        (key, network): system.list_loss_settings(network)["ratio_weight"]
        for key, system in systems.items()
        for network in ("liver", "tumor")
    }
    assert {key for key, weight in weights.items() if weight} == {("clinical", "tumor")}
    assert weights["clinical", "tumor"] == 0.5
    assert documented.make_loss("tumor", [1, 1]).ratio_weight == 0.5


def test_a_value_out_of_range_is_refused() -> None:
    for change in (
        "upsampling=bilinear",
        "variant=x",
        "momentum=1.0",
        "window_hu=(5.0,5.0)",
        "learning_rate=1e999",
    ):
        with pytest.raises(InputError, match="is out of its range"):
            change_field(find_system("cdnn_alexnet")[0], change, System.FIXED)
    for change in (
        "depth=24",
        "weak_label=maybe",
        "local_share=0.0",
        "dropout=1.0",
        "postprocess=('nope',)",
    ):
        with pytest.raises(InputError, match="is out of its range"):
            change_field(find_system("global_local")[0], change, System.FIXED)


def test_the_weak_label_is_fitted_on_training_cases_alone() -> None:
    """Training ratios are age / 1000; the validation case's label is that line's, 0.09."""
    ages = [*range(40, 46), 90]
    for wild in (0.001, 0.5):
        cases = {f"c{k}": {"clinical": {"age": age}} for k, age in enumerate(ages)}
        voxels = {
            f"c{k}": round(1000 * (age / 1000 if k < 6 else wild)) for k, age in enumerate(ages)
        }
        labels = {
            case: np.repeat([2, 1], [n, 1000 - n]).astype(np.uint8) for case, n in voxels.items()
        }
        store: Any = SimpleNamespace(
            path="STORE", cases=cases, label=labels.__getitem__, patient=lambda case: case
        )
        labels_of_all, record = fit_weak_label(store, list(cases)[:6], list(cases)[6:])
        assert labels_of_all == pytest.approx(
            {case: ages[k] / 1000 for k, case in enumerate(cases)}
        )
        assert record["r2_training"] == pytest.approx(1)
        assert record["reference_ratios"]["c6"] == pytest.approx(wild)


def test_what_a_preset_says_reaches_every_network_it_is_of() -> None:
    """No preset field is read but by a system; `batch_normalization` adds its layers."""
    preset = replace(
        PRESETS["smoke"], batch_normalization=True, poolings=2, tumor_window_hu=(-9.0, 90.0)
    )
    for name in ("one_step", "sequential", "joint", "unet_dhanush"):
        system = SYSTEMS[name].under(preset)
        model = system.build(system.networks[-1], 64, {})
        parts = [part for part in model.layers if isinstance(part, keras.Model)] or [model]
        for part in parts:
            kinds = [type(layer).__name__ for layer in part.layers]
            assert kinds.count("BatchNormalization") == 2 * 5
            assert kinds.count("MaxPooling2D") == 2
    assert SYSTEMS["joint"].under(preset).describe_inputs("nested", {})["tumor"]["window_hu"] == [
        -9.0,
        90.0,
    ]


def test_a_window_of_no_numbers_is_refused() -> None:
    with pytest.raises(InputError, match=r"window_hu must be of the kind of \(-100.0, 400.0\)"):
        change_field(SYSTEMS["cdnn_alexnet"], "window_hu=('a','b')")
