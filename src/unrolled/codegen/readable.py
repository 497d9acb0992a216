"""A derived backward function as readable Python, in the cell's own letters."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..cells import Cell
from ..errors import one_line
from .evaluate import Key
from .graph import LEAVES, MASKS, Symbol
from .traced import Derived, derivation, flat

WIDTH = 96
"""Characters of a line, at most, where its parts have names that are short enough."""
PIECE = 72
"""Characters of an expression, at most; a part of a longer one gets a name of its own."""
_INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), **{op: (op, 0) for op in MASKS}}
"""Operation -> its sign in Python, and how closely it binds."""
_NEGATIVE, _ATOM = 3, 4
_CALLED = {"select": "where"}
_OPS = ("exp", "log", "maximum", "sigmoid", "sqrt", "tanh", "where")


def readable(cell: Cell) -> str:
    """Return the derived backward functions of a cell as Python text, one a stage.

    It runs as it stands where the cell's named tuples are known, and is a hand-written `Stage.backward` then, unless it
    reads `kept`, which only derived functions get.

    Raises
    ------
    Unsupported
        If a forward function can't be traced.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> print(readable(CELLS["rnn_tanh"]))
    from unrolled.cells import Back
    <BLANKLINE>
    <BLANKLINE>
    def tanh_backward(d, k, s, new):
        d_h = d.h * (1 - new.h * new.h)
        da = (d_h,)
        return Back(da, da, State(h=0))
    <BLANKLINE>
    """
    functions = [_Function(cell, n, of).text() for n, of in enumerate(derivation(cell))]
    used = [name for name in _OPS if any(f" {name}(" in f or f"({name}(" in f for f in functions)]
    imports = ["from unrolled.cells import Back"]
    imports += [f"from unrolled.cells.ops import {', '.join(used)}"] if used else []
    return "\n\n\n".join(["\n".join(imports), *functions]) + "\n"


class _Function:
    """One stage's derived function, as it becomes text."""

    def __init__(self, cell: Cell, n: int, of: Derived) -> None:
        self.cell, self.stage, self.of, self.n = cell, cell.stages[n], of, n
        self.keys = list(of.graph.nodes)
        self.lines: list[str] = []
        self.names: dict[int, str] = {}
        self.rows = [f"d_{row}" if row.isidentifier() else f"d_{i}" for i, row in enumerate(self.stage.rows)]
        self.taken = {*self.rows, *_OPS, "Back", "da", "d", "k", "s", "new", "p", "c", "m", "x", "dt", "kept"}
        rows = [pair for pair in zip(self.rows, of.back.ax, strict=False) if isinstance(pair[1], Symbol)]
        self.row_of = {value.node: name for name, value in reversed(rows)}
        self.uses = self._uses(leaf.node for leaf in flat(of.back) if isinstance(leaf, Symbol))

    def _uses(self, outputs: Iterable[int]) -> Counter[int]:
        """Count how often each node is read; what the tape has needs no arguments."""
        uses, waiting, seen = Counter[int](), list(outputs), set[int]()
        uses.update(waiting)
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                args = [] if node in self.of.there or self.keys[node][0] in LEAVES else self.keys[node][1:]
                uses.update(args)
                waiting += args
        return uses

    def text(self) -> str:
        """Return the whole function."""
        back = self.of.back
        ax = [self._row(name, value) for name, value in zip(self.rows, back.ax, strict=False)]
        parts: list[tuple[str, Any]] = [("", _sequence(ax)), ("", "")]
        if back.ax and back.ah is back.ax:
            self.lines.append(f"da = {_sequence(ax)}")
            parts = [("", "da"), ("", "da")]
        else:
            parts[1] = "", _sequence([self.value(value) for value in back.ah])
        parts.append(("", self._tuple(back.state)))
        parts += [("values=", self._tuple(back.values))] if back.values is not None else []
        parts += [("params=", self._tuple(back.params))] if back.params is not None else []
        parts += [("x=", self.value(back.x))] if "x" in self.stage.sees else []
        lines = [*self._comments(), *self.lines, *_call("return Back", parts)]
        return "\n".join([f"def {self._name()}({self._parameters()}):", *("    " + line for line in lines)])

    def _row(self, name: str, value: Any) -> str:
        """Give a row's gradient its name."""
        if not isinstance(value, Symbol):
            return "0"
        text = self.names.get(value.node) or self.expression(value.node, named=False)[0]
        if text != name:
            self.lines.append(f"{name} = {text}")
        self.names[value.node] = name
        return name

    def _tuple(self, values: Any) -> tuple[str, list[tuple[str, Any]]]:
        """Return a named tuple of gradients: its type's name, and its fields."""
        kind, known = type(values), getattr(self.stage.forward, "__globals__", {})
        own = next((name for name, value in known.items() if value is kind), kind.__name__)  # as its file calls it
        fields = zip(kind._fields, values, strict=True)
        return own, [(f"{name}=", self.value(value)) for name, value in fields]

    def value(self, value: Any) -> str:
        """Return the text of a symbol or of a number."""
        return self.expression(value.node)[0] if isinstance(value, Symbol) else "0"

    def expression(self, node: int, *, named: bool = True) -> tuple[str, int]:
        """Return the text of a node, and how closely it binds; a node that is read twice becomes a statement."""
        op, *args = self.keys[node]
        if node in self.names:
            return self.names[node], _ATOM
        if node in self.of.there or op == "input":
            return _place(self.of.there.get(node) or args[0]), _ATOM
        if op == "number":
            return _number(args[0]), _ATOM if args[0] >= 0 else _NEGATIVE
        parts = [(arg, *self.expression(arg)) for arg in args]
        text, binds = _joined(op, parts)
        while len(text) > PIECE and any(len(part[1]) > PIECE // 3 for part in parts):
            longest = max(range(len(parts)), key=lambda i: len(parts[i][1]))
            arg, piece, _ = parts[longest]
            parts[longest] = (arg, self._statement(arg, piece), _ATOM)
            text, binds = _joined(op, parts)
        small = op in _INFIX and "number" in (self.keys[arg][0] for arg in args) and len(text) < 12  # 1 - k.f
        if named and self.uses[node] > 1 and op not in MASKS and not small:
            return self._statement(node, text), _ATOM
        return text, binds

    def _statement(self, node: int, text: str) -> str:
        """Give a node a name; return that."""
        name = self.row_of.get(node) or next(name for name in self._candidates(node) if name not in self.taken)
        self.taken.add(name)
        self.names[node] = name
        self.lines.append(f"{name} = {text}")
        return name

    def _candidates(self, node: int) -> Iterable[str]:
        """Yield names for a node, the best one first: after what it is the gradient of, or what it is a function of."""
        op, *args = self.keys[node]
        key = self._key(self.of.of[node]) if node in self.of.of else None
        if key is not None:
            yield f"d_{key[-1]}"
            yield f"d_{'_'.join(map(str, key))}"
        elif op not in _INFIX and len(args) == 1 and (key := self._key(args[0])) is not None:
            yield f"{_CALLED.get(op, op)}_{key[-1]}"
        yield from (f"t{i}" for i in range(1, len(self.keys) + 2))

    def _key(self, node: int) -> Key | None:
        """Return what a node is called where the tape, the forward function or the rows have it."""
        if node in self.of.there:
            return self.of.there[node]
        op, *args = self.keys[node]
        return args[0] if op == "input" and args[0][0] not in ("ax", "ah") else None

    def _comments(self) -> Iterable[str]:
        """Yield what the tape keeps for this function alone, as the forward function computes it."""
        for name, node in self.of.keeps.items():
            if node in self.uses:
                yield f"# kept.{name}: {one_line(self._formula(node)[0], WIDTH - len(name) - 20)}"

    def _formula(self, node: int, *, inside: bool = False) -> tuple[str, int]:
        """Return what a node is in the forward function's letters, and how closely that binds."""
        op, *args = self.keys[node]
        if node in self.of.there and inside:
            return _place(self.of.there[node]), _ATOM
        if op == "input":
            group, *part = args[0]
            return f"{group}[{part[0]}]" if group in ("ax", "ah") else _place(("k", *part)), _ATOM
        if op == "number":
            return _number(args[0]), _ATOM if args[0] >= 0 else _NEGATIVE
        return _joined(op, [(arg, *self._formula(arg, inside=True)) for arg in args])

    def _name(self) -> str:
        """Return a name after that of the forward function."""
        own = getattr(self.stage.forward, "__name__", "")
        if not own.isidentifier():  # a lambda's
            return f"backward_{self.n}" if len(self.cell.stages) > 1 else "backward"
        return own.replace("forward", "backward") if "forward" in own else f"{own}_backward"

    def _parameters(self) -> str:
        """Return the function's parameters: those of the forward function that come by name, with their defaults."""
        more = list(inspect.signature(self.stage.forward).parameters.values())[3:]
        named = [p.replace(annotation=p.empty) for p in more if p.name != "k" and p.kind is not p.VAR_KEYWORD]
        texts = ["d", "k", "s", "new", *map(str, named), *["kept"] * bool(self.of.keeps)]
        if "kept" in texts and any("=" in text for text in texts):
            texts.insert(-1, "*")
        return ", ".join(texts)


def _place(key: Key) -> str:
    """Return where a function finds what is given: d.h, k.i, s.c, m."""
    return ".".join(map(str, key))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _joined(op: str, parts: Sequence[tuple[int, str, int]]) -> tuple[str, int]:
    """Return the text of an operation on texts, and how closely it binds."""
    if op in _INFIX:
        sign, binds = _INFIX[op]
        (_, left, tight), (_, right, tighter) = parts
        left = left if tight >= binds else f"({left})"
        right = right if tighter > binds else f"({right})"
        return f"{left} {sign} {right}", binds
    if op == "neg":
        _, text, binds = parts[0]
        return f"-{text}" if binds > _NEGATIVE else f"-({text})", _NEGATIVE
    return f"{_CALLED.get(op, op)}({', '.join(text for _, text, _ in parts)})", _ATOM


def _sequence(items: Sequence[str]) -> str:
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def _call(name: str, parts: Sequence[tuple[str, Any]], indent: int = 4) -> list[str]:
    """Return the lines of a call, whose arguments may be calls; on one line where they fit."""
    whole = f"{name}({', '.join(prefix + _short(part) for prefix, part in parts)})"
    if indent + len(whole) <= WIDTH:
        return [whole]
    lines = [f"{name}("]
    for prefix, part in parts:
        of = [prefix + part] if isinstance(part, str) else _call(prefix + part[0], part[1], indent + 4)
        lines += ["    " + line for line in [*of[:-1], of[-1] + ","]]
    return [*lines, ")"]


def _short(part: Any) -> str:
    if isinstance(part, str):
        return part
    name, parts = part
    return f"{name}({', '.join(prefix + _short(inner) for prefix, inner in parts)})"
