"""Files of tagged sentences: CoNLL-U, or a word and its tag a line, with an empty line between sentences."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..checks import check_choice
from ..errors import UnrolledError, brief
from .text import read

COLUMNS, FORM, TAGS = 10, 1, {"upos": 3, "xpos": 4, "deprel": 7}
"""Columns of CoNLL-U: how many, the word, and what may be learnt of it (universaldependencies.org/format.html)."""


class Tagged(NamedTuple):
    """Sentences, as words and their tags."""

    words: list[list[str]]
    tags: list[list[str]]


def read_tagged(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], column: str = "upos") -> Tagged:
    r"""Read tagged sentences; a file's end ends one.

    Parameters
    ----------
    paths : path or paths
        A file whose first line of words has ten columns is CoNLL-U: its comments, words of several tokens and empty
        nodes are passed over. In any other the first column of a line is the word and the last its tag, with a tab or
        blanks between.
    column : str
        Of CoNLL-U: "upos", "xpos" or "deprel".

    Returns
    -------
    Tagged

    Raises
    ------
    UnrolledError
        If a file can't be read, has no sentences, or a line has no tag; names the file and the line.
    """
    check_choice("tag column", column, tuple(TAGS))
    found = Tagged([], [])
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        corpus = read(path, "char")
        assert isinstance(corpus.text, str)
        sentences = list(_sentences(corpus.text, os.fspath(path), column))
        if not sentences:
            raise UnrolledError(f"{os.fspath(path)} has no tagged sentences")
        for pairs in sentences:
            found.words.append([word for word, _ in pairs])
            found.tags.append([tag for _, tag in pairs])
    return found


def _sentences(text: str, path: str, column: str) -> Iterator[list[tuple[str, str]]]:
    """Yield the words and tags of each sentence of a file."""
    lines = text.split("\n")
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    conllu = first.count("\t") == COLUMNS - 1
    pairs = list[tuple[str, str]]()
    for number, line in enumerate([*lines, ""], 1):
        if not line.strip():
            if pairs:
                yield pairs
            pairs = []
        elif not (conllu and line.startswith("#")):
            pair = _of_conllu(line, column) if conllu else _of_two(line)
            if pair is not None and not all(pair):
                expected = "ten columns with a word and its tag" if conllu else "a word and its tag, with a tab between"
                raise UnrolledError(f"{path}, line {number:,}, is {brief(line)}; expected {expected}")
            pairs += [pair] if pair else []


def _of_conllu(line: str, column: str) -> tuple[str, str] | None:
    """Word and tag; None of what is no single word, empty ones of a line that is damaged."""
    parts = line.split("\t")
    if len(parts) != COLUMNS:
        return "", ""
    return (parts[FORM], parts[TAGS[column]]) if parts[0].isdigit() else None


def _of_two(line: str) -> tuple[str, str]:
    """Word and tag; empty ones of a line that is damaged."""
    parts = line.split("\t") if "\t" in line else line.split()
    return (parts[0], parts[-1]) if len(parts) > 1 else ("", "")
