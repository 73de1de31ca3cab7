"""A made-up viewer.npz of the made-up results of `fake_out`, with known errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.evaluation.fake_out import damaged, fake_slice

SIZE = 64
ROWS = {"volume-7": [10, 11, 14, 15, 16], "volume-9": [40, 41, 42]}
WRONG = [0, 9, 2, 30, 3]
"""Wrong tumor pixels of the sequential model in the first case; 2 are allowed at 64 px."""


def write_viewer(out: Path, joint: bool = False, **change: Any) -> dict[str, np.ndarray]:
    """Write OUT/viewer.npz and return its arrays.

    Args:
        out: a folder of `fake_out`.
        joint: with labels of the joint model, whose tumors are those of the reference, moved to
            the other side.
        **change: entries that `about` has instead.
    """
    slices = [fake_slice(SIZE, seed) for seed in range(8)]
    hu = np.stack([hu for hu, _ in slices])
    arrays = {"hu": np.clip(hu, -1024, 3071), "label": np.stack([label for _, label in slices])}
    arrays["hu"][:, 0, :4] = [-1024, 3071, -1, 0]
    arrays["one_step"] = np.stack([damaged(label, 3) for label in arrays["label"]])
    arrays["sequential"] = arrays["label"].copy()
    for index, wrong in enumerate(WRONG):
        liver = np.argwhere(arrays["label"][index] == 1)[:wrong]
        arrays["sequential"][index][tuple(liver.T)] = 2
    if joint:
        arrays["joint"] = np.stack([damaged(label, -4) for label in arrays["label"]])
    cases = [
        {
            "case": name,
            "kind": kind,
            "rows": rows,
            "n_slices": 60,
            "tumor_iou": iou,
            "pixel_mm": [6.0, 6.0],
        }
        for (name, rows), kind, iou in zip(
            ROWS.items(), ("best", "worst"), (0.8, 0.25), strict=True
        )
    ]
    about = {
        "schema": 2,
        "preset": "demo",
        "seed": 0,
        "split_sha256": "ab" * 32,
        "cohort": "phantom",
        "synthetic": True,
    }
    phases = {"one_step": "ce", "sequential": "balanced"} | ({"joint": "balanced"} if joint else {})
    about |= {"size": SIZE, "rule": "roc", "phase": phases, "left_out": []}
    about |= {"ranked_by": "sequential", "n_ranked": 2, "n_test_cases": 4, "cases": cases, **change}
    np.savez_compressed(out / "viewer.npz", about=np.array(json.dumps(about)), **arrays)
    return arrays
