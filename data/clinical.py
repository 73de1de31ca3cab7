"""A weak label of each patient's tumor load, from clinical data: an "indicator of tumor severity".

The global and local pipeline regularises its tumor network with it: a linear regression of the tumor-to-liver volume
ratio on the patients' clinical variables, fitted on training patients only. The text names no variable; which are used
is assumed: every column that is a number in the training rows, or has 2 to 4 values there. Columns that tell what
happened after the scan (`OUTCOMES`) are left out, and those that more than a third of the training rows lack; what else
is missing, or a value that no training row has, counts as the training rows' mean: of the number, or of each value's
share. Of these columns the regression takes those that each explain most of the training ratios by themselves, up to
one feature for every five rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression

from data.command import InputError
from data.store import Store

OUTCOMES = (
    "death",
    "os",
    "ttp",
    "pfs",
    "interval",
    "surviv",
    "censor",
    "progress",
    "recist",
    "mrecist",
    "easl",
    "fu",
)
"""Beginnings of words, in the names of columns, that are known later than the scan only (assumed, after HCC-TACE-Seg's
columns: Death_1_StillAliveorLostToFU_0, Censored_0_progressed_1, TTP, OS, Interval_BL, RECIST_FU, ...)."""

ROWS_PER_FEATURE = 5  # assumed: a regression on as many features as rows fits anything
MOST_VALUES = 4
MOST_MISSING = 1 / 3
_MISSING = {"", "na", "n/a", "nan", "none", "unknown"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """How a clinical column becomes features.

    Attributes:
        name: of the column.
        values: its values where it is a category, each but the first a feature; empty where it is a number.
        shares: of the training rows that have each value.
        mean, deviation: of the training rows, where it is a number.
    """

    name: str
    values: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.values[1:]) or 1

    def features(self, row: Row) -> list[float]:
        """Return the features of a row."""
        if self.values:
            text = _text(row.get(self.name))
            return (
                [float(text == value) for value in self.values[1:]]
                if text in self.values
                else [*self.shares[1:]]
            )
        number = _number(row.get(self.name))
        return [0.0 if number is None else (number - self.mean) / self.deviation]


@dataclass(frozen=True)
class WeakLabels:
    """A fitted regression of the tumor-to-liver ratio.

    Attributes:
        columns: what it reads.
        regression: fitted on training cases.
        r2_training: share of the variance of the training ratios that it explains.
        r2_left_out: the same for each training case predicted by the regression of the other patients; below 0: worse
            than their mean.
    """

    columns: tuple[Column, ...]
    regression: LinearRegression
    r2_training: float
    r2_left_out: float

    def ratio(self, row: Row) -> float:
        """Return the predicted tumor-to-liver volume ratio of a patient, clipped to [0, 1]."""
        return float(np.clip(self.regression.predict(_matrix(self.columns, [row]))[0], 0, 1))

    def described(self) -> dict[str, Any]:
        """Return what a record says of it, ready for JSON."""
        names = [
            f"{column.name}={value}" if value else column.name
            for column in self.columns
            for value in (column.values[1:] or ("",))
        ]
        return {
            "columns": [column.name for column in self.columns],
            "coefficients": dict(zip(names, map(float, self.regression.coef_), strict=True)),
            "intercept": float(self.regression.intercept_),
            "r2_training": round(self.r2_training, 4),
            "r2_left_out": round(self.r2_left_out, 4),
        }


def clinical_rows(store: Store, cases: Sequence[str]) -> list[Row]:
    """Return the clinical row of each case.

    Raises:
        InputError: one has none.
    """
    missing = [case for case in cases if not store.cases[case].get("clinical")]
    if missing:
        named = ", ".join(missing[:3]) + (" ..." if missing[3:] else "")
        raise InputError(
            f"{store.path}: no clinical row for {named}; the cohort needs a clinical table (README, Data); "
            "--name global_local_no_weak_label trains without"
        )
    return [store.cases[case]["clinical"] for case in cases]


def tumor_ratios(store: Store, cases: Sequence[str]) -> np.ndarray:
    """Return the reference tumor-to-liver volume ratio (liver with tumor) of each case, float64."""
    counts = [np.bincount(np.asarray(store.label(case)).ravel(), minlength=3)[1:] for case in cases]
    return np.array([tumor / max(liver + tumor, 1) for liver, tumor in counts])


def fit_weak_labels(
    rows: Sequence[Row], ratios: np.ndarray, patients: Sequence[str] | None = None
) -> WeakLabels:
    """Fit the regression on training rows.

    Args:
        rows: clinical data of the training cases.
        ratios: their tumor-to-liver volume ratios, ndarray of shape (n,).
        patients: whose they are; None: each another's.

    Raises:
        InputError: no usable column, or too few rows for one.
    """
    if len(rows) <= ROWS_PER_FEATURE:
        raise InputError(
            f"clinical data: {len(rows)} training rows, a weak label needs {ROWS_PER_FEATURE + 1}"
        )
    columns, regression = _fit(rows, ratios)
    whose = np.array(
        patients if patients is not None else [str(index) for index in range(len(rows))]
    )
    left_out = np.zeros(len(rows))
    for patient in dict.fromkeys(
        whose
    ):  # the choice of the columns is made anew without the patient
        other = whose != patient
        rest = [row for row, kept in zip(rows, other, strict=True) if kept]
        own = [row for row, kept in zip(rows, other, strict=True) if not kept]
        if usable_columns(rest):
            found, fitted = _fit(rest, ratios[other])
            left_out[~other] = fitted.predict(_matrix(found, own))
        else:  # nothing but this patient told the others apart
            left_out[~other] = ratios[other].mean()
    of_all = regression.predict(_matrix(columns, rows))
    return WeakLabels(columns, regression, _explained(ratios, of_all), _explained(ratios, left_out))


def _fit(rows: Sequence[Row], ratios: np.ndarray) -> tuple[tuple[Column, ...], LinearRegression]:
    """Return the columns that are taken and the regression on them."""
    columns = usable_columns(rows)
    if not columns:
        raise InputError(
            f"clinical data: no column of the {len(rows)} training rows is usable (data/clinical.py)"
        )
    alone = {column: _alone(column, rows, ratios) for column in columns}
    taken: list[Column] = []
    room = len(rows) // ROWS_PER_FEATURE
    for column in sorted(columns, key=lambda one: -alone[one]):
        if column.width <= room:
            taken.append(column)
            room -= column.width
    taken = taken or [max(columns, key=lambda one: alone[one])]
    return tuple(taken), LinearRegression().fit(_matrix(taken, rows), ratios)


def _alone(column: Column, rows: Sequence[Row], ratios: np.ndarray) -> float:
    matrix = _matrix([column], rows)
    return _explained(ratios, LinearRegression().fit(matrix, ratios).predict(matrix))


def usable_columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return the columns of these rows that a regression can use (see the module), in their order."""
    names = dict.fromkeys(name for row in rows for name in row)
    found = (
        _column(name, [row.get(name) for row in rows]) for name in names if not _is_outcome(name)
    )
    return tuple(column for column in found if column is not None)


