"""Files of tagged sentences: CoNLL-U, or a word and its tag a line, with an empty line between sentences."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import UnrolledError, brief
from .text import read

FORM, TAGS = 1, {"upos": 3, "xpos": 4, "deprel": 7}
"""Columns of CoNLL-U: the word, and what may be learnt of it (https://universaldependencies.org/format.html)."""


class Tagged(NamedTuple):
    """Sentences, as words and their tags."""

    words: list[list[str]]
    tags: list[list[str]]


def read_tagged(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], column: str = "upos") -> Tagged:
    r"""Read tagged sentences.

    Parameters
    ----------
    paths : path or paths
        Lines of ten columns are CoNLL-U; comments, words of several tokens and empty nodes are passed over. Else the
        first column of a line is the word, its last the tag, with a tab or blanks between.
    column : str
        Of CoNLL-U: "upos", "xpos" or "deprel".

    Returns
    -------
    Tagged

    Raises
    ------
    UnrolledError
        If a file can't be read, has no sentences, or a line has no tag; names the line.
    """
    corpus = read(paths, "char")
    assert isinstance(corpus.text, str)
    found = Tagged([], [])
    words, tags = list[str](), list[str]()
    for number, line in enumerate([*corpus.text.split("\n"), ""], 1):
        if not line.strip():
            if words:
                found.words.append(words)
                found.tags.append(tags)
                words, tags = [], []
        elif not line.startswith("# ") and (pair := _pair(line, number, column)):
            words.append(pair[0])
            tags.append(pair[1])
    if not found.words:
        raise UnrolledError(f"{corpus.name} has no tagged sentences")
    return found


def _pair(line: str, number: int, column: str) -> tuple[str, str] | None:
    """Word and tag of a line; None if it is about no single word."""
    parts = line.rstrip("\r").split("\t")
    if len(parts) == 10:
        return (parts[FORM], parts[TAGS[column]]) if parts[0].isdigit() else None
    parts = parts if len(parts) > 1 else line.split()
    if len(parts) < 2 or not (parts[0] and parts[-1]):
        raise UnrolledError(f"line {number:,} is {brief(line)}; expected a word and its tag, with a tab between")
    return parts[0], parts[-1]
