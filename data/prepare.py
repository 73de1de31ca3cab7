"""From a folder of CT volumes with labels to a slice store.

    python -m data.prepare --source DIR --store DIR [--cohort auto] [--size 512] [--subset 765,50,50] [--seed 0]

DIR holds a cohort that `data.cohorts` knows: LiTS (volume-N.nii[.gz] with segmentation-N.nii[.gz]), Task03_Liver,
3D-IRCADb-01, HCC-TACE-Seg, or pairs by pattern. A cohort.json beside LiTS' files, {"cohort": name, "synthetic":
true|false}, names another cohort of that layout. HU are clipped to [-1024, 3071].
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from data.cohorts import Case, Options, choose, lits, nifti
from data.cohorts.patients import patient_of, shared_patients
from data.command import InputError, run_command
from data.convert import Conversion, described, fill_case
from data.environment import git_commit, package_versions
from data.files import read_json, sha256_of_file
from data.folders import signature
from data.parallel import Failures, each_case
from data.prepare_flags import parse
from data.splits import (
    check_training_split,
    external_split,
    group_patients,
    make_split,
    split_by_slice,
)
from data.store import SCHEMA, Store, StoreWriter, finished_store

Entries = dict[str, dict[str, Any]]

DECIDES_NOTHING = (
    "store",
    "jobs",
    "backend",
    "skip_bad",
)  # flags that leave the content of a store as it is


def read_cohort(source: Path, layout: str) -> tuple[str, str, bool]:
    """Return (layout, cohort, synthetic): how the folder is read, what tables call it, whether it is a phantom.

    A cohort.json in the layout of LiTS names another cohort: nothing that is known of LiTS holds for it.

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
        layout: name in `data.cohorts.COHORTS`.
        cohort, synthetic: what tables call it.
        cases: by name, those that stay.
        identity: patient of each case in all cohorts, by the committed list.
        patient_of: the same, joined by `--same-patient`.
        external: the external cohort's store.
        shared: cases of patients that the external store shows too: dropped, or allowed.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Find the cases.

        Raises:
            InputError: what the cohort refuses; an unknown case in a flag; a patient of the external store.
        """
        self.folder: Path = arguments.source
        chosen = choose(arguments.cohort, self.folder)
        self.layout, self.cohort, self.synthetic = read_cohort(self.folder, chosen.name)
        options = Options(arguments.lesions, arguments.images, arguments.labels)
        self.cases = {case.name: case for case in chosen.find_cases(self.folder, options)}
        self.identity = {name: patient_of(self.cohort, name) for name in self.cases}
        groups = [self.named(group, "--same-patient") for group in arguments.same_patient]
        self.patient_of = group_patients(self.identity, groups)
        self.external = Store.open(arguments.external_store) if arguments.external_store else None
        self.shared = self._shared(arguments.shared_patients)
        if arguments.shared_patients == "drop":
            self.cases = {
                name: case for name, case in self.cases.items() if name not in self.shared
            }
        self.how = Conversion(
            self.layout,
            arguments.size,
            options,
            arguments.allow_non_hu,
            arguments.ignore_label_affine,
            arguments.orient,
        )

    def named(self, given: Sequence[int | str], flag: str) -> list[str]:
        """Return the cases that a flag names, by name or by the number at its end.

        Raises:
            InputError: there is no such case, or more than one.
        """
        names = []
        for one in given:
            found = [name for name, case in self.cases.items() if one in (name, case.number)]
            if len(found) != 1:
                what = f"no case {one}" if not found else f"{one} is {' and '.join(found)}"
                raise InputError(f"{flag}: {what} in {self.folder}")
            names += found
        return names

    def _shared(self, policy: str) -> list[str]:
        """Return the cases of patients that the external store shows too, with those of the same --same-patient."""
        if self.external is None:
            return []
        others = {entry["identity"] for entry in self.external.cases.values()}
        patients = {
            self.patient_of[name]
            for name in shared_patients(self.identity, others, self.external.layout)
        }
        shared = [name for name in self.cases if self.patient_of[name] in patients]
        if shared and policy == "refuse":
            raise InputError(
                f"{self.folder}: {', '.join(shared)} show, or may show, patients of the external cohort "
                f"{self.external.cohort}, which must not train (--shared-patients drop leaves them out)"
            )
        return shared

    def made_from(self, case: Case) -> dict[str, Any]:
        """Return what a finished case depends on; a case made from anything else is made again."""
        return {
            "image": signature(case.image),
            "labels": [signature(path) for path in case.labels],
            "patient": self.patient_of[case.name],
            "clinical": case.clinical,
            "how": json.loads(json.dumps(asdict(self.how))),  # as store.json gives it back
        }


def prepare(arguments: argparse.Namespace) -> Store:
    """Build the store, or go on with an unfinished one; do nothing where it is finished.

    Raises:
        InputError: a file, a flag or an existing store that does not fit.
    """
    source, made_from = None, None
    if arguments.source.exists() or not arguments.store.exists():
        source = Source(arguments)
        made_from = {name: source.made_from(case) for name, case in source.cases.items()}
    if arguments.store.resolve().is_relative_to(arguments.source.resolve()):
        raise InputError(f"--store {arguments.store}: lies in the source {arguments.source}")
    parameters = _parameters(arguments)
    if store := finished_store(arguments.store, parameters, made_from):
        print(f"{arguments.store}: already done")
        return store
    if source is None or made_from is None:
        raise InputError(f"{arguments.source}: no such folder")
    failures = Failures(arguments.skip_bad, list(source.cases))
    outline = _outline(source, arguments, failures)
    _split(outline, source, arguments)  # a split that cannot work fails before the long conversion
    with StoreWriter(arguments.store) as writer:
        entries = _convert(writer, source, outline, made_from, arguments, failures)
        _check_copies(entries, source.external)
        info = {
            "schema": SCHEMA,
            "cohort": source.cohort,
            "layout": source.layout,
            "synthetic": source.synthetic,
            "source": parameters["source"],
            "size": arguments.size,
            "n_slices": sum(entry["n_slices"] for entry in entries.values()),
            "parameters": parameters,
            "made_from": made_from,
            "skipped": failures.by_case,
            "shared_patients": {
                "policy": arguments.shared_patients,
                "cases": source.shared,
                "external_sha256": source.external and source.external.sha256,
            },
            "made_by": {"git_commit": git_commit(), "packages": package_versions()},
            "cases": entries,
        }
        writer.finish(info, _split(entries, source, arguments))
    return Store.open(arguments.store)


def _outline(source: Source, arguments: argparse.Namespace, failures: Failures) -> Entries:
    """Check every case's headers; return the largest number of slices each can give to a split."""
    work = {name: partial(_n_slices, case, source.how) for name, case in source.cases.items()}
    found = dict(each_case(work, arguments.jobs, arguments.backend, failures))
    failures.stop()
    return {
        name: {
            "n_slices": found[name],
            "liver_rows": range(found[name]),
            "patient": source.patient_of[name],
        }
        for name in source.cases
        if name in found
    }


