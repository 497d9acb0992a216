"""Writes the engine's elementwise kernels: the functions of cells and update rules, run on symbols, give C++.

`python -m unrolled.codegen.cpp` writes the texts, `python -m unrolled.codegen.cpp --check` fails if a committed one is
not what the functions say today.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..cells import CELLS, Cell, Stage
from ..errors import Unsupported
from ..rules import RULES, Rule
from .derive import complete
from .graph import MASKS, Graph, Symbol, instructions
from .trace import filled, handed_on

FOLDER = Path(__file__).parents[1] / "backends" / "cpu" / "csrc" / "emitted"
MAX_ROWS, MAX_STATES, MAX_GATES = 8, 4, 8
"""Sizes that the engine's tiles and buffers have room for."""

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", **{op: op for op in MASKS}}


def _expressions(graph: Graph, outputs: list[tuple[str, int]], *, fuse: bool = True) -> list[str]:
    """Return C++ lines that compute the outputs, each a (target, node)."""
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
        for node, op, args in instructions(graph, [node for _, node in outputs], fuse=fuse)
    ]
    return lines + [f"{target} = {name(node)};" for target, node in outputs]


def _symbols(graph: Graph, kind: type[Any], array: str) -> Any:
    """Return the named tuple of the symbols array[0], array[1], ..."""
    return filled(graph, kind, f"{array}[{{}}]".format)


def _blocks(graph: Graph, stage: Stage, array: str) -> tuple[Symbol, ...]:
    """Return the symbols of a stage's pre-activations."""
    return tuple(graph.input(f"{array}[{i}]") for i in range(len(stage.rows)))


def _surroundings(graph: Graph, cell: Cell) -> tuple[Any, dict[str, Any]]:
    """Return what every function of a cell reads: the state, and the keyword of per-unit parameters."""
    params = {} if cell.params is None else {"p": _symbols(graph, cell.params, "p")}
    return _symbols(graph, cell.state, "s"), params


def _values(graph: Graph, cell: Cell, n: int, s: Any, params: dict[str, Any]) -> Any:
    """Return the symbols of what stage n hands to the next."""
    return _symbols(graph, handed_on(cell, n, graph, s, params), "earlier")


def _targets(graph: Graph, array: str, values: Iterable[Any]) -> list[tuple[str, int]]:
    return [(f"{array}[{i}]", graph.number(v)) for i, v in enumerate(values)]


def _forward(cell: Cell, n: int) -> list[str]:
    """Return the C++ lines of stage n's forward function."""
    graph, stage = Graph(), cell.stages[n]
    s, params = _surroundings(graph, cell)
    values = {"k": _values(graph, cell, n - 1, s, params)} if n else {}
    result = stage.forward(_blocks(graph, stage, "ax"), _blocks(graph, stage, "ah"), s, **values, **params)
    if n + 1 < len(cell.stages):
        return _expressions(graph, _targets(graph, "out", result))
    new, gates = result
    return _expressions(graph, _targets(graph, "out", new) + _targets(graph, "gates", gates))


def _backward(cell: Cell, n: int) -> tuple[list[str], bool]:
    """Return the C++ lines of stage n's backward function, and whether ax and ah have gradients of their own."""
    graph, stage = Graph(), cell.stages[n]
    s, params = _surroundings(graph, cell)
    last = n + 1 == len(cell.stages)
    d = _symbols(graph, cell.state if last else type(_values(graph, cell, n, s, params)), "d")
    gates, new = _symbols(graph, cell.gates, "gates"), _symbols(graph, cell.state, "next")
    assert stage.backward is not None
    b = stage.backward(d, gates, s, new, **params)
    split = b.ah is not b.ax
    outputs = _targets(graph, "dax", b.ax) + (_targets(graph, "dah", b.ah) if split else [])
    outputs += _targets(graph, "ds", b.state)
    outputs += _targets(graph, "dearlier", b.values) if n else []
    outputs += _targets(graph, "dp", b.params or (0,) * len(cell.param_fields)) if cell.params is not None else []
    return _expressions(graph, outputs), split


