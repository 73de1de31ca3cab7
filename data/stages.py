"""Run commands of the project in one process: starting Python takes seconds.

    python -m data.stages --first 1 --total 9 -- MODULE FLAG ... -- MODULE FLAG ...

Each MODULE is a command such as data.prepare; `reproduce.sh` runs its stages by it. The first one
that fails ends the call with its exit code.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Sequence

from data.command import InputError, Parser, parse_count, run_command

SEPARATOR = "--"


def main() -> None:
    """Run the commands that the command line names."""
    parser = Parser(
        prog="data.stages",
        description="Run commands of the project in one process.",
        example="python -m data.stages -- data.prepare --source A --store B -- data.folds --help",
    )
    parser.add_argument(
        "--first", type=parse_count, default=1, help="number of the first stage; default 1"
    )
    parser.add_argument("--total", type=parse_count, help="stages in all; default: those given")
    own, commands = split_commands(sys.argv[1:])
    flags = parser.parse_args(own)
    total = flags.total or flags.first + len(commands) - 1
    for number, command in enumerate(commands, start=flags.first):
        print(f"\nstage {number} of {total}: {command[0]}", flush=True)
        started = time.monotonic()
        run_stage(command)
        print(f"stage {number} of {total}: {time.monotonic() - started:,.0f} s", flush=True)


def split_commands(arguments: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Split a command line at `--` into the first flags and the commands.

    Raises:
        InputError: there is no command, or an empty one.
    """
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(argument)
    own, *commands = parts
    if "--help" in own or "-h" in own:
        return own, commands
    if not commands or not all(commands):
        raise InputError(f"MODULE: each {SEPARATOR} needs a command after it; --help shows how")
    return own, commands


def run_stage(command: Sequence[str]) -> None:
    """Run one command as `python -m` does; a failure ends with its exit code."""
    module, *flags = command
    own = sys.argv
    sys.argv = [module, *flags]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = own


if __name__ == "__main__":
    run_command(main, "data.stages")
