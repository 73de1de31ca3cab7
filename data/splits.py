"""Decide which patients train, which validate, which test.

A split by slice is there only to measure what it leaks. By hand, because scikit-learn's group
splitters know neither explicit cases nor a share of each set by tumor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data.command import InputError
from data.files import hash_json

SETS = ("train", "validation", "test")
FRACTIONS = (0.7, 0.15, 0.15)

Rows = dict[str, list[int]]


def group_patients(
    patient_of: Mapping[str, str], groups: Sequence[Sequence[str]]
) -> dict[str, str]:
    """Return the patient of each case, with the cases of each group as one patient.

    The patient has the name of the group's first case; groups that share a patient are joined.
    """
    patients = dict(patient_of)
    for group in groups:
        joined = {patients[case] for case in group}
        first = next(patient for patient in patients.values() if patient in joined)
        patients = {
            case: first if patient in joined else patient for case, patient in patients.items()
        }
    return patients


def make_split(
    slices_by_case: Mapping[str, Mapping[str, Any]],
    patient_of: Mapping[str, str],
    *,
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
    test: Collection[str] | None = None,
    validation: Collection[str] | None = None,
    subset: Sequence[int] | None = None,
    which: str = "liver",
    stratify: bool = False,
    source: str = "the store",
) -> dict[str, Any]:
    """Split cases into train, validation and test, each patient on one side.

    Args:
        slices_by_case: per case at least "n_slices" and "liver_rows" (the slices that hold liver).
        patient_of: patient of each case.
        seed: draws the patients of the sets that are not explicit, and the subset.
        fractions: share of the patients in train, validation and test; each set gets at least one.
        test, validation: explicit cases; every case of their patients must be named. A set that is
            not explicit is drawn from the rest; the remaining patients train.
        subset: slices per set (paper: 765, 50, 50), drawn at random without replacement.
        which: "liver" takes the slices that hold liver (paper, assumed), "all" takes every slice.
        stratify: draw each set's patients from equal shares of all, ordered by the number of slices
            with tumor ("tumor_rows"), so that a small set is not without tumor by chance.
        source: named in error messages.

    Returns:
        {"schema": 1, "seed", "rule", "patients": {set: [patient]}, "slices": {set: {case: [row]}},
        "sha256", "n_slices": {case: n}}. The hash is that of "slices", which lacks cases from which
        no slice is taken.

    Raises:
        InputError: fewer than 3 patients, an explicit case that is missing or listed twice, a
            patient on two sides, a set without patients or slices, fractions that are not 3
            positive numbers with sum 1, a subset larger than its set.
        ValueError: `which` is unknown.
    """
    _check_fractions(fractions)
    patients = list(dict.fromkeys(patient_of[case] for case in slices_by_case))
    if len(patients) < 3:
        raise InputError(
            f"{source}: a split needs at least 3 patients, one per set; "
            f"it holds {len(patients)} ({len(slices_by_case)} cases)"
        )
    # Patients to sides: the explicit ones first, then the drawn ones.
    explicit = {
        name: _find_explicit(name, cases, slices_by_case, patient_of)
        for name, cases in (("validation", validation), ("test", test))
        if cases
    }
    load = dict.fromkeys(patients, 0)
    for case, entry in slices_by_case.items():
        load[patient_of[case]] += len(entry.get("tumor_rows", ())) if stratify else 0
    sides = _draw_sides(load, explicit, seed, fractions, source)
    # Slices of each side, all of them or a subset.
    rows = {case: _choose_rows(entry, which) for case, entry in slices_by_case.items()}
    taken = {
        name: {case: rows[case] for case in rows if patient_of[case] in side}
        for name, side in sides.items()
    }
    if subset is not None:
        taken = _draw_subset(taken, subset, seed, source)
    rule = _describe_rule(fractions, explicit, subset, which, stratify)
    split = _make_record(seed, rule, sides, taken, source)
    drawn = {case for cases in split["slices"].values() for case in cases}
    n_slices = {case: slices_by_case[case]["n_slices"] for case in slices_by_case if case in drawn}
    return {**split, "n_slices": n_slices}


def make_split_by_slice(
    slices_by_case: Mapping[str, Mapping[str, Any]],
    patient_of: Mapping[str, str],
    *,
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
    subset: Sequence[int] | None = None,
    which: str = "liver",
    source: str = "the store",
) -> dict[str, Any]:
    """Split slices into train, validation and test without regard to patients.

    Neighbouring slices look alike, so its test scores are too good. It is here to be measured
    against `make_split`, because the paper does not say which it did. The split says "by": "slice",
    and so do the tables.

    Args:
        slices_by_case, patient_of, seed, subset, which, source: as of `make_split`.
        fractions: share of the slices in train, validation and test.

    Returns:
        As `make_split`.

    Raises:
        InputError: as `make_split`, or more slices than there are.
    """
    _check_fractions(fractions)
    pool = _list_slices(
        {case: _choose_rows(entry, which) for case, entry in slices_by_case.items()}
    )
    counts = [max(1, int(len(pool) * part)) for part in fractions]
    if subset is not None:
        counts = _check_subset(subset)
    if sum(counts) > len(pool):
        raise InputError(f"{source}: {sum(counts)} slices are asked for, it holds {len(pool)}")
    # One order of all slices, cut into the three sets.
    order = np.random.default_rng([seed, 4]).permutation(len(pool))
    taken: dict[str, Rows] = {}
    for index, name in enumerate(SETS):
        chosen = order[sum(counts[:index]) : sum(counts[: index + 1])]
        taken[name] = _take_slices(pool, chosen)
    sides = {
        name: list(dict.fromkeys(patient_of[case] for case in cases))
        for name, cases in taken.items()
    }
    sizes = "/".join(map(str, counts))
    rule = f"BY SLICE, patients on several sides; {_SLICES_RULE[which]}, {sizes} drawn at random"
    split = _make_record(seed, rule, sides, taken, source)
    return {
        **split,
        "by": "slice",
        "n_slices": {case: entry["n_slices"] for case, entry in slices_by_case.items()},
    }


def make_external_split(
    slices_by_case: Mapping[str, Mapping[str, Any]],
    patient_of: Mapping[str, str],
    *,
    which: str = "liver",
    source: str = "the store",
) -> dict[str, Any]:
    """Put every case in the one set "external": a cohort that is only tested on.

    Args:
        slices_by_case, patient_of, which, source: as of `make_split`.

    Returns:
        As `make_split`; the seed is None.

    Raises:
        InputError: no slice to take.
        ValueError: `which` is unknown.
    """
    rows = {case: _choose_rows(entry, which) for case, entry in slices_by_case.items()}
    sides = {"external": list(dict.fromkeys(patient_of[case] for case in slices_by_case))}
    rule = f"every case is external; {_SLICES_RULE[which]}"
    return _make_record(None, rule, sides, {"external": rows}, source)


def check_split(
    split: Mapping[str, Any], store_cases: Mapping[str, Mapping[str, Any]], name: str = "split"
) -> None:
    """Check a split against a store's cases.

    Its hash, cases and rows must fit, and no patient (by slice: no slice) be in two sets.

    Args:
        split: as `make_split` returns it.
        store_cases: per case at least "patient" and "n_slices".
        name: the file, for the message.

    Raises:
        InputError: one of them does not hold.
    """
    needed = {"schema", "slices", "sha256"}
    if not isinstance(split, dict) or not needed <= split.keys() or split["schema"] != 1:
        raise InputError(f"{name}: not a split of schema 1")
    if not _is_list_of_rows(split["slices"]):
        raise InputError(
            f"{name}: slices must be {{set: {{case: [row]}}}}, whole numbers, each row once"
        )
    if hash_json(split["slices"]) != split["sha256"]:
        raise InputError(f"{name}: its slices do not match its sha256; it was edited or damaged")
    # Each patient, or slice, belongs to the first set that names it.
    by_slice = split.get("by") == "slice"
    set_of: dict[str, str] = {}
    for set_name, cases in split["slices"].items():
        for case, rows in cases.items():
            if case not in store_cases:
                raise InputError(f"{name}: {case} of {set_name} is not in the store")
            entry = store_cases[case]
            if rows and not 0 <= min(rows) <= max(rows) < entry["n_slices"]:
                raise InputError(f"{name}: {case} has rows outside its {entry['n_slices']} slices")
            members = [f"{case}, slice {row}," for row in rows]
            for member in members if by_slice else [f"patient {entry['patient']}"]:
                first = set_of.setdefault(member, set_name)
                if first != set_name:
                    raise InputError(f"{name}: {member} is in both {first} and {set_name}")


def check_training_split(
    split: Mapping[str, Any], store_cases: Mapping[str, Mapping[str, Any]], name: str
) -> None:
    """Check a split from elsewhere, also its sets and its volumes.

    Args:
        split, store_cases, name: as of `check_split`.

    Raises:
        InputError: one of them does not hold.
    """
    check_split(split, store_cases, name)
    if set(split["slices"]) != set(SETS) or not all(split["slices"].values()):
        raise InputError(
            f"{name}: must hold the sets {', '.join(SETS)}, none empty, "
            f"it has {', '.join(split['slices'])}"
        )
    for case, n_slices in split.get("n_slices", {}).items():
        if case in store_cases and store_cases[case]["n_slices"] != n_slices:
            raise InputError(
                f"{name}: was drawn from a {case} of {n_slices} slices, "
                f"this one has {store_cases[case]['n_slices']}"
            )


def _is_list_of_rows(slices: Any) -> bool:
    return isinstance(slices, dict) and all(
        isinstance(cases, dict)
        and all(
            isinstance(rows, list)
            and all(type(row) is int for row in rows)
            and len(set(rows)) == len(rows)
            for rows in cases.values()
        )
        for cases in slices.values()
    )


_SLICES_RULE = {"liver": "slices that hold liver", "all": "all slices"}


def _choose_rows(entry: Mapping[str, Any], which: str) -> list[int]:
    if which not in _SLICES_RULE:
        raise ValueError(f'which must be "liver" or "all", got {which!r}')
    return list(entry["liver_rows"]) if which == "liver" else list(range(entry["n_slices"]))


def _check_fractions(fractions: Sequence[float]) -> None:
    are_positive = all(part > 0 for part in fractions)  # NaN is not
    if len(fractions) != 3 or not are_positive or not abs(sum(fractions) - 1) < 1e-6:
        raise InputError(f"fractions must be 3 positive numbers with sum 1, got {list(fractions)}")


def _check_subset(subset: Sequence[int]) -> list[int]:
    if len(subset) != 3 or min(subset) < 1:
        raise InputError(
            f"--subset: three positive numbers (train, validation, test), got {list(subset)}"
        )
    return list(subset)


def _list_slices(rows: Rows) -> list[tuple[str, int]]:
    return [(case, row) for case, numbers in rows.items() for row in numbers]


def _take_slices(pool: Sequence[tuple[str, int]], chosen: Iterable[int]) -> Rows:
    """Return the slices at some places of a list, by case, in the list's order."""
    taken: Rows = {}
    for place in sorted(chosen):
        case, row = pool[place]
        taken.setdefault(case, []).append(row)
    return taken


