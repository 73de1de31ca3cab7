"""A real HTTP server that drops connections, lies and changes its files on request."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class File:
    """What the server has under one address, and how it misbehaves."""

    body: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    looks_at_if_range: bool = True
    chunked: bool = False
    length: int | None = None  # what Content-Length says, if not the truth
    statuses: list[int] = field(default_factory=list)  # answered first, one per request
    drops: list[int] = field(
        default_factory=list
    )  # bytes after which an answer breaks, one per request
    location: str | None = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        file = self.server.files.get(self.path)
        status = (
            404
            if file is None
            else file.statuses.pop(0)
            if file.statuses
            else 302
            if file.location
            else 200
        )
        if file is None or status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if file and file.location:
                self.send_header("Location", file.location)
            self.end_headers()
            return
        start = self.start_of(file)
        if start >= len(file.body) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(file.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.head(file, start)
        self.answer(file, file.body[start:], file.drops.pop(0) if file.drops else None)

    def start_of(self, file: File) -> int:
        if not self.headers["Range"] or not file.ranges:
            return 0
        same = self.headers["If-Range"] in (file.etag, file.modified)
        return int(self.headers["Range"][6:-1]) if same or not file.looks_at_if_range else 0

    def head(self, file: File, start: int) -> None:
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(file.body) - 1}/{len(file.body)}"
            )
        for name, value in (("ETag", file.etag), ("Last-Modified", file.modified)):
            if value:
                self.send_header(name, value)
        if file.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(file.length or len(file.body) - start))
        self.end_headers()

    def answer(self, file: File, body: bytes, drop: int | None) -> None:
        content = body if drop is None else body[:drop]
        for chunk in (
            (content[i : i + 400] for i in range(0, len(content), 400))
            if file.chunked
            else [content]
        ):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if file.chunked else chunk)
        if drop is not None or file.length:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif file.chunked:
            self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, File] = {}
        self.requests: list[tuple[str, str | None, str | None]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges(self) -> list[str | None]:
        """Take the Range of each request so far."""
        ranges = [request[1] for request in self.requests]
        self.requests.clear()
        return ranges


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server in a thread."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def names(folder: Path) -> list[str]:
    """Return what a folder holds."""
    return sorted(path.name for path in folder.iterdir())


class Waits(list[float]):
    """Takes the place of time.sleep."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)
