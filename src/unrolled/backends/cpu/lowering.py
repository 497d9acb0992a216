"""Turns any cell into programs for the engine's interpreter, which needs no compiler on the user's machine.

The cell's own functions run on symbols; what comes out is not C++ but bytecode. A *field* is one number a unit and row
of the batch that the scan keeps. Everything elementwise of a step is in the programs: biases and gains, masks by
selection, zoneout's mixture, the sums of what belongs to a unit's own parameters. What is left to the scan
(csrc/interpreter.h) is products, normalized rows, and time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import accumulate, pairwise
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np

from ...cells import Cell
from ...cells.cell import ROWED
from ...codegen.derive import complete
from ...codegen.graph import Graph, Symbol
from ...codegen.trace import filled, handed_on
from ...errors import Unsupported, brief
from .bytecode import (
    NARROW,
    NOTHING,
    Accumulator,
    Field,
    Kind,
    Name,
    Numbering,
    Plan,
    Program,
    Row,
    StagePlan,
    Widths,
    assemble,
    numbers,
)


@dataclass(frozen=True)
class Options:
    """Options that decide on a cell's programs, besides the cell.

    `keep` has an entry a state field: None, "mask", or the rate of zoneout's mixture; () is None for all.
    """

    bias: bool
    live: bool = False
    keep: tuple[str | float | None, ...] = ()
    drop: bool = False
    record: bool = True
    proj: bool = False
    weight_x: bool = False
    """Whether what functions get as `x=` is a product."""
    dt: bool = False
    """Whether time is given; else it is 1."""

    @property
    def apart(self) -> bool:
        """Whether the tape holds the states that the cell proposed beside those that came of them."""
        return self.proj or (bool(self.keep) and self.record)

    @property
    def given(self) -> list[Field]:
        """Fields of masks, which are handed in anew at every step."""
        live = [Field("live")] * self.live + [Field("live_of_h")] * (self.live and self.proj)
        return (
            live
            + [Field("keep", i) for i, k in enumerate(self.keep) if isinstance(k, str)]
            + [Field("drop")] * self.drop
        )


def _fields(kind: Kind, those: Iterable[int]) -> list[Field]:
    return [Field(kind, i) for i in those]


def _ranges(sizes: Iterable[int]) -> list[range]:
    """Return numbers in a row, so many for each."""
    return [range(*ends) for ends in pairwise(accumulate(sizes, initial=0))]


def _symbols(graph: Graph, type_: type[Any], kind: Kind, stage: int = 0) -> Any:
    """Return a named tuple of fields' symbols."""
    return filled(graph, type_, lambda i: Field(kind, i, stage))


