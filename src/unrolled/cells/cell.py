"""A cell: data that names two short elementwise functions and the products around them.

Every gated cell is three parts: a product over all steps `ax = x Wih^T + bih`, a product per step
`ah = operand Whh^T + bhh`, and an elementwise map from `(ax, ah, state)` to a new state. Only the map differs between
cells, so only the map is written here, forward and backward side by side. The time loop and the products belong to the
scan. A cell whose second product needs a result of the first map (a GRU that resets before the product) has two
*stages*; nearly all have one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple, Self

Value = Any
"""One unit's number: in practice an array (B, H), real or complex, or a symbol of the kernel emitter."""


class Back(NamedTuple):
    """The result of a stage's backward function: the gradient of everything its forward function read."""

    ax: tuple[Value, ...]
    """Gradient of the input pre-activations, one a row block."""
    ah: tuple[Value, ...]
    """Gradient of the recurrent pre-activations; the very same tuple as `ax` where the two only occur as a sum."""
    state: Any
    """Gradient of the old state, the part that does not pass through the product (0 where there is none)."""
    values: Any = None
    """Gradient of the earlier stages' values (second and later stages only)."""
    params: Any = None
    """Gradient of the per-unit parameters, not yet summed over time and batch (cells with parameters only)."""


@dataclass(frozen=True)
class Stage:
    """One product and the elementwise map after it.

    The last stage's `forward(ax, ah, s)` returns `(State, Gates)`, an earlier one's a named tuple of values.
    `backward(d, k, s, new)` returns a `Back`; `d` is the gradient of the new state (of the values, for an earlier
    stage), `k` the gates, `s` and `new` the old and the new state. Functions of a second stage also take the earlier
    values as `k=`; all functions of a cell with per-unit parameters take them as `p=`; those of the stage that holds
    the cell's candidate take `m=`, what recurrent dropout multiplies the candidate with (1 by default).
    """

    rows: tuple[str, ...]
    """Names of the H-row blocks that this stage owns in `weight_ih` and `weight_hh`, in the weights' order."""
    forward: Callable[..., Any]
    backward: Callable[..., Back]
    operand: tuple[str, ...] | None = ("h",)
    """The operand of the product: state fields or earlier values, side by side; None for no product."""
    inputs: bool = True
    """Whether the rows see x. Where they do not, they have no part in `weight_ih`, and `ax` is empty."""
    product: bool = True
    """False where the operand itself is normalised, without any weight; `ah` then has one block an operand."""
    norm: tuple[int, ...] = ()
    """Layer normalisation (Ba et al. 2016): how many blocks, in order, are normalised together; () for none. It acts on
    the products, `x Wih^T` and `operand Whh^T`, each with a gain of its own, before the biases."""

    @property
    def blocks(self) -> int:
        """Blocks of `ah`."""
        return len(self.rows) if self.product else len(self.operand or ())


@dataclass(frozen=True)
class Cell:
    """A recurrent cell as plain data.

    Raises
    ------
    UnrolledError
        If it is none that could run (`check_contract`).

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> CELLS["lstm"].rows
    ('i', 'f', 'g', 'o')
    >>> CELLS["lstm"].state_fields
    ('h', 'c')
    """

    name: str
    state: type[Any]
    """Named tuple of the carried arrays; `h` comes first and is the output."""
    gates: type[Any]
    """Named tuple of what the tape keeps of every step."""
    stages: tuple[Stage, ...]
    paper: str
    params: type[Any] | None = None
    """Named tuple of per-unit parameters, each (H,); rows of the parameter `params_name`, in this order."""
    params_name: str = ""
    candidate: str = ""
    """The row that recurrent dropout acts on; "" where the cell has none."""

    def __post_init__(self) -> None:
        from .contract import check_contract  # which needs this file

        check_contract(self)

    def __copy__(self) -> Self:
        """Return the cell itself: nothing of it ever changes."""
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        """Return the cell itself."""
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a cell that a module holds as its name there, and any other one as its fields."""
        home = _home(self)
        return super().__reduce_ex__(protocol) if home is None else (_named, home)

    @cached_property
    def state_fields(self) -> tuple[str, ...]:
        """Names of the carried arrays, `h` first."""
        return tuple(self.state._fields)

    @cached_property
    def gate_fields(self) -> tuple[str, ...]:
        """Names of what the tape keeps of every step."""
        return tuple(self.gates._fields)

    @cached_property
    def param_fields(self) -> tuple[str, ...]:
        """Names of the per-unit parameters; () where the cell has none."""
        return () if self.params is None else tuple(self.params._fields)

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """Every row block of `weight_hh` (or of the biases, without a product), in order."""
        return tuple(row for stage in self.stages for row in stage.rows)

    @cached_property
    def input_rows(self) -> tuple[str, ...]:
        """Every row block of `weight_ih`: the first of `rows`, or all of them."""
        return tuple(row for stage in self.stages if stage.inputs for row in stage.rows)

    @cached_property
    def normalised(self) -> bool:
        """Whether any stage is."""
        return any(stage.norm for stage in self.stages)

    @cached_property
    def operand_width(self) -> int:
        """Columns of `weight_hh` as a multiple of H; 0 where the cell has no product."""
        return max(len(stage.operand or ()) if stage.product else 0 for stage in self.stages)

    def shapes(self, inputs: int, hidden: int, *, bias: bool = True, proj: int = 0) -> dict[str, tuple[int, ...]]:
        """Every parameter of a layer by its local name, in PyTorch's order, with its shape.

        Examples
        --------
        >>> from unrolled.cells import CELLS
        >>> CELLS["lstm_peephole"].shapes(4, 5, bias=False)
        {'weight_ih': (20, 4), 'weight_hh': (20, 5), 'weight_peephole': (3, 5)}
        """
        rows, input_rows = len(self.rows) * hidden, len(self.input_rows) * hidden
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (input_rows, inputs)}
        if self.operand_width:
            shapes["weight_hh"] = (rows, proj or self.operand_width * hidden)
        if bias:
            shapes |= {"bias_ih": (input_rows,), "bias_hh": (rows,)}
        if proj:
            shapes["weight_hr"] = (proj, hidden)
        if self.params is not None:
            shapes[self.params_name] = (len(self.param_fields), hidden)
        if self.normalised:
            shapes |= {"gain_ih": (input_rows,), "gain_hh": (rows,)}
        own = [name for stage in self.stages if not stage.product for name in stage.operand or ()]
        kinds = ("gain", "bias") if bias else ("gain",)
        return shapes | {f"{kind}_{name}": (hidden,) for name in own for kind in kinds}


def _home(cell: Cell) -> tuple[str, str] | None:
    """Return the module that holds a cell, and the cell's name there; None where it can't be imported again.

    What a script or a notebook holds (`__main__`) is another thing in another process.
    """
    modules = [name for name in sys.modules.copy() if name not in ("__main__", "__mp_main__")]
    held = (
        (module, name)
        for module in modules
        for name, value in [*getattr(sys.modules.get(module), "__dict__", {}).items()]
        if value is cell
    )
    return (__package__, cell.name) if _catalogue().get(cell.name) is cell else next(held, None)


def _named(module: str, name: str) -> Cell:
    """Return the cell that a module holds; the catalogue's by its own name."""
    found: Cell = _catalogue()[name] if module == __package__ else getattr(import_module(module), name)
    return found


def _catalogue() -> dict[str, Cell]:
    """Return the cells that have names of their own, which are made of this file."""
    cells: dict[str, Cell] = import_module(__package__).CELLS
    return cells
