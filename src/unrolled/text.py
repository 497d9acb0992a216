"""Files -> text -> tokens: reading and cleaning, the default corpus, vocabularies, entropies, the split.

A text is a `str` at the level of characters ("char") and `bytes` at the level of bytes ("byte"). Reading says in plain
sentences what it changed; at byte level it changes nothing.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import platform
import re
import stat
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batches import Tokens, as_tokens
from .errors import UnrolledError, suggest

LEVELS = ("char", "byte")

# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """A text, and where it came from.

    Attributes
    ----------
    text : str at char level, bytes at byte level
    level : "char" or "byte"
    name : short, fit for a folder's name: "book" for book.txt, "stdin", "stdlib"; "book+2" for book.txt and two more
    sources : the number of files
    notes : what was read and cleaned, in plain sentences
    paths : what was named, "-" for standard input; () for the default corpus and for texts that were no file
    strip_gutenberg : whether Project Gutenberg's header and footer were left out
    """

    text: str | bytes = field(repr=False)
    level: str
    name: str
    sources: int = 1
    notes: tuple[str, ...] = ()
    paths: tuple[str, ...] = field(default=(), repr=False)
    strip_gutenberg: bool = field(default=False, repr=False)


def read(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    level: str = "char",
    *,
    strip_gutenberg: bool = False,
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
    level : "char" or "byte"
    strip_gutenberg : leave out Project Gutenberg's header and footer, file by file; char level only

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
    _check_level(level)
    if strip_gutenberg and level == "byte":
        raise UnrolledError("--strip-gutenberg works on characters, and the level is byte; leave out one of the two")
    given = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    if not given:
        raise UnrolledError("no file given; name at least one file or directory, or - for standard input")
    if given.count("-") > 1:
        raise UnrolledError("standard input (-) is named more than once; it can be read only once")

    cleaner = _Cleaner(level, strip_gutenberg)
    notes: list[str] = []
    for path in given:
        if path == "-":
            cleaner.add(_standard_input(), "standard input")
        elif path and os.path.isdir(path):
            notes += _read_directory(Path(path), cleaner)
        else:
            cleaner.add(_file_bytes(path), _shown(path))
    if len(cleaner) > 1:
        notes.insert(0, f"{len(cleaner):,} files read")
    name = _name(given[0]) + (f"+{len(given) - 1}" if len(given) > 1 else "")
    notes += cleaner.notes()
    return Corpus(cleaner.text(), level, name, len(cleaner), tuple(notes), tuple(given), strip_gutenberg)


class _Cleaner:
    """Collects the texts of files, cleaned, and counts what was changed."""

    def __init__(self, level: str, strip_gutenberg: bool) -> None:
        self.level, self.strip = level, strip_gutenberg
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
        text = self._clean(text)
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
            notes.append(f"{_count(self.crlf, 'CRLF line end')} folded to LF")
        if self.cr:
            notes.append(f"{_count(self.cr, 'CR line end')} folded to LF")
        if self.gutenberg:
            where = f" in {self.gutenberg_files:,} files" if self.gutenberg_files > 1 else ""
            size = _count(self.gutenberg, "character")
            notes.append(
                f"Project Gutenberg header and footer left out{where}: {size}"
                if self.strip
                else f"Project Gutenberg header and footer are part of the text{where} ({size}); "
                "--strip-gutenberg leaves them out"
            )
        elif self.strip:
            notes.append("no Project Gutenberg markers found, so nothing was stripped")
        return notes


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
        if cleaner.level == "char" and b"\0" in _file_bytes(path, at_most=1 << 16):
            skipped["binary file"] += 1  # found out before reading a large one
            continue
        data = _file_bytes(path)
        if cleaner.level == "char" and (b"\0" in data or not _is_utf8(data)):
            skipped["binary file"] += 1
        elif data.removeprefix(codecs.BOM_UTF8 if cleaner.level == "char" else b""):
            cleaner.add(data, _shown(path))
        else:
            skipped["empty file"] += 1
    counts = [_count(number, kind) for kind, number in sorted((+skipped).items())]
    if len(cleaner) == before:
        found = f" (skipped: {', '.join(counts)})" if counts else ""
        what = "UTF-8 text file" if cleaner.level == "char" else "file"
        raise UnrolledError(f"{_shown(root)}: no text in this directory{found}; expected at least one {what}")
    return [f"{_shown(root)}: skipped {', '.join(counts)}"] if counts else []


def _walk(root: Path, skipped: Counter[str]) -> list[Path]:
    """All regular files below `root`, neither hidden nor in a hidden folder, sorted by their parts."""

    def fail(error: OSError) -> None:
        raise UnrolledError(f"{_shown(error.filename)}: {_reason(error)}; make the folder readable, or move it away")

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


def _file_bytes(path: str | Path, at_most: int = -1) -> bytes:
    """The bytes of a regular file (the first `at_most`), or an error that names it."""
    mode = _mode(path)
    if not stat.S_ISREG(mode):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise UnrolledError(f"{_shown(path)}: this is a {kind}, not a file; pipe the text in and name - instead")
    try:
        with open(path, "rb") as file:
            return file.read(at_most)
    except OSError as error:
        raise UnrolledError(f"{_shown(path)}: {_reason(error)}; expected a file that can be read") from None


def _mode(path: str | Path) -> int:
    """What kind of file a path is, as `stat` says it."""
    if not str(path):
        raise UnrolledError("a path is empty; name a file or directory, or - for standard input")
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        raise UnrolledError(f"{_shown(path)}: no such file; check the path") from None
    except OSError as error:
        raise UnrolledError(f"{_shown(path)}: {_reason(error)}; expected a file that can be read") from None
    except ValueError:
        raise UnrolledError(f"{_shown(path)}: a path can't hold a NUL character; check the path") from None


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


def _shown(path: str | os.PathLike[str]) -> str:
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


def _count(number: int, noun: str) -> str:
    """Number and noun: `1 file`, `1,200 files`, `2 hidden files or folders`."""
    if number != 1:
        noun = " or ".join(f"{word}s" for word in noun.split(" or "))
    return f"{number:,} {noun}"


def _check_level(level: str) -> None:
    if level not in LEVELS:
        raise UnrolledError(suggest("level", str(level), sorted(LEVELS)))


# --- Project Gutenberg ------------------------------------------------------------------------------------------------

# A marker of *** lines may run over up to three lines when the title is long.
_GUTENBERG_MARKER = r"""
    ^[ \t]*(?:
      (?P<start> \*{2,3}[ \t]*START[ ]OF[ ](?:TH(?:E|IS)[ ])?(?:COPYRIGHTED[ ])?PROJECT[ ]GUTENBERG\b
                 (?: [^\n*]* (?:\n[^\n*]*[^\s*][^\n*]*){0,2} \*{3} )? [^\n]*
               | \*+[ \t]*END[ *]*THE[ ]SMALL[ ]PRINT\b[^\n]* )
    | (?P<end>   \*{2,3}[ \t]*END[ ]OF[ ](?:TH(?:E|IS)[ ])?(?:COPYRIGHTED[ ])?PROJECT[ ]GUTENBERG\b[^\n]*
               | END[ ]OF[ ](?:TH(?:E|IS)[ ])?PROJECT[ ]GUTENBERG(?:['’]S)?[ ,][^\n]* )
    )"""


def strip_gutenberg(text: str) -> tuple[str, int]:
    r"""Leave out Project Gutenberg's header and footer -> (text, number of characters left out).

    The book is what stands between a line "*** START OF THE (or THIS) PROJECT GUTENBERG EBOOK ... ***", or the end of
    the "small print" in the oldest files, and the next line "*** END OF ..." or "End of (the) Project Gutenberg...".
    Blank lines around it go too. Several books in one text are each kept. A missing start marker means the text's
    beginning, a missing end marker its end; a text without markers, or with nothing between them, is returned whole.

    Examples
    --------
    >>> strip_gutenberg("A licence.\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nIt was.\n")
    ('It was.\n', 59)
    >>> strip_gutenberg("It was.\n")
    ('It was.\n', 0)
    """
    if "gutenberg" not in text and "Gutenberg" not in text and "GUTENBERG" not in text:
        return text, 0  # spares a long text the search below
    books: list[str] = []
    start: int | None = 0  # None outside of a book
    marked = False
    for marker in re.finditer(_GUTENBERG_MARKER, text, re.VERBOSE | re.MULTILINE | re.IGNORECASE):
        marked = True
        if marker["start"]:
            start = marker.end()
        elif start is not None:
            books.append(text[start : marker.start()])
            start = None
    if not marked:
        return text, 0
    if start is not None:
        books.append(text[start:])
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    kept = "".join(book.lstrip("\r\n").rstrip() + end_of_line for book in books if book.strip())
    return (kept, len(text) - len(kept)) if kept else (text, 0)


# --- the default corpus -----------------------------------------------------------------------------------------------

# Tests are full of data; encodings and pydoc_data are tables that a program wrote; the rest is not the library's.
_LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"})
_MACHINE_FILES = ("_sysconfigdata", "sitecustomize", "usercustomize")
_LONGEST_FILE = 40_000


def default_corpus(characters: int = 2_000_000, level: str = "char") -> Corpus:
    """Make a text of the Python standard library's source on this machine; the same Python gives the same text.

    Two million characters are one to two passes in two minutes of NumPy training on two cores, and hold more than
    a hundred files. To be a fair sample of the library whatever the number, and alike at its two ends (the end is held
    out for validation), the text takes the files not in the order of their paths but of the SHA-256 of their paths;
    asking for more continues the same text.

    Left out are tests, installed packages, `encodings` and `pydoc_data` (tables written by programs), files that
    describe the machine, files above 40,000 characters (so that no single one fills the held-out end), and files that
    are not pure ASCII (a few: their odd letters are too rare to learn, and without them the vocabulary is the 95
    printable characters, the newline, and in some versions another blank).

    Parameters
    ----------
    characters : the exact length of the text; the last file is cut. If the library has fewer, a note says so
    level : "char" or "byte"

    Raises
    ------
    UnrolledError
        If the source isn't there (an embedded or zipped Python).

    Examples
    --------
    >>> corpus = default_corpus(10_000)
    >>> len(corpus.text), corpus.name, corpus.text.isascii()
    (10000, 'stdlib', True)
    """
    _check_level(level)
    if characters < 1:
        raise UnrolledError(f"characters is {characters}; the default corpus must have 1 or more")
    root = Path(sysconfig.get_path("stdlib"))
    parts: list[str] = []
    length = 0
    for path in _library_files(root):
        part = _library_text(path)
        if part:
            parts.append(part)
            length += len(part)
        if length >= characters:
            break
    if not parts:
        raise UnrolledError(
            f"the default corpus is the source of Python's standard library, and {_shown(root)} holds none; "
            "name a text file to train on instead"
        )
    text = "".join(parts)[:characters]
    notes = [
        f"the source of Python {platform.python_version()}'s standard library: "
        f"{_count(len(text), 'character')} of {_count(len(parts), 'file')}",
        "left out: tests, installed packages, generated tables, files above "
        f"{_LONGEST_FILE:,} characters or not in pure ASCII",
    ]
    if len(text) < characters:
        notes.append(f"{characters:,} characters were asked for; the library here has no more")
    return Corpus(text if level == "char" else text.encode("ascii"), level, "stdlib", len(parts), tuple(notes))


def _library_files(root: Path) -> list[Path]:
    """The library's modules in the order of the SHA-256 of their paths below `root`."""
    found: list[Path] = []
    for folder, names, leaves in os.walk(root):
        names[:] = [name for name in names if name not in _LEFT_OUT and not name.startswith((".", "__", "config-"))]
        found += (Path(folder, name) for name in leaves if name.endswith(".py") and not name.startswith(_MACHINE_FILES))
    return sorted(found, key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())


def _library_text(path: Path) -> str:
    """Source of one module ending in a newline; nothing if it is too long or not pure ASCII."""
    data = _file_bytes(path)
    if not data.isascii() or len(data) > _LONGEST_FILE:
        return ""
    text = data.decode("ascii").replace("\r\n", "\n")
    return text if text.endswith("\n") or not text else text + "\n"


# --- vocabulary -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    r"""The symbols that a model knows: token `k` is `symbols[k]` at char level, the byte k at byte level.

    Attributes
    ----------
    level : "char" or "byte"
    symbols : distinct characters at char level; () at byte level, which always has all 256 values

    Raises
    ------
    UnrolledError
        If the symbols are none, repeated, or not single characters.

    Examples
    --------
    >>> vocabulary = Vocabulary.of("hello", "char")
    >>> vocabulary.symbols, len(vocabulary)
    (('e', 'h', 'l', 'o'), 4)
    >>> vocabulary.encode("hole")
    array([1, 3, 2, 0], dtype=int32)
    >>> vocabulary.decode([1, 0, 2, 2, 3])
    'hello'
    >>> Vocabulary("byte").encode("é")
    array([195, 169], dtype=int32)
    """

    level: str
    symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_level(self.level)
        if self.level == "byte":
            if self.symbols:
                raise UnrolledError(f"a byte vocabulary lists no symbols; got {len(self.symbols)}")
            return
        if not self.symbols:
            raise UnrolledError("the vocabulary has no symbols; it is made of a text of at least one character")
        for k, symbol in enumerate(self.symbols):
            if not isinstance(symbol, str) or len(symbol) != 1:
                raise UnrolledError(f"symbol {k} of the vocabulary is {symbol!r}; expected a single character")
        if len(set(self.symbols)) != len(self.symbols):
            symbol, times = Counter(self.symbols).most_common(1)[0]
            raise UnrolledError(f"the vocabulary lists {_point(symbol)} {times} times; expected distinct symbols")

    @classmethod
    def of(cls, text: str | bytes, level: str) -> Vocabulary:
        """Vocabulary of a text: its sorted distinct characters, or all 256 bytes."""
        _check_level(level)
        if level == "byte":
            return cls(level)
        return cls(level, tuple(sorted(set(_str(text)))))

    def __len__(self) -> int:
        return 256 if self.level == "byte" else len(self.symbols)

    @cached_property
    def _points(self) -> NDArray[np.uint32]:
        """Code point of each token (V,), little-endian, as UTF-32 has them."""
        return np.array([ord(symbol) for symbol in self.symbols], dtype="<u4")

    @cached_property
    def _table(self) -> NDArray[np.int32]:
        """Token of each code point, -1 where there is none; the last entry stands for all points above."""
        table = np.full(int(self._points.max()) + 2, -1, dtype=np.int32)
        table[self._points] = np.arange(len(self.symbols), dtype=np.int32)
        return table

    def encode(self, text: str | bytes) -> NDArray[np.int32]:
        """Text of N symbols -> tokens (N,) int32.

        At byte level a `str` stands for its UTF-8 bytes; bytes that Python smuggled into it as lone surrogates, as in
        command-line arguments, come out as they were.

        Raises
        ------
        UnrolledError
            If the text holds symbols that the vocabulary doesn't: names up to ten of them, and how often they occur.
        """
        if self.level == "byte":
            return np.frombuffer(_utf8(text), dtype=np.uint8).astype(np.int32)
        characters = _str(text)
        tokens = np.empty(len(characters), dtype=np.int32)
        step, table = 1 << 20, self._table  # in pieces, so that UTF-32 never takes four times the text
        for k in range(0, len(characters), step):
            piece = characters[k : k + step].encode("utf-32-le", "surrogatepass")
            points = np.frombuffer(piece, dtype="<u4")
            tokens[k : k + step] = table[np.minimum(points, len(table) - 1)]
        if tokens.size and tokens.min() < 0:
            raise UnrolledError(self._unknown(characters))
        return tokens

    def _unknown(self, text: str) -> str:
        known = set(self.symbols)
        counts = Counter(symbol for symbol in text if symbol not in known)
        named = [f"{_point(symbol)} x {times:,}" for symbol, times in counts.most_common(10)]
        more = f" and {len(counts) - 10:,} more" if len(counts) > 10 else ""
        found = f"{_count(len(counts), 'symbol')} ({_count(counts.total(), 'occurrence')})"
        return (
            f"the text has {found} that the vocabulary of {len(self):,} doesn't know: {', '.join(named)}{more}; "
            "leave them out, or train with them or at --level byte"
        )

    def decode(self, tokens: Sequence[int] | NDArray[Any]) -> str:
        """Tokens (N,) -> text; at byte level, bytes that aren't UTF-8 become U+FFFD.

        Raises
        ------
        UnrolledError
            If a token is outside the vocabulary.
        """
        ids = as_tokens(tokens)
        _check_range(ids, len(self))
        if self.level == "byte":
            return ids.astype(np.uint8).tobytes().decode("utf-8", "replace")
        return self._points[ids].tobytes().decode("utf-32-le", "surrogatepass")

    def decoder(self) -> Decoder:
        """Start decoding token by token, for text that is shown as it is drawn."""
        return Decoder(self)

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: the level, and at char level the list of symbols in the order of tokens."""
        return {"level": self.level} if self.level == "byte" else {"level": self.level, "symbols": list(self.symbols)}

    @classmethod
    def from_json(cls, data: object) -> Vocabulary:
        """Rebuild a vocabulary from what `to_json` gave.

        Raises
        ------
        UnrolledError
            If it isn't a vocabulary of ours: other keys, symbols repeated or not single characters.

        Examples
        --------
        >>> Vocabulary.from_json({"level": "char", "symbols": ["a", "b"]})
        Vocabulary(level='char', symbols=('a', 'b'))
        """
        if not isinstance(data, dict):
            raise UnrolledError(
                f"the vocabulary is a {type(data).__name__}; expected an object with a level and symbols"
            )
        level = data.get("level")
        if level not in LEVELS:
            raise UnrolledError(f"the vocabulary's level is {level!r}; expected 'char' or 'byte'")
        expected = {"level"} if level == "byte" else {"level", "symbols"}
        if set(data) != expected:
            got, wanted = (", ".join(sorted(map(str, keys))) for keys in (data, expected))
            raise UnrolledError(f"the {level} vocabulary has the keys {got}; expected {wanted}")
        symbols = data.get("symbols", [])
        if not isinstance(symbols, list):
            raise UnrolledError(f"the vocabulary's symbols are a {type(symbols).__name__}; expected a list")
        return cls(level, tuple(symbols))


class Decoder:
    """Tokens to text, one at a time.

    Examples
    --------
    >>> decoder = Vocabulary("byte").decoder()
    >>> [decoder.feed(token) for token in "né".encode()]
    ['n', '', 'é']
    >>> decoder.feed(0xC3), decoder.finish()
    ('', '\ufffd')
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Take one token; return the text it completes, which may be empty at byte level."""
        if not 0 <= token < len(self.vocabulary):
            raise UnrolledError(_outside(token, len(self.vocabulary)))
        return self._bytes.decode(bytes([token])) if self.vocabulary.level == "byte" else self.vocabulary.symbols[token]

    def finish(self) -> str:
        """End the text: U+FFFD for a character left incomplete, else nothing. The decoder may then be used anew."""
        return self._bytes.decode(b"", final=True)


def _point(symbol: str) -> str:
    return f"{symbol!r} (U+{ord(symbol):04X})"


def _str(text: str | bytes) -> str:
    if not isinstance(text, str):
        raise UnrolledError(f"the text is {type(text).__name__}; a char vocabulary takes str, a byte vocabulary bytes")
    return text


def _utf8(text: str | bytes) -> bytes:
    if not isinstance(text, str):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        symbol = text[error.start]
        raise UnrolledError(
            f"{_point(symbol)} at character {error.start} of the text is half a character, which has no UTF-8 bytes; "
            "leave it out"
        ) from None


def _outside(token: int, size: int) -> str:
    return f"token {token} is outside the vocabulary of {size:,} symbols; expected 0 to {size - 1}"


def _check_range(tokens: Tokens, size: int) -> None:
    if tokens.size:
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= size:
            raise UnrolledError(_outside(low if low < 0 else high, size))


# --- what to set a loss against ---------------------------------------------------------------------------------------


def unigram_entropy(tokens: Sequence[int] | NDArray[Any], size: int) -> float:
    """Entropy of the symbols' frequencies, H(x), in nats per symbol: the loss of knowing only how often each occurs.

    H(x) = -sum_a p(a) log p(a), with p(a) = n(a) / N.

    Parameters
    ----------
    tokens : (N,) integers below `size`
    size : V, the vocabulary's

    Raises
    ------
    UnrolledError
        If there is no token, or one is outside the vocabulary.

    Examples
    --------
    >>> print(f"{unigram_entropy([0, 1, 0, 1], 2) / np.log(2):.12f} bits")
    1.000000000000 bits
    """
    ids = _for_entropy(tokens, size, 1)
    return max(0.0, (_n_log_n(np.array([len(ids)])) - _n_log_n(np.bincount(ids))) / len(ids))


def bigram_entropy(tokens: Sequence[int] | NDArray[Any], size: int) -> float:
    """Entropy of a symbol given the one before, H(x_t | x_{t-1}), in nats per symbol.

    The loss, on the text itself, of knowing exactly how often each symbol follows each other one:
    -sum_ab p(a, b) log p(b | a), with p(a, b) = n(a, b) / (N - 1) and p(b | a) = n(a, b) / n(a, .). A model that has
    learned more than pairs goes below it.

    Parameters
    ----------
    tokens : (N,) integers below `size`, N at least 2
    size : V, the vocabulary's

    Raises
    ------
    UnrolledError
        If there are fewer than two tokens, or one is outside the vocabulary.

    Examples
    --------
    >>> bigram_entropy([0, 1, 0, 1, 0], 2)  # each symbol tells the next
    0.0
    >>> print(f"{bigram_entropy([0, 0, 1, 0, 0, 1, 0], 2) / np.log(2):.12f} bits")  # 0 tells nothing, 1 all: 4 / 6
    0.666666666667 bits
    """
    ids = _for_entropy(tokens, size, 2)
    before, after = ids[:-1], ids[1:]
    pairs = before.astype(np.int64)
    pairs *= size
    pairs += after
    # A table of all pairs when it is no larger than the text; else only those that occur.
    joint = np.bincount(pairs) if size * size <= len(ids) else np.unique(pairs, return_counts=True)[1]
    return max(0.0, (_n_log_n(np.bincount(before)) - _n_log_n(joint)) / len(pairs))


def _for_entropy(tokens: Sequence[int] | NDArray[Any], size: int, fewest: int) -> Tokens:
    ids = as_tokens(tokens)
    if len(ids) < fewest:
        raise UnrolledError(f"the text has {_count(len(ids), 'token')}; its entropy needs at least {fewest}")
    _check_range(ids, size)
    return ids if ids.dtype.itemsize < 8 else ids.astype(np.int64, copy=False)  # bincount takes no uint64


def _n_log_n(counts: NDArray[np.integer[Any]]) -> float:
    n = counts[counts > 0].astype(np.float64)
    return float(np.sum(n * np.log(n)))


# --- the split --------------------------------------------------------------------------------------------------------


def split(
    tokens: Sequence[int] | NDArray[Any], val_fraction: float, test_fraction: float = 0.0
) -> tuple[Tokens, Tokens, Tokens]:
    """Cut tokens (N,) into (train, val, test): contiguous views in this order, val and test rounded to whole tokens.

    Raises
    ------
    UnrolledError
        If a fraction is negative or not a number, or the two leave nothing to train on.

    Examples
    --------
    >>> [part.tolist() for part in split([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 0.2, 0.1)]
    [[0, 1, 2, 3, 4, 5, 6], [7, 8], [9]]
    """
    ids = as_tokens(tokens)
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not isinstance(fraction, Real) or not 0 <= fraction < 1:
            option = f"--{name.replace('_', '-')}"
            raise UnrolledError(f"{name} is {fraction!r}; it must be at least 0 and below 1 ({option})")
    if val_fraction + test_fraction >= 1:
        raise UnrolledError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} leave nothing to train on; "
            "their sum must be below 1"
        )
    val, test = round(len(ids) * val_fraction), round(len(ids) * test_fraction)
    train = len(ids) - val - test
    return ids[:train], ids[train : train + val], ids[train + val :]
