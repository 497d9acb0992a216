"""Examples with labels: texts, or series of numbers, wherever they are from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import as_array, as_numbers
from ..errors import UnrolledError, brief, count
from .tables import Table, is_writable


@dataclass(frozen=True, eq=False)
class Labelled:
    """Texts or series, each with the label of its class.

    Attributes
    ----------
    x : sequence of str, or of (T, C) float32 arrays
    labels : tuple of str or int, or None
        None where none were asked for.
    table : Table
        A row of each: what predictions are written behind.
    channels : tuple of str
        Names of the C numbers of a step; () for texts.
    columns : dict
        What was read from where: names of columns by "text", "label", "id", "time".
    paths : tuple of str
        The files; () where they were none.
    notes : tuple of str
        What was left out, in plain sentences.
    places : tuple of str
        Of each row its file and line, for messages; those of the table, where there are none.
    weights : tuple of float, or None
        What each counts; None where all count the same.

    Examples
    --------
    >>> moods = labelled(["very good", "bad"], ["glad", "sad"])
    >>> len(moods), moods.part([1]).x, moods.place(1)
    (2, ['bad'], 'text 1')
    """

    x: Sequence[Any]
    labels: tuple[str | int, ...] | None
    table: Table
    channels: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def place(self, n: int) -> str:
        """Return how messages name an example."""
        return self.places[n] if self.places else self.table.row(n)

    def part(self, rows: Iterable[int]) -> Labelled:
        """Return some of the examples, in this order; what they are a part of is no longer all of its files.

        Parameters
        ----------
        rows : N whole numbers
            From 0; of a mask, `np.flatnonzero` of it.
        """
        numbers = as_array("rows", list(rows) if isinstance(rows, Iterable) else rows)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise UnrolledError(f"rows are {brief(rows)}; expected whole numbers (N,)")
        if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self):
            raise UnrolledError(
                f"rows are {numbers.min()} to {numbers.max()}; there are {count(len(self), 'example')}, from 0"
            )
        rows = [int(n) for n in numbers]
        return replace(
            self,
            x=[self.x[n] for n in rows],
            labels=None if self.labels is None else tuple(self.labels[n] for n in rows),
            table=replace(
                self.table, rows=[self.table.rows[n] for n in rows], lines=[self.table.lines[n] for n in rows]
            ),
            places=tuple(self.place(n) for n in rows),
            weights=None if self.weights is None else tuple(self.weights[n] for n in rows),
            paths=(),
        )


def joined(parts: Sequence[Labelled]) -> Labelled:
    """Return the examples of several files as those of one; refuse columns that differ."""
    first, *others = parts
    for part in others:
        if part.table.names != first.table.names or part.table.delimiter == "" != first.table.delimiter:
            raise UnrolledError(
                f"{part.table.where} has other columns than {first.table.where}: {', '.join(part.table.names)}, not "
                f"{', '.join(first.table.names)}"
            )
    labels = [part.labels for part in parts]
    return replace(
        first,
        x=[x for part in parts for x in part.x],
        labels=None if first.labels is None else tuple(label for several in labels for label in several or ()),
        table=replace(
            first.table,
            rows=[row for part in parts for row in part.table.rows],
            lines=[line for part in parts for line in part.table.lines],
        ),
        paths=tuple(path for part in parts for path in part.paths),
        notes=tuple(note for part in parts for note in part.notes),
        places=tuple(part.place(n) for part in parts for n in range(len(part))) if others else first.places,
    )


def labelled(x: Any, labels: Any = None) -> Labelled:
    """Return examples that are in memory.

    Parameters
    ----------
    x : list of str, or list of (T,) or (T, C) arrays of numbers, or an array (N, T) or (N, T, C)
        Texts or series. Steps at a series' end where all is NaN are padding, and left out.
    labels : N texts or whole numbers, optional

    Raises
    ------
    UnrolledError
        If x is neither, a text or a series is empty, series have different channels or hold NaN, or there are not as
        many labels.
    """
    several = x.tolist() if hasattr(x, "tolist") and str(getattr(x, "dtype", "")) in ("object", "str", "string") else x
    if isinstance(several, str) or not hasattr(several, "__len__") or not hasattr(several, "__iter__"):
        raise UnrolledError(f"the examples are {brief(x)}; expected a list of texts, or of arrays of numbers")
    several = list(several)
    if not several:
        raise UnrolledError("there are no examples; expected one or more")
    texts = [isinstance(item, str) for item in several]
    if any(texts) and not all(texts):
        raise UnrolledError(
            f"example {texts.index(not texts[0])} is of another kind than example 0; expected all texts"
        )
    noun = "text" if all(texts) else "series"
    places = tuple(f"{noun} {n}" for n in range(len(several)))
    found = several if all(texts) else as_series(several, places)
    table = Table("the examples", (noun,), [[str(n)] for n in range(len(several))], list(range(len(several))))
    names = () if all(texts) else channels_of(found[0].shape[1])
    return Labelled(found, None if labels is None else as_labels(labels, len(several)), table, names, places=places)


def as_labels(labels: Any, rows: int) -> tuple[str | int, ...]:
    """Return labels as texts or whole numbers of Python's own, one a row, or say what is wrong with them."""
    array = labels.tolist() if hasattr(labels, "tolist") else list(labels) if not isinstance(labels, str) else [labels]
    if not isinstance(array, list) or len(array) != rows:
        got = count(len(array), "label") if isinstance(array, list) else brief(labels)
        raise UnrolledError(f"there are {count(rows, 'example')} and {got}; expected a label each")
    plain = [int(v) if isinstance(v, float) and v.is_integer() else v for v in array]
    plain = [v.item() if isinstance(v, np.generic) else v for v in plain]
    for n, value in enumerate(plain):
        if not isinstance(value, (str, int)) or value == "" or not is_writable(value):
            raise UnrolledError(f"label {n} is {brief(array[n])}; expected a text or a whole number")
    return tuple(int(v) if isinstance(v, bool) else v for v in plain)


