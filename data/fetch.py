"""One file over HTTP, whole or not at all: resumed where it stopped, its size and checksum verified.

The bytes gather in `PATH.part`, what the server said of them in `PATH.part.json`; complete and verified, the file
takes its name. A server that offers neither an ETag nor a date cannot tell whether its file is still the same, so
there each connection starts anew.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from data.command import InputError
from data.files import read_json, write_json

CHUNK = 2**20
ATTEMPTS = 6
TIMEOUT_S = 60.0
BUSY = (408, 425, 429, 500, 502, 503, 504)
AGENT = "joint-liver-tumor-segmentation (data.download)"
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Progress:
    """How far a long step is, on standard error: a bar on a terminal, else a line every ten seconds."""

    def __init__(self, label: str, total: int | None = None, stream: IO[str] | None = None) -> None:
        self.label, self.total, self.stream = label, total, stream or sys.stderr
        self.is_bar = self.stream.isatty()
        self.every_s = 0.1 if self.is_bar else 10.0
        self.latest = time.monotonic()
        self.is_open = False

    def __call__(self, n_bytes: int) -> None:
        """Show that `n_bytes` of the whole are done."""
        now = time.monotonic()
        if now - self.latest < self.every_s:
            return
        self.latest = now
        if not self.is_bar:
            print(self.text(n_bytes), file=self.stream, flush=True)
            return
        width = max(shutil.get_terminal_size().columns - 1, 20)
        print(
            f"\r{self.text(n_bytes, bar=24):<{width}.{width}}", end="", file=self.stream, flush=True
        )
        self.is_open = True

    def text(self, n_bytes: int, bar: int = 0) -> str:
        """Return "LABEL: 1.20 of 4.80 GB (25 %)", with a bar of that many characters."""
        if not self.total:
            return f"{self.label}: {n_bytes / 1e9:.2f} GB"
        part = min(n_bytes / self.total, 1.0)
        full = "#" * round(part * bar)
        drawn = f" [{full:.<{bar}}]" if bar else ""
        return f"{self.label}:{drawn} {n_bytes / 1e9:.2f} of {self.total / 1e9:.2f} GB ({100 * part:.0f} %)"

    def close(self) -> None:
        """End the line of the bar."""
        if self.is_open:
            print(file=self.stream, flush=True)
        self.is_open = False


@dataclass(frozen=True)
class Fetched:
    """A complete file: its size in bytes and its checksums."""

    n_bytes: int
    md5: str
    sha256: str


class _DroppedError(Exception):
    """The connection broke, or the server is busy: worth another attempt."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to https, and from http to http; to nothing else."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("https", req.type):
            fp.close()
            raise InputError(
                f"{req.full_url}: redirected to {newurl}; {scheme} is not followed from {req.type}"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)


