"""Slices to show: the best, median and worst by tumor IoU, and one slice as both networks see it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.files import replace_file, write_json
from data.inputs import Liver, make_input
from data.scaling import window
from data.store import Store
from evaluation.names import LOSSES, MODELS
from evaluation.scoring import SLICE_RULE
from evaluation.systems import System, finished_systems, load_system, slices_of
from models.inference import predict_slices
from models.sequential import label_map, mask_liver

Row = dict[str, Any]


def write_examples(run: Path, store: Store, slices: Sequence[Row], out: Path) -> None:
    """Write OUT/examples.json and examples.npz from the per-slice scores of the test set.

    Slices are ranked by the tumor IoU of the sequential model (of the one-step model where that is missing)
    after the last finished phase, among the test slices that hold tumor. Without such a slice, or without a
    model whose scores are a result, no file is written.
    """
    for name in ("examples.json", "examples.npz"):  # of an earlier evaluation
        (out / name).unlink(missing_ok=True)
    scored = {(row["model"], row["loss"]) for row in slices}
    loss = next(
        (loss for loss in reversed(LOSSES) if any(loss == other for _, other in scored)), None
    )
    ranked = rank(slices, "sequential", loss) or rank(slices, "one_step", loss)
    if loss is None or not ranked:
        print("examples: no test slice with tumor was scored")
        return
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    systems = {
        model: load_system(run, model, loss)
        for model in MODELS
        if (model, loss) in scored and (model, loss) in finished_systems(run)
    }
    places = [(row["case"], row["row"]) for row in chosen.values()]
    arrays: dict[str, np.ndarray] = {
        "hu": np.stack([store.image(case)[row] for case, row in places]),
        "label": np.stack([store.label(case)[row] for case, row in places]),
    }
    for model in MODELS:
        maps = (
            [predicted_labels(systems[model], store, place) for place in places]
            if model in systems
            else []
        )
        arrays[model] = np.stack(maps) if maps else np.zeros_like(arrays["label"])
    shown = max(ranked, key=lambda row: row["tp"] + row["fn"])
    content: Row = {
        "schema": 1,
        "synthetic": store.synthetic,
        "cohort": store.cohort,
        "rule": SLICE_RULE,
        "loss": loss,
        "examples": [
            {
                "kind": kind,
                "case": row["case"],
                "row": row["row"],
                "tumor_iou": {model: tumor_iou(slices, model, loss, row) for model in MODELS},
            }
            for kind, row in chosen.items()
        ],
    }
    if "sequential" in systems:
        system = systems["sequential"]
        place = (shown["case"], shown["row"])
        arrays |= network_inputs(system, store, place)
        arrays["input_sequential"] = predicted_labels(system, store, place)
        content["input"] = {"case": shown["case"], "row": shown["row"]}
        content["liver_window_hu"] = system.records["liver"]["window_hu"]
        content["tumor_window_hu"] = system.records["tumor"]["window_hu"]
        content["tumor_scaling"] = system.records["tumor"]["scaling"]
    with replace_file(out / "examples.npz") as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]  # mypy takes them for allow_pickle
    write_json(out / "examples.json", content)


def rank(slices: Sequence[Row], model: str, loss: str | None) -> list[Row]:
    """Return the test slices that hold tumor, by falling tumor IoU of the model."""
    held = [
        row
        for row in slices
        if (row["cohort"], row["target"], row["model"], row["loss"])
        == ("test", "tumor", model, loss)
        and row["tp"] + row["fn"] > 0
    ]
    return sorted(held, key=lambda row: -row["iou"])


def tumor_iou(slices: Sequence[Row], model: str, loss: str, place: Row) -> float | None:
    """Return the model's tumor IoU on the slice of `place`, None where it was not scored."""
    for row in rank(slices, model, loss):
        if (row["case"], row["row"]) == (place["case"], place["row"]):
            return float(row["iou"])
    return None


def predicted_labels(system: System, store: Store, place: tuple[str, int]) -> np.ndarray:
    """Return the label map 0/1/2 of one slice, uint8 (rows, columns), at the thresholds of `SLICE_RULE`."""
    image = store.image(place[0])
    liver, tumor = next(system.probabilities(slices_of(image), slices_of(image, [place[1]])))
    return label_map(
        liver, tumor, *(system.thresholds(target)[SLICE_RULE] for target in ("liver", "tumor"))
    )


def network_inputs(system: System, store: Store, place: tuple[str, int]) -> dict[str, np.ndarray]:
    """Return one slice as the sequential model's networks see it: X, M and M * w(X), with HU and label."""
    case, row = place
    image, (liver, tumor) = store.image(case), (system.records["liver"], system.records["tumor"])
    hu = np.asarray(image[row], np.float32)
    seen = window(hu, *liver["window_hu"])
    probability = next(predict_slices(system.networks["liver"], [seen]))[..., 0]
    mask = mask_liver(probability, tumor["mask_s1"])
    median_hu = system.liver_median(slices_of(image))
    return {
        "input_hu": hu,
        "input_liver": seen,
        "input_mask": mask.astype(np.uint8),
        "input_tumor": make_input(hu, {**tumor, "name": "masked"}, Liver(mask, median_hu)),
        "input_label": np.asarray(store.label(case)[row]),
    }
