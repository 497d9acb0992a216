"""The recurrence of any cell on the native engine, by its interpreter: one call a layer and direction.

The contract is `scan.forward`'s and `scan.backward`'s. `lowering` writes a cell's programs; here they get their memory.
Every field is padded to whole vectors; arrays that leave are views without the padding.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...cells import Cell
from ...checks import Array, Kept, read_only
from ...errors import UnrolledError
from ...reference import scan
from .arrays import bytes_of, contiguous, empty, matrix, of_dtype, padded_width, vector_width, zeros
from .bytecode import PROJECTED, Accumulator, Field, Plan, Row, StagePlan
from .lowering import Options, plans
from .threads import shares_units


class Ring(NamedTuple):
    """Where a field's slots lie: from number `start` of an array on; step t has the slot (t + phase) % period."""

    array: Array
    start: int
    phase: int
    period: int


Rings = dict[Field | Accumulator, Ring]


@dataclass(frozen=True)
class ProgramTape:
    """The tape of one layer's forward pass; the same fields as `scan.Tape`.

    Attributes
    ----------
    options : what the programs were written for
    rings : where the fields lie that the way back reads
    inverses : 1 / deviation of normalized products, (T B, groups): of the inputs', and of each stage's
    """

    cell: Cell
    w: scan.Params
    x: Array
    states: Any
    gates: Any
    live: Array | None
    keep: Any
    proposed: Any
    drop: Array | None
    options: Options
    rings: Rings
    inverses: tuple[Array, ...]
    _y: Array
    backend: ClassVar[str] = "cpu"

    @property
    def y(self) -> Array:
        """Outputs (T, B, H): the hidden states, 0 where a sequence is over."""
        return read_only(self._y)

    @property
    def state(self) -> Any:
        """The final State of (B, H) arrays."""
        return type(self.states)(*(f[-1] for f in self.states))

    @cached_property
    def norms(self) -> dict[str, tuple[Array, Array]]:
        """Normalized products, as in `scan.Tape`."""
        steps, batch, hidden = self.proposed.h.shape
        plan = plans(self.cell, self.options)[0]
        names = ("ih", *(f"{n}" for n in range(len(plan.stages))))
        found = {}
        for name, stage, inverse in zip(names, (plan.inputs, *plan.stages), self.inverses, strict=True):
            if len(stage.group):
                fields = (plan.fields[n - len(plan.rows)] for n in stage.block)
                blocks = [_view(self.rings[f], steps, batch, hidden) for f in fields]
                spread = np.repeat(inverse.reshape(steps, batch, len(stage.group)), stage.group * hidden, axis=-1)
                found[name] = read_only(np.concatenate(blocks, axis=-1)), read_only(spread)
        return Kept(found)


def _view(ring: Ring, steps: int, batch: int, hidden: int) -> Array:
    """Return (T, B, H) of a field."""
    padded = padded_width(hidden, ring.array.dtype)
    numbers = ring.array.reshape(-1)[ring.start : ring.start + steps * batch * padded]
    view: Array = numbers.reshape(steps, batch, padded)
    return view[..., :hidden]


@dataclass
class _Memory:
    """Gives fields their memory."""

    plan: Plan
    batch: int
    units_of: dict[float, int]
    """Units by width: H, P where h is projected, those of stages of other widths."""
    dtype: Any
    rings: Rings = field(default_factory=dict)

    def units(self, name: Any) -> int:
        """Return the units of a field."""
        return self.units_of[self.plan.widths.get(name, 1)]

    def size(self, name: Any) -> int:
        """Return how many numbers a slot of a field has."""
        return self.batch * padded_width(self.units(name), self.dtype)

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
        rows = [(0, 0, 0, 1, self.units(row)) for row in self.plan.rows]
        names: tuple[Field | Accumulator, ...] = (*self.plan.fields, *self.plan.accumulators)
        for name in names:
            array, start, phase, period = self.rings[name]
            if id(array) not in known:
                known[id(array)] = len(arrays)
                arrays.append(array)
            rows.append((known[id(array)], start, phase, period, self.units(name)))
        return arrays, np.array(rows, np.int64).reshape(-1, 5)


