"""Series of a table: many beside each other in its columns, or below each other with a column that names them."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import as_array, check_a, check_choice
from ..errors import UnrolledError, brief, check_path, count, figure, listed
from .tables import MISSING, Table, read_table
from .times import Grid, Times, grid_of, is_time, parse_times

FILLS = ("no", "linear", "last")
"""Ways to fill gaps: not at all, on a straight line between neighbours, or with the last value before."""
MOST_FILLED = 10
"""Steps that there may be, of each row."""
LARGEST = 1e30
"""Of a value, up to its sign."""
_TIMES = ("time", "date", "datetime", "timestamp", "ds", "month", "year", "day", "t", "step")
"""Names of columns that hold times, even where these are rising numbers."""


class Columns(NamedTuple):
    """What the columns of a table of series are.

    Attributes
    ----------
    targets : tuple of str
        Hold values to forecast.
    time : str
        Holds times; "" where there are none, and rows are steps.
    id : str
        Names the series that a row is of; "" where all rows are of the same.
    known : tuple of str
        Hold values that are known beforehand, such as prices or holidays.
    """

    targets: tuple[str, ...]
    time: str = ""
    id: str = ""
    known: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Series:
    """Values at equal steps of time.

    Attributes
    ----------
    name : str
    times : (N,) array
    values : (N,) array
    known : (N + A, K) array
        What is known beforehand, of so many steps after the values too.
    """

    name: str
    times: Times
    values: NDArray[np.float64]
    known: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class SeriesSet:
    """Series on one grid.

    Attributes
    ----------
    series : tuple of Series
    columns : Columns
    grid : Grid
    where : str
        What they were read from, for messages.
    notes : tuple of str
        What was filled.
    """

    series: tuple[Series, ...]
    columns: Columns
    grid: Grid
    where: str
    notes: tuple[str, ...] = ()


def read_series(
    source: Any, *, target: str = "", time: str = "", id: str = "", known: str = "", fill: str = "no"
) -> SeriesSet:
    """Read series.

    Parameters
    ----------
    source : path, array (N,) or (N, C), or mapping of names to columns, as a pandas DataFrame is too
        A path is that of a table (see `read_table`). An index of times or periods, of a pandas Series too, is a column.
    target : str
        Columns to forecast, with commas between, or "all"; "": the only column of numbers.
    time : str
        Column of times; "": the only one that holds dates, or one of numbers that is called "time", "step", ...
    id : str
        Column that names the series which a row is of.
    known : str
        Columns that are known beforehand. Rows at the end that have them, and no target, are the future.
    fill : str
        What gaps and missing values are filled with: "no" refuses them.

    Raises
    ------
    UnrolledError
        If a column is not there, a value is missing or no number, times are doubled, fall, lie beside the grid or have
        gaps; names the row.

    Examples
    --------
    >>> days = ["2024-01-01", "2024-01-02", "2024-01-04"]
    >>> found = read_series({"date": days, "load": [1.0, 2.0, 4.0]}, fill="linear")
    >>> found.columns, found.series[0].values.tolist()
    (Columns(targets=('load',), time='date', id='', known=()), [1.0, 2.0, 3.0, 4.0])
    >>> found.grid.title, found.notes
    ('1 day', ('1 step filled: linear',))
    """
    for name, value in (("target", target), ("time", time), ("id", id), ("known", known)):
        check_a(name, value, str, "the name of a column, or several with commas between")
    table = as_table(source)
    return series_of(table, choose(table, target, time, id, known), fill)


def as_table(source: Any) -> Table:
    """Return what series are read from as a table."""
    if isinstance(source, Table):
        return source
    if isinstance(source, (list, tuple)) and len(source) == 1 and isinstance(source[0], (str, os.PathLike)):
        source = source[0]
    if isinstance(source, (str, os.PathLike)):
        return read_table(check_path("a file to read", source))
    if isinstance(source, (list, tuple)) and any(isinstance(part, (str, os.PathLike)) for part in source):
        raise UnrolledError(
            f"{count(len(source), 'file')} of series; put them into one, with a column that names them (id)"
        )
    columns: dict[str, Any] = _index_of(source)
    if isinstance(source, Mapping) or hasattr(source, "columns"):
        names = list(source if isinstance(source, Mapping) else source.columns)
        called = list(map(str, names))
        if twice := next((name for name in called if called.count(name) > 1), None):
            raise UnrolledError(f"several columns are called {brief(twice)}; rename all but one")
        columns |= {str(name): source[name] for name in names}
    else:
        array = as_array("the series", source)
        if array.ndim not in (1, 2) or array.dtype.kind not in "iuf":
            raise UnrolledError(
                f"the series are {brief(source)}; expected a file, numbers (N,) or (N, C), or columns by name"
            )
        array = array[:, None] if array.ndim == 1 else array
        columns |= {f"series {c + 1}" if array.shape[1] > 1 else "series": array[:, c] for c in range(array.shape[1])}
    if not columns:
        raise UnrolledError("the data has no columns; expected a file, numbers (N,) or (N, C), or columns by name")
    values = [_plain(name, column) for name, column in columns.items()]
    if len({len(column) for column in values}) > 1 or not values[0]:
        raise UnrolledError(
            f"the columns have {listed(map(len, values))} rows; expected columns of one length, not empty"
        )
    return Table("the data", tuple(columns), list(zip(*values, strict=True)), range(1, len(values[0]) + 1))


def _index_of(source: Any) -> dict[str, Any]:
    """Return the index of a pandas Series or DataFrame as a column, where it is of times or periods.

    A column of its name goes before it.
    """
    index: Any = getattr(source, "index", None)
    levels = getattr(index, "levels", None)
    if isinstance(levels, list) and any(map(_of_times, levels)):
        raise UnrolledError("the index has several levels; make columns of them (reset_index), and name time and id")
    name = str(getattr(index, "name", None) or "time")
    if not _of_times(index):
        return {}
    return {name: index.to_timestamp() if hasattr(index, "to_timestamp") else index}  # a period's first moment


def _of_times(index: Any) -> bool:
    """Whether an index of pandas is of times, or of periods."""
    dtype = getattr(index, "dtype", None)
    return getattr(dtype, "kind", "") == "M" or str(dtype).startswith("period[")


def _plain(name: str, column: Any) -> list[Any]:
    """Return a column as Python's own values; times as texts."""
    array = as_array(f"the column {brief(name)}", column)
    if array.ndim != 1:
        raise UnrolledError(f"the column {brief(name)} is {brief(column)}; expected a number or a time a row")
    if array.dtype.kind == "M":
        return [str(time) for time in array.astype("datetime64[us]")]
    return [_value(v) for v in array.tolist()]


