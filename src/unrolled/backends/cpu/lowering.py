"""Turns any cell into programs for the engine's interpreter, which needs no compiler on the user's machine.

The cell's own functions run on symbols; what comes out is not C++ but bytecode. A *field* is one number a unit and row
of the batch that the scan keeps. Everything elementwise of a step is in the programs: biases and gains, masks by
selection, zoneout's mixture, the sums of what belongs to a unit's own parameters. What is left to the scan
(csrc/interpreter.h) is products, normalized rows, and time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np

from ...cells import Cell
from ...codegen.derive import complete
from ...codegen.graph import Graph, Symbol
from ...codegen.trace import filled, line_of
from ...errors import Unsupported, brief, raised, said_by
from .bytecode import (
    NOTHING,
    Accumulator,
    Field,
    Name,
    Numbering,
    Plan,
    Program,
    Row,
    StagePlan,
    assemble,
    numbers,
)
from .layout import Layout, Options, named, symbols


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

    layout: Layout

    def plan(self) -> Plan:
        layout = self.layout
        cell, o = layout.cell, layout.options
        fields = layout.inputs("ax") + layout.products("ah") + layout.seen + layout.all_kept
        fields += named("s", layout.states) + named("new", layout.states) + layout.all_values("values")
        fields += named("gates", range(len(cell.gate_fields))) + named("proposed", layout.states if o.apart else ())
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
        return StagePlan(program, numbering.of(named("ah", layout.ah[n])), operands, group=numbers(stage.norm))

    def outputs(self, graph: Graph, n: int) -> Iterable[tuple[Field, Any]]:
        """Yield (field, value) of what stage n computes."""
        layout = self.layout
        cell, stage = layout.cell, layout.cell.stages[n]
        s: Any = symbols(graph, cell.state, "s") if stage.width == 1 else None
        values = {"k": symbols(graph, layout.values[n - 1], "values", n - 1)} if n else {}
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
        yield from zip(named("gates", range(len(cell.gate_fields))), gates, strict=True)
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

    layout: Layout

    def plan(self) -> Plan:
        layout = self.layout
        cell, o = layout.cell, layout.options
        graphs = [Graph() for _ in cell.stages]
        written = [list(self.outputs(graph, n)) for n, graph in enumerate(graphs)]
        names = list(dict.fromkeys(name for outputs in written for name, _ in outputs))
        accumulators = tuple(name for name in names if isinstance(name, Accumulator))
        own = [name for name in names if isinstance(name, Field) and name.kind == "d_ah"]
        fields = (
            layout.normalized + layout.seen + layout.all_kept + named("s", layout.states) + named("new", layout.states)
        )
        fields += named("proposed", layout.states if o.apart else ()) + named("gates", range(len(cell.gate_fields)))
        fields += [*o.given, Field("dy"), *named("d_new", layout.states), *named("d_s", layout.states)]
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
            numbering.of(d if d in written else Field("d_ax", d.number + shift) for d in named("d_ah", layout.ah[n])),
            numbering.of([self.kept(n, name) for name in names] if stage.product else d_operands),
            numbering.of(d_operands),
            numbering.of(named("ah", layout.ah[n] if stage.norm else ())),
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
        s, new = (symbols(graph, cell.state, kind) for kind in ("s", "proposed" if layout.options.apart else "new"))
        extra = layout.keywords(graph, n)
        if stage.keeps is not None:
            extra["kept"] = filled(graph, stage.keeps, lambda i: Field("kept", i, n))
        assert stage.backward is not None
        state = (s, new) if stage.width == 1 else (None, None)
        b = stage.backward(d, symbols(graph, cell.gates, "gates"), *state, **extra)
        for i, (q, p) in enumerate(zip(b.state if stage.width == 1 else (), past, strict=stage.width == 1)):
            if last and (i or not layout.options.proj or not _zero(q)):
                yield Field("d_s", i), _sum(p, q)
            elif not _zero(q):
                yield Field("d_s", i), graph.input(Field("d_s", i)) + q
        if n:
            operands = [layout.operand(n, name, "d_s", "d_values") for name in stage.operand or ()]
            for i, value in zip(range(len(layout.values[n - 1]._fields)), b.values, strict=True):
                to = Field("d_values", i, n - 1)
                if not _zero(value) or not (to in operands or layout.across(n)):
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
        """Return the gradient of the values that stage n hands on; across widths, only operands have one."""
        operands, kind = self.layout.cell.stages[n + 1].operand or (), self.layout.values[n]
        dead = [self.layout.across(n + 1) and name not in operands for name in kind._fields]
        return kind(*(0 if none else graph.input(Field("d_values", i, n)) for i, none in enumerate(dead)))

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
        layout = Layout(whole, options)
        return _Forward(layout).plan(), _Backward(layout).plan()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's functions may raise anything on a symbol, and ask Python to end
        said, line = said_by(error), line_of(error)
        if not isinstance(error, Unsupported):
            said = f"its functions raised {raised(error)}" if line else WRONG_RESULT
        raise Unsupported(f"the engine cannot run the cell {brief(cell.name)}: {said}{line}") from error


WRONG_RESULT = "its functions do not give what the scan takes; unrolled.check_cell says which, and what it is"


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
        for drop, dt in product({False, bool(cell.candidate)}, {False, cell.sees_time}):
            plans(cell, Options(bias=True, drop=drop, weight_x=cell.sees_x, dt=dt))
    except Unsupported as error:
        return str(error)
    return None
