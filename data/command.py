"""What all commands share: the parser, one-line errors, exit codes.

argparse does not name the nearest flag for a misspelt one, so `Parser` does.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

REFUSED = 2
"""Exit code of every command for a user's mistake."""


class InputError(ValueError):
    """A user's mistake: a bad file, a bad flag, a run that does not fit.

    The message is one line with the file (or flag) and the rule it breaks. A command prints it on
    standard error and exits with code 2, without a traceback.
    """


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line; exit code 2.

    Flags are written in full. An unknown flag is named with the nearest one that exists.
    """

    def __init__(self, *arguments: Any, example: str = "", **settings: Any) -> None:
        """Make a parser as argparse does; `example` is command lines that end `--help`."""
        super().__init__(*arguments, **{"allow_abbrev": False, **settings})
        self.example = example

    def format_help(self) -> str:
        """Return the text of `--help`: usage, flags by group, the example."""
        lines = "".join(f"\n  {line.strip()}" for line in self.example.strip().splitlines())
        return super().format_help() + (f"\nexample:{lines}\n" if lines else "")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, but name a misspelt flag first."""
        self._check_spelling(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def _check_spelling(self, arguments: Sequence[str]) -> None:
        for argument in arguments:
            if argument == "--":  # what follows are no flags
                return
            flag = argument.partition("=")[0]
            if not flag.startswith("--") or " " in flag or flag in self._option_string_actions:
                continue
            nearest = difflib.get_close_matches(flag, self._option_string_actions, n=1)
            remedy = f"did you mean {nearest[0]}?" if nearest else "--help lists them"
            self.error(f"{flag}: no such flag; {remedy}")

    def error(self, message: str) -> NoReturn:
        """Print the message in one line and exit with code 2."""
        self.exit(REFUSED, f"{self.prog}: {' '.join(message.split())}\n")


def run_command(main: Callable[[], None], name: str) -> NoReturn:
    """Run `main` and exit: 0 done, 2 a user's mistake, 130 interrupted."""
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
    """Raise an InputError unless Keras takes the value of --seed."""
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed {seed}: must be from 0 to 2**32 - 1")


def parse_integers(text: str) -> list[int]:
    """Parse a comma-separated list of integers, as `--test 11,16`."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers separated by commas, got {text!r}"
        ) from None


def parse_numbers(text: str) -> list[float]:
    """Parse a comma-separated list of numbers, as `--fractions 0.7,0.15,0.15`."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers separated by commas, got {text!r}"
        ) from None


def parse_count(text: str, minimum: int = 1) -> int:
    """Parse the value of a flag that counts, such as --jobs."""
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least {minimum}, got {text!r}"
        )
    return int(text)
