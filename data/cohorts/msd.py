"""Medical Segmentation Decathlon, Task03_Liver (CC BY-SA 4.0).

The folder holds imagesTr, labelsTr and dataset.json. Its 131 training volumes are those of LiTS
(liver_N is volume-N) with LiTS' headers, and so with the traps of LiTS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.cohorts.base import Case, Cohort, Options, check_folder, split_digits
from data.cohorts.lits import open_lits_image, open_lits_label
from data.command import InputError
from data.files import read_json

NAME = "msd"


def recognise(source: Path) -> bool:
    """Return whether the folder has a dataset.json beside imagesTr."""
    return (source / "dataset.json").is_file() and (source / "imagesTr").is_dir()


def find_cases(source: Path, options: Options) -> list[Case]:
    """List the training pairs; one whose file is missing fails when opened.

    Raises:
        InputError: dataset.json is missing or is not of the liver task.
    """
    check_folder(source)
    file = source / "dataset.json"
    content = read_json(file, ("labels", "training"))
    labels = content["labels"]
    if (
        not isinstance(labels, dict)
        or str(labels.get("1", "")).lower() != "liver"
        or set(labels) != {"0", "1", "2"}
    ):
        raise InputError(
            f"{file}: its labels must be 0 background, 1 liver, 2 cancer, they are {labels}"
        )
    if not isinstance(content["training"], list) or not content["training"]:
        raise InputError(f"{file}: lists no training pair")
    cases = [_make_case(source, file, pair) for pair in content["training"]]
    return sorted(cases, key=lambda case: split_digits(case.name))


def _make_case(source: Path, file: Path, pair: Any) -> Case:
    if not isinstance(pair, dict) or not all(
        isinstance(pair.get(kind), str) for kind in ("image", "label")
    ):
        raise InputError(
            f'{file}: "training" must list pairs of "image" and "label", it has {pair!r}'
        )
    image, label = (source / pair[kind] for kind in ("image", "label"))
    return Case(image.name.removesuffix(".gz").removesuffix(".nii"), image, (label,))


COHORT = Cohort(NAME, recognise, find_cases, open_image=open_lits_image, open_label=open_lits_label)
