"""Work on many cases at once, where no bad case stops the others: joblib, in processes or on a cluster."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from joblib import Parallel, delayed, parallel_config

from data.command import InputError

THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM)
"""Errors that are not a case's fault: they end the command."""

MOST_NAMED = 5  # cases in one line

STREAMING = ("loky", "threading")  # backends that give results as they come


class Failures:
    """The cases that cannot be used.

    Attributes:
        by_case: what is wrong with each.
        order: of the cases; `by_case` follows it, whatever finishes first.
        can_skip: whether the command has --skip-bad: only then each bad case is printed as it is found. Otherwise
            one line at the end says it all.
    """

    def __init__(self, skip: bool, order: Sequence[str] = (), can_skip: bool = True) -> None:
        self.skip, self.order, self.can_skip = skip, list(order), can_skip
        self.by_case: dict[str, str] = {}

    def add(self, case: str, why: str) -> None:
        """Note a case, and say so where it can be skipped."""
        why = " ".join(why.split())  # one line, whoever wrote it
        found = {**self.by_case, case: why}
        self.by_case = {name: found[name] for name in (*self.order, *found) if name in found}
        if self.can_skip:
            print(f"{case}: cannot be used: {why}", flush=True)

    def stop(self) -> None:
        """End the command, unless the bad cases are to be skipped.

        Raises:
            InputError: a case cannot be used.
        """
        if self.by_case and not self.skip:
            raise InputError(next(iter(self.by_case.values())) + self._others())

    def _others(self) -> str:
        _, *others = self.by_case
        if not others:
            return ""
        if self.can_skip:
            return f" (and {len(others)} more of its cases, named above; --skip-bad goes on without them)"
        more = ", ..." if len(others) > MOST_NAMED else ""
        return f" (and {len(others)} more cannot be used: {', '.join(others[:MOST_NAMED])}{more})"


def each_case(
    work: Mapping[str, Callable[[], Any]], jobs: int, backend: str, failures: Failures
) -> Iterator[tuple[str, Any]]:
    """Yield (case, result) of each work that succeeds, as they finish; the others go to `failures`.

    Args:
        work: by case, what to call; for processes it must be picklable.
        jobs: how many at once; 1 runs them here, -1 takes every core.
        backend: joblib's name of it; "dask:tcp://HOST:PORT" is the scheduler of a Dask cluster.
        failures: takes what fails by InputError or OSError.

    Raises:
        InputError: joblib does not know the backend.
    """
    one_by_one = jobs == 1 and backend == "loky"
    attempts = (_attempt(case, call) for case, call in work.items())
    for case, result, why in attempts if one_by_one else _parallel(work, jobs, backend):
        if why:
            failures.add(case, why)
        else:
            yield case, result


def _parallel(
    work: Mapping[str, Callable[[], Any]], jobs: int, backend: str
) -> Iterator[tuple[str, Any, str]]:
    name, _, scheduler = backend.partition(":")
    try:
        config = parallel_config(
            backend=name, n_jobs=jobs, **({"scheduler_host": scheduler} if scheduler else {})
        )
        parallel = Parallel(return_as="generator_unordered" if name in STREAMING else "list")
    except Exception as error:  # joblib and what it starts have errors of their own
        raise InputError(f"--backend {backend}: {error}") from None
    try:
        with config:
            yield from parallel(delayed(_attempt)(case, call) for case, call in work.items())
    except BrokenProcessPool:
        raise InputError(
            "a process was killed, mostly for memory: take fewer --jobs; the same command goes on from here"
        ) from None


def _attempt(case: str, call: Callable[[], Any]) -> tuple[str, Any, str]:
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
