"""Stacks of recurrent layers with PyTorch's semantics, names and initialisation: `RNN`, `LSTM`, `GRU`, `Recurrent`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self, cast

import numpy as np

from . import backends
from .cells import CELLS, Cell
from .errors import UnrolledError, Unsupported, suggest
from .layers import draw_mask, dropout, uniform
from .scan import Array

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class StackTape:
    """What a stack remembers of a forward pass: one scan tape a layer and direction, as plain data.

    Attributes
    ----------
    scans : tuple of `unrolled.scan.Tape`, entry `layer * D + direction`; a reverse direction's runs backwards in time
    masks : tuple of (T, B, D H) bool arrays, the dropout masks after each layer but the last, or None
    """

    scans: tuple[Any, ...]
    directions: int
    masks: tuple[Array, ...] | None
    batch_first: bool

    @property
    def gates(self) -> tuple[Any, ...]:
        """The gates of every layer and direction: `tape.gates[layer * D + direction].f` is (T, B, H)."""
        return tuple(self._in_time(n, tape.gates) for n, tape in enumerate(self.scans))

    @property
    def states(self) -> tuple[Any, ...]:
        """The states after every step, by layer and direction: `tape.states[n].c` is (T, B, H)."""
        return tuple(
            self._in_time(n, type(tape.states)(*(f[1:] for f in tape.states))) for n, tape in enumerate(self.scans)
        )

    def _in_time(self, n: int, fields: Any) -> Any:
        return type(fields)(*(f[::-1] for f in fields)) if n % self.directions else fields


def find_cell(cell: str | Cell) -> Cell:
    """Return the cell of that name, or the object itself."""
    if isinstance(cell, Cell):
        return cell
    if not isinstance(cell, str) or cell not in CELLS:
        raise UnrolledError(suggest("cell", str(cell), list(CELLS)))
    return CELLS[cell]


def check_size(name: str, value: object, least: int = 1) -> int:
    """Return `value` as an int, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise UnrolledError(f"{name} is {value!r}; it must be a whole number, {least} or more")
    return int(value)


def check_fraction(name: str, value: float) -> float:
    """Return `value` as a float in [0, 1), or say what is wrong with it."""
    if not isinstance(value, Real) or not 0 <= value < 1:
        raise UnrolledError(f"{name} is {value!r}; it must be at least 0 and below 1")
    return float(value)


def load_params(params: dict[str, Array], new: Mapping[str, Any]) -> None:
    """Replace the arrays in `params`, after checking that names and shapes agree; nothing changes on an error."""
    missing, extra = sorted(params.keys() - new.keys()), sorted(new.keys() - params.keys())
    if missing or extra:
        said = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("unknown", extra)) if names]
        raise UnrolledError(f"the parameters do not fit this network; {'; '.join(said)}")
    arrays = {name: as_numbers(name, new[name]) for name in params}
    for name, array in params.items():
        if arrays[name].shape != array.shape:
            raise UnrolledError(f"{name} has shape {arrays[name].shape}; this network takes {array.shape}")
        if arrays[name].dtype.kind == "c":
            raise UnrolledError(f"{name} holds complex numbers; this network takes {array.dtype}")
    params |= {name: np.array(arrays[name], dtype=array.dtype, order="C") for name, array in params.items()}


def as_numbers(name: str, value: Any) -> Array:
    """Return `value` as an array of numbers, or say that it is none."""
    try:
        array = cast(Array, np.asarray(value))
    except ValueError:
        raise UnrolledError(f"{name} has rows of unequal length; expected an array of numbers") from None
    if array.dtype.kind not in "biufc":
        got = f"has dtype {array.dtype}" if array.ndim else f"is {value!r}"
        raise UnrolledError(f"{name} {got}; expected an array of numbers")
    return array


def check_rng(rng: Any) -> np.random.Generator:
    """Return `rng`, or say that it is no Generator."""
    if not isinstance(rng, np.random.Generator):
        raise UnrolledError(f"rng is {rng!r}; expected a numpy Generator, such as numpy.random.default_rng(seed)")
    return rng


