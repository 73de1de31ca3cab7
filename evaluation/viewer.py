"""Record what the report's slice viewer shows: whole test cases with the reference and the models' labels.

    python -m evaluation.viewer --run DIR --store DIR --out DIR [--cases N]

`evaluation.evaluate` records three cases; the command is for results that have none yet, or for other numbers of
cases. It reads OUT/summary.json and cases.csv and writes OUT/viewer.npz:

about                   JSON as text: preset, seed, split, threshold rule, phase of each model, cases with their rows
hu                      int16 (n, size, size), HU as the store holds them, the slices of all cases one after another
label                   uint8 (n, size, size), the reference: 0 other, 1 liver, 2 tumor
one_step, sequential, joint
                        uint8 (n, size, size), the model's labels at threshold rule `roc`; absent without a result

Of a store of real patients the file, and the report made from it, holds patients' images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.backend import keras
from data.command import InputError, Parser, run_command
from data.files import replace_file
from data.store import Store
from evaluation.names import LOSSES, MODELS
from evaluation.results import read_results
from evaluation.scoring import SLICE_RULE
from evaluation.systems import System, load_system, read_run, slices_of
from models.sequential import label_map

Row = dict[str, Any]

SCHEMA = 1
CASES, MOST_CASES = 3, 5
RANKED_BY = ("sequential", "one_step", "joint")
"""The first of these that has scores ranks the cases, as in the overlays."""
MOST_PIXELS = 2**25  # 128 slices of 512 px, 2048 of 128 px: a page of about 50 MB


def main() -> None:
    """Record the cases of a run that `evaluation.evaluate` has scored into OUT."""
    parser = Parser(
        prog="evaluation.viewer", description="Record cases for the report's slice viewer."
    )
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        help="run directory of the training scripts",
    )
    parser.add_argument(
        "--store",
        type=Path,
        required=True,
        metavar="DIR",
        help="slice store the run was trained on",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder that evaluation.evaluate wrote",
    )
    parser.add_argument(
        "--cases",
        type=_count,
        default=CASES,
        metavar="N",
        help=f"1 to {MOST_CASES}, default {CASES}",
    )
    arguments = parser.parse_args()
    run, store, results = arguments.run, Store.open(arguments.store), read_results(arguments.out)
    content = read_run(run)
    if store.sha256 != content["store_sha256"]:
        raise InputError(
            f"{store.path}: not the store that {run} was trained on; its test set may not be one"
        )
    if identity(content, store) != identity_of(results.summary):
        raise InputError(f"{arguments.out}: holds the results of another run than {run}")
    write_viewer(run, store, results.rows, results.cases, arguments.out, arguments.cases)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_CASES:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1 to {MOST_CASES}, got {text!r}"
        )
    return int(text)


def identity(run: Row, store: Store) -> Row:
    """Return what a recording and the results must share: {"preset", "seed", "split_sha256"}."""
    return {"preset": run["preset"], "seed": run["seed"], "split_sha256": store.split["sha256"]}


def identity_of(summary: Row) -> Row:
    """Return the same from the content of `summary.json`."""
    data = summary["data"]
    return {
        "preset": summary["preset"],
        "seed": summary["seed"],
        "split_sha256": data["split_sha256"],
    }


def write_viewer(
    run: Path,
    store: Store,
    rows: Sequence[Row],
    cases: Sequence[Row],
    out: Path,
    count: int = CASES,
) -> None:
    """Write OUT/viewer.npz from the scores of the test set; without a model to show, none is left there.

    Args:
        run, store: as given to `evaluation.evaluate`.
        rows: of `summary.json`: the validation scores say which phase of a model is shown.
        cases: of `cases.csv` (values may be text): the test scores rank the cases.
        out: where it goes.
        count: cases to record at most.
    """
    path = out / "viewer.npz"
    losses = {model: loss for model in MODELS if (loss := better_phase(rows, model))}
    ranked_by = next((model for model in RANKED_BY if model in losses), "")
    ranked = rank_cases(cases, ranked_by, losses[ranked_by]) if losses else []
    if not ranked:
        path.unlink(missing_ok=True)  # of an earlier evaluation
        print("viewer: no model was scored, so no case is recorded")
        return
    about = {
        "schema": SCHEMA,
        **identity(read_run(run), store),
        "cohort": store.cohort,
        "synthetic": store.synthetic,
        "size": store.size,
        "rule": SLICE_RULE,
        "loss": losses,
        "ranked_by": ranked_by,
        **choose_cases(store, ranked, count),
    }
    arrays = {"about": np.array(json.dumps(about)), **record(run, store, losses, about["cases"])}
    with replace_file(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]  # mypy takes them for allow_pickle
    print(f"viewer: {', '.join(str(case['case']) for case in about['cases'])} recorded")


def better_phase(rows: Sequence[Row], model: str) -> str | None:
    """Return the phase of a model with the higher validation IoU of tumors (rule roc); None: it has no scores."""
    found = {
        row["loss"]: row["iou"] or 0.0
        for row in rows
        if (row["cohort"], row["model"], row["target"], row["threshold_rule"])
        == ("validation", model, "tumor", SLICE_RULE)
    }
    return max(
        (loss for loss in LOSSES if loss in found), key=lambda loss: found[loss], default=None
    )


def rank_cases(cases: Sequence[Row], model: str, loss: str) -> list[Row]:
    """Return the rows of the test cases that hold tumor, by falling tumor IoU (rule roc).

    Where none holds tumor, those of all test cases.
    """
    wanted = ("test", "tumor", model, loss, SLICE_RULE)
    keys = ("cohort", "target", "model", "loss", "threshold_rule")
    mine = [row for row in cases if tuple(row[key] for key in keys) == wanted]
    held = [row for row in mine if int(row["tp"]) + int(row["fn"]) > 0]
    return sorted(held or mine, key=lambda row: -float(row["iou"]))


def choose_cases(store: Store, ranked: Sequence[Row], count: int) -> Row:
    """Return which cases are shown.

    Args:
        store: the store with the cases.
        ranked: rows of `cases.csv` from the best case to the worst.
        count: cases at most.

    Returns:
        {"n_test_cases", "n_ranked", "left_out": cases that `MOST_PIXELS` has no room for, "cases": see `describe`}.
    """
    names = [row["case"] for row in ranked]
    rows_of = {name: [row for case, row in store.slices("test") if case == name] for name in names}
    ranks = choose(len(names), count)
    kept = fitting(ranks, [len(rows_of[name]) * store.size**2 for name in names], MOST_PIXELS)
    return {
        "n_test_cases": len(store.cases_of("test")),
        "n_ranked": len(names),
        "left_out": [names[rank] for rank in ranks if rank not in kept],
        "cases": [
            describe(store, ranked[rank], rows_of[names[rank]], kind_of(rank, len(names)))
            for rank in kept
        ],
    }


def choose(n: int, count: int) -> list[int]:
    """Return up to `count` ranks of 0 ... n - 1, evenly spaced from best to worst; a single one is the median.

    >>> choose(9, 3), choose(9, 1), choose(2, 3)
    ([0, 4, 8], [4], [0, 1])
    """
    if n <= count:
        return list(range(n))
    if count == 1:
        return [n // 2]
    return sorted({int(step * (n - 1) / (count - 1) + 0.5) for step in range(count)})


def fitting(ranks: Sequence[int], pixels: Sequence[int], most: int) -> list[int]:
    """Return the ranks whose cases fit into `most` pixels together: the middle one always, then worst and best.

    Args:
        ranks: in rising order.
        pixels: of every case, by rank.
        most: pixels of all slices kept.
    """
    middle = len(ranks) // 2
    order = dict.fromkeys([ranks[middle], ranks[-1], ranks[0], *ranks])
    kept: list[int] = []
    for rank in order:
        if not kept or sum(pixels[other] for other in [*kept, rank]) <= most:
            kept.append(rank)
    return sorted(kept)


def kind_of(rank: int, n: int) -> str:
    """Say in words which case of `n` it is by tumor IoU: "best", "median", "worst", "rank 2 of 9" or "only"."""
    if n == 1:
        return "only"
    return {n // 2: "median", n - 1: "worst", 0: "best"}.get(rank, f"rank {rank + 1} of {n}")


def describe(store: Store, ranked: Row, rows: list[int], kind: str) -> Row:
    """Return the entry of a case in `about`.

    Returns:
        {"case", "kind", "rows": slice indices from the feet up, "n_slices" of the volume, "tumor_iou" that it was
        ranked by, "pixel_mm": [row, column] of the store's slices}.
    """
    entry = store.cases[ranked["case"]]
    side = max(entry["native_shape"])  # slices are padded to a square
    pixel_mm = [spacing * side / store.size for spacing in entry["spacing_mm"][1:]]
    about = {"case": ranked["case"], "kind": kind, "rows": rows, "n_slices": entry["n_slices"]}
    return {**about, "tumor_iou": float(ranked["iou"]), "pixel_mm": pixel_mm}


def record(
    run: Path, store: Store, losses: dict[str, str], cases: Sequence[Row]
) -> dict[str, np.ndarray]:
    """Return the arrays of viewer.npz: HU, reference and the labels of every model in `losses`.

    Args:
        run: run directory.
        store: the store with the cases.
        losses: the phase to load, by model.
        cases: entries of `choose_cases`.
    """
    places = [(case["case"], case["rows"]) for case in cases]
    arrays: dict[str, np.ndarray] = {
        "hu": np.concatenate([store.image(case)[rows] for case, rows in places]).astype(np.int16),
        "label": np.concatenate([store.label(case)[rows] for case, rows in places]).astype(
            np.uint8
        ),
    }
    for model, loss in losses.items():
        keras.backend.clear_session()
        system = load_system(run, model, loss)
        arrays[model] = np.concatenate(
            [labels_of(system, store, case, rows) for case, rows in places]
        )
    return arrays


def labels_of(system: System, store: Store, case: str, rows: Sequence[int]) -> np.ndarray:
    """Return the label maps 0/1/2 of slices of a case at `SLICE_RULE`, uint8 (slices, rows, columns)."""
    image = store.image(case)
    thresholds = [system.thresholds(target)[SLICE_RULE] for target in ("liver", "tumor")]
    found = system.probabilities(slices_of(image), slices_of(image, rows))
    return np.stack([label_map(liver, tumor, *thresholds) for liver, tumor in found])


if __name__ == "__main__":
    run_command(main, "evaluation.viewer")
