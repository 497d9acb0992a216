"""Stacks of recurrent layers with PyTorch's semantics, names and initialisation: `RNN`, `LSTM`, `GRU`, `Recurrent`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from . import backends
from .cells import CELLS, Cell
from .checks import (
    Array,
    are_indices,
    as_array,
    as_numbers,
    check_fraction,
    check_memory,
    check_rng,
    check_size,
    check_widths,
)
from .errors import UnrolledError, Unsupported, suggest
from .initial import INITS, check_init, initialise
from .layers import draw_mask, dropout
from .packing import Packing, pack
from .scan import Tape

DTYPES = ("float32", "float64")

Masks = dict[str, Array]
"""Masks by name, as `Recurrent.draw_masks` draws them; True is kept (in zoneout: keeps its old value)."""


def part_masks(masks: Masks | None, steps: slice = slice(None), rows: Any = slice(None)) -> Masks | None:
    """Return the masks of some steps and rows of the batch; those of weights and symbols hold for a whole pass.

    Examples
    --------
    >>> masks = {"dropout_l0": np.ones((7, 3, 5), bool), "locked_l0": np.ones((1, 3, 5), bool)}
    >>> {name: mask.shape for name, mask in part_masks(masks, slice(2, 4)).items()}
    {'dropout_l0': (2, 3, 5), 'locked_l0': (1, 3, 5)}
    """
    if masks is None:
        return None
    return {
        name: m
        if name.startswith(("weight_", "embedding"))
        else (m if name.startswith("locked") else m[steps])[:, rows]
        for name, m in masks.items()
    }


class Teaching(NamedTuple):
    """The teaching view of an LSTM's step: not the gates, but what they let through; each (T, B, H)."""

    learn: Array
    """i g: what is added to the cell."""
    forget: Array
    """f c: what is left of the old cell."""
    remember: Array
    """Their sum, the new cell."""
    use: Array
    """What is shown of it: the cell's output."""


@dataclass(frozen=True)
class StackTape:
    """What a stack remembers of a forward pass: one scan tape a layer and direction, as plain data.

    Attributes
    ----------
    scans : tuple of `unrolled.scan.Tape`, entry `layer * D + direction`; a reverse direction's runs backwards in time
    masks : dict of the masks that were used, or None
    from_start : bool, whether the initial state was the network's own
    packing : how the scans' rows, one a document, come from the rows of the batch; None where no document began
    """

    scans: tuple[Any, ...]
    directions: int
    masks: Masks | None
    batch_first: bool
    from_start: bool = False
    packing: Packing | None = None

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

    @property
    def teaching(self) -> tuple[Teaching, ...]:
        """The same steps in the teaching view's words, by layer and direction, for cells with a memory c.

        Examples
        --------
        >>> import unrolled as ur
        >>> _, _, tape = ur.LSTM(4, 5).forward(np.ones((7, 3, 4)))
        >>> k, view = tape.gates[0], tape.teaching[0]
        >>> np.allclose(view.learn, k.i * k.g), np.allclose(view.use, k.o * np.tanh(view.remember))
        (True, True)
        """
        return tuple(self._in_time(n, _teaching(tape)) for n, tape in enumerate(self.scans))

    def _in_time(self, n: int, fields: Any) -> Any:
        if n % self.directions:
            fields = type(fields)(*(f[::-1] for f in fields))
        return fields if self.packing is None else type(fields)(*(self.packing.back(f) for f in fields))


def _teaching(tape: Any) -> Teaching:
    if "c" not in tape.states._fields:
        raise UnrolledError(f"{tape.cell.name} has no memory c; the teaching view is one of LSTMs")
    before, new = tape.states.c[:-1], tape.proposed
    forget = before * getattr(tape.gates, "f", 1)
    return Teaching(new.c - forget, forget, new.c, new.h)


FAMILIAR = {"gru": "gru_reset_after", "rnn": "rnn_tanh", "vanilla": "rnn_tanh"}
"""What other programs call a cell -> its name here: PyTorch's GRU, and the recurrence with a tanh."""


