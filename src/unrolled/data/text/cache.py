"""Tokens and vocabularies of texts that are larger than the memory, made once and kept on the disk.

| file | what is in it |
|---|---|
| `NAME.vocabulary.json` | the vocabulary that a text gives with these options |
| `NAME.tokens.json` | what the arrays beside it hold, and what was cleaned when they were made |
| `NAME.tokens.npy` | tokens (N,), of the smallest type of integers; mapped, never read whole |
| `NAME.documents.npy` | where documents begin (D - 1,), if they are kept apart |

Each is written beside and renamed. Each description ends in a SHA-256 of itself and names those of the text, of the
vocabulary and of the arrays. All of them are compared at every start; what doesn't agree is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ... import storage
from ...checks import check_a
from ...errors import UnrolledError, brief, count
from ..batches import Tokens
from . import arrays
from .cleaning import MARK
from .corpus import Corpus, Stream
from .files import HINT, cannot_keep, shown
from .files import cache_folder as folder
from .vocabulary import Vocabulary

FORMAT = 2
"""Version of these files; those of another one are made again."""

LARGEST_DESCRIPTION = 1 << 28
"""Bytes of a description, at most."""


@dataclass(frozen=True)
class Encoded:
    """A text as a network sees it.

    Attributes
    ----------
    tokens : (N,) integers, memory-mapped where the text is large
    documents : places of the newlines before each document but the first, (D - 1,); None if they aren't kept apart
    notes : what was read, cleaned and kept
    """

    tokens: Tokens
    documents: Tokens | None
    notes: tuple[str, ...]


def vocabulary_of(corpus: Corpus, **options: Any) -> Vocabulary:
    """Vocabulary of a corpus, as `Vocabulary.of` makes it with these options."""
    check_a("corpus", corpus, Corpus, "a Corpus, such as read gives")
    if not isinstance(corpus.text, Stream):
        return Vocabulary.of(corpus.text, corpus.level, **options)
    slot = _slot(corpus, "vocabulary", options)
    with suppress(_Stale, UnrolledError):  # if the text is another one, that is said of its tokens
        return Vocabulary.from_json(_read(slot, {"text": corpus.text.digest}).get("vocabulary"))
    made = Vocabulary.of(corpus.pieces(), corpus.level, **options)
    _write(slot, {"text": corpus.text.digest, "vocabulary": made.to_json()})
    return made


def encode(corpus: Corpus, vocabulary: Vocabulary) -> Encoded:
    """Tokens of a corpus; of a large one those that were kept, or new ones, which then are.

    Raises
    ------
    UnrolledError
        If the text has symbols that the vocabulary doesn't know, or the tokens can't be kept.
    """
    check_a("corpus", corpus, Corpus, "a Corpus, such as read gives")
    check_a("vocabulary", vocabulary, Vocabulary, "a Vocabulary")
    if isinstance(corpus.text, Stream):
        return _kept(corpus, corpus.text, vocabulary)
    if corpus.documents is None:
        return Encoded(vocabulary.encode(corpus.text), None, corpus.notes)
    marks = array("q")
    parts = _noted(_encoded(corpus.pieces(), vocabulary), marks)
    return Encoded(np.concatenate([np.empty(0, np.int32), *parts]), np.array(marks, np.int64), corpus.notes)


def _encoded(pieces: Iterable[Any], vocabulary: Vocabulary) -> Iterator[tuple[Tokens, bool]]:
    """Tokens of pieces, and whether a document begins with them."""
    return ((vocabulary.encode(piece), piece is MARK) for piece in vocabulary.cut(pieces))


def _noted(parts: Iterable[tuple[Tokens, bool]], marks: array[int]) -> Iterator[Tokens]:
    """Pass tokens on, and note in `marks` where documents begin."""
    place = 0
    for tokens, begins in parts:
        if begins:
            marks.append(place)
        place += len(tokens)
        yield tokens


# --- what is kept -----------------------------------------------------------------------------------------------------


class _Stale(Exception):
    """A refusal to use what was kept; the message says why, and is empty where nothing was kept."""


def _slot(corpus: Corpus, kind: str, options: Mapping[str, Any]) -> Path:
    """Where something of a corpus is kept: named after the corpus, its files and the options."""
    about = [list(map(os.path.abspath, corpus.paths)), dict(corpus.how), corpus.level, dict(options)]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    name = corpus.name.encode("utf-8", "replace")[:100].decode("utf-8", "ignore")  # names have at most 255 bytes
    return folder() / f"{name}-{key}.{kind}.json"


def _kept(corpus: Corpus, text: Stream, vocabulary: Vocabulary) -> Encoded:
    """Tokens of a text that is too large for the memory."""
    options = {name: vocabulary.options[name] for name in ("lower", "words")}
    slot = _slot(corpus, "tokens", options | {"size": len(vocabulary)})
    _remove_leftovers(slot.parent)
    expected = {"text": text.digest, "vocabulary": _digest(vocabulary.to_json())}
    try:
        tokens, documents, cleaned = _found(slot, expected)
        stale, said = "", "used again"
    except _Stale as why:
        stale = f"what was kept of this text is not used: {why}" if str(why) else ""
        tokens, documents, cleaned = _made(slot, expected, text, vocabulary)
        said = "kept for the next time"
    if documents is None and corpus.how.get("documents", "none") != "none":
        documents = np.empty(0, np.int64)
    size = count(len(tokens), vocabulary.unit)
    notes = [*corpus.notes, *cleaned, stale, f"{size} in {shown(_beside(slot, 'tokens'))}, {said}"]
    return Encoded(tokens, documents, tuple(filter(None, notes)))


def _found(slot: Path, expected: Mapping[str, str]) -> tuple[Tokens, Tokens | None, list[str]]:
    """Read the tokens, the documents and the notes that were kept, if all of that is what it is said to be."""
    content = _read(slot, expected)
    notes, entries = content.get("notes"), [content.get(name) for name in ("tokens", "documents")]
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes) or entries[0] is None:
        raise _Stale(f"{shown(slot)} is damaged")
    tokens = _mapped(_beside(slot, "tokens"), entries[0])
    return tokens, None if entries[1] is None else _mapped(_beside(slot, "documents"), entries[1]), notes


def _made(
    slot: Path, expected: Mapping[str, str], text: Stream, vocabulary: Vocabulary
) -> tuple[Tokens, Tokens | None, list[str]]:
    """Make the tokens, the documents and the notes of a text, and keep them."""
    cleaner, marks = text.cleaner(), array("q")
    parts = _noted(_encoded(text.pieces(cleaner), vocabulary), marks)
    tokens, entry = _write_array(_beside(slot, "tokens"), parts, np.min_scalar_type(len(vocabulary) - 1))
    content: dict[str, Any] = {"tokens": entry, "documents": None, "notes": cleaner.notes()}
    documents = None
    if marks:
        places = [np.array(marks, np.int64)]
        documents, content["documents"] = _write_array(_beside(slot, "documents"), places, np.dtype("<i8"))
    _write(slot, {**expected, **content})
    return tokens, documents, content["notes"]


def _beside(slot: Path, name: str) -> Path:
    """An array's file beside the description."""
    return slot.with_name(slot.name.removesuffix("tokens.json") + f"{name}.npy")


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that was kept; whatever else is in its place is as good as none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _Stale(f"{shown(path)} is no file")
        with open(path, "rb") as file:
            yield file
    except OSError:
        raise _Stale(f"{shown(path)} is damaged") from None


