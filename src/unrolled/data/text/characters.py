"""Characters: token k is the k-th of a text's sorted distinct characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import UnrolledError, brief, count
from ...schema import each, text
from ..batches import Tokens
from .vocabulary import STEP, Vocabulary, as_text, as_texts, as_tuple, point


@dataclass(frozen=True)
class Characters(Vocabulary):
    """A vocabulary of characters; a text with others is refused.

    Attributes
    ----------
    symbols : distinct characters

    Examples
    --------
    >>> Characters(("b", "a")).encode("ab")
    array([1, 0], dtype=int32)
    """

    level = "char"
    unit = "character"
    schema = {"symbols": each(text())}  # noqa: RUF012
    fair_bigrams = True

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "symbols", as_tuple("symbols", self.symbols))
        if not self.symbols:
            raise UnrolledError("the vocabulary has no symbols; it is made of a text of at least one character")
        for k, symbol in enumerate(self.symbols):
            if not isinstance(symbol, str) or len(symbol) != 1:
                raise UnrolledError(f"symbol {k} of the vocabulary is {brief(symbol)}; expected a single character")
        if len(set(self.symbols)) != len(self.symbols):
            symbol, times = Counter(self.symbols).most_common(1)[0]
            raise UnrolledError(f"the vocabulary lists {point(symbol)} {times} times; expected distinct symbols")

    @classmethod
    def learnt(cls, text: Any, **options: Any) -> Self:
        """Vocabulary of a text's sorted distinct characters."""
        seen = np.zeros(0x110000, bool)
        for points in chain.from_iterable(map(_code_points, as_texts(text))):
            seen[points] = True
        return cls(tuple(map(chr, np.flatnonzero(seen).tolist())))

    def with_held_out(self, others: Iterable[Vocabulary]) -> Characters:
        """Return the sorted characters of this vocabulary and of others."""
        known = (other.symbols for other in others if isinstance(other, Characters))
        return Characters(tuple(sorted({*self.symbols, *chain.from_iterable(known)})))

    def _united(self, other: Self) -> Self:
        return replace(self, symbols=tuple(dict.fromkeys(self.symbols + other.symbols)))

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def alphabet(self) -> str:
        """Its symbols in a row."""
        return "".join(self.symbols)

    @cached_property
    def _points(self) -> NDArray[np.uint32]:
        """Code point of each token (V,), little-endian, as UTF-32 has them."""
        return np.array([ord(symbol) for symbol in self.symbols], dtype="<u4")

    @cached_property
    def _table(self) -> NDArray[np.int32]:
        """Token of each code point, -1 where there is none; the last entry stands for all points above."""
        table = np.full(int(self._points.max()) + 2, -1, dtype=np.int32)
        table[self._points] = np.arange(len(self.symbols), dtype=np.int32)
        return table

    def _encoded(self, text: str | bytes) -> Tokens:
        characters = as_text(text)
        tokens, table, k = np.empty(len(characters), dtype=np.int32), self._table, 0
        for points in _code_points(characters):
            tokens[k : k + len(points)] = table[np.minimum(points, len(table) - 1)]
            k += len(points)
        if tokens.size and tokens.min() < 0:
            raise UnrolledError(self._unknown(characters))
        return tokens

    def _unknown(self, text: str) -> str:
        known = set(self.symbols)
        counts = Counter(symbol for symbol in text if symbol not in known)
        named = [f"{point(symbol)} x {times:,}" for symbol, times in counts.most_common(10)]
        more = f" and {len(counts) - 10:,} more" if len(counts) > 10 else ""
        found = f"{count(len(counts), 'symbol')} ({count(counts.total(), 'occurrence')})"
        return (
            f"the text has {found} that the vocabulary of {len(self):,} doesn't know: {', '.join(named)}{more}; "
            "leave them out, or train with them or at --level byte"
        )

    def _decoded(self, ids: Tokens) -> str:
        return self._points[ids].tobytes().decode("utf-32-le", "surrogatepass")

    def _piece(self, token: int) -> str:
        return self.symbols[token]

    def label(self, token: int) -> str:
        """Return the character."""
        return self.piece(token)

    @property
    def newline(self) -> int | None:
        """The newline's token, where it is one of the symbols."""
        return self.symbols.index("\n") if "\n" in self.symbols else None


def _code_points(text: str) -> Iterator[NDArray[np.uint32]]:
    """Code points of a text, in pieces, so that UTF-32 never takes four times the text."""
    for k in range(0, len(text), STEP):
        yield np.frombuffer(text[k : k + STEP].encode("utf-32-le", "surrogatepass"), dtype="<u4")
