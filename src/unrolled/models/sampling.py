"""Drawing text from a network, one symbol at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
    is_number,
)
from ..data.batches import as_tokens
from ..errors import UnrolledError, brief
from ..nn.network import Network

CHUNK = 32
"""Tokens drawn a call: an interruption, or a stream that is shown as it is drawn, waits for no more than these."""

AT_ONCE = 8
"""Tokens drawn a call where a document may end at any of them, and what comes after it is drawn in vain."""


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
    peak = logits.max()
    if not np.isfinite(peak):  # infinite, or not a number
        raise UnrolledError(NOT_FINITE)
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):  # at the smallest temperatures: exp(-inf) is 0, as it should be
        shifted = (logits - peak).astype(np.float64) / temperature
    cumulated = np.exp(shifted).cumsum()
    return min(int(np.searchsorted(cumulated, u * cumulated[-1], side="right")), len(logits) - 1)


def check_temperature(value: Any) -> float:
    """Return a temperature as a float, or say what is wrong with it."""
    if not is_number(value) or float(value) < 0:
        raise UnrolledError(f"temperature is {brief(value)}; it must be 0 (greedy) or a positive number")
    return float(value)


class Sampler:
    """Draws texts that continue a prompt, one after another; the network's weights are packed once.

    Parameters
    ----------
    network : Network
    prompt : (N,) integers, N >= 1
        Primes the state.
    length : int
        How many tokens are likely to be drawn.
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
    >>> sampler = Sampler(Network(Spec(vocabulary_size=4)), np.array([0]), 9, 1.0, np.random.default_rng(1), end=0)
    >>> first, second = list(sampler.text(9)), list(sampler.text(9))
    """

    def __init__(
        self,
        network: Network,
        prompt: Array,
        length: int,
        temperature: float,
        rng: np.random.Generator,
        end: int | None = None,
    ) -> None:
        self.network = check_a("network", network, Network, "a Network")
        self.temperature = check_temperature(temperature)
        self.rng = check_rng(rng)
        self.end = None if end is None else check_size("end", end, least=0, most=network.spec.vocabulary_size - 1)
        self.state, self.token = primed(network, prompt, self.end)
        self.tokens = TokenSampler(network, self.state, length)
        self.numbers = np.empty(0)

    def text(self, length: int) -> Iterator[int]:
        """Yield at most `length` tokens that continue the prompt, to a document's end."""
        return self._to_the_end(self.state, self.token, check_size("length", length, least=0))

    def texts(self, length: int) -> Iterator[int]:
        """Yield `length` tokens that continue the prompt, and another document where one ends."""
        return self._on_and_on(check_size("length", length, least=0))

    def _on_and_on(self, length: int) -> Iterator[int]:
        state, token = self.state, self.token
        while length:
            for drawn in self._to_the_end(state, token, length):
                length -= 1
                yield drawn
                token = drawn
            state = self.network.initial_state(1)

    def _to_the_end(self, state: Any, token: int, length: int) -> Iterator[int]:
        """Yield at most `length` tokens, to a document's end, from a state and the token that it is fed."""
        self.tokens.start(state)
        while length:
            if not len(self.numbers):
                self.numbers = self.rng.random(min(CHUNK, length))
            now = self.numbers[: length if self.end is None else min(AT_ONCE, length)]
            for drawn in self.tokens._sample(token, now, self.temperature):
                self.numbers, length = self.numbers[1:], length - 1
                yield drawn
                if drawn == self.end:
                    return
                token = drawn


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
    """Prime the state with the prompt (N,), N >= 1, then yield `length` tokens, each fed back; as `Sampler` has it."""
    return Sampler(network, prompt, length, temperature, rng, end).texts(length)


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
