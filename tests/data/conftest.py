"""A local server for the tests of fetching and downloading."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.data.serving import Server, serving


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
