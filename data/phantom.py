"""Write a cohort of synthetic abdominal CT volumes with liver and tumor labels, in the layout of LiTS.

    python -m data.phantom --out phantom --cases 40 --size 128
    python -m data.phantom --out phantom-external --cases 12 --size 128 --external

Nothing in these files comes from a patient. They let every stage of the project run, and be tested, where no real
data may be had; a score on them says nothing about real CT. Case k of a seed is the same whatever `--cases` is: its
anatomy does not depend on `--size` either. The bytes are the same for the same versions of numpy, scipy,
nibabel and zlib on the same kind of processor; on another kind single voxels may differ by 1 HU.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.command import InputError, Parser, run_command
from data.files import read_json, replacing, sha256_of_file, write_json, write_text
from data.phantom_anatomy import Patient, Timing
from data.phantom_clinical import draw_clinical
from data.phantom_imaging import Scan, acquire, as_stored, draw_scan, save_nifti
from data.phantom_patient import draw_patient

SCHEMA = 2
RECORD, PROGRESS, CLINICAL = "cohort.json", ".cohort-unfinished.json", "clinical.csv"
FILES = {"volume": "volume-{}.nii.gz", "segmentation": "segmentation-{}.nii.gz"}
# One case in eight has no tumor, always the same one of the eight: a small cohort has its share too.
HEALTHY_EVERY, HEALTHY_AT = 8, 5


@dataclass(frozen=True)
class Cohort:
    """What one hospital's cases have in common."""

    name: str
    number: int
    first_case: int
    timing: Timing
    tumor_mm: tuple[float, float]
    noise_sd_hu: tuple[float, float]
    noise_cutoff: tuple[float, float]
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
        "Synthetic: drawn by a program, no patient's data; shifted against the main cohort by earlier contrast "
        "timing (aorta 230-320 instead of 140-185 HU, liver 64-90 instead of 66-126 HU, hepatic veins not "
        "enhanced), more noise (SD 22-32 instead of 8-20 HU), a sharper kernel (noise cut-off 0.35-0.5 instead "
        "of 0.16-0.26 cycles per pixel) and larger tumors (12-100 instead of 5-80 mm)."
    ),
)


def generators(cohort: Cohort, seed: int, case: int) -> list[np.random.Generator]:
    """Return the generators of a case: of its body, of its scan, of the noise, of its clinical row."""
    return np.random.default_rng([seed, cohort.number, case]).spawn(4)


def draw_case(
    cohort: Cohort, seed: int, size: int, case: int
) -> tuple[Patient, Scan, np.random.Generator]:
    """Draw case number `case` (0, 1, ... within its cohort): the patient, the scan, the generator of the noise."""
    body, scanner, noise = generators(cohort, seed, case)[:3]
    healthy = case % HEALTHY_EVERY == HEALTHY_AT
    patient = draw_patient(body, cohort.timing, cohort.tumor_mm, healthy)
    return (
        patient,
        draw_scan(scanner, patient, size, cohort.noise_sd_hu, cohort.noise_cutoff),
        noise,
    )


def write_case(out: Path, cohort: Cohort, seed: int, size: int, case: int) -> dict[str, Any]:
    """Write the two files of one case and return its entry of `cohort.json`."""
    patient, scan, noise = draw_case(cohort, seed, size, case)
    arrays = dict(zip(FILES, acquire(patient, scan, noise), strict=True))
    number = cohort.first_case + case
    checksums = {}
    for kind, array in arrays.items():
        image, path = as_stored(array, scan), out / FILES[kind].format(number)
        with replacing(path) as temporary:
            save_nifti(temporary, image)
        checksums[kind] = sha256_of_file(path)
    labels = arrays["segmentation"]
    load = float((labels == 2).sum() / (labels > 0).sum())
    return {
        "case": f"volume-{number}",
        "clinical": draw_clinical(generators(cohort, seed, case)[3], load, len(patient.tumors)),
        "tumor_load": round(load, 5),
        "n_slices": scan.n_slices,
        "spacing_mm": [round(float(length), 6) for length in image.header.get_zooms()],
        "thickness_mm": round(scan.thickness_mm, 6),
        "orientation": scan.orientation,
        "noise_sd_hu": round(scan.noise_sd_hu, 3),
        "liver_hu": round(patient.hu["liver"], 3),
        "tumors": [
            {
                "diameter_mm": round(t.diameter_mm, 3),
                "contrast_hu": round(t.contrast_hu, 3),
                "kind": t.kind,
            }
            for t in patient.tumors
        ],
        "sha256": checksums,
    }


