"""Cells with fewer gates: the LSTM whose input gate is 1 - f, and the minimal gated unit, a GRU with one gate."""

from typing import Any, NamedTuple

from .cell import Back, Cell, Stage, Value
from .lstm import State
from .ops import sigmoid, tanh
from .rnn import State as Hidden


class Gates(NamedTuple):
    """Forget gate f, candidate g, output gate o; the input gate is 1 - f."""

    f: Value
    g: Value
    o: Value


class Forget(NamedTuple):
    """Values that stage one of `mgu` hands to stage two; fh = f h is the second product's operand."""

    f: Value
    fh: Value


class MguGates(NamedTuple):
    """The one gate f, its product's operand fh = f h, and the candidate n."""

    f: Value
    fh: Value
    n: Value


def coupled_forward(ax: Any, ah: Any, s: State, m: Value = 1) -> tuple[State, Gates]:
    """Return c' = f c + (1 - f) g and h' = o tanh(c'): what is forgotten makes room for what is learnt."""
    f, o = sigmoid(ax[0] + ah[0]), sigmoid(ax[2] + ah[2])
    g = tanh(ax[1] + ah[1])
    c = f * s.c + (1 - f) * (m * g)
    return State(h=o * tanh(c), c=c), Gates(f, g, o)


def coupled_backward(d: State, k: Gates, s: State, new: State, m: Value = 1) -> Back:
    """Return the gradients of `coupled_forward`; f gets both what it keeps and what it shuts out."""
    tc = tanh(new.c)
    dc = d.c + d.h * k.o * (1 - tc * tc)
    da = (
        dc * (s.c - m * k.g) * k.f * (1 - k.f),
        dc * m * (1 - k.f) * (1 - k.g * k.g),
        d.h * tc * k.o * (1 - k.o),
    )
    return Back(da, da, State(h=0, c=dc * k.f))


def forget_forward(ax: Any, ah: Any, s: Hidden) -> Forget:
    """First stage of `mgu`: the gate, and f h for the candidate's product."""
    f = sigmoid(ax[0] + ah[0])
    return Forget(f, f * s.h)


def forget_backward(d: Forget, k: MguGates, s: Hidden, new: Hidden) -> Back:
    """Return the gradients of `forget_forward`; f acts in the mixture and through f h."""
    da = ((d.f + d.fh * s.h) * k.f * (1 - k.f),)
    return Back(da, da, Hidden(h=d.fh * k.f))


def mixture_forward(ax: Any, ah: Any, s: Hidden, k: Forget, m: Value = 1) -> tuple[Hidden, MguGates]:
    """Second stage of `mgu`: h' = (1 - f) h + f n with n = tanh(ax_n + Whh_n (f h))."""
    n = tanh(ax[0] + ah[0])
    return Hidden(h=s.h + k.f * (m * n - s.h)), MguGates(k.f, k.fh, n)


def mixture_backward(d: Hidden, k: MguGates, s: Hidden, new: Hidden, m: Value = 1) -> Back:
    """Return the gradients of `mixture_forward`, the first stage's values among them."""
    da = (d.h * k.f * m * (1 - k.n * k.n),)
    return Back(da, da, Hidden(h=d.h * (1 - k.f)), Forget(f=d.h * (m * k.n - s.h), fh=0))


LSTM_COUPLED = Cell(
    "lstm_coupled",
    State,
    Gates,
    (Stage(("f", "g", "o"), coupled_forward, coupled_backward),),
    "Greff et al. 2015, LSTM: a search space odyssey, CIFG (without peepholes)",
    candidate="g",
)
MGU = Cell(
    "mgu",
    Hidden,
    MguGates,
    (
        Stage(("f",), forget_forward, forget_backward),
        Stage(("n",), mixture_forward, mixture_backward, operand=("fh",)),
    ),
    "Zhou et al. 2016, Minimal gated unit for recurrent neural networks",
    candidate="n",
)