class Recurrent:
    """A stack of recurrent layers of one cell; shapes, names and initialisation are PyTorch's.

    Letters: T steps, B rows of the batch, I inputs, H hidden units, L layers, D directions (1 or 2).

    Parameters
    ----------
    cell : str or Cell
        A name in `unrolled.cells.CELLS`, or a cell of your own.
    input_size, hidden_size, num_layers : int
        I, H, L.
    bias : bool
        Whether layers have `bias_ih` and `bias_hh`. They are two parameters, as in PyTorch: Adam moves both.
    batch_first : bool
        Whether x and y (and dx, dy) are (B, T, ...) instead of (T, B, ...). States never are.
    dropout : float
        Chance that an output of a layer, the last apart, is dropped in `forward` when it is given `rng` or `masks`.
    bidirectional : bool
        Whether each layer also runs backwards in time; outputs are (T, B, 2 H).
    dtype : str
        "float32" or "float64".
    backend : str
        "auto", "cpu" or "reference".
    rng : numpy.random.Generator, optional
        Where the initial weights come from; U(-1/sqrt(H), 1/sqrt(H)), as in PyTorch. Default: seed 0.

    Raises
    ------
    UnrolledError
        For an unknown name or a size that makes no sense.

    Examples
    --------
    >>> import unrolled as ur
    >>> net = ur.Recurrent("gru_reset_after", input_size=4, hidden_size=5, num_layers=2)
    >>> y, state = net(np.zeros((7, 3, 4)))
    >>> y.shape, state.h.shape
    ((7, 3, 5), (2, 3, 5))
    """

    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: str = "float32",
        backend: str = "auto",
        rng: np.random.Generator | None = None,
    ) -> None:
        self.cell = find_cell(cell)
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.num_layers = check_size("num_layers", num_layers)
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.dropout = check_fraction("dropout", dropout)
        self.dtype = str(getattr(dtype, "__name__", dtype))  # np.float32 will do
        if self.dtype not in DTYPES:
            raise UnrolledError(suggest("dtype", self.dtype, list(DTYPES)))
        self._backend = backends.choose(backend)
        if backend == "cpu" and (why := backends.reason(self.cell, self.dtype)):
            raise Unsupported(f"{why}. Use backend='auto' or 'reference'.")
        rng = np.random.default_rng(0) if rng is None else check_rng(rng)
        bound = 1 / np.sqrt(self.hidden_size)
        self.params: dict[str, Array] = {
            name: np.ones(shape, self.dtype) if name.startswith("gain") else uniform(rng, shape, bound, self.dtype)
            for name, shape in self.shapes().items()
        }
        """Parameters by PyTorch's names."""

    @property
    def directions(self) -> int:
        """D: 2 when bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def backend(self) -> str:
        """Name of the backend that runs this cell; `unrolled.backends.reason` says why it is not the engine."""
        return "reference" if backends.reason(self.cell, self.dtype) else self._backend.name

    def _passes(self) -> Iterator[tuple[int, int]]:
        """Yield (layer, direction) in the order of states and tapes."""
        return ((layer, d) for layer in range(self.num_layers) for d in range(self.directions))

    def _local_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Shapes of one layer's parameters, by local names, in PyTorch's order."""
        inputs = self.input_size if layer == 0 else self.hidden_size * self.directions
        return self.cell.shapes(inputs, self.hidden_size, bias=self.bias)

    @staticmethod
    def _suffix(layer: int, direction: int) -> str:
        return f"_l{layer}" + ("_reverse" if direction else "")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape, in PyTorch's order."""
        return {
            name + self._suffix(layer, d): shape
            for layer, d in self._passes()
            for name, shape in self._local_shapes(layer).items()
        }

    def _weights(self, layer: int, direction: int) -> dict[str, Array]:
        suffix = self._suffix(layer, direction)
        return {name: self.params[name + suffix] for name in self._local_shapes(layer)}

    def load_params(self, params: Mapping[str, Any]) -> None:
        """Copy parameters in, by name; a PyTorch module's `state_dict()` as NumPy arrays fits as it is.

        Raises
        ------
        UnrolledError
            If a name is missing or unknown or a shape differs; nothing is changed then.
        """
        load_params(self.params, params)

    def with_params(self, params: Mapping[str, Array], backend: str | None = None) -> Self:
        """Return the same network on other arrays, used as they are, in their precision (proofs pass complex ones)."""
        other = copy.copy(self)
        other.params = dict(params)
        other.dtype = "float32" if all(p.dtype == np.float32 for p in params.values()) else "float64"
        if backend is not None:
            other._backend = backends.choose(backend)
        return other

    def zero_state(self, batch: int) -> Any:
        """State of zeros, each field (L D, B, H)."""
        shape = (self.num_layers * self.directions, batch, self.hidden_size)
        return self.cell.state(*(np.zeros(shape, self.dtype) for _ in self.cell.state._fields))  # type: ignore[attr-defined]

    def _state(self, state: Any, batch: int, what: str = "state") -> Any:
        """Accept a State, a tuple in its order, a bare array (one field) or None for zeros."""
        if state is None:
            return self.zero_state(batch)
        names: tuple[str, ...] = self.cell.state._fields  # type: ignore[attr-defined]
        fields: Sequence[Any] = [state] if isinstance(state, np.ndarray) else state
        if not isinstance(fields, (tuple, list)) or len(fields) != len(names):
            raise UnrolledError(f"{what} must be ({', '.join(names)}), as {self.cell.name} has it")
        shape = (self.num_layers * self.directions, batch, self.hidden_size)
        for name, field in zip(names, fields, strict=True):
            if np.shape(field) != shape:
                raise UnrolledError(f"{what}.{name} has shape {np.shape(field)}; expected (L*D, B, H) = {shape}")
        return self.cell.state(
            *(self._cast(field, f"{what}.{name}") for name, field in zip(names, fields, strict=True))
        )

    def _cast(self, x: Any, name: str) -> Array:
        array = as_numbers(name, x)
        return array if array.dtype.kind == "c" else array.astype(self.dtype, copy=False)

    def _input(self, x: Any) -> Array:
        """Check x, but not yet its indices, and put time first."""
        x = as_numbers("x", x)
        if x.dtype.kind in "iu":
            if x.ndim != 2:
                order = "(B, T)" if self.batch_first else "(T, B)"
                raise UnrolledError(f"integer x has shape {x.shape}; expected {order} indices of one-hot inputs")
        else:
            order = "(B, T, I)" if self.batch_first else "(T, B, I)"
            if x.ndim != 3:
                raise UnrolledError(f"x has shape {x.shape}; expected {order}")
            if x.shape[2] != self.input_size:
                raise UnrolledError(f"layer 0: x has {x.shape[2]} features, weight_ih_l0 takes {self.input_size}")
            x = self._cast(x, "x")
        return np.swapaxes(x, 0, 1) if self.batch_first else x

    def _live(self, lengths: Any, steps: int, batch: int) -> Array | None:
        if lengths is None:
            return None
        lengths = cast(Array, np.asarray(lengths))
        if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
            raise UnrolledError(f"lengths must be {batch} whole numbers, one a row of the batch; got {lengths!r}")
        if lengths.size and not (lengths.min() >= 0 and lengths.max() <= steps):
            raise UnrolledError(f"lengths must lie between 0 and T = {steps}; got {lengths.min()} to {lengths.max()}")
        live: Array = np.arange(steps)[:, None] < lengths
        return live

    def _indices(self, x: Array, live: Array | None) -> Array:
        """Check indices (T, B) of one-hot inputs; what stands behind a row's length is none, and becomes 0."""
        if live is not None:
            x = np.where(live, x, x.dtype.type(0))
        if x.size and not (x.min() >= 0 and x.max() < self.input_size):
            raise UnrolledError(
                f"x has indices from {x.min()} to {x.max()}; they must be at least 0 and below {self.input_size}"
            )
        return x

    def _masks(self, masks: Any, steps: int, batch: int) -> None:
        """Check the dropout masks of a pass."""
        shape, count = (steps, batch, self.directions * self.hidden_size), self.num_layers - 1
        got = [np.shape(m) for m in masks] if isinstance(masks, (tuple, list)) else masks
        if got != [shape] * count:
            raise UnrolledError(f"masks have shapes {got}; expected {count}, each (T, B, D H) = {shape}")

    def draw_masks(self, steps: int, batch: int, rng: np.random.Generator) -> tuple[Array, ...] | None:
        """Draw the dropout masks of one forward pass: L - 1 arrays (T, B, D H), True where an output is kept."""
        if not self.dropout:
            return None
        shape = (steps, batch, self.directions * self.hidden_size)
        return tuple(draw_mask(rng, shape, self.dropout) for _ in range(self.num_layers - 1))

    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Array, Any]:
        """Inference: as `forward`, without dropout and without a tape."""
        y, new, _ = self._run(x, state, lengths, None, record=False)
        return y, new

    def forward(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        *,
        rng: np.random.Generator | None = None,
        masks: tuple[Array, ...] | None = None,
    ) -> tuple[Array, Any, StackTape]:
        """Run the stack and record what the gradient needs.

        Parameters
        ----------
        x : (T, B, I) array, or (T, B) integers that stand for one-hot inputs
            With `batch_first`, (B, T, I) or (B, T).
        state : State, tuple, array or None
            Initial state, each field (L D, B, H); None is zeros.
        lengths : (B,) integers, optional
            Steps of each row, in any order, 0 allowed. Later steps change neither state nor gradient; their y is 0.
        rng : numpy.random.Generator, optional
            Draws dropout masks.
        masks : tuple of arrays, optional
            Masks from `draw_masks`, instead of `rng`.

        Returns
        -------
        y : (T, B, D H) array
        state : State, each field (L D, B, H)
        tape : StackTape

        Raises
        ------
        UnrolledError
            If a shape or an index does not fit.

        Examples
        --------
        >>> import unrolled as ur
        >>> lstm = ur.LSTM(4, 5)
        >>> y, state, tape = lstm.forward(np.ones((7, 3, 4)))
        >>> tape.gates[0].f.shape
        (7, 3, 5)
        """
        if masks is None and rng is not None:
            steps, batch = self._input(x).shape[:2]
            masks = self.draw_masks(steps, batch, check_rng(rng))
        return self._run(x, state, lengths, masks, record=True)

    def _run(
        self, x: Any, state: Any, lengths: Any, masks: tuple[Array, ...] | None, *, record: bool
    ) -> tuple[Array, Any, StackTape]:
        x = self._input(x)
        steps, batch = x.shape[:2]
        s = self._state(state, batch)
        live = self._live(lengths, steps, batch)
        if x.dtype.kind in "iu":
            x = self._indices(x, live)
        if masks is not None:
            self._masks(masks, steps, batch)
        tapes, finals = [], []
        for layer in range(self.num_layers):
            outputs = []
            for d in range(self.directions):
                n = layer * self.directions + d
                flip = slice(None, None, -1 if d else 1)
                y, final, tape = self._backend.forward(
                    self.cell,
                    self._weights(layer, d),
                    x[flip],
                    type(s)(*(f[n] for f in s)),
                    live=None if live is None else live[flip],
                    record=record,
                )
                outputs.append(y[flip])
                tapes.append(tape)
                finals.append(final)
            x = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
            if masks is not None and layer < self.num_layers - 1:
                x = dropout(x, masks[layer], self.dropout)
        new = type(s)(*(np.stack(fields) for fields in zip(*finals, strict=True)))
        tape = StackTape(tuple(tapes), self.directions, masks, self.batch_first)
        return x.swapaxes(0, 1) if self.batch_first else x, new, tape

    def backward(self, tape: StackTape, dy: Any, dstate: Any = None) -> tuple[Array | None, Any, dict[str, Array]]:
        """Gradients of everything that `forward` read; nothing is accumulated anywhere.

        Parameters
        ----------
        tape : StackTape
            From `forward`.
        dy : (T, B, D H) array
            Gradient of the outputs, (B, T, D H) with `batch_first`.
        dstate : State, tuple, array or None
            Gradient of the final state; None is zeros.

        Returns
        -------
        dx : array shaped as x, or None where x was integers
        dstate : State
            Gradient of the initial state, each field (L D, B, H).
        grads : dict
            Gradient of every parameter, keyed as `params`.

        Examples
        --------
        >>> import unrolled as ur
        >>> rnn = ur.RNN(4, 5, dtype="float64")
        >>> y, state, tape = rnn.forward(np.ones((7, 3, 4)))
        >>> dx, dstate, grads = rnn.backward(tape, np.ones_like(y))
        >>> sorted(grads) == sorted(rnn.params)
        True
        """
        dy = self._cast(dy, "dy")
        passes = self.num_layers * self.directions
        if len(tape.scans) != passes:
            raise UnrolledError(f"the tape has {len(tape.scans)} layers and directions, this network {passes}")
        steps, batch = tape.scans[0].x.shape[:2]
        order, first = ("(B, T, D H)", (batch, steps)) if self.batch_first else ("(T, B, D H)", (steps, batch))
        expected = (*first, self.directions * self.hidden_size)
        if dy.shape != expected:
            raise UnrolledError(f"dy has shape {dy.shape}; expected {order} = {expected}")
        if self.batch_first:
            dy = dy.swapaxes(0, 1)
        ds = self._state(dstate, dy.shape[1], "dstate")
        before: dict[int, Any] = {}
        grads: dict[str, Array] = {}
        dx: Array | None = None
        for layer in range(self.num_layers - 1, -1, -1):
            parts = np.split(dy, self.directions, axis=-1)
            dx = None
            for d in range(self.directions):
                n = layer * self.directions + d
                flip = slice(None, None, -1 if d else 1)
                dx_d, before[n], local = self._backend.backward(
                    tape.scans[n], parts[d][flip], type(ds)(*(f[n] for f in ds))
                )
                grads |= {name + self._suffix(layer, d): g for name, g in local.items()}
                if dx_d is not None:
                    dx = dx_d[flip] if dx is None else dx + dx_d[flip]
            if layer:
                assert dx is not None
                dy = dx if tape.masks is None else dropout(dx, tape.masks[layer - 1], self.dropout)
        dstate = type(ds)(*(np.stack(fields) for fields in zip(*(before[n] for n in sorted(before)), strict=True)))
        if dx is not None and self.batch_first:
            dx = dx.swapaxes(0, 1)
        return dx, dstate, {name: grads[name] for name in self.params}

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """One step of inference: x (B, I), or (B,) integers -> y (B, H) and the new state.

        Examples
        --------
        >>> import unrolled as ur
        >>> y, state = ur.GRU(4, 5).step(np.ones((3, 4)))
        >>> y.shape
        (3, 5)
        """
        if self.bidirectional:
            raise UnrolledError("a bidirectional network has no step: the reverse direction needs the whole sequence")
        x = np.asarray(x)
        axis = 1 if self.batch_first else 0
        y, new = self(np.expand_dims(x, axis), state)
        return y.squeeze(axis), new

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.cell.name!r}, input_size={self.input_size}, hidden_size={self.hidden_size}, "
            f"num_layers={self.num_layers}, {sum(p.size for p in self.params.values()):,} parameters, {self.backend})"
        )


