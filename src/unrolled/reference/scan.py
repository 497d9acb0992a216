"""The recurrence over time: one layer, one direction; forward, step and backward in NumPy, for any dtype.

This is the reference that every other backend is compared with. It knows products, time and masks, and nothing of any
cell's maths. Letters: T steps, B rows of the batch, I inputs, H hidden units, R row blocks of the weights (4 for an
LSTM), K columns of `weight_hh` (H, but for cells whose operand is wider).

Parameters `w` of a layer, by their local names: `weight_ih` (R H, I), `weight_hh` (R H, K), `bias_ih` and `bias_hh`
(R H,) (both or neither), `weight_hr` (P, H) of a projected state, `gain_ih` and `gain_hh` (R H,) of normalised rows,
`weight_x` (H, I) of a cell that sees x itself, and the cell's per-unit parameters (N, H) under the cell's own name for
them. (`Cell.shapes` lists them, `Cell.slices` says which rows are whose: a stage may have no part in one, and other
units than H.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..cells import Cell, Stage
from ..cells.cell import WEIGHT_X
from ..cells.contract import defined_at, stage_name
from ..checks import Array, Kept, read_only
from ..codegen.derive import complete, prepared, prepared_backward
from ..errors import UnrolledError, brief, one_line
from .operands import matrices
from .operands import operand as read
from .products import (
    Place,
    beside,
    bias_gradient,
    blocks_of,
    input_groups,
    input_product,
    normalise,
    normalise_backward,
    operands_of,
    places_of,
    product,
    product_backward,
    scatter_add,
    seen,
    weight_gradient,
)

Params = Mapping[str, Array]


class ScanMasks(NamedTuple):
    """Masks of one layer and direction; None masks nothing.

    Attributes
    ----------
    live : (T, B) bool
        A step that is not live changes no state, its output is 0.
    keep : State of (T, B, H) bool arrays, of rates, or of None
        Units that keep their old value at a step. A rate mixes that share of the old value in.
    drop : (T, B, H)
        Factor of the candidate: 0, or 1 / (1 - rate).
    dt : (T, B)
        Time since the step before, of cells that see it; no mask, but it comes with every step as they do. None is 1.
    """

    live: Array | None = None
    keep: Any = None
    drop: Array | None = None
    dt: Array | None = None


UNMASKED = ScanMasks()


@dataclass(frozen=True)
class Tape:
    """The tape of one layer's forward pass; plain data, every field a named array.

    Attributes
    ----------
    x : (T, B, I) array, or (T, B) integers standing for one-hot inputs
    states : the cell's State of (T + 1, B, H) arrays; entry 0 is the initial state
    gates : the cell's Gates of (T, B, H) arrays
    live : (T, B) bool or None; False where a row's sequence is over
    keep : State of (T, B, H) bool arrays, of rates, or None; True where a unit keeps its old state (zoneout)
    proposed : State of (T, B, H) arrays; the cell's new states before `keep` and before the projection (the same as
        `states[1:]` without both)
    drop : (T, B, H) or None; what the candidate was multiplied with (recurrent dropout)
    norms : normalised products, "ih" and one a stage: the rows with mean 0 and variance 1, and 1 / deviation
    kept : of each stage whose backward function was derived a named tuple of (T, B, units) arrays, else None
    dt : (T, B) or None; the time since the step before
    rounds : whether products rounded what they multiplied to bfloat16
    """

    cell: Cell
    w: Params
    x: Array
    states: Any
    gates: Any
    live: Array | None
    keep: Any
    proposed: Any
    drop: Array | None = None
    norms: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    kept: tuple[Any, ...] = ()
    dt: Array | None = None
    rounds: bool = False
    backend: ClassVar[str] = "reference"
    """Name of the backend that made it, and carries gradients back through it."""

    @property
    def y(self) -> Array:
        """Outputs (T, B, H): the hidden states, 0 where a sequence is over."""
        return _output(self.states.h[1:], self.live)

    @property
    def state(self) -> Any:
        """The final State of (B, H) arrays."""
        return type(self.states)(*(field[-1] for field in self.states))


def _output(h: Array, live: Array | None) -> Array:
    return h if live is None else np.where(live[..., None], h, h.dtype.type(0))


class _Now(NamedTuple):
    """What comes with a step: the candidate's factor (B, H), x as functions see it (B, H), the time (B, 1) or 1."""

    drop: Array | None = None
    x: Array | None = None
    dt: Any = 1


NOTHING = _Now()


def _at_step(t: int, drop: Array | None, x: Array | None, dt: Array | None) -> _Now:
    return _Now(None if drop is None else drop[t], None if x is None else x[t], 1 if dt is None else dt[t][:, None])


