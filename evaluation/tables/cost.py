"""What a model costs: parameters, arithmetic for one slice, time to train and to predict, memory."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from evaluation.names import LOSSES, STAGES, trainings_behind
from evaluation.results import Results
from evaluation.tables.evidence import system
from evaluation.tables.text import markdown_table, page

CONVOLUTIONS = ("Conv2D", "Conv2DTranspose")


def gflops(network: Mapping[str, Any]) -> float:
    """Return the arithmetic of one slice's pass through a network, in 10^9 operations.

    A multiplication with its addition counts as two; only convolutions are counted, the rest is below a hundredth.

    Args:
        network: its record in training.json: `layers` with kind, output shape, inputs and parameters.
    """
    layers = {layer["name"]: layer for layer in network["layers"]}
    total = 0
    for layer in layers.values():
        if layer["kind"] in CONVOLUTIONS:
            weights = layer["parameters"] - layer["output"][-1]  # less the biases
            # a transposed convolution applies its weights at every pixel of its input
            source = layers[layer["inputs"][0]] if layer["kind"] == "Conv2DTranspose" else layer
            total += 2 * weights * prod(source["output"][:-1])
    return total / 1e9


def networks_of(results: Results, model: str) -> list[Mapping[str, Any] | None]:
    """Return the records of a model's networks, None where one is not recorded; the joint model nests its two."""
    known = results.training["architectures"]
    found: list[Mapping[str, Any] | None] = []
    for stage in STAGES[model]:
        record = known.get(stage)
        found += list(record["parts"].values()) if record and "parts" in record else [record]
    return found


def phases_of(results: Results, model: str, loss: str) -> list[Mapping[str, Any] | None]:
    """Return the records of the phases that lead to a system, None where one is not recorded."""
    known = {(phase["stage"], phase["phase"]): phase for phase in results.training["phases"]}
    from_pair = any((known.get((model, phase)) or {}).get("start") == "pair" for phase in LOSSES)
    return [known.get(training) for training in trainings_behind(model, loss, from_pair)]


def cost_rows(results: Results) -> list[dict[str, Any]]:
    """Return a row per system: what its networks have and took; None where a run has no record of it."""
    scored = {(entry["model"], entry["loss"]): entry for entry in results.summary["systems"]}
    rows = []
    for model in results.models:
        networks = networks_of(results, model)
        known = [network for network in networks if network and "layers" in network]
        complete = len(known) == len(networks)
        for loss in LOSSES:
            phases = [phase for phase in phases_of(results, model, loss) if phase]
            seconds = [phase["train_s"] for phase in phases if phase["train_s"] is not None]
            timed = len(seconds) == len(phases_of(results, model, loss))
            memory = [
                phase["peak_memory_mib"] for phase in phases if phase["peak_memory_mib"] is not None
            ]
            entry = scored.get((model, loss), {})
            rows.append(
                {
                    "system": system(model, loss),
                    "networks": 1 if model == "one_step" else 2,
                    "parameters": sum(network["parameters"] for network in known)
                    if complete
                    else None,
                    "gflops": sum(map(gflops, known)) if complete else None,
                    "train_s": sum(seconds) if timed else None,
                    "ms_per_slice": entry.get("ms_per_slice"),
                    "peak_memory_mib": max(memory, default=None),
                    "predict_peak_memory_mib": entry.get("predict_peak_memory_mib"),
                }
            )
    return rows


FORMATS = {
    "networks": "d",
    "parameters": ",",
    "gflops": ".2f",
    "train_s": ",.0f",
    "ms_per_slice": ".1f",
    "peak_memory_mib": ",.0f",
    "predict_peak_memory_mib": ",.0f",
}


def cost_markdown(results: Results) -> str:
    """Return the cost of every system as Markdown."""
    lines = [
        [
            row["system"],
            *("n/a" if row[key] is None else format(row[key], how) for key, how in FORMATS.items()),
        ]
        for row in cost_rows(results)
    ]
    size = results.summary["data"]["size"]
    text = page(
        results,
        "Cost",
        "What each system has and took, on the machines that the record of the run names.",
    )
    headings = ["system", "networks", "parameters", f"GFLOPs a slice of {size} px", "training (s)"]
    headings += ["prediction (ms a slice)", "peak memory of training (MiB)", "of prediction (MiB)"]
    text += "\n" + markdown_table(headings, lines, left=1)
    joint = ""
    if "joint" in results.models:
        joint = " the joint model both of its networks at once, with the pair's cross-entropy before where it began so;"
    return text + (
        "\nGFLOPs: convolutions, a multiplication with its addition as two. Training: both networks of the sequential "
        f"model;{joint} the balanced rows with the cross-entropy phase before them. Prediction: networks and scaling, "
        "mean over the slices of the test and external cases, on the machine of the evaluation. Peak memory: the "
        "highest resident memory of the process in those phases (it grows with the trainings that the process did "
        "before, so it does not compare models), or while a whole test case is predicted. n/a: not recorded.\n"
    )
