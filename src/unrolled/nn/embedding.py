"""Tokens -> what a stack reads, forward beside backward: rows of a table, or one-hot vectors through a folded one.

Picking rows of E and multiplying them by Wih is picking columns of Wih E^T. That product has a column for each symbol,
so it is the cheaper one where symbols are fewer than tokens (and none is dropped); the stack reads one-hot vectors.
"""

from __future__ import annotations

import numpy as np

from ..backends.base import Backend
from ..checks import Array, read_only
from .masks import Masks
from .recurrent import Recurrent


def folds(weight: Array, tokens: Array, masks: Masks | None) -> bool:
    """Whether an embedding (V, E) is rather folded into the first layer's weight than looked up."""
    return len(weight) <= tokens.size and not (masks is not None and "embedding" in masks)


def fold(backend: Backend, weight: Array, first: Array) -> Array:
    """E (V, E), Wih (R H, E) -> Wih E^T (R H, V): what the first layer reads one-hot vectors by."""
    return np.ascontiguousarray(backend.linear(weight, None, first))


def folded(backend: Backend, weight: Array, stack: Recurrent) -> Recurrent:
    """Return the stack that reads one-hot vectors through the product of its first weights and E."""
    columns = {name: read_only(fold(backend, weight, stack.params[name])) for name in stack.first}
    return stack._reading(len(weight), columns)


def fold_backward(backend: Backend, weight: Array, first: Array, dcolumns: Array) -> tuple[Array, Array]:
    """Gradients of E and of Wih from that of their product (R H, V)."""
    dfirst, dweight, _ = backend.linear_backward(weight, first, dcolumns)
    return dweight, np.ascontiguousarray(dfirst)


def embed(backend: Backend, weight: Array, tokens: Array, masks: Masks | None, rate: float) -> Array:
    """E (V, E), tokens (T, B) -> x (T, B, E); `rate` is that of symbols' dropout."""
    return drop_symbols(backend, backend.embed(weight, tokens), tokens, masks, rate)


def embed_backward(
    backend: Backend, size: int, tokens: Array, masks: Masks | None, rate: float, dx: Array
) -> tuple[Array, Array]:
    """Gradients of E and of its picked rows (T, B, E), from that of x."""
    dx = drop_symbols(backend, dx, tokens, masks, rate)
    return backend.embed_backward(tokens, dx, size), dx


def drop_symbols(backend: Backend, x: Array, tokens: Array, masks: Masks | None, rate: float) -> Array:
    """Dropout of whole symbols; its own gradient."""
    if masks is None or "embedding" not in masks:
        return x
    return backend.dropout(x, masks["embedding"][tokens][..., None], rate)