class _Layout:
    """A cell's parts by their numbers, which both directions need."""

    def __init__(self, cell: Cell, options: Options) -> None:
        self.cell, self.options = cell, options
        self.states = range(len(cell.state_fields))
        graph = Graph()
        s, extra = _symbols(graph, cell.state, "s"), self.params(graph)
        self.values = [handed_on(cell, n, graph, s, extra) for n in range(len(cell.stages) - 1)]
        owned = {name: _ranges(len(stage.rows) * stage.owns(name) for stage in cell.stages) for name in ROWED}
        self.owned = owned
        """Numbers of the row blocks that each stage has of a parameter."""
        self.ax = owned["weight_ih"]
        """Blocks of ax that each stage sees."""
        self.ah = _ranges(stage.blocks * (stage.operand is not None) for stage in cell.stages)
        """Blocks of ah that each stage's product gives."""
        self.rows = tuple(self._rows())
        self.widths: Widths = (NARROW if options.proj else {}) | dict(self._wide())

    def _rows(self) -> Iterable[Row]:
        """Name every row of parameters that belongs to a unit."""
        cell, kinds = self.cell, ("gain", "bias")[: 1 + self.options.bias]
        yield from (Row(cell.params_name, i) for i in range(len(cell.param_fields)))
        for name in ROWED:
            if name.startswith("gain") or (name.startswith("bias") and self.options.bias):
                yield from (Row(name, i) for own in self.owned[name] for i in own)
        for stage in cell.stages:
            if not stage.product:
                yield from (Row(f"{kind}_{name}", 0) for name in stage.operand or () for kind in kinds)

    def _wide(self) -> Iterable[tuple[Name, float]]:
        """Yield the names of all that is as wide as a stage of another width than H, and that width."""
        for n, stage in enumerate(self.cell.stages):
            if stage.width == 1:
                continue
            names: list[Name] = [Field(kind, i) for kind in ("ax", "d_ax") for i in self.ax[n]]
            names += [Field(kind, i) for kind in ("ah", "d_ah") for i in self.ah[n]]
            names += [Field(kind, i, n) for kind in ("values", "d_values") for i in range(len(self.values[n]._fields))]
            names += [*self.kept(n), self.time(n)]
            rows = [Row(name, i) for name in ROWED for i in self.owned[name][n]]
            yield from ((name, stage.width) for name in (*names, *rows, *map(Accumulator, rows)))

    def kept(self, n: int) -> list[Field]:
        """Return the fields of what the tape keeps of stage n, beside the gates."""
        keeps = self.cell.stages[n].keeps
        return [] if keeps is None else [Field("kept", i, n) for i in range(len(keeps._fields))]

    @cached_property
    def all_kept(self) -> list[Field]:
        """The same of all stages."""
        return [field for n in range(len(self.cell.stages)) for field in self.kept(n)]

    @cached_property
    def seen(self) -> list[Field]:
        """Fields of x and of time, as far as the cell's functions see them."""
        cell, times = self.cell, [self.time(n) for n, stage in enumerate(self.cell.stages) if "dt" in stage.sees]
        return [Field("x")] * cell.sees_x + list(dict.fromkeys(times)) * self.options.dt

    def time(self, n: int) -> Field:
        """Return the field of time that stage n reads."""
        return Field("dt") if self.cell.stages[n].width == 1 else Field("dt", n + 1)

    def own(self, n: int) -> list[tuple[Row | None, Row | None]]:
        """Return the gain and the bias of each block of stage n's product, or of what stands for it."""
        stage = self.cell.stages[n]
        if not stage.product:
            return [(Row(f"gain_{name}", 0), Row(f"bias_{name}", 0)) for name in stage.operand or ()]
        gains, biases = ([Row(name, i) for i in self.owned[name][n]] for name in ("gain_hh", "bias_hh"))
        none = [None] * stage.blocks
        return list(zip(gains or none, biases or none, strict=True))

    def of_inputs(self, n: int) -> list[tuple[Row | None, Row | None]]:
        """Return the gain and the bias of each block of ax that stage n sees."""
        gains, biases = ([Row(name, i) for i in self.owned[name][n]] for name in ("gain_ih", "bias_ih"))
        none = [None] * len(self.ax[n])
        return list(zip(gains or none, biases or none, strict=True))

    @cached_property
    def input_groups(self) -> tuple[int, ...]:
        """How many blocks of ax, in order, are normalized together."""
        return tuple(size for stage in self.cell.stages if stage.inputs for size in stage.norm)

    @cached_property
    def normalized_inputs(self) -> list[Field]:
        """Blocks of ax that the tape keeps."""
        return self.inputs("ax") if self.input_groups else []

    @cached_property
    def normalized(self) -> list[Field]:
        """Blocks of ax and of ah that the tape keeps."""
        blocks = (i for n, stage in enumerate(self.cell.stages) if stage.norm for i in self.ah[n])
        return self.normalized_inputs + _fields("ah", blocks)

    def inputs(self, kind: Kind) -> list[Field]:
        """Return the fields of all blocks of ax."""
        return _fields(kind, range(self.ax[-1].stop))

    def products(self, kind: Kind) -> list[Field]:
        """Return the fields of all blocks of ah."""
        return _fields(kind, range(self.ah[-1].stop))

    def operand(self, n: int, name: str, state: Kind = "s", values: Kind = "values") -> Field:
        """Return the field of an operand of stage n: one of the state, or a value of the stage before it."""
        fields = self.cell.state_fields
        if name in fields:
            return Field(state, fields.index(name))
        return Field(values, self.values[n - 1]._fields.index(name), n - 1)

    def all_values(self, kind: Kind) -> list[Field]:
        """Return the fields of the values that all stages hand on."""
        return [Field(kind, i, n) for n, values in enumerate(self.values) for i in range(len(values._fields))]

    def row(self, graph: Graph, row: Row | None) -> Symbol | None:
        """Return the symbol of a unit's own number, or None where the cell has no such parameter."""
        return graph.input(row) if row in self.rows else None

    def params(self, graph: Graph) -> dict[str, Any]:
        """Return the keywords `p=` and `c=` of a cell's functions."""
        cell = self.cell
        extra = {} if cell.params is None else {"p": filled(graph, cell.params, partial(Row, cell.params_name))}
        return extra if cell.settings is None else extra | {"c": cell.constants}

    def keywords(self, graph: Graph, n: int) -> dict[str, Any]:
        """Return the keywords of stage n's functions, as `scan` gives them."""
        cell, stage = self.cell, self.cell.stages[n]
        extra = {name: value for name, value in self.params(graph).items() if name != "p" or stage.width == 1}
        if self.options.drop and cell.candidate in stage.rows:
            extra["m"] = graph.input(Field("drop"))
        if "x" in stage.sees:
            extra["x"] = graph.input(Field("x"))
        if "dt" in stage.sees:
            extra["dt"] = graph.input(self.time(n)) if self.options.dt else 1
        return extra

    def live(self, graph: Graph, i: int) -> Symbol:
        """Return the mask of steps that exist, as wide as field i of the state."""
        return graph.input(Field("live_of_h" if self.options.proj and not i else "live"))


