"""From probabilities to scores: per case, per slice and pooled over a cohort (paper 3.2, Table 1)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.batches import target_of
from data.store import Store
from evaluation.metrics.calibration import measure_reliability
from evaluation.metrics.counts import Counts, compute_scores
from evaluation.metrics.lesion_recall import list_lesions
from evaluation.metrics.lesions import LESION
from evaluation.metrics.lits import MODES, CaseFigures, pool_cases
from evaluation.metrics.lits import score_case as lits_figures
from evaluation.metrics.roc import LOWEST_DRAWN_FPR, ProbabilityHistogram, reduce_curve
from evaluation.names import ARGMAX, TARGETS
from evaluation.postprocess_scores import CaseMaps, OptionCounts, option_counts, option_rows
from evaluation.systems import System, check_numbers, slices_of
from evaluation.whole_cases import spacing_of, whole_case_rows
from models.sequential import label_map, mask_liver

SLICE_RULE = "roc"


@dataclass
class CaseScores:
    """What is kept of one case: its probabilities as histograms, the argmax counts, counts per slice.

    Attributes:
        case, rows: which slices were scored.
        histograms: by target.
        argmax: counts of the one-step model's most probable class, by target.
        slices: counts of each row by target, at the system's threshold of `SLICE_RULE`.
        whole: whether every slice was predicted, too; without it there are no volumes, lesions and LiTS figures.
        volumes: rows of `evaluation.whole_cases`, at the same threshold.
        lesions: rows of `evaluation.metrics.lesion_recall`, at the same threshold.
        lits: the case's part of the LiTS figures by mode, same threshold; none where the reference holds no liver.
        options: counts after each post-processing option (`evaluation.postprocess`), same threshold.
        predict_s: seconds that the networks took, scaling included, for `n_predicted` slices.
    """

    case: str
    rows: list[int]
    histograms: dict[str, ProbabilityHistogram] = field(
        default_factory=lambda: {target: ProbabilityHistogram() for target in TARGETS}
    )
    argmax: dict[str, Counts] = field(
        default_factory=lambda: {target: Counts(0, 0, 0, 0) for target in TARGETS}
    )
    slices: dict[str, list[Counts]] = field(
        default_factory=lambda: {target: [] for target in TARGETS}
    )
    whole: bool = False
    volumes: list[dict[str, Any]] = field(default_factory=list)
    lesions: list[dict[str, Any]] = field(default_factory=list)
    lits: dict[str, CaseFigures] = field(default_factory=dict)
    options: OptionCounts = field(default_factory=dict)
    predict_s: float = 0.0
    n_predicted: int = 0


def score_case(
    system: System,
    store: Store,
    case: str,
    rows: Sequence[int],
    whole: bool = False,
    chosen: Iterable[str] | None = None,
    keep: Path | None = None,
) -> CaseScores:
    """Predict the slices `rows` of a case and score them against the labels.

    Args:
        system: the trained model.
        store, case: the case.
        rows: the slices that Table 1 is about.
        whole: predict every slice, for the scores of the case as a volume and for post-processing.
        chosen: the post-processing that validation data chose; None: not known yet.
        keep: folder for the label map of a whole case, which `kept_maps` reads again.

    Raises:
        InputError: a probability is NaN.
    """
    image, label = store.image(case), store.label(case)
    kept = CaseScores(case, sorted(rows), whole=whole)
    scored, wanted = set(rows), list(range(len(image))) if whole else kept.rows
    thresholds = {target: system.thresholds(target)[SLICE_RULE] for target in TARGETS}
    if whole:
        predictions = system.of_whole_case(slices_of(image))
    else:
        predictions = system.probabilities(slices_of(image), slices_of(image, wanted))
    found, livers = np.zeros(label.shape, np.uint8), np.zeros(label.shape, bool)
    for row in wanted:
        started = time.perf_counter()
        liver, tumor = next(predictions)
        kept.predict_s += time.perf_counter() - started
        check_numbers(system.name, f"{case}, slice {row}", liver, tumor)
        found[row] = label_map(liver, tumor, thresholds["liver"], thresholds["tumor"])
        livers[row] = mask_liver(liver, thresholds["liver"])
        if row in scored:
            _add_slice(
                kept, system, np.asarray(label[row]), {"liver": liver, "tumor": tumor}, thresholds
            )
    kept.n_predicted = len(wanted)
    if whole:
        given, spacing_mm = np.asarray(label), spacing_of(store, case)
        kept.volumes = whole_case_rows(found, given, spacing_mm)
        lesions = list_lesions(found == LESION, given == LESION, float(np.prod(spacing_mm)))
        kept.lesions = [asdict(lesion) for lesion in lesions]
        maps = CaseMaps(found, livers, np.asarray(image), given, spacing_mm, kept.rows)
        kept.options = option_counts(maps, chosen)
        if keep is not None:
            np.savez(keep / f"{case}.npz", labels=found, liver=livers)
        if given.any():
            kept.lits = {mode: lits_figures(found, given, spacing_mm, mode) for mode in MODES}
    return kept


def _add_slice(
    kept: CaseScores,
    system: System,
    label: np.ndarray,
    probabilities: dict[str, np.ndarray],
    thresholds: dict[str, float],
) -> None:
    """Add a slice's pixels to the histograms and counts of its case."""
    classes = (
        most_probable(probabilities["liver"], probabilities["tumor"])
        if system.model == "one_step"
        else None
    )
    for target, probability in probabilities.items():
        truth = target_of(label, target) > 0
        kept.histograms[target].add(probability, truth)
        kept.slices[target].append(Counts.of(probability > thresholds[target], truth))
        if classes is not None:
            kept.argmax[target] += Counts.of(target_of(classes, target) > 0, truth)


