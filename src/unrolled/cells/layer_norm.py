"""Layer-normalised LSTM and GRU (Ba, Kiros & Hinton 2016): the scan normalises the products, and the LSTM's cell."""

from typing import Any, NamedTuple

from .cell import Back, Cell, Stage, Value
from .gru import AfterGates, after_backward, after_forward
from .lstm import State
from .ops import sigmoid, tanh
from .rnn import State as Hidden


class CellGates(NamedTuple):
    """The gates of an LSTM, and n, the normalised new cell."""

    i: Value
    f: Value
    g: Value
    o: Value
    n: Value


class Opened(NamedTuple):
    """All that the tape keeps of the first stage, and c'."""

    i: Value
    f: Value
    g: Value
    o: Value
    cell: Value


def cell_forward(ax: Any, ah: Any, s: State, m: Value = 1) -> Opened:
    """First stage: c' = f c + i g of normalised pre-activations."""
    i, f, o = (sigmoid(ax[n] + ah[n]) for n in (0, 1, 3))
    g = tanh(ax[2] + ah[2])
    return Opened(i, f, g, o, f * s.c + i * (m * g))


def cell_backward(d: Opened, k: CellGates, s: State, new: State, m: Value = 1) -> Back:
    """Return the gradients of `cell_forward`; d.cell is all that reaches c'."""
    dm = d.cell * m
    da = (
        dm * k.g * k.i * (1 - k.i),
        d.cell * s.c * k.f * (1 - k.f),
        dm * k.i * (1 - k.g * k.g),
        d.o * k.o * (1 - k.o),
    )
    return Back(da, da, State(h=0, c=d.cell * k.f))


def output_forward(ax: Any, ah: Any, s: State, k: Opened) -> tuple[State, CellGates]:
    """Second stage: h' = o tanh(n), n the normalised c'; what is carried on is c' itself."""
    return State(h=k.o * tanh(ah[0]), c=k.cell), CellGates(k.i, k.f, k.g, k.o, ah[0])


def output_backward(d: State, k: CellGates, s: State, new: State) -> Back:
    """Return the gradients of `output_forward`, the first stage's values among them."""
    tn = tanh(k.n)
    return Back((), (d.h * k.o * (1 - tn * tn),), State(h=0, c=0), Opened(i=0, f=0, g=0, o=d.h * tn, cell=d.c))


LSTM_LAYER_NORM = Cell(
    "lstm_layer_norm",
    State,
    CellGates,
    (
        Stage(("i", "f", "g", "o"), cell_forward, cell_backward, norm=(4,)),
        Stage((), output_forward, output_backward, operand=("cell",), inputs=False, product=False, norm=(1,)),
    ),
    "Ba, Kiros & Hinton 2016, Layer normalization, equations 20 to 22",
    candidate="g",
)
GRU_LAYER_NORM = Cell(
    "gru_layer_norm",
    Hidden,
    AfterGates,
    (Stage(("r", "z", "n"), after_forward, after_backward, norm=(2, 1)),),
    "Ba, Kiros & Hinton 2016, Layer normalization, equations 23 to 26 (z in PyTorch's sense)",
    candidate="n",
)