def find_cell(cell: str | Cell) -> Cell:
    """Return the cell of that name, in any case, or of a familiar one; or the object itself.

    Examples
    --------
    >>> find_cell("LSTM").name, find_cell("gru").name, find_cell("vanilla").name
    ('lstm', 'gru_reset_after', 'rnn_tanh')
    """
    if isinstance(cell, Cell):
        return cell
    lower = cell.lower() if isinstance(cell, str) else ""
    for name in (cell, lower, FAMILIAR.get(lower)):
        if isinstance(name, str) and name in CELLS:
            return CELLS[name]
    raise UnrolledError(suggest("cell", str(cell), [*CELLS, *FAMILIAR]))


def load_params(params: dict[str, Array], new: Mapping[str, Any]) -> None:
    """Replace the arrays in `params`, after checking that names and shapes agree; nothing changes on an error."""
    if not isinstance(new, Mapping):
        raise UnrolledError(f"the parameters are {new!r}; expected a dictionary of arrays by their names")
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


class Recurrent:
    """A stack of recurrent layers of one cell; shapes, names and initialisation are PyTorch's.

    Letters: T steps, B rows of the batch, I inputs, H hidden units, L layers, D directions (1 or 2).

    Parameters
    ----------
    cell : str or Cell
        A name in `unrolled.cells.CELLS`, or a cell of your own.
    input_size, hidden_size, num_layers : int
        I, H, L. `hidden_size` may be a sequence, a width a layer; L is its length then.
    bias : bool
        Whether layers have `bias_ih` and `bias_hh`. They are two parameters, as in PyTorch: Adam moves both.
    batch_first : bool
        Whether x and y (and dx, dy) are (B, T, ...) instead of (T, B, ...). States never are.
    dropout : float
        Chance that an output of a layer, the last apart, is dropped in `forward` when it is given `rng` or `masks`.
    bidirectional : bool
        Whether each layer also runs backwards in time; outputs are (T, B, 2 H).
    proj_size : int
        P above 0: h is projected to P numbers (`weight_hr`), as in PyTorch's LSTM (Sak et al. 2014). Memory cells only.
    residual : bool
        Whether a layer's input is added to its output, from the second layer on. All widths must be equal.
    locked_dropout : float
        As `dropout`, with one mask for all steps (variational dropout, Gal & Ghahramani 2016).
    recurrent_dropout : float
        Chance that a unit's candidate is dropped, its memory kept (Semeniuta et al. 2016).
    weight_drop : float
        Chance that an entry of `weight_hh` is dropped for a whole pass (DropConnect; Merity et al. 2018).
    zoneout, zoneout_cell : float
        Chance that a unit keeps its old h, its old c (Krueger et al. 2017). Without masks the two are mixed instead.
    learn_state : bool
        Whether the initial state is a parameter (`initial_h_l0`, ...): what `state=None` then means.
    init : str
        A name in `unrolled.initial.INITS`.
    forget_bias : float, optional
        What the forget gate's two biases add up to at first.
    dtype : str
        "float32" or "float64".
    backend : str
        "auto", "cpu" or "reference".
    rng : numpy.random.Generator, optional
        Where the initial weights come from. Default: seed 0.

    Raises
    ------
    UnrolledError
        For an unknown name, a size that makes no sense, or an option that the cell has no use for.

    Examples
    --------
    >>> import unrolled as ur
    >>> net = ur.Recurrent("gru_reset_after", input_size=4, hidden_size=5, num_layers=2)
    >>> y, state = net(np.zeros((7, 3, 4)))
    >>> y.shape, state.h.shape
    ((7, 3, 5), (2, 3, 5))
    >>> net = ur.LSTM(4, (6, 5), zoneout=0.1)  # a width a layer: a State a layer
    >>> y, (first, second) = net(np.zeros((7, 3, 4)))
    >>> first.c.shape, second.c.shape
    ((1, 3, 6), (1, 3, 5))
    """

    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        residual: bool = False,
        locked_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        zoneout: float = 0.0,
        zoneout_cell: float = 0.0,
        learn_state: bool = False,
        init: str = "pytorch",
        forget_bias: float | None = None,
        dtype: str = "float32",
        backend: str = "auto",
        rng: np.random.Generator | None = None,
    ) -> None:
        self.cell = find_cell(cell)
        self.input_size = check_size("input_size", input_size)
        self.hidden_sizes = widths = check_widths(hidden_size, num_layers)
        self.hidden_size: int | tuple[int, ...] = widths[0] if len(set(widths)) == 1 else widths
        """H; where layers differ, all their widths."""
        self.num_layers = len(widths)
        self.proj_size = check_size("proj_size", proj_size, least=0)
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.residual, self.learn_state = bool(residual), bool(learn_state)
        self.dropout = check_fraction("dropout", dropout)
        self.locked_dropout = check_fraction("locked_dropout", locked_dropout)
        self.recurrent_dropout = check_fraction("recurrent_dropout", recurrent_dropout)
        self.weight_drop = check_fraction("weight_drop", weight_drop)
        self.zoneout, self.zoneout_cell = (
            check_fraction("zoneout", zoneout),
            check_fraction("zoneout_cell", zoneout_cell),
        )
        self.dtype = str(getattr(dtype, "__name__", dtype))  # np.float32 will do
        if self.dtype not in DTYPES:
            raise UnrolledError(suggest("dtype", self.dtype, list(DTYPES)))
        if init not in INITS:
            raise UnrolledError(suggest("init", str(init), list(INITS)))
        check_init(init, self.cell, forget_bias=forget_bias, bias=self.bias, proj=self.proj_size)
        self._check_options()
        self._backend = backends.choose(backend)
        if backend == "cpu" and (why := backends.reason(self.cell, self.dtype)):
            raise Unsupported(f"{why}. Use backend='auto' or 'reference'.")
        rng = np.random.default_rng(0) if rng is None else check_rng(rng)
        shapes = [self._local_shapes(layer) for layer in range(self.num_layers)]
        check_memory(self.directions * sum(math.prod(shape) for s in shapes for shape in s.values()), self.dtype)
        self._local_names = [[name for name in s if not name.startswith("initial_")] for s in shapes]
        self.params: dict[str, Array] = {
            name + self._suffix(layer, d): p
            for layer, d in self._passes()
            for name, p in initialise(
                init, self.cell, shapes[layer], widths[layer], rng, self.dtype, forget_bias
            ).items()
        }
        """Parameters by PyTorch's names."""

    def _check_options(self) -> None:
        """Refuse what makes no sense with this cell or with these widths."""
        cell, fields = self.cell, self.cell.state._fields  # type: ignore[attr-defined]
        products = [stage.operand for stage in cell.stages if stage.product]
        if self.proj_size and not ("c" in fields and products == [("h",)]):
            raise UnrolledError(
                f"proj_size is {self.proj_size}, but {cell.name} can't project its h: it needs a memory c beside h, "
                "and one product of h alone, as lstm has"
            )
        if self.proj_size and self.proj_size >= min(self.hidden_sizes):
            raise UnrolledError(f"proj_size is {self.proj_size}; it must be below hidden_size = {self.hidden_size}")
        if self.residual and len(set(self._widths())) > 1:
            raise UnrolledError(f"residual layers must be of one width; hidden_size is {self.hidden_size}")
        if self.recurrent_dropout and not cell.candidate:
            raise UnrolledError(
                f"recurrent_dropout drops a cell's candidate and keeps its memory; {cell.name} has no candidate"
            )
        if self.weight_drop and not cell.operand_width:
            raise UnrolledError(f"weight_drop drops entries of weight_hh; {cell.name} has none")
        if self.zoneout_cell and "c" not in fields:
            raise UnrolledError(f"zoneout_cell keeps old values of c; {cell.name} has no c, use zoneout")

    @property
    def output_size(self) -> int:
        """Width of y: D H of the last layer, or D P."""
        return self._widths()[-1]

    def _widths(self) -> list[int]:
        """Width of every layer's output, both directions together."""
        return [self.directions * (self.proj_size or hidden) for hidden in self.hidden_sizes]

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
        inputs = self._widths()[layer - 1] if layer else self.input_size
        shapes = self.cell.shapes(inputs, self.hidden_sizes[layer], bias=self.bias, proj=self.proj_size)
        return shapes | (
            {f"initial_{name}": (width,) for name, width in self._state_widths(layer).items()}
            if self.learn_state
            else {}
        )

    def _state_widths(self, layer: int) -> dict[str, int]:
        """Width of each field of a layer's state."""
        hidden = self.hidden_sizes[layer]
        fields = self.cell.state._fields  # type: ignore[attr-defined]
        return {name: self.proj_size or hidden if name == "h" else hidden for name in fields}

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

    def _weights(self, layer: int, direction: int, masks: Masks) -> dict[str, Array]:
        suffix = self._suffix(layer, direction)
        w = {name: self.params[name + suffix] for name in self._local_names[layer]}
        if "weight_hh" + suffix in masks:
            w["weight_hh"] = dropout(w["weight_hh"], masks["weight_hh" + suffix], self.weight_drop)
        return w

    def layer_params(self) -> list[dict[str, Array]]:
        """Each layer's (and direction's) parameters, by their local names."""
        return [self._weights(layer, d, {}) for layer, d in self._passes()]

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
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        other.params = dict(params)
        other.input_size = params["weight_ih_l0"].shape[1]
        other.dtype = "float32" if all(p.dtype == np.float32 for p in params.values()) else "float64"
        if backend is not None:
            other._backend = backends.choose(backend)
        return other

    def zero_state(self, batch: int) -> Any:
        """State of zeros: each field (L D, B, H); a tuple of one such State a layer where widths differ."""
        uniform = isinstance(self.hidden_size, int)
        layers, passes = (1, self.num_layers * self.directions) if uniform else (self.num_layers, self.directions)
        states = [
            self.cell.state(
                *[np.zeros((passes, batch, width), self.dtype) for width in self._state_widths(layer).values()]
            )
            for layer in range(layers)
        ]
        return states[0] if uniform else tuple(states)

    def _join(self, states: Sequence[Any]) -> Any:
        """Join States of (B, H) arrays, one of each pass in order, to what users see as state."""
        if isinstance(self.hidden_size, int):
            return _stacked(states)
        step = self.directions
        return tuple(_stacked(states[n : n + step]) for n in range(0, len(states), step))

    def _part(self, state: Any) -> list[Any]:
        """Part a state into one State of (B, H) arrays for each pass: the inverse of `_join`."""
        states = [state] if isinstance(self.hidden_size, int) else state
        return [type(s)(*[f[n] for f in s]) for s in states for n in range(len(s[0]))]

    def _state(self, state: Any, batch: int, what: str = "state") -> Any:
        """Accept a State, a tuple in its order, a bare array (one field) or None for zeros; a tuple of them a layer."""
        if state is None:
            return self.zero_state(batch)
        passes = self.num_layers * self.directions
        if isinstance(self.hidden_size, int):
            return self._one_state(state, self._state_widths(0), passes, batch, what)
        if not isinstance(state, (tuple, list)) or len(state) != self.num_layers:
            raise UnrolledError(f"{what} must be a tuple of {self.num_layers} states, one a layer, since widths differ")
        return tuple(
            self._one_state(s, self._state_widths(layer), self.directions, batch, f"{what}[{layer}]")
            for layer, s in enumerate(state)
        )

    def _one_state(self, state: Any, widths: dict[str, int], passes: int, batch: int, what: str) -> Any:
        fields: Sequence[Any] = [state] if isinstance(state, np.ndarray) else state
        if not isinstance(fields, (tuple, list)) or len(fields) != len(widths):
            raise UnrolledError(f"{what} must be ({', '.join(widths)}), as {self.cell.name} has it")
        for (name, width), field in zip(widths.items(), fields, strict=True):
            if np.shape(field) != (passes, batch, width):
                raise UnrolledError(
                    f"{what}.{name} has shape {np.shape(field)}; expected (L*D, B, H) = {(passes, batch, width)}"
                )
        return self.cell.state(
            *(self._cast(field, f"{what}.{name}") for name, field in zip(widths, fields, strict=True))
        )

    def initial_state(self, batch: int) -> Any:
        """Return the state that None stands for: zeros, or the parameters."""
        if not self.learn_state:
            return self.zero_state(batch)
        rows = [[self.params[f"initial_{name}{self._suffix(*at)}"] for name in self._fields] for at in self._passes()]
        return self._join([self.cell.state(*[np.broadcast_to(a, (batch, len(a))) for a in row]) for row in rows])

    @property
    def _fields(self) -> tuple[str, ...]:
        fields: tuple[str, ...] = self.cell.state._fields  # type: ignore[attr-defined]
        return fields

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
        lengths = as_array("lengths", lengths)
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
        if not are_indices(x, self.input_size):
            raise UnrolledError(
                f"x has indices from {x.min()} to {x.max()}; they must be at least 0 and below {self.input_size}"
            )
        return x

    def _rates(self, steps: int, batch: int) -> dict[str, tuple[tuple[int, ...], float]]:
        """Name, shape and rate of every mask of a pass."""
        found: dict[str, tuple[tuple[int, ...], float]] = {}
        for layer, width in enumerate(self._widths()[:-1]):
            found[f"dropout_l{layer}"] = (steps, batch, width), self.dropout
            found[f"locked_l{layer}"] = (1, batch, width), self.locked_dropout
        for layer, d in self._passes():
            suffix = self._suffix(layer, d)
            found[f"recurrent{suffix}"] = (steps, batch, self.hidden_sizes[layer]), self.recurrent_dropout
            if self.weight_drop:
                found[f"weight_hh{suffix}"] = self.params[f"weight_hh{suffix}"].shape, self.weight_drop
            for name, width in self._state_widths(layer).items():
                rate = {"h": self.zoneout, "c": self.zoneout_cell}.get(name, 0.0)
                found[f"zoneout_{name}{suffix}"] = (steps, batch, width), rate
        return {name: (shape, rate) for name, (shape, rate) in found.items() if rate}

    def _masks(self, masks: Any, steps: int, batch: int) -> None:
        """Check the masks of a pass."""
        expected = {name: shape for name, (shape, _) in self._rates(steps, batch).items()}
        got = {name: np.shape(m) for name, m in masks.items()} if isinstance(masks, dict) else type(masks).__name__
        if got != expected:
            raise UnrolledError(f"masks are {got}; expected {expected}, as draw_masks gives them")

    def draw_masks(self, steps: int, batch: int, rng: np.random.Generator) -> Masks | None:
        """Draw the masks of one forward pass, by name; None if there is nothing to draw.

        `dropout_l0` (T, B, D H) and `locked_l0` (1, B, D H) are True where the layer's output is kept, `recurrent_l0`
        (T, B, H) where a candidate is, `weight_hh_l0` where an entry of the weight is; `zoneout_h_l0` and
        `zoneout_c_l0` (T, B, H) are True where a unit keeps its old value. Reverse directions end in `_reverse`.

        Examples
        --------
        >>> import unrolled as ur
        >>> masks = ur.LSTM(4, 5, 2, dropout=0.5, zoneout=0.1).draw_masks(7, 3, np.random.default_rng(0))
        >>> {name: mask.shape for name, mask in masks.items()}
        {'dropout_l0': (7, 3, 5), 'zoneout_h_l0': (7, 3, 5), 'zoneout_h_l1': (7, 3, 5)}
        """
        masks = {}
        for name, (shape, rate) in self._rates(steps, batch).items():
            kept = draw_mask(rng, shape, rate)
            masks[name] = ~kept if name.startswith("zoneout") else kept
        return masks or None

    def __call__(
        self, x: Any, state: Any = None, lengths: Any = None, *, starts: Array | None = None
    ) -> tuple[Array, Any]:
        """Inference: as `forward`, without dropout and without a tape."""
        y, new, _ = self._run(x, state, lengths, None, starts, record=False)
        return y, new

    def forward(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        *,
        rng: np.random.Generator | None = None,
        masks: Masks | None = None,
        starts: Array | None = None,
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
            Draws masks, for dropout and zoneout.
        masks : dict of arrays, optional
            Masks from `draw_masks`, instead of `rng`.
        starts : (T, B) bool, optional
            Steps at which a document begins, (B, T) with `batch_first`: there the state is the initial one again, that
            of the row's last document is the final one, and no gradient flows from one document into another.

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
        return self._run(x, state, lengths, masks, starts, record=True)

    def _run(
        self, x: Any, state: Any, lengths: Any, masks: Masks | None, starts: Array | None, *, record: bool
    ) -> tuple[Array, Any, StackTape]:
        x = self._input(x)
        steps, batch = x.shape[:2]
        begin = self._part(self.initial_state(batch) if state is None else self._state(state, batch))
        live = self._live(lengths, steps, batch)
        if x.dtype.kind in "iu":
            x = self._indices(x, live)
        if masks is not None:
            self._masks(masks, steps, batch)
        packing = self._packing(starts, steps, batch, lengths)
        if packing is not None:
            x, masks = packing.there(x), masks and packing.masks(masks)
            live = self._live(packing.lengths, packing.steps, len(packing.lane))
            begin = self._packed_states(packing, begin)
        tapes: list[Any] = []
        finals: list[Any] = []
        for layer in range(self.num_layers):
            outputs, given = [], x
            for d in range(self.directions):
                flip = slice(None, None, -1 if d else 1)
                y, final, tape = self._scan(
                    layer, d, x[flip], begin[len(tapes)], None if live is None else live[flip], masks, record=record
                )
                outputs.append(y[flip])
                tapes.append(tape)
                finals.append(final if packing is None else type(final)(*[f[packing.ends(d)] for f in final]))
            x = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
            if self.residual and layer:
                x = x + given
            x = self._drop(x, layer, masks)
        tape = StackTape(tuple(tapes), self.directions, masks, self.batch_first, state is None, packing)
        x = x if packing is None else packing.back(x)
        return x.swapaxes(0, 1) if self.batch_first else x, self._join(finals), tape

    def _packing(self, starts: Any, steps: int, batch: int, lengths: Any) -> Packing | None:
        """How documents that begin within rows become rows of their own."""
        if starts is None:
            return None
        if self.batch_first:
            starts = np.swapaxes(np.asarray(starts), 0, 1)
        return pack(starts, steps, batch, None if lengths is None else np.asarray(lengths))

    def _packed_states(self, packing: Packing, given: Sequence[Any]) -> list[Any]:
        """States (R, H) of every pass that documents begin with, from those (B, H) of the batch's rows."""
        own = self._part(self.initial_state(len(packing.lane)))
        packed = []
        for (_, d), initial, state in zip(self._passes(), own, given, strict=True):
            fresh = packing.begins(d)[:, None]
            fields = (np.where(fresh, i, f[packing.lane]) for i, f in zip(initial, state, strict=True))
            packed.append(type(state)(*fields))
        return packed

    def _scan(
        self, layer: int, direction: int, x: Array, s: Any, live: Array | None, masks: Masks | None, *, record: bool
    ) -> tuple[Array, Any, Any]:
        """One layer and direction."""
        masks = {} if masks is None else masks
        w = self._weights(layer, direction, masks)
        keep, drop = None, None
        if self.zoneout or self.zoneout_cell or self.recurrent_dropout:
            suffix, flip = self._suffix(layer, direction), slice(None, None, -1 if direction else 1)
            rates = {"h": self.zoneout, "c": self.zoneout_cell}
            kept = [
                masks[f"zoneout_{name}{suffix}"][flip]
                if f"zoneout_{name}{suffix}" in masks
                else rates.get(name) or None
                for name in self._fields
            ]
            keep = self.cell.state(*kept) if any(m is not None for m in kept) else None
            if f"recurrent{suffix}" in masks:
                mask = masks[f"recurrent{suffix}"][flip]
                drop = np.where(mask, 1 / (1 - self.recurrent_dropout), 0).astype(self.dtype)
        return self._backend.forward(self.cell, w, x, s, live=live, keep=keep, record=record, drop=drop)

    def _drop(self, x: Array, layer: int, masks: Masks | None) -> Array:
        """Dropout behind a layer; its own gradient."""
        for kind, rate in (("dropout", self.dropout), ("locked", self.locked_dropout)):
            mask = (masks or {}).get(f"{kind}_l{layer}")
            x = x if mask is None else dropout(x, mask, rate)
        return x

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
        packing = tape.packing
        steps, batch = tape.scans[0].x.shape[:2] if packing is None else packing.row.shape
        order, first = ("(B, T, D H)", (batch, steps)) if self.batch_first else ("(T, B, D H)", (steps, batch))
        expected = (*first, self.output_size)
        if dy.shape != expected:
            raise UnrolledError(f"dy has shape {dy.shape}; expected {order} = {expected}")
        if self.batch_first:
            dy = dy.swapaxes(0, 1)
        ends = self._part(self._state(dstate, dy.shape[1], "dstate"))
        if packing is not None:
            dy = packing.there(dy)
            ends = [
                type(s)(*(_placed(f, packing.ends(d), len(packing.lane)) for f in s))
                for (_, d), s in zip(self._passes(), ends, strict=True)
            ]
        before: list[Any] = [None] * passes
        grads: dict[str, Array] = {}
        dx: Array | None = None
        for layer in range(self.num_layers - 1, -1, -1):
            dy = self._drop(dy, layer, tape.masks)
            parts, dx = [dy] if self.directions == 1 else np.split(dy, self.directions, axis=-1), None
            for d in range(self.directions):
                n = layer * self.directions + d
                flip = slice(None, None, -1 if d else 1)
                backend = backends.REFERENCE if isinstance(tape.scans[n], Tape) else self._backend
                dx_d, before[n], local = backend.backward(tape.scans[n], parts[d][flip], ends[n])
                grads |= self._named(layer, d, local, before[n], tape)
                if dx_d is not None:
                    dx = dx_d[flip] if dx is None else dx + dx_d[flip]
            if layer:
                assert dx is not None
                dy = dx + dy if self.residual else dx
        if packing is not None:
            dx = None if dx is None else packing.back(dx)
            for n, (_, d) in enumerate(self._passes()):
                went_on = packing.goes_on(d)
                fresh = packing.begins(d)[went_on, None]
                before[n] = type(before[n])(*(np.where(fresh, f.dtype.type(0), f[went_on]) for f in before[n]))
        if dx is not None and self.batch_first:
            dx = dx.swapaxes(0, 1)
        return dx, self._join(before), {name: grads[name] for name in self.params}

    def _named(self, layer: int, direction: int, local: Mapping[str, Array], ds: Any, tape: StackTape) -> Masks:
        """Gradients of a layer's parameters under their full names."""
        suffix = self._suffix(layer, direction)
        grads = {name + suffix: g for name, g in local.items()}
        mask = (tape.masks or {}).get(f"weight_hh{suffix}")
        if mask is not None:
            grads[f"weight_hh{suffix}"] = dropout(grads[f"weight_hh{suffix}"], mask, self.weight_drop)
        if self.learn_state:
            batch = len(ds[0])
            used = np.ones(batch, bool) if tape.from_start else np.zeros(batch, bool)
            if tape.packing is not None and not tape.from_start:
                used = tape.packing.begins(direction)
            grads |= {f"initial_{name}{suffix}": f[used].sum(axis=0) for name, f in zip(self._fields, ds, strict=True)}
        return grads

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
    """A stack of simple recurrent layers, `cell="rnn_tanh"` or `"rnn_relu"`; the rest as `Recurrent`.

    PyTorch's way to name the cell will do: `nonlinearity="tanh"` or `"relu"`.

    Examples
    --------
    >>> import unrolled as ur
    >>> ur.RNN(4, 5, nonlinearity="relu").cell.name
    'rnn_relu'
    """

    def __init__(
        self, input_size: int, hidden_size: int | Sequence[int], num_layers: int | None = None, **options: Any
    ) -> None:
        if (kind := options.pop("nonlinearity", None)) is not None:
            if kind not in ("tanh", "relu"):
                raise UnrolledError(suggest("nonlinearity", str(kind), ["tanh", "relu"]))
            if options.setdefault("cell", f"rnn_{kind}") != f"rnn_{kind}":
                raise UnrolledError(f"nonlinearity is {kind!r}, cell is {options['cell']!r}; leave one out")
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

    def __init__(
        self, input_size: int, hidden_size: int | Sequence[int], num_layers: int | None = None, **options: Any
    ) -> None:
        super().__init__(_family("LSTM", "lstm", options), input_size, hidden_size, num_layers, **options)


class GRU(Recurrent):
    """A stack of GRU layers, `cell="gru_reset_after"` (PyTorch's) or `"gru_reset_before"`; the rest as `Recurrent`."""

    def __init__(
        self, input_size: int, hidden_size: int | Sequence[int], num_layers: int | None = None, **options: Any
    ) -> None:
        super().__init__(_family("GRU", "gru", options), input_size, hidden_size, num_layers, **options)


def _stacked(states: Sequence[Any]) -> Any:
    """One State of (N, B, H) arrays from N of (B, H); copies, which keep no tape's memory alive."""
    if len(states) == 1:
        return type(states[0])(*[f[None].copy() for f in states[0]])
    return type(states[0])(*[np.array(fields) for fields in zip(*states, strict=True)])


def _placed(rows: Array, where: Array, size: int) -> Array:
    """Rows (B, H) at their places (B,) among zeros (size, H)."""
    placed = np.zeros((size, rows.shape[-1]), rows.dtype)
    placed[where] = rows
    return placed


def _family(kind: str, prefix: str, options: dict[str, Any]) -> Cell:
    """Take `cell` out of the options, by default the family's first; refuse another family's."""
    family = [name for name in CELLS if name.startswith(prefix)]
    cell = find_cell(options.pop("cell", family[0]))
    if cell.name in CELLS and cell.name not in family:
        raise UnrolledError(f"ur.{kind} takes the cells {', '.join(family)}; for {cell.name} use ur.Recurrent")
    return cell