def _value(value: Any) -> Any:
    """Return a value as a table holds it: a text, a number, or None for one that is missing."""
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return math.inf
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def choose(table: Table, target: str = "", time: str = "", id: str = "", known: str = "") -> Columns:
    """Return what the columns of a table are, of what is named and what can be seen."""
    named = [*_names(known), *([id] if id else []), *([time] if time else [])]
    table.check(*named)
    time = time or _time_column(table, named)
    free = [name for name in table.names if name not in (time, *named)]
    targets = _names(target)
    if not targets:
        targets = [name for name in free if _holds_numbers(table, name)]
        if len(targets) != 1:
            if not free:
                raise UnrolledError(f"{table.where}: there is no column to forecast beside {listed(table.names)}")
            some = listed(targets or free)
            raise UnrolledError(f"{table.where}: name what to forecast with --target: {some}, or all")
    elif targets == ["all"] and "all" not in table.names:
        targets = free
    table.check(*targets)
    if both := [name for name in targets if name not in free]:
        raise UnrolledError(f"{table.where}: {brief(both[0])} is to be forecast, and the time, the id or known too")
    if len(set(targets)) < len(targets) or not targets:
        raise UnrolledError(f"{table.where}: --target names {listed(targets) or 'no column'}; name each column once")
    return Columns(tuple(targets), time, id, tuple(_names(known)))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _time_column(table: Table, taken: Sequence[str]) -> str:
    """Return the column that holds times, "" where none does."""
    free = [name for name in table.names if name not in taken]
    dates = [name for name in free if is_time(str(table.column(name)[0]))]
    if len(dates) > 1:
        raise UnrolledError(f"{table.where}: several columns hold times, {listed(dates)}; name one with --time")
    called = [name for name in free if name.lower() in _TIMES and _may_be_times(table, name)]
    return (dates or called or [""])[0]


