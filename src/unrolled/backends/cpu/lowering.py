"""Turns any cell into programs for the engine's block evaluator, which needs no compiler on the user's machine.

The cell's own functions run on the emitter's symbols; what comes out is not C++ but a list of numbers, an instruction
each: an operation, the place of its result, the places of its arguments. A *field* is one number a unit and row of the
batch that the scan keeps under a name (`ax[0]`, `new[1]`, `old[0]`); a program's places are the fields it reads and
writes, then its constants, then its registers. Everything elementwise of a step is in the programs: biases and gains,
masks by selection, zoneout's mixture, the sums of what belongs to a unit's own parameters. What is left to the scan
(csrc/interpreter.h) is products, normalised rows, and time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np

from ...cells import Cell, Stage
from ...checks import Array
from ...codegen.graph import LEAVES, MASKS, Graph, Symbol, instructions
from ...errors import Unsupported, brief
from . import _engine

OPERATIONS = {name: number for number, name in enumerate(_engine.operations())}
_COMPARISONS = {
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "==": "equal",
    "!=": "not_equal",
}
NARROW = ("s[0]", "new[0]", "projected", "live of h", "keep[0]", "dy", "d[0]", "old[0]", "d projected")
"""Fields of a projected h, which is narrower than all else."""
MOST_PLACES = 256
"""Fields of a scan, and places of a program; csrc/kernels.h has the same number."""


@dataclass(frozen=True)
class Program:
    """Straight-line code, as the engine takes it: instructions (N, 5), fields, constants, number of registers."""

    code: Array
    fields: Array
    constants: Array
    registers: int


@dataclass(frozen=True)
class Options:
    """What decides on a cell's programs, besides the cell.

    `keep` has an entry a state field: None, "mask", or the rate of zoneout's mixture; () is None for all.
    """

    bias: bool
    live: bool = False
    keep: tuple[str | float | None, ...] = ()
    drop: bool = False
    record: bool = True
    proj: bool = False

    @property
    def apart(self) -> bool:
        """Whether the tape holds the states that the cell proposed beside those that came of them."""
        return self.proj or (bool(self.keep) and self.record)


@dataclass(frozen=True)
class StagePlan:
    """A stage's program, and the numbers of the fields around it."""

    program: Program
    operand: Array
    """Left operands of the product; backward, as the tape keeps them."""
    d_operand: Array
    block: Array
    """The products; backward, their gradients."""
    hat: Array
    group: Array
    fresh: bool = False
    """Backward, whether the operands' gradients are written, not added to what is there."""


@dataclass(frozen=True)
class Plan:
    """One direction of a cell: the names of the fields in their order, and the stages, a projection last."""

    fields: tuple[str, ...]
    units: tuple[str, ...]
    """The first fields, one number a unit: rows of parameters."""
    totals: tuple[str, ...]
    """Parameters' rows whose gradients are gathered; their fields are the last ones."""
    twins: tuple[tuple[str, str], ...]
    """Rows whose gradient is that of another: both biases of pre-activations that only occur as a sum."""
    inputs: StagePlan
    stages: tuple[StagePlan, ...]
    hats: tuple[str, ...]
    """Fields that hold normalised products."""


def _numbers(values: Iterable[int]) -> Array:
    return np.array(list(values), np.int32)


class _Names:
    """Gives fields their numbers, in the order of `order`."""

    def __init__(self, order: Iterable[str], *, proj: bool = False) -> None:
        self.order, self.narrow = tuple(order), frozenset(NARROW if proj else ())
        self.number = {name: n for n, name in enumerate(self.order)}
        if len(self.order) > MOST_PLACES:
            raise Unsupported(f"it needs {len(self.order)} fields, the evaluator has {MOST_PLACES}")

    def of(self, names: Iterable[str]) -> Array:
        return _numbers(self.number[name] for name in names)


