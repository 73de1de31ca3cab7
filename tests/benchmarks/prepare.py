"""How fast and in how much memory volumes become a store, beside unzipping them alone.

    python -m tests.benchmarks.prepare [--cases 4] [--slices 400] [--size 512] [--jobs 2]
    [--dir DIR]

The volumes are SYNTHETIC: a body with liver and tumor under noise, 512 x 512, int16, .nii.gz. Both
times are taken in the same call, on the same files, with the same number of processes.
"""

from __future__ import annotations

import gzip
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from data.command import InputError, Parser, run_command
from data.environment import read_processor_name
from data.files import replace_file
from data.parallel import Failures, run_cases

SIDE = 512
PER_VOXEL = np.dtype(np.int16).itemsize
MIB = 2**20


def make_cohort(folder: Path, cases: int, slices: int) -> list[Path]:
    """Write `cases` pairs in the layout of LiTS, where they are not there yet; return all files."""
    y, x = np.mgrid[:SIDE, :SIDE]
    body = ((x - 256) / 200) ** 2 + ((y - 256) / 150) ** 2 < 1
    liver = ((x - 170) / 90) ** 2 + ((y - 230) / 80) ** 2 < 1
    tumor = (x - 150) ** 2 + (y - 220) ** 2 < 400
    label = np.where(tumor, 2, liver).astype(np.uint8)
    tissue = np.where(body, 40 + 60 * liver - 40 * tumor, -1000)
    affine = np.diag([-0.8, -0.8, 1.0, 1.0])
    files = []
    for case in range(cases):
        paths = [
            folder / f"{slices}-slices" / f"{kind}-{case}.nii.gz"
            for kind in ("volume", "segmentation")
        ]
        if not all(path.exists() for path in paths):
            rng = np.random.default_rng(case)
            hu = np.empty((SIDE, SIDE, slices), np.int16)
            for index in range(slices):
                hu[:, :, index] = tissue.T + np.rint(rng.normal(0, 12, (SIDE, SIDE))).astype(
                    np.int16
                )
            for path, array in zip(
                paths, (hu, np.repeat(label.T[:, :, np.newaxis], slices, 2)), strict=True
            ):
                with replace_file(path) as temporary:
                    nib.save(nib.Nifti1Image(array, affine), temporary)
        files += paths
    return files


def unzip(path: Path) -> int:
    """Read a .gz to its end; return the number of bytes in it."""
    n_bytes = 0
    with gzip.open(path) as file:
        while chunk := file.read(MIB):
            n_bytes += len(chunk)
    return n_bytes


def main() -> None:
    """Print slices a second, MB a second and the peak memory."""
    parser = Parser(
        prog="tests.benchmarks.prepare",
        description="Time the preparing of synthetic volumes of real size.",
    )
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--slices", type=int, default=400, help="slices a volume")
    parser.add_argument("--size", type=int, default=512, help="pixels per side in the store")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once")
    parser.add_argument(
        "--dir", type=Path, help="keep the volumes here (default: a folder that goes)"
    )
    flags = parser.parse_args()
    if flags.cases < 3:
        parser.error(f"--cases: at least 3, so that there is a split; got {flags.cases}")
    for name in ("slices", "size", "jobs"):
        if getattr(flags, name) < 1:
            parser.error(f"--{name}: must be at least 1, got {getattr(flags, name)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = flags.dir or Path(temporary) / "cohort"
        folder.mkdir(parents=True, exist_ok=True)
        files = make_cohort(folder, flags.cases, flags.slices)
        floor = time_unzipping(files, flags.jobs)
        seconds = time_preparing(files[0].parent, Path(temporary) / "store", flags.size, flags.jobs)
    slices = flags.cases * flags.slices
    megabytes = slices * SIDE * SIDE * PER_VOXEL / 1e6
    volume_mib = flags.slices * SIDE * SIDE * PER_VOXEL / MIB
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (
        MIB if sys.platform == "darwin" else 2**10
    )
    print(
        f"{read_processor_name()}, {flags.jobs} jobs; SYNTHETIC, "
        f"{flags.cases} volumes of {flags.slices} slices, .nii.gz"
    )
    for what, taken in (("unzipping alone", floor), (f"data.prepare, {flags.size} px", seconds)):
        print(
            f"{what:24} {taken:6.1f} s  {slices / taken:7.1f} slices/s  "
            f"{megabytes / taken:7.1f} MB/s of CT"
        )
    print(f"largest process          {peak:6.0f} MiB resident, a volume is {volume_mib:.0f} MiB")


def time_unzipping(files: list[Path], jobs: int) -> float:
    """Return the seconds it takes to unzip all files and do nothing else."""
    failures = Failures(skip=False, can_skip=False)
    warm = {str(job): partial(unzip, files[1]) for job in range(jobs)}
    list(run_cases(warm, jobs, "loky", failures))  # starts the processes
    started = time.perf_counter()
    list(run_cases({path.name: partial(unzip, path) for path in files}, jobs, "loky", failures))
    failures.stop()
    return time.perf_counter() - started


def time_preparing(source: Path, store: Path, size: int, jobs: int) -> float:
    """Return the seconds that `data.prepare` takes as a command, start included.

    Args:
        source: folder of the cohort.
        store: folder to write.
        size: rows and columns of its slices.
        jobs: processes.
    """
    flags = {"--source": source, "--store": store, "--size": size, "--jobs": jobs}
    command = [sys.executable, "-m", "data.prepare"]
    command += [str(part) for flag in flags.items() for part in flag]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(done.stderr.strip())
    return time.perf_counter() - started


if __name__ == "__main__":
    run_command(main, "tests.benchmarks.prepare")
