"""Drawing text from a network, one symbol at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import (
    NOT_FINITE,
    Array,
    as_array,
    as_floats,
    check_a,
    check_fraction,
    check_indices,
    check_rng,
    check_size,
)
from ..data.batches import as_tokens
from ..drawing import check_temperature
from ..errors import UnrolledError
from ..nn.network import Network

CHUNK = 32
"""Tokens drawn a call: an interruption, or a stream that is shown as it is drawn, waits for no more than these."""

AT_ONCE = 8
"""Tokens drawn a call where a document may end at any of them, and what comes after it is drawn in vain."""

IN_CACHE = 1 << 15
"""Probabilities that are worked out at once, of whole rows."""


def sample_token(logits: Array, temperature: float, u: float) -> int:
    """Sample a token from logits (V,): the first whose cumulated probability exceeds u in [0, 1).

    Probabilities are softmax(logits / temperature); temperature 0 is greedy (u is not used). A logit of -inf is a
    probability of 0; one of inf or NaN is refused.

    Examples
    --------
    >>> sample_token(np.log([0.25, 0.75]), temperature=1.0, u=0.3)
    1
    >>> sample_token(np.log([0.25, 0.75]), temperature=1.0, u=0.2)
    0
    """
    logits, temperature, u = as_floats("logits", logits, 1), check_temperature(temperature), check_fraction("u", u)
    if logits.ndim != 1 or not logits.size or logits.dtype.kind == "c":
        raise UnrolledError(f"logits are {logits.dtype} of shape {logits.shape}; expected real ones (V,), V >= 1")
    return int(_sample_rows(logits[None], temperature, np.array([u]))[0])


def _sample_rows(logits: Array, temperature: float, u: Array) -> Array:
    """Sample a token from each row of logits (B, V) with its own number of u (B,); a row's is its own alone."""
    peak, drawn = logits.max(axis=1, keepdims=True), np.empty(len(logits), int)
    if not np.isfinite(peak).all():  # infinite, or not a number
        raise UnrolledError(NOT_FINITE)
    if temperature == 0:
        return logits.argmax(axis=1, out=drawn)
    size = max(1, IN_CACHE // logits.shape[1])
    for rows in (slice(first, first + size) for first in range(0, len(logits), size)):
        weights = (logits[rows] - peak[rows]).astype(np.float64)
        with np.errstate(over="ignore"):  # at the smallest temperatures: exp(-inf) is 0, as it should be
            np.exp(np.divide(weights, temperature, out=weights), out=weights)
        cumulated = weights.cumsum(axis=1, out=weights)
        limit = u[rows, None] * cumulated[:, -1:]
        cumulated[:, -1] = np.inf  # the last is drawn where none exceeds the limit, for rounding
        (cumulated > limit).argmax(axis=1, out=drawn[rows])
    return drawn


def primed(network: Network, prompt: Array, end: int | None = None) -> tuple[Any, int]:
    """Return the state (L, 1, H) that the last token of a prompt (N,), N >= 1, is to be read in, and that token."""
    tokens = as_tokens(prompt, "prompt")
    if not len(tokens):
        raise UnrolledError("the prompt has no token; a network needs at least one to start from")
    check_indices("prompt", tokens, network.spec.vocabulary_size)
    token, before = int(tokens[-1]), tokens[:-1, None]
    if len(tokens) == 1 or token == end:
        return network.initial_state(1), token
    with np.errstate(over="ignore", invalid="ignore"):
        return network(before, starts=None if end is None else before == end)[1], token


def tokens(
    network: Network,
    prompt: Array,
    length: int,
    temperature: float,
    rng: np.random.Generator,
    *,
    end: int | None = None,
) -> Iterator[int]:
    """Prime the state with a prompt, and yield `length` tokens that continue it, each fed back.

    Parameters
    ----------
    network : Network
    prompt : (N,) integers, N >= 1
        Primes the state.
    length : int
        How many tokens are drawn.
    temperature : float
        0 is greedy; 1 the model's own distribution; higher is more varied.
    rng : numpy.random.Generator
        One uniform number is drawn a token.
    end : int, optional
        The token that ends a document, where the network learnt documents apart from each other: the next one begins
        with it, in the initial state.

    Examples
    --------
    >>> from unrolled.nn.network import Network
    >>> from unrolled.nn.spec import Spec
    >>> net = Network(Spec(vocabulary_size=4))
    >>> len(list(tokens(net, np.array([0]), 9, 1.0, np.random.default_rng(1), end=0)))
    9
    """
    check_a("network", network, Network, "a Network")
    how, numbers = _How(check_temperature(temperature), _end(network, end)), _Numbers(check_rng(rng))
    length = check_size("length", length, least=0)
    state, token = primed(network, prompt, how.end)
    return _on_and_on(TokenSampler(network, state, length), token, numbers, length, how)


class _How(NamedTuple):
    """How all tokens of a text are drawn."""

    temperature: float
    end: int | None


def _end(network: Network, end: Any) -> int | None:
    """Return the token that ends a document, or say what is wrong with it."""
    return None if end is None else check_size("end", end, least=0, most=network.spec.vocabulary_size - 1)


class _Numbers:
    """Random numbers of a text; what is drawn and not used stays for the tokens to come."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.drawn = rng, np.empty(0)

    def ahead(self, length: int) -> Array:
        """Return numbers for at most `length` tokens to come, at least one."""
        if not len(self.drawn):
            self.drawn = self.rng.random(min(CHUNK, length))
        return self.drawn[:length]

    def exactly(self, count: int) -> Array:
        """Return so many numbers for tokens to come."""
        if len(self.drawn) < count:
            self.drawn = np.append(self.drawn, self.rng.random(count - len(self.drawn)))
        return self.drawn[:count]

    def use(self, count: int = 1) -> None:
        """Go on behind the first."""
        self.drawn = self.drawn[count:]


def _on_and_on(sampler: TokenSampler, token: int, numbers: _Numbers, length: int, how: _How) -> Iterator[int]:
    """Yield `length` tokens, and another document where one ends."""
    while length:
        for drawn in _to_the_end(sampler, token, numbers, length, how):
            length -= 1
            yield drawn
            token = drawn
        sampler.start(sampler.network.initial_state(1))


def _to_the_end(sampler: TokenSampler, token: int, numbers: _Numbers, length: int, how: _How) -> Iterator[int]:
    """Yield at most `length` tokens, to a document's end."""
    while length:
        now = numbers.ahead(length if how.end is None else min(AT_ONCE, length))
        for drawn in sampler._sample(token, now, how.temperature):
            numbers.use()
            length -= 1
            yield drawn
            if drawn == how.end:
                return
            token = drawn


def _rows(states: Sequence[Any], index: Array) -> list[Any]:
    """Return these rows of each layer's State of (B, H) arrays."""
    return [type(state)(*(field[index] for field in state)) for state in states]


class TokenSampler:
    """Feeds a network its own tokens: the engine many a call, where it has the kernels; else a step at a time.

    The network's weights are those of the moment when it is made.

    Parameters
    ----------
    network : Network
    state : State of (L, 1, H) arrays, or None
    length : int
        How many tokens are likely to be sampled.

    Examples
    --------
    >>> from unrolled.nn.network import Network
    >>> from unrolled.nn.spec import Spec
    >>> net = Network(Spec(vocabulary_size=4, hidden_size=5))
    >>> state = net.zero_state(1)
    >>> greedy = TokenSampler(net, state, 3)
    >>> drawn = greedy.sample(1, np.zeros(3), 0)
    >>> greedy.start(state)
    >>> greedy.sample(1, np.zeros(3), 0) == drawn
    True
    """

    def __init__(self, network: Network, state: Any, length: int) -> None:
        self.network, length = check_a("network", network, Network, "a Network"), check_size("length", length, least=0)
        self._state = _checked(network, state)
        self._engine = network.sampler(self._state, length)

    def start(self, state: Any) -> None:
        """Draw from this state (L, 1, H) from now on."""
        self._state = _checked(self.network, state)
        if self._engine is not None:
            self._engine.start(self._state)

    def sample(self, token: int, u: Any, temperature: float) -> list[int]:
        """Feed a token, and sample one for each number in u (N,), each of them fed; where to go on from is kept.

        All of them are drawn before the first is returned, on both backends.

        Parameters
        ----------
        token : int
        u : (N,) numbers from 0 to below 1
        temperature : float
        """
        numbers, temperature = as_array("u", u), check_temperature(temperature)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or not ((numbers >= 0) & (numbers < 1)).all():
            raise UnrolledError("u must be an array (N,) of numbers from 0 to below 1, such as rng.random(N)")
        token, size = check_size("token", token, least=0), self.network.spec.vocabulary_size
        if token >= size:
            raise UnrolledError(f"token is {token}; this network knows 0 to {size - 1}")
        return self._sample(token, numbers, temperature)

    def _sample(self, token: int, numbers: Array, temperature: float) -> list[int]:
        """As `sample`, of what was looked at before."""
        if self._engine is not None:
            drawn: list[int] = self._engine.sample(token, np.ascontiguousarray(numbers, np.float64), temperature)
            return drawn
        drawn = []
        for number in numbers:
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite `sample_token` refuses
                logits, self._state = self.network.step(np.array([token]), self._state)
            drawn.append(token := sample_token(logits[0], temperature, number))
        return drawn


def _checked(network: Network, state: Any) -> Any:
    """Return a state (L, 1, H) as the network passes it on after no step at all, or say what is wrong with it."""
    return network(np.empty((0, 1), int), state)[1]
