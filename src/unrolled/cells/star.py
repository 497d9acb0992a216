"""The stackable recurrent cell (Turkoglu et al. 2021): one gate, which alone sees the state."""

from typing import Any, NamedTuple

from .cell import Cell, Stage, Value
from .initial import orthogonal, zeros
from .ops import sigmoid, tanh
from .rnn import State


class Candidate(NamedTuple):
    """What the first stage hands on: z, and m z, which recurrent dropout drops or scales."""

    z: Value
    mz: Value


class Gates(NamedTuple):
    """Candidate z and gate k."""

    z: Value
    k: Value


def candidate_forward(ax: Any, ah: Any, s: State, m: Value = 1) -> Candidate:
    """First stage: z = tanh(ax_z), which does not see h."""
    z = tanh(ax[0])
    return Candidate(z, m * z)


def star_forward(ax: Any, ah: Any, s: State, k: Candidate) -> tuple[State, Gates]:
    """Second stage: h' = tanh((1 - gate) h + gate z), where the gate sees x and h."""
    gate = sigmoid(ax[0] + ah[0])
    return State(h=tanh(s.h + gate * (k.mz - s.h))), Gates(k.z, gate)


STAR = Cell(
    "star",
    State,
    Gates,
    (
        Stage(("z",), candidate_forward, operand=None, biases=("ih",)),
        Stage(("k",), star_forward, biases=("ih",)),
    ),
    "Turkoglu et al. 2021, Gating revisited: deep multi-layer RNNs that can be trained",
    candidate="z",
    initial={
        "weight_ih.z": orthogonal,
        "weight_ih.k": orthogonal,
        "weight_hh.k": orthogonal,
        "bias_ih": zeros,
    },
)
