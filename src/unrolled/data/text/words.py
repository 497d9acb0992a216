"""Words: a line is its words, UNK stands for those that are not listed, and EOS ends a line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from ...checks import as_kind, check_choice
from ...errors import UnrolledError, brief
from ...schema import each, flag, one_of, text
from ..batches import Tokens
from .cleaning import whole_words
from .vocabulary import Vocabulary, as_texts, as_tuple, encoded_by_words

UNK, EOS = "<unk>", "<eos>"
WORDS = ("whitespace", "punctuation")
WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Words(Vocabulary):
    r"""A vocabulary of words.

    Attributes
    ----------
    symbols : distinct words after UNK and EOS
    lower : whether words are made lower-case
    words : how a line is cut into words: at "whitespace", or into words and "punctuation" marks

    Examples
    --------
    >>> words = Vocabulary.of("the cat sat\nthe dog\n", "word", min_count=2)
    >>> words.symbols, words.encode("the cow\n").tolist()
    (('<unk>', '<eos>', 'the'), [2, 0, 1])
    """

    level = "word"
    unit = "word"
    schema = {"symbols": each(text()), "lower": flag(), "words": one_of(WORDS)}  # noqa: RUF012
    separator = " "
    several = True
    spells = True

    symbols: tuple[str, ...]
    lower: bool = False
    words: str = "whitespace"

    def __post_init__(self) -> None:
        check_choice("way to cut words", self.words, WORDS)
        super().__post_init__()
        object.__setattr__(self, "symbols", as_tuple("symbols", self.symbols))
        object.__setattr__(self, "lower", as_kind("lower", self.lower, "bool"))
        if not all(isinstance(word, str) and word for word in self.symbols):
            raise UnrolledError("a vocabulary of words lists something that is no word")
        if self.symbols[:2] != (UNK, EOS):
            raise UnrolledError(f"a vocabulary of words begins with {UNK} and {EOS}; got {brief(self.symbols[:2])}")
        if len(set(self.symbols)) != len(self.symbols):
            word, times = Counter(self.symbols).most_common(1)[0]
            raise UnrolledError(f"the vocabulary lists {brief(word)} {times} times; expected distinct words")

    @classmethod
    def learnt(cls, text: Any, *, min_count: int, max_symbols: int, lower: bool, words: str) -> Self:
        """Vocabulary of a text's words, by falling frequency."""
        texts, empty = as_texts(text), cls((UNK, EOS), lower, words)
        counts: Counter[str] = Counter()
        for piece in whole_words(texts):
            counts.update(word for line in piece.split("\n") for word in empty._words(line))
        common = [word for word, n in counts.most_common() if n >= min_count and word not in (UNK, EOS)]
        return replace(empty, symbols=(UNK, EOS, *common[: max(0, max_symbols - 2) if max_symbols else None]))

    @property
    def options(self) -> dict[str, Any]:
        """The level, and how words are cut."""
        return super().options | {"lower": self.lower, "words": self.words}

    def _united(self, other: Self) -> Self:
        return replace(self, symbols=tuple(dict.fromkeys(self.symbols + other.symbols)))

    def __len__(self) -> int:
        return len(self.symbols)

    def _words(self, line: str) -> list[str]:
        """Words of a line."""
        line = line.lower() if self.lower else line
        return line.split() if self.words == "whitespace" else WORD.findall(line)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: k for k, word in enumerate(self.symbols)}

    def id(self, word: str) -> int:
        """Return the token of a word; that of UNK, 0, where it is not listed."""
        return self._ids.get(word.lower() if self.lower else word, 0)

    def cut(self, pieces: Iterable[Any]) -> Iterable[Any]:
        """Cut no word in two."""
        return whole_words(pieces)

    def _encoded(self, text: str | bytes) -> Tokens:
        return encoded_by_words(text, self._of_words)

    def _of_words(self, text: str) -> list[int]:
        """Tokens of a text that cuts no word in two."""
        lines = [[self._ids.get(word, 0) for word in self._words(line)] for line in text.split("\n")]
        return [k for line in lines for k in (*line, 1)][:-1]

    def _unlisted(self, text: str) -> list[str]:
        words = (word for piece in whole_words([text]) for line in piece.split("\n") for word in self._words(line))
        return [word for word in words if word not in self._ids]

    def _piece(self, token: int) -> str:
        return "\n" if token == 1 else f"{self.symbols[token]} "

    def _unpredicted(self, text: str, first: int) -> int:
        line = text.split("\n", 1)[0]
        found = re.search(r"\S+" if self.words == "whitespace" else WORD, line)
        return found.end() if found else min(len(line) + 1, len(text))

    @property
    def newline(self) -> int:
        """EOS."""
        return 1
