"""The levels that a text can be read at: one kind of vocabulary for each."""

from __future__ import annotations

from typing import Any

from ...checks import check_choice
from .byte_pairs import BytePairs
from .characters import Characters
from .ids import Bytes, Numbers
from .vocabulary import Vocabulary
from .words import Words

LEVELS: dict[str, type[Vocabulary]] = {kind.level: kind for kind in (Characters, Bytes, Words, BytePairs, Numbers)}
"""By the name of a level, what knows everything about it."""


def check_level(level: Any) -> type[Vocabulary]:
    """Return the vocabulary of a level, or refuse what is no level."""
    check_choice("level", level, sorted(LEVELS))
    return LEVELS[level]
