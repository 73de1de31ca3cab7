"""Download public CT cohorts with liver and tumor labels.

An interrupted call goes on where it stopped; a finished one does nothing. `SOURCE.json` in the
folder records address, licence, date and checksums. An archive put into the folder under its own
name is verified as if fetched. LiTS needs an account: its steps are printed, nothing is fetched.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from data.archives import extract
from data.command import InputError, Parser, run_command
from data.fetch import fetch
from data.files import hash_json, read_json, write_json
from data.progress import open_bar, print_line, track

EXAMPLE = """
    python -m data.download --list
    python -m data.download task03-liver --to data-task03
    python -m data.download 3d-ircadb --to data-ircadb
    python -m data.download hcc-tace-seg --to data-hcc
    python -m data.download lits
"""

SCHEMA = 1
RECORD, UNFINISHED, SERIES_LIST = "SOURCE.json", ".source-unfinished.json", "series.json"
Sleep = Callable[[float], object]


@dataclass(frozen=True)
class Dataset:
    """A cohort and where it comes from.

    Attributes:
        name, title: as on the command line, and for a reader.
        kind: "archive" (one file), "nbia" (DICOM series over the NBIA REST API) or "manual" (needs
            an account).
        url: of the archive; of the API, ending in "/"; of the page to register at.
        licence, licence_page: the terms, and the page that states them.
        n_bytes, unpacked_bytes: about how much comes (0: unknown), and what it takes unpacked.
        at_most_bytes: more than this is not unpacked.
        size, md5: of the archive, where published.
        archive, folder: their names within the folder of the cohort.
        clinical_url: a table of the patients beside the images.
    """

    name: str
    title: str
    kind: Literal["archive", "nbia", "manual"]
    url: str
    licence: str
    licence_page: str
    n_bytes: int
    unpacked_bytes: int = 0
    at_most_bytes: int = 0
    size: int | None = None
    md5: str | None = None
    archive: str = ""
    folder: str = ""
    clinical_url: str = ""


# Size and MD5 as MONAI publishes them (monai/apps/datasets.py, DecathlonDataset).
TASK03_LIVER = Dataset(
    name="task03-liver",
    title="Medical Segmentation Decathlon, Task03 Liver: 131 labelled volumes, those of LiTS",
    kind="archive",
    url="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task03_Liver.tar",
    licence="CC BY-SA 4.0",
    licence_page="http://medicaldecathlon.com/",
    n_bytes=28_925_891_584,
    unpacked_bytes=28_925_891_584,
    at_most_bytes=32_000_000_000,
    size=28_925_891_584,
    md5="a90ec6c4aa7f6a3d087205e23d4e6397",
    archive="Task03_Liver.tar",
    folder="Task03_Liver",
)
# The server zips the folder anew for each download: no size, no checksum that could be published
# (torch_em's loader of this cohort says the same), no resuming. What is verified is the CRC of
# every member.
IRCADB = Dataset(
    name="3d-ircadb",
    title="3D-IRCADb-01: 20 patients, DICOM, zips within the zip; "
    "LiTS volumes 28 to 47 are the same patients",
    kind="archive",
    url="https://cloud.ircad.fr/index.php/s/JN3z7EynBiwYyjy/download",
    licence="CC BY-NC-ND",
    licence_page="https://www.ircad.fr/research/data-sets/liver-segmentation-3d-ircadb-01/",
    n_bytes=800_000_000,
    unpacked_bytes=800_000_000,
    at_most_bytes=10_000_000_000,
    archive="3Dircadb1.zip",
    folder="3Dircadb1",
)
# NBIA REST API, not called while this was written, but read: NBIA's own sources (V1_,
# V4_getImageWithMD5Hash.java, V4_getSeries.java: parameters, columns, "Filename,MD5Hash", errors
# that end the zip early without md5hashes.csv), tcia_utils 3 (TCIA's client: v4, no login), MONAI
# (v1; a LICENSE may lie in the zip). v1 is being deprecated and answers alike: --url
# https://services.cancerimagingarchive.net/nbia-api/services/v1/ asks it instead. NBIA itself is to
# be retired; the same series are in NCI's Imaging Data Commons then (client: idc-index).
HCC_TACE_SEG = Dataset(
    name="hcc-tace-seg",
    title="HCC-TACE-Seg (TCIA): 105 patients before and after TACE, DICOM CT and SEG",
    kind="nbia",
    url="https://services.cancerimagingarchive.net/nbia-api/services/v4/",
    licence="CC BY 4.0",
    licence_page="https://www.cancerimagingarchive.net/collection/hcc-tace-seg/",
    n_bytes=28_570_000_000,
    clinical_url="https://www.cancerimagingarchive.net/wp-content/uploads/"
    "HCC-TACE-Seg_clinical_data-V2.xlsx",
)
LITS = Dataset(
    name="lits",
    title="LiTS, the Liver Tumor Segmentation Challenge: 131 labelled volumes",
    kind="manual",
    url="https://competitions.codalab.org/competitions/17094",
    licence="CC BY-NC-SA 4.0",
    licence_page="https://competitions.codalab.org/competitions/17094",
    n_bytes=0,
)
LITS_STEPS = f"""\
LiTS is given out to registered participants only; nothing was downloaded. By hand:
1. Register at {LITS.url} and accept the terms.
2. There, under Participate, download Training Batch 1 and Training Batch 2.
3. Unpack both into one folder, say LITS: volume-0.nii ... and segmentation-0.nii ... of 0 to 130
4. python -m data.prepare --cohort lits --source LITS --store STORE
The same volumes without an account: python -m data.download task03-liver --to DIR"""
DATASETS = {dataset.name: dataset for dataset in (TASK03_LIVER, IRCADB, HCC_TACE_SEG, LITS)}

MODALITIES = ("CT", "SEG")
COLLECTION = "HCC-TACE-Seg"
CLINICAL = "HCC-TACE-Seg_clinical_data-V2.xlsx"
MD5_LIST, LICENCE_FILE = "md5hashes.csv", "LICENSE"
SERIES_AT_MOST_BYTES = 8 * 2**30
GIVE_UP_AFTER = 3  # series in a row: the server is down, not one series damaged
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
_PATIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def download(
    dataset: Dataset, folder: Path, keep_archive: bool = False, sleep: Sleep = time.sleep
) -> dict[str, Any]:
    """Bring a cohort into a folder and return the content of `SOURCE.json`.

    Args:
        dataset: the cohort.
        folder: where to.
        keep_archive: leave the archive beside its content.
        sleep: called with the seconds to wait between attempts.

    Raises:
        InputError: `folder` holds another cohort or files of unknown origin, the disk has too
            little room, DICOM series did not arrive, or `data.fetch.fetch` or
            `data.archives.extract` refuses.
    """
    record = folder / RECORD
    # The record is written last, so where it lies nothing is left to do.
    if record.is_file():
        return _read_finished(dataset, record)
    # The user sees the licence before the first byte comes.
    print(f"{dataset.name}: {dataset.title}\nfrom {dataset.url}")
    print(f"licence: {dataset.licence}, stated at {dataset.licence_page}", flush=True)
    if dataset.kind == "nbia":
        details = _download_series(dataset, folder, sleep)
    else:
        details = _download_archive(dataset, folder, sleep)
    origin = {"schema": SCHEMA, "name": dataset.name, "title": dataset.title, "url": dataset.url}
    origin |= {"licence": dataset.licence, "licence_stated_at": dataset.licence_page}
    content = origin | {"date": datetime.now(UTC).isoformat(timespec="seconds")} | details
    # Record first, then remove: an interruption between leaves a finished folder.
    write_json(record, content)
    (folder / UNFINISHED).unlink(missing_ok=True)
    if dataset.archive and not keep_archive:
        (folder / dataset.archive).unlink(missing_ok=True)
    print(f"{folder / dataset.folder}: done; {record} records its origin")
    return content


def _read_finished(dataset: Dataset, record: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(record, needs=("name", "licence"))
    if content["name"] != dataset.name:
        raise InputError(
            f"{record}: this folder holds {content['name']}; use another --to for {dataset.name}"
        )
    if not (record.parent / dataset.folder).is_dir():
        raise InputError(
            f"{record}: {dataset.folder} is gone; remove this file to download it again"
        )
    print(f"{record.parent / dataset.folder}: already done; licence {content['licence']}")
    return content


def _check_room(folder: Path, n_bytes: int, name: str) -> None:
    folder = folder.absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise InputError(f"{folder}: {free / 1e9:.1f} GB free, {name} needs {n_bytes / 1e9:.1f} GB")


def _download_archive(dataset: Dataset, folder: Path, sleep: Sleep) -> dict[str, Any]:
    """Fetch and unpack one archive; return what SOURCE.json says of it."""
    names = (dataset.archive, dataset.folder, UNFINISHED)
    archive, target, unfinished = (folder / name for name in names)
    if target.exists():
        details = read_json(unfinished, needs=("name",)) if unfinished.is_file() else {}
        if details.get("name") == dataset.name:  # it stopped between unpacking and the record
            return dict(details)
        raise InputError(f"{target}: exists, not from this command; use another --to")
    is_new = not archive.exists()
    part = archive.with_name(f"{archive.name}.part")
    at_hand = sum(path.stat().st_size for path in (archive, part) if path.is_file())
    needed = max(dataset.n_bytes - at_hand, 0) + dataset.unpacked_bytes
    _check_room(folder, needed, f"{dataset.name}, unpacked,")
    fetched = fetch(dataset.url, archive, size=dataset.size, md5=dataset.md5, sleep=sleep)
    checksums = {"md5": fetched.md5, "md5_published": dataset.md5, "sha256": fetched.sha256}
    details = {"name": dataset.name, "bytes": fetched.n_bytes, **checksums}
    write_json(unfinished, details)
    most = dataset.at_most_bytes
    try:
        with open_bar(dataset.unpacked_bytes, f"unpacking {archive.name}", "B") as bar:
            extract(archive, target, max_bytes=most, unwrap=True, report=bar.update)
    except InputError:
        if is_new and not dataset.md5:  # cut short where only the archive itself could tell
            archive.unlink()
        raise
    return details


class Series(NamedTuple):
    """One DICOM series as NBIA lists it; 0 where it does not say."""

    patient: str
    study: str
    uid: str
    modality: str
    n_images: int
    n_bytes: int

    def folder(self, root: Path) -> Path:
        """Return where its files lie."""
        return root / self.patient / self.study / self.uid


def read_series_list(path: Path) -> list[Series]:
    """Read the CT and SEG series of an answer of getSeries, in order.

    Raises:
        InputError: not a list of series, a value that cannot be the name of a folder, a series
            twice, none at all.
    """
    content = read_json(path)
    every = []
    for entry in content if isinstance(content, list) else []:
        if not isinstance(entry, dict) or entry.get("Modality") not in MODALITIES:
            continue
        patient, study, uid = (
            str(entry.get(key)) for key in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
        )
        # They become names of folders, so nothing in them may lead elsewhere.
        if not (_PATIENT.fullmatch(patient) and _UID.fullmatch(study) and _UID.fullmatch(uid)):
            raise InputError(
                f"{path}: {patient!r}, {study!r}, {uid!r} are not a patient's name and two UIDs"
            )
        n_images, n_bytes = (_read_number(entry.get(key)) for key in ("ImageCount", "FileSize"))
        every.append(Series(patient, study, uid, entry["Modality"], n_images, n_bytes))
    if not every or len({series.uid for series in every}) < len(every):
        raise InputError(f"{path}: no series of {' or '.join(MODALITIES)} in it, or one twice")
    return sorted(every)


def _read_number(value: object) -> int:
    return int(str(value)) if str(value).isdecimal() else 0


def _download_series(dataset: Dataset, folder: Path, sleep: Sleep) -> dict[str, Any]:
    """Fetch the series that `folder` lacks; return what SOURCE.json says of them."""
    listed = folder / SERIES_LIST
    listed.unlink(missing_ok=True)
    fetch(f"{dataset.url}getSeries?Collection={COLLECTION}&format=json", listed, sleep=sleep)
    every = read_series_list(listed)
    missing = [series for series in every if not series.folder(folder).is_dir()]
    print(f"{len(every)} series, {len(every) - len(missing)} of them here already", flush=True)
    sizes = [series.n_bytes for series in missing]  # the largest lies there twice, zipped too
    _check_room(folder, sum(sizes) + max(sizes, default=0), dataset.name)
    failed, in_a_row = [], 0
    for number, series in enumerate(track(missing, dataset.name, unit="series"), 1):
        try:
            _fetch_series(series, dataset, folder, sleep)
            in_a_row, state = 0, f"{series.n_images} images"
        except InputError as error:
            failed.append(str(error))
            in_a_row, state = in_a_row + 1, f"failed, {error}"
        place = f"{number}/{len(missing)} {series.patient} {series.modality} {series.uid}"
        print_line(f"{place}: {state}")
        if in_a_row == GIVE_UP_AFTER:
            break
    if failed:
        raise InputError(
            f"{len(failed)} series did not arrive; the same command tries them again; {failed[-1]}"
        )
    return _record_series(every, folder) | {"clinical": _fetch_clinical(dataset, folder, sleep)}


def _fetch_series(series: Series, dataset: Dataset, folder: Path, sleep: Sleep) -> None:
    archive, target = folder / f"{series.uid}.zip", series.folder(folder)
    fetch(f"{dataset.url}getImageWithMD5Hash?SeriesInstanceUID={series.uid}", archive, sleep=sleep)
    check = partial(check_series, series=series)
    try:
        extract(archive, target, max_bytes=SERIES_AT_MOST_BYTES, check=check)
    finally:  # zipped anew for each request: a damaged one is of no use, a good one is unpacked
        archive.unlink()


def read_md5_list(folder: Path) -> dict[str, str]:
    """Read the MD5 of each file from a series' md5hashes.csv.

    Raises:
        InputError: the file is missing or has other columns.
    """
    path = folder / MD5_LIST
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        return {row["Filename"].strip(): row["MD5Hash"].strip().lower() for row in rows}
    except FileNotFoundError:
        raise InputError(f"{path}: missing, the server stopped early") from None
    except (KeyError, AttributeError, csv.Error, UnicodeDecodeError):
        raise InputError(f"{path}: lacks the columns Filename and MD5Hash") from None


def check_series(folder: Path, series: Series) -> None:
    """Hold a series' files against md5hashes.csv and the number listed.

    Raises:
        InputError: a file is missing, not listed or has another MD5; another number of files.
    """
    name, expected = f"series {series.uid} of {series.patient}", read_md5_list(folder)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if odd := (there - {MD5_LIST, LICENCE_FILE}) ^ set(expected):
        raise InputError(
            f"{name}: {min(odd)} is {'not in ' if min(odd) in there else 'only in '}{MD5_LIST}"
        )
    if not expected or series.n_images not in (0, len(expected)):
        raise InputError(f"{name}: {len(expected)} files, listed are {series.n_images or 'some'}")
    for file, md5 in expected.items():
        digest = hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest()
        if digest != md5:
            raise InputError(f"{name}: the MD5 of {file} is {digest}, the server's list says {md5}")


def _record_series(every: list[Series], folder: Path) -> dict[str, Any]:
    folders = {series.uid: series.folder(folder) for series in every}
    md5s = {uid: read_md5_list(place) for uid, place in folders.items()}
    sizes = [(folders[uid] / name).stat().st_size for uid in md5s for name in md5s[uid]]
    return {
        "bytes": sum(sizes),
        "patients": len({series.patient for series in every}),
        "series": len(every),
        "files": len(sizes),
        "checksums": f"MD5 of each file as sent by the server, in {MD5_LIST} beside it, verified",
        "sha256_of_md5s": hash_json(md5s),
    }


def _fetch_clinical(dataset: Dataset, folder: Path, sleep: Sleep) -> dict[str, Any] | None:
    # Not verified by a checksum: TCIA publishes none. Public repositories record this address.
    path = folder / CLINICAL
    try:
        fetched = fetch(dataset.clinical_url, path, sleep=sleep)
        if not zipfile.is_zipfile(path):  # a page that says no, instead of a table
            path.unlink()
            raise InputError(f"{dataset.clinical_url}: not an .xlsx file")
    except InputError as error:
        print(f"{CLINICAL} did not come ({error})")
        print(f"by hand: {dataset.licence_page}, Data Access, clinical data")
        return None
    details = {"file": CLINICAL, "url": dataset.clinical_url}
    return details | {"bytes": fetched.n_bytes, "sha256": fetched.sha256}


def list_datasets() -> str:
    """Return a table of the cohorts: name, size, licence, what it is."""
    lines = []
    for dataset in DATASETS.values():
        size = f"{dataset.n_bytes / 1e9:.1f} GB" if dataset.n_bytes else "unknown"
        lines.append(f"{dataset.name:<12}  {size:>7}  {dataset.licence:<15}  {dataset.title}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m data.download`."""
    parser = Parser(
        prog="data.download",
        description="Download a public CT cohort with liver and tumor labels.",
        example=EXAMPLE,
    )
    add = parser.add_argument
    add("name", nargs="?", choices=tuple(DATASETS), help="the cohort")
    add("--to", type=Path, metavar="DIR", help="folder of the cohort")
    add("--list", action="store_true", help="show the cohorts with size and licence")
    add("--keep-archive", action="store_true", help="keep the archive beside its content")
    add("--url", help="another server with the same files; checksums stay those of the original")
    flags = parser.parse_args(arguments)
    if flags.list:
        print(list_datasets())
        return
    if flags.name is None:
        parser.error("which cohort? --list shows them")
    dataset = DATASETS[flags.name]
    # What needs an account is explained; only the rest needs a folder.
    if dataset.kind == "manual":
        print(f"{dataset.title}\nlicence: {dataset.licence}, stated at {dataset.licence_page}")
        print(LITS_STEPS)
        return
    if flags.to is None:
        parser.error("the following arguments are required: --to")
    if flags.keep_archive and not dataset.archive:
        parser.error(f"--keep-archive: {dataset.name} does not come as one archive")
    if flags.url:
        url = flags.url if dataset.archive else flags.url.rstrip("/") + "/"
        dataset = replace(dataset, url=url)
    download(dataset, flags.to, flags.keep_archive)


if __name__ == "__main__":
    run_command(main, "data.download")