def _keywords(cell: Cell, w: Params, stage: Stage, now: _Now) -> dict[str, Any]:
    """Return the keywords `p=`, `c=`, `m=`, `x=`, `dt=` of a stage's functions, as far as it gets them."""
    extra = {} if cell.params is None or stage.width != 1 else {"p": cell.params(*w[cell.params_name])}
    extra |= {} if cell.settings is None else {"c": cell.constants}
    extra |= {} if now.drop is None or cell.candidate not in stage.rows else {"m": now.drop}
    return extra | {name: getattr(now, name) for name in stage.sees}


def advance(
    cell: Cell, w: Params, ax: Array, s: Any, now: _Now = NOTHING, rounds: bool = False
) -> tuple[Any, Any, dict[str, tuple[Array, Array]], list[Any]]:
    """Run one step: ax (B, R H) and the old state -> the new one (not yet projected), gates, normalised products, kept.

    The cell is complete, its parameters are prepared.
    """
    values: Any = None
    norms: dict[str, tuple[Array, Array]] = {}
    kept: list[Any] = []
    hidden = s[-1].shape[-1]
    for n, (stage, place) in enumerate(zip(cell.stages, places_of(cell, hidden), strict=True)):
        count, blocks = len(stage.rows) * stage.inputs, stage.blocks
        if stage.operand is None:
            shape = (*ax.shape[:-1], blocks * place.units)
            ah = np.zeros(shape, ax.dtype)
            if blocks and place.has_bias(w):
                ah = np.broadcast_to(place.part(w, place.bias), shape)
        else:
            ah = beside(operands_of(stage, s, values))
            if stage.product:
                ah = product(cell, ah, w["weight_hh"][place.of["weight_hh"]], place.units, rounds)
            if stage.norm:
                norms[f"{n}"] = normalise(ah, stage.norm)
                ah = norms[f"{n}"][0] * place.part(w, place.gain)
            if place.has_bias(w):
                ah = ah + place.part(w, place.bias)
        earlier = {"k": values} if n else {}
        old = s if stage.width == 1 else None
        extra = _keywords(cell, w, stage, now)
        result = stage.forward(blocks_of(ax[..., place.inputs], count), blocks_of(ah, blocks), old, **earlier, **extra)
        values, own = result if stage.keeps else (result, None)
        kept.append(own)
    new, gates = values
    return cell.state(*_whole(new, s[-1])), gates, norms, kept


def _whole(parts: Any, like: Array) -> tuple[Array, ...]:
    """Return what a cell's function gave as arrays (B, H): one number is that of every unit, as it is on the engine."""
    return tuple(
        p if np.shape(p) == like.shape else np.broadcast_to(np.asarray(p, like.dtype), like.shape) for p in parts
    )


def _select(mask: Array | float | None, old: Array, new: Array) -> Array:
    """`old` where the mask is set: a selection, so that nothing masked is ever multiplied (0 x NaN is NaN).

    A rate in a mask's place gives what the masks of that rate give on average.
    """
    if mask is None:
        return new
    if isinstance(mask, float):
        return np.asarray(new.dtype.type(mask) * old + new.dtype.type(1 - mask) * new)
    return np.where(mask if mask.ndim == new.ndim else mask[..., None], old, new)


def _at(keep: Any, t: int) -> list[Any]:
    """One step's masks."""
    return [m if m is None or isinstance(m, float) else m[t] for m in keep]