def assemble(graph: Graph, outputs: list[tuple[str, int]], names: _Names) -> Program:
    """Return the program that computes nodes and writes them to fields.

    A field that is read and written (a sum that grows) is read by the very instruction that writes it.
    """
    keys = list(graph.nodes)
    if any(keys[node][0] in MASKS for _, node in outputs):
        raise Unsupported("a function's result is a comparison; write where(a > 0, 1, 0)")
    found = instructions(graph, [node for _, node in outputs])
    target = {node: field for field, node in reversed(outputs) if keys[node][0] not in LEAVES}
    read = {a for _, _, args in found for a in args} | {node for _, node in outputs if keys[node][0] in LEAVES}
    fields = list(
        dict.fromkeys([str(keys[n][1]) for n in sorted(read) if keys[n][0] == "input"] + [f for f, _ in outputs])
    )
    constants = sorted({keys[n][1] for n in read if keys[n][0] == "number"})
    last = {a: at for at, (_, _, args) in enumerate(found) for a in args}
    register: dict[int, int] = {}
    free: list[int] = []
    most = 0

    def place(node: int) -> int:
        kind = keys[node][0]
        if kind == "input":
            return fields.index(str(keys[node][1]))
        if kind == "number":
            return len(fields) + constants.index(keys[node][1])
        if node in target:
            return fields.index(target[node])
        return len(fields) + len(constants) + register[node]

    if 0 < len(names.narrow.intersection(fields)) < len(fields):
        raise Unsupported("it reads a projected h element by element")
    code = []
    for at, (node, op, args) in enumerate(found):
        sources = [place(a) for a in args]
        free += [register[a] for a in set(args) if a in register and last[a] == at]
        if node not in target:
            if not free:
                free.append(most)
                most += 1
            register[node] = free.pop()
        code.append([OPERATIONS[_COMPARISONS.get(op, op)], place(node), *sources, *[0] * (3 - len(sources))])
    for field, node in outputs:
        if target.get(node) != field:
            code.append([OPERATIONS["copy"], fields.index(field), place(node), 0, 0])
    if len(fields) + len(constants) + most > MOST_PLACES:
        raise Unsupported(f"a stage needs more than the {MOST_PLACES} places of the evaluator")
    return Program(np.array(code, np.int32).reshape(-1, 5), names.of(fields), np.array(constants, np.float64), most)


