"""Options about the text: how it is read, what its symbols are, how it is split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..checks import check_fraction, check_size
from ..declared import Declared, one_of, option
from ..errors import UnrolledError
from .text import LEVELS, WORDS, Reading

__all__ = ["Reading", "SplitOptions", "TextOptions"]

GROUP = "Text"


@dataclass(frozen=True)
class TextOptions(Declared):
    """Options of the vocabulary."""

    level: str = option(
        "char",
        "What a symbol is: char, byte (any file), word, bpe, or tokens (a .npy file).",
        GROUP,
        one_of("level", tuple(LEVELS)),
        about="What a symbol is: a character, a byte, a word, a byte pair, or a number of `tokens` (a .npy file).",
    )
    min_count: int = option(1, "word: occurrences that a word needs to be listed.", GROUP, check_size)
    max_symbols: int = option(
        0, "word: symbols listed at most, 0 for all; bpe: tokens, 0 for 1,024.", GROUP, partial(check_size, least=0)
    )
    lower: bool = option(False, "word: make words lower-case.", GROUP)
    words: str = option(
        "whitespace",
        "word: cut lines at whitespace, or into words and punctuation.",
        GROUP,
        one_of("way to cut words", WORDS),
    )


@dataclass(frozen=True)
class SplitOptions(Declared):
    """Options of what is kept out of training: validation before test, both at the end."""

    val_fraction: float = option(0.05, "Share of the data, at its end, to validate on.", "Data", check_fraction)
    test_fraction: float = option(0.0, "Share of the data, behind that, left untouched.", "Data", check_fraction)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val_fraction + self.test_fraction >= 1:
            raise UnrolledError("val_fraction and test_fraction leave nothing to train on; their sum must be below 1")
