"""Arguments of a cell's functions where they run on symbols."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np

from ..cells import Cell
from ..cells.contract import defined_at
from ..errors import Unsupported, brief, raised, said_by
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


def symbols(graph: Graph, kind: type[Any] | None, group: str) -> Any:
    """Return a named tuple of symbols, whose inputs are named (group, field); None of no type."""
    return None if kind is None else kind(*(graph.input((group, name)) for name in kind._fields))


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


_PACKAGE = Path(__file__).parents[1]
_TRACING = _PACKAGE / "backends", _PACKAGE / "codegen", Path(np.__file__).parent
"""Whose lines between the caller's and the cell's say nothing."""


def line_of(error: BaseException) -> str:
    """Return the last line of a cell's own functions that led to an error, or nothing if none did."""
    frames = [(f.f_code.co_filename, number) for f, number in walk_tb(error.__traceback__)]
    theirs = [at for at in frames if not any(Path(at[0]).is_relative_to(folder) for folder in _TRACING)]
    own = [at for at in theirs if not Path(at[0]).is_relative_to(_PACKAGE)] or theirs
    return f" ({own[-1][0]}, line {own[-1][1]})" if own else ""


@contextmanager
def tracing(cell: Cell, what: str, function: Callable[..., Any]) -> Iterator[None]:
    """Turn whatever a function of a cell raises on symbols into one line that says where.

    Raises
    ------
    Unsupported
        For any exception but KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's functions may raise anything on a symbol, and ask Python to end
        line = line_of(error) or defined_at(function)
        said = said_by(error) if isinstance(error, Unsupported) else f"it raised {raised(error)}"
        raise Unsupported(f"cell {brief(cell.name)}: {what} can't be traced: {said}{line}") from error
