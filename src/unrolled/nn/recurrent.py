"""Stacks of recurrent layers with PyTorch's semantics, names and initialisation: `Recurrent`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Self

import numpy as np

from .. import backends
from ..cells import Cell, find_cell
from ..checks import (
    Array,
    Kept,
    are_indices,
    as_array,
    as_dtype,
    as_kind,
    as_numbers,
    check_fraction,
    check_memory,
    check_rng,
    check_size,
    check_widths,
    read_only,
)
from ..errors import UnrolledError, UnrolledWarning, brief, listed, suggest
from ..keywords import keywords_of, named
from ..reference.layers import draw_mask, dropout
from ..reference.scan import Tape
from ..seeding import generator
from .documents import Packing, pack
from .initializers import check_init, initialise
from .masks import Masks, as_masks
from .options import DTYPES
from .params import Parametric, Params, usable
from .states import States
from .tape import StackTape, check_tape


def state_widths(cell: Cell, hidden: int, proj: int = 0) -> dict[str, int]:
    """Return the width of each field of a layer's state."""
    fields = cell.state_fields
    return {name: proj or hidden if name == "h" else hidden for name in fields}


def layer_shapes(
    cell: Cell, inputs: int, hidden: int, *, bias: bool, proj: int, learned: bool
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of one layer's parameters by local names, in PyTorch's order, `learned` initial states last."""
    shapes = cell.shapes(inputs, hidden, bias=bias, proj=proj)
    initial = state_widths(cell, hidden, proj) if learned else {}
    return shapes | {f"initial_{name}": (width,) for name, width in initial.items()}


class Recurrent(Parametric, derived=("hidden_sizes",)):
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
        A name in `unrolled.nn.initializers.INITS`; "uniform:0.1" draws all from U(-0.1, 0.1).
    forget_bias : float, optional
        What the forget gate's two biases add up to at first.
    dtype : str
        "float32" or "float64", or what NumPy or PyTorch call these.
    backend : str
        "auto", "cpu" or "reference".
    rng : numpy.random.Generator or int, optional
        Where the initial weights come from, or its seed. Default: the process's own (`unrolled.manual_seed`), so that
        no two networks are alike.

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

    @named([])
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
        rng: np.random.Generator | int | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            raise UnrolledError(suggest("option", name, list(self._options)))
        self.cell = find_cell(cell)
        self.input_size = check_size("input_size", input_size)
        self.hidden_sizes = widths = check_widths(hidden_size, num_layers)
        self.hidden_size: int | tuple[int, ...] = widths[0] if len(set(widths)) == 1 else widths
        """H; where layers differ, all their widths."""
        self.num_layers = len(widths)
        self.proj_size = check_size("proj_size", proj_size, least=0)
        self.bias, self.batch_first = as_kind("bias", bias, "bool"), as_kind("batch_first", batch_first, "bool")
        self.bidirectional = as_kind("bidirectional", bidirectional, "bool")
        self.residual = as_kind("residual", residual, "bool")
        self.learn_state = as_kind("learn_state", learn_state, "bool")
        self.dropout = check_fraction("dropout", dropout)
        self.locked_dropout = check_fraction("locked_dropout", locked_dropout)
        self.recurrent_dropout = check_fraction("recurrent_dropout", recurrent_dropout)
        self.weight_drop = check_fraction("weight_drop", weight_drop)
        self.zoneout, self.zoneout_cell = (
            check_fraction("zoneout", zoneout),
            check_fraction("zoneout_cell", zoneout_cell),
        )
        self.dtype = as_dtype(dtype, DTYPES)
        check_init(init, self.cell, forget_bias=forget_bias, bias=self.bias, proj=self.proj_size)
        self._check_options()
        self._backend = backends.choose_for(self.cell, self.dtype, backend)
        rng = generator(rng)
        shapes = [self._local_shapes(layer) for layer in range(self.num_layers)]
        check_memory(self.directions * sum(math.prod(shape) for s in shapes for shape in s.values()), self.dtype)
        self._scanned = {
            (layer, d): [
                (name, name + self._suffix(layer, d), shape)
                for name, shape in shapes[layer].items()
                if not name.startswith("initial_")
            ]
            for layer, d in self._passes()
        }
        """Of every layer and direction: the parameters that the scan reads, by both names, with their shapes."""
        self._states = States(
            self.cell, tuple(self._state_widths(layer) for layer in range(self.num_layers)), self.directions
        )
        self._params = Params({
            name + self._suffix(layer, d): p
            for layer, d in self._passes()
            for name, p in initialise(
                init, self.cell, shapes[layer], widths[layer], rng, self.dtype, forget_bias
            ).items()
        })  # fmt: skip
        self._complex = False
        self._warned = False

    def _check_options(self) -> None:
        """Refuse what makes no sense with this cell or with these widths."""
        cell, fields = self.cell, self.cell.state_fields
        products = [stage.operand for stage in cell.stages if stage.product]
        if self.proj_size and not ("c" in fields and products == [("h",)]):
            raise UnrolledError(
                f"proj_size is {self.proj_size}, but {cell.name} can't project its h: it needs a memory c beside h, "
                "and one product of h alone, as lstm has"
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
    def output_size(self) -> int:
        """Width of y: D H of the last layer, or D P."""
        return self._width(-1)

    def _width(self, layer: int) -> int:
        """Width of a layer's output, both directions together."""
        return self.directions * (self.proj_size or self.hidden_sizes[layer])

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
        inputs = self._width(layer - 1) if layer else self.input_size
        hidden = self.hidden_sizes[layer]
        return layer_shapes(self.cell, inputs, hidden, bias=self.bias, proj=self.proj_size, learned=self.learn_state)

    def _state_widths(self, layer: int) -> dict[str, int]:
        """Width of each field of a layer's state."""
        return state_widths(self.cell, self.hidden_sizes[layer], self.proj_size)

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

    def _param(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a parameter after a look at its shape, which can be changed in place."""
        p = self._params[name]
        shape = (shape[0], self.input_size) if name == "weight_ih_l0" else shape  # of a folded embedding: V columns
        if p.shape != shape:
            raise UnrolledError(f"{name} has shape {p.shape}; this network takes {shape}")
        return p

    def _weights(self, layer: int, direction: int, masks: Masks) -> dict[str, Array]:
        w = {name: self._param(full, shape) for name, full, shape in self._scanned[layer, direction]}
        mask = masks.get("weight_hh" + self._suffix(layer, direction)) if masks else None
        if mask is not None:
            w["weight_hh"] = read_only(dropout(w["weight_hh"], mask, self.weight_drop))
        return Kept(w)

    def layer_params(self) -> list[dict[str, Array]]:
        """Each layer's (and direction's) parameters, by their local names."""
        return [self._weights(layer, d, {}) for layer, d in self._passes()]

    def with_params(self, params: Mapping[str, Array], backend: str | None = None) -> Self:
        """Return the same network on other arrays, used as they are, in their precision (proofs pass complex ones)."""
        other = self._on(usable(params, self._params), backend)
        other._complex = True
        return other

    def _on(self, params: Params, backend: str | None = None) -> Self:
        """Return the same network on these very arrays."""
        dtype = "float32" if all(p.dtype == np.float32 for p in params.values()) else "float64"
        return self._with(params, dtype=dtype, _backend=self._backend if backend is None else backends.choose(backend))

    def _with(self, params: Params, **other_than_here: Any) -> Self:
        """As `_on`, of arrays of the same precision."""
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__ | other_than_here | {"_params": params}
        return other

    def _reading(self, symbols: int, columns: Array) -> Self:
        """Return the same network that reads one-hot vectors of `symbols`, by these columns of its first weight."""
        return self._with(Params(self._params | {"weight_ih_l0": columns}), input_size=symbols)

    def zero_state(self, batch: int) -> Any:
        """State of zeros: each field (L D, B, H); a tuple of one such State a layer where widths differ."""
        return self._states.zero(check_size("batch", batch, least=0), self.dtype)

    def initial_state(self, batch: int) -> Any:
        """Return the state that None stands for: zeros, or the parameters."""
        if not self.learn_state:
            return self.zero_state(batch)
        batch = check_size("batch", batch, least=0)
        self._states.check_memory(batch, self.dtype)
        states = []
        for layer, d in self._passes():
            widths = self._state_widths(layer)
            row = [self._param(f"initial_{name}{self._suffix(layer, d)}", (width,)) for name, width in widths.items()]
            states.append(self.cell.state(*[np.broadcast_to(a, (batch, len(a))) for a in row]))
        return self._states.join(states)

    def _begin(self, batch: int) -> list[Any]:
        """Return the state that None stands for, one State a pass."""
        states = self._states
        return states.part(self.initial_state(batch)) if self.learn_state else states.zeros(batch, self.dtype)

    def _cast(self, x: Any, name: str) -> Array:
        array = as_numbers(name, x)
        if array.dtype.kind != "c":
            return array.astype(self.dtype, copy=False)
        if not self._complex:
            raise UnrolledError(f"{name} holds complex numbers; this network takes {self.dtype}")
        return array

    def _input(self, x: Any, *, own: bool) -> tuple[Array, bool]:
        """Check x, but not yet its indices; return it with time first and a batch, a copy to `own`; whether it had one.

        Indices are always copied: what is checked must be what is used, whatever the caller's other threads do.
        """
        x = as_numbers("x", x)
        is_index = x.dtype.kind in "iu"
        rank = 2 if is_index else 3
        if x.ndim not in (rank, rank - 1):
            order = "B, T" if self.batch_first else "T, B"
            if is_index:
                raise UnrolledError(f"integer x has shape {x.shape}; expected ({order}) indices of one-hot inputs")
            raise UnrolledError(f"x has shape {x.shape}; expected ({order}, I), or (T, I) without a batch")
        if not is_index:
            if x.shape[-1] != self.input_size:
                raise UnrolledError(f"layer 0: x has {x.shape[-1]} features, weight_ih_l0 takes {self.input_size}")
            x = self._cast(x, "x")
        x = x.copy() if own or is_index else x
        if x.ndim == rank:
            return np.swapaxes(x, 0, 1) if self.batch_first else x, True
        return x[:, None], False

    def _in_time(self, a: Array, *, batched: bool) -> Array:
        """What comes with x, (T, B), or (B, T), or (T,) without a batch -> (T, B)."""
        if not batched:
            return a[:, None] if a.ndim == 1 else a
        return np.swapaxes(a, 0, 1) if self.batch_first and a.ndim > 1 else a

    def _live(self, lengths: Any, live: Any, shape: tuple[int, int], *, batched: bool) -> Array | None:
        """Return which steps (T, B) there are."""
        if live is None:
            return None if lengths is None else _steps_within(_lengths(lengths, *shape), shape[0])
        if lengths is not None:
            raise UnrolledError("lengths and live both say which steps there are; leave one out")
        array = as_array("live", live)
        there = self._in_time(array, batched=batched)
        if there.shape != shape or there.dtype != bool:
            raise UnrolledError(
                f"live is {array.dtype} of shape {array.shape}; expected bool (T, B) = {shape}: whether a step is there"
            )
        return there.copy()

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
        for layer in range(self.num_layers - 1):
            width = self._width(layer)
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

    def _masks(self, masks: Any, steps: int, batch: int, *, own: bool) -> Masks | None:
        """Check the masks of a pass, and copy them to `own`; an empty dictionary says that nothing is to be dropped."""
        expected = {name: shape for name, (shape, _) in self._rates(steps, batch).items()}
        if isinstance(masks, dict) and not masks:
            return None
        given = as_masks(masks) if isinstance(masks, dict) else None
        got = type(masks).__name__ if given is None else {listed([name]): m.shape for name, m in given.items()}
        if given is None or got != expected:
            raise UnrolledError(f"masks are {got}; expected {expected}, as draw_masks gives them")
        return {name: read_only(m.copy()) for name, m in given.items()} if own else given

    def draw_masks(self, steps: int, batch: int, rng: np.random.Generator | int) -> Masks | None:
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
        steps, batch, rng = check_size("steps", steps, 0), check_size("batch", batch, 0), check_rng(rng)
        masks = {}
        for name, (shape, rate) in self._rates(steps, batch).items():
            kept = draw_mask(rng, shape, rate)
            masks[name] = ~kept if name.startswith("zoneout") else kept
        return masks or None

    def __call__(
        self, x: Any, state: Any = None, lengths: Any = None, *, starts: Any = None, live: Any = None
    ) -> tuple[Array, Any]:
        """Inference: as `forward`, without dropout and without a tape."""
        y, new, _ = self._run(x, state, lengths, starts=starts, live=live, record=False)
        return y, new

    def forward(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        *,
        rng: np.random.Generator | int | None = None,
        masks: Masks | None = None,
        starts: Any = None,
        live: Any = None,
    ) -> tuple[Array, Any, StackTape]:
        """Run the stack and record what the gradient needs.

        The tape is its own: whatever happens to x, y, masks or parameters afterwards, `backward` gives the gradients of
        this pass.

        Parameters
        ----------
        x : (T, B, I) array, or (T, B) integers that stand for one-hot inputs
            With `batch_first`, (B, T, I) or (B, T). One sequence may come without a batch, (T, I) or (T,): then no B is
            in y, states and gradients either.
        state : State, tuple, array or None
            Initial state, each field (L D, B, H); None is zeros.
        lengths : (B,) integers, optional
            Steps of each row, in any order, 0 allowed. Later steps change neither state nor gradient; their y is 0.
        rng : numpy.random.Generator or int, optional
            Draws masks, for dropout and zoneout.
        masks : dict of arrays, optional
            Masks from `draw_masks`, instead of `rng`; {} where nothing is to be dropped on purpose.
        starts : (T, B) bool, optional
            Steps at which a document begins, (B, T) with `batch_first`: there the state is the initial one again, that
            of the row's last document is the final one, and no gradient flows from one document into another.
        live : (T, B) bool, optional
            Steps that are there, instead of `lengths`: any others, within a row too, change neither state nor gradient.

        Returns
        -------
        y : (T, B, D H) array
        state : State, each field (L D, B, H)
        tape : StackTape

        Raises
        ------
        UnrolledError
            If a shape or an index does not fit.

        Warns
        -----
        UnrolledWarning
            Once a network, if a rate of dropout is set and nothing is dropped.

        Examples
        --------
        >>> import unrolled as ur
        >>> lstm = ur.LSTM(4, 5)
        >>> y, state, tape = lstm.forward(np.ones((7, 3, 4)))
        >>> tape.gates[0].f.shape
        (7, 3, 5)
        """
        if masks is not None and rng is not None:
            raise UnrolledError("both rng and masks are given; give masks for those very ones, or rng to draw some")
        self._warn_if_idle(masks, rng)
        own = self._with(self._params.kept())
        return own._run(x, state, lengths, masks, rng, starts=starts, live=live, record=True, own=True)

    def _warn_if_idle(self, masks: Any, rng: Any) -> None:
        """Say once that a rate of dropout changes nothing."""
        if self._warned or masks is not None or not any(_dropping(self)):
            return
        rates = [name for name in DROPPING if getattr(self, name)]
        between = [name for name in rates if name in ("dropout", "locked_dropout") and self.num_layers == 1]
        if between:
            why = "it acts between layers, and this network has one"
        elif rates and rng is None:
            why = "forward was given neither rng nor masks (masks={} says that this is meant)"
        else:
            return
        self._warned = True
        name = (between or rates)[0]
        warnings.warn(f"{name} is {getattr(self, name)}, and nothing is dropped: {why}", UnrolledWarning, stacklevel=3)

    def _run(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        masks: Masks | None = None,
        rng: Any = None,
        *,
        starts: Any = None,
        live: Any = None,
        record: bool,
        own: bool = False,
    ) -> tuple[Array, Any, StackTape]:
        """Run the stack; to `own` is to share no memory with what the caller holds."""
        x, batched = self._input(x, own=own)
        steps, batch = x.shape[:2]
        taken = None if state is None else self._states.take(state, batch if batched else None, self._cast)
        begin = self._begin(batch) if taken is None else self._states.part(taken)
        there = self._live(lengths, live, (steps, batch), batched=batched)
        if x.dtype.kind in "iu":
            x = self._indices(x, there)
        if masks is not None:
            masks = self._masks(masks, steps, batch, own=own)
        elif rng is not None:
            masks = self.draw_masks(steps, batch, rng)
        packing = self._packing(starts, (steps, batch), None if live is not None else lengths, batched=batched)
        if packing is not None:
            x, masks = packing.there(x), masks and packing.masks(masks)
            within = _steps_within(packing.lengths, packing.steps)
            there = within if live is None or there is None else within & packing.there(there)
            begin = self._packed_states(packing, begin)
        if own:
            there = None if there is None else read_only(there)
            masks = None if masks is None else Kept({name: read_only(m) for name, m in masks.items()})
        tapes: list[Any] = []
        finals: list[Any] = []
        for layer in range(self.num_layers):
            outputs, given = [], x
            for d in range(self.directions):
                flip = slice(None, None, -1 if d else 1)
                y, final, tape = self._scan(
                    layer, d, x[flip], begin[len(tapes)], None if there is None else there[flip], masks, record=record
                )
                outputs.append(y[flip])
                tapes.append(tape)
                finals.append(final if packing is None else type(final)(*[f[packing.ends(d)] for f in final]))
            x = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
            if self.residual and layer:
                x = x + given
            x = self._drop(x, layer, masks)
        made_by = Kept(self._signature() if record else {})
        tape = StackTape(
            tuple(tapes), self.directions, masks, self.batch_first, state is None, packing, batched, made_by
        )
        if packing is not None:
            x = packing.back(x)
        elif own and x is outputs[0]:
            x = x.copy()  # else it would be the tape's own states
        final = self._states.join(finals)
        if not batched:
            return x[:, 0], self._states.without_batch(final), tape
        return x.swapaxes(0, 1) if self.batch_first else x, final, tape

    def _signature(self) -> dict[str, Any]:
        """Return what a tape's network and the one that it is handed back to must have in common."""
        return dict(zip(SIGNATURE, _signed(self), strict=True))

    def _packing(self, starts: Any, shape: tuple[int, int], lengths: Any, *, batched: bool) -> Packing | None:
        """How documents that begin within rows become rows of their own."""
        if starts is None:
            return None
        starts = self._in_time(as_array("starts", starts), batched=batched)
        return pack(starts, *shape, None if lengths is None else np.atleast_1d(as_array("lengths", lengths)))

    def _packed_states(self, packing: Packing, given: Sequence[Any]) -> list[Any]:
        """States (R, H) of every pass that documents begin with, from those (B, H) of the batch's rows."""
        own = self._begin(len(packing.lane))
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
                for name in self.cell.state_fields
            ]
            keep = self.cell.state(*kept) if any(m is not None for m in kept) else None
            if f"recurrent{suffix}" in masks:
                mask = masks[f"recurrent{suffix}"][flip]
                drop = read_only(np.where(mask, 1 / (1 - self.recurrent_dropout), 0).astype(self.dtype))
        return self._backend.forward(self.cell, w, x, s, live=live, keep=keep, record=record, drop=drop)

    def _drop(self, x: Array, layer: int, masks: Masks | None) -> Array:
        """Dropout behind a layer; its own gradient."""
        if not masks:
            return x
        for kind, rate in (("dropout", self.dropout), ("locked", self.locked_dropout)):
            mask = masks.get(f"{kind}_l{layer}")
            x = x if mask is None else dropout(x, mask, rate)
        return x

    def backward(
        self, tape: StackTape, dy: Any = None, dstate: Any = None
    ) -> tuple[Array | None, Any, dict[str, Array]]:
        """Gradients of everything that `forward` read; nothing is accumulated anywhere.

        Parameters
        ----------
        tape : StackTape
            From `forward` of this network, or of one with the same cell, sizes and options.
        dy : (T, B, D H) array or None
            Gradient of the outputs, (B, T, D H) with `batch_first`; None is zeros.
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
        check_tape(tape, StackTape, self._signature())
        if dy is None and dstate is None:
            raise UnrolledError(
                "dy and dstate are None; expected the gradient of the outputs, of the state, or of both"
            )
        return self._backward(tape, dy, dstate)

    def _backward(self, tape: StackTape, dy: Any, dstate: Any) -> tuple[Array | None, Any, dict[str, Array]]:
        """As `backward`, of a tape of this network's."""
        packing, passes = tape.packing, self.num_layers * self.directions
        steps, batch = tape.scans[0].x.shape[:2] if packing is None else packing.row.shape
        order, first = ("B, T", [batch, steps]) if self.batch_first else ("T, B", [steps, batch])
        if not tape.batched:
            order, first = "T", [steps]
        expected = (*first, self.output_size)
        dy = np.zeros(expected, self.dtype) if dy is None else self._cast(dy, "dy")
        if dy.shape != expected:
            raise UnrolledError(f"dy has shape {dy.shape}; expected ({order}, D H) = {expected}")
        dy = self._in_time(dy, batched=tape.batched) if tape.batched else dy[:, None]
        rows = batch if tape.batched else None
        if dstate is None:
            ends = self._states.zeros(batch, self.dtype)
        else:
            ends = self._states.part(self._states.take(dstate, rows, self._cast, "dstate"))
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
        dbefore, grads = self._states.join(before), {name: grads[name] for name in self._params}
        if not tape.batched:
            return None if dx is None else dx[:, 0], self._states.without_batch(dbefore), grads
        return dx.swapaxes(0, 1) if dx is not None and self.batch_first else dx, dbefore, grads

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
            grads |= {
                f"initial_{name}{suffix}": f[used].sum(axis=0)
                for name, f in zip(self.cell.state_fields, ds, strict=True)
            }
        return grads

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """One step of inference: x (B, I), or (B,) integers -> y (B, H) and the new state; B may be left out.

        Examples
        --------
        >>> import unrolled as ur
        >>> y, state = ur.GRU(4, 5).step(np.ones((3, 4)))
        >>> y.shape
        (3, 5)
        """
        if self.bidirectional:
            raise UnrolledError("a bidirectional network has no step: the reverse direction needs the whole sequence")
        x = as_numbers("x", x)
        alone = x.ndim < (1 if x.dtype.kind in "iu" else 2)
        axis = 1 if self.batch_first and not alone else 0
        y, new = self(np.expand_dims(x, axis), state)
        return y.squeeze(axis), new

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.cell.name!r}, input_size={self.input_size}, hidden_size={self.hidden_size}, "
            f"num_layers={self.num_layers}, {sum(p.size for p in self.params.values()):,} parameters, {self.backend})"
        )


