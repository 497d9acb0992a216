"""Files -> text, cleaned; reading says in plain sentences what it changed, and at byte level it changes nothing."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import re
import stat
import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from ..batches import Tokens, as_tokens
from ..errors import UnrolledError, check_path
from .pieces import MARK, Cleaner, Mark
from .words import check_level, count

PACKED = (".gz", ".zst", ".zstd")
"""Ends of the names of files that are read unpacked."""

LARGE = 64 << 20
"""Bytes from which on a text is not read into memory; packed files count four times."""

NO_ARRAY = (ValueError, OSError, EOFError, TokenError)
"""What NumPy raises for a file that is no array: its header is parsed as Python."""

BLOCK = 4 << 20
"""Bytes that a larger text is read in at once."""


@dataclass(frozen=True)
class Source:
    """A file, or what came through standard input: its name for messages, and its path or its bytes."""

    where: str
    path: str = ""
    data: bytes = field(default=b"", repr=False)

    @property
    def size(self) -> int:
        """Bytes that it has, about."""
        if not self.path:
            return len(self.data)
        return os.path.getsize(self.path) * (4 if self.path.endswith(PACKED) else 1)

    def blocks(self, size: int) -> Iterator[bytes]:
        """Its bytes, so many at once; all at once for -1."""
        return file_blocks(self.path, size) if self.path else iter([self.data])


@dataclass(frozen=True)
class Stream:
    """A text too large for the memory, which is read anew, in pieces, whenever it is needed.

    Attributes
    ----------
    sources : the files
    how : the options of `read`, as `Cleaner` takes them
    digest : SHA-256 of all files
    """

    sources: tuple[Source, ...]
    how: tuple[str, bool, str, bool]
    digest: str

    def cleaner(self) -> Cleaner:
        """Return what cleans the text, and has counted what it changed after `pieces`."""
        return Cleaner(*self.how)

    def pieces(self, cleaner: Cleaner) -> Iterator[str] | Iterator[bytes]:
        """Read the text; the size of a piece is bounded, but for lines of JSON and books to be stripped."""
        sizes = [-1 if cleaner.strip or source.size <= BLOCK else BLOCK for source in self.sources]
        files = zip(self.sources, sizes, strict=True)
        return cleaner.pieces((source.where, source.blocks(size), size < 0) for source, size in files)


@dataclass(frozen=True)
class Corpus:
    """A text, and where it came from.

    Attributes
    ----------
    text : str at the levels of text, bytes at byte level; an array (N,), memory-mapped, of tokens or a large file of
        bytes; a `Stream` where a larger text was asked for in that way
    level : one of `LEVELS`
    name : short, fit for a folder's name: "book" for book.txt, "stdin", "stdlib"; "book+2" for book.txt and two more
    sources : the number of files
    notes : what was read and cleaned, in plain sentences
    paths : what was named, "-" for standard input; () for the default corpus and for texts that were no file
    how : the options of `read` that it was read with
    documents : where documents are kept apart, the place of the newline before each but the first, (D - 1,)
    """

    text: str | bytes | Tokens | Stream = field(repr=False)
    level: str
    name: str
    sources: int = 1
    notes: tuple[str, ...] = ()
    paths: tuple[str, ...] = field(default=(), repr=False, compare=False)
    how: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    documents: Tokens | None = field(default=None, repr=False, compare=False)

    def pieces(self) -> Iterator[Any]:
        """The text in pieces, one of them for all of a small one; the newline between two documents is a `MARK`."""
        text = self.text
        if isinstance(text, Stream):
            yield from text.pieces(text.cleaner())
        elif self.documents is None:
            yield text
        else:
            assert isinstance(text, str)
            begin = 0
            for mark in self.documents.tolist():
                if mark > begin:
                    yield text[begin:mark]
                yield MARK
                begin = mark + 1
            if begin < len(text):
                yield text[begin:]


def read(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    level: str = "char",
    *,
    strip_gutenberg: bool = False,
    json_field: str = "",
    documents: bool = False,
    stream: bool = False,
) -> Corpus:
    r"""Read files, directories and "-" (standard input), in the order given, into one text.

    A directory is walked in sorted order. Hidden files and folders in it are skipped; at char level so are files that
    are not UTF-8 text or hold a NUL byte; a note counts them. Links to folders are not followed.

    But for byte level each file is decoded as UTF-8, a leading byte-order mark is dropped, CRLF and lone CR are folded
    to LF, and files are joined with a newline if the one before doesn't end with one. At byte level the bytes are
    joined as they are, with nothing between.

    Parameters
    ----------
    paths : one path or several
    level : one of `LEVELS`; "tokens" takes one .npy file of integers, which stays on the disk
    strip_gutenberg : leave out Project Gutenberg's header and footer, file by file; not at byte level
    json_field : files are JSON lines, and the text is this field of each line; not at byte level
    documents : remember where files, or the fields of JSON lines, begin: they are documents; not at byte level
    stream : give a text of `LARGE` bytes or more as a `Stream`

    Raises
    ------
    UnrolledError
        If a named file is missing, unreadable, empty, no regular file, or not UTF-8 (but for byte level), or a
        directory holds no text.

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
    named = {"--strip-gutenberg": strip_gutenberg, "--json-field": json_field, "--documents": documents}
    for option, value in named.items():
        if value and level in ("byte", "tokens"):
            raise UnrolledError(f"{option} works on characters, and the level is {level}; leave out one of the two")
    several = paths if isinstance(paths, Iterable) and not isinstance(paths, (str, bytes)) else [paths]
    given = [check_path("a file to read", path) for path in several]
    if not given:
        raise UnrolledError("no file given; name at least one file or directory, or - for standard input")
    if given.count("-") > 1:
        raise UnrolledError("standard input (-) is named more than once; it can be read only once")

    how = {"strip_gutenberg": strip_gutenberg, "json_field": json_field, "documents": documents}
    if level == "tokens" or (level == "byte" and len(given) == 1 and _is_large(given[0])):
        if len(given) > 1:
            raise UnrolledError(f"{len(given)} files of tokens are named; expected one .npy file")
        mapped = _npy(given[0]) if level == "tokens" else np.memmap(given[0], np.uint8, "r")
        note = f"{len(mapped):,} {'tokens' if level == 'tokens' else 'bytes'}, read from the disk as they are needed"
        return Corpus(mapped, level, _name(given[0]), 1, (note,), tuple(given), how)
    notes: list[str] = []
    sources = _sources(given, level, notes)
    if len(sources) > 1:
        notes.insert(0, f"{len(sources):,} files read")
    name = _name(given[0]) + (f"+{len(given) - 1}" if len(given) > 1 else "")
    text: str | bytes | Stream
    marks: Tokens | None = None
    if stream and sum(source.size for source in sources) >= LARGE:
        text = Stream(tuple(sources), (level, strip_gutenberg, json_field, documents), _digest(sources))
    else:
        cleaner = Cleaner(level, strip_gutenberg, json_field, documents)
        pieces: list[Any] = list(cleaner.pieces((source.where, source.blocks(-1), True) for source in sources))
        text = b"".join(pieces) if level == "byte" else "".join(pieces)
        marks = _places(pieces) if documents else None
        notes += cleaner.notes()
    return Corpus(text, level, name, len(sources), tuple(notes), tuple(given), how, marks)


