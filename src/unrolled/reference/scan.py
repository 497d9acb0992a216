"""The recurrence over time: one layer, one direction; forward, step and backward in NumPy, for any dtype.

This is the reference that every other backend is compared with. It knows products, time and masks, and nothing of any
cell's maths. Letters: T steps, B rows of the batch, I inputs, H hidden units, R row blocks of the weights (4 for an
LSTM), K columns of `weight_hh` (H, but for cells whose operand is wider).

Parameters `w` of a layer, by their local names: `weight_ih` (R H, I), `weight_hh` (R H, K), `bias_ih` and `bias_hh`
(R H,) (both or neither), `weight_hr` (P, H) of a projected state, `gain_ih` and `gain_hh` (R H,) of normalised rows,
and the cell's per-unit parameters (N, H) under the cell's own name for them. (`Cell.shapes` lists them.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..cells import Cell, Stage
from ..checks import Array, Kept, read_only

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
    """

    live: Array | None = None
    keep: Any = None
    drop: Array | None = None


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


EPSILON = 1e-5
"""Added to a variance before the root, as in PyTorch's LayerNorm."""


def normalise(a: Array, groups: Sequence[int]) -> tuple[Array, Array]:
    """Rows (..., N) with mean 0 and variance 1 in each group of columns, and 1 / deviation (..., N) (Ba et al. 2016).

    Examples
    --------
    >>> hat, inverse = normalise(np.array([[1.0, 3.0, 10.0, 50.0]]), (2, 2))
    >>> hat.round(3), inverse.round(3)
    (array([[-1.,  1., -1.,  1.]]), array([[1.  , 1.  , 0.05, 0.05]]))
    """
    parts, inverses = [], []
    for part in _groups(a, groups):
        centred = part - part.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)  # no abs: the complex step goes through it
        inverse = 1 / np.sqrt(variance + part.dtype.type(EPSILON))
        parts.append(centred * inverse)
        inverses.append(np.broadcast_to(inverse, part.shape))
    return np.concatenate(parts, axis=-1), np.concatenate(inverses, axis=-1)


def normalise_backward(d: Array, norm: tuple[Array, Array], groups: Sequence[int]) -> Array:
    """Gradient of the rows, from that of the normalised ones.

    Examples
    --------
    >>> norm = normalise(np.array([[1.0, 3.0, 8.0]]), (3,))
    >>> abs(normalise_backward(np.ones((1, 3)), norm, (3,))).max() < 1e-15  # a shift of all changes nothing
    np.True_
    """
    hat, inverse = norm
    parts = [
        dg - dg.mean(axis=-1, keepdims=True) - hg * (dg * hg).mean(axis=-1, keepdims=True)
        for dg, hg in zip(_groups(d, groups), _groups(hat, groups), strict=True)
    ]
    d_rows: Array = inverse * np.concatenate(parts, axis=-1)
    return d_rows


