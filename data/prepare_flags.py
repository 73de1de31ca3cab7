"""The command line of `data.prepare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.cohorts import COHORTS, Options, ircad
from data.command import Parser, parse_integers
from data.splits import FRACTIONS

ONLY_TO_TRAIN = ("subset", "test", "validation", "split", "external_store")
SAID_BY_A_SPLIT = (
    "subset",
    "test",
    "validation",
    "seed",
    "slices",
    "fractions",
    "stratify",
    "by_slice",
)
SAID_BY_PATIENTS = ("test", "validation", "external", "stratify")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the flags; a wrong one ends the program with one line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.size < 1:
        parser.error(f"--size: must be at least 1, got {given.size}")
    if given.seed < 0:
        parser.error(f"--seed: must not be negative, got {given.seed}")
    if given.jobs == 0:
        parser.error("--jobs: must be 1 or more, or -1 for all cores, got 0")
    for flag in ONLY_TO_TRAIN:
        if given.external and getattr(given, flag) is not None:
            parser.error(f"--{flag.replace('_', '-')}: not together with --external")
    for flag in SAID_BY_A_SPLIT:
        if given.split and getattr(given, flag) != parser.get_default(flag):
            parser.error(f"--{flag}: not together with --split, which says it already")
    for flag in SAID_BY_PATIENTS:
        if given.by_slice and getattr(given, flag) != parser.get_default(flag):
            parser.error(f"--{flag}: not together with --by-slice, which knows no patients")
    if given.shared_patients != "refuse" and not given.external_store:
        parser.error(
            "--shared-patients: needs --external-store, the cohort that they are shared with"
        )
    for flag, cohort in (("images", "nifti"), ("labels", "nifti"), ("lesions", "ircad")):
        if getattr(given, flag) != parser.get_default(flag) and given.cohort != cohort:
            parser.error(f"--{flag}: needs --cohort {cohort}")
    return given


def _fractions(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers separated by commas, got {text!r}"
        ) from None


def _cases(text: str) -> list[int | str]:
    """Parse cases by number or name, as 11,16 or HCC_003,HCC_007."""
    return [int(part) if part.isdecimal() else part for part in text.split(",")]


def _lesions(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in ircad.LESIONS:
            raise argparse.ArgumentTypeError(f"{name!r}: choose from {', '.join(ircad.LESIONS)}")
    return names


def _parser() -> Parser:
    parser = Parser(
        prog="python -m data.prepare", description="CT volumes with labels -> slice store"
    )
    add = parser.add_argument
    add("--source", type=Path, required=True, help="folder of the cohort")
    add("--store", type=Path, required=True, help="folder to make")
    add(
        "--cohort",
        choices=("auto", *COHORTS),
        default="auto",
        help="layout of the folder (default: recognised)",
    )
    add("--size", type=int, default=512, help="pixels per side (default 512)")
    add(
        "--jobs",
        type=int,
        default=1,
        help="cases at once, -1: one per core (default 1); each holds a volume in memory",
    )
    add(
        "--backend",
        default="loky",
        help="joblib's: loky (default), threading, dask:tcp://HOST:PORT",
    )
    add("--skip-bad", action="store_true", help="go on without the cases that cannot be used")
    _add_split_flags(parser)
    _add_cohort_flags(parser)
    return parser


def _add_split_flags(parser: Parser) -> None:
    add = parser.add_argument
    add("--subset", type=parse_integers, help="slices for train,validation,test (paper: 765,50,50)")
    add("--split", type=Path, help="a split.json to use as it is, cases and slices")
    add(
        "--external",
        action="store_true",
        help="only tested on; none of its patients may have trained (see --external-store)",
    )
    add(
        "--external-store",
        type=Path,
        help="the external cohort's store, whose patients must not be in this one",
    )
    add(
        "--shared-patients",
        choices=("refuse", "drop", "allow"),
        default="refuse",
        help="patients that the external store shows too: refuse (default), drop, or allow (tables say so)",
    )
    add("--seed", type=int, default=0, help="draws the split and the subset (default 0)")
    add(
        "--slices",
        choices=("liver", "all"),
        default="liver",
        help="slices with liver (default), or all",
    )
    add("--test", type=_cases, help="test volumes by number or name, as 11,16")
    add("--validation", type=_cases, help="validation volumes, as 22")
    add(
        "--fractions",
        type=_fractions,
        default=list(FRACTIONS),
        help="of patients (default 0.7,0.15,0.15)",
    )
    add(
        "--same-patient",
        type=_cases,
        action="append",
        default=[],
        help="volumes of one patient; repeatable",
    )
    add(
        "--by-slice",
        action="store_true",
        help="draw slices, not patients: leaks, only to measure how much; tables say so",
    )
    add(
        "--stratify",
        action="store_true",
        help="sets with alike shares of slices with tumor; for small cohorts",
    )


def _add_cohort_flags(parser: Parser) -> None:
    add = parser.add_argument
    options = Options()
    add(
        "--lesions",
        type=_lesions,
        default=options.lesions,
        help=f"3D-IRCADb: what counts as tumor, of {', '.join(ircad.LESIONS)} (default tumors)",
    )
    add(
        "--images",
        default=options.images,
        help=f"--cohort nifti: pattern (default {options.images})",
    )
    add(
        "--labels",
        default=options.label_files,
        help=f"--cohort nifti: pattern (default {options.label_files})",
    )
    add("--allow-non-hu", action="store_true", help="take values that are not HU")
    add(
        "--ignore-label-affine",
        action="store_true",
        help="lay labels on their volume voxel for voxel",
    )
    add(
        "--orient",
        choices=("affine", "anatomy"),
        default="affine",
        help="anatomy: mirror a volume whose spine, liver or lungs contradict its affine (default: only remark it)",
    )
