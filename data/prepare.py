"""From a folder of CT volumes with labels to a slice store.

    python -m data.prepare --source DIR --store DIR [--size 512] [--subset 765,50,50] [--seed 0]

DIR holds the LiTS layout: volume-N.nii[.gz] with segmentation-N.nii[.gz]. A cohort.json there,
{"cohort": name, "synthetic": true|false}, names another cohort. HU are clipped to [-1024, 3071].
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.command import InputError, Parser, integers, run_command
from data.files import read_json, sha256_of_file
from data.resize import hu_for_network, label_to_size
from data.splits import FRACTIONS, LITS_SAME_PATIENT, external_split, group_patients, make_split
from data.store import SCHEMA, Store, StoreWriter, finished_store
from data.volumes import Volume, check_pair, open_volume, read_image, read_label

_FILE = re.compile(r"(volume|segmentation)-(\d+)\.nii(?:\.gz)?")


class Pair(NamedTuple):
    """A CT volume and its labels: `volume-N` and `segmentation-N`."""

    number: int
    image: Path
    label: Path

    @property
    def case(self) -> str:
        """The case's name in the store."""
        return f"volume-{self.number}"


def find_pairs(source: Path) -> list[Pair]:
    """List the pairs of a folder in the LiTS layout, in numeric order.

    Raises:
        InputError: no such folder, no pair, a volume without labels or labels without a volume, a number
            twice.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    found: dict[str, dict[int, Path]] = {"volume": {}, "segmentation": {}}
    for path in sorted(source.iterdir()):
        if match := _FILE.fullmatch(path.name):
            number = int(match[2])
            if number in found[match[1]]:
                raise InputError(f"{path}: {found[match[1]][number].name} is there too; keep one of them")
            found[match[1]][number] = path
    for kind, other in (("volume", "segmentation"), ("segmentation", "volume")):
        for number, path in sorted(found[kind].items()):
            if number not in found[other]:
                raise InputError(f"{path}: no {other}-{number}.nii[.gz] beside it")
    if not found["volume"]:
        raise InputError(f"{source}: no pair volume-N.nii[.gz] and segmentation-N.nii[.gz] in it")
    return [Pair(n, found["volume"][n], found["segmentation"][n]) for n in sorted(found["volume"])]


def read_cohort(source: Path, external: bool = False) -> tuple[str, bool]:
    """Return (cohort, synthetic) from SOURCE/cohort.json.

    Without one the cohort is "lits", an external one has the name of its folder; neither is synthetic.

    Raises:
        InputError: cohort.json lacks them, or the source is a phantom that is not finished.
    """
    path = source / "cohort.json"
    if (source / ".cohort-unfinished.json").exists():  # would pass for LiTS
        raise InputError(f"{source}: a phantom cohort that is not finished; run data.phantom again")
    if not path.exists():
        return source.resolve().name if external else "lits", False
    content = read_json(path)
    name = content.get("cohort") if isinstance(content, dict) else None
    if not isinstance(name, str) or not isinstance(content.get("synthetic"), bool):
        raise InputError(f'{path}: needs "cohort" (a name) and "synthetic" (true or false)')
    return name, content["synthetic"]


def fill_case(
    folder: Path, pair: Pair, patient: str, size: int, allow_non_hu: bool = False, ignore_affine: bool = False
) -> dict[str, Any]:
    """Check one pair's voxels and write image.npy and label.npy into `folder`, a few slices at a time.

    Returns:
        The case's entry in store.json.

    Raises:
        InputError: what `read_image`, `read_label` and `check_pair` refuse.
    """
    image = read_image(pair.image, allow_non_hu)
    label = read_label(pair.label, on=image if ignore_affine else None)
    check_pair(image, label)
    _check_whole_numbers(image)
    shape = (image.n_slices, size, size)
    hu = np.lib.format.open_memmap(folder / "image.npy", mode="w+", dtype=np.int16, shape=shape)
    labels = np.lib.format.open_memmap(folder / "label.npy", mode="w+", dtype=np.uint8, shape=shape)
    for start, chunk in image.chunks():
        rows = slice(start, start + len(chunk))
        hu[rows] = hu_for_network(chunk, size)
        labels[rows] = label_to_size(np.rint(label.slices(rows.start, rows.stop)), size)
    hu.flush()
    labels.flush()
    return {
        "patient": patient,
        "n_slices": image.n_slices,
        "liver_rows": _rows_with(labels, 1),
        "tumor_rows": _rows_with(labels, 2),
        "spacing_mm": list(image.spacing_mm),
        "native_shape": [image.rows, image.columns],
        "orientation": image.orientation,
        "liver_on_left": _liver_on_left(labels),
        "sha256_image": sha256_of_file(folder / "image.npy"),
        "sha256_label": sha256_of_file(folder / "label.npy"),
    }


def _check_whole_numbers(image: Volume) -> None:
    low, high = image.value_range
    if high - low <= 1:
        raise InputError(f"{image.path}: values from {low:g} to {high:g} would be lost, a store holds whole HU")


def _liver_on_left(labels: np.ndarray) -> bool:
    """Whether the liver's centre lies in the patient's left half: rarely anatomy, mostly a wrong affine."""
    columns = np.zeros(labels.shape[2])
    for one in labels:
        columns += np.count_nonzero(one, axis=0)
    return bool(columns @ np.arange(len(columns)) > columns.sum() * (len(columns) - 1) / 2)


def _described(entry: dict[str, Any]) -> str:
    text = f"{entry['n_slices']} slices, {len(entry['liver_rows'])} with liver, {len(entry['tumor_rows'])} with tumor"
    if entry["liver_on_left"]:
        text += "; the liver is on the patient's left: is the affine right?"
    return text


def _rows_with(labels: np.ndarray, at_least: int) -> list[int]:
    return [row for row in range(len(labels)) if labels[row].max() >= at_least]


def prepare(arguments: argparse.Namespace) -> Store:
    """Build the store, or go on with an unfinished one; do nothing where it is finished.

    Raises:
        InputError: a file, a flag or an existing store that does not fit.
    """
    source = arguments.source
    parameters = _parameters(arguments)
    made_from = None
    if source.is_dir() or not arguments.store.exists():
        pairs = find_pairs(source)
        cohort, synthetic = read_cohort(source, arguments.external)
        patient_of = _patients(pairs, cohort, arguments)
        made_from = {pair.case: _made_from(pair, patient_of[pair.case], arguments) for pair in pairs}
    if store := finished_store(arguments.store, parameters, made_from):
        print(f"{arguments.store}: already done")
        return store
    if made_from is None:
        raise InputError(f"{source}: no such folder")
    outline = _check_geometry(pairs, arguments.ignore_label_affine)
    _split(outline, patient_of, arguments)  # a split that cannot work fails before the long conversion
    with StoreWriter(arguments.store) as writer:
        cases = {
            pair.case: _case(writer, pair, patient_of[pair.case], made_from[pair.case], arguments) for pair in pairs
        }
        _check_copies(cases)
        info = {
            "schema": SCHEMA,
            "cohort": cohort,
            "synthetic": synthetic,
            "source": parameters["source"],
            "size": arguments.size,
            "n_slices": sum(entry["n_slices"] for entry in cases.values()),
            "parameters": parameters,
            "made_from": made_from,
            "cases": cases,
        }
        writer.finish(info, _split(cases, patient_of, arguments))
    return Store.open(arguments.store)


def _check_copies(cases: dict[str, dict[str, Any]]) -> None:
    """Refuse a volume that is there twice under two patients: one could train and the other test."""
    seen: dict[str, str] = {}
    for case, entry in cases.items():
        other = seen.setdefault(entry["sha256_image"], case)
        if entry["patient"] != cases[other]["patient"]:
            raise InputError(f"{case}: the same voxels as {other}, another patient (--same-patient says they are one)")


def _case(
    writer: StoreWriter, pair: Pair, patient: str, made_from: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Write one case, or take it over from an earlier run; print its line."""
    entry, note = writer.kept(pair.case, made_from), " (kept)"
    if entry is None:
        fill = partial(
            fill_case,
            pair=pair,
            patient=patient,
            size=arguments.size,
            allow_non_hu=arguments.allow_non_hu,
            ignore_affine=arguments.ignore_label_affine,
        )
        entry, note = writer.write_case(pair.case, made_from, fill), ""
    print(f"{pair.case}: {_described(entry)}{note}", flush=True)
    return entry


