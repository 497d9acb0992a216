"""The entropies of a text, to set a loss against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UnrolledError, count
from ..batches import Tokens, as_tokens
from .vocabulary import check_range

MOST_DENSE = 2048
"""Symbols whose pairs are counted in a table of all pairs."""


def unigram_entropy(tokens: Sequence[int] | NDArray[Any], size: int) -> float:
    """Entropy of the symbols' frequencies, H(x), in nats per symbol: the loss of knowing only how often each occurs.

    H(x) = -sum_a p(a) log p(a), with p(a) = n(a) / N.

    Parameters
    ----------
    tokens : (N,) integers below `size`
    size : V, the vocabulary's

    Raises
    ------
    UnrolledError
        If there is no token, or one is outside the vocabulary.

    Examples
    --------
    >>> print(f"{unigram_entropy([0, 1, 0, 1], 2) / np.log(2):.12f} bits")
    1.000000000000 bits
    """
    counts = unigram_counts(tokens, size)
    return max(0.0, (_n_log_n(counts.sum(keepdims=True)) - _n_log_n(counts)) / int(counts.sum()))


def unigram_counts(tokens: Sequence[int] | NDArray[Any], size: int) -> NDArray[np.integer[Any]]:
    """Return how often each symbol occurs, (V,), in tokens (N,) below `size`; errors are those of `unigram_entropy`.

    Examples
    --------
    >>> unigram_counts([0, 3, 0], 4)
    array([2, 0, 0, 1])
    """
    pieces = _pieces(_for_entropy(tokens, size, 1))
    return np.asarray(sum(np.bincount(part, minlength=size) for part in pieces))


def bigram_entropy(tokens: Sequence[int] | NDArray[Any], size: int) -> float:
    """Entropy of a symbol given the one before, H(x_t | x_{t-1}), in nats per symbol.

    The loss, on the text itself, of knowing exactly how often each symbol follows each other one:
    -sum_ab p(a, b) log p(b | a), with p(a, b) = n(a, b) / (N - 1) and p(b | a) = n(a, b) / n(a, .). A model that has
    learned more than pairs goes below it.

    Parameters
    ----------
    tokens : (N,) integers below `size`, N at least 2
    size : V, the vocabulary's

    Raises
    ------
    UnrolledError
        If there are fewer than two tokens, or one is outside the vocabulary.

    Examples
    --------
    >>> bigram_entropy([0, 1, 0, 1, 0], 2)  # each symbol tells the next
    0.0
    >>> print(f"{bigram_entropy([0, 0, 1, 0, 0, 1, 0], 2) / np.log(2):.12f} bits")  # 0 tells nothing, 1 all: 4 / 6
    0.666666666667 bits
    """
    ids = _for_entropy(tokens, size, 2)
    dense = size <= MOST_DENSE and size * size <= max(len(ids), 1 << 20)  # all pairs, or only those that occur
    first: Any = 0
    joint: Any = np.zeros(size * size, np.int64) if dense else (np.empty(0, np.int64), np.empty(0, np.int64))
    for part in _pieces(ids, overlap=1):
        pairs = part[:-1].astype(np.int64) * size + part[1:]
        first = first + np.bincount(part[:-1], minlength=size)
        if dense:
            joint += np.bincount(pairs, minlength=size * size)
        else:
            found, counts = np.unique(pairs, return_counts=True)
            both, where = np.unique(np.concatenate([joint[0], found]), return_inverse=True)
            joint = both, np.bincount(where, np.concatenate([joint[1], counts])).astype(np.int64)
    return max(0.0, (_n_log_n(first) - _n_log_n(joint if dense else joint[1])) / (len(ids) - 1))


def _pieces(ids: Tokens, overlap: int = 0) -> Iterator[Tokens]:
    """Pieces of tokens (N,), so that a text larger than the memory is never copied whole."""
    step = 1 << 22
    for start in range(0, len(ids) - overlap, step):
        yield np.asarray(ids[start : start + step + overlap])


def _for_entropy(tokens: Sequence[int] | NDArray[Any], size: int, fewest: int) -> Tokens:
    ids = as_tokens(tokens)
    if len(ids) < fewest:
        raise UnrolledError(f"the text has {count(len(ids), 'token')}; its entropy needs at least {fewest}")
    check_range(ids, size)
    return ids.astype(np.int64) if ids.dtype == np.uint64 else ids  # bincount takes no uint64


def _n_log_n(counts: NDArray[np.integer[Any]]) -> float:
    n = counts[counts > 0].astype(np.float64)
    return float(np.sum(n * np.log(n)))
