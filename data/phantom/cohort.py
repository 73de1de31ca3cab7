"""The two synthetic cohorts: their files, the clinical table, `cohort.json`.

Case k of a seed is the same whatever the number of cases; its anatomy does not depend on the size
either. The bytes are the same for the same versions of numpy, scipy, nibabel and zlib on the same
kind of processor; on another kind single voxels may differ by 1 HU.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.command import InputError
from data.files import hash_file, read_json, replace_file, write_json, write_text
from data.phantom.patient import Patient, Timing, draw_patient
from data.phantom.scan import Scan, acquire, draw_scan, save_nifti, turn_as_stored
from data.phantom.shapes import Range
from data.progress import print_line, track

SCHEMA = 2
RECORD, PROGRESS, CLINICAL = "cohort.json", ".cohort-unfinished.json", "clinical.csv"
FILES = {"volume": "volume-{}.nii.gz", "segmentation": "segmentation-{}.nii.gz"}
# One case in eight has no tumor, always the same one of the eight: a small cohort has its share.
HEALTHY_EVERY, HEALTHY_AT = 8, 5


@dataclass(frozen=True)
class Cohort:
    """What one hospital's cases have in common."""

    name: str
    number: int
    first_case: int
    timing: Timing
    tumor_mm: Range
    noise_sd_hu: Range
    noise_cutoff: Range
    note: str


MAIN = Cohort(
    name="phantom",
    number=0,
    first_case=0,
    timing=Timing(
        name="portal venous",
        liver=(66, 126),
        spleen_minus_liver=(-12, 28),
        aorta=(140, 185),
        kidney=(150, 200),
        portal_minus_liver=(35, 70),
        hepatic_minus_liver=(25, 55),
    ),
    tumor_mm=(5.0, 80.0),
    noise_sd_hu=(8.0, 20.0),
    noise_cutoff=(0.16, 0.26),
    note="Synthetic: drawn by a program, no patient's data, portal venous phase.",
)
EXTERNAL = Cohort(
    name="phantom-external",
    number=1,
    first_case=1000,
    timing=Timing(
        name="early portal (late arterial)",
        liver=(64, 90),
        spleen_minus_liver=(15, 55),
        aorta=(230, 320),
        kidney=(160, 220),
        portal_minus_liver=(30, 60),
        hepatic_minus_liver=(-10, 5),
    ),
    tumor_mm=(12.0, 100.0),
    noise_sd_hu=(22.0, 32.0),
    noise_cutoff=(0.35, 0.5),
    note=(
        "Synthetic: drawn by a program, no patient's data; shifted against the main cohort by "
        "earlier contrast timing (aorta 230-320 instead of 140-185 HU, liver 64-90 instead of "
        "66-126 HU, hepatic veins not enhanced), more noise (SD 22-32 instead of 8-20 HU), a "
        "sharper kernel (noise cut-off 0.35-0.5 instead of 0.16-0.26 cycles per pixel) and larger "
        "tumors (12-100 instead of 5-80 mm)."
    ),
)


def spawn_generators(cohort: Cohort, seed: int, case: int) -> list[np.random.Generator]:
    """Return the four independent generators of a case.

    They are of its body, scan, noise and clinical row.

    Args:
        cohort, seed, case: as of `draw_case`.
    """
    return np.random.default_rng([seed, cohort.number, case]).spawn(4)


def draw_case(
    cohort: Cohort, seed: int, size: int, case: int
) -> tuple[Patient, Scan, np.random.Generator]:
    """Draw one case: the patient, the scan, the generator of the noise.

    Args:
        cohort: which hospital.
        seed: of the cohort.
        size: in-plane matrix, pixels.
        case: 0, 1, ... within the cohort.
    """
    body, scanner, noise, _ = spawn_generators(cohort, seed, case)
    healthy = case % HEALTHY_EVERY == HEALTHY_AT
    patient = draw_patient(body, cohort.timing, cohort.tumor_mm, healthy)
    scan = draw_scan(scanner, patient, size, cohort.noise_sd_hu, cohort.noise_cutoff)
    return patient, scan, noise


def draw_clinical(rng: np.random.Generator, load: float, n_tumors: int) -> dict[str, Any]:
    """Draw a patient's clinical row, which tells the tumor load imperfectly.

    With z = (log10 max(load, 0.001) + 1.8) / 0.8, about -1.5 to 1.9 (the constants are invented):
    log10_afp, of ng/ml, is 1.2 + 0.7 z with noise of deviation 0.6; tumor_nodularity tells more
    than one tumor, wrongly in 15 % of the patients; vascular_invasion is "yes" with probability
    min(0.9, 0.05 + 2 load); the rest is independent of the tumor.

    Args:
        rng: of this patient's table alone.
        load: tumor voxels / liver voxels (tumor included).
        n_tumors: number of tumors.

    Returns:
        {column: value}.
    """
    z = (np.log10(max(load, 1e-3)) + 1.8) / 0.8
    many = (n_tumors > 1) != (rng.random() < 0.15)
    return {
        "log10_afp": round(float(1.2 + 0.7 * z + rng.normal(0, 0.6)), 2),
        "tumor_nodularity": "multinodular" if many else "uninodular",
        "vascular_invasion": "yes" if rng.random() < min(0.9, 0.05 + 2 * load) else "no",
        "age_years": int(np.clip(rng.normal(62, 10), 25, 90)),
        "sex": "male" if rng.random() < 0.75 else "female",
        "bilirubin_mg_dl": round(float(np.exp(rng.normal(0, 0.4))), 2),
        "cirrhosis": "yes" if rng.random() < 0.7 else "no",
    }