def _n_slices(case: Case, how: Conversion) -> int:
    return how.open(case)[0].n_slices


def _convert(
    writer: StoreWriter,
    source: Source,
    names: Iterable[str],
    made_from: Mapping[str, dict[str, Any]],
    arguments: argparse.Namespace,
    failures: Failures,
) -> Entries:
    """Write every case that an earlier run did not finish, in parallel; print a line for each."""
    entries = {name: entry for name in names if (entry := writer.kept(name, made_from[name]))}
    for name, entry in entries.items():
        print(f"{name}: {described(entry)} (kept)", flush=True)
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
    for name, entry in each_case(work, arguments.jobs, arguments.backend, failures):
        entries[name] = entry
        print(f"{name}: {described(entry)}", flush=True)
    failures.stop()
    return {name: entries[name] for name in names if name in entries}


def _check_copies(cases: Entries, external: Store | None) -> None:
    """Refuse a volume that is there twice under two patients, or in the external store: one could train, one test."""
    seen: dict[str, str] = {}
    elsewhere = (
        {entry["sha256_image"]: case for case, entry in external.cases.items()} if external else {}
    )
    for case, entry in cases.items():
        other = seen.setdefault(entry["sha256_image"], case)
        if entry["patient"] != cases[other]["patient"]:
            raise InputError(
                f"{case}: the same voxels as {other}, another patient (--same-patient says they are one)"
            )
        if entry["sha256_image"] in elsewhere:
            raise InputError(
                f"{case}: the same voxels as {elsewhere[entry['sha256_image']]} of the external store"
            )


def _parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that decide what a store holds, as store.json records them."""
    given = vars(arguments)
    as_given = {name: value for name, value in given.items() if name not in DECIDES_NOTHING}
    return {
        **as_given,
        "source": arguments.source.resolve().name,
        "lesions": list(arguments.lesions),
        "split": arguments.split and sha256_of_file(arguments.split),
        "external_store": arguments.external_store and arguments.external_store.resolve().name,
    }


def _split(cases: Entries, source: Source, arguments: argparse.Namespace) -> dict[str, Any]:
    where = str(arguments.source)
    patients = {case: source.patient_of[case] for case in cases}
    if arguments.external:
        return external_split(cases, patients, which=arguments.slices, source=where)
    if arguments.split:
        given: dict[str, Any] = read_json(arguments.split)
        check_training_split(given, cases, str(arguments.split))
        return given
    if arguments.by_slice:
        return split_by_slice(
            cases,
            patients,
            seed=arguments.seed,
            fractions=arguments.fractions,
            subset=arguments.subset,
            which=arguments.slices,
            source=where,
        )

    def names(flag: str) -> list[str] | None:
        given = getattr(arguments, flag)
        return None if given is None else source.named(given, f"--{flag}")

    return make_split(
        cases,
        patients,
        seed=arguments.seed,
        fractions=arguments.fractions,
        test=names("test"),
        validation=names("validation"),
        subset=arguments.subset,
        which=arguments.slices,
        stratify=arguments.stratify,
        source=where,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m data.prepare`."""
    store = prepare(parse(arguments))
    patients = {store.patient(case) for case in store.cases}
    sets = ", ".join(f"{name} {len(store.slices(name))}" for name in store.split["slices"])
    print(f"{store.path}: {len(store.cases)} cases, {len(patients)} patients; slices: {sets}")
    print(f"split {store.split['sha256']}")
    if skipped := store.info.get("skipped"):
        print(f"left out as they cannot be used: {', '.join(skipped)}")


if __name__ == "__main__":
    run_command(main, "python -m data.prepare")
