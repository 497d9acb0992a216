"""Series of numbers with labels: .ts files, .npz archives, and tables that have a row a step."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import Array
from ..errors import UnrolledError, brief, count, listed, suggest
from .examples import Labelled, as_labels, as_series, channels_of
from .tables import MISSING, Table
from .text import whole_text
from .text.files import opened, shown
from .times import Times, parse_times

# --- .ts, the files of sktime and of the UEA archive ------------------------------------------------------------------


def read_ts(path: str | os.PathLike[str], *, labels: bool = True, encoding: str = "utf-8") -> Labelled:
    r"""Read a .ts file: a series a line, its channels between colons, and its label behind them.

    A missing number, "?" or NaN, is that of the step before; at the beginning, of the first that is there. Steps at the
    end where every channel is missing are padding, and left out.

    Parameters
    ----------
    path : path
    labels : bool
        Whether they are wanted; a file may be without.
    encoding : str

    Returns
    -------
    Labelled
        Its series are (T, C), of unequal lengths.

    Raises
    ------
    UnrolledError
        If the file can't be read, has time stamps or no labels, or a line has other channels than the first, channels
        of different lengths, a text, no number at all in a channel, or a label that the header doesn't list.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "vowels.ts")
    ...     _ = path.write_text("@classLabel true a e\n@data\n1,2:3,4:a\n5,6,7:?,8,9:e\n")
    ...     vowels = read_ts(path)
    >>> vowels.labels, vowels.x[1].tolist()
    (('a', 'e'), [[5.0, 8.0], [6.0, 8.0], [7.0, 9.0]])
    """
    text, where = whole_text(path, encoding)
    head, classes, lines = dict[str, str](), list[str](), list[tuple[int, str]]()
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if "data" in head:
            lines.append((number, line))
        elif line.startswith("@"):
            name, _, value = line[1:].replace("\t", " ").partition(" ")
            head[name.lower()] = value.strip()
        else:
            raise UnrolledError(f"{where}, line {number:,} is {brief(line, 60)}; expected @data before the series")
    if not lines:
        raise UnrolledError(f"{where} has no series below @data; expected a series a line")
    if head.get("timestamps", "false").lower().startswith("true") or lines[0][1].startswith("("):
        raise UnrolledError(f"{where} has time stamps; expected series of plain numbers (@timeStamps false)")
    told, *classes = head.get("classlabel", "false").split() or ["false"]
    has = told.lower() == "true"
    if labels and not has:
        raise UnrolledError(f"{where} has no labels (@classLabel); expected one behind each series")
    places = [f"{where}, line {number:,}" for number, _ in lines]
    rows = [line.split(":") for _, line in lines]
    named = tuple(row[-1].strip() for row in rows) if has else None
    found = [_of_line(row[:-1] if has else row, place) for row, place in zip(rows, places, strict=True)]
    for n, label in enumerate(named or ()):
        if classes and label not in classes:
            raise UnrolledError(f"{places[n]}: {suggest('label of @classLabel', label, classes)}")
    table = _numbered(where, named, [number for number, _ in lines])
    x = as_series(found, places)
    told = head.get("dimensions", head.get("dimension", ""))
    if told.isdecimal() and told.lstrip("0") != str(x[0].shape[1]):
        raise UnrolledError(f"{places[0]} has {count(x[0].shape[1], 'channel')}; its header says {told} (@dimensions)")
    return Labelled(
        x, named if labels else None, table, channels_of(x[0].shape[1]), {}, (os.fspath(path),), places=tuple(places)
    )


def _numbered(where: str, labels: Sequence[Any] | None, lines: Sequence[int]) -> Table:
    """Return a table of series by their numbers, from 1, with their labels."""
    rows = [[str(n + 1)] if labels is None else [str(n + 1), str(labels[n])] for n in range(len(lines))]
    return Table(where, ("series", "label") if labels is not None else ("series",), rows, lines)


def _of_line(fields: Sequence[str], where: str) -> Array:
    """Channels as they are written -> (T, C); what is missing is filled."""
    channels = [_channel(field, where, k) for k, field in enumerate(fields)]
    lengths = {len(channel) for channel in channels}
    if len(lengths) > 1:
        said = ", ".join(str(len(channel)) for channel in channels[:8])
        raise UnrolledError(f"{where}: its channels have different lengths ({said}); expected a number a step in each")
    steps = np.stack(channels, axis=1) if channels else np.empty((0, 0))
    there = ~np.isnan(steps)
    if not steps.size or not there.any():
        raise UnrolledError(f"{where}: the series is empty; leave it out")
    steps = steps[: np.flatnonzero(there.any(axis=1))[-1] + 1]
    for k in range(steps.shape[1]):
        steps[:, k] = _filled(steps[:, k], f"{where}: channel {k + 1}")
    return steps


def _channel(field: str, where: str, k: int) -> NDArray[np.float64]:
    parts = field.split(",") if field.strip() else []
    try:
        return np.array([float(part) for part in parts])
    except ValueError:
        values = [np.nan if part.strip().lower() in MISSING else part for part in parts]
    try:
        return np.array([float(value) for value in values])
    except ValueError:
        odd = next(value for value in values if not _is_number(value))
        raise UnrolledError(f"{where}: channel {k + 1} has {brief(odd, 60)}; expected a number") from None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _filled(channel: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Return a channel (T,) whose missing numbers are those before them, and at first those behind."""
    known = np.flatnonzero(~np.isnan(channel))
    if not len(known):
        raise UnrolledError(f"{what} has no number; leave the series out")
    at = np.searchsorted(known, np.arange(len(channel)), side="right") - 1
    return channel[known[np.maximum(at, 0)]]


