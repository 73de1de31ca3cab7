"""How far probabilities lie from the share of pixels in the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.metrics.calibration import BINS
from evaluation.names import NAMES, spell_system
from evaluation.results import Results
from evaluation.tables.text import (
    make_head,
    make_markdown,
    write_score,
)

HEADINGS = ["target", "model", "loss", "ECE, all pixels", "pixels", "ECE in (0.01, 0.99)"]
HEADINGS += ["pixels in (0.01, 0.99)"]


def make_calibration(results: Results) -> str:
    """Return the expected calibration error by cohort, target, system and phase."""
    text = make_head(
        results.label,
        "Calibration",
        "Expected calibration error (ECE): how far the probability lies from the share of pixels "
        f"in the reference, mean over pixels, in {BINS} equal bins; 0 is best, lower is better. "
        "cross-entropy is before, balanced after the balanced phase. Nearly all pixels of a CT are "
        "background at probability 0, so the error over all pixels is small whatever happens at "
        "the lesion; that over the pixels with a probability in (0.01, 0.99) says more. Pixels "
        "pooled over a cohort; no intervals.",
    )
    curves = {
        (curve["cohort"], curve["target"], curve["system"], curve["phase"]): curve
        for curve in results.curves
        if "ece" in curve
    }
    for cohort in results.cohorts:
        lines = []
        for target in ("tumor", "liver"):
            for system, phase in results.list_systems():
                curve = curves.get((cohort, target, system, phase))
                cells = _list_cells(curve) if curve else ["no result"] * 4
                lines.append([target, spell_system(system), NAMES.get(phase, phase), *cells])
        text += f"\n## {results.write_heading(cohort)}\n\n" + make_markdown(HEADINGS, lines, 3)
    return text + "\nn/a: no pixel in the range.\n"


def _list_cells(curve: Mapping[str, Any]) -> list[str]:
    inside = curve["n_restricted_positive"] + curve["n_restricted_negative"]
    every = curve["n_positive"] + curve["n_negative"]
    errors = write_score(curve["ece"]), write_score(curve["ece_restricted"])
    return [errors[0], f"{every:,}", errors[1], f"{inside:,}"]
