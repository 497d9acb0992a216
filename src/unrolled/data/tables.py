"""Tables: rows of CSV, TSV or JSON lines, by the names of their columns; read, and written back with columns added."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import as_kind
from ..errors import UnrolledError, brief, count, suggest
from .text import whole_text
from .text.packed import plain_name
from .text.records import LONGEST, as_number, delimiter_of

MISSING = frozenset({"", "na", "n/a", "<na>", "nan", "null", "none", "?"})
"""What stands in a column of numbers where there is none, in small letters."""


@dataclass(frozen=True, eq=False)
class Table:
    r"""Rows of values by column.

    Attributes
    ----------
    where : str
        Its file, for messages.
    names : tuple of str
        Its columns, in order.
    rows : list
        Of each row its values: a list of texts, or, of JSON lines, the object.
    lines : list of int
        The line of the file on which each row begins, from 1.
    delimiter : str
        What stands between fields; "" for JSON lines.
    header : bool
        Whether the first row names the columns; where it doesn't, they are called "1", "2", ...
    quoted : bool
        Whether quotation marks enclose fields; where they don't, they are signs like others.

    Examples
    --------
    >>> table = parse_table("id,load\na,0.5\nb,2\n", "load.csv")
    >>> table.texts("id"), table.numbers("load").tolist()
    (['a', 'b'], [0.5, 2.0])
    >>> print("".join(table.written({"predicted": [1.5, 3.0]})), end="")
    id,load,predicted
    a,0.5,1.5
    b,2,3.0
    """

    where: str
    names: tuple[str, ...]
    rows: Sequence[Any]
    lines: Sequence[int]
    delimiter: str = ","
    header: bool = True
    quoted: bool = True

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, n: int) -> str:
        """Return how messages name a row."""
        return f"{self.where}, line {self.lines[n]:,}"

    def check(self, *names: str) -> None:
        """Refuse a column that isn't there; the nearest one is named."""
        for name in names:
            if name not in self.names:
                raise UnrolledError(f"{self.where}: {suggest('column', name, list(self.names))}")

    def check_new(self, names: Iterable[str]) -> None:
        """Refuse names of columns to be added that the table has already."""
        for name in names:
            if name in self.names and self.header:
                raise UnrolledError(f"{self.where} has a column {brief(name)} already; rename it, or leave it out")

    def column(self, name: str) -> list[Any]:
        """Return a column's values: texts, or what JSON has there, None where an object has no such field."""
        self.check(name)
        if not self.delimiter:
            return [row.get(name) for row in self.rows]
        at = self.names.index(name)
        return [row[at] for row in self.rows]

    def texts(self, name: str) -> list[str]:
        """Return a column of texts; numbers and truth values of JSON as they are written.

        Raises
        ------
        UnrolledError
            If a row of JSON has none, or a list, an object or no finite number there; names the row.
        """
        values = self.column(name)
        for n, value in enumerate(values):
            if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
                got = "missing" if value is None else brief(value, 60)
                raise UnrolledError(f"{self.row(n)}: {brief(name)} is {got}; expected a text")
        return [value if isinstance(value, str) else json.dumps(value) for value in values]

    def groups(self, name: str) -> dict[str, list[int]]:
        """Return the numbers of the rows by what a column has there, in the order in which each first comes.

        Raises
        ------
        UnrolledError
            If a row has nothing there; names the row.
        """
        found = dict[str, list[int]]()
        for n, key in enumerate(self.texts(name)):
            if not key.strip():
                raise UnrolledError(f"{self.row(n)}: {brief(name)} is empty; expected the series that the row is of")
            found.setdefault(key, []).append(n)
        return found

    def numbers(self, name: str, *, missing: bool = False) -> NDArray[np.float64]:
        """Return a column of numbers, (N,).

        Parameters
        ----------
        name : str
        missing : bool
            Whether a number may be missing (an empty field, NaN, NA, null): it is NaN then.

        Raises
        ------
        UnrolledError
            If a row has something else there, or no number; names the row.
        """
        values = self.column(name)
        try:
            found = np.array([float(value) for value in values])
            if any("_" in value for value in values if isinstance(value, str)):  # Python's own way to write a number
                raise ValueError
        except (TypeError, ValueError):
            found = np.array([self._number(n, name, value) for n, value in enumerate(values)])
        odd = np.flatnonzero(np.isinf(found) if missing else ~np.isfinite(found))
        if len(odd):
            n = int(odd[0])
            got = "infinite" if np.isinf(found[n]) else "missing"
            raise UnrolledError(f"{self.row(n)}: {brief(name)} is {got}; expected a number")
        return found

    def _number(self, n: int, name: str, value: Any) -> float:
        """Return the number of a field, NaN where it is missing."""
        if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
            return math.nan
        try:
            return float(value.replace("_", "x") if isinstance(value, str) else value)
        except (TypeError, ValueError, OverflowError):
            raise UnrolledError(f"{self.row(n)}: {brief(name)} is {brief(value, 60)}; expected a number") from None

    def written(self, added: Mapping[str, Sequence[Any]]) -> Iterator[str]:
        """Yield the table as it is written, a line at a time, with more columns behind its own.

        Parameters
        ----------
        added : dict of sequences
            A value a row: texts, or numbers of Python's own.

        Raises
        ------
        UnrolledError
            If the table has a column of such a name already.
        """
        self.check_new(added)
        return self._written(added)

    def _written(self, added: Mapping[str, Sequence[Any]]) -> Iterator[str]:
        more = zip(*added.values(), strict=True) if added else iter([()] * len(self))
        if not self.delimiter:
            for row, values in zip(self.rows, more, strict=True):
                yield json.dumps(row | dict(zip(added, values, strict=True)), ensure_ascii=False) + "\n"
            return
        if self.header:
            yield line_of((*self.names, *added), self.delimiter, self.quoted)
        for row, values in zip(self.rows, more, strict=True):
            yield line_of((*row, *values), self.delimiter, self.quoted)


