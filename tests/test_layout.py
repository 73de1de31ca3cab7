"""Who may import whom: the table of rooms, read from the imports."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"models", "data", "training", "evaluation", "tests"}
MAY_IMPORT = {
    "models": {"models"},
    "data": {"data"},
    # the validation IoU and the thresholds of a phase are computed by the same code as the final scores
    "training": {"training", "models", "data", "evaluation.metrics"},
    "evaluation": {"evaluation", "models", "data"},
}
FILES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the module in full"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path) -> None:
    of = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[of]
    for name in imported(path):
        room = name.split(".")[0]
        if room in OURS:
            assert room in allowed or ".".join(name.split(".")[:2]) in allowed, (
                f"{path} imports {name}"
            )
        if room == "tensorflow":
            assert path.name == "backend.py", "TensorFlow is meant only where devices are asked for"
        if room == "keras" and of != "models":
            assert path.name == "backend.py", (
                "Keras comes through data.backend, without its start-up notes"
            )
    if of == "models":
        assert {name.split(".")[0] for name in imported(path)} <= {
            "models",
            "keras",
            "numpy",
        } | STANDARD


STANDARD = {"__future__", "collections", "typing"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_over_600_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600


def test_top_level_is_the_agreed_one() -> None:
    agreed = {
        "requirements.txt", "README.md", "models", "data", "training", "evaluation", "tests", "reproduce.sh",
        "pyproject.toml", "LICENSE", "CITATION.cff", "CHANGELOG.md", ".ci", ".gitignore",
    }  # fmt: skip
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert {path.split("/")[0] for path in listed.stdout.splitlines()} == agreed