def _places(pieces: Iterable[str]) -> Tokens:
    """Where the marks among pieces of a text are."""
    place, found = 0, array("q")
    for piece in pieces:
        if isinstance(piece, Mark):
            found.append(place)
        place += len(piece)
    return np.frombuffer(found, np.int64) if found else np.empty(0, np.int64)


def _is_large(path: str) -> bool:
    return path != "-" and os.path.isfile(path) and os.path.getsize(path) >= LARGE


def _npy(path: str) -> Tokens:
    """Integers (N,) of a .npy file, memory-mapped."""
    if path == "-" or not stat.S_ISREG(_mode(path)):
        raise UnrolledError(f"{shown(path)}: --level tokens takes a .npy file of integers")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except NO_ARRAY as error:
        why = " ".join(str(error).split())[:200]
        raise UnrolledError(f"{shown(path)}: this is no .npy file that can be read: {why}") from None
    if not isinstance(array, np.ndarray):
        raise UnrolledError(f"{shown(path)}: this is an archive of arrays; expected a .npy file of integers")
    if array.dtype.kind == "f" and array.size and not np.isfinite(array).all():
        raise UnrolledError(f"{shown(path)} holds numbers that are not finite; expected integers (N,)")
    return as_tokens(array, shown(path))


def _sources(paths: Sequence[str], level: str, notes: list[str]) -> list[Source]:
    """Files that are named, or in folders that are; `notes` takes what was skipped in those."""
    found: list[Source] = []
    for path in paths:
        if path == "-":
            found.append(Source("standard input", data=_standard_input()))
        elif path and os.path.isdir(path):
            found += _directory(Path(path), level, notes)
        else:
            _check_regular(path)
            found.append(Source(shown(path), path))
    return found


