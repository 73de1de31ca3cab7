"""The table of what training cost and chose: phases, thresholds, sweep, machine."""

from __future__ import annotations

import math
from typing import Any

from evaluation.names import NAMES, RULES
from evaluation.results import Results
from evaluation.tables.text import markdown_table, page, readable


def readable_threshold(value: float | None) -> str:
    """Write a threshold with enough digits to tell it from 0 and 1; `-` for None (argmax)."""
    if value is None:
        return "-"
    distance = min(value, 1 - value)
    if distance <= 0:
        return f"{value:.3g}"
    return f"{value:.{max(3, 1 - math.floor(math.log10(distance)))}f}"


def training_markdown(results: Results) -> str:
    """Return what training cost and chose: parameters, epochs, time, memory, class weights, thresholds."""
    cost, chosen = [], []
    for phase in results.training["phases"]:
        where = [phase["stage"], NAMES[phase["phase"]]]
        if phase["status"] == "ok":
            status = f"ok; {phase['note']}" if phase["note"] else "ok"
        else:
            status = f"**{phase['status']}: {phase['why']}: NOT A RESULT**"
        weights = _weights(phase["class_weights"])
        counts = [_count(phase[key]) for key in ("parameters", "epochs", "best_epoch")]
        seconds = phase["train_s"] or 0.0
        each = f"{seconds / phase['epochs']:.1f}" if phase["epochs"] else "-"
        memory = "n/a" if phase["peak_memory_mib"] is None else f"{phase['peak_memory_mib']:,.0f}"
        cost.append([*where, status, weights, *counts, f"{seconds:,.1f}", each, memory])
        for target, rules in (phase["thresholds"] or {}).items():
            chosen.append(
                [*where, target, *(readable_threshold(rules.get(rule)) for rule in RULES[1:])]
            )
    text = page(
        results,
        "Training",
        "What each network cost, a row per phase; nothing here is a score on test data.",
    )
    headings = (
        "stage",
        "phase",
        "status",
        "class weights",
        "parameters",
        "epochs",
        "best epoch",
        "seconds",
    )
    text += "\n" + markdown_table([*headings, "s / epoch", "peak memory (MiB)"], cost, left=4)
    text += (
        "\nPeak memory: highest resident memory of the training process in the phase. It grows with the trainings that "
        "the process did before, so it does not compare models. n/a: not recorded.\n"
    )
    text += _joint(results)
    text += "\n## Thresholds (chosen on validation data)\n\n"
    text += markdown_table(
        ("stage", "phase", "target", *(f"rule {rule}" for rule in RULES[1:])), chosen, left=3
    )
    return text + _trials(results) + _machine(results)


def _weights(weights: Any) -> str:
    """Write class weights; those of the joint stage by target."""
    if isinstance(weights, dict):
        return "; ".join(f"{target} {_weights(found)}" for target, found in weights.items())
    return ", ".join(f"{weight:.4g}" for weight in weights or ()) or "-"


def _joint(results: Results) -> str:
    """Return how the joint model was trained: the weights of its two terms, its mask, its start."""
    starts = {
        "pair": "from the sequential pair after cross-entropy",
        "scratch": "from fresh weights",
    }
    for phase in results.training["phases"]:
        if phase["stage"] == "joint" and "start" in phase:
            weights = f"alpha {phase['alpha']:g} (liver), beta {phase['beta']:g} (tumor)"
            return (
                f"\nJoint: {weights}, mask in training {phase['mask']}, {starts[phase['start']]}.\n"
            )
    return ""


def _count(value: int | None) -> str:
    return "n/a" if value is None else f"{value:,}"


def _trials(results: Results) -> str:
    text, sweep = "", results.training["sweep"]
    if results.training["scaling"]:
        text += f"\n{scaling_line(results.training['scaling'])}\n"
    if sweep:
        text += f"\n## Class weights swept (tumor network, validation data, epochs each: {sweep['epochs']})\n\n"
        names = ("rauc", "auc", "best_iou", "iou_at_half", "iou_at_roc")
        lines = []
        for point in sweep["points"]:
            ok = point["status"] == "ok"
            scores = [readable(point[name]) if ok else "-" for name in names]
            lines.append(
                [
                    f"{point['ratio']:.4g}",
                    point["status"] if ok else f"**{point['status']}**",
                    *scores,
                ]
            )
        headings = (
            "tumor to rest",
            "status",
            "rAUC",
            "AUC",
            "best IoU",
            "IoU at 0.5",
            "IoU at roc",
        )
        text += markdown_table(headings, lines, left=2)
    return text


def scaling_line(scaling: dict[str, Any]) -> str:
    """Return the sentence on the trial that chose the scaling of the second input."""
    status = scaling.get("status", {})
    failed = {name: f" ({found}, no result)" for name, found in status.items() if found != "ok"}
    tried = ", ".join(
        f"{name} {readable(iou)}{failed.get(name, '')}"
        for name, iou in scaling["validation_iou"].items()
    )
    return (
        f"Scaling of the second network's input, by validation IoU after {scaling['epochs']} epochs: "
        f"{tried}; chosen: {scaling['chosen']}."
    )


def _machine(results: Results) -> str:
    summary = results.summary
    text = ""
    if summary.get("timing_s"):
        lines = [[name, f"{s:,.1f}"] for name, s in summary["timing_s"].items() if s is not None]
        text += "\n## Seconds of each step\n\n" + markdown_table(("step", "seconds"), lines, left=1)
    environment = summary.get("environment") or {}
    facts = [
        f"{key} {value}"
        for key, value in environment.items()
        if isinstance(value, str | int) and value
    ]
    facts += [f"{name} {version}" for name, version in (environment.get("packages") or {}).items()]
    if facts:
        text += f"\nMachine and software: {', '.join(facts)}.\n"
    return text
