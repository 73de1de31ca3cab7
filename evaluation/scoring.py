"""Score a trained system: from probabilities and label maps to score rows.

Paper 3.2 pools the pixels of the split's slices. Beyond it, cases are scored as volumes, by lesion,
by the figures of LiTS and after each post-processing option. Another document's system has no
thresholds: label maps of whole cases are scored.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from data.command import InputError
from data.environment import read_peak_memory, reset_peak_memory
from data.inputs import take_slices, target_of
from data.progress import track
from data.store import Store
from evaluation.metrics.counts import Counts, partition_rand_index
from evaluation.metrics.curves import describe_curves
from evaluation.metrics.lesion_recall import list_lesions
from evaluation.metrics.lesions import LESION
from evaluation.metrics.lits import MODES, CaseFigures, pool_cases
from evaluation.metrics.lits import score_case as score_lits
from evaluation.metrics.regions import find_box, number_components
from evaluation.metrics.roc import ProbabilityHistogram
from evaluation.metrics.surfaces import measure_distances
from evaluation.names import ARGMAX, SLICE, SLICES, TARGETS, UNSEEN, WHOLE
from evaluation.postprocess import (
    CHOSEN,
    NONE,
    CaseMaps,
    OptionCounts,
    Spacing,
    choose_options,
    count_options,
)
from evaluation.score_table import DISTANCES, MAIN_RULE, ScoreRow
from evaluation.segmenter import THRESHOLDS, Segmenter
from models.sequential import find_most_probable

Cohorts = Mapping[str, Store]
"""The store of each cohort by its name: "validation", "test", "external"."""


def read_spacing(store: Store, case: str) -> Spacing:
    """Return the spacing in mm of the store's padded and resampled slices."""
    entry = store.cases[case]
    slice_mm, row_mm, column_mm = entry["spacing_mm"]
    factor = max(entry["native_shape"]) / store.size
    return slice_mm, row_mm * factor, column_mm * factor


@dataclass(frozen=True)
class VolumeScores:
    """A target of a case, scored as a volume.

    Attributes:
        counts: of its voxels.
        voxel_ml: volume of one.
        distances: in mm, by the names of `DISTANCES`; None where a mask is empty or the spacing is
            nominal.
        components_rand_index: Rand index of the connected regions (paper 3.2.2).
    """

    counts: Counts
    voxel_ml: float
    distances: dict[str, float | None]
    components_rand_index: float


def score_volumes(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Spacing,
    nominal_spacing: bool = False,
) -> dict[str, VolumeScores]:
    """Score a case's label map as volumes.

    Args:
        prediction, reference: (n_slices, rows, columns), 0 other, 1 liver, 2 tumor.
        spacing_mm: of each axis.
        nominal_spacing: the header lacks the scanner's spacing; no distances.

    Returns:
        Scores by target; liver includes tumor (`evaluation.metrics.counts`: empty masks).
    """
    scores = {}
    for target in TARGETS:
        predicted, given = target_of(prediction, target) > 0, target_of(reference, target) > 0
        distances = None if nominal_spacing else measure_distances(predicted, given, spacing_mm)
        scores[target] = VolumeScores(
            Counts.of(predicted, given),
            float(np.prod(spacing_mm)) / 1000,
            {
                name: None if distances is None else round(getattr(distances, name), 4)
                for name in DISTANCES
            },
            score_components(predicted, given),
        )
    return scores


