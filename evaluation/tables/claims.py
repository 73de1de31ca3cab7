"""The claims of the paper's text (Gruber et al.), tested on a run's scores.

A claim is a function that yields its parts for a cohort; `CLAIMS` names it, its words and its
measure. It gets a verdict per cohort, with both sides' numbers. Without a score, or with a
collapsed system, it is "not tested", unless it is contradicted already. So it is where it would
hold only because a network finds tumors no better than marking the whole liver (`BLIND_MARGIN`).
The paper's own numbers (its Table 1) are not available.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.metrics.counts import METRICS, Counts, iou, pixel_accuracy, rand_index, sensitivity
from evaluation.metrics.statistics import LEAST_PATIENTS, Comparison, Score, bound_score, compare
from evaluation.names import COHORTS, NAMES, PAPER_SYSTEMS, PHASES, SLICES, spell_system
from evaluation.results import Results
from evaluation.score_table import HALF, MAIN_RULE, count_patients, select
from evaluation.tables.text import (
    COVERAGE,
    NO_PAPER_NUMBERS,
    is_known,
    make_head,
    make_markdown,
    write_bounds,
    write_count,
    write_score,
)

HOLDS, FAILS, UNTESTED = "holds", "does not hold", "not tested"

# Our readings of the paper's words; no number stands in its text.
CLOSE_TO_ONE = 0.9
MOST_PIXELS = 0.5
SMALL_WEIGHTS = 2
FEW_CASES = 10
BLIND_MARGIN = 1.1
"""A tumor IoU up to this times that of marking the whole liver comes from seeing nothing."""

CE, BALANCED = PHASES
PAIRS = [(system, phase) for system in PAPER_SYSTEMS for phase in PHASES]
NETWORKS = (("one_step", "classes"), ("sequential", "liver"), ("sequential", "tumor"))

Part = tuple[bool | None, str]
"""Of a claim: whether it holds (None: not tested), with its numbers in words."""
System = tuple[str, str]
"""System and phase."""


@dataclass(frozen=True)
class Evidence:
    """What a run recorded of a cohort, in numbers and words; rule roc by default."""

    results: Results
    cohort: str

    def find_score(
        self, metric: str, system: System, target: str = "tumor", rule: str = MAIN_RULE
    ) -> float | None:
        """Return one score of Table 1, or None where it is missing or undefined.

        Args:
            metric: a column of Table 1.
            system, target, rule: of the row.
        """
        key = {"cohort": self.cohort, "system": system[0], "phase": system[1]}
        row = self.results.find(target=target, rule=rule, **key)
        score: float | None = getattr(row, metric, None)
        return score if is_known(score) else None

    def find_patients(self, system: System, target: str = "tumor") -> dict[str, Counts]:
        """Return the counts of each patient; {} where there is none."""
        rows = select(self.results.scores, unit=SLICES, postprocess="", rule=MAIN_RULE)
        rows = select(rows, cohort=self.cohort, target=target)
        return count_patients(select(rows, system=system[0], phase=system[1]))

    def sum_patients(self, system: System, target: str = "tumor") -> Counts:
        """Return the counts of all patients; all 0 where there is none."""
        return sum(self.find_patients(system, target).values(), Counts())

    def write_spread(self, score: Score, system: System, of_reference: bool) -> str:
        """Write a liver score's interval by patient: ` (0.941 to 0.987)`; "": none.

        Args:
            score, of_reference: as for `evaluation.metrics.statistics.interval`.
            system: of the score.
        """
        patients = self.find_patients(system, "liver")
        if not patients:
            return ""
        bounds = write_bounds(bound_score(patients, score, of_reference=of_reference), before="")
        return f" ({bounds})" if bounds else ""

    def write_difference(self, score: Score, sides: Sequence[System], pixels: bool = False) -> str:
        """Say how sure a difference in tumors is, first less second; "" without one.

        Args:
            score: of all patients' counts together.
            sides: first and second system.
            pixels: the score is a number of pixels, not a share of the reference.
        """
        first, second = (self.find_patients(side) for side in sides)
        if not first or first.keys() != second.keys():
            return ""
        comparison = compare(first, second, score, of_reference=not pixels)
        return f", {write_test(comparison, '+,.0f' if pixels else '+.3f')}"

    def write_sureness(self, sides: Sequence[System], target: str, rule: str = MAIN_RULE) -> str:
        """Say how sure a difference in IoU is, first less second; "" without one.

        Args:
            sides: first and second system.
            target: of the scores.
            rule: of the second; the first has roc.
        """
        key = (self.cohort, target, (*sides[0], MAIN_RULE), (*sides[1], rule))
        for pair in self.results.comparisons:
            if (pair.cohort, pair.target, pair.first, pair.second) == key:
                return f", {write_test(pair.comparison)}"
        return ""

    def explain_absence(self, *systems: System) -> Part:
        """Return the part of a claim whose scores of these systems are missing."""
        whys = [self.results.failures.get(system) for system in systems]
        texts = [
            f"{spell_system(*system)}: " + (f"no result ({why})" if why else "no score")
            for system, why in zip(systems, whys, strict=True)
        ]
        return None, "; ".join(texts)

    def compare_with_blind(self) -> str:
        """Say what marking the whole liver would score, and which system is not above it."""
        blind = self.results.blind_tumor_iou.get(self.cohort)
        if blind is None:
            return ""
        scores = {name: self.find_score("iou", (name, BALANCED)) for name in PAPER_SYSTEMS}
        below = [NAMES[n] for n, score in scores.items() if score is not None and score <= blind]
        text = f"; marking the whole liver as tumor would give IoU {write_score(blind)}"
        return text + (f", {' and '.join(below)} is not above that" if below else "")

    def make_part(self, outcome: bool, text: str, system: System) -> Part:
        """Return the part of a claim; what would hold by a blind network is not tested.

        Args:
            outcome: whether the part holds.
            text: its numbers.
            system: its tumor IoU must lie above marking the whole liver.
        """
        blind = self.results.blind_tumor_iou.get(self.cohort)
        score = self.find_score("iou", system)
        if outcome and blind is not None and score is not None and score <= BLIND_MARGIN * blind:
            numbers = f"tumor IoU {write_score(score)}, whole liver {write_score(blind)}"
            return None, f"{text} [{spell_system(*system)} sees nothing: {numbers}]"
        return outcome, text

    def describe_sample(self) -> str:
        """Say how many cases and slices the scores stand on."""
        row = self.results.find(cohort=self.cohort)
        if row is None:
            return "n unknown"
        few = "; few cases" if row.n_cases < FEW_CASES else ""
        return f"n = {row.n_cases} cases, {row.n_slices} slices{few}"


def write_test(comparison: Comparison, form: str = "+.3f") -> str:
    """Write interval and test of a comparison by patient, bounds in that format."""
    difference = comparison.difference
    n, counted = difference.n_patients, difference.n_counted
    sample = f"n = {counted}"
    sample += "" if counted == n else f" of {n} patients with it in the reference"
    if difference.low is None:
        return f"no interval by patient, {sample}"
    words = f"95 % interval by patient {write_bounds(difference, form, '')}"
    if comparison.p_value is not None:
        words += f", Wilcoxon p = {comparison.p_value:.2g}"
        least = f" (least possible {comparison.least_p:.2g})"
        words += least if comparison.least_p > 0.05 else ""
    return f"{words}, {sample}"


# --- The claims: each yields its parts for a cohort. ---


def judge_liver(evidence: Evidence) -> Iterator[Part]:
    """Judge: liver scores are all close to 1 for both systems."""
    metrics: dict[str, Score] = {
        "pixel_accuracy": pixel_accuracy,
        "iou": iou,
        "rand_index": rand_index,
    }
    for system in PAIRS:
        scores = [evidence.find_score(name, system, "liver") for name in metrics]
        known = [score for score in scores if score is not None]
        if len(known) < len(scores):
            yield evidence.explain_absence(system)
            continue
        words = [
            f"{METRICS[name].title} {write_score(score)}"
            + evidence.write_spread(metric, system, of_reference=name == "iou")
            for (name, metric), score in zip(metrics.items(), known, strict=True)
        ]
        text = f"{spell_system(*system)}: {', '.join(words)}"
        yield all(score >= CLOSE_TO_ONE for score in known), text


def judge_sequential(evidence: Evidence) -> Iterator[Part]:
    """Judge: sequential outperforms one-step primarily on tumors."""
    first, second = sides = [(system, BALANCED) for system in PAPER_SYSTEMS]
    gains, texts = {}, []
    for target in ("tumor", "liver"):
        scores = {side: evidence.find_score("iou", side, target) for side in sides}
        if missing := [side for side, score in scores.items() if score is None]:
            yield evidence.explain_absence(*missing)
            return
        one_step, sequential = scores[first] or 0.0, scores[second] or 0.0
        gains[target] = sequential - one_step
        text = f"{target} IoU sequential {write_score(sequential)} - one-step "
        text += f"{write_score(one_step)} = {gains[target]:+.3f}"
        texts.append(text + evidence.write_sureness([second, first], target))
    outcome = gains["tumor"] > max(0.0, gains["liver"])
    yield evidence.make_part(outcome, "; ".join(texts) + evidence.compare_with_blind(), first)


def judge_balanced_best(evidence: Evidence) -> Iterator[Part]:
    """Judge: the balanced loss gives the best tumor IoU and Rand index."""
    for name in PAPER_SYSTEMS:
        before, after = (name, CE), (name, BALANCED)
        for metric in ("iou", "rand_index"):
            ce, balanced = (evidence.find_score(metric, side) for side in (before, after))
            if ce is None or balanced is None:
                yield evidence.explain_absence(before if ce is None else after)
                continue
            text = f"{NAMES[name]} {METRICS[metric].title} balanced {write_score(balanced)}, "
            text += f"cross-entropy {write_score(ce)} ({balanced - ce:+.4f})"
            text += evidence.write_sureness([after, before], "tumor") if metric == "iou" else ""
            yield evidence.make_part(balanced > ce, text, after)


def judge_balanced_detects(evidence: Evidence) -> Iterator[Part]:
    """Judge: the balanced loss helps to detect the lesion."""
    for name in PAPER_SYSTEMS:
        before, after = (name, CE), (name, BALANCED)
        ce, balanced = (evidence.sum_patients(side) for side in (before, after))
        if not (ce.tp + ce.fn and balanced.tp + balanced.fn):
            yield evidence.explain_absence(after if ce.tp + ce.fn else before)
            continue
        low, high = sensitivity(ce), sensitivity(balanced)
        text = f"{NAMES[name]} sensitivity balanced {write_score(high)}, "
        text += f"cross-entropy {write_score(low)} ({high - low:+.3f}"
        text += evidence.write_difference(sensitivity, [after, before])
        text += f"); false positive pixels {balanced.fp:,}, {ce.fp:,}"
        yield evidence.make_part(high > low, text, after)


def judge_roc_threshold(evidence: Evidence) -> Iterator[Part]:
    """Judge: the threshold found by ROC analysis improves the tumor result."""
    for system in PAIRS:
        roc, half = (evidence.find_score("iou", system, rule=rule) for rule in (MAIN_RULE, HALF))
        if roc is None or half is None:
            yield evidence.explain_absence(system)
            continue
        text = f"{spell_system(*system)}: {write_score(roc)} against {write_score(half)} at 0.5 "
        sure = evidence.write_sureness([system, system], "tumor", HALF)
        yield evidence.make_part(roc > half, f"{text}({roc - half:+.3f}{sure})", system)


def judge_decided(evidence: Evidence) -> Iterator[Part]:
    """Judge: most pixels have a tumor probability close to 0 or 1."""
    key = evidence.cohort, "tumor"
    curves = [c for c in evidence.results.curves if (c["cohort"], c["target"]) == key]
    by_system = {(curve["system"], curve["phase"]): curve for curve in curves}
    for system in PAIRS:
        curve = by_system.get(system)
        total = curve["n_positive"] + curve["n_negative"] if curve else 0
        if curve is None or not total:
            yield evidence.explain_absence(system)
            continue
        inside = curve["n_restricted_positive"] + curve["n_restricted_negative"]
        share = 1 - inside / total
        yield share > MOST_PIXELS, f"{spell_system(*system)}: {share:.2%} of {total:,} pixels"


def judge_small_weight(evidence: Evidence) -> Iterator[Part]:
    """Judge: the best rAUC comes with a very small value of the class weight."""
    sweep = evidence.results.training.get("sweep")
    if not sweep:
        yield None, "no sweep in this run"
        return
    points = sorted(sweep["points"], key=lambda point: point["ratio"])
    scored = [point for point in points if point["status"] == "ok" and point["rauc"] is not None]
    if len(scored) <= SMALL_WEIGHTS:
        yield None, f"only {len(scored)} of {len(points)} class weights gave an rAUC"
        return
    best = max(scored, key=lambda point: point["rauc"])
    listed = ", ".join(f"{point['ratio']:.3g}: {write_score(point['rauc'])}" for point in scored)
    limit = points[SMALL_WEIGHTS - 1]["ratio"]
    small = [point["rauc"] for point in scored if point["ratio"] <= limit]
    text = f"best at ratio {best['ratio']:.3g} (rAUC by ratio: {listed})"
    if best["rauc"] not in small and small:
        text += f", {best['rauc'] - max(small):.4f} above the best small one"
    n_failed = len(points) - len(scored)
    yield best["rauc"] in small, text + (f"; {n_failed} failed" if n_failed else "")


def count_wrong(counts: Counts) -> float:
    """Return the false positive and false negative pixels."""
    return float(counts.fp + counts.fn)


def judge_misclassification(evidence: Evidence) -> Iterator[Part]:
    """Judge: one-step is prone to misclassification, especially in tumors."""
    sides = [(system, BALANCED) for system in PAPER_SYSTEMS]
    tumors, livers = (
        [evidence.sum_patients(side, target) for side in sides] for target in ("tumor", "liver")
    )
    # A system without a tumor pixel, found or missed, was not scored.
    missing = [s for s, c in zip(sides, tumors, strict=True) if not c.tp + c.fp + c.fn]
    if missing:
        yield evidence.explain_absence(*missing)
        return
    wrong = [counts.fp + counts.fn for counts in tumors]
    texts = [
        f"{NAMES[side[0]]} {counts.fp + counts.fn:,} wrong tumor pixels "
        f"({counts.fp:,} false positive, {counts.fn:,} false negative)"
        for side, counts in zip(sides, tumors, strict=True)
    ]
    sure = evidence.write_difference(count_wrong, sides, pixels=True)
    texts.append(f"one-step less sequential {wrong[0] - wrong[1]:+,}{sure}")
    if all(counts.tp + counts.fp + counts.fn for counts in livers):
        texts.append("liver " + " against ".join(f"{c.fp + c.fn:,}" for c in livers))
    text = "; ".join(texts) + evidence.compare_with_blind()
    yield evidence.make_part(wrong[0] > wrong[1], text, sides[0])


def judge_speed(evidence: Evidence) -> Iterator[Part]:
    """Judge: the one-step model is fast."""
    known = {
        (phase["system"], phase["network"], phase["phase"]): phase
        for phase in evidence.results.training.get("phases", ())
        if phase["train_s"] is not None
    }
    keys = [(*network, phase) for network in NETWORKS for phase in PHASES]
    missing = [f"{s if s == 'one_step' else n} {p}" for s, n, p in keys if (s, n, p) not in known]
    if missing:
        yield None, f"no training time of {', '.join(missing)}"
        return
    seconds, texts = {}, []
    for name in PAPER_SYSTEMS:
        phases = [known[key] for key in keys if key[0] == name]
        seconds[name] = sum(phase["train_s"] for phase in phases)
        epochs = sum(phase["epochs"] or 0 for phase in phases)
        networks = write_count(len(phases) // len(PHASES), "network")
        each = f"{seconds[name] / max(epochs, 1):.1f} s an epoch"
        texts.append(
            f"{NAMES[name]}: {networks}, {seconds[name]:,.0f} s for {epochs} epochs ({each})"
        )
    yield seconds["one_step"] < seconds["sequential"], "; ".join(texts)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        find_parts: yields its parts for a cohort.
        title, words: a few words; section and words of the paper.
        measure: by what it is judged.
        where: "validation" or "training" where it is judged once; "": in each cohort.
    """

    find_parts: Callable[[Evidence], Iterable[Part]]
    title: str
    words: str
    measure: str
    where: str = ""

    def judge(self, results: Results) -> dict[str, dict[str, str]]:
        """Return {"verdict", "how_much"} by cohort, or by its one place."""
        if self.where:
            return {self.where: join_parts(self.find_parts(Evidence(results, self.where)))}
        judged = {}
        for cohort in COHORTS:
            evidence = Evidence(results, cohort)
            if cohort not in results.cohorts:
                judged[cohort] = join_parts([(None, "no such cohort in this run")])
                continue
            judged[cohort] = join_parts(self.find_parts(evidence))
            judged[cohort]["how_much"] += f" ({evidence.describe_sample()})"
        return judged


