"""The GRU and the LSTM stripped until they run in parallel (Feng et al. 2024): gates see the input alone."""

from typing import Any, NamedTuple

from .cell import Cell, Stage, Value
from .initial import LINEAR
from .ops import exp, maximum, sigmoid
from .rnn import State


class Settings(NamedTuple):
    """Activation of the candidate: "positive", as in the paper's log-space form, or "identity", as in its first one."""

    activation: str = "positive"


class GruGates(NamedTuple):
    """Update gate z and candidate n."""

    z: Value
    n: Value


class LstmGates(NamedTuple):
    """Forget gate f and input gate i, of sum 1, and candidate n."""

    f: Value
    i: Value
    n: Value


def gru_forward(ax: Any, ah: Any, s: State, c: Any, m: Value = 1) -> tuple[State, GruGates]:
    """Return h' = (1 - z) h + z n, where neither z nor n sees h; m drops or scales n."""
    z, n = sigmoid(ax[0]), c.activation(ax[1])
    return State(h=s.h + z * (m * n - s.h)), GruGates(z, n)


def lstm_forward(ax: Any, ah: Any, s: State, c: Any, m: Value = 1) -> tuple[State, LstmGates]:
    """Return h' = f h + i n with f = sf / (sf + si) and i = si / (sf + si), where sf and si are two sigmoids.

    Both are divided by exp(top), so that gates far in the negative are still told apart, where sf = si = 0.
    """
    top = maximum(0, maximum(-ax[0], -ax[1]))
    over_f, over_i = exp(-top) + exp(-ax[0] - top), exp(-top) + exp(-ax[1] - top)  # 1 / sf and 1 / si, divided
    share = 1 / (over_f + over_i)
    f, i, n = over_i * share, over_f * share, c.activation(ax[2])
    return State(h=f * s.h + i * (m * n)), LstmGates(f, i, n)


PAPER = "Feng et al. 2024, Were RNNs all we needed?"
MIN_GRU = Cell(
    "min_gru",
    State,
    GruGates,
    (Stage(("z", "n"), gru_forward, operand=None, biases=("ih",)),),
    PAPER,
    candidate="n",
    settings=Settings(),
    initial={"weight_ih": LINEAR},
)
MIN_LSTM = Cell(
    "min_lstm",
    State,
    LstmGates,
    (Stage(("f", "i", "n"), lstm_forward, operand=None, biases=("ih",)),),
    PAPER,
    candidate="n",
    settings=Settings(),
    initial={"weight_ih": LINEAR},
)
