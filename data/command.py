"""What every command of the project shares: one-line errors, exit codes, the parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

REFUSED = 2
"""Exit code of every command for a user's mistake."""


class InputError(ValueError):
    """A user's mistake: a bad file, a bad flag, a run that does not fit.

    The message is one line that names the file (or flag) and the rule it breaks. A command that
    meets one prints it on standard error and exits with code 2, without a traceback.
    """


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line; exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(REFUSED, f"{self.prog}: {' '.join(message.split())}\n")


def run_command(main: Callable[[], None], name: str) -> NoReturn:
    """Run `main` as the command `name` and exit: 0 done, 2 a user's mistake, 130 interrupted."""
    try:
        main()
    except InputError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(REFUSED)
    except OSError as error:  # no permission, disk full, a folder where a file should be
        where = f"{error.filename}: " if error.filename else ""
        print(f"{name}: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def check_seed(seed: int) -> None:
    """Check the value of --seed, as Keras takes it.

    Raises:
        InputError: it is out of range.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed {seed}: must be from 0 to 2**32 - 1")


def integers(text: str) -> list[int]:
    """Parse a comma-separated list of integers, as `--subset 765,50,50` or `--test 11,16`."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers separated by commas, got {text!r}"
        ) from None
