"""Make a slice store from a folder of CT volumes with labels.

The folder holds a cohort that `data.cohorts` knows: LiTS, Task03_Liver, 3D-IRCADb-01, HCC-TACE-Seg,
or pairs by pattern. A cohort.json beside LiTS' files, {"cohort": name, "synthetic": true|false},
names another cohort of that layout. HU are clipped to [-1024, 3071].
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from data.cohorts import COHORTS, Case, Options, choose_cohort, ircad, lits, nifti
from data.cohorts.patients import find_shared_patients, identify_patient
from data.command import InputError, Parser, parse_integers, parse_numbers, run_command
from data.convert import Conversion, describe_case, fill_case
from data.environment import describe_commit, list_packages
from data.files import hash_file, read_json
from data.folders import sign_files
from data.parallel import Failures, run_cases
from data.progress import print_line
from data.splits import (
    FRACTIONS,
    check_training_split,
    group_patients,
    make_external_split,
    make_split,
    make_split_by_slice,
)
from data.store import SCHEMA, Store, StoreWriter, find_finished_store

Entries = dict[str, dict[str, Any]]

COMMAND = "python -m data.prepare"
EXAMPLE = """
    python -m data.prepare --source LITS --store out/lits --jobs 2
    python -m data.prepare --source LITS --store out/lits-512 --size 512 --subset 765,50,50
