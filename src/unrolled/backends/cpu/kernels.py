"""The native backend: the recurrence of `unrolled.reference.scan` as one compiled call a layer and direction.

The contract is `scan.forward`'s and `scan.backward`'s. The engine keeps hidden units in panels of one vector, the last
one padded with zeros; arrays that leave here are views without the padding, and a tape's gates are put in order when
they are first read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ...cells import CELLS, Cell
from ...checks import Array, Kept, read_only
from ...errors import Unsupported, brief
from ...reference import layers as reference
from ...reference import scan
from . import _engine, interpreter, layers, lowering, updates
from .arrays import DTYPES, bytes_of, contiguous, matrix, of_dtype, padded_width, runs, vector_width, weights
from .sampler import Sampler
from .threads import shares_units

KERNELS = frozenset(_engine.cells())
"""Cells that the engine was built with kernels for, by name."""


@dataclass(frozen=True)
class EngineTape:
    """One layer's memory of a forward pass; the same fields as `scan.Tape`, views made on demand.

    Attributes
    ----------
    live, keep : as in `scan.Tape`
    inputs : `scan.Tape`'s x, as the engine reads it
    weights : the parameters under the engine's names
    packed : (T, P, B, gates, W) the gates as the engine keeps them: P panels of W units
    padded : the arrays (N, B, Hp) that `states` and `proposed` (where `keep` is) look into
    """

    cell: Cell
    inputs: Array
    weights: dict[str, Array | None]
    live: Array | None
    keep: Any
    packed: Array
    padded: tuple[list[Array], list[Array]]
    _y: Array
    rounds: bool
    backend: ClassVar[str] = "cpu"

    @property
    def x(self) -> Array:
        """The inputs."""
        return read_only(self.inputs)

    @cached_property
    def states(self) -> Any:
        """The cell's State of (T + 1, B, H) views; entry 0 is the initial state."""
        return self._fields(self.padded[0])

    @cached_property
    def proposed(self) -> Any:
        """State of (T, B, H) views; the cell's new states before `keep`."""
        return self._fields(self.padded[1] or [f[1:] for f in self.padded[0]])

    def _fields(self, padded: list[Array]) -> Any:
        return self.cell.state(*[read_only(f[..., : self._y.shape[-1]]) for f in padded])

    @cached_property
    def gates(self) -> Any:
        """The cell's gates, each (T, B, H)."""
        steps, panels, batch, gates, width = self.packed.shape
        ordered = self.packed.transpose(3, 0, 2, 1, 4).reshape(gates, steps, batch, panels * width)
        return self.cell.gates(*map(read_only, ordered[..., : self._y.shape[-1]]))

    @property
    def y(self) -> Array:
        """Outputs (T, B, H): the hidden states, 0 where a sequence is over."""
        return read_only(self._y)

    @property
    def state(self) -> Any:
        """The final State of (B, H) arrays."""
        return type(self.states)(*(field[-1] for field in self.states))


def reason(cell: Cell, dtype: Any) -> str | None:
    """Return why the engine does not run a cell in a dtype; None if it does.

    Examples
    --------
    >>> reason(CELLS["lstm"], "float32")
    >>> reason(CELLS["lstm"], "complex128")
    'cpu runs float32 and float64, not complex128'
    """
    if np.dtype(dtype) not in DTYPES:
        return f"cpu runs float32 and float64, not {np.dtype(dtype)}"
    try:
        return None if has_kernel(cell) else lowering.refusal(cell)
    except TypeError as error:  # a cell is data; one that holds a list has no hash
        return f"the engine cannot run the cell {brief(cell.name)}: {error}"


def has_kernel(cell: Cell) -> bool:
    """Whether the engine was built with kernels for a cell; any other is interpreted.

    Examples
    --------
    >>> has_kernel(CELLS["lstm"]), has_kernel(CELLS["lstm_use_gate"])
    (True, False)
    """
    known = CELLS.get(cell.name)
    return cell.name in KERNELS and (cell is known or cell == known)  # a copy of a cell is that cell


def _pad(out: Array, field: Array, hidden: int) -> Array:
    """Copy (B, H) into (B, Hp), with zeros in the padding."""
    out[:, :hidden] = field
    if out.shape[1] > hidden:
        out[:, hidden:] = 0
    return out


