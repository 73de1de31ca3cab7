"""The house: who may import whom, how deep, how large; read from the files."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "models": {"models"},
    "data": {"data"},
    # Validation IoU and thresholds of a phase are computed by the same code as the final scores.
    "training": {"training", "models", "data", "evaluation.metrics"},
    "evaluation": {"evaluation", "models", "data"},
}
OURS = {*MAY_IMPORT, "tests"}
STANDARD = {
    "__future__", "collections", "dataclasses", "importlib", "itertools", "math", "typing"
}  # fmt: skip
FILES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]
MOST_LINES, MOST_FILES, LONGEST_CHAIN = 600, 15, 8


def name_module(path: Path) -> str:
    """Return the dotted name of a file; that of a package for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_module(path): path for path in FILES}


@functools.cache
def list_imports(path: Path) -> frozenset[str]:
    """Return the modules that a file imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the module in full"
            module = node.module or ""
            parts = {f"{module}.{alias.name}" for alias in node.names}
            # `from package import module` imports the module, not the package's __init__.
            names |= {part for part in parts if part in MODULES} or {module}
    return frozenset(names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[room]
    for name in list_imports(path):
        top = name.split(".")[0]
        if top in OURS:
            assert top in allowed or ".".join(name.split(".")[:2]) in allowed, name
        if top == "tensorflow":
            assert path.name == "backend.py", "TensorFlow: only where devices are asked for"
        if top == "keras" and room != "models":
            assert path.name == "backend.py", "Keras comes through data.backend, without its notes"
        if room == "models":
            assert top in {"models", "keras", "numpy"} | STANDARD, name
        if path.relative_to(ROOT).parts[:2] == ("evaluation", "metrics") and top in OURS:
            assert name.startswith("evaluation.metrics"), "NumPy and SciPy only"


@functools.cache
def find_longest_chain(module: str) -> tuple[str, ...]:
    """Return the longest chain of imports inside evaluation/ that begins with a module."""
    below = (name for name in list_imports(MODULES[module]) if name in MODULES and name != module)
    chains = [find_longest_chain(name) for name in below if name.startswith("evaluation")]
    return (module, *max(chains, key=len, default=()))


def test_no_import_chain_of_evaluation_is_too_long() -> None:
    names = [name for name in MODULES if name.startswith("evaluation")]
    longest = max((find_longest_chain(name) for name in names), key=len)
    assert len(longest) <= LONGEST_CHAIN, " -> ".join(longest)


def test_the_top_of_evaluation_can_be_seen_at_a_glance() -> None:
    assert len(list((ROOT / "evaluation").glob("*.py"))) <= MOST_FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_too_long_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_the_house_in_text_names_every_file(room: str) -> None:
    text = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    for path in sorted((ROOT / room).iterdir()):
        is_code = path.suffix == ".py" and path.name != "__init__.py"
        if is_code or (path / "__init__.py").is_file():
            assert path.stem in text, f"{room}/__init__.py does not say what {path.name} is"


def test_top_level_is_the_agreed_one() -> None:
    agreed = {
        "requirements.txt", "README.md", "models", "data", "training", "evaluation", "tests",
        "reproduce.sh", "pyproject.toml", "LICENSE", "CITATION.cff", "CHANGELOG.md", ".ci",
        ".gitignore",
    }  # fmt: skip
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert {path.split("/")[0] for path in listed.stdout.splitlines()} == agreed
