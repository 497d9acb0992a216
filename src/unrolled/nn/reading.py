"""What a network's stack reads: tokens, words with their spelling, or numbers; forward beside backward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..checks import Array, array_dtype, read_only
from . import embedding, spelling
from .masks import Masks, drop_input, drop_words
from .network_weights import TABLE, WeightedNetwork
from .params import Params
from .recurrent import Recurrent


class Read(NamedTuple):
    """What was read: the stack's input, and what its gradient needs."""

    x: Array
    """(T, B, I) numbers, or (T, B) integers that stand for one-hot vectors."""
    tokens: Array
    """As the table was asked for them, (T, B); the network's input where it has no table."""
    folded: bool = False
    """Whether the first layer reads one-hot vectors through the product of its weight and the embedding's."""
    spelled: spelling.Spelled | None = None


class ReadingNetwork(WeightedNetwork):
    """A network as far as its stack's input; `Network` says what it is made of."""

    def _read(
        self, tokens: Array, masks: Masks | None = None, *, fold: bool = True, record: bool = True
    ) -> tuple[Recurrent, Read]:
        """Give the recurrent stack, and what it reads."""
        weight, stack, spec = self._params.get(TABLE), self._recurrent, self.spec
        dropped = masks is not None and "input" in masks
        if weight is None:
            hot = tokens.dtype.kind in "iu" and (dropped or not fold)
            x = np.eye(stack.input_size, dtype=array_dtype(stack.dtype))[tokens] if hot else tokens
            return stack, Read(read_only(drop_input(self._backend, x, masks, spec.input_dropout)), tokens)
        ids = read_only(drop_words(tokens[..., 0] if spec.characters else tokens, masks))
        fold = fold and not stack.cell.sees_x  # which is the embedded symbol, not its number
        if fold and not (dropped or spec.characters) and embedding.folds(weight, ids, masks):
            return embedding.folded(self._backend, weight, stack), Read(ids, ids, folded=True)
        x, spelled = embedding.embed(self._backend, weight, ids, masks, spec.embedding_dropout), None
        if self._speller is not None:
            table = self._params[f"characters.{TABLE}"]
            more, spelled = spelling.encode(self._backend, table, self._speller, tokens[..., 1:], record=record)
            x = np.concatenate([x, more], axis=-1)
        return stack, Read(read_only(drop_input(self._backend, x, masks, spec.input_dropout)), ids, spelled=spelled)

    def _read_backward(
        self, params: Mapping[str, Array], read: Read, masks: Masks | None, dx: Array | None, grads: dict[str, Array]
    ) -> Array | None:
        """Return the gradient of the embedded tokens; that of the stack's parameters, `grads`, becomes that of all."""
        spec, table = self.spec, "embedding.weight"
        if read.folded:
            weight = params[table]
            for first in (f"recurrent.{name}" for name in self._recurrent.first):
                part, grads[first] = embedding.fold_backward(self._backend, weight, params[first], grads[first])
                grads[table] = grads[table] + part if table in grads else part
        if dx is None:
            return None
        dx = drop_input(self._backend, dx, masks, spec.input_dropout)
        if not spec.embedding_size:
            return dx
        dwords = np.ascontiguousarray(dx[..., : spec.embedding_size])
        grads[table], dwords = embedding.embed_backward(
            self._backend, spec.vocabulary_size, read.tokens, masks, spec.embedding_dropout, dwords
        )
        if self._speller is None or read.spelled is None:
            return dwords
        dspelled, characters = dx[..., spec.embedding_size :], f"characters.{table}"
        speller = self._speller._with(Params(self._own("characters.recurrent.", params)))
        grads[characters], own = spelling.encode_backward(
            self._backend, params[characters], speller, read.spelled, dspelled
        )
        grads |= {f"characters.recurrent.{name}": g for name, g in own.items()}
        return np.concatenate([dwords, dspelled], axis=-1)
