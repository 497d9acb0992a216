"""The LSTM's ablations of Greff et al. 2015, *LSTM: a search space odyssey*: one part missing each, all with peepholes.

Each differs from `lstm_peephole` in what its name says. (The paper's NP is our `lstm`, its CIFG our `lstm_coupled`.)
"""

from typing import Any, NamedTuple

from .cell import Back, Cell, Stage, Value
from .lstm import Gates, Peepholes, State
from .ops import sigmoid, tanh


class NoInput(NamedTuple):
    """Forget gate f, candidate g, output gate o."""

    f: Value
    g: Value
    o: Value


class NoInputPeepholes(NamedTuple):
    """Weights from a unit's cell to its own gates, each (H,)."""

    f: Value
    o: Value


class NoForget(NamedTuple):
    """Input gate i, candidate g, output gate o."""

    i: Value
    g: Value
    o: Value


class NoForgetPeepholes(NamedTuple):
    """Weights from a unit's cell to its own gates, each (H,)."""

    i: Value
    o: Value


class NoOutput(NamedTuple):
    """Input gate i, forget gate f, candidate g."""

    i: Value
    f: Value
    g: Value


class NoOutputPeepholes(NamedTuple):
    """Weights from a unit's cell to its own gates, each (H,)."""

    i: Value
    f: Value


class GateState(NamedTuple):
    """State of an LSTM whose gates see the gates of the step before; all (B, H)."""

    h: Value
    c: Value
    i: Value
    f: Value
    o: Value


class Opened(NamedTuple):
    """Values that the first stage of the full gate recurrence hands on: two gates, and the third's pre-activation."""

    i: Value
    f: Value
    ao: Value


def no_input_gate_forward(ax: Any, ah: Any, s: State, p: Any, m: Value = 1) -> tuple[State, NoInput]:
    """Return c' = f c + g: everything is let in."""
    f = sigmoid(ax[0] + ah[0] + p.f * s.c)
    g = tanh(ax[1] + ah[1])
    c = f * s.c + m * g
    o = sigmoid(ax[2] + ah[2] + p.o * c)
    return State(h=o * tanh(c), c=c), NoInput(f, g, o)


def no_input_gate_backward(d: State, k: NoInput, s: State, new: State, p: Any, m: Value = 1) -> Back:
    """Return the gradients of `no_input_gate_forward`."""
    tc = tanh(new.c)
    ao = d.h * tc * k.o * (1 - k.o)
    dc = d.c + d.h * k.o * (1 - tc * tc) + ao * p.o
    af = dc * s.c * k.f * (1 - k.f)
    da = (af, dc * m * (1 - k.g * k.g), ao)
    return Back(da, da, State(h=0, c=dc * k.f + af * p.f), None, NoInputPeepholes(af * s.c, ao * new.c))


def no_forget_gate_forward(ax: Any, ah: Any, s: State, p: Any, m: Value = 1) -> tuple[State, NoForget]:
    """Return c' = c + i g: nothing is forgotten, as in Hochreiter & Schmidhuber 1997."""
    i = sigmoid(ax[0] + ah[0] + p.i * s.c)
    g = tanh(ax[1] + ah[1])
    c = s.c + i * (m * g)
    o = sigmoid(ax[2] + ah[2] + p.o * c)
    return State(h=o * tanh(c), c=c), NoForget(i, g, o)


def no_forget_gate_backward(d: State, k: NoForget, s: State, new: State, p: Any, m: Value = 1) -> Back:
    """Return the gradients of `no_forget_gate_forward`; the carry is 1."""
    tc = tanh(new.c)
    ao = d.h * tc * k.o * (1 - k.o)
    dc = d.c + d.h * k.o * (1 - tc * tc) + ao * p.o
    dm = dc * m
    ai = dm * k.g * k.i * (1 - k.i)
    da = (ai, dm * k.i * (1 - k.g * k.g), ao)
    return Back(da, da, State(h=0, c=dc + ai * p.i), None, NoForgetPeepholes(ai * s.c, ao * new.c))


