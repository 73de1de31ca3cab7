from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import urllib.parse
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data import download as module
from data.download import (
    HCC_TACE_SEG,
    IRCADB,
    LITS,
    TASK03_LIVER,
    Dataset,
    Series,
    download,
    main,
    read_series_list,
)
from tests.conftest import Command
from tests.data.conftest import refuses
from tests.data.serving import File, Server, Waits, names

# the command, on archives


def tar_bytes() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("imagesTr/liver_0.nii.gz", "labelsTr/liver_0.nii.gz", "dataset.json"):
            info = tarfile.TarInfo(f"Task03_Liver/{name}")
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    return content.getvalue()


def zip_bytes(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


TAR = tar_bytes()
INNER = zip_bytes({"PATIENT_DICOM/image_0": b"0"})


def task03(server: Server, **changes: Any) -> Dataset:
    sizes = {"n_bytes": len(TAR), "unpacked_bytes": len(TAR), "size": len(TAR)}
    md5 = hashlib.md5(TAR).hexdigest()
    return replace(TASK03_LIVER, url=server.url("/Task03_Liver.tar"), md5=md5, **(sizes | changes))


def ircadb(server: Server) -> Dataset:
    return replace(IRCADB, url=server.url("/s/x/download"), n_bytes=1, unpacked_bytes=1)


def test_an_archive_from_start_to_end(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/Task03_Liver.tar"] = File(TAR, drops=[700])
    folder = tmp_path / "Bauch é"
    record = download(task03(server), folder, sleep=Waits())
    assert names(folder) == ["SOURCE.json", "Task03_Liver"]
    assert (
        folder / "Task03_Liver/imagesTr/liver_0.nii.gz"
    ).read_text() == "imagesTr/liver_0.nii.gz"
    assert json.loads((folder / "SOURCE.json").read_text()) == record
    assert record.pop("date").startswith("20")
    assert record == {
        "schema": 1,
        "name": "task03-liver",
        "title": TASK03_LIVER.title,
        "url": server.url("/Task03_Liver.tar"),
        "licence": "CC BY-SA 4.0",
        "licence_stated_at": "http://medicaldecathlon.com/",
        "bytes": 10240,
        "md5": hashlib.md5(TAR).hexdigest(),
        "md5_published": hashlib.md5(TAR).hexdigest(),
        "sha256": hashlib.sha256(TAR).hexdigest(),
    }
    assert (
        "licence: CC BY-SA 4.0, stated at http://medicaldecathlon.com/" in capsys.readouterr().out
    )
    assert server.ranges() == [None, "bytes=700-"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    download(task03(server), folder)
    assert capsys.readouterr().out.endswith("Task03_Liver: already done; licence CC BY-SA 4.0\n")
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert server.ranges() == []


def test_the_archive_may_stay_and_may_be_there_before(server: Server, tmp_path: Path) -> None:
    (tmp_path / "Task03_Liver.tar").write_bytes(TAR)
    download(task03(server), tmp_path, keep_archive=True)
    assert names(tmp_path) == ["SOURCE.json", "Task03_Liver", "Task03_Liver.tar"]
    assert server.ranges() == []


def test_a_checksum_that_differs(server: Server, tmp_path: Path) -> None:
    server.files["/Task03_Liver.tar"] = File(TAR[:-1] + b"x")
    with refuses("its md5 is"):
        download(task03(server), tmp_path)
    assert names(tmp_path) == []


def test_a_zip_without_a_checksum(server: Server, tmp_path: Path) -> None:
    good = zip_bytes({"3Dircadb1/3Dircadb1.1/PATIENT_DICOM.zip": INNER})
    server.files["/s/x/download"] = File(good[:-1], etag=None, chunked=True)
    with refuses(r"3Dircadb1\.zip: damaged"):
        download(ircadb(server), tmp_path)
    assert "3Dircadb1.zip" not in names(tmp_path)  # the next call starts anew
    server.files["/s/x/download"] = File(good, etag=None, chunked=True)
    record = download(ircadb(server), tmp_path)
    assert (
        tmp_path / "3Dircadb1/3Dircadb1.1/PATIENT_DICOM.zip"
    ).read_bytes() == INNER  # data.prepare reads inside
    assert names(tmp_path) == ["3Dircadb1", "SOURCE.json"]
    assert (record["md5_published"], record["sha256"]) == (None, hashlib.sha256(good).hexdigest())
    assert server.ranges() == [None, None]


def test_it_goes_on_after_the_unpacking(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path, content: Any) -> None:
        if path.name == "SOURCE.json":
            raise KeyboardInterrupt
        original(path, content)

    original = module.write_json
    server.files["/Task03_Liver.tar"] = File(TAR)
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            download(task03(server), tmp_path)
    record = download(task03(server), tmp_path)
    assert record["sha256"] == hashlib.sha256(TAR).hexdigest()
    assert names(tmp_path) == ["SOURCE.json", "Task03_Liver"]
    assert len(server.requests) == 1


def test_folders_of_something_else(server: Server, tmp_path: Path) -> None:
    (tmp_path / "Task03_Liver").mkdir()
    with refuses("Task03_Liver: exists, not from this command"):
        download(task03(server), tmp_path)
    (tmp_path / "SOURCE.json").write_text('{"name": "3d-ircadb", "licence": "CC BY-NC-ND"}')
    with refuses(r"SOURCE\.json: this folder holds 3d-ircadb; use another --to"):
        download(task03(server), tmp_path)
    with refuses(r"SOURCE\.json: 3Dircadb1 is gone"):
        download(ircadb(server), tmp_path)
    assert not server.requests


def test_too_little_room(server: Server, tmp_path: Path) -> None:
    with refuses(r"GB free, task03-liver, unpacked, needs 1000000.0 GB"):
        download(task03(server, n_bytes=10**15 - 10, unpacked_bytes=10), tmp_path / "new")
    assert names(tmp_path) == []


# DICOM series over the NBIA REST API

UIDS = ["1.2.3", "1.2.40", "1.2.5"]


def series_zip(uid: str, wrong: bool = False, listed: bool = True, licence: bool = True) -> bytes:
    files = {f"0000000{n}.dcm": f"{uid} image {n}".encode() for n in (1, 2)}
    rows = [
        f"{name},{hashlib.md5(data).hexdigest().upper()}" for name, data in reversed(files.items())
    ]
    if wrong:
        files["00000002.dcm"] += b"!"
    extra = {"LICENSE": b"CC BY 4.0"} if licence else {}
    table = (
        {"md5hashes.csv": "\r\n".join(["Filename,MD5Hash", *rows, ""]).encode()} if listed else {}
    )
    return zip_bytes(files | extra | table)


def entry(
    uid: str, modality: str = "CT", patient: str = "HCC_001", **more: object
) -> dict[str, object]:
    ids = {
        "PatientID": patient,
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": uid,
        "Modality": modality,
    }
    return ids | {"ImageCount": 2, "FileSize": 60, "Collection": "HCC-TACE-Seg"} | more


SERIES_LIST = "/v4/getSeries?Collection=HCC-TACE-Seg&format=json"


def images(uid: str) -> str:
    return f"/v4/getImageWithMD5Hash?SeriesInstanceUID={uid}"


@pytest.fixture
def hcc(server: Server) -> Dataset:
    listed = [
        entry("1.2.3"),
        entry("1.2.40", "SEG", ImageCount="2"),
        entry("1.2.5", patient="HCC_002"),
    ]
    server.files[SERIES_LIST] = File(
        json.dumps([*listed, entry("1.2.6", "MR")]).encode(), etag=None
    )
    for uid in UIDS:
        server.files[images(uid)] = File(series_zip(uid), etag=None, chunked=True)
    server.files["/clinical.xlsx"] = File(zip_bytes({"xl/workbook.xml": b"<x/>"}))
    return replace(HCC_TACE_SEG, url=server.url("/v4/"), clinical_url=server.url("/clinical.xlsx"))


def test_series_from_start_to_end(server: Server, hcc: Dataset, tmp_path: Path) -> None:
    record = download(hcc, tmp_path)
    assert names(tmp_path) == [
        "HCC-TACE-Seg_clinical_data-V2.xlsx", "HCC_001", "HCC_002", "SOURCE.json", "series.json"
    ]  # fmt: skip
    assert names(tmp_path / "HCC_001/1.2") == ["1.2.3", "1.2.40"]
    assert names(tmp_path / "HCC_002/1.2/1.2.5") == [
        "00000001.dcm",
        "00000002.dcm",
        "LICENSE",
        "md5hashes.csv",
    ]
    assert (tmp_path / "HCC_001/1.2/1.2.3/00000002.dcm").read_bytes() == b"1.2.3 image 2"
    assert {key: record[key] for key in ("patients", "series", "files", "bytes")} == {
        "patients": 2, "series": 3, "files": 6, "bytes": 13 + 13 + 14 + 14 + 13 + 13
    }  # fmt: skip
    assert record["licence"] == "CC BY 4.0"
    assert record["clinical"]["url"] == server.url("/clinical.xlsx")
    assert [request[0] for request in server.requests] == [
        SERIES_LIST,
        *map(images, UIDS),
        "/clinical.xlsx",
    ]
    server.requests.clear()
    assert download(hcc, tmp_path) == record
    assert not server.requests


FAULTS = {
    "another MD5": (series_zip("1.2.40", wrong=True), "the MD5 of 00000002.dcm is"),
    "no list": (
        series_zip("1.2.40", listed=False),
        "md5hashes.csv: missing, the server stopped early",
    ),
    "one file less": (
        zip_bytes({"md5hashes.csv": b"Filename,MD5Hash\na.dcm,0"}),
        "a.dcm is only in md5hashes.csv",
    ),
    "one file more": (
        zip_bytes({"md5hashes.csv": b"Filename,MD5Hash\n", "b": b""}),
        "b is not in md5hashes.csv",
    ),
    "nothing": (zip_bytes({"md5hashes.csv": b"Filename,MD5Hash\n"}), "0 files, listed are 2"),
    "other columns": (
        zip_bytes({"md5hashes.csv": b"a,b\n1,2\n"}),
        "lacks the columns Filename and MD5Hash",
    ),
    "a page": (b"<html>", "damaged, or neither tar nor zip"),
    "hostile": (zip_bytes({"../../x": b""}), "'..' leads out of the folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_series_is_not_kept(
    server: Server, hcc: Dataset, tmp_path: Path, fault: str
) -> None:
    content, message = FAULTS[fault]
    server.files[images("1.2.40")] = File(content, etag=None, chunked=True)
    with refuses("1 series did not arrive; the same command tries them again") as caught:
        download(hcc, tmp_path)
    assert message in str(caught.value)
    assert "1.2.40" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["HCC_001", "HCC_002", "series.json"]
    assert names(tmp_path / "HCC_001/1.2") == ["1.2.3"]
    server.files[images("1.2.40")] = File(series_zip("1.2.40", licence=False), etag=None)
    server.requests.clear()
    assert download(hcc, tmp_path)["series"] == 3
    assert [request[0] for request in server.requests] == [
        SERIES_LIST,
        images("1.2.40"),
        "/clinical.xlsx",
    ]


def test_fewer_images_than_listed(server: Server, hcc: Dataset, tmp_path: Path) -> None:
    server.files[SERIES_LIST] = File(json.dumps([entry("1.2.3", ImageCount=3)]).encode())
    with refuses(r"series 1\.2\.3 of HCC_001: 2 files, listed are 3"):
        download(hcc, tmp_path)


def test_a_server_that_is_down_is_not_asked_for_all(
    server: Server, hcc: Dataset, tmp_path: Path
) -> None:
    every = [entry(f"1.2.{n}") for n in range(3, 20)]
    server.files = {SERIES_LIST: File(json.dumps(every).encode())}
    with refuses(r"3 series did not arrive.*404"):
        download(hcc, tmp_path)
    assert len(server.requests) == 4


def test_a_clinical_table_that_does_not_come(
    server: Server, hcc: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/clinical.xlsx"] = File(b"<html>no</html>")
    assert download(hcc, tmp_path / "a")["clinical"] is None
    del server.files["/clinical.xlsx"]
    assert download(hcc, tmp_path / "b")["clinical"] is None
    by_hand = "by hand: https://www.cancerimagingarchive.net/collection/hcc-tace-seg/, Data Access"
    assert capsys.readouterr().out.count(by_hand) == 2
    assert "HCC-TACE-Seg_clinical_data-V2.xlsx" not in names(tmp_path / "a") + names(tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no series of CT or SEG in it, or one twice"),
        ({"error": "no"}, "no series of CT or SEG in it"),
        ([entry("1.2", "MR")], "no series of CT or SEG in it"),
        ([entry("1.2"), entry("1.2", "SEG")], "or one twice"),
        ([entry("../x")], "are not a patient's name and two UIDs"),
        ([entry("1.2", patient="..")], "are not a patient's name and two UIDs"),
        ([entry("1.2", patient="a/b")], "are not a patient's name and two UIDs"),
        ([entry("1.2", StudyInstanceUID=None)], "are not a patient's name and two UIDs"),
        ([entry("1" * 65)], "are not a patient's name and two UIDs"),
    ],
)
def test_a_list_that_cannot_be(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "series.json").write_text(json.dumps(content))
    with refuses(r"series\.json: .*" + message):
        read_series_list(tmp_path / "series.json")


def test_a_list_in_order_with_numbers_as_text(tmp_path: Path) -> None:
    bare = {
        "PatientID": "HCC_001",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "Modality": "CT",
    }
    listed = [entry("1.9", patient="HCC_002", ImageCount="7", FileSize="1234567890"), bare]
    (tmp_path / "series.json").write_text(json.dumps(listed))
    assert read_series_list(tmp_path / "series.json") == [
        Series("HCC_001", "1.2", "1.2.3", "CT", 0, 0),
        Series("HCC_002", "1.2", "1.9", "CT", 7, 1234567890),
    ]


# the flags


def test_the_list_and_the_steps(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "task03-liver",
        "3d-ircadb",
        "hcc-tace-seg",
        "lits",
    ]
    assert "28.9 GB  CC BY-SA 4.0 " in lines[0]
    assert "0.8 GB  CC BY-NC-ND " in lines[1]
    assert "28.6 GB  CC BY 4.0 " in lines[2]
    assert "CC BY-NC-SA 4.0 " in lines[3]
    main(["lits", "--to", str(tmp_path / "new")])
    shown = capsys.readouterr().out
    for text in (
        LITS.url,
        "Training Batch 1",
        "Training Batch 2",
        "data.prepare --cohort lits --source",
    ):
        assert text in shown
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["lits17"],
        ["task03-liver"],
        ["hcc-tace-seg", "--to", "x", "--keep-archive"],
        ["--to", "x"],
    ],
)
def test_wrong_flags_end_in_one_line(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(flags)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_mirror_is_held_to_the_published_size(
    server: Server, tmp_path: Path, run_module: Command
) -> None:
    if shutil.disk_usage(tmp_path).free < 58e9:
        pytest.skip("the room is checked first")
    server.files["/mirror.tar"] = File(TAR)
    done = run_module(
        "data.download", "task03-liver", "--to", tmp_path / "a", "--url", server.url("/mirror.tar")
    )
    assert done.returncode == 2
    message = (
        f"{server.url('/mirror.tar')}: the server offers 10240 bytes, published are 28925891584"
    )
    assert done.stderr.splitlines() == [f"data.download: {message}"]
    assert "licence: CC BY-SA 4.0" in done.stdout


def test_published_values() -> None:
    assert (TASK03_LIVER.size, TASK03_LIVER.md5) == (
        28_925_891_584,
        "a90ec6c4aa7f6a3d087205e23d4e6397",
    )
    for dataset in (TASK03_LIVER, IRCADB, HCC_TACE_SEG, LITS):
        assert urllib.parse.urlsplit(dataset.url).scheme == "https"
