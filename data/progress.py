"""Show how far a long step is, with the time left.

tqdm counts, estimates and draws a bar. By hand is what it lacks: a line a minute where there is no
terminal (`_Lines`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

MINUTE_S = 60
LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} so far, {remaining} left"

Item = TypeVar("Item")


class _Lines:
    """A stream that puts each state of a bar on a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self.stream.write(f"{line}\n")

    def flush(self) -> None:
        self.stream.flush()


def open_bar(
    total: float | None,
    title: str,
    unit: str = "case",
    stream: TextIO | None = None,
    n_done: float = 0,
) -> tqdm[Any]:
    """Open a progress bar, to be advanced by `update(n)`; it closes as a context.

    Without a terminal nothing is shown of a step of less than a minute.

    Args:
        total: number of units, None where it is not known.
        title: what is being done.
        unit: what is counted; "B" (bytes) is shown in kB, MB, GB.
        stream: where to, standard error by default.
        n_done: units that an earlier call did.

    Returns:
        The bar.
    """
    stream = stream or sys.stderr
    settings: dict[str, Any] = {"total": total, "desc": title, "initial": n_done}
    settings["unit_scale"] = is_bytes = unit == "B"
    if stream.isatty():
        return tqdm(**settings, unit=unit, file=stream, dynamic_ncols=True)
    return tqdm(
        **settings,
        unit="B" if is_bytes else f" {unit.removesuffix('s')}s",
        file=_Lines(stream),
        bar_format=LINE,
        mininterval=MINUTE_S,
        miniters=1,
        delay=MINUTE_S,
    )


def track(
    items: Iterable[Item], title: str, total: float | None = None, unit: str = "case"
) -> Iterator[Item]:
    """Yield the items and show how many of them are done.

    Args:
        items, title: what to go through, and what the bar says.
        total: number of items, where they have no length.
        unit: what an item is, in the singular.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with open_bar(total, title, unit) as bar:
        for item in items:
            yield item
            bar.update()


def print_line(text: str) -> None:
    """Print a line on standard output, above the open bars."""
    tqdm.write(text)
    sys.stdout.flush()
