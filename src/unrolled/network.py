"""A whole language network from a `Spec`: embedding, recurrent stack, decoder; forward, step and gradients."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, cast

import numpy as np

from . import backends, layers
from .errors import UnrolledError, suggest
from .recurrent import DTYPES, Recurrent, StackTape, check_fraction, check_size, find_cell, load_params
from .scan import Array

INITS = {
    "pytorch": "embedding N(0, 1), everything else U(-1/sqrt(H), 1/sqrt(H))",
    "char-rnn": "everything U(-0.08, 0.08), forget-gate biases 1 (half of it in each of the two bias vectors)",
}


@dataclass(frozen=True)
class Spec:
    """Everything needed to rebuild a network; stored as JSON in the model file.

    Attributes
    ----------
    vocabulary_size : int
        V, number of symbols.
    cell : str
        Name of the cell.
    embedding_size : int
        E, width of the embedding; 0 feeds one-hot vectors to the first layer.
    hidden_size, num_layers : int
        H and L.
    bias : bool
        Whether the recurrent layers have biases (the decoder always does).
    dropout : float
        Rate of dropout after each recurrent layer (as in char-rnn, after the last one too).
    dtype : str
        "float32" or "float64".

    Examples
    --------
    >>> Spec(vocabulary_size=65, hidden_size=128).to_json()["cell"]
    'lstm'
    """

    vocabulary_size: int
    cell: str = "lstm"
    embedding_size: int = 64
    hidden_size: int = 128
    num_layers: int = 2
    bias: bool = True
    dropout: float = 0.0
    dtype: str = "float32"

    @property
    def parameter_count(self) -> int:
        """Number of parameters, without making them."""
        cell, hidden = find_cell(self.cell), self.hidden_size
        rows, columns = len(cell.rows) * hidden, cell.operand_width * hidden
        first = self.embedding_size or self.vocabulary_size
        layer = rows * columns + 2 * rows * self.bias
        if cell.params is not None:
            layer += len(cell.params._fields) * hidden  # type: ignore[attr-defined]
        recurrent = rows * first + (self.num_layers - 1) * rows * hidden + self.num_layers * layer
        return self.vocabulary_size * (self.embedding_size + hidden + 1) + recurrent

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Rebuild from `to_json`'s dictionary; unknown, missing or ill-typed entries are errors."""
        kinds = {field.name: str(field.type) for field in fields(cls)}
        if not isinstance(data, dict) or data.keys() != kinds.keys():
            raise UnrolledError(f"a network's description must have exactly the entries {', '.join(kinds)}")
        for name, value in data.items():
            if type(value).__name__ != kinds[name] and not (kinds[name] == "float" and type(value) is int):
                raise UnrolledError(f"a network's description has {name} = {value!r}; expected {kinds[name]}")
        return cls(**data)


