"""The sLSTM of xLSTM (Beck et al. 2024): an LSTM with exponential gates, a normaliser, a stabiliser, and heads."""

from typing import Any, NamedTuple

import numpy as np

from .cell import Cell, Stage, Value
from .initial import normal, zeros
from .ops import exp, maximum, sigmoid, tanh, where

HEADS = 4
EMPTY = 1e-12
"""A normaliser below this has summed nothing yet; after one step it is 1 or more."""
NOTHING = -1e30
"""The logarithm of no weight at all."""


class State(NamedTuple):
    """State of an sLSTM; all (B, H).

    Output h; c and n, the weighted sums of candidates and of weights, both times exp(-m); and m, the logarithm of the
    largest weight so far.
    """

    h: Value
    c: Value
    n: Value
    m: Value


class Gates(NamedTuple):
    """Input gate i and forget gate f, both times what keeps them at 1 or below; candidate z, output gate o."""

    i: Value
    f: Value
    z: Value
    o: Value


class Settings(NamedTuple):
    """The forget gate's logarithm: "log_sigmoid" of a sigmoid gate, "identity" of an exponential one."""

    log_forget: str = "log_sigmoid"


def slstm_forward(ax: Any, ah: Any, s: State, c: Any, m: Value = 1) -> tuple[State, Gates]:
    """Return c' = f c + i z, n' = f n + i and h' = o c' / n', with i = exp(a_i - m') and f = exp(log f + m - m')."""
    old, ai = where(s.n > EMPTY, c.log_forget(ax[1] + ah[1]) + s.m, NOTHING), ax[0] + ah[0]
    z, o, top = tanh(ax[2] + ah[2]), sigmoid(ax[3] + ah[3]), maximum(old, ai)
    i, f = exp(ai - top), exp(old - top)
    total, n = f * s.c + i * (m * z), f * s.n + i
    return State(h=o * total / maximum(n, EMPTY), c=total, n=n, m=top), Gates(i, f, z, o)


def spread(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Return forget-gate biases from 5 down to -7 within each head: few units that keep for long, most soon forget."""
    units = -(-shape[-1] // HEADS)
    return 5 - 12 * (np.arange(shape[-1]) % units / max(units - 1, 1)) ** 0.3


SLSTM = Cell(
    "slstm",
    State,
    Gates,
    (Stage(("i", "f", "z", "o"), slstm_forward, biases=("ih",)),),
    "Beck et al. 2024, xLSTM: Extended long short-term memory, section 2.2",
    candidate="z",
    heads=HEADS,
    settings=Settings(),
    initial={"weight_ih": normal(2 / 5), "weight_hh": zeros, "bias_ih": zeros, "bias_ih.f": spread},
)
