"""What stands around a cell's functions: products, normalised rows, heads, and their gradients.

Letters as in `unrolled.reference.scan`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..cells import Cell, Stage
from ..cells.cell import ROWED, WEIGHT_X
from ..checks import Array
from .operands import operand as read

Params = Mapping[str, Array]

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


def input_groups(cell: Cell) -> tuple[int, ...]:
    """Return how many blocks of ax, in order, are normalised together."""
    return tuple(n for stage in cell.stages if stage.inputs for n in stage.norm)


def input_product(
    cell: Cell, w: Params, x: Array, rounds: bool = False
) -> tuple[Array, dict[str, tuple[Array, Array]]]:
    """x Wih^T + bih for all steps at once, (T, B, I) -> (T, B, R H), normalised where the cell says so.

    Integers (T, B) pick columns of Wih.
    """
    norms = {}
    if x.dtype.kind in "iu":
        ax = w["weight_ih"].T[x]
    else:
        ax = (read(x.reshape(-1, x.shape[-1]), rounds) @ w["weight_ih"].T).reshape(*x.shape[:-1], len(w["weight_ih"]))
    if "gain_ih" in w:
        norms["ih"] = normalise(ax, input_groups(cell))
        ax = norms["ih"][0] * w["gain_ih"]
    if "bias_ih" in w:
        bias = w["bias_ih"]
        if len(bias) < ax.shape[-1]:  # some stages have none
            own, hidden = np.zeros(ax.shape[-1], bias.dtype), _hidden(cell, ax.shape[-1])
            for rows, part in zip(cell.slices("weight_ih", hidden), cell.slices("bias_ih", hidden), strict=True):
                own[rows.start : rows.start + part.stop - part.start] = bias[part]
            bias = own
        ax = ax + bias
    return ax, norms


def _hidden(cell: Cell, rows: int) -> int:
    """Return H of a layer whose input weights have so many rows."""
    return next(h for h in range(1, rows + 1) if cell.slices("weight_ih", h)[-1].stop == rows)


def seen(cell: Cell, w: Params, x: Array, hidden: int, dtype: Any, rounds: bool = False) -> Array | None:
    """Return what a cell's functions get as `x=` at all steps, (T, B, H): x, or its product with `weight_x`."""
    if not cell.sees_x:
        return None
    tokens = x.dtype.kind in "iu"
    if WEIGHT_X not in w:
        return np.eye(hidden, dtype=dtype)[x] if tokens else x
    product: Array = w[WEIGHT_X].T[x] if tokens else read(x, rounds) @ w[WEIGHT_X].T
    return product


def blocks_of(a: Array, count: int) -> tuple[Array, ...]:
    """(B, count H) -> `count` views (B, H)."""
    return tuple(np.split(a, count, axis=-1)) if count > 1 else (a,) * count


@dataclass(frozen=True)
class Place:
    """Where a stage's rows stand: among all rows, and in the parameters by their names."""

    rows: slice
    of: Mapping[str, slice]
    units: int
    gain: str
    bias: str

    @property
    def inputs(self) -> slice:
        """Its rows of `weight_ih`, and of `ax`."""
        return self.of["weight_ih"]

    def part(self, w: Params, name: str) -> Any:
        """Return the gain or bias of these rows."""
        return w[name][self.of[name]] if name in self.of else w[name]

    def has_bias(self, w: Params) -> bool:
        """Whether a bias is added to its product."""
        return self.bias in w and (self.bias not in self.of or self.of[self.bias].stop > self.of[self.bias].start)


@lru_cache(maxsize=256)  # asked for at every step
def places_of(cell: Cell, hidden: int) -> tuple[Place, ...]:
    """One a stage."""
    places, row = [], 0
    for n, stage in enumerate(cell.stages):
        size = len(stage.rows) * stage.units(hidden)
        own = "hh" if stage.product else (stage.operand or ("",))[0]
        of = {name: cell.slices(name, hidden)[n] for name in ROWED}
        places.append(Place(slice(row, row + size), of, stage.units(hidden), f"gain_{own}", f"bias_{own}"))
        row += size
    return tuple(places)


def operands_of(stage: Stage, s: Any, *values: Any) -> list[Array]:
    """Return the elementwise operands of a stage's product, each (B, units): state fields, or earlier values."""
    sources = [source for source in (s, *values) if source is not None]
    return [next(getattr(a, name) for a in sources if name in a._fields) for name in stage.operand or ()]


def beside(parts: Sequence[Array]) -> Array:
    """Return arrays side by side."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def heads_of(cell: Cell, out: int, into: int) -> Iterator[tuple[slice, slice]]:
    """Yield the units of each head, of a product's result and of its operand; the last ones may have fewer, or none."""
    ends = [[min(n * cell.head(units), units) for n in range(cell.heads + 1)] for units in (out, into)]
    for n in range(cell.heads):
        yield slice(*ends[0][n : n + 2]), slice(*ends[1][n : n + 2])


def product(cell: Cell, operand: Array, weight: Array, units: int, rounds: bool = False) -> Array:
    """operand (..., K) weight^T -> (..., rows units): of the whole, or of each head's own units.

    Here and in `product_backward`, the weight is rounded already where products round (`operands.matrices`).
    """
    operand = read(operand, rounds)
    if cell.heads == 1:
        whole: Array = operand @ weight[:, : operand.shape[-1]].T
        return whole
    blocks = weight.reshape(-1, units, weight.shape[-1])
    result = np.zeros((*operand.shape[:-1], *blocks.shape[:2]), np.result_type(operand, weight))
    for out, into in heads_of(cell, units, operand.shape[-1]):
        mine = operand[..., into]
        result[..., out] = np.einsum("...k,rok->...ro", mine, blocks[:, out, : mine.shape[-1]])
    return result.reshape(*operand.shape[:-1], len(weight))


def product_backward(cell: Cell, d: Array, weight: Array, units: int, width: int, rounds: bool = False) -> Array:
    """Gradient (..., K) of the operand, from that of the product (..., rows units)."""
    d = read(d, rounds)
    if cell.heads == 1:
        whole: Array = d @ weight[:, :width]
        return whole
    blocks, d = weight.reshape(-1, units, weight.shape[-1]), d.reshape(*d.shape[:-1], d.shape[-1] // units, units)
    result = np.zeros((*d.shape[:-2], width), np.result_type(d, weight))
    for out, into in heads_of(cell, units, width):
        part = np.einsum("...ro,rok->...k", d[..., out], blocks[:, out, : into.stop - into.start])
        result[..., into] = part
    return result


def weight_gradient(cell: Cell, out: Array, d: Array, operand: Array, units: int, rounds: bool = False) -> None:
    """Write the gradient of a weight into `out`, of products (N, rows units) and operands (N, K)."""
    d, operand = read(d, rounds), read(operand, rounds)
    if cell.heads == 1:
        out[:, : operand.shape[-1]] = d.T @ operand
        return
    blocks, d = out.reshape(-1, units, out.shape[-1]), d.reshape(len(d), d.shape[-1] // units, units)
    for to, into in heads_of(cell, units, operand.shape[-1]):
        blocks[:, to, : into.stop - into.start] = np.einsum("nro,nk->rok", d[..., to], operand[:, into])


def bias_gradient(d: Array, rows: Sequence[tuple[slice, slice]]) -> Array:
    """Sum over steps and rows of the batch, of the blocks (from, to) that a bias has."""
    total = d.sum(axis=(0, 1))
    parts = [total[at.start : at.start + of.stop - of.start] for at, of in rows]
    whole: Array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return whole


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
