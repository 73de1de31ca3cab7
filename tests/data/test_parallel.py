"""Many cases at once: the same store, and no bad case stops the others."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data.command import InputError
from data.parallel import Failures, run_cases
from tests.data.cohort_folders import ct_and_masks, make_lits, prepare, save
from tests.data.conftest import refuses


def test_bad_cases_are_named_together_or_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_lits(tmp_path / "source")
    hu, masks = ct_and_masks(3)
    for number in (4, 5):
        save(tmp_path / "source" / f"volume-{number}.nii", hu + number)
        save(tmp_path / "source" / f"segmentation-{number}.nii", masks["liver"] * 7.0)
    with refuses(r"segmentation-4\.nii: labels must be .* \(and 1 more of its cases"):
        prepare(tmp_path / "source", tmp_path / "store")
    assert "volume-5: cannot be used: " in capsys.readouterr().out
    store = prepare(tmp_path / "source", tmp_path / "store", "--skip-bad")
    assert list(store.cases) == ["volume-1", "volume-2", "volume-30"]
    assert set(store.info["skipped"]) == {"volume-4", "volume-5"}
    assert "left out as they cannot be used: volume-4, volume-5" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--jobs 2"], ["--jobs 2 --backend threading"]])
def test_cases_in_parallel_give_the_same_store(tmp_path: Path, flags: list[str]) -> None:
    make_lits(tmp_path / "source")
    alone = prepare(tmp_path / "source", tmp_path / "alone")
    several = prepare(tmp_path / "source", tmp_path / "several", *flags)
    for path in (tmp_path / "alone").rglob("*.*"):
        if path.is_file():
            assert (
                path.read_bytes()
                == (tmp_path / "several" / path.relative_to(tmp_path / "alone")).read_bytes()
            )
    assert list(several.cases) == list(alone.cases)
    with refuses("--backend nothing"):
        prepare(tmp_path / "source", tmp_path / "other", "--backend nothing")


def _raise(error: Exception) -> Any:
    raise error


def test_a_case_that_fails_in_any_way_stops_no_other_but_the_machine_does() -> None:
    failures = Failures(skip=True, order=["a", "b", "c"])
    work = {
        "c": partial(_raise, KeyError("x")),
        "b": lambda: 2,
        "a": partial(_raise, InputError("file: rule")),
    }
    assert dict(run_cases(work, 1, "loky", failures)) == {"b": 2}
    assert failures.by_case == {"a": "file: rule", "c": "unexpected KeyError: 'x'"}
    assert list(failures.by_case) == ["a", "c"]  # in the order of the cases
    with pytest.raises(OSError, match="No space"):
        dict(
            run_cases(
                {"a": partial(_raise, OSError(errno.ENOSPC, "No space left"))}, 1, "loky", failures
            )
        )


def test_without_skip_bad_all_is_said_in_one_line_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failures = Failures(skip=False, can_skip=False)
    for case, why in {"a": "a.nii: rule", "b": "b.nii: other\nrule"}.items():
        failures.add(case, why)
    with pytest.raises(InputError) as caught:
        failures.stop()
    assert str(caught.value) == "a.nii: rule (and 1 more cannot be used: b)"
    for n in range(9):
        failures.add(f"c{n}", "rule")
    with refuses(r"and 10 more cannot be used: b, c0, c1, c2, c3, \.\.\.\)"):
        failures.stop()
    assert capsys.readouterr().out == ""


def test_a_killed_process_is_one_line() -> None:
    with refuses("a process was killed, mostly for memory"):
        dict(
            run_cases(
                {str(n): partial(os._exit, 1) for n in range(2)}, 2, "loky", Failures(skip=True)
            )
        )