def most_probable(liver: np.ndarray, tumor: np.ndarray) -> np.ndarray:
    """Return the label 0/1/2 of the most probable of other, liver and tumor, int64 (rows, columns).

    Args:
        liver: probability of liver or tumor; tumor: probability of tumor; both (rows, columns).
    """
    return np.argmax(np.stack([1 - liver, liver - tumor, tumor]), axis=0)


def score_cohort(
    system: System,
    store: Store,
    set_name: str,
    whole: bool = False,
    chosen: Iterable[str] | None = None,
    keep: Path | None = None,
) -> Iterator[CaseScores]:
    """Score every slice of a set of the store's split, case by case; `whole`, `chosen`, `keep` as for `score_case`."""
    for case in store.cases_of(set_name):
        rows = [row for other, row in store.slices(set_name) if other == case]
        if rows:
            yield score_case(system, store, case, rows, whole, chosen, keep)


def kept_maps(store: Store, cases: Sequence[CaseScores], folder: Path) -> Iterator[CaseMaps]:
    """Yield what `score_case` kept of whole cases in `folder`, one at a time."""
    for case in cases:
        with np.load(folder / f"{case.case}.npz") as maps:
            arrays = maps["labels"], maps["liver"], np.asarray(store.image(case.case))
        yield CaseMaps(
            *arrays, np.asarray(store.label(case.case)), spacing_of(store, case.case), case.rows
        )


def pooled_histogram(cases: Sequence[CaseScores], target: str) -> ProbabilityHistogram:
    """Return the histogram of all pixels of the cases."""
    return sum((case.histograms[target] for case in cases), ProbabilityHistogram())


def threshold_rules(system: System, target: str) -> dict[str, float | None]:
    """Return the thresholds by rule in the order of the table; argmax (one-step only) has none."""
    first: dict[str, float | None] = {ARGMAX: None} if system.model == "one_step" else {}
    return {**first, **system.thresholds(target)}


def counts_at(
    cases: Sequence[CaseScores], target: str, rule: str, threshold: float | None
) -> Counts:
    """Return the counts of all pixels of the cases under a threshold rule."""
    if threshold is None:
        return sum((case.argmax[target] for case in cases), Counts(0, 0, 0, 0))
    return pooled_histogram(cases, target).counts(threshold)