def forward(
    cell: Cell,
    w: Params,
    x: Array,
    s: Any,
    masks: ScanMasks = UNMASKED,
    *,
    record: bool = True,
    rounds: bool = False,
) -> tuple[Array, Any, Tape | None]:
    """Run the cell over all steps.

    Parameters
    ----------
    x : (T, B, I), or (T, B) integers below I
    s : State of (B, H) arrays; h is (B, P) where the state is projected
    masks : ScanMasks
    record : bool
        Without a tape only the outputs are kept.
    rounds : bool
        Whether products round what they multiply to bfloat16 (`unrolled.reference.operands`).

    Returns
    -------
    y : (T, B, H), or (T, B, P)
    state : State of (B, H) arrays
    tape : Tape or None
    """
    steps, batch = x.shape[:2]
    live, keep, drop, dt = masks
    given, own, cell, w = cell, w, complete(cell), matrices(prepared(cell, w), x.dtype.kind in "iu", rounds)
    if live is not None:  # padding may hold anything, NaN too: it must not reach a product
        x = np.where(live if x.ndim == 2 else live[..., None], x, x.dtype.type(0))
    dtype = np.result_type(*w.values(), *s, *([x] if x.dtype.kind not in "iu" else []))
    ax, norms = input_product(cell, w, x, rounds)
    ax = ax.astype(dtype, copy=False)
    s = type(s)(*(f.astype(dtype, copy=False) for f in s))
    hidden, projection = s[-1].shape[-1] if "weight_hr" not in w else w["weight_hr"].shape[1], w.get("weight_hr")
    sees = seen(cell, w, x, hidden, dtype, rounds)
    dt = None if dt is None else dt.astype(dtype, copy=False)
    fields = [np.empty((steps + 1, *f.shape), dtype) for f in s] if record else []
    for f_all, f in zip(fields, s, strict=False):
        f_all[0] = f
    apart = record and (keep is not None or projection is not None)
    proposed = [np.empty((steps, batch, hidden), dtype) for _ in s] if apart else []
    gates = [np.empty((steps, batch, hidden), dtype) for _ in cell.gate_fields] if record else []
    y = fields[0][1:] if record else np.empty((steps, *s.h.shape), dtype)
    products: dict[str, list[tuple[Array, Array]]] = {}
    keeps: list[list[Any]] = [[] for _ in cell.stages]
    with np.errstate(over="ignore"):  # exp(-x) = inf is a closed gate, not a mistake
        for t in range(steps):
            new, k, step_norms, kept = advance(cell, w, ax[t], s, _at_step(t, drop, sees, dt), rounds)
            for f_all, f in zip(proposed, new, strict=False):
                f_all[t] = f
            if projection is not None:
                new = new._replace(h=read(new.h, rounds) @ projection.T)
            if keep is not None:
                new = type(new)(*(_select(m, old, n) for m, old, n in zip(_at(keep, t), s, new, strict=True)))
            if live is not None:
                new = type(new)(*(_select(~live[t], old, n) for old, n in zip(s, new, strict=True)))
            if record:
                for f_all, f in zip(fields, new, strict=True):
                    f_all[t + 1] = f
                for gate, g in zip(gates, k, strict=True):
                    gate[t] = g
                for name, norm in step_norms.items():
                    products.setdefault(name, []).append(norm)
                for of_stage, now_kept in zip(keeps, kept, strict=True):
                    of_stage.append(now_kept)
            else:
                y[t] = new.h
            s = new
    if not record:
        return _output(y, live), s, None
    new_fields = proposed if apart else [f[1:] for f in fields]
    for name, pairs in products.items():
        norms[name] = np.stack([hat for hat, _ in pairs]), np.stack([inverse for _, inverse in pairs])
    states, visible, new_states = (
        kind(*map(read_only, arrays))
        for kind, arrays in ((type(s), fields), (cell.gates, gates), (type(s), new_fields))
    )
    held = Kept({name: tuple(map(read_only, pair)) for name, pair in norms.items()})
    remembered = tuple(
        stage.keeps and _stacked(stage, of_stage, (steps, batch, stage.units(hidden)), dtype)
        for stage, of_stage in zip(cell.stages, keeps, strict=True)
    )
    tape = Tape(given, own, read_only(x), states, visible, live, keep, new_states, drop, held, remembered, dt, rounds)
    return tape.y, tape.state, tape


