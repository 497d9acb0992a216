"""A whole network from a `Spec`: embedding, recurrent stack, head; forward, step and gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..backends.base import PAYS
from ..checks import Array, Kept, array_dtype, as_array, as_kind, check_size, read_only
from ..errors import UnrolledError, UnrolledWarning
from ..reference import losses
from . import embedding
from .heads import take_targets
from .inputs import take_tokens
from .masks import Masks, check_outer, drop_outer
from .network_weights import TABLE
from .passes import run
from .reading import Read, ReadingNetwork
from .stack import DROPPING
from .tape import StackTape, check_tape

BEFORE_RATES = ("embedding_dropout", "word_dropout", "input_dropout")


@dataclass(frozen=True)
class NetworkTape:
    """The tape of a network's forward pass."""

    params: Mapping[str, Array]
    """The parameters of that pass."""
    read: Read
    """What the stack read."""
    recurrent: StackTape
    raw: Array
    """Output of the stack (T, B, H), before dropout."""
    output: Array
    """The same after dropout (T, B, H)."""
    rows: Array
    """Rows of it that the head shows, the input of the decoder: (T, B, H) or (B, H)."""
    masks: Masks | None
    starts: Array | None = None
    """Steps at which documents began (T, B)."""
    lengths: Array | None = None
    """Steps of each row (B,)."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """The network's description, precision and backend."""


