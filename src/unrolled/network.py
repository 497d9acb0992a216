"""A whole language network from a `Spec`: embedding, recurrent stack, decoder; forward, step and gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from . import backends, layers, losses
from .checks import Array, are_indices, as_array, check_fraction, check_memory, check_size, check_weight, check_widths
from .errors import UnrolledError, suggest
from .initial import CHAR_RNN, INITS, glorot
from .recurrent import DTYPES, Masks, Recurrent, StackTape, find_cell, load_params

STACK_OPTIONS = (
    "bias",
    "dropout",
    "locked_dropout",
    "recurrent_dropout",
    "weight_drop",
    "zoneout",
    "zoneout_cell",
    "residual",
    "proj_size",
    "learn_state",
    "init",
    "forget_bias",
)
"""Entries of a `Spec` that are options of `Recurrent`."""


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
        H and L; `hidden_size` may be a tuple, a width a layer (L is then its length).
    bias : bool
        Whether the recurrent layers have biases (the decoder always does).
    dropout, locked_dropout : float
        Rate of dropout after each recurrent layer (as in char-rnn, after the last one too): of every step by itself,
        and with one mask for all steps.
    embedding_dropout : float
        Rate at which symbols are dropped: a symbol's row of the embedding, for a whole pass (Gal & Ghahramani 2016).
    recurrent_dropout, weight_drop, zoneout, zoneout_cell, residual, proj_size, learn_state, init, forget_bias
        As in `unrolled.Recurrent`; `init` also draws the embedding and the decoder.
    tied : bool
        Whether the decoder's weight is the embedding's (Press & Wolf 2017); E must be the last layer's width.
    ar, tar : float
        Weights of two penalties of training (Merity, McCann & Socher 2017): activation regularisation, on the mean
        square of the last layer's output after dropout; and temporal activation regularisation, on that of its change
        from step to step before dropout. Changes are taken within a chunk and a document, not from one to the next.
    label_smoothing : float
        Share of each target's probability that training spreads over all symbols (Szegedy et al. 2016).
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
    hidden_size: int | tuple[int, ...] = 128
    num_layers: int = 2
    bias: bool = True
    dropout: float = 0.0
    dtype: str = "float32"
    locked_dropout: float = 0.0
    embedding_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    weight_drop: float = 0.0
    zoneout: float = 0.0
    zoneout_cell: float = 0.0
    residual: bool = False
    proj_size: int = 0
    learn_state: bool = False
    init: str = "pytorch"
    forget_bias: float | None = None
    tied: bool = False
    ar: float = 0.0
    tar: float = 0.0
    label_smoothing: float = 0.0

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden units of every layer."""
        several = isinstance(self.hidden_size, (tuple, list))
        return check_widths(self.hidden_size, None if several else self.num_layers)

    @property
    def parameter_count(self) -> int:
        """Number of parameters, without making them."""
        cell, widths = find_cell(self.cell), self.widths
        count, inputs = self.vocabulary_size * (self.embedding_size + 1), self.embedding_size or self.vocabulary_size
        for hidden in widths:
            shapes = cell.shapes(inputs, hidden, bias=self.bias, proj=self.proj_size)
            inputs = self.proj_size or hidden
            count += sum(math.prod(shape) for shape in shapes.values())
            fields = len(cell.state._fields)  # type: ignore[attr-defined]
            count += self.learn_state * (inputs + hidden * (fields - 1))
        return count + (not self.tied) * self.vocabulary_size * inputs

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Rebuild from `to_json`'s dictionary; unknown, missing or ill-typed entries are errors.

        (What files of earlier versions lack has its default: those versions knew nothing else.)
        """
        kinds = {field.name: str(field.type) for field in fields(cls)}
        first = list(kinds)[: list(kinds).index("locked_dropout")]
        if not isinstance(data, dict) or not set(first) <= data.keys() <= set(kinds):
            raise UnrolledError(f"a network's description must have exactly the entries {', '.join(kinds)}")
        for name, value in data.items():
            allowed = kinds[name].replace("tuple[int, ...]", "list").replace("None", "NoneType").split(" | ")
            if type(value).__name__ not in allowed and not ("float" in allowed and type(value) is int):
                raise UnrolledError(f"a network's description has {name} = {value!r}; expected {kinds[name]}")
        return cls(**data)

    def __post_init__(self) -> None:
        if isinstance(self.cell, str):  # by the name that the file keeps, whatever it was called
            object.__setattr__(self, "cell", find_cell(self.cell).name)
        if isinstance(self.hidden_size, (tuple, list)):  # JSON has lists, and one width is a number
            object.__setattr__(self, "num_layers", len(self.hidden_size))
            object.__setattr__(self, "hidden_size", _plain(self.hidden_size))


def _plain(sizes: Any) -> Any:
    """Widths of layers as a tuple, or as one number where all are equal."""
    if not isinstance(sizes, (tuple, list)):
        return sizes
    return sizes[0] if len(set(map(str, sizes))) == 1 else tuple(sizes)


@dataclass(frozen=True)
class NetworkTape:
    """What a network remembers of a forward pass."""

    tokens: Array
    recurrent: StackTape
    raw: Array
    """Output of the stack (T, B, H), before dropout."""
    output: Array
    """Input of the decoder (T, B, H), after dropout."""
    masks: Masks | None
    folded: bool
    """Whether the first layer was fed one-hot vectors through the product of its weight and the embedding's."""
    starts: Array | None = None
    """Steps at which documents began (T, B)."""


