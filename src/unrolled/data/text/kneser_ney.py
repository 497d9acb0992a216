"""Counts of n-grams, smoothed: what knowing nothing but the last symbols gives, to set a loss against.

Interpolated modified Kneser-Ney (Kneser & Ney 1995; Chen & Goodman 1999, section 3): of a symbol w behind a context h,

    p_n(w | h) = (c(h w) - D(c(h w))) / c(h .) + gamma(h) p_{n-1}(w | h'),    gamma(h) = sum_w D(c(h w)) / c(h .)

h' is h without its first symbol. c counts how often an n-gram occurs at the highest order, and at the lower ones how
many different symbols it occurs behind. D(0) = 0, and with n_k the number of n-grams of that order whose c is k,
Y = n_1 / (n_1 + 2 n_2) and D(k) = k - (k + 1) Y n_{k+1} / n_k for k = 1, 2 and 3, which stands for all above. p_0 is
the same for all V symbols. A context that never occurs leaves p_n to p_{n-1}.

Letters: N tokens, E of them to predict, V symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import UnrolledError
from ..batches import Tokens, as_tokens, check_documents
from .vocabulary import check_range

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]

DISCOUNTS = 0.5, 1.0, 1.5
"""D(1), D(2) and D(3) where the counts of counts give none: where there are few kinds of n-grams."""

ORDER = 5
"""Symbols of the longest n-grams."""


@dataclass(frozen=True)
class Laid:
    """A text with the context of its first symbols written out: the beginning of a document is no symbol of the text.

    Attributes
    ----------
    symbols : (M,) tokens; V where a document has not begun yet
    events : (M,) bool: which of them are predicted, from those before them
    """

    symbols: Counts
    events: NDArray[np.bool_]


def laid(tokens: Tokens, size: int, documents: Tokens | None = None) -> Laid:
    """Lay out a text (N,) whose first token is not predicted, nor is anything from another document.

    The newline between two documents is predicted from the first one, and is the first token of the second.

    Examples
    --------
    >>> text = laid(np.array([0, 1, 0, 1]), 2, np.array([2]))
    >>> text.symbols.tolist(), text.symbols[text.events].tolist()
    ([2, 2, 2, 0, 1, 0, 2, 2, 2, 0, 1], [1, 0, 1])
    """
    tokens = as_tokens(tokens)
    begins = np.zeros(1, np.int64)
    if documents is not None:
        begins = np.union1d(begins, check_documents(documents, len(tokens))).astype(np.int64)
    unknown = np.tile(np.append(np.ones(ORDER - 2, bool), False), len(begins))
    more = np.where(unknown, size, np.repeat(tokens[begins].astype(np.int64), ORDER - 1))
    places = np.repeat(begins + 1, ORDER - 1)
    symbols = np.insert(tokens.astype(np.int64), places, more)[1:]
    events = np.insert(np.ones(len(tokens), bool), places, False)[1:]
    return Laid(symbols, events)


@dataclass(frozen=True)
class Order:
    """The n-grams of one order: sorted keys (K,) of a context and a symbol, and what they and contexts (C,) count.

    Attributes
    ----------
    keys : (K,) rank of the context among the (n - 1)-grams, times V + 1, plus the last symbol
    top : pair of (K,) discounted shares and (C,) gammas where this is the highest order
    low : the same where it is a lower one; None of the highest
    """

    keys: Counts
    top: tuple[Numbers, Numbers]
    low: tuple[Numbers, Numbers] | None


class KneserNey:
    """Counts of a text, that predict another one.

    Parameters
    ----------
    tokens : (N,) integers below `size`, at least two
    size : V, the vocabulary's
    documents : (D - 1,), optional
        Where documents begin, if nothing is predicted from another document than its own.

    Raises
    ------
    UnrolledError
        If there are fewer than two tokens, or one is outside the vocabulary.

    Examples
    --------
    >>> counts = KneserNey(np.array([0, 1, 0, 1, 0, 2]), 3)
    >>> [round(float(np.exp(counts.log_probabilities(np.array([0, w]))[1][0])), 4) for w in range(3)]
    [0.1667, 0.5, 0.3333]
    """

    def __init__(self, tokens: Tokens, size: int, documents: Tokens | None = None) -> None:
        self.size = size
        text = self._laid(tokens, documents)
        self.orders: list[Order] = []
        ranks = np.zeros(len(text.symbols) + 1, np.int64)
        grams = _grams(ranks, text, size, 1)
        for n in range(1, ORDER + 1):
            keys, _, ranks, counts = grams
            low = None
            if n < ORDER:
                grams = _grams(ranks, text, size, n + 1)
                behind = ranks[grams[1] + 1][grams[3] > 0]  # the ending of every longer one, once
                low = np.bincount(behind, minlength=len(keys))
            contexts = keys // (size + 1)
            top = _shares(counts, contexts)
            self.orders.append(Order(keys, top, None if low is None else _shares(low, contexts)))

    def _laid(self, tokens: Tokens, documents: Tokens | None) -> Laid:
        if len(tokens) < 2:
            raise UnrolledError(f"a text of {len(tokens)} tokens has nothing to count; give at least 2")
        check_range(tokens, self.size)
        return laid(tokens, self.size, documents)

    def log_probabilities(self, tokens: Tokens, documents: Tokens | None = None) -> list[Numbers]:
        """Return the log-probabilities (N - 1,) of all tokens of a text but the first, by counts of orders 1 to ORDER.

        Each order is a model of its own, whose highest order it is.
        """
        return [np.log(chances) for chances in self._chances(self._laid(tokens, documents))]

    def _chances(self, text: Laid) -> Iterator[Numbers]:
        """Yield the probabilities of what is predicted, order by order."""
        places = np.flatnonzero(text.events)
        ranks = np.zeros(len(text.symbols) + 1, np.int64)
        below = np.full(len(places), 1 / self.size)
        for n, order in enumerate(self.orders, start=1):
            keys = ranks[: len(text.symbols) - n + 1] * (self.size + 1) + text.symbols[n - 1 :]
            context = ranks[places - n + 1]
            near = np.minimum(np.searchsorted(order.keys, keys), len(order.keys) - 1)
            ranks = np.where(order.keys[near] == keys, near, -1)  # what is longer than an unknown one is unknown
            gram = ranks[places - n + 1]
            yield _interpolated(order.top, gram, context, below)
            if order.low is not None:
                below = _interpolated(order.low, gram, context, below)


def _grams(
    ranks: Counts, text: Laid, size: int, n: int
) -> tuple[Counts, NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the n-grams of a text, given the ranks of the shorter ones: keys, a place of each, ranks, counts.

    The n-gram at place i begins there. Counted is what is predicted; the others are contexts alone.
    """
    symbols = text.symbols[n - 1 :]
    keys, first, which = np.unique(ranks[: len(symbols)] * (size + 1) + symbols, return_index=True, return_inverse=True)
    return keys, first, which, np.bincount(which[text.events[n - 1 :]], minlength=len(keys))