def _groups(a: Array, groups: Sequence[int]) -> list[Array]:
    """Views of `groups` blocks of columns each."""
    return np.split(a, np.cumsum(groups)[:-1] * (a.shape[-1] // sum(groups)), axis=-1)


def _input_groups(cell: Cell) -> tuple[int, ...]:
    return tuple(n for stage in cell.stages if stage.inputs for n in stage.norm)


def input_product(cell: Cell, w: Params, x: Array) -> tuple[Array, dict[str, tuple[Array, Array]]]:
    """x Wih^T + bih for all steps at once, (T, B, I) -> (T, B, R H), normalised where the cell says so.

    Integers (T, B) pick columns of Wih.
    """
    norms = {}
    if x.dtype.kind in "iu":
        ax = w["weight_ih"].T[x]
    else:
        ax = (x.reshape(-1, x.shape[-1]) @ w["weight_ih"].T).reshape(*x.shape[:-1], len(w["weight_ih"]))
    if "gain_ih" in w:
        norms["ih"] = normalise(ax, _input_groups(cell))
        ax = norms["ih"][0] * w["gain_ih"]
    return (ax + w["bias_ih"] if "bias_ih" in w else ax), norms


def _blocks(a: Array, count: int) -> tuple[Array, ...]:
    """(B, count H) -> `count` views (B, H)."""
    return tuple(np.split(a, count, axis=-1)) if count > 1 else (a,) * count


@dataclass(frozen=True)
class _Place:
    """Where a stage's rows stand: in the gradients of `ax`, and in `weight_hh` and the biases."""

    inputs: slice
    rows: slice
    gain: str
    bias: str

    def part(self, w: Params, name: str) -> Any:
        """Return the gain or bias of these rows."""
        return w[name][self.rows] if name in ("gain_hh", "bias_hh") else w[name]


def _places(cell: Cell, hidden: int) -> list[_Place]:
    """One a stage."""
    places, inputs, rows = [], 0, 0
    for stage in cell.stages:
        size = len(stage.rows) * hidden
        own = "hh" if stage.product else (stage.operand or ("",))[0]
        places.append(
            _Place(slice(inputs, inputs + size * stage.inputs), slice(rows, rows + size), f"gain_{own}", f"bias_{own}")
        )
        inputs, rows = inputs + size * stage.inputs, rows + size
    return places


def _operand(stage: Stage, s: Any, values: Any) -> Array:
    """Elementwise operand of a stage's product, (B, K): state fields or earlier values side by side."""
    assert stage.operand is not None
    parts = [getattr(s, name) if name in s._fields else getattr(values, name) for name in stage.operand]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _keywords(cell: Cell, w: Params, stage: Stage, drop: Array | None) -> dict[str, Any]:
    """The keywords `p=` of the cells that have per-unit parameters, and `m=` of the stage that holds the candidate."""
    extra = {} if cell.params is None else {"p": cell.params(*w[cell.params_name])}
    return extra | ({} if drop is None or cell.candidate not in stage.rows else {"m": drop})


def advance(
    cell: Cell, w: Params, ax: Array, s: Any, drop: Array | None = None
) -> tuple[Any, Any, dict[str, tuple[Array, Array]]]:
    """One step: ax (B, R H) and the old state -> the new state (not yet projected), the gates, normalised products."""
    values: Any = None
    norms: dict[str, tuple[Array, Array]] = {}
    for n, (stage, place) in enumerate(zip(cell.stages, _places(cell, s[-1].shape[-1]), strict=True)):
        if stage.operand is None:
            shape = ax[..., place.inputs].shape
            ah = np.broadcast_to(w["bias_hh"][place.rows], shape) if "bias_hh" in w else np.zeros(shape, ax.dtype)
        else:
            ah = _operand(stage, s, values)
            if stage.product:
                ah = ah @ w["weight_hh"][place.rows, : ah.shape[-1]].T
            if stage.norm:
                norms[f"{n}"] = normalise(ah, stage.norm)
                ah = norms[f"{n}"][0] * place.part(w, place.gain)
            if place.bias in w:
                ah = ah + place.part(w, place.bias)
        earlier = {"k": values} if n else {}
        ax_blocks = _blocks(ax[..., place.inputs], len(stage.rows) * stage.inputs)
        values = stage.forward(ax_blocks, _blocks(ah, stage.blocks), s, **earlier, **_keywords(cell, w, stage, drop))
    new, gates = values
    return type(new)(*_whole(new, s[-1])), gates, norms


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
) -> tuple[Array, Any, Tape | None]:
    """Run the cell over all steps.

    Parameters
    ----------
    x : (T, B, I), or (T, B) integers below I
    s : State of (B, H) arrays; h is (B, P) where the state is projected
    masks : ScanMasks
    record : bool
        Without a tape only the outputs are kept.

    Returns
    -------
    y : (T, B, H), or (T, B, P)
    state : State of (B, H) arrays
    tape : Tape or None
    """
    steps, batch = x.shape[:2]
    live, keep, drop = masks
    if live is not None:  # padding may hold anything, NaN too: it must not reach a product
        x = np.where(live if x.ndim == 2 else live[..., None], x, x.dtype.type(0))
    dtype = np.result_type(*w.values(), *s, *([x] if x.dtype.kind not in "iu" else []))
    ax, norms = input_product(cell, w, x)
    ax = ax.astype(dtype, copy=False)
    s = type(s)(*(f.astype(dtype, copy=False) for f in s))
    hidden, projection = s[-1].shape[-1] if "weight_hr" not in w else w["weight_hr"].shape[1], w.get("weight_hr")
    fields = [np.empty((steps + 1, *f.shape), dtype) for f in s] if record else []
    for f_all, f in zip(fields, s, strict=False):
        f_all[0] = f
    apart = record and (keep is not None or projection is not None)
    proposed = [np.empty((steps, batch, hidden), dtype) for _ in s] if apart else []
    gates = [np.empty((steps, batch, hidden), dtype) for _ in cell.gate_fields] if record else []
    y = fields[0][1:] if record else np.empty((steps, *s.h.shape), dtype)
    products: dict[str, list[tuple[Array, Array]]] = {}
    with np.errstate(over="ignore"):  # exp(-x) = inf is a closed gate, not a mistake
        for t in range(steps):
            new, k, step_norms = advance(cell, w, ax[t], s, None if drop is None else drop[t])
            for f_all, f in zip(proposed, new, strict=False):
                f_all[t] = f
            if projection is not None:
                new = new._replace(h=new.h @ projection.T)
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
            else:
                y[t] = new.h
            s = new
    if not record:
        return _output(y, live), s, None
    new_fields = proposed if apart else [f[1:] for f in fields]
    for name, pairs in products.items():
        norms[name] = np.stack([hat for hat, _ in pairs]), np.stack([inverse for _, inverse in pairs])
    states, seen, new_states = (
        kind(*map(read_only, arrays))
        for kind, arrays in ((type(s), fields), (cell.gates, gates), (type(s), new_fields))
    )
    held = Kept({name: tuple(map(read_only, pair)) for name, pair in norms.items()})
    tape = Tape(cell, w, read_only(x), states, seen, live, keep, new_states, drop, held)
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
    steps, batch = dy.shape[:2]
    hidden = tape.proposed.h.shape[-1]
    dtype = tape.states.h.dtype
    places = _places(cell, hidden)
    dax = np.empty((steps, batch, len(cell.input_rows) * hidden), dtype)
    same = len(cell.rows) == len(cell.input_rows)
    dah = dax if same else np.empty((steps, batch, len(cell.rows) * hidden), dtype)  # one, until the halves differ
    # Gradients that are summed up on the way; the others are products over all steps, afterwards.
    sums = {name: np.zeros_like(p) for name, p in w.items() if name not in _PRODUCTS}
    state_type, zero = type(tape.states), dtype.type(0)
    raw = np.empty((steps, batch, len(cell.rows) * hidden), dtype) if cell.normalised else None

    for t in range(steps - 1, -1, -1):
        s, new = state_type(*(f[t] for f in tape.states)), state_type(*(f[t] for f in tape.proposed))
        k = type(tape.gates)(*(g[t] for g in tape.gates))
        live, drop = (None if a is None else a[t] for a in (tape.live, tape.drop))
        d = list(ds)
        d[0] = d[0] + _output(dy[t], live)
        d_old, d = _past_the_cell(d, live, None if tape.keep is None else _at(tape.keep, t), zero)
        if "weight_hr" in w:
            sums["weight_hr"] += d[0].T @ new.h
            d[0] = d[0] @ w["weight_hr"]

        down: Any = state_type(*d)
        for n in range(len(cell.stages) - 1, -1, -1):
            stage, place = cell.stages[n], places[n]
            b = stage.backward(down, k, s, new, **_keywords(cell, w, stage, drop))
            if b.ah is not b.ax and dah is dax:
                dah = dax.copy()
            ax = _whole(b.ax, new[-1])
            ah = ax if b.ah is b.ax else _whole(b.ah, new[-1])
            if stage.inputs:
                np.concatenate(ax, axis=-1, out=dax[t, :, place.inputs])
            if stage.rows and dah is not dax:
                np.concatenate(ah, axis=-1, out=dah[t, :, place.rows])
            d_old = [p + q for p, q in zip(d_old, b.state, strict=True)]
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
            if stage.product:
                if raw is not None:
                    raw[t, :, place.rows] = d_operand
                width = _operand_width(stage, s, hidden)
                d_operand = d_operand @ w["weight_hh"][place.rows, :width]
            for name, part in zip(stage.operand, _blocks(d_operand, len(stage.operand)), strict=True):
                if name in s._fields:
                    d_old[s._fields.index(name)] = d_old[s._fields.index(name)] + part
                else:
                    down = down._replace(**{name: getattr(down, name) + part})
        ds = state_type(*d_old)
    ds = state_type(*(np.broadcast_to(f, g[0].shape) for f, g in zip(ds, tape.states, strict=True)))  # a plain 0

    dx, grads = _parameter_gradients(tape, dax, dah, raw, places)
    return dx, ds, grads | sums


_PRODUCTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "gain_ih")
"""Parameters whose gradients are sums over all steps at once."""


