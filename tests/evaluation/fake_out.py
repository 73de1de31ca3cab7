"""A made-up OUT folder by the schema of `evaluation.evaluate`: plausible shapes, invented numbers, no network."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.evaluation.fake_whole_cases import write_whole_cases

COHORTS = {"validation": (60, 4), "test": (60, 7), "external": (80, 8)}
MODELS = ("one_step", "sequential", "joint")
SYSTEMS = [(model, loss) for loss in ("ce", "balanced") for model in MODELS]
SHIFT = {("one_step", "ce"): 0.0, ("one_step", "balanced"): 0.05, ("sequential", "ce"): 0.1}
SHIFT |= {("sequential", "balanced"): 0.15, ("joint", "ce"): 0.12, ("joint", "balanced"): 0.13}
PATIENTS = {"validation": (4, 3), "test": (7, 6), "external": (8, 8)}
"""Of each cohort: all, and those with tumor."""
THRESHOLDS = {"argmax": None, "0.5": 0.5, "roc": 0.137, "iou": 0.42}
Failures = dict[tuple[str, str], str]


FAILURE = {("sequential", "balanced"): "no tumor pixel | 100 % background"}
"""A system that collapsed, for `write_out(failures=...)`; the bar is one that a table must escape."""


def rows(seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per cohort, system, target and rule."""
    rng = np.random.default_rng(seed)
    made = []
    for cohort, (slices, cases) in COHORTS.items():
        for model, loss in SYSTEMS:
            for target in ("liver", "tumor"):
                for rule, threshold in THRESHOLDS.items():
                    if rule == "argmax" and model != "one_step":
                        continue
                    iou = (0.92 if target == "liver" else 0.55) + SHIFT[model, loss] * (
                        target == "tumor"
                    )
                    iou += {"argmax": 0, "0.5": 0, "roc": 0.02, "iou": 0.03}[rule] + rng.normal(
                        0, 0.008
                    )
                    scores = {
                        "pixel_accuracy": 0.98 + iou / 60,
                        "iou": iou,
                        "dice": 2 * iou / (1 + iou),
                    }
                    scores |= {"rand_index": 0.96 + iou / 30, "auc": 0.9997, "rauc": 0.5 + iou / 2}
                    key = {
                        "cohort": cohort,
                        "model": model,
                        "loss": loss,
                        "target": target,
                        "threshold_rule": rule,
                    }
                    spread: dict[str, Any] = {"iou_low": None, "iou_high": None, "draws_skipped": 0}
                    if cohort != "validation":
                        spread |= {"iou_low": iou - 0.05, "iou_high": min(1.0, iou + 0.04)}
                    spread["n_patients"] = PATIENTS[cohort][0]
                    spread["n_counted"] = PATIENTS[cohort][target == "tumor"]
                    scores |= {"threshold": threshold, "n_cases": cases, "n_slices": slices}
                    made.append({**key, **scores, **spread})
    return made


