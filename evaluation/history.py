"""How the models came to be: logs, records, scaling trial and weight sweep of a run, gathered for the figures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from data.backend import keras, load_network
from data.files import read_json, write_json
from evaluation.names import LOSSES
from evaluation.systems import read_run

STAGES = ("one_step", "liver", "tumor", "joint")


def write_training(run: Path, out: Path) -> None:
    """Write OUT/training.json: phases with their logs, the scaling trial, the sweep, the architectures."""
    content = read_run(run)
    phases = [
        describe_phase(run / stage / phase)
        for stage in STAGES
        for phase in LOSSES
        if (run / stage / phase / "record.json").is_file()
    ]
    write_json(
        out / "training.json",
        {
            "schema": 1,
            "preset": content["preset"],
            "seed": content["seed"],
            "synthetic": content["synthetic"],
            "settings": content["settings"],
            "phases": phases,
            "scaling": _optional(run / "tumor" / "scaling.json"),
            "sweep": _optional(run / "tumor" / "sweep.json"),
            "architectures": {
                stage: describe_network(run / stage / "ce" / "best.keras")
                for stage in STAGES
                if (run / stage / "ce" / "record.json").is_file()
                and (run / stage / "ce" / "best.keras").is_file()
            },
        },
    )


def record_paths(run: Path) -> list[Path]:
    """Return `record.json` of every finished phase of the run, trials and sweep of the class weight included.

    The sweep of the joint loss (`training.joint_sweep`) is an experiment of its own.
    """
    paths = sorted(run.glob("*/*/record.json"))
    return [
        path
        for path in paths
        if not (path.parts[-3] == "joint" and path.parts[-2].startswith("sweep_"))
    ]


def phase_seconds(run: Path) -> dict[str, float]:
    """Return the training time in seconds of every finished phase, trials and sweep included."""
    seconds: dict[str, float] = {}
    for path in record_paths(run):
        stage, name = path.parts[-3:-1]
        key = "sweep" if name.startswith("sweep_") else f"{stage}_{name}"
        seconds[key] = round(seconds.get(key, 0.0) + read_json(path)["fit"]["train_s"], 1)
    return seconds


def training_environments(run: Path) -> list[dict[str, Any]]:
    """Return on what the phases were trained: each {"git_commit", "processor", "cores", "keras_backend"} once."""
    found: list[dict[str, Any]] = []
    for path in record_paths(run):
        environment = read_json(path)["fit"]["environment"]
        entry = {
            name: environment[name]
            for name in ("git_commit", "processor", "cores", "keras_backend")
        }
        if entry not in found:
            found.append(entry)
    return found


def describe_phase(folder: Path) -> dict[str, Any]:
    """Return a finished phase's record without its environment, with its log."""
    record = read_json(folder / "record.json")
    fitted = record.pop("fit")
    fitted.pop("environment")
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = [{key: _finite(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return {**record, **fitted, "rows": rows}


def describe_network(path: Path) -> dict[str, Any]:
    """Return the parameters and layers of a saved model: name, kind, output shape, inputs, parameters.

    Of a nested model (`models.cascade`) the parameters, and under "parts" its networks, each described like this.
    """
    model = load_network(path)
    parts = {layer.name: layer for layer in model.layers if isinstance(layer, keras.Model)}
    if parts:
        described = {
            name: {"parameters": part.count_params(), "layers": _layers(part)}
            for name, part in parts.items()
        }
        return {"parameters": model.count_params(), "parts": described}
    return {"parameters": model.count_params(), "layers": _layers(model)}


def _layers(model: keras.Model) -> list[dict[str, Any]]:
    layers = []
    for layer in model.layers:
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        layers.append(
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "output": list(layer.output.shape[1:]),
                "inputs": [
                    source._keras_history.operation.name
                    for source in sources
                    if layer.name != "slice"
                ],
                "parameters": layer.count_params(),
            }
        )
    return layers


def _optional(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if abs(value) < float("inf") else None
