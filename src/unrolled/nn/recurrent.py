"""Stacks of recurrent layers with PyTorch's semantics, names and initialisation: `Recurrent`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from ..checks import Array, Kept, array_dtype, as_numbers, check_rng, check_size, read_only
from ..declared import described
from ..errors import UnrolledError, UnrolledWarning
from .documents import pack
from .inputs import Order, take_indices, take_input, take_lengths, take_live, take_timespans
from .masks import Masks, check_masks, sample_masks, stack_rates, why_idle
from .options import STACK, NetworkOptions
from .passes import run, run_backward
from .stack import DROPPING
from .tape import StackTape, check_tape
from .weights import Weighted


@described(NetworkOptions, STACK)
class Recurrent(Weighted):
    """A stack of recurrent layers of one cell; shapes, names and initialisation are PyTorch's.

    Letters: T steps, B rows of the batch, I inputs, H hidden units, L layers, D directions (1 or 2).

    Parameters
    ----------
    cell : str or Cell
        A name in `unrolled.cells.CELLS`, or a cell of your own.
    input_size, hidden_size, num_layers : int
        I, H, L. `hidden_size` may be a sequence, a width a layer; L is its length then.
    batch_first : bool
        Whether x and y (and dx, dy) are (B, T, ...) instead of (T, B, ...). States never are.
    backend : str
        "auto", "cpu" or "reference".
    rng : numpy.random.Generator or int, optional
        Where the initial weights come from, or its seed. Default: the process's own (`unrolled.manual_seed`), so that
        no two networks are alike.
    **options
        Rates of dropout are chances to be dropped in `forward`, where it is given `rng` or `masks`; `dtype` may also be
        what NumPy or PyTorch call it.

    Raises
    ------
    UnrolledError
        For an unknown name, a size that makes no sense, or an option that the cell has no use for.

    Examples
    --------
    >>> import unrolled as ur
    >>> net = ur.Recurrent("gru_reset_after", input_size=4, hidden_size=5, num_layers=2)
    >>> y, state = net(np.zeros((7, 3, 4)))
    >>> y.shape, state.h.shape
    ((7, 3, 5), (2, 3, 5))
    >>> net = ur.LSTM(4, (6, 5), zoneout=0.1)  # a width a layer: a State a layer
    >>> y, (first, second) = net(np.zeros((7, 3, 4)))
    >>> first.c.shape, second.c.shape
    ((1, 3, 6), (1, 3, 5))
    """

    def draw_masks(self, steps: int, batch: int, rng: np.random.Generator | int) -> Masks | None:
        """Draw the masks of one forward pass, by name; None if there is nothing to draw.

        `dropout_l0` (T, B, D H) and `locked_l0` (1, B, D H) are True where the layer's output is kept, `recurrent_l0`
        (T, B, H) where a candidate is, `weight_hh_l0` where an entry of the weight is; `zoneout_h_l0` and
        `zoneout_c_l0` (T, B, H) are True where a unit keeps its old value. Reverse directions end in `_reverse`.

        Examples
        --------
        >>> import unrolled as ur
        >>> masks = ur.LSTM(4, 5, 2, dropout=0.5, zoneout=0.1).draw_masks(7, 3, np.random.default_rng(0))
        >>> {name: mask.shape for name, mask in masks.items()}
        {'dropout_l0': (7, 3, 5), 'zoneout_h_l0': (7, 3, 5), 'zoneout_h_l1': (7, 3, 5)}
        """
        steps, batch, rng = check_size("steps", steps, 0), check_size("batch", batch, 0), check_rng(rng)
        return sample_masks(stack_rates(self, steps, batch), rng)

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
        y, new, _ = self._run(x, state, lengths, starts=starts, live=live, timespans=timespans, record=False)
        return y, new

    def forward(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        *,
        rng: np.random.Generator | int | None = None,
        masks: Masks | None = None,
        starts: Any = None,
        live: Any = None,
        timespans: Any = None,
    ) -> tuple[Array, Any, StackTape]:
        """Run the stack and record what the gradient needs.

        The tape is its own: whatever happens to x, y, masks or parameters afterwards, `backward` gives the gradients of
        this pass.

        Parameters
        ----------
        x : (T, B, I) array, or (T, B) integers that stand for one-hot inputs
            With `batch_first`, (B, T, I) or (B, T). One sequence may come without a batch, (T, I) or (T,): then no B is
            in y, states and gradients either.
        state : State, tuple, array or None
            Initial state, each field (L D, B, H); None is zeros.
        lengths : (B,) integers, optional
            Steps of each row, in any order, 0 allowed. Later steps change neither state nor gradient; their y is 0.
        rng : numpy.random.Generator or int, optional
            Draws masks, for dropout and zoneout.
        masks : dict of arrays, optional
            Masks from `draw_masks`, instead of `rng`; {} where nothing is to be dropped on purpose.
        starts : (T, B) bool, optional
            Steps at which a document begins, (B, T) with `batch_first`: there the state is the initial one again, that
            of the row's last document is the final one, and no gradient flows from one document into another.
        live : (T, B) bool, optional
            Steps that are there, instead of `lengths`: any others, within a row too, change neither state nor gradient.
        timespans : (T, B) numbers, optional
            Time since the step before, 0 or more, for cells that see it (`cfc`); (B, T) with `batch_first`. Default: 1.
            A reverse direction takes the time to the step behind, and 1 at the end.

        Returns
        -------
        y : (T, B, D H) array
        state : State, each field (L D, B, H)
        tape : StackTape

        Raises
        ------
        UnrolledError
            If a shape or an index does not fit.

        Warns
        -----
        UnrolledWarning
            Once a network, if a rate of dropout is set and nothing is dropped.

        Examples
        --------
        >>> import unrolled as ur
        >>> lstm = ur.LSTM(4, 5)
        >>> y, state, tape = lstm.forward(np.ones((7, 3, 4)))
        >>> tape.gates[0].f.shape
        (7, 3, 5)
        """
        if masks is not None and rng is not None:
            raise UnrolledError("both rng and masks are given; give masks for those very ones, or rng to draw some")
        if not self._warned and masks is None and any(_dropping(self)) and (why := why_idle(self, rng)):
            self._warned = True
            warnings.warn(why, UnrolledWarning, stacklevel=2)
        self._signature()  # for this pass's own weights and for the next pass
        own = self._with(self._params.kept())
        now = {"starts": starts, "live": live, "timespans": timespans}
        return own._run(x, state, lengths, masks, rng, **now, record=True, own=True)

    def _run(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        masks: Masks | None = None,
        rng: Any = None,
        *,
        starts: Any = None,
        live: Any = None,
        timespans: Any = None,
        record: bool,
        own: bool = False,
    ) -> tuple[Array, Any, StackTape]:
        """Run the stack; to `own` is to share no memory with what the caller holds."""
        x, order = take_input(x, self, self._cast, own=own)
        steps, batch = x.shape[:2]
        taken = None if state is None else self.states.take(state, batch if order.batched else None, self._cast)
        begin = self._begin(batch) if taken is None else self.states.part(taken)
        there = take_live(lengths, live, (steps, batch), order)
        dt = take_timespans(timespans, self, there, (steps, batch), order)
        if x.dtype.kind in "iu":
            x = take_indices(x, there, self.input_size)
        if masks is not None:
            masks = check_masks(masks, stack_rates(self, steps, batch), own=own)
        elif rng is not None:
            masks = self.draw_masks(steps, batch, rng)
        packing = None
        if starts is not None:
            ends = None if live is not None or lengths is None else take_lengths(lengths, steps, batch)
            packing = pack(order.steps("starts", starts), steps, batch, ends)
        if packing is not None:
            x, masks, there = packing.there(x), packing.masks(masks), packing.live(None if live is None else there)
            dt = None if dt is None else packing.there(dt)
            begin = packing.begin(begin, self._begin(len(packing.lane)), self.directions)
        if own:
            there = None if there is None else read_only(there)
            masks = None if masks is None else Kept({name: read_only(m) for name, m in masks.items()})
        y, finals, scans = run(self, self._backend, self._weights(masks), x, begin, there, masks, dt, record=record)
        if packing is not None:
            y, finals = packing.back(y), packing.end(finals, self.directions)
        elif own and y.base is not None:
            y = y.copy()  # else it would be the tape's own states
        made_by = self._signature() if record else NOBODY
        tape = StackTape(
            scans, self.directions, masks, self.batch_first, state is None, packing, order.batched, made_by
        )
        final = self.states.join(finals)
        return order.as_given(y), final if order.batched else self.states.without_batch(final), tape

    def _signature(self) -> Mapping[str, Any]:
        """Return what a tape's network and the one that it is handed back to must have in common."""
        if self._made_by is None:  # found once: options stay as they are
            self._made_by = Kept(zip(SIGNATURE, _signed(self), strict=True))
        return self._made_by

    def backward(
        self, tape: StackTape, dy: Any = None, dstate: Any = None
    ) -> tuple[Array | None, Any, dict[str, Array]]:
        """Gradients of everything that `forward` read; nothing is accumulated anywhere.

        Parameters
        ----------
        tape : StackTape
            From `forward` of this network, or of one with the same cell, sizes and options.
        dy : (T, B, D H) array or None
            Gradient of the outputs, (B, T, D H) with `batch_first`; None is zeros.
        dstate : State, tuple, array or None
            Gradient of the final state; None is zeros.

        Returns
        -------
        dx : array shaped as x, or None where x was integers
        dstate : State
            Gradient of the initial state, each field (L D, B, H).
        grads : dict
            Gradient of every parameter, keyed as `params`.

        Examples
        --------
        >>> import unrolled as ur
        >>> rnn = ur.RNN(4, 5, dtype="float64")
        >>> y, state, tape = rnn.forward(np.ones((7, 3, 4)))
        >>> dx, dstate, grads = rnn.backward(tape, np.ones_like(y))
        >>> sorted(grads) == sorted(rnn.params)
        True
        """
        check_tape(tape, StackTape, self._signature())
        if dy is None and dstate is None:
            raise UnrolledError(
                "dy and dstate are None; expected the gradient of the outputs, of the state, or of both"
            )
        return self._backward(tape, dy, dstate)

    def _backward(self, tape: StackTape, dy: Any, dstate: Any) -> tuple[Array | None, Any, dict[str, Array]]:
        """As `backward`, of a tape of this network's."""
        packing, order = tape.packing, Order(self.batch_first, tape.batched)
        steps, batch = tape.scans[0].x.shape[:2] if packing is None else packing.row.shape
        letters, first = order.expected(steps, batch)
        expected = (*first, self.output_size)
        dy = np.zeros(expected, array_dtype(self.dtype)) if dy is None else self._cast(dy, "dy")
        if dy.shape != expected:
            raise UnrolledError(f"dy has shape {dy.shape}; expected ({letters}, D H) = {expected}")
        dy = order.in_time(dy)
        if dstate is None:
            ends = self.states.zeros(batch, array_dtype(self.dtype))
        else:
            ends = self.states.part(self.states.take(dstate, batch if tape.batched else None, self._cast, "dstate"))
        if packing is not None:
            dy, ends = packing.there(dy), packing.end_backward(ends, self.directions)
        dx, before, grads = run_backward(self, tape, dy, ends)
        if packing is not None:
            dx = None if dx is None else packing.back(dx)
            before = packing.begin_backward(before, self.directions)
        dbefore, grads = self.states.join(before), {name: grads[name] for name in self._params}
        return (
            None if dx is None else order.as_given(dx),
            dbefore if tape.batched else self.states.without_batch(dbefore),
            grads,
        )

    def step(self, x: Any, state: Any = None, *, timespans: Any = None) -> tuple[Array, Any]:
        """One step of inference: x (B, I), or (B,) integers -> y (B, H) and the new state; B may be left out.

        `timespans` (B,) are the times since the step before, of cells that see them.

        Examples
        --------
        >>> import unrolled as ur
        >>> y, state = ur.GRU(4, 5).step(np.ones((3, 4)))
        >>> y.shape
        (3, 5)
        """
        self.check_step()
        x = as_numbers("x", x)
        alone = x.ndim < (1 if x.dtype.kind in "iu" else 2)
        axis = 1 if self.batch_first and not alone else 0
        spans = None if timespans is None else as_numbers("timespans", timespans)
        spans = None if spans is None else np.expand_dims(spans, min(axis, spans.ndim))  # one number is refused below
        y, new = self(np.expand_dims(x, axis), state, timespans=spans)
        return y.squeeze(axis), new

    def check_step(self) -> None:
        """Refuse a step at a time where the whole sequence is needed."""
        if self.bidirectional:
            raise UnrolledError("a bidirectional network has no step: the reverse direction needs the whole sequence")

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.cell.name!r}, input_size={self.input_size}, hidden_size={self.hidden_size}, "
            f"num_layers={self.num_layers}, {sum(p.size for p in self.params.values()):,} parameters, {self.backend})"
        )


SIGNATURE = (
    *("cell", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size"),
    *("residual", "learn_state", *DROPPING, "zoneout", "zoneout_cell", "dtype", "backend"),
)
"""Attributes in which a tape and the network that reads it must agree."""
NOBODY = Kept()
_signed, _dropping = attrgetter(*SIGNATURE), attrgetter(*DROPPING)