def _spans(memory: _Memory) -> dict[Row, slice]:
    """Return where each row's numbers stand in its parameter."""
    ends: Counter[str] = Counter()
    spans = {}
    for row in memory.plan.rows:
        start = ends[row.parameter]
        ends[row.parameter] += memory.units(row)
        spans[row] = slice(start, ends[row.parameter])
    return spans


def _units(memory: _Memory, w: scan.Params) -> Array:
    """Return the numbers a unit, those of one row after another."""
    spans = _spans(memory)
    for name, size in {row.parameter: span.stop for row, span in spans.items()}.items():
        if w[name].size != size:  # one row more or less would give every row behind it to another unit's place
            raise UnrolledError(f"{name} has {w[name].size} numbers; expected {size}")
    return np.concatenate(
        [np.empty(0), *(w[row.parameter].reshape(-1)[span] for row, span in spans.items())], dtype=memory.dtype
    )


def _units_of(cell: Cell, hidden: int, narrow: int) -> dict[float, int]:
    """Return the units of fields by their width."""
    return {PROJECTED: narrow, 1: hidden}


def _table(cell: Cell, weight_ih: Array, hidden: int, dtype: Any) -> Array:
    """Return a row of pre-activations for every one-hot input: the columns of `weight_ih`, (V, R, Hp)."""
    table = empty((weight_ih.shape[1], len(cell.input_rows), padded_width(hidden, dtype)), dtype)
    table[..., :hidden] = weight_ih.reshape(-1, hidden, len(table)).transpose(2, 0, 1)
    return table


def _inputs(x: Array, dtype: Any) -> Array:
    """Return x as the engine takes it: rows (T B, I), or (T B,) integers."""
    return contiguous(x.reshape(-1), np.int64) if x.dtype.kind in "iu" else matrix(x, dtype)


