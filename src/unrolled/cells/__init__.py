"""The maths: one file a family, elementwise. No product, no time loop, no files; imports nothing of ours but errors."""

from .cell import Back, Cell, Stage, Value
from .contract import check_contract
from .coupled import LSTM_COUPLED, MGU
from .greff import ABLATIONS
from .gru import GRU_RESET_AFTER, GRU_RESET_BEFORE
from .indrnn import INDRNN
from .layer_norm import GRU_LAYER_NORM, LSTM_LAYER_NORM
from .lstm import LSTM, LSTM_PEEPHOLE
from .rnn import RNN_RELU, RNN_TANH
from .use_gate import LSTM_USE_GATE

CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        RNN_TANH,
        RNN_RELU,
        INDRNN,
        LSTM,
        LSTM_PEEPHOLE,
        LSTM_COUPLED,
        LSTM_USE_GATE,
        LSTM_LAYER_NORM,
        *ABLATIONS,
        GRU_RESET_AFTER,
        GRU_RESET_BEFORE,
        GRU_LAYER_NORM,
        MGU,
    )
}

__all__ = ["CELLS", "Back", "Cell", "Stage", "Value", "check_contract"]
