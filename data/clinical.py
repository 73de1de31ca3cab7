"""A weak label of each patient's tumor load, predicted from clinical data.

The global and local pipeline regularises its tumor network with this "indicator of tumor severity":
a linear regression of the tumor-to-liver volume ratio on clinical variables, fitted on training
patients only. The text names no variable, so which are used is assumed:

- A column is used if it is a number in the training rows, or has 2 to 4 values there.
- Columns that tell what happened after the scan (`OUTCOMES`) are left out, and so are those that
more than a third of the training rows lack.
- A missing or unknown value counts as the training rows' mean: of the number, or of each value's
share.
- The regression takes the columns that each explain most of the training ratios by themselves, up
to one feature for every five rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from data.command import InputError
from data.store import Store

OUTCOMES = (
    "death", "os", "ttp", "pfs", "interval", "surviv", "censor", "progress", "recist", "mrecist",
    "easl", "fu",
)  # fmt: skip
"""Beginnings of words, in the names of columns, that are known later than the scan only.

Assumed, after HCC-TACE-Seg's columns: Death_1_StillAliveorLostToFU_0, Censored_0_progressed_1, TTP,
OS, Interval_BL, RECIST_FU, ...
"""

ROWS_PER_FEATURE = 5  # assumed: a regression on as many features as rows fits anything
MOST_VALUES = 4
MOST_MISSING = 1 / 3
_MISSING = {"", "na", "n/a", "nan", "none", "unknown"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A clinical column that a regression can use.

    Attributes:
        name: of the column.
        values: of a category, each but the first a feature; empty where the column is a number.
    """

    name: str
    values: tuple[str, ...] = ()

    @property
    def features(self) -> list[str]:
        """Names of its features."""
        return [f"{self.name}={value}" for value in self.values[1:]] or [self.name]

    def make_encoder(self) -> Pipeline:
        """Return the steps from texts to features; what is unknown is the mean."""
        if not self.values:
            numbers = FunctionTransformer(_read_numbers)
            return make_pipeline(
                numbers, StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0)
            )
        one_hot = OneHotEncoder(
            categories=[list(self.values)], handle_unknown="ignore", sparse_output=False
        )
        return make_pipeline(one_hot, FunctionTransformer(_blank_unknown), SimpleImputer())


class ClinicalRegression(RegressorMixin, BaseEstimator):
    """A linear regression on the columns that explain most by themselves.

    Attributes:
        encoders_: by column that it reads, fitted.
        linear_: from their features to the ratio; None without a usable column.
        mean_: of the ratios, the prediction without a column.
    """

    def fit(self, table: pd.DataFrame, ratios: np.ndarray) -> ClinicalRegression:
        """Choose the columns and fit the regression on them.

        `table` has one text column a clinical variable and a row a case; `ratios` is of shape (n,).
        """
        # Each column alone, so that one column does not hide another's share.
        encoders = {column: column.make_encoder() for column in find_columns(table)}
        features, explained = {}, {}
        for column, encoder in encoders.items():
            features[column] = encoder.fit_transform(table[[column.name]])
            alone = LinearRegression().fit(features[column], ratios)
            explained[column] = compute_r2(ratios, alone.predict(features[column]))
        # Few features a row, because more would fit the training rows by chance.
        ranked = sorted(encoders, key=lambda column: -explained[column])
        room = len(table) // ROWS_PER_FEATURE
        chosen: list[Column] = []
        for column in ranked:
            if len(column.features) <= room:
                chosen.append(column)
                room -= len(column.features)
        chosen = chosen or ranked[:1]
        self.mean_, self.linear_ = float(np.mean(ratios)), None
        self.encoders_ = {column: encoders[column] for column in chosen}
        if chosen:
            matrix = np.hstack([features[column] for column in chosen])
            self.linear_ = LinearRegression().fit(matrix, ratios)
        return self

    def predict(self, table: pd.DataFrame) -> np.ndarray:
        """Predict the ratio of each row; a missing column counts as unknown."""
        if self.linear_ is None:
            return np.full(len(table), self.mean_)
        table = table.reindex(columns=[column.name for column in self.encoders_], fill_value="")
        features = [
            encoder.transform(table[[column.name]]) for column, encoder in self.encoders_.items()
        ]
        return np.asarray(self.linear_.predict(np.hstack(features)))


@dataclass(frozen=True)
class WeakLabels:
    """A fitted regression of the tumor-to-liver ratio.

    Attributes:
        regression: fitted on training cases.
        r2_training: share of the variance of the training ratios that it explains.
        r2_left_out: the same for each training case predicted by the regression of the other
            patients; below 0: worse than their mean.
    """

    regression: ClinicalRegression
    r2_training: float
    r2_left_out: float

    def predict(self, row: Row) -> float:
        """Predict a patient's tumor-to-liver volume ratio, clipped to [0, 1]."""
        return float(np.clip(self.regression.predict(make_table([row]))[0], 0, 1))

    def describe(self) -> dict[str, Any]:
        """Return what a record says of it, ready for JSON."""
        columns, linear = list(self.regression.encoders_), self.regression.linear_
        assert linear is not None
        names = [name for column in columns for name in column.features]
        return {
            "columns": [column.name for column in columns],
            "coefficients": dict(zip(names, map(float, linear.coef_), strict=True)),
            "intercept": float(linear.intercept_),
            "r2_training": round(self.r2_training, 4),
            "r2_left_out": round(self.r2_left_out, 4),
        }


