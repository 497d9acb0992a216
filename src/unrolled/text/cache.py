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
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..batches import Tokens
from ..errors import UnrolledError
from .pieces import Mark, whole_words
from .reading import NO_ARRAY, Corpus, Stream, shown
from .vocabulary import Vocabulary
from .words import UNITS, count

FORMAT = 1
"""Version of these files; those of another one are made again."""


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


def folder() -> Path:
    """Return where large texts' tokens are kept: UNROLLED_CACHE, else `unrolled` in the user's folder for caches."""
    if given := os.environ.get("UNROLLED_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "unrolled")


def vocabulary_of(corpus: Corpus, **options: Any) -> Vocabulary:
    """Vocabulary of a corpus, as `Vocabulary.of` makes it with these options."""
    if not isinstance(corpus.text, Stream):
        return Vocabulary.of(corpus.text, corpus.level, **options)
    slot = _slot(corpus, "vocabulary", options)
    with suppress(_Stale):  # if the text is another one, that is said of its tokens
        return Vocabulary.from_json(_read(slot, {"text": corpus.text.digest})["vocabulary"])
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
    if isinstance(corpus.text, Stream):
        return _kept(corpus, corpus.text, vocabulary)
    if corpus.documents is None:
        return Encoded(vocabulary.encode(corpus.text), None, corpus.notes)
    marks = array("q")
    parts = _noted(_encoded(corpus.pieces(), vocabulary), marks)
    return Encoded(np.concatenate([np.empty(0, np.int32), *parts]), np.array(marks, np.int64), corpus.notes)


def _encoded(pieces: Iterable[Any], vocabulary: Vocabulary) -> Iterator[tuple[Tokens, bool]]:
    """Tokens of pieces, and whether a document begins with them."""
    if vocabulary.level in ("word", "bpe"):
        pieces = whole_words(pieces)
    return ((vocabulary.encode(piece), isinstance(piece, Mark)) for piece in pieces)


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
    """What was kept can't be used; the message says why, and is empty where nothing was kept."""


def _slot(corpus: Corpus, kind: str, options: Mapping[str, Any]) -> Path:
    """Where something of a corpus is kept: named after the corpus, its files and the options."""
    about = [list(map(os.path.abspath, corpus.paths)), dict(corpus.how), corpus.level, dict(options)]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return folder() / f"{corpus.name[:100]}-{key}.{kind}.json"


def _kept(corpus: Corpus, text: Stream, vocabulary: Vocabulary) -> Encoded:
    """Tokens of a text that is too large for the memory."""
    options = {"lower": vocabulary.lower, "words": vocabulary.words, "size": len(vocabulary)}
    slot = _slot(corpus, "tokens", options)
    expected = {"text": text.digest, "vocabulary": _digest(vocabulary.to_json())}
    stale = ""
    try:
        content = _read(slot, expected)
        tokens, documents = (_mapped(_beside(slot, name), content[name]) for name in ("tokens", "documents"))
        said = "used again"
    except _Stale as why:
        stale = f"what was kept of this text is not used: {why}" if str(why) else ""
        cleaner, marks = text.cleaner(), array("q")
        parts = _noted(_encoded(text.pieces(cleaner), vocabulary), marks)
        dtype = np.min_scalar_type(len(vocabulary) - 1)
        content = expected | {"tokens": _write_array(_beside(slot, "tokens"), parts, dtype)}
        of = _write_array(_beside(slot, "documents"), [np.array(marks, np.int64)], np.dtype("<i8")) if marks else None
        content |= {"documents": of, "notes": cleaner.notes()}
        _write(slot, content)
        tokens, documents = (_mapped(_beside(slot, name), content[name]) for name in ("tokens", "documents"))
        said = "kept for the next time"
    assert tokens is not None
    if documents is None and corpus.how.get("documents"):
        documents = np.empty(0, np.int64)
    size = count(len(tokens), UNITS[corpus.level])
    notes = [*corpus.notes, *content["notes"], stale, f"{size} in {shown(_beside(slot, 'tokens'))}, {said}"]
    return Encoded(tokens, documents, tuple(filter(None, notes)))


def _beside(slot: Path, name: str) -> Path:
    """An array's file beside the description."""
    return slot.with_name(slot.name.removesuffix("tokens.json") + f"{name}.npy")


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path, expected: Mapping[str, str]) -> dict[str, Any]:
    """Content of a description, if it is whole and of what is expected."""
    try:
        content = json.loads(path.read_bytes())
        whole = content.pop("sha256") == _digest(content)
    except FileNotFoundError:
        raise _Stale("") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise _Stale(f"{shown(path)} is damaged")
    if content["format"] != FORMAT:
        raise _Stale(f"it was made by another version (format {content['format']!r}, now {FORMAT})")
    for name, value in expected.items():
        if content[name] != value:
            raise _Stale(f"the {name} is another one now")
    return dict(content)


def _mapped(path: Path, entry: Mapping[str, Any] | None) -> Tokens | None:
    """An array, memory-mapped, if it is what its description says."""
    if entry is None:
        return None
    try:
        array_: Tokens = np.load(path, mmap_mode="r", allow_pickle=False)
        found = {"count": array_.size, "dtype": array_.dtype.str, "sha256": _hash(array_)}
    except (*NO_ARRAY, AttributeError):
        found = {}
    if found != entry or array_.ndim != 1:
        raise _Stale(f"{shown(path)} is damaged")
    return array_


def _hash(values: Tokens) -> str:
    digest = hashlib.sha256()
    for k in range(0, len(values), 1 << 22):
        digest.update(np.ascontiguousarray(values[k : k + (1 << 22)]).data)
    return digest.hexdigest()


def _write(path: Path, content: Mapping[str, Any]) -> None:
    content = {"format": FORMAT} | dict(content)
    with _replaced(path) as file:
        file.write(json.dumps(content | {"sha256": _digest(content)}).encode())


def _write_array(path: Path, parts: Iterable[Tokens], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Write tokens that come in parts to a .npy file; returns its description."""
    digest, size = hashlib.sha256(), 0
    with _replaced(path) as file:
        _header(file, dtype, 0)
        for part in parts:
            data = part.astype(dtype).tobytes()
            digest.update(data)
            file.write(data)
            size += len(part)
        file.seek(0)
        _header(file, dtype, size)  # NumPy leaves room in it for any length
    return {"count": size, "dtype": dtype.str, "sha256": digest.hexdigest()}


def _header(file: BinaryIO, dtype: np.dtype[Any], size: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": (size,)})


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of an old one once it is whole."""
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise UnrolledError(
            f"can't keep the tokens of a large text in {shown(path.parent)}: {error.strerror or error}; "
            "UNROLLED_CACHE names another folder"
        ) from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
