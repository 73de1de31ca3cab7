from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import pytest

from data.progress import open_bar, print_line, track


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every look at it is 25 s after the one before."""
    seconds = itertools.count(0.0, 25.0)
    monkeypatch.setattr("tqdm.std.time", lambda: next(seconds))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("clock")
def test_one_line_a_minute_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> Iterator[int]:
        yield from range(8)

    assert list(track(make(), "prepare", total=8)) == list(range(8))
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 5
    assert all(line.startswith("prepare: ") and " of 8 cases, " in line for line in lines)
    assert " so far, 0" in lines[0]
    assert lines[0].endswith(" left")


def test_a_short_step_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "prepare")) == [1, 2]
    with open_bar(None, "a.tar", "B") as bar:
        bar.update(1000)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("clock")
def test_bytes_and_an_unknown_total() -> None:
    stream = io.StringIO()
    with open_bar(None, "a.tar", "B", stream) as bar:
        for _ in range(4):
            bar.update(1_000_000_000)
        bar.total = 8_000_000_000
    first, *_, last = stream.getvalue().splitlines()
    assert first.startswith("a.tar: ")
    assert " of ?B, " in first
    assert "a.tar: 4.00G of 8.00GB, " in last


def test_a_bar_on_a_terminal() -> None:
    terminal = Terminal()
    with open_bar(4, "prepare", stream=terminal) as bar:
        bar.update(2)
    assert "\rprepare:  50%|" in terminal.getvalue()
    assert "2/4" in terminal.getvalue()


def test_a_printed_line_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("volume-1: 8 slices")
    assert capsys.readouterr().out == "volume-1: 8 slices\n"
