"""Commands of the project in one process: in order, numbered, and ended by the first that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command


def test_stages_run_in_order_with_their_own_flags(tmp_path: Path, run_module: Command) -> None:
    phantoms = [
        ("--", "data.phantom", "--out", tmp_path / name, "--cases", 1, "--size", 32)
        for name in ("first", "second")
    ]
    done = run_module("data.stages", "--first", 3, "--total", 5, *phantoms[0], *phantoms[1])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "first" / "volume-0.nii.gz").is_file()
    assert (tmp_path / "second" / "volume-0.nii.gz").is_file()
    assert "stage 3 of 5: data.phantom" in done.stdout
    assert "stage 4 of 5: data.phantom" in done.stdout


def test_a_stage_that_refuses_ends_the_call_with_its_line(
    tmp_path: Path, run_module: Command
) -> None:
    phantom = ("--", "data.phantom", "--out", tmp_path / "out", "--cases", 1, "--size", 32)
    refused = ("--", "data.prepare", "--source", tmp_path / "none", "--store", tmp_path / "store")
    done = run_module("data.stages", *refused, *phantom)
    assert done.returncode == 2
    assert "data.prepare: " in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [(), ("--",), ("--", "data.phantom", "--")])
def test_a_call_without_a_command_is_refused(
    arguments: tuple[str, ...], run_module: Command
) -> None:
    done = run_module("data.stages", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("data.stages: MODULE: each -- needs a command")
