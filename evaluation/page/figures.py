"""The report's figures: those that were drawn, each with what it shows, to be opened at full size."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape
from pathlib import Path

from data.command import InputError
from data.files import read_json
from evaluation.names import NAMES
from evaluation.results import Results

FIGURES = {
    "fig_overlays": (
        "Overlays",
        "the best, median and worst test slice by tumor IoU of the {ranked_by} model, with reference and every model",
    ),
    "fig_network_inputs": (
        "Network inputs",
        "a slice as the first and as the second network sees it",
    ),
    "fig_roc": (
        "ROC curves, tumor",
        "all pixels, and those with a probability in (0.01, 0.99), by cohort and model",
    ),
    "fig_roc_liver": (
        "ROC curves, liver",
        "all pixels, and those with a probability in (0.01, 0.99)",
    ),
    "fig_table1_bars": ("Table 1 as bars", "IoU by cohort, target, model and loss"),
    "fig_learning_curves": (
        "Learning curves",
        "loss and validation IoU by epoch, every network and phase",
    ),
    "fig_class_weight": (
        "Class weight",
        "validation scores of the tumor network by the weight of its class",
    ),
    "fig_dice_by_case": (
        "Dice by case",
        "Dice score of every case, liver and tumor, rule roc, with the median",
    ),
    "fig_lesion_recall": (
        "Lesions found",
        "share of lesions that were found, by diameter and system",
    ),
    "fig_reliability": (
        "Reliability",
        "tumor probability against the share of tumor pixels, both phases",
    ),
    "fig_sequential_architecture": (
        "Sequential model",
        "the two U-Nets, drawn from the trained networks",
    ),
    "fig_one_step_workflow": (
        "One-step model",
        "the U-Net with three classes, drawn from the trained network",
    ),
}
"""Title and content, in the page's order; the names are those of `evaluation.figures`."""


def ranked_by(results: Results) -> str:
    """Return the model that ranked the slices of the overlays: one-step only where sequential has no result there."""
    path = results.path / "examples.json"
    examples = read_json(path)["examples"] if path.is_file() else []
    return NAMES[
        "one_step"
        if any(one["tumor_iou"].get("sequential") is None for one in examples)
        else "sequential"
    ]


def figures(results: Results, badge: str, words: str) -> Iterator[str]:
    """Yield the figures that were drawn, as HTML; the names of those that were not come last.

    Args:
        results: with the pictures in OUT/figures.
        badge: HTML that says which data is synthetic.
        words: the same for those who do not see the picture.

    Raises:
        InputError: a file there is no PNG.
    """
    missing = []
    for name, (title, content) in FIGURES.items():
        path = results.path / "figures" / f"{name}.png"
        if path.is_file():
            yield _figure(path, title, content.format(ranked_by=ranked_by(results)), badge, words)
        else:
            missing.append(title)
    if missing:
        yield (
            f"<p>Not drawn: {escape(', '.join(missing))}. <code>python -m evaluation.figures --out DIR</code> draws "
            "what the run has data for, and says why where it has none.</p>\n"
        )


def _figure(path: Path, title: str, content: str, badge: str, words: str) -> str:
    picture = path.read_bytes()
    if not picture.startswith(b"\x89PNG\r\n\x1a\n") or len(picture) < 24:
        raise InputError(f"{path}: not a PNG file, draw it again with python -m evaluation.figures")
    width, height = (int.from_bytes(picture[start : start + 4], "big") for start in (16, 20))
    source = f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
    said = escape(f"{title}: {content}" + (f" ({words})" if words else ""))
    return (
        f'<figure><button type="button" class="enlarge" aria-label="Enlarge: {escape(title)}">'
        f'<img src="{source}" width="{width}" height="{height}" alt="{said}"></button>'
        f"<figcaption><strong>{escape(title)}</strong>: {escape(content)}. {badge}</figcaption></figure>\n"
    )