def _check_memory(spec: Spec) -> None:
    """Refuse what can't fit into this machine's memory, before any of it is filled."""
    needed = spec.parameter_count * (8 if spec.dtype == "float64" else 4)
    if hasattr(os, "sysconf") and needed > (there := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise UnrolledError(
            f"not enough memory: a network of {spec.parameter_count:,} parameters takes {needed / 2**30:,.0f} GiB, "
            f"this machine has {there / 2**30:,.0f}"
        )


@dataclass(frozen=True)
class NetworkTape:
    """What a network remembers of a forward pass."""

    tokens: Array
    recurrent: StackTape
    output: Array
    """Input of the decoder (T, B, H), after dropout."""
    mask: Array | None
    folded: bool
    """Whether the first layer was fed one-hot vectors through the product of its weight and the embedding's."""


class Network:
    """Tokens -> embedding -> recurrent stack -> decoder -> logits.

    Parameters
    ----------
    spec : Spec
    backend : str
        As in `Recurrent`.
    rng : numpy.random.Generator, optional
        Where the initial weights come from. Default: seed 0.
    init : str
        "pytorch" or "char-rnn".

    Attributes
    ----------
    params : dict
        `embedding.weight` (V, E), unless E is 0; `recurrent.*` as PyTorch names them; `decoder.weight` (V, H);
        `decoder.bias` (V,).

    Examples
    --------
    >>> net = Network(Spec(vocabulary_size=11, embedding_size=4, hidden_size=5, num_layers=1))
    >>> logits, state, tape = net.forward(np.zeros((7, 3), int))
    >>> logits.shape
    (7, 3, 11)
    """

    def __init__(
        self, spec: Spec, *, backend: str = "auto", rng: np.random.Generator | None = None, init: str = "pytorch"
    ) -> None:
        if init not in INITS:
            raise UnrolledError(suggest("init", init, list(INITS)))
        self.spec = spec
        size = check_size("vocabulary_size", spec.vocabulary_size)
        width = check_size("embedding_size", spec.embedding_size, least=0)
        check_size("hidden_size", spec.hidden_size)
        check_size("num_layers", spec.num_layers)
        check_fraction("dropout", spec.dropout)
        if spec.dtype not in DTYPES:
            raise UnrolledError(suggest("dtype", str(spec.dtype), list(DTYPES)))
        _check_memory(spec)
        rng = np.random.default_rng(0) if rng is None else rng
        embedding = rng.standard_normal((size, width)).astype(spec.dtype) if width else None
        self.recurrent = Recurrent(
            spec.cell,
            width or size,
            spec.hidden_size,
            spec.num_layers,
            bias=spec.bias,
            dropout=spec.dropout,
            dtype=spec.dtype,
            backend=backend,
            rng=rng,
        )
        self.params: dict[str, Array] = {} if embedding is None else {"embedding.weight": embedding}
        self.params |= {f"recurrent.{name}": p for name, p in self.recurrent.params.items()}
        bound = 1 / np.sqrt(spec.hidden_size)
        self.params["decoder.weight"] = layers.uniform(rng, (size, spec.hidden_size), bound, spec.dtype)
        self.params["decoder.bias"] = layers.uniform(rng, (size,), bound, spec.dtype)
        if init == "char-rnn":
            self._init_char_rnn(rng)
        self._backend = backends.choose(backend)
        self._share()

    def _init_char_rnn(self, rng: np.random.Generator) -> None:
        rows, hidden = self.recurrent.cell.rows, self.spec.hidden_size
        for name, p in self.params.items():
            p[...] = layers.uniform(rng, p.shape, 0.08, self.spec.dtype)
            if ".bias_" in name and "f" in rows:
                at = rows.index("f") * hidden
                p[at : at + hidden] = 0.5

    def _share(self) -> None:
        """Let the recurrent stack see the same arrays: there is one set of parameters."""
        self.recurrent = self.recurrent.with_params(self._recurrent_params())

    def _recurrent_params(self) -> dict[str, Array]:
        prefix = "recurrent."
        return {k.removeprefix(prefix): v for k, v in self.params.items() if k.startswith(prefix)}

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return self.spec.parameter_count

    def load_params(self, params: Mapping[str, Any]) -> None:
        """Copy parameters in, by name, after checking names and shapes; nothing changes on an error."""
        load_params(self.params, params)
        self._share()

    def with_params(self, params: Mapping[str, Array], backend: str | None = None) -> Self:
        """Return the same network on other arrays, used as they are (the proofs pass complex ones)."""
        other = copy.copy(self)
        other.params = dict(params)
        other.recurrent = self.recurrent.with_params(other._recurrent_params(), backend)
        if backend is not None:
            other._backend = backends.choose(backend)
        return other

    def zero_state(self, batch: int) -> Any:
        """State of zeros, each field (L, B, H)."""
        return self.recurrent.zero_state(batch)

    def draw_masks(self, steps: int, batch: int, rng: np.random.Generator) -> tuple[Array, ...] | None:
        """Draw the dropout masks of one forward pass: L arrays (T, B, H), True where an output is kept."""
        between = self.recurrent.draw_masks(steps, batch, rng)
        if between is None:
            return None
        return (*between, layers.draw_mask(rng, (steps, batch, self.spec.hidden_size), self.spec.dropout))

    def _tokens(self, tokens: Any) -> Array:
        array = cast(Array, np.asarray(tokens))
        size = self.spec.vocabulary_size
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise UnrolledError(f"tokens are {array.dtype} of shape {array.shape}; expected integers (T, B)")
        if array.size and not (array.min() >= 0 and array.max() < size):
            raise UnrolledError(f"tokens run from {array.min()} to {array.max()}; this network knows 0 to {size - 1}")
        return array

    def _targets(self, y: Any, logits: Array) -> Array:
        """Check targets; one of another shape would be broadcast, and give the loss of something else."""
        targets = self._tokens(y)
        if targets.shape != logits.shape[:2] or not targets.size:
            raise UnrolledError(f"y has shape {targets.shape}, x {logits.shape[:2]}; expected the same, not empty")
        return targets

    def __call__(self, tokens: Any, state: Any = None) -> tuple[Array, Any]:
        """Inference: tokens (T, B) -> logits (T, B, V) and the final state; no dropout, no tape."""
        tokens = self._tokens(tokens)
        stack, x, _ = self._embed(tokens)
        y, new = stack(x, state)
        return self._decode(y), new

    def _embed(self, tokens: Array) -> tuple[Recurrent, Array, bool]:
        """Give the recurrent stack, its input, and whether the embedding is folded into the stack's first weight.

        Picking rows of E and multiplying them by Wih is picking columns of Wih E^T. That product has a column for each
        symbol, so it is the cheaper one where symbols are fewer than tokens.
        """
        weight = self.params.get("embedding.weight")
        if weight is None:
            return self.recurrent, tokens, False
        if len(weight) > tokens.size:
            return self.recurrent, layers.embed(weight, tokens), False
        params = self.recurrent.params
        columns = np.ascontiguousarray(self._backend.linear(weight, None, params["weight_ih_l0"]))
        return self.recurrent.with_params(params | {"weight_ih_l0": columns}), tokens, True

    def _decode(self, y: Array) -> Array:
        return self._backend.linear(self.params["decoder.weight"], self.params["decoder.bias"], y)

    def forward(
        self, tokens: Any, state: Any = None, *, masks: tuple[Array, ...] | None = None
    ) -> tuple[Array, Any, NetworkTape]:
        """Run the network and record what the gradient needs.

        Parameters
        ----------
        tokens : (T, B) integers
        state : State, tuple, array or None
            Initial state, each field (L, B, H).
        masks : tuple of arrays, optional
            Dropout masks from `draw_masks`; without them nothing is dropped.

        Returns
        -------
        logits : (T, B, V)
        state : State
        tape : NetworkTape
        """
        tokens = self._tokens(tokens)
        stack, x, folded = self._embed(tokens)
        y, new, tape = stack.forward(x, state, masks=masks and masks[:-1])
        mask = masks[-1] if masks else None
        output = y if mask is None else layers.dropout(y, mask, self.spec.dropout)
        return self._decode(output), new, NetworkTape(tokens, tape, output, mask, folded)

    def backward(self, tape: NetworkTape, dlogits: Array, dstate: Any = None) -> tuple[Any, dict[str, Array]]:
        """Gradient of the initial state and of every parameter, keyed as `params`."""
        dy, dweight, dbias = self._backend.linear_backward(self.params["decoder.weight"], tape.output, dlogits)
        if tape.mask is not None:
            dy = layers.dropout(dy, tape.mask, self.spec.dropout)
        dx, dstate, recurrent = self.recurrent.backward(tape.recurrent, dy, dstate)
        grads = {f"recurrent.{name}": g for name, g in recurrent.items()}
        grads |= {"decoder.weight": dweight, "decoder.bias": dbias}
        if tape.folded:
            name = "recurrent.weight_ih_l0"
            weight = self.params["embedding.weight"]
            dweight, grads["embedding.weight"], _ = self._backend.linear_backward(weight, self.params[name], grads[name])
            grads[name] = np.ascontiguousarray(dweight)
        elif dx is not None:
            grads["embedding.weight"] = layers.embed_backward(tape.tokens, dx, self.spec.vocabulary_size)
        return dstate, {name: grads[name] for name in self.params}

    def loss(self, x: Any, y: Any, state: Any = None, *, masks: tuple[Array, ...] | None = None) -> tuple[float, Any]:
        """Mean cross-entropy in nats of targets y (T, B) after x (T, B), and the final state."""
        logits, new = self(x, state) if masks is None else self.forward(x, state, masks=masks)[:2]
        return self._backend.cross_entropy(logits, self._targets(y, logits), gradient=False, overwrite=True)[0], new

    def loss_and_gradients(
        self, x: Any, y: Any, state: Any = None, *, masks: tuple[Array, ...] | None = None
    ) -> tuple[float, dict[str, Array], Any]:
        """One truncated back-propagation: loss in nats, gradients keyed as `params`, and the state to pass on.

        Examples
        --------
        >>> net = Network(Spec(vocabulary_size=11, hidden_size=5))
        >>> loss, grads, state = net.loss_and_gradients(np.zeros((7, 3), int), np.ones((7, 3), int))
        >>> sorted(grads) == sorted(net.params)
        True
        """
        logits, new, tape = self.forward(x, state, masks=masks)
        loss, dlogits = self._backend.cross_entropy(logits, self._targets(y, logits), overwrite=True)
        _, grads = self.backward(tape, dlogits)
        return loss, grads, new

    def drawer(self, state: Any, length: int) -> Any:
        """Return what draws about `length` tokens from this state (L, 1, H), many a call; None without the engine."""
        return backends.drawer(
            self.recurrent.backend,
            self.recurrent.cell,
            self.recurrent.layer_params(),
            self.params.get("embedding.weight"),
            self.params["decoder.weight"],
            self.params["decoder.bias"],
            state,
            length,
        )

    def step(self, tokens: Any, state: Any = None) -> tuple[Array, Any]:
        """One step of inference: tokens (B,) -> logits (B, V) and the new state."""
        logits, new = self(np.asarray(tokens)[None], state)
        return logits[0], new
