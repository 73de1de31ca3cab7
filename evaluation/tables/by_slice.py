"""One recipe split by patient and by slice: how much of a score is memory.

The paper does not say by what it split. In a split by slice a test slice has neighbours of its
patient in training: its score is partly memory. The first record was split by patient, the second
by slice (`data.prepare --by-slice`), of the same preset, size and volumes.
"""

from __future__ import annotations

from collections.abc import Sequence

from data.command import InputError
from evaluation.metrics.counts import iou
from evaluation.names import NAMES, SLICES, spell_system
from evaluation.results import Results, read_split
from evaluation.score_table import KEYS, MAIN_RULE, select, sum_counts
from evaluation.tables.text import make_markdown, write_iou_interval, write_score

SAME = ("size", "cohort", "train_slices", "validation_slices", "test_slices")


def list_test_cases(results: Results) -> list[str]:
    """Return the names of a run's test cases."""
    return list(read_split(results)["slices"]["test"])


def check_splits(by_patient: Results, by_slice: Results) -> None:
    """Check that two runs differ in the split alone.

    Raises:
        InputError: the second was not split by slice, or has another preset, seed or size.
    """
    if by_slice is by_patient:
        return
    summary, reference, path = by_slice.summary, by_patient.summary, by_slice.path
    if summary["data"].get("split_by") != "slice":
        raise InputError(f"{path}: its split is by patient (data.prepare --by-slice)")
    cases = set(select(by_slice.scores, cohort="test")["case"])
    missing = [name for name in list_test_cases(by_patient) if name not in cases]
    if missing:
        rule = "a test case of the split by patient, has no test slice in it"
        raise InputError(f"{path}: {missing[0]}, {rule}")
    values = [(key, summary[key], reference[key]) for key in ("preset", "seed")]
    values += [(key, summary["data"][key], reference["data"][key]) for key in SAME]
    for key, value, expected in values:
        if value != expected:
            raise InputError(f"{path}: {key} is {value}, that of the split by patient {expected}")


def summarise_splits(records: Sequence[Results]) -> list[str]:
    """Return the paragraphs of the README's block: runs and scores."""
    by_patient, by_slice = records
    data, summary = by_slice.data, by_slice.summary
    minutes = sum(summary["timing_s"].values()) / 60
    caption = (
        f"IoU at threshold rule {MAIN_RULE}; preset `{summary['preset']}`, seed {by_slice.seed}, "
        f"{data['size']} px, {data['train_slices']} / {data['validation_slices']} / "
        f"{data['test_slices']} slices in both splits; the run by slice has test slices of "
        f"{data['test_cases']} volumes, all of whose patients trained it, and took {minutes:.0f} "
        "minutes. The last column is of the same volumes."
    )
    return [caption, make_splits(by_patient, by_slice)]


def make_splits(by_patient: Results, by_slice: Results) -> str:
    """Return IoU by patient, by slice, and by slice on the first's test volumes."""
    shared = list_test_cases(by_patient)
    cases = select(by_slice.scores, unit=SLICES, postprocess="", case=shared)
    lines = []
    for row in select(by_slice.table1, cohort="test", rule=MAIN_RULE).itertuples(index=False):
        key = {name: getattr(row, name) for name in KEYS}
        patient = by_patient.find(**key)
        if patient is None:
            continue
        same = iou(sum_counts(select(cases, **key)))
        names = [row.target, NAMES.get(row.phase, row.phase), spell_system(row.system)]
        scores = [write_score(patient.iou), write_score(row.iou), write_iou_interval(row)]
        lines.append([*names, *scores, write_score(same), f"{same - patient.iou:+.3f}"])
    volumes = f"volumes {' and '.join(name.removeprefix('volume-') for name in shared)}"
    headings = ["target", "loss", "model", f"by patient: {volumes}", "by slice: all test slices"]
    headings += ["95 % interval of those, patients drawn", f"by slice: {volumes}"]
    return make_markdown([*headings, "by slice less by patient"], lines, left=3)
