"""Files -> text, cleaned; reading says in plain sentences what it changed, and at byte level it changes nothing."""

from __future__ import annotations

import codecs
import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...checks import as_kind, check_a
from ...declared import described, keywords
from ...errors import UnrolledError, brief, check_path
from ...keywords import named
from ..batches import Tokens
from .cleaning import MARK, Cleaner, decoded
from .corpus import Corpus, Stream
from .files import Source, are_large, is_pipe, short_name, shown, sources
from .levels import LEVELS, check_level
from .options import Reading, recorded


@named(keywords(Reading))
@described(Reading)
def read(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    level: str = "char",
    *,
    stream: bool = False,
    **options: Any,
) -> Corpus:
    r"""Read files, directories, pipes and "-" (standard input), in the order given, into one text.

    A directory is walked in sorted order. Hidden files and folders in it are skipped, and what may not be read; so are,
    but for byte level, files that are not UTF-8 text or hold a NUL byte; a note counts them. Links to folders are not
    followed.

    Files of gzip, zstd, bz2 and xz are read unpacked; their first bytes tell them. But for byte level each file is
    decoded as UTF-8, a leading byte-order mark is dropped, CRLF and lone CR are folded to LF, Project Gutenberg's
    header and footer are left out, and files are joined with a newline if the one before doesn't end with one. At byte
    level the bytes are joined as they are, with nothing between.

    Parameters
    ----------
    paths : one path or several
    level : one of `LEVELS`; "tokens" takes one .npy file of integers
    stream : give a text of `files.LARGE` bytes or more as a `Stream`
    **options

    Raises
    ------
    UnrolledError
        If a named file is missing, unreadable, empty, a device, or not UTF-8 (but for byte level), more comes out of a
        packed file than UNROLLED_MAX_TEXT, or a directory holds no text.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "book.txt")
    ...     _ = path.write_bytes(b"one\r\ntwo\r\n")
    ...     read(path), read(path).text
    (Corpus(level='char', name='book', sources=1, notes=('2 CRLF line ends folded to LF',)), 'one\ntwo\n')
    """
    check_level(level)
    chosen = Reading(**recorded(options))
    chosen.check_level(level)
    as_kind("stream", stream, "bool")
    how = asdict(chosen)
    given = _given(paths)
    notes: list[str] = []
    found = _array(given) if level == "tokens" else sources(given, level, notes)
    if len(found) > 1:
        notes.insert(0, f"{len(found):,} files read")
    name = short_name("-" if is_pipe(given[0]) else given[0]) + (f"+{len(given) - 1}" if len(given) > 1 else "")
    text: str | bytes | Tokens | Stream
    marks: Tokens | None = None
    if stream and are_large(found):
        text = Stream(tuple(found), level, how, _digest(found))
    else:
        whole = Stream(tuple(found), level, how, "")
        cleaner = whole.cleaner()
        pieces: list[Any] = list(whole.pieces(cleaner))
        text = _joined(level, pieces)
        marks = _places(pieces) if chosen.documents != "none" else None
        notes += cleaner.notes()
    return Corpus(text, level, name, len(found), tuple(notes), tuple(given), how, marks)


def whole_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> tuple[str, str]:
    r"""Read one file, pipe or "-" (standard input) as it is but for its packing, byte-order mark and line ends.

    Parameters
    ----------
    path : path
    encoding : str
        Any that Python knows: "utf-8", "latin-1" (ISO-8859-1), "cp1252", "utf-16".

    Returns
    -------
    text : str
        Its lines end with LF.
    where : str
        The file's name, for messages.

    Raises
    ------
    UnrolledError
        If the file can't be read, is a folder or empty, or has bytes that are none of the encoding.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "menu.txt")
    ...     _ = path.write_bytes(b"caf\xe9\r\n")
    ...     whole_text(path, "latin-1")[0]
    'café\n'
    """
    try:
        " ".encode(check_a("encoding", encoding, str, "the name of one, such as latin-1"))  # refuses what is of no text
        known = codecs.lookup(encoding)
    except (LookupError, UnicodeError):
        raise UnrolledError(f"no encoding is called {brief(encoding)}; utf-8, latin-1, cp1252 and utf-16 are") from None
    path = check_path("a file to read", path)
    if path and path != "-" and os.path.isdir(path):
        raise UnrolledError(f"{shown(path)} is a folder; expected a file")
    (source,) = sources([path], "char", [])
    advice = "--encoding names the right one, such as latin-1 (ISO-8859-1), cp1252 or utf-16"
    pieces = decoded(source.blocks(), source.where, known.name, advice)
    text = "".join(pieces).removeprefix("\ufeff")
    if not text:
        raise UnrolledError(f"{source.where}: the file is empty")
    return text.replace("\r\n", "\n").replace("\r", "\n"), source.where