def _chosen(mask: Symbol, there: Any, elsewhere: Any) -> Any:
    """Select by a mask field of zeros and ones."""
    return np.where(mask > 0.5, there, elsewhere)


def _zero(value: Any) -> bool:
    return not isinstance(value, Symbol) and value == 0


def _sum(a: Any, b: Any) -> Any:
    """a + b, where a plain 0 adds nothing."""
    return b if _zero(a) else a if _zero(b) else a + b


def _affine(x: Any, gain: Symbol | None, bias: Symbol | None) -> Any:
    x = x if gain is None else x * gain
    return x if bias is None else _sum(x, bias)


def _program(graph: Graph, outputs: Iterable[tuple[Name, Any]], numbering: Numbering) -> Program:
    """Return the program that writes values to fields."""
    return assemble(graph, [(name, graph.number(value)) for name, value in outputs], numbering)


@dataclass(frozen=True)
class _Forward:
    """Lowers the forward direction."""

    layout: _Layout

    def plan(self) -> Plan:
        layout = self.layout
        cell, o = layout.cell, layout.options
        fields = layout.inputs("ax") + layout.products("ah") + layout.seen + layout.all_kept
        fields += _fields("s", layout.states) + _fields("new", layout.states) + layout.all_values("values")
        fields += _fields("gates", range(len(cell.gate_fields))) + _fields("proposed", layout.states if o.apart else ())
        fields += o.given + [Field("projected")] * o.proj
        numbering = Numbering((*layout.rows, *fields), layout.widths)
        blocks = layout.inputs("ax") + [Field("x")] * o.weight_x
        group, once = numbers(layout.input_groups), numbers([1])
        inputs = StagePlan(NOTHING, numbering.of(blocks), group=group, overwrite=once)
        stages = [self.stage(n, numbering) for n in range(len(cell.stages))]
        if o.proj:
            graph = Graph()
            old, new = graph.input(Field("s")), graph.input(Field("projected"))
            program = _program(graph, [(Field("new"), self.masked(graph, 0, old, new))], numbering)
            operand, block = numbering.of([Field("proposed")]), numbering.of([Field("projected")])
            stages.append(StagePlan(program, block, operand))
        kept = frozenset(layout.normalized)
        return Plan(layout.rows, tuple(fields), (), (), kept, layout.widths, inputs, tuple(stages))

    def stage(self, n: int, numbering: Numbering) -> StagePlan:
        layout, graph = self.layout, Graph()
        stage = layout.cell.stages[n]
        program = _program(graph, list(self.outputs(graph, n)), numbering)
        operands = numbering.of(layout.operand(n, name) for name in stage.operand or ())
        return StagePlan(program, numbering.of(_fields("ah", layout.ah[n])), operands, group=numbers(stage.norm))

    def outputs(self, graph: Graph, n: int) -> Iterable[tuple[Field, Any]]:
        """Yield (field, value) of what stage n computes."""
        layout = self.layout
        cell, stage = layout.cell, layout.cell.stages[n]
        s: Any = _symbols(graph, cell.state, "s") if stage.width == 1 else None
        values = {"k": _symbols(graph, layout.values[n - 1], "values", n - 1)} if n else {}
        ax, ah = tuple(self.ax(graph, n)), tuple(self.ah(graph, n))
        result = stage.forward(ax, ah, s, **values, **layout.keywords(graph, n))
        if stage.keeps is not None:
            result, kept = result
            yield from zip(layout.kept(n), kept, strict=True)
        if n + 1 < len(cell.stages):
            yield from ((Field("values", i, n), value) for i, value in enumerate(result))
            return
        new, gates = result
        # Also where no tape keeps them: what is fused, and so the bits, must not depend on that.
        yield from zip(_fields("gates", range(len(cell.gate_fields))), gates, strict=True)
        for i, value in zip(layout.states, new, strict=True):
            if layout.options.apart:
                yield Field("proposed", i), value
            if i or not layout.options.proj:
                yield Field("new", i), self.masked(graph, i, s[i], value)

    def masked(self, graph: Graph, i: int, old: Symbol, new: Any) -> Any:
        """Return the new state as `keep` and `live` have it."""
        o = self.layout.options
        keep = o.keep[i] if o.keep else None
        if isinstance(keep, float):
            new = keep * old + (1 - keep) * new
        elif keep is not None:
            new = _chosen(graph.input(Field("keep", i)), old, new)
        return _chosen(self.layout.live(graph, i), new, old) if o.live else new

    def ax(self, graph: Graph, n: int) -> Iterable[Any]:
        layout = self.layout
        for i, (gain, bias) in zip(layout.ax[n], layout.of_inputs(n), strict=True):
            ax = graph.input(Field("ax", i))
            yield _affine(ax, layout.row(graph, gain), layout.row(graph, bias))

    def ah(self, graph: Graph, n: int) -> Iterable[Any]:
        layout, stage = self.layout, self.layout.cell.stages[n]
        for i, own in enumerate(layout.own(n), layout.ah[n].start):
            gain, bias = (layout.row(graph, row) for row in own)
            ah = graph.input(Field("ah", i)) if stage.operand else 0
            yield _affine(ah, gain if stage.norm else None, bias)


