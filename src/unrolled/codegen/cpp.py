"""Writes the engine's elementwise kernels: each cell's own functions, run on symbols, give the text of C++.

`Symbol` answers NumPy's protocols, so a cell's `forward` and `backward` run on symbols unchanged. Every operation makes
a node; equal operations make the same node (common subexpressions are computed once); a product that is used once, in a
sum, becomes one fused instruction. `python -m unrolled.codegen.cpp` writes the text of all cells,
`python -m unrolled.codegen.cpp --check` fails if the committed text is not what the cells say today.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..cells import CELLS, Cell, Stage
from ..errors import Unsupported, brief

TEXT = Path(__file__).parents[1] / "backends" / "cpu" / "csrc" / "emitted" / "cells.inc"
MAX_ROWS, MAX_STATES, MAX_GATES = 8, 4, 8
"""What the engine's tiles and buffers have room for."""

_UFUNCS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "negative": "neg",
    "exp": "exp",
    "log": "log",
    "tanh": "tanh",
    "maximum": "maximum",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}
HAS = "there are + - * /, comparisons, and numpy's exp, log, tanh, maximum and where"
LEAVES = ("input", "number")
"""Nodes that nothing computes."""
MASKS = ("<", "<=", ">", ">=", "==", "!=")
"""Operations whose results only `select` reads."""
_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", **{op: op for op in MASKS}}


@dataclass
class Graph:
    """Nodes in the order they were made; `nodes[key]` is the number of the node that computes `key`."""

    nodes: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def symbol(self, *key: Any) -> Symbol:
        """Return the symbol of an operation, the same one for the same operation."""
        return Symbol(self, self.nodes.setdefault(key, len(self.nodes)))

    def operation(self, op: str, *args: int) -> Symbol:
        """Return the symbol of a ufunc's result: 1 / (1 + exp(-x)) is the kernel `sigmoid`, 1 x is x."""
        keys = list(self.nodes)
        if any(keys[a][0] in MASKS for a in args):
            raise Unsupported("a cell's function calculates with a comparison; write where(a > 0, x, 0)")
        if op == "mul" and ("number", 1.0) in (keys[args[0]], keys[args[1]]):
            return Symbol(self, args[1] if keys[args[0]] == ("number", 1.0) else args[0])
        if op == "div" and keys[args[0]] == ("number", 1.0) and keys[args[1]][:2] == ("add", args[0]):
            power = keys[keys[args[1]][2]]
            if power[0] == "exp" and keys[power[1]][0] == "neg":
                return self.symbol("sigmoid", keys[power[1]][1])
        return self.symbol(op, *args)

    def select(self, mask: int, a: int, b: int) -> Symbol:
        """Return the symbol of a where the mask holds, else b."""
        keys = list(self.nodes)
        if keys[mask][0] not in MASKS or keys[a][0] in MASKS or keys[b][0] in MASKS:
            raise Unsupported("a cell's function gives numpy.where no comparison; write where(a > 0, x, y)")
        return self.symbol("select", mask, a, b)

    def number(self, value: Any) -> int:
        """Return the node of a symbol or of a plain number."""
        if isinstance(value, Symbol):
            return value.node
        if isinstance(value, (int, float, np.integer, np.floating)):
            return self.symbol("number", float(value)).node
        raise Unsupported(f"a cell's function uses {brief(value)}, which is neither a symbol nor a number")


class Symbol(np.lib.mixins.NDArrayOperatorsMixin):
    """One number of a unit, not known yet.

    Examples
    --------
    >>> graph = Graph()
    >>> x = graph.symbol("input", "x")
    >>> y = np.tanh(x) * np.tanh(x)
    >>> list(graph.nodes)
    [('input', 'x'), ('tanh', 0), ('mul', 1, 1)]
    """

    def __init__(self, graph: Graph, node: int) -> None:
        self.graph, self.node = graph, node

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Symbol:
        """Make the node of a ufunc's call."""
        if method != "__call__" or options or ufunc.__name__ not in _UFUNCS:
            how = ", ".join([method, *(f"{name}=" for name in options)])
            raise Unsupported(f"the engine has no operation for numpy.{ufunc.__name__} ({how}); {HAS}")
        return self.graph.operation(_UFUNCS[ufunc.__name__], *(self.graph.number(x) for x in inputs))

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, options: Any) -> Symbol:
        """Make the node of `numpy.where`."""
        if function is not np.where or options or len(args) != 3:
            raise Unsupported(f"the engine has no operation for numpy.{function.__name__}; {HAS}")
        return self.graph.select(*(self.graph.number(x) for x in args))

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