KEYWORDS = keywords_of(Recurrent)
OPTIONS = [p.name for p in KEYWORDS]
"""Keywords of `Recurrent`."""


def _lengths(lengths: Any, steps: int, batch: int) -> Array:
    """Check the lengths of rows."""
    array = as_array("lengths", lengths)
    array = array.reshape(1) if not array.ndim and batch == 1 else array
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        raise UnrolledError(f"lengths must be {batch} whole numbers, one a row of the batch; got {brief(array)}")
    if array.size and not (array.min() >= 0 and array.max() <= steps):
        raise UnrolledError(f"lengths must lie between 0 and T = {steps}; got {array.min()} to {array.max()}")
    return array


def _steps_within(lengths: Array, steps: int) -> Array:
    """(T, B) bool: whether a step is within its row's length."""
    live: Array = np.arange(steps)[:, None] < lengths
    return live


def _placed(rows: Array, where: Array, size: int) -> Array:
    """Rows (B, H) at their places (B,) among zeros (size, H)."""
    placed = np.zeros((size, rows.shape[-1]), rows.dtype)
    placed[where] = rows
    return placed


DROPPING = ("dropout", "locked_dropout", "recurrent_dropout", "weight_drop")
"""Rates that do nothing without masks; zoneout mixes old and new instead."""
SIGNATURE = (
    *("cell", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size"),
    *("residual", "learn_state", *DROPPING, "zoneout", "zoneout_cell", "dtype", "backend"),
)
"""What a tape and the network that reads it must agree in."""
_signed, _dropping = attrgetter(*SIGNATURE), attrgetter(*DROPPING)
