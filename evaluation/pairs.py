"""Which prediction belongs to which reference: by the names of their files, in two folders."""

from __future__ import annotations

import re
from pathlib import Path

from data.command import InputError

SUFFIXES = (".nii.gz", ".nii")
MOST_NAMED = 5  # files in one line

_IMAGE, _LABELS = (re.compile(rf"{kind}-(\d+)") for kind in ("volume", "segmentation"))


def volumes_by_name(folder: Path) -> dict[str, Path]:
    """Return the NIfTI files of a folder by their names without .nii or .nii.gz, in order.

    Raises:
        InputError: no such folder, no NIfTI file in it, or a name twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((end for end in SUFFIXES if path.name.endswith(end)), None)
        if suffix is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name.removesuffix(suffix)
        if name in found:
            raise InputError(f"{path}: {found[name].name} is there too; keep one of them")
        found[name] = path
    if not found:
        raise InputError(f"{folder}: no .nii or .nii.gz file in it")
    return found


def references_by_name(folder: Path) -> dict[str, Path]:
    """Return the label volumes of a folder as `volumes_by_name` does; of LiTS' layout the `segmentation-N` alone.

    There `volume-N` is the CT, not a reference: where a folder holds any `segmentation-N`, no `volume-N` is taken.
    """
    found = volumes_by_name(folder)
    if any(map(_LABELS.fullmatch, found)):
        return {name: path for name, path in found.items() if not _IMAGE.fullmatch(name)}
    return found


def paired(reference: Path, prediction: Path) -> tuple[dict[str, tuple[Path, Path]], list[Path]]:
    """Pair the files of two folders by name, or `segmentation-N` with `volume-N`, as `evaluation.predict` calls it.

    Returns:
        (reference, prediction) by the name of the reference, in order; the predictions that belong to none.

    Raises:
        InputError: a reference without a prediction or with two, or what `volumes_by_name` refuses.
    """
    references, predictions = references_by_name(reference), volumes_by_name(prediction)
    pairs, missing = {}, []
    for name, path in references.items():
        found = [predictions[other] for other in names_of(name) if other in predictions]
        if len(found) > 1:
            raise InputError(
                f"{found[1]}: {found[0].name} is there too, both for {path.name}; keep one of them"
            )
        if found:
            pairs[name] = path, found[0]
        else:
            missing.append(name)
    surplus = sorted(set(predictions.values()) - {path for _, path in pairs.values()})
    if missing:
        wanted = " or ".join(f"{name}.nii[.gz]" for name in names_of(missing[0]))
        more = f" (nor for {len(missing) - 1} more)" if len(missing) > 1 else ""
        unused = f"; {named(surplus)} without a reference" if surplus else ""
        raise InputError(
            f"{prediction}: no prediction {wanted} for {references[missing[0]]}{more}{unused}"
        )
    return pairs, surplus


def names_of(reference: str) -> tuple[str, ...]:
    """Names that the prediction for a reference may have."""
    match = _LABELS.fullmatch(reference)
    return (reference, f"volume-{match[1]}") if match else (reference,)


def named(paths: list[Path]) -> str:
    """Return the names of files, the first few, for one line."""
    return ", ".join(path.name for path in paths[:MOST_NAMED]) + (
        ", ..." if len(paths) > MOST_NAMED else ""
    )
