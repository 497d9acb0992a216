"""Drawing text from a network, one symbol at a time; of many texts one of each at a time."""

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

ROWS = 64
"""Streams of which the engine reads a token each at a time; the others wait until one has ended."""

MANY = 32
"""Streams from which steps of the network are worth it where the engine's sampler does not know it."""

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


def streams(
    network: Network,
    state: Any,
    tokens: Array,
    length: int,
    temperature: float,
    rngs: Sequence[np.random.Generator],
    *,
    end: int | None = None,
) -> Iterator[list[int]]:
    """Yield the text of each of B streams, at most `length` tokens, to a document's end; all from one state.

    Each draws what it would draw alone, by numbers of its own. The engine reads a token of each of many rows at a time;
    a row's bits depend on no other row there. In NumPy they do, since its products of one row and of many differ, so
    the reference draws one stream after another however many there are.

    Parameters
    ----------
    network : Network
    state : State of (L, 1, H) arrays
    tokens : (B,) integers
        What each stream is fed first.
    length, temperature, end
        As in `tokens`.
    rngs : B numpy.random.Generator
        One a stream.

    Examples
    --------
    >>> from unrolled.nn.network import Network
    >>> from unrolled.nn.spec import Spec
    >>> net = Network(Spec(vocabulary_size=4))
    >>> rngs = [np.random.default_rng(n) for n in range(3)]
    >>> [len(text) for text in streams(net, net.zero_state(1), np.array([1, 1, 2]), 9, 1.0, rngs)]
    [9, 9, 9]
    """
    check_a("network", network, Network, "a Network")
    how, length = _How(check_temperature(temperature), _end(network, end)), check_size("length", length, least=0)
    state, first = _checked(network, state), as_tokens(tokens, "tokens")
    check_indices("tokens", first, network.spec.vocabulary_size)
    numbers = [_Numbers(check_rng(rng)) for rng in rngs]
    if len(numbers) != len(first):
        raise UnrolledError(f"there are {len(numbers)} rngs and {len(first)} tokens; each stream has one of both")
    rows = _rows_of(network, state, length, len(first))
    if rows is not None and length:
        return iter(_together(rows, state, first, numbers, length, how))
    return _one_by_one(TokenSampler(network, state, length), state, first, numbers, length, how)


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


def _one_by_one(
    sampler: TokenSampler, state: Any, tokens: Array, numbers: Sequence[_Numbers], length: int, how: _How
) -> Iterator[list[int]]:
    """As `streams`, each alone, through weights that are packed once."""
    for token, own in zip(tokens.tolist(), numbers, strict=True):
        sampler.start(state)
        yield list(_to_the_end(sampler, token, own, length, how))


def _rows_of(network: Network, state: Any, length: int, count: int) -> Any:
    """Return what samples a token each of several rows at a time; None where one after another is as good."""
    if count < 2 or network.recurrent.backend != "cpu":
        return None
    sampler = network.sampler(state, length, min(count, ROWS))
    if sampler is None and count >= MANY and not network.recurrent.cell.sees_x:
        return _Steps(network, state, length, min(count, ROWS))
    return sampler


def _together(
    sampler: Any, state: Any, tokens: Array, numbers: Sequence[_Numbers], length: int, how: _How
) -> list[list[int]]:
    """As `streams`, each in a row of the sampler, where the next begins when it has ended."""
    texts: list[list[int]] = [[] for _ in numbers]
    going, waiting = dict[int, int](), iter(range(len(texts)))  # which stream a row has
    fed = np.zeros(sampler.rows, int)
    while True:
        for row in range(sampler.rows):
            if row not in going and (n := next(waiting, None)) is not None:
                sampler.start(state, row)
                going[row], fed[row] = n, tokens[n]
        if not going:
            return texts
        left = min(length - len(texts[n]) for n in going.values())
        u = np.full((sampler.rows, min(left, CHUNK if how.end is None else AT_ONCE)), -1.0)  # below 0: nothing is drawn
        for row, n in going.items():
            u[row] = numbers[n].exactly(u.shape[1])
        drawn = sampler.sample_rows(fed, u, how.temperature).tolist()
        for row, n in list(going.items()):
            text = drawn[row][: drawn[row].index(how.end) + 1] if how.end in drawn[row] else drawn[row]
            texts[n] += text
            numbers[n].use(len(text))
            fed[row] = text[-1]
            if text[-1] == how.end or len(texts[n]) == length:
                del going[row]


class _Steps:
    """As the engine's sampler, by steps of the network: for what that does not know."""

    def __init__(self, network: Network, state: Any, length: int, rows: int) -> None:
        self.rows, self._read, self._part = rows, network.reader(length), network.recurrent.states.part
        self._states = _rows(self._part(state), np.zeros(rows, int))

    def start(self, state: Any, row: int) -> None:
        """Let a row draw from this state (L, 1, H) from now on."""
        own = np.arange(self.rows)[:, None] == row
        pairs = zip(self._states, self._part(state), strict=True)
        self._states = [type(s)(*(np.where(own, n, f) for f, n in zip(s, new, strict=True))) for s, new in pairs]

    def sample_rows(self, tokens: Array, u: Array, temperature: float) -> Array:
        """Sample a token of each row for each of its numbers u (B, N), none where that is below 0."""
        drawn, live = np.zeros(u.shape, int), u[:, 0] >= 0
        for n in range(u.shape[1]):
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
                logits, self._states = self._read(tokens, self._states)
            drawn[live, n] = _sample_rows(logits[live], temperature, u[live, n])
            tokens = drawn[:, n]
        return drawn


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
