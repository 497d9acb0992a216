"""The recurrence over time: one layer, one direction; forward, step and backward in NumPy, for any dtype.

This is the reference that every other backend is compared with. It knows products, time and masks, and nothing of any
cell's maths. Letters: T steps, B rows of the batch, I inputs, H hidden units, R row blocks of the weights (4 for an
LSTM), K columns of `weight_hh` (H, but for cells whose operand is wider).

Parameters `w` of a layer, by their local names: `weight_ih` (R H, I), `weight_hh` (R H, K), `bias_ih` and `bias_hh`
(R H,) (both or neither), and the cell's per-unit parameters (P, H) under the cell's own name for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cells import Cell, Stage

Array = np.ndarray[Any, Any]
Params = Mapping[str, Array]


@dataclass(frozen=True)
class Tape:
    """What one layer remembers of a forward pass; plain data, every field a named array.

    Attributes
    ----------
    x : (T, B, I) array, or (T, B) integers standing for one-hot inputs
    states : the cell's State of (T + 1, B, H) arrays; entry 0 is the initial state
    gates : the cell's Gates of (T, B, H) arrays
    live : (T, B) bool or None; False where a row's sequence is over
    keep : State of (T, B) or (T, B, H) bool arrays, or None; True where a unit keeps its old state (zoneout)
    proposed : State of (T, B, H) arrays; the cell's new states before `keep` (the same as `states[1:]` without it)
    """

    cell: Cell
    w: Params
    x: Array
    states: Any
    gates: Any
    live: Array | None
    keep: Any
    proposed: Any

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


def input_product(w: Params, x: Array) -> Array:
    """x Wih^T + bih for all steps at once: (T, B, I) -> (T, B, R H); integers (T, B) pick columns of Wih."""
    if x.dtype.kind in "iu":
        ax = w["weight_ih"].T[x]
    else:
        ax = (x.reshape(-1, x.shape[-1]) @ w["weight_ih"].T).reshape(*x.shape[:-1], len(w["weight_ih"]))
    return ax + w["bias_ih"] if "bias_ih" in w else ax


def _blocks(a: Array, count: int) -> tuple[Array, ...]:
    """(B, count H) -> `count` views (B, H)."""
    return tuple(np.split(a, count, axis=-1)) if count > 1 else (a,)


def _stage_rows(cell: Cell, hidden: int) -> list[slice]:
    """Which rows of the weights belong to each stage."""
    ends = np.cumsum([0] + [len(stage.rows) * hidden for stage in cell.stages])
    return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def _operand(stage: Stage, s: Any, values: Any) -> Array:
    """Elementwise operand of a stage's product, (B, K): state fields or earlier values side by side."""
    assert stage.operand is not None
    parts = [getattr(s, name) if name in s._fields else getattr(values, name) for name in stage.operand]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _unit_params(cell: Cell, w: Params) -> dict[str, Any]:
    """The keyword `p=` of the cells that have per-unit parameters."""
    return {} if cell.params is None else {"p": cell.params(*w[cell.params_name])}


def advance(cell: Cell, w: Params, ax: Array, s: Any) -> tuple[Any, Any]:
    """One step: ax (B, R H) and the old state -> the new state and the gates."""
    hidden = s[-1].shape[-1]
    extra = _unit_params(cell, w)
    values: Any = None
    for n, (stage, rows) in enumerate(zip(cell.stages, _stage_rows(cell, hidden), strict=True)):
        if stage.operand is None:
            ah = np.broadcast_to(w["bias_hh"][rows], ax[..., rows].shape) if "bias_hh" in w else 0 * ax[..., rows]
        else:
            operand = _operand(stage, s, values)
            ah = operand @ w["weight_hh"][rows, : operand.shape[-1]].T
            if "bias_hh" in w:
                ah += w["bias_hh"][rows]
        earlier = {"k": values} if n else {}
        count = len(stage.rows)
        values = stage.forward(_blocks(ax[..., rows], count), _blocks(ah, count), s, **earlier, **extra)
    new, gates = values
    return new, gates


