"""Work on many cases at once, where no bad case stops the others.

joblib runs them, in processes or on a cluster. By hand is what becomes of a case that fails.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from data.command import InputError
from data.progress import print_line, track

THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM)
"""Errors that are not a case's fault: they end the command."""

MOST_NAMED = 5  # cases in one line
STREAMING = ("loky", "threading")  # backends that give results as they come


class Failures:
    """The cases that cannot be used.

    Attributes:
        skip: go on without them.
        by_case: what is wrong with each.
        order: of the cases; `by_case` follows it, whatever finishes first.
        can_skip: whether the command has --skip-bad: only then each bad case is printed as it is
            found. Otherwise one line at the end says it all.
    """

    def __init__(self, skip: bool, order: Sequence[str] = (), can_skip: bool = True) -> None:
        self.skip, self.order, self.can_skip = skip, list(order), can_skip
        self.by_case: dict[str, str] = {}

    def add(self, case: str, why: str) -> None:
        """Note a case, and print it where it can be skipped."""
        why = " ".join(why.split())  # one line, whoever wrote it
        reasons = {**self.by_case, case: why}
        self.by_case = {name: reasons[name] for name in (*self.order, *reasons) if name in reasons}
        if self.can_skip:
            print_line(f"{case}: cannot be used: {why}")

    def stop(self) -> None:
        """Raise an InputError for the failures, unless they are to be skipped."""
        if self.by_case and not self.skip:
            raise InputError(next(iter(self.by_case.values())) + self._name_others())

    def _name_others(self) -> str:
        _, *cases = self.by_case
        if not cases:
            return ""
        if self.can_skip:
            named = "of its cases, named above; --skip-bad goes on without them"
            return f" (and {len(cases)} more {named})"
        named = ", ".join(cases[:MOST_NAMED]) + (", ..." if len(cases) > MOST_NAMED else "")
        return f" (and {len(cases)} more cannot be used: {named})"


def run_cases(
    work: Mapping[str, Callable[[], Any]],
    jobs: int,
    backend: str,
    failures: Failures,
    title: str = "cases",
) -> Iterator[tuple[str, Any]]:
    """Yield (case, result) of each work that succeeds, as they finish.

    Args:
        work: by case, what to call; for processes it must be picklable.
        jobs: how many at once; 1 runs them here, -1 takes every core.
        backend: joblib's name of it; "dask:tcp://HOST:PORT" is the scheduler of a Dask cluster.
        failures: takes what fails by InputError or OSError.
        title: of the progress.

    Yields:
        The case and what its call returned.

    Raises:
        InputError: joblib does not know the backend.
    """
    attempts: Iterator[tuple[str, Any, str]] = itertools.starmap(_attempt, work.items())
    if jobs != 1 or backend != "loky":
        attempts = _run_parallel(work, jobs, backend)
    for case, result, why in track(attempts, title, len(work)):
        if why:
            failures.add(case, why)
        else:
            yield case, result


def _run_parallel(
    work: Mapping[str, Callable[[], Any]], jobs: int, backend: str
) -> Iterator[tuple[str, Any, str]]:
    from concurrent.futures.process import BrokenProcessPool

    from joblib import Parallel, delayed, parallel_config

    name, _, scheduler = backend.partition(":")
    address = {"scheduler_host": scheduler} if scheduler else {}
    try:
        config = parallel_config(backend=name, n_jobs=jobs, **address)
        parallel = Parallel(return_as="generator_unordered" if name in STREAMING else "list")
    except Exception as error:  # joblib and what it starts have errors of their own
        raise InputError(f"--backend {backend}: {error}") from None
    try:
        with config:
            yield from parallel(delayed(_attempt)(case, call) for case, call in work.items())
    except BrokenProcessPool:
        raise InputError(
            "a process was killed, mostly for memory: take fewer --jobs; "
            "the same command goes on from here"
        ) from None


def _attempt(case: str, call: Callable[[], Any]) -> tuple[str, Any, str]:
    """Return (case, result, "") or (case, None, why it failed)."""
    try:
        return case, call(), ""
    except InputError as error:
        return case, None, str(error)
    except OSError as error:
        if error.errno in THE_MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return case, None, f"{where}{error.strerror or error}"
    except Exception as error:  # whatever one file brings up, the others go on
        return case, None, f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
