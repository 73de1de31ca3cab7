from __future__ import annotations

import io
import json
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from data.command import InputError
from data.fetch import Fetched, _Redirects, fetch
from tests.data.conftest import refuses
from tests.data.serving import File, Server, Waits, names

# the test vector "abc" of RFC 1321 and FIPS 180
MD5_ABC = "900150983cd24fb0d6963f7d28e17f72"
SHA256_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
BODY = bytes(range(250)) * 20  # 5000 bytes


def test_a_file_and_its_checksums(server: Server, tmp_path: Path) -> None:
    server.files["/a%20b/%C3%A9.bin"] = File(b"abc")
    path = tmp_path / "mit Leerzeichen, é" / "é.bin"
    for url in ("/a b/é.bin", "/a%20b/%C3%A9.bin"):
        assert fetch(
            server.url(url), path, size=3, md5=MD5_ABC.upper(), sha256=SHA256_ABC
        ) == Fetched(3, MD5_ABC, SHA256_ABC)
        assert path.read_bytes() == b"abc"
        assert names(path.parent) == ["é.bin"]
    assert len(server.requests) == 1  # the second call had the file


def test_no_bytes_at_all(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = File(b"")
    assert fetch(server.url("/a"), tmp_path / "a").n_bytes == 0
    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("etag", "modified"), [('"one"', None), ('W/"weak"', "Mon, 05 Jan 2026 10:00:00 GMT")]
)
def test_drops_resume(
    server: Server, tmp_path: Path, chunked: bool, etag: str, modified: str | None
) -> None:
    server.files["/a"] = File(
        BODY, etag=etag, modified=modified, chunked=chunked, drops=[1200, 2000]
    )
    waits = Waits()
    fetch(server.url("/a"), tmp_path / "a", sleep=waits)
    assert (tmp_path / "a").read_bytes() == BODY
    assert [request[2] for request in server.requests] == [None, modified or etag, modified or etag]
    assert server.ranges() == [None, "bytes=1200-", "bytes=3200-"]
    assert waits == [1, 1]  # each attempt brought bytes
    assert names(tmp_path) == ["a"]


def test_a_later_call_resumes(server: Server, tmp_path: Path) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    server.files["/a"] = File(BODY, drops=[1200])
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url("/a"), tmp_path / "a", sleep=stop)
    assert names(tmp_path) == ["a.part", "a.part.json"]
    assert (tmp_path / "a.part").read_bytes() == BODY[:1200]
    record = json.loads((tmp_path / "a.part.json").read_text())
    assert record == {
        "url": server.url("/a"),
        "etag": '"one"',
        "last_modified": None,
        "total": 5000,
    }
    fetch(server.url("/a"), tmp_path / "a")
    assert server.ranges() == [None, "bytes=1200-"]
    assert (tmp_path / "a").read_bytes() == BODY


def part(folder: Path, content: bytes, **record: object) -> None:
    known = {"etag": '"one"', "last_modified": None, "total": None, **record}
    (folder / "a.part").write_bytes(content)
    (folder / "a.part.json").write_text(json.dumps(known))


