"""Learning curves of one phase, drawn from its log."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data.files import replace_file
from training.callbacks import read_log


def draw_curves(folder: Path, data: str = "") -> None:
    """Draw `folder/curves.png` from `folder/log.csv`: loss and IoU by epoch.

    `data` names what the phase was trained on, for the title.
    """
    rows = read_log(folder / "log.csv")
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, iou_axes = figure.subplots(1, 2)
    for key, label in (("loss", "training"), ("val_loss", "validation")):
        loss_axes.plot(epochs, [row[key] for row in rows], marker=".", label=label)
    loss_axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    for key in rows[0]:
        if key.endswith("_iou") and key != "val_iou":
            iou_axes.plot(
                epochs, [row[key] for row in rows], marker=".", label=key.replace("_", " ")
            )
    iou_axes.set(xlabel="epoch", ylabel="IoU at the best threshold", ylim=(0, 1))
    for axes in (loss_axes, iou_axes):
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    figure.suptitle(" ".join(filter(None, ["/".join(folder.parts[-3:]), data])))
    with replace_file(folder / "curves.png") as temporary:
        figure.savefig(temporary, dpi=150)