def _read(path: Path, expected: Mapping[str, str]) -> dict[str, Any]:
    """Content of a description, if it is whole and of what is expected."""
    if not os.path.lexists(path):
        raise _Stale("")
    with _opened(path) as file:
        data = file.read(LARGEST_DESCRIPTION)
    try:
        content = json.loads(data)
        whole = isinstance(content, dict) and content.pop("sha256") == _digest(content)
    except (ValueError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise _Stale(f"{shown(path)} is damaged")
    if (version := content.get("format")) != FORMAT:
        raise _Stale(f"it was made by another version (format {brief(version)}, now {FORMAT})")
    for name, value in expected.items():
        if content.get(name) != value:
            raise _Stale(f"the {name} is another one now")
    return dict(content)


def _mapped(path: Path, entry: object) -> Tokens:
    """An array, memory-mapped, if it is what its description says."""
    with _opened(path) as file:
        try:
            found = arrays.layout(file, shown(path))
        except UnrolledError:
            raise _Stale(f"{shown(path)} is damaged") from None
        tokens = _map(file, found)
    if entry != {"count": found.size, "dtype": found.dtype.str, "sha256": _hash(tokens)}:
        raise _Stale(f"{shown(path)} is damaged")
    return tokens


def _map(file: BinaryIO, found: arrays.Layout) -> Tokens:
    """Map an open file of ours. Nobody writes into one: a new one takes its place, and the old one stays mapped."""
    if not found.size:  # the system maps no empty file
        return np.empty(0, found.dtype)
    return np.memmap(file, found.dtype, "r", found.offset, (found.size,))


def _hash(values: Tokens) -> str:
    digest = hashlib.sha256()
    for k in range(0, len(values), 1 << 22):
        digest.update(np.ascontiguousarray(values[k : k + (1 << 22)]).data)
    return digest.hexdigest()


def _write(path: Path, content: Mapping[str, Any]) -> None:
    content = {"format": FORMAT} | dict(content)
    with _replaced(path) as file:
        file.write(json.dumps(content | {"sha256": _digest(content)}).encode())


def _write_array(path: Path, parts: Iterable[Tokens], dtype: np.dtype[Any]) -> tuple[Tokens, dict[str, Any]]:
    """Write tokens that come in parts to a .npy file; return them, mapped, and their description."""
    digest, size = hashlib.sha256(), 0
    with _replaced(path) as file:
        _header(file, dtype, 0)
        offset = file.tell()
        for part in parts:
            data = part.astype(dtype).tobytes()
            digest.update(data)
            file.write(data)
            size += len(part)
        file.seek(0)
        _header(file, dtype, size)  # NumPy leaves room in it for any length
        file.flush()
        tokens = _map(file, arrays.Layout(dtype, size, offset))
    return tokens, {"count": size, "dtype": dtype.str, "sha256": digest.hexdigest()}


def _header(file: BinaryIO, dtype: np.dtype[Any], size: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": (size,)})


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of an old one once it is whole; what is no file there is put aside."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not path.is_file():
            path.rename(path.with_name(f"{path.name[:120]}.{os.urandom(4).hex()}.aside"))
    except OSError as error:
        raise cannot_keep(error) from None
    with storage.replaced(path, HINT) as file:
        yield file


def _remove_leftovers(kept: Path) -> None:
    """Remove what killed processes were writing, of whatever text."""
    begun = re.compile(r"(.+-[0-9a-f]{16}\..+)\.unrolled-[0-9a-f]{16}\.part")
    with suppress(OSError):
        names = [match[1] for match in map(begun.fullmatch, os.listdir(kept)) if match]
        storage.remove_leftovers(kept / name for name in set(names))
