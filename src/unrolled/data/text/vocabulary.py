"""Text <-> tokens: all that is asked of a vocabulary, whatever its level; `levels` lists the kinds."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ...checks import as_kind, check_a, check_size, is_whole
from ...errors import UnrolledError, brief, count
from ...schema import Kind, entries, flag, one_of
from ..batches import Tokens, as_tokens, check_documents
from .cleaning import whole_words

STEP = 1 << 20
"""Characters, or tokens, that are looked at in one go."""


@dataclass(frozen=True)
class Vocabulary(ABC):
    r"""The symbols that a model knows, at one of the `LEVELS`: each level is a class of its own.

    Attributes
    ----------
    level : its name
    unit : what a symbol is called
    takes : what a text is: str, bytes, or an array of integers
    schema : what a file says of it: its fields
    separator : what stands between two symbols that are written
    several : whether a symbol may be several characters of a text
    complete : whether it can write any text, and so has no need to grow
    fair_bigrams : whether a loss may be set against the entropy of bigrams: a table of pairs of many symbols has learnt
        its very text by heart
    spells : whether words that it doesn't list are charged their spelling in `bits_per_character`
    documents : whether the model learnt documents of one line each, apart from each other, so that a newline ends one

    Raises
    ------
    UnrolledError
        If its symbols are none, repeated, or not of its level.

    Examples
    --------
    >>> vocabulary = Vocabulary.of("hello", "char")
    >>> vocabulary.symbols, len(vocabulary)
    (('e', 'h', 'l', 'o'), 4)
    >>> vocabulary.encode("hole")
    array([1, 3, 2, 0], dtype=int32)
    >>> vocabulary.decode([1, 0, 2, 2, 3])
    'hello'
    """

    level: ClassVar[str]
    unit: ClassVar[str]
    takes: ClassVar[type] = str
    schema: ClassVar[dict[str, Kind]] = {}
    separator: ClassVar[str] = ""
    several: ClassVar[bool] = False
    complete: ClassVar[bool] = False
    fair_bigrams: ClassVar[bool] = False
    spells: ClassVar[bool] = False

    documents: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", as_kind("documents", self.documents, "bool"))

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def alphabet(self) -> str:
        """Its symbols in a row, where they are characters; else nothing."""
        return ""

    # --- where one comes from ---

    @staticmethod
    def of(
        text: str | bytes | Tokens | Iterable[Any],
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
        from .levels import check_level  # it lists the classes that are made of this one

        kind = check_level(level)
        min_count = check_size("min_count", min_count, least=0)
        max_symbols = check_size("max_symbols", max_symbols, least=0)
        return kind.learnt(text, min_count=min_count, max_symbols=max_symbols, lower=lower, words=words)

    @classmethod
    @abstractmethod
    def learnt(cls, text: Any, *, min_count: int, max_symbols: int, lower: bool, words: str) -> Self:
        """Vocabulary of a text at this level; see `of`."""

    @staticmethod
    def from_json(data: object) -> Vocabulary:
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
        from .levels import LEVELS

        level = data.get("level") if isinstance(data, dict) else None
        kind = LEVELS.get(str(level))
        common = {"level": one_of(LEVELS), "documents": flag()}
        given = entries(common | (kind.schema if kind else {}), optional=("documents",))("vocabulary", data)
        return LEVELS[given.pop("level")](**given)

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: the level, and what else its symbols need."""
        more = {name: _as_lists(getattr(self, name)) for name in self.schema}
        return {"level": self.level} | more | ({"documents": True} if self.documents else {})

    @property
    def options(self) -> dict[str, Any]:
        """Options of a run that make such a vocabulary, and that one which starts from its model has to have."""
        return {"level": self.level, "lower": False, "words": "whitespace"}

    def grown(self, other: Vocabulary) -> Self:
        """Return this vocabulary with the symbols of another behind its own, which keep their tokens.

        Examples
        --------
        >>> Vocabulary.of("ab", "char").grown(Vocabulary.of("bacé", "char")).symbols
        ('a', 'b', 'c', 'é')
        """
        check_a("the vocabulary to grow by", other, Vocabulary, "a Vocabulary")
        if type(self) is not type(other) or not self._like(other):
            raise UnrolledError(f"a vocabulary of the level {self.level} can't grow by one of the level {other.level}")
        return replace(self._united(other), documents=False)

    def _like(self, other: Self) -> bool:
        """Whether tokens of another vocabulary of this level are made in the same way."""
        return self.options == other.options

    def _united(self, other: Self) -> Self:
        """Return this vocabulary with the symbols of another one of its level."""
        return self

    def with_held_out(self, others: Iterable[Vocabulary]) -> Vocabulary:
        """Return the vocabulary of a text that knows what is held out of it, too, where nothing stands for unknown."""
        return self

    # --- text -> tokens ---

    def encode(self, text: str | bytes | Tokens) -> Tokens:
        """Text of N symbols -> tokens (N,) int32; an array of tokens is checked and returned as it is.

        At byte level a `str` stands for its UTF-8 bytes; bytes that Python smuggled into it as lone surrogates, as in
        command-line arguments, come out as they were.

        Raises
        ------
        UnrolledError
            If the text holds symbols that the vocabulary doesn't: names up to ten of them, and how often they occur.
        """
        if isinstance(text, (str, bytes)):
            return self._encoded(text)
        tokens = as_tokens(text)
        check_range(tokens, len(self))
        return tokens

    @abstractmethod
    def _encoded(self, text: str | bytes) -> Tokens:
        """Tokens of a text."""

    def cut(self, pieces: Iterable[Any]) -> Iterable[Any]:
        """Cut a text that comes in pieces anew, so that each piece can be encoded by itself."""
        return pieces

    def unlisted(self, text: str) -> list[str]:
        """Return the words of a text, in their order, that a vocabulary of words doesn't list: they are read as UNK.

        Examples
        --------
        >>> Vocabulary.of("the", "word").unlisted("the cow the moon")
        ['cow', 'moon']
        """
        return self._unlisted(check_a("text", text, str, "a text"))

    def _unlisted(self, text: str) -> list[str]:
        return []

    # --- tokens -> text ---

    def decode(self, tokens: Sequence[int] | NDArray[Any]) -> str:
        """Tokens (N,) -> text; at byte level, bytes that aren't UTF-8 become U+FFFD.

        Raises
        ------
        UnrolledError
            If a token is outside the vocabulary.
        """
        ids = as_tokens(tokens)
        check_range(ids, len(self))
        return self._decoded(ids)

    def _decoded(self, ids: Tokens) -> str:
        return "".join(map(self._piece, ids.tolist()))

    def decoder(self) -> Decoder:
        """Start decoding token by token, for text that is shown as it is drawn."""
        return Decoder(self)

    def piece(self, token: int) -> str:
        """Return what one token is written as: a word or number with a blank, the end of a line, or its text."""
        return self._piece(self._token(token))

    @abstractmethod
    def _piece(self, token: int) -> str: ...

    def label(self, token: int) -> str:
        """Return what a token is called in a list of tokens."""
        return self.piece(token).rstrip(" ")

    def _token(self, token: Any) -> int:
        """Return one token as an int, or say that the vocabulary has no such one."""
        if not is_whole(token) or not 0 <= token < len(self):
            raise UnrolledError(_outside(token, len(self)))
        return int(token)

    def written(self, tokens: Sequence[int] | NDArray[Any]) -> bytes:
        r"""Return what tokens (N,) are written as, in UTF-8.

        Examples
        --------
        >>> Vocabulary.of("né", "char").written([1, 0]), Vocabulary.of("", "byte").written([195])
        (b'\xc3\xa9n', b'\xc3')
        """
        return self.decode(tokens).encode("utf-8", "surrogatepass")

    # --- figures ---

    def unpredicted(self, text: str, first: int) -> int:
        r"""Return how many characters a text has to the end of its first token, which nothing predicts.

        Examples
        --------
        >>> words = Vocabulary.of("the", "word")
        >>> words.unpredicted("  the cow", 2), words.unpredicted("\nthe cow", 1)
        (5, 1)
        """
        return self._unpredicted(check_a("text", text, str, "a text"), self._token(first))

    def _unpredicted(self, text: str, first: int) -> int:
        return 1

    def spelling_bits(self, text: str) -> float:
        """Bits that spell the words of a text that the vocabulary doesn't list: 8 a UTF-8 byte, and an end mark.

        A model of words predicts UNK for them; to set its bits a character beside another model's, add these.

        Examples
        --------
        >>> Vocabulary.of("the", "word").spelling_bits("the cow")
        32.0
        """
        return 8.0 * sum(len(word.encode("utf-8", "replace")) + 1 for word in self.unlisted(text))

    def bits_per_character(self, text: Any, first: int, bits: float) -> float | None:
        """Return bits a character of a text that begins with token `first` and whose other tokens take `bits` in all.

        None where a symbol is a character or a byte already, or no text at all.
        """
        if not self.several:
            return None
        unseen = self.unpredicted(text, first)
        return (bits + self.spelling_bits(text[unseen:])) / max(1, len(text) - unseen)

    # --- newlines and documents ---

    @property
    @abstractmethod
    def newline(self) -> int | None:
        """The token of a newline; None where there is none."""

    def first_token(self, rng: np.random.Generator) -> int:
        """Token to start from without a prompt: a newline, or any symbol where the vocabulary has none."""
        return int(rng.integers(len(self))) if self.newline is None else self.newline

    @property
    def end(self) -> int | None:
        r"""The token that ends a document, a newline's; None where documents don't end with one.

        Examples
        --------
        >>> lines = Vocabulary.of("a\n", "char")
        >>> lines.end, lines.with_documents([1, 0, 1], [1]).end
        (None, 0)
        """
        return self.newline if self.documents else None

    def with_documents(self, tokens: Tokens, documents: Tokens | None) -> Self:
        """Return this vocabulary, which knows whether documents of a text (N,), beginning at (D - 1,), are lines.

        They are if every newline lies between two; else nothing that is drawn tells where a document ends.
        """
        tokens = as_tokens(tokens)
        documents = None if documents is None else check_documents(documents, len(tokens))
        if documents is None or not len(documents):
            return replace(self, documents=False)
        ends = [token for token in range(len(self)) if "\n" in self._piece(token)]
        found = sum(int(np.isin(tokens[k : k + STEP], ends).sum()) for k in range(0, len(tokens), STEP))
        last = int(tokens[-1]) in ends and documents[-1] != len(tokens) - 1  # which ends the last line
        return replace(self, documents=found - last == len(documents))

    def _fed(self, token: int, pending: codecs.IncrementalDecoder) -> str:
        """Return the text that a token completes; what it leaves incomplete is pending."""
        return self._piece(token)


