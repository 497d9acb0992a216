"""Documents of one line each: some of them as a text of their own, and those to hold out drawn by a seed.

Letters: N tokens, D documents. The tokens begin with the newline before the first document and end with that behind the
last; documents (D - 1,) are the places of the newlines between two, as `unrolled.data.text.Encoded` has them.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batches import Tokens
from .text.cache import Encoded
from .text.files import cache_folder

BLOCK = 1 << 16
"""Documents that are copied in one go."""


def draw_parts(text: Encoded, val_fraction: float, test_fraction: float, seed: int) -> tuple[Encoded, Encoded, Encoded]:
    """Return documents to train on, to validate and to test on, in an order that the seed draws.

    Examples
    --------
    >>> text = Encoded(np.array([0, 5, 5, 0, 6, 0, 7, 7, 0]), np.array([3, 5]), ())
    >>> train, val, test = draw_parts(text, 0.34, 0.0, seed=1)
    >>> train.tokens.tolist(), train.documents.tolist(), val.tokens.tolist(), len(test.tokens)
    ([0, 5, 5, 0, 7, 7, 0], [3], [0, 6, 0], 0)
    """
    documents = documents_in(text)
    order = np.random.default_rng([seed, documents]).permutation(documents)
    val, test = round(documents * val_fraction), round(documents * test_fraction)
    cuts = np.split(order, [documents - val - test, documents - test])
    train, held, left = (take_documents(text, numbers) for numbers in cuts)
    return train, held, left


def take_documents(text: Encoded, numbers: NDArray[np.integer[Any]]) -> Encoded:
    """Return the documents of these numbers (from 0), in this order, as a text; without any, one of no tokens.

    Examples
    --------
    >>> text = Encoded(np.array([0, 5, 5, 0, 6, 0, 7, 7, 0]), np.array([3, 5]), ())
    >>> part = take_documents(text, np.array([2, 1]))
    >>> part.tokens.tolist(), part.documents.tolist()
    ([0, 7, 7, 0, 6, 0], [3])
    """
    begins = np.concatenate([[0], _places(text), [len(text.tokens) - 1]])
    lengths = np.diff(begins)[numbers]
    ends = np.cumsum(lengths)
    if not len(ends):
        return Encoded(text.tokens[:0], ends, ())
    tokens = _room(text.tokens, int(ends[-1]) + 1)
    for k in range(0, len(numbers), BLOCK):
        size, end, begin = lengths[k : k + BLOCK], ends[k : k + BLOCK], begins[numbers[k : k + BLOCK]]
        first = int(end[0] - size[0])
        places = np.repeat(begin - (end - size), size) + np.arange(first, end[-1])
        tokens[first : end[-1]] = text.tokens[places]
    tokens[-1] = text.tokens[-1]
    return Encoded(tokens, ends[:-1], ())


def documents_in(text: Encoded) -> int:
    """Return how many documents a text has."""
    return 1 + len(_places(text)) if len(text.tokens) else 0


def _places(text: Encoded) -> Tokens:
    return np.empty(0, np.int64) if text.documents is None else text.documents


def _room(like: Tokens, size: int) -> Tokens:
    """Return an array for so many tokens; of those that are mapped it is a file too, which has no name."""
    if not isinstance(like, np.memmap):
        return np.empty(size, like.dtype)
    with tempfile.TemporaryFile(dir=cache_folder()) as file:
        return np.memmap(file, like.dtype, "w+", shape=(size,))  # stays mapped when the file is closed
