"""Which stages `reproduce.sh` asks for: a stand-in for Python writes them down."""

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
    """A folder with `reproduce.sh` and a Python that writes down what it is asked."""
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


def list_stages(project: Path, *flags: str) -> list[str]:
    """Return the stages that reproduce.sh asks for, each as `MODULE FLAGS`, in order."""
    command = ["bash", str(project / "reproduce.sh"), "--preset", "smoke", "--out", "OUT", *flags]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    calls = (project / "calls").read_text().replace(f"{project}/", "").splitlines()
    assert len(calls) == 3, "a process each for the data, training and results"
    stages = []
    for call in calls:
        own, *commands = call.split(" -- ")
        assert own.startswith(f"-m data.stages --first {len(stages) + 1} --total ")
        stages += commands
    assert all(call.split(" -- ")[0].endswith(f"--total {len(stages)}") for call in calls)
    return stages


def test_the_default_is_the_paper_alone(project: Path) -> None:
    modules = [stage.split()[0] for stage in list_stages(project)]
    assert modules == [
        *("data.phantom", "data.phantom", "data.prepare", "data.prepare", "training.all_stages"),
        *("evaluation.evaluate", "evaluation.figures", "evaluation.tables", "evaluation.report"),
    ]


def test_flags_reach_the_stages_that_they_are_for(project: Path) -> None:
    flags = ("--all-systems", "--joint-sweep", "--nominal-spacing", "--seed", "3")
    stages = list_stages(project, *flags)
    assert stages[0].startswith("data.phantom --out OUT/phantom --cases 10 --size 64")
    assert "--subset 96,24,24" in stages[3]
    assert stages[4] == (
        "training.all_stages --store OUT/store --run OUT/run --preset smoke --seed 3 "
        "--all-systems --joint-sweep"
    )
    assert stages[5] == (
        "evaluation.evaluate --run OUT/run --store OUT/store --out OUT "
        "--external OUT/store-external --nominal-spacing"
    )
    assert stages[-2:] == [
        "evaluation.publish --name joint-demo --out OUT OUT",
        "evaluation.publish --name systems-demo --out OUT OUT",
    ]


def test_without_an_external_cohort_none_is_scored(project: Path) -> None:
    (project / "lits").mkdir()
    stages = list_stages(project, "--data", "lits", "--test", "1,2")
    assert "data.prepare --source lits --store OUT/store" in stages[0]
    assert "--test 1,2" in stages[0]
    assert stages[2] == "evaluation.evaluate --run OUT/run --store OUT/store --out OUT"
