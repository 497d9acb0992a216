"""Which symbols a regular expression allows: those with which the text so far can still become a match."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..checks import Array
from ..data.text import Vocabulary
from ..data.text.ids import OfBytes
from ..errors import UnrolledError, brief
from ..expressions import Expression, State


class Matched(NamedTuple):
    """Where a text stands in a match: the expression's state, and the bytes of a character that is not complete."""

    state: State
    pending: bytes = b""


NOTHING = Matched(frozenset())
"""Where a text stands that nothing is asked of."""


class Mask:
    """A vocabulary's symbols under a regular expression.

    A symbol is the bytes that it is written with, blanks behind words too, so that all levels are alike. The one that
    ends a document is allowed where the document is a match.

    Parameters
    ----------
    vocabulary : Vocabulary
    pattern : str
        See `unrolled.expressions.Expression`.

    Examples
    --------
    >>> mask = Mask(Vocabulary.of("ab1", "char"), "[ab]*1")
    >>> mask.allowed(mask.begin).tolist()
    [True, True, True]
    >>> mask.allowed(mask.after(mask.begin, 0)).tolist(), mask.ended(mask.after(mask.begin, 0))
    ([False, False, False], True)
    """

    def __init__(self, vocabulary: Vocabulary, pattern: str) -> None:
        self.pattern, self._expression, self._end = pattern, Expression(pattern), vocabulary.end
        self._bytes = (
            vocabulary.token_bytes
            if isinstance(vocabulary, OfBytes)
            else [vocabulary.piece(token).encode("utf-8", "surrogatepass") for token in range(len(vocabulary))]
        )
        self._allowed: dict[Matched, Array] = {}
        self.begin = Matched(self._expression.start)

    def after(self, matched: Matched, token: int) -> Matched:
        """Return where a text stands behind a symbol that is allowed; behind a document's end at the beginning."""
        if token == self._end:
            return self.begin
        found = self._fed(matched, token)
        assert found is not None  # it is allowed
        return found

    def allowed(self, matched: Matched) -> Array:
        """Return which symbols (V,) may come next."""
        known = self._allowed.get(matched)
        if known is None:
            tokens = range(len(self._bytes))
            known = np.array([token != self._end and self._fed(matched, token) is not None for token in tokens])
            if self._end is not None:
                known[self._end] = self._whole(matched)
            self._allowed[matched] = known
        return known

    def ended(self, matched: Matched) -> bool:
        """Return whether a text is a match that nothing may follow."""
        return self._whole(matched) and not self.allowed(matched).any()

    def dead_end(self) -> UnrolledError:
        """Return what to say of a text that is no match, and that nothing may follow."""
        return UnrolledError(
            f"allow is {brief(self.pattern)}, and no symbol that the model knows goes on to a match of it; "
            "allow more, or draw from another model"
        )

    def _whole(self, matched: Matched) -> bool:
        return not matched.pending and self._expression.whole(matched.state)

    def _fed(self, matched: Matched, token: int) -> Matched | None:
        """Return where a text stands behind a symbol, None where it can't become a match."""
        cut = _complete(matched.pending + self._bytes[token])
        if cut is None or not self._bytes[token]:
            return None
        text, pending, span = cut
        state = self._expression.after(matched.state, text)
        if not state or (pending and not self._expression.goes_on(state, *span)):
            return None
        return Matched(state, pending)


def _complete(data: bytes) -> tuple[str, bytes, tuple[int, int]] | None:
    r"""Return the characters of UTF-8 bytes, the bytes of one that is not complete, and what that may be.

    None where these bytes begin no text.

    Examples
    --------
    >>> _complete("né".encode()), _complete("né".encode()[:-1])
    (('né', b'', (0, 0)), ('n', b'\xc3', (192, 255)))
    >>> _complete(b"\xe0\xa4"), _complete(b"\xff")
    (('', b'\xe0\xa4', (2304, 2367)), None)
    """
    for size in range(min(4, len(data) + 1)):
        whole, pending = data[: len(data) - size], data[len(data) - size :]
        span = _span(pending) if pending else (0, 0)
        if span is not None:
            try:
                return whole.decode(), pending, span
            except UnicodeDecodeError:
                continue
    return None


def _span(begun: bytes) -> tuple[int, int] | None:
    """Return the first and last code point whose UTF-8 bytes begin so, and go on; None where there is none."""
    lead = begun[0]
    size = 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 4 if 0xF0 <= lead <= 0xF4 else 0
    if len(begun) >= size or any(byte >> 6 != 0b10 for byte in begun[1:]):
        return None
    point = lead & (0x7F >> size)
    for byte in begun[1:]:
        point = point << 6 | byte & 0x3F
    left = 6 * (size - len(begun))
    low, high = point << left, ((point + 1) << left) - 1
    low, high = max(low, (0x80, 0x800, 0x10000)[size - 2]), min(high, 0x10FFFF)
    if low <= 0xDFFF and high >= 0xD800:  # halves of characters have no bytes
        high = min(high, 0xD7FF)
    return (low, high) if low <= high else None
