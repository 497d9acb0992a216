"""Symbols that stand for one unit's number, the graph of what is computed with them, and its instructions.

`Symbol` answers NumPy's protocols, so that a function on arrays runs on symbols unchanged. Every operation makes a
node; equal operations make the same node (common subexpressions are computed once); a product that is used once, in a
sum, becomes one fused instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import Unsupported, brief

OPERATIONS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "negative": "neg",
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "tanh": "tanh",
    "maximum": "maximum",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}
"""NumPy's functions that a cell may use, and what the engine calls them."""
HAS = "there are + - * /, comparisons, and exp, log, sqrt, tanh, sigmoid, maximum and where of unrolled.cells.ops"
LEAVES = ("input", "number")
"""Nodes that nothing computes."""
MASKS = ("<", "<=", ">", ">=", "==", "!=")
"""Operations whose results only `select` reads."""


@dataclass
class Graph:
    """Nodes in the order they were made; `nodes[key]` is the number of the node that is `keys[number]`."""

    nodes: dict[tuple[Any, ...], int] = field(default_factory=dict)
    operations: Mapping[str, str] = field(default_factory=lambda: OPERATIONS)
    keys: list[tuple[Any, ...]] = field(default_factory=list)

    def symbol(self, *key: Any) -> Symbol:
        """Return the symbol of an operation, the same one for the same operation."""
        if key not in self.nodes:
            self.nodes[key] = len(self.keys)
            self.keys.append(key)
        return Symbol(self, self.nodes[key])

    def input(self, name: Hashable) -> Symbol:
        """Return the symbol of what is handed in under a name: a text, or data that says more."""
        return self.symbol("input", name)

    def operation(self, op: str, *args: int) -> Symbol:
        """Return the symbol of a ufunc's result: 1 / (1 + exp(-x)) is the kernel `sigmoid`, 1 x is x."""
        keys = self.keys
        if any(keys[a][0] in MASKS for a in args):
            raise Unsupported("a cell's function calculates with a comparison; write where(a > 0, x, 0)")
        if op == "mul" and ("number", 1.0) in (keys[args[0]], keys[args[1]]):
            return Symbol(self, args[1] if keys[args[0]] == ("number", 1.0) else args[0])
        if op == "div" and keys[args[0]] == ("number", 1.0) and keys[args[1]][:2] == ("add", args[0]):
            power = keys[keys[args[1]][2]]
            if power[0] == "exp" and keys[power[1]][0] == "neg":
                return self.symbol("sigmoid", keys[power[1]][1])
        return self.symbol(op, *args)

    def where(self, mask: Any, a: Any, b: Any) -> Any:
        """Return what `numpy.where` gives; of a comparison of plain numbers, the branch that it chooses."""
        if not isinstance(mask, Symbol) and np.ndim(mask) == 0 and np.asarray(mask).dtype == bool:
            return a if mask else b
        return self.select(*(self.number(x) for x in (mask, a, b)))

    def select(self, mask: int, a: int, b: int) -> Symbol:
        """Return the symbol of a where the mask holds, else b."""
        keys = self.keys
        if keys[mask][0] not in MASKS or keys[a][0] in MASKS or keys[b][0] in MASKS:
            raise Unsupported("a cell's function gives numpy.where no comparison; write where(a > 0, x, y)")
        return self.symbol("select", mask, a, b)

    def number(self, value: Any) -> int:
        """Return the node of a symbol of this graph, or of a plain number: also of one in an array without axes."""
        if isinstance(value, Symbol):
            if value.graph is not self:
                raise Unsupported("a cell's function uses a value of another call; it must give the same at every call")
            return value.node
        plain = value.item() if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0 else value
        if isinstance(plain, (int, float)):
            return self.symbol("number", float(plain)).node
        raise Unsupported(f"a cell's function uses {brief(value)}, which is neither a symbol nor a number")


