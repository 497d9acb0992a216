"""The maths: one file a family, elementwise. No product, no time loop, no files; imports nothing of ours."""

from .cell import Back, Cell, Stage, Value
from .gru import GRU_RESET_AFTER, GRU_RESET_BEFORE
from .lstm import LSTM, LSTM_PEEPHOLE
from .rnn import RNN_RELU, RNN_TANH

CELLS: dict[str, Cell] = {
    cell.name: cell for cell in (RNN_TANH, RNN_RELU, LSTM, LSTM_PEEPHOLE, GRU_RESET_AFTER, GRU_RESET_BEFORE)
}

__all__ = ["CELLS", "Back", "Cell", "Stage", "Value"]
