"""Closed-form continuous-time cells (Hasani et al. 2022), without a backbone and with one: time gaps are an input."""

from typing import Any, NamedTuple

from .cell import Cell, Stage, Value
from .initial import glorot
from .ops import sigmoid, tanh
from .rnn import State


class Gates(NamedTuple):
    """Where a unit starts from, where it goes to, and how far it comes by the time of the step."""

    start: Value
    end: Value
    time: Value


class Shared(NamedTuple):
    """What a backbone hands to the four heads, (B, W)."""

    backbone: Value


class Settings(NamedTuple):
    """Activation of the backbone."""

    activation: str = "lecun_tanh"


def cfc_forward(ax: Any, ah: Any, s: State, dt: Value) -> tuple[State, Gates]:
    """Return h' = (1 - t) start + t end, t = sigmoid(rate dt + shift)."""
    start, end = tanh(ax[0] + ah[0]), tanh(ax[1] + ah[1])
    t = sigmoid((ax[2] + ah[2]) * dt + (ax[3] + ah[3]))
    return State(h=start + t * (end - start)), Gates(start, end, t)


def backbone_forward(ax: Any, ah: Any, s: State, c: Any) -> Shared:
    """First stage: what the input and the old state have in common for all heads."""
    return Shared(c.activation(ax[0] + ah[0]))


def heads_forward(ax: Any, ah: Any, s: State, k: Any, c: Any, dt: Value) -> tuple[State, Gates]:
    """Second stage: as `cfc_forward`, of the backbone's units alone."""
    start, end = tanh(ah[0]), tanh(ah[1])
    t = sigmoid(ah[2] * dt + ah[3])
    return State(h=start + t * (end - start)), Gates(start, end, t)


ROWS = ("start", "end", "rate", "shift")
PAPER = "Hasani et al. 2022, Closed-form continuous-time neural networks"
CFC = Cell(
    "cfc",
    State,
    Gates,
    (Stage(ROWS, cfc_forward, biases=("ih",)),),
    PAPER,
    initial={f"weight_{half}.{row}": glorot for half in ("ih", "hh") for row in ROWS},
)
CFC_BACKBONE = Cell(
    "cfc_backbone",
    State,
    Gates,
    (
        Stage(("backbone",), backbone_forward, biases=("ih",), width=2),
        Stage(ROWS, heads_forward, operand=("backbone",), inputs=False, biases=("hh",)),
    ),
    PAPER + ", with a backbone",
    settings=Settings(),
    initial={"weight_ih": glorot} | {f"weight_hh.{row}": glorot for row in ("backbone", *ROWS)},
)
