"""Record example slices and whole test cases of the systems of Table 1.

`evaluation.evaluate` records both:

examples.json, .npz   the best, median and worst test slice by tumor IoU, and one slice as both
                      networks of the sequential system see it
viewer.npz            what the report's slice viewer shows:
    about             JSON as text: preset, seed, split, rule, phase of each system, cases, rows
    hu                int16 (n, size, size), HU as the store holds them, all cases one after another
    label             uint8 (n, size, size), the reference: 0 other, 1 liver, 2 tumor
    <system>          uint8 (n, size, size), its labels at rule `roc`; absent without a result

Of a store of real patients these files, and the report made from them, hold patients' images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.files import replace_file, write_json
from data.inputs import Liver, make_input, read_slices, take_slices
from data.runs import read_run
from data.store import Store
from evaluation.names import PHASES, SLICE, SLICES, SYSTEMS
from evaluation.results import SCHEMA
from evaluation.score_table import MAIN_RULE, add_metrics, select, sum_counts
from evaluation.segmenter import Segmenter, load_segmenter
from models.sequential import mask_liver

Row = dict[str, Any]

RANKED_BY = ("sequential", "one_step", "joint")
"""The first of these that has scores ranks the cases, as in the overlays."""
MOST_PIXELS = 2**25  # 128 slices of 512 px, 2048 of 128 px: a page of about 50 MB


# --- Examples: three slices, and a network's input ---


def write_examples(run: Path, store: Store, scores: pd.DataFrame, out: Path) -> None:
    """Write OUT/examples.json and examples.npz from the scores of each test slice.

    Test slices with tumor are ranked by the tumor IoU of the sequential system (else one-step)
    after the last scored phase. Without such a slice or system nothing is written.

    Args:
        run, store, out: as in `evaluation.evaluate`.
        scores: of the systems of Table 1.
    """
    for name in ("examples.json", "examples.npz"):  # of an earlier evaluation
        (out / name).unlink(missing_ok=True)
    slices = select(scores, unit=SLICE, cohort="test", target="tumor")
    phase = next((phase for phase in reversed(PHASES) if (slices["phase"] == phase).any()), None)
    slices = add_metrics(select(slices, phase=phase), ["iou"])
    ranked = rank_slices(slices, "sequential")
    ranked = ranked if len(ranked) else rank_slices(slices, "one_step")
    if not len(ranked):
        print("examples: no test slice with tumor was scored")
        return
    ranks = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    chosen = {kind: ranked.iloc[rank] for kind, rank in ranks.items()}
    places = [(str(row["case"]), int(row["slice"])) for row in chosen.values()]
    names = list(dict.fromkeys([*SYSTEMS, *slices["system"]]))
    arrays: dict[str, np.ndarray] = {
        "hu": np.stack([store.image(case)[row] for case, row in places]),
        "label": np.stack([store.label(case)[row] for case, row in places]),
    }
    content: Row = {
        "schema": SCHEMA,
        "synthetic": store.synthetic,
        "cohort": store.cohort,
        "rule": MAIN_RULE,
        "phase": phase,
        "examples": [
            {
                "kind": kind,
                "case": case,
                "row": row,
                "tumor_iou": {name: find_iou(slices, name, case, row) for name in names},
            }
            for kind, (case, row) in zip(chosen, places, strict=True)
        ],
    }
    for name in names:
        if (slices["system"] == name).any():
            segmenter = _load(run, name, phase)
            maps = [label_slices(segmenter, store, case, [row])[0] for case, row in places]
            arrays[name] = np.stack(maps)
            if name == "sequential":
                largest = ranked.loc[(ranked["tp"] + ranked["fn"]).idxmax()]
                place = str(largest["case"]), int(largest["slice"])
                arrays |= record_inputs(segmenter, store, *place)
                content |= {"input": {"case": place[0], "row": place[1]}}
                content |= _describe_inputs(segmenter)
        else:
            arrays[name] = np.zeros_like(arrays["label"])
    _write_arrays(out / "examples.npz", arrays)
    write_json(out / "examples.json", content)


def rank_slices(slices: pd.DataFrame, system: str) -> pd.DataFrame:
    """Return one phase's slices with tumor, by falling "iou" of a system."""
    rows = select(slices, system=system)
    with_tumor = rows[rows["tp"] + rows["fn"] > 0]
    return with_tumor.sort_values("iou", ascending=False, kind="stable")


def find_iou(slices: pd.DataFrame, system: str, case: str, row: int) -> float | None:
    """Return a system's tumor IoU on a slice; None where it was not scored.

    Args:
        slices: rows of one phase, with the column "iou".
        system: its name.
        case, row: the slice.
    """
    rows = select(slices, system=system, case=case, slice=row)
    return float(rows["iou"].iloc[0]) if len(rows) else None


