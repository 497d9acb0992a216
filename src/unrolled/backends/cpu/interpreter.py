"""The recurrence of any cell on the native engine, by its interpreter: one call a layer and direction.

The contract is `scan.forward`'s and `scan.backward`'s. `lowering` writes a cell's programs; here they get their memory.
Every field is padded to whole vectors; arrays that leave are views without the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from ...cells import Cell
from ...cells.cell import WEIGHT_X
from ...checks import Array, Kept, read_only
from ...codegen.derive import complete, prepared, prepared_backward
from ...reference import scan
from .arrays import bytes_of, contiguous, empty, matrix, of_dtype, padded_width, zeros
from .bytecode import Field, Plan
from .layout import Options
from .lowering import plans
from .memory import Memory, Ring, Rings, units_of, view
from .threads import shares_units
from .weights import Table, Weight, gather, gradients, input_weight, projection, recurrent, stages_of


@dataclass(frozen=True)
class ProgramTape:
    """The tape of one layer's forward pass; the same fields as `scan.Tape`.

    Attributes
    ----------
    options : what the programs were written for
    rings : where the fields lie that the way back reads
    inverses : 1 / deviation of normalized products, (T B, groups): of the inputs', and of each stage's
    kept, dt : as in `scan.Tape`
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
    kept: tuple[Any, ...]
    dt: Array | None
    _y: Array
    rounds: bool
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
                fields = (plan.fields[n - len(plan.rows)] for n in stage.block[: sum(stage.group)])
                blocks = [view(self.rings[f], steps, batch, hidden) for f in fields]
                spread = np.repeat(inverse.reshape(steps, batch, len(stage.group)), stage.group * hidden, axis=-1)
                found[name] = read_only(np.concatenate(blocks, axis=-1)), read_only(spread)
        return Kept(found)


def _inputs(x: Array, dtype: Any) -> Array:
    """Return x as the engine takes it: rows (T B, I), or (T B,) integers."""
    return contiguous(x.reshape(-1), np.int64) if x.dtype.kind in "iu" else matrix(x, dtype)


def _times(dt: Array | None) -> Array | None:
    """Return times as one number a row, (T B, 1)."""
    return None if dt is None else dt.reshape(-1, 1)


@lru_cache(maxsize=256)
def _biases(cell: Cell) -> frozenset[str]:
    """Return the parameters that a layer has only with biases."""
    return frozenset(cell.shapes(1, 1)) - frozenset(cell.shapes(1, 1, bias=False))


def _options(cell: Cell, w: scan.Params, masks: scan.ScanMasks, *, record: bool) -> Options:
    keep = () if masks.keep is None else tuple("mask" if isinstance(m, np.ndarray) else m for m in masks.keep)
    bias, live, drop = not _biases(cell).isdisjoint(w), masks.live is not None, masks.drop is not None
    timed = masks.dt is not None and cell.sees_time
    return Options(bias, live, keep, drop, record, "weight_hr" in w, WEIGHT_X in w, timed)


def _seen(cell: Cell, w: scan.Params, x: Array, hidden: int, dtype: Any) -> Array | None:
    """Return x where functions see it itself, (T B, H); None where they see a product, or nothing."""
    if not cell.sees_x or WEIGHT_X in w:
        return None
    return np.eye(hidden, dtype=dtype)[x.reshape(-1)] if x.dtype.kind in "iu" else matrix(x, dtype)


def _given(plan: Plan, now: dict[str, Any], keep: Any, dtype: Any, rows: int) -> list[Any]:
    """Return what is handed in at every step, each (number of its field, array)."""
    found: list[Any] = []
    for n, (kind, number, _) in plan.given:
        if kind in ("live", "live_of_h"):
            found.append((n, bytes_of(now["live"].reshape(-1, 1), (rows, 1))))
        elif kind == "keep":
            mask = keep[number]
            found.append((n, bytes_of(mask.reshape(rows, mask.shape[-1]), (rows, mask.shape[-1]))))
        elif now[kind] is not None:
            found.append((n, matrix(now[kind], dtype)))
    return found


SPAN_BYTES, SPAN_ROWS = 256 * 1024, 48
"""Between its product and its programs a span keeps about so much, which stays in the second-level cache, and no fewer
rows."""


