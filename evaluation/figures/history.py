"""How Table 1's systems came to be: logs, records, scaling trial, weight sweep.

`evaluation.evaluate` gathers them into OUT/training.json, which tables and figures read.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from data.files import read_json, write_json
from data.runs import System, list_systems, read_run
from evaluation.results import SCHEMA

if TYPE_CHECKING:
    from data.backend import keras


def write_training(run: Path, out: Path) -> None:
    """Write OUT/training.json."""
    content = read_run(run)
    systems = [system for system in list_systems(run) if system.table1]
    write_json(
        out / "training.json",
        {
            "schema": SCHEMA,
            "preset": content["preset"],
            "seed": content["seed"],
            "synthetic": content["synthetic"],
            "settings": content["settings"],
            "phases": [entry for system in systems for entry in describe_phases(system)],
            "scaling": _read_optional(run / "sequential" / "tumor" / "scaling.json"),
            "sweep": _read_optional(run / "sequential" / "tumor" / "sweep.json"),
            "architectures": {
                system.name: networks
                for system in systems
                if (networks := describe_networks(system))
            },
        },
    )


def describe_phases(system: System) -> list[dict[str, Any]]:
    """Return finished phases of a system: records without machine, and logs."""
    phases = []
    for network in system.networks:
        for phase in system.phases:
            folder = system.folder / network / phase
            if (folder / "record.json").is_file():
                record = read_json(folder / "record.json", ("fit",))
                fit = record.pop("fit")
                fit.pop("environment")
                place = {"system": system.name, "network": network, "phase": phase}
                log = pd.read_csv(folder / "log.csv").astype(float)
                rows = [
                    {key: value if isfinite(value) else None for key, value in row.items()}
                    for row in log.to_dict("records")
                ]
                phases.append({**record, **place, **fit, "rows": rows})
    return phases


def describe_networks(system: System) -> dict[str, Any]:
    """Return parameters and layers of a system's networks after the first phase."""
    from data.backend import load_network

    paths = {
        name: system.folder / name / system.phases[0] / "best.keras" for name in system.networks
    }
    return {
        name: describe_network(load_network(path))
        for name, path in paths.items()
        if path.is_file() and path.with_name("record.json").is_file()
    }


def describe_network(model: keras.Model) -> dict[str, Any]:
    """Return a network's parameters, and its layers or, if nested, its "parts".

    A layer is name, kind, output shape, inputs, parameters. `models.cascade` nests networks; each
    part is described like this.
    """
    from data.backend import keras

    parts = {layer.name: layer for layer in model.layers if isinstance(layer, keras.Model)}
    if not parts:
        return {"parameters": model.count_params(), "layers": _describe_layers(model)}
    described = {name: describe_network(part) for name, part in parts.items()}
    return {"parameters": model.count_params(), "parts": described}


def _describe_layers(model: keras.Model) -> list[dict[str, Any]]:
    layers = []
    for layer in model.layers:
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        names = [source._keras_history.operation.name for source in sources]
        layers.append(
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "output": list(layer.output.shape[1:]),
                "inputs": [] if layer.name == "slice" else names,
                "parameters": layer.count_params(),
            }
        )
    return layers


def _read_optional(path: Path) -> Any:
    return read_json(path) if path.is_file() else None