def _operand_width(stage: Stage, s: Any, hidden: int) -> int:
    return sum(getattr(s, name).shape[-1] if name in s._fields else hidden for name in stage.operand or ())


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
    tape: Tape, dax: Array, dah: Array, raw: Array | None, places: list[_Place]
) -> tuple[Array | None, dict[str, Array]]:
    """Sums over all steps and rows of the batch: one large product a weight.

    `dax` and `dah` are the gradients of the pre-activations; `raw` those of the recurrent products, where they are
    normalised first.
    """
    cell, w, x = tape.cell, tape.w, tape.x
    grads = {}
    dx: Array | None = None
    if "bias_ih" in w:
        grads["bias_ih"] = dax.sum(axis=(0, 1))
        grads["bias_hh"] = grads["bias_ih"].copy() if dah is dax else dah.sum(axis=(0, 1))
    if "gain_ih" in w:
        grads["gain_ih"] = (dax * tape.norms["ih"][0]).sum(axis=(0, 1))
        dax = normalise_backward(dax * w["gain_ih"], tape.norms["ih"], _input_groups(cell))
    flat_ax, flat_ah = (a.reshape(-1, a.shape[-1]) for a in (dax, dah if raw is None else raw))
    if x.dtype.kind in "iu":
        grads["weight_ih"] = scatter_add(x.ravel(), flat_ax, w["weight_ih"].shape[1]).T
    else:
        grads["weight_ih"] = flat_ax.T @ x.reshape(-1, x.shape[-1])
        dx = (flat_ax @ w["weight_ih"]).reshape(x.shape)
    if "weight_hh" in w:
        grads["weight_hh"] = np.zeros_like(w["weight_hh"])
        before = type(tape.states)(*(f[:-1] for f in tape.states))
        for stage, place in zip(cell.stages, places, strict=True):
            if stage.operand is not None and stage.product:
                operand = _operand(stage, before, tape.gates)
                operand = operand.reshape(-1, operand.shape[-1])
                grads["weight_hh"][place.rows, : operand.shape[-1]] = flat_ah[:, place.rows].T @ operand
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
