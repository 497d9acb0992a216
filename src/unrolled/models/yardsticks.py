"""What a text gives to simple models, to see whether a loss is right.

The same tokens are predicted by counts of n-grams of the training part (`unrolled.data.text.kneser_ney`), and packed by
`xz`, which has seen the training part too: what (training part + text) takes more than the training part alone.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..data.batches import Lanes, Tokens
from ..data.text import Vocabulary
from ..data.text.kneser_ney import KneserNey
from ..nn.spec import Spec
from .automatic import multiplied
from .scoring import units
from .usual import LEVELS, Usual, usual

COUNTED = 1 << 22
"""Tokens of the training part that are counted, at most: the last ones. Of a longer text to predict nothing is said."""

PACKED = 1 << 22
"""Bytes of the training part that `xz` sees, at most: the last ones. Its own window is twice that."""

FEWEST = 1000
"""Bytes of a text that are worth packing: a file of `xz` is a multiple of four bytes. And symbols that a usual loss is
said of."""


@dataclass(frozen=True)
class Yardsticks:
    """Figures in nats a predicted token.

    Attributes
    ----------
    predicted : tokens that are predicted: all of the text but the first
    counted : tokens of the training part that were counted
    unigram, bigram, fivegram : by counts of n-grams
    xz : by `xz -6`; None where there is no text, too little of it, or Python was built without it
    units : how many characters, bytes and words the predicted text has; empty where there is none, and of words, since
        an unlisted one is not written as it was
    usual : what a network of the model's size usually reaches; None where no runs say it
    """

    predicted: int
    counted: int
    unigram: float
    bigram: float
    fivegram: float
    xz: float | None = None
    units: dict[str, int] = field(default_factory=dict)
    usual: Usual | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all figures by name."""
        return asdict(self)


def yardsticks(train: Lanes, text: Lanes, vocabulary: Vocabulary, spec: Spec | None = None) -> Yardsticks | None:
    """Return what simple models of a training part give on all that a text has to predict; None of a very long one.

    With a network's `spec`, also what its like usually reach, but of a text that stands in the training part.

    Examples
    --------
    >>> part = Lanes(Vocabulary.of("ab", "char").encode("abababababab"), 1, 4)
    >>> found = yardsticks(part, part, Vocabulary.of("ab", "char"))
    >>> found.predicted, round(found.unigram, 4), found.xz
    (11, 0.689, None)
    """
    seen, own = _last(train.tokens, train.documents, COUNTED)
    tokens = np.asarray(text.tokens[: text.targets + 1])
    if len(tokens) > COUNTED:
        return None
    documents = None if text.documents is None else text.documents[text.documents < len(tokens)]
    counts = KneserNey(seen, len(vocabulary), own).log_probabilities(tokens, documents)
    one, two, five = (-float(counts[order - 1].mean()) for order in (1, 2, 5))
    written = b"" if vocabulary.takes is np.ndarray else vocabulary.written(tokens[1:])
    more = _packed(seen, written, vocabulary)
    xz = None if more is None else 8 * math.log(2) * more / (len(tokens) - 1)
    known = {} if vocabulary.spells or not written else units(written)
    found = Yardsticks(len(tokens) - 1, len(seen), one, two, five, xz, known)
    return found if spec is None else replace(found, usual=_usual(found, spec, vocabulary))


def _usual(found: Yardsticks, spec: Spec, vocabulary: Vocabulary) -> Usual | None:
    """Return what a network usually reaches; None but of texts like those of the runs, and of too few symbols."""
    of_lines = vocabulary.documents  # names have no runs
    known_by_heart = found.xz is not None and found.xz < found.fivegram / 2
    if vocabulary.level not in LEVELS or of_lines or known_by_heart or found.predicted < FEWEST:
        return None
    return usual(found.counted, multiplied(spec), found.fivegram)


def _last(tokens: Tokens, documents: Tokens | None, most: int) -> tuple[Tokens, Tokens | None]:
    """Return the last tokens of a text, at most so many, and where documents begin in them."""
    begin = max(0, len(tokens) - most)
    return np.asarray(tokens[begin:]), None if documents is None else documents[documents >= begin] - begin


def _packed(seen: Tokens, text: bytes, vocabulary: Vocabulary) -> int | None:
    """Return the bytes that `xz` takes for a text, having seen another, both as the vocabulary writes them."""
    if len(text) < FEWEST:
        return None
    try:
        from lzma import compress
    except ImportError:  # an optional module of Python's
        return None
    before = vocabulary.written(seen[-PACKED:])[-PACKED:]
    return max(0, len(compress(before + text)) - len(compress(before)))
