"""Draw every figure of a run from its recorded results.

    python -m evaluation.figures --out OUT

Reads what `evaluation.evaluate` wrote into OUT; writes OUT/figures/<name>.png (200 dpi) and .pdf and prints their
paths. A figure whose data the run does not have (no sweep, no examples) is skipped, with a line that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from data.command import Parser, run_command
from evaluation.figures.architecture import one_step_workflow, sequential_architecture
from evaluation.figures.cases import dice_by_case, lesion_recall, reliability
from evaluation.figures.roc import roc, roc_liver
from evaluation.figures.scores import class_weight, learning_curves, table1_bars
from evaluation.figures.slices import network_inputs, overlays
from evaluation.figures.style import save, style
from evaluation.results import Results, read_results

# Each returns the figure, or why this run has none.
FIGURES: dict[str, Callable[[Results], Figure | str]] = {
    "fig_sequential_architecture": sequential_architecture,
    "fig_one_step_workflow": one_step_workflow,
    "fig_network_inputs": network_inputs,
    "fig_overlays": overlays,
    "fig_roc": roc,
    "fig_roc_liver": roc_liver,
    "fig_learning_curves": learning_curves,
    "fig_class_weight": class_weight,
    "fig_table1_bars": table1_bars,
    "fig_reliability": reliability,
    "fig_dice_by_case": dice_by_case,
    "fig_lesion_recall": lesion_recall,
}


def draw_all(results: Results) -> tuple[list[Path], dict[str, str]]:
    """Draw every figure into OUT/figures.

    Returns:
        The paths written, and why a figure was skipped, by name.
    """
    folder = results.path / "figures"
    written: list[Path] = []
    skipped: dict[str, str] = {}
    with style():
        for name, draw in FIGURES.items():
            drawn = draw(results)
            if isinstance(drawn, str):
                skipped[name] = drawn
                # A drawing of an earlier run would pass for this one's.
                for suffix in (".png", ".pdf"):
                    (folder / f"{name}{suffix}").unlink(missing_ok=True)
            else:
                written.extend(save(drawn, folder / name))
    return written, skipped


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m evaluation.figures`."""
    parser = Parser(
        prog="python -m evaluation.figures", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder that evaluation.evaluate wrote"
    )
    written, skipped = draw_all(read_results(parser.parse_args(arguments).out))
    for path in written:
        print(path)
    for name, why in skipped.items():
        print(f"{name}: skipped, {why}")


if __name__ == "__main__":
    run_command(main, "python -m evaluation.figures")
