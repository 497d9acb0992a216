"""Bytes of files -> pieces of clean text: decoding, fields of JSON lines, byte-order marks, line ends, joining.

A text comes in pieces, so that it may be larger than the memory; a small one is one piece a file. Where a document ends
is a piece of its own, `MARK`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator

from ..errors import UnrolledError
from .gutenberg import strip_gutenberg
from .words import count


class Mark(str):
    """The newline between two documents."""


MARK = Mark("\n")


class Cleaner:
    """Cleans the texts of files, joins them, and counts what was changed.

    Parameters
    ----------
    level : one of `LEVELS`; at byte level nothing is cleaned and nothing put between files
    strip : leave out Project Gutenberg's header and footer
    json_field : field of JSON lines that is the text; "" for plain text
    documents : whether the newline between two files, or two JSON lines, is a `MARK`
    """

    def __init__(self, level: str, strip: bool = False, json_field: str = "", documents: bool = False) -> None:
        self.level, self.strip, self.json_field, self.documents = level, strip, json_field, documents
        self.files = self.marks = self.crlf = self.cr = self.books = self.gutenberg = self.begun = 0

    def pieces(self, files: Iterable[tuple[str, Iterable[bytes], bool]]) -> Iterator[str] | Iterator[bytes]:
        """Pieces of the text of files: for each its name for messages, its bytes, and whether they are one block."""
        if self.level == "byte":
            return self._bytes(files)
        return self._joined(piece for where, blocks, whole in files for piece in self._file(where, blocks, whole))

    def _bytes(self, files: Iterable[tuple[str, Iterable[bytes], bool]]) -> Iterator[bytes]:
        for where, blocks, _ in files:
            yield from _not_empty(blocks, where)
            self.files += 1

    def _file(self, where: str, blocks: Iterable[bytes], whole: bool) -> Iterator[tuple[bool, str]]:
        """Pieces of a file, and whether a document begins with each."""
        text, size = decoded(_not_empty(blocks, where), where), 0
        documents: Iterable[Iterable[str]] = [text]
        if self.json_field:
            documents = ([field] for field in fields(text, self.json_field, where))
        for document in documents:
            begins = True
            for piece in self._document(document, whole or bool(self.json_field)):
                yield begins, piece
                begins, size = False, size + len(piece)
            if begins:
                yield True, ""
        if not size:
            raise UnrolledError(f"{where}: nothing but a byte-order mark in the file; expected some text")
        self.files += 1

    def _document(self, pieces: Iterable[str], whole: bool) -> Iterator[str]:
        """Clean the pieces of one document; Project Gutenberg's markers are looked for where it is one piece."""
        held = ""
        for n, piece in enumerate(pieces):
            if not n and piece.startswith("\ufeff"):
                self.marks += 1
                piece = piece[1:]
            piece = held + piece
            held = "\r" if piece.endswith("\r") and not whole else ""  # a CRLF may be cut in two
            text = self._fold(piece[: len(piece) - len(held)])
            yield self._book(text) if whole else text
        if held:
            yield self._fold(held)

    def _fold(self, text: str) -> str:
        if "\r" not in text:
            return text
        crlf = text.count("\r\n")
        self.crlf += crlf
        self.cr += text.count("\r") - crlf
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def _book(self, text: str) -> str:
        kept, removed = strip_gutenberg(text)
        if removed:
            self.books += 1
            self.gutenberg += removed
        return kept if self.strip else text

    def _joined(self, pieces: Iterable[tuple[bool, str]]) -> Iterator[str]:
        """Documents one after the other, each but the last ending a line."""
        newline, held = MARK if self.documents else "\n", ""
        for begins, piece in pieces:
            if begins and self.begun:
                yield newline
            elif held:
                yield held
            self.begun += begins
            held = piece[-1:] if piece.endswith("\n") else ""
            if body := piece[: len(piece) - len(held)]:
                yield body
        if held:
            yield held

    def notes(self) -> list[str]:
        """Say in plain sentences what was changed."""
        notes = []
        if self.documents:
            notes.append(f"{count(self.begun, 'document')}, kept apart")
        if self.marks:
            notes.append("byte-order mark dropped" if self.marks == 1 else f"{self.marks:,} byte-order marks dropped")
        if self.crlf:
            notes.append(f"{count(self.crlf, 'CRLF line end')} folded to LF")
        if self.cr:
            notes.append(f"{count(self.cr, 'CR line end')} folded to LF")
        if self.gutenberg:
            where = f" in {self.books:,} files" if self.books > 1 else ""
            size = count(self.gutenberg, "character")
            notes.append(
                f"Project Gutenberg header and footer left out{where}: {size}"
                if self.strip
                else f"Project Gutenberg header and footer are part of the text{where} ({size}); "
                "--strip-gutenberg leaves them out"
            )
        elif self.strip:
            notes.append("no Project Gutenberg markers found, so nothing was stripped")
        return notes