def table_rows(system: System, cohort: str, cases: Sequence[CaseScores]) -> list[dict[str, Any]]:
    """Return the rows of Table 1 for one system and cohort; scores are pooled over all pixels."""
    rows = []
    for target in TARGETS:
        pooled = pooled_histogram(cases, target)
        areas = {"auc": pooled.auc(), "rauc": pooled.rauc()}
        for rule, threshold in threshold_rules(system, target).items():
            rows.append(
                {
                    "cohort": cohort,
                    "model": system.model,
                    "loss": system.loss,
                    "target": target,
                    "threshold_rule": rule,
                    "threshold": threshold,
                    "n_cases": len(cases),
                    "n_slices": sum(len(case.rows) for case in cases),
                    **compute_scores(counts_at(cases, target, rule, threshold)),
                    **areas,
                }
            )
    return rows


def case_rows(
    system: System, store: Store, cohort: str, cases: Sequence[CaseScores]
) -> list[dict[str, Any]]:
    """Return the rows of `cases.csv`: counts and scores per case, target and threshold rule."""
    rows = []
    for case in cases:
        for target in TARGETS:
            for rule, threshold in threshold_rules(system, target).items():
                counts = counts_at([case], target, rule, threshold)
                rows.append(
                    {
                        "cohort": cohort,
                        "case": case.case,
                        "patient": store.patient(case.case),
                        **_what(system, target, rule, threshold),
                        "n_slices": len(case.rows),
                        **_cells(counts),
                        **compute_scores(counts),
                    }
                )
    return rows


def slice_rows(system: System, cohort: str, cases: Sequence[CaseScores]) -> list[dict[str, Any]]:
    """Return the rows of `slices.csv`: counts and IoU per slice and target at `SLICE_RULE`."""
    rows = []
    for case in cases:
        for target in TARGETS:
            what = _what(system, target, SLICE_RULE, system.thresholds(target)[SLICE_RULE])
            for row, counts in zip(case.rows, case.slices[target], strict=True):
                place = {"cohort": cohort, "case": case.case, "row": row}
                rows.append(
                    {**place, **what, **_cells(counts), "iou": compute_scores(counts)["iou"]}
                )
    return rows


def lesion_table(
    system: System, store: Store, cohort: str, cases: Sequence[CaseScores]
) -> list[dict[str, Any]]:
    """Return the rows of `lesions.csv`: every lesion of every case, and what was drawn where none is."""
    return [
        {
            "cohort": cohort,
            "case": case.case,
            "patient": store.patient(case.case),
            "model": system.model,
        }
        | {"loss": system.loss, **lesion}
        for case in cases
        for lesion in case.lesions
    ]


def whole_case_table(
    system: System, store: Store, cohort: str, cases: Sequence[CaseScores]
) -> list[dict[str, Any]]:
    """Return the rows of `whole_cases.csv`: liver and tumor of every case as volumes."""
    return [
        {
            "cohort": cohort,
            "case": case.case,
            "patient": store.patient(case.case),
            "model": system.model,
        }
        | {"loss": system.loss, "threshold_rule": SLICE_RULE, "n_slices": case.n_predicted, **row}
        for case in cases
        for row in case.volumes
    ]