def instructions(graph: Graph, outputs: Iterable[int]) -> list[tuple[int, str, tuple[int, ...]]]:
    """What computes these nodes, in order: (node, operation, arguments). A product used once, in a sum, is fused.

    Examples
    --------
    >>> graph = Graph()
    >>> x, y = graph.symbol("input", "x"), graph.symbol("input", "y")
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
        return keys[node][0] == "mul" and uses[node] == 1

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


def _expressions(graph: Graph, outputs: list[tuple[str, int]]) -> list[str]:
    """C++ lines that compute the outputs, each a (target, node)."""
    keys = list(graph.nodes)

    def name(node: int) -> str:
        kind = keys[node][0]
        if kind == "input":
            return str(keys[node][1])
        return f"splat<V>({keys[node][1]!r})" if kind == "number" else f"t{node}"

    def text(op: str, *names: str) -> str:
        if op in _INFIX:
            return f"{names[0]} {_INFIX[op]} {names[1]}"
        return f"-{names[0]}" if op == "neg" else f"{op}({', '.join(names)})"

    lines = [
        f"const auto t{node} = {text(op, *map(name, args))};"
        for node, op, args in instructions(graph, [node for _, node in outputs])
    ]
    return lines + [f"{target} = {name(node)};" for target, node in outputs]


def _inputs(graph: Graph, kind: type[Any] | None, array: str) -> Any:
    """Return the named tuple of the symbols array[0], array[1], ..."""
    assert kind is not None
    return kind(*(graph.symbol("input", f"{array}[{n}]") for n in range(len(kind._fields))))


def _earlier(cell: Cell, n: int, graph: Graph, s: Any, extra: dict[str, Any]) -> Any:
    """Return the values that the stage before `n` hands on: their type, filled with symbols."""
    stage = cell.stages[n - 1]
    blocks = tuple(graph.symbol("input", f"unused[{i}]") for i in range(len(stage.rows)))
    before = {"k": _earlier(cell, n - 1, graph, s, extra)} if n > 1 else {}
    return _inputs(graph, type(stage.forward(blocks, blocks, s, **before, **extra)), "earlier")


def _symbols(graph: Graph, cell: Cell) -> tuple[Any, dict[str, Any]]:
    extra = {} if cell.params is None else {"p": _inputs(graph, cell.params, "p")}
    return _inputs(graph, cell.state, "s"), extra


def _rows(graph: Graph, stage: Stage, array: str) -> tuple[Symbol, ...]:
    return tuple(graph.symbol("input", f"{array}[{i}]") for i in range(len(stage.rows)))


def _targets(graph: Graph, array: str, values: Iterable[Any]) -> list[tuple[str, int]]:
    return [(f"{array}[{i}]", graph.number(v)) for i, v in enumerate(values)]


def _forward(cell: Cell, n: int) -> list[str]:
    graph, stage = Graph(), cell.stages[n]
    s, extra = _symbols(graph, cell)
    before = {"k": _earlier(cell, n, graph, s, extra)} if n else {}
    result = stage.forward(_rows(graph, stage, "ax"), _rows(graph, stage, "ah"), s, **before, **extra)
    if n + 1 < len(cell.stages):
        return _expressions(graph, _targets(graph, "out", result))
    new, gates = result
    return _expressions(graph, _targets(graph, "out", new) + _targets(graph, "gates", gates))


def _values(cell: Cell, n: int) -> tuple[str, ...]:
    """Names of what stage n hands to the next."""
    if n + 1 == len(cell.stages):
        return ()
    graph = Graph()
    s, extra = _symbols(graph, cell)
    fields: tuple[str, ...] = _earlier(cell, n + 1, graph, s, extra)._fields
    return fields


def _backward(cell: Cell, n: int) -> tuple[list[str], bool]:
    """C++ lines, and whether the two halves of the pre-activations have gradients of their own."""
    graph, stage = Graph(), cell.stages[n]
    s, extra = _symbols(graph, cell)
    last = n + 1 == len(cell.stages)
    d = _inputs(graph, cell.state, "d") if last else _earlier(cell, n + 1, graph, s, extra)
    if not last:
        d = _inputs(graph, type(d), "d")
    b = stage.backward(d, _inputs(graph, cell.gates, "gates"), s, _inputs(graph, cell.state, "next"), **extra)
    split = b.ah is not b.ax
    outputs = _targets(graph, "dax", b.ax) + (_targets(graph, "dah", b.ah) if split else [])
    outputs += _targets(graph, "ds", b.state)
    outputs += _targets(graph, "dearlier", b.values) if n else []
    outputs += _targets(graph, "dp", b.params) if cell.params is not None else []
    return _expressions(graph, outputs), split


def _numbers(values: Iterable[int], size: int) -> str:
    padded = [*values]
    padded += [0] * (size - len(padded))
    return "{" + ", ".join(str(v) for v in padded) + "}"


def emit_cell(cell: Cell) -> str:
    """Return the C++ traits of a cell: its sizes, and its functions as straight lines of vector operations.

    Raises
    ------
    Unsupported
        If a function of the cell uses something that the emitter has no kernel for, or the cell is larger than the
        engine's buffers.
    """
    stages, states = len(cell.stages), len(cell.state_fields)
    if cell.normalised or cell.input_rows != cell.rows:
        raise Unsupported(f"{cell.name} normalises rows, or has rows that do not see x: the engine has no room for it")
    gates = cell.gate_fields
    if len(cell.rows) > MAX_ROWS or states > MAX_STATES or len(gates) > MAX_GATES:
        raise Unsupported(f"{cell.name} has more than {MAX_ROWS} rows, {MAX_STATES} states or {MAX_GATES} gates")
    rows = [len(stage.rows) for stage in cell.stages]
    values = [_values(cell, n) for n in range(stages)]
    most_values = max(len(v) for v in values)
    most_operands = max(1, cell.operand_width)
    operands = []
    value_gates = [0] * max(1, most_values)
    for n, stage in enumerate(cell.stages):
        numbers = []
        for name in stage.operand or ():
            if name in cell.state_fields:
                numbers.append(cell.state_fields.index(name))
            else:
                index = values[n - 1].index(name)
                value_gates[index] = gates.index(name)
                numbers.append(states + index)
        operands.append(numbers)
    back = [_backward(cell, n) for n in range(stages)]
    ints = "static constexpr int"
    lines = [
        f"struct {cell.name} {{  // {cell.paper}",
        f'static constexpr const char* name = "{cell.name}";',
        f"{ints} STAGES = {stages}, STATES = {states}, GATES = {len(gates)}, ROWS = {sum(rows)};",
        f"{ints} PARAMS = {len(cell.param_fields)};",
        f"{ints} MAX_VALUES = {most_values}, MAX_OPERANDS = {most_operands}, OPERAND_WIDTH = {cell.operand_width};",
        f"static constexpr bool SPLIT = {str(any(split for _, split in back)).lower()};",
        f"{ints} rows[] = {_numbers(rows, 1)}, row_start[] = {_numbers(np.cumsum([0, *rows])[:-1], 1)};",
        f"{ints} values[] = {_numbers(map(len, values), 1)}, value_gate[] = {_numbers(value_gates, 1)};",
        f"{ints} operands[] = {_numbers(map(len, operands), 1)};",
        f"{ints} operand[][MAX_OPERANDS] = {{{', '.join(_numbers(o, most_operands) for o in operands)}}};",
        "",
        "template <int S, class V>",
        "INLINE void forward(const V* ax, const V* ah, const V* s, const V* earlier, const V* p, V* out, V* gates) {",
        "(void)ax, (void)ah, (void)s, (void)earlier, (void)p, (void)out, (void)gates;",
    ]
    for n in range(stages):
        lines += [f"if constexpr (S == {n}) {{", *_forward(cell, n), "}"]
    lines += [
        "}",
        "",
        "template <int S, class V>",
        "INLINE void backward(const V* d, const V* gates, const V* s, const V* next, const V* p,",
        "    V* dax, V* dah, V* ds, V* dearlier, V* dp) {",
        "(void)d, (void)gates, (void)s, (void)next, (void)p, (void)dax, (void)dah, (void)ds, (void)dearlier, (void)dp;",
    ]
    whole = any(split for _, split in back)
    for n, (body, split) in enumerate(back):
        same = [f"dah[{i}] = dax[{i}];" for i in range(rows[n])] if whole and not split else []
        lines += [f"if constexpr (S == {n}) {{", *body, *same, "}"]
    lines += ["}", "};"]
    text, depth = [], 0
    for line in lines:
        depth -= line.startswith("}")
        text.append("  " * depth + line if line else line)
        depth += line.split("  //")[0].endswith("{")
    return "\n".join(text) + "\n"


EMITTED = (
    "rnn_tanh",
    "rnn_relu",
    "lstm",
    "lstm_peephole",
    "gru_reset_after",
    "gru_reset_before",
    "indrnn",
    "lstm_coupled",
    "mgu",
)
"""The common cells. A kernel costs 0.06 MB of the wheel; the engine interprets the other cells (`program`)."""


def emit_all(cells: Iterable[Cell] | None = None) -> str:
    """Return the text of the committed file: the traits of every common cell, and their list.

    Examples
    --------
    >>> "struct lstm {" in emit_all()
    True
    """
    cells = [CELLS[name] for name in EMITTED] if cells is None else list(cells)
    head = "// Written by `python -m unrolled.codegen.cpp` from src/unrolled/cells; change the cells, not this text.\n"
    names = "#define UNROLLED_CELLS " + " ".join(f"UNROLLED_CELL({cell.name})" for cell in cells)
    return head + "\n" + "\n".join(emit_cell(cell) for cell in cells) + "\n" + names + "\n"


def main(arguments: list[str]) -> int:
    """Write the text, or with `--check` compare it; the exit status."""
    text = emit_all()
    if "--check" in arguments:
        if TEXT.exists() and TEXT.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TEXT.name} is not what the cells say; run: python -m unrolled.codegen.cpp", file=sys.stderr)
        return 1
    TEXT.parent.mkdir(exist_ok=True)
    TEXT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