def _given(paths: Any) -> list[str]:
    """Return the paths of what is named to be read, one or several."""
    single = isinstance(paths, (str, bytes)) or not isinstance(paths, Iterable) or getattr(paths, "ndim", 1) == 0
    given = [check_path("a file to read", path) for path in ([paths] if single else paths)]
    if not given:
        raise UnrolledError("no file given; name at least one file or directory, or - for standard input")
    if given.count("-") > 1:
        raise UnrolledError("standard input (-) is named more than once; it can be read only once")
    return given


def _joined(level: str, pieces: list[Any]) -> str | bytes | Tokens:
    """Return a text of its pieces."""
    if LEVELS[level].takes is np.ndarray:
        return np.concatenate(pieces) if pieces else np.empty(0, np.int32)
    return b"".join(pieces) if LEVELS[level].takes is bytes else "".join(pieces)


def of_documents(texts: Sequence[str], level: str, documents: str = "files") -> Corpus:
    r"""Return a list of texts as the documents of one text, each as it is; with "lines", each of their lines.

    Examples
    --------
    >>> corpus = of_documents(["one", "two\n", "three"], "char")
    >>> corpus.text, corpus.documents.tolist(), corpus.notes
    ('one\ntwo\nthree', [3, 7], ('3 documents, kept apart',))
    >>> of_documents(["one\ntwo"], "char", "lines").text
    '\none\ntwo\n'
    """
    check_level(level)
    several = check_a("texts", texts, (tuple, list), "a list of texts")
    texts = [check_a(f"texts[{n}]", text, str, "a text") for n, text in enumerate(several)]
    chosen = Reading(documents=documents)
    chosen.check_level(level)
    cleaner = Cleaner(level, keep_gutenberg=True, documents=documents)
    parts = (part for text in texts for part in cleaner.parts([text], "the texts"))
    pieces = list(cleaner.joined((True, piece) for part in parts for piece in part))
    text = "".join(pieces)
    if not text.strip("\n"):
        raise UnrolledError("the texts are empty")
    return Corpus(
        text, level, "text", len(texts), tuple(cleaner.notes()), (), {"documents": chosen.documents}, _places(pieces)
    )


def _places(pieces: Iterable[str]) -> Tokens:
    """Where the marks among pieces of a text are."""
    place, found = 0, array("q")
    for piece in pieces:
        if piece is MARK:
            found.append(place)
        place += len(piece)
    return np.frombuffer(found, np.int64) if found else np.empty(0, np.int64)


def _array(paths: Sequence[str]) -> list[Source]:
    """The one .npy file that is named."""
    if len(paths) > 1:
        raise UnrolledError(f"{len(paths)} files of tokens are named; expected one .npy file")
    if paths[0] == "-" or os.path.isdir(paths[0]) or is_pipe(paths[0]):
        raise UnrolledError(f"{shown(paths[0])}: --level tokens takes a .npy file of integers")
    return [Source(shown(paths[0]), paths[0])]


def _digest(found: Sequence[Source]) -> str:
    """SHA-256 of files, as they lie on the disk."""
    digest = hashlib.sha256()
    for source in found:
        digest.update(source.digest())
    return digest.hexdigest()