def _parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that decide what a store holds, as store.json records them."""
    return {
        "source": arguments.source.resolve().name,
        "size": arguments.size,
        "subset": arguments.subset,
        "external": arguments.external,
        "seed": arguments.seed,
        "slices": arguments.slices,
        "test": arguments.test,
        "validation": arguments.validation,
        "fractions": arguments.fractions,
        "same_patient": arguments.same_patient,
        "stratify": arguments.stratify,
        "allow_non_hu": arguments.allow_non_hu,
        "ignore_label_affine": arguments.ignore_label_affine,
    }


def _patients(pairs: Sequence[Pair], cohort: str, arguments: argparse.Namespace) -> dict[str, str]:
    numbers = [pair.number for pair in pairs]
    for group in arguments.same_patient:
        if missing := [number for number in group if number not in numbers]:
            raise InputError(f"--same-patient: no volume-{missing[0]} in {arguments.source}")
    # the numbers of another cohort say nothing about LiTS patients
    known = LITS_SAME_PATIENT if cohort == "lits" else ()
    return group_patients(numbers, [*known, *arguments.same_patient])


def _check_geometry(pairs: Sequence[Pair], ignore_affine: bool) -> dict[str, dict[str, Any]]:
    """Check every pair's headers; return the largest number of slices each case can give to a split."""
    outline = {}
    for pair in pairs:
        image = open_volume(pair.image)
        check_pair(image, open_volume(pair.label, on=image if ignore_affine else None))
        outline[pair.case] = {"n_slices": image.n_slices, "liver_rows": range(image.n_slices)}
    return outline


