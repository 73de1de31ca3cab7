"""A made-up OUT folder by the schema of `evaluation.evaluate`, with invented numbers."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.names import PHASES, SYSTEMS
from evaluation.postprocess import OPTIONS
from evaluation.score_table import ScoreRow, make_table, write_table

COHORTS = {"validation": (60, 4), "test": (60, 7), "external": (80, 8)}
"""Slices and cases of each cohort."""
PAIRS = [(system, phase) for phase in PHASES for system in SYSTEMS]
SHIFT = {("one_step", "ce"): 0.0, ("one_step", "balanced"): 0.05, ("sequential", "ce"): 0.1}
SHIFT |= {("sequential", "balanced"): 0.15, ("joint", "ce"): 0.12, ("joint", "balanced"): 0.13}
"""How much better than the worst system each finds tumors, in IoU."""
OF_RULE = {"argmax": 0.0, "0.5": 0.0, "roc": 0.02, "iou": 0.03}
"""How much better each rule is, in IoU."""
PATIENTS = {"validation": (4, 3), "test": (7, 6), "external": (8, 8)}
"""Of each cohort: all, and those with tumor; each has one case."""
THRESHOLDS = {"argmax": None, "0.5": 0.5, "roc": 0.137, "iou": 0.42}
REFERENCE, FALSE = 1000, 20
"""Reference pixels and false ones of each case that holds the target."""
Failures = dict[tuple[str, str], str]

FAILURE = {("sequential", "balanced"): "no tumor pixel | 100 % background"}
"""A system that collapsed; a table must escape the bar in its reason."""


def make_scores(seed: int = 0, size: int = 64) -> Iterator[ScoreRow]:
    """Yield the score rows: one case a patient, the last ones without tumor.

    The pooled IoU of a row is base + `SHIFT` (tumors) + `OF_RULE` + 0.002 * seed, to a pixel.
    """
    for cohort, (slices, cases) in COHORTS.items():
        for (system, phase), target in itertools.product(PAIRS, ("liver", "tumor")):
            for rule, threshold in THRESHOLDS.items():
                if rule == "argmax" and system != "one_step":
                    continue
                iou = (0.92 if target == "liver" else 0.55) + OF_RULE[rule] + 0.002 * seed
                iou += SHIFT[system, phase] * (target == "tumor")
                holding = PATIENTS[cohort][target == "tumor"]
                for case in range(1, cases + 1):
                    n_slices = slices // cases + (case <= slices % cases)
                    held = case <= holding
                    tp = round(iou * (REFERENCE + FALSE) + 4 * (case - (holding + 1) / 2)) * held
                    fp, fn = FALSE * held, (REFERENCE - tp) * held
                    head = {"seed": seed, "system": system, "phase": phase, "rule": rule}
                    head |= {"cohort": cohort, "target": target, "threshold": threshold}
                    head |= {"case": str(case), "patient": str(case), "n_slices": n_slices}
                    counts = {"tp": tp, "fp": fp, "fn": fn, "tn": n_slices * size**2 - tp - fp - fn}
                    yield ScoreRow(**head, **counts, unit="slices")
                if rule == "roc":
                    yield from make_slice_scores(seed, cohort, system, phase, target, size)
                    yield from make_whole_scores(seed, cohort, system, phase, target)


def make_slice_scores(
    seed: int, cohort: str, system: str, phase: str, target: str, size: int
) -> Iterator[ScoreRow]:
    """Yield two slices of case 1, of IoU 0.5 and 0.25; validation data has none."""
    if cohort == "validation":
        return
    for row, tp in ((40, 50), (41, 25)):
        counts = {"tp": tp, "fp": 0, "fn": 100 - tp, "tn": size**2 - 100}
        head = {"seed": seed, "system": system, "phase": phase, "rule": "roc", "cohort": cohort}
        head |= {"target": target, "unit": "slice", "case": "1", "patient": "1", "slice": row}
        yield ScoreRow(**head, **counts, n_slices=1, threshold=0.137)


def make_whole_scores(
    seed: int, cohort: str, system: str, phase: str, target: str
) -> Iterator[ScoreRow]:
    """Yield two whole test cases, Dice 0.5 and 0.7, and the options of post-processing.

    The second case has no tumor. Filling holes finds 10 pixels more in each case. A voxel has
    0.2 ml, so a reference has 20 ml; every distance has the value of the Dice.
    """
    if cohort != "test":
        return
    for case, dice in (("1", 0.5), ("2", 0.7)):
        head: dict[str, Any] = {"seed": seed, "system": system, "phase": phase, "rule": "roc"}
        head |= {"cohort": cohort, "target": target, "case": case, "patient": case}
        empty = (target, case) == ("tumor", "2")
        overlap, error = round(100 * dice), round(100 * (1 - dice))
        counts = {"tp": overlap, "fp": error, "fn": error, "tn": 1000}
        counts = dict.fromkeys(counts, 0) | {"tn": 1200} if empty else counts
        names = ("assd_mm", "rmsd_mm", "hausdorff_mm", "hausdorff95_mm")
        distances = dict.fromkeys(names, None if empty else dice)
        whole = {"unit": "whole", "n_slices": 20, "voxel_ml": 0.2, "components_rand_index": dice}
        yield ScoreRow(**head, **counts, **distances, **whole, threshold=0.137)
        for option in ("none", *OPTIONS, "chosen"):
            tp = 60 if option in ("fill_holes", "chosen") else 50
            named = {"postprocess": "fill_holes" if option == "chosen" else option}
            named |= {"chosen": option == "chosen"}
            counts = {"tp": tp, "fp": 0, "fn": 100 - tp, "tn": 1000}
            yield ScoreRow(**head, **named, **counts, unit="slices", n_slices=8)


def curves(seed: int = 0) -> list[dict[str, Any]]:
    """Return a curve per cohort, system and target."""
    made = []
    for number, cohort in enumerate(COHORTS):
        for index, (system, phase) in enumerate(PAIRS):
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
                head = {"cohort": cohort, "system": system, "phase": phase, "target": target}
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


NETWORKS = {"one_step": ("classes",), "sequential": ("liver", "tumor"), "joint": ("nested",)}


def make_phase(system: str, network: str, name: str, seed: int = 0) -> dict[str, Any]:
    """Return the record of one phase of a network, as training.json holds it."""
    rng = np.random.default_rng(seed)
    epochs = 14 if name == "ce" else 4
    joint = system == "joint"
    targets = ("liver", "tumor") if network in ("classes", "nested") else (network,)
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
    classes = 3 if network == "classes" else 2
    weights = [1.0] * classes if name == "ce" else [0.4, 3.1, 17.0][:classes]
    by_target: Any = {"liver": weights, "tumor": weights[::-1]} if joint else weights
    rules = {"0.5": 0.5, "roc": 0.137, "iou": 0.42}
    record = {"system": system, "network": network, "phase": name}
    record |= {"status": "ok", "why": "", "note": ""}
    record |= {
        "epochs": epochs,
        "best_epoch": epochs - 1,
        "train_s": 11.5 * epochs,
        "parameters": layers()["parameters"] * (1 + joint),
        "peak_memory_mib": 1234.5 if name == "ce" else 1001.0,
    }
    if joint:
        record |= {"alpha": 1.0, "beta": 2.0, "mask": "probability", "start": "pair"}
    return record | {
        "class_weights": by_target,
        "thresholds": {t: dict(rules) for t in targets},
        "rows": history,
    }


def sweep() -> dict[str, Any]:
    """Return a sweep of five class weights: the first has the best rAUC, the last collapsed."""
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
    """Return (HU int16, label uint8) of a made-up axial slice."""
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
        name: [] for name in ("hu", "label", *SYSTEMS[: 2 + joint])
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
        "phase": "balanced",
    }
    head |= {"liver_window_hu": [-100, 400], "tumor_scaling": "window", "tumor_window_hu": [0, 200]}
    write(out / "examples.json", {**head, "examples": listed, "input": {"case": "8", "row": 41}})


def write(path: Path, content: Any) -> None:
    """Write JSON."""
    path.write_text(json.dumps(content), encoding="utf-8")


def write_lesions(out: Path, failures: Failures, seed: int = 0) -> None:
    """Write lesions.csv: eight lesions a case, the larger the better found, and one false."""
    rng = np.random.default_rng(seed)
    with (out / "lesions.csv").open("w", newline="", encoding="utf-8") as file:
        names = [
            "cohort",
            "case",
            "patient",
            "system",
            "phase",
            "kind",
            "diameter_mm",
            "voxels",
            "touched",
            "iou",
        ]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for cohort in ("test", "external"):
            for system, phase in PAIRS:
                if (system, phase) in failures:
                    continue
                row = {"cohort": cohort, "case": 1, "patient": 1, "system": system, "phase": phase}
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


def make_lits() -> list[dict[str, Any]]:
    """Return LiTS figures of test and external, in both modes; one test case has no liver."""
    entries = []
    for cohort, left_out in (("test", ["7"]), ("external", [])):
        for index, (system, phase) in enumerate(PAIRS):
            for mode in ("official", "corrected"):
                head = {"cohort": cohort, "system": system, "phase": phase, "rule": "roc"}
                figures = {name: value + 0.01 * index for name, value in LITS.items()}
                count = {"n_cases": COHORTS[cohort][1] - len(left_out), "left_out": left_out}
                entries.append({**head, "mode": mode, **count, "figures": figures})
    return entries


def describe_system(system: str, phase: str, index: int, why: str) -> dict[str, Any]:
    """Return the entry of a system in summary.json."""
    fits = [make_phase(system, network, phase) for network in NETWORKS[system]]
    parameters = sum(fit["parameters"] for fit in fits)
    return {
        "system": system,
        "phase": phase,
        "title": system.replace("_", "-"),
        "kind": system,
        "document": "Gruber et al.",
        "table1": True,
        "settings": {},
        "status": "failed" if why else "ok",
        "why": why,
        "note": "",
        "targets": [] if why else ["liver", "tumor"],
        "begins": "random",
        "trained_with": "360 slices",
        "parameters": parameters,
        "predicting_parameters": parameters,
        "epochs": {
            network: [fit["best_epoch"], fit["epochs"]]
            for network, fit in zip(NETWORKS[system], fits, strict=True)
        },
        "train_s": sum(fit["train_s"] for fit in fits),
        "peak_memory_mib": max(fit["peak_memory_mib"] for fit in fits),
        "trained_on": TRAINED_ON,
        "postprocess": ["fill_holes"],
        "ms_per_slice": 10.0 + index,
        "predict_peak_memory_mib": 300.0 + index,
    }


TRAINED_ON = {
    "git_commit": "1" * 40,
    "processor": "made up",
    "cores": 2,
    "keras_backend": "tensorflow",
}
ENVIRONMENT = {
    "python": "3.11",
    "packages": {"numpy": "2.4"},
    "keras_backend": "tensorflow",
    "git_commit": "0" * 40,
    "system": "Linux",
    "processor": "made up",
    "cores": 2,
}


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
        failures: {(system, phase): why it collapsed}.
        external: whether there is an external cohort.
        synthetic: whether the main cohort is a phantom; the external one is.
        size: of the slices, in pixels.
        joint: whether the joint model was trained.
    """
    failures = failures or {}
    out.mkdir(parents=True)
    trained = [pair for pair in PAIRS if joint or pair[0] != "joint"]
    scored = {pair for pair in trained if pair not in failures}

    def is_kept(entry: dict[str, Any]) -> bool:
        is_external = entry["cohort"] == "external"
        return (entry["system"], entry["phase"]) in scored and (external or not is_external)

    data: dict[str, Any] = {"cohort": "phantom" if synthetic else "LiTS", "synthetic": synthetic}
    data |= {"size": size, "split_sha256": "ab" * 32, "split_rule": "by patient"}
    for name, (slices, cases) in [("train", (360, 20)), *list(COHORTS.items())[:2]]:
        data |= {f"{name}_slices": slices, f"{name}_cases": cases}
    external_data = {"cohort": "phantom-external", "synthetic": True, "slices": 80, "cases": 8}
    data["external"] = external_data if external else None
    summary = {"schema": 2, "preset": "demo", "seed": seed, "data": data}
    summary["systems"] = [
        describe_system(*pair, index, failures.get(pair, ""))
        for index, pair in enumerate(PAIRS)
        if pair in trained
    ]
    summary |= {"lits": [entry for entry in make_lits() if is_kept(entry)]}
    summary |= {"environment": ENVIRONMENT, "trained_on": [TRAINED_ON]}
    summary |= {"timing_s": {"evaluate": 12.0}}
    write(out / "summary.json", summary)
    (out / "store").mkdir()
    split = {"schema": 1, "slices": {}, "sha256": data["split_sha256"]}
    write(out / "store" / "split.json", split)
    entries = [entry for entry in curves(seed) if is_kept(entry)]
    write(out / "curves.json", {"schema": 2, "curves": entries})
    systems = dict.fromkeys(system for system, _ in trained)
    phases = [
        make_phase(system, network, phase, seed)
        for system in systems
        for network in NETWORKS[system]
        for phase in PHASES
    ]
    training: dict[str, Any] = {"schema": 2, "preset": "demo", "seed": seed, "synthetic": synthetic}
    training["settings"] = {"dropout": 0.5, "liver_window_hu": [-100, 400]}
    training |= {"phases": phases, "sweep": sweep()}
    trial = {"window": 0.51, "liver_median": 0.49}
    training["scaling"] = {"epochs": 3, "validation_iou": trial, "chosen": "window"}
    parts = {"liver": layers(), "tumor": layers()}
    training["architectures"] = {
        "one_step": {"classes": layers(classes=3)},
        "sequential": parts,
    }
    if joint:
        nested = {"parameters": 2 * layers()["parameters"], "parts": parts}
        training["architectures"]["joint"] = {"nested": nested}
    write(out / "training.json", training)
    rows = [row for row in make_scores(seed, size) if is_kept(vars(row))]
    write_table(out / "scores.csv", make_table(rows))
    absent = {pair: "not trained" for pair in PAIRS if pair not in scored}
    write_lesions(out, absent)
    write_examples(out, size, synthetic, joint)
    return out
