"""The coupled oscillatory network (Rusch & Mishra 2021): units are damped springs that drive each other."""

from typing import Any, NamedTuple

from .cell import Cell, Stage, Value
from .initial import LINEAR
from .ops import tanh
from .rnn import Gates


class State(NamedTuple):
    """State of an oscillator: position h, the paper's y, and velocity z; both (B, H)."""

    h: Value
    z: Value


class Settings(NamedTuple):
    """Time step, squared frequency gamma and damping epsilon of every oscillator."""

    dt: float = 0.042
    gamma: float = 2.7
    epsilon: float = 4.7


def cornn_forward(ax: Any, ah: Any, s: State, c: Any) -> tuple[State, Gates]:
    """Return z' = z + dt (tanh(a) - gamma h - epsilon z) and h' = h + dt z'."""
    z = s.z + c.dt * (tanh(ax[0] + ah[0]) - c.gamma * s.h - c.epsilon * s.z)
    return State(h=s.h + c.dt * z, z=z), Gates()


CORNN = Cell(
    "cornn",
    State,
    Gates,
    (Stage(("z",), cornn_forward, operand=("h", "z"), biases=("ih",)),),
    "Rusch & Mishra 2021, Coupled oscillatory recurrent neural network, equation 3",
    settings=Settings(),
    initial={"weight_ih": LINEAR, "weight_hh": LINEAR},
)
