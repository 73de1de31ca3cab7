"""Every figure of a run by name: its function, its title, what it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from evaluation.figures.architecture import draw_one_step, draw_sequential
from evaluation.figures.cases import draw_dice_by_case, draw_lesion_recall
from evaluation.figures.probabilities import draw_liver_roc, draw_reliability, draw_tumor_roc
from evaluation.figures.slices import draw_network_inputs, draw_overlays
from evaluation.figures.table1 import draw_table1_bars
from evaluation.figures.training import draw_class_weight, draw_learning_curves
from evaluation.results import Results


@dataclass(frozen=True)
class Drawing:
    """A figure of a run.

    Attributes:
        name: of its files, without suffix.
        draw: returns the figure, or why this run has none.
        words: `Title: content`; `{ranked_by}` stands for the system that ranked the examples.
    """

    name: str
    draw: Callable[[Results], Figure | str]
    words: str

    @property
    def title(self) -> str:
        """What stands above it in the report."""
        return self.words.partition(": ")[0]

    def describe(self, ranked_by: str) -> str:
        """Say what it shows."""
        return self.words.partition(": ")[2].format(ranked_by=ranked_by)


FIGURES: dict[str, Drawing] = {}
"""Every figure by name, in the order of the report."""


def register_figure(name: str, draw: Callable[[Results], Figure | str], words: str) -> None:
    """Add a figure to `FIGURES`.

    Args:
        name, draw, words: see `Drawing`.

    Raises:
        ValueError: the name is taken.
    """
    if name in FIGURES:
        raise ValueError(f"`name` must be new. Received: {name!r}")
    FIGURES[name] = Drawing(name, draw, words)


register_figure(
    "fig_overlays",
    draw_overlays,
    "Overlays: the best, median and worst test slice by tumor IoU of the "
    "{ranked_by} model, with reference and every model",
)
register_figure(
    "fig_network_inputs",
    draw_network_inputs,
    "Network inputs: a slice as the first and as the second network sees it",
)
register_figure(
    "fig_roc",
    draw_tumor_roc,
    "ROC curves, tumor: all pixels, and those with a probability in (0.01, 0.99), "
    "by cohort and model",
)
register_figure(
    "fig_roc_liver",
    draw_liver_roc,
    "ROC curves, liver: all pixels, and those with a probability in (0.01, 0.99)",
)
register_figure(
    "fig_table1_bars", draw_table1_bars, "Table 1 as bars: IoU by cohort, target, model and loss"
)
register_figure(
    "fig_learning_curves",
    draw_learning_curves,
    "Learning curves: loss and validation IoU by epoch, every network and phase",
)
register_figure(
    "fig_class_weight",
    draw_class_weight,
    "Class weight: validation scores of the tumor network by the weight of its class",
)
register_figure(
    "fig_dice_by_case",
    draw_dice_by_case,
    "Dice by case: Dice score of every case, liver and tumor, rule roc, with the median",
)
register_figure(
    "fig_lesion_recall",
    draw_lesion_recall,
    "Lesions found: share of lesions that were found, by diameter and system",
)
register_figure(
    "fig_reliability",
    draw_reliability,
    "Reliability: tumor probability against the share of tumor pixels, both phases",
)
register_figure(
    "fig_sequential_architecture",
    draw_sequential,
    "Sequential model: the two U-Nets, drawn from the trained networks",
)
register_figure(
    "fig_one_step_workflow",
    draw_one_step,
    "One-step model: the U-Net with three classes, drawn from the trained network",
)