def _find_explicit(
    name: str, cases: Collection[str], known: Mapping[str, Any], patient_of: Mapping[str, str]
) -> list[str]:
    missing = [case for case in cases if case not in known]
    if missing:
        raise InputError(f"--{name}: no case {', '.join(missing)} in the source")
    if len(set(cases)) < len(cases):
        raise InputError(f"--{name}: a case is named twice in {', '.join(cases)}")
    patients = list(dict.fromkeys(patient_of[case] for case in known if case in set(cases)))
    for case in known:
        if patient_of[case] in patients and case not in cases:
            raise InputError(
                f"--{name}: {case} is the same patient as a case named there, so it must be named "
                "too; a patient stays on one side"
            )
    return patients


def _draw_sides(
    load: Mapping[str, int],
    explicit: Mapping[str, list[str]],
    seed: int,
    fractions: Sequence[float],
    source: str,
) -> dict[str, list[str]]:
    sides, patients = dict(explicit), list(load)
    both = [patient for patient in sides.get("test", []) if patient in sides.get("validation", [])]
    if both:
        raise InputError(f"--test and --validation: patient {both[0]} is on both sides")
    named = {patient for side in sides.values() for patient in side}
    free = [patient for patient in patients if patient not in named]
    shuffled = [free[i] for i in np.random.default_rng([seed, 0]).permutation(len(free))]
    weights = dict(zip(SETS, fractions, strict=True))
    drawn = [name for name in ("test", "validation") if name not in sides]
    total = sum(weights[name] for name in ("train", *drawn))
    # fractions count from the patients that are not explicit; rounding half up, at least one each
    counts = {name: max(1, int(len(free) * weights[name] / total + 0.5)) for name in drawn}
    while sum(counts.values()) >= len(free) and max(counts.values(), default=0) > 1:
        counts[max(counts, key=counts.__getitem__)] -= 1  # one patient stays for training
    for name in drawn:
        ordered = sorted(shuffled, key=load.__getitem__)  # of equal load: in the drawn order
        sides[name] = _draw_from_shares(ordered, counts[name], shuffled)
        shuffled = [patient for patient in shuffled if patient not in sides[name]]
    sides["train"] = shuffled
    for name in SETS:
        if not sides[name]:
            raise InputError(
                f"{source}: no patient is left for {name}; {len(patients)} patients in all"
            )
    return {name: [patient for patient in patients if patient in set(sides[name])] for name in SETS}


