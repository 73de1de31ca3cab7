from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data.archives import extract
from data.command import InputError
from tests.data.conftest import refuses

FILES = {
    "Leber é/volume 0.nii": b"v" * 3000,
    "Leber é/labels/segmentation-0.nii": b"",
    "Leber é/dataset.json": b"{}",
}


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    return tar(path, *((member(name), content) for name, content in files.items()), mode=mode)


def zip_of(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(archive: Path, **arguments: object) -> str:
    """Unpack what must be refused; return the message without the path. Nothing may stay."""
    before = set(archive.parent.iterdir())
    with pytest.raises(InputError) as caught:
        extract(archive, archive.parent / "out", **arguments)  # type: ignore[arg-type]
    assert set(archive.parent.iterdir()) == before
    message = str(caught.value)
    assert message.startswith(f"{archive}: ")
    assert "\n" not in message
    return message.removeprefix(f"{archive}: ")


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip"])
def test_files_and_folders_come_out(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "Ordner mit Leerzeichen, é"
    folder.mkdir()
    archive = folder / f"a.{form}"
    if form == "zip":
        zip_of(archive, FILES)
    else:
        tar_of(archive, FILES, "w" if form == "tar" else "w:gz")
    reported: list[int] = []
    assert extract(archive, folder / "out", report=reported.append) == 3002
    assert contents(folder / "out") == FILES
    assert sum(reported) == 3002
    assert sorted(path.name for path in folder.iterdir()) == [archive.name, "out"]


def test_the_only_folder_becomes_the_result(tmp_path: Path) -> None:
    mac = {"._Leber é": b"mac", "__MACOSX/x": b"mac"}
    extract(tar_of(tmp_path / "a.tar", FILES | mac), tmp_path / "one", unwrap=True)
    assert contents(tmp_path / "one") == {
        name.removeprefix("Leber é/"): data for name, data in FILES.items()
    }
    extract(zip_of(tmp_path / "b.zip", FILES | {"b": b"b"}), tmp_path / "two", unwrap=True)
    assert contents(tmp_path / "two") == FILES | {"b": b"b"}
    assert not list(tmp_path.glob(".partial*"))


def test_empty_folders_and_the_top_itself(tmp_path: Path) -> None:
    parts = [(member(name, tarfile.DIRTYPE), b"") for name in (".", "./a", "./a/b/")]
    extract(tar(tmp_path / "a.tar", *parts, (member("./a/c"), b"c")), tmp_path / "out")
    assert sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")
    ) == ["a", "a/b", "a/c"]
    extract(zip_of(tmp_path / "b.zip", {"a/": b"", "a/c": b"c"}), tmp_path / "other")
    assert contents(tmp_path / "other") == {"a/c": b"c"}


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with refuses(r"out: exists; a\.tar is unpacked into a new folder only"):
        extract(tar_of(tmp_path / "a.tar", FILES), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_leftovers_of_a_killed_call_go(tmp_path: Path) -> None:
    (tmp_path / ".partial-out").mkdir()
    (tmp_path / ".partial-out" / "half").write_bytes(b"half")
    extract(tar_of(tmp_path / "a.tar", FILES), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_a_check_may_refuse(tmp_path: Path) -> None:
    seen: list[dict[str, bytes]] = []

    def check(folder: Path) -> None:
        seen.append(contents(folder))
        raise InputError(f"{tmp_path / 'a.tar'}: not this one")

    assert refusal(tar_of(tmp_path / "a.tar", FILES), check=check) == "not this one"
    assert seen == [FILES]


def test_a_huge_long_name_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A name of 64 MB packs into some KB, and tarfile would hold it in memory."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 64 * 2**20
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(2**20))
    with refuses(r"damaged, or neither tar nor zip \(a header of 67,108,864 bytes\)"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


PATHS = {
    "../evil": "member '../evil': '..' leads out of the folder",
    "a/../../evil": "member 'a/../../evil': '..' leads out of the folder",
    "a/../b": "member 'a/../b': '..' leads out of the folder",
    "/evil": "member '/evil': an absolute path",
    "C:/evil": "member 'C:/evil': an absolute path",
    "\\\\server\\share\\evil": "member '\\\\\\\\server\\\\share\\\\evil': an absolute path",
    "..\\evil": "member '..\\\\evil': '..' leads out of the folder",
    "a\\evil": "member 'a\\\\evil': a backslash or zero byte in its name",
}


@pytest.mark.parametrize("name", PATHS)
def test_paths_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    assert refusal(tar_of(folder / "a.tar", {"good": b"1", name: b"evil"})) == PATHS[name]
    assert refusal(zip_of(folder / "a.zip", {"good": b"1", name: b"evil"})) == PATHS[name]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a named pipe"),
    ],
)
def test_tar_links_and_devices(tmp_path: Path, kind: bytes, rule: str) -> None:
    archive = tar(tmp_path / "a.tar", (member("good"), b"1"), (member("x", kind, "good"), b""))
    assert refusal(archive) == f"member 'x': {rule}; only files and folders are unpacked"


@pytest.mark.parametrize(
    ("mode", "rule"),
    [
        (stat.S_IFLNK, "a symbolic link"),
        (stat.S_IFCHR, "a device or a special file"),
        (stat.S_IFBLK, "a device or a special file"),
        (stat.S_IFIFO, "a device or a special file"),
    ],
)
def test_zip_links_and_devices(tmp_path: Path, mode: int, rule: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert refusal(tmp_path / "a.zip") == f"member 'x': {rule}; only files and folders are unpacked"


def test_a_file_through_a_link_never_arrives(tmp_path: Path) -> None:
    link = (member("a", tarfile.SYMTYPE, str(tmp_path)), b"")
    assert "a symbolic link" in refusal(tar(tmp_path / "a.tar", link, (member("a/evil"), b"evil")))
    assert not (tmp_path / "evil").exists()


def test_duplicates(tmp_path: Path) -> None:
    twice = [(member("a/x"), b"1"), (member("./a//x"), b"2")]
    assert refusal(tar(tmp_path / "a.tar", *twice)) == "member './a//x': two members with one path"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x", "2")
    assert refusal(tmp_path / "a.zip") == "member 'x': two members with one path"
    assert (
        refusal(tar_of(tmp_path / "b.tar", {"a": b"1", "a/x": b"2"}))
        == "member 'a/x': two members with one path"
    )
    assert (
        refusal(tar_of(tmp_path / "c.tar", {"a/x": b"1", "a": b"2"}))
        == "member 'a': two members with one path"
    )


def test_bounds_count_the_bytes_that_come(tmp_path: Path) -> None:
    for archive in (
        zip_of(
            tmp_path / "a.zip", {"a": b"", "zeros": bytes(5_000_000)}
        ),  # 1000 times its size in the archive
        tar_of(tmp_path / "a.tar.gz", {"a": b"", "zeros": bytes(5_000_000)}, "w:gz"),
    ):
        assert archive.stat().st_size < 10_000
        assert (
            refusal(archive, max_bytes=4_999_999)
            == "member 'zeros': more than 4999999 bytes in all"
        )
        assert refusal(archive, max_members=1) == "member 'zeros': more than 1 members"
        assert (
            extract(archive, tmp_path / f"{archive.name}-out", max_bytes=5_000_000, max_members=2)
            == 5_000_000
        )


def test_a_header_that_lies_about_the_size(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"zeros": bytes(2_000_000)})
    content = bytearray(archive.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    content[central + 24 : central + 28] = (10).to_bytes(
        4, "little"
    )  # "uncompressed size" of the directory
    archive.write_bytes(content)
    assert "damaged" in refusal(archive, max_bytes=1_000_000)


def _cut(n_bytes: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:n_bytes]


def _flip(content: bytes) -> bytes:
    place = content.index(b"v" * 3000) + 1500
    return content[:place] + b"w" + content[place + 1 :]


def _garbage(content: bytes) -> bytes:
    return (
        content[:3584] + b"x" * 512 + content[4096:]
    )  # the second header, after 512 + 3000 bytes padded to 512


@pytest.mark.parametrize(
    "damage",
    [_cut(0), _cut(100), _cut(2000), _cut(3584), _cut(3600), _cut(4096), _cut(4608), _garbage],
)
def test_damaged_tar(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    files = {"volume": b"v" * 3000, "segmentation": b"s" * 100}
    content = tar_of(tmp_path / "a.tar", files).read_bytes()
    (tmp_path / "a.tar").write_bytes(damage(content))
    assert refusal(tmp_path / "a.tar").startswith("damaged, or neither tar nor zip (")
    (tmp_path / "a.tar").write_bytes(content)
    extract(tmp_path / "a.tar", tmp_path / "out")
    assert contents(tmp_path / "out") == files


def test_damaged_gzip(tmp_path: Path) -> None:
    content = tar_of(tmp_path / "a.tar.gz", FILES, "w:gz").read_bytes()
    for damaged in (
        content[:-4],
        content[:-8],
        content[: len(content) // 2],
        content[:-6] + b"\0\0" + content[-4:],
    ):
        (tmp_path / "a.tar.gz").write_bytes(damaged)
        assert refusal(tmp_path / "a.tar.gz").startswith("damaged")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(gzip.decompress(content) + bytes(2_000_000)))
    assert "too much after the end mark" in refusal(tmp_path / "a.tar.gz", max_bytes=1_000_000)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"no tar"))
    assert refusal(tmp_path / "a.tar.gz").startswith("damaged")


@pytest.mark.parametrize("damage", [_cut(4), _cut(2000), _cut(-1), _cut(-30), _flip])
def test_damaged_zip(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    archive = zip_of(tmp_path / "a.zip", FILES, zipfile.ZIP_STORED)
    archive.write_bytes(damage(archive.read_bytes()))
    message = refusal(archive)
    assert message.startswith("damaged")
    assert damage is not _flip or "Bad CRC-32 for file 'Leber é/volume 0.nii'" in message


def test_a_zip_that_is_encrypted_or_packed_otherwise(tmp_path: Path) -> None:
    rule = "member 'x': encrypted, or packed in another way than deflate"
    assert refusal(zip_of(tmp_path / "a.zip", {"x": b"x"}, zipfile.ZIP_LZMA)) == rule
    content = bytearray(zip_of(tmp_path / "b.zip", {"x": b"x"}).read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(content)
    assert refusal(tmp_path / "b.zip") == rule


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = zipped({"x": b"x"})
    extract(tar_of(tmp_path / "a.tar", {"n.zip": inner}), tmp_path / "out")
    assert contents(tmp_path / "out") == {"n.zip": inner}


def test_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"<html>no such share</html>")
    assert refusal(tmp_path / "a.zip").startswith("damaged, or neither tar nor zip (")
    with pytest.raises(FileNotFoundError):
        extract(tmp_path / "b.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(tar_of(tmp_path / "a.tar", FILES), tmp_path / "out", report=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