def _stacked(stage: Stage, kept: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> Any:
    """Return what the tape keeps of a stage at all steps, each field (T, B, units)."""
    assert stage.keeps is not None
    fields = [np.empty(shape, dtype) for _ in stage.keeps._fields]
    for t, at in enumerate(kept):
        for whole, part in zip(fields, at, strict=True):
            whole[t] = part
    return stage.keeps(*map(read_only, fields))


def backward(tape: Tape, dy: Array, ds: Any) -> tuple[Array | None, Any, dict[str, Array]]:
    """Carry gradients back through all steps.

    Parameters
    ----------
    tape : Tape
        Of the forward pass.
    dy : (T, B, H)
        Gradient of the outputs.
    ds : State of (B, H) arrays
        Gradient of the final state.

    Returns
    -------
    dx : (T, B, I), or None where the inputs were integers
    ds : State of (B, H) arrays
        Gradient of the initial state.
    grads : dict
        Gradient of every parameter, under its local name.
    """
    rounds, tokens = tape.rounds, tape.x.dtype.kind in "iu"
    cell, w = complete(tape.cell), matrices(prepared(tape.cell, tape.w), tokens, rounds)
    steps, batch = dy.shape[:2]
    hidden = tape.proposed.h.shape[-1]
    dtype = tape.states.h.dtype
    places = places_of(cell, hidden)
    inputs, rows = places[-1].inputs.stop, places[-1].rows.stop
    dax = np.empty((steps, batch, inputs), dtype)
    dah = dax if rows == inputs else np.zeros((steps, batch, rows), dtype)  # one, until the halves differ
    # Gradients that are summed up on the way; the others are products over all steps, afterwards.
    sums = {name: np.zeros_like(p) for name, p in w.items() if name not in _PRODUCTS}
    state_type, zero = type(tape.states), dtype.type(0)
    raw = np.zeros((steps, batch, rows), dtype) if cell.normalised else None
    sees = seen(cell, w, tape.x, hidden, dtype, rounds)
    dsees = None if sees is None else np.zeros(sees.shape, dtype)

    n = -1
    try:
        for t in range(steps - 1, -1, -1):
            s, new = state_type(*(f[t] for f in tape.states)), state_type(*(f[t] for f in tape.proposed))
            k = type(tape.gates)(*(g[t] for g in tape.gates))
            live, now = None if tape.live is None else tape.live[t], _at_step(t, tape.drop, sees, tape.dt)
            d = list(ds)
            d[0] = d[0] + _output(dy[t], live)
            d_old, d = _past_the_cell(d, live, None if tape.keep is None else _at(tape.keep, t), zero)
            if "weight_hr" in w:
                down_h = read(d[0], rounds)
                sums["weight_hr"] += down_h.T @ read(new.h, rounds)
                d[0] = down_h @ w["weight_hr"]

            down: Any = state_type(*d)
            for n in range(len(cell.stages) - 1, -1, -1):
                stage, place = cell.stages[n], places[n]
                extra = _keywords(cell, w, stage, now)
                if stage.keeps:
                    extra["kept"] = stage.keeps(*(f[t] for f in tape.kept[n]))
                seen_state = (s, new) if stage.width == 1 else (None, None)
                assert stage.backward is not None
                with np.errstate(over="ignore"):  # what is derived computes exp(-x) again
                    b = stage.backward(down, k, *seen_state, **extra)
                like = new[-1] if stage.width == 1 else np.empty((batch, place.units), dtype)
                split = b.ah is not b.ax and stage.blocks > 0
                if split and dah is dax:
                    dah = dax.copy()
                ax = _whole(b.ax, like)
                ah = _whole(b.ah, like) if split else ax
                if stage.inputs and stage.rows:
                    np.concatenate(ax, axis=-1, out=dax[t, :, place.inputs])
                if stage.rows and stage.blocks and dah is not dax:
                    np.concatenate(ah, axis=-1, out=dah[t, :, place.rows])
                if stage.width == 1:
                    d_old = [p + q for p, q in zip(d_old, b.state, strict=True)]
                if dsees is not None and "x" in stage.sees:
                    dsees[t] += b.x
                for row, q in enumerate(_whole(b.params or (), new[-1])):
                    sums[cell.params_name][row] += np.sum(q, axis=0)
                down = b.values
                if stage.operand is None:
                    continue
                d_operand = np.concatenate(ah, axis=-1)
                if stage.norm:
                    norm = tape.norms[f"{n}"][0][t], tape.norms[f"{n}"][1][t]
                    if place.bias in sums:
                        sums[place.bias] += d_operand.sum(axis=0)
                    gain = (d_operand * norm[0]).sum(axis=0)
                    place.part(sums, place.gain)[...] += gain
                    d_operand = normalise_backward(d_operand * place.part(w, place.gain), norm, stage.norm)
                widths = [
                    cell.operand_units(n, name, s.h.shape[-1] if name == "h" else hidden) for name in stage.operand
                ]
                if stage.product:
                    if raw is not None:
                        raw[t, :, place.rows] = d_operand
                    weight = w["weight_hh"][place.of["weight_hh"]]
                    d_operand = product_backward(cell, d_operand, weight, place.units, sum(widths), rounds)
                for name, part in zip(stage.operand, np.split(d_operand, np.cumsum(widths)[:-1], axis=-1), strict=True):
                    if name in s._fields:
                        d_old[s._fields.index(name)] = d_old[s._fields.index(name)] + part
                    else:
                        down = down._replace(**{name: getattr(down, name) + part})
            ds = state_type(*d_old)
    except Exception as error:
        stage = tape.cell.stages[n]
        if stage.backward is None or isinstance(error, (UnrolledError, MemoryError)):
            raise
        said = f"cell {brief(cell.name)}: backward of {stage_name(stage, n)}{defined_at(stage.backward)}"
        why = one_line(f"{type(error).__name__}: {error}", 200)
        raise UnrolledError(f"{said} can't be used: {why}; unrolled.check_cell tells what is wrong") from error
    ds = state_type(*(_whole((f,), g[0])[0] for f, g in zip(ds, tape.states, strict=True)))  # a plain 0

    dx, grads = _parameter_gradients(tape, cell, w, dax, dah, raw, places)
    if dsees is not None:
        dx = _past_the_weights(tape.x, w, dx, dsees, grads, rounds)
    return dx, ds, prepared_backward(tape.cell, tape.w, grads | sums)


_PRODUCTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "gain_ih", WEIGHT_X)
"""Parameters whose gradients are sums over all steps at once."""


