"""Files of tagged sentences, read and written back: words in columns, or plain text that is cut into words."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import numpy as np

from ..checks import as_kind, is_whole
from ..errors import UnrolledError, brief, check_path, count, suggest
from .columns import CONLLU, DOCSTART, ID, Layout, is_text, layout_of, ragged
from .text.cleaning import decoded
from .text.files import sources
from .text.packed import plain_name
from .text.sentences import sentences

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
UNTAGGED = tuple(map(CONLLU.index, ("upos", "xpos", "deprel")))
"""Columns of CoNLL-U in which _ says that a word has no tag."""


class Tagged(NamedTuple):
    """Sentences, as words and their tags.

    Examples
    --------
    >>> Tagged([["the", "cat"], ["dogs", "bark"]], [["DET", "NOUN"], ["NOUN", "VERB"]]).checked() is None
    True
    >>> Tagged([["the", "cat"]], [["DET", "NOUN", "VERB"]]).checked()
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: sentence 0 has 2 words and 3 tags; expected a tag a word
    """

    words: list[list[str]]
    tags: list[list[str]]

    def checked(self) -> None:
        """Say what is wrong with the sentences, if something is."""
        for what, rows in (("words", self.words), ("tags", self.tags)):
            if not _is_list(rows):
                raise UnrolledError(f"the {what} of sentences are {brief(rows)}; expected a list of lists of {what}")
        if len(self.words) != len(self.tags) or not len(self.words):
            raise UnrolledError(f"there are {count(len(self.words), 'sentence')}, and tags of {len(self.tags):,}")
        for k, (words, tags) in enumerate(zip(self.words, self.tags, strict=True)):
            for what, row in (("words", words), ("tags", tags)):
                if not _is_list(row) or not all(isinstance(item, str) and item for item in row):
                    raise UnrolledError(f"the {what} of sentence {k} are {brief(row)}; expected a list of {what}")
            if not len(words):
                raise UnrolledError(f"sentence {k} is empty; leave it out")
            if len(words) != len(tags):
                raise UnrolledError(
                    f"sentence {k} has {count(len(words), 'word')} and {count(len(tags), 'tag')}; expected a tag a word"
                )


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


@dataclass(frozen=True)
class Sentences:
    """The sentences of a file, and the file as it was, so that tags can be written into it.

    Attributes
    ----------
    where : the file's name, for messages
    layout : its columns; None of plain text
    words : of each sentence
    places : the lines of each sentence's words; () of plain text
    lines : all of the file, line ends and a byte-order mark included
    path : the file's, "-" for what came through a pipe
    """

    where: str
    layout: Layout | None
    words: list[list[str]]
    places: list[list[int]] = field(default_factory=list, repr=False)
    lines: list[str] = field(default_factory=list, repr=False)
    path: str = "-"

    def tags(self, column: str | None = None, known: Collection[str] = ()) -> list[list[str]]:
        """Return the tags of each sentence: a column by name, by number from 1, or, of None, upos or the last.

        Raises
        ------
        UnrolledError
            If the column is not there, a word has no tag, or, where some are known, another one.
        """
        if self.layout is None:
            raise UnrolledError(f"{self.where} is plain text; expected words with their tags, in columns")
        place = self.layout.place(column, self.where)
        none = {"", "_"} if self.layout.conllu and place in UNTAGGED else {""}
        allowed, found = set(known), []
        for numbers in self.places:
            row = [self.layout.cells(self.lines[n].rstrip("\r\n"))[place] for n in numbers]
            if not none.isdisjoint(map(str.strip, row)) or (allowed and not allowed.issuperset(row)):
                odd = (n for n, tag in enumerate(row) if tag.strip() in none or (allowed and tag not in allowed))
                raise self._odd(numbers[k := next(odd)], place, row[k] if row[k].strip() not in none else "", known)
            found.append(row)
        return found

    def _odd(self, number: int, place: int, tag: str, known: Collection[str]) -> UnrolledError:
        """Return what to say of a line that has no tag, or one that is not known."""
        where = f"{self.where}, line {number + 1:,}"
        if tag:
            return UnrolledError(f"{where}: {suggest('tag of the model', tag, list(known))}")
        line = self.lines[number].rstrip("\r\n")
        return UnrolledError(f"{where}, is {brief(line)}: no tag in column {place + 1}; expected one")

    def tagged(self, tags: Sequence[Sequence[str]], column: str | None = None, columns: int = 0) -> Iterator[str]:
        r"""Yield the file with the tags of its words, in pieces.

        They replace the column of CoNLL-U, and that of a file that has as many columns as said, or a name for it; to
        other files they are added as the last one. All else stays as it is, byte for byte. Plain text becomes lines of
        a word, a tab and its tag, with an empty line behind each sentence.
        """
        layout = self.layout
        if layout is None:
            for words, row in zip(self.words, tags, strict=True):
                yield "".join(f"{word}\t{tag}\n" for word, tag in zip(words, row, strict=True)) + "\n"
            return
        there = layout.conllu or layout.columns == columns or (layout.header and column in layout.names)
        place = layout.place(column, self.where) if there else layout.columns
        new = {
            n: tag for numbers, row in zip(self.places, tags, strict=True) for n, tag in zip(numbers, row, strict=True)
        }
        header = layout.header and not there
        for n, line in enumerate(self.lines):
            if n in new:
                yield layout.changed(line, place, new[n])
            elif header and line.strip():
                yield layout.changed(line, place, "tag")
                header = False
            else:
                yield layout.changed(line, place, "O") if line.startswith(DOCSTART) and not there else line


def read_sentences(
    paths: Paths, column: str | None = None, *, text: bool | None = False, columns: int = 0, tags: Container[str] = ()
) -> list[Sentences]:
    """Read the sentences of files, without asking for tags.

    Parameters
    ----------
    paths : path or paths
        Files, packed or not, folders, or "-", standard input.
    column : str, optional
        What the column of tags is called, which tells the names of columns from words.
    text : bool or None
        Whether files are plain text, cut as `unrolled.data.text.sentences` says; None: each is looked at
        (`unrolled.data.columns.is_text`).
    columns, tags
        How many columns a file with tags has, and which tags there are: what looking goes by.

    Raises
    ------
    UnrolledError
        If a file can't be read, has no words, or a line has other columns than the ones before; or if files are of
        more than one kind.
    """
    column = None if column is None else check_column("column", column)
    several = paths if isinstance(paths, (list, tuple)) else [paths]
    given = [check_path("a file to read", path) for path in several]
    if not given:
        raise UnrolledError("no file given; name at least one file of sentences, or - for standard input")
    found = []
    for source in sources(given, "char", []):
        lines = list(io.StringIO("".join(decoded(source.blocks(), source.where)), newline=""))
        if text or (text is None and is_text(_unmarked(lines), columns, tags)):
            file = Sentences(source.where, None, sentences("".join(_unmarked(lines))))
        else:
            file = _of_columns(source.where, lines, column)
        found.append(replace(file, path=source.path or "-"))
        if not found[-1].words:
            raise UnrolledError(f"{source.where} has no sentences; expected words, one a line")
    alike([file for file in found if text is not None or file.layout is not None])
    return found


def read_tagged(paths: Paths, column: str | None = None) -> Tagged:
    r"""Read tagged sentences; a file's end ends one.

    Parameters
    ----------
    paths : path or paths
        A file whose first line of words has ten columns, the first a number, is CoNLL-U: its comments, tokens of
        several words and empty nodes are passed over. In any other the first column of a line is the word and the last
        its tag, with a tab or, where there are no tabs, blanks between; an empty line ends a sentence, lines that begin
        with -DOCSTART- are passed over, and a first line may name the columns.
    column : str, optional
        Which column is learnt: of CoNLL-U upos (by default), xpos, feats or deprel; of columns pos, chunk or ner, as
        CoNLL-2000 and 2003 have them, or a name in the first line; of any file a number, from 1.

    Returns
    -------
    Tagged

    Raises
    ------
    UnrolledError
        If a file can't be read, has no sentences or not that column, a line has no tag or other columns than the ones
        before, or files are of more than one kind; names the file and the line.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "tags.tsv")
    ...     _ = path.write_text("the\tDET\nNew York\tPROPN\n\nit\tPRON\n")
    ...     read_tagged(path)
    Tagged(words=[['the', 'New York'], ['it']], tags=[['DET', 'PROPN'], ['PRON']])
    """
    column = None if column is None else check_column("column", column)
    return together(read_sentences(paths, column), column)


def together(files: Sequence[Sentences], column: str | None = None, known: Collection[str] = ()) -> Tagged:
    """Return the sentences of files with their tags, all of them known where some are."""
    found = Tagged([], [])
    for file in files:
        found.words.extend(file.words)
        found.tags.extend(file.tags(column, known))
    return found


def check_column(name: str, value: object) -> str:
    """Return a column's name or number as a text, or say what is wrong with it."""
    number = is_whole(value) and 0 < int(cast(int, value)) < 10**9
    column = str(int(cast(int, value))) if number else as_kind(name, value, "str")
    if not column.strip() or column == "0":
        raise UnrolledError(f"{name} is {brief(value)}; expected the name of a column, or its number, from 1")
    return str(column)


