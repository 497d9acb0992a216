"""A cell's parts by their numbers: blocks of products, rows of parameters, fields and their widths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, pairwise
from typing import Any

from ...cells import Cell
from ...cells.cell import ROWED
from ...codegen.graph import Graph, Symbol
from ...codegen.trace import filled, handed_on
from .bytecode import NARROW, Accumulator, Field, Kind, Name, Row, Widths


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


def named(kind: Kind, those: Iterable[int]) -> list[Field]:
    """Return fields of a kind by their numbers."""
    return [Field(kind, i) for i in those]


def _ranges(sizes: Iterable[int]) -> list[range]:
    """Return numbers in a row, so many for each."""
    return [range(*ends) for ends in pairwise(accumulate(sizes, initial=0))]


def symbols(graph: Graph, type_: type[Any], kind: Kind, stage: int = 0) -> Any:
    """Return a named tuple of fields' symbols."""
    return filled(graph, type_, lambda i: Field(kind, i, stage))


class Layout:
    """A cell's parts by their numbers, which both directions need."""

    def __init__(self, cell: Cell, options: Options) -> None:
        self.cell, self.options = cell, options
        self.states = range(len(cell.state_fields))
        graph = Graph()
        s, extra = symbols(graph, cell.state, "s"), self.params(graph)
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

    def across(self, n: int) -> bool:
        """Whether stage n has another width than the one before, whose values can only be its operands then."""
        return self.cell.stages[n].width != self.cell.stages[n - 1].width

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
        return self.normalized_inputs + named("ah", blocks)

    def inputs(self, kind: Kind) -> list[Field]:
        """Return the fields of all blocks of ax."""
        return named(kind, range(self.ax[-1].stop))

    def products(self, kind: Kind) -> list[Field]:
        """Return the fields of all blocks of ah."""
        return named(kind, range(self.ah[-1].stop))

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