def _past_the_weights(
    x: Array, w: Params, dx: Array | None, dsees: Array, grads: dict[str, Array], rounds: bool
) -> Array | None:
    """Add to dx what reaches x as functions see it, and find the gradient of `weight_x`."""
    flat = dsees.reshape(-1, dsees.shape[-1])
    if WEIGHT_X not in w:
        return None if dx is None else dx + dsees
    if dx is None:
        grads[WEIGHT_X] = scatter_add(x.ravel(), flat, w[WEIGHT_X].shape[1]).T
        return None
    flat = read(flat, rounds)
    grads[WEIGHT_X] = flat.T @ read(x.reshape(-1, x.shape[-1]), rounds)
    past: Array = dx + (flat @ w[WEIGHT_X]).reshape(x.shape)
    return past


def _past_the_cell(d: list[Any], live: Array | None, keep: Any, zero: Any) -> tuple[list[Any], list[Any]]:
    """Part the gradient of a new state: what masks send past the cell to the old state, and what goes into the cell."""
    past: list[Any] = [0] * len(d)
    if live is not None:
        past = [_select(live, zero, f) for f in d]
        d = [_select(~live, zero, f) for f in d]
    for n, mask in enumerate(keep or ()):
        if isinstance(mask, float):
            rate = d[n].dtype.type(mask)
            past[n], d[n] = past[n] + rate * d[n], (1 - rate) * d[n]
        elif mask is not None:
            past[n], d[n] = past[n] + _select(~mask, zero, d[n]), _select(mask, zero, d[n])
    return past, d


def _parameter_gradients(
    tape: Tape, cell: Cell, w: Params, dax: Array, dah: Array, raw: Array | None, places: Sequence[Place]
) -> tuple[Array | None, dict[str, Array]]:
    """Sums over all steps and rows of the batch: one large product a weight.

    `dax` and `dah` are the gradients of the pre-activations; `raw` those of the recurrent products, where they are
    normalised first.
    """
    x = tape.x
    grads = {}
    dx: Array | None = None
    if "bias_ih" in w:
        grads["bias_ih"] = bias_gradient(dax, [(p.inputs, p.of["bias_ih"]) for p in places])
    if "bias_hh" in w:
        same = dah is dax and [p.of["bias_ih"] for p in places] == [p.of["bias_hh"] for p in places]
        shared = grads["bias_ih"].copy() if same else None
        own = [(p.rows, p.of["bias_hh"]) for p in places]
        grads["bias_hh"] = bias_gradient(dah, own) if shared is None else shared
    if "gain_ih" in w:
        grads["gain_ih"] = (dax * tape.norms["ih"][0]).sum(axis=(0, 1))
        dax = normalise_backward(dax * w["gain_ih"], tape.norms["ih"], input_groups(cell))
    flat_ax, flat_ah = (a.reshape(-1, a.shape[-1]) for a in (dax, dah if raw is None else raw))
    if x.dtype.kind in "iu":
        grads["weight_ih"] = scatter_add(x.ravel(), flat_ax, w["weight_ih"].shape[1]).T
    else:
        left = read(flat_ax, tape.rounds)
        grads["weight_ih"] = left.T @ read(x.reshape(-1, x.shape[-1]), tape.rounds)
        dx = (left @ w["weight_ih"]).reshape(x.shape)
    if "weight_hh" in w:
        grads["weight_hh"] = np.zeros_like(w["weight_hh"])
        before = type(tape.states)(*(f[:-1] for f in tape.states))
        for n, (stage, place) in enumerate(zip(cell.stages, places, strict=True)):
            if stage.owns("weight_hh"):
                operand = beside(operands_of(stage, before, tape.gates, *tape.kept[max(n - 1, 0) : n]))
                operand, d = operand.reshape(-1, operand.shape[-1]), flat_ah[:, place.rows]
                weight_gradient(cell, grads["weight_hh"][place.of["weight_hh"]], d, operand, place.units, tape.rounds)
    return dx, grads