def record_inputs(segmenter: Segmenter, store: Store, case: str, row: int) -> dict[str, np.ndarray]:
    """Return a slice as a pair's networks see it: X, M, M * w(X), HU, labels.

    Args:
        segmenter: the sequential system.
        store: with the case.
        case, row: the slice.
    """
    image = store.image(case)
    slices = take_slices(image, [row])
    options = {network: segmenter.read_options(network) for network in ("liver", "tumor")}
    hu = {network: read_slices(image, row, options[network]) for network in options}
    probabilities = next(segmenter.predict(take_slices(image), slices))
    mask = mask_liver(probabilities[0], segmenter.mask_threshold)
    liver = Liver(mask, segmenter.find_median(take_slices(image)))
    return {
        "input_hu": np.asarray(image[row], np.float32),
        "input_liver": make_input(hu["liver"], options["liver"]),
        "input_mask": mask.astype(np.uint8),
        "input_tumor": make_input(hu["tumor"], options["tumor"], liver),
        "input_label": np.asarray(store.label(case)[row]),
        "input_sequential": segmenter.decide(probabilities, MAIN_RULE)[0],
    }


def _describe_inputs(segmenter: Segmenter) -> Row:
    liver, tumor = segmenter.read_options("liver"), segmenter.read_options("tumor")
    windows = {"liver_window_hu": liver["window_hu"], "tumor_window_hu": tumor["window_hu"]}
    return {**windows, "tumor_scaling": tumor.get("scaling")}


# --- The viewer: whole test cases ---


def write_viewer(run: Path, store: Store, scores: pd.DataFrame, out: Path, count: int) -> None:
    """Write OUT/viewer.npz; without a system to show, none is left there.

    Args:
        run, store, out: as in `evaluation.evaluate`.
        scores: of the systems of Table 1. Validation scores choose each system's phase, test scores
            rank cases.
        count: cases to record at most.
    """
    path = out / "viewer.npz"
    rows = select(scores, unit=SLICES, postprocess="", target="tumor", rule=MAIN_RULE)
    names = dict.fromkeys([*SYSTEMS, *rows["system"]])
    phases = {name: phase for name in names if (phase := choose_better_phase(rows, name))}
    order = [*RANKED_BY, *(name for name in phases if name not in RANKED_BY)]
    ranked_by = next((name for name in order if name in phases), "")
    ranked = rank_cases(rows, ranked_by, phases[ranked_by]) if phases else rows.iloc[:0]
    if not len(ranked):
        path.unlink(missing_ok=True)  # of an earlier evaluation
        print("viewer: no system was scored, so no case is recorded")
        return
    content = read_run(run)
    about = {
        "schema": SCHEMA,
        "preset": content["preset"],
        "seed": content["seed"],
        "split_sha256": store.split["sha256"],
        "cohort": store.cohort,
        "synthetic": store.synthetic,
        "size": store.size,
        "rule": MAIN_RULE,
        "phase": phases,
        "ranked_by": ranked_by,
        **choose_cases(store, ranked, count),
    }
    arrays = {"about": np.array(json.dumps(about))}
    _write_arrays(path, {**arrays, **record_cases(run, store, phases, about["cases"])})
    print(f"viewer: {', '.join(str(case['case']) for case in about['cases'])} recorded")


def choose_better_phase(rows: pd.DataFrame, system: str) -> str | None:
    """Return the phase of a system with the higher validation IoU of tumors.

    `rows` are of tumors at `MAIN_RULE`, unit "slices". Of equals the first; None without scores.
    """
    groups = select(rows, cohort="validation", system=system).groupby("phase", sort=False)
    scores = {
        str(phase): float(add_metrics(_pool(group), ["iou"])["iou"].iloc[0])
        for phase, group in groups
    }
    order = sorted(scores, key=lambda phase: (phase not in PHASES, phase != PHASES[0]))
    return max(order, key=lambda phase: scores[phase], default=None)


def _pool(rows: pd.DataFrame) -> pd.DataFrame:
    counts = sum_counts(rows)
    return pd.DataFrame(
        [[counts.tp, counts.fp, counts.fn, counts.tn]], columns=["tp", "fp", "fn", "tn"]
    )


def rank_cases(rows: pd.DataFrame, system: str, phase: str) -> pd.DataFrame:
    """Return test cases with tumor, by falling tumor IoU; all if none has tumor.

    Args:
        rows: of tumors at `MAIN_RULE`, unit "slices".
        system, phase: what ranks them.
    """
    cases = add_metrics(select(rows, cohort="test", system=system, phase=phase), ["iou"])
    with_tumor = cases[cases["tp"] + cases["fn"] > 0]
    ranked = with_tumor if len(with_tumor) else cases
    return ranked.sort_values("iou", ascending=False, kind="stable")