def _select(mask: Array | None, old: Array, new: Array) -> Array:
    """`old` where the mask is set: a selection, so that nothing masked is ever multiplied (0 x NaN is NaN)."""
    if mask is None:
        return new
    return np.where(mask if mask.ndim == new.ndim else mask[..., None], old, new)


def forward(
    cell: Cell, w: Params, x: Array, s: Any, *, live: Array | None = None, keep: Any = None, record: bool = True
) -> tuple[Array, Any, Tape | None]:
    """Run the cell over all steps.

    Parameters
    ----------
    x : (T, B, I), or (T, B) integers below I
    s : State of (B, H) arrays
    live : (T, B) bool, optional
        A step that is not live changes no state, its output is 0.
    keep : State of (T, B, H) bool arrays (or None for a field), optional
        Units that keep their old value at a step.
    record : bool
        Without a tape only the outputs are kept.

    Returns
    -------
    y : (T, B, H)
    state : State of (B, H) arrays
    tape : Tape or None
    """
    steps, batch = x.shape[:2]
    if live is not None:  # padding may hold anything, NaN too: it must not reach a product
        x = np.where(live if x.ndim == 2 else live[..., None], x, x.dtype.type(0))
    dtype = np.result_type(*w.values(), *s, *([x] if x.dtype.kind not in "iu" else []))
    ax = input_product(w, x).astype(dtype, copy=False)
    s = type(s)(*(f.astype(dtype, copy=False) for f in s))
    fields = [np.empty((steps + 1, *f.shape), dtype) for f in s] if record else []
    for field, f in zip(fields, s, strict=False):
        field[0] = f
    proposed = [np.empty((steps, *f.shape), dtype) for f in s] if record and keep is not None else []
    hidden = s.h.shape[-1]
    gates = [np.empty((steps, batch, hidden), dtype) for _ in cell.gates._fields] if record else []  # type: ignore[attr-defined]
    y = fields[0][1:] if record else np.empty((steps, batch, hidden), dtype)
    with np.errstate(over="ignore"):  # exp(-x) = inf is a closed gate, not a mistake
        for t in range(steps):
            new, k = advance(cell, w, ax[t], s)
            if keep is not None:
                for field, f in zip(proposed, new, strict=False):
                    field[t] = f
                masks = [m if m is None else m[t] for m in keep]
                new = type(new)(*(_select(m, old, n) for m, old, n in zip(masks, s, new, strict=True)))
            if live is not None:
                new = type(new)(*(_select(~live[t], old, n) for old, n in zip(s, new, strict=True)))
            if record:
                for field, f in zip(fields, new, strict=True):
                    field[t + 1] = f
                for gate, g in zip(gates, k, strict=True):
                    gate[t] = g
            else:
                y[t] = new.h
            s = new
    if not record:
        return _output(y, live), s, None
    new_fields = proposed if keep is not None else [f[1:] for f in fields]
    tape = Tape(cell, w, x, type(s)(*fields), cell.gates(*gates), live, keep, type(s)(*new_fields))
    return tape.y, tape.state, tape


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
    cell, w = tape.cell, tape.w
    steps, batch, hidden = dy.shape
    dtype = tape.states.h.dtype
    rows = _stage_rows(cell, hidden)
    extra = _unit_params(cell, w)
    dax = np.empty((steps, batch, len(cell.rows) * hidden), dtype)
    dah = dax  # one array for both, until a cell's two halves differ
    dp = [np.zeros(hidden, dtype) for _ in cell.params._fields] if cell.params else []  # type: ignore[attr-defined]
    state_type, zero = type(tape.states), dtype.type(0)

    for t in range(steps - 1, -1, -1):
        s, new = state_type(*(f[t] for f in tape.states)), state_type(*(f[t] for f in tape.proposed))
        k = type(tape.gates)(*(g[t] for g in tape.gates))
        live = None if tape.live is None else tape.live[t]
        d = list(ds)
        d[0] = d[0] + _output(dy[t], live)
        # What a masked step passes straight through to the old state; the rest goes through the cell.
        passed: list[Any] = [0] * len(d)
        if live is not None:
            passed = [_select(live, zero, f) for f in d]
            d = [_select(~live, zero, f) for f in d]
        if tape.keep is not None:
            masks = [m if m is None else m[t] for m in tape.keep]
            passed = [p if m is None else p + _select(~m, zero, f) for m, p, f in zip(masks, passed, d, strict=True)]
            d = [_select(m, zero, f) for m, f in zip(masks, d, strict=True)]

        down: Any = state_type(*d)
        d_old: list[Any] = passed
        for n in range(len(cell.stages) - 1, -1, -1):
            stage, r = cell.stages[n], rows[n]
            b = stage.backward(down, k, s, new, **extra)
            if b.ah is not b.ax and dah is dax:
                dah = dax.copy()
            np.concatenate(b.ax, axis=-1, out=dax[t, :, r])
            if dah is not dax:
                np.concatenate(b.ah, axis=-1, out=dah[t, :, r])
            d_old = [p + q for p, q in zip(d_old, b.state, strict=True)]
            for total, q in zip(dp, b.params or (), strict=False):
                total += q.sum(axis=0)
            down = b.values
            if stage.operand is not None:
                width = len(stage.operand) * hidden
                d_operand = dah[t, :, r] @ w["weight_hh"][r, :width]
                for name, part in zip(stage.operand, _blocks(d_operand, len(stage.operand)), strict=True):
                    if name in s._fields:
                        d_old[s._fields.index(name)] = d_old[s._fields.index(name)] + part
                    else:
                        down = down._replace(**{name: getattr(down, name) + part})
        ds = state_type(*d_old)
    ds = state_type(*(np.broadcast_to(f, dy.shape[1:]) for f in ds))  # a cell may return a plain 0

    dx, grads = _parameter_gradients(tape, dax, dah, rows)
    if cell.params:
        grads[cell.params_name] = np.stack(dp)
    return dx, ds, grads