"""
SIZE = 128  # of the presets demo and mini; the networks of `paper` see the slices as they are

# Flags that leave the content of a store as it is.
DECIDES_NOTHING = ("store", "jobs", "backend", "skip_bad")
# Flags that mean nothing beside --external, --split and --by-slice.
ONLY_TO_TRAIN = ("subset", "test", "validation", "split", "external_store")
GIVEN_BY_PATIENTS = ("test", "validation", "stratify")
GIVEN_BY_A_SPLIT = (*GIVEN_BY_PATIENTS, "subset", "seed", "slices", "fractions", "by_slice")


def read_cohort(source: Path, layout: str) -> tuple[str, str, bool]:
    """Return the layout of a folder, its cohort's name, and whether it is a phantom.

    A cohort.json in the layout of LiTS names another cohort, so nothing known of LiTS holds for it.

    Raises:
        InputError: cohort.json lacks them, or the source is a phantom that is not finished.
    """
    path = source / "cohort.json"
    if (source / ".cohort-unfinished.json").exists():  # would pass for LiTS
        raise InputError(f"{source}: a phantom cohort that is not finished; run data.phantom again")
    if layout in (lits.NAME, lits.LAYOUT) and path.exists():
        content = read_json(path)
        name = content.get("cohort") if isinstance(content, dict) else None
        if not isinstance(name, str) or not isinstance(content.get("synthetic"), bool):
            raise InputError(f'{path}: needs "cohort" (a name) and "synthetic" (true or false)')
        return lits.LAYOUT, name, content["synthetic"]
    return layout, source.resolve().name if layout in (nifti.NAME, lits.LAYOUT) else layout, False


class Source:
    """The cases of a folder with their patients, as the flags ask for them.

    Attributes:
        folder: of the cohort.
        layout: name in `data.cohorts.COHORTS`.
        cohort, synthetic: what tables call it, and whether it is a phantom.
        cases: by name, those that are used.
        identity: patient of each case in all cohorts, by the committed list.
        patient_of: the same, joined by `--same-patient`.
        external: the external cohort's store.
        shared: cases of patients that the external store shows too: dropped, or allowed.
        how: the conversion of a case.
    """

    def __init__(self, flags: argparse.Namespace) -> None:
        """Find the cases.

        Raises:
            InputError: what the cohort refuses; an unknown case in a flag; a patient of the
                external store.
        """
        self.folder: Path = flags.source
        chosen = choose_cohort(flags.cohort, self.folder)
        self.layout, self.cohort, self.synthetic = read_cohort(self.folder, chosen.name)
        # The cases, then who they are: in all cohorts, and joined by the user.
        options = Options(flags.lesions, flags.images, flags.labels)
        self.cases = {case.name: case for case in chosen.find_cases(self.folder, options)}
        self.identity = {name: identify_patient(self.cohort, name) for name in self.cases}
        groups = [self.look_up(group, "--same-patient") for group in flags.same_patient]
        self.patient_of = group_patients(self.identity, groups)
        # Patients of the external cohort are found after joining, so that none hides.
        self.external = Store.open(flags.external_store) if flags.external_store else None
        self.shared = self._find_shared(flags.shared_patients)
        if flags.shared_patients == "drop":
            for name in self.shared:
                del self.cases[name]
        self.how = Conversion(
            self.layout,
            flags.size,
            options,
            flags.allow_non_hu,
            flags.ignore_label_affine,
            flags.orient,
        )

    def look_up(self, given: Sequence[int | str], flag: str) -> list[str]:
        """Return the cases that a flag names, by name or by the number at its end.

        Raises:
            InputError: there is no such case, or more than one.
        """
        names = []
        for key in given:
            matching = [name for name, case in self.cases.items() if key in (name, case.number)]
            if len(matching) != 1:
                what = f"{key} is {' and '.join(matching)}" if matching else f"no case {key}"
                raise InputError(f"{flag}: {what} in {self.folder}")
            names += matching
        return names

    def _find_shared(self, policy: str) -> list[str]:
        """Return the cases of patients whom the external store shows, too."""
        if self.external is None:
            return []
        tested = {entry["identity"] for entry in self.external.cases.values()}
        same = find_shared_patients(self.identity, tested, self.external.layout)
        patients = {self.patient_of[name] for name in same}
        shared = [name for name in self.cases if self.patient_of[name] in patients]
        if shared and policy == "refuse":
            raise InputError(
                f"{self.folder}: {', '.join(shared)} show, or may show, patients of the external "
                f"cohort {self.external.cohort}, which must not train "
                "(--shared-patients drop leaves them out)"
            )
        return shared

    def sign_case(self, case: Case) -> dict[str, Any]:
        """Return what a case depends on; where that changed, it is made again."""
        return {
            "image": sign_files(case.image),
            "labels": [sign_files(path) for path in case.labels],
            "patient": self.patient_of[case.name],
            "clinical": case.clinical,
            "how": json.loads(json.dumps(asdict(self.how))),  # as store.json gives it back
        }


def prepare(flags: argparse.Namespace) -> Store:
    """Build the store, or go on with an unfinished one; leave a finished one.

    Raises:
        InputError: a file, a flag or an existing store that does not fit.
    """
    source, made_from = None, None
    if flags.source.exists() or not flags.store.exists():
        source = Source(flags)
        made_from = {name: source.sign_case(case) for name, case in source.cases.items()}
    if flags.store.resolve().is_relative_to(flags.source.resolve()):
        raise InputError(f"--store {flags.store}: lies in the source {flags.source}")
    parameters = _record_flags(flags)
    if store := find_finished_store(flags.store, parameters, made_from):
        print(f"{flags.store}: already done")
        return store
    if source is None or made_from is None:
        raise InputError(f"{flags.source}: no such folder")
    failures = Failures(flags.skip_bad, list(source.cases))
    outline = _outline(source, flags, failures)
    _split(outline, source, flags)  # a split that cannot work fails before the long conversion
    with StoreWriter(flags.store) as writer:
        entries = _convert(writer, source, outline, made_from, flags, failures)
        _check_copies(entries, source.external)
        info = {
            "schema": SCHEMA,
            "cohort": source.cohort,
            "layout": source.layout,
            "synthetic": source.synthetic,
            "source": parameters["source"],
            "size": flags.size,
            "n_slices": sum(entry["n_slices"] for entry in entries.values()),
            "parameters": parameters,
            "made_from": made_from,
            "skipped": failures.by_case,
            "shared_patients": {
                "policy": flags.shared_patients,
                "cases": source.shared,
                "external_sha256": source.external and source.external.sha256,
            },
            "made_by": {"git_commit": describe_commit(), "packages": list_packages()},
            "cases": entries,
        }
        writer.finish(info, _split(entries, source, flags))
    return Store.open(flags.store)


def _outline(source: Source, flags: argparse.Namespace, failures: Failures) -> Entries:
    """Check every case's headers; return how many slices each has at most."""
    work = {name: partial(_count_slices, case, source.how) for name, case in source.cases.items()}
    n_slices = dict(run_cases(work, flags.jobs, flags.backend, failures, "headers"))
    failures.stop()
    return {
        name: {
            "n_slices": n_slices[name],
            "liver_rows": range(n_slices[name]),
            "patient": source.patient_of[name],
        }
        for name in source.cases
        if name in n_slices
    }


def _count_slices(case: Case, how: Conversion) -> int:
    return how.open(case)[0].n_slices


