"""Clinical tables beside a cohort: .csv or .xlsx, a row a patient or case."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from data.command import InputError


def read_by_key(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """Read a table (.xlsx, else CSV in UTF-8) whose first row names the columns.

    Returns:
        {value of `key`: {other column: value}}, without rows that lack the value; of a CSV every
        value is a text.

    Raises:
        InputError: not a table of that kind, no column `key`, a value of it twice.
    """
    import pandas as pd

    is_excel = path.suffix == ".xlsx"
    as_written: dict[str, Any] = {"dtype": object, "keep_default_na": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a row has beyond the last column
            if is_excel:
                table = pd.read_excel(path, engine="openpyxl", **as_written)
            else:
                as_written |= {"dtype": str, "index_col": False}
                table = pd.read_csv(path, encoding="utf-8-sig", **as_written)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 ({error})") from None
    except Exception as error:  # of pandas, of zip, XML and openpyxl
        raise InputError(f"{path}: not a readable spreadsheet ({error})") from None
    if key not in table.columns or table.empty:
        raise InputError(f"{path}: no column {key} in its first row")
    rows: dict[str, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        name = _make_plain(row.pop(key), is_excel)
        if str(name or "") in rows:
            raise InputError(f"{path}: {key} {name} has two rows")
        if name:
            rows[str(name)] = {
                str(column): _make_plain(cell, is_excel)
                for column, cell in row.items()
                if not str(column).startswith("Unnamed: ")
            }
    return rows


def _make_plain(cell: Any, is_excel: bool) -> Any:
    """Return a cell as JSON takes it; an empty one of an .xlsx is None, of a CSV ""."""
    if cell != cell or (is_excel and cell == ""):  # NaN: the row was short
        return None
    return cell if isinstance(cell, (bool, int, float, str)) else str(cell)
