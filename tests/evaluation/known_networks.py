"""A run of hand-made networks whose answer is known, and volumes on which it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, ornt_transform

from data.files import write_json

SIZE = 16


def make_threshold_network(scale: float, offset: float) -> keras.Model:
    """Make a network whose logit is scale * input + offset at every pixel."""
    inputs = keras.layers.Input((SIZE, SIZE, 1), name="slice")
    logits = keras.layers.Conv2D(1, 1, name="logits")(inputs)
    model = keras.Model(inputs, keras.layers.Activation("sigmoid", name="probability")(logits))
    model.get_layer("logits").set_weights([np.full((1, 1, 1, 1), scale), np.array([offset])])
    return model


def write_system(
    run: Path, name: str, networks: dict[str, tuple[keras.Model, dict[str, Any]]], **values: Any
) -> None:
    """Write a system into a run, after its phase "ce".

    Args:
        run: the run directory, made if needed.
        name: of the system.
        networks: Keras model and what its record says beside the usual, by network.
        **values: of `system.json` beside the usual.
    """
    about = {"schema": 1, "name": name, "kind": name, "title": name, "document": "a test"}
    about |= {"phases": ["ce", "balanced"], "decision": "thresholds", "table1": True}
    system = {**about, "networks": list(networks), "settings": {}, **values}
    write_json(run / "run.json", {"schema": 1, "size": SIZE, "synthetic": name != "one_step"})
    write_json(run / name / "system.json", system)
    for network, (model, record) in networks.items():
        folder = run / name / network / "ce"
        folder.mkdir(parents=True)
        model.save(folder / "best.keras")
        usual = {"status": "ok", "why": "", "note": "", "fit": {"best_epoch": 1}}
        write_json(folder / "record.json", {**usual, **record})


def make_run(run: Path, scaling: str = "liver_median") -> Path:
    """Make a run whose L answers HU > 0 and whose T answers HU < 50 of a liver of 100, inside M."""
    # L sees (HU + 100) / 500: HU 0 is 0.2. T sees HU / 200 (50 is 0.25), or (HU - 100) / 40
    # (50 is -1.25).
    weights = {"liver": (100, -20), "tumor": (-100, 25) if scaling == "window" else (-10, -12.5)}
    inputs = {
        "liver": {"name": "windowed", "window_hu": [-100, 400]},
        "tumor": {"name": "masked", "window_hu": [0, 200], "scaling": scaling},
    }
    networks = {}
    for target in ("liver", "tumor"):
        record = {
            "inputs": {target: inputs[target]},
            "thresholds": {target: {"0.5": 0.5, "roc": 0.5, "iou": 0.5}},
            "validation": {target: {"iou_at_roc": 0.5}},
            "mask_s1": 0.5,
        }
        networks[target] = make_threshold_network(*weights[target]), record
    write_system(run, "sequential", networks)
    return run


def make_one_step_run(run: Path) -> Path:
    """Make a one-step run of a softmax over three logits that are linear in HU.

    Of w = (HU + 100) / 500: other 10, liver 100 w - 20, tumor 30 w + 1; so at HU 100 the logits
    are (10, 20, 13), at 20 (10, 4, 8.2). At HU 20 liver or tumor has 0.142 and tumor 0.1415.
    """
    inputs = keras.layers.Input((SIZE, SIZE, 1))
    classes = keras.layers.Conv2D(3, 1, activation="softmax", name="classes")(inputs)
    model = keras.Model(inputs, classes)
    weights = [np.array([0.0, 100, 30]).reshape(1, 1, 1, 3), np.array([10.0, -20, 1])]
    model.get_layer("classes").set_weights(weights)
    record = {
        "inputs": {"classes": {"name": "windowed", "window_hu": [-100, 400]}},
        "thresholds": {"liver": {"roc": 0.1}, "tumor": {"roc": 0.1}},
        "validation": {"liver": {"iou_at_roc": 0.5}},
    }
    write_system(run, "one_step", {"classes": (model, record)})
    return run


def make_scene(slices: int, rows: int = SIZE, columns: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Make HU and labels (z, y, x): a block of liver (100 HU) with tumor (20 HU) inside."""
    hu = np.full((slices, rows, columns), -200, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    liver = np.s_[1 : slices - 1, rows // 4 : rows // 2 + 4, columns // 4 : columns // 2 + 4]
    tumor = np.s_[2, rows // 4 + 1 : rows // 4 + 3, columns // 4 + 1 : columns // 4 + 4]
    hu[liver], labels[liver] = 100, 1
    hu[tumor], labels[tumor] = 20, 2
    return hu, labels


def make_image(
    array: np.ndarray, axes: str = "RAS", spacing: tuple[float, float, float] = (0.7, 0.8, 2.5)
) -> nib.Nifti1Image:
    """Make an image of (z, y, x), x to the right, y to the front, z to the head, in other axes."""
    image = nib.Nifti1Image(array.T, np.diag([*spacing, 1.0]))
    return image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes)))


def save(path: Path, array: np.ndarray, axes: str = "RAS") -> Path:
    """Write what `make_image` makes."""
    nib.save(make_image(array, axes), path)
    return path


def read(path: Path | str) -> np.ndarray:
    """Read the voxels of a NIfTI file in its own axes."""
    return np.asarray(nib.load(path).dataobj)