def finished_cases(out: Path, header: dict[str, Any], n_cases: int) -> dict[str, dict[str, Any]]:
    """Return the entries, by case, that an earlier call with the same parameters left in `out`.

    Raises:
        InputError: `out` is not a folder, or it holds another cohort, or files of unknown origin.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: not a folder")
    found = [out / name for name in (PROGRESS, RECORD) if (out / name).is_file()]
    if not found:
        strangers = sorted(out.glob("volume-*.nii*")) + sorted(out.glob("segmentation-*.nii*"))
        if strangers:
            raise InputError(
                f"{strangers[0]}: not from this command ({out} has no {RECORD}); use another --out"
            )
        return {}
    record = read_json(found[0])
    if not isinstance(record, dict) or not isinstance(record.get("cases"), list):
        raise InputError(f"{found[0]}: not the record of a phantom cohort")
    for key, value in header.items():
        if record.get(key) != value:
            raise InputError(
                f"{found[0]}: has {key} {record.get(key)!r}, not {value!r}; use another --out"
            )
    if len(record["cases"]) > n_cases:
        raise InputError(
            f"{found[0]}: has {len(record['cases'])} cases, more than --cases {n_cases}"
        )
    return {entry["case"]: entry for entry in record["cases"] if is_whole(out, entry)}


def is_whole(out: Path, entry: dict[str, Any]) -> bool:
    """Return whether both files of a recorded case are there and have the recorded checksums."""
    number = entry["case"].removeprefix("volume-")
    paths = {kind: out / name.format(number) for kind, name in FILES.items()}
    return all(
        path.is_file() and sha256_of_file(path) == entry["sha256"][k] for k, path in paths.items()
    )


def write_cohort(out: Path, cohort: Cohort, n_cases: int, size: int, seed: int) -> dict[str, Any]:
    """Write the cases that `out` lacks, then `cohort.json`, and return its content.

    Raises:
        InputError: `out` holds something else (see `finished_cases`).
    """
    header = {
        "schema": SCHEMA,
        "cohort": cohort.name,
        "synthetic": True,
        "seed": seed,
        "size": size,
    }
    done = finished_cases(out, header, n_cases)
    names = [f"volume-{cohort.first_case + case}" for case in range(n_cases)]

    def record() -> dict[str, Any]:
        cases = [done[name] for name in names if name in done]
        return {**header, "n_cases": len(cases), "note": cohort.note, "cases": cases}

    if len(done) < n_cases:
        write_json(out / PROGRESS, record())
        # From here on the cohort is unfinished, and a reader must not take the old record for the whole.
        (out / RECORD).unlink(missing_ok=True)
    for case, name in enumerate(names):
        if name not in done:
            done[name] = write_case(out, cohort, seed, size, case)
            write_json(out / PROGRESS, record())
        print(
            f"{name}: {done[name]['n_slices']} slices, {len(done[name]['tumors'])} tumors",
            flush=True,
        )
    if not (out / RECORD).is_file():
        write_clinical(out / CLINICAL, record()["cases"])
        write_json(out / RECORD, record())
    (out / PROGRESS).unlink(missing_ok=True)
    return record()


def write_clinical(path: Path, cases: Sequence[dict[str, Any]]) -> None:
    """Write the clinical rows of the cases as a table, from which `data.cohorts.lits` reads them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["case", *cases[0]["clinical"]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"case": entry["case"], **entry["clinical"]} for entry in cases)
    write_text(path, text.getvalue())


def at_least(minimum: int) -> Any:
    """Return a parser of integers that are `minimum` or more, for argparse."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(
                f"must be an integer of at least {minimum}, got {text!r}"
            )
        return value

    return parse


def main(arguments: list[str] | None = None) -> None:
    """Read the flags and write the cohort."""
    parser = Parser(
        prog="data.phantom", description="Write a cohort of synthetic CT volumes, laid out as LiTS."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--cases", type=at_least(1), required=True, help="number of cases")
    parser.add_argument(
        "--external", action="store_true", help="the cohort of the external hospital"
    )
    parser.add_argument(
        "--size", type=at_least(32), default=512, help="in-plane matrix (default 512)"
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="seed of the cohort (default 0)"
    )
    flags = parser.parse_args(arguments)
    cohort = EXTERNAL if flags.external else MAIN
    try:
        write_cohort(flags.out, cohort, flags.cases, flags.size, flags.seed)
    except OSError as error:
        raise InputError(f"--out {flags.out}: {error.strerror}") from None


if __name__ == "__main__":
    run_command(main, "data.phantom")