def _shares(counts: NDArray[np.integer], contexts: Counts) -> tuple[Numbers, Numbers]:
    """Return the discounted share of each n-gram (K,) in its context, and the gamma of each context (C,)."""
    discounts = np.array([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
    total = np.bincount(contexts, counts)
    gamma = np.divide(np.bincount(contexts, discounts), total, out=np.ones(len(total)), where=total > 0)
    return (counts - discounts) / np.maximum(total, 1)[contexts], gamma


def _discounts(counts: NDArray[np.integer]) -> tuple[float, float, float]:
    """Return D(1), D(2) and D(3) of counts (K,): from n_1 to n_4, if these give numbers above 0.

    Examples
    --------
    >>> _discounts(np.array([1] * 8 + [2] * 4 + [3] * 2 + [4]))
    (0.5, 1.25, 2.0)
    """
    _, n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[:5].tolist()
    if not n1 * n2 * n3:
        return DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
    return found if min(found) > 0 else DISCOUNTS


def _interpolated(shares: tuple[Numbers, Numbers], gram: Counts, context: Counts, below: Numbers) -> Numbers:
    """Return p_n of n-grams and contexts of these ranks, -1 of unknown ones, given p_{n-1}."""
    share, gamma = shares
    known = context < len(gamma)  # the last ranks may be no contexts
    mine = np.where(gram >= 0, share[gram], 0.0)
    rest = np.where((context >= 0) & known, gamma[np.where(known, context, 0)], 1.0)
    return mine + rest * below
