from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pytest

from data.command import InputError, Parser, check_seed, parse_count, parse_integers, run_command
from tests.data.conftest import refuses


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="data.x", description="Does x.", example="python -m data.x --store A\n")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument_group("split").add_argument("--store", type=Path)
    return parser


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sorce", "a"], "--sorce: no such flag; did you mean --source?"),
        (["--sorce=a", "--stor"], "--sorce: no such flag; did you mean --source?"),
        (["--source", "a", "--stor", "b"], "--stor: no such flag; did you mean --store?"),  # whole
        (["--source", "a", "--xyzzy"], "--xyzzy: no such flag; --help lists them"),
        (["--source", "a", "b"], "unrecognized arguments: b"),
        (["--source", "a", "-z"], "unrecognized arguments: -z"),
        ([], "the following arguments are required: --source"),
    ],
)
def test_a_wrong_flag_is_named_in_one_line(
    parser: Parser, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(flags)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"data.x: {message}\n"


def test_help_groups_the_flags_and_ends_with_the_example(parser: Parser) -> None:
    text = parser.format_help()
    assert "\nsplit:\n  --store STORE\n" in text
    assert text.endswith("\n\nexample:\n  python -m data.x --store A\n")
    assert "example" not in Parser(prog="data.x").format_help()


def test_values_that_look_like_flags(parser: Parser) -> None:
    parser.add_argument("rest", nargs="*")
    assert parser.parse_args(["--source=--a", "--", "--stor"]).rest == ["--stor"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("a:\n bad"), 2, "data.x: a: bad\n"),
        (OSError(28, "No space left on device", "/a"), 2, "data.x: /a: No space left on device\n"),
        (OSError("plain"), 2, "data.x: plain\n"),
        (KeyboardInterrupt(), 130, "data.x: interrupted; the same command goes on from here\n"),
        (None, 0, ""),
    ],
)
def test_exit_codes(
    error: BaseException | None, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        if error:
            raise error

    with pytest.raises(SystemExit) as exit_:
        run_command(main, "data.x")
    assert (exit_.value.code, capsys.readouterr().err) == (code, message)


def test_values_of_flags() -> None:
    assert parse_integers("765,50,50") == [765, 50, 50]
    with pytest.raises(argparse.ArgumentTypeError, match="separated by commas, got '1;2'"):
        parse_integers("1;2")
    assert parse_count("3") == 3
    assert partial(parse_count, minimum=0)("0") == 0
    for text, minimum in (("0", 1), ("two", 1), ("-1", 0), ("1.5", 1), ("31", 32)):
        with pytest.raises(argparse.ArgumentTypeError, match=f"at least {minimum}, got '{text}'"):
            parse_count(text, minimum)
    check_seed(2**32 - 1)
    with refuses(r"--seed -1: must be from 0 to 2\*\*32 - 1"):
        check_seed(-1)