def _may_be_times(table: Table, name: str) -> bool:
    """Whether a column that is called so holds rising numbers; one of texts is meant to hold times too."""
    if not _holds_numbers(table, name):
        return True
    try:
        return bool((np.diff(table.numbers(name)) > 0).all())
    except UnrolledError:
        return False


def _holds_numbers(table: Table, name: str) -> bool:
    """Whether the first value of a column that is not missing is a number."""
    for value in table.column(name):
        if value is not None and str(value).strip().lower() not in MISSING:
            try:
                float(value)
            except (TypeError, ValueError):
                return False
            return True
    return False


def series_of(table: Table, columns: Columns, fill: str = "no") -> SeriesSet:
    """Return the series of a table whose columns are known."""
    check_choice("way to fill gaps", fill, FILLS)
    table.check(*columns.targets, *columns.known, *(name for name in (columns.time, columns.id) if name))
    rows = _rows_of(table, columns.id)
    values = _numbers_of(table, columns.targets)
    known = _numbers_of(table, columns.known) if columns.known else None
    times, grid = _times_of(table, columns.time, rows)
    series, filled = list[Series](), 0
    for (key, mine), when in zip(rows.items(), times, strict=True):
        ahead = _ahead(values[mine], known is not None)
        one = _OnGrid(table, mine, when, grid, fill)
        there, then = one.laid(values[mine], columns.targets, ahead)
        before = np.zeros((len(there), 0)) if known is None else one.laid(known[mine], columns.known, 0)[0]
        filled += one.filled
        for c, target in enumerate(columns.targets):
            name = target if not columns.id else key if len(columns.targets) == 1 else f"{key} {target}"
            series.append(Series(name, then, there[:, c], before))
    notes = (f"{count(filled, 'step')} filled: {fill}",) if filled else ()
    return SeriesSet(tuple(series), columns, grid, table.where, notes)


def _rows_of(table: Table, id: str) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of the rows of each series."""
    if not id:
        return {"": np.arange(len(table))}
    return {key: np.array(mine) for key, mine in table.groups(id).items()}


def _numbers_of(table: Table, names: Sequence[str]) -> NDArray[np.float64]:
    """Return columns of numbers, (N, K), NaN where one is missing; what can't be squared is refused."""
    columns = [table.numbers(name, missing=True) for name in names]
    for name, column in zip(names, columns, strict=True):
        if len(odd := np.flatnonzero(np.abs(column) > LARGEST)):
            n = int(odd[0])
            raise UnrolledError(
                f"{table.row(n)}: {brief(name)} is {figure(column[n])}; expected a number below {LARGEST:g}"
            )
    return np.stack(columns, axis=1)


def _times_of(table: Table, name: str, rows: Mapping[str, NDArray[np.int64]]) -> tuple[list[Times], Grid]:
    """Return the times of each series, and their grid; without a column of times rows are counted."""
    if not name:
        return [np.arange(len(mine), dtype=float) for mine in rows.values()], Grid("number", 1.0)
    all_of_them = parse_times(table.texts(name), table.row)
    mine = list(rows.values())
    times: list[Times] = [all_of_them[some] for some in mine]
    return times, grid_of(times, lambda s, n: f"{table.row(int(mine[s][n]))}, {brief(name)}")