class RNN(Recurrent):
    """A stack of simple recurrent layers, `cell="rnn_tanh"` or `"rnn_relu"`; the rest as `Recurrent`."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> None:
        super().__init__(_family("RNN", "rnn", options), input_size, hidden_size, num_layers, **options)


class LSTM(Recurrent):
    """A stack of LSTM layers, `cell="lstm"` or another of the family; the rest as `Recurrent`.

    Examples
    --------
    >>> import unrolled as ur
    >>> lstm = ur.LSTM(4, 5, num_layers=2)
    >>> lstm.params["weight_hh_l1"].shape
    (20, 5)
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> None:
        super().__init__(_family("LSTM", "lstm", options), input_size, hidden_size, num_layers, **options)


class GRU(Recurrent):
    """A stack of GRU layers, `cell="gru_reset_after"` (PyTorch's) or `"gru_reset_before"`; the rest as `Recurrent`."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> None:
        super().__init__(_family("GRU", "gru", options), input_size, hidden_size, num_layers, **options)


def _family(kind: str, prefix: str, options: dict[str, Any]) -> Cell:
    """Take `cell` out of the options, by default the family's first; refuse another family's."""
    family = [name for name in CELLS if name.startswith(prefix)]
    cell = find_cell(options.pop("cell", family[0]))
    if cell.name in CELLS and cell.name not in family:
        raise UnrolledError(f"ur.{kind} takes the cells {', '.join(family)}; for {cell.name} use ur.Recurrent")
    return cell
