"""Words and how they are spelled, as numbers: an unknown word has its characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..checks import Array
from .text import Words

LONGEST = 32
"""Characters of a word that are read: of a longer one as many from its beginning as from its end."""
TOGETHER = 8192
"""Words, padding included, that are tagged at once, unless a sentence alone has more."""


def characters_of(words: Iterable[str], least: int = 2) -> str:
    """Return the characters that occur often enough, by falling frequency.

    Examples
    --------
    >>> characters_of(["aba", "cab"])
    'ab'
    """
    counts = Counter(character for word in words for character in word)
    return "".join(character for character, n in counts.most_common() if n >= least)


@dataclass(frozen=True)
class Forms:
    """Words as numbers.

    Attributes
    ----------
    vocabulary : gives a word its number; that of one which isn't listed is 0
    characters : get numbers from 2 on, any other is 1, padding 0; "" where words have no spelling

    Examples
    --------
    >>> forms = Forms(Words(("<unk>", "<eos>", "cat")), "act")
    >>> [x.tolist() for x in forms.of([["cat", "at"], ["do"]])]
    [[[2, 3, 2, 4], [0, 2, 4, 0]], [[0, 1, 1]]]
    >>> Forms(Words(("<unk>", "<eos>", "cat")), "").of([["cat", "at"]])
    [array([2, 0], dtype=int32)]
    """

    vocabulary: Words
    characters: str

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {character: k for k, character in enumerate(self.characters, 2)}

    @property
    def size(self) -> int:
        """How many characters there are, with the unknown one; 0 where words have no spelling."""
        return len(self.characters) + bool(self.characters)

    def of(self, sentences: Sequence[Sequence[str]]) -> list[NDArray[np.int32]]:
        """Return the numbers of the words of each sentence, (T, 1 + C): the word's, then its C characters'.

        C is that of the sentence's longest word; without characters they are (T,).
        """
        seen: dict[str, int] = {}
        places = [[seen.setdefault(word, len(seen)) for word in words] for words in sentences]
        if not self.characters:
            ids = np.array([self.vocabulary.id(word) for word in seen], np.int32)
            return [ids[row] for row in places]
        table, sizes = self._table(list(seen))
        return [table[row, : 1 + sizes[row].max(initial=0)] for row in places]

    def words(self, x: Array) -> list[str]:
        """Return the words that numbers (T,) or (T, 1 + C) are of, as well as they say it.

        Examples
        --------
        >>> forms = Forms(Words(("<unk>", "<eos>", "cat")), "act")
        >>> [forms.words(x) for x in forms.of([["act", "cat"], ["do"]])]
        [['act', 'cat'], ['\ufffd\ufffd']]
        """
        if x.ndim == 1:
            return [self.vocabulary.symbols[k] for k in x.tolist()]
        letters = ("", "\ufffd", *self.characters)
        spelled = ["".join(letters[k] for k in row) for row in x[:, 1:].tolist()]
        listed = [self.vocabulary.symbols[k] if k else "" for k in x[:, 0].tolist()]
        return [a if "\ufffd" not in a else b or a for a, b in zip(spelled, listed, strict=True)]

    def _table(self, words: Sequence[str]) -> tuple[NDArray[np.int32], Array]:
        """Return words as numbers (N, 1 + C), and how many characters each has."""
        short = [word if len(word) <= LONGEST else word[: LONGEST // 2] + word[-LONGEST // 2 :] for word in words]
        sizes, numbers = np.array([len(word) for word in short], int), self._numbers
        table = np.zeros((len(words), 1 + sizes.max(initial=0)), np.int32)
        table[:, 0] = [self.vocabulary.id(word) for word in words]
        for row, word in zip(table, short, strict=True):
            row[1 : 1 + len(word)] = [numbers.get(character, 1) for character in word]
        return table, sizes


def groups(lengths: Sequence[int], most: int = TOGETHER) -> Iterator[NDArray[np.int64]]:
    """Yield numbers of sentences of like length, as many as have `most` words together, padding included.

    Examples
    --------
    >>> [rows.tolist() for rows in groups([3, 1, 5, 2], most=4)]
    [[1, 3], [0], [2]]
    """
    order, begin = np.argsort(lengths, kind="stable"), 0
    for end in range(1, len(order) + 1):
        if end == len(order) or lengths[order[end]] * (end + 1 - begin) > most:
            yield order[begin:end]
            begin = end
