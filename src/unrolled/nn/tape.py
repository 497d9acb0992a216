"""The tape of a stack: what is remembered of a forward pass, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array
from ..errors import UnrolledError
from .documents import Packing
from .masks import Masks


class Teaching(NamedTuple):
    """The teaching view of an LSTM's step: not the gates, but what they let through; each (T, B, H)."""

    learn: Array
    """i g: what is added to the cell."""
    forget: Array
    """f c: what is left of the old cell."""
    remember: Array
    """Their sum, the new cell."""
    use: Array
    """The part of it that is shown: the cell's output."""


@dataclass(frozen=True)
class StackTape:
    """The tape of a stack's forward pass: one scan tape a layer and direction, as plain data.

    Attributes
    ----------
    scans : tuple of `unrolled.reference.scan.Tape`, entry `layer * D + direction`; a reverse direction's runs backwards
        in time
    masks : dict of the masks that were used, or None
    from_start : bool, whether the initial state was the network's own
    packing : how the scans' rows, one a document, come from the rows of the batch; None where no document began
    batched : bool, whether x had a batch
    made_by : dict of the cell, sizes and options of the network that made it
    """

    scans: tuple[Any, ...]
    directions: int
    masks: Masks | None
    batch_first: bool
    from_start: bool = False
    packing: Packing | None = None
    batched: bool = True
    made_by: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gates(self) -> tuple[Any, ...]:
        """The gates of every layer and direction: `tape.gates[layer * D + direction].f` is (T, B, H)."""
        return tuple(self._in_time(n, tape.gates) for n, tape in enumerate(self.scans))

    @property
    def states(self) -> tuple[Any, ...]:
        """The states after every step, by layer and direction: `tape.states[n].c` is (T, B, H)."""
        return tuple(
            self._in_time(n, type(tape.states)(*(f[1:] for f in tape.states))) for n, tape in enumerate(self.scans)
        )

    @property
    def teaching(self) -> tuple[Teaching, ...]:
        """The same steps in the teaching view's words, by layer and direction, for cells with a memory c.

        Examples
        --------
        >>> import unrolled as ur
        >>> _, _, tape = ur.LSTM(4, 5).forward(np.ones((7, 3, 4)))
        >>> k, view = tape.gates[0], tape.teaching[0]
        >>> np.allclose(view.learn, k.i * k.g), np.allclose(view.use, k.o * np.tanh(view.remember))
        (True, True)
        """
        return tuple(self._in_time(n, _teaching(tape)) for n, tape in enumerate(self.scans))

    def anew(self, direction: int, rows: int) -> Array:
        """Return which rows of a scan, (R,) bool, began with the network's own initial state."""
        if self.packing is not None and not self.from_start:
            return self.packing.begins(direction)
        return np.full(rows, self.from_start)

    def _in_time(self, n: int, fields: Any) -> Any:
        if n % self.directions:
            fields = type(fields)(*(f[::-1] for f in fields))
        if self.packing is not None:
            fields = type(fields)(*(self.packing.back(f) for f in fields))
        return fields if self.batched else type(fields)(*(f[:, 0] for f in fields))


def _teaching(tape: Any) -> Teaching:
    if "c" not in tape.states._fields:
        raise UnrolledError(f"{tape.cell.name} has no memory c; the teaching view is one of LSTMs")
    before, new = tape.states.c[:-1], tape.proposed
    forget = before * getattr(tape.gates, "f", 1)
    return Teaching(new.c - forget, forget, new.c, new.h)


def check_tape(tape: Any, kind: type[Any], mine: Mapping[str, Any]) -> None:
    """Refuse what is no tape of that kind, and a tape of a network with another cell, size or option.

    Weights may differ: a tape holds those that it was made with, and its gradients are theirs.
    """
    if not isinstance(tape, kind):
        raise UnrolledError(f"the tape is a {type(tape).__name__}; expected the {kind.__name__} that forward returned")
    made_by: Mapping[str, Any] = tape.made_by
    if made_by == mine:
        return
    for name, value in mine.items():
        if made_by.get(name) != value:
            theirs, ours = (getattr(v, "name", v) for v in (made_by.get(name), value))
            raise UnrolledError(f"the tape is another network's: its {name} is {theirs}, this network's is {ours}")