def join_parts(parts: Iterable[Part]) -> dict[str, str]:
    """Join a claim's parts: a contradiction refutes, a missing part leaves open."""
    parts = list(parts)
    outcomes = [outcome for outcome, _ in parts]
    verdict = FAILS if False in outcomes else UNTESTED if None in outcomes or not parts else HOLDS
    return {"verdict": verdict, "how_much": "; ".join(dict.fromkeys(text for _, text in parts))}


CLAIMS: dict[str, Claim] = {
    "liver_close_to_one": Claim(
        judge_liver,
        "Liver scores close to 1",
        "Section 3.2.2: the liver's pixel accuracy, IoU and Rand index 'have values very close to' "
        "a number lost from the text, taken as 1, for both models.",
        "Liver pixel accuracy / IoU / Rand index, threshold rule roc, both models and both losses: "
        f"each at least {CLOSE_TO_ONE} (our reading of 'very close'); one of the four below it "
        f"refutes. In brackets: 95 % interval by patient, from {LEAST_PATIENTS} patients on.",
    ),
    "sequential_better_on_tumors": Claim(
        judge_sequential,
        "Sequential better, mainly on tumors",
        "Section 3.2.2: 'the sequential approach outperforms the One-Step method primarily in the "
        "tumor segmentation task'.",
        "Balanced loss, rule roc: the gain in tumor IoU is above 0 and above the gain in liver "
        "IoU.",
    ),
    "balanced_loss_best": Claim(
        judge_balanced_best,
        "Balanced loss best on tumors",
        "Section 3.2.2: 'IoU and Rand Index performance score of the tumor segmentation show that "
        "the application of balanced loss [...] achieves the best results'; section 2.4 says so "
        "for both models.",
        "Rule roc: tumor IoU and tumor Rand index after the balanced phase are above those after "
        "cross-entropy, for each model. The balanced phase follows the cross-entropy phase, as in "
        "the paper.",
    ),
    "balanced_loss_detects": Claim(
        judge_balanced_detects,
        "Balanced loss detects the lesion",
        "Section 2.4: the balanced loss 'proved very useful in detecting the lesion for both "
        "methods'.",
        "Rule roc: the share of tumor pixels found (sensitivity, all cases pooled) after the "
        "balanced phase is above that after cross-entropy, for each model. False positive pixels "
        "beside it.",
    ),
    "roc_threshold_improves": Claim(
        judge_roc_threshold,
        "ROC threshold improves the tumor result",
        "Section 3.2.1: 'We further calculated the corresponding threshold and could achieve an "
        "improvement of the tumor segmentation results'.",
        "Tumor IoU at the threshold found on validation data (rule roc) above that at 0.5, for "
        "each model and loss; it holds where all four improve.",
    ),
    "most_pixels_decided": Claim(
        judge_decided,
        "Most pixels close to 0 or 1",
        "Section 3.2.1: 'Due to the very low rate of false classified pixels (most of them has "
        "probability close to one or close to zero)' the ROC curve is restricted to (0.01, 0.99).",
        "Share of pixels whose tumor probability lies outside (0.01, 0.99): above "
        f"{MOST_PIXELS:.0%} for each model and loss (our reading of 'most').",
    ),
    "small_weight_best_rauc": Claim(
        judge_small_weight,
        "Best rAUC at a very small weight",
        "Section 3.2.1: 'the best restricted AUC value (rAUC) [...] is achieved by a very small "
        "value of' a parameter whose name is lost from the text, taken as the class weight of "
        "tumor against the rest.",
        "Sweep of the tumor network's class weight on validation data: the best rAUC lies at the "
        "smallest or second smallest ratio swept.",
        "validation",
    ),
    "one_step_misclassifies": Claim(
        judge_misclassification,
        "One-step misclassifies tumors",
        "Section 4: the one-step model 'is prone to misclassification, especially in the tumor "
        "segmentation task'.",
        "Balanced loss, rule roc: wrong tumor pixels (false positive and false negative, all cases "
        "pooled) of one-step are more than those of sequential. Liver pixels beside them for "
        "comparison.",
    ),
    "one_step_fast": Claim(
        judge_speed,
        "One-step is fast",
        "Section 4: the one-step model 'works very convenient and fast'.",
        "Training seconds of one-step, both phases, below those of the two networks of the "
        "sequential model together. The numbers of epochs are the preset's.",
        "training",
    ),
}