class _Writer:
    """What both directions of a cell write their programs with."""

    def __init__(self, cell: Cell, options: Options) -> None:
        self.cell, self.options = cell, options
        self.states = range(len(cell.state_fields))
        self.values = self._kinds()
        self.rows, self.inputs, self.blocks = 0, 0, 0
        self.starts: list[tuple[int, int, int]] = []
        """Of each stage: its first row, its first block of ax, its first block of ah."""
        for stage in cell.stages:
            self.starts.append((self.rows, self.inputs, self.blocks))
            self.rows += len(stage.rows)
            self.inputs += len(stage.rows) * stage.inputs
            self.blocks += stage.blocks * (stage.operand is not None)
        self.units = tuple(self._units())
        self.earlier = [f"values[{n}.{i}]" for n, kind in enumerate(self.values) for i in range(len(kind._fields))]

    def _kinds(self) -> list[Any]:
        """Return the types of what the stages hand on, found by running them on symbols that nothing else sees."""
        graph = Graph()
        kinds: list[Any] = []
        cell = self.cell
        s, extra = self.state(graph, "s"), {} if cell.params is None else {"p": self.filled(graph, cell.params, "p{}")}
        for n, stage in enumerate(cell.stages[:-1]):
            ax = tuple(graph.input(f"ax[{i}]") for i in range(len(stage.rows) * stage.inputs))
            ah = tuple(graph.input(f"ah[{i}]") for i in range(stage.blocks))
            before = {"k": self.filled(graph, kinds[-1], "k{}")} if n else {}
            kinds.append(type(stage.forward(ax, ah, s, **before, **extra)))
        return kinds

    @staticmethod
    def filled(graph: Graph, kind: Any, name: str) -> Any:
        """Return a named tuple of symbols: `name` with the number of each in the place of the braces."""
        return kind(*(graph.input(name.format(i)) for i in range(len(kind._fields))))

    def _units(self) -> Iterable[str]:
        """Name every row of parameters that belongs to a unit."""
        cell = self.cell
        if cell.params is not None:
            yield from (f"{cell.params_name}[{i}]" for i in range(len(cell.param_fields)))
        if self.options.bias:
            yield from (f"bias_ih[{i}]" for i in range(self.inputs))
            yield from (f"bias_hh[{i}]" for i in range(self.rows))
        if cell.normalised:
            yield from (f"gain_ih[{i}]" for i in range(self.inputs))
            yield from (f"gain_hh[{i}]" for i in range(self.rows))
        for stage in cell.stages:
            if not stage.product:
                yield from (
                    f"{kind}_{(stage.operand or ('',))[0]}[0]" for kind in ("gain", "bias")[: 1 + self.options.bias]
                )

    def input_norm(self) -> tuple[int, ...]:
        """Blocks of ax that are normalised together."""
        return tuple(n for stage in self.cell.stages if stage.inputs for n in stage.norm)

    def normalised_inputs(self) -> list[str]:
        return [f"ax[{i}]" for i in range(self.inputs)] if self.input_norm() else []

    def normalised_blocks(self) -> list[str]:
        """Blocks of ah that the tape keeps."""
        return [
            f"ah[{start + i}]"
            for stage, (_, _, start) in zip(self.cell.stages, self.starts, strict=True)
            for i in range(stage.blocks if stage.norm else 0)
        ]

    def unit(self, graph: Graph, name: str) -> Symbol | None:
        """Return the symbol of a unit's own number, or None where the cell has no such parameter."""
        return graph.input(name) if name in self.units else None

    def keywords(self, graph: Graph, stage: Stage) -> dict[str, Any]:
        """The keywords `p=` and `m=` of a stage's functions, as `scan` gives them."""
        cell, extra = self.cell, {}
        if cell.params is not None:
            extra["p"] = self.filled(graph, cell.params, cell.params_name + "[{}]")
        if self.options.drop and cell.candidate in stage.rows:
            extra["m"] = graph.input("m")
        return extra

    def own(self, stage: Stage, n: int, i: int) -> tuple[str, str]:
        """Names of the gain and the bias of block i of a stage's product."""
        if stage.product:
            return f"gain_hh[{self.starts[n][0] + i}]", f"bias_hh[{self.starts[n][0] + i}]"
        name = (stage.operand or ("",))[0]
        return f"gain_{name}[0]", f"bias_{name}[0]"

    def state(self, graph: Graph, name: str) -> Any:
        """Return the symbols of a state's fields: s, new, proposed."""
        return self.filled(graph, self.cell.state, name + "[{}]")


def _chosen(mask: Symbol, there: Any, elsewhere: Any) -> Any:
    """Select by a mask field of zeros and ones."""
    return np.where(mask > 0.5, there, elsewhere)


def _zero(value: Any) -> bool:
    return not isinstance(value, Symbol) and value == 0


def _sum(a: Any, b: Any) -> Any:
    """a + b, where a plain 0 adds nothing."""
    return b if _zero(a) else a if _zero(b) else a + b