def choose_cases(store: Store, ranked: pd.DataFrame, count: int) -> Row:
    """Return which cases are shown.

    Args:
        store: with the cases.
        ranked: rows, the best case first.
        count: cases at most.

    Returns:
        {"n_test_cases", "n_ranked", "left_out": cases that `MOST_PIXELS` has no room for, "cases":
        see `describe_case`}.
    """
    names, scores = list(ranked["case"]), list(ranked["iou"])
    rows_of = {name: [row for case, row in store.slices("test") if case == name] for name in names}
    ranks = spread_ranks(len(names), count)
    pixels = [len(rows_of[name]) * store.size**2 for name in names]
    fitting = fit_ranks(ranks, pixels, MOST_PIXELS)
    return {
        "n_test_cases": len(store.cases_of("test")),
        "n_ranked": len(names),
        "left_out": [names[rank] for rank in ranks if rank not in fitting],
        "cases": [
            {
                **describe_case(store, names[rank], rows_of[names[rank]]),
                "kind": name_rank(rank, len(names)),
                "tumor_iou": float(scores[rank]),
            }
            for rank in fitting
        ],
    }


def spread_ranks(n: int, count: int) -> list[int]:
    """Return up to `count` evenly spread ranks of 0 ... n - 1; one is the median.

    >>> spread_ranks(9, 3), spread_ranks(9, 1), spread_ranks(2, 3)
    ([0, 4, 8], [4], [0, 1])
    """
    if n <= count:
        return list(range(n))
    if count == 1:
        return [n // 2]
    return sorted({int(step * (n - 1) / (count - 1) + 0.5) for step in range(count)})


def fit_ranks(ranks: Sequence[int], pixels: Sequence[int], most: int) -> list[int]:
    """Return ranks whose cases fit together: the middle always, then worst, best.

    Args:
        ranks: in rising order.
        pixels: of every case, by rank.
        most: pixels of all slices that fit.
    """
    middle = len(ranks) // 2
    order = dict.fromkeys([ranks[middle], ranks[-1], ranks[0], *ranks])
    fitting: list[int] = []
    for rank in order:
        if not fitting or sum(pixels[index] for index in [*fitting, rank]) <= most:
            fitting.append(rank)
    return sorted(fitting)


def name_rank(rank: int, n: int) -> str:
    """Name a rank of `n`: "best", "median", "worst", "rank 2 of 9" or "only"."""
    if n == 1:
        return "only"
    return {n // 2: "median", n - 1: "worst", 0: "best"}.get(rank, f"rank {rank + 1} of {n}")


def describe_case(store: Store, case: str, rows: list[int]) -> Row:
    """Return what is said of a case's volume.

    Args:
        store, case: the case.
        rows: slices that are shown.

    Returns:
        {"case", "rows", "n_slices" of the volume, "pixel_mm": [row, column] of the store's slices}.
    """
    entry = store.cases[case]
    side = max(entry["native_shape"])  # slices are padded to a square
    pixel_mm = [spacing * side / store.size for spacing in entry["spacing_mm"][1:]]
    return {"case": case, "rows": rows, "n_slices": entry["n_slices"], "pixel_mm": pixel_mm}


def record_cases(
    run: Path, store: Store, phases: dict[str, str], cases: Sequence[Row]
) -> dict[str, np.ndarray]:
    """Return the arrays of viewer.npz: HU, reference and the labels of every system.

    Args:
        run, store: run directory, store with the cases.
        phases: to load, by system.
        cases: entries of `choose_cases`.
    """
    places = [(case["case"], case["rows"]) for case in cases]
    hu = np.concatenate([store.image(case)[rows] for case, rows in places])
    label = np.concatenate([store.label(case)[rows] for case, rows in places])
    arrays: dict[str, np.ndarray] = {"hu": hu.astype(np.int16), "label": label.astype(np.uint8)}
    for name, phase in phases.items():
        segmenter = _load(run, name, phase)
        maps = [label_slices(segmenter, store, case, rows) for case, rows in places]
        arrays[name] = np.concatenate(maps)
    return arrays


def label_slices(segmenter: Segmenter, store: Store, case: str, rows: Sequence[int]) -> np.ndarray:
    """Return labels of a case's slices at `MAIN_RULE`, uint8 (slices, rows, columns).

    Args:
        segmenter: decides by thresholds.
        store, case: the case.
        rows: which slices.
    """
    image = store.image(case)
    by_slice = segmenter.predict(take_slices(image), take_slices(image, rows))
    return np.stack([segmenter.decide(probabilities, MAIN_RULE)[0] for probabilities in by_slice])


def _load(run: Path, name: str, phase: str | None) -> Segmenter:
    from data.backend import keras

    keras.backend.clear_session()
    return load_segmenter(run, name, phase)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replace_file(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]  # not allow_pickle
