"""PyTorch's names for stacks of one family of cells: `RNN`, `LSTM` and `GRU`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cells import CELLS, Cell, find_cell
from ..errors import UnrolledError, brief, suggest
from ..keywords import keyword, named
from .recurrent import Recurrent
from .weights import KEYWORDS


class RNN(Recurrent):
    """A stack of simple recurrent layers, `cell="rnn_tanh"` or `"rnn_relu"`; the rest as `Recurrent`.

    PyTorch's way to name the cell will do: `nonlinearity="tanh"` or `"relu"`.

    Examples
    --------
    >>> import unrolled as ur
    >>> ur.RNN(4, 5, nonlinearity="relu").cell.name
    'rnn_relu'
    """

    @named([keyword("cell", "rnn_tanh", "str | Cell"), keyword("nonlinearity", None, "str | None"), *KEYWORDS])
    def __init__(
        self, input_size: int, hidden_size: int | Sequence[int], num_layers: int | None = None, **options: Any
    ) -> None:
        if (kind := options.pop("nonlinearity", None)) is not None:
            if not isinstance(kind, str) or kind not in ("tanh", "relu"):
                raise UnrolledError(suggest("nonlinearity", kind, ["tanh", "relu"]))
            if find_cell(options.setdefault("cell", f"rnn_{kind}")).name != f"rnn_{kind}":
                raise UnrolledError(f"nonlinearity is {brief(kind)}, cell is {brief(options['cell'])}; leave one out")
        super().__init__(_family("RNN", "rnn", options), input_size, hidden_size, num_layers, **options)


class LSTM(Recurrent):
    """A stack of LSTM layers, `cell="lstm"` or another of the family; the rest as `Recurrent`.

    Examples
    --------
    >>> import unrolled as ur
    >>> lstm = ur.LSTM(4, 5, num_layers=2)
    >>> lstm.params["weight_hh_l1"].shape
    (20, 5)
    """

    @named([keyword("cell", "lstm", "str | Cell"), *KEYWORDS])
    def __init__(
        self, input_size: int, hidden_size: int | Sequence[int], num_layers: int | None = None, **options: Any
    ) -> None:
        super().__init__(_family("LSTM", "lstm", options), input_size, hidden_size, num_layers, **options)


class GRU(Recurrent):
    """A stack of GRU layers, `cell="gru_reset_after"` (PyTorch's) or `"gru_reset_before"`; the rest as `Recurrent`."""

    @named([keyword("cell", "gru_reset_after", "str | Cell"), *KEYWORDS])
    def __init__(
        self, input_size: int, hidden_size: int | Sequence[int], num_layers: int | None = None, **options: Any
    ) -> None:
        super().__init__(_family("GRU", "gru", options), input_size, hidden_size, num_layers, **options)


def _family(kind: str, prefix: str, options: dict[str, Any]) -> Cell:
    """Take `cell` out of the options, by default the family's first; refuse another family's."""
    family = [name for name in CELLS if name.startswith(prefix)]
    cell = find_cell(options.pop("cell", family[0]))
    if cell.name in CELLS and cell.name not in family:
        raise UnrolledError(f"ur.{kind} takes the cells {', '.join(family)}; for {cell.name} use ur.Recurrent")
    return cell
