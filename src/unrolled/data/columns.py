"""Lines of words in columns: CoNLL-U, CoNLL-2000, CoNLL-2003, TSV; which column is the word, and which its tag."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

from ..errors import UnrolledError, brief, count, suggest

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""Columns of CoNLL-U (universaldependencies.org/format.html); CoNLL-X has them at the same places."""
LEARNT = ("upos", "xpos", "feats", "deprel")
"""Those whose values are tags."""
NAMES = {
    3: ("word", "pos", "chunk"),
    4: ("word", "pos", "chunk", "ner"),
    5: ("word", "lemma", "pos", "chunk", "ner"),
}
"""Names of columns in files that have none, by how many there are: CoNLL-2000, CoNLL-2003, and its German part."""
WORDS = ("word", "words", "form", "token", "tokens")
TAGS = (
    "tags",
    "labels",
    "tag",
    "label",
    "pos",
    "upos",
    "xpos",
    "chunk",
    "ner",
    "ner_tag",
    "pos_tag",
    "feats",
    "deprel",
)
"""What a table calls a column of words, and of tags, in its first line."""
DOCSTART = "-DOCSTART-"
ID = re.compile(r"\d+([-.]\d+)?")
"""Of a word in CoNLL-U, of several words together, and of one that is not written."""
_FIELD = re.compile(r"[^ \t]+")


@dataclass(frozen=True)
class Layout:
    """The columns of a file.

    Attributes
    ----------
    columns : how many there are
    names : of the columns, if they have some; those of CoNLL-U are `CONLLU`
    tabs : whether a tab is between columns; else blanks
    header : whether the first line of columns is their names
    """

    columns: int
    names: tuple[str, ...] = ()
    tabs: bool = True
    header: bool = False

    @property
    def conllu(self) -> bool:
        """Whether lines are those of CoNLL-U."""
        return self.names == CONLLU

    @property
    def title(self) -> str:
        """What a file of this layout is, in words."""
        return "CoNLL-U" if self.conllu else f"a file of {count(self.columns, 'column')}"

    @property
    def word(self) -> int:
        """Place of the word."""
        named = [name.lower() for name in self.names]
        return next((named.index(name) for name in WORDS if name in named), 0)

    def cells(self, line: str) -> list[str]:
        """Return the columns of a line without its end."""
        return line.split("\t") if self.tabs else _FIELD.findall(line)

    def place(self, column: str | None, where: str) -> int:
        """Return the place of a column: by name, by number from 1, or, of None, upos or the last.

        Raises
        ------
        UnrolledError
            If it is not there, or holds no tags.
        """
        word, last = self.word, self.columns - 1
        if column is None:
            place = CONLLU.index("upos") if self.conllu else last
            if place != word:
                return place
            raise UnrolledError(f"{where} has one column, words; expected a word and its tag, with a tab between")
        numbers = f"numbers from 1 to {self.columns}"
        if column.isdigit() and len(column) < 10:  # a number
            place = int(column) - 1
            if place in range(self.columns) and place != word and not (self.conllu and place == 0):
                return place
            raise UnrolledError(f"{where} has no tags in column {column}: its words are in {word + 1} of {numbers}")
        known = LEARNT if self.conllu else [name for k, name in enumerate(self.names) if k != word]
        if column in known:
            return self.names.index(column)
        hint = suggest("column of tags", column, [*known, numbers] if known else [numbers])
        raise UnrolledError(f"{where} is {self.title}: {hint}")

    def changed(self, line: str, place: int, tag: str) -> str:
        """Return a line, its end included, with a column replaced, or added where `place` is behind the last."""
        body = line.rstrip("\r\n")
        end = line[len(body) :]
        if place >= self.columns:
            return (f"{body}\t" if self.tabs else f"{body.rstrip()}{' ' if self.columns > 1 else chr(9)}") + tag + end
        if self.tabs:
            cells = body.split("\t")
            return "\t".join([*cells[:place], tag, *cells[place + 1 :]]) + end
        field = list(_FIELD.finditer(body))[place]
        return body[: field.start()] + tag + body[field.end() :] + end


def layout_of(lines: Sequence[str], column: str | None = None) -> Layout:
    """Return the layout of the lines of a file, from the first that is neither empty nor a comment.

    Ten columns that begin with a number are CoNLL-U. A line is the names of its columns where one of them is called
    word, form or token, and another as the column that is asked for, or as tags are.
    """
    first = next((line for line in lines if line.strip() and not line.startswith(("#", DOCSTART))), None)
    first = next((line for line in lines if line.strip()), "") if first is None else first
    tabs = "\t" in first
    cells = first.rstrip("\r\n").split("\t") if tabs else _FIELD.findall(first.rstrip("\r\n"))
    if tabs and len(cells) == len(CONLLU) and ID.fullmatch(cells[0]):
        return Layout(len(cells), CONLLU)
    words = {cell for cell in cells if cell.lower() in WORDS}
    tags = {cell for cell in cells if cell.lower() in TAGS or cell == column}
    if words and tags - words and len(set(cells)) == len(cells):
        return Layout(len(cells), tuple(cells), tabs, header=True)
    return Layout(len(cells), NAMES.get(len(cells), ()), tabs)


def is_text(lines: Sequence[str], columns: int = 0, tags: Container[str] = ()) -> bool:
    """Whether lines are plain text, rather than words in columns.

    Columns they are where there are tabs; where every line is one word; and where nine lines of ten have as many
    columns, of which the last is one of the `tags`, or there are ten lines or more, of so many `columns`, with or
    without the last.
    """
    rows = [line.split() for line in lines if line.strip()]
    if layout_of(lines).tabs or any(row[0] == DOCSTART for row in rows):
        return False
    if not rows:
        return True
    size, times = Counter(map(len, rows)).most_common(1)[0]
    most = 0.9 * len(rows)
    if size == 1:
        return times < len(rows) or len(rows) == 1
    if times < most or sum(row[-1] in tags for row in rows) >= most:
        return times < most
    return not (size in (columns, columns - 1) and times == len(rows) >= 10)


def ragged(where: str, number: int, line: str, layout: Layout, cells: int) -> UnrolledError:
    """Return what to say of a line that has another number of columns than the others."""
    got = f"{where}, line {number:,}, is {brief(line)}"
    if layout.conllu:
        return UnrolledError(f"{got}, {count(cells, 'column')}; expected the ten of CoNLL-U, with tabs between")
    if cells < 2:
        return UnrolledError(f"{got}; expected a word and its tag, with a {'tab' if layout.tabs else 'blank'} between")
    what = "a word and one tag" if layout.columns == 2 else f"{layout.columns}, as the lines before"
    return UnrolledError(f"{got}, {count(cells, 'column')}; expected {what}")