class Symbol(np.lib.mixins.NDArrayOperatorsMixin):
    """One number of a unit, not known yet.

    Examples
    --------
    >>> graph = Graph()
    >>> x = graph.input("x")
    >>> y = np.tanh(x) * np.tanh(x)
    >>> list(graph.nodes)
    [('input', 'x'), ('tanh', 0), ('mul', 1, 1)]
    """

    def __init__(self, graph: Graph, node: int) -> None:
        self.graph, self.node = graph, node

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Symbol:
        """Make the node of a ufunc's call."""
        if method != "__call__" or options or ufunc.__name__ not in self.graph.operations:
            how = ", ".join([method, *(f"{name}=" for name in options)])
            raise Unsupported(f"the engine has no operation for numpy.{ufunc.__name__} ({how}); {HAS}")
        return self.graph.operation(self.graph.operations[ufunc.__name__], *(self.graph.number(x) for x in inputs))

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, options: Any) -> Any:
        """Make the node of `numpy.where`."""
        if function is not np.where or options or len(args) != 3:
            raise Unsupported(f"the engine has no operation for numpy.{function.__name__}; {HAS}")
        return self.graph.where(*args)

    def __bool__(self) -> bool:
        """Refuse what Python would decide once for all units."""
        raise Unsupported("a cell's function asks whether a value is true; write where(a > 0, x, y) instead of if")

    def __getattr__(self, name: str) -> Any:
        """Refuse what an array has and one unit's number has not; what Python itself asks for is just not there."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"a cell's function asks for .{name}, but it sees one unit's number at a time; {HAS}")

    def __getitem__(self, key: Any) -> Any:
        """Refuse a part of a number."""
        raise Unsupported(f"a cell's function takes a part of one unit's number, [{brief(key)}]; {HAS}")

    def __len__(self) -> int:
        """Refuse to count."""
        raise Unsupported(f"a cell's function asks for len, but it sees one unit's number at a time; {HAS}")

    def __float__(self) -> float:
        """Refuse to become a number of Python's, which math's functions ask for."""
        raise Unsupported(f"a cell's function makes a Python number of one unit's (float, the module math); {HAS}")

    __int__ = __index__ = __complex__ = __float__


def instructions(graph: Graph, outputs: Iterable[int], *, fuse: bool = True) -> list[tuple[int, str, tuple[int, ...]]]:
    """Return what computes these nodes, in order, as (node, operation, arguments).

    A product that is used once, in a sum, is fused with it, unless `fuse` is off: then every operation rounds, as
    NumPy's do.

    Examples
    --------
    >>> graph = Graph()
    >>> x, y = graph.input("x"), graph.input("y")
    >>> instructions(graph, [(x * y + x).node])
    [(3, 'fma', (0, 1, 0))]
    """
    keys = list(graph.nodes)
    uses = [0] * len(keys)
    needed = [False] * len(keys)
    for node in outputs:
        needed[node] = True
        uses[node] += 1
    for node in range(len(keys) - 1, -1, -1):
        if needed[node] and keys[node][0] not in LEAVES:
            for arg in keys[node][1:]:
                needed[arg] = True
                uses[arg] += 1

    def product(node: int) -> bool:
        return fuse and keys[node][0] == "mul" and uses[node] == 1

    found: dict[int, tuple[str, tuple[int, ...]]] = {}
    folded: set[int] = set()
    for node, key in enumerate(keys):
        if not needed[node] or key[0] in LEAVES:
            continue
        op, *args = key
        if op in ("add", "sub") and product(args[0]):
            found[node] = "fma" if op == "add" else "fms", (*keys[args[0]][1:], args[1])
            folded.add(args[0])
        elif op in ("add", "sub") and product(args[1]):
            found[node] = "fma" if op == "add" else "fnma", (*keys[args[1]][1:], args[0])
            folded.add(args[1])
        else:
            found[node] = op, tuple(args)
    return [(node, op, args) for node, (op, args) in found.items() if node not in folded]
