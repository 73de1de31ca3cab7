"""From trained models and label maps to scores, tables, figures and segmentations.

Commands   predict, evaluate, tables, figures, report, viewer, spread, publish; score, check_official (LiTS scoring of
           any predictions); joint_sweep, joint_answer (joint loss), by_slice; compare, comparison, cross_validate,
           cross_validation (all systems); by_seed (what these share over seeds); coverage, benchmark
Scores     metrics (pixels), roc, exact_roc, surfaces (mm), lesions, lesion_recall, lits_scoring, whole_cases,
           calibration, statistics (by patient), postprocess
A run      systems (trained models), other_systems (of the other documents), segmenters (both, on a volume's own
           grid), scoring (a case, a cohort), history, examples, results (read again), published_numbers (of the
           other documents), publish_options
Tables     text, more_tables, case_tables, training_table, cost, claims with evidence, comparison_notes
Folders    drawing (figures), reporting (the report's page), published (recorded results of the README)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # packages are loaded when a function is called, so that --help need not wait
    import numpy as np

    from evaluation.score import LabelScores

__all__ = ["score_labels"]


def score_labels(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> LabelScores:
    """Score one label array against another.

    The module `evaluation.metrics.counts` has the rule for empty masks.

    Args:
        prediction, reference: ndarrays of one shape with 3 axes, 0 other, 1 liver, 2 tumor.
        spacing_mm: distance of the voxels' centres along each axis, in mm.

    Returns:
        Scores of liver and tumor, and of the lesions one by one.

    Raises:
        ValueError: the shapes differ, there are not 3 axes, a spacing is not positive, or a label
            is not 0, 1 or 2.

    Example:
        >>> import numpy as np
        >>> reference = np.zeros((4, 10, 10), np.uint8)
        >>> reference[1:3, 2:8, 2:8] = 1
        >>> reference[1, 3:5, 3:5] = 2
        >>> prediction = reference.copy()
        >>> prediction[1, 3, 3:5] = 1
        >>> scores = score_labels(prediction, reference, spacing_mm=(5.0, 1.0, 1.0))
        >>> round(scores.tumor.dice, 3), scores.tumor.hausdorff_mm, scores.tumor.reference_ml
        (0.667, 1.0, 0.02)
        >>> scores.liver.dice, scores.lesion_recall, scores.lesion_recall_any
        (1.0, 0.0, 1.0)
    """
    from evaluation.score import score_labels as score_arrays

    return score_arrays(prediction, reference, spacing_mm)
