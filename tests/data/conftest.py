"""What the tests of this room share: how a refusal is expected, and a local server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from data.command import InputError
from tests.data.serving import Server, serving


def refuses(message: str) -> pytest.RaisesExc[InputError]:
    """Expect an InputError of one line whose message matches a regular expression."""
    return pytest.RaisesExc(InputError, match=message, check=lambda error: "\n" not in str(error))


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """A server that a module's tests share."""
    with serving() as server:
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server without files, which no proxy stands before."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running.files.clear()
    running.requests.clear()
    return running
