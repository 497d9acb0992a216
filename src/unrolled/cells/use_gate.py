"""The LSTM of the four-gate teaching notes, whose Use gate has weights of its own on what the forget gate lets pass."""

from typing import Any, NamedTuple

from .cell import Back, Cell, Stage, Value
from .lstm import State
from .ops import sigmoid, tanh


class Kept(NamedTuple):
    """Values that stage one hands to stage two: the gates, what is learnt, ig = i g, and what is kept, fc = f c."""

    i: Value
    f: Value
    g: Value
    o: Value
    ig: Value
    fc: Value


class Gates(NamedTuple):
    """Input gate i, forget gate f, candidate g, output gate o, what is kept fc = f c, and what is used u."""

    i: Value
    f: Value
    g: Value
    o: Value
    fc: Value
    u: Value


def keep_forward(ax: Any, ah: Any, s: State, m: Value = 1) -> Kept:
    """First stage: the gates of an LSTM, and f c for the Use gate's product."""
    i, f, o = (sigmoid(ax[n] + ah[n]) for n in (0, 1, 3))
    g = tanh(ax[2] + ah[2])
    return Kept(i, f, g, o, i * (m * g), f * s.c)


def keep_backward(d: Kept, k: Gates, s: State, new: State, m: Value = 1) -> Back:
    """Return the gradients of `keep_forward`; the old cell is reached through f c alone."""
    dm = d.ig * m
    da = (
        dm * k.g * k.i * (1 - k.i),
        d.fc * s.c * k.f * (1 - k.f),
        dm * k.i * (1 - k.g * k.g),
        d.o * k.o * (1 - k.o),
    )
    return Back(da, da, State(h=0, c=d.fc * k.f))


def use_forward(ax: Any, ah: Any, s: State, k: Kept) -> tuple[State, Gates]:
    """Second stage: c' = f c + i g, but h' = o u with u = tanh(Whh_u (f c) + b_u)."""
    u = tanh(ah[0])
    return State(h=k.o * u, c=k.fc + k.ig), Gates(k.i, k.f, k.g, k.o, k.fc, u)


def use_backward(d: State, k: Gates, s: State, new: State) -> Back:
    """Return the gradients of `use_forward`, the first stage's values among them."""
    return Back(
        (),
        (d.h * k.o * (1 - k.u * k.u),),
        State(h=0, c=0),
        Kept(i=0, f=0, g=0, o=d.h * k.u, ig=d.c, fc=d.c),
    )


LSTM_USE_GATE = Cell(
    "lstm_use_gate",
    State,
    Gates,
    (
        Stage(("i", "f", "g", "o"), keep_forward, keep_backward),
        Stage(("u",), use_forward, use_backward, operand=("fc",), inputs=False),
    ),
    "The four-gate teaching notes on Hochreiter & Schmidhuber 1997: a Use gate tanh(Wu (f c) + bu)",
    candidate="g",
)
