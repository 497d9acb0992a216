"""Quasi-recurrent networks (Bradbury et al. 2017): a convolution over time, of one step or two, and gates that pool it.

A window of two steps is two products, of x and of x of the step before. The latter is carried on in the state, so that
x is multiplied once.
"""

from typing import Any, NamedTuple

from .cell import Cell, Stage, Value
from .initial import fan_in
from .lstm import State
from .ops import sigmoid, tanh
from .rnn import State as Hidden


class FGates(NamedTuple):
    """Candidate z and forget gate f."""

    z: Value
    f: Value


class FoGates(NamedTuple):
    """Candidate z, forget gate f, output gate o."""

    z: Value
    f: Value
    o: Value


class IfoGates(NamedTuple):
    """Candidate z, forget gate f, output gate o, input gate i."""

    z: Value
    f: Value
    o: Value
    i: Value


class FBefore(NamedTuple):
    """Products of x for the next step: the earlier half of each convolution."""

    z_before: Value
    f_before: Value


class FoBefore(NamedTuple):
    """Products of x for the next step: the earlier half of each convolution."""

    z_before: Value
    f_before: Value
    o_before: Value


class IfoBefore(NamedTuple):
    """Products of x for the next step: the earlier half of each convolution."""

    z_before: Value
    f_before: Value
    o_before: Value
    i_before: Value


class FState(NamedTuple):
    """State of f-pooling over two steps: h, and products of x of the step before; all (B, H)."""

    h: Value
    z_before: Value
    f_before: Value


class FoState(NamedTuple):
    """State of fo-pooling over two steps: h, c, and products of x of the step before; all (B, H)."""

    h: Value
    c: Value
    z_before: Value
    f_before: Value
    o_before: Value


class IfoState(NamedTuple):
    """State of ifo-pooling over two steps: h, c, and products of x of the step before; all (B, H)."""

    h: Value
    c: Value
    z_before: Value
    f_before: Value
    o_before: Value
    i_before: Value


def f_forward(ax: Any, ah: Any, s: Any, m: Value = 1) -> tuple[Hidden, FGates]:
    """Return h' = f h + (1 - f) z (f-pooling, equation 3); m drops or scales z."""
    z, f = tanh(ax[0]), sigmoid(ax[1])
    return Hidden(h=f * s.h + (1 - f) * (m * z)), FGates(z, f)


def fo_forward(ax: Any, ah: Any, s: Any, m: Value = 1) -> tuple[State, FoGates]:
    """Return c' = f c + (1 - f) z and h' = o c' (fo-pooling, equation 4)."""
    z, f, o = tanh(ax[0]), sigmoid(ax[1]), sigmoid(ax[2])
    c = f * s.c + (1 - f) * (m * z)
    return State(h=o * c, c=c), FoGates(z, f, o)


def ifo_forward(ax: Any, ah: Any, s: Any, m: Value = 1) -> tuple[State, IfoGates]:
    """Return c' = f c + i z and h' = o c' (ifo-pooling, equation 5)."""
    z, f, o, i = tanh(ax[0]), sigmoid(ax[1]), sigmoid(ax[2]), sigmoid(ax[3])
    c = f * s.c + i * (m * z)
    return State(h=o * c, c=c), IfoGates(z, f, o, i)


def f_before(ax: Any, ah: Any, s: Any) -> FBefore:
    """First stage of a window of two: x's part in the convolutions of the next step."""
    return FBefore(*ax)


def fo_before(ax: Any, ah: Any, s: Any) -> FoBefore:
    """First stage of a window of two: x's part in the convolutions of the next step."""
    return FoBefore(*ax)


def ifo_before(ax: Any, ah: Any, s: Any) -> IfoBefore:
    """First stage of a window of two: x's part in the convolutions of the next step."""
    return IfoBefore(*ax)


def f_w2_forward(ax: Any, ah: Any, s: FState, k: FBefore, m: Value = 1) -> tuple[FState, FGates]:
    """Second stage: f-pooling of both halves of the convolutions."""
    new, gates = f_forward((ax[0] + s.z_before, ax[1] + s.f_before), ah, s, m)
    return FState(*new, *k), gates


def fo_w2_forward(ax: Any, ah: Any, s: FoState, k: FoBefore, m: Value = 1) -> tuple[FoState, FoGates]:
    """Second stage: fo-pooling of both halves of the convolutions."""
    new, gates = fo_forward((ax[0] + s.z_before, ax[1] + s.f_before, ax[2] + s.o_before), ah, s, m)
    return FoState(*new, *k), gates


def ifo_w2_forward(ax: Any, ah: Any, s: IfoState, k: IfoBefore, m: Value = 1) -> tuple[IfoState, IfoGates]:
    """Second stage: ifo-pooling of both halves of the convolutions."""
    both = (ax[0] + s.z_before, ax[1] + s.f_before, ax[2] + s.o_before, ax[3] + s.i_before)
    new, gates = ifo_forward(both, ah, s, m)
    return IfoState(*new, *k), gates


PAPER = "Bradbury et al. 2017, Quasi-recurrent neural networks, "


def _window(of: int, rows: tuple[str, ...], *forwards: Any) -> dict[str, Any]:
    """Return the stages of a window of one or two steps, and how its weights begin: as PyTorch's `Linear` does."""
    last = Stage(rows, forwards[-1], operand=None, biases=("ih",))
    before = tuple(
        Stage(tuple(f"{row}_before" for row in rows), forward, operand=None, biases=()) for forward in forwards[:-1]
    )
    return {"stages": (*before, last), "candidate": "z", "initial": {"weight_ih": fan_in(1 / (3 * of))}}


QRNN_F = Cell("qrnn_f", Hidden, FGates, paper=PAPER + "f-pooling", **_window(1, ("z", "f"), f_forward))
QRNN_FO = Cell("qrnn_fo", State, FoGates, paper=PAPER + "fo-pooling", **_window(1, ("z", "f", "o"), fo_forward))
QRNN_IFO = Cell(
    "qrnn_ifo", State, IfoGates, paper=PAPER + "ifo-pooling", **_window(1, ("z", "f", "o", "i"), ifo_forward)
)
QRNN_F_W2 = Cell(
    "qrnn_f_w2",
    FState,
    FGates,
    paper=PAPER + "f-pooling of a window of two",
    **_window(2, ("z", "f"), f_before, f_w2_forward),
)
QRNN_FO_W2 = Cell(
    "qrnn_fo_w2",
    FoState,
    FoGates,
    paper=PAPER + "fo-pooling of a window of two",
    **_window(2, ("z", "f", "o"), fo_before, fo_w2_forward),
)
QRNN_IFO_W2 = Cell(
    "qrnn_ifo_w2",
    IfoState,
    IfoGates,
    paper=PAPER + "ifo-pooling of a window of two",
    **_window(2, ("z", "f", "o", "i"), ifo_before, ifo_w2_forward),
)
QUASI_RECURRENT = (QRNN_F, QRNN_FO, QRNN_IFO, QRNN_F_W2, QRNN_FO_W2, QRNN_IFO_W2)
