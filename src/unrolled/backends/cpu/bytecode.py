"""The programs of the engine's interpreter: instructions as numbers, and the fields that they read and write.

An instruction is an operation, the slot of its result and the slots of its arguments. The slots of a program are the
fields that it reads and writes, then its constants, then its registers. A plan has a program a stage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import numpy as np

from ...checks import Array
from ...codegen.graph import LEAVES, MASKS, Graph, instructions
from ...errors import Unsupported
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
MOST_SLOTS = 256
"""Fields of a scan, and slots of a program; csrc/kernels.h has the same number."""

Kind = Literal[
    "ax",
    "ah",
    "x",
    "dt",
    "s",
    "new",
    "values",
    "gates",
    "kept",
    "proposed",
    "projected",
    "live",
    "live_of_h",
    "keep",
    "drop",
    "dy",
    "d_new",
    "d_s",
    "d_values",
    "d_proposed",
    "d_projected",
    "d_ax",
    "d_ah",
    "d_x",
]
"""The content of a field: products, x and time, old and new state, what stages hand on, what the tape keeps, masks;
gradients.

`live_of_h` is `live` where h is projected, and so has another width than the rest of the state. `d_s` is the gradient
of the old state, `d_new` that of the new one.
"""


class Field(NamedTuple):
    """One number a unit and row of the batch, at every step or only at one: `Field("s", 1)` is an LSTM's old c."""

    kind: Kind
    number: int = 0
    stage: int = 0
    """Which stage a value is of, or what is kept."""


class Row(NamedTuple):
    """One number a unit: a row of a parameter, such as `Row("bias_ih", 2)`."""

    parameter: str
    number: int


class Accumulator(NamedTuple):
    """The sum of a row's gradient, over time."""

    row: Row


Name = Row | Field | Accumulator
"""Whatever a program may read or write."""
PROJECTED = 0
"""Stands for the width of a projected h, where others are multiples of H."""
NARROW = dict.fromkeys(
    (
        Field("s"),
        Field("new"),
        Field("projected"),
        Field("live_of_h"),
        Field("keep"),
        Field("dy"),
        Field("d_new"),
        Field("d_s"),
        Field("d_projected"),
    ),
    PROJECTED,
)
"""Fields that are as wide as a projected h."""
Widths = Mapping[Any, float]
"""Widths of fields as multiples of H, by their names; those that are not there are 1."""


@dataclass(frozen=True)
class Program:
    """Straight-line code, as the engine takes it: instructions (N, 5), fields, constants, number of registers."""

    code: Array
    fields: Array
    constants: Array
    registers: int


def numbers(values: Iterable[int]) -> Array:
    """Return numbers of fields, as the engine takes them.

    Examples
    --------
    >>> numbers([2, 3]).dtype
    dtype('int32')
    """
    return np.array(list(values), np.int32)


NOTHING = Program(np.empty((0, 5), np.int32), numbers([]), np.empty(0), 0)
"""The program that does nothing."""
_none = partial(numbers, ())


@dataclass(frozen=True)
class StagePlan:
    """A stage's program, and the numbers of the fields around it."""

    program: Program
    block: Array
    """The products; backward, their gradients."""
    operand: Array = field(default_factory=_none)
    """Left operands of the product; backward, as the tape keeps them."""
    d_operand: Array = field(default_factory=_none)
    normalized: Array = field(default_factory=_none)
    """Backward, the normalized products."""
    group: Array = field(default_factory=_none)
    """How many products, in order, are normalized together."""
    overwrite: Array = field(default_factory=_none)
    """Backward, of each operand's gradient 1 if it is written, 0 if it is added to what is there; of inputs, dx's."""


@dataclass(frozen=True)
class Plan:
    """One direction of a cell: its fields in the order of their numbers, and its stages, a projection last."""

    rows: tuple[Row, ...]
    """The first fields, one number a unit."""
    fields: tuple[Field, ...]
    accumulators: tuple[Accumulator, ...]
    """The last fields."""
    shared: tuple[tuple[Row, Row], ...]
    """Shared gradients: rows, and those whose gradient they have too, as both biases of a sum of pre-activations do."""
    normalized: frozenset[Field]
    """Fields that hold normalized products."""
    widths: Widths
    inputs: StagePlan
    stages: tuple[StagePlan, ...]

    @property
    def streams(self) -> bool:
        """Whether no product of a step waits for another: the inputs' is the only one."""
        return not any(len(stage.operand) for stage in self.stages) and not len(self.inputs.group)

    @cached_property
    def width(self) -> tuple[float, ...]:
        """The width of each row, field and accumulator."""
        return tuple(self.widths.get(name, 1) for name in (*self.rows, *self.fields, *self.accumulators))

    @cached_property
    def parameters(self) -> dict[str, tuple[float, ...]]:
        """The widths of the rows of each parameter."""
        names = dict.fromkeys(row.parameter for row in self.rows)
        return {name: tuple(self.widths.get(row, 1) for row in self.rows if row.parameter == name) for name in names}

    def number(self, field: Field) -> int:
        """Return the number of a field."""
        return len(self.rows) + self.fields.index(field)

    @cached_property
    def given(self) -> tuple[tuple[int, Field], ...]:
        """Fields that are handed in anew at every step, with their numbers."""
        kinds = ("live", "live_of_h", "keep", "drop", "dy", "x", "dt")
        return tuple((n, f) for n, f in enumerate(self.fields, len(self.rows)) if f.kind in kinds)