def judge_claims(results: Results) -> list[dict[str, Any]]:
    """Test every claim; of a published record, return what was recorded.

    Returns:
        {"id", "title", "claim", "measure", "cohorts": {cohort: {"verdict": "holds" | "does not
        hold" | "not tested", "how_much": text with the numbers}}} of each; "training" where no
        cohort is needed.
    """
    if "claims" in results.recorded:
        return list(results.recorded["claims"])
    return [
        {
            "id": name,
            "title": claim.title,
            "claim": claim.words,
            "measure": claim.measure,
            "cohorts": claim.judge(results),
        }
        for name, claim in CLAIMS.items()
    ]


def make_claims(results: Results) -> str:
    """Return the claims as Markdown: one table of verdicts, then the numbers."""
    text = make_head(
        results.label,
        "The paper's claims on this run",
        "Verdicts on the words of the paper's text, about its two models, by the scores of this "
        "run. A verdict is that of the scores themselves; how sure it is, the intervals by patient "
        f"beside them say: {COVERAGE}, none below {LEAST_PATIENTS} patients. {NO_PAPER_NUMBERS}",
    )
    claims, columns = judge_claims(results), [*results.cohorts, "training"]
    verdicts = [
        [claim["title"], *(claim["cohorts"].get(c, {}).get("verdict", "") for c in columns)]
        for claim in claims
    ]
    text += "\n" + make_markdown(["claim", *columns], verdicts, left=len(columns) + 1)
    for index, claim in enumerate(claims, start=1):
        lines = [
            [where, f"**{judged['verdict']}**", judged["how_much"]]
            for where, judged in claim["cohorts"].items()
        ]
        text += describe_claim(index, claim)
        text += make_markdown(("where", "verdict", "numbers"), lines, left=3)
    return text


def describe_claim(index: int, claim: dict[str, Any]) -> str:
    """Return the heading of a claim, its words and its measure."""
    words = f"Paper: {claim['claim']}\n\nMeasure: {claim['measure']}"
    return f"\n## {index}. {claim['title']}\n\n{words}\n\n"
