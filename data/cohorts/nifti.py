"""Any folder of NIfTI pairs, found by patterns such as images/{case}.nii.gz."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from data.cohorts.base import Case, Cohort, Options, check_folder, pair_files, split_digits
from data.command import InputError

NAME = "nifti"


def recognise(source: Path) -> bool:
    """Return whether the default patterns find images."""
    return bool(find_matches(source, Options().images))


def find_matches(source: Path, pattern: str) -> dict[str, Path]:
    """Return the files that a pattern finds, by the name that stands for {case}.

    Raises:
        InputError: the pattern has no {case}, or more than one, or is no path below the source.
    """
    if pattern.count("{case}") != 1 or pattern.startswith("/") or ".." in Path(pattern).parts:
        raise InputError(
            f"{pattern!r}: a pattern must hold {{case}} once, as images/{{case}}.nii.gz"
        )
    before, after = pattern.split("{case}")
    name = re.compile(re.escape(before) + r"([^/]+)" + re.escape(after))
    files: dict[str, Path] = {}
    for path in sorted(source.glob(f"{glob.escape(before)}*{glob.escape(after)}")):
        relative = path.relative_to(source)
        is_hidden = any(part.startswith(".") for part in relative.parts)
        match = name.fullmatch(relative.as_posix())
        if match and path.is_file() and not is_hidden:
            files[match[1]] = path
    return files


def find_cases(source: Path, options: Options) -> list[Case]:
    """Pair images and labels by name; one without the other fails when it is opened.

    Each image is a patient of its own, unless `--same-patient` says otherwise.

    Raises:
        InputError: no such folder, no image.
    """
    check_folder(source)
    labels = find_matches(source, options.label_files)
    images = find_matches(source, options.images)
    images = {name: path for name, path in images.items() if path not in labels.values()}
    if not images:
        raise InputError(
            f"{source}: no file {options.images} in it (--images, --labels give other patterns)"
        )
    cases = []
    for name in sorted(images.keys() | labels.keys(), key=split_digits):
        patterns = options.images, options.label_files
        names = (pattern.replace("{case}", name) for pattern in patterns)
        cases.append(pair_files(name, images.get(name), labels.get(name), *names))
    return cases


COHORT = Cohort(NAME, recognise, find_cases)
