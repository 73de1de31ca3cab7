"""The table of what training cost and chose: phases, thresholds, sweep, machine."""

from __future__ import annotations

from typing import Any

from evaluation.metrics.thresholds import RULES
from evaluation.names import NAMES, spell_system
from evaluation.results import Results
from evaluation.tables.text import make_head, make_markdown, write_score, write_threshold

STARTS = {
    "pair": "from the sequential pair after cross-entropy",
    "scratch": "from fresh weights",
}
SWEPT = {
    "rauc": "rAUC",
    "auc": "AUC",
    "best_iou": "best IoU",
    "iou_at_half": "IoU at 0.5",
    "iou_at_roc": "IoU at roc",
}
"""Scores of a swept class weight."""


def make_training(results: Results) -> str:
    """Return epochs, time, memory, class weights, thresholds of training."""
    cost, chosen = [], []
    rules = list(RULES)
    for phase in results.training["phases"]:
        names = [spell_system(phase["system"]), phase["network"]]
        names.append(NAMES.get(phase["phase"], phase["phase"]))
        cost.append([*names, *_list_cost(phase)])
        for target, thresholds in (phase["thresholds"] or {}).items():
            cells = [write_threshold(thresholds.get(rule)) for rule in rules]
            chosen.append([*names, target, *cells])
    how = "What each network cost, a row per phase; nothing here is a score on test data."
    text = make_head(results.label, "Training", how)
    headings = ["system", "network", "phase", "status", "class weights", "parameters", "epochs"]
    headings += ["best epoch", "seconds", "s / epoch", "peak memory (MiB)"]
    text += (
        "\n"
        + make_markdown(headings, cost, left=5)
        + (
            "\nPeak memory: highest resident memory of the training process in the phase. It grows "
            "with the trainings that the process did before, so it does not compare models. "
            "n/a: not recorded.\n"
        )
    )
    text += _describe_joint(results) + "\n## Thresholds (chosen on validation data)\n\n"
    headings = ["system", "network", "phase", "target", *(f"rule {rule}" for rule in rules)]
    text += make_markdown(headings, chosen, left=4)
    return text + _make_trials(results) + _describe_machine(results)


def _list_cost(phase: dict[str, Any]) -> list[str]:
    """Return the cells of a phase, from its status on."""
    status = f"**{phase['status']}: {phase['why']}: NOT A RESULT**"
    if phase["status"] == "ok":
        status = f"ok; {phase['note']}" if phase["note"] else "ok"
    counts = [
        "n/a" if phase[key] is None else f"{phase[key]:,}"
        for key in ("parameters", "epochs", "best_epoch")
    ]
    seconds, memory = phase["train_s"] or 0.0, phase["peak_memory_mib"]
    each = f"{seconds / phase['epochs']:.1f}" if phase["epochs"] else "-"
    cells = [f"{seconds:,.1f}", each, "n/a" if memory is None else f"{memory:,.0f}"]
    return [status, write_weights(phase["class_weights"]), *counts, *cells]


def write_weights(weights: Any) -> str:
    """Write class weights; those of the joint model by target."""
    if isinstance(weights, dict):
        return "; ".join(f"{target} {write_weights(each)}" for target, each in weights.items())
    return ", ".join(f"{weight:.4g}" for weight in weights or ()) or "-"


def _describe_joint(results: Results) -> str:
    """Say how joint was trained: weights of its terms, mask, start."""
    for phase in results.training["phases"]:
        if phase["system"] == "joint" and "start" in phase:
            weights = f"alpha {phase['alpha']:g} (liver), beta {phase['beta']:g} (tumor)"
            start = STARTS[phase["start"]]
            return f"\nJoint: {weights}, mask in training {phase['mask']}, {start}.\n"
    return ""


def _make_trials(results: Results) -> str:
    """Return the trial of scalings and the class weights' sweep, if any."""
    text, sweep = "", results.training["sweep"]
    if results.training["scaling"]:
        text += f"\n{describe_scaling(results.training['scaling'])}\n"
    if not sweep:
        return text
    data = f"tumor network, validation data, epochs each: {sweep['epochs']}"
    text += f"\n## Class weights swept ({data})\n\n"
    lines = []
    for point in sweep["points"]:
        is_ok = point["status"] == "ok"
        scores = [write_score(point[name]) if is_ok else "-" for name in SWEPT]
        status = point["status"] if is_ok else f"**{point['status']}**"
        lines.append([f"{point['ratio']:.4g}", status, *scores])
    return text + make_markdown(["tumor to rest", "status", *SWEPT.values()], lines, left=2)


def describe_scaling(scaling: dict[str, Any]) -> str:
    """Return the sentence on the trial that chose the scaling of the second input."""
    status = scaling.get("status", {})
    failed = {name: f" ({why}, no result)" for name, why in status.items() if why != "ok"}
    tried = ", ".join(
        f"{name} {write_score(iou)}{failed.get(name, '')}"
        for name, iou in scaling["validation_iou"].items()
    )
    return (
        "Scaling of the second network's input, by validation IoU after "
        f"{scaling['epochs']} epochs: {tried}; chosen: {scaling['chosen']}."
    )


def _describe_machine(results: Results) -> str:
    """Return the seconds of each step, the machine and the versions."""
    text, seconds = "", results.summary.get("timing_s")
    if seconds:
        lines = [[name, f"{value:,.1f}"] for name, value in seconds.items() if value is not None]
        text += "\n## Seconds of each step\n\n" + make_markdown(("step", "seconds"), lines, left=1)
    environment = results.summary.get("environment") or {}
    facts = [f"{k} {v}" for k, v in environment.items() if isinstance(v, str | int) and v]
    facts += [f"{name} {version}" for name, version in (environment.get("packages") or {}).items()]
    return text + (f"\nMachine and software: {', '.join(facts)}.\n" if facts else "")
