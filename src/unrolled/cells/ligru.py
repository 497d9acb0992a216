"""The light GRU (Ravanelli et al. 2018): no reset gate, and a rectifier for the candidate; and with normalised rows."""

from typing import Any, NamedTuple

from .cell import Cell, Stage, Value
from .initial import glorot, orthogonal, zeros
from .ops import sigmoid
from .rnn import State


class Settings(NamedTuple):
    """Activation of the candidate."""

    activation: str = "relu"


class Gates(NamedTuple):
    """Update gate z and candidate n."""

    z: Value
    n: Value


def ligru_forward(ax: Any, ah: Any, s: State, c: Any, m: Value = 1) -> tuple[State, Gates]:
    """Return h' = z h + (1 - z) n with n = relu(ax_n + ah_n); m drops or scales n."""
    z, n = sigmoid(ax[0] + ah[0]), c.activation(ax[1] + ah[1])
    mn = m * n
    return State(h=mn + z * (s.h - mn)), Gates(z, n)


INITIAL = {
    "weight_ih.z": glorot,
    "weight_ih.n": glorot,
    "weight_hh.z": orthogonal,
    "weight_hh.n": orthogonal,
    "bias_ih": zeros,
}
LIGRU = Cell(
    "ligru",
    State,
    Gates,
    (Stage(("z", "n"), ligru_forward, biases=("ih",)),),
    "Ravanelli et al. 2018, Light gated recurrent units for speech recognition, without its batch normalisation",
    candidate="n",
    settings=Settings(),
    initial=INITIAL,
)
LIGRU_LAYER_NORM = Cell(
    "ligru_layer_norm",
    State,
    Gates,
    (Stage(("z", "n"), ligru_forward, biases=("ih",), norm=(2,)),),
    "Moumen & Parcollet 2023, Stabilising and accelerating light gated recurrent units for speech recognition",
    candidate="n",
    settings=Settings(),
    initial=INITIAL,
)