def _split(
    cases: dict[str, dict[str, Any]], patient_of: dict[str, str], arguments: argparse.Namespace
) -> dict[str, Any]:
    source = str(arguments.source)
    if arguments.external:
        return external_split(cases, patient_of, which=arguments.slices, source=source)

    def names(numbers: list[int] | None) -> list[str] | None:
        return None if numbers is None else [f"volume-{number}" for number in numbers]

    return make_split(
        cases,
        patient_of,
        seed=arguments.seed,
        fractions=arguments.fractions,
        test=names(arguments.test),
        validation=names(arguments.validation),
        subset=arguments.subset,
        which=arguments.slices,
        stratify=arguments.stratify,
        source=source,
    )


def _made_from(pair: Pair, patient: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a finished case depends on; a case made from anything else is made again."""
    files = {}
    for name in ("image", "label"):
        path: Path = getattr(pair, name)
        status = path.stat()
        files[name] = [path.name, status.st_size, status.st_mtime_ns]
    flags = {name: getattr(arguments, name) for name in ("size", "allow_non_hu", "ignore_label_affine")}
    return {**files, **flags, "patient": patient}


def _fractions(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers separated by commas, got {text!r}") from None


def _parser() -> Parser:
    parser = Parser(prog="python -m data.prepare", description="CT volumes with labels -> slice store")
    add = parser.add_argument
    add("--source", type=Path, required=True, help="folder with volume-N.nii[.gz], segmentation-N.nii[.gz]")
    add("--store", type=Path, required=True, help="folder to make")
    add("--size", type=int, default=512, help="pixels per side (default 512)")
    add("--subset", type=integers, help="slices for train,validation,test (paper: 765,50,50)")
    add(
        "--external",
        action="store_true",
        help="only tested on; none of its patients may have trained (LiTS 27 + k is 3D-IRCADb k)",
    )
    add("--seed", type=int, default=0, help="draws the split and the subset (default 0)")
    add("--slices", choices=("liver", "all"), default="liver", help="slices with liver (default), or all")
    add("--test", type=integers, help="test volumes, as 11,16")
    add("--validation", type=integers, help="validation volumes, as 22")
    add("--fractions", type=_fractions, default=list(FRACTIONS), help="of patients (default 0.7,0.15,0.15)")
    add(
        "--same-patient",
        type=integers,
        action="append",
        default=[],
        help="volumes of one patient; repeatable",
    )
    add("--stratify", action="store_true", help="sets with alike shares of slices with tumor; for small cohorts")
    add("--allow-non-hu", action="store_true", help="take values that are not HU")
    add("--ignore-label-affine", action="store_true", help="lay labels on their volume voxel for voxel")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m data.prepare`."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.size < 1:
        parser.error(f"--size: must be at least 1, got {given.size}")
    if given.seed < 0:
        parser.error(f"--seed: must not be negative, got {given.seed}")
    for flag in ("subset", "test", "validation"):
        if given.external and getattr(given, flag) is not None:
            parser.error(f"--{flag}: not together with --external")
    store = prepare(given)
    patients = {store.patient(case) for case in store.cases}
    sets = ", ".join(f"{name} {len(store.slices(name))}" for name in store.split["slices"])
    print(f"{store.path}: {len(store.cases)} cases, {len(patients)} patients; slices: {sets}")
    print(f"split {store.split['sha256']}")


if __name__ == "__main__":
    run_command(main, "python -m data.prepare")