def curves(seed: int = 0) -> list[dict[str, Any]]:
    """Return a curve per cohort, system and target."""
    made = []
    for number, cohort in enumerate(COHORTS):
        for index, (model, loss) in enumerate(SYSTEMS):
            for target in ("liver", "tumor"):
                fpr = np.linspace(0, 1, 101)
                power = 0.25 - 0.04 * index + 0.03 * number
                full = {"fpr": fpr.tolist(), "tpr": (fpr ** (power / 8)).tolist()}
                restricted = {"fpr": fpr.tolist(), "tpr": (fpr**power).tolist()}
                restricted["threshold"] = np.linspace(0.99, 0.01, 101).tolist()
                points = {}
                for rule, at in (("0.5", 0.1), ("roc", 0.3), ("iou", 0.15)):
                    points[rule] = {
                        "fpr": at / 100,
                        "tpr": (at / 100) ** (power / 8),
                        "restricted_fpr": at,
                    }
                    points[rule]["restricted_tpr"] = at**power
                counts = {"n_positive": 21000, "n_negative": 962040}
                counts |= {"n_restricted_positive": 4000, "n_restricted_negative": 9000 + index}
                head = {"cohort": cohort, "model": model, "loss": loss, "target": target}
                thresholds = {"0.5": 0.5, "roc": 0.137, "iou": 0.42}
                areas = {"auc": 1 / (1 + power / 8), "rauc": 1 / (1 + power)}
                both = {
                    "full": full,
                    "restricted": restricted,
                    "ece": 0.01,
                    "ece_restricted": 0.1 + 0.02 * index,
                }
                predicted = np.linspace(1 / 30, 29 / 30, 15)
                seen = {
                    "predicted": predicted.tolist(),
                    "observed": (predicted ** (1 + 0.3 * index)).tolist(),
                }
                both["reliability"] = {
                    "n_pixels": [900000 if n == 0 else 700 for n in range(15)],
                    **seen,
                }
                made.append(
                    {**head, **areas, **counts, **both, "thresholds": thresholds, "points": points}
                )
    return made


def layers(
    size: int = 128, widths: tuple[int, ...] = (16, 32, 64, 128, 256), classes: int = 1
) -> dict[str, Any]:
    """Return the record of a U-Net's layers, named as `models.unet` names them."""
    made: list[dict[str, Any]] = []

    def add(name: str, kind: str, output: list[int], inputs: list[str], parameters: int = 0) -> str:
        made.append(
            {
                "name": name,
                "kind": kind,
                "output": output,
                "inputs": inputs,
                "parameters": parameters,
            }
        )
        return name

    def block(level: str, at: int, before: tuple[str, int], width: int) -> tuple[str, int]:
        for index in (1, 2):
            count = (9 * before[1] + 1) * width
            before = (
                add(f"{level}_conv_{index}", "Conv2D", [at, at, width], [before[0]], count),
                width,
            )
        return before

    last = (add("slice", "InputLayer", [size, size, 1], []), 1)
    skips = []
    for level, width in enumerate(widths[:-1], start=1):
        last = block(f"encoder_{level}", size, last, width)
        skips.append(last)
        size //= 2
        last = (add(f"encoder_{level}_pool", "MaxPooling2D", [size, size, width], [last[0]]), width)
    last = block("bottom", size, last, widths[-1])
    for level in range(len(widths) - 1, 0, -1):
        width, size = widths[level - 1], size * 2
        up = f"decoder_{level}_up"
        add(up, "Conv2DTranspose", [size, size, width], [last[0]], (4 * last[1] + 1) * width)
        name = f"decoder_{level}_concat"
        add(name, "Concatenate", [size, size, 2 * width], [skips[level - 1][0], up])
        drop = add(f"decoder_{level}_dropout", "Dropout", [size, size, 2 * width], [name])
        last = block(f"decoder_{level}", size, (drop, 2 * width), width)
    add("logits", "Conv2D", [size, size, classes], [last[0]], (last[1] + 1) * classes)
    add("probability", "Activation", [size, size, classes], ["logits"])
    return {"parameters": sum(layer["parameters"] for layer in made), "layers": made}