def _span(memory: Memory, steps: int, kinds: Sequence[str]) -> int:
    """Return how many steps are taken at a time where none waits for another's product; 0 where one does.

    All spans are of about the same length.
    """
    if not memory.plan.streams:
        return 0
    numbers = sum(padded_width(memory.units(f), memory.dtype) for f in memory.plan.fields if f.kind in kinds)
    rows = max(SPAN_ROWS, SPAN_BYTES // (numbers * int(np.dtype(memory.dtype).itemsize)))
    wanted = max(1, rows // max(1, memory.batch))
    spans = max(1, (steps + wanted // 2) // wanted)
    return -(-steps // spans)


def through(cell: Cell, w: scan.Params, hidden: int, dtype: Any) -> scan.Params:
    """Return parameters by which x, where functions see it, is a product always: of an identity if it is x itself."""
    return w if not cell.sees_x or WEIGHT_X in w else {**w, WEIGHT_X: np.eye(hidden, dtype=dtype)}


def _arguments(
    memory: Memory,
    cell: Cell,
    w: scan.Params,
    x: Array,
    hidden: int,
    given: list[Any],
    inverses: tuple[Array, ...],
    span: int = 0,
    rounds: bool = False,
) -> tuple[Any, ...]:
    """Return what the engine takes for all steps of x, forward."""
    plan, dtype = memory.plan, memory.dtype
    steps, batch = x.shape[:2]
    weight = input_weight(w, dtype)
    weights = [Weight(weight, None), *recurrent(cell, w, hidden, dtype, None), *projection(w, None, dtype)]
    inputs, *stages = stages_of(plan, weights, inverses)
    return (
        [steps, batch, weight.shape[1], len(plan.rows), 0, 0, shares_units(batch), span, rounds],
        _inputs(x, dtype),
        Table(memory, weight.shape[1]).fill(weight) if x.dtype.kind in "iu" else None,
        memory.numbers(w),
        *memory.layout(),
        given,
        inputs,
        stages,
    )


def step(cell: Cell, w: scan.Params, hidden: int, dtype: Any, tokens: bool, rows: int) -> tuple[Any, ...]:
    """Return one step of some rows, of a token each or of numbers, as csrc/bind_sampler.h takes it."""
    plan = plans(cell, _options(cell, w, scan.UNMASKED, record=False))[0]
    cell, w, numbers = complete(cell), prepared(cell, w), range(len(cell.state_fields))
    memory = Memory(plan, rows, units_of(cell, hidden, hidden), dtype)
    for n in numbers:
        memory.hold(n, zeros((rows, hidden), dtype), 2)
    memory.allot({f: 1 for f in plan.fields if f not in memory.rings})
    inverses = tuple(empty((rows, len(p.group)), dtype) for p in (plan.inputs, *plan.stages))
    x = np.zeros((1, rows), np.int64) if tokens else zeros((1, rows, w["weight_ih"].shape[1]), dtype)
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
    rounds: bool = False,
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
    live, keep, drop, dt = masks
    options, theirs, own = _options(cell, w, masks, record=record), cell, w
    cell, w = complete(cell), prepared(cell, w)
    dtype = np.result_type(*w.values(), *s, *([] if x.dtype.kind in "iu" else [x]))
    if live is not None:  # padding may hold anything, NaN too: it must not reach a product
        x = np.where(live if x.ndim == 2 else live[..., None], x, x.dtype.type(0))
    hidden = w["weight_hr"].shape[1] if "weight_hr" in w else s[0].shape[-1]
    plan = plans(theirs, options)[0]
    memory = Memory(plan, batch, units_of(cell, hidden, s[0].shape[-1]), dtype)
    states = [memory.hold(n, start, steps + 1 if record or n == 0 else 2) for n, start in enumerate(s)]
    whole = ("ax", "x") if options.weight_x else ("ax",)
    if record:
        taped = ("gates", "proposed", "kept", *whole[1:])
        memory.allot({f: steps for f in plan.fields if f.kind in taped or f in plan.normalized})
    rings = dict(memory.rings)
    span = _span(memory, steps, whole)
    memory.allot({f: (span or steps) if f.kind in whole else 1 for f in plan.fields if f not in memory.rings})
    inverses = tuple(empty((steps * batch, len(p.group)), dtype) for p in (plan.inputs, *plan.stages))
    if steps * batch:
        now = {"live": live, "drop": drop, "x": _seen(cell, w, x, hidden, dtype), "dt": _times(dt)}
        given = _given(plan, now, keep, dtype, steps * batch)
        arguments = _arguments(memory, cell, w, x, hidden, given, inverses, span, rounds)
        of_dtype("interpreter_forward", dtype)(*arguments)
    y = states[0][1:, :, : s[0].shape[-1]]
    y = y if live is None else np.where(live[..., None], y, dtype.type(0))
    known = type(s)(*(f[..., : start.shape[-1]] for f, start in zip(states, s, strict=True)))
    final = type(s)(*(f[steps % len(f)] for f in known))
    if not record:
        return y, final, None

    def shown(name: Field) -> Array:
        return read_only(view(memory.rings[name], steps, batch, memory.units(name)))

    gates = cell.gates(*(shown(Field("gates", n)) for n in range(len(cell.gate_fields))))
    known = type(s)(*map(read_only, known))
    proposed = type(s)(*(shown(Field("proposed", n)) if options.apart else f[1:] for n, f in enumerate(known)))
    kept = tuple(
        stage.keeps and stage.keeps(*(shown(Field("kept", i, n)) for i in range(len(stage.keeps._fields))))
        for n, stage in enumerate(cell.stages)
    )
    seen = (live, keep, proposed, drop)
    tape = ProgramTape(theirs, own, read_only(x), known, gates, *seen, options, rings, inverses, kept, dt, y, rounds)
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
    cell, w, x = complete(tape.cell), prepared(tape.cell, tape.w), tape.x
    steps, batch, hidden = tape.proposed.h.shape
    dtype = tape.states.h.dtype
    plan = plans(tape.cell, tape.options)[1]
    memory = Memory(plan, batch, units_of(cell, hidden, dy.shape[-1]), dtype, dict(tape.rings))
    numbers = range(len(tape.states))
    memory.allot({Field("d_new", n): 2 for n in numbers})
    for n, d in zip(numbers, ds, strict=True):  # the gradients of the new and of the old state, by turns
        memory.rings[Field("d_s", n)] = memory.rings[Field("d_new", n)]._replace(phase=1)
        memory.slot(Field("d_new", n), (steps - 1) % 2)[...] = d
    grads, joint = gradients(w, dtype)
    size = joint.shape[1]
    table = Table(memory, size) if x.dtype.kind in "iu" else None
    dx = None if table else empty((steps, batch, padded_width(size, dtype)), dtype)
    inputs_of = ("d_ax", "d_x") if tape.options.weight_x else ("d_ax",)
    if cell.sees_x and dx is not None and not tape.options.weight_x:  # there before the weights add theirs
        memory.rings[Field("d_x")] = Ring(dx.reshape(-1), 0, 0, steps)
    span = 0 if table else _span(memory, steps, inputs_of)
    whole = dict.fromkeys(inputs_of, span or steps) | {"d_ah": steps, "d_projected": steps}
    scratch = {f: whole.get(f.kind, 1) for f in plan.fields if f not in memory.rings}
    memory.allot({**scratch, **dict.fromkeys(plan.accumulators, 1)})
    accumulated = empty((sum(memory.units(name) for name in plan.accumulators),), dtype)
    if steps * batch:
        first = len(plan.rows) + len(plan.fields)
        own = recurrent(cell, w, hidden, dtype, grads)
        weights = [Weight(input_weight(w, dtype), joint), *own, *projection(w, grads, dtype)]
        inputs, *stages = stages_of(plan, weights, tape.inverses)
        now = {"live": tape.live, "drop": tape.drop, "dy": dy}
        now |= {"x": _seen(cell, w, x, hidden, dtype), "dt": _times(tape.dt)}
        of_dtype("interpreter_backward", dtype)(
            [steps, batch, size, len(plan.rows), first, len(plan.accumulators), shares_units(batch), span, tape.rounds],
            _inputs(x, dtype),
            table and table.numbers,
            memory.numbers(w),
            *memory.layout(),
            _given(plan, now, tape.keep, dtype, steps * batch),
            inputs,
            stages,
            dx,
            accumulated,
        )
        _sum_up(plan, memory, grads, accumulated)
        gather(cell, grads, own, hidden)
        if table:
            table.give(joint)
    before = type(ds)(*(memory.slot(Field("d_new", n), 1) for n in numbers))
    return None if dx is None else dx[..., :size], before, prepared_backward(tape.cell, tape.w, grads)


def _sum_up(plan: Plan, memory: Memory, grads: dict[str, Array], sums: Array) -> None:
    """Put the sums over time, and those that are shared, where they belong."""
    start = 0
    for parameter, row in ((a.row.parameter, a.row) for a in plan.accumulators):
        span = memory.spans[row]
        grads[parameter].reshape(-1)[span] = sums[start : start + span.stop - span.start]
        start += span.stop - span.start
    for row, owner in plan.shared:
        grads[row.parameter].reshape(-1)[memory.spans[row]] = grads[owner.parameter].reshape(-1)[memory.spans[owner]]
