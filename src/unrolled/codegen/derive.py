"""A cell with all that a backend needs: where a stage has no backward function, the one that follows from its forward.

A stage's forward function is traced, its gradient derived (reverse.py), and what that reads beyond the state, the
gates and the parameters is what the tape keeps more. What comes out is a cell like any other: its functions are
straight lines of NumPy's operations, and run on real arrays, on complex ones, and on the symbols of another graph.
"""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

from ..cells import Back, Cell, Stage
from .evaluate import Straight, by_key
from .graph import Symbol
from .prepare import params_type, prepared, prepared_backward
from .traced import Derived, derivation, flat

__all__ = ["complete", "prepared", "prepared_backward"]


@lru_cache(maxsize=512)
def complete(cell: Cell) -> Cell:
    """Return a cell whose stages all have a backward function; the cell itself where nothing is missing.

    A derived stage keeps more than the gates where its backward function needs it (`Stage.keeps`). A completed cell has
    no `prepare`: its per-unit parameters are what that gives (`prepared`).

    Raises
    ------
    Unsupported
        If a function that something must be derived of can't be traced; the message says why, and at which line.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> from unrolled.cells.ops import tanh
    >>> from unrolled.cells.rnn import Gates, State
    >>> leaky = Stage(("h",), lambda ax, ah, s: (State(0.9 * s.h + 0.1 * tanh(ax[0] + ah[0])), Gates()))
    >>> complete(Cell("leaky", State, Gates, (leaky,))).stages[0].keeps._fields
    ('tanh_h',)
    >>> complete(CELLS["lstm"]) is CELLS["lstm"]
    True
    """
    given = all(stage.backward is not None for stage in cell.stages)
    if given and cell.prepare is None:
        return cell
    stages = cell.stages
    if not given:
        stages = tuple(_completed(cell, *pair) for pair in zip(cell.stages, derivation(cell), strict=True))
    return replace(cell, stages=stages, params=params_type(cell), prepare=None, initial=())


def _completed(cell: Cell, stage: Stage, of: Derived) -> Stage:
    """Return a stage with a derived backward function; or with its own one, and what the tape must keep of it."""
    keeps = _kept_type(of.keeps) if stage.backward is None else _kept_type(of.operands)
    if stage.backward is not None:
        return stage if keeps is None else _with_operands(stage, keeps)
    forward, backward = _forward(cell, stage, of, keeps), _backward(cell, stage, of)
    return replace(stage, forward=forward, backward=backward, keeps=keeps)


def _kept_type(names: Iterable[str]) -> type[Any] | None:
    """Return the named tuple of what the tape keeps beside the gates; None of nothing."""
    fields = tuple(names)
    return namedtuple("Kept", fields) if fields else None


def _with_operands(stage: Stage, keeps: type[Any]) -> Stage:
    """Return a stage that keeps operands of the next one, and has its own functions otherwise."""

    def forward(*args: Any, **given: Any) -> Any:
        values = stage.forward(*args, **given)
        return values, keeps(*(getattr(values, name) for name in keeps._fields))

    def backward(*args: Any, kept: Any, **given: Any) -> Any:
        assert stage.backward is not None
        return stage.backward(*args, **given)

    return replace(
        stage,
        forward=_signed(forward, _parameters(stage.forward)),
        backward=_signed(backward, [*_parameters(stage.backward), _keyword("kept")]),
        keeps=keeps,
    )


def _forward(cell: Cell, stage: Stage, of: Derived, keeps: type[Any] | None) -> Callable[..., Any]:
    """Return a function that computes what a stage's own does, and what is kept."""
    last = stage is cell.stages[-1]
    kinds = (cell.state, cell.gates) if last else (type(of.result),)
    results = [of.graph.number(value) for part in (of.result if last else (of.result,)) for value in part]
    code = Straight(of.graph, [*results, *of.keeps.values()])

    def forward(ax: Any, ah: Any, s: Any, **given: Any) -> Any:
        found = iter(code(by_key(ax=ax, ah=ah, s=s, values=given.pop("k", None), **given)))
        parts = tuple(kind(*islice(found, len(kind._fields))) for kind in kinds)
        result = parts if last else parts[0]
        return result if keeps is None else (result, keeps(*found))

    return _signed(forward, _parameters(stage.forward))


def _backward(cell: Cell, stage: Stage, of: Derived) -> Callable[..., Back]:
    """Return the derived function, which takes what the stage's forward function takes by name, and what is kept."""
    nodes = [leaf.node for leaf in flat(of.back) if isinstance(leaf, Symbol)]
    code = Straight(of.graph, nodes, of.there)

    def backward(d: Any, k: Any, s: Any, new: Any, **given: Any) -> Back:
        found = dict(zip(nodes, code(by_key(d=d, k=k, s=s, new=new, **given)), strict=True))
        back = Back(*(_filled(part, found) for part in of.back))
        return back._replace(ah=back.ax) if of.back.ah is of.back.ax else back

    first = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("d", "k", "s", "new")]
    more = ["p"] * (params_type(cell) is not None and stage.width == 1) + ["c"] * (cell.settings is not None)
    more += [*sorted(stage.sees), *["kept"] * bool(of.keeps)]
    held = [_keyword("m").replace(default=1)] * (bool(cell.candidate) and cell.candidate in stage.rows)
    return _signed(backward, [*first, *map(_keyword, more), *held])


def _filled(tree: Any, found: Mapping[int, Any]) -> Any:
    """Return nested tuples with values in the place of symbols."""
    if isinstance(tree, tuple):
        leaves = [_filled(leaf, found) for leaf in tree]
        return type(tree)(*leaves) if hasattr(tree, "_fields") else tuple(leaves)
    return found[tree.node] if isinstance(tree, Symbol) else tree


def _parameters(function: Callable[..., Any] | None) -> list[inspect.Parameter]:
    assert function is not None
    return list(inspect.signature(function).parameters.values())


def _keyword(name: str) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)


def _signed(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> Callable[..., Any]:
    """Give a function the signature that the scan asks it for."""
    rest = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    parameters = [p for p in parameters if p not in rest] + rest
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function
