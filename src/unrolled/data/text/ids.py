"""Bytes, and tokens of no text: numbers that stand for themselves."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...checks import as_kind
from ...errors import UnrolledError, brief
from ...schema import whole
from ..batches import Tokens, as_tokens
from .vocabulary import Vocabulary, check_range, extremes, half


@dataclass(frozen=True)
class OfBytes(Vocabulary):
    """A vocabulary whose tokens are bytes, one or several; the first 256 are the single ones."""

    complete = True

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes of every token."""
        return [bytes([k]) for k in range(256)]

    def __len__(self) -> int:
        return len(self.token_bytes)

    def _decoded(self, ids: Tokens) -> str:
        return self.written(ids).decode("utf-8", "replace")

    def written(self, tokens: Sequence[int] | NDArray[Any]) -> bytes:
        """Return the bytes of tokens (N,)."""
        return b"".join([self.token_bytes[k] for k in as_tokens(tokens).tolist()])

    def _piece(self, token: int) -> str:
        return self.token_bytes[token].decode("utf-8", "replace")

    def _fed(self, token: int, pending: codecs.IncrementalDecoder) -> str:
        return pending.decode(self.token_bytes[token])

    @property
    def newline(self) -> int:
        """The byte of a newline, known without encoding a text."""
        return ord("\n")


@dataclass(frozen=True)
class Bytes(OfBytes):
    """The 256 bytes; a `str` stands for its UTF-8 bytes.

    Examples
    --------
    >>> Bytes().encode("é")
    array([195, 169], dtype=int32)
    """

    level = "byte"
    unit = "byte"
    takes = bytes
    fair_bigrams = True

    @classmethod
    def learnt(cls, text: Any, **options: Any) -> Self:
        """All bytes, whatever the text."""
        return cls()

    def _encoded(self, text: str | bytes) -> Tokens:
        return np.frombuffer(_utf8(text), dtype=np.uint8).astype(np.int32)

    def label(self, token: int) -> str:
        """Return a character of ASCII, or the byte as a number."""
        return chr(token) if self._token(token) < 128 else str(token)


@dataclass(frozen=True)
class Numbers(Vocabulary):
    """Tokens that were made elsewhere, 0 to `size` - 1.

    Attributes
    ----------
    size : how many numbers there are

    Examples
    --------
    >>> numbers = Vocabulary.of([3, 1, 2], "tokens")
    >>> len(numbers), numbers.encode("0 3").tolist(), numbers.decode([0, 3])
    (4, [0, 3], '0 3 ')
    """

    level = "tokens"
    unit = "token"
    takes = np.ndarray
    schema = {"size": whole(1, 2**31)}  # noqa: RUF012
    separator = " "

    size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "size", as_kind("size", self.size, "int"))
        if self.size < 1:
            raise UnrolledError(f"a vocabulary of tokens has a size of 1 or more; got {brief(self.size)}")

    @classmethod
    def learnt(cls, text: Any, **options: Any) -> Self:
        """Vocabulary up to the largest of tokens (N,), which may come in pieces."""
        parts = text if isinstance(text, Iterator) else [text]
        ends = [extremes(as_tokens(part)) for part in parts]
        low, high = (end(column) for end, column in zip((min, max), zip(*ends, strict=True), strict=True))
        if low < 0:
            raise UnrolledError(f"the tokens hold {low}; they must be 0 or more")
        if high > (most := np.iinfo(np.int32).max):
            raise UnrolledError(f"the tokens hold {high}; they must be at most {most}")
        return cls(high + 1)

    def _united(self, other: Self) -> Self:
        return replace(self, size=max(self.size, other.size))

    def __len__(self) -> int:
        return self.size

    def _encoded(self, text: str | bytes) -> Tokens:
        """Tokens written as numbers, as `decode` writes them."""
        try:
            ids = np.array([int(number) for number in text.split()], dtype=np.int64)
        except (ValueError, OverflowError):
            raise UnrolledError("this model knows tokens, not text; write them as numbers, such as 12 7 9") from None
        check_range(ids, len(self))
        return ids.astype(np.int32)

    def _piece(self, token: int) -> str:
        return f"{token} "

    @property
    def newline(self) -> None:
        """None: a number is no newline."""


def _utf8(text: str | bytes) -> bytes:
    """Return the bytes of a text."""
    if not isinstance(text, str):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise half(text, error.start) from None