def no_output_gate_forward(ax: Any, ah: Any, s: State, p: Any, m: Value = 1) -> tuple[State, NoOutput]:
    """Return h' = tanh(c'): everything is shown."""
    i = sigmoid(ax[0] + ah[0] + p.i * s.c)
    f = sigmoid(ax[1] + ah[1] + p.f * s.c)
    g = tanh(ax[2] + ah[2])
    c = f * s.c + i * (m * g)
    return State(h=tanh(c), c=c), NoOutput(i, f, g)


def no_output_gate_backward(d: State, k: NoOutput, s: State, new: State, p: Any, m: Value = 1) -> Back:
    """Return the gradients of `no_output_gate_forward`."""
    dc = d.c + d.h * (1 - new.h * new.h)
    dm = dc * m
    ai = dm * k.g * k.i * (1 - k.i)
    af = dc * s.c * k.f * (1 - k.f)
    da = (ai, af, dm * k.i * (1 - k.g * k.g))
    return Back(da, da, State(h=0, c=dc * k.f + ai * p.i + af * p.f), None, NoOutputPeepholes(ai * s.c, af * s.c))


def no_input_activation_forward(ax: Any, ah: Any, s: State, p: Peepholes, m: Value = 1) -> tuple[State, Gates]:
    """Return c' = f c + i g with g = a_g, not its tanh."""
    i = sigmoid(ax[0] + ah[0] + p.i * s.c)
    f = sigmoid(ax[1] + ah[1] + p.f * s.c)
    g = ax[2] + ah[2]
    c = f * s.c + i * (m * g)
    o = sigmoid(ax[3] + ah[3] + p.o * c)
    return State(h=o * tanh(c), c=c), Gates(i, f, g, o)


def no_input_activation_backward(d: State, k: Gates, s: State, new: State, p: Peepholes, m: Value = 1) -> Back:
    """Return the gradients of `no_input_activation_forward`."""
    tc = tanh(new.c)
    ao = d.h * tc * k.o * (1 - k.o)
    dc = d.c + d.h * k.o * (1 - tc * tc) + ao * p.o
    dm = dc * m
    ai = dm * k.g * k.i * (1 - k.i)
    af = dc * s.c * k.f * (1 - k.f)
    da = (ai, af, dm * k.i, ao)
    return Back(da, da, State(h=0, c=dc * k.f + ai * p.i + af * p.f), None, Peepholes(ai * s.c, af * s.c, ao * new.c))


def no_output_activation_forward(ax: Any, ah: Any, s: State, p: Peepholes, m: Value = 1) -> tuple[State, Gates]:
    """Return h' = o c', not o tanh(c')."""
    i = sigmoid(ax[0] + ah[0] + p.i * s.c)
    f = sigmoid(ax[1] + ah[1] + p.f * s.c)
    g = tanh(ax[2] + ah[2])
    c = f * s.c + i * (m * g)
    o = sigmoid(ax[3] + ah[3] + p.o * c)
    return State(h=o * c, c=c), Gates(i, f, g, o)


def no_output_activation_backward(d: State, k: Gates, s: State, new: State, p: Peepholes, m: Value = 1) -> Back:
    """Return the gradients of `no_output_activation_forward`."""
    ao = d.h * new.c * k.o * (1 - k.o)
    dc = d.c + d.h * k.o + ao * p.o
    dm = dc * m
    ai = dm * k.g * k.i * (1 - k.i)
    af = dc * s.c * k.f * (1 - k.f)
    da = (ai, af, dm * k.i * (1 - k.g * k.g), ao)
    return Back(da, da, State(h=0, c=dc * k.f + ai * p.i + af * p.f), None, Peepholes(ai * s.c, af * s.c, ao * new.c))


