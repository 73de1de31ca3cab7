"""Trained systems and label maps in; scores, tables, figures, segmentations out.

In the order in which data flows:

names           words of the results: cohorts, targets, phases, systems
metrics/        scores of arrays: overlap, ROC, distances, lesions, LiTS, statistics
segmenter       a trained system in use: HU in, labels and probabilities out
postprocess     named options that clean a label map
predict         command: CT volumes in, label volumes out
batch           the volumes of predict and the files it writes
scoring         a system on a case: rows of the score table
score_table     a row for each case, system, rule and unit; every score is a group-by of it
evaluate        command: every finished system of a run is scored
cross_validate  command: a system is trained and scored in each fold
score           command: any label volumes against their reference; needs no TensorFlow
results         what evaluate wrote, read again
tables/         command: tables as Markdown, CSV and LaTeX
figures/        command: figures
page/           parts of the report
report          command: a run as one HTML file
experiments     what is published, one entry an experiment
publish         command: the records of an experiment, and its page in the README
published/      the records

From Python: `segment` a CT, `score_labels` of two arrays, `read_scores` of a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # packages are loaded when a function is called, so that --help need not wait
    import numpy as np
    import pandas as pd

    from evaluation.predict import Segmentation
    from evaluation.score import LabelScores

__all__ = ["read_scores", "score_labels", "segment"]


def segment(
    image: Any,
    run: Path | str,
    system: str = "sequential",
    phase: str | None = None,
    probabilities: bool = False,
) -> Segmentation:
    """Segment one CT with a trained system; for research, not for diagnosis.

    For many volumes `python -m evaluation.predict` is faster: it loads the networks once.

    Args:
        image: CT in HU: an image of nibabel, or a path to a NIfTI file, a folder with one DICOM
            series, or a zip of one.
        run: run directory of the training.
        system: name of a finished system in it.
        phase: of its training; None for the one with the better tumors on validation data.
        probabilities: whether to return the probabilities of liver and tumor, too.

    Returns:
        Labels (0 other, 1 liver, 2 tumor) and probabilities on the grid of the image, as images of
        nibabel.

    Raises:
        data.command.InputError: the image is no CT in HU, or the system is not trained.

    Example:
        >>> import nibabel as nib
        >>> image = nib.load("scan.nii.gz")  # doctest: +SKIP
        >>> result = segment(image, "out/run", probabilities=True)  # doctest: +SKIP
        >>> result.labels.shape == image.shape  # doctest: +SKIP
        True
        >>> nib.save(result.labels, "labels.nii.gz")  # doctest: +SKIP
        >>> sorted(result.probabilities)  # doctest: +SKIP
        ['liver', 'tumor']
    """
    from evaluation.predict import segment_image

    return segment_image(image, run, system, phase, probabilities)


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


def read_scores(out: Path | str) -> pd.DataFrame:
    """Read the score table of a run, with the metrics of Table 1 as columns.

    `evaluation.score_table.ScoreRow` says what the other columns are.

    Args:
        out: folder that `python -m evaluation.evaluate` wrote.

    Returns:
        The table: a row for each case, system, phase, rule, target and unit.

    Raises:
        data.command.InputError: there is no such table, or it is damaged.

    Example:
        >>> scores = read_scores("out")  # doctest: +SKIP
        >>> sorted(set(scores["target"]))  # doctest: +SKIP
        ['liver', 'tumor']
        >>> tumors = scores.query("unit == 'slices' and target == 'tumor'")  # doctest: +SKIP
        >>> dice = tumors.groupby(["system", "phase", "rule"])["dice"].mean()  # doctest: +SKIP
        >>> bool(dice.between(0, 1).all())  # doctest: +SKIP
        True
    """
    from evaluation.score_table import add_metrics, read_table

    return add_metrics(read_table(Path(out) / "scores.csv"))