def _stages(plan: Plan, cell: Cell, w: scan.Params, grads: Any, inverses: tuple[Array, ...], dtype: Any) -> list[Any]:
    """Return the product of the inputs and the stages, as csrc/bind_interpreter.h takes them."""
    hh = contiguous(w["weight_hh"], dtype) if "weight_hh" in w else None
    pairs: list[tuple[Array | None, Array | None]] = [(contiguous(w["weight_ih"], dtype), grads.get("weight_ih"))]
    row = 0
    for stage in cell.stages:
        rows = slice(row, row + len(stage.rows) * (len(w["weight_ih"]) // len(cell.input_rows)))
        row = rows.stop
        product = stage.product and stage.operand is not None
        weight, d = (m[rows] if product and m is not None else None for m in (hh, grads.get("weight_hh")))
        pairs.append((weight, d))
    if "weight_hr" in w:
        pairs.append((contiguous(w["weight_hr"], dtype), grads.get("weight_hr")))
    plans_of = (plan.inputs, *plan.stages)
    return [_stage(one, *pair, inverse) for one, pair, inverse in zip(plans_of, pairs, inverses, strict=True)]


def _stage(plan: StagePlan, weight: Array | None, d_weight: Array | None, inverse: Array) -> tuple[Any, ...]:
    p = plan.program
    program = (p.code, p.fields, p.constants, p.registers)
    fields = (plan.operand, plan.d_operand, plan.block, plan.normalized)
    return (program, *fields, weight, d_weight, plan.group, inverse, plan.overwrite)


def _given(plan: Plan, now: dict[str, Any], keep: Any, dtype: Any, rows: int) -> list[Any]:
    """Return what is handed in at every step, each (number of its field, array)."""
    found: list[Any] = []
    for n, (kind, number, _) in plan.given:
        if kind in ("live", "live_of_h"):
            found.append((n, bytes_of(now["live"].reshape(-1, 1), (rows, 1))))
        elif kind == "keep":
            mask = keep[number]
            found.append((n, bytes_of(mask.reshape(rows, mask.shape[-1]), (rows, mask.shape[-1]))))
        else:
            found.append((n, matrix(now[kind], dtype)))
    return found


def _arguments(
    memory: _Memory, cell: Cell, w: scan.Params, x: Array, hidden: int, given: list[Any], inverses: tuple[Array, ...]
) -> tuple[Any, ...]:
    """Return what the engine takes for all steps of x, forward."""
    plan, dtype = memory.plan, memory.dtype
    steps, batch = x.shape[:2]
    inputs, *stages = _stages(plan, cell, w, {}, inverses, dtype)
    return (
        [steps, batch, w["weight_ih"].shape[1], len(plan.rows), 0, 0, shares_units(batch)],
        _inputs(x, dtype),
        _table(cell, w["weight_ih"], hidden, dtype) if x.dtype.kind in "iu" else None,
        _units(memory, w),
        *memory.layout(),
        given,
        inputs,
        stages,
    )


def step(cell: Cell, w: scan.Params, dtype: Any, tokens: bool) -> tuple[Any, ...]:
    """Return one step of one row, of a token or of numbers, as csrc/bind_sampler.h takes it."""
    plan = plans(cell, Options("bias_ih" in w, record=False))[0]
    size, numbers = w["weight_ih"].shape[1], range(len(cell.state_fields))
    hidden = len(w["weight_ih"]) // len(cell.input_rows)
    memory = _Memory(plan, 1, _units_of(cell, hidden, hidden), dtype)
    for n in numbers:
        memory.hold(n, zeros((1, hidden), dtype), 2)
    memory.allot({f: 1 for f in plan.fields if f not in memory.rings})
    inverses = tuple(empty((1, len(p.group)), dtype) for p in (plan.inputs, *plan.stages))
    x = np.zeros((1, 1), np.int64) if tokens else zeros((1, 1, size), dtype)
    states = (np.array([plan.number(Field(kind, n)) for n in numbers], np.int32) for kind in ("s", "new"))
    return (*_arguments(memory, cell, w, x, hidden, [], inverses), *states)


def forward(
    cell: Cell,
    w: scan.Params,
    x: Array,
    s: Any,
    masks: scan.ScanMasks = scan.UNMASKED,
    *,
    record: bool = True,
) -> tuple[Array, Any, ProgramTape | None]:
    """Run all steps, as `scan.forward`.

    Raises
    ------
    Unsupported
        If a function of the cell uses something that the engine lacks.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> cell = CELLS["lstm_use_gate"]
    >>> w = {name: np.ones(shape) for name, shape in cell.shapes(3, 5).items()}
    >>> y, s, tape = forward(cell, w, np.zeros((7, 2, 3)), cell.state(np.zeros((2, 5)), np.zeros((2, 5))))
    >>> y.shape, tape.gates.u.shape
    ((7, 2, 5), (7, 2, 5))
    """
    steps, batch = x.shape[:2]
    live, keep, drop, _ = masks
    dtype = np.result_type(*w.values(), *s, *([] if x.dtype.kind in "iu" else [x]))
    if live is not None:  # padding may hold anything, NaN too: it must not reach a product
        x = np.where(live if x.ndim == 2 else live[..., None], x, x.dtype.type(0))
    hidden = w["weight_hr"].shape[1] if "weight_hr" in w else s[0].shape[-1]
    kinds = () if keep is None else tuple("mask" if isinstance(m, np.ndarray) else m for m in keep)
    options = Options("bias_ih" in w, live is not None, kinds, drop is not None, record, "weight_hr" in w)
    plan = plans(cell, options)[0]
    units_of = _units_of(cell, hidden, s[0].shape[-1])
    memory = _Memory(plan, batch, units_of, dtype)
    states = [memory.hold(n, start, steps + 1 if record or n == 0 else 2) for n, start in enumerate(s)]
    if record:
        kept = [f for f in plan.fields if f.kind in ("gates", "proposed") or f in plan.normalized]
        memory.allot(dict.fromkeys(kept, steps))
    rings = dict(memory.rings)
    memory.allot({f: steps if f.kind == "ax" else 1 for f in plan.fields if f not in memory.rings})
    inverses = tuple(empty((steps * batch, len(p.group)), dtype) for p in (plan.inputs, *plan.stages))
    if steps * batch:
        given = _given(plan, {"live": live, "drop": drop}, keep, dtype, steps * batch)
        of_dtype("interpreter_forward", dtype)(*_arguments(memory, cell, w, x, hidden, given, inverses))
    y = states[0][1:, :, : s[0].shape[-1]]
    y = y if live is None else np.where(live[..., None], y, dtype.type(0))
    known = type(s)(*(f[..., : start.shape[-1]] for f, start in zip(states, s, strict=True)))
    final = type(s)(*(f[steps % len(f)] for f in known))
    if not record:
        return y, final, None

    def view(name: Field) -> Array:
        return read_only(_view(memory.rings[name], steps, batch, hidden))

    gates = cell.gates(*(view(Field("gates", n)) for n in range(len(cell.gate_fields))))
    known = type(s)(*map(read_only, known))
    proposed = type(s)(*(view(Field("proposed", n)) if options.apart else f[1:] for n, f in enumerate(known)))
    shown = (live, keep, proposed, drop)
    tape = ProgramTape(cell, w, read_only(x), known, gates, *shown, options, rings, inverses, y)
    return y, final, tape


def backward(tape: ProgramTape, dy: Array, ds: Any) -> tuple[Array | None, Any, dict[str, Array]]:
    """Carry gradients back through all steps, as `scan.backward`.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> cell = CELLS["lstm_use_gate"]
    >>> w = {name: np.ones(shape) for name, shape in cell.shapes(3, 5).items()}
    >>> zero = cell.state(np.zeros((2, 5)), np.zeros((2, 5)))
    >>> y, s, tape = forward(cell, w, np.zeros((7, 2, 3)), zero)
    >>> dx, ds, grads = backward(tape, np.ones_like(y), zero)
    >>> dx.shape, sorted(grads)
    ((7, 2, 3), ['bias_hh', 'bias_ih', 'weight_hh', 'weight_ih'])
    """
    cell, w, x = tape.cell, tape.w, tape.x
    steps, batch, hidden = tape.proposed.h.shape
    dtype = tape.states.h.dtype
    plan = plans(cell, tape.options)[1]
    memory = _Memory(plan, batch, _units_of(cell, hidden, dy.shape[-1]), dtype, dict(tape.rings))
    numbers = range(len(tape.states))
    memory.allot({Field("d_new", n): 2 for n in numbers})
    for n, d in zip(numbers, ds, strict=True):  # the gradients of the new and of the old state, by turns
        memory.rings[Field("d_s", n)] = memory.rings[Field("d_new", n)]._replace(phase=1)
        memory.slot(Field("d_new", n), (steps - 1) % 2)[...] = d
    whole = ("d_ax", "d_ah", "d_projected")
    scratch = {f: steps if f.kind in whole else 1 for f in plan.fields if f not in memory.rings}
    memory.allot({**scratch, **dict.fromkeys(plan.accumulators, 1)})
    tokens = x.dtype.kind in "iu"
    size = w["weight_ih"].shape[1]
    dx = None if tokens else empty((steps, batch, padded_width(size, dtype)), dtype)
    accumulated = empty((sum(memory.units(name) for name in plan.accumulators),), dtype)
    grads = {name: zeros(p.shape, dtype) for name, p in w.items()}
    table = empty((size, len(cell.input_rows), padded_width(hidden, dtype)), dtype) if tokens else None
    if steps * batch:
        first = len(plan.rows) + len(plan.fields)
        inputs, *stages = _stages(plan, cell, w, grads, tape.inverses, dtype)
        of_dtype("interpreter_backward", dtype)(
            [steps, batch, size, len(plan.rows), first, len(plan.accumulators), shares_units(batch)],
            _inputs(x, dtype),
            table,
            _units(memory, w),
            *memory.layout(),
            _given(plan, {"live": tape.live, "drop": tape.drop, "dy": dy}, tape.keep, dtype, steps * batch),
            inputs,
            stages,
            dx,
            accumulated,
        )
        spans, start = _spans(memory), 0
        for accumulator in plan.accumulators:
            start += (size_of := memory.units(accumulator.row))
            grads[accumulator.row.parameter].reshape(-1)[spans[accumulator.row]] = accumulated[start - size_of : start]
        for row, owner in plan.shared:
            grads[row.parameter].reshape(-1)[spans[row]] = grads[owner.parameter].reshape(-1)[spans[owner]]
        if table is not None:
            grads["weight_ih"][...] = table[..., :hidden].transpose(1, 2, 0).reshape(grads["weight_ih"].shape)
    before = type(ds)(*(memory.slot(Field("d_new", n), 1) for n in numbers))
    return None if dx is None else dx[..., :size], before, grads
