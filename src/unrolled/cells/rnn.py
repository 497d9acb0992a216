"""Simple recurrent networks (Elman 1990): h' = tanh(ax + ah), and the same with a rectifier (Le et al. 2015)."""

from typing import Any, NamedTuple

from .cell import Back, Cell, Stage, Value
from .ops import tanh, where


class State(NamedTuple):
    """State of a simple network or a GRU; h (B, H)."""

    h: Value


class Gates(NamedTuple):
    """A simple cell has no gates; its tape keeps the states alone."""


def tanh_forward(ax: Any, ah: Any, s: State) -> tuple[State, Gates]:
    """Return h' = tanh(ax + ah)."""
    return State(h=tanh(ax[0] + ah[0])), Gates()


def tanh_backward(d: State, k: Gates, s: State, new: State) -> Back:
    """Return da = dh' (1 - h'^2)."""
    da = (d.h * (1 - new.h * new.h),)
    return Back(da, da, State(h=0))


def relu_forward(ax: Any, ah: Any, s: State) -> tuple[State, Gates]:
    """Return h' = max(ax + ah, 0), written as a selection so that a NaN stays one."""
    a = ax[0] + ah[0]
    return State(h=where(a <= 0, 0, a)), Gates()


def relu_backward(d: State, k: Gates, s: State, new: State) -> Back:
    """Return da = dh' where h' > 0, else 0 (at 0 too, as in PyTorch)."""
    da = (where(new.h > 0, d.h, 0),)
    return Back(da, da, State(h=0))


RNN_TANH = Cell(
    "rnn_tanh", State, Gates, (Stage(("h",), tanh_forward, tanh_backward),), "Elman 1990, Finding structure in time"
)
RNN_RELU = Cell(
    "rnn_relu",
    State,
    Gates,
    (Stage(("h",), relu_forward, relu_backward),),
    "Le, Jaitly & Hinton 2015, A simple way to initialize recurrent networks of rectified linear units",
)