def _dims(weight_ih: Array | None, steps: int, batch: int, hidden: int, *, record: bool, rounds: bool) -> list[int]:
    """Return the sizes of a call, as csrc/bind_scan.h lists them; what the cell decides, the engine knows."""
    assert weight_ih is not None
    return [steps, batch, weight_ih.shape[1], hidden, record, shares_units(batch), rounds]


def _refuse(cell: Cell, dtype: Any) -> None:
    why = reason(cell, dtype)
    if why is not None:
        raise Unsupported(f"{why}. Use backend='auto' or 'reference'.")


def forward(
    cell: Cell,
    w: scan.Params,
    x: Array,
    s: Any,
    masks: scan.ScanMasks = scan.UNMASKED,
    *,
    record: bool = True,
    rounds: bool = False,
) -> tuple[Array, Any, EngineTape | interpreter.ProgramTape | None]:
    """Run all steps, as `scan.forward`: by the cell's kernels where there are any for what is asked.

    Raises
    ------
    Unsupported
        If the engine does not run this cell or dtype.

    Examples
    --------
    >>> w = {"weight_ih": np.ones((5, 3)), "weight_hh": np.ones((5, 5))}
    >>> y, s, tape = forward(CELLS["rnn_tanh"], w, np.zeros((7, 2, 3)), CELLS["rnn_tanh"].state(np.zeros((2, 5))))
    >>> y.shape, s.h.shape
    ((7, 2, 5), (2, 5))
    """
    dtype = dtype_of(w, x, s)
    _refuse(cell, dtype)
    return run(cell, w, x, s, masks, dtype, record=record, rounds=rounds)


def dtype_of(w: scan.Params, x: Array, s: Any) -> np.dtype[Any]:
    """Return the dtype that these are computed in; integer x are indices."""
    arrays = [*w.values(), *s, *([] if x.dtype.kind in "iu" else [x])]
    first: np.dtype[Any] = arrays[0].dtype
    return first if all([a.dtype is first for a in arrays]) else np.result_type(*arrays)


