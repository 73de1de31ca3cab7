"""Train a system several times, to choose or to compare a setting.

    python -m training.sweeps class_weight --store DIR --run DIR [--preset NAME] [--seed N]
    python -m training.sweeps joint_loss   --store DIR --run DIR [--preset NAME] [--seed N]

`class_weight`: the class weight of the balanced loss of the second network, from 1 to the inverse
frequency (paper 3.2.1). Every weight starts from the cross-entropy weights of `training.tumor` and
trains at the balanced phase's learning rate for the preset's `sweep_epochs`. The result, on
validation data only, is RUN/sequential/tumor/sweep.json.

`joint_loss`: the ratio beta / alpha of the joint loss, from fresh weights and from the run's
sequential pair, which is trained with cross-entropy first where needed. alpha + beta is 2
(assumed), so that a ratio moves the weight between the terms and not the size of the step. Each
point is a phase RUN/joint/nested/sweep_<start>_<ratio>.

Each point from the pair has a control, ..._hard: the same ratio with the hard mask. Nothing passes
from T to L there, so it is the pair trained for longer, each network at its term's weight. Three
things it shares with the other points: the mask comes from L as it learns, dropout included; the
second input is scaled by the median of the reference liver; one epoch is kept for both networks.
What a point has more than its control is what the soft mask and its gradient give.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.command import InputError, run_command
from data.files import write_json
from training.run import Run, make_parser, open_from_flags
from training.systems.gruber import SCALINGS, Sequential, read_scaling
from training.systems.joint import Joint

KINDS = ("class_weight", "joint_loss")
STARTS = ("pair", "scratch")


def main(arguments: list[str] | None = None) -> None:
    """Train every point of a sweep that is not finished yet."""
    parser = make_parser(
        "sweeps",
        "Sweep the class weight of the balanced loss, or beta / alpha of the joint loss.",
        phases=False,
        example="python -m training.sweeps joint_loss --store out/demo/store --run out/demo/run",
    )
    parser.add_argument("kind", choices=KINDS, help="what is swept")
    flags = parser.parse_args(arguments)

    def check(run: Run) -> None:
        if flags.kind == "joint_loss":
            list_joint_points(run)
        from training.train import check_loss

        check_loss(run, Sequential().under(run.preset))

    run = open_from_flags(flags, check=check)
    if flags.kind == "joint_loss":
        sweep_joint_loss(run)
    else:
        sweep_class_weight(run)


def choose_scaling(run: Run, system: Sequential, label: str) -> str:
    """Return the scaling of the second input that wins a trial on validation data.

    The trial trains the network with each scaling for the preset's `trial_epochs` with
    cross-entropy, and takes the one of higher validation IoU. It is written to
    RUN/<label>/tumor/scaling.json and made once.

    Args:
        run: the run.
        system: as it is trained but for the scaling.
        label: name of its folder.
    """
    if chosen := read_scaling(run.path, label):
        return chosen
    from training.train import train_network

    ious, status, epochs = {}, {}, system.trial_epochs
    for scaling in SCALINGS:
        trial = replace(system, tumor_scaling=scaling, tumor_epochs=(epochs, epochs))
        record = train_network(run, trial, label, "tumor", "ce", f"trial_{scaling}")
        ious[scaling] = record["validation"].get("tumor", {"best_iou": 0.0})["best_iou"]
        status[scaling] = record["status"]
    # A trial that collapsed or diverged wins only over another one that did.
    best = max(SCALINGS, key=lambda scaling: (status[scaling] == "ok", ious[scaling]))
    content = {"schema": 1, "epochs": epochs, "validation_iou": ious, "status": status}
    path = run.path / label / "tumor" / "scaling.json"
    write_json(path, {**content, "chosen": best})
    print(f"{label} tumor: scaling {best} chosen, validation IoU {ious}")
    return best


def sweep_class_weight(run: Run) -> None:
    """Train every class weight that is not finished; write the sweep's result."""
    path, system = run.path / "sequential" / "tumor" / "sweep.json", Sequential().under(run.preset)
    if path.is_file():
        print("sweep: already done")
        return
    points = [train_class_weight(run, system, ratio) for ratio in list_ratios(run)]
    write_json(path, {"schema": 1, "epochs": run.preset.sweep_epochs, "points": points})


def list_ratios(run: Run) -> list[float]:
    """Return the class weights of tumor to the rest, up to inverse frequency.

    They are even in the logarithm.
    """
    pixels = run.read_record("sequential", "tumor", "ce")["class_pixels"]
    inverse_frequency = (pixels["other"] + pixels["liver"]) / pixels["tumor"]
    return [float(ratio) for ratio in np.geomspace(1, inverse_frequency, run.preset.sweep_weights)]


def train_class_weight(run: Run, system: Sequential, ratio: float) -> dict[str, Any]:
    """Train one weight and return its validation figures and thresholds.

    Args:
        run: the run.
        system: as it is trained but for the weight.
        ratio: weight of tumor to the rest.
    """
    from training.train import train_network

    name, epochs = f"sweep_{ratio:.4g}", run.preset.sweep_epochs
    point = replace(system, balanced_ratio=ratio, tumor_epochs=(epochs, epochs))
    record = train_network(run, point, "sequential", "tumor", "balanced", name)
    discard_tensorboard(run.find_folder("sequential", "tumor", name))
    return {
        "ratio": ratio,
        "class_weights": record["class_weights"],
        "status": record["status"],
        "thresholds": record["thresholds"].get("tumor", dict.fromkeys(("0.5", "roc", "iou"))),
        **dict.fromkeys(("best_iou", "iou_at_half", "iou_at_roc", "auc", "rauc")),
        **record["validation"].get("tumor", {}),
    }


def list_joint_points(run: Run) -> dict[str, Joint]:
    """Return the points of the joint loss's sweep by the names of their folders.

    The controls come first, then every ratio from the pair, then from scratch.

    Raises:
        InputError: the preset's mask is the controls'.
    """
    preset = run.preset
    if preset.joint_mask == "hard":
        raise InputError(
            "joint_mask hard: that is the control of the sweep; "
            "take probability or straight_through"
        )
    # The controls come first, because the other points are read against them.
    kinds = [("pair", "hard"), *((start, preset.joint_mask) for start in STARTS)]
    points = {}
    for start, mask in kinds:
        epochs = preset.joint_sweep_epochs[STARTS.index(start)]
        for ratio in preset.joint_sweep_ratios:
            # A constant sum keeps the step's size, so that only the ratio differs.
            alpha = 2 / (1 + ratio)
            name = f"sweep_{start}_{ratio:.3g}" + ("_hard" if mask == "hard" else "")
            points[name] = replace(
                Joint().under(preset),
                joint_alpha=alpha,
                joint_beta=2 - alpha,
                joint_mask=mask,
                joint_epochs=(epochs, epochs),
                pair_path=run.path if start == "pair" else None,
            )
    return points


def sweep_joint_loss(run: Run) -> None:
    """Train every point that is not finished, and the sequential pair before."""
    from training.train import train_network, train_system, write_system

    points = list_joint_points(run)
    train_system(run, Sequential().under(run.preset), phases=["ce"])
    write_system(run, Joint().under(run.preset), "joint")
    for name, system in points.items():
        train_network(run, system, "joint", "nested", "ce", name)
        discard_tensorboard(run.find_folder("joint", "nested", name))


def discard_tensorboard(folder: Path) -> None:
    """Remove a sweep point's TensorBoard log; its model and record stay."""
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


if __name__ == "__main__":
    run_command(main, "training.sweeps")
