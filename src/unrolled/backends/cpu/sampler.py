"""The native backend's sampling of tokens: a network's weights packed once, then many tokens a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...cells import Cell
from ...checks import NOT_FINITE, Array, as_floats, check_choice, check_size, check_weight
from ...errors import UnrolledError
from ..base import PAYS
from . import interpreter
from .arrays import contiguous, of_dtype
from .arrays import weights as arrays_of
from .layers import linear
from .threads import shares_units
from .weights import INPUTS

FORMS = ("float32", "bfloat16", "int8")
"""Forms that weights are packed in, in the engine's order."""


class Sampler:
    """A language network that feeds its own tokens back; the rule is `models.sampling.sample_token`'s.

    Parameters
    ----------
    cell : Cell
    kernels : bool
        Whether the engine has kernels of the cell's own; else the layers are interpreted.
    layers : list of dict
        Each layer's parameters by their local names.
    embedding : (V, E) or None
        None feeds one-hot vectors.
    weight, bias : (V, H), (V,)
        Of the decoder.
    state : State of (L, 1, H) arrays
        Where to start from.
    length : int
        How many tokens are likely to be drawn.
    weights : str
        Of the forms above, what a matrix is packed in where that holds its numbers exactly; else it is
        packed as it is. bfloat16 draws with the same bits as float32. int8 rounds what it
        multiplies to whole numbers, 32639 of them (at a depth above 518 fewer) from 0 to the largest.
    """

    def __init__(
        self,
        cell: Cell,
        kernels: bool,
        layers: Sequence[Mapping[str, Array]],
        embedding: Array | None,
        weight: Array,
        bias: Array,
        state: Any,
        length: int,
        weights: str = "float32",
        rows: int = 1,
    ) -> None:
        form, dtype = FORMS.index(check_choice("form of weights", weights, FORMS)), weight.dtype
        if form and dtype != np.float32:
            raise UnrolledError(f"weights={weights!r} are of float32 models; this one is {dtype}")
        hidden = weight.shape[1]
        layers = layers if kernels else [interpreter.through(cell, w, hidden, dtype) for w in layers]
        first = dict(layers[0])
        if embedding is not None and len(weight) <= PAYS * length:
            with np.errstate(all="ignore"):
                first |= {name: linear(embedding, None, first[name]) for name in INPUTS if name in first}
            embedding = None
        dims = [first["weight_ih"].shape[1], hidden, len(weight), rows, shares_units(rows)]
        all_layers = (first, *layers[1:])
        if kernels:
            given: list[Any] = [arrays_of(cell, w, dtype) for w in all_layers]
        else:
            given = [
                interpreter.step(cell, w, hidden, dtype, embedding is None and w is first, rows) for w in all_layers
            ]
        self._engine = of_dtype("Sampler", dtype)(
            cell.name if kernels else "",
            dims,
            given,
            None if embedding is None else contiguous(embedding, dtype),
            contiguous(weight, dtype),
            contiguous(bias, dtype),
            form,
        )
        self.rows, self._dtype, self._symbols = rows, dtype, len(weight)
        for row in range(rows):
            self.start(state, row)

    def start(self, state: Any, row: int = 0) -> None:
        """Let a row draw from this state from now on; the weights stay packed."""
        self._engine.set_state([contiguous(field[:, 0], self._dtype) for field in state], row)

    def sample(self, token: int, u: Array, temperature: float) -> list[int]:
        """Feed a token, sample the next with u[0], feed that, and so on; return what was drawn, one for each u.

        Several threads may call: each call is drawn whole, one after the other.
        """
        token, temperature = check_size("token", token, 0, self._symbols - 1), check_weight("temperature", temperature)
        drawn: list[int] = self.sample_rows(np.array([token]), as_floats("u", u, 1)[None], temperature)[0].tolist()
        return drawn

    def sample_rows(self, tokens: Array, u: Array, temperature: float) -> Array:
        """As `sample`, for each row: tokens (B,), u (B, N) -> (B, N); below 0 in u, 0 is fed and nothing drawn."""
        drawn = np.empty(u.shape, np.int64)
        if not self._engine.sample(contiguous(tokens, np.int64), contiguous(u, np.float64), temperature, drawn):
            raise UnrolledError(NOT_FINITE)
        return drawn
