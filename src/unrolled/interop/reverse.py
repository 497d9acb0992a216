"""Layers that read time from its end to its start alone: what ONNX calls the direction `reverse`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..cells import Cell
from ..checks import Array, as_numbers
from ..errors import UnrolledError
from ..recurrent import Recurrent
from ..tape import Masks, StackTape


def turned(a: Array, order: Array) -> Array:
    """Return an array (T, B, ...) whose step t of row b is step `order[t, b]` of `a`; its own inverse.

    Examples
    --------
    >>> turned(np.array([[1, 5], [2, 6], [3, 0]]), np.array([[2, 1], [1, 0], [0, 2]])).tolist()  # rows of 3 and 2 steps
    [[3, 6], [2, 5], [1, 0]]
    """
    return np.take_along_axis(a, order.reshape(order.shape + (1,) * (a.ndim - 2)), axis=0)


class ReverseTape(NamedTuple):
    """What a reverse layer remembers: the tape of the layer that read the turned steps, and how they were turned."""

    stack: StackTape
    order: Array
    """(T, B): the step that was read in its place."""

    @property
    def gates(self) -> tuple[Any, ...]:
        """As `StackTape.gates`, in time."""
        return tuple(type(k)(*(turned(f, self.order) for f in k)) for k in self.stack.gates)

    @property
    def states(self) -> tuple[Any, ...]:
        """As `StackTape.states`, in time."""
        return tuple(type(s)(*(turned(f, self.order) for f in s)) for s in self.stack.states)


class Reverse(Recurrent):
    """A stack whose layers all read time from its end to its start; the rest as `Recurrent`, with one direction.

    A row of n steps is read from step n - 1 to step 0, and y stands where x stood. The final state is that after step
    0. Masks are in the order in which steps are read.

    Examples
    --------
    >>> layer = Reverse("lstm", 4, 5)
    >>> x = np.random.default_rng(0).normal(size=(7, 3, 4))
    >>> y, _ = layer(x)
    >>> forward = Recurrent("lstm", 4, 5)
    >>> forward.load_params(layer.params)
    >>> np.array_equal(y, forward(x[::-1])[0][::-1])
    True
    """

    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        **options: Any,
    ) -> None:
        if options.get("bidirectional"):
            raise UnrolledError("bidirectional layers read both ways already; a reverse one has one direction")
        super().__init__(cell, input_size, hidden_size, num_layers, **options)

    def __call__(
        self, x: Any, state: Any = None, lengths: Any = None, *, starts: Any = None, live: Any = None
    ) -> tuple[Array, Any]:
        """Inference: as `forward`, without dropout and without a tape."""
        x, order = self._turn(x, lengths, starts, live)
        y, new = super().__call__(x, state, lengths)
        return self._back(y, order), new

    def forward(  # type: ignore[override]
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        *,
        rng: np.random.Generator | int | None = None,
        masks: Masks | None = None,
        starts: Any = None,
        live: Any = None,
    ) -> tuple[Array, Any, ReverseTape]:
        """As `Recurrent.forward`, from the end to the start; `starts` and `live` are refused."""
        x, order = self._turn(x, lengths, starts, live)
        y, new, tape = super().forward(x, state, lengths, rng=rng, masks=masks)
        return self._back(y, order), new, ReverseTape(tape, order)

    def backward(  # type: ignore[override]
        self, tape: ReverseTape, dy: Any = None, dstate: Any = None
    ) -> tuple[Array | None, Any, dict[str, Array]]:
        """As `Recurrent.backward`."""
        if not isinstance(tape, ReverseTape):
            raise UnrolledError(f"the tape is a {type(tape).__name__}; expected the one that this layer's forward gave")
        dy = None if dy is None else self._back(as_numbers("dy", dy), tape.order)
        dx, before, grads = super().backward(tape.stack, dy, dstate)
        return None if dx is None else self._back(dx, tape.order), before, grads

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """Refuse: the first step that is read is the last one."""
        raise UnrolledError("a reverse layer has no step: it needs the whole sequence")

    def _turn(self, x: Any, lengths: Any, starts: Any, live: Any) -> tuple[Array, Array]:
        """Return x with each row's steps turned round within its length, and the order (T, B) that turns them back."""
        if starts is not None:
            raise UnrolledError("starts are of layers that read forwards; give each document a row of its own")
        if live is not None:
            raise UnrolledError("live is of layers that read forwards; give each row its steps with lengths")
        checked, batched = self._input(x, own=False)  # time first
        if not batched:
            raise UnrolledError(
                f"x has shape {np.shape(x)}; a reverse layer takes a batch, of one row for one sequence"
            )
        steps, batch = checked.shape[:2]
        there = self._live(lengths, None, (steps, batch), batched=True)
        t, n = np.arange(steps)[:, None], np.full(batch, steps) if there is None else there.sum(axis=0)
        order = np.where(t < n, n - 1 - t, t)
        return self._back(as_numbers("x", x), order), order

    def _back(self, a: Array, order: Array) -> Array:
        """Return x, y or their gradients turned; another shape is left as it is, to be refused by its name."""
        first = a.swapaxes(0, 1) if self.batch_first and a.ndim > 1 else a
        if first.shape[:2] != order.shape:
            return a
        return turned(first, order).swapaxes(0, 1) if self.batch_first else turned(first, order)
