"""Arguments of a cell's functions where they run on symbols."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from ..cells import Cell
from .graph import Graph


def filled(graph: Graph, kind: type[Any], name: Callable[[int], Hashable]) -> Any:
    """Return a named tuple of that type, filled with inputs; `name` gives each its name, by its number.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> graph = Graph()
    >>> filled(graph, CELLS["lstm"].state, "s[{}]".format).c.node, list(graph.nodes)
    (1, [('input', 's[0]'), ('input', 's[1]')])
    """
    return kind(*(graph.input(name(i)) for i in range(len(kind._fields))))


def handed_on(cell: Cell, n: int, graph: Graph, s: Any, params: dict[str, Any]) -> type[Any]:
    """Return the type of the values that stage n hands to the next, found by running it on symbols that nothing reads.

    `params` are the keywords `p=` and `c=`, as far as the cell has them.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> cell, graph = CELLS["gru_reset_before"], Graph()
    >>> handed_on(cell, 0, graph, filled(graph, cell.state, "s[{}]".format), {})._fields
    ('r', 'z', 'rh')
    """
    stage = cell.stages[n]
    blocks = tuple(graph.input(("block", i)) for i in range(max(len(stage.rows), stage.blocks)))
    values = {"k": filled(graph, handed_on(cell, n - 1, graph, s, params), lambda i: ("value", i))} if n else {}
    ax, ah = blocks[: len(stage.rows) * stage.inputs], blocks[: stage.blocks]
    extra = {name: graph.input((name, n)) for name in stage.sees}
    given = {name: value for name, value in params.items() if name != "p" or stage.width == 1}
    result = stage.forward(ax, ah, s if stage.width == 1 else None, **values, **given, **extra)
    return type(result[0] if stage.keeps else result)
