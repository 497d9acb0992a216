"""Files -> text, cleaned; reading says in plain sentences what it changed, and at byte level it changes nothing."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..batches import Tokens, as_tokens
from ..errors import UnrolledError, check_path
from .gutenberg import strip_gutenberg
from .words import check_level, count

PACKED = (".gz", ".zst", ".zstd")
"""Ends of the names of files that are read unpacked."""

LARGE = 64 << 20
"""Bytes from which on a file is not read into memory, at byte level."""


@dataclass(frozen=True)
class Corpus:
    """A text, and where it came from.

    Attributes
    ----------
    text : str at the levels char and word, bytes at byte level; an array (N,), memory-mapped, of tokens or large files
    level : one of `LEVELS`
    name : short, fit for a folder's name: "book" for book.txt, "stdin", "stdlib"; "book+2" for book.txt and two more
    sources : the number of files
    notes : what was read and cleaned, in plain sentences
    paths : what was named, "-" for standard input; () for the default corpus and for texts that were no file
    how : the options of `read` that it was read with
    """

    text: str | bytes | Tokens = field(repr=False)
    level: str
    name: str
    sources: int = 1
    notes: tuple[str, ...] = ()
    paths: tuple[str, ...] = field(default=(), repr=False, compare=False)
    how: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def read(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    level: str = "char",
    *,
    strip_gutenberg: bool = False,
    json_field: str = "",
) -> Corpus:
    r"""Read files, directories and "-" (standard input), in the order given, into one text.

    A directory is walked in sorted order. Hidden files and folders in it are skipped; at char level so are files that
    are not UTF-8 text or hold a NUL byte; a note counts them. Links to folders are not followed.

    At char level each file is decoded as UTF-8, a leading byte-order mark is dropped, CRLF and lone CR are folded to
    LF, and files are joined with a newline if the one before doesn't end with one. At byte level the bytes are joined
    as they are, with nothing between.

    Parameters
    ----------
    paths : one path or several
    level : one of `LEVELS`; "tokens" takes one .npy file of integers, which stays on the disk
    strip_gutenberg : leave out Project Gutenberg's header and footer, file by file; not at byte level
    json_field : files are JSON lines, and the text is this field of each line; not at byte level

    Raises
    ------
    UnrolledError
        If a named file is missing, unreadable, empty, no regular file, or (char level) not UTF-8, or a directory holds
        no text.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "book.txt")
    ...     _ = path.write_bytes(b"one\r\ntwo\r\n")
    ...     read(path), read(path).text
    (Corpus(level='char', name='book', sources=1, notes=('2 CRLF line ends folded to LF',)), 'one\ntwo\n')
    """
    check_level(level)
    if strip_gutenberg and level == "byte":
        raise UnrolledError("--strip-gutenberg works on characters, and the level is byte; leave out one of the two")
    several = paths if isinstance(paths, Iterable) and not isinstance(paths, (str, bytes)) else [paths]
    given = [check_path("a file to read", path) for path in several]
    if not given:
        raise UnrolledError("no file given; name at least one file or directory, or - for standard input")
    if given.count("-") > 1:
        raise UnrolledError("standard input (-) is named more than once; it can be read only once")

    how = {"strip_gutenberg": strip_gutenberg, "json_field": json_field}
    if level == "tokens" or (level == "byte" and len(given) == 1 and _is_large(given[0])):
        if len(given) > 1:
            raise UnrolledError(f"{len(given)} files of tokens are named; expected one .npy file")
        array = _npy(given[0]) if level == "tokens" else np.memmap(given[0], np.uint8, "r")
        note = f"{len(array):,} {'tokens' if level == 'tokens' else 'bytes'}, read from the disk as they are needed"
        return Corpus(array, level, _name(given[0]), 1, (note,), tuple(given), how)
    if json_field and level == "byte":
        raise UnrolledError("--json-field works on characters, and the level is byte; leave out one of the two")
    cleaner = _Cleaner(level, strip_gutenberg, json_field)
    notes: list[str] = []
    for path in given:
        if path == "-":
            cleaner.add(_standard_input(), "standard input")
        elif path and os.path.isdir(path):
            notes += _read_directory(Path(path), cleaner)
        else:
            cleaner.add(file_bytes(path), shown(path))
    if len(cleaner) > 1:
        notes.insert(0, f"{len(cleaner):,} files read")
    name = _name(given[0]) + (f"+{len(given) - 1}" if len(given) > 1 else "")
    notes += cleaner.notes()
    return Corpus(cleaner.text(), level, name, len(cleaner), tuple(notes), tuple(given), how)


def _is_large(path: str) -> bool:
    return path != "-" and os.path.isfile(path) and os.path.getsize(path) >= LARGE


def _npy(path: str) -> Tokens:
    """Integers (N,) of a .npy file, memory-mapped."""
    if path == "-" or not stat.S_ISREG(_mode(path)):
        raise UnrolledError(f"{shown(path)}: --level tokens takes a .npy file of integers")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        why = " ".join(str(error).split())[:200]
        raise UnrolledError(f"{shown(path)}: this is no .npy file that can be read: {why}") from None
    if not isinstance(array, np.ndarray):
        raise UnrolledError(f"{shown(path)}: this is an archive of arrays; expected a .npy file of integers")
    if array.dtype.kind == "f" and array.size and not np.isfinite(array).all():
        raise UnrolledError(f"{shown(path)} holds numbers that are not finite; expected integers (N,)")
    return as_tokens(array, shown(path))


class _Cleaner:
    """Collects the texts of files, cleaned, and counts what was changed."""

    def __init__(self, level: str, strip_gutenberg: bool, json_field: str = "") -> None:
        self.level, self.strip, self.json_field = level, strip_gutenberg, json_field
        self.texts: list[str] = []
        self.blobs: list[bytes] = []
        self.marks = self.crlf = self.cr = self.gutenberg_files = self.gutenberg = 0

    def add(self, data: bytes, where: str) -> None:
        """Take the bytes of a file; errors name it as `where`."""
        if not data:
            raise UnrolledError(f"{where}: the file is empty; expected some text")
        if self.level == "byte":
            self.blobs.append(data)
            return
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnrolledError(
                f"{where}: byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8"
                f"{_looks_like(data)}; convert it to UTF-8, or read it with --level byte"
            ) from None
        text = self._clean(_field(text, self.json_field, where) if self.json_field else text)
        if not text:
            raise UnrolledError(f"{where}: nothing but a byte-order mark in the file; expected some text")
        self.texts.append(text)

    def _clean(self, text: str) -> str:
        if text.startswith("\ufeff"):
            self.marks += 1
            text = text[1:]
        if "\r" in text:
            crlf = text.count("\r\n")
            self.crlf += crlf
            self.cr += text.count("\r") - crlf
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        kept, removed = strip_gutenberg(text)
        if removed:
            self.gutenberg_files += 1
            self.gutenberg += removed
        return kept if self.strip else text

    def text(self) -> str | bytes:
        return b"".join(self.blobs) if self.level == "byte" else _join(self.texts)

    def __len__(self) -> int:
        return len(self.texts) + len(self.blobs)

    def notes(self) -> list[str]:
        notes = []
        if self.marks:
            notes.append("byte-order mark dropped" if self.marks == 1 else f"{self.marks:,} byte-order marks dropped")
        if self.crlf:
            notes.append(f"{count(self.crlf, 'CRLF line end')} folded to LF")
        if self.cr:
            notes.append(f"{count(self.cr, 'CR line end')} folded to LF")
        if self.gutenberg:
            where = f" in {self.gutenberg_files:,} files" if self.gutenberg_files > 1 else ""
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


def _field(text: str, name: str, where: str) -> str:
    """One field of every JSON line, each ending a line."""
    found = []
    for n, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)[name]
            except (ValueError, RecursionError):
                raise UnrolledError(f"{where}, line {n} is no JSON; --json-field expects one object a line") from None
            except (KeyError, TypeError, IndexError):
                raise UnrolledError(f"{where}, line {n} is no object with a field {name!r} (--json-field)") from None
            if not isinstance(value, str):
                raise UnrolledError(f"{where}, line {n}: the field {name!r} is {value!r:.60}; expected a text")
            found.append(value)
    return _join(found)


def _join(parts: Iterable[str]) -> str:
    """Texts one after the other, each but the last ending a line."""
    pieces: list[str] = []
    for part in parts:
        if pieces and not pieces[-1].endswith("\n"):
            pieces.append("\n")
        pieces.append(part)
    return "".join(pieces)


def _read_directory(root: Path, cleaner: _Cleaner) -> list[str]:
    """Add every text of a directory; returns notes about what was skipped."""
    skipped: Counter[str] = Counter()
    before = len(cleaner)
    for path in _walk(root, skipped):
        if cleaner.level != "byte" and not str(path).endswith(PACKED) and b"\0" in file_bytes(path, at_most=1 << 16):
            skipped["binary file"] += 1  # found out before reading a large one
            continue
        data = file_bytes(path)
        if cleaner.level != "byte" and (b"\0" in data or not _is_utf8(data)):
            skipped["binary file"] += 1
        elif data.removeprefix(b"" if cleaner.level == "byte" else codecs.BOM_UTF8):
            cleaner.add(data, shown(path))
        else:
            skipped["empty file"] += 1
    counts = [count(number, kind) for kind, number in sorted((+skipped).items())]
    if len(cleaner) == before:
        found = f" (skipped: {', '.join(counts)})" if counts else ""
        what = "file" if cleaner.level == "byte" else "UTF-8 text file"
        raise UnrolledError(f"{shown(root)}: no text in this directory{found}; expected at least one {what}")
    return [f"{shown(root)}: skipped {', '.join(counts)}"] if counts else []


def _walk(root: Path, skipped: Counter[str]) -> list[Path]:
    """All regular files below `root`, neither hidden nor in a hidden folder, sorted by their parts."""

    def fail(error: OSError) -> None:
        raise UnrolledError(f"{shown(error.filename)}: {_reason(error)}; make the folder readable, or move it away")

    files = []
    for folder, names, leaves in os.walk(root, onerror=fail):
        hidden = [name for name in names + leaves if name.startswith(".")]
        links = [name for name in names if not name.startswith(".") and Path(folder, name).is_symlink()]
        skipped["hidden file or folder"] += len(hidden)
        skipped["linked folder"] += len(links)
        names[:] = [name for name in names if not name.startswith(".")]
        for path in (Path(folder, name) for name in leaves if not name.startswith(".")):
            broken_link = path.is_symlink() and not os.path.exists(path)
            if not broken_link and stat.S_ISREG(_mode(path)):
                files.append(path)
            else:
                skipped["special file"] += 1  # a broken link, a pipe, a device
    return sorted(files, key=lambda path: path.relative_to(root).parts)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def file_bytes(path: str | Path, at_most: int = -1) -> bytes:
    """The bytes of a regular file (the first `at_most`), or an error that names it."""
    mode = _mode(path)
    if not stat.S_ISREG(mode):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise UnrolledError(f"{shown(path)}: this is a {kind}, not a file; pipe the text in and name - instead")
    try:
        with open(path, "rb") as file:
            return _unpacked(file.read(at_most), path) if at_most < 0 else file.read(at_most)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnrolledError(f"{shown(path)}: the gzip file is damaged: {error}") from None
    except OSError as error:
        raise UnrolledError(f"{shown(path)}: {_reason(error)}; expected a file that can be read") from None


def _unpacked(data: bytes, path: str | Path) -> bytes:
    """The content of a file whose name says that it is compressed; others are as they are."""
    if str(path).endswith(".gz"):
        return gzip.decompress(data)
    if str(path).endswith(PACKED):
        try:
            import zstandard
        except ImportError:
            raise UnrolledError(f"{shown(path)}: zstd needs a package: pip install 'unrolled[zstd]'") from None
        try:
            return bytes(zstandard.ZstdDecompressor().stream_reader(data).read())
        except zstandard.ZstdError as error:
            raise UnrolledError(f"{shown(path)}: the zstd file is damaged: {error}") from None
    return data


def _mode(path: str | Path) -> int:
    """What kind of file a path is, as `stat` says it."""
    if not str(path):
        raise UnrolledError("a path is empty; name a file or directory, or - for standard input")
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        raise UnrolledError(f"{shown(path)}: no such file; check the path") from None
    except OSError as error:
        raise UnrolledError(f"{shown(path)}: {_reason(error)}; expected a file that can be read") from None


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise UnrolledError("standard input is closed; pipe a text in, or name a file")
    return sys.stdin.buffer.read()


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _looks_like(data: bytes) -> str:
    for mark, name in ((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"), (b"\x1f\x8b", "gzip")):
        if data.startswith(mark):
            return f" (the file looks like {name})"
    return ""


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message of one line: as it is, or quoted where it holds what can't be printed."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def _name(path: str) -> str:
    """Short name of a path, fit for a folder."""
    if path == "-":
        return "stdin"
    full = Path(os.path.abspath(path))  # not resolved: a link keeps its own name
    stem = full.name if full.is_dir() else full.stem
    return re.sub(r"[^\w.+-]+", "-", stem).strip("-.") or "text"
