"""What a tagger learns from: its options, sentences as its run reads them, and how they become numbers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..checks import check_size
from ..data.spelled import characters_of
from ..data.split import USES
from ..data.tables import is_writable
from ..data.tagged import Sentences, Tagged, alike, check_column, read_sentences, together
from ..data.text import EOS, UNK, Words
from ..declared import Declared, again, documented, option
from ..errors import UnrolledError, brief, count, listed
from ..keywords import suggesting
from ..nn.options import NetworkOptions, SpellingOptions
from ..schema import each, text
from ..training.options import TrainingOptions
from .options import ModelOptions

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
MOST = 10_000
"""Different tags at most: what is more is no set of classes."""


@dataclass(frozen=True)
class TaggedOptions(Declared):
    """Options of tagged sentences, and of the words that are known of them."""

    column: str | None = option(
        None,
        "Column of the tags: upos, xpos, ner, ..., or its number.",
        "Data",
        check_column,
        unset="upos of CoNLL-U, the last one of other files",
        about="Which column is learnt: of CoNLL-U `upos`, `xpos`, `feats` or `deprel`; of other columns `pos`, `chunk` "
        "or `ner`, as CoNLL-2000 and 2003 have them, or a name in the first line; of any file a number, from 1.",
    )
    min_count: int = option(2, "Occurrences that a word needs to be listed.", "Text", check_size)
    lower: bool = option(
        True,
        "Make words lower-case.",
        "Text",
        about="Whether a word is listed, and looked up, in lower case; its spelling stays as it is.",
    )
    spelling: bool = option(
        True,
        "Read the characters of words too.",
        "Words",
        about="Whether words are also read by their characters, so that an unlisted one is known by its spelling.",
    )
    crf: bool = option(
        False,
        "Score whole sequences of tags: a conditional random field.",
        "Head",
        about="Score whole sequences of tags, by the transitions from one to the next: a linear-chain conditional "
        "random field instead of a softmax a word.",
        source="Lafferty et al. 2001; Lample et al. 2016",
    )


@suggesting
@documented
@dataclass(frozen=True)
class Options(ModelOptions, SpellingOptions, TaggedOptions):
    """How to build and train a tagger.

    Attributes
    ----------
    **options
    """

    # chosen on English words and their parts of speech (docs/results.md)
    embedding_size: int = again(NetworkOptions, "embedding_size", 100)
    hidden_size: int | tuple[int, ...] = again(NetworkOptions, "hidden_size", 128)
    num_layers: int = again(NetworkOptions, "num_layers", 1)
    bidirectional: bool = again(NetworkOptions, "bidirectional", True, help="Read backwards too.")
    characters_embedding_size: int = again(SpellingOptions, "characters_embedding_size", 50)
    characters_hidden_size: int = again(SpellingOptions, "characters_hidden_size", 50)
    input_dropout: float = again(NetworkOptions, "input_dropout", 0.4)
    dropout: float = again(NetworkOptions, "dropout", 0.4)
    word_dropout: float = again(SpellingOptions, "word_dropout", 0.1)
    init: str = again(NetworkOptions, "init", "uniform:0.1")
    batch_size: int = again(TrainingOptions, "batch_size", 32, help="Sentences a step.")
    epochs: float = again(TrainingOptions, "epochs", 12.0, help="Passes over the training part.")
    learning_rate: float | None = again(TrainingOptions, "learning_rate", 0.005, unset="")
    schedule: str = again(TrainingOptions, "schedule", "cosine")


def read(sources: Mapping[str, Any], options: Options) -> tuple[dict[str, list[Sentences]], dict[str, Tagged]]:
    """Return the files of each part, and its sentences; what is held out is taken from the end of the others."""
    files, parts = dict[str, list[Sentences]](), dict[str, Tagged]()
    for name, source in sources.items():
        if isinstance(source, Tagged):
            source.checked()
            parts[name] = source
        else:
            files[name] = read_sentences(source, options.column)
            parts[name] = together(files[name], options.column)
    alike(list(chain(*files.values())))
    total = len(parts["train"].words)
    for name, share in (("test", options.test_fraction), ("val", options.val_fraction)):
        if name not in parts and (kept := min(round(share * total), len(parts["train"].words) - 1)):
            parts[name] = Tagged(*(rows[-kept:] for rows in parts["train"]))
            parts["train"] = Tagged(*(rows[:-kept] for rows in parts["train"]))
    return files, parts


def codec_of(parts: Mapping[str, Tagged], files: Mapping[str, list[Sentences]], options: Options) -> dict[str, Any]:
    """Return the words that occur often enough, by falling frequency, their characters, and all tags."""
    words = parts["train"].words
    counts = Counter(word.lower() if options.lower else word for row in words for word in row)
    known = [word for word, n in counts.most_common() if n >= options.min_count and word not in (UNK, EOS)]
    tags = sorted({tag for part in parts.values() for row in part.tags for tag in row})
    if len(tags) < 2 or len(tags) > MOST:
        said = f"{count(len(tags), 'different tag')}: {listed(tags, 3)}"
        raise UnrolledError(f"the words to learn from have {said}; expected 2 to {MOST:,}")
    if odd := [tag for tag in tags if not tag.strip() or set(tag) & set("\t\r\n") or not is_writable(tag)]:
        raise UnrolledError(f"a tag is {brief(odd[0])}, which no file could hold in a column; write it otherwise")
    layouts = [file.layout for file in files.get("train", ())]
    return {
        "vocabulary": Words((UNK, EOS, *known), lower=options.lower),
        "tags": tags,
        "characters": characters_of(chain(*words)) if options.spelling else "",
        "crf": options.crf,
        "column": options.column,
        "columns": layouts[0].columns if layouts and layouts[0] else 0,
    }


def unseen(parts: Mapping[str, Tagged]) -> list[str]:
    """Return what is to be said of tags that no sentence to train on has."""
    known = {tag for row in parts["train"].tags for tag in row}
    found = {name: {tag for row in part.tags for tag in row} - known for name, part in parts.items()}
    return [
        f"{count(len(odd), 'tag')} of the part to {USES[name]} can't be learnt, no sentence to train on has them: "
        f"{listed(sorted(odd), 4)}"
        for name, odd in found.items()
        if odd
    ]


def words_of(name: str, value: Any) -> Words:
    """Return the words that a file lists, or say what is wrong with them."""
    vocabulary = Words.from_json(value)
    if not isinstance(vocabulary, Words):
        raise UnrolledError(f"{name} is of another level; a tagger reads words")
    return vocabulary


def tags_of(name: str, value: Any) -> list[str]:
    """Return the tags that a file lists, or say what is wrong with them."""
    found: list[str] = each(text(), most=MOST)(name, value)
    if len(set(found)) != len(found) or not all(found):
        raise UnrolledError(f"{name} names a tag twice, or none; expected different tags")
    return found
