"""Medical Segmentation Decathlon, Task03_Liver: `imagesTr`, `labelsTr`, `dataset.json`. CC BY-SA 4.0.

Its 131 training volumes are those of LiTS under other names (liver_N is volume-N), with LiTS' headers, so the traps
of LiTS are its traps, too.
"""

from __future__ import annotations

from pathlib import Path

from data.cohorts.base import Case, Cohort, Options, check_folder, in_numeric_order
from data.cohorts.lits import open_lits_image, open_lits_label
from data.command import InputError
from data.files import read_json

NAME = "msd"


def recognise(source: Path) -> bool:
    """Whether the folder has a dataset.json beside imagesTr."""
    return (source / "dataset.json").is_file() and (source / "imagesTr").is_dir()


def find_cases(source: Path, options: Options) -> list[Case]:
    """List the training pairs that dataset.json names.

    Raises:
        InputError: dataset.json is missing or is not of the liver task, a file that it names is not there.
    """
    check_folder(source)
    file = source / "dataset.json"
    content = read_json(file, ("labels", "training"))
    labels = {str(number): str(name).lower() for number, name in content["labels"].items()}
    if labels.get("1") != "liver" or set(labels) != {"0", "1", "2"}:
        raise InputError(f"{file}: its labels must be 0 background, 1 liver, 2 cancer, they are {content['labels']}")
    cases = []
    for pair in content["training"]:
        if not isinstance(pair, dict) or not {"image", "label"} <= pair.keys():
            raise InputError(f'{file}: "training" must list pairs of "image" and "label"')
        image, label = (_file(source, pair[kind]) for kind in ("image", "label"))
        name = image.name.removesuffix(".gz").removesuffix(".nii")
        cases.append(Case(name, image, (label,)))
    if not cases:
        raise InputError(f"{file}: lists no training pair")
    return sorted(cases, key=lambda case: in_numeric_order(case.name))


def _file(source: Path, named: str) -> Path:
    path = source / named
    if not path.is_file():
        raise InputError(f"{path}: named in dataset.json and not there")
    return path


COHORT = Cohort(NAME, recognise, find_cases, open_image=open_lits_image, open_label=open_lits_label)
