"""Drawing text from a network, one symbol at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .errors import UnrolledError
from .network import Network
from .scan import Array


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
    if not temperature >= 0 or not np.isfinite(temperature):
        raise UnrolledError(f"temperature is {temperature}; it must be 0 (greedy) or a positive number")
    if length < 0:
        raise UnrolledError(f"length is {length}; it must be 0 or more")
    if not len(prompt):
        raise UnrolledError("the prompt has no token; a network needs at least one to start from")
    logits, state = network(np.asarray(prompt)[:, None])
    last = logits[-1, 0]
    for n in range(length):
        token = draw(last, temperature, rng.random())
        yield token
        if n + 1 < length:
            step, state = network.step(np.array([token]), state)
            last = step[0]
