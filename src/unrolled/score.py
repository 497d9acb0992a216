"""How well a network predicts a given sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .batches import Lanes
from .checks import Array
from .errors import UnrolledError, count
from .losses import log_softmax
from .network import Network

CHUNK = 256
"""Steps a call; bounds the memory of the logits, changes no result."""


@dataclass(frozen=True)
class Score:
    """Prediction of a text; a symbol is a character or a byte, whichever the model knows.

    Attributes
    ----------
    nats : float
        Mean negative log-likelihood of a predicted symbol.
    log_probs : (N - 1,) array
        Natural logarithm of each predicted symbol's probability; the first of N symbols is not predicted.
    """

    nats: float
    log_probs: Array

    @property
    def predicted(self) -> int:
        """Number of predicted symbols."""
        return len(self.log_probs)

    @property
    def bits(self) -> float:
        """Mean bits a symbol."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats): the number of equally likely symbols that would be as hard to predict."""
        return math.exp(self.nats) if self.nats < 700 else math.inf


@np.errstate(over="ignore", invalid="ignore")  # said in a line, below
def score(network: Network, tokens: Array, documents: Array | None = None) -> Score:
    """Probability of every token after the first, given all the tokens before it (from the initial state).

    With `documents`, the places that documents begin at, given the tokens of its document before it.

    Examples
    --------
    >>> from unrolled.network import Network, Spec
    >>> net = Network(Spec(vocabulary_size=4, hidden_size=5))
    >>> for p in net.params.values():
    ...     p[...] = 0
    >>> round(score(net, np.array([0, 3, 2])).perplexity, 4)
    4.0
    """
    if len(tokens) < 2:
        raise UnrolledError(f"a text of {count(len(tokens), 'symbol')} has nothing to predict; scoring needs 2 or more")
    parts, state, chunks = [], None, Lanes(tokens, 1, CHUNK, documents=documents)
    for k, (x, y) in enumerate(chunks):
        logits, state = network(x, state, starts=chunks.starts(k))
        parts.append(np.take_along_axis(log_softmax(logits[:, 0].astype(np.float64)), y, axis=-1)[:, 0])
    log_probs = np.concatenate(parts)
    if not np.isfinite(log_probs).all():
        name, peak = max(((n, float(np.abs(p).max())) for n, p in network.params.items()), key=lambda entry: entry[1])
        raise UnrolledError(f"the network's outputs are not finite: its weights are too large, {name} up to {peak:.3g}")
    return Score(-float(log_probs.mean()), log_probs)


def evaluate(network: Network, lanes: Lanes) -> float:
    """Mean nats a target over contiguous lanes side by side, each from a zero state: the validation loss."""
    total, count, state = 0.0, 0, None
    for k, (x, y) in enumerate(lanes):
        loss, state = network.loss(x, y, state, starts=lanes.starts(k))
        total, count = total + loss * y.size, count + y.size
    return total / count
