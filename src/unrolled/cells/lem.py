"""Long expressive memory (Rusch et al. 2022): two states whose time steps are gates, the second driven by the first."""

from typing import Any, NamedTuple

from .cell import Cell, Stage, Value
from .ops import sigmoid, tanh


class State(NamedTuple):
    """State of a long expressive memory: h, the paper's y, and z; both (B, H)."""

    h: Value
    z: Value


class Memory(NamedTuple):
    """Values that stage one hands to stage two: both time steps, and the new z, its product's operand."""

    step_z: Value
    step_h: Value
    new_z: Value


class Gates(NamedTuple):
    """Time steps of z and of h: the paper's delta t, without a bar and with one."""

    step_z: Value
    step_h: Value


class Settings(NamedTuple):
    """The largest time step, at most 1."""

    dt: float = 1.0


def memory_forward(ax: Any, ah: Any, s: State, c: Any) -> Memory:
    """First stage: both steps, dt times a sigmoid, and z' = (1 - step_z) z + step_z tanh(a_z)."""
    step_z, step_h = c.dt * sigmoid(ax[0] + ah[0]), c.dt * sigmoid(ax[1] + ah[1])
    return Memory(step_z, step_h, s.z + step_z * (tanh(ax[2] + ah[2]) - s.z))


def output_forward(ax: Any, ah: Any, s: State, k: Memory, c: Any) -> tuple[State, Gates]:
    """Second stage: h' = (1 - step_h) h + step_h tanh(a_h), where a_h has seen the new z."""
    h = s.h + k.step_h * (tanh(ax[0] + ah[0]) - s.h)
    return State(h=h, z=k.new_z), Gates(k.step_z, k.step_h)


LEM = Cell(
    "lem",
    State,
    Gates,
    (
        Stage(("step_z", "step_h", "z"), memory_forward, biases=("ih",)),
        Stage(("h",), output_forward, operand=("new_z",), biases=("ih",)),
    ),
    "Rusch et al. 2022, Long expressive memory for sequence modeling, equation 3",
    settings=Settings(),
)
