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
from ..data.tagged import Sentences, Tagged, alike, check_column, read_sentences, together
from ..data.text import EOS, UNK, Words
from ..declared import Declared, documented, option
from ..errors import UnrolledError, count, listed
from ..keywords import suggesting
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
    lower: bool = option(False, "Make words lower-case.", "Text")
    crf: bool = option(
        False,
        "Score whole sequences of tags: a conditional random field.",
        "Network",
        about="Score whole sequences of tags, by the transitions from one to the next: a linear-chain conditional "
        "random field instead of a softmax a word.",
        source="Lafferty et al. 2001; Lample et al. 2016",
    )


@suggesting
@documented
@dataclass(frozen=True)
class Options(ModelOptions, TaggedOptions):
    """How to build and train a tagger.

    Attributes
    ----------
    **options
    """


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
        raise UnrolledError(f"there are {count(len(tags), 'tag')}; expected 2 to {MOST:,} different ones")
    layouts = [file.layout for file in files.get("train", ())]
    return {
        "vocabulary": Words((UNK, EOS, *known), lower=options.lower),
        "tags": tags,
        "characters": characters_of(chain(*words)) if getattr(options, "character_size", 0) else "",
        "crf": options.crf,
        "column": options.column,
        "columns": layouts[0].columns if layouts and layouts[0] else 0,
    }


def unseen(parts: Mapping[str, Tagged]) -> list[str]:
    """Return what is to be said of tags that no sentence to train on has."""
    known = {tag for row in parts["train"].tags for tag in row}
    found = {name: {tag for row in part.tags for tag in row} - known for name, part in parts.items()}
    return [
        f"{count(len(odd), 'tag')} of the part to {name} can't be learnt, no sentence to train on has them: "
        f"{listed(sorted(odd), 4)}"
        for name, odd in found.items()
        if odd
    ]