def _draw_from_shares(ordered: list[str], n: int, draw_order: list[str]) -> list[str]:
    """Cut a list into n equal shares and take of each who was drawn first."""
    shares = [ordered[i * len(ordered) // n : (i + 1) * len(ordered) // n] for i in range(n)]
    return [min(share, key=draw_order.index) for share in shares if share]


def _draw_subset(
    taken: Mapping[str, Rows], subset: Sequence[int], seed: int, source: str
) -> dict[str, Rows]:
    drawn: dict[str, Rows] = {}
    for index, (name, size) in enumerate(zip(SETS, _check_subset(subset), strict=True), start=1):
        pool = _list_slices(taken[name])
        if size > len(pool):
            raise InputError(
                f"{source}: --subset wants {size} slices for {name}, that set holds {len(pool)}"
            )
        rng = np.random.default_rng([seed, index])
        drawn[name] = _take_slices(pool, rng.choice(len(pool), size=size, replace=False))
    return drawn


def _describe_rule(
    fractions: Sequence[float],
    explicit: Mapping[str, list[str]],
    subset: Sequence[int] | None,
    which: str,
    stratify: bool,
) -> str:
    parts = [f"by patient, {'/'.join(f'{part:g}' for part in fractions)} drawn by the seed"]
    if stratify:
        parts.append("stratified by the number of slices with tumor")
    if explicit:
        parts.append(f"{' and '.join(sorted(explicit))} explicit")
    parts.append(_SLICES_RULE[which])
    if subset is not None:
        parts.append(f"of these {'/'.join(map(str, subset))} drawn at random without replacement")
    return "; ".join(parts)


def _make_record(
    seed: int | None, rule: str, sides: dict[str, list[str]], taken: Mapping[str, Rows], source: str
) -> dict[str, Any]:
    slices = {
        name: {case: rows for case, rows in cases.items() if rows} for name, cases in taken.items()
    }
    for name, cases in slices.items():
        if not cases:
            raise InputError(f"{source}: the set {name} holds no slice ({rule})")
    return {
        "schema": 1,
        "seed": seed,
        "rule": rule,
        "patients": sides,
        "slices": slices,
        "sha256": hash_json(slices),
    }
