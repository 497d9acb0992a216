"""One field of each record: of JSON lines, and of the rows of a table (CSV, TSV)."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from ...errors import UnrolledError, brief
from .packed import plain_name

LONGEST = 1 << 26
"""Characters of a line of JSON, and of a field of a table, at most: as much is held in memory."""

DELIMITERS = "\t,;|"
"""Delimiters of a table's fields; in a file that doesn't end in .tsv, it is the one that its first line has most of."""


def fields(pieces: Iterable[str], name: str, where: str, *, skip_null: bool = False) -> Iterator[str | None]:
    """Yield one field of every JSON line; None for a field that is null or absent and to be skipped."""
    for n, line in enumerate(lines_of(pieces, where), 1):
        if n == 1:
            line = line.removeprefix("\ufeff")
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_int=as_number)[name]
        except RecursionError:
            raise UnrolledError(f"{where}, line {n} is nested too deeply; leave it out") from None
        except ValueError:
            hint = "; a list of objects has to be cut into lines" if n == 1 and line.lstrip()[0] == "[" else ""
            raise UnrolledError(f"{where}, line {n} is no JSON; --json-field expects one object a line{hint}") from None
        except (KeyError, TypeError, IndexError) as error:
            if skip_null and isinstance(error, KeyError):
                yield None
                continue
            raise UnrolledError(f"{where}, line {n} is no object with a field {brief(name)} (--json-field)") from None
        if value is None and skip_null:
            yield None
        elif isinstance(value, str):
            yield value
        else:
            got = "null" if value is None else brief(value, 60)
            hint = "; --skip-null leaves such lines out" if value is None else ""
            raise UnrolledError(f"{where}, line {n}: the field {brief(name)} is {got}; expected a text{hint}")


def as_number(digits: str) -> float:
    """Return a whole number of JSON; Python refuses to read more than 4,300 digits."""
    return int(digits) if len(digits) < 1000 else math.inf


def column(
    pieces: Iterable[str], name: str, where: str, path: str = "", *, skip_null: bool = False
) -> Iterator[str | None]:
    """Yield one field of every row of a table; None for one that is empty or absent and to be skipped.

    A name is looked for in the first row; a number counts columns from 1, and then the first row is a row like others.
    """
    lines = (f"{line}\n" for line in lines_of(pieces, where))
    first = next(lines, "")
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    rows = csv.reader(chain([first], lines), delimiter=delimiter_of(first, path), strict=True)
    at = int(name) - 1 if re.fullmatch("[0-9]{1,9}", name) else None
    if at == -1:
        raise UnrolledError("--column is 0; columns are counted from 1")
    try:
        for row in rows:
            if at is None:
                if row.count(name) != 1:
                    said = "twice" if name in row else "nowhere"
                    named = brief(", ".join(row), 120)
                    raise UnrolledError(
                        f"{where}: the column {brief(name)} is {said} in the first row, which has {named}"
                    )
                at = row.index(name)
            elif row:  # an empty line is no row
                value = row[at] if at < len(row) else None
                if value is None and not skip_null:
                    raise UnrolledError(
                        f"{where}, line {rows.line_num}: the row has {len(row)} columns, and no column {at + 1}; "
                        "--skip-null leaves such rows out"
                    )
                yield value or (None if skip_null else "")
    except csv.Error as error:
        raise UnrolledError(f"{where}, line {rows.line_num} is no row of a table: {error}") from None


def delimiter_of(first: str, path: str) -> str:
    """Return what stands between the fields of a table."""
    if plain_name(path).lower().endswith((".tsv", ".tab")):
        return "\t"
    unquoted = re.sub(r'"[^"]*"', "", first)
    most = max(DELIMITERS, key=unquoted.count)
    return most if most in unquoted else ","


def lines_of(pieces: Iterable[str], where: str) -> Iterator[str]:
    """Yield lines without their ends."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        first, *more = piece.split("\n")
        held.append(first)
        size += len(first)
        if more:
            yield "".join(held)
            yield from more[:-1]
            held, size = [more[-1]], len(more[-1])
        if size > LONGEST:
            raise UnrolledError(f"{where}: a line is longer than {LONGEST:,} characters; expected one record a line")
    if size:
        yield "".join(held)


def looks_like(head: str, path: str) -> str:
    r"""Return what to do with a text that looks like records and is read as prose; "" where it doesn't.

    Examples
    --------
    >>> looks_like("id,text\n1,hello\n", "a.csv")
    'looks like a table: --column NAME takes one column of it'
    >>> looks_like("It was, as he said,\n", "a.txt")
    ''
    """
    name = plain_name(path).lower()
    lines = head.split("\n")[:-1][:50] or [head]
    written = [line for line in lines if line.strip() and not line.startswith("#")]
    tabs = {line.count("\t") for line in written}
    if name.endswith((".conllu", ".conll")) or (len(written) >= 5 and tabs == {9}):
        return (
            "looks like annotated sentences (CoNLL-U): sed -n 's/^# text = //p' FILE | unrolled train - takes them out"
        )
    if lines[0].lstrip("\ufeff").startswith("{") and _is_object(lines[0]):
        return "looks like JSON lines: --json-field NAME takes one field of each"
    table = name.endswith((".csv", ".tsv", ".tab")) and any(mark in lines[0] for mark in DELIMITERS)
    if table or (len(written) >= 5 and len(tabs) == 1 and tabs != {0} and not any(w[0] == "\t" for w in written)):
        return "looks like a table: --column NAME takes one column of it"
    return ""


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line.removeprefix("\ufeff"), parse_int=as_number), dict)
    except (ValueError, RecursionError):
        return False
