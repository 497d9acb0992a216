"""What a cell makes of its per-unit parameters before a pass, and the gradient of that, which is derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..cells import Cell
from ..cells.cell import signature_of
from ..cells.contract import field_names
from ..errors import Unsupported, brief
from .evaluate import Straight, by_key
from .graph import OPERATIONS, Graph, Symbol
from .reverse import gradients
from .trace import symbols, tracing

PREPARING = OPERATIONS | {"sqrt": "sqrt", "log1p": "log1p", "sin": "sin", "cos": "cos", "absolute": "abs"}
"""What `prepare` may use: it runs once a pass, and never on the engine."""


@dataclass(frozen=True)
class Preparation:
    """What `prepare` makes of the per-unit parameters, and its gradient, each as straight-line code."""

    kind: type[Any]
    graph: Graph
    forward: Straight
    backward: Straight


@lru_cache(maxsize=512)
def preparation(cell: Cell) -> Preparation:
    """Trace a cell's `prepare`, and derive its gradient.

    Raises
    ------
    Unsupported
        If it can't be traced, or gives no named tuple.
    """
    assert cell.prepare is not None
    graph = Graph(operations=PREPARING)
    p = symbols(graph, cell.params, "p")
    with tracing(cell, "prepare", cell.prepare):
        result = cell.prepare(p, **({"c": cell.constants} if "c" in signature_of(cell.prepare) else {}))
        kind = type(result)
        if not field_names(kind):
            raise Unsupported(f"it gives {brief(result)}; expected a named tuple")
        outputs = [graph.number(value) for value in result]
    seeds = [
        (value.node, graph.input(("d", name)))
        for name, value in zip(kind._fields, result, strict=True)
        if isinstance(value, Symbol)
    ]
    back = [graph.number(d) for d in gradients(graph, seeds, [value.node for value in p])]
    return Preparation(kind, graph, Straight(graph, outputs), Straight(graph, back))


def params_type(cell: Cell) -> type[Any] | None:
    """Return the type of what the functions of a cell get as `p=`."""
    return cell.params if cell.prepare is None else preparation(cell).kind


def prepared(cell: Cell, w: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a layer's parameters with what `prepare` makes of the per-unit ones in their place."""
    if cell.prepare is None:
        return w
    assert cell.params is not None
    own, of = w[cell.params_name], preparation(cell)
    return {**w, cell.params_name: _rows(of.forward(by_key(p=cell.params(*own))), own)}


def prepared_backward(cell: Cell, w: Mapping[str, Any], grads: dict[str, Any]) -> dict[str, Any]:
    """Return gradients of a layer's parameters, from those of what `prepared` made of them."""
    if cell.prepare is None:
        return grads
    assert cell.params is not None
    own, of = w[cell.params_name], preparation(cell)
    d = of.kind(*grads[cell.params_name])
    return grads | {cell.params_name: _rows(of.backward(by_key(p=cell.params(*own), d=d)), own)}


def _rows(values: list[Any], like: Any) -> Any:
    """Return numbers a unit as rows (N, H) of an array; one number is that of every unit."""
    dtype = np.result_type(like, *values)
    return np.stack([np.broadcast_to(np.asarray(value, dtype), like.shape[1:]) for value in values])
