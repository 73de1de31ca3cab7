"""Scoring needs the packages of evaluation/requirements.txt alone.

Every run refuses the import of all others. With REAL_ENVIRONMENT=1 in the environment a virtual
environment is made of that file as well, which takes a minute and a package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.evaluation.test_score import write_by_hand

REQUIREMENTS = ROOT / "evaluation" / "requirements.txt"
OTHERS = (
    *("tensorflow", "keras", "skimage", "sklearn", "matplotlib", "PIL", "openpyxl"),
    *("pydicom", "highdicom", "pooch"),
)
REFUSE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OTHERS}:
            raise ModuleNotFoundError(f"{{name}} is not in evaluation/requirements.txt")

sys.meta_path.insert(0, Refuse())
"""
COMMAND = """
import runpy, sys
sys.argv[0] = "evaluation.score"
runpy.run_module("evaluation.score", run_name="__main__")
"""
INTERFACE = """
import evaluation, numpy
labels = numpy.ones((2, 3, 4), numpy.uint8)
assert evaluation.score_labels(labels, labels, (1.0, 1.0, 1.0)).liver.dice == 1
"""


def read_pins(path: Path) -> set[str]:
    """Read the pinned packages of a requirements file, without comments."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return {line for line in lines if line}


def run(python: Path | str, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in the project's root."""
    call = [str(python), "-c", code, *map(str, arguments)]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)


def check_scoring(python: Path | str, before: str, folder: Path) -> None:
    """Score two folders and two arrays with this Python, after the code `before`."""
    reference, prediction = write_by_hand(folder)
    paths = ("--reference", reference, "--prediction", prediction, "--out", folder / "s.json")
    done = run(python, before + COMMAND, *paths)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "s.csv").read_text().count("\n") == 5  # a header, three cases, the total
    done = run(python, before + INTERFACE)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_versions_are_those_of_the_project() -> None:
    assert read_pins(REQUIREMENTS) <= read_pins(ROOT / "requirements.txt")


def test_no_other_package_is_imported(tmp_path: Path) -> None:
    check_scoring(sys.executable, REFUSE, tmp_path)


@pytest.mark.skipif(
    not os.environ.get("REAL_ENVIRONMENT"),
    reason="a minute and a package index: REAL_ENVIRONMENT=1 makes the environment",
)
def test_an_environment_of_the_requirements_is_enough(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr and "connection" in done.stderr:
        pytest.skip(f"pip reaches no package index: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    check_scoring(python, "", tmp_path)
