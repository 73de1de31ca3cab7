"""The words of the results: which cohorts, targets, losses, models and threshold rules there are, in order."""

from __future__ import annotations

from typing import Any

COHORTS = ("validation", "test", "external")
UNSEEN = COHORTS[1:]
"""Cohorts by which nothing is chosen: those that results are shown of."""
TARGETS = ("liver", "tumor")
LOSSES = ("ce", "balanced")
MODELS = ("one_step", "sequential", "joint")
PAPER_MODELS = ("one_step", "sequential")
"""Those that the paper's claims are about."""
STAGES = {"one_step": ("one_step",), "sequential": ("liver", "tumor"), "joint": ("joint",)}
ARGMAX = "argmax"
RULES = (ARGMAX, "0.5", "roc", "iou")
METRICS = ("pixel_accuracy", "iou", "rand_index", "dice", "auc", "rauc")
KEYS = ("cohort", "target", "loss", "model", "threshold_rule")
"""What names a row of Table 1."""

NAMES = {
    "one_step": "one-step",
    "sequential": "sequential",
    "joint": "joint",
    "ce": "cross-entropy",
    "balanced": "balanced",
    "iou": "IoU",
    "pixel_accuracy": "pixel accuracy",
    "rand_index": "Rand index",
    "dice": "Dice",
    "auc": "AUC",
    "rauc": "rAUC",
}
"""How tables and figures spell them."""

SYNTHETIC = "SYNTHETIC PHANTOM"
NO_CONTOUR = "_no_contour"
"""Ending of the name under which a system that ends with an active contour is scored without it."""


def spelled(name: str) -> str:
    """Spell a system `<model>_<loss>` as tables and figures do; the label of another system stays as it is."""
    known = {
        f"{model}_{loss}": f"{NAMES[model]}, {NAMES[loss]}" for model in MODELS for loss in LOSSES
    }
    return known.get(name, name)


def trainings_behind(model: str, loss: str, from_pair: bool) -> list[tuple[str, str]]:
    """Return the trainings (stage, phase) that lead to a system: the balanced phase follows cross-entropy.

    Args:
        model, loss: the system.
        from_pair: whether it is a joint model that began as the sequential pair, whose cross-entropy then counts too.
    """
    losses = LOSSES[: LOSSES.index(loss) + 1]
    own = [(stage, phase) for stage in STAGES[model] for phase in losses]
    return own + ([(stage, LOSSES[0]) for stage in STAGES["sequential"]] if from_pair else [])


def origin(source: dict[str, Any]) -> str:
    """Name the data of a cohort from its entry in `summary.json`: `phantom, SYNTHETIC PHANTOM` or `lits`.

    A split by slice, and an external cohort whose patients trained the run, say so.
    """
    name = source["cohort"] + (f", {SYNTHETIC}" if source["synthetic"] else "")
    if source.get("split_by") == "slice":
        name += ", SPLIT BY SLICE: test slices of the patients that trained"
    shared = source.get("trained_on")
    return f"{name}, {len(shared)} VOLUMES OF ITS PATIENTS TRAINED THE MODEL" if shared else name
