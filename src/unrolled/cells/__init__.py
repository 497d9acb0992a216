"""The maths: one file a family, elementwise. No product, no time loop, no files; imports nothing of ours but errors."""

from ..errors import UnrolledError, suggest
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

FAMILIAR = {"gru": "gru_reset_after", "rnn": "rnn_tanh", "vanilla": "rnn_tanh"}
"""Names of cells in other programs -> names here: PyTorch's GRU, and the recurrence with a tanh."""


def find_cell(cell: str | Cell) -> Cell:
    """Return the cell of that name, in any case, or of a familiar one; or the object itself.

    Examples
    --------
    >>> find_cell("LSTM").name, find_cell("gru").name, find_cell("vanilla").name
    ('lstm', 'gru_reset_after', 'rnn_tanh')
    """
    if isinstance(cell, Cell):
        return cell
    lower = cell.lower() if isinstance(cell, str) else ""
    known = [name for name in (cell, lower, FAMILIAR.get(lower)) if isinstance(name, str) and name in CELLS]
    if not known:
        raise UnrolledError(suggest("cell", cell, [*CELLS, *FAMILIAR]))
    return CELLS[known[0]]


__all__ = ["CELLS", "Back", "Cell", "Stage", "Value", "check_contract", "find_cell"]