def _parameter_gradients(
    tape: Tape, dax: Array, dah: Array, rows: list[slice]
) -> tuple[Array | None, dict[str, Array]]:
    """Sums over all steps and rows of the batch: one large product a weight."""
    cell, w, x = tape.cell, tape.w, tape.x
    flat_ax, flat_ah = dax.reshape(-1, dax.shape[-1]), dah.reshape(-1, dah.shape[-1])
    grads = {}
    dx: Array | None = None
    if x.dtype.kind in "iu":
        grads["weight_ih"] = scatter_add(x.ravel(), flat_ax, w["weight_ih"].shape[1]).T
    else:
        grads["weight_ih"] = flat_ax.T @ x.reshape(-1, x.shape[-1])
        dx = (flat_ax @ w["weight_ih"]).reshape(x.shape)
    if "weight_hh" in w:
        grads["weight_hh"] = np.zeros_like(w["weight_hh"])
        before = type(tape.states)(*(f[:-1] for f in tape.states))
        for stage, r in zip(cell.stages, rows, strict=True):
            if stage.operand is not None:
                operand = _operand(stage, before, tape.gates)
                operand = operand.reshape(-1, operand.shape[-1])
                grads["weight_hh"][r, : operand.shape[-1]] = flat_ah[:, r].T @ operand
    if "bias_ih" in w:
        grads["bias_ih"] = flat_ax.sum(axis=0)
        grads["bias_hh"] = grads["bias_ih"].copy() if dah is dax else flat_ah.sum(axis=0)
    return dx, grads


def scatter_add(index: Array, rows: Array, size: int) -> Array:
    """Sum rows (N, D) that share an index into a table (size, D), in a fixed order.

    Examples
    --------
    >>> scatter_add(np.array([2, 0, 2]), np.array([[1.0], [2.0], [3.0]]), 3)
    array([[2.],
           [0.],
           [4.]])
    """
    table = np.zeros((size, rows.shape[-1]), rows.dtype)
    if index.size:
        order = np.argsort(index, kind="stable")
        found, starts = np.unique(index[order], return_index=True)
        table[found] = np.add.reduceat(rows[order], starts, axis=0)
    return table
