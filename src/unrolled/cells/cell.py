"""A cell: data that names two short elementwise functions and the products around them.

Every gated cell is three parts: a product over all steps `ax = x Wih^T + bih`, a product per step
`ah = operand Whh^T + bhh`, and an elementwise map from `(ax, ah, state)` to a new state. Only the map differs between
cells, so only the map is written here, forward and backward side by side. The time loop and the products belong to the
scan. A cell whose second product needs a result of the first map (a GRU that resets before the product) has two
*stages*; nearly all have one.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from importlib import import_module
from itertools import accumulate
from typing import Any, NamedTuple, Self

import numpy as np

from .activations import ACTIVATIONS

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
    x: Any = None
    """Gradient of what the keyword `x=` gave (stages that see x only)."""


@dataclass(frozen=True)
class Stage:
    """One product and the elementwise map after it.

    The last stage's `forward(ax, ah, s)` returns `(State, Gates)`, an earlier one's a named tuple of values.
    `backward(d, k, s, new)` returns a `Back`; `d` is the gradient of the new state (of the values, for an earlier
    stage), `k` the gates, `s` and `new` the old and the new state. Where there is none, it is derived from `forward`.

    By name, functions get what there is of it:

    - `k=`, the values of the stage before (second and later stages);
    - `p=`, the per-unit parameters, or what `prepare` made of them; `c=`, the cell's settings;
    - `m=`, what recurrent dropout multiplies the candidate with, in the stage that holds it (1 by default);
    - `x=`, in a stage whose `forward` asks for it: the step's input itself, (B, H); where it has another width, its
      product with the parameter `weight_x`;
    - `dt=`, in a stage whose `forward` asks for it: the time since the step before, (B, 1), or 1.
    """

    rows: tuple[str, ...]
    """Names of the row blocks that this stage owns in `weight_ih` and `weight_hh`, in the weights' order; each
    can name a field of a named tuple."""
    forward: Callable[..., Any]
    backward: Callable[..., Back] | None = None
    operand: tuple[str, ...] | None = ("h",)
    """The operand of the product: state fields or earlier values, side by side; None for no product."""
    inputs: bool = True
    """Whether the rows see x. Where they do not, they have no part in `weight_ih`, and `ax` is empty."""
    product: bool = True
    """False where the operand itself is normalised, without any weight; `ah` then has one block an operand."""
    norm: tuple[int, ...] = ()
    """Layer normalisation (Ba et al. 2016): how many blocks, in order, are normalised together; () for none. It acts on
    the products, `x Wih^T` and `operand Whh^T`, each with a gain of its own, before the biases."""
    biases: tuple[str, ...] = ("ih", "hh")
    """Which biases the rows have. Without an operand and without "hh", `ah` is empty."""
    width: float = 1
    """Units of this stage, as a multiple of H. A stage of another width sees no state (`s` is None) and no per-unit
    parameters; what it hands on can only be an operand."""
    keeps: type[Any] | None = None
    """Named tuple of what the tape keeps beside the gates, where the backward function was derived: `forward` returns
    (result, kept) then, and `backward` takes `kept=`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", _pythons(self.inputs))
        object.__setattr__(self, "product", _pythons(self.product))
        object.__setattr__(self, "width", _pythons(self.width))

    @property
    def blocks(self) -> int:
        """Blocks of `ah`."""
        if not self.product:
            return len(self.operand or ())
        return len(self.rows) if self.operand is not None or "hh" in self.biases else 0

    @cached_property
    def sees(self) -> frozenset[str]:
        """Which of `x=` and `dt=` its functions get."""
        return frozenset({"x", "dt"}.intersection(signature_of(self.forward)))

    def units(self, hidden: int) -> int:
        """Units of this stage in a layer of H.

        Examples
        --------
        >>> Stage(("b",), max, width=0.5).units(7), Stage(("b",), max).units(7)
        (4, 7)
        """
        return hidden if self.width == 1 else max(1, round(self.width * hidden))

    def owns(self, parameter: str) -> bool:
        """Whether its rows have a part in `weight_ih`, `weight_hh`, a bias or a gain, by its local name."""
        kind, _, half = parameter.partition("_")
        if kind == "bias" and half not in self.biases:
            return False
        if kind == "gain" and not self.norm:
            return False
        return self.inputs if half == "ih" else kind == "bias" or (self.product and self.operand is not None)


