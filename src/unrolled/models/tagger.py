"""A tagger: a network that gives every word of a sentence a tag, such as its part of speech."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends import choose
from ..checks import Array, check_a, check_size
from ..data.padded import Padded
from ..data.tagged import Tagged, check_column, read_tagged
from ..data.text import EOS, UNK, Words
from ..declared import Declared, documented, keywords, option
from ..errors import UnrolledError, brief, check_path, count
from ..keywords import named, suggesting
from ..nn.heads import LANGUAGE
from ..nn.network import Network
from ..schema import each, text
from ..training import checkpoints
from ..training.callbacks import Callback
from ..training.trainer import Metrics
from .of_data import Material, OfData
from .options import ModelOptions

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class TaggedOptions(Declared):
    """Options of tagged sentences, and of the words that are known of them."""

    column: str | None = option(
        None,
        "Column of the tags: upos, xpos, ner, ..., or its number.",
        "Text",
        check_column,
        unset="upos of CoNLL-U, the last one of other files",
        about="Which column is learnt: of CoNLL-U `upos`, `xpos`, `feats` or `deprel`; of other columns `pos`, `chunk` "
        "or `ner`, as CoNLL-2000 and 2003 have them, or a name in the first line; of any file a number, from 1.",
    )
    min_count: int = option(2, "Occurrences that a word needs to be listed.", "Text", check_size)
    lower: bool = option(False, "Make words lower-case.", "Text")


@suggesting
@documented
@dataclass(frozen=True)
class Options(ModelOptions, TaggedOptions):
    """How to build and train a tagger.

    Attributes
    ----------
    **options
    """


class Tagger(OfData):
    """A network that gives every word of a sentence a tag, with the words and tags that it knows.

    Attributes
    ----------
    network : Network
    vocabulary : Words
        A word that is not listed is read as UNK.
    tags : tuple of str
    """

    kind = "tagger"
    decides = "accuracy"

    def __init__(self, network: Network, vocabulary: Words, tags: Sequence[str]) -> None:
        super().__init__(check_a("network", network, Network, "a Network"))
        self.vocabulary = check_a("vocabulary", vocabulary, Words, "a vocabulary of Words")
        self.tags = tuple(tags)
        sizes = network.spec.vocabulary_size, network.head.outputs
        if (len(vocabulary), len(set(self.tags))) != sizes:
            said = f"{len(vocabulary):,} words and {len(set(self.tags)):,} distinct tags"
            raise UnrolledError(
                f"the tagger has {said}, its network {sizes[0]:,} and {sizes[1]:,}; they must be as many"
            )

    def __repr__(self) -> str:
        spec = self.spec
        sizes = f"{count(len(self.vocabulary), 'word')}, {count(len(self.tags), 'tag')}"
        return f"Tagger({spec.cell}, {spec.num_layers} x {spec.hidden_size}, {sizes})"

    @classmethod
    @named(keywords(Options))
    def train(
        cls,
        source: Paths | Tagged,
        *,
        val: Paths | Tagged | None = None,
        test: Paths | Tagged | None = None,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str = "auto",
        **asked: Any,
    ) -> Tagger:
        """Train a tagger on sentences, or files of them (see `read_tagged`); else as `LanguageModel.train`."""
        how: Any = {"out": out, "overwrite": overwrite, "callbacks": callbacks, "verbose": verbose}
        return cls._train(source, val, test, asked, backend=backend, **how)

    @classmethod
    def resume(
        cls,
        folder: str | os.PathLike[str],
        source: Paths | Tagged | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str | None = None,
        **anew: Any,
    ) -> Tagger:
        """Go on with a run, to the same bits as if it had never stopped; as `LanguageModel.resume`."""
        return cls._resume(folder, source, anew, backend=backend, callbacks=callbacks, verbose=verbose)

    @classmethod
    def material(cls, sources: Mapping[str, Any], options: Options, codec: Mapping[str, Any] | None) -> Material:
        """Read sentences; words and tags are those of the part to train on."""
        read = {name: _read(source, options) for name, source in sources.items()}
        parts = {name: found for name, (found, _) in read.items()}
        total = len(parts["train"].words)
        for name, share in (("test", options.test_fraction), ("val", options.val_fraction)):
            if name not in parts and (kept := min(round(share * total), len(parts["train"].words) - 1)):
                parts[name] = Tagged(*(rows[-kept:] for rows in parts["train"]))
                parts["train"] = Tagged(*(rows[:-kept] for rows in parts["train"]))
        vocabulary, tags = _known(parts["train"], options) if codec is None else (codec["vocabulary"], codec["tags"])
        batches = {name: _batches(part, vocabulary, tags, options, name) for name, part in parts.items()}
        return Material(
            parts=batches,
            codec={"vocabulary": vocabulary, "tags": tags},
            digest=[a for part in batches.values() for a in (*part.x, *part.y)],
            paths={name: paths for name, (_, paths) in read.items()},
            name="sentences",
            unit="tag",
            row="sentence",
            size=count(int(sum(part.targets for part in batches.values())), "word"),
            about=(
                ("sentences", ", ".join(f"{len(part.words):,} to {name}" for name, part in parts.items())),
                ("words", f"{len(vocabulary):,} listed, {len(tags)} tags"),
            ),
        )

    # --- what people do with it

    def tag(self, sentence: str | Sequence[str]) -> list[tuple[str, str]]:
        """Return each word of a sentence with its tag; a str is cut at blanks."""
        words = sentence.split() if isinstance(sentence, str) else sentence
        if not isinstance(words, Sequence) or not all(isinstance(word, str) and word for word in words):
            raise UnrolledError(f"the sentence is {brief(sentence)}; expected words")
        if not words:
            return []
        logits, _ = self.network(_ids(self.vocabulary, words)[:, None])
        return [(word, self.tags[k]) for word, k in zip(words, logits[:, 0].argmax(axis=-1), strict=True)]

    # --- what the loop asks of it

    def evaluate(self, batches: Any) -> Metrics:
        """Return the loss, nats a word, and the share of words whose tag is right."""
        loss = right = 0.0
        for batch in (batches[k] for k in range(len(batches))):
            logits, _ = self.network(batch.x, lengths=batch.lengths)
            nats, _ = self.network.head.loss(choose(self.backend), logits, batch.y, batch.weights, gradient=False)
            loss += nats * batch.targets
            right += float(((logits.argmax(axis=-1) == batch.y) * batch.weights).sum())
        return {"loss": loss / batches.targets, "accuracy": right / batches.targets}

    def preview(self, rng: np.random.Generator, length: int) -> str:
        """Return listed words with their tags."""
        listed = self.vocabulary.symbols[2:] or (UNK,)
        words = [listed[k] for k in rng.integers(len(listed), size=min(length, 8))]
        return " ".join(f"{word}/{tag}" for word, tag in self.tag(words))

    def codec(self) -> dict[str, Any]:
        """Return how words and tags become numbers, as JSON."""
        return {"vocabulary": self.vocabulary.to_json(), "tags": list(self.tags)}


def _words(name: str, value: Any) -> Words:
    vocabulary = Words.from_json(value)
    if not isinstance(vocabulary, Words):
        raise UnrolledError(f"{name} is of another level; a tagger reads words")
    return vocabulary


KIND = checkpoints.Kind(
    Tagger.kind,
    Options,
    {"vocabulary": _words, "tags": each(text(), most=10_000)},
    spec=lambda options, vocabulary, tags: options.spec(len(vocabulary)),
    head=lambda vocabulary, tags: LANGUAGE._replace(outputs=len(tags)),
    model=Tagger,
    task="tag",
    noun="a tagger",
    endings=(".conllu", ".conll"),
)
"""The contents of files of a tagger."""


def _ids(vocabulary: Words, words: Sequence[str]) -> Array:
    """Return the tokens of words; a word that is not listed is UNK, 0."""
    return np.array([vocabulary.id(word) for word in words], np.int32)


def _read(source: Any, options: Options) -> tuple[Tagged, list[str]]:
    """Return sentences, and the files that they are from."""
    if isinstance(source, Tagged):
        source.checked()
        return source, []
    several = source if isinstance(source, (list, tuple)) else [source]
    paths = [check_path("a file to read", path) for path in several]
    return read_tagged(paths, options.column), paths


def _known(part: Tagged, options: Options) -> tuple[Words, tuple[str, ...]]:
    """Return the words that occur often enough, by falling frequency, and all tags."""
    counts = Counter(word.lower() if options.lower else word for words in part.words for word in words)
    listed = [word for word, n in counts.most_common() if n >= options.min_count and word not in (UNK, EOS)]
    tags = {tag for row in part.tags for tag in row}
    return Words((UNK, EOS, *listed), lower=options.lower), tuple(sorted(tags))


def _batches(part: Tagged, vocabulary: Words, tags: Sequence[str], options: Options, name: str) -> Padded:
    """Return sentences as batches of numbers."""
    numbers = {tag: k for k, tag in enumerate(tags)}
    if odd := sorted({tag for row in part.tags for tag in row} - numbers.keys()):
        raise UnrolledError(f"a sentence to {name} has the tag {brief(odd[0])}, which no sentence to train on has")
    x = [_ids(vocabulary, words) for words in part.words]
    y = [np.array([numbers[tag] for tag in row], np.int32) for row in part.tags]
    return Padded(x, y, options.batch_size, name=f"the part to {name}")
