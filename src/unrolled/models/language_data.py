"""What a language model learns from: texts of files and of memory, those held out, and a vocabulary of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.batches import Tokens, as_tokens
from ..data.split import check_apart, split
from ..data.text import (
    Corpus,
    Encoded,
    Reading,
    Vocabulary,
    default_corpus,
    of_documents,
    read,
    recorded,
    vocabulary_of,
)
from ..data.text.entropy import MOST_DENSE
from ..data.text.files import check_again
from ..data.text.vocabulary import no_halves
from ..errors import UnrolledError, brief, check_path
from .options import Options

Source = str | bytes | Tokens | Corpus | os.PathLike[str] | Sequence[os.PathLike[str]] | Sequence[str] | None
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None


def read_again(folder: Path, text: Mapping[str, Any], source: Source, level: str) -> Corpus:
    """Read the text of a run once more, or take it as it is given."""
    how = recorded(text["how"])
    if source is None and text["files"]:
        check_again(text["files"], f"the text of {folder}", "give it again: name the file or -")
        return read(text["files"], level, stream=True, **how)
    if source is None and text["name"] != "stdlib":
        raise UnrolledError(f"the text of {folder} was no file; give it again")
    return read_source(source, level, **how)


def read_held(corpus: Corpus, val: Paths, test: Paths, level: str) -> dict[str, Corpus]:
    """Read the files to validate and to test on, where some are named; nothing may be read twice."""
    named = {"val": _several(val), "test": _several(test)}
    check_apart({"train": corpus.paths, **named})
    return {name: read(paths, level, stream=True, **corpus.how) for name, paths in named.items() if paths}


def _several(paths: Paths) -> list[str]:
    """Return one path or several as a list."""
    several: Any = paths if isinstance(paths, (list, tuple, Iterator)) else [] if paths is None else [paths]
    return [check_path("a file to read", path) for path in several if not (isinstance(path, str) and not path)]


def vocabulary_for(corpus: Corpus, held: Sequence[Corpus], options: Options, known: Vocabulary | None) -> Vocabulary:
    """Vocabulary of a text; of characters with those held out, and grown from that of the model to start from."""
    if known is not None and known.complete:  # it can write any text already
        return known
    given = {name: getattr(options, name) for name in ("min_count", "max_symbols", "lower", "words")}
    vocabulary = vocabulary_of(corpus, **given).with_held_out(vocabulary_of(part, **given) for part in held)
    return vocabulary if known is None else known.grown(vocabulary)


def for_bigrams(tokens: Tokens, size: int) -> tuple[Tokens, tuple[str, ...]]:
    """Tokens to take the entropy of bigrams of: the first ones where all pairs could fill the memory; and a note."""
    most = 1 << 23
    if not isinstance(tokens, np.memmap) or len(tokens) <= most or size <= MOST_DENSE:
        return tokens, ()
    return tokens[:most], (f"the entropy of bigrams is that of the first {most:,} tokens",)


def split_text(text: Encoded, val_fraction: float, test_fraction: float) -> tuple[Encoded, Encoded, Encoded]:
    """Cut a text and its documents into (train, val, test)."""
    parts, begin = [], 0
    for tokens in split(text.tokens, val_fraction, test_fraction):
        documents, end = text.documents, begin + len(tokens)
        if documents is not None:
            first, last = np.searchsorted(documents, [begin, end])
            documents = documents[first:last] - begin
        parts.append(Encoded(tokens, documents, ()))
        begin = end
    train, val, test = parts
    return train, val, test


def check_how(source: Any, how: Mapping[str, Any]) -> None:
    """Refuse options of reading where nothing is read; but for `documents`, which a text has too."""
    usual = Reading()
    how = {name: value.item() if isinstance(value, np.generic) else value for name, value in how.items()}
    asked = [name for name, value in how.items() if not _same(value, getattr(usual, name))]
    if isinstance(source, str) or texts_of(source):
        asked = [name for name in asked if name != "documents"]
    if asked and isinstance(source, Corpus):
        raise UnrolledError(f"{asked[0]} is about how a text is read, and this one is read already; leave it out")
    if asked and not are_files(source):
        raise UnrolledError(f"{asked[0]} is about files that are read; give them as Path, or leave {asked[0]} out")


def _same(value: Any, usual: Any) -> bool:
    """Whether an option is the usual one, a text or a flag; an array, which can't be compared, is none."""
    return isinstance(value, (str, int)) and value == usual


def read_source(source: Any, level: str, **how: Any) -> Corpus:
    """Return the text that is meant, of files or of memory; `how` is what `unrolled.data.text.read` takes."""
    if source is None:
        return default_corpus(level=level)
    if isinstance(source, Corpus):
        return source
    if isinstance(source, str) and how.get("documents", "none") != "none":
        check_no_name(source)
        return of_documents([source], level, how["documents"])
    if isinstance(source, (str, bytes)):
        text = no_halves(source).encode() if isinstance(source, str) and level == "byte" else source
        if isinstance(text, bytes) and level != "byte":
            raise UnrolledError('bytes need level="byte"')
        if not text:
            raise UnrolledError("the text is empty")
        check_no_name(source)
        return Corpus(text, level, "text")
    if are_files(source):
        return read(source, level, stream=True, **how)
    if texts := texts_of(source):
        for text in texts:
            check_no_name(text)
        return of_documents(texts, level, "lines" if how.get("documents") == "lines" else "files")
    tokens = as_tokens(source)
    if level != "tokens":
        raise UnrolledError('an array holds tokens: give level="tokens"')
    return Corpus(tokens, level, "tokens")


def as_learnt(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the options of `unrolled.data.text.read` by which a text is scored as the model has learnt others."""
    return {"documents": "lines"} if vocabulary.documents else {}


def are_files(source: Any) -> bool:
    """Return whether a text is in files: a path that is no str, or several."""
    several = source if isinstance(source, (list, tuple)) else [source]
    paths = [isinstance(file, os.PathLike) for file in several]
    if any(paths) and not all(paths):
        raise UnrolledError(f"the text is {brief(source)}; expected all files (Path) or all texts")
    return any(paths)


def texts_of(source: Any) -> list[str]:
    """Return a sequence of texts as a list; an empty one for anything else, a text among it."""
    several = isinstance(source, Sequence) and not isinstance(source, (str, bytes))
    return list(source) if several and all(isinstance(text, str) for text in source) else []


def check_no_name(text: Any) -> None:
    """Refuse a text that is the name of a file: its content is what was meant."""
    if isinstance(text, str) and 0 < len(text) < 256 and "\0" not in text and os.path.isfile(text):
        raise UnrolledError(f"the text {text!r} is the name of a file; for what is in it give Path({text!r})")