class Numbering:
    """The numbers of a scan's fields, in the order of their names.

    Raises
    ------
    Unsupported
        If there are more than the interpreter has.

    Examples
    --------
    >>> Numbering([Row("bias_ih", 0), Field("ax"), Field("s")]).of([Field("s"), Field("ax")])
    array([2, 1], dtype=int32)
    """

    def __init__(self, names: Sequence[Name], widths: Widths | None = None) -> None:
        if len(names) > MOST_SLOTS:
            raise Unsupported(f"it needs {len(names)} fields, the interpreter has {MOST_SLOTS}")
        self.number = {name: n for n, name in enumerate(names)}
        self.widths = widths or {}

    def of(self, names: Iterable[Name]) -> Array:
        """Return the numbers of some fields."""
        return numbers(self.number[name] for name in names)


def assemble(graph: Graph, outputs: list[tuple[Name, int]], numbering: Numbering) -> Program:
    """Return the program that computes nodes and writes them to fields; the graph's inputs are fields.

    A field that is read and written (a sum that grows) is read by the very instruction that writes it.

    Raises
    ------
    Unsupported
        If the program needs more slots than the interpreter has, or is none that it could run.

    Examples
    --------
    >>> graph = Graph()
    >>> twice = 2 * graph.input(Field("s"))
    >>> assemble(graph, [(Field("new"), twice.node)], Numbering([Field("s"), Field("new")])).code[:, 1:]
    array([[1, 2, 0, 0]], dtype=int32)
    """
    keys = list(graph.nodes)
    if any(keys[node][0] in MASKS for _, node in outputs):
        raise Unsupported("a function's result is a comparison; write where(a > 0, 1, 0)")
    found = instructions(graph, [node for _, node in outputs])
    target = {node: name for name, node in reversed(outputs) if keys[node][0] not in LEAVES}
    read = {a for _, _, args in found for a in args} | {node for _, node in outputs if keys[node][0] in LEAVES}
    inputs: list[Name] = [keys[n][1] for n in sorted(read) if keys[n][0] == "input"]
    fields = list(dict.fromkeys(inputs + [name for name, _ in outputs]))
    widths = {numbering.widths.get(name, 1) for name in fields}
    if len(widths) > 1:
        wide = "it reads a value of a stage of another width element by element"
        raise Unsupported("it reads a projected h element by element" if PROJECTED in widths else wide)
    constants = sorted({keys[n][1] for n in read if keys[n][0] == "number"})
    first_register = len(fields) + len(constants)
    registers, most = _registers(found, target.keys())
    if first_register + most > MOST_SLOTS:
        raise Unsupported(f"a stage needs more than the {MOST_SLOTS} slots of the interpreter")

    def slot(node: int) -> int:
        kind, *what = keys[node]
        if kind == "input":
            return fields.index(what[0])
        if kind == "number":
            return len(fields) + constants.index(what[0])
        return fields.index(target[node]) if node in target else first_register + registers[node]

    code = []
    for node, op, args in found:
        sources = [slot(a) for a in args]
        code.append([OPERATIONS[_COMPARISONS.get(op, op)], slot(node), *sources, *[0] * (3 - len(sources))])
    for name, node in outputs:
        if target.get(node) != name:
            code.append([OPERATIONS["copy"], fields.index(name), slot(node), 0, 0])
    return Program(np.array(code, np.int32).reshape(-1, 5), numbering.of(fields), np.array(constants, np.float64), most)


def _registers(found: list[tuple[int, str, tuple[int, ...]]], stored: Collection[int]) -> tuple[dict[int, int], int]:
    """Return the register of every result that goes to no field, and how many there are; free ones are used again."""
    last = {a: at for at, (_, _, args) in enumerate(found) for a in args}
    register: dict[int, int] = {}
    free: list[int] = []
    most = 0
    for at, (node, _, args) in enumerate(found):
        free += [register[a] for a in set(args) if a in register and last[a] == at]
        if node not in stored:
            if not free:
                free.append(most)
                most += 1
            register[node] = free.pop()
    return register, most
