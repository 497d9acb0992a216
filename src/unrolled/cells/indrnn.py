"""The independently recurrent network: units that see the input and themselves, but not each other."""

from typing import Any, NamedTuple

from .cell import Back, Cell, Stage, Value
from .ops import where
from .rnn import Gates, State


class Own(NamedTuple):
    """A unit's weight of its own old state, (H,)."""

    u: Value


def indrnn_forward(ax: Any, ah: Any, s: State, p: Own) -> tuple[State, Gates]:
    """Return h' = max(ax + u h + b, 0); there is no product, so ah is the second bias alone."""
    a = ax[0] + ah[0] + p.u * s.h
    return State(h=where(a <= 0, 0, a)), Gates()


def indrnn_backward(d: State, k: Gates, s: State, new: State, p: Own) -> Back:
    """Return da = dh' where h' > 0, else 0; each unit's old state is reached through its own u."""
    a = where(new.h > 0, d.h, 0)
    return Back((a,), (a,), State(h=a * p.u), None, Own(a * s.h))


INDRNN = Cell(
    "indrnn",
    State,
    Gates,
    (Stage(("h",), indrnn_forward, indrnn_backward, operand=None),),
    "Li et al. 2018, Independently recurrent neural network (IndRNN)",
    params=Own,
    params_name="weight_own",
)