def _column(name: str, cells: Sequence[Any]) -> Column | None:
    texts = [text for text in map(_text, cells) if text]
    if len(cells) - len(texts) > MOST_MISSING * len(cells) or len(set(texts)) < 2:
        return None
    numbers = [_number(cell) for cell in cells if _text(cell)]
    if all(number is not None for number in numbers):
        mean, deviation = float(np.mean(numbers)), float(np.std(numbers))  # type: ignore[arg-type]
        return Column(name, mean=mean, deviation=deviation) if deviation else None
    values = tuple(sorted(set(texts)))
    shares = tuple(texts.count(value) / len(texts) for value in values)
    return Column(name, values, shares) if len(values) <= MOST_VALUES else None


def _matrix(columns: Sequence[Column], rows: Sequence[Row]) -> np.ndarray:
    return np.array(
        [[feature for column in columns for feature in column.features(row)] for row in rows]
    )


def _explained(ratios: np.ndarray, predicted: np.ndarray) -> float:
    spread = float(((ratios - ratios.mean()) ** 2).sum())
    return 1 - float(((ratios - predicted) ** 2).sum()) / spread if spread else 0.0


def _is_outcome(name: str) -> bool:
    words = re.split(r"[^a-z]+", name.lower())
    # "os", "fu" and the like are whole words: an "ostomy" is no outcome.
    return any(
        word == end or (len(end) > 3 and word.startswith(end)) for word in words for end in OUTCOMES
    )


def _text(cell: Any) -> str:
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in _MISSING else text


def _number(cell: Any) -> float | None:
    try:
        number = float(_text(cell))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
