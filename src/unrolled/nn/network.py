"""A whole language network from a `Spec`: embedding, recurrent stack, decoder; forward, step and gradients."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from .. import backends
from ..checks import (
    Array,
    Kept,
    are_indices,
    as_array,
    as_kind,
    as_numbers,
    check_memory,
    check_rng,
    check_size,
    read_only,
)
from ..errors import UnrolledError, UnrolledWarning, brief
from ..reference import layers, losses
from ..seeding import generator
from .initializers import bound, glorot
from .masks import Masks, as_masks
from .params import Parametric, Params, usable
from .recurrent import Recurrent
from .spec import Spec
from .stack import DROPPING
from .tape import StackTape, check_tape


@dataclass(frozen=True)
class NetworkTape:
    """What a network remembers of a forward pass."""

    params: Mapping[str, Array]
    """The parameters of that pass."""
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
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """The network's description, precision and backend."""


class Network(Parametric, derived=("recurrent",)):
    """Tokens -> embedding -> recurrent stack -> decoder -> logits.

    Parameters
    ----------
    spec : Spec
    backend : str
        As in `Recurrent`.
    rng : numpy.random.Generator or int, optional
        Where the initial weights come from, or its seed; by default as in `Recurrent`.

    Attributes
    ----------
    params : dict
        `embedding.weight` (V, E), unless E is 0; `recurrent.*` as PyTorch names them; `decoder.weight` (V, H), unless
        it is tied to the embedding's; `decoder.bias` (V,). What is assigned is copied in; the stack's own,
        `recurrent.params`, are the same arrays.

    Examples
    --------
    >>> net = Network(Spec(vocabulary_size=11, embedding_size=4, hidden_size=5, num_layers=1))
    >>> logits, state, tape = net.forward(np.zeros((7, 3), int))
    >>> logits.shape
    (7, 3, 11)
    """

    def __init__(self, spec: Spec, *, backend: str = "auto", rng: np.random.Generator | int | None = None) -> None:
        if not isinstance(spec, Spec):
            raise UnrolledError(f"spec is {brief(spec)}; expected a Spec, such as unrolled.Spec(vocabulary_size=65)")
        self.spec = spec
        spec.check()
        size, width, last = spec.vocabulary_size, spec.embedding_size, spec.proj_size or spec.widths[-1]
        check_memory(spec.parameter_count, spec.dtype)
        rng = generator(rng)
        embedding = rng.standard_normal((size, width)).astype(spec.dtype) if width else None
        options = spec.stack_options()
        self._recurrent = Recurrent(spec.cell, width or size, spec.widths, backend=backend, rng=rng, **options)
        limit = bound(spec.init, last)
        if embedding is not None and (spec.tied or spec.init.startswith(("char-rnn", "uniform:"))):
            embedding = layers.uniform(rng, embedding.shape, limit, spec.dtype)  # N(0, 1) is too large for a decoder
        params: dict[str, Array] = {} if embedding is None else {"embedding.weight": embedding}
        params |= {f"recurrent.{name}": p for name, p in self._recurrent.params.items()}
        if not spec.tied:
            weight = glorot(rng, (size, last), spec.dtype) if spec.init == "glorot" else None
            params["decoder.weight"] = (
                layers.uniform(rng, (size, last), limit, spec.dtype) if weight is None else weight
            )
        bias = layers.uniform(rng, (size,), limit, spec.dtype)
        params["decoder.bias"] = 0 * bias if spec.init in ("glorot", "identity") else bias
        self._params = Params(params)
        self._backend = backends.choose(backend)
        self._warned = False

    @property
    def recurrent(self) -> Recurrent:
        """The stack; its parameters are these arrays."""
        return self._recurrent

    def _decoder(self, params: Mapping[str, Array]) -> Array:
        """The decoder's weight (V, H)."""
        return params["embedding.weight" if self.spec.tied else "decoder.weight"]

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return self.spec.parameter_count

    def with_params(self, params: Mapping[str, Array], backend: str | None = None) -> Self:
        """Return the same network on other arrays, used as they are (the proofs pass complex ones)."""
        other = self._on(usable(params, self._params), backend)
        other._recurrent._complex = True
        return other

    def _on(self, params: Params, backend: str | None = None) -> Self:
        """Return the same network on these very arrays."""
        other, prefix = copy.copy(self), "recurrent."
        other._params = params
        own = Params({k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)})
        other._recurrent = self._recurrent._on(own, backend)
        if backend is not None:
            other._backend = backends.choose(backend)
        return other

    def zero_state(self, batch: int) -> Any:
        """State of zeros, as `Recurrent.zero_state`."""
        return self.recurrent.zero_state(batch)

    def initial_state(self, batch: int) -> Any:
        """Return the state that a text begins with: zeros, or the trained one."""
        return self.recurrent.initial_state(batch)

    def draw_masks(self, steps: int, batch: int, rng: np.random.Generator | int) -> Masks | None:
        """Draw the masks of one forward pass: the stack's, those behind its last layer, and `embedding` (V,)."""
        steps, batch, rng = check_size("steps", steps, 0), check_size("batch", batch, 0), check_rng(rng)
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

    def _masks(self, masks: Any, steps: int, batch: int, *, own: bool) -> tuple[Masks | None, Masks | None]:
        """Check the masks around the stack, copied to `own`; return all of them, and the stack's."""
        if masks is None or (isinstance(masks, Mapping) and not masks):
            return None, None
        if not isinstance(masks, Mapping):
            raise UnrolledError(f"masks are {brief(masks)}; expected what draw_masks gives")
        outer = {name: shape for name, (shape, _) in self._outer_rates(steps, batch).items()}
        if self.spec.embedding_dropout:
            outer["embedding"] = (self.spec.vocabulary_size,)
        given = as_masks(masks)
        for name, shape in outer.items():
            if name not in given or given[name].shape != shape:
                raise UnrolledError(f"masks have no {name} of shape {shape}; draw them for these steps and rows")
        given = Kept({name: read_only(m.copy()) for name, m in given.items()}) if own else given
        return given, {name: mask for name, mask in given.items() if name not in outer} or None

    def _tokens(self, tokens: Any, name: str = "tokens") -> Array:
        """Return tokens (T, B) as a copy: what is checked must be what is used, whatever the caller's threads do."""
        array = as_numbers(name, tokens)
        size = self.spec.vocabulary_size
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise UnrolledError(f"{name} are {array.dtype} of shape {array.shape}; expected integers (T, B)")
        array = read_only(array.copy())
        if not are_indices(array, size):
            raise UnrolledError(f"{name} run from {array.min()} to {array.max()}; this network knows 0 to {size - 1}")
        return array

    def _targets(self, y: Any, logits: Array) -> Array:
        """Check targets; one of another shape would be broadcast, and give the loss of something else."""
        targets = self._tokens(y, "targets")
        if targets.shape != logits.shape[:2] or not targets.size:
            raise UnrolledError(f"y has shape {targets.shape}, x {logits.shape[:2]}; expected the same, not empty")
        return targets

    def __call__(self, tokens: Any, state: Any = None, *, starts: Any = None) -> tuple[Array, Any]:
        """Inference: tokens (T, B) -> logits (T, B, V) and the final state; no dropout, no tape."""
        tokens = self._tokens(tokens)
        stack, x, _ = self._embed(tokens)
        y, new = stack(x, state, starts=starts)
        return self._decode(y), new

    def _embed(self, tokens: Array, masks: Masks | None = None, *, fold: bool = True) -> tuple[Recurrent, Array, bool]:
        """Give the recurrent stack, its input, and whether the embedding is folded into the stack's first weight.

        Picking rows of E and multiplying them by Wih is picking columns of Wih E^T. That product has a column for each
        symbol, so it is the cheaper one where symbols are fewer than tokens (and none is dropped).
        """
        weight, stack = self._params.get("embedding.weight"), self._recurrent
        if weight is None:
            return stack, tokens if fold else np.eye(stack.input_size, dtype=stack.dtype)[tokens], False
        if not fold or len(weight) > tokens.size or (masks is not None and "embedding" in masks):
            return stack, self._drop_symbols(layers.embed(weight, tokens), tokens, masks), False
        columns = np.ascontiguousarray(self._backend.linear(weight, None, stack.params["weight_ih_l0"]))
        return stack._reading(len(weight), read_only(columns)), tokens, True

    def _decode(self, y: Array) -> Array:
        return self._backend.linear(self._decoder(self._params), self._params["decoder.bias"], y)

    def _drop_symbols(self, x: Array, tokens: Array, masks: Masks | None) -> Array:
        """Dropout of whole symbols; its own gradient."""
        if masks is None or "embedding" not in masks:
            return x
        return layers.dropout(x, masks["embedding"][tokens][..., None], self.spec.embedding_dropout)

    def forward(
        self,
        tokens: Any,
        state: Any = None,
        *,
        masks: Masks | None = None,
        starts: Any = None,
        inputs: bool = False,
    ) -> tuple[Array, Any, NetworkTape]:
        """Run the network and record what the gradient needs.

        The tape is its own: whatever happens to tokens, masks or parameters afterwards, `backward` gives the gradients
        of this pass.

        Parameters
        ----------
        tokens : (T, B) integers
        state : State, tuple, array or None
            Initial state, each field (L, B, H).
        masks : dict of arrays, optional
            Masks from `draw_masks`; without them nothing is dropped ({} says that this is meant).
        starts : (T, B) bool, optional
            Steps at which a document begins, with the initial state; as in `Recurrent.forward`.
        inputs : bool
            Whether `input_gradient` is asked for later; it takes another way to the same outputs, apart from rounding.

        Returns
        -------
        logits : (T, B, V)
        state : State
        tape : NetworkTape

        Warns
        -----
        UnrolledWarning
            Once a network, if a rate of dropout is set and nothing is dropped.
        """
        inputs = as_kind("inputs", inputs, "bool")
        self._warn_if_idle(masks)
        own = self._on(self._params.kept())
        return own._forward(tokens, state, masks, starts, own=True, fold=not inputs)

    def _forward(
        self, tokens: Any, state: Any, masks: Any, starts: Any, *, own: bool = False, fold: bool = True
    ) -> tuple[Array, Any, NetworkTape]:
        """As `forward`; to `own` is to share no memory with what the caller holds."""
        tokens = self._tokens(tokens)
        masks, inner = self._masks(masks, *tokens.shape, own=own)
        starts = None if starts is None else as_array("starts", starts)
        starts = read_only(starts.copy()) if own and starts is not None else starts
        stack, x, folded = self._embed(tokens, masks, fold=fold)
        y, new, scans = stack._run(x, state, None, inner, starts=starts, record=True)
        output = self._drop(y, masks)
        made_by = Kept(self._signature() if own else {})
        tape = NetworkTape(self._params, tokens, scans, read_only(y), read_only(output), masks, folded, starts, made_by)
        return self._decode(output), new, tape

    def _signature(self) -> dict[str, Any]:
        """Return what a tape's network and the one that it is handed back to must have in common."""
        return asdict(self.spec) | {"dtype": self.recurrent.dtype, "backend": self.recurrent.backend}

    def _warn_if_idle(self, masks: Any) -> None:
        """Say once that a rate of dropout changes nothing."""
        rates = [name for name in (*DROPPING, "embedding_dropout") if getattr(self.spec, name)]
        if masks is None and rates and not self._warned:
            self._warned = True
            said = f"{rates[0]} is {getattr(self.spec, rates[0])}, and nothing is dropped: there are no masks"
            warnings.warn(f"{said} (pass draw_masks(...), or {{}} if that is meant)", UnrolledWarning, stacklevel=3)

    def backward(
        self, tape: NetworkTape, dlogits: Any = None, dstate: Any = None, *, penalties: bool = False
    ) -> tuple[Any, dict[str, Array]]:
        """Gradient of the initial state and of every parameter, keyed as `params`; with the `penalties`' own or not.

        `dlogits` (T, B, V) or `dstate` may be None, for zeros.
        """
        penalties = as_kind("penalties", penalties, "bool")
        return self._backward(tape, self._dlogits(tape, dlogits, dstate), dstate, penalties=penalties)[1:]

    def input_gradient(self, tape: NetworkTape, dlogits: Any = None, dstate: Any = None) -> Array:
        """Gradient (T, B, E) of the embedded tokens, (T, B, V) of one-hot vectors without an embedding.

        Examples
        --------
        >>> net = Network(Spec(vocabulary_size=11, embedding_size=4, hidden_size=5))
        >>> logits, state, tape = net.forward(np.zeros((7, 3), int), inputs=True)
        >>> net.input_gradient(tape, np.ones_like(logits)).shape
        (7, 3, 4)
        """
        dx = self._backward(tape, self._dlogits(tape, dlogits, dstate), dstate)[0]
        if dx is None:
            raise UnrolledError("the tape has no inputs to give a gradient of; run forward(..., inputs=True)")
        return dx

    def _dlogits(self, tape: Any, dlogits: Any, dstate: Any) -> Array:
        """Check a tape and the gradients that are handed in with it."""
        check_tape(tape, NetworkTape, self._signature())
        if dlogits is None and dstate is None:
            raise UnrolledError(
                "dlogits and dstate are None; expected the gradient of the logits, of the state, or of both"
            )
        expected = (*tape.tokens.shape, self.spec.vocabulary_size)
        if dlogits is None:
            return np.zeros(expected, self.recurrent.dtype)
        array = self.recurrent._cast(dlogits, "dlogits")
        if array.shape != expected:
            raise UnrolledError(f"dlogits has shape {array.shape}; expected (T, B, V) = {expected}")
        return array

    def _backward(
        self, tape: NetworkTape, dlogits: Array, dstate: Any = None, *, penalties: bool = False
    ) -> tuple[Array | None, Any, dict[str, Array]]:
        """Gradients of the embedded tokens (None where they are not known), of the initial state, and of parameters."""
        params = tape.params
        dy, dweight, dbias = self._backend.linear_backward(self._decoder(params), tape.output, dlogits)
        if penalties and self.spec.ar:
            dy = dy + self.spec.ar * losses.activation_penalty(tape.output)[1]
        dy = self._drop(dy, tape.masks)
        if penalties and self.spec.tar:
            dy = dy + self.spec.tar * losses.temporal_penalty(tape.raw, tape.starts)[1]
        dx, dstate, recurrent = self._recurrent._backward(tape.recurrent, dy, dstate)
        grads = {f"recurrent.{name}": g for name, g in recurrent.items()}
        grads |= {"decoder.weight": dweight, "decoder.bias": dbias}
        if tape.folded:
            name = "recurrent.weight_ih_l0"
            weight = params["embedding.weight"]
            dfirst, grads["embedding.weight"], _ = self._backend.linear_backward(weight, params[name], grads[name])
            grads[name] = np.ascontiguousarray(dfirst)
        elif dx is not None and self.spec.embedding_size:
            dx = self._drop_symbols(dx, tape.tokens, tape.masks)
            grads["embedding.weight"] = self._backend.embed_backward(tape.tokens, dx, self.spec.vocabulary_size)
        if self.spec.tied:
            grads["embedding.weight"] = grads["embedding.weight"] + dweight
        return dx, dstate, {name: grads[name] for name in self._params}

    def loss(
        self, x: Any, y: Any, state: Any = None, *, masks: Masks | None = None, starts: Any = None
    ) -> tuple[float, Any]:
        """Mean cross-entropy in nats of targets y (T, B) after x (T, B), and the final state."""
        if masks is None:
            logits, new = self(x, state, starts=starts)
        else:
            logits, new, _ = self._forward(x, state, masks, starts)
        return self._backend.cross_entropy(logits, self._targets(y, logits), gradient=False, overwrite=True)[0], new

    def objective(
        self, x: Any, y: Any, state: Any = None, *, masks: Masks | None = None, starts: Any = None
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
        logits, new, tape = self._forward(x, state, masks, starts)
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
        self, x: Any, y: Any, state: Any = None, *, masks: Masks | None = None, starts: Any = None
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
        self._warn_if_idle(masks)
        logits, new, tape = self._forward(x, state, masks, starts)
        loss, dlogits = self._backend.cross_entropy(
            logits, self._targets(y, logits), overwrite=True, smoothing=self.spec.label_smoothing
        )
        _, _, grads = self._backward(tape, dlogits, penalties=True)
        return loss, grads, new

    def drawer(self, state: Any, length: int) -> Any:
        """Return what draws about `length` tokens from this state (L, 1, H), many a call; None without the engine.

        The state None is the network's own initial one.
        The engine's knows plain stacks: no mixtures of zoneout, no projection, no residual layers, one width.
        """
        spec, length = self.spec, check_size("length", length, least=0)
        states, cast = self._recurrent.states, self._recurrent._cast
        state = self.initial_state(1) if state is None else states.take(state, 1, cast)
        if spec.zoneout or spec.zoneout_cell or spec.proj_size or spec.residual or len(set(spec.widths)) > 1:
            return None
        return backends.choose(self.recurrent.backend).sampler(
            self.recurrent.cell,
            self.recurrent.layer_params(),
            self.params.get("embedding.weight"),
            self._decoder(self._params),
            self.params["decoder.bias"],
            state,
            length,
        )

    def step(self, tokens: Any, state: Any = None) -> tuple[Array, Any]:
        """One step of inference: tokens (B,) -> logits (B, V) and the new state."""
        logits, new = self(as_array("tokens", tokens)[None], state)
        return logits[0], new

    def __repr__(self) -> str:
        spec, size = self.spec, self.spec.vocabulary_size
        return (
            f"Network({spec.cell!r}, vocabulary_size={size}, embedding_size={spec.embedding_size}, "
            f"hidden_size={spec.hidden_size}, num_layers={spec.num_layers}, {self.parameter_count:,} parameters, "
            f"{self.recurrent.backend})"
        )