def phase(stage: str, name: str, seed: int = 0) -> dict[str, Any]:
    """Return the record of one phase of one stage."""
    rng = np.random.default_rng(seed)
    epochs = 14 if name == "ce" else 4
    targets = ("liver", "tumor") if stage in ("one_step", "joint") else (stage,)
    history = []
    for epoch in range(1, epochs + 1):
        progress = 1 - 0.8 * np.exp(-epoch / 4) if name == "ce" else 0.99
        row = {
            "epoch": epoch,
            "loss": 0.5 * (1.05 - progress),
            "val_loss": 0.55 * (1.05 - progress),
            "val_iou": 0.0,
        }
        for target in targets:
            for key in (
                f"{target}_iou",
                f"val_{target}_iou",
                f"{target}_iou_at_half",
                f"val_{target}_iou_at_half",
            ):
                row[key] = float(
                    (0.93 if target == "liver" else 0.6) * progress + rng.normal(0, 0.01)
                )
        row["val_iou"] = row[f"val_{targets[-1]}_iou"]
        history.append(row)
    classes = 3 if stage == "one_step" else 2
    weights = [1.0] * classes if name == "ce" else [0.4, 3.1, 17.0][:classes]
    by_target: Any = {"liver": weights, "tumor": weights[::-1]} if stage == "joint" else weights
    rules = {"0.5": 0.5, "roc": 0.137, "iou": 0.42}
    record = {"stage": stage, "phase": name, "status": "ok", "why": "", "note": ""}
    record |= {
        "epochs": epochs,
        "best_epoch": epochs - 1,
        "train_s": 11.5 * epochs,
        "parameters": layers()["parameters"] * (2 if stage == "joint" else 1),
        "peak_memory_mib": 1234.5 if name == "ce" else 1001.0,
    }
    if stage == "joint":
        record |= {"alpha": 1.0, "beta": 2.0, "mask": "probability", "start": "pair"}
    return record | {
        "class_weights": by_target,
        "thresholds": {t: dict(rules) for t in targets},
        "rows": history,
    }


def sweep() -> dict[str, Any]:
    """Return a sweep of five class weights, the last one collapsed; the best rAUC is at the smallest."""
    points = []
    for index, ratio in enumerate((1.0, 3.3, 11.0, 36.0, 120.0)):
        point = {"ratio": ratio, "class_weights": [1.0, ratio], "status": "ok"}
        point |= {"thresholds": {"0.5": 0.5, "roc": 0.1 + 0.2 * index, "iou": 0.4 + 0.1 * index}}
        point |= {
            "best_iou": 0.66 - 0.01 * index,
            "iou_at_half": 0.6 - 0.05 * index,
            "iou_at_roc": 0.63 - 0.02 * index,
        }
        points.append({**point, "auc": 0.999, "rauc": 0.9 - 0.03 * index})
    nothing = {"best_iou": None, "iou_at_half": None, "iou_at_roc": None, "auc": None, "rauc": None}
    points[-1] |= {"status": "collapsed", "thresholds": None, **nothing}
    return {"epochs": 1, "points": points}


