"""Fetch one file over HTTP, whole or not at all, and verify it.

The bytes gather in `PATH.part`, the server's headers in `PATH.part.json`. Complete and verified,
the file takes its name. Without an ETag or a date nobody can tell whether the server's file is
still the same, so each connection starts anew.

By hand, because pooch fetches a file from its first byte after each interruption.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
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
from data.progress import open_bar

CHUNK = 2**20
ATTEMPTS = 6
TIMEOUT_S = 60.0
BUSY = (408, 425, 429, 500, 502, 503, 504)
AGENT = "joint-liver-tumor-segmentation (data.download)"
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


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

    A dropped connection and a busy server are tried again, up to `ATTEMPTS` times in a row without
    a new byte, after 1, 2, 4, ... seconds. A file already at `path` is only verified. Where the
    server tells no length and does not send in chunks, only a checksum shows a file cut short.

    Args:
        url: http or https; redirects to another scheme are refused.
        path: where to; its folder is made.
        size: bytes, where published.
        md5, sha256: hexadecimal digits, where published.
        timeout_s: how long the server may be silent.
        sleep: called with the seconds to wait between attempts.

    Returns:
        Size and checksums of the file.

    Raises:
        InputError: another scheme, an answer such as 404, no network, or another size or checksum
            than published. A download with a wrong checksum is removed.
        OSError: the file cannot be written.
    """
    url = _quote(url)
    if path.is_file():
        return _verify(path, str(path), size, md5, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(path, url, size)
    _fetch_part(part, timeout_s, sleep)
    try:
        fetched = _verify(part.path, url, size, md5, sha256)
    except InputError as error:
        part.remove()
        raise InputError(f"{error}; removed, the next call starts anew") from None
    os.replace(part.path, path)
    part.remove()
    return fetched


def _quote(url: str) -> str:
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
    """An unfinished download: PATH.part, and what the server told in PATH.part.json."""

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

    def is_continued_by(self, headers: Any, total: str) -> bool:
        """Return whether a partial answer, of `total` bytes or "*", goes on with it."""
        answer = {"etag": headers.get("ETag"), "last_modified": headers.get("Last-Modified")}
        answer["total"] = None if self.total is None or total == "*" else int(total)
        return all(value in (None, self.known[key]) for key, value in answer.items())

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
    """Connect until the file is complete, or no attempt brings a new byte."""
    failures, most = 0, part.n_bytes
    while True:
        try:
            return _connect(part, timeout_s)
        except _DroppedError as error:
            failures = 1 if part.n_bytes > most else failures + 1
            most = max(most, part.n_bytes)
            if failures >= ATTEMPTS:
                raise InputError(
                    f"{part.url}: {error}, after {failures} attempts; the same command goes on "
                    "from here"
                ) from None
            wait_s = min(2.0 ** (failures - 1), 60.0)
            print(f"{part.path.stem}: {error}; again in {wait_s:.0f} s", file=sys.stderr)
            sleep(wait_s)


def _connect(part: _Part, timeout_s: float) -> None:
    """Receive what is missing over one connection."""
    start = part.resumes_at
    if start and start == part.total:
        return
    headers = {"User-Agent": AGENT}
    if start and part.validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": part.validator}
    with _open(part.url, headers, timeout_s) as response:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        first, total = (match[1], match[2]) if match else (None, "")
        if response.status == 416 and total == str(start):
            return  # nothing is missing: the server had told no length
        goes_on = response.status == 206 and first == str(start)
        if goes_on and part.is_continued_by(response.headers, total):
            if part.total is None and total != "*":
                part.known["total"] = int(total)
        elif response.status == 200:
            length = response.headers.get("Content-Length", "")
            part.begin(response.headers, int(length) if length.isdecimal() else None)
        else:
            part.remove()
            raise _DroppedError("the server's answer does not fit the bytes at hand")
        _receive(response, part)


def _open(
    url: str, headers: dict[str, str], timeout_s: float
) -> http.client.HTTPResponse | urllib.error.HTTPError:
    """Open a connection; an answer of 416 is one, too."""
    try:
        request = urllib.request.Request(url, headers=headers)
        response: http.client.HTTPResponse = _OPENER.open(request, None, timeout_s)
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


def _receive(response: Any, part: _Part) -> None:
    """Append what a connection brings to the part."""
    n_bytes, total = part.n_bytes, part.total
    bar = open_bar(total, part.path.stem, "B", n_done=n_bytes)
    with part.path.open("ab") as file, bar:
        while total is None or n_bytes < total:
            try:
                chunk = response.read1(CHUNK if total is None else min(CHUNK, total - n_bytes))
            except (http.client.HTTPException, OSError) as error:
                reason = error or type(error).__name__
                raise _DroppedError(f"the connection broke ({reason})") from None
            if not chunk:
                break
            file.write(chunk)
            n_bytes += len(chunk)
            bar.update(len(chunk))
    if total is not None and n_bytes < total:
        raise _DroppedError(f"the connection broke at {n_bytes} of {total} bytes")


def _verify(
    path: Path, name: str, size: int | None, md5: str | None, sha256: str | None
) -> Fetched:
    """Return size and checksums of a file, held against the published ones.

    Raises:
        InputError: one differs.
    """
    n_bytes = path.stat().st_size
    if size is not None and n_bytes != size:
        raise InputError(f"{name}: has {n_bytes} bytes, published are {size}")
    digests = (hashlib.md5(usedforsecurity=False), hashlib.sha256())
    title = f"checksum of {path.name.removesuffix('.part')}"
    with path.open("rb") as file, open_bar(n_bytes, title, "B") as bar:
        while chunk := file.read(CHUNK):
            for digest in digests:
                digest.update(chunk)
            bar.update(len(chunk))
    fetched = Fetched(n_bytes, *(digest.hexdigest() for digest in digests))
    for kind, published in (("md5", md5), ("sha256", sha256)):
        if published and getattr(fetched, kind) != published.lower():
            raise InputError(
                f"{name}: its {kind} is {getattr(fetched, kind)}, published is {published}"
            )
    return fetched
