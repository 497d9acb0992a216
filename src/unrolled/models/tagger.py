"""A tagger: a network that gives every word of a sentence a tag, such as its part of speech."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from ..storage import Arrays, Stored
from ..training import checkpoints, metrics_log, run_folder
from ..training.callbacks import Callback, Facts, Result
from ..training.trainer import Metrics
from . import files
from .base import OfNetwork, Prepared, begin, ended, go_on
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


class Tagger(OfNetwork):
    """A network that gives every word of a sentence a tag, with the words and tags that it knows.

    Attributes
    ----------
    network : Network
    vocabulary : Words
        A word that is not listed is read as UNK.
    tags : tuple of str
    result : Result or None
        How training went, after `train`.
    """

    def __init__(self, network: Network, vocabulary: Words, tags: Sequence[str], result: Result | None = None) -> None:
        super().__init__(check_a("network", network, Network, "a Network"))
        self.vocabulary = check_a("vocabulary", vocabulary, Words, "a vocabulary of Words")
        self.tags, self.result = tuple(tags), result
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

        def prepare(chosen: Options, folder: Path | None) -> Prepared:
            return _prepared({"train": source, "val": val, "test": test}, chosen, folder, backend)

        how: Any = {"out": out, "overwrite": overwrite, "callbacks": callbacks, "verbose": verbose}
        return cls._of(*begin(KIND, prepare, asked, **how))

    @classmethod
    def resume(
        cls,
        folder: str | os.PathLike[str],
        *,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str | None = None,
        **anew: Any,
    ) -> Tagger:
        """Go on with a run, to the same bits as if it had never stopped; as `LanguageModel.resume`."""

        def prepare(chosen: Options, folder: Path, backend: str, before: checkpoints.Reopened) -> Prepared:
            found = {name: before.source[place] or None for place, name in PLACES.items()}
            if found["train"] is None:
                raise UnrolledError(f"the sentences of {folder} were no files; train a new tagger on them")
            return _prepared(found, chosen, folder, backend, before)

        return cls._of(*go_on(KIND, folder, prepare, anew, backend=backend, callbacks=callbacks, verbose=verbose))

    @classmethod
    def _of(cls, trained: Tagger, result: Result) -> Tagger:
        return ended(cls(trained.network, trained.vocabulary, trained.tags, result), result)

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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tagger to one safetensors file."""
        self.write(Path(check_path("the path of a model", path)))

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

    def write(self, path: Path, params: Arrays | None = None) -> dict[str, Stored]:
        """Write a model file."""
        return files.write(path, self.network, self.codec(), params)

    def codec(self) -> dict[str, Any]:
        """Return the kind, and how words and tags become numbers, as JSON."""
        return {"kind": KIND.name, "vocabulary": self.vocabulary.to_json(), "tags": list(self.tags)}


def _words(name: str, value: Any) -> Words:
    vocabulary = Words.from_json(value)
    if not isinstance(vocabulary, Words):
        raise UnrolledError(f"{name} is of another level; a tagger reads words")
    return vocabulary


KIND = checkpoints.Kind(
    "tagger",
    Options,
    {"vocabulary": _words, "tags": each(text(), most=10_000)},
    spec=lambda options, vocabulary, tags: options.spec(len(vocabulary)),
    head=lambda vocabulary, tags: LANGUAGE._replace(outputs=len(tags)),
    model=lambda network, vocabulary, tags: Tagger(network, vocabulary, tags),
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


def _prepared(
    sources: Mapping[str, Any],
    options: Options,
    folder: Path | None,
    backend: str,
    before: checkpoints.Reopened | None = None,
) -> Prepared:
    """Make of sentences a run from the start, or one that goes on."""
    read = {name: _read(source, options) for name, source in sources.items() if source is not None or name == "train"}
    parts = {name: found for name, (found, _) in read.items()}
    total = len(parts["train"].words)
    for name, share in (("test", options.test_fraction), ("val", options.val_fraction)):
        if name not in parts and (kept := min(round(share * total), len(parts["train"].words) - 1)):
            parts[name] = Tagged(*(rows[-kept:] for rows in parts["train"]))
            parts["train"] = Tagged(*(rows[:-kept] for rows in parts["train"]))
    vocabulary, tags = _known(parts["train"], options) if before is None else before.codec.values()
    batches = {name: _batches(part, vocabulary, tags, options, name) for name, part in parts.items()}
    rng = np.random.default_rng(options.seed)
    network = Network(options.spec(len(vocabulary)), backend=backend, rng=rng, head=KIND.head(vocabulary, tags))
    model, train = Tagger(network, vocabulary, tags), batches["train"]
    source = {
        "name": "sentences",
        **{place: run_folder.absolute(read[name][1]) if name in read else [] for place, name in PLACES.items()},
        "how": {},
        "sha256": run_folder.fingerprint(model.codec(), *(a for part in batches.values() for a in (*part.x, *part.y))),
        "symbols": int(train.targets),
    }
    if before is not None and source["sha256"] != before.source["sha256"]:
        raise UnrolledError(f"the sentences are not those that {folder} was trained on; start a new run")
    made = run_folder.made_with(network.recurrent.backend)
    again = before and run_folder.made_elsewhere(before.made_with, made) + metrics_log.set_aside(folder)
    facts = Facts(
        name="sentences",
        notes=again or (),
        unit="word",
        size=count(int(sum(part.targets for part in batches.values())), "word"),
        about=(
            ("sentences", ", ".join(f"{len(part.words):,} to {name}" for name, part in parts.items())),
            ("words", f"{len(vocabulary):,} listed, {len(tags)} tags"),
        ),
        model=model,
        options=options,
        plan=f"{count(options.batch_size, 'sentence')} a step",
        out=folder,
        step=before.step if before else 0,
    )
    return Prepared(
        facts=facts,
        train=train,
        val=batches.get("val"),
        test=batches.get("test"),
        eval_every=options.eval_every or len(train),
        rng=rng,
        codec=model.codec(),
        source=source,
        backend=backend,
        resume=before,
        made_with=made,
    )


PLACES = {"files": "train", "val": "val", "test": "test"}
"""Where a checkpoint says what each part was read from."""


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
