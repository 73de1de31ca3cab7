"""What a system costs: parameters, arithmetic for one slice, time, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any

from evaluation.names import PHASES, spell_system
from evaluation.results import Results
from evaluation.tables.text import make_head, make_markdown

CONVOLUTIONS = ("Conv2D", "Conv2DTranspose")
PAIR = [("sequential", "liver", PHASES[0]), ("sequential", "tumor", PHASES[0])]
"""Phases that a joint model goes on from, where it begins with the pair."""


@dataclass(frozen=True)
class Cost:
    """What a system has and took; None where a run has no record of it.

    Attributes:
        networks, parameters: how many it has.
        gflops: operations of one slice, in 10^9.
        train_s: seconds of all phases that lead to it.
        ms_per_slice: of a prediction.
        peak_memory_mib, predict_peak_memory_mib: highest resident memory.
    """

    system: str
    networks: int
    parameters: int | None
    gflops: float | None
    train_s: float | None
    ms_per_slice: float | None
    peak_memory_mib: float | None
    predict_peak_memory_mib: float | None


FORMATS = {"networks": "d", "parameters": ",", "gflops": ".2f", "train_s": ",.0f"}
FORMATS |= {"ms_per_slice": ".1f", "peak_memory_mib": ",.0f", "predict_peak_memory_mib": ",.0f"}


def count_gflops(network: Mapping[str, Any]) -> float:
    """Return the arithmetic of one slice through a network, in 10^9 operations.

    A multiply-add counts as two. Convolutions alone are counted; the rest is below a hundredth.
    """
    layers = {layer["name"]: layer for layer in network["layers"]}
    total = 0
    for layer in layers.values():
        if layer["kind"] in CONVOLUTIONS:
            weights = layer["parameters"] - layer["output"][-1]  # less the biases
            # A transposed convolution applies its weights at every pixel of its input.
            source = layers[layer["inputs"][0]] if layer["kind"] == "Conv2DTranspose" else layer
            total += 2 * weights * prod(source["output"][:-1])
    return total / 1e9


def _list_networks(results: Results, system: str) -> list[Mapping[str, Any]]:
    """Return the records of a system's networks; the joint model nests its two."""
    known = results.training["architectures"].get(system, {})
    nested = [list(r["parts"].values()) if "parts" in r else [r] for r in known.values()]
    return [network for group in nested for network in group]


def _list_phases(results: Results, system: str, phase: str) -> list[Mapping[str, Any] | None]:
    """Return the records of the phases behind a system, None for a missing one."""
    known = {(p["system"], p["network"], p["phase"]): p for p in results.training["phases"]}
    phases = PHASES[: PHASES.index(phase) + 1] if phase in PHASES else (phase,)
    own = [(system, network, p) for network in results.find_entry(system, phase)["epochs"]
           for p in phases]  # fmt: skip
    begun = any(record.get("start") == "pair" for key, record in known.items() if key[0] == system)
    return [known.get(key) for key in own + (PAIR if begun else [])]


def list_costs(results: Results) -> list[Cost]:
    """Return what each system of Table 1 has and took."""
    costs = []
    for system, phase in results.list_systems():
        entry = results.find_entry(system, phase)
        n_networks = len(entry["epochs"]) + ("nested" in entry["epochs"])
        networks = [n for n in _list_networks(results, system) if "layers" in n]
        is_complete = len(networks) == n_networks > 0
        phases = _list_phases(results, system, phase)
        seconds = [p["train_s"] for p in phases if p and p["train_s"] is not None]
        memory = [p["peak_memory_mib"] for p in phases if p and p["peak_memory_mib"] is not None]
        costs.append(
            Cost(
                system=spell_system(system, phase),
                networks=n_networks,
                parameters=sum(n["parameters"] for n in networks) if is_complete else None,
                gflops=sum(map(count_gflops, networks)) if is_complete else None,
                train_s=sum(seconds) if len(seconds) == len(phases) else None,
                ms_per_slice=entry.get("ms_per_slice"),
                peak_memory_mib=max(memory, default=None),
                predict_peak_memory_mib=entry.get("predict_peak_memory_mib"),
            )
        )
    return costs


def make_cost(results: Results) -> str:
    """Return the cost of every system as Markdown."""
    names = [field.name for field in fields(Cost)[1:]]
    lines = []
    for cost in list_costs(results):
        values = {name: getattr(cost, name) for name in names}
        cells = ["n/a" if v is None else format(v, FORMATS[n]) for n, v in values.items()]
        lines.append([cost.system, *cells])
    how = "What each system has and took, on the machines that the record of the run names."
    text = make_head(results.label, "Cost", how)
    size = results.data["size"]
    headings = ["system", "networks", "parameters", f"GFLOPs a slice of {size} px", "training (s)"]
    headings += ["prediction (ms a slice)", "peak memory of training (MiB)", "of prediction (MiB)"]
    # The joint model trains two networks in one, so its time cannot be read as one of theirs.
    joint = (
        " the joint model both of its networks at once, with the pair's cross-entropy before where "
        "it began so;"
        if "joint" in results.system_names
        else ""
    )
    return (
        text
        + "\n"
        + make_markdown(headings, lines, left=1)
        + (
            "\nGFLOPs: convolutions, a multiplication with its addition as two. Training: both "
            f"networks of the sequential model;{joint} the balanced rows with the cross-entropy "
            "phase before them. Prediction: networks and scaling, mean over the slices of the test "
            "and external cases, on the machine of the evaluation. Peak memory: the highest "
            "resident memory of the process in those phases (it grows with the trainings that the "
            "process did before, so it does not compare models), or while a whole test case is "
            "predicted. n/a: not recorded.\n"
        )
    )