def _value_names(cell: Cell) -> list[tuple[str, ...]]:
    """Return the names of what each stage hands to the next; the last one's are none."""
    graph = Graph()
    s, params = _surroundings(graph, cell)
    return [tuple(handed_on(cell, n, graph, s, params)._fields) for n in range(len(cell.stages) - 1)] + [()]


def _operands(cell: Cell, values: list[tuple[str, ...]]) -> tuple[list[list[int]], list[int]]:
    """Return the numbers of each stage's operands, the values behind the state's, and the gates that keep values."""
    gates = [0] * max(1, *map(len, values))
    operands: list[list[int]] = []
    for n, stage in enumerate(cell.stages):
        operands.append([])
        for name in stage.operand or ():
            if name in cell.state_fields:
                operands[n].append(cell.state_fields.index(name))
            else:
                index = values[n - 1].index(name)
                gates[index] = cell.gate_fields.index(name)
                operands[n].append(len(cell.state_fields) + index)
    return operands, gates


def _numbers(values: Iterable[int], size: int = 1) -> str:
    """Return the initializer of an array of at least `size` numbers."""
    padded = [*values]
    padded += [0] * (size - len(padded))
    return "{" + ", ".join(str(v) for v in padded) + "}"


def _sizes(cell: Cell, *, split: bool) -> list[str]:
    """Return the C++ lines of a cell's constants."""
    rows = [len(stage.rows) for stage in cell.stages]
    values = _value_names(cell)
    operands, value_gates = _operands(cell, values)
    width = max(1, cell.operand_width)
    stages, states, gates = len(cell.stages), len(cell.state_fields), len(cell.gate_fields)
    most_values = max(map(len, values))
    ints = "static constexpr int"
    return [
        f'static constexpr const char* name = "{cell.name}";',
        f"{ints} STAGES = {stages}, STATES = {states}, GATES = {gates}, ROWS = {sum(rows)};",
        f"{ints} PARAMS = {len(cell.param_fields)};",
        f"{ints} MAX_VALUES = {most_values}, MAX_OPERANDS = {width}, OPERAND_WIDTH = {cell.operand_width};",
        f"static constexpr bool SPLIT = {str(split).lower()};",
        f"{ints} rows[] = {_numbers(rows)}, row_start[] = {_numbers(np.cumsum([0, *rows])[:-1])};",
        f"{ints} values[] = {_numbers(map(len, values))}, value_gate[] = {_numbers(value_gates)};",
        f"{ints} operands[] = {_numbers(map(len, operands))};",
        f"{ints} operand[][MAX_OPERANDS] = {{{', '.join(_numbers(o, width) for o in operands)}}};",
    ]


def emit_cell(cell: Cell) -> str:
    """Return the C++ traits of a cell: its sizes, and its functions as straight lines of vector operations.

    Raises
    ------
    Unsupported
        If a function of the cell uses something that the emitter has no kernel for, or the cell is larger than the
        engine's buffers.
    """
    if cell.normalised or cell.input_rows != cell.rows:
        raise Unsupported(f"{cell.name} normalises rows, or has rows that do not see x: kernels have no room for it")
    if cell.sees_x or cell.sees_time or cell.heads > 1 or cell.settings is not None or cell.prepare is not None:
        raise Unsupported(f"{cell.name} sees x or time, has heads, settings or prepare: kernels have no room for it")
    cell = complete(cell)
    if any(stage.width != 1 or stage.biases != ("ih", "hh") or stage.keeps is not None for stage in cell.stages):
        why = "has a stage of another width, without a bias, or whose backward needs more than the gates"
        raise Unsupported(f"{cell.name} {why}: kernels have no room for it")
    if len(cell.rows) > MAX_ROWS or len(cell.state_fields) > MAX_STATES or len(cell.gate_fields) > MAX_GATES:
        raise Unsupported(f"{cell.name} has more than {MAX_ROWS} rows, {MAX_STATES} states or {MAX_GATES} gates")
    stages = range(len(cell.stages))
    back = [_backward(cell, n) for n in stages]
    split = any(own for _, own in back)
    lines = [
        f"struct {cell.name} {{  // {cell.paper}",
        *_sizes(cell, split=split),
        "",
        "template <int S, class V>",
        "INLINE void forward(const V* ax, const V* ah, const V* s, const V* earlier, const V* p, V* out, V* gates) {",
        "(void)ax, (void)ah, (void)s, (void)earlier, (void)p, (void)out, (void)gates;",
    ]
    for n in stages:
        lines += [f"if constexpr (S == {n}) {{", *_forward(cell, n), "}"]
    lines += [
        "}",
        "",
        "template <int S, class V>",
        "INLINE void backward(const V* d, const V* gates, const V* s, const V* next, const V* p,",
        "    V* dax, V* dah, V* ds, V* dearlier, V* dp) {",
        "(void)d, (void)gates, (void)s, (void)next, (void)p, (void)dax, (void)dah, (void)ds, (void)dearlier, (void)dp;",
    ]
    for n, (body, own) in enumerate(back):
        same = [f"dah[{i}] = dax[{i}];" for i in range(len(cell.stages[n].rows))] if split and not own else []
        lines += [f"if constexpr (S == {n}) {{", *body, *same, "}"]
    return _indented([*lines, "}", "};"])