def test_a_server_that_ignores_range(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = File(BODY, ranges=False, drops=[1200, 4000])
    fetch(server.url("/a"), tmp_path / "a", sleep=Waits())
    assert server.ranges() == [None, "bytes=1200-", "bytes=4000-"]
    assert (tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize("looks_at_if_range", [True, False])
def test_a_file_that_changed_starts_anew(
    server: Server, tmp_path: Path, looks_at_if_range: bool
) -> None:
    part(tmp_path, b"old" * 400, url=server.url("/a"), total=5000)
    server.files["/a"] = File(BODY, etag='"two"', looks_at_if_range=looks_at_if_range)
    fetch(server.url("/a"), tmp_path / "a", sleep=Waits())
    assert server.ranges() == ["bytes=1200-"] + [None] * (not looks_at_if_range)
    assert (tmp_path / "a").read_bytes() == BODY
    assert names(tmp_path) == ["a"]


def test_another_length_is_another_file(server: Server, tmp_path: Path) -> None:
    part(tmp_path, BODY[:1200], url=server.url("/a"), total=4999)
    server.files["/a"] = File(BODY)
    fetch(server.url("/a"), tmp_path / "a", sleep=Waits())
    assert server.ranges() == ["bytes=1200-", None]
    assert (tmp_path / "a").read_bytes() == BODY


def test_without_a_mark_of_the_version_it_starts_anew(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = File(BODY, etag=None, drops=[1200, 1200])
    waits = Waits()
    fetch(server.url("/a"), tmp_path / "a", sleep=waits)
    assert server.ranges() == [None, None, None]
    assert waits == [1, 2]
    assert (tmp_path / "a").read_bytes() == BODY


def test_parts_of_unknown_origin_start_anew(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = File(BODY)
    for damage in ("{}", "no json", json.dumps({"url": "http://other/a", "etag": '"one"'})):
        part(tmp_path, b"x" * 1200, url="")
        (tmp_path / "a.part.json").write_text(damage)
        fetch(server.url("/a"), tmp_path / "a")
        assert server.ranges() == [None]
        assert (tmp_path / "a").read_bytes() == BODY
        (tmp_path / "a").unlink()
    part(tmp_path, BODY[:1200], url="http://other/a")
    fetch(server.url("/a"), tmp_path / "a")
    assert server.ranges() == [None]


def test_everything_is_there_but_the_name(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = File(BODY)
    part(tmp_path, BODY, url=server.url("/a"), total=5000)
    fetch(server.url("/a"), tmp_path / "a")
    assert server.ranges() == []
    (tmp_path / "a").unlink()
    part(tmp_path, BODY, url=server.url("/a"))  # it came in chunks: the total was not known
    fetch(server.url("/a"), tmp_path / "a")
    assert server.ranges() == ["bytes=5000-"]
    (tmp_path / "a").unlink()
    part(tmp_path, BODY + b"more", url=server.url("/a"))
    fetch(server.url("/a"), tmp_path / "a", sleep=Waits())
    assert server.ranges() == ["bytes=5004-", None]
    assert (tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize("published", [{"md5": MD5_ABC}, {"sha256": SHA256_ABC}])
def test_wrong_bytes_are_removed(server: Server, tmp_path: Path, published: dict[str, Any]) -> None:
    server.files["/a"] = File(b"abd")
    kind, value = next(iter(published.items()))
    with refuses(rf"/a: its {kind} is \w+, published is {value}; removed, the next call"):
        fetch(server.url("/a"), tmp_path / "a", **published)
    assert names(tmp_path) == []
    server.files["/a"] = File(b"abc")
    fetch(server.url("/a"), tmp_path / "a", **published)
    assert server.ranges() == [None, None]


def test_a_wrong_file_of_the_users_own_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abd")
    with refuses("a: its md5 is 4911e516e5aa21d327512e0c8b197616, published is"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", md5=MD5_ABC)  # md5sum of "abd", by coreutils
    with refuses("a: has 3 bytes, published are 4"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", size=4)
    assert (tmp_path / "a").read_bytes() == b"abd"


def test_wrong_lengths(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = File(BODY)
    with refuses("/a: the server offers 5000 bytes, published are 5001"):
        fetch(server.url("/a"), tmp_path / "a", size=5001)
    server.files["/a"] = File(BODY, chunked=True)
    with refuses("/a: has 5000 bytes, published are 5001; removed"):
        fetch(server.url("/a"), tmp_path / "a", size=5001, sleep=Waits())
    assert server.ranges() == [None, None, "bytes=5000-"]
    server.files["/a"] = File(
        BODY, etag=None, length=6000
    )  # and breaks off after 5000 bytes, each time
    waits = Waits()
    with refuses("/a: the connection broke at 5000 of 6000 bytes, after 6 attempts"):
        fetch(server.url("/a"), tmp_path / "a", sleep=waits)
    assert waits == [1, 2, 4, 8, 16]
    assert len(server.requests) == 6
    assert not (tmp_path / "a").exists()


def test_answers_that_are_no_file(server: Server, tmp_path: Path) -> None:
    with refuses("/none: the server answers 404 Not Found"):
        fetch(server.url("/none"), tmp_path / "a", sleep=Waits())
    assert len(server.requests) == 1
    waits = Waits()
    server.files["/a"] = File(b"abc", statuses=[500, 503])
    fetch(server.url("/a"), tmp_path / "a", md5=MD5_ABC, sleep=waits)
    assert waits == [1, 2]
    server.files["/b"] = File(b"abc", statuses=[503] * 6)
    with refuses("/b: the server answers 503 Service Unavailable, after 6 attempts"):
        fetch(server.url("/b"), tmp_path / "b", sleep=waits)
    assert waits == [1, 2, 1, 2, 4, 8, 16]
    assert names(tmp_path) == ["a"]


def test_no_server(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a"
        with refuses(r"/a: no connection \(.*refused\), after 6 attempts") as caught:
            fetch(url, tmp_path / "a", sleep=Waits())
    assert "\n" not in str(caught.value)


def test_a_silent_server(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with refuses(r"/a: no connection \(timed out\)"):
            fetch(
                f"http://127.0.0.1:{silent.getsockname()[1]}/a",
                tmp_path / "a",
                timeout_s=0.005,
                sleep=Waits(),
            )


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host/a",
        "http:///a",
        "a.tar",
        "",
        "http://host:port/a",
        "http://[::1/a",
    ],
)
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with refuses("not an http or https address"):
        fetch(url, tmp_path / "a")


def test_redirects(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = File(b"abc")
    server.files["/to"] = File(b"", location="/a")
    assert fetch(server.url("/to"), tmp_path / "a").md5 == MD5_ABC
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/a", "/loop"):
        server.files["/loop"] = File(b"", location=location)
        with pytest.raises(InputError) as caught:
            fetch(server.url("/loop"), tmp_path / "b", sleep=Waits())
        assert str(caught.value).startswith(server.url("/loop"))
        assert "\n" not in str(caught.value)
    with refuses(r"redirected to http://b/; http is not followed from https"):
        _Redirects().redirect_request(
            urllib.request.Request("https://a/"), io.BytesIO(), 302, "", {}, "http://b/"
        )
    assert names(tmp_path) == ["a"]


def test_a_disk_error_is_not_taken_for_the_network(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = File(b"abc")
    (tmp_path / "a.part" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"a\.part"):
        fetch(server.url("/a"), tmp_path / "a", sleep=Waits())
    assert len(server.requests) == 1