# --- .npz -------------------------------------------------------------------------------------------------------------


_DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise of an archive that is damaged, locked or packed in a way of its own."""


def read_npz(path: str | os.PathLike[str], *, labels: bool = True) -> Labelled:
    """Read an archive of NumPy's: x, y, and lengths or offsets where series are of unequal lengths.

    x is (N, T, C) or (N, T), with `lengths` (N,) of what is not padding if they differ; or all series one behind the
    other, (steps, C), with the `lengths` (N,) of each or the `offsets` (N,) at which they begin. y is (N,).

    Parameters
    ----------
    path : path
    labels : bool
        Whether they are wanted; a file may be without.

    Returns
    -------
    Labelled

    Raises
    ------
    UnrolledError
        If the file can't be read or holds objects (pickles), arrays are missing, or shapes don't fit.
    """
    where = shown(os.fspath(path))
    try:
        with opened(os.fspath(path)) as file, np.load(file, allow_pickle=False) as archive:
            held = {str(name).lower(): archive[name] for name in archive.files}
    except UnrolledError:
        raise
    except _DAMAGED:
        expected = "an .npz of x, y, and lengths where series differ, without Python objects"
        raise UnrolledError(f"{where} is no archive of plain arrays; expected {expected}") from None
    if missing := [name for name in ("x", *(["y"] if labels else [])) if name not in held]:
        raise UnrolledError(f"{where} has no array {missing[0]}; it has {listed(held)}, expected x and y")
    series = _cut(where, held)
    places = tuple(f"{where}, series {n + 1:,}" for n in range(len(series)))
    named = as_labels(held["y"], len(series)) if "y" in held and held["y"].ndim == 1 else None
    if labels and named is None:
        raise UnrolledError(f"{where}: y has shape {held['y'].shape}; expected (N,), a label a series")
    x = as_series(series, places)
    table = _numbered(where, named, range(len(series)))
    return Labelled(
        x, named if labels else None, table, channels_of(x[0].shape[1]), {}, (os.fspath(path),), places=places
    )


def _cut(where: str, held: dict[str, Array]) -> list[Array]:
    """Return the series of an archive."""
    x, lengths, offsets = held["x"], held.get("lengths"), held.get("offsets")
    if x.dtype.kind not in "biuf" or not x.ndim or not x.size:
        raise UnrolledError(f"{where}: x is {x.dtype} of shape {x.shape}; expected numbers (N, T, C)")
    for name, marks in (("lengths", lengths), ("offsets", offsets)):
        if marks is not None and (marks.ndim != 1 or marks.dtype.kind not in "iu" or not len(marks)):
            raise UnrolledError(f"{where}: {name} is {marks.dtype} of shape {marks.shape}; expected whole numbers (N,)")
    if offsets is not None:
        edges = offsets.tolist() + ([len(x)] if offsets[-1] < len(x) else [])
        if x.ndim > 2 or edges[0] or sorted(edges) != edges or edges[-1] != len(x):
            raise UnrolledError(f"{where}: offsets have to rise from 0 to the {len(x):,} steps of x, {x.shape}")
        return [x[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    if lengths is not None and x.ndim < 3 and int(lengths.sum()) == len(x) and (lengths >= 0).all():
        return np.split(x, np.cumsum(lengths)[:-1])
    if x.ndim not in (2, 3) or (lengths is not None and len(lengths) != len(x)):
        told = "" if lengths is None else f" with {count(len(lengths), 'length')}"
        raise UnrolledError(f"{where}: x has shape {x.shape}{told}; expected (N, T, C), or (steps, C) and lengths")
    if lengths is None:
        return list(x)
    if (lengths < 0).any() or (lengths > x.shape[1]).any():
        raise UnrolledError(f"{where}: lengths run from {lengths.min()} to {lengths.max()}; x has {x.shape[1]:,} steps")
    return [series[:steps] for series, steps in zip(x, lengths.tolist(), strict=True)]


# --- tables with a row a step -----------------------------------------------------------------------------------------


def of_long(
    table: Table,
    *,
    id: str,
    label: str = "",
    time: str = "",
    channels: Sequence[str] = (),
    paths: Sequence[str] = (),
) -> Labelled:
    r"""Return the series of a table that has a row a step: the rows of one id, in their order or by their time.

    Parameters
    ----------
    table : Table
    id : str
        The column that says which series a row is of.
    label : str
        The column of the labels, the same in all rows of a series; "" where none are wanted.
    time : str
        A column of times (`unrolled.data.times.parse_times`); rows of a series are put in its order.
    channels : sequence of str
        Columns of numbers; by default all that are none of these.

    Raises
    ------
    UnrolledError
        If a column isn't there, a channel holds a text or nothing, a series has two labels or a time twice; names the
        row.

    Examples
    --------
    >>> from unrolled.data.tables import parse_table
    >>> table = parse_table("who,up,class\na,1,x\nb,2,y\na,3,x\n", "steps.csv")
    >>> found = of_long(table, id="who", label="class")
    >>> found.labels, [series.ravel().tolist() for series in found.x]
    (('x', 'y'), [[1.0, 3.0], [2.0]])
    """
    kept = [name for name in (id, label, time) if name]
    table.check(*kept, *channels)
    names = tuple(channels) or tuple(name for name in table.names if name not in kept)
    if not names:
        raise UnrolledError(f"{table.where}: there are no columns of numbers beside {listed(kept)}")
    numbers = np.stack([table.numbers(name) for name in names], axis=1)
    groups = table.groups(id)
    found, firsts = None, [rows[0] for rows in groups.values()]
    if label:
        texts = table.texts(label)
        found = tuple(texts[n] for n in firsts)
        for rows, mine in zip(groups.values(), found, strict=True):
            odd = next((n for n in rows if texts[n] != mine), None)
            if odd is not None:
                said = f"{brief(id)} {brief(table.column(id)[odd])} has the label {brief(texts[odd])} and {brief(mine)}"
                raise UnrolledError(f"{table.row(odd)}: {said}; expected the same in all its rows")
    if time:
        times = parse_times(table.texts(time), table.row)
        groups = {key: _in_order(table, time, times, rows) for key, rows in groups.items()}
    written = [[key] if found is None else [key, found[k]] for k, key in enumerate(groups)]
    series = Table(table.where, (id, *([label] if label else [])), written, [table.lines[n] for n in firsts])
    columns = {"id": id, "label": label, "time": time}
    x = as_series([numbers[rows] for rows in groups.values()], [f"{table.where}, {id} {key}" for key in groups])
    return Labelled(x, found, series, names, columns, tuple(paths))


def _in_order(table: Table, time: str, times: Times, rows: list[int]) -> list[int]:
    """Return the rows of a series by their time."""
    order = np.array(rows)[np.argsort(times[rows], kind="stable")]
    again = np.flatnonzero(np.diff(times[order]) == 0)
    if len(again):
        n = int(order[again[0] + 1])
        value = brief(table.column(time)[n], 60)
        raise UnrolledError(f"{table.row(n)}: {brief(time)} is {value}, as in an earlier row; give each time once")
    return [int(n) for n in order]
