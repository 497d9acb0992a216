"""The unit of the hierarchically gated recurrent network (Qin et al. 2023): a forget gate with a lower bound."""

from typing import Any, NamedTuple

from .cell import Cell, Stage, Value
from .initial import LINEAR
from .lstm import State
from .ops import sigmoid


class Settings(NamedTuple):
    """The forget gate's lower bound, which grows with a layer's depth, and the candidate's activation."""

    lower: float = 0.0
    activation: str = "silu"


class Gates(NamedTuple):
    """Forget gate f, candidate g, output gate o."""

    f: Value
    g: Value
    o: Value


def hgrn_forward(ax: Any, ah: Any, s: State, c: Any, m: Value = 1) -> tuple[State, Gates]:
    """Return c' = f c + (1 - f) g and h' = o c', where f = lower + (1 - lower) sigmoid(ax_f) and g = silu(ax_g)."""
    f = c.lower + (1 - c.lower) * sigmoid(ax[0])
    g, o = c.activation(ax[1]), sigmoid(ax[2])
    cell = f * s.c + (1 - f) * (m * g)
    return State(h=o * cell, c=cell), Gates(f, g, o)


HGRN = Cell(
    "hgrn",
    State,
    Gates,
    (Stage(("f", "g", "o"), hgrn_forward, operand=None, biases=("ih",)),),
    "Qin et al. 2023, Hierarchically gated recurrent neural network for sequence modeling, of real numbers",
    candidate="g",
    settings=Settings(),
    initial={"weight_ih": LINEAR},
)
