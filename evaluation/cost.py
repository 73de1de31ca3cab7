"""What a model costs: parameters, arithmetic for one slice, time to train and to predict, memory."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from evaluation.evidence import system
from evaluation.names import LOSSES, MODELS, STAGES
from evaluation.results import Results
from evaluation.text import caption, markdown_table

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


def cost_rows(results: Results) -> list[dict[str, Any]]:
    """Return a row per system: what its networks have and took; None where a run has no record of it."""
    networks = results.training["architectures"]
    phases = {(phase["stage"], phase["phase"]): phase for phase in results.training["phases"]}
    scored = {(entry["model"], entry["loss"]): entry for entry in results.summary["systems"]}
    rows = []
    for model in MODELS:
        for loss in LOSSES:
            parts = [networks.get(stage) for stage in STAGES[model]]
            # the balanced phase goes on from the weights of the first
            trained = [
                phases.get((stage, phase)) for stage in STAGES[model] for phase in LOSSES[: LOSSES.index(loss) + 1]
            ]
            done = all(trained) and all(phase["train_s"] is not None for phase in trained if phase)
            memory = [phase["peak_memory_mib"] for phase in trained if phase and phase["peak_memory_mib"] is not None]
            rows.append(
                {
                    "system": system(model, loss),
                    "networks": len(parts),
                    "parameters": sum(part["parameters"] for part in parts if part) if all(parts) else None,
                    "gflops": sum(gflops(part) for part in parts if part) if all(parts) else None,
                    "train_s": sum(phase["train_s"] for phase in trained if phase) if done else None,
                    "ms_per_slice": scored.get((model, loss), {}).get("ms_per_slice"),
                    "peak_memory_mib": max(memory, default=None),
                }
            )
    return rows


def cost_markdown(results: Results) -> str:
    """Return the cost of every system as Markdown."""
    formats = {"networks": "d", "parameters": ",", "gflops": ".2f", "train_s": ",.0f", "ms_per_slice": ".1f"}
    formats["peak_memory_mib"] = ",.0f"
    lines = [
        [row["system"], *("n/a" if row[key] is None else format(row[key], how) for key, how in formats.items())]
        for row in cost_rows(results)
    ]
    size = results.summary["data"]["size"]
    headings = ("system", "networks", "parameters", f"GFLOPs a slice of {size} px", "training (s)")
    text = "# Cost\n\n" + "  \n".join(caption(results)) + "\n\n"
    text += markdown_table([*headings, "prediction (ms a slice)", "peak memory of training (MiB)"], lines, left=1)
    return text + (
        "\nGFLOPs: convolutions, a multiplication with its addition as two. Training: both networks of the sequential "
        "model, the balanced rows with the cross-entropy phase before them. Prediction: networks and scaling, mean "
        "over the scored slices, on the machine of the evaluation. Peak memory: of the training up to that phase.\n"
    )