def alike(files: Sequence[Sentences]) -> None:
    """Refuse files of more than one kind."""
    for file in files[1:]:
        first = files[0]
        kinds = [found.layout.title if found.layout else "plain text" for found in (first, file)]
        if kinds[0] != kinds[1]:
            said = f"{first.where} is {kinds[0]}, {file.where} {kinds[1]}"
            raise UnrolledError(f"{said}; give files of one kind together")


def _unmarked(lines: Sequence[str]) -> list[str]:
    """Return lines without a byte-order mark."""
    return [lines[0].removeprefix("\ufeff"), *lines[1:]] if lines else []


def _of_columns(where: str, lines: list[str], column: str | None) -> Sentences:
    """Return the sentences of lines of columns."""
    bare = [line.rstrip("\r\n") for line in _unmarked(lines)]
    layout = layout_of(bare, column)
    if not layout.conllu and any(bare) and plain_name(where).lower().endswith(".conllu"):
        raise UnrolledError(
            f"{where} is {layout.title}, and no CoNLL-U: it has ten, with tabs between, the first a number"
        )
    found = Sentences(where, layout, [], [], lines)
    words, places, header, about = list[str](), list[int](), layout.header, 0  # about: a line of no word before them
    for n, line in enumerate([*bare, ""]):
        if not line.strip():
            if words:
                found.words.append(words)
                found.places.append(places)
            elif about and layout.conllu:
                raise UnrolledError(f"{where}, line {about:,}: the sentence has no words; leave it out")
            words, places, about = [], [], 0
            continue
        if line.startswith("#") and not words and (layout.conllu or len(layout.cells(line)) != layout.columns):
            about = n + 1
            continue
        cells = layout.cells(line)
        if len(cells) != layout.columns:
            if line.startswith(DOCSTART):
                continue
            raise ragged(where, n + 1, line, layout, len(cells))
        if header or cells[0] == DOCSTART:
            header = False
            continue
        if layout.conllu and not cells[0].isdecimal():
            if ID.fullmatch(cells[0]):
                about = about or n + 1
                continue
            raise UnrolledError(f"{where}, line {n + 1:,}, is {brief(line)}: its id is no number, no 1-2, no 1.1")
        if not (word := cells[layout.word]).strip():
            raise UnrolledError(f"{where}, line {n + 1:,}, is {brief(line)}: no word; expected a word and its tag")
        words.append(word)
        places.append(n)
    return found


__all__ = ["Sentences", "Tagged", "alike", "check_column", "read_sentences", "read_tagged", "together"]
