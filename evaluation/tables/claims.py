"""The claims of the paper's text (Gruber et al.), each tested on the recorded scores of a run.

A claim is a small function of an `Evidence`; it gives a verdict per cohort with the numbers of both sides.
Where a system collapsed or a score is missing the verdict is "not tested", unless what there is contradicts
the claim already. So it is where a claim would hold only because a network finds tumors no better than marking
the whole liver (`evidence.BLIND_MARGIN`). The paper's own numbers (its Table 1) are not available: the claims
are its words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from evaluation.metrics.counts import Counts, iou, pixel_accuracy, rand_index, sensitivity
from evaluation.metrics.statistics import LEAST_PATIENTS, Score
from evaluation.names import COHORTS, LOSSES, NAMES, PAPER_MODELS, STAGES
from evaluation.tables.evidence import Evidence, Part, number, system

HOLDS, FAILS, UNTESTED = "holds", "does not hold", "not tested"

# Our readings of the paper's words; no number stands in its text.
CLOSE_TO_ONE = 0.9
MOST_PIXELS = 0.5
SMALL_WEIGHTS = 2


def combined(parts: Iterable[Part]) -> dict[str, str]:
    """Join the parts of a claim: one contradiction refutes it, one missing part leaves it untested."""
    parts = list(parts)
    outcomes = [outcome for outcome, _ in parts]
    verdict = FAILS if False in outcomes else UNTESTED if None in outcomes or not parts else HOLDS
    return {"verdict": verdict, "how_much": "; ".join(dict.fromkeys(text for _, text in parts))}


def _per_cohort(
    evidence: Evidence, parts_of: Callable[[str], Iterable[Part]]
) -> dict[str, dict[str, str]]:
    judged = {}
    for cohort in COHORTS:
        if cohort not in evidence.cohorts:
            judged[cohort] = {"verdict": UNTESTED, "how_much": "no such cohort in this run"}
            continue
        judged[cohort] = combined(parts_of(cohort))
        judged[cohort]["how_much"] += f" ({evidence.sample(cohort)})"
    return judged


def liver_close_to_one(evidence: Evidence) -> dict[str, Any]:
    """Liver scores are all close to 1 for both models."""
    metrics: dict[str, Score] = {
        "pixel_accuracy": pixel_accuracy,
        "iou": iou,
        "rand_index": rand_index,
    }

    def part(cohort: str, model: str, loss: str) -> Part:
        scores = [evidence.value(metric, cohort, model, loss, "liver") for metric in metrics]
        known = [score for score in scores if score is not None]
        if len(known) < len(scores):
            return None, evidence.absent(model, loss)
        words = []
        for (name, metric), score in zip(metrics.items(), known, strict=True):
            bounds = evidence.spread(
                metric, cohort, (model, loss), "liver", of_reference=name == "iou"
            )
            words.append(f"{NAMES[name]} {number(score)}{bounds}")
        return all(
            score >= CLOSE_TO_ONE for score in known
        ), f"{system(model, loss)}: {', '.join(words)}"

    def parts(cohort: str) -> Iterable[Part]:
        return [part(cohort, model, loss) for model in PAPER_MODELS for loss in LOSSES]

    return {
        "id": "liver_close_to_one",
        "title": "Liver scores close to 1",
        "claim": "Section 3.2.2: the liver's pixel accuracy, IoU and Rand index 'have values very close to' a "
        "number lost from the text, taken as 1, for both models.",
        "measure": f"Liver pixel accuracy / IoU / Rand index, threshold rule roc, both models and both losses: each "
        f"at least {CLOSE_TO_ONE} (our reading of 'very close'); one of the four below it refutes. In brackets: 95 % "
        f"interval by patient, from {LEAST_PATIENTS} patients on.",
        "cohorts": _per_cohort(evidence, parts),
    }


def sequential_better_on_tumors(evidence: Evidence) -> dict[str, Any]:
    """The sequential approach outperforms the one-step approach primarily on tumors."""

    def parts(cohort: str) -> Iterable[Part]:
        gains, texts = {}, []
        for target in ("tumor", "liver"):
            sides = {
                model: evidence.value("iou", cohort, model, "balanced", target)
                for model in PAPER_MODELS
            }
            missing = [model for model, side in sides.items() if side is None]
            if missing:
                yield None, "; ".join(evidence.absent(model, "balanced") for model in missing)
                return
            first, second = sides["one_step"] or 0.0, sides["sequential"] or 0.0
            gains[target] = second - first
            text = f"{target} IoU sequential {number(second)} - one-step {number(first)} = {second - first:+.3f}"
            sure = evidence.sureness(
                cohort, target, ("sequential", "balanced"), ("one_step", "balanced")
            )
            texts.append(text + sure)
        outcome = gains["tumor"] > max(0.0, gains["liver"])
        text = "; ".join(texts) + evidence.against_blind(cohort)
        yield evidence.unless_blind(outcome, text, cohort, "one_step", "balanced")

    return {
        "id": "sequential_better_on_tumors",
        "title": "Sequential better, mainly on tumors",
        "claim": "Section 3.2.2: 'the sequential approach outperforms the One-Step method primarily in the tumor "
        "segmentation task'.",
        "measure": "Balanced loss, rule roc: the gain in tumor IoU is above 0 and above the gain in liver IoU.",
        "cohorts": _per_cohort(evidence, parts),
    }


def balanced_loss_best(evidence: Evidence) -> dict[str, Any]:
    """The balanced loss gives the best tumor IoU and Rand index."""

    def parts(cohort: str) -> Iterable[Part]:
        for model in PAPER_MODELS:
            for metric in ("iou", "rand_index"):
                sides = {
                    loss: evidence.value(metric, cohort, model, loss, "tumor") for loss in LOSSES
                }
                yield gain(cohort, NAMES[model] + " " + NAMES[metric], model, sides)

    def gain(cohort: str, what: str, model: str, sides: dict[str, float | None]) -> Part:
        ce, balanced = sides["ce"], sides["balanced"]
        if ce is None or balanced is None:
            return None, evidence.absent(model, "ce" if ce is None else "balanced")
        text = (
            f"{what} balanced {number(balanced)}, cross-entropy {number(ce)} ({balanced - ce:+.4f})"
        )
        if what.endswith(NAMES["iou"]):
            text += evidence.sureness(cohort, "tumor", (model, "balanced"), (model, "ce"))
        return evidence.unless_blind(balanced > ce, text, cohort, model, "balanced")

    return {
        "id": "balanced_loss_best",
        "title": "Balanced loss best on tumors",
        "claim": "Section 3.2.2: 'IoU and Rand Index performance score of the tumor segmentation show that the "
        "application of balanced loss [...] achieves the best results'; section 2.4 says so for both models.",
        "measure": "Rule roc: tumor IoU and tumor Rand index after the balanced phase are above those after "
        "cross-entropy, for each model. The balanced phase follows the cross-entropy phase, as in the paper.",
        "cohorts": _per_cohort(evidence, parts),
    }


def balanced_loss_detects(evidence: Evidence) -> dict[str, Any]:
    """The balanced loss helps to detect the lesion."""

    def sides(model: str) -> list[tuple[str, str]]:
        return [(model, "balanced"), (model, "ce")]

    def parts(cohort: str) -> Iterable[Part]:
        for model in PAPER_MODELS:
            ce, balanced = (evidence.pixels(cohort, model, loss, "tumor") for loss in LOSSES)
            if not (ce["tp"] + ce["fn"] and balanced["tp"] + balanced["fn"]):
                yield None, evidence.absent(model, "balanced" if ce["tp"] + ce["fn"] else "ce")
                continue
            before, after = (side["tp"] / (side["tp"] + side["fn"]) for side in (ce, balanced))
            text = f"{NAMES[model]} sensitivity balanced {number(after)}, cross-entropy {number(before)}"
            text += f" ({after - before:+.3f}{evidence.difference(sensitivity, cohort, 'tumor', sides(model))}); "
            text += f"false positive pixels {balanced['fp']:,}, {ce['fp']:,}"
            yield evidence.unless_blind(after > before, text, cohort, model, "balanced")

    return {
        "id": "balanced_loss_detects",
        "title": "Balanced loss detects the lesion",
        "claim": "Section 2.4: the balanced loss 'proved very useful in detecting the lesion for both methods'.",
        "measure": "Rule roc: the share of tumor pixels found (sensitivity, all cases pooled) after the balanced phase "
        "is above that after cross-entropy, for each model. False positive pixels beside it.",
        "cohorts": _per_cohort(evidence, parts),
    }


def roc_threshold_improves(evidence: Evidence) -> dict[str, Any]:
    """The threshold found by ROC analysis improves the tumor result."""

    def parts(cohort: str) -> Iterable[Part]:
        for model in PAPER_MODELS:
            for loss in LOSSES:
                roc = evidence.value("iou", cohort, model, loss, "tumor", "roc")
                half = evidence.value("iou", cohort, model, loss, "tumor", "0.5")
                if roc is None or half is None:
                    yield (None, evidence.absent(model, loss))
                else:
                    text = f"{system(model, loss)}: {number(roc)} against {number(half)} at 0.5 ({roc - half:+.3f}"
                    text += (
                        evidence.sureness(cohort, "tumor", (model, loss), (model, loss), "0.5")
                        + ")"
                    )
                    yield evidence.unless_blind(roc > half, text, cohort, model, loss)

    return {
        "id": "roc_threshold_improves",
        "title": "ROC threshold improves the tumor result",
        "claim": "Section 3.2.1: 'We further calculated the corresponding threshold and could achieve an improvement "
        "of the tumor segmentation results'.",
        "measure": "Tumor IoU at the threshold found on validation data (rule roc) above that at 0.5, for each model "
        "and loss; it holds where all four improve.",
        "cohorts": _per_cohort(evidence, parts),
    }


def most_pixels_decided(evidence: Evidence) -> dict[str, Any]:
    """Most pixels have a tumor probability close to 0 or 1."""
    curves = {
        (c["cohort"], c["model"], c["loss"]): c for c in evidence.curves if c["target"] == "tumor"
    }

    def parts(cohort: str) -> Iterable[Part]:
        for model in PAPER_MODELS:
            for loss in LOSSES:
                curve = curves.get((cohort, model, loss))
                total = curve["n_positive"] + curve["n_negative"] if curve else 0
                if curve is None or total == 0:
                    yield (None, evidence.absent(model, loss))
                    continue
                share = (
                    1 - (curve["n_restricted_positive"] + curve["n_restricted_negative"]) / total
                )
                yield share > MOST_PIXELS, f"{system(model, loss)}: {share:.2%} of {total:,} pixels"

    return {
        "id": "most_pixels_decided",
        "title": "Most pixels close to 0 or 1",
        "claim": "Section 3.2.1: 'Due to the very low rate of false classified pixels (most of them has probability "
        "close to one or close to zero)' the ROC curve is restricted to (0.01, 0.99).",
        "measure": f"Share of pixels whose tumor probability lies outside (0.01, 0.99): above {MOST_PIXELS:.0%} for "
        "each model and loss (our reading of 'most').",
        "cohorts": _per_cohort(evidence, parts),
    }


def small_weight_best_rauc(evidence: Evidence) -> dict[str, Any]:
    """The best rAUC comes with a very small value of the class weight."""
    sweep = evidence.training.get("sweep")
    points = sorted((sweep or {}).get("points", ()), key=lambda point: point["ratio"])
    scored = [point for point in points if point["status"] == "ok" and point["rauc"] is not None]
    if not sweep:
        part: Part = None, "no sweep in this run"
    elif len(scored) <= SMALL_WEIGHTS:
        part = None, f"only {len(scored)} of {len(points)} class weights gave an rAUC"
    else:
        best = max(scored, key=lambda point: point["rauc"])
        listed = ", ".join(f"{p['ratio']:.3g}: {number(p['rauc'])}" for p in scored)
        failed = len(points) - len(scored)
        small = [
            point["rauc"]
            for point in scored
            if point["ratio"] <= points[SMALL_WEIGHTS - 1]["ratio"]
        ]
        text = f"best at ratio {best['ratio']:.3g} (rAUC by ratio: {listed})"
        if best["rauc"] not in small and small:
            text += f", {best['rauc'] - max(small):.4f} above the best small one"
        text += f"; {failed} failed" if failed else ""
        part = best["rauc"] in small, text
    return {
        "id": "small_weight_best_rauc",
        "title": "Best rAUC at a very small weight",
        "claim": "Section 3.2.1: 'the best restricted AUC value (rAUC) [...] is achieved by a very small value of' a "
        "parameter whose name is lost from the text, taken as the class weight of tumor against the rest.",
        "measure": "Sweep of the tumor network's class weight on validation data: the best rAUC lies at the smallest "
        "or second smallest ratio swept.",
        "cohorts": {"validation": combined([part])},
    }


def wrong_pixels(counts: Counts) -> float:
    """Return the false positive and false negative pixels."""
    return float(counts.fp + counts.fn)


def one_step_misclassifies(evidence: Evidence) -> dict[str, Any]:
    """The one-step model is prone to misclassification, especially in tumors."""

    def parts(cohort: str) -> Iterable[Part]:
        tumor = {
            model: evidence.pixels(cohort, model, "balanced", "tumor") for model in PAPER_MODELS
        }
        missing = [model for model, found in tumor.items() if not any(found.values())]
        if missing:
            yield None, "; ".join(evidence.absent(model, "balanced") for model in missing)
            return
        wrong = {model: found["fp"] + found["fn"] for model, found in tumor.items()}
        texts = [
            f"{NAMES[model]} {wrong[model]:,} wrong tumor pixels ({tumor[model]['fp']:,} false positive, "
            f"{tumor[model]['fn']:,} false negative)"
            for model in PAPER_MODELS
        ]
        sides = [(model, "balanced") for model in PAPER_MODELS]
        texts.append(
            f"one-step less sequential {wrong['one_step'] - wrong['sequential']:+,}"
            + evidence.difference(wrong_pixels, cohort, "tumor", sides, pixels=True)
        )
        livers = [evidence.pixels(cohort, model, "balanced", "liver") for model in PAPER_MODELS]
        if all(any(found.values()) for found in livers):
            texts.append(
                "liver " + " against ".join(f"{found['fp'] + found['fn']:,}" for found in livers)
            )
        text = "; ".join(texts) + evidence.against_blind(cohort)
        yield evidence.unless_blind(
            wrong["one_step"] > wrong["sequential"], text, cohort, "one_step", "balanced"
        )

    return {
        "id": "one_step_misclassifies",
        "title": "One-step misclassifies tumors",
        "claim": "Section 4: the one-step model 'is prone to misclassification, especially in the tumor segmentation "
        "task'.",
        "measure": "Balanced loss, rule roc: wrong tumor pixels (false positive and false negative, all cases "
        "pooled) of one-step are more than those of sequential. Liver pixels beside them for comparison.",
        "cohorts": _per_cohort(evidence, parts),
    }


def one_step_fast(evidence: Evidence) -> dict[str, Any]:
    """The one-step model is fast."""
    seconds, epochs = dict.fromkeys(PAPER_MODELS, 0.0), dict.fromkeys(PAPER_MODELS, 0)
    stages = set()
    for phase in evidence.training.get("phases", ()):
        model = next((model for model in PAPER_MODELS if phase["stage"] in STAGES[model]), None)
        if model is None or phase["train_s"] is None:
            continue
        stages.add((phase["stage"], phase["phase"]))
        seconds[model] += phase["train_s"]
        epochs[model] += phase["epochs"] or 0
    missing = [
        f"{s} {p}" for s in ("one_step", "liver", "tumor") for p in LOSSES if (s, p) not in stages
    ]
    if missing:
        part: Part = None, f"no training time of {', '.join(missing)}"
    else:
        text = "; ".join(
            f"{name}: {count} network{'s' * (count > 1)}, {seconds[model]:,.0f} s for {epochs[model]} epochs "
            f"({seconds[model] / max(epochs[model], 1):.1f} s an epoch)"
            for model, name, count in (("one_step", "one-step", 1), ("sequential", "sequential", 2))
        )
        part = seconds["one_step"] < seconds["sequential"], text
    return {
        "id": "one_step_fast",
        "title": "One-step is fast",
        "claim": "Section 4: the one-step model 'works very convenient and fast'.",
        "measure": "Training seconds of one-step, both phases, below those of the two networks of the sequential "
        "model together. The numbers of epochs are the preset's.",
        "cohorts": {"training": combined([part])},
    }


CLAIMS: tuple[Callable[[Evidence], dict[str, Any]], ...] = (
    liver_close_to_one,
    sequential_better_on_tumors,
    balanced_loss_best,
    balanced_loss_detects,
    roc_threshold_improves,
    most_pixels_decided,
    small_weight_best_rauc,
    one_step_misclassifies,
    one_step_fast,
)


def judge(evidence: Evidence) -> list[dict[str, Any]]:
    """Test every claim.

    Returns:
        A list of {"id", "title", "claim", "measure", "cohorts": {cohort: {"verdict": "holds" | "does not hold" |
        "not tested", "how_much": text with the numbers}}}; what needs no cohort stands under "training".
    """
    return [claim(evidence) for claim in CLAIMS]
