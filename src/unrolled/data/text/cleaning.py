"""Bytes of files -> pieces of clean text: decoding, records, byte-order marks, line ends, licences, joining.

A text comes in pieces, so that it may be larger than the memory; a small one is one piece a file. Where a document ends
is a piece of its own, `MARK`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from ...errors import UnrolledError, brief, count
from .gutenberg import Stripper
from .records import column, fields, lines_of, looks_like


class Mark(str):
    """A newline that stands apart: nothing is joined with it to one symbol."""


MARK = Mark("\n")
"""The newline between two documents."""
EDGE = Mark("\n")
"""The newline before the first of documents that are lines, and that behind the last."""


class Cleaner:
    """Cleans the texts of files, joins them, and counts what was changed.

    Parameters
    ----------
    level : one of `LEVELS`; at byte level nothing is cleaned and nothing put between files
    keep_gutenberg : leave Project Gutenberg's header and footer in
    json_field : field of JSON lines that is the text; "" for none
    column : name of the column of tables that is the text, or its number, from 1; "" for none
    skip_null : leave out records whose field is null, empty in a table, or absent
    documents : "files" if the newline between two files, or two records, is a `MARK`; "lines" if each newline is, and
        the text has an `EDGE` on both sides; "none"
    """

    def __init__(
        self,
        level: str,
        *,
        keep_gutenberg: bool = False,
        json_field: str = "",
        column: str = "",
        skip_null: bool = False,
        documents: str = "none",
    ) -> None:
        self.level, self.keep_gutenberg, self.documents = level, keep_gutenberg, documents
        self.json_field, self.column, self.skip_null = json_field, column, skip_null
        self.files = self.marks = self.crlf = self.cr = self.books = self.gutenberg = self.begun = self.nulls = 0
        self.empty = 0
        self.odd: dict[str, list[str]] = {}

    def pieces(self, files: Iterable[tuple[str, str, Iterable[bytes]]]) -> Iterator[str] | Iterator[bytes]:
        """Yield pieces of the text of files: for each its name for messages, its path, and its bytes in blocks."""
        if self.level == "byte":
            return self._bytes(files)
        return self.joined(piece for file in files for piece in self._file(*file))

    def _bytes(self, files: Iterable[tuple[str, str, Iterable[bytes]]]) -> Iterator[bytes]:
        for where, _, blocks in files:
            yield from _not_empty(blocks, where)
            self.files += 1

    def _file(self, where: str, path: str, blocks: Iterable[bytes]) -> Iterator[tuple[bool, str]]:
        """Yield pieces of a file, and whether a document begins with each."""
        size = 0
        for document in self._documents(decoded(_not_empty(blocks, where), where), where, path):
            for part in self.parts(self._document(document), where):
                begins = True
                for piece in part:
                    yield begins, piece
                    begins, size = False, size + len(piece)
                if begins:
                    yield True, ""
        if not size:
            what = "there is only a byte-order mark in it"
            if self.documents == "lines":
                what = "all of its lines are empty"
            if name := self.json_field or self.column:
                what = f"no record has a text in the field {brief(name)}"
            raise UnrolledError(f"{where}: {what}; expected some text")
        self.files += 1

    def parts(self, pieces: Iterable[str], where: str) -> Iterator[Iterable[str]]:
        """Yield the documents of a text that is clean: each of its lines that has something in it, or all of it."""
        if self.documents != "lines":
            yield pieces
            return
        for line in lines_of(pieces, where):
            if line.strip():
                yield [line]
            else:
                self.empty += 1

    def _documents(self, text: Iterator[str], where: str, path: str) -> Iterator[Iterable[str]]:
        """Yield the documents of a file: its records, or all of it."""
        if not (self.json_field or self.column):
            first = next(text, "")
            if advice := looks_like(first[:LOOKED_AT], path):
                self.odd.setdefault(advice, []).append(where)
            yield chain([first], text)
            return
        if self.json_field:
            found = fields(text, self.json_field, where, skip_null=self.skip_null)
        else:
            found = column(self._folded(text), self.column, where, path, skip_null=self.skip_null)
        for value in found:
            if value is None:
                self.nulls += 1
            else:
                yield [value]

    def _document(self, pieces: Iterable[str]) -> Iterator[str]:
        """Clean the pieces of one document."""
        pieces = self._folded(pieces)
        if self.keep_gutenberg:
            yield from pieces
            return
        stripper = Stripper()
        yield from stripper.kept(pieces)
        self.books += stripper.removed > 0
        self.gutenberg += stripper.removed

    def _folded(self, pieces: Iterable[str]) -> Iterator[str]:
        """Drop a byte-order mark, and fold line ends to LF."""
        held = ""
        for n, piece in enumerate(pieces):
            if not n and piece.startswith("\ufeff"):
                self.marks += 1
                piece = piece[1:]
            piece = held + piece
            held = "\r" if piece.endswith("\r") else ""  # a CRLF may be cut in two
            yield self._fold(piece[: len(piece) - len(held)])
        if held:
            yield self._fold(held)

    def _fold(self, text: str) -> str:
        if "\r" not in text:
            return text
        crlf = text.count("\r\n")
        self.crlf += crlf
        self.cr += text.count("\r") - crlf
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def joined(self, pieces: Iterable[tuple[bool, str]]) -> Iterator[str]:
        """Documents one after the other, each but the last ending a line."""
        newline, held = "\n" if self.documents == "none" else MARK, ""
        if self.documents == "lines":
            yield EDGE
        for begins, piece in pieces:
            if begins and self.begun:
                yield newline
            elif held:
                yield held
            self.begun += begins
            held = piece[-1:] if piece.endswith("\n") else ""
            if body := piece[: len(piece) - len(held)]:
                yield body
        if self.documents == "lines":
            yield EDGE
        elif held:
            yield held

    def notes(self) -> list[str]:
        """Return what was changed, in plain sentences."""
        notes = []
        if self.documents == "files":
            alone = "" if self.begun > 1 else ": a text file is one; --documents lines makes one of each line"
            notes.append(f"{count(self.begun, 'document')}, kept apart{alone}")
        elif self.documents == "lines":
            left_out = f" ({count(self.empty, 'empty line')} left out)" if self.empty else ""
            notes.append(f"{count(self.begun, 'line')}, each a document that its newline ends{left_out}")
        if self.marks:
            notes.append("byte-order mark dropped" if self.marks == 1 else f"{self.marks:,} byte-order marks dropped")
        if self.crlf:
            notes.append(f"{count(self.crlf, 'CRLF line end')} folded to LF")
        if self.cr:
            notes.append(f"{count(self.cr, 'CR line end')} folded to LF")
        if self.nulls:
            notes.append(f"{count(self.nulls, 'record')} without a text left out")
        if self.gutenberg:
            where = f" in {self.books:,} files" if self.books > 1 else ""
            size = count(self.gutenberg, "character")
            notes.append(
                f"Project Gutenberg header and footer left out{where}: {size}; --keep-gutenberg leaves them in"
            )
        for advice, files in self.odd.items():
            more = f" (and {len(files) - 1:,} more)" if len(files) > 1 else ""
            notes.append(f"{files[0]}{more} {advice}")
        return notes


def _not_empty(blocks: Iterable[bytes], where: str) -> Iterator[bytes]:
    empty = True
    for block in blocks:
        empty = empty and not block
        yield block
    if empty:
        raise UnrolledError(f"{where}: the file is empty; expected some text")


CONVERT = "convert it to UTF-8, or read it with --level byte"
"""What to do with a text that is not UTF-8."""


def decoded(blocks: Iterable[bytes], where: str, encoding: str = "utf-8", advice: str = CONVERT) -> Iterator[str]:
    r"""Decode UTF-8, or another encoding, block by block; a character may be cut in two.

    A NUL is no character of a text: UTF-16 and UTF-32 without a mark, and binary files, are full of them. `advice` is
    what to do with bytes that are no text.

    Examples
    --------
    >>> list(decoded([b"na\xc3", b"\xafve"], "a file")), list(decoded([b"na\xefve"], "a file", "latin-1"))
    (['na', 'ïve'], ['naïve'])
    """
    decoder, before, head = codecs.getincrementaldecoder(encoding)(), 0, b""
    for block in _and_last(blocks):
        pending, head = decoder.getstate()[0], (head + block[: LOOKED_AT - len(head)] if before < LOOKED_AT else head)
        try:
            piece = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at, name = before - len(pending) + error.start, "UTF-8" if encoding == "utf-8" else encoding
            said = f"byte 0x{error.object[error.start]:02x} at offset {at} is not {name}"
            raise _no_text(where, head, said, advice) from None
        except UnicodeError as error:  # UTF-16 and UTF-32 without their mark
            raise _no_text(where, head, f"{encoding}: {error}", advice) from None
        if "\0" in piece:
            at = max(block.find(b"\0"), 0)
            raise _no_text(where, head, f"byte 0x00 at offset {before + at} is no character of a text", advice)
        before += len(block)
        if piece:
            yield piece


def _and_last(blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield from (block for block in blocks if block)
    yield b""


LOOKED_AT = 1 << 12
"""Bytes, or characters, at the beginning of a file that tell what it is."""

_OTHERS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"%PDF-": "PDF",
    b"\x93NUMPY": "a .npy array",
}
_ADVICE = {
    "gzip": "unpack it first",
    "zip": "unzip it, and name what is in it (documents of offices and e-books are zip files too)",
    "PDF": "take its text out first, say with pdftotext",
    "a .npy array": "read it with --level tokens",
}


def _no_text(where: str, head: bytes, what: str, advice: str) -> UnrolledError:
    """Return what to say of a file that is no UTF-8 text, from its beginning."""
    name = next((name for start, name in _OTHERS.items() if head.startswith(start)), "") or _wide(head)
    hint = f" (the file looks like {name})" if name else ""
    return UnrolledError(f"{where}: {what}{hint}; {_ADVICE.get(name, advice)}")


def _wide(head: bytes) -> str:
    """Return which of UTF-16 and UTF-32 a beginning looks like, from where its NULs are."""
    for size, name in ((4, "UTF-32"), (2, "UTF-16")):
        units = len(head) // size
        for first in (0, size - 1) if size == 2 else (0, 3):  # big-endian, little-endian
            zeros = head[first : units * size : size].count(0)
            if units and zeros > 0.7 * units and (size == 2 or head.count(0) > 0.6 * len(head)):
                return name
    return ""


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