class Decoder:
    """Tokens to text, one at a time.

    Examples
    --------
    >>> decoder = Vocabulary.of("", "byte").decoder()
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
        return self.vocabulary._fed(self.vocabulary._token(token), self._bytes)

    def finish(self) -> str:
        """End the text: U+FFFD for a character left incomplete, else nothing. The decoder may then be used anew."""
        return self._bytes.decode(b"", final=True)


# --- what several levels use ------------------------------------------------------------------------------------------


def as_text(text: object) -> str:
    """Return a text of characters."""
    if not isinstance(text, str):
        raise UnrolledError(f"the text is {type(text).__name__}; a char vocabulary takes str, a byte vocabulary bytes")
    return text


def as_texts(text: Any) -> Iterable[str]:
    """Return a text of characters in the pieces that it came in."""
    return map(as_text, text) if isinstance(text, (list, tuple, Iterator)) else [as_text(text)]


def encoded_by_words(text: str | bytes, encode: Callable[[str], Sequence[int]]) -> Tokens:
    """Tokens of a text, of pieces of it that cut no word in two."""
    characters = as_text(text)
    cut = (characters[k : k + STEP] for k in range(0, len(characters), STEP))
    return np.concatenate([np.empty(0, np.int32), *(np.array(encode(piece), np.int32) for piece in whole_words(cut))])


def point(symbol: str) -> str:
    """Return a character as messages name it."""
    return f"{symbol!r} (U+{ord(symbol):04X})"


def half(text: str, at: int) -> UnrolledError:
    """Return what to say of half a character in a text."""
    return UnrolledError(
        f"{point(text[at])} at character {at} of the text is half a character, which has no UTF-8 bytes; leave it out"
    )


def no_halves(text: str) -> str:
    """Return a text, or refuse halves of characters, which have no UTF-8 bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise half(text, error.start) from None
    return text


def check_range(tokens: Tokens, size: int) -> None:
    """Refuse tokens (N,) that a vocabulary of that size doesn't have."""
    tokens, size = as_tokens(tokens), check_size("size", size)
    if tokens.size:
        low, high = extremes(tokens)
        if low < 0 or high >= size:
            raise UnrolledError(_outside(low if low < 0 else high, size))


def extremes(tokens: Tokens) -> tuple[int, int]:
    """Smallest and largest of tokens (N,)."""
    if not tokens.size:
        raise UnrolledError("there are no tokens; expected at least one")
    return int(tokens.min()), int(tokens.max())


def _outside(token: object, size: int) -> str:
    return f"token {brief(token)} is outside the vocabulary of {count(size, 'symbol')}; expected 0 to {size - 1}"


def as_tuple(name: str, given: Any) -> tuple[Any, ...]:
    """Return a list as a tuple; files and NumPy have no tuples."""
    return tuple(check_a(name, given.tolist() if isinstance(given, np.ndarray) else given, (tuple, list), "a list"))


def _as_lists(value: Any) -> Any:
    """Return tuples as the lists that JSON makes of them."""
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value