def fetch(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    md5: str | None = None,
    sha256: str | None = None,
    timeout_s: float = TIMEOUT_S,
    sleep: Callable[[float], object] = time.sleep,
) -> Fetched:
    """Download `url` to `path`; an interrupted call goes on where it stopped.

    A dropped connection and a busy server are tried again, up to `ATTEMPTS` times in a row without a new byte, after
    1, 2, 4, ... seconds. A file that is already at `path` is verified and not fetched again. Where the server tells
    no length, and does not send in chunks, a file cut short looks complete: then only a checksum tells.

    Args:
        url: http or https; redirects to another scheme are refused.
        path: where to; its folder is made.
        size: bytes, where published.
        md5, sha256: hexadecimal digits, where published.
        timeout_s: how long the server may be silent.
        sleep: called with the seconds to wait between attempts.

    Raises:
        InputError: another scheme, an answer such as 404, no network, another size or checksum than published. A
            download with a wrong checksum is removed, so that the next call starts anew.
        OSError: the file cannot be written.
    """
    url = _quoted(url)
    if path.is_file():
        return _verified(path, str(path), size, md5, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(path, url, size)
    _fetch_part(part, timeout_s, sleep)
    try:
        fetched = _verified(part.path, url, size, md5, sha256)
    except InputError as error:
        part.remove()
        raise InputError(f"{error}; removed, the next call starts anew") from None
    os.replace(part.path, path)
    part.remove()
    return fetched


def _quoted(url: str) -> str:
    url = urllib.parse.quote(url, safe="%/:?#[]@!$&'()*+,;=~")
    try:
        parts = urllib.parse.urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        is_address = False
    if not is_address:
        raise InputError(f"{url}: not an http or https address")
    return url


class _Part:
    """An unfinished download: PATH.part, and PATH.part.json with what the server said of the whole file."""

    def __init__(self, path: Path, url: str, size: int | None) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self.record = path.with_name(f"{path.name}.part.json")
        self.url, self.size = url, size
        self.known: dict[str, Any] = {}
        with suppress(InputError):
            known = read_json(self.record, needs=("url", "etag", "last_modified", "total"))
            self.known = known if known["url"] == url else {}

    @property
    def n_bytes(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def total(self) -> int | None:
        return self.known.get("total")

    @property
    def validator(self) -> str | None:
        """What If-Range may hold: a strong ETag, or a date."""
        etag = self.known.get("etag")
        return etag if etag and not etag.startswith("W/") else self.known.get("last_modified")

    @property
    def resumes_at(self) -> int:
        return self.n_bytes if self.validator else 0

    def is_same(self, headers: Any, total: str) -> bool:
        """Return whether a partial answer, of a file of `total` bytes ("*": not said), goes on with this one."""
        said = {"etag": headers.get("ETag"), "last_modified": headers.get("Last-Modified")}
        said["total"] = None if self.total is None or total == "*" else int(total)
        return all(value in (None, self.known[key]) for key, value in said.items())

    def begin(self, headers: Any, total: int | None) -> None:
        """Start anew with the file that the server offers."""
        if self.size is not None and total not in (None, self.size):
            raise InputError(
                f"{self.url}: the server offers {total} bytes, published are {self.size}"
            )
        self.remove()
        self.known = {
            "url": self.url,
            "etag": headers.get("ETag"),
            "last_modified": headers.get("Last-Modified"),
            "total": self.size if total is None else total,
        }
        write_json(self.record, self.known)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)
        self.known = {}


def _fetch_part(part: _Part, timeout_s: float, sleep: Callable[[float], object]) -> None:
    progress, failures, most = Progress(part.path.stem), 0, part.n_bytes
    try:
        while True:
            try:
                return _connect(part, timeout_s, progress)
            except _DroppedError as error:
                failures = 1 if part.n_bytes > most else failures + 1
                most = max(most, part.n_bytes)
                if failures >= ATTEMPTS:
                    raise InputError(
                        f"{part.url}: {error}, after {failures} attempts; the same command goes on from here"
                    ) from None
                wait_s = min(2.0 ** (failures - 1), 60.0)
                progress.close()
                print(
                    f"{part.path.stem}: {error}; again in {wait_s:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
                sleep(wait_s)
    finally:
        progress.close()


def _connect(part: _Part, timeout_s: float, progress: Progress) -> None:
    """Receive what is missing over one connection."""
    start = part.resumes_at
    if start and start == part.total:
        return
    headers = {"User-Agent": AGENT}
    if start and part.validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": part.validator}
    with _open(part.url, headers, timeout_s) as response:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 416 and match and match[2] == str(start):
            return  # nothing is missing: the server had told no length
        if (
            response.status == 206
            and match
            and match[1] == str(start)
            and part.is_same(response.headers, match[2])
        ):
            if part.total is None and match[2] != "*":
                part.known["total"] = int(match[2])
        elif response.status == 200:
            length = response.headers.get("Content-Length", "")
            part.begin(response.headers, int(length) if length.isdecimal() else None)
        else:
            part.remove()
            raise _DroppedError("the server's answer does not fit the bytes at hand")
        progress.total = part.total
        _receive(response, part, progress)


def _open(
    url: str, headers: dict[str, str], timeout_s: float
) -> http.client.HTTPResponse | urllib.error.HTTPError:
    try:
        response: http.client.HTTPResponse = _OPENER.open(
            urllib.request.Request(url, headers=headers), None, timeout_s
        )
        return response
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        with error:
            _refuse(url, error)
    except (http.client.HTTPException, OSError) as error:
        raise _DroppedError(f"no connection ({getattr(error, 'reason', None) or error})") from None


def _refuse(url: str, error: urllib.error.HTTPError) -> NoReturn:
    answer = " ".join(f"the server answers {error.code} {error.reason}".split())
    if error.code in BUSY:
        raise _DroppedError(answer)
    raise InputError(f"{url}: {answer}")


def _receive(response: Any, part: _Part, progress: Progress) -> None:
    n_bytes = part.n_bytes
    with part.path.open("ab") as file:
        while part.total is None or n_bytes < part.total:
            try:
                chunk = response.read1(
                    CHUNK if part.total is None else min(CHUNK, part.total - n_bytes)
                )
            except (http.client.HTTPException, OSError) as error:
                raise _DroppedError(
                    f"the connection broke ({error or type(error).__name__})"
                ) from None
            if not chunk:
                break
            file.write(chunk)
            n_bytes += len(chunk)
            progress(n_bytes)
    if part.total is not None and n_bytes < part.total:
        raise _DroppedError(f"the connection broke at {n_bytes} of {part.total} bytes")


def _verified(
    path: Path, name: str, size: int | None, md5: str | None, sha256: str | None
) -> Fetched:
    """Return size and checksums of a file; `name` is what an error calls it."""
    n_bytes = path.stat().st_size
    if size is not None and n_bytes != size:
        raise InputError(f"{name}: has {n_bytes} bytes, published are {size}")
    fetched = Fetched(n_bytes, *_checksums(path, n_bytes))
    for kind, expected in (("md5", md5), ("sha256", sha256)):
        if expected and getattr(fetched, kind) != expected.lower():
            raise InputError(
                f"{name}: its {kind} is {getattr(fetched, kind)}, published is {expected}"
            )
    return fetched


def _checksums(path: Path, n_bytes: int) -> tuple[str, str]:
    digests = (hashlib.md5(usedforsecurity=False), hashlib.sha256())
    progress, done = Progress(f"checksum of {path.name.removesuffix('.part')}", n_bytes), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in digests:
                digest.update(chunk)
            done += len(chunk)
            progress(done)
    progress.close()
    return digests[0].hexdigest(), digests[1].hexdigest()
