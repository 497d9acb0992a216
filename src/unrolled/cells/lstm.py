"""Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000), and peepholes."""

from typing import Any, NamedTuple

from .cell import Back, Cell, Stage, Value
from .ops import sigmoid, tanh


class State(NamedTuple):
    """State of an LSTM; h (B, H), c (B, H)."""

    h: Value
    c: Value


class Gates(NamedTuple):
    """Input gate i, forget gate f, candidate g, output gate o; each (B, H), in PyTorch's order."""

    i: Value
    f: Value
    g: Value
    o: Value


class Peepholes(NamedTuple):
    """Weights from a unit's cell to its own gates, each (H,)."""

    i: Value
    f: Value
    o: Value


def lstm_forward(ax: Any, ah: Any, s: State, m: Value = 1) -> tuple[State, Gates]:
    """Return c' = f c + i g and h' = o tanh(c'); m drops or scales g (Semeniuta et al. 2016)."""
    i, f, o = (sigmoid(ax[n] + ah[n]) for n in (0, 1, 3))
    g = tanh(ax[2] + ah[2])
    c = f * s.c + i * (m * g)  # forget gate: Gers, Schmidhuber & Cummins 2000
    return State(h=o * tanh(c), c=c), Gates(i, f, g, o)


def lstm_backward(d: State, k: Gates, s: State, new: State, m: Value = 1) -> Back:
    """Return the gradients of `lstm_forward`; the cell's own is dc = dc' + dh' o (1 - tanh(c')^2)."""
    tc = tanh(new.c)
    dc = d.c + d.h * k.o * (1 - tc * tc)
    dm = dc * m
    da = (
        dm * k.g * k.i * (1 - k.i),
        dc * s.c * k.f * (1 - k.f),
        dm * k.i * (1 - k.g * k.g),
        d.h * tc * k.o * (1 - k.o),
    )
    return Back(da, da, State(h=0, c=dc * k.f))


def peephole_forward(ax: Any, ah: Any, s: State, p: Peepholes, m: Value = 1) -> tuple[State, Gates]:
    """As `lstm_forward`; i and f also see the old cell, o the new one, each through a weight of its own unit."""
    i = sigmoid(ax[0] + ah[0] + p.i * s.c)
    f = sigmoid(ax[1] + ah[1] + p.f * s.c)
    g = tanh(ax[2] + ah[2])
    c = f * s.c + i * (m * g)
    o = sigmoid(ax[3] + ah[3] + p.o * c)
    return State(h=o * tanh(c), c=c), Gates(i, f, g, o)


def peephole_backward(d: State, k: Gates, s: State, new: State, p: Peepholes, m: Value = 1) -> Back:
    """Return the gradients of `peephole_forward`; the new cell is also reached through the output gate."""
    tc = tanh(new.c)
    ao = d.h * tc * k.o * (1 - k.o)
    dc = d.c + d.h * k.o * (1 - tc * tc) + ao * p.o
    dm = dc * m
    ai = dm * k.g * k.i * (1 - k.i)
    af = dc * s.c * k.f * (1 - k.f)
    ag = dm * k.i * (1 - k.g * k.g)
    da = (ai, af, ag, ao)
    return Back(da, da, State(h=0, c=dc * k.f + ai * p.i + af * p.f), None, Peepholes(ai * s.c, af * s.c, ao * new.c))


LSTM = Cell(
    "lstm",
    State,
    Gates,
    (Stage(("i", "f", "g", "o"), lstm_forward, lstm_backward),),
    "Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000",
    candidate="g",
)
LSTM_PEEPHOLE = Cell(
    "lstm_peephole",
    State,
    Gates,
    (Stage(("i", "f", "g", "o"), peephole_forward, peephole_backward),),
    "Gers & Schmidhuber 2000, Recurrent nets that time and count",
    params=Peepholes,
    params_name="weight_peephole",
    candidate="g",
)
