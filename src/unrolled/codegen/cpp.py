"""Writes the engine's elementwise kernels: each cell's own functions, run on symbols, give the text of C++.

`python -m unrolled.codegen.cpp` writes the text of all cells, `python -m unrolled.codegen.cpp --check` fails if the
committed text is not what the cells say today.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..cells import CELLS, Cell, Stage
from ..errors import Unsupported
from .graph import MASKS, Graph, Symbol, instructions

TEXT = Path(__file__).parents[1] / "backends" / "cpu" / "csrc" / "emitted" / "cells.inc"
MAX_ROWS, MAX_STATES, MAX_GATES = 8, 4, 8
"""What the engine's tiles and buffers have room for."""

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", **{op: op for op in MASKS}}


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
    return kind(*(graph.input(f"{array}[{n}]") for n in range(len(kind._fields))))


def _earlier(cell: Cell, n: int, graph: Graph, s: Any, extra: dict[str, Any]) -> Any:
    """Return the values that the stage before `n` hands on: their type, filled with symbols."""
    stage = cell.stages[n - 1]
    blocks = tuple(graph.input(f"unused[{i}]") for i in range(len(stage.rows)))
    before = {"k": _earlier(cell, n - 1, graph, s, extra)} if n > 1 else {}
    return _inputs(graph, type(stage.forward(blocks, blocks, s, **before, **extra)), "earlier")


def _symbols(graph: Graph, cell: Cell) -> tuple[Any, dict[str, Any]]:
    extra = {} if cell.params is None else {"p": _inputs(graph, cell.params, "p")}
    return _inputs(graph, cell.state, "s"), extra


def _rows(graph: Graph, stage: Stage, array: str) -> tuple[Symbol, ...]:
    return tuple(graph.input(f"{array}[{i}]") for i in range(len(stage.rows)))


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
