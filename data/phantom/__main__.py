"""Write a cohort of synthetic abdominal CT volumes, laid out as LiTS.

No patient's data is in them. Every stage can run and be tested on them where no real data may be
had; a score on them says nothing about real CT.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from data.command import InputError, Parser, parse_count, run_command

EXAMPLE = """
    python -m data.phantom --out phantom --cases 40 --size 128
    python -m data.phantom --out phantom-external --cases 12 --size 128 --external
"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m data.phantom`."""
    parser = Parser(
        prog="data.phantom",
        description="Write a cohort of synthetic CT volumes, laid out as LiTS.",
        example=EXAMPLE,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    add("--cases", type=parse_count, required=True, metavar="N", help="number of cases")
    add("--external", action="store_true", help="the cohort of the external hospital")
    at_least_32, not_negative = (partial(parse_count, minimum=number) for number in (32, 0))
    add(
        "--size",
        type=at_least_32,
        default=512,
        metavar="N",
        help="in-plane matrix, as a scanner's (default 512)",
    )
    add("--seed", type=not_negative, default=0, metavar="N", help="of the cohort (default 0)")
    flags = parser.parse_args(arguments)

    from data.phantom.cohort import EXTERNAL, MAIN, write_cohort

    cohort = EXTERNAL if flags.external else MAIN
    try:
        write_cohort(flags.out, cohort, flags.cases, flags.size, flags.seed)
    except OSError as error:
        raise InputError(f"--out {flags.out}: {error.strerror}") from None


if __name__ == "__main__":
    run_command(main, "data.phantom")
