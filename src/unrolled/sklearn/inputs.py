"""X as scikit-learn's users hand it in -> a list of texts, or of arrays of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from ..data.examples import as_series
from ..errors import UnrolledError

TABLE, SERIES, TEXTS = "table", "series", "texts"
"""Forms of X: a 2-D array, sequences of numbers of any length, texts."""


def take(estimator: Any, X: Any, *, reset: bool) -> list[Any]:
    """Return X as a list of str, or of arrays (T, I) of numbers.

    A 2-D array is N sequences of one number a step, all as long as it has columns. It keeps scikit-learn's rules, which
    its own functions check; so do lists of numbers, all as long, that an estimator is fitted with.

    Parameters
    ----------
    estimator : estimator
        With `reset` it is told its `n_features_in_` and its `feature_names_in_`.
    X : list or array
    reset : bool
        Whether it is being fitted.

    Raises
    ------
    ValueError, TypeError
        scikit-learn's, of tables.
    UnrolledError
        Of sequences of numbers: which one is empty, has other channels than the first, or holds what is no number.
    """
    form, values = _form(X)
    if form == SERIES and reset and isinstance(values[0], list) and _is_table(values):
        form = TABLE
    if form == TABLE:
        if reset or estimator._form == TABLE:
            table = validate_data(estimator, X, reset=reset)
        else:
            table = check_array(X, estimator=estimator, input_name="X")
        values = list(table)
    elif getattr(X, "ndim", 0) == 2:  # a table of one column of texts
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    if form == SERIES:
        values = as_series(values, [f"sequence {k} of X" for k in range(len(values))])
    if reset:
        estimator._form = form
        if form != TABLE and getattr(X, "ndim", 0) != 2:
            estimator.n_features_in_ = values[0].shape[1] if form == SERIES else 1
    return values


def _form(X: Any) -> tuple[str, list[Any]]:
    """Return the form of X, and its items where it is no table."""
    if isinstance(X, (list, tuple)):
        items = list(X)
    elif hasattr(X, "__array__"):
        array = np.asarray(X)
        if array.ndim == 2 and len(array) and any(isinstance(item, str) for item in array[0]):
            if array.shape[1] > 1:
                raise UnrolledError(f"X has texts, and {array.shape[1]} columns; expected one column of texts")
            array = array[:, 0]
        if array.ndim not in (1, 3) or (array.ndim == 1 and array.dtype.kind not in "OUT"):
            return TABLE, []
        items = array.tolist() if array.ndim == 1 else list(array)
    else:
        return TABLE, []  # sparse, or nothing that can be read: scikit-learn says so
    if not items and isinstance(X, (list, tuple)):
        raise UnrolledError("X has no sequences; expected one or more")
    if any(isinstance(item, str) for item in items):
        return TEXTS, items
    return (TABLE, []) if not items or np.isscalar(items[0]) else (SERIES, items)


def _is_table(rows: list[Any]) -> bool:
    """Whether lists are rows of numbers, all as long: what scikit-learn takes for a 2-D array."""
    return all(isinstance(row, list) and 0 < len(row) == len(rows[0]) and np.isscalar(row[0]) for row in rows)
