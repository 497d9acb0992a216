"""The recurrence of any cell on the native engine, by the block evaluator: one call a layer and direction.

The contract is `scan.forward`'s and `scan.backward`'s. `program` writes a cell's programs; here they get their memory.
Every field is padded to whole vectors; arrays that leave are views without the padding.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ...cells import Cell
from ...checks import Array, Kept, read_only
from ...errors import UnrolledError
from ...reference import scan
from .arrays import bytes_of, contiguous, empty, matrix, of_dtype, padded_width, vector_width, zeros
from .lowering import NARROW, Options, Plan, StagePlan, plans

Place = tuple[Array, int, int, int]
"""Where a field stands: an array, its first number in it, phase, period; step t has the slot (t + phase) % period."""


@dataclass(frozen=True)
class ProgramTape:
    """What one layer remembers of a forward pass; the same fields as `scan.Tape`.

    Attributes
    ----------
    options : what the programs were written for
    places : fields that the way back reads, by name
    inverses : 1 / deviation of normalised products, (T B, groups): of the inputs', and of each stage's
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
    places: dict[str, Place]
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
        """Normalised products, as in `scan.Tape`."""
        steps, batch, hidden = self.proposed.h.shape
        plan = plans(self.cell, self.options)[0]
        names = ("ih", *(f"{n}" for n in range(len(plan.stages))))
        found = {}
        for name, stage, inverse in zip(names, (plan.inputs, *plan.stages), self.inverses, strict=True):
            if len(stage.group):
                blocks = [_view(self.places[plan.fields[n]], steps, batch, hidden) for n in stage.block]
                spread = np.repeat(inverse.reshape(steps, batch, len(stage.group)), stage.group * hidden, axis=-1)
                found[name] = read_only(np.concatenate(blocks, axis=-1)), read_only(spread)
        return Kept(found)


def _view(place: Place, steps: int, batch: int, hidden: int) -> Array:
    """Return (T, B, H) of a field."""
    array, start, _, _ = place
    padded = padded_width(hidden, array.dtype)
    view: Array = array.reshape(-1)[start : start + steps * batch * padded].reshape(steps, batch, padded)
    return view[..., :hidden]


