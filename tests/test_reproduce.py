"""Which commands `reproduce.sh` calls, and with what; a stand-in takes the place of Python, so nothing is trained."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

STAND_IN = """#!/bin/sh
case "$2" in
    training.presets) cd {root} && exec {python} "$@" ;;
    *) echo "$@" >>{calls} ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with `reproduce.sh` and a virtual environment that is up to date, but writes down what it is asked."""
    folder = tmp_path / "project"
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "reproduce.sh", folder)
    made_from = ""
    for name in ("requirements.txt", "tests/requirements.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
        made_from += (ROOT / name).read_text()
    (folder / ".venv" / "made-from.txt").write_text(made_from)
    python = folder / ".venv" / "bin" / "python"
    words = {"root": ROOT, "python": sys.executable, "calls": folder / "calls"}
    python.write_text(
        STAND_IN.format(**{key: shlex.quote(str(value)) for key, value in words.items()})
    )
    python.chmod(0o755)
    return folder


def calls(project: Path, *flags: str) -> list[str]:
    command = ["bash", str(project / "reproduce.sh"), "--preset", "smoke", "--out", "OUT", *flags]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (project / "calls").read_text().replace(f"{project}/", "").splitlines()


def test_the_default_is_the_paper_alone(project: Path) -> None:
    modules = [line.split()[1] for line in calls(project)]
    assert modules == [
        *("data.phantom", "data.phantom", "data.prepare", "data.prepare", "training.all_stages"),
        *("evaluation.evaluate", "evaluation.figures", "evaluation.tables", "evaluation.report"),
    ]


def test_all_systems_are_trained_and_compared_after_it(project: Path) -> None:
    made = calls(project, "--all-systems", "--nominal-spacing", "--seed", "3")
    assert made[-4:] == [
        "-m training.system --name all --store OUT/store --run OUT/run --preset smoke --seed 3",
        "-m training.system --name variants --store OUT/store --run OUT/run --preset smoke --seed 3",
        "-m evaluation.compare --run OUT/run --store OUT/store --out OUT --external OUT/store-external "
        "--nominal-spacing",
        "-m evaluation.comparison --out OUT OUT/comparison.json",
    ]
    assert made[-5].startswith("-m evaluation.report")


def test_without_an_external_cohort_none_is_scored(project: Path) -> None:
    (project / "lits").mkdir()
    made = calls(project, "--data", "lits", "--test", "1,2", "--all-systems")
    assert "-m data.prepare --source lits --store OUT/store" in made[0]
    assert "--test 1,2" in made[0]
    assert made[-2] == "-m evaluation.compare --run OUT/run --store OUT/store --out OUT"