def _directory(root: Path, level: str, notes: list[str]) -> list[Source]:
    """Every text of a directory."""
    skipped: Counter[str] = Counter()
    found = []
    for path in _walk(root, skipped):
        if kind := _no_text(path, level):
            skipped[kind] += 1
        else:
            found.append(Source(shown(path), str(path)))
    counts = [count(number, kind) for kind, number in sorted((+skipped).items())]
    if not found:
        said = f" (skipped: {', '.join(counts)})" if counts else ""
        what = "file" if level == "byte" else "UTF-8 text file"
        raise UnrolledError(f"{shown(root)}: no text in this directory{said}; expected at least one {what}")
    if counts:
        notes.append(f"{shown(root)}: skipped {', '.join(counts)}")
    return found


def _no_text(path: Path, level: str) -> str:
    """What a file is that is no text; nothing for a text."""
    decoder, empty = codecs.getincrementaldecoder("utf-8-sig")(), True
    try:
        for block in file_blocks(path, BLOCK):
            if level == "byte":
                return "" if block else "empty file"
            if b"\0" in block:
                return "binary file"
            empty = not decoder.decode(block) and empty
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "binary file"
    return "empty file" if empty else ""


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


def _digest(sources: Sequence[Source]) -> str:
    """SHA-256 of files, as they lie on the disk."""
    digest = hashlib.sha256()
    for source in sources:
        if source.path:
            with _opened(source.path) as file:
                part = hashlib.file_digest(file, "sha256").digest()
        else:
            part = hashlib.sha256(source.data).digest()
        digest.update(part)
    return digest.hexdigest()


def file_blocks(path: str | Path, size: int = -1) -> Iterator[bytes]:
    """The bytes of a regular file, unpacked, so many at once (-1: all); errors name it."""
    try:
        with _opened(path) as file:
            if str(path).endswith(".gz"):
                yield from _blocks(gzip.GzipFile(fileobj=file), size)
            elif str(path).endswith(PACKED):
                yield from _zstd(file, path, size)
            else:
                yield from _blocks(file, size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnrolledError(f"{shown(path)}: the gzip file is damaged: {error}") from None
    except OSError as error:
        raise UnrolledError(f"{shown(path)}: {_reason(error)}; expected a file that can be read") from None


def _blocks(file: BinaryIO | gzip.GzipFile, size: int) -> Iterator[bytes]:
    if size < 0:
        yield file.read()
        return
    while block := file.read(size):
        yield block


def _zstd(file: BinaryIO, path: str | Path, size: int) -> Iterator[bytes]:
    """Unpacked blocks of a file of zstd frames."""
    try:
        import zstandard
    except ImportError:
        raise UnrolledError(f"{shown(path)}: zstd needs a package: pip install 'unrolled[zstd]'") from None
    decompressor, frame, unpacked = zstandard.ZstdDecompressor(), None, [b""]
    try:
        for packed in _blocks(file, min(size, 1 << 17)):
            while packed:
                frame = frame or decompressor.decompressobj()
                unpacked.append(frame.decompress(packed))
                packed = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
            if size >= 0 and sum(map(len, unpacked)) >= size:
                yield b"".join(unpacked)
                unpacked = []
    except zstandard.ZstdError as error:
        raise UnrolledError(f"{shown(path)}: the zstd file is damaged: {error}") from None
    if frame is not None:
        raise UnrolledError(f"{shown(path)}: the zstd file is damaged: it ends in the middle of a frame")
    if size < 0 or unpacked:
        yield b"".join(unpacked)


def _check_regular(path: str | Path) -> None:
    mode = _mode(path)
    if not stat.S_ISREG(mode):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise UnrolledError(f"{shown(path)}: this is a {kind}, not a file; pipe the text in and name - instead")


def _opened(path: str | Path) -> io.BufferedReader:
    _check_regular(path)
    try:
        return open(path, "rb")
    except OSError as error:
        raise UnrolledError(f"{shown(path)}: {_reason(error)}; expected a file that can be read") from None


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
