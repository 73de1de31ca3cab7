"""Archives from elsewhere, unpacked without trust: tar (plain or gzip) and zip.

Only regular files and folders come out, all below one folder, within a bound of bytes and of
members. An archive that breaks a rule is refused as a whole and leaves nothing behind.

By hand, because tarfile's filters and shutil bound neither bytes nor members, take links and
overwrite a path that comes twice.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Literal

from data.command import InputError

MAX_BYTES = 100 * 2**30
MAX_MEMBERS = 200_000
CHUNK = 2**20
MAX_HEADER = 2**20  # of a tar's long name or extended header
LONG_HEADERS = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE}
LONG_HEADERS |= {tarfile.XGLTYPE}
_DAMAGED: tuple[type[Exception], ...] = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile)
_DAMAGED += (zlib.error, struct.error, EOFError, RuntimeError, ValueError)
_TAR_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
}
_ZIP_KINDS = {0: "", stat.S_IFREG: "", stat.S_IFDIR: "", stat.S_IFLNK: "a symbolic link"}


@dataclass
class _Output:
    """The folder being filled, and what has gone into it."""

    archive: Path
    folder: Path
    max_bytes: int
    max_members: int
    report: Callable[[int], object] | None = None
    n_bytes: int = 0
    n_members: int = 0
    names: set[PurePosixPath] = field(default_factory=set)

    def refuse(self, member: str, rule: str) -> InputError:
        return InputError(f"{self.archive}: member {member!r}: {rule}")

    def place(self, member: str, kind: str) -> Path:
        """Return where a member goes; `kind` is not empty for a link or a device."""
        self.n_members += 1
        if self.n_members > self.max_members:
            raise self.refuse(member, f"more than {self.max_members} members")
        if kind:
            raise self.refuse(member, f"{kind}; only files and folders are unpacked")
        path, windows = PurePosixPath(member), PureWindowsPath(member)
        # A name counts as Windows reads it, too, so that an archive is safe everywhere.
        if path.is_absolute() or windows.drive or windows.root:
            raise self.refuse(member, "an absolute path")
        if ".." in path.parts or ".." in windows.parts:
            raise self.refuse(member, "'..' leads out of the folder")
        if "\\" in member or "\0" in member:
            raise self.refuse(member, "a backslash or zero byte in its name")
        # A second member would overwrite the first, which was checked.
        if path in self.names:
            raise self.refuse(member, "two members with one path")
        self.names.add(path)
        return self.folder / path

    def add_folder(self, member: str, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self.refuse(member, "two members with one path") from None

    def add_file(self, member: str, path: Path, source: IO[bytes]) -> None:
        """Copy one member; the bytes that come count, not those that its header states.

        Args:
            member: its name.
            path: where to.
            source: its content.
        """
        self.add_folder(member, path.parent)
        try:
            target = path.open("xb")
        except (FileExistsError, IsADirectoryError):  # also where a disk takes "A" for "a"
            raise self.refuse(member, "two members with one path") from None
        with target:
            while chunk := source.read(CHUNK):
                self.count(member, len(chunk))
                target.write(chunk)

    def count(self, member: str, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        if self.n_bytes > self.max_bytes:
            raise self.refuse(member, f"more than {self.max_bytes} bytes in all")
        if self.report:
            self.report(n_bytes)


def extract(
    archive: Path,
    folder: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
    unwrap: bool = False,
    check: Callable[[Path], None] | None = None,
    report: Callable[[int], object] | None = None,
) -> int:
    """Unpack `archive` into the new folder `folder`, whole or not at all.

    Args:
        archive: a tar, tar.gz or zip file, told apart by its content.
        folder: must not exist; meanwhile the files lie beside it in `.partial-NAME`.
        max_bytes, max_members: bounds on everything that is unpacked.
        unwrap: if all lies in one folder (hidden files aside), that one becomes `folder`.
        check: called with the unpacked files before the folder takes its name; may refuse them.
        report: called with the number of bytes of each piece that is unpacked.

    Returns:
        The number of bytes unpacked.

    Raises:
        InputError: a damaged archive or another kind of file; a member that is no file or folder,
            whose path is absolute, has `..` or is there twice; too many bytes or members; `folder`
            exists; what `check` raises.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists; {archive.name} is unpacked into a new folder only")
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed call left
    partial.mkdir(parents=True)
    output = _Output(archive, partial, max_bytes, max_members, report)
    try:
        _unpack(archive, output)
        if check:
            check(partial)
        os.replace(_unwrap(partial) if unwrap else partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output.n_bytes


def _unpack(archive: Path, output: _Output) -> None:
    try:
        with archive.open("rb") as file:
            start = file.read(4)
        if start[:2] == b"PK":  # zipfile.is_zipfile takes a tar that ends with a zip for one
            _unpack_zip(archive, output)
        else:
            _unpack_tar(archive, output, "r:gz" if start[:2] == b"\x1f\x8b" else "r:")
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{output.archive}: damaged, or neither tar nor zip ({error})") from None


def _unpack_zip(archive: Path, output: _Output) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            mode = stat.S_IFMT(member.external_attr >> 16)
            kind = _ZIP_KINDS.get(mode, "a device or a special file")
            path = output.place(member.filename, kind)
            if member.is_dir():
                output.add_folder(member.filename, path)
                continue
            is_deflated = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if member.flag_bits & 1 or not is_deflated:
                rule = "encrypted, or packed in another way than deflate"
                raise output.refuse(member.filename, rule)
            with content.open(member) as source:
                output.add_file(member.filename, path, source)


class _BoundedInfo(tarfile.TarInfo):
    """A member whose long name or header, which tarfile holds in memory, is bounded."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in LONG_HEADERS and self.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


def _unpack_tar(archive: Path, output: _Output, mode: Literal["r:", "r:gz"]) -> None:
    with tarfile.open(archive, mode, tarinfo=_BoundedInfo) as content:
        for member in content:
            is_plain = member.isreg() or member.isdir()
            kind = "" if is_plain else _TAR_KINDS.get(member.type, "a special file")
            path = output.place(member.name, kind)
            source = content.extractfile(member)
            if source is None:
                output.add_folder(member.name, path)
                continue
            with source:
                output.add_file(member.name, path, source)
        _check_end(content, output)


def _check_end(content: tarfile.TarFile, output: _Output) -> None:
    # tarfile takes a broken header, or the end of the file, for the end of the archive
    file = content.fileobj
    assert file is not None
    file.seek(content.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end mark: cut off, or a broken header")
    n_bytes = 0
    while chunk := file.read(CHUNK):  # on to gzip's checksum, which stands at the end
        n_bytes += len(chunk)
        if n_bytes > output.max_bytes:
            raise tarfile.ReadError("too much after the end mark")


def _unwrap(folder: Path) -> Path:
    """Return the only folder in a folder, or the folder itself."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
