"""Any folder of NIfTI pairs, found by patterns such as `images/{case}.nii.gz` and `labels/{case}.nii.gz`."""

from __future__ import annotations

import re
from pathlib import Path

from data.cohorts.base import Case, Cohort, Options, check_folder, in_numeric_order
from data.command import InputError

NAME = "nifti"


def recognise(source: Path) -> bool:
    """Whether the default patterns find images."""
    return bool(matches(source, Options().images))


def matches(source: Path, pattern: str) -> dict[str, Path]:
    """Return the files that a pattern finds, by the name that stands for {case}.

    Raises:
        InputError: the pattern has no {case}, or more than one; two files give one name.
    """
    if pattern.count("{case}") != 1:
        raise InputError(f"{pattern!r}: a pattern must hold {{case}} once, as images/{{case}}.nii.gz")
    before, after = pattern.split("{case}")
    name = re.compile(re.escape(before) + r"([^/]+)" + re.escape(after))
    found: dict[str, Path] = {}
    for path in sorted(source.glob(f"{_plain(before)}*{_plain(after)}")):
        match = name.fullmatch(path.relative_to(source).as_posix())
        if match and path.is_file() and not path.name.startswith("."):
            found[match[1]] = path
    return found


def _plain(text: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", text)


def find_cases(source: Path, options: Options) -> list[Case]:
    """Pair images and labels by name; each image is a patient of its own, unless `--same-patient` says otherwise.

    Raises:
        InputError: no such folder, no image, an image without labels or labels without an image.
    """
    check_folder(source)
    images, labels = matches(source, options.images), matches(source, options.label_files)
    if not images:
        raise InputError(f"{source}: no file {options.images} in it (--images, --labels give other patterns)")
    for name in sorted(images.keys() ^ labels.keys()):
        there, other = (images, options.label_files) if name in images else (labels, options.images)
        raise InputError(f"{there[name]}: no {other.replace('{case}', name)} for it in {source}")
    return [Case(name, images[name], (labels[name],)) for name in sorted(images, key=in_numeric_order)]


COHORT = Cohort(NAME, recognise, find_cases)