@dataclass(frozen=True)
class _Forward:
    """Writes the programs of the forward direction."""

    writer: _Writer

    def plan(self) -> Plan:
        w = self.writer
        cell, o = w.cell, w.options
        order = [*w.units, *(f"ax[{i}]" for i in range(w.inputs)), *(f"ah[{i}]" for i in range(w.blocks))]
        order += [f"{kind}[{i}]" for kind in ("s", "new") for i in w.states] + w.earlier
        order += [f"gates[{i}]" for i in range(len(cell.gate_fields))]
        order += [f"proposed[{i}]" for i in w.states if o.apart] + _given(o) + ["projected"] * o.proj
        names = _Names(order, proj=o.proj)
        none = _numbers([])
        inputs = StagePlan(
            _NOTHING, none, none, names.of(f"ax[{i}]" for i in range(w.inputs)), none, _numbers(w.input_norm())
        )
        stages = []
        for n, stage in enumerate(cell.stages):
            graph = Graph()
            outputs = [(name, graph.number(value)) for name, value in self.outputs(graph, n)]
            ah = [f"ah[{w.starts[n][2] + i}]" for i in range(stage.blocks if stage.operand else 0)]
            operand = [self.operand(n, name) for name in stage.operand or ()]
            program = assemble(graph, outputs, names)
            stages.append(StagePlan(program, names.of(operand), none, names.of(ah), none, _numbers(stage.norm)))
        if o.proj:
            graph = Graph()
            old, new = (graph.input(name) for name in ("s[0]", "projected"))
            program = assemble(graph, [("new[0]", self.masked(graph, 0, old, new).node)], names)
            stages.append(StagePlan(program, names.of(["proposed[0]"]), none, names.of(["projected"]), none, none))
        hats = tuple(w.normalised_inputs() + w.normalised_blocks())
        return Plan(names.order, w.units, (), (), inputs, tuple(stages), hats)

    def operand(self, n: int, name: str) -> str:
        """Field of an operand of stage n."""
        fields = self.writer.cell.state_fields
        return (
            f"s[{fields.index(name)}]"
            if name in fields
            else f"values[{n - 1}.{self.writer.values[n - 1]._fields.index(name)}]"
        )

    def outputs(self, graph: Graph, n: int) -> Iterable[tuple[str, Any]]:
        """Yield (field, value) of what stage n computes."""
        w = self.writer
        cell, stage = w.cell, w.cell.stages[n]
        s = w.state(graph, "s")
        before = {"k": w.filled(graph, w.values[n - 1], f"values[{n - 1}.{{}}]")} if n else {}
        ax, ah = tuple(self.ax(graph, n)), tuple(self.ah(graph, n))
        result = stage.forward(ax, ah, s, **before, **w.keywords(graph, stage))
        if n + 1 < len(cell.stages):
            yield from zip((f"values[{n}.{i}]" for i in range(len(result))), result, strict=True)
            return
        new, gates = result
        # Also where no tape keeps them: what is fused, and so the bits, must not depend on that.
        names = range(len(cell.gate_fields))
        yield from zip((f"gates[{i}]" for i in names), gates, strict=True)
        for i, value in zip(w.states, new, strict=True):
            if w.options.apart:
                yield f"proposed[{i}]", value
            if i or not w.options.proj:
                yield f"new[{i}]", self.masked(graph, i, s[i], value)

    def masked(self, graph: Graph, i: int, old: Symbol, new: Any) -> Any:
        """The new state as `keep` and `live` have it."""
        o = self.writer.options
        keep = o.keep[i] if o.keep else None
        if isinstance(keep, float):
            new = keep * old + (1 - keep) * new
        elif keep is not None:
            new = _chosen(graph.input(f"keep[{i}]"), old, new)
        return _chosen(_live(graph, o, i), new, old) if o.live else new

    def ax(self, graph: Graph, n: int) -> Iterable[Any]:
        w, start = self.writer, self.writer.starts[n][1]
        for i in range(start, start + len(w.cell.stages[n].rows) * w.cell.stages[n].inputs):
            yield _affine(graph.input(f"ax[{i}]"), w.unit(graph, f"gain_ih[{i}]"), w.unit(graph, f"bias_ih[{i}]"))

    def ah(self, graph: Graph, n: int) -> Iterable[Any]:
        w, stage = self.writer, self.writer.cell.stages[n]
        for i in range(stage.blocks):
            gain, bias = (w.unit(graph, name) for name in w.own(stage, n, i))
            ah = graph.input(f"ah[{w.starts[n][2] + i}]") if stage.operand else 0
            yield _affine(ah, gain if stage.norm else None, bias)


