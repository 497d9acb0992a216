"""Text <-> tokens."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batches import Tokens, as_tokens
from ..errors import UnrolledError
from .words import LEVELS, check_level, count


@dataclass(frozen=True)
class Vocabulary:
    r"""The symbols that a model knows: token `k` is `symbols[k]` at char level, the byte k at byte level.

    Attributes
    ----------
    level : "char" or "byte"
    symbols : distinct characters at char level; () at byte level, which always has all 256 values

    Raises
    ------
    UnrolledError
        If the symbols are none, repeated, or not single characters.

    Examples
    --------
    >>> vocabulary = Vocabulary.of("hello", "char")
    >>> vocabulary.symbols, len(vocabulary)
    (('e', 'h', 'l', 'o'), 4)
    >>> vocabulary.encode("hole")
    array([1, 3, 2, 0], dtype=int32)
    >>> vocabulary.decode([1, 0, 2, 2, 3])
    'hello'
    >>> Vocabulary("byte").encode("é")
    array([195, 169], dtype=int32)
    """

    level: str
    symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.level == "byte":
            if self.symbols:
                raise UnrolledError(f"a byte vocabulary lists no symbols; got {len(self.symbols)}")
            return
        if not self.symbols:
            raise UnrolledError("the vocabulary has no symbols; it is made of a text of at least one character")
        for k, symbol in enumerate(self.symbols):
            if not isinstance(symbol, str) or len(symbol) != 1:
                raise UnrolledError(f"symbol {k} of the vocabulary is {symbol!r}; expected a single character")
        if len(set(self.symbols)) != len(self.symbols):
            symbol, times = Counter(self.symbols).most_common(1)[0]
            raise UnrolledError(f"the vocabulary lists {_point(symbol)} {times} times; expected distinct symbols")

    @classmethod
    def of(cls, text: str | bytes, level: str) -> Vocabulary:
        """Vocabulary of a text: its sorted distinct characters, or all 256 bytes."""
        check_level(level)
        if level == "byte":
            return cls(level)
        return cls(level, tuple(sorted(set(_str(text)))))

    def __len__(self) -> int:
        return 256 if self.level == "byte" else len(self.symbols)

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

    def encode(self, text: str | bytes) -> NDArray[np.int32]:
        """Text of N symbols -> tokens (N,) int32.

        At byte level a `str` stands for its UTF-8 bytes; bytes that Python smuggled into it as lone surrogates, as in
        command-line arguments, come out as they were.

        Raises
        ------
        UnrolledError
            If the text holds symbols that the vocabulary doesn't: names up to ten of them, and how often they occur.
        """
        if self.level == "byte":
            return np.frombuffer(_utf8(text), dtype=np.uint8).astype(np.int32)
        characters = _str(text)
        tokens = np.empty(len(characters), dtype=np.int32)
        step, table = 1 << 20, self._table  # in pieces, so that UTF-32 never takes four times the text
        for k in range(0, len(characters), step):
            piece = characters[k : k + step].encode("utf-32-le", "surrogatepass")
            points = np.frombuffer(piece, dtype="<u4")
            tokens[k : k + step] = table[np.minimum(points, len(table) - 1)]
        if tokens.size and tokens.min() < 0:
            raise UnrolledError(self._unknown(characters))
        return tokens

    def _unknown(self, text: str) -> str:
        known = set(self.symbols)
        counts = Counter(symbol for symbol in text if symbol not in known)
        named = [f"{_point(symbol)} x {times:,}" for symbol, times in counts.most_common(10)]
        more = f" and {len(counts) - 10:,} more" if len(counts) > 10 else ""
        found = f"{count(len(counts), 'symbol')} ({count(counts.total(), 'occurrence')})"
        return (
            f"the text has {found} that the vocabulary of {len(self):,} doesn't know: {', '.join(named)}{more}; "
            "leave them out, or train with them or at --level byte"
        )

    def decode(self, tokens: Sequence[int] | NDArray[Any]) -> str:
        """Tokens (N,) -> text; at byte level, bytes that aren't UTF-8 become U+FFFD.

        Raises
        ------
        UnrolledError
            If a token is outside the vocabulary.
        """
        ids = as_tokens(tokens)
        check_range(ids, len(self))
        if self.level == "byte":
            return ids.astype(np.uint8).tobytes().decode("utf-8", "replace")
        return self._points[ids].tobytes().decode("utf-32-le", "surrogatepass")

    def decoder(self) -> Decoder:
        """Start decoding token by token, for text that is shown as it is drawn."""
        return Decoder(self)

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: the level, and at char level the list of symbols in the order of tokens."""
        return {"level": self.level} if self.level == "byte" else {"level": self.level, "symbols": list(self.symbols)}

    @classmethod
    def from_json(cls, data: object) -> Vocabulary:
        """Rebuild a vocabulary from what `to_json` gave.

        Raises
        ------
        UnrolledError
            If it isn't a vocabulary of ours: other keys, symbols repeated or not single characters.

        Examples
        --------
        >>> Vocabulary.from_json({"level": "char", "symbols": ["a", "b"]})
        Vocabulary(level='char', symbols=('a', 'b'))
        """
        if not isinstance(data, dict):
            raise UnrolledError(
                f"the vocabulary is a {type(data).__name__}; expected an object with a level and symbols"
            )
        level = data.get("level")
        if level not in LEVELS:
            raise UnrolledError(f"the vocabulary's level is {level!r}; expected 'char' or 'byte'")
        expected = {"level"} if level == "byte" else {"level", "symbols"}
        if set(data) != expected:
            got, wanted = (", ".join(sorted(map(str, keys))) for keys in (data, expected))
            raise UnrolledError(f"the {level} vocabulary has the keys {got}; expected {wanted}")
        symbols = data.get("symbols", [])
        if not isinstance(symbols, list):
            raise UnrolledError(f"the vocabulary's symbols are a {type(symbols).__name__}; expected a list")
        return cls(level, tuple(symbols))


