"""Drawing many texts at once from a network, each from random numbers of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..checks import Array, check_a, check_indices, check_rng, check_size
from ..data.batches import as_tokens
from ..drawing import check_temperature
from ..errors import UnrolledError
from ..nn.network import Network
from .sampling import (
    AT_ONCE,
    CHUNK,
    TokenSampler,
    _checked,
    _end,
    _How,
    _Numbers,
    _rows,
    _sample_rows,
    _to_the_end,
)

ROWS = 64
"""Streams of which the engine reads a token each at a time; the others wait until one has ended."""

MANY = 32
"""Streams from which steps of the network are worth it where the engine's sampler does not know it."""


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
        As in `sampling.tokens`.
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