def write_case(out: Path, cohort: Cohort, seed: int, size: int, case: int) -> dict[str, Any]:
    """Write the two files of one case; return its entry of `cohort.json`.

    Args:
        out: folder of the cohort.
        cohort, seed, size, case: as in `draw_case`.
    """
    patient, scan, noise = draw_case(cohort, seed, size, case)
    arrays = dict(zip(FILES, acquire(patient, scan, noise), strict=True))
    number = cohort.first_case + case
    checksums = {}
    for kind, array in arrays.items():
        image, path = turn_as_stored(array, scan), out / FILES[kind].format(number)
        with replace_file(path) as temporary:
            save_nifti(temporary, image)
        checksums[kind] = hash_file(path)
    # The clinical table follows the load that the labels show, not the one that was drawn.
    labels = arrays["segmentation"]
    load = float((labels == 2).sum() / (labels > 0).sum())
    clinical_rng = spawn_generators(cohort, seed, case)[3]
    return {
        "case": f"volume-{number}",
        "clinical": draw_clinical(clinical_rng, load, len(patient.tumors)),
        "tumor_load": round(load, 5),
        "n_slices": scan.n_slices,
        "spacing_mm": [round(float(length), 6) for length in image.header.get_zooms()],
        "thickness_mm": round(scan.thickness_mm, 6),
        "orientation": scan.orientation,
        "noise_sd_hu": round(scan.noise_sd_hu, 3),
        "liver_hu": round(patient.hu["liver"], 3),
        "tumors": [
            {
                "diameter_mm": round(tumor.diameter_mm, 3),
                "contrast_hu": round(tumor.contrast_hu, 3),
                "kind": tumor.kind,
            }
            for tumor in patient.tumors
        ],
        "sha256": checksums,
    }


def find_finished_cases(
    out: Path, header: dict[str, Any], n_cases: int
) -> dict[str, dict[str, Any]]:
    """Return the entry of each case that an earlier call left in a folder.

    Args:
        out: folder of the cohort.
        header: the parameters, as `cohort.json` records them.
        n_cases: how many are asked for.

    Raises:
        InputError: `out` is not a folder, or holds another cohort, or files of unknown origin.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: not a folder")
    # An unfinished record is newer than a finished one.
    path = next((out / name for name in (PROGRESS, RECORD) if (out / name).is_file()), None)
    if path is None:
        strangers = sorted(out.glob("volume-*.nii*")) + sorted(out.glob("segmentation-*.nii*"))
        if strangers:
            raise InputError(
                f"{strangers[0]}: not from this command ({out} has no {RECORD}); use another --out"
            )
        return {}
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("cases"), list):
        raise InputError(f"{path}: not the record of a phantom cohort")
    for key, value in header.items():
        if record.get(key) != value:
            raise InputError(
                f"{path}: has {key} {record.get(key)!r}, not {value!r}; use another --out"
            )
    if len(record["cases"]) > n_cases:
        raise InputError(f"{path}: has {len(record['cases'])} cases, more than --cases {n_cases}")
    return {entry["case"]: entry for entry in record["cases"] if is_whole(out, entry)}


def is_whole(out: Path, entry: dict[str, Any]) -> bool:
    """Return whether both files of a case are there as recorded."""
    number = entry["case"].removeprefix("volume-")
    paths = {kind: out / name.format(number) for kind, name in FILES.items()}
    return all(
        path.is_file() and hash_file(path) == entry["sha256"][kind] for kind, path in paths.items()
    )


def write_cohort(out: Path, cohort: Cohort, n_cases: int, size: int, seed: int) -> dict[str, Any]:
    """Write the cases that a folder lacks, then `cohort.json`; return its content.

    Args:
        out: folder of the cohort.
        cohort: which hospital.
        n_cases: number of cases.
        size: in-plane matrix, pixels.
        seed: of the cohort.

    Raises:
        InputError: `out` holds something else (see `find_finished_cases`).
    """
    header = {"schema": SCHEMA, "cohort": cohort.name, "synthetic": True, "seed": seed}
    header["size"] = size
    entries = find_finished_cases(out, header, n_cases)
    names = [f"volume-{cohort.first_case + case}" for case in range(n_cases)]

    def make_record() -> dict[str, Any]:
        cases = [entries[name] for name in names if name in entries]
        return {**header, "n_cases": len(cases), "note": cohort.note, "cases": cases}

    # From here on the cohort is unfinished: a reader must not take the old record for the whole.
    if len(entries) < n_cases:
        write_json(out / PROGRESS, make_record())
        (out / RECORD).unlink(missing_ok=True)
    for case, name in enumerate(track(names, cohort.name)):
        if name not in entries:
            entries[name] = write_case(out, cohort, seed, size, case)
            write_json(out / PROGRESS, make_record())
        entry = entries[name]
        print_line(f"{name}: {entry['n_slices']} slices, {len(entry['tumors'])} tumors")
    if not (out / RECORD).is_file():
        write_clinical(out / CLINICAL, make_record()["cases"])
        write_json(out / RECORD, make_record())
    (out / PROGRESS).unlink(missing_ok=True)
    return make_record()


def write_clinical(path: Path, cases: Sequence[dict[str, Any]]) -> None:
    """Write the clinical rows as a table, from which `data.cohorts.lits` reads them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["case", *cases[0]["clinical"]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"case": entry["case"], **entry["clinical"]} for entry in cases)
    write_text(path, text.getvalue())