def line_of(values: Iterable[Any], delimiter: str = ",", quoted: bool = True) -> str:
    r"""Return a row as it is written.

    Examples
    --------
    >>> line_of(["one, two", 0.5])
    '"one, two",0.5\n'
    """
    if not quoted:
        return delimiter.join(re.sub(rf"[\r\n{delimiter}]", " ", str(value)) for value in values) + "\n"
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerow(values)
    return text.getvalue()


def read_table(path: str | os.PathLike[str], *, encoding: str = "utf-8", header: bool = True) -> Table:
    r"""Read a table: CSV, TSV, or JSON lines, which a name (.jsonl, .ndjson) or a first brace tell.

    Fields of CSV are between commas, semicolons, bars or tabs, whichever the first line has most of; what is quoted may
    hold line ends. Packed files (gzip, zstd, bz2, xz) are unpacked, a byte-order mark is dropped.

    Parameters
    ----------
    path : path
        Or "-", standard input.
    encoding : str
    header : bool
        Whether the first row names the columns.

    Returns
    -------
    Table

    Raises
    ------
    UnrolledError
        If the file can't be read or is no table, has no rows, names a column twice, or a row has more fields or fewer
        than the first; names the row.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "moods.csv")
    ...     _ = path.write_text('review,mood\n"Good,\nreally",glad\n')
    ...     table = read_table(path)
    >>> table.names, table.texts("review"), table.lines
    (('review', 'mood'), ['Good,\nreally'], [2])
    """
    text, where = whole_text(path, encoding)
    return parse_table(text, where, os.fspath(path), header=header)


def parse_table(text: str, where: str, path: str = "", *, header: bool = True) -> Table:
    """Return the table that a text is; see `read_table`."""
    as_kind("header", header, "bool")
    ends = plain_name(path).lower()
    if ends.endswith((".jsonl", ".ndjson")) or (text.lstrip()[:1] == "{" and not ends.endswith((".csv", ".tsv"))):
        return _of_json(text, where)
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = delimiter_of(first, path)
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    quoted = delimiter != "\t" or _are_quoted(text, where)
    rows, lines = _rows(text, where, delimiter, quoted)
    if not rows:
        raise UnrolledError(f"{where}: the file is empty; expected a table")
    names = tuple(rows[0]) if header else tuple(str(n + 1) for n in range(len(rows[0])))
    for n, row in enumerate(rows):
        if len(row) != len(names):
            raise UnrolledError(
                f"{where}, line {lines[n]:,}: the row has {count(len(row), 'field')}, the first one {len(names)}; "
                "a field that holds the delimiter has to be quoted"
            )
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise UnrolledError(f"{where}: two columns are called {brief(twice)}; expected distinct names in the first row")
    if header and len(rows) == 1:
        raise UnrolledError(f"{where}: there are no rows below the names of the columns")
    return Table(where, names, rows[header:], lines[header:], delimiter, header, quoted)


def _are_quoted(text: str, where: str) -> bool:
    """Whether quotation marks enclose fields of a table with tabs, in which they often are signs like others.

    They are, if every line has as many fields as the first when they are so read, and fewer rows or none otherwise.
    """
    if '"' not in text:
        return True
    plain, _ = _rows(text, where, "\t", quoted=False)
    if len({len(row) for row in plain}) != 1:
        return True
    try:
        return len(_rows(text, where, "\t")[0]) == len(plain)
    except UnrolledError:
        return False


def _rows(text: str, where: str, delimiter: str, quoted: bool = True) -> tuple[list[list[str]], list[int]]:
    """Return the rows of a table that are not empty, and the line on which each begins."""
    marks: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=marks)
    rows, lines, before = list[list[str]](), list[int](), 0
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append(row)
                lines.append(before + 1)
            before = reader.line_num
    except csv.Error as error:
        raise UnrolledError(f"{where}, line {before + 1:,} is no row of a table: {error}") from None
    return rows, lines


def _of_json(text: str, where: str) -> Table:
    """Return a table of JSON lines; its columns are all fields that an object has."""
    rows, lines, names = list[dict[str, Any]](), list[int](), dict[str, None]()
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_int=as_number)
        except (ValueError, RecursionError):
            row = None
        if "\\ud" in line.lower() and not is_writable(row):
            raise UnrolledError(f"{where}, line {n:,} holds half a character (\\ud...); write it as UTF-8")
        if not isinstance(row, dict):
            raise UnrolledError(f"{where}, line {n:,} is {brief(line, 60)}; expected a JSON object a line")
        rows.append(row)
        lines.append(n)
        names |= dict.fromkeys(row)
    if not rows:
        raise UnrolledError(f"{where}: there are no rows")
    return Table(where, tuple(names), rows, lines, "")


def is_writable(value: Any) -> bool:
    """Whether a value of JSON has no halves of characters, lone surrogates, which no file can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