def run(
    cell: Cell,
    w: scan.Params,
    x: Array,
    s: Any,
    masks: scan.ScanMasks,
    dtype: np.dtype[Any],
    *,
    record: bool,
    rounds: bool = False,
) -> tuple[Array, Any, EngineTape | interpreter.ProgramTape | None]:
    """As `forward`, of what the engine runs."""
    steps, batch = x.shape[:2]
    live, keep, drop, _ = masks
    tokens, new = x.dtype.kind in "iu", of_dtype("empty", dtype)
    if not has_kernel(cell) or "weight_hr" in w or drop is not None or any(isinstance(m, float) for m in keep or ()):
        return interpreter.forward(cell, w, x, s, masks, record=record, rounds=rounds)
    if live is not None:  # padding may hold anything, NaN too: it must not reach a product
        x = np.where(live if x.ndim == 2 else live[..., None], x, x.dtype.type(0))
    hidden = s[0].shape[-1]
    width = vector_width(dtype)
    padded = -(-hidden // width) * width
    states = [new((steps + 1 if record or n == 0 else 2, batch, padded)) for n in range(len(s))]
    for field, start in zip(states, s, strict=True):
        _pad(field[0], start, hidden)
    proposed = [new((steps, batch, padded)) for _ in s] if record and keep is not None else []
    dims = _dims(w["weight_ih"], steps, batch, hidden, record=record, rounds=rounds)
    gates = new((steps, padded // width, batch, len(cell.gate_fields) if record else 0, width))
    y = states[0][1:] if live is None else new((steps, batch, padded))
    kept = [] if keep is None else [bytes_of(m, (steps, batch, hidden)) for m in keep]
    read = weights(cell, w, dtype)
    of_dtype("forward", dtype)(
        cell.name,
        dims,
        contiguous(x.reshape(-1), np.int64) if tokens else matrix(x, dtype),
        read,
        bytes_of(live, (steps, batch)),
        kept,
        states,
        proposed,
        gates,
        None if live is None else y,
    )
    y = y[..., :hidden]
    final = type(s)(*[f[steps % len(f), :, :hidden] for f in states])  # the last slot, or the one whose turn it was
    if not record:
        return y, final, None
    return y, final, EngineTape(cell, x, Kept(read), live, keep, gates, (states, proposed), y, rounds)


def backward(
    tape: EngineTape | interpreter.ProgramTape, dy: Array, ds: Any
) -> tuple[Array | None, Any, dict[str, Array]]:
    """Carry gradients back through all steps, as `scan.backward`.

    Examples
    --------
    >>> w = {"weight_ih": np.ones((5, 3)), "weight_hh": np.ones((5, 5))}
    >>> zero = CELLS["rnn_tanh"].state(np.zeros((2, 5)))
    >>> y, s, tape = forward(CELLS["rnn_tanh"], w, np.zeros((7, 2, 3)), zero)
    >>> dx, ds, grads = backward(tape, np.ones_like(y), zero)
    >>> dx.shape, sorted(grads)
    ((7, 2, 3), ['weight_hh', 'weight_ih'])
    """
    if isinstance(tape, interpreter.ProgramTape):
        return interpreter.backward(tape, dy, ds)
    cell, x, packed, dtype = tape.cell, tape.inputs, tape.weights, tape.packed.dtype
    steps, batch, hidden = dy.shape
    tokens, new = x.dtype.kind in "iu", of_dtype("empty", dtype)
    dims = _dims(packed["weight_ih"], steps, batch, hidden, record=True, rounds=tape.rounds)
    inputs = dims[2]
    dx = None if tokens else new((steps, batch, padded_width(inputs, dtype)))
    dstate = [_pad(new((batch, padded_width(hidden, dtype))), f, hidden) for f in ds]
    # The engine writes every gradient, but for the columns beyond a narrow stage's operand, and where no steps are.
    written = steps * batch > 0 and len({len(stage.operand or ()) for stage in cell.stages}) == 1
    grads = {name: None if a is None else new(a.shape) for name, a in packed.items()}
    for g in () if written else grads.values():
        if g is not None:
            g.fill(0)
    masks = [] if tape.keep is None else [bytes_of(m, (steps, batch, hidden)) for m in tape.keep]
    of_dtype("backward", dtype)(
        cell.name,
        dims,
        contiguous(x.reshape(-1), np.int64) if tokens else matrix(x, dtype),
        packed,
        bytes_of(tape.live, (steps, batch)),
        masks,
        tape.padded[0],
        tape.padded[1],
        tape.packed,
        matrix(dy, dtype),
        dstate,
        dx,
        grads,
    )
    named = {cell.params_name if name == "params" else name: g for name, g in grads.items() if g is not None}
    initial = type(ds)(*[f[:, :hidden] for f in dstate])
    return None if dx is None else dx[..., :inputs], initial, named


class Cpu:
    """The native engine; the contracts are in `unrolled.reference.scan`, `layers`, `losses` and `updates`."""

    name = "cpu"
    forward = staticmethod(forward)
    backward = staticmethod(backward)
    linear = staticmethod(layers.linear)
    linear_backward = staticmethod(layers.linear_backward)
    dropout = staticmethod(reference.dropout)
    embed = staticmethod(reference.embed)
    embed_backward = staticmethod(layers.embed_backward)
    cross_entropy = staticmethod(layers.cross_entropy)
    update = staticmethod(updates.update)
    norm = staticmethod(updates.norm)
    scale = staticmethod(updates.scale)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a name: where there is no engine, that is said."""
        from .. import choose

        return choose, ("cpu",)

    @staticmethod
    def sampler(
        cell: Cell,
        layers: Sequence[scan.Params],
        embedding: Array | None,
        weight: Array,
        bias: Array,
        state: Any,
        length: int,
        weights: str = "float32",
        rows: int = 1,
    ) -> Sampler | None:
        """Return what samples many tokens a call; None where the engine does not run the cell or these arrays."""
        if not runs(weight, bias, embedding, *(p for layer in layers for p in layer.values())) or reason(
            cell, weight.dtype
        ):
            return None
        return Sampler(cell, has_kernel(cell), layers, embedding, weight, bias, state, length, weights, rows)
