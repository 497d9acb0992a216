"""The simple recurrent unit (Lei et al. 2018): one product over all steps, and a highway past it."""

from typing import Any, NamedTuple

from .cell import Cell, Stage, Value
from .initial import fan_in, uniform, zeros
from .lstm import State
from .ops import sigmoid


class Settings(NamedTuple):
    """What x is multiplied with on the highway: sqrt(1 + 2 exp(b)), b being the reset gate's first bias, here 0."""

    alpha: float = 3**0.5


class Own(NamedTuple):
    """Weights from a unit's old cell to its own gates, each (H,): the paper's v_f and v_r."""

    f: Value
    r: Value


class Candidate(NamedTuple):
    """What the first stage hands on: g = W x, and m g, which recurrent dropout drops or scales."""

    g: Value
    mg: Value


class Gates(NamedTuple):
    """Candidate g = W x, forget gate f, reset gate r."""

    g: Value
    f: Value
    r: Value


def candidate_forward(ax: Any, ah: Any, s: State, p: Own, c: Settings, m: Value = 1) -> Candidate:
    """First stage: g = W x, which has no bias."""
    g = 1 * ax[0]
    return Candidate(g, m * g)


def sru_forward(ax: Any, ah: Any, s: State, k: Candidate, p: Own, c: Settings, x: Value) -> tuple[State, Gates]:
    """Second stage: c' = f c + (1 - f) g and h' = r c' + (1 - r) alpha x; both gates see the old cell of their unit."""
    f = sigmoid(ax[0] + p.f * s.c)
    r = sigmoid(ax[1] + p.r * s.c)
    cell = f * s.c + (1 - f) * k.mg
    return State(h=r * cell + (1 - r) * (c.alpha * x), c=cell), Gates(k.g, f, r)


SRU = Cell(
    "sru",
    State,
    Gates,
    (
        Stage(("g",), candidate_forward, operand=None, biases=()),
        Stage(("f", "r"), sru_forward, operand=None, biases=("ih",)),
    ),
    "Lei et al. 2018, Simple recurrent units for highly parallelizable recurrence",
    params=Own,
    params_name="weight_c",
    candidate="g",
    settings=Settings(),
    initial={
        "weight_ih.g": fan_in(1),
        "weight_ih.f": fan_in(1 / 2),
        "weight_ih.r": fan_in(1 / 2),
        "bias_ih": zeros,
        "weight_x": fan_in(1),
        "weight_c": uniform(1.5**0.5),
    },
)