def fake_slice(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (HU int16, label uint8) of a made-up axial slice: body, spine, liver at the left, tumors."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    hu = np.full((size, size), -1000.0)
    body = ellipse(0, 0, 0.45, 0.33)
    hu[body] = -90
    hu[ellipse(0, 0, 0.42, 0.3)] = 45
    liver = (ellipse(-0.17, -0.03, 0.2, 0.19) | ellipse(-0.03, -0.1, 0.16, 0.1)) & ~ellipse(
        0.02, 0.08, 0.12, 0.12
    )
    hu[ellipse(0.25, -0.02, 0.1, 0.12)] = 120
    hu[ellipse(0, 0.18, 0.07, 0.07)] = 300
    hu[ellipse(0.0, 0.07, 0.025, 0.025)] = 170
    hu[liver] = 105
    label = liver.astype(np.uint8)
    for _ in range(2):
        cx, cy = rng.uniform(-0.28, -0.1), rng.uniform(-0.13, 0.06)
        tumor = ellipse(cx, cy, rng.uniform(0.025, 0.06), rng.uniform(0.025, 0.05)) & liver
        hu[tumor] = 55
        label[tumor] = 2
    hu += rng.normal(0, 14, hu.shape)
    return hu.astype(np.int16), label


def damaged(label: np.ndarray, shift: int) -> np.ndarray:
    """Return a copy of a label map whose tumor is moved by `shift` columns inside the liver."""
    out = (label > 0).astype(np.uint8)
    out[np.roll(label == 2, shift, axis=1) & (label > 0)] = 2
    return out


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Return the IoU of label 2."""
    both, either = (first == 2) & (second == 2), (first == 2) | (second == 2)
    return float(both.sum() / max(either.sum(), 1))


def write_examples(out: Path, size: int, synthetic: bool, joint: bool = True) -> None:
    """Write examples.json and examples.npz."""
    listed: list[dict[str, Any]] = []
    arrays: dict[str, list[np.ndarray]] = {
        name: [] for name in ("hu", "label", *MODELS[: 2 + joint])
    }
    for index, kind in enumerate(("best", "median", "worst")):
        hu, label = fake_slice(size, index + 3)
        maps = {"one_step": damaged(label, 2 + 2 * index), "sequential": damaged(label, 1 + index)}
        if joint:
            maps["joint"] = damaged(label, 1)
        scores = {name: iou(found, label) for name, found in maps.items()}
        listed.append(
            {"kind": kind, "case": str(index + 7), "row": 40 + index, "tumor_iou": scores}
        )
        for name, array in {"hu": hu, "label": label, **maps}.items():
            arrays[name].append(array)
    hu, label, mask = arrays["hu"][1], arrays["label"][1], arrays["sequential"][1] > 0
    inputs = {"input_hu": hu, "input_label": label, "input_mask": mask.astype(np.uint8)}
    inputs["input_liver"] = np.clip((hu + 100.0) / 500, 0, 1).astype(np.float32)
    inputs["input_tumor"] = (mask * np.clip(hu / 200.0, 0, 1)).astype(np.float32)
    np.savez_compressed(
        out / "examples.npz", **{name: np.stack(stack) for name, stack in arrays.items()}, **inputs
    )
    head = {
        "schema": 1,
        "synthetic": synthetic,
        "cohort": "phantom",
        "rule": "roc",
        "loss": "balanced",
    }
    head |= {"liver_window_hu": [-100, 400], "tumor_scaling": "window", "tumor_window_hu": [0, 200]}
    write(out / "examples.json", {**head, "examples": listed, "input": {"case": "8", "row": 41}})


def write(path: Path, content: Any) -> None:
    """Write JSON."""
    path.write_text(json.dumps(content), encoding="utf-8")


def write_cases(out: Path, failures: Failures, seed: int) -> None:
    """Write cases.csv: a case per patient, the last one of validation and test without tumor; sequential errs less."""
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        scores = ["tp", "fp", "fn", "tn", "pixel_accuracy", "iou", "dice", "rand_index"]
        names = [
            "cohort",
            "case",
            "patient",
            "model",
            "loss",
            "target",
            "threshold_rule",
            "threshold",
            "n_slices",
        ]
        writer = csv.DictWriter(file, names + scores, restval="")
        writer.writeheader()
        for row in rows(seed):
            if (row["model"], row["loss"]) in failures or row["threshold_rule"] == "argmax":
                continue
            for case in range(1, PATIENTS[row["cohort"]][0] + 1):
                held = case <= PATIENTS[row["cohort"]][row["target"] == "tumor"]
                missed = {"one_step": 50, "sequential": 30, "joint": 40}[row["model"]] + 5 * case
                missed -= 7 * (row["loss"] == "balanced")
                wrong = (400 if row["model"] == "one_step" else 250) + 10 * case * case
                wrong -= 30 * (row["threshold_rule"] == "roc") + 20 * (row["loss"] == "balanced")
                counts: dict[str, Any] = {
                    "tp": 2000 - missed if held else 0,
                    "fp": wrong,
                    "fn": missed if held else 0,
                }
                counts |= {"tn": 90000 - wrong + (0 if held else 2000)}
                counts["dice"] = 2 * counts["tp"] / (2 * counts["tp"] + wrong + counts["fn"])
                key = {name: row[name] for name in names if name in row}
                writer.writerow({**key, "case": case, "patient": case, "n_slices": 15, **counts})


def write_lesions(out: Path, failures: Failures, seed: int) -> None:
    """Write lesions.csv: eight lesions a case of test and external, the larger the better found, and one false."""
    rng = np.random.default_rng(seed)
    with (out / "lesions.csv").open("w", newline="", encoding="utf-8") as file:
        names = [
            "cohort",
            "case",
            "patient",
            "model",
            "loss",
            "kind",
            "diameter_mm",
            "voxels",
            "touched",
            "iou",
        ]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for cohort in ("test", "external"):
            for model, loss in SYSTEMS:
                if (model, loss) in failures:
                    continue
                row = {"cohort": cohort, "case": 1, "patient": 1, "model": model, "loss": loss}
                nothing = {
                    "kind": "false positive",
                    "diameter_mm": 5,
                    "voxels": 25,
                    "touched": False,
                    "iou": 0.0,
                }
                writer.writerow({**row, **nothing})
                for case, mm in itertools.product((1, 2), (6, 9, 12, 18, 22, 28, 35, 60)):
                    iou = max(0.0, round(rng.normal(mm / 60, 0.2), 3))
                    found = {
                        "kind": "lesion",
                        "diameter_mm": mm,
                        "voxels": mm**2,
                        "touched": iou > 0,
                        "iou": iou,
                    }
                    writer.writerow({**row, "case": case, "patient": case, **found})


LITS = {
    "lesion_precision": 0.25,
    "liver_assd": 1.5,
    "liver_rvd": -0.125,
    "MAXERROR_Tumorburden": -0.5,
}
"""Some of the 24 figures."""


def lits() -> list[dict[str, Any]]:
    """Return LiTS figures of test and external, in both modes; one test case has no liver."""
    made = []
    for cohort, left_out in (("test", ["7"]), ("external", [])):
        for index, (model, loss) in enumerate(SYSTEMS):
            for mode in ("official", "corrected"):
                head = {
                    "cohort": cohort,
                    "model": model,
                    "loss": loss,
                    "threshold_rule": "roc",
                    "mode": mode,
                }
                figures = {name: value + 0.01 * index for name, value in LITS.items()}
                count = {"n_cases": COHORTS[cohort][1] - len(left_out), "left_out": left_out}
                made.append({**head, **count, "figures": figures})
    return made


def comparisons() -> list[dict[str, Any]]:
    """Return comparisons of two models and of two rules, one of them with too few patients."""
    compared: dict[str, Any] = {
        "cohort": "test",
        "target": "tumor",
        "threshold_rule": "roc",
        "second_rule": "roc",
    }
    compared |= {
        "first": ["sequential", "balanced"],
        "second": ["one_step", "balanced"],
        "difference": 0.12,
    }
    compared |= {
        "low": 0.04,
        "high": 0.2,
        "p_value": 0.031,
        "least_p": 0.03125,
        "better": 5,
        "worse": 1,
    }
    compared |= {"n_patients": 7, "n_counted": 6, "draws_skipped": 0}
    few = {
        "cohort": "validation",
        "low": None,
        "high": None,
        "p_value": None,
        "n_patients": 4,
        "n_counted": 3,
    }
    rules = {
        "second": ["sequential", "balanced"],
        "second_rule": "0.5",
        "difference": -0.02,
        "low": -0.05,
        "high": 0.01,
    }
    joint = {
        "first": ["joint", "balanced"],
        "second": ["sequential", "balanced"],
        "p_value": None,
        "difference": 0.0,
    }
    return [
        compared,
        {**compared, **few, "least_p": 0.25},
        {**compared, **rules},
        {**compared, **joint},
    ]


def write_out(
    out: Path,
    seed: int = 0,
    failures: Failures | None = None,
    external: bool = True,
    synthetic: bool = True,
    size: int = 64,
    joint: bool = True,
) -> Path:
    """Write a whole OUT folder and return its path.

    Args:
        out: the folder.
        seed: of the invented numbers.
        failures: {(model, loss): why it collapsed}.
        external: whether there is an external cohort.
        synthetic: whether the main cohort is a phantom; the external one is.
        size: of the slices, in pixels.
        joint: whether the joint model was trained.
    """
    failures = failures or {}
    out.mkdir(parents=True)
    external_data = (
        {"cohort": "phantom-external", "synthetic": True, "slices": 80, "cases": 8}
        if external
        else None
    )
    data: dict[str, Any] = {
        "cohort": "phantom" if synthetic else "LiTS",
        "synthetic": synthetic,
        "size": size,
    }
    for name, (slices, cases) in [("train", (360, 20)), *list(COHORTS.items())[:2]]:
        data |= {f"{name}_slices": slices, f"{name}_cases": cases}
    data["blind_tumor_iou"] = {"validation": 0.05, "test": 0.06} | (
        {"external": 0.07} if external else {}
    )
    data |= {"external": external_data, "split_sha256": "ab" * 32, "split_rule": "by patient"}
    systems = [
        {"model": model, "loss": loss, "status": "failed" if (model, loss) in failures else "ok"}
        | {
            "why": failures.get((model, loss), ""),
            "ms_per_slice": 10.0 + index,
            "predict_peak_memory_mib": 300.0 + index,
        }
        for index, (model, loss) in enumerate(SYSTEMS)
        if joint or model != "joint"
    ]

    def kept(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        known = [entry for entry in entries if (entry["model"], entry["loss"]) not in failures]
        known = [entry for entry in known if joint or entry["model"] != "joint"]
        return [entry for entry in known if external or entry["cohort"] != "external"]

    environment = {
        "python": "3.11",
        "packages": {"numpy": "2.4"},
        "keras_backend": "tensorflow",
        "git_commit": "0" * 40,
    }
    environment |= {"system": "Linux", "processor": "made up", "cores": 2}
    summary = {
        "schema": 1,
        "preset": "demo",
        "seed": seed,
        "data": data,
        "systems": systems,
        "rows": kept(rows(seed)),
    }
    trained_on = {
        "git_commit": "1" * 40,
        "processor": "made up",
        "cores": 2,
        "keras_backend": "tensorflow",
    }
    known = [entry for entry in comparisons() if joint or entry["first"][0] != "joint"]
    summary |= {"comparisons": known, "lits": kept(lits())}
    summary |= {
        "environment": environment,
        "trained_on": [trained_on],
        "timing_s": {"evaluate": 12.0},
    }
    write(out / "summary.json", summary)
    (out / "store").mkdir()
    write(out / "store" / "split.json", {"schema": 1, "slices": {}, "sha256": data["split_sha256"]})
    write(out / "curves.json", {"schema": 1, "curves": kept(curves(seed))})
    trained = ("one_step", "liver", "tumor", *(("joint",) if joint else ()))
    stages = [(stage, name) for stage in trained for name in ("ce", "balanced")]
    training = {
        "schema": 1,
        "preset": "demo",
        "seed": seed,
        "synthetic": synthetic,
        "settings": {"dropout": 0.5},
    }
    training["settings"]["liver_window_hu"] = [-100, 400]
    training |= {"phases": [phase(*stage, seed) for stage in stages], "sweep": sweep()}
    training["scaling"] = {
        "epochs": 3,
        "validation_iou": {"window": 0.51, "liver_median": 0.49},
        "chosen": "window",
    }
    training["architectures"] = {
        "one_step": layers(classes=3),
        "liver": layers(),
        "tumor": layers(),
    }
    if joint:
        parts = {"liver": layers(), "tumor": layers()}
        training["architectures"]["joint"] = {
            "parameters": 2 * layers()["parameters"],
            "parts": parts,
        }
    write(out / "training.json", training)
    absent = (
        {} if joint else dict.fromkeys([one for one in SYSTEMS if one[0] == "joint"], "not trained")
    )
    write_cases(out, {**failures, **absent}, seed)
    write_lesions(out, {**failures, **absent}, seed)
    write_whole_cases(out, [one for one in SYSTEMS if one not in {**failures, **absent}])
    write_examples(out, size, synthetic, joint)
    return out