def _indented(lines: list[str]) -> str:
    """Return lines of C++ as a text, each indented by the braces that are open."""
    text, depth = [], 0
    for line in lines:
        depth -= line.startswith("}")
        text.append("  " * depth + line if line else line)
        depth += line.split("  //")[0].endswith("{")
    return "\n".join(text) + "\n"


def emit_rule(rule: Rule) -> str:
    """Return the C++ traits of an update rule; its sums are not fused, so that its bits are those of the reference.

    Examples
    --------
    >>> "p = t" in emit_rule(RULES[0])
    True
    """
    graph = Graph()
    moments = [graph.input(f"m[{n}]") for n in range(len(rule.moments))]
    constants = [graph.input(f"c[{n}]") for n in range(len(rule.constants))]
    p, moved = rule.step(graph.input("p"), graph.input("g"), moments, constants)
    return _indented(
        [
            f"struct {rule.name} {{",
            f'static constexpr const char* name = "{rule.name}";',
            f"static constexpr int MOMENTS = {len(rule.moments)};",
            "",
            "template <class V>",
            f"INLINE void step(V& p, V g, V* m, const V* c) {{  // {', '.join(rule.constants)}",
            "(void)m;",
            *_expressions(graph, [("p", graph.number(p)), *_targets(graph, "m", moved)], fuse=False),
            "}",
            "};",
        ]
    )


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
"""The common cells. A kernel costs 0.06 MB of the wheel; the other cells are interpreted."""


def emit_cells(cells: Iterable[Cell] | None = None) -> str:
    """Return the committed text of the cells: the traits of every common one, and their list.

    Examples
    --------
    >>> "struct lstm {" in emit_cells()
    True
    """
    cells = [CELLS[name] for name in EMITTED] if cells is None else list(cells)
    names = "#define UNROLLED_CELLS " + " ".join(f"UNROLLED_CELL({cell.name})" for cell in cells)
    return _head("cells", "cells") + "\n".join(emit_cell(cell) for cell in cells) + "\n" + names + "\n"


def emit_updates() -> str:
    """Return the committed text of the update rules: the traits of each, and their list.

    Examples
    --------
    >>> "struct adam {" in emit_updates()
    True
    """
    names = "#define UNROLLED_UPDATES " + " ".join(f"UNROLLED_UPDATE({rule.name})" for rule in RULES)
    return _head("rules.py", "rules") + "\n".join(map(emit_rule, RULES)) + "\n" + names + "\n"


def _head(source: str, what: str) -> str:
    return (
        f"// Written by `python -m unrolled.codegen.cpp` from src/unrolled/{source}; "
        f"change the {what}, not this text.\n\n"
    )


def main(arguments: list[str]) -> int:
    """Write the texts, or with `--check` compare them; return the exit status."""
    texts = {"cells.inc": emit_cells(), "updates.inc": emit_updates()}
    if "--check" not in arguments:
        FOLDER.mkdir(exist_ok=True)
        for name, text in texts.items():
            (FOLDER / name).write_text(text, encoding="utf-8")
        return 0
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.inc")}
    stale = [name for name, text in texts.items() if found.get(name) != text]
    for name in stale:
        print(f"{name} is not what its functions say; run: python -m unrolled.codegen.cpp", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