class Decoder:
    """Tokens to text, one at a time.

    Examples
    --------
    >>> decoder = Vocabulary("byte").decoder()
    >>> [decoder.feed(token) for token in "né".encode()]
    ['n', '', 'é']
    >>> decoder.feed(0xC3), decoder.finish()
    ('', '\ufffd')
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Take one token; return the text it completes, which may be empty at byte level."""
        if not 0 <= token < len(self.vocabulary):
            raise UnrolledError(_outside(token, len(self.vocabulary)))
        return self._bytes.decode(bytes([token])) if self.vocabulary.level == "byte" else self.vocabulary.symbols[token]

    def finish(self) -> str:
        """End the text: U+FFFD for a character left incomplete, else nothing. The decoder may then be used anew."""
        return self._bytes.decode(b"", final=True)


def _point(symbol: str) -> str:
    return f"{symbol!r} (U+{ord(symbol):04X})"


def _str(text: str | bytes) -> str:
    if not isinstance(text, str):
        raise UnrolledError(f"the text is {type(text).__name__}; a char vocabulary takes str, a byte vocabulary bytes")
    return text


def _utf8(text: str | bytes) -> bytes:
    if not isinstance(text, str):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        symbol = text[error.start]
        raise UnrolledError(
            f"{_point(symbol)} at character {error.start} of the text is half a character, which has no UTF-8 bytes; "
            "leave it out"
        ) from None


def _outside(token: int, size: int) -> str:
    return f"token {token} is outside the vocabulary of {size:,} symbols; expected 0 to {size - 1}"


def check_range(tokens: Tokens, size: int) -> None:
    """Refuse tokens (N,) that a vocabulary of that size doesn't have."""
    if tokens.size:
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= size:
            raise UnrolledError(_outside(low if low < 0 else high, size))
