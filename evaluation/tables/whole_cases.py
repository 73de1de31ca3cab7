"""Scores of whole cases as volumes: means over cases, not pooled."""

from __future__ import annotations

import pandas as pd

from evaluation.metrics.counts import METRICS
from evaluation.names import TARGETS, WHOLE, spell_system
from evaluation.results import Results
from evaluation.score_table import add_metrics, select
from evaluation.tables.text import NO_WHOLE_CASES, make_head, make_markdown

OF_COUNTS = ("dice", "voe", "rvd", "sensitivity", "precision")
DISTANCES = {
    "assd_mm": "ASSD (mm)",
    "rmsd_mm": "RMSD (mm)",
    "hausdorff_mm": "Hausdorff (mm)",
    "hausdorff95_mm": "Hausdorff 95 % (mm)",
    "components_rand_index": "Rand index of regions",
}


def make_whole_cases(results: Results) -> str:
    """Return the scores of whole cases."""
    text = make_head(
        results.label,
        "Whole cases",
        "Every slice of a case on the store's grid, rule roc.",
        "Means over cases, each with the same weight. Of the tumor only cases count whose "
        "reference holds tumor; a distance has no value where nothing was found, and n counts the "
        "cases behind a mean that not all stand behind. RVD is signed: above 0, too much was "
        "found. Rand index of regions: of the connected regions of liver or tumor and what lies "
        "around them (paper 3.2.2).",
    )
    rows = select(results.scores, unit=WHOLE, postprocess="")
    if not len(rows):
        return text + NO_WHOLE_CASES
    # A case without the target would score 1 or 0 by the rule for empty masks.
    rows = add_metrics(rows[rows["tp"] + rows["fn"] > 0], OF_COUNTS)
    headings = [*(METRICS[name].title for name in OF_COUNTS), *DISTANCES.values()]
    for cohort in rows["cohort"].unique():
        for target in TARGETS:
            lines = []
            for system, phase in results.list_systems():
                cases = select(rows, cohort=cohort, target=target, system=system, phase=phase)
                if len(cases):
                    means = [_write_mean(cases[name]) for name in (*OF_COUNTS, *DISTANCES)]
                    lines.append([spell_system(system, phase), str(len(cases)), *means])
            if lines:
                origin = results.describe_origin(cohort)
                text += f"\n## {cohort.capitalize()}, {target}: {origin}\n\n"
                text += make_markdown(["model", "cases", *headings], lines, left=1)
    return text


def _write_mean(values: pd.Series) -> str:
    n = int(values.count())
    if not n:
        return "n/a"
    return f"{values.mean():.3f}" + (f" (n = {n})" if n < len(values) else "")
