"""The memory of a scan's fields, each padded to whole vectors, and of the numbers that belong to a unit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...cells import Cell
from ...checks import Array
from ...errors import UnrolledError
from ...reference import scan
from .arrays import empty, padded_width, vector_width
from .bytecode import PROJECTED, Accumulator, Field, Plan, Row


class Ring(NamedTuple):
    """Where a field's slots lie: from number `start` of an array on; step t has the slot (t + phase) % period."""

    array: Array
    start: int
    phase: int
    period: int


Rings = dict[Field | Accumulator, Ring]


def view(ring: Ring, steps: int, batch: int, hidden: int) -> Array:
    """Return (T, B, H) of a field."""
    padded = padded_width(hidden, ring.array.dtype)
    numbers = ring.array.reshape(-1)[ring.start : ring.start + steps * batch * padded]
    view: Array = numbers.reshape(steps, batch, padded)
    return view[..., :hidden]


@dataclass
class Memory:
    """Gives fields their memory."""

    plan: Plan
    batch: int
    units_of: dict[float, int]
    """Units by width: H, P where h is projected, those of stages of other widths."""
    dtype: Any
    rings: Rings = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes = {width: self.batch * padded_width(n, self.dtype) for width, n in self.units_of.items()}
        """Numbers of a slot, by width."""

    def units(self, name: Any) -> int:
        """Return the units of a field."""
        return self.units_of[self.plan.widths.get(name, 1)]

    def size(self, name: Any) -> int:
        """Return how many numbers a slot of a field has."""
        return self.sizes[self.plan.widths.get(name, 1)]

    def allot(self, slots: dict[Any, int]) -> None:
        """Give each field as many slots as it needs, all of them in one new array."""
        apart = 17 * vector_width(self.dtype)  # a power of two apart, they would share few places of the cache
        starts = [0]
        for name, count in slots.items():
            starts.append(starts[-1] + count * self.size(name) + apart)
        array = empty((starts[-1],), self.dtype)
        for (name, count), start in zip(slots.items(), starts, strict=False):
            self.rings[name] = Ring(array, start, 0, count)

    def hold(self, n: int, start: Array, slots: int) -> Array:
        """Return an array of the slots of field n of the state, (slots, B, units padded), that begins with `start`."""
        array = empty((slots, self.batch, padded_width(start.shape[-1], self.dtype)), self.dtype)
        array[0, :, : start.shape[-1]] = start
        self.rings[Field("s", n)], self.rings[Field("new", n)] = (Ring(array, 0, phase, slots) for phase in (0, 1))
        return array

    def slot(self, name: Field, n: int) -> Array:
        """Return one slot of a field, (B, units)."""
        array, start, _, _ = self.rings[name]
        size, units = self.size(name), self.units(name)
        numbers = array[start + n * size : start + (n + 1) * size]
        return numbers.reshape(self.batch, padded_width(units, self.dtype))[:, :units]

    def layout(self) -> tuple[list[Array], Array]:
        """Return the arrays, and each field's (array, start, phase, period, units) in the plan's order."""
        known: dict[int, int] = {}
        arrays: list[Array] = []
        units = [self.units_of[width] for width in self.plan.width]
        rows = [(0, 0, 0, 1, n) for n in units[: len(self.plan.rows)]]
        names: tuple[Field | Accumulator, ...] = (*self.plan.fields, *self.plan.accumulators)
        for name, n in zip(names, units[len(rows) :], strict=True):
            array, start, phase, period = self.rings[name]
            at = known.setdefault(id(array), len(arrays))
            if at == len(arrays):
                arrays.append(array)
            rows.append((at, start, phase, period, n))
        return arrays, np.array(rows, np.int64).reshape(-1, 5)

    @cached_property
    def spans(self) -> dict[Row, slice]:
        """Where each row's numbers stand in its parameter."""
        ends: Counter[str] = Counter()
        spans = {}
        for row in self.plan.rows:
            start = ends[row.parameter]
            ends[row.parameter] += self.units(row)
            spans[row] = slice(start, ends[row.parameter])
        return spans

    def numbers(self, w: scan.Params) -> Array:
        """Return the numbers a unit, those of one row after another."""
        parts = [np.empty(0)]
        for name, widths in self.plan.parameters.items():
            size = sum([self.units_of[width] for width in widths])
            if w[name].size != size:  # one row more or less would give every row behind it to another unit's place
                raise UnrolledError(f"{name} has {w[name].size} numbers; expected {size}")
            parts.append(w[name].reshape(-1))
        return np.concatenate(parts, dtype=self.dtype)


def units_of(cell: Cell, hidden: int, narrow: int) -> dict[float, int]:
    """Return the units of fields by their width."""
    return {stage.width: stage.units(hidden) for stage in cell.stages} | {PROJECTED: narrow, 1: hidden}