def _convert(
    writer: StoreWriter,
    source: Source,
    names: Iterable[str],
    made_from: Mapping[str, dict[str, Any]],
    flags: argparse.Namespace,
    failures: Failures,
) -> Entries:
    """Write every case that an earlier run did not finish; print a line for each.

    Return the cases' entries in store.json.
    """
    # Finished cases stay, so that an interrupted call goes on.
    entries = {name: entry for name in names if (entry := writer.find_case(name, made_from[name]))}
    for name, entry in entries.items():
        print_line(f"{name}: {describe_case(entry)} (kept)")
    work: dict[str, Callable[[], dict[str, Any]]] = {}
    for name in names:
        if name not in entries:
            fill = partial(
                fill_case,
                case=source.cases[name],
                patient=source.patient_of[name],
                identity=source.identity[name],
                how=source.how,
            )
            work[name] = partial(writer.write_case, name, made_from[name], fill)
    # Cases finish in any order; a bad one stops the command only at the end.
    for name, entry in run_cases(work, flags.jobs, flags.backend, failures, "prepare"):
        entries[name] = entry
        print_line(f"{name}: {describe_case(entry)}")
    failures.stop()
    return {name: entries[name] for name in names if name in entries}


def _check_copies(cases: Entries, external: Store | None) -> None:
    """Refuse a volume under two patients, or in the external store."""
    first_with: dict[str, str] = {}
    tested = external.cases if external else {}
    elsewhere = {entry["sha256_image"]: case for case, entry in tested.items()}
    for case, entry in cases.items():
        voxels = entry["sha256_image"]
        first = first_with.setdefault(voxels, case)
        if entry["patient"] != cases[first]["patient"]:
            raise InputError(
                f"{case}: the same voxels as {first}, another patient "
                "(--same-patient says they are one)"
            )
        if voxels in elsewhere:
            raise InputError(
                f"{case}: the same voxels as {elsewhere[voxels]} of the external store"
            )


def _record_flags(flags: argparse.Namespace) -> dict[str, Any]:
    """Return the flags that decide what a store holds, as store.json records them."""
    as_given = {name: value for name, value in vars(flags).items() if name not in DECIDES_NOTHING}
    return {
        **as_given,
        "source": flags.source.resolve().name,
        "lesions": list(flags.lesions),
        "split": flags.split and hash_file(flags.split),
        "external_store": flags.external_store and flags.external_store.resolve().name,
    }


def _split(cases: Entries, source: Source, flags: argparse.Namespace) -> dict[str, Any]:
    """Split the cases, or take the split that is given."""
    patients = {case: source.patient_of[case] for case in cases}
    settings: dict[str, Any] = {"which": flags.slices, "source": str(flags.source)}
    if flags.external:
        return make_external_split(cases, patients, **settings)
    if flags.split:
        split: dict[str, Any] = read_json(flags.split)
        check_training_split(split, cases, str(flags.split))
        return split
    settings |= {"seed": flags.seed, "fractions": flags.fractions, "subset": flags.subset}
    if flags.by_slice:
        return make_split_by_slice(cases, patients, **settings)
    for flag in ("test", "validation"):
        given = getattr(flags, flag)
        settings[flag] = None if given is None else source.look_up(given, f"--{flag}")
    return make_split(cases, patients, stratify=flags.stratify, **settings)


