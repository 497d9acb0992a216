"""Layers with a matrix memory, one upon the other: `MLSTM`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from ..backends.chunkwise import CHUNK, chunkwise
from ..checks import Array, Kept, as_dtype, as_kind, as_numbers, check_choice, check_memory, check_size, read_only
from ..errors import UnrolledError
from ..keywords import suggesting
from ..reference import matrix_memory
from ..reference.matrix_memory import RECURRENT, State
from ..seeding import generator
from .inputs import Order, steps_within, take_indices, take_input, take_lengths
from .params import Parametric, Params, usable
from .tape import check_tape

BACKENDS = ("auto", "chunkwise", "reference")
SIGNATURE = ("input_size", "hidden_size", "num_layers", "heads", "key_size", "batch_first", "dtype", "backend")
"""Attributes in which a tape and the network that reads it must agree."""


@dataclass(frozen=True)
class MLSTMTape:
    """The tape of a forward pass: one tape a layer, as plain data."""

    layers: tuple[matrix_memory.Tape, ...]
    batched: bool
    """Whether x had a batch."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """Sizes and options of the network that made it."""


@suggesting
class MLSTM(Parametric):
    """Layers with a matrix memory, mLSTM (Beck et al. 2024, *xLSTM*, equations 19 to 27).

    Letters: T steps, B rows of the batch, I inputs, H hidden units, L layers, N heads, K the width of a head's keys, V
    that of its values, H = N V. A layer is an mLSTM cell alone: what the paper's blocks put around it (projections, a
    convolution, a norm of each head) is not part of it.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H, L.
    heads : int
        N, which divides H.
    key_size : int, optional
        K. Default: V.
    batch_first : bool
        Whether x and y (and dx, dy) are (B, T, ...) instead of (T, B, ...). States never are.
    dtype : str
        "float32" or "float64", or what NumPy or PyTorch call it.
    backend : str
        "chunkwise", by products over chunks of steps (also "auto"), or "reference", step by step.
    chunk_size : int
        Steps a chunk. The numbers are the same to rounding, only the speed differs.
    rng : numpy.random.Generator or int, optional
        Where the initial weights come from, or its seed. Default: the process's own (`unrolled.manual_seed`).

    Raises
    ------
    UnrolledError
        For a size or an option that makes no sense.

    Examples
    --------
    >>> import unrolled as ur
    >>> net = ur.MLSTM(input_size=4, hidden_size=6, heads=2)
    >>> y, state, tape = net.forward(np.ones((7, 3, 4)))
    >>> y.shape, state.C.shape, state.n.shape, state.m.shape
    ((7, 3, 6), (1, 3, 2, 3, 3), (1, 3, 2, 3), (1, 3, 2))
    >>> dx, dstate, grads = net.backward(tape, np.ones_like(y))
    >>> grads["weight_q_l0"].shape
    (6, 4)
    """

    dtype: str
    backend: str
    first = ("weight_q_l0",)
    """What reads x, for what the door says of it."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        heads: int = 1,
        key_size: int | None = None,
        batch_first: bool = False,
        dtype: Any = "float32",
        backend: str = "auto",
        chunk_size: int = CHUNK,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.num_layers = check_size("num_layers", num_layers, most=10_000)
        self.heads = check_size("heads", heads)
        if self.hidden_size % self.heads:
            raise UnrolledError(f"hidden_size is {hidden_size}, heads is {heads}; expected heads of one width")
        self.key_size = self.hidden_size // self.heads if key_size is None else check_size("key_size", key_size)
        self.batch_first = as_kind("batch_first", batch_first, "bool")
        self.dtype = as_dtype(dtype, ("float32", "float64"))
        self.backend = _backend(backend)
        self.chunk_size = check_size("chunk_size", chunk_size)
        inputs = [self.input_size] + [self.hidden_size] * (self.num_layers - 1)
        shapes = [matrix_memory.shapes(size, self.heads, self.key_size, self._values) for size in inputs]
        check_memory(sum(math.prod(shape) for layer in shapes for shape in layer.values()), self.dtype)
        rng = generator(rng)
        drawn = [initialise(layer, rng, self.dtype) for layer in shapes]
        self._complex = False
        self._params = Params({f"{name}_l{n}": p for n, layer in enumerate(drawn) for name, p in layer.items()})

    @property
    def _values(self) -> int:
        """V."""
        return self.hidden_size // self.heads

    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Array, State]:
        """Inference: as `forward`, without a tape."""
        return self._run(x, state, lengths, record=False)[:2]

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Array, State, MLSTMTape]:
        """Run the layers and record what the gradient needs; the tape is its own, as that of `Recurrent`.

        Parameters
        ----------
        x : (T, B, I) array, or (T, B) integers that stand for one-hot inputs
            With `batch_first`, (B, T, I) or (B, T). One sequence may come without a batch, (T, I) or (T,): then no B is
            in y, states and gradients either.
        state : State, tuple or None
            Initial (C, n, m): (L, B, N, K, V), (L, B, N, K) and (L, B, N); None is zeros.
        lengths : (B,) integers, optional
            Steps of each row, in any order, 0 allowed. Later steps change neither state nor gradient; their y is 0.

        Returns
        -------
        y : (T, B, H) array
        state : State
        tape : MLSTMTape

        Raises
        ------
        UnrolledError
            If a shape or an index does not fit.
        """
        own = self._with(self._params.kept())
        return own._run(x, state, lengths, record=True)

    def _run(self, x: Any, state: Any, lengths: Any, *, record: bool) -> tuple[Array, State, MLSTMTape]:
        x, order = take_input(x, self, self._cast, own=record)
        steps, batch = x.shape[:2]
        live = None if lengths is None else read_only(steps_within(take_lengths(lengths, steps, batch), steps))
        if x.dtype.kind in "iu":
            x = take_indices(x, live, self.input_size)
        begin = self._take(state, batch, order, "state")
        single = steps == 1  # of which products of a chunk make nothing faster
        memory = RECURRENT if single or self.backend == "reference" else chunkwise(self.chunk_size)
        ends, tapes = [], []
        for layer, w in enumerate(self._layers()):
            start = State(*(f[layer] for f in begin))
            x, end, tape = matrix_memory.forward(w, x, start, live, memory, record=record)
            ends.append(end)
            tapes.append(tape)
        made_by = Kept(self._signature()) if record else Kept()
        made = MLSTMTape(tuple(t for t in tapes if t is not None), order.batched, made_by)
        return order.as_given(x), _joined(ends, order), made

    def backward(
        self, tape: MLSTMTape, dy: Any = None, dstate: Any = None
    ) -> tuple[Array | None, State, dict[str, Array]]:
        """Gradients of everything that `forward` read; nothing is accumulated anywhere.

        Parameters
        ----------
        tape : MLSTMTape
            From `forward` of this network, or of one with the same sizes and options.
        dy : (T, B, H) array or None
            Gradient of the outputs, (B, T, H) with `batch_first`; None is zeros.
        dstate : State, tuple or None
            Gradient of the final state; None is zeros.

        Returns
        -------
        dx : array shaped as x, or None where x was integers
        dstate : State
            Gradient of the initial state.
        grads : dict
            Gradient of every parameter, keyed as `params`.
        """
        check_tape(tape, MLSTMTape, self._signature())
        if dy is None and dstate is None:
            raise UnrolledError(
                "dy and dstate are None; expected the gradient of the outputs, of the state, or of both"
            )
        order = Order(self.batch_first, tape.batched)
        steps, batch = tape.layers[0].x.shape[:2]
        letters, first = order.expected(steps, batch)
        expected = (*first, self.hidden_size)
        dx: Array | None = np.zeros(expected, self.dtype) if dy is None else self._cast(dy, "dy")
        assert dx is not None
        if dx.shape != expected:
            raise UnrolledError(f"dy has shape {dx.shape}; expected ({letters}, H) = {expected}")
        dx = order.in_time(dx)
        ends = self._take(dstate, batch, order, "dstate")
        starts: list[State] = []
        grads: dict[str, Array] = {}
        for layer in range(self.num_layers - 1, -1, -1):
            assert dx is not None
            dx, start, local = matrix_memory.backward(tape.layers[layer], dx, State(*(f[layer] for f in ends)))
            starts.insert(0, start)
            grads |= {f"{name}_l{layer}": g for name, g in local.items()}
        given = None if dx is None else order.as_given(dx)
        return given, _joined(starts, order), {name: grads[name] for name in self._params}

    def step(self, x: Any, state: Any = None) -> tuple[Array, State]:
        """One step of inference: x (B, I), or (B,) integers -> y (B, H) and the new state; B may be left out.

        Examples
        --------
        >>> import unrolled as ur
        >>> y, state = ur.MLSTM(4, 6, heads=2).step(np.ones((3, 4)))
        >>> y.shape
        (3, 6)
        """
        x = as_numbers("x", x)
        alone = x.ndim < (1 if x.dtype.kind in "iu" else 2)
        axis = 1 if self.batch_first and not alone else 0
        y, new = self(np.expand_dims(x, axis), state)
        return y.squeeze(axis), new

    def zero_state(self, batch: int) -> State:
        """State of zeros."""
        batch = check_size("batch", batch, least=0)
        shapes = self._shapes((batch,))
        check_memory(math.prod(shapes[0]), self.dtype, f"a state of {batch} rows, {{}} numbers,")
        return State(*(np.zeros(shape, self.dtype) for shape in shapes))

    def with_params(self, params: Mapping[str, Array], backend: str | None = None) -> Self:
        """Return the same network on other arrays, used as they are, in their precision (proofs pass complex ones)."""
        arrays = usable(params, self._params)
        dtype = "float32" if all(p.dtype == np.float32 for p in arrays.values()) else "float64"
        return self._with(arrays, _complex=True, dtype=dtype, backend=_backend(backend or self.backend))

    def _with(self, params: Params, **other_than_here: Any) -> Self:
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__ | other_than_here | {"_params": params}
        return other

    def _layers(self) -> list[dict[str, Array]]:
        """Return the parameters of every layer by their local names."""
        names = list(matrix_memory.shapes(1, 1, 1, 1))
        return [{name: self._params[f"{name}_l{n}"] for name in names} for n in range(self.num_layers)]

    def _signature(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SIGNATURE}

    def _shapes(self, rows: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the shapes of a state's fields, of these rows (B,), or none of a state without a batch."""
        first = (self.num_layers, *rows, self.heads)
        return [(*first, self.key_size, self._values), (*first, self.key_size), first]

    def _take(self, state: Any, batch: int, order: Order, what: str) -> State:
        """Return what a caller hands in as a State of (L, B, ...) arrays; None is zeros."""
        if state is None:
            return self.zero_state(batch)
        if not isinstance(state, (tuple, list)) or len(state) != len(State._fields):
            raise UnrolledError(f"{what} must be (C, n, m), as mlstm has it")
        found = []
        for name, value, shape in zip(
            State._fields, state, self._shapes((batch,) if order.batched else ()), strict=True
        ):
            array = self._cast(value, f"{what}.{name}")
            if array.shape != shape:
                raise UnrolledError(f"{what}.{name} has shape {array.shape}; expected {shape}")
            found.append(array if order.batched else array[:, None])
        return State(*found)

    def __repr__(self) -> str:
        return (
            f"MLSTM(input_size={self.input_size}, hidden_size={self.hidden_size}, num_layers={self.num_layers}, "
            f"heads={self.heads}, {sum(p.size for p in self.params.values()):,} parameters, {self.backend})"
        )


def initialise(shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator, dtype: str) -> dict[str, Array]:
    """Draw a layer's parameters as the authors do.

    Weights of q, k, v and o from N(0, 2 / (5 I)) (Nguyen & Salazar 2019). The gates of a head do not see x at first:
    the biases of f go from 3 to 6 over the heads, those of i are from N(0, 0.01).

    Examples
    --------
    >>> initialise(matrix_memory.shapes(4, 3, 2, 2), np.random.default_rng(0), "float32")["bias_f"]
    array([3. , 4.5, 6. ], dtype=float32)
    """
    params = {name: np.zeros(shape) for name, shape in shapes.items()}
    for name in ("weight_q", "weight_k", "weight_v", "weight_o"):
        params[name] = rng.standard_normal(shapes[name]) * np.sqrt(2 / (5 * shapes[name][1]))
    params["bias_i"] = 0.1 * rng.standard_normal(shapes["bias_i"])
    params["bias_f"] = np.linspace(3, 6, shapes["bias_f"][0])
    return {name: p.astype(dtype) for name, p in params.items()}


def _backend(name: object) -> str:
    """Return the name of what runs the memory, or say which there are."""
    return check_choice("backend of mlstm", name, BACKENDS).replace("auto", "chunkwise")


def _joined(states: list[State], order: Order) -> State:
    """States of each layer -> (L, B, ...), or (L, ...) where there was no batch."""
    fields = [np.stack(layers) for layers in zip(*states, strict=True)]
    return State(*(f if order.batched else f[:, 0] for f in fields))
