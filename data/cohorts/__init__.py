"""The cohorts that `data.prepare` reads, one file each."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from data.cohorts import hcc_tace_seg, ircad, lits, msd, nifti
from data.cohorts.base import Case, Cohort, Options, check_folder
from data.command import InputError

COHORTS = {module.NAME: module.COHORT for module in (lits, msd, ircad, hcc_tace_seg, nifti)} | {
    lits.LAYOUT: lits.PLAIN
}

__all__ = ["COHORTS", "Case", "Cohort", "Options", "choose_cohort"]


def choose_cohort(name: str, source: Path) -> Cohort:
    """Return the cohort called `name`; "auto": the first that recognises the folder.

    Raises:
        InputError: no such folder, or none recognises it.
    """
    if name != "auto":
        return COHORTS[name]
    check_folder(source)
    for cohort in COHORTS.values():
        with suppress(OSError):  # a folder that may not be read is no sign of a cohort
            if cohort.recognise(source):
                return cohort
    raise InputError(
        f"{source}: no pair volume-N.nii[.gz] and segmentation-N.nii[.gz] in it, nor another "
        f"cohort's layout (--cohort {', '.join(COHORTS)} says which it should be)"
    )