def _affine(x: Any, gain: Symbol | None, bias: Symbol | None) -> Any:
    x = x if gain is None else x * gain
    return x if bias is None else _sum(x, bias)


_NOTHING = Program(np.empty((0, 5), np.int32), _numbers([]), np.empty(0), 0)


def _given(o: Options) -> list[str]:
    """Fields that are handed in anew at every step."""
    masks = [f"keep[{i}]" for i, keep in enumerate(o.keep) if isinstance(keep, str)]
    return ["live"] * o.live + ["live of h"] * (o.live and o.proj) + masks + ["m"] * o.drop


def _live(graph: Graph, o: Options, i: int) -> Symbol:
    """Return the mask of steps that exist, as wide as field i of the state."""
    return graph.input("live of h" if o.proj and not i else "live")


@dataclass(frozen=True)
class _Backward:
    """Writes the programs of the backward direction."""

    writer: _Writer

    def plan(self) -> Plan:
        w = self.writer
        cell, o = w.cell, w.options
        graphs = [Graph() for _ in cell.stages]
        written = [list(self.outputs(graph, n)) for n, graph in enumerate(graphs)]
        totals = list(dict.fromkeys(name for stage in written for name, _ in stage if name.startswith("total ")))
        own = [name for stage in written for name, _ in stage if name.startswith("dah")]
        order = [*w.units, *w.normalised_inputs(), *w.normalised_blocks()]
        order += [f"{kind}[{i}]" for kind in ("s", "new", *(["proposed"] if o.apart else [])) for i in w.states]
        order += [f"gates[{i}]" for i in range(len(cell.gate_fields))]
        order += [*_given(o), "dy", *(f"{kind}[{i}]" for kind in ("d", "old") for i in w.states)]
        order += ["d projected", "d proposed"] * o.proj
        order += [f"d {name}" for name in w.earlier] + [f"dax[{i}]" for i in range(w.inputs)] + own + totals
        names = _Names(order, proj=o.proj)
        none = _numbers([])
        stages = []
        for n, (stage, graph) in enumerate(zip(cell.stages, graphs, strict=True)):
            outputs = [(name, graph.number(value)) for name, value in written[n]]
            operands = stage.operand or ()
            blocks = [self.block(n, i, own) for i in range(stage.blocks if operands else 0)]
            stages.append(
                StagePlan(
                    assemble(graph, outputs, names),
                    names.of((self.kept(name) if stage.product else self.d_operand(n, name)) for name in operands),
                    names.of(self.d_operand(n, name) for name in operands),
                    names.of(blocks),
                    names.of(f"ah[{w.starts[n][2] + i}]" for i in range(stage.blocks if stage.norm else 0)),
                    _numbers(stage.norm),
                )
            )
        inputs = StagePlan(
            _NOTHING,
            none,
            none,
            names.of(f"dax[{i}]" for i in range(w.inputs)),
            names.of(w.normalised_inputs()),
            _numbers(w.input_norm()),
        )
        if o.proj:
            graph = Graph()
            whole, beside = self.past_the_cell(graph, 0)
            outputs = [("d projected", whole.node), ("old[0]", graph.number(beside))]
            d, to, operand = (names.of([name]) for name in ("d projected", "d proposed", "proposed[0]"))
            stages.append(StagePlan(assemble(graph, outputs, names), operand, to, d, none, none, fresh=True))
        hats = tuple(w.normalised_inputs() + w.normalised_blocks())
        sums = tuple(name.removeprefix("total ") for name in totals)
        return Plan(names.order, w.units, sums, tuple(self.twins(sums)), inputs, tuple(stages), hats)

    def twins(self, sums: tuple[str, ...]) -> Iterable[tuple[str, str]]:
        for stage, (row, into, _) in zip(self.writer.cell.stages, self.writer.starts, strict=True):
            for i in range(len(stage.rows)):
                pair = f"bias_hh[{row + i}]", f"bias_ih[{into + i}]"
                if pair[0] not in sums and pair[1] in sums:
                    yield pair

    def block(self, n: int, i: int, own: list[str]) -> str:
        """Field of the gradient of block i of a stage's product: that of ax too, where the two only occur as a sum."""
        name = f"dah[{self.writer.starts[n][2] + i}]"
        return name if name in own else f"dax[{self.writer.starts[n][1] + i}]"

    def kept(self, name: str) -> str:
        """Field in which the tape keeps an operand."""
        cell = self.writer.cell
        if name in cell.state_fields:
            return f"s[{cell.state_fields.index(name)}]"
        return f"gates[{cell.gate_fields.index(name)}]"

    def d_operand(self, n: int, name: str) -> str:
        """Field that an operand's gradient is added to."""
        w = self.writer
        fields = w.cell.state_fields
        if name in fields:
            return f"old[{fields.index(name)}]"
        return f"d values[{n - 1}.{w.values[n - 1]._fields.index(name)}]"

    def outputs(self, graph: Graph, n: int) -> Iterable[tuple[str, Any]]:
        """Yield (field, value) of what the gradient of stage n writes."""
        w = self.writer
        cell, stage = w.cell, w.cell.stages[n]
        last = n + 1 == len(cell.stages)
        past: list[Any] = [0 for _ in w.states]
        if last:
            d, past = self.new_state(graph)
        else:
            d = w.filled(graph, w.values[n], f"d values[{n}.{{}}]")
        s, new = (w.state(graph, name) for name in ("s", "proposed" if w.options.apart else "new"))
        b = stage.backward(d, w.filled(graph, cell.gates, "gates[{}]"), s, new, **w.keywords(graph, stage))
        for i, (q, p) in enumerate(zip(b.state, past, strict=True)):
            if last and (i or not w.options.proj or not _zero(q)):
                yield f"old[{i}]", _sum(p, q)
            elif not _zero(q):
                yield f"old[{i}]", graph.input(f"old[{i}]") + q
        if n:
            yield from zip(
                (f"d values[{n - 1}.{i}]" for i in range(len(w.values[n - 1]._fields))), b.values, strict=True
            )
        for i, q in enumerate(b.params or ()):
            yield from self.total(graph, f"{cell.params_name}[{i}]", q)
        split = b.ah is not b.ax
        if stage.inputs:
            yield from self.dax(graph, n, b.ax)
        yield from self.dah(graph, n, b.ah, split=split)

    def new_state(self, graph: Graph) -> tuple[Any, list[Any]]:
        """The gradient of the new state: what goes into the cell, and what masks send past it."""
        w = self.writer
        pairs = [self.past_the_cell(graph, i) for i in w.states]
        if w.options.proj:  # that of h comes through the projection
            pairs[0] = graph.input("d proposed"), 0
        return w.cell.state(*(d for d, _ in pairs)), [past for _, past in pairs]

    def past_the_cell(self, graph: Graph, i: int) -> tuple[Any, Any]:
        """The same for field i."""
        o = self.writer.options
        d: Any = graph.input(f"d[{i}]")
        past: Any = 0
        live = _live(graph, o, i) if o.live else None
        if not i:
            dy: Any = graph.input("dy")
            d = d + (dy if live is None else _chosen(live, dy, 0))
        if live is not None:
            d, past = _chosen(live, d, 0), _chosen(live, 0, d)
        keep = o.keep[i] if o.keep else None
        if isinstance(keep, float):
            return (1 - keep) * d, _sum(past, keep * d)
        if keep is None:
            return d, past
        mask = graph.input(f"keep[{i}]")
        return _chosen(mask, 0, d), _sum(past, _chosen(mask, d, 0))

    def total(self, graph: Graph, name: str, value: Any) -> Iterable[tuple[str, Any]]:
        """Yield a sum over time that grows by a value."""
        yield f"total {name}", graph.input(f"total {name}") + value

    def dax(self, graph: Graph, n: int, d: Any) -> Iterable[tuple[str, Any]]:
        w, start = self.writer, self.writer.starts[n][1]
        for i, value in zip(range(start, start + len(w.cell.stages[n].rows)), d, strict=True):
            yield from self.row(graph, value, f"gain_ih[{i}]", f"bias_ih[{i}]", f"ax[{i}]", f"dax[{i}]")

    def dah(self, graph: Graph, n: int, d: Any, *, split: bool) -> Iterable[tuple[str, Any]]:
        w, stage = self.writer, self.writer.cell.stages[n]
        for i, value in zip(range(stage.blocks), d, strict=True):
            at = w.starts[n][2] + i
            gain, bias = w.own(stage, n, i)
            if stage.norm:
                yield from self.row(graph, value, gain, bias, f"ah[{at}]", f"dah[{at}]")
            elif split or not stage.inputs:  # else what ax has is this one's too
                yield from self.row(graph, value, "", bias, "", f"dah[{at}]" if stage.operand else "")

    def row(self, graph: Graph, d: Any, gain: str, bias: str, hat: str, to: str) -> Iterable[tuple[str, Any]]:
        """Yield what a block's gradient gives its gain, its bias and its product."""
        w = self.writer
        if bias in w.units:
            yield from self.total(graph, bias, d)
        if gain in w.units:
            yield from self.total(graph, gain, d * graph.input(hat))
            d = d * graph.input(gain)
        if to:
            yield to, d


