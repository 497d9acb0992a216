"""Gated recurrent units (Cho et al. 2014): the reset gate after the recurrent product, or before it."""

from typing import Any, NamedTuple

from .cell import Back, Cell, Stage, Value
from .ops import sigmoid, tanh
from .rnn import State


class AfterGates(NamedTuple):
    """Reset gate r, update gate z, candidate n, and the recurrent pre-activation of n that r multiplies."""

    r: Value
    z: Value
    n: Value
    ah_n: Value


class Reset(NamedTuple):
    """Values that stage one of `gru_reset_before` hands to stage two; rh = r h is the second product's operand."""

    r: Value
    z: Value
    rh: Value


class BeforeGates(NamedTuple):
    """Reset gate r, update gate z, their product's operand rh = r h, and the candidate n."""

    r: Value
    z: Value
    rh: Value
    n: Value


def after_forward(ax: Any, ah: Any, s: State, m: Value = 1) -> tuple[State, AfterGates]:
    """Return h' = (1 - z) n + z h with n = tanh(ax_n + r ah_n); m drops or scales n (Semeniuta et al. 2016)."""
    r = sigmoid(ax[0] + ah[0])
    z = sigmoid(ax[1] + ah[1])
    n = tanh(ax[2] + r * ah[2])
    mn = m * n
    return State(h=mn + z * (s.h - mn)), AfterGates(r, z, n, ah[2])


def after_backward(d: State, k: AfterGates, s: State, new: State, m: Value = 1) -> Back:
    """Return the gradients of `after_forward`; the candidate's recurrent half is scaled by r, its input half is not."""
    an = d.h * (1 - k.z) * m * (1 - k.n * k.n)
    ar = an * k.ah_n * k.r * (1 - k.r)
    az = d.h * (s.h - m * k.n) * k.z * (1 - k.z)
    return Back((ar, az, an), (ar, az, an * k.r), State(h=d.h * k.z))


def reset_forward(ax: Any, ah: Any, s: State) -> Reset:
    """First stage: both gates, and r h for the candidate's product."""
    r = sigmoid(ax[0] + ah[0])
    z = sigmoid(ax[1] + ah[1])
    return Reset(r, z, r * s.h)


def reset_backward(d: Reset, k: BeforeGates, s: State, new: State) -> Back:
    """Return the gradients of `reset_forward`; r is reached through r h alone."""
    da = ((d.r + d.rh * s.h) * k.r * (1 - k.r), d.z * k.z * (1 - k.z))
    return Back(da, da, State(h=d.rh * k.r))


def candidate_forward(ax: Any, ah: Any, s: State, k: Reset, m: Value = 1) -> tuple[State, BeforeGates]:
    """Second stage: h' = (1 - z) n + z h with n = tanh(ax_n + Whh_n (r h))."""
    n = tanh(ax[0] + ah[0])
    mn = m * n
    return State(h=mn + k.z * (s.h - mn)), BeforeGates(k.r, k.z, k.rh, n)


def candidate_backward(d: State, k: BeforeGates, s: State, new: State, m: Value = 1) -> Back:
    """Return the gradients of `candidate_forward`, the first stage's values among them."""
    da = (d.h * (1 - k.z) * m * (1 - k.n * k.n),)
    return Back(da, da, State(h=d.h * k.z), Reset(r=0, z=d.h * (s.h - m * k.n), rh=0))


GRU_RESET_AFTER = Cell(
    "gru_reset_after",
    State,
    AfterGates,
    (Stage(("r", "z", "n"), after_forward, after_backward),),
    "Cho et al. 2014, in the form of cuDNN and PyTorch: reset after the product",
    candidate="n",
)
GRU_RESET_BEFORE = Cell(
    "gru_reset_before",
    State,
    BeforeGates,
    (
        Stage(("r", "z"), reset_forward, reset_backward),
        Stage(("n",), candidate_forward, candidate_backward, operand=("rh",)),
    ),
    "Cho et al. 2014, Learning phrase representations using RNN encoder-decoder: reset before the product",
    candidate="n",
)
