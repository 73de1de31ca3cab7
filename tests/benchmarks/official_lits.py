"""Does `evaluation.metrics.lits` equal the published LiTS script, on sets with its own figures?

    python -m tests.benchmarks.official_lits --sets DIR

DIR holds public.npz (arrays SET/CASE/ref and SET/CASE/pred, 0 background, 1 liver, 2 lesion) and
public.json ({"sets": {SET: {"cases": [{"key", "spacing"}], "text": {figure: as the script wrote it}
or "error"}}}), as the part of them in tests/evaluation/metrics/lits_sets does. "text" holds all 24
figures. Exit code 1 where a figure differs, 2 where DIR cannot be read or lacks something.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from data.command import InputError, Parser, run_command
from data.files import read_json
from evaluation.metrics.lits import SHAPE_SCORES, pool_cases, score_case

FIGURES = (
    *(
        f"lesion_{name}{which}"
        for which in ("", "_greater_zero")
        for name in ("precision", "recall")
    ),
    *(
        f"{part}_{name}"
        for part in ("lesion", "liver")
        for name in (*SHAPE_SCORES, "dice_per_case", "dice_global")
    ),
    *(f"{name}_Tumorburden" for name in ("RMSE", "MAXERROR")),
)
"""The 24 names in the script's scores.txt."""


class Outcome(NamedTuple):
    """How one set compares.

    Attributes:
        name: of the set.
        different: the figures that are not equal.
        ours: why this project refuses the set; "" where it does not.
        theirs: why the script does.
    """

    name: str
    different: list[str]
    ours: str
    theirs: str

    @property
    def agrees(self) -> bool:
        """All figures equal, or both refuse the set."""
        return not self.different and bool(self.ours) == bool(self.theirs)


def compare(sets: Mapping[str, Any], volumes: Mapping[str, np.ndarray]) -> Iterator[Outcome]:
    """Yield the outcome of each set, in order: figures to their three decimals as text."""
    for name, content in sets.items():
        theirs = content.get("error", "")
        try:
            cases = [
                score_case(
                    volumes[f"{name}/{case['key']}/pred"],
                    volumes[f"{name}/{case['key']}/ref"],
                    tuple(case["spacing"]),
                )
                for case in content["cases"]
            ]
        except ValueError as error:
            yield Outcome(name, [], str(error), theirs)
            continue
        figures = pool_cases(cases)
        texts = {} if theirs else content["text"]
        different = [key for key, text in texts.items() if f"{figures[key]:.3f}" != text]
        yield Outcome(name, different, "", theirs)


def check_sets(path: Path, sets: Any, arrays: Collection[str]) -> None:
    """Check that every set says how the script scored it, and that its volumes are there.

    Raises:
        InputError: it does not, or they are not.
    """
    if not isinstance(sets, dict) or not sets:
        raise InputError(f"{path}: damaged, it holds no set")
    for name, content in sets.items():
        try:
            if "error" not in content and sorted(content["text"]) != sorted(FIGURES):
                wrong = sorted(set(FIGURES) ^ set(content["text"]))
                raise InputError(
                    f"{path}: {name}: its text must hold the 24 figures, "
                    f"missing or unknown: {wrong[0]}"
                )
            needed = [
                f"{name}/{case['key']}/{kind}"
                for case in content["cases"]
                for kind in ("ref", "pred")
            ]
            spacings = [tuple(map(float, case["spacing"])) for case in content["cases"]]
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: {name}: damaged, it lacks {error}") from None
        if not needed or any(len(spacing) != 3 for spacing in spacings):
            raise InputError(f"{path}: {name}: needs cases with a spacing of 3 axes")
        if missing := [array for array in needed if array not in arrays]:
            raise InputError(f"{path.with_suffix('.npz')}: no array {missing[0]}")


def main() -> None:
    """Compare all sets and print the count."""
    parser = Parser(
        prog="tests.benchmarks.official_lits",
        description="Compare with the published LiTS script's figures.",
    )
    parser.add_argument(
        "--sets",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of public.npz and public.json",
    )
    folder: Path = parser.parse_args().sets
    sets = read_json(folder / "public.json", ("sets",))["sets"]
    try:
        volumes = np.load(folder / "public.npz")
        check_sets(folder / "public.json", sets, volumes.files)
        outcomes = list(compare(sets, volumes))
    except InputError:
        raise
    except (OSError, ValueError, BadZipFile, zlib.error) as error:
        raise InputError(f"{folder / 'public.npz'}: cannot be read ({error})") from None
    scored = [outcome for outcome in outcomes if not outcome.theirs]
    for outcome in outcomes:
        if outcome.ours:
            theirs = outcome.theirs or "scored it"
            print(f"{outcome.name}: refused: {outcome.ours} (the script: {theirs})")
        if outcome.different:
            print(f"{outcome.name}: differs in {', '.join(outcome.different)}")
    equal = sum(outcome.agrees for outcome in scored)
    print(
        f"{equal} of {len(scored)} sets equal in all 24 figures; "
        f"{len(outcomes) - len(scored)} that it cannot score"
    )
    if not all(outcome.agrees for outcome in outcomes):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main, "tests.benchmarks.official_lits")