def gates_forward(ax: Any, ah: Any, s: GateState, p: Peepholes) -> Opened:
    """First stage of the full gate recurrence: the gates, whose product sees h and the old i, f and o."""
    i = sigmoid(ax[0] + ah[0] + p.i * s.c)
    f = sigmoid(ax[1] + ah[1] + p.f * s.c)
    return Opened(i, f, ax[2] + ah[2])


def gates_backward(d: Opened, k: Gates, s: GateState, new: GateState, p: Peepholes) -> Back:
    """Return the gradients of `gates_forward`."""
    ai = d.i * k.i * (1 - k.i)
    af = d.f * k.f * (1 - k.f)
    da = (ai, af, d.ao)
    return Back(da, da, GateState(0, ai * p.i + af * p.f, 0, 0, 0), None, Peepholes(ai * s.c, af * s.c, 0 * ai))


def block_forward(ax: Any, ah: Any, s: GateState, k: Opened, p: Peepholes, m: Value = 1) -> tuple[GateState, Gates]:
    """Second stage of the full gate recurrence: the candidate sees h alone; the gates become part of the state."""
    g = tanh(ax[0] + ah[0])
    c = k.f * s.c + k.i * (m * g)
    o = sigmoid(k.ao + p.o * c)
    return GateState(h=o * tanh(c), c=c, i=k.i, f=k.f, o=o), Gates(k.i, k.f, g, o)


def block_backward(d: GateState, k: Gates, s: GateState, new: GateState, p: Peepholes, m: Value = 1) -> Back:
    """Return the gradients of `block_forward`; d.i, d.f and d.o are what the next step's gates send."""
    tc = tanh(new.c)
    ao = (d.h * tc + d.o) * k.o * (1 - k.o)
    dc = d.c + d.h * k.o * (1 - tc * tc) + ao * p.o
    dm = dc * m
    da = (dm * k.i * (1 - k.g * k.g),)
    earlier = Opened(i=d.i + dm * k.g, f=d.f + dc * s.c, ao=ao)
    return Back(da, da, GateState(0, dc * k.f, 0, 0, 0), earlier, Peepholes(0 * ao, 0 * ao, ao * new.c))


PAPER = "Greff et al. 2015, LSTM: a search space odyssey, "


def _ablation(name: str, short: str, rows: tuple[str, ...], gates: type, peepholes: type, *pair: Any) -> Cell:
    paper = PAPER + short
    stages = (Stage(rows, *pair),)
    return Cell(f"lstm_{name}", State, gates, stages, paper, peepholes, "weight_peephole", candidate="g")


ALL = ("i", "f", "g", "o")
ABLATIONS = (
    _ablation(
        "no_input_gate",
        "NIG",
        ("f", "g", "o"),
        NoInput,
        NoInputPeepholes,
        no_input_gate_forward,
        no_input_gate_backward,
    ),
    _ablation(
        "no_forget_gate",
        "NFG",
        ("i", "g", "o"),
        NoForget,
        NoForgetPeepholes,
        no_forget_gate_forward,
        no_forget_gate_backward,
    ),
    _ablation(
        "no_output_gate",
        "NOG",
        ("i", "f", "g"),
        NoOutput,
        NoOutputPeepholes,
        no_output_gate_forward,
        no_output_gate_backward,
    ),
    _ablation(
        "no_input_activation", "NIAF", ALL, Gates, Peepholes, no_input_activation_forward, no_input_activation_backward
    ),
    _ablation(
        "no_output_activation",
        "NOAF",
        ALL,
        Gates,
        Peepholes,
        no_output_activation_forward,
        no_output_activation_backward,
    ),
    Cell(
        "lstm_full_gate_recurrence",
        GateState,
        Gates,
        (
            Stage(("i", "f", "o"), gates_forward, gates_backward, operand=("h", "i", "f", "o")),
            Stage(("g",), block_forward, block_backward),
        ),
        PAPER + "FGR",
        Peepholes,
        "weight_peephole",
        candidate="g",
    ),
)