class Network(ReadingNetwork):
    """Tokens -> embedding -> recurrent stack -> decoder -> logits.

    Parameters
    ----------
    spec : Spec
        Without an embedding, V is also the number of features where x is (T, B, V) numbers instead of tokens.
    backend : str
        As in `Recurrent`.
    rng : numpy.random.Generator or int, optional
        Where the initial weights come from, or its seed; by default as in `Recurrent`.
    head : Head
        Which rows are shown, how many outputs each has, and what is lost on them: the next symbol, if nothing is said.

    Attributes
    ----------
    params : dict
        `embedding.weight` (V, E), unless E is 0; `recurrent.*` as PyTorch names them; `decoder.weight` (V, H), unless
        it is tied to the embedding's; `decoder.bias` (V,). What is assigned is copied in; the stack's own,
        `recurrent.params`, are the same arrays.

    Examples
    --------
    >>> import unrolled as ur
    >>> net = ur.Network(ur.Spec(vocabulary_size=11, embedding_size=4, hidden_size=5, num_layers=1))
    >>> logits, state, tape = net.forward(np.zeros((7, 3), int))
    >>> logits.shape
    (7, 3, 11)
    """

    def _loss(self, outputs: Array, y: Any, weights: Any, lengths: Array | None, **how: Any) -> Any:
        """The head's loss, its gradient, and that of the head's parameters where it has some."""
        targets, weights = take_targets(y, self.head, outputs, weights, lengths)
        return self.head.loss(self._backend, outputs, targets, weights, params=self._params, **how)

    def _show(self, y: Array, lengths: Array | None) -> Array:
        """The rows that the head shows."""
        return self.head.select(y, lengths, self._params, self._recurrent.directions)

    def __call__(self, tokens: Any, state: Any = None, *, starts: Any = None, lengths: Any = None) -> tuple[Array, Any]:
        """Inference: tokens (T, B) -> logits (T, B, V) and the final state; no dropout, no tape."""
        outputs, new, _ = self._infer(tokens, state, starts, lengths)
        return outputs, new

    def logits(self, tokens: Any, state: Any = None, *, starts: Any = None, lengths: Any = None) -> tuple[Array, Any]:
        """As `__call__`; of an adaptive softmax, log-probabilities of all symbols, instead of the head's outputs.

        Examples
        --------
        >>> import unrolled as ur
        >>> net = ur.Network(ur.Spec(vocabulary_size=32, hidden_size=8, softmax="adaptive"))
        >>> net(np.zeros((7, 3), int))[0].shape, net.logits(np.zeros((7, 3), int))[0].shape
        ((7, 3, 7), (7, 3, 32))
        """
        outputs, new = self(tokens, state, starts=starts, lengths=lengths)
        return self.head.scores(outputs, self._params), new

    def _infer(self, tokens: Any, state: Any, starts: Any, lengths: Any) -> tuple[Array, Any, Array | None]:
        """As `__call__`; with the lengths, checked."""
        tokens, lengths = take_tokens(tokens, lengths, self.spec)
        stack, read = self._read(tokens, record=False)
        y, new = stack(read.x, state, lengths, starts=starts)
        return self._decode(self._show(y, lengths)), new, lengths

    def _decode(self, rows: Array) -> Array:
        return self._backend.linear(self._decoder(self._params), self._params["decoder.bias"], rows)

    def forward(
        self,
        tokens: Any,
        state: Any = None,
        *,
        masks: Masks | None = None,
        starts: Any = None,
        inputs: bool = False,
        lengths: Any = None,
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
        lengths : (B,) integers, optional
            Steps of each row; what stands behind them is padding, as in `Recurrent.forward`.

        Returns
        -------
        logits : (T, B, V), or the head's outputs (T, B, K) or (B, K)
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
        return own._forward(tokens, state, masks, starts, lengths, own=True, fold=not inputs)

    def _forward(
        self, tokens: Any, state: Any, masks: Any, starts: Any, lengths: Any, *, own: bool = False, fold: bool = True
    ) -> tuple[Array, Any, NetworkTape]:
        """As `forward`; to `own` is to share no memory with what the caller holds."""
        tokens, lengths = take_tokens(tokens, lengths, self.spec)
        rates = self._outer_rates(*tokens.shape[:2])
        masks, inner = check_outer(masks, rates, own=own)
        starts = None if starts is None else as_array("starts", starts)
        starts = read_only(starts.copy()) if own and starts is not None else starts
        stack, read = self._read(tokens, masks, fold=fold)
        y, new, scans = stack._run(read.x, state, lengths, inner, starts=starts, record=True)
        output = drop_outer(self._backend, y, masks, rates)
        rows = self._show(output, lengths)
        made_by = Kept(self._signature() if own else {})
        y, output, rows = read_only(y), read_only(output), read_only(rows)
        tape = NetworkTape(self._params, read, scans, y, output, rows, masks, starts, lengths, made_by)
        return self._decode(rows), new, tape

    def _signature(self) -> dict[str, Any]:
        """Return what a tape's network and the one that it is handed back to must have in common."""
        own = {"dtype": self.recurrent.dtype, "backend": self.recurrent.backend, "head": self.head.title}
        return asdict(self.spec) | own

    def _warn_if_idle(self, masks: Any) -> None:
        """Warn once that a rate of dropout changes nothing."""
        rates = [name for name in (*DROPPING, *BEFORE_RATES) if getattr(self.spec, name)]
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
        >>> import unrolled as ur
        >>> net = ur.Network(ur.Spec(vocabulary_size=11, embedding_size=4, hidden_size=5))
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
        expected = (*tape.rows.shape[:-1], len(tape.params["decoder.bias"]))
        if dlogits is None:
            return np.zeros(expected, array_dtype(self.recurrent.dtype))
        array = self.recurrent._cast(dlogits, "dlogits")
        if array.shape != expected:
            letters = "T, B, V" if self.head.stepwise else "B, K"
            raise UnrolledError(f"dlogits has shape {array.shape}; expected ({letters}) = {expected}")
        return array

    def _backward(
        self, tape: NetworkTape, dlogits: Array, dstate: Any = None, *, penalties: bool = False
    ) -> tuple[Array | None, Any, dict[str, Array]]:
        """Gradients of the embedded tokens (None where they are not known), of the initial state, and of parameters."""
        params, spec = tape.params, self.spec
        drows, dweight, dbias = self._backend.linear_backward(self._decoder(params), tape.rows, dlogits)
        directions = self._recurrent.directions
        dy, own = self.head.select_backward(drows, tape.output, tape.lengths, params, directions)
        if penalties and spec.ar:
            dy = dy + spec.ar * losses.activation_penalty(tape.output)[1]
        dy = drop_outer(self._backend, dy, tape.masks, self._outer_rates(*dy.shape[:2]))
        if penalties and spec.tar:
            dy = dy + spec.tar * losses.temporal_penalty(tape.raw, tape.starts)[1]
        dx, dstate, recurrent = self._recurrent._backward(tape.recurrent, dy, dstate)
        grads = {f"recurrent.{name}": g for name, g in recurrent.items()}
        grads |= {"decoder.weight": dweight, "decoder.bias": dbias, **own}
        dx = self._read_backward(params, tape.read, tape.masks, dx, grads)
        if spec.tied:
            grads[TABLE] = grads[TABLE] + dweight
        grads |= {name: np.zeros_like(p) for name, p in params.items() if name not in grads}  # of the head's loss
        return dx, dstate, {name: grads[name] for name in self._params}

    def loss(
        self,
        x: Any,
        y: Any,
        state: Any = None,
        *,
        masks: Masks | None = None,
        starts: Any = None,
        lengths: Any = None,
        weights: Any = None,
    ) -> tuple[float, Any]:
        """Mean loss, cross-entropy in nats if the head has no other, of targets y after x, and the final state.

        As `loss_and_gradients`, without gradients.
        """
        if masks is None:
            outputs, new, lengths = self._infer(x, state, starts, lengths)
        else:
            outputs, new, tape = self._forward(x, state, masks, starts, lengths)
            lengths = tape.lengths
        return self._loss(outputs, y, weights, lengths, gradient=False, overwrite=True)[0], new

    def objective(
        self,
        x: Any,
        y: Any,
        state: Any = None,
        *,
        masks: Masks | None = None,
        starts: Any = None,
        lengths: Any = None,
        weights: Any = None,
    ) -> tuple[Any, Any]:
        """Return what training minimises, and the final state.

        It is the loss + label_smoothing (mean over targets of z_y - mean(z)) + ar mean(output²) +
        tar mean((raw[t + 1] - raw[t])²): logits z, the last layer's output after dropout and, raw, before it.

        Examples
        --------
        >>> import unrolled as ur
        >>> net = ur.Network(ur.Spec(vocabulary_size=11, hidden_size=5))
        >>> x, y = np.zeros((7, 3), int), np.ones((7, 3), int)
        >>> net.objective(x, y)[0] == net.loss(x, y)[0]  # without penalties
        True
        """
        logits, new, tape = self._forward(x, state, masks, starts, lengths)
        spec, (targets, weights) = self.spec, take_targets(y, self.head, logits, weights, tape.lengths)
        value = self.head.loss(self._backend, logits, targets, weights, params=self._params, gradient=False)[0]
        if spec.label_smoothing:
            value += spec.label_smoothing * losses.confidence(logits, targets, weights)
        if spec.ar:
            value += spec.ar * losses.activation_penalty(tape.output)[0]
        if spec.tar:
            value += spec.tar * losses.temporal_penalty(tape.raw, tape.starts)[0]
        return value, new

    def loss_and_gradients(
        self,
        x: Any,
        y: Any,
        state: Any = None,
        *,
        masks: Masks | None = None,
        starts: Any = None,
        lengths: Any = None,
        weights: Any = None,
    ) -> tuple[float, dict[str, Array], Any]:
        """One truncated back-propagation: loss in nats, gradients keyed as `params`, and the state to pass on.

        The gradients are those of `objective`; the loss is the head's, whatever the penalties.

        Parameters
        ----------
        x : (T, B) integers, or (T, B, V) numbers where there is no embedding
        y : a target for each row that the head shows: (T, B) or (B,) classes, or (B, K) or (B,) numbers
        state, masks, starts, lengths
            As in `forward`. Steps behind a row's length count nothing.
        weights : as y's rows, (T, B) or (B,), optional
            What each target counts, 0 or more; one of weight 0 may be anything.

        Examples
        --------
        >>> import unrolled as ur
        >>> net = ur.Network(ur.Spec(vocabulary_size=11, hidden_size=5))
        >>> loss, grads, state = net.loss_and_gradients(np.zeros((7, 3), int), np.ones((7, 3), int))
        >>> sorted(grads) == sorted(net.params)
        True
        """
        self._warn_if_idle(masks)
        logits, new, tape = self._forward(x, state, masks, starts, lengths)
        loss, dlogits, *own = self._loss(
            logits, y, weights, tape.lengths, overwrite=True, smoothing=self.spec.label_smoothing
        )
        _, _, grads = self._backward(tape, dlogits, penalties=True)
        for name, g in (own[0] if own else {}).items():
            grads[name] = grads[name] + g
        return loss, grads, new

    def predict(self, x: Any, lengths: Any = None) -> Array:
        """Return what the head makes of its outputs: classes of steps (T, B) or of rows (B,), numbers, a CRF's tags.

        Examples
        --------
        >>> import unrolled as ur
        >>> from unrolled.nn import heads
        >>> net = ur.Network(ur.Spec(vocabulary_size=11, hidden_size=5), head=heads.tags(4, crf=True))
        >>> net.predict(np.zeros((7, 3), int), lengths=[7, 2, 4]).shape
        (7, 3)
        """
        outputs, _, lengths = self._infer(x, None, None, lengths)
        return self.head.predict(outputs, lengths, self._params)

    def step(self, tokens: Any, state: Any = None) -> tuple[Array, Any]:
        """One step of inference: tokens (B,) -> logits (B, V) and the new state."""
        self._recurrent.check_step()
        logits, new = self.logits(as_array("tokens", tokens)[None], state)
        return logits[0], new

    def reader(self, length: int) -> Callable[[Array, Sequence[Any]], tuple[Array, list[Any]]]:
        """Return what reads a token of each of B rows: tokens (B,), States -> logits (B, V), new States, one a layer.

        The weights are those of this moment. Each row is likely to read `length` tokens: that, and not how many rows
        there are, says whether the embedding is folded into the first layer, as it is in the engine's `sampler`; so
        on the engine a row's bits don't depend on other rows.

        Examples
        --------
        >>> import unrolled as ur
        >>> net = ur.Network(ur.Spec(vocabulary_size=11, embedding_size=4, hidden_size=5))
        >>> states = net.recurrent.states.part(net.zero_state(3))
        >>> logits, states = net.reader(100)(np.array([1, 2, 3]), states)
        >>> logits.shape
        (3, 11)
        """
        self._recurrent.check_step()
        length = check_size("length", length, least=0)
        own = self._on(self._params.kept())
        weight, stack, symbols = own._params.get(TABLE), own._recurrent, self.spec.vocabulary_size
        pays = self._plain and stack.backend == "cpu" and symbols <= PAYS * length
        folds = weight is not None and pays and not stack.cell.sees_x
        if weight is not None and folds:
            stack = embedding.folded(own._backend, weight, stack)

        weights = stack.layer_params()

        def read(tokens: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
            x = tokens[None] if folds else own._read(tokens[None], fold=weight is None, record=False)[1].x
            y, new, _ = run(stack, own._backend, weights, x, states, None, None, record=False)
            return own.head.scores(own._decode(own._show(y, None))[0], own._params), new

        return read