@dataclass(frozen=True)
class _Backward:
    """Lowers the backward direction."""

    layout: _Layout

    def plan(self) -> Plan:
        layout = self.layout
        cell, o = layout.cell, layout.options
        graphs = [Graph() for _ in cell.stages]
        written = [list(self.outputs(graph, n)) for n, graph in enumerate(graphs)]
        names = list(dict.fromkeys(name for outputs in written for name, _ in outputs))
        accumulators = tuple(name for name in names if isinstance(name, Accumulator))
        own = [name for name in names if isinstance(name, Field) and name.kind == "d_ah"]
        fields = (
            layout.normalized
            + layout.seen
            + layout.all_kept
            + _fields("s", layout.states)
            + _fields("new", layout.states)
        )
        fields += _fields("proposed", layout.states if o.apart else ()) + _fields("gates", range(len(cell.gate_fields)))
        fields += [*o.given, Field("dy"), *_fields("d_new", layout.states), *_fields("d_s", layout.states)]
        fields += [Field("d_projected"), Field("d_proposed")] * o.proj
        fields += layout.all_values("d_values") + layout.inputs("d_ax") + [Field("d_x")] * cell.sees_x + own
        numbering = Numbering((*layout.rows, *fields, *accumulators), layout.widths)
        stages = []
        for n, (graph, outputs) in enumerate(zip(graphs, written, strict=True)):
            stages.append(self.stage(n, _program(graph, outputs, numbering), frozenset(names), numbering))
        inputs = StagePlan(
            NOTHING,
            numbering.of(layout.inputs("d_ax") + [Field("d_x")] * o.weight_x),
            normalized=numbering.of(layout.normalized_inputs),
            group=numbers(layout.input_groups),
            overwrite=numbers([not cell.sees_x or o.weight_x]),
        )
        if o.proj:
            stages.append(self.projection(numbering))
        shared = tuple(self.shared({accumulator.row for accumulator in accumulators}))
        kept = frozenset(layout.normalized)
        return Plan(layout.rows, tuple(fields), accumulators, shared, kept, layout.widths, inputs, tuple(stages))

    def stage(self, n: int, program: Program, written: frozenset[Name], numbering: Numbering) -> StagePlan:
        """Return the plan of stage n; not all gradients of ah are written, some are those of ax too."""
        layout, stage = self.layout, self.layout.cell.stages[n]
        shift, names = layout.ax[n].start - layout.ah[n].start, stage.operand or ()
        d_operands = [layout.operand(n, name, "d_s", "d_values") for name in names]
        return StagePlan(
            program,
            numbering.of(d if d in written else Field("d_ax", d.number + shift) for d in _fields("d_ah", layout.ah[n])),
            numbering.of([self.kept(n, name) for name in names] if stage.product else d_operands),
            numbering.of(d_operands),
            numbering.of(_fields("ah", layout.ah[n] if stage.norm else ())),
            numbers(stage.norm),
            numbers(
                d.kind == "d_values" and d not in written and d not in d_operands[:j] for j, d in enumerate(d_operands)
            ),
        )

    def projection(self, numbering: Numbering) -> StagePlan:
        graph = Graph()
        whole, beside = self.past_the_cell(graph, 0)
        program = _program(graph, [(Field("d_projected"), whole), (Field("d_s"), beside)], numbering)
        block, operand, to = (numbering.of([Field(kind)]) for kind in ("d_projected", "proposed", "d_proposed"))
        return StagePlan(program, block, operand, to, overwrite=numbers([1]))

    def shared(self, gathered: set[Row]) -> Iterable[tuple[Row, Row]]:
        """Yield each bias of ah that has no gradient of its own, with that of ax whose gradient is its too."""
        owned = self.layout.owned
        for ih, hh in zip(owned["bias_ih"], owned["bias_hh"], strict=True):
            for i, j in zip(ih, hh, strict=False):
                if Row("bias_hh", j) not in gathered and Row("bias_ih", i) in gathered:
                    yield Row("bias_hh", j), Row("bias_ih", i)

    def kept(self, n: int, name: str) -> Field:
        """Return the field in which the tape keeps an operand of stage n."""
        cell = self.layout.cell
        if name in cell.state_fields:
            return Field("s", cell.state_fields.index(name))
        if name in cell.gate_fields:
            return Field("gates", cell.gate_fields.index(name))
        keeps: Any = cell.stages[n - 1].keeps
        return Field("kept", keeps._fields.index(name), n - 1)

    def outputs(self, graph: Graph, n: int) -> Iterable[tuple[Name, Any]]:
        """Yield (field, value) of what the gradient of stage n writes."""
        layout = self.layout
        cell, stage = layout.cell, layout.cell.stages[n]
        last = n + 1 == len(cell.stages)
        past: list[Any] = [0 for _ in layout.states]
        if last:
            d, past = self.new_state(graph)
        else:
            d = self.values(graph, n)
        s, new = (_symbols(graph, cell.state, kind) for kind in ("s", "proposed" if layout.options.apart else "new"))
        extra = layout.keywords(graph, n)
        if stage.keeps is not None:
            extra["kept"] = filled(graph, stage.keeps, lambda i: Field("kept", i, n))
        assert stage.backward is not None
        state = (s, new) if stage.width == 1 else (None, None)
        b = stage.backward(d, _symbols(graph, cell.gates, "gates"), *state, **extra)
        for i, (q, p) in enumerate(zip(b.state if stage.width == 1 else (), past, strict=stage.width == 1)):
            if last and (i or not layout.options.proj or not _zero(q)):
                yield Field("d_s", i), _sum(p, q)
            elif not _zero(q):
                yield Field("d_s", i), graph.input(Field("d_s", i)) + q
        if n:
            operands = [layout.operand(n, name, "d_s", "d_values") for name in stage.operand or ()]
            for i, value in zip(range(len(layout.values[n - 1]._fields)), b.values, strict=True):
                to = Field("d_values", i, n - 1)
                if not _zero(value) or (to not in operands and to not in layout.widths):
                    yield to, value
        if "x" in stage.sees:
            to = Field("d_x")
            x = 0 if b.x is None else b.x
            if n == self.last_to_see or not _zero(x):
                yield to, x if n == self.last_to_see else graph.input(to) + x
        for i, q in enumerate(b.params or ()):
            yield self.gathered(graph, Row(cell.params_name, i), q)
        split = b.ah is not b.ax
        if stage.inputs:
            yield from self.d_ax(graph, n, b.ax, split=split)
        yield from self.d_ah(graph, n, b.ah, split=split)

    @cached_property
    def last_to_see(self) -> int:
        """Number of the last stage that sees x, whose gradient of it comes first."""
        return max((n for n, stage in enumerate(self.layout.cell.stages) if "x" in stage.sees), default=-1)

    def values(self, graph: Graph, n: int) -> Any:
        """Return the gradient of the values that stage n hands on; of those of another width only operands have one."""
        cell, kind = self.layout.cell, self.layout.values[n]
        fields = {name: Field("d_values", i, n) for i, name in enumerate(kind._fields)}
        dead = [f not in (cell.stages[n + 1].operand or ()) and fields[f] in self.layout.widths for f in fields]
        return kind(*(0 if none else graph.input(f) for none, f in zip(dead, fields.values(), strict=True)))

    def new_state(self, graph: Graph) -> tuple[Any, list[Any]]:
        """Return the gradient of the new state: what goes into the cell, and what masks send past it."""
        layout = self.layout
        pairs = [self.past_the_cell(graph, i) for i in layout.states]
        if layout.options.proj:  # that of h comes through the projection
            pairs[0] = graph.input(Field("d_proposed")), 0
        return layout.cell.state(*(d for d, _ in pairs)), [past for _, past in pairs]

    def past_the_cell(self, graph: Graph, i: int) -> tuple[Any, Any]:
        """Return the same for field i."""
        o = self.layout.options
        d: Any = graph.input(Field("d_new", i))
        past: Any = 0
        live = self.layout.live(graph, i) if o.live else None
        if not i:
            dy: Any = graph.input(Field("dy"))
            d = d + (dy if live is None else _chosen(live, dy, 0))
        if live is not None:
            d, past = _chosen(live, d, 0), _chosen(live, 0, d)
        keep = o.keep[i] if o.keep else None
        if isinstance(keep, float):
            return (1 - keep) * d, _sum(past, keep * d)
        if keep is None:
            return d, past
        mask = graph.input(Field("keep", i))
        return _chosen(mask, 0, d), _sum(past, _chosen(mask, d, 0))

    def gathered(self, graph: Graph, row: Row, value: Any) -> tuple[Name, Any]:
        """Return a sum over time that grows by a value."""
        accumulator = Accumulator(row)
        return accumulator, graph.input(accumulator) + value

    def d_ax(self, graph: Graph, n: int, d: Any, *, split: bool) -> Iterable[tuple[Name, Any]]:
        layout = self.layout
        biases = [bias for _, bias in layout.of_inputs(n)]
        if not split and not any(biases):  # then those of ah have the same gradient
            biases = [bias for _, bias in layout.own(n)] or biases
        for i, (gain, _), bias, value in zip(layout.ax[n], layout.of_inputs(n), biases, d, strict=True):
            yield from self.block(graph, value, bias, Field("d_ax", i), (gain, Field("ax", i)))

    def d_ah(self, graph: Graph, n: int, d: Any, *, split: bool) -> Iterable[tuple[Name, Any]]:
        layout, stage = self.layout, self.layout.cell.stages[n]
        for i, ((gain, bias), value) in enumerate(
            zip(layout.own(n), d if stage.blocks else (), strict=True), layout.ah[n].start
        ):
            if stage.norm:
                yield from self.block(graph, value, bias, Field("d_ah", i), (gain, Field("ah", i)))
            elif split or not stage.inputs:  # else what ax has is this one's too
                yield from self.block(graph, value, bias, Field("d_ah", i) if stage.operand else None)

    def block(
        self, graph: Graph, d: Any, bias: Row | None, to: Field | None, gain: tuple[Row | None, Field] | None = None
    ) -> Iterable[tuple[Name, Any]]:
        """Yield what a block's gradient gives its bias, its gain (beside the normalized product), and its product."""
        rows = self.layout.rows
        if bias is not None and bias in rows:
            yield self.gathered(graph, bias, d)
        if gain is not None and (row := gain[0]) is not None:
            normalized = gain[1]
            yield self.gathered(graph, row, d * graph.input(normalized))
            d = d * graph.input(row)
        if to is not None:
            yield to, d


@lru_cache(maxsize=256)
def plans(cell: Cell, options: Options) -> tuple[Plan, Plan]:
    """Return a cell's programs, forward and backward.

    Raises
    ------
    Unsupported
        If a function of the cell uses something that the engine lacks; the message says what.
    """
    whole = complete(cell)
    try:
        layout = _Layout(whole, options)
        return _Forward(layout).plan(), _Backward(layout).plan()
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
    """Return why the interpreter does not run a cell; None if it does.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> [name for name, cell in CELLS.items() if refusal(cell)]
    []
    """
    try:
        for drop in {False, bool(cell.candidate)}:
            plans(cell, Options(bias=True, drop=drop, weight_x=cell.sees_x, dt=cell.sees_time))
    except Unsupported as error:
        return str(error)
    return None