class Network:
    """Tokens -> embedding -> recurrent stack -> decoder -> logits.

    Parameters
    ----------
    spec : Spec
    backend : str
        As in `Recurrent`.
    rng : numpy.random.Generator, optional
        Where the initial weights come from. Default: seed 0.

    Attributes
    ----------
    params : dict
        `embedding.weight` (V, E), unless E is 0; `recurrent.*` as PyTorch names them; `decoder.weight` (V, H), unless
        it is tied to the embedding's; `decoder.bias` (V,).

    Examples
    --------
    >>> net = Network(Spec(vocabulary_size=11, embedding_size=4, hidden_size=5, num_layers=1))
    >>> logits, state, tape = net.forward(np.zeros((7, 3), int))
    >>> logits.shape
    (7, 3, 11)
    """

    def __init__(self, spec: Spec, *, backend: str = "auto", rng: np.random.Generator | None = None) -> None:
        self.spec = spec
        size = check_size("vocabulary_size", spec.vocabulary_size)
        width = check_size("embedding_size", spec.embedding_size, least=0)
        check_size("num_layers", spec.num_layers)
        check_widths(spec.hidden_size, spec.num_layers)
        check_fraction("dropout", spec.dropout)
        check_fraction("embedding_dropout", spec.embedding_dropout)
        check_fraction("label_smoothing", spec.label_smoothing)
        check_weight("ar", spec.ar)
        check_weight("tar", spec.tar)
        if spec.dtype not in DTYPES:
            raise UnrolledError(suggest("dtype", str(spec.dtype), list(DTYPES)))
        if spec.init not in INITS:
            raise UnrolledError(suggest("init", str(spec.init), list(INITS)))
        last = spec.proj_size or spec.widths[-1]
        if spec.tied and width != last:
            raise UnrolledError(
                f"tied weights need an embedding as wide as the last layer: embedding_size is {width}, that is {last}"
            )
        if spec.embedding_dropout and not width:
            raise UnrolledError("embedding_dropout drops rows of the embedding; embedding_size is 0, there is none")
        check_memory(spec.parameter_count, spec.dtype)
        rng = np.random.default_rng(0) if rng is None else rng
        embedding = rng.standard_normal((size, width)).astype(spec.dtype) if width else None
        self.recurrent = Recurrent(
            spec.cell,
            width or size,
            spec.widths,
            dtype=spec.dtype,
            backend=backend,
            rng=rng,
            **{name: getattr(spec, name) for name in STACK_OPTIONS},
        )
        bound = CHAR_RNN if spec.init == "char-rnn" else float(1 / np.sqrt(last))
        if embedding is not None and (spec.tied or spec.init == "char-rnn"):
            embedding = layers.uniform(rng, embedding.shape, bound, spec.dtype)  # N(0, 1) is too large for a decoder
        self.params: dict[str, Array] = {} if embedding is None else {"embedding.weight": embedding}
        self.params |= {f"recurrent.{name}": p for name, p in self.recurrent.params.items()}
        if not spec.tied:
            weight = glorot(rng, (size, last), spec.dtype) if spec.init == "glorot" else None
            self.params["decoder.weight"] = (
                layers.uniform(rng, (size, last), bound, spec.dtype) if weight is None else weight
            )
        bias = layers.uniform(rng, (size,), bound, spec.dtype)
        self.params["decoder.bias"] = 0 * bias if spec.init in ("glorot", "identity") else bias
        self._backend = backends.choose(backend)
        self._share()

    @property
    def _decoder(self) -> Array:
        """The decoder's weight (V, H)."""
        return self.params["embedding.weight" if self.spec.tied else "decoder.weight"]

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
        """State of zeros, as `Recurrent.zero_state`."""
        return self.recurrent.zero_state(batch)

    def initial_state(self, batch: int) -> Any:
        """Return the state that a text begins with: zeros, or the trained one."""
        return self.recurrent.initial_state(batch)

    def draw_masks(self, steps: int, batch: int, rng: np.random.Generator) -> Masks | None:
        """Draw the masks of one forward pass: the stack's, those behind its last layer, and `embedding` (V,)."""
        spec, masks = self.spec, self.recurrent.draw_masks(steps, batch, rng) or {}
        for name, (shape, rate) in self._outer_rates(steps, batch).items():
            masks[name] = layers.draw_mask(rng, shape, rate)
        if spec.embedding_dropout:
            masks["embedding"] = layers.draw_mask(rng, (spec.vocabulary_size,), spec.embedding_dropout)
        return masks or None

    def _outer_rates(self, steps: int, batch: int) -> dict[str, tuple[tuple[int, ...], float]]:
        """Name, shape and rate of the masks between the last layer and the decoder."""
        spec, last, width = self.spec, self.recurrent.num_layers - 1, self.recurrent.output_size
        rates = {f"dropout_l{last}": ((steps, batch, width), spec.dropout)}
        rates[f"locked_l{last}"] = (1, batch, width), spec.locked_dropout
        return {name: (shape, rate) for name, (shape, rate) in rates.items() if rate}

    def _drop(self, y: Array, masks: Masks | None) -> Array:
        """Dropout between the last layer and the decoder; its own gradient."""
        for name, (_, rate) in self._outer_rates(*y.shape[:2]).items():
            y = y if masks is None else layers.dropout(y, masks[name], rate)
        return y

    def _inner(self, masks: Masks | None, steps: int, batch: int) -> Masks | None:
        """Check the masks around the stack, and return the stack's own."""
        if masks is None:
            return None
        if not isinstance(masks, Mapping):
            raise UnrolledError(f"masks are {masks!r}; expected what draw_masks gives")
        outer = {name: shape for name, (shape, _) in self._outer_rates(steps, batch).items()}
        if self.spec.embedding_dropout:
            outer["embedding"] = (self.spec.vocabulary_size,)
        for name, shape in outer.items():
            if name not in masks or masks[name].shape != shape:
                raise UnrolledError(f"masks have no {name} of shape {shape}; draw them for these steps and rows")
        return {name: mask for name, mask in masks.items() if name not in outer} or None

    def _tokens(self, tokens: Any) -> Array:
        array = as_array("tokens", tokens)
        size = self.spec.vocabulary_size
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise UnrolledError(f"tokens are {array.dtype} of shape {array.shape}; expected integers (T, B)")
        if not are_indices(array, size):
            raise UnrolledError(f"tokens run from {array.min()} to {array.max()}; this network knows 0 to {size - 1}")
        return array

    def _targets(self, y: Any, logits: Array) -> Array:
        """Check targets; one of another shape would be broadcast, and give the loss of something else."""
        targets = self._tokens(y)
        if targets.shape != logits.shape[:2] or not targets.size:
            raise UnrolledError(f"y has shape {targets.shape}, x {logits.shape[:2]}; expected the same, not empty")
        return targets

    def __call__(self, tokens: Any, state: Any = None, *, starts: Array | None = None) -> tuple[Array, Any]:
        """Inference: tokens (T, B) -> logits (T, B, V) and the final state; no dropout, no tape."""
        tokens = self._tokens(tokens)
        stack, x, _ = self._embed(tokens)
        y, new = stack(x, state, starts=starts)
        return self._decode(y), new

    def _embed(self, tokens: Array, masks: Masks | None = None) -> tuple[Recurrent, Array, bool]:
        """Give the recurrent stack, its input, and whether the embedding is folded into the stack's first weight.

        Picking rows of E and multiplying them by Wih is picking columns of Wih E^T. That product has a column for each
        symbol, so it is the cheaper one where symbols are fewer than tokens (and none is dropped).
        """
        weight = self.params.get("embedding.weight")
        if weight is None:
            return self.recurrent, tokens, False
        if len(weight) > tokens.size or (masks is not None and "embedding" in masks):
            return self.recurrent, self._drop_symbols(layers.embed(weight, tokens), tokens, masks), False
        params = self.recurrent.params
        columns = np.ascontiguousarray(self._backend.linear(weight, None, params["weight_ih_l0"]))
        return self.recurrent.with_params(params | {"weight_ih_l0": columns}), tokens, True

    def _decode(self, y: Array) -> Array:
        return self._backend.linear(self._decoder, self.params["decoder.bias"], y)

    def _drop_symbols(self, x: Array, tokens: Array, masks: Masks | None) -> Array:
        """Dropout of whole symbols; its own gradient."""
        if masks is None or "embedding" not in masks:
            return x
        return layers.dropout(x, masks["embedding"][tokens][..., None], self.spec.embedding_dropout)

    def forward(
        self, tokens: Any, state: Any = None, *, masks: Masks | None = None, starts: Array | None = None
    ) -> tuple[Array, Any, NetworkTape]:
        """Run the network and record what the gradient needs.

        Parameters
        ----------
        tokens : (T, B) integers
        state : State, tuple, array or None
            Initial state, each field (L, B, H).
        masks : dict of arrays, optional
            Masks from `draw_masks`; without them nothing is dropped.
        starts : (T, B) bool, optional
            Steps at which a document begins, with the initial state; as in `Recurrent.forward`.

        Returns
        -------
        logits : (T, B, V)
        state : State
        tape : NetworkTape
        """
        tokens = self._tokens(tokens)
        inner = self._inner(masks, *tokens.shape)
        stack, x, folded = self._embed(tokens, masks)
        y, new, tape = stack.forward(x, state, masks=inner, starts=starts)
        output = self._drop(y, masks)
        return self._decode(output), new, NetworkTape(tokens, tape, y, output, masks, folded, starts)

    def backward(
        self, tape: NetworkTape, dlogits: Array, dstate: Any = None, *, penalties: bool = False
    ) -> tuple[Any, dict[str, Array]]:
        """Gradient of the initial state and of every parameter, keyed as `params`; with the `penalties`' own or not."""
        dy, dweight, dbias = self._backend.linear_backward(self._decoder, tape.output, dlogits)
        if penalties and self.spec.ar:
            dy = dy + self.spec.ar * losses.activation_penalty(tape.output)[1]
        dy = self._drop(dy, tape.masks)
        if penalties and self.spec.tar:
            dy = dy + self.spec.tar * losses.temporal_penalty(tape.raw, tape.starts)[1]
        dx, dstate, recurrent = self.recurrent.backward(tape.recurrent, dy, dstate)
        grads = {f"recurrent.{name}": g for name, g in recurrent.items()}
        grads |= {"decoder.weight": dweight, "decoder.bias": dbias}
        if tape.folded:
            name = "recurrent.weight_ih_l0"
            weight = self.params["embedding.weight"]
            dfirst, grads["embedding.weight"], _ = self._backend.linear_backward(weight, self.params[name], grads[name])
            grads[name] = np.ascontiguousarray(dfirst)
        elif dx is not None:
            dx = self._drop_symbols(dx, tape.tokens, tape.masks)
            grads["embedding.weight"] = self._backend.embed_backward(tape.tokens, dx, self.spec.vocabulary_size)
        if self.spec.tied:
            grads["embedding.weight"] = grads["embedding.weight"] + dweight
        return dstate, {name: grads[name] for name in self.params}

    def loss(
        self, x: Any, y: Any, state: Any = None, *, masks: Masks | None = None, starts: Array | None = None
    ) -> tuple[float, Any]:
        """Mean cross-entropy in nats of targets y (T, B) after x (T, B), and the final state."""
        if masks is None:
            logits, new = self(x, state, starts=starts)
        else:
            logits, new, _ = self.forward(x, state, masks=masks, starts=starts)
        return self._backend.cross_entropy(logits, self._targets(y, logits), gradient=False, overwrite=True)[0], new

    def objective(
        self, x: Any, y: Any, state: Any = None, *, masks: Masks | None = None, starts: Array | None = None
    ) -> tuple[Any, Any]:
        """What training minimises, and the final state.

        It is the cross-entropy + label_smoothing (mean over targets of z_y - mean(z)) + ar mean(output²) +
        tar mean((raw[t + 1] - raw[t])²): logits z, the last layer's output after dropout and, raw, before it.

        Examples
        --------
        >>> net = Network(Spec(vocabulary_size=11, hidden_size=5))
        >>> x, y = np.zeros((7, 3), int), np.ones((7, 3), int)
        >>> net.objective(x, y)[0] == net.loss(x, y)[0]  # without penalties
        True
        """
        logits, new, tape = self.forward(x, state, masks=masks, starts=starts)
        spec, targets = self.spec, self._targets(y, logits)
        value = self._backend.cross_entropy(logits, targets, gradient=False)[0]
        if spec.label_smoothing:
            value += spec.label_smoothing * losses.confidence(logits, targets)
        if spec.ar:
            value += spec.ar * losses.activation_penalty(tape.output)[0]
        if spec.tar:
            value += spec.tar * losses.temporal_penalty(tape.raw, tape.starts)[0]
        return value, new

    def loss_and_gradients(
        self, x: Any, y: Any, state: Any = None, *, masks: Masks | None = None, starts: Array | None = None
    ) -> tuple[float, dict[str, Array], Any]:
        """One truncated back-propagation: loss in nats, gradients keyed as `params`, and the state to pass on.

        The gradients are those of `objective`; the loss is the cross-entropy, whatever the penalties.

        Examples
        --------
        >>> net = Network(Spec(vocabulary_size=11, hidden_size=5))
        >>> loss, grads, state = net.loss_and_gradients(np.zeros((7, 3), int), np.ones((7, 3), int))
        >>> sorted(grads) == sorted(net.params)
        True
        """
        logits, new, tape = self.forward(x, state, masks=masks, starts=starts)
        loss, dlogits = self._backend.cross_entropy(
            logits, self._targets(y, logits), overwrite=True, smoothing=self.spec.label_smoothing
        )
        _, grads = self.backward(tape, dlogits, penalties=True)
        return loss, grads, new

    def drawer(self, state: Any, length: int) -> Any:
        """Return what draws about `length` tokens from this state (L, 1, H), many a call; None without the engine.

        The engine's knows plain stacks: no mixtures of zoneout, no projection, no residual layers, one width.
        """
        spec = self.spec
        if spec.zoneout or spec.zoneout_cell or spec.proj_size or spec.residual or len(set(spec.widths)) > 1:
            return None
        return backends.drawer(
            self.recurrent.backend,
            self.recurrent.cell,
            self.recurrent.layer_params(),
            self.params.get("embedding.weight"),
            self._decoder,
            self.params["decoder.bias"],
            state,
            length,
        )

    def step(self, tokens: Any, state: Any = None) -> tuple[Array, Any]:
        """One step of inference: tokens (B,) -> logits (B, V) and the new state."""
        logits, new = self(np.asarray(tokens)[None], state)
        return logits[0], new
