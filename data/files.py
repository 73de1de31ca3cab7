"""Files written to a temporary name and renamed, so none is half-written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from data.command import InputError


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that takes the name `path` at the end.

    It lies beside `path` and keeps its suffixes, because writers choose their format by them.

    Raises:
        OSError: it cannot be written; the error names `path`. A folder of that name is found before
            the block begins.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if str(error.filename) == str(temporary):  # of which the user knows nothing
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write several files, all or none."""
    with ExitStack() as stack:
        for path, text in texts.items():
            stack.enter_context(replace_file(path)).write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON (indented, no NaN), whole or not at all."""
    write_text(path, format_json(content))


def format_json(content: Any) -> str:
    """Return `content` as the project writes JSON.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read_json(path: Path, needs: Iterable[str] = ()) -> Any:
    """Read a JSON file of the project that must hold the keys `needs`.

    Raises:
        InputError: the file is missing, is not JSON, or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from None
    missing = [key for key in needs if not isinstance(content, dict) or key not in content]
    if missing:
        raise InputError(f"{path}: damaged, it lacks {', '.join(map(repr, missing))}")
    return content


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(content: Any) -> str:
    """Return the SHA-256 of `content` in canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