def read_clinical_rows(store: Store, cases: Sequence[str]) -> list[Row]:
    """Return the clinical row of each case; a case without raises an InputError."""
    missing = [case for case in cases if not store.cases[case].get("clinical")]
    if missing:
        named = ", ".join(missing[:3]) + (" ..." if missing[3:] else "")
        raise InputError(
            f"{store.path}: no clinical row for {named}; the cohort needs a clinical table "
            "(README, Data); --name global_local_no_weak_label trains without"
        )
    return [store.cases[case]["clinical"] for case in cases]


def compute_tumor_ratios(store: Store, cases: Sequence[str]) -> np.ndarray:
    """Compute the reference tumor-to-liver volume ratio of each case, float64."""
    counts = [np.bincount(np.asarray(store.label(case)).ravel(), minlength=3)[1:] for case in cases]
    return np.array([tumor / max(liver + tumor, 1) for liver, tumor in counts])


def fit_weak_labels(
    rows: Sequence[Row], ratios: np.ndarray, patients: Sequence[str] | None = None
) -> WeakLabels:
    """Fit the regression on training rows.

    Args:
        rows: clinical data of the training cases.
        ratios: their tumor-to-liver volume ratios, ndarray of shape (n,).
        patients: the patient of each row; None takes each row for another patient.

    Returns:
        The regression, and how much it explains.

    Raises:
        InputError: no usable column, too few rows for one, or all of one patient.
    """
    if len(rows) <= ROWS_PER_FEATURE:
        raise InputError(
            f"clinical data: {len(rows)} training rows, a weak label needs {ROWS_PER_FEATURE + 1}"
        )
    table = make_table(rows)
    groups = np.arange(len(rows)) if patients is None else np.asarray(patients)
    if len(set(groups)) < 2:
        raise InputError("clinical data: all training rows are of one patient")
    regression = ClinicalRegression().fit(table, ratios)
    if regression.linear_ is None:
        raise InputError(
            f"clinical data: no column of the {len(rows)} training rows is usable "
            "(data/clinical.py)"
        )
    # The choice of the columns is made anew without each patient.
    left_out = cross_val_predict(
        ClinicalRegression(), table, ratios, groups=groups, cv=LeaveOneGroupOut()
    )
    r2_training = compute_r2(ratios, regression.predict(table))
    return WeakLabels(regression, r2_training, compute_r2(ratios, left_out))


def make_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows as a table of texts; "" where a value is missing."""
    names = dict.fromkeys(name for row in rows for name in row)
    texts = [[_read_text(row.get(name)) for name in names] for row in rows]
    return pd.DataFrame(texts, columns=list(names), dtype=object)


def find_columns(table: pd.DataFrame) -> tuple[Column, ...]:
    """Find the columns of a table that a regression can use, in its order."""
    columns = []
    for name in table.columns:
        texts = [text for text in table[name] if text]
        is_rare = len(table) - len(texts) > MOST_MISSING * len(table)
        if _is_outcome(name) or is_rare or len(set(texts)) < 2:
            continue
        numbers = _read_numbers(np.array(texts, dtype=object))
        if np.isfinite(numbers).all():
            if np.std(numbers):
                columns.append(Column(name))
        elif len(set(texts)) <= MOST_VALUES:
            columns.append(Column(name, tuple(sorted(set(texts)))))
    return tuple(columns)


def compute_r2(ratios: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of the variance that is explained; 0 where there is none."""
    return float(r2_score(ratios, predicted)) if np.ptp(ratios) else 0.0


def _is_outcome(name: str) -> bool:
    words = re.split(r"[^a-z]+", name.lower())
    # "os", "fu" and the like are whole words: an "ostomy" is no outcome.
    return any(
        word == end or (len(end) > 3 and word.startswith(end)) for word in words for end in OUTCOMES
    )


def _read_text(cell: Any) -> str:
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in _MISSING else text


def _read_numbers(texts: Any) -> np.ndarray:
    """Return texts as float64 of the same shape, NaN where one is no finite number."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            return np.nan
        return number if np.isfinite(number) else np.nan

    return np.vectorize(read, otypes=[float])(np.asarray(texts, dtype=object))


def _blank_unknown(indicators: np.ndarray) -> np.ndarray:
    """Drop the first value's column; make NaN of rows that have no value."""
    return np.where(indicators.any(axis=1, keepdims=True), indicators[:, 1:], np.nan)