def channels_of(number: int) -> tuple[str, ...]:
    """Return names of channels that have none: "1", "2", ..."""
    return tuple(str(n + 1) for n in range(number))


def as_series(several: Sequence[Any], places: Sequence[str], noun: str = "channel") -> list[NDArray[np.float32]]:
    """Return series as (T, C) float32 arrays, all of as many channels, or say what is wrong with one.

    Parameters
    ----------
    several : sequence of (T,) or (T, C) numbers
        Steps at the end where every channel is NaN are padding, and left out.
    places : sequence of str
        What each is called in messages.
    """
    found = [_series(values, where) for values, where in zip(several, places, strict=True)]
    for series, where in zip(found, places, strict=True):
        if series.shape[1] != found[0].shape[1]:
            raise UnrolledError(
                f"{where} has {count(series.shape[1], noun)}, {places[0]} {found[0].shape[1]}; expected as many in each"
            )
    return found


def _series(values: Any, where: str) -> NDArray[np.float32]:
    array: Any = as_numbers(where, as_array(where, values))
    if array.ndim not in (1, 2) or array.dtype.kind == "c":
        raise UnrolledError(f"{where} has shape {array.shape}; expected (T,) or (T, C) numbers")
    array = array[:, None] if array.ndim == 1 else array
    with np.errstate(over="ignore"):
        series = array.astype(np.float32)
    there = ~np.isnan(series).all(axis=1)
    if not series.size or not there.any():
        raise UnrolledError(f"{where} is empty; leave it out")
    series = np.ascontiguousarray(series[: np.flatnonzero(there)[-1] + 1])
    odd = np.argwhere(~np.isfinite(series))
    if len(odd):
        step, channel = odd[0].tolist()
        raise UnrolledError(
            f"{where}: step {step + 1:,} of channel {channel + 1} is {array[step, channel]}; expected a finite number"
        )
    return series
