"""Drawing text from a network, one symbol at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np

from .checks import Array, check_size
from .errors import UnrolledError
from .network import Network

CHUNK = 32
"""Tokens drawn a call: an interruption, or a stream that is shown as it is drawn, waits for no more than these."""


def draw(logits: Array, temperature: float, u: float) -> int:
    """Draw a token from logits (V,): the first whose cumulated probability exceeds u in [0, 1).

    Probabilities are softmax(logits / temperature); temperature 0 is greedy (u is not used).

    Examples
    --------
    >>> draw(np.log([0.25, 0.75]), temperature=1.0, u=0.3)
    1
    >>> draw(np.log([0.25, 0.75]), temperature=1.0, u=0.2)
    0
    """
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):  # at the smallest temperatures: exp(-inf) is 0, as it should be
        shifted = (logits - logits.max()).astype(np.float64) / temperature
    cumulated = np.exp(shifted).cumsum()
    return min(int(np.searchsorted(cumulated, u * cumulated[-1], side="right")), len(logits) - 1)


def tokens(network: Network, prompt: Array, length: int, temperature: float, rng: np.random.Generator) -> Iterator[int]:
    """Prime the state with the prompt (N,), N >= 1, then draw `length` tokens, each fed back.

    Parameters
    ----------
    prompt : (N,) integers
    length : int
        Tokens to draw.
    temperature : float
        0 is greedy; 1 the model's own distribution; higher is more varied.
    rng : numpy.random.Generator
        One uniform number is drawn a token.

    Yields
    ------
    int
    """
    if not isinstance(temperature, Real) or not 0 <= temperature <= sys.float_info.max:
        raise UnrolledError(f"temperature is {temperature}; it must be 0 (greedy) or a positive number")
    check_size("length", length, least=0)
    if not len(prompt):
        raise UnrolledError("the prompt has no token; a network needs at least one to start from")
    start = np.asarray(prompt)
    state = network(start[:-1, None])[1] if len(start) > 1 else network.initial_state(1)
    token, drawn_by = int(start[-1]), drawer(network, state, length)
    for first in range(0, length, CHUNK):
        for drawn in drawn_by.draw(token, rng.random(min(CHUNK, length - first)), temperature):
            yield drawn
            token = drawn


def drawer(network: Network, state: Any, length: int) -> Any:
    """Return what draws about `length` tokens from a state (L, 1, H), with the network's weights as they are now.

    Its `draw(token, u, temperature)` feeds a token and draws one for each number in u; `start(state)` begins again.

    Examples
    --------
    >>> from unrolled.network import Network, Spec
    >>> net = Network(Spec(vocabulary_size=4, hidden_size=5))
    >>> state = net.zero_state(1)
    >>> greedy = drawer(net, state, 3)
    >>> drawn = list(greedy.draw(1, np.zeros(3), 0))
    >>> greedy.start(state)
    >>> list(greedy.draw(1, np.zeros(3), 0)) == drawn
    True
    """
    return network.drawer(state, length) or _Steps(network, state)


class _Steps:
    """Draws as the engine's `Drawer`, a step of the network at a time."""

    def __init__(self, network: Network, state: Any) -> None:
        self.network, self.state = network, state

    def start(self, state: Any) -> None:
        self.state = state

    def draw(self, token: int, u: Array, temperature: float) -> Iterator[int]:
        for number in u:
            logits, self.state = self.network.step(np.array([token]), self.state)
            token = draw(logits[0], temperature, number)
            yield token
