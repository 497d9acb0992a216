"""Dynamic evaluation: a model that learns from a text while it is scored, each segment from what came before it.

Source: Krause, Kahembwe, Murray & Renals 2018, Dynamic evaluation of neural sequence models, with the squares of
gradients gathered on the scored text itself, so that no text to train on is needed.

With g the gradient of a segment's mean loss, m the mean of g^2 over the segments so far, w_0 the trained parameters:

    w <- w - rate g / (sqrt(m) + 1e-8) + decay (w_0 - w)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..checks import Array
from ..data.batches import Lanes
from ..nn.network import Network

SEGMENT = 20
"""Symbols that are scored before their gradient moves the parameters."""
DECAY = 0.001
"""Share of the way back to the trained parameters that a segment goes."""
SMALL = 1e-8


def adapted(network: Network, tokens: Array, documents: Array | None, rate: float) -> Iterator[tuple[Array, Array]]:
    """Yield of every segment the logits (S, V) that predict it, and its targets (S,); the network stays as it is.

    Where `documents` begin, the state does so anew; the parameters go on.
    """
    first = network.params
    net = network.with_params({name: p.copy() for name, p in first.items()})
    squares = {name: np.zeros_like(p) for name, p in net.params.items()}
    state: Any = None
    for n, chunk in enumerate(Lanes(tokens, 1, SEGMENT, documents=documents), 1):
        logits, _ = net.logits(chunk.x, state, starts=chunk.starts)
        yield logits[:, 0], chunk.y[:, 0]  # before anything of it is learnt
        _, grads, state = net.loss_and_gradients(chunk.x, chunk.y, state, starts=chunk.starts, masks={})
        for name, p in net.params.items():
            m, g = squares[name], grads[name]
            m += (g * g - m) / n
            p -= rate * g / (np.sqrt(m) + SMALL)
            p += DECAY * (first[name] - p)