def parse_flags(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the flags; a wrong one ends the program with one line."""
    parser = _make_parser()
    flags = parser.parse_args(arguments)

    def is_given(flag: str) -> bool:
        return bool(getattr(flags, flag) != parser.get_default(flag))

    if flags.size < 1:
        parser.error(f"--size: must be at least 1, got {flags.size}")
    if flags.seed < 0:
        parser.error(f"--seed: must not be negative, got {flags.seed}")
    if flags.jobs == 0:
        parser.error("--jobs: must be 1 or more, or -1 for all cores, got 0")
    # A flag that would do nothing is refused, not ignored.
    for is_chosen, useless, why in (
        (flags.external, ONLY_TO_TRAIN, "--external"),
        (flags.split, GIVEN_BY_A_SPLIT, "--split, which says it already"),
        (flags.by_slice, (*GIVEN_BY_PATIENTS, "external"), "--by-slice, which knows no patients"),
    ):
        for flag in useless:
            if is_chosen and is_given(flag):
                parser.error(f"--{flag.replace('_', '-')}: not together with {why}")
    if flags.shared_patients != "refuse" and not flags.external_store:
        parser.error(
            "--shared-patients: needs --external-store, the cohort that they are shared with"
        )
    for flag, cohort in (("images", "nifti"), ("labels", "nifti"), ("lesions", "ircad")):
        if is_given(flag) and flags.cohort != cohort:
            parser.error(f"--{flag}: needs --cohort {cohort}")
    return flags


def _parse_cases(text: str) -> list[int | str]:
    """Parse cases by number or name, as 11,16 or HCC_003,HCC_007."""
    return [int(part) if part.isdecimal() else part for part in text.split(",")]


def _parse_lesions(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in ircad.LESIONS:
            raise argparse.ArgumentTypeError(f"{name!r}: choose from {', '.join(ircad.LESIONS)}")
    return names


def _make_parser() -> Parser:
    parser = Parser(
        prog=COMMAND,
        description="Turn CT volumes with labels into a slice store.",
        example=EXAMPLE,
    )
    add = parser.add_argument
    add("--source", type=Path, required=True, metavar="DIR", help="folder of the cohort")
    add("--store", type=Path, required=True, metavar="DIR", help="folder to make")
    size = f"pixels per side (default {SIZE}; the presets paper and paper-short need 512)"
    add("--size", type=int, default=SIZE, metavar="N", help=size)
    names = ("auto", *COHORTS)
    add(
        "--cohort", choices=names, default="auto", help="layout of the folder (default: recognised)"
    )

    add = parser.add_argument_group("who is in which set").add_argument
    sizes = "slices for train,validation,test (paper: 765,50,50)"
    add("--subset", type=parse_integers, metavar="N,N,N", help=sizes)
    add("--seed", type=int, default=0, metavar="N", help="draws split and subset (default 0)")
    slices = "slices with liver (default), or all"
    add("--slices", choices=("liver", "all"), default="liver", help=slices)
    cases: dict[str, Any] = {"type": _parse_cases, "metavar": "CASES"}
    add("--test", **cases, help="test volumes by number or name, as 11,16")
    add("--validation", **cases, help="validation volumes, as 22")
    same = "volumes of one patient; repeatable"
    add("--same-patient", **cases, action="append", default=[], help=same)
    shares = f"of patients (default {','.join(map(str, FRACTIONS))})"
    add("--fractions", type=parse_numbers, default=list(FRACTIONS), metavar="F,F,F", help=shares)
    stratify = "sets with alike shares of slices with tumor; for small cohorts"
    add("--stratify", action="store_true", help=stratify)
    add("--split", type=Path, metavar="FILE", help="a split.json to use as it is")
    leaks = "draw slices, not patients: leaks, only to measure how much; tables say so"
    add("--by-slice", action="store_true", help=leaks)

    add = parser.add_argument_group("external cohort").add_argument
    only = "only tested on; none of its patients may have trained (see --external-store)"
    add("--external", action="store_true", help=only)
    held = "the external cohort's store, whose patients must not be in this one"
    add("--external-store", type=Path, metavar="DIR", help=held)
    policy = "patients that it shows too: refuse (default), drop, or allow (tables say so)"
    policies = ("refuse", "drop", "allow")
    add("--shared-patients", choices=policies, default="refuse", help=policy)

    add = parser.add_argument_group("what counts as CT and label").add_argument
    options = Options()
    lesions = f"3D-IRCADb: what counts as tumor, of {', '.join(ircad.LESIONS)} (default tumors)"
    add("--lesions", type=_parse_lesions, default=options.lesions, metavar="NAMES", help=lesions)
    for flag, pattern in (("--images", options.images), ("--labels", options.label_files)):
        text = f"--cohort nifti: pattern (default {pattern})"
        add(flag, default=pattern, metavar="PATTERN", help=text)
    add("--allow-non-hu", action="store_true", help="take values that are not HU")
    voxelwise = "lay labels on their volume voxel for voxel"
    add("--ignore-label-affine", action="store_true", help=voxelwise)
    mirror = "anatomy: mirror a volume whose spine, liver or lungs contradict its affine "
    mirror += "(default affine: only remark it)"
    add("--orient", choices=("affine", "anatomy"), default="affine", help=mirror)

    add = parser.add_argument_group("work").add_argument
    jobs = "cases at once, -1: one per core (default 1); each holds a volume in memory"
    add("--jobs", type=int, default=1, metavar="N", help=jobs)
    backend = "joblib's: loky (default), threading, dask:tcp://HOST:PORT"
    add("--backend", default="loky", metavar="NAME", help=backend)
    skip = "go on without the cases that cannot be used"
    add("--skip-bad", action="store_true", help=skip)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m data.prepare`."""
    store = prepare(parse_flags(arguments))
    patients = {store.patient(case) for case in store.cases}
    sets = ", ".join(f"{name} {len(store.slices(name))}" for name in store.split["slices"])
    print(f"{store.path}: {len(store.cases)} cases, {len(patients)} patients; slices: {sets}")
    print(f"split {store.split['sha256']}")
    if skipped := store.info.get("skipped"):
        print(f"left out as they cannot be used: {', '.join(skipped)}")


if __name__ == "__main__":
    run_command(main, COMMAND)
