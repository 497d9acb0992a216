"""Layers that read time from its end to its start alone: what ONNX calls the direction `reverse`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..cells import Cell
from ..checks import Array, as_floats, as_numbers
from ..errors import UnrolledError
from ..keywords import named
from ..nn.inputs import take_input, take_live
from ..nn.masks import Masks
from ..nn.recurrent import Recurrent
from ..nn.tape import StackTape
from ..nn.weights import KEYWORDS


class ReverseTape(NamedTuple):
    """The tape of a reverse layer: that of the layer that read the turned steps."""

    stack: StackTape

    @property
    def gates(self) -> tuple[Any, ...]:
        """As `StackTape.gates`, in time."""
        return tuple(type(k)(*(f[::-1] for f in k)) for k in self.stack.gates)

    @property
    def states(self) -> tuple[Any, ...]:
        """As `StackTape.states`, in time."""
        return tuple(type(s)(*(f[::-1] for f in s)) for s in self.stack.states)


class Reverse(Recurrent):
    """A stack whose layers all read time from its end to its start; the rest as `Recurrent`, with one direction.

    y stands where x stood, and the final state is that after step 0. Steps that are not there (`lengths`, `live`) are
    passed over. Masks are in the order in which steps are read.

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

    @named(KEYWORDS)
    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(cell, input_size, hidden_size, num_layers, **options)
        if self.bidirectional:
            raise UnrolledError("bidirectional layers read both ways already; a reverse one has one direction")

    def __call__(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        *,
        starts: Any = None,
        live: Any = None,
        timespans: Any = None,
    ) -> tuple[Array, Any]:
        """Inference: as `forward`, without dropout and without a tape."""
        x, live = self._turn(x, lengths, starts, live)
        y, new = super().__call__(x, state, live=live, timespans=timespans)
        return self._turned(y), new

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
        """As `Recurrent.forward`, from the end to the start; `starts`, documents within rows, are refused."""
        x, live = self._turn(x, lengths, starts, live)
        y, new, tape = super().forward(x, state, rng=rng, masks=masks, live=live)
        return self._turned(y), new, ReverseTape(tape)

    def backward(  # type: ignore[override]
        self, tape: ReverseTape, dy: Any = None, dstate: Any = None
    ) -> tuple[Array | None, Any, dict[str, Array]]:
        """As `Recurrent.backward`."""
        if not isinstance(tape, ReverseTape):
            raise UnrolledError(f"the tape is a {type(tape).__name__}; expected the one that this layer's forward gave")
        dy = None if dy is None else self._turned(as_floats("dy", dy, 2))
        dx, before, grads = super().backward(tape.stack, dy, dstate)
        return None if dx is None else self._turned(dx), before, grads

    def step(self, x: Any, state: Any = None, *, timespans: Any = None) -> tuple[Array, Any]:
        """Refuse: the first step that is read is the last one."""
        raise UnrolledError("a reverse layer has no step: it needs the whole sequence")

    def _turn(self, x: Any, lengths: Any, starts: Any, live: Any) -> tuple[Array, Array | None]:
        """Return x and which of its steps are there, both from the end to the start."""
        if starts is not None:
            raise UnrolledError("starts are of layers that read forwards; give each document a row of its own")
        timed, order = take_input(x, self, self._cast, own=False)
        there = take_live(lengths, live, (timed.shape[0], timed.shape[1]), order)
        return self._turned(as_numbers("x", x)), None if there is None else order.as_given(there[::-1])

    def _turned(self, a: Array) -> Array:
        """Return x, y or their gradients with time turned round; without a batch, time is the first axis."""
        rank = 1 if a.dtype.kind in "iu" else 2  # of one sequence: (T,) integers, (T, I) numbers
        return a[:, ::-1] if self.batch_first and a.ndim > rank else a[::-1]
