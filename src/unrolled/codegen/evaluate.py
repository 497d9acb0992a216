"""What was traced, run again on anything: real arrays, complex ones, symbols of another graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..cells.ops import sigmoid
from .graph import LEAVES, Graph


def absolute(x: Any) -> Any:
    """Return |x|; of a complex x, that of its real part with the sign on both, as a complex step needs it.

    Examples
    --------
    >>> absolute(np.array([-2 + 1j, 2 + 1j]))
    array([2.-1.j, 2.+1.j])
    """
    return np.where(x < 0, -x, x) if np.iscomplexobj(x) else np.abs(x)


def log1p(x: Any) -> Any:
    """Return log(1 + x); of a complex x, whose real part NumPy's rounds as that of 1 + x, with all its digits.

    Examples
    --------
    >>> log1p(np.array([1e-9 + 1e-30j])).real
    array([1.e-09])
    """
    if not np.iscomplexobj(x):
        return np.log1p(x)
    return np.log1p(x.real * (2 + x.real) + x.imag * x.imag) / 2 + 1j * np.arctan2(x.imag, 1 + x.real)


Key = tuple[Any, ...]
"""What a function is given: the argument, and which part of it: ("ax", 0), ("s", "c"), ("m",)."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "sigmoid": sigmoid,
    "maximum": np.maximum,
    "select": np.where,
    "abs": absolute,
    "log1p": log1p,
    "sin": np.sin,
    "cos": np.cos,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
"""What each operation of a graph is; Python's operators, for they leave a plain number one that takes any precision."""


class Straight:
    """Straight-line code: the nodes of a graph that some outputs need, in order.

    Examples
    --------
    >>> graph = Graph()
    >>> x, y = graph.input("x"), graph.input("y")
    >>> Straight(graph, [(x * y + 1).node])({"x": 3, "y": 4})
    [13.0]
    """

    def __init__(self, graph: Graph, outputs: Iterable[int], there: Mapping[int, Hashable] | None = None) -> None:
        """Take the outputs; nodes that are `there` are read under the name they have there, not computed."""
        keys = list(graph.nodes)
        self.outputs = list(outputs)
        named = dict(there or {})
        waiting, needed = list(self.outputs), set[int]()
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting += () if node in named or keys[node][0] in LEAVES else keys[node][1:]
        named |= {node: keys[node][1] for node in needed if node not in named and keys[node][0] == "input"}
        self.reads: dict[int, Any] = {node: named[node] for node in sorted(needed) if node in named}
        self.numbers = {node: keys[node][1] for node in needed if node not in named and keys[node][0] == "number"}
        self.steps: list[tuple[int, str, Sequence[int]]] = [
            (node, keys[node][0], keys[node][1:])
            for node in sorted(needed)
            if node not in named and keys[node][0] not in LEAVES
        ]

    def __call__(self, given: Mapping[Any, Any]) -> list[Any]:
        """Return the outputs, from the values of what is read by name."""
        values = self.numbers | {node: given[name] for node, name in self.reads.items()}
        for node, op, args in self.steps:
            values[node] = FUNCTIONS[op](*(values[a] for a in args))
        return [values[node] for node in self.outputs]


def by_key(**given: Any) -> dict[Key, Any]:
    """Return what a function is given by key: the fields of a named tuple by their names, of another by number.

    Examples
    --------
    >>> by_key(ax=(5, 6), m=0.5)
    {('m',): 0.5, ('dt',): 1, ('ax', 0): 5, ('ax', 1): 6}
    """
    found: dict[Key, Any] = {("m",): 1, ("dt",): 1}
    for name, value in given.items():
        if not isinstance(value, (tuple, list)):
            found[name,] = value
            continue
        fields = getattr(value, "_fields", range(len(value)))
        found |= {(name, field): part for field, part in zip(fields, value, strict=True)}
    return found
