"""How texts, and series of numbers, become what a network reads; learnt from the part to train on, kept in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..checks import as_kind, check_a
from ..errors import UnrolledError, count
from ..schema import each, entries, flag, number, text
from .batches import Tokens
from .text import Vocabulary
from .text.characters import Characters

UNKNOWN = "\ufffd"
"""The character that stands for those that are not listed."""
LEVELS = ("char", "word", "bpe")
"""What a text to be classified may be made of."""


@dataclass(frozen=True)
class TextCodec:
    """Texts <-> tokens (T,).

    Attributes
    ----------
    vocabulary : Vocabulary
        Words that it doesn't list are read as UNK, characters as U+FFFD, both 0; byte pairs make up any text.
    lower : bool
        Whether texts are made lower-case.

    Examples
    --------
    >>> codec = TextCodec.learnt(["Good.", "good, bad"], "word", lower=True, words="punctuation")
    >>> codec.vocabulary.symbols, codec.encode("A GOOD one.").tolist()
    (('<unk>', '<eos>', 'good', '.', ',', 'bad'), [0, 2, 0, 3])
    """

    vocabulary: Vocabulary
    lower: bool = False

    def __post_init__(self) -> None:
        check_a("vocabulary", self.vocabulary, Vocabulary, "a Vocabulary")
        if self.vocabulary.level not in LEVELS:
            raise UnrolledError(f"the level of texts is {self.vocabulary.level}; expected one of {', '.join(LEVELS)}")
        object.__setattr__(self, "lower", as_kind("lower", self.lower, "bool"))

    @classmethod
    def learnt(
        cls,
        texts: Sequence[str],
        level: str,
        *,
        min_count: int = 1,
        max_symbols: int = 0,
        lower: bool = False,
        words: str = "whitespace",
    ) -> Self:
        """Return the codec of texts: its vocabulary is made of what occurs `min_count` times, as `Vocabulary.of`."""

        def pieces() -> Iterator[str]:
            for piece in texts:
                yield f"{piece.lower() if lower else piece}\n"

        if level == "char":
            counts = Counter(character for piece in pieces() for character in piece[:-1])
            listed = {character for character, n in counts.items() if n >= min_count}
            return cls(Characters((UNKNOWN, *sorted(listed - {UNKNOWN}))), lower)
        how: Any = {"min_count": min_count, "max_symbols": max_symbols, "words": words}
        return cls(Vocabulary.of(pieces(), level, **how), lower)

    def __len__(self) -> int:
        """V, the number of symbols."""
        return len(self.vocabulary)

    @property
    def unit(self) -> str:
        """What a step is called."""
        return self.vocabulary.unit

    @property
    def said(self) -> str:
        """What is known of texts, in words."""
        kind = "lower-case " if self.lower else ""
        return f"{count(len(self), kind + self.unit)} listed"

    @cached_property
    def _characters(self) -> dict[str, int]:
        return {symbol: k for k, symbol in enumerate(self.vocabulary.alphabet)}

    def encode(self, value: str) -> Tokens:
        """Text -> tokens (T,) int32; empty where there are none."""
        value = value.lower() if self.lower else value
        if isinstance(self.vocabulary, Characters):
            known = self._characters
            return np.array([known.get(c, 0) for c in value], np.int32)
        return self.vocabulary.encode(value)

    def unknown(self, tokens: Tokens) -> int:
        """Return how many of tokens (T,) stand for what is not listed."""
        return 0 if self.vocabulary.level == "bpe" else int((tokens == 0).sum())

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {"vocabulary": self.vocabulary.to_json(), "lower": self.lower}


@dataclass(frozen=True, eq=False)
class SeriesCodec:
    """Series of numbers (T, C) -> as many around 0: each channel less its mean, divided by its standard deviation.

    Attributes
    ----------
    channels : tuple of str
        Names of the C channels.
    mean, scale : (C,)
        Of all steps to train on; a channel that never changes has scale 1.

    Examples
    --------
    >>> codec = SeriesCodec.learnt([np.array([[1.0, 7.0], [3.0, 7.0]])], ("up", "flat"))
    >>> codec.encode(np.array([[2.0, 8.0]])).tolist()
    [[0.0, 1.0]]
    """

    channels: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    unit = "step"

    @classmethod
    def learnt(cls, series: Sequence[NDArray[Any]], channels: Sequence[str]) -> Self:
        """Return the codec of series."""
        steps = np.concatenate(series).astype(np.float64)
        scale = steps.std(axis=0)
        return cls(tuple(channels), steps.mean(axis=0), np.where(scale > 1e-12 * np.abs(steps).max(axis=0), scale, 1.0))

    def __len__(self) -> int:
        """C, the number of channels."""
        return len(self.channels)

    @property
    def said(self) -> str:
        """What is known of series, in words."""
        return f"{count(len(self), 'channel')}, each less its mean, divided by its standard deviation"

    def encode(self, series: NDArray[Any]) -> NDArray[np.float32]:
        """(T, C) -> (T, C) float32."""
        return ((series - self.mean) / self.scale).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {"channels": list(self.channels), "mean": self.mean.tolist(), "scale": self.scale.tolist()}


Codec = TextCodec | SeriesCodec


def from_json(name: str, value: Any) -> Codec:
    """Return the codec that a file describes, or say what is wrong with the description."""
    if isinstance(value, dict) and "vocabulary" in value:
        kinds = {"vocabulary": lambda _, found: Vocabulary.from_json(found), "lower": flag()}
        return TextCodec(**entries(kinds)(name, value))
    numbers = each(number())
    found = entries({"channels": each(text()), "mean": numbers, "scale": numbers})(name, value)
    mean, scale = np.array(found["mean"]), np.array(found["scale"])
    if not found["channels"] or not len(found["channels"]) == len(mean) == len(scale) or not (scale > 0).all():
        raise UnrolledError(f"{name} is of {count(len(mean), 'channel')}; expected a mean and a positive scale of each")
    return SeriesCodec(tuple(found["channels"]), mean, scale)