def _not_empty(blocks: Iterable[bytes], where: str) -> Iterator[bytes]:
    empty = True
    for block in blocks:
        empty = empty and not block
        yield block
    if empty:
        raise UnrolledError(f"{where}: the file is empty; expected some text")


def decoded(blocks: Iterable[bytes], where: str) -> Iterator[str]:
    r"""Decode UTF-8, block by block; a character may be cut in two.

    Examples
    --------
    >>> list(decoded([b"na\xc3", b"\xafve"], "a file"))
    ['na', 'ïve']
    """
    decoder, before, head = codecs.getincrementaldecoder("utf-8")(), 0, b""
    for block in _and_last(blocks):
        pending, head = decoder.getstate()[0], head or block[:4]
        try:
            piece = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise UnrolledError(
                f"{where}: byte 0x{error.object[error.start]:02x} at offset {before - len(pending) + error.start} is "
                f"not UTF-8{_looks_like(head)}; convert it to UTF-8, or read it with --level byte"
            ) from None
        before += len(block)
        if piece:
            yield piece


def _and_last(blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield from (block for block in blocks if block)
    yield b""


def _looks_like(head: bytes) -> str:
    for mark, name in ((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"), (b"\x1f\x8b", "gzip")):
        if head.startswith(mark):
            return f" (the file looks like {name})"
    return ""


def fields(pieces: Iterable[str], name: str, where: str) -> Iterator[str]:
    """One field of every JSON line."""
    for n, line in enumerate(_lines(pieces), 1):
        if n == 1:
            line = line.removeprefix("\ufeff")
        if line.strip():
            try:
                value = json.loads(line)[name]
            except (ValueError, RecursionError):
                raise UnrolledError(f"{where}, line {n} is no JSON; --json-field expects one object a line") from None
            except (KeyError, TypeError, IndexError):
                raise UnrolledError(f"{where}, line {n} is no object with a field {name!r} (--json-field)") from None
            if not isinstance(value, str):
                raise UnrolledError(f"{where}, line {n}: the field {name!r} is {value!r:.60}; expected a text")
            yield value


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines
    yield rest


RUN = 4096
"""Characters after which a run without a blank, or of blanks, is cut."""

_BLANK, _RUNS = re.compile(r"\s"), re.compile(r"\s+|\S+")


def whole_words(pieces: Iterable[str]) -> Iterator[str]:
    r"""Cut a text anew, so that no word or run of blanks is cut in two; a `MARK` stays apart.

    A run of more than `RUN` characters is cut at every `RUN`-th, wherever the pieces came from: so what is held is
    bounded, and the words are those of the whole text.

    Examples
    --------
    >>> list(whole_words(["one tw", "o  th", "ree", MARK, "four"]))
    ['one', ' two', '  three', '\n', 'four']
    >>> [len(piece) for piece in whole_words(["a b" + "c" * 5000, "c" * 4000])]
    [4098, 4096, 809]
    """
    held = ""
    for piece in pieces:
        if isinstance(piece, Mark):
            if held:
                yield held
            yield piece
            held = ""
            continue
        text = held + piece
        *cut, text = _bounded(text) or [""]
        yield from cut
        held = text[len(_ended(text)) :]
        if len(held) < len(text):
            yield text[: len(text) - len(held)]
    if held:
        yield held


def _ended(text: str) -> str:
    """Return what of a text is whole words, whatever follows: all but the last run, and blanks before it."""
    stripped = text.rstrip()
    if len(stripped) < len(text) or not text:
        return stripped
    return text[: len(text) - len(text.rsplit(None, 1)[-1])].rstrip()


def _bounded(text: str) -> list[str]:
    """Cut a text that begins with a run behind every `RUN`-th character of a longer one."""
    half = RUN // 2  # a longer run fills one of these windows
    windows = (text[k : k + half] for k in range(0, len(text) - half + 1, half))
    if not any(window.isspace() or not _BLANK.search(window) for window in windows):
        return [text]
    cuts = [k for run in _RUNS.finditer(text) for k in range(run.start() + RUN, run.end(), RUN)]
    edges = [0, *cuts, len(text)]
    return [text[begin:end] for begin, end in zip(edges, edges[1:], strict=False) if begin < end]
