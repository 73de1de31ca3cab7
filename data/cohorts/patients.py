"""Which volumes of all cohorts show the same person (`same_patients.json`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from data.files import read_json

LIST = Path(__file__).parent / "same_patients.json"
NOT_BESIDE_IRCAD = tuple(f"lits:volume-{number}" for number in range(27, 49))
"""LiTS volumes that must not train where 3D-IRCADb is the test.

28 to 47 are its patients 1 to 20 by their number of slices; sources that count by eye name 27 to
48, or leave out 45 and take 48 (https://github.com/assassint2017/MICCAI-LITS2017/issues/33), so the
two neighbours stay out as well.
"""


@cache
def _read_groups() -> dict[str, str]:
    """Return the first case of the group of each case in the list."""
    return {case: group["cases"][0] for group in read_json(LIST) for case in group["cases"]}


def identify_patient(cohort: str, case: str) -> str:
    """Return the patient of a case in all cohorts.

    The name is that of the first case of its group in the list, or its own. Task03_Liver's liver_N
    is LiTS' volume-N.
    """
    if cohort == "msd" and (match := re.fullmatch(r"liver_(\d+)", case)):
        cohort, case = "lits", f"volume-{int(match[1])}"
    if cohort == "ircad":
        case = case.lower()
    name = f"{cohort}:{case}"
    return _read_groups().get(name, name)


def find_shared_patients(
    patients: Mapping[str, str], tested: Iterable[str], layout: str
) -> dict[str, str]:
    """Return {case: patient} of patients who are, or may be, in another cohort.

    Args:
        patients: patient of each case.
        tested: patients of the other cohort.
        layout: of the other cohort, as "ircad".
    """
    shared = {*tested, *(NOT_BESIDE_IRCAD if layout == "ircad" else ())}
    return {case: patient for case, patient in patients.items() if patient in shared}
