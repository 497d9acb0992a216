"""A stack of recurrent layers: its cell, sizes and options, and the names and shapes that follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..cells import Cell, find_cell
from ..cells.settings import parse_settings
from ..checks import array_dtype, as_dtype, as_kind, check_memory, check_size, check_widths
from ..codegen.derive import complete
from ..declared import check_plain
from ..errors import UnrolledError, brief
from ..keywords import keyword, named
from .initializers import check_init
from .options import DTYPES, STACK
from .states import States, state_widths

DEFAULTS = {name: declared.default for name, declared in STACK.items()}

DROPPING = ("dropout", "locked_dropout", "recurrent_dropout", "weight_drop")
"""Rates that do nothing without masks; zoneout mixes old and new instead."""


def suffix(layer: int, direction: int) -> str:
    """Return what a layer's and direction's parameters and masks end in.

    Examples
    --------
    >>> suffix(0, 1)
    '_l0_reverse'
    """
    return f"_l{layer}" + ("_reverse" if direction else "")


FIRST = tuple("weight_ih" + suffix(0, d) for d in range(2))


class Stack:
    """A stack without weights: what every option of `Recurrent` is, and what of it makes sense with a cell.

    Examples
    --------
    >>> stack = Stack("lstm", 4, 5, proj_size=3)
    >>> stack.output_size, stack.shapes()["weight_hr_l0"]
    (3, (3, 5))
    """

    bias: bool
    dropout: float
    locked_dropout: float
    recurrent_dropout: float
    weight_drop: float
    zoneout: float
    zoneout_cell: float
    residual: bool
    bidirectional: bool
    proj_size: int
    learn_state: bool
    init: str
    forget_bias: float | None
    dtype: str
    cell_settings: str

    @named(keyword(name, declared.default, declared.type) for name, declared in STACK.items())
    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        batch_first: bool = False,
        **options: Any,
    ) -> None:
        self.cell = find_cell(cell)
        self.input_size = check_size("input_size", input_size)
        self.hidden_sizes = widths = check_widths(hidden_size, num_layers)
        self.hidden_size: int | tuple[int, ...] = widths[0] if len(set(widths)) == 1 else widths
        """H; where layers differ, all their widths."""
        self.num_layers = len(widths)
        self.batch_first = as_kind("batch_first", batch_first, "bool")
        chosen = DEFAULTS | options
        chosen["dtype"] = as_dtype(chosen["dtype"], DTYPES)
        for name, value in chosen.items():
            setattr(self, name, check_plain(STACK[name], value))
        self.cell = self.cell.with_settings(**parse_settings(self.cell_settings))
        complete(self.cell)  # refuses a cell whose gradient can't be derived
        check_init(self.init, self.cell, forget_bias=self.forget_bias, bias=self.bias, proj=self.proj_size)
        self._check_options()
        self.states = States(
            self.cell, tuple(state_widths(self.cell, h, self.proj_size) for h in widths), self.directions
        )
        """How its state is laid out."""

    def _check_options(self) -> None:
        """Refuse what makes no sense with this cell or with these widths."""
        cell, fields = self.cell, self.cell.state_fields
        products = [stage.operand for stage in cell.stages if stage.product]
        if self.proj_size and not ("c" in fields and products == [("h",)] and cell.heads == 1):
            raise UnrolledError(
                f"proj_size is {self.proj_size}, but {cell.name} can't project its h: it needs a memory c beside h, "
                "and one product of h alone, without heads, as lstm has"
            )
        if self.proj_size and self.proj_size >= min(self.hidden_sizes):
            raise UnrolledError(
                f"proj_size is {self.proj_size}; it must be below hidden_size = {brief(self.hidden_size)}"
            )
        if self.residual and len(set(self.hidden_sizes)) > 1:
            raise UnrolledError(f"residual layers must be of one width; hidden_size is {brief(self.hidden_size)}")
        if self.recurrent_dropout and not cell.candidate:
            raise UnrolledError(
                f"recurrent_dropout drops a cell's candidate and keeps its memory; {cell.name} has no candidate"
            )
        if self.weight_drop and not cell.operand_width:
            raise UnrolledError(f"weight_drop drops entries of weight_hh; {cell.name} has none")
        if self.zoneout_cell and "c" not in fields:
            raise UnrolledError(f"zoneout_cell keeps old values of c; {cell.name} has no c, use zoneout")

    @property
    def directions(self) -> int:
        """D: 2 when bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Width of y: D H of the last layer, or D P."""
        return self.width(-1)

    def width(self, layer: int) -> int:
        """Width of a layer's output, both directions together."""
        return self.directions * (self.proj_size or self.hidden_sizes[layer])

    @property
    def first(self) -> tuple[str, ...]:
        """Names of the weights that read x, one a direction."""
        return FIRST[: self.directions]

    def passes(self) -> Iterator[tuple[int, int]]:
        """Yield (layer, direction) in the order of states and tapes."""
        return ((layer, d) for layer in range(self.num_layers) for d in range(self.directions))

    def local_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Shapes of one layer's parameters by local names, in PyTorch's order, trained initial states last."""
        inputs = self.width(layer - 1) if layer else self.input_size
        shapes = self.cell.shapes(inputs, self.hidden_sizes[layer], bias=self.bias, proj=self.proj_size)
        initial = self.states.widths[layer] if self.learn_state else {}
        return shapes | {f"initial_{name}": (width,) for name, width in initial.items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape, in PyTorch's order."""
        return {
            name + suffix(layer, d): shape
            for layer, d in self.passes()
            for name, shape in self.local_shapes(layer).items()
        }

    def scanned(self) -> list[list[tuple[str, str, tuple[int, ...]]]]:
        """Of every pass: the parameters that its scan reads, by their local and full names, with their shapes."""
        return [
            [
                (name, name + suffix(layer, d), shape)
                for name, shape in self.local_shapes(layer).items()
                if not name.startswith("initial_")
            ]
            for layer, d in self.passes()
        ]

    def check_memory(self) -> None:
        """Refuse more parameters than this machine has memory for."""
        check_memory(sum(math.prod(shape) for shape in self.shapes().values()), array_dtype(self.dtype))
