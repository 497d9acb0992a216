"""Text <-> tokens."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checks import as_kind, check_a, check_choice, check_size, is_whole
from ...errors import UnrolledError, brief, count
from ...schema import Kind, each, entries, flag, one_of, text, whole
from ..batches import Tokens, as_tokens, check_documents
from . import bpe
from .cleaning import whole_words
from .levels import LEVELS, check_level

UNK, EOS = "<unk>", "<eos>"
WORDS = ("whitespace", "punctuation")
WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")

_MORE: dict[str, dict[str, Kind]] = {
    "char": {"symbols": each(text())},
    "byte": {},
    "word": {"symbols": each(text()), "lower": flag(), "words": one_of(WORDS)},
    "bpe": {"merges": each(each(whole(), exactly=2))},
    "tokens": {"size": whole(1, 2**31)},
}
"""What a file says of a vocabulary of each level."""


@dataclass(frozen=True)
class Vocabulary:
    r"""The symbols that a model knows: token `k` is `symbols[k]` at char and word level, else the number k itself.

    At word level a line is its words and UNK stands for those that are not listed; EOS ends a line. At the level of
    byte pairs ("bpe") a token is the bytes of two earlier ones, or a single byte.

    Attributes
    ----------
    level : one of `LEVELS`
    symbols : distinct characters, or words after UNK and EOS; () at the other levels
    size : how many numbers there are at the level of tokens, else 0
    lower : whether words are made lower-case
    words : how a line is cut into words: at "whitespace", or into words and "punctuation" marks
    merges : pairs of tokens that are joined, in the order that they were learnt in, at the level bpe
    documents : whether the model learnt documents of one line each, apart from each other, so that a newline ends one

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
    >>> words = Vocabulary.of("the cat sat\nthe dog\n", "word", min_count=2)
    >>> words.symbols, words.encode("the cow\n").tolist()
    (('<unk>', '<eos>', 'the'), [2, 0, 1])
    """

    level: str
    symbols: tuple[str, ...] = ()
    size: int = 0
    lower: bool = False
    words: str = "whitespace"
    merges: bpe.Merges = ()
    documents: bool = False

    def __post_init__(self) -> None:
        check_level(self.level)
        check_choice("way to cut words", self.words, WORDS)
        for name in ("symbols", "merges"):
            given: Any = getattr(self, name)
            several = check_a(name, given.tolist() if isinstance(given, np.ndarray) else given, (tuple, list), "a list")
            object.__setattr__(self, name, tuple(several))  # as they come back from a file
        object.__setattr__(self, "merges", tuple(bpe.pair_of(n, pair) for n, pair in enumerate(self.merges)))
        for name in ("lower", "documents"):
            object.__setattr__(self, name, as_kind(name, getattr(self, name), "bool"))
        object.__setattr__(self, "size", as_kind("size", self.size, "int"))
        if self.level == "tokens":
            if self.symbols or self.size < 1:
                size = brief(self.size)
                raise UnrolledError(f"a vocabulary of tokens has a size of 1 or more and no symbols; got {size}")
            return
        if self.level == "word":
            if not all(isinstance(word, str) and word for word in self.symbols):
                raise UnrolledError("a vocabulary of words lists something that is no word")
            if self.symbols[:2] != (UNK, EOS):
                raise UnrolledError(f"a vocabulary of words begins with {UNK} and {EOS}; got {brief(self.symbols[:2])}")
            if len(set(self.symbols)) != len(self.symbols):
                word, times = Counter(self.symbols).most_common(1)[0]
                raise UnrolledError(f"the vocabulary lists {brief(word)} {times} times; expected distinct words")
            return
        if self.level in ("byte", "bpe"):
            if self.symbols:
                raise UnrolledError(f"a {self.level} vocabulary lists no symbols; got {len(self.symbols)}")
            assert len(self.token_bytes) >= 256  # the pairs make sense
            return
        if not self.symbols:
            raise UnrolledError("the vocabulary has no symbols; it is made of a text of at least one character")
        for k, symbol in enumerate(self.symbols):
            if not isinstance(symbol, str) or len(symbol) != 1:
                raise UnrolledError(f"symbol {k} of the vocabulary is {brief(symbol)}; expected a single character")
        if len(set(self.symbols)) != len(self.symbols):
            symbol, times = Counter(self.symbols).most_common(1)[0]
            raise UnrolledError(f"the vocabulary lists {_point(symbol)} {times} times; expected distinct symbols")

    @classmethod
    def of(
        cls,
        text: str | bytes | Tokens | Iterable[str],
        level: str,
        *,
        min_count: int = 1,
        max_symbols: int = 0,
        lower: bool = False,
        words: str = "whitespace",
    ) -> Vocabulary:
        """Vocabulary of a text: its sorted distinct characters, all 256 bytes, its words, byte pairs, or its tokens.

        Words are listed by falling frequency: those that occur `min_count` times, at most `max_symbols` (0: any
        number) with UNK and EOS. Byte pairs are learnt until there are `max_symbols` tokens (0: 1,024). A text of
        characters may come in pieces.
        """
        check_level(level)
        min_count = check_size("min_count", min_count, least=0)
        max_symbols = check_size("max_symbols", max_symbols, least=0)
        if level == "byte":
            return cls(level)
        if level == "tokens":
            parts = text if isinstance(text, Iterator) else [text]
            ends = [_extremes(as_tokens(part)) for part in parts]  # type: ignore[arg-type]
            low, high = (end(column) for end, column in zip((min, max), zip(*ends, strict=True), strict=True))
            if low < 0:
                raise UnrolledError(f"the tokens hold {low}; they must be 0 or more")
            if high > (most := np.iinfo(np.int32).max):
                raise UnrolledError(f"the tokens hold {high}; they must be at most {most}")
            return cls(level, size=high + 1)
        pieces = map(_str, text) if isinstance(text, (list, tuple, Iterator)) else [_str(text)]
        if level == "char":
            seen = np.zeros(0x110000, bool)
            for points in chain.from_iterable(map(_code_points, pieces)):
                seen[points] = True
            return cls(level, tuple(map(chr, np.flatnonzero(seen).tolist())))
        if level == "bpe":
            if 0 < max_symbols < 256:
                raise UnrolledError(
                    f"max_symbols is {max_symbols}; byte pairs come after the 256 bytes, so 256 or more"
                )
            return cls(level, merges=bpe.learn(map(_no_halves, pieces), max_symbols or bpe.SIZE))
        empty = cls(level, (UNK, EOS), lower=lower, words=words)
        counts: Counter[str] = Counter()
        for piece in whole_words(pieces):
            counts.update(word for line in piece.split("\n") for word in empty._cut(line))
        common = [word for word, n in counts.most_common() if n >= min_count and word not in (UNK, EOS)]
        return cls(level, (UNK, EOS, *common[: max(0, max_symbols - 2) if max_symbols else None]), 0, lower, words)

    def __len__(self) -> int:
        return self.size or len(self.symbols) or len(self.token_bytes)

    def _cut(self, line: str) -> list[str]:
        """Words of a line."""
        line = line.lower() if self.lower else line
        return line.split() if self.words == "whitespace" else WORD.findall(line)

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes of every token at the levels byte and bpe."""
        return bpe.pieces_of(self.merges)

    @cached_property
    def _encoder(self) -> bpe.Encoder:
        return bpe.Encoder(self.merges)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: k for k, word in enumerate(self.symbols)}

    def unpredicted(self, text: str, first: int) -> int:
        r"""Return how many characters a text has to the end of its first token, which nothing predicts.

        Examples
        --------
        >>> words = Vocabulary("word", (UNK, EOS, "the"))
        >>> words.unpredicted("  the cow", 2), words.unpredicted("\nthe cow", 1)
        (5, 1)
        """
        text, first = check_a("text", text, str, "a text"), self._token(first)
        if self.level == "bpe":
            return len(self.token_bytes[first].decode("utf-8", "ignore"))
        if self.level != "word":
            return 1
        line = text.split("\n", 1)[0]
        found = re.search(r"\S+" if self.words == "whitespace" else WORD, line)
        return found.end() if found else min(len(line) + 1, len(text))

    def spelling_bits(self, text: str) -> float:
        """Bits that spell the words of a text that the vocabulary doesn't list: 8 a UTF-8 byte, and an end mark.

        A model of words predicts UNK for them; to set its bits a character beside another model's, add these.

        Examples
        --------
        >>> Vocabulary("word", (UNK, EOS, "the")).spelling_bits("the cow")
        32.0
        """
        return 8.0 * sum(len(word.encode("utf-8", "replace")) + 1 for word in self.unlisted(text))

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

    def encode(self, text: str | bytes | Tokens) -> Tokens:
        """Text of N symbols -> tokens (N,) int32; an array of tokens is checked and returned as it is.

        At byte level a `str` stands for its UTF-8 bytes; bytes that Python smuggled into it as lone surrogates, as in
        command-line arguments, come out as they were.

        Raises
        ------
        UnrolledError
            If the text holds symbols that the vocabulary doesn't: names up to ten of them, and how often they occur.
        """
        if not isinstance(text, (str, bytes)):
            tokens = as_tokens(text)
            check_range(tokens, len(self))
            return tokens
        if self.level == "tokens":
            return self._numbers(text)
        if self.level == "byte":
            return np.frombuffer(_utf8(text), dtype=np.uint8).astype(np.int32)
        characters = _str(text)
        if self.level in ("word", "bpe"):
            cut = (characters[k : k + _STEP] for k in range(0, len(characters), _STEP))
            parts = (self._of_words(piece) for piece in whole_words(cut))
            return np.concatenate([np.empty(0, np.int32), *parts])
        tokens, table, k = np.empty(len(characters), dtype=np.int32), self._table, 0
        for points in _code_points(characters):
            tokens[k : k + len(points)] = table[np.minimum(points, len(table) - 1)]
            k += len(points)
        if tokens.size and tokens.min() < 0:
            raise UnrolledError(self._unknown(characters))
        return tokens

    def _of_words(self, text: str) -> Tokens:
        """Tokens of a text that cuts no word in two."""
        if self.level == "bpe":
            return np.array(self._encoder.encode(_no_halves(text)), np.int32)
        lines = [[self._ids.get(word, 0) for word in self._cut(line)] for line in text.split("\n")]
        return np.array([k for line in lines for k in (*line, 1)][:-1], dtype=np.int32)

    def unlisted(self, text: str) -> list[str]:
        """Return the words of a text, in their order, that a vocabulary of words doesn't list: they are read as UNK.

        Examples
        --------
        >>> Vocabulary("word", (UNK, EOS, "the")).unlisted("the cow the moon")
        ['cow', 'moon']
        """
        check_a("text", text, str, "a text")
        if self.level != "word":
            return []
        words = (word for piece in whole_words([text]) for line in piece.split("\n") for word in self._cut(line))
        return [word for word in words if word not in self._ids]

    def _numbers(self, text: str | bytes) -> Tokens:
        """Tokens written as numbers, as `decode` writes them."""
        try:
            ids = np.array([int(number) for number in text.split()], dtype=np.int64)
        except (ValueError, OverflowError):
            raise UnrolledError("this model knows tokens, not text; write them as numbers, such as 12 7 9") from None
        check_range(ids, len(self))
        return ids.astype(np.int32)

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
        if self.level in ("byte", "bpe"):
            return b"".join([self.token_bytes[k] for k in ids.tolist()]).decode("utf-8", "replace")
        if self.level in ("word", "tokens"):
            return "".join(map(self._piece, ids.tolist()))
        return self._points[ids].tobytes().decode("utf-32-le", "surrogatepass")

    def piece(self, token: int) -> str:
        """What a token by itself is written as: a word or number with a blank, the end of a line, or its text."""
        return self._piece(self._token(token))

    def _token(self, token: Any) -> int:
        """Return one token as an int, or say that the vocabulary has no such one."""
        if not is_whole(token) or not 0 <= token < len(self):
            raise UnrolledError(_outside(token, len(self)))
        return int(token)

    def _piece(self, token: int) -> str:
        if self.level in ("byte", "bpe"):
            return self.token_bytes[token].decode("utf-8", "replace")
        if self.level == "char":
            return self.symbols[token]
        if self.level == "tokens":
            return f"{token} "
        return "\n" if token == 1 else f"{self.symbols[token]} "

    def grown(self, other: Vocabulary) -> Vocabulary:
        """Return this vocabulary with the symbols of another behind its own, which keep their tokens.

        Examples
        --------
        >>> Vocabulary.of("ab", "char").grown(Vocabulary.of("bacé", "char")).symbols
        ('a', 'b', 'c', 'é')
        """
        check_a("the vocabulary to grow by", other, Vocabulary, "a Vocabulary")
        if (self.level, self.lower, self.words, self.merges) != (other.level, other.lower, other.words, other.merges):
            raise UnrolledError(f"a vocabulary of the level {self.level} can't grow by one of the level {other.level}")
        symbols = tuple(dict.fromkeys(self.symbols + other.symbols))
        return Vocabulary(self.level, symbols, max(self.size, other.size), self.lower, self.words, self.merges)

    @property
    def end(self) -> int | None:
        r"""The token that ends a document, a newline's; None where documents don't end with one.

        Examples
        --------
        >>> Vocabulary("char", ("\n", "a"), documents=True).end, Vocabulary("char", ("\n", "a")).end
        (0, None)
        """
        if not self.documents:
            return None
        return ord("\n") if self.level == "bpe" else int(self.encode("\n")[0])

    def with_documents(self, tokens: Tokens, documents: Tokens | None) -> Vocabulary:
        """Return this vocabulary, which knows whether documents of a text (N,), beginning at (D - 1,), are lines.

        They are if every newline lies between two; else nothing that is drawn tells where a document ends.
        """
        tokens = as_tokens(tokens)
        documents = None if documents is None else check_documents(documents, len(tokens))
        if documents is None or not len(documents):
            return replace(self, documents=False)
        ends = [token for token in range(len(self)) if "\n" in self._piece(token)]
        found = sum(int(np.isin(tokens[k : k + _STEP], ends).sum()) for k in range(0, len(tokens), _STEP))
        last = int(tokens[-1]) in ends and documents[-1] != len(tokens) - 1  # which ends the last line
        return replace(self, documents=found - last == len(documents))

    def decoder(self) -> Decoder:
        """Start decoding token by token, for text that is shown as it is drawn."""
        return Decoder(self)

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: the level, and what else its symbols need."""
        more: dict[str, dict[str, Any]] = {
            "char": {"symbols": list(self.symbols)},
            "byte": {},
            "word": {"symbols": list(self.symbols), "lower": self.lower, "words": self.words},
            "bpe": {"merges": [list(pair) for pair in self.merges]},
            "tokens": {"size": self.size},
        }
        return {"level": self.level} | more[self.level] | ({"documents": True} if self.documents else {})

    @classmethod
    def from_json(cls, data: object) -> Vocabulary:
        """Rebuild a vocabulary from what `to_json` gave.

        Raises
        ------
        UnrolledError
            If it isn't a vocabulary of ours: other keys, symbols repeated or not single characters.

        Examples
        --------
        >>> Vocabulary.from_json({"level": "char", "symbols": ["a", "b"]}).symbols
        ('a', 'b')
        """
        level = data.get("level") if isinstance(data, dict) else None
        kinds = {"level": one_of(LEVELS), "documents": flag()} | _MORE.get(str(level), {})
        given = entries(kinds, optional=("documents",))("vocabulary", data)
        return cls(**given | {name: tuple(given[name]) for name in ("symbols", "merges") if name in given})


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
        self.vocabulary = check_a("vocabulary", vocabulary, Vocabulary, "a Vocabulary")
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Take one token; return the text it completes, which may be empty where tokens are bytes."""
        token = self.vocabulary._token(token)
        if self.vocabulary.level in ("byte", "bpe"):
            return self._bytes.decode(self.vocabulary.token_bytes[token])
        return self.vocabulary._piece(token)

    def finish(self) -> str:
        """End the text: U+FFFD for a character left incomplete, else nothing. The decoder may then be used anew."""
        return self._bytes.decode(b"", final=True)