@dataclass
class _Memory:
    """Gives fields their places."""

    batch: int
    hidden: int
    narrow: int
    """P where h is projected, else H."""
    dtype: Any
    places: dict[str, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wide, narrow = (self.batch * padded_width(n, self.dtype) for n in (self.hidden, self.narrow))
        self.planes = {True: narrow, False: wide}
        """Numbers of a slot, by whether its field is narrow."""

    def allot(self, sizes: dict[str, int]) -> None:
        """Give each field (a name and its number of slots) a place in one new array."""
        apart = 17 * vector_width(self.dtype)  # a power of two apart, they would share few places of the cache
        starts = [0]
        for name, slots in sizes.items():
            starts.append(starts[-1] + slots * self.planes[name in NARROW] + apart)
        array = empty((starts[-1],), self.dtype)
        for (name, slots), start in zip(sizes.items(), starts, strict=False):
            self.places[name] = (array, start, 0, slots)

    def slot(self, name: str, n: int) -> Array:
        """Return one slot of a field, (B, units)."""
        array, start, _, _ = self.places[name]
        plane, units = self.planes[name in NARROW], self.narrow if name in NARROW else self.hidden
        return array[start + n * plane : start + (n + 1) * plane].reshape(self.batch, padded_width(units, self.dtype))[
            :, :units
        ]

    def layout(self, plan: Plan) -> tuple[list[Array], Array]:
        """Return the arrays, and each field's (array, start, phase, period, whether narrow) in the plan's order."""
        known: dict[int, int] = {}
        arrays: list[Array] = []
        rows: list[tuple[int, ...]] = [(0, 0, 0, 1, False)] * len(plan.units)
        for name in plan.fields[len(plan.units) :]:
            array, *rest = self.places[name]
            if id(array) not in known:
                known[id(array)] = len(arrays)
                arrays.append(array)
            rows.append((known[id(array)], *rest, name in NARROW))
        return arrays, np.array(rows, np.int64)


def _units(plan: Plan, w: scan.Params, hidden: int, dtype: Any) -> Array:
    """Return the numbers a unit, (units, H)."""
    counts = Counter(name.partition("[")[0] for name in plan.units)
    for name, n in counts.items():  # one row more or less would give every row behind it to another unit's place
        if w[name].size != n * hidden:
            raise UnrolledError(f"{name} has {w[name].size} numbers; expected {n} for each of {hidden} units")
    rows = [w[name].reshape(-1, hidden) for name in counts]
    return np.concatenate([np.empty((0, hidden), dtype), *rows], dtype=dtype)


def _row(arrays: Any, name: str, hidden: int) -> Array:
    """Return a row of H numbers of a parameter, by a name as `bias_ih[2]`."""
    parameter, _, number = name[:-1].partition("[")
    row: Array = arrays[parameter].reshape(-1, hidden)[int(number)]
    return row


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
    pairs = [(contiguous(w["weight_ih"], dtype), grads.get("weight_ih"))]
    row = 0
    for stage in cell.stages:
        rows = slice(row, row + len(stage.rows) * (len(w["weight_ih"]) // len(cell.input_rows)))
        row = rows.stop
        product = hh is not None and stage.product and stage.operand is not None
        d = grads.get("weight_hh")
        pairs.append((hh[rows], None if d is None else d[rows]) if hh is not None and product else (None, None))  # type: ignore[arg-type]
    if "weight_hr" in w:
        pairs.append((contiguous(w["weight_hr"], dtype), grads.get("weight_hr")))
    found: list[Any] = []
    for one, (weight, d), inverse in zip((plan.inputs, *plan.stages), pairs, inverses, strict=True):
        found.append(_stage(one, weight, d, inverse))
    return found


def _stage(plan: StagePlan, weight: Array | None, d_weight: Array | None, inverse: Array) -> tuple[Any, ...]:
    p = plan.program
    program = (p.code, p.fields, p.constants, p.registers)
    return (
        program,
        plan.operand,
        plan.d_operand,
        plan.block,
        plan.hat,
        weight,
        d_weight,
        plan.group,
        inverse,
        plan.fresh,
    )


def _given(plan: Plan, now: dict[str, Any], keep: Any, dtype: Any, rows: int) -> list[Any]:
    """Return what is handed in at every step, each (number of its field, array)."""
    found: list[Any] = []
    for n, name in enumerate(plan.fields):
        if name.startswith("live"):
            found.append((n, bytes_of(now["live"].reshape(-1, 1), (rows, 1))))
        elif name.startswith("keep"):
            mask = keep[int(name[5:-1])]
            found.append((n, bytes_of(mask.reshape(rows, mask.shape[-1]), (rows, mask.shape[-1]))))
        elif name in ("m", "dy"):
            found.append((n, matrix(now[name], dtype)))
    return found


def forward(
    cell: Cell,
    w: scan.Params,
    x: Array,
    s: Any,
    *,
    live: Array | None = None,
    keep: Any = None,
    record: bool = True,
    drop: Array | None = None,
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
    dtype = np.result_type(*w.values(), *s, *([] if x.dtype.kind in "iu" else [x]))
    if live is not None:  # padding may hold anything, NaN too: it must not reach a product
        x = np.where(live if x.ndim == 2 else live[..., None], x, x.dtype.type(0))
    hidden, proj = (w["weight_hr"].shape[1] if "weight_hr" in w else s[0].shape[-1]), "weight_hr" in w
    kinds = () if keep is None else tuple("mask" if isinstance(m, np.ndarray) else m for m in keep)
    options = Options("bias_ih" in w, live is not None, kinds, drop is not None, record, proj)
    plan = plans(cell, options)[0]
    memory = _Memory(batch, hidden, s[0].shape[-1], dtype)
    states = []
    for n, start in enumerate(s):
        slots = steps + 1 if record or n == 0 else 2
        states.append(empty((slots, batch, padded_width(start.shape[-1], dtype)), dtype))
        states[n][0, :, : start.shape[-1]] = start
        memory.places[f"s[{n}]"], memory.places[f"new[{n}]"] = (states[n], 0, 0, slots), (states[n], 0, 1, slots)
    kept = [name for name in plan.fields if record and (name.startswith(("gates", "proposed")) or name in plan.hats)]
    memory.allot(dict.fromkeys(kept, steps))
    scratch = [name for name in plan.fields[len(plan.units) :] if name not in memory.places]
    memory.allot({name: steps if name.startswith("ax") else 1 for name in scratch})
    inverses = tuple(empty((steps * batch, len(p.group)), dtype) for p in (plan.inputs, *plan.stages))
    if steps * batch:
        inputs, *stages = _stages(plan, cell, w, {}, inverses, dtype)
        of_dtype("program_forward", dtype)(
            [steps, batch, w["weight_ih"].shape[1], hidden, memory.narrow, 0, 0],
            _inputs(x, dtype),
            _table(cell, w["weight_ih"], hidden, dtype) if x.dtype.kind in "iu" else None,
            _units(plan, w, hidden, dtype),
            *memory.layout(plan),
            _given(plan, {"live": live, "m": drop}, keep, dtype, steps * batch),
            inputs,
            stages,
        )
    y = states[0][1:, :, : memory.narrow]
    y = y if live is None else np.where(live[..., None], y, dtype.type(0))
    all_states = type(s)(*(f[..., : start.shape[-1]] for f, start in zip(states, s, strict=True)))
    final = type(s)(*(f[steps % len(f)] for f in all_states))
    if not record:
        return y, final, None

    def view(name: str) -> Array:
        return read_only(_view(memory.places[name], steps, batch, hidden))

    gates = cell.gates(*(view(f"gates[{n}]") for n in range(len(cell.gate_fields))))
    kept = type(s)(*map(read_only, all_states))
    proposed = type(s)(*(view(f"proposed[{n}]") if options.apart else f[1:] for n, f in enumerate(kept)))
    needed = ("s[", "new[", "gates[", "proposed[")
    places = {name: p for name, p in memory.places.items() if name in plan.hats or name.startswith(needed)}
    tape = ProgramTape(cell, w, read_only(x), kept, gates, live, keep, proposed, drop, options, places, inverses, y)
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
    memory = _Memory(batch, hidden, dy.shape[-1], dtype, dict(tape.places))
    fields = range(len(tape.states))
    memory.allot({f"d[{n}]": 2 for n in fields})
    for n, d in zip(fields, ds, strict=True):  # the gradients of the new and of the old state, by turns
        array, start, _, _ = memory.places[f"d[{n}]"]
        memory.places[f"old[{n}]"] = (array, start, 1, 2)
        memory.slot(f"d[{n}]", (steps - 1) % 2)[...] = d
    scratch = [name for name in plan.fields[len(plan.units) :] if name not in memory.places]
    memory.allot({name: steps if name.startswith(("dax", "dah", "d projected")) else 1 for name in scratch})
    tokens = x.dtype.kind in "iu"
    size = w["weight_ih"].shape[1]
    dx = None if tokens else empty((steps, batch, padded_width(size, dtype)), dtype)
    totals = empty((len(plan.totals), hidden), dtype)
    grads = {name: zeros(p.shape, dtype) for name, p in w.items()}
    table = empty((size, len(cell.input_rows), padded_width(hidden, dtype)), dtype) if tokens else None
    if steps * batch:
        inputs, *stages = _stages(plan, cell, w, grads, tape.inverses, dtype)
        of_dtype("program_backward", dtype)(
            [steps, batch, size, hidden, memory.narrow, len(plan.fields) - len(plan.totals), len(plan.totals)],
            _inputs(x, dtype),
            table,
            _units(plan, w, hidden, dtype),
            *memory.layout(plan),
            _given(plan, {"live": tape.live, "m": tape.drop, "dy": dy}, tape.keep, dtype, steps * batch),
            inputs,
            stages,
            dx,
            totals,
        )
        for name, total in zip(plan.totals, totals, strict=True):
            _row(grads, name, hidden)[:] = total
        for name, twin in plan.twins:
            _row(grads, name, hidden)[:] = _row(grads, twin, hidden)
        if table is not None:
            grads["weight_ih"][...] = table[..., :hidden].transpose(1, 2, 0).reshape(grads["weight_ih"].shape)
    before = type(ds)(*(memory.slot(f"d[{n}]", 1) for n in fields))
    return None if dx is None else dx[..., :size], before, grads
