"""How the states of a stack's layers and directions are laid out, as users see them and as the scans take them.

Letters: L layers, D directions, B rows of the batch, H hidden units; a pass is a layer in one direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..cells import Cell
from ..checks import Array, as_array, check_memory
from ..errors import UnrolledError, brief


def state_widths(cell: Cell, hidden: int, proj: int = 0) -> dict[str, int]:
    """Return the width of each field of a layer's state."""
    return {name: proj or hidden if name == "h" else hidden for name in cell.state_fields}


@dataclass(frozen=True)
class States:
    """The layout of a stack's state.

    Attributes
    ----------
    cell : Cell
    widths : dict a layer, the width of each field of its state
    directions : D
    """

    cell: Cell
    widths: tuple[dict[str, int], ...]
    directions: int

    @cached_property
    def uniform(self) -> bool:
        """Whether all layers are of one width: then one State is the whole state, else it is a tuple of one a layer."""
        return all(layer == self.widths[0] for layer in self.widths)

    def shapes(self, batch: int) -> list[dict[str, tuple[int, ...]]]:
        """Shapes of a state's fields by name: one dictionary, or one a layer where widths differ."""
        passes = self.directions * (len(self.widths) if self.uniform else 1)
        layers = self.widths[:1] if self.uniform else self.widths
        return [{name: (passes, batch, width) for name, width in layer.items()} for layer in layers]

    def zero(self, batch: int, dtype: str) -> Any:
        """Return the state of zeros."""
        self.check_memory(batch, dtype)
        shapes = self.shapes(batch)
        states = tuple(self.cell.state(*[np.zeros(shape, dtype) for shape in layer.values()]) for layer in shapes)
        return states[0] if self.uniform else states

    def check_memory(self, batch: int, dtype: str) -> None:
        """Refuse a state of more rows than this machine has memory for."""
        numbers = batch * self.directions * sum(width for layer in self.widths for width in layer.values())
        check_memory(numbers, dtype, f"a state of {brief(batch)} rows, {{}} numbers,")

    def zeros(self, batch: int, dtype: str) -> list[Any]:
        """The same, parted: one State of (B, H) arrays for each pass."""
        return [
            self.cell.state(*[np.zeros((batch, width), dtype) for width in layer.values()])
            for layer in self.widths
            for _ in range(self.directions)
        ]

    def join(self, states: Sequence[Any]) -> Any:
        """Join States of (B, H) arrays, one of each pass in order, to what users see as state: copies."""
        step = len(states) if self.uniform else self.directions
        joined = tuple(_stacked(states[n : n + step]) for n in range(0, len(states), step))
        return joined[0] if self.uniform else joined

    def part(self, state: Any) -> list[Any]:
        """Part a state into one State of (B, H) arrays for each pass: the inverse of `join`."""
        states = [state] if self.uniform else state
        return [type(s)(*[f[n] for f in s]) for s in states for n in range(len(s[0]))]

    def take(self, state: Any, batch: int | None, cast: Callable[[Any, str], Array], what: str = "state") -> Any:
        """Return what a caller hands in, as `join` gives it.

        A State, a tuple in its order (a named one with the same names in any), or, of one field, anything like an
        array; one a layer where widths differ. Fields are (L D, B, H); without a batch they are (L D, H), and B is 1.
        """
        layers = len(self.widths)
        if self.uniform:
            return self._one(state, self.widths[0], layers * self.directions, batch, cast, what)
        if not isinstance(state, (tuple, list)) or len(state) != layers:
            raise UnrolledError(f"{what} must be a tuple of {layers} states, one a layer, since widths differ")
        return tuple(
            self._one(s, self.widths[layer], self.directions, batch, cast, f"{what}[{layer}]")
            for layer, s in enumerate(state)
        )

    def _one(self, state: Any, widths: dict[str, int], passes: int, batch: int | None, cast: Any, what: str) -> Any:
        rows, letters = ((), "(L*D, H)") if batch is None else ((batch,), "(L*D, B, H)")
        fields = [state] if len(widths) == 1 and _is_bare(state, 2 + len(rows), what) else state
        if not isinstance(fields, (tuple, list)) or len(fields) != len(widths):
            raise UnrolledError(
                f"{what} must be ({', '.join(widths)}{',' * (len(widths) == 1)}), as {self.cell.name} has it"
            )
        if set(getattr(fields, "_fields", ())) == widths.keys():  # a named tuple's own names say which is which
            fields = [getattr(fields, name) for name in widths]
        found = []
        for (name, width), field in zip(widths.items(), fields, strict=True):
            array, expected = cast(field, f"{what}.{name}"), (passes, *rows, width)
            if array.shape != expected:
                raise UnrolledError(f"{what}.{name} has shape {array.shape}; expected {letters} = {expected}")
            found.append(array if rows else array[:, None])
        return self.cell.state(*found)

    def without_batch(self, state: Any) -> Any:
        """Take the batch of one row out of a state, (L D, 1, H) -> (L D, H)."""
        states = (state,) if self.uniform else state
        bare = tuple(type(s)(*(f[:, 0] for f in s)) for s in states)
        return bare[0] if self.uniform else bare


def _is_bare(state: Any, ndim: int, what: str) -> bool:
    """Whether a state of one field is that field itself, not a tuple of it."""
    if isinstance(state, list):  # of one field, or of a field's layers
        return len(state) != 1 or as_array(what, state[0]).ndim != ndim
    return not isinstance(state, (tuple, dict))


def _stacked(states: Sequence[Any]) -> Any:
    """One State of (N, B, H) arrays from N of (B, H); copies, which keep no tape's memory alive."""
    if len(states) == 1:
        return type(states[0])(*[f[None].copy() for f in states[0]])
    return type(states[0])(*[np.array(fields) for fields in zip(*states, strict=True)])