def _point(symbol: str) -> str:
    return f"{symbol!r} (U+{ord(symbol):04X})"


def _str(text: object) -> str:
    if not isinstance(text, str):
        raise UnrolledError(f"the text is {type(text).__name__}; a char vocabulary takes str, a byte vocabulary bytes")
    return text


_STEP = 1 << 20
"""Characters that are looked at in one go."""


def _code_points(text: str) -> Iterator[NDArray[np.uint32]]:
    """Code points of a text, in pieces, so that UTF-32 never takes four times the text."""
    for k in range(0, len(text), _STEP):
        yield np.frombuffer(text[k : k + _STEP].encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _no_halves(text: str) -> str:
    """Return a text, or refuse halves of characters, which have no UTF-8 bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnrolledError(_half(text, error.start)) from None
    return text


def _half(text: str, at: int) -> str:
    return (
        f"{_point(text[at])} at character {at} of the text is half a character, which has no UTF-8 bytes; leave it out"
    )


def _utf8(text: str | bytes) -> bytes:
    if not isinstance(text, str):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UnrolledError(_half(text, error.start)) from None


def _outside(token: object, size: int) -> str:
    return f"token {brief(token)} is outside the vocabulary of {count(size, 'symbol')}; expected 0 to {size - 1}"


def _extremes(tokens: Tokens) -> tuple[int, int]:
    """Smallest and largest of tokens (N,)."""
    if not tokens.size:
        raise UnrolledError("there are no tokens; expected at least one")
    return int(tokens.min()), int(tokens.max())


def check_range(tokens: Tokens, size: int) -> None:
    """Refuse tokens (N,) that a vocabulary of that size doesn't have."""
    tokens, size = as_tokens(tokens), check_size("size", size)
    if tokens.size:
        low, high = _extremes(tokens)
        if low < 0 or high >= size:
            raise UnrolledError(_outside(low if low < 0 else high, size))