def _ahead(values: NDArray[np.float64], known: bool) -> int:
    """Return how many rows at the end have no target, but what is known beforehand."""
    there = np.flatnonzero(~np.isnan(values).all(axis=1))
    return len(values) - 1 - int(there[-1]) if known and len(there) else 0


class _OnGrid:
    """Rows of one series, laid on the grid; counts what it fills."""

    def __init__(self, table: Table, rows: NDArray[np.int64], times: Times, grid: Grid, fill: str) -> None:
        self.table, self.rows, self.times, self.grid, self.fill, self.filled = table, rows, times, grid, fill, 0
        places = grid.places(times)
        odd = np.flatnonzero(np.abs(places - np.round(places)) > 1e-6 * np.maximum(1, np.abs(places)))
        if len(odd):
            raise UnrolledError(
                f"{self._row(odd[0])}: the time lies beside the steps of {grid.title} of the other rows"
            )
        self.places = np.round(places).astype(int)
        gaps = np.flatnonzero(np.diff(self.places) > 1)
        if len(gaps) and self.places[-1] >= MOST_FILLED * len(rows):
            n = int(np.diff(self.places).argmax())
            before, after = grid.texts(times[n : n + 2])
            said = f"the time goes from {before} to {after}, and a step is {grid.title}"
            raise UnrolledError(f"{self._row(n + 1)}: {said}: hardly any steps are there; check the times")
        if len(gaps) and fill == "no":
            n = int(gaps[0])
            missing = count(int(np.diff(self.places)[n]) - 1, "step")
            before, after = grid.texts(times[n : n + 2])
            said = f"the time goes from {before} to {after}, {missing} of {grid.title} missing"
            more = f" (and {count(len(gaps) - 1, 'other gap')})" if len(gaps) > 1 else ""
            raise UnrolledError(
                f"{self._row(n + 1)}: {said}{more}; training with --fill linear or last puts values there"
            )

    def _row(self, n: Any) -> str:
        return self.table.row(int(self.rows[int(n)]))

    def laid(self, values: NDArray[np.float64], names: Sequence[str], ahead: int) -> tuple[NDArray[np.float64], Times]:
        """Return values and times at every step but so many at the end, with gaps filled."""
        used = len(values) - ahead
        values, places = values[:used], self.places[:used]
        odd = np.argwhere(np.isnan(values))
        if len(odd) and self.fill == "no":
            row, column = odd[0]
            hint = "training with --fill linear or last puts one there"
            raise UnrolledError(f"{self._row(row)}: {brief(names[column])} is missing; {hint}")
        every = np.arange(places[-1] + 1)
        found = np.empty((len(every), values.shape[1]))
        for c in range(values.shape[1]):
            there = ~np.isnan(values[:, c])
            if not there.any():
                raise UnrolledError(f"{self._row(0)}: {brief(names[c])} has no values at all")
            found[:, c] = filled(every, places[there], values[there, c], self.fill)
        self.filled += len(every) - int((~np.isnan(values).any(axis=1)).sum())
        times = self.grid.after(self.times[:1], every)
        times[places] = self.times[:used]
        return found, times


def filled(every: NDArray[Any], places: NDArray[Any], values: NDArray[Any], fill: str) -> NDArray[np.float64]:
    """Return values at every place, of those at some; before the first it is as there.

    Examples
    --------
    >>> [filled(np.arange(5), np.array([1, 3]), np.array([2.0, 4.0]), fill).tolist() for fill in ("linear", "last")]
    [[2.0, 2.0, 3.0, 4.0, 4.0], [2.0, 2.0, 2.0, 4.0, 4.0]]
    """
    if fill == "linear":
        return np.asarray(np.interp(every, places, values))
    return values[np.maximum(np.searchsorted(places, every, side="right") - 1, 0)]
