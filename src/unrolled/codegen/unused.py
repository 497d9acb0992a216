"""What a cell has and nothing reads: it would cost parameters and time, and change nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ..cells import Cell
from ..cells.contract import defined_at
from .evaluate import Key, Straight
from .prepare import preparation
from .traced import derivation


def unused(cell: Cell) -> list[str]:
    """Return what neither the new state nor a product depends on, a sentence each.

    Raises
    ------
    Unsupported
        If a function can't be traced.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> [name for name, cell in CELLS.items() if unused(cell)]
    []
    """
    return [*_rows(cell, reads := _reads(cell)), *_units(cell, reads), *_state(cell, reads)]


def _reads(cell: Cell) -> list[set[Key]]:
    """Return what each stage reads for the sake of the new state, or of a value that something reads."""
    reads: list[set[Key]] = [set() for _ in cell.stages]
    for n in range(len(cell.stages) - 1, -1, -1):
        of = derivation(cell)[n]
        values = of.result[0] if n + 1 == len(cell.stages) else of.result
        if n + 1 < len(cell.stages):
            operands = cell.stages[n + 1].operand or ()
            fields = zip(type(values)._fields, values, strict=True)
            values = [v for name, v in fields if name in operands or ("values", name) in reads[n + 1]]
        reads[n] = set(Straight(of.graph, map(of.graph.number, values)).reads.values())
    return reads


def _rows(cell: Cell, reads: list[set[Key]]) -> Iterator[str]:
    """Yield which rows have a product that nothing reads."""
    for stage, read in zip(cell.stages, reads, strict=True):
        for i, row in enumerate(stage.rows if stage.product else ()):
            away = [half for half, has in (("ax", stage.inputs), ("ah", i < stage.blocks)) if has]
            away = [half for half in away if (half, i) not in read]
            advice = {
                "ax": "move it to a stage with inputs=False",
                "ah": "move it to a stage with operand=None, biases=('ih',)",
            }
            if len(away) == bool(stage.inputs) + (i < stage.blocks):
                yield f"row {row} is read by nothing; take it out of rows{defined_at(stage.forward)}"
            elif away:
                yield f"{away[0]}[{i}] of row {row} is read by nothing; {advice[away[0]]}{defined_at(stage.forward)}"


def _units(cell: Cell, reads: list[set[Key]]) -> Iterator[str]:
    """Yield which per-unit parameters nothing reads, and which of x and time a stage asks for in vain."""
    read = {key for keys in reads for key in keys}
    function = cell.stages[0].forward
    if cell.prepare is not None and cell.params is not None:
        of, function = preparation(cell), cell.prepare
        outputs = zip(of.kind._fields, of.forward.outputs, strict=True)
        live = [node for name, node in outputs if ("p", name) in read]
        read = set(Straight(of.graph, live).reads.values())
    for name in cell.param_fields:
        if ("p", name) not in read:
            yield f"{cell.params_name}.{name} is read by nothing; take it out of params{defined_at(function)}"
    for stage, keys in zip(cell.stages, reads, strict=True):
        for name in sorted(stage.sees):
            if (name,) not in keys:
                yield f"{name}= is asked for and not read; take it out of the parameters{defined_at(stage.forward)}"


def _state(cell: Cell, reads: list[set[Key]]) -> Iterator[str]:
    """Yield which fields of the state, besides h, no later step reads."""
    operands = {name for stage in cell.stages for name in stage.operand or ()}
    for name in cell.state_fields[1:]:
        if name not in operands and not any(("s", name) in read for read in reads):
            where = defined_at(cell.stages[-1].forward)
            yield f"the state's {name} is read by no later step; take it out, or put it in the gates to look at{where}"