def option_table(
    system: System, store: Store, cohort: str, cases: Sequence[CaseScores], chosen: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows of `postprocess.csv`: every case after every option."""
    rows = []
    for case in cases:
        head = {"cohort": cohort, "case": case.case, "patient": store.patient(case.case)}
        head |= {"model": system.model, "loss": system.loss}
        rows += option_rows(head, case.options, chosen)
    return rows


def lits_rows(system: System, cohort: str, cases: Sequence[CaseScores]) -> list[dict[str, Any]]:
    """Return the 24 LiTS figures of a cohort in each mode; a case whose reference holds no liver is left out."""
    scored = {case.case: case.lits for case in cases if case.lits}
    left_out = [case.case for case in cases if case.case not in scored]
    head: dict[str, Any] = {
        "cohort": cohort,
        "model": system.model,
        "loss": system.loss,
        "threshold_rule": SLICE_RULE,
    }
    head |= {"n_cases": len(scored), "left_out": left_out}
    return [
        {**head, "mode": mode, "figures": pool_cases([lits[mode] for lits in scored.values()])}
        for mode in MODES
        if scored
    ]


def curve(
    system: System, cohort: str, target: str, histogram: ProbabilityHistogram
) -> dict[str, Any]:
    """Return the ROC curves of a cohort, full and restricted to (0.01, 0.99), with the frozen thresholds on them.

    Both are thinned for drawing; `auc` and `rauc` are not. A curve is None where the cohort, or the range, has no
    pixel inside or none outside the reference.
    """
    inside = histogram.inside(0.01, 0.99)
    restricted = None if histogram.rauc() is None else reduce_curve(histogram.roc(0.01, 0.99))
    full = (
        None
        if histogram.auc() is None
        else reduce_curve(histogram.roc(), lowest_fpr=LOWEST_DRAWN_FPR)
    )
    return {
        "cohort": cohort,
        "model": system.model,
        "loss": system.loss,
        "target": target,
        "auc": histogram.auc(),
        "rauc": histogram.rauc(),
        **_calibration(histogram, inside),
        "n_positive": int(histogram.positive.sum()),
        "n_negative": int(histogram.negative.sum()),
        "n_restricted_positive": int(inside.positive.sum()),
        "n_restricted_negative": int(inside.negative.sum()),
        "full": full
        and {"fpr": _list(full.false_positive_rate), "tpr": _list(full.true_positive_rate)},
        "restricted": restricted
        and {
            "fpr": _list(restricted.false_positive_rate),
            "tpr": _list(restricted.true_positive_rate),
            "threshold": _list(restricted.threshold),
        },
        "thresholds": system.thresholds(target),
        "points": {
            rule: _point(histogram, inside, threshold)
            for rule, threshold in system.thresholds(target).items()
        },
    }


def _calibration(histogram: ProbabilityHistogram, inside: ProbabilityHistogram) -> dict[str, Any]:
    found = measure_reliability(histogram)
    drawn = {"n_pixels": found.n_pixels.tolist()}
    for name in ("predicted", "observed"):
        values = getattr(found, name)
        drawn[name] = [
            float(value) if n else None for n, value in zip(found.n_pixels, values, strict=True)
        ]
    return {
        "reliability": drawn,
        "ece": found.ece,
        "ece_restricted": measure_reliability(inside).ece,
    }


def _point(
    histogram: ProbabilityHistogram, inside: ProbabilityHistogram, threshold: float
) -> dict[str, float | None]:
    fpr, tpr = _rates(histogram.counts(threshold))
    within = 0.01 <= threshold <= 0.99
    restricted_fpr, restricted_tpr = _rates(inside.counts(threshold)) if within else (None, None)
    return {
        "fpr": fpr,
        "tpr": tpr,
        "restricted_fpr": restricted_fpr,
        "restricted_tpr": restricted_tpr,
    }


def _rates(counts: Counts) -> tuple[float | None, float | None]:
    negative, positive = counts.fp + counts.tn, counts.tp + counts.fn
    return counts.fp / negative if negative else None, counts.tp / positive if positive else None


def _list(values: np.ndarray) -> list[float]:
    return [float(f"{value:.7g}") for value in np.nan_to_num(values, posinf=1.0)]


def _what(system: System, target: str, rule: str, threshold: float | None) -> dict[str, Any]:
    return {
        "model": system.model,
        "loss": system.loss,
        "target": target,
        "threshold_rule": rule,
        "threshold": threshold,
    }


def _cells(counts: Counts) -> dict[str, int]:
    return {"tp": counts.tp, "fp": counts.fp, "fn": counts.fn, "tn": counts.tn}
