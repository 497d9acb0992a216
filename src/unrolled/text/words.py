"""Words for messages, and the levels that a text can be read at."""

from __future__ import annotations

from ..errors import UnrolledError, suggest

LEVELS = ("char", "byte", "word", "bpe", "tokens")
UNITS = {"char": "character", "byte": "byte", "word": "word", "bpe": "token", "tokens": "token"}
"""What a symbol of each level is called."""


def count(number: int, noun: str) -> str:
    """Number and noun: `1 file`, `1,200 files`, `2 hidden files or folders`."""
    if number != 1:
        noun = " or ".join(f"{word}s" for word in noun.split(" or "))
    return f"{number:,} {noun}"


def check_level(level: str) -> None:
    """Refuse what is no level."""
    if level not in LEVELS:
        raise UnrolledError(suggest("level", str(level), sorted(LEVELS)))
