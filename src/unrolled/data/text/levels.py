"""The levels that a text can be read at."""

from __future__ import annotations

from ...checks import check_choice

LEVELS = ("char", "byte", "word", "bpe", "tokens")
UNITS = {"char": "character", "byte": "byte", "word": "word", "bpe": "token", "tokens": "token"}
"""What a symbol of each level is called."""


def check_level(level: object) -> None:
    """Refuse what is no level."""
    check_choice("level", level, sorted(LEVELS))
