"""The weights of a scan's products as the interpreter takes them, and where their gradients go."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from ...cells import Cell
from ...cells.cell import WEIGHT_X
from ...checks import Array
from ...reference import scan
from ...reference.products import heads_of
from .arrays import contiguous, empty, padded_width, zeros
from .bytecode import Plan, StagePlan
from .memory import Memory

INPUTS = "weight_ih", WEIGHT_X
"""Parameters that x is multiplied with, where a layer has them: one product, whose weight has the rows of both."""


def input_weight(w: scan.Params, dtype: Any) -> Array:
    """Return the weight of the inputs' product, (rows, I)."""
    parts = [w[name] for name in INPUTS if name in w]
    return contiguous(parts[0] if len(parts) == 1 else np.concatenate(parts), dtype)


def gradients(w: scan.Params, dtype: Any) -> tuple[dict[str, Array], Array]:
    """Return an array of zeros for the gradient of each parameter, and the one of the inputs' product, as one."""
    rows, (first, columns) = sum(len(w[name]) for name in INPUTS if name in w), w["weight_ih"].shape
    joint = zeros((rows, columns), dtype)
    views = dict(zip(INPUTS, (joint[:first], joint[first:]), strict=True))
    return {name: views[name] if name in views else zeros(p.shape, dtype) for name, p in w.items()}, joint


class Table:
    """A row for every one-hot input: its pre-activations, the columns of the inputs' weight, each block padded."""

    def __init__(self, memory: Memory, symbols: int) -> None:
        plan = memory.plan
        units = [memory.units(plan.fields[n - len(plan.rows)]) for n in plan.inputs.block]
        rows, columns = ([*accumulate(n, initial=0)] for n in (units, [padded_width(u, memory.dtype) for u in units]))
        self.blocks = [
            (slice(*pair), slice(at, at + n)) for pair, at, n in zip(pairwise(rows), columns, units, strict=False)
        ]
        self.numbers = empty((symbols, columns[-1]), memory.dtype)

    def fill(self, weight: Array) -> Array:
        """Take the numbers from a weight."""
        for rows, columns in self.blocks:
            self.numbers[:, columns] = weight[rows].T
        return self.numbers

    def give(self, weight: Array) -> None:
        """Put the numbers into a weight's gradient."""
        for rows, columns in self.blocks:
            weight[rows] = self.numbers[:, columns].T


class Weight(NamedTuple):
    """A stage's weight as the engine takes it, with its gradient; dense, with zeros between the heads."""

    weight: Array | None
    d: Array | None
    heads: int = 1


def recurrent(cell: Cell, w: scan.Params, hidden: int, dtype: Any, grads: dict[str, Array] | None) -> list[Weight]:
    """Return the recurrent weight of each stage; gradients go to `grads`, of heads by way of `gather`."""
    found = []
    for n, (stage, rows) in enumerate(zip(cell.stages, cell.slices("weight_hh", hidden), strict=True)):
        if not stage.owns("weight_hh"):
            found.append(Weight(None, None))
            continue
        weight, d = contiguous(w["weight_hh"], dtype)[rows], grads["weight_hh"][rows] if grads else None
        if cell.heads > 1:
            blocks = list(_blocks(cell, n, weight, hidden))
            weight = zeros((len(weight), _operand_units(cell, n, hidden)), dtype)
            for (out, into), block in blocks:
                weight.reshape(len(stage.rows), -1, weight.shape[1])[:, out, into] = block
            d = None if d is None else empty(weight.shape, dtype)
        found.append(Weight(weight, d, cell.heads))
    return found


def projection(w: scan.Params, grads: dict[str, Array] | None, dtype: Any) -> list[Weight]:
    """Return the weight of the stage that projects h, if there is one."""
    d = None if grads is None else grads.get("weight_hr")
    return [Weight(contiguous(w["weight_hr"], dtype), d)] if "weight_hr" in w else []


def _operand_units(cell: Cell, n: int, hidden: int) -> int:
    return sum(cell.operand_units(n, name, hidden) for name in cell.stages[n].operand or ())


def _blocks(cell: Cell, n: int, weight: Array, hidden: int) -> Iterator[tuple[tuple[slice, slice], Array]]:
    """Yield the blocks of the heads of stage n's weight, as views, with their place among all units."""
    stage = cell.stages[n]
    units = stage.units(hidden)
    for out, into in heads_of(cell, units, _operand_units(cell, n, hidden)):
        yield (out, into), weight.reshape(len(stage.rows), units, -1)[:, out, : into.stop - into.start]


def gather(cell: Cell, grads: dict[str, Array], weights: list[Weight], hidden: int) -> None:
    """Take the gradients of the heads' blocks from those of dense weights."""
    for n, (rows, weight) in enumerate(zip(cell.slices("weight_hh", hidden), weights, strict=True)):
        if weight.d is not None and cell.heads > 1:
            dense = weight.d.reshape(len(cell.stages[n].rows), -1, weight.d.shape[1])
            for place, block in _blocks(cell, n, grads["weight_hh"][rows], hidden):
                block[...] = dense[:, place[0], place[1]]


def stages_of(plan: Plan, weights: list[Weight], inverses: tuple[Array, ...]) -> list[Any]:
    """Return the product of the inputs and the stages, as csrc/bind_interpreter.h takes them."""
    parts = zip((plan.inputs, *plan.stages), weights, inverses, strict=True)
    return [_stage(*each) for each in parts]


def _stage(plan: StagePlan, weight: Weight, inverse: Array) -> tuple[Any, ...]:
    p = plan.program
    program = (p.code, p.fields, p.constants, p.registers)
    fields = (plan.operand, plan.d_operand, plan.block, plan.normalized)
    return (program, *fields, weight.weight, weight.d, plan.group, inverse, plan.overwrite, weight.heads)
