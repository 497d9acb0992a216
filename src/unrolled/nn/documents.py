"""Rows that hold several documents, one after the other -> rows of one document each, and back.

A scan knows one state a row. So where documents begin within a row, each becomes a row of its own, which begins with
the initial state; the first goes on with the state that the row was given. Letters: T steps and B rows as they are
given, S and R as they are run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import Array, as_array, read_only
from ..errors import UnrolledError
from .inputs import steps_within
from .masks import Masks, mapped


@dataclass(frozen=True)
class Packing:
    """Which document of which row each of R rows is; made by `pack`.

    Attributes
    ----------
    lane, offset : (R,) integers, the row of the batch that a document stands in, and its first step there
    lengths : (R,) integers, its steps
    fresh : (R,) bool, whether it begins with the initial state
    row : (T, B) integers, the document that each step belongs to
    steps : S, the steps of the longest
    """

    lane: Array
    offset: Array
    lengths: Array
    fresh: Array
    row: Array
    steps: int

    def goes_on(self, direction: int) -> Array:
        """(B,) integers: the documents that a row's given state goes into; its last ones in the reverse direction."""
        return self.row[-1] if direction else np.arange(self.row.shape[1])

    def ends(self, direction: int) -> Array:
        """(B,) integers: the documents whose final state is their row's."""
        return self.goes_on(1 - direction)

    def begins(self, direction: int) -> Array:
        """(R,) bool: the documents that begin with the initial state."""
        fresh = np.ones(len(self.lane), bool)
        fresh[self.goes_on(direction)] = False
        return fresh if direction else self.fresh

    def there(self, a: Array) -> Array:
        """(T, B, ...) -> (S, R, ...); what stands behind a document's end is not part of it."""
        steps = self.offset + np.arange(self.steps)[:, None]
        packed: Array = a[np.minimum(steps, len(a) - 1), self.lane]
        return packed

    def back(self, a: Array) -> Array:
        """(S, R, ...) -> (T, B, ...): the inverse of `there`."""
        steps = np.arange(len(self.row))[:, None] - self.offset[self.row]
        given: Array = a[steps, self.row]
        return given

    def masks(self, masks: Masks | None) -> Masks | None:
        """Masks of a pass over the rows as they are given -> those of the same pass over the documents."""
        return masks and mapped(masks, self.there, lambda m: m[:, self.lane])

    def live(self, live: Array | None) -> Array:
        """(S, R) bool: the steps that are there; those of `live` (T, B), within their document's length."""
        within = steps_within(self.lengths, self.steps)
        return within if live is None else within & self.there(live)

    def begin(self, given: Sequence[Any], anew: Sequence[Any], directions: int) -> list[Any]:
        """States (R, H) that documents begin with: of every pass, those (B, H) of the rows, or a new one's (R, H)."""
        packed = []
        for n, (state, own) in enumerate(zip(given, anew, strict=True)):
            fresh = self.begins(n % directions)[:, None]
            packed.append(type(state)(*(np.where(fresh, i, f[self.lane]) for i, f in zip(own, state, strict=True))))
        return packed

    def begin_backward(self, dstates: Sequence[Any], directions: int) -> list[Any]:
        """Gradients (B, H) of the rows' states from those (R, H) of the states that documents began with."""
        rows = []
        for n, state in enumerate(dstates):
            went_on = self.goes_on(n % directions)
            fresh = self.begins(n % directions)[went_on, None]
            rows.append(type(state)(*(np.where(fresh, f.dtype.type(0), f[went_on]) for f in state)))
        return rows

    def end(self, finals: Sequence[Any], directions: int) -> list[Any]:
        """States (B, H) that rows end with from those (R, H) that documents do."""
        return [type(s)(*(f[self.ends(n % directions)] for f in s)) for n, s in enumerate(finals)]

    def end_backward(self, dstates: Sequence[Any], directions: int) -> list[Any]:
        """Gradients (R, H) of the states that documents end with from those (B, H) of the rows' own."""
        placed = []
        for n, state in enumerate(dstates):
            fields = [np.zeros((len(self.lane), f.shape[-1]), f.dtype) for f in state]
            for whole, f in zip(fields, state, strict=True):
                whole[self.ends(n % directions)] = f
            placed.append(type(state)(*fields))
        return placed


def pack(starts: Any, steps: int, batch: int, lengths: Array | None = None) -> Packing | None:
    """Part rows at `starts` (T, B), bool: the steps at which a document begins; None where none does.

    Steps behind a row's length belong to its last document.

    Examples
    --------
    >>> starts = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]], bool)
    >>> p = pack(starts, 4, 3)
    >>> p.lane.tolist(), p.offset.tolist(), p.lengths.tolist(), p.fresh.tolist()
    ([0, 1, 2, 0, 1], [0, 0, 0, 2, 3], [2, 3, 4, 2, 1], [False, True, False, True, True])
    >>> x = np.arange(12).reshape(4, 3)
    >>> p.there(x).tolist(), (p.back(p.there(x)) == x).all()
    ([[0, 1, 2, 6, 10], [3, 4, 5, 9, 10], [6, 7, 8, 9, 10], [9, 10, 11, 9, 10]], np.True_)
    """
    begins = as_array("starts", starts)
    if begins.shape != (steps, batch) or begins.dtype != bool:
        raise UnrolledError(
            f"starts are {begins.dtype} of shape {begins.shape}; expected bool (T, B) = {(steps, batch)}: "
            "whether a document begins there"
        )
    live = np.full(batch, steps) if lengths is None else lengths
    begins = begins & (np.arange(steps)[:, None] < live)
    if not begins.any():
        return None
    lane, later = np.nonzero(begins[1:].T)
    number = np.cumsum(np.concatenate([np.zeros((1, batch), int), begins[1:]]), axis=0)
    before = np.cumsum(number[-1]) - number[-1]  # documents that begin within the rows before this one
    row = np.where(number == 0, np.arange(batch), batch + before + number - 1)
    lane, offset = np.concatenate([np.arange(batch), lane]), np.concatenate([np.zeros(batch, int), later + 1])
    fresh = np.concatenate([begins[0], np.ones(len(later), bool)])
    sizes = np.bincount(row.ravel(), minlength=len(lane))
    lengths = np.clip(live[lane] - offset, 0, sizes)
    lane, offset, lengths, fresh, row = map(read_only, (lane, offset, lengths, fresh, row))
    return Packing(lane, offset, lengths, fresh, row, int(sizes.max()))