ROWED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "gain_ih", "gain_hh")
"""Parameters that have a row block for each name in a stage's `rows`."""
WEIGHT_X = "weight_x"
"""The parameter that `x=` is a product with, where a layer's input has not H numbers."""


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
    paper: str = ""
    params: type[Any] | None = None
    """Named tuple of per-unit parameters, each (H,); rows of the parameter `params_name`, in this order."""
    params_name: str = ""
    candidate: str = ""
    """The row that recurrent dropout acts on; "" where the cell has none."""
    heads: int = 1
    """Blocks on the diagonal of recurrent weights: a unit sees the ceil(H / heads) units of its own head alone."""
    prepare: Callable[..., Any] | None = None
    """Function of the per-unit parameters (and `c=`), run once a pass: the functions get the named tuple that it
    returns as `p=`. It may use `numpy.log1p`, `sin`, `cos` and `abs` too."""
    settings: Any = None
    """A named tuple of constants: numbers, such as the length of a step, and names of activations. Functions get it as
    `c=`, with the functions in the place of names."""
    initial: Any = ()
    """Initialisers of its paper, `(rng, shape) -> array`, of "<parameter>" or "<parameter>.<row or field>"; a
    dictionary will do. Each gives finite real numbers of that shape, or one number for all of them. Those of per-unit
    parameters hold always, others where `init` is not said."""

    def __post_init__(self) -> None:
        from .contract import check_contract  # which needs this file

        if isinstance(self.initial, Mapping):
            object.__setattr__(self, "initial", tuple(self.initial.items()))
        check_contract(self)

    def with_settings(self, **changes: float | str) -> Self:
        """Return the same cell with other constants.

        Raises
        ------
        UnrolledError
            If it has none of that name, or a value that makes none.
        """
        from .contract import changed_settings

        return replace(self, settings=changed_settings(self, changes)) if changes else self

    @cached_property
    def constants(self) -> Any:
        """The settings, with functions in the place of activations' names."""
        values = (ACTIVATIONS[value] if isinstance(value, str) else value for value in self.settings or ())
        return None if self.settings is None else type(self.settings)(*values)

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.state, self.gates, self.stages, self.heads, self.settings))

    def __hash__(self) -> int:
        """Return what caches find it by at every call, found once."""
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the fields alone: what was found of them, a hash for one, holds in this process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

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
    def sees_x(self) -> bool:
        """Whether a stage sees x itself."""
        return any("x" in stage.sees for stage in self.stages)

    @cached_property
    def sees_time(self) -> bool:
        """Whether a stage sees the time since the step before."""
        return any("dt" in stage.sees for stage in self.stages)

    @cached_property
    def operand_width(self) -> int:
        """Operands side by side, at most, of a product; 0 where the cell has no product."""
        return max(len(stage.operand or ()) if stage.product else 0 for stage in self.stages)

    def columns(self, hidden: int) -> int:
        """Columns of `weight_hh`; a stage whose operand is narrower leaves the last ones unused."""
        return max(
            sum(self.head(self.operand_units(n, name, hidden)) for name in stage.operand or ()) * stage.product
            for n, stage in enumerate(self.stages)
        )

    def operand_units(self, n: int, name: str, hidden: int) -> int:
        """Units of an operand of stage n: H of the state's, or as many as the stage before it has."""
        return hidden if name in self.state_fields else self.stages[n - 1].units(hidden)

    def head(self, units: int) -> int:
        """Units of a head, the last one's at most."""
        return -(-units // self.heads)

    def slices(self, parameter: str, hidden: int) -> list[slice]:
        """Rows that each stage has of a parameter; of none, an empty slice.

        Examples
        --------
        >>> from unrolled.cells import CELLS
        >>> CELLS["gru_reset_before"].slices("weight_hh", 5)
        [slice(0, 10, None), slice(10, 15, None)]
        """
        sizes = [len(s.rows) * s.units(hidden) * s.owns(parameter) for s in self.stages]
        return [slice(sum(sizes[:n]), sum(sizes[: n + 1])) for n in range(len(sizes))]

    def parts(self, parameter: str, hidden: int) -> dict[str, slice]:
        """Rows of a parameter by the names of its row blocks, or of the fields of per-unit parameters.

        Examples
        --------
        >>> from unrolled.cells import CELLS
        >>> CELLS["mgu"].parts("bias_hh", 5)
        {'f': slice(0, 5, None), 'n': slice(5, 10, None)}
        """
        if parameter == self.params_name:
            return {name: slice(n, n + 1) for n, name in enumerate(self.param_fields)}
        own = [
            (row, s.units(hidden)) for s in self.stages if parameter in ROWED and s.owns(parameter) for row in s.rows
        ]
        ends = [*accumulate((size for _, size in own), initial=0)]
        return {row: slice(*ends[n : n + 2]) for n, (row, _) in enumerate(own)}

    def shapes(self, inputs: int, hidden: int, *, bias: bool = True, proj: int = 0) -> dict[str, tuple[int, ...]]:
        """Every parameter of a layer by its local name, in PyTorch's order, with its shape.

        Examples
        --------
        >>> from unrolled.cells import CELLS
        >>> CELLS["lstm_peephole"].shapes(4, 5, bias=False)
        {'weight_ih': (20, 4), 'weight_hh': (20, 5), 'weight_peephole': (3, 5)}
        """
        rows = {name: self.slices(name, hidden)[-1].stop for name in ROWED}
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows["weight_ih"], inputs)}
        if self.operand_width:
            shapes["weight_hh"] = rows["weight_hh"], proj or self.columns(hidden)
        if bias:
            shapes |= {name: (rows[name],) for name in ("bias_ih", "bias_hh") if rows[name]}
        if proj:
            shapes["weight_hr"] = (proj, hidden)
        if self.sees_x and inputs != hidden:
            shapes[WEIGHT_X] = (hidden, inputs)
        if self.params is not None:
            shapes[self.params_name] = (len(self.param_fields), hidden)
        if self.normalised:
            shapes |= {"gain_ih": (rows["gain_ih"],), "gain_hh": (rows["gain_hh"],)}
        own = [name for stage in self.stages if not stage.product for name in stage.operand or ()]
        kinds = ("gain", "bias") if bias else ("gain",)
        return shapes | {f"{kind}_{name}": (hidden,) for name in own for kind in kinds}


def _pythons(value: Any) -> Any:
    """Return a number of NumPy's as Python's own, which a file's text and a tuple's length can be made of."""
    kind = {"b": bool, "i": int, "u": int, "f": float}.get(value.dtype.kind) if isinstance(value, np.generic) else None
    return value if kind is None else kind(value)


@lru_cache(maxsize=512)
def signature_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters; of what is written in C, none.

    Examples
    --------
    >>> signature_of(lambda ax, ah, s, x: s)
    ('ax', 'ah', 's', 'x')
    """
    try:
        return tuple(inspect.signature(function).parameters)
    except (ValueError, TypeError):
        return ()


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