@lru_cache(maxsize=256)
def plans(cell: Cell, options: Options) -> tuple[Plan, Plan]:
    """Return a cell's programs, forward and backward.

    Raises
    ------
    Unsupported
        If a function of the cell uses something that the engine lacks; the message says what.
    """
    try:
        writer = _Writer(cell, options)
        return _Forward(writer).plan(), _Backward(writer).plan()
    except Exception as error:  # a user's functions may raise anything on a symbol
        said, line = " ".join(str(error).split()), _line(error)
        if not isinstance(error, Unsupported):
            said = f"its functions raised {type(error).__name__}: {said}" if line else WRONG_RESULT
        raise Unsupported(f"the engine cannot run the cell {brief(cell.name)}: {said}{line}") from error


def _line(error: BaseException) -> str:
    """Return the last line of a cell's own functions that led to an error, or nothing if none did."""
    frames = [(f.f_code.co_filename, number) for f, number in walk_tb(error.__traceback__)]
    theirs = [at for at in frames if not any(Path(at[0]).is_relative_to(folder) for folder in _TRACING)]
    own = [at for at in theirs if not Path(at[0]).is_relative_to(_PACKAGE)] or theirs
    return f" ({own[-1][0]}, line {own[-1][1]})" if own else ""


WRONG_RESULT = "its functions do not give what the scan takes; unrolled.check_cell says which, and what it is"
_PACKAGE = Path(__file__).parents[2]
_TRACING = _PACKAGE / "backends", _PACKAGE / "codegen", Path(np.__file__).parent
"""Whose lines between the caller's and the cell's say nothing."""


@lru_cache(maxsize=256)
def refusal(cell: Cell) -> str | None:
    """Say why the evaluator does not run a cell; None if it does.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> [name for name, cell in CELLS.items() if refusal(cell)]
    []
    """
    try:
        for drop in {False, bool(cell.candidate)}:
            plans(cell, Options(bias=True, drop=drop))
    except Unsupported as error:
        return str(error)
    return None
