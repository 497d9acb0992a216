"""A text that was read: all of it, or what reads a larger one in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...checks import check_a
from ..batches import Tokens, check_documents
from . import arrays
from .cleaning import EDGE, MARK, Cleaner
from .files import Source, opened, shown
from .levels import check_level


@dataclass(frozen=True)
class Stream:
    """A text too large for the memory, which is read anew, in pieces, whenever it is needed.

    Attributes
    ----------
    sources : the files
    level : that it is read at
    how : the options of `read`, as `Cleaner` takes them
    digest : SHA-256 of all files
    """

    sources: tuple[Source, ...]
    level: str
    how: Mapping[str, Any]
    digest: str

    def cleaner(self) -> Cleaner:
        """Return what cleans the text, and has counted what it changed after `pieces`."""
        return Cleaner(self.level, **self.how)

    def pieces(self, cleaner: Cleaner) -> Iterator[str] | Iterator[bytes] | Iterator[Tokens]:
        """Read the text; the size of a piece is bounded, but for lines of JSON and fields of tables."""
        if self.level == "tokens":
            return _integers(self.sources[0].path)
        return cleaner.pieces((source.where, source.path, source.blocks()) for source in self.sources)


@dataclass(frozen=True)
class Corpus:
    """A text, and where it came from.

    Attributes
    ----------
    text : str at the levels of text, bytes at byte level, an array (N,) at that of tokens; a `Stream` where a larger
        text was asked for in that way
    level : one of `LEVELS`
    name : short, fit for a folder's name: "book" for book.txt, "stdin", "stdlib"; "book+2" for book.txt and two more
    sources : the number of files
    notes : what was read and cleaned, in plain sentences
    paths : what was named, "-" for standard input; () for the default corpus and for texts that were no file
    how : the options of `read` that it was read with
    documents : where documents are kept apart, the place of the newline before each but the first, (D - 1,); where they
        are lines, the text has a newline before the first and one behind the last too
    """

    text: str | bytes | Tokens | Stream = field(repr=False)
    level: str
    name: str
    sources: int = 1
    notes: tuple[str, ...] = ()
    paths: tuple[str, ...] = field(default=(), repr=False, compare=False)
    how: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    documents: Tokens | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        kind = check_level(self.level).takes
        check_a(f"the text at the level {self.level}", self.text, (kind, Stream), f"{kind.__name__} or a Stream")
        if self.documents is not None and not isinstance(self.text, Stream):
            object.__setattr__(self, "documents", check_documents(self.documents, len(self.text)))

    @property
    def of_lines(self) -> bool:
        """Whether each line is a document, between two newlines."""
        return bool(self.how.get("documents") == "lines")

    def pieces(self) -> Iterator[Any]:
        """The text in pieces, one of them for all of a small one; the newline between two documents is a `MARK`."""
        text = self.text
        if isinstance(text, Stream):
            yield from text.pieces(text.cleaner())
        elif self.documents is None:
            yield text
        else:
            assert isinstance(text, str)
            begin, end = (1, len(text) - 1) if self.of_lines else (0, len(text))
            yield from [EDGE] * self.of_lines
            for mark in self.documents.tolist():
                if mark > begin:
                    yield text[begin:mark]
                yield MARK
                begin = mark + 1
            if begin < end:
                yield text[begin:end]
            yield from [EDGE] * self.of_lines


def _integers(path: str) -> Iterator[Tokens]:
    """Pieces of the integers (N,) of a .npy file."""
    with opened(path) as file:
        yield from arrays.pieces(file, arrays.layout(file, shown(path)), shown(path))
