"""Byte pairs: a token is a single byte, or the bytes of two earlier tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from ...errors import UnrolledError
from ...schema import each, whole
from ..batches import Tokens
from . import bpe
from .cleaning import whole_words
from .ids import OfBytes
from .vocabulary import as_texts, as_tuple, encoded_by_words, no_halves


@dataclass(frozen=True)
class BytePairs(OfBytes):
    """A vocabulary of byte pairs; `bpe` learns and applies them.

    Attributes
    ----------
    merges : pairs of tokens that are joined, in the order that they were learnt in

    Examples
    --------
    >>> pairs = BytePairs(((104, 101), (256, 256)))
    >>> len(pairs), pairs.piece(257)
    (258, 'hehe')
    """

    level = "bpe"
    unit = "token"
    schema = {"merges": each(each(whole(), exactly=2))}  # noqa: RUF012
    several = True

    merges: bpe.Merges = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = enumerate(as_tuple("merges", self.merges))
        object.__setattr__(self, "merges", tuple(bpe.pair_of(n, pair) for n, pair in pairs))
        assert len(self.token_bytes) >= 256  # the pairs make sense

    @classmethod
    def learnt(cls, text: Any, *, max_symbols: int, **options: Any) -> Self:
        """Vocabulary of a text's most frequent pairs."""
        texts = as_texts(text)
        if 0 < max_symbols < 256:
            raise UnrolledError(f"max_symbols is {max_symbols}; byte pairs come after the 256 bytes, so 256 or more")
        return cls(bpe.learn(map(no_halves, texts), max_symbols or bpe.SIZE))

    @property
    def options(self) -> dict[str, Any]:
        """The level, and how many tokens there are."""
        return super().options | {"max_symbols": len(self)}

    def _like(self, other: Self) -> bool:
        return self.merges == other.merges

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes of every token."""
        return bpe.pieces_of(self.merges)

    @cached_property
    def _encoder(self) -> bpe.Encoder:
        return bpe.Encoder(self.merges)

    def cut(self, pieces: Iterable[Any]) -> Iterable[Any]:
        """Cut no word in two."""
        return whole_words(pieces)

    def _encoded(self, text: str | bytes) -> Tokens:
        return encoded_by_words(text, lambda piece: self._encoder.encode(no_halves(piece)))

    def label(self, token: int) -> str:
        """Return its text, blanks and all."""
        return self.piece(token)

    def _unpredicted(self, text: str, first: int) -> int:
        return len(self.token_bytes[first].decode("utf-8", "ignore"))
