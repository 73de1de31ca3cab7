"""Clinical tables beside a cohort's volumes: a .csv or .xlsx file with a row for each patient or case."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from data.command import InputError


def read_by_key(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """Read a table (.xlsx, else CSV in UTF-8) whose first row names the columns.

    Args:
        path: the file.
        key: the column that names the patient or case; rows without it are left out.

    Returns:
        {value of `key`: {other column: value}}.

    Raises:
        InputError: not a table of that kind, no column `key`, a value of it twice.
    """
    rows = _xlsx_rows(path) if path.suffix == ".xlsx" else _csv_rows(path)
    if not rows or key not in rows[0]:
        raise InputError(f"{path}: no column {key} in its first row")
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = str(row[key] or "")
        if name in found:
            raise InputError(f"{path}: {key} {name} has two rows")
        if name:
            found[name] = {
                column: value for column, value in row.items() if column and column != key
            }
    return found


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 ({error})") from None


def _xlsx_rows(path: Path) -> list[dict[str, Any]]:
    from openpyxl import load_workbook

    try:
        sheet = load_workbook(path, read_only=True, data_only=True).worksheets[0]
        lines = list(sheet.iter_rows(values_only=True))
    except Exception as error:  # of zip, XML and openpyxl
        raise InputError(f"{path}: not a readable spreadsheet ({error})") from None
    if not lines:
        return []
    names = [str(name) for name in lines[0]]
    return [dict(zip(names, (_plain(value) for value in line), strict=False)) for line in lines[1:]]


def _plain(value: Any) -> Any:
    """A cell as JSON takes it."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