def score_components(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Return the Rand index of two bool masks' connected regions (paper 3.2.2).

    Merged or split regions lower it much, a shifted outline little.
    """
    box = find_box(prediction | reference)
    if box is None:
        return 1.0
    inside = number_components(prediction[box])
    n_outside = prediction.size - inside.size
    return partition_rand_index(inside, number_components(reference[box]), outside=n_outside)


@dataclass
class CaseScores:
    """Scores of a case, of a system that decides by thresholds.

    Attributes:
        case, rows: slices that were scored.
        histograms: of the probabilities, by target.
        argmax: counts of the most probable of three classes, by target.
        slices: counts of each row by target, at `MAIN_RULE`.
        n_predicted: slices predicted.
        predict_s: seconds of the networks, inputs included.
        volumes: the case as a volume by target, at `MAIN_RULE`. As all below, empty unless every
            slice was predicted.
        lesions: rows of `evaluation.metrics.lesion_recall`, at the same rule.
        lits: LiTS figures by mode, at the same rule; none without a reference liver.
        options: counts after each post-processing option, at the same rule.
    """

    case: str
    rows: list[int]
    histograms: dict[str, ProbabilityHistogram] = field(
        default_factory=lambda: {target: ProbabilityHistogram() for target in TARGETS}
    )
    argmax: dict[str, Counts] = field(
        default_factory=lambda: {target: Counts() for target in TARGETS}
    )
    slices: dict[str, list[Counts]] = field(
        default_factory=lambda: {target: [] for target in TARGETS}
    )
    n_predicted: int = 0
    predict_s: float = 0.0
    volumes: dict[str, VolumeScores] = field(default_factory=dict)
    lesions: list[dict[str, Any]] = field(default_factory=list)
    lits: dict[str, CaseFigures] = field(default_factory=dict)
    options: OptionCounts = field(default_factory=dict)

    def count(self, target: str, rule: str, threshold: float | None) -> Counts:
        """Return the counts of the scored slices under a rule.

        Args:
            target: "liver" or "tumor".
            rule: its name.
            threshold: None for the most probable class.
        """
        return (
            self.argmax[target] if threshold is None else self.histograms[target].counts(threshold)
        )


def score_case(
    segmenter: Segmenter,
    store: Store,
    case: str,
    rows: Sequence[int],
    whole: bool = False,
    chosen: Iterable[str] | None = None,
    maps_folder: Path | None = None,
    nominal_spacing: bool = False,
) -> CaseScores:
    """Predict slices of a case and score them against the labels.

    Args:
        segmenter: system that decides by thresholds.
        store, case, rows: the case, and the slices of Table 1.
        whole: predict every slice, for volumes and post-processing.
        chosen: post-processing chosen on validation data; None: not yet known.
        maps_folder: for the label map of a whole case, read by `read_maps`.
        nominal_spacing: leave distances out.

    Raises:
        InputError: a probability is NaN.
    """
    image, label = store.image(case), store.label(case)
    scores = CaseScores(case, sorted(rows))
    is_scored, predicted = set(rows), list(range(len(image))) if whole else scores.rows
    thresholds = {target: segmenter.get_thresholds(target)[MAIN_RULE] for target in TARGETS}
    if whole:
        predictions = segmenter.predict_case(take_slices(image))
    else:
        predictions = segmenter.predict(take_slices(image), take_slices(image, predicted))
    # Slice by slice, so that no probability of the case need be held.
    labels, livers = np.zeros(label.shape, np.uint8), np.zeros(label.shape, bool)
    for row in predicted:
        started = time.perf_counter()
        probabilities = next(predictions)
        scores.predict_s += time.perf_counter() - started
        segmenter.check_numbers(f"{case}, slice {row}", *probabilities)
        labels[row], livers[row] = segmenter.decide(probabilities, MAIN_RULE)
        if row in is_scored:
            by_target = dict(zip(TARGETS, probabilities, strict=True))
            _add_slice(scores, segmenter, np.asarray(label[row]), by_target, thresholds)
    scores.n_predicted = len(predicted)
    if whole:
        reference, spacing_mm = np.asarray(label), read_spacing(store, case)
        scores.volumes = score_volumes(labels, reference, spacing_mm, nominal_spacing)
        voxel_mm3 = float(np.prod(spacing_mm))
        lesions = list_lesions(labels == LESION, reference == LESION, voxel_mm3)
        scores.lesions = [asdict(lesion) for lesion in lesions]
        maps = CaseMaps(labels, livers, np.asarray(image), reference, spacing_mm, scores.rows)
        scores.options = count_options(maps, chosen)
        if maps_folder is not None:
            np.savez(maps_folder / f"{case}.npz", labels=labels, liver=livers)
        if reference.any():
            scores.lits = {mode: score_lits(labels, reference, spacing_mm, mode) for mode in MODES}
    return scores


def _add_slice(
    scores: CaseScores,
    segmenter: Segmenter,
    label: np.ndarray,
    probabilities: dict[str, np.ndarray],
    thresholds: dict[str, float],
) -> None:
    """Add a slice's pixels to the histograms and counts of its case."""
    has_classes = ARGMAX in segmenter.list_rules(TARGETS[0])
    classes = find_most_probable(*probabilities.values()) if has_classes else None
    for target, probability in probabilities.items():
        truth = target_of(label, target) > 0
        scores.histograms[target].add(probability, truth)
        scores.slices[target].append(Counts.of(probability > thresholds[target], truth))
        if classes is not None:
            scores.argmax[target] += Counts.of(target_of(classes, target) > 0, truth)


def read_maps(store: Store, cases: Sequence[CaseScores], folder: Path) -> Iterator[CaseMaps]:
    """Yield what `score_case` kept of whole cases, one at a time.

    Args:
        store, cases: which cases.
        folder: of their label maps.
    """
    for scores in cases:
        case = scores.case
        with np.load(folder / f"{case}.npz") as arrays:
            labels, liver = arrays["labels"], arrays["liver"]
        image, reference = np.asarray(store.image(case)), np.asarray(store.label(case))
        yield CaseMaps(labels, liver, image, reference, read_spacing(store, case), scores.rows)


@dataclass
class SystemScores:
    """The scores of a system.

    Attributes:
        rows, curves: of the score table, of curves.json.
        lesions: of lesions.csv: every lesion, and what was drawn where none is.
        lits: the 24 LiTS figures of each unseen cohort, in each mode.
        postprocess: options chosen on validation data.
        gaps: why a cohort has no scores.
        ms_per_slice, predict_peak_memory_mib: time and largest host memory of prediction; None if
            no whole case was predicted.
    """

    rows: list[ScoreRow] = field(default_factory=list)
    lesions: list[dict[str, Any]] = field(default_factory=list)
    lits: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    postprocess: tuple[str, ...] = ()
    gaps: dict[str, str] = field(default_factory=dict)
    ms_per_slice: float | None = None
    predict_peak_memory_mib: float | None = None


@dataclass(frozen=True)
class Scorer:
    """Scores one system.

    Attributes:
        segmenter, seed: the trained system and the seed of its training.
        nominal_spacing: whether distances are left out.
        fold: of a cross-validation; 0 where there is none.
    """

    segmenter: Segmenter
    seed: int
    nominal_spacing: bool = False
    fold: int = 0

    def score(self, cohorts: Cohorts) -> SystemScores:
        """Score the system on all cohorts.

        By thresholds: pooled pixels, curves, volumes, lesions, post-processing. Otherwise the label
        maps of the whole cases of `UNSEEN`.
        """
        scores = SystemScores()
        scores.predict_peak_memory_mib = measure_memory(self.segmenter, cohorts["test"])
        if self.segmenter.decision == THRESHOLDS:
            self._score_probabilities(cohorts, scores)
        else:
            self._score_label_maps(cohorts, scores)
        return scores

    def score_slices(self, cohorts: Cohorts) -> SystemScores:
        """Score the split's slices alone, at `MAIN_RULE`, for a point of a sweep."""
        scores = SystemScores()
        for cohort, store in cohorts.items():
            for case in self._score_cases(store, cohort):
                scores.rows += self._list_slices(store, cohort, case, (MAIN_RULE,))
        return scores

    def _score_cases(self, store: Store, cohort: str, **how: Any) -> Iterator[CaseScores]:
        """Yield the scores of each case of a cohort; `how` as for `score_case`."""
        rows_of: dict[str, list[int]] = {}
        for case, row in store.slices(cohort):
            rows_of.setdefault(case, []).append(row)
        if not rows_of:
            raise InputError(f"{store.path}: no slice in its {cohort} set")
        for case, rows in track(rows_of.items(), f"{self.segmenter.name}, {cohort}"):
            yield score_case(self.segmenter, store, case, rows, **how)

    def _score_probabilities(self, cohorts: Cohorts, scores: SystemScores) -> None:
        """Add the scores of a system that decides by thresholds."""
        chosen: tuple[str, ...] | None = None
        timed: list[CaseScores] = []
        for cohort, store in cohorts.items():  # validation comes first: it alone chooses
            # Other slices of a test case trained the run where the split is by slice.
            whole = store.split.get("by") != "slice"
            choosing = cohort == "validation" and whole
            with tempfile.TemporaryDirectory() as folder:
                how = {"whole": whole, "chosen": chosen, "nominal_spacing": self.nominal_spacing}
                how["maps_folder"] = Path(folder) if choosing else None
                cases = list(self._score_cases(store, cohort, **how))
                if choosing:
                    maps = partial(read_maps, store, cases, Path(folder))
                    chosen = choose_options([case.options for case in cases], maps)
            timed += [case for case in cases if case.volumes]
            self._add_cohort(scores, store, cohort, cases, chosen or ())
        scores.postprocess = chosen or ()
        n_slices = sum(case.n_predicted for case in timed)
        if n_slices:
            seconds = sum(case.predict_s for case in timed)
            scores.ms_per_slice = round(1000 * seconds / n_slices, 2)

    def _add_cohort(
        self,
        scores: SystemScores,
        store: Store,
        cohort: str,
        cases: Sequence[CaseScores],
        chosen: Sequence[str],
    ) -> None:
        """Add the scores of a cohort's cases."""
        for case in cases:
            scores.rows += self._list_case(store, cohort, case, chosen)
            if cohort in UNSEEN:
                place = {"cohort": cohort, "case": case.case, "patient": store.patient(case.case)}
                scores.lesions += [
                    {**place, **self._name_system(), **lesion} for lesion in case.lesions
                ]
        if cohort in UNSEEN:
            scores.lits += self._list_lits(cohort, cases)
        for target in TARGETS:
            pooled = sum((case.histograms[target] for case in cases), ProbabilityHistogram())
            curves = describe_curves(pooled, self.segmenter.get_thresholds(target))
            scores.curves.append(
                {"cohort": cohort, **self._name_system(), "target": target, **curves}
            )

    def _score_label_maps(self, cohorts: Cohorts, scores: SystemScores) -> None:
        """Add the scores of a system that decides by its own rule, on whole unseen cases."""
        seconds, n_slices = 0.0, 0
        for cohort in [cohort for cohort in UNSEEN if cohort in cohorts]:
            store = cohorts[cohort]
            if gap := find_short_case(self.segmenter, store, cohort):
                scores.gaps[cohort] = gap
                continue
            for rows, predict_s in self.score_whole_cases(store, cohort):
                scores.rows += rows
                seconds, n_slices = seconds + predict_s, n_slices + rows[0].n_slices
        scores.ms_per_slice = round(1000 * seconds / n_slices, 2) if n_slices else None

    def score_whole_cases(
        self, store: Store, cohort: str
    ) -> Iterator[tuple[list[ScoreRow], float]]:
        """Yield each case's rows by its label map, and the seconds it took."""
        for case in track(store.cases_of(cohort), f"{self.segmenter.name}, {cohort}"):
            image, reference = np.asarray(store.image(case)), np.asarray(store.label(case))
            started = time.perf_counter()
            labels, _ = self.segmenter.label_case(image)
            seconds = time.perf_counter() - started
            volumes = score_volumes(
                labels, reference, read_spacing(store, case), self.nominal_spacing
            )
            yield list(self._list_volumes(store, cohort, case, volumes, len(labels))), seconds

    def _name_system(self) -> dict[str, str]:
        return {"system": self.segmenter.system, "phase": self.segmenter.phase}

    def _make_row(
        self,
        store: Store,
        cohort: str,
        case: str,
        target: str,
        rule: str,
        counts: Counts,
        **values: Any,
    ) -> ScoreRow:
        return ScoreRow(
            seed=self.seed,
            fold=self.fold,
            cohort=cohort,
            case=case,
            patient=store.patient(case),
            target=target,
            system=self.segmenter.system,
            phase=self.segmenter.phase,
            rule=rule,
            threshold=self.segmenter.list_rules(target)[rule],
            **asdict(counts),
            **values,
        )

    def _list_slices(
        self, store: Store, cohort: str, case: CaseScores, rules: Iterable[str]
    ) -> Iterator[ScoreRow]:
        """Yield the rows of Table 1's slices of a case, by target and rule."""
        unit = {"unit": SLICES, "n_slices": len(case.rows)}
        for target, rule in product(TARGETS, rules):
            counts = case.count(target, rule, self.segmenter.list_rules(target)[rule])
            yield self._make_row(store, cohort, case.case, target, rule, counts, **unit)

    def _list_case(
        self, store: Store, cohort: str, case: CaseScores, chosen: Sequence[str]
    ) -> Iterator[ScoreRow]:
        """Yield all rows of a case: slices, post-processing, each slice, volumes."""
        make_row = partial(self._make_row, store, cohort, case.case)
        yield from self._list_slices(store, cohort, case, self.segmenter.list_rules(TARGETS[0]))
        names = {CHOSEN: "+".join(chosen) or NONE}
        for option, by_target in case.options.items():
            how = {"postprocess": names.get(option, option), "chosen": option == CHOSEN}
            how |= {"unit": SLICES, "n_slices": len(case.rows)}
            for target, counts in by_target.items():
                yield make_row(target, MAIN_RULE, counts, **how)
        if cohort in UNSEEN:
            for target in TARGETS:
                for row, counts in zip(case.rows, case.slices[target], strict=True):
                    how = {"unit": SLICE, "slice": row, "n_slices": 1}
                    yield make_row(target, MAIN_RULE, counts, **how)
            yield from self._list_volumes(store, cohort, case.case, case.volumes, case.n_predicted)

    def _list_volumes(
        self,
        store: Store,
        cohort: str,
        case: str,
        volumes: Mapping[str, VolumeScores],
        n_slices: int,
    ) -> Iterator[ScoreRow]:
        """Yield the rows of a case as a volume, for the targets that are a result."""
        for target, scored in volumes.items():
            if target in self.segmenter.targets:
                values: dict[str, Any] = {**scored.distances, "voxel_ml": scored.voxel_ml}
                values["components_rand_index"] = scored.components_rand_index
                how = {"unit": WHOLE, "n_slices": n_slices, **values}
                rule = self.segmenter.rule
                yield self._make_row(store, cohort, case, target, rule, scored.counts, **how)

    def _list_lits(self, cohort: str, cases: Sequence[CaseScores]) -> list[dict[str, Any]]:
        """Return a cohort's 24 LiTS figures in each mode, of cases with a liver."""
        scored = {case.case: case.lits for case in cases if case.lits}
        entry: dict[str, Any] = {"cohort": cohort, **self._name_system(), "rule": MAIN_RULE}
        left_out = [case.case for case in cases if case.case not in scored]
        entry |= {"n_cases": len(scored), "left_out": left_out}
        return [
            {
                **entry,
                "mode": mode,
                "figures": pool_cases([figures[mode] for figures in scored.values()]),
            }
            for mode in MODES
            if scored
        ]


def find_short_case(segmenter: Segmenter, store: Store, cohort: str) -> str:
    """Return a case with fewer slices than the system's 3D window; "" for none.

    Args:
        segmenter, store, cohort: the system, and where to look.
    """
    depth = segmenter.about.settings.get("depth", 0)
    for case in store.cases_of(cohort):
        n_slices = store.cases[case]["n_slices"]
        if n_slices < depth:
            return f"{cohort}: {case} has {n_slices} slices, the 3D window takes {depth}"
    return ""


def measure_memory(segmenter: Segmenter, store: Store) -> float:
    """Predict the first test case; return the largest host memory meanwhile, in MiB.

    Loaded networks are in it. Compilation falls here, out of the time of scored cases.
    """
    case = store.cases_of("test")[0]
    image = store.image(case)
    if segmenter.decision == THRESHOLDS:
        for _ in segmenter.predict(take_slices(image, [0]), take_slices(image, [0])):
            pass
        reset_peak_memory()
        for _ in segmenter.predict_case(take_slices(image)):
            pass
    elif len(image) >= segmenter.about.settings.get("depth", 0):
        reset_peak_memory()
        segmenter.label_case(np.asarray(image))
    return read_peak_memory()
