"""The maths: one file a family, elementwise. No product, no time loop, no files; imports nothing of ours but errors."""

from dataclasses import replace

from ..errors import UnrolledError, brief, suggest
from .cell import Back, Cell, Stage, Value
from .cfc import CFC, CFC_BACKBONE
from .contract import check_contract
from .cornn import CORNN
from .coupled import LSTM_COUPLED, MGU
from .fingerprint import fingerprint
from .greff import ABLATIONS
from .gru import GRU_RESET_AFTER, GRU_RESET_BEFORE
from .hgrn import HGRN
from .indrnn import INDRNN
from .layer_norm import GRU_LAYER_NORM, LSTM_LAYER_NORM
from .lem import LEM
from .ligru import LIGRU, LIGRU_LAYER_NORM
from .lru import LRU, RG_LRU
from .lstm import LSTM, LSTM_PEEPHOLE
from .minimal import MIN_GRU, MIN_LSTM
from .name import LONGEST, CellName, same
from .qrnn import QUASI_RECURRENT
from .rnn import RNN_RELU, RNN_TANH
from .slstm import SLSTM
from .sru import SRU
from .star import STAR
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
        SLSTM,
        LRU,
        RG_LRU,
        LEM,
        CORNN,
        CFC,
        CFC_BACKBONE,
        MIN_GRU,
        MIN_LSTM,
        SRU,
        *QUASI_RECURRENT,
        LIGRU,
        LIGRU_LAYER_NORM,
        STAR,
        HGRN,
    )
}

FAMILIAR = {"gru": "gru_reset_after", "rnn": "rnn_tanh", "vanilla": "rnn_tanh", "qrnn": "qrnn_fo_w2"}
"""Names of cells in other programs -> names here: PyTorch's GRU, the recurrence with a tanh, a family's chief form."""

OWN: dict[str, Cell] = {}
"""Cells that were registered, by name."""
MATRIX = "mlstm"
"""What is called so is a layer, and no cell."""


def register(cell: Cell) -> Cell:
    """Let a cell of your own be found by its name, as the built-in ones are, and return it.

    That is for this process alone: a program that loads a model with this cell registers it, or hands it in.

    Raises
    ------
    UnrolledError
        If a built-in, or another cell that is registered, has the name.

    Examples
    --------
    >>> import unrolled as ur
    >>> from dataclasses import replace
    >>> mine = ur.cells.register(replace(CELLS["lstm"], name="my_lstm"))
    >>> ur.Recurrent("my_lstm", 4, 5).cell is mine
    True
    """
    if not isinstance(cell, Cell):
        raise UnrolledError(f"register was given {brief(cell)}; expected a Cell")
    _check_own(cell)
    if not cell.name.isidentifier() or len(cell.name) > LONGEST:
        raise UnrolledError(
            f"register was given a cell that is called {brief(cell.name)}; expected a name of letters, digits and _, "
            f"of at most {LONGEST} characters"
        )
    other = OWN.setdefault(cell.name, cell)
    if not same(cell, other):
        raise UnrolledError(f"another cell is registered as {brief(cell.name)}; give this one a name of its own")
    OWN[cell.name] = cell
    return cell


def name_of(cell: str | Cell, given: str = "") -> str:
    """Return what a cell is called in options and files: a built-in's name, or a `CellName`, with its cell.

    `given` is how the user named it, where that is another way (`CellName.given`).

    Raises
    ------
    UnrolledError
        If no cell has that name, or a user's own has a built-in's.

    Examples
    --------
    >>> name_of("GRU"), name_of(CELLS["lstm"])
    ('gru_reset_after', 'lstm')
    """
    if isinstance(cell, CellName) and cell.cell is None:
        return cell
    found = find_cell(cell)
    if CELLS.get(found.name) == found:
        return found.name
    _check_own(found)
    return cell if isinstance(cell, CellName) else CellName(found, given)


def _check_own(cell: Cell) -> None:
    """Refuse a user's own cell that is called like a built-in."""
    other = CELLS.get(cell.name)
    if other is not None and other == replace(cell, settings=other.settings):
        said = ",".join(f"{name}={value}" for name, value in zip(cell.settings._fields, cell.settings, strict=True))
        raise UnrolledError(f"a file has no {brief(cell.name)} with settings of its own; write cell_settings={said!r}")
    if cell.name.lower() in (*CELLS, *FAMILIAR, MATRIX):
        kind = "layer" if cell.name.lower() == MATRIX else "cell"
        raise UnrolledError(f"cell {brief(cell.name)}: a built-in {kind} is called so; give yours a name of its own")


def find_cell(cell: str | Cell) -> Cell:
    """Return the cell of that name, in any case, of a familiar one, or one that was registered; or the object itself.

    Examples
    --------
    >>> find_cell("LSTM").name, find_cell("gru").name, find_cell("vanilla").name
    ('lstm', 'gru_reset_after', 'rnn_tanh')
    """
    if isinstance(cell, CellName):
        if cell.cell is None:
            raise UnrolledError(cell.why)
        return cell.cell
    if isinstance(cell, Cell):
        return cell
    lower = cell.lower() if isinstance(cell, str) else ""
    known = [name for name in (cell, lower, FAMILIAR.get(lower)) if isinstance(name, str) and name in CELLS]
    if known:
        return CELLS[known[0]]
    if isinstance(cell, str) and cell in OWN:
        return OWN[cell]
    if lower == MATRIX:
        raise UnrolledError(
            "mlstm has a matrix memory and is no cell; it is a layer, ur.MLSTM(input_size, hidden_size)"
        )
    raise UnrolledError(suggest("cell", cell, [*CELLS, *FAMILIAR, *OWN]))


__all__ = [
    "CELLS",
    "OWN",
    "Back",
    "Cell",
    "CellName",
    "Stage",
    "Value",
    "check_contract",
    "find_cell",
    "fingerprint",
    "name_of",
    "register",
]
